//! A broker: its life, the partitions it leads and follows.

use super::controller::incarnation;
use super::history::History;
use super::mutants::Mutant;
use super::store::{Store, Write};
use crate::error::ErrorCode;
use crate::log::{
    BrokerStanding, Brokers, FollowerFetch, IsrAccepted, IsrOutcome, IsrProposal, Leadership, Leading,
    ReplicaFetch, Terms,
};
use crate::metadata::image::{Image, PartitionImage};
use crate::replication::follower::{Do, FetchFrom, Fetched, Follower};
use crate::replication::lifecycle::{Lifecycle, LifecycleSettings};
use crate::sim::disk::Disk;
use crate::sim::runner::Violation;
use crate::types::{LeaderEpoch, NodeId, Offset};

/// `replica.lag.time.max.ms`.
pub(super) const LAG_TIME_MAX_MS: i64 = 2_000;
/// `broker.heartbeat.interval.ms`.
const HEARTBEAT_MS: i64 = 700;
/// The pause after an error.
const BACKOFF_MS: i64 = 100;
/// How many records one fetch brings.
const FETCH_RECORDS: i64 = 20;

/// What all brokers have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) min_isr: i32,
    pub(super) mutant: Option<Mutant>,
}

/// What a broker is to a partition.
#[derive(Debug)]
pub(super) enum Role {
    Leader(Leadership),
    Follower(Following),
    Offline,
}

#[derive(Debug)]
pub(super) struct Following {
    pub(super) leader: NodeId,
    partition_epoch: i32,
    pub(super) core: Follower,
    /// Until when an answer is waited for.
    pub(super) asked_until_ms: i64,
}

/// A producer that waits for an acknowledgement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) client: usize,
    pub(super) value: u64,
    pub(super) offset: Offset,
}

/// A replica.
pub(super) struct Replica {
    pub(super) number: usize,
    pub(super) disk: Disk<Store>,
    pub(super) role: Role,
    leader_epoch: LeaderEpoch,
    /// What this replica knows to be committed.
    pub(super) high_watermark: Offset,
    /// What the leader said last.
    leader_high_watermark: Offset,
    pub(super) waiting: Vec<Waiting>,
    /// What the controller is asked, and until when its answer is waited for.
    pub(super) proposal: Option<(IsrProposal, i64)>,
}

/// What a leader answers a follower.
#[derive(Clone, Debug)]
pub(super) struct FetchAnswer {
    pub(super) fetched: Fetched,
    pub(super) records: Vec<(LeaderEpoch, u64)>,
    pub(super) high_watermark: Offset,
}

/// A broker.
pub(super) struct Broker {
    pub(super) id: NodeId,
    pub(super) up: bool,
    pub(super) life: u32,
    pub(super) lifecycle: Lifecycle,
    pub(super) image: Image,
    pub(super) brokers: Brokers,
    pub(super) replicas: Vec<Replica>,
    pub(super) frozen_until_ms: i64,
    /// The epoch of the last life, if that one stopped cleanly.
    pub(super) previous_epoch: i64,
    /// The disks may lack what they had, and the controller does not know it yet.
    pub(super) lost: bool,
    pub(super) planned_tick_ms: i64,
}

pub(super) fn lifecycle(now_ms: i64) -> Lifecycle {
    let settings = LifecycleSettings {
        heartbeat_interval_ms: HEARTBEAT_MS,
        initial_registration_timeout_ms: i64::MAX / 4,
    };
    Lifecycle::new(settings, now_ms)
}

impl Replica {
    pub(super) fn new(number: usize) -> Self {
        Self {
            number,
            disk: Disk::new(Store::default()),
            role: Role::Offline,
            leader_epoch: 0,
            high_watermark: 0,
            leader_high_watermark: 0,
            waiting: Vec::new(),
            proposal: None,
        }
    }

