//! What the core knows of its log: where it begins and ends, its epochs, its snapshots, and what its control records
//! say about the quorum at each offset (Kafka's `KRaftControlRecordStateMachine`, `VoterSetHistory`).

use super::super::control::ControlRecord;
use super::super::voters::Voters;
use super::message::{Batch, SnapshotContents, SnapshotId};
use crate::types::{LeaderEpoch, Offset};

/// The shape of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LogView {
    /// The first offset.
    pub start: Offset,
    /// The offset of the next record.
    pub end: Offset,
    /// Each epoch with the offset of its first record, in order.
    pub epochs: Vec<(LeaderEpoch, Offset)>,
    /// The snapshots, the oldest first. One of them ends where the log begins, unless that is 0.
    pub snapshots: Vec<SnapshotId>,
}

/// What an offset and an epoch of a replica are to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Validity {
    Valid,
    Diverging { epoch: LeaderEpoch, end_offset: Offset },
    Snapshot(SnapshotId),
}

impl LogView {
    /// The epoch of the last record; 0 where there never was one.
    pub fn last_epoch(&self) -> LeaderEpoch {
        let written = self.epochs.last().map(|(epoch, _)| *epoch);
        written.or(self.snapshots.last().map(|id| id.epoch)).unwrap_or(0)
    }

    /// The newest epoch that is not newer than this one, and where it ends.
    pub(super) fn end_of(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        let following = self.epochs.partition_point(|(known, _)| *known <= epoch);
        let end = self.epochs.get(following).map_or(self.end, |(_, start)| *start);
        if let Some((known, _)) = following.checked_sub(1).and_then(|index| self.epochs.get(index)) {
            return (*known, end);
        }
        // Before all that is written here there is a snapshot, or nothing.
        let earliest = self.snapshots.first().filter(|id| id.end_offset == self.start);
        earliest.map_or((0, self.start), |id| (id.epoch, id.end_offset))
    }

    /// What a replica has to do that is this far, as Kafka's leaders decide it.
    pub(super) fn validate(&self, offset: Offset, epoch: LeaderEpoch) -> Validity {
        let latest = self.snapshots.last().copied();
        if let Some(latest) = latest.filter(|_| offset == 0) {
            // It is always quicker than the whole log.
            return Validity::Snapshot(latest);
        }
        if self.start == 0 && offset == 0 {
            return Validity::Valid;
        }
        if let (Some(earliest), Some(latest)) = (self.earliest(), latest)
            && (offset < self.start
                || (offset == self.start && epoch != earliest.epoch)
                || epoch < earliest.epoch)
        {
            return Validity::Snapshot(latest);
        }
        let (known, end_offset) = self.end_of(epoch);
        if known != epoch || end_offset < offset {
            Validity::Diverging { epoch: known, end_offset }
        } else {
            Validity::Valid
        }
    }

    /// The snapshot at the start of the log, if the log does not begin at 0.
    fn earliest(&self) -> Option<SnapshotId> {
        let mut snapshots = self.snapshots.iter();
        snapshots.find(|id| self.start > 0 && id.end_offset == self.start).copied()
    }

    /// Where a log has to be cut that shall agree with a leader's, whose records of `epoch` end at `end_offset`.
    pub(super) fn agreement(&self, epoch: LeaderEpoch, end_offset: Offset) -> Offset {
        if epoch == 0 {
            return end_offset.min(self.end);
        }
        let (known, known_end) = self.end_of(epoch);
        if known == epoch { known_end.min(end_offset) } else { known_end }
    }

    pub(super) fn append(&mut self, epoch: LeaderEpoch, end: Offset) {
        if self.epochs.last().is_none_or(|(last, _)| *last < epoch) {
            self.epochs.push((epoch, self.end));
        }
        self.end = end;
    }

    pub(super) fn truncate(&mut self, end: Offset) {
        self.epochs.retain(|(_, start)| *start < end);
        self.end = end;
    }

    pub(super) fn delete_before(&mut self, start: Offset) {
        let covered = self.epochs.partition_point(|(_, first)| *first <= start);
        self.epochs.drain(..covered.saturating_sub(1));
        if let Some((_, first)) = self.epochs.first_mut() {
            *first = start.max(*first);
        }
        self.snapshots.retain(|id| id.end_offset >= start);
        self.start = start;
    }

    pub(super) fn reset(&mut self, id: SnapshotId) {
        *self = Self { start: id.end_offset, end: id.end_offset, epochs: Vec::new(), snapshots: vec![id] };
    }
}

/// Who votes and at which level of `kraft.version`, by offset. What is written counts, committed or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Membership {
    voters: Vec<(Offset, Voters)>,
    levels: Vec<(Offset, i16)>,
    /// What counts where the log says nothing.
    fixed: Voters,
}

/// The offset of what was said before the log began.
const BEFORE_LOG: Offset = -1;

impl Membership {
    /// The voters of `controller.quorum.voters`, until the log names others.
    pub(super) fn fixed(voters: Voters) -> Self {
        Self { fixed: voters, ..Self::default() }
    }

