//! One partition for one share group, on the broker that leads it (Kafka's `SharePartition`): which records are
//! delivered to whom, how often, and where the group has got to.
//!
//! A core: synchronous, without clock, IO or randomness. What has to outlast this broker is a [`Write`], which the caller
//! gives to the persister; what was decided with it counts once [`SharePartitionState::completed`] says that it is
//! written, and is taken back where it could not be.
//!
//! - The records from the start offset (SPSO) to the end offset (SPEO) are in flight. Those that were acquired together
//!   have one state, until they differ ([`batch`]); a state is in [`state`].
//! - [`acquire`](SharePartitionState::acquire) delivers what was read from the log; records that were delivered often
//!   already come in smaller and smaller pieces, at last each alone, so that one bad record does not wear out others.
//! - [`acknowledge`](SharePartitionState::acknowledge) takes what a member says of records that it holds,
//!   [`release`](SharePartitionState::release) gives back what a member that left held, and
//!   [`time_out`](SharePartitionState::time_out) what was held for too long.
//! - The start offset moves behind records whose end is known, and to the start of the log where that has passed it. It
//!   never goes back.
//! - After a restart there may be gaps between what the persister knows: these records were delivered, and nobody said
//!   what became of them. They are delivered again.

mod acknowledge;
mod acquire;
mod batch;
mod isolation;
#[cfg(test)]
mod model;
mod offsets;
#[cfg(test)]
mod script;
mod state;
#[cfg(test)]
mod world;

use std::collections::BTreeMap;

pub use self::acknowledge::{Acknowledgement, TimedOut};
pub use self::acquire::{AcquireMode, Acquired, AcquiredRange, Ask};
use self::batch::InFlightBatch;
pub use self::isolation::{AbortedProducer, FetchedBatch};
use self::state::InFlightState;
pub use self::state::RecordState;
use super::types::{PartitionState, StateBatch};
use crate::error::{ApiError, ErrorCode};
use crate::types::Offset;

/// How many records a state that was kept may tell of. No group holds so many: they are those of
/// `share.partition.max.record.locks`, and of the log's batch that went beyond.
const KEPT_RECORDS_MAX: i64 = 1 << 22;

/// Names what a [`Write`] decides.
pub type WriteId = u64;

/// What the group's configuration says, which may change at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For how long a member holds a record (`share.record.lock.duration.ms`).
    pub lock_duration_ms: i64,
    /// How often a record is delivered (`share.delivery.count.limit`).
    pub delivery_count_max: i16,
    /// How many records may be in flight before no more are read (`share.partition.max.record.locks`).
    pub in_flight_max: i64,
    /// Whether members may hold records for longer (`share.renew.acknowledge.enable`, KIP-1222).
    pub renew_enabled: bool,
}

/// What the persister has to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// What [`SharePartitionState::completed`] is told.
    pub id: WriteId,
    /// What became of records.
    pub batches: Vec<StateBatch>,
}

/// Records between those that the persister knows, which nobody acknowledged (Kafka's `GapWindow`).
#[derive(Clone, Copy, Debug)]
struct Gap {
    start: Offset,
    /// The end offset at the time of the load: once more is acquired, no gap is left.
    end: Offset,
}

/// One partition for one share group.
#[derive(Debug)]
pub struct SharePartitionState {
    in_flight: BTreeMap<Offset, InFlightBatch>,
    start_offset: Offset,
    /// The last record in flight; the next one to be read where none is.
    end_offset: Offset,
    state_epoch: i32,
    /// Whether records before the end offset may be available.
    look_for_available: bool,
    gap: Option<Gap>,
    /// How many records in flight are done with.
    delivery_complete_count: i32,
    /// Batches that ever were in flight, and their records.
    begun: (i64, i64),
    next_write: WriteId,
    /// The changes that are being written: which records, and what becomes of them.
    writes: BTreeMap<WriteId, Vec<StateBatch>>,
}

