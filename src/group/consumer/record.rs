//! The records of consumer groups (keys 3 to 8, and 16), in Kafka's own bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::member::{ClassicMetadata, Epochs, MemberState};
use crate::group::assignor::Partitions;
use crate::group::command::Protocol;
use crate::group::record::RecordError;
use crate::protocol::schema::{Schema, schema};
use crate::protocol::wire::EncodeError;
use crate::types::TimestampMs;

/// `ConsumerGroupMetadata`: the epoch of a group.
const EPOCH: i16 = 3;
/// `ConsumerGroupPartitionMetadata`, which brokers before 4.1 wrote.
const PARTITION_METADATA: i16 = 4;
/// `ConsumerGroupMemberMetadata`: what a member is and wants.
const MEMBER: i16 = 5;
/// `ConsumerGroupTargetAssignmentMetadata`: the epoch of the target assignment.
const TARGET_EPOCH: i16 = 6;
/// `ConsumerGroupTargetAssignmentMember`: what a member is to have.
const TARGET: i16 = 7;
/// `ConsumerGroupCurrentMemberAssignment`: what a member has.
const CURRENT: i16 = 8;
/// `ConsumerGroupRegularExpression`: the topics that an expression matches.
const EXPRESSION: i16 = 16;

/// The only version of all these values.
const VALUE_VERSION: i16 = 0;

schema! {
    /// Which group.
    pub(in crate::group) struct GroupKey, versions 0..=0, flexible 9.. {
        group_id: String,
    }
    /// Which member of a group, or which regular expression.
    pub(in crate::group) struct ItemKey, versions 0..=0, flexible 9.. {
        group_id: String,
        item: String,
    }
    struct ConsumerGroupMetadataValue, versions 0..=0, flexible 0.. {
        epoch: i32,
        metadata_hash: i64 [tag 0],
    }
    struct ConsumerGroupMemberMetadataValue, versions 0..=0, flexible 0.. {
        instance_id: Option<String>,
        rack_id: Option<String>,
        client_id: String,
        client_host: String,
        subscribed_topic_names: Vec<String>,
        subscribed_topic_regex: Option<String>,
        rebalance_timeout_ms: i32 = -1,
        server_assignor: Option<String>,
        classic_member_metadata: Option<ClassicMemberMetadata> [tag 0] = None,
    }
    struct ClassicMemberMetadata {
        session_timeout_ms: i32,
        supported_protocols: Vec<ClassicProtocol>,
    }
    struct ClassicProtocol {
        name: String,
        metadata: Bytes,
    }
    struct ConsumerGroupTargetAssignmentMetadataValue, versions 0..=0, flexible 0.. {
        assignment_epoch: i32,
        assignment_timestamp: i64 [tag 0, ignorable],
    }
    struct ConsumerGroupTargetAssignmentMemberValue, versions 0..=0, flexible 0.. {
        topic_partitions: Vec<TargetTopic>,
    }
    struct TargetTopic {
        topic_id: Uuid,
        partitions: Vec<i32>,
    }
    struct ConsumerGroupCurrentMemberAssignmentValue, versions 0..=0, flexible 0.. {
        member_epoch: i32,
        previous_member_epoch: i32,
        state: i8,
        assigned_partitions: Vec<CurrentTopic>,
        partitions_pending_revocation: Vec<CurrentTopic>,
    }
    struct CurrentTopic {
        topic_id: Uuid,
        partitions: Vec<i32>,
        assignment_epochs: Option<Vec<i32>> [tag 0] = None,
    }
    struct ConsumerGroupRegularExpressionValue, versions 0..=0, flexible 0.. {
        topics: Vec<String>,
        version: i64,
        timestamp: i64,
    }
}

/// A change of a consumer group that lasts. `None` deletes what the record names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerRecord {
    pub group_id: Arc<str>,
    pub body: Body,
}

/// What a [`ConsumerRecord`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Epoch(Option<GroupEpoch>),
    /// The value of an older broker, which nobody reads any more.
    PartitionMetadata(Option<Bytes>),
    Member {
        member_id: Arc<str>,
        value: Option<MemberMetadata>,
    },
    TargetEpoch(Option<TargetEpoch>),
    Target {
        member_id: Arc<str>,
        value: Option<Arc<Partitions>>,
    },
    Current {
        member_id: Arc<str>,
        value: Option<CurrentAssignment>,
    },
    Expression {
        expression: Arc<str>,
        value: Option<ResolvedExpression>,
    },
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

