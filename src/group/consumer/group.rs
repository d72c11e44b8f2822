//! The state of one consumer group.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use uuid::Uuid;

use super::member::{ConsumerMember, Epochs, MemberState};
use super::record::{CurrentAssignment, GroupEpoch, MemberMetadata, Own, ResolvedExpression, TYPES};
use crate::error::ErrorCode;
use crate::group::assignor::Partitions;
use crate::group::cluster::ClusterView;
use crate::group::command::CommitOffsets;
use crate::group::modern::record::RecordTypes;
use crate::group::modern::{Members, ModernGroup, TargetAssignment, called};

/// Where a consumer group stands (`ConsumerGroupState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConsumerGroupState {
    /// It has no members.
    Empty,
    /// Its target assignment is not for its last epoch.
    Assigning,
    /// Somebody does not have its target assignment yet.
    Reconciling,
    /// Everybody has what it is to have.
    Stable,
}

impl ConsumerGroupState {
    /// The name that clients see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

/// A change of a group that is not persisted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumerChange {
    /// The topics were looked at in this version of the cluster's metadata.
    TopicsSeen { version: i64 },
    /// The regular expressions are about to be resolved.
    ResolutionPlanned,
    /// They have been.
    ResolutionDone,
    /// A classic member was told to join again, and has its rebalance timeout to do so.
    JoinExpected { member_id: Arc<str> },
    /// It did, or is gone.
    JoinOver { member_id: Arc<str> },
}

/// How many members, and how many regular expressions, ask for a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SubscriptionCount {
    by_name: usize,
    by_expression: usize,
}

/// A consumer group. Cheap to copy: members are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroup {
    pub group_id: Arc<str>,
    /// Grows when members or topics change.
    pub epoch: i32,
    /// Of the topics that the group is subscribed to.
    pub metadata_hash: i64,
    pub members: Members<Self>,
    pub target: TargetAssignment<Partitions>,
    /// Instance id → member id.
    pub static_members: OrdMap<Arc<str>, Arc<str>>,
    /// The topics that each regular expression matches, where that is known.
    pub expressions: OrdMap<Arc<str>, Arc<ResolvedExpression>>,
    /// Whether a record of a broker before 4.1 is to be deleted.
    pub has_partition_metadata: bool,
    /// The version of the cluster's metadata in which the topics were looked at; -1 for none.
    pub topics_seen: i64,
    pub resolution_planned: bool,
    /// Classic members that are expected to join again.
    pub expected: OrdSet<Arc<str>>,
    topics: OrdMap<Arc<str>, SubscriptionCount>,
    /// Regular expression → how many members are subscribed to it.
    subscribed_expressions: OrdMap<Arc<str>, usize>,
    assignors: OrdMap<Arc<str>, usize>,
    classic_members: usize,
    /// Classic protocol → how many members support it.
    classic_protocols: OrdMap<Arc<str>, usize>,
    /// Partition → the epoch of the member that has it, or has not given it up yet.
    owned: OrdMap<(Uuid, i32), i32>,
}

fn increment<K: Ord + Clone>(counts: &mut OrdMap<K, usize>, key: &K) {
    *counts.entry(key.clone()).or_default() += 1;
}

fn decrement<K: Ord + Clone>(counts: &mut OrdMap<K, usize>, key: &K) {
    match counts.get(key) {
        Some(0 | 1) => counts.remove(key),
        Some(count) => counts.insert(key.clone(), count - 1),
        None => None,
    };
}

impl ConsumerGroup {
    /// Where the group stands.
    pub fn state(&self) -> ConsumerGroupState {
        if self.members.is_empty() {
            ConsumerGroupState::Empty
        } else if self.epoch > self.target.epoch {
            ConsumerGroupState::Assigning
        } else if self.members.values().all(|member| member.is_reconciled_to(self.target.epoch)) {
            ConsumerGroupState::Stable
        } else {
            ConsumerGroupState::Reconciling
        }
    }

