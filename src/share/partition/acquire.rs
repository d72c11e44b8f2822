//! Delivering records: what was read from the log, as far as it is new or available again.

use std::sync::Arc;

use super::batch::{InFlightBatch, States};
use super::isolation::aborted_batches;
use super::state::InFlightState;
use super::{AbortedProducer, FetchedBatch, Gap, Limits, RecordState, SharePartitionState};
use crate::types::Offset;

/// From how many deliveries on the records of a batch come in smaller pieces, whatever the limit is.
const THROTTLED_FROM_MIN: i16 = 2;

/// How strictly a request's number of records is kept (KIP-1206).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcquireMode {
    /// Whole batches of the log, which may be more records.
    BatchOptimized,
    /// No more records than asked for.
    RecordLimit,
}

/// What a member asks for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The member.
    pub member: &'a Arc<str>,
    /// How strictly `records_max` is kept.
    pub mode: AcquireMode,
    /// About how many records a batch should have that is acquired and acknowledged as one.
    pub batch_size: i32,
    /// How many records it wants.
    pub records_max: i32,
    /// Where the read began.
    pub fetch_offset: Offset,
}

/// Records that are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcquiredRange {
    /// The first one.
    pub first: Offset,
    /// The last one.
    pub last: Offset,
    /// How often they were delivered, this time included.
    pub delivery_count: i16,
}

/// What a member gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acquired {
    /// The records, in order.
    pub ranges: Vec<AcquiredRange>,
    /// How many there are.
    pub records: i64,
}

/// A delivery that is being put together.
struct Delivery<'a> {
    ask: &'a Ask<'a>,
    batches: &'a [FetchedBatch],
    locked_until_ms: i64,
    delivery_count_max: i16,
    acquired: Acquired,
    /// How many records may still be added.
    left: i64,
}

impl Delivery<'_> {
    fn add(&mut self, first: Offset, last: Offset, delivery_count: i16) {
        let records = last - first + 1;
        self.acquired.records += records;
        self.left -= records;
        self.acquired.ranges.push(AcquiredRange { first, last, delivery_count });
    }

    /// Adds one record, as part of the range before it where that goes on.
    fn add_record(&mut self, offset: Offset, delivery_count: i16, begins: bool) {
        match self.acquired.ranges.last_mut() {
            Some(range) if !begins && range.last + 1 == offset && range.delivery_count == delivery_count => {
                range.last = offset;
                self.acquired.records += 1;
                self.left -= 1;
            }
            _ => self.add(offset, offset, delivery_count),
        }
    }

    fn keeps_limit(&self) -> bool {
        self.ask.mode == AcquireMode::RecordLimit
    }
}

impl SharePartitionState {
    /// Delivers what can be of the batches that were read, and holds it for the member. `aborted`: the aborted
    /// transactions among them, where the group reads committed records only.
    pub fn acquire(
        &mut self,
        now_ms: i64,
        ask: &Ask<'_>,
        batches: &[FetchedBatch],
        aborted: Option<&[AbortedProducer]>,
        limits: &Limits,
    ) -> Acquired {
        let (Some(first_batch), Some(last_batch)) = (batches.first(), batches.last()) else {
            return Acquired::default();
        };
        if last_batch.last_offset < self.start_offset {
            return Acquired::default();
        }
        let (last, left) = self.room(ask, last_batch.last_offset, limits);
        if left <= 0 {
            return Acquired::default();
        }
        let base = first_batch.base_offset;
        let mut is_gone = self.archive_stale(ask.fetch_offset, base);
        let mut delivery = Delivery {
            ask,
            batches,
            locked_until_ms: now_ms.saturating_add(limits.lock_duration_ms),
            delivery_count_max: limits.delivery_count_max,
            acquired: Acquired::default(),
            left,
        };
        self.deliver(&mut delivery, base, last);
        let mut acquired = delivery.acquired;
        let aborted = aborted.filter(|aborted| !aborted.is_empty() && !acquired.ranges.is_empty());
        for (first, last) in aborted.map(|aborted| aborted_batches(batches, aborted)).unwrap_or_default() {
            is_gone |= self.archive(first, last, RecordState::Acquired, true);
            acquired.leave_out(first, last);
        }
        if is_gone {
            // Nobody acknowledges these records, so nothing else would move the start behind them.
            self.move_start();
        }
        acquired
    }

    /// Up to which record, and how many of them, can be delivered.
    fn room(&self, ask: &Ask<'_>, last: Offset, limits: &Limits) -> (Offset, i64) {
        let wanted = i64::from(ask.records_max);
        let room = wanted.min(limits.in_flight_max - self.in_flight_records());
        if room > 0 || ask.fetch_offset > self.end_offset {
            return (last, room);
        }
        // No more can be in flight, but records that are may be delivered again.
        (last.min(self.end_offset), wanted.min(self.end_offset - ask.fetch_offset + 1))
    }