/// What a member is and wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberMetadata {
    pub instance_id: Option<Arc<str>>,
    pub rack_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub topics: Arc<BTreeSet<Arc<str>>>,
    pub expression: Option<Arc<str>>,
    pub rebalance_timeout_ms: i32,
    pub assignor: Option<Arc<str>>,
    pub classic: Option<Arc<ClassicMetadata>>,
}

/// What a member has, and in which epoch it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentAssignment {
    pub epoch: i32,
    pub previous_epoch: i32,
    pub state: MemberState,
    pub assigned: Arc<Epochs>,
    pub revoking: Arc<Epochs>,
}

/// The topics that a regular expression matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedExpression {
    pub topics: Arc<BTreeSet<Arc<str>>>,
    /// The version of the cluster's metadata that was looked through.
    pub version: i64,
    pub resolved_at_ms: TimestampMs,
}

/// The names, in their order.
pub(in crate::group) fn texts(names: &BTreeSet<Arc<str>>) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn optional(text: Option<&Arc<str>>) -> Option<String> {
    text.map(ToString::to_string)
}

impl ConsumerRecord {
    /// The type of the record, and which item of the group it is about: a member, an expression, or nothing.
    pub fn kind_and_item(&self) -> (i16, &str) {
        match &self.body {
            Body::Epoch(_) => (EPOCH, ""),
            Body::PartitionMetadata(_) => (PARTITION_METADATA, ""),
            Body::Member { member_id, .. } => (MEMBER, member_id),
            Body::TargetEpoch(_) => (TARGET_EPOCH, ""),
            Body::Target { member_id, .. } => (TARGET, member_id),
            Body::Current { member_id, .. } => (CURRENT, member_id),
            Body::Expression { expression, .. } => (EXPRESSION, expression),
        }
    }

    /// Whether the record deletes what it names.
    pub fn is_tombstone(&self) -> bool {
        match &self.body {
            Body::Epoch(value) => value.is_none(),
            Body::PartitionMetadata(value) => value.is_none(),
            Body::Member { value, .. } => value.is_none(),
            Body::TargetEpoch(value) => value.is_none(),
            Body::Target { value, .. } => value.is_none(),
            Body::Current { value, .. } => value.is_none(),
            Body::Expression { value, .. } => value.is_none(),
        }
    }

    /// Key and value as Kafka writes them.
    pub fn encode(&self) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        let (kind, item) = self.kind_and_item();
        let group_id = self.group_id.to_string();
        let key = match &self.body {
            Body::Epoch(_) | Body::PartitionMetadata(_) | Body::TargetEpoch(_) => {
                prefixed(kind, &GroupKey { group_id, ..GroupKey::default() })?
            }
            Body::Member { .. } | Body::Target { .. } | Body::Current { .. } | Body::Expression { .. } => {
                prefixed(kind, &ItemKey { group_id, item: item.to_owned(), ..ItemKey::default() })?
            }
        };
        Ok((key, self.encode_value()?))
    }

    fn encode_value(&self) -> Result<Option<Bytes>, EncodeError> {
        match &self.body {
            Body::Epoch(value) => value.map(epoch_value).transpose(),
            Body::PartitionMetadata(value) => Ok(value.clone()),
            Body::Member { value, .. } => value.as_ref().map(member_value).transpose(),
            Body::TargetEpoch(value) => value.map(target_epoch_value).transpose(),
            Body::Target { value, .. } => {
                value.as_ref().map(|partitions| target_value(partitions)).transpose()
            }
            Body::Current { value, .. } => value.as_ref().map(current_value).transpose(),
            Body::Expression { value, .. } => value.as_ref().map(expression_value).transpose(),
        }
    }

    /// Reads a record; `None` for one of another kind. `key` begins behind the type.
    pub fn decode(kind: i16, mut key: Bytes, value: Option<Bytes>) -> Result<Option<Self>, RecordError> {
        let (group_id, item) = match kind {
            EPOCH | PARTITION_METADATA | TARGET_EPOCH => {
                (GroupKey::decode(&mut key, 0)?.group_id, String::new())
            }
            MEMBER | TARGET | CURRENT | EXPRESSION => {
                let key = ItemKey::decode(&mut key, 0)?;
                (key.group_id, key.item)
            }
            _ => return Ok(None),
        };
        Self::of_item(kind, &group_id, &item, value)
    }

    /// The record about an item of a group, from the bytes of its value.
    pub fn of_item(
        kind: i16,
        group_id: &str,
        item: &str,
        value: Option<Bytes>,
    ) -> Result<Option<Self>, RecordError> {
        let body = match kind {
            EPOCH => Body::Epoch(value.map(decode_epoch).transpose()?),
            PARTITION_METADATA => Body::PartitionMetadata(value),
            MEMBER => Body::Member { member_id: item.into(), value: value.map(decode_member).transpose()? },
            TARGET_EPOCH => Body::TargetEpoch(value.map(decode_target_epoch).transpose()?),
            TARGET => Body::Target { member_id: item.into(), value: value.map(decode_target).transpose()? },
            CURRENT => {
                Body::Current { member_id: item.into(), value: value.map(decode_current).transpose()? }
            }
            EXPRESSION => {
                Body::Expression { expression: item.into(), value: value.map(decode_expression).transpose()? }
            }
            _ => return Ok(None),
        };
        Ok(Some(Self { group_id: group_id.into(), body }))
    }
}

