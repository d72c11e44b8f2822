//! The transactions of a partition: where those without a marker start, which bounds what readers
//! of committed records see, and which were aborted, so that these readers can leave their records
//! out (Kafka's `ProducerStateManager`, `TransactionIndex`).
//!
//! What is needed to know the ongoing ones is part of what is stored of their producers. The aborted
//! ones are an index in the store, one small value each, written together with the marker.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::batch::{
    BatchBuilder, BatchView, CONTROL_ABORT, CONTROL_COMMIT, LOG_APPEND_TIME, TRANSACTIONAL, batch_length,
    control_key,
};
use super::partition::{Partition, PendingAppend};
use super::producers::{Producers, Verdict};
use super::types::{Acks, AppendError, Origin};
use super::validate::Valid;
use crate::error::{ErrorCode, StorageError};
use crate::storage::{Key, KeyPrefix, Ops, Store};
use crate::types::{Offset, PartitionId, ProducerEpoch, ProducerId, TimestampMs};

/// The version of a marker's value, and of an entry of the index.
const MARKER_VERSION: i16 = 0;
const INDEX_VERSION: u8 = 1;

/// How a producer's transaction ended (`EndTransactionMarker`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Marker {
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    /// The leader epoch of the coordinator's partition: fences older coordinators.
    pub coordinator_epoch: i32,
    /// Committed, or aborted.
    pub is_commit: bool,
    /// The level of `transaction.version` that the transaction was ended with; -1 where it is read
    /// from a log, which does not say.
    pub transaction_version: i16,
}

impl Marker {
    /// The marker in a control batch; `None` if it is another control record.
    pub fn of(batch: &BatchView) -> Option<Self> {
        let record = batch.records().ok()?.next()?.ok()?;
        let is_commit = match record.key {
            Some(key) if *key == control_key(CONTROL_COMMIT) => true,
            Some(key) if *key == control_key(CONTROL_ABORT) => false,
            Some(_) | None => return None,
        };
        let mut value = record.value?;
        let _version = value.try_get_i16().ok()?;
        let coordinator_epoch = value.try_get_i32().ok()?;
        Some(Self {
            producer_id: batch.producer_id(),
            producer_epoch: batch.producer_epoch(),
            coordinator_epoch,
            is_commit,
            transaction_version: -1,
        })
    }

    /// Whether the marker may end a transaction of a producer that is known with this epoch, whose last marker came
    /// from this epoch of a coordinator.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_EPOCH` for one that is late, `TRANSACTION_COORDINATOR_FENCED` for one of an older
    /// coordinator.
    pub fn check(
        &self,
        epoch: ProducerEpoch,
        coordinator_epoch: i32,
        in_transaction: bool,
    ) -> Result<(), ErrorCode> {
        // Since version 2 every transaction ends with a new epoch, so that one of the same is late.
        let bumps = self.transaction_version >= 2;
        let is_old = if bumps { self.producer_epoch <= epoch } else { self.producer_epoch < epoch };
        // The same marker again, after a restart of the coordinator, does no harm (KAFKA-19999); nor
        // does one for a producer whose epochs are used up.
        let is_repeated =
            bumps && self.producer_epoch == epoch && (!in_transaction || epoch == ProducerEpoch::MAX);
        if is_old && !is_repeated {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if coordinator_epoch > self.coordinator_epoch {
            return Err(ErrorCode::TransactionCoordinatorFenced);
        }
        Ok(())
    }

    fn batch(&self, timestamp: TimestampMs, attributes: i16) -> Bytes {
        let key = control_key(if self.is_commit { CONTROL_COMMIT } else { CONTROL_ABORT });
        let mut value = BytesMut::with_capacity(6);
        value.put_i16(MARKER_VERSION);
        value.put_i32(self.coordinator_epoch);
        BatchBuilder::new()
            .control()
            .attributes(TRANSACTIONAL | attributes)
            .producer(self.producer_id, self.producer_epoch, -1)
            .record(timestamp, Some(&key), Some(&value))
            .build()
    }
}

/// A transaction whose records are to be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: ProducerId,
    /// The transaction's first record.
    pub first_offset: Offset,
    /// Its marker.
    pub last_offset: Offset,
    /// Where the last stable offset was once the transaction had ended: no later one that was
    /// aborted begins before it.
    pub last_stable: Offset,
}

