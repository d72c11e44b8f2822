//! Taking back the end of a log, where a follower has what its leader has not, and starting a log anew at some offset
//! (Kafka's `UnifiedLog.truncateTo`, `truncateFullyAndStartAt`).
//!
//! All that follows from the records goes back with them, in one atomic write: extents, the time index, segments, leader
//! epochs, producers, transactions. What can not be told from what is kept of them is read from the log: the last batches
//! of the producers that wrote what is taken back.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::batch::BatchView;
use super::epochs::Epochs;
use super::partition::{Inner, Partition, put_epochs};
use super::producers::{Producers, Rebuilding};
use super::state::{Segment, delete_records};
use crate::error::{ApiError, ErrorCode, StorageError};
use crate::storage::{Durability, Key, KeyPrefix, Ops};
use crate::types::{Offset, ProducerId, TimestampMs};

/// What a truncation finds in the log.
struct Plan {
    /// Where the log ends then: at a batch's start.
    end: Offset,
    ops: Ops,
    /// The batches that are taken back: where they start, and their lengths.
    removed: Vec<(Offset, u64)>,
    /// The largest timestamp of what stays.
    grown_to: TimestampMs,
    active: Segment,
    producers: Rebuilding,
}

/// What is left of the extent in which the log will end.
struct KeptPart {
    base_offset: Offset,
    bytes: Bytes,
}

impl Partition {
    /// Takes back what is at `offset` and behind it; a batch that begins before it goes as a whole. A log that starts
    /// behind it starts there anew. Answers where the log
    /// ends once that is stored. Waits for what is queued, reads and waits for the write: not for the runtime's threads.
    /// Meanwhile appends are refused.
    ///
    /// # Errors
    /// When the store can not be read or written; the log is as it was then.
    pub fn truncate_to(self: &Arc<Self>, offset: Offset) -> Result<Offset, StorageError> {
        let (to, producers) = {
            let mut inner = self.inner.lock();
            if inner.is_deleted {
                return Ok(inner.log_end);
            }
            if offset >= inner.log_end {
                self.forget_empty_epochs(&mut inner);
                return Ok(inner.log_end);
            }
            if offset < inner.log_start {
                drop(inner);
                return self.restart_at(offset).map(|()| offset);
            }
            let to = offset;
            if to < inner.high_watermark {
                let high_watermark = inner.high_watermark;
                tracing::warn!(
                    partition = self.name(),
                    to,
                    high_watermark,
                    "committed records are taken back"
                );
            }
            (to, self.begin_truncation(&mut inner)?)
        };
        let result = self.flush().and_then(|()| self.plan(to, &producers)).and_then(|plan| self.apply(plan));
        self.inner.lock().is_truncating = false;
        result
    }

    /// Forgets leader epochs that have begun here and have no records: who leads now may know nothing of them, and says
    /// so until they are gone.
    fn forget_empty_epochs(&self, inner: &mut Inner) {
        let log_end = inner.log_end;
        let changes = inner.epochs.truncate_end(log_end);
        if !changes.deleted.is_empty() {
            let mut ops = Ops::new();
            put_epochs(&mut ops, self.id(), changes);
            // If it is lost, the leader says so again.
            drop(self.shared.store.commit(ops, Durability::Process));
        }
    }

    /// Forgets all records, and starts the log anew at an offset. Waits like [`Self::truncate_to`].
    ///
    /// # Errors
    /// When the store can not be written.
    pub fn restart_at(self: &Arc<Self>, offset: Offset) -> Result<(), StorageError> {
        self.begin_truncation(&mut self.inner.lock())?;
        let restarted = self.flush().and_then(|()| self.restart(offset));
        self.inner.lock().is_truncating = false;
        restarted
    }

    /// Removes what lies below an offset, which is committed: a snapshot has it, say. Answers the log start.
    ///
    /// # Errors
    /// `OFFSET_OUT_OF_RANGE` where it is not committed.
    pub fn advance_log_start(&self, before: Offset) -> Result<Offset, ApiError> {
        let mut inner = self.inner.lock();
        if before > inner.high_watermark {
            return Err(ErrorCode::OffsetOutOfRange.into());
        }
        if before > inner.log_start && !inner.is_deleted && !inner.is_truncating {
            drop(self.move_log_start(&mut inner, before));
            self.shared.ask_for_space();
        }
        Ok(inner.log_start)
    }

