//! One partition's log: its state, and appending to it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::task::{Context, Poll, ready};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use super::batch::{BatchView, LEADER_EPOCH_AT};
use super::epochs::{EpochChanges, Epochs};
use super::leadership::{Brokers, Terms};
use super::producers::{Producers, Verdict};
use super::role::{IsrChanges, Joins, Role};
use super::settings::LogConfig;
use super::state::{PartitionState, Segment};
use super::tail::{Tail, Tails};
use super::types::{Acks, ActiveProducer, AppendError, Appended, Offsets, Origin};
use super::validate::{Valid, into_mut, validate};
use super::verification::Verification;
use super::waiters::Waiters;
use super::watch::{Change, Watch, Watchers};
use crate::clock::Clock;
use crate::config::TopicConfig;
use crate::error::{ApiError, ErrorCode, StorageError};
use crate::storage::{Durability, Key, Ops, Purpose, Store};
use crate::types::{CLUSTER_METADATA_TOPIC_ID, LeaderEpoch, Offset, PartitionId, TimestampMs};

/// What all partitions of a broker share.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) tails: Arc<Tails>,
    /// Whether something was deleted whose space was not given back yet.
    pub(super) has_garbage: AtomicBool,
    /// Tells the retention task of it.
    pub(super) garbage: Notify,
    /// When the store must be synced on the steady clock, `i64::MAX` if nothing asks for it.
    pub(super) sync_at_ms: AtomicI64,
    /// Tells the task that syncs of an earlier time.
    pub(super) sync_sooner: Notify,
    /// The registered brokers.
    pub(super) brokers: ArcSwap<Brokers>,
    /// `replica.lag.time.max.ms`.
    pub(super) lag_time_max_ms: i64,
    /// Led partitions that a follower asks to be in sync with.
    pub(super) joins: Joins,
    pub(super) isr_changes: Mutex<IsrChanges>,
}

impl Shared {
    /// Asks for a sync of what was queued so far after this time at the latest.
    fn sync_within(&self, flush_ms: i64) {
        let at_ms = self.clock.steady_ms().saturating_add(flush_ms);
        if at_ms < self.sync_at_ms.load(Ordering::Relaxed)
            && at_ms < self.sync_at_ms.fetch_min(at_ms, Ordering::Relaxed)
        {
            self.sync_sooner.notify_one();
        }
    }

    /// Asks for the space of deleted records.
    pub(super) fn ask_for_space(&self) {
        self.has_garbage.store(true, Ordering::Relaxed);
        self.garbage.notify_one();
    }
}

/// One partition's log.
pub struct Partition {
    topic: Arc<str>,
    topic_id: Uuid,
    index: i32,
    id: PartitionId,
    /// `topic-index`, for messages.
    name: String,
    pub(super) shared: Arc<Shared>,
    /// The newest batches, the ones that are not stored yet among them.
    pub(super) tail: Tail,
    config: ArcSwap<(Arc<TopicConfig>, LogConfig)>,
    pub(super) inner: Mutex<Inner>,
}

/// What changes.
pub(super) struct Inner {
    pub(super) log_start: Offset,
    /// The next offset: batches below may still be on their way to the store.
    pub(super) log_end: Offset,
    /// Everything below is stored.
    pub(super) stored_end: Offset,
    /// Everything below may be read by consumers. With one replica it follows the stored end, with several the slowest
    /// of those in sync; a follower is told by its leader.
    pub(super) high_watermark: Offset,
    pub(super) role: Role,
    /// How often this node stopped to lead: what was appended before is not waited for after that.
    pub(super) tenure: u32,
    /// How often the end of the log was taken back: what was queued before does not count as stored after that.
    pub(super) generation: u32,
    /// Whether the end of the log is being taken back at this moment.
    pub(super) is_truncating: bool,
    /// The bytes of what is stored and not below the high watermark.
    pub(super) uncommitted_bytes: u64,
    /// The bytes that leaders sent since the start.
    pub(super) replicated_bytes: u64,
    /// Who waits for the high watermark.
    pub(super) commits: Waiters,
    /// Who waits for the low watermark.
    pub(super) deletions: Waiters,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) grown_to: TimestampMs,
    pub(super) epochs: Epochs,
    pub(super) producers: Producers,
    /// The segments before the active one.
    pub(super) closed: VecDeque<Segment>,
    pub(super) active: Segment,
    /// How many records were appended since the last one that asked for a sync.
    unsynced: i64,
    /// Up to where the log was compacted; `None` if it never was.
    pub(super) cleaned_to: Option<Offset>,
    /// The first and the last of the extents that a rewrite on its way to the store replaces:
    /// what the store shows of them may be about to change.
    pub(super) rewriting: Option<(Offset, Offset)>,
    pub(super) is_deleted: bool,
    pub(super) watchers: Watchers,
    /// Those who look at the log's end.
    pub(super) end_watchers: Watchers,
}

