//! How fast the quorum works, over the last half minute to minute (Kafka's `KafkaRaftMetrics` with its default windows).

use crate::types::Offset;

/// How long a window is; the last two count.
const WINDOW_MS: i64 = 30_000;
/// Appends whose commit is timed at once; under more, some are not timed.
const TIMED_APPENDS_MAX: usize = 64;

/// What was seen in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Window {
    began_ms: i64,
    sum: f64,
    max: f64,
    count: u32,
}

/// A sum and a number of values over the current window and the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Meter {
    before: Window,
    current: Window,
}

impl Meter {
    fn record(&mut self, now_ms: i64, value: f64) {
        *self = self.at(now_ms);
        self.current.sum += value;
        self.current.max = self.current.max.max(value);
        self.current.count += 1;
    }

    /// The meter as it is at a time: what is older than two windows does not count.
    fn at(mut self, now_ms: i64) -> Self {
        let behind_ms = now_ms - self.current.began_ms;
        if behind_ms >= 2 * WINDOW_MS {
            self.before = Window { began_ms: now_ms - WINDOW_MS, ..Window::default() };
            self.current = Window { began_ms: now_ms, ..Window::default() };
        } else if behind_ms >= WINDOW_MS {
            self.before = self.current;
            self.current = Window { began_ms: self.current.began_ms + WINDOW_MS, ..Window::default() };
        }
        self
    }

    fn per_second(&self, now_ms: i64) -> f64 {
        let meter = self.at(now_ms);
        // As Kafka: over a whole window at least, so that the first values do not look like a storm.
        let elapsed_ms = (now_ms - meter.before.began_ms).clamp(WINDOW_MS, 2 * WINDOW_MS);
        let seconds = i32::try_from(elapsed_ms).map_or(1.0, |elapsed_ms| f64::from(elapsed_ms) / 1_000.0);
        (meter.before.sum + meter.current.sum) / seconds
    }

    fn latency(&self, now_ms: i64) -> Option<Latency> {
        let Self { before, current } = self.at(now_ms);
        let count = before.count + current.count;
        (count > 0).then(|| Latency {
            average_ms: (before.sum + current.sum) / f64::from(count),
            max_ms: before.max.max(current.max),
        })
    }
}

/// A kind of waiting, over the last windows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// In milliseconds.
    pub average_ms: f64,
    /// The longest, in milliseconds.
    pub max_ms: f64,
}

/// What is measured of one node's part in the quorum. Times are of the steady clock.
#[derive(Clone, Debug, Default)]
pub(super) struct Meters {
    appended: Meter,
    fetched: Meter,
    commits: Meter,
    elections: Meter,
    /// The ends of appends that are not committed yet, and when they were made.
    uncommitted: Vec<(Offset, i64)>,
    electing_since_ms: Option<i64>,
}

/// The figures of a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuorumRates {
    /// Records per second that this node appended as the leader.
    pub appended_per_second: f64,
    /// Records per second that it fetched.
    pub fetched_per_second: f64,
    /// From an append to its commit; `None` where nothing was committed lately.
    pub commit: Option<Latency>,
    /// From the loss of a leader to the next one; `None` where there was no election lately.
    pub election: Option<Latency>,
}

impl Meters {
    pub(super) fn appended(&mut self, now_ms: i64, base_offset: Offset, end: Offset) {
        self.appended.record(now_ms, i32::try_from(end - base_offset).map_or(0.0, f64::from));
        if self.uncommitted.len() < TIMED_APPENDS_MAX {
            self.uncommitted.push((end, now_ms));
        }
    }

    pub(super) fn fetched(&mut self, now_ms: i64, records: Offset) {
        self.fetched.record(now_ms, i32::try_from(records).map_or(0.0, f64::from));
    }

    pub(super) fn committed(&mut self, now_ms: i64, offset: Offset) {
        let done = self.uncommitted.partition_point(|(end, _)| *end <= offset);
        for (_, appended_ms) in self.uncommitted.drain(..done) {
            let took_ms = i32::try_from(now_ms - appended_ms).map_or(0.0, f64::from);
            self.commits.record(now_ms, took_ms);
        }
    }

    /// Whether a leader is known, and whether that is this node.
    pub(super) fn leader_is_known(&mut self, now_ms: i64, known: bool, leads: bool) {
        if !leads {
            self.uncommitted.clear();
        }
        if !known {
            self.electing_since_ms.get_or_insert(now_ms);
        } else if let Some(since_ms) = self.electing_since_ms.take() {
            self.elections.record(now_ms, i32::try_from(now_ms - since_ms).map_or(0.0, f64::from));
        }
    }

    pub(super) fn rates(&self, now_ms: i64) -> QuorumRates {
        QuorumRates {
            appended_per_second: self.appended.per_second(now_ms),
            fetched_per_second: self.fetched.per_second(now_ms),
            commit: self.commits.latency(now_ms),
            election: self.elections.latency(now_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_and_elections_are_timed_and_forgotten_after_two_windows() {
        let mut meters = Meters::default();
        meters.leader_is_known(100_000, false, false);
        meters.leader_is_known(101_500, true, true);
        meters.appended(102_000, 7, 10);
        meters.appended(102_000, 10, 37);
        meters.committed(102_004, 10);
        meters.committed(102_010, 37);
        let rates = meters.rates(102_010);
        assert_eq!(rates.commit, Some(Latency { average_ms: 7.0, max_ms: 10.0 }));
        assert_eq!(rates.election, Some(Latency { average_ms: 1_500.0, max_ms: 1_500.0 }));
        assert!((rates.appended_per_second - 30.0 / 32.01).abs() < 0.2, "{rates:?}");
        let later = meters.rates(102_010 + 2 * WINDOW_MS);
        assert_eq!((later.commit, later.election), (None, None));
        assert!(later.appended_per_second.abs() < f64::EPSILON);
    }

    #[test]
    fn a_leader_that_lost_its_epoch_times_nothing_of_it() {
        let mut meters = Meters::default();
        meters.appended(1_000, 4, 5);
        meters.leader_is_known(2_000, true, false);
        meters.committed(3_000, 5);
        assert_eq!(meters.rates(3_000).commit, None);
    }
}