    /// Whether a member asks for the topic.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    /// The topics that members ask for, whether they exist or not.
    pub fn subscribed_topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.topics.keys()
    }

    /// How many members are subscribed to a regular expression.
    pub fn subscribers_of(&self, expression: &str) -> usize {
        self.subscribed_expressions.get(expression).copied().unwrap_or(0)
    }

    /// The regular expressions that members are subscribed to.
    pub fn subscribed_expressions(&self) -> impl Iterator<Item = &Arc<str>> {
        self.subscribed_expressions.keys()
    }

    /// Whether all members are subscribed to the same topics (`ConsumerGroup.subscriptionType`).
    pub fn is_homogeneous(&self) -> bool {
        let everybody = self.members.len();
        match self.subscribed_expressions.values().next() {
            None => self.topics.values().all(|count| count.by_name == everybody),
            Some(count) => {
                let only_this = |count: &SubscriptionCount| count.by_expression == 1 && count.by_name == 0;
                *count == everybody && self.topics.values().all(only_this)
            }
        }
    }

    /// The member with this instance id.
    pub fn static_member(&self, instance_id: &str) -> Option<&Arc<ConsumerMember>> {
        self.members.get(self.static_members.get(instance_id)?)
    }

    /// The assignor that most members want, if anybody wants one.
    pub fn preferred_assignor(&self) -> Option<&Arc<str>> {
        self.assignors.iter().max_by_key(|(_, count)| **count).map(|(name, _)| name)
    }

    /// Whether somebody has the partition, or has not given it up yet.
    pub fn is_owned(&self, topic_id: Uuid, partition: i32) -> bool {
        self.owned.contains_key(&(topic_id, partition))
    }

    /// Members that use the classic protocol.
    pub fn classic_members(&self) -> usize {
        self.classic_members
    }

    /// Whether a classic member with these protocols can be in the group: all classic members have one of them.
    pub fn supports_protocols<'a>(&self, mut names: impl Iterator<Item = &'a Arc<str>>) -> bool {
        let count = |name: &Arc<str>| self.classic_protocols.get(name).copied().unwrap_or(0);
        names.any(|name| count(name) == self.classic_members)
    }

    /// Whether partitions that a member waits for are still with others.
    pub fn waits_for_others(&self, member: &ConsumerMember) -> bool {
        let target = self.target.of(&member.member_id);
        let missing = |topic: &Uuid, partition: &i32| {
            let has = member.current.assigned.get(topic).is_some_and(|owned| owned.contains_key(partition));
            !has && self.is_owned(*topic, *partition)
        };
        member.current.state == MemberState::UnreleasedPartitions
            && target.iter().any(|(topic, partitions)| partitions.iter().any(|p| missing(topic, p)))
    }

    /// Whether the caller may commit these offsets: anybody while the group is empty; a member in its epoch; or a member
    /// that was in an earlier epoch, for partitions that have been its own since then.
    ///
    /// # Errors
    /// `STALE_MEMBER_EPOCH`, for members of the classic protocol `ILLEGAL_GENERATION`; `UNKNOWN_MEMBER_ID`;
    /// `UNSUPPORTED_VERSION` for a request that can not hold a member epoch.
    pub fn validate_commit(&self, request: &CommitOffsets) -> Result<(), ErrorCode> {
        let epoch = request.generation_id;
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.members.get(&request.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if !member.is_classic() && !request.knows_member_epochs() {
            return Err(ErrorCode::UnsupportedVersion);
        }
        let stale = stale_epoch(member);
        if epoch == member.current.epoch {
            return Ok(());
        }
        if epoch > member.current.epoch {
            return Err(stale);
        }
        let since = |topic_id, partition| member.assigned_in(topic_id, partition);
        let mut since_when = request.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|partition| since(topic.topic_id, partition.partition))
        });
        let all_its_own = since_when.all(|since| since.is_some_and(|since| since <= epoch));
        if all_its_own { Ok(()) } else { Err(stale) }
    }

    /// Whether the caller, if it says that it is a member, is one in its epoch.
    ///
    /// # Errors
    /// As for [`Self::validate_commit`].
    pub fn validate_fetch(&self, member_id: &str, epoch: i32) -> Result<(), ErrorCode> {
        let member = self.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if member.current.epoch == epoch { Ok(()) } else { Err(stale_epoch(member)) }
    }

    fn resolve(&mut self, expression: &Arc<str>, value: Option<&ResolvedExpression>) {
        for topic in self.expressions.remove(expression).iter().flat_map(|resolved| resolved.topics.iter()) {
            self.count_topic(topic, |count| count.by_expression -= 1);
        }
        let Some(value) = value else { return };
        for topic in value.topics.iter() {
            self.count_topic(topic, |count| count.by_expression += 1);
        }
        self.expressions.insert(expression.clone(), Arc::new(value.clone()));
    }

    fn count_topic(&mut self, topic: &Arc<str>, change: impl FnOnce(&mut SubscriptionCount)) {
        let mut count = self.topics.get(topic).copied().unwrap_or_default();
        change(&mut count);
        if count == SubscriptionCount::default() {
            self.topics.remove(topic);
        } else {
            self.topics.insert(topic.clone(), count);
        }
    }
}

