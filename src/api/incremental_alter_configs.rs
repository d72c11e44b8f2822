//! IncrementalAlterConfigs (44): sets, removes, and adds to or takes from lists, single keys of topics, brokers,
//! groups and metrics subscriptions (KIP-339).
//!
//! Each resource changes by itself, all of its keys or none. A broker without a name stands for all brokers. The log
//! levels of a broker (KIP-412) are not changed here: `RUST_LOG` sets them at the start.

use std::collections::HashMap;

use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;

use super::context::{Context, Disconnect};
use super::outcome::{code_and_message, in_order};
use crate::config::dynamic::read_ops;
use crate::error::{ApiError, ErrorCode};
use crate::metadata::command::ConfigChange;
use crate::metadata::{ConfigResource, Metadata, ResourceType};
use crate::protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

pub(super) async fn handle(
    context: &Context,
    request: IncrementalAlterConfigsRequest,
    _version: i16,
) -> Result<IncrementalAlterConfigsResponse, Disconnect> {
    Ok(alter(&context.broker.metadata, request).await)
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
    let answer = |(resource, result): (AlterConfigsResource, Result<(), ApiError>)| {
        let (code, message) = code_and_message(&result);
        AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
            .with_error_code(code)
            .with_error_message(message)
    };
    let responses = request.resources.into_iter().zip(in_order(read, results)).map(answer).collect();
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

fn change(resource: &AlterConfigsResource) -> Result<ConfigChange, ApiError> {
    let configs = resource.configs.iter().map(|config| {
        (config.name.to_string(), config.config_operation, config.value.as_ref().map(ToString::to_string))
    });
    let changes = read_ops(configs)?;
    Ok(ConfigChange { resource: alterable(resource.resource_type, &resource.resource_name)?, changes })
}

/// The resource that is to be altered.
///
/// # Errors
/// INVALID_REQUEST where it is of a type that can not be altered.
pub(super) fn alterable(kind: i8, name: &str) -> Result<ConfigResource, ApiError> {
    match ResourceType::from_id(kind) {
        Some(ResourceType::BrokerLogger) => Err(ApiError::with(
            ErrorCode::InvalidRequest,
            "Log levels are not changed while the broker runs; RUST_LOG sets them at the start.",
        )),
        Some(kind) => Ok(ConfigResource::new(kind, name)),
        None => Err(ApiError::with(ErrorCode::InvalidRequest, format!("Unknown resource type {kind}"))),
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
