//! How long things took: a histogram of fixed size, which counting neither locks nor allocates for.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Each doubling of a time is cut into this many buckets, so that a quantile is wrong by at most an eighth.
const STEPS: u64 = 8;
const STEPS_BITS: u32 = STEPS.trailing_zeros();
/// The shortest time that is told from none, in nanoseconds.
const UNIT_NS: u64 = 128;
/// Buckets up to about two hours; longer times count as that.
const BUCKETS: usize = 272;
/// Quantiles are those of the last one to three spans between two calls of [`Times::turn`].
const SPANS: usize = 3;

/// The quantiles that are reported.
pub(super) const QUANTILES: [f64; 7] = [0.0, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0];

/// What was observed in one span of time.
struct Span([AtomicU32; BUCKETS]);

/// Times of one kind: their sum and number since the start, and the quantiles of recent ones.
pub(super) struct Times {
    spans: Box<[Span; SPANS]>,
    current: AtomicUsize,
    count: AtomicU64,
    sum_ns: AtomicU64,
}

/// What a scrape tells of [`Times`], in milliseconds.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) quantiles: [f64; QUANTILES.len()],
    pub(super) sum_ms: f64,
    pub(super) count: u64,
}

impl Times {
    pub(super) fn new() -> Self {
        let span = || Span([const { AtomicU32::new(0) }; BUCKETS]);
        Self {
            spans: Box::new(std::array::from_fn(|_| span())),
            current: AtomicUsize::new(0),
            count: AtomicU64::new(0),
            sum_ns: AtomicU64::new(0),
        }
    }

    pub(super) fn record(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let span = &self.spans[self.current.load(Ordering::Relaxed) % SPANS];
        span.0[bucket(ns)].fetch_add(1, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Begins a new span and forgets the oldest.
    pub(super) fn turn(&self) {
        let next = (self.current.load(Ordering::Relaxed) + 1) % SPANS;
        self.spans[next].0.iter().for_each(|count| count.store(0, Ordering::Relaxed));
        self.current.store(next, Ordering::Relaxed);
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus knows no numbers but floats")]
    pub(super) fn summary(&self) -> Summary {
        let mut counts = [0_u64; BUCKETS];
        for span in &*self.spans {
            for (sum, count) in counts.iter_mut().zip(&span.0) {
                *sum += u64::from(count.load(Ordering::Relaxed));
            }
        }
        let total: u64 = counts.iter().sum();
        Summary {
            quantiles: QUANTILES.map(|quantile| milliseconds(at_quantile(&counts, total, quantile))),
            sum_ms: milliseconds(self.sum_ns.load(Ordering::Relaxed) as f64),
            count: self.count.load(Ordering::Relaxed),
        }
    }
}

fn milliseconds(ns: f64) -> f64 {
    ns / 1e6
}

/// Where a time is counted: exactly while it is small, and then by its highest bits.
fn bucket(ns: u64) -> usize {
    let units = ns / UNIT_NS;
    let index = match units.checked_ilog2() {
        Some(power) if power >= STEPS_BITS => {
            let shift = power - STEPS_BITS;
            u64::from(shift + 1) * STEPS + ((units >> shift) - STEPS)
        }
        _ => units,
    };
    usize::try_from(index).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

/// The shortest time of a bucket, in nanoseconds.
fn bucket_start(index: usize) -> u64 {
    let index = index as u64;
    let (power, step) = (index / STEPS, index % STEPS);
    UNIT_NS * if power == 0 { step } else { (STEPS + step) << (power - 1) }
}

/// The middle of the bucket in which the quantile falls, in nanoseconds; 0 where nothing was observed.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank is not larger than the number of times, and a time needs no 53 bits"
)]
fn at_quantile(counts: &[u64; BUCKETS], total: u64, quantile: f64) -> f64 {
    let rank = ((total as f64 * quantile).ceil() as u64).max(1);
    let mut seen = 0;
    for (index, count) in counts.iter().enumerate() {
        seen += count;
        if seen >= rank {
            return (bucket_start(index) as f64 + bucket_start(index + 1) as f64) / 2.0;
        }
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_the_bucket_that_begins_before_it() {
        for index in 0..BUCKETS {
            assert_eq!(bucket(bucket_start(index)), index);
            assert_eq!(bucket(bucket_start(index + 1) - 1), index);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert!(bucket_start(BUCKETS - 1) > 3_600_000_000_000);
    }

    #[test]
    fn quantiles_are_right_within_an_eighth() {
        let times = Times::new();
        (1..=1_000).for_each(|ms| times.record(Duration::from_millis(ms)));
        let summary = times.summary();
        for (quantile, reported) in QUANTILES.into_iter().zip(summary.quantiles) {
            let exact = (quantile * 1_000.0).max(1.0);
            assert!((reported / exact - 1.0).abs() < 0.125, "{quantile}: {reported} for {exact}");
        }
        assert_eq!(summary.count, 1_000);
        assert!((summary.sum_ms - 500_500.0).abs() < 1.0);
    }

    #[test]
    fn quantiles_forget_and_sums_do_not() {
        let times = Times::new();
        times.record(Duration::from_secs(1));
        (0..SPANS).for_each(|_| times.turn());
        let summary = times.summary();
        assert_eq!((summary.quantiles, summary.count), ([0.0; QUANTILES.len()], 1));
    }
}
