//! Load on a cluster while harm is done to it: writers, readers, commits of offsets, and someone who watches who leads.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::client::{Reader, Routes, Writer, commit, committed};
use super::ledger::Ledger;
use super::{Cluster, Kind};
use crate::load::Shape;

const GROUP: &str = "workers";
/// How often a commit and the look at who leads come.
const TICK: Duration = Duration::from_millis(40);

/// What load there is.
#[derive(Clone, Debug)]
pub struct Load {
    /// The topic, which must exist with three replicas.
    pub shape: Shape,
    /// Writers of each partition.
    pub writers: u16,
    /// How long each writer waits between two batches.
    pub pace: Duration,
}

/// What was done in the end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Records that were acknowledged and found.
    pub records: u64,
    /// Records that were compared, at all replicas.
    pub compared: u64,
    /// Commits of offsets that were acknowledged.
    pub commits: u64,
    /// Epochs of partitions and of the quorum that were seen.
    pub epochs: usize,
}

/// What is going on while the load runs.
pub struct Progress<'a> {
    ledger: &'a Ledger,
    partitions: i32,
    counts: &'a [AtomicU64],
    finished: &'a AtomicBool,
}

impl Progress<'_> {
    /// Waits until further batches were acknowledged in every partition, and gives how long that took.
    ///
    /// # Panics
    /// When nothing is acknowledged for too long.
    pub fn more(&self, cluster: &mut Cluster, batches: u64) -> Duration {
        let began = Instant::now();
        let goals: Vec<u64> =
            self.counts.iter().map(|count| count.load(Ordering::SeqCst) + batches).collect();
        cluster.until("acknowledgements in every partition", |_| {
            assert!(!self.finished.load(Ordering::SeqCst), "a part of the load failed; see above");
            let reached = |(count, goal): (&AtomicU64, &u64)| count.load(Ordering::SeqCst) >= *goal;
            self.counts.iter().zip(&goals).all(reached).then_some(())
        });
        began.elapsed()
    }

    /// How many partitions there are.
    #[must_use]
    pub fn partitions(&self) -> i32 {
        self.partitions
    }

    /// How many records were acknowledged so far.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.ledger.acknowledged()
    }
}

/// Ends the threads, also when the test or one of them fails.
struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Ends the threads when the one that holds it fails.
struct Alarm<'a>(&'a AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}

