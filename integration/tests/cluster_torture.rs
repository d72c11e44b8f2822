//! Three nodes, each with a network of its own, are killed, frozen and cut off from each other under load, and nothing
//! that was acknowledged is lost, doubled, moved or changed: see [`integration::cluster::ledger`].
//!
//! `KLAMM_TORTURE_MINUTES=N` goes on for so long; `KLAMM_SEED=N` repeats the faults of a run, as far as processes allow
//! that; `KLAMM_TEST_CLUSTER=kafka` does it to Apache Kafka.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use integration::chance::{self, Random};
use integration::cluster::work::{Load, Progress, under_load};
use integration::cluster::{Cluster, Kind, Layout, Voters, network};
use integration::load::Shape;

const TOPIC: &str = "tortured";
/// Enough for the common accidents in `make test`; `make torture` asks for more.
const SECONDS: u64 = 20;
/// The longest time that a fault lasts: longer than the session of a broker and the patience of a quorum.
const FAULT_MS_MAX: u64 = 3_500;

/// Says a line past the test runner, which swallows what a passing test prints.
fn say(line: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(io::stderr(), "{line}");
}

fn node(random: &mut Random) -> i32 {
    i32::try_from(random.below(3)).unwrap_or(0) + 1
}

/// One of the other two nodes.
fn beside(random: &mut Random, id: i32) -> i32 {
    (id + i32::try_from(random.below(2)).unwrap_or(0)) % 3 + 1
}

/// What is done to a node, and undone after a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Killed(i32),
    /// SIGTERM, and a start afterwards.
    Stopped(i32),
    Frozen(i32),
    /// What the first sends to the second is lost.
    OneWay(i32, i32),
    /// The two do not hear each other, and both hear the third.
    TwoWay(i32, i32),
    /// Nobody hears it, and it hears everybody.
    Mute(i32),
    /// It hears nobody, and everybody hears it.
    Deaf(i32),
    /// Cut off from both others.
    Alone(i32),
}

impl Fault {
    fn random(random: &mut Random) -> Self {
        let id = node(random);
        match random.below(9) {
            0 | 1 => Self::Killed(id),
            2 => Self::Stopped(id),
            3 => Self::Frozen(id),
            4 => Self::OneWay(id, beside(random, id)),
            5 => Self::TwoWay(id, beside(random, id)),
            6 => Self::Mute(id),
            7 => Self::Deaf(id),
            _ => Self::Alone(id),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Killed(_) => "killed",
            Self::Stopped(_) => "stopped",
            Self::Frozen(_) => "frozen",
            Self::OneWay(..) => "cut off from one, one way",
            Self::TwoWay(..) => "cut off from one",
            Self::Mute(_) => "mute",
            Self::Deaf(_) => "deaf",
            Self::Alone(_) => "alone",
        }
    }

    fn victim(self) -> i32 {
        match self {
            Self::Killed(id)
            | Self::Stopped(id)
            | Self::Frozen(id)
            | Self::OneWay(id, _)
            | Self::TwoWay(id, _)
            | Self::Mute(id)
            | Self::Deaf(id)
            | Self::Alone(id) => id,
        }
    }

    /// The directions that are cut.
    fn cuts(self) -> Vec<(i32, i32)> {
        let others = |id: i32| [id % 3 + 1, (id + 1) % 3 + 1];
        match self {
            Self::Killed(_) | Self::Stopped(_) | Self::Frozen(_) => Vec::new(),
            Self::OneWay(from, to) => vec![(from, to)],
            Self::TwoWay(one, two) => vec![(one, two), (two, one)],
            Self::Mute(id) => others(id).map(|other| (id, other)).into(),
            Self::Deaf(id) => others(id).map(|other| (other, id)).into(),
            Self::Alone(id) => others(id).into_iter().flat_map(|other| [(id, other), (other, id)]).collect(),
        }
    }

