//! A disk that loses what was not synced.

use super::random::Random;

/// What a disk holds, as something that writes change.
pub(super) trait Durable: Clone {
    /// One write. It survives a crash whole or not at all, as a write batch of the store does.
    type Write: Clone;

    fn apply(&mut self, write: &Self::Write);
}

/// A disk: a node reads back what it wrote; after a crash there is what was synced, and of the rest a beginning.
#[derive(Clone, Debug)]
pub(super) struct Disk<S: Durable> {
    live: S,
    synced: S,
    unsynced: Vec<S::Write>,
}

impl<S: Durable> Disk<S> {
    pub(super) fn new(content: S) -> Self {
        Self { live: content.clone(), synced: content, unsynced: Vec::new() }
    }

    /// What a node sees that reads.
    pub(super) fn live(&self) -> &S {
        &self.live
    }

    /// What is safe.
    pub(super) fn synced(&self) -> &S {
        &self.synced
    }

    pub(super) fn write(&mut self, write: S::Write) {
        self.live.apply(&write);
        self.unsynced.push(write);
    }

    pub(super) fn sync(&mut self) {
        for write in self.unsynced.drain(..) {
            self.synced.apply(&write);
        }
    }

    /// The power goes. The store's journal keeps the order of writes, so that a beginning of them survives.
    pub(super) fn crash(&mut self, random: &mut Random) {
        if self.unsynced.is_empty() {
            return;
        }
        let kept = if random.chance(500_000) { 0 } else { random.index(self.unsynced.len() + 1) };
        self.lose(kept);
    }

    /// The power goes, and of what was not synced so many writes are there.
    pub(super) fn lose(&mut self, kept: usize) {
        for write in self.unsynced.drain(..).take(kept) {
            self.synced.apply(&write);
        }
        self.live = self.synced.clone();
    }

    /// How many writes are not synced.
    pub(super) fn unsynced(&self) -> usize {
        self.unsynced.len()
    }
}
