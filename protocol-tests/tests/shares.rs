//! Share fetches and acknowledgements (KIP-932) over the wire. The same tests hold against Apache Kafka
//! (`KLAMM_TEST_BOOTSTRAP`).
#![expect(clippy::unwrap_used, reason = "a test")]

use std::time::{Duration, Instant};

use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    AlterClientQuotasRequest, DeleteRecordsRequest, FindCoordinatorRequest, GroupId,
    IncrementalAlterConfigsRequest, ShareGroupHeartbeatRequest, TopicName,
};
use klamm::clock::Clock;
use klamm::error::ErrorCode;
use klamm::protocol::messages::share_acknowledge::{ShareAcknowledgePartition, ShareAcknowledgeTopic};
use klamm::protocol::messages::share_fetch::{
    ShareAcknowledgementBatch, ShareFetchPartition, ShareFetchPartitionData, ShareFetchTopic,
    ShareForgottenTopic,
};
use klamm::protocol::messages::{
    ShareAcknowledgeRequest, ShareAcknowledgeResponse, ShareFetchRequest, ShareFetchResponse,
};
use protocol_tests::groups::text;
use protocol_tests::server::{Client, PATIENCE, PATIENCE_MS, Server, Topic, batch, unique};
use uuid::Uuid;

/// Longer than anything takes that is there.
const WAIT_MS: i32 = 10_000;

const ACCEPT: i8 = 1;
const RELEASE: i8 = 2;
const REJECT: i8 = 3;
const RENEW: i8 = 4;

/// A group that starts at the beginning of a topic.
struct Group {
    id: String,
    topic: Topic,
}

impl Group {
    async fn new(client: &mut Client, partitions: i32) -> Self {
        Self::with(client, partitions, None).await
    }

