//! What the time brings: elections, fetches, requests that are sent again.

use super::super::election::ReplicaKey;
use super::QuorumCore;
use super::message::{AddVoterRequest, BeginRequest, EndRequest, Request, VoteRequest};
use super::role::Role;
use crate::types::NodeId;

/// How often a role may change within one step: to candidate, to leader, and a few times for no reason that is known.
const TRANSITIONS_MAX: usize = 8;

impl QuorumCore {
    /// Does what is due now in the present role, and finds out when to look again.
    pub(super) fn poll(&mut self) {
        self.expire_fetches();
        for _ in 0..TRANSITIONS_MAX {
            let wake_at_ms = match &self.role {
                Role::Unattached(role) => {
                    let election_at_ms = role.election_at_ms;
                    self.poll_unattached(election_at_ms)
                }
                Role::Prospective(role) => {
                    let (election_at_ms, missing) = (role.election_at_ms, role.tally.missing());
                    let is_lost = role.tally.is_lost();
                    self.poll_prospective(election_at_ms, is_lost, &missing)
                }
                Role::Candidate(role) => {
                    let (election_at_ms, missing) = (role.election_at_ms, role.tally.missing());
                    let is_lost = role.tally.is_lost();
                    self.poll_candidate(election_at_ms, is_lost, &missing)
                }
                Role::Follower(_) => self.poll_follower(),
                Role::Leader(_) => self.poll_leader(),
                Role::Resigned(role) => {
                    let election_at_ms = role.election_at_ms;
                    self.poll_resigned(election_at_ms)
                }
            };
            if let Some(wake_at_ms) = wake_at_ms {
                self.wake_at_ms = (wake_at_ms < i64::MAX).then_some(wake_at_ms);
                return;
            }
        }
        // Whatever it is, it goes on a little later.
        self.wake_at_ms = Some(self.now_ms + self.config.timing.retry_backoff_ms);
    }

    fn poll_unattached(&mut self, election_at_ms: Option<i64>) -> Option<i64> {
        let is_voter = self.is_voter();
        match election_at_ms.filter(|_| is_voter && !self.stopping) {
            Some(at_ms) if at_ms <= self.now_ms => {
                self.become_prospective();
                None
            }
            at_ms => Some(self.fetch_from_bootstrap().min(at_ms.unwrap_or(i64::MAX))),
        }
    }

    fn poll_prospective(
        &mut self,
        election_at_ms: i64,
        is_lost: bool,
        missing: &[ReplicaKey],
    ) -> Option<i64> {
        if (election_at_ms <= self.now_ms && !self.stopping) || !self.is_voter() {
            self.give_up_election();
            return None;
        }
        let retry_at_ms = if is_lost { i64::MAX } else { self.send_votes(missing, true) };
        Some(retry_at_ms.min(election_at_ms))
    }

    fn poll_candidate(&mut self, election_at_ms: i64, is_lost: bool, missing: &[ReplicaKey]) -> Option<i64> {
        if election_at_ms <= self.now_ms && !self.stopping {
            self.become_prospective();
            return None;
        }
        let retry_at_ms = if is_lost { i64::MAX } else { self.send_votes(missing, false) };
        Some(retry_at_ms.min(if self.stopping { i64::MAX } else { election_at_ms }))
    }

    fn send_votes(&mut self, voters: &[ReplicaKey], pre_vote: bool) -> i64 {
        let request = |core: &Self, voter| {
            Request::Vote(VoteRequest {
                epoch: core.epoch,
                candidate: core.config.local.key,
                voter: Some(voter),
                last_epoch: core.log.last_epoch(),
                end_offset: core.log.end,
                pre_vote,
            })
        };
        self.send_to_voters(voters, request)
    }

    /// Asks each of these voters, if it is not asked already; gives when one can be asked next.
    fn send_to_voters(
        &mut self,
        voters: &[ReplicaKey],
        request: impl Fn(&Self, ReplicaKey) -> Request,
    ) -> i64 {
        let mut next_ms = i64::MAX;
        for voter in voters {
            let endpoints = self.membership.voters().endpoints(voter.id);
            let Some(to) = self.destination(voter.id, endpoints) else { continue };
            let request = request(self, *voter);
            let sent = self.send(to, request);
            next_ms = next_ms.min(sent.err().unwrap_or(self.now_ms + self.config.timing.request_timeout_ms));
        }
        next_ms
    }

    fn poll_follower(&mut self) -> Option<i64> {
        if self.stopping {
            return Some(i64::MAX);
        }
        if self.is_voter() { self.poll_voting_follower() } else { Some(self.poll_observer()) }
    }

