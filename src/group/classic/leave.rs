//! LeaveGroup, and leaving by silence.

use std::sync::Arc;

use tracing::info;

use super::draft::Draft;
use super::group::{Change, ClassicGroup, GroupState};
use crate::error::ErrorCode;
use crate::group::command::{LeavingMember, LeftMember};
use crate::group::core::{Event, GroupCore, Timer};
use crate::group::record::Record;
use crate::shard::{Decision, TimerChange};

impl Draft<'_> {
    /// Removes members at their own or an administrator's wish.
    pub(in crate::group) fn leave(&mut self, members: Vec<LeavingMember>) -> Vec<LeftMember> {
        let left: Vec<LeftMember> = members.into_iter().map(|member| self.leave_one(member)).collect();
        if left.iter().any(|member| member.error.is_none()) {
            match self.group.state {
                GroupState::Stable | GroupState::CompletingRebalance => {
                    self.prepare_rebalance("members left")
                }
                GroupState::PreparingRebalance => self.maybe_complete_join(),
                GroupState::Empty | GroupState::Dead => {}
            }
        }
        left
    }

    fn leave_one(&mut self, leaving: LeavingMember) -> LeftMember {
        let error = self.try_leave(&leaving).err();
        LeftMember { member_id: leaving.member_id, group_instance_id: leaving.group_instance_id, error }
    }

    fn try_leave(&mut self, leaving: &LeavingMember) -> Result<(), ErrorCode> {
        let instance = leaving.group_instance_id.as_deref();
        let member_id = if leaving.member_id.is_empty() {
            // An administrator knows the instance only.
            let member_id = instance.and_then(|instance| self.group.static_members.get(instance));
            member_id.cloned().ok_or(ErrorCode::UnknownMemberId)?
        } else {
            if !self.group.pending_members.contains(&leaving.member_id) {
                self.group.validate_member(&leaving.member_id, instance)?;
            }
            leaving.member_id.clone()
        };
        let reason = leaving.reason.as_deref().unwrap_or("not provided");
        info!(group = %self.group.group_id, member = %member_id, reason, "a member left");
        self.forget_session(&member_id);
        self.remove_member(member_id);
        Ok(())
    }

    fn remove_member(&mut self, member_id: Arc<str>) {
        self.refuse_held_join(&member_id, ErrorCode::UnknownMemberId, Arc::default());
        // A held sync of a member that is gone would never be answered.
        self.answer_held_sync(&member_id, Err(ErrorCode::UnknownMemberId));
        self.change(Change::MemberRemoved { member_id });
    }

    /// A member, or who was to become one, was not heard of in time.
    pub(in crate::group) fn session_expired(&mut self, member_id: &Arc<str>) {
        if self.group.pending_members.contains(member_id) {
            info!(group = %self.group.group_id, member = %member_id, "a pending member did not join in time");
            self.change(Change::MemberRemoved { member_id: member_id.clone() });
            if self.group.state == GroupState::PreparingRebalance && self.group.all_members_joined() {
                self.complete_join();
            }
            return;
        }
        let Some(member) = self.group.members.get(member_id) else { return };
        if member.has_satisfied_heartbeat() {
            return;
        }
        info!(group = %self.group.group_id, member = %member_id, "a member's session timed out");
        self.remove_member(member_id.clone());
        match self.group.state {
            GroupState::Stable | GroupState::CompletingRebalance => {
                self.prepare_rebalance("a session timed out")
            }
            GroupState::PreparingRebalance if self.group.all_members_joined() => self.complete_join(),
            GroupState::PreparingRebalance | GroupState::Empty | GroupState::Dead => {}
        }
    }
}

impl ClassicGroup {
    /// Writes that the group is gone.
    pub(in crate::group) fn deleted(&self) -> Decision<GroupCore> {
        let members = self.members.keys().chain(&self.pending_members);
        let cancel = |member_id: &Arc<str>| TimerChange::Cancel {
            timer: Timer::Session { group_id: self.group_id.clone(), member_id: member_id.clone() },
        };
        let gone = Event::Record(Record::Group { group_id: self.group_id.clone(), value: None });
        Decision { events: vec![gone], timers: members.map(cancel).collect(), replies: Vec::new() }
    }
}
