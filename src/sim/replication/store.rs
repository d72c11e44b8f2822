//! A replica's log, its epochs and its high watermark.

use crate::error::ErrorCode;
use crate::log::ReplicaFetch;
use crate::replication::follower::FollowerLog;
use crate::sim::disk::Durable;
use crate::sim::log::Log;
use crate::types::{LeaderEpoch, Offset};

/// What a replica keeps of one partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    pub(super) log: Log<u64>,
    /// Where each epoch starts; one without records may be the last.
    epochs: Vec<(LeaderEpoch, Offset)>,
    pub(super) high_watermark: Offset,
}

#[derive(Clone, Debug)]
pub(super) enum Write {
    /// A leader begins an epoch.
    Begin(LeaderEpoch),
    /// Records with their epochs, and the high watermark that was known then.
    Append(Vec<(LeaderEpoch, u64)>, Offset),
    Truncate(Offset),
}

impl Durable for Store {
    type Write = Write;

    fn apply(&mut self, write: &Write) {
        match write {
            Write::Begin(epoch) => self.assign(*epoch),
            Write::Append(records, high_watermark) => {
                for (epoch, value) in records {
                    self.assign(*epoch);
                    self.log.append(*epoch, *value);
                }
                self.high_watermark = self.high_watermark.max(*high_watermark);
            }
            Write::Truncate(end) => {
                self.log.truncate(*end);
                self.epochs.retain(|(_, start)| start < end);
                self.high_watermark = self.high_watermark.min(*end);
            }
        }
    }
}

impl Store {
    fn assign(&mut self, epoch: LeaderEpoch) {
        if self.latest().is_some_and(|latest| latest >= epoch) {
            return;
        }
        let start = self.log.end();
        self.epochs.retain(|(_, other)| *other < start);
        self.epochs.push((epoch, start));
    }

    fn latest(&self) -> Option<LeaderEpoch> {
        self.epochs.last().map(|(epoch, _)| *epoch)
    }

    fn end_of(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        if self.latest() == Some(epoch) {
            return (epoch, self.log.end());
        }
        let higher = self.epochs.partition_point(|(other, _)| *other <= epoch);
        let Some((_, end)) = self.epochs.get(higher) else { return (-1, -1) };
        let floor =
            higher.checked_sub(1).and_then(|at| self.epochs.get(at)).map_or(epoch, |(epoch, _)| *epoch);
        (floor, *end)
    }

    /// What a leader says to where a follower is: nothing against it, or where the logs part.
    pub(super) fn compare(&self, fetch: &ReplicaFetch) -> Result<Option<(LeaderEpoch, Offset)>, ErrorCode> {
        let end = self.log.end();
        if fetch.last_fetched_epoch >= 0 {
            match self.end_of(fetch.last_fetched_epoch) {
                (-1, _) | (_, -1) => return Err(ErrorCode::OffsetOutOfRange),
                (epoch, end) if epoch < fetch.last_fetched_epoch || end < fetch.offset => {
                    return Ok(Some((epoch, end)));
                }
                _ => {}
            }
        }
        if fetch.offset > end { Err(ErrorCode::OffsetOutOfRange) } else { Ok(None) }
    }

    /// Where a value is, if it is there.
    pub(super) fn find(&self, value: u64) -> Option<Offset> {
        let mut all = self.log.range(self.log.start(), self.log.end());
        all.find(|(_, entry)| entry.content == value).map(|(offset, _)| offset)
    }
}

impl FollowerLog for Store {
    fn log_start(&self) -> Offset {
        self.log.start()
    }

    fn log_end(&self) -> Offset {
        self.log.end()
    }

    fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.latest()
    }

    fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        Some(self.end_of(epoch)).filter(|(epoch, end)| *epoch >= 0 && *end >= 0)
    }
}
