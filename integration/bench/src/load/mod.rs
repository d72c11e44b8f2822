//! The loads: what is done to a broker while it is measured.

pub mod consume;
pub mod group;
pub mod java;
pub mod latency;
pub mod produce;
pub mod requests;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::process::{Meter, Used};
use crate::stats::Percentiles;

/// How long a broker is watched behind a load, so that what it has put off is counted.
const SETTLE: Duration = Duration::from_secs(1);

/// The broker under load.
#[derive(Clone, Debug)]
pub struct Broker {
    /// Where it listens.
    pub bootstrap: String,
    /// Its process.
    pub pid: u32,
}

/// When a load ends: with the first of the two.
#[derive(Debug)]
pub struct Limit {
    end: Instant,
    bytes_left: AtomicU64,
    stopped: AtomicBool,
}

impl Limit {
    /// After this time, or after so many bytes of values.
    #[must_use]
    pub fn new(seconds: f64, bytes: u64) -> Self {
        Self {
            end: Instant::now() + Duration::from_secs_f64(seconds),
            bytes_left: AtomicU64::new(bytes),
            stopped: AtomicBool::new(false),
        }
    }

    /// Ends the load now.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Takes so many bytes of what is left; false when the load is to end.
    pub fn take(&self, bytes: u64) -> bool {
        let left = |left: u64| (left > 0).then(|| left.saturating_sub(bytes));
        !self.is_over() && self.bytes_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok()
    }

    /// Whether it is to end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || Instant::now() >= self.end
    }
}

/// What a load has shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown {
    /// How long the load took.
    pub seconds: f64,
    /// What was used, through [`SETTLE`] behind the load.
    pub used: Used,
    /// Bytes of record values.
    pub value_bytes: u64,
    /// Bytes of record batches: less than the values where they are compressed.
    pub batch_bytes: u64,
    /// Records.
    pub records: u64,
    /// Requests.
    pub requests: u64,
    /// From the request to its answer.
    pub ack: Option<Percentiles>,
    /// From the time at which a record was due to be sent to its arrival at a consumer.
    pub end_to_end: Option<Percentiles>,
    /// How late the generator itself woke up.
    pub lag: Option<Percentiles>,
}

/// Runs a load and measures the broker meanwhile.
///
/// # Errors
/// When the load fails, or the broker is gone.
pub fn measure(broker: &Broker, load: impl FnOnce() -> io::Result<Shown>) -> io::Result<Shown> {
    let meter = Meter::start(broker.pid)?;
    let mut shown = load()?;
    let at_end = meter.read()?;
    thread::sleep(SETTLE);
    let settled = meter.read()?;
    if shown.seconds == 0.0 {
        shown.seconds = at_end.seconds;
    }
    // The client and the neighbours are those of the load itself: behind it nothing is asked of the broker.
    shown.used = Used {
        client_cpu_s: at_end.client_cpu_s,
        other_cores: at_end.other_cores,
        seconds: at_end.seconds,
        ..settled
    };
    Ok(shown)
}

impl Shown {
    /// Broker CPU-seconds for 10⁹ bytes of values.
    #[must_use]
    pub fn cpu_per_gb(&self) -> f64 {
        self.used.broker_cpu_s / (per(self.value_bytes) / 1e9)
    }

    /// Broker CPU-microseconds a request.
    #[must_use]
    pub fn cpu_us_per_request(&self) -> f64 {
        self.used.broker_cpu_s * 1e6 / per(self.requests)
    }

    /// Broker CPU-microseconds a record.
    #[must_use]
    pub fn cpu_us_per_record(&self) -> f64 {
        self.used.broker_cpu_s * 1e6 / per(self.records)
    }

    /// Megabytes (10⁶) of values a second.
    #[must_use]
    pub fn mb_per_s(&self) -> f64 {
        approximate(self.value_bytes) / 1e6 / self.seconds
    }

    /// Records a second.
    #[must_use]
    pub fn records_per_s(&self) -> f64 {
        approximate(self.records) / self.seconds
    }

