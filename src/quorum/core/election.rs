//! Votes, and how a node passes from one role to the next.

use super::super::election::{ElectionState, ReplicaKey};
use super::super::voters::VoterEndpoint;
use super::QuorumCore;
use super::message::{Action, BeginRequest, EndRequest, Header, Response, Unreachable, VoteRequest};
use super::role::{Candidate, Prospective, Resigned, Role, Tally, Unattached};
use crate::error::ErrorCode;
use crate::types::{LeaderEpoch, NodeId};

impl QuorumCore {
    /// Makes the present epoch, leader and vote durable.
    pub(super) fn persist(&mut self) {
        let leader = self.leader();
        let state = ElectionState { epoch: self.epoch, leader, voted: self.voted() };
        self.actions.push(Action::Persist(state));
    }

    /// Leaves the present role.
    fn leave(&mut self) {
        self.connections.reset();
        if matches!(self.role, Role::Leader(_)) {
            self.abandon_leadership();
        }
    }

    /// An epoch of which the leader is not known, or is known without an address.
    pub(super) fn become_unattached(&mut self, epoch: LeaderEpoch, leader: Option<NodeId>) {
        let voted = if epoch == self.epoch { self.voted() } else { None };
        let election_at_ms = self.is_voter().then(|| match &self.role {
            // Who waits goes on waiting: a stream of new epochs must not keep everyone from an election.
            Role::Candidate(role) => role.election_at_ms,
            Role::Unattached(Unattached { election_at_ms: Some(at_ms), .. }) => *at_ms,
            Role::Prospective(role) if !role.tally.is_lost() => role.election_at_ms,
            Role::Resigned(role) => role.election_at_ms,
            Role::Unattached(_) | Role::Prospective(_) | Role::Follower(_) | Role::Leader(_) => {
                self.election_deadline()
            }
        });
        self.leave();
        self.epoch = epoch;
        self.role = Role::Unattached(Unattached { leader, voted, election_at_ms });
        self.persist();
    }

    pub(super) fn become_follower(
        &mut self,
        epoch: LeaderEpoch,
        leader: NodeId,
        endpoints: Vec<VoterEndpoint>,
    ) {
        let voted = if epoch == self.epoch { self.voted() } else { None };
        self.leave();
        self.epoch = epoch;
        self.role = Role::Follower(self.new_follower(leader, endpoints, voted));
        self.persist();
    }

    /// Asks whether there would be votes. Nothing durable changes.
    pub(super) fn become_prospective(&mut self) {
        let tally = Tally::begun(self.membership.voters(), self.config.local.key.id);
        let prospective = Prospective {
            leader: self.leader(),
            endpoints: self.leader_endpoints().to_vec(),
            voted: self.voted(),
            tally,
            election_at_ms: self.election_deadline(),
        };
        self.leave();
        self.role = Role::Prospective(prospective);
        self.forward();
    }

    fn become_candidate(&mut self) {
        let tally = Tally::begun(self.membership.voters(), self.config.local.key.id);
        // There is none after the last, which only a peer that makes epochs up can have named.
        let Some(epoch) = self.epoch.checked_add(1) else { return };
        let election_at_ms = self.election_deadline();
        self.leave();
        self.epoch = epoch;
        self.role = Role::Candidate(Candidate { tally, election_at_ms });
        self.persist();
        self.forward();
    }

    /// Leads no longer, and asks others to.
    pub(super) fn resign(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let local = self.config.local.key;
        let preferred: Vec<ReplicaKey> =
            leader.ranked().into_iter().filter(|key| key.id != local.id).collect();
        let unacknowledged = self.other_voters().into_iter().map(|key| key.id).collect();
        let election_at_ms = self.election_deadline();
        self.leave();
        self.role = Role::Resigned(Resigned { unacknowledged, preferred, election_at_ms });
    }

    /// Goes on where the votes are enough.
    pub(super) fn forward(&mut self) {
        match &self.role {
            Role::Prospective(role) if role.tally.is_won() => self.become_candidate(),
            Role::Candidate(role) if role.tally.is_won() => {
                let granting = role.tally.granting();
                self.become_leader(granting);
            }
            Role::Prospective(_)
            | Role::Candidate(_)
            | Role::Unattached(_)
            | Role::Follower(_)
            | Role::Leader(_)
            | Role::Resigned(_) => {}
        }
    }

    /// Back to the leader that was known, or to waiting for one.
    pub(super) fn give_up_election(&mut self) {
        let Role::Prospective(role) = &self.role else { return };
        match (role.leader, role.endpoints.clone()) {
            (Some(leader), endpoints) if !endpoints.is_empty() && leader != self.config.local.key.id => {
                self.become_follower(self.epoch, leader, endpoints);
            }
            (leader, _) => self.become_unattached(self.epoch, leader),
        }
    }

