//! The history of a quorum as somebody sees it who sees everything, and what must hold in it: the invariants of the
//! TLA+ specifications of KRaft (KIP-853 and KIP-996).

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash as _, Hasher};

use super::storage::{Kept, Place};
use crate::quorum::{ReplicaKey, Voters};
use crate::sim::log::Log;
use crate::sim::runner::Violation;
use crate::types::{LeaderEpoch, Offset};

/// What was ever promised.
#[derive(Clone, Debug, Default)]
pub(in crate::sim) struct History {
    leaders: BTreeMap<LeaderEpoch, ReplicaKey>,
    votes: BTreeMap<LeaderEpoch, BTreeMap<ReplicaKey, ReplicaKey>>,
    /// For each committed offset the digest of the log up to and with it.
    committed: Vec<u64>,
    /// How much was committed when an epoch committed last.
    ends: BTreeMap<LeaderEpoch, Offset>,
    /// The digest of the log up to an offset whose record has this epoch.
    chains: HashMap<(Offset, LeaderEpoch), u64>,
    pub(in crate::sim) voter_changes: u64,
}

impl History {
    /// How much is committed.
    pub(in crate::sim) fn committed(&self) -> Offset {
        Offset::try_from(self.committed.len()).unwrap_or(Offset::MAX)
    }

    /// How many epochs had a leader.
    pub(in crate::sim) fn epochs(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// What of the past decides about what may happen, while no voter can go back before an epoch.
    pub(in crate::sim) fn fingerprint(&self, since: LeaderEpoch, hasher: &mut impl Hasher) {
        for (epoch, leader) in self.leaders.range(since..) {
            (epoch, leader).hash(hasher);
        }
        for (epoch, votes) in self.votes.range(since..) {
            (epoch, votes).hash(hasher);
        }
        (self.committed.len(), self.committed.last(), &self.ends).hash(hasher);
    }

    /// A voter votes at most once in an epoch, whatever happens to it meanwhile (`ValidVotesRecv`).
    pub(super) fn voted(
        &mut self,
        voter: ReplicaKey,
        epoch: LeaderEpoch,
        candidate: ReplicaKey,
    ) -> Result<(), Violation> {
        let first = *self.votes.entry(epoch).or_default().entry(voter).or_insert(candidate);
        if first == candidate {
            return Ok(());
        }
        Err(format!("DoubleVote: {voter:?} votes for {candidate:?} in epoch {epoch}, after {first:?}"))
    }

    /// An epoch has one leader (`NeverTwoLeadersInSameEpoch`), whom most of its voters elected (`ValidVotesRecv`), and
    /// who has everything that older epochs have committed (`LeaderCompleteness`): who hears late that it is elected may
    /// lack what a newer leader has committed meanwhile.
    pub(super) fn leads(
        &mut self,
        leader: ReplicaKey,
        epoch: LeaderEpoch,
        elected_by: &Voters,
        log: &Log<Place>,
    ) -> Result<(), Violation> {
        let first = *self.leaders.entry(epoch).or_insert(leader);
        if first != leader {
            return Err(format!("NeverTwoLeadersInSameEpoch: {first:?} and {leader:?} lead epoch {epoch}"));
        }
        let votes = self.votes.get(&epoch);
        let voted = |voter: &ReplicaKey| {
            votes.is_some_and(|votes| {
                votes.iter().any(|(key, for_whom)| voter.accepts(*key) && *for_whom == leader)
            })
        };
        let granted = elected_by.keys().filter(voted).count();
        // The only voter elects itself without a word.
        if granted * 2 <= elected_by.0.len() && !elected_by.is_only(leader) {
            let voters = elected_by.0.len();
            return Err(format!(
                "ValidVotesRecv: {leader:?} leads epoch {epoch} by {granted} of {voters} votes"
            ));
        }
        let committed = self.ends.range(..epoch).map(|(_, end)| *end).max().unwrap_or(0);
        if committed > log.start() && log.chain(committed) != self.chain(committed) {
            let end = log.end();
            return Err(format!(
                "LeaderCompleteness: {leader:?} leads epoch {epoch} with a log that ends at {end} and lacks what is committed before {committed}"
            ));
        }
        Ok(())
    }

    /// Two logs that have a record of one epoch at one offset are the same up to there (`LogMatching`).
    pub(super) fn appended(&mut self, log: &Log<Place>, from: Offset) -> Result<(), Violation> {
        for (offset, entry) in log.range(from, log.end()) {
            let chain = log.chain(offset + 1).unwrap_or(0);
            if *self.chains.entry((offset, entry.epoch)).or_insert(chain) != chain {
                let epoch = entry.epoch;
                return Err(format!("LogMatching: two logs differ before offset {offset} of epoch {epoch}"));
            }
        }
        Ok(())
    }

    /// What is committed is the same for everyone, for ever (`NoLogDivergence`, `AckedValueNotLost`).
    pub(super) fn committed_at(&mut self, kept: &Kept, end: Offset) -> Result<(), Violation> {
        let log = &kept.log;
        if end > log.end() {
            return Err(format!("NoIllegalState: {end} is committed in a log that ends at {}", log.end()));
        }
        let known = self.committed();
        if end <= known {
            if end >= log.start() && log.chain(end) != self.chain(end) {
                return Err(format!(
                    "NoLogDivergence: a log has other records than were committed before {end}"
                ));
            }
            return Ok(());
        }
        if known >= log.start() && log.chain(known) != self.chain(known) {
            return Err(format!("AckedValueNotLost: what was committed before {known} is replaced"));
        }
        // Whoever says it first knows it of its own epoch.
        self.ends.insert(kept.election.epoch, end);
        for offset in known..end {
            self.committed.push(log.chain(offset + 1).unwrap_or(0));
        }
        let newly = |(offset, _): &&(Offset, Voters)| (known..end).contains(offset);
        self.voter_changes += kept.voters_logged().iter().filter(newly).count() as u64;
        Ok(())
    }

    /// A leader commits what most voters have on their disks, once a record of its own epoch is among it.
    pub(super) fn may_commit<'a>(
        kept: &Kept,
        voters: &Voters,
        epoch: LeaderEpoch,
        end: Offset,
        synced: impl Fn(ReplicaKey) -> Option<&'a Kept>,
    ) -> Result<(), Violation> {
        let chain = kept.log.chain(end);
        let has = |voter: &ReplicaKey| {
            synced(*voter).is_some_and(|other| {
                other.log.start() >= end || (chain.is_some() && other.log.chain(end) == chain)
            })
        };
        let (count, of) = (voters.keys().filter(has).count(), voters.0.len());
        if count * 2 <= of {
            return Err(format!("Durability: {end} is committed and on the disks of {count} of {of} voters"));
        }
        if kept.log.epoch_before(end) != Some(epoch) {
            return Err(format!(
                "LeaderCompleteness: {end} is committed by counting replicas of an older epoch than {epoch}"
            ));
        }
        Ok(())
    }

    /// What is committed is never removed from a log that has it.
    pub(super) fn truncated(&self, log: &Log<Place>, end: Offset) -> Result<(), Violation> {
        if end < self.committed() && end < log.end() && log.chain(end + 1) == self.chain(end + 1) {
            return Err(format!("AckedValueNotLost: the committed record at {end} is truncated"));
        }
        Ok(())
    }

    /// The digest of what is committed before an offset.
    pub(in crate::sim) fn chain(&self, end: Offset) -> Option<u64> {
        let Some(last) = usize::try_from(end).ok()?.checked_sub(1) else { return Some(0) };
        self.committed.get(last).copied()
    }
}
