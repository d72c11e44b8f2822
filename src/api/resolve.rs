//! From what a request names to the partition that this broker leads.

use std::sync::Arc;

use uuid::Uuid;

use super::context::BrokerHandles;
use crate::error::ErrorCode;
use crate::log::Partition;
use crate::metadata::{Image, TopicImage};
use crate::types::{LeaderEpoch, NodeId};

/// How a request names a topic: older versions by name, newer ones by id.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TopicRef<'a> {
    Name(&'a str),
    Id(Uuid),
}

/// Who leads a partition, for a client that asked the wrong broker (KIP-951).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CurrentLeader {
    pub(crate) id: NodeId,
    pub(crate) epoch: LeaderEpoch,
}

/// The topic that a request names.
///
/// # Errors
/// `UNKNOWN_TOPIC_ID` or `UNKNOWN_TOPIC_OR_PARTITION`, by how it was named.
pub(crate) fn topic<'a>(image: &'a Image, topic: TopicRef<'_>) -> Result<&'a Arc<TopicImage>, ErrorCode> {
    match topic {
        TopicRef::Name(name) => image.topics.get(name).ok_or(ErrorCode::UnknownTopicOrPartition),
        TopicRef::Id(id) => image.topics.by_id(id).ok_or(ErrorCode::UnknownTopicId),
    }
}

/// The log of a partition that this broker leads.
///
/// # Errors
/// `UNKNOWN_TOPIC_OR_PARTITION` where the topic has no such partition, `NOT_LEADER_OR_FOLLOWER` where another broker
/// has it.
pub(crate) fn partition(
    broker: &BrokerHandles,
    topic: &TopicImage,
    index: i32,
) -> Result<Arc<Partition>, ErrorCode> {
    let placed = topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if placed.leader != broker.node_id {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    broker.logs.get(topic.id, index).ok_or(ErrorCode::NotLeaderOrFollower)
}

/// The log of a partition that this broker has a replica of.
///
/// # Errors
/// As [`partition`]'s, with any broker that has a replica in place of the leader.
pub(crate) fn replica(
    broker: &BrokerHandles,
    topic: &TopicImage,
    index: i32,
) -> Result<Arc<Partition>, ErrorCode> {
    let placed = topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if !placed.replicas.contains(&broker.node_id) {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    broker.logs.get(topic.id, index).ok_or(ErrorCode::NotLeaderOrFollower)
}

/// The log of a partition by the name of its topic.
///
/// # Errors
/// As [`topic`] and [`partition`].
pub(crate) fn named_partition(
    broker: &BrokerHandles,
    image: &Image,
    name: &str,
    index: i32,
) -> Result<Arc<Partition>, ErrorCode> {
    partition(broker, topic(image, TopicRef::Name(name))?, index)
}

/// Who leads a partition, as the image has it.
pub(crate) fn current_leader(topic: &TopicImage, index: i32) -> Option<CurrentLeader> {
    topic
        .partition(index)
        .map(|partition| CurrentLeader { id: partition.leader, epoch: partition.leader_epoch })
}

/// The reason why a topic can not have this name (`Topic.validate`); `None` where it can.
pub(crate) fn invalid_topic_name(name: &str) -> Option<String> {
    const LENGTH_MAX: usize = 249;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() {
        Some("topic name is empty".to_owned())
    } else if name == "." || name == ".." {
        Some("topic name can not be '.' or '..'".to_owned())
    } else if name.len() > LENGTH_MAX {
        Some(format!("topic name has {} characters, expected at most {LENGTH_MAX}", name.len()))
    } else if !name.chars().all(legal) {
        Some(format!("topic name '{name}' is not made of letters, digits, '.', '_' and '-' only"))
    } else {
        None
    }
}
