//! A decision about a streams group in the making: each record is replayed on a copy of the group, so that the next step
//! sees it, and listed, so that the shell replays it on the original.

use std::sync::Arc;

use super::group::{StreamsChange, StreamsGroup};
use super::record::{Body, StreamsRecord};
use crate::error::{ApiError, ErrorCode};
use crate::group::cluster::ClusterView;
use crate::group::core::{Event, GroupCore, Timer};
use crate::group::record::Record;
use crate::group::settings::GroupSettings;
use crate::shard::{Decision, TimerChange};
use crate::types::TimestampMs;

/// What becomes of one streams group.
pub(in crate::group) struct Draft<'a> {
    pub settings: &'a GroupSettings,
    pub cluster: &'a ClusterView,
    pub now_ms: TimestampMs,
    pub group: StreamsGroup,
    /// Whether the group is not there yet.
    pub is_new: bool,
    pub decision: Decision<GroupCore>,
}

/// An error with its sentence.
pub(super) fn refused<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, ApiError> {
    Err(ApiError::with(code, message))
}

impl Draft<'_> {
    pub(in crate::group) fn finish(self) -> Decision<GroupCore> {
        self.decision
    }

    /// Changes the group for good.
    pub(super) fn record(&mut self, body: Body) {
        self.group.replay(&body);
        let group_id = self.group.group_id.clone();
        self.decision.events.push(Event::Record(Record::Streams(StreamsRecord { group_id, body })));
    }

    /// Changes the group until the next restart.
    pub(super) fn change(&mut self, change: StreamsChange) {
        self.group.replay_change(&change);
        self.decision.events.push(Event::Streams { group_id: self.group.group_id.clone(), change });
    }

    pub(super) fn arm(&mut self, timer: Timer, timeout_ms: i32) {
        let deadline_ms = self.now_ms.saturating_add(i64::from(timeout_ms));
        self.decision.timers.push(TimerChange::Arm { timer, deadline_ms });
    }

    pub(super) fn cancel(&mut self, timer: Timer) {
        self.decision.timers.push(TimerChange::Cancel { timer });
    }

    /// A member was heard of: its session starts anew.
    pub(in crate::group) fn touch(&mut self, member_id: &Arc<str>) {
        let timeout_ms = self.cluster.streams_times_of(&self.group.group_id).session_timeout_ms;
        self.arm(self.session_timer(member_id), timeout_ms);
    }

    pub(super) fn session_timer(&self, member_id: &Arc<str>) -> Timer {
        Timer::Session { group_id: self.group.group_id.clone(), member_id: member_id.clone() }
    }

    /// The deadline until which a member has to have given up tasks.
    pub(super) fn revocation_timer(&self, member_id: &Arc<str>) -> Timer {
        Timer::Revocation { group_id: self.group.group_id.clone(), member_id: member_id.clone() }
    }

    /// The deadline until which the first members are waited for.
    pub(super) fn delay_timer(&self) -> Timer {
        Timer::InitialDelay { group_id: self.group.group_id.clone() }
    }
}
