//! The state of one share group.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;

use super::record::{Body, CurrentAssignment, MemberMetadata, StatePartitions};
use crate::group::assignor::Partitions;
use crate::group::consumer::member::{LEAVE_EPOCH, MemberState};
use crate::types::TimestampMs;

/// Where a share group stands (`ShareGroupState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShareGroupState {
    /// It has no members.
    Empty,
    /// It has some.
    Stable,
}

impl ShareGroupState {
    /// The name that clients see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Stable => "Stable",
        }
    }
}

/// A member of a share group (`ShareGroupMember`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareMember {
    pub member_id: Arc<str>,
    pub metadata: MemberMetadata,
    pub current: CurrentAssignment,
}

impl ShareMember {
    /// A member of which nothing is known but its id.
    pub fn new(member_id: Arc<str>) -> Self {
        Self {
            member_id,
            metadata: MemberMetadata {
                rack_id: None,
                client_id: Arc::default(),
                client_host: Arc::default(),
                topics: Arc::default(),
            },
            current: CurrentAssignment {
                epoch: 0,
                previous_epoch: -1,
                state: MemberState::Stable,
                assigned: Arc::default(),
            },
        }
    }
}

/// A change of a group that is not persisted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShareChange {
    /// The topics were looked at in this version of the cluster's metadata.
    TopicsSeen { version: i64 },
    /// What is being initialised was asked for at this time.
    Initializing { since_ms: TimestampMs },
}

/// A share group. Cheap to copy: members are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareGroup {
    pub group_id: Arc<str>,
    /// Grows when members, topics or initialised partitions change.
    pub epoch: i32,
    /// Of the topics that the group is subscribed to.
    pub metadata_hash: i64,
    /// The epoch for which the target assignment was computed; -1 once that is deleted.
    pub target_epoch: i32,
    /// When it was computed; 0 where that is not known.
    pub assigned_at_ms: TimestampMs,
    pub members: OrdMap<Arc<str>, Arc<ShareMember>>,
    /// What each member is to have.
    pub target: OrdMap<Arc<str>, Arc<Partitions>>,
    /// The partitions whose state the share coordinator has, is asked for, or is to forget.
    pub state_partitions: Arc<StatePartitions>,
    /// When the last record about them was written.
    pub initializing_since_ms: TimestampMs,
    /// The version of the cluster's metadata in which the topics were looked at; -1 for none.
    pub topics_seen: i64,
    /// Topic → how many members are subscribed to it.
    topics: OrdMap<Arc<str>, usize>,
}

impl ShareGroup {
    /// A group that nobody has joined yet.
    pub fn new(group_id: Arc<str>) -> Self {
        Self {
            group_id,
            epoch: 1,
            metadata_hash: 0,
            target_epoch: 1,
            assigned_at_ms: 0,
            members: OrdMap::new(),
            target: OrdMap::new(),
            state_partitions: Arc::default(),
            initializing_since_ms: 0,
            topics_seen: -1,
            topics: OrdMap::new(),
        }
    }

    /// Where the group stands.
    pub fn state(&self) -> ShareGroupState {
        if self.members.is_empty() { ShareGroupState::Empty } else { ShareGroupState::Stable }
    }

    /// Whether a member asks for the topic.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    /// The topics that members ask for, whether they exist or not.
    pub fn subscribed_topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.topics.keys()
    }

    /// Whether all members are subscribed to the same topics (`ModernGroup.subscriptionType`).
    pub fn is_homogeneous(&self) -> bool {
        self.topics.values().all(|count| *count == self.members.len())
    }

    /// What a member is to have.
    pub fn target_of(&self, member_id: &str) -> Arc<Partitions> {
        self.target.get(member_id).cloned().unwrap_or_default()
    }

    /// Changes the group for good. Deleting the group itself is its owner's.
    pub fn replay(&mut self, body: &Body) {
        match body {
            Body::Epoch(Some(value)) => {
                self.epoch = value.epoch;
                self.metadata_hash = value.metadata_hash;
            }
            Body::Epoch(None) => {}
            Body::Member { member_id, value: Some(value) } => {
                self.update(member_id, |member| member.metadata = value.clone());
            }
            Body::Member { member_id, value: None } => {
                if let Some(member) = self.members.remove(member_id) {
                    self.uncount(&member.metadata.topics);
                }
            }
            Body::TargetEpoch(Some(value)) => {
                self.target_epoch = value.epoch;
                self.assigned_at_ms = value.assigned_at_ms;
            }
            Body::TargetEpoch(None) => (self.target_epoch, self.assigned_at_ms) = (-1, 0),
            Body::Target { member_id, value: Some(value) } => {
                self.target.insert(member_id.clone(), value.clone());
            }
            Body::Target { member_id, value: None } => {
                self.target.remove(member_id);
            }
            Body::Current { member_id, value: Some(value) } => {
                self.update(member_id, |member| member.current = value.clone());
            }
            Body::Current { member_id, value: None } => {
                if self.members.contains_key(member_id) {
                    self.update(member_id, |member| {
                        member.current.epoch = LEAVE_EPOCH;
                        member.current.previous_epoch = LEAVE_EPOCH;
                        member.current.assigned = Arc::default();
                    });
                }
            }
            Body::StatePartitions(value) => self.state_partitions = value.clone().unwrap_or_default(),
        }
    }

    /// Changes the group until the next restart.
    pub fn replay_change(&mut self, change: &ShareChange) {
        match change {
            ShareChange::TopicsSeen { version } => self.topics_seen = *version,
            ShareChange::Initializing { since_ms } => self.initializing_since_ms = *since_ms,
        }
    }

    fn update(&mut self, member_id: &Arc<str>, change: impl FnOnce(&mut ShareMember)) {
        let before = self.members.get(member_id).cloned();
        let mut after = before.as_deref().cloned().unwrap_or_else(|| ShareMember::new(member_id.clone()));
        change(&mut after);
        if let Some(before) = before {
            self.uncount(&before.metadata.topics);
        }
        for topic in after.metadata.topics.iter() {
            *self.topics.entry(topic.clone()).or_default() += 1;
        }
        self.members.insert(member_id.clone(), Arc::new(after));
    }

    fn uncount(&mut self, topics: &BTreeSet<Arc<str>>) {
        for topic in topics {
            match self.topics.get(topic) {
                Some(0 | 1) | None => self.topics.remove(topic),
                Some(count) => self.topics.insert(topic.clone(), count - 1),
            };
        }
    }
}
