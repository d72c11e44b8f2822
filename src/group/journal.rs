//! Where a shard's records go: a partition of `__consumer_offsets`, and beside them in the same write the view, which
//! holds the last value of every key, so that loading does not depend on how long the log is.

use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::future::try_join_all;
use tracing::{error, warn};

use super::cluster::ClusterView;
use super::consumer::record::ConsumerRecord;
use super::core::{Event, GroupCore};
use super::record::{Record, RecordError, decode_group, decode_offset};
use super::settings::GroupSettings;
use crate::error::{ErrorCode, StorageError};
use crate::log::batch::BatchBuilder;
use crate::log::{Origin, Partition, PendingAppend as LogAppend};
use crate::shard::{Journal, PendingAppend};
use crate::storage::{Durability, Key, KeyPrefix, Ops, Purpose};
use crate::types::TimestampMs;

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
        self.partition.append(batch.build(), Origin::Internal, view).map_err(|refused| {
            let reason = refused.message.unwrap_or_default();
            error!(partition = self.partition.name(), reason, "group records were refused");
            told_to_clients(refused.code)
        })
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
        for entry in self.store.scan(&self.prefix()) {
            let (key, value) = entry?;
            let damaged = |error: RecordError| StorageError::Damaged(format!("{key:?}: {error}"));
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
        let mut pending = Vec::new();
        let (mut batch, mut view) = (BatchBuilder::new(), Ops::new());
        for event in events {
            let Event::Record(record) = event else { continue };
            let (key, value) = record.encode().map_err(|error| {
                error!(partition = self.partition.name(), %error, "a group record can not be encoded");
                ErrorCode::UnknownServerError
            })?;
            batch = batch.record(now_ms, Some(&key), value.as_deref());
            let view_key = view_key(self.partition.index(), record);
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
        let writes = events.iter().any(|event| matches!(event, Event::Record(_)));
        match self.store.refusal(Purpose::State) {
            Some(_) if writes => Err(told_to_clients(ErrorCode::KafkaStorageError)),
            Some(_) | None => Ok(()),
        }
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
