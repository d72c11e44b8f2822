//! Whether the coordinator of a transaction knows that a partition is part of it (KIP-890).
//!
//! The first batch of a transaction may be appended to a partition only when the coordinator has
//! the partition on its list, or nobody would ever end the transaction there. Between the
//! coordinator's answer and the append a marker may arrive; so a guard is made before the
//! coordinator is asked, and is gone once the transaction has begun or ended (Kafka's
//! `VerificationStateEntry`).
//!
//! Batches that wait for an answer stand in line: as long as there are any, later ones of the same
//! producer wait too, though the transaction may have begun meanwhile, so that none overtakes.

use std::collections::HashMap;
use std::sync::Arc;

use super::partition::Partition;
use super::types::AppendError;
use crate::types::{ProducerEpoch, ProducerId, TimestampMs};

/// Tells one guard from the next.
pub(super) type GuardNumber = u64;

/// What a batch is that may have to wait for the coordinator.
#[derive(Clone, Copy, Debug)]
pub struct TransactionalBatch {
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    /// The batch's first sequence number, -1 for those of coordinators.
    pub base_sequence: i32,
    /// Whether the producer gets a new epoch with each transaction.
    pub supports_epoch_bump: bool,
}

/// Waits for the coordinator's answer, until it is dropped.
pub struct Verification {
    partition: Arc<Partition>,
    producer_id: ProducerId,
    guard: Option<GuardNumber>,
}

impl Verification {
    /// Whether the coordinator has to be asked; otherwise only those before have to be waited for.
    pub fn asks_coordinator(&self) -> bool {
        self.guard.is_some()
    }

    pub(super) fn guard(&self) -> Option<GuardNumber> {
        self.guard
    }
}

impl Drop for Verification {
    fn drop(&mut self) {
        self.partition.inner.lock().producers.verifications.leave(self.producer_id);
    }
}

impl Partition {
    /// What has to happen before a transactional batch is appended; `None` if nothing. Whoever gets
    /// something appends with [`Partition::append_with`].
    ///
    /// # Errors
    /// `INVALID_PRODUCER_EPOCH` for a producer that is fenced.
    pub fn start_verification(
        self: &Arc<Self>,
        batch: TransactionalBatch,
    ) -> Result<Option<Verification>, AppendError> {
        let TransactionalBatch { producer_id, producer_epoch, .. } = batch;
        let now_ms = self.shared.clock.now_ms();
        let mut inner = self.inner.lock();
        let producers = &mut inner.producers;
        producers.check_epoch(producer_id, producer_epoch, self.name())?;
        let guard = if producers.has_ongoing_transaction(producer_id, producer_epoch) {
            if !producers.verifications.has_waiting(producer_id) {
                return Ok(None);
            }
            None
        } else {
            Some(producers.verifications.start(batch, now_ms))
        };
        producers.verifications.enter(producer_id);
        Ok(Some(Verification { partition: Arc::clone(self), producer_id, guard }))
    }
}

/// What is known of a producer whose transaction has not begun here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guard {
    number: GuardNumber,
    since_ms: TimestampMs,
    epoch: ProducerEpoch,
    /// The lowest sequence number that waited: one above it would leave a gap when it came first.
    pub(super) lowest_sequence: i32,
    pub(super) supports_epoch_bump: bool,
}

/// The guards of a partition, and who waits.
#[derive(Clone, Debug, Default)]
pub(super) struct Verifications {
    guards: HashMap<ProducerId, Guard>,
    waiting: HashMap<ProducerId, usize>,
    next_number: GuardNumber,
}

impl Verifications {
    pub(super) fn guard(&self, id: ProducerId) -> Option<&Guard> {
        self.guards.get(&id)
    }

    /// Whether a transaction may begin with this guard.
    pub(super) fn allows(&self, id: ProducerId, guard: Option<GuardNumber>) -> bool {
        guard.is_some() && self.guards.get(&id).map(|known| known.number) == guard
    }

    fn start(&mut self, batch: TransactionalBatch, now_ms: TimestampMs) -> GuardNumber {
        let TransactionalBatch { producer_id, producer_epoch, base_sequence, supports_epoch_bump } = batch;
        let guard = self.guards.entry(producer_id).or_insert_with(|| {
            self.next_number += 1;
            Guard {
                number: self.next_number,
                since_ms: now_ms,
                epoch: producer_epoch,
                lowest_sequence: base_sequence,
                supports_epoch_bump,
            }
        });
        if producer_epoch > guard.epoch {
            guard.epoch = producer_epoch;
            guard.lowest_sequence = base_sequence;
        } else if producer_epoch == guard.epoch {
            guard.lowest_sequence = guard.lowest_sequence.min(base_sequence);
        }
        guard.number
    }

    /// Forgets the guard of a transaction that has begun, or ended. One of the next transaction,
    /// which has the epoch of the marker, stays.
    pub(super) fn appended(&mut self, id: ProducerId, epoch: ProducerEpoch, is_control: bool) {
        let Some(guard) = self.guards.get(&id) else { return };
        let is_next = guard.supports_epoch_bump && is_control && epoch == guard.epoch;
        if !is_next {
            self.guards.remove(&id);
        }
    }

    fn has_waiting(&self, id: ProducerId) -> bool {
        self.waiting.contains_key(&id)
    }

    fn enter(&mut self, id: ProducerId) {
        *self.waiting.entry(id).or_default() += 1;
    }

    fn leave(&mut self, id: ProducerId) {
        if let Some(count) = self.waiting.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                self.waiting.remove(&id);
            }
        }
    }

    /// Forgets guards whose batches never came.
    pub(super) fn expire(&mut self, now_ms: TimestampMs, expiration_ms: i64) {
        self.guards.retain(|_, guard| now_ms.saturating_sub(guard.since_ms) < expiration_ms);
    }
}
