//! The records of share groups (keys 10 to 15), in Kafka's own bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::group::ShareGroup;
use crate::group::assignor::Partitions;
use crate::group::consumer::member::MemberState;
use crate::group::modern::record::{
    self, GroupEpoch, GroupRecord, OwnRecord, RecordTypes, TopicPartitions, Value, decode, encode, optional,
    partitions_of, texts, topic_partitions,
};
use crate::group::modern::{Current, LEAVE_EPOCH};
use crate::group::record::RecordError;
use crate::protocol::schema::schema;
use crate::protocol::wire::EncodeError;

/// `ShareGroupMetadata`, `ShareGroupMemberMetadata`, `ShareGroupTargetAssignmentMetadata`,
/// `ShareGroupTargetAssignmentMember` and `ShareGroupCurrentMemberAssignment`.
pub(super) const TYPES: RecordTypes =
    RecordTypes { epoch: 11, member: 10, target_epoch: 12, target: 13, current: 14 };
/// `ShareGroupStatePartitionMetadata`: the partitions that have a state with the share coordinator.
const STATE_PARTITIONS: i16 = 15;

schema! {
    struct ShareGroupMemberMetadataValue, versions 0..=0, flexible 0.. {
        rack_id: Option<String>,
        client_id: String,
        client_host: String,
        subscribed_topic_names: Vec<String>,
    }
    struct ShareGroupMetadataValue, versions 0..=0, flexible 0.. {
        epoch: i32,
        metadata_hash: i64,
    }
    struct ShareGroupCurrentMemberAssignmentValue, versions 0..=0, flexible 0.. {
        member_epoch: i32,
        previous_member_epoch: i32,
        state: i8,
        assigned_partitions: Vec<TopicPartitions>,
    }
    struct ShareGroupStatePartitionMetadataValue, versions 0..=0, flexible 0.. {
        initializing_topics: Vec<TopicPartitionsInfo>,
        initialized_topics: Vec<TopicPartitionsInfo>,
        deleting_topics: Vec<TopicInfo>,
    }
    struct TopicPartitionsInfo {
        topic_id: Uuid,
        topic_name: String,
        partitions: Vec<i32>,
    }
    struct TopicInfo {
        topic_id: Uuid,
        topic_name: String,
    }
}

/// A change of a share group that lasts.
pub type ShareRecord = GroupRecord<ShareGroup>;

/// What a [`ShareRecord`] says.
pub type Body = record::Body<ShareGroup>;

/// What only records of share groups say. `None` deletes what the record names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Own {
    StatePartitions(Option<Arc<StatePartitions>>),
}

/// What a member is and wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberMetadata {
    pub rack_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub topics: Arc<BTreeSet<Arc<str>>>,
}

/// What a member has, and in which epoch it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentAssignment {
    pub epoch: i32,
    pub previous_epoch: i32,
    pub state: MemberState,
    pub assigned: Arc<Partitions>,
}

impl Default for CurrentAssignment {
    fn default() -> Self {
        Self { epoch: 0, previous_epoch: -1, state: MemberState::Stable, assigned: Arc::default() }
    }
}

impl Current for CurrentAssignment {
    fn left(&self) -> Self {
        Self { epoch: LEAVE_EPOCH, previous_epoch: LEAVE_EPOCH, state: self.state, ..Self::default() }
    }
}

/// Partitions of topics, each with its name.
pub type NamedTopics = BTreeMap<Uuid, NamedTopic>;

/// Partitions of one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedTopic {
    pub name: Arc<str>,
    pub partitions: BTreeSet<i32>,
}

/// The partitions that have a state with the share coordinator, or had one
/// (`ShareGroupStatePartitionMetadataInfo`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatePartitions {
    /// Those whose state was asked for.
    pub initializing: NamedTopics,
    /// Those that can be given to members.
    pub initialized: NamedTopics,
    /// Topics whose state is being deleted, by their names.
    pub deleting: BTreeMap<Uuid, Arc<str>>,
}

impl OwnRecord for Own {
    fn has_item(kind: i16) -> Option<bool> {
        (kind == STATE_PARTITIONS).then_some(false)
    }

