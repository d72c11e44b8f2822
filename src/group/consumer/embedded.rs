//! What Kafka's consumers put into the bytes of the classic protocol (`ConsumerProtocol`): subscriptions and assignments.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::group::assignor::Partitions;
use crate::group::cluster::ClusterView;
use crate::protocol::schema::{Schema, schema};
use crate::protocol::wire::{DecodeError, EncodeError};

/// The last version there is. A later one begins with the same fields.
const VERSION_MAX: i16 = 3;

schema! {
    struct ConsumerProtocolSubscription, versions 0..=3, flexible 9.. {
        topics: Vec<String>,
        user_data: Option<Bytes> = None,
        owned_partitions: Vec<TopicPartitions> [1.., ignorable],
        generation_id: i32 [2.., ignorable] = -1,
        rack_id: Option<String> [3.., ignorable] = None,
    }
    struct ConsumerProtocolAssignment, versions 0..=3, flexible 9.. {
        assigned_partitions: Vec<TopicPartitions>,
        user_data: Option<Bytes> = None,
    }
    struct TopicPartitions {
        topic: String,
        partitions: Vec<i32>,
    }
}

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EmbeddedError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("there is no version")]
    NoVersion,
    #[error("the version is negative")]
    NegativeVersion,
    /// What an assignor of one's own puts there would be lost.
    #[error("an assignor has put data of its own into an assignment")]
    UserData,
}

/// A member's subscription in the classic protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    pub topics: BTreeSet<Arc<str>>,
    /// By name.
    pub owned: BTreeMap<String, BTreeSet<i32>>,
    pub rack_id: Option<Arc<str>>,
}

fn version(bytes: &mut Bytes) -> Result<i16, EmbeddedError> {
    let version = bytes.try_get_i16().map_err(|_| EmbeddedError::NoVersion)?;
    if version < 0 { Err(EmbeddedError::NegativeVersion) } else { Ok(version.min(VERSION_MAX)) }
}

/// Reads a subscription.
pub(super) fn read_subscription(mut bytes: Bytes) -> Result<Subscription, EmbeddedError> {
    let version = version(&mut bytes)?;
    let read = ConsumerProtocolSubscription::decode(&mut bytes, version)?;
    let owned = read.owned_partitions.into_iter().map(|t| (t.topic, t.partitions.into_iter().collect()));
    Ok(Subscription {
        topics: read.topics.into_iter().map(Into::into).collect(),
        owned: owned.collect(),
        rack_id: read.rack_id.filter(|rack| !rack.is_empty()).map(Into::into),
    })
}

/// Reads an assignment; topics that do not exist any more are left out.
pub(super) fn read_assignment(mut bytes: Bytes, cluster: &ClusterView) -> Result<Partitions, EmbeddedError> {
    if bytes.is_empty() {
        // The member has joined, and has not synced yet.
        return Ok(Partitions::new());
    }
    let version = version(&mut bytes)?;
    let read = ConsumerProtocolAssignment::decode(&mut bytes, version)?;
    if read.user_data.is_some_and(|data| !data.is_empty()) {
        return Err(EmbeddedError::UserData);
    }
    let topics = read.assigned_partitions.into_iter();
    Ok(by_id(topics.map(|topic| (topic.topic, topic.partitions.into_iter().collect())), cluster))
}

/// Partitions of topics that exist, by the ids of these.
pub(super) fn by_id(
    topics: impl Iterator<Item = (String, BTreeSet<i32>)>,
    cluster: &ClusterView,
) -> Partitions {
    topics.filter_map(|(name, partitions)| Some((cluster.topic(&name)?.id, partitions))).collect()
}

/// Writes an assignment, in the version of the member's subscription.
pub(super) fn write_assignment(
    partitions: &Partitions,
    mut subscription: Bytes,
    cluster: &ClusterView,
) -> Result<Bytes, EncodeError> {
    // A subscription that can not be read was refused when its member joined.
    let version = version(&mut subscription).unwrap_or_default();
    let topic = |(id, partitions): (&uuid::Uuid, &BTreeSet<i32>)| {
        cluster.topic_by_id(*id).map(|topic| TopicPartitions {
            topic: topic.name.to_string(),
            partitions: partitions.iter().copied().collect(),
            ..TopicPartitions::default()
        })
    };
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: partitions.iter().filter_map(topic).collect(),
        ..ConsumerProtocolAssignment::default()
    };
    let mut bytes = BytesMut::new();
    bytes.put_i16(version);
    assignment.encode(&mut bytes, version)?;
    Ok(bytes.freeze())
}
