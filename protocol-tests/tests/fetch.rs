//! Fetch: how much is read, when it is answered, sessions, errors.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic, ReplicaState};
use kafka_protocol::messages::fetch_response::PartitionData;
use klamm::log::batch::BatchView;
use klamm::protocol::messages::{DeleteTopicsRequest, FetchRequest, FetchResponse};
use protocol_tests::server::{Client, PATIENCE_MS, Server, Topic, batch, unique};

const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
const UNKNOWN_LEADER_EPOCH: i16 = 75;
const UNKNOWN_TOPIC_ID: i16 = 100;
const FETCH_SESSION_TOPIC_ID_ERROR: i16 = 106;

/// Long enough that a test fails where it is waited for.
const LONG_MS: i32 = 2 * PATIENCE_MS;
const UNLIMITED: i32 = 50_000_000;

fn wanted(partition: i32, offset: i64) -> FetchPartition {
    FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_current_leader_epoch(-1)
        .with_partition_max_bytes(UNLIMITED)
}

/// Asks for these partitions outside of a session, without waiting.
fn request(version: i16, topic: &Topic, partitions: Vec<FetchPartition>) -> FetchRequest {
    let named = FetchTopic::default().with_partitions(partitions);
    let named =
        if version >= 13 { named.with_topic_id(topic.id) } else { named.with_topic(topic.wire_name()) };
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_bytes(UNLIMITED)
        .with_min_bytes(1)
        .with_session_epoch(-1)
        .with_topics(vec![named])
}

fn only(answer: FetchResponse) -> PartitionData {
    assert_eq!((answer.error_code, answer.responses.len()), (0, 1));
    answer.responses.into_iter().next().unwrap().partitions.remove(0)
}

/// Base offsets of the batches that were returned.
fn base_offsets(partition: &PartitionData) -> Vec<i64> {
    let records = partition.records.clone().expect("never null");
    BatchView::all(&records).map(|batch| batch.unwrap().base_offset()).collect()
}

/// A topic of one partition with these batches of one record each.
async fn filled(client: &mut Client, values: &[&str]) -> Topic {
    let topic = client.create_topic(1, &[]).await;
    for value in values {
        assert_eq!(client.produce(9, &topic, 0, Some(batch(&[value]))).await.error_code, 0);
    }
    topic
}

#[tokio::test]
async fn every_version_returns_what_was_appended() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = client.create_topic(1, &[]).await;
    let sent = batch(&["a", "b"]);
    client.produce(9, &topic, 0, Some(sent.clone())).await;
    for version in 4..=18 {
        let answer = only(client.call(version, &request(version, &topic, vec![wanted(0, 0)])).await);
        assert_eq!((answer.error_code, answer.high_watermark, answer.last_stable_offset), (0, 2, 2));
        assert_eq!(answer.log_start_offset, if version >= 5 { 0 } else { -1 });
        assert_eq!(answer.aborted_transactions, None);
        let records = answer.records.unwrap();
        // Leader epoch and offset are the broker's; the rest is as it was sent.
        assert_eq!((&records[..12], &records[16..]), (&sent[..12], &sent[16..]), "version {version}");
        assert_eq!(records[12..16], [0; 4]);
    }
    server.stop().await;
}

#[tokio::test]
async fn committed_readers_get_a_list_of_aborted_transactions() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = filled(&mut client, &["a"]).await;
    let request = request(12, &topic, vec![wanted(0, 0)]).with_isolation_level(1);
    let answer = only(client.call(12, &request).await);
    assert_eq!(answer.aborted_transactions, Some(vec![]));
    assert_eq!(base_offsets(&answer), [0]);
    server.stop().await;
}

