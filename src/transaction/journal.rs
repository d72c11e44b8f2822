//! Where a shard's records go: a partition of `__transaction_state`, and beside them in the same write the view, which
//! holds the last value of every key, so that loading does not depend on how long the log is. And where what follows
//! from them goes, once they are durable.

use std::sync::atomic::{AtomicI16, Ordering};
use std::sync::{Arc, Weak};

use futures_util::future::try_join_all;
use parking_lot::Mutex;
use tracing::{error, warn};

use super::coordinator::TransactionCoordinator;
use super::core::{Event, TransactionCore};
use super::record::{Record, decode_value, value};
use super::settings::TransactionSettings;
use crate::error::{ErrorCode, StorageError};
use crate::log::batch::BatchBuilder;
use crate::log::{Origin, Partition, PendingAppend as LogAppend};
use crate::shard::{Core, Journal, PendingAppend};
use crate::storage::{Durability, Key, KeyPrefix, Ops, Purpose, Store};
use crate::types::TimestampMs;

/// Records are cut into batches of about this size.
const BATCH_BYTES: usize = 256 * 1024;

/// Counts how often a shard's state was loaded: what an older state wanted to be done, the newer one sees to.
pub(super) type Generation = Arc<Mutex<u64>>;

/// The journal of one shard.
pub(super) struct TransactionJournal {
    partition: Arc<Partition>,
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
        store: Store,
        settings: Arc<TransactionSettings>,
        version: Arc<AtomicI16>,
        coordinator: Weak<TransactionCoordinator>,
    ) -> Self {
        Self { partition, store, settings, version, coordinator, generation: Generation::default() }
    }

    fn prefix(&self) -> KeyPrefix {
        KeyPrefix::TransactionalIds { state_partition: self.partition.index() }
    }

    /// Whether there is anything to load.
    pub(super) fn is_empty(&self) -> Result<bool, StorageError> {
        Ok(self.store.scan(&self.prefix()).next().transpose()?.is_none())
    }

    fn append_batch(&self, batch: BatchBuilder, view: Ops) -> Result<LogAppend, ErrorCode> {
        self.partition.append(batch.build(), Origin::Internal, view).map_err(|refused| {
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

impl Journal<TransactionCore> for TransactionJournal {
    fn load(&self) -> Result<TransactionCore, StorageError> {
        *self.generation.lock() += 1;
        if self.partition.offsets().log_end == 0 && !self.is_empty()? {
            // The topic was deleted and made again; its predecessor's transactional ids went with it.
            warn!(partition = self.partition.name(), "forgetting the transactional ids of a deleted topic");
            let mut ops = Ops::new();
            ops.delete_prefix(&self.prefix());
            self.store.commit_blocking(ops, Durability::Process)?;
        }
        let version = self.version.load(Ordering::Relaxed);
        let mut core = TransactionCore::new(Arc::clone(&self.settings), version);
        for entry in self.store.scan(&self.prefix()) {
            let (key, value) = entry?;
            let Key::TransactionalId { transactional_id, .. } = &key else {
                return Err(StorageError::Damaged(format!("{key:?} among the transactional ids")));
            };
            let damaged = |error| StorageError::Damaged(format!("{key:?}: {error}"));
            let transaction = decode_value(value).map_err(damaged)?;
            let transactional_id = transactional_id.as_str().into();
            core.replay(&Event::Record(Record { transactional_id, value: Some(transaction) }));
        }
        Ok(core)
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
            let view_key = Key::TransactionalId {
                state_partition: self.partition.index(),
                transactional_id: record.transactional_id.to_string(),
            };
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
        let epoch = self.partition.leader_epoch();
        let generation = Arc::clone(&self.generation);
        let (coordinator, number) = (self.coordinator.clone(), *generation.lock());
        let follow = move || {
            let Some(coordinator) = coordinator.upgrade() else { return };
            for event in follow {
                coordinator.follow(index, epoch, &generation, number, event);
            }
        };
        if pending.is_empty() {
            follow();
            return Ok(None);
        }
        let partition = Arc::clone(&self.partition);
        Ok(Some(Box::pin(async move {
            try_join_all(pending).await.map_err(|error| {
                error!(partition = partition.name(), %error, "transaction records could not be written");
                told_to_clients(error.code)
            })?;
            follow();
            Ok(())
        })))
    }

    fn check(&self, events: &[Event]) -> Result<(), ErrorCode> {
        let writes = events.iter().any(|event| matches!(event, Event::Record(_)));
        match self.store.refusal(Purpose::State) {
            Some(_) if writes => Err(told_to_clients(ErrorCode::KafkaStorageError)),
            Some(_) | None => Ok(()),
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
