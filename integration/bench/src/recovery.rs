//! How long three nodes need to take produce requests again after one of them failed, for klamm and Apache Kafka beside
//! each other.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use integration::cluster::client::Routes;
use integration::cluster::{Cluster, Kind, Layout, Voters};
use integration::load::{Identity, Shape, produce};

const TOPIC: &str = "recovery";
/// How long the client that is timed waits for one answer before it asks who leads now.
const ANSWER: Duration = Duration::from_millis(200);
/// How long it waits between two requests.
const PACE: Duration = Duration::from_millis(2);
/// How long the cluster rests between two faults.
const REST: Duration = Duration::from_secs(2);

/// What `bench recovery` is asked for.
#[derive(Clone, Debug, Args)]
pub struct RecoveryOptions {
    /// Where to write the report; standard output without it
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// How often each fault is made
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Only klamm, for a quick look
    #[arg(long)]
    pub klamm_only: bool,
}

/// What is done to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    LeaderKilled,
    LeaderFrozen,
    ControllerKilled,
    RollingRestart,
}

const FAULTS: [Fault; 4] =
    [Fault::LeaderKilled, Fault::LeaderFrozen, Fault::ControllerKilled, Fault::RollingRestart];

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::LeaderKilled => "leader killed (`kill -9`), to the next acknowledgement",
            Self::LeaderFrozen => "leader frozen (SIGSTOP), to the next acknowledgement",
            Self::ControllerKilled => "active controller killed, to the next topic created",
            Self::RollingRestart => {
                "all three restarted in turn, the longest time without an acknowledgement"
            }
        }
    }
}

/// A client that produces one record after the other, and notes when each was sent and acknowledged.
struct Probe<'a> {
    routes: Routes,
    /// The node that is harmed, which the client does not ask who leads: 0 for none.
    harmed: &'a AtomicI32,
    stop: &'a AtomicBool,
    acknowledged: &'a Mutex<Vec<(Instant, Instant)>>,
}

impl Probe<'_> {
    fn run(&self) {
        let shape = Shape { topic: TOPIC.into(), partitions: 1, batch_records: 1, value_bytes: 100 };
        let all = self.routes.one_by_one();
        let mut connection = None;
        while !self.stop.load(Ordering::SeqCst) {
            let harmed = usize::try_from(self.harmed.load(Ordering::SeqCst)).unwrap_or(0);
            let mut others = all.iter().enumerate().filter(|(index, _)| index + 1 != harmed);
            let sent = Instant::now();
            let mut open = connection.take().or_else(|| {
                others.find_map(|(_, node)| node.clone().patient_for(ANSWER).leader(TOPIC, 0).ok())
            });
            let answer =
                open.as_mut().map(|open| produce(open, &shape, 0, Identity { producer: 0, count: 0 }));
            if let Some(Ok((0, _))) = answer {
                let mut list = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
                list.push((sent, Instant::now()));
                connection = open;
            }
            thread::sleep(PACE);
        }
    }
}

/// The time of each round.
type Times = Vec<Duration>;

fn leader(cluster: &mut Cluster) -> i32 {
    cluster.until("a leader", |cluster| {
        let partitions = cluster.routes().partitions(TOPIC)?;
        partitions.first().map(|one| one.leader).filter(|id| *id >= 0)
    })
}

