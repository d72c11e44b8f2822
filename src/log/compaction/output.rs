//! The extents that take the place of others.

use bytes::{Bytes, BytesMut};

use crate::storage::{Key, Ops};
use crate::types::{Offset, PartitionId};

/// How large extents and commits get, roughly.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutputBounds {
    /// How large rewritten extents get. Those of half that size are left alone if they lose
    /// nothing.
    pub(super) extent_bytes: usize,
    /// What a commit writes at most.
    pub(super) written_bytes: u64,
    /// What a commit goes through at most.
    pub(super) read_bytes: u64,
    pub(super) read_extents: usize,
}

impl Default for OutputBounds {
    fn default() -> Self {
        Self { extent_bytes: 1 << 20, written_bytes: 4 << 20, read_bytes: 64 << 20, read_extents: 4_096 }
    }
}

/// From how many extents on a range of keys is deleted rather than each of them.
const RANGE_DELETE_MIN: usize = 16;

/// What goes into the next commit: whole extents are put in, in their order, with what is left of
/// them; small ones are joined.
pub(super) struct Output {
    partition: PartitionId,
    pub(super) bounds: OutputBounds,
    pub(super) ops: Ops,
    /// The first extent that was put in.
    pub(super) first: Option<Offset>,
    /// Where extents start now, in order.
    pub(super) extents: Vec<Offset>,
    /// Bytes of new extents, and of those that they replace.
    pub(super) written_bytes: u64,
    pub(super) deleted_bytes: u64,
    read_extents: usize,
    read_bytes: u64,
    pending: Pending,
}

/// What the next extent is made of.
#[derive(Default)]
struct Pending {
    batches: Vec<Bytes>,
    bytes: usize,
    /// The extents that they come from, and their bytes.
    sources: Vec<Offset>,
    source_bytes: u64,
    lost_something: bool,
}

impl Output {
    pub(super) fn new(partition: PartitionId, bounds: OutputBounds) -> Self {
        Self {
            partition,
            bounds,
            ops: Ops::new(),
            first: None,
            extents: Vec::new(),
            written_bytes: 0,
            deleted_bytes: 0,
            read_extents: 0,
            read_bytes: 0,
            pending: Pending::default(),
        }
    }

    /// Whether it is time for a commit.
    pub(super) fn is_large(&self) -> bool {
        self.written_bytes >= self.bounds.written_bytes
            || self.read_bytes >= self.bounds.read_bytes
            || self.read_extents >= self.bounds.read_extents
    }

    /// Takes what is left of an extent of this size: batches, in pieces. Pieces of an extent that
    /// lost nothing are the extent itself.
    pub(super) fn take(&mut self, source: Offset, size: usize, batches: Vec<Bytes>, lost_something: bool) {
        self.first.get_or_insert(source);
        self.read_extents += 1;
        self.read_bytes += size as u64;
        let bytes: usize = batches.iter().map(Bytes::len).sum();
        let enough = self.bounds.extent_bytes / 2;
        if !lost_something && bytes >= enough {
            self.flush();
            self.extents.push(source);
            return;
        }
        if self.pending.bytes > 0 && self.pending.bytes + bytes > self.bounds.extent_bytes {
            self.flush();
        }
        let pending = &mut self.pending;
        pending.sources.push(source);
        pending.source_bytes += size as u64;
        pending.batches.extend(batches);
        pending.bytes += bytes;
        pending.lost_something |= lost_something;
        if pending.bytes >= enough {
            self.flush();
        }
    }

    /// Makes an extent of what is pending.
    pub(super) fn flush(&mut self) {
        let Pending { batches, bytes, sources, source_bytes, lost_something } =
            std::mem::take(&mut self.pending);
        let (Some(first_source), Some(last_source)) = (sources.first(), sources.last()) else { return };
        if sources.len() == 1 && !lost_something {
            self.extents.push(*first_source);
            return;
        }
        let partition = self.partition;
        let key = |base_offset| Key::Extent { partition, base_offset };
        let base_offset = batches.first().and_then(|batch| batch.first_chunk()).copied();
        let base_offset = base_offset.map(Offset::from_be_bytes);
        if sources.len() >= RANGE_DELETE_MIN {
            self.ops.delete_range(&key(*first_source), &key(last_source + 1));
        } else {
            let replaced = sources.iter().filter(|source| Some(**source) != base_offset);
            replaced.for_each(|source| self.ops.delete(&key(*source)));
        }
        self.deleted_bytes += source_bytes;
        if let Some(base_offset) = base_offset {
            self.ops.put(&key(base_offset), joined(batches, bytes));
            self.extents.push(base_offset);
            self.written_bytes += bytes as u64;
        }
    }
}

fn joined(mut batches: Vec<Bytes>, bytes: usize) -> Bytes {
    if batches.len() == 1 {
        return batches.swap_remove(0);
    }
    let mut joined = BytesMut::with_capacity(bytes);
    batches.iter().for_each(|batch| joined.extend_from_slice(batch));
    joined.freeze()
}
