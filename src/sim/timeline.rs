//! Virtual time: what happens next.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// What is going to happen, in the order of time; what happens in the same millisecond, in the order it was planned in.
#[derive(Clone, Debug)]
pub(super) struct Timeline<E> {
    now_ms: i64,
    planned: u64,
    heap: BinaryHeap<Entry<E>>,
}

#[derive(Clone, Debug)]
struct Entry<E> {
    at_ms: i64,
    number: u64,
    event: E,
}

impl<E> Timeline<E> {
    pub(super) fn new() -> Self {
        // Steady clocks do not start at 0.
        Self { now_ms: 1_000_000, planned: 0, heap: BinaryHeap::new() }
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.now_ms
    }

    pub(super) fn after(&mut self, delay_ms: i64, event: E) {
        self.at(self.now_ms + delay_ms.max(0), event);
    }

    /// Plans for a moment; for now, if it has passed.
    pub(super) fn at(&mut self, at_ms: i64, event: E) {
        self.planned += 1;
        self.heap.push(Entry { at_ms: at_ms.max(self.now_ms), number: self.planned, event });
    }

    /// When the next event is.
    pub(super) fn next_ms(&self) -> Option<i64> {
        self.heap.peek().map(|entry| entry.at_ms)
    }

    /// Goes to the next event.
    pub(super) fn next(&mut self) -> Option<E> {
        let Entry { at_ms, event, .. } = self.heap.pop()?;
        self.now_ms = at_ms;
        Some(event)
    }

    /// Forgets everything that is planned; gives it.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = E> {
        self.heap.drain().map(|entry| entry.event)
    }

    /// Goes to a moment before the next event.
    pub(super) fn advance_to(&mut self, now_ms: i64) {
        self.now_ms = self.now_ms.max(now_ms);
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The heap gives the largest first: that is the earliest.
impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_ms, other.number).cmp(&(self.at_ms, self.number))
    }
}