    /// Begins the group at the beginning of a new topic. Time that stands is moved on.
    async fn with(client: &mut Client, partitions: i32, clock: Option<&Clock>) -> Self {
        let topic = client.create_topic(partitions, &[]).await;
        let group = Self { id: unique("share"), topic };
        group.configure(client, "share.auto.offset.reset", "earliest").await;
        let find = FindCoordinatorRequest::default().with_key(text(&group.id));
        let end = Instant::now() + PATIENCE;
        while client.call(3, &find).await.error_code != 0 {
            assert!(Instant::now() < end, "no group coordinator");
        }
        // What a member is assigned can be fetched.
        let mut beat = ShareGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text(&group.id)))
            .with_member_id(text(&Uuid::new_v4().to_string()))
            .with_subscribed_topic_names(Some(vec![TopicName(text(&group.topic.name))]));
        loop {
            let answer = client.call(1, &beat).await;
            assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
            let assignment = answer.assignment.unwrap_or_default();
            let assigned: usize =
                assignment.topic_partitions.iter().map(|topic| topic.partitions.len()).sum();
            if assigned == usize::try_from(partitions).unwrap() {
                return group;
            }
            assert!(Instant::now() < end, "the group got no partitions");
            beat = beat.with_member_epoch(answer.member_epoch).with_subscribed_topic_names(None);
            match clock {
                Some(clock) => clock.advance(100),
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn configure(&self, client: &mut Client, name: &str, value: &str) {
        let config = AlterableConfig::default().with_name(text(name)).with_value(Some(text(value)));
        let resource = AlterConfigsResource::default()
            .with_resource_type(32)
            .with_resource_name(text(&self.id))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        assert_eq!(client.call(1, &request).await.responses[0].error_code, 0);
    }

    fn member(&self) -> Member {
        Member { group: self.id.clone(), id: Uuid::new_v4().to_string(), epoch: 0, topic: self.topic.clone() }
    }
}

/// A member of a share group, as far as brokers are concerned that it fetches from.
struct Member {
    group: String,
    id: String,
    epoch: i32,
    topic: Topic,
}

fn acknowledgement(first: i64, last: i64, types: &[i8]) -> ShareAcknowledgementBatch {
    ShareAcknowledgementBatch {
        first_offset: first,
        last_offset: last,
        acknowledge_types: types.to_vec(),
        ..ShareAcknowledgementBatch::default()
    }
}

impl Member {
    /// A fetch of these partitions.
    fn fetch(&self, partitions: &[i32]) -> ShareFetchRequest {
        let partitions = partitions.iter().map(|partition_index| ShareFetchPartition {
            partition_index: *partition_index,
            ..ShareFetchPartition::default()
        });
        let topic = ShareFetchTopic {
            topic_id: self.topic.id,
            partitions: partitions.collect(),
            ..ShareFetchTopic::default()
        };
        ShareFetchRequest {
            group_id: Some(self.group.clone()),
            member_id: Some(self.id.clone()),
            share_session_epoch: self.epoch,
            max_wait_ms: WAIT_MS,
            min_bytes: 1,
            max_bytes: 1 << 20,
            max_records: 500,
            batch_size: 500,
            topics: if topic.partitions.is_empty() { Vec::new() } else { vec![topic] },
            ..ShareFetchRequest::default()
        }
    }

    /// Sends a request and, if it goes on with the session, counts on.
    async fn call(&mut self, client: &mut Client, request: &ShareFetchRequest) -> ShareFetchResponse {
        let answer = client.call(2, request).await;
        if answer.error_code == 0 {
            self.epoch += 1;
        }
        answer
    }

    /// Fetches until there are records.
    async fn get(&mut self, client: &mut Client, partitions: &[i32]) -> ShareFetchPartitionData {
        let end = Instant::now() + PATIENCE;
        loop {
            let request = self.fetch(if self.epoch == 0 { partitions } else { &[] });
            let answer = self.call(client, &request).await;
            assert_eq!(answer.error_code, 0);
            let mut data = answer.responses.into_iter().flat_map(|topic| topic.partitions);
            if let Some(data) = data.find(|data| !data.acquired_records.is_empty()) {
                assert_eq!(data.error_code, 0);
                assert!(!data.records.is_empty());
                return data;
            }
            assert!(Instant::now() < end, "no records came");
        }
    }

    /// Fetches without waiting; what came.
    async fn poll(&mut self, client: &mut Client) -> Vec<(i64, i64, i16)> {
        let request = ShareFetchRequest { max_wait_ms: 0, ..self.fetch(&[]) };
        let answer = self.call(client, &request).await;
        assert_eq!(answer.error_code, 0);
        answer.responses.iter().flat_map(|topic| &topic.partitions).flat_map(ranges).collect()
    }

    fn acknowledge_request(&self, batches: Vec<ShareAcknowledgementBatch>) -> ShareAcknowledgeRequest {
        let partition = ShareAcknowledgePartition {
            acknowledgement_batches: batches,
            ..ShareAcknowledgePartition::default()
        };
        let topic = ShareAcknowledgeTopic {
            topic_id: self.topic.id,
            partitions: vec![partition],
            ..ShareAcknowledgeTopic::default()
        };
        ShareAcknowledgeRequest {
            group_id: Some(self.group.clone()),
            member_id: Some(self.id.clone()),
            share_session_epoch: self.epoch,
            topics: vec![topic],
            ..ShareAcknowledgeRequest::default()
        }
    }

    /// Acknowledges records of partition 0; the error code of the partition.
    async fn acknowledge(&mut self, client: &mut Client, first: i64, last: i64, types: &[i8]) -> i16 {
        let request = self.acknowledge_request(vec![acknowledgement(first, last, types)]);
        let answer: ShareAcknowledgeResponse = client.call(2, &request).await;
        assert_eq!(answer.error_code, 0);
        assert_eq!(answer.acquisition_lock_timeout_ms, 30_000);
        self.epoch += 1;
        answer.responses[0].partitions[0].error_code
    }
}

fn ranges(data: &ShareFetchPartitionData) -> Vec<(i64, i64, i16)> {
    let ranges = data.acquired_records.iter();
    ranges.map(|range| (range.first_offset, range.last_offset, range.delivery_count)).collect()
}

async fn produce(client: &mut Client, topic: &Topic, values: &[&str]) {
    assert_eq!(client.produce(12, topic, 0, Some(batch(values))).await.error_code, 0);
}

#[tokio::test]
async fn members_share_the_records_of_a_partition() {
    let server = Server::start().await;
    let (mut one, mut other) = (server.connect().await, server.connect().await);
    let group = Group::new(&mut one, 1).await;
    produce(&mut one, &group.topic, &["a", "b", "c"]).await;
    produce(&mut one, &group.topic, &["d", "e"]).await;
    let (mut a, mut b) = (group.member(), group.member());
    let first = ShareFetchRequest { max_records: 1, ..a.fetch(&[0]) };
    let first = a.call(&mut one, &first).await;
    assert_eq!((first.error_code, first.acquisition_lock_timeout_ms), (0, 30_000));
    assert_eq!(ranges(&first.responses[0].partitions[0]), [(0, 2, 1)]);
    assert_eq!(ranges(&b.get(&mut other, &[0]).await), [(3, 4, 1)]);
    assert_eq!(a.poll(&mut one).await, []);
    // Nobody acknowledges what another holds, or twice.
    let invalid = ErrorCode::InvalidRecordState.code();
    assert_eq!(b.acknowledge(&mut other, 0, 2, &[ACCEPT]).await, invalid);
    assert_eq!(a.acknowledge(&mut one, 0, 2, &[ACCEPT, RELEASE, REJECT]).await, 0);
    assert_eq!(a.acknowledge(&mut one, 2, 2, &[ACCEPT]).await, invalid);
    // What was released comes again, to anybody; with the fetch goes what is acknowledged.
    let mut fetch = b.fetch(&[0]);
    fetch.topics[0].partitions[0].acknowledgement_batches = vec![acknowledgement(3, 4, &[ACCEPT])];
    let answer = b.call(&mut other, &fetch).await;
    let data = &answer.responses[0].partitions[0];
    assert_eq!((data.error_code, data.acknowledge_error_code), (0, 0));
    assert_eq!(ranges(data), [(1, 1, 2)]);
    assert_eq!(b.acknowledge(&mut other, 1, 1, &[ACCEPT]).await, 0);
    assert_eq!(a.poll(&mut one).await, []);
    // The next record is the first one that is new.
    produce(&mut one, &group.topic, &["f"]).await;
    assert_eq!(ranges(&a.get(&mut one, &[]).await), [(5, 5, 1)]);
    server.stop().await;
}

/// On virtual time; Apache Kafka answers without records, which the member holds all the same.
#[tokio::test]
async fn a_member_above_its_rate_gets_its_records_and_is_held_back() {
    let clock = Clock::virtual_at(Clock::system().now_ms());
    let server = Server::with_clock(&[], clock.clone()).await;
    let mut client = server.connect().await;
    let group = Group::with(&mut client, 1, Some(&clock)).await;
    let value = "x".repeat(10_000);
    for _ in 0..4 {
        produce(&mut client, &group.topic, &[&value]).await;
    }
    let id = unique("share-consumer");
    let of_client =
        EntityData::default().with_entity_type(text("client-id")).with_entity_name(Some(text(&id)));
    let rate = OpData::default().with_key(text("consumer_byte_rate")).with_value(2_000.0);
    let entry = EntryData::default().with_entity(vec![of_client]).with_ops(vec![rate]);
    let set = AlterClientQuotasRequest::default().with_entries(vec![entry]);
    assert_eq!(client.call(1, &set).await.entries[0].error_code, 0);
    let mut consumer = server.connect_as(&id).await;
    let mut member = group.member();
    // No more than what is 20,000 bytes in ten seconds is given at once, and the second time that is too much.
    let request = member.fetch(&[0]);
    let first = member.call(&mut consumer, &request).await;
    assert_eq!((ranges(&first.responses[0].partitions[0]), first.throttle_time_ms), (vec![(0, 0, 1)], 0));
    let request = member.fetch(&[]);
    let second = member.call(&mut consumer, &request).await;
    assert_eq!(ranges(&second.responses[0].partitions[0]), [(1, 1, 1)]);
    assert!(second.throttle_time_ms > 0, "{second:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_fetch_is_woken_by_records_that_come_and_by_records_that_are_given_back() {
    let server = Server::start().await;
    let (mut one, mut other) = (server.connect().await, server.connect().await);
    let group = Group::new(&mut one, 1).await;
    let (mut a, mut b) = (group.member(), group.member());
    // Apache Kafka looks before what was given back is written, and not again until the time is over.
    let max_wait_ms = if server.is_klamm() { 2 * PATIENCE_MS } else { WAIT_MS };
    let waiting = ShareFetchRequest { max_wait_ms, ..a.fetch(&[0]) };
    let (answer, ()) = tokio::join!(a.call(&mut one, &waiting), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        produce(&mut other, &group.topic, &["a"]).await;
    });
    assert_eq!(ranges(&answer.responses[0].partitions[0]), [(0, 0, 1)]);
    let waiting = ShareFetchRequest { max_wait_ms: 1, ..b.fetch(&[0]) };
    b.call(&mut other, &waiting).await;
    let waiting = ShareFetchRequest { max_wait_ms, ..b.fetch(&[]) };
    let (answer, code) = tokio::join!(b.call(&mut other, &waiting), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        a.acknowledge(&mut one, 0, 0, &[RELEASE]).await
    });
    assert_eq!(code, 0);
    assert_eq!(ranges(&answer.responses[0].partitions[0]), [(0, 0, 2)]);
    server.stop().await;
}

