//! The image: everything that the metadata log says, at one offset.
//!
//! An image does not change: who holds one sees one moment. Cloning one is cheap, as its maps share what they have in
//! common, so the controller decides on a clone that is ahead while everyone else reads the committed one.

mod delta;
mod kept;
mod nodes;
mod quotas;
mod topics;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use imbl::OrdMap;
use uuid::Uuid;

use crate::metadata::record::{ConfigRecord, FeatureLevelRecord, Record};
use crate::types::{NodeId, Offset, ProducerId};

pub use delta::Delta;
pub use kept::Kept;
pub use nodes::{BrokerImage, ControllerImage, Endpoint, FeatureRange, LOST, MIGRATING, UNASSIGNED};
pub use quotas::{ClientQuotaEntity, ClientQuotas, record_entity};
pub use topics::{NO_LEADER, PartitionImage, TopicImage, Topics};

/// The feature that says which metadata records may be written.
pub const METADATA_VERSION: &str = "metadata.version";
/// The feature that says which protocol transactions use (KIP-890).
pub const TRANSACTION_VERSION: &str = "transaction.version";
/// The feature that says how the quorum's voters are kept (KIP-853). It is no feature record but a control record.
pub const KRAFT_VERSION: &str = "kraft.version";

/// Why a record can not be applied: the log and the image do not fit each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// A topic of this name or id exists already.
    #[error("topic {name} ({id}) exists already")]
    TopicTwice {
        /// Its name.
        name: String,
        /// Its id.
        id: Uuid,
    },
    /// No topic has this id.
    #[error("no topic has the id {0}")]
    NoTopic(Uuid),
    /// The topic has no such partition.
    #[error("topic {topic_id} has no partition {partition}")]
    NoPartition {
        /// The topic.
        topic_id: Uuid,
        /// The partition.
        partition: i32,
    },
    /// The broker is not registered, or with another epoch.
    #[error("broker {id} is not registered with epoch {epoch}")]
    NoBroker {
        /// The broker.
        id: NodeId,
        /// The epoch that the record has.
        epoch: i64,
    },
}

/// What a configuration belongs to (`ConfigResource.Type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceType {
    /// A topic.
    Topic,
    /// A broker, or all of them where the name is empty.
    Broker,
    /// The log levels of a broker.
    BrokerLogger,
    /// A subscription to the metrics of clients.
    ClientMetrics,
    /// A group.
    Group,
}

impl ResourceType {
    /// The number on the wire and in records.
    pub fn id(self) -> i8 {
        match self {
            Self::Topic => 2,
            Self::Broker => 4,
            Self::BrokerLogger => 8,
            Self::ClientMetrics => 16,
            Self::Group => 32,
        }
    }

    /// The type of this number.
    pub fn from_id(id: i8) -> Option<Self> {
        let all = [Self::Topic, Self::Broker, Self::BrokerLogger, Self::ClientMetrics, Self::Group];
        all.into_iter().find(|kind| kind.id() == id)
    }
}

/// Something that has a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConfigResource {
    /// What it is.
    pub kind: ResourceType,
    /// Which one.
    pub name: Arc<str>,
}

impl ConfigResource {
    /// A resource by type and name.
    pub fn new(kind: ResourceType, name: impl Into<Arc<str>>) -> Self {
        Self { kind, name: name.into() }
    }

    /// A topic.
    pub fn topic(name: impl Into<Arc<str>>) -> Self {
        Self::new(ResourceType::Topic, name)
    }

    /// A group.
    pub fn group(name: impl Into<Arc<str>>) -> Self {
        Self::new(ResourceType::Group, name)
    }

    /// One broker.
    pub fn broker(id: NodeId) -> Self {
        Self::new(ResourceType::Broker, id.to_string())
    }

    /// What all brokers have in common.
    pub fn cluster() -> Self {
        Self::new(ResourceType::Broker, "")
    }
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} '{}'", self.kind, self.name)
    }
}

/// The values that are set for one resource.
pub type ConfigValues = BTreeMap<String, String>;

/// Everything that the metadata log says, at one offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The offset of the last record in it; -1 before the first.
    pub offset: Offset,
    /// The quorum's epoch of that record.
    pub epoch: i32,
    /// The topics.
    pub topics: Topics,
    /// The registered brokers.
    pub brokers: OrdMap<NodeId, Arc<BrokerImage>>,
    /// The registered controllers.
    pub controllers: OrdMap<NodeId, Arc<ControllerImage>>,
    /// Every producer id below this one is given out.
    pub next_producer_id: ProducerId,
    /// The quotas of clients.
    pub quotas: ClientQuotas,
    /// What is kept for others.
    pub kept: Kept,
    features: OrdMap<Arc<str>, i16>,
    configs: OrdMap<ConfigResource, Arc<ConfigValues>>,
}

impl Image {
    /// The image of an empty log.
    pub fn empty() -> Self {
        Self { offset: -1, ..Self::default() }
    }