impl AbortedTransaction {
    /// Value of [`Key::AbortedTransaction`]: version u8, producer id i64, first offset i64, last
    /// stable offset i64.
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(25);
        out.put_u8(INDEX_VERSION);
        out.put_i64(self.producer_id);
        out.put_i64(self.first_offset);
        out.put_i64(self.last_stable);
        out.freeze()
    }

    fn decode(last_offset: Offset, mut value: &[u8]) -> Option<Self> {
        if value.len() != 25 || value.get_u8() != INDEX_VERSION {
            return None;
        }
        Some(Self {
            producer_id: value.get_i64(),
            first_offset: value.get_i64(),
            last_offset,
            last_stable: value.get_i64(),
        })
    }
}

/// The transactions of a partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Transactions {
    /// Those without a marker, by where they start.
    ongoing: BTreeMap<Offset, ProducerId>,
    /// Those whose marker is not below the high watermark: where they start, and where it is.
    unreplicated: BTreeMap<Offset, Offset>,
    /// No marker of an aborted one lies here or behind.
    aborted_below: Offset,
}

impl Transactions {
    pub(super) fn begin(&mut self, first_offset: Offset, producer_id: ProducerId) {
        self.ongoing.insert(first_offset, producer_id);
    }

    /// Ends a transaction. Answers where the last stable offset will be when the marker is stored.
    pub(super) fn end(&mut self, first_offset: Offset, marker: Offset) -> Offset {
        self.ongoing.remove(&first_offset);
        self.unreplicated.insert(first_offset, marker);
        self.ongoing.first_key_value().map_or(marker + 1, |(first_offset, _)| *first_offset)
    }

    /// Takes note of one that has ended, as it was stored; [`Self::on_high_watermark`] has to follow.
    pub(super) fn load_ended(&mut self, first_offset: Offset, marker: Offset) {
        self.unreplicated.insert(first_offset, marker);
    }

    /// Whether one that has ended starts here, and its marker is not below the high watermark.
    pub(super) fn is_unreplicated(&self, first_offset: Offset) -> bool {
        self.unreplicated.contains_key(&first_offset)
    }

    /// The one that starts here, if it is such a one.
    pub(super) fn ended(&self, first_offset: Offset) -> Option<(Offset, Offset)> {
        self.unreplicated.get(&first_offset).map(|marker| (first_offset, *marker))
    }

    /// Everything below is stored for good.
    pub(super) fn on_high_watermark(&mut self, high_watermark: Offset) {
        if !self.unreplicated.is_empty() {
            self.unreplicated.retain(|_, marker| *marker >= high_watermark);
        }
    }

    /// Where the first transaction starts that is not known to be over.
    pub(super) fn first_unstable(&self) -> Option<Offset> {
        let ongoing = self.ongoing.first_key_value().map(|(first_offset, _)| *first_offset);
        let unreplicated = self.unreplicated.first_key_value().map(|(first_offset, _)| *first_offset);
        ongoing.into_iter().chain(unreplicated).min()
    }

    pub(super) fn add_aborted(
        &mut self,
        aborted: &AbortedTransaction,
        partition: PartitionId,
        ops: &mut Ops,
    ) {
        self.aborted_below = aborted.last_offset + 1;
        ops.put(&Key::AbortedTransaction { partition, last_offset: aborted.last_offset }, aborted.encode());
    }

    /// Removes from the index what has its marker below the log start.
    pub(super) fn trim_aborted(&self, partition: PartitionId, log_start: Offset, ops: &mut Ops) {
        if self.aborted_below > 0 {
            let entry = |last_offset| Key::AbortedTransaction { partition, last_offset };
            ops.delete_range(&entry(0), &entry(log_start));
        }
    }

    /// Takes back what is at the log's new end or behind it. Those that are ongoing then have to [begin](Self::begin).
    pub(super) fn truncate(&mut self, end: Offset, partition: PartitionId, ops: &mut Ops) {
        self.ongoing.clear();
        self.unreplicated.retain(|_, marker| *marker < end);
        if self.aborted_below > end {
            let entry = |last_offset| Key::AbortedTransaction { partition, last_offset };
            ops.delete_range(&entry(end), &entry(Offset::MAX));
            self.aborted_below = end;
        }
    }

    /// Takes note of the index as it was stored, for a log that ends here.
    pub(super) fn load_aborted(&mut self, log_end: Offset) {
        self.aborted_below = log_end;
    }
}

