//! ListConfigResources (74): what has, or may have, a configuration (KIP-1142). Version 0 was
//! ListClientMetricsResources and knows metrics subscriptions only.

use kafka_protocol::messages::list_config_resources_response::ConfigResource as Listed;

use super::context::{Context, Disconnect};
use super::outcome::text;
use crate::error::ErrorCode;
use crate::metadata::{Image, ResourceType};
use crate::protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};

/// Everything that can be listed, in the order of the response.
const ALL: [ResourceType; 5] = [
    ResourceType::Group,
    ResourceType::ClientMetrics,
    ResourceType::BrokerLogger,
    ResourceType::Broker,
    ResourceType::Topic,
];

pub(super) async fn handle(
    context: &Context,
    request: ListConfigResourcesRequest,
    version: i16,
) -> Result<ListConfigResourcesResponse, Disconnect> {
    Ok(list(&context.broker.metadata.image(), &request.resource_types, version))
}

pub(super) fn list(image: &Image, asked: &[i8], version: i16) -> ListConfigResourcesResponse {
    let supported = if version == 0 { &[ResourceType::ClientMetrics][..] } else { &ALL[..] };
    if asked.iter().any(|id| !supported.iter().any(|kind| kind.id() == *id)) {
        return ListConfigResourcesResponse::default().with_error_code(ErrorCode::UnsupportedVersion.code());
    }
    let mut resources = Vec::new();
    for kind in supported.iter().filter(|kind| asked.is_empty() || asked.contains(&kind.id())) {
        let names: Vec<String> = match kind {
            ResourceType::Group | ResourceType::ClientMetrics => {
                let own = image.configs().filter(|(resource, _)| resource.kind == *kind);
                own.map(|(resource, _)| resource.name.to_string()).collect()
            }
            ResourceType::BrokerLogger | ResourceType::Broker => image
                .brokers
                .values()
                .filter(|broker| !broker.fenced)
                .map(|broker| broker.id.to_string())
                .collect(),
            ResourceType::Topic => image.topics.iter().map(|topic| topic.name.to_string()).collect(),
        };
        resources.extend(
            names
                .into_iter()
                .map(|name| Listed::default().with_resource_name(text(name)).with_resource_type(kind.id())),
        );
    }
    ListConfigResourcesResponse::default().with_config_resources(resources)
}