#[tokio::test]
async fn whole_batches_are_returned_and_at_least_one() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = client.create_topic(2, &[]).await;
    for partition in [0, 1] {
        for _ in 0..3 {
            client.produce(9, &topic, partition, Some(batch(&["a", "b", "c"]))).await;
        }
    }
    // Inside of a batch: the whole batch.
    let answer = only(client.call(12, &request(12, &topic, vec![wanted(0, 4)])).await);
    assert_eq!(base_offsets(&answer), [3, 6]);
    // Limits that nothing fits into.
    for limited in [
        request(12, &topic, vec![wanted(0, 0).with_partition_max_bytes(1)]),
        request(12, &topic, vec![wanted(0, 0)]).with_max_bytes(1),
    ] {
        let answer = only(client.call(12, &limited).await);
        assert_eq!(base_offsets(&answer), [0]);
    }
    // The second partition has to stay within the limit.
    let size = i32::try_from(batch(&["a", "b", "c"]).len()).unwrap();
    for (bytes_max, second) in [(1, vec![]), (size * 3, vec![]), (size * 5, vec![0, 3])] {
        let both = request(12, &topic, vec![wanted(0, 0), wanted(1, 0)]).with_max_bytes(bytes_max);
        let answer = client.call(12, &both).await;
        let partitions = &answer.responses[0].partitions;
        assert!(!base_offsets(&partitions[0]).is_empty());
        assert_eq!(base_offsets(&partitions[1]), second, "max_bytes {bytes_max}");
        assert_eq!(partitions[1].high_watermark, 9);
    }
    server.stop().await;
}

