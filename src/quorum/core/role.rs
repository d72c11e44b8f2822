//! What a node is, and what it knows only as long as it is that.

use std::collections::{BTreeMap, BTreeSet};

use super::super::election::ReplicaKey;
use super::super::voters::{Voter, VoterEndpoint, Voters};
use super::message::{SnapshotId, Token};
use crate::types::{NodeId, Offset};

/// The part of a node in its epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    Unattached(Unattached),
    Prospective(Prospective),
    Candidate(Candidate),
    Leader(Box<Leader>),
    Follower(Follower),
    Resigned(Resigned),
}

/// Waits for a leader, or for the time to look for votes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Unattached {
    pub(super) leader: Option<NodeId>,
    pub(super) voted: Option<ReplicaKey>,
    /// `None` for an observer.
    pub(super) election_at_ms: Option<i64>,
}

/// Asks whether it would be elected (KIP-996).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Prospective {
    pub(super) leader: Option<NodeId>,
    pub(super) endpoints: Vec<VoterEndpoint>,
    pub(super) voted: Option<ReplicaKey>,
    pub(super) tally: Tally,
    pub(super) election_at_ms: i64,
}

/// Asks to be elected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Candidate {
    pub(super) tally: Tally,
    pub(super) election_at_ms: i64,
}

/// Follows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Follower {
    pub(super) leader: NodeId,
    pub(super) endpoints: Vec<VoterEndpoint>,
    pub(super) voted: Option<ReplicaKey>,
    pub(super) fetch_until_ms: i64,
    /// When the voters are compared with what this node is.
    pub(super) update_voter_at_ms: i64,
    pub(super) has_fetched: bool,
    pub(super) has_updated_leader: bool,
    pub(super) snapshot: Option<Download>,
}

/// A snapshot that is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Download {
    pub(super) id: SnapshotId,
    pub(super) position: u64,
}

/// Led until now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Resigned {
    pub(super) unacknowledged: BTreeSet<NodeId>,
    pub(super) preferred: Vec<ReplicaKey>,
    pub(super) election_at_ms: i64,
}

/// Leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leader {
    pub(super) epoch_start: Offset,
    pub(super) voters: BTreeMap<NodeId, Replica>,
    pub(super) observers: BTreeMap<ReplicaKey, Replica>,
    /// Which voters fetched since the last time that a majority had.
    pub(super) fetched: BTreeSet<NodeId>,
    pub(super) check_quorum_at_ms: i64,
    pub(super) begin_at_ms: i64,
    pub(super) adding: Option<Adding>,
    pub(super) removing: Option<Removing>,
    /// What the voters say of themselves while the log can not hold it (level 0 of `kraft.version`).
    pub(super) volatile: Option<Voters>,
    /// The level that was asked for and is written, committed or not.
    pub(super) upgraded: Option<i16>,
    pub(super) resigning: bool,
}

/// How far a replica is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Replica {
    pub(super) key: ReplicaKey,
    pub(super) endpoints: Vec<VoterEndpoint>,
    pub(super) end: Option<Offset>,
    pub(super) last_fetch_ms: Option<i64>,
    /// Where the leader's log ended when the replica fetched last.
    pub(super) leader_end: Offset,
    pub(super) last_caught_up_ms: Option<i64>,
}

impl Replica {
    pub(super) fn new(key: ReplicaKey, endpoints: Vec<VoterEndpoint>) -> Self {
        Self { key, endpoints, end: None, last_fetch_ms: None, leader_end: -1, last_caught_up_ms: None }
    }

    pub(super) fn fetched(&mut self, offset: Offset, leader_end: Offset, now_ms: i64) {
        if offset >= leader_end {
            self.last_caught_up_ms = Some(now_ms);
        } else if self.leader_end > 0 && offset >= self.leader_end {
            self.last_caught_up_ms = self.last_caught_up_ms.max(self.last_fetch_ms);
        }
        self.leader_end = leader_end;
        self.last_fetch_ms = Some(now_ms);
        self.end = Some(offset);
    }
}

/// A voter that is being added.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Adding {
    pub(super) token: Token,
    pub(super) voter: Voter,
    pub(super) ack_when_committed: bool,
    pub(super) until_ms: i64,
    /// Where the new voters are written; `None` while the new voter is asked what it can do.
    pub(super) offset: Option<Offset>,
    pub(super) answered: bool,
}

/// A voter that is being removed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Removing {
    pub(super) token: Token,
    pub(super) until_ms: i64,
    pub(super) offset: Offset,
}

/// The votes of an election.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Tally(BTreeMap<NodeId, (ReplicaKey, Option<bool>)>);

impl Tally {
    /// An election in which this node has voted for itself.
    pub(super) fn begun(voters: &Voters, local: NodeId) -> Self {
        let vote = |key: ReplicaKey| (key.id, (key, (key.id == local).then_some(true)));
        Self(voters.keys().map(vote).collect())
    }

    pub(super) fn record(&mut self, id: NodeId, granted: bool) {
        if let Some((_, vote)) = self.0.get_mut(&id) {
            *vote = Some(granted);
        }
    }

    fn count(&self, of: Option<bool>) -> usize {
        self.0.values().filter(|(_, vote)| *vote == of).count()
    }

    pub(super) fn is_won(&self) -> bool {
        self.count(Some(true)) > self.0.len() / 2
    }

    pub(super) fn is_lost(&self) -> bool {
        self.count(Some(true)) + self.count(None) <= self.0.len() / 2
    }

    pub(super) fn missing(&self) -> Vec<ReplicaKey> {
        self.0.values().filter(|(_, vote)| vote.is_none()).map(|(key, _)| *key).collect()
    }

    pub(super) fn granting(&self) -> Vec<NodeId> {
        self.0.iter().filter(|(_, (_, vote))| *vote == Some(true)).map(|(id, _)| *id).collect()
    }
}
