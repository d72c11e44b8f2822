//! The handle to all groups of this broker.

use std::sync::Arc;

use uuid::Uuid;

use super::command::{
    CommitOffsets, DeleteOffsets, DeletedTopic, DescribedGroup, FetchOffsets, FetchedTopic, GroupFilter,
    Heartbeat, JoinGroup, JoinedGroup, LeaveGroup, LeftMember, ListedGroup, RefusedJoin, SyncGroup,
    SyncedGroup, TopicOutcome,
};
use super::settings::GroupSettings;
use crate::clock::Clock;
use crate::error::{ErrorCode, StorageError};

/// The group coordinator (`GroupCoordinatorService`): one shard per partition of `__consumer_offsets` that this
/// broker leads. A shard without groups costs nothing.
pub struct GroupCoordinator {
    settings: GroupSettings,
    clock: Clock,
}

impl GroupCoordinator {
    /// A coordinator that leads nothing yet.
    pub fn new(clock: Clock, settings: GroupSettings) -> Arc<Self> {
        Arc::new(Self { settings, clock })
    }

    /// Makes this broker the coordinator of all groups: `__consumer_offsets` exists, with this id and so many
    /// partitions, and their logs are open. Shards with groups start loading. Calling it again changes nothing.
    pub fn lead(&self, _topic_id: Uuid, _partitions: i32) -> Result<(), StorageError> {
        unimplemented!()
    }

    /// Whether `__consumer_offsets` is there.
    pub fn is_leading(&self) -> bool {
        unimplemented!()
    }

    /// The partition of `__consumer_offsets` whose leader coordinates the group.
    pub fn partition_for(&self, _group_id: &str) -> i32 {
        let _ = (&self.settings, &self.clock);
        unimplemented!()
    }

    /// JoinGroup. Held until the members are complete.
    pub async fn join(&self, _request: JoinGroup) -> Result<JoinedGroup, RefusedJoin> {
        unimplemented!()
    }

    /// SyncGroup. Held until the leader has brought the assignment.
    pub async fn sync(&self, _request: SyncGroup) -> Result<SyncedGroup, ErrorCode> {
        unimplemented!()
    }

    /// Heartbeat.
    pub async fn heartbeat(&self, _request: Heartbeat) -> Result<(), ErrorCode> {
        unimplemented!()
    }

    /// LeaveGroup.
    pub async fn leave(&self, _request: LeaveGroup) -> Result<Vec<LeftMember>, ErrorCode> {
        unimplemented!()
    }

    /// OffsetCommit.
    pub async fn commit_offsets(&self, _request: CommitOffsets) -> Result<Vec<TopicOutcome>, ErrorCode> {
        unimplemented!()
    }

    /// OffsetFetch.
    pub async fn fetch_offsets(&self, _request: FetchOffsets) -> Result<Vec<FetchedTopic>, ErrorCode> {
        unimplemented!()
    }

    /// OffsetDelete.
    pub async fn delete_offsets(&self, _request: DeleteOffsets) -> Result<Vec<TopicOutcome>, ErrorCode> {
        unimplemented!()
    }

    /// DescribeGroups: one result for each group id, in order.
    pub async fn describe(&self, _group_ids: Vec<Arc<str>>) -> Vec<Result<DescribedGroup, ErrorCode>> {
        unimplemented!()
    }

    /// ListGroups, over all shards.
    pub async fn list(&self, _filter: GroupFilter) -> Result<Vec<ListedGroup>, ErrorCode> {
        unimplemented!()
    }

    /// DeleteGroups: one result for each group id, in order.
    pub async fn delete_groups(&self, _group_ids: Vec<Arc<str>>) -> Vec<(Arc<str>, Option<ErrorCode>)> {
        unimplemented!()
    }

    /// Removes the committed offsets of topics that are gone, in all groups.
    pub async fn topics_deleted(&self, _topics: Vec<DeletedTopic>) {
        unimplemented!()
    }
}
