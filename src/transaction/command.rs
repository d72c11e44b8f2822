//! What callers ask of the transaction coordinator, and what they get: Kafka's messages without their wire form.

use std::sync::Arc;

use super::state::Transaction;
use crate::error::ErrorCode;
use crate::types::{ProducerEpoch, ProducerId, TimestampMs, TopicPartition};

/// What a caller asks a shard.
#[derive(Clone, Debug)]
pub enum Command {
    /// A producer begins to use a transactional id.
    Init(InitProducerId),
    /// Partitions become part of a transaction.
    AddPartitions(InTransaction),
    /// Whether partitions are part of a transaction.
    VerifyPartitions(InTransaction),
    /// A transaction ends.
    End(EndTransaction),
    /// A transaction is open for too long, and its producer needs another id: this one.
    AbortTimedOut { transactional_id: Arc<str>, producer: Producer, fresh_producer_id: ProducerId },
    /// The markers of a transaction are written.
    Complete { transactional_id: Arc<str>, producer: Producer },
    /// What is known of a transactional id.
    Describe { transactional_id: Arc<str> },
    /// The transactional ids.
    List(TransactionFilter),
    /// The cluster works at another level of `transaction.version`.
    SetVersion(i16),
}

/// A producer id with its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
}

/// InitProducerId with a transactional id.
#[derive(Clone, Debug)]
pub struct InitProducerId {
    pub transactional_id: Arc<str>,
    pub timeout_ms: i32,
    /// What the producer believes to be, where it goes on after an error (KIP-360).
    pub expected: Option<Producer>,
    /// An id that nobody has, where the last try needed one.
    pub fresh_producer_id: Option<ProducerId>,
}

/// AddPartitionsToTxn, AddOffsetsToTxn, and what Produce and TxnOffsetCommit ask by themselves.
#[derive(Clone, Debug)]
pub struct InTransaction {
    pub transactional_id: Arc<str>,
    pub producer: Producer,
    pub partitions: Vec<TopicPartition>,
    /// The level of `transaction.version` that the producer works at: 0 or 2.
    pub client_version: i16,
}

/// EndTxn.
#[derive(Clone, Debug)]
pub struct EndTransaction {
    pub transactional_id: Arc<str>,
    pub producer: Producer,
    pub is_commit: bool,
    /// The level of `transaction.version` that the producer works at: 0 or 2.
    pub client_version: i16,
    /// An id that nobody has, where the last try needed one.
    pub fresh_producer_id: Option<ProducerId>,
}

/// Which transactions ListTransactions asks for.
#[derive(Clone, Debug, Default)]
pub struct TransactionFilter {
    /// Names of states; empty for all.
    pub states: Vec<String>,
    /// Producer ids; empty for all.
    pub producer_ids: Vec<ProducerId>,
    /// Only those open for longer than this; negative for all.
    pub duration_ms: i64,
}

/// Why a shard did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is to be asked again with an id that nobody has.
    NeedsProducerId,
    /// Kafka's code.
    Code(ErrorCode),
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

/// What a shard answers.
#[derive(Clone, Debug)]
pub enum Reply {
    /// To `Init` and `End`: who the producer is from now on.
    Producer(Result<Producer, Refused>),
    Added(Result<(), ErrorCode>),
    Verified(Result<Vec<(TopicPartition, Option<ErrorCode>)>, ErrorCode>),
    Described(Option<Transaction>),
    Listed(Vec<ListedTransaction>),
    Done,
}

/// A line of ListTransactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTransaction {
    pub transactional_id: Arc<str>,
    pub producer_id: ProducerId,
    pub state: &'static str,
}

/// A transaction whose markers are to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedTransaction {
    pub transactional_id: Arc<str>,
    pub producer: Producer,
    pub is_commit: bool,
    pub partitions: Vec<TopicPartition>,
    /// The level of `transaction.version` that it was ended at.
    pub transaction_version: i16,
    /// When that was decided.
    pub since_ms: TimestampMs,
}
