//! Wires the parts into a broker: start, ready, drain, stop.
//!
//! The listeners are bound first, so that a second broker on the same port ends before it touches anything, and
//! accepted from last, when everything behind them answers. Many brokers can run in one process.

#[cfg(test)]
mod cluster_tests;
mod controllers;
#[cfg(test)]
mod directory_tests;
mod groups;
mod join;
mod lifecycle;
mod quotas;
#[cfg(test)]
mod replica_tests;
#[cfg(test)]
mod share_tests;
mod shares;
mod transactions;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, Admin, Elections, Progress};
use crate::api::auto_create;
use crate::api::broker_heartbeat::look_after_brokers;
use crate::api::fetch_session::FetchSessions;
use crate::api::local::OwnController;
use crate::api::{BrokerHandles, FetchBounds, Listener, StreamsTopics};
use crate::client::{ControllerChannel, PeerOptions};
use crate::clock::Clock;
use crate::config::BrokerConfig;
use crate::config::cluster::Controllers;
use crate::config::listener::{Listener as ListenerConfig, ListenerKind, host_port, inter_broker};
use crate::error::{ApiError, StorageError};
use crate::levels::Levels;
use crate::log::{LogManager, LogSettings};
use crate::metadata::command::NewTopic;
use crate::metadata::image::Endpoint;
use crate::metadata::{Metadata, MetadataOptions, ReplicaListener};
use crate::metrics::{Metrics, UPKEEP_INTERVAL};
use crate::net::admission::{ConnectionQuota, RequestMemory};
use crate::net::listener::{self, NetOptions, SocketOptions, TURNED_AWAY_MAX};
use crate::quota::Windows;
use crate::replication::manager::{ReplicaManager, ReplicaOptions};
use crate::replication::registration::BrokerLifecycle;
use crate::storage::{Store, StoreOptions};
use crate::telemetry::Telemetry;
use shares::Shares;
use transactions::Transactions;

/// How long requests in flight may take once the broker stops. Clients find another broker meanwhile, or wait for
/// this one to come back.
const DRAIN: Duration = Duration::from_secs(5);

/// What a broker is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The static configuration.
    pub config: BrokerConfig,
    /// Where to listen; at least one.
    pub listeners: Vec<ListenerConfig>,
    /// Who the controllers are where the data directory does not say it.
    pub controllers: Controllers,
    /// Where the data is.
    pub data: DataDirectory,
    /// The cluster id of a new data directory; `None` for a random one.
    pub cluster_id: Option<String>,
    /// Topics that are created at the start, as far as they are not there.
    pub topics: Vec<NewTopic>,
    /// Where metrics and health are served over HTTP.
    pub admin: AdminListen,
    /// How much this process logs.
    pub levels: Levels,
}

/// Where metrics and health are served over HTTP.
#[derive(Clone, Debug)]
pub enum AdminListen {
    /// Nowhere.
    Off,
    /// On 127.0.0.1:9404; where another process has that port, on a free one, so that a second broker starts.
    Default,
    /// On this host and port.
    At(String, u16),
}

/// What [`AdminListen::Default`] tries first.
const DEFAULT_ADMIN: (&str, u16) = ("127.0.0.1", 9404);

/// Where a broker keeps its data.
#[derive(Clone, Debug)]
pub enum DataDirectory {
    /// In a directory that stays.
    Kept(PathBuf),
    /// In one that is made in this directory for this broker, and removed with it.
    Temporary(PathBuf),
}

/// Why a broker did not start. The texts are for whoever started it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store in the data directory can not be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// An address can not be listened on.
    #[error("{address} can not be listened on: {error}")]
    Bind {
        /// The address.
        address: String,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// The cluster that this node is to join can not be found.
    #[error("the cluster can not be joined: {0}")]
    Join(String),
    /// No controller took this broker in.
    #[error("the broker could not register with a controller within initial.broker.registration.timeout.ms")]
    Registration,
    /// No temporary directory can be made.
    #[error("no temporary directory can be made: {0}")]
    Temporary(std::io::Error),
    /// A topic that was asked for can not be created.
    #[error("the topic {name} can not be created: {error}")]
    Topic {
        /// Its name.
        name: String,
        /// Why not.
        error: ApiError,
    },
}

