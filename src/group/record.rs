//! The records of `__consumer_offsets`, in Kafka's own bytes (`GroupCoordinatorRecordSerde`): any Kafka tool reads
//! them, and what Kafka wrote can be read.
//!
//! Keys and values begin with an i16: in a key it says which record it is, in a value its version. A record without
//! value deletes what its key names.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use uuid::Uuid;

use super::classic::Member;
use super::command::{CommittedOffset, Protocol};
use super::consumer::record::ConsumerRecord;
use super::share::record::ShareRecord;
use super::streams::record::StreamsRecord;
use crate::protocol::schema::{Schema as _, prefixed, schema, versioned};
use crate::protocol::wire::{DecodeError, EncodeError};
use crate::types::TimestampMs;

/// The version in which group metadata is written.
const GROUP_METADATA_VERSION: i16 = 4;
/// The version in which offsets are written, unless the client gave them an end.
const OFFSET_COMMIT_VERSION: i16 = 4;
/// The only version that can hold an end.
const OFFSET_COMMIT_EXPIRING_VERSION: i16 = 1;

const LEGACY_OFFSET_COMMIT: i16 = 0;
const OFFSET_COMMIT: i16 = 1;
const GROUP_METADATA: i16 = 2;

schema! {
    /// Whose offset.
    struct OffsetCommitKey, versions 0..=1, flexible 9.. {
        group: String,
        topic: String,
        partition: i32,
    }
    /// A committed offset.
    struct OffsetCommitValue, versions 0..=4, flexible 4.. {
        offset: i64,
        leader_epoch: i32 [3.., ignorable] = -1,
        metadata: String,
        commit_timestamp: i64,
        expire_timestamp: i64 [1..=1, ignorable] = -1,
        topic_id: Uuid [4.., tag 0, ignorable],
    }
    /// Which group.
    struct GroupMetadataKey, versions 2..=2, flexible 9.. {
        group: String,
    }
    /// A group in a generation.
    struct GroupMetadataValue, versions 0..=4, flexible 4.. {
        protocol_type: String,
        generation: i32,
        protocol: Option<String>,
        leader: Option<String>,
        current_state_timestamp: i64 [2.., ignorable] = -1,
        members: Vec<MemberMetadataValue>,
    }
    struct MemberMetadataValue {
        member_id: String,
        group_instance_id: Option<String> [3.., ignorable] = None,
        client_id: String,
        client_host: String,
        rebalance_timeout: i32 [1.., ignorable] = -1,
        session_timeout: i32,
        subscription: Bytes,
        assignment: Bytes,
    }
}

/// A change of groups or offsets that lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A committed offset, or that it is gone.
    Offset { group_id: Arc<str>, topic: Arc<str>, partition: i32, value: Option<CommittedOffset> },
    /// A classic group, or that it is gone.
    Group { group_id: Arc<str>, value: Option<GroupMetadata> },
    /// A part of a consumer group, or that it is gone.
    Consumer(ConsumerRecord),
    /// Something about a share group, or that it is gone.
    Share(ShareRecord),
    /// A part of a streams group, or that it is gone.
    Streams(StreamsRecord),
}

/// A classic group in a generation (`GroupMetadataValue`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadata {
    /// Empty for a group that only commits.
    pub protocol_type: Arc<str>,
    pub generation_id: i32,
    pub protocol_name: Option<Arc<str>>,
    pub leader: Option<Arc<str>>,
    /// -1 in records of old brokers.
    pub state_since_ms: TimestampMs,
    pub members: Vec<MemberMetadata>,
}

/// A member in a generation (`GroupMetadataValue.MemberMetadata`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberMetadata {
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    /// -1 in records of old brokers, where the session timeout counts.
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub subscription: Bytes,
    pub assignment: Bytes,
}

impl GroupMetadata {
    /// About how many bytes the record has.
    pub fn size_bytes(&self) -> usize {
        let member = |member: &MemberMetadata| {
            let texts = member.member_id.len() + member.client_id.len() + member.client_host.len();
            texts + member.subscription.len() + member.assignment.len()
        };
        self.members.iter().map(member).sum()
    }
}

