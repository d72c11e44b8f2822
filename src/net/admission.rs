//! Who may come in, and how much memory their requests may hold.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::api::Connection;
use crate::clock::Clock;
use crate::config::BrokerConfig;
use crate::quota::Windows;
use crate::quota::connections::{AddressRates, ConnectionRates, Rates};

/// How often a connection that waits looks at limits that may have changed meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The limits on connections to one listener from one address, from the configuration as it is now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// `max.connections`: above it, new connections wait to be accepted.
    connections_max: usize,
    /// The same for this listener.
    listener_connections_max: usize,
    /// `max.connections.per.ip` or its override: above it, new connections from the address are closed.
    connections_per_ip_max: usize,
    /// `max.connection.creation.rate` of the broker and of this listener.
    creation_rate: u32,
    listener_creation_rate: u32,
}

impl ConnectionLimits {
    /// What `config` says about connections to `listener` from `address`.
    pub(crate) fn of(config: &BrokerConfig, listener: &str, address: IpAddr) -> Self {
        let count = |limit: i32| usize::try_from(limit).unwrap_or(0);
        let rate = |limit: i32| u32::try_from(limit).unwrap_or(0);
        let mut per_ip_max = config.max_connections_per_ip;
        if !config.max_connections_per_ip_overrides.is_empty() {
            let mut named = config.connection_limits_by_address().into_iter().rev();
            // A name instead of an address would have to be looked up at every connection.
            let own = named.find(|(name, _)| name.parse() == Ok(address.to_canonical()));
            per_ip_max = own.map_or(per_ip_max, |(_, limit)| limit);
        }
        let of_listener = config.listener_limits(listener);
        Self {
            connections_max: count(config.max_connections),
            listener_connections_max: count(of_listener.connections_max),
            connections_per_ip_max: count(per_ip_max),
            creation_rate: rate(config.max_connection_creation_rate),
            listener_creation_rate: rate(of_listener.creation_rate),
        }
    }
}

/// Counts the connections of a broker, or of a controller, over all its listeners (`ConnectionQuotas`).
#[derive(Debug)]
pub(crate) struct ConnectionQuota {
    /// The listener between brokers, where it is not the only one: it takes connections when the others have all that
    /// there may be, and one of theirs is closed for it.
    protected: Option<String>,
    clock: Clock,
    open: Mutex<OpenConnections>,
    rates: Mutex<ConnectionRates>,
    closed: Notify,
}

#[derive(Debug, Default)]
struct OpenConnections {
    by_address: HashMap<IpAddr, usize>,
    by_listener: HashMap<String, usize>,
    /// Those that are served, in the order in which they came.
    served: BTreeMap<u64, (Arc<Connection>, CancellationToken)>,
    total: usize,
    next: u64,
}

/// What becomes of a new connection.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It is served, and counted until this is dropped.
    Admitted(AdmittedConnection),
    /// It is closed: its address has as many as one address may have.
    TooMany,
    /// It is closed after this many milliseconds: its address makes them too fast.
    TooFast(i32),
}

