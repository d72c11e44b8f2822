//! What Kafka's own classes make of the same states: `golden/`, written by `golden/ShareState.java`. And a coordinator's
//! life on a store.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::combine::combine;
use super::coordinator::{ShareCoordinator, Topics};
use super::journal::Needed;
use super::record::{Record, Snapshot, Update, Value};
use super::settings::ShareCoordinatorSettings;
use crate::clock::Clock;
use crate::config::TopicConfig;
use crate::error::{ErrorCode, StorageError};
use crate::log::compression::Compression;
use crate::log::{LogManager, LogSettings, Partition};
use crate::metrics::Sheet;
use crate::shard::CoordinatorTopic;
use crate::share::types::{SharePartition, StateBatch, StateUpdate};
use crate::storage::{Store, StoreOptions};
use crate::types::{SHARE_GROUP_STATE_TOPIC, parse_kafka_id};

const NOW_MS: i64 = 1_700_000_000_000;

/// `first-last/state/count`, several of them.
pub(super) fn batches(text: &str) -> Vec<StateBatch> {
    let batch = |text: &str| {
        let (offsets, progress) = text.split_once('/').unwrap();
        let (first, last) = offsets.split_once('-').unwrap();
        let (state, count) = progress.split_once('/').unwrap();
        StateBatch {
            first_offset: first.parse().unwrap(),
            last_offset: last.parse().unwrap(),
            delivery_state: state.parse().unwrap(),
            delivery_count: count.parse().unwrap(),
        }
    };
    text.split_whitespace().map(batch).collect()
}

#[test]
fn batches_are_combined_as_kafka_combines_them() {
    let lines = include_str!("golden/combined.txt").lines();
    let mut count = 0;
    for line in lines {
        let fields: Vec<_> = line.split('|').collect();
        let &[start, known, new, combined] = &fields[..] else { unreachable!("{line}") };
        let start = start.parse().unwrap();
        assert_eq!(combine(&batches(known), &batches(new), start), batches(combined), "{line}");
        count += 1;
    }
    assert_eq!(count, 1000);
}

#[test]
fn a_batch_that_ends_before_it_begins_is_left_out() {
    let backwards = batches("5-2/2/9");
    assert_eq!(combine(&batches("1-10/0/1"), &backwards, -1), batches("1-10/0/1"));
    let last = StateBatch { first_offset: 7, last_offset: i64::MAX, delivery_state: 2, delivery_count: 1 };
    assert_eq!(combine(&[last], &batches("8-9/0/1"), -1), [last]);
}

fn hex(text: &str) -> Bytes {
    let digits: Vec<char> = text.chars().collect();
    digits.chunks(2).map(|two| u8::from_str_radix(&two.iter().collect::<String>(), 16).unwrap()).collect()
}

#[test]
fn records_have_the_bytes_of_kafka() {
    for line in include_str!("golden/records.txt").lines() {
        let fields: Vec<_> = line.split('|').collect();
        let &[name, group, topic, partition, numbers, state, key, value] = &fields[..] else {
            unreachable!("{line}")
        };
        let numbers: Vec<i64> = numbers.split(' ').map(|number| number.parse().unwrap()).collect();
        let small = |index: usize| i32::try_from(numbers[index]).unwrap();
        let value = (name != "tombstone").then(|| hex(value));
        let record = Record {
            of: SharePartition {
                group_id: group.into(),
                topic_id: parse_kafka_id(topic).unwrap(),
                partition: partition.parse().unwrap(),
            },
            value: match name {
                "snapshot" => Value::Snapshot(Snapshot {
                    snapshot_epoch: small(0),
                    state_epoch: small(1),
                    leader_epoch: small(2),
                    start_offset: numbers[3],
                    delivery_complete_count: small(4),
                    created_ms: numbers[5],
                    written_ms: numbers[6],
                    batches: batches(state),
                }),
                "update" => Value::Update(Update {
                    snapshot_epoch: small(0),
                    leader_epoch: small(2),
                    start_offset: numbers[3],
                    delivery_complete_count: small(4),
                    batches: batches(state),
                }),
                _ => Value::Deleted,
            },
        };
        assert_eq!(record.key().unwrap(), hex(key), "{line}");
        assert_eq!(record.value().unwrap(), value, "{line}");
        assert_eq!(Record::decode(hex(key), value.clone()).unwrap(), Some(record), "{line}");
        for end in 0..value.as_ref().map_or(0, Bytes::len) {
            assert!(Record::decode(hex(key), value.as_ref().map(|value| value.slice(..end))).is_err());
        }
    }
}

