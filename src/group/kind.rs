//! A group of any protocol, as far as offsets, lists and deletions are concerned.

use std::sync::Arc;

use super::classic::{ClassicGroup, GroupState};
use super::command::{CommitOffsets, ListedGroup};
use super::consumer::ConsumerGroup;
use super::share::ShareGroup;
use super::streams::StreamsGroup;
use crate::error::ErrorCode;
use crate::types::TimestampMs;

/// The type that ListGroups gives to groups of the classic protocol.
const CLASSIC_GROUP_TYPE: &str = "classic";
/// The type that it gives to consumer groups, and their protocol type.
const CONSUMER_GROUP_TYPE: &str = "consumer";
/// The type that it gives to share groups, and their protocol type.
const SHARE_GROUP_TYPE: &str = "share";
/// The type that it gives to streams groups, and their protocol type.
const STREAMS_GROUP_TYPE: &str = "streams";

/// A group, by the protocol that it uses (`Group`).
#[derive(Clone, Debug)]
pub enum Group {
    Classic(ClassicGroup),
    Consumer(ConsumerGroup),
    Share(ShareGroup),
    Streams(StreamsGroup),
}

impl From<ConsumerGroup> for Group {
    fn from(group: ConsumerGroup) -> Self {
        Self::Consumer(group)
    }
}

impl From<ShareGroup> for Group {
    fn from(group: ShareGroup) -> Self {
        Self::Share(group)
    }
}

impl From<StreamsGroup> for Group {
    fn from(group: StreamsGroup) -> Self {
        Self::Streams(group)
    }
}

/// From when an offset's retention counts (`OffsetExpirationCondition`).
#[derive(Clone, Copy, Debug)]
pub(super) enum ExpirationCondition {
    SinceCommit,
    SinceEmpty(TimestampMs),
}

impl Group {
    /// Whether nobody is a member.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Classic(group) => group.state == GroupState::Empty,
            Self::Consumer(group) => group.members.is_empty(),
            Self::Share(group) => group.members.is_empty(),
            Self::Streams(group) => group.members.is_empty(),
        }
    }

    /// What ListGroups says.
    pub(super) fn listed(&self) -> ListedGroup {
        match self {
            Self::Classic(group) => ListedGroup {
                group_id: group.group_id.clone(),
                protocol_type: group.protocol_type.clone().unwrap_or_default(),
                state: group.state.name(),
                group_type: CLASSIC_GROUP_TYPE,
                members: group.members.len(),
            },
            Self::Consumer(group) => ListedGroup {
                group_id: group.group_id.clone(),
                protocol_type: CONSUMER_GROUP_TYPE.into(),
                state: group.state().name(),
                group_type: CONSUMER_GROUP_TYPE,
                members: group.members.len(),
            },
            Self::Share(group) => ListedGroup {
                group_id: group.group_id.clone(),
                protocol_type: SHARE_GROUP_TYPE.into(),
                state: group.state().name(),
                group_type: SHARE_GROUP_TYPE,
                members: group.members.len(),
            },
            Self::Streams(group) => ListedGroup {
                group_id: group.group_id.clone(),
                protocol_type: STREAMS_GROUP_TYPE.into(),
                state: group.state().name(),
                group_type: STREAMS_GROUP_TYPE,
                members: group.members.len(),
            },
        }
    }

    /// Whether offsets of the topic are in use.
    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        match self {
            Self::Classic(group) => group.is_subscribed_to(topic),
            Self::Consumer(group) => group.is_subscribed_to(topic),
            Self::Share(group) => group.is_subscribed_to(topic),
            Self::Streams(group) => group.is_subscribed_to(topic),
        }
    }

    /// From when the retention of offsets counts; `None`: nothing expires now.
    pub(super) fn expiration_condition(&self) -> Option<ExpirationCondition> {
        let since_commit = Some(ExpirationCondition::SinceCommit);
        let Self::Classic(group) = self else { return since_commit };
        match group.state {
            _ if group.protocol_type.is_none() => since_commit,
            GroupState::Empty => group
                .state_since_ms
                .map_or(since_commit, |since_ms| Some(ExpirationCondition::SinceEmpty(since_ms))),
            GroupState::Stable if group.uses_consumer_protocol() && group.subscribed_topics.is_some() => {
                since_commit
            }
            GroupState::Stable
            | GroupState::PreparingRebalance
            | GroupState::CompletingRebalance
            | GroupState::Dead => None,
        }
    }

    /// Whether the caller may commit offsets.
    pub(super) fn validate_commit(&self, request: &CommitOffsets) -> Result<(), ErrorCode> {
        match self {
            Self::Classic(group) => group.validate_commit(request),
            Self::Consumer(group) => group.validate_commit(request),
            Self::Share(_) => Err(ErrorCode::GroupIdNotFound),
            Self::Streams(group) => group.validate_commit(request),
        }
    }

    /// Whether the caller may commit offsets as part of a transaction.
    pub(super) fn validate_transactional_commit(&self, request: &CommitOffsets) -> Result<(), ErrorCode> {
        match self {
            Self::Classic(group) => group.validate_transactional_commit(request),
            Self::Consumer(group) => {
                let is_member = request.generation_id >= 0
                    || !request.member_id.is_empty()
                    || request.group_instance_id.is_some();
                let checked = if is_member { group.validate_commit(request) } else { Ok(()) };
                checked.map_err(told_to_producers)
            }
            Self::Share(_) => Err(ErrorCode::GroupIdNotFound),
            Self::Streams(group) => group.validate_transactional_commit(request).map_err(told_to_producers),
        }
    }

    /// Whether the caller may read offsets, as the member that it says it is.
    pub(super) fn validate_fetch(&self, member: Option<&(Arc<str>, i32)>) -> Result<(), ErrorCode> {
        match (self, member) {
            (Self::Consumer(group), Some((member_id, epoch))) => group.validate_fetch(member_id, *epoch),
            // It has none.
            (Self::Share(_), _) => Ok(()),
            (Self::Streams(group), Some((member_id, epoch))) => group.validate_fetch(member_id, *epoch),
            (Self::Consumer(_) | Self::Streams(_), None) | (Self::Classic(_), _) => Ok(()),
        }
    }

    /// Whether single offsets may be deleted: what members that are no consumers subscribe to is not known.
    pub(super) fn validate_offset_delete(&self) -> Result<(), ErrorCode> {
        match self {
            Self::Classic(group) if group.state != GroupState::Empty && !group.uses_consumer_protocol() => {
                Err(ErrorCode::NonEmptyGroup)
            }
            Self::Share(_) => Err(ErrorCode::GroupIdNotFound),
            Self::Classic(_) | Self::Consumer(_) | Self::Streams(_) => Ok(()),
        }
    }
}

/// What a producer understands.
fn told_to_producers(code: ErrorCode) -> ErrorCode {
    if code == ErrorCode::StaleMemberEpoch { ErrorCode::IllegalGeneration } else { code }
}
