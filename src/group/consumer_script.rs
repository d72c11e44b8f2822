//! The words of the golden scripts that are about consumer groups.
//!
//! A caller is a client: it remembers its epoch and its partitions from the last answer, and says in its heartbeats that
//! it has these, and no others: it gives up at once what it is told to. `busy=yes` leaves that out.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::assignor::{Assignor, Partitions};
use super::cluster::{ClusterView, Topic};
use super::command::{Command, ConsumerHeartbeat, DescribedConsumerGroup, HeartbeatAnswer, NamedPartitions};
use super::consumer::ConsumerGroup;
use super::consumer::member::{Epochs, without_epochs};
use super::consumer::record::{Body, ConsumerRecord, Own};
use super::script::{Keys, Memory, shown_id};
use super::settings::MigrationPolicy;

/// What a client of the consumer protocol remembers.
#[derive(Default)]
pub(super) struct Consumer {
    member_id: Arc<str>,
    epoch: i32,
    owned: Partitions,
}

/// `t:3,u:1`: topics and how many partitions they have. Ids are the first letter of the name.
fn parse_topics(text: &str) -> Vec<Topic> {
    let topics = text.split([',', ' ']).filter(|item| !item.is_empty());
    let topic = |item: &str| {
        let (name, count) = item.split_once(':').unwrap_or((item, "1"));
        Topic::new(name, id_of(name), count.parse().unwrap_or(1))
    };
    topics.map(topic).collect()
}

pub(super) fn id_of(name: &str) -> Uuid {
    Uuid::from_u128(name.bytes().next().unwrap_or(0).into())
}

pub(super) fn letter_of(id: Uuid) -> char {
    char::from(u8::try_from(id.as_u128()).unwrap_or(b'?'))
}

pub(super) fn configure(memory: &mut Memory, key: &str, value: &str) -> Result<(), Box<dyn Error>> {
    let settings = &mut memory.settings;
    let cluster = Arc::make_mut(&mut memory.cluster);
    match key {
        "consumer_max_size" => settings.consumer_max_size = value.parse()?,
        "migration" => settings.migration = MigrationPolicy::by_name(value).ok_or("no such policy")?,
        "assignors" => settings.assignors = value.split(',').filter_map(Assignor::by_name).collect(),
        "refresh" => settings.expression_refresh_interval_ms = value.parse()?,
        "session" => cluster.times.session_timeout_ms = value.parse()?,
        "interval" => cluster.times.assignment_interval_ms = value.parse()?,
        "topics" => {
            (cluster.version, cluster.topics_version, cluster.new_topics_version) = (1, 1, 1);
            parse_topics(value).into_iter().for_each(|topic| cluster.put(topic));
        }
        "streams_max_size" => settings.streams_max_size = value.parse()?,
        "streams_delay" => cluster.streams_times.initial_rebalance_delay_ms = value.parse()?,
        "streams_interval" => cluster.streams_times.assignment_interval_ms = value.parse()?,
        "standbys" => cluster.streams_times.standby_replicas = value.parse()?,
        _ => return super::share_script::configure(memory, key, value),
    }
    Ok(())
}

/// `cluster topics="t:4" gone=u`
pub(super) fn parse_cluster(memory: &mut Memory, keys: &Keys<'_>) -> Command {
    let cluster: &mut ClusterView = Arc::make_mut(&mut memory.cluster);
    cluster.version += 1;
    cluster.topics_version = cluster.version;
    for topic in parse_topics(keys.text("topics", "")) {
        if cluster.topic(&topic.name).is_none() {
            cluster.new_topics_version = cluster.version;
        }
        cluster.put(topic);
    }
    if let Some(replicas) = keys.0.get("standbys").and_then(|text| text.parse().ok()) {
        cluster.streams_times.standby_replicas = replicas;
    }
    for name in keys.list("gone") {
        cluster.remove(id_of(name));
    }
    Command::ClusterChanged { cluster: memory.cluster.clone() }
}

/// A heartbeat; the first one of a caller joins. `member=` begins a new life.
pub(super) fn parse_heartbeat(memory: &mut Memory, caller: &str, keys: &Keys<'_>) -> ConsumerHeartbeat {
    if let Some(member_id) = keys.optional("member") {
        memory.consumers.insert(caller.to_owned(), Consumer { member_id, ..Consumer::default() });
    }
    let known = memory
        .consumers
        .entry(caller.to_owned())
        .or_insert_with(|| Consumer { member_id: caller.into(), ..Consumer::default() });
    let member_epoch = keys.number("epoch", known.epoch);
    let joins = member_epoch == 0;
    if joins {
        known.owned.clear();
    }
    let names = |text: &str| -> BTreeSet<Arc<str>> {
        text.split([',', ' ']).filter(|name| !name.is_empty()).map(Into::into).collect()
    };
    let is_busy = keys.0.contains_key("busy");
    ConsumerHeartbeat {
        group_id: keys.id("group", "g"),
        member_id: known.member_id.clone(),
        member_epoch,
        instance_id: keys.optional("instance"),
        rack_id: keys.optional("rack"),
        rebalance_timeout_ms: if joins { keys.number("rebalance", 60_000) } else { -1 },
        topics: keys.0.get("topics").map(|text| names(text)),
        expression: keys.optional("regex"),
        assignor: keys.optional("assignor"),
        owned: (!is_busy).then(|| known.owned.clone()),
        client_id: caller.into(),
        client_host: "/127.0.0.1".into(),
        fresh_member_id: format!("{caller}-fresh").into(),
    }
}

