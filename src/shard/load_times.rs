//! How long shards took to load, for metrics.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// How far back the figures reach, in milliseconds.
const WINDOW_MS: i64 = 60_000;

/// How many loads are remembered: a broker may lead that many partitions of a coordinator's topic at once.
const LOADS_MAX: usize = 1_024;

/// The loads of one coordinator's shards.
#[derive(Debug, Default)]
pub struct LoadTimes {
    /// When each ended, and how long it took.
    loads: Mutex<VecDeque<(i64, i64)>>,
}

impl LoadTimes {
    /// A shard was loaded at `now_ms`, in so many milliseconds.
    pub fn loaded(&self, now_ms: i64, took_ms: i64) {
        let mut loads = self.loads.lock();
        if loads.len() == LOADS_MAX {
            loads.pop_front();
        }
        loads.push_back((now_ms, took_ms));
    }

    /// The average and the maximum of the last minute, in milliseconds; `None` where nothing was loaded.
    #[expect(clippy::cast_precision_loss, reason = "they are told as floats")]
    pub fn recent(&self, now_ms: i64) -> Option<(f64, f64)> {
        let mut loads = self.loads.lock();
        while loads.front().is_some_and(|(ended_ms, _)| now_ms - ended_ms > WINDOW_MS) {
            loads.pop_front();
        }
        let max = loads.iter().map(|(_, took_ms)| *took_ms).max()?;
        let sum: i64 = loads.iter().map(|(_, took_ms)| took_ms).sum();
        Some((sum as f64 / loads.len() as f64, max as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loads_of_the_last_minute_count() {
        let times = LoadTimes::default();
        assert_eq!(times.recent(0), None);
        times.loaded(1_000, 10);
        times.loaded(50_000, 20);
        assert_eq!(times.recent(60_000), Some((15.0, 20.0)));
        assert_eq!(times.recent(61_001), Some((20.0, 20.0)));
        assert_eq!(times.recent(200_000), None);
    }
}
