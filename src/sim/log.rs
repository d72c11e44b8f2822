//! A log in memory that knows what it holds.

use std::collections::VecDeque;

use super::random::mix;
use crate::types::{LeaderEpoch, Offset};

/// Something that stands in a log.
pub(super) trait Content: Clone {
    /// A number that differs from that of other contents.
    fn digest(&self) -> u64;
}

impl Content for u64 {
    fn digest(&self) -> u64 {
        *self
    }
}

/// What stands at one offset.
#[derive(Clone, Debug)]
pub(super) struct Entry<R> {
    /// The epoch of the leader that wrote it.
    pub(super) epoch: LeaderEpoch,
    pub(super) content: R,
    /// A digest of this and of everything before: two logs are the same up to here when these are.
    chain: u64,
}

/// A log. What lies below its start is known by its digest only.
#[derive(Clone, Debug)]
pub(super) struct Log<R> {
    start: Offset,
    start_epoch: LeaderEpoch,
    start_chain: u64,
    entries: VecDeque<Entry<R>>,
}

impl<R> Default for Log<R> {
    fn default() -> Self {
        Self { start: 0, start_epoch: 0, start_chain: 0, entries: VecDeque::new() }
    }
}

impl<R: Content> Log<R> {
    pub(super) fn start(&self) -> Offset {
        self.start
    }

    pub(super) fn end(&self) -> Offset {
        self.start + length(self.entries.len())
    }

    /// The epoch of the last record, or of what was there before the start.
    pub(super) fn last_epoch(&self) -> LeaderEpoch {
        self.entries.back().map_or(self.start_epoch, |entry| entry.epoch)
    }

    pub(super) fn get(&self, offset: Offset) -> Option<&Entry<R>> {
        self.entries.get(self.index(offset)?)
    }

    /// What is there from one offset up to another.
    pub(super) fn range(&self, from: Offset, to: Offset) -> impl Iterator<Item = (Offset, &Entry<R>)> {
        let (from, to) = (from.clamp(self.start, self.end()), to.clamp(self.start, self.end()));
        let (first, last) = (self.index(from).unwrap_or(0), self.index(to).unwrap_or(0));
        (from..to).zip(self.entries.range(first..last.max(first)))
    }

    pub(super) fn append(&mut self, epoch: LeaderEpoch, content: R) {
        let before = self.entries.back().map_or(self.start_chain, |entry| entry.chain);
        let chain = mix(mix(before ^ content.digest()).wrapping_add(u64::from(epoch.unsigned_abs())));
        self.entries.push_back(Entry { epoch, content, chain });
    }

    pub(super) fn truncate(&mut self, end: Offset) {
        self.entries.truncate(self.index(end).unwrap_or(0));
    }

    /// Forgets what lies before an offset.
    pub(super) fn delete_before(&mut self, start: Offset) {
        while self.start < start
            && let Some(entry) = self.entries.pop_front()
        {
            self.start += 1;
            (self.start_epoch, self.start_chain) = (entry.epoch, entry.chain);
        }
    }

    /// Forgets everything: the log begins where a snapshot ends.
    pub(super) fn begin_at(&mut self, start: Offset, epoch: LeaderEpoch, chain: u64) {
        *self = Self { start, start_epoch: epoch, start_chain: chain, entries: VecDeque::new() };
    }

    /// A digest of everything before an offset, if it can be told.
    pub(super) fn chain(&self, end: Offset) -> Option<u64> {
        if end == self.start {
            return Some(self.start_chain);
        }
        Some(self.get(end - 1)?.chain)
    }

    /// The epoch of what stands before an offset.
    pub(super) fn epoch_before(&self, end: Offset) -> Option<LeaderEpoch> {
        if end == self.start {
            return Some(self.start_epoch);
        }
        Some(self.get(end - 1)?.epoch)
    }

    /// Each epoch and where it starts.
    pub(super) fn epochs(&self) -> Vec<(LeaderEpoch, Offset)> {
        let mut epochs: Vec<(LeaderEpoch, Offset)> = Vec::new();
        for (offset, entry) in (self.start..).zip(&self.entries) {
            if epochs.last().is_none_or(|(epoch, _)| *epoch != entry.epoch) {
                epochs.push((entry.epoch, offset));
            }
        }
        epochs
    }

    fn index(&self, offset: Offset) -> Option<usize> {
        usize::try_from(offset - self.start).ok()
    }
}

fn length(entries: usize) -> i64 {
    i64::try_from(entries).unwrap_or(i64::MAX)
}
