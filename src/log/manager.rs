//! All partitions of this broker.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use uuid::Uuid;

use super::compaction::Cleaner;
use super::epochs::Epochs;
use super::partition::{Partition, Shared, Stored};
use super::producers::Producers;
use super::role::Joins;
use super::state::{PartitionState, Segment, decode_name, delete_records, encode_name};
use super::tail::Tails;
use super::transactions::partitions_with_aborted;
use crate::clock::Clock;
use crate::config::TopicConfig;
use crate::error::StorageError;
use crate::storage::{Durability, Gathering, Key, KeyPrefix, Ops, Recovery, Store};
use crate::types::{LeaderEpoch, Offset, PartitionId, TimestampMs};

/// What holds for every log of a broker.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// `producer.id.expiration.ms`: how long the state of a silent producer is kept.
    pub producer_id_expiration_ms: i64,
    /// How many bytes of the newest batches are kept in memory, over all partitions.
    pub tail_bytes: usize,
    /// `replica.lag.time.max.ms`: how long a follower may be behind and stay in sync.
    pub replica_lag_time_max_ms: i64,
}

/// Enough for some tenths of a second at full speed: consumers that keep up are served from memory.
const TAIL_BYTES: usize = 24 << 20;

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            producer_id_expiration_ms: 86_400_000,
            tail_bytes: TAIL_BYTES,
            replica_lag_time_max_ms: 30_000,
        }
    }
}

/// All partitions of this broker.
pub struct LogManager {
    shared: Arc<Shared>,
    pub(super) cleaner: Cleaner,
    settings: LogSettings,
    topics: RwLock<HashMap<Uuid, Topic>>,
    /// The partition id that is used next. Held while partitions are created or deleted.
    next_id: Mutex<u32>,
    /// Partitions of deleted topics that are still in the store, as it could not be written.
    undeleted: Mutex<Vec<Deleted>>,
}

/// What is removed with a topic.
struct Deleted {
    topic_id: Uuid,
    /// By their numbers in the topic.
    partitions: Vec<(i32, PartitionId)>,
}

struct Topic {
    config: Arc<TopicConfig>,
    partitions: BTreeMap<i32, Arc<Partition>>,
}

/// How long the space of deleted records may wait for more to be deleted.
const RECLAIM_DELAY_MS: i64 = 1_000;

/// How far the clock must have been set forward for retention to wait.
const CLOCK_JUMP_MS: i64 = 60_000;

impl LogManager {
    /// Reads what the store knows of every partition: a few small values each, whatever they
    /// hold. Topics start with the default configuration until [`Self::set_config`] is called.
    ///
    /// # Errors
    /// When the store can not be read, or holds something unknown.
    pub fn open(store: Store, clock: Clock, settings: LogSettings) -> Result<Arc<Self>, StorageError> {
        let next_id = match store.get(&Key::NextPartitionId)? {
            None => 0,
            Some(value) => {
                let bytes = <[u8; 4]>::try_from(&value[..]).map_err(|_| damaged("next partition id"))?;
                u32::from_be_bytes(bytes)
            }
        };
        let shared = Arc::new(Shared {
            store: store.clone(),
            clock,
            tails: Arc::new(Tails::new(settings.tail_bytes)),
            has_garbage: AtomicBool::new(false),
            garbage: Notify::new(),
            sync_at_ms: AtomicI64::new(i64::MAX),
            sync_sooner: Notify::new(),
            brokers: ArcSwap::default(),
            lag_time_max_ms: settings.replica_lag_time_max_ms,
            joins: Joins::default(),
            isr_changes: Mutex::default(),
        });
        let config = Arc::new(TopicConfig::default());
        let mut topics: HashMap<Uuid, Topic> = HashMap::new();
        for stored in read_partitions(&store)? {
            let (topic_id, index) = (stored.topic_id, stored.index);
            let partition = Arc::new(Partition::new(stored, Arc::clone(&shared), &config));
            let new_topic = || Topic { config: Arc::clone(&config), partitions: BTreeMap::new() };
            topics.entry(topic_id).or_insert_with(new_topic).partitions.insert(index, partition);
        }
        let manager = Arc::new(Self {
            shared,
            cleaner: Cleaner::default(),
            settings,
            topics: RwLock::new(topics),
            next_id: Mutex::new(next_id),
            undeleted: Mutex::default(),
        });
        let recovery: Weak<dyn Recovery> = Arc::downgrade(&(Arc::clone(&manager) as Arc<dyn Recovery>));
        store.on_recovery(recovery);
        Ok(manager)
    }

