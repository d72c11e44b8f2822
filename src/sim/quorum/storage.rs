//! What a node of the quorum keeps on its disk.

use std::hash::{Hash as _, Hasher};
use std::rc::Rc;

use bytes::Bytes;

use crate::quorum::control::ControlRecord;
use crate::quorum::core::message::{Batch, NewRecords, SnapshotContents, SnapshotId};
use crate::quorum::{ElectionState, Voters};
use crate::sim::disk::Durable;
use crate::sim::log::{Content, Log};
use crate::types::{LeaderEpoch, Offset};

/// A batch that a leader appended, whoever has it now.
#[derive(Clone, Debug)]
pub(in crate::sim) struct Written {
    /// Unique in the world: what tells it from all others, mixed.
    pub(in crate::sim) number: u64,
    pub(in crate::sim) base_offset: Offset,
    pub(in crate::sim) epoch: LeaderEpoch,
    pub(in crate::sim) records: NewRecords,
}

impl Written {
    pub(in crate::sim) fn end_offset(&self) -> Offset {
        self.base_offset + self.records.count()
    }

    /// As a leader sends it.
    pub(super) fn to_batch(&self) -> Batch {
        let control = match &self.records {
            NewRecords::Control(records) => (self.base_offset..).zip(records.iter().cloned()).collect(),
            NewRecords::Values(_) => Vec::new(),
        };
        Batch {
            base_offset: self.base_offset,
            last_offset: self.end_offset() - 1,
            epoch: self.epoch,
            control,
            bytes: Bytes::copy_from_slice(&self.number.to_le_bytes()),
        }
    }

    fn control(&self) -> &[ControlRecord] {
        match &self.records {
            NewRecords::Control(records) => records,
            NewRecords::Values(_) => &[],
        }
    }
}

/// One offset of the log: a record of a batch.
#[derive(Clone, Debug)]
pub(in crate::sim) struct Place {
    pub(in crate::sim) batch: Rc<Written>,
    index: u32,
}

impl Place {
    fn is_first(&self) -> bool {
        self.index == 0
    }
}

impl Content for Place {
    fn digest(&self) -> u64 {
        self.batch.number.wrapping_add(u64::from(self.index))
    }
}

/// A snapshot of everything before an offset. What the records add up to is known by their digest.
#[derive(Clone, Debug)]
pub(in crate::sim) struct Snapshot {
    pub(in crate::sim) id: SnapshotId,
    pub(in crate::sim) chain: u64,
    pub(in crate::sim) contents: SnapshotContents,
}

/// What a node keeps.
#[derive(Clone, Debug, Default)]
pub(in crate::sim) struct Kept {
    pub(in crate::sim) election: ElectionState,
    pub(in crate::sim) log: Log<Place>,
    /// The oldest first. The log begins where one of them ends, unless it begins at 0.
    pub(in crate::sim) snapshots: Vec<Rc<Snapshot>>,
    /// The voters that the log names, with the offsets.
    voters: Vec<(Offset, Voters)>,
    /// The levels of `kraft.version` that the log names, with the offsets.
    levels: Vec<(Offset, i16)>,
}

/// A write to the disk.
#[derive(Clone, Debug)]
pub(in crate::sim) enum Write {
    Election(ElectionState),
    Append(Rc<Written>),
    Truncate(Offset),
    DeleteBefore(Offset),
    /// A snapshot that this node made of its own log.
    Save(Rc<Snapshot>),
    /// A snapshot of the leader that takes the place of the log.
    Install(Rc<Snapshot>),
}

impl Durable for Kept {
    type Write = Write;

