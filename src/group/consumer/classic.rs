//! Members that use the classic protocol in a consumer group, while it goes from one protocol to the other. They join,
//! sync and send heartbeats as ever; the broker assigns, nobody leads, and nobody waits for the others.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::draft::Draft;
use super::embedded::{self, Subscription};
use super::group::ConsumerChange;
use super::member::{ClassicMetadata, ConsumerMember, MemberState, without_epochs};
use super::record::MemberMetadata;
use crate::error::{ApiError, ErrorCode};
use crate::group::command::{
    Heartbeat, JoinGroup, JoinedGroup, LeaveGroup, LeavingMember, LeftMember, SyncGroup, SyncedGroup,
};
use crate::group::modern::draft::{refused, unknown_member};

/// The protocol type of Kafka's consumers.
pub(super) const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

impl Draft<'_> {
    /// JoinGroup. The answer is the member's own epoch as a generation.
    pub(super) fn join(&mut self, request: &JoinGroup) -> Result<JoinedGroup, ApiError> {
        if !self.settings.migration.upgrade && !self.settings.migration.downgrade {
            let text = "The group uses the consumer protocol, and groups are not to use both.";
            return refused(ErrorCode::InconsistentGroupProtocol, text);
        }
        let is_unknown = request.member_id.is_empty();
        let prefix = request.group_instance_id.as_ref().unwrap_or(&request.client_id);
        let member_id: Arc<str> = if is_unknown {
            format!("{prefix}-{}", request.fresh_id).into()
        } else {
            request.member_id.clone()
        };
        self.check_room(&member_id)?;
        let mut names = request.protocols.iter().map(|protocol| &protocol.name);
        if *request.protocol_type != *CONSUMER_PROTOCOL_TYPE || !self.group.supports_protocols(&mut names) {
            return refused(
                ErrorCode::InconsistentGroupProtocol,
                "The member's protocols are not the group's.",
            );
        }
        if is_unknown && request.group_instance_id.is_none() && request.member_id_required {
            return Err(ApiError::with(ErrorCode::MemberIdRequired, member_id.to_string()));
        }
        let replaced =
            request.group_instance_id.as_ref().and_then(|id| self.group.static_member(id)).cloned();
        let downgrades = replaced.is_some_and(|replaced| self.can_downgrade_instead_of(&replaced));
        let epoch_before = self.group.epoch;
        let member = match &request.group_instance_id {
            None => self.member_or_new(&member_id, true)?,
            Some(instance_id) if is_unknown => self.static_member_or_new(&member_id, instance_id, true)?,
            Some(instance_id) => self.known_static_member(&member_id, instance_id)?,
        };
        let subscription = preferred_subscription(request)?;
        let change = self.subscribe(&member, classic_metadata(&member, request, &subscription))?;
        let members_changed = change.new_epoch || change.changed;
        if members_changed || self.has_old_topics() {
            self.refresh_topics(members_changed);
        }
        let owned = embedded::by_id(subscription.owned.into_iter(), self.cluster);
        let is_stale = self.group.target.epoch < self.group.epoch;
        if !downgrades {
            self.assign_if_due();
        }
        if !(downgrades && is_stale) {
            self.reconcile(&member_id, members_changed, Some(&owned))?;
        }
        let generation_id = self.group.members.get(&member_id).map_or(0, |member| member.current.epoch);
        self.joined(&member_id, request, downgrades);
        if downgrades {
            let reason = "the last member of the consumer protocol was replaced";
            self.downgrade(&BTreeSet::new(), epoch_before, is_stale.then_some(reason));
        }
        Ok(JoinedGroup {
            member_id,
            generation_id,
            protocol_type: Some(CONSUMER_PROTOCOL_TYPE.into()),
            protocol_name: request.protocols.first().map(|protocol| protocol.name.clone()),
            leader: Arc::default(),
            skip_assignment: false,
            members: Vec::new(),
        })
    }

    fn joined(&mut self, member_id: &Arc<str>, request: &JoinGroup, downgrades: bool) {
        self.join_is_over(member_id);
        if !downgrades {
            self.touch_for(member_id, request.session_timeout_ms);
            self.arm(self.member_sync_timer(member_id), request.rebalance_timeout_ms);
        }
    }

    fn join_is_over(&mut self, member_id: &Arc<str>) {
        if self.group.expected.contains(member_id) {
            self.change(ConsumerChange::JoinOver { member_id: member_id.clone() });
            self.cancel(self.rejoin_timer(member_id));
        }
    }

    /// Tells a member to join again, for which it has its rebalance timeout from the first time it is told.
    fn expect_join(&mut self, member: &ConsumerMember) {
        if !self.group.expected.contains(&member.member_id) {
            self.change(ConsumerChange::JoinExpected { member_id: member.member_id.clone() });
            let timer = self.rejoin_timer(&member.member_id);
            self.arm(timer, member.metadata.rebalance_timeout_ms);
        }
    }

    /// SyncGroup: what the member has.
    pub(super) fn sync(&mut self, request: &SyncGroup) -> Result<SyncedGroup, ErrorCode> {
        let instance_id = request.group_instance_id.as_deref();
        let (member, classic) =
            self.classic_member(&request.member_id, instance_id, request.generation_id)?;
        let protocol = classic.protocols.first().ok_or(ErrorCode::UnknownServerError)?;
        let other =
            |asked: &Option<Arc<str>>, known: &str| asked.as_ref().is_some_and(|asked| **asked != *known);
        if other(&request.protocol_type, CONSUMER_PROTOCOL_TYPE)
            || other(&request.protocol_name, &protocol.name)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let is_behind = self.group.target.epoch > member.current.epoch;
        if is_behind && member.current.state != MemberState::UnrevokedPartitions {
            self.expect_join(&member);
            return Err(ErrorCode::RebalanceInProgress);
        }
        self.cancel(self.member_sync_timer(&member.member_id));
        self.touch_for(&member.member_id, classic.session_timeout_ms);
        let partitions = without_epochs(&member.current.assigned);
        let assignment = embedded::write_assignment(&partitions, protocol.metadata.clone(), self.cluster);
        Ok(SyncedGroup {
            protocol_type: request.protocol_type.clone(),
            protocol_name: request.protocol_name.clone(),
            assignment: assignment.map_err(|_| ErrorCode::UnknownServerError)?,
        })
    }

    /// Heartbeat. A member joins again when there is a later target, when it has to give something up, and when what it
    /// waits for is free.
    pub(super) fn classic_heartbeat(&mut self, request: &Heartbeat) -> Result<(), ErrorCode> {
        let instance_id = request.group_instance_id.as_deref();
        let (member, classic) =
            self.classic_member(&request.member_id, instance_id, request.generation_id)?;
        self.touch_for(&member.member_id, classic.session_timeout_ms);
        let is_free = || !self.group.waits_for_others(&member);
        let joins_again = member.current.epoch < self.group.target.epoch
            || match member.current.state {
                MemberState::UnrevokedPartitions => true,
                MemberState::UnreleasedPartitions => is_free(),
                MemberState::Stable | MemberState::Unknown => false,
            };
        if joins_again {
            self.expect_join(&member);
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    fn classic_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation_id: i32,
    ) -> Result<(Arc<ConsumerMember>, Arc<ClassicMetadata>), ErrorCode> {
        let member = match instance_id {
            None => self.group.members.get(member_id).cloned().ok_or(ErrorCode::UnknownMemberId)?,
            Some(instance) => self.known_static_member(member_id, instance).map_err(|error| error.code)?,
        };
        let classic = member.metadata.classic.clone().ok_or(ErrorCode::UnknownMemberId)?;
        if member.current.epoch == generation_id {
            Ok((member, classic))
        } else {
            Err(ErrorCode::IllegalGeneration)
        }
    }

    /// LeaveGroup: of members of either protocol, as an administrator may ask for.
    pub(super) fn leave_all(&mut self, request: LeaveGroup) -> Vec<LeftMember> {
        let mut gone = BTreeSet::new();
        let mut left = Vec::with_capacity(request.members.len());
        for leaving in request.members {
            let error = match self.leaving_member(&leaving) {
                Ok(member_id) => {
                    gone.insert(member_id);
                    None
                }
                Err(error) => Some(error.code),
            };
            let LeavingMember { member_id, group_instance_id, .. } = leaving;
            left.push(LeftMember { member_id, group_instance_id, error });
        }
        self.fence(gone);
        left
    }

    fn leaving_member(&self, leaving: &LeavingMember) -> Result<Arc<str>, ApiError> {
        match &leaving.group_instance_id {
            None => match self.group.members.get(&leaving.member_id) {
                Some(member) => Ok(member.member_id.clone()),
                None => unknown_member(&self.group.group_id, &leaving.member_id),
            },
            // An administrator knows the instance only.
            Some(instance_id) if leaving.member_id.is_empty() => {
                let member = self.group.static_member(instance_id);
                member.map(|m| m.member_id.clone()).ok_or(ErrorCode::UnknownMemberId.into())
            }
            Some(instance_id) => {
                Ok(self.known_static_member(&leaving.member_id, instance_id)?.member_id.clone())
            }
        }
    }
}

fn preferred_subscription(request: &JoinGroup) -> Result<Subscription, ApiError> {
    let metadata = request.protocols.first().map(|protocol| protocol.metadata.clone()).unwrap_or_default();
    embedded::read_subscription(metadata).or_else(|error| {
        refused(ErrorCode::UnknownServerError, format!("The member's subscription can not be read: {error}."))
    })
}

fn classic_metadata(
    member: &ConsumerMember,
    request: &JoinGroup,
    subscription: &Subscription,
) -> MemberMetadata {
    let known = &member.metadata;
    MemberMetadata {
        instance_id: request.group_instance_id.clone().or_else(|| known.instance_id.clone()),
        rack_id: subscription.rack_id.clone().or_else(|| known.rack_id.clone()),
        client_id: request.client_id.clone(),
        client_host: request.client_host.clone(),
        topics: Arc::new(subscription.topics.clone()),
        expression: Some(Arc::default()),
        rebalance_timeout_ms: match request.rebalance_timeout_ms {
            -1 => known.rebalance_timeout_ms,
            timeout_ms => timeout_ms,
        },
        assignor: known.assignor.clone(),
        classic: Some(Arc::new(ClassicMetadata {
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols.clone(),
        })),
    }
}
