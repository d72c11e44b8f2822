//! The state machine of a node of the quorum (Kafka's `KafkaRaftClient` and `QuorumState`).
//!
//! [`QuorumCore::step`] takes what happened and gives back what to do, in the order in which it has to be done: a vote
//! or an epoch is durable before anything that relies on it leaves. There is no clock, no storage and no network in it;
//! its randomness comes from a seed, so the same events give the same actions.
//!
//! - [`message`]: events, actions, requests and responses; `role`: what a node can be;
//! - `election`: votes, and how a node passes from one role to the next; `leader`: what a leader knows and serves;
//! - `follower`: fetching from a leader; `membership`: voters that are added, removed, updated (KIP-853);
//! - `poll`: what the time brings; `connections`: requests on their way; [`history`]: the log as the core knows it.

#[cfg(test)]
pub(crate) mod canonical;
mod connections;
mod election;
mod follower;
pub mod history;
mod leader;
mod membership;
pub mod message;
mod poll;
mod role;
#[cfg(test)]
mod script;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use connections::Connections;
use history::{LogView, Membership};
use message::{
    Action, Event, Header, Leadership, Request, Response, RoleName, SnapshotContents, SnapshotId, Token,
};
use role::{Follower, Resigned, Role, Tally, Unattached};

use super::control::ControlRecord;
use super::election::{ElectionState, ReplicaKey};
use super::voters::{Voter, Voters};
use crate::error::ErrorCode;
use crate::types::{LeaderEpoch, NodeId, Offset};

/// How long things may take (`controller.quorum.*`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// How long a voter without a leader waits before it asks for votes; twice that at most.
    pub election_timeout_ms: i64,
    /// How long a follower waits for its leader, and with half as much again a leader for its followers.
    pub fetch_timeout_ms: i64,
    /// How long the last of the preferred successors of a leader waits before it asks for votes.
    pub election_backoff_max_ms: i64,
    /// How long an answer may take.
    pub request_timeout_ms: i64,
    /// How long a node is left alone after a failure.
    pub retry_backoff_ms: i64,
    /// How long a leader may hold back the answer to a fetch that found nothing.
    pub fetch_wait_max_ms: i64,
    /// How many bytes one fetch brings.
    pub fetch_bytes_max: usize,
    /// How many bytes of a snapshot one fetch brings.
    pub fetch_snapshot_bytes_max: usize,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            election_timeout_ms: 1_000,
            fetch_timeout_ms: 2_000,
            election_backoff_max_ms: 1_000,
            request_timeout_ms: 2_000,
            retry_backoff_ms: 20,
            fetch_wait_max_ms: 500,
            fetch_bytes_max: 8 << 20,
            fetch_snapshot_bytes_max: 1 << 20,
        }
    }
}

/// Who votes as long as the log does not say it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum InitialVoters {
    /// Those of a new cluster, which writes them down (`kafka-storage format --standalone`, `--initial-controllers`).
    Formatted(Voters),
    /// Those of `controller.quorum.voters`, which can not change until `kraft.version` is raised.
    Fixed(Voters),
    /// Nobody is known; the leader is found by the bootstrap servers.
    Unknown,
}

/// What a node is started with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// This node, as a voter.
    pub local: Voter,
    /// Whether it can be a voter, which is whether it is a controller.
    pub can_vote: bool,
    /// Whether it makes itself a voter (`controller.quorum.auto.join.enable`, KIP-1186).
    pub auto_join: bool,
    /// The listener by which the quorum is reached.
    pub listener: String,
    /// Where a leader may be found (`controller.quorum.bootstrap.servers`).
    pub bootstrap: Vec<(String, u16)>,
    /// Who votes in the beginning.
    pub initial_voters: InitialVoters,
    /// How long things may take.
    pub timing: Timing,
    /// Where chance comes from.
    pub seed: u64,
}

/// What a node remembers when it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Remembered {
    /// The last durable state, if there was one.
    pub election: ElectionState,
    /// The log as it is on the disk.
    pub log: LogView,
    /// What the newest snapshot says of the quorum, if there is one.
    pub snapshot: Option<(SnapshotId, SnapshotContents)>,
    /// What the log says of the quorum.
    pub control: Vec<(Offset, ControlRecord)>,
}