    fn begin_truncation(&self, inner: &mut Inner) -> Result<Producers, StorageError> {
        if inner.is_truncating {
            return Err(StorageError::Write("the end of the log is being taken back already".to_owned()));
        }
        if let Some(failure) = self.shared.store.failure() {
            return Err(failure);
        }
        inner.is_truncating = true;
        inner.generation += 1;
        Ok(inner.producers.clone())
    }

    /// Waits until everything is stored that was queued: joined extents are not known before.
    fn flush(&self) -> Result<(), StorageError> {
        self.shared.store.commit_blocking(Ops::new(), Durability::Process)
    }

    fn plan(&self, to: Offset, producers: &Producers) -> Result<Plan, StorageError> {
        let mut ops = Ops::new();
        let (mut end, mut removed, mut affected) = (to, Vec::new(), HashSet::new());
        let (mut kept, mut cut_at) = (None, None);
        let mut extents = self.shared.store.extents(self.id(), to);
        while let Some((extent_base, extent)) = extents.next_extent()? {
            let extent = Bytes::copy_from_slice(extent);
            let mut kept_bytes = 0;
            for batch in BatchView::all(&extent) {
                let batch = batch.map_err(|error| StorageError::Damaged(error.to_string()))?;
                if batch.last_offset() < to {
                    kept_bytes += batch.len();
                    continue;
                }
                end = end.min(batch.base_offset());
                removed.push((batch.base_offset(), batch.len() as u64));
                if batch.producer_id() >= 0 {
                    affected.insert(batch.producer_id());
                }
            }
            if kept_bytes == extent.len() {
                continue;
            }
            cut_at.get_or_insert(extent_base);
            if kept_bytes > 0 {
                kept = Some(KeptPart { base_offset: extent_base, bytes: extent.slice(..kept_bytes) });
            }
        }
        let cut_at = cut_at.unwrap_or(to);
        self.cut_extents(cut_at, kept.as_ref(), &mut ops);
        let last_entry = self.cut_time_index(cut_at, &mut ops)?;
        let kept_max = kept.as_ref().and_then(|kept| newest(&kept.bytes, Offset::MIN));
        let mut grown_to = last_entry.map_or(TimestampMs::MIN, |(timestamp, _)| timestamp);
        if let (Some(kept), Some((timestamp, _))) = (&kept, kept_max)
            && timestamp > grown_to
        {
            let key = Key::TimeIndex { partition: self.id(), timestamp };
            ops.put(&key, kept.base_offset.to_be_bytes().to_vec());
            grown_to = timestamp;
        }
        let active = self.segment_after(end, &removed, kept.as_ref(), last_entry)?;
        let producers = self.rebuild(end, producers, affected)?;
        Ok(Plan { end, ops, removed, grown_to, active, producers })
    }

    fn cut_extents(&self, cut_at: Offset, kept: Option<&KeptPart>, ops: &mut Ops) {
        let partition = self.id();
        let key = |base_offset| Key::Extent { partition, base_offset };
        let first_gone = match kept {
            Some(kept) => {
                // A copy, so that the write does not keep what is cut off.
                ops.put(&key(kept.base_offset), Bytes::copy_from_slice(&kept.bytes));
                kept.base_offset + 1
            }
            None => cut_at,
        };
        ops.delete_range(&key(first_gone), &key(Offset::MAX));
    }

    /// Removes what the time index says of this extent and those behind it. Answers the last entry that stays.
    fn cut_time_index(
        &self,
        cut_at: Offset,
        ops: &mut Ops,
    ) -> Result<Option<(TimestampMs, Offset)>, StorageError> {
        let partition = self.id();
        let mut last = None;
        for entry in self.shared.store.scan(&KeyPrefix::TimeIndexOf { partition }) {
            let (Key::TimeIndex { timestamp, .. }, value) = entry? else { break };
            let offset = <[u8; 8]>::try_from(&value[..]).map(Offset::from_be_bytes);
            let offset = offset.map_err(|_| StorageError::Damaged("the time index is cut".to_owned()))?;
            if offset >= cut_at {
                let key = |timestamp| Key::TimeIndex { partition, timestamp };
                ops.delete_range(&key(timestamp), &key(TimestampMs::MAX));
                ops.delete(&key(TimestampMs::MAX));
                break;
            }
            last = Some((timestamp, offset));
        }
        Ok(last)
    }

