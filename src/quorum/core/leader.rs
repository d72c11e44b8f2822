//! What a leader knows of its replicas, and what it serves them (Kafka's `LeaderState`).

use bytes::Bytes;

use super::super::control::ControlRecord;
use super::super::election::ReplicaKey;
use super::super::voters::Voters;
use super::history::Validity;
use super::message::{
    Action, FetchRequest, FetchSnapshotRequest, Fetched, FetchedSnapshot, Header, NewRecords, Progress,
    QuorumState, ReplicaState, Response, SnapshotId, Token,
};
use super::role::{Leader, Replica, Role};
use super::{QuorumCore, WaitingFetch};
use crate::error::ErrorCode;
use crate::types::{LeaderEpoch, NodeId, Offset};

/// After this time without a fetch an observer is forgotten (`LeaderState.OBSERVER_SESSION_TIMEOUT_MS`).
const OBSERVER_SESSION_MS: i64 = 300_000;
/// Above so many observers those that are silent are forgotten, and others only while there is place.
const OBSERVERS_MAX: usize = 4_096;
/// How many fetches may wait. More than any cluster has nodes; what comes above is answered at once.
const WAITING_FETCHES_MAX: usize = 4_096;

impl Leader {
    /// The voters by how much of the log they have, the best first.
    pub(super) fn ranked(&self) -> Vec<ReplicaKey> {
        let mut replicas: Vec<&Replica> = self.voters.values().collect();
        replicas.sort_by_key(|replica| (std::cmp::Reverse(replica.end), replica.key));
        replicas.iter().map(|replica| replica.key).collect()
    }

    /// What more than half of the voters have.
    fn majority_end(&self) -> Option<Offset> {
        let mut ends: Vec<Option<Offset>> = self.voters.values().map(|replica| replica.end).collect();
        ends.sort_unstable_by(|one, two| two.cmp(one));
        ends.get(ends.len() / 2).copied().flatten()
    }

    /// A replica that fetches; `None` where there are too many.
    fn replica(&mut self, key: ReplicaKey, now_ms: i64) -> Option<&mut Replica> {
        if !self.observers.contains_key(&key) && self.observers.len() >= OBSERVERS_MAX {
            self.forget_silent(now_ms);
        }
        let has_place = self.observers.len() < OBSERVERS_MAX;
        match self.voters.get_mut(&key.id) {
            Some(replica) if replica.key.accepts(key) => Some(replica),
            Some(_) | None if has_place => {
                Some(self.observers.entry(key).or_insert_with(|| Replica::new(key, Vec::new())))
            }
            Some(_) | None => self.observers.get_mut(&key),
        }
    }

    /// Forgets observers that have not fetched for a while.
    fn forget_silent(&mut self, now_ms: i64) {
        let fetches = |fetched_ms: i64| now_ms - fetched_ms < OBSERVER_SESSION_MS;
        self.observers.retain(|_, replica| replica.last_fetch_ms.is_some_and(fetches));
    }

    /// Which of the replicas vote, after the log said so anew.
    pub(super) fn follow_voters(&mut self, voters: &Voters) {
        let mut old = std::mem::take(&mut self.voters);
        for voter in voters.0.values() {
            let voted = old.get(&voter.key.id).filter(|replica| replica.key.accepts(voter.key));
            let known = voted.or_else(|| self.observers.get(&voter.key)).cloned();
            if voted.is_some() {
                old.remove(&voter.key.id);
            }
            self.observers.remove(&voter.key);
            let mut replica = known.unwrap_or_else(|| Replica::new(voter.key, Vec::new()));
            replica.key = voter.key;
            replica.endpoints.clone_from(&voter.endpoints);
            self.voters.insert(voter.key.id, replica);
        }
        for (_, mut replica) in old {
            replica.endpoints.clear();
            self.observers.entry(replica.key).or_insert(replica);
        }
    }

    /// A voter was heard of; once a majority was, the leader may lead on.
    fn heard_of(&mut self, key: ReplicaKey, local: NodeId, until_ms: i64) {
        if self.voters.get(&key.id).is_some_and(|replica| replica.key.accepts(key)) {
            self.fetched.insert(key.id);
        }
        let majority = self.voters.len() / 2 + usize::from(!self.voters.contains_key(&local));
        if self.fetched.len() >= majority {
            self.fetched.clear();
            self.check_quorum_at_ms = until_ms;
        }
    }
}

