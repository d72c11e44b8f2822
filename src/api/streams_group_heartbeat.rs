//! StreamsGroupHeartbeat (88): a member of a streams group joins, is alive, and learns which tasks it has (KIP-1071).
//!
//! - The topology comes with the join. Its internal topics are created here, where they are missing.
//! - As in Kafka 4.3, there are no static members, no regular expressions for source topics, and nobody owns a warmup
//!   task.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::context::{Context, Disconnect};
use super::outcome;
use crate::error::{ApiError, ErrorCode};
use crate::group::streams::command::{
    EndpointPartitions, StreamsHeartbeat, StreamsHeartbeatAnswer, TopicPartitions,
};
use crate::group::streams::configured::{Status, StatusCode};
use crate::group::streams::record;
use crate::group::streams::tasks::{self, Tasks};
use crate::group::streams::topology;
use crate::metadata::controller::topics::check_name;
use crate::protocol::messages::streams_group_heartbeat::{
    CopartitionGroup, Endpoint, EndpointToPartitions, KeyValue, Status as WireStatus, Subtopology, TaskIds,
    TopicInfo, TopicPartition, Topology,
};
use crate::protocol::messages::{StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse};
use crate::types::is_internal_topic;

const JOIN_EPOCH: i32 = 0;
const LEAVE_STATIC_EPOCH: i32 = -2;

/// The feature that has to be finalised for it.
const STREAMS_VERSION: &str = "streams.version";
/// Its name in `group.coordinator.rebalance.protocols`.
const STREAMS_PROTOCOL: &str = "streams";

pub(super) async fn handle(
    context: &Context,
    request: StreamsGroupHeartbeatRequest,
    _version: i16,
) -> Result<StreamsGroupHeartbeatResponse, Disconnect> {
    let answer = match check(context, &request) {
        Ok(()) => context.broker.groups.streams_heartbeat(heartbeat(context, request)).await,
        Err(error) => Err(error),
    };
    let (error_code, error_message) = outcome::code_and_message(&answer);
    let error_message = error_message.map(|text| text.to_string());
    let response = StreamsGroupHeartbeatResponse { error_code, error_message, ..Default::default() };
    let Ok(mut answer) = answer else { return Ok(response) };
    let missing = std::mem::take(&mut answer.missing_topics);
    if !missing.is_empty() {
        let lifetime_ms = i64::from(answer.heartbeat_interval_ms) * 2;
        let failed = context.broker.streams_topics.create(&context.broker, missing, lifetime_ms);
        tell_failed(&mut answer.statuses, &failed);
    }
    Ok(with_answer(response, answer))
}

/// Whether groups may use the streams protocol.
pub(super) fn check_enabled(context: &Context) -> Result<(), ApiError> {
    let config = context.broker.metadata.broker_config();
    let configured = config.group_coordinator_rebalance_protocols.iter().any(|name| name == STREAMS_PROTOCOL);
    if configured && context.broker.metadata.image().feature(STREAMS_VERSION) >= 1 {
        Ok(())
    } else {
        Err(ErrorCode::UnsupportedVersion.into())
    }
}

fn require(holds: bool, message: &str) -> Result<(), ApiError> {
    if holds { Ok(()) } else { Err(ApiError::with(ErrorCode::InvalidRequest, message)) }
}

fn check(context: &Context, request: &StreamsGroupHeartbeatRequest) -> Result<(), ApiError> {
    check_enabled(context)?;
    if let Some(topology) = &request.topology {
        check_topic_names(topology)?;
    }
    check_supported(request)?;
    check_fields(request)
}

/// Topics have names that topics can have, and are not the broker's own.
fn check_topic_names(topology: &Topology) -> Result<(), ApiError> {
    let names = |topics: &'_ [TopicInfo]| topics.iter().map(|topic| topic.name.clone()).collect::<Vec<_>>();
    let mut all: Vec<String> = Vec::new();
    for subtopology in &topology.subtopologies {
        all.extend(subtopology.source_topics.iter().cloned());
        all.extend(subtopology.repartition_sink_topics.iter().cloned());
        all.extend(names(&subtopology.repartition_source_topics));
        all.extend(names(&subtopology.state_changelog_topics));
    }
    let refuse = |message| Err(ApiError::with(ErrorCode::StreamsInvalidTopology, message));
    if let Some(name) = all.iter().find(|name| is_internal_topic(name)) {
        return refuse(format!("A topology can not use {name}, which is a topic of Kafka's own."));
    }
    if let Some(name) = all.iter().find(|name| check_name(name).is_err()) {
        return refuse(format!("A topic can not be named {name}."));
    }
    Ok(())
}

