//! The small values that are stored for a partition: its name, its segments, and what changes
//! with every append.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::storage::{Key, KeyPrefix, Ops};
use crate::types::{LeaderEpoch, Offset, PartitionId, TimestampMs};

/// The layouts' version.
const VERSION: u8 = 1;

/// A stretch of the log that retention removes as a whole. klamm has no segment files: segments
/// are what Kafka's rules for `segment.bytes`, `segment.ms` and retention are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) base_offset: Offset,
    pub(super) size_bytes: u64,
    /// The largest timestamp, -1 without one, and the batch that has it.
    pub(super) max_timestamp: TimestampMs,
    pub(super) max_timestamp_offset: Offset,
    /// The largest timestamp of its first batch, -1 without one.
    pub(super) first_timestamp: TimestampMs,
    /// The broker's time when it was started, and when it was appended to last.
    pub(super) created_ms: TimestampMs,
    pub(super) modified_ms: TimestampMs,
}

const SEGMENT_BYTES: usize = 7 * 8;

impl Segment {
    pub(super) fn new(base_offset: Offset, now_ms: TimestampMs) -> Self {
        Self {
            base_offset,
            size_bytes: 0,
            max_timestamp: -1,
            max_timestamp_offset: -1,
            first_timestamp: -1,
            created_ms: now_ms,
            modified_ms: now_ms,
        }
    }

    /// Counts a batch in.
    pub(super) fn add(
        &mut self,
        base_offset: Offset,
        bytes: u64,
        max_timestamp: TimestampMs,
        now_ms: TimestampMs,
    ) {
        if self.size_bytes == 0 {
            self.first_timestamp = max_timestamp;
        }
        self.size_bytes += bytes;
        self.modified_ms = now_ms;
        if max_timestamp > self.max_timestamp {
            self.max_timestamp = max_timestamp;
            self.max_timestamp_offset = base_offset;
        }
    }

    /// The time that retention goes by.
    pub(super) fn largest_timestamp(&self) -> TimestampMs {
        if self.max_timestamp >= 0 { self.max_timestamp } else { self.modified_ms }
    }

    /// Whether a batch belongs into a new segment (`LogSegment.shouldRoll`).
    pub(super) fn is_full_for(
        &self,
        bytes: u64,
        max_timestamp: TimestampMs,
        now_ms: TimestampMs,
        segment_bytes: u64,
        segment_ms: i64,
    ) -> bool {
        if self.size_bytes == 0 {
            return false;
        }
        let waited_ms = if self.first_timestamp >= 0 {
            max_timestamp.saturating_sub(self.first_timestamp)
        } else {
            now_ms.saturating_sub(self.created_ms)
        };
        self.size_bytes.saturating_add(bytes) > segment_bytes || waited_ms > segment_ms
    }

    /// Value of [`crate::storage::Key::Segment`]: version u8, then every field as i64.
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(1 + SEGMENT_BYTES);
        out.put_u8(VERSION);
        self.put(&mut out);
        out.freeze()
    }

    pub(super) fn decode(mut value: &[u8]) -> Option<Self> {
        if value.len() != 1 + SEGMENT_BYTES || value.get_u8() != VERSION {
            return None;
        }
        Some(Self::take(&mut value))
    }

    fn put(&self, out: &mut BytesMut) {
        out.put_i64(self.base_offset);
        out.put_u64(self.size_bytes);
        out.put_i64(self.max_timestamp);
        out.put_i64(self.max_timestamp_offset);
        out.put_i64(self.first_timestamp);
        out.put_i64(self.created_ms);
        out.put_i64(self.modified_ms);
    }

    fn take(value: &mut &[u8]) -> Self {
        Self {
            base_offset: value.get_i64(),
            size_bytes: value.get_u64(),
            max_timestamp: value.get_i64(),
            max_timestamp_offset: value.get_i64(),
            first_timestamp: value.get_i64(),
            created_ms: value.get_i64(),
            modified_ms: value.get_i64(),
        }
    }
}

/// What changes with every append, stored with it in one atomic write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartitionState {
    pub(super) log_start: Offset,
    pub(super) log_end: Offset,
    pub(super) high_watermark: Offset,
    pub(super) leader_epoch: LeaderEpoch,
    /// The largest timestamp that was ever appended: what the time index is kept by.
    pub(super) grown_to: TimestampMs,
    /// The segment that is appended to.
    pub(super) active: Segment,
}

