//! The second half of a cleaning: the log without what is not kept, commit by commit.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::filter::{Filter, Kept};
use super::offset_map::OffsetMap;
use super::output::{Output, OutputBounds};
use super::pass::{PassStats, damaged};
use super::range::group_length;
use super::time_index;
use super::transactions::Transactions;
use crate::error::StorageError;
use crate::log::batch::BatchView;
use crate::log::partition::{Inner, Partition};
use crate::log::state::Segment;
use crate::storage::{Key, KeyPrefix, Ops, Purpose};
use crate::types::{Offset, PartitionId, TimestampMs};

/// A segment of the log that is gone through.
struct Work {
    base_offset: Offset,
    end: Offset,
    /// Whether the next one becomes part of it, as both fit into one.
    joins_next: bool,
    /// By how many bytes it has changed since the last commit. Where a time is noted in a batch,
    /// it may grow.
    change_bytes: i64,
    /// What is left, of as much as was gone through.
    kept: Segment,
}

/// What became of a commit.
pub(super) enum Commit {
    /// There was nothing to write.
    Nothing,
    /// It is on its way; how many bytes it has.
    Queued { bytes: u64, stored: oneshot::Receiver<Result<(), StorageError>> },
    /// The log has changed; nothing was written.
    Obsolete,
}

/// The second half of a cleaning.
pub(super) struct Rewrite {
    filter: Filter,
    /// Up to where the log will be clean.
    clean_to: Offset,
    /// The start of the first segment, and the end of the last one that is gone through.
    first: Offset,
    end: Offset,
    work: Vec<Work>,
    /// How many segments were committed as a whole.
    committed: usize,
    /// The log start when the cleaning began, and how often the log's end had been taken back.
    log_start: Offset,
    generation: u32,
    /// The start of the extent that was read last, as it was then.
    last_read: Option<Offset>,
    /// The last offset in it.
    read_to: Offset,
    /// The end of what was gone through.
    seen_to: Offset,
    is_over: bool,
    /// The time index was gone through up to here.
    index_from: TimestampMs,
    output: Output,
}

impl Rewrite {
    pub(super) fn new(
        partition: &Partition,
        map: OffsetMap,
        upper_bound: Offset,
        (log_start, generation): (Offset, u32),
        bounds: OutputBounds,
    ) -> Result<Self, StorageError> {
        let config = partition.log_config();
        let clean_to = map.latest_offset() + 1;
        let inner = partition.inner.lock();
        let ends = inner.closed.iter().skip(1).chain(std::iter::once(&inner.active));
        let segments = inner.closed.iter().zip(ends.map(|segment| segment.base_offset));
        let segments: Vec<(Segment, Offset)> = segments
            .map(|(segment, end)| (*segment, end))
            .take_while(|(segment, _)| segment.base_offset < clean_to)
            .collect();
        let last_records = inner.producers.last_records();
        drop(inner);
        let first = segments.first().map_or(clean_to, |(segment, _)| segment.base_offset);
        let end = segments.last().map_or(clean_to, |(_, end)| *end);
        let filter = Filter {
            map,
            transactions: Transactions::new(partition.aborted_transactions(first, end)?),
            last_records,
            upper_bound,
            now_ms: partition.shared.clock.now_ms(),
            delete_retention_ms: config.delete_retention_ms,
        };
        Ok(Self {
            filter,
            clean_to,
            first,
            end,
            work: work(&segments, config.segment_bytes),
            committed: 0,
            log_start,
            generation,
            last_read: None,
            read_to: first,
            seen_to: first,
            is_over: false,
            index_from: TimestampMs::MIN,
            output: Output::new(partition.id(), bounds),
        })
    }

    /// Whether everything was gone through.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether it is time to commit.
    pub(super) fn wants_commit(&self) -> bool {
        self.is_over || self.output.is_large()
    }

    /// Goes through the next extents; answers how many bytes they have.
    pub(super) fn read(
        &mut self,
        partition: &Partition,
        bytes_max: usize,
        stats: &mut PassStats,
    ) -> Result<u64, StorageError> {
        let store = &partition.shared.store;
        // What was rewritten starts at one of its batches, and so before the end of what was read.
        let mut extents = match self.last_read {
            None => store.extents(partition.id(), self.first),
            Some(_) => store.extents_after(partition.id(), self.read_to),
        };
        let mut bytes = 0;
        while bytes < bytes_max && !self.output.is_large() {
            match extents.next_extent()? {
                Some((base_offset, extent)) if base_offset < self.end => {
                    bytes += extent.len();
                    self.filter_extent(base_offset, &Bytes::copy_from_slice(extent), stats)?;
                }
                Some(_) | None => {
                    self.is_over = true;
                    break;
                }
            }
        }
        Ok(bytes as u64)
    }