/// Runs `harm` under load. Afterwards, when every node must be well again, all that was acknowledged is looked for at
/// every replica.
///
/// # Panics
/// When something is not as it must be; see [`super::ledger`].
pub fn under_load(
    cluster: &mut Cluster,
    load: &Load,
    harm: impl FnOnce(&mut Cluster, &Progress<'_>),
) -> Summary {
    let partitions = load.shape.partitions;
    let ledger = Ledger::new(partitions, !cluster.layout.kinds.contains(&Kind::Kafka));
    let counts: Vec<AtomicU64> = (0..partitions).map(|_| AtomicU64::new(0)).collect();
    let (finished, drained) = (AtomicBool::new(false), AtomicBool::new(false));
    let (attempted, acknowledged, commits) = (AtomicI64::new(0), AtomicI64::new(0), AtomicU64::new(0));
    let routes = cluster.routes();
    let (shape, compared) = (&load.shape, AtomicU64::new(0));
    thread::scope(|scope| {
        let finish = Finish(&finished);
        let _undrained = Alarm(&drained);
        let stop = || finished.load(Ordering::SeqCst);
        let mut writers = Vec::new();
        for number in 0..load.writers {
            for partition in 0..partitions {
                let number =
                    number * u16::try_from(partitions).unwrap_or(1) + u16::try_from(partition).unwrap_or(0);
                let mut writer = Writer::new(number, partition, shape.clone());
                let (mut routes, ledger, finished) = (routes.clone(), &ledger, &finished);
                let count = &counts[usize::try_from(partition).unwrap_or(0)];
                writers.push(scope.spawn(move || {
                    let _alarm = Alarm(finished);
                    let note = |acknowledged| {
                        ledger.acknowledge(acknowledged);
                        count.fetch_add(1, Ordering::SeqCst);
                    };
                    writer.run(&mut routes, note, || finished.load(Ordering::SeqCst), load.pace);
                }));
            }
        }
        for partition in 0..partitions {
            let (mut routes, ledger, compared, drained, finished) =
                (routes.clone(), &ledger, &compared, &drained, &finished);
            scope.spawn(move || {
                let _alarm = Alarm(finished);
                let mut reader = Reader::of_leader(&shape.topic, partition);
                while !drained.load(Ordering::SeqCst) {
                    let found = reader.read(&mut routes, ledger.end(partition));
                    let records = found.map_or(0, |found| ledger.read(partition, "its leader", &found));
                    compared.fetch_add(records as u64, Ordering::Relaxed);
                    thread::sleep(TICK);
                }
            });
        }
        let (ledger, finished, attempted, acknowledged, commits) =
            (&ledger, &finished, &attempted, &acknowledged, &commits);
        let watching = routes.clone();
        scope.spawn(move || {
            let _alarm = Alarm(finished);
            watch(&watching, ledger, &shape.topic, stop);
        });
        let committing = routes.clone();
        scope.spawn(move || {
            let _alarm = Alarm(finished);
            while !stop() {
                // Errors mean that the coordinator is moving.
                let _ = commit_on(&committing, &shape.topic, attempted, acknowledged, commits, &stop);
                thread::sleep(TICK);
            }
        });
        let progress = Progress { ledger, partitions, counts: &counts, finished };
        harm(cluster, &progress);
        assert!(!stop(), "a part of the load failed; see above");
        drop(finish);
        for writer in writers {
            assert!(writer.join().is_ok(), "a writer failed; see above");
        }
        drained.store(true, Ordering::SeqCst);
    });
    let compared = compared.into_inner() + compare_replicas(cluster, &ledger, shape);
    ledger.check();
    let (found, _) = cluster.until("the committed offset", |cluster| {
        let mut coordinator = cluster.routes().coordinator(GROUP).ok()?;
        committed(&mut coordinator, GROUP, &shape.topic).ok()?
    });
    check_committed(found, acknowledged.into_inner(), attempted.into_inner());
    Summary {
        records: ledger.acknowledged(),
        compared,
        commits: commits.into_inner(),
        epochs: ledger.epochs(),
    }
}

fn check_committed(found: i64, acknowledged: i64, attempted: i64) {
    assert!(
        (acknowledged..=attempted).contains(&found) || (acknowledged == 0 && found == -1),
        "offset {found} is committed: {acknowledged} was acknowledged, {attempted} was tried"
    );
}

/// Notes who leads which epoch, as every node tells it.
fn watch(routes: &Routes, ledger: &Ledger, topic: &str, stop: impl Fn() -> bool) {
    let nodes: Vec<Routes> = routes.one_by_one();
    while !stop() {
        for node in &nodes {
            if let Some(partitions) = node.partitions(topic) {
                ledger.leaders(&partitions);
            }
            if let Some((epoch, leader)) = node.quorum_epoch() {
                ledger.leads(-1, epoch, leader);
            }
        }
        thread::sleep(TICK);
    }
}

/// Commits ever higher offsets at one coordinator, and reads now and then what is committed.
fn commit_on(
    routes: &Routes,
    topic: &str,
    attempted: &AtomicI64,
    acknowledged: &AtomicI64,
    commits: &AtomicU64,
    stop: &impl Fn() -> bool,
) -> std::io::Result<()> {
    let mut coordinator = routes.coordinator(GROUP)?;
    while !stop() {
        let offset = attempted.fetch_add(1, Ordering::SeqCst) + 1;
        if !commit(&mut coordinator, GROUP, topic, offset)? {
            return Ok(());
        }
        acknowledged.store(offset, Ordering::SeqCst);
        commits.fetch_add(1, Ordering::Relaxed);
        if offset % 8 == 0 {
            let Some((found, metadata)) = committed(&mut coordinator, GROUP, topic)? else { return Ok(()) };
            check_committed(found, offset, offset);
            assert_eq!(metadata, found.to_string(), "metadata beside the committed offset");
        }
        thread::sleep(TICK);
    }
    Ok(())
}

/// Reads all of every replica; gives how many records were compared.
fn compare_replicas(cluster: &mut Cluster, ledger: &Ledger, shape: &Shape) -> u64 {
    let mut compared = 0;
    let mut routes = cluster.routes();
    for partition in 0..shape.partitions {
        // To the end of the leader's log first: the rest is compared with it.
        let mut reader = Reader::of_leader(&shape.topic, partition);
        cluster.until("the end of the leader's log", |_| {
            let found = reader.read(&mut routes, ledger.end(partition))?;
            compared += ledger.read(partition, "its leader", &found) as u64;
            (found.high_watermark == ledger.end(partition)).then_some(())
        });
        let described = cluster.until("the replicas", |_| routes.partitions(&shape.topic));
        let replicas = described.into_iter().find(|one| one.index == partition).map(|one| one.replicas);
        for replica in replicas.unwrap_or_default() {
            let mut reader = Reader::of_replica(&shape.topic, partition, cluster.node(replica).address());
            let (mut at, end, from) = (0, ledger.end(partition), format!("node {replica}"));
            cluster.until(
                &format!("all of partition {partition} at {from}, which has {end} records"),
                |_| {
                    while at < end {
                        let found = reader.read(&mut routes, at).filter(|found| !found.records.is_empty())?;
                        at = found.records.last().map_or(at, |(offset, _)| offset + 1);
                        compared += ledger.read(partition, &from, &found) as u64;
                    }
                    Some(())
                },
            );
        }
    }
    compared
}
