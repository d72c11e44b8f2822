//! What is counted about the metadata of a node, for its metrics.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use crate::types::{Offset, TimestampMs};

/// Counts and times, written by the tasks of the metadata.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// How often this node became the active controller.
    pub(super) activations: AtomicI64,
    /// Committed records that could not be applied.
    pub(super) load_errors: AtomicI64,
    /// Images that the logs could not follow.
    pub(super) apply_errors: AtomicI64,
    /// The last offset that was taken in, whether or not it is published.
    pub(super) loaded: AtomicI64,
    /// When the last batch that was taken in was written, on the clock of who wrote it.
    pub(super) last_timestamp_ms: AtomicI64,
    /// How long the last command waited for the controller.
    pub(super) queue_ms: AtomicI64,
    /// When the last snapshot was written, on the wall clock, and its size; 0 before the first.
    pub(super) snapshot_at_ms: AtomicI64,
    pub(super) snapshot_bytes: AtomicI64,
}

/// How the metadata of a node are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether this node is the active controller.
    pub is_active: bool,
    /// How often it became that.
    pub activations: i64,
    /// The last offset that is published.
    pub applied: Offset,
    /// When that was written; -1 where nothing was read yet.
    pub applied_timestamp_ms: TimestampMs,
    /// For how long something has been committed and not published; 0 where all of it is.
    pub lag_ms: i64,
    /// Committed records that could not be applied.
    pub load_errors: i64,
    /// Images that the logs could not follow.
    pub apply_errors: i64,
    /// How long the last command waited for the controller.
    pub queue_ms: i64,
    /// The age and size of the last snapshot that this node wrote; `None` before the first.
    pub snapshot: Option<(i64, i64)>,
}

impl Counters {
    /// How the metadata are while this is published, at this time of the wall clock.
    pub(super) fn status(&self, is_active: bool, applied: Offset, now_ms: TimestampMs) -> Status {
        let applied_timestamp_ms = self.last_timestamp_ms.load(Relaxed);
        let is_behind = applied < self.loaded.load(Relaxed);
        let snapshot_at_ms = self.snapshot_at_ms.load(Relaxed);
        Status {
            is_active,
            activations: self.activations.load(Relaxed),
            applied,
            applied_timestamp_ms,
            lag_ms: if is_behind { (now_ms - applied_timestamp_ms).max(0) } else { 0 },
            load_errors: self.load_errors.load(Relaxed),
            apply_errors: self.apply_errors.load(Relaxed),
            queue_ms: self.queue_ms.load(Relaxed),
            snapshot: (snapshot_at_ms > 0)
                .then(|| ((now_ms - snapshot_at_ms).max(0), self.snapshot_bytes.load(Relaxed))),
        }
    }
}

/// Adds one.
pub(super) fn count(counter: &AtomicI64) {
    counter.fetch_add(1, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_lags_only_while_something_is_not_published() {
        let counters = Counters::default();
        counters.last_timestamp_ms.store(1_000, Relaxed);
        counters.loaded.store(7, Relaxed);
        assert_eq!(counters.status(false, 6, 1_500).lag_ms, 500);
        assert_eq!(counters.status(false, 7, 9_000).lag_ms, 0);
        assert_eq!(counters.status(true, 7, 9_000).snapshot, None);
        counters.snapshot_at_ms.store(8_000, Relaxed);
        counters.snapshot_bytes.store(12, Relaxed);
        assert_eq!(counters.status(true, 7, 9_000).snapshot, Some((1_000, 12)));
    }
}
