//! The state machine of a voter.
//!
//! [`QuorumCore::step`] takes what happened and gives back what to do, in the order in which it has to be done: a vote
//! or an epoch is durable before anything that relies on it leaves. Elections between several voters will be more
//! events and more actions of this same machine.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::control::ControlRecord;
use super::election::{ElectionState, ReplicaKey};
use super::voters::{Voter, Voters};
use crate::types::{LeaderEpoch, NodeId, Offset};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The controller wants these records in the log, in one batch.
    Append(Vec<Bytes>),
    /// The log is on this voter's disk up to this offset, exclusively.
    Flushed(Offset),
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make this durable before anything that follows.
    Persist(ElectionState),
    /// Append one batch of control records under this epoch, and flush.
    AppendControl(LeaderEpoch, Vec<ControlRecord>),
    /// Append one batch of records under this epoch, and flush.
    AppendRecords(LeaderEpoch, Vec<Bytes>),
    /// Everything before this offset is committed.
    Committed(Offset),
}

/// Why a voter can not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The log names other voters.
    #[error("the metadata log belongs to a quorum of {0} voters, and this version serves quorums of one")]
    Others(usize),
    /// The log names one voter, and it is not this one.
    #[error("the metadata log belongs to node {} with another directory", .0.id)]
    Other(ReplicaKey),
}

/// What a voter remembers when it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The last durable state, if there was one.
    pub election: ElectionState,
    /// The voters that the log names last, if it names any.
    pub voters: Option<Voters>,
    /// Where the log ends.
    pub log_end: Offset,
}

/// One voter, leading.
#[derive(Clone, Debug)]
pub struct QuorumCore {
    local: ReplicaKey,
    voters: Voters,
    epoch: LeaderEpoch,
    /// The offset of the first record of this epoch: nothing older counts as committed before it is.
    epoch_start: Offset,
    /// How far the log is on the disk of each voter.
    flushed: BTreeMap<NodeId, Offset>,
    high_watermark: Option<Offset>,
}

impl QuorumCore {
    /// Begins a new epoch as the only voter. No election is needed, as its own vote is the majority.
    ///
    /// # Errors
    /// Where others vote too.
    pub fn start(local: &Voter, remembered: &Remembered) -> Result<(Self, Vec<Action>), StartError> {
        let known = remembered.voters.as_ref();
        if let Some(voters) = known.filter(|voters| !voters.is_only(local.key)) {
            return Err(match voters.0.values().next() {
                Some(other) if voters.0.len() == 1 => StartError::Other(other.key),
                Some(_) | None => StartError::Others(voters.0.len()),
            });
        }
        let epoch = remembered.election.epoch + 1;
        let voters = Voters::only(local.clone());
        let mut control = vec![ControlRecord::LeaderChange {
            leader: local.key.id,
            voters: vec![local.key.id],
            granting: vec![local.key.id],
        }];
        // The voters are written once, and again when a voter moved to another address.
        if known != Some(&voters) {
            control.extend([ControlRecord::kraft_version(), ControlRecord::Voters(voters.clone())]);
        }
        let actions = vec![
            Action::Persist(ElectionState { epoch, leader: Some(local.key.id), voted: None }),
            Action::AppendControl(epoch, control),
        ];
        let core = Self {
            local: local.key,
            voters,
            epoch,
            epoch_start: remembered.log_end,
            flushed: BTreeMap::new(),
            high_watermark: None,
        };
        Ok((core, actions))
    }

