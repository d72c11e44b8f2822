//! The words of the golden scripts that are about share groups.
//!
//! A caller is a client: it remembers its epoch from the last answer. `initialized` and `not-initialized` are what the
//! caller of the core says of what a heartbeat or `alter-share` told it to initialise.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;

use uuid::Uuid;

use super::assignor::Partitions;
use super::command::Command;
use super::consumer_script::{id_of, letter_of, show_partitions};
use super::script::{Keys, Memory, show_code, shown_id};
use super::share::ShareGroup;
use super::share::command::{
    AlterShareOffsets, AlterTopic, InitializeState, ShareCommand, ShareHeartbeat, ShareHeartbeatAnswer,
    ShareReply,
};
use super::share::record::{Body, NamedTopics, Own, ShareRecord, StatePartitions};

/// What a client of a share group remembers.
#[derive(Default)]
pub(super) struct ShareConsumer {
    epoch: i32,
}

pub(super) fn configure(memory: &mut Memory, key: &str, value: &str) -> Result<(), Box<dyn Error>> {
    let cluster = Arc::make_mut(&mut memory.cluster);
    match key {
        "share_max_size" => memory.settings.share_max_size = value.parse()?,
        "share_retry" => memory.settings.share_initialize_retry_interval_ms = value.parse()?,
        "share_session" => cluster.share_times.session_timeout_ms = value.parse()?,
        "share_interval" => cluster.share_times.assignment_interval_ms = value.parse()?,
        _ => return Err(format!("no such setting: {key}").into()),
    }
    Ok(())
}

/// `t:0+1 u:0`
fn partitions(words: &[&str]) -> Partitions {
    let one = |word: &&str| {
        let (name, list) = word.split_once(':').unwrap_or((word, "0"));
        (id_of(name), list.split('+').filter_map(|text| text.parse().ok()).collect())
    };
    words.iter().map(one).collect()
}

pub(super) fn parse(
    memory: &mut Memory,
    name: &str,
    caller: &str,
    words: &[&str],
    keys: &Keys<'_>,
) -> Option<Command> {
    let group_id = keys.id("group", "g");
    let command = match name {
        "share" => {
            let epoch = memory.share_consumers.entry(caller.to_owned()).or_default().epoch;
            let names = |text: &str| -> BTreeSet<Arc<str>> {
                text.split([',', ' ']).filter(|name| !name.is_empty()).map(Into::into).collect()
            };
            ShareCommand::Heartbeat(Box::new(ShareHeartbeat {
                group_id,
                member_id: keys.id("member", caller),
                member_epoch: keys.number("epoch", epoch),
                rack_id: keys.optional("rack"),
                topics: keys.0.get("topics").map(|text| names(text)),
                client_id: caller.into(),
                client_host: "/127.0.0.1".into(),
            }))
        }
        "describe-share" => ShareCommand::Describe { group_id },
        "initialized" => ShareCommand::Initialized { group_id, partitions: partitions(words) },
        "not-initialized" => ShareCommand::NotInitialized { group_id, partitions: partitions(words) },
        "initialized-partitions" => ShareCommand::InitializedPartitions { group_id },
        "alter-share" => {
            let topic = |(key, offset): (&&str, &&str)| {
                let (topic, partition) = key.split_once('/')?;
                let offsets = vec![(partition.parse().ok()?, offset.parse().ok()?)];
                Some(AlterTopic { topic: topic.into(), offsets })
            };
            let topics = keys.0.iter().filter_map(topic).collect();
            ShareCommand::AlterOffsets(AlterShareOffsets { group_id, topics })
        }
        "delete-share-offsets" => ShareCommand::DeleteOffsets {
            group_id,
            topics: words.iter().map(|word| (*word).into()).collect(),
        },
        "share-offsets-deleted" => {
            let topic_ids = words.iter().map(|word| id_of(word)).collect();
            ShareCommand::OffsetsDeleted { group_id, topic_ids }
        }
        "delete-state" => ShareCommand::DeleteState { group_id },
        _ => return None,
    };
    Some(Command::Share(command))
}

pub(super) fn observe(memory: &mut Memory, caller: &str, reply: &ShareReply) {
    if let ShareReply::Heartbeat(Ok(answer)) = reply {
        let known = memory.share_consumers.entry(caller.to_owned()).or_default();
        known.epoch = answer.answer.member_epoch.max(0);
    }
}

fn show_initialize(initialize: &InitializeState) -> String {
    let mut text = format!("initialize epoch={}", initialize.state_epoch);
    for (id, partitions) in &initialize.start_offsets {
        let partitions: Vec<String> = partitions.iter().map(|(p, offset)| format!("{p}={offset}")).collect();
        let _ = write!(text, " {}:{}", letter_of(*id), partitions.join(","));
    }
    text
}

fn show_heartbeat(answer: &ShareHeartbeatAnswer) -> String {
    let mut text = super::consumer_script::show_answer(&answer.answer);
    if let Some(initialize) = &answer.initialize {
        let _ = write!(text, ", {}", show_initialize(initialize));
    }
    text
}

