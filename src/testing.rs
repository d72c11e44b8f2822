//! What tests of several modules share.

use std::env;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;

use proptest::test_runner::{Config, RngSeed};

/// What chance begins with where nobody asks for another beginning.
const SEED: u64 = 4_300_711;
/// Long enough for whatever happens on a machine that has much else to do; only a test that fails waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// How long a failure is made smaller, at most.
const SHRINK_TIME_MS_MAX: u32 = 120_000;

/// How a property test plays so many cases.
///
/// `make test` asks whether a change breaks what worked, so each of its runs plays the same cases: a test that fails
/// blames the change that it was run for, never one that came long before. New cases are looked for where somebody waits
/// for them and reads what they find: `make properties`, which sets `KLAMM_PROPERTY_TIMES=N`. Then each test plays N
/// times as many cases, of a seed that no run before had; it is printed, and `KLAMM_SEED` repeats it. What is found
/// becomes a test of its own beside the property, so nothing is written beside the sources.
pub(crate) fn properties(cases: u32) -> Config {
    Config {
        cases: cases.saturating_mul(times()),
        rng_seed: RngSeed::Fixed(seed()),
        failure_persistence: None,
        max_shrink_time: SHRINK_TIME_MS_MAX,
        max_shrink_iters: 100_000,
        ..Config::default()
    }
}

/// How many times as much as in `make test` a test plays that plays what a seed gives.
pub(crate) fn times() -> u32 {
    variable("KLAMM_PROPERTY_TIMES").unwrap_or(1)
}

/// What chance begins with, see [`properties`]. It is printed, for a test that fails to show it.
pub(crate) fn seed() -> u64 {
    static FRESH: OnceLock<u64> = OnceLock::new();
    let is_long = variable::<u32>("KLAMM_PROPERTY_TIMES").is_some();
    let usual = || if is_long { *FRESH.get_or_init(rand::random) } else { SEED };
    let seed = variable("KLAMM_SEED").unwrap_or_else(usual);
    eprintln!("KLAMM_SEED={seed}");
    seed
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    env::var(name).ok()?.parse().ok()
}
