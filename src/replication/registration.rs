//! The task that keeps this broker registered: it carries out what the [`Lifecycle`] says.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use kafka_protocol::messages::broker_registration_request::{Feature, Listener};
use kafka_protocol::protocol::StrBytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::lifecycle::{
    BrokerState, Communication, Heartbeat, HeartbeatReply, Lifecycle, LifecycleSettings, Refusal,
};
use crate::client::{ClientError, ControllerChannel};
use crate::clock::Clock;
use crate::error::ErrorCode;
use crate::metadata::image::{Endpoint, FeatureRange};
use crate::protocol::messages::*;
use crate::types::{NodeId, Offset};

/// What a broker says of itself when it registers.
#[derive(Clone, Debug)]
pub struct BrokerRegistration {
    /// Its `node.id`.
    pub broker_id: NodeId,
    /// The cluster that it belongs to.
    pub cluster_id: Arc<str>,
    /// New in each life of the process.
    pub incarnation_id: Uuid,
    /// Where it is reached.
    pub endpoints: Vec<Endpoint>,
    /// What it supports.
    pub features: Vec<FeatureRange>,
    /// `broker.rack`.
    pub rack: Option<Arc<str>>,
    /// Its data directories.
    pub log_dirs: Vec<Uuid>,
    /// The epoch under which it was registered last, where it has everything since then; -1 where something may be
    /// lost.
    pub previous_broker_epoch: i64,
}

/// What the lifecycle of a broker is started with.
pub struct LifecycleOptions {
    /// A channel of its own: heartbeats must not wait for other requests.
    pub channel: Arc<ControllerChannel>,
    /// For the intervals and timeouts.
    pub clock: Clock,
    /// The intervals.
    pub settings: LifecycleSettings,
    /// How long one request may take: `broker.session.timeout.ms`.
    pub request_timeout_ms: i64,
    /// What the broker says of itself.
    pub registration: BrokerRegistration,
    /// The epoch under which this node's own controller has registered and unfenced it already.
    pub joined: Option<i64>,
    /// The last offset of the metadata log that was taken in and published.
    pub metadata_offset: Box<dyn Fn() -> Offset + Send + Sync>,
}

/// The life of this broker in its cluster.
pub struct BrokerLifecycle {
    core: Mutex<Lifecycle>,
    clock: Clock,
    broker_epoch: AtomicI64,
    /// When the controller answered last, on the steady clock.
    answered_ms: AtomicI64,
    state: watch::Sender<BrokerState>,
    changed: Notify,
}

impl BrokerLifecycle {
    /// A broker, and what registers it and sends its heartbeats as long as it is polled. That ends when the broker may
    /// stop.
    pub fn new(options: LifecycleOptions) -> (Arc<Self>, impl Future<Output = ()> + Send + use<>) {
        let now_ms = options.clock.steady_ms();
        let core = match options.joined {
            Some(broker_epoch) => Lifecycle::running(options.settings, broker_epoch, now_ms),
            None => Lifecycle::new(options.settings, now_ms),
        };
        let lifecycle = Arc::new(Self {
            broker_epoch: AtomicI64::new(core.broker_epoch()),
            answered_ms: AtomicI64::new(now_ms),
            state: watch::Sender::new(core.state()),
            core: Mutex::new(core),
            clock: options.clock.clone(),
            changed: Notify::new(),
        });
        (Arc::clone(&lifecycle), async move {
            while let Some(communication) = lifecycle.next(&options).await {
                lifecycle.communicate(&options, communication).await;
            }
        })
    }

    /// The epoch of the last registration; -1 before the first one.
    pub fn broker_epoch(&self) -> i64 {
        self.broker_epoch.load(Ordering::Relaxed)
    }

    /// When the controller answered last, on the steady clock.
    pub fn answered_ms(&self) -> i64 {
        self.answered_ms.load(Ordering::Relaxed)
    }

    /// How far the broker is, now and whenever it changes.
    pub fn state(&self) -> watch::Receiver<BrokerState> {
        self.state.subscribe()
    }

    /// Waits until the broker is in this state or a later one.
    pub async fn reached(&self, state: BrokerState) -> BrokerState {
        let mut watched = self.state.subscribe();
        // The sender lives in `self`.
        watched.wait_for(|now| *now >= state).await.map_or(BrokerState::ShuttingDown, |now| *now)
    }

    /// The broker can serve as soon as the controller lets it.
    pub fn set_ready_to_unfence(&self) {
        self.change(Lifecycle::set_ready_to_unfence);
    }

    /// Registers again: something in the registration changed.
    pub fn register_again(&self) {
        self.change(Lifecycle::register_again);
    }

    /// Asks the controller to move this broker's leaderships to others, and waits until that is done.
    pub async fn controlled_shutdown(&self) {
        self.change(Lifecycle::begin_controlled_shutdown);
        self.reached(BrokerState::ShuttingDown).await;
    }

