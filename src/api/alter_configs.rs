//! AlterConfigs (33): replaces the whole configuration of a resource. Older tools still use it; what it does not name
//! falls back to its default. IncrementalAlterConfigs has taken its place (KIP-339).

use std::collections::BTreeSet;

use kafka_protocol::messages::alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;

use super::context::{Context, Disconnect};
use super::incremental_alter_configs::{alterable, refuse_duplicates};
use super::outcome::{code_and_message, in_order};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::Metadata;
use crate::metadata::command::ConfigReplacement;
use crate::metadata::image::ConfigValues;
use crate::protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

pub(super) async fn handle(
    context: &Context,
    request: AlterConfigsRequest,
    _version: i16,
) -> Result<AlterConfigsResponse, Disconnect> {
    Ok(alter(&context.broker.metadata, request).await)
}

pub(super) async fn alter(metadata: &Metadata, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let mut read: Vec<_> = request.resources.iter().map(replacement).collect();
    refuse_duplicates(
        &mut read,
        request.resources.iter().map(|one| (one.resource_type, one.resource_name.as_str())),
    );
    let replacements: Vec<_> = read.iter().filter_map(|one| one.as_ref().ok().cloned()).collect();
    let results = metadata.alter_configs(replacements, request.validate_only).await;
    let answer = |(resource, result): (AlterConfigsResource, Result<(), ApiError>)| {
        let (code, message) = code_and_message(&result);
        AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
            .with_error_code(code)
            .with_error_message(message)
    };
    let responses = request.resources.into_iter().zip(in_order(read, results)).map(answer).collect();
    AlterConfigsResponse::default().with_responses(responses)
}

fn replacement(resource: &AlterConfigsResource) -> Result<ConfigReplacement, ApiError> {
    let invalid = |why: String| Err(ApiError::with(ErrorCode::InvalidRequest, why));
    let mut names = BTreeSet::new();
    if !resource.configs.iter().all(|config| names.insert(config.name.as_str())) {
        return invalid("Error due to duplicate config keys".to_owned());
    }
    let nulls: Vec<&str> = resource
        .configs
        .iter()
        .filter(|config| config.value.is_none())
        .map(|config| config.name.as_str())
        .collect();
    if !nulls.is_empty() {
        return invalid(format!("Null value not supported for : {}", nulls.join(", ")));
    }
    let value = |config: &kafka_protocol::messages::alter_configs_request::AlterableConfig| {
        Some((config.name.to_string(), config.value.as_ref()?.to_string()))
    };
    let values: ConfigValues = resource.configs.iter().filter_map(value).collect();
    Ok(ConfigReplacement { resource: alterable(resource.resource_type, &resource.resource_name)?, values })
}