impl ModernGroup for ConsumerGroup {
    const KIND: &'static str = "consumer group";
    const RECORD_TYPES: RecordTypes = TYPES;

    type Epoch = GroupEpoch;
    type Metadata = MemberMetadata;
    type Current = CurrentAssignment;
    type Target = Partitions;
    type Own = Own;
    type Change = ConsumerChange;

    called!(Consumer);

    fn new(group_id: Arc<str>) -> Self {
        Self {
            group_id,
            epoch: 1,
            metadata_hash: 0,
            members: OrdMap::new(),
            target: TargetAssignment::default(),
            static_members: OrdMap::new(),
            expressions: OrdMap::new(),
            has_partition_metadata: false,
            topics_seen: -1,
            resolution_planned: false,
            expected: OrdSet::new(),
            topics: OrdMap::new(),
            subscribed_expressions: OrdMap::new(),
            assignors: OrdMap::new(),
            classic_members: 0,
            classic_protocols: OrdMap::new(),
            owned: OrdMap::new(),
        }
    }

    fn session_timeout_ms(&self, cluster: &ClusterView) -> i32 {
        cluster.times_of(&self.group_id).session_timeout_ms
    }

    fn begin_epoch(&mut self, epoch: &GroupEpoch) {
        self.epoch = epoch.epoch;
        self.metadata_hash = epoch.metadata_hash;
    }

    fn count(&mut self, member: &ConsumerMember) {
        for topic in member.metadata.topics.iter() {
            self.count_topic(topic, |count| count.by_name += 1);
        }
        if let Some(instance_id) = &member.metadata.instance_id {
            self.static_members.insert(instance_id.clone(), member.member_id.clone());
        }
        if let Some(expression) = member.expression() {
            increment(&mut self.subscribed_expressions, expression);
        }
        if let Some(assignor) = &member.metadata.assignor {
            increment(&mut self.assignors, assignor);
        }
        if let Some(classic) = &member.metadata.classic {
            self.classic_members += 1;
            classic.protocols.iter().for_each(|p| increment(&mut self.classic_protocols, &p.name));
        }
        for partition in partitions(&member.current.assigned).chain(partitions(&member.current.revoking)) {
            self.owned.insert(partition, member.current.epoch);
        }
    }

    fn uncount(&mut self, member: &ConsumerMember) {
        for topic in member.metadata.topics.iter() {
            self.count_topic(topic, |count| count.by_name -= 1);
        }
        if let Some(expression) = member.expression() {
            decrement(&mut self.subscribed_expressions, expression);
        }
        if let Some(assignor) = &member.metadata.assignor {
            decrement(&mut self.assignors, assignor);
        }
        if let Some(classic) = &member.metadata.classic {
            self.classic_members -= 1;
            classic.protocols.iter().for_each(|p| decrement(&mut self.classic_protocols, &p.name));
        }
        for partition in partitions(&member.current.assigned).chain(partitions(&member.current.revoking)) {
            // Somebody else may have it already, in a later epoch.
            if self.owned.get(&partition) == Some(&member.current.epoch) {
                self.owned.remove(&partition);
            }
        }
    }

    fn forget(&mut self, member: &ConsumerMember) {
        if let Some(instance_id) = &member.metadata.instance_id
            && self.static_members.get(instance_id) == Some(&member.member_id)
        {
            self.static_members.remove(instance_id);
        }
        self.expected.remove(&member.member_id);
    }

    fn replay_own(&mut self, own: &Own) {
        match own {
            Own::PartitionMetadata(value) => self.has_partition_metadata = value.is_some(),
            Own::Expression { expression, value } => self.resolve(expression, value.as_ref()),
        }
    }

    fn replay_change(&mut self, change: &ConsumerChange) {
        match change {
            ConsumerChange::TopicsSeen { version } => self.topics_seen = *version,
            ConsumerChange::ResolutionPlanned => self.resolution_planned = true,
            ConsumerChange::ResolutionDone => self.resolution_planned = false,
            ConsumerChange::JoinExpected { member_id } => {
                self.expected.insert(member_id.clone());
            }
            ConsumerChange::JoinOver { member_id } => {
                self.expected.remove(member_id);
            }
        }
    }
}

/// The code for an epoch that is not the member's.
fn stale_epoch(member: &ConsumerMember) -> ErrorCode {
    if member.is_classic() { ErrorCode::IllegalGeneration } else { ErrorCode::StaleMemberEpoch }
}

pub(super) fn partitions(epochs: &Epochs) -> impl Iterator<Item = (Uuid, i32)> {
    epochs.iter().flat_map(|(topic, partitions)| partitions.keys().map(|partition| (*topic, *partition)))
}
