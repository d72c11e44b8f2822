//! Golden scripts for cores: readable text, commands with their replies on virtual time.
//!
//! The driver stands in for the shell: it decides, replays, keeps held replies and timers, and fires them when a script
//! moves the time. `config` begins a new world with these settings, `reconfigure` and `restart` keep what is written.
//! Every script also proves what a shard relies on: that each caller is answered exactly once, and that the records
//! alone give the state that a restart would find, whether it finds them in the view, in the log, or in part in either.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use goldenscript::{Command, Context, Runner};

use super::timers::Timers;
use super::{Core, Decision, Token};
use crate::types::TimestampMs;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Runs every script of a directory of the sources, in the order of their names.
pub(crate) fn run_all<C: Scripted>(directory: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut paths: Vec<_> = std::fs::read_dir(directory)
        .expect("the scripts are there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| !path.to_string_lossy().ends_with('~'))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "there are no scripts");
    for path in paths {
        let mut script = Script::<C>::new();
        goldenscript::run(&mut script, &path).expect("the script runs");
        script.check_records();
    }
}

/// A core that scripts can talk to.
pub(crate) trait Scripted: Core {
    /// What the script's callers remember, such as their member ids.
    type Memory: Default;

    /// A core without state, with the settings in `memory`.
    fn fresh(memory: &Self::Memory) -> Self;
    /// Takes a setting of a `config` or `reconfigure` command.
    fn configure(memory: &mut Self::Memory, key: &str, value: &str) -> Outcome<()>;
    /// The command of a line; the first argument is who calls.
    fn parse(memory: &mut Self::Memory, caller: &str, command: &Command) -> Outcome<Self::Command>;
    /// Lets the caller remember what it was told.
    fn observe(memory: &mut Self::Memory, caller: &str, reply: &Self::Reply);
    /// A reply as the script shows it.
    fn show_reply(reply: &Self::Reply) -> String;
    /// A persistent event as the script shows it; `None` for one that is not persisted.
    fn show_record(event: &Self::Event) -> Option<String>;
    /// A timer as the script shows it.
    fn show_timer(timer: &Self::Timer) -> String;
    /// The state as the script shows it.
    fn show_state(&self) -> String;
    /// Panics where the state can not be.
    fn check(&self);
    /// Panics where these records, in a log, do not give the state that they give to a `fresh` core.
    fn check_records(fresh: Self, records: &[Self::Event]);
}

/// Runs one script.
pub(crate) struct Script<C: Scripted> {
    core: C,
    memory: C::Memory,
    now_ms: TimestampMs,
    timers: Timers<C::Timer>,
    held: BTreeMap<Token, String>,
    records: Vec<C::Event>,
    next_token: u64,
}

impl<C: Scripted> Script<C> {
    pub(crate) fn new() -> Self {
        let memory = C::Memory::default();
        Self {
            core: C::fresh(&memory),
            memory,
            now_ms: 0,
            timers: Timers::default(),
            held: BTreeMap::new(),
            records: Vec::new(),
            next_token: 0,
        }
    }

    fn configure(&mut self, command: &Command) -> Outcome<()> {
        let mut settings = command.consume_args();
        while let Some((key, value)) = settings.next_key() {
            C::configure(&mut self.memory, key, value)?;
        }
        Ok(())
    }

    fn start(&mut self, out: &mut String) -> Outcome<()> {
        self.timers = Timers::default();
        let decision = self.core.start(self.now_ms);
        self.carry_out(decision, out)
    }

    fn carry_out(&mut self, decision: Decision<C>, out: &mut String) -> Outcome<()> {
        for event in decision.events {
            self.core.replay(&event);
            if let Some(record) = C::show_record(&event) {
                writeln!(out, "  write {record}")?;
                self.records.push(event);
            }
        }
        for change in decision.timers {
            self.timers.change(change);
        }
        for (token, reply) in decision.replies {
            let caller = self.held.remove(&token).ok_or_else(|| format!("{token:?} was answered twice"))?;
            C::observe(&mut self.memory, &caller, &reply);
            writeln!(out, "  {caller} <- {}", C::show_reply(&reply))?;
        }
        self.core.check();
        Ok(())
    }

    fn advance(&mut self, by_ms: i64, out: &mut String) -> Outcome<()> {
        let until_ms = self.now_ms + by_ms;
        while let Some(deadline_ms) = self.timers.next_deadline().filter(|at| *at <= until_ms) {
            self.now_ms = self.now_ms.max(deadline_ms);
            let Some(timer) = self.timers.pop_due(self.now_ms) else { break };
            let mut fired = String::new();
            let decision = self.core.expire(self.now_ms, &timer);
            self.carry_out(decision, &mut fired)?;
            if !fired.is_empty() {
                write!(out, "{} {}\n{fired}", self.now_ms, C::show_timer(&timer))?;
            }
        }
        self.now_ms = until_ms;
        Ok(())
    }

    fn restart(&mut self, out: &mut String) -> Outcome<()> {
        for caller in std::mem::take(&mut self.held).into_values() {
            writeln!(out, "  {caller} is not answered")?;
        }
        self.core = C::fresh(&self.memory);
        for record in &self.records {
            self.core.replay(record);
        }
        self.start(out)
    }

    fn check_records(&self) {
        C::check_records(C::fresh(&self.memory), &self.records);
    }

    fn call(&mut self, command: &Command, out: &mut String) -> Outcome<()> {
        let caller = command.consume_args().next_pos().unwrap_or_default().to_owned();
        let parsed = C::parse(&mut self.memory, &caller, command)?;
        self.next_token += 1;
        let token = Token(self.next_token);
        self.held.insert(token, caller);
        let decision = self.core.decide(self.now_ms, token, parsed);
        self.carry_out(decision, out)
    }
}

impl<C: Scripted> Runner for Script<C> {
    type Command = Command;

    fn run(&mut self, command: &Command, _context: &Context) -> Outcome<String> {
        let mut out = String::new();
        let argument = || command.consume_args().next_pos().unwrap_or_default();
        match command.name.as_str() {
            "config" => {
                self.check_records();
                *self = Self::new();
                self.configure(command)?;
                self.restart(&mut out)?;
            }
            "reconfigure" => {
                self.configure(command)?;
                self.restart(&mut out)?;
            }
            "advance" => self.advance(argument().parse()?, &mut out)?,
            "restart" => self.restart(&mut out)?,
            "timers" => {
                for (deadline_ms, timer) in self.timers.iter() {
                    writeln!(out, "  {deadline_ms} {}", C::show_timer(timer))?;
                }
            }
            "state" => out = self.core.show_state(),
            _ => self.call(command, &mut out)?,
        }
        Ok(out)
    }
}