    fn filter_extent(
        &mut self,
        base_offset: Offset,
        extent: &Bytes,
        stats: &mut PassStats,
    ) -> Result<(), StorageError> {
        let mut pieces = Pieces::default();
        let mut at = 0;
        for batch in BatchView::all(extent) {
            let batch = batch.map_err(damaged)?;
            let place = at..at + batch.len();
            at = place.end;
            self.read_to = batch.last_offset();
            let kept = self.filter_batch(&batch, stats)?;
            pieces.add(extent, place, kept);
        }
        self.last_read = Some(base_offset);
        let (batches, lost_something) = pieces.finish(extent);
        self.output.take(base_offset, extent.len(), batches, lost_something);
        Ok(())
    }

    fn filter_batch(&mut self, batch: &BatchView, stats: &mut PassStats) -> Result<Kept, StorageError> {
        if batch.base_offset() >= self.end {
            return Ok(Kept::Same);
        }
        self.seen_to = self.seen_to.max(batch.last_offset() + 1);
        if batch.base_offset() < self.first {
            // Below the segments, and so below the log start, only leftovers lie that shared an
            // extent with what was still needed.
            let is_needed = batch.last_offset() >= self.log_start;
            return Ok(if is_needed { Kept::Same } else { Kept::Nothing });
        }
        let filtered = self.filter.filter(batch).map_err(damaged)?;
        stats.read_bytes += batch.len() as u64;
        stats.read_records += filtered.records_read;
        stats.kept_records += filtered.records_kept;
        let left = match &filtered.kept {
            Kept::Same => Some(batch.clone()),
            Kept::Rebuilt(bytes) => Some(BatchView::first(bytes).map_err(damaged)?),
            Kept::Nothing => None,
        };
        let kept_bytes = left.as_ref().map_or(0, |left| left.len() as u64);
        stats.kept_bytes += kept_bytes;
        let at = self.work.partition_point(|work| work.base_offset <= batch.base_offset());
        if let Some(work) = at.checked_sub(1).and_then(|at| self.work.get_mut(at)) {
            work.change_bytes += signed(kept_bytes) - signed(batch.len() as u64);
            if let Some(left) = left {
                let modified_ms = work.kept.modified_ms;
                work.kept.add(left.base_offset(), kept_bytes, left.max_timestamp(), modified_ms);
            }
        }
        Ok(filtered.kept)
    }

    /// Queues what was done since the last commit.
    pub(super) fn commit(
        &mut self,
        partition: &Arc<Partition>,
        stats: &mut PassStats,
    ) -> Result<Commit, StorageError> {
        self.output.flush();
        let next = Output::new(partition.id(), self.output.bounds);
        let mut output = std::mem::replace(&mut self.output, next);
        self.merge_time_index(partition, &mut output)?;
        let bytes = output.written_bytes;
        stats.written_bytes += output.written_bytes;
        stats.deleted_bytes += output.deleted_bytes;
        let mut ops = output.ops;
        for emptied in self.filter.transactions.take_emptied() {
            let (partition, last_offset) = (partition.id(), emptied.last_offset);
            ops.delete(&Key::AbortedTransaction { partition, last_offset });
        }
        if ops.is_empty() && !self.is_over {
            return Ok(Commit::Nothing);
        }
        let mut inner = partition.inner.lock();
        if let Some(refusal) = partition.shared.store.refusal(Purpose::State) {
            return Err(refusal);
        }
        let start_has_moved =
            inner.log_start > self.log_start && output.first.is_some_and(|first| first < inner.log_start);
        let end_has_moved = inner.is_truncating || inner.generation != self.generation;
        if inner.is_deleted || start_has_moved || end_has_moved || !partition.log_config().compacts {
            return Ok(Commit::Obsolete);
        }
        if !self.count_segments(&mut inner, partition.id(), &mut ops) {
            return Ok(Commit::Obsolete);
        }
        if self.is_over {
            inner.cleaned_to = Some(self.clean_to);
            let key = Key::CleanerCheckpoint { partition: partition.id() };
            ops.put(&key, self.clean_to.to_be_bytes().to_vec());
        }
        inner.rewriting = output.first.zip(self.last_read);
        let stored = partition.commit_rewrite(ops);
        drop(inner);
        Ok(Commit::Queued { bytes, stored })
    }

