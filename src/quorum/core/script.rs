//! Golden scripts: nodes that talk to one another, and everything that they do.
//!
//! `voters COUNT` begins a new world, `run MS` lets time go by, `append NODE VALUE`, `kill NODE`, `start NODE`,
//! `stop NODE`, `cut ONE OTHER` and `heal` do what they say; `observer NODE` adds a node that finds the first one,
//! `add NODE` and `remove NODE` ask the leader to change the voters, `snapshot NODE` makes one of what is committed,
//! `wipe NODE` empties its disk. With `quiet`, only what changes a disk or a role is shown.

use std::error::Error;

use goldenscript::{Command, Context, Runner};

use super::InitialVoters;
use super::message::{Action, AddVoterRequest, Event, Header, NewRecords, Progress, Request, Response};
use super::world::{Disk, World, voter};
use crate::types::NodeId;

#[test]
fn scripts() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/quorum/scripts");
    for name in ["election", "divergence", "membership", "snapshot"] {
        goldenscript::run(&mut Script { world: World::of(1) }, directory.join(name))
            .expect("the script runs");
    }
}

struct Script {
    world: World,
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, context: &Context) -> Result<String, Box<dyn Error>> {
        let mut arguments = command.consume_args();
        let words: Vec<&str> = std::iter::from_fn(|| arguments.next_pos()).collect();
        let number = |place: usize| -> Result<NodeId, Box<dyn Error>> {
            Ok(words.get(place).ok_or("a number is missing")?.parse()?)
        };
        let world = &mut self.world;
        match command.name.as_str() {
            "voters" => *world = World::of(number(0)?),
            "run" => world.run(number(0)?.into()),
            "append" => drop(world.append(number(0)?, words.get(1).ok_or("a value is missing")?)),
            "kill" => world.kill(number(0)?),
            "start" => world.start(number(0)?),
            "stop" => world.step(number(0)?, Event::Shutdown),
            "cut" => world.cut.extend([(number(0)?, number(1)?), (number(1)?, number(0)?)]),
            "heal" => world.cut.clear(),
            "observer" => {
                world.add(number(0)?, InitialVoters::Unknown);
                let node = world.nodes.get_mut(&number(0)?).ok_or("no node")?;
                node.config.bootstrap = vec![("h".to_owned(), 1)];
                world.start(number(0)?);
            }
            "add" => {
                let request = AddVoterRequest { voter: voter(number(0)?), ack_when_committed: true };
                let leader = world.leader().ok_or("nobody leads")?;
                world.ask(leader, Request::AddVoter(request));
            }
            "remove" => {
                let leader = world.leader().ok_or("nobody leads")?;
                world.ask(leader, Request::RemoveVoter(voter(number(0)?).key));
            }
            "snapshot" => drop(world.snapshot(number(0)?)),
            "wipe" => {
                let node = world.nodes.get_mut(&number(0)?).ok_or("no node")?;
                (node.core, node.disk, node.committed) = (None, Disk::default(), 0);
            }
            other => return Err(format!("there is no command {other}").into()),
        }
        let mut shown = std::mem::take(&mut world.trace);
        if context.tags.contains("quiet") {
            shown.retain(|line| !["send ", "reply "].iter().any(|word| line.contains(word)));
        }
        Ok(shown.join("\n"))
    }
}

pub(super) fn show_action(action: &Action) -> String {
    match action {
        Action::Persist(state) => {
            let voted = state.voted.map_or_else(|| "-".to_owned(), |key| key.id.to_string());
            format!("persist epoch={} leader={} voted={voted}", state.epoch, show(state.leader))
        }
        Action::Append { epoch, base_offset, records } => {
            let what = match records {
                NewRecords::Control(records) => format!("{} control", records.len()),
                NewRecords::Values(values) => format!("{} values", values.len()),
            };
            format!("append epoch={epoch} at={base_offset} {what}")
        }
        Action::Replicate(batches) => {
            let offsets =
                batches.iter().map(|batch| format!("{}..={}", batch.base_offset, batch.last_offset));
            format!("replicate {}", offsets.collect::<Vec<_>>().join(" "))
        }
        Action::Truncate(end) => format!("truncate to={end}"),
        Action::DeleteBefore(start) => format!("delete before={start}"),
        Action::Send { to, request, .. } => format!("send {} to={}", show_request(request), to.id),
        Action::Reply(_, response) => format!("reply {}", show_response(response)),
        Action::Committed(offset) => format!("committed {offset}"),
        Action::Role(role) => {
            format!("role {} epoch={} leader={}", role.role.as_str(), role.epoch, show(role.leader))
        }
        Action::WriteSnapshot { id, position, bytes } => {
            format!("write snapshot {}-{} at={position} bytes={}", id.end_offset, id.epoch, bytes.len())
        }
        Action::InstallSnapshot(id) => format!("install snapshot {}-{}", id.end_offset, id.epoch),
    }
}

