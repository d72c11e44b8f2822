//! The words of the golden scripts in `scripts/`.
//!
//! A caller is a share partition, whose topic has three partitions: `g/0` is partition 0 of topic 1 for the group `g`,
//! `g/2:0` is that of topic 2. Batches are written as `first-last/state/count`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::sync::{Arc, Weak};

use goldenscript::Command as Line;
use uuid::Uuid;

use super::command::{Answer, Ask, Command, Reply};
use super::core::{Event, ShareStateCore, Timer};
use super::journal::ShareStateJournal;
use super::record::{Record, Snapshot, Value};
use super::settings::ShareCoordinatorSettings;
use super::tests::batches;
use crate::shard::Core as _;
use crate::shard::script::{Scripted, run_all};
use crate::shard::script_log::ScriptLog;
use crate::share::types::{SharePartition, StateBatch, StateUpdate};
use crate::types::SHARE_GROUP_STATE_TOPIC;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn share_partition(text: &str) -> Outcome<SharePartition> {
    let (group_id, place) = text.rsplit_once('/').ok_or("a share partition is written as group/partition")?;
    let (topic, partition) = place.split_once(':').unwrap_or(("1", place));
    let topic_id = Uuid::from_u128(topic.parse()?);
    Ok(SharePartition { group_id: group_id.into(), topic_id, partition: partition.parse()? })
}

fn show_of(of: &SharePartition) -> String {
    match of.topic_id.as_u128() {
        1 => format!("{}/{}", of.group_id, of.partition),
        topic => format!("{}/{topic}:{}", of.group_id, of.partition),
    }
}

fn show_batches(batches: &[StateBatch]) -> String {
    let shown = batches.iter().map(|batch| {
        let StateBatch { first_offset, last_offset, delivery_state, delivery_count } = batch;
        format!("{first_offset}-{last_offset}/{delivery_state}/{delivery_count}")
    });
    format!("[{}]", shown.collect::<Vec<_>>().join(" "))
}

fn show_snapshot(state: &Snapshot) -> String {
    format!(
        "snapshot {} epoch={} leader={} start={} complete={} created={} written={} {}",
        state.snapshot_epoch,
        state.state_epoch,
        state.leader_epoch,
        state.start_offset,
        state.delivery_complete_count,
        state.created_ms,
        state.written_ms,
        show_batches(&state.batches)
    )
}

impl Scripted for ShareStateCore {
    type Memory = ShareCoordinatorSettings;

    fn fresh(memory: &Self::Memory) -> Self {
        Self::new(Arc::new(memory.clone()))
    }

    fn configure(memory: &mut Self::Memory, key: &str, value: &str) -> Outcome<()> {
        match key {
            "updates_per_snapshot" => memory.updates_per_snapshot = value.parse()?,
            "prune_interval" => memory.prune_interval_ms = value.parse()?,
            "cold_interval" => memory.cold_snapshot_interval_ms = value.parse()?,
            _ => return Err(format!("no such setting: {key}").into()),
        }
        Ok(())
    }

    fn parse(_memory: &mut Self::Memory, caller: &str, line: &Line) -> Outcome<Command> {
        let mut arguments = line.consume_args();
        let mut keys = BTreeMap::new();
        while let Some((key, value)) = arguments.next_key() {
            keys.insert(key.to_owned(), value.to_owned());
        }
        let mut words = Vec::new();
        while let Some(word) = arguments.next_pos() {
            words.push(word.to_owned());
        }
        let words = words.get(1..).unwrap_or_default();
        if line.name == "topics-deleted" {
            let topics = caller.split(',').map(|topic| Ok(Uuid::from_u128(topic.parse()?)));
            return Ok(Command::TopicsDeleted(topics.collect::<Outcome<_>>()?));
        }
        let number = |key: &str, default| keys.get(key).map_or(Ok(default), |text| text.parse::<i64>());
        let small = |key: &str, default| keys.get(key).map_or(Ok(default), |text| text.parse::<i32>());
        let ask = match line.name.as_str() {
            "initialize" => {
                Ask::Initialize { state_epoch: small("epoch", 0)?, start_offset: number("start", -1)? }
            }
            "read" => Ask::Read { leader_epoch: small("leader", -1)? },
            "write" => Ask::Write(StateUpdate {
                state_epoch: small("epoch", -1)?,
                leader_epoch: small("leader", -1)?,
                start_offset: number("start", -1)?,
                delivery_complete_count: small("complete", 0)?,
                batches: batches(&words.join(" ")),
            }),
            "delete" => Ask::Delete,
            "summary" => Ask::ReadSummary { leader_epoch: -1 },
            unknown => return Err(format!("no such command: {unknown}").into()),
        };
        let topic_partitions = small("partitions", 3)?;
        Ok(Command::On { of: share_partition(caller)?, topic_partitions, ask })
    }

    fn observe(_memory: &mut Self::Memory, _caller: &str, _reply: &Reply) {}

    fn show_reply(reply: &Reply) -> String {
        match reply {
            Ok(Answer::Done) => "ok".to_owned(),
            Ok(Answer::State(state)) => format!(
                "epoch={} start={} {}",
                state.state_epoch,
                state.start_offset,
                show_batches(&state.batches)
            ),
            Ok(Answer::Summary(summary)) => format!(
                "epoch={} leader={} start={} complete={}",
                summary.state_epoch,
                summary.leader_epoch,
                summary.start_offset,
                summary.delivery_complete_count
            ),
            Err(error) => format!("{} {:?}", error.code.code(), error.code),
        }
    }

    fn show_record(event: &Event) -> Option<String> {
        let Event::Record(Record { of, value }) = event else { return Some("nothing, but prune".to_owned()) };
        let shown = match value {
            Value::Snapshot(state) => show_snapshot(state),
            Value::Update(update) => format!(
                "update of {} leader={} start={} complete={} {}",
                update.snapshot_epoch,
                update.leader_epoch,
                update.start_offset,
                update.delivery_complete_count,
                show_batches(&update.batches)
            ),
            Value::Deleted => "gone".to_owned(),
        };
        Some(format!("{} {shown}", show_of(of)))
    }

    fn show_timer(timer: &Timer) -> String {
        format!("{timer:?}")
    }

    fn show_state(&self) -> String {
        let mut out = String::new();
        for (of, entry) in &self.entries {
            let fences = (entry.leader_epoch, entry.state_epoch.unwrap_or(-1));
            let shown = show_snapshot(&entry.state);
            let _ = writeln!(out, "{} {shown} fences={fences:?} updates={}", show_of(of), entry.updates);
        }
        out
    }

    fn check_records(fresh: Self, records: &[Event]) {
        if records.is_empty() {
            return;
        }
        let mut want = fresh.clone();
        records.iter().for_each(|record| want.replay(record));
        let loaded = ScriptLog::new(SHARE_GROUP_STATE_TOPIC).load_log(records, |partition, store| {
            ShareStateJournal::new(partition, 0, store, fresh.settings(), Weak::new())
        });
        assert_eq!(loaded.entries, want.entries);
    }

    fn check(&self) {
        for (of, entry) in &self.entries {
            let ends = entry.state.batches.windows(2).all(|two| two[0].last_offset < two[1].first_offset);
            assert!(ends, "{of:?} {entry:?}");
        }
    }
}

#[test]
fn scripts() {
    run_all::<ShareStateCore>("src/share/state/scripts");
}
