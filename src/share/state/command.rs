//! What callers ask of the share coordinator, and what they get.

use uuid::Uuid;

use crate::error::ApiError;
use crate::share::types::{PartitionState, SharePartition, StateSummary, StateUpdate};
use crate::types::{LeaderEpoch, Offset};

/// What a caller asks a shard.
#[derive(Clone, Debug)]
pub enum Command {
    /// About one share partition.
    On {
        /// The share partition.
        of: SharePartition,
        /// How many partitions its topic has; 0 where there is no such topic.
        topic_partitions: i32,
        /// What is asked.
        ask: Ask,
    },
    /// These topics do not exist any more.
    TopicsDeleted(Vec<Uuid>),
}

/// What is asked about a share partition.
#[derive(Clone, Debug)]
pub enum Ask {
    /// InitializeShareGroupState: its state begins anew.
    Initialize { state_epoch: i32, start_offset: Offset },
    /// ReadShareGroupState, which also tells of the leader that asks; -1 does not.
    Read { leader_epoch: LeaderEpoch },
    /// WriteShareGroupState.
    Write(StateUpdate),
    /// DeleteShareGroupState.
    Delete,
    /// ReadShareGroupStateSummary.
    ReadSummary,
}

/// What a shard answers.
#[derive(Clone, Debug)]
pub enum Reply {
    /// To what changes the state.
    Done(Result<(), ApiError>),
    /// To [`Ask::Read`].
    State(Result<PartitionState, ApiError>),
    /// To [`Ask::ReadSummary`].
    Summary(Result<StateSummary, ApiError>),
}
