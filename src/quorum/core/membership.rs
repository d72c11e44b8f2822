//! Voters that are added, removed, updated, one at a time (KIP-853; Kafka's `AddVoterHandler`, `RemoveVoterHandler`,
//! `UpdateVoterHandler`, and `LeaderState.maybeAppendUpgradedKRaftVersion`).

use super::super::control::ControlRecord;
use super::super::election::ReplicaKey;
use super::super::voters::{VersionRange, Voter, Voters};
use super::QuorumCore;
use super::message::{
    Action, AddVoterRequest, Header, NewRecords, Outcome, Request, Response, Token, UpgradeRequest,
};
use super::role::{Adding, Removing, Role};
use crate::error::ErrorCode;
use crate::types::{LeaderEpoch, NodeId, Offset};

/// A new voter that had everything at some time must have fetched within this time.
const CAUGHT_UP_WITHIN_MS: i64 = 3_600_000;

fn refused(code: ErrorCode, message: impl Into<String>) -> Outcome {
    Err((code, Some(message.into())))
}

impl QuorumCore {
    /// The voters, if they can change now: the leader's epoch and the change before are committed.
    fn changeable_voters(&self, verb: &str) -> Result<Voters, (ErrorCode, Option<String>)> {
        let timed_out = |text: &str| (ErrorCode::RequestTimedOut, Some(text.to_owned()));
        if let Some(error) = self.refuse_as_leader(self.epoch) {
            return Err((error, None));
        }
        let Role::Leader(leader) = &self.role else { return Err((ErrorCode::NotLeaderOrFollower, None)) };
        if leader.adding.is_some() || leader.removing.is_some() {
            return Err(timed_out("the leader is still at the change of the voters before this one"));
        }
        let Some(high_watermark) = self.high_watermark.filter(|offset| *offset > leader.epoch_start) else {
            return Err(timed_out("nothing of the leader's epoch is committed yet"));
        };
        if !self.membership.can_change() {
            let level = self.membership.level();
            let text = format!("the cluster does not support {verb} voters, as kraft.version is {level}");
            return Err((ErrorCode::UnsupportedVersion, Some(text)));
        }
        if self.membership.voters_offset().is_none_or(|offset| offset >= high_watermark) {
            return Err(timed_out("the change of the voters before this one is not committed yet"));
        }
        Ok(self.membership.voters().clone())
    }

    pub(super) fn add_voter_requested(&mut self, token: Token, request: AddVoterRequest) {
        if let Err(refusal) = self.begin_adding(token, request) {
            self.reply(token, Response::AddVoter(Err(refusal)));
        }
    }

    /// Asks the new voter whether it can work at the cluster's level.
    fn begin_adding(
        &mut self,
        token: Token,
        AddVoterRequest { voter, ack_when_committed }: AddVoterRequest,
    ) -> Result<(), (ErrorCode, Option<String>)> {
        self.expire_changes();
        if voter.key.id < 0 || voter.key.directory_id.is_nil() {
            return refused(ErrorCode::InvalidRequest, "the request names no voter with a directory");
        }
        let voters = self.changeable_voters("adding")?;
        if voters.0.contains_key(&voter.key.id) {
            let text = format!("node {} is a voter already", voter.key.id);
            return refused(ErrorCode::DuplicateVoter, text);
        }
        let Some(to) = self.destination(voter.key.id, &voter.endpoints) else {
            let text = format!("the request names no endpoint of the listener {}", self.config.listener);
            return refused(ErrorCode::InvalidRequest, text);
        };
        if self.send(to, Request::KraftVersions).is_err() {
            let text = format!("the new voter {} can not be asked yet", voter.key.id);
            return refused(ErrorCode::RequestTimedOut, text);
        }
        let until_ms = self.now_ms + self.config.timing.request_timeout_ms;
        if let Role::Leader(leader) = &mut self.role {
            let adding = Adding { token, voter, ack_when_committed, until_ms, offset: None, answered: false };
            leader.adding = Some(adding);
        }
        Ok(())
    }

