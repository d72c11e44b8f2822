//! The share coordinator over the wire, in every version. The same tests hold against Apache Kafka
//! (`KLAMM_TEST_BOOTSTRAP`).
#![expect(clippy::unwrap_used, reason = "a test")]

use kafka_protocol::messages::delete_share_group_state_request::{
    DeleteStateData, PartitionData as DeletePartition,
};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::initialize_share_group_state_request::{
    InitializeStateData, PartitionData as InitializePartition,
};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::read_share_group_state_request::{
    PartitionData as ReadPartition, ReadStateData,
};
use kafka_protocol::messages::read_share_group_state_response::PartitionResult;
use kafka_protocol::messages::{
    DeleteShareGroupStateRequest, FetchRequest, FindCoordinatorRequest, InitializeShareGroupStateRequest,
    MetadataRequest, ReadShareGroupStateRequest, TopicName,
};
use klamm::log::batch::BatchView;
use klamm::protocol::messages::read_share_group_state_summary::{
    ReadStateSummaryData, ReadStateSummaryPartition, ReadStateSummaryPartitionResult,
};
use klamm::protocol::messages::write_share_group_state::{
    WriteStateBatch, WriteStateData, WriteStatePartition,
};
use klamm::protocol::messages::{ReadShareGroupStateSummaryRequest, WriteShareGroupStateRequest};
use klamm::share::state::record::{Record, Value};
use klamm::share::types::SharePartition;
use klamm::types::{SHARE_GROUP_STATE_TOPIC, coordinator_partition};
use protocol_tests::groups::text;
use protocol_tests::server::{Client, Server, unique};
use uuid::Uuid;

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_REQUEST: i16 = 42;
const FENCED_LEADER_EPOCH: i16 = 74;
const FENCED_STATE_EPOCH: i16 = 124;

/// A share partition, as one connection knows it.
struct Share {
    client: Client,
    of: SharePartition,
}

impl Share {
    /// One that nobody has, of a topic with two partitions.
    async fn new(server: &Server) -> Self {
        let mut client = server.connect().await;
        let topic = client.create_topic(2, &[]).await;
        let of = SharePartition { group_id: unique("share").into(), topic_id: topic.id, partition: 0 };
        let mut share = Self { client, of };
        let key = share.of.coordinator_key();
        while share.find(6, &key).await != 0 {
            assert!(!server.is_klamm(), "the first request finds the coordinator");
        }
        // Apache Kafka's broker may lead it a moment later.
        while matches!(share.summary(1).await.error_code, 14..=16) {
            assert!(!server.is_klamm(), "who is found coordinates");
        }
        share
    }

    async fn find(&mut self, version: i16, key: &str) -> i16 {
        let asked = FindCoordinatorRequest::default().with_key_type(2).with_coordinator_keys(vec![text(key)]);
        self.client.call(version, &asked).await.coordinators[0].error_code
    }

    async fn initialize(&mut self, state_epoch: i32, start_offset: i64) -> i16 {
        let partition = InitializePartition::default()
            .with_partition(self.of.partition)
            .with_state_epoch(state_epoch)
            .with_start_offset(start_offset);
        let topic =
            InitializeStateData::default().with_topic_id(self.of.topic_id).with_partitions(vec![partition]);
        let request = InitializeShareGroupStateRequest::default()
            .with_group_id(text(&self.of.group_id))
            .with_topics(vec![topic]);
        let mut answer = self.client.call(0, &request).await;
        let topic = answer.results.remove(0);
        assert_eq!(topic.topic_id, self.of.topic_id);
        let result = &topic.partitions[0];
        assert_eq!(
            (result.partition, result.error_message.is_some()),
            (self.of.partition, result.error_code != 0)
        );
        result.error_code
    }

    async fn read(&mut self, leader_epoch: i32) -> PartitionResult {
        let partition =
            ReadPartition::default().with_partition(self.of.partition).with_leader_epoch(leader_epoch);
        let topic = ReadStateData::default().with_topic_id(self.of.topic_id).with_partitions(vec![partition]);
        let request = ReadShareGroupStateRequest::default()
            .with_group_id(text(&self.of.group_id))
            .with_topics(vec![topic]);
        self.client.call(0, &request).await.results.remove(0).partitions.remove(0)
    }

    async fn write(&mut self, version: i16, change: WriteStatePartition) -> i16 {
        let partition = WriteStatePartition { partition: self.of.partition, ..change };
        let topic =
            WriteStateData { topic_id: self.of.topic_id, partitions: vec![partition], ..Default::default() };
        let request = WriteShareGroupStateRequest {
            group_id: self.of.group_id.to_string(),
            topics: vec![topic],
            ..Default::default()
        };
        self.client.call(version, &request).await.results[0].partitions[0].error_code
    }

