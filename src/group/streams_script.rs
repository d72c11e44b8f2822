//! The words of the golden scripts that are about streams groups.

use std::fmt::Write as _;

use super::script::shown_id;
use super::streams::StreamsGroup;
use super::streams::record::{Body, StreamsRecord};
use super::streams::tasks::{AssignedTasks, TaskIds, Tasks};

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
        Body::Topology(Some(value)) => {
            let ids: Vec<String> = value.subtopologies.keys().map(ToString::to_string).collect();
            format!("topology epoch={} of {}", value.epoch, ids.join(","))
        }
        Body::Topology(None) => "topology gone".to_owned(),
    };
    format!("{} {about}", record.group_id)
}

pub(super) fn show_group(group: &StreamsGroup, out: &mut String) {
    let (state, epochs) =
        (group.state().name(), format!("epoch={} target={}", group.epoch, group.target_epoch));
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
        let target = group.target_of(&member.member_id);
        if *target != has {
            let _ = write!(text, " target {}", show_tasks(&target));
        }
        let _ = writeln!(out, "{text}");
    }
}
