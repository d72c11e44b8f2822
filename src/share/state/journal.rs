//! Where a shard's records go: a partition of `__share_group_state`, from which the state is loaded too. And which of
//! them nobody needs any more (`ShareCoordinatorOffsetsManager`).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use futures_util::future::try_join_all;
use parking_lot::Mutex;
use tracing::{error, warn};

use super::coordinator::ShareCoordinator;
use super::core::{Event, ShareStateCore};
use super::record::{Record, Value};
use super::settings::ShareCoordinatorSettings;
use crate::error::{ErrorCode, StorageError};
use crate::log::batch::{BatchBuilder, BatchView};
use crate::log::{Acks, Origin, Partition, PendingAppend as LogAppend};
use crate::shard::{Core, Journal, Loaded, PendingAppend, damaged, load_log};
use crate::share::types::SharePartition;
use crate::storage::{Ops, Purpose, Store};
use crate::types::{LeaderEpoch, Offset, TimestampMs};

/// Records are cut into batches of about this size.
const BATCH_BYTES: usize = 256 * 1024;

/// From where on the log is needed: the oldest of the last snapshots of all share partitions.
#[derive(Debug, Default)]
pub(super) struct Needed {
    snapshots: HashMap<SharePartition, Offset>,
    by_offset: BTreeMap<Offset, SharePartition>,
    from: Offset,
}

impl Needed {
    /// Takes a record at an offset into account.
    pub(super) fn observe(&mut self, record: &Record, offset: Offset) {
        if matches!(record.value, Value::Update(_)) {
            return;
        }
        let of = &record.of;
        if let Some(before) = self.snapshots.insert(of.clone(), offset) {
            self.by_offset.remove(&before);
        }
        self.by_offset.insert(offset, of.clone());
        self.from = self.by_offset.first_key_value().map_or(self.from, |(first, _)| *first);
        if record.value == Value::Deleted {
            self.snapshots.remove(of);
            self.by_offset.remove(&offset);
        }
    }

    /// The first record that is needed; 0 where all are.
    pub(super) fn from(&self) -> Offset {
        self.from
    }
}

/// The journal of one shard.
pub(super) struct ShareStateJournal {
    partition: Arc<Partition>,
    leader_epoch: LeaderEpoch,
    store: Store,
    settings: Arc<ShareCoordinatorSettings>,
    coordinator: Weak<ShareCoordinator>,
    needed: Mutex<Needed>,
}

impl ShareStateJournal {
    pub(super) fn new(
        partition: Arc<Partition>,
        leader_epoch: LeaderEpoch,
        store: Store,
        settings: Arc<ShareCoordinatorSettings>,
        coordinator: Weak<ShareCoordinator>,
    ) -> Self {
        Self { partition, leader_epoch, store, settings, coordinator, needed: Mutex::default() }
    }

    fn append_batch(&self, batch: BatchBuilder, records: &[&Record]) -> Result<LogAppend, ErrorCode> {
        let origin = Origin::Coordinator { leader_epoch: self.leader_epoch };
        let appended = self.partition.append_with(
            batch.compression(self.settings.compression).build(),
            (origin, Acks::InSync),
            Ops::new(),
            None,
        );
        let pending = appended.map_err(|refused| {
            let reason = refused.message.unwrap_or_default();
            error!(partition = self.partition.name(), reason, "share state records were refused");
            told_to_clients(refused.code)
        })?;
        let mut needed = self.needed.lock();
        for (record, offset) in records.iter().zip(pending.expected().base_offset..) {
            needed.observe(record, offset);
        }
        Ok(pending)
    }

    fn replay_batch(&self, core: &mut ShareStateCore, batch: &BatchView) -> Result<(), StorageError> {
        if batch.is_control() {
            return Ok(());
        }
        let at = batch.base_offset();
        for record in batch.records().map_err(|error| damaged(&self.partition, at, &error))? {
            let record = record.map_err(|error| damaged(&self.partition, at, &error))?;
            let Some(key) = record.key else { continue };
            let decoded = Record::decode(key, record.value);
            match decoded.map_err(|error| damaged(&self.partition, record.offset, &error))? {
                Some(decoded) => {
                    self.needed.lock().observe(&decoded, record.offset);
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

impl Journal<ShareStateCore> for ShareStateJournal {
    fn load(&self) -> Result<Loaded<ShareStateCore>, StorageError> {
        *self.needed.lock() = Needed::default();
        let core = ShareStateCore::new(Arc::clone(&self.settings));
        let bytes = self.settings.load_buffer_bytes;
        load_log((&self.partition, self.leader_epoch), &self.store, bytes, core, |core, batch| {
            self.replay_batch(core, batch)
        })
    }

    fn append(&self, now_ms: TimestampMs, events: &[Event]) -> Result<Option<PendingAppend>, ErrorCode> {
        let mut pending = Vec::new();
        let (mut batch, mut records) = (BatchBuilder::new(), Vec::new());
        let mut prunes = false;
        for event in events {
            let Event::Record(record) = event else {
                prunes = true;
                continue;
            };
            let encoded = record.key().and_then(|key| Ok((key, record.value()?)));
            let (key, value) = encoded.map_err(|error| {
                error!(partition = self.partition.name(), %error, "a share state record can not be encoded");
                ErrorCode::UnknownServerError
            })?;
            batch = batch.record(now_ms, Some(&key), value.as_deref());
            records.push(record);
            if batch.size_bytes() >= BATCH_BYTES {
                pending.push(self.append_batch(std::mem::take(&mut batch), &records)?);
                records.clear();
            }
        }
        if batch.record_count() > 0 {
            pending.push(self.append_batch(batch, &records)?);
        }
        let needed_from = self.needed.lock().from();
        if prunes && let Some(coordinator) = self.coordinator.upgrade() {
            coordinator.prune(Arc::clone(&self.partition), self.leader_epoch, needed_from);
        }
        if pending.is_empty() {
            return Ok(None);
        }
        let partition = Arc::clone(&self.partition);
        Ok(Some(Box::pin(async move {
            let written = try_join_all(pending.into_iter().map(LogAppend::committed)).await;
            written.map(|_| ()).map_err(|error| {
                error!(partition = partition.name(), %error, "share state records could not be written");
                told_to_clients(error.code)
            })
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

/// What callers are told of a failed append: codes that make them look for the coordinator again.
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