impl MemberMetadata {
    /// The member. What the record does not hold (other protocols, held requests) it has from `known`.
    pub fn to_member(&self, known: Option<&Arc<Member>>, protocol_name: Option<&Arc<str>>) -> Member {
        let written = Protocol {
            name: protocol_name.cloned().unwrap_or_default(),
            metadata: self.subscription.clone(),
        };
        let protocols = known.map(|member| member.protocols.clone()).filter(|known| known.contains(&written));
        Member {
            member_id: self.member_id.clone(),
            group_instance_id: self.group_instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: match self.rebalance_timeout_ms {
                -1 => self.session_timeout_ms,
                timeout_ms => timeout_ms,
            },
            session_timeout_ms: self.session_timeout_ms,
            protocols: protocols.unwrap_or_else(|| vec![written]),
            assignment: self.assignment.clone(),
            is_new: known.is_some_and(|member| member.is_new),
            awaiting_join: known.and_then(|member| member.awaiting_join),
            awaiting_sync: known.and_then(|member| member.awaiting_sync),
        }
    }
}

/// Why a record could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("a key without its record type")]
    NoType,
}

impl Record {
    /// Key and value as Kafka writes them.
    pub fn encode(&self) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        Ok(match self {
            Self::Offset { group_id, topic, partition, value } => {
                (offset_key(group_id, topic, *partition)?, value.as_ref().map(offset_value).transpose()?)
            }
            Self::Group { group_id, value } => {
                (group_key(group_id)?, value.as_ref().map(group_value).transpose()?)
            }
            Self::Consumer(record) => record.encode()?,
            Self::Share(record) => record.encode()?,
            Self::Streams(record) => record.encode()?,
        })
    }

    /// Reads what a broker wrote; `None` for a record of a kind that is not known here.
    pub fn decode(mut key: Bytes, value: Option<Bytes>) -> Result<Option<Self>, RecordError> {
        let kind = key.try_get_i16().map_err(|_| RecordError::NoType)?;
        Ok(match kind {
            LEGACY_OFFSET_COMMIT | OFFSET_COMMIT => {
                let key = OffsetCommitKey::decode(&mut key, kind)?;
                Some(Self::Offset {
                    group_id: key.group.into(),
                    topic: key.topic.into(),
                    partition: key.partition,
                    value: value.map(decode_offset).transpose()?,
                })
            }
            GROUP_METADATA => {
                let key = GroupMetadataKey::decode(&mut key, kind)?;
                Some(Self::Group { group_id: key.group.into(), value: value.map(decode_group).transpose()? })
            }
            _ => {
                if let Some(record) = ConsumerRecord::decode(kind, key.clone(), value.clone())? {
                    Some(Self::Consumer(record))
                } else if let Some(record) = ShareRecord::decode(kind, key.clone(), value.clone())? {
                    Some(Self::Share(record))
                } else {
                    StreamsRecord::decode(kind, key, value)?.map(Self::Streams)
                }
            }
        })
    }

    /// The record about an item of a group of one of the newer protocols, from the bytes of its value; `None` for one of
    /// a kind that is not known here.
    pub fn of_item(kind: i16, group_id: &str, item: &str, value: Bytes) -> Result<Option<Self>, RecordError> {
        let value = Some(value);
        if let Some(record) = ConsumerRecord::of_item(kind, group_id, item, value.clone())? {
            return Ok(Some(Self::Consumer(record)));
        }
        if let Some(record) = ShareRecord::of_item(kind, group_id, item, value.clone())? {
            return Ok(Some(Self::Share(record)));
        }
        Ok(StreamsRecord::of_item(kind, group_id, item, value)?.map(Self::Streams))
    }
}

fn offset_key(group_id: &str, topic: &str, partition: i32) -> Result<Bytes, EncodeError> {
    let key =
        OffsetCommitKey { group: group_id.into(), topic: topic.into(), partition, ..Default::default() };
    prefixed(OFFSET_COMMIT, &key, OFFSET_COMMIT)
}

fn group_key(group_id: &str) -> Result<Bytes, EncodeError> {
    let key = GroupMetadataKey { group: group_id.into(), ..Default::default() };
    prefixed(GROUP_METADATA, &key, GROUP_METADATA)
}

/// A committed offset's bytes: the value of its record, and of its entry in the view.
pub fn offset_value(offset: &CommittedOffset) -> Result<Bytes, EncodeError> {
    let expires = offset.expire_timestamp_ms != -1;
    let value = OffsetCommitValue {
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata.to_string(),
        commit_timestamp: offset.commit_timestamp_ms,
        expire_timestamp: offset.expire_timestamp_ms,
        topic_id: offset.topic_id,
        ..Default::default()
    };
    let version = if expires { OFFSET_COMMIT_EXPIRING_VERSION } else { OFFSET_COMMIT_VERSION };
    prefixed(version, &value, version)
}

