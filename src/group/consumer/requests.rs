//! Requests, brought to their consumer group.

use std::sync::Arc;

use super::draft::{Draft, refused};
use super::group::ConsumerGroup;
use super::member::{LEAVE_EPOCH, LEAVE_STATIC_EPOCH, MemberState};
use super::record::{Body, ConsumerRecord};
use crate::error::{ApiError, ErrorCode};
use crate::group::classic::ClassicGroup;
use crate::group::classic::draft::Draft as ClassicDraft;
use crate::group::command::{
    ConsumerHeartbeat, DescribedConsumerGroup, Heartbeat, HeartbeatAnswer, JoinGroup, LeaveGroup,
    RefusedJoin, Reply, SyncGroup,
};
use crate::group::core::GroupCore;
use crate::group::kind::Group;
use crate::shard::{Decision, Token};
use crate::types::TimestampMs;

impl GroupCore {
    fn consumer_draft(&self, now_ms: TimestampMs, group: ConsumerGroup) -> Draft<'_> {
        Draft {
            settings: &self.settings,
            cluster: &self.cluster,
            now_ms,
            group,
            decision: Decision::default(),
        }
    }

    /// What becomes of a consumer group; nothing where there is none.
    pub(in crate::group) fn with_consumer(
        &self,
        now_ms: TimestampMs,
        group_id: &str,
        decide: impl FnOnce(&mut Draft<'_>),
    ) -> Decision<Self> {
        let Some(Group::Consumer(group)) = self.groups.get(group_id) else { return Decision::default() };
        let mut draft = self.consumer_draft(now_ms, group.clone());
        decide(&mut draft);
        draft.finish()
    }

    /// Every member has a whole session to be heard of, and those who have to give up partitions their whole time.
    pub(in crate::group) fn start_consumer(
        &self,
        now_ms: TimestampMs,
        group: &ConsumerGroup,
    ) -> Decision<Self> {
        let mut draft = self.consumer_draft(now_ms, group.clone());
        for (member_id, member) in &group.members {
            draft.touch(member_id);
            if member.current.state == MemberState::UnrevokedPartitions {
                let timer = draft.revocation_timer(member_id);
                draft.arm(timer, member.metadata.rebalance_timeout_ms);
            }
        }
        draft.finish()
    }

    /// Changes a consumer group for good; the first record of one makes it, also in the place of a group that was only
    /// assumed because somebody commits offsets.
    pub(in crate::group) fn replay_consumer(&mut self, record: &ConsumerRecord) {
        let group_id = &record.group_id;
        if record.body == Body::Epoch(None) {
            if let Some(Group::Consumer(_)) = self.groups.get(group_id) {
                self.groups.remove(group_id);
            }
            return;
        }
        if let Some(Group::Consumer(group)) = self.groups.get_mut(group_id) {
            group.replay(&record.body);
        } else if !record.is_tombstone() {
            let mut group = ConsumerGroup::new(group_id.clone());
            group.replay(&record.body);
            self.groups.insert(group_id.clone(), Group::Consumer(group));
        }
    }

    /// ConsumerGroupHeartbeat. What was decided before an error is forgotten.
    pub(in crate::group) fn consumer_heartbeat(
        &self,
        now_ms: TimestampMs,
        token: Token,
        request: &ConsumerHeartbeat,
    ) -> Decision<Self> {
        match self.try_heartbeat(now_ms, request) {
            Ok((mut decision, answer)) => {
                decision.replies.push((token, Reply::ConsumerHeartbeat(Ok(answer))));
                decision
            }
            Err(error) => Decision::reply(token, Reply::ConsumerHeartbeat(Err(error))),
        }
    }

    fn try_heartbeat(
        &self,
        now_ms: TimestampMs,
        request: &ConsumerHeartbeat,
    ) -> Result<(Decision<Self>, HeartbeatAnswer), ApiError> {
        let leaves = matches!(request.member_epoch, LEAVE_EPOCH | LEAVE_STATIC_EPOCH);
        let joins = request.member_epoch == 0;
        let new_group = || self.consumer_draft(now_ms, ConsumerGroup::new(request.group_id.clone()));
        let mut draft = match self.groups.get(&request.group_id) {
            Some(Group::Consumer(group)) => self.consumer_draft(now_ms, group.clone()),
            Some(group @ Group::Classic(_)) if joins && group.is_empty() => {
                // The committed offsets stay.
                let mut draft = new_group();
                draft.decision = self.deleted(now_ms, group);
                draft
            }
            Some(Group::Classic(classic)) if joins => {
                let mut draft = new_group();
                draft.decision = self.closed(now_ms, classic);
                draft.upgrade(classic)?;
                draft
            }
            Some(Group::Classic(_) | Group::Share(_) | Group::Streams(_)) => {
                let text = format!("Group {} is not a consumer group.", request.group_id);
                return refused(ErrorCode::GroupIdNotFound, text);
            }
            None if joins => new_group(),
            None => {
                return refused(ErrorCode::GroupIdNotFound, format!("Group {} not found.", request.group_id));
            }
        };
        let answer = if leaves { draft.leave(request)? } else { draft.heartbeat(request)? };
        Ok((draft.finish(), answer))
    }

    /// A classic group with members, on its way to the consumer protocol: whoever is held has to join again.
    fn closed(&self, now_ms: TimestampMs, classic: &ClassicGroup) -> Decision<Self> {
        let mut draft = ClassicDraft::new(&self.settings, now_ms, classic.clone());
        draft.refuse_all_held(ErrorCode::RebalanceInProgress);
        let mut decision = draft.finish();
        let deleted = self.deleted(now_ms, &Group::Classic(classic.clone()));
        decision.events.extend(deleted.events);
        decision.timers.extend(deleted.timers);
        decision
    }

    /// Writes that a group is gone; its offsets stay.
    pub(in crate::group) fn deleted(&self, now_ms: TimestampMs, group: &Group) -> Decision<Self> {
        match group {
            Group::Classic(group) => group.deleted(),
            Group::Consumer(group) => {
                let mut draft = self.consumer_draft(now_ms, group.clone());
                draft.delete();
                draft.finish()
            }
            Group::Share(group) => {
                let mut draft = self.share_draft(now_ms, group.clone());
                draft.delete();
                draft.finish()
            }
            Group::Streams(group) => self.delete_streams(now_ms, group),
        }
    }

    /// JoinGroup of a consumer group that has members.
    pub(in crate::group) fn join_consumer(
        &self,
        now_ms: TimestampMs,
        token: Token,
        group: &ConsumerGroup,
        request: &JoinGroup,
    ) -> Decision<Self> {
        let mut draft = self.consumer_draft(now_ms, group.clone());
        match draft.join(request) {
            Ok(joined) => {
                let mut decision = draft.finish();
                decision.replies.push((token, Reply::Join(Ok(joined))));
                decision
            }
            Err(ApiError { code: ErrorCode::MemberIdRequired, message }) => {
                let member_id = message.unwrap_or_default().into();
                let refused = RefusedJoin { code: ErrorCode::MemberIdRequired, member_id };
                Decision::reply(token, Reply::Join(Err(refused)))
            }
            Err(error) => {
                let refused = RefusedJoin { code: error.code, member_id: request.member_id.clone() };
                Decision::reply(token, Reply::Join(Err(refused)))
            }
        }
    }

    /// SyncGroup of a consumer group.
    pub(in crate::group) fn sync_consumer(
        &self,
        now_ms: TimestampMs,
        token: Token,
        group: &ConsumerGroup,
        request: &SyncGroup,
    ) -> Decision<Self> {
        let mut draft = self.consumer_draft(now_ms, group.clone());
        let synced = draft.sync(request);
        let mut decision = draft.finish();
        decision.replies.push((token, Reply::Sync(synced)));
        decision
    }

    /// Heartbeat of a classic member of a consumer group.
    pub(in crate::group) fn heartbeat_consumer(
        &self,
        now_ms: TimestampMs,
        token: Token,
        group: &ConsumerGroup,
        request: &Heartbeat,
    ) -> Decision<Self> {
        let mut draft = self.consumer_draft(now_ms, group.clone());
        let alive = draft.classic_heartbeat(request);
        let mut decision = draft.finish();
        decision.replies.push((token, Reply::Heartbeat(alive)));
        decision
    }

    /// LeaveGroup of a consumer group.
    pub(in crate::group) fn leave_consumer(
        &self,
        now_ms: TimestampMs,
        token: Token,
        group: &ConsumerGroup,
        request: LeaveGroup,
    ) -> Decision<Self> {
        let mut draft = self.consumer_draft(now_ms, group.clone());
        let left = draft.leave_all(request);
        let mut decision = draft.finish();
        decision.replies.push((token, Reply::Leave(Ok(left))));
        decision
    }

    /// ConsumerGroupDescribe.
    pub(in crate::group) fn describe_consumer(&self, group_id: Arc<str>) -> DescribedConsumerGroup {
        let group = match self.groups.get(&group_id) {
            Some(Group::Consumer(group)) => {
                Ok(group.describe(self.settings.default_assignor().name(), &self.cluster))
            }
            Some(Group::Classic(_) | Group::Share(_) | Group::Streams(_)) => {
                refused(ErrorCode::GroupIdNotFound, format!("Group {group_id} is not a consumer group."))
            }
            None => refused(ErrorCode::GroupIdNotFound, format!("Group {group_id} not found.")),
        };
        DescribedConsumerGroup { group_id, group }
    }
}