    pub(super) fn vote_requested(&mut self, request: &VoteRequest) -> Response {
        let VoteRequest { epoch, candidate, voter, last_epoch, end_offset, pre_vote } = request;
        // Who asks for a vote has never seen a leader in its epoch, so it can have no record of it.
        let impossible = if *pre_vote { last_epoch > epoch } else { last_epoch >= epoch };
        if *end_offset < 0 || *last_epoch < 0 || impossible || candidate.id < 0 {
            return Response::Vote(self.header(Some(ErrorCode::InvalidRequest)), false);
        }
        if *epoch < self.epoch {
            return Response::Vote(self.header(Some(ErrorCode::FencedLeaderEpoch)), false);
        }
        if *epoch > self.epoch {
            self.become_unattached(*epoch, None);
        }
        if !self.is_meant(*voter) {
            return Response::Vote(self.header(Some(ErrorCode::InvalidVoterKey)), false);
        }
        let up_to_date = (*last_epoch, *end_offset) >= (self.log.last_epoch(), self.log.end);
        let granted = self.grants(*candidate, up_to_date, *pre_vote);
        if granted && !pre_vote {
            self.vote_for(*candidate);
        }
        Response::Vote(self.header(None), granted)
    }

    /// Whether a request that names its receiver names this node.
    fn is_meant(&self, voter: Option<ReplicaKey>) -> bool {
        voter.is_none_or(|voter| voter.accepts(self.config.local.key))
    }

    fn grants(&self, candidate: ReplicaKey, up_to_date: bool, pre_vote: bool) -> bool {
        let free = |leader: Option<NodeId>, voted: Option<ReplicaKey>| match voted {
            _ if pre_vote => up_to_date,
            Some(voted) => voted.accepts(candidate),
            None => leader.is_none() && up_to_date,
        };
        match &self.role {
            Role::Unattached(role) => free(role.leader, role.voted),
            Role::Prospective(role) => free(role.leader, role.voted),
            Role::Candidate(_) | Role::Resigned(_) => pre_vote && up_to_date,
            // Who hears from its leader does not help to depose it. An observer that no longer does stays a follower, and
            // may be needed: others know already that it votes now (Kafka's never helps again).
            Role::Follower(role) => {
                let hears = role.has_fetched && self.now_ms < role.fetch_until_ms;
                pre_vote && up_to_date && !hears
            }
            Role::Leader(_) => false,
        }
    }

    fn vote_for(&mut self, candidate: ReplicaKey) {
        let deadline_ms = self.election_deadline();
        match &mut self.role {
            Role::Unattached(role) if role.voted.is_none() => {
                role.voted = Some(candidate);
                role.election_at_ms = role.election_at_ms.map(|_| deadline_ms);
            }
            Role::Prospective(role) if role.voted.is_none() => {
                role.voted = Some(candidate);
                role.tally = Tally::begun(self.membership.voters(), self.config.local.key.id);
                role.election_at_ms = deadline_ms;
            }
            Role::Unattached(_)
            | Role::Prospective(_)
            | Role::Candidate(_)
            | Role::Resigned(_)
            | Role::Follower(_)
            | Role::Leader(_) => return,
        }
        self.persist();
    }

    pub(super) fn vote_answered(&mut self, node: NodeId, header: &Header, granted: bool) -> bool {
        if let Some(handled) = self.common(header) {
            return handled;
        }
        if header.error.is_some() {
            return false;
        }
        match &mut self.role {
            Role::Prospective(Prospective { tally, .. }) | Role::Candidate(Candidate { tally, .. }) => {
                tally.record(node, granted);
                let is_lost = tally.is_lost();
                self.forward();
                if is_lost {
                    self.give_up_election();
                }
            }
            Role::Unattached(_) | Role::Follower(_) | Role::Leader(_) | Role::Resigned(_) => {}
        }
        true
    }

    /// A request could not be answered. Where a voter does not know the question whether it would vote, it is asked to
    /// vote at once.
    pub(super) fn request_failed(&mut self, node: NodeId, failure: Unreachable) -> bool {
        if failure == Unreachable::UnsupportedVersion && matches!(self.role, Role::Prospective(_)) {
            self.become_candidate();
            return true;
        }
        self.join_failed(node);
        false
    }

    pub(super) fn begin_requested(&mut self, request: BeginRequest) -> Header {
        let BeginRequest { epoch, leader, endpoints, voter } = request;
        if let Some(error) = self.refuse_leader(leader, epoch) {
            return self.header(Some(error));
        }
        self.observe(Some(leader), epoch, endpoints);
        let error = (!self.is_meant(voter)).then_some(ErrorCode::InvalidVoterKey);
        self.header(error)
    }