    /// The process begins anew.
    pub(super) fn restart(&mut self) {
        self.role = Role::Offline;
        self.waiting.clear();
        self.proposal = None;
        self.high_watermark = self.disk.live().high_watermark;
        self.leader_high_watermark = 0;
        // As klamm stores it: the newest epoch that began here.
        self.leader_epoch =
            crate::replication::follower::FollowerLog::latest_epoch(self.disk.live()).unwrap_or(0);
    }

    fn partition_epoch(&self) -> i32 {
        match &self.role {
            Role::Leader(leadership) => leadership.partition_epoch(),
            Role::Follower(following) => following.partition_epoch,
            Role::Offline => -1,
        }
    }

    /// Leads or follows as the image says, as `Partition::lead` and `Partition::follow` do. Gives the producers who wait
    /// in vain.
    pub(super) fn assign(
        &mut self,
        node_id: NodeId,
        partition: &PartitionImage,
        terms: &Terms<'_>,
        mutant: Option<Mutant>,
    ) -> Vec<Waiting> {
        let PartitionImage { leader, leader_epoch, partition_epoch, .. } = *partition;
        if partition_epoch < self.partition_epoch() {
            return Vec::new();
        }
        if leader == node_id {
            let previous = match std::mem::replace(&mut self.role, Role::Offline) {
                Role::Leader(leadership) => Some(leadership),
                Role::Follower(_) | Role::Offline => None,
            };
            let (replicas, isr) = (partition.replicas.clone(), partition.isr.clone());
            let adding = partition.adding_replicas.clone();
            let leading = Leading { node_id, leader_epoch, partition_epoch, replicas, isr, adding };
            self.role =
                Role::Leader(Leadership::begin(previous, leading, self.disk.live().log.end(), terms.now_ms));
            if leader_epoch >= self.leader_epoch {
                self.leader_epoch = leader_epoch;
                self.disk.write(Write::Begin(leader_epoch));
            }
            return Vec::new();
        }
        if mutant == Some(Mutant::IgnoresDemotion) && matches!(self.role, Role::Leader(_)) {
            return Vec::new();
        }
        self.leader_epoch = self.leader_epoch.max(leader_epoch);
        self.proposal = None;
        let same = matches!(&self.role, Role::Follower(following) if following.leader == leader && following.core.leader_epoch() == leader_epoch);
        if let (true, Role::Follower(following)) = (same, &mut self.role) {
            following.partition_epoch = partition_epoch;
        } else if leader < 0 {
            let (core, _) = Follower::start(leader_epoch, self.disk.live());
            self.role = Role::Follower(Following { leader, partition_epoch, core, asked_until_ms: i64::MAX });
            self.leader_high_watermark = self.high_watermark;
        } else {
            let (core, first) = Follower::start(leader_epoch, self.disk.live());
            if let Do::Truncate(to) = first {
                self.truncate(to);
            }
            self.role = Role::Follower(Following { leader, partition_epoch, core, asked_until_ms: 0 });
            self.leader_high_watermark = self.high_watermark;
        }
        std::mem::take(&mut self.waiting)
    }

    fn truncate(&mut self, to: Offset) {
        self.disk.write(Write::Truncate(to));
        self.high_watermark = self.high_watermark.min(to);
    }

    /// Moves the high watermark, as `Partition::advance` does.
    pub(super) fn advance(
        &mut self,
        terms: &Terms<'_>,
        mutant: Option<Mutant>,
        history: &mut History,
    ) -> Result<(), Violation> {
        let end = self.disk.live().log.end();
        let reached = match &self.role {
            Role::Leader(_) if mutant == Some(Mutant::CommitsAlone) => Some(end),
            Role::Leader(leadership) => leadership.high_watermark(end, terms),
            Role::Follower(_) => Some(self.leader_high_watermark.min(end)),
            Role::Offline => None,
        };
        let Some(reached) = reached.filter(|reached| *reached > self.high_watermark) else { return Ok(()) };
        self.high_watermark = reached;
        if matches!(self.role, Role::Leader(_)) {
            history.commit(self.disk.live(), reached)?;
        }
        Ok(())
    }