/// What a partition is made of, as it was stored.
pub(super) struct Stored {
    pub(super) topic: Arc<str>,
    pub(super) topic_id: Uuid,
    pub(super) index: i32,
    pub(super) id: PartitionId,
    pub(super) state: PartitionState,
    pub(super) epochs: Epochs,
    pub(super) producers: Producers,
    pub(super) closed: VecDeque<Segment>,
    pub(super) cleaned_to: Option<Offset>,
}

impl From<Stored> for Inner {
    fn from(stored: Stored) -> Self {
        let Stored { state, epochs, mut producers, closed, cleaned_to, .. } = stored;
        producers.transactions.on_high_watermark(state.high_watermark);
        Self {
            log_start: state.log_start,
            log_end: state.log_end,
            stored_end: state.log_end,
            high_watermark: state.high_watermark,
            role: Role::of_stored(&state),
            tenure: 0,
            generation: 0,
            is_truncating: false,
            uncommitted_bytes: 0,
            replicated_bytes: 0,
            commits: Waiters::default(),
            deletions: Waiters::default(),
            leader_epoch: state.leader_epoch,
            grown_to: state.grown_to,
            epochs,
            producers,
            closed,
            active: state.active,
            unsynced: 0,
            cleaned_to,
            rewriting: None,
            is_deleted: false,
            watchers: Watchers::default(),
            end_watchers: Watchers::default(),
        }
    }
}

impl Partition {
    pub(super) fn new(stored: Stored, shared: Arc<Shared>, config: &Arc<TopicConfig>) -> Self {
        let Stored { topic, topic_id, index, id, .. } = &stored;
        let (topic, topic_id, index, id) = (Arc::clone(topic), *topic_id, *index, *id);
        let inner = Inner::from(stored);
        Self {
            name: format!("{topic}-{index}"),
            topic,
            topic_id,
            index,
            id,
            tail: Tail::new(&shared.tails),
            shared,
            config: ArcSwap::from_pointee((Arc::clone(config), LogConfig::from(&**config))),
            inner: Mutex::new(inner),
        }
    }

    /// Forgets what a failed write did not store.
    pub(super) fn restore(&self, stored: Stored) {
        let mut inner = self.inner.lock();
        if inner.is_deleted {
            return;
        }
        let mut restored = Inner::from(stored);
        // The metadata gave it; the next append makes it known to the store.
        restored.leader_epoch = restored.leader_epoch.max(inner.leader_epoch);
        restored.watchers = std::mem::take(&mut inner.watchers);
        restored.end_watchers = std::mem::take(&mut inner.end_watchers);
        restored.commits = std::mem::take(&mut inner.commits);
        restored.deletions = std::mem::take(&mut inner.deletions);
        restored.role = std::mem::replace(&mut inner.role, Role::Offline);
        restored.high_watermark = inner.high_watermark.min(restored.log_end).max(restored.log_start);
        restored.replicated_bytes = inner.replicated_bytes;
        (restored.tenure, restored.generation) = (inner.tenure, inner.generation + 1);
        // Who waits for the coordinator still does, and no number is given twice.
        restored.producers.verifications = std::mem::take(&mut inner.producers.verifications);
        self.tail.truncate(restored.log_end);
        restored.wake();
        *inner = restored;
    }

    /// The topic's name.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// The topic's id.
    pub fn topic_id(&self) -> Uuid {
        self.topic_id
    }

    /// The partition's number within its topic.
    pub fn index(&self) -> i32 {
        self.index
    }

