//! Where a shard's records go: a partition of `__consumer_offsets`, and beside them in the same write the view.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::try_join_all;
use tracing::{error, warn};

use super::cluster::ClusterView;
use super::core::{Event, GroupCore};
use super::record::Record;
use super::settings::GroupSettings;
use super::transactions::TransactionEvent;
use super::view::View;
use crate::error::{ErrorCode, StorageError};
use crate::log::batch::{BatchBuilder, BatchView, TRANSACTIONAL};
use crate::log::{AppendError, Marker, Origin, Partition, PendingAppend as LogAppend};
use crate::protocol::wire::EncodeError;
use crate::shard::{Core, Journal, Loaded, Materialised, PendingAppend, damaged, load};
use crate::storage::{Durability, Key, KeyPrefix, Ops, Purpose, Store};
use crate::types::{LeaderEpoch, ProducerEpoch, ProducerId, TimestampMs};

/// Records are cut into batches of about this size, so that consumers of the topic need no large buffers.
const BATCH_BYTES: usize = 256 * 1024;

/// The journal of one shard.
pub(super) struct GroupJournal {
    partition: Arc<Partition>,
    leader_epoch: LeaderEpoch,
    store: Store,
    settings: Arc<GroupSettings>,
    cluster: Arc<ArcSwap<ClusterView>>,
    view: View,
}

impl GroupJournal {
    pub(super) fn new(
        partition: Arc<Partition>,
        leader_epoch: LeaderEpoch,
        store: Store,
        settings: Arc<GroupSettings>,
        cluster: Arc<ArcSwap<ClusterView>>,
    ) -> Self {
        let view = View { offsets_partition: partition.index() };
        Self { partition, leader_epoch, store, settings, cluster, view }
    }

    fn origin(&self) -> Origin {
        Origin::Coordinator { leader_epoch: self.leader_epoch }
    }

    fn append_batch(&self, batch: BatchBuilder, view: Ops) -> Result<LogAppend, ErrorCode> {
        self.partition.append(batch.build(), self.origin(), view).map_err(|refused| self.refused(refused))
    }

    fn refused(&self, refused: AppendError) -> ErrorCode {
        let reason = refused.message.unwrap_or_default();
        error!(partition = self.partition.name(), reason, "group records were refused");
        told_to_clients(refused.code)
    }

    /// Takes what follows from the log over into state and view.
    fn replay(&self, core: &mut GroupCore, events: Vec<Event>, view: &mut Ops) -> Result<(), EncodeError> {
        for event in events {
            match &event {
                Event::Record(record) => self.view.put(view, record, record.encode()?.1),
                Event::Transaction(event) => self.view.put_transactional(view, event)?,
                Event::Classic { .. }
                | Event::Consumer { .. }
                | Event::Share { .. }
                | Event::Streams { .. }
                | Event::Cluster(_) => {}
            }
            core.replay(&event);
        }
        Ok(())
    }
}

impl Materialised<GroupCore> for GroupJournal {
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
        self.view.prefix()
    }

    fn empty(&self) -> GroupCore {
        GroupCore::new(self.settings.clone(), self.cluster.load_full())
    }

    fn load_entry(&self, core: &mut GroupCore, key: &Key, value: Bytes) -> Result<(), StorageError> {
        self.view.load(core, key, value)
    }

    fn replay_batch(
        &self,
        core: &mut GroupCore,
        batch: &BatchView,
        view: &mut Ops,
    ) -> Result<(), StorageError> {
        let at = batch.base_offset();
        if batch.is_control() {
            let events = Marker::of(batch).map(|marker| core.ended(marker)).unwrap_or_default();
            return self.replay(core, events, view).map_err(|error| damaged(&self.partition, at, &error));
        }
        let producer = batch.is_transactional().then(|| (batch.producer_id(), batch.producer_epoch()));
        let records = batch.records().map_err(|error| damaged(&self.partition, at, &error))?;
        for record in records {
            let record = record.map_err(|error| damaged(&self.partition, at, &error))?;
            let Some(key) = record.key else { continue };
            match Record::decode(key, record.value) {
                Ok(Some(decoded)) => {
                    let events = core.replayed(decoded, producer);
                    let replayed = self.replay(core, events, view);
                    replayed.map_err(|error| damaged(&self.partition, record.offset, &error))?;
                }
                Ok(None) => warn!(
                    partition = self.partition.name(),
                    offset = record.offset,
                    "a record of an unknown type is left alone"
                ),
                Err(error) => return Err(damaged(&self.partition, record.offset, &error)),
            }
        }
        Ok(())
    }
}

impl Journal<GroupCore> for GroupJournal {
    fn load(&self) -> Result<Loaded<GroupCore>, StorageError> {
        let mut loaded = load(self)?;
        let log_end = u64::try_from(self.partition.offsets().log_end).unwrap_or_default();
        loaded.core.transactional.load_producers(&self.partition.producers(), log_end);
        Ok(loaded)
    }

