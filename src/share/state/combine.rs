//! Merges what is new about records into what is known (`PersisterStateBatchCombiner`).

use std::collections::BTreeSet;

use crate::share::types::StateBatch;
use crate::types::Offset;

/// The batches of both, in order and without overlaps. Where two of them know different things of a record, the one
/// that was delivered more often counts, then the one whose state is further. Neighbours of which the same is known
/// become one. What lies before `start_offset` is left out, unless that is -1.
///
/// A batch that ends before it begins is left out; Kafka never writes one.
pub fn combine(known: &[StateBatch], new: &[StateBatch], start_offset: Offset) -> Vec<StateBatch> {
    let both = known.iter().chain(new).filter(|batch| batch.first_offset <= batch.last_offset);
    let mut left: BTreeSet<StateBatch> = both.filter_map(|batch| kept(*batch, start_offset)).collect();
    let mut combined = Vec::with_capacity(left.len());
    while let Some(first) = left.pop_first() {
        match left.first().copied().filter(|second| concerns(&first, second)) {
            Some(second) => {
                left.remove(&second);
                left.extend(merged(first, second).into_iter().flatten());
            }
            None => combined.push(first),
        }
    }
    combined
}

/// What of a batch does not lie before the start.
fn kept(batch: StateBatch, start_offset: Offset) -> Option<StateBatch> {
    match start_offset {
        -1 => Some(batch),
        start if batch.last_offset < start => None,
        start => Some(StateBatch { first_offset: batch.first_offset.max(start), ..batch }),
    }
}

/// How far records are.
fn progress(batch: &StateBatch) -> (i16, i8) {
    (batch.delivery_count, batch.delivery_state)
}

/// Whether the next batch overlaps this one, or continues it.
fn concerns(batch: &StateBatch, next: &StateBatch) -> bool {
    let continues = batch.last_offset.checked_add(1) == Some(next.first_offset);
    next.first_offset <= batch.last_offset || (continues && progress(batch) == progress(next))
}

/// What two batches are together, of which the second does not begin first.
fn merged(first: StateBatch, second: StateBatch) -> [Option<StateBatch>; 3] {
    if progress(&first) == progress(&second) {
        let last_offset = first.last_offset.max(second.last_offset);
        return [Some(StateBatch { last_offset, ..first }), None, None];
    }
    let behind = |of: StateBatch, other: &StateBatch| {
        let first_offset = other.last_offset.saturating_add(1);
        (of.last_offset > other.last_offset).then_some(StateBatch { first_offset, ..of })
    };
    if progress(&second) < progress(&first) {
        return [Some(first), behind(second, &first), None];
    }
    let last_offset = second.first_offset.saturating_sub(1);
    let before = (first.first_offset < second.first_offset).then_some(StateBatch { last_offset, ..first });
    [before, Some(second), behind(first, &second)]
}
