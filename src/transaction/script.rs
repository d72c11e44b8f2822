//! The words of the golden scripts in `scripts/`.
//!
//! A caller is a producer, whose transactional id is its name. It remembers its producer id and epoch from the last
//! reply, and uses them unless the script says otherwise (`producer=id/epoch`). Fresh producer ids are counted from 1.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::sync::atomic::AtomicI16;
use std::sync::{Arc, Weak};

use goldenscript::Command as Line;

use super::command::{
    Command, EndTransaction, InTransaction, InitProducerId, Producer, Refused, Reply, TransactionFilter,
};
use super::core::{Event, Timer, TransactionCore};
use super::journal::TransactionJournal;
use super::record::Record;
use super::settings::TransactionSettings;
use super::state::{NO_EPOCH, NO_PRODUCER_ID, Transaction};
use crate::error::ErrorCode;
use crate::shard::Core as _;
use crate::shard::script::{Scripted, run_all};
use crate::shard::script_log::ScriptLog;
use crate::types::{ProducerId, TRANSACTION_STATE_TOPIC, TopicPartition};

type Outcome<T> = Result<T, Box<dyn Error>>;

const NOBODY: Producer = Producer { id: NO_PRODUCER_ID, epoch: NO_EPOCH };

/// What the producers of a script remember.
pub(crate) struct Memory {
    settings: TransactionSettings,
    version: i16,
    last_id: ProducerId,
    producers: BTreeMap<String, Producer>,
}

impl Default for Memory {
    fn default() -> Self {
        let settings = TransactionSettings::default();
        Self { settings, version: 2, last_id: 0, producers: BTreeMap::new() }
    }
}

fn producer(text: &str) -> Outcome<Producer> {
    let (id, epoch) = text.split_once('/').ok_or("a producer is written as id/epoch")?;
    Ok(Producer { id: id.parse()?, epoch: epoch.parse()? })
}

fn partition(text: &str) -> TopicPartition {
    let (topic, partition) = text.split_once('/').unwrap_or((text, "0"));
    TopicPartition { topic: topic.into(), partition: partition.parse().unwrap_or(0) }
}

fn show_partitions<'a>(partitions: impl IntoIterator<Item = &'a TopicPartition>) -> String {
    let shown: Vec<_> = partitions.into_iter().map(|p| format!("{}/{}", p.topic, p.partition)).collect();
    format!("[{}]", shown.join(" "))
}

fn show_code(code: Option<ErrorCode>) -> String {
    code.map_or_else(|| "ok".to_owned(), |code| format!("{} {code:?}", code.code()))
}

fn show_transaction(transaction: &Transaction) -> String {
    let mut out = format!(
        "{} producer={}/{}",
        transaction.state.name(),
        transaction.producer_id,
        transaction.producer_epoch
    );
    if transaction.next_producer_id != NO_PRODUCER_ID {
        let _ = write!(out, " next={}", transaction.next_producer_id);
    }
    let _ = write!(out, " started={} version={}", transaction.started_ms, transaction.client_version);
    if !transaction.partitions.is_empty() {
        let _ = write!(out, " {}", show_partitions(&transaction.partitions));
    }
    out
}

impl Scripted for TransactionCore {
    type Memory = Memory;

    fn fresh(memory: &Memory) -> Self {
        Self::new(Arc::new(memory.settings.clone()), memory.version)
    }

    fn configure(memory: &mut Memory, key: &str, value: &str) -> Outcome<()> {
        match key {
            "version" => memory.version = value.parse()?,
            "max_timeout" => memory.settings.max_timeout_ms = value.parse()?,
            "expiration" => memory.settings.expiration_ms = value.parse()?,
            "timed_out_interval" => memory.settings.timed_out_interval_ms = value.parse()?,
            "expired_interval" => memory.settings.expired_interval_ms = value.parse()?,
            _ => return Err(format!("no such setting: {key}").into()),
        }
        Ok(())
    }

    fn parse(memory: &mut Memory, caller: &str, line: &Line) -> Outcome<Command> {
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
        let transactional_id: Arc<str> = caller.into();
        let known = memory.producers.get(caller).copied().unwrap_or(NOBODY);
        let producer_of = |key| keys.get(key).map(|text| producer(text)).transpose();
        let current = producer_of("producer")?.unwrap_or(known);
        let client_version = keys.get("version").map_or(Ok(memory.version), |text| text.parse())?;
        let fresh = match keys.get("fresh").map(String::as_str) {
            Some("none") => None,
            Some(id) => Some(id.parse()?),
            None => Some(memory.last_id + 1),
        };
        let in_transaction = || InTransaction {
            transactional_id: caller.into(),
            producer: current,
            partitions: words.iter().map(|word| partition(word)).collect(),
            client_version,
        };
        Ok(match line.name.as_str() {
            "init" => Command::Init(InitProducerId {
                transactional_id,
                timeout_ms: keys.get("timeout").map_or(Ok(60_000), |text| text.parse())?,
                expected: producer_of("expect")?,
                fresh_producer_id: fresh,
            }),
            "add" => Command::AddPartitions(in_transaction()),
            "verify" => Command::VerifyPartitions(in_transaction()),
            "commit" | "abort" => Command::End(EndTransaction {
                transactional_id,
                producer: current,
                is_commit: line.name == "commit",
                client_version,
                fresh_producer_id: fresh,
            }),
            "complete" => Command::Complete { transactional_id, producer: current },
            "abort-timed-out" => Command::AbortTimedOut {
                transactional_id,
                producer: current,
                fresh_producer_id: fresh.ok_or("a fresh id is needed")?,
            },
            "describe" => Command::Describe { transactional_id },
            "list" => {
                let list = |key| keys.get(key).into_iter().flat_map(|text: &String| text.split(','));
                Command::List(TransactionFilter {
                    states: list("states").map(str::to_owned).collect(),
                    producer_ids: list("ids").map(str::parse).collect::<Result<_, _>>()?,
                    duration_ms: keys.get("duration").map_or(Ok(-1), |text| text.parse())?,
                })
            }
            "set-version" => Command::SetVersion(client_version),
            unknown => return Err(format!("no such command: {unknown}").into()),
        })
    }