#[test]
fn the_log_is_needed_from_the_oldest_of_the_last_snapshots_on() {
    let record = |partition, value| Record {
        of: SharePartition { group_id: "g".into(), topic_id: Uuid::nil(), partition },
        value,
    };
    let snapshot = || {
        Value::Snapshot(Snapshot {
            snapshot_epoch: 0,
            state_epoch: 0,
            leader_epoch: 0,
            start_offset: 0,
            delivery_complete_count: 0,
            created_ms: 0,
            written_ms: 0,
            batches: Vec::new(),
        })
    };
    let update = || {
        Value::Update(Update {
            snapshot_epoch: 0,
            leader_epoch: 0,
            start_offset: 0,
            delivery_complete_count: 0,
            batches: Vec::new(),
        })
    };
    let mut needed = Needed::default();
    let records = [
        (1, snapshot(), 0),
        (2, snapshot(), 0),
        (1, update(), 0),
        (1, snapshot(), 1),
        (2, update(), 1),
        (2, snapshot(), 3),
        // A tombstone is needed as long as something before it is.
        (1, Value::Deleted, 5),
        (2, Value::Deleted, 7),
        (3, snapshot(), 8),
    ];
    for (offset, (partition, value, from)) in (0..).zip(records) {
        needed.observe(&record(partition, value), offset);
        assert_eq!(needed.from(), from, "after offset {offset}");
    }
}

const STATE: Uuid = Uuid::from_u128(1);
const ORDERS: Uuid = Uuid::from_u128(2);

/// A topic of three partitions.
struct OneTopic;

impl Topics for OneTopic {
    fn partition_count(&self, topic_id: Uuid) -> Option<i32> {
        (topic_id == ORDERS).then_some(3)
    }
}

/// A broker's life: its store, its clock, its coordinator.
struct Life {
    clock: Clock,
    coordinator: Arc<ShareCoordinator>,
    log: Arc<Partition>,
}

