//! The records of streams groups (keys 17, and 19 to 23), in Kafka's own bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::group::StreamsGroup;
use super::member::MemberState;
use super::tasks::{AssignedTasks, TaskEpochs, TaskIds, Tasks};
use super::topology::{self, Topology};
use crate::group::modern::record::{
    self, GroupRecord, OwnRecord, RecordTypes, Value, decode, encode, optional, texts,
};
use crate::group::modern::{Current, LEAVE_EPOCH};
use crate::group::record::RecordError;
use crate::protocol::schema::schema;
use crate::protocol::wire::EncodeError;

/// `StreamsGroupMetadata`, `StreamsGroupMemberMetadata`, `StreamsGroupTargetAssignmentMetadata`,
/// `StreamsGroupTargetAssignmentMember` and `StreamsGroupCurrentMemberAssignment`.
pub(super) const TYPES: RecordTypes =
    RecordTypes { epoch: 17, member: 19, target_epoch: 20, target: 21, current: 22 };
/// `StreamsGroupTopology`: the topology.
const TOPOLOGY: i16 = 23;

schema! {
    struct StreamsGroupMetadataValue, versions 0..=0, flexible 0.. {
        epoch: i32,
        metadata_hash: i64,
        validated_topology_epoch: i32 [tag 0] = -1,
        last_assignment_configs: Option<Vec<KeyValue>> [tag 1],
    }
    struct KeyValue {
        key: String,
        value: String,
    }
    struct StreamsGroupMemberMetadataValue, versions 0..=0, flexible 0.. {
        instance_id: Option<String> = None,
        rack_id: Option<String> = None,
        client_id: String,
        client_host: String,
        rebalance_timeout_ms: i32 = -1,
        topology_epoch: i32,
        process_id: String,
        user_endpoint: Option<EndpointValue> = None,
        client_tags: Vec<KeyValue>,
    }
    struct EndpointValue {
        host: String,
        port: u16,
    }
    struct StreamsGroupTargetAssignmentMemberValue, versions 0..=0, flexible 0.. {
        active_tasks: Vec<TargetTasks>,
        standby_tasks: Vec<TargetTasks>,
        warmup_tasks: Vec<TargetTasks>,
    }
    struct TargetTasks {
        subtopology_id: String,
        partitions: Vec<i32>,
    }
    struct StreamsGroupCurrentMemberAssignmentValue, versions 0..=0, flexible 0.. {
        member_epoch: i32,
        previous_member_epoch: i32,
        state: i8,
        active_tasks: Vec<CurrentTasks>,
        standby_tasks: Vec<CurrentTasks>,
        warmup_tasks: Vec<CurrentTasks>,
        active_tasks_pending_revocation: Vec<CurrentTasks>,
        standby_tasks_pending_revocation: Vec<CurrentTasks>,
        warmup_tasks_pending_revocation: Vec<CurrentTasks>,
    }
    struct CurrentTasks {
        subtopology_id: String,
        partitions: Vec<i32>,
        assignment_epochs: Option<Vec<i32>> [tag 0] = None,
    }
    struct StreamsGroupTopologyValue, versions 0..=0, flexible 0.. {
        epoch: i32,
        subtopologies: Vec<SubtopologyValue>,
    }
    struct SubtopologyValue {
        subtopology_id: String,
        source_topics: Vec<String>,
        source_topic_regex: Vec<String>,
        state_changelog_topics: Vec<TopicInfoValue>,
        repartition_sink_topics: Vec<String>,
        repartition_source_topics: Vec<TopicInfoValue>,
        copartition_groups: Vec<CopartitionGroupValue>,
    }
    struct TopicInfoValue {
        name: String,
        partitions: i32,
        replication_factor: i16,
        topic_configs: Vec<KeyValue>,
    }
    struct CopartitionGroupValue {
        source_topics: Vec<i16>,
        source_topic_regex: Vec<i16>,
        repartition_source_topics: Vec<i16>,
    }
}

/// A change of a streams group that lasts.
pub type StreamsRecord = GroupRecord<StreamsGroup>;

/// What a [`StreamsRecord`] says.
pub type Body = record::Body<StreamsGroup>;

/// What only records of streams groups say. `None` deletes what the record names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Own {
    Topology(Option<Arc<Topology>>),
}

