//! IncrementalAlterConfigs (44): sets, removes, and adds to or takes from lists, single keys of topics, brokers,
//! groups and metrics subscriptions (KIP-339).
//!
//! Each resource changes by itself, all of its keys or none. A broker without a name stands for all brokers. The log
//! levels of a broker (KIP-412) are changed by the broker that is asked, until it ends; everything else goes to the
//! active controller.

use std::collections::HashMap;

use bytes::Bytes;
use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;

use super::context::{BrokerHandles, Context, Disconnect};
use super::forward;
use super::outcome::{code_and_message, in_order};
use crate::config::dynamic::{ConfigOp, read_ops};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::command::ConfigChange;
use crate::metadata::{ConfigResource, Metadata, ResourceType};
use crate::protocol::messages::{Body as _, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

/// The API key.
pub(super) const KEY: i16 = 44;

pub(super) async fn handle(
    context: &Context,
    mut request: IncrementalAlterConfigsRequest,
    version: i16,
) -> Result<IncrementalAlterConfigsResponse, Disconnect> {
    let broker = &context.broker;
    let order: Vec<bool> = request.resources.iter().map(is_logger).collect();
    let (loggers, others) = std::mem::take(&mut request.resources).into_iter().partition(is_logger);
    let validate_only = request.validate_only;
    let mut levels = alter_levels(broker, loggers, validate_only).into_iter();
    request.resources = others;
    let mut others = if request.resources.is_empty() {
        Vec::new()
    } else if forward::wanted(context) {
        forward::call(broker, &request, version).await.map_or_else(
            |error| request.resources.iter().map(|one| answer(one.clone(), &Err(error.clone()))).collect(),
            |response| response.responses,
        )
    } else {
        alter(&broker.metadata, request).await.responses
    }
    .into_iter();
    let next = |logger| if logger { levels.next() } else { others.next() };
    Ok(IncrementalAlterConfigsResponse::default()
        .with_responses(order.into_iter().filter_map(next).collect()))
}

/// Whether a request that would be forwarded has something for this broker itself.
pub(super) fn is_for_this_broker(version: i16, body: &Bytes) -> bool {
    // What can not be decoded is forwarded, and refused there.
    IncrementalAlterConfigsRequest::decode(&mut body.clone(), version)
        .is_ok_and(|request| request.resources.iter().any(is_logger))
}

fn is_logger(resource: &AlterConfigsResource) -> bool {
    resource.resource_type == ResourceType::BrokerLogger.id()
}

/// Changes log levels of this broker.
fn alter_levels(
    broker: &BrokerHandles,
    loggers: Vec<AlterConfigsResource>,
    validate_only: bool,
) -> Vec<AlterConfigsResourceResponse> {
    let invalid = |why: String| Err(ApiError::with(ErrorCode::InvalidRequest, why));
    let mut read: Vec<_> = loggers.iter().map(operations).collect();
    refuse_duplicates(&mut read, loggers.iter().map(|one| (one.resource_type, one.resource_name.as_str())));
    let own = broker.node_id;
    let alter = |(resource, read): (AlterConfigsResource, Result<Vec<_>, ApiError>)| {
        let name = resource.resource_name.as_str();
        let result = read.and_then(|changes| match name.parse::<i32>() {
            Ok(id) if id == own => broker.levels.alter(&changes, validate_only),
            Ok(id) => invalid(format!("Unexpected node id. Expected {own}, but received {id}")),
            Err(_) => invalid(format!("Node id must be an integer, but it is: {name}")),
        });
        answer(resource, &result)
    };
    loggers.into_iter().zip(read).map(alter).collect()
}

fn answer(resource: AlterConfigsResource, result: &Result<(), ApiError>) -> AlterConfigsResourceResponse {
    let (code, message) = code_and_message(result);
    AlterConfigsResourceResponse::default()
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name)
        .with_error_code(code)
        .with_error_message(message)
}

pub(super) async fn alter(
    metadata: &Metadata,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut read: Vec<_> = request.resources.iter().map(change).collect();
    refuse_duplicates(
        &mut read,
        request.resources.iter().map(|one| (one.resource_type, one.resource_name.as_str())),
    );
    let changes: Vec<_> = read.iter().filter_map(|one| one.as_ref().ok().cloned()).collect();
    let results = metadata.incremental_alter_configs(changes, request.validate_only).await;
    let results = request.resources.into_iter().zip(in_order(read, results));
    let responses = results.map(|(resource, result)| answer(resource, &result)).collect();
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

fn operations(resource: &AlterConfigsResource) -> Result<Vec<(String, ConfigOp)>, ApiError> {
    read_ops(resource.configs.iter().map(|config| {
        (config.name.to_string(), config.config_operation, config.value.as_ref().map(ToString::to_string))
    }))
}

fn change(resource: &AlterConfigsResource) -> Result<ConfigChange, ApiError> {
    let changes = operations(resource)?;
    Ok(ConfigChange { resource: alterable(resource.resource_type, &resource.resource_name)?, changes })
}

/// The resource that is to be altered.
///
/// # Errors
/// INVALID_REQUEST where it is of a type that can not be altered.
pub(super) fn alterable(kind: i8, name: &str) -> Result<ConfigResource, ApiError> {
    match ResourceType::from_id(kind) {
        Some(kind) if kind != ResourceType::BrokerLogger => Ok(ConfigResource::new(kind, name)),
        Some(_) | None => {
            Err(ApiError::with(ErrorCode::InvalidRequest, format!("Unknown resource type {kind}")))
        }
    }
}

/// Refuses every resource that stands more than once, all of its occurrences.
pub(super) fn refuse_duplicates<'a, T>(
    read: &mut [Result<T, ApiError>],
    resources: impl Iterator<Item = (i8, &'a str)> + Clone,
) {
    let mut times: HashMap<(i8, &str), usize> = HashMap::new();
    for resource in resources.clone() {
        *times.entry(resource).or_default() += 1;
    }
    for (one, resource) in read.iter_mut().zip(resources) {
        if times.get(&resource).is_some_and(|count| *count > 1) {
            let why = "Each resource must appear at most once.";
            *one = Err(ApiError::with(ErrorCode::InvalidRequest, why));
        }
    }
}
