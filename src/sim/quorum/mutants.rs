//! What may be wrong with a node, to see that it is noticed.

use super::nodes::Quorum;
use crate::quorum::core::message::{Action, Request, Response};
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
}

impl Mutant {
    pub(in crate::sim) const ALL: [Self; 9] = [
        Self::NoTruncation,
        Self::VoteIgnoresLog,
        Self::FetchBeforeSync,
        Self::DoubleVote,
        Self::VoteNotPersisted,
        Self::PersistAfterAnswer,
        Self::LeaderCountsUnflushed,
        Self::CorrelationsIgnored,
        Self::WipedVoterVotes,
    ];
}

impl Quorum {
    /// What a node hears of a request.
    pub(super) fn mutated_request(&self, to: NodeId, mut request: Request) -> Request {
        match (self.settings.mutant, &mut request) {
            (Some(Mutant::VoteIgnoresLog), Request::Vote(vote)) => {
                (vote.last_epoch, vote.end_offset) = (vote.epoch - 1, Offset::MAX);
            }
            (Some(Mutant::NoTruncation), Request::Fetch(fetch)) => {
                // As if the leader's log had what the follower has.
                if let Some(node) = self.nodes.get(&to)
                    && let Some(epoch) = node.disk.live().log.epoch_before(fetch.offset)
                {
                    fetch.last_epoch = epoch;
                }
            }
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
            (_, _, response) => response,
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