    /// The partition of a topic, if this broker has it.
    pub fn get(&self, topic_id: Uuid, partition: i32) -> Option<Arc<Partition>> {
        self.topics.read().get(&topic_id)?.partitions.get(&partition).cloned()
    }

    /// Creates a partition, durably; answers the one that is there if it exists.
    ///
    /// # Errors
    /// When the store can not be written.
    pub fn create(
        &self,
        topic: &str,
        topic_id: Uuid,
        partition: i32,
        config: Arc<TopicConfig>,
    ) -> Result<Arc<Partition>, StorageError> {
        let mut created = self.create_many(topic, topic_id, &[partition], config)?;
        created.pop().ok_or_else(|| StorageError::Write("nothing was created".to_owned()))
    }

    /// Creates several partitions of a topic in one write, durably; those that exist stay. All of
    /// the topic's partitions get this configuration. Blocks for the time of a small write.
    ///
    /// # Errors
    /// When the store can not be written.
    pub fn create_many(
        &self,
        topic: &str,
        topic_id: Uuid,
        partitions: &[i32],
        config: Arc<TopicConfig>,
    ) -> Result<Vec<Arc<Partition>>, StorageError> {
        let mut next_id = self.next_id.lock();
        let now_ms = self.shared.clock.now_ms();
        let name: Arc<str> = Arc::from(topic);
        let mut ops = Ops::new();
        let mut id = *next_id;
        let mut all = Vec::with_capacity(partitions.len());
        let mut created = Vec::new();
        for index in partitions {
            if let Some(existing) = self.get(topic_id, *index) {
                all.push(existing);
                continue;
            }
            let partition = PartitionId(id);
            id = id
                .checked_add(1)
                .ok_or_else(|| StorageError::Write("the numbers for partitions are used up".to_owned()))?;
            let state = PartitionState::new(now_ms);
            ops.put(&Key::Partition { topic_id, partition: *index }, encode_name(partition, topic));
            ops.put(&Key::PartitionState { partition }, state.encode());
            let stored = Stored {
                topic: Arc::clone(&name),
                topic_id,
                index: *index,
                id: partition,
                state,
                epochs: Epochs::default(),
                producers: Producers::default(),
                closed: VecDeque::new(),
                cleaned_to: None,
            };
            let new = Arc::new(Partition::new(stored, Arc::clone(&self.shared), &config));
            created.push(Arc::clone(&new));
            all.push(new);
        }
        if !created.is_empty() {
            ops.put(&Key::NextPartitionId, id.to_be_bytes().to_vec());
            self.shared.store.commit_blocking(ops, Durability::Process)?;
            *next_id = id;
        }
        let mut topics = self.topics.write();
        let new_topic = || Topic { config: Arc::clone(&config), partitions: BTreeMap::new() };
        let entry = topics.entry(topic_id).or_insert_with(new_topic);
        entry.partitions.extend(created.into_iter().map(|partition| (partition.index(), partition)));
        drop(topics);
        self.set_config(topic_id, config);
        Ok(all)
    }

    /// Forgets a topic and everything that it stored. Whoever waits for its partitions is woken
    /// and finds them gone. Blocks for the time of a small write.
    ///
    /// # Errors
    /// When the store can not be written.
    pub fn delete_topic(&self, topic_id: Uuid) -> Result<(), StorageError> {
        let _creating = self.next_id.lock();
        let Some(topic) = self.topics.write().remove(&topic_id) else { return Ok(()) };
        // No append is queued behind this, as the partitions refuse them from now on.
        topic.partitions.values().for_each(|partition| partition.mark_deleted());
        let numbered = |partition: &Arc<Partition>| (partition.index(), partition.id());
        let partitions = topic.partitions.values().map(numbered).collect();
        self.erase(Deleted { topic_id, partitions })
    }

