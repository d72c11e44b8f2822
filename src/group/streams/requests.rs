//! Requests, brought to their streams group.

use super::draft::Draft;
use super::group::StreamsGroup;
use super::member::MemberState;
use super::record::{Body, StreamsRecord};
use crate::group::core::GroupCore;
use crate::group::kind::Group;
use crate::shard::Decision;
use crate::types::TimestampMs;

impl GroupCore {
    fn streams_draft(&self, now_ms: TimestampMs, group: StreamsGroup) -> Draft<'_> {
        Draft { cluster: &self.cluster, now_ms, group, decision: Decision::default() }
    }

    /// What becomes of a streams group; nothing where there is none.
    pub(in crate::group) fn with_streams(
        &self,
        now_ms: TimestampMs,
        group_id: &str,
        decide: impl FnOnce(&mut Draft<'_>),
    ) -> Decision<Self> {
        let Some(Group::Streams(group)) = self.groups.get(group_id) else { return Decision::default() };
        let mut draft = self.streams_draft(now_ms, group.clone());
        decide(&mut draft);
        draft.finish()
    }

    /// Every member has a whole session to be heard of, and those who have to give up tasks their whole time.
    pub(in crate::group) fn start_streams(
        &self,
        now_ms: TimestampMs,
        group: &StreamsGroup,
    ) -> Decision<Self> {
        let mut draft = self.streams_draft(now_ms, group.clone());
        for (member_id, member) in &group.members {
            draft.touch(member_id);
            if member.current.state == MemberState::UnrevokedTasks {
                let timer = draft.revocation_timer(member_id);
                draft.arm(timer, member.metadata.rebalance_timeout_ms);
            }
        }
        draft.finish()
    }

    /// Writes that a streams group is gone.
    pub(in crate::group) fn delete_streams(
        &self,
        now_ms: TimestampMs,
        group: &StreamsGroup,
    ) -> Decision<Self> {
        let mut draft = self.streams_draft(now_ms, group.clone());
        draft.delete();
        draft.finish()
    }

    /// Changes a streams group for good; the first record of one makes it, also in the place of a group that was only
    /// assumed because somebody commits offsets.
    pub(in crate::group) fn replay_streams(&mut self, record: &StreamsRecord) {
        let group_id = &record.group_id;
        if record.body == Body::Epoch(None) {
            if let Some(Group::Streams(_)) = self.groups.get(group_id) {
                self.groups.remove(group_id);
            }
            return;
        }
        if let Some(Group::Streams(group)) = self.groups.get_mut(group_id) {
            group.replay(&record.body);
        } else if !record.is_tombstone() {
            let mut group = StreamsGroup::new(group_id.clone());
            group.replay(&record.body);
            self.groups.insert(group_id.clone(), Group::Streams(group));
        }
    }
}