/// A running broker. It runs until [`Broker::shutdown`], also where this value is dropped; soon after that its data
/// directory is free for another one.
pub struct Broker {
    handles: Arc<BrokerHandles>,
    kafka: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    data: PathBuf,
    temporary: Option<TempDir>,
    tasks: TaskTracker,
    started_in: Duration,
    /// Kept for the channels to the controller, which know it weakly.
    _own_controller: Arc<OwnController>,
    /// This broker's place in the cluster; `None` where it is a controller only.
    lifecycle: Option<Arc<BrokerLifecycle>>,
}

impl Broker {
    /// Starts a broker; when this returns, it serves.
    ///
    /// # Errors
    /// One clear sentence; nothing runs then.
    pub async fn start(settings: Settings, clock: Clock) -> Result<Self, StartError> {
        let began = Instant::now();
        let owner = match &settings.data {
            DataDirectory::Kept(path) => Store::owner(path)?,
            DataDirectory::Temporary(_) => None,
        };
        let settings = join::resolve(settings, owner.as_ref(), &clock).await?;
        let config = Arc::new(settings.config);
        let sockets = SocketOptions {
            backlog: config.socket_listen_backlog_size,
            receive_buffer_bytes: config.socket_receive_buffer_bytes,
            send_buffer_bytes: config.socket_send_buffer_bytes,
        };
        let listeners = bind(settings.listeners, sockets).await?;
        let admin = bind_admin(settings.admin, sockets).await?;
        let (data, temporary) = match settings.data {
            DataDirectory::Kept(path) => (path, None),
            DataDirectory::Temporary(parent) => {
                let made = tempfile::Builder::new().prefix("klamm-").tempdir_in(parent);
                let made = made.map_err(StartError::Temporary)?;
                (made.path().to_owned(), Some(made))
            }
        };
        let endpoints = Endpoints::new(&listeners, settings.controllers, &config);
        let cluster_id =
            settings.cluster_id.or_else(|| endpoints.controllers.cluster_id().filter(|_| owner.is_none()));
        let options = StoreOptions { node_id: config.node_id, cluster_id };
        let surroundings = Surroundings { data: &data, clock, levels: settings.levels };
        let handles = open(Store::open(&data, &options)?, &config, endpoints, surroundings).await?;
        let leads_alone = handles.metadata.is_active();
        let mut topics = settings.topics;
        // Where others may lead, that is known when this node serves.
        if leads_alone && let Err(error) = create_topics(&handles, std::mem::take(&mut topics)).await {
            handles.metadata.shutdown().await;
            return Err(error);
        }
        let own_controller = Arc::new(OwnController::new(&handles));
        let weak = Arc::downgrade(&own_controller);
        handles.controller.serve_locally(weak);
        let tasks = TaskTracker::new();
        run_isr_changes(&handles, &own_controller, &tasks);
        let kafka = serve(listeners, &handles, &config, &tasks);
        let progress = Arc::new(Progress::default());
        let admin = admin.map(|(socket, local)| {
            tasks.spawn(admin::run(socket, observed(&handles, &progress)));
            local
        });
        run_retention(&handles, &config, &tasks);
        run_cleaner(&handles, &tasks);
        run_metrics_upkeep(&handles, &tasks);
        run_lookout(&handles, &tasks);
        // Other nodes elect a leader only if they can reach this one.
        handles.metadata.loaded().await?;
        let roles = config.roles();
        if roles.controller {
            run_controller_registration(&handles, &own_controller, &tasks);
        }
        let lifecycle = roles.broker.then(|| {
            let channel = controller_channel(&handles, &own_controller);
            lifecycle::start(&handles, channel, &tasks)
        });
        progress.joins(lifecycle.clone());
        let mut broker = Self {
            handles,
            kafka,
            admin,
            data,
            temporary,
            tasks,
            started_in: Duration::ZERO,
            _own_controller: own_controller,
            lifecycle,
        };
        if let Err(error) = broker.join(topics).await {
            broker.shutdown().await;
            return Err(error);
        }
        progress.started();
        broker.started_in = began.elapsed();
        Ok(broker)
    }

