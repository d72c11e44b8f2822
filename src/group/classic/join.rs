//! JoinGroup.

use std::sync::Arc;

use bytes::Bytes;

use super::draft::Draft;
use super::group::{Change, ClassicGroup, GroupState, Member};
use crate::error::ErrorCode;
use crate::group::command::JoinGroup;
use crate::group::settings::NEW_MEMBER_JOIN_TIMEOUT_MS;
use crate::shard::Token;

impl Draft<'_> {
    /// Writes down that the group exists, before anybody is in it.
    pub(in crate::group) fn create(&mut self) {
        let record = ClassicGroup::simple(self.group.group_id.clone(), self.now_ms)
            .to_record(self.now_ms, |_| Bytes::new());
        self.record(record);
    }

    /// Lets a member in, at the end of a rebalance.
    pub(in crate::group) fn join(&mut self, token: Token, request: JoinGroup) {
        if !self.has_room_for(&request.member_id) {
            self.remove_if_known(&request.member_id);
            return self.refuse_join(token, ErrorCode::GroupMaxSizeReached, Arc::default());
        }
        if !self.group.supports_protocols(&request.protocol_type, &request.protocols) {
            return self.refuse_join(token, ErrorCode::InconsistentGroupProtocol, request.member_id);
        }
        if request.member_id.is_empty() {
            self.join_without_id(token, request);
        } else {
            self.join_with_id(token, request);
        }
    }

    fn has_room_for(&self, member_id: &str) -> bool {
        let known = self.group.members.get(member_id);
        match self.group.state {
            GroupState::Empty | GroupState::Dead => true,
            // The group may be too large already because the limit was lowered: who rejoins last is out.
            GroupState::PreparingRebalance => {
                known.is_some_and(|member| member.awaiting_join.is_some())
                    || self.group.awaiting_join_count() < self.settings.max_size
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                known.is_some() || self.group.members.len() < self.settings.max_size
            }
        }
    }

    fn remove_if_known(&mut self, member_id: &Arc<str>) {
        let pending = self.group.pending_members.contains(member_id);
        if pending || self.group.members.contains_key(member_id) {
            self.forget_session(member_id);
            self.change(Change::MemberRemoved { member_id: member_id.clone() });
        }
    }

    fn join_without_id(&mut self, token: Token, mut request: JoinGroup) {
        let prefix = request.group_instance_id.as_ref().unwrap_or(&request.client_id);
        let member_id: Arc<str> = format!("{prefix}-{}", request.fresh_id).into();
        let existing = request.group_instance_id.as_ref().and_then(|id| self.group.static_members.get(id));
        if let Some(old_member_id) = existing.cloned() {
            self.rejoin_static(token, request, old_member_id, member_id);
        } else if request.group_instance_id.is_none() && request.member_id_required {
            self.change(Change::MemberPending { member_id: member_id.clone() });
            self.expect_sign_of_life(member_id.clone(), request.session_timeout_ms);
            self.refuse_join(token, ErrorCode::MemberIdRequired, member_id);
        } else {
            request.member_id = member_id;
            self.add_member(token, request);
        }
    }

    fn join_with_id(&mut self, token: Token, request: JoinGroup) {
        if self.group.pending_members.contains(&request.member_id) {
            if request.group_instance_id.is_some() {
                // A member that was told to come back with its id is not a static one.
                return self.refuse_join(token, ErrorCode::UnknownMemberId, request.member_id);
            }
            return self.add_member(token, request);
        }
        let member =
            match self.group.validate_member(&request.member_id, request.group_instance_id.as_deref()) {
                Ok(member) => member.clone(),
                Err(code) => return self.refuse_join(token, code, request.member_id),
            };
        let unchanged = member.protocols == request.protocols;
        let leads = self.group.is_leader(&request.member_id);
        match self.group.state {
            GroupState::PreparingRebalance => self.update_member(token, &request, "a member rejoins"),
            GroupState::CompletingRebalance if unchanged => self.tell_generation(token, &request.member_id),
            // A follower that lost its response. A leader that joins wants a new assignment.
            GroupState::Stable if unchanged && !leads => self.tell_generation(token, &request.member_id),
            GroupState::Stable if leads => self.update_member(token, &request, "the leader rejoins"),
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.update_member(token, &request, "a member changed its metadata");
            }
            GroupState::Empty | GroupState::Dead => {
                self.refuse_join(token, ErrorCode::UnknownMemberId, request.member_id);
            }
        }
    }

    fn tell_generation(&mut self, token: Token, member_id: &Arc<str>) {
        let joined = self.joined_group(member_id);
        self.joined(token, joined);
    }

    fn add_member(&mut self, token: Token, request: JoinGroup) {
        let reason = join_reason("a member joins", &request);
        let member_id = request.member_id.clone();
        let member = Member {
            member_id: request.member_id,
            group_instance_id: request.group_instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols,
            assignment: Bytes::new(),
            is_new: true,
            awaiting_join: Some(token),
            awaiting_sync: None,
        };
        self.change(Change::MemberAdded { member: Box::new(member), protocol_type: request.protocol_type });
        // The member does not know its id, so it can not send heartbeats, and its death is not seen while the request
        // is held. Whoever is still there after this time is expected to ask again.
        self.expect_sign_of_life(member_id, NEW_MEMBER_JOIN_TIMEOUT_MS);
        self.rebalance_or_complete_join(&reason);
    }

    fn update_member(&mut self, token: Token, request: &JoinGroup, reason: &str) {
        self.replace_request(&request.member_id, token, request);
        self.rebalance_or_complete_join(&join_reason(reason, request));
    }

    fn replace_request(&mut self, member_id: &Arc<str>, token: Token, request: &JoinGroup) {
        // A request that is repeated while the first one is held: its answer would be lost.
        self.refuse_held_join(member_id, ErrorCode::RebalanceInProgress, member_id.clone());
        self.change(Change::MemberUpdated {
            member_id: member_id.clone(),
            protocols: request.protocols.clone(),
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            awaiting_join: Some(token),
        });
    }

    /// A static member is back without its member id (KIP-345): it gets a new one, the old one is fenced, and its place
    /// is kept without a rebalance where nothing else changes.
    fn rejoin_static(&mut self, token: Token, request: JoinGroup, old: Arc<str>, new: Arc<str>) {
        let Some(group_instance_id) = request.group_instance_id.clone() else { return };
        let leader_before = self.group.leader_or_nobody();
        self.refuse_held_join(&old, ErrorCode::FencedInstanceId, old.clone());
        self.answer_held_sync(&old, Err(ErrorCode::FencedInstanceId));
        self.forget_session(&old);
        self.change(Change::MemberReplaced {
            group_instance_id,
            old_member_id: old,
            new_member_id: new.clone(),
        });
        self.touch(&new);
        self.replace_request(&new, token, &request);
        match self.group.state {
            GroupState::Stable if self.group.select_protocol() == self.group.protocol_name => {
                let record = self.group.to_record(self.now_ms, |member| member.assignment.clone());
                self.record(record);
                self.change(Change::JoinAnswered { member_id: new.clone() });
                self.tell_static(token, &request, &new, leader_before);
            }
            GroupState::Stable => {
                let reason = join_reason("a static member changed the protocol", &request);
                self.prepare_rebalance(&reason);
            }
            // The leader may have been told of the old member id already.
            GroupState::CompletingRebalance => {
                let reason = join_reason("a static member came back", &request);
                self.prepare_rebalance(&reason);
            }
            GroupState::PreparingRebalance | GroupState::Empty | GroupState::Dead => {
                self.maybe_complete_join()
            }
        }
    }

    fn tell_static(
        &mut self,
        token: Token,
        request: &JoinGroup,
        member_id: &Arc<str>,
        leader_before: Arc<str>,
    ) {
        let mut joined = self.joined_group(member_id);
        if request.can_skip_assignment {
            // The leader watches the topics again, but does not assign (KIP-814).
            joined.skip_assignment = self.group.is_leader(member_id);
        } else {
            // An older leader would assign if it knew that it leads: the members have not joined.
            joined.leader = leader_before;
            joined.members = Vec::new();
        }
        self.joined(token, joined);
    }
}

fn join_reason(what: &str, request: &JoinGroup) -> String {
    match request.reason.as_deref().filter(|reason| !reason.is_empty()) {
        Some(reason) => format!("{what}: {reason}"),
        None => what.to_owned(),
    }
}
