//! Wires the share coordinator and the persister that asks it.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::groups::led;
use crate::api::peers::Peers;
use crate::api::{BrokerHandles, auto_create};
use crate::client::{Peer, PeerOptions};
use crate::clock::Clock;
use crate::config::group::duration_ms;
use crate::config::{BrokerConfig, GroupConfig};
use crate::log::compression::Compression;
use crate::log::{Isolation, LogManager};
use crate::metadata::image::{ConfigResource, ConfigValues, Delta};
use crate::metadata::{Image, ImageListener, Metadata};
use crate::share::manager::{ShareOptions, SharePartitionManager};
use crate::share::partition::Limits;
use crate::share::persister::{Brokers, Coordinator, Persister};
use crate::share::state::coordinator::{ShareCoordinator, Topics};
use crate::share::state::settings::ShareCoordinatorSettings;
use crate::share::{OffsetReset, ShareGroupConfigs, ShareGroupSettings, StateKeeper};
use crate::types::{NodeId, SHARE_GROUP_STATE_TOPIC};

/// The share coordinator, and what asks it.
pub(super) struct Shares {
    pub(super) coordinator: Arc<ShareCoordinator>,
    pub(super) persister: Arc<Persister>,
    pub(super) offset_peers: Peers,
    pub(super) brokers: Arc<OtherBrokers>,
    pub(super) partitions: Arc<SharePartitionManager>,
}

impl Shares {
    /// Makes a coordinator that follows the metadata.
    pub(super) fn new(
        clock: &Clock,
        logs: &Arc<LogManager>,
        metadata: &Arc<Metadata>,
        config: &Arc<BrokerConfig>,
        stopping: &CancellationToken,
    ) -> Self {
        let topics = Arc::new(KnownTopics(Arc::clone(metadata)));
        let coordinator = ShareCoordinator::new(clock.clone(), Arc::clone(logs), settings(config), topics);
        let followed =
            Arc::new(SharesFollowMetadata { node_id: config.node_id, shares: Arc::clone(&coordinator) });
        metadata.listen(Arc::clone(&followed) as Arc<dyn ImageListener>);
        followed.lead(&metadata.image());
        let offsets_client_id = format!("broker-{}-partition-metadata-client", config.node_id);
        let offset_peers = Peers::new(config, PeerOptions::new(&offsets_client_id, clock.clone()));
        let client_id = format!("broker-{}-share-state", config.node_id);
        let brokers = Arc::new(OtherBrokers {
            metadata: Arc::clone(metadata),
            peers: Peers::new(config, PeerOptions::new(&client_id, clock.clone())),
            handles: OnceLock::new(),
        });
        let persister = Persister::new(
            Arc::clone(&coordinator),
            Arc::clone(&brokers) as Arc<dyn Brokers>,
            clock.clone(),
            config.request_timeout_ms.into(),
        );
        let persister = Arc::new(persister);
        let configs = GroupConfigs::new(Arc::clone(metadata), Arc::clone(config));
        let partitions = SharePartitionManager::new(ShareOptions {
            keeper: Arc::clone(&persister) as Arc<dyn StateKeeper>,
            configs: Arc::new(configs),
            clock: clock.clone(),
            sessions_max: usize::try_from(config.group_share_max_share_sessions).unwrap_or(0),
            stopping: stopping.clone(),
        });
        Self { coordinator, persister, offset_peers, brokers, partitions }
    }
}

/// The other brokers, as the persister asks them.
pub(super) struct OtherBrokers {
    metadata: Arc<Metadata>,
    peers: Peers,
    /// This broker, once it is wired: it creates the topic.
    handles: OnceLock<Weak<BrokerHandles>>,
}

impl OtherBrokers {
    /// The topic is created by this broker from now on.
    pub(super) fn create_topics_with(&self, handles: &Arc<BrokerHandles>) {
        let _ = self.handles.set(Arc::downgrade(handles));
    }
}

impl Brokers for OtherBrokers {
    fn coordinator(&self, state_partition: i32) -> Coordinator {
        let image = self.metadata.image();
        let Some(topic) = image.topics.get(SHARE_GROUP_STATE_TOPIC) else { return Coordinator::NoTopic };
        let is_alive = |id: &NodeId| image.brokers.get(id).is_some_and(|broker| !broker.fenced);
        match topic.partition(state_partition).map(|partition| partition.leader).filter(is_alive) {
            Some(id) if id == self.metadata.node_id() => Coordinator::Here,
            Some(id) => Coordinator::Broker(id),
            None => Coordinator::Nobody,
        }
    }

    fn connection(&self, id: NodeId) -> Option<Arc<Peer>> {
        self.peers.to(&self.metadata.image(), id)
    }

    fn create_state_topic(&self) -> BoxFuture<'static, ()> {
        let handles = self.handles.get().and_then(Weak::upgrade);
        Box::pin(async move {
            if let Some(handles) = handles {
                // Why it could not be created is logged; who asked hears that there is no coordinator.
                let _ = auto_create::create(&handles, vec![SHARE_GROUP_STATE_TOPIC]).await;
            }
        })
    }

    fn has_topic(&self, topic_id: Uuid) -> bool {
        self.metadata.image().topics.by_id(topic_id).is_some()
    }
}

