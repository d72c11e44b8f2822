//! Counters of share groups (`kafka.server:type=ShareGroupMetrics`, `SharePartitionMetrics`, `ShareSessionCache`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{Metric, Sheet, table};

/// The names of acknowledge types by their number; 0 says that there is no such record.
const ACKNOWLEDGE_TYPES: [&str; 5] = ["", "Accept", "Release", "Reject", "Renew"];

/// What all share groups of a broker do.
#[derive(Debug, Default)]
pub struct ShareMetrics {
    acknowledged: [AtomicI64; ACKNOWLEDGE_TYPES.len()],
    loads: AtomicI64,
    load_ms: AtomicI64,
    expired: AtomicU64,
    groups: Mutex<HashMap<Arc<str>, Arc<ShareGroupCounts>>>,
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

    /// What the fetches of one group do.
    pub fn group(&self, group_id: &Arc<str>) -> Arc<ShareGroupCounts> {
        let mut groups = self.groups.lock();
        if let Some(group) = groups.get(group_id) {
            return Arc::clone(group);
        }
        Arc::clone(groups.entry(Arc::clone(group_id)).or_default())
    }

    /// Stops reporting groups that have nothing here any more.
    pub fn keep_groups(&self, has_something: impl Fn(&str) -> bool) {
        self.groups.lock().retain(|group_id, _| has_something(group_id));
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
        for (group_id, group) in &*self.groups.lock() {
            group.fetch_ratios.put_on(
                sheet,
                [&table::SHARE_FETCHES, &table::SHARE_FETCH_RATIO_PERCENT],
                &[group_id],
            );
            let metrics = [&table::SHARE_ACQUISITIONS, &table::SHARE_ACQUISITION_TIME_MS];
            group.acquisitions_ms.put_on(sheet, metrics, &[group_id]);
        }
    }
}

/// How many values there were, and their sum.
#[derive(Debug, Default)]
struct Sum {
    count: AtomicI64,
    sum: AtomicI64,
}

impl Sum {
    fn add(&self, value: i64) {
        add(&self.count, 1);
        add(&self.sum, value);
    }

    fn put_on(&self, sheet: &Sheet, [count, sum]: [&Metric; 2], labels: &[&str]) {
        sheet.put(count, labels, self.count.load(Ordering::Relaxed));
        sheet.put(sum, labels, self.sum.load(Ordering::Relaxed));
    }
}

/// What the fetches of one share group do.
#[derive(Debug, Default)]
pub struct ShareGroupCounts {
    fetch_ratios: Sum,
    acquisitions_ms: Sum,
}

impl ShareGroupCounts {
    /// A fetch is answered; it could read so many of the partitions that it asked for.
    pub fn fetched(&self, readable: usize, asked: usize) {
        let percent = readable.saturating_mul(100) / asked.max(1);
        self.fetch_ratios.add(i64::try_from(percent).unwrap_or(i64::MAX));
    }

    /// A fetch found partitions that it could read, or gave up, after so many milliseconds.
    pub fn acquired(&self, ms: i64) {
        self.acquisitions_ms.add(ms);
    }
}

/// What one share partition does.
#[derive(Debug, Default)]
pub struct SharePartitionCounts {
    timed_out: AtomicI64,
    fetch_locks_ms: Sum,
    fetch_lock_ratios: Sum,
}

/// What is in flight of a share partition, and ever was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlightCounts {
    /// Records from the start offset to the end offset.
    pub records: i64,
    /// The batches in which they were acquired.
    pub batches: usize,
    /// Batches that ever were in flight.
    pub all_batches: i64,
    /// Their records.
    pub all_records: i64,
}

impl SharePartitionCounts {
    /// Records were held for too long.
    pub fn timed_out(&self, records: i64) {
        add(&self.timed_out, records);
    }

    /// A fetch kept others from reading for so long, after nobody had done so for so long, in milliseconds
    /// (`recordFetchLockRatioMetric`).
    pub fn fetch_lock(&self, held_ms: i64, idle_ms: i64) {
        let percent = match (held_ms, idle_ms) {
            (0, 0) => 100,
            (0, idle_ms) => 100 / idle_ms,
            (held_ms, idle_ms) => held_ms.saturating_mul(100) / held_ms.saturating_add(idle_ms).max(1),
        };
        self.fetch_locks_ms.add(held_ms);
        self.fetch_lock_ratios.add(percent);
    }

