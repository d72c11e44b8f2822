//! What the tests choose at random, and how it is repeated.

use std::io::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where chance begins in `make test`: a test that fails there blames the change that it was run for.
const SEED: u64 = 20_430;

/// A xorshift generator.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).max(1))
    }

    /// A number below this one.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A number from the environment.
#[must_use]
pub fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// `KLAMM_SEED`, or always the same seed; or one that no run before had, where the variable of this name asks for more
/// than what `make test` does. It is printed, past the test runner, which swallows what a passing test prints.
#[must_use]
pub fn seed(more: &str) -> u64 {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(SEED, |now| now.as_secs());
    let usual = || if variable(more).is_some() { clock() } else { SEED };
    let seed = variable("KLAMM_SEED").unwrap_or_else(usual).max(1);
    // A closed standard error is no reason to fail.
    let _ = writeln!(io::stderr(), "KLAMM_SEED={seed}");
    seed
}
