//! The metrics of clients (KIP-714): what each is asked for, when it may push, and what it pushed.
//!
//! Operators subscribe to metrics with `kafka-client-metrics.sh`; the subscriptions stand in the metadata. A client asks
//! one broker for those that match it, and pushes OTLP there until its connection ends. What arrives is shown to
//! Prometheus with the broker's own metrics.

mod distribution;
mod instances;
mod otlp;
mod received;
mod subscriptions;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::error::{ApiError, ErrorCode};
use crate::log::compression::{Compression, decompress};
use crate::metrics::{Sheet, table};
use crate::types::kafka_id;

pub use instances::Identity;
use instances::Instances;
use received::Received;
pub use subscriptions::Subscription;

/// What is accepted, the preferred one first.
pub const COMPRESSIONS: [Compression; 4] =
    [Compression::Zstd, Compression::Lz4, Compression::Gzip, Compression::Snappy];

/// What a client is to push, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The client's instance, as it named it or as we name it.
    pub instance_id: Uuid,
    /// Stands for these wishes when the client pushes.
    pub subscription_id: i32,
    /// The prefixes of the names of metrics; `*` for all.
    pub metrics: Arc<[String]>,
    /// How long to wait between two pushes, in milliseconds.
    pub push_interval_ms: i32,
}

/// A PushTelemetry request.
#[derive(Clone, Debug)]
pub struct Push {
    /// Whose it is.
    pub instance_id: Uuid,
    /// What the client believes it is asked for.
    pub subscription_id: i32,
    /// The client ends: nothing follows.
    pub is_terminating: bool,
    /// The number of a [`Compression`].
    pub compression: i8,
    /// OTLP's MetricsData.
    pub metrics: Bytes,
}

/// What happened, since the start.
#[derive(Debug, Default)]
struct Counts {
    unknown_subscription: AtomicU64,
    throttled: AtomicU64,
    exported: AtomicU64,
    failed: AtomicU64,
}

/// The clients that push metrics to this broker.
#[derive(Debug)]
pub struct Telemetry {
    /// `telemetry.max.bytes`.
    max_bytes: usize,
    instances: Mutex<Instances>,
    received: Mutex<Received>,
    counts: Counts,
    /// When it was last looked for what is to be forgotten.
    expired_ms: AtomicI64,
}

/// How often it is looked for what is to be forgotten, in milliseconds: it lives for a minute at least.
const EXPIRY_INTERVAL_MS: i64 = 10_000;