    async fn delete(&mut self) -> i16 {
        let partition = DeletePartition::default().with_partition(self.of.partition);
        let topic =
            DeleteStateData::default().with_topic_id(self.of.topic_id).with_partitions(vec![partition]);
        let request = DeleteShareGroupStateRequest::default()
            .with_group_id(text(&self.of.group_id))
            .with_topics(vec![topic]);
        self.client.call(0, &request).await.results[0].partitions[0].error_code
    }

    async fn summary(&mut self, version: i16) -> ReadStateSummaryPartitionResult {
        let partition = ReadStateSummaryPartition {
            partition: self.of.partition,
            leader_epoch: -1,
            ..Default::default()
        };
        let topic = ReadStateSummaryData {
            topic_id: self.of.topic_id,
            partitions: vec![partition],
            ..Default::default()
        };
        let request = ReadShareGroupStateSummaryRequest {
            group_id: self.of.group_id.to_string(),
            topics: vec![topic],
            ..Default::default()
        };
        self.client.call(version, &request).await.results.remove(0).partitions.remove(0)
    }

    /// What was written of it to `__share_group_state`, in Kafka's records.
    async fn written(&mut self) -> Vec<Value> {
        let named = MetadataRequestTopic::default().with_name(Some(TopicName(text(SHARE_GROUP_STATE_TOPIC))));
        let metadata = self.client.call(12, &MetadataRequest::default().with_topics(Some(vec![named]))).await;
        let topic = &metadata.topics[0];
        let count = i32::try_from(topic.partitions.len()).unwrap();
        let index = coordinator_partition(&self.of.coordinator_key(), count);
        let partition = FetchPartition::default()
            .with_partition(index)
            .with_fetch_offset(0)
            .with_partition_max_bytes(1 << 20);
        let asked = FetchTopic::default().with_topic_id(topic.topic_id).with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_max_wait_ms(100)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_topics(vec![asked]);
        let answer = self.client.call(13, &request).await;
        let bytes = answer.responses[0].partitions[0].records.clone().unwrap();
        let mut values = Vec::new();
        for batch in BatchView::all(&bytes).map(Result::unwrap) {
            for record in batch.records().unwrap().map(Result::unwrap) {
                let decoded = Record::decode(record.key.unwrap(), record.value).unwrap().unwrap();
                if decoded.of == self.of {
                    values.push(decoded.value);
                }
            }
        }
        values
    }
}

fn change(state_epoch: i32, leader_epoch: i32, start_offset: i64, complete: i32) -> WriteStatePartition {
    WriteStatePartition {
        state_epoch,
        leader_epoch,
        start_offset,
        delivery_complete_count: complete,
        ..Default::default()
    }
}

fn batches(of: &[(i64, i64, i8, i16)]) -> Vec<WriteStateBatch> {
    let batch = |(first_offset, last_offset, delivery_state, delivery_count): &_| WriteStateBatch {
        first_offset: *first_offset,
        last_offset: *last_offset,
        delivery_state: *delivery_state,
        delivery_count: *delivery_count,
        ..Default::default()
    };
    of.iter().map(batch).collect()
}

#[tokio::test]
async fn a_share_partition_is_initialized_read_written_and_deleted() {
    let server = Server::start().await;
    let mut share = Share::new(&server).await;
    for version in 0..=1 {
        let nothing = share.summary(version).await;
        assert_eq!((nothing.error_code, nothing.start_offset, nothing.delivery_complete_count), (0, -1, -1));
    }
    assert_eq!(share.read(0).await.error_code, INVALID_REQUEST);
    assert_eq!(share.write(1, change(0, 0, 5, 0)).await, INVALID_REQUEST);
    assert_eq!(share.initialize(1, -1).await, 0);
    let read = share.read(3).await;
    assert_eq!(
        (read.error_code, read.state_epoch, read.start_offset, read.state_batches.len()),
        (0, 1, -1, 0)
    );
    let new = batches(&[(10, 19, 2, 1), (15, 15, 0, 2), (20, 29, 2, 1)]);
    assert_eq!(share.write(1, WriteStatePartition { state_batches: new, ..change(1, 3, 10, 19) }).await, 0);
    let read = share.read(3).await;
    let known: Vec<_> = read
        .state_batches
        .iter()
        .map(|batch| (batch.first_offset, batch.last_offset, batch.delivery_state, batch.delivery_count))
        .collect();
    assert_eq!(read.start_offset, 10);
    assert_eq!(known, [(10, 14, 2, 1), (15, 15, 0, 2), (16, 29, 2, 1)]);
    let summary = share.summary(1).await;
    assert_eq!((summary.state_epoch, summary.leader_epoch, summary.start_offset), (1, 3, 10));
    assert_eq!(summary.delivery_complete_count, 19);
    // The older version knows nothing of what is done with.
    assert_eq!(share.write(0, change(1, 3, 16, 7)).await, 0);
    let summary = share.summary(1).await;
    assert_eq!((summary.start_offset, summary.delivery_complete_count), (16, -1));
    assert_eq!(share.summary(0).await.delivery_complete_count, -1);
    // It begins anew.
    assert_eq!(share.initialize(2, 40).await, 0);
    let summary = share.summary(1).await;
    assert_eq!((summary.state_epoch, summary.leader_epoch, summary.start_offset), (2, 0, 40));
    assert_eq!(summary.delivery_complete_count, 0);
    assert_eq!(share.delete().await, 0);
    assert_eq!(share.delete().await, 0);
    assert_eq!(share.summary(1).await.start_offset, -1);
    let names: Vec<_> = share.written().await.iter().map(kind).collect();
    assert_eq!(names, ["snapshot", "update", "update", "update", "snapshot", "gone"]);
    server.stop().await;
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Snapshot(_) => "snapshot",
        Value::Update(_) => "update",
        Value::Deleted => "gone",
    }
}

