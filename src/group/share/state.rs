//! Which partitions have a state with the share coordinator (`ShareGroupStatePartitionMetadata`): it is begun when
//! somebody subscribes to a topic or sets its offsets, and ended with the group, with its offsets, or with the topic.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::warn;
use uuid::Uuid;

use super::command::{
    AlterShareOffsets, AlterTopic, AlteredShareOffsets, AlteredTopic, DeletedShareOffsets, InitializeState,
};
use super::draft::Draft;
use super::record::{NamedTopic, NamedTopics, StatePartitions};
use crate::error::{ApiError, ErrorCode};
use crate::group::assignor::Partitions;

/// The name of a topic that does not exist any more.
const UNKNOWN_TOPIC: &str = "<UNKNOWN>";

/// Adds partitions to those that are there already.
fn add(topics: &mut NamedTopics, more: &NamedTopics) {
    for (id, topic) in more {
        let known = topics
            .entry(*id)
            .or_insert_with(|| NamedTopic { name: topic.name.clone(), ..NamedTopic::default() });
        known.partitions.extend(&topic.partitions);
    }
}

/// Takes partitions away, and topics of which none is left.
fn take(topics: &mut NamedTopics, gone: &Partitions) {
    for (id, partitions) in gone {
        if let Some(topic) = topics.get_mut(id) {
            topic.partitions.retain(|partition| !partitions.contains(partition));
        }
    }
    topics.retain(|_, topic| !topic.partitions.is_empty());
}

