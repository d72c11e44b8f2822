//! The records of streams groups (keys 17, and 19 to 23), in Kafka's own bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::member::{LEAVE_EPOCH, MemberState};
use super::tasks::{AssignedTasks, TaskEpochs, TaskIds, Tasks};
use super::topology::{self, Topology};
use crate::group::consumer::record::{
    GroupKey, ItemKey, TargetEpoch, decode, decode_target_epoch, prefixed, target_epoch_value,
};
use crate::group::record::RecordError;
use crate::protocol::schema::{Schema as _, schema};
use crate::protocol::wire::EncodeError;

/// `StreamsGroupMetadata`: the epoch of a group.
const EPOCH: i16 = 17;
/// `StreamsGroupMemberMetadata`: what a member is.
const MEMBER: i16 = 19;
/// `StreamsGroupTargetAssignmentMetadata`: the epoch of the target assignment.
const TARGET_EPOCH: i16 = 20;
/// `StreamsGroupTargetAssignmentMember`: what a member is to have.
const TARGET: i16 = 21;
/// `StreamsGroupCurrentMemberAssignment`: what a member has.
const CURRENT: i16 = 22;
/// `StreamsGroupTopology`: the topology.
const TOPOLOGY: i16 = 23;

/// The only version of all these values.
const VALUE_VERSION: i16 = 0;

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

/// A change of a streams group that lasts. `None` deletes what the record names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsRecord {
    pub group_id: Arc<str>,
    pub body: Body,
}

/// What a [`StreamsRecord`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Epoch(Option<GroupEpoch>),
    Member { member_id: Arc<str>, value: Option<MemberMetadata> },
    TargetEpoch(Option<TargetEpoch>),
    Target { member_id: Arc<str>, value: Option<Arc<Tasks>> },
    Current { member_id: Arc<str>, value: Option<CurrentAssignment> },
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

impl CurrentAssignment {
    /// That of a member that is about to be removed.
    pub fn left(&self) -> Self {
        Self { epoch: LEAVE_EPOCH, previous_epoch: LEAVE_EPOCH, state: self.state, ..Self::default() }
    }
}

impl StreamsRecord {
    /// The type of the record, and which member of the group it is about, or nobody.
    pub fn kind_and_item(&self) -> (i16, &str) {
        match &self.body {
            Body::Epoch(_) => (EPOCH, ""),
            Body::Member { member_id, .. } => (MEMBER, member_id),
            Body::TargetEpoch(_) => (TARGET_EPOCH, ""),
            Body::Target { member_id, .. } => (TARGET, member_id),
            Body::Current { member_id, .. } => (CURRENT, member_id),
            Body::Topology(_) => (TOPOLOGY, ""),
        }
    }

    /// Whether the record deletes what it names.
    pub fn is_tombstone(&self) -> bool {
        match &self.body {
            Body::Epoch(value) => value.is_none(),
            Body::Member { value, .. } => value.is_none(),
            Body::TargetEpoch(value) => value.is_none(),
            Body::Target { value, .. } => value.is_none(),
            Body::Current { value, .. } => value.is_none(),
            Body::Topology(value) => value.is_none(),
        }
    }

    /// Key and value as Kafka writes them.
    pub fn encode(&self) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        let (kind, item) = self.kind_and_item();
        let group_id = self.group_id.to_string();
        let key = match &self.body {
            Body::Epoch(_) | Body::TargetEpoch(_) | Body::Topology(_) => {
                prefixed(kind, &GroupKey { group_id, ..GroupKey::default() })?
            }
            Body::Member { .. } | Body::Target { .. } | Body::Current { .. } => {
                prefixed(kind, &ItemKey { group_id, item: item.to_owned(), ..ItemKey::default() })?
            }
        };
        let value = match &self.body {
            Body::Epoch(value) => value.as_ref().map(epoch_value).transpose()?,
            Body::Member { value, .. } => value.as_ref().map(member_value).transpose()?,
            Body::TargetEpoch(value) => value.map(target_epoch_value).transpose()?,
            Body::Target { value, .. } => value.as_ref().map(|tasks| target_value(tasks)).transpose()?,
            Body::Current { value, .. } => value.as_ref().map(current_value).transpose()?,
            Body::Topology(value) => value.as_ref().map(|topology| topology_value(topology)).transpose()?,
        };
        Ok((key, value))
    }

    /// Reads a record; `None` for one of another kind. `key` begins behind the type.
    pub fn decode(kind: i16, mut key: Bytes, value: Option<Bytes>) -> Result<Option<Self>, RecordError> {
        let (group_id, item) = match kind {
            EPOCH | TARGET_EPOCH | TOPOLOGY => (GroupKey::decode(&mut key, 0)?.group_id, String::new()),
            MEMBER | TARGET | CURRENT => {
                let key = ItemKey::decode(&mut key, 0)?;
                (key.group_id, key.item)
            }
            _ => return Ok(None),
        };
        Self::of_item(kind, &group_id, &item, value)
    }

    /// The record about a group or a member of it, from the bytes of its value.
    pub fn of_item(
        kind: i16,
        group_id: &str,
        item: &str,
        value: Option<Bytes>,
    ) -> Result<Option<Self>, RecordError> {
        let body = match kind {
            EPOCH => Body::Epoch(value.map(decode_epoch).transpose()?),
            MEMBER => Body::Member { member_id: item.into(), value: value.map(decode_member).transpose()? },
            TARGET_EPOCH => Body::TargetEpoch(value.map(decode_target_epoch).transpose()?),
            TARGET => Body::Target { member_id: item.into(), value: value.map(decode_target).transpose()? },
            CURRENT => {
                Body::Current { member_id: item.into(), value: value.map(decode_current).transpose()? }
            }
            TOPOLOGY => Body::Topology(value.map(decode_topology).transpose()?),
            _ => return Ok(None),
        };
        Ok(Some(Self { group_id: group_id.into(), body }))
    }
}

