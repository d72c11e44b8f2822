//! Changes of configurations while the cluster runs: pure functions from the values that a
//! resource has and the changes that were asked for to the values that it will have
//! (Kafka's `ConfigurationControlManager`, `ControllerConfigurationValidator` and
//! `DynamicBrokerConfig`).

use std::collections::{BTreeMap, BTreeSet};

use super::broker::{BROKER_KEYS, BrokerConfig};
use super::group::{CLIENT_METRICS_KEYS, ClientMetricsConfig, GROUP_KEYS, GroupConfig, client_pattern};
use super::key::{ConfigError, ConfigType, Scope, find, parse_type};
use super::topic::{TOPIC_KEYS, TopicConfig};
use super::unsupported;
use crate::error::{ApiError, ErrorCode};

/// The longest value that a record of the metadata log takes.
const VALUE_BYTES_MAX: usize = 32_767;

/// Keys of a broker that Kafka takes only while it runs (`QuotaConfig.brokerQuotaConfigs`):
/// tools set them around a reassignment.
pub(super) const DYNAMIC_ONLY: &[&str] = &[
    "leader.replication.throttled.rate",
    "follower.replication.throttled.rate",
    "replica.alter.log.dirs.io.max.bytes.per.second",
];

/// What may be configured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigResource {
    Topic(String),
    /// One broker, or all of them.
    Broker(Option<i32>),
    ClientMetrics(String),
    Group(String),
}

/// One change of a key (`AlterConfigOp.OpType`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigOp {
    Set(String),
    /// Back to the default.
    Delete,
    /// Add the items of a comma-separated list.
    Append(String),
    /// Remove the items of a comma-separated list.
    Subtract(String),
}

/// Reads the operations of an IncrementalAlterConfigs resource: name, operation number, value.
///
/// # Errors
/// INVALID_REQUEST for a key that stands twice, a missing value, an unknown operation.
pub fn read_ops(
    configs: impl IntoIterator<Item = (String, i8, Option<String>)>,
) -> Result<Vec<(String, ConfigOp)>, ApiError> {
    let mut seen = BTreeSet::new();
    let mut missing = Vec::new();
    let mut ops = Vec::new();
    for (name, operation, value) in configs {
        if !seen.insert(name.clone()) {
            return Err(invalid_request("Error due to duplicate config keys"));
        }
        let op = match (operation, value) {
            (1, _) => ConfigOp::Delete,
            (_, None) => {
                missing.push(name);
                continue;
            }
            (0, Some(value)) => ConfigOp::Set(value),
            (2, Some(value)) => ConfigOp::Append(value),
            (3, Some(value)) => ConfigOp::Subtract(value),
            (other, Some(_)) => return Err(invalid_request(format!("Unknown operations type {other}"))),
        };
        ops.push((name, op));
    }
    if missing.is_empty() {
        return Ok(ops);
    }
    Err(invalid_request(format!("Null value not supported for : {}", missing.join(", "))))
}

/// Applies single changes (IncrementalAlterConfigs) to the values of a resource.
///
/// # Errors
/// INVALID_CONFIG or INVALID_REQUEST with a sentence; then nothing changes.
pub fn incremental(
    resource: &ConfigResource,
    current: &BTreeMap<String, String>,
    ops: &[(String, ConfigOp)],
    broker: &BrokerConfig,
) -> Result<BTreeMap<String, String>, ApiError> {
    let mut new = current.clone();
    for (name, op) in ops {
        let value = match op {
            ConfigOp::Set(value) => Some(value.clone()),
            ConfigOp::Delete => None,
            ConfigOp::Append(items) => {
                let mut list = list_to_change(resource, current, name, "APPEND")?;
                for item in items.split(',') {
                    if !list.iter().any(|existing| existing == item) {
                        list.push(item.to_owned());
                    }
                }
                Some(list.join(","))
            }
            ConfigOp::Subtract(items) => {
                let mut list = list_to_change(resource, current, name, "SUBTRACT")?;
                for item in items.split(',') {
                    if let Some(index) = list.iter().position(|existing| existing == item) {
                        list.remove(index);
                    }
                }
                Some(list.join(","))
            }
        };
        match value {
            Some(value) => new.insert(name.clone(), value),
            None => new.remove(name),
        };
    }
    // Kafka looks at what the request touches before it asks whether the rest still holds.
    let touched = ops.iter().filter(|(name, _)| new.contains_key(name)).map(|(name, _)| name.as_str());
    check_sizes(touched, &new)?;
    validate(resource, &new, broker)?;
    Ok(new)
}

