//! Which leader epoch wrote which offsets (Kafka's `LeaderEpochFileCache`).

use crate::types::{LeaderEpoch, Offset};

/// The first offset of each epoch, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Epochs(Vec<(LeaderEpoch, Offset)>);

/// What changed in the store's view of the epochs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct EpochChanges {
    pub(super) put: Option<(LeaderEpoch, Offset)>,
    pub(super) deleted: Vec<LeaderEpoch>,
}

impl Epochs {
    /// Entries as they were stored.
    pub(super) fn load(mut entries: Vec<(LeaderEpoch, Offset)>) -> Self {
        entries.sort_unstable();
        Self(entries)
    }

    pub(super) fn latest(&self) -> Option<LeaderEpoch> {
        self.0.last().map(|(epoch, _)| *epoch)
    }

    /// Starts an epoch at an offset, if it is not the latest already. Later epochs that start
    /// there or behind were empty, and go.
    pub(super) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> EpochChanges {
        if self.latest().is_some_and(|latest| latest >= epoch) {
            return EpochChanges::default();
        }
        let kept = self.0.partition_point(|(_, offset)| *offset < start);
        let deleted = self.0.drain(kept..).map(|(epoch, _)| epoch).collect();
        self.0.push((epoch, start));
        EpochChanges { put: Some((epoch, start)), deleted }
    }

    /// Forgets what lies below the log start; the epoch of the log start starts there.
    pub(super) fn truncate_front(&mut self, log_start: Offset) -> EpochChanges {
        let below = self.0.partition_point(|(_, offset)| *offset <= log_start);
        let Some(last) = below.checked_sub(1) else { return EpochChanges::default() };
        let (epoch, offset) = self.0[last];
        let deleted: Vec<_> = self.0.drain(..last).map(|(epoch, _)| epoch).collect();
        self.0[0] = (epoch, log_start);
        EpochChanges { put: (offset != log_start).then_some((epoch, log_start)), deleted }
    }

    /// Forgets what starts at the log's new end or behind it.
    pub(super) fn truncate_end(&mut self, end: Offset) -> EpochChanges {
        let kept = self.0.partition_point(|(_, offset)| *offset < end);
        EpochChanges { put: None, deleted: self.0.drain(kept..).map(|(epoch, _)| epoch).collect() }
    }

    /// The epoch that wrote an offset.
    pub(super) fn at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.0.partition_point(|(_, start)| *start <= offset);
        after.checked_sub(1).map(|index| self.0[index].0)
    }

    /// The largest epoch that is at most the one asked for, and where it ends; (-1, -1) if that
    /// is not known.
    pub(super) fn end_of(&self, epoch: LeaderEpoch, log_end: Offset) -> (LeaderEpoch, Offset) {
        if epoch >= 0 && self.latest() == Some(epoch) {
            return (epoch, log_end);
        }
        let higher = self.0.partition_point(|(other, _)| *other <= epoch);
        match self.0.get(higher) {
            None => (-1, -1),
            Some(_) if epoch < 0 => (-1, -1),
            Some((_, start)) => {
                let floor = higher.checked_sub(1).map_or(epoch, |index| self.0[index].0);
                (floor, *start)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs() -> Epochs {
        Epochs::load(vec![(5, 30), (1, 0), (2, 10)])
    }

    #[test]
    fn an_epoch_ends_where_the_next_one_starts() {
        let epochs = epochs();
        assert_eq!(epochs.end_of(1, 40), (1, 10));
        assert_eq!(epochs.end_of(2, 40), (2, 30));
        assert_eq!(epochs.end_of(4, 40), (2, 30), "the largest epoch below");
        assert_eq!(epochs.end_of(5, 40), (5, 40), "the current one ends with the log");
        assert_eq!(epochs.end_of(0, 40), (0, 0), "before the first");
        assert_eq!(epochs.end_of(6, 40), (-1, -1));
        assert_eq!(epochs.end_of(-1, 40), (-1, -1));
        assert_eq!(epochs.at(29), Some(2));
        assert_eq!(Epochs::default().at(0), None);
    }

    #[test]
    fn empty_epochs_make_room_for_later_ones() {
        let mut epochs = epochs();
        assert_eq!(epochs.assign(5, 50), EpochChanges::default());
        let changes = epochs.assign(7, 30);
        assert_eq!(changes, EpochChanges { put: Some((7, 30)), deleted: vec![5] });
    }

    #[test]
    fn the_end_goes_with_the_log_end() {
        let mut epochs = epochs();
        assert_eq!(epochs.truncate_end(31), EpochChanges::default());
        assert_eq!(epochs.truncate_end(30), EpochChanges { put: None, deleted: vec![5] });
        assert_eq!(epochs.truncate_end(0).deleted, [1, 2]);
        assert_eq!(epochs, Epochs::default());
    }

    #[test]
    fn the_front_goes_with_the_log_start() {
        let mut epochs = epochs();
        let changes = epochs.truncate_front(15);
        assert_eq!(changes, EpochChanges { put: Some((2, 15)), deleted: vec![1] });
        assert_eq!(epochs.truncate_front(15), EpochChanges::default());
        assert_eq!(epochs, Epochs(vec![(2, 15), (5, 30)]));
    }
}