    /// The number under which it is stored.
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// The partition as Kafka prints it: topic, dash, number.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The topic's configuration.
    pub fn config(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.config.load().0)
    }

    pub(super) fn set_config(&self, config: &Arc<TopicConfig>) {
        self.config.store(Arc::new((Arc::clone(config), LogConfig::from(&**config))));
    }

    pub(super) fn log_config(&self) -> LogConfig {
        self.config.load().1.clone()
    }

    /// The same without a copy, for a moment.
    pub(super) fn config_now(&self) -> arc_swap::Guard<Arc<(Arc<TopicConfig>, LogConfig)>> {
        self.config.load()
    }

    /// Validates one record batch, gives it offsets and queues it for the store, together with
    /// `extra` in the same atomic write. Appends are stored in the order of these calls. A batch
    /// that its producer sent before is not appended again (nor is `extra` written), and answered
    /// like the first time.
    ///
    /// # Errors
    /// When the batch is refused; nothing was queued then, `extra` included.
    pub fn append(
        self: &Arc<Self>,
        batch: Bytes,
        origin: Origin,
        extra: Ops,
    ) -> Result<PendingAppend, AppendError> {
        self.append_with(batch, (origin, Acks::Leader), extra, None)
    }

    /// The same for a batch of a client or coordinator that may have had to be verified: it may begin a transaction
    /// here then.
    ///
    /// # Errors
    /// Likewise; `NOT_ENOUGH_REPLICAS` where fewer replicas are in sync than `min.insync.replicas` and all are asked for; `INVALID_TXN_STATE` where its transaction was ended meanwhile.
    pub fn append_with(
        self: &Arc<Self>,
        batch: Bytes,
        (origin, acks): (Origin, Acks),
        extra: Ops,
        verification: Option<&Verification>,
    ) -> Result<PendingAppend, AppendError> {
        let guard = verification.and_then(Verification::guard);
        let with_start =
            |error: AppendError| AppendError { log_start_offset: self.inner.lock().log_start, ..error };
        let config = self.config.load();
        let now_ms = self.shared.clock.now_ms();
        let valid = validate(batch, origin, &config.1, &self.name, now_ms).map_err(with_start)?;
        let check =
            |producers: &Producers, batch: &BatchView| producers.check(batch, origin, guard, &self.name);
        let appended =
            self.enqueue(valid, (origin, acks), extra, &config.1, now_ms, check).map_err(with_start);
        self.shared.tails.trim();
        appended
    }

    /// Gives a batch offsets and queues it, if `check` lets it.
    pub(super) fn enqueue(
        self: &Arc<Self>,
        valid: Valid,
        (origin, acks): (Origin, Acks),
        extra: Ops,
        config: &LogConfig,
        now_ms: TimestampMs,
        check: impl FnOnce(&Producers, &BatchView) -> Result<Verdict, AppendError>,
    ) -> Result<PendingAppend, AppendError> {
        let Valid { batch, log_append_time } = valid;
        let bytes = batch.len() as u64;
        let mut inner = self.inner.lock();
        self.check_writable(&inner, self.purpose(origin))?;
        // Coordinators answer when all replicas in sync have it.
        let acks = if matches!(origin, Origin::Coordinator { .. }) { Acks::InSync } else { acks };
        inner.role.check_append(acks, config.min_insync_replicas, &self.name)?;
        if let Origin::Coordinator { leader_epoch } = origin
            && leader_epoch != inner.leader_epoch
        {
            let message = format!("Partition {} is not led in epoch {leader_epoch}", self.name);
            return Err(AppendError::with(ErrorCode::NotLeaderOrFollower, message));
        }
        if bytes > config.segment_bytes && !origin.is_trusted() {
            let message = format!(
                "Message batch size is {bytes} bytes in append to partition {}, which exceeds the \
                 maximum configured segment size of {}.",
                self.name, config.segment_bytes
            );
            return Err(AppendError::with(ErrorCode::RecordListTooLarge, message));
        }
        if let Verdict::Duplicate(known) = check(&inner.producers, &batch)? {
            let appended = Appended {
                base_offset: known.base_offset(),
                last_offset: known.last_offset,
                log_append_time_ms: known.timestamp,
                log_start_offset: inner.log_start,
            };
            // Nothing is written; behind the first one in the queue, it is known to be stored.
            return Ok(self.commit(&mut inner, Ops::new(), Durability::Process, appended, 0));
        }
        let base_offset = inner.log_end;
        let last_offset = base_offset + i64::from(batch.last_offset_delta());
        let mut ops = extra;
        if let Origin::Coordinator { .. } = origin {
            view_covers(&mut ops, self.id, last_offset + 1);
        }
        let leader_epoch = inner.leader_epoch;
        let grown_to = self.place(&mut inner, &batch, base_offset, leader_epoch, config, now_ms, &mut ops);
        ops.put(&Key::PartitionState { partition: self.id }, inner.state().encode());
        let batch = placed(batch, base_offset, leader_epoch);
        self.tail.push(base_offset, last_offset, batch.clone());
        ops.extent(self.id, base_offset, batch, grown_to);
        let appended = Appended {
            base_offset,
            last_offset,
            log_append_time_ms: log_append_time.unwrap_or(-1),
            log_start_offset: inner.log_start,
        };
        Ok(self.commit_records(&mut inner, ops, config, appended, bytes))
    }

    /// Takes note of a batch that is put at the end of the log: everything but its bytes. Answers what is for the time
    /// index.
    #[expect(clippy::too_many_arguments, reason = "the parts of one append, on its hot path")]
    pub(super) fn place(
        &self,
        inner: &mut Inner,
        batch: &BatchView,
        base_offset: Offset,
        leader_epoch: LeaderEpoch,
        config: &LogConfig,
        now_ms: TimestampMs,
        ops: &mut Ops,
    ) -> Option<TimestampMs> {
        let bytes = batch.len() as u64;
        let max_timestamp = batch.max_timestamp();
        let last_offset = base_offset + i64::from(batch.last_offset_delta());
        inner.roll_if_full(self.id, bytes, max_timestamp, now_ms, config, ops);
        inner.active.add(base_offset, bytes, max_timestamp, now_ms);
        let changes = inner.epochs.assign(leader_epoch, base_offset);
        put_epochs(ops, self.id, changes);
        inner.producers.update(batch, base_offset, self.id, ops);
        inner.unsynced += last_offset + 1 - inner.log_end;
        inner.log_end = last_offset + 1;
        let grown_to = (max_timestamp > inner.grown_to).then_some(max_timestamp);
        inner.grown_to = grown_to.unwrap_or(inner.grown_to);
        grown_to
    }

    /// Queues records, and sees to it that they are synced when the topic wants it.
    pub(super) fn commit_records(
        self: &Arc<Self>,
        inner: &mut Inner,
        ops: Ops,
        config: &LogConfig,
        appended: Appended,
        bytes: u64,
    ) -> PendingAppend {
        let durability = if inner.unsynced >= config.flush_messages || config.flush_ms <= 0 {
            inner.unsynced = 0;
            Durability::Disk
        } else {
            Durability::Process
        };
        let pending = self.commit(inner, ops, durability, appended, bytes);
        if durability == Durability::Process && config.flush_ms < i64::MAX {
            // Behind the commit: a sync that is asked for before may be written before.
            self.shared.sync_within(config.flush_ms);
        }
        pending
    }

    fn purpose(&self, origin: Origin) -> Purpose {
        match origin {
            Origin::Internal if self.topic_id == CLUSTER_METADATA_TOPIC_ID => Purpose::Metadata,
            Origin::Client => Purpose::Records,
            Origin::Internal | Origin::Coordinator { .. } => Purpose::State,
        }
    }

    pub(super) fn check_writable(&self, inner: &Inner, purpose: Purpose) -> Result<(), AppendError> {
        if inner.is_deleted {
            let message = format!("Partition {} was deleted", self.name);
            return Err(AppendError::with(ErrorCode::UnknownTopicOrPartition, message));
        }
        if inner.is_truncating {
            let message = format!("The end of partition {} is being taken back", self.name);
            return Err(AppendError::with(ErrorCode::NotLeaderOrFollower, message));
        }
        match self.shared.store.refusal(purpose) {
            Some(refusal) => Err(refusal.into()),
            None => Ok(()),
        }
    }

    /// Queues a write; the lock is held, so that writes stand in the order of their offsets.
    fn commit(
        self: &Arc<Self>,
        inner: &mut Inner,
        ops: Ops,
        durability: Durability,
        appended: Appended,
        bytes: u64,
    ) -> PendingAppend {
        let (sender, receiver) = oneshot::channel();
        let partition = Arc::clone(self);
        let (end, generation, tenure) = (inner.log_end, inner.generation, inner.tenure);
        let required = appended.last_offset + 1;
        self.shared.store.commit_then(ops, durability, move |result| {
            let committed = result.map(|()| partition.stored(end, bytes, generation) >= required);
            // Before anybody hears of it, so that whoever drops the last handle then does so.
            drop(partition);
            // Whoever gave up waiting does not hear of it.
            let _ = sender.send(committed);
        });
        PendingAppend { receiver, appended, tenure, partition: Arc::clone(self) }
    }

    /// Queues extents that take the place of others; the lock is held, and says which.
    pub(super) fn commit_rewrite(self: &Arc<Self>, ops: Ops) -> oneshot::Receiver<Result<(), StorageError>> {
        let (sender, receiver) = oneshot::channel();
        let partition = Arc::clone(self);
        self.shared.store.commit_then(ops, Durability::Process, move |result| {
            partition.inner.lock().rewriting = None;
            drop(partition);
            // Whoever gave up waiting does not hear of it.
            let _ = sender.send(result);
        });
        receiver
    }

    /// Called by the writer, in order: everything below `end` is stored, these bytes more than before. Answers the high
    /// watermark.
    pub(super) fn stored(&self, end: Offset, bytes: u64, generation: u32) -> Offset {
        let mut inner = self.inner.lock();
        // What was queued before the end was taken back says nothing about what is there now.
        if generation == inner.generation {
            inner.stored_end = inner.stored_end.max(end);
            inner.uncommitted_bytes += bytes;
            inner.end_watchers.tell(Change::Grown(bytes));
            self.advance(&mut inner);
        }
        inner.high_watermark
    }

    /// Moves the high watermark as far as it may go; answers whether it moved.
    pub(super) fn advance(&self, inner: &mut Inner) -> bool {
        let reached = match &inner.role {
            Role::Leader(leadership) if leadership.has_followers() => {
                let brokers = self.shared.brokers.load();
                leadership.high_watermark(inner.stored_end, &self.terms(&brokers))
            }
            Role::Leader(_) => Some(inner.stored_end),
            Role::Follower(following) => Some(following.high_watermark.min(inner.stored_end)),
            Role::Quorum { high_watermark } => Some((*high_watermark).min(inner.stored_end)),
            Role::Offline => None,
        };
        let Some(high_watermark) = reached.filter(|reached| *reached > inner.high_watermark) else {
            return false;
        };
        let bytes = inner.uncommitted_bytes;
        // The part of the bytes that is left is not known exactly, and need not be.
        let (left, all) = (inner.stored_end - high_watermark, inner.stored_end - inner.high_watermark);
        inner.uncommitted_bytes = match (u64::try_from(left), u64::try_from(all)) {
            (Ok(left @ 1..), Ok(all @ 1..)) => (bytes / all).saturating_mul(left).min(bytes),
            _ => 0,
        };
        inner.high_watermark = high_watermark;
        inner.producers.transactions.on_high_watermark(high_watermark);
        inner.watchers.tell(Change::Grown(bytes));
        if !inner.commits.is_empty() {
            let result = inner.role.check_committed(self.config.load().1.min_insync_replicas);
            inner.commits.reached(high_watermark, result);
        }
        true
    }

    /// What a leader goes by, now.
    pub(super) fn terms<'a>(&self, brokers: &'a Brokers) -> Terms<'a> {
        Terms {
            now_ms: self.shared.clock.steady_ms(),
            lag_time_max_ms: self.shared.lag_time_max_ms,
            min_insync_replicas: self.config.load().1.min_insync_replicas,
            brokers,
        }
    }

    /// The bytes of record batches that leaders sent since the start.
    pub fn replicated_bytes(&self) -> u64 {
        self.inner.lock().replicated_bytes
    }

    /// Where what is stored ends, which is what replicas may read.
    pub fn stored_end(&self) -> Offset {
        self.inner.lock().stored_end
    }

    /// The log's offsets.
    pub fn offsets(&self) -> Offsets {
        self.inner.lock().offsets()
    }

    /// Compares the leader epoch that a client knows with ours; -1 is not compared.
    ///
    /// # Errors
    /// `FENCED_LEADER_EPOCH` for an older one, `UNKNOWN_LEADER_EPOCH` for a newer one.
    pub fn check_leader_epoch(&self, current_leader_epoch: LeaderEpoch) -> Result<(), ErrorCode> {
        compare_epochs(current_leader_epoch, self.leader_epoch())
    }

    /// The epoch under which this broker leads the partition.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.inner.lock().leader_epoch
    }

    /// The largest epoch that is at most `leader_epoch`, and the offset where it ends; (-1, -1)
    /// when no such epoch is known.
    pub fn epoch_end(&self, leader_epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        let inner = self.inner.lock();
        inner.epochs.end_of(leader_epoch, inner.log_end)
    }

    /// How many producers' state is kept.
    pub fn producer_count(&self) -> usize {
        self.inner.lock().producers.count()
    }

    /// The producers whose state is kept, by id.
    pub fn producers(&self) -> Vec<ActiveProducer> {
        self.inner.lock().producers.describe()
    }

    /// Up to where the view of the partition's coordinator covers the log; `None` where there is no view, or none that
    /// fits the log.
    ///
    /// # Errors
    /// When the store can not be read.
    pub fn view_end(&self) -> Result<Option<Offset>, StorageError> {
        Ok(self.stored_view_end()?.filter(|end| *end <= self.inner.lock().log_end))
    }

    pub(super) fn stored_view_end(&self) -> Result<Option<Offset>, StorageError> {
        let value = self.shared.store.get(&Key::CoordinatorView { partition: self.id })?;
        Ok(value.and_then(|value| Some(Offset::from_be_bytes((*value).try_into().ok()?))))
    }

    /// Where this node does not lead, has who leads here next make the view of the partition's coordinator anew: the
    /// cleaner may take away tombstones that the view has not seen.
    ///
    /// # Errors
    /// When the store can not be read.
    pub(super) fn forget_view_unless_led(&self) -> Result<(), StorageError> {
        if self.stored_view_end()?.is_some() {
            let inner = self.inner.lock();
            if inner.role.leadership().is_none() {
                let mut ops = Ops::new();
                ops.delete(&Key::CoordinatorView { partition: self.id });
                drop(self.shared.store.commit(ops, Durability::Process));
            }
        }
        Ok(())
    }

    /// Writes what the view of a coordinator that leads in this epoch has from the log up to here. Blocks.
    ///
    /// # Errors
    /// When the store can not be written, or this node does not lead in this epoch any more.
    pub fn save_view(
        &self,
        mut view: Ops,
        end: Offset,
        leader_epoch: LeaderEpoch,
    ) -> Result<(), StorageError> {
        view_covers(&mut view, self.id, end);
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        {
            // Who follows another leader may have to take back what the view has.
            let inner = self.inner.lock();
            if inner.leader_epoch != leader_epoch || inner.role.leadership().is_none() {
                return Err(StorageError::Write(format!("{} is led by another broker", self.name)));
            }
            self.shared.store.commit_then(view, Durability::Process, move |result| {
                // Whoever gave up waiting does not hear of it.
                let _ = sender.send(result);
            });
        }
        receiver.recv().unwrap_or_else(|_| Err(closed()))
    }

    /// The size of the log in bytes, counted in whole segments as Kafka does.
    pub fn size_bytes(&self) -> u64 {
        self.inner.lock().size_bytes()
    }

    /// Whether the topic was deleted.
    pub fn is_deleted(&self) -> bool {
        self.inner.lock().is_deleted
    }

    /// Marks it deleted and wakes whoever waits.
    pub(super) fn mark_deleted(&self) {
        let mut inner = self.inner.lock();
        inner.is_deleted = true;
        inner.commits.fail(ErrorCode::NotLeaderOrFollower);
        inner.deletions.fail(ErrorCode::NotLeaderOrFollower);
        inner.wake();
        drop(inner);
        self.tail.clear();
    }

    /// Tells `watch` of every change of the high watermark, the log start, the leader epoch, and when the partition is
    /// deleted, under this number, until the watch is dropped or [`Self::unwatch`] is called.
    pub fn watch(&self, watch: &Arc<Watch>, number: u32) {
        self.inner.lock().watchers.add(Arc::downgrade(watch), number);
    }

    /// Tells it no more.
    pub fn unwatch(&self, watch: &Arc<Watch>) {
        self.inner.lock().watchers.remove(watch);
    }
}

