use std::time::Instant;

use super::explore::{Order, explore};
use super::scopes::{LARGE, SMALL, of};
use super::state::Scope;
use crate::sim::quorum::mutants::Mutant;
use crate::sim::runner::setting;

/// No search with the tests has as many states.
const STATES_MAX: usize = 30_000;
/// A search of `make sim` that has more of them ends here, and says so.
const LARGE_STATES_MAX: usize = 1_000_000;

/// Searches all schedules; says whether that were all.
fn search(scope: &Scope, states_max: usize) -> bool {
    let started = Instant::now();
    let seen = explore(scope, Order::Deep, states_max);
    eprintln!("{}, {:?}: {seen} in {} ms", scope.name, scope.budget, started.elapsed().as_millis());
    assert_eq!(seen.violation, None, "{}, {:?}", scope.name, scope.budget);
    seen.is_complete
}

#[test]
fn no_schedule_of_a_small_quorum_breaks_it() {
    for scope in SMALL {
        assert!(search(scope, STATES_MAX), "{} has more states than it should", scope.name);
    }
    if setting("KLAMM_SIM_SEEDS").is_some() {
        for scope in LARGE {
            search(scope, LARGE_STATES_MAX);
        }
    }
}

#[test]
fn every_mutant_is_caught_by_the_search() {
    let mut survivors = Vec::new();
    for mutant in Mutant::ALL {
        let seen = explore(&of(mutant), Order::Short, STATES_MAX);
        let what = seen.violation.as_deref().and_then(|violation| violation.split(": ").next());
        eprintln!("mutant {mutant:?} of the quorum: {} after {seen}", what.unwrap_or("not caught"));
        if what.is_none() {
            survivors.push(mutant);
        }
    }
    assert!(survivors.is_empty(), "not caught: {survivors:?}");
}
