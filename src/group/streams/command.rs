//! What callers ask of streams groups, and what they get: Kafka's messages without their wire form.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::configured::{InternalTopic, Status};
use super::record::{Endpoint, MemberMetadata};
use super::tasks::Tasks;
use super::topology::Topology;
use crate::error::ApiError;

/// StreamsGroupHeartbeat. `None` stands where nothing changed since the last one.
#[derive(Clone, Debug, Default)]
pub struct StreamsHeartbeat {
    pub group_id: Arc<str>,
    pub member_id: Arc<str>,
    /// 0 to join, -1 to leave.
    pub member_epoch: i32,
    /// The last one of which the member knows the endpoints.
    pub endpoint_epoch: i32,
    pub rack_id: Option<Arc<str>>,
    /// -1 for `None`.
    pub rebalance_timeout_ms: i32,
    /// Comes with a join.
    pub topology: Option<Topology>,
    /// What the member has.
    pub owned: Option<Tasks>,
    pub process_id: Option<Arc<str>>,
    pub user_endpoint: Option<Endpoint>,
    pub client_tags: Option<BTreeMap<Arc<str>, Arc<str>>>,
    /// Whether the whole application is to shut down.
    pub shutdown_application: bool,
    pub client_id: Arc<str>,
    /// The peer's address, as Java prints one: `/127.0.0.1`.
    pub client_host: Arc<str>,
}

impl StreamsHeartbeat {
    /// Whether something in it could not be written down: Kafka's strings end at 32767 bytes.
    pub(in crate::group) fn has_too_large_texts(&self, bytes_max: usize) -> bool {
        let optional = [&self.rack_id, &self.process_id];
        let host = self.user_endpoint.as_ref().map(|endpoint| &endpoint.host);
        let tags = self.client_tags.iter().flatten().flat_map(|(key, value)| [key, value]);
        let mut texts = [&self.member_id, &self.client_id].into_iter();
        let own = texts.by_ref().chain(optional.into_iter().flatten()).chain(host).chain(tags);
        own.map(|text| text.len()).max().unwrap_or(0) > bytes_max
    }
}

/// Where a member of a streams group is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamsHeartbeatAnswer {
    pub member_id: Arc<str>,
    pub member_epoch: i32,
    pub heartbeat_interval_ms: i32,
    pub statuses: Vec<Status>,
    /// `None` where nothing changed.
    pub tasks: Option<Tasks>,
    pub endpoint_epoch: i32,
    /// `None` where the member knows them.
    pub endpoints: Option<Vec<EndpointPartitions>>,
    /// Internal topics that are to be created.
    pub missing_topics: Vec<InternalTopic>,
}

/// Partitions by topic.
pub type TopicPartitions = BTreeMap<Arc<str>, Vec<i32>>;

/// Whose state a process can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPartitions {
    pub endpoint: Endpoint,
    pub active: TopicPartitions,
    pub standby: TopicPartitions,
}

/// A streams group with its members, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedStreamsGroup {
    pub group_id: Arc<str>,
    pub group: Result<StreamsGroupDescription, ApiError>,
}

/// What StreamsGroupDescribe says about a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsGroupDescription {
    pub state: &'static str,
    pub epoch: i32,
    pub target_epoch: i32,
    pub topology_epoch: i32,
    pub subtopologies: Vec<SubtopologyDescription>,
    pub members: Vec<StreamsMemberDescription>,
}

/// What StreamsGroupDescribe says about a subtopology. Topics are in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubtopologyDescription {
    pub id: Arc<str>,
    pub source_topics: Vec<Arc<str>>,
    pub repartition_sink_topics: Vec<Arc<str>>,
    pub repartition_source_topics: Vec<InternalTopic>,
    pub changelog_topics: Vec<InternalTopic>,
}

/// What StreamsGroupDescribe says about a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsMemberDescription {
    pub member_id: Arc<str>,
    pub member_epoch: i32,
    pub metadata: MemberMetadata,
    pub assignment: Tasks,
    pub target: Arc<Tasks>,
}
