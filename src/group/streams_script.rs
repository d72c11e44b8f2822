//! The words of the golden scripts that are about streams groups.
//!
//! A caller is a stream thread: it remembers its epoch and its tasks from the last answer, and says in its heartbeats
//! that it has these, and no others: it gives up at once what it is told to. `busy=yes` leaves that out.

use std::fmt::Write as _;
use std::sync::Arc;

use super::script::{Keys, Memory, shown_id};
use super::streams::StreamsGroup;
use super::streams::command::{
    DescribedStreamsGroup, StreamsHeartbeat, StreamsHeartbeatAnswer, TopicPartitions,
};
use super::streams::configured::InternalTopic;
use super::streams::record::{Body, Endpoint, Own, StreamsRecord};
use super::streams::tasks::{AssignedTasks, TaskIds, Tasks};
use super::streams::topology::{CopartitionGroup, Subtopology, TopicInfo, Topology};

/// What a client of the streams protocol remembers.
#[derive(Default)]
pub(super) struct StreamsClient {
    member_id: Arc<str>,
    epoch: i32,
    endpoint_epoch: i32,
    owned: Tasks,
}

/// `0=src:t,sink:r 1=rep:r/2,log:l,co:t|r`: by subtopology its source topics, the repartition topics that it writes to
/// and reads, its changelogs, and source topics that need as many partitions as one another.
fn parse_topology(text: &str, epoch: i32) -> Topology {
    let mut topology = Topology { epoch, ..Topology::default() };
    for part in text.split(' ').filter(|part| !part.is_empty()) {
        let (id, items) = part.split_once('=').unwrap_or((part, ""));
        let mut subtopology = Subtopology::default();
        for item in items.split(',') {
            let (kind, name) = item.split_once(':').unwrap_or((item, ""));
            let info = || {
                let (name, partitions) = name.split_once('/').unwrap_or((name, "0"));
                let partitions = partitions.parse().unwrap_or(0);
                TopicInfo { name: name.into(), partitions, ..TopicInfo::default() }
            };
            match kind {
                "src" => subtopology.source_topics.push(name.into()),
                "sink" => subtopology.repartition_sink_topics.push(name.into()),
                "rep" => subtopology.repartition_source_topics.push(info()),
                "log" => subtopology.changelog_topics.push(info()),
                "co" => subtopology.copartition_groups.push(parse_group(name, &subtopology)),
                unknown => panic!("no such kind of topic: {unknown}"),
            }
        }
        topology.subtopologies.insert(id.into(), subtopology);
    }
    topology
}

fn parse_group(names: &str, subtopology: &Subtopology) -> CopartitionGroup {
    let mut group = CopartitionGroup::default();
    for name in names.split('|') {
        let place = |place: usize| i16::try_from(place).unwrap_or(0);
        let mut repartition = subtopology.repartition_source_topics.iter();
        if let Some(found) = subtopology.source_topics.iter().position(|topic| **topic == *name) {
            group.source_topics.push(place(found));
        } else if let Some(found) = repartition.position(|topic| *topic.name == *name) {
            group.repartition_source_topics.push(place(found));
        }
    }
    group
}

/// `0_0,1 1_2`: tasks by subtopology.
fn parse_tasks(text: &str) -> TaskIds {
    let mut tasks = TaskIds::new();
    for part in text.split(' ').filter(|part| !part.is_empty()) {
        let (id, list) = part.split_once('_').unwrap_or((part, ""));
        tasks.insert(id.into(), list.split(',').filter_map(|task| task.parse().ok()).collect());
    }
    tasks
}

