//! Requests, brought to their share group.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::{
    ShareCommand, ShareGroupDescription, ShareHeartbeat, ShareHeartbeatAnswer, ShareMemberDescription,
    ShareReply,
};
use super::draft::Draft;
use super::group::{ShareChange, ShareGroup, ShareMember};
use super::record::{Body, ShareRecord};
use super::state::no_group;
use crate::error::{ApiError, ErrorCode};
use crate::group::assignor::{Partitions, simple};
use crate::group::command::{DeletedTopic, Reply};
use crate::group::consumer::member::LEAVE_EPOCH;
use crate::group::core::{Event, GroupCore};
use crate::group::kind::Group;
use crate::shard::{Decision, Token};
use crate::types::TimestampMs;

impl GroupCore {
    pub(in crate::group) fn share_draft(&self, now_ms: TimestampMs, group: ShareGroup) -> Draft<'_> {
        Draft {
            settings: &self.settings,
            cluster: &self.cluster,
            now_ms,
            group,
            decision: Decision::default(),
        }
    }

    /// What becomes of a share group; nothing where there is none.
    pub(in crate::group) fn with_share(
        &self,
        now_ms: TimestampMs,
        group_id: &str,
        decide: impl FnOnce(&mut Draft<'_>),
    ) -> Decision<Self> {
        let Some(Group::Share(group)) = self.groups.get(group_id) else { return Decision::default() };
        let mut draft = self.share_draft(now_ms, group.clone());
        decide(&mut draft);
        draft.finish()
    }

    /// Every member has a whole session to be heard of, and what is being initialised has its whole time.
    pub(in crate::group) fn start_share(&self, now_ms: TimestampMs, group: &ShareGroup) -> Decision<Self> {
        let mut draft = self.share_draft(now_ms, group.clone());
        for member_id in group.members.keys() {
            draft.touch(member_id);
        }
        if !group.state_partitions.initializing.is_empty() {
            draft.change(ShareChange::Initializing { since_ms: now_ms });
        }
        draft.finish()
    }

    /// Changes a share group for good; the first record of one makes it, also in the place of a group that was only
    /// assumed because somebody commits offsets.
    pub(in crate::group) fn replay_share(&mut self, record: &ShareRecord) {
        let group_id = &record.group_id;
        if record.body == Body::Epoch(None) {
            if let Some(Group::Share(_)) = self.groups.get(group_id) {
                self.groups.remove(group_id);
            }
            return;
        }
        if let Some(Group::Share(group)) = self.groups.get_mut(group_id) {
            group.replay(&record.body);
        } else if !record.is_tombstone() {
            let mut group = ShareGroup::new(group_id.clone());
            group.replay(&record.body);
            self.groups.insert(group_id.clone(), Group::Share(group));
        }
    }

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
                let decided = self.with_share(now_ms, &group_id, |draft| draft.initialized(&partitions));
                (decided, ShareReply::Done)
            }
            ShareCommand::NotInitialized { group_id, partitions } => {
                let decided = self.with_share(now_ms, &group_id, |draft| draft.not_initialized(&partitions));
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
                let decided = self.with_share(now_ms, &group_id, |draft| draft.offsets_deleted(&topic_ids));
                (decided, ShareReply::Done)
            }
            ShareCommand::DeleteState { group_id } => {
                // Another one, or none, has no state.
                let mut states = Ok(Partitions::new());
                let decided = self.with_share(now_ms, &group_id, |draft| states = draft.delete_state());
                (decided, ShareReply::DeleteState(states))
            }
        };
        decision.replies.push((token, Reply::Share(reply)));
        decision
    }

    fn known_share(&self, now_ms: TimestampMs, group_id: &Arc<str>) -> Result<Draft<'_>, ApiError> {
        match self.groups.get(group_id) {
            None => Err(not_found(group_id)),
            Some(_) => self.share_or_new(now_ms, group_id, false),
        }
    }

    fn share_or_new(
        &self,
        now_ms: TimestampMs,
        group_id: &Arc<str>,
        may_be_new: bool,
    ) -> Result<Draft<'_>, ApiError> {
        match self.groups.get(group_id) {
            Some(Group::Share(group)) => Ok(self.share_draft(now_ms, group.clone())),
            Some(Group::Classic(_) | Group::Consumer(_) | Group::Streams(_)) => no_group(group_id, true),
            None if may_be_new => Ok(self.share_draft(now_ms, ShareGroup::new(group_id.clone()))),
            None => no_group(group_id, false),
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
        let group = match self.groups.get(group_id) {
            Some(Group::Share(group)) => group,
            Some(Group::Classic(_) | Group::Consumer(_) | Group::Streams(_)) => {
                return no_group(group_id, true);
            }
            None => return Err(not_found(group_id)),
        };
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
            target_epoch: group.target_epoch,
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
            self.with_share(now_ms, group_id, |draft| draft.topics_deleted(&topic_ids)).events
        };
        groups.flat_map(decide).collect()
    }
}

fn not_found(group_id: &str) -> ApiError {
    ApiError::with(ErrorCode::GroupIdNotFound, format!("Group {group_id} not found."))
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