pub(super) fn observe(memory: &mut Memory, caller: &str, answer: &HeartbeatAnswer) {
    let known = memory.consumers.entry(caller.to_owned()).or_default();
    known.member_id = answer.member_id.clone();
    known.epoch = answer.member_epoch.max(0);
    if let Some(assignment) = &answer.assignment {
        known.owned = assignment.clone();
    }
}

/// What a consumer of the classic protocol puts into its join: version 0, or version 1 with `owned="t:0+1 u:0"`.
pub(super) fn subscription(topics: &[&str], keys: &Keys<'_>) -> Bytes {
    let owned = keys.0.get("owned");
    let mut bytes = BytesMut::new();
    bytes.put_i16(owned.is_some().into());
    put_length(&mut bytes, topics.len());
    topics.iter().for_each(|topic| put_text(&mut bytes, topic));
    bytes.put_i32(-1);
    if let Some(owned) = owned {
        put_partitions(&mut bytes, owned);
    }
    bytes.freeze()
}

/// What a leader of the classic protocol gives to everybody: `a=t:0+1,u:2 b=`.
pub(super) fn assignments(text: &str, member: impl Fn(&str) -> Arc<str>) -> Vec<(Arc<str>, Bytes)> {
    let one = |item: &str| {
        let (to, partitions) = item.split_once('=').unwrap_or((item, ""));
        let mut bytes = BytesMut::new();
        bytes.put_i16(0);
        put_partitions(&mut bytes, partitions);
        bytes.put_i32(-1);
        (member(to), bytes.freeze())
    };
    text.split(' ').map(one).collect()
}

fn put_length(bytes: &mut BytesMut, length: usize) {
    bytes.put_i32(i32::try_from(length).unwrap_or(0));
}

fn put_text(bytes: &mut BytesMut, text: &str) {
    bytes.put_i16(i16::try_from(text.len()).unwrap_or(0));
    bytes.put_slice(text.as_bytes());
}

fn put_partitions(bytes: &mut BytesMut, text: &str) {
    let topics: Vec<&str> = text.split([',', ' ']).filter(|item| !item.is_empty()).collect();
    put_length(bytes, topics.len());
    for topic in topics {
        let (name, partitions) = topic.split_once(':').unwrap_or((topic, ""));
        put_text(bytes, name);
        let partitions: Vec<i32> = partitions.split('+').filter_map(|text| text.parse().ok()).collect();
        put_length(bytes, partitions.len());
        partitions.into_iter().for_each(|partition| bytes.put_i32(partition));
    }
}

/// An assignment of the classic protocol, or bytes of another kind as they are.
pub(super) fn show_assignment(mut bytes: &[u8]) -> String {
    let mut read = || -> Option<String> {
        let version = bytes.try_get_i16().ok()?;
        let mut topics = Vec::new();
        for _ in 0..bytes.try_get_i32().ok()? {
            let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
            let name = String::from_utf8(bytes.get(..length)?.to_vec()).ok()?;
            bytes.advance(length);
            let mut partitions = Vec::new();
            for _ in 0..bytes.try_get_i32().ok()? {
                partitions.push(bytes.try_get_i32().ok()?.to_string());
            }
            topics.push(format!("{name}:{}", partitions.join("+")));
        }
        Some(format!("v{version}[{}]", topics.join(",")))
    };
    read().unwrap_or_else(|| "?".to_owned())
}

pub(super) fn show_partitions(partitions: &Partitions) -> String {
    if partitions.is_empty() {
        return "-".to_owned();
    }
    let topic = |(id, partitions): (&Uuid, &BTreeSet<i32>)| {
        let partitions: Vec<String> = partitions.iter().map(ToString::to_string).collect();
        format!("{}:{}", letter_of(*id), partitions.join(","))
    };
    partitions.iter().map(topic).collect::<Vec<_>>().join(" ")
}

/// Each partition with the epoch in which it was assigned: `t:0@2,1@3`.
fn show_epochs(epochs: &Epochs) -> String {
    if epochs.is_empty() {
        return "-".to_owned();
    }
    let mut topics = Vec::new();
    for (id, partitions) in epochs {
        let partitions: Vec<String> = partitions.iter().map(|(p, epoch)| format!("{p}@{epoch}")).collect();
        topics.push(format!("{}:{}", letter_of(*id), partitions.join(",")));
    }
    topics.join(" ")
}

