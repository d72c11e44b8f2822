//! Reading a partition's log: records by offset, offsets by time.

use bytes::Bytes;

use super::batch::{BatchView, batch_length};
use super::partition::Partition;
use super::types::{FoundOffset, OffsetQuery, Offsets, Read, ReadUpTo};
use crate::error::{ApiError, ErrorCode, StorageError};
use crate::storage::{Extents, Key, KeyPrefix};
use crate::types::{LeaderEpoch, Offset, TimestampMs};

/// A slice of an extent keeps all of it in memory: one that is smaller than this part of it is copied instead.
const SLICE_PART_MIN: usize = 4;

impl Partition {
    /// Reads whole batches, from the one that holds `offset` on, `max_bytes` at most; with
    /// `at_least_one_batch` the first one may be larger. Batches that are not stored yet are not
    /// read, whatever `upto` says. May block for the disk.
    ///
    /// # Errors
    /// `OFFSET_OUT_OF_RANGE`, and `KAFKA_STORAGE_ERROR` when the store can not be read.
    pub fn read(
        &self,
        offset: Offset,
        max_bytes: usize,
        at_least_one_batch: bool,
        upto: ReadUpTo,
    ) -> Result<Read, ApiError> {
        let budget = Budget::new(max_bytes, at_least_one_batch);
        let read = self.read_from(offset, budget, upto, Sources::All)?;
        read.ok_or_else(|| damaged("the store was not asked"))
    }

    /// The same from memory alone, without blocking: `None` where the store has to be asked.
    ///
    /// # Errors
    /// Likewise.
    pub fn read_memory(
        &self,
        offset: Offset,
        max_bytes: usize,
        at_least_one_batch: bool,
        upto: ReadUpTo,
    ) -> Result<Option<Read>, ApiError> {
        self.read_from(offset, Budget::new(max_bytes, at_least_one_batch), upto, Sources::Memory)
    }

    fn read_from(
        &self,
        offset: Offset,
        mut budget: Budget,
        upto: ReadUpTo,
        sources: Sources,
    ) -> Result<Option<Read>, ApiError> {
        let (offsets, stored_end) = {
            let inner = self.inner.lock();
            if inner.is_deleted {
                return Err(ErrorCode::UnknownTopicOrPartition.into());
            }
            (inner.offsets(), inner.stored_end)
        };
        if offset < offsets.log_start || offset > offsets.log_end {
            let Offsets { log_start, log_end, .. } = offsets;
            let message = format!(
                "Received request for offset {offset} for partition {}, but the log holds \
                 {log_start} to {log_end}.",
                self.name()
            );
            return Err(ApiError::with(ErrorCode::OffsetOutOfRange, message));
        }
        let end = match upto {
            ReadUpTo::HighWatermark => offsets.high_watermark,
            ReadUpTo::LastStable => offsets.last_stable,
            ReadUpTo::LogEnd => stored_end,
        };
        let aborted = (upto == ReadUpTo::LastStable).then(Vec::new);
        let mut read = Read { batches: Vec::new(), offsets, stored_end, aborted };
        if offset >= end || budget.is_spent() {
            return Ok(Some(read));
        }
        let mut pass = Pass { offset, end, budget: &mut budget, pieces: &mut read.batches };
        let in_memory = self.read_tail_or_kept(&mut pass);
        if !in_memory {
            if sources == Sources::Memory {
                return Ok(None);
            }
            self.read_stored(&mut pass)?;
        }
        if read.aborted.is_some() {
            read.aborted = Some(self.aborted_within(offset, &read.batches)?);
        }
        if read.aborted.is_some() || !in_memory {
            self.check_still_there(offset)?;
        }
        Ok(Some(read))
    }

    /// Whoever moved the log start or deleted the topic during a read may have taken away records, or what the index
    /// said of aborted transactions, before they were read.
    fn check_still_there(&self, offset: Offset) -> Result<(), ApiError> {
        let inner = self.inner.lock();
        if inner.is_deleted {
            return Err(ErrorCode::UnknownTopicOrPartition.into());
        }
        if offset < inner.log_start { Err(ErrorCode::OffsetOutOfRange.into()) } else { Ok(()) }
    }

