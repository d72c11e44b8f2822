//! The quotas of users and client ids, and what they have used of them.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::{Mutex, RwLock};

use super::bucket::TokenBucket;
use super::limits::{Client, Limits, QuotaKind, Share};
use super::rate::{Samples, Windows};
use super::recent::Recent;
use super::throttle;

/// What nobody used for this long is forgotten (`INACTIVE_SENSOR_EXPIRATION_TIME_SECONDS`).
const UNUSED_MS_MAX: i64 = 3_600_000;

/// How many clients are measured at a time, for each kind of quota. Client ids are whatever clients say, and as long as
/// they like, so that there has to be a bound; whoever was silent for longest is forgotten.
const MEASURED_MAX: usize = 10_000;

/// What is as good as no limit (`Long.MAX_VALUE`).
#[expect(clippy::cast_precision_loss, reason = "any number this large will do")]
const UNLIMITED: f64 = i64::MAX as f64;

/// Who shares a quota, and what they used of it.
type Measured = Recent<(Box<str>, Box<str>), Arc<Sensor>>;

/// The quotas of a node, and what clients have used.
#[derive(Debug)]
pub struct ClientQuotas {
    /// A bit for each kind of which there is a quota.
    enabled: AtomicU8,
    windows: Windows,
    mutation_windows: Windows,
    kinds: [Kind; QuotaKind::ALL.len()],
    /// The share of a thread's time that went into requests that are never held back.
    exempt: Mutex<Samples>,
}

#[derive(Debug)]
struct Kind {
    limits: RwLock<Limits>,
    measured: Mutex<Measured>,
}

impl Default for Kind {
    fn default() -> Self {
        Self { limits: RwLock::default(), measured: Mutex::new(Recent::new(MEASURED_MAX)) }
    }
}

/// What those who share a quota have used of it.
#[derive(Debug)]
struct Sensor {
    kind: QuotaKind,
    windows: Windows,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: f64,
    samples: Samples,
    bucket: TokenBucket,
    /// For how long they were held back.
    throttled: Samples,
}

/// What was used of a quota, for whoever watches.
#[derive(Clone, Debug, PartialEq)]
pub struct Use {
    /// What is limited.
    pub kind: QuotaKind,
    /// The user as metrics name it (`Sanitizer.sanitize`); empty for any.
    pub user: String,
    /// The client id; empty for any.
    pub client_id: String,
    /// Per second: bytes, percents of a thread's time, partitions.
    pub rate: f64,
    /// The tokens that are left, of what has a bucket.
    pub tokens: Option<f64>,
    /// For how many milliseconds they were held back on average; `None` where they were not.
    pub throttle_ms: Option<f64>,
}

impl Sensor {
    /// Takes in what was used. How long to hold back whoever did, in milliseconds.
    fn record(&self, value: f64, now_ms: i64) -> i32 {
        let mut state = self.state.lock();
        let State { limit, samples, bucket, .. } = &mut *state;
        match self.kind {
            QuotaKind::ControllerMutation => {
                samples.record(Windows::DEFAULT, value, now_ms);
                bucket.take(value, *limit, self.windows, now_ms);
                throttle::of_bucket(bucket, *limit, self.windows, now_ms)
            }
            QuotaKind::Produce | QuotaKind::Fetch | QuotaKind::Request => {
                samples.record(self.windows, value, now_ms);
                let throttle_ms = throttle::of_rate(samples, *limit, self.windows, now_ms);
                if self.kind == QuotaKind::Request {
                    // More than a window is never useful: what requests cost is known only afterwards.
                    return throttle_ms.min(i32::try_from(self.windows.length_ms).unwrap_or(i32::MAX));
                }
                throttle_ms
            }
        }
    }

    /// Takes tokens if none is missing. Otherwise how long until that is so, in milliseconds.
    fn try_take(&self, tokens: f64, now_ms: i64) -> i32 {
        let mut state = self.state.lock();
        let State { limit, samples, bucket, .. } = &mut *state;
        let throttle_ms = throttle::of_bucket(bucket, *limit, self.windows, now_ms);
        if throttle_ms == 0 {
            samples.record(Windows::DEFAULT, tokens, now_ms);
            bucket.take(tokens, *limit, self.windows, now_ms);
        }
        throttle_ms
    }

