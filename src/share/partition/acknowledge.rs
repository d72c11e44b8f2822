//! What becomes of records that were delivered: acknowledged, given back, or held for too long.

use super::batch::{InFlightBatch, States};
use super::state::InFlightState;
use super::{Limits, RecordState, SharePartitionState, StateBatch, Write, WriteId, count, push_merged};
use crate::error::{ApiError, ErrorCode};
use crate::types::Offset;

/// What a member says of records that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The first record.
    pub first: Offset,
    /// The last record.
    pub last: Offset,
    /// One type for all of them, or one for each: 0 there is no such record, 1 accept, 2 release, 3 reject, 4 hold for
    /// longer.
    pub types: Vec<i8>,
}

impl Acknowledgement {
    /// Whether records are held for longer.
    pub(in crate::share) fn renews(&self) -> bool {
        self.types.iter().any(|id| Kind::from_id(*id) == Some(Kind::Renew))
    }
}

/// What an acknowledgement does with a record that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Becomes(RecordState),
    Renew,
}

impl Kind {
    fn from_id(id: i8) -> Option<Self> {
        match id {
            0 | 3 => Some(Self::Becomes(RecordState::Archived)),
            1 => Some(Self::Becomes(RecordState::Acknowledged)),
            2 => Some(Self::Becomes(RecordState::Available)),
            4 => Some(Self::Renew),
            _ => None,
        }
    }
}

/// What was held for too long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimedOut {
    /// How many records.
    pub records: i64,
    /// To be written. The records are not held any more whether it can be or not.
    pub write: Option<Write>,
}

/// Changes that are being decided.
struct Draft<'a> {
    now_ms: i64,
    member: &'a str,
    limits: &'a Limits,
    write: WriteId,
    start_offset: Offset,
    batches: Vec<StateBatch>,
    delivery_complete_count: i32,
}

impl Draft<'_> {
    /// Begins a change of a run of records.
    fn begin(&mut self, first: Offset, last: Offset, state: &mut InFlightState, to: RecordState) {
        state.begin(to, self.write, self.limits.delivery_count_max);
        self.note(first, last, state);
    }

    fn note(&mut self, first: Offset, last: Offset, state: &InFlightState) {
        let (delivery_state, delivery_count) = (state.state.id(), state.delivery_count);
        let batch = StateBatch { first_offset: first, last_offset: last, delivery_state, delivery_count };
        push_merged(&mut self.batches, batch);
        if state.state.is_terminal() {
            let records = count(first.max(self.start_offset), last);
            self.delivery_complete_count = self.delivery_complete_count.saturating_add(records);
        }
    }

    fn acknowledge(
        &mut self,
        first: Offset,
        last: Offset,
        state: &mut InFlightState,
        kind: Kind,
    ) -> Result<(), ApiError> {
        match kind {
            Kind::Becomes(to) => self.begin(first, last, state, to),
            Kind::Renew if self.limits.renew_enabled => {
                state.locked_until_ms = Some(self.now_ms.saturating_add(self.limits.lock_duration_ms));
            }
            Kind::Renew => return Err(invalid("Renewing acquisition locks is not enabled for the group.")),
        }
        Ok(())
    }
}

fn invalid(message: &str) -> ApiError {
    ApiError::with(ErrorCode::InvalidRecordState, message)
}

impl SharePartitionState {
    /// Takes what a member says of records that it holds: all of it, or nothing. There is nothing to write where it only
    /// holds them for longer.
    ///
    /// # Errors
    /// `INVALID_RECORD_STATE` where it does not hold them, `INVALID_REQUEST` where they were never delivered.
    pub fn acknowledge(
        &mut self,
        now_ms: i64,
        member: &str,
        acknowledgements: &[Acknowledgement],
        limits: &Limits,
    ) -> Result<Option<Write>, ApiError> {
        let mut draft = self.draft(now_ms, member, limits);
        let outcome = acknowledgements.iter().try_for_each(|one| self.acknowledge_one(&mut draft, one));
        self.finish(draft, outcome)
    }

