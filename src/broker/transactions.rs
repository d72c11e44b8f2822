//! Wires the transaction coordinator: where its markers go, where its producer ids come from, and what of the metadata
//! concerns it.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::groups::led;
use crate::api::init_producer_id::ProducerIds;
use crate::clock::Clock;
use crate::config::BrokerConfig;
use crate::error::ErrorCode;
use crate::group::coordinator::GroupCoordinator;
use crate::log::{LogManager, Marker, Ops, Origin};
use crate::metadata::image::{Delta, TRANSACTION_VERSION};
use crate::metadata::{Image, ImageListener, Metadata};
use crate::transaction::coordinator::{ProducerIdSource, TransactionCoordinator};
use crate::transaction::markers::{MarkerSink, WrittenMarker};
use crate::transaction::settings::TransactionSettings;
use crate::types::{CONSUMER_OFFSETS_TOPIC, NodeId, ProducerId, TRANSACTION_STATE_TOPIC, TopicPartition};

/// The transaction coordinator with what it needs.
pub(super) struct Transactions {
    pub(super) coordinator: Arc<TransactionCoordinator>,
    pub(super) markers: Arc<dyn MarkerSink>,
    pub(super) producer_ids: Arc<ProducerIds>,
}

impl Transactions {
    /// Makes a coordinator that follows the metadata.
    pub(super) fn new(
        clock: Clock,
        logs: &Arc<LogManager>,
        metadata: &Arc<Metadata>,
        groups: &Arc<GroupCoordinator>,
        config: &BrokerConfig,
    ) -> Self {
        let markers: Arc<dyn MarkerSink> = Arc::new(Partitions {
            metadata: Arc::clone(metadata),
            logs: Arc::clone(logs),
            groups: Arc::clone(groups),
        });
        let producer_ids = Arc::<ProducerIds>::default();
        let source = Source { metadata: Arc::clone(metadata), producer_ids: Arc::clone(&producer_ids) };
        let coordinator = TransactionCoordinator::new(
            clock,
            Arc::clone(logs),
            settings(config),
            Arc::clone(&markers),
            Arc::new(source),
        );
        let followed = Arc::new(TransactionsFollowMetadata {
            node_id: config.node_id,
            transactions: Arc::clone(&coordinator),
        });
        metadata.listen(Arc::clone(&followed) as Arc<dyn ImageListener>);
        followed.lead(&metadata.image());
        Self { coordinator, markers, producer_ids }
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

/// The partitions of this broker, as far as markers are written to them.
struct Partitions {
    metadata: Arc<Metadata>,
    logs: Arc<LogManager>,
    groups: Arc<GroupCoordinator>,
}

impl MarkerSink for Partitions {
    fn begin(&self, partition: &TopicPartition, marker: &Marker) -> Result<WrittenMarker, ErrorCode> {
        let image = self.metadata.image();
        let topic = image.topics.get(&partition.topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        topic.partition(partition.partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        if &*partition.topic == CONSUMER_OFFSETS_TOPIC {
            return Ok(Box::pin(self.groups.end_transaction(partition.partition, *marker)?));
        }
        let log = self.logs.get(topic.id, partition.partition).ok_or(ErrorCode::NotLeaderOrFollower)?;
        let pending = log.append_marker(marker, Origin::Internal, Ops::new()).map_err(|error| error.code)?;
        Ok(Box::pin(async move { pending.await.map(drop).map_err(|error| error.code) }))
    }
}

/// The broker's producer ids.
struct Source {
    metadata: Arc<Metadata>,
    producer_ids: Arc<ProducerIds>,
}

impl ProducerIdSource for Source {
    fn next(&self) -> BoxFuture<'static, Result<ProducerId, ErrorCode>> {
        let (metadata, producer_ids) = (Arc::clone(&self.metadata), Arc::clone(&self.producer_ids));
        Box::pin(async move { producer_ids.next(&metadata).await.map_err(|error| error.code) })
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
