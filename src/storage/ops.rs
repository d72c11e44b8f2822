//! Changes that are written together.

use bytes::Bytes;

use super::key::{Key, KeyPrefix};
use crate::types::{Offset, PartitionId, TimestampMs};

/// Changes that are written together, all or none, in their order.
#[derive(Debug, Default)]
pub struct Ops {
    pub(super) list: Vec<Op>,
    pub(super) bytes: usize,
    /// Partitions of which extents are changed or deleted: what was read of them is out of date.
    pub(super) rewritten: Vec<PartitionId>,
}

#[derive(Debug)]
pub(super) enum Op {
    Put { key: Vec<u8>, value: Bytes },
    Delete { key: Vec<u8> },
    DeleteRange { from: Vec<u8>, to: Vec<u8> },
    Extent(ExtentOp),
}

#[derive(Debug)]
pub(super) struct ExtentOp {
    pub(super) partition: PartitionId,
    pub(super) base_offset: Offset,
    pub(super) batches: Bytes,
    pub(super) grown_to: Option<TimestampMs>,
}

impl Op {
    /// The bytes of key and value, and what stands before them when they are written.
    pub(super) fn bytes(&self) -> usize {
        const LENGTHS: usize = 16;
        LENGTHS
            + match self {
                Self::Put { key, value } => key.len() + value.len(),
                Self::Delete { key } => key.len(),
                Self::DeleteRange { from, to } => from.len() + to.len(),
                Self::Extent(extent) => extent.batches.len(),
            }
    }
}

/// What an operation takes beside its key and value, roughly.
const OP_BYTES: usize = 64;

impl Ops {
    /// No changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there are no changes.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Sets the value of a key.
    pub fn put(&mut self, key: &Key, value: impl Into<Bytes>) {
        let value = value.into();
        self.note(key);
        self.push(value.len(), Op::Put { key: key.encode(), value });
    }

    /// Removes a key.
    pub fn delete(&mut self, key: &Key) {
        self.note(key);
        self.push(0, Op::Delete { key: key.encode() });
    }

    /// Removes every key with this prefix.
    pub fn delete_prefix(&mut self, prefix: &KeyPrefix) {
        if let KeyPrefix::ExtentsOf { partition } = prefix {
            self.rewritten.push(*partition);
        }
        let (from, to) = (prefix.encode(), prefix.end());
        self.push(0, Op::DeleteRange { from, to });
    }

    /// Removes every key from `from` on and before `to`, both of one family.
    pub fn delete_range(&mut self, from: &Key, to: &Key) {
        debug_assert_eq!(from.family(), to.family());
        self.note(from);
        let (from, to) = (from.encode(), to.encode());
        self.push(0, Op::DeleteRange { from, to });
    }

    /// Appends record batches to a partition's log; the writer joins neighbours into one extent.
    /// `grown_to` is the partition's largest timestamp if these batches raised it: the extent
    /// that they end in is then found by [`Key::TimeIndex`].
    pub fn extent(
        &mut self,
        partition: PartitionId,
        base_offset: Offset,
        batches: Bytes,
        grown_to: Option<TimestampMs>,
    ) {
        let op = ExtentOp { partition, base_offset, batches, grown_to };
        self.push(op.batches.len(), Op::Extent(op));
    }

    /// Adds other changes after these.
    pub fn extend(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.list.extend(other.list);
        self.rewritten.extend(other.rewritten);
    }

    fn note(&mut self, key: &Key) {
        if let Key::Extent { partition, .. } = key {
            self.rewritten.push(*partition);
        }
    }

    fn push(&mut self, bytes: usize, op: Op) {
        self.bytes += OP_BYTES + bytes;
        self.list.push(op);
    }
}