    fn acknowledge_one(&mut self, draft: &mut Draft<'_>, one: &Acknowledgement) -> Result<(), ApiError> {
        let kinds: Option<Vec<Kind>> = one.types.iter().map(|id| Kind::from_id(*id)).collect();
        let Some(kinds) = kinds.filter(|kinds| !kinds.is_empty()) else {
            let message = format!("Invalid acknowledge type: {:?}", one.types);
            return Err(ApiError::with(ErrorCode::InvalidRequest, message));
        };
        if one.last < self.start_offset {
            return Ok(());
        }
        for key in self.keys_to_acknowledge(one)? {
            let start_offset = self.start_offset;
            if let Some(batch) = self.in_flight.get_mut(&key)
                && batch.last >= start_offset
            {
                acknowledge_in(batch, draft, one, &kinds)?;
            }
        }
        Ok(())
    }

    fn keys_to_acknowledge(&self, one: &Acknowledgement) -> Result<Vec<Offset>, ApiError> {
        let found = self.floor(one.first).or_else(|| self.floor(self.start_offset));
        let Some((first, _)) = found.filter(|(first, _)| *first <= one.last) else {
            return Err(invalid(
                "Batch record not found. The request batch offsets are not found in the cache.",
            ));
        };
        let keys = self.keys_within(first, one.last);
        let end = keys.last().and_then(|key| self.in_flight.get(key)).map_or(-1, |batch| batch.last);
        let past = |which: &str| {
            let message =
                format!("Batch record not found. The {which} offset in request is past acquired records.");
            Err(ApiError::with(ErrorCode::InvalidRequest, message))
        };
        if end < one.first {
            return past("first");
        }
        if end < one.last { past("last") } else { Ok(keys) }
    }

    /// Gives back what a member held that left.
    pub fn release(&mut self, now_ms: i64, member: &str, limits: &Limits) -> Option<Write> {
        let mut draft = self.draft(now_ms, member, limits);
        let start_offset = self.start_offset;
        for batch in self.in_flight.values_mut() {
            split_at_start(batch, start_offset, |state| state.is_held_by(member));
            for (first, last, state) in batch.runs_mut() {
                if state.is_held_by(member) {
                    draft.begin(first, last, state, given_back(last, start_offset));
                }
            }
        }
        self.finish(draft, Ok(())).ok().flatten()
    }

    /// Takes from the members what they held for too long. Call it at [`Self::next_timeout_ms`].
    pub fn time_out(&mut self, now_ms: i64, limits: &Limits) -> TimedOut {
        let mut draft = self.draft(now_ms, "", limits);
        let start_offset = self.start_offset;
        let mut timed_out = TimedOut::default();
        let is_over = |state: &InFlightState| {
            state.state == RecordState::Acquired && state.locked_until_ms.is_some_and(|until| until <= now_ms)
        };
        for batch in self.in_flight.values_mut() {
            split_at_start(batch, start_offset, is_over);
            for (first, last, state) in batch.runs_mut() {
                if is_over(state) {
                    state.time_out(given_back(last, start_offset), limits.delivery_count_max);
                    timed_out.records += last - first + 1;
                    draft.note(first, last, state);
                    self.look_for_available |= state.state == RecordState::Available;
                }
            }
        }
        timed_out.write = self.finish(draft, Ok(())).ok().flatten();
        timed_out
    }

    /// A write is done, or can not be: its changes count, or are taken back. `true` if the start moved.
    pub fn completed(&mut self, now_ms: i64, write: WriteId, written: bool) -> bool {
        let Some(batches) = self.writes.remove(&write) else { return false };
        for batch in &batches {
            self.complete(now_ms, write, batch, written);
        }
        self.move_start()
    }

