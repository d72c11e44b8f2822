//! Metadata and the other APIs that tell what there is: brokers, topics, partitions, directories, producers.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::HashSet;

use kafka_protocol::messages::describe_producers_request::TopicRequest as ProducersTopic;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{TopicName, TransactionalId};
use kafka_protocol::protocol::StrBytes;
use klamm::clock::Clock;
use klamm::log::batch::BatchBuilder;
use klamm::protocol::messages::describe_log_dirs::DescribableLogDirTopic;
use klamm::protocol::messages::{
    DescribeClusterRequest, DescribeLogDirsRequest, DescribeProducersRequest, DescribeTopicPartitionsRequest,
    InitProducerIdRequest, MetadataRequest, MetadataResponse,
};
use protocol_tests::server::{Client, Server, Topic, batch, unique};
use uuid::Uuid;

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_TOPIC: i16 = 17;
const INVALID_REQUEST: i16 = 42;
const UNKNOWN_TOPIC_ID: i16 = 100;
const MISMATCHED_ENDPOINT_TYPE: i16 = 114;
const UNSUPPORTED_ENDPOINT_TYPE: i16 = 115;
/// Every operation that there is on a topic and on the cluster, as bits.
const TOPIC_OPERATIONS: i32 = 3576;
const CLUSTER_OPERATIONS: i32 = 8096;

fn named(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))))
}

/// Asks for these topics, and creates none.
async fn ask(
    client: &mut Client,
    version: i16,
    topics: Option<Vec<MetadataRequestTopic>>,
) -> MetadataResponse {
    let request = MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(version < 4);
    client.call(version, &request).await
}

fn names(answer: &MetadataResponse) -> HashSet<String> {
    answer.topics.iter().filter_map(|topic| topic.name.as_ref()).map(|name| name.to_string()).collect()
}

#[tokio::test]
async fn every_version_tells_brokers_and_topics() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = client.create_topic(2, &[]).await;
    for version in 0..=13 {
        let answer = ask(&mut client, version, Some(vec![named(&topic.name)])).await;
        assert_eq!((answer.error_code, answer.brokers.len()), (0, 1));
        let broker = &answer.brokers[0];
        assert_eq!(format!("{}:{}", &*broker.host, broker.port), server.address());
        if version >= 1 {
            assert_eq!(answer.controller_id, broker.node_id);
        }
        assert_eq!(answer.cluster_id.is_some(), version >= 2);
        let told = &answer.topics[0];
        assert_eq!((told.error_code, told.is_internal, told.partitions.len()), (0, false, 2));
        assert_eq!(told.topic_id, if version >= 10 { topic.id } else { Uuid::nil() });
        for partition in &told.partitions {
            assert_eq!((partition.error_code, partition.leader_id), (0, broker.node_id));
            assert_eq!(partition.leader_epoch, if version >= 7 { 0 } else { -1 });
            assert_eq!((partition.replica_nodes.len(), partition.isr_nodes.len()), (1, 1));
            assert!(partition.offline_replicas.is_empty());
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn no_list_means_all_and_an_empty_list_means_none_except_in_version_0() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = client.create_topic(1, &[]).await;
    assert!(names(&ask(&mut client, 0, Some(vec![])).await).contains(&topic.name));
    for version in [1, 4, 9, 13] {
        assert!(names(&ask(&mut client, version, None).await).contains(&topic.name));
        assert!(ask(&mut client, version, Some(vec![])).await.topics.is_empty());
    }
    server.stop().await;
}

#[tokio::test]
async fn topics_that_are_not_there_have_their_error() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = client.create_topic(1, &[]).await;
    let missing = unique("missing");
    for (name, code) in
        [(&*missing, UNKNOWN_TOPIC_OR_PARTITION), ("no/name", INVALID_TOPIC), ("..", INVALID_TOPIC)]
    {
        let answer = ask(&mut client, 12, Some(vec![named(name)])).await;
        let told = &answer.topics[0];
        assert_eq!((told.error_code, told.name.as_ref().unwrap().as_str()), (code, name));
        assert!(told.partitions.is_empty());
    }
    // By id, where a name is not needed.
    let nobody = Uuid::new_v4();
    let by_id = |id| MetadataRequestTopic::default().with_topic_id(id).with_name(None);
    let answer = ask(&mut client, 12, Some(vec![by_id(nobody), by_id(topic.id)])).await;
    let told = |id| answer.topics.iter().find(|topic| topic.topic_id == id).unwrap();
    assert_eq!((told(nobody).error_code, told(nobody).name.is_none()), (UNKNOWN_TOPIC_ID, true));
    assert_eq!(told(topic.id).name.as_ref().unwrap().as_str(), topic.name);
    // Versions 10 and 11 have the field, and not the meaning.
    let answer = ask(&mut client, 11, Some(vec![by_id(topic.id).with_name(Some(topic.wire_name()))])).await;
    assert_eq!(answer.topics[0].error_code, INVALID_REQUEST);
    server.stop().await;
}