    fn apply(&mut self, write: &Write) {
        match write {
            Write::Election(election) => self.election = election.clone(),
            Write::Append(batch) => {
                for index in 0..u32::try_from(batch.records.count()).unwrap_or(0) {
                    self.log.append(batch.epoch, Place { batch: Rc::clone(batch), index });
                }
                for (offset, record) in (batch.base_offset..).zip(batch.control()) {
                    match record {
                        ControlRecord::Voters(voters) => self.voters.push((offset, voters.clone())),
                        ControlRecord::KRaftVersion(level) => self.levels.push((offset, *level)),
                        ControlRecord::LeaderChange { .. }
                        | ControlRecord::SnapshotHeader { .. }
                        | ControlRecord::SnapshotFooter => {}
                    }
                }
            }
            Write::Truncate(end) => {
                self.log.truncate(*end);
                self.voters.retain(|(offset, _)| offset < end);
                self.levels.retain(|(offset, _)| offset < end);
            }
            Write::DeleteBefore(start) => {
                self.log.delete_before(*start);
                self.voters.retain(|(offset, _)| offset >= start);
                self.levels.retain(|(offset, _)| offset >= start);
                self.snapshots.retain(|snapshot| snapshot.id.end_offset >= *start);
            }
            Write::Save(snapshot) => self.snapshots.push(Rc::clone(snapshot)),
            Write::Install(snapshot) => {
                let id = snapshot.id;
                self.log.begin_at(id.end_offset, id.epoch, snapshot.chain);
                self.voters.clear();
                self.levels.clear();
                self.snapshots = vec![Rc::clone(snapshot)];
            }
        }
    }
}

impl Kept {
    /// Everything that tells this from other contents of a disk: the digest of the log has what its records say.
    pub(in crate::sim) fn fingerprint(&self, hasher: &mut impl Hasher) {
        (&self.election, self.log.start(), self.log.end(), self.log.chain(self.log.end())).hash(hasher);
        for snapshot in &self.snapshots {
            (snapshot.id, snapshot.chain).hash(hasher);
        }
    }

    /// Who votes, by the records before an offset.
    pub(in crate::sim) fn voters_before(&self, end: Offset) -> Option<&Voters> {
        let logged = self.voters.iter().rev().find(|(offset, _)| *offset < end).map(|(_, voters)| voters);
        logged.or_else(|| self.first_snapshot()?.contents.voters.as_ref())
    }

    /// The snapshot that stands before the log.
    pub(in crate::sim) fn first_snapshot(&self) -> Option<&Rc<Snapshot>> {
        let before =
            |snapshot: &&Rc<Snapshot>| self.log.start() > 0 && snapshot.id.end_offset == self.log.start();
        self.snapshots.iter().find(before)
    }

    /// Who votes, by the whole log.
    pub(in crate::sim) fn voters(&self) -> Option<&Voters> {
        self.voters_before(Offset::MAX)
    }

    /// The voters that the log names, with the offsets, oldest first.
    pub(in crate::sim) fn voters_logged(&self) -> &[(Offset, Voters)] {
        &self.voters
    }

    /// What the log says of the quorum.
    pub(super) fn control(&self) -> Vec<(Offset, ControlRecord)> {
        let voters =
            self.voters.iter().map(|(offset, voters)| (*offset, ControlRecord::Voters(voters.clone())));
        let levels = self.levels.iter().map(|(offset, level)| (*offset, ControlRecord::KRaftVersion(*level)));
        let mut all: Vec<_> = voters.chain(levels).collect();
        all.sort_by_key(|(offset, _)| *offset);
        all
    }

    /// What a snapshot of everything before an offset says of the quorum.
    pub(in crate::sim) fn contents_before(&self, end: Offset) -> SnapshotContents {
        let level = self.levels.iter().rev().find(|(offset, _)| *offset < end).map(|(_, level)| *level);
        let older = self.first_snapshot().map_or(0, |snapshot| snapshot.contents.kraft_version);
        SnapshotContents { voters: self.voters_before(end).cloned(), kraft_version: level.unwrap_or(older) }
    }

    /// The batches in a range of offsets; `None` where the range cuts one.
    pub(super) fn read(&self, from: Offset, to: Offset) -> Option<Vec<Rc<Written>>> {
        let mut batches: Vec<Rc<Written>> = Vec::new();
        let mut next = from;
        while next < to {
            let place = &self.log.get(next)?.content;
            if !place.is_first() {
                return None;
            }
            next = place.batch.end_offset();
            batches.push(Rc::clone(&place.batch));
        }
        (next == to.max(from)).then_some(batches)
    }

    /// Whether an offset lies between two batches.
    pub(super) fn is_boundary(&self, offset: Offset) -> bool {
        self.log.get(offset).is_none_or(|entry| entry.content.is_first())
    }

    /// The end of the last batch that ends at an offset or before it.
    pub(in crate::sim) fn boundary_at_most(&self, offset: Offset) -> Offset {
        self.log.get(offset).map_or(offset.min(self.log.end()), |entry| entry.content.batch.base_offset)
    }
}
