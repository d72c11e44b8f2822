//! ListOffsets, DeleteRecords and OffsetForLeaderEpoch: where things are in a log.
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use klamm::clock::Clock;
use klamm::log::batch::BatchBuilder;
use klamm::protocol::messages::{DeleteRecordsRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest};
use protocol_tests::server::{Client, PATIENCE_MS, Server, Topic, batch, unique};

const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const UNSUPPORTED_VERSION: i16 = 35;
const INVALID_REQUEST: i16 = 42;
const POLICY_VIOLATION: i16 = 44;
const UNKNOWN_LEADER_EPOCH: i16 = 75;

/// Error code, offset and timestamp for a time.
async fn find(client: &mut Client, version: i16, topic: &Topic, timestamp: i64) -> (i16, i64, i64) {
    let asked = ListOffsetsPartition::default().with_timestamp(timestamp).with_current_leader_epoch(-1);
    let asked = ListOffsetsTopic::default().with_name(topic.wire_name()).with_partitions(vec![asked]);
    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![asked]);
    let answer = client.call(version, &request).await;
    let found = &answer.topics[0].partitions[0];
    (found.error_code, found.offset, found.timestamp)
}

#[tokio::test]
async fn times_and_special_times_are_found() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = client.create_topic(1, &[]).await;
    let now_ms = Clock::system().now_ms();
    for times in [[100, 200], [500, 300], [400, 400]] {
        let add = |builder: BatchBuilder, ms: i64| builder.record(now_ms + ms, None, Some(b"v"));
        let records = times.into_iter().fold(BatchBuilder::new(), add).build();
        client.produce(9, &topic, 0, Some(records)).await;
    }
    for (version, timestamp, expected) in [
        (1, -1, (0, 6, -1)),
        (1, -2, (0, 0, -1)),
        (7, -3, (0, 2, now_ms + 500)),
        (6, -3, (UNSUPPORTED_VERSION, -1, -1)),
        (8, -4, (0, 0, -1)),
        (7, -4, (UNSUPPORTED_VERSION, -1, -1)),
        (8, -5, (UNSUPPORTED_VERSION, -1, -1)),
        (10, -6, (UNSUPPORTED_VERSION, -1, -1)),
        (11, -7, (UNSUPPORTED_VERSION, -1, -1)),
        (11, now_ms, (0, 0, now_ms + 100)),
        (1, now_ms + 101, (0, 1, now_ms + 200)),
        (5, now_ms + 201, (0, 2, now_ms + 500)),
        (5, now_ms + 500, (0, 2, now_ms + 500)),
        (5, now_ms + 501, (0, -1, -1)),
    ] {
        let found = find(&mut client, version, &topic, timestamp).await;
        assert_eq!(found, expected, "version {version}, {}", timestamp - now_ms.max(0));
    }
    for timestamp in [-5, -6] {
        let (code, offset, _) = find(&mut client, 11, &topic, timestamp).await;
        assert_eq!((code, offset), (0, -1), "{timestamp}");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_empty_log_has_a_start_and_an_end_and_no_times() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = client.create_topic(1, &[]).await;
    for (timestamp, expected) in
        [(-1, (0, 0, -1)), (-2, (0, 0, -1)), (-3, (0, -1, -1)), (-4, (0, 0, -1)), (0, (0, -1, -1))]
    {
        assert_eq!(find(&mut client, 11, &topic, timestamp).await, expected, "{timestamp}");
    }
    server.stop().await;
}

#[tokio::test]
async fn duplicates_strangers_and_newer_epochs_are_errors() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = client.create_topic(2, &[]).await;
    let asked = |partition| {
        ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_timestamp(-1)
            .with_current_leader_epoch(-1)
    };
    let partitions = vec![asked(0), asked(0), asked(1), asked(7), asked(1).with_partition_index(9)];
    let named = ListOffsetsTopic::default().with_name(topic.wire_name()).with_partitions(partitions);
    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![named]);
    let answer = client.call(6, &request).await;
    let mut codes: Vec<_> = answer.topics[0]
        .partitions
        .iter()
        .map(|partition| (partition.partition_index, partition.error_code))
        .collect();
    codes.sort_unstable();
    let unknown = UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(codes, [(0, INVALID_REQUEST), (1, 0), (7, unknown), (9, unknown)]);
    let newer = ListOffsetsTopic::default()
        .with_name(topic.wire_name())
        .with_partitions(vec![asked(0).with_current_leader_epoch(5)]);
    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![newer]);
    let answer = client.call(6, &request).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, UNKNOWN_LEADER_EPOCH);
    server.stop().await;
}

async fn delete(client: &mut Client, topic: &Topic, offset: i64) -> (i16, i64) {
    let partition = DeleteRecordsPartition::default().with_offset(offset);
    let named = DeleteRecordsTopic::default().with_name(topic.wire_name()).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![named]).with_timeout_ms(PATIENCE_MS);
    let answer = client.call(2, &request).await;
    let deleted = &answer.topics[0].partitions[0];
    (deleted.error_code, deleted.low_watermark)
}

#[tokio::test]
async fn deleting_records_moves_the_start_of_the_log() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = client.create_topic(1, &[]).await;
    for _ in 0..5 {
        client.produce(9, &topic, 0, Some(batch(&["a"]))).await;
    }
    for (offset, expected, start) in [
        (3, (0, 3), 3),
        // Going back is no error, and does nothing.
        (1, (0, 3), 3),
        (6, (OFFSET_OUT_OF_RANGE, -1), 3),
        (-2, (OFFSET_OUT_OF_RANGE, -1), 3),
        (-1, (0, 5), 5),
    ] {
        assert_eq!(delete(&mut client, &topic, offset).await, expected, "{offset}");
        assert_eq!(find(&mut client, 5, &topic, -2).await, (0, start, -1));
    }
    let nobody = Topic { name: unique("missing"), id: uuid::Uuid::nil() };
    assert_eq!(delete(&mut client, &nobody, -1).await, (UNKNOWN_TOPIC_OR_PARTITION, -1));
    let compacted = client.create_topic(1, &[("cleanup.policy", "compact")]).await;
    assert_eq!(delete(&mut client, &compacted, -1).await, (POLICY_VIOLATION, -1));
    server.stop().await;
}

#[tokio::test]
async fn leader_epochs_end_where_the_log_ends() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = client.create_topic(1, &[]).await;
    for _ in 0..3 {
        client.produce(9, &topic, 0, Some(batch(&["a"]))).await;
    }
    for version in 2..=4 {
        for (current, asked, expected) in [
            (-1, 0, (0, 0, 3)),
            (0, 0, (0, 0, 3)),
            (-1, 5, (0, -1, -1)),
            (3, 0, (UNKNOWN_LEADER_EPOCH, -1, -1)),
        ] {
            let partition = OffsetForLeaderPartition::default()
                .with_current_leader_epoch(current)
                .with_leader_epoch(asked);
            let named = OffsetForLeaderTopic::default()
                .with_topic(topic.wire_name())
                .with_partitions(vec![partition]);
            let request = OffsetForLeaderEpochRequest::default().with_topics(vec![named]);
            let request = if version >= 3 { request.with_replica_id((-1).into()) } else { request };
            let answer = client.call(version, &request).await;
            let end = &answer.topics[0].partitions[0];
            assert_eq!((end.error_code, end.leader_epoch, end.end_offset), expected, "{current} {asked}");
        }
    }
    server.stop().await;
}
