//! What is known of one record that is in flight, or of a whole batch of them (Kafka's `InFlightState`).

use std::sync::Arc;

use super::WriteId;

/// Where a record is between the log and its end (Kafka's `RecordState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordState {
    /// It may be delivered.
    Available,
    /// A member holds it.
    Acquired,
    /// A member accepted it.
    Acknowledged,
    /// It is not delivered again: it was rejected, delivered too often, or is no longer in the log.
    Archived,
}

impl RecordState {
    /// The state with this number in a ShareSnapshot or ShareUpdate record.
    pub(super) fn from_id(id: i8) -> Option<Self> {
        match id {
            0 => Some(Self::Available),
            1 => Some(Self::Acquired),
            2 => Some(Self::Acknowledged),
            // 3 is on its way to a dead letter queue (KIP-1191), which there is not.
            3 | 4 => Some(Self::Archived),
            _ => None,
        }
    }

    /// Its number in these records.
    pub(super) fn id(self) -> i8 {
        match self {
            Self::Available => 0,
            Self::Acquired => 1,
            Self::Acknowledged => 2,
            Self::Archived => 4,
        }
    }

    /// Whether nothing becomes of it any more.
    pub(super) fn is_terminal(self) -> bool {
        matches!(self, Self::Acknowledged | Self::Archived)
    }
}

/// A change that counts once it is written.
#[derive(Clone, Debug)]
struct Transition {
    write: WriteId,
    /// Who held it before.
    member: Option<Arc<str>>,
    delivery_count_max: i16,
}

/// The state of one record, or of all records of a batch.
#[derive(Clone, Debug)]
pub(super) struct InFlightState {
    pub(super) state: RecordState,
    pub(super) delivery_count: i16,
    /// Who holds it, while it is acquired.
    pub(super) member: Option<Arc<str>>,
    /// Until when it is held, in steady time. It runs on while a change of it is being written.
    pub(super) locked_until_ms: Option<i64>,
    transition: Option<Transition>,
}

impl InFlightState {
    pub(super) fn new(state: RecordState, delivery_count: i16) -> Self {
        Self { state, delivery_count, member: None, locked_until_ms: None, transition: None }
    }

    pub(super) fn acquired(member: &Arc<str>, locked_until_ms: i64) -> Self {
        Self {
            state: RecordState::Acquired,
            delivery_count: 1,
            member: Some(Arc::clone(member)),
            locked_until_ms: Some(locked_until_ms),
            transition: None,
        }
    }

    pub(super) fn is_changing(&self) -> bool {
        self.transition.is_some()
    }

    pub(super) fn is_written_by(&self, write: WriteId) -> bool {
        self.transition.as_ref().is_some_and(|transition| transition.write == write)
    }

    /// Whether it may be delivered now.
    pub(super) fn is_available(&self) -> bool {
        self.state == RecordState::Available && !self.is_changing()
    }

    /// Whether its end is known and written.
    pub(super) fn is_done(&self) -> bool {
        self.state.is_terminal() && !self.is_changing()
    }

    pub(super) fn is_held_by(&self, member: &str) -> bool {
        self.state == RecordState::Acquired && self.member.as_deref() == Some(member)
    }

    /// Delivers it once more.
    pub(super) fn acquire(&mut self, member: &Arc<str>, locked_until_ms: i64) {
        *self = Self {
            delivery_count: self.delivery_count.saturating_add(1),
            ..Self::acquired(member, locked_until_ms)
        };
    }

    /// What a record that is held becomes, where that is `to`: a record that was delivered often enough does not become
    /// available again.
    fn outcome(&self, to: RecordState, delivery_count_max: i16) -> RecordState {
        if to == RecordState::Available && self.delivery_count >= delivery_count_max {
            RecordState::Archived
        } else {
            to
        }
    }

    /// Begins a change of a record that is held; [`Self::complete`] ends it.
    pub(super) fn begin(&mut self, to: RecordState, write: WriteId, delivery_count_max: i16) {
        self.state = self.outcome(to, delivery_count_max);
        self.transition = Some(Transition { write, member: self.member.take(), delivery_count_max });
    }

    /// The change was written, or could not be: then the record is held as before, as far as it still may be.
    pub(super) fn complete(&mut self, written: bool, now_ms: i64) {
        let Some(transition) = self.transition.take() else { return };
        if written {
            self.locked_until_ms = None;
        } else if self.locked_until_ms.is_some_and(|until| until <= now_ms) {
            self.locked_until_ms = None;
            self.state = self.outcome(RecordState::Available, transition.delivery_count_max);
        } else {
            self.state = RecordState::Acquired;
            self.member = transition.member;
        }
    }

    /// The member that held it did so for too long.
    pub(super) fn time_out(&mut self, to: RecordState, delivery_count_max: i16) {
        self.state = self.outcome(to, delivery_count_max);
        self.member = None;
        self.locked_until_ms = None;
    }

    /// It is not delivered again, whatever is being written.
    pub(super) fn archive(&mut self) {
        *self = Self::new(RecordState::Archived, self.delivery_count);
    }
}