    /// The finalised `metadata.version`, or `None` before the first start wrote it.
    pub fn metadata_version(&self) -> Option<i16> {
        self.features.get(METADATA_VERSION).copied()
    }

    /// The level at which a feature is finalised; 0 where it is not.
    pub fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// The finalised features, `metadata.version` among them, in the order of their names.
    pub fn features(&self) -> impl Iterator<Item = (&str, i16)> {
        self.features.iter().map(|(name, level)| (&**name, *level))
    }

    /// What is set for a resource; `None` where nothing is.
    pub fn config(&self, resource: &ConfigResource) -> Option<&Arc<ConfigValues>> {
        self.configs.get(resource)
    }

    /// Every resource for which something is set.
    pub fn configs(&self) -> impl Iterator<Item = (&ConfigResource, &Arc<ConfigValues>)> {
        self.configs.iter()
    }

    /// A broker that may lead partitions.
    pub fn active_broker(&self, id: NodeId) -> Option<&Arc<BrokerImage>> {
        self.brokers.get(&id).filter(|broker| broker.is_active())
    }

    /// Takes in the next record.
    ///
    /// # Errors
    /// Where the record names what is not there: the log is damaged, or not the one that this image is of.
    pub fn apply(&mut self, record: &Record) -> Result<(), ImageError> {
        match record {
            Record::RegisterBroker(record) => {
                self.brokers.insert(record.broker_id, Arc::new(BrokerImage::new(record)));
            }
            Record::UnregisterBroker(record) => {
                self.broker_mut(record.broker_id, record.broker_epoch)?;
                self.brokers.remove(&record.broker_id);
            }
            Record::BrokerRegistrationChange(record) => {
                self.broker_mut(record.broker_id, record.broker_epoch)?.change(record);
            }
            Record::FenceBroker(record) => self.broker_mut(record.id, record.epoch)?.fenced = true,
            Record::UnfenceBroker(record) => self.broker_mut(record.id, record.epoch)?.fenced = false,
            Record::RegisterController(record) => {
                self.controllers.insert(record.controller_id, Arc::new(ControllerImage::new(record)));
            }
            Record::Topic(record) => self.topics.add(&record.name, record.topic_id)?,
            Record::Partition(record) => self.topics.add_partition(record)?,
            Record::PartitionChange(record) => self.topics.change_partition(record)?,
            Record::RemoveTopic(record) => {
                let name = self.topics.remove(record.topic_id)?;
                self.configs.remove(&ConfigResource::topic(name));
            }
            Record::ClearElr(record) => self.topics.clear_elr(&record.topic_name),
            Record::Config(record) => self.apply_config(record),
            Record::FeatureLevel(record) => self.apply_feature(record),
            Record::ProducerIds(record) => self.next_producer_id = record.next_producer_id,
            Record::ClientQuota(record) => self.quotas.apply(record),
            Record::AccessControlEntry(record) => self.kept.add_acl(record),
            Record::RemoveAccessControlEntry(record) => self.kept.remove_acl(record.id),
            Record::UserScramCredential(record) => self.kept.set_credential(record),
            Record::RemoveUserScramCredential(record) => {
                self.kept.remove_credential(record.mechanism, &record.name);
            }
            Record::DelegationToken(record) => self.kept.set_token(record),
            Record::RemoveDelegationToken(record) => self.kept.remove_token(&record.token_id),
            Record::NoOp(_)
            | Record::ZkMigrationState(_)
            | Record::BeginTransaction(_)
            | Record::EndTransaction(_)
            | Record::AbortTransaction(_) => {}
        }
        Ok(())
    }

    fn broker_mut(&mut self, id: NodeId, epoch: i64) -> Result<&mut BrokerImage, ImageError> {
        match self.brokers.get_mut(&id) {
            Some(broker) if broker.epoch == epoch => Ok(Arc::make_mut(broker)),
            Some(_) | None => Err(ImageError::NoBroker { id, epoch }),
        }
    }

    fn apply_config(&mut self, record: &ConfigRecord) {
        // What a later version of Kafka may have written about a resource that we do not know changes nothing here.
        let Some(kind) = ResourceType::from_id(record.resource_type) else { return };
        let resource = ConfigResource::new(kind, record.resource_name.as_str());
        let values = Arc::make_mut(self.configs.entry(resource.clone()).or_default());
        match &record.value {
            Some(value) => values.insert(record.name.clone(), value.clone()),
            None => values.remove(&record.name),
        };
        if values.is_empty() {
            self.configs.remove(&resource);
        }
    }

    fn apply_feature(&mut self, record: &FeatureLevelRecord) {
        // `kraft.version` is a control record; KAFKA-18979 tells of feature records for it in real logs.
        if record.name == KRAFT_VERSION {
            return;
        }
        if record.feature_level == 0 {
            self.features.remove(record.name.as_str());
        } else {
            self.features.insert(record.name.as_str().into(), record.feature_level);
        }
    }
}

#[cfg(test)]
mod tests;
