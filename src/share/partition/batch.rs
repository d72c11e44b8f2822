//! A run of records that were acquired together (Kafka's `InFlightBatch`): one state for all of them, until they differ.

use super::state::InFlightState;
use crate::types::Offset;

#[derive(Debug)]
pub(super) struct InFlightBatch {
    pub(super) first: Offset,
    pub(super) last: Offset,
    pub(super) states: States,
}

#[derive(Debug)]
pub(super) enum States {
    /// All records are in this state.
    Batch(InFlightState),
    /// Each has its own, from the first offset on.
    Offsets(Vec<InFlightState>),
}

impl InFlightBatch {
    pub(super) fn new(first: Offset, last: Offset, state: InFlightState) -> Self {
        Self { first, last, states: States::Batch(state) }
    }

    pub(super) fn records(&self) -> i64 {
        self.last - self.first + 1
    }

    /// The state of all records, where it is one.
    pub(super) fn whole(&self) -> Option<&InFlightState> {
        match &self.states {
            States::Batch(state) => Some(state),
            States::Offsets(_) => None,
        }
    }

    pub(super) fn is_within(&self, first: Offset, last: Offset) -> bool {
        self.first >= first && self.last <= last
    }

    /// Gives each record its own state.
    pub(super) fn split(&mut self) -> &mut Vec<InFlightState> {
        if let States::Batch(state) = &self.states {
            let records = usize::try_from(self.records()).unwrap_or(0);
            self.states = States::Offsets(vec![state.clone(); records]);
        }
        match &mut self.states {
            States::Offsets(states) => states,
            States::Batch(_) => unreachable!("the batch was just split"),
        }
    }

    /// The runs of records that have one state: the whole batch, or each record.
    pub(super) fn runs(&self) -> impl Iterator<Item = (Offset, Offset, &InFlightState)> {
        let (whole, each) = match &self.states {
            States::Batch(state) => (Some((self.first, self.last, state)), &[][..]),
            States::Offsets(states) => (None, &states[..]),
        };
        let each = (self.first..).zip(each).map(|(offset, state)| (offset, offset, state));
        whole.into_iter().chain(each)
    }

    /// The same, to change them.
    pub(super) fn runs_mut(&mut self) -> impl Iterator<Item = (Offset, Offset, &mut InFlightState)> {
        let (first, last) = (self.first, self.last);
        let (whole, each) = match &mut self.states {
            States::Batch(state) => (Some((first, last, state)), &mut [][..]),
            States::Offsets(states) => (None, &mut states[..]),
        };
        let each = (first..).zip(each).map(|(offset, state)| (offset, offset, state));
        whole.into_iter().chain(each)
    }
}
