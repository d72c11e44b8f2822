//! Log directories and log levels over the wire. With `KLAMM_TEST_BOOTSTRAP` the same is asked of Apache Kafka.
#![expect(clippy::unwrap_used, reason = "a test")]

use kafka_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::protocol::StrBytes;
use klamm::protocol::messages::describe_log_dirs::DescribableLogDirTopic;
use klamm::protocol::messages::*;
use protocol_tests::server::{Client, Server, batch};

const NONE: i16 = 0;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_TOPIC: i16 = 17;
const INVALID_CONFIG: i16 = 40;
const INVALID_REQUEST: i16 = 42;
const LOG_DIR_NOT_FOUND: i16 = 57;

const LOGGERS: i8 = 8;

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

#[tokio::test]
async fn replicas_are_where_they_are_asked_to_be_or_the_directory_is_not_there() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = client.create_topic(2, &[]).await;
    assert_eq!(client.produce(9, &topic, 1, Some(batch(&["a", "b"]))).await.error_code, NONE);

    let asked = DescribableLogDirTopic {
        topic: topic.name.clone(),
        partitions: vec![1, 0, 9],
        ..DescribableLogDirTopic::default()
    };
    let request = DescribeLogDirsRequest { topics: Some(vec![asked]), ..DescribeLogDirsRequest::default() };
    let mut described = client.call(5, &request).await;
    assert_eq!((described.error_code, described.results.len()), (NONE, 1));
    let directory = described.results.remove(0);
    assert_eq!((directory.error_code, directory.is_cordoned), (NONE, false));
    assert!(0 < directory.usable_bytes && directory.usable_bytes < directory.total_bytes, "{directory:?}");
    let [described] = &directory.topics[..] else { panic!("one topic: {directory:?}") };
    let mut partitions = described.partitions.clone();
    partitions.sort_by_key(|partition| partition.partition_index);
    let [empty, written] = &partitions[..] else { panic!("two partitions: {partitions:?}") };
    assert_eq!((empty.partition_index, empty.partition_size, empty.offset_lag), (0, 0, 0));
    assert_eq!((written.partition_index, written.offset_lag, written.is_future_key), (1, 0, false));
    assert!(written.partition_size > 0);

    let topic_of = |name: &str, partitions: &[i32]| {
        AlterReplicaLogDirTopic::default().with_name(text(name).into()).with_partitions(partitions.to_vec())
    };
    let long = "x".repeat(230);
    let here = vec![topic_of(&topic.name, &[0, 7]), topic_of("absent", &[0]), topic_of(&long, &[0])];
    let elsewhere = vec![topic_of(&topic.name, &[1]), topic_of("absent", &[1])];
    let to = |path: &str, topics| AlterReplicaLogDir::default().with_path(text(path)).with_topics(topics);
    let request = AlterReplicaLogDirsRequest::default()
        .with_dirs(vec![to(&directory.log_dir, here), to("/nowhere", elsewhere)]);
    for version in 1..=2 {
        let answer = client.call(version, &request).await;
        let mut codes: Vec<_> = answer
            .results
            .iter()
            .flat_map(|one| {
                one.partitions.iter().map(|p| (one.topic_name.to_string(), p.partition_index, p.error_code))
            })
            .collect();
        codes.sort();
        let mut expected = vec![
            ("absent".to_owned(), 0, UNKNOWN_TOPIC_OR_PARTITION),
            ("absent".to_owned(), 1, LOG_DIR_NOT_FOUND),
            (topic.name.clone(), 0, NONE),
            (topic.name.clone(), 1, LOG_DIR_NOT_FOUND),
            (topic.name.clone(), 7, UNKNOWN_TOPIC_OR_PARTITION),
            (long.clone(), 0, INVALID_TOPIC),
        ];
        expected.sort();
        assert_eq!(codes, expected, "version {version}");
    }
    server.stop().await;
}

