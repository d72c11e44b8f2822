//! Requests, brought to their streams group.

use std::sync::Arc;

use tracing::info;

use super::command::{DescribedStreamsGroup, StreamsHeartbeat, StreamsHeartbeatAnswer};
use super::draft::Draft;
use super::group::StreamsGroup;
use crate::error::ApiError;
use crate::group::command::Reply;
use crate::group::core::GroupCore;
use crate::group::kind::Group;
use crate::group::modern::LEAVE_EPOCH;
use crate::group::modern::draft::unknown_member;
use crate::group::modern::requests::no_group;
use crate::shard::{Decision, Token};
use crate::types::TimestampMs;

impl GroupCore {
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
        let new_group = || self.draft_of_new::<StreamsGroup>(now_ms, &request.group_id);
        let mut draft = match self.groups.get(&request.group_id) {
            Some(Group::Streams(group)) => self.draft(now_ms, group),
            Some(group @ Group::Classic(_)) if joins && group.is_empty() => {
                // The committed offsets stay.
                let mut draft = new_group();
                draft.decision = self.deleted(now_ms, group);
                draft
            }
            None if joins => new_group(),
            found => return Err(no_group::<StreamsGroup>(&request.group_id, found.is_some())),
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
        let group = self.group_of(&group_id).map(StreamsGroup::describe);
        DescribedStreamsGroup { group_id, group }
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
