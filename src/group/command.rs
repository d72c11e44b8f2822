//! What callers ask of the group coordinator, and what they get: Kafka's messages without their wire form.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::assignor::Partitions;
use super::cluster::ClusterView;
use super::consumer::record::MemberMetadata;
use super::core::GroupCounts;
use super::share::command::{ShareCommand, ShareReply};
use super::streams::command::{DescribedStreamsGroup, StreamsHeartbeat, StreamsHeartbeatAnswer};
use crate::error::{ApiError, ErrorCode};
use crate::log::Marker;
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TimestampMs};

/// A request to the group coordinator, for one of its shards.
#[derive(Clone, Debug)]
pub enum Command {
    Join(JoinGroup),
    Sync(SyncGroup),
    Heartbeat(Heartbeat),
    Leave(LeaveGroup),
    CommitOffsets(CommitOffsets),
    CommitTransactionalOffsets(CommitTransactionalOffsets),
    EndTransaction(Marker),
    FetchOffsets(FetchOffsets),
    DeleteOffsets(DeleteOffsets),
    ConsumerHeartbeat(Box<ConsumerHeartbeat>),
    Share(ShareCommand),
    Describe { group_ids: Vec<Arc<str>> },
    DescribeConsumer { group_id: Arc<str> },
    StreamsHeartbeat(Box<StreamsHeartbeat>),
    DescribeStreams { group_id: Arc<str> },
    List(GroupFilter),
    DeleteGroups { group_ids: Vec<Arc<str>> },
    TopicsDeleted { topics: Vec<DeletedTopic> },
    ClusterChanged { cluster: Arc<ClusterView> },
    Count,
}

/// The answer to the [`Command`] of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Join(Result<JoinedGroup, RefusedJoin>),
    Sync(Result<SyncedGroup, ErrorCode>),
    Heartbeat(Result<(), ErrorCode>),
    Leave(Result<Vec<LeftMember>, ErrorCode>),
    CommitOffsets(Result<Vec<TopicOutcome>, ErrorCode>),
    CommitTransactionalOffsets(Result<TransactionalCommit, ErrorCode>),
    EndTransaction(Result<(), ErrorCode>),
    FetchOffsets(Result<Vec<FetchedTopic>, ErrorCode>),
    DeleteOffsets(Result<Vec<TopicOutcome>, ErrorCode>),
    ConsumerHeartbeat(Result<HeartbeatAnswer, ApiError>),
    Share(ShareReply),
    Describe(Vec<DescribedGroup>),
    DescribeConsumer(DescribedConsumerGroup),
    StreamsHeartbeat(Result<StreamsHeartbeatAnswer, ApiError>),
    DescribeStreams(DescribedStreamsGroup),
    List(Vec<ListedGroup>),
    DeleteGroups(Vec<(Arc<str>, Option<ErrorCode>)>),
    TopicsDeleted,
    ClusterChanged,
    Count(GroupCounts),
}

/// JoinGroup (KIP-62, KIP-345, KIP-394, KIP-814).
#[derive(Clone, Debug, Default)]
pub struct JoinGroup {
    pub group_id: Arc<str>,
    /// Empty for a member that has none yet.
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    /// The peer's address, as Java prints one: `/127.0.0.1`.
    pub client_host: Arc<str>,
    pub protocol_type: Arc<str>,
    /// Names and metadata, the preferred one first.
    pub protocols: Vec<Protocol>,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    /// Whether a new dynamic member is first sent away with a member id (version 4 and later).
    pub member_id_required: bool,
    /// Whether the client understands `skip_assignment` (version 9 and later).
    pub can_skip_assignment: bool,
    /// Makes the member id of a new member unique.
    pub fresh_id: Uuid,
    /// Why the client joins, for the log (KIP-800).
    pub reason: Option<String>,
}

/// An assignment protocol that a member supports, with its subscription: opaque bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    pub name: Arc<str>,
    pub metadata: Bytes,
}

/// A member's place in the new generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedGroup {
    pub member_id: Arc<str>,
    pub generation_id: i32,
    pub protocol_type: Option<Arc<str>>,
    pub protocol_name: Option<Arc<str>>,
    pub leader: Arc<str>,
    pub skip_assignment: bool,
    /// Everybody, for the leader; nobody, for the others.
    pub members: Vec<JoinedMember>,
}

/// A member as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub metadata: Bytes,
}

/// A join that failed, and the member id that the response carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedJoin {
    pub code: ErrorCode,
    pub member_id: Arc<str>,
}