    fn kind_and_item(&self) -> (i16, Option<&str>) {
        (STATE_PARTITIONS, None)
    }

    fn is_tombstone(&self) -> bool {
        let Self::StatePartitions(value) = self;
        value.is_none()
    }

    fn encode(&self) -> Result<Option<Bytes>, EncodeError> {
        let Self::StatePartitions(value) = self;
        value.as_deref().map(state_partitions_value).transpose()
    }

    fn decode(_kind: i16, _item: &str, value: Option<Bytes>) -> Result<Self, RecordError> {
        Ok(Self::StatePartitions(value.map(decode_state_partitions).transpose()?.map(Arc::new)))
    }
}

impl Value<ShareGroup> for GroupEpoch {
    fn encode(&self) -> Result<Bytes, EncodeError> {
        let Self { epoch, metadata_hash } = *self;
        encode(&ShareGroupMetadataValue { epoch, metadata_hash, ..Default::default() })
    }

    fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let value: ShareGroupMetadataValue = decode(bytes)?;
        Ok(Self { epoch: value.epoch, metadata_hash: value.metadata_hash })
    }
}

impl Value<ShareGroup> for MemberMetadata {
    fn encode(&self) -> Result<Bytes, EncodeError> {
        let value = ShareGroupMemberMetadataValue {
            rack_id: optional(self.rack_id.as_ref()),
            client_id: self.client_id.to_string(),
            client_host: self.client_host.to_string(),
            subscribed_topic_names: texts(&*self.topics),
            ..Default::default()
        };
        encode(&value)
    }

    fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let value: ShareGroupMemberMetadataValue = decode(bytes)?;
        Ok(Self {
            rack_id: value.rack_id.map(Into::into),
            client_id: value.client_id.into(),
            client_host: value.client_host.into(),
            topics: Arc::new(value.subscribed_topic_names.into_iter().map(Into::into).collect()),
        })
    }
}

impl Value<ShareGroup> for CurrentAssignment {
    fn encode(&self) -> Result<Bytes, EncodeError> {
        let value = ShareGroupCurrentMemberAssignmentValue {
            member_epoch: self.epoch,
            previous_member_epoch: self.previous_epoch,
            state: self.state.id(),
            assigned_partitions: topic_partitions(&self.assigned),
            ..Default::default()
        };
        encode(&value)
    }

    fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let value: ShareGroupCurrentMemberAssignmentValue = decode(bytes)?;
        Ok(Self {
            epoch: value.member_epoch,
            previous_epoch: value.previous_member_epoch,
            state: MemberState::from_id(value.state),
            assigned: Arc::new(partitions_of(value.assigned_partitions)),
        })
    }
}

fn state_partitions_value(partitions: &StatePartitions) -> Result<Bytes, EncodeError> {
    let topics = |topics: &NamedTopics| {
        let topic = |(topic_id, topic): (&Uuid, &NamedTopic)| TopicPartitionsInfo {
            topic_id: *topic_id,
            topic_name: topic.name.to_string(),
            partitions: topic.partitions.iter().copied().collect(),
            ..Default::default()
        };
        topics.iter().map(topic).collect()
    };
    let deleting = |(topic_id, name): (&Uuid, &Arc<str>)| TopicInfo {
        topic_id: *topic_id,
        topic_name: name.to_string(),
        ..Default::default()
    };
    let value = ShareGroupStatePartitionMetadataValue {
        initializing_topics: topics(&partitions.initializing),
        initialized_topics: topics(&partitions.initialized),
        deleting_topics: partitions.deleting.iter().map(deleting).collect(),
        ..Default::default()
    };
    encode(&value)
}