    /// The numbers of the partitions of a topic that are here.
    pub fn partitions_of(&self, topic_id: Uuid) -> Vec<i32> {
        self.topics
            .read()
            .get(&topic_id)
            .map(|topic| topic.partitions.keys().copied().collect())
            .unwrap_or_default()
    }

    /// Forgets some partitions of a topic, which others go on with. Blocks for the time of a small write.
    ///
    /// # Errors
    /// When the store can not be written.
    pub fn delete_partitions(&self, topic_id: Uuid, partitions: &[i32]) -> Result<(), StorageError> {
        if partitions.is_empty() {
            return Ok(());
        }
        let _creating = self.next_id.lock();
        let removed: Vec<_> = {
            let mut topics = self.topics.write();
            let Some(topic) = topics.get_mut(&topic_id) else { return Ok(()) };
            let removed = partitions.iter().filter_map(|number| topic.partitions.remove(number)).collect();
            if topic.partitions.is_empty() {
                topics.remove(&topic_id);
            }
            removed
        };
        // No append is queued behind this, as the partitions refuse them from now on.
        removed.iter().for_each(|partition| partition.mark_deleted());
        let partitions = removed.iter().map(|partition| (partition.index(), partition.id())).collect();
        self.erase(Deleted { topic_id, partitions })
    }

    /// Removes what the store has of a topic; it is tried again later if that fails.
    fn erase(&self, deleted: Deleted) -> Result<(), StorageError> {
        let erased = self.shared.store.commit_blocking(
            deleted.ops(|topic_id, number| self.get(topic_id, number).is_some()),
            Durability::Process,
        );
        match &erased {
            Ok(()) => self.shared.ask_for_space(),
            Err(_) => self.undeleted.lock().push(deleted),
        }
        erased
    }

    /// Changes the configuration of a topic's partitions.
    pub fn set_config(&self, topic_id: Uuid, config: Arc<TopicConfig>) {
        if let Some(topic) = self.topics.write().get_mut(&topic_id) {
            topic.partitions.values().for_each(|partition| partition.set_config(&config));
            topic.config = config;
        }
    }

    /// Every partition.
    pub fn all(&self) -> Vec<Arc<Partition>> {
        let topics = self.topics.read();
        topics.values().flat_map(|topic| topic.partitions.values().cloned()).collect()
    }

    /// What all partitions share.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The store that the logs are in.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Waits until the store takes more. Awaited before [`Partition::append`], which does not
    /// wait: see the chapter of [`crate::storage`].
    pub async fn admit(&self) {
        self.shared.store.admit().await;
    }

    /// Keeps appends back, so that those that come in together are written together.
    pub fn gather(&self) -> Gathering {
        self.shared.store.gather()
    }

    /// Removes old records and the state of silent producers every `interval_ms`, for the first time after
    /// `initial_delay_ms`, and gives back the space of what was deleted. Never ends; dropping it stops it.
    pub async fn run_retention(self: Arc<Self>, initial_delay_ms: i64, interval_ms: i64) {
        let clock = self.shared.clock.clone();
        let mut next_ms = clock.steady_ms().saturating_add(initial_delay_ms);
        let mut watch = JumpWatch::new(&clock);
        // What was deleted just before the last end.
        let mut is_first = true;
        loop {
            if clock.steady_ms() >= next_ms {
                if std::mem::take(&mut is_first) {
                    self.shared.ask_for_space();
                }
                // It reads keys from the disk where something is removed.
                let (logs, now_ms) = (Arc::clone(&self), watch.now_ms(&clock));
                let round = tokio::task::spawn_blocking(move || logs.apply_retention_at(now_ms)).await;
                if let Err(error) = round {
                    tracing::error!(%error, "a round of retention was not finished");
                }
                next_ms = clock.steady_ms().saturating_add(interval_ms);
            }
            let logs = Arc::clone(&self);
            if let Err(error) = tokio::task::spawn_blocking(move || logs.erase_again()).await {
                tracing::error!(%error, "deleted topics were not removed");
            }
            if self.shared.has_garbage.swap(false, Ordering::Relaxed) {
                self.reclaim().await;
            }
            tokio::select! {
                () = clock.sleep_until(next_ms) => {}
                () = self.shared.garbage.notified() => {
                    clock.sleep_until(clock.steady_ms().saturating_add(RECLAIM_DELAY_MS)).await;
                }
            }
        }
    }

