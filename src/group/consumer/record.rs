//! The records of consumer groups (keys 3 to 8, and 16), in Kafka's own bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::group::ConsumerGroup;
use super::member::{ClassicMetadata, Epochs, MemberState};
use crate::group::command::Protocol;
use crate::group::modern::record::{
    self, GroupRecord, OwnRecord, RecordTypes, Value, decode, encode, optional, texts,
};
pub use crate::group::modern::record::{GroupEpoch, TargetEpoch};
use crate::group::modern::{Current, LEAVE_EPOCH};
use crate::group::record::RecordError;
use crate::protocol::schema::schema;
use crate::protocol::wire::EncodeError;
use crate::types::TimestampMs;

/// `ConsumerGroupMetadata`, `ConsumerGroupMemberMetadata`, `ConsumerGroupTargetAssignmentMetadata`,
/// `ConsumerGroupTargetAssignmentMember` and `ConsumerGroupCurrentMemberAssignment`.
pub(super) const TYPES: RecordTypes =
    RecordTypes { epoch: 3, member: 5, target_epoch: 6, target: 7, current: 8 };
/// `ConsumerGroupPartitionMetadata`, which brokers before 4.1 wrote.
const PARTITION_METADATA: i16 = 4;
/// `ConsumerGroupRegularExpression`: the topics that an expression matches.
const EXPRESSION: i16 = 16;

schema! {
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

/// A change of a consumer group that lasts.
pub type ConsumerRecord = GroupRecord<ConsumerGroup>;

/// What a [`ConsumerRecord`] says.
pub type Body = record::Body<ConsumerGroup>;

/// What only records of consumer groups say. `None` deletes what the record names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Own {
    /// The value of an older broker, which nobody reads any more.
    PartitionMetadata(Option<Bytes>),
    Expression {
        expression: Arc<str>,
        value: Option<ResolvedExpression>,
    },
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

impl Default for MemberMetadata {
    fn default() -> Self {
        Self {
            instance_id: None,
            rack_id: None,
            client_id: Arc::default(),
            client_host: Arc::default(),
            topics: Arc::default(),
            expression: Some(Arc::default()),
            rebalance_timeout_ms: -1,
            assignor: None,
            classic: None,
        }
    }
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

impl Default for CurrentAssignment {
    fn default() -> Self {
        let (assigned, revoking) = (Arc::default(), Arc::default());
        Self { epoch: 0, previous_epoch: -1, state: MemberState::Stable, assigned, revoking }
    }
}

impl Current for CurrentAssignment {
    fn left(&self) -> Self {
        Self { epoch: LEAVE_EPOCH, previous_epoch: LEAVE_EPOCH, state: self.state, ..Self::default() }
    }
}

/// The topics that a regular expression matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedExpression {
    pub topics: Arc<BTreeSet<Arc<str>>>,
    /// The version of the cluster's metadata that was looked through.
    pub version: i64,
    pub resolved_at_ms: TimestampMs,
}

impl OwnRecord for Own {
    fn has_item(kind: i16) -> Option<bool> {
        match kind {
            PARTITION_METADATA => Some(false),
            EXPRESSION => Some(true),
            _ => None,
        }
    }

    fn kind_and_item(&self) -> (i16, Option<&str>) {
        match self {
            Self::PartitionMetadata(_) => (PARTITION_METADATA, None),
            Self::Expression { expression, .. } => (EXPRESSION, Some(expression)),
        }
    }

    fn is_tombstone(&self) -> bool {
        match self {
            Self::PartitionMetadata(value) => value.is_none(),
            Self::Expression { value, .. } => value.is_none(),
        }
    }

    fn encode(&self) -> Result<Option<Bytes>, EncodeError> {
        match self {
            Self::PartitionMetadata(value) => Ok(value.clone()),
            Self::Expression { value, .. } => value.as_ref().map(expression_value).transpose(),
        }
    }

    fn decode(kind: i16, item: &str, value: Option<Bytes>) -> Result<Self, RecordError> {
        if kind == PARTITION_METADATA {
            return Ok(Self::PartitionMetadata(value));
        }
        Ok(Self::Expression { expression: item.into(), value: value.map(decode_expression).transpose()? })
    }
}

impl Value<ConsumerGroup> for GroupEpoch {
    fn encode(&self) -> Result<Bytes, EncodeError> {
        let Self { epoch, metadata_hash } = *self;
        encode(&ConsumerGroupMetadataValue { epoch, metadata_hash, ..Default::default() })
    }

    fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let value: ConsumerGroupMetadataValue = decode(bytes)?;
        Ok(Self { epoch: value.epoch, metadata_hash: value.metadata_hash })
    }
}