    fn usage(&self, (user, client_id): &(Box<str>, Box<str>), now_ms: i64) -> Use {
        let mut state = self.state.lock();
        let State { limit, samples, bucket, throttled, .. } = &mut *state;
        let has_bucket = self.kind == QuotaKind::ControllerMutation;
        let windows = if has_bucket { Windows::DEFAULT } else { self.windows };
        Use {
            kind: self.kind,
            user: sanitized(user),
            client_id: client_id.to_string(),
            rate: samples.rate(windows, now_ms),
            tokens: has_bucket.then(|| bucket.tokens(*limit, self.windows, now_ms)),
            throttle_ms: throttled.average(Windows::DEFAULT, now_ms),
        }
    }
}

impl ClientQuotas {
    /// Without a quota. `windows` are those of `quota.window.*`, `mutation_windows` those of
    /// `controller.quota.window.*`.
    pub fn new(windows: Windows, mutation_windows: Windows) -> Self {
        Self {
            enabled: AtomicU8::new(0),
            windows,
            mutation_windows,
            kinds: Default::default(),
            exempt: Mutex::default(),
        }
    }

    /// Whether there is any quota.
    pub fn is_active(&self) -> bool {
        self.enabled.load(Ordering::Relaxed) != 0
    }

    /// Whether there is a quota of this kind, for whomever.
    pub fn is_enabled(&self, kind: QuotaKind) -> bool {
        self.enabled.load(Ordering::Relaxed) & (1 << kind.place()) != 0
    }

    /// Replaces the quotas of a kind. What was used so far stays known, and is measured by the new ones from now on.
    pub fn set_limits(&self, kind: QuotaKind, limits: Limits) {
        let place = &self.kinds[kind.place()];
        let mut current = place.limits.write();
        if *current == limits {
            return;
        }
        let bit = 1 << kind.place();
        if limits.is_empty() {
            self.enabled.fetch_and(!bit, Ordering::Relaxed);
        } else {
            self.enabled.fetch_or(bit, Ordering::Relaxed);
        }
        *current = limits;
        for ((user, client_id), sensor) in place.measured.lock().iter() {
            sensor.state.lock().limit = current.limit(Share { user, client_id }).unwrap_or(UNLIMITED);
        }
    }

    /// Takes in what a client used. How long to hold it back, in milliseconds.
    pub fn record(&self, kind: QuotaKind, client: Client<'_>, value: f64, now_ms: i64) -> i32 {
        if !self.is_enabled(kind) {
            return 0;
        }
        self.sensor(kind, client, now_ms).record(value, now_ms)
    }

    /// Takes back what was recorded in the same moment: it was not done after all.
    pub fn take_back(&self, kind: QuotaKind, client: Client<'_>, value: f64, now_ms: i64) {
        if self.is_enabled(kind) {
            self.sensor(kind, client, now_ms).record(-value, now_ms);
        }
    }

    /// Takes in the time of a request that is never held back, in percents of a second.
    pub fn record_exempt(&self, percents: f64, now_ms: i64) {
        if self.is_enabled(QuotaKind::Request) {
            self.exempt.lock().record(Windows::DEFAULT, percents, now_ms);
        }
    }

    /// Takes in that a client is held back by this kind of quota.
    pub fn held_back(&self, kind: QuotaKind, client: Client<'_>, throttle_ms: i32, now_ms: i64) {
        let sensor = self.sensor(kind, client, now_ms);
        sensor.state.lock().throttled.record(Windows::DEFAULT, f64::from(throttle_ms), now_ms);
    }

    /// Whether a quota of this kind limits the client.
    pub fn is_limited(&self, kind: QuotaKind, client: Client<'_>) -> bool {
        self.limit(kind, client).is_some()
    }

    /// The most that a client can use at once without being held back in any case; `None` for as much as it wants.
    #[expect(clippy::cast_precision_loss, reason = "windows are few and short")]
    pub fn used_at_once_max(&self, kind: QuotaKind, client: Client<'_>) -> Option<f64> {
        let limit = self.limit(kind, client)?;
        let Windows { count, length_ms } = self.windows;
        Some(limit * (count - 1) as f64 * (length_ms / 1_000) as f64)
    }

    /// The quota for what a request changes in the metadata; `None` where there is none. A strict one refuses what
    /// comes while tokens are missing; another one lets everything happen and holds the client back afterwards.
    pub fn mutations(&self, client: Client<'_>, strict: bool, now_ms: i64) -> Option<MutationQuota> {
        let kind = QuotaKind::ControllerMutation;
        self.is_enabled(kind).then(|| MutationQuota {
            sensor: self.sensor(kind, client, now_ms),
            strict,
            throttle: Mutex::new(None),
        })
    }

