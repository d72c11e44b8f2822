//! How the controller starts: reads the log, begins an epoch, makes the cluster if there is none, and takes this node
//! in as a controller and as a broker.

use std::sync::Arc;

use bytes::Bytes;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::active::{Active, blocking};
use super::command::Registration;
use super::controller::{Context, Settings, brokers, features};
use super::handle::{MetadataOptions, Shared};
use super::image::{Delta, Endpoint, Image};
use super::loader::Loader;
use super::publisher::Publisher;
use super::record::Record;
use crate::config::{BrokerConfig, TopicConfig};
use crate::error::{ApiError, ErrorCode, StorageError};
use crate::quorum::driver::{BATCH_BYTES_MAX, local_key};
use crate::quorum::{Quorum, QuorumOptions, Voter, VoterEndpoint};
use crate::storage::{Durability, Key, Ops};
use crate::types::{CLUSTER_METADATA_TOPIC, CLUSTER_METADATA_TOPIC_ID, Offset, random_kafka_id};

/// Starts the controller; everything that it wrote is committed then, and its head is the image to publish.
pub(super) async fn start(
    options: &MetadataOptions,
    settings: &Settings,
    shared: Arc<Shared>,
) -> Result<Active, StorageError> {
    let (logs, store) = (Arc::clone(&options.logs), options.store.clone());
    let (clock, voter) = (options.clock.clone(), voter(options));
    let opened = blocking(move || {
        let log =
            logs.create(CLUSTER_METADATA_TOPIC, CLUSTER_METADATA_TOPIC_ID, 0, Arc::new(log_config()?))?;
        let mut loader = Loader::new();
        let options = QuorumOptions { store, log, clock, voter };
        let (quorum, epoch_begun) = Quorum::open(options, |record| {
            let replayed = loader.replay(record.offset, record.epoch, record.value);
            replayed.map_err(|error| StorageError::Damaged(error.to_string()))
        })?;
        Ok((quorum, epoch_begun, loader))
    });
    let (quorum, epoch_begun, loader) = opened.await?;
    let (head, in_transaction) = loader.finish();
    let mut active = Active {
        quorum,
        head,
        delta: Delta::default(),
        random: StdRng::seed_from_u64(options.seed),
        settings: settings.clone(),
        publisher: Publisher { node_id: settings.node_id, logs: Arc::clone(&options.logs) },
        shared,
        clock: options.clock.clone(),
        behind: false,
    };
    let boot = boot_id();
    let kept_everything = boot.is_some() && options.store.get(&Key::BootId)? == boot;
    let records = join(&mut active, options, in_transaction, kept_everything)
        .map_err(|error| StorageError::Damaged(format!("the broker can not register: {error}")))?;
    // The epoch's first batch and what follows go to the store together.
    let mut appends = vec![epoch_begun];
    appends.extend(active.append(records).map_err(write_error)?.into_iter().map(|step| step.pending));
    for append in appends {
        active.quorum.commit(append).await.map_err(write_error)?;
    }
    if let Some(boot) = boot.filter(|_| !kept_everything) {
        let mut ops = Ops::new();
        ops.put(&Key::BootId, boot);
        options.store.commit(ops, Durability::Process).await?;
    }
    Ok(active)
}

fn write_error(error: ApiError) -> StorageError {
    StorageError::Write(format!("the metadata log: {error}"))
}

/// Names this run of the operating system. What was written in it is there as long as it runs, however processes end;
/// `None` where it can not be told.
fn boot_id() -> Option<Bytes> {
    std::fs::read("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim_ascii().to_vec().into())
}

/// The metadata log keeps everything, and every append is on the disk before it counts.
fn log_config() -> Result<TopicConfig, StorageError> {
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
    Voter { key: local_key(&options.store), endpoints: options.endpoints.iter().map(endpoint).collect() }
}

/// Decisions that are made one on the other and written together.
struct Joining {
    image: Image,
    next_offset: Offset,
    records: Vec<Record>,
}

impl Joining {
    fn context<'a>(&'a self, settings: &'a Settings, random: &'a mut StdRng) -> Context<'a> {
        Context { image: &self.image, next_offset: self.next_offset, settings, random }
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

/// The records with which this node takes its place: those that make the cluster if there is none, its registration as
/// a controller and as a broker, and its unfencing.
fn join(
    active: &mut Active,
    options: &MetadataOptions,
    in_transaction: bool,
    kept_everything: bool,
) -> Result<Vec<Record>, ApiError> {
    let Active { quorum, head, settings, random, .. } = active;
    let mut joining = Joining { image: head.clone(), next_offset: quorum.next_offset(), records: Vec::new() };
    joining.take(features::activate(head, in_transaction))?;
    let incarnation_id = random_kafka_id(random);
    let controller = brokers::register_controller(
        &joining.context(settings, random),
        incarnation_id,
        &options.endpoints,
        &settings.features,
    );
    joining.take(controller.records)?;
    let registration = Registration {
        broker_id: settings.node_id,
        cluster_id: settings.cluster_id.to_string(),
        incarnation_id,
        endpoints: options.endpoints.clone(),
        features: settings.features.clone(),
        rack: options.config.broker_rack.as_deref().map(Arc::from),
        log_dirs: vec![options.store.properties().directory_id],
        kept_everything,
    };
    let registered = brokers::register(&joining.context(settings, random), &registration);
    joining.take(registered.records)?;
    let epoch = registered.reply?;
    let unfenced = brokers::unfence(&joining.context(settings, random), settings.node_id, epoch);
    joining.take(unfenced.records)?;
    unfenced.reply?;
    Ok(joining.records)
}
