//! What this node is to a partition: its leader, a follower, a member of the quorum, or nothing for now; and what a
//! leader does with its followers' fetches.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::leadership::{
    Brokers, FollowerFetch, IsrAccepted, IsrOutcome, IsrProposal, Leadership, Leading, Terms,
};
use super::manager::LogManager;
use super::partition::{Inner, Partition, compare_epochs, put_epochs};
use super::state::PartitionState;
use super::types::{Acks, AppendError};
use super::watch::Watch;
use crate::error::{ApiError, ErrorCode};
use crate::storage::{Durability, Key, Ops};
use crate::types::{LeaderEpoch, NodeId, Offset};

/// A partition that this node follows, as the image has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Following {
    /// Who leads; `None` where nobody does for now.
    pub leader: Option<NodeId>,
    /// The epoch of that leadership.
    pub leader_epoch: LeaderEpoch,
    /// Counts every change of the partition's registration.
    pub partition_epoch: i32,
}

/// A follower's fetch, as its request has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaFetch {
    /// Which follower.
    pub replica: NodeId,
    /// The epoch of its registration, [`ANY_BROKER_EPOCH`](super::ANY_BROKER_EPOCH) where it does not say.
    pub broker_epoch: i64,
    /// Where its log ends.
    pub offset: Offset,
    /// Where its log starts, -1 where it does not say.
    pub log_start: Offset,
    /// The leader epoch that it knows, -1 where it does not say.
    pub current_leader_epoch: LeaderEpoch,
    /// The epoch of its last record, -1 where it does not say, or has none.
    pub last_fetched_epoch: LeaderEpoch,
}

/// The state of a follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Follower {
    leader: Option<NodeId>,
    partition_epoch: i32,
    /// What the leader told last.
    pub(super) high_watermark: Offset,
}

/// What this node is to a partition.
#[derive(Clone, Debug)]
pub(super) enum Role {
    Leader(Leadership),
    Follower(Follower),
    /// The quorum decides what is committed.
    Quorum {
        high_watermark: Offset,
    },
    /// Nobody has said yet.
    Offline,
}

impl Role {
    /// Before anybody says more: a log that is committed to its end may be one of a node that is alone.
    pub(super) fn of_stored(state: &PartitionState) -> Self {
        if state.high_watermark == state.log_end { Self::Leader(Leadership::alone()) } else { Self::Offline }
    }

    /// Whether what is stored is committed.
    pub(super) fn is_alone(&self) -> bool {
        matches!(self, Self::Leader(leadership) if !leadership.has_followers())
    }

    pub(super) fn leadership(&self) -> Option<&Leadership> {
        match self {
            Self::Leader(leadership) => Some(leadership),
            Self::Follower(_) | Self::Quorum { .. } | Self::Offline => None,
        }
    }

    fn partition_epoch(&self) -> i32 {
        match self {
            Self::Leader(leadership) => leadership.partition_epoch(),
            Self::Follower(follower) => follower.partition_epoch,
            Self::Quorum { .. } | Self::Offline => -1,
        }
    }

    /// Whether records may be appended by who gives them offsets.
    pub(super) fn check_append(
        &self,
        acks: Acks,
        min_insync_replicas: i32,
        partition: &str,
    ) -> Result<(), AppendError> {
        match self {
            Self::Leader(leadership) => {
                if acks == Acks::InSync && leadership.is_under_min_isr(min_insync_replicas) {
                    let message = format!(
                        "The size of the current ISR {:?} is insufficient to satisfy the min.isr requirement of {} \
                         for partition {partition}",
                        leadership.isr(),
                        leadership.min_isr(min_insync_replicas)
                    );
                    return Err(AppendError::with(ErrorCode::NotEnoughReplicas, message));
                }
                Ok(())
            }
            Self::Quorum { .. } => Ok(()),
            Self::Follower(_) | Self::Offline => {
                let message = format!("This node does not lead partition {partition}");
                Err(AppendError::with(ErrorCode::NotLeaderOrFollower, message))
            }
        }
    }

    /// Whether what is below the high watermark is on as many replicas as the topic wants.
    pub(super) fn check_committed(&self, min_insync_replicas: i32) -> Result<(), ErrorCode> {
        match self {
            Self::Leader(leadership) if !leadership.has_enough_replicas(min_insync_replicas) => {
                Err(ErrorCode::NotEnoughReplicasAfterAppend)
            }
            Self::Leader(_) | Self::Quorum { .. } => Ok(()),
            Self::Follower(_) | Self::Offline => Err(ErrorCode::NotLeaderOrFollower),
        }
    }
}

