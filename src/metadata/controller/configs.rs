//! Configurations of topics, brokers, groups and metrics subscriptions.

use std::collections::BTreeMap;

use super::features::ELR_VERSION;
use super::topics::{check_name, config_record};
use super::{Context, Decision, Results};
use crate::config::{BrokerConfig, dynamic};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::command::{ConfigChange, ConfigReplacement};
use crate::metadata::image::{ConfigResource, ConfigValues, ResourceType};
use crate::metadata::publisher::broker_config;
use crate::metadata::record::{ClearElrRecord, ConfigRecord, Record};

/// How many replicas have to be in sync.
const MIN_ISR: &str = "min.insync.replicas";

/// Changes single keys; each resource by itself, all of its keys or none.
pub fn alter_incrementally(
    context: &mut Context<'_>,
    changes: &[ConfigChange],
    validate_only: bool,
) -> Decision<Results<()>> {
    let one = |ConfigChange { resource, changes }: &ConfigChange| {
        let before = values_of(context, resource);
        let target = target(resource)?;
        let after = match &target {
            dynamic::ConfigResource::Broker(id) => {
                dynamic::incremental(&target, &before, changes, &config_of(context, *id))?
            }
            dynamic::ConfigResource::Topic(_)
            | dynamic::ConfigResource::ClientMetrics(_)
            | dynamic::ConfigResource::Group(_) => {
                dynamic::incremental(&target, &before, changes, &context.settings.config)?
            }
        };
        check_exists(context, resource)?;
        let records = records(resource, &before, &after, changes.iter().map(|(name, _)| name));
        check_min_isr(context, resource, &records)?;
        Ok(records)
    };
    let results: Vec<_> = changes.iter().map(one).collect();
    decide(context, results, validate_only)
}

/// Replaces whole configurations (the older AlterConfigs); each resource by itself.
pub fn replace(
    context: &mut Context<'_>,
    replacements: &[ConfigReplacement],
    validate_only: bool,
) -> Decision<Results<()>> {
    let one = |ConfigReplacement { resource, values }: &ConfigReplacement| {
        let before = values_of(context, resource);
        check(context, resource, values)?;
        check_exists(context, resource)?;
        let gone = before.keys().filter(|name| !values.contains_key(*name));
        let records = records(resource, &before, values, values.keys().chain(gone));
        check_min_isr(context, resource, &records)?;
        Ok(records)
    };
    let results: Vec<_> = replacements.iter().map(one).collect();
    decide(context, results, validate_only)
}

fn decide(
    context: &mut Context<'_>,
    changes: Vec<Result<Vec<ConfigRecord>, ApiError>>,
    validate_only: bool,
) -> Decision<Results<()>> {
    let mut records = Vec::new();
    let reply = changes.into_iter().map(|change| change.map(|new| records.extend(new))).collect();
    if validate_only {
        records.clear();
    }
    if records.iter().any(|record| record.name == "unclean.leader.election.enable") {
        context.soft.elect_soon();
    }
    let cleared = cleared(context, &records);
    let records = records.into_iter().map(Record::from).chain(cleared).collect();
    Decision { records, reply }
}

/// With another minimum other replicas would be eligible, so nobody is.
fn cleared(context: &Context<'_>, records: &[ConfigRecord]) -> Vec<Record> {
    if !keeps_eligible_replicas(context) {
        return Vec::new();
    }
    let cleared = |record: &ConfigRecord| {
        let is_topic = record.resource_type == ResourceType::Topic.id();
        let topic_name = if is_topic { record.resource_name.clone() } else { String::new() };
        ClearElrRecord { topic_name, ..ClearElrRecord::default() }.into()
    };
    records.iter().filter(|record| record.name == MIN_ISR).map(cleared).collect()
}

fn keeps_eligible_replicas(context: &Context<'_>) -> bool {
    context.image.feature(ELR_VERSION) > 0
}

/// Which replicas are eligible has to be the same wherever it is asked: while it is, there is one `min.insync.replicas`
/// for the cluster, and none for single brokers.
fn check_min_isr(
    context: &Context<'_>,
    resource: &ConfigResource,
    records: &[ConfigRecord],
) -> Result<(), ApiError> {
    if !keeps_eligible_replicas(context) || resource.kind != ResourceType::Broker {
        return Ok(());
    }
    let refused = |text: &str| Err(ApiError::with(ErrorCode::InvalidConfig, text));
    match records.iter().find(|record| record.name == MIN_ISR) {
        Some(_) if !resource.name.is_empty() => {
            refused("With eligible leader replicas no broker has a min.insync.replicas of its own.")
        }
        Some(record) if record.value.is_none() => {
            refused("With eligible leader replicas the cluster needs a min.insync.replicas.")
        }
        Some(_) | None => Ok(()),
    }
}

/// What has to be set before eligible replicas are kept (`ConfigurationControlManager.maybeGenerateElrSafetyRecords`).
pub(super) fn before_eligible_replicas(context: &Context<'_>) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    let cluster = ConfigResource::cluster();
    if !context.image.config(&cluster).is_some_and(|values| values.contains_key(MIN_ISR)) {
        records.push(min_isr_of_cluster(context.settings.config.min_insync_replicas).into());
    }
    let own = context.image.configs().filter(|(resource, values)| {
        resource.kind == ResourceType::Broker && **resource != cluster && values.contains_key(MIN_ISR)
    });
    records.extend(own.map(|(resource, _)| config_record(resource, MIN_ISR.to_owned(), None).into()));
    records
}

/// The minimum of the whole cluster.
pub(super) fn min_isr_of_cluster(min_isr: i32) -> ConfigRecord {
    config_record(&ConfigResource::cluster(), MIN_ISR.to_owned(), Some(min_isr.to_string()))
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
    if let dynamic::ConfigResource::Broker(id) = &target {
        return dynamic::validate(&target, values, &config_of(context, *id));
    }
    dynamic::validate(&target, values, &context.settings.config)
}

/// What changes of a broker's keys are checked against: this node's own file, since only the broker knows its own, and
/// the dynamic values of the broker that is meant.
fn config_of(context: &Context<'_>, id: Option<i32>) -> BrokerConfig {
    let node_id = context.settings.node_id;
    // A broker that nobody knows is refused as another one than this.
    let meant = id.filter(|id| context.image.brokers.contains_key(id)).unwrap_or(node_id);
    BrokerConfig { node_id: meant, ..broker_config(context.image, &context.settings.config, meant) }
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
) -> Vec<ConfigRecord> {
    let always = resource.kind == ResourceType::Broker;
    let changes = names.filter(|name| always || before.get(*name) != after.get(*name));
    changes.map(|name| config_record(resource, name.clone(), after.get(name).cloned())).collect()
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
