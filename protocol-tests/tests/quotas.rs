//! Quotas over the wire: how they are set and told, and how clients are held back. The same tests hold against Apache
//! Kafka (`KLAMM_TEST_BOOTSTRAP`), those that would hold up everybody else excepted.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::time::{Duration, Instant};

use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{
    AlterClientQuotasRequest, ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteTopicsRequest, DescribeClientQuotasRequest, FetchRequest, FetchResponse, MetadataRequest,
    ProduceRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use klamm::clock::Clock;
use protocol_tests::server::{
    Client, PATIENCE_MS, Server, Topic, batch, produce_request, request_frame_of, unique,
};

const UNSUPPORTED_VERSION: i16 = 35;
const INVALID_REQUEST: i16 = 42;
const THROTTLING_QUOTA_EXCEEDED: i16 = 89;

const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const SPECIFIED: i8 = 2;

/// An entity: types and names.
type Entity<'a> = &'a [(&'a str, Option<&'a str>)];

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn entry(entity: Entity<'_>, changes: &[(&str, Option<f64>)]) -> EntryData {
    let part = |(kind, name): &(&str, Option<&str>)| {
        EntityData::default().with_entity_type(text(kind)).with_entity_name(name.map(text))
    };
    let op = |(key, value): &(&str, Option<f64>)| {
        OpData::default().with_key(text(key)).with_value(value.unwrap_or(0.0)).with_remove(value.is_none())
    };
    EntryData::default()
        .with_entity(entity.iter().map(part).collect())
        .with_ops(changes.iter().map(op).collect())
}

/// The error of the only entry.
async fn alter(
    client: &mut Client,
    entity: Entity<'_>,
    changes: &[(&str, Option<f64>)],
) -> (i16, Option<String>) {
    let request = AlterClientQuotasRequest::default().with_entries(vec![entry(entity, changes)]);
    let answer = client.call(1, &request).await.entries.remove(0);
    (answer.error_code, answer.error_message.map(|message| message.to_string()))
}

async fn set(client: &mut Client, entity: Entity<'_>, key: &str, value: f64) {
    assert_eq!(alter(client, entity, &[(key, Some(value))]).await, (0, None));
    // Apache Kafka answers before its own broker has heard of it.
    let filter: Vec<_> = entity.iter().map(|(kind, name)| (*kind, EXACT, *name)).collect();
    let filter: Vec<_> = filter
        .iter()
        .map(|(kind, exact, name)| (*kind, if name.is_none() { DEFAULT } else { *exact }, *name))
        .collect();
    while !describe(client, &filter, true)
        .await
        .1
        .iter()
        .any(|found| found.ends_with(&format!("{key}={value}")))
    {}
}

/// The error, and what was found: a line for each entity, sorted.
async fn describe(
    client: &mut Client,
    filter: &[(&str, i8, Option<&str>)],
    strict: bool,
) -> (i16, Vec<String>) {
    let component = |(kind, match_type, name): &(&str, i8, Option<&str>)| {
        ComponentData::default()
            .with_entity_type(text(kind))
            .with_match_type(*match_type)
            .with_match(name.map(text))
    };
    let request = DescribeClientQuotasRequest::default()
        .with_components(filter.iter().map(component).collect())
        .with_strict(strict);
    let mut answer = (0, Vec::new());
    for version in 0..=1 {
        let response = client.call(version, &request).await;
        assert_eq!(response.entries.is_none(), response.error_code != 0);
        assert_eq!(
            response.error_message.as_ref().is_none_or(|text| text.is_empty()),
            response.error_code == 0
        );
        let found = response.entries.unwrap_or_default().into_iter().map(|entry| {
            let mut parts: Vec<_> = entry
                .entity
                .iter()
                .map(|part| {
                    format!("{}:{}", part.entity_type, part.entity_name.as_deref().unwrap_or("<default>"))
                })
                .collect();
            let mut values: Vec<_> =
                entry.values.iter().map(|value| format!("{}={}", value.key, value.value)).collect();
            parts.sort();
            values.sort();
            format!("{} {}", parts.join(" "), values.join(" "))
        });
        let mut found: Vec<_> = found.collect();
        found.sort();
        answer = (response.error_code, found);
    }
    answer
}

#[tokio::test]
async fn quotas_are_set_found_and_removed() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let (user, id) = (unique("user"), unique("id"));
    let (user, id) = (Some(user.as_str()), Some(id.as_str()));
    let both = [("user", user), ("client-id", id)];
    set(&mut client, &both, "producer_byte_rate", 1_000.0).await;
    set(&mut client, &both, "request_percentage", 12.5).await;
    set(&mut client, &[("user", user)], "consumer_byte_rate", 7.0).await;
    set(&mut client, &[("user", user), ("client-id", None)], "controller_mutation_rate", 0.5).await;
    let (u, c) = (user.unwrap(), id.unwrap());
    let of_both = format!("client-id:{c} user:{u} producer_byte_rate=1000 request_percentage=12.5");
    let of_user = format!("user:{u} consumer_byte_rate=7");
    let of_default = format!("client-id:<default> user:{u} controller_mutation_rate=0.5");

    let exact = ("user", EXACT, user);
    let all = vec![of_default.clone(), of_both.clone(), of_user.clone()];
    assert_eq!(describe(&mut client, &[exact], false).await, (0, all));
    assert_eq!(describe(&mut client, &[exact], true).await, (0, vec![of_user]));
    let specified = ("client-id", SPECIFIED, None);
    let with_clients = vec![of_default.clone(), of_both.clone()];
    assert_eq!(describe(&mut client, &[exact, specified], true).await, (0, with_clients));
    let default = ("client-id", DEFAULT, None);
    assert_eq!(describe(&mut client, &[exact, default], true).await, (0, vec![of_default]));
    assert_eq!(describe(&mut client, &[("client-id", EXACT, id)], false).await, (0, vec![of_both.clone()]));
    let everything = describe(&mut client, &[], false).await;
    assert!(everything.0 == 0 && everything.1.contains(&of_both));
    assert_eq!(describe(&mut client, &[], true).await, (0, Vec::new()), "nothing has no types");

    let changes =
        [("producer_byte_rate", None), ("consumer_byte_rate", None), ("request_percentage", Some(1.0))];
    assert_eq!(alter(&mut client, &both, &changes).await, (0, None));
    let changed = (0, vec![format!("client-id:{c} user:{u} request_percentage=1")]);
    while describe(&mut client, &[("client-id", EXACT, id)], false).await != changed {}
    let entry = entry(&both, &[("request_percentage", None)]);
    let validated = AlterClientQuotasRequest::default().with_entries(vec![entry]).with_validate_only(true);
    let answer = client.call(0, &validated).await.entries.remove(0);
    let mut entity: Vec<_> = answer.entity.iter().map(|part| part.entity_type.to_string()).collect();
    entity.sort();
    assert_eq!((answer.error_code, entity), (0, vec!["client-id".to_owned(), "user".to_owned()]));
    assert_eq!(describe(&mut client, &[("client-id", EXACT, id)], false).await, changed);
    server.stop().await;
}