fn not_leader() -> ApiError {
    ErrorCode::NotLeaderOrFollower.into()
}

/// Led partitions with a follower that asks to be in sync.
#[derive(Default)]
pub(super) struct Joins {
    partitions: Mutex<Vec<Arc<Partition>>>,
    asked: Notify,
}

/// How often the replicas in sync changed, over all partitions that this node led.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IsrChanges {
    /// Replicas were added.
    pub expands: u64,
    /// Replicas were removed.
    pub shrinks: u64,
    /// The controller did not do as it was asked.
    pub failures: u64,
}

impl LogManager {
    /// How often the replicas in sync changed.
    pub fn isr_changes(&self) -> IsrChanges {
        *self.shared().isr_changes.lock()
    }

    /// Takes note of the registered brokers, which decide who may be in sync.
    pub fn set_brokers(&self, brokers: Brokers) {
        self.shared().brokers.store(Arc::new(brokers));
    }

    /// Waits until followers ask to be in sync, and names their partitions, for which [`Partition::isr_proposal`] is
    /// worth a call. For one caller at a time.
    pub async fn isr_joins(&self) -> Vec<Arc<Partition>> {
        let joins = &self.shared().joins;
        loop {
            let asked = std::mem::take(&mut *joins.partitions.lock());
            if !asked.is_empty() {
                return asked;
            }
            joins.asked.notified().await;
        }
    }
}

impl Partition {
    /// Leads from now on, or leads as this says. Answers false, and nothing changes, where a later registration is
    /// known already.
    pub fn lead(&self, leading: Leading) -> bool {
        let now_ms = self.shared.clock.steady_ms();
        let mut inner = self.inner.lock();
        if inner.is_deleted || leading.partition_epoch < inner.role.partition_epoch() {
            return false;
        }
        let (epoch, log_end) = (leading.leader_epoch, inner.log_end);
        let previous = match std::mem::replace(&mut inner.role, Role::Offline) {
            // Of who led without an image nothing is known.
            Role::Leader(leadership) if leadership.partition_epoch() >= 0 => Some(leadership),
            Role::Leader(_) | Role::Follower(_) | Role::Quorum { .. } | Role::Offline => None,
        };
        inner.role = Role::Leader(Leadership::begin(previous, leading, log_end, now_ms));
        self.begin_epoch(&mut inner, epoch);
        self.advance(&mut inner);
        inner.wake();
        true
    }

    /// Follows from now on. Answers whether the leader epoch is a new one, so that fetching has to begin anew.
    pub fn follow(&self, following: Following) -> bool {
        let Following { leader, leader_epoch, partition_epoch } = following;
        let mut inner = self.inner.lock();
        if inner.is_deleted || partition_epoch < inner.role.partition_epoch() {
            return false;
        }
        let is_new = leader_epoch > inner.leader_epoch || !matches!(inner.role, Role::Follower(_));
        let high_watermark = inner.high_watermark;
        inner.role = Role::Follower(Follower { leader, partition_epoch, high_watermark });
        inner.leader_epoch = inner.leader_epoch.max(leader_epoch);
        self.resign(&mut inner);
        is_new
    }

    /// Neither leads nor follows from now on: this node has no part in it, or has to stop.
    pub fn offline(&self) {
        let mut inner = self.inner.lock();
        inner.role = Role::Offline;
        self.resign(&mut inner);
    }

    /// Leaves it to the quorum to say what is committed, by [`Self::set_high_watermark`].
    pub fn leave_to_quorum(&self) {
        let mut inner = self.inner.lock();
        let high_watermark = inner.high_watermark;
        inner.role = Role::Quorum { high_watermark };
    }

    /// The quorum has committed everything below. What is not stored yet follows when it is.
    pub fn set_high_watermark(&self, offset: Offset) {
        let mut inner = self.inner.lock();
        if let Role::Quorum { high_watermark } = &mut inner.role {
            *high_watermark = offset.max(*high_watermark);
            self.advance(&mut inner);
        }
    }

    /// Whoever waits for a leader hears that there is none here.
    fn resign(&self, inner: &mut Inner) {
        inner.tenure += 1;
        inner.commits.fail(ErrorCode::NotLeaderOrFollower);
        inner.deletions.fail(ErrorCode::NotLeaderOrFollower);
        inner.wake();
    }

