//! One transactional id: who uses it, and its transaction (`TransactionMetadata`).

use std::collections::BTreeSet;

use crate::error::ErrorCode;
use crate::types::{ProducerEpoch, ProducerId, TimestampMs, TopicPartition};

/// What stands for no producer id.
pub const NO_PRODUCER_ID: ProducerId = -1;
/// What stands for no epoch.
pub const NO_EPOCH: ProducerEpoch = -1;
/// The level of `transaction.version` from which on every transaction ends with a new epoch (KIP-890).
pub const EPOCH_BUMP_FROM: i16 = 2;

/// What a transaction is at (`TransactionState`). Kafka's `Dead` and `PrepareEpochFence` are states of a change under
/// way, which takes no time here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TransactionState {
    /// Nothing was written in it yet.
    Empty,
    /// Partitions are part of it.
    Ongoing,
    /// It is to be committed: the markers are on their way.
    PrepareCommit,
    /// It is to be aborted: the markers are on their way.
    PrepareAbort,
    /// It is committed.
    CompleteCommit,
    /// It is aborted.
    CompleteAbort,
}

impl TransactionState {
    const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
    ];

    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }

    /// Its number in records.
    pub fn id(self) -> i8 {
        match self {
            Self::Empty => 0,
            Self::Ongoing => 1,
            Self::PrepareCommit => 2,
            Self::PrepareAbort => 3,
            Self::CompleteCommit => 4,
            Self::CompleteAbort => 5,
        }
    }

    /// The state with this number.
    pub fn from_id(id: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.id() == id)
    }

    /// Whether this is the name of a state, of those that are never seen too.
    pub fn is_name(name: &str) -> bool {
        Self::ALL.iter().any(|state| state.name() == name) || matches!(name, "Dead" | "PrepareEpochFence")
    }

    /// Whether markers are on their way.
    pub fn is_ending(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }

    /// Whether there is no transaction, so that the transactional id may be forgotten.
    pub fn is_at_rest(self) -> bool {
        matches!(self, Self::Empty | Self::CompleteCommit | Self::CompleteAbort)
    }
}

/// The state of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    pub producer_id: ProducerId,
    /// The producer id before the last change.
    pub previous_producer_id: ProducerId,
    /// The one that the producer gets when the transaction is complete, because its epochs are used up; -1 otherwise.
    pub next_producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    /// The epoch before the last new one, -1 if it is not known. Not written down, as in Kafka.
    pub last_producer_epoch: ProducerEpoch,
    pub timeout_ms: i32,
    pub state: TransactionState,
    pub partitions: BTreeSet<TopicPartition>,
    /// When the transaction began, -1 without one.
    pub started_ms: TimestampMs,
    pub updated_ms: TimestampMs,
    /// The level of `transaction.version` that its producer works at.
    pub client_version: i16,
}

/// Whether there is no epoch left for a producer: the last one is kept to fence it with.
pub fn is_exhausted(epoch: ProducerEpoch) -> bool {
    epoch >= ProducerEpoch::MAX - 1
}

impl Transaction {
    /// A transactional id that nobody has used yet.
    pub fn new(producer_id: ProducerId, timeout_ms: i32, now_ms: TimestampMs) -> Self {
        Self {
            producer_id,
            previous_producer_id: NO_PRODUCER_ID,
            next_producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_EPOCH,
            last_producer_epoch: NO_EPOCH,
            timeout_ms,
            state: TransactionState::Empty,
            partitions: BTreeSet::new(),
            started_ms: -1,
            updated_ms: now_ms,
            client_version: 0,
        }
    }

    /// Whether its epochs are used up.
    pub fn is_exhausted(&self) -> bool {
        is_exhausted(self.producer_epoch)
    }

    /// Whether it is open for longer than its producer allowed. Those of distributed transactions, which somebody else
    /// ends, have no bound.
    pub fn is_timed_out(&self, now_ms: TimestampMs) -> bool {
        self.state == TransactionState::Ongoing
            && self.timeout_ms != i32::MAX
            && self.started_ms.saturating_add(self.timeout_ms.into()) < now_ms
    }

    fn changed(&self, state: TransactionState, now_ms: TimestampMs) -> Self {
        Self { state, previous_producer_id: self.producer_id, updated_ms: now_ms, ..self.clone() }
    }

    fn emptied(&self, timeout_ms: i32, now_ms: TimestampMs) -> Self {
        let partitions = BTreeSet::new();
        let empty = self.changed(TransactionState::Empty, now_ms);
        Self { timeout_ms, partitions, started_ms: -1, ..empty }
    }