    /// The new voter says at which levels it can work.
    pub(super) fn kraft_versions_answered(
        &mut self,
        node: NodeId,
        answer: Result<Option<VersionRange>, ErrorCode>,
    ) -> bool {
        let Role::Leader(leader) = &self.role else { return true };
        let Some(Adding { voter, offset: None, .. }) =
            leader.adding.as_ref().filter(|one| one.voter.key.id == node)
        else {
            return true;
        };
        let (key, level) = (voter.key, self.membership.level());
        let range = match answer {
            Err(error) => {
                let text = format!("the new voter {node} answered with {error}");
                self.end_adding(refused(ErrorCode::RequestTimedOut, text));
                return false;
            }
            Ok(range) => range.filter(|range| range.contains(level)),
        };
        let Some(kraft_versions) = range else {
            let text = format!("the new voter {node} can not work at level {level} of kraft.version");
            self.end_adding(refused(ErrorCode::InvalidRequest, text));
            return true;
        };
        if !self.is_caught_up(key) {
            let text = format!("the new voter {node} lags behind");
            self.end_adding(refused(ErrorCode::RequestTimedOut, text));
            return true;
        }
        let voter = Voter { kraft_versions, ..voter.clone() };
        let Some(voters) = self.membership.voters().with(voter) else { return true };
        let offset = self.append(NewRecords::Control(vec![ControlRecord::Voters(voters)]));
        let mut answered = None;
        if let Role::Leader(leader) = &mut self.role
            && let Some(adding) = &mut leader.adding
        {
            adding.offset = Some(offset);
            if !adding.ack_when_committed {
                adding.answered = true;
                answered = Some(adding.token);
            }
        }
        if let Some(token) = answered {
            self.reply(token, Response::AddVoter(Ok(())));
        }
        true
    }

