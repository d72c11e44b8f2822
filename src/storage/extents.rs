//! Reading record batches back.
//!
//! Whole extents that were read are kept for a while, as a fetch seldom ends where an extent does: who reads a log
//! from the start reads each extent from the disk once, and others who read the same part do not read it again.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;

use super::key::{Key, KeyPrefix};
use super::rocks::{RawIterator, Rocks, read_error};
use crate::error::StorageError;
use crate::types::{Offset, PartitionId};

/// How many bytes of extents are kept: what one fetch of a dozen partitions leaves half-read.
const KEPT_BYTES_MAX: usize = 8 << 20;
/// What an extent takes beside its bytes.
const ENTRY_BYTES: usize = 160;

/// Goes through the extents of a partition, in order, as they were when it was made.
pub struct Extents<'a> {
    iterator: RawIterator<'a>,
    /// Whether the iterator stands on an extent that was already given out.
    given: bool,
    rocks: &'a Rocks,
    partition: PartitionId,
    /// How often extents had been changed or deleted before the iterator was made.
    generation: u64,
}

impl<'a> Extents<'a> {
    /// From the extent that holds `offset` on, or from the next one.
    pub(super) fn new(rocks: &'a Rocks, partition: PartitionId, offset: Offset) -> Self {
        let generation = rocks.kept_extents().generation();
        let prefix = KeyPrefix::ExtentsOf { partition };
        let mut iterator = rocks.extents(prefix.encode(), prefix.end());
        let key = Key::Extent { partition, base_offset: offset }.encode();
        iterator.seek_for_prev(&key);
        if !iterator.valid() && iterator.status().is_ok() {
            iterator.seek(&key);
        }
        Self { iterator, given: false, rocks, partition, generation }
    }

    /// From the first extent on that starts behind `offset`.
    pub(super) fn after(rocks: &'a Rocks, partition: PartitionId, offset: Offset) -> Self {
        let generation = rocks.kept_extents().generation();
        let key = Key::Extent { partition, base_offset: offset.saturating_add(1) }.encode();
        let mut iterator = rocks.extents(key.clone(), KeyPrefix::ExtentsOf { partition }.end());
        iterator.seek(&key);
        Self { iterator, given: false, rocks, partition, generation }
    }

    /// The base offset and the batches of the next extent; `None` at the end.
    ///
    /// # Errors
    /// When it can not be read or is damaged.
    pub fn next_extent(&mut self) -> Result<Option<(Offset, &[u8])>, StorageError> {
        if std::mem::replace(&mut self.given, true) && self.iterator.valid() {
            self.iterator.next();
        }
        match self.iterator.item() {
            None => {
                self.iterator.status().map_err(|error| read_error(&error))?;
                Ok(None)
            }
            Some((key, batches)) => match Key::decode(key) {
                Some(Key::Extent { base_offset, .. }) => Ok(Some((base_offset, batches))),
                _ => Err(StorageError::Damaged(format!("unknown key {key:02x?} in the log"))),
            },
        }
    }

    /// The same, for who reads a log from one end to the other and comes again: the extent is kept for a while, to be
    /// found by [`Store::kept_extent`](super::Store::kept_extent).
    ///
    /// # Errors
    /// When it can not be read or is damaged.
    pub fn next_kept(&mut self) -> Result<Option<Bytes>, StorageError> {
        let Some((base_offset, batches)) = self.next_extent()? else { return Ok(None) };
        let batches = Bytes::copy_from_slice(batches);
        self.rocks.kept_extents().keep(self.partition, base_offset, batches.clone(), self.generation);
        Ok(Some(batches))
    }
}

/// Extents that were read lately, of all partitions. What was read first is forgotten first.
#[derive(Debug, Default)]
pub(super) struct KeptExtents(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    extents: BTreeMap<(PartitionId, Offset), Bytes>,
    /// In the order in which they were read. Some may have left already, and come again behind.
    order: VecDeque<(PartitionId, Offset)>,
    bytes: usize,
    generation: u64,
}

