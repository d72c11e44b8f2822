//! Which records of a batch stay, and the batch without the others (Kafka's `Cleaner` and
//! `MemoryRecords.filterTo`). A core: it reads nothing but what it is given.

use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::offset_map::OffsetMap;
use super::transactions::Transactions;
use crate::log::batch::{
    ATTRIBUTES_AT, BatchError, BatchView, CONTROL, DELETE_HORIZON, HEADER_BYTES, LENGTH_PREFIX_BYTES,
    LOG_APPEND_TIME, TRANSACTIONAL, set_crc,
};
use crate::log::compression::{Compression, MAX_INFLATED_BYTES, decompress};
use crate::log::varint;
use crate::types::{Offset, ProducerEpoch, ProducerId, TimestampMs};

/// The last thing that a producer wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::log) struct LastRecord {
    /// The last offset of its last batch; `None` where only a marker is known.
    pub(in crate::log) data_offset: Option<Offset>,
    pub(in crate::log) epoch: ProducerEpoch,
}

/// What becomes of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It stays as it is.
    Same,
    /// It stays without some of its records, or with another header.
    Rebuilt(Bytes),
    Nothing,
}

/// What becomes of a batch, and how many records of it.
#[derive(Debug)]
pub(super) struct Filtered {
    pub(super) kept: Kept,
    pub(super) records_read: u64,
    pub(super) records_kept: u64,
}

/// What decides.
pub(super) struct Filter {
    /// The last offset of each key in the new part of the log.
    pub(super) map: OffsetMap,
    pub(super) transactions: Transactions,
    /// What active producers wrote last: those batches stay, if without records, as their
    /// sequence numbers are needed.
    pub(super) last_records: HashMap<ProducerId, LastRecord>,
    /// Where the cleaning ends. The last batch before it stays, if without records, so that the
    /// log does not forget where it ended.
    pub(super) upper_bound: Offset,
    pub(super) now_ms: TimestampMs,
    /// How long tombstones and markers stay once everything that they hide is gone.
    pub(super) delete_retention_ms: i64,
}

impl Filter {
    /// Decides on the next batch.
    pub(super) fn filter(&mut self, batch: &BatchView) -> Result<Filtered, BatchError> {
        let is_discardable = self.transactions.observe(batch)?;
        let horizon = batch.delete_horizon_ms();
        let is_marker_of_nothing = is_discardable && batch.is_control();
        let discards =
            is_discardable && (!batch.is_control() || horizon.is_some_and(|horizon| horizon <= self.now_ms));
        let records_read = u64::try_from(batch.record_count()).unwrap_or(0);
        let done = |kept, records_kept| Ok(Filtered { kept, records_read, records_kept });
        let empty = |filter: &Self| {
            let stays = filter.is_last_of_producer(batch) || batch.last_offset() + 1 == filter.upper_bound;
            match (stays, batch.record_count()) {
                (false, _) => Kept::Nothing,
                (true, ..=0) => Kept::Same,
                (true, _) => Kept::Rebuilt(rebuild(batch, &[], None)),
            }
        };
        if discards {
            return done(empty(self), 0);
        }
        let records = read_records(batch)?;
        let is_kept = |record: &Record| {
            batch.is_control()
                || self.keeps(batch.base_offset() + i64::from(record.offset_delta), record, horizon)
        };
        let kept: Vec<&Record> = records.iter().filter(|record| is_kept(record)).collect();
        if kept.is_empty() {
            return done(empty(self), 0);
        }
        let hides_something = is_marker_of_nothing || kept.iter().any(|record| !record.has_value);
        let new_horizon = (hides_something && horizon.is_none())
            .then(|| self.now_ms.saturating_add(self.delete_retention_ms));
        let count = kept.len() as u64;
        if kept.len() == records.len() && new_horizon.is_none() {
            return done(Kept::Same, count);
        }
        done(Kept::Rebuilt(rebuild(batch, &kept, new_horizon.or(horizon))), count)
    }

    fn is_last_of_producer(&self, batch: &BatchView) -> bool {
        if batch.producer_id() < 0 {
            return false;
        }
        match self.last_records.get(&batch.producer_id()) {
            None => false,
            Some(LastRecord { data_offset: Some(offset), .. }) => batch.last_offset() == *offset,
            Some(LastRecord { data_offset: None, epoch }) => {
                batch.is_control() && batch.producer_epoch() == *epoch
            }
        }
    }

    fn keeps(&self, offset: Offset, record: &Record, horizon: Option<TimestampMs>) -> bool {
        if offset > self.map.latest_offset() {
            return true;
        }
        // Without a key it can not be told what replaces it: compacted topics take none.
        let Some(key) = &record.key else { return false };
        let is_latest = self.map.get(key).is_none_or(|latest| offset >= latest);
        is_latest && (record.has_value || horizon.is_none_or(|horizon| self.now_ms < horizon))
    }
}

