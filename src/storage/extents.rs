//! Reading record batches back.

use super::key::{Key, KeyPrefix};
use super::rocks::{RawIterator, Rocks, read_error};
use crate::error::StorageError;
use crate::types::{Offset, PartitionId};

/// Goes through the extents of a partition, in order, as they were when it was made.
pub struct Extents<'a> {
    iterator: RawIterator<'a>,
    /// Whether the iterator stands on an extent that was already given out.
    given: bool,
}

impl<'a> Extents<'a> {
    /// From the extent that holds `offset` on, or from the next one.
    pub(super) fn new(rocks: &'a Rocks, partition: PartitionId, offset: Offset) -> Self {
        let prefix = KeyPrefix::ExtentsOf { partition };
        let mut iterator = rocks.extents(prefix.encode(), prefix.end());
        let key = Key::Extent { partition, base_offset: offset }.encode();
        iterator.seek_for_prev(&key);
        if !iterator.valid() && iterator.status().is_ok() {
            iterator.seek(&key);
        }
        Self { iterator, given: false }
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
}
