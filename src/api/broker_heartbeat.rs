//! BrokerHeartbeat (63): a broker is alive, and wants to be unfenced, fenced or stopped (KIP-631).
//!
//! Where the connection of a broker closes, and nobody listens at its addresses any more, its process has ended: it is
//! fenced at once, and not only when its session is over.
//!
//! Since version 1 failed directories are told (KIP-858), since version 2 cordoned ones (KIP-1066).

use std::sync::Arc;

use super::context::{BrokerHandles, Connection, Context, Disconnect};
use crate::client::{ActiveController, Address, PeerOptions, is_refused};
use crate::error::wire_code;
use crate::metadata::command::Heartbeat;
use crate::metadata::controller::brokers;
use crate::protocol::messages::{BrokerHeartbeatRequest, BrokerHeartbeatResponse};
use crate::types::NodeId;

pub(super) async fn handle(
    context: &Context,
    request: BrokerHeartbeatRequest,
    _version: i16,
) -> Result<BrokerHeartbeatResponse, Disconnect> {
    let (id, epoch) = (request.broker_id, request.broker_epoch);
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
    if result.is_ok() {
        context.connection.heard_of(id, epoch);
    }
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

/// Looks after the broker whose heartbeats came over a connection that has closed.
pub(crate) async fn closed(broker: &BrokerHandles, connection: &Connection) {
    let Some((id, epoch)) = connection.heartbeats_of() else { return };
    let decided = broker.metadata.decide(move |context| brokers::disconnected(context, id, epoch)).await;
    if decided.is_ok_and(|may_lead| may_lead) {
        fence_if_gone(broker, id, epoch).await;
    }
}

/// Whenever this node becomes the active controller, looks after every broker that may lead: the one that was the
/// controller before may be gone. Ends with the metadata.
pub(crate) async fn look_after_brokers(broker: Arc<BrokerHandles>) {
    let mut active = broker.metadata.active_controller();
    loop {
        let begins = active.wait_for(|active| *active == ActiveController::Local).await.is_ok();
        if !begins {
            return;
        }
        let image = broker.metadata.image();
        let others = image.brokers.values().filter(|one| !one.fenced && one.id != broker.node_id);
        let looks = others.map(|one| fence_if_gone(&broker, one.id, one.epoch));
        futures_util::future::join_all(looks).await;
        if active.wait_for(|active| *active != ActiveController::Local).await.is_err() {
            return;
        }
    }
}

async fn fence_if_gone(broker: &BrokerHandles, id: NodeId, epoch: i64) {
    let image = broker.metadata.image();
    let Some(registered) = image.brokers.get(&id) else { return };
    let addresses = registered
        .endpoints
        .iter()
        .map(|endpoint| Address { host: endpoint.host.clone(), port: endpoint.port });
    let options = PeerOptions::new(&broker.node_id.to_string(), broker.clock.clone());
    for address in addresses {
        if !is_refused(&address, &options).await {
            return;
        }
    }
    tracing::info!(broker = id, "nobody listens where the broker was");
    // Without an answer this is not the active controller any more.
    let _ = broker.metadata.decide(move |context| brokers::gone(context, id, epoch)).await;
}
