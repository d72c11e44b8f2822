//! What callers ask of the share coordinator, and what they get.

use uuid::Uuid;

use crate::error::{ApiError, ErrorCode};
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
    /// ReadShareGroupStateSummary; the leader epoch, which other brokers are told, changes nothing.
    ReadSummary { leader_epoch: LeaderEpoch },
}

/// What a shard answers.
pub type Reply = Result<Answer, ApiError>;

/// What a shard answers where it did what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To what changes the state.
    Done,
    /// To [`Ask::Read`].
    State(PartitionState),
    /// To [`Ask::ReadSummary`].
    Summary(StateSummary),
}

impl Answer {
    /// The answer to what changes the state.
    ///
    /// # Errors
    /// `UNKNOWN_SERVER_ERROR` for the answer to something else.
    pub fn done(self) -> Result<(), ApiError> {
        match self {
            Self::Done => Ok(()),
            Self::State(_) | Self::Summary(_) => Err(ErrorCode::UnknownServerError.into()),
        }
    }

    /// The answer to [`Ask::Read`].
    ///
    /// # Errors
    /// `UNKNOWN_SERVER_ERROR` for the answer to something else.
    pub fn state(self) -> Result<PartitionState, ApiError> {
        match self {
            Self::State(state) => Ok(state),
            Self::Done | Self::Summary(_) => Err(ErrorCode::UnknownServerError.into()),
        }
    }

    /// The answer to [`Ask::ReadSummary`].
    ///
    /// # Errors
    /// `UNKNOWN_SERVER_ERROR` for the answer to something else.
    pub fn summary(self) -> Result<StateSummary, ApiError> {
        match self {
            Self::Summary(summary) => Ok(summary),
            Self::Done | Self::State(_) => Err(ErrorCode::UnknownServerError.into()),
        }
    }
}
