//! Removing old records: by time, by size, and when a client asks (DeleteRecords).
//!
//! Kafka removes whole segment files. klamm has none, but counts segments by the same rules
//! (`segment.bytes`, `segment.ms`), so that the same records go at the same time: those of whole
//! segments, the oldest first, the active one only by time. What is below the log start is deleted
//! at once, also where a segment is cut; the size counts segments that are not gone as a whole.
//!
//! Deleting is a small write: a mark over a range of keys, in one atomic step with the new log
//! start. The space comes back when the keys are compacted, which the retention task asks for;
//! record batches are not rewritten.

use std::sync::Arc;

use super::partition::{Inner, Partition, put_epochs};
use super::state::Segment;
use super::types::Acks;
use crate::error::{ApiError, ErrorCode, StorageError};
use crate::storage::{Committed, Durability, Key, KeyPrefix, Ops, Purpose};
use crate::types::{Offset, TimestampMs};

/// `DeleteRecordsRequest.HIGH_WATERMARK`.
const HIGH_WATERMARK: Offset = -1;

impl Partition {
    /// Moves the log start to `before` (-1: the high watermark) and removes what lies below.
    /// Answers the log start once that is stored.
    ///
    /// # Errors
    /// `OFFSET_OUT_OF_RANGE` above the high watermark; `POLICY_VIOLATION` where the topic is only
    /// compacted.
    pub async fn delete_records(self: &Arc<Self>, before: Offset) -> Result<Offset, ApiError> {
        let (log_start, committed) = self.start_delete_records(before)?;
        if let Some(committed) = committed {
            committed.await?;
            self.shared.ask_for_space();
        }
        Ok(log_start)
    }

    fn start_delete_records(&self, before: Offset) -> Result<(Offset, Option<Committed>), ApiError> {
        let config = self.log_config();
        if !config.deletes && config.compacts {
            let message = format!(
                "Records of partition {} can not be deleted due to the configured policy",
                self.name()
            );
            return Err(ApiError::with(ErrorCode::PolicyViolation, message));
        }
        let mut inner = self.inner.lock();
        self.check_writable(&inner, Purpose::Metadata).map_err(ApiError::from)?;
        inner.role.check_append(Acks::Leader, 1, self.name()).map_err(ApiError::from)?;
        let before = if before == HIGH_WATERMARK { inner.high_watermark } else { before };
        if before < 0 || before > inner.high_watermark {
            let message = format!(
                "Cannot increment the log start offset to {before} of partition {} since it is \
                 larger than the high watermark {}",
                self.name(),
                inner.high_watermark
            );
            return Err(ApiError::with(ErrorCode::OffsetOutOfRange, message));
        }
        if before <= inner.log_start {
            return Ok((inner.log_start, None));
        }
        let committed = self.move_log_start(&mut inner, before);
        Ok((before, Some(committed)))
    }

    /// Removes what the topic's retention does not keep; answers whether anything was removed.
    pub(super) fn apply_retention(&self, now_ms: TimestampMs) -> bool {
        let config = self.log_config();
        if !config.deletes {
            return false;
        }
        let mut inner = self.inner.lock();
        if inner.is_deleted || inner.is_truncating || self.shared.store.failure().is_some() {
            return false;
        }
        let by_size = by_size(&inner, config.retention_bytes);
        let by_time = by_time(&inner, config.retention_ms, now_ms, by_size);
        let before = by_size.max(by_time);
        if before <= inner.log_start && before <= inner.active.base_offset {
            return false;
        }
        if before > inner.active.base_offset {
            // All of it goes, the active segment too: a new one starts.
            let old = std::mem::replace(&mut inner.active, Segment::new(before, now_ms));
            inner.closed.push_back(old);
        }
        let reason = if by_size >= by_time { "size" } else { "time" };
        tracing::info!(partition = self.name(), log_start = before, reason, "retention removed records");
        drop(self.move_log_start(&mut inner, before));
        true
    }

    /// Forgets producers that were silent for long.
    pub(super) fn expire_producers(&self, now_ms: TimestampMs, expiration_ms: i64) {
        let mut inner = self.inner.lock();
        if inner.is_truncating || self.shared.store.failure().is_some() {
            return;
        }
        let expired = inner.producers.expire(now_ms, expiration_ms);
        if expired.is_empty() || inner.is_deleted {
            return;
        }
        let mut ops = Ops::new();
        for producer_id in expired {
            ops.delete(&Key::Producer { partition: self.id(), producer_id });
        }
        drop(self.shared.store.commit(ops, Durability::Process));
    }

