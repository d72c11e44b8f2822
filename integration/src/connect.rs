//! Workers of Kafka Connect in distributed mode, and what one asks them.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::frameworks::{Framework, Program};
use crate::http::{self, Answer};
use crate::ports::free_port;
use crate::process::until;

/// How long a worker may take to start, and a task to move.
const PATIENCE: Duration = Duration::from_secs(120);

/// A worker.
#[derive(Debug)]
pub struct Worker {
    program: Program,
    address: String,
}

impl Worker {
    /// Starts a worker of the one group that all workers here belong to. It finds failures within seconds, and keeps the
    /// offsets of sources in the transactions of their records.
    #[must_use]
    pub fn start(framework: &Framework, name: &str, bootstrap: &str) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let properties = framework.file(
            &format!("{name}.properties"),
            &format!(
                "bootstrap.servers={bootstrap}\ngroup.id=connect\nlisteners=http://{address}\n\
                 key.converter=org.apache.kafka.connect.storage.StringConverter\n\
                 value.converter=org.apache.kafka.connect.storage.StringConverter\n\
                 config.storage.topic=connect-configs\nconfig.storage.replication.factor=1\n\
                 offset.storage.topic=connect-offsets\noffset.storage.replication.factor=1\n\
                 offset.storage.partitions=1\noffset.storage.segment.ms=1000\n\
                 offset.storage.min.cleanable.dirty.ratio=0.01\n\
                 status.storage.topic=connect-status\nstatus.storage.replication.factor=1\n\
                 status.storage.partitions=1\noffset.flush.interval.ms=500\n\
                 exactly.once.source.support=enabled\nplugin.discovery=service_load\n\
                 session.timeout.ms=6000\nheartbeat.interval.ms=1000\nrebalance.timeout.ms=10000\n\
                 scheduled.rebalance.max.delay.ms=500\n"
            ),
        );
        let line = format!("org.apache.kafka.connect.cli.ConnectDistributed {properties}");
        Self { program: framework.start(name, &line), address }
    }

    /// Waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn await_ready(&mut self) {
        until("a worker of Connect", PATIENCE, || {
            assert!(self.program.ended().is_none(), "a worker of Connect ended");
            http::get(&self.url("connectors"))
        });
    }

    /// By which others, and the states of tasks, name it.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its process.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Asks for what is there.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<Value> {
        http::get(&self.url(path)).map(|answer| answer.json())
    }

    /// Asks for a change, again while the workers are between two assignments.
    ///
    /// # Panics
    /// When it is refused.
    pub fn change(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let mut last = None;
        until(&format!("{method} {path}"), PATIENCE, || {
            let answer: io::Result<Answer> = http::call(method, &self.url(path), body);
            let done = answer.as_ref().is_ok_and(|answer| (200..300).contains(&answer.status));
            // Conflicts, and workers that do not reach one another, pass.
            let may_pass = answer.as_ref().map_or(true, |answer| [409, 500].contains(&answer.status));
            assert!(done || may_pass, "{method} {path}: {answer:?}, before that {last:?}");
            if done {
                answer.ok()
            } else {
                last = Some(answer);
                None
            }
        })
    }

    /// Makes or changes a connector.
    pub fn configure(&self, connector: &str, configuration: &Value) {
        let _ = self.change("PUT", &format!("connectors/{connector}/config"), Some(configuration));
    }

    /// The worker of a connector's first task, where that and the connector run.
    #[must_use]
    pub fn worker_of(&self, connector: &str) -> Option<String> {
        let status = self.get(&format!("connectors/{connector}/status"))?;
        let runs = status["connector"]["state"] == "RUNNING" && status["tasks"][0]["state"] == "RUNNING";
        runs.then(|| status["tasks"][0]["worker_id"].as_str().map(str::to_owned))?
    }

    /// Starts again what has failed of a connector.
    pub fn restart_failed(&self, connector: &str) {
        let _ = self.change(
            "POST",
            &format!("connectors/{connector}/restart?includeTasks=true&onlyFailed=true"),
            None,
        );
    }

    /// Stops a connector, and waits until it has.
    pub fn stop(&self, connector: &str) {
        let _ = self.change("PUT", &format!("connectors/{connector}/stop"), None);
        until(&format!("{connector} to stop"), PATIENCE, || {
            let status = self.get(&format!("connectors/{connector}/status"))?;
            let tasks = status["tasks"].as_array()?;
            (status["connector"]["state"] == "STOPPED" && tasks.is_empty()).then_some(())
        });
    }

    /// Lets a connector that was stopped go on.
    pub fn resume(&self, connector: &str) {
        let _ = self.change("PUT", &format!("connectors/{connector}/resume"), None);
        until(&format!("{connector} to run"), PATIENCE, || self.worker_of(connector));
    }

    /// The offsets of a connector: pairs of a partition and an offset.
    #[must_use]
    pub fn offsets(&self, connector: &str) -> Option<Vec<(Value, Value)>> {
        let answer = self.get(&format!("connectors/{connector}/offsets"))?;
        let pair = |entry: &Value| (entry["partition"].clone(), entry["offset"].clone());
        Some(answer["offsets"].as_array()?.iter().map(pair).collect())
    }

    /// Sets an offset of a connector that was stopped.
    pub fn alter_offset(&self, connector: &str, partition: &Value, offset: &Value) {
        let body = json!({"offsets": [{"partition": partition, "offset": offset}]});
        let _ = self.change("PATCH", &format!("connectors/{connector}/offsets"), Some(&body));
    }

    /// Forgets the offsets of a connector that was stopped.
    pub fn reset_offsets(&self, connector: &str) {
        let _ = self.change("DELETE", &format!("connectors/{connector}/offsets"), None);
    }
}

/// The values of the committed records of a topic with one partition, each in a line, as librdkafka reads them.
///
/// # Panics
/// When they can not be read.
#[must_use]
pub fn committed_lines(bootstrap: &str, topic: &str) -> Vec<String> {
    let mut kcat = Command::new("kcat");
    kcat.args([
        "-C",
        "-e",
        "-q",
        "-b",
        bootstrap,
        "-t",
        topic,
        "-o",
        "beginning",
        "-X",
        "isolation.level=read_committed",
    ]);
    let done = kcat.stdin(Stdio::null()).output().expect("kcat can be started");
    assert!(done.status.success(), "kcat: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).lines().map(str::to_owned).collect()
}

/// The lines of a file, none where there is no file.
#[must_use]
pub fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}
