//! `klamm cluster`: several nodes on this machine, each a process of its own, for development.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::{CreateTopicsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::topics::{self, SeedTopic};
use super::{ClusterOptions, LogFormat, Options};
use crate::client::{Address, Peer, PeerOptions};
use crate::clock::Clock;
use crate::config::key::ConfigError;
use crate::config::listener::{host_port, parse_host_port};
use crate::error::ErrorCode;

/// How long a node may take to stop before it is killed: longer than what it gives to requests in flight.
const STOP: Duration = Duration::from_secs(15);
const HOST: &str = "127.0.0.1";
/// How long the creation of a topic may take, in milliseconds.
const TOPIC_MS: i32 = 30_000;

/// Why a cluster on this machine ended.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The operating system refused something.
    #[error("{0}")]
    System(#[from] io::Error),
    /// There is no place for the directories.
    #[error("the data of {nodes} nodes need a directory: name one with --data-dir, or use --ephemeral")]
    NoDirectory {
        /// How many nodes.
        nodes: u16,
    },
    /// The nodes of a directory that stays are found again by their ports.
    #[error("--port 0 needs --ephemeral: nodes that are started again find each other by their ports")]
    NoPort,
    /// What was asked for can not be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The topics that were asked for are not there.
    #[error("the topic {name} can not be created: {problem}")]
    Topic {
        /// Its name.
        name: String,
        /// Why not.
        problem: String,
    },
    /// A node did not come to serve.
    #[error("node {id} ended before it served: {status}")]
    NotServing {
        /// Its id.
        id: u16,
        /// How it ended.
        status: ExitStatus,
    },
    /// No node is left.
    #[error("all nodes have ended")]
    AllEnded,
}

/// One node to run.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    id: u16,
    address: String,
    arguments: Vec<String>,
}

/// The command lines of the nodes. With three or more, everything has three replicas, and a write waits for two.
fn plans(options: &Options, cluster: &ClusterOptions, directory: &Path, ports: &[u16]) -> Vec<Plan> {
    let replicas = cluster.nodes.min(3);
    let in_sync = if replicas < 3 { 1 } else { 2 };
    let keys = [
        ("default.replication.factor", replicas),
        ("offsets.topic.replication.factor", replicas),
        ("transaction.state.log.replication.factor", replicas),
        ("share.coordinator.state.topic.replication.factor", replicas),
        ("min.insync.replicas", in_sync),
        ("transaction.state.log.min.isr", in_sync),
        ("share.coordinator.state.topic.min.isr", in_sync),
    ];
    let first = ports.first().copied().unwrap_or_default();
    let plan = |(id, port): (u16, &u16)| {
        let address = host_port(HOST, *port);
        let mut arguments: Vec<String> = Vec::new();
        let mut add = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        add("--data-dir", directory.join(format!("node-{id}")).display().to_string());
        add("--listen", address.clone());
        for (key, value) in keys {
            add("--override", format!("{key}={value}"));
        }
        for given in &options.overrides {
            add("--override", given.clone());
        }
        add("--override", format!("node.id={id}"));
        if let Some(config) = &options.config {
            add("--config", config.display().to_string());
        }
        if options.log_format == LogFormat::Json {
            add("--log-format", "json".to_owned());
        }
        if id > 1 {
            add("--join", host_port(HOST, first));
        }
        Plan { id, address, arguments }
    };
    (1..).zip(ports).map(plan).collect()
}

/// The ports of the nodes; where any will do, some that are free now.
fn ports(cluster: &ClusterOptions) -> io::Result<Vec<u16>> {
    if cluster.port > 0 {
        return Ok((0..cluster.nodes).map(|index| cluster.port.saturating_add(index)).collect());
    }
    // All are held until all are found, so that they differ.
    let held = (0..cluster.nodes).map(|_| std::net::TcpListener::bind((HOST, 0)));
    let held = held.collect::<io::Result<Vec<_>>>()?;
    held.iter().map(|socket| Ok(socket.local_addr()?.port())).collect()
}

/// What a node's process has done.
enum Event {
    Ready,
    Ended(u16, io::Result<ExitStatus>),
}