/// What KIP-1071 has and Kafka 4.3 does not.
fn check_supported(request: &StreamsGroupHeartbeatRequest) -> Result<(), ApiError> {
    require(request.instance_id.is_none(), "Static membership is not yet supported.")?;
    require(request.task_offsets.is_none(), "TaskOffsets are not supported yet.")?;
    require(request.task_end_offsets.is_none(), "TaskEndOffsets are not supported yet.")?;
    let warmup = request.warmup_tasks.as_ref().is_none_or(Vec::is_empty);
    require(warmup, "WarmupTasks are not supported yet.")?;
    let mut subtopologies = request.topology.iter().flat_map(|topology| &topology.subtopologies);
    let by_name = subtopologies.all(|subtopology| subtopology.source_topic_regex.is_empty());
    require(by_name, "Regular expressions for source topics are not supported yet.")
}

fn check_fields(request: &StreamsGroupHeartbeatRequest) -> Result<(), ApiError> {
    require(!request.member_id.trim().is_empty(), "MemberId can't be empty.")?;
    require(!request.group_id.trim().is_empty(), "GroupId can't be empty.")?;
    let has_rack = request.rack_id.as_ref().is_none_or(|rack| !rack.trim().is_empty());
    require(has_rack, "RackId can't be empty.")?;
    let is_empty = |tasks: &Option<Vec<TaskIds>>| tasks.as_ref().is_some_and(Vec::is_empty);
    let owned = [&request.active_tasks, &request.standby_tasks, &request.warmup_tasks];
    if request.member_epoch == JOIN_EPOCH {
        let has_timeout = request.rebalance_timeout_ms != -1;
        require(has_timeout, "RebalanceTimeoutMs must be provided in first request.")?;
        for (tasks, name) in owned.into_iter().zip(["ActiveTasks", "StandbyTasks", "WarmupTasks"]) {
            require(is_empty(tasks), &format!("{name} must be empty when (re-)joining."))?;
        }
        let Some(topology) = &request.topology else {
            return require(false, "Topology must be non-null when (re-)joining.");
        };
        require(topology.epoch >= 0, "The epoch of a topology can't be negative.")?;
        check_changelogs(topology)?;
    } else {
        require(request.member_epoch != LEAVE_STATIC_EPOCH, "InstanceId can't be null.")?;
        require(request.member_epoch > LEAVE_STATIC_EPOCH, "MemberEpoch must be at least -2.")?;
        require(request.topology.is_none(), "Topology can only be provided when (re-)joining.")?;
    }
    let some = owned.iter().any(|tasks| tasks.is_some());
    let all = owned.iter().all(|tasks| tasks.is_some());
    require(all || !some, "If one task-type is non-null, all must be non-null.")
}

fn check_changelogs(topology: &Topology) -> Result<(), ApiError> {
    let mut changelogs =
        topology.subtopologies.iter().flat_map(|subtopology| &subtopology.state_changelog_topics);
    match changelogs.find(|topic| topic.partitions != 0) {
        None => Ok(()),
        Some(TopicInfo { name, partitions, .. }) => {
            let text = format!(
                "The broker decides how many partitions the changelog topic {name} has, not the client: {partitions}."
            );
            Err(ApiError::with(ErrorCode::StreamsInvalidTopology, text))
        }
    }
}

fn shared(texts: Vec<String>) -> Vec<Arc<str>> {
    texts.into_iter().map(Into::into).collect()
}

fn pairs(pairs: Vec<KeyValue>) -> impl Iterator<Item = (Arc<str>, Arc<str>)> {
    pairs.into_iter().map(|pair| (pair.key.into(), pair.value.into()))
}

fn heartbeat(context: &Context, request: StreamsGroupHeartbeatRequest) -> StreamsHeartbeat {
    let task_ids = |tasks: Vec<TaskIds>| -> tasks::TaskIds {
        let mut all = tasks::TaskIds::new();
        for tasks in tasks {
            all.entry(tasks.subtopology_id.into()).or_default().extend(tasks.partitions);
        }
        all
    };
    let owned = match (request.active_tasks, request.standby_tasks, request.warmup_tasks) {
        (Some(active), Some(standby), Some(warmup)) => {
            Some(Tasks { active: task_ids(active), standby: task_ids(standby), warmup: task_ids(warmup) })
        }
        _ => None,
    };
    let endpoint = |endpoint: Endpoint| record::Endpoint { host: endpoint.host.into(), port: endpoint.port };
    StreamsHeartbeat {
        group_id: request.group_id.into(),
        member_id: request.member_id.into(),
        member_epoch: request.member_epoch,
        endpoint_epoch: request.endpoint_information_epoch,
        rack_id: request.rack_id.map(Into::into),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        topology: request.topology.map(topology_of),
        owned,
        process_id: request.process_id.map(Into::into),
        user_endpoint: request.user_endpoint.map(endpoint),
        client_tags: request.client_tags.map(|tags| pairs(tags).collect()),
        shutdown_application: request.shutdown_application,
        client_id: context.client_id().into(),
        client_host: context.client_host().into(),
    }
}

