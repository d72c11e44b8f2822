//! Counters of topics (`kafka.server:type=BrokerTopicMetrics`).

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Sheet, table};

/// A number that only grows. Exact, but not ordered with anything else.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds to the number.
    pub fn increment(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    fn get(&self) -> i64 {
        i64::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(i64::MAX)
    }
}

/// What clients did with one topic, or with all of them.
#[derive(Debug, Default)]
pub struct TopicMetrics {
    /// Records that producers appended.
    pub messages_in: Count,
    /// Bytes of record batches that producers appended.
    pub bytes_in: Count,
    /// Bytes of record batches that were sent to consumers.
    pub bytes_out: Count,
    /// Bytes of record batches that were sent to followers.
    pub replication_bytes_out: Count,
    /// Produce requests, counted once per partition that they name.
    pub produce_requests: Count,
    /// Fetch requests, counted once per partition that was looked at.
    pub fetch_requests: Count,
    /// Produce requests that a partition refused.
    pub failed_produce_requests: Count,
    /// Fetch requests that a partition refused.
    pub failed_fetch_requests: Count,
    /// Share fetches, counted once per partition.
    pub share_fetch_requests: Count,
    /// Share fetches that a partition refused.
    pub failed_share_fetch_requests: Count,
    /// Acknowledgements of share groups, counted once per partition.
    pub share_acknowledgement_requests: Count,
    /// Acknowledgements of share groups that a partition refused.
    pub failed_share_acknowledgement_requests: Count,
}

impl TopicMetrics {
    pub(super) fn put_on(&self, sheet: &Sheet, topic: &str) {
        for (metric, count) in [
            (&table::MESSAGES_IN_TOTAL, &self.messages_in),
            (&table::BYTES_IN_TOTAL, &self.bytes_in),
            (&table::BYTES_OUT_TOTAL, &self.bytes_out),
            (&table::REPLICATION_BYTES_OUT_TOTAL, &self.replication_bytes_out),
            (&table::TOTAL_PRODUCE_REQUESTS_TOTAL, &self.produce_requests),
            (&table::TOTAL_FETCH_REQUESTS_TOTAL, &self.fetch_requests),
            (&table::FAILED_PRODUCE_REQUESTS_TOTAL, &self.failed_produce_requests),
            (&table::FAILED_FETCH_REQUESTS_TOTAL, &self.failed_fetch_requests),
            (&table::TOTAL_SHARE_FETCH_REQUESTS_TOTAL, &self.share_fetch_requests),
            (&table::FAILED_SHARE_FETCH_REQUESTS_TOTAL, &self.failed_share_fetch_requests),
            (&table::TOTAL_SHARE_ACKNOWLEDGEMENT_REQUESTS_TOTAL, &self.share_acknowledgement_requests),
            (
                &table::FAILED_SHARE_ACKNOWLEDGEMENT_REQUESTS_TOTAL,
                &self.failed_share_acknowledgement_requests,
            ),
        ] {
            sheet.put(metric, &[topic], count.get());
        }
    }
}