    /// What everyone has used who used something lately.
    pub fn uses(&self, now_ms: i64) -> Vec<Use> {
        let mut uses = Vec::new();
        for kind in &self.kinds {
            let mut measured = kind.measured.lock();
            measured.forget_unused_since(now_ms - UNUSED_MS_MAX);
            uses.extend(measured.iter().map(|(who, sensor)| sensor.usage(who, now_ms)));
        }
        uses
    }

    /// The share of a thread's time, in percents, that went into requests that are never held back; `None` without a
    /// quota for requests.
    pub fn exempt_percents(&self, now_ms: i64) -> Option<f64> {
        let measured = || self.exempt.lock().rate(Windows::DEFAULT, now_ms);
        self.is_enabled(QuotaKind::Request).then(measured)
    }

    fn limit(&self, kind: QuotaKind, client: Client<'_>) -> Option<f64> {
        if !self.is_enabled(kind) {
            return None;
        }
        let limits = self.kinds[kind.place()].limits.read();
        limits.limit(limits.share(client))
    }

    fn sensor(&self, kind: QuotaKind, client: Client<'_>, now_ms: i64) -> Arc<Sensor> {
        let place = &self.kinds[kind.place()];
        let limits = place.limits.read();
        let share = limits.share(client);
        let mut measured = place.measured.lock();
        let key = (Box::from(share.user), Box::from(share.client_id));
        if let Some(sensor) = measured.used(&key, now_ms) {
            return Arc::clone(sensor);
        }
        let windows =
            if kind == QuotaKind::ControllerMutation { self.mutation_windows } else { self.windows };
        let state = State {
            limit: limits.limit(share).unwrap_or(UNLIMITED),
            samples: Samples::default(),
            bucket: TokenBucket::default(),
            throttled: Samples::default(),
        };
        let sensor = Arc::new(Sensor { kind, windows, state: Mutex::new(state) });
        let text_bytes = key.0.len() + key.1.len();
        measured.insert(key, Arc::clone(&sensor), 2 * text_bytes, now_ms);
        sensor
    }
}

/// A user with everything URL-encoded that could mean something in a name of JMX (`Sanitizer.sanitize`).
fn sanitized(user: &str) -> String {
    let mut text = String::with_capacity(user.len());
    for byte in user.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => text.push(char::from(byte)),
            // Writing to a text does not fail.
            other => drop(write!(text, "%{other:02X}")),
        }
    }
    text
}

/// What one request may change in the metadata (`ControllerMutationQuota`).
#[derive(Debug)]
pub struct MutationQuota {
    sensor: Arc<Sensor>,
    strict: bool,
    /// How long to hold back, and when that was found out.
    throttle: Mutex<Option<(i32, i64)>>,
}

