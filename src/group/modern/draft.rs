//! A decision about a group in the making: each record is replayed on a copy of the group, so that the next step sees
//! it, and listed, so that the shell replays it on the original.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ModernGroup;
use super::record::{Body, GroupRecord, TargetEpoch};
use crate::error::{ApiError, ErrorCode};
use crate::group::cluster::ClusterView;
use crate::group::core::{Event, GroupCore, Timer};
use crate::group::settings::GroupSettings;
use crate::shard::{Decision, TimerChange};
use crate::types::TimestampMs;

/// What becomes of one group.
pub(in crate::group) struct Draft<'a, G: ModernGroup> {
    pub settings: &'a GroupSettings,
    pub cluster: &'a ClusterView,
    pub now_ms: TimestampMs,
    pub group: G,
    /// Whether the group is not there yet.
    pub is_new: bool,
    pub decision: Decision<GroupCore>,
}

/// An error with its sentence.
pub(in crate::group) fn refused<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, ApiError> {
    Err(ApiError::with(code, message))
}

/// A member that says it is in an epoch of which it was not told.
pub(in crate::group) fn fenced<T>(epoch: i32, known_epoch: i32) -> Result<T, ApiError> {
    let text = format!(
        "The member says it is in epoch {epoch}, and it is in epoch {known_epoch}: it has to give up everything and \
         join again."
    );
    refused(ErrorCode::FencedMemberEpoch, text)
}

/// Somebody who is no member, or not any more.
pub(in crate::group) fn unknown_member<T>(group_id: &str, member_id: &str) -> Result<T, ApiError> {
    refused(ErrorCode::UnknownMemberId, format!("{member_id} is not a member of group {group_id}."))
}

impl<G: ModernGroup> Draft<'_, G> {
    pub(in crate::group) fn finish(self) -> Decision<GroupCore> {
        self.decision
    }

    /// Changes the group for good.
    pub(in crate::group) fn record(&mut self, body: Body<G>) {
        self.group.replay(&body);
        let group_id = self.group.group_id().clone();
        self.decision.events.push(Event::Record(G::record(GroupRecord { group_id, body })));
    }

    /// Changes the group until the next restart.
    pub(in crate::group) fn change(&mut self, change: G::Change) {
        self.group.replay_change(&change);
        self.decision.events.push(G::event(self.group.group_id().clone(), change));
    }

    pub(in crate::group) fn arm(&mut self, timer: Timer, timeout_ms: i32) {
        let deadline_ms = self.now_ms.saturating_add(i64::from(timeout_ms));
        self.decision.timers.push(TimerChange::Arm { timer, deadline_ms });
    }

    pub(in crate::group) fn cancel(&mut self, timer: Timer) {
        self.decision.timers.push(TimerChange::Cancel { timer });
    }

    /// A member was heard of: its session starts anew.
    pub(in crate::group) fn touch(&mut self, member_id: &Arc<str>) {
        self.arm(self.session_timer(member_id), self.group.session_timeout_ms(self.cluster));
    }

    /// The deadline until which a member has to be heard of.
    pub(in crate::group) fn session_timer(&self, member_id: &Arc<str>) -> Timer {
        Timer::Session { group_id: self.group.group_id().clone(), member_id: member_id.clone() }
    }

    /// The deadline until which a member has to have given up what it is to give up.
    pub(in crate::group) fn revocation_timer(&self, member_id: &Arc<str>) -> Timer {
        Timer::Revocation { group_id: self.group.group_id().clone(), member_id: member_id.clone() }
    }

    /// Whether it is too early for another target assignment, where there is to be one each `interval_ms` at the most
    /// (KIP-1263).
    pub(in crate::group) fn is_target_young(&self, interval_ms: i32) -> bool {
        let assigned_at_ms = self.group.target().assigned_at_ms;
        let due_ms = assigned_at_ms.saturating_add(interval_ms.into());
        assigned_at_ms != 0 && interval_ms != 0 && self.now_ms < due_ms
    }

    /// Writes the target assignment of the group's epoch, for all members whose part of it changed. How many those are.
    pub(in crate::group) fn record_target(
        &mut self,
        epoch: i32,
        mut assignment: BTreeMap<Arc<str>, G::Target>,
    ) -> usize {
        let members: Vec<Arc<str>> = self.group.members().keys().cloned().collect();
        let mut changed = 0;
        for member_id in members {
            let value = assignment.remove(&member_id).unwrap_or_default();
            if self.group.target().members.get(&member_id).map(|known| &**known) != Some(&value) {
                changed += 1;
                self.record(Body::Target { member_id, value: Some(Arc::new(value)) });
            }
        }
        self.record(Body::TargetEpoch(Some(TargetEpoch { epoch, assigned_at_ms: self.now_ms })));
        changed
    }

    /// Writes that a member is gone.
    pub(in crate::group) fn remove_member(&mut self, member_id: &Arc<str>) {
        self.record(Body::Current { member_id: member_id.clone(), value: None });
        self.record(Body::Target { member_id: member_id.clone(), value: None });
        self.record(Body::Member { member_id: member_id.clone(), value: None });
    }

    /// Writes that all members are gone, and the target assignment.
    pub(in crate::group) fn delete_members(&mut self) {
        let members: Vec<Arc<str>> = self.group.members().keys().cloned().collect();
        for member_id in &members {
            self.record(Body::Current { member_id: member_id.clone(), value: None });
        }
        for member_id in &members {
            self.record(Body::Target { member_id: member_id.clone(), value: None });
        }
        self.record(Body::TargetEpoch(None));
        for member_id in members {
            self.record(Body::Member { member_id, value: None });
        }
    }
}
