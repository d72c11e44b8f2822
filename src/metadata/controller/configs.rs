//! Configurations of topics, brokers, groups and metrics subscriptions.

use std::collections::BTreeMap;

use super::topics::{check_name, config_record};
use super::{Context, Decision, Results, Settings};
use crate::config::broker::BROKER_KEYS;
use crate::config::group::{CLIENT_METRICS_KEYS, GROUP_KEYS};
use crate::config::key::{ConfigKey, ConfigType, Scope, find};
use crate::config::topic::TOPIC_KEYS;
use crate::config::{ClientMetricsConfig, ConfigError, GroupConfig, TopicConfig};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::command::{ConfigChange, ConfigOp, ConfigReplacement};
use crate::metadata::image::{ConfigResource, ConfigValues, Image, ResourceType};
use crate::metadata::record::Record;

/// The longest value, in characters.
const VALUE_LENGTH_MAX: usize = 32_767;

/// Changes single keys; each resource by itself, all of its keys or none.
pub fn alter_incrementally(
    context: &Context<'_>,
    changes: &[ConfigChange],
    validate_only: bool,
) -> Decision<Results<()>> {
    let one = |change: &ConfigChange| {
        let current = current(context.image, &change.resource);
        let mut values = current.clone();
        let mut touched = Vec::with_capacity(change.changes.len());
        for (name, op) in &change.changes {
            let value = changed(&change.resource, name, values.get(name), op)?;
            match value {
                Some(value) => values.insert(name.clone(), value),
                None => values.remove(name),
            };
            touched.push(name);
        }
        let records = records(&change.resource, &current, &values, touched.into_iter());
        check_change(context, &change.resource, &values)?;
        Ok(records)
    };
    decide(changes.iter().map(one), validate_only)
}

/// Replaces whole configurations (the older AlterConfigs); each resource by itself.
pub fn replace(
    context: &Context<'_>,
    replacements: &[ConfigReplacement],
    validate_only: bool,
) -> Decision<Results<()>> {
    let one = |replacement: &ConfigReplacement| {
        let current = current(context.image, &replacement.resource);
        let values: ConfigValues = replacement.values.iter().cloned().collect();
        let gone = current.keys().filter(|name| !values.contains_key(*name));
        let records = records(&replacement.resource, &current, &values, values.keys().chain(gone));
        check_change(context, &replacement.resource, &values)?;
        Ok(records)
    };
    decide(replacements.iter().map(one), validate_only)
}

fn decide(
    changes: impl Iterator<Item = Result<Vec<Record>, ApiError>>,
    validate_only: bool,
) -> Decision<Results<()>> {
    let mut records = Vec::new();
    let reply = changes.map(|change| change.map(|new| records.extend(new))).collect();
    if validate_only {
        records.clear();
    }
    Decision { records, reply }
}

fn current(image: &Image, resource: &ConfigResource) -> ConfigValues {
    image.config(resource).map(|values| ConfigValues::clone(values)).unwrap_or_default()
}

/// The records for these keys. A broker's keys are written even where nothing changes: it then reads again what the
/// value names, a key store for instance (KAFKA-14136).
fn records<'a>(
    resource: &ConfigResource,
    before: &ConfigValues,
    after: &ConfigValues,
    names: impl Iterator<Item = &'a String>,
) -> Vec<Record> {
    let always = resource.kind == ResourceType::Broker;
    let changes = names.filter(|name| always || before.get(*name) != after.get(*name));
    changes.map(|name| config_record(resource, name.clone(), after.get(name).cloned()).into()).collect()
}

/// The value of one key after an operation; `None` where it falls back to the default.
fn changed(
    resource: &ConfigResource,
    name: &str,
    current: Option<&String>,
    op: &ConfigOp,
) -> Result<Option<String>, ApiError> {
    let list = || {
        let key =
            find(keys(resource.kind), name).filter(|key| key.kind == ConfigType::List).ok_or_else(|| {
                ApiError::with(
                    ErrorCode::InvalidConfig,
                    format!("Items can not be added to or taken from {name}, which is no list."),
                )
            })?;
        let text = current.map(String::as_str).or(key.default).unwrap_or_default();
        Ok::<_, ApiError>(
            text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect::<Vec<_>>(),
        )
    };
    match op {
        ConfigOp::Set(value) => Ok(Some(value.clone())),
        ConfigOp::Delete => Ok(None),
        ConfigOp::Append(items) => {
            let mut list = list()?;
            for item in items.split(',') {
                if !list.iter().any(|there| there == item) {
                    list.push(item.to_owned());
                }
            }
            Ok(Some(list.join(",")))
        }
        ConfigOp::Subtract(items) => {
            let mut list = list()?;
            for item in items.split(',') {
                list.retain(|there| there != item);
            }
            Ok(Some(list.join(",")))
        }
    }
}