#[tokio::test]
async fn a_topic_is_created_on_first_use_unless_that_is_not_wanted() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for version in [0, 3, 4, 13] {
        let name = unique("first-use");
        if version >= 4 {
            let answer = ask(&mut client, version, Some(vec![named(&name)])).await;
            assert_eq!(answer.topics[0].error_code, UNKNOWN_TOPIC_OR_PARTITION);
        }
        let create = MetadataRequest::default()
            .with_topics(Some(vec![named(&name)]))
            .with_allow_auto_topic_creation(true);
        let mut answer = client.call(version, &create).await;
        // Apache Kafka says once or twice that it is not there.
        while !server.is_klamm() && answer.topics[0].error_code != 0 {
            answer = client.call(version, &create).await;
        }
        assert_eq!((answer.topics[0].error_code, answer.topics[0].partitions.len()), (0, 1));
        assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    }
    server.stop().await;
}

#[tokio::test]
async fn operations_are_told_to_those_who_ask() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = client.create_topic(1, &[]).await;
    for version in [8, 10, 11, 13] {
        for asked in [false, true] {
            let request = MetadataRequest::default()
                .with_topics(Some(vec![named(&topic.name)]))
                .with_allow_auto_topic_creation(false)
                .with_include_topic_authorized_operations(asked)
                .with_include_cluster_authorized_operations(asked && version <= 10);
            let answer = client.call(version, &request).await;
            let expected = |operations| if asked { operations } else { i32::MIN };
            assert_eq!(answer.topics[0].topic_authorized_operations, expected(TOPIC_OPERATIONS));
            let cluster = if version <= 10 { expected(CLUSTER_OPERATIONS) } else { i32::MIN };
            assert_eq!(answer.cluster_authorized_operations, cluster);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn the_cluster_is_described() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for version in 0..=2 {
        let request = DescribeClusterRequest::default()
            .with_include_cluster_authorized_operations(true)
            .with_endpoint_type(1);
        let answer = client.call(version, &request).await;
        assert_eq!((answer.error_code, answer.brokers.len()), (0, 1));
        assert_eq!(format!("{}:{}", &*answer.brokers[0].host, answer.brokers[0].port), server.address());
        assert_eq!(answer.controller_id, answer.brokers[0].broker_id);
        assert_eq!(answer.cluster_authorized_operations, CLUSTER_OPERATIONS);
        assert!(!answer.cluster_id.is_empty());
    }
    // Where no listener is the controller's own, the one of the broker answers for both.
    let controllers = if server.is_klamm() { 0 } else { MISMATCHED_ENDPOINT_TYPE };
    for (endpoint_type, code) in [(2, controllers), (9, UNSUPPORTED_ENDPOINT_TYPE)] {
        let answer =
            client.call(1, &DescribeClusterRequest::default().with_endpoint_type(endpoint_type)).await;
        assert_eq!(answer.error_code, code);
        assert_eq!(answer.error_message.is_some(), code != 0);
    }
    server.stop().await;
}

#[tokio::test]
async fn topics_are_described_page_by_page() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let mut topics = Vec::new();
    for partitions in [2, 3, 1] {
        topics.push(client.create_topic(partitions, &[]).await);
    }
    topics.sort_by(|one, other| one.name.cmp(&other.name));
    let asked: Vec<_> =
        topics.iter().rev().map(|topic| TopicRequest::default().with_name(topic.wire_name())).collect();
    let mut request =
        DescribeTopicPartitionsRequest::default().with_topics(asked).with_response_partition_limit(2);
    let mut seen = Vec::new();
    loop {
        let answer = client.call(0, &request).await;
        let mut partitions = 0;
        for topic in &answer.topics {
            assert_eq!(topic.error_code, 0);
            assert_eq!(topic.topic_authorized_operations, TOPIC_OPERATIONS);
            partitions += topic.partitions.len();
            let name = topic.name.as_ref().unwrap().to_string();
            seen.extend(topic.partitions.iter().map(|partition| (name.clone(), partition.partition_index)));
        }
        assert!(partitions <= 2);
        let Some(next) = answer.next_cursor else { break };
        let cursor =
            Cursor::default().with_topic_name(next.topic_name).with_partition_index(next.partition_index);
        request.cursor = Some(cursor);
    }
    assert_eq!(seen.len(), 6);
    assert!(seen.is_sorted());
    // The cursor has to be among the topics.
    let strange = Cursor::default().with_topic_name(TopicName(StrBytes::from_static_str("strange")));
    request.cursor = Some(strange);
    let answer = client.call(0, &request).await;
    assert_eq!(answer.topics.len(), 3);
    assert!(answer.topics.iter().all(|topic| topic.error_code == INVALID_REQUEST));
    server.stop().await;
}