    fn begin(self, cluster: &mut Cluster) {
        match self {
            Self::Killed(id) => cluster.kill9(id),
            Self::Stopped(id) => drop(cluster.terminate(id)),
            Self::Frozen(id) => cluster.freeze(id),
            Self::OneWay(..) | Self::TwoWay(..) | Self::Mute(_) | Self::Deaf(_) | Self::Alone(_) => {
                self.cuts().into_iter().for_each(|(from, to)| cluster.cut(from, to));
            }
        }
    }

    fn end(self, cluster: &mut Cluster) {
        match self {
            Self::Killed(id) | Self::Stopped(id) => cluster.launch(id),
            Self::Frozen(id) => cluster.thaw(id),
            Self::OneWay(..) | Self::TwoWay(..) | Self::Mute(_) | Self::Deaf(_) | Self::Alone(_) => {
                self.cuts().into_iter().for_each(|(from, to)| cluster.heal(from, to));
            }
        }
    }
}

/// Does harm until the end, one fault at a time or two at once, and sees after each that work goes on.
fn torture(
    cluster: &mut Cluster,
    progress: &Progress<'_>,
    random: &mut Random,
    end: Instant,
) -> BTreeMap<&'static str, u32> {
    let mut faults = BTreeMap::new();
    progress.more(cluster, 5);
    while Instant::now() < end {
        let first = Fault::random(random);
        let second = Some(Fault::random(random)).filter(|second| {
            // Nothing is done twice to one node, and nothing that takes its network away is undone by the other fault.
            second.victim() != first.victim() && (first.cuts().is_empty() || second.cuts().is_empty())
        });
        let second = second.filter(|_| random.below(3) == 0);
        for fault in [Some(first), second].into_iter().flatten() {
            *faults.entry(fault.name()).or_insert(0) += 1;
            // A node that is to stop in order needs others to tell, which a second fault may take from it.
            if let (Fault::Stopped(id), true) = (fault, second.is_some()) {
                Fault::Killed(id).begin(cluster);
            } else {
                fault.begin(cluster);
            }
        }
        thread::sleep(Duration::from_millis(100 + random.below(FAULT_MS_MAX)));
        for fault in [second, Some(first)].into_iter().flatten() {
            fault.end(cluster);
        }
        progress.more(cluster, 5);
        // The next fault comes when all is well again, or while replicas still catch up.
        if random.below(2) == 0 {
            cluster.await_in_sync(TOPIC);
        }
    }
    cluster.await_brokers();
    cluster.await_in_sync(TOPIC);
    progress.more(cluster, 5);
    faults
}

#[test]
fn nothing_acknowledged_is_lost_whatever_one_suffers() {
    if !network::run_isolated("nothing_acknowledged_is_lost_whatever_one_suffers") {
        return;
    }
    let seed = chance::seed("KLAMM_TORTURE_MINUTES");
    let mut random = Random::new(seed);
    let seconds = chance::variable("KLAMM_TORTURE_MINUTES").map_or(SECONDS, |minutes| minutes * 60);
    say(&format!("torture for {seconds} s"));
    let layout = Layout { isolated: true, ..Layout::three(Kind::under_test(), Voters::Fixed).quick() };
    let mut cluster = Cluster::start(layout);
    cluster.routes().create_topic(TOPIC, 3, 3, &[]);
    let shape = Shape { topic: TOPIC.into(), partitions: 3, batch_records: 4, value_bytes: 120 };
    let load = Load { shape, writers: 2, pace: Duration::from_millis(4) };
    let mut faults = BTreeMap::new();
    let began = Instant::now();
    let summary = under_load(&mut cluster, &load, |cluster, progress| {
        faults = torture(cluster, progress, &mut random, began + Duration::from_secs(seconds));
    });
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    let faults: Vec<String> = faults.iter().map(|(name, count)| format!("{count} {name}")).collect();
    say(&format!(
        "{minutes:.1} minutes, nodes {} (seed {seed}): {} records acknowledged and found in order and once, {} compared at all replicas, {} commits, {} epochs with one leader each",
        faults.join(", "),
        summary.records,
        summary.compared,
        summary.commits,
        summary.epochs,
    ));
}
