//! What was recorded over the last windows of time (Kafka's `SampledStat`, `Rate` and `Avg`).

/// How a rate is measured: over this many windows, and the one that overlaps with their begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// `quota.window.num`, at least one.
    pub count: usize,
    /// `quota.window.size.seconds`, in milliseconds.
    pub length_ms: i64,
}

impl Windows {
    /// What Kafka measures with where nothing else is configured (`MetricConfig`): two windows of half a minute.
    pub const DEFAULT: Self = Self { count: 2, length_ms: 30_000 };

    /// Windows as two configuration keys give them.
    pub fn new(count: i32, length_seconds: i32) -> Self {
        let count = usize::try_from(count).unwrap_or(1).max(1);
        Self { count, length_ms: i64::from(length_seconds.max(1)) * 1_000 }
    }

    fn total_ms(&self) -> i64 {
        i64::try_from(self.count).unwrap_or(i64::MAX).saturating_mul(self.length_ms)
    }
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    started_ms: i64,
    last_event_ms: i64,
    sum: f64,
    events: u64,
}

impl Sample {
    fn new(now_ms: i64) -> Self {
        Self { started_ms: now_ms, last_event_ms: now_ms, sum: 0.0, events: 0 }
    }
}

/// Sums of values, a sample for each window. Samples are used again in turn, so that there is a bound.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    samples: Vec<Sample>,
    current: usize,
}

impl Samples {
    /// Takes in a value.
    pub fn record(&mut self, windows: Windows, value: f64, now_ms: i64) {
        let started_ms = self.current(now_ms).started_ms;
        if now_ms - started_ms >= windows.length_ms {
            self.advance(windows, now_ms);
        }
        let sample = self.current(now_ms);
        sample.sum += value;
        sample.events += 1;
        sample.last_event_ms = now_ms;
    }

    /// The recorded values together, per second.
    pub fn rate(&mut self, windows: Windows, now_ms: i64) -> f64 {
        let sum = self.sum(windows, now_ms);
        sum / (float(self.window_ms(windows, now_ms)) / 1_000.0)
    }

    /// The average of the recorded values; `None` where there are none.
    pub fn average(&mut self, windows: Windows, now_ms: i64) -> Option<f64> {
        let sum = self.sum(windows, now_ms);
        let events: u64 = self.samples.iter().map(|sample| sample.events).sum();
        (events > 0).then(|| sum / float(i64::try_from(events).unwrap_or(i64::MAX)))
    }

    /// Over how many milliseconds [`Samples::rate`] counts: all windows but the last are taken as full, so that the
    /// first values of a client are no rate beyond all measure.
    pub fn window_ms(&mut self, windows: Windows, now_ms: i64) -> i64 {
        self.drop_obsolete(windows, now_ms);
        self.current(now_ms);
        let oldest_ms = self.samples.iter().map(|sample| sample.started_ms).min().unwrap_or(now_ms);
        let elapsed_ms = now_ms - oldest_ms;
        let (full, wanted) =
            (elapsed_ms / windows.length_ms, i64::try_from(windows.count).unwrap_or(i64::MAX) - 1);
        let missing_ms = (wanted - full).max(0).saturating_mul(windows.length_ms);
        elapsed_ms.saturating_add(missing_ms).max(1)
    }

    fn sum(&mut self, windows: Windows, now_ms: i64) -> f64 {
        self.drop_obsolete(windows, now_ms);
        self.samples.iter().map(|sample| sample.sum).sum()
    }

    fn current(&mut self, now_ms: i64) -> &mut Sample {
        if self.samples.is_empty() {
            self.samples.push(Sample::new(now_ms));
            self.current = 0;
        }
        &mut self.samples[self.current]
    }

    fn advance(&mut self, windows: Windows, now_ms: i64) {
        // One more than there are windows: the oldest may overlap with their begin.
        self.current = (self.current + 1) % (windows.count + 1);
        match self.samples.get_mut(self.current) {
            Some(sample) => *sample = Sample::new(now_ms),
            None => {
                self.current = self.samples.len();
                self.samples.push(Sample::new(now_ms));
            }
        }
    }

    fn drop_obsolete(&mut self, windows: Windows, now_ms: i64) {
        for sample in &mut self.samples {
            if now_ms - sample.last_event_ms >= windows.total_ms() {
                *sample = Sample::new(now_ms);
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates are no exact numbers")]
fn float(number: i64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOWS: Windows = Windows { count: 11, length_ms: 1_000 };

    #[test]
    fn a_first_value_counts_as_if_ten_windows_had_passed() {
        let mut samples = Samples::default();
        samples.record(WINDOWS, 1_000.0, 5_000);
        assert_eq!(samples.rate(WINDOWS, 5_000), 100.0);
        assert_eq!(samples.window_ms(WINDOWS, 5_500), 10_500);
    }

    #[test]
    fn what_lies_behind_all_windows_is_forgotten() {
        let mut samples = Samples::default();
        samples.record(WINDOWS, 1_000.0, 0);
        assert!(samples.rate(WINDOWS, 10_999) > 0.0);
        assert_eq!(samples.rate(WINDOWS, 11_000), 0.0);
    }

    #[test]
    fn an_average_is_of_the_values_that_were_recorded() {
        let mut samples = Samples::default();
        assert_eq!(samples.average(Windows::DEFAULT, 0), None);
        samples.record(Windows::DEFAULT, 10.0, 0);
        samples.record(Windows::DEFAULT, 20.0, 40_000);
        assert_eq!(samples.average(Windows::DEFAULT, 40_000), Some(15.0));
        assert_eq!(samples.average(Windows::DEFAULT, 60_000), Some(20.0));
        assert_eq!(samples.average(Windows::DEFAULT, 100_000), None);
    }
}