    /// Waits until this broker is one of the cluster, and creates what is not there.
    async fn join(&self, topics: Vec<NewTopic>) -> Result<(), StartError> {
        if let Some(lifecycle) = &self.lifecycle {
            if !lifecycle::joined(lifecycle).await {
                return Err(StartError::Registration);
            }
            self.handles.metadata.remember_registration(lifecycle.broker_epoch()).await?;
        }
        create_topics(&self.handles, topics).await
    }

    /// Where Kafka clients connect to: the first listener that serves them; a controller's first one.
    pub fn kafka_addr(&self) -> SocketAddr {
        self.kafka[0]
    }

    /// Where metrics and health are served, if they are.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The directory that holds the data.
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// The line that says where everything is.
    pub fn ready_line(&self) -> String {
        let milliseconds = self.started_in.as_millis();
        let (kafka, data) = (self.kafka_addr(), self.data.display());
        let admin = self.admin.map(|address| format!(" admin=http://{address}")).unwrap_or_default();
        format!("klamm ready: kafka={kafka}{admin} data={data} in {milliseconds} ms")
    }

    /// Has others take over what this broker leads, stops accepting, answers what is in flight, closes, and removes what
    /// is temporary.
    pub async fn shutdown(self) {
        if let Some(lifecycle) = &self.lifecycle {
            lifecycle::leave(&self.handles, lifecycle).await;
        }
        self.handles.stopping.cancel();
        self.handles.replicas.stop().await;
        self.handles.transactions.stop();
        self.handles.persister.stop();
        self.handles.share_state.stop();
        self.handles.groups.stop();
        self.tasks.close();
        self.tasks.wait().await;
        self.handles.metadata.shutdown().await;
        let store = self.handles.logs.store().clone();
        drop(self.handles);
        if self.temporary.is_none() {
            close(store).await;
        }
        drop(self.temporary);
    }
}

/// Leaves nothing in the write-ahead log, so that the next start has nothing to replay.
async fn close(store: Store) {
    let failure = match tokio::task::spawn_blocking(move || store.close()).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    tracing::warn!(error = failure, "the next start takes longer");
}

/// A listener with its socket, not accepted from yet.
struct Bound {
    socket: TcpListener,
    local: SocketAddr,
    listener: Arc<Listener>,
    config: ListenerConfig,
}

async fn bind_one(
    host: &str,
    port: u16,
    options: SocketOptions,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = listener::bind(host, port, options).await.and_then(|socket| {
        let local = socket.local_addr()?;
        Ok((socket, local))
    });
    bound.map_err(|error| StartError::Bind { address: host_port(host, port), error })
}

async fn bind_admin(
    listen: AdminListen,
    sockets: SocketOptions,
) -> Result<Option<(TcpListener, SocketAddr)>, StartError> {
    let (host, port) = DEFAULT_ADMIN;
    match listen {
        AdminListen::Off => Ok(None),
        AdminListen::At(host, port) => bind_one(&host, port, sockets).await.map(Some),
        AdminListen::Default => match bind_one(host, port, sockets).await {
            Err(StartError::Bind { address, error }) if error.kind() == std::io::ErrorKind::AddrInUse => {
                tracing::warn!("{address} is in use: metrics and health are served on a free port");
                bind_one(host, 0, sockets).await.map(Some)
            }
            bound => bound.map(Some),
        },
    }
}

async fn bind(listeners: Vec<ListenerConfig>, options: SocketOptions) -> Result<Vec<Bound>, StartError> {
    let mut bound = Vec::with_capacity(listeners.len());
    for config in listeners {
        let (socket, local) = bind_one(&config.host, config.port, options).await?;
        let listener =
            Listener { name: config.name.clone(), kind: config.kind, advertised: config.advertised.clone() };
        bound.push(Bound { socket, local, listener: Arc::new(listener), config });
    }
    Ok(bound)
}

