//! What happened, for those who look for the cause of a failure, and for the test that a seed repeats itself.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};

/// How many lines a failure shows.
pub(super) const LINES_SHOWN: usize = 60;

/// The trace of a run.
#[derive(Debug, Default)]
pub(super) struct Trace {
    kept: Option<VecDeque<String>>,
    lines_max: usize,
    hash: u64,
}

impl Trace {
    /// Notes nothing: formatting would cost more than the simulation does.
    pub(super) fn off() -> Self {
        Self::default()
    }

    /// Keeps the last lines, and a hash of all.
    pub(super) fn on(lines_max: usize) -> Self {
        Self { kept: Some(VecDeque::new()), lines_max, hash: 0xcbf2_9ce4_8422_2325 }
    }

    /// Adds a line.
    pub(super) fn note(&mut self, now_ms: i64, what: fmt::Arguments<'_>) {
        let Some(kept) = &mut self.kept else { return };
        let mut line = String::new();
        // A string takes everything.
        let _ = write!(line, "{now_ms} {what}");
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if kept.len() >= self.lines_max {
            kept.pop_front();
        }
        kept.push_back(line);
    }

    /// A number that differs when anything in the trace does.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines.
    pub(super) fn lines(&self) -> String {
        self.kept.iter().flatten().fold(String::new(), |mut all, line| {
            let _ = writeln!(all, "{line}");
            all
        })
    }
}
