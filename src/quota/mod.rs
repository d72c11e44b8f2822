//! Quotas: how much clients may send, fetch, ask and create, and how long they are held back when it is more (KIP-13,
//! KIP-55, KIP-124, KIP-219, KIP-599, KIP-612).
//!
//! | file | Kafka's class |
//! |---|---|
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
    addresses: RwLock<Arc<AddressRates>>,
}

impl Quotas {
    /// Without a quota. `windows` are those of `quota.window.*`, `mutation_windows` those of
    /// `controller.quota.window.*`.
    pub fn new(windows: Windows, mutation_windows: Windows) -> Self {
        Self { clients: ClientQuotas::new(windows, mutation_windows), addresses: RwLock::default() }
    }

    /// How fast addresses may make connections.
    pub fn addresses(&self) -> Arc<AddressRates> {
        Arc::clone(&self.addresses.read())
    }

    /// Replaces that.
    pub fn set_addresses(&self, rates: AddressRates) {
        *self.addresses.write() = Arc::new(rates);
    }
}