    /// Deletes everything below an offset that is stored. The lock is held.
    pub(super) fn move_log_start(&self, inner: &mut Inner, before: Offset) -> Committed {
        let partition = self.id();
        let mut ops = Ops::new();
        // What can not be read must not keep the log from being cut: the space is given back the
        // next time then.
        if let Err(error) = self.cut(inner, before, &mut ops) {
            tracing::error!(partition = self.name(), %error, "deleted records stay on the disk for now");
        }
        inner.log_start = before;
        let active_base = inner.active.base_offset;
        while let Some(first) = inner.closed.front().copied() {
            let next = inner.closed.get(1).map_or(active_base, |segment| segment.base_offset);
            if next > before {
                break;
            }
            ops.delete(&Key::Segment { partition, base_offset: first.base_offset });
            inner.closed.pop_front();
        }
        let changes = inner.epochs.truncate_front(before);
        put_epochs(&mut ops, partition, changes);
        inner.producers.transactions.trim_aborted(partition, before, &mut ops);
        ops.put(&Key::PartitionState { partition }, inner.state().encode());
        inner.wake();
        self.shared.store.commit(ops, Durability::Process)
    }

    /// Deletes the extents below an offset, and what the time index says of them.
    fn cut(&self, inner: &Inner, before: Offset, ops: &mut Ops) -> Result<(), StorageError> {
        let partition = self.id();
        let extent = |base_offset| Key::Extent { partition, base_offset };
        // The extent that holds the new log start stays as a whole.
        let kept = match self.shared.store.extents(partition, before).next_extent()? {
            Some((base_offset, _)) if before < inner.stored_end => base_offset.min(before),
            _ => before,
        };
        // Extents that are being rewritten may be joined to one that starts with the first of them.
        let kept = match inner.rewriting {
            Some((first, last)) if first < kept && kept <= last => first,
            _ => kept,
        };
        ops.delete_range(&extent(0), &extent(kept));
        self.trim_time_index(kept, ops)
    }

    /// Removes the entries of deleted extents but the last, which says that the largest timestamp
    /// had been reached before what is left.
    fn trim_time_index(&self, kept: Offset, ops: &mut Ops) -> Result<(), StorageError> {
        let partition = self.id();
        let prefix = KeyPrefix::TimeIndexOf { partition };
        let mut last_below = None;
        for entry in self.shared.store.scan(&prefix) {
            let (key, value) = entry?;
            let offset = <[u8; 8]>::try_from(&value[..]).map(Offset::from_be_bytes);
            let offset = offset.map_err(|_| StorageError::Damaged("the time index is cut".to_owned()))?;
            if offset >= kept {
                break;
            }
            last_below = Some(key);
        }
        if let Some(last) = last_below {
            ops.delete_range(&Key::TimeIndex { partition, timestamp: TimestampMs::MIN }, &last);
        }
        Ok(())
    }
}

/// Where the log starts when the oldest segments beyond `retention.bytes` are gone. The active
/// segment stays (`deleteRetentionSizeBreachedSegments`).
fn by_size(inner: &Inner, retention_bytes: i64) -> Offset {
    let Ok(retention_bytes) = u64::try_from(retention_bytes) else { return 0 };
    let Some(mut excess) = inner.size_bytes().checked_sub(retention_bytes) else { return 0 };
    let mut before = 0;
    for (segment, end) in segments(inner) {
        if segment.size_bytes > excess || end > inner.high_watermark || is_empty_end(inner, segment) {
            break;
        }
        excess -= segment.size_bytes;
        before = end;
    }
    before
}

/// Where the log starts when the oldest segments whose records are all older than `retention.ms`
/// are gone (`deleteRetentionMsBreachedSegments`); what lies below `from` goes anyway.
fn by_time(inner: &Inner, retention_ms: i64, now_ms: TimestampMs, from: Offset) -> Offset {
    if retention_ms < 0 {
        return 0;
    }
    let mut before = 0;
    for (segment, end) in segments(inner).filter(|(_, end)| *end > from) {
        let age_ms = now_ms.saturating_sub(segment.largest_timestamp());
        if age_ms <= retention_ms || end > inner.high_watermark || is_empty_end(inner, segment) {
            break;
        }
        before = end;
    }
    before
}

/// Whether it is the active segment, without records: there is nothing to remove behind the others.
/// Segments before it may be empty too, by compaction.
fn is_empty_end(inner: &Inner, segment: &Segment) -> bool {
    segment.size_bytes == 0 && segment.base_offset == inner.active.base_offset
}

/// Every segment with the offset where it ends.
fn segments(inner: &Inner) -> impl Iterator<Item = (&Segment, Offset)> {
    let all = || inner.closed.iter().chain(std::iter::once(&inner.active));
    let ends = all().skip(1).map(|segment| segment.base_offset).chain(std::iter::once(inner.log_end));
    all().zip(ends)
}
