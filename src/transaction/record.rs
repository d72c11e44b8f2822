//! The records of `__transaction_state`, in Kafka's own bytes (`TransactionLog`).
//!
//! Keys and values begin with an i16: in a key it says which record it is, in a value its version. A record without
//! value deletes what its key names.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::state::{NO_EPOCH, Transaction, TransactionState};
use crate::protocol::schema::{Schema as _, prefixed, schema, versioned};
use crate::protocol::wire::{DecodeError, EncodeError};
use crate::types::TopicPartition;

/// The only kind of key.
const TRANSACTION_LOG: i16 = 0;

schema! {
    /// Whose transaction.
    struct TransactionLogKey, versions 0..=0, flexible 9.. {
        transactional_id: String,
    }
    /// What it is at.
    struct TransactionLogValue, versions 0..=1, flexible 1.. {
        producer_id: i64,
        previous_producer_id: i64 [1.., tag 0, ignorable] = -1,
        next_producer_id: i64 [1.., tag 1, ignorable] = -1,
        producer_epoch: i16,
        transaction_timeout_ms: i32,
        transaction_status: i8,
        transaction_partitions: Option<Vec<PartitionsSchema>>,
        transaction_last_update_timestamp_ms: i64,
        transaction_start_timestamp_ms: i64,
        client_transaction_version: i16 [1.., tag 2, ignorable],
    }
    struct PartitionsSchema {
        topic: String,
        partition_ids: Vec<i32>,
    }
}

/// A change of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub transactional_id: Arc<str>,
    /// `None` when it is forgotten.
    pub value: Option<Transaction>,
}

/// Why a record could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("a key without its record type")]
    NoType,
    #[error("an unknown state: {0}")]
    State(i8),
}

/// The version of values at a level of `transaction.version`.
fn value_version(transaction_version: i16) -> i16 {
    i16::from(transaction_version >= 1)
}

impl Record {
    /// The key as Kafka writes it.
    pub fn key(&self) -> Result<Bytes, EncodeError> {
        let key =
            TransactionLogKey { transactional_id: self.transactional_id.to_string(), ..Default::default() };
        prefixed(TRANSACTION_LOG, &key, TRANSACTION_LOG)
    }

    /// Reads what a broker wrote; `None` for a record of a kind that is not known here.
    pub fn decode(mut key: Bytes, value: Option<Bytes>) -> Result<Option<Self>, RecordError> {
        if key.try_get_i16().map_err(|_| RecordError::NoType)? != TRANSACTION_LOG {
            return Ok(None);
        }
        let key = TransactionLogKey::decode(&mut key, TRANSACTION_LOG)?;
        let value = value.map(decode_value).transpose()?;
        Ok(Some(Self { transactional_id: key.transactional_id.into(), value }))
    }
}

/// The value as Kafka writes it at a level of `transaction.version`; the view's too.
pub fn value(transaction: &Transaction, transaction_version: i16) -> Result<Bytes, EncodeError> {
    let mut by_topic = BTreeMap::<&str, Vec<i32>>::new();
    for TopicPartition { topic, partition } in &transaction.partitions {
        by_topic.entry(topic).or_default().push(*partition);
    }
    let partitions = by_topic.into_iter().map(|(topic, partition_ids)| PartitionsSchema {
        topic: topic.to_owned(),
        partition_ids,
        ..Default::default()
    });
    let is_empty = transaction.state == TransactionState::Empty;
    let value = TransactionLogValue {
        producer_id: transaction.producer_id,
        previous_producer_id: transaction.previous_producer_id,
        next_producer_id: transaction.next_producer_id,
        producer_epoch: transaction.producer_epoch,
        transaction_timeout_ms: transaction.timeout_ms,
        transaction_status: transaction.state.id(),
        transaction_partitions: (!is_empty).then(|| partitions.collect()),
        transaction_last_update_timestamp_ms: transaction.updated_ms,
        transaction_start_timestamp_ms: transaction.started_ms,
        client_transaction_version: transaction.client_version,
        ..Default::default()
    };
    let version = value_version(transaction_version);
    prefixed(version, &value, version)
}

/// Reads [`value`]'s bytes, in any version.
pub fn decode_value(bytes: Bytes) -> Result<Transaction, RecordError> {
    let value: TransactionLogValue = versioned(bytes)?;
    let status = value.transaction_status;
    let state = TransactionState::from_id(status).ok_or(RecordError::State(status))?;
    let topics = value.transaction_partitions.unwrap_or_default().into_iter();
    let partitions = topics.flat_map(|topic| {
        let name: Arc<str> = topic.topic.into();
        topic
            .partition_ids
            .into_iter()
            .map(move |partition| TopicPartition { topic: Arc::clone(&name), partition })
    });
    Ok(Transaction {
        producer_id: value.producer_id,
        previous_producer_id: value.previous_producer_id,
        next_producer_id: value.next_producer_id,
        producer_epoch: value.producer_epoch,
        last_producer_epoch: NO_EPOCH,
        timeout_ms: value.transaction_timeout_ms,
        state,
        partitions: partitions.collect(),
        started_ms: value.transaction_start_timestamp_ms,
        updated_ms: value.transaction_last_update_timestamp_ms,
        client_version: value.client_transaction_version,
    })
}
