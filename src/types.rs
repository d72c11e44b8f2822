//! The words that every module shares: names and numbers of Kafka's things.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

/// A position in a partition's log, counted in records from 0.
pub type Offset = i64;
/// Grows by one whenever a partition gets a new leader.
pub type LeaderEpoch = i32;
/// Identifies an idempotent or transactional producer.
pub type ProducerId = i64;
/// Fences older incarnations of a producer id.
pub type ProducerEpoch = i16;
/// Identifies a broker or a controller (`node.id`).
pub type NodeId = i32;
/// Milliseconds since the Unix epoch.
pub type TimestampMs = i64;

/// The topic that holds committed offsets and group metadata.
pub const CONSUMER_OFFSETS_TOPIC: &str = "__consumer_offsets";
/// The topic that holds the state of transactions.
pub const TRANSACTION_STATE_TOPIC: &str = "__transaction_state";
/// The topic that holds the state of share groups.
pub const SHARE_GROUP_STATE_TOPIC: &str = "__share_group_state";
/// The metadata log; its only partition is 0.
pub const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";
/// The topic id that Kafka reserves for the metadata log (`Uuid.METADATA_TOPIC_ID`).
pub const CLUSTER_METADATA_TOPIC_ID: Uuid = Uuid::from_u128(1);

/// Whether clients see this topic as internal (`Topic.isInternal`).
pub fn is_internal_topic(name: &str) -> bool {
    matches!(name, CONSUMER_OFFSETS_TOPIC | TRANSACTION_STATE_TOPIC | SHARE_GROUP_STATE_TOPIC)
}

/// A partition by the name of its topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A partition by the id of its topic: stable while the topic lives, new when it is created again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicIdPartition {
    pub topic_id: Uuid,
    pub partition: i32,
}

/// The number under which a partition's log is stored. Never used twice, so that what a deleted
/// topic left behind can not be mistaken for its successor's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionId(pub u32);

/// The partition of a coordinator's topic that a group or a transactional id belongs to: Java's `String.hashCode` (over
/// UTF-16), made positive as `Utils.abs` does, modulo the partitions.
pub fn coordinator_partition(id: &str, partitions: i32) -> i32 {
    let hash =
        id.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    hash.checked_abs().unwrap_or(0) % partitions
}

/// A UUID as Kafka prints it: 22 characters of URL-safe base64.
pub fn kafka_id(id: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(id.as_bytes())
}

/// Reads a UUID that [`kafka_id`] (or Kafka) printed; `None` where it is not one.
pub fn parse_kafka_id(text: &str) -> Option<Uuid> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    Uuid::from_slice(&bytes).ok()
}

/// A random UUID that Kafka accepts: never one of the reserved ones, and never starting with a
/// dash when printed, which command line tools would take for an option (`Uuid.randomUuid`).
pub fn random_kafka_id(random: &mut impl rand::Rng) -> Uuid {
    loop {
        let id = uuid::Builder::from_random_bytes(random.random()).into_uuid();
        if id.as_u128() > 100 && !kafka_id(id).starts_with('-') {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_printed_as_kafka_prints_them() {
        assert_eq!(kafka_id(CLUSTER_METADATA_TOPIC_ID), "AAAAAAAAAAAAAAAAAAAAAQ");
        let id = random_kafka_id(&mut rand::rng());
        assert_eq!(parse_kafka_id(&kafka_id(id)), Some(id));
        assert_eq!(parse_kafka_id("no id"), None);
    }
}
