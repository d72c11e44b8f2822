//! The words of share groups: a partition of a topic for a group, and what is kept of it.

use std::cmp::Ordering;
use std::sync::Arc;

use uuid::Uuid;

use crate::types::{LeaderEpoch, Offset, kafka_id, parse_kafka_id};

/// Where a share group starts in a partition that nobody has read from (`PartitionFactory.UNINITIALIZED_START_OFFSET`).
pub const UNINITIALIZED_START_OFFSET: Offset = -1;
/// How many records were delivered where that is not counted yet
/// (`PartitionFactory.UNINITIALIZED_DELIVERY_COMPLETE_COUNT`).
pub const UNINITIALIZED_DELIVERY_COMPLETE_COUNT: i32 = -1;

/// A partition of a topic for one share group (`SharePartitionKey`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SharePartition {
    /// The share group.
    pub group_id: Arc<str>,
    /// The topic.
    pub topic_id: Uuid,
    /// The partition of the topic.
    pub partition: i32,
}

impl SharePartition {
    /// The text by which its share coordinator is found: `group:topicId:partition`.
    pub fn coordinator_key(&self) -> String {
        format!("{}:{}:{}", self.group_id, kafka_id(self.topic_id), self.partition)
    }

    /// Reads a [`Self::coordinator_key`], whose group may have colons in its name; `None` where it is not one.
    pub fn from_coordinator_key(key: &str) -> Option<Self> {
        let (rest, partition) = key.rsplit_once(':')?;
        let (group_id, topic_id) = rest.rsplit_once(':')?;
        if group_id.trim().is_empty() {
            return None;
        }
        let (topic_id, partition) = (parse_kafka_id(topic_id)?, partition.parse().ok()?);
        Some(Self { group_id: group_id.into(), topic_id, partition })
    }
}

/// What became of some records in a row (`PersisterStateBatch`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StateBatch {
    /// The first record.
    pub first_offset: Offset,
    /// The last record.
    pub last_offset: Offset,
    /// 0 available, 2 acknowledged, 4 archived.
    pub delivery_state: i8,
    /// How often the records were delivered.
    pub delivery_count: i16,
}

impl Ord for StateBatch {
    /// By offsets, then by what is further in the life of a record.
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |batch: &Self| {
            (batch.first_offset, batch.last_offset, batch.delivery_count, batch.delivery_state)
        };
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for StateBatch {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What ReadShareGroupState tells of a share partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// Grows whenever the state begins anew.
    pub state_epoch: i32,
    /// The first record that is not done with; [`UNINITIALIZED_START_OFFSET`] where nobody has read.
    pub start_offset: Offset,
    /// The records from there on of which something is known, in order, without overlaps.
    pub batches: Vec<StateBatch>,
}

/// What ReadShareGroupStateSummary tells of a share partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateSummary {
    /// Grows whenever the state begins anew.
    pub state_epoch: i32,
    /// The epoch of the leader that read or wrote last.
    pub leader_epoch: LeaderEpoch,
    /// The first record that is not done with; [`UNINITIALIZED_START_OFFSET`] where nobody has read.
    pub start_offset: Offset,
    /// How many records from there on are done with; [`UNINITIALIZED_DELIVERY_COMPLETE_COUNT`] where nobody has
    /// counted.
    pub delivery_complete_count: i32,
}

/// What WriteShareGroupState changes in a share partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateUpdate {
    /// The state epoch that the writer knows; -1 is not checked.
    pub state_epoch: i32,
    /// The writer's leader epoch; -1 is not checked.
    pub leader_epoch: LeaderEpoch,
    /// The first record that is not done with; -1 leaves it as it is.
    pub start_offset: Offset,
    /// How many records from there on are done with.
    pub delivery_complete_count: i32,
    /// What is new about records.
    pub batches: Vec<StateBatch>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_partition_is_found_by_its_key() {
        let of = SharePartition { group_id: "a:b".into(), topic_id: Uuid::from_u128(1), partition: 7 };
        assert_eq!(of.coordinator_key(), "a:b:AAAAAAAAAAAAAAAAAAAAAQ:7");
        assert_eq!(SharePartition::from_coordinator_key(&of.coordinator_key()), Some(of));
        for not_one in ["", "a", "a:1", " :AAAAAAAAAAAAAAAAAAAAAQ:7", "a:b:7", "a:AAAAAAAAAAAAAAAAAAAAAQ:x"] {
            assert_eq!(SharePartition::from_coordinator_key(not_one), None, "{not_one}");
        }
    }
}