#[tokio::test]
async fn what_a_member_held_comes_to_others_when_its_session_or_its_connection_ends() {
    let server = Server::start().await;
    let (mut one, mut other) = (server.connect().await, server.connect().await);
    let group = Group::new(&mut one, 1).await;
    produce(&mut one, &group.topic, &["a", "b"]).await;
    let (mut a, mut b) = (group.member(), group.member());
    assert_eq!(ranges(&a.get(&mut one, &[0]).await), [(0, 1, 1)]);
    // A closed connection.
    drop(one);
    assert_eq!(ranges(&b.get(&mut other, &[0]).await), [(0, 1, 2)]);
    // The end of a session, which acknowledges some of it.
    let mut last = b.fetch(&[0]);
    last.share_session_epoch = -1;
    last.topics[0].partitions[0].acknowledgement_batches = vec![acknowledgement(0, 0, &[ACCEPT])];
    let answer: ShareFetchResponse = other.call(2, &last).await;
    assert_eq!(answer.error_code, 0);
    assert_eq!(answer.responses[0].partitions[0].acknowledge_error_code, 0);
    assert_eq!(answer.responses[0].partitions[0].acquired_records, []);
    let mut c = group.member();
    assert_eq!(ranges(&c.get(&mut other, &[0]).await), [(1, 1, 3)]);
    // An acknowledgement may end it too.
    let mut last = c.acknowledge_request(vec![acknowledgement(1, 1, &[RELEASE])]);
    last.share_session_epoch = -1;
    assert_eq!(other.call(2, &last).await.responses[0].partitions[0].error_code, 0);
    last.share_session_epoch = c.epoch;
    assert_eq!(other.call(2, &last).await.error_code, ErrorCode::ShareSessionNotFound.code());
    server.stop().await;
}

