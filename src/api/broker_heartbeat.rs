//! BrokerHeartbeat (63): a broker is alive, and wants to be unfenced, fenced or stopped (KIP-631).
//!
//! Since version 1 failed directories are told (KIP-858), since version 2 cordoned ones (KIP-1066).

use super::context::{Context, Disconnect};
use crate::error::wire_code;
use crate::metadata::command::Heartbeat;
use crate::metadata::controller::brokers;
use crate::protocol::messages::{BrokerHeartbeatRequest, BrokerHeartbeatResponse};

pub(super) async fn handle(
    context: &Context,
    request: BrokerHeartbeatRequest,
    _version: i16,
) -> Result<BrokerHeartbeatResponse, Disconnect> {
    let heartbeat = Heartbeat {
        broker_id: request.broker_id,
        broker_epoch: request.broker_epoch,
        metadata_offset: request.current_metadata_offset,
        want_fence: request.want_fence,
        want_shut_down: request.want_shut_down,
        offline_log_dirs: request.offline_log_dirs,
        cordoned_log_dirs: request.cordoned_log_dirs,
    };
    let decided =
        context.broker.metadata.decide(move |context| brokers::heartbeat(context, &heartbeat)).await;
    let result = decided.and_then(|reply| reply);
    let response = BrokerHeartbeatResponse { error_code: wire_code(&result), ..Default::default() };
    Ok(match result {
        Ok(reply) => BrokerHeartbeatResponse {
            is_caught_up: reply.is_caught_up,
            is_fenced: reply.is_fenced,
            should_shut_down: reply.should_shut_down,
            ..response
        },
        Err(_) => response,
    })
}
