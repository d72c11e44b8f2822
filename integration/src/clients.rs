//! The folders `clients/<name>`: real client libraries, each with the programs `setup` and `run`.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::process::until;

/// The scenarios that every client plays as far as it can.
pub const SCENARIOS: [&str; 12] = [
    "produce-consume",
    "idempotent",
    "group-rebalance",
    "consumer-protocol",
    "share-groups",
    "transactions",
    "commit-resume",
    "offsets-by-time",
    "admin",
    "large-message",
    "unknown-topic",
    "broker-restart",
];

/// No scenario takes longer than a few seconds; a busy machine gets more.
const PATIENCE: Duration = Duration::from_secs(300);
/// The first set-up of a client downloads and compiles it.
const SETUP_PATIENCE: Duration = Duration::from_secs(1200);

/// How a scenario ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was played and everything was right.
    Passed,
    /// The client library has no such feature.
    Unsupported,
}

/// A client library under `integration/clients`.
#[derive(Debug)]
pub struct Client {
    name: String,
    folder: PathBuf,
}

impl Client {
    /// The client in the folder of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name);
        Self { name: name.to_owned(), folder }
    }

    /// Whether this machine can have the client at all: `setup` explains by exit code 77 that it cannot.
    ///
    /// # Errors
    /// What the set-up wrote, when it failed.
    pub fn set_up(&self) -> Result<Outcome, String> {
        let (code, output) = self.call("setup", &[], None, SETUP_PATIENCE)?;
        match code {
            Some(0) => Ok(Outcome::Passed),
            Some(77) => Ok(Outcome::Unsupported),
            _ => Err(format!("{}/setup failed:\n{output}", self.folder.display())),
        }
    }

    /// The scenarios that the client can play.
    ///
    /// # Errors
    /// When its program does not answer.
    pub fn scenarios(&self) -> Result<Vec<String>, String> {
        let (code, output) = self.call("run", &["--list"], None, PATIENCE)?;
        if code != Some(0) {
            return Err(format!("{}/run --list failed:\n{output}", self.folder.display()));
        }
        Ok(output.lines().map(str::to_owned).collect())
    }

    /// Plays one scenario. `restart` is a shell command that restarts the broker.
    ///
    /// # Errors
    /// What the client complained of.
    pub fn run(&self, scenario: &str, bootstrap: &str, restart: Option<&str>) -> Result<Outcome, String> {
        if !self.scenarios()?.iter().any(|name| name == scenario) {
            return Ok(Outcome::Unsupported);
        }
        match self.call("run", &[scenario, bootstrap], restart, PATIENCE)? {
            (Some(0), _) => Ok(Outcome::Passed),
            (code, output) => Err(format!("{} {scenario} ended with {code:?}:\n{output}", self.name)),
        }
    }

    /// Runs a program of the folder; answers its exit code and all that it wrote.
    fn call(
        &self,
        program: &str,
        arguments: &[&str],
        restart: Option<&str>,
        patience: Duration,
    ) -> Result<(Option<i32>, String), String> {
        let mut output = tempfile::tempfile().map_err(|e| format!("no temporary file: {e}"))?;
        let share =
            |file: &File| file.try_clone().map(Stdio::from).map_err(|e| format!("no second handle: {e}"));
        let mut command = Command::new(self.folder.join(program));
        command.args(arguments).stdin(Stdio::null()).stdout(share(&output)?).stderr(share(&output)?);
        if let Some(restart) = restart {
            command.env("KLAMM_RESTART_CMD", restart);
        }
        let mut child = command.spawn().map_err(|e| format!("{}/{program}: {e}", self.folder.display()))?;
        let status = until(&format!("{}/{program} {}", self.name, arguments.join(" ")), patience, || {
            child.try_wait().ok().flatten()
        });
        let mut text = String::new();
        output
            .rewind()
            .and_then(|()| output.read_to_string(&mut text))
            .map_err(|e| format!("its output is not text: {e}"))?;
        Ok((status.code(), text))
    }
}
