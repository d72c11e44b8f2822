//! Transactions over the wire, in both protocols and every version: the protocol's traps by their names. The same tests
//! hold against Apache Kafka (`KLAMM_TEST_BOOTSTRAP`).
#![expect(clippy::unwrap_used, reason = "a test")]

use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, DescribeProducersRequest, DescribeTransactionsRequest,
    EndTxnRequest, EndTxnResponse, FetchRequest, FindCoordinatorRequest, GroupId, InitProducerIdRequest,
    InitProducerIdResponse, ListOffsetsRequest, ListTransactionsRequest, TopicName, TransactionalId,
    TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;
use klamm::log::batch::{BatchBuilder, BatchView, TRANSACTIONAL};
use klamm::protocol::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use klamm::protocol::messages::write_txn_markers::{WritableTxnMarker, WritableTxnMarkerTopic};
use klamm::protocol::messages::{OffsetFetchRequest, WriteTxnMarkersRequest};
use protocol_tests::server::{Client, PATIENCE_MS, Server, Topic, produce_request, unique};

const NONE: i16 = 0;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_REQUEST: i16 = 42;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
const INVALID_TRANSACTION_TIMEOUT: i16 = 50;
const CONCURRENT_TRANSACTIONS: i16 = 51;
const TRANSACTION_COORDINATOR_FENCED: i16 = 52;
const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
const OPERATION_NOT_ATTEMPTED: i16 = 55;
const UNSTABLE_OFFSET_COMMIT: i16 = 88;
const PRODUCER_FENCED: i16 = 90;
const TRANSACTIONAL_ID_NOT_FOUND: i16 = 105;
const TRANSACTION_ABORTABLE: i16 = 120;
const INVALID_REGULAR_EXPRESSION: i16 = 128;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A producer with a transactional id, as one connection knows it.
struct Producer {
    client: Client,
    transactional_id: TransactionalId,
    id: i64,
    epoch: i16,
    sequence: i32,
}

impl Producer {
    async fn new(server: &Server) -> Self {
        Self::named(server, &unique("tx")).await
    }

    async fn named(server: &Server, name: &str) -> Self {
        let mut client = server.connect().await;
        let asked = FindCoordinatorRequest::default().with_key_type(1).with_key(text(name));
        while client.call(3, &asked).await.error_code != NONE {
            assert!(!server.is_klamm(), "the first request finds the coordinator");
        }
        let transactional_id = TransactionalId(text(name));
        let mut producer = Self { client, transactional_id, id: -1, epoch: -1, sequence: 0 };
        let answer = producer.init(5, None).await;
        assert_eq!(answer.error_code, NONE);
        producer.become_(answer.producer_id.0, answer.producer_epoch);
        producer
    }

    fn become_(&mut self, id: i64, epoch: i16) {
        (self.id, self.epoch, self.sequence) = (id, epoch, 0);
    }

    /// Apache Kafka's answers that ask for patience are not the end of it.
    async fn init(&mut self, version: i16, expected: Option<(i64, i16)>) -> InitProducerIdResponse {
        let (id, epoch) = expected.unwrap_or((-1, -1));
        let mut request = InitProducerIdRequest::default()
            .with_transactional_id(Some(self.transactional_id.clone()))
            .with_transaction_timeout_ms(60_000);
        if version >= 3 {
            request = request.with_producer_id(id.into()).with_producer_epoch(epoch);
        }
        loop {
            let answer = self.client.call(version, &request).await;
            if !matches!(answer.error_code, 14..=16 | CONCURRENT_TRANSACTIONS) {
                return answer;
            }
        }
    }

