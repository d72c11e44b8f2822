//! `klamm cluster` and `klamm --join`: clusters that need no configuration.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use integration::cluster::client::Routes;
use integration::{Klamm, binary, until};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(90);

/// A running `klamm cluster`. Dropping it ends it, and it its nodes.
struct LocalCluster {
    child: Child,
    lines: Receiver<String>,
    bootstrap: Vec<String>,
}

impl LocalCluster {
    fn start(directory: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(binary())
            .args(["cluster", "--data-dir"])
            .arg(directory)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the klamm binary can be started");
        let (send, lines) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().expect("standard error is a pipe")).lines();
        let stdout = BufReader::new(child.stdout.take().expect("standard output is a pipe")).lines();
        let second = send.clone();
        thread::spawn(move || stderr.map_while(Result::ok).for_each(|line| drop(second.send(line))));
        thread::spawn(move || stdout.map_while(Result::ok).for_each(|line| drop(send.send(line))));
        let mut cluster = Self { child, lines, bootstrap: Vec::new() };
        let ready = cluster.line("klamm cluster ready: kafka=");
        let addresses =
            ready.split("kafka=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
        cluster.bootstrap = addresses.split(',').map(str::to_owned).collect();
        cluster
    }

    /// Waits for a line that holds this text.
    fn line(&mut self, text: &str) -> String {
        let (end, mut before) = (Instant::now() + PATIENCE, Vec::new());
        loop {
            let patience = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(patience) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => before.push(line),
                Err(error) => panic!("no line with «{text}» ({error}):\n{}", before.join("\n")),
            }
        }
    }

    fn routes(&self) -> Routes {
        Routes::new(self.bootstrap.clone())
    }

    fn await_brokers(&self, count: usize) {
        for node in self.routes().one_by_one() {
            until(&format!("{count} brokers at each node"), PATIENCE, || {
                node.brokers().filter(|brokers| brokers.len() == count).map(drop)
            });
        }
    }

    /// The processes of the nodes.
    fn nodes(&self) -> Vec<u32> {
        let own = self.child.id().to_string();
        let processes = std::fs::read_dir("/proc").expect("processes").flatten();
        let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let parent = |id: u32| {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            stat.rsplit(')').next()?.split_whitespace().nth(1).map(str::to_owned)
        };
        ids.filter(|id| parent(*id).as_deref() == Some(own.as_str())).collect()
    }

    /// Interrupts it, as Ctrl-C does, and waits for its end.
    fn interrupt(mut self) -> ExitStatus {
        signal("INT", self.child.id());
        until("klamm cluster to stop", PATIENCE, || self.child.try_wait().ok().flatten())
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.nodes().into_iter().for_each(|id| signal("KILL", id));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(name: &str, pid: u32) {
    // The shell's own `kill`: a small system has no program of that name.
    let _ = Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status();
}

/// The first of so many ports on which nobody listens.
fn free_ports(count: u16) -> u16 {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let candidates =
        (12_000..15_000).step_by(10).skip(usize::try_from(std::process::id() % 200).unwrap_or(0));
    let mut candidates = candidates.filter(|first| (*first..first + count).all(free));
    candidates.next().expect("free ports")
}

#[test]
fn three_nodes_on_one_machine_start_stop_and_go_on() {
    let directory = TempDir::new().expect("a temporary directory");
    let port = free_ports(3).to_string();
    let cluster = LocalCluster::start(directory.path(), &["--port", &port, "--topic", "orders:3"]);
    cluster.await_brokers(3);
    let partitions = until("the topic", PATIENCE, || cluster.routes().partitions("orders"));
    assert_eq!(partitions.len(), 3);
    until("three voters", PATIENCE, || cluster.routes().voters().filter(|voters| voters.len() == 3));
    cluster.routes().create_topic("replicated", 1, 3, &[]);
    let id = cluster.routes().cluster_id();
    let nodes = cluster.nodes();
    assert_eq!(nodes.len(), 3);
    assert!(cluster.interrupt().success());
    for node in nodes {
        assert!(!Path::new(&format!("/proc/{node}")).exists(), "node {node} goes on");
    }
    // The same directories make the same cluster.
    let mut cluster = LocalCluster::start(directory.path(), &["--port", &port]);
    cluster.await_brokers(3);
    assert_eq!(cluster.routes().cluster_id(), id);
    let replicated = until("the topic again", PATIENCE, || cluster.routes().partitions("replicated"));
    assert_eq!(replicated[0].replicas.len(), 3);
    // A node that dies is told, and the others go on.
    signal("KILL", cluster.nodes()[2]);
    cluster.line("has ended: signal: 9");
    cluster.routes().create_topic("without-one", 1, 2, &[]);
    assert!(cluster.interrupt().success());
}

#[test]
fn a_node_that_joins_needs_no_more_than_an_address() {
    let mut first = Klamm::spawn(&[]);
    let join = ["--join", first.bootstrap()];
    // At the same moment, and yet each with an id of its own.
    let (second, third) = thread::scope(|scope| {
        let [second, third] = [scope.spawn(|| Klamm::spawn(&join)), scope.spawn(|| Klamm::spawn(&join))];
        (second.join().expect("the second node runs"), third.join().expect("the third node runs"))
    });
    let routes = Routes::new([&first, &second, &third].map(|node| node.bootstrap().to_owned()).into());
    for node in routes.one_by_one() {
        until("three brokers at each node", PATIENCE, || {
            let mut brokers = node.brokers()?;
            brokers.sort_unstable();
            (brokers == [1, 2, 3]).then_some(())
        });
    }
    let cluster_ids: Vec<_> = routes.one_by_one().iter().map(Routes::cluster_id).collect();
    assert!(cluster_ids.iter().all(|id| id.is_some() && *id == cluster_ids[0]), "{cluster_ids:?}");
    until("three voters", PATIENCE, || routes.voters().filter(|voters| voters.len() == 3));
    routes.create_topic("shared", 3, 3, &[]);
    first.kill9();
    routes.create_topic("later", 1, 2, &[]);
    first.restart();
    until("the first one is back", PATIENCE, || {
        let partitions = routes.partitions("shared")?;
        partitions.iter().all(|one| one.in_sync.len() == 3).then_some(())
    });
}