#[tokio::test]
async fn a_session_goes_on_epoch_by_epoch() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let group = Group::new(&mut client, 2).await;
    let mut a = group.member();
    let quick = |request: ShareFetchRequest| ShareFetchRequest { max_wait_ms: 0, ..request };
    for (epoch, code) in [(1, ErrorCode::ShareSessionNotFound), (-1, ErrorCode::ShareSessionNotFound)] {
        let request = ShareFetchRequest { share_session_epoch: epoch, ..quick(a.fetch(&[0])) };
        let answer: ShareFetchResponse = client.call(2, &request).await;
        assert_eq!(answer.error_code, code.code(), "epoch {epoch}");
    }
    let mut request = quick(a.fetch(&[0]));
    request.topics[0].partitions[0].acknowledgement_batches = vec![acknowledgement(0, 0, &[ACCEPT])];
    let answer: ShareFetchResponse = client.call(2, &request).await;
    assert_eq!(answer.error_code, ErrorCode::InvalidRequest.code());
    let request = quick(a.fetch(&[0, 1]));
    let answer = a.call(&mut client, &request).await;
    assert_eq!(answer.error_code, 0);
    let wrong = ShareFetchRequest { share_session_epoch: 7, ..quick(a.fetch(&[])) };
    let answer: ShareFetchResponse = client.call(2, &wrong).await;
    assert_eq!(answer.error_code, ErrorCode::InvalidShareSessionEpoch.code());
    let acknowledge = ShareAcknowledgeRequest { share_session_epoch: 0, ..a.acknowledge_request(Vec::new()) };
    assert_eq!(client.call(2, &acknowledge).await.error_code, ErrorCode::InvalidShareSessionEpoch.code());
    // Only the partitions of the session are fetched.
    let forgotten = ShareForgottenTopic {
        topic_id: group.topic.id,
        partitions: vec![0],
        ..ShareForgottenTopic::default()
    };
    let request = ShareFetchRequest { forgotten_topics_data: vec![forgotten], ..quick(a.fetch(&[])) };
    assert_eq!(a.call(&mut client, &request).await.error_code, 0);
    produce(&mut client, &group.topic, &["a"]).await;
    assert_eq!(a.poll(&mut client).await, []);
    assert_eq!(
        ranges(&{
            let request = a.fetch(&[0]);
            let answer = a.call(&mut client, &request).await;
            answer.responses[0].partitions[0].clone()
        }),
        [(0, 0, 1)]
    );
    server.stop().await;
}