    async fn add(&mut self, version: i16, partitions: &[(&Topic, i32)]) -> Vec<i16> {
        let topic = |(topic, partition): &(&Topic, i32)| {
            AddPartitionsToTxnTopic::default().with_name(topic.wire_name()).with_partitions(vec![*partition])
        };
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.transactional_id.clone())
            .with_v3_and_below_producer_id(self.id.into())
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(partitions.iter().map(topic).collect());
        loop {
            let answer = self.client.call(version, &request).await;
            let topics = answer.results_by_topic_v3_and_below.into_iter();
            let codes: Vec<_> =
                topics.flat_map(|topic| topic.results_by_partition).map(|p| p.partition_error_code).collect();
            if !codes.contains(&CONCURRENT_TRANSACTIONS) {
                return codes;
            }
        }
    }

    async fn add_one(&mut self, version: i16, topic: &Topic) -> i16 {
        self.add(version, &[(topic, 0)]).await[0]
    }

    fn batch(&self, value: &str) -> Bytes {
        BatchBuilder::new()
            .attributes(TRANSACTIONAL)
            .producer(self.id, self.epoch, self.sequence)
            .record(klamm::clock::Clock::system().now_ms(), None, Some(value.as_bytes()))
            .build()
    }

    async fn produce(&mut self, version: i16, topic: &Topic, value: &str) -> i16 {
        let request = produce_request(version, topic, 0, Some(self.batch(value)));
        let request = request.with_transactional_id(Some(self.transactional_id.clone()));
        loop {
            let mut answer = self.client.call(version, &request).await;
            let code = answer.responses.remove(0).partition_responses.remove(0).error_code;
            if code != CONCURRENT_TRANSACTIONS {
                self.sequence += i32::from(code == NONE);
                return code;
            }
        }
    }

    async fn end(&mut self, version: i16, is_commit: bool) -> EndTxnResponse {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.transactional_id.clone())
            .with_producer_id(self.id.into())
            .with_producer_epoch(self.epoch)
            .with_committed(is_commit);
        loop {
            let answer = self.client.call(version, &request).await;
            if answer.error_code != CONCURRENT_TRANSACTIONS {
                return answer;
            }
        }
    }

    /// Ends the transaction in the newer protocol, and goes on with the next epoch.
    async fn end_and_go_on(&mut self, is_commit: bool) {
        let answer = self.end(5, is_commit).await;
        assert_eq!(answer.error_code, NONE);
        self.become_(answer.producer_id.0, answer.producer_epoch);
    }

    async fn state(&mut self) -> (i16, String) {
        let request = DescribeTransactionsRequest::default()
            .with_transactional_ids(vec![self.transactional_id.clone()]);
        let state = self.client.call(0, &request).await.transaction_states.remove(0);
        (state.error_code, state.transaction_state.to_string())
    }

    /// Waits until the transaction has ended everywhere.
    async fn completed(&mut self) -> String {
        loop {
            let (code, state) = self.state().await;
            assert_eq!(code, NONE);
            if state.starts_with("Complete") {
                return state;
            }
        }
    }

    async fn latest(&mut self, topic: &Topic, isolation: i8) -> i64 {
        let partition = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(-1);
        let asked = ListOffsetsTopic::default().with_name(topic.wire_name()).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default()
            .with_replica_id((-1).into())
            .with_isolation_level(isolation)
            .with_topics(vec![asked]);
        self.client.call(5, &request).await.topics.remove(0).partitions.remove(0).offset
    }

    async fn fetch(&mut self, topic: &Topic, isolation: i8) -> PartitionData {
        let partition = FetchPartition::default().with_partition(0).with_partition_max_bytes(1 << 20);
        let asked = FetchTopic::default().with_topic(topic.wire_name()).with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(0)
            .with_max_bytes(1 << 20)
            .with_isolation_level(isolation)
            .with_session_epoch(-1)
            .with_topics(vec![asked]);
        self.client.call(11, &request).await.responses.remove(0).partitions.remove(0)
    }
}

fn offsets(fetched: &PartitionData) -> Vec<(i64, bool)> {
    let records = fetched.records.clone().unwrap_or_default();
    BatchView::all(&records).map(|batch| batch.unwrap()).map(|b| (b.base_offset(), b.is_control())).collect()
}

