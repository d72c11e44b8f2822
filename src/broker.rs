//! Wires the parts into a broker: start, ready, drain, stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{BrokerHandles, Listener};
use crate::clock::Clock;
use crate::net::admission::{ConnectionLimits, ConnectionQuota, RequestMemory};
use crate::net::listener::{self, NetOptions};

/// How long requests in flight may take once the broker stops.
const DRAIN: Duration = Duration::from_secs(5);

/// A running broker. Many can run in one process.
pub struct Broker {
    kafka: SocketAddr,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Broker {
    /// Starts a broker that serves on `listen`.
    ///
    /// # Errors
    /// Where the address can not be bound.
    pub async fn start(host: &str, port: u16, clock: Clock) -> io::Result<Self> {
        let socket = listener::bind(host, port).await?;
        let kafka = socket.local_addr()?;
        let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
        let limits = ConnectionLimits {
            connections_max: usize::MAX,
            connections_per_ip_max: usize::MAX,
            connections_per_ip_overrides: std::collections::HashMap::new(),
        };
        let options = NetOptions {
            request_bytes_max: 100 * 1024 * 1024,
            idle_ms_max: 600_000,
            drain: DRAIN,
            quota: ConnectionQuota::new(limits),
            memory: RequestMemory::new(-1),
            stopping: stopping.clone(),
            tasks: tasks.clone(),
        };
        let plain = Arc::new(Listener { name: "PLAINTEXT".to_owned(), advertised: None });
        listener::serve(socket, plain, Arc::new(BrokerHandles { clock }), options);
        Ok(Self { kafka, stopping, tasks })
    }

    /// Where Kafka clients connect to.
    pub fn kafka_addr(&self) -> SocketAddr {
        self.kafka
    }

    /// Stops accepting, answers what is in flight, and closes.
    pub async fn shutdown(self) {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