/// Checks values that replace all that a resource has (AlterConfigs), or that a new topic gets.
///
/// # Errors
/// INVALID_CONFIG or INVALID_REQUEST with a sentence.
pub fn validate(
    resource: &ConfigResource,
    values: &BTreeMap<String, String>,
    broker: &BrokerConfig,
) -> Result<(), ApiError> {
    check_sizes(values.keys().map(String::as_str), values)?;
    match resource {
        ConfigResource::Topic(name) if name.is_empty() => {
            Err(invalid_request("Default topic resources are not allowed."))
        }
        ConfigResource::Topic(_) => validate_topic(values, broker),
        ConfigResource::Broker(id) => validate_broker(*id, values, broker),
        ConfigResource::ClientMetrics(name) if name.is_empty() => {
            Err(invalid_request("Subscription name can't be empty"))
        }
        ConfigResource::ClientMetrics(_) => validate_client_metrics(values),
        ConfigResource::Group(name) if name.is_empty() => {
            Err(invalid_request("Default group resources are not allowed."))
        }
        ConfigResource::Group(_) => validate_group(values, broker),
    }
}

fn check_sizes<'a>(
    names: impl Iterator<Item = &'a str>,
    values: &BTreeMap<String, String>,
) -> Result<(), ApiError> {
    let mut names = names;
    let long = names.find(|name| values.get(*name).is_some_and(|value| value.len() > VALUE_BYTES_MAX));
    match long {
        None => Ok(()),
        Some(name) => Err(invalid_config(format!(
            "The value of {name} can not be stored: it is longer than {VALUE_BYTES_MAX} bytes."
        ))),
    }
}

/// The items that a list has before APPEND or SUBTRACT; the default's where nothing is set.
fn list_to_change(
    resource: &ConfigResource,
    current: &BTreeMap<String, String>,
    name: &str,
    operation: &str,
) -> Result<Vec<String>, ApiError> {
    let known = match resource {
        ConfigResource::Topic(_) => find(TOPIC_KEYS, name).map(|key| (key.kind, key.default)),
        ConfigResource::Group(_) => find(GROUP_KEYS, name).map(|key| (key.kind, key.default)),
        ConfigResource::ClientMetrics(_) => {
            find(CLIENT_METRICS_KEYS, name).map(|key| (key.kind, key.default))
        }
        ConfigResource::Broker(_) => find(BROKER_KEYS, name)
            .map(|key| (key.kind, key.default))
            .or_else(|| unsupported::find(name).map(|key| (key.kind, key.default))),
    };
    match known {
        Some((ConfigType::List, default)) => {
            let text = current.get(name).map(String::as_str).or(default).unwrap_or_default();
            Ok(text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect())
        }
        _ => Err(invalid_config(match (resource, known) {
            (ConfigResource::Broker(_), None) => format!("Unknown config name: {name}"),
            (ConfigResource::Broker(_), Some(_)) => {
                let operation = operation.to_lowercase();
                format!("Config value {operation} is not allowed for config key: {name}")
            }
            _ => format!("Can't {operation} to key {name} because its type is not LIST."),
        })),
    }
}

fn validate_topic(values: &BTreeMap<String, String>, broker: &BrokerConfig) -> Result<(), ApiError> {
    if let Some(name) = values.keys().find(|name| find(TOPIC_KEYS, name).is_none()) {
        return Err(invalid_config(format!("Unknown topic config name: {name}")));
    }
    let config = TopicConfig::try_resolve(values, broker).map_err(|error| invalid_config(error.0))?;
    let (least, most) = (config.min_compaction_lag_ms, config.max_compaction_lag_ms);
    if least > most {
        return Err(invalid_config(format!(
            "conflict topic config setting min.compaction.lag.ms ({least}) > max.compaction.lag.ms ({most})"
        )));
    }
    if config.remote_storage_enable {
        return Err(invalid_config(
            "remote.storage.enable can not be true: tiered storage is disabled in this broker.",
        ));
    }
    Ok(())
}

