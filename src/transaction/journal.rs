//! Where a shard's records go: a partition of `__transaction_state`, and beside them in the same write the view, which
//! holds the last value of every key, so that loading does not depend on how long the log is. And where what follows
//! from them goes, once they are durable.

use std::sync::atomic::{AtomicI16, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use tracing::{error, warn};

use super::coordinator::TransactionCoordinator;
use super::core::{Event, TransactionCore};
use super::record::{Record, decode_value, value};
use super::settings::TransactionSettings;
use crate::error::{ErrorCode, StorageError};
use crate::log::batch::{BatchBuilder, BatchView};
use crate::log::{Acks, Origin, Partition, PendingAppend as LogAppend};
use crate::shard::{Core, Journal, Loaded, Materialised, PendingAppend, committed, damaged, load};
use crate::storage::{Key, KeyPrefix, Ops, Purpose, Store};
use crate::types::{LeaderEpoch, TimestampMs};

/// Records are cut into batches of about this size.
const BATCH_BYTES: usize = 256 * 1024;

/// Counts how often a shard's state was loaded: what an older state wanted to be done, the newer one sees to.
pub(super) type Generation = Arc<Mutex<u64>>;

/// The journal of one shard.
pub(super) struct TransactionJournal {
    partition: Arc<Partition>,
    leader_epoch: LeaderEpoch,
    store: Store,
    settings: Arc<TransactionSettings>,
    /// The cluster's level of `transaction.version`.
    version: Arc<AtomicI16>,
    coordinator: Weak<TransactionCoordinator>,
    generation: Generation,
}

impl TransactionJournal {
    pub(super) fn new(
        partition: Arc<Partition>,
        leader_epoch: LeaderEpoch,
        store: Store,
        settings: Arc<TransactionSettings>,
        version: Arc<AtomicI16>,
        coordinator: Weak<TransactionCoordinator>,
    ) -> Self {
        let generation = Generation::default();
        Self { partition, leader_epoch, store, settings, version, coordinator, generation }
    }

    fn append_batch(&self, batch: BatchBuilder, view: Ops) -> Result<LogAppend, ErrorCode> {
        let origin = Origin::Coordinator { leader_epoch: self.leader_epoch };
        self.partition.append_with(batch.build(), (origin, Acks::InSync), view, None).map_err(|refused| {
            let reason = refused.message.unwrap_or_default();
            error!(partition = self.partition.name(), reason, "transaction records were refused");
            told_to_clients(refused.code)
        })
    }

    fn encode(&self, record: &Record) -> Result<(bytes::Bytes, Option<bytes::Bytes>), ErrorCode> {
        let version = self.version.load(Ordering::Relaxed);
        let encoded = record.key().and_then(|key| {
            let value = record.value.as_ref().map(|transaction| value(transaction, version));
            Ok((key, value.transpose()?))
        });
        encoded.map_err(|error| {
            error!(partition = self.partition.name(), %error, "a transaction record can not be encoded");
            ErrorCode::UnknownServerError
        })
    }
}

impl TransactionJournal {
    fn view_key(&self, transactional_id: &str) -> Key {
        let transactional_id = transactional_id.to_owned();
        Key::TransactionalId { state_partition: self.partition.index(), transactional_id }
    }
}

impl Materialised<TransactionCore> for TransactionJournal {
    fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    fn store(&self) -> &Store {
        &self.store
    }

    fn view(&self) -> KeyPrefix {
        KeyPrefix::TransactionalIds { state_partition: self.partition.index() }
    }

    fn empty(&self) -> TransactionCore {
        TransactionCore::new(Arc::clone(&self.settings), self.version.load(Ordering::Relaxed))
    }

    fn load_entry(&self, core: &mut TransactionCore, key: &Key, value: Bytes) -> Result<(), StorageError> {
        let Key::TransactionalId { transactional_id, .. } = key else {
            return Err(StorageError::Damaged(format!("{key:?} among the transactional ids")));
        };
        let damaged = |error| StorageError::Damaged(format!("{key:?}: {error}"));
        let transaction = decode_value(value).map_err(damaged)?;
        let transactional_id = transactional_id.as_str().into();
        core.replay(&Event::Record(Record { transactional_id, value: Some(transaction) }));
        Ok(())
    }

    fn replay_batch(
        &self,
        core: &mut TransactionCore,
        batch: &BatchView,
        view: &mut Ops,
    ) -> Result<(), StorageError> {
        if batch.is_control() {
            return Ok(());
        }
        let at = batch.base_offset();
        for record in batch.records().map_err(|error| damaged(&self.partition, at, &error))? {
            let record = record.map_err(|error| damaged(&self.partition, at, &error))?;
            let Some(key) = record.key else { continue };
            let decoded = Record::decode(key, record.value.clone());
            match decoded.map_err(|error| damaged(&self.partition, record.offset, &error))? {
                Some(decoded) => {
                    let view_key = self.view_key(&decoded.transactional_id);
                    match record.value {
                        Some(value) => view.put(&view_key, value),
                        None => view.delete(&view_key),
                    }
                    core.replay(&Event::Record(decoded));
                }
                None => warn!(
                    partition = self.partition.name(),
                    offset = record.offset,
                    "a record of an unknown type is left alone"
                ),
            }
        }
        Ok(())
    }
}

impl Journal<TransactionCore> for TransactionJournal {
    fn load(&self) -> Result<Loaded<TransactionCore>, StorageError> {
        *self.generation.lock() += 1;
        load(self)
    }

    fn close(&self) {
        *self.generation.lock() += 1;
    }

    fn append(&self, now_ms: TimestampMs, events: &[Event]) -> Result<Option<PendingAppend>, ErrorCode> {
        let mut pending = Vec::new();
        let mut follow = Vec::new();
        let (mut batch, mut view) = (BatchBuilder::new(), Ops::new());
        for event in events {
            let Event::Record(record) = event else {
                follow.push(event.clone());
                continue;
            };
            let (key, value) = self.encode(record)?;
            batch = batch.record(now_ms, Some(&key), value.as_deref());
            let view_key = self.view_key(&record.transactional_id);
            match value {
                Some(value) => view.put(&view_key, value),
                None => view.delete(&view_key),
            }
            if batch.size_bytes() >= BATCH_BYTES {
                pending.push(self.append_batch(std::mem::take(&mut batch), std::mem::take(&mut view))?);
            }
        }
        if batch.record_count() > 0 {
            pending.push(self.append_batch(batch, view)?);
        }
        let index = self.partition.index();
        let epoch = self.leader_epoch;
        let generation = Arc::clone(&self.generation);
        let (coordinator, number) = (self.coordinator.clone(), *generation.lock());
        let follow = move || {
            let Some(coordinator) = coordinator.upgrade() else { return };
            for event in follow {
                coordinator.follow(index, epoch, &generation, number, event);
            }
        };
        let partition = Arc::clone(&self.partition);
        if pending.is_empty() {
            let offsets = partition.offsets();
            if offsets.high_watermark >= offsets.log_end {
                follow();
                return Ok(None);
            }
            // What a state that was just loaded wants was decided before.
            return Ok(Some(Box::pin(async move {
                committed(&partition, epoch, offsets.log_end).await.map_err(told_to_clients)?;
                follow();
                Ok(())
            })));
        }
        Ok(Some(Box::pin(async move {
            let written = try_join_all(pending.into_iter().map(LogAppend::committed)).await;
            written.map_err(|error| {
                error!(partition = partition.name(), %error, "transaction records could not be written");
                told_to_clients(error.code)
            })?;
            follow();
            Ok(())
        })))
    }

    fn check(&self, events: &[Event]) -> Result<(), ErrorCode> {
        if !events.iter().any(|event| matches!(event, Event::Record(_))) {
            return Ok(());
        }
        if self.store.refusal(Purpose::State).is_some() {
            return Err(told_to_clients(ErrorCode::KafkaStorageError));
        }
        match self.partition.may_append_in_sync() {
            Ok(()) => Ok(()),
            Err(refused) => Err(told_to_clients(refused.code)),
        }
    }
}

/// What clients are told of a failed append: codes that make them look for the coordinator again.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other codes mean the same to everybody")]
fn told_to_clients(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => ErrorCode::UnknownServerError,
        other => other,
    }
}