#[tokio::test]
async fn a_producer_adds_partitions_and_ends_its_transaction_in_every_version() {
    let server = Server::start().await;
    let mut producer = Producer::new(&server).await;
    let topic = producer.client.create_topic(1, &[]).await;
    assert_eq!(producer.produce(8, &topic, "not added").await, INVALID_TXN_STATE);
    assert_eq!(producer.produce(11, &topic, "not added").await, TRANSACTION_ABORTABLE);
    let mut end = 0;
    for version in 0..=3 {
        assert_eq!(producer.add_one(version, &topic).await, NONE);
        assert_eq!(producer.produce(8 + version, &topic, "a").await, NONE);
        assert_eq!(producer.latest(&topic, 0).await, end + 1);
        assert_eq!(producer.latest(&topic, 1).await, end, "it is open");
        assert!(offsets(&producer.fetch(&topic, 1).await).iter().all(|(offset, _)| *offset < end));
        assert_eq!(producer.end(version + 1, true).await.error_code, NONE);
        assert_eq!(producer.completed().await, "CompleteCommit");
        end += 2;
        assert_eq!(producer.latest(&topic, 0).await, end, "a marker takes one offset");
        assert_eq!(producer.latest(&topic, 1).await, end);
        assert_eq!(producer.end(version, true).await.error_code, NONE, "again");
        assert_eq!(producer.end(version, false).await.error_code, INVALID_TXN_STATE);
    }
    let fetched = producer.fetch(&topic, 1).await;
    let all: Vec<_> = (0..end).map(|offset| (offset, offset % 2 == 1)).collect();
    assert_eq!(offsets(&fetched), all, "control batches are returned");
    assert_eq!(fetched.aborted_transactions, Some(Vec::new()));
    server.stop().await;
}

#[tokio::test]
async fn the_first_write_adds_a_partition_and_each_end_gives_a_new_epoch() {
    let server = Server::start().await;
    let mut producer = Producer::new(&server).await;
    let topic = producer.client.create_topic(1, &[]).await;
    assert_eq!(producer.end(5, true).await.error_code, INVALID_TXN_STATE, "nothing to commit");
    for round in 0..3 {
        let (id, epoch) = (producer.id, producer.epoch);
        assert_eq!(producer.produce(12, &topic, "a").await, NONE);
        assert_eq!(producer.produce(12, &topic, "b").await, NONE);
        let ended = producer.end(5, round % 2 == 0).await;
        assert_eq!((ended.error_code, ended.producer_id.0, ended.producer_epoch), (NONE, id, epoch + 1));
        producer.completed().await;
        let again = producer.end(5, round % 2 == 0).await;
        assert_eq!((again.error_code, again.producer_epoch), (NONE, epoch + 1), "the answer may be lost");
        assert_eq!(producer.end(5, round % 2 != 0).await.error_code, INVALID_TXN_STATE);
        assert_eq!(producer.produce(12, &topic, "late").await, INVALID_PRODUCER_EPOCH);
        producer.become_(id, epoch + 1);
    }
    let aborts = producer.end(5, false).await;
    assert_eq!((aborts.error_code, aborts.producer_epoch), (NONE, producer.epoch + 1), "it may not know");
    let fetched = producer.fetch(&topic, 1).await;
    assert_eq!(offsets(&fetched).iter().filter(|(_, is_control)| *is_control).count(), 3);
    let aborted = fetched.aborted_transactions.unwrap();
    let aborted: Vec<_> =
        aborted.iter().map(|aborted| (aborted.producer_id.0, aborted.first_offset)).collect();
    assert_eq!(aborted, [(producer.id, 3)]);
    assert_eq!(producer.fetch(&topic, 0).await.aborted_transactions, None);
    server.stop().await;
}