    /// Puts them on a sheet, with what is in flight. The labels are group, topic and partition.
    pub fn put_on(&self, sheet: &Sheet, labels: &[&str; 3], in_flight: InFlightCounts) {
        let InFlightCounts { records, batches, all_batches, all_records } = in_flight;
        let timed_out = self.timed_out.load(Ordering::Relaxed);
        sheet.put(&table::SHARE_LOCK_TIMEOUTS_TOTAL, labels, timed_out);
        sheet.put(&table::SHARE_IN_FLIGHT_RECORDS, labels, records);
        sheet.put(&table::SHARE_IN_FLIGHT_BATCHES, labels, i64::try_from(batches).unwrap_or(i64::MAX));
        sheet.put(&table::SHARE_BATCHES, labels, all_batches);
        sheet.put(&table::SHARE_BATCH_RECORDS, labels, all_records);
        let locks = [&table::SHARE_FETCH_LOCKS, &table::SHARE_FETCH_LOCK_TIME_MS];
        self.fetch_locks_ms.put_on(sheet, locks, labels);
        let ratios = [&table::SHARE_FETCH_LOCK_RATIOS, &table::SHARE_FETCH_LOCK_RATIO_PERCENT];
        self.fetch_lock_ratios.put_on(sheet, ratios, labels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(sheet: &Sheet) -> Vec<String> {
        let rendered = sheet.render();
        let mut lines: Vec<String> =
            rendered.lines().filter(|line| line.starts_with("kafka_")).map(str::to_owned).collect();
        lines.sort();
        lines
    }

    #[test]
    fn fetches_of_a_group_are_told_until_it_has_nothing_here() {
        let (metrics, group_id) = (ShareMetrics::default(), Arc::from("g"));
        metrics.group(&group_id).fetched(1, 3);
        metrics.group(&group_id).fetched(0, 2);
        metrics.group(&group_id).acquired(40);
        let told = || {
            let sheet = Sheet::new();
            metrics.put_on(&sheet, (0, 0, 0));
            let ours = text(&sheet).into_iter().filter(|line| line.contains("group=\"g\""));
            ours.map(|line| line.replace("kafka_server_sharegroupmetrics_", "")).collect::<Vec<_>>()
        };
        let lines = [
            "requesttopicpartitionsfetchratio_count{group=\"g\"} 2",
            "requesttopicpartitionsfetchratio_sum{group=\"g\"} 33",
            "topicpartitionsacquiretimems_count{group=\"g\"} 1",
            "topicpartitionsacquiretimems_sum{group=\"g\"} 40",
        ];
        assert_eq!(told(), lines);
        metrics.keep_groups(|id| id == "g");
        assert_eq!(told(), lines);
        metrics.keep_groups(|_| false);
        assert_eq!(told(), [""; 0]);
    }

    #[test]
    fn a_share_partition_tells_what_is_in_flight_and_how_long_it_was_read() {
        let counts = SharePartitionCounts::default();
        for (held_ms, idle_ms) in [(0, 0), (0, 4), (30, 10), (5, 0)] {
            counts.fetch_lock(held_ms, idle_ms);
        }
        counts.timed_out(3);
        let sheet = Sheet::new();
        let in_flight = InFlightCounts { records: 10, batches: 2, all_batches: 7, all_records: 70 };
        counts.put_on(&sheet, &["g", "t", "0"], in_flight);
        let short = |line: &String| {
            let name = line.strip_prefix("kafka_server_sharepartitionmetrics_").unwrap_or(line);
            name.replace("{group=\"g\",topic=\"t\",partition=\"0\"}", "")
        };
        assert_eq!(
            text(&sheet).iter().map(short).collect::<Vec<_>>(),
            [
                "acquisitionlocktimeout_total 3",
                "fetchlockratio_count 4",
                "fetchlockratio_sum 300",
                "fetchlocktimems_count 4",
                "fetchlocktimems_sum 35",
                "inflightbatchcount 2",
                "inflightbatchmessagecount_count 7",
                "inflightbatchmessagecount_sum 70",
                "inflightmessagecount 10",
            ]
        );
    }
}
