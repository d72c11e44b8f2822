//! The keys of a group (KIP-848, KIP-932, KIP-1071) and of a client metrics subscription
//! (KIP-714).

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use super::Layers;
use super::broker::{BROKER_KEYS, BrokerConfig};
use super::key::{ConfigError, Value, config_keys, find};
use super::unsupported;

config_keys! {
    /// The configuration of one group (Kafka's `GroupConfig`).
    pub struct GroupConfig, table GROUP_KEYS;

    "consumer.assignment.interval.ms" consumer_assignment_interval_ms: i32 = "1000", Resource, AtLeast(0), Medium, "The least time between two assignments of a consumer group, in milliseconds.";
    "consumer.heartbeat.interval.ms" consumer_heartbeat_interval_ms: i32 = "5000", Resource, AtLeast(1), Medium, "How often members of a consumer group send heartbeats, in milliseconds.";
    "consumer.session.timeout.ms" consumer_session_timeout_ms: i32 = "45000", Resource, AtLeast(1), Medium, "How long a member of a consumer group may be silent, in milliseconds.";
    "share.assignment.interval.ms" share_assignment_interval_ms: i32 = "1000", Resource, AtLeast(0), Medium, "The least time between two assignments of a share group, in milliseconds.";
    "share.auto.offset.reset" share_auto_offset_reset: String = "latest", Resource, Checked(check_reset, "[latest, earliest, by_duration:PnDTnHnMn.nS]"), Medium, "Where a share group starts to read a partition.";
    "share.delivery.count.limit" share_delivery_count_limit: i32 = "5", Resource, AtLeast(2), Medium, "How many times a record is delivered to a share group.";
    "share.heartbeat.interval.ms" share_heartbeat_interval_ms: i32 = "5000", Resource, AtLeast(1), Medium, "How often members of a share group send heartbeats, in milliseconds.";
    "share.isolation.level" share_isolation_level: String = "read_uncommitted", Resource, OneOf(&["read_committed", "read_uncommitted"]), Medium, "Whether a share group sees records of transactions that are not committed.";
    "share.partition.max.record.locks" share_partition_max_record_locks: i32 = "2000", Resource, AtLeast(100), Medium, "How many records of a partition a share group may hold at a time.";
    "share.record.lock.duration.ms" share_record_lock_duration_ms: i32 = "30000", Resource, AtLeast(1000), Medium, "How long a member of a share group holds a record, in milliseconds.";
    "share.renew.acknowledge.enable" share_renew_acknowledge_enable: bool = "true", Resource, Any, Medium, "Whether a member of a share group may hold a record for longer.";
    "share.session.timeout.ms" share_session_timeout_ms: i32 = "45000", Resource, AtLeast(1), Medium, "How long a member of a share group may be silent, in milliseconds.";
    "streams.assignment.interval.ms" streams_assignment_interval_ms: i32 = "1000", Resource, AtLeast(0), Medium, "The least time between two assignments of a streams group, in milliseconds.";
    "streams.heartbeat.interval.ms" streams_heartbeat_interval_ms: i32 = "5000", Resource, AtLeast(1), Medium, "How often members of a streams group send heartbeats, in milliseconds.";
    "streams.initial.rebalance.delay.ms" streams_initial_rebalance_delay_ms: i32 = "3000", Resource, AtLeast(0), Medium, "How long an empty streams group waits for more members, in milliseconds.";
    "streams.num.standby.replicas" streams_num_standby_replicas: i32 = "0", Resource, AtLeast(0), Medium, "How many standby copies a streams group keeps of each task.";
    "streams.session.timeout.ms" streams_session_timeout_ms: i32 = "45000", Resource, AtLeast(1), Medium, "How long a member of a streams group may be silent, in milliseconds.";
}

config_keys! {
    /// The configuration of one client metrics subscription (Kafka's `ClientMetricsConfigs`).
    pub struct ClientMetricsConfig, table CLIENT_METRICS_KEYS;

    "interval.ms" interval_ms: i32 = "300000", Resource, Between(100, 3_600_000), Medium, "How often clients push their metrics, in milliseconds.";
    "match" matching: Vec<String> = "", Resource, Any, Medium, "Which clients the subscription is for, as selector=regex pairs, all of which have to match.";
    "metrics" metrics: Vec<String> = "", Resource, Any, Medium, "The prefixes of the metrics that clients push; * for all.";
}