    /// Reads what is in memory; `false` where more may be in the store.
    fn read_tail_or_kept(&self, pass: &mut Pass<'_>) -> bool {
        loop {
            if pass.is_over() || self.tail.read(pass.offset, pass.end, pass.budget, pass.pieces) {
                return true;
            }
            let Some(extent) = self.shared.store.kept_extent(self.id(), pass.offset) else { return false };
            match pass.choose(&extent) {
                // It ends before the offset, or is damaged: the store knows better.
                Ok(Chosen { nothing: true, more: true }) | Err(_) => return false,
                Ok(Chosen { more, .. }) if !more => return true,
                Ok(_) => {}
            }
        }
    }

    fn read_stored(&self, pass: &mut Pass<'_>) -> Result<(), ApiError> {
        let mut extents = self.shared.store.extents(self.id(), pass.offset);
        while !pass.is_over() {
            let next =
                extents.next_kept().and_then(|extent| extent.map(|extent| pass.choose(&extent)).transpose());
            match next {
                Ok(Some(Chosen { more: true, .. })) => {}
                Ok(Some(_) | None) => break,
                // What comes before damaged bytes can be read; who reads on gets the error.
                Err(_) if !pass.pieces.is_empty() => break,
                Err(error) => {
                    let offset = pass.offset;
                    tracing::error!(partition = self.name(), offset, %error, "records can not be read");
                    return Err(error.into());
                }
            }
            if self.tail.read(pass.offset, pass.end, pass.budget, pass.pieces) {
                break;
            }
        }
        Ok(())
    }

    /// Finds an offset; `None` where no record has such a timestamp.
    ///
    /// # Errors
    /// When the store can not be read.
    pub fn offset_for(&self, query: OffsetQuery) -> Result<Option<FoundOffset>, ApiError> {
        let (offsets, earliest_epoch, leader_epoch) = {
            let inner = self.inner.lock();
            (inner.offsets(), inner.epochs.at(inner.log_start), inner.leader_epoch)
        };
        let special = |offset, leader_epoch| Ok(Some(FoundOffset { offset, timestamp: -1, leader_epoch }));
        match query {
            OffsetQuery::Latest(super::Isolation::ReadUncommitted) => {
                special(offsets.high_watermark, leader_epoch)
            }
            OffsetQuery::Latest(super::Isolation::ReadCommitted) => {
                special(offsets.last_stable, leader_epoch)
            }
            OffsetQuery::LogEnd => special(offsets.log_end, leader_epoch),
            OffsetQuery::Earliest | OffsetQuery::EarliestLocal => {
                special(offsets.log_start, earliest_epoch.unwrap_or(-1))
            }
            OffsetQuery::LatestTiered | OffsetQuery::EarliestPendingUpload => special(-1, -1),
            OffsetQuery::MaxTimestamp => self.max_timestamp(),
            OffsetQuery::Timestamp(target) => self.first_at_least(target),
        }
    }

    /// The first record with the largest timestamp.
    fn max_timestamp(&self) -> Result<Option<FoundOffset>, ApiError> {
        let (segment, log_start, high_watermark) = {
            let inner = self.inner.lock();
            let segments = inner.closed.iter().chain(std::iter::once(&inner.active));
            // Of equal ones the first.
            let latest = segments.copied().reduce(|latest, segment| {
                if segment.max_timestamp > latest.max_timestamp { segment } else { latest }
            });
            let Some(latest) = latest else { return Ok(None) };
            (latest, inner.log_start, inner.high_watermark)
        };
        if segment.max_timestamp < 0 {
            return Ok(None);
        }
        let from = segment.max_timestamp_offset.max(log_start);
        if segment.max_timestamp_offset < log_start {
            // The record was deleted, though its segment is still there: look at what is left.
            return self.largest_from(log_start);
        }
        match self.walk_from(from, segment.max_timestamp)? {
            Some(found) => Ok(Some(found)),
            None if from >= high_watermark => Ok(None),
            // The record was compacted away, while its segment is not gone through as a whole.
            None => self.largest_from(log_start),
        }
    }

