//! The words of the golden scripts in `scripts/`.
//!
//! A caller is a client: it remembers its member id and generation from the last reply, and uses them unless the script
//! says otherwise. Fresh ids are small numbers: the first member of client `a` is `a-1`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use goldenscript::Command as Line;
use uuid::Uuid;

use super::classic::ClassicGroup;
use super::cluster::ClusterView;
use super::command::{
    Command, CommitOffsets, CommitTransactionalOffsets, CommittedPartition, CommittedTopic, DeleteOffsets,
    DeletedTopic, FetchOffsets, FetchTopic, GroupFilter, Heartbeat, JoinGroup, JoinedGroup, LeaveGroup,
    LeavingMember, Protocol, Reply, SyncGroup, TopicOutcome, TransactionalCommit,
};
use super::consumer_script::{self, Consumer};
use super::core::{Event, GroupCore, Timer};
use super::journal::GroupJournal;
use super::kind::Group;
use super::record::Record;
use super::settings::GroupSettings;
use super::share_script::{self, ShareConsumer};
use super::streams_script::{self, StreamsClient};
use super::transactions::{OffsetKey, TransactionEvent};
use crate::error::ErrorCode;
use crate::log::Marker;
use crate::shard::Core as _;
use crate::shard::script::{Scripted, run_all};
use crate::shard::script_log::ScriptLog;
use crate::types::CONSUMER_OFFSETS_TOPIC;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What the clients of a script remember.
pub(crate) struct Memory {
    pub(super) settings: GroupSettings,
    pub(super) cluster: Arc<ClusterView>,
    /// The members of consumer groups.
    pub(super) consumers: BTreeMap<String, Consumer>,
    /// The members of share groups.
    pub(super) share_consumers: BTreeMap<String, ShareConsumer>,
    /// The members of streams groups.
    pub(super) streams: BTreeMap<String, StreamsClient>,
    fresh_ids: u128,
    members: BTreeMap<String, (Arc<str>, i32)>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            settings: GroupSettings::default(),
            cluster: Arc::new(ClusterView::empty()),
            consumers: BTreeMap::new(),
            share_consumers: BTreeMap::new(),
            streams: BTreeMap::new(),
            fresh_ids: 0,
            members: BTreeMap::new(),
        }
    }
}

impl Memory {
    fn member(&self, caller: &str) -> (Arc<str>, i32) {
        self.members.get(caller).cloned().unwrap_or_else(|| (Arc::default(), -1))
    }
}

/// The keyed arguments of a line.
pub(super) struct Keys<'a>(pub(super) BTreeMap<&'a str, &'a str>);

impl<'a> Keys<'a> {
    pub(super) fn text(&self, key: &str, default: &'a str) -> &'a str {
        self.0.get(key).copied().unwrap_or(default)
    }

    pub(super) fn id(&self, key: &str, default: &'a str) -> Arc<str> {
        written_id(self.text(key, default))
    }

    pub(super) fn optional(&self, key: &str) -> Option<Arc<str>> {
        self.0.get(key).map(|value| written_id(value))
    }

    pub(super) fn number<T: std::str::FromStr>(&self, key: &str, default: T) -> T {
        self.0.get(key).and_then(|value| value.parse().ok()).unwrap_or(default)
    }

    pub(super) fn list(&self, key: &str) -> Vec<&'a str> {
        self.0
            .get(key)
            .into_iter()
            .flat_map(|value| value.split([',', ' ']))
            .filter(|item| !item.is_empty())
            .collect()
    }
}

const FRESH: &str = "-00000000-0000-0000-0000-00000000000";

/// `a-1` as the core knows it.
fn written_id(text: &str) -> Arc<str> {
    match text.rsplit_once('-') {
        Some((client, number)) if number.len() == 1 && number.parse::<u8>().is_ok() => {
            format!("{client}{FRESH}{number}").into()
        }
        Some(_) | None => text.into(),
    }
}