    fn change(&self, change: impl FnOnce(&mut Lifecycle, i64)) {
        let mut core = self.core.lock();
        change(&mut core, self.clock.steady_ms());
        self.tell(&core);
        drop(core);
        self.changed.notify_one();
    }

    fn tell(&self, core: &Lifecycle) {
        self.broker_epoch.store(core.broker_epoch(), Ordering::Relaxed);
        self.state.send_if_modified(|known| {
            let moved = *known != core.state();
            if moved {
                tracing::info!(from = ?known, to = ?core.state(), "the broker's state changed");
                *known = core.state();
            }
            moved
        });
    }

    /// Waits until there is something to send; `None` when the broker may stop.
    async fn next(&self, options: &LifecycleOptions) -> Option<Communication> {
        loop {
            let deadline_ms = {
                let mut core = self.core.lock();
                let communication = core.next(self.clock.steady_ms(), (options.metadata_offset)());
                self.tell(&core);
                if communication.is_some() {
                    return communication;
                }
                core.deadline_ms()?
            };
            tokio::select! {
                () = self.clock.sleep_until(deadline_ms) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    fn note(&self, refusal: Option<Refusal>) {
        if refusal != Some(Refusal::Unanswered) {
            self.answered_ms.store(self.clock.steady_ms(), Ordering::Relaxed);
        }
    }

    async fn communicate(&self, options: &LifecycleOptions, communication: Communication) {
        match communication {
            Communication::Register => {
                let answer = register(options).await;
                self.note(answer.err());
                let mut core = self.core.lock();
                core.registered(self.clock.steady_ms(), answer);
                self.tell(&core);
            }
            Communication::Heartbeat(heartbeat) => {
                let answer = beat(options, heartbeat).await;
                self.note(answer.err());
                let mut core = self.core.lock();
                core.heartbeat_answered(self.clock.steady_ms(), answer);
                self.tell(&core);
            }
        }
    }
}

async fn register(options: &LifecycleOptions) -> Result<i64, Refusal> {
    let broker = &options.registration;
    let request = BrokerRegistrationRequest::default()
        .with_broker_id(broker.broker_id.into())
        .with_cluster_id(StrBytes::from_string(broker.cluster_id.to_string()))
        .with_incarnation_id(broker.incarnation_id)
        .with_listeners(broker.endpoints.iter().map(listener).collect())
        .with_features(broker.features.iter().map(feature).collect())
        .with_rack(broker.rack.as_deref().map(|rack| StrBytes::from_string(rack.to_owned())))
        .with_log_dirs(broker.log_dirs.clone())
        .with_previous_broker_epoch(broker.previous_broker_epoch);
    let answer = options.channel.call(request, 4..=4, options.request_timeout_ms).await;
    let answer = answer.map_err(unanswered("register"))?;
    match ErrorCode::try_from_code(answer.error_code) {
        None => {
            tracing::info!(epoch = answer.broker_epoch, "the broker is registered");
            Ok(answer.broker_epoch)
        }
        Some(code) => {
            tracing::warn!(%code, "the controller does not register this broker");
            Err(Refusal::Error(code))
        }
    }
}

async fn beat(options: &LifecycleOptions, heartbeat: Heartbeat) -> Result<HeartbeatReply, Refusal> {
    let request = BrokerHeartbeatRequest {
        broker_id: options.registration.broker_id,
        broker_epoch: heartbeat.broker_epoch,
        current_metadata_offset: heartbeat.current_metadata_offset,
        want_fence: heartbeat.want_fence,
        want_shut_down: heartbeat.want_shut_down,
        ..BrokerHeartbeatRequest::default()
    };
    let answer = options.channel.call(request, 0..=2, options.request_timeout_ms).await;
    let answer = answer.map_err(unanswered("send a heartbeat"))?;
    match ErrorCode::try_from_code(answer.error_code) {
        None => Ok(HeartbeatReply {
            is_caught_up: answer.is_caught_up,
            is_fenced: answer.is_fenced,
            should_shut_down: answer.should_shut_down,
        }),
        Some(code) => {
            tracing::warn!(%code, "the controller refuses this broker's heartbeat");
            Err(Refusal::Error(code))
        }
    }
}

fn unanswered(what: &'static str) -> impl FnOnce(ClientError) -> Refusal {
    move |error| {
        tracing::warn!(%error, "the broker could not {what}");
        Refusal::Unanswered
    }
}

fn listener(endpoint: &Endpoint) -> Listener {
    Listener::default()
        .with_name(StrBytes::from_string(endpoint.listener.to_string()))
        .with_host(StrBytes::from_string(endpoint.host.to_string()))
        .with_port(endpoint.port)
        .with_security_protocol(endpoint.security_protocol)
}

fn feature(range: &FeatureRange) -> Feature {
    Feature::default()
        .with_name(StrBytes::from_string(range.name.to_string()))
        .with_min_supported_version(range.min)
        .with_max_supported_version(range.max)
}
