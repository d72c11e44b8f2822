//! How long a client is held back (Kafka's `QuotaUtils`, `ControllerMutationQuotaManager.throttleTimeMs`).

use super::bucket::TokenBucket;
use super::rate::{Samples, Windows};

/// How long until a rate is back at its quota, in milliseconds, where it is above it; at least 0.
pub fn of_rate(samples: &mut Samples, quota: f64, windows: Windows, now_ms: i64) -> i32 {
    let rate = samples.rate(windows, now_ms);
    if rate <= quota {
        return 0;
    }
    milliseconds((rate - quota) / quota * float(samples.window_ms(windows, now_ms)))
}

/// How long until no token is missing in a bucket, in milliseconds.
pub fn of_bucket(bucket: &mut TokenBucket, quota: f64, windows: Windows, now_ms: i64) -> i32 {
    let tokens = bucket.tokens(quota, windows, now_ms);
    if tokens >= 0.0 { 0 } else { milliseconds(-tokens / quota * 1_000.0) }
}

/// The next whole number, where Java's `Math.round` would find it.
#[expect(clippy::cast_possible_truncation, reason = "what does not fit is the most that there is")]
fn milliseconds(time: f64) -> i32 {
    (time + 0.5).floor() as i32
}

#[expect(clippy::cast_precision_loss, reason = "windows are short")]
fn float(number: i64) -> f64 {
    number as f64
}
