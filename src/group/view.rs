//! The state of groups beside their log: the last value of every key.

use bytes::Bytes;

use super::core::{Event, GroupCore};
use super::record::{Record, RecordError, decode_group, decode_offset, offset_value};
use super::transactions::{OffsetKey, PendingOffset, TransactionEvent};
use crate::error::StorageError;
use crate::protocol::wire::EncodeError;
use crate::shard::Core;
use crate::storage::{Key, KeyPrefix, Ops};

/// The view of one partition of `__consumer_offsets`.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) offsets_partition: i32,
}

impl View {
    /// Every key of it.
    pub(super) fn prefix(self) -> KeyPrefix {
        KeyPrefix::OffsetsPartition { offsets_partition: self.offsets_partition }
    }

    /// Takes an entry over into the state.
    pub(super) fn load(self, core: &mut GroupCore, key: &Key, value: Bytes) -> Result<(), StorageError> {
        let damaged = |error: RecordError| StorageError::Damaged(format!("{key:?}: {error}"));
        if let Key::PendingOffset { producer_id, group, topic, partition, .. } = key {
            let pending = PendingOffset::decode(value).map_err(damaged)?;
            let (group_id, topic) = (group.as_str().into(), topic.as_str().into());
            let key = OffsetKey { group_id, topic, partition: *partition };
            core.load_pending(*producer_id, key, pending);
            return Ok(());
        }
        let record = if let Key::Group { group, .. } = key {
            let value = Some(decode_group(value).map_err(damaged)?);
            Record::Group { group_id: group.as_str().into(), value }
        } else if let Key::GroupOffset { group, topic, partition, .. } = key {
            let value = Some(decode_offset(value).map_err(damaged)?);
            let (group_id, topic) = (group.as_str().into(), topic.as_str().into());
            Record::Offset { group_id, topic, partition: *partition, value }
        } else if let Key::GroupRecord { group, kind, item, .. } = key {
            let record = Record::of_item((*kind).into(), group, item, value).map_err(damaged)?;
            record.ok_or_else(|| StorageError::Damaged(format!("{key:?} among the groups")))?
        } else {
            return Err(StorageError::Damaged(format!("{key:?} among the groups")));
        };
        core.replay(&Event::Record(record));
        Ok(())
    }

    /// Takes a record over into the view, whose value has these bytes.
    pub(super) fn put(self, view: &mut Ops, record: &Record, value: Option<Bytes>) {
        let key = self.key(record);
        match value {
            Some(value) => view.put(&key, value),
            None => view.delete(&key),
        }
    }

    /// Takes what an event does to the offsets of open transactions over into the view.
    pub(super) fn put_transactional(
        self,
        view: &mut Ops,
        event: &TransactionEvent,
    ) -> Result<(), EncodeError> {
        let index = self.offsets_partition;
        match event {
            TransactionEvent::Added { producer_id, key, pending, .. } => {
                view.put(&key.view_key(index, *producer_id), pending.encode()?);
            }
            TransactionEvent::Superseded { producer_id, key, number } => {
                let pending = PendingOffset { number: *number, value: None };
                view.put(&key.view_key(index, *producer_id), pending.encode()?);
            }
            TransactionEvent::Dropped { producer_id, key } => {
                view.delete(&key.view_key(index, *producer_id));
            }
            TransactionEvent::Ended { marker, committed, decided } => {
                for (key, value) in committed {
                    self.put(view, &key.record(Some(value.clone())), Some(offset_value(value)?));
                }
                for key in decided {
                    view.delete(&key.view_key(index, marker.producer_id));
                }
            }
            TransactionEvent::Forgotten(_) => {}
        }
        Ok(())
    }

    fn key(self, record: &Record) -> Key {
        let offsets_partition = self.offsets_partition;
        match record {
            Record::Offset { group_id, topic, partition, .. } => Key::GroupOffset {
                offsets_partition,
                group: group_id.to_string(),
                topic: topic.to_string(),
                partition: *partition,
            },
            Record::Group { group_id, .. } => Key::Group { offsets_partition, group: group_id.to_string() },
            Record::Consumer(record) => self.item_key(&record.group_id, record.kind_and_item()),
            Record::Share(record) => self.item_key(&record.group_id, record.kind_and_item()),
            Record::Streams(record) => self.item_key(&record.group_id, record.kind_and_item()),
        }
    }

    fn item_key(self, group_id: &str, (kind, item): (i16, Option<&str>)) -> Key {
        Key::GroupRecord {
            offsets_partition: self.offsets_partition,
            group: group_id.to_owned(),
            // Kafka's types of group records are small numbers.
            kind: u8::try_from(kind).unwrap_or_default(),
            item: item.unwrap_or_default().to_owned(),
        }
    }
}