/// Compares the leader epoch that somebody knows with ours; -1 is not compared.
pub(super) fn compare_epochs(theirs: LeaderEpoch, ours: LeaderEpoch) -> Result<(), ErrorCode> {
    match theirs {
        ..0 => Ok(()),
        epoch if epoch < ours => Err(ErrorCode::FencedLeaderEpoch),
        epoch if epoch > ours => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// Sets base offset and leader epoch, which the checksum does not cover.
fn placed(batch: BatchView, base_offset: Offset, leader_epoch: LeaderEpoch) -> Bytes {
    if batch.base_offset() == base_offset && batch.leader_epoch() == leader_epoch {
        return batch.into_bytes();
    }
    let mut bytes = into_mut(batch.into_bytes());
    bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
    bytes[LEADER_EPOCH_AT..LEADER_EPOCH_AT + 4].copy_from_slice(&leader_epoch.to_be_bytes());
    bytes.freeze()
}

/// Says that a coordinator's view covers the log of a partition up to here: what it is written together with.
fn view_covers(ops: &mut Ops, partition: PartitionId, end: Offset) {
    ops.put(&Key::CoordinatorView { partition }, end.to_be_bytes().to_vec());
}

pub(super) fn put_epochs(ops: &mut Ops, partition: PartitionId, changes: EpochChanges) {
    for epoch in changes.deleted {
        ops.delete(&Key::LeaderEpoch { partition, epoch });
    }
    if let Some((epoch, start)) = changes.put {
        ops.put(&Key::LeaderEpoch { partition, epoch }, start.to_be_bytes().to_vec());
    }
}

impl Inner {
    pub(super) fn offsets(&self) -> Offsets {
        let first_unstable = self.producers.transactions.first_unstable();
        let last_stable = first_unstable.map_or(self.high_watermark, |offset| offset.max(self.log_start));
        Offsets {
            log_start: self.log_start,
            high_watermark: self.high_watermark,
            last_stable: last_stable.min(self.high_watermark),
            log_end: self.log_end,
        }
    }

    /// The state as it will be when everything that is queued is stored.
    pub(super) fn state(&self) -> PartitionState {
        PartitionState {
            log_start: self.log_start,
            log_end: self.log_end,
            high_watermark: if self.role.is_alone() { self.log_end } else { self.high_watermark },
            leader_epoch: self.leader_epoch,
            grown_to: self.grown_to,
            active: self.active,
        }
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.closed.iter().map(|segment| segment.size_bytes).sum::<u64>() + self.active.size_bytes
    }

    fn roll_if_full(
        &mut self,
        partition: PartitionId,
        bytes: u64,
        max_timestamp: TimestampMs,
        now_ms: TimestampMs,
        config: &LogConfig,
        ops: &mut Ops,
    ) {
        let segment_bytes = config.segment_bytes;
        let segment_ms = config.roll_ms(partition, self.active.base_offset);
        if self.active.is_full_for(bytes, max_timestamp, now_ms, segment_bytes, segment_ms) {
            let full = std::mem::replace(&mut self.active, Segment::new(self.log_end, now_ms));
            ops.put(&Key::Segment { partition, base_offset: full.base_offset }, full.encode());
            self.closed.push_back(full);
        }
    }

    /// Something changed beside the high watermark.
    pub(super) fn wake(&mut self) {
        self.watchers.tell(Change::State);
        self.end_watchers.tell(Change::State);
    }
}

/// An append on its way to the store. It is stored whether or not this is awaited.
pub struct PendingAppend {
    receiver: oneshot::Receiver<Result<bool, StorageError>>,
    appended: Appended,
    partition: Arc<Partition>,
    tenure: u32,
}

impl std::fmt::Debug for PendingAppend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PendingAppend").field("appended", &self.appended).finish_non_exhaustive()
    }
}