    /// Syncs the store when a topic's `flush.ms` asks for it. One sync is for all partitions. Never ends; dropping it
    /// stops it.
    pub async fn run_syncs(self: Arc<Self>) {
        let clock = self.shared.clock.clone();
        loop {
            let at_ms = self.shared.sync_at_ms.load(Ordering::Relaxed);
            if clock.steady_ms() >= at_ms {
                // Before the sync: what is appended from now on asks for another one.
                self.shared.sync_at_ms.store(i64::MAX, Ordering::Relaxed);
                // A failure is known to everybody who writes.
                let _ = self.shared.store.commit(Ops::new(), Durability::Disk).await;
                continue;
            }
            tokio::select! {
                () = clock.sleep_until(at_ms) => {}
                () = self.shared.sync_sooner.notified() => {}
            }
        }
    }

    /// Removes the topics that could not be removed before.
    fn erase_again(&self) {
        if self.shared.store.failure().is_none() {
            for deleted in std::mem::take(&mut *self.undeleted.lock()) {
                // What fails is there again.
                let _ = self.erase(deleted);
            }
        }
    }

    /// One round of retention over all partitions, now.
    #[cfg(test)]
    pub(super) fn apply_retention(&self) {
        self.apply_retention_at(self.shared.clock.now_ms());
    }

    /// One round of retention over all partitions, as if it were this time.
    pub fn apply_retention_at(&self, now_ms: TimestampMs) {
        for partition in self.all() {
            if partition.apply_retention(now_ms) {
                self.shared.ask_for_space();
            }
            partition.expire_producers(now_ms, self.settings.producer_id_expiration_ms);
        }
    }

    async fn reclaim(&self) {
        let store = self.shared.store.clone();
        // Behind what was just deleted, which may still be queued; a failure is known to everybody who writes.
        let _ = store.commit(Ops::new(), Durability::Process).await;
        let reclaimed = tokio::task::spawn_blocking(move || store.reclaim()).await;
        let failure = match reclaimed {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!(error = failure, "the space of deleted records could not be given back");
    }
}

/// The wall clock for retention. It may be set forward by mistake, which must not cost all records: what it jumped
/// since the last look counts at the next look only, if it was not set back until then.
struct JumpWatch {
    wall_ms: TimestampMs,
    steady_ms: i64,
}

impl JumpWatch {
    fn new(clock: &Clock) -> Self {
        Self { wall_ms: clock.now_ms(), steady_ms: clock.steady_ms() }
    }

