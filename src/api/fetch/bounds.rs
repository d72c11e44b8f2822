//! What keeps all fetches of a broker together within bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Record batches on their way to consumers, over all responses: how much of the past consumers that are slow to take
/// their responses can keep in memory. Batches that several consumers get count for each of them.
const IN_FLIGHT_BYTES_MAX: usize = 24 << 20;
/// One response takes this part of what is left at most, so that a few do not take all.
const RESPONSE_PART: usize = 4;
/// What a response may hold however many others there are.
const RESPONSE_BYTES_MIN: usize = 64 << 10;
/// Fetches that read from the disk at the same time. More would not make a disk faster, and each takes a thread.
const STORE_READS_MAX: usize = 4;

/// What all fetches of a broker share.
#[derive(Debug)]
pub(crate) struct FetchBounds {
    in_flight: Arc<AtomicUsize>,
    store_reads: Semaphore,
}

impl Default for FetchBounds {
    fn default() -> Self {
        Self { in_flight: Arc::default(), store_reads: Semaphore::new(STORE_READS_MAX) }
    }
}

impl FetchBounds {
    /// How many bytes of record batches a response may hold now.
    pub(in crate::api) fn response_bytes_max(&self) -> usize {
        let left = IN_FLIGHT_BYTES_MAX.saturating_sub(self.in_flight.load(Ordering::Relaxed));
        (left / RESPONSE_PART).max(RESPONSE_BYTES_MIN)
    }

    /// Counts the bytes of a response until what is returned is dropped.
    pub(in crate::api) fn hold(&self, bytes: usize) -> HeldBytes {
        self.in_flight.fetch_add(bytes, Ordering::Relaxed);
        HeldBytes { in_flight: Arc::clone(&self.in_flight), bytes }
    }

    /// Waits for its turn to read from the disk.
    pub(super) async fn store_read(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody closes it.
        self.store_reads.acquire().await.ok()
    }
}

/// The bytes of a response that has not left yet.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    in_flight: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_shrink_while_others_are_on_their_way() {
        let bounds = FetchBounds::default();
        let mut held = Vec::new();
        for _ in 0..1_000 {
            held.push(bounds.hold(bounds.response_bytes_max()));
        }
        let in_flight = bounds.in_flight.load(Ordering::Relaxed);
        assert!(in_flight < IN_FLIGHT_BYTES_MAX + 1_000 * RESPONSE_BYTES_MIN, "{in_flight}");
        assert_eq!(bounds.response_bytes_max(), RESPONSE_BYTES_MIN);
        held.clear();
        assert_eq!(bounds.response_bytes_max(), IN_FLIGHT_BYTES_MAX / RESPONSE_PART);
    }
}
