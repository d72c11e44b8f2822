//! The words of the golden scripts of share partitions.
//!
//! `log BATCH…` begins a new world with these batches in the log: `0-4`, `7/5-9` of the transactional producer 7,
//! `7/commit/10-10` and `7/abort/10-10`. `compact OFFSET…` takes the batches away that begin there, `log_start OFFSET`
//! those that end before. `fetch`, `ack`, `release` and `advance` are what members and time do; what is to be written is
//! written at once, unless `hold` was said: then `written` and `failed` tell. `restart` goes on with what is kept.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::str::FromStr;

use goldenscript::{Command, Context, Runner};

use super::batch::States;
use super::world::{Fetch, World};
use super::{Acknowledgement, AcquireMode, FetchedBatch, RecordState, Write};
use crate::error::ApiError;
use crate::types::Offset;

type Outcome<T> = Result<T, Box<dyn Error>>;

#[test]
fn scripts() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/share/partition/scripts");
    let mut paths: Vec<_> = std::fs::read_dir(directory)
        .expect("the scripts are there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| !path.to_string_lossy().ends_with('~'))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "there are no scripts");
    for path in paths {
        let mut script = Script { world: World::new(Vec::new()), holds: false };
        goldenscript::run(&mut script, &path).expect("the script runs");
    }
}

struct Script {
    world: World,
    holds: bool,
}

fn range(text: &str) -> Outcome<(Offset, Offset)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Ok((first.parse()?, last.parse()?))
}

fn batch(text: &str) -> Outcome<FetchedBatch> {
    let words: Vec<&str> = text.split('/').collect();
    let (base_offset, last_offset) = range(words.last().ok_or("no offsets")?)?;
    let producer_id = if words.len() > 1 { words[0].parse()? } else { -1 };
    let marker = (words.len() > 2).then(|| words[1]);
    Ok(FetchedBatch {
        base_offset,
        last_offset,
        producer_id,
        is_transactional: producer_id >= 0,
        is_abort_marker: marker == Some("abort"),
        is_control: marker.is_some(),
    })
}

fn acknowledgement(text: &str) -> Outcome<Acknowledgement> {
    let (offsets, types) = text.split_once('/').ok_or("an acknowledgement is written as 0-4/accept")?;
    let (first, last) = range(offsets)?;
    let types = types.split('/').map(|name| {
        let place = ["gap", "accept", "release", "reject", "renew"].iter().position(|known| *known == name);
        i8::try_from(place.unwrap_or(9)).map_err(Into::into)
    });
    Ok(Acknowledgement { first, last, types: types.collect::<Outcome<_>>()? })
}