/// Subscribes to metrics of clients.
async fn subscribe(client: &mut Client, name: &str, values: &[(&'static str, &str)]) {
    const CLIENT_METRICS: i8 = 16;
    let set = |(key, value): &(&'static str, &str)| {
        AlterableConfig::default().with_name(text(*key)).with_value(Some(text(*value)))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(CLIENT_METRICS)
        .with_resource_name(text(name))
        .with_configs(values.iter().map(set).collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let answer = client.call(1, &request).await.responses.remove(0);
    assert_eq!(answer.error_code, NONE, "{:?}", answer.error_message);
}

/// The order of the metrics and the id are those of Apache Kafka, so that brokers take over clients from one another.
#[tokio::test]
async fn clients_are_told_what_to_push() {
    const THROTTLED: i16 = 89;
    const UNKNOWN_SUBSCRIPTION: i16 = 117;
    let server = Server::start().await;
    let mut client = server.connect().await;
    let producers = "org.apache.kafka.consumer.,org.apache.kafka.producer.,a,b,zeta";
    let one = [("metrics", producers), ("interval.ms", "7000"), ("match", "client_id=test")];
    subscribe(&mut client, "same", &one).await;
    let other = [("metrics", "q,b,metric.7,metric.49"), ("interval.ms", "9000"), ("match", "client_id=te.*")];
    subscribe(&mut client, "other", &other).await;

    let id = uuid::Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdff);
    let request = GetTelemetrySubscriptionsRequest::default().with_client_instance_id(id);
    // Apache Kafka answers before its own broker has heard of a subscription.
    let answer = loop {
        let answer = client.call(0, &request).await;
        if answer.requested_metrics.len() == 8 {
            break answer;
        }
    };
    assert_eq!((answer.error_code, answer.client_instance_id), (NONE, id));
    assert_eq!((answer.push_interval_ms, answer.telemetry_max_bytes), (7_000, 1 << 20));
    assert_eq!(answer.accepted_compression_types, [4, 3, 1, 2]);
    assert!(answer.delta_temporality);
    let metrics: Vec<&str> = answer.requested_metrics.iter().map(|metric| metric.as_str()).collect();
    let java = ["org.apache.kafka.producer.", "zeta", "q", "a", "b", "org.apache.kafka.consumer."];
    assert_eq!(metrics[..6], java);
    assert_eq!(metrics[6..], ["metric.7", "metric.49"]);
    assert_eq!(answer.subscription_id, 0x56e3_4266);
    assert_eq!(client.call(0, &request).await.error_code, THROTTLED);

    let push = PushTelemetryRequest::default().with_client_instance_id(id);
    let ended = push.clone().with_terminating(true);
    let nobody = push.clone().with_client_instance_id(uuid::Uuid::nil());
    for (request, code) in [
        (push.clone(), UNKNOWN_SUBSCRIPTION),
        (push.clone(), THROTTLED),
        (ended, UNKNOWN_SUBSCRIPTION),
        (push, INVALID_REQUEST),
        (nobody, INVALID_REQUEST),
    ] {
        assert_eq!(client.call(0, &request).await.error_code, code, "{request:?}");
    }
    server.stop().await;
}

async fn level_of(client: &mut Client, broker: &str, logger: &str) -> Option<(String, i8)> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(LOGGERS)
        .with_resource_name(text(broker))
        .with_configuration_keys(Some(vec![text(logger)]));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let answer = client.call(4, &request).await.results.remove(0);
    assert_eq!(answer.error_code, NONE, "{:?}", answer.error_message);
    let config = answer.configs.first()?;
    assert!(!config.read_only && !config.is_sensitive && config.synonyms.is_empty());
    assert_eq!(config.config_type, 0);
    Some((config.value.as_ref().unwrap().to_string(), config.config_source))
}

/// What a change of one logger is answered with: the code and the sentence.
async fn alter(
    client: &mut Client,
    broker: &str,
    (logger, operation, level): (&str, i8, Option<&str>),
    validate_only: bool,
) -> (i16, String) {
    let config = AlterableConfig::default()
        .with_name(text(logger))
        .with_config_operation(operation)
        .with_value(level.map(text));
    let resource = AlterConfigsResource::default()
        .with_resource_type(LOGGERS)
        .with_resource_name(text(broker))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default()
        .with_resources(vec![resource])
        .with_validate_only(validate_only);
    let mut answer = client.call(1, &request).await;
    let answer = answer.responses.remove(0);
    (answer.error_code, answer.error_message.map(|message| message.to_string()).unwrap_or_default())
}

#[tokio::test]
async fn log_levels_are_a_resource_of_the_broker() {
    const DYNAMIC_BROKER_LOGGER: i8 = 6;
    let server = Server::start().await;
    let mut client = server.connect().await;
    let logger = if server.is_klamm() { "klamm.net" } else { "kafka.network.SocketServer" };
    let before = level_of(&mut client, "1", logger).await.unwrap();
    assert_eq!(before.1, DYNAMIC_BROKER_LOGGER);
    assert_eq!(level_of(&mut client, "1", "nobody").await, None);

    let set = |level| (logger, 0, Some(level));
    assert_eq!(alter(&mut client, "1", set("TRACE"), true).await.0, NONE);
    assert_eq!(level_of(&mut client, "1", logger).await.unwrap(), before, "it was only validated");
    assert_eq!(alter(&mut client, "1", set("ERROR"), false).await.0, NONE);
    assert_eq!(level_of(&mut client, "1", logger).await.unwrap().0, "ERROR");
    assert_eq!(alter(&mut client, "1", (logger, 1, None), false).await.0, NONE);
    assert_eq!(level_of(&mut client, "1", logger).await.unwrap(), before);

    let unknown = format!(
        "Cannot set the log level of {logger} to LOUD as it is not a supported log level. \
         Valid log levels are DEBUG, ERROR, FATAL, INFO, TRACE, WARN"
    );
    let refused = [
        ("1", ("nobody", 0, Some("INFO")), INVALID_CONFIG, "Logger nobody does not exist!"),
        ("1", set("LOUD"), INVALID_CONFIG, &unknown),
        ("1", ("root", 1, None), INVALID_REQUEST, "Removing the log level of the root logger is not allowed"),
        (
            "1",
            (logger, 2, Some("INFO")),
            INVALID_REQUEST,
            "APPEND operation is not allowed for the BROKER_LOGGER resource",
        ),
        ("1", (logger, 0, None), INVALID_REQUEST, &format!("Null value not supported for : {logger}")),
        ("7", set("INFO"), INVALID_REQUEST, "Unexpected node id. Expected 1, but received 7"),
        ("x", set("INFO"), INVALID_REQUEST, "Node id must be an integer, but it is: x"),
    ];
    for (broker, change, code, message) in refused {
        assert_eq!(alter(&mut client, broker, change, false).await, (code, message.to_owned()), "{change:?}");
    }
    server.stop().await;
}