impl SharePartitionState {
    /// Goes on from what the persister keeps; `initial_offset` is where the group starts if that says nothing.
    ///
    /// # Errors
    /// Where what is kept can not be.
    pub fn load(kept: &PartitionState, initial_offset: Offset) -> Result<Self, ApiError> {
        let start_offset = if kept.start_offset < 0 { initial_offset } else { kept.start_offset };
        let mut loaded = Self {
            in_flight: BTreeMap::new(),
            start_offset,
            end_offset: start_offset,
            state_epoch: kept.state_epoch,
            look_for_available: false,
            gap: None,
            delivery_complete_count: 0,
            begun: (0, 0),
            next_write: 0,
            writes: BTreeMap::new(),
        };
        let mut next = start_offset;
        let mut gap_start = None;
        let mut left = KEPT_RECORDS_MAX;
        for batch in &kept.batches {
            let (first, last) = (batch.first_offset, batch.last_offset);
            // The offset behind the last record is one too.
            let may_be = first >= next && last >= first && last < Offset::MAX && last - first < left;
            let Some(state) = RecordState::from_id(batch.delivery_state).filter(|_| may_be) else {
                let message =
                    format!("the state of records {first} to {last} can not be, from offset {next} on");
                return Err(ApiError::with(ErrorCode::UnknownServerError, message));
            };
            if first > next {
                gap_start.get_or_insert(next);
            }
            next = last + 1;
            left -= next - first;
            if state.is_terminal() {
                loaded.delivery_complete_count += count(first, last);
            }
            let state = InFlightState::new(state, batch.delivery_count);
            loaded.begin_batch(InFlightBatch::new(first, last, state));
        }
        if !loaded.in_flight.is_empty() {
            loaded.look_for_available = true;
            loaded.end_offset = next - 1;
            loaded.gap = gap_start.map(|start| Gap { start, end: loaded.end_offset });
            loaded.move_start();
        }
        Ok(loaded)
    }

    /// The first record that is not done with (SPSO).
    pub fn start_offset(&self) -> Offset {
        self.start_offset
    }

    /// The last record in flight, or the next one to be read where none is (SPEO).
    pub fn end_offset(&self) -> Offset {
        self.end_offset
    }

    /// The epoch of the state, which changes when an administrator resets it.
    pub fn state_epoch(&self) -> i32 {
        self.state_epoch
    }

    /// How many records in flight are done with.
    pub fn delivery_complete_count(&self) -> i32 {
        self.delivery_complete_count
    }

    /// How many records are in flight.
    pub fn in_flight_records(&self) -> i64 {
        if self.in_flight.is_empty() { 0 } else { self.end_offset - self.start_offset + 1 }
    }

    /// In how many batches they were acquired.
    pub fn in_flight_batches(&self) -> usize {
        self.in_flight.len()
    }

    /// How many batches ever were in flight, and their records.
    pub fn begun(&self) -> (i64, i64) {
        self.begun
    }

    /// Records come into flight.
    fn begin_batch(&mut self, batch: InFlightBatch) {
        self.begun = (self.begun.0 + 1, self.begun.1.saturating_add(batch.records()));
        self.in_flight.insert(batch.first, batch);
    }

    /// When a member next has held a record for too long, in steady time.
    pub fn next_timeout_ms(&self) -> Option<i64> {
        let runs = self.in_flight.values().flat_map(InFlightBatch::runs);
        let held = runs.filter(|(.., state)| state.state == RecordState::Acquired);
        held.filter_map(|(.., state)| state.locked_until_ms).min()
    }

    /// The last record that anybody knows of is before the start offset, or there is none.
    fn is_drained(&self) -> bool {
        self.in_flight.last_key_value().is_none_or(|(_, batch)| self.start_offset > batch.last)
    }

    /// Where the gaps begin that are left of the load.
    fn gap_start(&self) -> Option<Offset> {
        self.gap.filter(|gap| gap.end == self.end_offset).map(|gap| gap.start)
    }

