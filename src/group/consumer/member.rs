//! A member of a consumer group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::group::ConsumerGroup;
use crate::group::assignor::Partitions;
use crate::group::command::Protocol;
use crate::group::modern::Member;

/// Partitions by topic, each with the epoch in which it was assigned. There are no empty maps in it.
pub type Epochs = BTreeMap<Uuid, BTreeMap<i32, i32>>;

/// How far a member is on its way to its target assignment (`MemberState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// It has what it is to have.
    Stable,
    /// It has to give up partitions before it can go to the next epoch.
    UnrevokedPartitions,
    /// It is in the last epoch, and waits for partitions that others have to give up.
    UnreleasedPartitions,
    /// A later version of the software knows what this is.
    Unknown,
}

impl MemberState {
    /// The number in records.
    pub fn id(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::UnrevokedPartitions => 1,
            Self::UnreleasedPartitions => 2,
            Self::Unknown => 127,
        }
    }

    /// The state of this number.
    pub fn from_id(id: i8) -> Self {
        let known = [Self::Stable, Self::UnrevokedPartitions, Self::UnreleasedPartitions];
        known.into_iter().find(|state| state.id() == id).unwrap_or(Self::Unknown)
    }
}

/// What a member that uses the classic protocol has beside what all have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicMetadata {
    pub session_timeout_ms: i32,
    pub protocols: Vec<Protocol>,
}

/// A member of a consumer group (`ConsumerGroupMember`).
pub type ConsumerMember = Member<ConsumerGroup>;

impl ConsumerMember {
    /// Whether it uses the classic protocol.
    pub fn is_classic(&self) -> bool {
        self.metadata.classic.is_some()
    }

    /// The regular expression that it is subscribed to.
    pub fn expression(&self) -> Option<&Arc<str>> {
        self.metadata.expression.as_ref().filter(|expression| !expression.is_empty())
    }

    /// Whether it has what it is to have in this epoch.
    pub fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.current.state == MemberState::Stable && self.current.epoch == epoch
    }

    /// The epoch in which a partition was assigned, as long as the member may still have it.
    pub fn assigned_in(&self, topic_id: Uuid, partition: i32) -> Option<i32> {
        let find = |epochs: &Epochs| epochs.get(&topic_id)?.get(&partition).copied();
        find(&self.current.assigned).or_else(|| find(&self.current.revoking))
    }
}

/// The partitions without their epochs.
pub fn without_epochs(epochs: &Epochs) -> Partitions {
    let partitions = |(topic, partitions): (&Uuid, &BTreeMap<i32, i32>)| {
        (*topic, partitions.keys().copied().collect::<BTreeSet<i32>>())
    };
    epochs.iter().map(partitions).collect()
}

/// The partitions, all assigned in this epoch.
pub fn with_epoch(partitions: &Partitions, epoch: i32) -> Epochs {
    let epochs = |(topic, partitions): (&Uuid, &BTreeSet<i32>)| {
        (*topic, partitions.iter().map(|partition| (*partition, epoch)).collect())
    };
    partitions.iter().map(epochs).collect()
}