    /// The segment that is appended to when the log ends at `end`.
    fn segment_after(
        &self,
        end: Offset,
        removed: &[(Offset, u64)],
        kept: Option<&KeptPart>,
        last_entry: Option<(TimestampMs, Offset)>,
    ) -> Result<Segment, StorageError> {
        let (mut segment, next_base) = {
            let inner = self.inner.lock();
            let mut segments = inner.closed.iter().chain(std::iter::once(&inner.active)).rev();
            let mut next_base = Offset::MAX;
            let found = segments.find(|segment| {
                let is_it = segment.base_offset <= end;
                if !is_it {
                    next_base = segment.base_offset;
                }
                is_it
            });
            (found.copied().unwrap_or_else(|| Segment::new(end, inner.active.created_ms)), next_base)
        };
        let gone = removed.iter().filter(|(offset, _)| (segment.base_offset..next_base).contains(offset));
        segment.size_bytes = segment.size_bytes.saturating_sub(gone.map(|(_, bytes)| bytes).sum());
        if segment.size_bytes == 0 || segment.base_offset == end {
            return Ok(Segment {
                modified_ms: segment.modified_ms,
                ..Segment::new(segment.base_offset, segment.created_ms)
            });
        }
        if segment.max_timestamp_offset >= end {
            let newest = self.newest_between(segment.base_offset, end, kept, last_entry)?;
            (segment.max_timestamp, segment.max_timestamp_offset) = newest.unwrap_or((-1, -1));
        }
        Ok(segment)
    }

    /// The largest timestamp from `base` on and before `end`, and the first batch that has it.
    fn newest_between(
        &self,
        base: Offset,
        end: Offset,
        kept: Option<&KeptPart>,
        last_entry: Option<(TimestampMs, Offset)>,
    ) -> Result<Option<(TimestampMs, Offset)>, StorageError> {
        let in_kept = kept.and_then(|kept| newest(&kept.bytes, base));
        // The time index knows which extent before that one has the largest timestamp of all, which spares reading them.
        if let Some((timestamp, extent)) = last_entry.filter(|(_, extent)| *extent >= base) {
            let mut extents = self.shared.store.extents(self.id(), extent);
            let found = match extents.next_extent()? {
                Some((_, bytes)) => newest(bytes, base),
                None => None,
            };
            if found.is_some_and(|(found, _)| found == timestamp) {
                return Ok(later(found, in_kept));
            }
        }
        let mut largest = None;
        let mut extents = self.shared.store.extents(self.id(), base);
        let kept_base = kept.map_or(end, |kept| kept.base_offset);
        while let Some((offset, bytes)) = extents.next_extent()? {
            if offset >= kept_base {
                break;
            }
            largest = later(largest, newest(bytes, base));
        }
        Ok(later(largest, in_kept))
    }

    /// Reads backwards what is needed to know how the producers were that wrote what is taken back.
    fn rebuild(
        &self,
        end: Offset,
        producers: &Producers,
        affected: HashSet<ProducerId>,
    ) -> Result<Rebuilding, StorageError> {
        let log_start = self.inner.lock().log_start;
        let mut rebuilding = producers.rebuilding(end, affected);
        let mut before = end;
        while before > log_start && !rebuilding.is_done() {
            let mut extents = self.shared.store.extents(self.id(), before - 1);
            let Some((base, extent)) = extents.next_extent()? else { break };
            if base >= before {
                break;
            }
            let extent = Bytes::copy_from_slice(extent);
            let batches: Result<Vec<_>, _> = BatchView::all(&extent).collect();
            let batches = batches.map_err(|error| StorageError::Damaged(error.to_string()))?;
            for batch in batches.iter().rev().filter(|batch| batch.last_offset() < end) {
                rebuilding.see(batch);
            }
            before = base;
        }
        Ok(rebuilding)
    }

