//! Clusters of real processes, of klamm or of Apache Kafka, described by the same `server.properties` for both.
//!
//! - [`Layout`] says what nodes there are, [`Cluster`] runs them and does them harm;
//! - [`network`]: nodes in network namespaces of their own, and what cuts them off from each other;
//! - [`client`]: clients that find leaders and go on after a failure;
//! - [`ledger`]: everything that was acknowledged and read, and what must hold of it;
//! - [`work`]: load, while harm is done.

pub mod client;
pub mod ledger;
pub mod network;
pub mod work;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::ports::free_port;
use crate::process::{binary, until};
use crate::tools::Tools;
use client::Routes;
use network::{Namespace, Network};

/// How long a cluster may take to come up or to repair itself: generous, since other tests run beside.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The cluster id of clusters that are formatted.
const CLUSTER_ID: &str = "Bx3FQKTfS7Gv1fCdsqJ6Hg";

/// Whose processes the nodes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Klamm,
    Kafka,
}

impl Kind {
    /// What the tests run against: klamm, or Apache Kafka where `KLAMM_TEST_CLUSTER=kafka` asks for it, by which the
    /// tests themselves are checked.
    #[must_use]
    pub fn under_test() -> Self {
        match std::env::var("KLAMM_TEST_CLUSTER").as_deref() {
            Ok("kafka") => Self::Kafka,
            _ => Self::Klamm,
        }
    }
}

/// How the quorum of controllers comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voters {
    /// `controller.quorum.voters`.
    Fixed,
    /// Directories formatted with all controllers as the initial ones (KIP-853).
    Initial,
    /// The first controller is formatted alone, and the others join by themselves (KIP-1186).
    Joining,
}

/// A cluster that can be started.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Whose process each node is; node ids count from 1.
    pub kinds: Vec<Kind>,
    /// `process.roles` of each node.
    pub roles: Vec<&'static str>,
    /// How many of the controllers, from the first on, vote when the cluster begins.
    pub voters_at_first: usize,
    pub voters: Voters,
    /// Further keys of every node.
    pub config: Vec<(String, String)>,
    /// Keys of single nodes, by their ids.
    pub of_nodes: Vec<(i32, String)>,
    /// Whether each node has a network namespace of its own.
    pub isolated: bool,
}

impl Layout {
    /// One node, which can lose none.
    #[must_use]
    pub fn one(kind: Kind) -> Self {
        let config = [
            ("offsets.topic.replication.factor", "1"),
            ("transaction.state.log.replication.factor", "1"),
            ("transaction.state.log.min.isr", "1"),
            ("share.coordinator.state.topic.replication.factor", "1"),
            ("share.coordinator.state.topic.min.isr", "1"),
            ("group.initial.rebalance.delay.ms", "0"),
        ];
        let config = config.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Self {
            kinds: vec![kind],
            roles: vec!["broker,controller"],
            voters_at_first: 1,
            voters: Voters::Fixed,
            config,
            of_nodes: Vec::new(),
            isolated: false,
        }
    }

    /// Three nodes that are brokers and controllers, with what a cluster needs to lose one of them.
    #[must_use]
    pub fn three(kind: Kind, voters: Voters) -> Self {
        let config = [
            ("default.replication.factor", "3"),
            ("min.insync.replicas", "2"),
            ("offsets.topic.replication.factor", "3"),
            ("offsets.topic.num.partitions", "3"),
            ("transaction.state.log.replication.factor", "3"),
            ("transaction.state.log.num.partitions", "3"),
            ("transaction.state.log.min.isr", "2"),
            ("share.coordinator.state.topic.replication.factor", "3"),
            ("auto.create.topics.enable", "false"),
            ("group.initial.rebalance.delay.ms", "0"),
        ];
        let config = config.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Self {
            kinds: vec![kind; 3],
            roles: vec!["broker,controller"; 3],
            voters_at_first: 3,
            voters,
            config,
            of_nodes: Vec::new(),
            isolated: false,
        }
    }

