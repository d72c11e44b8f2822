//! Members leave, or are made to.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracing::info;

use super::draft::Draft;
use super::member::{ConsumerMember, MemberState};
use super::record::{Body, CurrentAssignment, Own};
use crate::error::ApiError;
use crate::group::command::{ConsumerHeartbeat, HeartbeatAnswer};
use crate::group::modern::LEAVE_STATIC_EPOCH;
use crate::group::modern::draft::unknown_member;

impl Draft<'_> {
    /// A member leaves, or goes away for a while.
    pub(super) fn leave(&mut self, request: &ConsumerHeartbeat) -> Result<HeartbeatAnswer, ApiError> {
        let member = match &request.instance_id {
            None => match self.group.members.get(&request.member_id) {
                Some(member) => member.clone(),
                None => return unknown_member(&self.group.group_id, &request.member_id),
            },
            Some(instance_id) => self.known_static_member(&request.member_id, instance_id)?,
        };
        if request.instance_id.is_some() && request.member_epoch == LEAVE_STATIC_EPOCH {
            self.go_away(&member);
        } else {
            info!(group = %self.group.group_id, member = %member.member_id, "a member left a consumer group");
            self.fence([member.member_id.clone()].into());
        }
        Ok(HeartbeatAnswer {
            member_id: member.member_id.clone(),
            member_epoch: request.member_epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        })
    }

    /// A static member keeps its partitions until its session ends; they count from the start for who comes back.
    fn go_away(&mut self, member: &ConsumerMember) {
        info!(group = %self.group.group_id, member = %member.member_id, "a static member goes away for a while");
        let mut assigned = (*member.current.assigned).clone();
        assigned.values_mut().flat_map(|partitions| partitions.values_mut()).for_each(|epoch| *epoch = 0);
        let value = CurrentAssignment {
            epoch: LEAVE_STATIC_EPOCH,
            assigned: Arc::new(assigned),
            revoking: Arc::default(),
            ..member.current.clone()
        };
        self.record(Body::Current { member_id: member.member_id.clone(), value: Some(value) });
        // It has left the epoch in which it had to give something up.
        let timer = self.revocation_timer(&member.member_id);
        self.cancel(timer);
    }

    /// Removes members. Where all who stay use the classic protocol, the group goes back to it.
    pub(super) fn fence(&mut self, members: BTreeSet<Arc<str>>) {
        if members.is_empty() {
            return;
        }
        for member_id in &members {
            self.cancel_timers(member_id);
        }
        if self.can_downgrade_without(&members) {
            return self.downgrade(
                &members,
                self.group.epoch,
                Some("the last member of the consumer protocol left"),
            );
        }
        let gone: Vec<Arc<ConsumerMember>> =
            members.iter().filter_map(|member_id| self.group.members.get(member_id)).cloned().collect();
        for member in &gone {
            self.remove_member(&member.member_id);
        }
        let unused: BTreeSet<&Arc<str>> = gone.iter().filter_map(|member| member.expression()).collect();
        for expression in unused {
            if self.group.subscribers_of(expression) == 0 {
                self.record(Body::Own(Own::Expression { expression: expression.clone(), value: None }));
            }
        }
        self.refresh_topics(true);
    }

    /// A member was not heard of in time, or did not do in time what it was told to.
    pub(in crate::group) fn expire_member(&mut self, member_id: &Arc<str>, reason: &str) {
        if self.group.members.contains_key(member_id) {
            info!(group = %self.group.group_id, member = %member_id, reason, "a member of a consumer group is removed");
            self.fence([member_id.clone()].into());
        }
    }

    /// A member did not give up partitions within its rebalance timeout.
    pub(in crate::group) fn revocation_expired(&mut self, member_id: &Arc<str>) {
        let state = self.group.members.get(member_id).map(|member| member.current.state);
        if state == Some(MemberState::UnrevokedPartitions) {
            self.expire_member(member_id, "it did not give up its partitions in time");
        }
    }

    /// Writes that the group is gone.
    pub(in crate::group) fn delete(&mut self) {
        self.delete_members();
        let expressions: Vec<Arc<str>> = self.group.expressions.keys().cloned().collect();
        for expression in expressions {
            self.record(Body::Own(Own::Expression { expression, value: None }));
        }
        self.record(Body::Own(Own::PartitionMetadata(None)));
        self.record(Body::Epoch(None));
    }
}