    /// A producer's record. Answers where it is; who waits is told later.
    pub(super) fn produce(&mut self, client: usize, value: u64, rules: Rules) -> Result<Offset, ErrorCode> {
        let Role::Leader(leadership) = &self.role else { return Err(ErrorCode::NotLeaderOrFollower) };
        if leadership.is_under_min_isr(rules.min_isr) {
            return Err(ErrorCode::NotEnoughReplicas);
        }
        let offset = match self.disk.live().find(value) {
            Some(offset) => offset,
            None => {
                let offset = self.disk.live().log.end();
                let write = Write::Append(vec![(leadership.leader_epoch(), value)], self.high_watermark);
                self.disk.write(write);
                offset
            }
        };
        self.waiting.push(Waiting { client, value, offset });
        Ok(offset)
    }

    /// Who waits no longer, and how it went.
    pub(super) fn answered(&mut self, rules: Rules) -> Vec<(Waiting, Result<(), ErrorCode>)> {
        let Role::Leader(leadership) = &self.role else { return Vec::new() };
        let enough = leadership.has_enough_replicas(rules.min_isr);
        let all = rules.mutant == Some(Mutant::AnswersBeforeCommit);
        let committed = |waiting: &mut Waiting| all || waiting.offset < self.high_watermark;
        let done = self.waiting.extract_if(.., committed);
        done.map(|one| (one, if enough { Ok(()) } else { Err(ErrorCode::NotEnoughReplicasAfterAppend) }))
            .collect()
    }

    /// A follower fetches, as `Partition::replica_fetch` serves it. The second value says whether the follower may join
    /// the ISR.
    pub(super) fn serve(
        &mut self,
        fetch: &ReplicaFetch,
        terms: &Terms<'_>,
        mutant: Option<Mutant>,
        history: &mut History,
    ) -> Result<(FetchAnswer, bool), Violation> {
        let high_watermark = self.high_watermark;
        let refused = |code| {
            Ok((FetchAnswer { fetched: Fetched::Error(code), records: Vec::new(), high_watermark }, false))
        };
        if fetch.current_leader_epoch < self.leader_epoch {
            return refused(ErrorCode::FencedLeaderEpoch);
        }
        if fetch.current_leader_epoch > self.leader_epoch {
            return refused(ErrorCode::UnknownLeaderEpoch);
        }
        let store = self.disk.live();
        let Role::Leader(leadership) = &mut self.role else { return refused(ErrorCode::NotLeaderOrFollower) };
        if !leadership.has_follower(fetch.replica) {
            return refused(ErrorCode::UnknownLeaderEpoch);
        }
        if mutant != Some(Mutant::NoComparison) {
            match store.compare(fetch) {
                Err(code) => return refused(code),
                Ok(Some((epoch, end_offset))) => {
                    let fetched = Fetched::Diverging { epoch, end_offset };
                    return Ok((FetchAnswer { fetched, records: Vec::new(), high_watermark }, false));
                }
                Ok(None) => {}
            }
        }
        let &ReplicaFetch { replica, broker_epoch, offset, log_start, .. } = fetch;
        let leader_end = store.log.end();
        let noted = match mutant {
            Some(Mutant::JoinsTooEarly) => {
                FollowerFetch { replica, broker_epoch, offset: leader_end, log_start, leader_end }
            }
            Some(_) | None => FollowerFetch { replica, broker_epoch, offset, log_start, leader_end },
        };
        let asks_in = match leadership.fetched(&noted, high_watermark, terms) {
            Ok(asks_in) => asks_in,
            Err(code) => return refused(code),
        };
        let records = store.log.range(offset, (offset + FETCH_RECORDS).min(leader_end));
        let records = records.map(|(_, entry)| (entry.epoch, entry.content)).collect();
        self.advance(terms, mutant, history)?;
        Ok((FetchAnswer { fetched: Fetched::Records, records, high_watermark: self.high_watermark }, asks_in))
    }