    /// The same with failures found within about two seconds, so that tests are short.
    #[must_use]
    pub fn quick(self) -> Self {
        self.with("broker.session.timeout.ms", "2000")
            .with("broker.heartbeat.interval.ms", "400")
            .with("controller.quorum.fetch.timeout.ms", "1000")
            .with("controller.quorum.election.timeout.ms", "500")
            .with("controller.quorum.election.backoff.max.ms", "200")
            .with("replica.lag.time.max.ms", "4000")
    }

    /// The same with nodes of both kinds: this one, by its place, is of this kind.
    #[must_use]
    pub fn with_kind(mut self, place: usize, kind: Kind) -> Self {
        self.kinds[place] = kind;
        self
    }

    /// The same with this many nodes of this kind more, which vote only when they are told to.
    #[must_use]
    pub fn and_later(mut self, count: usize, kind: Kind, roles: &'static str) -> Self {
        self.kinds.extend(vec![kind; count]);
        self.roles.extend(vec![roles; count]);
        self
    }

    /// The same with this key set in every node.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.config.retain(|(other, _)| other != key);
        self.config.push((key.to_owned(), value.to_owned()));
        self
    }

    /// The same with this key set in one node.
    #[must_use]
    pub fn with_of(mut self, id: i32, key: &str, value: &str) -> Self {
        self.of_nodes.push((id, format!("{key}={value}")));
        self
    }
}

/// One node.
#[derive(Debug)]
pub struct Node {
    pub id: i32,
    kind: Kind,
    roles: &'static str,
    host: String,
    port: u16,
    controller_port: u16,
    admin_port: u16,
    directory: PathBuf,
    directory_id: String,
    namespace: Option<Namespace>,
    child: Option<Child>,
}

impl Node {
    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Where other controllers connect.
    #[must_use]
    pub fn controller_address(&self) -> String {
        format!("{}:{}", self.host, self.controller_port)
    }

    /// Where klamm serves metrics.
    #[must_use]
    pub fn admin_url(&self) -> String {
        format!("http://{}:{}", self.host, self.admin_port)
    }

    #[must_use]
    pub fn is_broker(&self) -> bool {
        self.roles.contains("broker")
    }

    #[must_use]
    pub fn is_controller(&self) -> bool {
        self.roles.contains("controller")
    }

    /// Whether its process was started and not ended by [`Cluster`]; one that ended by itself is one too.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// The directory id that the node was formatted with.
    #[must_use]
    pub fn directory_id(&self) -> &str {
        &self.directory_id
    }