    /// Makes it so, in memory and in the store.
    fn apply(self: &Arc<Self>, plan: Plan) -> Result<Offset, StorageError> {
        let Plan { end, mut ops, removed, grown_to, active, producers } = plan;
        let partition = self.id();
        let mut inner = self.inner.lock();
        if inner.is_deleted {
            return Ok(end);
        }
        while inner.closed.back().is_some_and(|segment| segment.base_offset >= active.base_offset) {
            if let Some(segment) = inner.closed.pop_back() {
                ops.delete(&Key::Segment { partition, base_offset: segment.base_offset });
            }
        }
        inner.active = active;
        inner.grown_to = grown_to;
        let changes = inner.epochs.truncate_end(end);
        put_epochs(&mut ops, partition, changes);
        inner.producers.take_back(producers, end, partition, &mut ops);
        if inner.cleaned_to.is_some_and(|cleaned_to| cleaned_to > end) {
            inner.cleaned_to = Some(end);
            ops.put(&Key::CleanerCheckpoint { partition }, end.to_be_bytes().to_vec());
        }
        (inner.log_end, inner.stored_end) = (end, inner.stored_end.min(end));
        // It may have started within the batch that goes.
        inner.log_start = inner.log_start.min(end);
        inner.high_watermark = inner.high_watermark.min(end);
        inner.uncommitted_bytes = 0;
        self.tail.truncate(end);
        tracing::info!(
            partition = self.name(),
            end,
            batches = removed.len(),
            "the end of the log is taken back"
        );
        self.write_truncation(inner, ops, end)?;
        Ok(end)
    }

    fn restart(self: &Arc<Self>, offset: Offset) -> Result<(), StorageError> {
        let partition = self.id();
        let now_ms = self.shared.clock.now_ms();
        let mut inner = self.inner.lock();
        let mut ops = Ops::new();
        delete_records(&mut ops, partition);
        inner.epochs = Epochs::default();
        inner.producers.forget();
        inner.closed.clear();
        inner.active = Segment::new(offset, now_ms);
        (inner.cleaned_to, inner.grown_to) = (None, TimestampMs::MIN);
        (inner.log_start, inner.log_end, inner.stored_end) = (offset, offset, offset);
        inner.high_watermark = offset;
        inner.uncommitted_bytes = 0;
        self.tail.clear();
        tracing::info!(partition = self.name(), offset, "the log starts anew");
        self.write_truncation(inner, ops, offset)
    }

    fn write_truncation(
        &self,
        mut inner: parking_lot::MutexGuard<'_, Inner>,
        mut ops: Ops,
        end: Offset,
    ) -> Result<(), StorageError> {
        if self.stored_view_end()?.is_some_and(|covered| covered > end) {
            // The coordinator's view has what is taken back; whoever leads next makes another one.
            ops.delete(&Key::CoordinatorView { partition: self.id() });
        }
        ops.put(&Key::PartitionState { partition: self.id() }, inner.state().encode());
        inner.wake();
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.shared.store.commit_then(ops, Durability::Process, move |result| {
            // Whoever gave up waiting does not hear of it.
            let _ = sender.send(result);
        });
        drop(inner);
        receiver.recv().unwrap_or_else(|_| Err(StorageError::Write("it is closed".to_owned())))?;
        let mut inner = self.inner.lock();
        inner.stored_end = inner.stored_end.max(end.min(inner.log_end));
        self.shared.ask_for_space();
        Ok(())
    }
}

/// The largest timestamp in an extent, of batches from `from` on, and the first batch that has it.
fn newest(extent: &[u8], from: Offset) -> Option<(TimestampMs, Offset)> {
    let bytes = Bytes::copy_from_slice(extent);
    let batches = BatchView::all(&bytes).map_while(Result::ok).filter(|batch| batch.base_offset() >= from);
    batches.fold(None, |newest, batch| later(newest, Some((batch.max_timestamp(), batch.base_offset()))))
}

/// The later of two, the first of equal ones.
fn later(
    one: Option<(TimestampMs, Offset)>,
    other: Option<(TimestampMs, Offset)>,
) -> Option<(TimestampMs, Offset)> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.0 > one.0 { other } else { one }),
        (one, other) => one.or(other),
    }
}
