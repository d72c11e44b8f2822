//! Wires the transaction coordinator: where its markers go, where its producer ids come from, and what of the metadata
//! concerns it.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::groups::led;
use crate::api::init_producer_id::ProducerIds;
use crate::api::markers::{AllPartitions, OwnPartitions};
use crate::api::peers::Peers;
use crate::api::verification::Verifier;
use crate::client::{ControllerChannel, PeerOptions};
use crate::clock::Clock;
use crate::config::BrokerConfig;
use crate::error::ErrorCode;
use crate::group::coordinator::GroupCoordinator;
use crate::log::LogManager;
use crate::metadata::image::{Delta, TRANSACTION_VERSION};
use crate::metadata::{Image, ImageListener, Metadata};
use crate::transaction::coordinator::{ProducerIdSource, TransactionCoordinator};
use crate::transaction::settings::TransactionSettings;
use crate::types::{NodeId, ProducerId, TRANSACTION_STATE_TOPIC};

/// The transaction coordinator with what it needs.
pub(super) struct Transactions {
    pub(super) coordinator: Arc<TransactionCoordinator>,
    pub(super) markers: Arc<OwnPartitions>,
    pub(super) verifier: Verifier,
    pub(super) producer_ids: Arc<ProducerIds>,
}

impl Transactions {
    /// Makes a coordinator that follows the metadata.
    pub(super) fn new(
        clock: &Clock,
        logs: &Arc<LogManager>,
        metadata: &Arc<Metadata>,
        groups: &Arc<GroupCoordinator>,
        controller: &Arc<ControllerChannel>,
        config: &BrokerConfig,
    ) -> Self {
        let markers = Arc::new(OwnPartitions {
            metadata: Arc::clone(metadata),
            logs: Arc::clone(logs),
            groups: Arc::clone(groups),
        });
        let peers = |purpose: &str| {
            let client_id = format!("broker-{}-{purpose}", config.node_id);
            Peers::new(config, PeerOptions::new(&client_id, clock.clone()))
        };
        let timeout_ms = i64::from(config.request_timeout_ms);
        let all = AllPartitions::new(Arc::clone(&markers), peers("txn-marker-sender"), timeout_ms);
        let producer_ids = ProducerIds::new(metadata, controller);
        let source = Source(Arc::clone(&producer_ids));
        let coordinator = TransactionCoordinator::new(
            clock.clone(),
            Arc::clone(logs),
            settings(config),
            Arc::new(all),
            Arc::new(source),
        );
        let verifier =
            Verifier::new(metadata, &coordinator, clock.clone(), config, peers("add-partitions-to-txn"));
        let followed = Arc::new(TransactionsFollowMetadata {
            node_id: config.node_id,
            transactions: Arc::clone(&coordinator),
        });
        metadata.listen(Arc::clone(&followed) as Arc<dyn ImageListener>);
        followed.lead(&metadata.image());
        Self { coordinator, markers, verifier, producer_ids }
    }
}

fn settings(config: &BrokerConfig) -> TransactionSettings {
    TransactionSettings {
        max_timeout_ms: config.transaction_max_timeout_ms,
        expiration_ms: config.transactional_id_expiration_ms.into(),
        timed_out_interval_ms: config.transaction_abort_timed_out_transaction_cleanup_interval_ms.into(),
        expired_interval_ms: config.transaction_remove_expired_transaction_cleanup_interval_ms.into(),
        write_timeout_ms: TransactionSettings::default().write_timeout_ms,
        state_partitions: config.transaction_state_log_num_partitions,
        retry_max_ms: config.add_partitions_to_txn_retry_backoff_max_ms.into(),
        retry_ms: config.add_partitions_to_txn_retry_backoff_ms.into(),
    }
}

/// The broker's producer ids.
struct Source(Arc<ProducerIds>);

impl ProducerIdSource for Source {
    fn next(&self) -> BoxFuture<'static, Result<ProducerId, ErrorCode>> {
        let producer_ids = Arc::clone(&self.0);
        Box::pin(async move { producer_ids.next().await })
    }
}

/// Tells the transaction coordinator of the topic that it keeps its state in, and of the level that the cluster works
/// at.
struct TransactionsFollowMetadata {
    node_id: NodeId,
    transactions: Arc<TransactionCoordinator>,
}

impl TransactionsFollowMetadata {
    fn lead(&self, image: &Image) {
        self.transactions.set_version(image.feature(TRANSACTION_VERSION));
        if let Some(state) = led(image, TRANSACTION_STATE_TOPIC, self.node_id) {
            self.transactions.lead(&state);
        }
    }
}

impl ImageListener for TransactionsFollowMetadata {
    fn on_image(&self, old: &Image, new: &Arc<Image>, delta: &Delta) {
        self.transactions.set_version(new.feature(TRANSACTION_VERSION));
        if delta.changed(new).any(|topic| &*topic.name == TRANSACTION_STATE_TOPIC) {
            self.lead(new);
        }
        if delta.deleted(old, new).any(|topic| &*topic.name == TRANSACTION_STATE_TOPIC) {
            self.transactions.resign();
        }
    }
}
