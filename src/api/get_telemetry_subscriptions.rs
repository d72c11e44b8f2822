//! GetTelemetrySubscriptions (71): which metrics a client is to push, and how often (KIP-714).
//!
//! Apache Kafka advertises it only where a plugin receives metrics. klamm receives them itself.

use std::sync::Arc;

use kafka_protocol::protocol::StrBytes;

use super::context::{Context, Disconnect};
use super::outcome::text;
use crate::config::ClientMetricsConfig;
use crate::metadata::image::ConfigValues;
use crate::metadata::{ConfigResource, Image, ResourceType};
use crate::protocol::messages::{GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse};
use crate::telemetry::{COMPRESSIONS, Identity, Subscription, Telemetry};
use crate::types::random_kafka_id;

pub(super) async fn handle(
    context: &Context,
    request: GetTelemetrySubscriptionsRequest,
    _version: i16,
) -> Result<GetTelemetrySubscriptionsResponse, Disconnect> {
    let broker = &context.broker;
    subscribe(&broker.telemetry, &broker.metadata.image());
    let fresh_id = random_kafka_id(&mut rand::rng());
    let (asked_id, now_ms) = (request.client_instance_id, broker.clock.steady_ms());
    let response = GetTelemetrySubscriptionsResponse::default();
    Ok(match broker.telemetry.wanted(asked_id, fresh_id, &identity(context), now_ms) {
        Ok(wanted) => {
            let metrics: Vec<StrBytes> = wanted.metrics.iter().map(|metric| text(metric.clone())).collect();
            let compressions = COMPRESSIONS.iter().filter_map(|one| i8::try_from(one.id()).ok());
            response
                .with_client_instance_id(wanted.instance_id)
                .with_subscription_id(wanted.subscription_id)
                .with_accepted_compression_types(compressions.collect())
                .with_push_interval_ms(wanted.push_interval_ms)
                .with_telemetry_max_bytes(i32::try_from(broker.telemetry.max_bytes()).unwrap_or(i32::MAX))
                .with_delta_temporality(true)
                .with_requested_metrics(metrics)
        }
        Err(error) => response.with_error_code(error.code.code()),
    })
}

/// Takes over the subscriptions of the metadata.
pub(super) fn subscribe(telemetry: &Telemetry, image: &Image) {
    telemetry.subscribe(image.offset, || {
        let all = image.configs().filter(|(resource, _)| resource.kind == ResourceType::ClientMetrics);
        let subscription = |(resource, values): (&ConfigResource, &Arc<ConfigValues>)| {
            let config = ClientMetricsConfig::resolve(values).ok()?;
            Subscription::new(&resource.name, &config)
        };
        all.filter_map(subscription).collect()
    });
}

/// Who asks.
pub(super) fn identity(context: &Context) -> Identity {
    let connection = &context.connection;
    let unknown = || ("unknown".to_owned(), "unknown".to_owned());
    Identity {
        client_id: context.client_id.as_deref().map(str::to_owned),
        software: connection.software.get().cloned().unwrap_or_else(unknown),
        peer: connection.peer,
        connection: Arc::downgrade(&connection.alive),
    }
}
