//! Requests, brought to their consumer group.

use std::sync::Arc;

use super::draft::Draft as ConsumerDraft;
use super::group::ConsumerGroup;
use crate::error::{ApiError, ErrorCode};
use crate::group::classic::ClassicGroup;
use crate::group::classic::draft::Draft as ClassicDraft;
use crate::group::command::{
    ConsumerHeartbeat, DescribedConsumerGroup, Heartbeat, HeartbeatAnswer, JoinGroup, LeaveGroup,
    RefusedJoin, Reply, SyncGroup,
};
use crate::group::core::GroupCore;
use crate::group::kind::Group;
use crate::group::modern::requests::no_group;
use crate::group::modern::{LEAVE_EPOCH, LEAVE_STATIC_EPOCH};
use crate::group::share::Draft as ShareDraft;
use crate::group::streams::Draft as StreamsDraft;
use crate::shard::{Decision, Token};
use crate::types::TimestampMs;

impl GroupCore {
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
        let new_group = || self.draft_of_new::<ConsumerGroup>(now_ms, &request.group_id);
        let mut draft = match self.groups.get(&request.group_id) {
            Some(Group::Consumer(group)) => self.draft(now_ms, group),
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
            None if joins => new_group(),
            found => return Err(no_group::<ConsumerGroup>(&request.group_id, found.is_some())),
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
            Group::Consumer(group) => self.decide_for(now_ms, group, ConsumerDraft::delete),
            Group::Share(group) => self.decide_for(now_ms, group, ShareDraft::delete),
            Group::Streams(group) => self.decide_for(now_ms, group, StreamsDraft::delete),
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
        let mut draft = self.draft(now_ms, group);
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
        let mut draft = self.draft(now_ms, group);
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
        let mut draft = self.draft(now_ms, group);
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
        let mut draft = self.draft(now_ms, group);
        let left = draft.leave_all(request);
        let mut decision = draft.finish();
        decision.replies.push((token, Reply::Leave(Ok(left))));
        decision
    }

    /// ConsumerGroupDescribe.
    pub(in crate::group) fn describe_consumer(&self, group_id: Arc<str>) -> DescribedConsumerGroup {
        let describe =
            |group: &ConsumerGroup| group.describe(self.settings.default_assignor().name(), &self.cluster);
        let group = self.group_of(&group_id).map(describe);
        DescribedConsumerGroup { group_id, group }
    }
}