impl Telemetry {
    /// Takes pushes of up to this many bytes, compressed and decompressed.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            instances: Mutex::default(),
            received: Mutex::default(),
            counts: Counts::default(),
            expired_ms: AtomicI64::new(0),
        }
    }

    /// How many bytes a push may have.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Takes over the subscriptions as the metadata has them at `offset`, which `read` tells if they may have changed.
    pub fn subscribe(&self, offset: i64, read: impl FnOnce() -> Vec<Subscription>) {
        self.instances.lock().subscriptions.take_over(offset, read);
    }

    /// What this client is to push. Without an instance id (zero) it is given `fresh_id`.
    ///
    /// # Errors
    /// THROTTLING_QUOTA_EXCEEDED where it asks again before its push interval is over and nothing has changed.
    pub fn wanted(
        &self,
        asked_id: Uuid,
        fresh_id: Uuid,
        of: &Identity,
        now_ms: i64,
    ) -> Result<Wanted, ApiError> {
        let id = if asked_id.is_nil() { fresh_id } else { asked_id };
        let mut instances = self.instances.lock();
        let instance = instances.get(id, of, now_ms);
        if instance.may_get(now_ms) {
            instance.last_error = None;
            return Ok(Wanted {
                instance_id: id,
                subscription_id: instance.subscription_id,
                metrics: Arc::clone(&instance.metrics),
                push_interval_ms: instance.push_interval_ms,
            });
        }
        self.counts.throttled.fetch_add(1, Ordering::Relaxed);
        Err(too_early(id))
    }

    /// Takes what a client pushed.
    ///
    /// # Errors
    /// - INVALID_REQUEST without an instance id, and after the client said that it ends;
    /// - THROTTLING_QUOTA_EXCEEDED before its push interval is over;
    /// - UNKNOWN_SUBSCRIPTION_ID where it does not know what it is asked for;
    /// - UNSUPPORTED_COMPRESSION_TYPE, TELEMETRY_TOO_LARGE;
    /// - INVALID_RECORD where it is not OTLP.
    pub fn push(&self, push: &Push, of: &Identity, now_ms: i64) -> Result<(), ApiError> {
        let id = push.instance_id;
        if id.is_nil() || id == Uuid::from_u128(1) {
            let why =
                format!("Invalid request from the client [{}], invalid client instance id", kafka_id(id));
            return Err(ApiError::with(ErrorCode::InvalidRequest, why));
        }
        let mut instances = self.instances.lock();
        let instance = instances.get(id, of, now_ms);
        let checked = self.check(instance, push, now_ms);
        instance.is_terminating = push.is_terminating;
        let compression = checked.inspect_err(|error| instance.last_error = Some(error.code))?;
        let expires_ms = now_ms.saturating_add(instance.kept_ms());
        let labels = instance.labels(id);
        drop(instances);
        let exported = self.export(compression, &push.metrics, &labels, expires_ms);
        if let Some(instance) = self.instances.lock().known(id) {
            instance.last_error = exported.as_ref().err().map(|error| error.code);
        }
        exported
    }

    fn check(
        &self,
        instance: &mut instances::Instance,
        push: &Push,
        now_ms: i64,
    ) -> Result<Compression, ApiError> {
        let id = kafka_id(push.instance_id);
        let refuse = |code, why: String| Err(ApiError::with(code, why));
        if instance.is_terminating {
            let why = format!("Client [{id}] has said that it ends: nothing more is accepted from it");
            return refuse(ErrorCode::InvalidRequest, why);
        }
        if !instance.may_push(now_ms) && !push.is_terminating {
            self.counts.throttled.fetch_add(1, Ordering::Relaxed);
            return Err(too_early(push.instance_id));
        }
        if push.subscription_id != instance.subscription_id {
            self.counts.unknown_subscription.fetch_add(1, Ordering::Relaxed);
            let why = format!("Unknown client subscription id for the client [{id}]");
            return refuse(ErrorCode::UnknownSubscriptionId, why);
        }
        let Some(compression) = Compression::from_id(push.compression.into()) else {
            let why = format!("Unknown compression type [{}] is received from [{id}]", push.compression);
            return refuse(ErrorCode::UnsupportedCompressionType, why);
        };
        if push.metrics.len() > self.max_bytes {
            let why = format!("Telemetry request from [{id}] is larger than {} bytes", self.max_bytes);
            return refuse(ErrorCode::TelemetryTooLarge, why);
        }
        Ok(compression)
    }

    fn export(
        &self,
        compression: Compression,
        metrics: &[u8],
        labels: &[(&'static str, String)],
        expires_ms: i64,
    ) -> Result<(), ApiError> {
        if metrics.is_empty() {
            return Ok(());
        }
        let plain = match compression {
            Compression::None => Ok(metrics.to_vec()),
            Compression::Gzip | Compression::Snappy | Compression::Lz4 | Compression::Zstd => {
                decompress(compression, metrics, self.max_bytes).map_err(|error| error.to_string())
            }
        };
        let mut received = self.received.lock();
        let taken = plain.and_then(|plain| {
            otlp::read(&plain, &mut |point| received.take(point, labels, expires_ms))
                .map_err(|error| error.to_string())
        });
        drop(received);
        let count = if taken.is_ok() { &self.counts.exported } else { &self.counts.failed };
        count.fetch_add(1, Ordering::Relaxed);
        taken.map_err(|error| {
            tracing::warn!(error, "the metrics that a client pushed can not be read");
            ApiError::from(ErrorCode::InvalidRecord)
        })
    }

    /// Forgets clients that are gone, and what they pushed, also where nobody looks at it.
    pub fn expire(&self, now_ms: i64) {
        let expired_ms = self.expired_ms.load(Ordering::Relaxed);
        if now_ms - expired_ms >= EXPIRY_INTERVAL_MS {
            self.expired_ms.store(now_ms, Ordering::Relaxed);
            self.instances.lock().expire(now_ms);
            self.received.lock().expire(now_ms);
        }
    }

    /// Puts what happened on the sheet of a scrape, and tells what clients pushed in Prometheus' text format.
    pub fn render(&self, sheet: &Sheet, now_ms: i64) -> String {
        let mut instances = self.instances.lock();
        instances.expire(now_ms);
        sheet.put(&table::CLIENT_METRICS_INSTANCES, &[], i64::try_from(instances.len()).unwrap_or(i64::MAX));
        drop(instances);
        let mut received = self.received.lock();
        received.expire(now_ms);
        for (metric, count) in [
            (&table::CLIENT_METRICS_UNKNOWN_SUBSCRIPTION_TOTAL, &self.counts.unknown_subscription),
            (&table::CLIENT_METRICS_THROTTLE_TOTAL, &self.counts.throttled),
            (&table::CLIENT_METRICS_EXPORT_TOTAL, &self.counts.exported),
            (&table::CLIENT_METRICS_ERROR_TOTAL, &self.counts.failed),
        ] {
            sheet.put(metric, &[], i64::try_from(count.load(Ordering::Relaxed)).unwrap_or(i64::MAX));
        }
        let dropped = i64::try_from(received.dropped()).unwrap_or(i64::MAX);
        sheet.put(&table::CLIENT_METRICS_DROPPED_TOTAL, &[], dropped);
        received.render()
    }
}

fn too_early(id: Uuid) -> ApiError {
    let why =
        format!("Request from the client [{}] arrived before the next push interval time", kafka_id(id));
    ApiError::with(ErrorCode::ThrottlingQuotaExceeded, why)
}

#[cfg(test)]
mod tests;
