//! The shell around one share partition: it loads the state, keeps what is decided, watches the time, and wakes who waits.
//!
//! Writes go to the persister one at a time. What is decided while one is on its way goes with the next, so that many
//! members who acknowledge together cost one write. An acknowledgement is answered once it is written.

use std::sync::{Arc, Weak};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::partition::{Acknowledgement, Acquired, Ask, FetchedBatch, Limits, SharePartitionState, Write};
use super::persister::Persister;
use super::types::{PartitionState, SharePartition, StateBatch, UNINITIALIZED_START_OFFSET};
use crate::clock::Clock;
use crate::error::{ApiError, ErrorCode};
use crate::log::{Isolation, OffsetQuery, Partition, ReadUpTo};
use crate::metrics::{InFlightCounts, ShareMetrics, SharePartitionCounts};
use crate::types::{LeaderEpoch, Offset};

/// Where the state of share partitions is kept: with the share coordinator, or in a test's memory.
pub trait StateKeeper: Send + Sync + 'static {
    /// What is known of a share partition.
    fn read(
        &self,
        of: SharePartition,
        leader_epoch: LeaderEpoch,
    ) -> BoxFuture<'_, Result<PartitionState, ApiError>>;

    /// Changes it.
    fn write(
        &self,
        of: SharePartition,
        epochs: (i32, LeaderEpoch),
        start_offset: Offset,
        delivery_complete_count: i32,
        batches: Vec<StateBatch>,
    ) -> BoxFuture<'_, Result<(), ApiError>>;
}

impl StateKeeper for Persister {
    fn read(
        &self,
        of: SharePartition,
        leader_epoch: LeaderEpoch,
    ) -> BoxFuture<'_, Result<PartitionState, ApiError>> {
        Box::pin(self.read(of, leader_epoch))
    }

    fn write(
        &self,
        of: SharePartition,
        (state_epoch, leader_epoch): (i32, LeaderEpoch),
        start_offset: Offset,
        delivery_complete_count: i32,
        batches: Vec<StateBatch>,
    ) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(self.write(of, state_epoch, leader_epoch, start_offset, delivery_complete_count, batches))
    }
}

/// Where a group starts to read a partition (`share.auto.offset.reset`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the end.
    Latest,
    /// At the beginning.
    Earliest,
    /// At the first record that is not older than this, in milliseconds.
    ByDuration(i64),
}

/// What the configuration of a group says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareGroupSettings {
    /// What bounds deliveries.
    pub limits: Limits,
    /// Which records the group sees.
    pub isolation: Isolation,
    /// Where it starts.
    pub reset: OffsetReset,
}

impl Default for ShareGroupSettings {
    /// Kafka's defaults.
    fn default() -> Self {
        let limits = Limits {
            lock_duration_ms: 30_000,
            delivery_count_max: 5,
            in_flight_max: 2_000,
            renew_enabled: true,
        };
        Self { limits, isolation: Isolation::ReadUncommitted, reset: OffsetReset::Latest }
    }
}

impl ShareGroupSettings {
    pub(super) fn upto(&self) -> ReadUpTo {
        match self.isolation {
            Isolation::ReadUncommitted => ReadUpTo::HighWatermark,
            Isolation::ReadCommitted => ReadUpTo::LastStable,
        }
    }
}

/// Knows the configurations of groups.
pub trait ShareGroupConfigs: Send + Sync + 'static {
    /// That of one group, as it is now.
    fn of(&self, group_id: &str) -> ShareGroupSettings;
}

/// What all share partitions of a broker use.
pub(super) struct Shared {
    pub(super) keeper: Arc<dyn StateKeeper>,
    pub(super) configs: Arc<dyn ShareGroupConfigs>,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<ShareMetrics>,
    pub(super) stopping: CancellationToken,
}

/// A share partition whose topic partition this broker leads.
pub(super) struct LedSharePartition {
    pub(super) key: SharePartition,
    pub(super) log: Arc<Partition>,
    leader_epoch: LeaderEpoch,
    shared: Arc<Shared>,
    inner: Mutex<Inner>,
    /// There is an earlier timeout than the timer knows.
    timer_changed: Notify,
    pub(super) counts: SharePartitionCounts,
}

