//! Keeps the state of share partitions with the share coordinator (`DefaultStatePersister`).

use std::sync::Arc;

use super::state::coordinator::ShareCoordinator;
use super::types::{PartitionState, SharePartition, StateBatch, StateSummary, StateUpdate};
use crate::error::ApiError;
use crate::types::{LeaderEpoch, Offset};

/// Reads and writes the state of share partitions.
pub struct Persister {
    coordinator: Arc<ShareCoordinator>,
}

impl Persister {
    /// Asks this broker's share coordinator.
    pub fn new(coordinator: Arc<ShareCoordinator>) -> Self {
        Self { coordinator }
    }

    /// The state of a share partition begins anew, at this offset; -1 for where the group's configuration says.
    ///
    /// # Errors
    /// `FENCED_STATE_EPOCH` for an older state epoch, `UNKNOWN_TOPIC_OR_PARTITION`, and those of finding a coordinator.
    pub async fn initialize(
        &self,
        of: SharePartition,
        state_epoch: i32,
        start_offset: Offset,
    ) -> Result<(), ApiError> {
        self.coordinator.initialize(&of, state_epoch, start_offset).await
    }

    /// What is known of a share partition, for its leader in this epoch.
    ///
    /// # Errors
    /// `INVALID_REQUEST` where it is not initialized, `FENCED_LEADER_EPOCH`, `UNKNOWN_TOPIC_OR_PARTITION`, and those of
    /// finding a coordinator.
    pub async fn read(
        &self,
        of: SharePartition,
        leader_epoch: LeaderEpoch,
    ) -> Result<PartitionState, ApiError> {
        self.coordinator.read(&of, leader_epoch).await
    }

    /// Changes what is known of a share partition.
    ///
    /// # Errors
    /// `INVALID_REQUEST` where it is not initialized, `FENCED_LEADER_EPOCH`, `FENCED_STATE_EPOCH`,
    /// `UNKNOWN_TOPIC_OR_PARTITION`, and those of finding a coordinator.
    pub async fn write(
        &self,
        of: SharePartition,
        state_epoch: i32,
        leader_epoch: LeaderEpoch,
        start_offset: Offset,
        delivery_complete_count: i32,
        batches: Vec<StateBatch>,
    ) -> Result<(), ApiError> {
        let update =
            StateUpdate { state_epoch, leader_epoch, start_offset, delivery_complete_count, batches };
        self.coordinator.write(&of, update).await
    }

    /// Forgets what is known of a share partition.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`, and those of finding a coordinator.
    pub async fn delete(&self, of: SharePartition) -> Result<(), ApiError> {
        self.coordinator.delete(&of).await
    }

    /// What is known of a share partition in short, also where it is not initialized.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`, and those of finding a coordinator.
    pub async fn read_summary(
        &self,
        of: SharePartition,
        _leader_epoch: LeaderEpoch,
    ) -> Result<StateSummary, ApiError> {
        self.coordinator.read_summary(&of).await
    }
}