    /// The voters that a new cluster was formatted with.
    pub(super) fn formatted(voters: Voters) -> Self {
        Self {
            voters: vec![(BEFORE_LOG, voters)],
            levels: vec![(BEFORE_LOG, super::super::control::KRAFT_VERSION)],
            fixed: Voters::default(),
        }
    }

    /// Who votes.
    pub fn voters(&self) -> &Voters {
        self.voters.last().map_or(&self.fixed, |(_, voters)| voters)
    }

    /// Where the log names the voters last: -1 where they were named before it began, `None` where it does not.
    pub fn voters_offset(&self) -> Option<Offset> {
        self.voters.last().map(|(offset, _)| *offset)
    }

    /// The level of `kraft.version`.
    pub fn level(&self) -> i16 {
        self.levels.last().map_or(0, |(_, level)| *level)
    }

    /// Whether the voters can change.
    pub fn can_change(&self) -> bool {
        self.level() >= super::super::control::KRAFT_VERSION
    }

    /// What a snapshot that ends at this offset says.
    pub fn before(&self, end: Offset) -> SnapshotContents {
        let voters = self.voters.iter().rev().find(|(offset, _)| *offset < end);
        let level = self.levels.iter().rev().find(|(offset, _)| *offset < end);
        SnapshotContents {
            voters: voters.map(|(_, voters)| voters.clone()),
            kraft_version: level.map_or(0, |(_, level)| *level),
        }
    }

    pub(super) fn append(&mut self, control: &[(Offset, ControlRecord)]) {
        for (offset, record) in control {
            match record {
                ControlRecord::Voters(voters) => self.voters.push((*offset, voters.clone())),
                ControlRecord::KRaftVersion(level) => self.levels.push((*offset, *level)),
                ControlRecord::LeaderChange { .. }
                | ControlRecord::SnapshotHeader { .. }
                | ControlRecord::SnapshotFooter => {}
            }
        }
    }

    pub(super) fn append_batch(&mut self, batch: &Batch) {
        self.append(&batch.control);
    }

    pub(super) fn truncate(&mut self, end: Offset) {
        self.voters.retain(|(offset, _)| *offset < end);
        self.levels.retain(|(offset, _)| *offset < end);
    }

    pub(super) fn delete_before(&mut self, start: Offset) {
        prune(&mut self.voters, start);
        prune(&mut self.levels, start);
    }

    pub(super) fn reset(&mut self, end: Offset, contents: SnapshotContents) {
        self.voters = contents.voters.into_iter().map(|voters| (end - 1, voters)).collect();
        self.levels = vec![(end - 1, contents.kraft_version)];
    }
}

/// Keeps what counts at `start` and later.
fn prune<T>(entries: &mut Vec<(Offset, T)>, start: Offset) {
    let older = entries.partition_point(|(offset, _)| *offset < start);
    entries.drain(..older.saturating_sub(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> LogView {
        LogView { start: 0, end: 20, epochs: vec![(1, 0), (3, 5), (4, 12)], snapshots: vec![] }
    }

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let log = log();
        let ends: Vec<_> = (0..6).map(|epoch| log.end_of(epoch)).collect();
        assert_eq!(ends, [(0, 0), (1, 5), (1, 5), (3, 12), (4, 20), (4, 20)]);
    }

    #[test]
    fn a_replica_is_told_where_the_logs_part() {
        let log = log();
        assert_eq!(log.validate(0, 0), Validity::Valid);
        assert_eq!(log.validate(12, 3), Validity::Valid);
        assert_eq!(log.validate(20, 4), Validity::Valid);
        assert_eq!(log.validate(13, 3), Validity::Diverging { epoch: 3, end_offset: 12 });
        assert_eq!(log.validate(7, 2), Validity::Diverging { epoch: 1, end_offset: 5 });
        assert_eq!(log.validate(25, 9), Validity::Diverging { epoch: 4, end_offset: 20 });
    }

    #[test]
    fn what_is_no_longer_there_is_a_snapshot() {
        let (old, new) = (SnapshotId { epoch: 3, end_offset: 8 }, SnapshotId { epoch: 4, end_offset: 15 });
        let mut log = LogView { snapshots: vec![old, new], ..log() };
        log.delete_before(8);
        assert_eq!(log.epochs, [(3, 8), (4, 12)]);
        assert_eq!(log.validate(0, 0), Validity::Snapshot(new));
        assert_eq!(log.validate(7, 3), Validity::Snapshot(new));
        assert_eq!(log.validate(8, 1), Validity::Snapshot(new));
        assert_eq!(log.validate(8, 3), Validity::Valid);
        assert_eq!(log.validate(9, 2), Validity::Snapshot(new));
        log.reset(new);
        assert_eq!((log.last_epoch(), log.start, log.end), (4, 15, 15));
        assert_eq!(log.validate(15, 4), Validity::Valid);
    }

    #[test]
    fn a_follower_cuts_to_where_both_agree() {
        let log = log();
        assert_eq!(log.agreement(3, 9), 9);
        assert_eq!(log.agreement(3, 30), 12);
        assert_eq!(log.agreement(2, 30), 5, "we have nothing of epoch 2");
        assert_eq!(log.agreement(0, 0), 0);
    }
}