/// One node of the quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumCore {
    config: Config,
    now_ms: i64,
    random: Random,
    log: LogView,
    /// Up to where the log is on the disk, and so up to where a leader lets it be read.
    readable_end: Offset,
    membership: Membership,
    epoch: LeaderEpoch,
    role: Role,
    high_watermark: Option<Offset>,
    connections: Connections,
    waiting: Vec<WaitingFetch>,
    /// A snapshot takes the place of the log on the disk: until that is done, nothing is fetched, neither what would be
    /// behind the old end nor what is beyond the snapshot's.
    installing: bool,
    stopping: bool,
    told: Option<Leadership>,
    wake_at_ms: Option<i64>,
    actions: Vec<Action>,
}

/// A fetch that found nothing, until there is something or its time is over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct WaitingFetch {
    token: Token,
    request: message::FetchRequest,
    until_ms: i64,
}

/// Chance from a seed (splitmix64).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Random(u64);

impl Random {
    /// A number from 0 to below `bound`; 0 where nothing is below.
    fn below(&mut self, bound: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        u64::try_from(bound).ok().and_then(|bound| mixed.checked_rem(bound)).map_or(0, u64::cast_signed)
    }
}

impl QuorumCore {
    /// Takes up what is remembered. The only voter leads at once, in a new epoch: its own vote is the majority.
    pub fn start(config: Config, remembered: Remembered, now_ms: i64) -> (Self, Vec<Action>) {
        let Remembered { election, log, snapshot, control } = remembered;
        let mut membership = match &config.initial_voters {
            InitialVoters::Formatted(voters) => Membership::formatted(voters.clone()),
            InitialVoters::Fixed(voters) => Membership::fixed(voters.clone()),
            InitialVoters::Unknown => Membership::default(),
        };
        if let Some((id, contents)) = snapshot {
            membership.reset(id.end_offset, contents);
        }
        membership.append(&control);
        let connections = Connections::new(config.timing.request_timeout_ms, config.timing.retry_backoff_ms);
        let mut core = Self {
            random: Random(config.seed),
            config,
            now_ms,
            readable_end: log.end,
            log,
            membership,
            epoch: election.epoch,
            role: Role::Unattached(Unattached { leader: None, voted: None, election_at_ms: None }),
            high_watermark: None,
            connections,
            waiting: Vec::new(),
            installing: false,
            stopping: false,
            told: None,
            wake_at_ms: None,
            actions: Vec::new(),
        };
        core.take_up(&election);
        if core.is_only_voter() {
            // Its log is the majority's.
            core.commit(core.log.end);
            core.become_prospective();
        } else {
            core.persist();
            core.forward();
        }
        core.poll();
        let actions = core.finish();
        (core, actions)
    }

    /// The role that the durable state leaves to this node.
    fn take_up(&mut self, election: &ElectionState) {
        let local = self.config.local.key;
        let election_at_ms = self.is_voter().then(|| self.election_deadline());
        let unattached =
            |leader| Role::Unattached(Unattached { leader, voted: election.voted, election_at_ms });
        self.role = if election.epoch < self.log.last_epoch() {
            // The state was lost; the log was not.
            self.epoch = self.log.last_epoch();
            Role::Unattached(Unattached { leader: None, voted: None, election_at_ms })
        } else if election.leader == Some(local.id) {
            let unacknowledged = self.other_voters().into_iter().map(|key| key.id).collect();
            Role::Resigned(Resigned {
                unacknowledged,
                preferred: Vec::new(),
                election_at_ms: self.election_deadline(),
            })
        } else if election.voted.is_some_and(|voted| voted.accepts(local)) && self.is_voter() {
            Role::Candidate(role::Candidate {
                tally: Tally::begun(self.membership.voters(), local.id),
                election_at_ms: self.election_deadline(),
            })
        } else if let Some(leader) = election.leader {
            let endpoints = self.membership.voters().endpoints(leader).to_vec();
            if endpoints.is_empty() {
                unattached(Some(leader))
            } else {
                Role::Follower(self.new_follower(leader, endpoints, election.voted))
            }
        } else {
            unattached(None)
        };
    }

    fn new_follower(
        &self,
        leader: NodeId,
        endpoints: Vec<super::voters::VoterEndpoint>,
        voted: Option<ReplicaKey>,
    ) -> Follower {
        Follower {
            leader,
            endpoints,
            voted,
            fetch_until_ms: self.now_ms + self.config.timing.fetch_timeout_ms,
            update_voter_at_ms: self.now_ms + self.config.timing.fetch_timeout_ms,
            has_fetched: false,
            has_updated_leader: false,
            snapshot: None,
        }
    }

