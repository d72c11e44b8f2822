//! Keeps the cleaner's reading and writing below a rate.

/// When the bytes so far may be over, at a rate.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    free_at_ms: f64,
}

impl Throttle {
    /// Counts bytes that were read or written; answers until when, on the steady clock, to wait.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "milliseconds since the start of a process, and bytes of one step, are small"
    )]
    pub(super) fn pass(&mut self, bytes: u64, bytes_per_second: f64, now_ms: i64) -> i64 {
        // Time without work is not saved up.
        self.free_at_ms = self.free_at_ms.max(now_ms as f64) + bytes as f64 * 1_000.0 / bytes_per_second;
        self.free_at_ms as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_their_time() {
        let mut throttle = Throttle::default();
        assert_eq!(throttle.pass(500, 1_000.0, 100), 600);
        assert_eq!(throttle.pass(250, 1_000.0, 200), 850, "behind what was before");
        assert_eq!(throttle.pass(100, 1_000.0, 5_000), 5_100, "a pause is not made up for");
        assert_eq!(throttle.pass(u64::MAX, f64::MAX, 6_000), 6_000, "without a limit");
    }
}
