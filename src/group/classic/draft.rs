//! A decision in the making.
//!
//! A decision about a group is often a chain: a join adds a member, which prepares a rebalance, which may be complete at
//! once. A draft works on a copy of the group, which shares everything with the original. Each change is replayed on the
//! copy, so that the next step sees it, and listed, so that the shell replays it on the original.

use std::sync::Arc;

use crate::error::ErrorCode;
use crate::group::classic::{Change, ClassicGroup};
use crate::group::command::{JoinedGroup, RefusedJoin, Reply, SyncedGroup};
use crate::group::core::{Event, GroupCore, Timer};
use crate::group::record::{GroupMetadata, Record};
use crate::group::settings::GroupSettings;
use crate::shard::{Decision, TimerChange, Token};
use crate::types::TimestampMs;

/// What becomes of one group.
pub(in crate::group) struct Draft<'a> {
    pub settings: &'a GroupSettings,
    pub now_ms: TimestampMs,
    pub group: ClassicGroup,
    decision: Decision<GroupCore>,
}

impl<'a> Draft<'a> {
    pub(in crate::group) fn new(
        settings: &'a GroupSettings,
        now_ms: TimestampMs,
        group: ClassicGroup,
    ) -> Self {
        Self { settings, now_ms, group, decision: Decision::default() }
    }

    pub(in crate::group) fn finish(self) -> Decision<GroupCore> {
        self.decision
    }

    /// Goes on after a decision, which brought about what the draft begins with.
    pub(in crate::group) fn follow(&mut self, decision: Decision<GroupCore>) {
        self.decision = decision;
    }

    /// Changes the group until the next restart.
    pub(super) fn change(&mut self, change: Change) {
        self.group.replay(&change);
        self.decision.events.push(Event::Classic { group_id: self.group.group_id.clone(), change });
    }

    /// Changes the group for good.
    pub(super) fn record(&mut self, value: GroupMetadata) {
        let group_id = self.group.group_id.clone();
        self.group = ClassicGroup::from_record(&group_id, Some(&self.group), &value);
        self.decision.events.push(Event::Record(Record::Group { group_id, value: Some(value) }));
    }

    /// Writes down a group that was of the consumer protocol, and waits for its members.
    pub(in crate::group) fn write_down(&mut self) {
        let record = self.group.to_record(self.now_ms, |member| member.assignment.clone());
        let members: Vec<_> = self.group.members.values().cloned().collect();
        self.record(record);
        for member in members {
            // The record has one protocol only.
            self.change(Change::MemberUpdated {
                member_id: member.member_id.clone(),
                protocols: member.protocols.clone(),
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: member.session_timeout_ms,
                awaiting_join: None,
            });
            self.touch(&member.member_id);
        }
    }

    /// Answers everybody who is held, because the group goes to the consumer protocol.
    pub(in crate::group) fn refuse_all_held(&mut self, code: ErrorCode) {
        let members: Vec<_> = self.group.members.keys().cloned().collect();
        for member_id in members {
            self.refuse_held_join(&member_id, code, member_id.clone());
            self.answer_held_sync(&member_id, Err(code));
        }
        self.cancel_join();
        self.cancel_sync();
    }

    pub(super) fn reply(&mut self, token: Token, reply: Reply) {
        self.decision.replies.push((token, reply));
    }

    pub(super) fn joined(&mut self, token: Token, joined: JoinedGroup) {
        self.reply(token, Reply::Join(Ok(joined)));
    }

    pub(super) fn refuse_join(&mut self, token: Token, code: ErrorCode, member_id: Arc<str>) {
        self.reply(token, Reply::Join(Err(RefusedJoin { code, member_id })));
    }

    /// Answers a member's held join, if there is one, with an error.
    pub(super) fn refuse_held_join(
        &mut self,
        member_id: &Arc<str>,
        code: ErrorCode,
        reply_member_id: Arc<str>,
    ) {
        if let Some(token) = self.group.members.get(member_id).and_then(|member| member.awaiting_join) {
            self.refuse_join(token, code, reply_member_id);
            self.change(Change::JoinAnswered { member_id: member_id.clone() });
        }
    }

    /// Answers a member's held sync, if there is one; tells whether there was.
    pub(super) fn answer_held_sync(
        &mut self,
        member_id: &Arc<str>,
        result: Result<SyncedGroup, ErrorCode>,
    ) -> bool {
        let Some(token) = self.group.members.get(member_id).and_then(|member| member.awaiting_sync) else {
            return false;
        };
        self.reply(token, Reply::Sync(result));
        self.change(Change::SyncAnswered { member_id: member_id.clone() });
        true
    }

    /// A member was heard of: its session starts anew.
    pub(in crate::group) fn touch(&mut self, member_id: &Arc<str>) {
        if let Some(member) = self.group.members.get(member_id) {
            self.expect_sign_of_life(member_id.clone(), member.session_timeout_ms);
        }
    }

    /// Removes a member (or a pending one) that is not heard of in time.
    pub(super) fn expect_sign_of_life(&mut self, member_id: Arc<str>, timeout_ms: i32) {
        let group_id = self.group.group_id.clone();
        self.arm(Timer::Session { group_id, member_id }, timeout_ms);
    }

    pub(super) fn forget_session(&mut self, member_id: &Arc<str>) {
        let group_id = self.group.group_id.clone();
        self.cancel(Timer::Session { group_id, member_id: member_id.clone() });
    }

    pub(super) fn arm_join(&mut self, timeout_ms: i32) {
        self.arm(Timer::Join { group_id: self.group.group_id.clone() }, timeout_ms);
    }

    pub(super) fn cancel_join(&mut self) {
        self.cancel(Timer::Join { group_id: self.group.group_id.clone() });
    }

    pub(super) fn arm_sync(&mut self, timeout_ms: i32) {
        self.arm(Timer::Sync { group_id: self.group.group_id.clone() }, timeout_ms);
    }

    pub(super) fn cancel_sync(&mut self) {
        self.cancel(Timer::Sync { group_id: self.group.group_id.clone() });
    }

    fn arm(&mut self, timer: Timer, timeout_ms: i32) {
        let deadline_ms = self.now_ms.saturating_add(i64::from(timeout_ms));
        self.decision.timers.push(TimerChange::Arm { timer, deadline_ms });
    }

    fn cancel(&mut self, timer: Timer) {
        self.decision.timers.push(TimerChange::Cancel { timer });
    }
}
