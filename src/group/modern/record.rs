//! The records of groups, in Kafka's own bytes (`GroupCoordinatorRecordHelpers`).
//!
//! Every kind has the same five, each with a type of its own, and some more. Their keys name the group, and a member of
//! it or something else where there are several.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::ModernGroup;
use crate::group::assignor::Partitions;
use crate::group::record::RecordError;
use crate::protocol::schema::{Schema, prefixed, schema, versioned};
use crate::protocol::wire::EncodeError;
use crate::types::TimestampMs;

/// The only version of the keys' bodies.
const KEY_VERSION: i16 = 0;
/// The only version of all these values.
const VALUE_VERSION: i16 = 0;

schema! {
    /// Which group.
    struct GroupKey, versions 0..=0, flexible 9.. {
        group_id: String,
    }
    /// Which member of a group, or which other item of it.
    struct ItemKey, versions 0..=0, flexible 9.. {
        group_id: String,
        item: String,
    }
    struct TargetEpochValue, versions 0..=0, flexible 0.. {
        assignment_epoch: i32,
        assignment_timestamp: i64 [tag 0, ignorable],
    }
    struct TargetPartitionsValue, versions 0..=0, flexible 0.. {
        topic_partitions: Vec<TopicPartitions>,
    }
    /// Partitions of a topic.
    pub(in crate::group) struct TopicPartitions {
        topic_id: Uuid,
        partitions: Vec<i32>,
    }
}

/// The numbers of the records that every kind of groups has.
#[derive(Clone, Copy, Debug)]
pub struct RecordTypes {
    /// The epoch of a group.
    pub epoch: i16,
    /// What a member is and wants.
    pub member: i16,
    /// The epoch of the target assignment.
    pub target_epoch: i16,
    /// What a member is to have.
    pub target: i16,
    /// What a member has.
    pub current: i16,
}

/// A change of a group that lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRecord<G: ModernGroup> {
    pub group_id: Arc<str>,
    pub body: Body<G>,
}

/// What a [`GroupRecord`] says. `None` deletes what the record names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<G: ModernGroup> {
    Epoch(Option<G::Epoch>),
    Member {
        member_id: Arc<str>,
        value: Option<G::Metadata>,
    },
    TargetEpoch(Option<TargetEpoch>),
    Target {
        member_id: Arc<str>,
        value: Option<Arc<G::Target>>,
    },
    Current {
        member_id: Arc<str>,
        value: Option<G::Current>,
    },
    /// Something that only groups of this kind have.
    Own(G::Own),
}

/// The epoch of a group, and of what it is subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupEpoch {
    pub epoch: i32,
    pub metadata_hash: i64,
}

/// The epoch for which the target assignment was computed, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetEpoch {
    pub epoch: i32,
    /// 0 where it is not known.
    pub assigned_at_ms: TimestampMs,
}

/// The value of a record of groups of the kind `G`.
pub trait Value<G>: Sized + Clone + Debug + Eq {
    /// The value's bytes.
    ///
    /// # Errors
    /// It does not fit into a record.
    fn encode(&self) -> Result<Bytes, EncodeError>;

    /// Reads a value's bytes.
    ///
    /// # Errors
    /// Nobody writes such bytes.
    fn decode(bytes: Bytes) -> Result<Self, RecordError>;
}

/// What records of one kind of groups say that those of other kinds do not.
pub trait OwnRecord: Sized + Clone + Debug + Eq {
    /// Whether records of this type are about one of several items of the group; `None` for a type that is not of these.
    fn has_item(kind: i16) -> Option<bool>;

    /// The type of the record, and which item of the group it is about.
    fn kind_and_item(&self) -> (i16, Option<&str>);

    /// Whether the record deletes what it names.
    fn is_tombstone(&self) -> bool;

    /// The value's bytes.
    ///
    /// # Errors
    /// It does not fit into a record.
    fn encode(&self) -> Result<Option<Bytes>, EncodeError>;

    /// Reads a value's bytes, of a type that is one of these.
    ///
    /// # Errors
    /// Nobody writes such bytes.
    fn decode(kind: i16, item: &str, value: Option<Bytes>) -> Result<Self, RecordError>;
}

impl<G: ModernGroup> GroupRecord<G> {
    /// The type of the record, and which item of the group it is about.
    pub fn kind_and_item(&self) -> (i16, Option<&str>) {
        let types = G::RECORD_TYPES;
        match &self.body {
            Body::Epoch(_) => (types.epoch, None),
            Body::Member { member_id, .. } => (types.member, Some(member_id)),
            Body::TargetEpoch(_) => (types.target_epoch, None),
            Body::Target { member_id, .. } => (types.target, Some(member_id)),
            Body::Current { member_id, .. } => (types.current, Some(member_id)),
            Body::Own(own) => own.kind_and_item(),
        }
    }

    /// Whether the record deletes what it names.
    pub fn is_tombstone(&self) -> bool {
        match &self.body {
            Body::Epoch(value) => value.is_none(),
            Body::Member { value, .. } => value.is_none(),
            Body::TargetEpoch(value) => value.is_none(),
            Body::Target { value, .. } => value.is_none(),
            Body::Current { value, .. } => value.is_none(),
            Body::Own(own) => own.is_tombstone(),
        }
    }