const STATE_BYTES: usize = 1 + 8 + 8 + 8 + 4 + 8 + SEGMENT_BYTES;

impl PartitionState {
    /// The state of a partition without records.
    pub(super) fn new(now_ms: TimestampMs) -> Self {
        Self {
            log_start: 0,
            log_end: 0,
            high_watermark: 0,
            leader_epoch: 0,
            grown_to: TimestampMs::MIN,
            active: Segment::new(0, now_ms),
        }
    }

    /// Value of [`crate::storage::Key::PartitionState`]: version u8, log start i64, log end i64,
    /// high watermark i64, leader epoch i32, largest timestamp ever i64, the active segment.
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(STATE_BYTES);
        out.put_u8(VERSION);
        out.put_i64(self.log_start);
        out.put_i64(self.log_end);
        out.put_i64(self.high_watermark);
        out.put_i32(self.leader_epoch);
        out.put_i64(self.grown_to);
        self.active.put(&mut out);
        out.freeze()
    }

    pub(super) fn decode(mut value: &[u8]) -> Option<Self> {
        if value.len() != STATE_BYTES || value.get_u8() != VERSION {
            return None;
        }
        let state = Self {
            log_start: value.get_i64(),
            log_end: value.get_i64(),
            high_watermark: value.get_i64(),
            leader_epoch: value.get_i32(),
            grown_to: value.get_i64(),
            active: Segment::take(&mut value),
        };
        let in_order = 0 <= state.log_start
            && state.log_start <= state.high_watermark
            && state.high_watermark <= state.log_end;
        in_order.then_some(state)
    }
}

/// Value of [`crate::storage::Key::Partition`]: version u8, partition id u32, topic name.
pub(super) fn encode_name(id: PartitionId, topic: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(5 + topic.len());
    out.put_u8(VERSION);
    out.put_u32(id.0);
    out.put_slice(topic.as_bytes());
    out.freeze()
}

pub(super) fn decode_name(mut value: &[u8]) -> Option<(PartitionId, &str)> {
    if value.len() < 5 || value.get_u8() != VERSION {
        return None;
    }
    let id = PartitionId(value.get_u32());
    Some((id, str::from_utf8(value).ok()?))
}

/// Deletes the records of a partition and everything that is derived from them alone.
pub(super) fn delete_records(ops: &mut Ops, partition: PartitionId) {
    ops.delete(&Key::CleanerCheckpoint { partition });
    ops.delete_prefix(&KeyPrefix::SegmentsOf { partition });
    ops.delete_prefix(&KeyPrefix::LeaderEpochsOf { partition });
    ops.delete_prefix(&KeyPrefix::ProducersOf { partition });
    ops.delete_prefix(&KeyPrefix::AbortedTransactionsOf { partition });
    ops.delete_prefix(&KeyPrefix::ExtentsOf { partition });
    ops.delete_prefix(&KeyPrefix::TimeIndexOf { partition });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_back_and_others_are_refused() {
        let mut state = PartitionState::new(5);
        state.active.add(0, 100, 77, 6);
        state.log_end = 3;
        assert_eq!(PartitionState::decode(&state.encode()), Some(state));
        assert_eq!(PartitionState::decode(&state.encode()[1..]), None);
        state.log_start = 4;
        assert_eq!(PartitionState::decode(&state.encode()), None, "it starts behind its end");
        assert_eq!(Segment::decode(&state.active.encode()), Some(state.active));
        let name = encode_name(PartitionId(9), "orders");
        assert_eq!(decode_name(&name), Some((PartitionId(9), "orders")));
        assert_eq!(decode_name(&name[..4]), None);
    }

    #[test]
    fn a_segment_is_full_by_bytes_or_by_the_records_time() {
        let mut segment = Segment::new(0, 1_000);
        assert!(!segment.is_full_for(500, 0, 9_000, 100, 10), "an empty one takes any batch");
        segment.add(0, 60, 1_000, 1_000);
        assert!(segment.is_full_for(41, 1_000, 1_000, 100, 10));
        assert!(!segment.is_full_for(40, 1_010, 99_000, 100, 10), "the broker's time does not count");
        assert!(segment.is_full_for(40, 1_011, 1_000, 100, 10));
        let mut untimed = Segment::new(0, 1_000);
        untimed.add(0, 60, -1, 1_000);
        assert!(untimed.is_full_for(40, -1, 1_011, 100, 10), "without timestamps it does");
    }
}