    /// Starts a leader epoch at the end of the log, if it is not the latest already.
    fn begin_epoch(&self, inner: &mut Inner, epoch: LeaderEpoch) {
        if epoch < inner.leader_epoch || inner.epochs.latest() == Some(epoch) {
            return;
        }
        inner.leader_epoch = epoch;
        let log_end = inner.log_end;
        let changes = inner.epochs.assign(epoch, log_end);
        let mut ops = Ops::new();
        put_epochs(&mut ops, self.id(), changes);
        ops.put(&Key::PartitionState { partition: self.id() }, inner.state().encode());
        // If it is lost, so is everything that was written in this epoch.
        drop(self.shared.store.commit(ops, Durability::Process));
    }

    /// Starts a leader epoch of the quorum at the end of the log. Older ones than the current are ignored.
    pub fn set_leader_epoch(&self, epoch: LeaderEpoch) {
        let mut inner = self.inner.lock();
        if !inner.is_deleted {
            self.begin_epoch(&mut inner, epoch);
            inner.wake();
        }
    }

    /// Whether a batch for all replicas in sync would be taken now.
    ///
    /// # Errors
    /// `NOT_ENOUGH_REPLICAS` where fewer are in sync than `min.insync.replicas`, `NOT_LEADER_OR_FOLLOWER` where this
    /// node does not lead.
    pub fn may_append_in_sync(&self) -> Result<(), AppendError> {
        let min_insync_replicas = self.log_config().min_insync_replicas;
        self.inner.lock().role.check_append(Acks::InSync, min_insync_replicas, self.name())
    }

    /// Whether this node leads it.
    pub fn is_leader(&self) -> bool {
        matches!(self.inner.lock().role, Role::Leader(_))
    }

    /// Who leads, where this node follows.
    pub fn leader(&self) -> Option<NodeId> {
        match &self.inner.lock().role {
            Role::Follower(follower) => follower.leader,
            Role::Leader(_) | Role::Quorum { .. } | Role::Offline => None,
        }
    }

    /// Whether what was committed under earlier leaders is not known to be committed yet: where consumers end may be
    /// below what they have seen.
    pub fn lags_behind_epoch(&self) -> bool {
        let inner = self.inner.lock();
        inner.role.leadership().is_some_and(|leadership| leadership.epoch_start() > inner.high_watermark)
    }

