//! Tests of the log as a whole.
#![expect(clippy::unwrap_used, reason = "tests")]

mod append;
mod damage;
mod flips;
mod full;
mod model;
mod read;
mod replica;
mod retention;
mod time;
mod transactions;
mod validate;

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::batch::{BatchBuilder, BatchView};
use super::{Appended, LogManager, LogSettings, Ops, Origin, Partition, ReadUpTo};
use crate::clock::Clock;
use crate::config::TopicConfig;
use crate::storage::{Store, StoreOptions};

/// The time at which the tests start.
pub(super) const NOW_MS: i64 = 1_700_000_000_000;
pub(super) const TOPIC_ID: Uuid = Uuid::from_u128(77);

/// A store in a directory of its own, and its logs; can be closed and opened again.
pub(super) struct World {
    directory: tempfile::TempDir,
    pub(super) clock: Clock,
    settings: LogSettings,
    logs: Option<Arc<LogManager>>,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with_settings(LogSettings::default())
    }

    fn with_settings(settings: LogSettings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut world = Self { directory, clock: Clock::virtual_at(NOW_MS), settings, logs: None };
        world.open();
        world
    }

    pub(super) fn open(&mut self) {
        let options = StoreOptions { node_id: 1, cluster_id: None };
        let store = Store::open(self.directory.path(), &options).unwrap();
        self.logs = Some(LogManager::open(store, self.clock.clone(), self.settings.clone()).unwrap());
    }

    /// Drops everything without a flush, as a killed process does, and opens it again.
    pub(super) fn reopen(&mut self) {
        self.logs = None;
        self.open();
    }

    pub(super) fn logs(&self) -> &Arc<LogManager> {
        self.logs.as_ref().unwrap()
    }

    pub(super) fn partition(&self) -> Arc<Partition> {
        self.partition_with(|_| {})
    }

    pub(super) fn partition_with(&self, change: impl FnOnce(&mut TopicConfig)) -> Arc<Partition> {
        let mut config = TopicConfig::default();
        change(&mut config);
        self.logs().create("t", TOPIC_ID, 0, Arc::new(config)).unwrap()
    }
}

/// A batch of `count` records of this time, each with a key and a value.
fn batch_at(timestamp: i64, count: usize) -> Bytes {
    let records = (0..count).fold(BatchBuilder::new(), |builder, index| {
        builder.record(timestamp, Some(format!("k{index}").as_bytes()), Some(b"value"))
    });
    records.build()
}

fn batch(count: usize) -> Bytes {
    batch_at(NOW_MS, count)
}

pub(super) async fn append(partition: &Arc<Partition>, batch: Bytes) -> Appended {
    partition.append(batch, Origin::Client, Ops::new()).unwrap().await.unwrap()
}

/// The batches that a consumer reads from an offset on.
pub(super) fn read_all(partition: &Partition, offset: i64) -> Vec<BatchView> {
    let read = partition.read(offset, usize::MAX, true, ReadUpTo::HighWatermark).unwrap();
    read.batches.iter().flat_map(BatchView::all).map(Result::unwrap).collect()
}