    pub(super) fn end_requested(&mut self, request: EndRequest) -> Header {
        let EndRequest { epoch, leader, endpoints, preferred } = request;
        if let Some(error) = self.refuse_leader(leader, epoch) {
            return self.header(Some(error));
        }
        self.observe(Some(leader), epoch, endpoints);
        let backoff_ms = self.successor_backoff_ms(&preferred);
        if let Role::Follower(role) = &mut self.role
            && role.leader == leader
        {
            role.fetch_until_ms = self.now_ms + backoff_ms;
        }
        self.header(None)
    }

    fn refuse_leader(&self, leader: NodeId, epoch: LeaderEpoch) -> Option<ErrorCode> {
        if epoch < self.epoch {
            Some(ErrorCode::FencedLeaderEpoch)
        } else if leader < 0 || !self.is_consistent(epoch, Some(leader)) {
            Some(ErrorCode::InvalidRequest)
        } else {
            None
        }
    }

    /// The successor that the leader likes best asks for votes at once, each of the others after twice the time.
    fn successor_backoff_ms(&self, preferred: &[ReplicaKey]) -> i64 {
        let max_ms = self.config.timing.election_backoff_max_ms;
        let position = preferred.iter().position(|key| key.accepts(self.config.local.key));
        match position.unwrap_or(preferred.len()) {
            0 => 0,
            position if position >= preferred.len() => max_ms,
            position => {
                let halvings = u32::try_from(preferred.len() - 1).unwrap_or(u32::MAX);
                let doublings = u32::try_from(position - 1).unwrap_or(u32::MAX);
                let base_ms = max_ms.checked_shr(halvings).unwrap_or(0);
                base_ms.checked_shl(doublings).unwrap_or(max_ms).min(max_ms)
            }
        }
    }

    pub(super) fn end_answered(&mut self, node: NodeId, header: &Header) -> bool {
        if let Some(handled) = self.common(header) {
            return handled;
        }
        if let Role::Resigned(role) = &mut self.role
            && header.error.is_none()
        {
            role.unacknowledged.remove(&node);
            return true;
        }
        header.error.is_none()
    }

    /// What every answer may mean: a newer epoch, or a leader that was not known. `Some` where the answer says nothing
    /// more; then whether the node can be asked again at once.
    pub(super) fn common(&mut self, header: &Header) -> Option<bool> {
        let Header { error, epoch, leader, endpoints } = header;
        if *epoch < 0 {
            // An answer that says nothing but what is wrong: at once it would say that again.
            return Some(false);
        }
        if *epoch < self.epoch || *error == Some(ErrorCode::UnknownLeaderEpoch) {
            return Some(true);
        }
        let fenced = [ErrorCode::FencedLeaderEpoch, ErrorCode::NotLeaderOrFollower];
        if *epoch > self.epoch || error.is_some_and(|error| fenced.contains(&error)) {
            self.observe(*leader, *epoch, endpoints.clone());
            return Some(true);
        }
        let is_lost = matches!(self.role, Role::Unattached(_)) || self.leader().is_none();
        if leader.is_some() && is_lost {
            self.observe(*leader, *epoch, endpoints.clone());
            return error.is_some().then_some(true);
        }
        match error {
            Some(ErrorCode::BrokerNotAvailable) => Some(false),
            Some(ErrorCode::InvalidVoterKey) => Some(true),
            Some(_) | None => None,
        }
    }

    /// Whether what is said of the leader of an epoch can be.
    fn is_consistent(&self, epoch: LeaderEpoch, leader: Option<NodeId>) -> bool {
        epoch != self.epoch
            || match (leader, self.leader()) {
                (Some(said), Some(known)) => said == known,
                (Some(said), None) => said != self.config.local.key.id,
                (None, _) => true,
            }
    }

    /// Takes in who is said to lead an epoch.
    fn observe(&mut self, leader: Option<NodeId>, epoch: LeaderEpoch, endpoints: Vec<VoterEndpoint>) {
        if epoch < self.epoch || !self.is_consistent(epoch, leader) {
            return;
        }
        let known = |leader| {
            if endpoints.is_empty() {
                self.membership.voters().endpoints(leader).to_vec()
            } else {
                endpoints.clone()
            }
        };
        let local = self.config.local.key.id;
        match leader {
            // Others remember that this node led, and it does not: its state was lost. It must not vote in that epoch.
            Some(leader) if leader == local => {
                if epoch > self.epoch {
                    self.become_unattached(epoch, Some(local));
                }
            }
            Some(leader) => {
                let endpoints = known(leader);
                let is_news = epoch > self.epoch
                    || self.leader().is_none()
                    || endpoints.len() > self.leader_endpoints().len();
                if is_news && !endpoints.is_empty() {
                    self.become_follower(epoch, leader, endpoints);
                } else if epoch > self.epoch {
                    self.become_unattached(epoch, Some(leader));
                }
            }
            None => {
                if epoch > self.epoch {
                    self.become_unattached(epoch, None);
                }
            }
        }
    }
}
