//! What the leader of a partition knows of its followers, which of them are in sync, and how far all of those are
//! (Kafka's `Partition`, `Replica` and `PartitionState`; KIP-497, KIP-903).
//!
//! The *ISR* is what the controller has committed. The *maximal ISR* has those too whom the leader has asked the
//! controller to add and not yet those out whom it has asked to remove: the high watermark waits for all of them, so
//! that it is right whether or not the controller has agreed. One change is on its way at most.
//!
//! Nothing here waits, reads a clock or knows a store: the partition calls it under its lock.

use std::collections::HashMap;

use crate::error::ErrorCode;
use crate::types::{LeaderEpoch, NodeId, Offset};

/// A broker epoch that fits every broker: that of requests which do not know theirs.
pub const ANY_BROKER_EPOCH: i64 = -1;

/// A time before every other.
const NEVER_MS: i64 = i64::MIN;
const UNKNOWN_OFFSET: Offset = -1;

/// What the image says of a broker that decides whether it may be in sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerStanding {
    /// The epoch of its registration.
    pub epoch: i64,
    /// Whether the controller keeps it from serving.
    pub is_fenced: bool,
    /// Whether it asked for a controlled shutdown.
    pub is_shutting_down: bool,
}

/// The registered brokers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Brokers(pub HashMap<NodeId, BrokerStanding>);

impl Brokers {
    /// Whether a broker is there and not fenced.
    pub fn is_alive(&self, id: NodeId) -> bool {
        self.0.get(&id).is_some_and(|broker| !broker.is_fenced)
    }

    /// The epoch of a broker that is alive.
    fn alive_epoch(&self, id: NodeId) -> Option<i64> {
        self.0.get(&id).filter(|broker| !broker.is_fenced).map(|broker| broker.epoch)
    }

    /// Whether a follower that fetched with this broker epoch may join the ISR.
    fn may_join(&self, id: NodeId, fetched_with: Option<i64>) -> bool {
        let (Some(broker), Some(epoch)) = (self.0.get(&id), fetched_with) else { return false };
        !broker.is_fenced && !broker.is_shutting_down && (epoch == ANY_BROKER_EPOCH || epoch == broker.epoch)
    }
}

/// What a leader goes by besides its own state.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The steady clock.
    pub now_ms: i64,
    /// `replica.lag.time.max.ms`.
    pub lag_time_max_ms: i64,
    /// `min.insync.replicas` of the topic.
    pub min_insync_replicas: i32,
    /// The registered brokers.
    pub brokers: &'a Brokers,
}

/// A partition that this node leads, as the image has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leading {
    /// This node.
    pub node_id: NodeId,
    /// The epoch of its leadership.
    pub leader_epoch: LeaderEpoch,
    /// Counts every change of the partition's registration.
    pub partition_epoch: i32,
    /// All replicas, this node among them.
    pub replicas: Vec<NodeId>,
    /// Those in sync.
    pub isr: Vec<NodeId>,
    /// Those that a reassignment adds.
    pub adding: Vec<NodeId>,
}

/// A fetch of a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerFetch {
    /// Which follower.
    pub replica: NodeId,
    /// The epoch of its registration, [`ANY_BROKER_EPOCH`] where it does not say.
    pub broker_epoch: i64,
    /// Where its log ends.
    pub offset: Offset,
    /// Where its log starts, -1 where it does not say.
    pub log_start: Offset,
    /// Where the leader's log ended when this was read for it.
    pub leader_end: Offset,
}

/// A member of a proposed ISR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsrMember {
    /// Which replica.
    pub id: NodeId,
    /// The broker epoch that it fetched with last, [`ANY_BROKER_EPOCH`] where that is not known.
    pub broker_epoch: i64,
}

/// What the controller is asked to make the ISR (AlterPartition). The leader has recovered whatever it had to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrProposal {
    /// The epoch of the leadership.
    pub leader_epoch: LeaderEpoch,
    /// The registration that this is a change of.
    pub partition_epoch: i32,
    /// The new ISR, this node among them: its own broker epoch is for the caller to fill in.
    pub isr: Vec<IsrMember>,
    /// Whether replicas are added; they are removed otherwise.
    pub is_expansion: bool,
}

/// What the controller made of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrAccepted {
    /// The epoch of the leadership that it knows.
    pub leader_epoch: LeaderEpoch,
    /// The registration after the change.
    pub partition_epoch: i32,
    /// The ISR.
    pub isr: Vec<NodeId>,
}

/// What follows from the controller's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsrOutcome {
    /// The ISR is what was proposed.
    Changed,
    /// It is not, or not known to be; the image will say more.
    Refused,
    /// The same proposal has to be sent again.
    Retry,
    /// The answer is one to a proposal of the past.
    Stale,
}

