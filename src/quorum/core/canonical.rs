//! For the search through all schedules: cores become equal that differ only in the time of their clock and in the names
//! of their requests. And what a core is made to believe, to see that it is noticed.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use super::super::election::ReplicaKey;
use super::message::{Correlation, Token};
use super::role::{Replica, Role};
use super::{QuorumCore, Random};
use crate::types::Offset;

/// What is this far away does not come by itself.
pub(crate) const NEVER_MS: i64 = 1_000_000;

/// A moment of a clock that is put back to 0.
pub(super) fn rebased(at_ms: i64, now_ms: i64) -> i64 {
    let left_ms = at_ms.saturating_sub(now_ms);
    if left_ms > NEVER_MS / 2 { NEVER_MS } else { left_ms.max(0) }
}

impl QuorumCore {
    /// Puts the clock back to 0, all chance to the same seed, and names each request after the node that it went to.
    /// Gives the new names of the requests that are waited for.
    pub(crate) fn settle(&mut self) -> BTreeMap<Correlation, Correlation> {
        let now_ms = std::mem::take(&mut self.now_ms);
        let rebase = |at_ms: &mut i64| *at_ms = rebased(*at_ms, now_ms);
        self.random = Random(0);
        self.wake_at_ms.iter_mut().for_each(rebase);
        for fetch in &mut self.waiting {
            fetch.until_ms = NEVER_MS;
        }
        match &mut self.role {
            Role::Unattached(role) => role.election_at_ms.iter_mut().for_each(rebase),
            Role::Prospective(role) => rebase(&mut role.election_at_ms),
            Role::Candidate(role) => rebase(&mut role.election_at_ms),
            Role::Resigned(role) => rebase(&mut role.election_at_ms),
            Role::Follower(role) => {
                rebase(&mut role.fetch_until_ms);
                role.update_voter_at_ms = NEVER_MS;
            }
            Role::Leader(role) => {
                rebase(&mut role.check_quorum_at_ms);
                rebase(&mut role.begin_at_ms);
                role.adding.iter_mut().for_each(|adding| adding.until_ms = NEVER_MS);
                role.removing.iter_mut().for_each(|removing| removing.until_ms = NEVER_MS);
                for replica in role.voters.values_mut().chain(role.observers.values_mut()) {
                    settle_replica(replica, now_ms);
                }
            }
        }
        self.connections.settle()
    }

    /// Whoever waits for a reply of this core.
    pub(crate) fn tokens(&mut self) -> Vec<&mut Token> {
        let mut tokens: Vec<&mut Token> = self.waiting.iter_mut().map(|fetch| &mut fetch.token).collect();
        if let Role::Leader(role) = &mut self.role {
            tokens.extend(role.adding.iter_mut().map(|adding| &mut adding.token));
            tokens.extend(role.removing.iter_mut().map(|removing| &mut removing.token));
        }
        tokens
    }

    /// Whether there is any.
    pub(crate) fn has_tokens(&self) -> bool {
        let changes = |role: &Role| matches!(role, Role::Leader(role) if role.adding.is_some() || role.removing.is_some());
        !self.waiting.is_empty() || changes(&self.role)
    }

    /// Whether a leader is about to make this replica a voter.
    pub(crate) fn is_adding(&self, key: ReplicaKey) -> bool {
        matches!(&self.role, Role::Leader(role) if role.adding.as_ref().is_some_and(|adding| adding.voter.key == key))
    }

    /// Everything that tells this core from others of the same node.
    pub(crate) fn fingerprint(&self, hasher: &mut impl Hasher) {
        let Self { log, readable_end, membership, epoch, role, high_watermark, .. } = self;
        (log, readable_end, membership, epoch, role, high_watermark).hash(hasher);
        let Self { connections, waiting, stopping, told, installing, .. } = self;
        (connections, waiting, stopping, told, installing).hash(hasher);
    }

    /// A leader believes that its epoch began there; gives what it believed.
    pub(crate) fn believe_epoch_start(&mut self, offset: Offset) -> Option<Offset> {
        let Role::Leader(role) = &mut self.role else { return None };
        Some(std::mem::replace(&mut role.epoch_start, offset))
    }

    /// Believes that this much is committed, and no change of the voters open; gives what it believed.
    pub(crate) fn believe_committed(&mut self, offset: Option<Offset>) -> Option<Offset> {
        if let Role::Leader(role) = &mut self.role {
            (role.adding, role.removing) = (None, None);
        }
        std::mem::replace(&mut self.high_watermark, offset)
    }
}

fn settle_replica(replica: &mut Replica, now_ms: i64) {
    // A fetch is recent or is not.
    replica.last_fetch_ms = replica.last_fetch_ms.map(|at_ms| (at_ms - now_ms).max(-2));
    replica.last_caught_up_ms = replica.last_caught_up_ms.map(|_| 0);
}
