//! What can be asked of the controller, in its own words.

use std::sync::Arc;

use uuid::Uuid;

use super::image::{ClientQuotaEntity, ConfigResource, ConfigValues};
pub use crate::config::dynamic::ConfigOp;
use crate::error::{ApiError, ErrorCode};
use crate::types::{LeaderEpoch, NodeId, Offset};

/// A topic to create.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; -1 for the broker's default, and with manual assignments.
    pub partitions: i32,
    /// How many replicas each; -1 for the broker's default, and with manual assignments.
    pub replication_factor: i16,
    /// The replicas of each partition, where the caller wants to say; otherwise empty.
    pub assignments: Vec<(i32, Vec<NodeId>)>,
    /// What differs from the defaults; a null value is refused.
    pub configs: Vec<(String, Option<String>)>,
}

impl NewTopic {
    /// A topic with the broker's defaults.
    pub fn with_defaults(name: impl Into<String>) -> Self {
        Self { name: name.into(), partitions: -1, replication_factor: -1, ..Self::default() }
    }
}

/// A topic that was created, or would have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its new id.
    pub topic_id: Uuid,
    /// How many partitions it has.
    pub partitions: i32,
    /// How many replicas each has.
    pub replication_factor: i16,
}

/// Partitions to add to a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPartitions {
    /// The name of the topic.
    pub topic: String,
    /// How many partitions it shall have in the end.
    pub count: i32,
    /// The replicas of each new partition, where the caller wants to say.
    pub assignments: Option<Vec<Vec<NodeId>>>,
}

/// Changes of the quotas of one entity.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotaAlteration {
    /// Whom they are for.
    pub entity: ClientQuotaEntity,
    /// Each key with its new value, or without one to be removed.
    pub changes: Vec<(String, Option<f64>)>,
    /// Whether the name of an address is one, or that of a host which has one.
    pub has_address: bool,
}

/// How many partitions a request may create and delete (`ControllerRequestContext.applyPartitionChangeQuota`).
#[derive(Clone)]
pub struct PartitionQuota(Option<Arc<dyn Fn(usize) -> bool + Send + Sync>>);

impl PartitionQuota {
    /// No quota: everything may be done.
    pub const NONE: Self = Self(None);

    /// A quota that is asked before each change whether that may be.
    pub fn new(may_change: impl Fn(usize) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(may_change)))
    }

    /// Takes in that this many partitions are about to be created or deleted.
    ///
    /// # Errors
    /// THROTTLING_QUOTA_EXCEEDED where that is too many for now.
    pub fn take(&self, partitions: usize) -> Result<(), ApiError> {
        match &self.0 {
            Some(may_change) if !may_change(partitions) => {
                let text = "The throttling quota has been exceeded.";
                Err(ApiError::with(ErrorCode::ThrottlingQuotaExceeded, text))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Changes of single keys of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    /// What is changed.
    pub resource: ConfigResource,
    /// Each key at most once.
    pub changes: Vec<(String, ConfigOp)>,
}

/// A whole new configuration of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigReplacement {
    /// What is changed.
    pub resource: ConfigResource,
    /// Every key that is set afterwards.
    pub values: ConfigValues,
}

/// How a feature may be changed (`FeatureUpdate.UpgradeType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeType {
    /// A number that Kafka does not know.
    Unknown,
    /// Up only.
    Upgrade,
    /// Down, as long as nothing is lost.
    SafeDowngrade,
    /// Down, even if something is lost.
    UnsafeDowngrade,
}

/// A feature to finalise at another level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureUpdate {
    /// The feature.
    pub name: String,
    /// The level that is asked for.
    pub level: i16,
    /// How it may be reached.
    pub upgrade_type: UpgradeType,
}

/// A broker that makes itself known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Its `node.id`.
    pub broker_id: NodeId,
    /// The cluster that it belongs to.
    pub cluster_id: String,
    /// New in each life of the process.
    pub incarnation_id: Uuid,
    /// Where it is reached.
    pub endpoints: Vec<super::image::Endpoint>,
    /// What it supports.
    pub features: Vec<super::image::FeatureRange>,
    /// `broker.rack`.
    pub rack: Option<Arc<str>>,
    /// Its data directories.
    pub log_dirs: Vec<Uuid>,
    /// The epoch of its last life, if that one lost nothing of what it had; otherwise -1 (KIP-966).
    pub previous_broker_epoch: i64,
    /// Whether it stays leader of what only it has: the only node restarts, and has everything that its earlier lives
    /// have answered for.
    pub kept_everything: bool,
}

/// What a broker says every now and then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Its `node.id`.
    pub broker_id: NodeId,
    /// The epoch that its registration was answered with.
    pub broker_epoch: i64,
    /// The last record of the metadata that it has seen.
    pub metadata_offset: Offset,
    /// It does not want to lead yet.
    pub want_fence: bool,
    /// It wants to stop.
    pub want_shut_down: bool,
    /// Directories that have failed.
    pub offline_log_dirs: Vec<Uuid>,
    /// Directories that take no new partitions; `None` before the broker knows.
    pub cordoned_log_dirs: Option<Vec<Uuid>>,
}

/// What a broker is told when it sends a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatReply {
    /// It has seen its own registration.
    pub is_caught_up: bool,
    /// It may not lead.
    pub is_fenced: bool,
    /// It may stop now.
    pub should_shut_down: bool,
}

/// What the leader of a partition wants its ISR to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrChange {
    /// The topic.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: i32,
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// The epoch of the partition that the change is based on.
    pub partition_epoch: i32,
    /// The replicas, with the epochs of their brokers; -1 where that is not known (KIP-903).
    pub isr: Vec<(NodeId, i64)>,
    /// Whether the leader still recovers from an unclean election (KIP-704).
    pub recovering: bool,
}

/// A partition as it is after its leader asked for another ISR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlteredPartition {
    /// Its leader.
    pub leader: NodeId,
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// The replicas in sync.
    pub isr: Vec<NodeId>,
    /// Whether the leader still recovers.
    pub recovering: bool,
    /// The epoch of the partition.
    pub partition_epoch: i32,
}

/// How a leader is to be elected (`ElectionType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElectionType {
    /// The first replica, if it is in sync.
    Preferred,
    /// Any replica, where nobody in sync is left.
    Unclean,
}

/// A partition to reassign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassignment {
    /// The name of the topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Where its replicas shall be in the end; `None` takes the reassignment back that is under way.
    pub replicas: Option<Vec<NodeId>>,
}

/// Replicas that their broker has put into one of its directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The directory.
    pub directory: Uuid,
    /// The topic.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: i32,
}