/// What is known of a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Follower {
    id: NodeId,
    log_start: Offset,
    log_end: Offset,
    /// Where the leader's log ended at the last fetch.
    last_fetch_leader_end: Offset,
    last_fetch_ms: i64,
    /// When it last had everything that the leader had.
    caught_up_ms: i64,
    broker_epoch: Option<i64>,
    /// Whether it fetched in a way that lets it join the ISR, and was not proposed since.
    asks_in: bool,
}

impl Follower {
    fn new(id: NodeId) -> Self {
        Self {
            id,
            log_start: UNKNOWN_OFFSET,
            log_end: UNKNOWN_OFFSET,
            last_fetch_leader_end: UNKNOWN_OFFSET,
            last_fetch_ms: NEVER_MS,
            caught_up_ms: NEVER_MS,
            broker_epoch: None,
            asks_in: false,
        }
    }

    fn is_caught_up(&self, leader_end: Offset, terms: &Terms<'_>) -> bool {
        self.log_end == leader_end || terms.now_ms.saturating_sub(self.caught_up_ms) <= terms.lag_time_max_ms
    }

    fn fetched(&mut self, fetch: &FollowerFetch, now_ms: i64) {
        // One that had at this fetch what the leader had at the one before was in sync then, although it
        // never is at its end while records keep coming.
        if fetch.offset >= fetch.leader_end {
            self.caught_up_ms = self.caught_up_ms.max(now_ms);
        } else if fetch.offset >= self.last_fetch_leader_end {
            self.caught_up_ms = self.caught_up_ms.max(self.last_fetch_ms);
        }
        self.log_start = fetch.log_start;
        self.log_end = fetch.offset;
        self.last_fetch_leader_end = self.last_fetch_leader_end.max(fetch.leader_end);
        self.last_fetch_ms = now_ms;
        self.broker_epoch = Some(fetch.broker_epoch);
    }
}

/// A change of the ISR that the controller was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pending {
    proposal: IsrProposal,
    /// Those who are treated as if they were in sync already.
    joining: Vec<NodeId>,
}

/// The state of a leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    node_id: NodeId,
    leader_epoch: LeaderEpoch,
    partition_epoch: i32,
    /// Where the log ended when this epoch began.
    epoch_start: Offset,
    followers: Vec<Follower>,
    isr: Vec<NodeId>,
    pending: Option<Pending>,
    /// How many replicas there are, without those that are being added.
    replication_factor: usize,
}

impl Leadership {
    /// The leader of a log that has no other replicas and that no image knows.
    pub fn alone() -> Self {
        let node_id = -1;
        Self {
            node_id,
            leader_epoch: 0,
            partition_epoch: -1,
            epoch_start: 0,
            followers: Vec::new(),
            isr: vec![node_id],
            pending: None,
            replication_factor: 1,
        }
    }

    /// Leads as the image says, after `previous` if this node led before; the log ends at `log_end`.
    pub fn begin(previous: Option<Self>, leading: Leading, log_end: Offset, now_ms: i64) -> Self {
        let Leading { node_id, leader_epoch, partition_epoch, replicas, isr, adding } = leading;
        let previous = match previous {
            // The image says again what is known, because of another partition of the topic: whoever the controller was
            // asked to add is still waited for.
            Some(known) if (known.leader_epoch, known.partition_epoch) == (leader_epoch, partition_epoch) => {
                return known;
            }
            // Others may have led in the epochs between, and a follower may have taken back what it was known to have.
            Some(known) if leader_epoch > known.leader_epoch.saturating_add(1) => None,
            other => other,
        };
        let known = previous.as_ref().map_or(&[][..], |previous| &previous.followers);
        let find = |id: NodeId| known.iter().find(|follower| follower.id == id).copied();
        let others = replicas.iter().copied().filter(|id| *id != node_id);
        let mut followers: Vec<_> = others.map(|id| find(id).unwrap_or_else(|| Follower::new(id))).collect();
        let is_new_epoch = previous.as_ref().is_none_or(|previous| previous.leader_epoch < leader_epoch);
        if is_new_epoch {
            for follower in &mut followers {
                let in_sync = isr.contains(&follower.id);
                let since_ms = if in_sync { now_ms } else { NEVER_MS };
                follower.caught_up_ms = since_ms;
                follower.asks_in = false;
                if previous.is_some() {
                    follower.last_fetch_leader_end = log_end;
                    follower.last_fetch_ms = since_ms;
                }
            }
        }
        let epoch_start = match &previous {
            Some(previous) if !is_new_epoch => previous.epoch_start,
            Some(_) | None => log_end,
        };
        let replication_factor = replicas.iter().filter(|id| !adding.contains(id)).count();
        Self {
            node_id,
            leader_epoch,
            partition_epoch,
            epoch_start,
            followers,
            isr,
            pending: None,
            replication_factor,
        }
    }

