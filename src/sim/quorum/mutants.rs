//! What may be wrong with a node, to see that it is noticed.

use super::nodes::Quorum;
use crate::quorum::core::QuorumCore;
use crate::quorum::core::message::{Action, Event, Fetched, Progress, Request, Response, RoleName};
use crate::types::{NodeId, Offset};

/// A mistake. The core stays as it is: what goes in and comes out of it is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) enum Mutant {
    /// A follower does not remove what its leader has not.
    NoTruncation,
    /// A vote goes to candidates whose logs lack records.
    VoteIgnoresLog,
    /// A follower tells how far it is before that is on its disk.
    FetchBeforeSync,
    /// A voter votes for everyone who asks.
    DoubleVote,
    /// A vote is forgotten in a crash.
    VoteNotPersisted,
    /// What a voter does is only made durable after it has answered.
    PersistAfterAnswer,
    /// A leader counts its own log as durable before it is.
    LeaderCountsUnflushed,
    /// Any response is taken for the answer to the last request.
    CorrelationsIgnored,
    /// A replica keeps its identity when its disk is lost.
    WipedVoterVotes,
    /// A snapshot has what is not committed.
    SnapshotOfUncommitted,
    /// A leader commits records of older epochs by counting who has them (figure 8 of the Raft paper).
    CommitsOldEpoch,
    /// A leader counts a replica that does not vote for one that does.
    ObserverCounts,
    /// A leader changes the voters again before the last change is committed.
    ChangesVotersTwice,
    /// A candidate votes for another one in the same epoch.
    CandidateGrants,
    /// The question whether it would vote moves a node to a new epoch.
    PreVoteChangesEpoch,
    /// A follower removes everything where its log parts from the leader's, committed or not.
    TruncatesCommitted,
}

impl Mutant {
    pub(in crate::sim) const ALL: [Self; 16] = [
        Self::NoTruncation,
        Self::VoteIgnoresLog,
        Self::FetchBeforeSync,
        Self::DoubleVote,
        Self::VoteNotPersisted,
        Self::PersistAfterAnswer,
        Self::LeaderCountsUnflushed,
        Self::CorrelationsIgnored,
        Self::WipedVoterVotes,
        Self::SnapshotOfUncommitted,
        Self::CommitsOldEpoch,
        Self::ObserverCounts,
        Self::ChangesVotersTwice,
        Self::CandidateGrants,
        Self::PreVoteChangesEpoch,
        Self::TruncatesCommitted,
    ];
}

impl Quorum {
    /// What a node hears of a request.
    pub(super) fn mutated_request(&self, to: NodeId, mut request: Request) -> Request {
        match (self.settings.mutant, &mut request) {
            (Some(Mutant::VoteIgnoresLog), Request::Vote(vote)) => {
                let newest = if vote.pre_vote { vote.epoch } else { (vote.epoch - 1).max(0) };
                (vote.last_epoch, vote.end_offset) = (newest, Offset::MAX);
            }
            (Some(Mutant::NoTruncation), Request::Fetch(fetch)) => {
                // As if the leader's log had what the follower has.
                if let Some(node) = self.nodes.get(&to)
                    && let Some(epoch) = node.disk.live().log.epoch_before(fetch.offset)
                {
                    fetch.last_epoch = epoch;
                }
            }
            (Some(Mutant::ObserverCounts), Request::Fetch(fetch)) => {
                let voters = self.nodes.get(&to).and_then(|node| node.disk.live().voters());
                if let Some(voters) = voters.filter(|voters| !voters.contains(fetch.replica)) {
                    let other = voters.keys().find(|key| key.id != to);
                    fetch.replica = other.unwrap_or(fetch.replica);
                }
            }
            (Some(Mutant::PreVoteChangesEpoch), Request::Vote(vote)) if vote.pre_vote => vote.epoch += 1,
            _ => {}
        }
        request
    }

    /// What others hear of an answer.
    pub(super) fn mutated_response(&self, from: NodeId, request: &Request, response: Response) -> Response {
        match (self.settings.mutant, request, response) {
            (Some(Mutant::DoubleVote), Request::Vote(vote), Response::Vote(mut header, false))
                if !vote.pre_vote && header.epoch == vote.epoch && header.leader != Some(from) =>
            {
                header.error = None;
                Response::Vote(header, true)
            }
            (Some(Mutant::CandidateGrants), Request::Vote(vote), Response::Vote(header, false))
                if !vote.pre_vote && header.epoch == vote.epoch && self.is_candidate(from) =>
            {
                Response::Vote(header, true)
            }
            (_, _, response) => response,
        }
    }

    fn is_candidate(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.leadership.role == RoleName::Candidate)
    }

    /// What a node does because of an event.
    pub(super) fn mutated_step(
        mutant: Option<Mutant>,
        core: &mut QuorumCore,
        now_ms: i64,
        event: Event,
    ) -> Vec<Action> {
        let changes_voters =
            matches!(event, Event::Request(_, Request::AddVoter(_) | Request::RemoveVoter(_)));
        let diverges = matches!(&event, Event::Response(_, Ok(Response::Fetch(_, fetched))) if matches!(fetched.progress, Progress::Diverging { .. }));
        match (mutant, event) {
            (Some(Mutant::CommitsOldEpoch), event) => {
                let known = core.believe_epoch_start(0);
                let actions = core.step(now_ms, event);
                if let Some(known) = known {
                    core.believe_epoch_start(known);
                }
                actions
            }
            (Some(Mutant::ChangesVotersTwice), event) if changes_voters => {
                let known = core.believe_committed(Some(core.log().end));
                let actions = core.step(now_ms, event);
                core.believe_committed(known);
                actions
            }
            (
                Some(Mutant::TruncatesCommitted),
                Event::Response(correlation, Ok(Response::Fetch(header, fetched))),
            ) if diverges => {
                let known = core.believe_committed(None);
                let progress = Progress::Diverging { epoch: 0, end_offset: 0 };
                let response = Response::Fetch(header, Fetched { progress, ..fetched });
                let actions = core.step(now_ms, Event::Response(correlation, Ok(response)));
                core.believe_committed(known);
                actions
            }
            (_, event) => core.step(now_ms, event),
        }
    }

    /// What a node does of what it should.
    pub(super) fn mutated_actions(&self, actions: Vec<Action>) -> Vec<Action> {
        if self.settings.mutant == Some(Mutant::PersistAfterAnswer) {
            let persists = |action: &Action| matches!(action, Action::Persist(_));
            let (last, mut first): (Vec<_>, Vec<_>) = actions.into_iter().partition(persists);
            first.extend(last);
            return first;
        }
        actions
    }
}