/// SyncGroup: the leader brings the assignment, everybody gets theirs.
#[derive(Clone, Debug, Default)]
pub struct SyncGroup {
    pub group_id: Arc<str>,
    pub generation_id: i32,
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    /// Checked where the client sends it (version 5 and later).
    pub protocol_type: Option<Arc<str>>,
    pub protocol_name: Option<Arc<str>>,
    pub assignments: Vec<(Arc<str>, Bytes)>,
}

/// A member's assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncedGroup {
    pub protocol_type: Option<Arc<str>>,
    pub protocol_name: Option<Arc<str>>,
    pub assignment: Bytes,
}

/// Heartbeat.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat {
    pub group_id: Arc<str>,
    pub generation_id: i32,
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
}

/// LeaveGroup, of one member or of several.
#[derive(Clone, Debug, Default)]
pub struct LeaveGroup {
    pub group_id: Arc<str>,
    pub members: Vec<LeavingMember>,
}

/// Who leaves: by member id, by group instance id (an administrator's wish), or by both.
#[derive(Clone, Debug, Default)]
pub struct LeavingMember {
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub reason: Option<String>,
}

/// What became of a [`LeavingMember`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftMember {
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub error: Option<ErrorCode>,
}

/// ConsumerGroupHeartbeat (KIP-848). `None` stands where nothing changed since the last one.
#[derive(Clone, Debug, Default)]
pub struct ConsumerHeartbeat {
    pub group_id: Arc<str>,
    /// Empty for a new member of version 0, which is given one.
    pub member_id: Arc<str>,
    /// 0 to join, -1 to leave, -2 for a static member that goes away for a while.
    pub member_epoch: i32,
    pub instance_id: Option<Arc<str>>,
    pub rack_id: Option<Arc<str>>,
    /// -1 for `None`.
    pub rebalance_timeout_ms: i32,
    pub topics: Option<BTreeSet<Arc<str>>>,
    /// A regular expression; empty for none.
    pub expression: Option<Arc<str>>,
    pub assignor: Option<Arc<str>>,
    /// What the member has.
    pub owned: Option<Partitions>,
    pub client_id: Arc<str>,
    /// The peer's address, as Java prints one: `/127.0.0.1`.
    pub client_host: Arc<str>,
    /// The id of a member that comes without one.
    pub fresh_member_id: Arc<str>,
}

/// Where a member of a consumer group is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatAnswer {
    pub member_id: Arc<str>,
    pub member_epoch: i32,
    pub heartbeat_interval_ms: i32,
    /// `None` where nothing changed.
    pub assignment: Option<Partitions>,
}

/// Partitions by topic, which has its name with it.
pub type NamedPartitions = BTreeMap<Uuid, (Arc<str>, Vec<i32>)>;

/// A consumer group with its members, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedConsumerGroup {
    pub group_id: Arc<str>,
    pub group: Result<ConsumerGroupDescription, ApiError>,
}

/// What ConsumerGroupDescribe says about a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupDescription {
    pub state: &'static str,
    pub epoch: i32,
    pub target_epoch: i32,
    pub assignor: Arc<str>,
    pub members: Vec<ConsumerMemberDescription>,
}

/// What ConsumerGroupDescribe says about a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerMemberDescription {
    pub member_id: Arc<str>,
    pub member_epoch: i32,
    pub metadata: MemberMetadata,
    pub assignment: NamedPartitions,
    pub target: NamedPartitions,
}

/// OffsetCommit, for partitions that exist.
#[derive(Clone, Debug)]
pub struct CommitOffsets {
    pub group_id: Arc<str>,
    /// The generation, or the member epoch; -1 for a committer that is not a member.
    pub generation_id: i32,
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    /// How long the offsets are kept, where the client says so (versions 2 to 4).
    pub retention_time_ms: Option<i64>,
    /// What a member of an unknown group is told: depends on the version.
    pub unknown_group: ErrorCode,
    pub topics: Vec<CommittedTopic>,
}

impl CommitOffsets {
    /// Whether the client may be a member of a consumer group (version 9 and later).
    pub fn knows_member_epochs(&self) -> bool {
        self.unknown_group == ErrorCode::GroupIdNotFound
    }
}

/// The offsets of a topic's partitions.
#[derive(Clone, Debug)]
pub struct CommittedTopic {
    pub topic: Arc<str>,
    /// Nil where it is not known.
    pub topic_id: Uuid,
    pub partitions: Vec<CommittedPartition>,
}