    fn observe(memory: &mut Memory, caller: &str, reply: &Reply) {
        if let Reply::Producer(Ok(producer)) = reply
            && *producer != NOBODY
        {
            memory.last_id = memory.last_id.max(producer.id);
            memory.producers.insert(caller.to_owned(), *producer);
        }
    }

    fn show_reply(reply: &Reply) -> String {
        match reply {
            Reply::Producer(Ok(producer)) if *producer == NOBODY => "ok".to_owned(),
            Reply::Producer(Ok(producer)) => format!("is {}/{}", producer.id, producer.epoch),
            Reply::Producer(Err(Refused::NeedsProducerId)) => "needs a producer id".to_owned(),
            Reply::Producer(Err(Refused::Code(code))) | Reply::Verified(Err(code)) => show_code(Some(*code)),
            Reply::Added(result) => show_code(result.err()),
            Reply::Verified(Ok(verified)) => {
                let shown = verified.iter().map(|(partition, error)| {
                    format!("{}/{} {}", partition.topic, partition.partition, show_code(*error))
                });
                shown.collect::<Vec<_>>().join(", ")
            }
            Reply::Described(transaction) => {
                transaction.as_ref().map_or_else(|| "unknown".to_owned(), show_transaction)
            }
            Reply::Listed(listed) => {
                let shown = listed.iter().map(|listed| {
                    format!("{} {} {}", listed.transactional_id, listed.producer_id, listed.state)
                });
                format!("[{}]", shown.collect::<Vec<_>>().join(", "))
            }
            Reply::Done => "done".to_owned(),
        }
    }

    fn show_record(event: &Event) -> Option<String> {
        match event {
            Event::Record(Record { transactional_id, value: Some(transaction) }) => {
                Some(format!("{transactional_id} {}", show_transaction(transaction)))
            }
            Event::Record(Record { transactional_id, value: None }) => {
                Some(format!("{transactional_id} gone"))
            }
            Event::WriteMarkers(ended) => Some(format!(
                "markers of {}: {} producer={}/{} version={} {}",
                ended.transactional_id,
                if ended.is_commit { "commit" } else { "abort" },
                ended.producer.id,
                ended.producer.epoch,
                ended.transaction_version,
                show_partitions(&ended.partitions)
            )),
            Event::NeedsProducerId { transactional_id, producer } => Some(format!(
                "a producer id for {transactional_id}, which is {}/{}",
                producer.id, producer.epoch
            )),
            Event::Version(_) => None,
        }
    }

    fn show_timer(timer: &Timer) -> String {
        format!("{timer:?}")
    }

    fn show_state(&self) -> String {
        let mut out = String::new();
        for (transactional_id, transaction) in &self.transactions {
            let _ = writeln!(out, "{transactional_id} {}", show_transaction(transaction));
        }
        out
    }

    fn check_records(fresh: Self, records: &[Event]) {
        if records.is_empty() {
            return;
        }
        let mut want = fresh.clone();
        records.iter().for_each(|record| want.replay(record));
        // Records do not have it: nobody asks for the epoch before after a restart.
        want.transactions.values_mut().for_each(|transaction| transaction.last_producer_epoch = NO_EPOCH);
        let log = ScriptLog::new(TRANSACTION_STATE_TOPIC);
        let level = Arc::new(AtomicI16::new(2));
        let loaded = log.load(records, |partition, store| {
            TransactionJournal::new(partition, 0, store, Arc::default(), Arc::clone(&level), Weak::new())
        });
        for (from, core) in ["the view", "the log", "both"].into_iter().zip(loaded) {
            assert_eq!(core.transactions, want.transactions, "loaded from {from}");
        }
    }

    fn check(&self) {
        for transaction in self.transactions.values() {
            assert!(transaction.producer_id >= 0 && transaction.producer_epoch >= 0, "{transaction:?}");
            assert!(
                transaction.state.is_at_rest() == transaction.partitions.is_empty()
                    || transaction.state.is_ending(),
                "{transaction:?}"
            );
        }
    }
}

#[test]
fn scripts() {
    run_all::<TransactionCore>("src/transaction/scripts");
}
