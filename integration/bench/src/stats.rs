//! Percentiles of one run, and the spread of several.

use std::time::Duration;

/// Latencies of one run, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    micros: Vec<u32>,
}

/// What is told of a distribution, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percentiles {
    /// Half are shorter.
    pub p50: f64,
    /// One in a hundred is longer.
    pub p99: f64,
    /// One in a thousand is longer.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Latencies {
    /// Adds one; what is longer than an hour counts as 71 minutes.
    pub fn push(&mut self, latency: Duration) {
        self.micros.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    /// Adds those of another thread.
    pub fn append(&mut self, mut other: Self) {
        self.micros.append(&mut other.micros);
    }

    /// The percentiles; none where nothing was measured.
    #[must_use]
    pub fn percentiles(mut self) -> Option<Percentiles> {
        self.micros.sort_unstable();
        let at = |per_mille| percentile(&self.micros, per_mille).map(|micros| f64::from(micros) / 1_000.0);
        Some(Percentiles { p50: at(500)?, p99: at(990)?, p999: at(999)?, max: at(1_000)? })
    }
}

/// The smallest value that at least this share of the values does not exceed (nearest rank), of sorted values.
fn percentile(sorted: &[u32], per_mille: usize) -> Option<u32> {
    let rank = (sorted.len() * per_mille).div_ceil(1_000).max(1);
    sorted.get(rank - 1).copied()
}

/// The least, the middle and the most of several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// Of these values, in any order; none where there are none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { min, median, max })
    }
}

/// The ratio of each round of one to the same round of the other; rounds that divide by zero are left out.
#[must_use]
pub fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).filter(|(_, theirs)| **theirs > 0.0).map(|(ours, theirs)| ours / theirs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let sorted: Vec<u32> = (1..=1_000).collect();
        assert_eq!(percentile(&sorted, 500), Some(500));
        assert_eq!(percentile(&sorted, 990), Some(990));
        assert_eq!(percentile(&sorted, 999), Some(999));
        assert_eq!(percentile(&sorted, 1_000), Some(1_000));
        assert_eq!(percentile(&[7], 999), Some(7));
        assert_eq!(percentile(&[1, 2], 500), Some(1));
        assert_eq!(percentile(&[1, 2, 3], 500), Some(2));
        assert_eq!(percentile(&[], 500), None);
    }

    #[test]
    fn latencies_come_out_in_milliseconds_whatever_their_order() {
        let mut first = Latencies::default();
        let mut second = Latencies::default();
        for micros in (1..=500).rev() {
            first.push(Duration::from_micros(micros));
            second.push(Duration::from_micros(500 + micros));
        }
        second.append(first);
        let expected = Percentiles { p50: 0.5, p99: 0.99, p999: 0.999, max: 1.0 };
        assert_eq!(second.percentiles(), Some(expected));
        assert_eq!(Latencies::default().percentiles(), None);
    }

    #[test]
    fn a_spread_has_the_middle_value_of_odd_and_the_mean_of_even_counts() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { min: 1.0, median: 2.0, max: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 3.0]), Some(Spread { min: 1.0, median: 2.5, max: 4.0 }));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        assert_eq!(ratios(&[1.0, 3.0], &[2.0, 4.0]), vec![0.5, 0.75]);
        assert_eq!(ratios(&[1.0, 3.0], &[0.0, 4.0]), vec![0.75]);
        assert_eq!(ratios(&[1.0], &[]), Vec::<f64>::new());
    }
}