/// Puts the keys of a batch into a map; false where the map is full. Offsets below `from` are
/// left out.
pub(super) fn index(
    batch: &BatchView,
    from: Offset,
    map: &mut OffsetMap,
    transactions: &mut Transactions,
) -> Result<bool, BatchError> {
    let is_aborted = transactions.observe(batch)?;
    if !batch.is_control() && !is_aborted {
        for record in read_records(batch)? {
            let offset = batch.base_offset() + i64::from(record.offset_delta);
            if let Some(key) = &record.key
                && offset >= from
                && !map.put(key, offset)
            {
                return Ok(false);
            }
        }
    }
    if batch.last_offset() >= from {
        map.update_latest_offset(batch.last_offset());
    }
    Ok(true)
}

/// A record as far as it matters here.
struct Record {
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<Bytes>,
    has_value: bool,
    /// Its bytes behind the time: offset, key, value and headers.
    rest: Bytes,
}

fn read_records(batch: &BatchView) -> Result<Vec<Record>, BatchError> {
    let mut body = match batch.compression() {
        Some(Compression::None) => batch.bytes().slice(HEADER_BYTES..),
        Some(_) if batch.record_count() <= 0 => Bytes::new(),
        Some(compression) => decompress(compression, batch.body(), MAX_INFLATED_BYTES)
            .map_err(|error| BatchError::Decompression(error.to_string()))?
            .into(),
        None => return Err(BatchError::Decompression("unknown compression".to_owned())),
    };
    let read = |index| {
        read_record(&mut body).ok_or(BatchError::Record { index, problem: "it is longer than the batch" })
    };
    (0..batch.record_count()).map(read).collect()
}

fn read_record(body: &mut Bytes) -> Option<Record> {
    let length = usize::try_from(varint::take_i32(body)?).ok()?;
    if length == 0 || length > body.len() {
        return None;
    }
    let mut rest = body.split_to(length).split_off(1);
    let timestamp_delta = varint::take_i64(&mut rest)?;
    let mut ahead = rest.clone();
    let offset_delta = varint::take_i32(&mut ahead)?;
    let key = varint::take_bytes(&mut ahead)?;
    let (value_length, _) = varint::read_i32(&ahead)?;
    Some(Record { timestamp_delta, offset_delta, key, has_value: value_length >= 0, rest })
}

/// The batch with these of its records only. Its offsets, its producer's numbers and its
/// compression stay; with a horizon, that is what its times are counted from (KIP-534).
fn rebuild(batch: &BatchView, kept: &[&Record], horizon: Option<TimestampMs>) -> Bytes {
    let append_time = batch.is_log_append_time().then(|| batch.max_timestamp());
    let time = |record: &Record| {
        append_time.unwrap_or_else(|| batch.base_timestamp().wrapping_add(record.timestamp_delta))
    };
    let base_timestamp = horizon.or_else(|| kept.first().map(|record| time(record))).unwrap_or(-1);
    let largest = || kept.iter().map(|record| time(record)).fold(-1, TimestampMs::max);
    let max_timestamp =
        if kept.is_empty() { batch.max_timestamp() } else { append_time.unwrap_or_else(largest) };

    let mut records = BytesMut::new();
    let mut head = Vec::with_capacity(16);
    for record in kept {
        head.clear();
        head.push(0);
        varint::put_i64(&mut head, time(record).wrapping_sub(base_timestamp));
        varint::put_length(&mut records, head.len() + record.rest.len());
        records.extend_from_slice(&head);
        records.extend_from_slice(&record.rest);
    }
    let compression = batch.compression().filter(|_| !kept.is_empty()).unwrap_or(Compression::None);
    let body = if compression == Compression::None {
        records.freeze()
    } else {
        compression.compress(&records).into()
    };
    let attributes = (batch.attributes() & (LOG_APPEND_TIME | TRANSACTIONAL | CONTROL))
        | compression.id()
        | if horizon.is_some() { DELETE_HORIZON } else { 0 };

    let mut rebuilt = BytesMut::with_capacity(HEADER_BYTES + body.len());
    rebuilt.put_slice(&batch.bytes()[..ATTRIBUTES_AT]);
    let length = HEADER_BYTES - LENGTH_PREFIX_BYTES + body.len();
    // The records are some of those of a batch; only a compression that makes them larger than a
    // batch may be would not fit, and none grows that much.
    let length = i32::try_from(length).unwrap_or(i32::MAX);
    rebuilt[8..LENGTH_PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
    rebuilt.put_i16(attributes);
    rebuilt.put_i32(batch.last_offset_delta());
    rebuilt.put_i64(base_timestamp);
    rebuilt.put_i64(max_timestamp);
    rebuilt.put_i64(batch.producer_id());
    rebuilt.put_i16(batch.producer_epoch());
    rebuilt.put_i32(batch.base_sequence());
    rebuilt.put_i32(i32::try_from(kept.len()).unwrap_or(i32::MAX));
    rebuilt.put_slice(&body);
    set_crc(&mut rebuilt);
    rebuilt.freeze()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
