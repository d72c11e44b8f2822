//! Quotas: how much clients may send, fetch, ask and create, and how long they are held back when it is more (KIP-13,
//! KIP-55, KIP-124, KIP-219, KIP-599, KIP-612).
//!
//! | file | Kafka's class |
//! |---|---|
//! | `recent` | the expiry of `Sensor` in `Metrics` |
//! | [`rate`] | `SampledStat`, `Rate`, `Avg` |
//! | [`bucket`] | `TokenBucket` |
//! | [`throttle`] | `QuotaUtils` |
//! | [`limits`] | `ClientQuotaManager.DefaultQuotaCallback` |
//! | [`clients`] | `ClientQuotaManager`, `ClientRequestQuotaManager`, `ControllerMutationQuotaManager` |
//! | [`connections`] | the rates of `ConnectionQuotas` |
//!
//! Nothing in here waits or knows the time: it is told both. Who is over a quota is answered at once and then not
//! listened to for a while, which is up to the connection; the rate is measured on what was done, so that it is right in
//! the long run however large a single request was. Where no quota is set, asking whether there is one is all that
//! happens.

pub mod bucket;
pub mod clients;
pub mod connections;
pub mod limits;
pub mod rate;
mod recent;
pub mod throttle;

#[cfg(test)]
mod golden_tests;

use std::sync::Arc;

use parking_lot::RwLock;

pub use clients::{ClientQuotas, MutationQuota, Use};
use connections::AddressRates;
pub use limits::{Client, Entity, Limits, Name, QuotaKind};
pub use rate::Windows;

/// The quotas of a node.
#[derive(Debug)]
pub struct Quotas {
    /// Those of users and client ids.
    pub clients: ClientQuotas,
    addresses: RwLock<Addresses>,
}

#[derive(Debug, Default)]
struct Addresses {
    /// Rises with every change.
    version: u64,
    rates: Arc<AddressRates>,
}

impl Quotas {
    /// Without a quota. `windows` are those of `quota.window.*`, `mutation_windows` those of
    /// `controller.quota.window.*`.
    pub fn new(windows: Windows, mutation_windows: Windows) -> Self {
        Self { clients: ClientQuotas::new(windows, mutation_windows), addresses: RwLock::default() }
    }

    /// How fast addresses may make connections.
    pub fn addresses(&self) -> Arc<AddressRates> {
        Arc::clone(&self.addresses.read().rates)
    }

    /// Replaces that. The number stands for what holds from now on.
    pub fn set_addresses(&self, rates: AddressRates) -> u64 {
        let mut addresses = self.addresses.write();
        addresses.version += 1;
        addresses.rates = Arc::new(rates);
        addresses.version
    }

    /// Replaces what [`Quotas::set_addresses`] returned this number for, unless something else holds meanwhile.
    pub fn complete_addresses(&self, version: u64, rates: AddressRates) {
        let mut addresses = self.addresses.write();
        if addresses.version == version {
            addresses.rates = Arc::new(rates);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_found_late_do_not_replace_newer_quotas() {
        let quotas = Quotas::new(Windows::DEFAULT, Windows::DEFAULT);
        let rates = |rate| AddressRates { default: Some(rate), ..AddressRates::default() };
        let slow = quotas.set_addresses(rates(1));
        let second = quotas.set_addresses(rates(1));
        quotas.complete_addresses(slow, rates(7));
        assert_eq!(*quotas.addresses(), rates(1), "the same values, but set anew");
        quotas.complete_addresses(second, rates(2));
        assert_eq!(*quotas.addresses(), rates(2));
    }
}