    /// Between the offset that was read from and the first batch that was found, the log has nothing any more; `true`
    /// where there is such a space.
    fn archive_stale(&mut self, fetch_offset: Offset, base: Offset) -> bool {
        if fetch_offset >= base {
            return false;
        }
        self.look_for_available |= self.archive(fetch_offset, base - 1, RecordState::Available, true);
        if self.gap.is_some_and(|gap| gap.start >= fetch_offset) {
            self.gap_reached(base);
        }
        true
    }

    fn deliver(&mut self, delivery: &mut Delivery<'_>, batch_base: Offset, last: Offset) {
        let base = match self.floor(batch_base) {
            Some((first, batch)) if batch.last >= batch_base => first,
            _ => batch_base.max(self.start_offset),
        };
        let keys = self.keys_within(base.min(batch_base), last);
        let Some(last_key) = keys.last().copied() else {
            self.acquire_new(delivery, base, last);
            return;
        };
        let mut gap_start = base;
        for key in keys {
            if delivery.left <= 0 {
                break;
            }
            if self.gap_start().is_some() {
                if gap_start < key {
                    self.acquire_new(delivery, gap_start, key - 1);
                }
                gap_start = self.in_flight.get(&key).map_or(gap_start, |batch| batch.last + 1);
                if delivery.left <= 0 {
                    break;
                }
            }
            if self.acquire_again(delivery, key, batch_base, last) == More::No {
                delivery.left = 0;
            }
        }
        let behind = self.in_flight.get(&last_key).map_or(last, |batch| batch.last) + 1;
        if delivery.left > 0 && behind <= last {
            self.acquire_new(delivery, behind, last);
        }
        if let Some(range) = delivery.acquired.ranges.last() {
            self.gap_reached(range.last + 1);
        }
    }

    /// Delivers what is available of a batch that is in flight.
    fn acquire_again(
        &mut self,
        delivery: &mut Delivery<'_>,
        key: Offset,
        first: Offset,
        last: Offset,
    ) -> More {
        let throttled_from = throttled_from(delivery.delivery_count_max);
        let Some(batch) = self.in_flight.get_mut(&key) else { return More::Maybe };
        let within = batch.runs().filter(|(run_first, run_last, state)| {
            state.is_available() && *run_last >= first && *run_first <= last
        });
        let Some(most) = within.map(|(.., state)| state.delivery_count).max() else { return More::Maybe };
        let is_throttled = most >= throttled_from;
        if is_throttled && delivery.acquired.records > 0 {
            return More::No;
        }
        let too_many = delivery.keeps_limit() && batch.records() > delivery.left;
        match &mut batch.states {
            States::Batch(state)
                if batch.first >= first && batch.last <= last && !is_throttled && !too_many =>
            {
                state.acquire(delivery.ask.member, delivery.locked_until_ms);
                let delivery_count = state.delivery_count;
                delivery.add(batch.first, batch.last, delivery_count);
                return More::Maybe;
            }
            States::Batch(_) | States::Offsets(_) => {}
        }
        let before = delivery.acquired.records;
        acquire_each(batch, delivery, (first, last), throttled_from);
        if is_throttled && delivery.acquired.records > before { More::No } else { More::Maybe }
    }

    /// Delivers records that nobody had, or that nobody remembers.
    fn acquire_new(&mut self, delivery: &mut Delivery<'_>, first: Offset, last: Offset) {
        // A batch that was done with as a whole may be read once more, as a part of a larger one.
        let first = if self.in_flight.is_empty() { first.max(self.end_offset) } else { first };
        if first > last || delivery.left <= 0 {
            return;
        }
        let mut last_acquired = last;
        if delivery.left < last - first + 1 {
            last_acquired = batch_end(delivery.batches, first + delivery.left - 1);
            if self.gap_start().is_some() {
                last_acquired = last_acquired.min(last);
            }
        }
        let records_max = delivery.left;
        if delivery.keeps_limit() && last_acquired - first + 1 > records_max {
            self.acquire_part(delivery, first, last_acquired, first + records_max - 1);
        } else {
            self.acquire_whole(delivery, first, last_acquired);
        }
        if self.in_flight.first_key_value().is_some_and(|(key, _)| *key == first) {
            self.start_offset = self.start_offset.max(first);
        }
        self.end_offset = self.end_offset.max(last_acquired);
        let delivered = delivery.acquired.ranges.last().map_or(last_acquired, |range| range.last);
        self.gap_reached(delivered + 1);
    }