impl Value<ConsumerGroup> for MemberMetadata {
    fn encode(&self) -> Result<Bytes, EncodeError> {
        let protocol = |protocol: &Protocol| ClassicProtocol {
            name: protocol.name.to_string(),
            metadata: protocol.metadata.clone(),
            ..Default::default()
        };
        let classic = self.classic.as_ref().map(|classic| ClassicMemberMetadata {
            session_timeout_ms: classic.session_timeout_ms,
            supported_protocols: classic.protocols.iter().map(protocol).collect(),
            ..Default::default()
        });
        let value = ConsumerGroupMemberMetadataValue {
            instance_id: optional(self.instance_id.as_ref()),
            rack_id: optional(self.rack_id.as_ref()),
            client_id: self.client_id.to_string(),
            client_host: self.client_host.to_string(),
            subscribed_topic_names: texts(&*self.topics),
            subscribed_topic_regex: optional(self.expression.as_ref()),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            server_assignor: optional(self.assignor.as_ref()),
            classic_member_metadata: classic,
            ..Default::default()
        };
        encode(&value)
    }

    fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let value: ConsumerGroupMemberMetadataValue = decode(bytes)?;
        let protocol =
            |protocol: ClassicProtocol| Protocol { name: protocol.name.into(), metadata: protocol.metadata };
        let classic = value.classic_member_metadata.map(|classic| {
            Arc::new(ClassicMetadata {
                session_timeout_ms: classic.session_timeout_ms,
                protocols: classic.supported_protocols.into_iter().map(protocol).collect(),
            })
        });
        Ok(Self {
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
}

impl Value<ConsumerGroup> for CurrentAssignment {
    fn encode(&self) -> Result<Bytes, EncodeError> {
        let topic = |(topic_id, partitions): (&Uuid, &BTreeMap<i32, i32>)| CurrentTopic {
            topic_id: *topic_id,
            partitions: partitions.keys().copied().collect(),
            assignment_epochs: Some(partitions.values().copied().collect()),
            ..Default::default()
        };
        let value = ConsumerGroupCurrentMemberAssignmentValue {
            member_epoch: self.epoch,
            previous_member_epoch: self.previous_epoch,
            state: self.state.id(),
            assigned_partitions: self.assigned.iter().map(topic).collect(),
            partitions_pending_revocation: self.revoking.iter().map(topic).collect(),
            ..Default::default()
        };
        encode(&value)
    }

    fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let value: ConsumerGroupCurrentMemberAssignmentValue = decode(bytes)?;
        // Brokers before 4.3 did not write when partitions were assigned. A static member that is away has epoch -2.
        let unknown_epoch = value.member_epoch.max(0);
        let topic = |topic: CurrentTopic| {
            let epochs = topic.assignment_epochs.filter(|epochs| epochs.len() == topic.partitions.len());
            let epochs = epochs.unwrap_or_else(|| vec![unknown_epoch; topic.partitions.len()]);
            (topic.topic_id, topic.partitions.into_iter().zip(epochs).collect())
        };
        Ok(Self {
            epoch: value.member_epoch,
            previous_epoch: value.previous_member_epoch,
            state: MemberState::from_id(value.state),
            assigned: Arc::new(value.assigned_partitions.into_iter().map(topic).collect()),
            revoking: Arc::new(value.partitions_pending_revocation.into_iter().map(topic).collect()),
        })
    }
}

fn expression_value(resolved: &ResolvedExpression) -> Result<Bytes, EncodeError> {
    let value = ConsumerGroupRegularExpressionValue {
        topics: texts(&*resolved.topics),
        version: resolved.version,
        timestamp: resolved.resolved_at_ms,
        ..Default::default()
    };
    encode(&value)
}

fn decode_expression(bytes: Bytes) -> Result<ResolvedExpression, RecordError> {
    let value: ConsumerGroupRegularExpressionValue = decode(bytes)?;
    Ok(ResolvedExpression {
        topics: Arc::new(value.topics.into_iter().map(Into::into).collect()),
        version: value.version,
        resolved_at_ms: value.timestamp,
    })
}