impl Draft<'_> {
    fn name_of(&self, topic_id: Uuid) -> Arc<str> {
        self.cluster.topic_by_id(topic_id).map_or_else(|| UNKNOWN_TOPIC.into(), |topic| topic.name.clone())
    }

    /// The topics with the names that they have now.
    fn named(&self, topic_ids: impl Iterator<Item = Uuid>) -> BTreeMap<Uuid, Arc<str>> {
        topic_ids.map(|id| (id, self.name_of(id))).collect()
    }

    /// The partitions of subscribed topics whose state nobody has asked for, or not lately (`subscribedTopicsChangeMap`).
    pub(super) fn uninitialized(&self) -> NamedTopics {
        let state = &self.group.state_partitions;
        let mut known = state.initialized.clone();
        let age_ms = self.now_ms - self.group.initializing_since_ms;
        if age_ms < self.settings.share_initialize_retry_interval_ms {
            add(&mut known, &state.initializing);
        }
        let mut missing = NamedTopics::new();
        for topic in self.group.subscribed_topics().filter_map(|name| self.cluster.topic(name)) {
            let known = known.get(&topic.id).map(|topic| &topic.partitions);
            let is_new = |partition: &i32| known.is_none_or(|known| !known.contains(partition));
            let partitions: std::collections::BTreeSet<i32> = (0..topic.partitions).filter(is_new).collect();
            if !partitions.is_empty() {
                missing.insert(topic.id, NamedTopic { name: topic.name.clone(), partitions });
            }
        }
        missing
    }

    /// Writes that these are being initialised.
    pub(super) fn begin_to_initialize(&mut self, topics: NamedTopics) {
        let before = Arc::clone(&self.group.state_partitions);
        let mut initializing = before.initializing.clone();
        add(&mut initializing, &topics);
        let deleting = before.deleting.keys().copied().filter(|id| !initializing.contains_key(id));
        let deleting = self.named(deleting);
        self.record_state_partitions(StatePartitions {
            initialized: before.initialized.clone(),
            initializing,
            deleting,
        });
    }

    /// The share coordinator has the state of these partitions.
    pub(super) fn initialized(&mut self, partitions: &Partitions) {
        let mut state = (*self.group.state_partitions).clone();
        let named = partitions
            .iter()
            .map(|(id, partitions)| {
                (*id, NamedTopic { name: self.name_of(*id), partitions: partitions.clone() })
            })
            .collect();
        add(&mut state.initialized, &named);
        take(&mut state.initializing, partitions);
        state.deleting = self.named(state.deleting.keys().copied());
        self.record_state_partitions(state);
    }

    /// The share coordinator could not take these partitions in.
    pub(super) fn not_initialized(&mut self, partitions: &Partitions) {
        if self.group.state_partitions.initializing.is_empty() || partitions.is_empty() {
            return;
        }
        let mut state = (*self.group.state_partitions).clone();
        take(&mut state.initializing, partitions);
        state.deleting = self.named(state.deleting.keys().copied());
        self.record_state_partitions(state);
    }

    /// AlterShareGroupOffsets, of a group without members.
    pub(super) fn alter_offsets(
        &mut self,
        request: &AlterShareOffsets,
    ) -> Result<AlteredShareOffsets, ApiError> {
        if !self.group.members.is_empty() {
            return Err(ErrorCode::NonEmptyGroup.into());
        }
        let unknown = Some(ErrorCode::UnknownTopicOrPartition);
        let mut initializing = NamedTopics::new();
        let mut initialize = InitializeState { state_epoch: self.group.epoch, ..InitializeState::default() };
        let mut topics = Vec::with_capacity(request.topics.len());
        for AlterTopic { topic: name, offsets: asked } in &request.topics {
            let known = self.cluster.topic(name);
            let count = known.map_or(0, |topic| topic.partitions);
            let is_there = |partition: &i32| (0..count).contains(partition);
            let partitions =
                asked.iter().map(|(partition, _)| (*partition, unknown.filter(|_| !is_there(partition))));
            topics.push(AlteredTopic {
                topic: name.clone(),
                topic_id: known.map(|topic| topic.id).unwrap_or_default(),
                partitions: partitions.collect(),
            });
            let Some(topic) = known else { continue };
            for (partition, offset) in asked.iter().filter(|(partition, _)| is_there(partition)) {
                let named = initializing.entry(topic.id).or_default();
                named.name = topic.name.clone();
                named.partitions.insert(*partition);
                initialize.start_offsets.entry(topic.id).or_default().insert(*partition, *offset);
            }
        }
        if !initializing.is_empty() {
            self.begin_to_initialize(initializing);
        }
        Ok(AlteredShareOffsets { topics, initialize })
    }

    /// DeleteShareGroupOffsets, of a group without members: which states are to be deleted first.
    pub(super) fn delete_offsets(&mut self, topics: &[Arc<str>]) -> Result<DeletedShareOffsets, ApiError> {
        if !self.group.members.is_empty() {
            return Err(ErrorCode::NonEmptyGroup.into());
        }
        let mut state = (*self.group.state_partitions).clone();
        let mut deleted = DeletedShareOffsets::default();
        for name in topics {
            let Some(topic) = self.cluster.topic(name) else {
                deleted.refused.push((name.clone(), ErrorCode::UnknownTopicOrPartition.into()));
                continue;
            };
            if let Some(initialized) = state.initialized.remove(&topic.id) {
                deleted.states.insert(topic.id, initialized.partitions);
                state.deleting.insert(topic.id, topic.name.clone());
            } else if state.deleting.contains_key(&topic.id) {
                deleted.states.insert(topic.id, (0..topic.partitions).collect());
            } else {
                let text = "There is no offset information to delete.";
                let error = ApiError::with(ErrorCode::UnknownTopicOrPartition, text);
                deleted.refused.push((name.clone(), error));
            }
        }
        state.deleting = self.named(state.deleting.keys().copied());
        self.record_state_partitions(state);
        Ok(deleted)
    }

    /// The states of these topics are deleted.
    pub(super) fn offsets_deleted(&mut self, topic_ids: &[Uuid]) {
        let mut state = (*self.group.state_partitions).clone();
        let left = state.deleting.keys().copied().filter(|id| !topic_ids.contains(id));
        state.deleting = self.named(left);
        self.record_state_partitions(state);
    }

    /// DeleteGroups: which states are to be deleted before the group is.
    pub(super) fn delete_state(&mut self) -> Result<Partitions, ErrorCode> {
        if !self.group.members.is_empty() {
            return Err(ErrorCode::NonEmptyGroup);
        }
        let before = Arc::clone(&self.group.state_partitions);
        if *before == StatePartitions::default() {
            return Ok(Partitions::new());
        }
        let mut all = before.initialized.clone();
        add(&mut all, &before.initializing);
        // An earlier deletion may have failed half-way. Of a topic that is gone, so are the states.
        for id in before.deleting.keys() {
            match self.cluster.topic_by_id(*id) {
                Some(topic) => {
                    let partitions = (0..topic.partitions).collect();
                    add(&mut all, &[(*id, NamedTopic { name: topic.name.clone(), partitions })].into());
                }
                None => {
                    warn!(group = %self.group.group_id, topic_id = %id, "a topic to delete the state of is gone")
                }
            }
        }
        let deleting = all.iter().map(|(id, topic)| (*id, topic.name.clone())).collect();
        self.record_state_partitions(StatePartitions { deleting, ..StatePartitions::default() });
        Ok(all.into_iter().map(|(id, topic)| (id, topic.partitions)).collect())
    }

    /// Topics are gone, and with them their states.
    pub(super) fn topics_deleted(&mut self, topic_ids: &[Uuid]) {
        let before = Arc::clone(&self.group.state_partitions);
        let concerns = |id: &Uuid| {
            before.initializing.contains_key(id)
                || before.initialized.contains_key(id)
                || before.deleting.contains_key(id)
        };
        if !topic_ids.iter().any(concerns) {
            return;
        }
        let left = |topics: &NamedTopics| {
            let left = topics.iter().filter(|(id, _)| !topic_ids.contains(id));
            left.map(|(id, topic)| (*id, topic.clone())).collect()
        };
        let deleting = before.deleting.keys().copied().filter(|id| !topic_ids.contains(id));
        let deleting = self.named(deleting);
        self.record_state_partitions(StatePartitions {
            initializing: left(&before.initializing),
            initialized: left(&before.initialized),
            deleting,
        });
    }
}