    /// The leader: this node.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// The epoch of the leadership.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// The registration that is known.
    pub fn partition_epoch(&self) -> i32 {
        self.partition_epoch
    }

    /// Where the log ended when this epoch began.
    pub fn epoch_start(&self) -> Offset {
        self.epoch_start
    }

    /// Those who are in sync, as the controller has committed it.
    pub fn isr(&self) -> &[NodeId] {
        &self.isr
    }

    /// Whether there are other replicas.
    pub fn has_followers(&self) -> bool {
        !self.followers.is_empty()
    }

    /// Whether a replica is one of this partition's.
    pub fn has_follower(&self, id: NodeId) -> bool {
        self.followers.iter().any(|follower| follower.id == id)
    }

    /// Where a follower's log starts and ends, as far as that is known.
    pub fn follower_range(&self, id: NodeId) -> Option<(Offset, Offset)> {
        let follower = self.followers.iter().find(|follower| follower.id == id)?;
        (follower.log_end >= 0).then_some((follower.log_start.max(0), follower.log_end))
    }

    /// When a follower was last known to have everything, on the steady clock; `None` if it never was.
    pub fn caught_up_ms(&self, id: NodeId) -> Option<i64> {
        let follower = self.followers.iter().find(|follower| follower.id == id)?;
        (follower.caught_up_ms > NEVER_MS).then_some(follower.caught_up_ms)
    }

    /// Whether fewer replicas are in sync than there are.
    pub fn is_under_replicated(&self) -> bool {
        self.isr.len() < self.replication_factor
    }

    /// How many replicas must be in sync for a write with acks=all: `min.insync.replicas`, but no more than there are.
    pub fn min_isr(&self, min_insync_replicas: i32) -> usize {
        usize::try_from(min_insync_replicas).unwrap_or(1).min(self.followers.len() + 1)
    }

    /// Whether a write with acks=all is refused.
    pub fn is_under_min_isr(&self, min_insync_replicas: i32) -> bool {
        self.isr.len() < self.min_isr(min_insync_replicas)
    }

    /// Whether one replica less would have writes with acks=all refused.
    pub fn is_at_min_isr(&self, min_insync_replicas: i32) -> bool {
        self.isr.len() == self.min_isr(min_insync_replicas)
    }

    /// Whether what is committed now is as safe as the topic wants it, counted over the maximal ISR.
    pub fn has_enough_replicas(&self, min_insync_replicas: i32) -> bool {
        let joining = self.pending.as_ref().map_or(0, |pending| pending.joining.len());
        self.isr.len() + joining >= self.min_isr(min_insync_replicas)
    }

    /// Everybody for whom the high watermark waits, for the simulation to compare with the controller's ISR.
    #[cfg(test)]
    pub(crate) fn maximal_isr(&self) -> Vec<NodeId> {
        let joining = self.pending.iter().flat_map(|pending| &pending.joining);
        self.isr.iter().chain(joining).copied().collect()
    }

    fn is_in_maximal_isr(&self, id: NodeId) -> bool {
        self.isr.contains(&id) || self.pending.as_ref().is_some_and(|pending| pending.joining.contains(&id))
    }

    /// How far everybody is for whom the high watermark waits, in a log that ends at `leader_end`; `None` where it must
    /// not move, as too few are in sync. It never goes back, whatever this says.
    pub fn high_watermark(&self, leader_end: Offset, terms: &Terms<'_>) -> Option<Offset> {
        if self.is_under_min_isr(terms.min_insync_replicas) {
            return None;
        }
        // One that is about to join is waited for: it would never get so far, if the high watermark ran ahead
        // with the leader alone.
        let is_awaited = |follower: &&Follower| {
            self.is_in_maximal_isr(follower.id)
                || (follower.is_caught_up(leader_end, terms)
                    && terms.brokers.may_join(follower.id, follower.broker_epoch))
        };
        let ends = self.followers.iter().filter(|follower| follower.log_end < leader_end);
        Some(ends.filter(is_awaited).map(|follower| follower.log_end).min().unwrap_or(leader_end))
    }

