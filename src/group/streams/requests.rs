//! Requests, brought to their streams group.

use std::sync::Arc;

use tracing::info;

use super::command::{DescribedStreamsGroup, StreamsHeartbeat, StreamsHeartbeatAnswer};
use super::draft::Draft;
use super::group::StreamsGroup;
use super::heartbeat::unknown_member;
use super::member::{LEAVE_EPOCH, MemberState};
use super::record::{Body, StreamsRecord};
use crate::error::{ApiError, ErrorCode};
use crate::group::command::Reply;
use crate::group::core::GroupCore;
use crate::group::kind::Group;
use crate::shard::{Decision, Token};
use crate::types::TimestampMs;

impl GroupCore {
    fn streams_draft(&self, now_ms: TimestampMs, group: StreamsGroup) -> Draft<'_> {
        Draft {
            settings: &self.settings,
            cluster: &self.cluster,
            now_ms,
            is_new: !matches!(self.groups.get(&group.group_id), Some(Group::Streams(_))),
            group,
            decision: Decision::default(),
        }
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

    /// StreamsGroupHeartbeat. What was decided before an error is forgotten.
    pub(in crate::group) fn streams_heartbeat(
        &self,
        now_ms: TimestampMs,
        token: Token,
        request: &StreamsHeartbeat,
    ) -> Decision<Self> {
        match self.try_streams_heartbeat(now_ms, request) {
            Ok((mut decision, answer)) => {
                decision.replies.push((token, Reply::StreamsHeartbeat(Ok(answer))));
                decision
            }
            Err(error) => Decision::reply(token, Reply::StreamsHeartbeat(Err(error))),
        }
    }

    fn try_streams_heartbeat(
        &self,
        now_ms: TimestampMs,
        request: &StreamsHeartbeat,
    ) -> Result<(Decision<Self>, StreamsHeartbeatAnswer), ApiError> {
        let joins = request.member_epoch == 0;
        let new_group = || self.streams_draft(now_ms, StreamsGroup::new(request.group_id.clone()));
        let mut draft = match self.groups.get(&request.group_id) {
            Some(Group::Streams(group)) => self.streams_draft(now_ms, group.clone()),
            Some(group @ Group::Classic(_)) if joins && group.is_empty() => {
                // The committed offsets stay.
                let mut draft = new_group();
                draft.decision = self.deleted(now_ms, group);
                draft
            }
            None if joins => new_group(),
            found => return Err(no_streams_group(&request.group_id, found.is_some())),
        };
        let answer = if request.member_epoch == LEAVE_EPOCH {
            draft.leave(request)?
        } else {
            draft.heartbeat(request)?
        };
        Ok((draft.finish(), answer))
    }

    /// StreamsGroupDescribe.
    pub(in crate::group) fn describe_streams(&self, group_id: Arc<str>) -> DescribedStreamsGroup {
        let group = match self.groups.get(&group_id) {
            Some(Group::Streams(group)) => Ok(group.describe()),
            found => Err(no_streams_group(&group_id, found.is_some())),
        };
        DescribedStreamsGroup { group_id, group }
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

impl Draft<'_> {
    /// A member leaves.
    fn leave(&mut self, request: &StreamsHeartbeat) -> Result<StreamsHeartbeatAnswer, ApiError> {
        let member_id = &request.member_id;
        if !self.group.members.contains_key(member_id) {
            return unknown_member(&self.group.group_id, member_id);
        }
        if request.shutdown_application {
            self.request_shutdown(member_id);
        }
        info!(group = %self.group.group_id, member = %member_id, "a member left a streams group");
        self.fence(member_id);
        let (member_id, member_epoch) = (member_id.clone(), request.member_epoch);
        Ok(StreamsHeartbeatAnswer { member_id, member_epoch, ..StreamsHeartbeatAnswer::default() })
    }
}

fn no_streams_group(group_id: &str, is_another: bool) -> ApiError {
    let what = if is_another { "is not a streams group" } else { "not found" };
    ApiError::with(ErrorCode::GroupIdNotFound, format!("Group {group_id} {what}."))
}
