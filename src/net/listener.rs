//! Listening sockets and the loop that accepts connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::{ConnectionQuota, RequestMemory};
use super::connection;
use crate::api::{BrokerHandles, Connection, Listener};

/// How long accepting rests after an error that another attempt would meet again (no file descriptors left).
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What all listeners of a broker share.
#[derive(Clone)]
pub(crate) struct NetOptions {
    /// `socket.request.max.bytes`.
    pub(crate) request_bytes_max: usize,
    /// `connections.max.idle.ms`; never where negative.
    pub(crate) idle_ms_max: i64,
    /// How long requests in flight may take once the broker stops.
    pub(crate) drain: Duration,
    pub(crate) quota: Arc<ConnectionQuota>,
    pub(crate) memory: RequestMemory,
    /// Cancelled when the broker stops.
    pub(crate) stopping: CancellationToken,
    /// Counts the tasks, so that the broker can wait for them.
    pub(crate) tasks: TaskTracker,
}

/// Binds a listening socket.
///
/// # Errors
/// Where the operating system refuses: the address is in use, not ours, or not allowed.
pub(crate) async fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((host, port)).await
}

/// Accepts connections until the broker stops.
pub(crate) fn serve(
    socket: TcpListener,
    listener: Arc<Listener>,
    broker: Arc<BrokerHandles>,
    options: NetOptions,
) {
    let tasks = options.tasks.clone();
    tasks.spawn(async move {
        let stopping = options.stopping.clone();
        let accepting = accept_all(socket, listener, broker, options);
        stopping.run_until_cancelled(accepting).await;
    });
}

async fn accept_all(
    socket: TcpListener,
    listener: Arc<Listener>,
    broker: Arc<BrokerHandles>,
    options: NetOptions,
) {
    let created = broker.metrics.connections_created(&listener.name);
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                created.increment(1);
                accept(stream, peer, &listener, &broker, &options).await;
            }
            Err(error) => {
                tracing::warn!(listener = %listener.name, %error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn accept(
    stream: TcpStream,
    peer: SocketAddr,
    listener: &Arc<Listener>,
    broker: &Arc<BrokerHandles>,
    options: &NetOptions,
) {
    let Some(admitted) = options.quota.admit(peer.ip()).await else {
        tracing::info!(listener = %listener.name, %peer, "too many connections from this address");
        return;
    };
    let local = match stream.set_nodelay(true).and_then(|()| stream.local_addr()) {
        Ok(local) => local,
        Err(error) => {
            tracing::debug!(%peer, %error, "a connection ended before it began");
            return;
        }
    };
    let connection = Arc::new(Connection::new(Arc::clone(listener), local, peer));
    let task = connection::serve(stream, connection, Arc::clone(broker), options.clone());
    let open = broker.metrics.connections(&listener.name);
    options.tasks.spawn(async move {
        open.increment(1.0);
        task.await;
        open.decrement(1.0);
        drop(admitted);
    });
}
