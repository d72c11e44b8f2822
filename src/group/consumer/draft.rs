//! A decision about a consumer group in the making: each record is replayed on a copy of the group, so that the next
//! step sees it, and listed, so that the shell replays it on the original.

use std::sync::Arc;

use tracing::info;

use super::group::{ConsumerChange, ConsumerGroup};
use super::record::{Body, ConsumerRecord, GroupEpoch};
use crate::error::{ApiError, ErrorCode};
use crate::group::cluster::ClusterView;
use crate::group::core::{Event, GroupCore, Timer};
use crate::group::record::Record;
use crate::group::settings::GroupSettings;
use crate::shard::{Decision, TimerChange};
use crate::types::TimestampMs;

/// What becomes of one consumer group.
pub(in crate::group) struct Draft<'a> {
    pub settings: &'a GroupSettings,
    pub cluster: &'a ClusterView,
    pub now_ms: TimestampMs,
    pub group: ConsumerGroup,
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
        self.decision.events.push(Event::Record(Record::Consumer(ConsumerRecord { group_id, body })));
    }

    /// Changes the group until the next restart.
    pub(super) fn change(&mut self, change: ConsumerChange) {
        self.group.replay_change(&change);
        self.decision.events.push(Event::Consumer { group_id: self.group.group_id.clone(), change });
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
        let timeout_ms = self.cluster.times_of(&self.group.group_id).session_timeout_ms;
        self.touch_for(member_id, timeout_ms);
    }

    /// A classic member was heard of: it brings its session timeout with it.
    pub(super) fn touch_for(&mut self, member_id: &Arc<str>, timeout_ms: i32) {
        let timer = Timer::Session { group_id: self.group.group_id.clone(), member_id: member_id.clone() };
        self.arm(timer, timeout_ms);
    }

    /// The deadline until which a member has to have given up partitions.
    pub(super) fn revocation_timer(&self, member_id: &Arc<str>) -> Timer {
        Timer::Revocation { group_id: self.group.group_id.clone(), member_id: member_id.clone() }
    }

    /// The deadline until which a classic member has to have joined again.
    pub(super) fn rejoin_timer(&self, member_id: &Arc<str>) -> Timer {
        Timer::Rejoin { group_id: self.group.group_id.clone(), member_id: member_id.clone() }
    }

    /// The deadline until which a classic member has to have synced.
    pub(super) fn member_sync_timer(&self, member_id: &Arc<str>) -> Timer {
        Timer::MemberSync { group_id: self.group.group_id.clone(), member_id: member_id.clone() }
    }

    /// Stops waiting for anything from a member.
    pub(super) fn cancel_timers(&mut self, member_id: &Arc<str>) {
        let group_id = self.group.group_id.clone();
        self.cancel(Timer::Session { group_id, member_id: member_id.clone() });
        self.cancel(self.revocation_timer(member_id));
        self.cancel(self.rejoin_timer(member_id));
        self.cancel(self.member_sync_timer(member_id));
    }

    /// Looks at the topics of the group. Where they changed, or where `members_changed`, the group goes to its next
    /// epoch.
    pub(super) fn refresh_topics(&mut self, members_changed: bool) {
        let metadata_hash = self.cluster.hash_of(self.group.subscribed_topics());
        if members_changed || metadata_hash != self.group.metadata_hash {
            let epoch = self.group.epoch.saturating_add(1);
            info!(group = %self.group.group_id, epoch, "a new epoch of a consumer group");
            self.record(Body::Epoch(Some(GroupEpoch { epoch, metadata_hash })));
        }
        self.change(ConsumerChange::TopicsSeen { version: self.cluster.topics_version });
        if self.group.has_partition_metadata {
            self.record(Body::PartitionMetadata(None));
        }
    }

    /// Whether topics changed since the group looked at them last.
    pub(super) fn has_old_topics(&self) -> bool {
        self.group.topics_seen < self.cluster.topics_version
    }
}
