//! The handle to all groups of this broker.

use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::future::join_all;

use super::cluster::ClusterView;
use super::command::{
    Command, CommitOffsets, CommitTransactionalOffsets, ConsumerHeartbeat, DeleteOffsets, DeletedTopic,
    DescribedConsumerGroup, DescribedGroup, FetchOffsets, FetchedTopic, GroupFilter, Heartbeat,
    HeartbeatAnswer, JoinGroup, JoinedGroup, LeaveGroup, LeftMember, ListedGroup, RefusedJoin, Reply,
    SyncGroup, SyncedGroup, TopicOutcome, TransactionalCommit,
};
use super::core::{GroupCore, GroupCounts};
use super::journal::GroupJournal;
use super::settings::{GROUP_RECORD_BYTES_MAX, GroupSettings};
use super::share::command::{ShareCommand, ShareReply};
use super::streams::command::{DescribedStreamsGroup, StreamsHeartbeat, StreamsHeartbeatAnswer};
use crate::clock::Clock;
use crate::error::{ApiError, ErrorCode};
use crate::log::{LogManager, Marker};
use crate::shard::{CoordinatorTopic, Led, RecentTimes, Shard, ShardOptions};

/// The longest text of a member that is kept. Kafka's strings end at 32767 bytes, and a member id is a client id with a
/// UUID behind it.
const TEXT_BYTES_MAX: usize = 32_000;

/// The group coordinator (`GroupCoordinatorService`): one shard per partition of `__consumer_offsets` that this
/// broker leads. A shard without groups costs nothing.
pub struct GroupCoordinator {
    settings: Arc<GroupSettings>,
    logs: Arc<LogManager>,
    cluster: Arc<ArcSwap<ClusterView>>,
    led: Led<GroupCore>,
    load_times: Arc<RecentTimes>,
}

impl GroupCoordinator {
    /// A coordinator that leads nothing yet.
    pub fn new(clock: Clock, logs: Arc<LogManager>, settings: GroupSettings) -> Arc<Self> {
        let cluster = Arc::new(ArcSwap::from_pointee(ClusterView::empty()));
        let settings = Arc::new(settings);
        let (store, told, known) = (logs.store().clone(), Arc::clone(&settings), Arc::clone(&cluster));
        let load_times = Arc::<RecentTimes>::default();
        let loads = Arc::clone(&load_times);
        let led = Led::new(settings.offsets_topic_partitions, move |partition, leader_epoch| {
            let journal = GroupJournal::new(
                Arc::clone(partition),
                leader_epoch,
                store.clone(),
                Arc::clone(&told),
                Arc::clone(&known),
            );
            let write_timeout_ms = told.write_timeout_ms;
            let load_times = Arc::clone(&loads);
            let options = ShardOptions { name: partition.name().to_owned(), write_timeout_ms, load_times };
            Shard::spawn(options, Arc::new(journal), clock.clone())
        });
        Arc::new(Self { settings, logs, cluster, led, load_times })
    }

    /// Coordinates the groups of these partitions of `__consumer_offsets`, and no others, from now on: see
    /// [`Led::lead`].
    pub fn lead(&self, topic: &CoordinatorTopic) {
        self.led.lead(topic, |index| self.logs.get(topic.id, index).filter(|log| log.is_leader()));
    }

    /// Gives up all groups, because `__consumer_offsets` is gone.
    pub fn resign(&self) {
        self.led.resign();
    }

    /// Gives up all groups for good: the broker stops. Whoever is held is told to look for another coordinator.
    pub fn stop(&self) {
        self.led.stop();
    }

    /// The partition of `__consumer_offsets` whose leader coordinates the group.
    pub fn partition_for(&self, group_id: &str) -> i32 {
        self.led.partition_for(group_id)
    }

    /// How long its shards took to load.
    pub fn load_times(&self) -> &RecentTimes {
        &self.load_times
    }

    /// How many partitions of `__consumer_offsets` this broker leads.
    pub fn led_partitions(&self) -> usize {
        self.led.partition_count()
    }

    async fn call_for(&self, group_id: &str, command: Command) -> Result<Reply, ErrorCode> {
        if group_id.len() > TEXT_BYTES_MAX {
            return Err(ErrorCode::InvalidGroupId);
        }
        self.led.call(self.partition_for(group_id), command).await
    }

