//! Other brokers, as this one asks them by itself: who leads a partition where markers go, or who coordinates a
//! transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::client::{Address, Peer, PeerOptions};
use crate::config::BrokerConfig;
use crate::metadata::Image;
use crate::types::NodeId;

/// A connection to each other broker, made when it is needed. Who must not wait for others' requests has its own.
pub(crate) struct Peers {
    listener: String,
    options: PeerOptions,
    peers: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
}

impl Peers {
    /// None yet. Brokers are reached over the listener that they use among themselves.
    pub(crate) fn new(config: &BrokerConfig, options: PeerOptions) -> Self {
        let listener = config.inter_broker_listener_name.as_deref().unwrap_or("PLAINTEXT").to_owned();
        Self { listener, options, peers: Mutex::default() }
    }

    /// The connection to a broker; `None` where clients may not use it.
    pub(crate) fn to(&self, image: &Image, id: NodeId) -> Option<Arc<Peer>> {
        let broker = image.brokers.get(&id).filter(|broker| !broker.fenced);
        let endpoint = broker.and_then(|broker| {
            let named = broker.endpoints.iter().find(|e| e.listener.eq_ignore_ascii_case(&self.listener));
            named.or_else(|| broker.endpoints.first())
        });
        let mut peers = self.peers.lock();
        let Some(endpoint) = endpoint else {
            peers.remove(&id);
            return None;
        };
        let address = Address { host: Arc::clone(&endpoint.host), port: endpoint.port };
        match peers.get(&id).filter(|peer| *peer.address() == address) {
            Some(peer) => Some(Arc::clone(peer)),
            None => {
                let peer = Peer::new(address, self.options.clone());
                peers.insert(id, Arc::clone(&peer));
                Some(peer)
            }
        }
    }
}
