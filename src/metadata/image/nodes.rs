//! Brokers and controllers.

use std::sync::Arc;

use uuid::Uuid;

use crate::metadata::record::{
    BrokerRegistrationChangeRecord, RecordEndpoint, RecordFeature, RegisterBrokerRecord,
    RegisterControllerRecord,
};
use crate::types::NodeId;

/// The directory of a replica that was placed before there were directory ids (`DirectoryId.MIGRATING`).
pub const MIGRATING: Uuid = Uuid::nil();
/// The directory of a replica whose broker has not chosen one yet (`DirectoryId.UNASSIGNED`).
pub const UNASSIGNED: Uuid = Uuid::from_u128(1);
/// The directory of a replica whose broker lost it (`DirectoryId.LOST`).
pub const LOST: Uuid = Uuid::from_u128(2);

/// Where a node is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The name of the listener.
    pub listener: Arc<str>,
    /// A host name or an address.
    pub host: Arc<str>,
    /// The TCP port.
    pub port: u16,
    /// 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
}

impl From<&RecordEndpoint> for Endpoint {
    fn from(record: &RecordEndpoint) -> Self {
        Self {
            listener: record.name.as_str().into(),
            host: record.host.as_str().into(),
            port: record.port,
            security_protocol: record.security_protocol,
        }
    }
}

impl From<&Endpoint> for RecordEndpoint {
    fn from(endpoint: &Endpoint) -> Self {
        Self {
            name: endpoint.listener.to_string(),
            host: endpoint.host.to_string(),
            port: endpoint.port,
            security_protocol: endpoint.security_protocol,
            ..Self::default()
        }
    }
}

/// The levels of a feature that a node supports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureRange {
    /// The feature, for instance `metadata.version`.
    pub name: Arc<str>,
    /// The lowest level.
    pub min: i16,
    /// The highest level.
    pub max: i16,
}

impl FeatureRange {
    /// Whether the node supports this level.
    pub fn contains(&self, level: i16) -> bool {
        (self.min..=self.max).contains(&level)
    }
}

impl From<&RecordFeature> for FeatureRange {
    fn from(record: &RecordFeature) -> Self {
        Self {
            name: record.name.as_str().into(),
            min: record.min_supported_version,
            max: record.max_supported_version,
        }
    }
}

impl From<&FeatureRange> for RecordFeature {
    fn from(range: &FeatureRange) -> Self {
        Self {
            name: range.name.to_string(),
            min_supported_version: range.min,
            max_supported_version: range.max,
            ..Self::default()
        }
    }
}

/// A registered broker (Kafka's `BrokerRegistration`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerImage {
    /// Its `node.id`.
    pub id: NodeId,
    /// Fences older lives of the same broker.
    pub epoch: i64,
    /// New in each life of the process.
    pub incarnation_id: Uuid,
    /// Where clients and other brokers reach it.
    pub endpoints: Vec<Endpoint>,
    /// What it supports.
    pub features: Vec<FeatureRange>,
    /// `broker.rack`.
    pub rack: Option<Arc<str>>,
    /// A fenced broker leads nothing and clients do not see it.
    pub fenced: bool,
    /// Whether it is going down and gives its leaderships away.
    pub in_controlled_shutdown: bool,
    /// Its data directories.
    pub log_dirs: Vec<Uuid>,
    /// The directories that take no new partitions; `None` until the broker told.
    pub cordoned_log_dirs: Option<Vec<Uuid>>,
}

impl BrokerImage {
    pub(super) fn new(record: &RegisterBrokerRecord) -> Self {
        Self {
            id: record.broker_id,
            epoch: record.broker_epoch,
            incarnation_id: record.incarnation_id,
            endpoints: record.end_points.iter().map(Endpoint::from).collect(),
            features: record.features.iter().map(FeatureRange::from).collect(),
            rack: record.rack.as_deref().map(Arc::from),
            fenced: record.fenced,
            in_controlled_shutdown: record.in_controlled_shutdown,
            log_dirs: record.log_dirs.clone(),
            cordoned_log_dirs: record.cordoned_log_dirs.clone(),
        }
    }

    /// The record that registers this broker as it is now.
    pub fn to_record(&self) -> RegisterBrokerRecord {
        RegisterBrokerRecord {
            broker_id: self.id,
            incarnation_id: self.incarnation_id,
            broker_epoch: self.epoch,
            end_points: self.endpoints.iter().map(RecordEndpoint::from).collect(),
            features: self.features.iter().map(RecordFeature::from).collect(),
            rack: self.rack.as_deref().map(str::to_owned),
            fenced: self.fenced,
            in_controlled_shutdown: self.in_controlled_shutdown,
            log_dirs: self.log_dirs.clone(),
            cordoned_log_dirs: self.cordoned_log_dirs.clone(),
            ..RegisterBrokerRecord::default()
        }
    }

    pub(super) fn change(&mut self, record: &BrokerRegistrationChangeRecord) {
        match record.fenced {
            1 => self.fenced = true,
            -1 => self.fenced = false,
            _ => {}
        }
        if record.in_controlled_shutdown == 1 {
            self.in_controlled_shutdown = true;
        }
        if !record.log_dirs.is_empty() {
            self.log_dirs.clone_from(&record.log_dirs);
        }
        if record.cordoned_log_dirs.is_some() {
            self.cordoned_log_dirs.clone_from(&record.cordoned_log_dirs);
        }
    }

    /// Whether it may lead partitions.
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }

    /// Where it is reached through this listener.
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| &*endpoint.listener == listener)
    }

    /// The directory that new replicas go to: the only one, or none in particular
    /// (`ClusterControlManager.defaultDir`).
    pub fn default_directory(&self) -> Uuid {
        match self.log_dirs.as_slice() {
            [] => MIGRATING,
            [only] => *only,
            _ => UNASSIGNED,
        }
    }

    /// Whether what is in this directory is there. Of a replica whose directory is not known yet, and of a broker that
    /// registered before directories were told, it is assumed (`DirectoryId.isOnline`).
    pub fn has_online_directory(&self, directory: Uuid) -> bool {
        match directory {
            MIGRATING | UNASSIGNED => true,
            LOST => false,
            other => self.log_dirs.is_empty() || self.log_dirs.contains(&other),
        }
    }

    /// Whether new replicas may go to this broker (KIP-1066).
    pub fn takes_replicas(&self) -> bool {
        let Some(cordoned) = &self.cordoned_log_dirs else { return true };
        self.log_dirs.is_empty() || self.log_dirs.iter().any(|directory| !cordoned.contains(directory))
    }
}

/// A registered controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerImage {
    /// Its `node.id`.
    pub id: NodeId,
    /// New in each life of the process.
    pub incarnation_id: Uuid,
    /// Where it is reached.
    pub endpoints: Vec<Endpoint>,
    /// What it supports.
    pub features: Vec<FeatureRange>,
}

impl ControllerImage {
    pub(super) fn new(record: &RegisterControllerRecord) -> Self {
        Self {
            id: record.controller_id,
            incarnation_id: record.incarnation_id,
            endpoints: record.end_points.iter().map(Endpoint::from).collect(),
            features: record.features.iter().map(FeatureRange::from).collect(),
        }
    }

    /// The record that registers this controller.
    pub fn to_record(&self) -> RegisterControllerRecord {
        RegisterControllerRecord {
            controller_id: self.id,
            incarnation_id: self.incarnation_id,
            end_points: self.endpoints.iter().map(RecordEndpoint::from).collect(),
            features: self.features.iter().map(RecordFeature::from).collect(),
            ..RegisterControllerRecord::default()
        }
    }
}