    fn now_ms(&mut self, clock: &Clock) -> TimestampMs {
        let now = Self::new(clock);
        let before = std::mem::replace(self, now);
        let jump_ms = (self.wall_ms - before.wall_ms) - (self.steady_ms - before.steady_ms);
        if jump_ms < CLOCK_JUMP_MS {
            return self.wall_ms;
        }
        tracing::warn!(
            jump_ms,
            "the clock was set forward: what became old by that is kept for one more interval"
        );
        self.wall_ms - jump_ms
    }
}

impl Recovery for LogManager {
    fn recover(&self) -> Result<(), StorageError> {
        // No partition is created meanwhile.
        let _creating = self.next_id.lock();
        for stored in read_partitions(&self.shared.store)? {
            if let Some(partition) = self.get(stored.topic_id, stored.index) {
                partition.restore(stored);
            }
        }
        self.shared.ask_for_space();
        Ok(())
    }
}

impl Deleted {
    /// `is_there` says which of them have come back meanwhile: those keep their names.
    fn ops(&self, is_there: impl Fn(Uuid, i32) -> bool) -> Ops {
        let mut ops = Ops::new();
        for (number, partition) in self.partitions.iter().copied() {
            if !is_there(self.topic_id, number) {
                ops.delete(&Key::Partition { topic_id: self.topic_id, partition: number });
            }
            ops.delete(&Key::PartitionState { partition });
            ops.delete(&Key::CoordinatorView { partition });
            delete_records(&mut ops, partition);
        }
        ops
    }
}

/// Every partition, as the store has it.
fn read_partitions(store: &Store) -> Result<Vec<Stored>, StorageError> {
    let mut loaded = Loaded::read(store)?;
    let mut names: HashMap<Uuid, Arc<str>> = HashMap::new();
    let partitions = store.scan(&KeyPrefix::Partitions).map(|entry| {
        let (key, value) = entry?;
        let Key::Partition { topic_id, partition: index } = key else {
            return Err(damaged("name of a partition"));
        };
        let (id, name) = decode_name(&value).ok_or_else(|| damaged("name of a partition"))?;
        let topic = Arc::clone(names.entry(topic_id).or_insert_with(|| Arc::from(name)));
        loaded.take(topic, topic_id, index, id)
    });
    partitions.collect()
}

fn damaged(what: &str) -> StorageError {
    StorageError::Damaged(format!("a value can not be understood: {what}"))
}

/// What the store says of partitions, before they are put together.
#[derive(Default)]
struct Loaded {
    states: HashMap<PartitionId, PartitionState>,
    segments: HashMap<PartitionId, VecDeque<Segment>>,
    epochs: HashMap<PartitionId, Vec<(LeaderEpoch, Offset)>>,
    producers: HashMap<PartitionId, Producers>,
    cleaned_to: HashMap<PartitionId, Offset>,
}

impl Loaded {
    fn read(store: &Store) -> Result<Self, StorageError> {
        let mut loaded = Self::default();
        let prefixes = [
            KeyPrefix::PartitionStates,
            KeyPrefix::Segments,
            KeyPrefix::LeaderEpochs,
            KeyPrefix::Producers,
            KeyPrefix::CleanerCheckpoints,
        ];
        for prefix in prefixes {
            for entry in store.scan(&prefix) {
                let (key, value) = entry?;
                loaded.add(&key, &value).ok_or_else(|| damaged(&format!("{key:?}")))?;
            }
        }
        for partition in partitions_with_aborted(store)? {
            let log_end = loaded.states.get(&partition).map_or(0, |state| state.log_end);
            loaded.producers.entry(partition).or_default().transactions.load_aborted(log_end);
        }
        Ok(loaded)
    }

    fn add(&mut self, key: &Key, value: &[u8]) -> Option<()> {
        match key {
            Key::PartitionState { partition } => {
                self.states.insert(*partition, PartitionState::decode(value)?);
            }
            Key::Segment { partition, .. } => {
                self.segments.entry(*partition).or_default().push_back(Segment::decode(value)?);
            }
            Key::LeaderEpoch { partition, epoch } => {
                let start = Offset::from_be_bytes(value.try_into().ok()?);
                self.epochs.entry(*partition).or_default().push((*epoch, start));
            }
            Key::Producer { partition, producer_id } => {
                self.producers.entry(*partition).or_default().load(*producer_id, value)?;
            }
            Key::CleanerCheckpoint { partition } => {
                self.cleaned_to.insert(*partition, Offset::from_be_bytes(value.try_into().ok()?));
            }
            Key::Extent { .. }
            | Key::TimeIndex { .. }
            | Key::MetaProperties
            | Key::QuorumState
            | Key::NextPartitionId
            | Key::WriteProbe
            | Key::BootId
            | Key::GroupRecord { .. }
            | Key::Partition { .. }
            | Key::AbortedTransaction { .. }
            | Key::CoordinatorView { .. }
            | Key::Group { .. }
            | Key::GroupOffset { .. }
            | Key::PendingOffset { .. }
            | Key::TransactionalId { .. } => return None,
        }
        Some(())
    }

    fn take(
        &mut self,
        topic: Arc<str>,
        topic_id: Uuid,
        index: i32,
        id: PartitionId,
    ) -> Result<Stored, StorageError> {
        let state = self.states.remove(&id);
        let state = state.ok_or_else(|| damaged(&format!("the state of {topic}-{index} is missing")))?;
        Ok(Stored {
            topic,
            topic_id,
            index,
            id,
            state,
            epochs: Epochs::load(self.epochs.remove(&id).unwrap_or_default()),
            producers: self.producers.remove(&id).unwrap_or_default(),
            closed: self.segments.remove(&id).unwrap_or_default(),
            cleaned_to: self.cleaned_to.remove(&id),
        })
    }
}
