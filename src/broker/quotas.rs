//! The quotas of this node, which follow the metadata (`ClientQuotaMetadataManager`).

use std::net::IpAddr;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::config::BrokerConfig;
use crate::metadata::image::{ClientQuotaEntity, ClientQuotas, Delta};
use crate::metadata::{Image, ImageListener, Metadata};
use crate::net::admission::ConnectionQuota;
use crate::quota::connections::AddressRates;
use crate::quota::{Entity, Limits, Name, QuotaKind, Quotas, Windows};
use crate::types::Offset;

/// The key of an address's quota.
const CONNECTION_CREATION_RATE: &str = "connection_creation_rate";

/// Opens the quotas, which follow the metadata from now on.
pub(super) fn open(metadata: &Metadata, config: &BrokerConfig) -> Arc<Quotas> {
    let quotas = Arc::new(Quotas::new(
        Windows::new(config.quota_window_num, config.quota_window_size_seconds),
        Windows::new(config.controller_quota_window_num, config.controller_quota_window_size_seconds),
    ));
    let followed = Arc::new(Followed { quotas: Arc::clone(&quotas), offset: Mutex::new(Offset::MIN) });
    // What changes between the two is heard of in any case.
    metadata.listen(Arc::clone(&followed) as Arc<dyn ImageListener>);
    followed.follow(&metadata.image());
    quotas
}

/// Tells the quotas what is set.
struct Followed {
    quotas: Arc<Quotas>,
    /// Of the newest image that was followed: an older one may come late.
    offset: Mutex<Offset>,
}

impl Followed {
    fn follow(&self, image: &Image) {
        let mut offset = self.offset.lock();
        if image.offset > *offset {
            *offset = image.offset;
            follow(&self.quotas, &image.quotas);
        }
    }
}

impl ImageListener for Followed {
    fn on_image(&self, _: &Image, new: &Arc<Image>, delta: &Delta) {
        if delta.quotas() {
            self.follow(new);
        }
    }
}

/// Closes connections that are too many when the configuration allows fewer.
pub(super) struct Connections {
    metadata: Weak<Metadata>,
    quota: Arc<ConnectionQuota>,
}

impl Connections {
    /// Of the listeners that share this quota.
    pub(super) fn new(metadata: &Arc<Metadata>, quota: Arc<ConnectionQuota>) -> Self {
        Self { metadata: Arc::downgrade(metadata), quota }
    }
}

impl ImageListener for Connections {
    fn on_image(&self, _: &Image, _: &Arc<Image>, delta: &Delta) {
        if let Some(metadata) = self.metadata.upgrade().filter(|_| delta.broker_config()) {
            let connections_max = metadata.broker_config().max_connections;
            self.quota.close_excess(usize::try_from(connections_max).unwrap_or(0));
        }
    }
}

fn follow(quotas: &Arc<Quotas>, image: &ClientQuotas) {
    for kind in QuotaKind::ALL {
        quotas.clients.set_limits(kind, limits(image, kind));
    }
    let (rates, names) = address_rates(image);
    let version = quotas.set_addresses(rates.clone());
    if !names.is_empty() {
        tokio::spawn(look_up(Arc::clone(quotas), version, rates, names));
    }
}

fn limits(image: &ClientQuotas, kind: QuotaKind) -> Limits {
    let mut limits = Limits::default();
    for (entity, mut values) in image.iter() {
        let quota = values.find(|(key, _)| QuotaKind::of_key(key) == Some(kind));
        if let Some((_, quota)) = quota.filter(|_| !entity.contains_key("ip")) {
            limits.insert(client(entity), quota);
        }
    }
    limits
}

fn client(entity: &ClientQuotaEntity) -> Entity {
    let name = |kind| entity.get(kind).map(|name| Name::from(name.as_deref()));
    Entity { user: name("user"), client_id: name("client-id") }
}

/// The quotas of addresses, and those of hosts whose addresses have to be looked up.
fn address_rates(image: &ClientQuotas) -> (AddressRates, Vec<(String, u32)>) {
    let (mut rates, mut names) = (AddressRates::default(), Vec::new());
    for (entity, mut values) in image.iter() {
        let rate = values.find(|(key, _)| *key == CONNECTION_CREATION_RATE);
        let (Some(name), Some((_, rate))) = (entity.get("ip"), rate) else { continue };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is positive and an INT"
        )]
        let rate = rate as u32;
        match name.as_ref().map(|name| (name, name.parse::<IpAddr>())) {
            None => rates.default = Some(rate),
            Some((_, Ok(address))) => drop(rates.of.insert(address.to_canonical(), rate)),
            Some((name, Err(_))) => names.push((name.clone(), rate)),
        }
    }
    (rates, names)
}

/// Adds the addresses of hosts, unless other quotas hold meanwhile.
async fn look_up(quotas: Arc<Quotas>, version: u64, mut rates: AddressRates, names: Vec<(String, u32)>) {
    for (name, rate) in names {
        match tokio::net::lookup_host((name.as_str(), 0)).await {
            // What is set for an address holds for it, whatever its names are.
            Ok(mut addresses) => {
                let address = addresses.next().map(|address| address.ip().to_canonical());
                address.map(|address| *rates.of.entry(address).or_insert(rate));
            }
            Err(error) => tracing::warn!(host = name, %error, "the host of a quota has no address"),
        }
    }
    quotas.complete_addresses(version, rates);
}