    /// The first record from `offset` on whose timestamp is the largest one from there on.
    fn largest_from(&self, offset: Offset) -> Result<Option<FoundOffset>, ApiError> {
        let mut largest: TimestampMs = -1;
        let end = self.offsets().high_watermark;
        let mut extents = self.shared.store.extents(self.id(), offset);
        while let Some((_, extent)) = extents.next_extent()? {
            for batch in BatchView::all(&Bytes::copy_from_slice(extent)) {
                let batch = batch.map_err(damaged)?;
                // Compaction may have left no more than a header of it.
                if batch.last_offset() < offset || batch.last_offset() >= end || batch.record_count() == 0 {
                    continue;
                }
                if batch.base_offset() >= offset {
                    largest = largest.max(batch.max_timestamp());
                } else {
                    for record in batch.records().map_err(damaged)? {
                        let record = record.map_err(damaged)?;
                        if record.offset >= offset {
                            largest = largest.max(record.timestamp);
                        }
                    }
                }
            }
        }
        if largest < 0 { Ok(None) } else { self.walk_from(offset, largest) }
    }

    /// The first record whose timestamp is at least `target`.
    fn first_at_least(&self, target: TimestampMs) -> Result<Option<FoundOffset>, ApiError> {
        let segment = {
            let inner = self.inner.lock();
            let mut segments = inner.closed.iter().chain(std::iter::once(&inner.active));
            let found = segments.find(|segment| segment.max_timestamp >= target);
            found.map(|segment| segment.base_offset.max(inner.log_start))
        };
        let Some(from) = segment else { return Ok(None) };
        // All records before the extent that first raised the largest timestamp to the target are
        // older. If that extent is behind us, the index says nothing of what is left.
        let key = Key::TimeIndex { partition: self.id(), timestamp: target };
        let prefix = KeyPrefix::TimeIndexOf { partition: self.id() };
        let indexed = self.shared.store.scan_from(&key, &prefix).next().transpose()?;
        let indexed = indexed.map(|(_, value)| <[u8; 8]>::try_from(&value[..]).map(Offset::from_be_bytes));
        let indexed = indexed.transpose().map_err(|_| damaged("an entry of the time index is cut"))?;
        self.walk_from(indexed.map_or(from, |offset| offset.max(from)), target)
    }

    /// The first record from `from` on, and below the high watermark, whose timestamp is at least
    /// `target`.
    fn walk_from(&self, from: Offset, target: TimestampMs) -> Result<Option<FoundOffset>, ApiError> {
        let Offsets { log_start, high_watermark, .. } = self.offsets();
        let from = from.max(log_start);
        let mut extents: Extents<'_> = self.shared.store.extents(self.id(), from);
        while let Some((_, extent)) = extents.next_extent()? {
            let mut rest = extent;
            while !rest.is_empty() {
                let length = batch_length(rest).map_err(damaged)?;
                let length = length.ok_or_else(|| damaged("a batch is cut"))?;
                let (head, tail) = rest.split_at(length);
                rest = tail;
                let header = Header::of(head);
                if header.base_offset >= high_watermark {
                    return Ok(None);
                }
                if header.last_offset < from || header.max_timestamp < target {
                    continue;
                }
                let batch = BatchView::first(&Bytes::copy_from_slice(head)).map_err(damaged)?;
                if let Some(found) = record_at_least(&batch, from, target)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }
}

fn record_at_least(
    batch: &BatchView,
    from: Offset,
    target: TimestampMs,
) -> Result<Option<FoundOffset>, ApiError> {
    let leader_epoch: LeaderEpoch = batch.leader_epoch();
    for record in batch.records().map_err(damaged)? {
        let record = record.map_err(damaged)?;
        if record.offset >= from && record.timestamp >= target {
            let (offset, timestamp) = (record.offset, record.timestamp);
            return Ok(Some(FoundOffset { offset, timestamp, leader_epoch }));
        }
    }
    Ok(None)
}

/// Where a read may look.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sources {
    Memory,
    All,
}

/// A read on its way through a log.
struct Pass<'a> {
    /// Where it goes on.
    offset: Offset,
    end: Offset,
    budget: &'a mut Budget,
    pieces: &'a mut Vec<Bytes>,
}

