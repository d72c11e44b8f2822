//! The newest batches of every partition, kept in memory: who reads at the end of a log never asks the store.
//!
//! All partitions share one budget of bytes, and what was appended first leaves first, whatever partition it is of. So
//! the batches of one request, which are slices of one frame, leave together, and no frame is kept for a part of it.
//!
//! Locks: a partition's state, then its tail, then the queue; never the tails of two partitions at once.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::read::Budget;
use crate::types::Offset;

/// What an entry takes beside its batch: its place in two queues, the handle of the bytes and a part of the frame
/// that it is a slice of.
const ENTRY_BYTES: usize = 192;
/// A batch that would push out more than this part of the budget is not kept.
const BATCH_PART_MAX: usize = 4;
/// Neighbours smaller than this are read as one piece: a copy costs less than a piece of its own.
const PIECE_BYTES_MIN: usize = 4096;

/// What the tails of a broker share.
#[derive(Debug)]
pub(super) struct Tails {
    bytes_max: usize,
    queue: Mutex<Queue>,
}

/// Every entry of every tail, the oldest first.
#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Queued>,
    bytes: usize,
    next_number: u64,
}

#[derive(Debug)]
struct Queued {
    tail: Arc<Mutex<Batches>>,
    number: u64,
    bytes: usize,
}

/// One partition's newest batches, without gaps.
type Batches = VecDeque<Kept>;

#[derive(Debug)]
struct Kept {
    base_offset: Offset,
    last_offset: Offset,
    /// Counts the entries of all tails.
    number: u64,
    batch: Bytes,
}

impl Tails {
    /// Tails that hold `bytes_max` together.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, queue: Mutex::default() }
    }

    /// Lets go of the oldest batches until the rest is within the budget. Not to be called with a lock of a partition
    /// that others wait for: it frees memory.
    pub(super) fn trim(&self) {
        loop {
            let oldest = {
                let mut queue = self.queue.lock();
                if queue.bytes <= self.bytes_max {
                    return;
                }
                let Some(oldest) = queue.entries.pop_front() else { return };
                queue.bytes -= oldest.bytes;
                oldest
            };
            let mut batches = oldest.tail.lock();
            // It may have left already.
            let left = batches.pop_front_if(|kept| kept.number <= oldest.number);
            if batches.capacity() > 64 && batches.len() < batches.capacity() / 8 {
                // What a burst of small batches needed.
                let room = 2 * batches.len();
                batches.shrink_to(room);
            }
            drop(batches);
            drop(left);
        }
    }

    fn enter(&self, tail: &Arc<Mutex<Batches>>, bytes: usize) -> u64 {
        let mut queue = self.queue.lock();
        let number = queue.next_number;
        queue.next_number += 1;
        queue.bytes += bytes;
        queue.entries.push_back(Queued { tail: Arc::clone(tail), number, bytes });
        number
    }
}

/// The tail of one partition.
#[derive(Debug)]
pub(super) struct Tail {
    shared: Arc<Tails>,
    batches: Arc<Mutex<Batches>>,
}

impl Tail {
    /// An empty tail.
    pub(super) fn new(shared: &Arc<Tails>) -> Self {
        Self { shared: Arc::clone(shared), batches: Arc::default() }
    }

    /// Adds the batch that was appended last. [`Tails::trim`] has to follow, without the partition's lock.
    pub(super) fn push(&self, base_offset: Offset, last_offset: Offset, batch: Bytes) {
        let bytes = batch.len() + ENTRY_BYTES;
        let mut batches = self.batches.lock();
        // Entries are without gaps: what can not be joined to the rest starts anew.
        let fits = bytes <= self.shared.bytes_max / BATCH_PART_MAX;
        if !fits || batches.back().is_some_and(|last| last.last_offset + 1 != base_offset) {
            batches.clear();
        }
        if fits {
            let number = self.shared.enter(&self.batches, bytes);
            batches.push_back(Kept { base_offset, last_offset, number, batch });
        }
    }

    /// Forgets what ends at or behind an offset: it was not stored, or was taken back.
    pub(super) fn truncate(&self, from: Offset) {
        let mut batches = self.batches.lock();
        while batches.pop_back_if(|kept| kept.last_offset >= from).is_some() {}
    }

    /// Forgets what ends before an offset: it is not what is stored any more.
    pub(super) fn forget_below(&self, offset: Offset) {
        let mut batches = self.batches.lock();
        while batches.pop_front_if(|kept| kept.last_offset < offset).is_some() {}
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.truncate(0);
    }