#[tokio::test]
async fn requests_that_can_not_be_are_refused() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let group = Group::new(&mut client, 1).await;
    produce(&mut client, &group.topic, &["a", "b", "c"]).await;
    let mut a = group.member();
    let invalid = ErrorCode::InvalidRequest.code();
    for (group_id, member_id) in [
        (None, Some(a.id.clone())),
        (Some("g".to_owned()), None),
        (Some("g".to_owned()), Some(String::new())),
        (Some("g".to_owned()), Some("x".repeat(37))),
    ] {
        let request = ShareFetchRequest { group_id, member_id, ..a.fetch(&[0]) };
        let answer: ShareFetchResponse = client.call(2, &request).await;
        assert_eq!(answer.error_code, invalid);
    }
    assert_eq!(ranges(&a.get(&mut client, &[0]).await), [(0, 2, 1)]);
    for batches in [
        vec![acknowledgement(2, 1, &[ACCEPT])],
        vec![acknowledgement(0, 2, &[ACCEPT, ACCEPT])],
        vec![acknowledgement(0, 2, &[])],
        vec![acknowledgement(0, 2, &[5])],
        vec![acknowledgement(0, 2, &[-1])],
        vec![acknowledgement(0, 2, &[RENEW])],
        vec![acknowledgement(1, 2, &[ACCEPT]), acknowledgement(0, 0, &[ACCEPT])],
        vec![acknowledgement(1, 7, &[ACCEPT])],
    ] {
        let request = a.acknowledge_request(batches.clone());
        let answer = client.call(2, &request).await;
        a.epoch += 1;
        assert_eq!(answer.responses[0].partitions[0].error_code, invalid, "{batches:?}");
    }
    // A topic that nobody knows.
    let mut request = a.acknowledge_request(vec![acknowledgement(0, 0, &[ACCEPT])]);
    request.topics[0].topic_id = Uuid::new_v4();
    let answer = client.call(2, &request).await;
    a.epoch += 1;
    assert_eq!(answer.responses[0].partitions[0].error_code, ErrorCode::UnknownTopicId.code());
    server.stop().await;
}