pub(super) fn show_answer(answer: &HeartbeatAnswer) -> String {
    let mut text = format!("is {} epoch={}", shown_id(&answer.member_id), answer.member_epoch);
    if let Some(assignment) = &answer.assignment {
        let _ = write!(text, " has {}", show_partitions(assignment));
    }
    text
}

fn show_names<'a>(names: impl Iterator<Item = &'a Arc<str>>) -> String {
    names.map(ToString::to_string).collect::<Vec<_>>().join(",")
}

pub(super) fn show_record(record: &ConsumerRecord) -> String {
    let about = match &record.body {
        Body::Epoch(Some(value)) => format!("epoch={}", value.epoch),
        Body::Epoch(None) => "gone".to_owned(),
        Body::Own(Own::PartitionMetadata(value)) => {
            format!("partition metadata {}", if value.is_some() { "there" } else { "gone" })
        }
        Body::Member { member_id, value: Some(value) } => {
            let mut text =
                format!("member {} topics={}", shown_id(member_id), show_names(value.topics.iter()));
            for (name, value) in [
                ("regex", value.expression.as_ref().filter(|text| !text.is_empty())),
                ("instance", value.instance_id.as_ref()),
                ("assignor", value.assignor.as_ref()),
            ] {
                let _ = value.map(|value| write!(text, " {name}={value}"));
            }
            if let Some(classic) = &value.classic {
                let _ = write!(text, " classic={}", show_names(classic.protocols.iter().map(|p| &p.name)));
            }
            text
        }
        Body::Member { member_id, value: None } => format!("member {} gone", shown_id(member_id)),
        Body::TargetEpoch(Some(value)) => format!("target epoch={} at={}", value.epoch, value.assigned_at_ms),
        Body::TargetEpoch(None) => "target gone".to_owned(),
        Body::Target { member_id, value: Some(value) } => {
            format!("target {} {}", shown_id(member_id), show_partitions(value))
        }
        Body::Target { member_id, value: None } => format!("target {} gone", shown_id(member_id)),
        Body::Current { member_id, value: Some(value) } => {
            let (assigned, revoking) = (show_epochs(&value.assigned), show_epochs(&value.revoking));
            let epochs = format!("epoch={} before={}", value.epoch, value.previous_epoch);
            format!(
                "current {} {epochs} {:?} {assigned} revoking {revoking}",
                shown_id(member_id),
                value.state
            )
        }
        Body::Current { member_id, value: None } => format!("current {} gone", shown_id(member_id)),
        Body::Own(Own::Expression { expression, value: Some(value) }) => {
            format!("regex {expression} topics={}", show_names(value.topics.iter()))
        }
        Body::Own(Own::Expression { expression, value: None }) => format!("regex {expression} gone"),
    };
    format!("{} {about}", record.group_id)
}

pub(super) fn show_group(group: &ConsumerGroup, out: &mut String) {
    let (state, epochs) =
        (group.state().name(), format!("epoch={} target={}", group.epoch, group.target.epoch));
    let _ = writeln!(out, "{} consumer {state} {epochs}", group.group_id);
    for (member_id, member) in &group.members {
        let current = &member.current;
        let mut text = format!(
            "  {} epoch={} {:?} has {}",
            shown_id(member_id),
            current.epoch,
            current.state,
            show_partitions(&without_epochs(&current.assigned))
        );
        if !current.revoking.is_empty() {
            let _ = write!(text, " revoking {}", show_partitions(&without_epochs(&current.revoking)));
        }
        let target = group.target.of(member_id);
        if *target != without_epochs(&current.assigned) {
            let _ = write!(text, " target {}", show_partitions(&target));
        }
        text.push_str(if member.is_classic() { " classic" } else { "" });
        let _ = writeln!(out, "{text}");
    }
}

fn show_named(partitions: &NamedPartitions) -> String {
    let topics: Vec<String> = partitions.values().map(|(name, list)| format!("{name}:{list:?}")).collect();
    topics.join(" ")
}

pub(super) fn show_described(described: &DescribedConsumerGroup) -> String {
    let group = match &described.group {
        Ok(group) => group,
        Err(error) => return super::script::show_code(Some(error.code)),
    };
    let mut text = format!(
        "{} {} epoch={} target={} assignor={}",
        described.group_id, group.state, group.epoch, group.target_epoch, group.assignor
    );
    for member in &group.members {
        let kind = if member.metadata.classic.is_some() { "classic" } else { "consumer" };
        let id = shown_id(&member.member_id);
        let (has, target) = (show_named(&member.assignment), show_named(&member.target));
        let _ = write!(text, ", {kind} {id} epoch={} [{has}] target [{target}]", member.member_epoch);
    }
    text
}