/// The partitions that have an index, found by one look at each of them.
pub(super) fn partitions_with_aborted(store: &Store) -> Result<Vec<PartitionId>, StorageError> {
    let mut found = Vec::new();
    let mut from = Key::AbortedTransaction { partition: PartitionId(0), last_offset: 0 };
    loop {
        let first = store.scan_from(&from, &KeyPrefix::AbortedTransactions).next().transpose()?;
        let Some((Key::AbortedTransaction { partition, .. }, _)) = first else { break };
        found.push(partition);
        let Some(next) = partition.0.checked_add(1) else { break };
        from = Key::AbortedTransaction { partition: PartitionId(next), last_offset: 0 };
    }
    Ok(found)
}

impl Partition {
    /// Appends the marker that ends a producer's transaction, together with `extra` in the same
    /// atomic write.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_EPOCH` for a marker that is late, `TRANSACTION_COORDINATOR_FENCED` for one
    /// of an older coordinator, `NOT_ENOUGH_REPLICAS` where fewer are in sync than the topic wants.
    pub fn append_marker(
        self: &Arc<Self>,
        marker: &Marker,
        origin: Origin,
        extra: Ops,
    ) -> Result<PendingAppend, AppendError> {
        let now_ms = self.shared.clock.now_ms();
        let config = self.log_config();
        let (attributes, log_append_time) =
            if config.log_append_time { (LOG_APPEND_TIME, Some(now_ms)) } else { (0, None) };
        let batch = BatchView::trusted(marker.batch(now_ms, attributes));
        let check = |producers: &Producers, _: &BatchView| {
            producers.check_marker(marker, self.name()).map(|()| Verdict::Append)
        };
        let acks = match origin {
            // It waits by itself, with all that was written before.
            Origin::Coordinator { .. } => Acks::Leader,
            Origin::Client | Origin::Internal => Acks::InSync,
        };
        let terms = (origin, acks);
        self.enqueue(Valid { batch, log_append_time }, terms, extra, &config, now_ms, check)
    }

    /// The aborted transactions whose marker is at `from` or behind, and whose first record is
    /// before `to`, in the order of their markers.
    ///
    /// # Errors
    /// When the store can not be read.
    pub fn aborted_transactions(
        &self,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<AbortedTransaction>, StorageError> {
        let mut found = Vec::new();
        if from >= to || from >= self.inner.lock().producers.transactions.aborted_below {
            return Ok(found);
        }
        let partition = self.id();
        let start = Key::AbortedTransaction { partition, last_offset: from.max(0) };
        let prefix = KeyPrefix::AbortedTransactionsOf { partition };
        for entry in self.shared.store.scan_from(&start, &prefix) {
            let (key, value) = entry?;
            let Key::AbortedTransaction { last_offset, .. } = key else { break };
            let aborted = AbortedTransaction::decode(last_offset, &value);
            let aborted = aborted.ok_or_else(|| {
                StorageError::Damaged("an entry of the transaction index is cut".to_owned())
            })?;
            if aborted.first_offset < to {
                found.push(aborted);
            }
            if aborted.last_stable >= to {
                break;
            }
        }
        Ok(found)
    }

    /// What a reader of committed records must know of the batches that it got.
    pub(super) fn aborted_within(
        &self,
        from: Offset,
        batches: &[Bytes],
    ) -> Result<Vec<(ProducerId, Offset)>, StorageError> {
        let Some(end) = batches.last().and_then(|batches| end_of(batches)) else { return Ok(Vec::new()) };
        let aborted = self.aborted_transactions(from, end)?;
        Ok(aborted.into_iter().map(|aborted| (aborted.producer_id, aborted.first_offset)).collect())
    }
}

/// The offset behind the last of these batches.
fn end_of(batches: &[u8]) -> Option<Offset> {
    let (mut rest, mut end) = (batches, None);
    while let Ok(Some(length)) = batch_length(rest) {
        let base_offset = i64::from_be_bytes(rest.get(..8)?.try_into().ok()?);
        let last_offset_delta = i32::from_be_bytes(rest.get(23..27)?.try_into().ok()?);
        end = Some(base_offset.saturating_add(i64::from(last_offset_delta)).saturating_add(1));
        rest = rest.get(length..)?;
    }
    end
}