fn check_reset(value: &Value) -> Result<(), String> {
    let Value::Text(text) = value else { return Ok(()) };
    let duration = text.strip_prefix("by_duration:").or_else(|| text.strip_prefix("BY_DURATION:"));
    let known = text.eq_ignore_ascii_case("latest") || text.eq_ignore_ascii_case("earliest");
    if known || duration.is_some_and(|text| duration_ms(text).is_some()) {
        return Ok(());
    }
    Err("expected latest, earliest or by_duration: with an ISO-8601 duration that is not negative".to_owned())
}

/// Milliseconds of an ISO-8601 duration of days, hours, minutes and seconds; `None` where the text is not one.
pub fn duration_ms(text: &str) -> Option<i64> {
    let text = text.to_ascii_uppercase();
    let rest = text.strip_prefix('P')?;
    let (days, time) = match rest.split_once('T') {
        Some((_, "")) => return None,
        Some((days, time)) => (days, time),
        None if rest.is_empty() => return None,
        None => (rest, ""),
    };
    let days_ms = parts_ms(days, &[('D', 86_400_000)])?;
    days_ms.checked_add(parts_ms(time, &[('H', 3_600_000), ('M', 60_000), ('S', 1_000)])?)
}

/// Adds up numbers with their units, which come in this order. Only seconds may have a fraction.
fn parts_ms(text: &str, units: &[(char, i64)]) -> Option<i64> {
    let mut units = units.iter();
    let mut total = 0_i64;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, behind) = rest.split_at(end);
        let letter = behind.chars().next()?;
        let (_, unit_ms) = units.find(|(unit, _)| *unit == letter)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if !fraction.is_empty() && letter != 'S' {
            return None;
        }
        let thousandths = format!("{fraction:0<3}");
        let fraction_ms: i64 = thousandths.get(..3)?.parse().ok()?;
        total =
            total.checked_add(whole.parse::<i64>().ok()?.checked_mul(*unit_ms)?)?.checked_add(fraction_ms)?;
        rest = &behind[1..];
    }
    Some(total)
}

/// The broker key that a group key falls back to (`GroupConfig.ALL_GROUP_CONFIG_SYNONYMS`).
pub fn broker_synonym(name: &str) -> Option<&'static str> {
    Some(match name {
        "consumer.session.timeout.ms" => "group.consumer.session.timeout.ms",
        "consumer.heartbeat.interval.ms" => "group.consumer.heartbeat.interval.ms",
        "consumer.assignment.interval.ms" => "group.consumer.assignment.interval.ms",
        "share.session.timeout.ms" => "group.share.session.timeout.ms",
        "share.heartbeat.interval.ms" => "group.share.heartbeat.interval.ms",
        "share.record.lock.duration.ms" => "group.share.record.lock.duration.ms",
        "share.delivery.count.limit" => "group.share.delivery.count.limit",
        "share.partition.max.record.locks" => "group.share.partition.max.record.locks",
        "share.assignment.interval.ms" => "group.share.assignment.interval.ms",
        "streams.session.timeout.ms" => "group.streams.session.timeout.ms",
        "streams.heartbeat.interval.ms" => "group.streams.heartbeat.interval.ms",
        "streams.num.standby.replicas" => "group.streams.num.standby.replicas",
        "streams.initial.rebalance.delay.ms" => "group.streams.initial.rebalance.delay.ms",
        "streams.assignment.interval.ms" => "group.streams.assignment.interval.ms",
        _ => return None,
    })
}

impl GroupConfig {
    /// The configuration of a group that has these overrides, on a broker with this configuration.
    ///
    /// # Errors
    /// The first value that is not valid, or one outside the bounds that the broker sets.
    pub fn resolve(overrides: &BTreeMap<String, String>, broker: &BrokerConfig) -> Result<Self, ConfigError> {
        let mut values = BTreeMap::new();
        for key in GROUP_KEYS {
            let set = broker_synonym(key.name).and_then(|name| broker.layers.get(name));
            if let Some(text) = set {
                values.insert(key.name.to_owned(), text.to_owned());
            }
        }
        values.extend(overrides.iter().map(|(name, text)| (name.clone(), text.clone())));
        let config = Self::read(&values, Arc::new(broker.layers.for_resource(overrides)))?;
        config.check_bounds(broker)?;
        Ok(config)
    }