    /// How many of these records are in flight.
    fn count_in_flight(&self, first: Offset, last: Offset) -> i32 {
        count(first.max(self.start_offset), last)
    }

    /// The batch that begins at or before an offset.
    fn floor(&self, offset: Offset) -> Option<(Offset, &InFlightBatch)> {
        self.in_flight.range(..=offset).next_back().map(|(first, batch)| (*first, batch))
    }

    /// The keys of batches that begin within these offsets.
    fn keys_within(&self, first: Offset, last: Offset) -> Vec<Offset> {
        if first > last {
            return Vec::new();
        }
        self.in_flight.range(first..=last).map(|(key, _)| *key).collect()
    }

    /// Names the next write.
    fn new_write(&mut self) -> WriteId {
        self.next_write += 1;
        self.next_write
    }
}

/// How many records these are.
fn count(first: Offset, last: Offset) -> i32 {
    i32::try_from(last - first + 1).unwrap_or(i32::MAX).max(0)
}

/// Adds a batch, as part of the one before it where they say the same.
fn push_merged(batches: &mut Vec<StateBatch>, batch: StateBatch) {
    if let Some(before) = batches.last_mut()
        && before.last_offset + 1 == batch.first_offset
        && (before.delivery_state, before.delivery_count) == (batch.delivery_state, batch.delivery_count)
    {
        before.last_offset = batch.last_offset;
        return;
    }
    batches.push(batch);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(start_offset: Offset, batches: &[(Offset, Offset)]) -> PartitionState {
        let batch = |(first_offset, last_offset): &(Offset, Offset)| StateBatch {
            first_offset: *first_offset,
            last_offset: *last_offset,
            delivery_state: RecordState::Acknowledged.id(),
            delivery_count: 1,
        };
        PartitionState { state_epoch: 1, start_offset, batches: batches.iter().map(batch).collect() }
    }

    #[test]
    fn a_kept_state_of_the_last_offsets_that_there_can_be_is_loaded_or_refused() {
        let code = |kept| SharePartitionState::load(&kept, 0).map(drop).map_err(|error| error.code);
        let refused = Err(ErrorCode::UnknownServerError);
        assert_eq!(code(kept(0, &[(5, Offset::MAX)])), refused);
        assert_eq!(code(kept(0, &[(Offset::MAX, Offset::MAX)])), refused);
        assert_eq!(code(kept(0, &[(5, Offset::MAX), (0, 1)])), refused);
        assert_eq!(code(kept(0, &[(0, Offset::MAX - 1)])), refused);
        // More records than can be in flight.
        let half = KEPT_RECORDS_MAX / 2;
        assert_eq!(code(kept(0, &[(0, half - 1), (half, KEPT_RECORDS_MAX)])), refused);
        assert_eq!(code(kept(0, &[(1, half), (half + 1, KEPT_RECORDS_MAX)])), Ok(()));
        let limits =
            Limits { lock_duration_ms: 1, delivery_count_max: 5, in_flight_max: 2, renew_enabled: true };
        let offsets = |kept| {
            let mut loaded = SharePartitionState::load(&kept, 0).expect("it can be");
            let next = loaded.can_acquire(&limits).then(|| loaded.next_fetch_offset());
            (loaded.start_offset(), next, loaded.delivery_complete_count(), loaded.in_flight_records())
        };
        let gap = kept(0, &[(Offset::MAX - 2, Offset::MAX - 1)]);
        assert_eq!(offsets(gap), (0, Some(0), 2, Offset::MAX));
        let done = kept(Offset::MAX - 2, &[(Offset::MAX - 2, Offset::MAX - 1)]);
        assert_eq!(offsets(done), (Offset::MAX, Some(Offset::MAX), 0, 0));
        assert_eq!(offsets(kept(Offset::MAX, &[])), (Offset::MAX, Some(Offset::MAX), 0, 0));
    }
}