    /// Takes in what happened at a time, and gives what to do, in this order. Time must not go back.
    pub fn step(&mut self, now_ms: i64, event: Event) -> Vec<Action> {
        self.now_ms = self.now_ms.max(now_ms);
        match event {
            Event::Tick => {}
            Event::Request(token, request) => self.requested(token, request),
            Event::Response(correlation, response) => {
                if let Some(node) = self.connections.expected(correlation) {
                    let success = self.responded(node, response);
                    self.connections.end(node, correlation, success, self.now_ms);
                }
            }
            Event::Append(token, epoch, values) => self.append_values(token, epoch, values),
            Event::Flushed(epoch, end) => self.flushed(epoch, end),
            Event::SnapshotSaved(id) => self.snapshot_saved(id),
            Event::SnapshotInstalled(id, contents) => self.snapshot_installed(id, contents),
            Event::Resign(epoch) => {
                if epoch == self.epoch && !self.is_only_voter() {
                    self.resign();
                }
            }
            Event::Shutdown => self.stopping = true,
        }
        self.poll();
        self.finish()
    }

    /// When time has to be told next, if nothing else happens.
    pub fn deadline(&self) -> Option<i64> {
        let fetches = self.waiting.iter().map(|fetch| fetch.until_ms).min();
        self.wake_at_ms.into_iter().chain(fetches).min()
    }

    fn requested(&mut self, token: Token, request: Request) {
        let response = match request {
            Request::Vote(request) => self.vote_requested(&request),
            Request::Begin(request) => Response::Begin(self.begin_requested(request)),
            Request::End(request) => Response::End(self.end_requested(request)),
            Request::Fetch(request) => return self.fetch_requested(token, request),
            Request::FetchSnapshot(request) => self.fetch_snapshot_requested(&request),
            Request::AddVoter(request) => return self.add_voter_requested(token, request),
            Request::RemoveVoter(key) => return self.remove_voter_requested(token, key),
            Request::UpdateVoter(epoch, voter) => {
                Response::UpdateVoter(self.update_voter_requested(epoch, voter))
            }
            Request::UpgradeKraftVersion(request) => {
                Response::UpgradeKraftVersion(self.upgrade_requested(&request))
            }
            Request::Describe => Response::Described(self.describe()),
            Request::KraftVersions => Response::KraftVersions(Ok(Some(self.config.local.kraft_versions))),
        };
        self.reply(token, response);
    }

    /// Takes in an answer; says whether the node that gave it can be asked again at once.
    fn responded(&mut self, node: NodeId, response: Result<Response, message::Unreachable>) -> bool {
        match response {
            Ok(Response::Vote(header, granted)) => self.vote_answered(node, &header, granted),
            Ok(Response::Begin(header)) => self.common(&header).unwrap_or(header.error.is_none()),
            Ok(Response::End(header)) => self.end_answered(node, &header),
            Ok(Response::Fetch(header, fetched)) => self.fetch_answered(&header, fetched),
            Ok(Response::FetchSnapshot(header, fetched)) => self.fetch_snapshot_answered(&header, fetched),
            Ok(Response::AddVoter(outcome)) => self.join_answered(&outcome, ErrorCode::DuplicateVoter),
            Ok(Response::RemoveVoter(outcome)) => self.join_answered(&outcome, ErrorCode::VoterNotFound),
            Ok(Response::UpdateVoter(header)) => self.update_voter_answered(&header),
            Ok(Response::KraftVersions(answer)) => self.kraft_versions_answered(node, answer),
            Err(failure) => self.request_failed(node, failure),
            Ok(Response::UpgradeKraftVersion(_) | Response::Appended(_) | Response::Described(_)) => false,
        }
    }

    /// Ends a step: what the role became is told last.
    fn finish(&mut self) -> Vec<Action> {
        let leadership = self.leadership();
        if self.told.as_ref() != Some(&leadership) {
            self.told = Some(leadership.clone());
            self.actions.push(Action::Role(leadership));
        }
        std::mem::take(&mut self.actions)
    }

    fn reply(&mut self, token: Token, response: Response) {
        self.actions.push(Action::Reply(token, response));
    }

    fn header(&self, error: Option<ErrorCode>) -> Header {
        Header {
            error,
            epoch: self.epoch,
            leader: self.leader(),
            endpoints: self.leader_endpoints().to_vec(),
        }
    }