fn texts(names: &[Arc<str>]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn shared(names: Vec<String>) -> Vec<Arc<str>> {
    names.into_iter().map(Into::into).collect()
}

fn optional(text: Option<&Arc<str>>) -> Option<String> {
    text.map(ToString::to_string)
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

fn epoch_value(value: &GroupEpoch) -> Result<Bytes, EncodeError> {
    let value = StreamsGroupMetadataValue {
        epoch: value.epoch,
        metadata_hash: value.metadata_hash,
        validated_topology_epoch: value.validated_topology_epoch,
        last_assignment_configs: Some(pairs(value.assignment_configs.iter())),
        ..Default::default()
    };
    prefixed(VALUE_VERSION, &value)
}

fn decode_epoch(bytes: Bytes) -> Result<GroupEpoch, RecordError> {
    let value: StreamsGroupMetadataValue = decode(bytes)?;
    Ok(GroupEpoch {
        epoch: value.epoch,
        metadata_hash: value.metadata_hash,
        validated_topology_epoch: value.validated_topology_epoch,
        assignment_configs: decode_pairs(value.last_assignment_configs.unwrap_or_default()).collect(),
    })
}

fn member_value(member: &MemberMetadata) -> Result<Bytes, EncodeError> {
    let endpoint = |endpoint: &Endpoint| EndpointValue {
        host: endpoint.host.to_string(),
        port: endpoint.port,
        ..Default::default()
    };
    let value = StreamsGroupMemberMetadataValue {
        instance_id: optional(member.instance_id.as_ref()),
        rack_id: optional(member.rack_id.as_ref()),
        client_id: member.client_id.to_string(),
        client_host: member.client_host.to_string(),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        topology_epoch: member.topology_epoch,
        process_id: member.process_id.to_string(),
        user_endpoint: member.user_endpoint.as_ref().map(endpoint),
        client_tags: pairs(member.client_tags.iter()),
        ..Default::default()
    };
    prefixed(VALUE_VERSION, &value)
}

fn decode_member(bytes: Bytes) -> Result<MemberMetadata, RecordError> {
    let value: StreamsGroupMemberMetadataValue = decode(bytes)?;
    let endpoint = |endpoint: EndpointValue| Endpoint { host: endpoint.host.into(), port: endpoint.port };
    Ok(MemberMetadata {
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

fn target_value(tasks: &Tasks) -> Result<Bytes, EncodeError> {
    let all = |tasks: &TaskIds| -> Vec<TargetTasks> {
        let one = |(id, tasks): (&Arc<str>, &BTreeSet<i32>)| TargetTasks {
            subtopology_id: id.to_string(),
            partitions: tasks.iter().copied().collect(),
            ..Default::default()
        };
        tasks.iter().map(one).collect()
    };
    let value = StreamsGroupTargetAssignmentMemberValue {
        active_tasks: all(&tasks.active),
        standby_tasks: all(&tasks.standby),
        warmup_tasks: all(&tasks.warmup),
        ..Default::default()
    };
    prefixed(VALUE_VERSION, &value)
}

fn decode_target(bytes: Bytes) -> Result<Arc<Tasks>, RecordError> {
    let value: StreamsGroupTargetAssignmentMemberValue = decode(bytes)?;
    let all = |tasks: Vec<TargetTasks>| -> TaskIds {
        let one = |tasks: TargetTasks| (tasks.subtopology_id.into(), tasks.partitions.into_iter().collect());
        tasks.into_iter().map(one).collect()
    };
    Ok(Arc::new(Tasks {
        active: all(value.active_tasks),
        standby: all(value.standby_tasks),
        warmup: all(value.warmup_tasks),
    }))
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

fn current_value(current: &CurrentAssignment) -> Result<Bytes, EncodeError> {
    let (assigned, revoking) = (&current.assigned, &current.revoking);
    let value = StreamsGroupCurrentMemberAssignmentValue {
        member_epoch: current.epoch,
        previous_member_epoch: current.previous_epoch,
        state: current.state.id(),
        active_tasks: current_active(&assigned.active),
        standby_tasks: current_tasks(&assigned.standby),
        warmup_tasks: current_tasks(&assigned.warmup),
        active_tasks_pending_revocation: current_active(&revoking.active),
        standby_tasks_pending_revocation: current_tasks(&revoking.standby),
        warmup_tasks_pending_revocation: current_tasks(&revoking.warmup),
        ..Default::default()
    };
    prefixed(VALUE_VERSION, &value)
}

fn decode_current(bytes: Bytes) -> Result<CurrentAssignment, RecordError> {
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
        let one = |tasks: CurrentTasks| (tasks.subtopology_id.into(), tasks.partitions.into_iter().collect());
        tasks.into_iter().map(one).collect()
    };
    Ok(CurrentAssignment {
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
    prefixed(VALUE_VERSION, &value)
}

fn decode_topology(bytes: Bytes) -> Result<Arc<Topology>, RecordError> {
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
    Ok(Arc::new(Topology { epoch: value.epoch, subtopologies }))
}
