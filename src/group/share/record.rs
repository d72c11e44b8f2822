//! The records of share groups (keys 10 to 15), in Kafka's own bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::group::assignor::Partitions;
use crate::group::consumer::member::MemberState;
use crate::group::consumer::record::{
    GroupEpoch, GroupKey, ItemKey, TargetEpoch, decode, decode_target_epoch, prefixed, target_epoch_value,
    texts,
};
use crate::group::record::RecordError;
use crate::protocol::schema::{Schema as _, schema};
use crate::protocol::wire::EncodeError;

/// `ShareGroupMemberMetadata`: what a member is and wants.
const MEMBER: i16 = 10;
/// `ShareGroupMetadata`: the epoch of a group.
const EPOCH: i16 = 11;
/// `ShareGroupTargetAssignmentMetadata`: the epoch of the target assignment.
const TARGET_EPOCH: i16 = 12;
/// `ShareGroupTargetAssignmentMember`: what a member is to have.
const TARGET: i16 = 13;
/// `ShareGroupCurrentMemberAssignment`: what a member has.
const CURRENT: i16 = 14;
/// `ShareGroupStatePartitionMetadata`: the partitions that have a state with the share coordinator.
const STATE_PARTITIONS: i16 = 15;

/// The only version of all these values.
const VALUE_VERSION: i16 = 0;

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
    struct ShareGroupTargetAssignmentMemberValue, versions 0..=0, flexible 0.. {
        topic_partitions: Vec<TopicPartitions>,
    }
    struct TopicPartitions {
        topic_id: Uuid,
        partitions: Vec<i32>,
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

/// A change of a share group that lasts. `None` deletes what the record names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareRecord {
    pub group_id: Arc<str>,
    pub body: Body,
}

/// What a [`ShareRecord`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Epoch(Option<GroupEpoch>),
    Member { member_id: Arc<str>, value: Option<MemberMetadata> },
    TargetEpoch(Option<TargetEpoch>),
    Target { member_id: Arc<str>, value: Option<Arc<Partitions>> },
    Current { member_id: Arc<str>, value: Option<CurrentAssignment> },
    StatePartitions(Option<Arc<StatePartitions>>),
}

/// What a member is and wants.
#[derive(Clone, Debug, PartialEq, Eq)]
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

impl ShareRecord {
    /// The type of the record, and which item of the group it is about: a member, or nothing.
    pub fn kind_and_item(&self) -> (i16, &str) {
        match &self.body {
            Body::Epoch(_) => (EPOCH, ""),
            Body::Member { member_id, .. } => (MEMBER, member_id),
            Body::TargetEpoch(_) => (TARGET_EPOCH, ""),
            Body::Target { member_id, .. } => (TARGET, member_id),
            Body::Current { member_id, .. } => (CURRENT, member_id),
            Body::StatePartitions(_) => (STATE_PARTITIONS, ""),
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
            Body::StatePartitions(value) => value.is_none(),
        }
    }

