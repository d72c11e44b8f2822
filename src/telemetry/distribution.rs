//! How values are distributed: OTLP's histograms, exponential histograms and summaries, in a bounded number of buckets.

/// How many buckets of a histogram are kept; where it has more, neighbours become one. OTLP's own default is 160.
pub(super) const BUCKETS_MAX: usize = 64;

/// How many buckets a pushed histogram may have at all.
pub(super) const BUCKETS_READ_MAX: usize = 4_096;

/// How many quantiles of a summary are kept.
pub(super) const QUANTILES_MAX: usize = 32;

/// The scales of exponential histograms: finer or coarser ones than these tell numbers of 64 bits apart no better.
const SCALES: std::ops::RangeInclusive<i32> = -11..=32;

/// A distribution over buckets.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Buckets {
    Explicit { explicit: Explicit, sum: Option<f64> },
    Exponential { exponential: Exponential, sum: Option<f64> },
}

impl Buckets {
    /// Adds what came since. Where the buckets are others now, it begins anew.
    pub(super) fn add(&mut self, more: Self) {
        match (self, more) {
            (Self::Explicit { explicit, sum }, Self::Explicit { explicit: new, sum: new_sum })
                if explicit.bounds == new.bounds =>
            {
                explicit
                    .counts
                    .iter_mut()
                    .zip(new.counts)
                    .for_each(|(one, more)| *one = one.saturating_add(more));
                *sum = added(*sum, new_sum);
            }
            (
                Self::Exponential { exponential, sum },
                Self::Exponential { exponential: new, sum: new_sum },
            ) => {
                exponential.add(&new);
                *sum = added(*sum, new_sum);
            }
            (known, more) => *known = more,
        }
    }

    /// The upper bounds of the buckets, rising, each with how many values are at most that, and how many there are.
    pub(super) fn cumulative(&self) -> (Vec<(f64, u64)>, u64) {
        let parts = match self {
            Self::Explicit { explicit, .. } => explicit.parts(),
            Self::Exponential { exponential, .. } => exponential.parts(),
        };
        let mut sums: Vec<(f64, u64)> = Vec::with_capacity(parts.len());
        let mut total: u64 = 0;
        for (bound, count) in parts {
            total = total.saturating_add(count);
            match sums.last_mut() {
                // Bounds beyond the range of numbers, or too close to each other.
                Some((last, sum)) if *last >= bound => *sum = total,
                _ if bound.is_finite() => sums.push((bound, total)),
                _ => {}
            }
        }
        (sums, total)
    }

    /// The sum of the values, where there is one.
    pub(super) fn sum(&self) -> Option<f64> {
        match self {
            Self::Explicit { sum, .. } | Self::Exponential { sum, .. } => *sum,
        }
    }

    /// How many buckets there are at most.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Explicit { explicit, .. } => explicit.counts.len(),
            Self::Exponential { exponential, .. } => {
                exponential.positive.counts.len() + exponential.negative.counts.len() + 4
            }
        }
    }
}

fn added(sum: Option<f64>, more: Option<f64>) -> Option<f64> {
    Some(sum? + more?)
}

/// Buckets whose bounds were given.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Explicit {
    /// The upper bounds of all buckets but the last one, rising.
    bounds: Vec<f64>,
    counts: Vec<u64>,
}

impl Explicit {
    /// Buckets with these bounds, or, where there are none, one that has all values. `None` where they do not fit
    /// together.
    pub(super) fn new(mut bounds: Vec<f64>, mut counts: Vec<u64>, count: u64) -> Option<Self> {
        if bounds.is_empty() && counts.is_empty() {
            counts.push(count);
        }
        let rises = bounds.iter().all(|bound| bound.is_finite()) && bounds.is_sorted_by(|a, b| a < b);
        if counts.len() != bounds.len() + 1 || !rises {
            return None;
        }
        while counts.len() > BUCKETS_MAX {
            counts = counts
                .chunks(2)
                .map(|pair| pair.iter().fold(0, |sum: u64, one| sum.saturating_add(*one)))
                .collect();
            bounds = bounds.into_iter().skip(1).step_by(2).collect();
        }
        Some(Self { bounds, counts })
    }

    fn parts(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().copied()).collect()
    }
}

/// Buckets that grow by a constant factor, `2^(2^-scale)`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Exponential {
    scale: i32,
    /// How many values were no further from zero than the threshold.
    zeros: u64,
    threshold: f64,
    positive: Run,
    negative: Run,
}