/// How this broker registers itself: for other brokers and for tools that read the metadata. Clients are told by the
/// listener that they use.
fn endpoint(bound: &Bound, own_host: Option<&str>) -> Endpoint {
    let (host, port) = match (&bound.config.advertised, own_host) {
        (Some((host, port)), _) => (host.clone(), *port),
        (None, Some(host)) if bound.local.ip().is_unspecified() => (host.to_owned(), bound.local.port()),
        (None, _) => (bound.local.ip().to_canonical().to_string(), bound.local.port()),
    };
    Endpoint {
        listener: bound.config.name.as_str().into(),
        host: host.into(),
        port,
        security_protocol: bound.config.protocol.wire_id(),
    }
}

/// Where this node is reached, and who its controllers are.
struct Endpoints {
    broker: Vec<Endpoint>,
    controller: Vec<Endpoint>,
    controllers: Controllers,
    /// The listener by which brokers reach one another.
    between_brokers: Arc<str>,
}

fn between_brokers(bound: &[Bound], config: &BrokerConfig) -> Arc<str> {
    let listeners: Vec<_> = bound.iter().map(|bound| bound.config.clone()).collect();
    inter_broker(config, &listeners).map_or_else(Arc::default, |listener| listener.name.as_str().into())
}

impl Endpoints {
    fn new(bound: &[Bound], controllers: Controllers, config: &BrokerConfig) -> Self {
        let nowhere =
            bound.iter().any(|one| one.config.advertised.is_none() && one.local.ip().is_unspecified());
        let own_host = nowhere.then(|| join::own_host(&controllers, config.node_id)).flatten();
        let of = |serves: fn(ListenerKind) -> bool| {
            let serving = bound.iter().filter(|bound| serves(bound.config.kind));
            serving.map(|bound| endpoint(bound, own_host.as_deref())).collect()
        };
        Self {
            broker: of(ListenerKind::serves_broker),
            controller: of(ListenerKind::serves_controller),
            controllers,
            between_brokers: between_brokers(bound, config),
        }
    }
}

/// What a broker is put into.
struct Surroundings<'a> {
    data: &'a Path,
    clock: Clock,
    levels: Levels,
}

/// Opens the parts, from the store up.
async fn open(
    store: Store,
    config: &Arc<BrokerConfig>,
    endpoints: Endpoints,
    surroundings: Surroundings<'_>,
) -> Result<Arc<BrokerHandles>, StartError> {
    let Surroundings { data, clock, levels } = surroundings;
    let settings = LogSettings {
        producer_id_expiration_ms: config.producer_id_expiration_ms.into(),
        replica_lag_time_max_ms: config.replica_lag_time_max_ms,
        ..LogSettings::default()
    };
    let logs = LogManager::open(store.clone(), clock.clone(), settings)?;
    let replicas = ReplicaManager::new(ReplicaOptions {
        node_id: config.node_id,
        logs: Arc::clone(&logs),
        clock: clock.clone(),
        config: Arc::clone(config),
        listener: endpoints.between_brokers,
    });
    let metadata = Metadata::open(MetadataOptions {
        store,
        logs: Arc::clone(&logs),
        clock: clock.clone(),
        config: Arc::clone(config),
        endpoints: endpoints.broker,
        controller_endpoints: endpoints.controller,
        controllers: endpoints.controllers,
        replicas: Some(Arc::clone(&replicas) as Arc<dyn ReplicaListener>),
        seed: rand::random(),
    })
    .await?;
    let groups = groups::open(&metadata, Arc::clone(&logs), clock.clone(), config);
    let peers = PeerOptions::new(&config.node_id.to_string(), clock.clone());
    let controller = Arc::new(ControllerChannel::new(metadata.active_controller(), peers));
    let transactions = Transactions::new(&clock, &logs, &metadata, &groups, &controller, config);
    let stopping = CancellationToken::new();
    let shares = Shares::new(&clock, &logs, &metadata, config, &stopping);
    let sessions = usize::try_from(config.max_incremental_fetch_session_cache_slots).unwrap_or(0);
    let quotas = quotas::open(&metadata, config);
    let handles = Arc::new(BrokerHandles {
        node_id: config.node_id,
        cluster_id: Arc::clone(metadata.cluster_id()),
        data_dir: std::path::absolute(data).unwrap_or_else(|_| data.to_owned()),
        metadata,
        controller,
        logs,
        replicas,
        groups,
        transactions: transactions.coordinator,
        share_state: shares.coordinator,
        persister: shares.persister,
        offset_peers: shares.offset_peers,
        shares: shares.partitions,
        markers: transactions.markers,
        verifier: transactions.verifier,
        metrics: Metrics::new(),
        levels,
        telemetry: Arc::new(Telemetry::new(usize::try_from(config.telemetry_max_bytes).unwrap_or(0))),
        clock,
        fetch_sessions: FetchSessions::new(sessions),
        fetch_bounds: FetchBounds::default(),
        producer_ids: transactions.producer_ids,
        quotas,
        streams_topics: StreamsTopics::default(),
        stopping,
    });
    shares.brokers.create_topics_with(&handles);
    Ok(handles)
}

