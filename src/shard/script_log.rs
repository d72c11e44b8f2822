//! A log in which the records of a golden script are written and loaded.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;

use uuid::Uuid;

use super::{Core, Journal};
use crate::clock::Clock;
use crate::config::TopicConfig;
use crate::log::batch::BatchView;
use crate::log::{LogManager, LogSettings, Ops, Origin, Partition, ReadUpTo};
use crate::storage::{Durability, Key, Store, StoreOptions};

const TOPIC_ID: Uuid = Uuid::from_u128(0xC0);

/// Two partitions of a coordinator's topic: one that is led from the start, and one that follows it for a while.
pub(crate) struct ScriptLog {
    logs: Arc<LogManager>,
    partitions: [Arc<Partition>; 2],
    _directory: tempfile::TempDir,
}

impl ScriptLog {
    pub(crate) fn new(topic: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), &StoreOptions { node_id: 1, cluster_id: None }).unwrap();
        let logs = LogManager::open(store, Clock::virtual_at(0), LogSettings::default()).unwrap();
        let config = Arc::new(TopicConfig::default());
        let partitions =
            [0, 1].map(|index| logs.create(topic, TOPIC_ID, index, Arc::clone(&config)).unwrap());
        Self { logs, partitions, _directory: directory }
    }

    /// The states that are loaded from the view, from the log, and from a view of half of the log and the rest of it.
    pub(crate) fn load<C: Core, J: Journal<C>>(
        &self,
        events: &[C::Event],
        journal: impl Fn(Arc<Partition>, Store) -> J,
    ) -> [C; 3] {
        let [led, follower] = &self.partitions;
        let on = |partition: &Arc<Partition>| journal(Arc::clone(partition), self.logs.store().clone());
        let half = events.len() / 2;
        append(&on(led), &events[..half]);
        append(&on(follower), &events[..half]);
        let middle = led.offsets().log_end;
        append(&on(led), &events[half..]);
        self.copy(middle);
        assert_eq!(follower.offsets().log_end, led.offsets().log_end);
        let from_view = on(led).load().unwrap().core;
        let mut ops = Ops::new();
        ops.delete(&Key::CoordinatorView { partition: led.id() });
        self.logs.store().commit_blocking(ops, Durability::Process).unwrap();
        let from_log = on(led).load().unwrap().core;
        // What was replayed is in the view now.
        assert_eq!(led.view_end().unwrap().unwrap_or(0), led.offsets().log_end);
        [from_view, from_log, on(follower).load().unwrap().core]
    }

    /// The state that is loaded from the log alone, by a journal that keeps no view.
    pub(crate) fn load_log<C: Core, J: Journal<C>>(
        &self,
        events: &[C::Event],
        journal: impl Fn(Arc<Partition>, Store) -> J,
    ) -> C {
        let journal = journal(Arc::clone(&self.partitions[0]), self.logs.store().clone());
        append(&journal, events);
        journal.load().unwrap().core
    }

    /// Has the follower append what its leader has from here on, without a view.
    fn copy(&self, from: i64) {
        let [led, follower] = &self.partitions;
        self.logs.store().commit_blocking(Ops::new(), Durability::Process).unwrap();
        let mut next = from;
        while next < led.offsets().log_end {
            let read = led.read(next, 1 << 20, true, ReadUpTo::LogEnd).unwrap();
            for batch in read.batches.iter().flat_map(BatchView::all).map(Result::unwrap) {
                if batch.base_offset() >= next {
                    next = batch.last_offset() + 1;
                    drop(follower.append(batch.into_bytes(), Origin::Internal, Ops::new()).unwrap());
                }
            }
        }
    }
}

/// Appends a few events at a time.
fn append<C: Core>(journal: &impl Journal<C>, events: &[C::Event]) {
    for (number, some) in events.chunks(3).enumerate() {
        let now_ms = i64::try_from(number).unwrap();
        drop(journal.append(now_ms, some).unwrap());
    }
}
