//! BrokerRegistration (62): a broker makes itself known to the controller, which answers with the broker's epoch
//! (KIP-631).
//!
//! - Since version 1 brokers that migrate from ZooKeeper say so; they are refused.
//! - Since version 2 the directories are told (KIP-858), since version 3 the epoch of a life that ended cleanly
//!   (KIP-966), since version 4 features whose lowest level is 0.

use std::sync::Arc;

use super::context::{Context, Disconnect};
use crate::error::{ApiError, ErrorCode, wire_code};
use crate::metadata::command::Registration;
use crate::metadata::controller::brokers;
use crate::metadata::image::{Endpoint, FeatureRange};
use crate::protocol::messages::{BrokerRegistrationRequest, BrokerRegistrationResponse};

pub(super) async fn handle(
    context: &Context,
    request: BrokerRegistrationRequest,
    _version: i16,
) -> Result<BrokerRegistrationResponse, Disconnect> {
    let result = if request.is_migrating_zk_broker {
        let text = "brokers that migrate from ZooKeeper can not register";
        Err(ApiError::with(ErrorCode::BrokerIdNotRegistered, text))
    } else {
        let registration = registration(request);
        let decided =
            context.broker.metadata.decide(move |context| brokers::register(context, &registration)).await;
        decided.and_then(|registered| registered)
    };
    if let Err(error) = &result {
        tracing::info!(%error, "a broker can not register");
    }
    Ok(BrokerRegistrationResponse::default()
        .with_error_code(wire_code(&result))
        .with_broker_epoch(result.unwrap_or(-1)))
}

fn registration(request: BrokerRegistrationRequest) -> Registration {
    let endpoints = request.listeners.iter().map(|listener| Endpoint {
        listener: listener.name.as_str().into(),
        host: listener.host.as_str().into(),
        port: listener.port,
        security_protocol: listener.security_protocol,
    });
    let features = request.features.iter().map(|feature| FeatureRange {
        name: feature.name.as_str().into(),
        min: feature.min_supported_version,
        max: feature.max_supported_version,
    });
    Registration {
        broker_id: request.broker_id.0,
        cluster_id: request.cluster_id.to_string(),
        incarnation_id: request.incarnation_id,
        endpoints: endpoints.collect(),
        features: features.collect(),
        rack: request.rack.as_deref().map(Arc::from),
        log_dirs: request.log_dirs,
        previous_broker_epoch: request.previous_broker_epoch,
        kept_everything: false,
    }
}