async fn create_topics(handles: &BrokerHandles, mut topics: Vec<NewTopic>) -> Result<(), StartError> {
    let image = handles.metadata.image();
    topics.retain(|topic| image.topics.get(&topic.name).is_none());
    if topics.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = topics.iter().map(|topic| topic.name.clone()).collect();
    for (name, created) in names.into_iter().zip(auto_create::create_topics(handles, topics).await) {
        created.map_err(|error| StartError::Topic { name, error })?;
    }
    Ok(())
}

fn serve(
    bound: Vec<Bound>,
    handles: &Arc<BrokerHandles>,
    config: &BrokerConfig,
    tasks: &TaskTracker,
) -> Vec<SocketAddr> {
    let brokers = bound.iter().filter(|bound| bound.config.kind.serves_broker()).count();
    let protected = Some(between_brokers(&bound, config).to_string()).filter(|_| brokers > 1);
    let options = NetOptions {
        request_bytes_max: usize::try_from(config.socket_request_max_bytes).unwrap_or(0),
        idle_ms_max: config.connections_max_idle_ms,
        drain: DRAIN,
        quota: connection_quota(handles, config, protected),
        turned_away: Arc::new(Semaphore::new(TURNED_AWAY_MAX)),
        memory: RequestMemory::new(config.queued_max_request_bytes),
        stopping: handles.stopping.clone(),
        tasks: tasks.clone(),
    };
    // The controller's listeners have connections of their own, so that clients leave room for it.
    let controller = NetOptions { quota: connection_quota(handles, config, None), ..options.clone() };
    let mut addresses = Vec::with_capacity(bound.len());
    let mut found_broker = false;
    for Bound { socket, local, listener, .. } in bound {
        if listener.kind.serves_broker() && !found_broker {
            found_broker = true;
            addresses.insert(0, local);
        } else {
            addresses.push(local);
        }
        let options = if listener.kind.serves_broker() { &options } else { &controller };
        listener::serve(socket, listener, Arc::clone(handles), options.clone());
    }
    addresses
}

/// How many connections there may be, as the configuration says from now on.
fn connection_quota(
    handles: &Arc<BrokerHandles>,
    config: &BrokerConfig,
    protected: Option<String>,
) -> Arc<ConnectionQuota> {
    let windows = Windows::new(config.quota_window_num, config.quota_window_size_seconds);
    let quota = ConnectionQuota::new(protected, windows, handles.clock.clone());
    handles.metadata.listen(Arc::new(quotas::Connections::new(&handles.metadata, Arc::clone(&quota))));
    quota
}

