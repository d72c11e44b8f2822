//! From one generation to the next.

use std::sync::Arc;

use bytes::Bytes;
use tracing::info;

use super::draft::Draft;
use super::group::{Change, GroupState, InitialDelay, Member};
use crate::error::ErrorCode;
use crate::group::command::JoinedGroup;

impl Draft<'_> {
    /// Starts a rebalance where the state allows it; otherwise one is under way, and may be complete now.
    pub(super) fn rebalance_or_complete_join(&mut self, reason: &str) {
        match self.group.state {
            GroupState::Empty | GroupState::CompletingRebalance | GroupState::Stable => {
                self.prepare_rebalance(reason);
            }
            GroupState::PreparingRebalance | GroupState::Dead => self.maybe_complete_join(),
        }
    }

    /// Has everybody join again.
    pub(in crate::group) fn prepare_rebalance(&mut self, reason: &str) {
        if self.group.state == GroupState::CompletingRebalance {
            self.refuse_held_syncs(ErrorCode::RebalanceInProgress);
        }
        self.cancel_sync();
        let initial_delay = (self.group.state == GroupState::Empty).then(|| self.initial_delay());
        info!(group = %self.group.group_id, generation = self.group.generation_id, reason, "preparing a rebalance");
        self.change(Change::RebalancePrepared { at_ms: self.now_ms, initial_delay });
        match initial_delay {
            Some(initial) => self.arm_join(initial.delay_ms),
            None if self.group.all_members_joined() => self.complete_join(),
            None => self.arm_join(self.group.rebalance_timeout_ms()),
        }
    }

    fn initial_delay(&self) -> InitialDelay {
        let delay_ms = self.settings.initial_rebalance_delay_ms;
        let remaining_ms = self.group.rebalance_timeout_ms().saturating_sub(delay_ms).max(0);
        InitialDelay { delay_ms, remaining_ms, new_member_added: false }
    }

    pub(super) fn refuse_held_syncs(&mut self, code: ErrorCode) {
        let members: Vec<Arc<str>> = self.group.members.keys().cloned().collect();
        for member_id in members {
            if self.answer_held_sync(&member_id, Err(code)) {
                self.touch(&member_id);
            }
        }
    }

    /// Ends the join phase if everybody is there. The first rebalance of a group always waits for its delay.
    pub(super) fn maybe_complete_join(&mut self) {
        if self.group.state == GroupState::PreparingRebalance
            && self.group.previous_state != GroupState::Empty
            && self.group.all_members_joined()
        {
            self.complete_join();
        }
    }

    /// The time for joining is up; the first members may get more of it.
    pub(in crate::group) fn join_deadline_passed(&mut self) {
        if self.group.state != GroupState::PreparingRebalance {
            return;
        }
        let Some(waited) = self.group.initial_delay.filter(|d| d.new_member_added && d.remaining_ms != 0)
        else {
            return self.complete_join();
        };
        let initial_delay = InitialDelay {
            delay_ms: self.settings.initial_rebalance_delay_ms.min(waited.remaining_ms),
            remaining_ms: waited.remaining_ms.saturating_sub(waited.delay_ms).max(0),
            new_member_added: false,
        };
        self.change(Change::InitialDelayChanged { initial_delay: Some(initial_delay) });
        self.arm_join(initial_delay.delay_ms);
    }

    /// Ends the join phase: who has not come back is out, who has is in the next generation.
    pub(super) fn complete_join(&mut self) {
        self.cancel_join();
        self.remove_absent_members();
        if !self.elect_joined_leader() && !self.group.members.is_empty() {
            // Only static members are left and none of them is back: wait until one is, or its session ends.
            self.change(Change::InitialDelayChanged { initial_delay: None });
            return self.arm_join(self.group.rebalance_timeout_ms());
        }
        match self.group.select_protocol() {
            Some(protocol_name) if !self.group.members.is_empty() => self.start_generation(protocol_name),
            _ => self.become_empty(),
        }
    }

    fn remove_absent_members(&mut self) {
        let absent =
            |member: &&Arc<Member>| member.awaiting_join.is_none() && member.group_instance_id.is_none();
        let absent: Vec<_> =
            self.group.members.values().filter(absent).map(|m| m.member_id.clone()).collect();
        for member_id in absent {
            self.forget_session(&member_id);
            self.change(Change::MemberRemoved { member_id });
        }
    }

    /// Makes sure that the leader is one who joined; `false` where nobody did.
    fn elect_joined_leader(&mut self) -> bool {
        let joined = |member: &Arc<Member>| member.awaiting_join.is_some();
        let Some(leader) = self.group.leader.as_ref().and_then(|leader| self.group.members.get(leader))
        else {
            return false;
        };
        if joined(leader) {
            return true;
        }
        let elected = self.group.members.values().find(|member| joined(member)).map(|m| m.member_id.clone());
        let Some(member_id) = elected else { return false };
        self.change(Change::LeaderElected { member_id });
        true
    }

    fn start_generation(&mut self, protocol_name: Arc<str>) {
        let held: Vec<_> =
            self.group.members.values().map(|m| (m.member_id.clone(), m.awaiting_join)).collect();
        self.change(Change::GenerationStarted { at_ms: self.now_ms, protocol_name });
        info!(
            group = %self.group.group_id,
            generation = self.group.generation_id,
            members = held.len(),
            "a generation started"
        );
        for (member_id, awaiting_join) in held {
            if let Some(token) = awaiting_join {
                let joined = self.joined_group(&member_id);
                self.joined(token, joined);
            }
            self.touch(&member_id);
        }
        self.arm_sync(self.group.rebalance_timeout_ms());
    }

    /// What a member learns of the current generation: the leader learns of everybody.
    pub(super) fn joined_group(&self, member_id: &Arc<str>) -> JoinedGroup {
        let leads = self.group.is_leader(member_id);
        JoinedGroup {
            member_id: member_id.clone(),
            generation_id: self.group.generation_id,
            protocol_type: self.group.protocol_type.clone(),
            protocol_name: self.group.protocol_name.clone(),
            leader: self.group.leader_or_nobody(),
            skip_assignment: false,
            members: if leads { self.group.joined_members() } else { Vec::new() },
        }
    }

    fn become_empty(&mut self) {
        let mut record = self.group.to_record(self.now_ms, |_| Bytes::new());
        record.generation_id += 1;
        record.protocol_name = None;
        record.leader = None;
        info!(group = %self.group.group_id, generation = record.generation_id, "the group is empty");
        self.record(record);
    }

    /// The time for the syncs is up: who did not send one is out.
    pub(in crate::group) fn sync_deadline_passed(&mut self) {
        if !matches!(self.group.state, GroupState::CompletingRebalance | GroupState::Stable) {
            return;
        }
        let missing: Vec<Arc<str>> = self.group.pending_sync.iter().cloned().collect();
        if missing.is_empty() {
            return;
        }
        for member_id in missing {
            self.forget_session(&member_id);
            self.change(Change::MemberRemoved { member_id });
        }
        self.prepare_rebalance("members did not sync in time");
    }
}