#[tokio::test]
async fn who_is_fenced_is_told_so_in_words_that_its_version_knows() {
    let server = Server::start().await;
    let mut zombie = Producer::new(&server).await;
    let topic = zombie.client.create_topic(1, &[]).await;
    assert_eq!(zombie.add_one(3, &topic).await, NONE);
    assert_eq!(zombie.produce(8, &topic, "zombie").await, NONE);
    let name = zombie.transactional_id.0.to_string();
    let mut next = Producer::named(&server, &name).await;
    assert_eq!((next.id, next.epoch), (zombie.id, zombie.epoch + 2), "one epoch is for the abort alone");
    for (version, code) in [(0, INVALID_PRODUCER_EPOCH), (1, INVALID_PRODUCER_EPOCH), (2, PRODUCER_FENCED)] {
        assert_eq!(zombie.add_one(version, &topic).await, code);
        assert_eq!(zombie.end(version, true).await.error_code, code);
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(zombie.transactional_id.clone())
            .with_producer_id(zombie.id.into())
            .with_producer_epoch(zombie.epoch)
            .with_group_id(GroupId(text("g")));
        assert_eq!(zombie.client.call(version, &request).await.error_code, code);
    }
    assert_eq!(zombie.end(5, true).await.error_code, PRODUCER_FENCED);
    for version in [8, 11, 12] {
        assert_eq!(zombie.produce(version, &topic, "zombie").await, INVALID_PRODUCER_EPOCH);
    }
    let expected = Some((zombie.id, zombie.epoch));
    assert_eq!(zombie.init(3, expected).await.error_code, INVALID_PRODUCER_EPOCH);
    assert_eq!(zombie.init(4, expected).await.error_code, PRODUCER_FENCED);
    // Who is current goes on after an error, and gets the same answer again (KIP-360).
    let current = Some((next.id, next.epoch));
    for _ in 0..2 {
        let recovered = next.init(4, current).await;
        assert_eq!((recovered.error_code, recovered.producer_epoch), (NONE, next.epoch + 1));
    }
    let aborted = next.fetch(&topic, 1).await.aborted_transactions.unwrap();
    assert_eq!((aborted[0].producer_id.0, aborted[0].first_offset), (zombie.id, 0));
    server.stop().await;
}

#[tokio::test]
async fn a_bad_partition_keeps_the_others_out() {
    let server = Server::start().await;
    let mut producer = Producer::new(&server).await;
    let topic = producer.client.create_topic(1, &[]).await;
    for version in 0..=3 {
        let mut codes = producer.add(version, &[(&topic, 0), (&topic, 7)]).await;
        codes.sort_unstable();
        assert_eq!(codes, [UNKNOWN_TOPIC_OR_PARTITION, OPERATION_NOT_ATTEMPTED]);
    }
    assert_eq!(producer.produce(8, &topic, "not added").await, INVALID_TXN_STATE);
    let id = producer.id;
    producer.id = id + 1_000_000;
    assert_eq!(producer.add_one(3, &topic).await, INVALID_PRODUCER_ID_MAPPING);
    producer.id = id;
    producer.transactional_id = TransactionalId(text(&unique("unknown")));
    assert_eq!(producer.add_one(3, &topic).await, INVALID_PRODUCER_ID_MAPPING);
    assert_eq!(producer.end(4, true).await.error_code, INVALID_PRODUCER_ID_MAPPING);
    assert_eq!(producer.state().await.0, TRANSACTIONAL_ID_NOT_FOUND);
    producer.transactional_id = TransactionalId::default();
    assert_eq!(producer.add_one(3, &topic).await, INVALID_REQUEST);
    assert_eq!(producer.end(5, true).await.error_code, INVALID_REQUEST);
    assert_eq!(producer.state().await.0, INVALID_REQUEST);
    assert_eq!(producer.init(5, None).await.error_code, INVALID_REQUEST);
    server.stop().await;
}

#[tokio::test]
async fn brokers_add_and_verify_partitions_of_several_transactions() {
    let server = Server::start().await;
    let mut one = Producer::new(&server).await;
    let other = Producer::new(&server).await;
    let topic = one.client.create_topic(2, &[]).await;
    let of = |producer: &Producer, verify_only, partitions: Vec<i32>| {
        let topic =
            AddPartitionsToTxnTopic::default().with_name(topic.wire_name()).with_partitions(partitions);
        AddPartitionsToTxnTransaction::default()
            .with_transactional_id(producer.transactional_id.clone())
            .with_producer_id(producer.id.into())
            .with_producer_epoch(producer.epoch)
            .with_verify_only(verify_only)
            .with_topics(vec![topic])
    };
    for version in 4..=5 {
        let added = vec![of(&one, false, vec![0]), of(&other, true, vec![1])];
        let request = AddPartitionsToTxnRequest::default().with_transactions(added);
        let mut answer = one.client.call(version, &request).await.results_by_transaction;
        answer.sort_by_key(|result| result.transactional_id != one.transactional_id);
        let codes = |index: usize| {
            let topics: &Vec<_> = &answer[index].topic_results;
            topics[0].results_by_partition.iter().map(|p| p.partition_error_code).collect::<Vec<_>>()
        };
        assert_eq!((codes(0), codes(1)), (vec![NONE], vec![TRANSACTION_ABORTABLE]));
        let request =
            AddPartitionsToTxnRequest::default().with_transactions(vec![of(&one, true, vec![0, 1])]);
        let answer = one.client.call(version, &request).await.results_by_transaction.remove(0);
        let mut verified = answer.topic_results[0].results_by_partition.clone();
        verified.sort_by_key(|partition| partition.partition_index);
        let verified: Vec<_> = verified.iter().map(|partition| partition.partition_error_code).collect();
        assert_eq!(verified, [NONE, TRANSACTION_ABORTABLE]);
    }
    server.stop().await;
}