/// A heartbeat; the first one of a caller joins. `member=` begins a new life.
pub(super) fn parse_heartbeat(memory: &mut Memory, caller: &str, keys: &Keys<'_>) -> StreamsHeartbeat {
    if let Some(member_id) = keys.optional("member") {
        memory.streams.insert(caller.to_owned(), StreamsClient { member_id, ..StreamsClient::default() });
    }
    let known = memory
        .streams
        .entry(caller.to_owned())
        .or_insert_with(|| StreamsClient { member_id: caller.into(), ..StreamsClient::default() });
    let member_epoch = keys.number("epoch", known.epoch);
    let joins = member_epoch == 0;
    if joins {
        known.owned = Tasks::default();
    }
    if let Some(text) = keys.0.get("has") {
        known.owned.active = parse_tasks(text);
    }
    let topology = keys.text("topology", "0=src:t");
    let endpoint = |text: &&str| {
        let (host, port) = text.split_once(':').unwrap_or((text, "0"));
        Endpoint { host: host.into(), port: port.parse().unwrap_or(0) }
    };
    let process = keys.optional("process").or_else(|| joins.then(|| caller.to_uppercase().into()));
    StreamsHeartbeat {
        group_id: keys.id("group", "g"),
        member_id: known.member_id.clone(),
        member_epoch,
        endpoint_epoch: known.endpoint_epoch,
        rack_id: keys.optional("rack"),
        rebalance_timeout_ms: if joins { keys.number("rebalance", 60_000) } else { -1 },
        topology: joins.then(|| parse_topology(topology, keys.number("topology_epoch", 0))),
        owned: (!keys.0.contains_key("busy")).then(|| known.owned.clone()),
        process_id: process,
        user_endpoint: keys.0.get("endpoint").map(endpoint),
        client_tags: None,
        shutdown_application: keys.0.contains_key("shutdown"),
        client_id: caller.into(),
        client_host: "/127.0.0.1".into(),
    }
}

pub(super) fn observe(memory: &mut Memory, caller: &str, answer: &StreamsHeartbeatAnswer) {
    let known = memory.streams.entry(caller.to_owned()).or_default();
    known.member_id = answer.member_id.clone();
    known.epoch = answer.member_epoch.max(0);
    known.endpoint_epoch = answer.endpoint_epoch;
    if let Some(tasks) = &answer.tasks {
        known.owned = tasks.clone();
    }
}

fn show_topics(topics: &[InternalTopic]) -> String {
    let one = |topic: &InternalTopic| format!("{}:{}", topic.name, topic.partitions);
    topics.iter().map(one).collect::<Vec<_>>().join(",")
}

fn show_partitions(partitions: &TopicPartitions) -> String {
    partitions.iter().map(|(topic, list)| format!("{topic}{list:?}")).collect::<Vec<_>>().join(" ")
}

pub(super) fn show_answer(answer: &StreamsHeartbeatAnswer) -> String {
    let mut text = format!("is {} epoch={}", shown_id(&answer.member_id), answer.member_epoch);
    if let Some(tasks) = &answer.tasks {
        let _ = write!(text, " has {}", show_tasks(tasks));
    }
    for status in &answer.statuses {
        let _ = write!(text, ", {:?}: {}", status.code, status.detail);
    }
    if !answer.missing_topics.is_empty() {
        let _ = write!(text, ", creates {}", show_topics(&answer.missing_topics));
    }
    for state in answer.endpoints.iter().flatten() {
        let (endpoint, active) = (&state.endpoint, show_partitions(&state.active));
        let _ = write!(text, ", {}:{} has {active}", endpoint.host, endpoint.port);
        if !state.standby.is_empty() {
            let _ = write!(text, " standby {}", show_partitions(&state.standby));
        }
    }
    text
}

pub(super) fn show_described(described: &DescribedStreamsGroup) -> String {
    let group = match &described.group {
        Ok(group) => group,
        Err(error) => return super::script::show_code(Some(error.code)),
    };
    let mut text = format!(
        "{} {} epoch={} target={} topology={}",
        described.group_id, group.state, group.epoch, group.target_epoch, group.topology_epoch
    );
    for subtopology in &group.subtopologies {
        let internal = show_topics(&subtopology.repartition_source_topics);
        let changelogs = show_topics(&subtopology.changelog_topics);
        let (id, sources) = (&subtopology.id, subtopology.source_topics.join(","));
        let sinks = subtopology.repartition_sink_topics.join(",");
        let _ = write!(text, ", {id} from [{sources}] [{internal}] to [{sinks}] state [{changelogs}]");
    }
    for member in &group.members {
        let (has, target) = (show_tasks(&member.assignment), show_tasks(&member.target));
        let id = shown_id(&member.member_id);
        let _ = write!(text, ", {id} epoch={} [{has}] target [{target}]", member.member_epoch);
    }
    text
}