/// The offset to commit for one partition.
#[derive(Clone, Debug)]
pub struct CommittedPartition {
    pub partition: i32,
    pub offset: Offset,
    /// -1 where the client does not say.
    pub leader_epoch: LeaderEpoch,
    pub metadata: Option<String>,
}

/// TxnOffsetCommit, for partitions that exist.
#[derive(Clone, Debug)]
pub struct CommitTransactionalOffsets {
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    /// Whether the producer gets a new epoch with each transaction.
    pub supports_epoch_bump: bool,
    /// What [`TransactionalCommit::AskCoordinator`] brought, once the coordinator has agreed.
    pub verified_at: Option<u64>,
    pub offsets: CommitOffsets,
}

/// How TxnOffsetCommit goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionalCommit {
    Done(Vec<TopicOutcome>),
    /// Whether the transaction coordinator knows of the transaction is to be asked; then it is tried again with this
    /// number.
    AskCoordinator(u64),
}

/// A topic of a request, and what became of each of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicOutcome {
    pub topic: Arc<str>,
    pub topic_id: Uuid,
    pub partitions: Vec<(i32, Option<ErrorCode>)>,
}

/// OffsetFetch, of one group.
#[derive(Clone, Debug, Default)]
pub struct FetchOffsets {
    pub group_id: Arc<str>,
    /// The member id and epoch of a caller that says it is a member (version 9 and later).
    pub member: Option<(Arc<str>, i32)>,
    /// `None` asks for everything that the group has committed.
    pub topics: Option<Vec<FetchTopic>>,
    /// Whether offsets are held back that an open transaction may change.
    pub require_stable: bool,
}

/// A topic whose committed offsets are asked for.
#[derive(Clone, Debug)]
pub struct FetchTopic {
    pub topic: Arc<str>,
    /// Nil where the client does not say; an offset of another topic of the same name is not shown.
    pub topic_id: Uuid,
    pub partitions: Vec<i32>,
}

/// A topic's committed offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedTopic {
    pub topic: Arc<str>,
    pub topic_id: Uuid,
    pub partitions: Vec<FetchedPartition>,
}

/// A partition's committed offset: -1 where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedPartition {
    pub partition: i32,
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub metadata: Arc<str>,
    /// It is not told, because an open transaction may change it.
    pub is_unstable: bool,
}

/// OffsetDelete (KIP-496).
#[derive(Clone, Debug, Default)]
pub struct DeleteOffsets {
    pub group_id: Arc<str>,
    pub topics: Vec<(Arc<str>, Vec<i32>)>,
}

/// Which groups ListGroups asks for (KIP-518, KIP-848). An empty list means all.
#[derive(Clone, Debug, Default)]
pub struct GroupFilter {
    pub states: Vec<String>,
    pub types: Vec<String>,
}

/// A group in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    pub group_id: Arc<str>,
    pub protocol_type: Arc<str>,
    pub state: &'static str,
    pub group_type: &'static str,
    /// How many members it has.
    pub members: usize,
}

/// A group with its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedGroup {
    pub group_id: Arc<str>,
    /// `None` for a group that is not there.
    pub group: Option<GroupDescription>,
}

/// What DescribeGroups says about a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    pub state: &'static str,
    pub protocol_type: Arc<str>,
    /// Empty unless the group is stable.
    pub protocol_name: Arc<str>,
    pub members: Vec<MemberDescription>,
}

/// What DescribeGroups says about a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    /// Empty unless the group is stable.
    pub metadata: Bytes,
    pub assignment: Bytes,
}

/// A topic that is gone, with whose offsets nobody can do anything any more.
#[derive(Clone, Debug)]
pub struct DeletedTopic {
    pub topic: Arc<str>,
    pub topic_id: Uuid,
}

/// A committed offset with everything that is kept about it (`OffsetAndMetadata`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub metadata: Arc<str>,
    pub commit_timestamp_ms: TimestampMs,
    /// Set by clients of OffsetCommit versions 2 to 4 only; -1 otherwise.
    pub expire_timestamp_ms: TimestampMs,
    /// Nil where it was not known.
    pub topic_id: Uuid,
}

impl CommittedOffset {
    /// What is kept of an offset that is committed now.
    pub(super) fn new(
        committed: CommittedPartition,
        now_ms: TimestampMs,
        expire_timestamp_ms: TimestampMs,
        topic_id: Uuid,
    ) -> Self {
        Self {
            offset: committed.offset,
            leader_epoch: committed.leader_epoch.max(-1),
            metadata: committed.metadata.unwrap_or_default().into(),
            commit_timestamp_ms: now_ms,
            expire_timestamp_ms,
            topic_id,
        }
    }
}