impl QuorumCore {
    pub(super) fn become_leader(&mut self, granting: Vec<NodeId>) {
        let voters = self.membership.voters().clone();
        let replicas =
            voters.0.values().map(|voter| (voter.key.id, Replica::new(voter.key, voter.endpoints.clone())));
        let leader = Leader {
            epoch_start: self.log.end,
            voters: replicas.collect(),
            observers: std::collections::BTreeMap::new(),
            fetched: std::collections::BTreeSet::new(),
            check_quorum_at_ms: self.check_quorum_deadline(),
            begin_at_ms: self.now_ms,
            adding: None,
            removing: None,
            volatile: (!self.membership.can_change())
                .then(|| voters.updated_by_id(self.config.local.clone()))
                .flatten(),
            upgraded: None,
            resigning: false,
        };
        self.connections.reset();
        self.role = Role::Leader(Box::new(leader));
        self.persist();
        let mut control = vec![ControlRecord::LeaderChange {
            leader: self.config.local.key.id,
            voters: voters.ids().into_iter().collect(),
            granting,
        }];
        // The voters are written once, and again when this one can be reached elsewhere.
        let unwritten = self.membership.voters_offset() == Some(-1);
        if self.membership.can_change() && (unwritten || voters.is_outdated(&self.config.local)) {
            let updated = voters.updated(self.config.local.clone()).unwrap_or(voters);
            let level = self.membership.level();
            control.extend([ControlRecord::KRaftVersion(level), ControlRecord::Voters(updated)]);
        }
        self.append(NewRecords::Control(control));
    }

    fn check_quorum_deadline(&self) -> i64 {
        self.now_ms + self.config.timing.fetch_timeout_ms * 3 / 2
    }

    /// What ends with leadership: whoever waits is told.
    pub(super) fn abandon_leadership(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let refused = || Err((ErrorCode::NotLeaderOrFollower, None));
        if let Some(adding) = leader.adding.take().filter(|adding| !adding.answered) {
            self.actions.push(Action::Reply(adding.token, Response::AddVoter(refused())));
        }
        if let Some(removing) = leader.removing.take() {
            self.actions.push(Action::Reply(removing.token, Response::RemoveVoter(refused())));
        }
        for WaitingFetch { token, .. } in std::mem::take(&mut self.waiting) {
            let header = self.header(Some(ErrorCode::NotLeaderOrFollower));
            self.reply(token, Response::Fetch(header, self.fetched_nothing()));
        }
    }

    /// Appends a batch in the epoch of this leader; gives where it begins.
    pub(super) fn append(&mut self, records: NewRecords) -> Offset {
        let base_offset = self.log.end;
        let end = base_offset + records.count();
        self.log.append(self.epoch, end);
        if let NewRecords::Control(control) = &records {
            let placed: Vec<_> = (base_offset..).zip(control.iter().cloned()).collect();
            self.membership.append(&placed);
            let (voters, check_quorum_at_ms) =
                (self.membership.voters().clone(), self.check_quorum_deadline());
            if let Role::Leader(leader) = &mut self.role {
                if leader.voters.len() == 1 {
                    // Alone it was not checked whether it leads others.
                    leader.check_quorum_at_ms = check_quorum_at_ms;
                }
                leader.follow_voters(&voters);
            }
        }
        self.actions.push(Action::Append { epoch: self.epoch, base_offset, records });
        base_offset
    }

    pub(super) fn append_values(&mut self, token: Token, epoch: LeaderEpoch, values: Vec<Bytes>) {
        let leads = matches!(&self.role, Role::Leader(leader) if !leader.resigning);
        if !leads || epoch != self.epoch || values.is_empty() {
            return self.reply(token, Response::Appended(Err(ErrorCode::NotLeaderOrFollower)));
        }
        let base_offset = self.append(NewRecords::Values(values));
        self.reply(token, Response::Appended(Ok(base_offset..self.log.end)));
    }

