//! ControllerRegistration (70): a controller makes itself known to the active one (KIP-919).

use super::context::{Context, Disconnect};
use super::outcome::code_and_message;
use crate::metadata::controller::brokers;
use crate::metadata::image::{Endpoint, FeatureRange};
use crate::protocol::messages::{ControllerRegistrationRequest, ControllerRegistrationResponse};

pub(super) async fn handle(
    context: &Context,
    request: ControllerRegistrationRequest,
    _version: i16,
) -> Result<ControllerRegistrationResponse, Disconnect> {
    let endpoint =
        |listener: &kafka_protocol::messages::controller_registration_request::Listener| Endpoint {
            listener: listener.name.as_str().into(),
            host: listener.host.as_str().into(),
            port: listener.port,
            security_protocol: listener.security_protocol,
        };
    let range = |feature: &kafka_protocol::messages::controller_registration_request::Feature| FeatureRange {
        name: feature.name.as_str().into(),
        min: feature.min_supported_version,
        max: feature.max_supported_version,
    };
    let endpoints: Vec<Endpoint> = request.listeners.iter().map(endpoint).collect();
    let features: Vec<FeatureRange> = request.features.iter().map(range).collect();
    let (id, incarnation_id) = (request.controller_id, request.incarnation_id);
    let decided = context
        .broker
        .metadata
        .decide(move |context| {
            brokers::register_controller(context, id, incarnation_id, &endpoints, &features)
        })
        .await;
    let (code, message) = code_and_message(&decided.and_then(|reply| reply));
    Ok(ControllerRegistrationResponse::default().with_error_code(code).with_error_message(message))
}