    /// Adds to `pieces` the batches from the one that holds `offset` on that end before `end`, as far as they fit.
    /// `false`, and nothing is added, where that batch is not kept.
    pub(super) fn read(
        &self,
        offset: Offset,
        end: Offset,
        budget: &mut Budget,
        pieces: &mut Vec<Bytes>,
    ) -> bool {
        let batches = self.batches.lock();
        let first = batches.partition_point(|kept| kept.last_offset < offset);
        if batches.get(first).is_none_or(|kept| kept.base_offset > offset) {
            return false;
        }
        let mut small = BytesMut::new();
        for kept in batches.range(first..) {
            if kept.last_offset >= end || budget.is_spent() || !budget.takes(kept.batch.len()) {
                break;
            }
            if kept.batch.len() < PIECE_BYTES_MIN {
                small.extend_from_slice(&kept.batch);
                continue;
            }
            if !small.is_empty() {
                pieces.push(small.split().freeze());
            }
            pieces.push(kept.batch.clone());
        }
        if !small.is_empty() {
            pieces.push(small.freeze());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tail: &Tail, offset: Offset, end: Offset, bytes_max: usize) -> Option<Vec<u8>> {
        let mut pieces = Vec::new();
        let hit = tail.read(offset, end, &mut Budget::new(bytes_max, false), &mut pieces);
        hit.then(|| pieces.concat())
    }

    fn push(tail: &Tail, base_offset: Offset, bytes: usize) {
        // The bytes say which batch they are of.
        let mark = u8::try_from(base_offset).unwrap_or(u8::MAX);
        tail.push(base_offset, base_offset + 1, vec![mark; bytes].into());
        tail.shared.trim();
    }

    #[test]
    fn what_was_appended_first_leaves_first_whatever_partition_it_is_of() {
        let tails = Arc::new(Tails::new(5 * (1_000 + ENTRY_BYTES)));
        let (one, two) = (Tail::new(&tails), Tail::new(&tails));
        for base_offset in [0, 2, 4] {
            push(&one, base_offset, 1_000);
        }
        for base_offset in [0, 2, 4, 6] {
            push(&two, base_offset, 1_000);
        }
        // Seven were pushed, five are kept.
        assert_eq!(read(&one, 2, 100, 10_000), None);
        assert_eq!(read(&one, 4, 100, 10_000), Some(vec![4; 1_000]));
        assert_eq!(read(&two, 1, 4, 10_000), Some([[0; 1_000], [2; 1_000]].concat()));
        assert_eq!(tails.queue.lock().entries.len(), 5);
    }

    #[test]
    fn reads_start_inside_of_a_batch_and_end_before_the_end_and_the_limit() {
        let tail = Tail::new(&Arc::new(Tails::new(1 << 20)));
        for (base_offset, bytes) in [(0, 10), (2, 5_000), (4, 10), (6, 10)] {
            push(&tail, base_offset, bytes);
        }
        assert_eq!(read(&tail, 5, 100, 1_000), Some([[4; 10], [6; 10]].concat()));
        assert_eq!(read(&tail, 5, 7, 1_000), Some(vec![4; 10]));
        assert_eq!(read(&tail, 0, 100, 5_009).map(|bytes| bytes.len()), Some(10));
        assert_eq!(read(&tail, 0, 100, 5_030).map(|bytes| bytes.len()), Some(5_030));
        assert_eq!(read(&tail, 8, 100, 1_000), None);
        assert_eq!(read(&tail, 0, 1, 1_000), Some(vec![]));
    }

    #[test]
    fn a_large_batch_is_not_copied() {
        let tail = Tail::new(&Arc::new(Tails::new(1 << 20)));
        let batch = Bytes::from(vec![1; PIECE_BYTES_MIN]);
        tail.push(0, 0, batch.clone());
        let mut pieces = Vec::new();
        assert!(tail.read(0, 1, &mut Budget::new(usize::MAX, false), &mut pieces));
        assert_eq!(pieces[0].as_ptr(), batch.as_ptr());
    }

    #[test]
    fn a_tail_has_no_gaps() {
        let tails = Arc::new(Tails::new(100_000));
        let tail = Tail::new(&tails);
        push(&tail, 0, 10);
        push(&tail, 2, 90_000);
        assert_eq!(read(&tail, 0, 100, 1_000), None, "the one behind it was too large");
        push(&tail, 4, 10);
        push(&tail, 6, 10);
        tail.truncate(6);
        assert_eq!(read(&tail, 4, 100, 1_000), Some(vec![4; 10]));
        assert_eq!(read(&tail, 6, 100, 1_000), None);
        push(&tail, 8, 10);
        assert_eq!(read(&tail, 4, 100, 1_000), None);
        tail.clear();
        assert_eq!(read(&tail, 8, 100, 1_000), None);
        // What was forgotten out of turn does not confuse the queue.
        for base_offset in (10..200).step_by(2) {
            push(&tail, base_offset, 20_000);
        }
        assert_eq!(read(&tail, 198, 200, 20_000).map(|bytes| bytes.len()), Some(20_000));
        assert!(tails.queue.lock().bytes <= 100_000);
    }
}
