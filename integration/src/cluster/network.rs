//! Nodes in network namespaces of their own, joined by a bridge in the namespace of the test, whose clients reach
//! every node whatever the nodes see of each other.
//!
//! A direction between two nodes is cut by a neighbour entry that leads nowhere: what the one sends is lost without a
//! word, as on a broken line, and connections that exist are cut too. Nothing but `ip`, `unshare` and `nsenter` is
//! needed, and no right that a user namespace does not give.

use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Where no interface is.
const NOWHERE: &str = "02:00:00:00:00:01";
const BRIDGE: &str = "klamm0";
/// Set in the process that [`run_isolated`] starts.
const INSIDE: &str = "KLAMM_TEST_ISOLATED";

/// Runs this test again in a network namespace of its own, unless this is that run already: `true` where the test's
/// body is to be run. What the body leaves behind vanishes with the namespace.
///
/// # Panics
/// When the test fails there.
#[must_use]
pub fn run_isolated(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let itself = std::env::current_exe().expect("the test executable");
    let mut command = Command::new("unshare");
    // Root needs no user namespace, and would lose what it may do by one.
    if !may("unshare", &["--net", "true"]) {
        command.args(["--user", "--map-root-user"]);
    }
    let status = command
        .arg("--net")
        .arg("--")
        .arg(itself)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .status();
    assert!(status.expect("unshare can be started").success(), "{test} failed in its network namespace");
    false
}

fn may(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn ip(arguments: &str) {
    run(Command::new("ip").args(arguments.split(' ')), arguments);
}

fn run(command: &mut Command, arguments: &str) {
    let output = command.output().expect("ip can be started");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The bridge that joins the namespaces of the nodes.
#[derive(Debug)]
pub struct Network(());

impl Network {
    /// Makes the bridge, in the namespace of this process.
    ///
    /// # Panics
    /// When that is not allowed, or the process is not in a namespace of its own: see [`run_isolated`].
    #[must_use]
    pub(super) fn create() -> Self {
        assert!(std::env::var_os(INSIDE).is_some(), "a test of isolated nodes begins with run_isolated");
        ip("link set lo up");
        ip(&format!("link add {BRIDGE} type bridge"));
        ip(&format!("addr add 10.77.0.254/24 dev {BRIDGE}"));
        ip(&format!("link set {BRIDGE} up"));
        Self(())
    }

    /// A namespace for the node with this id.
    pub(super) fn join(&self, id: i32) -> Namespace {
        let holder = Command::new("unshare")
            .args(["--net", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare can be started");
        let namespace = Namespace { address: format!("10.77.0.{id}"), holder };
        namespace.await_own();
        let pid = namespace.holder.id();
        ip(&format!("link add node{id} type veth peer name eth0 netns {pid}"));
        ip(&format!("link set node{id} master {BRIDGE} up"));
        namespace.ip("link set lo up");
        namespace.ip(&format!("addr add {}/24 dev eth0", namespace.address));
        namespace.ip("link set eth0 up");
        namespace
    }
}

/// The network namespace of one node.
#[derive(Debug)]
pub struct Namespace {
    /// The node's address.
    pub address: String,
    /// Keeps the namespace while the node's process is dead.
    holder: Child,
}

impl Namespace {
    /// A command that runs in this namespace.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.id())).arg("--").arg(program);
        command
    }

    fn ip(&self, arguments: &str) {
        run(self.command(Path::new("ip")).args(arguments.split(' ')), arguments);
    }

    /// The holder is in the namespace of the test until `unshare` has made the new one.
    fn await_own(&self) {
        let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
        let (own, holder) = (of("self"), self.holder.id().to_string());
        crate::process::until("a network namespace", std::time::Duration::from_secs(60), || {
            of(&holder).filter(|found| Some(found) != own.as_ref())
        });
    }

    /// Loses everything that this node sends to the other one. What the other one sends still arrives.
    pub fn cut(&self, other: &Self) {
        self.ip(&format!("neigh replace {} lladdr {NOWHERE} dev eth0 nud permanent", other.address));
    }

    /// Undoes [`Self::cut`].
    pub fn heal(&self, other: &Self) {
        // There is no entry where nothing was cut.
        let arguments = format!("neigh del {} dev eth0", other.address);
        let mut command = self.command(Path::new("ip"));
        command.args(arguments.split(' ')).stderr(Stdio::null());
        let _ = command.status();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