async fn commit_offset(
    producer: &mut Producer,
    version: i16,
    group: &str,
    topic: &Topic,
    offset: i64,
) -> i16 {
    let partition =
        TxnOffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(offset);
    let committed =
        TxnOffsetCommitRequestTopic::default().with_name(topic.wire_name()).with_partitions(vec![partition]);
    let request = TxnOffsetCommitRequest::default()
        .with_transactional_id(producer.transactional_id.clone())
        .with_group_id(GroupId(text(group)))
        .with_producer_id(producer.id.into())
        .with_producer_epoch(producer.epoch)
        .with_topics(vec![committed]);
    loop {
        let answer = producer.client.call(version, &request).await;
        let code = answer.topics[0].partitions[0].error_code;
        if !matches!(code, 14..=16 | CONCURRENT_TRANSACTIONS) {
            return code;
        }
    }
}

async fn committed_offset(
    client: &mut Client,
    group: &str,
    topic: &Topic,
    require_stable: bool,
) -> (i64, i16) {
    let asked = OffsetFetchRequestTopics {
        name: topic.name.clone(),
        partition_indexes: vec![0],
        ..OffsetFetchRequestTopics::default()
    };
    let asked = OffsetFetchRequestGroup {
        group_id: group.to_owned(),
        topics: Some(vec![asked]),
        ..OffsetFetchRequestGroup::default()
    };
    let request = OffsetFetchRequest { groups: vec![asked], require_stable, ..OffsetFetchRequest::default() };
    let mut answer = client.call(8, &request).await;
    let mut group = answer.groups.remove(0);
    assert_eq!(group.error_code, NONE);
    let partition = group.topics.remove(0).partitions.remove(0);
    (partition.committed_offset, partition.error_code)
}

#[tokio::test]
async fn offsets_of_a_transaction_count_when_it_is_committed() {
    let server = Server::start().await;
    let mut producer = Producer::new(&server).await;
    let mut client = server.connect().await;
    let topic = client.create_topic(1, &[]).await;
    let group = unique("group");
    let asked = FindCoordinatorRequest::default().with_key(text(&group));
    while client.call(3, &asked).await.error_code != NONE {}
    let mut now = -1;
    for version in 0..=5 {
        if version < 5 {
            let refused = commit_offset(&mut producer, version, &group, &topic, 99).await;
            let code = if version < 4 { INVALID_TXN_STATE } else { TRANSACTION_ABORTABLE };
            assert_eq!(refused, code, "version {version}: the group was not added");
            let request = AddOffsetsToTxnRequest::default()
                .with_transactional_id(producer.transactional_id.clone())
                .with_producer_id(producer.id.into())
                .with_producer_epoch(producer.epoch)
                .with_group_id(GroupId(text(&group)));
            let version = version.min(4);
            while producer.client.call(version, &request).await.error_code != NONE {}
        }
        let offset = i64::from(version) + 10;
        assert_eq!(commit_offset(&mut producer, version, &group, &topic, offset).await, NONE);
        assert_eq!(committed_offset(&mut client, &group, &topic, false).await, (now, NONE));
        assert_eq!(committed_offset(&mut client, &group, &topic, true).await, (-1, UNSTABLE_OFFSET_COMMIT));
        let is_commit = version % 2 == 0;
        let end = if version < 5 { 4 } else { 5 };
        assert_eq!(producer.end(end, is_commit).await.error_code, NONE);
        producer.completed().await;
        now = if is_commit { offset } else { now };
        assert_eq!(
            committed_offset(&mut client, &group, &topic, true).await,
            (now, NONE),
            "version {version}"
        );
    }
    let late = commit_offset(&mut producer, 5, &group, &topic, 1).await;
    assert_eq!(late, INVALID_PRODUCER_EPOCH, "the last transaction gave a new epoch");
    let nowhere = Topic { name: unique("nowhere"), id: uuid::Uuid::nil() };
    assert_eq!(commit_offset(&mut producer, 5, &group, &nowhere, 1).await, UNKNOWN_TOPIC_OR_PARTITION);
    server.stop().await;
}

