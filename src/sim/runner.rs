//! Runs seeds, many at a time, and says how to repeat the one that failed.

use std::fmt;
use std::ops::AddAssign;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::trace::{LINES_SHOWN, Trace};

/// Says that something happened that must not happen.
pub(super) type Violation = String;

/// What happened in a run, or in many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) seeds: u64,
    pub(super) steps: u64,
    pub(super) crashes: u64,
    /// Epochs of the quorum that had a leader.
    pub(super) epochs: u64,
    /// Records of the quorum that were committed.
    pub(super) commits: u64,
    /// Changes of the voters that were committed.
    pub(super) voter_changes: u64,
    /// Snapshots that a node took over from another.
    pub(super) snapshots: u64,
    /// Leaders of partitions.
    pub(super) leaders: u64,
    /// Records that a producer was told are safe.
    pub(super) acknowledged: u64,
    /// Records that a consumer read.
    pub(super) consumed: u64,
    /// Changes of a partition's ISR.
    pub(super) isr_changes: u64,
    /// Records that followers removed because the leader had others.
    pub(super) truncated: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.crashes += other.crashes;
        self.epochs += other.epochs;
        self.commits += other.commits;
        self.voter_changes += other.voter_changes;
        self.snapshots += other.snapshots;
        self.leaders += other.leaders;
        self.acknowledged += other.acknowledged;
        self.consumed += other.consumed;
        self.isr_changes += other.isr_changes;
        self.truncated += other.truncated;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, steps, crashes, epochs, commits, voter_changes, snapshots, .. } = self;
        write!(f, "{seeds} seeds, {steps} steps, {crashes} crashes, {epochs} epochs, {commits} commits")?;
        write!(f, ", {voter_changes} voter changes, {snapshots} snapshots, {} truncated", self.truncated)?;
        if self.leaders > 0 {
            write!(f, ", {} partition leaders, {} ISR changes", self.leaders, self.isr_changes)?;
            write!(f, ", {} acknowledged, {} consumed", self.acknowledged, self.consumed)?;
        }
        Ok(())
    }
}

/// A world that a seed determines.
pub(super) trait World: Sync {
    /// Its name, for the command that repeats a failure.
    fn name(&self) -> &'static str;

    /// Runs it to its end.
    fn run(&self, seed: u64, trace: &mut Trace) -> Result<Counts, Violation>;
}

/// A number from the environment.
pub(super) fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs so many seeds, beginning with one that moves with `KLAMM_SIM_FIRST`; the one of `KLAMM_SIM_SEED` alone, with its
/// trace, where that is set.
///
/// # Panics
/// Where something happened that must not, with the command that repeats it.
pub(super) fn check(world: &impl World, seeds_default: u64) {
    if let Some(seed) = setting("KLAMM_SIM_SEED") {
        let mut trace = Trace::on(usize::MAX);
        let outcome = outcome(world, seed, &mut trace);
        eprintln!("{}", trace.lines());
        assert!(outcome.is_ok(), "{}", explain(world, seed, &outcome.err().unwrap_or_default()));
        return;
    }
    let first = setting("KLAMM_SIM_FIRST").unwrap_or(0);
    let seeds = setting("KLAMM_SIM_SEEDS").unwrap_or(seeds_default);
    let started = Instant::now();
    let (counts, failed) = run(world, first, seeds);
    let took = started.elapsed();
    let per_second = u128::from(counts.steps) * 1_000 / took.as_millis().max(1);
    eprintln!("{}: {counts}; {per_second} steps/s in {} ms", world.name(), took.as_millis());
    if let Some((seed, violation)) = failed {
        let mut trace = Trace::on(LINES_SHOWN);
        // It fails again: the seed determines everything.
        let _ = outcome(world, seed, &mut trace);
        panic!("{}\n{}", trace.lines(), explain(world, seed, &violation));
    }
}

/// Runs a seed; a core that panics has broken its own rules.
fn outcome(world: &impl World, seed: u64, trace: &mut Trace) -> Result<Counts, Violation> {
    let run = AssertUnwindSafe(|| world.run(seed, trace));
    catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("it panics: {}", text.unwrap_or_default()))
    })
}

fn explain(world: &impl World, seed: u64, violation: &str) -> String {
    let name = world.name();
    format!("seed {seed} of {name}: {violation}\nto repeat it: make sim WORLD={name} SEED={seed}")
}

/// After how many seeds something was caught, and what.
pub(super) fn caught(world: &impl World, seeds_max: u64) -> Option<(u64, Violation)> {
    let (counts, failed) = run(world, 0, seeds_max);
    failed.map(|(_, violation)| (counts.seeds, violation))
}

/// Runs seeds until one fails, on all processors.
fn run(world: &impl World, first: u64, seeds: u64) -> (Counts, Option<(u64, Violation)>) {
    let next = AtomicU64::new(first);
    let end = AtomicU64::new(first.saturating_add(seeds));
    let work = || {
        let (mut counts, mut failed) = (Counts::default(), None);
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end.load(Ordering::Relaxed) {
                return (counts, failed);
            }
            counts.seeds += 1;
            match outcome(world, seed, &mut Trace::off()) {
                Ok(one) => counts += one,
                Err(violation) => {
                    end.fetch_min(seed, Ordering::Relaxed);
                    failed = Some((seed, violation));
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let outcomes = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    });
    let (mut counts, mut failed) = (Counts::default(), None::<(u64, Violation)>);
    for outcome in outcomes {
        match outcome {
            Ok((one, failure)) => {
                counts += one;
                if let Some((seed, violation)) = failure
                    && failed.as_ref().is_none_or(|(lowest, _)| seed < *lowest)
                {
                    failed = Some((seed, violation));
                }
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    (counts, failed)
}