/// A channel to the controller of its own, so that requests of others do not hold these up.
fn controller_channel(
    handles: &BrokerHandles,
    own_controller: &Arc<OwnController>,
) -> Arc<ControllerChannel> {
    let peers = PeerOptions::new(&handles.node_id.to_string(), handles.clock.clone());
    let channel = ControllerChannel::new(handles.metadata.active_controller(), peers);
    let own: Weak<OwnController> = Arc::downgrade(own_controller);
    channel.serve_locally(own);
    Arc::new(channel)
}

fn run_controller_registration(
    handles: &BrokerHandles,
    own_controller: &Arc<OwnController>,
    tasks: &TaskTracker,
) {
    let (metadata, stopping) = (Arc::clone(&handles.metadata), handles.stopping.clone());
    let registering = controllers::keep_registered(
        metadata,
        controller_channel(handles, own_controller),
        handles.clock.clone(),
    );
    tasks.spawn(async move { stopping.run_until_cancelled(registering).await });
}

fn run_isr_changes(handles: &BrokerHandles, own_controller: &Arc<OwnController>, tasks: &TaskTracker) {
    let channel = controller_channel(handles, own_controller);
    tasks.spawn(Arc::clone(&handles.replicas).run_isr_changes(channel));
}

fn run_retention(handles: &Arc<BrokerHandles>, config: &BrokerConfig, tasks: &TaskTracker) {
    let (logs, stopping) = (Arc::clone(&handles.logs), handles.stopping.clone());
    let (delay_ms, interval_ms) = (config.log_initial_task_delay_ms, config.log_retention_check_interval_ms);
    let (syncs, syncing) = (Arc::clone(&logs), stopping.clone());
    tasks.spawn(async move {
        stopping.run_until_cancelled(logs.run_retention(delay_ms, interval_ms)).await;
    });
    tasks.spawn(async move {
        syncing.run_until_cancelled(syncs.run_syncs()).await;
    });
}

/// Finds brokers whose process is gone, when this node becomes the active controller.
fn run_lookout(handles: &Arc<BrokerHandles>, tasks: &TaskTracker) {
    let (lookout, stopping) = (look_after_brokers(Arc::clone(handles)), handles.stopping.clone());
    tasks.spawn(async move {
        stopping.run_until_cancelled(lookout).await;
    });
}

fn run_cleaner(handles: &Arc<BrokerHandles>, tasks: &TaskTracker) {
    let (logs, stopping) = (Arc::clone(&handles.logs), handles.stopping.clone());
    tasks.spawn(async move {
        stopping.run_until_cancelled(logs.run_cleaner()).await;
    });
}

fn observed(handles: &Arc<BrokerHandles>, progress: &Arc<Progress>) -> Admin {
    Admin {
        metrics: Arc::clone(&handles.metrics),
        metadata: Arc::clone(&handles.metadata),
        logs: Arc::clone(&handles.logs),
        replicas: Arc::clone(&handles.replicas),
        elections: Elections::watch(&handles.metadata),
        groups: Arc::clone(&handles.groups),
        transactions: Arc::clone(&handles.transactions),
        telemetry: Arc::clone(&handles.telemetry),
        quotas: Arc::clone(&handles.quotas),
        clock: handles.clock.clone(),
        shares: Arc::clone(&handles.shares),
        share_state: Arc::clone(&handles.share_state),
        progress: Arc::clone(progress),
        stopping: handles.stopping.clone(),
    }
}

/// Recorded times would pile up where nobody scrapes, and what clients pushed, and share partitions that are led
/// elsewhere.
fn run_metrics_upkeep(handles: &Arc<BrokerHandles>, tasks: &TaskTracker) {
    let (metrics, stopping) = (Arc::clone(&handles.metrics), handles.stopping.clone());
    let (shares, telemetry) = (Arc::clone(&handles.shares), Arc::clone(&handles.telemetry));
    let clock = handles.clock.clone();
    tasks.spawn(async move {
        let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
        while stopping.run_until_cancelled(interval.tick()).await.is_some() {
            metrics.run_upkeep();
            shares.forget_others();
            telemetry.expire(clock.steady_ms());
        }
    });
}
