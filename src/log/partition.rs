//! One partition's log.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::Notify;
use uuid::Uuid;

use super::types::{
    ActiveProducer, AppendError, Appended, FoundOffset, OffsetQuery, Offsets, Origin, Read, ReadUpTo,
};
use crate::config::TopicConfig;
use crate::error::{ApiError, ErrorCode};
use crate::storage::Ops;
use crate::types::{LeaderEpoch, Offset, PartitionId};

/// One partition's log.
pub struct Partition {}

impl Partition {
    /// The topic's name.
    pub fn topic(&self) -> &Arc<str> {
        unimplemented!()
    }

    /// The topic's id.
    pub fn topic_id(&self) -> Uuid {
        unimplemented!()
    }

    /// The partition's number within its topic.
    pub fn index(&self) -> i32 {
        unimplemented!()
    }

    /// The number under which it is stored.
    pub fn id(&self) -> PartitionId {
        unimplemented!()
    }

    /// The topic's configuration.
    pub fn config(&self) -> Arc<TopicConfig> {
        unimplemented!()
    }

    /// Validates one record batch, gives it offsets and queues it for the store, together with
    /// `extra` in the same atomic write. Appends are stored in the order of these calls.
    ///
    /// # Errors
    /// When the batch is refused; nothing was queued then, `extra` included.
    pub fn append(&self, _batch: Bytes, _origin: Origin, _extra: Ops) -> Result<PendingAppend, AppendError> {
        unimplemented!()
    }

    /// The log's offsets.
    pub fn offsets(&self) -> Offsets {
        unimplemented!()
    }

    /// Reads whole batches, from the one that holds `offset` on, `max_bytes` at most; with
    /// `at_least_one_batch` the first one may be larger.
    ///
    /// # Errors
    /// `OFFSET_OUT_OF_RANGE`, and `KAFKA_STORAGE_ERROR` when the store can not be read.
    pub fn read(
        &self,
        _offset: Offset,
        _max_bytes: usize,
        _at_least_one_batch: bool,
        _upto: ReadUpTo,
    ) -> Result<Read, ApiError> {
        unimplemented!()
    }

    /// Compares the leader epoch that a client knows with ours; -1 is not compared.
    ///
    /// # Errors
    /// `FENCED_LEADER_EPOCH` for an older one, `UNKNOWN_LEADER_EPOCH` for a newer one.
    pub fn check_leader_epoch(&self, _current_leader_epoch: LeaderEpoch) -> Result<(), ErrorCode> {
        unimplemented!()
    }

    /// The epoch under which this broker leads the partition.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        unimplemented!()
    }

    /// Starts a leader epoch. Older ones than the current are ignored.
    pub fn set_leader_epoch(&self, _epoch: LeaderEpoch) {
        unimplemented!()
    }

    /// Finds an offset; `None` where no record has such a timestamp.
    ///
    /// # Errors
    /// When the store can not be read.
    pub fn offset_for(&self, _query: OffsetQuery) -> Result<Option<FoundOffset>, ApiError> {
        unimplemented!()
    }

    /// The largest epoch that is at most `leader_epoch`, and the offset where it ends; (-1, -1)
    /// when no such epoch is known.
    pub fn epoch_end(&self, _leader_epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        unimplemented!()
    }

    /// Moves the log start to `before` (-1: the high watermark) and removes what lies below.
    /// Answers the new log start once it is stored.
    ///
    /// # Errors
    /// `OFFSET_OUT_OF_RANGE` above the high watermark.
    pub async fn delete_records(&self, _before: Offset) -> Result<Offset, ApiError> {
        unimplemented!()
    }

    /// The producers whose state is kept.
    pub fn producers(&self) -> Vec<ActiveProducer> {
        unimplemented!()
    }

    /// The size of the log in bytes, counted in whole segments as Kafka does.
    pub fn size_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// Whether the topic was deleted.
    pub fn is_deleted(&self) -> bool {
        unimplemented!()
    }

    /// Notifies `waiter` (one permit) at the next change of the high watermark, the log start,
    /// the leader epoch, or when the partition is deleted, and then forgets it.
    pub fn watch(&self, _waiter: &Arc<Notify>) {
        unimplemented!()
    }
}

/// An append on its way to the store. It is stored whether or not this is awaited.
#[derive(Debug)]
pub struct PendingAppend {}

impl PendingAppend {
    /// What it will be answered with, if the write succeeds.
    pub fn expected(&self) -> Appended {
        unimplemented!()
    }
}

impl Future for PendingAppend {
    type Output = Result<Appended, ApiError>;

    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Self::Output> {
        unimplemented!()
    }
}
