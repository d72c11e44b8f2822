//! What the core knows of batches that were read, and which of them belong to aborted transactions.

use std::collections::BTreeSet;

use crate::types::{Offset, ProducerId};

/// A record batch that was read from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchedBatch {
    /// Its first offset.
    pub base_offset: Offset,
    /// Its last offset.
    pub last_offset: Offset,
    /// Its producer, or -1.
    pub producer_id: ProducerId,
    /// Whether it is part of a transaction.
    pub is_transactional: bool,
    /// Whether it is the marker that ends an aborted transaction.
    pub is_abort_marker: bool,
    /// Whether it is a marker of any kind.
    pub is_control: bool,
}

/// An aborted transaction: its producer, and its first offset.
pub type AbortedProducer = (ProducerId, Offset);

/// The batches that hold records of aborted transactions.
pub(super) fn aborted_batches(
    batches: &[FetchedBatch],
    aborted: &[AbortedProducer],
) -> Vec<(Offset, Offset)> {
    let mut begun: Vec<_> = aborted.to_vec();
    begun.sort_unstable_by_key(|(_, first_offset)| *first_offset);
    let mut begun = begun.into_iter().peekable();
    let mut producers = BTreeSet::new();
    let mut found = Vec::new();
    for batch in batches.iter().filter(|batch| batch.producer_id >= 0) {
        while let Some((producer, _)) = begun.next_if(|(_, first_offset)| *first_offset <= batch.last_offset)
        {
            producers.insert(producer);
        }
        if batch.is_abort_marker {
            producers.remove(&batch.producer_id);
        } else if batch.is_transactional && !batch.is_control && producers.contains(&batch.producer_id) {
            found.push((batch.base_offset, batch.last_offset));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(base_offset: Offset, producer_id: ProducerId, marker: Option<bool>) -> FetchedBatch {
        FetchedBatch {
            base_offset,
            last_offset: base_offset + 4,
            producer_id,
            is_transactional: producer_id >= 0,
            is_abort_marker: marker == Some(false),
            is_control: marker.is_some(),
        }
    }

    #[test]
    fn only_what_lies_between_the_begin_and_the_marker_is_aborted() {
        let batches = [
            batch(0, -1, None),
            batch(5, 7, None),
            batch(10, 8, None),
            batch(15, 7, None),
            batch(20, 7, Some(false)),
            batch(25, 7, None),
            batch(30, 8, Some(true)),
        ];
        assert_eq!(aborted_batches(&batches, &[(7, 5)]), [(5, 9), (15, 19)]);
        assert_eq!(aborted_batches(&batches, &[(7, 22), (8, 8)]), [(10, 14)]);
        assert_eq!(aborted_batches(&batches, &[]), []);
    }
}