fn marker(producer: &Producer, epoch: i16, coordinator_epoch: i32, topic: &Topic) -> WritableTxnMarker {
    let topic = WritableTxnMarkerTopic {
        name: topic.name.clone(),
        partition_indexes: vec![0],
        ..WritableTxnMarkerTopic::default()
    };
    WritableTxnMarker {
        producer_id: producer.id,
        producer_epoch: epoch,
        coordinator_epoch,
        topics: vec![topic],
        ..WritableTxnMarker::default()
    }
}

#[tokio::test]
async fn a_transaction_that_nobody_ends_is_aborted_by_markers() {
    let server = Server::start().await;
    let mut producer = Producer::new(&server).await;
    let topic = producer.client.create_topic(1, &[]).await;
    producer.end_and_go_on(false).await;
    assert_eq!(producer.produce(12, &topic, "hanging").await, NONE);
    let request = DescribeProducersRequest::default().with_topics(vec![
        kafka_protocol::messages::describe_producers_request::TopicRequest::default()
            .with_name(topic.wire_name())
            .with_partition_indexes(vec![0]),
    ]);
    let mut described = producer.client.call(0, &request).await;
    let state = described.topics.remove(0).partitions.remove(0).active_producers.remove(0);
    assert_eq!(
        (state.producer_id.0, state.current_txn_start_offset, state.coordinator_epoch),
        (producer.id, 0, -1)
    );
    let write = async |producer: &mut Producer, version: i16, marker| {
        let request = WriteTxnMarkersRequest { markers: vec![marker], ..WriteTxnMarkersRequest::default() };
        let mut answer = producer.client.call(version, &request).await;
        answer.markers.remove(0).topics.remove(0).partitions.remove(0).error_code
    };
    let nowhere = Topic { name: unique("nowhere"), id: uuid::Uuid::nil() };
    let unknown = marker(&producer, producer.epoch, 0, &nowhere);
    assert_eq!(write(&mut producer, 1, unknown).await, UNKNOWN_TOPIC_OR_PARTITION);
    let late = marker(&producer, producer.epoch - 1, 0, &topic);
    assert_eq!(write(&mut producer, 1, late).await, INVALID_PRODUCER_EPOCH);
    let same = WritableTxnMarker { transaction_version: 2, ..marker(&producer, producer.epoch, 0, &topic) };
    assert_eq!(
        write(&mut producer, 2, same).await,
        INVALID_PRODUCER_EPOCH,
        "a newer one ends with a new epoch"
    );
    let abort = marker(&producer, producer.epoch, 5, &topic);
    assert_eq!(write(&mut producer, 1, abort).await, NONE);
    let older = marker(&producer, producer.epoch, 4, &topic);
    assert_eq!(write(&mut producer, 2, older).await, TRANSACTION_COORDINATOR_FENCED);
    assert_eq!(producer.latest(&topic, 1).await, 2);
    let aborted = producer.fetch(&topic, 1).await.aborted_transactions.unwrap();
    assert_eq!((aborted[0].producer_id.0, aborted[0].first_offset), (producer.id, 0));
    server.stop().await;
}

