//! Who may come in, and how much memory their requests may hold.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::config::BrokerConfig;

/// The limits on connections that hold for one address, from the configuration as it is now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// `max.connections`: above it, new connections wait to be accepted.
    connections_max: usize,
    /// `max.connections.per.ip` or its override: above it, new connections from the address are closed.
    connections_per_ip_max: usize,
}

impl ConnectionLimits {
    /// What `config` says about connections from `address`.
    pub(crate) fn of(config: &BrokerConfig, address: IpAddr) -> Self {
        let count = |limit: i32| usize::try_from(limit).unwrap_or(0);
        let mut per_ip_max = config.max_connections_per_ip;
        if !config.max_connections_per_ip_overrides.is_empty() {
            let mut named = config.connection_limits_by_address().into_iter().rev();
            // A name instead of an address would have to be looked up at every connection.
            let own = named.find(|(name, _)| name.parse() == Ok(address.to_canonical()));
            per_ip_max = own.map_or(per_ip_max, |(_, limit)| limit);
        }
        Self { connections_max: count(config.max_connections), connections_per_ip_max: count(per_ip_max) }
    }
}

/// Counts the connections of a broker, over all its listeners (`ConnectionQuotas`).
#[derive(Debug, Default)]
pub(crate) struct ConnectionQuota {
    open: Mutex<OpenConnections>,
    closed: Notify,
}

#[derive(Debug, Default)]
struct OpenConnections {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl ConnectionQuota {
    /// Counts a connection from `address` in, as soon as there are fewer than the broker may have. `None` where the
    /// address has as many as one address may have.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        limits: ConnectionLimits,
    ) -> Option<AdmittedConnection> {
        let address = address.to_canonical();
        loop {
            let closed = self.closed.notified();
            {
                let mut open = self.open.lock();
                if open.total < limits.connections_max {
                    let from_here = open.by_address.get(&address).copied().unwrap_or(0);
                    if from_here >= limits.connections_per_ip_max {
                        return None;
                    }
                    open.by_address.insert(address, from_here + 1);
                    open.total += 1;
                    return Some(AdmittedConnection { quota: Arc::clone(self), address });
                }
            }
            closed.await;
        }
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

    /// Takes `bytes`, if any memory is left.
    pub(crate) fn try_take(&self, bytes: usize) -> Option<TakenMemory> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let Some(pool) = &self.0 else { return Some(TakenMemory { pool: None, bytes }) };
        let mut available = pool.available_bytes.lock();
        if *available <= 0 {
            return None;
        }
        *available -= bytes;
        if *available > 0 {
            // Another one may wait.
            pool.freed.notify_one();
        }
        Some(TakenMemory { pool: Some(Arc::clone(pool)), bytes })
    }

    /// Waits until memory is left and takes `bytes` of it.
    pub(crate) async fn take(&self, bytes: usize) -> TakenMemory {
        loop {
            let freed = self.0.as_ref().map(|pool| pool.freed.notified());
            if let Some(taken) = self.try_take(bytes) {
                return taken;
            }
            if let Some(freed) = freed {
                freed.await;
            }
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

    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn limits(connections_max: usize, connections_per_ip_max: usize) -> ConnectionLimits {
        ConnectionLimits { connections_max, connections_per_ip_max }
    }

    #[tokio::test]
    async fn an_address_over_its_limit_is_refused_and_others_are_not() {
        let quota = Arc::<ConnectionQuota>::default();
        let (one, two) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let first = quota.admit(one, limits(10, 2)).await.unwrap();
        let _second = quota.admit(one, limits(10, 2)).await.unwrap();
        assert!(quota.admit(one, limits(10, 2)).await.is_none());
        assert!(quota.admit(two, limits(10, 2)).await.is_some());
        drop(first);
        assert!(quota.admit(one, limits(10, 2)).await.is_some());
    }

    #[test]
    fn an_override_beats_the_limit_per_address() {
        let keys = [
            ("max.connections.per.ip", "0"),
            ("max.connections.per.ip.overrides", "10.0.0.1:1,[::1]:2,host:3"),
        ];
        let keys = keys.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let config = BrokerConfig::from_static(keys).unwrap();
        for (address, limit) in [("10.0.0.1", 1), ("10.0.0.2", 0), ("::1", 2), ("::ffff:10.0.0.1", 1)] {
            let limits = ConnectionLimits::of(&config, address.parse().unwrap());
            assert_eq!(limits.connections_per_ip_max, limit, "{address}");
        }
    }

    #[tokio::test]
    async fn above_the_total_a_connection_waits_for_another_to_close() {
        let quota = Arc::<ConnectionQuota>::default();
        let address = "10.0.0.1".parse().unwrap();
        let first = quota.admit(address, limits(1, 10)).await.unwrap();
        let mut second = pin!(quota.admit(address, limits(1, 10)));
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