fn settings(config: &BrokerConfig) -> ShareCoordinatorSettings {
    let size = |limit: i32| usize::try_from(limit).unwrap_or(0);
    ShareCoordinatorSettings {
        state_partitions: config.share_coordinator_state_topic_num_partitions,
        updates_per_snapshot: config
            .share_coordinator_snapshot_update_records_per_snapshot
            .try_into()
            .unwrap_or(0),
        write_timeout_ms: config.share_coordinator_write_timeout_ms.into(),
        prune_interval_ms: config.share_coordinator_state_topic_prune_interval_ms.into(),
        cold_snapshot_interval_ms: config.share_coordinator_cold_partition_snapshot_interval_ms.into(),
        compression: i16::try_from(config.share_coordinator_state_topic_compression_codec)
            .ok()
            .and_then(Compression::from_id)
            .unwrap_or(Compression::None),
        load_buffer_bytes: size(config.share_coordinator_load_buffer_size),
    }
}

/// Values that are set for a group, and what they mean.
type Resolved = (Arc<ConfigValues>, ShareGroupSettings);

/// The configurations of groups in the metadata.
struct GroupConfigs {
    metadata: Arc<Metadata>,
    config: Arc<BrokerConfig>,
    /// Of a group for which nothing is set.
    unset: ShareGroupSettings,
    /// What was made of the values that were set for a group when it was asked about last.
    resolved: Mutex<HashMap<Box<str>, Resolved>>,
}

impl GroupConfigs {
    fn new(metadata: Arc<Metadata>, config: Arc<BrokerConfig>) -> Self {
        let unset = resolve(&ConfigValues::new(), &config).unwrap_or_default();
        Self { metadata, config, unset, resolved: Mutex::default() }
    }
}

impl ShareGroupConfigs for GroupConfigs {
    fn of(&self, group_id: &str) -> ShareGroupSettings {
        let image = self.metadata.image();
        let Some(values) = image.config(&ConfigResource::group(group_id)) else { return self.unset };
        if let Some((known, settings)) = self.resolved.lock().get(group_id)
            && Arc::ptr_eq(known, values)
        {
            return *settings;
        }
        // What does not hold on this broker is left out.
        let settings = resolve(values, &self.config).unwrap_or(self.unset);
        let mut resolved = self.resolved.lock();
        if resolved.len() == resolved.capacity() {
            // Groups for which nothing is set any more; looked for when the table would grow.
            resolved.retain(|id, _| image.config(&ConfigResource::group(&**id)).is_some());
        }
        resolved.insert(group_id.into(), (Arc::clone(values), settings));
        settings
    }
}

/// What the values that are set for a group mean here; `None` where they do not hold on this broker.
fn resolve(values: &ConfigValues, config: &BrokerConfig) -> Option<ShareGroupSettings> {
    let resolved = GroupConfig::resolve(values, config).ok()?;
    Some(ShareGroupSettings {
        limits: Limits {
            lock_duration_ms: resolved.share_record_lock_duration_ms.into(),
            delivery_count_max: i16::try_from(resolved.share_delivery_count_limit).unwrap_or(i16::MAX),
            in_flight_max: resolved.share_partition_max_record_locks.into(),
            renew_enabled: resolved.share_renew_acknowledge_enable,
        },
        isolation: if resolved.share_isolation_level == "read_committed" {
            Isolation::ReadCommitted
        } else {
            Isolation::ReadUncommitted
        },
        reset: offset_reset(&resolved.share_auto_offset_reset),
    })
}

/// Reads `latest`, `earliest`, or `by_duration:` with an ISO-8601 duration, which the configuration has checked.
fn offset_reset(text: &str) -> OffsetReset {
    if text.eq_ignore_ascii_case("earliest") {
        return OffsetReset::Earliest;
    }
    let duration = text.split_once(':').and_then(|(_, duration)| duration_ms(duration));
    duration.map_or(OffsetReset::Latest, OffsetReset::ByDuration)
}

/// The topics of the metadata.
struct KnownTopics(Arc<Metadata>);

impl Topics for KnownTopics {
    fn partition_count(&self, topic_id: Uuid) -> Option<i32> {
        let image = self.0.image();
        Some(image.topics.by_id(topic_id)?.partition_count())
    }
}

/// Tells the share coordinator of the topic that it keeps its state in, and of topics that are deleted.
struct SharesFollowMetadata {
    node_id: NodeId,
    shares: Arc<ShareCoordinator>,
}

impl SharesFollowMetadata {
    fn lead(&self, image: &Image) {
        if let Some(state) = led(image, SHARE_GROUP_STATE_TOPIC, self.node_id) {
            self.shares.lead(&state);
        }
    }
}

impl ImageListener for SharesFollowMetadata {
    fn on_image(&self, old: &Image, new: &Arc<Image>, delta: &Delta) {
        if delta.changed(new).any(|topic| &*topic.name == SHARE_GROUP_STATE_TOPIC) {
            self.lead(new);
        }
        let mut deleted = Vec::new();
        for topic in delta.deleted(old, new) {
            if &*topic.name == SHARE_GROUP_STATE_TOPIC {
                self.shares.resign();
            }
            deleted.push(topic.id);
        }
        if !deleted.is_empty() {
            let shares = Arc::clone(&self.shares);
            tokio::spawn(async move { shares.topics_deleted(deleted).await });
        }
    }
}