    /// In pieces of about the size that was asked for, whose borders are those of batches.
    fn acquire_whole(&mut self, delivery: &mut Delivery<'_>, first: Offset, last: Offset) {
        let size = i64::from(delivery.ask.batch_size.max(1));
        let mut begin = first;
        if !delivery.keeps_limit() && last - first + 1 > size {
            for batch in delivery.batches.iter().take_while(|batch| batch.base_offset <= last) {
                if batch.base_offset - begin >= size {
                    self.put_acquired(delivery, begin, batch.base_offset - 1);
                    begin = batch.base_offset;
                }
            }
        }
        self.put_acquired(delivery, begin, last);
    }

    fn put_acquired(&mut self, delivery: &mut Delivery<'_>, first: Offset, last: Offset) {
        let state = InFlightState::acquired(delivery.ask.member, delivery.locked_until_ms);
        self.begin_batch(InFlightBatch::new(first, last, state));
        delivery.add(first, last, 1);
    }

    /// The first records of a batch; the others are in flight too, and available.
    fn acquire_part(&mut self, delivery: &mut Delivery<'_>, first: Offset, last: Offset, upto: Offset) {
        let available = InFlightState::new(RecordState::Available, 0);
        let mut batch = InFlightBatch::new(first, last, available);
        for (_, state) in (first..=upto).zip(batch.split()) {
            state.acquire(delivery.ask.member, delivery.locked_until_ms);
        }
        self.begin_batch(batch);
        self.look_for_available = true;
        delivery.add(first, upto, 1);
    }

    /// Whatever is before this offset is no gap any more, nor is what is known from there on.
    pub(super) fn gap_reached(&mut self, offset: Offset) {
        let Some(gap) = self.gap else { return };
        let mut start = gap.start.max(offset);
        while let Some((_, batch)) = self.floor(start).filter(|(_, batch)| batch.last >= start) {
            start = batch.last + 1;
        }
        self.gap = (gap.end == self.end_offset && start <= gap.end).then_some(Gap { start, ..gap });
    }
}

/// Whether a delivery may go on.
#[derive(PartialEq, Eq)]
enum More {
    Maybe,
    No,
}

/// From how many deliveries on the records of a batch come in smaller pieces.
fn throttled_from(delivery_count_max: i16) -> i16 {
    THROTTLED_FROM_MIN.max(delivery_count_max / 2 + delivery_count_max % 2)
}

/// Delivers records one by one. Those that were delivered often come first and in few at a time, half as many with each
/// delivery; one that is delivered for the last time comes alone.
fn acquire_each(
    batch: &mut InFlightBatch,
    delivery: &mut Delivery<'_>,
    (first, last): (Offset, Offset),
    throttled_from: i16,
) {
    let (records_max, size) = (delivery.left, batch.records());
    let delivery_count_max = delivery.delivery_count_max;
    let is_isolated = |count: i16| delivery_count_max > 2 && count == delivery_count_max;
    let keeps_limit = delivery.keeps_limit();
    let mut throttled_max = None;
    let mut acquired = 0;
    let begin = batch.first;
    for (offset, state) in (begin..).zip(batch.split().iter_mut()) {
        if offset < first || !state.is_available() {
            continue;
        }
        if offset > last || (is_isolated(state.delivery_count + 1) && acquired > 0) {
            break;
        }
        if state.delivery_count >= throttled_from {
            let halvings = u32::try_from(state.delivery_count - throttled_from + 1).unwrap_or(0);
            throttled_max.get_or_insert((size >> halvings.min(62)).max(1));
        }
        state.acquire(delivery.ask.member, delivery.locked_until_ms);
        let delivery_count = state.delivery_count;
        delivery.add_record(offset, delivery_count, acquired == 0);
        acquired += 1;
        let is_last = is_isolated(delivery_count) || (keeps_limit && acquired == records_max);
        if is_last || throttled_max == Some(acquired) {
            break;
        }
    }
}

/// The end of the batch that holds an offset; the offset itself where none does.
fn batch_end(batches: &[FetchedBatch], offset: Offset) -> Offset {
    let batch = batches.iter().take_while(|batch| batch.base_offset <= offset).last();
    batch.map_or(offset, |batch| batch.last_offset.max(offset))
}

impl Acquired {
    /// Leaves out some records.
    fn leave_out(&mut self, first: Offset, last: Offset) {
        let mut kept = Vec::with_capacity(self.ranges.len());
        for range in &self.ranges {
            let before = AcquiredRange { last: range.last.min(first - 1), ..*range };
            let behind = AcquiredRange { first: range.first.max(last + 1), ..*range };
            kept.extend([before, behind].into_iter().filter(|part| part.first <= part.last));
        }
        self.records = kept.iter().map(|range| range.last - range.first + 1).sum();
        self.ranges = kept;
    }
}
