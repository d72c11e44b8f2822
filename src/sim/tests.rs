use super::quorum::mutants::Mutant;
use super::quorum::run::QuorumRun;
use super::replication::mutants;
use super::replication::run::ReplicationRun;
use super::runner::{World as _, caught, check, setting};
use super::trace::Trace;

/// How long the runs of the quorum are.
const QUORUM_STEPS: u64 = 4_000;
/// How long the runs of replicated partitions are.
const REPLICATION_STEPS: u64 = 6_000;

#[test]
fn quorum_survives_storms() {
    check(&QuorumRun { steps: QUORUM_STEPS, mutant: None }, 60);
}

#[test]
fn a_seed_repeats_itself() {
    let hash = |seed| {
        let mut trace = Trace::on(0);
        let outcome = QuorumRun { steps: QUORUM_STEPS / 4, mutant: None }.run(seed, &mut trace);
        (trace.hash(), outcome)
    };
    for seed in 0..4 {
        assert_eq!(hash(seed), hash(seed), "seed {seed}");
    }
    assert_ne!(hash(0).0, hash(1).0);
}

#[test]
fn mutants_of_the_quorum_are_caught() {
    let seeds = setting("KLAMM_SIM_SEEDS").unwrap_or(0).max(4_000);
    let mut survivors = Vec::new();
    for mutant in Mutant::ALL {
        match caught(&QuorumRun { steps: QUORUM_STEPS, mutant: Some(mutant) }, seeds) {
            Some((seeds, violation)) => {
                let what = violation.split(": ").next().unwrap_or_default();
                eprintln!("mutant {mutant:?} of the quorum is caught after {seeds} seeds: {what}");
            }
            None => survivors.push(mutant),
        }
    }
    assert!(survivors.is_empty(), "not caught in {seeds} seeds: {survivors:?}");
}

#[test]
fn replication_survives_storms() {
    check(&ReplicationRun { steps: REPLICATION_STEPS, mutant: None }, 40);
}

#[test]
fn mutants_of_replication_are_caught() {
    let mut survivors = Vec::new();
    for mutant in mutants::Mutant::ALL {
        match caught(&ReplicationRun { steps: REPLICATION_STEPS, mutant: Some(mutant) }, 1_000) {
            Some((seeds, violation)) => {
                let what = violation.split(": ").next().unwrap_or_default();
                eprintln!("mutant {mutant:?} of replication is caught after {seeds} seeds: {what}");
            }
            None => survivors.push(mutant),
        }
    }
    assert!(survivors.is_empty(), "not caught: {survivors:?}");
}
