//! What a handler is given besides its request: the broker's parts, and who asks.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::fetch::FetchBounds;
use super::fetch_session::FetchSessions;
use super::init_producer_id::ProducerIds;
use super::peers::Peers;
use super::streams_topics::StreamsTopics;
use super::throttle::Metered;
use super::verification::Verifier;
use crate::client::ControllerChannel;
use crate::clock::Clock;
use crate::config::listener::ListenerKind;
use crate::group::coordinator::GroupCoordinator;
use crate::levels::Levels;
use crate::log::LogManager;
use crate::metadata::Metadata;
use crate::metrics::Metrics;
use crate::quota::Quotas;
use crate::replication::manager::ReplicaManager;
use crate::share::manager::SharePartitionManager;
use crate::share::persister::Persister;
use crate::share::sessions::SessionTicket;
use crate::share::state::coordinator::ShareCoordinator;
use crate::telemetry::Telemetry;
use crate::transaction::coordinator::TransactionCoordinator;
use crate::transaction::markers::MarkerSink;
use crate::types::NodeId;

/// The parts of the broker that handlers call.
pub(crate) struct BrokerHandles {
    pub(crate) node_id: NodeId,
    pub(crate) cluster_id: Arc<str>,
    pub(crate) data_dir: PathBuf,
    pub(crate) metadata: Arc<Metadata>,
    /// The way of forwarded requests to the active controller.
    pub(crate) controller: Arc<ControllerChannel>,
    pub(crate) logs: Arc<LogManager>,
    /// How this broker's replicas follow their leaders.
    pub(crate) replicas: Arc<ReplicaManager>,
    pub(crate) groups: Arc<GroupCoordinator>,
    pub(crate) transactions: Arc<TransactionCoordinator>,
    /// The share coordinator.
    pub(crate) share_state: Arc<ShareCoordinator>,
    /// Asks the share coordinators.
    pub(crate) persister: Arc<Persister>,
    /// Other brokers, asked for the ends of their partitions.
    pub(crate) offset_peers: Peers,
    /// The share partitions that this broker leads.
    pub(crate) shares: Arc<SharePartitionManager>,
    /// Where the markers go that other brokers write: the partitions of this one.
    pub(crate) markers: Arc<dyn MarkerSink>,
    /// Asks the coordinators of transactions.
    pub(crate) verifier: Verifier,
    pub(crate) metrics: Arc<Metrics>,
    /// How much is logged.
    pub(crate) levels: Levels,
    /// The metrics of clients.
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) clock: Clock,
    pub(crate) fetch_sessions: FetchSessions,
    pub(crate) fetch_bounds: FetchBounds,
    pub(crate) producer_ids: Arc<ProducerIds>,
    /// What clients may use.
    pub(crate) quotas: Arc<Quotas>,
    /// Internal topics of streams groups that are being created.
    pub(crate) streams_topics: StreamsTopics,
    /// Cancelled when the broker stops: whoever waits for something to happen answers what there is.
    pub(crate) stopping: CancellationToken,
}

impl BrokerHandles {
    /// A connection is closed.
    pub(crate) fn disconnected(&self, connection: &Connection) {
        if let Some(session) = connection.share_session.lock().take() {
            self.shares.disconnected(&session);
        }
    }

    /// Whether the transaction coordinator is asked before the first batch of a transaction in a partition, where the
    /// producer adds partitions by itself.
    pub(crate) fn verifies_transactions(&self) -> bool {
        self.metadata.broker_config().transaction_partition_verification_enable
    }
}

/// What a handler is given besides its request.
pub(crate) struct Context {
    pub(crate) broker: Arc<BrokerHandles>,
    pub(crate) connection: Arc<Connection>,
    /// The client id in the header of this request.
    pub(crate) client_id: Option<String>,
    /// The size of this request.
    pub(crate) request_bytes: usize,
    /// What quotas have to know of it; `None` where there are none.
    pub(crate) metered: Option<Arc<Metered>>,
    /// Whether a broker forwarded it to this node, which it takes for the active controller.
    pub(crate) forwarded: bool,
}

