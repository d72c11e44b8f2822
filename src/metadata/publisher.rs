//! What an image means for this broker's logs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::image::{ConfigResource, Delta, Image, PartitionImage, ResourceType, TopicImage};
use crate::config::{BrokerConfig, TopicConfig};
use crate::error::StorageError;
use crate::log::{CleanerSettings, Following, Leading, LogManager, Partition};
use crate::types::{CLUSTER_METADATA_TOPIC_ID, NodeId};

/// Hears of every image that is published, in their order, once the logs follow it. It is called on the controller's
/// task and must not wait for anything.
pub trait ImageListener: Send + Sync {
    /// The image changed from `old` to `new`; `delta` says where to look.
    fn on_image(&self, old: &Image, new: &Arc<Image>, delta: &Delta);
}

/// Hears of this node's replicas around the moment in which their logs take the roles that an image says, before clients
/// see that image. Its calls may wait for the disk.
pub trait ReplicaListener: Send + Sync {
    /// The partitions of these topics are about to lead and to follow as the image says. Afterwards nothing is written
    /// to them that comes from a leader which is none any more.
    fn roles_change(&self, image: &Image, topics: &BTreeSet<Uuid>, config: &BrokerConfig);

    /// They do.
    fn roles_changed(&self, image: &Image, topics: &BTreeSet<Uuid>);
}

/// Makes the logs of one broker follow the image. Its calls wait for the store.
#[derive(Clone)]
pub(super) struct Publisher {
    pub(super) node_id: NodeId,
    /// This life of the node, as it registers as a broker.
    pub(super) incarnation_id: Uuid,
    pub(super) logs: Arc<LogManager>,
    /// Who fetches what this node follows; nobody where it is no broker.
    pub(super) replicas: Option<Arc<dyn ReplicaListener>>,
}

impl Publisher {
    /// Brings the logs in line with the image when the broker starts, whatever the last crash left behind.
    pub(super) fn reconcile(&self, image: &Image, config: &BrokerConfig) -> Result<(), StorageError> {
        self.logs.set_cleaner_settings(CleanerSettings::from(config));
        let held = self.logs.all().into_iter().map(|log| log.topic_id());
        let held: BTreeSet<Uuid> = held.filter(|id| *id != CLUSTER_METADATA_TOPIC_ID).collect();
        let known: BTreeSet<Uuid> = image.topics.iter().map(|topic| topic.id).collect();
        self.assign_all(image, &known, config)?;
        for topic in image.topics.iter() {
            self.logs.set_config(topic.id, Arc::new(topic_config(image, &topic.name, config)));
        }
        self.delete_unassigned(image, &known)?;
        held.difference(&known).try_for_each(|id| self.logs.delete_topic(*id))
    }

    /// What has to happen before clients see the image: the logs of what is new exist, and know their epoch.
    pub(super) fn before(
        &self,
        new: &Image,
        delta: &Delta,
        config: &BrokerConfig,
    ) -> Result<(), StorageError> {
        self.assign_all(new, delta.topics(), config)
    }

    /// Whether the image knows this life of the broker; a node that is none has nothing to register for. What an image
    /// says to an older life is not for this one, whose log may lack what that one had: it neither leads nor follows
    /// before the controller has taken it in.
    pub(super) fn is_registered(&self, image: &Image) -> bool {
        let known = image.brokers.get(&self.node_id);
        self.replicas.is_none() || known.is_some_and(|broker| broker.incarnation_id == self.incarnation_id)
    }

    /// Has the logs of these topics lead and follow as the image says.
    fn assign_all(
        &self,
        image: &Image,
        topics: &BTreeSet<Uuid>,
        config: &BrokerConfig,
    ) -> Result<(), StorageError> {
        if let Some(replicas) = &self.replicas {
            replicas.roles_change(image, topics, config);
        }
        let registered = self.is_registered(image);
        for topic in topics.iter().filter_map(|id| image.topics.by_id(*id)) {
            self.create_missing(image, topic, config)?;
            for (number, partition) in self.own(topic) {
                match self.logs.get(topic.id, number) {
                    Some(log) if registered => self.assign(&log, partition),
                    Some(log) => log.offline(),
                    None => {}
                }
            }
        }
        if let Some(replicas) = self.replicas.as_ref().filter(|_| registered) {
            replicas.roles_changed(image, topics);
        }
        Ok(())
    }

