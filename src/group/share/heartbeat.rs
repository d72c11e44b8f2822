//! ShareGroupHeartbeat: a member joins, is alive, learns what it has, and leaves.

use std::sync::Arc;

use tracing::info;

use super::command::{InitializeState, ShareHeartbeat, ShareHeartbeatAnswer};
use super::draft::Draft;
use super::group::ShareMember;
use super::record::{Body, CurrentAssignment, MemberMetadata};
use crate::error::{ApiError, ErrorCode};
use crate::group::assignor::Partitions;
use crate::group::command::HeartbeatAnswer;
use crate::group::consumer::member::MemberState;
use crate::group::modern::draft::{fenced, refused, unknown_member};

impl Draft<'_> {
    /// Lets a member in, or on.
    pub(super) fn heartbeat(&mut self, request: &ShareHeartbeat) -> Result<ShareHeartbeatAnswer, ApiError> {
        let (joins, member_id) = (request.member_epoch == 0, &request.member_id);
        let member = self.known_or_new(member_id, joins)?;
        check_epoch(&member, request.member_epoch)?;
        let subscription_changed = self.subscribe(&member, request);
        // While the target is behind the group, it is going to be computed anyway.
        let newly_assignable = self.group.target.epoch >= self.group.epoch && self.is_assignment_pending();
        let mut changed = subscription_changed || newly_assignable;
        if changed || self.group.topics_seen < self.cluster.topics_version {
            changed = self.refresh_topics(changed);
        }
        self.assign_if_due();
        let current = self.reconcile(&member, changed);
        self.touch(member_id);
        let tells = joins || request.topics.is_some() || member.current.assigned != current.assigned;
        let answer = HeartbeatAnswer {
            member_id: member_id.clone(),
            member_epoch: current.epoch,
            heartbeat_interval_ms: self.cluster.share_times_of(&self.group.group_id).heartbeat_interval_ms,
            assignment: tells.then(|| (*current.assigned).clone()),
        };
        Ok(ShareHeartbeatAnswer { answer, initialize: self.initialize() })
    }

    /// A member leaves.
    pub(super) fn leave(&mut self, request: &ShareHeartbeat) -> Result<ShareHeartbeatAnswer, ApiError> {
        let Some(member) = self.group.members.get(&request.member_id).cloned() else {
            return unknown_member(&self.group.group_id, &request.member_id);
        };
        info!(group = %self.group.group_id, member = %member.member_id, "a member left a share group");
        self.fence(&member.member_id);
        let answer = HeartbeatAnswer {
            member_id: member.member_id.clone(),
            member_epoch: request.member_epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        };
        Ok(ShareHeartbeatAnswer { answer, initialize: None })
    }

    fn known_or_new(&self, member_id: &Arc<str>, may_be_new: bool) -> Result<Arc<ShareMember>, ApiError> {
        let max_size = self.settings.share_max_size;
        match self.group.members.get(member_id) {
            Some(member) => Ok(member.clone()),
            None if self.group.members.len() >= max_size => {
                let text = format!("The share group has as many members as it may have: {max_size}.");
                refused(ErrorCode::GroupMaxSizeReached, text)
            }
            None if may_be_new => {
                info!(group = %self.group.group_id, member = %member_id, "a member joins a share group");
                Ok(Arc::new(ShareMember::new(member_id.clone())))
            }
            None => unknown_member(&self.group.group_id, member_id),
        }
    }

    /// Writes down what a member is and wants, where that changed. Whether it wants other topics.
    fn subscribe(&mut self, before: &ShareMember, request: &ShareHeartbeat) -> bool {
        let known = &before.metadata;
        let metadata = MemberMetadata {
            rack_id: request.rack_id.clone().or_else(|| known.rack_id.clone()),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            topics: request.topics.clone().map_or_else(|| known.topics.clone(), Arc::new),
        };
        let topics_changed = metadata.topics != known.topics;
        if metadata != *known {
            self.record(Body::Member { member_id: before.member_id.clone(), value: Some(metadata) });
        }
        topics_changed
    }

    /// Whether there are initialised partitions of subscribed topics that nobody has
    /// (`initializedAssignmentPending`).
    fn is_assignment_pending(&self) -> bool {
        let initialized = &self.group.state_partitions.initialized;
        let mut assigned = Partitions::new();
        for (topic, partitions) in self.group.target.members.values().flat_map(|target| target.iter()) {
            assigned.entry(*topic).or_default().extend(partitions);
        }
        let is_pending = |topic: &uuid::Uuid, partitions| assigned.get(topic) != Some(partitions);
        initialized
            .iter()
            .any(|(id, topic)| self.group.is_subscribed_to(&topic.name) && is_pending(id, &topic.partitions))
    }

    /// Brings a member to its target at once. What it has then.
    fn reconcile(&mut self, before: &ShareMember, changed: bool) -> CurrentAssignment {
        let Some(member) = self.group.members.get(&before.member_id).cloned() else {
            return before.current.clone();
        };
        let (current, target_epoch) = (&member.current, self.group.target.epoch);
        let in_epoch = current.epoch == target_epoch;
        if in_epoch && (!changed && current.state == MemberState::Stable) {
            return current.clone();
        }
        let topic_ids = self.topic_ids(&member.metadata.topics);
        let target = self.group.target.of(&member.member_id);
        let assigned = if target.keys().all(|topic| topic_ids.contains(topic)) {
            target
        } else {
            let subscribed = target.iter().filter(|(topic, _)| topic_ids.contains(*topic));
            Arc::new(subscribed.map(|(topic, partitions)| (*topic, partitions.clone())).collect())
        };
        let next = if in_epoch && !changed {
            current.clone()
        } else if in_epoch {
            CurrentAssignment { assigned, ..current.clone() }
        } else {
            CurrentAssignment {
                epoch: target_epoch,
                previous_epoch: current.epoch,
                state: MemberState::Stable,
                assigned,
            }
        };
        if next != *current {
            self.record(Body::Current { member_id: member.member_id.clone(), value: Some(next.clone()) });
        }
        next
    }

    /// Subscribed partitions whose state is to be initialised now: those that nobody has asked for, or not lately.
    fn initialize(&mut self) -> Option<InitializeState> {
        let missing = self.uninitialized();
        if missing.is_empty() {
            return None;
        }
        let start_offsets = missing
            .iter()
            .map(|(id, topic)| (*id, topic.partitions.iter().map(|partition| (*partition, -1)).collect()))
            .collect();
        self.begin_to_initialize(missing);
        Some(InitializeState { state_epoch: self.group.epoch, start_offsets })
    }
}

/// A member is in the epoch that it was told last; or in the one before, if that answer was lost.
fn check_epoch(member: &ShareMember, epoch: i32) -> Result<(), ApiError> {
    let current = &member.current;
    if epoch == 0 || epoch == current.epoch || (epoch < current.epoch && epoch == current.previous_epoch) {
        return Ok(());
    }
    fenced(epoch, current.epoch)
}
