//! Where a shard's records go: a partition of `__consumer_offsets`, and beside them in the same write the view, which
//! holds the last value of every key, so that loading does not depend on how long the log is.

use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::future::try_join_all;
use tracing::{error, warn};

use super::cluster::ClusterView;
use super::consumer::record::ConsumerRecord;
use super::core::{Event, GroupCore};
use super::record::{Record, RecordError, decode_group, decode_offset, offset_value};
use super::settings::GroupSettings;
use super::transactions::{OffsetKey, PendingOffset, TransactionEvent};
use crate::error::{ErrorCode, StorageError};
use crate::log::batch::{BatchBuilder, TRANSACTIONAL};
use crate::log::{AppendError, Origin, Partition, PendingAppend as LogAppend};
use crate::protocol::wire::EncodeError;
use crate::shard::{Journal, PendingAppend};
use crate::storage::{Durability, Key, KeyPrefix, Ops, Purpose};
use crate::types::{ProducerEpoch, ProducerId, TimestampMs};

/// Records are cut into batches of about this size, so that consumers of the topic need no large buffers.
const BATCH_BYTES: usize = 256 * 1024;

/// The journal of one shard.
pub(super) struct GroupJournal {
    partition: Arc<Partition>,
    store: crate::storage::Store,
    settings: Arc<GroupSettings>,
    cluster: Arc<ArcSwap<ClusterView>>,
}

impl GroupJournal {
    pub(super) fn new(
        partition: Arc<Partition>,
        store: crate::storage::Store,
        settings: Arc<GroupSettings>,
        cluster: Arc<ArcSwap<ClusterView>>,
    ) -> Self {
        Self { partition, store, settings, cluster }
    }

    fn prefix(&self) -> KeyPrefix {
        KeyPrefix::OffsetsPartition { offsets_partition: self.partition.index() }
    }

    /// Whether there is anything to load.
    pub(super) fn is_empty(&self) -> Result<bool, StorageError> {
        Ok(self.store.scan(&self.prefix()).next().transpose()?.is_none())
    }

    fn append_batch(&self, batch: BatchBuilder, view: Ops) -> Result<LogAppend, ErrorCode> {
        self.partition.append(batch.build(), Origin::Internal, view).map_err(|refused| self.refused(refused))
    }

    fn refused(&self, refused: AppendError) -> ErrorCode {
        let reason = refused.message.unwrap_or_default();
        error!(partition = self.partition.name(), reason, "group records were refused");
        told_to_clients(refused.code)
    }
}

impl Journal<GroupCore> for GroupJournal {
    fn load(&self) -> Result<GroupCore, StorageError> {
        if self.partition.offsets().log_end == 0 && !self.is_empty()? {
            // The topic was deleted and made again; its predecessor's groups went with it.
            warn!(partition = self.partition.name(), "forgetting the groups of a deleted topic");
            let mut ops = Ops::new();
            ops.delete_prefix(&self.prefix());
            self.store.commit_blocking(ops, Durability::Process)?;
        }
        let mut core = GroupCore::new(self.settings.clone(), self.cluster.load_full());
        self.partition.producers().iter().for_each(|producer| core.transactional.load_producer(producer));
        for entry in self.store.scan(&self.prefix()) {
            let (key, value) = entry?;
            let damaged = |error: RecordError| StorageError::Damaged(format!("{key:?}: {error}"));
            if let Key::PendingOffset { producer_id, group, topic, partition, .. } = &key {
                let pending = PendingOffset::decode(value).map_err(damaged)?;
                let (group_id, topic) = (group.as_str().into(), topic.as_str().into());
                let key = OffsetKey { group_id, topic, partition: *partition };
                core.load_pending(*producer_id, key, pending);
                continue;
            }
            let record = if let Key::Group { group, .. } = &key {
                let value = Some(decode_group(value).map_err(damaged)?);
                Record::Group { group_id: group.as_str().into(), value }
            } else if let Key::GroupOffset { group, topic, partition, .. } = &key {
                let value = Some(decode_offset(value).map_err(damaged)?);
                let (group_id, topic) = (group.as_str().into(), topic.as_str().into());
                Record::Offset { group_id, topic, partition: *partition, value }
            } else if let Key::GroupRecord { group, kind, item, .. } = &key {
                let record = ConsumerRecord::of_item((*kind).into(), group, item, Some(value));
                let unknown = || StorageError::Damaged(format!("{key:?} among the groups"));
                Record::Consumer(record.map_err(damaged)?.ok_or_else(unknown)?)
            } else {
                return Err(StorageError::Damaged(format!("{key:?} among the groups")));
            };
            crate::shard::Core::replay(&mut core, &Event::Record(record));
        }
        Ok(core)
    }