/// Neighbouring buckets: that at `index` has what is above `base^index` and at most `base^(index + 1)`.
#[derive(Clone, Debug, Default, PartialEq)]
struct Run {
    first: i64,
    counts: Vec<u64>,
}

impl Run {
    fn new(offset: i32, counts: &[u64]) -> Self {
        let is_used = |count: &u64| *count > 0;
        let Some(begin) = counts.iter().position(is_used) else { return Self::default() };
        let end = counts.iter().rposition(is_used).map_or(begin, |last| last + 1);
        let skipped = i64::try_from(begin).unwrap_or(i64::MAX);
        Self { first: i64::from(offset) + skipped, counts: counts[begin..end].to_vec() }
    }

    /// One past the index of the last bucket.
    fn end(&self) -> i64 {
        self.first + i64::try_from(self.counts.len()).unwrap_or(i64::MAX)
    }

    /// Half as many buckets, each twice as wide.
    fn halve(&mut self) {
        let mut halved = Self { first: self.first >> 1, counts: Vec::new() };
        for (index, count) in (self.first..).zip(&self.counts) {
            halved.put(index >> 1, *count);
        }
        *self = halved;
    }

    /// How many buckets there would be with those of another run.
    fn joined_len(&self, other: &Self) -> i64 {
        match (self.counts.is_empty(), other.counts.is_empty()) {
            (true, _) => other.end() - other.first,
            (_, true) => self.end() - self.first,
            (false, false) => self.end().max(other.end()) - self.first.min(other.first),
        }
    }

    fn add(&mut self, other: &Self) {
        if self.counts.is_empty() {
            self.clone_from(other);
            return;
        }
        if let Ok(missing @ 1..) = usize::try_from(self.first - other.first)
            && !other.counts.is_empty()
        {
            self.counts.splice(0..0, std::iter::repeat_n(0, missing));
            self.first = other.first;
        }
        for (index, count) in (other.first..).zip(&other.counts) {
            self.put(index, *count);
        }
    }

    /// Adds to a bucket that is not before the first one.
    fn put(&mut self, index: i64, count: u64) {
        let place = usize::try_from(index - self.first).unwrap_or(0);
        if place >= self.counts.len() {
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] = self.counts[place].saturating_add(count);
    }
}

impl Exponential {
    /// Buckets from these indexes on. `None` where they are none that tell numbers apart.
    pub(super) fn new(
        scale: i32,
        (zeros, threshold): (u64, f64),
        positive: (i32, &[u64]),
        negative: (i32, &[u64]),
    ) -> Option<Self> {
        if !SCALES.contains(&scale) || !threshold.is_finite() || threshold < 0.0 {
            return None;
        }
        let run = |(offset, counts)| Run::new(offset, counts);
        let mut new = Self { scale, zeros, threshold, positive: run(positive), negative: run(negative) };
        while !new.fits(&Self { positive: Run::default(), negative: Run::default(), ..new }) {
            new.halve();
        }
        Some(new)
    }

    /// Whether this and another one of the same scale have few buckets together.
    fn fits(&self, other: &Self) -> bool {
        let few = i64::try_from(BUCKETS_MAX).unwrap_or(i64::MAX);
        self.positive.joined_len(&other.positive) + self.negative.joined_len(&other.negative) <= few
    }

    fn halve(&mut self) {
        self.scale -= 1;
        self.positive.halve();
        self.negative.halve();
    }

    fn add(&mut self, more: &Self) {
        let mut more = more.clone();
        while self.scale > more.scale {
            self.halve();
        }
        while more.scale > self.scale {
            more.halve();
        }
        while !self.fits(&more) {
            self.halve();
            more.halve();
        }
        self.positive.add(&more.positive);
        self.negative.add(&more.negative);
        self.zeros = self.zeros.saturating_add(more.zeros);
        self.threshold = self.threshold.max(more.threshold);
    }

    /// Where the bucket with this index begins.
    #[expect(clippy::cast_precision_loss, reason = "bounds are no exact numbers")]
    fn bound(&self, index: i64) -> f64 {
        (index as f64 * f64::from(-self.scale).exp2()).exp2()
    }

    /// Bounds and counts, rising; the first bound of a run stands there to say where it begins.
    fn parts(&self) -> Vec<(f64, u64)> {
        let mut parts = Vec::with_capacity(self.positive.counts.len() + self.negative.counts.len() + 3);
        if !self.negative.counts.is_empty() {
            parts.push((-self.bound(self.negative.end()), 0));
        }
        let negative = (self.negative.first..self.negative.end()).rev();
        let negative = negative.zip(self.negative.counts.iter().rev());
        parts.extend(negative.map(|(index, count)| (-self.bound(index), *count)));
        if self.zeros > 0 {
            parts.push((self.threshold, self.zeros));
        }
        if !self.positive.counts.is_empty() {
            parts.push((self.bound(self.positive.first), 0));
        }
        let positive = (self.positive.first..).zip(&self.positive.counts);
        parts.extend(positive.map(|(index, count)| (self.bound(index + 1), *count)));
        parts
    }
}