    /// Drops the entries of the time index that are not needed any more.
    fn merge_time_index(&mut self, partition: &Partition, output: &mut Output) -> Result<(), StorageError> {
        let Some(last_read) = self.last_read else { return Ok(()) };
        let id = partition.id();
        let key = |timestamp| Key::TimeIndex { partition: id, timestamp };
        let prefix = KeyPrefix::TimeIndexOf { partition: id };
        let mut entries = Vec::new();
        for entry in partition.shared.store.scan_from(&key(self.index_from), &prefix) {
            let (Key::TimeIndex { timestamp, .. }, value) = entry? else { break };
            let offset = <[u8; 8]>::try_from(&value[..]).map(Offset::from_be_bytes);
            let offset = offset.map_err(|_| damaged("an entry of the time index is cut"))?;
            if offset > last_read {
                break;
            }
            entries.push((timestamp, offset));
        }
        let Some((last, _)) = entries.last() else { return Ok(()) };
        self.index_from = last.saturating_add(1);
        let mut merged = time_index::merge(&entries, &output.extents).into_iter().peekable();
        for (timestamp, offset) in entries {
            match merged.next_if(|merged| merged.timestamp == timestamp) {
                None => output.ops.delete(&key(timestamp)),
                Some(merged) if merged.extent != offset => {
                    output.ops.put(&key(timestamp), merged.extent.to_be_bytes().to_vec());
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Brings the log's segments up to date; false where one of them is gone.
    fn count_segments(&mut self, inner: &mut Inner, partition: PartitionId, ops: &mut Ops) -> bool {
        let mut group_start = self.committed;
        while group_start > 0 && self.work[group_start - 1].joins_next {
            group_start -= 1;
        }
        for at in self.committed..self.work.len() {
            let work = &mut self.work[at];
            let is_whole = self.is_over || self.seen_to >= work.end;
            if !is_whole && work.change_bytes == 0 {
                break;
            }
            let Ok(place) = inner.closed.binary_search_by_key(&work.base_offset, |other| other.base_offset)
            else {
                return false;
            };
            let segment = &mut inner.closed[place];
            if is_whole {
                *segment =
                    Segment { created_ms: segment.created_ms, modified_ms: segment.modified_ms, ..work.kept };
            } else {
                segment.size_bytes = segment.size_bytes.saturating_add_signed(work.change_bytes);
            }
            work.change_bytes = 0;
            let key = Key::Segment { partition, base_offset: segment.base_offset };
            ops.put(&key, segment.encode());
            if !is_whole {
                break;
            }
            self.committed = at + 1;
            if !self.work[at].joins_next {
                join(inner, self.work[group_start].base_offset, self.work[at].end, partition, ops);
                group_start = at + 1;
            }
        }
        true
    }
}

/// Makes one of the closed segments from `first` to `end`, as far as they are still there.
fn join(inner: &mut Inner, first: Offset, end: Offset, partition: PartitionId, ops: &mut Ops) {
    let from = inner.closed.partition_point(|segment| segment.base_offset < first);
    let to = inner.closed.partition_point(|segment| segment.base_offset < end);
    if to < from + 2 {
        return;
    }
    let others: Vec<Segment> = inner.closed.drain(from + 1..to).collect();
    let whole = &mut inner.closed[from];
    for other in others {
        ops.delete(&Key::Segment { partition, base_offset: other.base_offset });
        if whole.size_bytes == 0 {
            whole.first_timestamp = other.first_timestamp;
        }
        if other.max_timestamp > whole.max_timestamp {
            whole.max_timestamp = other.max_timestamp;
            whole.max_timestamp_offset = other.max_timestamp_offset;
        }
        whole.size_bytes += other.size_bytes;
        whole.modified_ms = other.modified_ms;
    }
    ops.put(&Key::Segment { partition, base_offset: whole.base_offset }, whole.encode());
}

fn work(segments: &[(Segment, Offset)], segment_bytes: u64) -> Vec<Work> {
    let mut work = Vec::with_capacity(segments.len());
    let mut rest = segments;
    while !rest.is_empty() {
        let (group, others) = rest.split_at(group_length(rest, segment_bytes));
        work.extend(group.iter().enumerate().map(|(index, (segment, end))| Work {
            base_offset: segment.base_offset,
            end: *end,
            joins_next: index + 1 < group.len(),
            change_bytes: 0,
            kept: Segment::new(segment.base_offset, segment.created_ms),
        }));
        rest = others;
    }
    work
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// What is left of an extent, in as few pieces as it takes.
#[derive(Default)]
struct Pieces {
    pieces: Vec<Bytes>,
    /// A stretch of the extent that stays as it is, and is no piece yet.
    same: Option<std::ops::Range<usize>>,
    lost_something: bool,
}

impl Pieces {
    fn add(&mut self, extent: &Bytes, place: std::ops::Range<usize>, kept: Kept) {
        match kept {
            Kept::Same => {
                let start = self.same.take().map_or(place.start, |same| same.start);
                self.same = Some(start..place.end);
            }
            Kept::Rebuilt(bytes) => {
                self.cut(extent);
                self.pieces.push(bytes);
            }
            Kept::Nothing => self.cut(extent),
        }
    }

    fn cut(&mut self, extent: &Bytes) {
        self.lost_something = true;
        self.pieces.extend(self.same.take().map(|same| extent.slice(same)));
    }

    fn finish(mut self, extent: &Bytes) -> (Vec<Bytes>, bool) {
        self.pieces.extend(self.same.take().map(|same| extent.slice(same)));
        (self.pieces, self.lost_something)
    }
}
