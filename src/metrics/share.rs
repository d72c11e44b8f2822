//! Counters of share groups (`kafka.server:type=ShareGroupMetrics`, `SharePartitionMetrics`, `ShareSessionCache`).

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::{Sheet, table};

/// The names of acknowledge types by their number; 0 says that there is no such record.
const ACKNOWLEDGE_TYPES: [&str; 5] = ["", "Accept", "Release", "Reject", "Renew"];

/// What all share groups of a broker do.
#[derive(Debug, Default)]
pub struct ShareMetrics {
    acknowledged: [AtomicI64; ACKNOWLEDGE_TYPES.len()],
    loads: AtomicI64,
    load_ms: AtomicI64,
    expired: AtomicU64,
}

fn add(count: &AtomicI64, by: i64) {
    count.fetch_add(by, Ordering::Relaxed);
}

impl ShareMetrics {
    /// Records were acknowledged: all in one way, or each in its own.
    pub fn acknowledged(&self, types: &[i8], records: i64) {
        let each = if types.len() == 1 { records } else { 1 };
        for kind in types {
            if let Some(count) = usize::try_from(*kind).ok().and_then(|kind| self.acknowledged.get(kind)) {
                add(count, each);
            }
        }
    }

    /// A share partition was loaded.
    pub fn loaded(&self, ms: i64) {
        add(&self.loads, 1);
        add(&self.load_ms, ms);
    }

    /// A fetch waited until its time was over.
    pub fn expired(&self) {
        self.expired.fetch_add(1, Ordering::Relaxed);
    }

    /// Puts them on a sheet, with the numbers of sessions, of their partitions, and of sessions that ended with their
    /// connection.
    pub fn put_on(&self, sheet: &Sheet, (sessions, partitions, evicted): (usize, usize, u64)) {
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let counted = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        for (name, count) in ACKNOWLEDGE_TYPES.iter().zip(&self.acknowledged).skip(1) {
            sheet.put(&table::SHARE_ACKNOWLEDGEMENTS_TOTAL, &[name], count.load(Ordering::Relaxed));
        }
        sheet.put(&table::SHARE_PARTITION_LOADS, &[], self.loads.load(Ordering::Relaxed));
        sheet.put(&table::SHARE_PARTITION_LOAD_TIME_MS, &[], self.load_ms.load(Ordering::Relaxed));
        sheet.put(&table::SHARE_FETCH_EXPIRES_TOTAL, &[], counted(self.expired.load(Ordering::Relaxed)));
        sheet.put(&table::SHARE_SESSIONS, &[], whole(sessions));
        sheet.put(&table::SHARE_SESSION_PARTITIONS, &[], whole(partitions));
        sheet.put(&table::SHARE_SESSION_EVICTIONS_TOTAL, &[], counted(evicted));
    }
}

/// What one share partition does.
#[derive(Debug, Default)]
pub struct SharePartitionCounts {
    timed_out: AtomicI64,
}

impl SharePartitionCounts {
    /// Records were held for too long.
    pub fn timed_out(&self, records: i64) {
        add(&self.timed_out, records);
    }

    /// Puts them on a sheet, with what is in flight. The labels are group, topic and partition.
    pub fn put_on(&self, sheet: &Sheet, labels: &[&str; 3], records: i64, batches: usize) {
        let timed_out = self.timed_out.load(Ordering::Relaxed);
        sheet.put(&table::SHARE_LOCK_TIMEOUTS_TOTAL, labels, timed_out);
        sheet.put(&table::SHARE_IN_FLIGHT_RECORDS, labels, records);
        sheet.put(&table::SHARE_IN_FLIGHT_BATCHES, labels, i64::try_from(batches).unwrap_or(i64::MAX));
    }
}