/// What an extent gave.
struct Chosen {
    nothing: bool,
    /// Whether the next one may give more.
    more: bool,
}

impl Pass<'_> {
    fn is_over(&self) -> bool {
        self.offset >= self.end || self.budget.is_spent()
    }

    /// Takes the batches of an extent that end at or behind the offset and before the end, as far as they fit. Bytes
    /// that are no batch end what is read; they are an error where nothing comes before them.
    fn choose(&mut self, extent: &Bytes) -> Result<Chosen, StorageError> {
        let mut start = None;
        let mut at = 0;
        let mut more = true;
        while at < extent.len() {
            let batch = &extent[at..];
            let length = match batch_length(batch) {
                Ok(Some(length)) => length,
                Ok(None) | Err(_) if start.is_some() => {
                    more = false;
                    break;
                }
                Ok(None) => return Err(StorageError::Damaged("a batch is cut".to_owned())),
                Err(error) => return Err(StorageError::Damaged(error.to_string())),
            };
            let header = Header::of(batch);
            if header.last_offset >= self.offset {
                if header.last_offset >= self.end || self.budget.is_spent() || !self.budget.takes(length) {
                    more = false;
                    break;
                }
                start.get_or_insert(at);
                self.offset = header.last_offset + 1;
            }
            at += length;
        }
        let chosen = start.unwrap_or(at)..at;
        let nothing = chosen.is_empty();
        if chosen.len() < extent.len() / SLICE_PART_MIN && !nothing {
            self.pieces.push(Bytes::copy_from_slice(&extent[chosen]));
        } else if !nothing {
            self.pieces.push(extent.slice(chosen));
        }
        Ok(Chosen { nothing, more })
    }
}

/// How much may still be read.
#[derive(Debug)]
pub(super) struct Budget {
    left: usize,
    at_least_one: bool,
}

impl Budget {
    /// `bytes_max` bytes; one batch in any case if `at_least_one` says so.
    pub(super) fn new(bytes_max: usize, at_least_one: bool) -> Self {
        Self { left: bytes_max, at_least_one }
    }

    /// Whether nothing fits any more.
    pub(super) fn is_spent(&self) -> bool {
        self.left == 0 && !self.at_least_one
    }

    /// Takes a batch, if it fits.
    pub(super) fn takes(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.left || self.at_least_one;
        if fits {
            self.left = self.left.saturating_sub(bytes);
            self.at_least_one = false;
        }
        fits
    }
}

/// What a read looks at, of a batch whose length was checked.
struct Header {
    base_offset: Offset,
    last_offset: Offset,
    max_timestamp: TimestampMs,
}

impl Header {
    fn of(batch: &[u8]) -> Self {
        let i64_at = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&batch[at..at + 8]);
            i64::from_be_bytes(bytes)
        };
        let base_offset = i64_at(0);
        let last_offset_delta = i32::from_be_bytes([batch[23], batch[24], batch[25], batch[26]]);
        Self {
            base_offset,
            last_offset: base_offset.saturating_add(i64::from(last_offset_delta)),
            max_timestamp: i64_at(super::batch::MAX_TIMESTAMP_AT),
        }
    }
}

fn damaged(problem: impl std::fmt::Display) -> ApiError {
    StorageError::Damaged(problem.to_string()).into()
}