/// The epoch of a group, and what it was begun for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEpoch {
    pub epoch: i32,
    /// Of the topics that the topology needs.
    pub metadata_hash: i64,
    /// The epoch of the topology whose topics were found in order; -1 for none.
    pub validated_topology_epoch: i32,
    /// What the assignor was told, by key.
    pub assignment_configs: BTreeMap<Arc<str>, Arc<str>>,
}

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberMetadata {
    pub instance_id: Option<Arc<str>>,
    pub rack_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub rebalance_timeout_ms: i32,
    pub topology_epoch: i32,
    /// Members of one process share its state directory.
    pub process_id: Arc<str>,
    /// Where its state can be asked for.
    pub user_endpoint: Option<Endpoint>,
    pub client_tags: BTreeMap<Arc<str>, Arc<str>>,
}

impl Default for MemberMetadata {
    fn default() -> Self {
        Self {
            instance_id: None,
            rack_id: None,
            client_id: Arc::default(),
            client_host: Arc::default(),
            rebalance_timeout_ms: -1,
            topology_epoch: -1,
            process_id: Arc::default(),
            user_endpoint: None,
            client_tags: BTreeMap::new(),
        }
    }
}

/// Where a process answers interactive queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub host: Arc<str>,
    pub port: u16,
}

/// What a member has, and in which epoch it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentAssignment {
    pub epoch: i32,
    pub previous_epoch: i32,
    pub state: MemberState,
    pub assigned: Arc<AssignedTasks>,
    pub revoking: Arc<AssignedTasks>,
}

impl Default for CurrentAssignment {
    fn default() -> Self {
        let (assigned, revoking) = (Arc::default(), Arc::default());
        Self { epoch: 0, previous_epoch: 0, state: MemberState::Stable, assigned, revoking }
    }
}

impl Current for CurrentAssignment {
    fn left(&self) -> Self {
        Self { epoch: LEAVE_EPOCH, previous_epoch: LEAVE_EPOCH, state: self.state, ..Self::default() }
    }
}

impl OwnRecord for Own {
    fn has_item(kind: i16) -> Option<bool> {
        (kind == TOPOLOGY).then_some(false)
    }

    fn kind_and_item(&self) -> (i16, Option<&str>) {
        (TOPOLOGY, None)
    }

    fn is_tombstone(&self) -> bool {
        let Self::Topology(value) = self;
        value.is_none()
    }

    fn encode(&self) -> Result<Option<Bytes>, EncodeError> {
        let Self::Topology(value) = self;
        value.as_deref().map(topology_value).transpose()
    }

    fn decode(_kind: i16, _item: &str, value: Option<Bytes>) -> Result<Self, RecordError> {
        Ok(Self::Topology(value.map(decode_topology).transpose()?.map(Arc::new)))
    }
}

fn shared(names: Vec<String>) -> Vec<Arc<str>> {
    names.into_iter().map(Into::into).collect()
}

fn pairs<'a>(pairs: impl Iterator<Item = (&'a Arc<str>, &'a Arc<str>)>) -> Vec<KeyValue> {
    let pair = |(key, value): (&Arc<str>, &Arc<str>)| KeyValue {
        key: key.to_string(),
        value: value.to_string(),
        ..Default::default()
    };
    pairs.map(pair).collect()
}

fn decode_pairs(pairs: Vec<KeyValue>) -> impl Iterator<Item = (Arc<str>, Arc<str>)> {
    pairs.into_iter().map(|pair| (pair.key.into(), pair.value.into()))
}

impl Value<StreamsGroup> for GroupEpoch {
    fn encode(&self) -> Result<Bytes, EncodeError> {
        let value = StreamsGroupMetadataValue {
            epoch: self.epoch,
            metadata_hash: self.metadata_hash,
            validated_topology_epoch: self.validated_topology_epoch,
            last_assignment_configs: Some(pairs(self.assignment_configs.iter())),
            ..Default::default()
        };
        encode(&value)
    }

    fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let value: StreamsGroupMetadataValue = decode(bytes)?;
        Ok(Self {
            epoch: value.epoch,
            metadata_hash: value.metadata_hash,
            validated_topology_epoch: value.validated_topology_epoch,
            assignment_configs: decode_pairs(value.last_assignment_configs.unwrap_or_default()).collect(),
        })
    }
}