#[tokio::test]
async fn older_leaders_and_older_states_are_fenced() {
    let server = Server::start().await;
    let mut share = Share::new(&server).await;
    assert_eq!(share.initialize(5, 0).await, 0);
    assert_eq!(share.read(7).await.error_code, 0);
    assert_eq!(share.read(6).await.error_code, FENCED_LEADER_EPOCH);
    assert_eq!(share.write(1, change(5, 6, 0, 0)).await, FENCED_LEADER_EPOCH);
    assert_eq!(share.write(1, change(4, 7, 0, 0)).await, FENCED_STATE_EPOCH);
    assert_eq!(share.initialize(4, 0).await, FENCED_STATE_EPOCH);
    // Who does not say what it knows is not fenced.
    assert_eq!(share.read(-1).await.error_code, 0);
    assert_eq!(share.write(1, change(-1, -1, 1, 0)).await, 0);
    assert_eq!(share.write(1, change(6, 9, 2, 0)).await, 0);
    let summary = share.summary(1).await;
    assert_eq!((summary.state_epoch, summary.leader_epoch, summary.start_offset), (5, 7, 2));
    server.stop().await;
}

#[tokio::test]
async fn what_there_is_not_is_refused() {
    let server = Server::start().await;
    let mut share = Share::new(&server).await;
    for (topic_id, partition) in [(share.of.topic_id, 2), (Uuid::from_u128(77), 0), (Uuid::nil(), 0)] {
        share.of = SharePartition { topic_id, partition, ..share.of.clone() };
        assert_eq!(share.initialize(0, 0).await, UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(share.delete().await, UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(share.summary(1).await.error_code, UNKNOWN_TOPIC_OR_PARTITION);
        // That it is not initialized is noticed first.
        assert_eq!(share.read(0).await.error_code, INVALID_REQUEST);
        assert_eq!(share.write(1, change(0, 0, 0, 0)).await, INVALID_REQUEST);
    }
    share.of.partition = -1;
    assert_eq!(share.initialize(0, 0).await, INVALID_REQUEST);
    assert_eq!(share.summary(1).await.error_code, INVALID_REQUEST);
    // What is incomplete is answered with nothing at all.
    let topic = ReadStateData::default().with_topic_id(share.of.topic_id);
    for request in [
        ReadShareGroupStateRequest::default().with_group_id(text("g")),
        ReadShareGroupStateRequest::default().with_group_id(text("g")).with_topics(vec![topic]),
        ReadShareGroupStateRequest::default().with_group_id(text("")),
    ] {
        assert!(share.client.call(0, &request).await.results.is_empty());
    }
    server.stop().await;
}

#[tokio::test]
async fn the_coordinator_is_found_by_group_topic_and_partition() {
    let server = Server::start().await;
    let mut share = Share::new(&server).await;
    let key = share.of.coordinator_key();
    assert_eq!(share.find(6, &format!("a:b:{key}")).await, 0);
    for not_one in ["", "g", "g:1", "g:no-topic:0", "g:AAAAAAAAAAAAAAAAAAAAAQ:x", ":AAAAAAAAAAAAAAAAAAAAAQ:0"]
    {
        assert_eq!(share.find(6, not_one).await, INVALID_REQUEST, "{not_one}");
    }
    assert_eq!(share.find(5, &key).await, INVALID_REQUEST);
    server.stop().await;
}

#[tokio::test]
async fn after_so_many_updates_there_is_a_snapshot() {
    let server = Server::with(&[("share.coordinator.snapshot.update.records.per.snapshot", "2")]).await;
    let mut share = Share::new(&server).await;
    assert_eq!(share.initialize(0, 0).await, 0);
    for start_offset in 1..=5 {
        assert_eq!(share.write(1, change(0, 0, start_offset, 0)).await, 0);
    }
    let names: Vec<_> = share.written().await.iter().map(kind).collect();
    assert_eq!(names, ["snapshot", "update", "update", "snapshot", "update", "update"]);
    server.stop().await;
}
