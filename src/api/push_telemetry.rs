//! PushTelemetry (72): what a client measured, as OTLP (KIP-714).

use super::context::{Context, Disconnect};
use super::get_telemetry_subscriptions::{identity, subscribe};
use crate::error::wire_code;
use crate::protocol::messages::{PushTelemetryRequest, PushTelemetryResponse};
use crate::telemetry::Push;

pub(super) async fn handle(
    context: &Context,
    request: PushTelemetryRequest,
    _version: i16,
) -> Result<PushTelemetryResponse, Disconnect> {
    let broker = &context.broker;
    subscribe(&broker.telemetry, &broker.metadata.image());
    let push = Push {
        instance_id: request.client_instance_id,
        subscription_id: request.subscription_id,
        is_terminating: request.terminating,
        compression: request.compression_type,
        metrics: request.metrics,
    };
    let pushed = broker.telemetry.push(&push, &identity(context), broker.clock.steady_ms());
    Ok(PushTelemetryResponse::default().with_error_code(wire_code(&pushed)))
}
