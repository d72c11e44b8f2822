//! A bucket of tokens that fills by itself (Kafka's `TokenBucket`).

use super::rate::Windows;

/// Tokens: each thing that is done takes some, and they come back at the rate of the quota. There may be fewer than
/// none, and as many as come in all windows together.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    tokens: f64,
    updated_ms: i64,
}

impl Default for TokenBucket {
    fn default() -> Self {
        // Full, whatever the quota is: it was not used since the beginning of time.
        Self { tokens: f64::INFINITY, updated_ms: 0 }
    }
}

impl TokenBucket {
    /// The tokens that are there; `rate` come in a second.
    pub fn tokens(&mut self, rate: f64, windows: Windows, now_ms: i64) -> f64 {
        self.refill(rate, windows, now_ms);
        self.tokens
    }

    /// Takes tokens, whether or not they are there.
    pub fn take(&mut self, tokens: f64, rate: f64, windows: Windows, now_ms: i64) {
        self.refill(rate, windows, now_ms);
        self.tokens = (self.tokens - tokens).min(burst(rate, windows));
    }

    #[expect(clippy::cast_precision_loss, reason = "a few milliseconds")]
    fn refill(&mut self, rate: f64, windows: Windows, now_ms: i64) {
        let elapsed_seconds = (now_ms - self.updated_ms) as f64 / 1_000.0;
        self.tokens = (self.tokens + rate * elapsed_seconds).min(burst(rate, windows));
        self.updated_ms = now_ms;
    }
}

/// How many tokens there may be.
#[expect(clippy::cast_precision_loss, reason = "windows are few and short")]
fn burst(rate: f64, windows: Windows) -> f64 {
    windows.count as f64 * (windows.length_ms as f64 / 1_000.0) * rate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_full_goes_below_none_and_fills_again() {
        let windows = Windows { count: 100, length_ms: 1_000 };
        let mut bucket = TokenBucket::default();
        bucket.take(560.0, 5.0, windows, 1_000);
        assert_eq!(bucket.tokens(5.0, windows, 1_000), -60.0);
        assert_eq!(bucket.tokens(5.0, windows, 13_000), 0.0);
        assert_eq!(bucket.tokens(5.0, windows, 1_000_000), 500.0);
    }
}
