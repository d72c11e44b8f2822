//! Listening sockets and the loop that accepts connections.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::{Admission, ConnectionLimits, ConnectionQuota, RequestMemory};
use super::connection;
use crate::api::{BrokerHandles, Connection, Listener, broker_heartbeat};

/// How long accepting rests after an error that another attempt would meet again (no file descriptors left).
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How many connections may wait to be closed, as their addresses make them too fast. Further ones are closed at once.
pub(crate) const TURNED_AWAY_MAX: usize = 1_000;

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
    /// Room for connections that are about to be closed.
    pub(crate) turned_away: Arc<Semaphore>,
    pub(crate) memory: RequestMemory,
    /// Cancelled when the broker stops.
    pub(crate) stopping: CancellationToken,
    /// Counts the tasks, so that the broker can wait for them.
    pub(crate) tasks: TaskTracker,
}

/// How sockets are set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketOptions {
    /// `socket.listen.backlog.size`.
    pub(crate) backlog: i32,
    /// `socket.receive.buffer.bytes`; where negative the system decides.
    pub(crate) receive_buffer_bytes: i32,
    /// `socket.send.buffer.bytes`; where negative the system decides.
    pub(crate) send_buffer_bytes: i32,
}

/// Binds a listening socket. An empty host means every interface; a port of 0 one that is free.
///
/// # Errors
/// Where the operating system refuses: the address is in use, not ours, or not allowed.
pub(crate) async fn bind(host: &str, port: u16, options: SocketOptions) -> io::Result<TcpListener> {
    let mut addresses: Vec<SocketAddr> = if host.is_empty() {
        vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
    } else {
        tokio::net::lookup_host((host, port)).await?.collect()
    };
    // A name that has addresses of both kinds is listened on where most clients look first.
    addresses.sort_by_key(|address| host.is_empty() == address.is_ipv4());
    let mut failed = io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address");
    for address in addresses {
        match bind_address(address, options) {
            Ok(socket) => return Ok(socket),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn bind_address(address: SocketAddr, options: SocketOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // A broker that restarts takes its port back while old connections linger.
    socket.set_reuse_address(true)?;
    // Connections inherit the buffers.
    if let Ok(bytes) = usize::try_from(options.receive_buffer_bytes) {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Ok(bytes) = usize::try_from(options.send_buffer_bytes) {
        socket.set_send_buffer_size(bytes)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(options.backlog)?;
    TcpListener::from_std(socket.into())
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
    let limits = || ConnectionLimits::of(&broker.metadata.broker_config(), &listener.name, peer.ip());
    let addresses = broker.quotas.addresses();
    let admitted = match options.quota.admit(&listener.name, peer.ip(), &addresses, limits).await {
        Admission::Admitted(admitted) => admitted,
        Admission::TooMany => {
            tracing::info!(listener = %listener.name, %peer, "too many connections from this address");
            return;
        }
        Admission::TooFast(throttle_ms) => {
            tracing::debug!(listener = %listener.name, %peer, "connections come too fast from this address");
            turn_away(stream, throttle_ms, broker, options);
            return;
        }
    };
    let local = match stream.set_nodelay(true).and_then(|()| stream.local_addr()) {
        Ok(local) => local,
        Err(error) => {
            tracing::debug!(%peer, %error, "a connection ended before it began");
            return;
        }
    };
    let connection = Arc::new(Connection::new(Arc::clone(listener), local, peer));
    let options = NetOptions { stopping: options.stopping.child_token(), ..options.clone() };
    admitted.served(Arc::clone(&connection), options.stopping.clone());
    let connections_max = broker.metadata.broker_config().max_connections;
    options.quota.close_excess(usize::try_from(connections_max).unwrap_or(0));
    let tasks = options.tasks.clone();
    let task = connection::serve(stream, Arc::clone(&connection), Arc::clone(broker), options);
    let broker = Arc::clone(broker);
    let open = broker.metrics.connections(&listener.name);
    tasks.spawn(async move {
        open.increment(1.0);
        task.await;
        open.decrement(1.0);
        drop(admitted);
        if !broker.stopping.is_cancelled() {
            broker_heartbeat::closed(&broker, &connection).await;
        }
    });
}

/// Closes a connection, but not at once: its client would only come again.
fn turn_away(stream: TcpStream, throttle_ms: i32, broker: &Arc<BrokerHandles>, options: &NetOptions) {
    let Ok(turn) = Arc::clone(&options.turned_away).try_acquire_owned() else { return };
    let clock = broker.clock.clone();
    let until_ms = clock.steady_ms().saturating_add(throttle_ms.into());
    let stopping = options.stopping.clone();
    options.tasks.spawn(async move {
        stopping.run_until_cancelled(clock.sleep_until(until_ms)).await;
        drop((stream, turn));
    });
}