impl ConnectionQuota {
    /// Without a connection. `protected` is the listener between brokers, where there are others.
    pub(crate) fn new(protected: Option<String>, windows: Windows, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            protected,
            clock,
            open: Mutex::default(),
            rates: Mutex::new(ConnectionRates::new(windows)),
            closed: Notify::new(),
        })
    }

    /// Lets a connection in, as soon as it is not one too many for the broker or its listener, and not too fast.
    /// `limits` are looked at whenever it could be let in.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        listener: &str,
        address: IpAddr,
        allowed: &AddressRates,
        limits: impl Fn() -> ConnectionLimits,
    ) -> Admission {
        let address = address.to_canonical();
        let is_protected = self.protected.as_deref() == Some(listener);
        let now_ms = self.clock.steady_ms();
        let ConnectionLimits { creation_rate, listener_creation_rate, .. } = limits();
        let broker = (!is_protected).then_some(creation_rate);
        let rates = Rates { broker, listener: listener_creation_rate };
        let throttle_ms = self.rates.lock().made(listener, rates, now_ms);
        if throttle_ms > 0 {
            self.clock.sleep_until(now_ms.saturating_add(throttle_ms.into())).await;
        }
        let limits = self.room(listener, is_protected, limits).await;
        let now_ms = self.clock.steady_ms();
        let throttle_ms = self.rates.lock().came_from(address, allowed, (listener, rates), now_ms);
        if throttle_ms > 0 {
            return Admission::TooFast(throttle_ms);
        }
        let mut open = self.open.lock();
        let from_here = open.by_address.get(&address).copied().unwrap_or(0);
        if from_here >= limits.connections_per_ip_max {
            return Admission::TooMany;
        }
        open.by_address.insert(address, from_here + 1);
        *open.by_listener.entry(listener.to_owned()).or_default() += 1;
        open.total += 1;
        let id = open.next;
        open.next += 1;
        let admitted =
            AdmittedConnection { quota: Arc::clone(self), address, listener: listener.to_owned(), id };
        Admission::Admitted(admitted)
    }

    /// Waits until one more connection is not one too many.
    async fn room(
        &self,
        listener: &str,
        is_protected: bool,
        limits: impl Fn() -> ConnectionLimits,
    ) -> ConnectionLimits {
        loop {
            let mut closed = pin!(self.closed.notified());
            // Whatever is closed from here on is heard of.
            closed.as_mut().enable();
            let limits = limits();
            {
                let open = self.open.lock();
                let here = open.by_listener.get(listener).copied().unwrap_or(0);
                let has_room = is_protected || open.total < limits.connections_max;
                if here < limits.listener_connections_max && has_room {
                    return limits;
                }
            }
            // Also when no limit changes it may be looked at again.
            let _ = tokio::time::timeout(LOOK_AGAIN, closed).await;
        }
    }

    /// Closes connections while there are more than `connections_max`: those that were silent for longest, and none
    /// between brokers.
    pub(crate) fn close_excess(&self, connections_max: usize) {
        let open = self.open.lock();
        let excess = open.total.saturating_sub(connections_max);
        if excess == 0 {
            return;
        }
        let others = open.served.values().filter(|(connection, closing)| {
            self.protected.as_ref() != Some(&connection.listener.name) && !closing.is_cancelled()
        });
        let mut others: Vec<_> = others.collect();
        // What is closing already makes room by itself.
        let closing = open.served.values().filter(|(_, closing)| closing.is_cancelled()).count();
        others.sort_by_key(|(connection, _)| connection.active_ms());
        for (connection, closing) in others.into_iter().take(excess.saturating_sub(closing)) {
            tracing::info!(peer = %connection.peer, "connection closed: there are more than max.connections");
            closing.cancel();
        }
    }
}

/// One counted connection; dropping it makes room for another.
#[derive(Debug)]
pub(crate) struct AdmittedConnection {
    quota: Arc<ConnectionQuota>,
    address: IpAddr,
    listener: String,
    id: u64,
}

impl AdmittedConnection {
    /// It is served from now on; `closing` ends it.
    pub(crate) fn served(&self, connection: Arc<Connection>, closing: CancellationToken) {
        self.quota.open.lock().served.insert(self.id, (connection, closing));
    }
}