impl PendingAppend {
    /// What it will be answered with, if the write succeeds.
    pub fn expected(&self) -> Appended {
        self.appended
    }

    /// Waits until all replicas in sync have it, which is what acks=all asks for.
    ///
    /// # Errors
    /// When it could not be stored; `NOT_LEADER_OR_FOLLOWER` where this node leads no more, and what becomes of the
    /// records is not known; `NOT_ENOUGH_REPLICAS_AFTER_APPEND` where fewer replicas have it than the topic wants.
    pub async fn committed(mut self) -> Result<Appended, ApiError> {
        let is_committed = match (&mut self.receiver).await {
            Ok(result) => result?,
            Err(_) => return Err(closed().into()),
        };
        if !is_committed {
            self.partition.reach(self.appended.last_offset + 1, self.tenure).await?;
        }
        Ok(self.appended)
    }
}

impl Future for PendingAppend {
    type Output = Result<Appended, ApiError>;

    /// Waits until this node has stored it.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match ready!(Pin::new(&mut self.receiver).poll(context)) {
            Ok(result) => result.map_err(ApiError::from),
            Err(_) => Err(closed().into()),
        };
        Poll::Ready(result.map(|_| self.appended))
    }
}

fn closed() -> StorageError {
    StorageError::Write("it is closed".to_owned())
}
