//! One cleaning of one log, in steps that are short, so that whoever runs them can throttle and
//! stop it between them.
//!
//! The first steps read the new part of the log and remember the last offset of each key. The
//! others go through the log from its start and rewrite what has lost records. Every so often they
//! commit what they have: extents that take the place of others, what that means for segments and
//! for the time index, all in one atomic write. The last one says how far the log is clean. After
//! a crash between two commits the log is whole, partly cleaned, and is cleaned again.

use std::hash::RandomState;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::filter::index;
use super::offset_map::{MapBound, OffsetMap};
use super::output::OutputBounds;
use super::range::Dirtiness;
use super::rewrite::{Commit, Rewrite};
use super::transactions::Transactions;
use crate::error::StorageError;
use crate::log::batch::BatchView;
use crate::log::partition::Partition;
use crate::types::Offset;

/// What a cleaning did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PassStats {
    /// Read while the keys were collected.
    pub(super) indexed_bytes: u64,
    /// Gone through.
    pub(super) read_bytes: u64,
    pub(super) read_records: u64,
    /// Left of that.
    pub(super) kept_bytes: u64,
    pub(super) kept_records: u64,
    /// Written anew.
    pub(super) written_bytes: u64,
    /// Deleted, those included that were written anew.
    pub(super) deleted_bytes: u64,
    /// Which part of the offset map was in use.
    pub(super) utilization: f64,
}

/// How a cleaning works.
#[derive(Clone, Copy, Debug)]
pub(super) struct PassSettings {
    pub(super) map: MapBound,
    pub(super) output: OutputBounds,
    /// How many bytes a step reads, roughly.
    pub(super) step_bytes: usize,
}

/// What a step did.
pub(super) struct Step {
    /// How many bytes were read and written.
    pub(super) bytes: u64,
    /// A write that must be stored before the next step.
    pub(super) committed: Option<oneshot::Receiver<Result<(), StorageError>>>,
    pub(super) state: PassState,
}

/// How far a cleaning is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PassState {
    GoesOn,
    /// The log is clean up to its end.
    Finished,
    /// The log changed so that this cleaning makes no sense any more: it was deleted, is not
    /// compacted any more, or its start has moved into what is being rewritten.
    Obsolete,
}

/// One cleaning of one log.
pub(super) struct Pass {
    partition: Arc<Partition>,
    settings: PassSettings,
    range: Dirtiness,
    /// The log start, and how often the log's end had been taken back, when it began.
    began: (Offset, u32),
    phase: Phase,
    pub(super) stats: PassStats,
}

enum Phase {
    Start,
    /// Collects keys, from the extent behind this one on.
    Index {
        last_read: Option<Offset>,
        map: OffsetMap,
        transactions: Box<Transactions>,
    },
    Rewrite(Box<Rewrite>),
    Over,
}

impl Pass {
    pub(super) fn new(partition: Arc<Partition>, range: Dirtiness, settings: PassSettings) -> Self {
        let began = {
            let inner = partition.inner.lock();
            (inner.log_start, inner.generation)
        };
        Self { partition, settings, range, began, phase: Phase::Start, stats: PassStats::default() }
    }

    /// The log that is cleaned.
    pub(super) fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    /// Lets go of what memory has of the log as it was before: readers see what is stored, as
    /// those of Kafka do.
    pub(super) fn forget_memory(&self) {
        self.partition.tail.forget_below(self.range.first_uncleanable);
    }

    /// Does a little of the work.
    ///
    /// # Errors
    /// When the log can not be read, or holds what is no batch.
    pub(super) fn step(&mut self) -> Result<Step, StorageError> {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Start => self.start(),
            Phase::Index { last_read, map, transactions } => self.index(last_read, map, transactions),
            Phase::Rewrite(rewrite) => self.rewrite(rewrite),
            Phase::Over => Ok(Step { bytes: 0, committed: None, state: PassState::Finished }),
        }
    }

    fn start(&mut self) -> Result<Step, StorageError> {
        self.partition.forget_view_unless_led()?;
        let Dirtiness { first_dirty, first_uncleanable, .. } = self.range;
        let map = OffsetMap::new(self.settings.map, [RandomState::new(), RandomState::new()]);
        let aborted = self.partition.aborted_transactions(first_dirty, first_uncleanable)?;
        self.index(None, map, Box::new(Transactions::new(aborted)))
    }

    fn index(
        &mut self,
        last_read: Option<Offset>,
        mut map: OffsetMap,
        mut transactions: Box<Transactions>,
    ) -> Result<Step, StorageError> {
        let Dirtiness { first_dirty, first_uncleanable: end, .. } = self.range;
        let store = &self.partition.shared.store;
        let mut extents = match last_read {
            None => store.extents(self.partition.id(), first_dirty),
            Some(last) => store.extents_after(self.partition.id(), last),
        };
        let mut last_read = last_read;
        let mut bytes = 0;
        let mut is_over = false;
        while !is_over && bytes < self.settings.step_bytes {
            let extent = extents.next_extent()?.filter(|(base_offset, _)| *base_offset < end);
            let Some((base_offset, extent)) = extent else {
                map.update_latest_offset(end - 1);
                is_over = true;
                break;
            };
            last_read = Some(base_offset);
            bytes += extent.len();
            for batch in BatchView::all(&Bytes::copy_from_slice(extent)) {
                let batch = batch.map_err(damaged)?;
                let is_dirty = batch.last_offset() >= first_dirty && batch.base_offset() < end;
                if is_dirty && !index(&batch, first_dirty, &mut map, &mut transactions).map_err(damaged)? {
                    is_over = true;
                    break;
                }
            }
        }
        drop(extents);
        self.stats.indexed_bytes += bytes as u64;
        self.phase = if is_over {
            self.stats.utilization = map.utilization();
            Phase::Rewrite(Box::new(self.start_rewrite(map)?))
        } else {
            Phase::Index { last_read, map, transactions }
        };
        Ok(Step { bytes: bytes as u64, committed: None, state: PassState::GoesOn })
    }

    /// Goes on with the second half of a cleaning: everything is known that decides.
    fn start_rewrite(&self, map: OffsetMap) -> Result<Rewrite, StorageError> {
        let upper_bound = self.range.first_uncleanable;
        Rewrite::new(&self.partition, map, upper_bound, self.began, self.settings.output)
    }

    fn rewrite(&mut self, mut rewrite: Box<Rewrite>) -> Result<Step, StorageError> {
        let bytes = rewrite.read(&self.partition, self.settings.step_bytes, &mut self.stats)?;
        let mut step = Step { bytes, committed: None, state: PassState::GoesOn };
        if rewrite.wants_commit() {
            match rewrite.commit(&self.partition, &mut self.stats)? {
                Commit::Obsolete => step.state = PassState::Obsolete,
                Commit::Nothing => {}
                Commit::Queued { bytes, stored } => {
                    step.bytes += bytes;
                    step.committed = Some(stored);
                }
            }
        }
        if step.state == PassState::GoesOn {
            if rewrite.is_over() {
                step.state = PassState::Finished;
            } else {
                self.phase = Phase::Rewrite(rewrite);
            }
        }
        Ok(step)
    }
}

/// An error of what was read.
pub(super) fn damaged(problem: impl std::fmt::Display) -> StorageError {
    StorageError::Damaged(problem.to_string())
}