impl Value<StreamsGroup> for MemberMetadata {
    fn encode(&self) -> Result<Bytes, EncodeError> {
        let endpoint = |endpoint: &Endpoint| EndpointValue {
            host: endpoint.host.to_string(),
            port: endpoint.port,
            ..Default::default()
        };
        let value = StreamsGroupMemberMetadataValue {
            instance_id: optional(self.instance_id.as_ref()),
            rack_id: optional(self.rack_id.as_ref()),
            client_id: self.client_id.to_string(),
            client_host: self.client_host.to_string(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            topology_epoch: self.topology_epoch,
            process_id: self.process_id.to_string(),
            user_endpoint: self.user_endpoint.as_ref().map(endpoint),
            client_tags: pairs(self.client_tags.iter()),
            ..Default::default()
        };
        encode(&value)
    }

    fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let value: StreamsGroupMemberMetadataValue = decode(bytes)?;
        let endpoint = |endpoint: EndpointValue| Endpoint { host: endpoint.host.into(), port: endpoint.port };
        Ok(Self {
            instance_id: value.instance_id.map(Into::into),
            rack_id: value.rack_id.map(Into::into),
            client_id: value.client_id.into(),
            client_host: value.client_host.into(),
            rebalance_timeout_ms: value.rebalance_timeout_ms,
            topology_epoch: value.topology_epoch,
            process_id: value.process_id.into(),
            user_endpoint: value.user_endpoint.map(endpoint),
            client_tags: decode_pairs(value.client_tags).collect(),
        })
    }
}

impl Value<StreamsGroup> for Tasks {
    fn encode(&self) -> Result<Bytes, EncodeError> {
        let all = |tasks: &TaskIds| -> Vec<TargetTasks> {
            let one = |(id, tasks): (&Arc<str>, &BTreeSet<i32>)| TargetTasks {
                subtopology_id: id.to_string(),
                partitions: tasks.iter().copied().collect(),
                ..Default::default()
            };
            tasks.iter().map(one).collect()
        };
        let value = StreamsGroupTargetAssignmentMemberValue {
            active_tasks: all(&self.active),
            standby_tasks: all(&self.standby),
            warmup_tasks: all(&self.warmup),
            ..Default::default()
        };
        encode(&value)
    }

    fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let value: StreamsGroupTargetAssignmentMemberValue = decode(bytes)?;
        let all = |tasks: Vec<TargetTasks>| -> TaskIds {
            let one =
                |tasks: TargetTasks| (tasks.subtopology_id.into(), tasks.partitions.into_iter().collect());
            tasks.into_iter().map(one).collect()
        };
        Ok(Self {
            active: all(value.active_tasks),
            standby: all(value.standby_tasks),
            warmup: all(value.warmup_tasks),
        })
    }
}

fn current_tasks(tasks: &TaskIds) -> Vec<CurrentTasks> {
    let one = |(id, tasks): (&Arc<str>, &BTreeSet<i32>)| CurrentTasks {
        subtopology_id: id.to_string(),
        partitions: tasks.iter().copied().collect(),
        ..Default::default()
    };
    tasks.iter().map(one).collect()
}

fn current_active(tasks: &TaskEpochs) -> Vec<CurrentTasks> {
    let one = |(id, tasks): (&Arc<str>, &BTreeMap<i32, i32>)| CurrentTasks {
        subtopology_id: id.to_string(),
        partitions: tasks.keys().copied().collect(),
        assignment_epochs: Some(tasks.values().copied().collect()),
        ..Default::default()
    };
    tasks.iter().map(one).collect()
}

impl Value<StreamsGroup> for CurrentAssignment {
    fn encode(&self) -> Result<Bytes, EncodeError> {
        let (assigned, revoking) = (&self.assigned, &self.revoking);
        let value = StreamsGroupCurrentMemberAssignmentValue {
            member_epoch: self.epoch,
            previous_member_epoch: self.previous_epoch,
            state: self.state.id(),
            active_tasks: current_active(&assigned.active),
            standby_tasks: current_tasks(&assigned.standby),
            warmup_tasks: current_tasks(&assigned.warmup),
            active_tasks_pending_revocation: current_active(&revoking.active),
            standby_tasks_pending_revocation: current_tasks(&revoking.standby),
            warmup_tasks_pending_revocation: current_tasks(&revoking.warmup),
            ..Default::default()
        };
        encode(&value)
    }

    fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let value: StreamsGroupCurrentMemberAssignmentValue = decode(bytes)?;
        let member_epoch = value.member_epoch;
        let active = |tasks: Vec<CurrentTasks>| -> TaskEpochs {
            let one = |tasks: CurrentTasks| {
                // Brokers before 4.3 did not write when tasks were assigned.
                let epochs = tasks.assignment_epochs.filter(|epochs| epochs.len() == tasks.partitions.len());
                let epochs = epochs.unwrap_or_else(|| vec![member_epoch; tasks.partitions.len()]);
                (tasks.subtopology_id.into(), tasks.partitions.into_iter().zip(epochs).collect())
            };
            tasks.into_iter().map(one).collect()
        };
        let others = |tasks: Vec<CurrentTasks>| -> TaskIds {
            let one =
                |tasks: CurrentTasks| (tasks.subtopology_id.into(), tasks.partitions.into_iter().collect());
            tasks.into_iter().map(one).collect()
        };
        Ok(Self {
            epoch: member_epoch,
            previous_epoch: value.previous_member_epoch,
            state: MemberState::from_id(value.state),
            assigned: Arc::new(AssignedTasks {
                active: active(value.active_tasks),
                standby: others(value.standby_tasks),
                warmup: others(value.warmup_tasks),
            }),
            revoking: Arc::new(AssignedTasks {
                active: active(value.active_tasks_pending_revocation),
                standby: others(value.standby_tasks_pending_revocation),
                warmup: others(value.warmup_tasks_pending_revocation),
            }),
        })
    }
}

fn topic_infos(topics: &[topology::TopicInfo]) -> Vec<TopicInfoValue> {
    let info = |topic: &topology::TopicInfo| TopicInfoValue {
        name: topic.name.to_string(),
        partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        topic_configs: pairs(topic.configs.iter().map(|(key, value)| (key, value))),
        ..Default::default()
    };
    topics.iter().map(info).collect()
}

fn decode_topic_infos(topics: Vec<TopicInfoValue>) -> Vec<topology::TopicInfo> {
    let info = |topic: TopicInfoValue| topology::TopicInfo {
        name: topic.name.into(),
        partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        configs: decode_pairs(topic.topic_configs).collect(),
    };
    topics.into_iter().map(info).collect()
}

fn topology_value(topology: &Topology) -> Result<Bytes, EncodeError> {
    let group = |group: &topology::CopartitionGroup| CopartitionGroupValue {
        source_topics: group.source_topics.clone(),
        source_topic_regex: group.source_topic_regex.clone(),
        repartition_source_topics: group.repartition_source_topics.clone(),
        ..Default::default()
    };
    let subtopology = |(id, subtopology): (&Arc<str>, &topology::Subtopology)| SubtopologyValue {
        subtopology_id: id.to_string(),
        source_topics: texts(&subtopology.source_topics),
        source_topic_regex: texts(&subtopology.source_topic_regex),
        state_changelog_topics: topic_infos(&subtopology.changelog_topics),
        repartition_sink_topics: texts(&subtopology.repartition_sink_topics),
        repartition_source_topics: topic_infos(&subtopology.repartition_source_topics),
        copartition_groups: subtopology.copartition_groups.iter().map(group).collect(),
        ..Default::default()
    };
    let subtopologies = topology.subtopologies.iter().map(subtopology).collect();
    let value = StreamsGroupTopologyValue { epoch: topology.epoch, subtopologies, ..Default::default() };
    encode(&value)
}

fn decode_topology(bytes: Bytes) -> Result<Topology, RecordError> {
    let value: StreamsGroupTopologyValue = decode(bytes)?;
    let group = |group: CopartitionGroupValue| topology::CopartitionGroup {
        source_topics: group.source_topics,
        source_topic_regex: group.source_topic_regex,
        repartition_source_topics: group.repartition_source_topics,
    };
    let subtopology = |value: SubtopologyValue| {
        let subtopology = topology::Subtopology {
            source_topics: shared(value.source_topics),
            source_topic_regex: shared(value.source_topic_regex),
            changelog_topics: decode_topic_infos(value.state_changelog_topics),
            repartition_sink_topics: shared(value.repartition_sink_topics),
            repartition_source_topics: decode_topic_infos(value.repartition_source_topics),
            copartition_groups: value.copartition_groups.into_iter().map(group).collect(),
        };
        (value.subtopology_id.into(), subtopology)
    };
    let subtopologies = value.subtopologies.into_iter().map(subtopology).collect();
    Ok(Topology { epoch: value.epoch, subtopologies })
}
