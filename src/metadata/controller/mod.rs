//! The controller: decides which records a command becomes.
//!
//! A decision takes the image as it will be once everything decided before is written, and gives records and a reply.
//! It changes nothing: the image changes when the records are replayed. There is no clock, no randomness of its own,
//! no storage and no waiting in here; one manager for each family of records, as in Kafka's `QuorumController`:
//!
//! | module | Kafka's class |
//! |---|---|
//! | [`topics`] | `ReplicationControlManager` |
//! | [`brokers`] | `ClusterControlManager` |
//! | [`heartbeats`] | `BrokerHeartbeatManager`, `BrokerHeartbeatTracker` |
//! | [`periodic`] | `PeriodicTaskControlManager` |
//! | [`partitions`], [`elections`], [`reassignments`] | `ReplicationControlManager`: what brokers and users ask |
//! | `leaders` | `ReplicationControlManager`: what brokers that come and go mean |
//! | `partition_change` | `PartitionChangeBuilder` |
//! | [`configs`] | `ConfigurationControlManager` |
//! | [`features`] | `FeatureControlManager`, `ActivationRecordsGenerator` |
//! | [`bootstrap`] | `BootstrapMetadata`, `Formatter`, `MetadataVersion` |
//! | [`quotas`] | `ClientQuotaControlManager` |
//! | [`producer_ids`] | `ProducerIdControlManager` |
//! | [`placement`] | `StripedReplicaPlacer` |

pub mod bootstrap;
pub mod brokers;
pub mod configs;
pub mod elections;
pub mod features;
pub mod heartbeats;
mod leaders;
mod partition_change;
pub mod partitions;
pub mod periodic;
pub mod placement;
pub mod producer_ids;
pub mod quotas;
pub mod reassignments;
pub mod topics;

use std::sync::Arc;

use rand::RngCore;

pub use heartbeats::Heartbeats;
pub use periodic::{SoftState, next_deadline_ms, tick};

use super::image::{FeatureRange, Image};
use super::record::Record;
use crate::config::BrokerConfig;
use crate::error::ApiError;
use crate::types::{NodeId, Offset};

/// How many records one request may become (`QuorumController.MAX_RECORDS_PER_USER_OP`).
pub const RECORDS_PER_REQUEST_MAX: usize = 10_000;

/// What the controller knows besides the image.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The `node.id` of the controller.
    pub node_id: NodeId,
    /// The cluster that brokers have to belong to.
    pub cluster_id: Arc<str>,
    /// The features that this version of klamm supports.
    pub features: Vec<FeatureRange>,
    /// The static configuration: defaults of new topics, bounds of dynamic values.
    pub config: Arc<BrokerConfig>,
}

/// What a decision may look at.
pub struct Context<'a> {
    /// Everything that was decided so far.
    pub image: &'a Image,
    /// The offset that the first record of the decision gets.
    pub next_offset: Offset,
    /// What stays the same.
    pub settings: &'a Settings,
    /// Where randomness comes from.
    pub random: &'a mut dyn RngCore,
    /// The steady clock, in milliseconds.
    pub now_ms: i64,
    /// What no log says.
    pub soft: &'a mut SoftState,
}

impl Context<'_> {
    /// The offset that a record gets which follows this many others of the decision.
    fn offset_after(&self, records: usize) -> Offset {
        self.next_offset + i64::try_from(records).unwrap_or(i64::MAX)
    }
}

/// What was decided. The reply may leave once the records are written and replayed.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<T> {
    /// The records, to be written in one batch.
    pub records: Vec<Record>,
    /// What the caller is told.
    pub reply: T,
}

impl<T> Decision<T> {
    /// Nothing changes.
    pub fn reply(reply: T) -> Self {
        Self { records: Vec::new(), reply }
    }
}

/// One result for each thing that was asked for, in the order of the request.
pub type Results<T> = Vec<Result<T, ApiError>>;

#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod replica_model_tests;
#[cfg(test)]
pub(crate) mod tests;