impl Options {
    /// Runs the cluster until it is interrupted, or no node is left.
    ///
    /// # Errors
    /// One sentence; no node runs then.
    pub async fn run_cluster(&self, cluster: &ClusterOptions) -> Result<(), ClusterError> {
        let began = Instant::now();
        if cluster.port == 0 && !self.ephemeral {
            return Err(ClusterError::NoPort);
        }
        let kept = if self.ephemeral { None } else { Some(self.cluster_directory(cluster)?) };
        let temporary = tempfile::Builder::new().prefix("klamm-cluster-").tempdir()?;
        let directory = kept.unwrap_or_else(|| temporary.path().to_owned());
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let plans = plans(self, cluster, &directory, &ports(cluster)?);
        let topics: Vec<SeedTopic> =
            self.topics.iter().map(|topic| topics::parse(topic)).collect::<Result<_, _>>()?;
        let bootstrap: Vec<&str> = plans.iter().map(|plan| plan.address.as_str()).collect();
        let bootstrap = bootstrap.join(",");
        let mut nodes = Nodes::start(&plans)?;
        let mut starting = plans.len();
        let outcome = loop {
            tokio::select! {
                _ = terminate.recv() => break Ok(()),
                _ = interrupt.recv() => break Ok(()),
                event = nodes.events.recv() => match event {
                    Some(Event::Ready) => {
                        starting -= 1;
                        if starting == 0 {
                            create_topics(&plans, &topics).await?;
                            let (data, milliseconds) = (directory.display(), began.elapsed().as_millis());
                            say(&format!(
                                "klamm cluster ready: kafka={bootstrap} data={data} in {milliseconds} ms"
                            ));
                        }
                    }
                    Some(Event::Ended(id, status)) => {
                        let status = status?;
                        if starting > 0 {
                            break Err(ClusterError::NotServing { id, status });
                        }
                        nodes.running -= 1;
                        tracing::error!("node {id} has ended: {status}");
                        if nodes.running == 0 {
                            break Err(ClusterError::AllEnded);
                        }
                    }
                    None => break Err(ClusterError::AllEnded),
                },
            }
        };
        nodes.stop().await;
        outcome
    }

    fn cluster_directory(&self, cluster: &ClusterOptions) -> Result<PathBuf, ClusterError> {
        if let Some(directory) = &self.data_dir {
            return Ok(directory.clone());
        }
        let absolute =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let share = absolute("XDG_DATA_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local").join("share")));
        share
            .map(|share| share.join("klamm-cluster"))
            .ok_or(ClusterError::NoDirectory { nodes: cluster.nodes })
    }
}

/// Creates the topics that are missing, once all nodes are there to have their replicas.
async fn create_topics(plans: &[Plan], topics: &[SeedTopic]) -> Result<(), ClusterError> {
    let Some((host, port)) = plans.first().and_then(|plan| parse_host_port(&plan.address).ok()) else {
        return Ok(());
    };
    let options = PeerOptions::new("cluster", Clock::system());
    let node = Peer::new(Address { host: host.into(), port }, options);
    for SeedTopic { name, partitions, configs } in topics {
        let refused = |problem: String| ClusterError::Topic { name: name.clone(), problem };
        let text = |text: &String| StrBytes::from_string(text.clone());
        let config = |(key, value): (&String, &String)| {
            CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)))
        };
        let topic = CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(*partitions)
            .with_replication_factor(-1)
            .with_configs(configs.iter().map(config).collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(TOPIC_MS);
        let answer =
            node.call(request, 5..=7, TOPIC_MS.into()).await.map_err(|error| refused(error.to_string()))?;
        let code = answer.response.topics.first().map_or(0, |topic| topic.error_code);
        if code != 0 && code != ErrorCode::TopicAlreadyExists.code() {
            let said = answer.response.topics.into_iter().next().and_then(|topic| topic.error_message);
            return Err(refused(said.map_or_else(|| format!("error {code}"), |said| said.to_string())));
        }
    }
    Ok(())
}

/// The processes of the nodes. Each has a task that waits for its end.
struct Nodes {
    events: mpsc::Receiver<Event>,
    running: usize,
    stops: Vec<tokio_util::sync::CancellationToken>,
    tasks: JoinSet<()>,
}