impl Life {
    async fn begin(directory: &std::path::Path) -> Self {
        let clock = Clock::virtual_at(NOW_MS);
        let options = StoreOptions { node_id: 1, cluster_id: None };
        let store = loop {
            match Store::open(directory, &options) {
                Ok(store) => break store,
                // The shards of the life before end in a moment.
                Err(StorageError::Locked { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        let logs = LogManager::open(store, clock.clone(), LogSettings::default()).unwrap();
        let config = Arc::new(TopicConfig::default());
        let log = match logs.get(STATE, 0) {
            Some(log) => log,
            None => logs.create(SHARE_GROUP_STATE_TOPIC, STATE, 0, config).unwrap(),
        };
        let settings = ShareCoordinatorSettings {
            updates_per_snapshot: 3,
            compression: Compression::Lz4,
            ..ShareCoordinatorSettings::default()
        };
        let coordinator = ShareCoordinator::new(clock.clone(), logs, settings, Arc::new(OneTopic));
        coordinator.lead(&CoordinatorTopic { id: STATE, partition_count: 1, led: vec![(0, 0)] });
        Self { clock, coordinator, log }
    }

    /// Ends it, so that another one can begin.
    fn end(self) {
        self.coordinator.stop();
    }

    async fn write(&self, partition: i32, start_offset: i64) {
        let update = StateUpdate {
            state_epoch: 1,
            leader_epoch: -1,
            start_offset,
            delivery_complete_count: 0,
            batches: batches(&format!("{start_offset}-{}/2/1", start_offset + 9)),
        };
        self.coordinator.write(&orders(partition), update).await.unwrap();
    }
}

fn orders(partition: i32) -> SharePartition {
    SharePartition { group_id: "g".into(), topic_id: ORDERS, partition }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let life = Life::begin(directory.path()).await;
    for partition in 0..3 {
        life.coordinator.initialize(&orders(partition), 1, 5).await.unwrap();
    }
    for write in 0..10 {
        life.write(0, 5 + write).await;
    }
    life.coordinator.delete(&orders(2)).await.unwrap();
    life.end();
    let life = Life::begin(directory.path()).await;
    let state = life.coordinator.read(&orders(0), 4).await.unwrap();
    assert_eq!((state.state_epoch, state.start_offset), (1, 14));
    assert_eq!(state.batches, batches("14-23/2/1"));
    let summary = life.coordinator.read_summary(&orders(0)).await.unwrap();
    assert_eq!((summary.leader_epoch, summary.delivery_complete_count), (4, 0));
    let fenced = life.coordinator.read(&orders(0), 3).await.unwrap_err();
    assert_eq!(fenced.code, ErrorCode::FencedLeaderEpoch);
    let gone = life.coordinator.read(&orders(2), 0).await.unwrap_err();
    assert_eq!(gone.code, ErrorCode::InvalidRequest);
    let unknown = life.coordinator.initialize(&orders(3), 0, 0).await.unwrap_err();
    assert_eq!(unknown.code, ErrorCode::UnknownTopicOrPartition);
}

#[tokio::test]
async fn the_log_is_pruned_and_gives_the_same_state() {
    let directory = tempfile::tempdir().unwrap();
    let life = Life::begin(directory.path()).await;
    for partition in 0..2 {
        life.coordinator.initialize(&orders(partition), 1, 0).await.unwrap();
    }
    // One of them is hot; the other gets its snapshot because it is cold.
    for write in 0..20 {
        life.write(0, write).await;
    }
    assert_eq!(life.log.offsets().log_start, 0);
    while life.log.offsets().log_start == 0 {
        life.clock.advance(300_000);
        life.write(0, 20).await;
        tokio::task::yield_now().await;
    }
    assert!(life.log.offsets().log_start > 15, "{:?}", life.log.offsets());
    life.coordinator.stop();
    let stopped = life.coordinator.read_summary(&orders(0)).await.unwrap_err();
    assert_eq!(stopped.code, ErrorCode::NotCoordinator);
    life.end();
    let life = Life::begin(directory.path()).await;
    let state = life.coordinator.read(&orders(0), -1).await.unwrap();
    assert_eq!((state.start_offset, state.batches), (20, batches("20-29/2/1")));
    assert_eq!(life.coordinator.read(&orders(1), -1).await.unwrap().start_offset, 0);
}

#[tokio::test]
async fn what_was_written_and_pruned_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let life = Life::begin(directory.path()).await;
    let told = || {
        let sheet = Sheet::new();
        life.coordinator.put_metrics(&sheet);
        let text = sheet.render();
        let lines =
            text.lines().filter_map(|line| line.strip_prefix("kafka_server_share_coordinator_metrics_"));
        let mut lines: Vec<String> = lines.map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(told(), ["num_partitions{state=\"active\"} 1", "write_total 0"]);
    life.coordinator.initialize(&orders(0), 1, 0).await.unwrap();
    for write in 0..20 {
        life.write(0, write).await;
    }
    assert!(life.coordinator.read(&orders(1), 0).await.is_err());
    let loaded = ["partition_load_time_avg 0", "partition_load_time_max 0"];
    let written = ["write_latency_avg 0", "write_latency_max 0", "write_total 20"];
    assert_eq!(told(), [&["num_partitions{state=\"active\"} 1"], &loaded[..], &written[..]].concat());
    life.clock.advance(60_001);
    assert_eq!(told(), ["num_partitions{state=\"active\"} 1", "write_total 20"]);
    let pruned = || told().into_iter().find(|line| line.starts_with("last_pruned_offset"));
    while pruned().is_none() {
        life.clock.advance(300_000);
        life.write(0, 20).await;
        tokio::task::yield_now().await;
    }
    let at_least_one = pruned().is_some_and(|line| {
        let offset = line.strip_prefix("last_pruned_offset{topic=\"__share_group_state\",partition=\"0\"} ");
        offset.is_some_and(|offset| offset.parse::<i64>().is_ok_and(|offset| offset > 0))
    });
    assert!(at_least_one, "{:?}", told());
}

#[tokio::test]
async fn a_topic_that_is_deleted_takes_its_state_along() {
    let directory = tempfile::tempdir().unwrap();
    let life = Life::begin(directory.path()).await;
    for partition in 0..3 {
        life.coordinator.initialize(&orders(partition), 1, 0).await.unwrap();
    }
    let before = life.log.offsets().log_end;
    life.coordinator.topics_deleted(vec![Uuid::from_u128(7), ORDERS]).await;
    assert_eq!(life.log.offsets().log_end, before + 3);
    assert_eq!(life.coordinator.read(&orders(0), -1).await.unwrap_err().code, ErrorCode::InvalidRequest);
}
