//! Configuration: every key declared once, with Kafka's names, types, ranges and words.
//!
//! - [`key`]: what a key is, how values are read and checked, the `config_keys!` macro;
//! - [`broker`], [`topic`], [`group`]: the declarations and the typed structs;
//! - [`unsupported`]: Kafka's keys that klamm knows and does not act on, each with its reason;
//! - [`cluster`]: roles, voters and who talks to whom, as types;
//! - [`describe`]: what DescribeConfigs says; [`dynamic`]: what AlterConfigs may change;
//! - [`listener`]: listeners and advertised addresses as types;
//! - [`mod@file`]: `server.properties` and `KAFKA_*` environment variables;
//! - [`mod@reference`]: the tables of the README.

use std::collections::BTreeMap;
use std::sync::Arc;

pub mod broker;
pub mod cluster;
pub mod describe;
pub mod dynamic;
pub mod file;
pub mod group;
pub mod key;
pub mod listener;
pub mod reference;
pub mod topic;
pub mod unsupported;

pub use broker::BrokerConfig;
pub use group::{ClientMetricsConfig, GroupConfig};
pub use key::ConfigError;
pub use topic::TopicConfig;

/// The values that are set, by where they were set; of a key that is set in several places the
/// later field counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// By the file, the environment and the command line.
    pub statics: Arc<BTreeMap<String, String>>,
    /// For all brokers, while the cluster runs.
    pub cluster: Arc<BTreeMap<String, String>>,
    /// For this broker, while it runs.
    pub broker: Arc<BTreeMap<String, String>>,
    /// For one topic, group or metrics subscription.
    pub resource: BTreeMap<String, String>,
}

impl Layers {
    /// The value of a broker key, if it is set anywhere.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.broker.get(name).or_else(|| self.cluster.get(name));
        found.or_else(|| self.statics.get(name)).map(String::as_str)
    }

    /// Every broker key that is set, with the value that counts.
    pub fn effective(&self) -> BTreeMap<String, String> {
        let layers = [&self.statics, &self.cluster, &self.broker];
        layers.into_iter().flat_map(|layer| layer.iter()).map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// These layers below the values of one resource.
    pub fn for_resource(&self, overrides: &BTreeMap<String, String>) -> Self {
        Self { resource: overrides.clone(), ..self.clone() }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test")]
mod tests;