    /// Key and value as Kafka writes them.
    ///
    /// # Errors
    /// The value does not fit into a record.
    pub fn encode(&self) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        let group_id = self.group_id.to_string();
        let key = match self.kind_and_item() {
            (kind, None) => prefixed(kind, &GroupKey { group_id, ..GroupKey::default() }, KEY_VERSION)?,
            (kind, Some(item)) => prefixed(
                kind,
                &ItemKey { group_id, item: item.to_owned(), ..ItemKey::default() },
                KEY_VERSION,
            )?,
        };
        let value = match &self.body {
            Body::Epoch(value) => value.as_ref().map(Value::encode).transpose()?,
            Body::Member { value, .. } => value.as_ref().map(Value::encode).transpose()?,
            Body::TargetEpoch(value) => value.map(target_epoch_value).transpose()?,
            Body::Target { value, .. } => value.as_deref().map(Value::encode).transpose()?,
            Body::Current { value, .. } => value.as_ref().map(Value::encode).transpose()?,
            Body::Own(own) => own.encode()?,
        };
        Ok((key, value))
    }

    /// Reads a record; `None` for one of another kind. `key` begins behind the type.
    ///
    /// # Errors
    /// Nobody writes such bytes.
    pub fn decode(kind: i16, mut key: Bytes, value: Option<Bytes>) -> Result<Option<Self>, RecordError> {
        let types = G::RECORD_TYPES;
        let has_item = if [types.epoch, types.target_epoch].contains(&kind) {
            Some(false)
        } else if [types.member, types.target, types.current].contains(&kind) {
            Some(true)
        } else {
            G::Own::has_item(kind)
        };
        let (group_id, item) = match has_item {
            Some(false) => (GroupKey::decode(&mut key, KEY_VERSION)?.group_id, String::new()),
            Some(true) => {
                let key = ItemKey::decode(&mut key, KEY_VERSION)?;
                (key.group_id, key.item)
            }
            None => return Ok(None),
        };
        Self::of_item(kind, &group_id, &item, value)
    }

    /// The record about a group or an item of it, from the bytes of its value; `None` for one of another kind.
    ///
    /// # Errors
    /// Nobody writes such bytes.
    pub fn of_item(
        kind: i16,
        group_id: &str,
        item: &str,
        value: Option<Bytes>,
    ) -> Result<Option<Self>, RecordError> {
        let (types, member_id) = (G::RECORD_TYPES, || item.into());
        let body = if kind == types.epoch {
            Body::Epoch(value.map(Value::decode).transpose()?)
        } else if kind == types.member {
            Body::Member { member_id: member_id(), value: value.map(Value::decode).transpose()? }
        } else if kind == types.target_epoch {
            Body::TargetEpoch(value.map(decode_target_epoch).transpose()?)
        } else if kind == types.target {
            let value = value.map(G::Target::decode).transpose()?;
            Body::Target { member_id: member_id(), value: value.map(Arc::new) }
        } else if kind == types.current {
            Body::Current { member_id: member_id(), value: value.map(Value::decode).transpose()? }
        } else if G::Own::has_item(kind).is_some() {
            Body::Own(G::Own::decode(kind, item, value)?)
        } else {
            return Ok(None);
        };
        Ok(Some(Self { group_id: group_id.into(), body }))
    }
}

/// A value behind its version.
pub(in crate::group) fn encode(value: &impl Schema) -> Result<Bytes, EncodeError> {
    prefixed(VALUE_VERSION, value, VALUE_VERSION)
}

/// Reads a value behind its version.
pub(in crate::group) fn decode<T: Schema>(bytes: Bytes) -> Result<T, RecordError> {
    Ok(versioned(bytes)?)
}

/// Names, in their order.
pub(in crate::group) fn texts<'a>(names: impl IntoIterator<Item = &'a Arc<str>>) -> Vec<String> {
    names.into_iter().map(ToString::to_string).collect()
}

/// A name, if there is one.
pub(in crate::group) fn optional(text: Option<&Arc<str>>) -> Option<String> {
    text.map(ToString::to_string)
}

fn target_epoch_value(value: TargetEpoch) -> Result<Bytes, EncodeError> {
    encode(&TargetEpochValue {
        assignment_epoch: value.epoch,
        assignment_timestamp: value.assigned_at_ms,
        ..Default::default()
    })
}

fn decode_target_epoch(bytes: Bytes) -> Result<TargetEpoch, RecordError> {
    let value: TargetEpochValue = decode(bytes)?;
    Ok(TargetEpoch { epoch: value.assignment_epoch, assigned_at_ms: value.assignment_timestamp })
}

/// Partitions by topic, as records hold them.
pub(in crate::group) fn topic_partitions(partitions: &Partitions) -> Vec<TopicPartitions> {
    let topic = |(topic_id, partitions): (&Uuid, &BTreeSet<i32>)| TopicPartitions {
        topic_id: *topic_id,
        partitions: partitions.iter().copied().collect(),
        ..Default::default()
    };
    partitions.iter().map(topic).collect()
}

/// What [`topic_partitions`] was made of.
pub(in crate::group) fn partitions_of(topics: Vec<TopicPartitions>) -> Partitions {
    let topic = |topic: TopicPartitions| (topic.topic_id, topic.partitions.into_iter().collect());
    topics.into_iter().map(topic).collect()
}

/// What a member of a consumer group or of a share group is to have.
impl<G> Value<G> for Partitions {
    fn encode(&self) -> Result<Bytes, EncodeError> {
        encode(&TargetPartitionsValue { topic_partitions: topic_partitions(self), ..Default::default() })
    }

    fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        Ok(partitions_of(decode::<TargetPartitionsValue>(bytes)?.topic_partitions))
    }
}