fn decode_state_partitions(bytes: Bytes) -> Result<StatePartitions, RecordError> {
    let value: ShareGroupStatePartitionMetadataValue = decode(bytes)?;
    let topics = |topics: Vec<TopicPartitionsInfo>| {
        let topic = |topic: TopicPartitionsInfo| {
            let partitions = topic.partitions.into_iter().collect();
            (topic.topic_id, NamedTopic { name: topic.topic_name.into(), partitions })
        };
        topics.into_iter().map(topic).collect()
    };
    Ok(StatePartitions {
        initializing: topics(value.initializing_topics),
        initialized: topics(value.initialized_topics),
        deleting: value.deleting_topics.into_iter().map(|t| (t.topic_id, t.topic_name.into())).collect(),
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;
    use crate::group::modern::record::TargetEpoch;

    fn hex(text: &str) -> Bytes {
        let digits: Vec<char> = text.chars().collect();
        digits.chunks(2).map(|two| u8::from_str_radix(&two.iter().collect::<String>(), 16).unwrap()).collect()
    }

    fn bodies() -> Vec<Body> {
        let id = Uuid::from_u128(7);
        let assigned: Arc<Partitions> = Arc::new([(id, [0, 1].into())].into());
        let member_id = || Arc::from("m");
        let named = |partitions: [i32; 2]| {
            NamedTopics::from([(id, NamedTopic { name: "t".into(), partitions: partitions.into() })])
        };
        let metadata = MemberMetadata {
            rack_id: Some("r".into()),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            topics: Arc::new(["a".into(), "b".into()].into()),
        };
        let current = CurrentAssignment {
            epoch: 3,
            previous_epoch: 2,
            state: MemberState::Stable,
            assigned: assigned.clone(),
        };
        let state = StatePartitions {
            initializing: named([2, 3]),
            initialized: named([0, 1]),
            deleting: [(Uuid::from_u128(8), "u".into())].into(),
        };
        vec![
            Body::Member { member_id: member_id(), value: Some(metadata) },
            Body::Member { member_id: member_id(), value: None },
            Body::Epoch(Some(GroupEpoch { epoch: 5, metadata_hash: -9 })),
            Body::Epoch(None),
            Body::TargetEpoch(Some(TargetEpoch { epoch: 5, assigned_at_ms: 1_700_000_000_000 })),
            Body::TargetEpoch(Some(TargetEpoch { epoch: 5, assigned_at_ms: 0 })),
            Body::TargetEpoch(None),
            Body::Target { member_id: member_id(), value: Some(assigned) },
            Body::Current { member_id: member_id(), value: Some(current) },
            Body::Own(Own::StatePartitions(Some(Arc::new(state)))),
            Body::Own(Own::StatePartitions(None)),
        ]
    }

    // Written by the classes of Apache Kafka 4.3.1 (GroupCoordinatorRecordHelpers, GroupCoordinatorRecordSerde).
    const WRITTEN: [(&str, Option<&str>); 11] = [
        ("000a00016700016d", Some("0000027202630b2f3132372e302e302e31030261026200")),
        ("000a00016700016d", None),
        ("000b000167", Some("000000000005fffffffffffffff700")),
        ("000b000167", None),
        ("000c000167", Some("0000000000050100080000018bcfe56800")),
        ("000c000167", Some("00000000000500")),
        ("000c000167", None),
        ("000d00016700016d", Some("000002000000000000000000000000000000070300000000000000010000")),
        (
            "000e00016700016d",
            Some("000000000003000000020002000000000000000000000000000000070300000000000000010000"),
        ),
        (
            "000f000167",
            Some(
                "00000200000000000000000000000000000007027403000000020000000300020000000000000000000000000000000702\
                 7403000000000000000100020000000000000000000000000000000802750000",
            ),
        ),
        ("000f000167", None),
    ];

    #[test]
    fn records_are_written_as_kafka_writes_them_and_read() {
        assert_eq!(bodies().len(), WRITTEN.len());
        for (body, (key, value)) in bodies().into_iter().zip(WRITTEN) {
            let record = ShareRecord { group_id: "g".into(), body };
            assert_eq!(record.is_tombstone(), value.is_none());
            let (written, written_value) = record.encode().unwrap();
            assert_eq!((written, written_value), (hex(key), value.map(hex)), "{record:?}");
            let kind = record.kind_and_item().0;
            let read = ShareRecord::decode(kind, hex(key).slice(2..), value.map(hex));
            assert_eq!(read.unwrap().unwrap(), record);
            let bytes = value.map(hex).unwrap_or_default();
            for end in 0..bytes.len() {
                assert!(ShareRecord::decode(kind, hex(key).slice(2..), Some(bytes.slice(..end))).is_err());
            }
        }
    }
}
