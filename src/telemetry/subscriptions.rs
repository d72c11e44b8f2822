//! Which metrics are wanted of which clients.

use std::collections::BTreeMap;

use regex::Regex;
use uuid::Uuid;

use super::instances::Identity;
use crate::config::ClientMetricsConfig;
use crate::config::group::client_pattern;

/// How often clients push where no subscription matches them, in milliseconds.
const PUSH_INTERVAL_MS: i32 = 300_000;

/// Stands for all metrics.
const ALL_METRICS: &str = "*";

/// One subscription, as `kafka-client-metrics.sh` makes them.
#[derive(Clone, Debug)]
pub struct Subscription {
    name: String,
    /// Prefixes of the names of metrics.
    metrics: Vec<String>,
    interval_ms: i32,
    /// What attributes of a client have to look like, all of them. Of several patterns for one the last counts
    /// (`ClientMetricsConfigs.parseMatchingPatterns`).
    patterns: BTreeMap<String, Regex>,
}

impl Subscription {
    /// A subscription with this configuration. Patterns that are not valid were refused when they were set; where one
    /// stands all the same, the subscription is for nobody.
    pub fn new(name: &str, config: &ClientMetricsConfig) -> Option<Self> {
        let patterns = config.matching.iter().map(|text| client_pattern(text)).collect::<Option<_>>()?;
        Some(Self {
            name: name.to_owned(),
            metrics: config.metrics.clone(),
            interval_ms: config.interval_ms,
            patterns,
        })
    }

    fn matches(&self, id: Uuid, of: &Identity) -> bool {
        self.patterns
            .iter()
            .all(|(selector, pattern)| of.attribute(id, selector).is_some_and(|text| pattern.is_match(&text)))
    }
}

/// All subscriptions.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// The offset of the metadata that they were read at.
    offset: Option<i64>,
    /// In Kafka's order.
    all: Vec<Subscription>,
    /// Rises when the metadata changes.
    version: u64,
}

impl Subscriptions {
    pub(super) fn take_over(&mut self, offset: i64, read: impl FnOnce() -> Vec<Subscription>) {
        // Requests run side by side: one may still have an older image.
        if self.offset.is_some_and(|known| known >= offset) {
            return;
        }
        self.offset = Some(offset);
        let new = read();
        let words = |all: &[Subscription]| {
            let word = |one: &Subscription| {
                let patterns = one.patterns.iter().map(|(name, pattern)| format!("{name}={pattern}"));
                (one.name.clone(), one.metrics.clone(), one.interval_ms, patterns.collect::<Vec<_>>())
            };
            let mut words: Vec<_> = all.iter().map(word).collect();
            words.sort();
            words
        };
        if words(&new) != words(&self.all) {
            let capacity = hash_capacity(new.len());
            self.all = new;
            self.all.sort_by(|a, b| a.name.cmp(&b.name));
            self.all.sort_by_key(|one| bucket(&one.name, capacity));
            self.version += 1;
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// What this client is to push, how often, and the id of that.
    pub(super) fn of(&self, id: Uuid, of: &Identity) -> (Vec<String>, i32, i32) {
        let mut wanted: Vec<String> = Vec::new();
        let mut push_interval_ms = PUSH_INTERVAL_MS;
        for subscription in self.all.iter().filter(|one| one.matches(id, of)) {
            let metrics = subscription.metrics.clone();
            // Kafka makes this set with room for what it is made of.
            let roomy = (subscription.metrics.len() * 4 / 3 + 1).max(16).next_power_of_two();
            let new = hash_order(metrics, roomy).into_iter();
            for metric in new {
                if !wanted.contains(&metric) {
                    wanted.push(metric);
                }
            }
            push_interval_ms = push_interval_ms.min(subscription.interval_ms);
        }
        let wanted = if wanted.iter().any(|metric| metric == ALL_METRICS) {
            vec![ALL_METRICS.to_owned()]
        } else {
            let capacity = hash_capacity(wanted.len());
            hash_order(wanted, capacity)
        };
        let subscription_id = subscription_id(&wanted, push_interval_ms, id);
        (wanted, push_interval_ms, subscription_id)
    }
}

/// The checksum of what is wanted and the client's id (`ClientMetricsManager.computeSubscriptionId`). Brokers that agree
/// on it can take over a client from one another.
fn subscription_id(metrics: &[String], push_interval_ms: i32, id: Uuid) -> i32 {
    let text = format!("[{}]{push_interval_ms}", metrics.join(", "));
    let (high, low) = id.as_u64_pair();
    let folded = high ^ low;
    let hash = folded ^ (folded >> 32);
    #[expect(clippy::cast_possible_truncation, reason = "Java's hash of an id is its lower half")]
    let hash = hash as u32;
    (crc32c::crc32c(text.as_bytes()) ^ hash).cast_signed()
}

/// The size of Java's hash table that grew to hold this many.
fn hash_capacity(count: usize) -> usize {
    let mut capacity = 16;
    while count > capacity / 4 * 3 {
        capacity *= 2;
    }
    capacity
}

/// The place of a text in a hash table of Java.
fn bucket(text: &str, capacity: usize) -> usize {
    let hash = text.encode_utf16().fold(0_u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
    let spread = hash ^ (hash >> 16);
    usize::try_from(spread).unwrap_or_default() & (capacity - 1)
}

/// The order in which Java tells what is in a hash table of this size.
fn hash_order(mut texts: Vec<String>, capacity: usize) -> Vec<String> {
    texts.sort_by_key(|text| bucket(text, capacity));
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `HashSet`, `Crc32C` and `Uuid.hashCode` say.
    #[test]
    fn orders_and_ids_are_those_that_java_computes() {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let names = ["org.apache.kafka.consumer.", "org.apache.kafka.producer.", "a", "b", "zeta"];
        let ordered = hash_order(owned(&names), hash_capacity(names.len()));
        let java = ["org.apache.kafka.producer.", "zeta", "a", "org.apache.kafka.consumer.", "b"];
        assert_eq!(ordered, java);
        let id = Uuid::from_u64_pair(0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210 ^ 0x5555_0000_1111_2222);
        assert_eq!(subscription_id(&ordered, 1_000, id), -1_633_760_185);
        assert_eq!(subscription_id(&owned(&["*"]), 300_000, id), 2_014_391_553);
        let many = (0..14).map(|number| format!("metric.{}", number * 7)).collect();
        let java =
            [7, 49, 35, 14, 0, 28, 84, 63, 77, 56, 42, 21, 91, 70].map(|number| format!("metric.{number}"));
        assert_eq!(hash_order(many, hash_capacity(14)), java);
    }
}