    /// The disk of this leader has what it appended.
    pub(super) fn flushed(&mut self, epoch: LeaderEpoch, end: Offset) {
        let local = self.config.local.key;
        if let Role::Leader(leader) = &mut self.role
            && epoch == self.epoch
            && let Some(replica) = leader.voters.get_mut(&local.id)
        {
            replica.end = replica.end.max(Some(end));
        } else if !matches!(self.role, Role::Leader(_)) || epoch != self.epoch {
            return;
        }
        // A leader that no longer votes still serves what it appends.
        self.readable_end = self.readable_end.max(end);
        self.update_high_watermark();
        self.answer_fetches(false);
    }

    /// Moves the high watermark to what a majority has. Nothing counts before a record of this epoch does, and it never
    /// goes back, not even when other voters would have it so.
    pub(super) fn update_high_watermark(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let reached = leader.majority_end().filter(|end| *end > leader.epoch_start);
        if let Some(end) = reached
            && self.commit(end)
        {
            self.voters_committed(end);
            self.answer_fetches(true);
        }
    }

    /// Why a request that only a leader can serve is refused.
    pub(super) fn refuse_as_leader(&self, epoch: LeaderEpoch) -> Option<ErrorCode> {
        if epoch < self.epoch {
            Some(ErrorCode::FencedLeaderEpoch)
        } else if epoch > self.epoch {
            Some(ErrorCode::UnknownLeaderEpoch)
        } else if !matches!(self.role, Role::Leader(_)) {
            Some(ErrorCode::NotLeaderOrFollower)
        } else if self.stopping && !self.is_only_voter() {
            Some(ErrorCode::BrokerNotAvailable)
        } else {
            None
        }
    }

    pub(super) fn fetch_requested(&mut self, token: Token, request: FetchRequest) {
        let FetchRequest { epoch, replica, offset, last_epoch, wait_max_ms, .. } = request;
        let invalid = wait_max_ms < 0 || offset < 0 || last_epoch < 0 || last_epoch > epoch;
        if invalid || replica.id == self.config.local.key.id {
            let header = self.header(Some(ErrorCode::InvalidRequest));
            return self.reply(token, Response::Fetch(header, self.fetched_nothing()));
        }
        let (header, fetched) = self.fetch(&request);
        let is_empty = matches!(fetched.progress, Progress::Read { from, to, .. } if from >= to);
        let knows_all = request.high_watermark >= fetched.high_watermark.unwrap_or(-1);
        let can_wait = wait_max_ms > 0 && self.waiting.len() < WAITING_FETCHES_MAX;
        if header.error.is_none() && is_empty && knows_all && can_wait {
            let until_ms = self.now_ms + wait_max_ms;
            self.waiting.push(WaitingFetch { token, request, until_ms });
        } else {
            self.reply(token, Response::Fetch(header, fetched));
        }
    }

    fn fetched_nothing(&self) -> Fetched {
        let progress = Progress::Read { from: self.readable_end, to: self.readable_end, bytes_max: 0 };
        Fetched { high_watermark: None, log_start: self.log.start, progress }
    }

    /// Answers a fetch as it is now. That a replica asks for an offset says that it has what is before.
    fn fetch(&mut self, request: &FetchRequest) -> (Header, Fetched) {
        let FetchRequest { epoch, replica, offset, last_epoch, bytes_max, .. } = *request;
        if let Some(error) = self.refuse_as_leader(epoch) {
            return (self.header(Some(error)), self.fetched_nothing());
        }
        let progress = match self.log.validate(offset, last_epoch) {
            Validity::Valid => {
                self.replica_fetched(replica, offset);
                let bytes_max = bytes_max.min(self.config.timing.fetch_bytes_max);
                Progress::Read { from: offset, to: self.readable_end, bytes_max }
            }
            Validity::Diverging { epoch, end_offset } => Progress::Diverging { epoch, end_offset },
            Validity::Snapshot(id) => Progress::Snapshot(id),
        };
        let fetched =
            Fetched { high_watermark: self.high_watermark_of_epoch(), log_start: self.log.start, progress };
        (self.header(None), fetched)
    }

    /// The high watermark as this leader knows it of its own; not before its epoch has one.
    fn high_watermark_of_epoch(&self) -> Option<Offset> {
        let Role::Leader(leader) = &self.role else { return None };
        self.high_watermark.filter(|offset| *offset > leader.epoch_start)
    }