/// A group's bytes: the value of its record, and of its entry in the view.
pub fn group_value(group: &GroupMetadata) -> Result<Bytes, EncodeError> {
    let member = |member: &MemberMetadata| MemberMetadataValue {
        member_id: member.member_id.to_string(),
        group_instance_id: member.group_instance_id.as_deref().map(str::to_owned),
        client_id: member.client_id.to_string(),
        client_host: member.client_host.to_string(),
        rebalance_timeout: member.rebalance_timeout_ms,
        session_timeout: member.session_timeout_ms,
        subscription: member.subscription.clone(),
        assignment: member.assignment.clone(),
        ..Default::default()
    };
    let value = GroupMetadataValue {
        protocol_type: group.protocol_type.to_string(),
        generation: group.generation_id,
        protocol: group.protocol_name.as_deref().map(str::to_owned),
        leader: group.leader.as_deref().map(str::to_owned),
        current_state_timestamp: group.state_since_ms,
        members: group.members.iter().map(member).collect(),
        ..Default::default()
    };
    prefixed(GROUP_METADATA_VERSION, &value, GROUP_METADATA_VERSION)
}

/// Reads [`offset_value`]'s bytes, in any version.
pub fn decode_offset(bytes: Bytes) -> Result<CommittedOffset, RecordError> {
    let value: OffsetCommitValue = versioned(bytes)?;
    Ok(CommittedOffset {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: value.metadata.into(),
        commit_timestamp_ms: value.commit_timestamp,
        expire_timestamp_ms: value.expire_timestamp,
        topic_id: value.topic_id,
    })
}