    /// The latest leader epoch that has records here, or has begun here; `None` in an empty log.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.inner.lock().epochs.latest()
    }

    /// A look at the leader's state; `None` where this node does not lead.
    pub fn leading<R>(&self, look: impl FnOnce(&Leadership, &Terms<'_>) -> R) -> Option<R> {
        let inner = self.inner.lock();
        let brokers = self.shared.brokers.load();
        inner.role.leadership().map(|leadership| look(leadership, &self.terms(&brokers)))
    }

    /// Takes note of a follower's fetch, which may move the high watermark and the low watermark, and may have the
    /// follower ask to be in sync. Answers where the follower's log goes another way than this one, where it does:
    /// the end here of the epoch of its last record, or of the one before. Nothing is noted then.
    ///
    /// # Errors
    /// Those of [`Self::check_leader_epoch`]; `NOT_LEADER_OR_FOLLOWER` where this node does not lead, or the follower's
    /// broker has registered again since; `UNKNOWN_LEADER_EPOCH` for one that is no replica as far as is known here;
    /// `OFFSET_OUT_OF_RANGE` for an offset that this log does not have.
    pub fn replica_fetch(
        self: &Arc<Self>,
        fetch: &ReplicaFetch,
    ) -> Result<Option<(LeaderEpoch, Offset)>, ErrorCode> {
        let mut inner = self.inner.lock();
        compare_epochs(fetch.current_leader_epoch, inner.leader_epoch)?;
        let brokers = self.shared.brokers.load();
        let Inner { high_watermark, log_start, log_end, stored_end, .. } = *inner;
        let ends =
            (fetch.last_fetched_epoch >= 0).then(|| inner.epochs.end_of(fetch.last_fetched_epoch, log_end));
        let Role::Leader(leadership) = &mut inner.role else { return Err(ErrorCode::NotLeaderOrFollower) };
        if !leadership.has_follower(fetch.replica) {
            // Without an epoch it can not be said who of the two is behind.
            let is_old = fetch.current_leader_epoch < 0;
            return Err(if is_old { ErrorCode::NotLeaderOrFollower } else { ErrorCode::UnknownLeaderEpoch });
        }
        let offset = fetch.offset;
        match ends {
            Some((-1, _) | (_, -1)) => return Err(ErrorCode::OffsetOutOfRange),
            Some(_) if offset < log_start => return Err(ErrorCode::OffsetOutOfRange),
            Some((epoch, end)) if epoch < fetch.last_fetched_epoch || end < offset => {
                return Ok(Some((epoch, end)));
            }
            Some(_) | None => {}
        }
        if offset < log_start || offset > log_end {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let &ReplicaFetch { replica, broker_epoch, log_start: replica_start, .. } = fetch;
        let noted =
            FollowerFetch { replica, broker_epoch, offset, log_start: replica_start, leader_end: stored_end };
        let asks_in = leadership.fetched(&noted, high_watermark, &self.terms(&brokers))?;
        let low_watermark = leadership.low_watermark(log_start, &brokers);
        self.advance(&mut inner);
        if !inner.deletions.is_empty() {
            inner.deletions.reached(low_watermark, Ok(()));
        }
        drop(inner);
        if asks_in {
            self.shared.joins.partitions.lock().push(Arc::clone(self));
            self.shared.joins.asked.notify_one();
        }
        Ok(None)
    }

    /// What the controller has to be asked to make the ISR, if anything. Nothing more is proposed until
    /// [`Self::isr_answered`].
    pub fn isr_proposal(&self) -> Option<IsrProposal> {
        let mut inner = self.inner.lock();
        if !inner.role.leadership().is_some_and(Leadership::has_followers) {
            return None;
        }
        // One that was waited for may have been silent for too long.
        self.advance(&mut inner);
        let (high_watermark, stored_end) = (inner.high_watermark, inner.stored_end);
        let brokers = self.shared.brokers.load();
        let Role::Leader(leadership) = &mut inner.role else { return None };
        leadership.proposal(high_watermark, stored_end, &self.terms(&brokers))
    }

    /// Takes the controller's answer to a proposal.
    pub fn isr_answered(&self, proposal: &IsrProposal, answer: Result<IsrAccepted, ErrorCode>) -> IsrOutcome {
        let mut inner = self.inner.lock();
        let Role::Leader(leadership) = &mut inner.role else { return IsrOutcome::Stale };
        let outcome = leadership.answered(proposal, answer);
        let mut changes = self.shared.isr_changes.lock();
        match outcome {
            IsrOutcome::Changed if proposal.is_expansion => changes.expands += 1,
            IsrOutcome::Changed => changes.shrinks += 1,
            IsrOutcome::Refused | IsrOutcome::Retry => changes.failures += 1,
            IsrOutcome::Stale => {}
        }
        drop(changes);
        // Fewer may have to be waited for.
        self.advance(&mut inner);
        outcome
    }

    /// Waits until the high watermark has reached an offset, of what was appended in this tenure.
    pub(super) async fn reach(&self, offset: Offset, tenure: u32) -> Result<(), ApiError> {
        let receiver = {
            let mut inner = self.inner.lock();
            if inner.tenure != tenure || inner.is_deleted {
                return Err(not_leader());
            }
            let min_insync_replicas = self.config_now().1.min_insync_replicas;
            if inner.high_watermark >= offset {
                return inner.role.check_committed(min_insync_replicas).map_err(ApiError::from);
            }
            inner.commits.add(offset)
        };
        receiver.await.unwrap_or(Err(ErrorCode::NotLeaderOrFollower)).map_err(ApiError::from)
    }

    /// Waits until the logs of all replicas that are alive start at this offset or behind it.
    ///
    /// # Errors
    /// `NOT_LEADER_OR_FOLLOWER` where this node does not lead, or leads no more.
    pub async fn reach_low_watermark(&self, offset: Offset) -> Result<(), ErrorCode> {
        let receiver = {
            let mut inner = self.inner.lock();
            if self.low_watermark_of(&inner)? >= offset {
                return Ok(());
            }
            inner.deletions.add(offset)
        };
        receiver.await.unwrap_or(Err(ErrorCode::NotLeaderOrFollower))
    }

    /// The smallest log start of all replicas that are alive.
    ///
    /// # Errors
    /// `NOT_LEADER_OR_FOLLOWER` where this node does not lead.
    pub fn low_watermark(&self) -> Result<Offset, ErrorCode> {
        self.low_watermark_of(&self.inner.lock())
    }

    fn low_watermark_of(&self, inner: &Inner) -> Result<Offset, ErrorCode> {
        let leadership = inner.role.leadership().ok_or(ErrorCode::NotLeaderOrFollower)?;
        Ok(leadership.low_watermark(inner.log_start, &self.shared.brokers.load()))
    }

    /// Tells `watch` of every change of the log's end too, for replicas: see [`Partition::watch`].
    pub fn watch_end(&self, watch: &Arc<Watch>, number: u32) {
        self.inner.lock().end_watchers.add(Arc::downgrade(watch), number);
    }
}