/// A message behind a number: its version, or the type of its record.
pub(in crate::group) fn prefixed(prefix: i16, message: &impl Schema) -> Result<Bytes, EncodeError> {
    let mut bytes = BytesMut::with_capacity(2 + message.size(VALUE_VERSION)?);
    bytes.put_i16(prefix);
    message.encode(&mut bytes, VALUE_VERSION)?;
    Ok(bytes.freeze())
}

/// Reads a value behind its version.
pub(in crate::group) fn decode<T: Schema>(mut bytes: Bytes) -> Result<T, RecordError> {
    let version = bytes.try_get_i16().map_err(|_| RecordError::NoVersion)?;
    Ok(T::decode(&mut bytes, version)?)
}

fn epoch_value(value: GroupEpoch) -> Result<Bytes, EncodeError> {
    let GroupEpoch { epoch, metadata_hash } = value;
    prefixed(VALUE_VERSION, &ConsumerGroupMetadataValue { epoch, metadata_hash, ..Default::default() })
}

fn decode_epoch(bytes: Bytes) -> Result<GroupEpoch, RecordError> {
    let value: ConsumerGroupMetadataValue = decode(bytes)?;
    Ok(GroupEpoch { epoch: value.epoch, metadata_hash: value.metadata_hash })
}

fn member_value(member: &MemberMetadata) -> Result<Bytes, EncodeError> {
    let protocol = |protocol: &Protocol| ClassicProtocol {
        name: protocol.name.to_string(),
        metadata: protocol.metadata.clone(),
        ..Default::default()
    };
    let classic = member.classic.as_ref().map(|classic| ClassicMemberMetadata {
        session_timeout_ms: classic.session_timeout_ms,
        supported_protocols: classic.protocols.iter().map(protocol).collect(),
        ..Default::default()
    });
    let value = ConsumerGroupMemberMetadataValue {
        instance_id: optional(member.instance_id.as_ref()),
        rack_id: optional(member.rack_id.as_ref()),
        client_id: member.client_id.to_string(),
        client_host: member.client_host.to_string(),
        subscribed_topic_names: texts(&member.topics),
        subscribed_topic_regex: optional(member.expression.as_ref()),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        server_assignor: optional(member.assignor.as_ref()),
        classic_member_metadata: classic,
        ..Default::default()
    };
    prefixed(VALUE_VERSION, &value)
}

fn decode_member(bytes: Bytes) -> Result<MemberMetadata, RecordError> {
    let value: ConsumerGroupMemberMetadataValue = decode(bytes)?;
    let protocol =
        |protocol: ClassicProtocol| Protocol { name: protocol.name.into(), metadata: protocol.metadata };
    let classic = value.classic_member_metadata.map(|classic| {
        Arc::new(ClassicMetadata {
            session_timeout_ms: classic.session_timeout_ms,
            protocols: classic.supported_protocols.into_iter().map(protocol).collect(),
        })
    });
    Ok(MemberMetadata {
        instance_id: value.instance_id.map(Into::into),
        rack_id: value.rack_id.map(Into::into),
        client_id: value.client_id.into(),
        client_host: value.client_host.into(),
        topics: Arc::new(value.subscribed_topic_names.into_iter().map(Into::into).collect()),
        expression: value.subscribed_topic_regex.map(Into::into),
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        assignor: value.server_assignor.map(Into::into),
        classic,
    })
}