/// What a client found out about quantiles itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Summary {
    pub(super) count: u64,
    pub(super) sum: f64,
    /// From 0 to 1, rising, with the value of each.
    pub(super) quantiles: Vec<(f64, f64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exponential(scale: i32, positive: (i32, &[u64])) -> Exponential {
        Exponential::new(scale, (0, 0.0), positive, (0, &[])).expect("it is one")
    }

    #[test]
    fn neighbours_become_one_where_buckets_are_too_many() {
        let bounds: Vec<f64> = (1..=150).map(f64::from).collect();
        let explicit = Explicit::new(bounds, vec![2; 151], 0).expect("they fit together");
        assert!(explicit.counts.len() <= BUCKETS_MAX);
        let buckets = Buckets::Explicit { explicit, sum: None };
        let (sums, total) = buckets.cumulative();
        assert_eq!(total, 302);
        let expected: Vec<_> =
            (1..=37_u32).map(|place| (f64::from(place * 4), u64::from(place) * 8)).collect();
        assert_eq!(sums, expected);
        let exponential = exponential(3, (-100, &[1; 400]));
        assert!(exponential.positive.counts.len() <= BUCKETS_MAX);
        let total: u64 = exponential.positive.counts.iter().sum();
        assert_eq!((exponential.scale, total), (0, 400));
    }

    #[test]
    fn scales_meet_at_the_coarser_one() {
        let mut known = exponential(1, (0, &[1, 1, 1, 1]));
        known.add(&exponential(0, (3, &[5])));
        assert_eq!(known, exponential(0, (0, &[2, 2, 0, 5])));
        known.add(&exponential(1, (-3, &[7])));
        assert_eq!(known, exponential(0, (-2, &[7, 0, 2, 2, 0, 5])));
        known.add(&exponential(0, (1_000, &[1])));
        assert!(known.positive.counts.len() <= BUCKETS_MAX);
        assert_eq!(known.positive.counts.iter().sum::<u64>(), 17);
    }

    #[test]
    fn the_ends_of_all_numbers_are_shown_in_order() {
        for scale in SCALES {
            for offset in [i32::MIN, -1, 0, i32::MAX] {
                let run = (offset, &[1, 1][..]);
                let mut one = Exponential::new(scale, (1, 0.0), run, run).expect("it is one");
                one.add(
                    &Exponential::new(0, (0, 1e300), (i32::MIN, &[1]), (i32::MAX, &[1])).expect("as well"),
                );
                let (sums, total) = Buckets::Exponential { exponential: one, sum: None }.cumulative();
                assert_eq!(total, 7);
                let rising = sums.is_sorted_by(|(a, few), (b, more)| a < b && few <= more);
                assert!(rising && sums.iter().all(|(bound, _)| bound.is_finite()), "{sums:?}");
            }
        }
    }

    #[test]
    fn what_is_no_distribution_is_refused() {
        assert_eq!(Explicit::new(vec![1.0], vec![1], 1), None);
        assert_eq!(Explicit::new(vec![2.0, 1.0], vec![1, 1, 1], 3), None);
        assert_eq!(Explicit::new(vec![f64::NAN], vec![1, 1], 2), None);
        assert_eq!(Exponential::new(99, (0, 0.0), (0, &[]), (0, &[])), None);
        assert_eq!(Exponential::new(0, (0, f64::NAN), (0, &[]), (0, &[])), None);
    }

    #[test]
    fn other_bounds_begin_anew() {
        let explicit = |bound, count| Explicit::new(vec![bound], vec![count, 0], 0).expect("it is one");
        let mut known = Buckets::Explicit { explicit: explicit(1.0, 5), sum: Some(1.0) };
        known.add(Buckets::Explicit { explicit: explicit(1.0, 6), sum: Some(2.0) });
        assert_eq!((known.cumulative().1, known.sum()), (11, Some(3.0)));
        known.add(Buckets::Explicit { explicit: explicit(2.0, 1), sum: Some(4.0) });
        assert_eq!((known.cumulative().1, known.sum()), (1, Some(4.0)));
    }
}
