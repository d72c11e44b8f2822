//! DescribeConfigs (32): the configuration of topics, brokers, groups and metrics subscriptions, with where each value
//! comes from, and the log levels of this broker.
//!
//! - No keys, or an empty list of them, stands for all keys.
//! - Since version 1 synonyms are told when asked for, since version 3 types, and documentation when asked for.
//! - A broker without a name stands for what is set for all brokers. Topics must exist, groups need not.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};

use super::context::{Context, Disconnect};
use super::outcome::{code_and_message, text};
use crate::config::describe::{self, Described, Synonym};
use crate::error::{ApiError, ErrorCode};
use crate::levels::Levels;
use crate::metadata::controller::topics::check_name;
use crate::metadata::image::ConfigValues;
use crate::metadata::{ConfigResource, Metadata, ResourceType};
use crate::protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

pub(super) async fn handle(
    context: &Context,
    request: DescribeConfigsRequest,
    _version: i16,
) -> Result<DescribeConfigsResponse, Disconnect> {
    Ok(describe_all(&context.broker.metadata, &context.broker.levels, &request))
}

pub(super) fn describe_all(
    metadata: &Metadata,
    levels: &Levels,
    request: &DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    // One resource of an unknown type spoils the whole request.
    let unknown = request.resources.iter().find(|one| ResourceType::from_id(one.resource_type).is_none());
    let spoilt = unknown.map(|resource| {
        let (kind, name) = (resource.resource_type, &resource.resource_name);
        let why = format!("Unexpected resource type {kind} for resource {}", name.as_str());
        ApiError::with(ErrorCode::InvalidRequest, why)
    });
    let describe = |resource: &DescribeConfigsResource| {
        let described = spoilt.clone().map_or_else(|| describe_one(metadata, levels, resource), Err);
        let (code, message) = code_and_message(&described);
        let wanted = |described: &Described| match &resource.configuration_keys {
            Some(keys) if !keys.is_empty() => keys.iter().any(|key| key.as_str() == described.name),
            Some(_) | None => true,
        };
        let configs = described.unwrap_or_default().into_iter().filter(wanted);
        DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone())
            .with_error_code(code)
            .with_error_message(message)
            .with_configs(configs.map(|one| entry(one, request)).collect())
    };
    DescribeConfigsResponse::default().with_results(request.resources.iter().map(describe).collect())
}

fn describe_one(
    metadata: &Metadata,
    levels: &Levels,
    resource: &DescribeConfigsResource,
) -> Result<Vec<Described>, ApiError> {
    let invalid = |why: String| Err(ApiError::with(ErrorCode::InvalidRequest, why));
    let (image, broker) = (metadata.image(), metadata.broker_config());
    let name = resource.resource_name.as_str();
    let none = ConfigValues::new();
    let kind = ResourceType::from_id(resource.resource_type).ok_or(ErrorCode::InvalidRequest)?;
    let overrides = image.config(&ConfigResource::new(kind, name)).map_or(&none, |values| values);
    match kind {
        ResourceType::Topic => {
            check_name(name)?;
            if image.topics.get(name).is_none() {
                return Err(ErrorCode::UnknownTopicOrPartition.into());
            }
            Ok(describe::topic(overrides, &broker))
        }
        ResourceType::Broker if name.is_empty() => Ok(describe::cluster(&broker)),
        ResourceType::Broker => match name.parse::<i32>() {
            Ok(id) if id == metadata.node_id() => Ok(describe::broker(&broker)),
            Ok(_) => {
                let own = metadata.node_id();
                invalid(format!("Unexpected broker id, expected {own} or empty string, but received {name}"))
            }
            Err(_) => invalid(format!("Broker id must be an integer, but it is: {name}")),
        },
        ResourceType::BrokerLogger if name.is_empty() => invalid("Broker id must not be empty".to_owned()),
        ResourceType::BrokerLogger => match name.parse::<i32>() {
            Ok(id) if id == metadata.node_id() => Ok(describe::loggers(levels.loggers())),
            Ok(_) => {
                let own = metadata.node_id();
                invalid(format!("Unexpected broker id, expected {own} but received {name}"))
            }
            Err(_) => invalid(format!("Broker id must be an integer, but it is: {name}")),
        },
        ResourceType::ClientMetrics if name.is_empty() => {
            invalid("Client metrics subscription name must not be empty".to_owned())
        }
        ResourceType::ClientMetrics => Ok(describe::client_metrics(overrides)),
        ResourceType::Group if name.is_empty() => invalid("Group name must not be empty".to_owned()),
        ResourceType::Group => Ok(describe::group(overrides, &broker)),
    }
}

fn entry(described: Described, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let synonym = |synonym: Synonym| {
        DescribeConfigsSynonym::default()
            .with_name(text(synonym.name))
            .with_value(synonym.value.map(text))
            .with_source(synonym.source.wire_id())
    };
    let synonyms = if request.include_synonyms { described.synonyms } else { Vec::new() };
    let documentation = request.include_documentation.then(|| text(described.documentation));
    DescribeConfigsResourceResult::default()
        .with_name(text(described.name))
        .with_value(described.value.filter(|_| !described.sensitive).map(text))
        .with_read_only(described.read_only)
        .with_config_source(described.source.wire_id())
        .with_is_sensitive(described.sensitive)
        .with_synonyms(synonyms.into_iter().map(synonym).collect())
        .with_config_type(described.type_id)
        .with_documentation(documentation)
}