    fn append(&self, now_ms: TimestampMs, events: &[Event]) -> Result<Option<PendingAppend>, ErrorCode> {
        let mut batches = Batches::new(self, now_ms);
        for event in events {
            match event {
                Event::Record(record) => batches.add(record)?,
                Event::Transaction(event) => batches.add_transactional(event)?,
                Event::Classic { .. } | Event::Consumer { .. } | Event::Cluster(_) => {}
            }
        }
        let pending = batches.finish()?;
        if pending.is_empty() {
            return Ok(None);
        }
        let partition = self.partition.clone();
        Ok(Some(Box::pin(async move {
            try_join_all(pending).await.map(drop).map_err(|error| {
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
    pending: Vec<LogAppend>,
}

impl<'a> Batches<'a> {
    fn new(journal: &'a GroupJournal, now_ms: TimestampMs) -> Self {
        let (batch, view) = (BatchBuilder::new(), Ops::new());
        Self { journal, now_ms, producer: None, batch, view, pending: Vec::new() }
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
        let view_key = view_key(self.journal.partition.index(), record);
        match &value {
            Some(value) => self.view.put(&view_key, value.clone()),
            None => self.view.delete(&view_key),
        }
        self.push(&key, value.as_deref())
    }

    fn add_transactional(&mut self, event: &TransactionEvent) -> Result<(), ErrorCode> {
        let index = self.journal.partition.index();
        match event {
            TransactionEvent::Added { producer_id, producer_epoch, key, pending } => {
                self.begin(Some((*producer_id, *producer_epoch)))?;
                let record = key.record(pending.value.clone());
                let (record_key, value) = self.encoded(record.encode())?;
                let pending = self.encoded(pending.encode())?;
                self.view.put(&key.view_key(index, *producer_id), pending);
                self.push(&record_key, value.as_deref())
            }
            TransactionEvent::Superseded { producer_id, key, number } => {
                let pending = self.encoded(PendingOffset { number: *number, value: None }.encode())?;
                self.view.put(&key.view_key(index, *producer_id), pending);
                Ok(())
            }
            TransactionEvent::Dropped { producer_id, key } => {
                self.view.delete(&key.view_key(index, *producer_id));
                Ok(())
            }
            TransactionEvent::Ended { marker, committed, decided } => {
                self.flush()?;
                for (key, value) in committed {
                    let record = key.record(Some(value.clone()));
                    let value = self.encoded(offset_value(value))?;
                    self.view.put(&view_key(index, &record), value);
                }
                for key in decided {
                    self.view.delete(&key.view_key(index, marker.producer_id));
                }
                let view = std::mem::take(&mut self.view);
                let pending = self.journal.partition.append_marker(marker, view);
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
        let batch = std::mem::take(&mut self.batch);
        self.batch = batch.record(self.now_ms, Some(key), value);
        if self.batch.size_bytes() >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Appends what there is. Changes of the view alone wait for the next records: they follow from some.
    fn flush(&mut self) -> Result<(), ErrorCode> {
        if self.batch.record_count() > 0 {
            let (batch, view) = (std::mem::take(&mut self.batch), std::mem::take(&mut self.view));
            self.pending.push(self.journal.append_batch(batch, view)?);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<LogAppend>, ErrorCode> {
        self.flush()?;
        if !self.view.is_empty() {
            let view = std::mem::take(&mut self.view);
            drop(self.journal.store.commit(view, Durability::Process));
        }
        Ok(self.pending)
    }
}

fn view_key(offsets_partition: i32, record: &Record) -> Key {
    match record {
        Record::Offset { group_id, topic, partition, .. } => Key::GroupOffset {
            offsets_partition,
            group: group_id.to_string(),
            topic: topic.to_string(),
            partition: *partition,
        },
        Record::Group { group_id, .. } => Key::Group { offsets_partition, group: group_id.to_string() },
        Record::Consumer(record) => {
            let (kind, item) = record.kind_and_item();
            Key::GroupRecord {
                offsets_partition,
                group: record.group_id.to_string(),
                // Kafka's types of group records are small numbers.
                kind: u8::try_from(kind).unwrap_or_default(),
                item: item.to_owned(),
            }
        }
    }
}

/// What clients are told of a failed append (`CoordinatorOperationExceptionHelper`): codes that make them look for the
/// coordinator again, not those of a producer.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other codes mean the same to everybody")]
fn told_to_clients(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::UnknownTopicOrPartition | ErrorCode::NotEnoughReplicas | ErrorCode::RequestTimedOut => {
            ErrorCode::CoordinatorNotAvailable
        }
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge | ErrorCode::InvalidFetchSize => {
            ErrorCode::UnknownServerError
        }
        other => other,
    }
}
