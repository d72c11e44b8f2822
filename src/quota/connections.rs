//! How fast connections may be made: to a broker, to one of its listeners, and from one address (KIP-612, the rates of
//! Kafka's `ConnectionQuotas`).

use std::collections::HashMap;
use std::net::IpAddr;

use super::rate::{Samples, Windows};
use super::recent::Recent;
use super::throttle;

/// An address that made no connection for this long is forgotten (`ConnectionQuotaEntity.ipQuotaEntity`).
const UNUSED_MS_MAX: i64 = 3_600_000;

/// How many addresses are measured at a time; whoever was silent for longest is forgotten.
const ADDRESSES_MAX: usize = 10_000;

/// How many connections an address may make per second: those with a quota of their own, and all others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRates {
    /// The quotas of single addresses.
    pub of: HashMap<IpAddr, u32>,
    /// The quota of all others; `None` for as many as they want.
    pub default: Option<u32>,
}

impl AddressRates {
    fn rate(&self, address: IpAddr) -> Option<u32> {
        self.of.get(&address).copied().or(self.default)
    }
}

/// What a broker and one of its listeners may take per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Of all listeners together, where that holds for this one: not for the listener between brokers.
    pub broker: Option<u32>,
    /// Of this one.
    pub listener: u32,
}

/// The connections that were made lately.
#[derive(Debug)]
pub struct ConnectionRates {
    windows: Windows,
    broker: Samples,
    listeners: HashMap<String, Samples>,
    addresses: Recent<IpAddr, Samples>,
}

impl ConnectionRates {
    /// Without any connection.
    pub fn new(windows: Windows) -> Self {
        let addresses = Recent::new(ADDRESSES_MAX);
        Self { windows, broker: Samples::default(), listeners: HashMap::new(), addresses }
    }

    /// Takes in that a connection was made to this listener; for how many milliseconds it has to wait.
    pub fn made(&mut self, listener: &str, rates: Rates, now_ms: i64) -> i32 {
        let windows = self.windows;
        let made = |samples: &mut Samples, rate| record(samples, rate, windows, now_ms);
        let of_broker = rates.broker.map_or(0, |rate| made(&mut self.broker, rate));
        if !self.listeners.contains_key(listener) {
            self.listeners.insert(listener.to_owned(), Samples::default());
        }
        let of_listener = self.listeners.get_mut(listener).map_or(0, |samples| made(samples, rates.listener));
        of_broker.max(of_listener)
    }

    /// Takes in that a connection came from this address. Where these are too many, it does not count, neither there
    /// nor for the listener, and is to be closed after this many milliseconds.
    pub fn came_from(
        &mut self,
        address: IpAddr,
        allowed: &AddressRates,
        (listener, rates): (&str, Rates),
        now_ms: i64,
    ) -> i32 {
        let Some(rate) = allowed.rate(address) else { return 0 };
        self.addresses.forget_unused_since(now_ms - UNUSED_MS_MAX);
        if self.addresses.used(&address, now_ms).is_none() {
            self.addresses.insert(address, Samples::default(), size_of::<IpAddr>(), now_ms);
        }
        let Some(samples) = self.addresses.used(&address, now_ms) else { return 0 };
        let throttle_ms = record(samples, rate, self.windows, now_ms);
        if throttle_ms > 0 {
            samples.record(self.windows, -1.0, now_ms);
            if rates.broker.is_some() {
                self.broker.record(self.windows, -1.0, now_ms);
            }
            if let Some(samples) = self.listeners.get_mut(listener) {
                samples.record(self.windows, -1.0, now_ms);
            }
        }
        throttle_ms
    }
}

/// Counts one connection; how long to wait where it is one too many, which is never longer than a window.
fn record(samples: &mut Samples, rate: u32, windows: Windows, now_ms: i64) -> i32 {
    samples.record(windows, 1.0, now_ms);
    let throttle_ms = throttle::of_rate(samples, rate.into(), windows, now_ms);
    throttle_ms.min(i32::try_from(windows.length_ms).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOWS: Windows = Windows { count: 11, length_ms: 1_000 };
    const FREE: Rates = Rates { broker: Some(u32::MAX), listener: u32::MAX };
    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_listener_waits_and_others_do_not() {
        let mut made = ConnectionRates::new(WINDOWS);
        let slow = Rates { listener: 1, ..FREE };
        assert!((0..10).all(|_| made.made("SLOW", slow, 0) == 0));
        assert_eq!(made.made("SLOW", slow, 0), 1_000);
        assert_eq!(made.made("FAST", FREE, 0), 0);
    }

    #[test]
    fn all_listeners_together_have_a_rate_but_for_the_one_between_brokers() {
        let mut made = ConnectionRates::new(WINDOWS);
        let slow = Rates { broker: Some(1), listener: u32::MAX };
        assert!((0..10).all(|_| made.made("A", slow, 0) == 0));
        assert_eq!(made.made("B", slow, 0), 1_000);
        assert_eq!(made.made("BETWEEN", Rates { broker: None, ..slow }, 0), 0);
    }

    #[test]
    fn an_address_over_its_rate_does_not_count_for_its_listener() {
        let mut made = ConnectionRates::new(WINDOWS);
        let slow = Rates { broker: Some(2), listener: 2 };
        let allowed = AddressRates { of: HashMap::from([(HERE, 1)]), default: None };
        for _ in 0..10 {
            assert_eq!(made.made("L", slow, 0), 0);
            assert_eq!(made.came_from(HERE, &allowed, ("L", slow), 0), 0);
        }
        for _ in 0..100 {
            assert_eq!(made.made("L", slow, 0), 0);
            assert!(made.came_from(HERE, &allowed, ("L", slow), 0) > 0);
        }
        let other = "10.0.0.1".parse().expect("an address");
        assert_eq!(made.came_from(other, &allowed, ("L", slow), 0), 0);
    }
}