    /// Requests a second.
    #[must_use]
    pub fn requests_per_s(&self) -> f64 {
        approximate(self.requests) / self.seconds
    }

    /// Bytes that went to disk for each byte of the batches.
    #[must_use]
    pub fn written_per_byte(&self) -> f64 {
        approximate(self.used.write_bytes) / per(self.batch_bytes)
    }

    /// The peak of resident memory in megabytes (10⁶).
    #[must_use]
    pub fn peak_mb(&self) -> f64 {
        approximate(self.used.peak) / 1e6
    }

    /// How many cores the client used.
    #[must_use]
    pub fn client_cores(&self) -> f64 {
        self.used.client_cpu_s / self.seconds
    }
}

/// As a number to calculate with; beyond 2⁵³ it is rounded.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "figures are printed with three digits")]
pub fn approximate(value: u64) -> f64 {
    value as f64
}

/// As a divisor.
fn per(value: u64) -> f64 {
    approximate(value.max(1))
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:.2} s: {:.1} MB/s of values, {:.0} records/s, {:.0} requests/s ({} MB in batches of {} MB)",
            self.seconds,
            self.mb_per_s(),
            self.records_per_s(),
            self.requests_per_s(),
            self.value_bytes / 1_000_000,
            self.batch_bytes / 1_000_000,
        )?;
        writeln!(
            f,
            "broker: {:.2} CPU-s = {:.3} CPU-s/GB, {:.1} µs/request, {:.2} µs/record; peak {:.1} MB{}; {:.3} written/byte",
            self.used.broker_cpu_s,
            self.cpu_per_gb(),
            self.cpu_us_per_request(),
            self.cpu_us_per_record(),
            self.peak_mb(),
            if self.used.peak_is_of_run { "" } else { " (since its start)" },
            self.written_per_byte(),
        )?;
        writeln!(
            f,
            "client: {:.2} cores; everything else on the machine: {:.2} cores",
            self.client_cores(),
            self.used.other_cores
        )?;
        for (name, percentiles) in
            [("ack", self.ack), ("end to end", self.end_to_end), ("generator lag", self.lag)]
        {
            if let Some(p) = percentiles {
                writeln!(
                    f,
                    "{name}: p50 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms, max {:.3} ms",
                    p.p50, p.p99, p.p999, p.max
                )?;
            }
        }
        Ok(())
    }
}

/// The results of threads that may have failed, or the first failure.
pub(crate) fn join<T>(threads: Vec<thread::ScopedJoinHandle<'_, io::Result<T>>>) -> io::Result<Vec<T>> {
    threads.into_iter().map(|thread| ended(thread.join())).collect()
}

/// The result of a thread, or that it has panicked.
pub(crate) fn ended<T>(outcome: thread::Result<io::Result<T>>) -> io::Result<T> {
    outcome.unwrap_or_else(|_| Err(io::Error::other("a thread of the load has panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_ends_with_its_bytes_or_when_it_is_stopped() {
        let limit = Limit::new(3_600.0, 100);
        assert!(limit.take(60) && limit.take(60));
        assert!(!limit.take(1));
        let limit = Limit::new(3_600.0, 100);
        limit.stop();
        assert!(!limit.take(1));
        assert!(!Limit::new(0.0, 100).take(1));
    }

    #[test]
    fn figures_are_per_gigabyte_and_per_second() {
        let used = Used { broker_cpu_s: 3.0, client_cpu_s: 1.0, write_bytes: 500_000_000, ..Used::default() };
        let shown = Shown {
            seconds: 4.0,
            used,
            value_bytes: 2_000_000_000,
            batch_bytes: 1_000_000_000,
            records: 1_000_000,
            requests: 1_000,
            ..Shown::default()
        };
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        close(shown.cpu_per_gb(), 1.5);
        close(shown.mb_per_s(), 500.0);
        close(shown.records_per_s(), 250_000.0);
        close(shown.cpu_us_per_request(), 3_000.0);
        close(shown.cpu_us_per_record(), 3.0);
        close(shown.written_per_byte(), 0.5);
        close(shown.client_cores(), 0.25);
    }
}
