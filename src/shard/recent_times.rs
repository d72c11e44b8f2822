//! How long things took in the last minute, for metrics: loads of shards, and writes.

use parking_lot::Mutex;

/// How far back the figures reach.
const SECONDS: usize = 60;

/// How long the same thing took each time.
#[derive(Debug)]
pub struct RecentTimes {
    /// Each holds one second of the last minute: the one whose number ends so.
    seconds: Mutex<[Second; SECONDS]>,
}

/// What ended within one second.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    number: i64,
    count: i64,
    sum_ms: i64,
    max_ms: i64,
}

impl Default for RecentTimes {
    fn default() -> Self {
        Self { seconds: Mutex::new([Second::default(); SECONDS]) }
    }
}

impl RecentTimes {
    /// It was done at `now_ms`, in so many milliseconds.
    pub fn took(&self, now_ms: i64, took_ms: i64) {
        let number = now_ms / 1_000;
        let place = usize::try_from(number).unwrap_or(0) % SECONDS;
        let second = &mut self.seconds.lock()[place];
        if second.number != number {
            *second = Second { number, ..Second::default() };
        }
        second.count += 1;
        second.sum_ms += took_ms;
        second.max_ms = second.max_ms.max(took_ms);
    }

    /// The average and the maximum of the last minute, in milliseconds; `None` where it was not done.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_wrap, reason = "they are told as floats")]
    pub fn recent(&self, now_ms: i64) -> Option<(f64, f64)> {
        let oldest = now_ms / 1_000 - SECONDS as i64;
        let mut all = Second::default();
        for second in self.seconds.lock().iter().filter(|second| second.number > oldest) {
            all.count += second.count;
            all.sum_ms += second.sum_ms;
            all.max_ms = all.max_ms.max(second.max_ms);
        }
        (all.count > 0).then(|| (all.sum_ms as f64 / all.count as f64, all.max_ms as f64))
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
        times.took(50_999, 30);
        assert_eq!(times.recent(60_999), Some((20.0, 30.0)));
        assert_eq!(times.recent(61_000), Some((25.0, 30.0)));
        // The same place a minute later.
        times.took(110_000, 2);
        assert_eq!(times.recent(110_001), Some((2.0, 2.0)));
        assert_eq!(times.recent(200_000), None);
    }
}