    fn replica_fetched(&mut self, key: ReplicaKey, offset: Offset) {
        let (now_ms, log_end, local) = (self.now_ms, self.readable_end, self.config.local.key.id);
        let check_quorum_at_ms = self.check_quorum_deadline();
        let Role::Leader(leader) = &mut self.role else { return };
        if key.id < 0 {
            return;
        }
        if let Some(replica) = leader.replica(key, now_ms) {
            replica.fetched(offset, log_end, now_ms);
        }
        leader.heard_of(key, local, check_quorum_at_ms);
        self.update_high_watermark();
    }

    /// Answers the fetches for which there is something now; all of them where the high watermark moved.
    pub(super) fn answer_fetches(&mut self, all: bool) {
        let high_watermark = self.high_watermark_of_epoch().unwrap_or(-1);
        let (ready, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|fetch| {
                all || self.readable_end > fetch.request.offset
                    || high_watermark > fetch.request.high_watermark
            });
        self.waiting = waiting;
        for WaitingFetch { token, request, .. } in ready {
            let (header, fetched) = self.fetch(&request);
            self.reply(token, Response::Fetch(header, fetched));
        }
    }

    /// Answers the fetches that waited long enough.
    pub(super) fn expire_fetches(&mut self) {
        let now_ms = self.now_ms;
        let (late, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|fetch| fetch.until_ms <= now_ms);
        self.waiting = waiting;
        for WaitingFetch { token, .. } in late {
            let header = self.header(None);
            let fetched =
                Fetched { high_watermark: self.high_watermark_of_epoch(), ..self.fetched_nothing() };
            self.reply(token, Response::Fetch(header, fetched));
        }
    }

    pub(super) fn fetch_snapshot_requested(&mut self, request: &FetchSnapshotRequest) -> Response {
        let FetchSnapshotRequest { epoch, replica, id, position, bytes_max } = *request;
        // Whatever is asked for has to fit in memory.
        let bytes_max = bytes_max.min(self.config.timing.fetch_snapshot_bytes_max.max(1 << 20));
        let piece = FetchedSnapshot { id, size: 0, position, bytes: Bytes::new(), bytes_max };
        let unknown = (!self.log.snapshots.contains(&id)).then_some(ErrorCode::SnapshotNotFound);
        let error = self.refuse_as_leader(epoch).or(unknown);
        if error.is_none() {
            self.heard_of(replica);
        }
        Response::FetchSnapshot(self.header(error), piece)
    }

    /// A voter was heard of by something else than a fetch.
    pub(super) fn heard_of(&mut self, key: ReplicaKey) {
        let (local, check_quorum_at_ms) = (self.config.local.key.id, self.check_quorum_deadline());
        if let Role::Leader(leader) = &mut self.role
            && key.id != local
        {
            leader.heard_of(key, local, check_quorum_at_ms);
        }
    }

    /// A snapshot of this node is durable. The log that an older one covers is no longer needed: what is between the
    /// two is kept, for replicas that are a little behind.
    pub(super) fn snapshot_saved(&mut self, id: SnapshotId) {
        if self.log.snapshots.last().is_some_and(|last| *last >= id) || id.end_offset > self.log.end {
            return;
        }
        let older = self.log.snapshots.last().map(|older| older.end_offset);
        self.log.snapshots.push(id);
        if let Some(start) = older.filter(|start| *start > self.log.start) {
            self.log.delete_before(start);
            self.membership.delete_before(start);
            self.actions.push(Action::DeleteBefore(start));
        }
    }

    pub(super) fn described(&mut self) -> Option<QuorumState> {
        let now_ms = self.now_ms;
        let (epoch, log_end, local) = (self.epoch, self.log.end, self.config.local.key);
        let high_watermark = self.high_watermark_of_epoch();
        let Role::Leader(leader) = &mut self.role else { return None };
        leader.forget_silent(now_ms);
        let state = |replica: &Replica| {
            let is_local = replica.key.accepts(local);
            ReplicaState {
                key: replica.key,
                endpoints: replica.endpoints.clone(),
                log_end: if is_local { Some(log_end) } else { replica.end },
                last_fetch_ms: if is_local { Some(now_ms) } else { replica.last_fetch_ms },
                last_caught_up_ms: if is_local { Some(now_ms) } else { replica.last_caught_up_ms },
            }
        };
        Some(QuorumState {
            leader: local.id,
            epoch,
            high_watermark,
            voters: leader.voters.values().map(state).collect(),
            observers: leader.observers.values().map(state).collect(),
        })
    }
}
