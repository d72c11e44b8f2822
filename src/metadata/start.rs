//! How a node takes its place in the cluster: what it says of itself, and with which records a controller begins to
//! lead.

use bytes::Bytes;
use rand::rngs::StdRng;
use uuid::Uuid;

use super::active::Active;
use super::command::Registration;
use super::controller::{Context, Settings, SoftState, bootstrap, brokers, features};
use super::follow::Lead;
use super::handle::MetadataOptions;
use super::image::{Endpoint, Image};
use super::record::Record;
use crate::config::cluster::{Controllers, InitialController};
use crate::config::{BrokerConfig, TopicConfig};
use crate::error::{ApiError, ErrorCode, StorageError};
use crate::quorum::{
    BATCH_BYTES_MAX, Config, InitialVoters, ReplicaKey, Timing, VersionRange, Voter, VoterEndpoint, Voters,
    local_key,
};
use crate::storage::{Durability, Key, Ops, Store};
use crate::types::Offset;

/// What this node says of itself.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// New in each life of the process.
    pub(super) incarnation_id: Uuid,
    /// Where it is reached.
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) controller_endpoints: Vec<Endpoint>,
}

/// Which run of the operating system the data in a store are from, and with which epoch the broker was registered then.
/// What was written in this run is there as long as it lasts, however processes end.
#[derive(Clone, Debug)]
pub(super) struct Boot {
    id: Option<Bytes>,
    /// The epoch of the last registration, where everything is there that the broker answered for under it.
    kept_epoch: Option<i64>,
}

impl Boot {
    pub(super) fn read(store: &Store) -> Result<Self, StorageError> {
        let id = boot_id();
        let stored = store.get(&Key::BootId)?.unwrap_or_default();
        let (stored_id, epoch) =
            stored.split_at(stored.iter().position(|b| *b == b' ').unwrap_or(stored.len()));
        let kept = id.as_deref() == Some(stored_id);
        let epoch = std::str::from_utf8(epoch).ok().and_then(|epoch| epoch.trim().parse().ok());
        Ok(Self { id, kept_epoch: kept.then(|| epoch.unwrap_or(-1)) })
    }

    /// Whether everything is there that earlier lives of this broker have answered for.
    pub(super) fn kept_everything(&self) -> bool {
        self.kept_epoch.is_some()
    }

    /// The epoch under which it was registered last, where it has everything since then; otherwise -1.
    pub(super) fn previous_broker_epoch(&self) -> i64 {
        self.kept_epoch.unwrap_or(-1)
    }

    /// Remembers this run and the registration in it, once the cluster knows what was lost in the one before.
    pub(super) async fn remember(&self, store: &Store, broker_epoch: i64) -> Result<(), StorageError> {
        let Some(id) = &self.id else { return Ok(()) };
        let mut ops = Ops::new();
        ops.put(&Key::BootId, [id, format!(" {broker_epoch}").as_bytes()].concat());
        store.commit(ops, Durability::Process).await
    }
}