    /// Moves the high watermark, which never goes back; says whether it moved.
    fn commit(&mut self, offset: Offset) -> bool {
        let moved = self.high_watermark.is_none_or(|known| known < offset);
        if moved {
            self.high_watermark = Some(offset);
            self.actions.push(Action::Committed(offset));
        }
        moved
    }

    fn election_deadline(&mut self) -> i64 {
        let timeout_ms = self.config.timing.election_timeout_ms;
        self.now_ms + timeout_ms + self.random.below(timeout_ms)
    }
}

/// What is known of the quorum.
impl QuorumCore {
    /// This node.
    pub fn local(&self) -> ReplicaKey {
        self.config.local.key
    }

    /// The newest epoch that is known.
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Everything before it is committed, if that is known.
    pub fn high_watermark(&self) -> Option<Offset> {
        self.high_watermark
    }

    /// The log as the core knows it.
    pub fn log(&self) -> &LogView {
        &self.log
    }

    /// The voters as the log says.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Whether this node votes.
    pub fn is_voter(&self) -> bool {
        self.config.can_vote && self.membership.voters().contains(self.config.local.key)
    }

    /// Whether nobody else votes.
    pub fn is_only_voter(&self) -> bool {
        self.config.can_vote && self.membership.voters().is_only(self.config.local.key)
    }

    /// What this node is.
    pub fn role_name(&self) -> RoleName {
        match &self.role {
            Role::Leader(_) => RoleName::Leader,
            Role::Candidate(_) => RoleName::Candidate,
            Role::Prospective(_) => RoleName::Prospective,
            Role::Resigned(_) => RoleName::Resigned,
            Role::Follower(_) if self.is_voter() => RoleName::Follower,
            Role::Follower(_) => RoleName::Observer,
            Role::Unattached(_) => RoleName::Unattached,
        }
    }

    /// Who leads the epoch, if that is known.
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Leader(_) | Role::Resigned(_) => Some(self.config.local.key.id),
            Role::Follower(role) => Some(role.leader),
            Role::Prospective(role) => role.leader,
            Role::Unattached(role) => role.leader,
            Role::Candidate(_) => None,
        }
    }

    /// How many observers fetch from this node, if it leads.
    pub fn observers(&self) -> Option<usize> {
        match &self.role {
            Role::Leader(role) => Some(role.observers.len()),
            Role::Candidate(_)
            | Role::Prospective(_)
            | Role::Resigned(_)
            | Role::Follower(_)
            | Role::Unattached(_) => None,
        }
    }

    /// Whom this node voted for in the epoch.
    pub fn voted(&self) -> Option<ReplicaKey> {
        match &self.role {
            Role::Leader(_) | Role::Resigned(_) => None,
            Role::Follower(role) => role.voted,
            Role::Prospective(role) => role.voted,
            Role::Unattached(role) => role.voted,
            Role::Candidate(_) => Some(self.config.local.key),
        }
    }

    /// Whether this node can stop without harm to the others: nobody waits for it to make room for another leader.
    pub fn can_stop(&self) -> bool {
        match &self.role {
            Role::Leader(_) => self.is_only_voter(),
            Role::Resigned(role) => role.unacknowledged.is_empty() || !self.is_voter(),
            Role::Candidate(_) | Role::Prospective(_) | Role::Follower(_) | Role::Unattached(_) => true,
        }
    }

    /// How the quorum is, if this node leads it.
    pub fn describe(&mut self) -> Option<message::QuorumState> {
        self.described()
    }

    fn leader_endpoints(&self) -> &[super::voters::VoterEndpoint] {
        match &self.role {
            Role::Leader(_) | Role::Resigned(_) => &self.config.local.endpoints,
            Role::Follower(role) => &role.endpoints,
            Role::Prospective(role) => &role.endpoints,
            Role::Unattached(_) | Role::Candidate(_) => &[],
        }
    }

    fn leadership(&self) -> Leadership {
        let epoch_start = match &self.role {
            Role::Leader(leader) => leader.epoch_start,
            Role::Unattached(_)
            | Role::Prospective(_)
            | Role::Candidate(_)
            | Role::Follower(_)
            | Role::Resigned(_) => -1,
        };
        Leadership {
            epoch: self.epoch,
            leader: self.leader(),
            endpoints: self.leader_endpoints().to_vec(),
            role: self.role_name(),
            epoch_start,
        }
    }

    fn other_voters(&self) -> Vec<ReplicaKey> {
        let local = self.config.local.key.id;
        self.membership.voters().keys().filter(|key| key.id != local).collect()
    }
}
