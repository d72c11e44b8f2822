//! Waiting for partitions to change: what a fetch does that finds too little, and what a fetch session knows of its
//! partitions without looking at them.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// What happened to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// This many more bytes can be read, or somewhat fewer.
    Grown(u64),
    /// The log start, the leader epoch, or whether there is a partition at all.
    State,
}

/// Watches any number of partitions: it remembers which of them changed, and wakes who waits for that.
#[derive(Debug, Default)]
pub struct Watch {
    marks: Mutex<Marks>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Marks {
    /// Those that changed since they were last taken, by the numbers that they were given.
    numbers: Vec<u32>,
    /// Whether a number is among them.
    is_marked: Vec<bool>,
    /// How many bytes came to all of them since.
    grown_bytes: u64,
    /// Whether something else happened.
    urgent: bool,
    /// How many bytes are waited for; nobody waits where that is 0.
    awaited_bytes: u64,
}

impl Marks {
    fn is_enough(&self, bytes: u64) -> bool {
        self.urgent || self.grown_bytes >= bytes
    }
}

impl Watch {
    fn mark(&self, number: u32, change: Change) {
        let mut marks = self.marks.lock();
        let place = number as usize;
        if marks.is_marked.len() <= place {
            marks.is_marked.resize(place + 1, false);
        }
        if !std::mem::replace(&mut marks.is_marked[place], true) {
            marks.numbers.push(number);
        }
        match change {
            Change::Grown(bytes) => marks.grown_bytes += bytes,
            Change::State => marks.urgent = true,
        }
        let wakes = marks.awaited_bytes > 0 && marks.is_enough(marks.awaited_bytes);
        if wakes {
            marks.awaited_bytes = 0;
        }
        drop(marks);
        if wakes {
            self.changed.notify_one();
        }
    }

    /// The numbers of the partitions that changed since this was called last.
    pub fn take(&self) -> Vec<u32> {
        let mut marks = self.marks.lock();
        let numbers = std::mem::take(&mut marks.numbers);
        for number in &numbers {
            marks.is_marked[*number as usize] = false;
        }
        marks.grown_bytes = 0;
        marks.urgent = false;
        numbers
    }

    /// Waits until partitions have grown by this many bytes together since [`Self::take`] (one at least), or something
    /// else happened to one. For one caller at a time.
    pub async fn changed(&self, bytes: u64) {
        let bytes = bytes.max(1);
        loop {
            {
                let mut marks = self.marks.lock();
                if marks.is_enough(bytes) {
                    marks.awaited_bytes = 0;
                    return;
                }
                marks.awaited_bytes = bytes;
            }
            self.changed.notified().await;
        }
    }
}

/// Who watches one partition, and under which number.
#[derive(Debug, Default)]
pub(super) struct Watchers(Vec<(Weak<Watch>, u32)>);

impl Watchers {
    pub(super) fn add(&mut self, watch: Weak<Watch>, number: u32) {
        // Those that were dropped are looked for each time the list is full, so that it stays in proportion to those
        // that are there.
        if self.0.len() == self.0.capacity() {
            self.0.retain(|(watch, _)| watch.strong_count() > 0);
        }
        self.0.push((watch, number));
    }

    pub(super) fn remove(&mut self, watch: &Arc<Watch>) {
        self.0.retain(|(other, _)| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(watch)));
    }

    pub(super) fn tell(&mut self, change: Change) {
        self.0.retain(|(watch, number)| match watch.upgrade() {
            Some(watch) => {
                watch.mark(*number, change);
                true
            }
            None => false,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn is_ready(future: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    fn watchers() -> (Arc<Watch>, Watchers) {
        let watch = Arc::<Watch>::default();
        let mut watchers = Watchers::default();
        watchers.add(Arc::downgrade(&watch), 3);
        (watch, watchers)
    }

    #[test]
    fn a_partition_is_named_once_however_often_it_changed() {
        let (watch, mut watchers) = watchers();
        watchers.add(Arc::downgrade(&watch), 5);
        assert!(watch.take().is_empty());
        for _ in 0..10 {
            watchers.tell(Change::Grown(1));
        }
        assert_eq!(watch.take(), [3, 5]);
        assert!(watch.take().is_empty());
        watchers.remove(&watch);
        watchers.tell(Change::State);
        assert!(watch.take().is_empty());
    }

    #[test]
    fn who_waits_is_woken_by_enough_bytes_or_by_anything_else() {
        let (watch, mut watchers) = watchers();
        watchers.tell(Change::Grown(60));
        let mut changed = Box::pin(watch.changed(100));
        assert!(!is_ready(changed.as_mut()));
        watchers.tell(Change::Grown(30));
        assert!(!is_ready(changed.as_mut()));
        watchers.tell(Change::Grown(10));
        assert!(is_ready(changed.as_mut()));
        assert_eq!(watch.take(), [3]);
        let mut changed = Box::pin(watch.changed(1 << 40));
        assert!(!is_ready(changed.as_mut()));
        watchers.tell(Change::State);
        assert!(is_ready(changed.as_mut()));
        // What happened before it waited counts too.
        assert!(is_ready(Box::pin(watch.changed(1 << 40)).as_mut()));
        watch.take();
        assert!(!is_ready(Box::pin(watch.changed(0)).as_mut()));
    }

    #[test]
    fn those_that_were_dropped_are_forgotten() {
        let (watch, mut watchers) = watchers();
        for _ in 0..10_000 {
            watchers.add(Arc::downgrade(&Arc::default()), 0);
        }
        assert!(watchers.0.len() < 100);
        watchers.tell(Change::State);
        assert_eq!(watchers.0.len(), 1);
        drop(watch);
        watchers.tell(Change::State);
        assert!(watchers.0.is_empty());
    }
}