    /// Takes in what happened.
    pub fn step(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Append(records) => vec![Action::AppendRecords(self.epoch, records)],
            Event::Flushed(end) => {
                self.flushed.insert(self.local.id, end);
                let committed = self.voters.majority(&self.flushed).filter(|end| *end > self.epoch_start);
                if committed > self.high_watermark {
                    self.high_watermark = committed;
                    committed.map(Action::Committed).into_iter().collect()
                } else {
                    Vec::new()
                }
            }
        }
    }

    /// This voter.
    pub fn local(&self) -> ReplicaKey {
        self.local
    }

    /// The epoch that this voter leads.
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Everything before it is committed; `None` before the first record of the epoch is.
    pub fn high_watermark(&self) -> Option<Offset> {
        self.high_watermark
    }

    /// Who votes.
    pub fn voters(&self) -> &Voters {
        &self.voters
    }

    /// How far the log of a voter is known to reach.
    pub fn log_end(&self, id: NodeId) -> Option<Offset> {
        self.flushed.get(&id).copied()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test")]

    use uuid::Uuid;

    use super::super::voters::{VersionRange, VoterEndpoint};
    use super::*;

    fn voter(id: NodeId, port: u16) -> Voter {
        let key = ReplicaKey { id, directory_id: Uuid::from_u128(1_000) };
        Voter {
            key,
            endpoints: vec![VoterEndpoint { listener: "L".into(), host: "h".into(), port }],
            kraft_versions: VersionRange::SUPPORTED,
        }
    }

    fn control_of(actions: &[Action]) -> usize {
        let counts = actions.iter().filter_map(|action| match action {
            Action::AppendControl(_, records) => Some(records.len()),
            Action::Persist(_) | Action::AppendRecords(..) | Action::Committed(_) => None,
        });
        counts.sum()
    }

    #[test]
    fn the_only_voter_leads_at_once_and_says_who_votes() {
        let (core, actions) = QuorumCore::start(&voter(1, 9), &Remembered::default()).unwrap();
        assert_eq!((core.epoch(), core.high_watermark()), (1, None));
        assert_eq!(actions[0], Action::Persist(ElectionState { epoch: 1, leader: Some(1), voted: None }));
        assert_eq!(control_of(&actions), 3);
    }

    #[test]
    fn each_start_is_a_new_epoch_and_repeats_the_voters_only_when_they_moved() {
        let election = ElectionState { epoch: 4, leader: Some(1), voted: None };
        let voters = Some(Voters::only(voter(1, 9)));
        let remembered = Remembered { election, voters, log_end: 20 };
        let (core, actions) = QuorumCore::start(&voter(1, 9), &remembered).unwrap();
        assert_eq!((core.epoch(), control_of(&actions)), (5, 1));
        let (_, actions) = QuorumCore::start(&voter(1, 10), &remembered).unwrap();
        assert_eq!(control_of(&actions), 3);
    }

    #[test]
    fn records_are_committed_when_they_are_on_the_disk_and_not_before() {
        let remembered = Remembered { log_end: 20, ..Remembered::default() };
        let (mut core, _) = QuorumCore::start(&voter(1, 9), &remembered).unwrap();
        assert_eq!(core.step(Event::Flushed(20)), []);
        assert_eq!(core.step(Event::Flushed(23)), [Action::Committed(23)]);
        let records = vec![Bytes::from_static(b"r")];
        assert_eq!(core.step(Event::Append(records.clone())), [Action::AppendRecords(1, records)]);
        assert_eq!(core.high_watermark(), Some(23));
        assert_eq!(core.step(Event::Flushed(24)), [Action::Committed(24)]);
        assert_eq!(core.step(Event::Flushed(24)), []);
    }

    #[test]
    fn a_log_of_other_voters_is_not_led() {
        let remembered = |voters: Vec<Voter>| Remembered {
            voters: Some(Voters(voters.into_iter().map(|voter| (voter.key.id, voter)).collect())),
            ..Remembered::default()
        };
        let start = |voters| QuorumCore::start(&voter(1, 9), &remembered(voters)).err();
        assert_eq!(start(vec![voter(1, 9), voter(2, 9)]), Some(StartError::Others(2)));
        assert_eq!(start(vec![voter(2, 9)]), Some(StartError::Other(voter(2, 9).key)));
    }
}