/// The value of the target epoch's record, which is the same for groups of every newer protocol.
pub(in crate::group) fn target_epoch_value(value: TargetEpoch) -> Result<Bytes, EncodeError> {
    let value = ConsumerGroupTargetAssignmentMetadataValue {
        assignment_epoch: value.epoch,
        assignment_timestamp: value.assigned_at_ms,
        ..Default::default()
    };
    prefixed(VALUE_VERSION, &value)
}

/// Reads what [`target_epoch_value`] writes.
pub(in crate::group) fn decode_target_epoch(bytes: Bytes) -> Result<TargetEpoch, RecordError> {
    let value: ConsumerGroupTargetAssignmentMetadataValue = decode(bytes)?;
    Ok(TargetEpoch { epoch: value.assignment_epoch, assigned_at_ms: value.assignment_timestamp })
}

fn target_value(partitions: &Partitions) -> Result<Bytes, EncodeError> {
    let topic = |(topic_id, partitions): (&Uuid, &BTreeSet<i32>)| TargetTopic {
        topic_id: *topic_id,
        partitions: partitions.iter().copied().collect(),
        ..Default::default()
    };
    let topic_partitions = partitions.iter().map(topic).collect();
    prefixed(
        VALUE_VERSION,
        &ConsumerGroupTargetAssignmentMemberValue { topic_partitions, ..Default::default() },
    )
}

fn decode_target(bytes: Bytes) -> Result<Arc<Partitions>, RecordError> {
    let value: ConsumerGroupTargetAssignmentMemberValue = decode(bytes)?;
    let topic = |topic: TargetTopic| (topic.topic_id, topic.partitions.into_iter().collect());
    Ok(Arc::new(value.topic_partitions.into_iter().map(topic).collect()))
}

fn current_value(current: &CurrentAssignment) -> Result<Bytes, EncodeError> {
    let topic = |(topic_id, partitions): (&Uuid, &BTreeMap<i32, i32>)| CurrentTopic {
        topic_id: *topic_id,
        partitions: partitions.keys().copied().collect(),
        assignment_epochs: Some(partitions.values().copied().collect()),
        ..Default::default()
    };
    let value = ConsumerGroupCurrentMemberAssignmentValue {
        member_epoch: current.epoch,
        previous_member_epoch: current.previous_epoch,
        state: current.state.id(),
        assigned_partitions: current.assigned.iter().map(topic).collect(),
        partitions_pending_revocation: current.revoking.iter().map(topic).collect(),
        ..Default::default()
    };
    prefixed(VALUE_VERSION, &value)
}

fn decode_current(bytes: Bytes) -> Result<CurrentAssignment, RecordError> {
    let value: ConsumerGroupCurrentMemberAssignmentValue = decode(bytes)?;
    // Brokers before 4.3 did not write when partitions were assigned. A static member that is away has epoch -2.
    let unknown_epoch = value.member_epoch.max(0);
    let topic = |topic: CurrentTopic| {
        let epochs = topic.assignment_epochs.filter(|epochs| epochs.len() == topic.partitions.len());
        let epochs = epochs.unwrap_or_else(|| vec![unknown_epoch; topic.partitions.len()]);
        (topic.topic_id, topic.partitions.into_iter().zip(epochs).collect())
    };
    Ok(CurrentAssignment {
        epoch: value.member_epoch,
        previous_epoch: value.previous_member_epoch,
        state: MemberState::from_id(value.state),
        assigned: Arc::new(value.assigned_partitions.into_iter().map(topic).collect()),
        revoking: Arc::new(value.partitions_pending_revocation.into_iter().map(topic).collect()),
    })
}

fn expression_value(resolved: &ResolvedExpression) -> Result<Bytes, EncodeError> {
    let value = ConsumerGroupRegularExpressionValue {
        topics: texts(&resolved.topics),
        version: resolved.version,
        timestamp: resolved.resolved_at_ms,
        ..Default::default()
    };
    prefixed(VALUE_VERSION, &value)
}

fn decode_expression(bytes: Bytes) -> Result<ResolvedExpression, RecordError> {
    let value: ConsumerGroupRegularExpressionValue = decode(bytes)?;
    Ok(ResolvedExpression {
        topics: Arc::new(value.topics.into_iter().map(Into::into).collect()),
        version: value.version,
        resolved_at_ms: value.timestamp,
    })
}