#[tokio::test]
async fn producer_ids_are_given_once_and_producers_are_shown() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = client.create_topic(1, &[]).await;
    let mut ids = HashSet::new();
    for version in 0..=5 {
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        let request = if version >= 3 {
            request.with_producer_id((-1).into()).with_producer_epoch(-1)
        } else {
            request
        };
        let mut answer = client.call(version, &request).await;
        // Apache Kafka answers so while it fetches its first block of ids.
        while !server.is_klamm() && answer.error_code == 14 {
            answer = client.call(version, &request).await;
        }
        assert_eq!((answer.error_code, answer.producer_epoch), (0, 0));
        assert!(ids.insert(answer.producer_id.0));
    }
    let half = InitProducerIdRequest::default().with_producer_id(5.into()).with_producer_epoch(-1);
    let empty = InitProducerIdRequest::default()
        .with_producer_id((-1).into())
        .with_producer_epoch(-1)
        .with_transactional_id(Some(TransactionalId(StrBytes::default())));
    for request in [half, empty] {
        assert_eq!(client.call(4, &request).await.error_code, INVALID_REQUEST);
    }
    let id = ids.into_iter().next().unwrap();
    let records = BatchBuilder::new().producer(id, 0, 0).record(Clock::system().now_ms(), None, Some(b"v"));
    client.produce(9, &topic, 0, Some(records.build())).await;
    let asked = ProducersTopic::default().with_name(topic.wire_name()).with_partition_indexes(vec![0, 4]);
    let answer = client.call(0, &DescribeProducersRequest::default().with_topics(vec![asked])).await;
    let partitions = &answer.topics[0].partitions;
    let producer = &partitions[0].active_producers[0];
    assert_eq!((producer.producer_id.0, producer.producer_epoch, producer.last_sequence), (id, 0, 0));
    assert_eq!((producer.coordinator_epoch, producer.current_txn_start_offset), (-1, -1));
    assert_eq!(partitions[1].error_code, UNKNOWN_TOPIC_OR_PARTITION);
    server.stop().await;
}

#[tokio::test]
async fn the_directory_is_described() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic: Topic = client.create_topic(2, &[]).await;
    client.produce(9, &topic, 1, Some(batch(&["a", "b"]))).await;
    for version in 1..=5 {
        let asked = DescribableLogDirTopic {
            topic: topic.name.clone(),
            partitions: vec![0, 1, 5],
            ..Default::default()
        };
        let request = DescribeLogDirsRequest { topics: Some(vec![asked]), ..Default::default() };
        let answer = client.call(version, &request).await;
        let directory = &answer.results[0];
        assert_eq!((directory.error_code, directory.topics.len()), (0, 1));
        assert!(directory.log_dir.starts_with('/'));
        let mut sizes: Vec<_> = directory.topics[0]
            .partitions
            .iter()
            .map(|partition| (partition.partition_index, partition.partition_size > 0, partition.offset_lag))
            .collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [(0, false, 0), (1, true, 0)]);
        assert_eq!(directory.total_bytes > 0, version >= 4);
        assert_eq!(directory.usable_bytes > 0, version >= 4);
    }
    server.stop().await;
}