fn setting<T: FromStr<Err: Error + 'static>>(
    settings: &BTreeMap<&str, &str>,
    key: &str,
) -> Outcome<Option<T>> {
    Ok(settings.get(key).map(|value| value.parse()).transpose()?)
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _context: &Context) -> Outcome<String> {
        let mut arguments = command.consume_args();
        let words: Vec<&str> = std::iter::from_fn(|| arguments.next_pos()).collect();
        let settings: BTreeMap<&str, &str> = std::iter::from_fn(|| arguments.next_key()).collect();
        let word = |place: usize| words.get(place).copied().ok_or("a word is missing");
        let mut out = String::new();
        let world = &mut self.world;
        match command.name.as_str() {
            "log" => {
                *world = World::new(words.iter().map(|text| batch(text)).collect::<Outcome<_>>()?);
                self.holds = false;
            }
            "append" => {
                world.log.extend(words.iter().map(|text| batch(text)).collect::<Outcome<Vec<_>>>()?);
            }
            "limits" => {
                let limits = &mut world.limits;
                limits.lock_duration_ms = setting(&settings, "lock")?.unwrap_or(limits.lock_duration_ms);
                limits.delivery_count_max =
                    setting(&settings, "deliveries")?.unwrap_or(limits.delivery_count_max);
                limits.in_flight_max = setting(&settings, "in_flight")?.unwrap_or(limits.in_flight_max);
                limits.renew_enabled = setting(&settings, "renew")?.unwrap_or(limits.renew_enabled);
                return Ok(out);
            }
            "aborted" => {
                let aborted = words.iter().map(|text| {
                    let (producer, first) = text.split_once('/').ok_or("written as 7/5")?;
                    Ok((producer.parse()?, first.parse()?))
                });
                world.aborted = Some(aborted.collect::<Outcome<_>>()?);
                return Ok(out);
            }
            "compact" => {
                let gone: Vec<Offset> = words.iter().map(|word| word.parse()).collect::<Result<_, _>>()?;
                world.log.retain(|batch| !gone.contains(&batch.base_offset));
                return Ok(out);
            }
            "log_start" => {
                world.log_start = word(0)?.parse()?;
                let log_start = world.log_start;
                world.log.retain(|batch| batch.last_offset >= log_start);
                return Ok(out);
            }
            "fetch" => {
                let mut fetch = Fetch::default();
                fetch.records_max = setting(&settings, "records")?.unwrap_or(fetch.records_max);
                fetch.batch_size = setting(&settings, "size")?.unwrap_or(fetch.batch_size);
                fetch.batches_max = setting(&settings, "batches")?.unwrap_or(fetch.batches_max);
                if settings.get("mode") == Some(&"limit") {
                    fetch.mode = AcquireMode::RecordLimit;
                }
                let (offset, acquired) = world.fetch(word(0)?, fetch);
                write!(out, "from {offset}: {} records", acquired.records)?;
                for range in &acquired.ranges {
                    write!(out, " {}-{}#{}", range.first, range.last, range.delivery_count)?;
                }
                writeln!(out)?;
            }
            "ack" => {
                let all = words[1..].iter().map(|text| acknowledgement(text)).collect::<Outcome<Vec<_>>>()?;
                let outcome = world.acknowledge(word(0)?, &all);
                self.show_outcome(outcome, &mut out)?;
            }
            "release" => {
                let write = world.release(word(0)?);
                self.show_outcome(Ok(write), &mut out)?;
            }
            "advance" => {
                let timed_out = world.advance(word(0)?.parse()?);
                if timed_out.records > 0 {
                    writeln!(out, "timed out {}", timed_out.records)?;
                }
                self.show_outcome(Ok(timed_out.write), &mut out)?;
            }
            "hold" => {
                self.holds = true;
                return Ok(out);
            }
            "written" => world.complete(true)?,
            "failed" => world.complete(false)?,
            "restart" => {
                world.restart()?;
                self.holds = false;
            }
            name => return Err(format!("no such command: {name}").into()),
        }
        self.show_state(&mut out)?;
        Ok(out)
    }
}

impl Script {
    fn show_outcome(&mut self, outcome: Result<Option<Write>, ApiError>, out: &mut String) -> Outcome<()> {
        match outcome {
            Err(error) => writeln!(out, "{:?}: {}", error.code, error.message.unwrap_or_default())?,
            Ok(None) => {}
            Ok(Some(write)) => {
                write!(out, "write")?;
                for batch in &write.batches {
                    let state = RecordState::from_id(batch.delivery_state).ok_or("no such state")?;
                    let (first, last) = (batch.first_offset, batch.last_offset);
                    write!(out, " {first}-{last}={state:?}#{}", batch.delivery_count)?;
                }
                writeln!(out)?;
                if !self.holds {
                    self.world.complete(true)?;
                }
            }
        }
        Ok(())
    }

    fn show_state(&mut self, out: &mut String) -> Outcome<()> {
        let partition = &mut self.world.partition;
        let next = partition.next_fetch_offset();
        let (start, end) = (partition.start_offset(), partition.end_offset());
        let done = partition.delivery_complete_count();
        write!(out, "start={start} end={end} next={next} done={done}")?;
        for batch in partition.in_flight.values() {
            let is_split = matches!(batch.states, States::Offsets(_));
            let mut shown: Vec<(Offset, Offset, String)> = Vec::new();
            for (first, last, state) in batch.runs() {
                let member = state.member.as_ref().map(|member| format!("@{member}")).unwrap_or_default();
                let changing = if state.is_changing() { "…" } else { "" };
                let text = format!("{:?}{member}#{}{changing}", state.state, state.delivery_count);
                match shown.last_mut() {
                    Some((_, before, same)) if *same == text && *before + 1 == first => *before = last,
                    _ => shown.push((first, last, text)),
                }
            }
            let shown: Vec<_> =
                shown.iter().map(|(first, last, text)| format!("{first}-{last}={text}")).collect();
            write!(
                out,
                "{}",
                if is_split { format!(" [{}]", shown.join(" ")) } else { format!(" {}", shown.join(" ")) }
            )?;
        }
        writeln!(out)?;
        Ok(())
    }
}
