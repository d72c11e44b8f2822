//! What callers ask about share groups, and what they get.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::record::MemberMetadata;
use crate::error::{ApiError, ErrorCode};
use crate::group::assignor::Partitions;
use crate::group::command::{HeartbeatAnswer, NamedPartitions};
use crate::types::Offset;

/// A request about a share group.
#[derive(Clone, Debug)]
pub enum ShareCommand {
    Heartbeat(Box<ShareHeartbeat>),
    Describe {
        group_id: Arc<str>,
    },
    /// The share coordinator has the state of these partitions now.
    Initialized {
        group_id: Arc<str>,
        partitions: Partitions,
    },
    /// It does not, and one of the next heartbeats is to ask for it again.
    NotInitialized {
        group_id: Arc<str>,
        partitions: Partitions,
    },
    /// Which partitions the share coordinator has the state of.
    InitializedPartitions {
        group_id: Arc<str>,
    },
    AlterOffsets(AlterShareOffsets),
    /// Which states are to be deleted before the offsets of these topics are.
    DeleteOffsets {
        group_id: Arc<str>,
        topics: Vec<Arc<str>>,
    },
    /// The states of these topics are deleted.
    OffsetsDeleted {
        group_id: Arc<str>,
        topic_ids: Vec<Uuid>,
    },
    /// Which states are to be deleted before the group is.
    DeleteState {
        group_id: Arc<str>,
    },
}

impl ShareCommand {
    /// The group that it is about.
    pub fn group_id(&self) -> &Arc<str> {
        match self {
            Self::Heartbeat(request) => &request.group_id,
            Self::AlterOffsets(request) => &request.group_id,
            Self::Describe { group_id }
            | Self::Initialized { group_id, .. }
            | Self::NotInitialized { group_id, .. }
            | Self::InitializedPartitions { group_id }
            | Self::DeleteOffsets { group_id, .. }
            | Self::OffsetsDeleted { group_id, .. }
            | Self::DeleteState { group_id } => group_id,
        }
    }

    /// Whether it has texts that could not be written down.
    pub fn has_too_large_texts(&self, bytes_max: usize) -> bool {
        let Self::Heartbeat(request) = self else { return false };
        let texts = request.topics.iter().flatten().chain(&request.rack_id);
        texts.chain([&request.member_id, &request.client_id]).any(|text| text.len() > bytes_max)
    }
}

/// The answer to the [`ShareCommand`] of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShareReply {
    Heartbeat(Result<ShareHeartbeatAnswer, ApiError>),
    Describe(Result<ShareGroupDescription, ApiError>),
    InitializedPartitions(Partitions),
    AlterOffsets(Result<AlteredShareOffsets, ApiError>),
    DeleteOffsets(Result<DeletedShareOffsets, ApiError>),
    DeleteState(Result<Partitions, ErrorCode>),
    Done,
}

/// ShareGroupHeartbeat. `None` stands where nothing changed since the last one.
#[derive(Clone, Debug, Default)]
pub struct ShareHeartbeat {
    pub group_id: Arc<str>,
    pub member_id: Arc<str>,
    /// 0 to join, -1 to leave.
    pub member_epoch: i32,
    pub rack_id: Option<Arc<str>>,
    pub topics: Option<BTreeSet<Arc<str>>>,
    pub client_id: Arc<str>,
    /// The peer's address, as Java prints one: `/127.0.0.1`.
    pub client_host: Arc<str>,
}

/// Where a member of a share group is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareHeartbeatAnswer {
    pub answer: HeartbeatAnswer,
    /// What the caller is to have initialised now.
    pub initialize: Option<InitializeState>,
}

/// Partitions that the share coordinator is to begin to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitializeState {
    /// The epoch of the group, which becomes that of the states.
    pub state_epoch: i32,
    /// The offset from which each partition is read; -1 where the group's configuration says.
    pub start_offsets: BTreeMap<Uuid, BTreeMap<i32, Offset>>,
}

impl InitializeState {
    /// The partitions without their offsets.
    pub fn partitions(&self) -> Partitions {
        self.start_offsets.iter().map(|(id, offsets)| (*id, offsets.keys().copied().collect())).collect()
    }
}

/// What ShareGroupDescribe says about a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareGroupDescription {
    pub state: &'static str,
    pub epoch: i32,
    pub target_epoch: i32,
    pub assignor: &'static str,
    pub members: Vec<ShareMemberDescription>,
}

/// What ShareGroupDescribe says about a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareMemberDescription {
    pub member_id: Arc<str>,
    pub member_epoch: i32,
    pub metadata: MemberMetadata,
    pub assignment: NamedPartitions,
}

/// AlterShareGroupOffsets.
#[derive(Clone, Debug, Default)]
pub struct AlterShareOffsets {
    pub group_id: Arc<str>,
    pub topics: Vec<AlterTopic>,
}

/// The offsets that the partitions of a topic are to be read from.
#[derive(Clone, Debug)]
pub struct AlterTopic {
    pub topic: Arc<str>,
    pub offsets: Vec<(i32, Offset)>,
}

/// What becomes of [`AlterShareOffsets`], and which states are to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlteredShareOffsets {
    pub topics: Vec<AlteredTopic>,
    pub initialize: InitializeState,
}

/// What becomes of a topic's partitions; a nil id where the topic does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlteredTopic {
    pub topic: Arc<str>,
    pub topic_id: Uuid,
    pub partitions: Vec<(i32, Option<ErrorCode>)>,
}

/// What becomes of DeleteShareGroupOffsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeletedShareOffsets {
    /// The states that are to be deleted.
    pub states: Partitions,
    /// Topics of which there is nothing to delete, and why.
    pub refused: Vec<(Arc<str>, ApiError)>,
}