    /// JoinGroup. Held until the members are complete.
    ///
    /// # Errors
    /// Kafka's codes, with the member id that the response carries.
    pub async fn join(&self, request: JoinGroup) -> Result<JoinedGroup, RefusedJoin> {
        let (group_id, member_id) = (request.group_id.clone(), request.member_id.clone());
        let refused = |code| RefusedJoin { code, member_id };
        if is_too_large(&request) {
            return Err(refused(ErrorCode::InvalidRequest));
        }
        match self.call_for(&group_id, Command::Join(request)).await {
            Ok(Reply::Join(result)) => result,
            other => Err(refused(unexpected(other))),
        }
    }

    /// SyncGroup. Held until the leader has brought the assignment.
    ///
    /// # Errors
    /// Kafka's codes.
    pub async fn sync(&self, request: SyncGroup) -> Result<SyncedGroup, ErrorCode> {
        match self.call_for(&request.group_id.clone(), Command::Sync(request)).await {
            Ok(Reply::Sync(result)) => result,
            other => Err(unexpected(other)),
        }
    }

    /// Heartbeat.
    ///
    /// # Errors
    /// Kafka's codes.
    pub async fn heartbeat(&self, request: Heartbeat) -> Result<(), ErrorCode> {
        match self.call_for(&request.group_id.clone(), Command::Heartbeat(request)).await {
            Ok(Reply::Heartbeat(result)) => result,
            // The member is fine as far as anybody knows yet.
            Err(ErrorCode::CoordinatorLoadInProgress) => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// LeaveGroup.
    ///
    /// # Errors
    /// Kafka's codes, where they concern all members.
    pub async fn leave(&self, request: LeaveGroup) -> Result<Vec<LeftMember>, ErrorCode> {
        match self.call_for(&request.group_id.clone(), Command::Leave(request)).await {
            Ok(Reply::Leave(result)) => result,
            other => Err(unexpected(other)),
        }
    }

    /// OffsetCommit.
    ///
    /// # Errors
    /// Kafka's codes, where they concern all partitions.
    pub async fn commit_offsets(&self, request: CommitOffsets) -> Result<Vec<TopicOutcome>, ErrorCode> {
        match self.call_for(&request.group_id.clone(), Command::CommitOffsets(request)).await {
            Ok(Reply::CommitOffsets(result)) => result,
            other => Err(unexpected(other)),
        }
    }

    /// TxnOffsetCommit.
    ///
    /// # Errors
    /// Kafka's codes, where they concern all partitions.
    pub async fn commit_transactional_offsets(
        &self,
        request: CommitTransactionalOffsets,
    ) -> Result<TransactionalCommit, ErrorCode> {
        let group_id = request.offsets.group_id.clone();
        match self.call_for(&group_id, Command::CommitTransactionalOffsets(request)).await {
            Ok(Reply::CommitTransactionalOffsets(result)) => result,
            other => Err(unexpected(other)),
        }
    }

    /// Ends a producer's transaction in a partition of `__consumer_offsets`. When this returns, nothing that comes
    /// later is done before; the future that is returned tells when the marker is stored.
    ///
    /// # Errors
    /// `NOT_COORDINATOR` where this broker does not lead the partition; later those of [`Marker::check`].
    pub fn end_transaction(
        &self,
        index: i32,
        marker: Marker,
    ) -> Result<impl Future<Output = Result<(), ErrorCode>> + Send + use<>, ErrorCode> {
        let shard = self.led.shard(index)?;
        let reply = shard.post(Command::EndTransaction(marker))?;
        Ok(async move {
            match reply.await {
                Ok(Reply::EndTransaction(result)) => result,
                other => Err(unexpected(other)),
            }
        })
    }

    /// OffsetFetch.
    ///
    /// # Errors
    /// Kafka's codes, where they concern all partitions.
    pub async fn fetch_offsets(&self, request: FetchOffsets) -> Result<Vec<FetchedTopic>, ErrorCode> {
        match self.call_for(&request.group_id.clone(), Command::FetchOffsets(request)).await {
            Ok(Reply::FetchOffsets(result)) => result,
            other => Err(unexpected(other)),
        }
    }

    /// OffsetDelete.
    ///
    /// # Errors
    /// Kafka's codes, where they concern all partitions.
    pub async fn delete_offsets(&self, request: DeleteOffsets) -> Result<Vec<TopicOutcome>, ErrorCode> {
        match self.call_for(&request.group_id.clone(), Command::DeleteOffsets(request)).await {
            Ok(Reply::DeleteOffsets(result)) => result,
            other => Err(unexpected(other)),
        }
    }

    /// ConsumerGroupHeartbeat.
    ///
    /// # Errors
    /// Kafka's codes, with a sentence for a person.
    pub async fn consumer_heartbeat(&self, request: ConsumerHeartbeat) -> Result<HeartbeatAnswer, ApiError> {
        if has_too_large_texts(&request) {
            return Err(ErrorCode::InvalidRequest.into());
        }
        if let Some(assignor) = &request.assignor
            && !self.settings.assignors.iter().any(|supported| *supported.name() == **assignor)
        {
            let names: Vec<_> = self.settings.assignors.iter().map(|assignor| assignor.name()).collect();
            let text =
                format!("ServerAssignor {assignor} is not supported. There are: {}.", names.join(", "));
            return Err(ApiError::with(ErrorCode::UnsupportedAssignor, text));
        }
        let group_id = request.group_id.clone();
        match self.call_for(&group_id, Command::ConsumerHeartbeat(Box::new(request))).await {
            Ok(Reply::ConsumerHeartbeat(result)) => result,
            other => Err(unexpected(other).into()),
        }
    }

    /// ConsumerGroupDescribe: one result for each group id, in order.
    pub async fn describe_consumer(&self, group_ids: Vec<Arc<str>>) -> Vec<DescribedConsumerGroup> {
        join_all(group_ids.into_iter().map(|group_id| async move {
            let command = Command::DescribeConsumer { group_id: group_id.clone() };
            match self.call_for(&group_id, command).await {
                Ok(Reply::DescribeConsumer(described)) => described,
                other => DescribedConsumerGroup { group_id, group: Err(unexpected(other).into()) },
            }
        }))
        .await
    }

    /// What the share group APIs ask, and what became of what they were told to do.
    ///
    /// # Errors
    /// Those of finding the coordinator; all others are in the reply.
    pub async fn share(&self, command: ShareCommand) -> Result<ShareReply, ErrorCode> {
        if command.has_too_large_texts(TEXT_BYTES_MAX) {
            return Err(ErrorCode::InvalidRequest);
        }
        match self.call_for(&command.group_id().clone(), Command::Share(command)).await {
            Ok(Reply::Share(reply)) => Ok(reply),
            other => Err(unexpected(other)),
        }
    }

    /// StreamsGroupHeartbeat.
    ///
    /// # Errors
    /// Kafka's codes, with a sentence for a person.
    pub async fn streams_heartbeat(
        &self,
        request: StreamsHeartbeat,
    ) -> Result<StreamsHeartbeatAnswer, ApiError> {
        if request.has_too_large_texts(TEXT_BYTES_MAX) {
            return Err(ErrorCode::InvalidRequest.into());
        }
        let group_id = request.group_id.clone();
        match self.call_for(&group_id, Command::StreamsHeartbeat(Box::new(request))).await {
            Ok(Reply::StreamsHeartbeat(result)) => result,
            other => Err(unexpected(other).into()),
        }
    }

    /// StreamsGroupDescribe: one result for each group id, in order.
    pub async fn describe_streams(&self, group_ids: Vec<Arc<str>>) -> Vec<DescribedStreamsGroup> {
        join_all(group_ids.into_iter().map(|group_id| async move {
            let command = Command::DescribeStreams { group_id: group_id.clone() };
            match self.call_for(&group_id, command).await {
                Ok(Reply::DescribeStreams(described)) => described,
                other => DescribedStreamsGroup { group_id, group: Err(unexpected(other).into()) },
            }
        }))
        .await
    }

    /// What groups know of the cluster. Shards that start later begin with it.
    pub fn set_cluster(&self, cluster: Arc<ClusterView>) {
        self.cluster.store(cluster);
    }

    /// What groups know of the cluster now.
    pub fn cluster(&self) -> Arc<ClusterView> {
        self.cluster.load_full()
    }

    /// Tells the shards of the cluster that was set last.
    pub async fn tell_cluster(&self) {
        let cluster = self.cluster.load_full();
        self.led.call_all(|| Command::ClusterChanged { cluster: cluster.clone() }).await;
    }

    /// DescribeGroups: one result for each group id, in order.
    pub async fn describe(
        &self,
        group_ids: Vec<Arc<str>>,
    ) -> Vec<(Arc<str>, Result<DescribedGroup, ErrorCode>)> {
        join_all(group_ids.into_iter().map(|group_id| async move {
            let command = Command::Describe { group_ids: vec![group_id.clone()] };
            let described = match self.call_for(&group_id, command).await {
                Ok(Reply::Describe(mut groups)) => groups.pop().ok_or(ErrorCode::UnknownServerError),
                other => Err(unexpected(other)),
            };
            (group_id, described)
        }))
        .await
    }

    /// ListGroups, over all shards.
    ///
    /// # Errors
    /// `COORDINATOR_LOAD_IN_PROGRESS` while a shard can not be read.
    pub async fn list(&self, filter: GroupFilter) -> Result<Vec<ListedGroup>, ErrorCode> {
        let replies = self.led.call_all(|| Command::List(filter.clone())).await;
        let mut groups = Vec::new();
        for reply in replies {
            match reply {
                Ok(Reply::List(some)) => groups.extend(some),
                // It is another broker's now.
                Err(ErrorCode::NotCoordinator) => {}
                other => return Err(unexpected(other)),
            }
        }
        Ok(groups)
    }

    /// DeleteGroups: one result for each group id, in order.
    pub async fn delete_groups(&self, group_ids: Vec<Arc<str>>) -> Vec<(Arc<str>, Option<ErrorCode>)> {
        join_all(group_ids.into_iter().map(|group_id| async move {
            let command = Command::DeleteGroups { group_ids: vec![group_id.clone()] };
            let error = match self.call_for(&group_id, command).await {
                Ok(Reply::DeleteGroups(mut results)) => results.pop().and_then(|(_, error)| error),
                other => Some(unexpected(other)),
            };
            (group_id, error)
        }))
        .await
    }

    /// Removes the committed offsets of topics that are gone, in all groups.
    pub async fn topics_deleted(&self, topics: Vec<DeletedTopic>) {
        self.led.call_all(|| Command::TopicsDeleted { topics: topics.clone() }).await;
    }

    /// How many groups there are in each state, and how many committed offsets.
    pub async fn counts(&self) -> GroupCounts {
        let counted = |reply| match reply {
            Ok(Reply::Count(counts)) => counts,
            _ => GroupCounts::default(),
        };
        let replies = self.led.call_all(|| Command::Count).await;
        replies.into_iter().map(counted).fold(GroupCounts::default(), GroupCounts::plus)
    }
}

/// The code of a reply that is not the expected one.
fn unexpected(reply: Result<Reply, ErrorCode>) -> ErrorCode {
    reply.err().unwrap_or(ErrorCode::UnknownServerError)
}

/// Whether a member could not be written down.
fn is_too_large(request: &JoinGroup) -> bool {
    let instance = request.group_instance_id.as_deref().unwrap_or_default();
    let names = request.protocols.iter().map(|protocol| &*protocol.name);
    let mut texts = names.chain([&*request.client_id, instance, &*request.protocol_type]);
    let metadata_bytes: usize = request.protocols.iter().map(|protocol| protocol.metadata.len()).sum();
    texts.any(|text| text.len() > TEXT_BYTES_MAX) || metadata_bytes > GROUP_RECORD_BYTES_MAX
}

/// Whether a member of a consumer group could not be written down.
fn has_too_large_texts(request: &ConsumerHeartbeat) -> bool {
    let optional = [&request.instance_id, &request.rack_id, &request.expression];
    let mut texts = optional.into_iter().flatten().chain([&request.member_id, &request.client_id]);
    texts.any(|text| text.len() > TEXT_BYTES_MAX)
}

#[cfg(test)]
mod tests;
