//! A group of either protocol, as far as offsets, lists and deletions are concerned.

use super::classic::{ClassicGroup, GroupState};
use super::command::{CommitOffsets, ListedGroup};
use super::core::{Event, GroupCore, Timer};
use super::record::Record;
use crate::error::ErrorCode;
use crate::shard::{Decision, TimerChange};
use crate::types::TimestampMs;

/// The type that ListGroups gives to groups of the classic protocol.
const CLASSIC_GROUP_TYPE: &str = "classic";

/// A group, by the protocol that it uses (`Group`).
#[derive(Clone, Debug)]
pub(super) enum Group {
    Classic(ClassicGroup),
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
            },
        }
    }

    /// Whether offsets of the topic are in use.
    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        match self {
            Self::Classic(group) => group.is_subscribed_to(topic),
        }
    }

    /// From when the retention of offsets counts; `None`: nothing expires now.
    pub(super) fn expiration_condition(&self) -> Option<ExpirationCondition> {
        let Self::Classic(group) = self;
        let since_commit = Some(ExpirationCondition::SinceCommit);
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
        }
    }

    /// Whether single offsets may be deleted: what members of other types subscribe to is not known.
    pub(super) fn validate_offset_delete(&self) -> Result<(), ErrorCode> {
        match self {
            Self::Classic(group) if group.state != GroupState::Empty && !group.uses_consumer_protocol() => {
                Err(ErrorCode::NonEmptyGroup)
            }
            Self::Classic(_) => Ok(()),
        }
    }

    /// Writes that an empty group is gone.
    pub(super) fn delete(&self, decision: &mut Decision<GroupCore>) {
        let Self::Classic(group) = self;
        let group_id = &group.group_id;
        let cancel = |member_id: &std::sync::Arc<str>| TimerChange::Cancel {
            timer: Timer::Session { group_id: group_id.clone(), member_id: member_id.clone() },
        };
        decision.timers.extend(group.pending_members.iter().map(cancel));
        decision.events.push(Event::Record(Record::Group { group_id: group_id.clone(), value: None }));
    }
}