    /// The file of its configuration.
    #[must_use]
    pub fn properties(&self) -> PathBuf {
        self.directory.join("server.properties")
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The directory id that is in use, which nodes that vote from the beginning are given and others choose.
    ///
    /// # Panics
    /// When the directory is not formatted.
    #[must_use]
    pub fn chosen_directory_id(&self) -> String {
        let text = fs::read_to_string(self.data().join("meta.properties")).expect("a formatted directory");
        let id = text.lines().find_map(|line| line.strip_prefix("directory.id="));
        id.expect("a directory id").to_owned()
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// All that it wrote.
    #[must_use]
    pub fn words(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// The last lines of what it wrote.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = self.words();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn configure(&self, layout: &Layout, controllers: &[(i32, String)]) {
        let Self { host, port, controller_port, .. } = self;
        let broker = format!("PLAINTEXT://{host}:{port}");
        let controller = format!("CONTROLLER://{host}:{controller_port}");
        let listeners = match (self.is_broker(), self.is_controller()) {
            (true, true) => format!("{broker},{controller}"),
            (true, false) => broker,
            (false, _) => controller,
        };
        let mut text = format!(
            "process.roles={}\nnode.id={}\nlisteners={listeners}\ncontroller.listener.names=CONTROLLER\nlog.dirs={}\n",
            self.roles,
            self.id,
            self.data().display()
        );
        let list: Vec<String> = match layout.voters {
            Voters::Fixed => controllers.iter().map(|(id, address)| format!("{id}@{address}")).collect(),
            Voters::Initial | Voters::Joining => {
                controllers.iter().map(|(_, address)| address.clone()).collect()
            }
        };
        let key = if layout.voters == Voters::Fixed { "voters" } else { "bootstrap.servers" };
        let _ = writeln!(text, "controller.quorum.{key}={}", list.join(","));
        if layout.voters == Voters::Joining && self.is_controller() {
            text.push_str("controller.quorum.auto.join.enable=true\n");
        }
        for (name, value) in &layout.config {
            let _ = writeln!(text, "{name}={value}");
        }
        for (_, line) in layout.of_nodes.iter().filter(|(id, _)| *id == self.id) {
            let _ = writeln!(text, "{line}");
        }
        fs::create_dir_all(&self.directory).expect("a directory for the node");
        fs::write(self.properties(), text).expect("a file for its configuration");
    }

    fn launch(&mut self) {
        assert!(self.child.is_none(), "node {} runs already", self.id);
        let log = File::options().create(true).append(true).open(self.log()).expect("a file for its log");
        let mut command = match self.kind {
            Kind::Klamm => {
                let mut command = command_in(self.namespace.as_ref(), &binary());
                command.arg("--config").arg(self.properties());
                command.args(["--admin-listen", &format!("{}:{}", self.host, self.admin_port)]);
                command
            }
            Kind::Kafka => {
                let mut command = command_in(self.namespace.as_ref(), &peer().join("node"));
                command.arg(self.properties()).env("KAFKA_HEAP_OPTS", "-Xmx400M -Xms200M");
                command
            }
        };
        let errors = log.try_clone().expect("a second handle");
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        self.child = Some(command.spawn().expect("the node's program can be started"));
    }

    fn signal(&self, name: &str) {
        let Some(child) = &self.child else { panic!("node {} does not run", self.id) };
        // The shell's own `kill`: a small system has no program of that name.
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", child.id())).status();
        assert!(sent.is_ok_and(|status| status.success()), "SIG{name} could not be sent to node {}", self.id);
    }
}

fn peer() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peer")
}

fn command_in(namespace: Option<&Namespace>, program: &Path) -> Command {
    namespace.map_or_else(|| Command::new(program), |namespace| namespace.command(program))
}

/// A running cluster. Dropping it kills its processes.
#[derive(Debug)]
pub struct Cluster {
    pub nodes: Vec<Node>,
    layout: Layout,
    network: Option<Network>,
    tools: Option<Tools>,
    scratch: TempDir,
}

impl Cluster {
    /// Starts a cluster and waits until every broker of it serves.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(layout: Layout) -> Self {
        let mut cluster = Self::prepare(layout);
        cluster.launch_all(cluster.nodes.len());
        cluster
    }

    /// Starts the first nodes and waits until every broker among them serves.
    ///
    /// # Panics
    /// When they do not come up.
    pub fn launch_all(&mut self, count: usize) {
        self.nodes[..count].iter_mut().for_each(Node::launch);
        self.await_brokers();
    }

    /// The same without starting anything: directories are formatted, configurations written.
    ///
    /// # Panics
    /// When directories can not be made.
    #[must_use]
    pub fn prepare(layout: Layout) -> Self {
        let scratch = TempDir::new().expect("a temporary directory");
        let network = layout.isolated.then(Network::create);
        let nodes: Vec<Node> = (1..)
            .zip(layout.roles.iter().zip(&layout.kinds))
            .map(|(id, (roles, kind))| {
                let namespace = network.as_ref().map(|network| network.join(id));
                Node {
                    id,
                    kind: *kind,
                    roles,
                    host: namespace.as_ref().map_or("127.0.0.1", |inside| &inside.address).to_owned(),
                    port: free_port(),
                    controller_port: free_port(),
                    admin_port: free_port(),
                    directory: scratch.path().join(format!("node{id}")),
                    directory_id: format!("Dx3FQKTfS7Gv1fCdsq{:02}Jw", id + 10),
                    namespace,
                    child: None,
                }
            })
            .collect();
        let mut cluster = Self { nodes, layout, network, tools: None, scratch };
        let controllers = cluster.controllers();
        for node in &cluster.nodes {
            node.configure(&cluster.layout, &controllers);
        }
        for index in 0..cluster.nodes.len() {
            cluster.format(index);
        }
        cluster
    }