struct Inner {
    phase: Phase,
    /// A fetch reads and acquires: one at a time does.
    is_fetching: bool,
    /// When the last one ended, in steady time.
    fetched_at_ms: Option<i64>,
    /// Fetches that wait for something to happen here.
    waiting: Vec<Weak<Notify>>,
    /// Those of them that found another one fetching.
    refused: Vec<Weak<Notify>>,
    /// What is to be written next, and who waits for it.
    queue: Vec<(Write, Option<Written>)>,
    is_writing: bool,
    /// When the timer wakes up, while there is one.
    timer_at_ms: Option<i64>,
}

type Written = oneshot::Sender<Result<(), ApiError>>;

enum Phase {
    Loading,
    Active(SharePartitionState),
    /// It could not be loaded, or another broker leads.
    Over(ApiError),
}

/// Whether a fetch may read here.
pub(super) enum Turn<'a> {
    /// It may, from this offset on.
    Mine(FetchTurn<'a>, Offset),
    /// Not now.
    Later,
    Never(ApiError),
}

/// The right to read and acquire, until it is dropped.
pub(super) struct FetchTurn<'a> {
    of: &'a Arc<LedSharePartition>,
    began_ms: i64,
    /// For how long nobody had it before.
    idle_ms: i64,
}

impl Drop for FetchTurn<'_> {
    fn drop(&mut self) {
        let now_ms = self.of.shared.clock.steady_ms();
        let refused = {
            let mut inner = self.of.inner.lock();
            inner.is_fetching = false;
            inner.fetched_at_ms = Some(now_ms);
            std::mem::take(&mut inner.refused)
        };
        self.of.counts.fetch_lock(now_ms - self.began_ms, self.idle_ms);
        wake(&refused);
    }
}

fn wake(waiting: &[Weak<Notify>]) {
    waiting.iter().filter_map(Weak::upgrade).for_each(|waiting| waiting.notify_one());
}

impl LedSharePartition {
    /// Begins to load it.
    pub(super) fn load(key: SharePartition, log: Arc<Partition>, shared: &Arc<Shared>) -> Arc<Self> {
        let inner = Inner {
            phase: Phase::Loading,
            is_fetching: false,
            fetched_at_ms: None,
            waiting: Vec::new(),
            refused: Vec::new(),
            queue: Vec::new(),
            is_writing: false,
            timer_at_ms: None,
        };
        let led = Arc::new(Self {
            key,
            leader_epoch: log.leader_epoch(),
            log,
            shared: Arc::clone(shared),
            inner: Mutex::new(inner),
            timer_changed: Notify::new(),
            counts: SharePartitionCounts::default(),
        });
        let loading = Arc::clone(&led);
        let stopping = shared.stopping.clone();
        tokio::spawn(async move { stopping.run_until_cancelled(loading.read_state()).await });
        led
    }

    async fn read_state(self: Arc<Self>) {
        let began_ms = self.shared.clock.steady_ms();
        let read = self.shared.keeper.read(self.key.clone(), self.leader_epoch).await;
        let loaded = match read.map_err(|error| as_leader(&error)) {
            Ok(state) => {
                self.initial_offset(&state).and_then(|offset| SharePartitionState::load(&state, offset))
            }
            Err(error) => Err(error),
        };
        self.shared.metrics.loaded(self.shared.clock.steady_ms() - began_ms);
        let waiting = {
            let mut inner = self.inner.lock();
            if matches!(inner.phase, Phase::Loading) {
                inner.phase = match loaded {
                    Ok(state) => Phase::Active(state),
                    Err(error) => {
                        let (group, partition) = (&*self.key.group_id, self.log.name());
                        tracing::warn!(group, partition, %error, "a share partition can not be loaded");
                        Phase::Over(error)
                    }
                };
            }
            // They go on to wait here if there is nothing for them yet.
            inner.waiting.clone()
        };
        wake(&waiting);
    }