    /// Kafka's bounds: `x.heartbeat.interval.ms` lies between `group.x.min.…` and `group.x.max.…`,
    /// and is shorter than `x.session.timeout.ms`.
    fn check_bounds(&self, broker: &BrokerConfig) -> Result<(), ConfigError> {
        let bounded = [
            ("consumer", "heartbeat.interval.ms", self.consumer_heartbeat_interval_ms),
            ("consumer", "session.timeout.ms", self.consumer_session_timeout_ms),
            ("consumer", "assignment.interval.ms", self.consumer_assignment_interval_ms),
            ("share", "heartbeat.interval.ms", self.share_heartbeat_interval_ms),
            ("share", "session.timeout.ms", self.share_session_timeout_ms),
            ("share", "record.lock.duration.ms", self.share_record_lock_duration_ms),
            ("share", "delivery.count.limit", self.share_delivery_count_limit),
            ("share", "partition.max.record.locks", self.share_partition_max_record_locks),
            ("streams", "heartbeat.interval.ms", self.streams_heartbeat_interval_ms),
            ("streams", "session.timeout.ms", self.streams_session_timeout_ms),
            ("streams", "assignment.interval.ms", self.streams_assignment_interval_ms),
        ];
        for (kind, rest, value) in bounded {
            let least = format!("group.{kind}.min.{rest}");
            let most = format!("group.{kind}.max.{rest}");
            if bound(broker, &least).is_some_and(|bound| i64::from(value) < bound) {
                return Err(ConfigError(format!("{kind}.{rest} must be greater than or equal to {least}")));
            }
            if bound(broker, &most).is_some_and(|bound| i64::from(value) > bound) {
                return Err(ConfigError(format!("{kind}.{rest} must be less than or equal to {most}")));
            }
        }
        if self.streams_num_standby_replicas > broker.group_streams_max_standby_replicas {
            return Err(ConfigError(
                "streams.num.standby.replicas must be less than or equal to group.streams.max.standby.replicas"
                    .to_owned(),
            ));
        }
        let pairs = [
            ("consumer", self.consumer_heartbeat_interval_ms, self.consumer_session_timeout_ms),
            ("share", self.share_heartbeat_interval_ms, self.share_session_timeout_ms),
            ("streams", self.streams_heartbeat_interval_ms, self.streams_session_timeout_ms),
        ];
        for (kind, heartbeat, session) in pairs {
            if session <= heartbeat {
                return Err(ConfigError(format!(
                    "{kind}.session.timeout.ms must be greater than {kind}.heartbeat.interval.ms"
                )));
            }
        }
        Ok(())
    }
}

/// The number that a broker key holds, which may be one that klamm does not act on.
fn bound(broker: &BrokerConfig, name: &str) -> Option<i64> {
    let default = || match find(BROKER_KEYS, name) {
        Some(key) => key.default,
        None => unsupported::find(name)?.default,
    };
    let text = broker.layers.get(name).or_else(default)?;
    text.trim().parse().ok()
}

/// What subscriptions select clients by.
const CLIENT_SELECTORS: &[&str] = &[
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

/// How large the automaton of a pattern may become, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Reads `selector=regex`: the attribute of a client, and what all of its text has to match. `None` where it is not one.
pub fn client_pattern(text: &str) -> Option<(String, Regex)> {
    let (selector, pattern) = text.trim_end_matches('=').split_once('=')?;
    let selector = selector.trim();
    if pattern.contains('=') || !CLIENT_SELECTORS.contains(&selector) {
        return None;
    }
    let pattern = format!("^(?:{})$", pattern.trim());
    let pattern = RegexBuilder::new(&pattern).size_limit(PATTERN_BYTES_MAX).build().ok()?;
    Some((selector.to_owned(), pattern))
}

impl ClientMetricsConfig {
    /// The configuration of a subscription that has these values.
    ///
    /// # Errors
    /// The first value that is not valid.
    pub fn resolve(overrides: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let layers = Layers::default().for_resource(overrides);
        Self::read(overrides, Arc::new(layers))
    }
}