    fn complete(&mut self, now_ms: i64, write: WriteId, batch: &StateBatch, written: bool) {
        let begin = self.floor(batch.first_offset).map_or(batch.first_offset, |(key, _)| key);
        let was_done = RecordState::from_id(batch.delivery_state).is_some_and(RecordState::is_terminal);
        let start_offset = self.start_offset;
        for (_, in_flight) in self.in_flight.range_mut(begin..=batch.last_offset) {
            split_at_start(in_flight, start_offset, |state| !written && state.is_written_by(write));
            for (first, last, state) in in_flight.runs_mut() {
                if first < batch.first_offset || last > batch.last_offset || !state.is_written_by(write) {
                    continue;
                }
                state.complete(written, now_ms);
                if last < start_offset && state.state == RecordState::Available {
                    state.archive();
                }
                self.look_for_available |= state.state == RecordState::Available;
                if was_done && !state.state.is_terminal() {
                    self.delivery_complete_count -= count(first.max(start_offset), last);
                }
            }
        }
    }

    fn draft<'a>(&mut self, now_ms: i64, member: &'a str, limits: &'a Limits) -> Draft<'a> {
        let write = self.new_write();
        let start_offset = self.start_offset;
        Draft { now_ms, member, limits, write, start_offset, batches: Vec::new(), delivery_complete_count: 0 }
    }

    fn finish(&mut self, draft: Draft<'_>, outcome: Result<(), ApiError>) -> Result<Option<Write>, ApiError> {
        let Draft { now_ms, write, batches, delivery_complete_count, .. } = draft;
        self.delivery_complete_count = self.delivery_complete_count.saturating_add(delivery_complete_count);
        if !batches.is_empty() {
            self.writes.insert(write, batches.clone());
        }
        if let Err(error) = outcome {
            self.completed(now_ms, write, false);
            return Err(error);
        }
        Ok((!batches.is_empty()).then_some(Write { id: write, batches }))
    }
}

/// Acknowledges those of a batch's records that are meant.
fn acknowledge_in(
    batch: &mut InFlightBatch,
    draft: &mut Draft<'_>,
    one: &Acknowledgement,
    kinds: &[Kind],
) -> Result<(), ApiError> {
    let is_whole =
        batch.is_within(one.first, one.last) && kinds.len() == 1 && batch.first >= draft.start_offset;
    let (first, last) = (batch.first, batch.last);
    if let States::Batch(state) = &mut batch.states {
        check_batch(state, draft.member)?;
        if is_whole {
            return draft.acknowledge(first, last, state, kinds[0]);
        }
    }
    let from = one.first.max(draft.start_offset);
    for (offset, state) in (first..).zip(batch.split()) {
        if offset < from {
            continue;
        }
        if offset > one.last {
            break;
        }
        check_record(state, draft.member)?;
        let place =
            if kinds.len() > 1 { usize::try_from(offset - one.first).unwrap_or(usize::MAX) } else { 0 };
        let Some(kind) = kinds.get(place) else {
            return Err(ApiError::with(
                ErrorCode::InvalidRequest,
                "expected an acknowledge type for each record",
            ));
        };
        draft.acknowledge(offset, offset, state, *kind)?;
    }
    Ok(())
}

fn check_batch(state: &InFlightState, member: &str) -> Result<(), ApiError> {
    match state.member.as_deref() {
        None => Err(invalid("The batch cannot be acknowledged. The batch is not in the acquired state.")),
        Some(owner) if owner != member => Err(invalid("Member is not the owner of batch record")),
        Some(_) => Ok(()),
    }
}

fn check_record(state: &InFlightState, member: &str) -> Result<(), ApiError> {
    if state.state != RecordState::Acquired {
        return Err(invalid("The offset cannot be acknowledged. The offset is not acquired."));
    }
    if state.is_held_by(member) { Ok(()) } else { Err(invalid("Member is not the owner of offset")) }
}

/// What was held becomes available, unless it is gone from the log.
fn given_back(last: Offset, start_offset: Offset) -> RecordState {
    if last < start_offset { RecordState::Archived } else { RecordState::Available }
}

/// Splits a batch that the start offset has moved into, where its state changes: the records before are gone.
fn split_at_start(batch: &mut InFlightBatch, start_offset: Offset, changes: impl Fn(&InFlightState) -> bool) {
    let moved_into = batch.first < start_offset && batch.last >= start_offset;
    if moved_into && batch.whole().is_some_and(changes) {
        batch.split();
    }
}