    /// Takes note of a follower's fetch. Answers whether it may join the ISR, so that [`Self::proposal`] is worth a
    /// call.
    ///
    /// # Errors
    /// `UNKNOWN_LEADER_EPOCH` for one that is no replica, as far as is known; `NOT_LEADER_OR_FOLLOWER` for one of a
    /// broker that has registered again since.
    pub fn fetched(
        &mut self,
        fetch: &FollowerFetch,
        high_watermark: Offset,
        terms: &Terms<'_>,
    ) -> Result<bool, ErrorCode> {
        let place = self.followers.iter().position(|follower| follower.id == fetch.replica);
        let place = place.ok_or(ErrorCode::UnknownLeaderEpoch)?;
        let is_stale =
            terms.brokers.alive_epoch(fetch.replica).is_some_and(|epoch| epoch > fetch.broker_epoch);
        if fetch.broker_epoch != ANY_BROKER_EPOCH && is_stale {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        self.followers[place].fetched(fetch, terms.now_ms);
        let asks_in = self.pending.is_none() && self.may_join(&self.followers[place], high_watermark, terms);
        self.followers[place].asks_in |= asks_in;
        Ok(asks_in)
    }

    fn may_join(&self, follower: &Follower, high_watermark: Offset, terms: &Terms<'_>) -> bool {
        !self.isr.contains(&follower.id)
            && follower.log_end >= high_watermark
            && follower.log_end >= self.epoch_start
            && terms.brokers.may_join(follower.id, follower.broker_epoch)
    }

    /// What the controller has to be asked, if anything: those who asked in by a fetch are added, otherwise those who
    /// have been behind for too long are removed.
    pub fn proposal(
        &mut self,
        high_watermark: Offset,
        leader_end: Offset,
        terms: &Terms<'_>,
    ) -> Option<IsrProposal> {
        if self.pending.is_some() {
            return None;
        }
        let asked = self.followers.iter().filter(|follower| follower.asks_in);
        let joining: Vec<NodeId> = asked
            .filter(|follower| self.may_join(follower, high_watermark, terms))
            .map(|follower| follower.id)
            .collect();
        self.followers.iter_mut().for_each(|follower| follower.asks_in = false);
        let is_expansion = !joining.is_empty();
        let members: Vec<NodeId> = if is_expansion {
            self.isr.iter().chain(&joining).copied().collect()
        } else {
            let stays = |id: &NodeId| *id == self.node_id || self.is_in_time(*id, leader_end, terms);
            self.isr.iter().copied().filter(stays).collect()
        };
        if !is_expansion && members.len() == self.isr.len() {
            return None;
        }
        let isr =
            members.into_iter().map(|id| IsrMember { id, broker_epoch: self.broker_epoch(id) }).collect();
        let Self { leader_epoch, partition_epoch, .. } = *self;
        let proposal = IsrProposal { leader_epoch, partition_epoch, isr, is_expansion };
        self.pending = Some(Pending { proposal: proposal.clone(), joining });
        Some(proposal)
    }

    fn is_in_time(&self, id: NodeId, leader_end: Offset, terms: &Terms<'_>) -> bool {
        let follower = self.followers.iter().find(|follower| follower.id == id);
        follower.is_some_and(|follower| follower.is_caught_up(leader_end, terms))
    }

    fn broker_epoch(&self, id: NodeId) -> i64 {
        let follower = self.followers.iter().find(|follower| follower.id == id);
        follower.and_then(|follower| follower.broker_epoch).unwrap_or(ANY_BROKER_EPOCH)
    }

    /// Takes the controller's answer to a proposal.
    pub fn answered(&mut self, proposal: &IsrProposal, answer: Result<IsrAccepted, ErrorCode>) -> IsrOutcome {
        if self.pending.as_ref().is_none_or(|pending| pending.proposal != *proposal) {
            return IsrOutcome::Stale;
        }
        match answer {
            Ok(IsrAccepted { leader_epoch, partition_epoch, isr }) => {
                if leader_epoch != self.leader_epoch || partition_epoch < self.partition_epoch {
                    return IsrOutcome::Refused;
                }
                (self.partition_epoch, self.isr, self.pending) = (partition_epoch, isr, None);
                IsrOutcome::Changed
            }
            // The controller says that it did not do it, and none did: so the ISR is what it was.
            Err(ErrorCode::OperationNotAttempted | ErrorCode::IneligibleReplica) => {
                self.pending = None;
                IsrOutcome::Refused
            }
            // What became of it is not known, or this node is not what it believes to be: the image will say.
            // Until then the maximal ISR counts.
            Err(
                ErrorCode::UnknownTopicOrPartition
                | ErrorCode::UnknownTopicId
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::InvalidUpdateVersion
                | ErrorCode::InvalidRequest
                | ErrorCode::NewLeaderElected,
            ) => IsrOutcome::Refused,
            Err(_) => IsrOutcome::Retry,
        }
    }

    /// The smallest log start of all replicas that are alive.
    pub fn low_watermark(&self, log_start: Offset, brokers: &Brokers) -> Offset {
        let alive = self.followers.iter().filter(|follower| brokers.is_alive(follower.id));
        alive.map(|follower| follower.log_start).fold(log_start, Offset::min)
    }
}

#[cfg(test)]
mod tests;
