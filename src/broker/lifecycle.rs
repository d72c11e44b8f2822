//! This broker's place in its cluster: taken when it starts, kept by heartbeats, and given up when it stops.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::api::BrokerHandles;
use crate::client::ControllerChannel;
use crate::clock::Clock;
use crate::metadata::Image;
use crate::replication::lifecycle::{BrokerState, LifecycleSettings};
use crate::replication::registration::{BrokerLifecycle, BrokerRegistration, LifecycleOptions};
use crate::types::NodeId;

/// How long a broker that stops waits until its leaderships are moved.
const LEAVE_MS: i64 = 30_000;
/// How long it waits for a controller that could move them, beyond the time between two heartbeats.
const NO_CONTROLLER_MS: i64 = 1_000;

/// Begins to send heartbeats; registers first, where this node's own controller has not done so already.
pub(super) fn start(
    handles: &Arc<BrokerHandles>,
    channel: Arc<ControllerChannel>,
    tasks: &TaskTracker,
) -> Arc<BrokerLifecycle> {
    let metadata = Arc::clone(&handles.metadata);
    let config = metadata.broker_config();
    let registration = metadata.registration();
    let image = metadata.image();
    let known = image.brokers.get(&handles.node_id);
    let joined =
        known.filter(|broker| broker.incarnation_id == registration.incarnation_id && !broker.fenced);
    let options = LifecycleOptions {
        channel,
        clock: handles.clock.clone(),
        settings: LifecycleSettings {
            heartbeat_interval_ms: config.broker_heartbeat_interval_ms.into(),
            initial_registration_timeout_ms: config.initial_broker_registration_timeout_ms.into(),
        },
        request_timeout_ms: config.broker_session_timeout_ms.into(),
        joined: joined.map(|broker| broker.epoch),
        registration: BrokerRegistration {
            broker_id: registration.broker_id,
            cluster_id: registration.cluster_id.as_str().into(),
            incarnation_id: registration.incarnation_id,
            endpoints: registration.endpoints.clone(),
            features: registration.features.clone(),
            rack: registration.rack.clone(),
            log_dirs: registration.log_dirs.clone(),
            previous_broker_epoch: registration.previous_broker_epoch,
        },
        metadata_offset: Box::new(move || metadata.image().offset),
    };
    let (lifecycle, running) = BrokerLifecycle::new(options);
    let stopping = handles.stopping.clone();
    tasks.spawn(async move { stopping.run_until_cancelled(running).await });
    lifecycle
}

/// Waits until the cluster sees this broker. False where it could not register in time.
pub(super) async fn joined(lifecycle: &BrokerLifecycle) -> bool {
    lifecycle.reached(BrokerState::Recovery).await;
    lifecycle.set_ready_to_unfence();
    lifecycle.reached(BrokerState::Running).await == BrokerState::Running
}

/// Hands the leaderships of this broker over to others, if there are any.
pub(super) async fn leave(handles: &BrokerHandles, lifecycle: &BrokerLifecycle) {
    let config = handles.metadata.broker_config();
    if !config.controlled_shutdown_enable || !has_others(&handles.metadata.image(), handles.node_id) {
        return;
    }
    let clock = &handles.clock;
    tokio::select! {
        () = lifecycle.controlled_shutdown() => tracing::info!("other brokers have taken over"),
        () = clock.sleep_until(clock.steady_ms() + LEAVE_MS) => {
            tracing::warn!("other brokers have not taken over in time");
        }
        () = deserted(clock, lifecycle, config.broker_heartbeat_interval_ms.into()) => tracing::warn!("there is no controller that could have others take over"),
    }
}

fn has_others(image: &Image, node_id: NodeId) -> bool {
    image.brokers.values().any(|broker| broker.id != node_id && broker.is_active())
}

/// Waits until no controller has answered for some time.
async fn deserted(clock: &Clock, lifecycle: &BrokerLifecycle, interval_ms: i64) {
    let patience_ms = interval_ms + NO_CONTROLLER_MS;
    let began_ms = clock.steady_ms();
    loop {
        let since_ms = lifecycle.answered_ms().max(began_ms);
        if clock.steady_ms() >= since_ms + patience_ms {
            return;
        }
        clock.sleep_until(since_ms + patience_ms).await;
    }
}