impl Nodes {
    fn start(plans: &[Plan]) -> Result<Self, ClusterError> {
        let program = std::env::current_exe()?;
        let (sender, events) = mpsc::channel(plans.len() * 2);
        let mut nodes = Self { events, running: 0, stops: Vec::new(), tasks: JoinSet::new() };
        for plan in plans {
            let mut child = Command::new(&program)
                .args(&plan.arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                // Ctrl-C is for this process, which stops its nodes itself.
                .process_group(0)
                .kill_on_drop(true)
                .spawn()?;
            let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
            let (id, stop) = (plan.id, tokio_util::sync::CancellationToken::new());
            let (ready, ended) = (sender.clone(), sender.clone());
            nodes.stops.push(stop.clone());
            nodes.running += 1;
            if let Some(stdout) = stdout {
                nodes.tasks.spawn(async move {
                    let mut lines = BufReader::new(stdout).lines();
                    while let Ok(Some(line)) = lines.next_line().await {
                        say(&format!("node {id} | {line}"));
                        if line.starts_with("klamm ready") {
                            // Nobody listens any more while all are stopped.
                            let _ = ready.send(Event::Ready).await;
                        }
                    }
                });
            }
            if let Some(stderr) = stderr {
                nodes.tasks.spawn(pass_on(id, stderr));
            }
            nodes.tasks.spawn(async move {
                let status = supervise(&mut child, &stop).await;
                let _ = ended.send(Event::Ended(id, status)).await;
            });
        }
        Ok(nodes)
    }

    /// Asks all to stop, and waits until they have.
    async fn stop(mut self) {
        self.stops.iter().for_each(tokio_util::sync::CancellationToken::cancel);
        // What they have to say while they stop must not fill the channel.
        self.events.close();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Waits until a node ends by itself, or ends it.
async fn supervise(child: &mut Child, stop: &tokio_util::sync::CancellationToken) -> io::Result<ExitStatus> {
    if let Some(status) = stop.run_until_cancelled(child.wait()).await {
        return status;
    }
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended by itself meanwhile.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    match tokio::time::timeout(STOP, child.wait()).await {
        Ok(status) => status,
        Err(_) => {
            child.start_kill()?;
            child.wait().await
        }
    }
}

/// Puts the node's name before what it writes to standard error.
async fn pass_on(id: u16, from: impl AsyncRead + Unpin) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // Where standard error is closed there is nobody to tell.
        let _ = writeln!(io::stderr(), "node {id} | {line}");
    }
}

fn say(line: &str) {
    // Where standard output is closed, nobody waits for the line.
    let _ = writeln!(io::stdout(), "{line}");
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test")]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn planned(arguments: &[&str]) -> Vec<String> {
        let options = Options::try_parse_from(["klamm"].iter().chain(arguments)).unwrap();
        let Some(crate::cli::Command::Cluster(cluster)) = &options.command else { panic!("not a cluster") };
        let ports = ports(cluster).unwrap();
        let lines = plans(&options, cluster, Path::new("/d"), &ports);
        lines.iter().map(|plan| plan.arguments.join(" ")).collect()
    }

    #[test]
    fn the_first_node_begins_and_the_others_join_it() {
        let lines = planned(&["cluster", "--port", "5000", "--override", "a=b"]);
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("--data-dir /d/node-1 --listen 127.0.0.1:5000 "), "{}", lines[0]);
        assert!(lines[0].ends_with("--override a=b --override node.id=1"), "{}", lines[0]);
        assert!(
            lines[2].ends_with("--override a=b --override node.id=3 --join 127.0.0.1:5000"),
            "{}",
            lines[2]
        );
        assert!(lines[1].contains("--override offsets.topic.replication.factor=3"), "{}", lines[1]);
        assert!(lines[1].contains("--override min.insync.replicas=2"), "{}", lines[1]);
        let two = planned(&["cluster", "--nodes", "2"]);
        assert!(
            two[0].contains("replication.factor=2") && two[0].contains("min.insync.replicas=1"),
            "{}",
            two[0]
        );
        let free = planned(&["cluster", "--nodes", "1", "--port", "0"]);
        assert!(!free[0].contains("--listen 127.0.0.1:0"), "{}", free[0]);
    }
}