fn validate_group(values: &BTreeMap<String, String>, broker: &BrokerConfig) -> Result<(), ApiError> {
    if let Some(name) = values.keys().find(|name| find(GROUP_KEYS, name).is_none()) {
        return Err(invalid_config(format!("Unknown group config name: {name}")));
    }
    GroupConfig::resolve(values, broker).map(|_| ()).map_err(|error| invalid_config(error.0))
}

fn validate_client_metrics(values: &BTreeMap<String, String>) -> Result<(), ApiError> {
    for (name, text) in values {
        let Some(key) = find(CLIENT_METRICS_KEYS, name) else {
            return Err(invalid_request(format!("Unknown client metrics configuration: {name}")));
        };
        parse_type(key.name, key.kind, text).map_err(|error| invalid_config(error.0))?;
    }
    let interval = values.get("interval.ms").and_then(|text| text.trim().parse::<i32>().ok());
    if let Some(interval_ms) = interval.filter(|interval_ms| !(100..=3_600_000).contains(interval_ms)) {
        return Err(invalid_request(format!(
            "Invalid value {interval_ms} for interval.ms, interval must be between 100 and 3600000 (1 hour)"
        )));
    }
    let config = ClientMetricsConfig::resolve(values).map_err(|error| invalid_request(error.0))?;
    let wrong = config.matching.iter().find(|pattern| client_pattern(pattern).is_none());
    match wrong {
        None => Ok(()),
        Some(pattern) => Err(invalid_config(format!("Illegal client matching pattern: {pattern}"))),
    }
}

fn validate_broker(
    id: Option<i32>,
    values: &BTreeMap<String, String>,
    broker: &BrokerConfig,
) -> Result<(), ApiError> {
    if id.is_some_and(|id| id != broker.node_id) {
        let (expected, id) = (broker.node_id, id.unwrap_or_default());
        return Err(invalid_request(format!("Unexpected broker id, expected {expected}, but received {id}")));
    }
    let names_with = |wanted: &dyn Fn(&str) -> bool| {
        let names: Vec<&str> = values.keys().map(String::as_str).filter(|name| wanted(name)).collect();
        Some(names.join(", ")).filter(|names| !names.is_empty())
    };
    if let Some(names) = names_with(&|name| scope(name) == Some(Scope::ReadOnly)) {
        return Err(invalid_request(format!("Cannot update these configs dynamically: [{names}]")));
    }
    let is_security = |name: &str| {
        unsupported::refused().iter().any(|key| key.name == name) || unsupported::listener_key(name).is_some()
    };
    if let Some(names) = names_with(&is_security) {
        return Err(invalid_request(format!(
            "security is not built yet, so these can not be set: [{names}]"
        )));
    }
    for (name, text) in values {
        check_broker_value(name, text).map_err(|error| invalid_request(error.0))?;
    }
    if id.is_none()
        && let Some(names) = names_with(&|name| scope(name) == Some(Scope::PerBroker))
    {
        return Err(invalid_request(format!(
            "Cannot update these configs at default cluster level, broker id must be specified: [{names}]"
        )));
    }
    let effective = match id {
        Some(_) => broker.with_dynamic(&broker.layers.cluster, values),
        None => broker.with_dynamic(values, &broker.layers.broker),
    };
    effective.map(|_| ()).map_err(|error| invalid_request(error.0))
}

/// Who may change a broker key; `None` for one that klamm does not know. As Kafka does, klamm
/// keeps those: plug-ins read keys of their own.
fn scope(name: &str) -> Option<Scope> {
    if DYNAMIC_ONLY.contains(&name) {
        return Some(Scope::ClusterWide);
    }
    find(BROKER_KEYS, name).map(|key| key.scope).or_else(|| unsupported::find(name).map(|key| key.scope))
}

fn check_broker_value(name: &str, text: &str) -> Result<(), ConfigError> {
    if DYNAMIC_ONLY.contains(&name) {
        return parse_type(name, ConfigType::Long, text).map(|_| ());
    }
    if let Some(key) = find(BROKER_KEYS, name) {
        return key.parse(text).map(|_| ());
    }
    let Some(key) = unsupported::find(name) else { return Ok(()) };
    parse_type(name, key.kind, text).map(|_| ())
}

fn invalid_config(text: impl Into<String>) -> ApiError {
    ApiError::with(ErrorCode::InvalidConfig, text)
}

fn invalid_request(text: impl Into<String>) -> ApiError {
    ApiError::with(ErrorCode::InvalidRequest, text)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test")]
mod tests;