fn show_task_ids(mark: &str, tasks: &TaskIds, out: &mut Vec<String>) {
    for (id, tasks) in tasks {
        let tasks: Vec<String> = tasks.iter().map(ToString::to_string).collect();
        out.push(format!("{mark}{id}_{}", tasks.join(",")));
    }
}

/// `0_0,1 standby:0_2`: active tasks of subtopology 0, then the others.
pub(super) fn show_tasks(tasks: &Tasks) -> String {
    let mut out = Vec::new();
    show_task_ids("", &tasks.active, &mut out);
    show_task_ids("standby:", &tasks.standby, &mut out);
    show_task_ids("warmup:", &tasks.warmup, &mut out);
    if out.is_empty() { "-".to_owned() } else { out.join(" ") }
}

/// Each active task with the epoch in which it was assigned: `0_0@2,1@3`.
fn show_assigned(tasks: &AssignedTasks) -> String {
    let mut out = Vec::new();
    for (id, tasks) in &tasks.active {
        let tasks: Vec<String> = tasks.iter().map(|(task, epoch)| format!("{task}@{epoch}")).collect();
        out.push(format!("{id}_{}", tasks.join(",")));
    }
    show_task_ids("standby:", &tasks.standby, &mut out);
    show_task_ids("warmup:", &tasks.warmup, &mut out);
    if out.is_empty() { "-".to_owned() } else { out.join(" ") }
}

pub(super) fn show_record(record: &StreamsRecord) -> String {
    let about = match &record.body {
        Body::Epoch(Some(value)) => {
            let configs: Vec<String> =
                value.assignment_configs.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let validated = value.validated_topology_epoch;
            format!("epoch={} validated={validated} {}", value.epoch, configs.join(","))
        }
        Body::Epoch(None) => "gone".to_owned(),
        Body::Member { member_id, value: Some(value) } => {
            let mut text = format!(
                "member {} process={} topology={}",
                shown_id(member_id),
                value.process_id,
                value.topology_epoch
            );
            if let Some(endpoint) = &value.user_endpoint {
                let _ = write!(text, " endpoint={}:{}", endpoint.host, endpoint.port);
            }
            text
        }
        Body::Member { member_id, value: None } => format!("member {} gone", shown_id(member_id)),
        Body::TargetEpoch(Some(value)) => format!("target epoch={} at={}", value.epoch, value.assigned_at_ms),
        Body::TargetEpoch(None) => "target gone".to_owned(),
        Body::Target { member_id, value: Some(value) } => {
            format!("target {} {}", shown_id(member_id), show_tasks(value))
        }
        Body::Target { member_id, value: None } => format!("target {} gone", shown_id(member_id)),
        Body::Current { member_id, value: Some(value) } => {
            let (assigned, revoking) = (show_assigned(&value.assigned), show_assigned(&value.revoking));
            let epochs = format!("epoch={} before={}", value.epoch, value.previous_epoch);
            let member = shown_id(member_id);
            format!("current {member} {epochs} {:?} {assigned} revoking {revoking}", value.state)
        }
        Body::Current { member_id, value: None } => format!("current {} gone", shown_id(member_id)),
        Body::Own(Own::Topology(Some(value))) => {
            let ids: Vec<String> = value.subtopologies.keys().map(ToString::to_string).collect();
            format!("topology epoch={} of {}", value.epoch, ids.join(","))
        }
        Body::Own(Own::Topology(None)) => "topology gone".to_owned(),
    };
    format!("{} {about}", record.group_id)
}

pub(super) fn show_group(group: &StreamsGroup, out: &mut String) {
    let (state, epochs) =
        (group.state().name(), format!("epoch={} target={}", group.epoch, group.target.epoch));
    let _ = writeln!(out, "{} streams {state} {epochs}", group.group_id);
    for (member_id, member) in &group.members {
        let current = &member.current;
        let has = current.assigned.without_epochs();
        let member_id = shown_id(member_id);
        let mut text =
            format!("  {member_id} epoch={} {:?} has {}", current.epoch, current.state, show_tasks(&has));
        if !current.revoking.is_empty() {
            let _ = write!(text, " revoking {}", show_tasks(&current.revoking.without_epochs()));
        }
        let target = group.target.of(&member.member_id);
        if *target != has {
            let _ = write!(text, " target {}", show_tasks(&target));
        }
        let _ = writeln!(out, "{text}");
    }
}