fn show<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

pub(super) fn show_request(request: &Request) -> String {
    match request {
        Request::Vote(vote) => format!(
            "{} epoch={} last={}@{}",
            if vote.pre_vote { "prevote" } else { "vote" },
            vote.epoch,
            vote.end_offset,
            vote.last_epoch
        ),
        Request::Begin(begin) => format!("begin epoch={} leader={}", begin.epoch, begin.leader),
        Request::End(end) => {
            let preferred: Vec<String> = end.preferred.iter().map(|key| key.id.to_string()).collect();
            format!("end epoch={} preferred=[{}]", end.epoch, preferred.join(","))
        }
        Request::Fetch(fetch) => format!(
            "fetch epoch={} from={}@{} hw={}",
            fetch.epoch, fetch.offset, fetch.last_epoch, fetch.high_watermark
        ),
        Request::FetchSnapshot(fetch) => {
            format!("fetch snapshot {}-{} at={}", fetch.id.end_offset, fetch.id.epoch, fetch.position)
        }
        Request::AddVoter(add) => format!("add voter={}", add.voter.key.id),
        Request::RemoveVoter(key) => format!("remove voter={}", key.id),
        Request::UpdateVoter(epoch, voter) => format!("update voter={} epoch={epoch}", voter.key.id),
        Request::KraftVersions => "kraft versions".to_owned(),
        Request::UpgradeKraftVersion(upgrade) => format!("upgrade level={}", upgrade.level),
        Request::Describe => "describe".to_owned(),
    }
}

fn show_header(header: &Header) -> String {
    let error = header.error.map_or_else(String::new, |error| format!(" error={error:?}"));
    format!("epoch={} leader={}{error}", header.epoch, show(header.leader))
}

pub(super) fn show_response(response: &Response) -> String {
    match response {
        Response::Vote(header, granted) => format!("vote {} granted={granted}", show_header(header)),
        Response::Begin(header) => format!("begin {}", show_header(header)),
        Response::End(header) => format!("end {}", show_header(header)),
        Response::Fetch(header, fetched) => {
            let progress = match &fetched.progress {
                Progress::Read { from, to, .. } => format!("{from}..{to}"),
                Progress::Records(batches) => format!("{} batches", batches.len()),
                Progress::Diverging { epoch, end_offset } => format!("diverging={end_offset}@{epoch}"),
                Progress::Snapshot(id) => format!("snapshot={}-{}", id.end_offset, id.epoch),
            };
            format!("fetch {} {progress} hw={}", show_header(header), show(fetched.high_watermark))
        }
        Response::FetchSnapshot(header, piece) => {
            format!("fetch snapshot {} at={}", show_header(header), piece.position)
        }
        Response::AddVoter(outcome) => format!("add {}", show_outcome(outcome)),
        Response::RemoveVoter(outcome) => format!("remove {}", show_outcome(outcome)),
        Response::UpdateVoter(header) => format!("update {}", show_header(header)),
        Response::KraftVersions(versions) => format!("{versions:?}"),
        Response::UpgradeKraftVersion(outcome) => format!("upgrade {}", show_outcome(outcome)),
        Response::Appended(Ok(range)) => format!("appended {range:?}"),
        Response::Appended(Err(error)) => format!("appended error={error:?}"),
        Response::Described(state) => format!("described {}", state.is_some()),
    }
}

pub(super) fn show_outcome(outcome: &super::message::Outcome) -> String {
    match outcome {
        Ok(()) => "ok".to_owned(),
        Err((code, message)) => format!("{code:?} {}", message.as_deref().unwrap_or_default()),
    }
}