    /// The leader's answer; gives how many records were removed because of it.
    pub(super) fn fetched(
        &mut self,
        leader_epoch: LeaderEpoch,
        asked: FetchFrom,
        answer: FetchAnswer,
        terms: &Terms<'_>,
        mutant: Option<Mutant>,
        history: &mut History,
    ) -> Result<u64, Violation> {
        let Role::Follower(following) = &mut self.role else { return Ok(0) };
        if following.core.leader_epoch() != leader_epoch {
            return Ok(0);
        }
        following.asked_until_ms = 0;
        let FetchAnswer { fetched, records, high_watermark } = answer;
        match following.core.fetched(asked, fetched, self.disk.live(), terms.now_ms, BACKOFF_MS) {
            Do::Nothing | Do::StartAt(_) => Ok(0),
            Do::Truncate(to) => {
                let before = self.disk.live().log.end();
                if mutant != Some(Mutant::NoTruncation) {
                    self.truncate(to);
                }
                if let Role::Follower(following) = &mut self.role {
                    following.core.log_changed(self.disk.live());
                }
                Ok((before - to).unsigned_abs())
            }
            Do::Append => {
                self.leader_high_watermark = high_watermark;
                let from = self.disk.live().log.end();
                let last_epoch = records.last().map(|(epoch, _)| *epoch);
                // Batches of a later epoch than was asked for are left out.
                let records: Vec<_> =
                    records.into_iter().take_while(|(epoch, _)| *epoch <= leader_epoch).collect();
                if !records.is_empty() {
                    let known = self.high_watermark;
                    self.disk.write(Write::Append(records, known));
                }
                let store = self.disk.live();
                following.core.appended(store.log.end(), last_epoch, high_watermark);
                history.appended(store, from)?;
                self.advance(terms, mutant, history)?;
                Ok(0)
            }
        }
    }

    /// The controller's answer to a proposal.
    pub(super) fn isr_answered(
        &mut self,
        proposal: &IsrProposal,
        answer: Result<IsrAccepted, ErrorCode>,
    ) -> IsrOutcome {
        let Role::Leader(leadership) = &mut self.role else { return IsrOutcome::Stale };
        if self.proposal.as_ref().is_none_or(|(current, _)| current != proposal) {
            return IsrOutcome::Stale;
        }
        let outcome = leadership.answered(proposal, answer);
        match outcome {
            // It is sent again when its time is over.
            IsrOutcome::Retry => {}
            IsrOutcome::Changed | IsrOutcome::Refused | IsrOutcome::Stale => self.proposal = None,
        }
        outcome
    }

    /// Who has to have a record before this leader takes it for committed.
    pub(super) fn maximal_isr(&self) -> Option<(LeaderEpoch, Vec<NodeId>)> {
        let Role::Leader(leadership) = &self.role else { return None };
        Some((leadership.leader_epoch(), leadership.maximal_isr()))
    }
}

impl Broker {
    pub(super) fn standings(image: &Image) -> Brokers {
        let standing = |broker: &crate::metadata::image::BrokerImage| BrokerStanding {
            epoch: broker.epoch,
            is_fenced: broker.fenced,
            is_shutting_down: broker.in_controlled_shutdown,
        };
        Brokers(image.brokers.values().map(|broker| (broker.id, standing(broker))).collect())
    }

    /// Whether its image has it in this life. Before, what it leads and follows is what an older life did.
    pub(super) fn is_registered(&self) -> bool {
        let own = self.image.brokers.get(&self.id);
        own.is_some_and(|broker| broker.incarnation_id == incarnation(self.id, self.life))
    }

    /// The epoch of its registration, as its image has it.
    pub(super) fn epoch(&self) -> i64 {
        self.image.brokers.get(&self.id).map_or(-1, |broker| broker.epoch)
    }
}
