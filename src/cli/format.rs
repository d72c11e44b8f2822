//! `klamm format`: what `kafka-storage.sh format` does for Apache Kafka, where a cluster needs it.

use uuid::Uuid;

use super::{FormatOptions, Settings};
use crate::config::cluster::{InitialController, VoterAddress, initial_controllers};
use crate::config::key::ConfigError;
use crate::metadata::controller::bootstrap::{self, FeatureLevels, Wishes};
use crate::types::{kafka_id, random_kafka_id};

/// What a directory is formatted with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formatting {
    pub cluster_id: String,
    pub node_id: i32,
    pub directory_id: Uuid,
    /// None where others bring the cluster about.
    pub initial_controllers: Vec<InitialController>,
    /// The features that the cluster begins with.
    pub features: FeatureLevels,
}

impl Settings {
    /// What `klamm format` writes for this node, with the rules of Kafka's tool.
    ///
    /// # Errors
    /// One sentence that says what does not fit together.
    pub fn formatting(&self, options: &FormatOptions) -> Result<Formatting, ConfigError> {
        let refuse = |text: String| Err(ConfigError(text));
        if !options.add_scram.is_empty() {
            return refuse(
                "--add-scram: this klamm has no access control, and so no SCRAM credentials".to_owned(),
            );
        }
        let node_id = self.broker.node_id;
        let is_controller = self.broker.roles().controller;
        let starts = options.standalone || options.initial_controllers.is_some();
        if starts && !self.broker.controller_quorum_voters.is_empty() {
            return refuse(
                "controller.quorum.voters fixes the voters: remove it, or format without --standalone and --initial-controllers".to_owned(),
            );
        }
        if starts && !is_controller {
            return refuse(
                "only a controller can be formatted with --standalone or --initial-controllers".to_owned(),
            );
        }
        if is_controller
            && !starts
            && !options.no_initial_controllers
            && self.broker.controller_quorum_voters.is_empty()
        {
            return refuse(
                "this is a controller without controller.quorum.voters: say --standalone, --initial-controllers or --no-initial-controllers".to_owned(),
            );
        }
        let random = &mut rand::rng();
        let cluster_id = match (&options.cluster_id, options.standalone) {
            (Some(id), _) => id.clone(),
            (None, true) => kafka_id(random_kafka_id(random)),
            (None, false) => return refuse("--cluster-id is needed, the same for all nodes".to_owned()),
        };
        let mut directory_id = random_kafka_id(random);
        let initial_controllers = match &options.initial_controllers {
            Some(text) => {
                let controllers = initial_controllers(text)?;
                let Some(own) = controllers.iter().find(|one| one.address.id == node_id) else {
                    return refuse(format!("--initial-controllers does not name this node, {node_id}"));
                };
                directory_id = own.directory_id;
                controllers
            }
            None if options.standalone => {
                vec![InitialController { address: self.own_controller(), directory_id }]
            }
            None => Vec::new(),
        };
        let features = bootstrap::levels(Wishes {
            release: options.release_version.as_deref(),
            features: &options.features,
            has_dynamic_quorum: self.broker.controller_quorum_voters.is_empty(),
        })
        .map_err(ConfigError)?;
        Ok(Formatting { cluster_id, node_id, directory_id, initial_controllers, features })
    }

    /// Where this node's controller is reached, as far as the configuration says it.
    fn own_controller(&self) -> VoterAddress {
        let own = self.listeners.iter().find(|listener| listener.kind.serves_controller());
        let (host, port) = own.map_or_else(Default::default, |listener| {
            listener.advertised.clone().unwrap_or_else(|| (listener.host.clone(), listener.port))
        });
        let host = if host.is_empty() || host == "0.0.0.0" { "localhost".to_owned() } else { host };
        VoterAddress { id: self.broker.node_id, host, port }
    }
}