fn measure(cluster: &mut Cluster, fault: Fault) -> Duration {
    let (harmed, stop, acknowledged) = (AtomicI32::new(0), AtomicBool::new(false), Mutex::default());
    thread::scope(|scope| {
        let probe =
            Probe { routes: cluster.routes(), harmed: &harmed, stop: &stop, acknowledged: &acknowledged };
        scope.spawn(move || probe.run());
        thread::sleep(REST);
        let recovered = |cluster: &mut Cluster| {
            // What was sent before the fault says nothing.
            let began = Instant::now();
            cluster.until("an acknowledgement", |_| {
                let list = acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
                list.iter().find(|(sent, _)| *sent > began).map(|(_, answered)| *answered - began)
            })
        };
        let took = match fault {
            Fault::LeaderKilled | Fault::LeaderFrozen => {
                let id = leader(cluster);
                harmed.store(id, Ordering::SeqCst);
                let kill = fault == Fault::LeaderKilled;
                if kill {
                    cluster.kill9(id)
                } else {
                    cluster.freeze(id)
                }
                let took = recovered(cluster);
                if kill {
                    cluster.launch(id)
                } else {
                    cluster.thaw(id)
                }
                took
            }
            Fault::ControllerKilled => {
                let id = cluster.controller();
                let others = cluster.nodes.iter().filter(|node| node.id != id).map(|node| node.address());
                let routes = Routes::new(others.collect()).patient_for(ANSWER);
                // Another one in each round.
                let topic =
                    format!("after-{}", cluster.routes().quorum_epoch().map_or(0, |(epoch, _)| epoch));
                let began = Instant::now();
                cluster.kill9(id);
                routes.create_topic(&topic, 1, 2, &[]);
                let took = began.elapsed();
                cluster.launch(id);
                took
            }
            Fault::RollingRestart => {
                for id in 1..=3 {
                    harmed.store(id, Ordering::SeqCst);
                    cluster.terminate(id);
                    cluster.launch(id);
                    cluster.await_brokers();
                    cluster.await_in_sync(TOPIC);
                }
                thread::sleep(REST / 2);
                let list = acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
                list.windows(2).map(|pair| pair[1].1 - pair[0].1).max().unwrap_or_default()
            }
        };
        stop.store(true, Ordering::SeqCst);
        took
    })
}

fn rounds(kind: Kind, quick: bool, count: usize) -> Vec<Times> {
    let layout = Layout::three(kind, Voters::Fixed);
    let mut cluster = Cluster::start(if quick { layout.quick() } else { layout });
    cluster.routes().create_topic(TOPIC, 1, 3, &[]);
    let mut times: Vec<Times> = FAULTS.iter().map(|_| Vec::new()).collect();
    for _ in 0..count {
        for (fault, times) in FAULTS.iter().zip(&mut times) {
            cluster.await_brokers();
            cluster.await_in_sync(TOPIC);
            times.push(measure(&mut cluster, *fault));
        }
    }
    times
}

fn shown(times: &Times) -> String {
    let mut sorted = times.clone();
    sorted.sort_unstable();
    let seconds = |at: usize| sorted.get(at).map_or(0.0, Duration::as_secs_f64);
    format!(
        "{:.2} s ({:.2}–{:.2})",
        seconds(sorted.len() / 2),
        seconds(0),
        seconds(sorted.len().saturating_sub(1))
    )
}

fn table(text: &mut String, options: &RecoveryOptions, quick: bool) {
    text.push_str("\n| What happens | klamm | Apache Kafka |\n|---|---|---|\n");
    let klamm = rounds(Kind::Klamm, quick, options.rounds);
    let kafka = (!options.klamm_only).then(|| rounds(Kind::Kafka, quick, options.rounds));
    for (index, fault) in FAULTS.iter().enumerate() {
        let kafka = kafka.as_ref().map_or_else(|| "not measured".to_owned(), |times| shown(&times[index]));
        let _ = writeln!(text, "| {} | {} | {kafka} |", fault.name(), shown(&klamm[index]));
    }
}

/// Measures both and writes the report.
///
/// # Errors
/// When it can not be written.
pub fn recovery(options: &RecoveryOptions) -> io::Result<String> {
    let mut text = format!(
        "# How long a cluster needs after a failure\n\n\
         Written by `make bench-recovery`: three nodes on one machine, each broker and controller, a topic with three replicas and\n\
         `min.insync.replicas=2`, and a client that produces one record after the other with `acks=all`. It waits {} ms for an answer\n\
         before it asks again who leads. Median of {} rounds (least–most).\n\n\
         With the defaults of each, {}:\n",
        ANSWER.as_millis(),
        options.rounds,
        "`broker.session.timeout.ms=9000` and `controller.quorum.fetch.timeout.ms=2000`"
    );
    table(&mut text, options, false);
    text.push_str(
        "\nWith both set to find failures sooner: `broker.session.timeout.ms=2000`, `broker.heartbeat.interval.ms=400`,\n\
         `controller.quorum.fetch.timeout.ms=1000`, `controller.quorum.election.timeout.ms=500`,\n\
         `controller.quorum.election.backoff.max.ms=200`, `replica.lag.time.max.ms=4000`:\n",
    );
    table(&mut text, options, true);
    if let Some(path) = &options.report {
        std::fs::write(path, &text)?;
    }
    Ok(text)
}