fn topology_of(topology: Topology) -> topology::Topology {
    let info = |topic: TopicInfo| topology::TopicInfo {
        name: topic.name.into(),
        partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        configs: pairs(topic.topic_configs).collect(),
    };
    let group = |group: CopartitionGroup| topology::CopartitionGroup {
        source_topics: group.source_topics,
        source_topic_regex: group.source_topic_regex,
        repartition_source_topics: group.repartition_source_topics,
    };
    let subtopology = |sent: Subtopology| {
        let subtopology = topology::Subtopology {
            source_topics: shared(sent.source_topics),
            source_topic_regex: shared(sent.source_topic_regex),
            changelog_topics: sent.state_changelog_topics.into_iter().map(info).collect(),
            repartition_sink_topics: shared(sent.repartition_sink_topics),
            repartition_source_topics: sent.repartition_source_topics.into_iter().map(info).collect(),
            copartition_groups: sent.copartition_groups.into_iter().map(group).collect(),
        };
        (sent.subtopology_id.into(), subtopology)
    };
    let subtopologies = topology.subtopologies.into_iter().map(subtopology).collect();
    topology::Topology { epoch: topology.epoch, subtopologies }
}

/// Adds to what members are told of missing topics why some could not be created.
fn tell_failed(statuses: &mut [Status], failed: &BTreeMap<Arc<str>, String>) {
    const NAMED_MAX: usize = 3;
    let missing = statuses.iter_mut().find(|status| status.code == StatusCode::MissingInternalTopics);
    let Some(status) = missing.filter(|_| !failed.is_empty()) else { return };
    let named: Vec<String> =
        failed.iter().take(NAMED_MAX).map(|(name, error)| format!("{name} ({error})")).collect();
    let more = match failed.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    status.detail += &format!("; Creation failed: {}{more}.", named.join(", "));
}

/// Tasks as the wire has them.
pub(super) fn wire_tasks(tasks: &tasks::TaskIds) -> Vec<TaskIds> {
    let one = |(id, tasks): (&Arc<str>, &std::collections::BTreeSet<i32>)| TaskIds {
        subtopology_id: id.to_string(),
        partitions: tasks.iter().copied().collect(),
        ..TaskIds::default()
    };
    tasks.iter().map(one).collect()
}

/// An endpoint as the wire has it.
pub(super) fn wire_endpoint(endpoint: &record::Endpoint) -> Endpoint {
    Endpoint { host: endpoint.host.to_string(), port: endpoint.port, ..Endpoint::default() }
}

fn wire_partitions(partitions: TopicPartitions) -> Vec<TopicPartition> {
    let topic = |(topic, partitions): (Arc<str>, Vec<i32>)| TopicPartition {
        topic: topic.to_string(),
        partitions,
        ..TopicPartition::default()
    };
    partitions.into_iter().map(topic).collect()
}

fn with_answer(
    response: StreamsGroupHeartbeatResponse,
    answer: StreamsHeartbeatAnswer,
) -> StreamsGroupHeartbeatResponse {
    let status = |status: Status| WireStatus {
        status_code: status.code.id(),
        status_detail: status.detail,
        ..WireStatus::default()
    };
    let endpoint = |partitions: EndpointPartitions| EndpointToPartitions {
        user_endpoint: wire_endpoint(&partitions.endpoint),
        active_partitions: wire_partitions(partitions.active),
        standby_partitions: wire_partitions(partitions.standby),
        ..EndpointToPartitions::default()
    };
    let tasks = answer.tasks.as_ref();
    StreamsGroupHeartbeatResponse {
        member_id: answer.member_id.to_string(),
        member_epoch: answer.member_epoch,
        heartbeat_interval_ms: answer.heartbeat_interval_ms,
        status: Some(answer.statuses.into_iter().map(status).collect()),
        active_tasks: tasks.map(|tasks| wire_tasks(&tasks.active)),
        standby_tasks: tasks.map(|tasks| wire_tasks(&tasks.standby)),
        warmup_tasks: tasks.map(|tasks| wire_tasks(&tasks.warmup)),
        endpoint_information_epoch: answer.endpoint_epoch,
        partitions_by_user_endpoint: answer.endpoints.map(|all| all.into_iter().map(endpoint).collect()),
        ..response
    }
}