    /// Where the group starts if nothing is known of it.
    fn initial_offset(&self, state: &PartitionState) -> Result<Offset, ApiError> {
        if state.start_offset != UNINITIALIZED_START_OFFSET {
            return Ok(state.start_offset);
        }
        let end = OffsetQuery::Latest(Isolation::ReadUncommitted);
        let query = match self.shared.configs.of(&self.key.group_id).reset {
            OffsetReset::Latest => end,
            OffsetReset::Earliest => OffsetQuery::Earliest,
            OffsetReset::ByDuration(ms) => {
                OffsetQuery::Timestamp(self.shared.clock.now_ms().saturating_sub(ms))
            }
        };
        let found = match self.log.offset_for(query)? {
            Some(found) => Some(found),
            // No record is that young.
            None => self.log.offset_for(end)?,
        };
        Ok(found.map_or(0, |found| found.offset))
    }

    /// Whether this broker still leads it. Where it leads it again, another one may have changed the state meanwhile.
    pub(super) fn is_led(&self) -> bool {
        self.log.is_leader() && self.log.leader_epoch() == self.leader_epoch && !self.log.is_deleted()
    }

    /// Whether it can not be used any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.inner.lock().phase, Phase::Over(_))
    }

    /// Whether nothing is held, read or written here.
    pub(super) fn is_idle(&self) -> bool {
        let inner = self.inner.lock();
        let is_active = matches!(inner.phase, Phase::Active(_));
        is_active && !inner.is_fetching && !inner.is_writing && inner.timer_at_ms.is_none()
    }

    /// Nobody uses it any more.
    pub(super) fn fence(&self, error: ApiError) {
        let waiting = {
            let mut inner = self.inner.lock();
            if !matches!(inner.phase, Phase::Over(_)) {
                inner.phase = Phase::Over(error);
            }
            inner.timer_at_ms = None;
            std::mem::take(&mut inner.waiting)
        };
        self.timer_changed.notify_one();
        wake(&waiting);
    }

    /// Wakes this fetch when something happens here that is not in the log.
    pub(super) fn watch(&self, waiting: &Arc<Notify>) {
        let mut inner = self.inner.lock();
        if inner.waiting.len() == inner.waiting.capacity() {
            inner.waiting.retain(|other| other.strong_count() > 0);
        }
        inner.waiting.push(Arc::downgrade(waiting));
    }

    /// Takes the turn to fetch, where it is free and there is something to fetch.
    pub(super) fn take_turn<'a>(self: &'a Arc<Self>, waiting: &Arc<Notify>, limits: &Limits) -> Turn<'a> {
        if !self.is_led() {
            let code = if self.log.is_deleted() {
                ErrorCode::UnknownTopicOrPartition
            } else {
                ErrorCode::NotLeaderOrFollower
            };
            self.fence(code.into());
        }
        let mut inner = self.inner.lock();
        if inner.is_fetching {
            inner.refused.push(Arc::downgrade(waiting));
            return Turn::Later;
        }
        let offset = match &mut inner.phase {
            Phase::Loading => return Turn::Later,
            Phase::Over(error) => return Turn::Never(error.clone()),
            Phase::Active(state) => {
                if !state.can_acquire(limits) {
                    return Turn::Later;
                }
                state.next_fetch_offset()
            }
        };
        inner.is_fetching = true;
        let began_ms = self.shared.clock.steady_ms();
        let idle_ms = inner.fetched_at_ms.map_or(0, |ended_ms| began_ms - ended_ms);
        drop(inner);
        Turn::Mine(FetchTurn { of: self, began_ms, idle_ms }, offset)
    }

    /// Runs what changes the state, while it is there.
    fn change<T>(&self, change: impl FnOnce(&mut SharePartitionState) -> T) -> Option<T> {
        match &mut self.inner.lock().phase {
            Phase::Active(state) => Some(change(state)),
            Phase::Loading | Phase::Over(_) => None,
        }
    }

    /// Delivers what was read.
    pub(super) fn acquire(
        self: &Arc<Self>,
        ask: &Ask<'_>,
        batches: &[FetchedBatch],
        aborted: Option<&[(i64, Offset)]>,
        limits: &Limits,
    ) -> Acquired {
        let now_ms = self.shared.clock.steady_ms();
        let acquired = self.change(|state| state.acquire(now_ms, ask, batches, aborted, limits));
        let acquired = acquired.unwrap_or_default();
        if !acquired.ranges.is_empty() {
            self.set_timer(now_ms.saturating_add(limits.lock_duration_ms));
        }
        acquired
    }

    /// The log starts later than it did; `true` if that is news.
    pub(super) fn log_start_moved(&self) -> bool {
        let log_start = self.log.offsets().log_start;
        self.change(|state| {
            let is_news = log_start > state.start_offset();
            state.log_start_moved(log_start);
            is_news
        })
        .unwrap_or(false)
    }

    /// Takes what a member says, and tells when it is written.
    pub(super) fn acknowledge(
        self: &Arc<Self>,
        member: &str,
        acknowledgements: &[Acknowledgement],
        limits: &Limits,
    ) -> Result<Option<oneshot::Receiver<Result<(), ApiError>>>, ApiError> {
        let now_ms = self.shared.clock.steady_ms();
        let mut inner = self.inner.lock();
        let write = match &mut inner.phase {
            Phase::Active(state) => state.acknowledge(now_ms, member, acknowledgements, limits)?,
            Phase::Loading => return Err(ErrorCode::UnknownTopicOrPartition.into()),
            Phase::Over(error) => return Err(error.clone()),
        };
        let written = write.map(|write| {
            let (sender, receiver) = oneshot::channel();
            self.enqueue(&mut inner, write, Some(sender));
            receiver
        });
        drop(inner);
        if acknowledgements.iter().any(Acknowledgement::renews) {
            // A lock may end earlier than before: its duration counts as it is now.
            self.set_timer(now_ms.saturating_add(limits.lock_duration_ms));
        }
        Ok(written)
    }

    /// Gives back what a member held that left.
    pub(super) fn release(self: &Arc<Self>, member: &str, limits: &Limits) {
        let now_ms = self.shared.clock.steady_ms();
        let mut inner = self.inner.lock();
        if let Phase::Active(state) = &mut inner.phase
            && let Some(write) = state.release(now_ms, member, limits)
        {
            self.enqueue(&mut inner, write, None);
        }
    }

    fn enqueue(self: &Arc<Self>, inner: &mut Inner, write: Write, written: Option<Written>) {
        inner.queue.push((write, written));
        if !std::mem::replace(&mut inner.is_writing, true) {
            let led = Arc::clone(self);
            let stopping = self.shared.stopping.clone();
            tokio::spawn(async move { stopping.run_until_cancelled(led.write_queue()).await });
        }
    }

    /// Writes what is queued, until there is nothing more.
    async fn write_queue(self: Arc<Self>) {
        loop {
            let (queue, start_offset, delivery_complete_count, state_epoch) = {
                let mut inner = self.inner.lock();
                let queue = std::mem::take(&mut inner.queue);
                let Phase::Active(state) = &inner.phase else { return };
                if queue.is_empty() {
                    inner.is_writing = false;
                    return;
                }
                (queue, state.start_offset(), state.delivery_complete_count(), state.state_epoch())
            };
            let batches = queue.iter().flat_map(|(write, _)| write.batches.iter().copied()).collect();
            let epochs = (state_epoch, self.leader_epoch);
            let kept = self.shared.keeper.write(
                self.key.clone(),
                epochs,
                start_offset,
                delivery_complete_count,
                batches,
            );
            let written = kept.await.map_err(|error| as_leader(&error));
            self.written(queue, &written);
        }
    }

    fn written(self: &Arc<Self>, queue: Vec<(Write, Option<Written>)>, written: &Result<(), ApiError>) {
        let now_ms = self.shared.clock.steady_ms();
        let (timeout_ms, waiting) = {
            let mut inner = self.inner.lock();
            let Phase::Active(state) = &mut inner.phase else { return };
            for (write, _) in &queue {
                state.completed(now_ms, write.id, written.is_ok());
            }
            // What was taken back is held again, and its time runs.
            let timeout_ms = if written.is_ok() { None } else { state.next_timeout_ms() };
            (timeout_ms, inner.waiting.iter().map(Weak::clone).collect::<Vec<_>>())
        };
        if let Err(error) = written {
            let (group, partition) = (&*self.key.group_id, self.log.name());
            tracing::warn!(group, partition, %error, "the state of a share partition was not written");
            if ends_leadership(error.code) {
                self.fence(error.clone());
            }
        }
        if let Some(timeout_ms) = timeout_ms {
            self.set_timer(timeout_ms);
        }
        for (_, sender) in queue {
            // Whoever left does not hear of it.
            let _ = sender.map(|sender| sender.send(written.clone()));
        }
        wake(&waiting);
    }

    /// Looks after records that are held, at this time at the latest.
    fn set_timer(self: &Arc<Self>, at_ms: i64) {
        let mut inner = self.inner.lock();
        match inner.timer_at_ms {
            Some(timer_at_ms) if timer_at_ms <= at_ms => {}
            Some(_) => {
                inner.timer_at_ms = Some(at_ms);
                self.timer_changed.notify_one();
            }
            None => {
                inner.timer_at_ms = Some(at_ms);
                let (led, shared) = (Arc::downgrade(self), Arc::clone(&self.shared));
                tokio::spawn(async move { shared.stopping.run_until_cancelled(run_timer(led)).await });
            }
        }
    }

    /// Takes back what was held for too long; the time of the next look, if there is one.
    fn time_out(self: &Arc<Self>) -> Option<i64> {
        let limits = self.shared.configs.of(&self.key.group_id).limits;
        let now_ms = self.shared.clock.steady_ms();
        let mut inner = self.inner.lock();
        let Phase::Active(state) = &mut inner.phase else {
            inner.timer_at_ms = None;
            return None;
        };
        let timed_out = state.time_out(now_ms, &limits);
        let next_ms = state.next_timeout_ms();
        inner.timer_at_ms = next_ms;
        self.counts.timed_out(timed_out.records);
        let write = timed_out.write;
        let waiting = if write.is_some() { inner.waiting.clone() } else { Vec::new() };
        if let Some(write) = write {
            self.enqueue(&mut inner, write, None);
        }
        drop(inner);
        wake(&waiting);
        next_ms
    }

    /// What is in flight.
    pub(super) fn in_flight(&self) -> InFlightCounts {
        let count = |state: &mut SharePartitionState| {
            let (all_batches, all_records) = state.begun();
            let (records, batches) = (state.in_flight_records(), state.in_flight_batches());
            InFlightCounts { records, batches, all_batches, all_records }
        };
        self.change(count).unwrap_or_default()
    }
}