impl MutationQuota {
    /// Takes in that this many partitions are created or deleted; whether that may be.
    pub fn record(&self, partitions: usize, now_ms: i64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "a request has few partitions")]
        let tokens = partitions as f64;
        let throttle_ms = if self.strict {
            self.sensor.try_take(tokens, now_ms)
        } else {
            self.sensor.record(tokens, now_ms)
        };
        if throttle_ms > 0 {
            *self.throttle.lock() = Some((throttle_ms, now_ms));
        }
        throttle_ms == 0 || !self.strict
    }

    /// How long the client is to be held back from now on, in milliseconds.
    pub fn throttle_ms(&self, now_ms: i64) -> i32 {
        let Some((throttle_ms, since_ms)) = *self.throttle.lock() else { return 0 };
        i32::try_from(i64::from(throttle_ms) - (now_ms - since_ms)).unwrap_or(0).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::limits::{Entity, Name};

    const WINDOWS: Windows = Windows { count: 11, length_ms: 1_000 };
    const CLIENT: Client<'static> = Client { user: "ANONYMOUS", client_id: "c" };

    fn quotas(kind: QuotaKind, limit: f64) -> ClientQuotas {
        let quotas = ClientQuotas::new(WINDOWS, WINDOWS);
        quotas.set_limits(kind, limits(limit));
        quotas
    }

    fn limits(limit: f64) -> Limits {
        let mut limits = Limits::default();
        limits.insert(Entity { user: None, client_id: Some(Name::Default) }, limit);
        limits
    }

    #[test]
    fn without_a_quota_nothing_is_measured() {
        let quotas = ClientQuotas::new(WINDOWS, WINDOWS);
        assert!(!quotas.is_active());
        assert_eq!(quotas.record(QuotaKind::Produce, CLIENT, 1e9, 0), 0);
        assert!(quotas.uses(0).is_empty());
        assert!(quotas.mutations(CLIENT, true, 0).is_none());
    }

    #[test]
    fn a_client_over_its_rate_is_held_back_until_it_is_not() {
        let quotas = quotas(QuotaKind::Produce, 1_000.0);
        // 20,000 bytes over 10 s are 2,000 a second: twice too many, so as long again.
        assert_eq!(quotas.record(QuotaKind::Produce, CLIENT, 20_000.0, 0), 10_000);
        assert_eq!(quotas.used_at_once_max(QuotaKind::Produce, CLIENT), Some(10_000.0));
        quotas.take_back(QuotaKind::Produce, CLIENT, 20_000.0, 0);
        assert_eq!(quotas.record(QuotaKind::Produce, CLIENT, 10_000.0, 0), 0);
    }

    #[test]
    fn a_new_quota_holds_for_what_was_used_before() {
        let quotas = quotas(QuotaKind::Fetch, 1_000.0);
        assert_eq!(quotas.record(QuotaKind::Fetch, CLIENT, 10_000.0, 0), 0);
        quotas.set_limits(QuotaKind::Fetch, limits(500.0));
        assert_eq!(quotas.record(QuotaKind::Fetch, CLIENT, 0.0, 0), 10_000);
        quotas.set_limits(QuotaKind::Fetch, Limits::default());
        assert!(!quotas.is_active());
    }

    #[test]
    fn requests_are_held_back_for_one_window_at_most() {
        let quotas = quotas(QuotaKind::Request, 1.0);
        assert_eq!(quotas.record(QuotaKind::Request, CLIENT, 1_000.0, 0), 1_000);
    }

    #[test]
    fn a_strict_quota_refuses_once_the_bucket_is_empty_and_another_one_does_not() {
        let quotas = quotas(QuotaKind::ControllerMutation, 2.0);
        let strict = quotas.mutations(CLIENT, true, 0).expect("there is a quota");
        assert!(strict.record(30, 0), "a burst may go below what is there");
        assert!(!strict.record(1, 0));
        assert_eq!(
            (strict.throttle_ms(0), strict.throttle_ms(1_000), strict.throttle_ms(9_000)),
            (4_000, 3_000, 0)
        );
        let permissive = quotas.mutations(CLIENT, false, 0).expect("there is a quota");
        assert!(permissive.record(2, 0));
        assert_eq!(permissive.throttle_ms(0), 5_000);
    }

    #[test]
    fn what_is_silent_for_an_hour_is_not_reported_any_more() {
        let quotas = quotas(QuotaKind::Produce, 1_000.0);
        quotas.record(QuotaKind::Produce, CLIENT, 500.0, 0);
        quotas.held_back(QuotaKind::Produce, CLIENT, 40, 0);
        let uses = quotas.uses(0);
        assert_eq!((uses.len(), uses[0].rate, uses[0].throttle_ms), (1, 50.0, Some(40.0)));
        assert_eq!((uses[0].user.as_str(), uses[0].client_id.as_str()), ("", "c"));
        assert!(quotas.uses(UNUSED_MS_MAX).is_empty());
    }

    /// What `Sanitizer.sanitize` of Kafka 4.3.1 makes of them.
    #[test]
    fn metrics_name_users_as_kafka_does() {
        for (user, name) in [
            ("ANONYMOUS", "ANONYMOUS"),
            ("CN=a b,O=\u{e9}", "CN%3Da%20b%2CO%3D%C3%A9"),
            ("a.b-c_d*e~+", "a.b-c_d%2Ae%7E%2B"),
        ] {
            let mut limits = Limits::default();
            limits.insert(Entity { user: Some(Name::Default), client_id: None }, 1.0);
            let quotas = ClientQuotas::new(WINDOWS, WINDOWS);
            quotas.set_limits(QuotaKind::Produce, limits);
            quotas.record(QuotaKind::Produce, Client { user, client_id: "c=d" }, 1.0, 0);
            assert_eq!(quotas.uses(0)[0].user, name);
        }
    }

    #[test]
    fn ten_thousand_clients_are_measured_and_then_the_most_silent_one_is_forgotten() {
        let quotas = quotas(QuotaKind::Produce, 1_000.0);
        let use_once =
            |client_id: &str| quotas.record(QuotaKind::Produce, Client { user: "u", client_id }, 20_000.0, 0);
        for number in 0..MEASURED_MAX {
            use_once(&number.to_string());
        }
        assert_eq!(use_once("0"), 30_000, "what it used before is known");
        use_once("new");
        assert_eq!(use_once("0"), 50_000);
        assert_eq!(use_once("1"), 10_000, "it is new again");
        assert_eq!(quotas.uses(0).len(), MEASURED_MAX);
    }
}
