//! Requests, brought to their share group.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::{
    ShareCommand, ShareGroupDescription, ShareHeartbeat, ShareHeartbeatAnswer, ShareMemberDescription,
    ShareReply,
};
use super::draft::Draft;
use super::group::{ShareGroup, ShareMember};
use crate::error::{ApiError, ErrorCode};
use crate::group::assignor::{Partitions, simple};
use crate::group::command::{DeletedTopic, Reply};
use crate::group::core::{Event, GroupCore};
use crate::group::kind::Group;
use crate::group::modern::LEAVE_EPOCH;
use crate::shard::{Decision, Token};
use crate::types::TimestampMs;

impl GroupCore {
    /// Answers a request about a share group. What was decided before an error is forgotten.
    pub(in crate::group) fn decide_share(
        &self,
        now_ms: TimestampMs,
        token: Token,
        command: ShareCommand,
    ) -> Decision<Self> {
        let (mut decision, reply) = match command {
            ShareCommand::Heartbeat(request) => {
                let (decision, answer) = split(self.share_heartbeat(now_ms, &request));
                (decision, ShareReply::Heartbeat(answer))
            }
            ShareCommand::Describe { group_id } => {
                (Decision::default(), ShareReply::Describe(self.describe_share(&group_id)))
            }
            ShareCommand::Initialized { group_id, partitions } => {
                let decided = self.decide_if_there(now_ms, &group_id, |draft: &mut Draft<'_>| {
                    draft.initialized(&partitions)
                });
                (decided, ShareReply::Done)
            }
            ShareCommand::NotInitialized { group_id, partitions } => {
                let decided = self.decide_if_there(now_ms, &group_id, |draft: &mut Draft<'_>| {
                    draft.not_initialized(&partitions)
                });
                (decided, ShareReply::Done)
            }
            ShareCommand::InitializedPartitions { group_id } => {
                let partitions = self.initialized_partitions(&group_id);
                (Decision::default(), ShareReply::InitializedPartitions(partitions))
            }
            ShareCommand::AlterOffsets(request) => {
                let draft = self.share_or_new(now_ms, &request.group_id, true);
                let (decision, answer) = split(with(draft, |draft| draft.alter_offsets(&request)));
                (decision, ShareReply::AlterOffsets(answer))
            }
            ShareCommand::DeleteOffsets { group_id, topics } => {
                let draft = self.known_share(now_ms, &group_id);
                let (decision, answer) = split(with(draft, |draft| draft.delete_offsets(&topics)));
                (decision, ShareReply::DeleteOffsets(answer))
            }
            ShareCommand::OffsetsDeleted { group_id, topic_ids } => {
                let decided = self.decide_if_there(now_ms, &group_id, |draft: &mut Draft<'_>| {
                    draft.offsets_deleted(&topic_ids)
                });
                (decided, ShareReply::Done)
            }
            ShareCommand::DeleteState { group_id } => {
                // Another one, or none, has no state.
                let mut states = Ok(Partitions::new());
                let decided = self.decide_if_there(now_ms, &group_id, |draft: &mut Draft<'_>| {
                    states = draft.delete_state()
                });
                (decided, ShareReply::DeleteState(states))
            }
        };
        decision.replies.push((token, Reply::Share(reply)));
        decision
    }

    fn known_share(&self, now_ms: TimestampMs, group_id: &Arc<str>) -> Result<Draft<'_>, ApiError> {
        self.group_of(group_id).map(|group| self.draft(now_ms, group))
    }

    fn share_or_new(
        &self,
        now_ms: TimestampMs,
        group_id: &Arc<str>,
        may_be_new: bool,
    ) -> Result<Draft<'_>, ApiError> {
        match self.groups.get(group_id) {
            None if may_be_new => Ok(self.draft_of_new(now_ms, group_id)),
            None => {
                let text = format!("Share group {group_id} not found.");
                Err(ApiError::with(ErrorCode::GroupIdNotFound, text))
            }
            Some(_) => self.known_share(now_ms, group_id),
        }
    }

    fn share_heartbeat(
        &self,
        now_ms: TimestampMs,
        request: &ShareHeartbeat,
    ) -> Result<(Decision<Self>, ShareHeartbeatAnswer), ApiError> {
        if request.member_epoch == LEAVE_EPOCH {
            return with(self.known_share(now_ms, &request.group_id), |draft| draft.leave(request));
        }
        let draft = self.share_or_new(now_ms, &request.group_id, request.member_epoch == 0);
        with(draft, |draft| draft.heartbeat(request))
    }

    /// ShareGroupDescribe.
    fn describe_share(&self, group_id: &str) -> Result<ShareGroupDescription, ApiError> {
        let group: &ShareGroup = self.group_of(group_id)?;
        let describe = |member: &Arc<ShareMember>| {
            let named = |(id, partitions): (&uuid::Uuid, &std::collections::BTreeSet<i32>)| {
                let topic = self.cluster.topic_by_id(*id)?;
                Some((*id, (topic.name.clone(), partitions.iter().copied().collect::<Vec<i32>>())))
            };
            ShareMemberDescription {
                member_id: member.member_id.clone(),
                member_epoch: member.current.epoch,
                metadata: member.metadata.clone(),
                assignment: member.current.assigned.iter().filter_map(named).collect::<BTreeMap<_, _>>(),
            }
        };
        Ok(ShareGroupDescription {
            state: group.state().name(),
            epoch: group.epoch,
            target_epoch: group.target.epoch,
            assignor: simple::NAME,
            members: group.members.values().map(describe).collect(),
        })
    }

    fn initialized_partitions(&self, group_id: &str) -> Partitions {
        let Some(Group::Share(group)) = self.groups.get(group_id) else { return Partitions::new() };
        let initialized = &group.state_partitions.initialized;
        initialized.iter().map(|(id, topic)| (*id, topic.partitions.clone())).collect()
    }

    /// Topics are gone, and with them the states of their share partitions.
    pub(in crate::group) fn share_topics_deleted(
        &self,
        now_ms: TimestampMs,
        topics: &[DeletedTopic],
    ) -> Vec<Event> {
        let topic_ids: Vec<uuid::Uuid> = topics.iter().map(|topic| topic.topic_id).collect();
        let groups = self.groups.keys();
        let decide = |group_id: &Arc<str>| {
            self.decide_if_there(now_ms, group_id, |draft: &mut Draft<'_>| draft.topics_deleted(&topic_ids))
                .events
        };
        groups.flat_map(decide).collect()
    }
}

/// What a draft decides, and its answer.
fn with<T>(
    draft: Result<Draft<'_>, ApiError>,
    decide: impl FnOnce(&mut Draft<'_>) -> Result<T, ApiError>,
) -> Result<(Decision<GroupCore>, T), ApiError> {
    let mut draft = draft?;
    let answer = decide(&mut draft)?;
    Ok((draft.finish(), answer))
}

fn split<T>(
    decided: Result<(Decision<GroupCore>, T), ApiError>,
) -> (Decision<GroupCore>, Result<T, ApiError>) {
    match decided {
        Ok((decision, answer)) => (decision, Ok(answer)),
        Err(error) => (Decision::default(), Err(error)),
    }
}
