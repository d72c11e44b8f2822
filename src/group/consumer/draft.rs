//! A decision about a consumer group in the making: its timers, its topics, and what a start arms.

use std::sync::Arc;

use tracing::info;

use super::group::{ConsumerChange, ConsumerGroup};
use super::member::MemberState;
use super::record::{Body, GroupEpoch, Own};
use crate::group::core::Timer;
use crate::group::modern::draft;

/// What becomes of one consumer group.
pub(in crate::group) type Draft<'a> = draft::Draft<'a, ConsumerGroup>;

impl Draft<'_> {
    /// Every member has a whole session to be heard of, and those who have to give up partitions their whole time.
    pub(in crate::group) fn start(&mut self) {
        for (member_id, member) in &self.group.members.clone() {
            self.touch(member_id);
            if member.current.state == MemberState::UnrevokedPartitions {
                self.arm(self.revocation_timer(member_id), member.metadata.rebalance_timeout_ms);
            }
        }
    }

    /// A classic member was heard of: it brings its session timeout with it.
    pub(super) fn touch_for(&mut self, member_id: &Arc<str>, timeout_ms: i32) {
        self.arm(self.session_timer(member_id), timeout_ms);
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
        self.cancel(self.session_timer(member_id));
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
            self.record(Body::Own(Own::PartitionMetadata(None)));
        }
    }

    /// Whether topics changed since the group looked at them last.
    pub(super) fn has_old_topics(&self) -> bool {
        self.group.topics_seen < self.cluster.topics_version
    }
}