/// A member id as scripts show it.
pub(super) fn shown_id(id: &str) -> String {
    if id.is_empty() { "-".to_owned() } else { id.replace(FRESH, "-") }
}

fn shown_name(name: Option<&Arc<str>>) -> String {
    name.map_or_else(|| "none".to_owned(), |name| shown_id(name))
}

fn shown_bytes(bytes: &[u8]) -> String {
    match bytes.first() {
        None => "-".to_owned(),
        Some(0) => consumer_script::show_assignment(bytes),
        Some(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn parse_join(memory: &mut Memory, caller: &str, keys: &Keys<'_>) -> JoinGroup {
    memory.fresh_ids += 1;
    let topics = keys.list("topics");
    let protocol = |text: &str| {
        let (name, metadata) = text.split_once(':').unwrap_or((text, ""));
        let metadata = if topics.is_empty() {
            Bytes::copy_from_slice(metadata.as_bytes())
        } else {
            consumer_script::subscription(&topics, keys)
        };
        Protocol { name: name.into(), metadata }
    };
    let protocols =
        keys.text("protocols", "range").split([',', ' ']).filter(|text| !text.is_empty()).map(protocol);
    let version = keys.number("version", 9);
    let session_timeout_ms = keys.number("session", 10_000);
    JoinGroup {
        group_id: keys.id("group", "g"),
        member_id: keys.optional("member").unwrap_or_else(|| memory.member(caller).0),
        group_instance_id: keys.optional("instance"),
        client_id: caller.into(),
        client_host: "/127.0.0.1".into(),
        protocol_type: keys.id("type", "consumer"),
        protocols: protocols.collect(),
        session_timeout_ms,
        rebalance_timeout_ms: keys.number("rebalance", 60_000),
        member_id_required: version >= 4,
        can_skip_assignment: version >= 9,
        fresh_id: Uuid::from_u128(memory.fresh_ids),
        reason: None,
    }
}

fn parse_sync(memory: &Memory, caller: &str, keys: &Keys<'_>) -> SyncGroup {
    let (member_id, generation_id) = memory.member(caller);
    let assignment = |text: &str| {
        let (to, bytes) = text.split_once(':').unwrap_or((text, ""));
        let known = memory.members.get(to).map(|(id, _)| id.clone());
        (known.unwrap_or_else(|| written_id(to)), Bytes::copy_from_slice(bytes.as_bytes()))
    };
    SyncGroup {
        group_id: keys.id("group", "g"),
        generation_id: keys.number("generation", generation_id),
        member_id: keys.optional("member").unwrap_or(member_id),
        group_instance_id: keys.optional("instance"),
        protocol_type: keys.optional("type"),
        protocol_name: keys.optional("protocol"),
        assignments: match keys.0.get("parts") {
            Some(text) => consumer_script::assignments(text, |to| assignment(to).0),
            None => keys.list("assign").into_iter().map(assignment).collect(),
        },
    }
}

fn parse_heartbeat(memory: &Memory, caller: &str, keys: &Keys<'_>) -> Heartbeat {
    let (member_id, generation_id) = memory.member(caller);
    Heartbeat {
        group_id: keys.id("group", "g"),
        generation_id: keys.number("generation", generation_id),
        member_id: keys.optional("member").unwrap_or(member_id),
        group_instance_id: keys.optional("instance"),
    }
}

fn parse_leave(memory: &Memory, caller: &str, keys: &Keys<'_>) -> LeaveGroup {
    let member = |member_id, group_instance_id| LeavingMember { member_id, group_instance_id, reason: None };
    let mut members: Vec<_> =
        keys.list("members").into_iter().map(|id| member(written_id(id), None)).collect();
    members.extend(keys.list("instances").into_iter().map(|id| member(Arc::default(), Some(id.into()))));
    if members.is_empty() {
        let member_id = keys.optional("member").unwrap_or_else(|| memory.member(caller).0);
        members.push(member(member_id, keys.optional("instance")));
    }
    LeaveGroup { group_id: keys.id("group", "g"), members }
}

pub(super) fn topic_id(topic: &str, keys: &Keys<'_>) -> Uuid {
    let first = topic.bytes().next().unwrap_or(0);
    Uuid::from_u128(keys.number("topic_id", u128::from(first)))
}

/// `t/0`: partition 0 of topic t.
fn partition_of(text: &str) -> (Arc<str>, i32) {
    let (topic, partition) = text.split_once('/').unwrap_or((text, "0"));
    (topic.into(), partition.parse().unwrap_or(0))
}

fn parse_commit(memory: &Memory, caller: &str, keys: &Keys<'_>) -> CommitOffsets {
    let (member_id, generation_id) = memory.member(caller);
    let version = keys.number("version", 9);
    let committed = keys.0.iter().filter(|(key, _)| key.contains('/')).map(|(key, offset)| {
        let (topic, partition) = partition_of(key);
        let committed = CommittedPartition {
            partition,
            offset: offset.parse().unwrap_or(0),
            leader_epoch: keys.number("epoch", -1),
            metadata: keys.optional("metadata").map(|text| text.to_string()),
        };
        CommittedTopic { topic_id: topic_id(&topic, keys), topic, partitions: vec![committed] }
    });
    CommitOffsets {
        group_id: keys.id("group", "g"),
        generation_id: keys.number("generation", generation_id),
        member_id: keys.optional("member").unwrap_or(member_id),
        group_instance_id: keys.optional("instance"),
        retention_time_ms: keys.0.get("retention").and_then(|text| text.parse().ok()),
        unknown_group: if version >= 9 { ErrorCode::GroupIdNotFound } else { ErrorCode::IllegalGeneration },
        topics: committed.collect(),
    }
}

fn parse_fetch(partitions: &[&str], keys: &Keys<'_>) -> FetchOffsets {
    let asked = |text: &&str| {
        let (topic, partition) = partition_of(text);
        FetchTopic { topic_id: topic_id(&topic, keys), topic, partitions: vec![partition] }
    };
    let topics = (!partitions.is_empty()).then(|| partitions.iter().map(asked).collect());
    // `member=a-1 epoch=2` asks as a member.
    let member = keys.optional("member").map(|member_id| (member_id, keys.number("epoch", -1)));
    let require_stable = keys.text("stable", "false") == "true";
    FetchOffsets { group_id: keys.id("group", "g"), member, topics, require_stable }
}

fn show_joined(joined: &JoinedGroup) -> String {
    let mut text = format!(
        "joined as {} generation={} protocol={}/{} leader={}",
        shown_id(&joined.member_id),
        joined.generation_id,
        shown_name(joined.protocol_type.as_ref()),
        shown_name(joined.protocol_name.as_ref()),
        shown_id(&joined.leader),
    );
    if joined.skip_assignment {
        text.push_str(" skip_assignment");
    }
    if !joined.members.is_empty() {
        let member = |member: &super::command::JoinedMember| {
            let instance = member.group_instance_id.as_ref().map(|id| format!("({id})")).unwrap_or_default();
            format!("{}{instance}", shown_id(&member.member_id))
        };
        let members: Vec<String> = joined.members.iter().map(member).collect();
        let _ = write!(text, " members={}", members.join(","));
    }
    text
}

pub(super) fn show_code(code: Option<ErrorCode>) -> String {
    code.map_or_else(|| "ok".to_owned(), |code| format!("{} {code:?}", code.code()))
}

fn show_outcomes(outcomes: &[TopicOutcome]) -> String {
    let mut shown = Vec::new();
    for outcome in outcomes {
        for (partition, error) in &outcome.partitions {
            shown.push(format!("{}/{partition} {}", outcome.topic, show_code(*error)));
        }
    }
    shown.join(", ")
}

fn show_record(record: &Record) -> String {
    match record {
        Record::Offset { group_id, topic, partition, value: None } => {
            format!("{group_id} {topic}/{partition} gone")
        }
        Record::Offset { group_id, topic, partition, value: Some(value) } => {
            format!("{group_id} {topic}/{partition}={}", value.offset)
        }
        Record::Group { group_id, value: None } => format!("{group_id} gone"),
        Record::Consumer(record) => consumer_script::show_record(record),
        Record::Share(record) => share_script::show_record(record),
        Record::Streams(record) => streams_script::show_record(record),
        Record::Group { group_id, value: Some(value) } => {
            let member = |member: &super::record::MemberMetadata| {
                format!("{}:{}", shown_id(&member.member_id), shown_bytes(&member.assignment))
            };
            let members: Vec<String> = value.members.iter().map(member).collect();
            let members = members.join(",");
            format!(
                "{group_id} generation={} protocol={}/{} leader={} since={} members=[{members}]",
                value.generation_id,
                shown_id(&value.protocol_type),
                shown_name(value.protocol_name.as_ref()),
                shown_name(value.leader.as_ref()),
                value.state_since_ms,
            )
        }
    }
}

fn show_transaction(event: &TransactionEvent) -> Option<String> {
    let shown = |key: &OffsetKey| format!("{} {}/{}", key.group_id, key.topic, key.partition);
    Some(match event {
        TransactionEvent::Added { producer_id, producer_epoch, key, pending } => {
            let offset = pending.value.as_ref().map_or(-1, |value| value.offset);
            format!("{}={offset} by {producer_id}/{producer_epoch}", shown(key))
        }
        TransactionEvent::Superseded { producer_id, key, .. } => {
            format!("{} by {producer_id} does not count", shown(key))
        }
        TransactionEvent::Dropped { producer_id, key } => format!("{} by {producer_id} gone", shown(key)),
        TransactionEvent::Ended { marker, committed, .. } => {
            let committed: Vec<_> =
                committed.iter().map(|(key, value)| format!("{}={}", shown(key), value.offset)).collect();
            let what = if marker.is_commit { "commit" } else { "abort" };
            let (id, epoch) = (marker.producer_id, marker.producer_epoch);
            format!("marker: {what} of {id}/{epoch} [{}]", committed.join(", "))
        }
        TransactionEvent::Forgotten(_) => return None,
    })
}

fn show_group(group: &ClassicGroup, out: &mut String) {
    let _ = writeln!(
        out,
        "{} {} generation={} protocol={}/{} leader={}",
        group.group_id,
        group.state.name(),
        group.generation_id,
        shown_name(group.protocol_type.as_ref()),
        shown_name(group.protocol_name.as_ref()),
        shown_name(group.leader.as_ref()),
    );
    for member in group.members.values() {
        let mut marks =
            member.group_instance_id.as_ref().map(|id| format!(" instance={id}")).unwrap_or_default();
        for (mark, is_set) in [
            (" new", member.is_new),
            (" joining", member.awaiting_join.is_some()),
            (" syncing", member.awaiting_sync.is_some()),
            (" to-sync", group.pending_sync.contains(&member.member_id)),
        ] {
            marks.push_str(if is_set { mark } else { "" });
        }
        let _ =
            writeln!(out, "  {} has {}{marks}", shown_id(&member.member_id), shown_bytes(&member.assignment));
    }
    for member_id in &group.pending_members {
        let _ = writeln!(out, "  {} pending", shown_id(member_id));
    }
}

impl Scripted for GroupCore {
    type Memory = Memory;

    fn fresh(memory: &Memory) -> Self {
        Self::new(Arc::new(memory.settings.clone()), memory.cluster.clone())
    }

    fn configure(memory: &mut Memory, key: &str, value: &str) -> Outcome<()> {
        let settings = &mut memory.settings;
        match key {
            "initial_delay" => settings.initial_rebalance_delay_ms = value.parse()?,
            "max_size" => settings.max_size = value.parse()?,
            "retention" => settings.offsets_retention_ms = value.parse()?,
            "check_interval" => settings.offsets_retention_check_interval_ms = value.parse()?,
            "metadata_max" => settings.offset_metadata_max_bytes = value.parse()?,
            _ => return consumer_script::configure(memory, key, value),
        }
        Ok(())
    }

    fn parse(memory: &mut Memory, caller: &str, line: &Line) -> Outcome<Command> {
        let mut arguments = line.consume_args();
        let mut keys = Keys(BTreeMap::new());
        while let Some((key, value)) = arguments.next_key() {
            keys.0.insert(key, value);
        }
        let mut words = Vec::new();
        while let Some(word) = arguments.next_pos() {
            words.push(word);
        }
        let words = words.get(1..).unwrap_or_default();
        let ids = || words.iter().map(|word| (*word).into()).collect();
        Ok(match line.name.as_str() {
            "join" => Command::Join(parse_join(memory, caller, &keys)),
            "sync" => Command::Sync(parse_sync(memory, caller, &keys)),
            "heartbeat" => Command::Heartbeat(parse_heartbeat(memory, caller, &keys)),
            "leave" => Command::Leave(parse_leave(memory, caller, &keys)),
            "commit" => Command::CommitOffsets(parse_commit(memory, caller, &keys)),
            "fetch" => Command::FetchOffsets(parse_fetch(words, &keys)),
            "delete-offsets" => {
                let topics = words.iter().map(|word| partition_of(word)).map(|(topic, p)| (topic, vec![p]));
                Command::DeleteOffsets(DeleteOffsets {
                    group_id: keys.id("group", "g"),
                    topics: topics.collect(),
                })
            }
            "describe" => Command::Describe { group_ids: ids() },
            "list" => {
                let texts = |key| keys.list(key).into_iter().map(str::to_owned).collect();
                Command::List(GroupFilter { states: texts("states"), types: texts("types") })
            }
            "delete-groups" => Command::DeleteGroups { group_ids: ids() },
            "topics-deleted" => {
                let deleted =
                    |topic: &&str| DeletedTopic { topic: (*topic).into(), topic_id: topic_id(topic, &keys) };
                Command::TopicsDeleted { topics: words.iter().map(deleted).collect() }
            }
            "txn-commit" => {
                let commit = parse_commit(memory, caller, &keys);
                let generation_id = keys.number("generation", -1);
                let member_id = keys.optional("member").unwrap_or_default();
                Command::CommitTransactionalOffsets(CommitTransactionalOffsets {
                    producer_id: keys.number("pid", 1),
                    producer_epoch: keys.number("pepoch", 0),
                    supports_epoch_bump: keys.text("bumps", "true") == "true",
                    verified_at: keys.0.get("verified").and_then(|text| text.parse().ok()),
                    offsets: CommitOffsets { generation_id, member_id, ..commit },
                })
            }
            "end-txn" => Command::EndTransaction(Marker {
                producer_id: keys.number("pid", 1),
                producer_epoch: keys.number("pepoch", 0),
                coordinator_epoch: keys.number("coordinator", 0),
                is_commit: words.first() == Some(&"commit"),
                transaction_version: keys.number("version", 2),
            }),
            "count" => Command::Count,
            "hb" => {
                Command::ConsumerHeartbeat(Box::new(consumer_script::parse_heartbeat(memory, caller, &keys)))
            }
            "cluster" => consumer_script::parse_cluster(memory, &keys),
            "shb" => {
                Command::StreamsHeartbeat(Box::new(streams_script::parse_heartbeat(memory, caller, &keys)))
            }
            "describe-streams" => Command::DescribeStreams { group_id: words.concat().into() },
            "describe-consumer" => Command::DescribeConsumer { group_id: words.concat().into() },
            name => share_script::parse(memory, name, caller, words, &keys)
                .ok_or_else(|| format!("no such command: {name}"))?,
        })
    }

    fn observe(memory: &mut Memory, caller: &str, reply: &Reply) {
        if let Reply::ConsumerHeartbeat(Ok(answer)) = reply {
            return consumer_script::observe(memory, caller, answer);
        }
        if let Reply::Share(reply) = reply {
            return share_script::observe(memory, caller, reply);
        }
        if let Reply::StreamsHeartbeat(Ok(answer)) = reply {
            return streams_script::observe(memory, caller, answer);
        }
        let Reply::Join(join) = reply else { return };
        let seen = match join {
            Ok(joined) => (joined.member_id.clone(), joined.generation_id),
            Err(refused) if refused.code == ErrorCode::MemberIdRequired => (refused.member_id.clone(), -1),
            Err(refused) if refused.code == ErrorCode::UnknownMemberId => (Arc::default(), -1),
            Err(_) => return,
        };
        memory.members.insert(caller.to_owned(), seen);
    }

    fn show_reply(reply: &Reply) -> String {
        match reply {
            Reply::Join(Ok(joined)) => show_joined(joined),
            Reply::Join(Err(refused)) => {
                format!("{} as {}", show_code(Some(refused.code)), shown_id(&refused.member_id))
            }
            Reply::Sync(Ok(synced)) => format!("has {}", shown_bytes(&synced.assignment)),
            Reply::Heartbeat(result) => show_code(result.err()),
            Reply::Leave(Ok(left)) => {
                let shown = left.iter().map(|left| {
                    let who = left.group_instance_id.as_ref().unwrap_or(&left.member_id);
                    format!("{} {}", shown_id(who), show_code(left.error))
                });
                shown.collect::<Vec<_>>().join(", ")
            }
            Reply::CommitOffsets(Ok(outcomes)) | Reply::DeleteOffsets(Ok(outcomes)) => {
                show_outcomes(outcomes)
            }
            Reply::Sync(Err(code))
            | Reply::Leave(Err(code))
            | Reply::CommitOffsets(Err(code))
            | Reply::DeleteOffsets(Err(code)) => show_code(Some(*code)),
            Reply::ConsumerHeartbeat(Ok(answer)) => consumer_script::show_answer(answer),
            Reply::ConsumerHeartbeat(Err(error)) => show_code(Some(error.code)),
            Reply::Share(reply) => share_script::show_reply(reply),
            Reply::DescribeConsumer(described) => consumer_script::show_described(described),
            Reply::StreamsHeartbeat(Ok(answer)) => streams_script::show_answer(answer),
            Reply::StreamsHeartbeat(Err(error)) => show_code(Some(error.code)),
            Reply::DescribeStreams(described) => streams_script::show_described(described),
            Reply::ClusterChanged => "done".to_owned(),
            Reply::FetchOffsets(Err(code)) => show_code(Some(*code)),
            Reply::FetchOffsets(Ok(topics)) => {
                let shown = topics.iter().flat_map(|topic| {
                    let shown = |p: &super::command::FetchedPartition| {
                        let metadata = shown_id(&p.metadata);
                        let unstable = if p.is_unstable { " unstable" } else { "" };
                        format!(
                            "{}/{}={} epoch={} metadata={metadata}{unstable}",
                            topic.topic, p.partition, p.offset, p.leader_epoch
                        )
                    };
                    topic.partitions.iter().map(shown).collect::<Vec<_>>()
                });
                format!("[{}]", shown.collect::<Vec<_>>().join(", "))
            }
            Reply::Describe(groups) => format!("{groups:?}").replace(FRESH, "-"),
            Reply::List(groups) => {
                let shown = groups.iter().map(|g| {
                    format!("{} {} {} {}", g.group_id, shown_id(&g.protocol_type), g.state, g.group_type)
                });
                format!("[{}]", shown.collect::<Vec<_>>().join(", "))
            }
            Reply::DeleteGroups(results) => {
                let shown =
                    results.iter().map(|(group_id, error)| format!("{group_id} {}", show_code(*error)));
                shown.collect::<Vec<_>>().join(", ")
            }
            Reply::CommitTransactionalOffsets(Ok(TransactionalCommit::Done(outcomes))) => {
                show_outcomes(outcomes)
            }
            Reply::CommitTransactionalOffsets(Ok(TransactionalCommit::AskCoordinator(markers))) => {
                format!("asks the coordinator, after {markers} markers")
            }
            Reply::CommitTransactionalOffsets(Err(code)) => show_code(Some(*code)),
            Reply::EndTransaction(result) => show_code(result.err()),
            Reply::TopicsDeleted => "done".to_owned(),
            Reply::Count(counts) => format!("{counts:?}"),
        }
    }

    fn show_record(event: &Event) -> Option<String> {
        match event {
            Event::Record(record) => Some(show_record(record)),
            Event::Transaction(event) => show_transaction(event),
            Event::Classic { .. }
            | Event::Consumer { .. }
            | Event::Share { .. }
            | Event::Streams { .. }
            | Event::Cluster(_) => None,
        }
    }

    fn show_timer(timer: &Timer) -> String {
        match timer {
            Timer::Session { group_id, member_id } => {
                format!("session of {} in {group_id}", shown_id(member_id))
            }
            Timer::Join { group_id } => format!("join of {group_id}"),
            Timer::Sync { group_id } => format!("sync of {group_id}"),
            Timer::Revocation { group_id, member_id } => {
                format!("revocation of {} in {group_id}", shown_id(member_id))
            }
            Timer::Rejoin { group_id, member_id } => {
                format!("rejoin of {} in {group_id}", shown_id(member_id))
            }
            Timer::MemberSync { group_id, member_id } => {
                format!("sync of {} in {group_id}", shown_id(member_id))
            }
            Timer::Expressions { group_id } => format!("expressions of {group_id}"),
            Timer::InitialDelay { group_id } => format!("initial delay of {group_id}"),
            Timer::Expiration => "expiration".to_owned(),
        }
    }

    fn show_state(&self) -> String {
        let mut out = String::new();
        for group in self.groups.values() {
            match group {
                Group::Classic(group) => show_group(group, &mut out),
                Group::Consumer(group) => consumer_script::show_group(group, &mut out),
                Group::Share(group) => share_script::show_group(group, &mut out),
                Group::Streams(group) => streams_script::show_group(group, &mut out),
            }
        }
        out
    }

    fn check_records(fresh: Self, records: &[Event]) {
        if records.is_empty() {
            return;
        }
        let mut want = fresh.clone();
        records.iter().for_each(|record| want.replay(record));
        let log = ScriptLog::new(CONSUMER_OFFSETS_TOPIC);
        let loaded = log.load(records, |partition, store| {
            let cluster = Arc::new(ArcSwap::new(fresh.cluster.clone()));
            GroupJournal::new(partition, 0, store, fresh.settings.clone(), cluster)
        });
        for (from, core) in ["the view", "the log", "both"].into_iter().zip(loaded) {
            core.check();
            assert_eq!(lasting(&core), lasting(&want), "loaded from {from}: {records:#?}");
        }
    }

    fn check(&self) {
        for group in self.groups.values() {
            match group {
                Group::Classic(group) => group.check(),
                Group::Consumer(group) => group.check(),
                Group::Share(group) => group.check(),
                Group::Streams(group) => group.check(),
            }
        }
    }
}

/// What a restart has to find.
fn lasting(core: &GroupCore) -> String {
    format!("{}{:#?}{}", core.show_state(), core.offsets, core.transactional.lasting())
}

#[test]
fn scripts() {
    run_all::<GroupCore>("src/group/scripts");
}
