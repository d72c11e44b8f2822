//! Who may come in, and how much memory their requests may hold.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The limits on connections, from the configuration.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionLimits {
    /// `max.connections`: above it, new connections wait to be accepted.
    pub(crate) connections_max: usize,
    /// `max.connections.per.ip`: above it, new connections from the address are closed.
    pub(crate) connections_per_ip_max: usize,
    /// `max.connections.per.ip.overrides`.
    pub(crate) connections_per_ip_overrides: HashMap<IpAddr, usize>,
}

/// Counts the connections of a broker, over all its listeners (`ConnectionQuotas`).
#[derive(Debug)]
pub(crate) struct ConnectionQuota {
    limits: ConnectionLimits,
    open: Mutex<OpenConnections>,
    closed: Notify,
}

#[derive(Debug, Default)]
struct OpenConnections {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl ConnectionQuota {
    pub(crate) fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self { limits, open: Mutex::default(), closed: Notify::new() })
    }

    /// Counts a connection from `address` in, as soon as there are fewer than the broker may have. `None` where the
    /// address has as many as one address may have.
    pub(crate) async fn admit(self: &Arc<Self>, address: IpAddr) -> Option<AdmittedConnection> {
        let address = address.to_canonical();
        loop {
            let closed = self.closed.notified();
            {
                let mut open = self.open.lock();
                if open.total < self.limits.connections_max {
                    let per_ip = self.limits.connections_per_ip_overrides.get(&address).copied();
                    let from_here = open.by_address.entry(address).or_default();
                    if *from_here >= per_ip.unwrap_or(self.limits.connections_per_ip_max) {
                        if *from_here == 0 {
                            open.by_address.remove(&address);
                        }
                        return None;
                    }
                    *from_here += 1;
                    open.total += 1;
                    return Some(AdmittedConnection { quota: Arc::clone(self), address });
                }
            }
            closed.await;
        }
    }

    /// How many connections are open now.
    pub(crate) fn open_connections(&self) -> usize {
        self.open.lock().total
    }
}

/// One counted connection; dropping it makes room for another.
#[derive(Debug)]
pub(crate) struct AdmittedConnection {
    quota: Arc<ConnectionQuota>,
    address: IpAddr,
}

impl Drop for AdmittedConnection {
    fn drop(&mut self) {
        let mut open = self.quota.open.lock();
        open.total -= 1;
        if let Some(count) = open.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.address);
            }
        }
        drop(open);
        self.quota.closed.notify_one();
    }
}

/// The memory that requests may hold between being read and being answered: `queued.max.request.bytes`. As in Kafka
/// (`SimpleMemoryPool`, not strict), a request is let in while anything is left, so that one larger than the whole
/// limit can still be served.
#[derive(Clone, Debug)]
pub(crate) struct RequestMemory(Option<Arc<Pool>>);

#[derive(Debug)]
struct Pool {
    available_bytes: Mutex<i64>,
    freed: Notify,
}

impl RequestMemory {
    /// Memory of `bytes_max`; no limit where it is not positive.
    pub(crate) fn new(bytes_max: i64) -> Self {
        let pool = || Arc::new(Pool { available_bytes: Mutex::new(bytes_max), freed: Notify::new() });
        Self((bytes_max > 0).then(pool))
    }

    /// Waits until memory is left and takes `bytes` of it.
    pub(crate) async fn take(&self, bytes: usize) -> TakenMemory {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let Some(pool) = &self.0 else { return TakenMemory { pool: None, bytes } };
        loop {
            let freed = pool.freed.notified();
            {
                let mut available = pool.available_bytes.lock();
                if *available > 0 {
                    *available -= bytes;
                    if *available > 0 {
                        pool.freed.notify_one();
                    }
                    return TakenMemory { pool: Some(Arc::clone(pool)), bytes };
                }
            }
            freed.await;
        }
    }
}

/// Memory that a request holds; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct TakenMemory {
    pool: Option<Arc<Pool>>,
    bytes: i64,
}

impl Drop for TakenMemory {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            *pool.available_bytes.lock() += self.bytes;
            pool.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test")]

    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn limits(connections_max: usize, connections_per_ip_max: usize) -> ConnectionLimits {
        ConnectionLimits {
            connections_max,
            connections_per_ip_max,
            connections_per_ip_overrides: HashMap::new(),
        }
    }

    #[tokio::test]
    async fn an_address_over_its_limit_is_refused_and_others_are_not() {
        let quota = ConnectionQuota::new(limits(10, 2));
        let (one, two) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let first = quota.admit(one).await.unwrap();
        let _second = quota.admit(one).await.unwrap();
        assert!(quota.admit(one).await.is_none());
        assert!(quota.admit(two).await.is_some());
        drop(first);
        assert!(quota.admit(one).await.is_some());
        assert_eq!(quota.open_connections(), 1);
    }

    #[tokio::test]
    async fn an_override_beats_the_limit_per_address() {
        let address: IpAddr = "10.0.0.1".parse().unwrap();
        let mut limits = limits(10, 0);
        limits.connections_per_ip_overrides.insert(address, 1);
        let quota = ConnectionQuota::new(limits);
        assert!(quota.admit("10.0.0.2".parse().unwrap()).await.is_none());
        let _open = quota.admit(address).await.unwrap();
        assert!(quota.admit(address).await.is_none());
    }

    #[tokio::test]
    async fn above_the_total_a_connection_waits_for_another_to_close() {
        let quota = ConnectionQuota::new(limits(1, 10));
        let address = "10.0.0.1".parse().unwrap();
        let first = quota.admit(address).await.unwrap();
        let mut second = pin!(quota.admit(address));
        assert!(poll(second.as_mut()).is_pending());
        drop(first);
        assert!(poll(second.as_mut()).is_ready());
    }

    #[tokio::test]
    async fn requests_wait_while_no_memory_is_left() {
        let memory = RequestMemory::new(100);
        let large = memory.take(5_000).await;
        let mut next = pin!(memory.take(1));
        assert!(poll(next.as_mut()).is_pending());
        drop(large);
        assert!(poll(next.as_mut()).is_ready());
    }

    #[tokio::test]
    async fn without_a_limit_nobody_waits() {
        let memory = RequestMemory::new(-1);
        let _one = memory.take(usize::MAX).await;
        let _two = memory.take(usize::MAX).await;
    }
}
