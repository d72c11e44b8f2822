//! Requests of the classic protocol, brought to their group.

use std::sync::Arc;

use crate::error::ErrorCode;
use crate::group::classic::draft::Draft;
use crate::group::classic::{ClassicGroup, GroupState};
use crate::group::command::{Heartbeat, JoinGroup, LeaveGroup, RefusedJoin, Reply, SyncGroup};
use crate::group::core::GroupCore;
use crate::group::kind::Group;
use crate::shard::{Decision, Token};
use crate::types::TimestampMs;

impl GroupCore {
    fn classic_draft(&self, now_ms: TimestampMs, group: &ClassicGroup) -> Draft<'_> {
        Draft::new(&self.settings, now_ms, group.clone())
    }

    /// Every member has a whole session to be heard of: what it sent to the coordinator before us is not known.
    pub(in crate::group) fn start_classic(
        &self,
        now_ms: TimestampMs,
        group: &ClassicGroup,
    ) -> Decision<Self> {
        let mut draft = self.classic_draft(now_ms, group);
        for member_id in group.members.keys() {
            draft.touch(member_id);
        }
        if group.members.len() > self.settings.max_size {
            draft.prepare_rebalance("the group is larger than group.max.size");
        }
        draft.finish()
    }

    pub(in crate::group) fn join(
        &self,
        now_ms: TimestampMs,
        token: Token,
        request: JoinGroup,
    ) -> Decision<Self> {
        let refuse = |code| {
            let refused = RefusedJoin { code, member_id: request.member_id.clone() };
            Decision::reply(token, Reply::Join(Err(refused)))
        };
        let timeouts = self.settings.min_session_timeout_ms..=self.settings.max_session_timeout_ms;
        if request.group_id.is_empty() {
            return refuse(ErrorCode::InvalidGroupId);
        }
        if !timeouts.contains(&request.session_timeout_ms) {
            return refuse(ErrorCode::InvalidSessionTimeout);
        }
        let mut draft = match self.groups.get(&request.group_id) {
            Some(Group::Classic(group)) => self.classic_draft(now_ms, group),
            Some(Group::Consumer(group)) if !group.members.is_empty() => {
                return self.join_consumer(now_ms, token, group, &request);
            }
            Some(Group::Streams(group)) if !group.members.is_empty() => {
                let refused =
                    RefusedJoin { code: ErrorCode::InconsistentGroupProtocol, member_id: Arc::default() };
                return Decision::reply(token, Reply::Join(Err(refused)));
            }
            // An empty group goes over to the classic protocol.
            None | Some(Group::Consumer(_) | Group::Streams(_)) if request.member_id.is_empty() => {
                let mut draft =
                    self.classic_draft(now_ms, &ClassicGroup::simple(request.group_id.clone(), now_ms));
                if let Some(group) = self.groups.get(&request.group_id) {
                    draft.follow(self.deleted(now_ms, group));
                }
                draft.create();
                draft
            }
            Some(Group::Share(_)) => {
                let refused =
                    RefusedJoin { code: ErrorCode::InconsistentGroupProtocol, member_id: Arc::default() };
                return Decision::reply(token, Reply::Join(Err(refused)));
            }
            None | Some(Group::Consumer(_) | Group::Streams(_)) => {
                return refuse(ErrorCode::UnknownMemberId);
            }
        };
        draft.join(token, request);
        draft.finish()
    }

    pub(in crate::group) fn sync(
        &self,
        now_ms: TimestampMs,
        token: Token,
        request: SyncGroup,
    ) -> Decision<Self> {
        let refuse = |code| Decision::reply(token, Reply::Sync(Err(code)));
        if request.group_id.is_empty() {
            return refuse(ErrorCode::InvalidGroupId);
        }
        match self.groups.get(&request.group_id) {
            Some(Group::Classic(group)) if group.state != GroupState::Empty => {
                let mut draft = self.classic_draft(now_ms, group);
                draft.sync(token, request);
                draft.finish()
            }
            Some(Group::Consumer(group)) if !group.members.is_empty() => {
                self.sync_consumer(now_ms, token, group, &request)
            }
            Some(_) | None => refuse(ErrorCode::UnknownMemberId),
        }
    }

    pub(in crate::group) fn heartbeat(
        &self,
        now_ms: TimestampMs,
        token: Token,
        request: &Heartbeat,
    ) -> Decision<Self> {
        let refuse = |code| Decision::reply(token, Reply::Heartbeat(Err(code)));
        if request.group_id.is_empty() {
            return refuse(ErrorCode::InvalidGroupId);
        }
        let group = match self.groups.get(&request.group_id) {
            Some(Group::Classic(group)) => group,
            Some(Group::Consumer(group)) => return self.heartbeat_consumer(now_ms, token, group, request),
            Some(Group::Share(_) | Group::Streams(_)) | None => return refuse(ErrorCode::UnknownMemberId),
        };
        let mut draft = self.classic_draft(now_ms, group);
        let alive = draft.heartbeat(request);
        let mut decision = draft.finish();
        decision.replies.push((token, Reply::Heartbeat(alive)));
        decision
    }

    pub(in crate::group) fn leave(
        &self,
        now_ms: TimestampMs,
        token: Token,
        request: LeaveGroup,
    ) -> Decision<Self> {
        if request.group_id.is_empty() {
            return Decision::reply(token, Reply::Leave(Err(ErrorCode::InvalidGroupId)));
        }
        let unknown = ClassicGroup::simple(request.group_id.clone(), now_ms);
        let group = match self.groups.get(&request.group_id) {
            Some(Group::Classic(group)) => group,
            Some(Group::Consumer(group)) => return self.leave_consumer(now_ms, token, group, request),
            Some(Group::Share(_)) => {
                return Decision::reply(token, Reply::Leave(Err(ErrorCode::UnknownMemberId)));
            }
            Some(Group::Streams(_)) | None => &unknown,
        };
        let mut draft = self.classic_draft(now_ms, group);
        let left = draft.leave(request.members);
        let mut decision = draft.finish();
        decision.replies.push((token, Reply::Leave(Ok(left))));
        decision
    }

    /// What becomes of a classic group; nothing where there is none.
    pub(in crate::group) fn with_classic(
        &self,
        now_ms: TimestampMs,
        group_id: &str,
        decide: impl FnOnce(&mut Draft<'_>),
    ) -> Decision<Self> {
        let Some(Group::Classic(group)) = self.groups.get(group_id) else { return Decision::default() };
        let mut draft = self.classic_draft(now_ms, group);
        decide(&mut draft);
        draft.finish()
    }
}
