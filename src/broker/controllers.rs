//! This node among the controllers of its cluster: the active one registers itself, the others ask it to
//! (`ControllerRegistrationManager`).

use std::sync::Arc;

use kafka_protocol::messages::ControllerRegistrationRequest;
use kafka_protocol::messages::controller_registration_request::{Feature, Listener};
use kafka_protocol::protocol::StrBytes;

use crate::client::ControllerChannel;
use crate::clock::Clock;
use crate::metadata::image::Endpoint;
use crate::metadata::{Image, Metadata};

/// The `metadata.version` since which controllers register: 3.7-IV0.
const REGISTERED_SINCE: i16 = 15;
/// How long one registration may take, and the pause before the next.
const TIMEOUT_MS: i64 = 10_000;
const RETRY_MS: i64 = 500;

/// Has the active controller register this one, whenever the metadata do not have it.
pub(super) async fn keep_registered(metadata: Arc<Metadata>, channel: Arc<ControllerChannel>, clock: Clock) {
    let node_id = metadata.node_id();
    loop {
        let missing = |image: &Image| {
            let known = image.controllers.get(&node_id);
            image.metadata_version() >= Some(REGISTERED_SINCE)
                && known.is_none_or(|known| known.incarnation_id != metadata.incarnation_id())
        };
        metadata.wait_until(&clock, i64::MAX, missing).await;
        let answer = channel.call(registration(&metadata), 0..=0, TIMEOUT_MS).await;
        match answer.map(|answer| (answer.error_code, answer.error_message)) {
            Ok((0, _)) => {}
            Ok((code, message)) => tracing::warn!(code, ?message, "the controller was not registered"),
            Err(error) => tracing::warn!(%error, "the controller was not registered"),
        }
        // The registration comes back by the log.
        clock.sleep_until(clock.steady_ms() + RETRY_MS).await;
    }
}

fn registration(metadata: &Metadata) -> ControllerRegistrationRequest {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let listener = |endpoint: &Endpoint| {
        Listener::default()
            .with_name(text(&endpoint.listener))
            .with_host(text(&endpoint.host))
            .with_port(endpoint.port)
            .with_security_protocol(endpoint.security_protocol)
    };
    let features = metadata.supported_features().iter().map(|range| {
        Feature::default()
            .with_name(text(&range.name))
            .with_min_supported_version(range.min)
            .with_max_supported_version(range.max)
    });
    ControllerRegistrationRequest::default()
        .with_controller_id(metadata.node_id())
        .with_incarnation_id(metadata.incarnation_id())
        .with_listeners(metadata.controller_endpoints().iter().map(listener).collect())
        .with_features(features.collect())
}