pub(super) fn show_reply(reply: &ShareReply) -> String {
    match reply {
        ShareReply::Heartbeat(Ok(answer)) => show_heartbeat(answer),
        ShareReply::Describe(Ok(group)) => {
            let (state, epochs) =
                (group.state, format!("epoch={} target={}", group.epoch, group.target_epoch));
            let mut text = format!("{state} {epochs} assignor={}", group.assignor);
            for member in &group.members {
                let has: Vec<String> =
                    member.assignment.values().map(|(name, list)| format!("{name}:{list:?}")).collect();
                let (id, epoch) = (shown_id(&member.member_id), member.member_epoch);
                let _ = write!(text, ", {id} epoch={epoch} [{}]", has.join(" "));
            }
            text
        }
        ShareReply::AlterOffsets(Ok(altered)) => {
            let mut text = String::new();
            for topic in &altered.topics {
                for (partition, error) in &topic.partitions {
                    let _ = write!(text, "{}/{partition} {}, ", topic.topic, show_code(*error));
                }
            }
            text + &show_initialize(&altered.initialize)
        }
        ShareReply::DeleteOffsets(Ok(deleted)) => {
            let mut text = format!("delete {}", show_partitions(&deleted.states));
            for (topic, error) in &deleted.refused {
                let _ = write!(text, ", {topic} {}", show_code(Some(error.code)));
            }
            text
        }
        ShareReply::Heartbeat(Err(error))
        | ShareReply::Describe(Err(error))
        | ShareReply::AlterOffsets(Err(error))
        | ShareReply::DeleteOffsets(Err(error)) => show_code(Some(error.code)),
        ShareReply::InitializedPartitions(partitions) => show_partitions(partitions),
        ShareReply::DeleteState(Ok(partitions)) => format!("delete {}", show_partitions(partitions)),
        ShareReply::DeleteState(Err(code)) => show_code(Some(*code)),
        ShareReply::Done => "done".to_owned(),
    }
}

fn show_topics(topics: &NamedTopics) -> String {
    let plain: Partitions = topics.iter().map(|(id, topic)| (*id, topic.partitions.clone())).collect();
    show_partitions(&plain)
}

fn show_state(state: &StatePartitions) -> String {
    let (initializing, initialized) = (show_topics(&state.initializing), show_topics(&state.initialized));
    let one = |(id, name): (&Uuid, &Arc<str>)| format!("{}={name}", letter_of(*id));
    let deleting: Vec<String> = state.deleting.iter().map(one).collect();
    format!("initializing {initializing} initialized {initialized} deleting [{}]", deleting.join(" "))
}

pub(super) fn show_record(record: &ShareRecord) -> String {
    let about = match &record.body {
        Body::Epoch(Some(value)) => format!("epoch={}", value.epoch),
        Body::Epoch(None) => "gone".to_owned(),
        Body::Member { member_id, value: Some(value) } => {
            let topics: Vec<String> = value.topics.iter().map(ToString::to_string).collect();
            format!("member {} topics={}", shown_id(member_id), topics.join(","))
        }
        Body::Member { member_id, value: None } => format!("member {} gone", shown_id(member_id)),
        Body::TargetEpoch(Some(value)) => format!("target epoch={} at={}", value.epoch, value.assigned_at_ms),
        Body::TargetEpoch(None) => "target gone".to_owned(),
        Body::Target { member_id, value: Some(value) } => {
            format!("target {} {}", shown_id(member_id), show_partitions(value))
        }
        Body::Target { member_id, value: None } => format!("target {} gone", shown_id(member_id)),
        Body::Current { member_id, value: Some(value) } => format!(
            "current {} epoch={} before={} {:?} {}",
            shown_id(member_id),
            value.epoch,
            value.previous_epoch,
            value.state,
            show_partitions(&value.assigned)
        ),
        Body::Current { member_id, value: None } => format!("current {} gone", shown_id(member_id)),
        Body::Own(Own::StatePartitions(Some(value))) => show_state(value),
        Body::Own(Own::StatePartitions(None)) => "state gone".to_owned(),
    };
    format!("{} share {about}", record.group_id)
}

pub(super) fn show_group(group: &ShareGroup, out: &mut String) {
    let epochs = format!("epoch={} target={}", group.epoch, group.target.epoch);
    let state = show_state(&group.state_partitions);
    let _ = writeln!(out, "{} share {} {epochs} {state}", group.group_id, group.state().name());
    for (member_id, member) in &group.members {
        let current = &member.current;
        let has = show_partitions(&current.assigned);
        let _ = write!(out, "  {} epoch={} has {has}", shown_id(member_id), current.epoch);
        let target = group.target.of(member_id);
        let more = if target == current.assigned { String::new() } else { show_partitions(&target) };
        let _ = writeln!(out, "{}{more}", if more.is_empty() { "" } else { " target " });
    }
}
