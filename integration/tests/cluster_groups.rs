//! Groups of real consumers, in both protocols, whose coordinators are killed: the members find the next one, none reads
//! again what was committed, nobody leaves anything out, and committed offsets never go back.
//!
//! `KLAMM_TEST_CLUSTER=kafka` runs the same against three nodes of Apache Kafka.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use integration::cluster::client::committed;
use integration::cluster::work::{Load, Progress, under_load};
use integration::cluster::{Cluster, Kind, Layout, Voters};
use integration::load::Shape;
use serde_json::Value;

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 3;
/// The protocols, of which each has a group of its name.
const PROTOCOLS: [&str; 2] = ["classic", "consumer"];
const MEMBERS: usize = 2;

/// What a member has told: of which group it is, and the event.
type Told = Arc<Mutex<Vec<(&'static str, Value)>>>;

/// A `kafka-verifiable-consumer`, which commits what it has read after each poll.
struct Member {
    child: Child,
    listens: Option<JoinHandle<()>>,
}

impl Member {
    fn start(bootstrap: &str, protocol: &'static str, told: &Told) -> Self {
        let mut child = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("peer/tool"))
            .args(["kafka-verifiable-consumer", "--bootstrap-server", bootstrap, "--topic", TOPIC])
            .args(["--group-id", protocol, "--group-protocol", protocol, "--reset-policy", "earliest"])
            .env("KAFKA_HEAP_OPTS", "-Xmx128M")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("peer/tool can be started");
        let lines = BufReader::new(child.stdout.take().expect("standard output is a pipe")).lines();
        let told = Arc::clone(told);
        let listens = thread::spawn(move || {
            let events = lines.map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok());
            events.for_each(|event| lock(&told).push((protocol, event)));
        });
        Self { child, listens: Some(listens) }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.listens.take().map(JoinHandle::join);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number(value: &Value, name: &str) -> i64 {
    value[name].as_i64().unwrap_or_else(|| panic!("no number {name} in {value}"))
}

/// The partitions or offsets that an event lists.
fn parts<'a>(event: &'a Value, name: &str) -> impl Iterator<Item = (i64, &'a Value)> {
    event[name].as_array().into_iter().flatten().map(|part| (number(part, "partition"), part))
}

/// How far a group has come in a partition.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    /// Every record below was read.
    read: i64,
    /// The last offset whose commit was acknowledged.
    committed: i64,
    commits: u64,
    read_again: i64,
}

/// Looks at everything that was told, in the order in which it happened.
fn check(told: &Told) -> BTreeMap<(&'static str, i64), Position> {
    let mut events = lock(told).clone();
    events.sort_by_key(|(_, event)| number(event, "timestamp"));
    let mut positions = BTreeMap::<_, Position>::new();
    for (group, event) in &events {
        match event["name"].as_str() {
            Some("records_consumed") => {
                for (partition, part) in parts(event, "partitions") {
                    let position = positions.entry((*group, partition)).or_default();
                    let (first, last) = (number(part, "minOffset"), number(part, "maxOffset"));
                    assert!(first >= position.committed, "{group} reads again: {event} after {position:?}");
                    assert!(first <= position.read, "{group} leaves records out: {event} after {position:?}");
                    position.read_again += position.read - first;
                    position.read = position.read.max(last + 1);
                }
            }
            Some("offsets_committed") if event["success"] == true => {
                for (partition, part) in parts(event, "offsets") {
                    let position = positions.entry((*group, partition)).or_default();
                    let offset = number(part, "offset");
                    assert!(offset >= position.committed, "{group} goes back: {event} after {position:?}");
                    position.committed = offset;
                    position.commits += 1;
                }
            }
            _ => {}
        }
    }
    positions
}

/// Waits until every group has committed more offsets in every partition.
fn more(cluster: &mut Cluster, told: &Told, count: u64) {
    let commits = |group, partition| {
        let found = check(told).get(&(group, i64::from(partition))).map(|found| found.commits);
        found.unwrap_or(0)
    };
    for group in PROTOCOLS {
        for partition in 0..PARTITIONS {
            let goal = commits(group, partition) + count;
            cluster.until(&format!("commits of {group} in partition {partition}"), |_| {
                (commits(group, partition) >= goal).then_some(())
            });
        }
    }
}

fn lose_coordinators(cluster: &mut Cluster, progress: &Progress<'_>, told: &Told) {
    progress.more(cluster, 5);
    for group in PROTOCOLS {
        cluster.await_in_sync(TOPIC);
        cluster.await_in_sync("__consumer_offsets");
        more(cluster, told, 5);
        let id = cluster.until("the coordinator", |cluster| {
            let address = cluster.routes().coordinator_address(group, 0).ok()?;
            cluster.nodes.iter().find(|node| node.address() == address).map(|node| node.id)
        });
        cluster.kill9(id);
        more(cluster, told, 5);
        cluster.launch(id);
        cluster.await_brokers();
    }
    more(cluster, told, 5);
}

#[test]
fn groups_survive_the_loss_of_their_coordinators() {
    let layout = Layout::three(Kind::under_test(), Voters::Fixed).quick();
    let layout = layout
        .with("group.consumer.min.heartbeat.interval.ms", "200")
        .with("group.consumer.heartbeat.interval.ms", "500")
        .with("replica.lag.time.max.ms", "2000");
    let mut cluster = Cluster::start(layout);
    cluster.routes().create_topic(TOPIC, PARTITIONS, 3, &[]);
    let told = Told::default();
    let bootstrap = cluster.bootstrap();
    let start = |protocol| (0..MEMBERS).map(move |_| protocol);
    let members: Vec<Member> = PROTOCOLS
        .into_iter()
        .flat_map(start)
        .map(|protocol| Member::start(&bootstrap, protocol, &told))
        .collect();
    let shape = Shape { topic: TOPIC.into(), partitions: PARTITIONS, batch_records: 5, value_bytes: 100 };
    let load = Load { shape, writers: 1, pace: Duration::from_millis(20) };
    let summary =
        under_load(&mut cluster, &load, |cluster, progress| lose_coordinators(cluster, progress, &told));
    drop(members);
    let positions = check(&told);
    for group in PROTOCOLS {
        let (found, _) = cluster.until("the committed offset", |cluster| {
            let mut coordinator = cluster.routes().coordinator(group).ok()?;
            committed(&mut coordinator, group, TOPIC).ok()?
        });
        let position = positions[&(group, 0)];
        assert!((position.committed..=position.read).contains(&found), "{found} is committed: {position:?}");
    }
    // A closed standard error is no reason to fail.
    let _ = writeln!(io::stderr(), "{positions:?}, {summary:?}");
}