    fn controllers(&self) -> Vec<(i32, String)> {
        let controllers = self.nodes.iter().filter(|node| node.is_controller());
        controllers.map(|node| (node.id, node.controller_address())).collect()
    }

    /// Formats a node's directory, where that is needed: nodes of klamm find out by themselves who fixed voters are, and
    /// agree on the cluster's id.
    fn format(&mut self, index: usize) {
        let node = &self.nodes[index];
        let votes = node.is_controller() && index < self.layout.voters_at_first;
        let all_klamm = self.layout.kinds.iter().all(|kind| *kind == Kind::Klamm);
        let how = match (self.layout.voters, votes) {
            (Voters::Fixed, _) if all_klamm => return,
            (Voters::Fixed, _) => String::new(),
            (Voters::Initial, true) => {
                let entry =
                    |node: &Node| format!("{}@{}:{}", node.id, node.controller_address(), node.directory_id);
                let first = &self.nodes[..self.layout.voters_at_first];
                let controllers = first.iter().filter(|node| node.is_controller());
                format!(" --initial-controllers {}", controllers.map(entry).collect::<Vec<_>>().join(","))
            }
            (Voters::Joining, true) if index == 0 => " --standalone".to_owned(),
            (Voters::Initial | Voters::Joining, _) => " --no-initial-controllers".to_owned(),
        };
        let options =
            format!("format --cluster-id {CLUSTER_ID} --config {}{how}", node.properties().display());
        match node.kind {
            Kind::Klamm => {
                let formatted = Command::new(binary()).args(options.split(' ')).output();
                let formatted = formatted.expect("klamm can be started");
                assert!(formatted.status.success(), "klamm {options}: {formatted:?}");
            }
            Kind::Kafka => {
                drop(self.tools().run(&format!("kafka-storage {options}")).success());
            }
        }
    }