/// Waits for the next timeout, again and again, until nothing is held.
async fn run_timer(led: Weak<LedSharePartition>) {
    loop {
        let Some(this) = led.upgrade() else { return };
        let Some(at_ms) = this.inner.lock().timer_at_ms else { return };
        let clock = this.shared.clock.clone();
        tokio::select! {
            () = clock.sleep_until(at_ms) => {
                if this.time_out().is_none() {
                    return;
                }
            }
            () = this.timer_changed.notified() => {}
        }
    }
}

/// What the errors of the share coordinator mean to a member (Kafka's `fetchPersisterError`).
fn as_leader(error: &ApiError) -> ApiError {
    let moves =
        [ErrorCode::NotCoordinator, ErrorCode::CoordinatorNotAvailable, ErrorCode::CoordinatorLoadInProgress];
    let fences = [ErrorCode::FencedLeaderEpoch, ErrorCode::FencedStateEpoch];
    let code = if moves.contains(&error.code) {
        ErrorCode::CoordinatorNotAvailable
    } else if fences.contains(&error.code) {
        ErrorCode::NotLeaderOrFollower
    } else if ends_leadership(error.code) {
        error.code
    } else {
        ErrorCode::UnknownServerError
    };
    ApiError { code, message: error.message.clone() }
}

/// Whether an error says that somebody else has the state now.
fn ends_leadership(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotLeaderOrFollower | ErrorCode::GroupIdNotFound | ErrorCode::UnknownTopicOrPartition
    )
}
