//! What Produce and TxnOffsetCommit ask the transaction coordinator before the first write to a partition (KIP-890,
//! `AddPartitionsToTxnManager`).

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::context::BrokerHandles;
use crate::error::ErrorCode;
use crate::log::{
    Acks, AppendError, Ops, Origin, Partition, PendingAppend, TransactionalBatch, Verification,
};
use crate::transaction::command::{InTransaction, Producer};
use crate::transaction::state::EPOCH_BUMP_FROM;
use crate::types::TopicPartition;

/// What a client's version of a request makes of transactions (`TransactionSupportedOperation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Supports {
    /// It has to add partitions by requests of their own.
    Nothing,
    /// The same, and it knows TRANSACTION_ABORTABLE.
    Abortable,
    /// The first write adds a partition, and every transaction ends with a new epoch.
    EpochBump,
}

impl Supports {
    /// What a version of a request supports, given the first versions that do.
    pub(super) fn of(version: i16, abortable_from: i16, epoch_bump_from: i16) -> Self {
        if version >= epoch_bump_from {
            Self::EpochBump
        } else if version >= abortable_from {
            Self::Abortable
        } else {
            Self::Nothing
        }
    }

    /// Whether every transaction ends with a new epoch.
    pub(super) fn epoch_bump(self) -> bool {
        self == Self::EpochBump
    }
}

/// Has the coordinator add partitions to a transaction, or tell whether they are part of it. The answer has those that
/// may not be written to.
pub(super) async fn verify(
    broker: &BrokerHandles,
    transactional_id: Arc<str>,
    producer: Producer,
    partitions: Vec<TopicPartition>,
    supports: Supports,
) -> Vec<(TopicPartition, ErrorCode)> {
    let client_version = if supports.epoch_bump() { EPOCH_BUMP_FROM } else { 0 };
    let request =
        InTransaction { transactional_id, producer, partitions: partitions.clone(), client_version };
    let verified = broker.verifier.verify(request, !supports.epoch_bump()).await;
    let told = |code| told_to_clients(code, supports);
    match verified {
        Ok(verified) => {
            let refused = |(partition, error): (_, Option<_>)| error.map(|code| (partition, told(code)));
            verified.into_iter().filter_map(refused).collect()
        }
        Err(code) => partitions.into_iter().map(|partition| (partition, told(code))).collect(),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the other codes mean the same to everybody")]
fn told_to_clients(code: ErrorCode, supports: Supports) -> ErrorCode {
    match code {
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::TransactionAbortable if supports == Supports::Nothing => ErrorCode::InvalidTxnState,
        other => other,
    }
}

const ATTRIBUTES_AT: usize = 21;
const MAGIC_AT: usize = 16;
const PRODUCER_ID_AT: usize = 43;
const HEADER_BYTES: usize = 61;
const TRANSACTIONAL: u8 = 0x10;

/// The producer of a batch that is part of a transaction, and its first sequence number; `None` for any other batch.
pub(super) fn producer_of(records: &[u8]) -> Option<(Producer, i32)> {
    if records.len() < HEADER_BYTES
        || records[MAGIC_AT] != 2
        || records[ATTRIBUTES_AT + 1] & TRANSACTIONAL == 0
    {
        return None;
    }
    let (id, rest) = records[PRODUCER_ID_AT..].split_first_chunk()?;
    let (epoch, rest) = rest.split_first_chunk()?;
    let sequence = rest.first_chunk()?;
    let producer = Producer { id: i64::from_be_bytes(*id), epoch: i16::from_be_bytes(*epoch) };
    Some((producer, i32::from_be_bytes(*sequence)))
}

/// A batch that waits for the transaction coordinator.
pub(super) struct Deferred {
    partition: Arc<Partition>,
    records: Bytes,
    producer: Producer,
    acks: Acks,
    verification: Verification,
}

impl Deferred {
    /// Appends a transactional batch, or has it wait.
    ///
    /// # Errors
    /// Those of the partition.
    pub(super) fn begin(
        partition: &Arc<Partition>,
        records: Bytes,
        (producer, base_sequence): (Producer, i32),
        acks: Acks,
        supports: Supports,
    ) -> Result<FirstTry, AppendError> {
        let batch = TransactionalBatch {
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            base_sequence,
            supports_epoch_bump: supports.epoch_bump(),
        };
        Ok(match partition.start_verification(batch)? {
            Some(verification) => {
                let partition = Arc::clone(partition);
                FirstTry::Waits(Self { partition, records, producer, acks, verification })
            }
            None => {
                let terms = (Origin::Client, acks);
                FirstTry::Appended(partition.append_with(records, terms, Ops::new(), None)?)
            }
        })
    }

    /// The partition that it goes to.
    pub(super) fn partition(&self) -> TopicPartition {
        TopicPartition { topic: Arc::clone(self.partition.topic()), partition: self.partition.index() }
    }

    /// The bytes of the batch.
    pub(super) fn records(&self) -> &Bytes {
        &self.records
    }

    /// Appends it.
    ///
    /// # Errors
    /// Those of the partition.
    pub(super) fn append(self) -> Result<PendingAppend, AppendError> {
        let Self { partition, records, acks, verification, .. } = self;
        partition.append_with(records, (Origin::Client, acks), Ops::new(), Some(&verification))
    }
}

/// What became of a transactional batch at first.
pub(super) enum FirstTry {
    Appended(PendingAppend),
    Waits(Deferred),
}

/// Asks the coordinator for the batches of a request that wait for it. The answer has those that may not be appended.
pub(super) async fn verify_deferred(
    broker: &BrokerHandles,
    transactional_id: Arc<str>,
    deferred: &[&Deferred],
    supports: Supports,
) -> HashMap<TopicPartition, AppendError> {
    let unverified = deferred.iter().filter(|deferred| deferred.verification.asks_coordinator());
    let partitions: Vec<_> = unverified.map(|deferred| deferred.partition()).collect();
    let Some(first) = deferred.first().filter(|_| !partitions.is_empty()) else { return HashMap::new() };
    if !supports.epoch_bump() && !broker.verifies_transactions() {
        return HashMap::new();
    }
    let refused = verify(broker, transactional_id, first.producer, partitions, supports).await;
    refused.into_iter().map(|(partition, code)| (partition, refusal(code, supports))).collect()
}

/// Producers do not expect the codes of a coordinator; one that makes them try again does (`handleProduceAppend`).
fn refusal(code: ErrorCode, supports: Supports) -> AppendError {
    let again = matches!(
        code,
        ErrorCode::NetworkException
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
    ) || (code == ErrorCode::ConcurrentTransactions && !supports.epoch_bump());
    if again {
        let message = format!(
            "Unable to verify the partition has been added to the transaction. Underlying error: {code}"
        );
        AppendError::with(ErrorCode::NotEnoughReplicas, message)
    } else if code == ErrorCode::InvalidTxnState {
        AppendError::with(code, "Partition was not added to the transaction")
    } else {
        AppendError { code, message: None, record_errors: Vec::new(), log_start_offset: -1 }
    }
}