/// Reads [`group_value`]'s bytes, in any version.
pub fn decode_group(bytes: Bytes) -> Result<GroupMetadata, RecordError> {
    let value: GroupMetadataValue = versioned(bytes)?;
    let member = |member: MemberMetadataValue| MemberMetadata {
        member_id: member.member_id.into(),
        group_instance_id: member.group_instance_id.map(Into::into),
        client_id: member.client_id.into(),
        client_host: member.client_host.into(),
        rebalance_timeout_ms: member.rebalance_timeout,
        session_timeout_ms: member.session_timeout,
        subscription: member.subscription,
        assignment: member.assignment,
    };
    Ok(GroupMetadata {
        protocol_type: value.protocol_type.into(),
        generation_id: value.generation,
        protocol_name: value.protocol.map(Into::into),
        leader: value.leader.map(Into::into),
        state_since_ms: value.current_state_timestamp,
        members: value.members.into_iter().map(member).collect(),
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    // Written by the classes of Apache Kafka 4.3.1 (GroupCoordinatorRecordSerde, MessageUtil).
    const OFFSET_KEY: &str = "000100016700066f726465727300000003";
    const OFFSET_VALUES: [&str; 5] = [
        "0000000000000000002a00016d0000018bcfe56800",
        "0001000000000000002a00016d0000018bcfe568000000018bcfe56be8",
        "0002000000000000002a00016d0000018bcfe56800",
        "0003000000000000002a0000000500016d0000018bcfe56800",
        "0004000000000000002a00000005026d0000018bcfe5680001001000000000000000000000000000000007",
    ];
    const OFFSET_WITHOUT_ID: &str = "0004000000000000002affffffff010000018bcfe5680000";
    const GROUP_KEY: &str = "0002000167";
    const GROUP_VALUES: [&str; 5] = [
        "00000008636f6e73756d657200000007000572616e67650003692d31000000010003692d31000163000a2f3132372e302e302e3100002710\
         0000000201020000000103",
        "00010008636f6e73756d657200000007000572616e67650003692d31000000010003692d31000163000a2f3132372e302e302e310000ea60\
         000027100000000201020000000103",
        "00020008636f6e73756d657200000007000572616e67650003692d310000018bcfe56800000000010003692d31000163000a2f3132372e30\
         2e302e310000ea60000027100000000201020000000103",
        "00030008636f6e73756d657200000007000572616e67650003692d310000018bcfe56800000000010003692d31000169000163000a2f3132\
         372e302e302e310000ea60000027100000000201020000000103",
        "000409636f6e73756d6572000000070672616e676504692d310000018bcfe568000204692d31026902630b2f3132372e302e302e310000ea\
         600000271003010202030000",
    ];
    const EMPTY_GROUP: &str = "0004010000000000000000018bcfe568000100";

    fn hex(text: &str) -> Bytes {
        let digits: Vec<char> = text.chars().collect();
        digits.chunks(2).map(|two| u8::from_str_radix(&two.iter().collect::<String>(), 16).unwrap()).collect()
    }

    fn offset_record() -> Record {
        let value = CommittedOffset {
            offset: 42,
            leader_epoch: 5,
            metadata: "m".into(),
            commit_timestamp_ms: 1_700_000_000_000,
            expire_timestamp_ms: -1,
            topic_id: Uuid::from_u128(7),
        };
        Record::Offset { group_id: "g".into(), topic: "orders".into(), partition: 3, value: Some(value) }
    }

    fn group_record() -> GroupMetadata {
        GroupMetadata {
            protocol_type: "consumer".into(),
            generation_id: 7,
            protocol_name: Some("range".into()),
            leader: Some("i-1".into()),
            state_since_ms: 1_700_000_000_000,
            members: vec![MemberMetadata {
                member_id: "i-1".into(),
                group_instance_id: Some("i".into()),
                client_id: "c".into(),
                client_host: "/127.0.0.1".into(),
                rebalance_timeout_ms: 60_000,
                session_timeout_ms: 10_000,
                subscription: Bytes::from_static(&[1, 2]),
                assignment: Bytes::from_static(&[3]),
            }],
        }
    }

    #[test]
    fn offsets_are_written_as_kafka_writes_them() {
        let (key, value) = offset_record().encode().unwrap();
        assert_eq!((key, value.unwrap()), (hex(OFFSET_KEY), hex(OFFSET_VALUES[4])));
        let Record::Offset { value: Some(offset), .. } = offset_record() else {
            unreachable!("it has a value")
        };
        let plain = CommittedOffset {
            leader_epoch: -1,
            metadata: "".into(),
            topic_id: Uuid::nil(),
            ..offset.clone()
        };
        assert_eq!(offset_value(&plain).unwrap(), hex(OFFSET_WITHOUT_ID));
        let expiring = CommittedOffset { expire_timestamp_ms: 1_700_000_001_000, ..offset };
        assert_eq!(offset_value(&expiring).unwrap(), hex(OFFSET_VALUES[1]));
    }

    #[test]
    fn groups_are_written_as_kafka_writes_them() {
        let record = Record::Group { group_id: "g".into(), value: Some(group_record()) };
        let (key, value) = record.encode().unwrap();
        assert_eq!((key, value.unwrap()), (hex(GROUP_KEY), hex(GROUP_VALUES[4])));
        let empty = GroupMetadata {
            protocol_type: "".into(),
            generation_id: 0,
            protocol_name: None,
            leader: None,
            members: Vec::new(),
            ..group_record()
        };
        assert_eq!(group_value(&empty).unwrap(), hex(EMPTY_GROUP));
    }

    #[test]
    fn every_version_of_a_value_is_read() {
        for (version, value) in OFFSET_VALUES.into_iter().enumerate() {
            let offset = decode_offset(hex(value)).unwrap();
            assert_eq!((offset.offset, &*offset.metadata), (42, "m"), "version {version}");
            assert_eq!(offset.expire_timestamp_ms, if version == 1 { 1_700_000_001_000 } else { -1 });
            assert_eq!(offset.leader_epoch, if version >= 3 { 5 } else { -1 });
            assert_eq!(offset.topic_id.is_nil(), version < 4);
        }
        for (version, value) in GROUP_VALUES.into_iter().enumerate() {
            let mut want = group_record();
            want.state_since_ms = if version >= 2 { want.state_since_ms } else { -1 };
            want.members[0].rebalance_timeout_ms = if version >= 1 { 60_000 } else { -1 };
            want.members[0].group_instance_id = (version >= 3).then(|| "i".into());
            assert_eq!(decode_group(hex(value)).unwrap(), want, "version {version}");
        }
    }

    #[test]
    fn records_come_back_and_others_are_left_alone() {
        let group = Record::Group { group_id: "g".into(), value: Some(group_record()) };
        let gone = Record::Offset { group_id: "g".into(), topic: "t".into(), partition: 0, value: None };
        for record in [offset_record(), group, gone] {
            let (key, value) = record.encode().unwrap();
            assert_eq!(Record::decode(key, value), Ok(Some(record)));
        }
        // A type that no version of Kafka has yet.
        assert_eq!(Record::decode(hex("0063000167"), None), Ok(None));
        assert_eq!(Record::decode(hex("00"), None), Err(RecordError::NoType));
        assert!(Record::decode(hex(GROUP_KEY), Some(hex("0009"))).is_err());
        for end in 0..hex(GROUP_VALUES[4]).len() {
            assert!(decode_group(hex(GROUP_VALUES[4]).slice(..end)).is_err());
        }
    }
}
