//! How long things took in the last minute, for metrics: loads of shards, and writes.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// How far back the figures reach, in milliseconds.
const WINDOW_MS: i64 = 60_000;

/// How many times are remembered, the last ones: a broker may lead that many partitions of a coordinator's topic at once.
const TIMES_MAX: usize = 1_024;

/// How long the same thing took each time.
#[derive(Debug, Default)]
pub struct RecentTimes {
    /// When each ended, and how long it took.
    times: Mutex<VecDeque<(i64, i64)>>,
}

impl RecentTimes {
    /// It was done at `now_ms`, in so many milliseconds.
    pub fn took(&self, now_ms: i64, took_ms: i64) {
        let mut times = self.times.lock();
        if times.len() == TIMES_MAX {
            times.pop_front();
        }
        times.push_back((now_ms, took_ms));
    }

    /// The average and the maximum of the last minute, in milliseconds; `None` where it was not done.
    #[expect(clippy::cast_precision_loss, reason = "they are told as floats")]
    pub fn recent(&self, now_ms: i64) -> Option<(f64, f64)> {
        let mut times = self.times.lock();
        while times.front().is_some_and(|(ended_ms, _)| now_ms - ended_ms > WINDOW_MS) {
            times.pop_front();
        }
        let max = times.iter().map(|(_, took_ms)| *took_ms).max()?;
        let sum: i64 = times.iter().map(|(_, took_ms)| took_ms).sum();
        Some((sum as f64 / times.len() as f64, max as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_last_minute_took_counts() {
        let times = RecentTimes::default();
        assert_eq!(times.recent(0), None);
        times.took(1_000, 10);
        times.took(50_000, 20);
        assert_eq!(times.recent(60_000), Some((15.0, 20.0)));
        assert_eq!(times.recent(61_001), Some((20.0, 20.0)));
        assert_eq!(times.recent(200_000), None);
    }
}