    /// Where everything of this cluster is; it vanishes with it.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Where clients connect: every broker.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let brokers = self.nodes.iter().filter(|node| node.is_broker());
        brokers.map(Node::address).collect::<Vec<_>>().join(",")
    }

    /// Clients that know every broker by name.
    #[must_use]
    pub fn routes(&self) -> Routes {
        Routes::new(self.bootstrap().split(',').map(str::to_owned).collect())
    }

    /// The console tools of Apache Kafka, pointed at this cluster.
    pub fn tools(&mut self) -> &mut Tools {
        let bootstrap = self.bootstrap();
        self.tools.get_or_insert_with(|| Tools::start(&bootstrap))
    }

    /// The node with this id.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn node(&self, id: i32) -> &Node {
        self.nodes.iter().find(|node| node.id == id).unwrap_or_else(|| panic!("there is no node {id}"))
    }

    fn node_mut(&mut self, id: i32) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.id == id).unwrap_or_else(|| panic!("there is no node {id}"))
    }

    fn namespace(&self, id: i32) -> &Namespace {
        self.node(id).namespace.as_ref().expect("the layout asks for isolated nodes")
    }

    /// Loses what one isolated node sends to another one; what comes back still arrives.
    pub fn cut(&self, from: i32, to: i32) {
        self.namespace(from).cut(self.namespace(to));
    }

    /// Undoes [`Self::cut`].
    pub fn heal(&self, from: i32, to: i32) {
        self.namespace(from).heal(self.namespace(to));
    }

    /// Waits until the brokers that run are all in the metadata that each of them gives.
    ///
    /// # Panics
    /// When that does not happen.
    pub fn await_brokers(&mut self) {
        let brokers: Vec<i32> =
            self.nodes.iter().filter(|node| node.is_broker() && node.is_up()).map(|node| node.id).collect();
        for id in brokers.clone() {
            self.until(&format!("node {id} to see all brokers"), |cluster| {
                let mut seen = Routes::new(vec![cluster.node(id).address()]).brokers()?;
                seen.sort_unstable();
                (seen == brokers).then_some(())
            });
        }
    }

    /// Waits for something to be so, and says what the nodes wrote where it does not come, or one ends.
    ///
    /// # Panics
    /// When the time is over, or a node has ended by itself.
    pub fn until<T>(&mut self, what: &str, mut ask: impl FnMut(&mut Self) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = ask(self) {
                return answer;
            }
            for node in &mut self.nodes {
                let ended = node.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
                assert!(ended.is_none(), "node {} ended with {ended:?} while waiting for {what}", node.id);
            }
            assert!(Instant::now() < end, "waited {PATIENCE:?} for {what}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends a node at once: `kill -9`.
    pub fn kill9(&mut self, id: i32) {
        if let Some(mut child) = self.node_mut(id).child.take() {
            // Both fail only where the process has ended already, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops a node where it stands: SIGSTOP. Its connections stay open.
    pub fn freeze(&self, id: i32) {
        self.node(id).signal("STOP");
    }

    /// Lets a frozen node go on: SIGCONT.
    pub fn thaw(&self, id: i32) {
        self.node(id).signal("CONT");
    }

    /// Asks a node to stop (SIGTERM) and waits until it has; gives how long that took.
    ///
    /// # Panics
    /// When it does not stop in time.
    pub fn terminate(&mut self, id: i32) -> Duration {
        let began = Instant::now();
        self.node(id).signal("TERM");
        let node = self.node_mut(id);
        let words = node.log();
        let child = node.child.as_mut().expect("the node runs");
        until(&format!("node {id} to stop (see {})", words.display()), PATIENCE, || {
            child.try_wait().ok().flatten()
        });
        node.child = None;
        began.elapsed()
    }

    /// Starts a node that was ended.
    pub fn launch(&mut self, id: i32) {
        self.node_mut(id).launch();
    }

    /// Removes what a node that was ended has stored. Its next life begins with an empty directory.
    ///
    /// # Panics
    /// When the directory can not be removed.
    pub fn wipe(&mut self, id: i32) {
        let index = self.nodes.iter().position(|node| node.id == id).expect("a node of this cluster");
        assert!(self.nodes[index].child.is_none(), "node {id} runs");
        fs::remove_dir_all(self.nodes[index].data()).expect("the data directory can be removed");
        self.format(index);
    }

    /// Adds a broker that is not a controller, with the next node id, and starts it.
    pub fn add_broker(&mut self) -> i32 {
        let id = self.nodes.iter().map(|node| node.id).max().unwrap_or(0) + 1;
        let namespace = self.network.as_ref().map(|network| network.join(id));
        let node = Node {
            id,
            kind: self.layout.kinds[0],
            roles: "broker",
            host: namespace.as_ref().map_or("127.0.0.1", |inside| &inside.address).to_owned(),
            port: free_port(),
            controller_port: free_port(),
            admin_port: free_port(),
            directory: self.scratch.path().join(format!("node{id}")),
            directory_id: format!("Dx3FQKTfS7Gv1fCdsq{:02}Jw", id + 10),
            namespace,
            child: None,
        };
        node.configure(&self.layout, &self.controllers());
        self.nodes.push(node);
        let index = self.nodes.len() - 1;
        self.format(index);
        self.nodes[index].launch();
        id
    }

    /// The active controller, as any broker that runs tells.
    ///
    /// # Panics
    /// When nobody can tell.
    pub fn controller(&mut self) -> i32 {
        self.until("an active controller", |cluster| {
            let up = cluster.nodes.iter().filter(|node| node.is_up() && node.is_broker());
            let bootstrap = up.map(Node::address).collect();
            Routes::new(bootstrap).quorum_leader()
        })
    }

    /// Waits until every replica of the topic is in sync.
    ///
    /// # Panics
    /// When that does not happen.
    pub fn await_in_sync(&mut self, topic: &str) {
        self.until(&format!("all replicas of {topic} in sync"), |cluster| {
            let partitions = cluster.routes().partitions(topic)?;
            let whole = !partitions.is_empty()
                && partitions.iter().all(|one| one.leader >= 0 && one.in_sync.len() == one.replicas.len());
            whole.then_some(())
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut child) = node.child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
            if thread::panicking() {
                eprintln!("--- the last words of node {} ---\n{}", node.id, node.last_words());
            }
        }
    }
}
