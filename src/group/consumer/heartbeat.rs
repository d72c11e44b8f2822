//! ConsumerGroupHeartbeat: a member joins, is alive, and learns what it has.

use std::sync::Arc;

use tracing::info;

use super::draft::Draft;
use super::member::{ConsumerMember, without_epochs};
use super::record::{Body, MemberMetadata};
use crate::error::{ApiError, ErrorCode};
use crate::group::assignor::Partitions;
use crate::group::command::{ConsumerHeartbeat, HeartbeatAnswer};
use crate::group::modern::LEAVE_STATIC_EPOCH;
use crate::group::modern::draft::{fenced, refused, unknown_member};

/// What a new subscription means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SubscriptionChange {
    /// The member is to be looked at, even where it has its target.
    pub changed: bool,
    /// The group goes to its next epoch.
    pub new_epoch: bool,
}

impl Draft<'_> {
    /// Lets a member in, or on.
    pub(super) fn heartbeat(&mut self, request: &ConsumerHeartbeat) -> Result<HeartbeatAnswer, ApiError> {
        let joins = request.member_epoch == 0;
        self.check_room(&request.member_id)?;
        let member_id =
            if request.member_id.is_empty() { &request.fresh_member_id } else { &request.member_id };
        let member = match &request.instance_id {
            None => self.dynamic_member(member_id, request)?,
            Some(instance_id) => self.static_member(member_id, instance_id, request)?,
        };
        let known = &member.metadata;
        let metadata = MemberMetadata {
            instance_id: request.instance_id.clone().or_else(|| known.instance_id.clone()),
            rack_id: request.rack_id.clone().or_else(|| known.rack_id.clone()),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            topics: request.topics.clone().map_or_else(|| known.topics.clone(), Arc::new),
            expression: request.expression.clone().or_else(|| known.expression.clone()),
            rebalance_timeout_ms: match request.rebalance_timeout_ms {
                -1 => known.rebalance_timeout_ms,
                timeout_ms => timeout_ms,
            },
            assignor: request.assignor.clone().or_else(|| known.assignor.clone()),
            classic: None,
        };
        let subscription = self.subscribe(&member, metadata)?;
        if subscription.new_epoch || self.has_old_topics() {
            self.refresh_topics(subscription.new_epoch);
        }
        self.assign_if_due();
        let after = self.reconcile(member_id, subscription.changed, request.owned.as_ref())?;
        self.touch(member_id);
        let is_full = request.rebalance_timeout_ms != -1
            && (request.topics.is_some() || request.expression.is_some())
            && request.owned.is_some();
        let tells = joins || is_full || member.current.assigned != after.current.assigned;
        Ok(HeartbeatAnswer {
            member_id: member_id.clone(),
            member_epoch: after.current.epoch,
            heartbeat_interval_ms: self.cluster.times_of(&self.group.group_id).heartbeat_interval_ms,
            assignment: tells.then(|| without_epochs(&after.current.assigned)),
        })
    }

    pub(super) fn check_room(&self, member_id: &str) -> Result<(), ApiError> {
        let max_size = self.settings.consumer_max_size;
        if self.group.members.len() >= max_size && !self.group.members.contains_key(member_id) {
            let text = format!("The group has as many members as it may have: {max_size}.");
            return refused(ErrorCode::GroupMaxSizeReached, text);
        }
        Ok(())
    }

    fn dynamic_member(
        &self,
        member_id: &Arc<str>,
        request: &ConsumerHeartbeat,
    ) -> Result<Arc<ConsumerMember>, ApiError> {
        let member = self.member_or_new(member_id, request.member_epoch == 0)?;
        check_epoch(&member, request.member_epoch, request.owned.as_ref())?;
        Ok(member)
    }

    pub(super) fn member_or_new(
        &self,
        member_id: &Arc<str>,
        may_be_new: bool,
    ) -> Result<Arc<ConsumerMember>, ApiError> {
        match self.group.members.get(member_id) {
            Some(member) => Ok(member.clone()),
            None if may_be_new => {
                info!(group = %self.group.group_id, member = %member_id, "a member joins a consumer group");
                Ok(Arc::new(ConsumerMember::new(member_id.clone())))
            }
            None => unknown_member(&self.group.group_id, member_id),
        }
    }

    fn static_member(
        &mut self,
        member_id: &Arc<str>,
        instance_id: &Arc<str>,
        request: &ConsumerHeartbeat,
    ) -> Result<Arc<ConsumerMember>, ApiError> {
        if request.member_epoch == 0 {
            return self.static_member_or_new(member_id, instance_id, false);
        }
        let member = self.known_static_member(member_id, instance_id)?;
        check_epoch(&member, request.member_epoch, request.owned.as_ref())?;
        Ok(member)
    }

    /// A static member that joins: a new one, or one that takes the place that its instance id had.
    pub(super) fn static_member_or_new(
        &mut self,
        member_id: &Arc<str>,
        instance_id: &Arc<str>,
        is_classic: bool,
    ) -> Result<Arc<ConsumerMember>, ApiError> {
        let Some(before) = self.group.static_member(instance_id).cloned() else {
            return self.member_or_new(member_id, true);
        };
        let is_away = before.current.epoch == LEAVE_STATIC_EPOCH;
        if !is_classic && !before.is_classic() && !is_away {
            let text = format!("The instance id {instance_id} belongs to member {}.", before.member_id);
            return refused(ErrorCode::UnreleasedInstanceId, text);
        }
        let mut member = (*before).clone();
        member.member_id = member_id.clone();
        member.current.epoch = 0;
        member.current.previous_epoch = 0;
        info!(group = %self.group.group_id, member = %member_id, instance = %instance_id, "a static member is back");
        let target = self.group.target.of(&before.member_id);
        self.cancel_timers(&before.member_id);
        self.remove_member(&before.member_id);
        let (metadata, current) = (member.metadata.clone(), member.current.clone());
        self.record(Body::Member { member_id: member_id.clone(), value: Some(metadata) });
        self.record(Body::Target { member_id: member_id.clone(), value: Some(target) });
        self.record(Body::Current { member_id: member_id.clone(), value: Some(current) });
        Ok(Arc::new(member))
    }

    /// The member with this instance id, if it has this member id too.
    pub(super) fn known_static_member(
        &self,
        member_id: &str,
        instance_id: &str,
    ) -> Result<Arc<ConsumerMember>, ApiError> {
        let Some(member) = self.group.static_member(instance_id) else {
            return refused(
                ErrorCode::UnknownMemberId,
                format!("No member has the instance id {instance_id}."),
            );
        };
        if *member.member_id != *member_id {
            let text = format!("The instance id {instance_id} belongs to member {} now.", member.member_id);
            return refused(ErrorCode::FencedInstanceId, text);
        }
        Ok(member.clone())
    }

    /// Writes down what a member is and wants, where that changed.
    pub(super) fn subscribe(
        &mut self,
        before: &ConsumerMember,
        metadata: MemberMetadata,
    ) -> Result<SubscriptionChange, ApiError> {
        let names_changed = metadata.topics != before.metadata.topics;
        let old = before.metadata.expression.clone();
        let new = metadata.expression.clone();
        if metadata != before.metadata {
            self.record(Body::Member { member_id: before.member_id.clone(), value: Some(metadata) });
        }
        let expression = self.subscribe_to_expression(old, new)?;
        Ok(SubscriptionChange {
            changed: names_changed || expression.changed,
            new_epoch: names_changed || expression.new_epoch,
        })
    }
}

/// A member is in the epoch that it was told last; or in the one before, if that answer was lost, and then it can not
/// have more than it was given.
fn check_epoch(member: &ConsumerMember, epoch: i32, owned: Option<&Partitions>) -> Result<(), ApiError> {
    let current = &member.current;
    let has_only_its_own = || {
        owned.is_some_and(|owned| {
            owned.iter().all(|(topic, partitions)| {
                let assigned = current.assigned.get(topic);
                assigned.is_some_and(|assigned| partitions.iter().all(|p| assigned.contains_key(p)))
            })
        })
    };
    if epoch == 0 || epoch == current.epoch {
        return Ok(());
    }
    if epoch < current.epoch && epoch == current.previous_epoch && has_only_its_own() {
        return Ok(());
    }
    fenced(epoch, current.epoch)
}
