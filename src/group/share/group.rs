//! The state of one share group.

use std::sync::Arc;

use imbl::OrdMap;

use super::record::{CurrentAssignment, MemberMetadata, Own, StatePartitions, TYPES};
use crate::group::assignor::Partitions;
use crate::group::cluster::ClusterView;
use crate::group::modern::record::{GroupEpoch, RecordTypes};
use crate::group::modern::{Member, Members, ModernGroup, TargetAssignment, called};
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
pub type ShareMember = Member<ShareGroup>;

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
    pub members: Members<Self>,
    pub target: TargetAssignment<Partitions>,
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
}

impl ModernGroup for ShareGroup {
    const KIND: &'static str = "share group";
    const RECORD_TYPES: RecordTypes = TYPES;

    type Epoch = GroupEpoch;
    type Metadata = MemberMetadata;
    type Current = CurrentAssignment;
    type Target = Partitions;
    type Own = Own;
    type Change = ShareChange;

    called!(Share);

    fn new(group_id: Arc<str>) -> Self {
        Self {
            group_id,
            epoch: 1,
            metadata_hash: 0,
            members: OrdMap::new(),
            target: TargetAssignment::default(),
            state_partitions: Arc::default(),
            initializing_since_ms: 0,
            topics_seen: -1,
            topics: OrdMap::new(),
        }
    }

    fn session_timeout_ms(&self, cluster: &ClusterView) -> i32 {
        cluster.share_times_of(&self.group_id).session_timeout_ms
    }

    fn begin_epoch(&mut self, epoch: &GroupEpoch) {
        self.epoch = epoch.epoch;
        self.metadata_hash = epoch.metadata_hash;
    }

    fn count(&mut self, member: &ShareMember) {
        for topic in member.metadata.topics.iter() {
            *self.topics.entry(topic.clone()).or_default() += 1;
        }
    }

    fn uncount(&mut self, member: &ShareMember) {
        for topic in member.metadata.topics.iter() {
            match self.topics.get(topic) {
                Some(0 | 1) | None => self.topics.remove(topic),
                Some(count) => self.topics.insert(topic.clone(), count - 1),
            };
        }
    }

    fn replay_own(&mut self, own: &Own) {
        let Own::StatePartitions(value) = own;
        self.state_partitions = value.clone().unwrap_or_default();
    }

    fn replay_change(&mut self, change: &ShareChange) {
        match change {
            ShareChange::TopicsSeen { version } => self.topics_seen = *version,
            ShareChange::Initializing { since_ms } => self.initializing_since_ms = *since_ms,
        }
    }
}