#[tokio::test]
async fn offsets_outside_of_the_log_are_an_error_and_its_end_is_not() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = filled(&mut client, &["a", "b"]).await;
    let answer = only(client.call(12, &request(12, &topic, vec![wanted(0, 2)])).await);
    assert_eq!((answer.error_code, answer.high_watermark), (0, 2));
    assert_eq!(answer.records, Some(Bytes::new()));
    for offset in [3, -1] {
        // An error is answered at once.
        let wait = request(12, &topic, vec![wanted(0, offset)]).with_max_wait_ms(LONG_MS);
        let answer = only(client.call(12, &wait).await);
        assert_eq!(answer.error_code, OFFSET_OUT_OF_RANGE);
        assert_eq!((answer.high_watermark, answer.last_stable_offset, answer.log_start_offset), (-1, -1, -1));
        assert_eq!(answer.records, Some(Bytes::new()));
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_told_at_once() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = filled(&mut client, &[]).await;
    let nobody = Topic { name: unique("missing"), id: uuid::Uuid::new_v4() };
    for (version, topic, partition, code) in [
        (12, &nobody, wanted(0, 0), UNKNOWN_TOPIC_OR_PARTITION),
        (13, &nobody, wanted(0, 0), UNKNOWN_TOPIC_ID),
        (13, &topic, wanted(5, 0), UNKNOWN_TOPIC_OR_PARTITION),
        (12, &topic, wanted(0, 0).with_current_leader_epoch(9), UNKNOWN_LEADER_EPOCH),
    ] {
        let wait = request(version, topic, vec![partition]).with_max_wait_ms(LONG_MS);
        let answer = only(client.call(version, &wait).await);
        assert_eq!(answer.error_code, code, "version {version}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_fetch_at_the_end_waits_for_its_time() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = filled(&mut client, &["a"]).await;
    let began = Instant::now();
    let wait = request(12, &topic, vec![wanted(0, 1)]).with_max_wait_ms(200);
    let answer = only(client.call(12, &wait).await);
    assert_eq!((answer.error_code, answer.records), (0, Some(Bytes::new())));
    assert!(began.elapsed() >= Duration::from_millis(195), "{:?}", began.elapsed());
    // Who needs nothing waits for nothing.
    let nothing = request(12, &topic, vec![wanted(0, 1)]).with_max_wait_ms(LONG_MS).with_min_bytes(0);
    only(client.call(12, &nothing).await);
    server.stop().await;
}

#[tokio::test]
async fn a_waiting_fetch_is_answered_by_an_append() {
    let server = Server::start().await;
    let (mut consumer, mut producer) = (server.connect().await, server.connect().await);
    let topic = filled(&mut producer, &[]).await;
    let wait = request(12, &topic, vec![wanted(0, 0)]).with_max_wait_ms(LONG_MS);
    let (fetched, _) =
        tokio::join!(consumer.call(12, &wait), producer.produce(9, &topic, 0, Some(batch(&["a"]))));
    assert_eq!(base_offsets(&only(fetched)), [0]);
    server.stop().await;
}

#[tokio::test]
async fn a_waiting_fetch_waits_until_there_is_enough() {
    let server = Server::start().await;
    let (mut consumer, mut producer) = (server.connect().await, server.connect().await);
    let topic = filled(&mut producer, &[]).await;
    let size = i32::try_from(batch(&["a"]).len()).unwrap();
    let wait = request(12, &topic, vec![wanted(0, 0)]).with_max_wait_ms(LONG_MS).with_min_bytes(3 * size);
    let (fetched, ()) = tokio::join!(consumer.call(12, &wait), async {
        for _ in 0..3 {
            producer.produce(9, &topic, 0, Some(batch(&["a"]))).await;
        }
    });
    assert_eq!(base_offsets(&only(fetched)), [0, 1, 2]);
    server.stop().await;
}

/// The next request of a session, without changes.
fn next(session_id: i32, epoch: i32) -> FetchRequest {
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_bytes(UNLIMITED)
        .with_min_bytes(1)
        .with_session_id(session_id)
        .with_session_epoch(epoch)
}

#[tokio::test]
async fn a_session_is_told_what_changed() {
    let server = Server::start().await;
    for version in [7, 12, 13, 18] {
        let mut client = server.connect().await;
        let topic = client.create_topic(3, &[]).await;
        let all = (0..3).map(|partition| wanted(partition, 0)).collect();
        let opened = client.call(version, &request(version, &topic, all).with_session_epoch(0)).await;
        assert_ne!(opened.session_id, 0);
        assert_eq!(opened.responses[0].partitions.len(), 3);
        let session = opened.session_id;
        // Nothing changed: nothing is told.
        let quiet = client.call(version, &next(session, 1)).await;
        assert_eq!((quiet.error_code, quiet.session_id, quiet.responses.len()), (0, session, 0));
        client.produce(9, &topic, 1, Some(batch(&["a"]))).await;
        let told = only(client.call(version, &next(session, 2)).await);
        assert_eq!((told.partition_index, base_offsets(&told)), (1, vec![0]));
        // Read on, and no longer partition 2.
        let mut changed = request(version, &topic, vec![wanted(1, 1)]);
        (changed.session_id, changed.session_epoch) = (session, 3);
        let forgotten = ForgottenTopic::default().with_partitions(vec![2]);
        changed.forgotten_topics_data = vec![if version >= 13 {
            forgotten.with_topic_id(topic.id)
        } else {
            forgotten.with_topic(topic.wire_name())
        }];
        assert!(client.call(version, &changed).await.responses.is_empty());
        client.produce(9, &topic, 2, Some(batch(&["a"]))).await;
        assert!(client.call(version, &next(session, 4)).await.responses.is_empty());
    }
    server.stop().await;
}

/// A session whose partitions are quiet is woken by the one that changes, and answered with that one.
#[tokio::test]
async fn a_waiting_session_is_answered_with_what_changed_meanwhile() {
    let server = Server::start().await;
    let (mut consumer, mut other) = (server.connect().await, server.connect().await);
    let topic = other.create_topic(20, &[]).await;
    let all = (0..20).map(|partition| wanted(partition, 0)).collect();
    let opened = consumer.call(12, &request(12, &topic, all).with_session_epoch(0)).await;
    let session = opened.session_id;
    assert!(consumer.call(12, &next(session, 1)).await.responses.is_empty());
    let wait = next(session, 2).with_max_wait_ms(LONG_MS);
    let (fetched, _) =
        tokio::join!(consumer.call(12, &wait), other.produce(9, &topic, 7, Some(batch(&["a"]))));
    let told = only(fetched);
    assert_eq!((told.partition_index, base_offsets(&told)), (7, vec![0]));
    // Who does not read on is given it again; who does waits for the others.
    let again = only(consumer.call(12, &next(session, 3)).await);
    assert_eq!((again.partition_index, base_offsets(&again)), (7, vec![0]));
    // Several together are enough.
    let size = i32::try_from(batch(&["a"]).len()).unwrap();
    let mut wait = request(12, &topic, vec![wanted(7, 1)]).with_max_wait_ms(LONG_MS).with_min_bytes(3 * size);
    (wait.session_id, wait.session_epoch) = (session, 4);
    let (fetched, ()) = tokio::join!(consumer.call(12, &wait), async {
        for partition in [3, 19, 7] {
            other.produce(9, &topic, partition, Some(batch(&["a"]))).await;
        }
    });
    let mut told: Vec<_> = fetched.responses.iter().flat_map(|topic| &topic.partitions).collect();
    told.sort_by_key(|partition| partition.partition_index);
    let told: Vec<_> = told.into_iter().map(|p| (p.partition_index, base_offsets(p))).collect();
    assert_eq!(told, [(3, vec![0]), (7, vec![1]), (19, vec![0])]);
    // And so is the end of the topic.
    let mut wait = request(12, &topic, [3, 7, 19].map(|p| wanted(p, if p == 7 { 2 } else { 1 })).to_vec());
    (wait.session_id, wait.session_epoch, wait.max_wait_ms) = (session, 5, LONG_MS);
    let delete =
        DeleteTopicsRequest::default().with_topic_names(vec![topic.wire_name()]).with_timeout_ms(LONG_MS);
    let (fetched, _) = tokio::join!(consumer.call(12, &wait), other.call(5, &delete));
    let codes = fetched.responses.iter().flat_map(|topic| &topic.partitions).map(|p| p.error_code);
    assert!(codes.clone().count() > 0 && codes.clone().all(|code| code == UNKNOWN_TOPIC_OR_PARTITION));
    server.stop().await;
}

#[tokio::test]
async fn sessions_that_do_not_fit_are_errors_of_the_whole_answer() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = filled(&mut client, &["a"]).await;
    let open = request(12, &topic, vec![wanted(0, 0)]).with_session_epoch(0);
    let session = client.call(12, &open).await.session_id;
    for (version, request, code) in [
        (12, next(session ^ 0x55, 1), FETCH_SESSION_ID_NOT_FOUND),
        (12, next(session, 5), INVALID_FETCH_SESSION_EPOCH),
        (13, next(session, 1), FETCH_SESSION_TOPIC_ID_ERROR),
        // Closing a session needs no epoch, and is no error where there is none.
        (12, next(session, -1), 0),
        (12, next(session, 1), FETCH_SESSION_ID_NOT_FOUND),
    ] {
        let answer = client.call(version, &request).await;
        assert_eq!((answer.error_code, answer.responses.len()), (code, 0), "{request:?}");
        assert_eq!(answer.session_id, 0);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_follower_that_is_not_one_is_told_so_and_gets_no_session() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = filled(&mut client, &["a"]).await;
    for version in [4, 12, 13, 14, 15, 16, 17, 18] {
        for (epoch, code) in
            [(-1, NOT_LEADER_OR_FOLLOWER), (0, UNKNOWN_LEADER_EPOCH), (9, UNKNOWN_LEADER_EPOCH)]
        {
            // Before version 9 there is no epoch.
            let code = if version < 9 { NOT_LEADER_OR_FOLLOWER } else { code };
            let epoch = if version < 9 { -1 } else { epoch };
            let partition = wanted(0, 0).with_current_leader_epoch(epoch);
            let request = request(version, &topic, vec![partition]).with_max_wait_ms(LONG_MS);
            let request = if version >= 15 {
                let state = ReplicaState::default().with_replica_id(7.into()).with_replica_epoch(5);
                request.with_replica_id((-1).into()).with_replica_state(state)
            } else {
                request.with_replica_id(7.into())
            };
            let request = if version >= 7 { request.with_session_epoch(0) } else { request };
            let answer: FetchResponse = client.call(version, &request).await;
            assert_eq!(answer.session_id, 0, "version {version}");
            let partition = only(answer);
            assert_eq!((partition.error_code, partition.high_watermark), (code, -1), "version {version}");
        }
    }
}