impl Context {
    /// The client id, empty where there is none.
    pub(crate) fn client_id(&self) -> &str {
        self.client_id.as_deref().unwrap_or_default()
    }

    /// The address of the client without its port, as Kafka writes it: `/127.0.0.1`.
    pub(crate) fn client_host(&self) -> String {
        format!("/{}", self.connection.peer.ip().to_canonical())
    }
}

/// A listener by its name, and what it tells clients to connect to.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Kafka's listener name: `PLAINTEXT` where there is only one.
    pub(crate) name: String,
    /// Whose APIs it serves.
    pub(crate) kind: ListenerKind,
    /// The address to give to clients, where one is configured. Otherwise clients are given the address by which
    /// they reached us.
    pub(crate) advertised: Option<(String, u16)>,
}

/// The user that a client is which does not say who it is.
const ANONYMOUS: &str = "ANONYMOUS";

/// A connection from a client.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) listener: Arc<Listener>,
    /// Our side: the address by which the client reached us.
    pub(crate) local: SocketAddr,
    /// The client's side.
    pub(crate) peer: SocketAddr,
    /// Name and version of the client's library, once it has told them (KIP-511).
    pub(crate) software: OnceLock<(String, String)>,
    /// Gone when the connection has ended.
    pub(super) alive: Arc<()>,
    /// The broker whose heartbeats come over this connection, with its epoch.
    heartbeats_of: Mutex<Option<(NodeId, i64)>>,
    user: Cow<'static, str>,
    /// When it was last used, on the steady clock.
    active_ms: AtomicI64,
    /// The share session that began over this connection last, and ends with it.
    share_session: Mutex<Option<SessionTicket>>,
}

impl Connection {
    /// A connection over `listener` between our address `local` and the client's `peer`.
    pub(crate) fn new(listener: Arc<Listener>, local: SocketAddr, peer: SocketAddr) -> Self {
        Self {
            listener,
            local,
            peer,
            software: OnceLock::new(),
            alive: Arc::default(),
            heartbeats_of: Mutex::new(None),
            user: Cow::Borrowed(ANONYMOUS),
            active_ms: AtomicI64::new(0),
            share_session: Mutex::new(None),
        }
    }

    /// The same connection, of a client that is this user.
    pub(super) fn of(self, user: String) -> Self {
        Self { user: Cow::Owned(user), ..self }
    }

    /// Who the client is.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// It is used now, on the steady clock.
    pub(crate) fn used(&self, now_ms: i64) {
        self.active_ms.store(now_ms, Ordering::Relaxed);
    }

    /// When it was last used, on the steady clock.
    pub(crate) fn active_ms(&self) -> i64 {
        self.active_ms.load(Ordering::Relaxed)
    }

    /// A share session began.
    pub(super) fn set_share_session(&self, session: SessionTicket) {
        *self.share_session.lock() = Some(session);
    }

    /// A broker with this epoch sent a heartbeat.
    pub(super) fn heard_of(&self, id: NodeId, broker_epoch: i64) {
        *self.heartbeats_of.lock() = Some((id, broker_epoch));
    }

    /// The broker whose heartbeats come over this connection, with its epoch.
    pub(super) fn heartbeats_of(&self) -> Option<(NodeId, i64)> {
        *self.heartbeats_of.lock()
    }

    /// Host and port that the client is told to connect to.
    pub(crate) fn advertised(&self) -> (String, u16) {
        match &self.listener.advertised {
            Some((host, port)) => (host.clone(), *port),
            None => (self.local.ip().to_canonical().to_string(), self.local.port()),
        }
    }
}

/// Why a connection is closed instead of being answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Disconnect {
    /// The frame is not a request, or not one that we serve.
    Malformed(String),
    /// A request that wants no answer failed: closing is the only way to say so.
    FailedUnanswered(String),
    /// The response can not be written in the version that was asked for: a bug of ours.
    Unencodable(String),
}

impl fmt::Display for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(reason) => write!(f, "{reason}"),
            Self::FailedUnanswered(reason) => write!(f, "a request without response failed: {reason}"),
            Self::Unencodable(reason) => write!(f, "the response can not be encoded: {reason}"),
        }
    }
}