    fn poll_voting_follower(&mut self) -> Option<i64> {
        let Role::Follower(role) = &self.role else { return None };
        let (fetch_until_ms, is_due) = (role.fetch_until_ms, role.update_voter_at_ms <= self.now_ms);
        if fetch_until_ms <= self.now_ms {
            self.become_prospective();
            return None;
        }
        let has_updated = role.has_updated_leader;
        let outdated = if self.membership.can_change() {
            self.membership.voters().is_outdated(&self.config.local)
        } else {
            !has_updated
        };
        let next_ms = if is_due && outdated {
            let request = Request::UpdateVoter(self.epoch, self.config.local.clone());
            self.tell_leader(request)
        } else {
            if is_due {
                self.put_off_update();
            }
            self.fetch_from_best()
        };
        Some(next_ms.min(fetch_until_ms))
    }

    fn poll_observer(&mut self) -> i64 {
        let Role::Follower(role) = &self.role else { return self.now_ms };
        let update_at_ms = role.update_voter_at_ms;
        let wants_to_vote = self.membership.can_change() && self.config.can_vote && self.config.auto_join;
        if !wants_to_vote {
            return self.fetch_from_best();
        }
        if update_at_ms > self.now_ms {
            return self.fetch_from_best().min(update_at_ms);
        }
        let local = self.config.local.clone();
        let older = self.membership.voters().0.get(&local.key.id).map(|voter| voter.key);
        let request = match older {
            // The voter with this id has another directory: this node before it was wiped.
            Some(older) => Request::RemoveVoter(older),
            None => Request::AddVoter(AddVoterRequest { voter: local, ack_when_committed: false }),
        };
        self.tell_leader(request)
    }

    /// Sends something else than a fetch to the leader, at the next time that it can be asked.
    fn tell_leader(&mut self, request: Request) -> i64 {
        let Some(leader) = self.leader_destination() else { return self.fetch_from_bootstrap() };
        match self.send(leader, request) {
            Ok(()) => {
                self.put_off_update();
                self.now_ms + self.config.timing.request_timeout_ms
            }
            Err(next_ms) => next_ms,
        }
    }

    fn put_off_update(&mut self) {
        let next_ms = self.now_ms + self.config.timing.fetch_timeout_ms;
        if let Role::Follower(role) = &mut self.role {
            role.update_voter_at_ms = next_ms;
        }
    }

    fn poll_leader(&mut self) -> Option<i64> {
        self.expire_changes();
        let is_alone = self.is_only_voter();
        let Role::Leader(leader) = &self.role else { return None };
        let unheard = leader.voters.len() > 1 && leader.check_quorum_at_ms <= self.now_ms;
        if leader.resigning || unheard || (self.stopping && !is_alone) {
            self.resign();
            return None;
        }
        if leader.begin_at_ms <= self.now_ms {
            self.send_begins();
        }
        let Role::Leader(leader) = &self.role else { return None };
        let checked = (leader.voters.len() > 1).then_some(leader.check_quorum_at_ms);
        let begun = (leader.voters.len() > 1).then_some(leader.begin_at_ms);
        let changes = [
            leader.adding.as_ref().map(|one| one.until_ms),
            leader.removing.as_ref().map(|one| one.until_ms),
        ];
        Some(changes.into_iter().chain([checked, begun]).flatten().min().unwrap_or(i64::MAX))
    }

    /// Tells the voters that have not fetched lately who leads.
    fn send_begins(&mut self) {
        let half_ms = self.config.timing.fetch_timeout_ms / 2;
        let (now_ms, local) = (self.now_ms, self.config.local.key.id);
        let Role::Leader(leader) = &mut self.role else { return };
        leader.begin_at_ms = now_ms + half_ms;
        let silent = |fetched: Option<i64>| fetched.is_none_or(|at_ms| now_ms - at_ms >= half_ms);
        let others = leader.voters.values().filter(|replica| replica.key.id != local);
        let voters: Vec<_> = others.filter(|one| silent(one.last_fetch_ms)).map(|one| one.key).collect();
        self.send_to_voters(&voters, |core, voter| {
            Request::Begin(BeginRequest {
                epoch: core.epoch,
                leader: local,
                endpoints: core.config.local.endpoints.clone(),
                voter: Some(voter),
            })
        });
    }

    fn poll_resigned(&mut self, election_at_ms: i64) -> Option<i64> {
        if election_at_ms <= self.now_ms
            && !self.stopping
            && let Some(epoch) = self.epoch.checked_add(1)
        {
            // A new epoch, so that nobody follows this node in the old one.
            self.become_unattached(epoch, None);
            return None;
        }
        let Role::Resigned(role) = &self.role else { return None };
        let preferred = role.preferred.clone();
        let unacknowledged: Vec<NodeId> = role.unacknowledged.iter().copied().collect();
        let others = self.other_voters();
        let voters: Vec<_> = others.into_iter().filter(|key| unacknowledged.contains(&key.id)).collect();
        let retry_at_ms = self.send_to_voters(&voters, |core, _| {
            Request::End(EndRequest {
                epoch: core.epoch,
                leader: core.config.local.key.id,
                endpoints: core.config.local.endpoints.clone(),
                preferred: preferred.clone(),
            })
        });
        Some(retry_at_ms.min(if self.stopping { i64::MAX } else { election_at_ms }))
    }
}