impl Drop for AdmittedConnection {
    fn drop(&mut self) {
        let mut open = self.quota.open.lock();
        open.total -= 1;
        open.served.remove(&self.id);
        if let Some(count) = open.by_listener.get_mut(&self.listener) {
            *count -= 1;
        }
        if let Some(count) = open.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.address);
            }
        }
        drop(open);
        self.quota.closed.notify_waiters();
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

    fn quota(protected: Option<&str>, clock: &Clock) -> Arc<ConnectionQuota> {
        let windows = Windows { count: 11, length_ms: 1_000 };
        ConnectionQuota::new(protected.map(str::to_owned), windows, clock.clone())
    }

    fn limits(connections_max: usize, connections_per_ip_max: usize) -> ConnectionLimits {
        ConnectionLimits {
            connections_max,
            listener_connections_max: usize::MAX,
            connections_per_ip_max,
            creation_rate: u32::MAX,
            listener_creation_rate: u32::MAX,
        }
    }

    async fn admit(
        quota: &Arc<ConnectionQuota>,
        (listener, address): (&str, &str),
        limits: ConnectionLimits,
    ) -> Option<AdmittedConnection> {
        let address = address.parse().unwrap();
        match quota.admit(listener, address, &AddressRates::default(), || limits).await {
            Admission::Admitted(admitted) => Some(admitted),
            Admission::TooMany | Admission::TooFast(_) => None,
        }
    }

    #[tokio::test]
    async fn an_address_over_its_limit_is_refused_and_others_are_not() {
        let quota = quota(None, &Clock::virtual_at(0));
        let (one, two) = (("L", "10.0.0.1"), ("L", "10.0.0.2"));
        let first = admit(&quota, one, limits(10, 2)).await.unwrap();
        let _second = admit(&quota, one, limits(10, 2)).await.unwrap();
        assert!(admit(&quota, one, limits(10, 2)).await.is_none());
        assert!(admit(&quota, two, limits(10, 2)).await.is_some());
        drop(first);
        assert!(admit(&quota, one, limits(10, 2)).await.is_some());
    }

    #[test]
    fn an_override_beats_the_limit_per_address_and_a_listener_may_have_its_own() {
        let keys = [
            ("max.connections", "5"),
            ("max.connections.per.ip", "0"),
            ("max.connections.per.ip.overrides", "10.0.0.1:1,[::1]:2,host:3"),
            ("listener.name.inside.max.connections", "7"),
            ("listener.name.inside.max.connection.creation.rate", "9"),
        ];
        let keys = keys.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let config = BrokerConfig::from_static(keys).unwrap();
        for (address, limit) in [("10.0.0.1", 1), ("10.0.0.2", 0), ("::1", 2), ("::ffff:10.0.0.1", 1)] {
            let limits = ConnectionLimits::of(&config, "OUTSIDE", address.parse().unwrap());
            assert_eq!(limits.connections_per_ip_max, limit, "{address}");
            assert_eq!((limits.connections_max, limits.listener_connections_max), (5, 5));
        }
        let inside = ConnectionLimits::of(&config, "INSIDE", "::1".parse().unwrap());
        assert_eq!((inside.connections_max, inside.listener_connections_max), (5, 7));
        assert_eq!(inside.listener_creation_rate, 9);
    }

    #[tokio::test]
    async fn above_the_total_a_connection_waits_for_another_to_close() {
        let quota = quota(None, &Clock::virtual_at(0));
        let here = ("L", "10.0.0.1");
        let first = admit(&quota, here, limits(1, 10)).await.unwrap();
        let mut second = pin!(admit(&quota, here, limits(1, 10)));
        assert!(poll(second.as_mut()).is_pending());
        drop(first);
        assert!(poll(second.as_mut()).is_ready());
    }

    #[tokio::test]
    async fn the_listener_between_brokers_has_room_and_closes_who_was_silent_for_longest() {
        let quota = quota(Some("BETWEEN"), &Clock::virtual_at(0));
        let of_listener = |name: &str, active_ms| {
            let listener = crate::api::Listener {
                name: name.to_owned(),
                kind: crate::config::listener::ListenerKind::Broker,
                advertised: None,
            };
            let here = "127.0.0.1:1".parse().unwrap();
            let connection = Connection::new(Arc::new(listener), here, here);
            connection.used(active_ms);
            Arc::new(connection)
        };
        let mut open = Vec::new();
        for (name, active_ms) in [("BETWEEN", 1), ("OUTSIDE", 9), ("OUTSIDE", 5), ("BETWEEN", 2)] {
            let admitted = admit(&quota, (name, "10.0.0.1"), limits(3, 10)).await.unwrap();
            let closing = CancellationToken::new();
            admitted.served(of_listener(name, active_ms), closing.clone());
            open.push((admitted, closing));
        }
        let cancelled = |open: &[(AdmittedConnection, CancellationToken)]| {
            open.iter().map(|(_, closing)| closing.is_cancelled()).collect::<Vec<_>>()
        };
        quota.close_excess(4);
        assert_eq!(cancelled(&open), [false; 4]);
        quota.close_excess(3);
        quota.close_excess(3);
        assert_eq!(cancelled(&open), [false, false, true, false]);
        let mut other = pin!(admit(&quota, ("OUTSIDE", "10.0.0.1"), limits(3, 10)));
        assert!(poll(other.as_mut()).is_pending());
    }

    #[tokio::test]
    async fn connections_that_come_too_fast_wait_or_are_turned_away() {
        let clock = Clock::virtual_at(0);
        let quota = quota(None, &clock);
        let slow = ConnectionLimits { creation_rate: 1, ..limits(100, 100) };
        let mut open = Vec::new();
        for _ in 0..10 {
            open.push(admit(&quota, ("L", "10.0.0.1"), slow).await.unwrap());
        }
        let mut waits = pin!(admit(&quota, ("L", "10.0.0.1"), slow));
        assert!(poll(waits.as_mut()).is_pending());
        clock.advance(1_000);
        assert!(waits.await.is_some());
        let allowed = AddressRates { default: Some(1), ..AddressRates::default() };
        let address = "10.0.0.2".parse().unwrap();
        let mut turned_away = 0;
        for _ in 0..12 {
            let admission = quota.admit("L", address, &allowed, || limits(100, 100)).await;
            turned_away += usize::from(matches!(admission, Admission::TooFast(1_000)));
        }
        assert_eq!(turned_away, 2);
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