impl KeptExtents {
    /// The last extent that starts at or before an offset, of those that are kept.
    pub(super) fn at(&self, partition: PartitionId, offset: Offset) -> Option<Bytes> {
        let kept = self.0.lock();
        let (_, extent) = kept.extents.range((partition, 0)..=(partition, offset)).next_back()?;
        Some(extent.clone())
    }

    /// Called by the writer when extents of a partition were changed or deleted, before anybody is told.
    pub(super) fn forget(&self, partition: PartitionId) {
        let mut kept = self.0.lock();
        // Who reads at this moment may still see the old ones, and must not keep them.
        kept.generation += 1;
        let range = (partition, Offset::MIN)..=(partition, Offset::MAX);
        let keys: Vec<_> = kept.extents.range(range).map(|(key, _)| *key).collect();
        for key in keys {
            kept.remove(key);
        }
    }

    fn generation(&self) -> u64 {
        self.0.lock().generation
    }

    fn keep(&self, partition: PartitionId, base_offset: Offset, batches: Bytes, generation: u64) {
        let mut kept = self.0.lock();
        if kept.generation != generation || batches.len() > KEPT_BYTES_MAX / 4 {
            return;
        }
        let key = (partition, base_offset);
        kept.remove(key);
        kept.bytes += batches.len() + ENTRY_BYTES;
        kept.extents.insert(key, batches);
        kept.order.push_back(key);
        let mut forgotten = Vec::new();
        while kept.bytes > KEPT_BYTES_MAX {
            let Some(oldest) = kept.order.pop_front() else { break };
            forgotten.extend(kept.remove(oldest));
        }
        drop(kept);
        // Memory is given back outside of the lock.
        drop(forgotten);
    }
}

impl Kept {
    fn remove(&mut self, key: (PartitionId, Offset)) -> Option<Bytes> {
        let extent = self.extents.remove(&key)?;
        self.bytes -= extent.len() + ENTRY_BYTES;
        if self.order.len() > 2 * self.extents.len() + 16 {
            let Self { extents, order, .. } = self;
            order.retain(|key| extents.contains_key(key));
        }
        Some(extent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: PartitionId = PartitionId(1);
    const TWO: PartitionId = PartitionId(2);

    fn extent(bytes: usize) -> Bytes {
        vec![7; bytes].into()
    }

    #[test]
    fn what_was_read_first_is_forgotten_first() {
        let kept = KeptExtents::default();
        for base_offset in 0..20 {
            kept.keep(ONE, base_offset * 10, extent(1 << 20), 0);
        }
        assert_eq!(kept.at(ONE, 125), None);
        assert!(kept.at(ONE, 135).is_some());
        assert!(kept.at(ONE, 1_000).is_some(), "the last one; the caller sees whether it reaches so far");
        assert_eq!(kept.at(TWO, 95), None);
        assert!(kept.0.lock().bytes <= KEPT_BYTES_MAX);
        kept.keep(ONE, 0, extent(KEPT_BYTES_MAX), 0);
        assert_eq!(kept.at(ONE, 0), None, "too large to be kept");
    }

    #[test]
    fn what_is_read_again_and_again_does_not_grow_the_order() {
        let kept = KeptExtents::default();
        for _ in 0..1_000 {
            kept.keep(ONE, 0, extent(10), 0);
        }
        assert!(kept.0.lock().order.len() < 100);
        assert_eq!(kept.0.lock().bytes, 10 + ENTRY_BYTES);
    }

    #[test]
    fn a_change_forgets_a_partition_and_those_who_read_meanwhile_keep_nothing() {
        let kept = KeptExtents::default();
        let generation = kept.generation();
        kept.keep(ONE, 0, extent(10), generation);
        kept.keep(TWO, 0, extent(10), generation);
        kept.forget(ONE);
        kept.keep(ONE, 10, extent(10), generation);
        assert_eq!(kept.at(ONE, 100), None);
        assert!(kept.at(TWO, 100).is_some());
        kept.keep(ONE, 10, extent(10), kept.generation());
        assert!(kept.at(ONE, 100).is_some());
    }
}