    /// A producer begins to use it, or to use it again after an error (`prepareIncrementProducerEpoch`).
    ///
    /// # Errors
    /// `PRODUCER_FENCED` for one that expects an older epoch.
    pub fn with_next_epoch(
        &self,
        timeout_ms: i32,
        expected: Option<ProducerEpoch>,
        now_ms: TimestampMs,
    ) -> Result<Self, ErrorCode> {
        if self.is_exhausted() {
            return Err(ErrorCode::UnknownServerError);
        }
        let current = self.producer_epoch;
        let (producer_epoch, last_producer_epoch) = match expected {
            None => (current + 1, NO_EPOCH),
            Some(epoch) if current == NO_EPOCH || epoch == current => (current + 1, current),
            // The same request again, whose answer was lost.
            Some(epoch) if epoch == self.last_producer_epoch => (current, self.last_producer_epoch),
            Some(_) => return Err(ErrorCode::ProducerFenced),
        };
        Ok(Self { producer_epoch, last_producer_epoch, ..self.emptied(timeout_ms, now_ms) })
    }

    /// The same for one whose epochs are used up: it gets another id (`prepareProducerIdRotation`).
    #[must_use]
    pub fn with_next_id(
        &self,
        producer_id: ProducerId,
        timeout_ms: i32,
        is_expected: bool,
        now_ms: TimestampMs,
    ) -> Self {
        let last_producer_epoch = if is_expected { self.producer_epoch } else { NO_EPOCH };
        Self { producer_id, producer_epoch: 0, last_producer_epoch, ..self.emptied(timeout_ms, now_ms) }
    }

    /// Partitions become part of the transaction, which begins with the first (`prepareAddPartitions`).
    #[must_use]
    pub fn with_partitions(
        &self,
        added: &[TopicPartition],
        client_version: i16,
        now_ms: TimestampMs,
    ) -> Self {
        let started_ms = if self.state == TransactionState::Ongoing { self.started_ms } else { now_ms };
        let mut ongoing = self.changed(TransactionState::Ongoing, now_ms);
        ongoing.partitions.extend(added.iter().cloned());
        Self { started_ms, client_version, ..ongoing }
    }

    /// The end is decided (`prepareAbortOrCommit`). At the level of KIP-890 that takes a new epoch; `next_producer_id`
    /// is the id that follows where this was the last one.
    #[must_use]
    pub fn ending(
        &self,
        is_commit: bool,
        client_version: i16,
        next_producer_id: ProducerId,
        now_ms: TimestampMs,
    ) -> Self {
        let state = if is_commit { TransactionState::PrepareCommit } else { TransactionState::PrepareAbort };
        // Nobody may have been added, where a producer aborts because it does not know.
        let started_ms = if self.state == TransactionState::Ongoing { self.started_ms } else { now_ms };
        let ending = self.changed(state, now_ms);
        let bumps = client_version >= EPOCH_BUMP_FROM;
        let (producer_epoch, last_producer_epoch) = if bumps {
            (self.producer_epoch.saturating_add(1), self.producer_epoch)
        } else {
            (self.producer_epoch, self.last_producer_epoch)
        };
        Self { producer_epoch, last_producer_epoch, started_ms, next_producer_id, client_version, ..ending }
    }

    /// The transaction of a producer that is gone or slow is aborted, and the producer fenced by a new epoch
    /// (`prepareFenceProducerEpoch`), at the cluster's level of `transaction.version`.
    #[must_use]
    pub fn fenced(&self, version: i16, next_producer_id: ProducerId, now_ms: TimestampMs) -> Self {
        if version >= EPOCH_BUMP_FROM {
            return self.ending(false, version, next_producer_id, now_ms);
        }
        let fenced = Self {
            producer_epoch: self.producer_epoch.saturating_add(1),
            last_producer_epoch: NO_EPOCH,
            ..self.clone()
        };
        fenced.ending(false, 0, NO_PRODUCER_ID, now_ms)
    }

    /// All markers are written (`prepareComplete`).
    #[must_use]
    pub fn completed(&self, now_ms: TimestampMs) -> Self {
        let state = match self.state {
            TransactionState::PrepareCommit => TransactionState::CompleteCommit,
            TransactionState::PrepareAbort
            | TransactionState::Empty
            | TransactionState::Ongoing
            | TransactionState::CompleteCommit
            | TransactionState::CompleteAbort => TransactionState::CompleteAbort,
        };
        let (producer_id, producer_epoch) = self.after_end();
        let partitions = BTreeSet::new();
        let complete = self.changed(state, now_ms);
        Self { producer_id, producer_epoch, next_producer_id: NO_PRODUCER_ID, partitions, ..complete }
    }

    /// Who goes on when the transaction is complete.
    pub fn after_end(&self) -> (ProducerId, ProducerEpoch) {
        if self.client_version >= EPOCH_BUMP_FROM && self.next_producer_id != NO_PRODUCER_ID {
            (self.next_producer_id, 0)
        } else {
            (self.producer_id, self.producer_epoch)
        }
    }
}