    /// Removes the logs of partitions that have no replica here any more.
    fn delete_unassigned(&self, image: &Image, topics: &BTreeSet<Uuid>) -> Result<(), StorageError> {
        let assigned = |topic: &TopicImage, number| {
            topic.partition(number).is_some_and(|partition| partition.replicas.contains(&self.node_id))
        };
        for topic in topics.iter().filter_map(|id| image.topics.by_id(*id)) {
            let mut gone = self.logs.partitions_of(topic.id);
            gone.retain(|number| !assigned(topic, *number));
            self.logs.delete_partitions(topic.id, &gone)?;
        }
        Ok(())
    }

    /// What may happen once clients see it: configurations change, and the logs of what is gone go.
    pub(super) fn after(
        &self,
        old: &Image,
        new: &Image,
        delta: &Delta,
        config: &BrokerConfig,
    ) -> Result<(), StorageError> {
        if delta.broker_config() {
            self.logs.set_cleaner_settings(CleanerSettings::from(config));
            // A topic without a value of its own takes the broker's.
            for topic in new.topics.iter() {
                self.logs.set_config(topic.id, Arc::new(topic_config(new, &topic.name, config)));
            }
        } else {
            let topics = delta.configs().filter(|resource| resource.kind == ResourceType::Topic);
            for topic in topics.filter_map(|resource| new.topics.get(&resource.name)) {
                self.logs.set_config(topic.id, Arc::new(topic_config(new, &topic.name, config)));
            }
        }
        self.delete_unassigned(new, delta.topics())?;
        delta.deleted(old, new).try_for_each(|topic| self.logs.delete_topic(topic.id))
    }

    fn create_missing(
        &self,
        image: &Image,
        topic: &TopicImage,
        config: &BrokerConfig,
    ) -> Result<(), StorageError> {
        let own = self.own(topic).map(|(number, _)| number);
        let missing: Vec<i32> = own.filter(|number| self.logs.get(topic.id, *number).is_none()).collect();
        if !missing.is_empty() {
            let config = Arc::new(topic_config(image, &topic.name, config));
            self.logs.create_many(&topic.name, topic.id, &missing, config)?;
        }
        Ok(())
    }

    /// The partitions that have a replica here.
    fn own<'a>(&self, topic: &'a TopicImage) -> impl Iterator<Item = (i32, &'a PartitionImage)> {
        let node_id = self.node_id;
        topic.partitions().filter(move |(_, partition)| partition.replicas.contains(&node_id))
    }

    /// Has the log lead or follow, as the image says.
    fn assign(&self, log: &Partition, partition: &PartitionImage) {
        let PartitionImage { leader, leader_epoch, partition_epoch, .. } = *partition;
        if leader == self.node_id {
            let (replicas, isr) = (partition.replicas.clone(), partition.isr.clone());
            let adding = partition.adding_replicas.clone();
            let node_id = self.node_id;
            log.lead(Leading { node_id, leader_epoch, partition_epoch, replicas, isr, adding });
        } else {
            let leader = Some(leader).filter(|leader| *leader >= 0);
            log.follow(Following { leader, leader_epoch, partition_epoch });
        }
    }
}

/// The configuration of a topic, whether or not it exists.
pub(super) fn topic_config(image: &Image, topic: &str, config: &BrokerConfig) -> TopicConfig {
    let none = BTreeMap::new();
    let overrides = image.config(&ConfigResource::topic(topic)).map_or(&none, |values| values);
    TopicConfig::resolve(overrides, config)
}

/// The configuration of a broker: the static one below what is set for the cluster and for the broker.
pub(super) fn broker_config(image: &Image, fixed: &BrokerConfig, node_id: NodeId) -> BrokerConfig {
    let none = BTreeMap::new();
    let values =
        |resource| image.config(&resource).map_or_else(|| none.clone(), |values| BTreeMap::clone(values));
    let (cluster, own) = (values(ConfigResource::cluster()), values(ConfigResource::broker(node_id)));
    fixed.with_dynamic(&cluster, &own).unwrap_or_else(|error| {
        // It was checked when it was set; a later version may have become stricter.
        tracing::warn!(%error, "the dynamic configuration of the broker does not hold any more and is left out");
        fixed.clone()
    })
}