/// Names this run of the operating system. What was written in it is there as long as it runs, however processes end;
/// `None` where it can not be told.
fn boot_id() -> Option<Bytes> {
    std::fs::read("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim_ascii().to_vec().into())
}

/// The metadata log keeps everything, and every append is on the disk before it counts.
pub(super) fn log_config() -> Result<TopicConfig, StorageError> {
    let fixed = [
        ("cleanup.policy", "delete".to_owned()),
        ("retention.ms", "-1".to_owned()),
        ("retention.bytes", "-1".to_owned()),
        ("flush.messages", "1".to_owned()),
        ("max.message.bytes", BATCH_BYTES_MAX.to_string()),
    ];
    let overrides = fixed.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    TopicConfig::try_resolve(&overrides, &BrokerConfig::default())
        .map_err(|error| StorageError::Damaged(error.to_string()))
}

fn voter(options: &MetadataOptions) -> Voter {
    let endpoint = |endpoint: &Endpoint| VoterEndpoint {
        listener: endpoint.listener.to_string(),
        host: endpoint.host.to_string(),
        port: endpoint.port,
    };
    Voter {
        key: local_key(&options.store),
        endpoints: options.controller_endpoints.iter().map(endpoint).collect(),
        kraft_versions: VersionRange::SUPPORTED,
    }
}

/// A voter of a new cluster, of which the address is known.
fn initial_voter(controller: &InitialController, listener: &str) -> Voter {
    let InitialController { address, directory_id } = controller;
    let endpoint =
        VoterEndpoint { listener: listener.to_owned(), host: address.host.clone(), port: address.port };
    Voter {
        key: ReplicaKey { id: address.id, directory_id: *directory_id },
        endpoints: vec![endpoint],
        kraft_versions: VersionRange::SUPPORTED,
    }
}

/// How this node takes part in the quorum.
pub(super) fn quorum_config(options: &MetadataOptions) -> Config {
    let config = &options.config;
    let local = voter(options);
    let own = local.endpoints.first().map(|endpoint| endpoint.listener.clone());
    let listener = own.or_else(|| config.controller_listener_names.first().cloned()).unwrap_or_default();
    let bootstrap = config.quorum_bootstrap_servers();
    let (initial_voters, bootstrap) = match &options.controllers {
        Controllers::Fixed(voters) => {
            let addresses = voters.iter().map(|voter| (voter.id, voter.host.clone(), voter.port));
            (InitialVoters::Fixed(Voters::fixed(&listener, addresses)), Vec::new())
        }
        Controllers::Formatted(controllers) => {
            let voters = controllers.iter().map(|one| (one.address.id, initial_voter(one, &listener)));
            (InitialVoters::Formatted(Voters(voters.collect())), bootstrap)
        }
        Controllers::ThisNode => (InitialVoters::Formatted(Voters::only(local.clone())), bootstrap),
        Controllers::KnownBy(servers) => (InitialVoters::Unknown, servers.clone()),
    };
    let bytes = |configured: i32| usize::try_from(configured).unwrap_or_default();
    Config {
        local,
        can_vote: config.roles().controller,
        auto_join: config.controller_quorum_auto_join_enable,
        listener,
        bootstrap,
        initial_voters,
        timing: Timing {
            election_timeout_ms: config.controller_quorum_election_timeout_ms.into(),
            fetch_timeout_ms: config.controller_quorum_fetch_timeout_ms.into(),
            election_backoff_max_ms: config.controller_quorum_election_backoff_max_ms.into(),
            request_timeout_ms: config.controller_quorum_request_timeout_ms.into(),
            retry_backoff_ms: config.controller_quorum_retry_backoff_ms.into(),
            fetch_bytes_max: bytes(config.controller_quorum_fetch_max_bytes),
            fetch_snapshot_bytes_max: bytes(config.controller_quorum_fetch_snapshot_max_bytes),
            ..Timing::default()
        },
        seed: options.seed,
    }
}

/// Decisions that are made one on the other and written together.
struct Joining {
    image: Image,
    next_offset: Offset,
    records: Vec<Record>,
}

impl Joining {
    fn context<'a>(
        &'a self,
        settings: &'a Settings,
        random: &'a mut StdRng,
        soft: &'a mut SoftState,
        now_ms: i64,
    ) -> Context<'a> {
        Context { image: &self.image, next_offset: self.next_offset, settings, random, now_ms, soft }
    }

    fn take(&mut self, records: Vec<Record>) -> Result<(), ApiError> {
        for record in records {
            let unfit = |error: super::image::ImageError| {
                ApiError::with(ErrorCode::UnknownServerError, error.to_string())
            };
            self.image.apply(&record).map_err(unfit)?;
            self.records.push(record);
            self.next_offset += 1;
        }
        Ok(())
    }
}

/// The records with which this controller begins to lead: those that make the cluster if there is none, and its
/// registration, where the cluster does not have it. The broker of the only voter is taken in with them, so that one
/// write is enough.
pub(super) fn activate(
    active: &mut Active,
    lead: &Lead,
    soft: &mut SoftState,
    broker: Option<&Registration>,
) -> Result<Vec<Record>, ApiError> {
    let Active { settings, random, node, clock, store, .. } = active;
    let levels = store.properties().features.clone().unwrap_or_else(bootstrap::latest);
    let (settings, now_ms) = (&*settings, clock.steady_ms());
    let mut joining =
        Joining { image: lead.image.clone(), next_offset: lead.next_offset, records: Vec::new() };
    joining.take(features::activate(
        &lead.image,
        lead.in_transaction,
        &levels,
        settings.config.min_insync_replicas,
    ))?;
    let registered = lead.image.controllers.get(&settings.node_id);
    if registered.is_none_or(|controller| controller.incarnation_id != node.incarnation_id) {
        let controller = brokers::register_controller(
            &joining.context(settings, random, soft, now_ms),
            settings.node_id,
            node.incarnation_id,
            &node.controller_endpoints,
            &settings.features,
        );
        // Where the metadata.version is too old, there are no records of controllers.
        joining.take(controller.records)?;
    }
    if let Some(registration) = broker {
        let id = registration.broker_id;
        let registered =
            brokers::register(&mut joining.context(settings, random, soft, now_ms), registration);
        joining.take(registered.records)?;
        let epoch = registered.reply?;
        let unfenced = brokers::unfence(&joining.context(settings, random, soft, now_ms), id, epoch);
        joining.take(unfenced.records)?;
        unfenced.reply?;
        soft.heartbeats.in_process(id, epoch);
    }
    Ok(joining.records)
}