#[tokio::test]
async fn records_are_held_for_longer_and_a_limit_of_records_is_kept() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let group = Group::new(&mut client, 1).await;
    produce(&mut client, &group.topic, &["a", "b", "c", "d"]).await;
    let mut a = group.member();
    let request = ShareFetchRequest { max_records: 3, share_acquire_mode: 1, ..a.fetch(&[0]) };
    let answer = a.call(&mut client, &request).await;
    assert_eq!(ranges(&answer.responses[0].partitions[0]), [(0, 2, 1)]);
    // Renewing comes alone, and in version 2.
    let mut renew = a.acknowledge_request(vec![acknowledgement(0, 2, &[RENEW])]);
    renew.is_renew_ack = true;
    let answer = client.call(2, &renew).await;
    a.epoch += 1;
    assert_eq!((answer.error_code, answer.responses[0].partitions[0].error_code), (0, 0));
    let mut fetch = ShareFetchRequest { is_renew_ack: true, ..a.fetch(&[0]) };
    fetch.topics[0].partitions[0].acknowledgement_batches = vec![acknowledgement(0, 2, &[RENEW])];
    let answer: ShareFetchResponse = client.call(2, &fetch).await;
    assert_eq!(answer.error_code, ErrorCode::InvalidRequest.code());
    (fetch.max_wait_ms, fetch.min_bytes, fetch.max_bytes, fetch.max_records) = (0, 0, 0, 0);
    let answer = a.call(&mut client, &fetch).await;
    let data = &answer.responses[0].partitions[0];
    assert_eq!((answer.error_code, data.acknowledge_error_code), (0, 0));
    assert_eq!(ranges(data), []);
    assert_eq!(a.acknowledge(&mut client, 0, 2, &[ACCEPT]).await, 0);
    assert_eq!(ranges(&a.get(&mut client, &[]).await), [(3, 3, 1)]);
    server.stop().await;
}

#[tokio::test]
async fn deleted_records_are_not_delivered() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let group = Group::new(&mut client, 1).await;
    for value in ["a", "b", "c"] {
        produce(&mut client, &group.topic, &[value]).await;
    }
    let delete = DeleteRecordsPartition::default().with_partition_index(0).with_offset(2);
    let topic = DeleteRecordsTopic::default()
        .with_name(TopicName(text(&group.topic.name)))
        .with_partitions(vec![delete]);
    let request = DeleteRecordsRequest::default().with_timeout_ms(PATIENCE_MS).with_topics(vec![topic]);
    assert_eq!(client.call(2, &request).await.topics[0].partitions[0].error_code, 0);
    let mut a = group.member();
    assert_eq!(ranges(&a.get(&mut client, &[0]).await), [(2, 2, 1)]);
    server.stop().await;
}

#[tokio::test]
async fn a_group_may_deliver_records_less_often() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let group = Group::new(&mut client, 1).await;
    group.configure(&mut client, "share.delivery.count.limit", "2").await;
    produce(&mut client, &group.topic, &["a"]).await;
    let mut a = group.member();
    assert_eq!(ranges(&a.get(&mut client, &[0]).await), [(0, 0, 1)]);
    assert_eq!(a.acknowledge(&mut client, 0, 0, &[RELEASE]).await, 0);
    assert_eq!(ranges(&a.get(&mut client, &[]).await), [(0, 0, 2)]);
    assert_eq!(a.acknowledge(&mut client, 0, 0, &[RELEASE]).await, 0);
    assert_eq!(a.poll(&mut client).await, []);
    server.stop().await;
}

/// Who holds records for too long loses them. On virtual time, so with a broker of ours only.
#[tokio::test]
async fn records_that_are_held_for_too_long_come_to_others() {
    let clock = Clock::virtual_at(Clock::system().now_ms());
    let server = Server::with_clock(&[], clock.clone()).await;
    let (mut one, mut other) = (server.connect().await, server.connect().await);
    let group = Group::with(&mut one, 1, Some(&clock)).await;
    produce(&mut one, &group.topic, &["a", "b"]).await;
    let (mut a, mut b) = (group.member(), group.member());
    assert_eq!(ranges(&a.get(&mut one, &[0]).await), [(0, 1, 1)]);
    let waiting = ShareFetchRequest { max_wait_ms: 60_000, ..b.fetch(&[0]) };
    let (answer, ()) = tokio::join!(b.call(&mut other, &waiting), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        clock.advance(29_999);
        assert_eq!(a.acknowledge(&mut one, 0, 0, &[ACCEPT]).await, 0);
        clock.advance(1);
    });
    assert_eq!(ranges(&answer.responses[0].partitions[0]), [(1, 1, 2)]);
    assert_eq!(a.acknowledge(&mut one, 1, 1, &[ACCEPT]).await, ErrorCode::InvalidRecordState.code());
    server.stop().await;
}