#[tokio::test]
async fn transactions_are_listed_by_what_is_asked_for() {
    let server = Server::start().await;
    let mut producer = Producer::new(&server).await;
    let topic = producer.client.create_topic(1, &[]).await;
    let name = producer.transactional_id.0.clone();
    let (id, client) = (producer.id, &mut server.connect().await);
    let ask = async |client: &mut Client, version, request: ListTransactionsRequest| {
        let answer = client.call(version, &request).await;
        let found = answer.transaction_states.iter().find(|state| state.transactional_id.0 == name);
        let state = found.map(|state| state.transaction_state.to_string());
        (answer.error_code, answer.unknown_state_filters, state)
    };
    let list = ListTransactionsRequest::default;
    for version in 0..=2 {
        assert_eq!(ask(client, version, list()).await, (NONE, vec![], Some("Empty".to_owned())));
    }
    assert_eq!(producer.produce(12, &topic, "a").await, NONE);
    let ongoing = Some("Ongoing".to_owned());
    let states = |names: &[&str]| list().with_state_filters(names.iter().map(|name| text(name)).collect());
    assert_eq!(ask(client, 0, states(&["Ongoing"])).await, (NONE, vec![], ongoing.clone()));
    assert_eq!(ask(client, 0, states(&["Empty", "Dead"])).await, (NONE, vec![], None));
    let unknown = (NONE, vec![text("ongoing")], None);
    assert_eq!(ask(client, 0, states(&["ongoing"])).await, unknown);
    let ids = |id: i64| list().with_producer_id_filters(vec![id.into()]);
    assert_eq!(ask(client, 1, ids(id)).await.2, ongoing);
    assert_eq!(ask(client, 1, ids(id + 1_000_000)).await.2, None);
    assert_eq!(ask(client, 1, list().with_duration_filter(60_000)).await.2, None);
    let pattern = |pattern: &str| list().with_transactional_id_pattern(Some(text(pattern)));
    assert_eq!(ask(client, 2, pattern("tx-.*")).await.2, ongoing);
    assert_eq!(ask(client, 2, pattern("x-.*")).await.2, None, "the whole of it");
    assert_eq!(ask(client, 2, pattern("")).await.2, ongoing);
    assert_eq!(ask(client, 2, pattern("[")).await.0, INVALID_REGULAR_EXPRESSION);
    producer.end_and_go_on(false).await;
    server.stop().await;
}

#[tokio::test]
async fn what_a_producer_asks_for_is_checked() {
    let server = Server::start().await;
    let mut producer = Producer::new(&server).await;
    let topic = producer.client.create_topic(1, &[]).await;
    for timeout_ms in [0, -1, 900_001] {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(producer.transactional_id.clone()))
            .with_transaction_timeout_ms(timeout_ms);
        assert_eq!(producer.client.call(2, &request).await.error_code, INVALID_TRANSACTION_TIMEOUT);
    }
    let request = produce_request(8, &topic, 0, Some(producer.batch("nobody's")));
    let code = |mut answer: kafka_protocol::messages::ProduceResponse| {
        answer.responses.remove(0).partition_responses.remove(0).error_code
    };
    assert_eq!(code(producer.client.call(8, &request).await), TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    // In a transaction, everything of its producer is part of it.
    assert_eq!(producer.produce(12, &topic, "a").await, NONE);
    let plain = BatchBuilder::new()
        .producer(producer.id, producer.epoch, producer.sequence)
        .record(klamm::clock::Clock::system().now_ms(), None, None)
        .build();
    let request = produce_request(12, &topic, 0, Some(plain));
    assert_eq!(code(producer.client.call(12, &request).await), INVALID_TXN_STATE);
    // A transaction begins with sequence number 0 in each partition.
    producer.end_and_go_on(true).await;
    producer.completed().await;
    producer.sequence = 3;
    assert_eq!(producer.produce(12, &topic, "b").await, 45);
    server.stop().await;
}

#[tokio::test]
async fn a_transaction_goes_on_where_a_topic_is_gone() {
    let server = Server::start().await;
    let mut producer = Producer::new(&server).await;
    let (kept, gone) =
        (producer.client.create_topic(1, &[]).await, producer.client.create_topic(1, &[]).await);
    assert_eq!(producer.produce(12, &kept, "a").await, NONE);
    producer.sequence = 0;
    assert_eq!(producer.produce(12, &gone, "b").await, NONE);
    let name = TopicName(text(&gone.name));
    let request = kafka_protocol::messages::DeleteTopicsRequest::default()
        .with_topic_names(vec![name])
        .with_timeout_ms(PATIENCE_MS);
    assert_eq!(producer.client.call(5, &request).await.responses[0].error_code, NONE);
    producer.end_and_go_on(true).await;
    assert_eq!(producer.completed().await, "CompleteCommit");
    assert_eq!(producer.latest(&kept, 1).await, 2);
    server.stop().await;
}