    fn is_caught_up(&self, key: ReplicaKey) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        leader.observers.get(&key).is_some_and(|replica| {
            replica.last_caught_up_ms.is_some()
                && replica.last_fetch_ms.is_some_and(|at_ms| at_ms > self.now_ms - CAUGHT_UP_WITHIN_MS)
        })
    }

    fn end_adding(&mut self, outcome: Outcome) {
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(adding) = leader.adding.take().filter(|adding| !adding.answered) {
            self.reply(adding.token, Response::AddVoter(outcome));
        }
    }

    /// A request failed: if it asked a new voter, that one can not be added.
    pub(super) fn join_failed(&mut self, node: NodeId) {
        let Role::Leader(leader) = &self.role else { return };
        if leader.adding.as_ref().is_some_and(|one| one.voter.key.id == node && one.offset.is_none()) {
            let text = format!("the new voter {node} can not be reached");
            self.end_adding(refused(ErrorCode::RequestTimedOut, text));
        }
    }

    pub(super) fn remove_voter_requested(&mut self, token: Token, key: ReplicaKey) {
        if let Err(refusal) = self.begin_removing(token, key) {
            self.reply(token, Response::RemoveVoter(Err(refusal)));
        }
    }

    fn begin_removing(&mut self, token: Token, key: ReplicaKey) -> Result<(), (ErrorCode, Option<String>)> {
        self.expire_changes();
        if key.id < 0 || key.directory_id.is_nil() {
            return refused(ErrorCode::InvalidRequest, "the request names no voter with a directory");
        }
        let voters = self.changeable_voters("removing")?;
        let Some(left) = voters.without(key) else {
            let text = format!("node {} with this directory can not be removed from the voters", key.id);
            return refused(ErrorCode::VoterNotFound, text);
        };
        let offset = self.append(NewRecords::Control(vec![ControlRecord::Voters(left)]));
        let until_ms = self.now_ms + self.config.timing.request_timeout_ms;
        if let Role::Leader(leader) = &mut self.role {
            leader.removing = Some(Removing { token, until_ms, offset });
        }
        // Fewer voters may have what is needed already.
        self.update_high_watermark();
        Ok(())
    }

    /// What is written before this offset is committed, changes of the voters among it.
    pub(super) fn voters_committed(&mut self, high_watermark: Offset) {
        let (is_voter, named_at) = (self.is_voter(), self.membership.voters_offset());
        let Role::Leader(leader) = &mut self.role else { return };
        let done = |offset: Offset| offset < high_watermark;
        // A leader that does not vote has led until that was committed, whether or not anybody still waits for it
        // (Kafka's goes on leading when the request has timed out).
        leader.resigning |= !is_voter && named_at.is_some_and(done);
        if let Some(Removing { token, .. }) = leader.removing.take_if(|removing| done(removing.offset)) {
            self.actions.push(Action::Reply(token, Response::RemoveVoter(Ok(()))));
        }
        if leader.adding.as_ref().is_some_and(|adding| adding.offset.is_some_and(done)) {
            self.end_adding(Ok(()));
        }
    }

    /// Changes that took too long are no longer waited for. What is written may still be committed.
    pub(super) fn expire_changes(&mut self) {
        let now_ms = self.now_ms;
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(Removing { token, .. }) = leader.removing.take_if(|one| one.until_ms <= now_ms) {
            let late = Err((ErrorCode::RequestTimedOut, None));
            self.actions.push(Action::Reply(token, Response::RemoveVoter(late)));
        }
        if leader.adding.as_ref().is_some_and(|one| one.until_ms <= now_ms) {
            self.end_adding(Err((ErrorCode::RequestTimedOut, None)));
        }
    }

    /// A voter says where it is reached now and what it can do.
    pub(super) fn update_voter_requested(&mut self, epoch: LeaderEpoch, voter: Voter) -> Header {
        let updated = self.update_voter(epoch, voter);
        self.header(updated.err())
    }

    fn update_voter(&mut self, epoch: LeaderEpoch, voter: Voter) -> Result<(), ErrorCode> {
        self.expire_changes();
        if let Some(error) = self.refuse_as_leader(epoch) {
            return Err(error);
        }
        let (key, range) = (voter.key, voter.kraft_versions);
        let is_invalid = key.id < 0
            || key.directory_id.is_nil()
            || voter.endpoints.is_empty()
            || range.min < 0
            || range.max < range.min
            || !range.contains(self.membership.level());
        if is_invalid {
            return Err(ErrorCode::InvalidRequest);
        }
        let Role::Leader(leader) = &mut self.role else { return Err(ErrorCode::NotLeaderOrFollower) };
        let is_committed = self.high_watermark.is_some_and(|offset| offset > leader.epoch_start);
        if leader.adding.is_some() || leader.removing.is_some() || !is_committed {
            return Err(ErrorCode::RequestTimedOut);
        }
        if self.membership.can_change() {
            if self.membership.voters_offset() >= self.high_watermark {
                return Err(ErrorCode::RequestTimedOut);
            }
            let updated = self.membership.voters().updated(voter).ok_or(ErrorCode::VoterNotFound)?;
            self.append(NewRecords::Control(vec![ControlRecord::Voters(updated)]));
        } else {
            let known = leader.volatile.as_ref().ok_or(ErrorCode::RequestTimedOut)?;
            let updated = known.updated_by_id(voter).ok_or(ErrorCode::VoterNotFound)?;
            leader.volatile = Some(updated);
        }
        self.heard_of(key);
        Ok(())
    }

    /// The controller finalises another level of `kraft.version`: with the first, the voters get into the log.
    pub(super) fn upgrade_requested(&mut self, request: &UpgradeRequest) -> Outcome {
        let UpgradeRequest { epoch, level, validate_only } = *request;
        let invalid = |text: String| refused(ErrorCode::InvalidUpdateVersion, text);
        if self.refuse_as_leader(epoch).is_some() {
            return Err((ErrorCode::NotController, None));
        }
        let present = self.membership.level();
        let Role::Leader(leader) = &mut self.role else { return Err((ErrorCode::NotController, None)) };
        if leader.upgraded.unwrap_or(present) == level {
            return Ok(());
        }
        if level < present {
            return invalid(format!("kraft.version can not go back from {present} to {level}"));
        }
        let Some(voters) = leader.volatile.clone().filter(|_| leader.upgraded.is_none()) else {
            return invalid(format!("kraft.version can not go from {present} to {level} now"));
        };
        let able = |voter: &Voter| voter.kraft_versions.contains(level) && !voter.key.directory_id.is_nil();
        if !voters.0.values().all(able) || voters.ids() != self.membership.voters().ids() {
            return invalid(format!("not all voters are known to support kraft.version {level}"));
        }
        if !validate_only {
            leader.upgraded = Some(level);
            leader.volatile = None;
            let control = vec![ControlRecord::KRaftVersion(level), ControlRecord::Voters(voters)];
            self.append(NewRecords::Control(control));
        }
        Ok(())
    }

    /// How the leader took it that this node wants to vote, or that its older self should not.
    pub(super) fn join_answered(&mut self, outcome: &Outcome, settled: ErrorCode) -> bool {
        let next_ms = self.now_ms + self.config.timing.fetch_timeout_ms;
        let Role::Follower(role) = &mut self.role else { return false };
        role.update_voter_at_ms = next_ms;
        outcome.as_ref().err().is_none_or(|(code, _)| *code == settled || *code == ErrorCode::RequestTimedOut)
    }

    pub(super) fn update_voter_answered(&mut self, header: &Header) -> bool {
        if let Some(handled) = self.common(header) {
            return handled;
        }
        let fetch_until_ms = self.now_ms + self.config.timing.fetch_timeout_ms;
        match (&mut self.role, header.error) {
            (Role::Follower(role), None | Some(ErrorCode::UnsupportedVersion)) => {
                role.has_updated_leader = true;
                role.has_fetched = true;
                role.fetch_until_ms = fetch_until_ms;
                true
            }
            _ => false,
        }
    }
}