    /// Key and value as Kafka writes them.
    pub fn encode(&self) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        let (kind, item) = self.kind_and_item();
        let group_id = self.group_id.to_string();
        let key = match &self.body {
            Body::Epoch(_) | Body::TargetEpoch(_) | Body::StatePartitions(_) => {
                prefixed(kind, &GroupKey { group_id, ..GroupKey::default() })?
            }
            Body::Member { .. } | Body::Target { .. } | Body::Current { .. } => {
                prefixed(kind, &ItemKey { group_id, item: item.to_owned(), ..ItemKey::default() })?
            }
        };
        Ok((key, self.encode_value()?))
    }

    fn encode_value(&self) -> Result<Option<Bytes>, EncodeError> {
        match &self.body {
            Body::Epoch(value) => value.map(epoch_value).transpose(),
            Body::Member { value, .. } => value.as_ref().map(member_value).transpose(),
            Body::TargetEpoch(value) => value.map(target_epoch_value).transpose(),
            Body::Target { value, .. } => value.as_deref().map(target_value).transpose(),
            Body::Current { value, .. } => value.as_ref().map(current_value).transpose(),
            Body::StatePartitions(value) => value.as_deref().map(state_partitions_value).transpose(),
        }
    }

    /// Reads a record; `None` for one of another kind. `key` begins behind the type.
    pub fn decode(kind: i16, mut key: Bytes, value: Option<Bytes>) -> Result<Option<Self>, RecordError> {
        let (group_id, item) = match kind {
            EPOCH | TARGET_EPOCH | STATE_PARTITIONS => {
                (GroupKey::decode(&mut key, 0)?.group_id, String::new())
            }
            MEMBER | TARGET | CURRENT => {
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
        let member_id = || item.into();
        let body = match kind {
            EPOCH => Body::Epoch(value.map(decode_epoch).transpose()?),
            MEMBER => Body::Member { member_id: member_id(), value: value.map(decode_member).transpose()? },
            TARGET_EPOCH => Body::TargetEpoch(value.map(decode_target_epoch).transpose()?),
            TARGET => Body::Target { member_id: member_id(), value: value.map(decode_target).transpose()? },
            CURRENT => {
                Body::Current { member_id: member_id(), value: value.map(decode_current).transpose()? }
            }
            STATE_PARTITIONS => {
                Body::StatePartitions(value.map(decode_state_partitions).transpose()?.map(Arc::new))
            }
            _ => return Ok(None),
        };
        Ok(Some(Self { group_id: group_id.into(), body }))
    }
}

fn epoch_value(value: GroupEpoch) -> Result<Bytes, EncodeError> {
    let GroupEpoch { epoch, metadata_hash } = value;
    prefixed(VALUE_VERSION, &ShareGroupMetadataValue { epoch, metadata_hash, ..Default::default() })
}

fn decode_epoch(bytes: Bytes) -> Result<GroupEpoch, RecordError> {
    let value: ShareGroupMetadataValue = decode(bytes)?;
    Ok(GroupEpoch { epoch: value.epoch, metadata_hash: value.metadata_hash })
}

fn member_value(member: &MemberMetadata) -> Result<Bytes, EncodeError> {
    let value = ShareGroupMemberMetadataValue {
        rack_id: member.rack_id.as_deref().map(str::to_owned),
        client_id: member.client_id.to_string(),
        client_host: member.client_host.to_string(),
        subscribed_topic_names: texts(&member.topics),
        ..Default::default()
    };
    prefixed(VALUE_VERSION, &value)
}

fn decode_member(bytes: Bytes) -> Result<MemberMetadata, RecordError> {
    let value: ShareGroupMemberMetadataValue = decode(bytes)?;
    Ok(MemberMetadata {
        rack_id: value.rack_id.map(Into::into),
        client_id: value.client_id.into(),
        client_host: value.client_host.into(),
        topics: Arc::new(value.subscribed_topic_names.into_iter().map(Into::into).collect()),
    })
}

fn topic_partitions(partitions: &Partitions) -> Vec<TopicPartitions> {
    let topic = |(topic_id, partitions): (&Uuid, &BTreeSet<i32>)| TopicPartitions {
        topic_id: *topic_id,
        partitions: partitions.iter().copied().collect(),
        ..Default::default()
    };
    partitions.iter().map(topic).collect()
}

fn partitions_of(topics: Vec<TopicPartitions>) -> Arc<Partitions> {
    let topic = |topic: TopicPartitions| (topic.topic_id, topic.partitions.into_iter().collect());
    Arc::new(topics.into_iter().map(topic).collect())
}

fn target_value(partitions: &Partitions) -> Result<Bytes, EncodeError> {
    let topic_partitions = topic_partitions(partitions);
    prefixed(VALUE_VERSION, &ShareGroupTargetAssignmentMemberValue { topic_partitions, ..Default::default() })
}

fn decode_target(bytes: Bytes) -> Result<Arc<Partitions>, RecordError> {
    let value: ShareGroupTargetAssignmentMemberValue = decode(bytes)?;
    Ok(partitions_of(value.topic_partitions))
}

fn current_value(current: &CurrentAssignment) -> Result<Bytes, EncodeError> {
    let value = ShareGroupCurrentMemberAssignmentValue {
        member_epoch: current.epoch,
        previous_member_epoch: current.previous_epoch,
        state: current.state.id(),
        assigned_partitions: topic_partitions(&current.assigned),
        ..Default::default()
    };
    prefixed(VALUE_VERSION, &value)
}

fn decode_current(bytes: Bytes) -> Result<CurrentAssignment, RecordError> {
    let value: ShareGroupCurrentMemberAssignmentValue = decode(bytes)?;
    Ok(CurrentAssignment {
        epoch: value.member_epoch,
        previous_epoch: value.previous_member_epoch,
        state: MemberState::from_id(value.state),
        assigned: partitions_of(value.assigned_partitions),
    })
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
    prefixed(VALUE_VERSION, &value)
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
            Body::StatePartitions(Some(Arc::new(state))),
            Body::StatePartitions(None),
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
