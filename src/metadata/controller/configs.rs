//! Configurations of topics, brokers, groups and metrics subscriptions.

use std::collections::BTreeMap;

use super::topics::{check_name, config_record};
use super::{Context, Decision, Results};
use crate::config::dynamic;
use crate::error::{ApiError, ErrorCode};
use crate::metadata::command::{ConfigChange, ConfigReplacement};
use crate::metadata::image::{ConfigResource, ConfigValues, ResourceType};
use crate::metadata::publisher::broker_config;
use crate::metadata::record::Record;

/// Changes single keys; each resource by itself, all of its keys or none.
pub fn alter_incrementally(
    context: &Context<'_>,
    changes: &[ConfigChange],
    validate_only: bool,
) -> Decision<Results<()>> {
    let one = |ConfigChange { resource, changes }: &ConfigChange| {
        let before = values_of(context, resource);
        let target = target(resource)?;
        let after = match &target {
            dynamic::ConfigResource::Broker(_) => {
                let config = broker_config(context.image, &context.settings.config, context.settings.node_id);
                dynamic::incremental(&target, &before, changes, &config)?
            }
            dynamic::ConfigResource::Topic(_)
            | dynamic::ConfigResource::ClientMetrics(_)
            | dynamic::ConfigResource::Group(_) => {
                dynamic::incremental(&target, &before, changes, &context.settings.config)?
            }
        };
        check_exists(context, resource)?;
        Ok(records(resource, &before, &after, changes.iter().map(|(name, _)| name)))
    };
    decide(changes.iter().map(one), validate_only)
}

/// Replaces whole configurations (the older AlterConfigs); each resource by itself.
pub fn replace(
    context: &Context<'_>,
    replacements: &[ConfigReplacement],
    validate_only: bool,
) -> Decision<Results<()>> {
    let one = |ConfigReplacement { resource, values }: &ConfigReplacement| {
        let before = values_of(context, resource);
        check(context, resource, values)?;
        check_exists(context, resource)?;
        let gone = before.keys().filter(|name| !values.contains_key(*name));
        Ok(records(resource, &before, values, values.keys().chain(gone)))
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

/// Whether a resource may have these values and no others.
pub(super) fn check(
    context: &Context<'_>,
    resource: &ConfigResource,
    values: &BTreeMap<String, String>,
) -> Result<(), ApiError> {
    if resource.kind == ResourceType::Topic && !resource.name.is_empty() {
        check_name(&resource.name)?;
    }
    let target = target(resource)?;
    if resource.kind == ResourceType::Broker {
        let config = broker_config(context.image, &context.settings.config, context.settings.node_id);
        return dynamic::validate(&target, values, &config);
    }
    dynamic::validate(&target, values, &context.settings.config)
}

fn values_of(context: &Context<'_>, resource: &ConfigResource) -> ConfigValues {
    context.image.config(resource).map(|values| ConfigValues::clone(values)).unwrap_or_default()
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

/// The resource in the words of the configuration.
fn target(resource: &ConfigResource) -> Result<dynamic::ConfigResource, ApiError> {
    let name = resource.name.to_string();
    match resource.kind {
        ResourceType::Topic => Ok(dynamic::ConfigResource::Topic(name)),
        ResourceType::Broker if name.is_empty() => Ok(dynamic::ConfigResource::Broker(None)),
        ResourceType::Broker => {
            let id = name.parse().ok().filter(|id| *id >= 0);
            let id = id.ok_or_else(|| {
                ApiError::with(
                    ErrorCode::InvalidRequest,
                    format!("Node id must be an integer, but it is: {name}"),
                )
            })?;
            Ok(dynamic::ConfigResource::Broker(Some(id)))
        }
        ResourceType::ClientMetrics => Ok(dynamic::ConfigResource::ClientMetrics(name)),
        ResourceType::Group => Ok(dynamic::ConfigResource::Group(name)),
        ResourceType::BrokerLogger => {
            Err(ApiError::with(ErrorCode::InvalidRequest, "Log levels are no part of the metadata."))
        }
    }
}

fn check_exists(context: &Context<'_>, resource: &ConfigResource) -> Result<(), ApiError> {
    if resource.kind == ResourceType::Topic && context.image.topics.get(&resource.name).is_none() {
        let text = format!("The topic '{}' does not exist.", resource.name);
        return Err(ApiError::with(ErrorCode::UnknownTopicOrPartition, text));
    }
    // A broker's own id was compared before; groups and subscriptions need not exist.
    Ok(())
}