    fn append(&self, now_ms: TimestampMs, events: &[Event]) -> Result<Option<PendingAppend>, ErrorCode> {
        let mut batches = Batches::new(self, now_ms);
        for event in events {
            match event {
                Event::Record(record) => batches.add(record)?,
                Event::Transaction(event) => batches.add_transactional(event)?,
                Event::Classic { .. }
                | Event::Consumer { .. }
                | Event::Share { .. }
                | Event::Streams { .. }
                | Event::Cluster(_) => {}
            }
        }
        let pending = batches.finish()?;
        if pending.is_empty() {
            return Ok(None);
        }
        let partition = self.partition.clone();
        Ok(Some(Box::pin(async move {
            let committed = try_join_all(pending.into_iter().map(LogAppend::committed)).await;
            committed.map(drop).map_err(|error| {
                error!(partition = partition.name(), %error, "group records could not be written");
                told_to_clients(error.code)
            })
        })))
    }

    fn check(&self, events: &[Event]) -> Result<(), ErrorCode> {
        let writes = events.iter().any(|event| matches!(event, Event::Record(_) | Event::Transaction(_)));
        match self.store.refusal(Purpose::State) {
            Some(_) if writes => Err(told_to_clients(ErrorCode::KafkaStorageError)),
            Some(_) | None => Ok(()),
        }
    }
}

/// The batches of one append: records of a transaction stand in batches of their producer.
struct Batches<'a> {
    journal: &'a GroupJournal,
    now_ms: TimestampMs,
    producer: Option<(ProducerId, ProducerEpoch)>,
    batch: BatchBuilder,
    view: Ops,
    /// Changes of the view that follow from the record that comes next.
    ahead: Ops,
    pending: Vec<LogAppend>,
}

impl<'a> Batches<'a> {
    fn new(journal: &'a GroupJournal, now_ms: TimestampMs) -> Self {
        let (batch, view, ahead) = (BatchBuilder::new(), Ops::new(), Ops::new());
        Self { journal, now_ms, producer: None, batch, view, ahead, pending: Vec::new() }
    }

    fn encoded<T>(&self, encoded: Result<T, EncodeError>) -> Result<T, ErrorCode> {
        encoded.map_err(|error| {
            error!(partition = self.journal.partition.name(), %error, "a group record can not be encoded");
            ErrorCode::UnknownServerError
        })
    }

    fn add(&mut self, record: &Record) -> Result<(), ErrorCode> {
        self.begin(None)?;
        let (key, value) = self.encoded(record.encode())?;
        self.journal.view.put(&mut self.view, record, value.clone());
        self.push(&key, value.as_deref())
    }

    fn add_transactional(&mut self, event: &TransactionEvent) -> Result<(), ErrorCode> {
        let view = self.journal.view;
        match event {
            TransactionEvent::Added { producer_id, producer_epoch, key, pending } => {
                self.begin(Some((*producer_id, *producer_epoch)))?;
                let record = key.record(pending.value.clone());
                let (record_key, value) = self.encoded(record.encode())?;
                let put = view.put_transactional(&mut self.view, event);
                self.encoded(put)?;
                self.push(&record_key, value.as_deref())
            }
            TransactionEvent::Superseded { .. } | TransactionEvent::Dropped { .. } => {
                let put = view.put_transactional(&mut self.ahead, event);
                self.encoded(put)
            }
            TransactionEvent::Ended { marker, .. } => {
                self.flush()?;
                let mut ops = std::mem::take(&mut self.ahead);
                let put = view.put_transactional(&mut ops, event);
                self.encoded(put)?;
                let pending = self.journal.partition.append_marker(marker, self.journal.origin(), ops);
                self.pending.push(pending.map_err(|refused| self.journal.refused(refused))?);
                Ok(())
            }
            TransactionEvent::Forgotten(_) => Ok(()),
        }
    }

    /// Goes on with records of this producer.
    fn begin(&mut self, producer: Option<(ProducerId, ProducerEpoch)>) -> Result<(), ErrorCode> {
        if self.producer != producer {
            self.flush()?;
            self.producer = producer;
        }
        if let Some((id, epoch)) = producer.filter(|_| self.batch.record_count() == 0) {
            self.batch = BatchBuilder::new().attributes(TRANSACTIONAL).producer(id, epoch, -1);
        }
        Ok(())
    }

    fn push(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), ErrorCode> {
        self.view.extend(std::mem::take(&mut self.ahead));
        let batch = std::mem::take(&mut self.batch);
        self.batch = batch.record(self.now_ms, Some(key), value);
        if self.batch.size_bytes() >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Appends what there is.
    fn flush(&mut self) -> Result<(), ErrorCode> {
        if self.batch.record_count() > 0 {
            let (batch, view) = (std::mem::take(&mut self.batch), std::mem::take(&mut self.view));
            self.pending.push(self.journal.append_batch(batch, view)?);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<LogAppend>, ErrorCode> {
        self.flush()?;
        if !self.ahead.is_empty() {
            drop(self.journal.store.commit(self.ahead, Durability::Process));
        }
        Ok(self.pending)
    }
}

/// What clients are told of a failed append (`CoordinatorOperationExceptionHelper`): codes that make them look for the
/// coordinator again, not those of a producer.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other codes mean the same to everybody")]
fn told_to_clients(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge | ErrorCode::InvalidFetchSize => {
            ErrorCode::UnknownServerError
        }
        other => other,
    }
}
