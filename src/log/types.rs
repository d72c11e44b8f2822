//! What a partition's log is asked and what it answers.

use bytes::Bytes;

use crate::error::{ApiError, ErrorCode, StorageError};
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TimestampMs};

/// Who appends, which decides what is checked (Kafka's `AppendOrigin`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client: everything is checked.
    Client,
    /// A coordinator that leads the partition in this epoch: it built the batch, and what is written together with it
    /// is its view, which covers the log up to the batch's end from then on.
    Coordinator {
        /// The epoch. Where the partition has another one, somebody else writes to it, or this broker does so anew.
        leader_epoch: LeaderEpoch,
    },
    /// The quorum, or a test: batches that this process built, control batches among them.
    Internal,
}

impl Origin {
    /// Whether this process built the batch, so that nothing in it has to be checked.
    pub(super) fn is_trusted(self) -> bool {
        match self {
            Self::Client => false,
            Self::Coordinator { .. } | Self::Internal => true,
        }
    }
}

/// Which replicas whoever appends will wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// The leader, or none.
    Leader,
    /// All that are in sync, of which there must be `min.insync.replicas`.
    InSync,
}

/// The offsets of a log, all of them exclusive ends but the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// The first record that may be read.
    pub log_start: Offset,
    /// Where consumers end: everything before is as safe as the partition's replication makes it.
    pub high_watermark: Offset,
    /// Where consumers that read committed records only end.
    pub last_stable: Offset,
    /// Where the log ends: the offset of the next record.
    pub log_end: Offset,
}

/// What an append was answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the first record.
    pub base_offset: Offset,
    /// The offset of the last record.
    pub last_offset: Offset,
    /// The broker's time where the topic uses it, -1 otherwise.
    pub log_append_time_ms: TimestampMs,
    /// The first offset of the log.
    pub log_start_offset: Offset,
}

/// Why a batch was refused before it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendError {
    /// Kafka's code.
    pub code: ErrorCode,
    /// What was wrong, where there is something to say.
    pub message: Option<String>,
    /// The records that were refused, by their index in the batch, each with its reason.
    pub record_errors: Vec<(i32, String)>,
    /// The first offset of the log.
    pub log_start_offset: Offset,
}

impl AppendError {
    /// An error of the whole batch.
    pub fn with(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: Some(message.into()), record_errors: Vec::new(), log_start_offset: -1 }
    }
}

impl From<StorageError> for AppendError {
    fn from(error: StorageError) -> Self {
        Self::with(ErrorCode::KafkaStorageError, error.to_string())
    }
}

impl From<AppendError> for ApiError {
    fn from(error: AppendError) -> Self {
        Self { code: error.code, message: error.message }
    }
}

/// How far a read may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadUpTo {
    /// What consumers see.
    HighWatermark,
    /// What consumers of committed records see.
    LastStable,
    /// What replicas see: everything that is stored.
    LogEnd,
}

/// What a read found.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// Whole record batches, in order, in as few pieces as the store gave them.
    pub batches: Vec<Bytes>,
    /// The offsets at the time of the read.
    pub offsets: Offsets,
    /// Where what was stored ended then, which is where replicas end.
    pub stored_end: Offset,
    /// The aborted transactions within what was read, by producer id and first offset; `None`
    /// where the read did not ask for committed records only.
    pub aborted: Option<Vec<(ProducerId, Offset)>>,
}

impl Read {
    /// The number of bytes of all batches.
    pub fn len(&self) -> usize {
        self.batches.iter().map(Bytes::len).sum()
    }

    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }
}

/// Whether a client sees the records of open transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    #[default]
    ReadUncommitted,
    ReadCommitted,
}

/// What ListOffsets asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetQuery {
    /// The end that a client with this isolation sees (-1).
    Latest(Isolation),
    /// The end of the log: what a replica sees.
    LogEnd,
    /// The start of the log (-2).
    Earliest,
    /// The record with the largest timestamp (-3).
    MaxTimestamp,
    /// The first offset on this broker's disk (-4): the start of the log, as nothing is tiered.
    EarliestLocal,
    /// The last offset in remote storage (-5): none.
    LatestTiered,
    /// The first offset that waits for its upload to remote storage (-6): none.
    EarliestPendingUpload,
    /// The first record whose timestamp is at least this.
    Timestamp(TimestampMs),
}

/// What ListOffsets is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset, -1 where the question has no meaning here.
    pub offset: Offset,
    /// The record's timestamp, -1 where no record was asked for.
    pub timestamp: TimestampMs,
    /// The leader epoch of that offset, -1 if it is not known.
    pub leader_epoch: LeaderEpoch,
}

/// An idempotent producer that wrote to a partition (DescribeProducers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    /// The last sequence number, -1 if none is known.
    pub last_sequence: i32,
    /// The largest timestamp of its last batch.
    pub last_timestamp: TimestampMs,
    /// The epoch of the transaction coordinator that wrote the last marker, -1 if none did.
    pub coordinator_epoch: i32,
    /// Where its open transaction starts, -1 if it has none.
    pub current_transaction_start_offset: Offset,
}
