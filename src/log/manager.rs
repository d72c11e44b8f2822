//! All partitions of this broker.

use std::sync::Arc;

use uuid::Uuid;

use super::partition::Partition;
use crate::clock::Clock;
use crate::config::TopicConfig;
use crate::error::StorageError;
use crate::storage::Store;
use crate::types::PartitionId;

/// What holds for every log of a broker.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// `producer.id.expiration.ms`: how long the state of a silent producer is kept.
    pub producer_id_expiration_ms: i64,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { producer_id_expiration_ms: 86_400_000 }
    }
}

/// All partitions of this broker.
pub struct LogManager {}

impl LogManager {
    /// Reads what the store knows of every partition. Topics start with the default
    /// configuration until [`Self::set_config`] is called.
    ///
    /// # Errors
    /// When the store can not be read, or holds something unknown.
    pub fn open(_store: Store, _clock: Clock, _settings: LogSettings) -> Result<Arc<Self>, StorageError> {
        unimplemented!()
    }

    /// The partition of a topic, if this broker has it.
    pub fn get(&self, _topic_id: Uuid, _partition: i32) -> Option<Arc<Partition>> {
        unimplemented!()
    }

    /// Creates a partition, durably; answers the one that is there if it exists.
    ///
    /// # Errors
    /// When the store can not be written.
    pub fn create(
        &self,
        _topic: &str,
        _topic_id: Uuid,
        _partition: i32,
        _config: Arc<TopicConfig>,
    ) -> Result<Arc<Partition>, StorageError> {
        unimplemented!()
    }

    /// Creates several partitions of a topic in one write, durably; those that exist stay.
    ///
    /// # Errors
    /// When the store can not be written.
    pub fn create_many(
        &self,
        _topic: &str,
        _topic_id: Uuid,
        _partitions: &[i32],
        _config: Arc<TopicConfig>,
    ) -> Result<Vec<Arc<Partition>>, StorageError> {
        unimplemented!()
    }

    /// Forgets a topic and everything that it stored. Whoever waits for its partitions is woken.
    ///
    /// # Errors
    /// When the store can not be written.
    pub fn delete_topic(&self, _topic_id: Uuid) -> Result<(), StorageError> {
        unimplemented!()
    }

    /// Changes the configuration of a topic's partitions.
    pub fn set_config(&self, _topic_id: Uuid, _config: Arc<TopicConfig>) {
        unimplemented!()
    }

    /// Every partition.
    pub fn all(&self) -> Vec<Arc<Partition>> {
        unimplemented!()
    }

    /// Waits until the writer's queue has room. Called before [`Partition::append`], which does
    /// not wait.
    pub async fn admit(&self) {
        unimplemented!()
    }

    /// Removes records by time and size, and the state of silent producers, every `interval_ms`
    /// until it is dropped.
    pub async fn run_retention(self: Arc<Self>, _clock: Clock, _interval_ms: i64) {
        unimplemented!()
    }

    /// The store that the logs are in.
    pub fn store(&self) -> &Store {
        unimplemented!()
    }
}

/// Keeps the numbers of partitions.
impl std::fmt::Debug for LogManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogManager").field("first", &PartitionId(0)).finish()
    }
}