fn keys(kind: ResourceType) -> &'static [ConfigKey] {
    match kind {
        ResourceType::Topic => TOPIC_KEYS,
        ResourceType::Broker => BROKER_KEYS,
        ResourceType::ClientMetrics => CLIENT_METRICS_KEYS,
        ResourceType::Group => GROUP_KEYS,
        ResourceType::BrokerLogger => &[],
    }
}

fn check_change(
    context: &Context<'_>,
    resource: &ConfigResource,
    values: &ConfigValues,
) -> Result<(), ApiError> {
    check(context, resource, values)?;
    check_exists(context.image, context.settings, resource)
}

fn check_exists(image: &Image, settings: &Settings, resource: &ConfigResource) -> Result<(), ApiError> {
    match resource.kind {
        ResourceType::Topic if image.topics.get(&resource.name).is_none() => {
            let text = format!("The topic '{}' does not exist.", resource.name);
            Err(ApiError::with(ErrorCode::UnknownTopicOrPartition, text))
        }
        ResourceType::Broker if !resource.name.is_empty() => match broker_id(&resource.name)? {
            id if id == settings.node_id
                || image.brokers.contains_key(&id)
                || image.controllers.contains_key(&id) =>
            {
                Ok(())
            }
            id => Err(ApiError::with(ErrorCode::BrokerIdNotRegistered, format!("No node has the id {id}."))),
        },
        ResourceType::Topic
        | ResourceType::Broker
        | ResourceType::BrokerLogger
        | ResourceType::ClientMetrics
        | ResourceType::Group => Ok(()),
    }
}

fn broker_id(name: &str) -> Result<i32, ApiError> {
    let refuse = || ApiError::with(ErrorCode::InvalidRequest, format!("'{name}' is no id of a broker."));
    name.parse().ok().filter(|id| *id >= 0).ok_or_else(refuse)
}

/// Whether a resource may have these values (`ControllerConfigurationValidator`).
pub(super) fn check(
    context: &Context<'_>,
    resource: &ConfigResource,
    values: &BTreeMap<String, String>,
) -> Result<(), ApiError> {
    let invalid = |error: ConfigError| ApiError::with(ErrorCode::InvalidConfig, error.to_string());
    let request = |text: &str| Err(ApiError::with(ErrorCode::InvalidRequest, text));
    if let Some((name, _)) = values.iter().find(|(_, value)| value.chars().count() > VALUE_LENGTH_MAX) {
        let text = format!("The value of {name} is longer than {VALUE_LENGTH_MAX} characters.");
        return Err(ApiError::with(ErrorCode::InvalidConfig, text));
    }
    let known = |what: &str| match values.keys().find(|name| find(keys(resource.kind), name).is_none()) {
        Some(name) => {
            Err(ApiError::with(ErrorCode::InvalidConfig, format!("Unknown {what} config name: {name}")))
        }
        None => Ok(()),
    };
    let config = &context.settings.config;
    match resource.kind {
        ResourceType::Topic if resource.name.is_empty() => request("Topics have no common configuration."),
        ResourceType::Topic => {
            check_name(&resource.name)?;
            known("topic")?;
            TopicConfig::try_resolve(values, config).map(drop).map_err(invalid)
        }
        ResourceType::Broker => check_broker(context, resource, values),
        ResourceType::ClientMetrics if resource.name.is_empty() => {
            request("A metrics subscription needs a name.")
        }
        ResourceType::ClientMetrics => {
            known("client metrics")?;
            ClientMetricsConfig::resolve(values).map(drop).map_err(invalid)
        }
        ResourceType::Group if resource.name.is_empty() => request("Groups have no common configuration."),
        ResourceType::Group => {
            known("group")?;
            GroupConfig::resolve(values, config).map(drop).map_err(invalid)
        }
        ResourceType::BrokerLogger => request("Log levels are no part of the metadata."),
    }
}

/// What a broker's configuration may be while it runs (`DynamicBrokerConfig.validate`, KIP-226).
fn check_broker(
    context: &Context<'_>,
    resource: &ConfigResource,
    values: &BTreeMap<String, String>,
) -> Result<(), ApiError> {
    let refuse = |text: String| Err(ApiError::with(ErrorCode::InvalidRequest, text));
    let whole_cluster = resource.name.is_empty();
    if !whole_cluster {
        broker_id(&resource.name)?;
    }
    for key in values.keys().filter_map(|name| find(BROKER_KEYS, name)) {
        match key.scope {
            Scope::ReadOnly => {
                return refuse(format!("{} can not be changed while the broker runs.", key.name));
            }
            Scope::PerBroker if whole_cluster => {
                return refuse(format!("{} can only be changed for one broker, by its id.", key.name));
            }
            Scope::PerBroker | Scope::ClusterWide | Scope::Resource => {}
        }
    }
    let none = ConfigValues::new();
    let cluster = context.image.config(&ConfigResource::cluster()).map_or(&none, |values| values);
    let config = &context.settings.config;
    let resolved =
        if whole_cluster { config.with_dynamic(values, &none) } else { config.with_dynamic(cluster, values) };
    resolved.map(drop).or_else(|error| refuse(error.to_string()))
}