#[tokio::test]
async fn a_filter_that_makes_no_sense_is_refused() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let user = ("user", SPECIFIED, None);
    for (filter, code) in [
        (vec![("", SPECIFIED, None)], INVALID_REQUEST),
        (vec![("host", SPECIFIED, None)], UNSUPPORTED_VERSION),
        (vec![user, ("user", DEFAULT, None)], INVALID_REQUEST),
        (vec![("user", EXACT, None)], INVALID_REQUEST),
        (vec![("user", DEFAULT, Some("u"))], INVALID_REQUEST),
        (vec![("user", SPECIFIED, Some("u"))], INVALID_REQUEST),
        (vec![("user", 3, None)], INVALID_REQUEST),
        (vec![("user", -1, None)], INVALID_REQUEST),
        (vec![user, ("ip", DEFAULT, None)], INVALID_REQUEST),
    ] {
        assert_eq!(describe(&mut client, &filter, false).await, (code, Vec::new()), "{filter:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn quotas_that_make_no_sense_are_refused() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let user: Entity<'_> = &[("user", Some("u"))];
    let rate = "producer_byte_rate";
    let refused: &[(Entity<'_>, &str, f64, &str)] = &[
        (&[], rate, 1.0, "Invalid empty client quota entity"),
        (&[("host", Some("h"))], rate, 1.0, "Unhandled client quota entity type: host"),
        (&[("user", Some(""))], rate, 1.0, "Empty user not supported"),
        (user, "no_such_key", 1.0, "Invalid configuration key no_such_key"),
        (user, "connection_creation_rate", 1.0, "Invalid configuration key connection_creation_rate"),
        (user, rate, 0.0, "Quota producer_byte_rate must be greater than 0"),
        (user, rate, -1.0, "Quota producer_byte_rate must be greater than 0"),
        (user, rate, 1.5, "producer_byte_rate cannot be a fractional value."),
        (user, rate, 1e19, "Proposed value for producer_byte_rate is too large for a LONG."),
        (&[("ip", Some("127.0.0.9"))], rate, 1.0, "Invalid configuration key producer_byte_rate"),
        (
            &[("ip", Some("127.0.0.9"))],
            "connection_creation_rate",
            3e9,
            "Proposed value for connection_creation_rate is too large for an INT.",
        ),
        (
            &[("ip", Some("no such host"))],
            "connection_creation_rate",
            1.0,
            "no such host is not a valid IP or resolvable host.",
        ),
        (
            &[("ip", None), ("user", None)],
            "connection_creation_rate",
            1.0,
            "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId",
        ),
    ];
    for (entity, key, value, why) in refused {
        let answer = alter(&mut client, entity, &[(key, Some(*value))]).await;
        assert_eq!(answer, (INVALID_REQUEST, Some((*why).to_owned())), "{entity:?} {key}={value}");
    }
    let twice = [("request_percentage", Some(1.0)), ("request_percentage", Some(2.0))];
    let why = "Ignoring duplicate entity ClientQuotaEntity(entries={user=u})".to_owned();
    assert_eq!(alter(&mut client, user, &twice).await, (INVALID_REQUEST, Some(why.clone())));
    let one = || entry(user, &[("request_percentage", Some(1.0))]);
    let request =
        AlterClientQuotasRequest::default().with_entries(vec![one(), one()]).with_validate_only(true);
    let answer = client.call(1, &request).await.entries;
    assert_eq!(answer.len(), 1, "{answer:?}");
    assert_eq!(
        (answer[0].error_code, answer[0].error_message.as_deref()),
        (INVALID_REQUEST, Some(why.as_str()))
    );
    assert_eq!(
        alter(&mut client, user, &[("unknown", None)]).await,
        (0, None),
        "what is not there is removed"
    );
    server.stop().await;
}

/// Time, which passes for a broker of ours only while somebody waits for it to pass.
struct Time(Option<Clock>);

impl Time {
    async fn begin() -> (Server, Self) {
        if std::env::var_os("KLAMM_TEST_BOOTSTRAP").is_some() {
            return (Server::start().await, Self(None));
        }
        Self::of_a_broker_with(&[]).await
    }

    async fn of_a_broker_with(config: &[(&str, &str)]) -> (Server, Self) {
        let clock = Clock::virtual_at(Clock::system().now_ms());
        (Server::with_clock(config, clock.clone()).await, Self(Some(clock)))
    }

    /// Lets time pass until this is over: what came of it, and how long it took at least.
    async fn passes<T>(&self, what: impl Future<Output = T>) -> (T, Duration) {
        let began = Instant::now();
        let Some(clock) = &self.0 else { return (what.await, began.elapsed()) };
        let (mut what, began_ms) = (std::pin::pin!(what), clock.steady_ms());
        loop {
            tokio::select! {
                biased;
                done = &mut what => {
                    return (done, Duration::from_millis((clock.steady_ms() - began_ms).unsigned_abs()));
                }
                // The broker, which runs in this thread, has done by then what it can do without time.
                () = tokio::time::sleep(Duration::from_millis(20)) => clock.advance(20),
            }
        }
    }

    /// How long a client is not listened to.
    async fn deaf(&self, client: &mut Client) -> Duration {
        self.passes(ask(client)).await.1
    }
}

async fn ask(client: &mut Client) {
    client.call(0, &ApiVersionsRequest::default()).await;
}

/// A Produce request, and its size as quotas count it.
fn produce(id: &str, topic: &Topic, bytes: usize, acks: i16) -> (ProduceRequest, f64) {
    let value = "x".repeat(bytes);
    let request = produce_request(9, topic, 0, Some(batch(&[&value]))).with_acks(acks);
    let size = request_frame_of(id, 9, 7, &request).len();
    (request, f64::from(u32::try_from(size).unwrap()))
}

/// How long a client is held back that used this much at once of a rate.
fn throttle_ms(used: f64, rate: f64) -> f64 {
    ((used / 10.0 - rate) / rate * 10_000.0).round()
}

#[tokio::test]
async fn a_producer_above_its_rate_is_told_so_and_not_listened_to_for_that_long() {
    let (server, time) = Time::begin().await;
    let mut client = server.connect().await;
    let topic = client.create_topic(1, &[]).await;
    for acks in [-1, 0] {
        let id = unique("producer");
        set(&mut client, &[("client-id", Some(&id))], "producer_byte_rate", 10_000.0).await;
        let (mut producer, mut other) = (server.connect_as(&id).await, server.connect_as(&id).await);
        let (small, _) = produce(&id, &topic, 10, -1);
        assert_eq!(producer.call(9, &small).await.throttle_time_ms, 0);
        let (large, size) = produce(&id, &topic, 104_000, acks);
        let mut told = throttle_ms(size, 10_000.0);
        if acks == 0 {
            producer.send(9, 7, &large).await;
        } else {
            // It is answered at once: no time passes here.
            let answer = producer.call(9, &large).await;
            assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
            told = f64::from(answer.throttle_time_ms);
            assert!((told - throttle_ms(size, 10_000.0)).abs() < 150.0, "{told} ms for {size} bytes");
        }
        // Others are not held back.
        ask(&mut other).await;
        let waited = time.deaf(&mut producer).await;
        assert!(waited.as_secs_f64() * 1_000.0 > told - 100.0, "acks={acks}: {waited:?} of {told} ms");
    }
    server.stop().await;
}

async fn fetch(client: &mut Client, topic: &Topic, offset: i64, max_bytes: i32) -> FetchResponse {
    let partition = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(max_bytes);
    let topic = FetchTopic::default().with_topic(topic.wire_name()).with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_bytes(max_bytes)
        .with_min_bytes(1)
        .with_max_wait_ms(100)
        .with_session_epoch(-1)
        .with_topics(vec![topic]);
    client.call(11, &request).await
}

fn records(answer: &FetchResponse) -> usize {
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.records.as_ref().map_or(0, bytes::Bytes::len)).sum()
}

#[tokio::test]
async fn a_consumer_above_its_rate_gets_nothing_until_it_is_below() {
    let (server, time) = Time::begin().await;
    let mut client = server.connect().await;
    let topic = client.create_topic(1, &[]).await;
    let value = "x".repeat(10_000);
    for _ in 0..40 {
        assert_eq!(client.produce(9, &topic, 0, Some(batch(&[&value]))).await.error_code, 0);
    }
    let id = unique("consumer");
    set(&mut client, &[("client-id", Some(&id))], "consumer_byte_rate", 15_000.0).await;
    let mut consumer = server.connect_as(&id).await;
    // No more is read than a client may get at once. Apache Kafka cuts the last batch there, and finds afterwards that
    // the rest of the response was too much.
    let mut first = fetch(&mut consumer, &topic, 0, 1 << 20).await;
    while first.throttle_time_ms > 0 {
        assert!(!server.is_klamm() && first.throttle_time_ms < 100, "{} ms", first.throttle_time_ms);
        first = fetch(&mut consumer, &topic, 0, 1 << 20).await;
    }
    let bytes = records(&first);
    assert!((130_000..=150_000).contains(&bytes), "{bytes} bytes");
    // Two batches are more than what is left of ten seconds.
    let second = fetch(&mut consumer, &topic, 14, 20_000).await;
    let told = second.throttle_time_ms;
    assert!((1..1_500).contains(&told), "{told} ms");
    assert_eq!((second.error_code, second.responses.len(), second.session_id), (0, 0, 0));
    let (third, waited) = time.passes(fetch(&mut consumer, &topic, 14, 10_000)).await;
    assert!(waited + Duration::from_millis(60) > Duration::from_millis(told.unsigned_abs().into()));
    assert!(records(&third) > 0 || third.throttle_time_ms > 0, "it goes on");
    server.stop().await;
}

#[tokio::test]
async fn requests_that_take_too_much_time_are_held_back_for_a_window_at_most() {
    let (server, time) = Time::begin().await;
    let mut client = server.connect().await;
    for (version, tells) in [(12, true), (1, false)] {
        let id = unique("busy");
        set(&mut client, &[("client-id", Some(&id))], "request_percentage", 0.000_01).await;
        let mut busy = server.connect_as(&id).await;
        let answer = busy.call(version, &MetadataRequest::default().with_topics(Some(Vec::new()))).await;
        assert_eq!(answer.throttle_time_ms, if tells { 1_000 } else { 0 }, "version {version}");
        let waited = time.deaf(&mut busy).await;
        assert!(waited > Duration::from_millis(800), "{waited:?}");
    }
    server.stop().await;
}

/// CreateTopics that only asks whether it would be possible, which counts all the same.
fn create(partitions: i32) -> CreateTopicsRequest {
    let topic = CreatableTopic::default()
        .with_name(TopicName(text(&unique("quota"))))
        .with_num_partitions(partitions)
        .with_replication_factor(1);
    CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(PATIENCE_MS)
        .with_validate_only(true)
}

/// What may be changed in a second, and a request that is so large that nothing more may be for two. There are tokens for
/// eleven seconds, and the last of them may be overdrawn.
const CHANGES: f64 = 100.0;

fn too_large() -> CreateTopicsRequest {
    create(1_300)
}

#[tokio::test]
async fn topics_that_are_created_too_fast_are_refused_or_their_client_is_held_back() {
    let (server, time) = Time::begin().await;
    let mut client = server.connect().await;
    for version in 4..=7 {
        let id = unique("admin");
        set(&mut client, &[("client-id", Some(&id))], "controller_mutation_rate", CHANGES).await;
        let mut admin = server.connect_as(&id).await;
        let first = admin.call(version, &too_large()).await;
        assert_eq!(first.topics[0].error_code, 0, "{:?}", first.topics[0].error_message);
        let is_strict = version >= 6;
        assert_eq!(first.throttle_time_ms > 0, !is_strict, "version {version}");
        if !is_strict {
            continue;
        }
        let second = admin.call(version, &create(1)).await;
        assert_eq!(second.topics[0].error_code, THROTTLING_QUOTA_EXCEEDED);
        let told = second.throttle_time_ms;
        assert!((1..=2_000).contains(&told), "{told} ms");
        let waited = time.deaf(&mut admin).await + Duration::from_millis(100);
        assert!(waited > Duration::from_millis(told.unsigned_abs().into()), "{waited:?} of {told} ms");
    }
    server.stop().await;
}

#[tokio::test]
async fn partitions_and_deletions_count_as_well() {
    let (server, _time) = Time::begin().await;
    let mut client = server.connect().await;
    let topic = client.create_topic(1, &[]).await;
    for is_strict in [true, false] {
        let gone = client.create_topic(1, &[]).await;
        let id = unique("admin");
        set(&mut client, &[("client-id", Some(&id))], "controller_mutation_rate", CHANGES).await;
        let mut connections = Vec::new();
        for _ in 0..3 {
            connections.push(server.connect_as(&id).await);
        }
        assert_eq!(connections[0].call(7, &too_large()).await.topics[0].error_code, 0);
        let more = CreatePartitionsTopic::default()
            .with_name(topic.wire_name())
            .with_count(2)
            .with_assignments(None);
        let more = CreatePartitionsRequest::default()
            .with_topics(vec![more])
            .with_timeout_ms(PATIENCE_MS)
            .with_validate_only(true);
        let answer = connections[1].call(if is_strict { 3 } else { 2 }, &more).await;
        assert_eq!(answer.results[0].error_code == THROTTLING_QUOTA_EXCEEDED, is_strict, "{answer:?}");
        assert!(answer.throttle_time_ms > 0);
        let (version, request) = if is_strict {
            let state = DeleteTopicState::default().with_name(Some(gone.wire_name()));
            (6, DeleteTopicsRequest::default().with_topics(vec![state]))
        } else {
            (4, DeleteTopicsRequest::default().with_topic_names(vec![gone.wire_name()]))
        };
        let answer = connections[2].call(version, &request.with_timeout_ms(PATIENCE_MS)).await;
        assert_eq!(answer.responses[0].error_code == THROTTLING_QUOTA_EXCEEDED, is_strict, "{answer:?}");
        assert!(answer.throttle_time_ms > 0);
    }
    server.stop().await;
}

/// Whether a connection is served: whoever makes them too fast is turned away after a while.
async fn is_served(server: &Server) -> bool {
    let mut client = server.connect().await;
    client.send(0, 7, &ApiVersionsRequest::default()).await;
    client.receive_frame().await.is_some()
}

/// Not against Apache Kafka: everybody who connects is concerned.
#[tokio::test]
async fn an_address_that_connects_too_fast_is_turned_away() {
    let (server, time) = Time::of_a_broker_with(&[("quota.window.num", "2")]).await;
    let mut client = server.connect().await;
    set(&mut client, &[("ip", Some("127.0.0.1"))], "connection_creation_rate", 3.0).await;
    let mut served = 0;
    for _ in 0..3 {
        served += usize::from(is_served(&server).await);
    }
    assert_eq!(served, 3);
    assert!(!time.passes(is_served(&server)).await.0);
    let removed = [("connection_creation_rate", None)];
    assert_eq!(alter(&mut client, &[("ip", Some("127.0.0.1"))], &removed).await, (0, None));
    assert!(is_served(&server).await);
    set(&mut client, &[("ip", None)], "connection_creation_rate", 1.0).await;
    let mut turned_away = 0;
    for _ in 0..4 {
        turned_away += usize::from(!time.passes(is_served(&server)).await.0);
    }
    assert!(turned_away > 0);
    server.stop().await;
}

/// Not against Apache Kafka: everybody who connects is concerned.
#[tokio::test]
async fn a_broker_takes_connections_no_faster_than_it_may() {
    let server = Server::with(&[("max.connection.creation.rate", "5"), ("quota.window.num", "2")]).await;
    let began = Instant::now();
    for _ in 0..9 {
        assert!(is_served(&server).await);
    }
    let took = began.elapsed();
    assert!(took > Duration::from_millis(500), "{took:?}");
    server.stop().await;
}
