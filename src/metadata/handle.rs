//! What the rest of the broker holds of the metadata.

use std::ops::Range;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::info;
use uuid::Uuid;

use super::active::{Active, Answer, Command, Job};
use super::command::{
    ConfigChange, ConfigReplacement, CreatedTopic, FeatureUpdate, NewPartitions, NewTopic, PartitionQuota,
    Registration,
};
use super::controller::{
    Context, Decision, RECORDS_PER_REQUEST_MAX, Results, Settings, configs, features, producer_ids, topics,
};
use super::follow::{First, Follow, Progress, blocking};
use super::image::{Delta, Endpoint, Image, KRAFT_VERSION};
use super::loader::Loader;
use super::publisher::{ImageListener, Publisher, ReplicaListener, topic_config};
use super::snapshot::Due;
use super::start::{Boot, Node, log_config, quorum_config};
use super::status::{Counters, Status};
use crate::client::ActiveController;
use crate::clock::Clock;
use crate::config::cluster::Controllers;
use crate::config::{BrokerConfig, TopicConfig};
use crate::error::{ApiError, ErrorCode, StorageError};
use crate::log::LogManager;
use crate::quorum::message::{self, UpgradeRequest};
use crate::quorum::{Quorum, QuorumEvent, QuorumOptions, local_key};
use crate::storage::Store;
use crate::types::{
    CLUSTER_METADATA_TOPIC, CLUSTER_METADATA_TOPIC_ID, LeaderEpoch, NodeId, Offset, ProducerId,
    random_kafka_id,
};

/// How many commands may wait for the controller. It bounds memory: a command is a request that was admitted.
const MAILBOX_JOBS: usize = 1_024;

/// What the metadata is opened with.
pub struct MetadataOptions {
    /// Where everything is.
    pub store: Store,
    /// The logs, which will follow the metadata.
    pub logs: Arc<LogManager>,
    /// Where timestamps come from.
    pub clock: Clock,
    /// The static configuration.
    pub config: Arc<BrokerConfig>,
    /// Where this broker is reached, as it registers itself.
    pub endpoints: Vec<Endpoint>,
    /// Where this node's controller is reached, as it stands among the voters.
    pub controller_endpoints: Vec<Endpoint>,
    /// Who the controllers are where the log does not say it.
    pub controllers: Controllers,
    /// Who fetches what this node follows; nobody where it is no broker.
    pub replicas: Option<Arc<dyn ReplicaListener>>,
    /// The seed of placement and of the ids of topics.
    pub seed: u64,
}

/// How far the logs and the listeners have followed.
#[derive(Clone)]
struct Settled {
    offset: Offset,
    /// Why the logs could not follow, where they could not.
    failure: Option<ApiError>,
}

/// What the tasks of the metadata and everyone else share.
pub(super) struct Shared {
    image: ArcSwap<Image>,
    broker_config: ArcSwap<BrokerConfig>,
    published: watch::Sender<Offset>,
    settled: watch::Sender<Settled>,
    controller: watch::Sender<ActiveController>,
    listeners: Mutex<Vec<Arc<dyn ImageListener>>>,
    /// Told of the first image, or why there is none.
    opened: Mutex<Option<oneshot::Sender<Result<(), StorageError>>>>,
    pub(super) counters: Counters,
}

impl Shared {
    pub(super) fn image(&self) -> Arc<Image> {
        self.image.load_full()
    }

    pub(super) fn broker_config(&self) -> Arc<BrokerConfig> {
        self.broker_config.load_full()
    }

    pub(super) fn publish(&self, image: Arc<Image>, config: Arc<BrokerConfig>) {
        let offset = image.offset;
        self.broker_config.store(config);
        self.image.store(image);
        self.published.send_replace(offset);
    }

    pub(super) fn tell_listeners(&self, old: &Image, new: &Arc<Image>, delta: &Delta) {
        let listeners = self.listeners.lock().clone();
        listeners.iter().for_each(|listener| listener.on_image(old, new, delta));
    }

    /// The active controller is there now.
    pub(super) fn set_controller(&self, controller: ActiveController) {
        self.controller.send_if_modified(|known| {
            let moved = *known != controller;
            *known = controller;
            moved
        });
    }

    /// Everything has followed the image at this offset, or could not.
    pub(super) fn settle(&self, offset: Offset, outcome: &Result<(), StorageError>) {
        let failure = outcome.clone().err().map(ApiError::from);
        self.settled.send_replace(Settled { offset, failure });
    }

    /// There is a first image, or will be none. Only what is said first counts.
    pub(super) fn opened(&self, outcome: Result<(), StorageError>) {
        if let Some(opened) = self.opened.lock().take() {
            // Whoever asked may have gone.
            let _ = opened.send(outcome);
        }
    }

    /// Nothing will be published any more, so nobody has to wait for it.
    pub(super) fn close(&self) {
        self.settled.send_modify(|settled| settled.offset = Offset::MAX);
        self.published.send_replace(Offset::MAX);
    }

    /// Waits until everything has followed an image that has the record at this offset.
    async fn settled(&self, offset: Offset) -> Result<(), ApiError> {
        // The sender lives as long as this, so the wait ends by the offset.
        let mut settled = self.settled.subscribe();
        let failure = settled.wait_for(|settled| settled.offset >= offset).await.map(|s| s.failure.clone());
        failure.unwrap_or_default().map_or(Ok(()), Err)
    }
}

/// The metadata of the cluster: the image that everything reads, and the way to change it where this node is the active
/// controller. A change returns after its records are committed, the image that has them is published, and the logs of
/// new partitions exist.
pub struct Metadata {
    shared: Arc<Shared>,
    quorum: Arc<Quorum>,
    mailbox: mpsc::Sender<Job>,
    progress: watch::Receiver<Progress>,
    settings: Settings,
    registration: Registration,
    controller_endpoints: Vec<Endpoint>,
    boot: Boot,
    store: Store,
    clock: Clock,
    directory_id: Uuid,
    /// Until the first image is there.
    loading: Mutex<Option<Loading>>,
}

/// Who tells of the first image.
type Loading = oneshot::Receiver<Result<(), StorageError>>;

impl Metadata {
    /// Reads the metadata log and begins to follow it, and to decide whenever this node leads. The only voter leads at
    /// once: it has made the cluster, if there was none, and registered this broker when this returns. Must be called
    /// on a tokio runtime.
    ///
    /// # Errors
    /// Where the store can not be read or written, or the log is damaged.
    pub async fn open(options: MetadataOptions) -> Result<Arc<Self>, StorageError> {
        let key = local_key(&options.store);
        let settings = Settings {
            node_id: key.id,
            cluster_id: options.store.properties().cluster_id.as_str().into(),
            features: features::supported(),
            config: Arc::clone(&options.config),
        };
        let (opened, first) = oneshot::channel();
        let shared = Arc::new(Shared {
            image: ArcSwap::from_pointee(Image::empty()),
            broker_config: ArcSwap::new(Arc::clone(&options.config)),
            published: watch::Sender::new(-1),
            settled: watch::Sender::new(Settled { offset: -1, failure: None }),
            controller: watch::Sender::new(ActiveController::Unknown),
            listeners: Mutex::new(Vec::new()),
            opened: Mutex::new(Some(opened)),
            counters: Counters::default(),
        });
        let boot = Boot::read(&options.store)?;
        let (quorum, events) = open_quorum(&options).await?;
        let mut random = StdRng::seed_from_u64(options.seed);
        let node = Node {
            incarnation_id: random_kafka_id(&mut random),
            endpoints: options.endpoints.clone(),
            controller_endpoints: options.controller_endpoints.clone(),
        };
        let progress = watch::Sender::new(Progress { committed: -1, lead: None });
        let following = progress.subscribe();
        let leads_alone = quorum.is_only_voter();
        let (mailbox, jobs) = mpsc::channel(MAILBOX_JOBS);
        let registration = registration(&options, &settings, &node, &boot);
        let active = Active {
            quorum: Arc::clone(&quorum),
            store: options.store.clone(),
            shared: Arc::clone(&shared),
            progress: progress.subscribe(),
            random,
            settings: settings.clone(),
            node: node.clone(),
            registration: (leads_alone && options.config.roles().broker).then(|| registration.clone()),
            clock: options.clock.clone(),
            leading: None,
        };
        let follow = Follow {
            events,
            leadership: quorum.leadership(),
            loader: Loader::new(),
            progress,
            publisher: Publisher {
                node_id: settings.node_id,
                incarnation_id: registration.incarnation_id,
                logs: Arc::clone(&options.logs),
                replicas: options.replicas.clone(),
            },
            settings: settings.clone(),
            shared: Arc::clone(&shared),
            clock: options.clock.clone(),
            quorum: Arc::clone(&quorum),
            due: Due::new(
                options.config.metadata_log_max_record_bytes_between_snapshots,
                options.config.metadata_log_max_snapshot_interval_ms,
                options.clock.steady_ms(),
            ),
            first: if leads_alone { First::Activated } else { First::Loaded },
            behind: false,
            registered: false,
        };
        tokio::spawn(active.run(jobs));
        tokio::spawn(follow.run());
        let directory_id = key.directory_id;
        let metadata = Arc::new(Self {
            shared,
            quorum,
            mailbox,
            progress: following,
            settings,
            registration,
            controller_endpoints: node.controller_endpoints,
            boot,
            store: options.store,
            clock: options.clock,
            directory_id,
            loading: Mutex::new(Some(first)),
        });
        if leads_alone {
            metadata.loaded().await?;
            let own = metadata.image().brokers.get(&key.id).map(|broker| broker.epoch);
            if let Some(epoch) = own.filter(|_| !metadata.boot.kept_everything()) {
                metadata.remember_registration(epoch).await?;
            }
        }
        Ok(metadata)
    }

    /// Waits until there is a first image. With other voters that is when one of them leads, for which this node has to
    /// be reachable.
    ///
    /// # Errors
    /// Where the log is damaged, or the store can not be read or written.
    pub async fn loaded(&self) -> Result<(), StorageError> {
        let Some(first) = self.loading.lock().take() else { return Ok(()) };
        first.await.map_err(|_| StorageError::Write("the metadata log ended".to_owned()))??;
        let image = self.shared.image();
        info!(
            epoch = image.epoch,
            offset = image.offset,
            topics = image.topics.len(),
            cluster = %self.settings.cluster_id,
            "metadata loaded"
        );
        Ok(())
    }

    /// The image as it is now.
    pub fn image(&self) -> Arc<Image> {
        self.shared.image()
    }

    /// The id of the cluster.
    pub fn cluster_id(&self) -> &Arc<str> {
        &self.settings.cluster_id
    }

    /// The `node.id` of this broker, which is also the controller.
    pub fn node_id(&self) -> NodeId {
        self.settings.node_id
    }

    /// Whether this node is the active controller.
    pub fn is_active(&self) -> bool {
        self.active_epoch().is_some()
    }

    /// The epoch in which this node is the active controller, if it is.
    pub fn active_epoch(&self) -> Option<LeaderEpoch> {
        self.progress.borrow().lead.as_ref().map(|lead| lead.epoch)
    }

    /// Where the active controller is, now and whenever it moves.
    pub fn active_controller(&self) -> watch::Receiver<ActiveController> {
        self.shared.controller.subscribe()
    }

    /// The id of this life of the process, with which the node registers.
    pub fn incarnation_id(&self) -> Uuid {
        self.registration.incarnation_id
    }

    /// Who leads the quorum, if that is known.
    pub fn leader(&self) -> Option<NodeId> {
        self.quorum.leadership().borrow().leader
    }

    /// How the metadata of this node are.
    pub fn status(&self) -> Status {
        let applied = self.shared.image().offset;
        self.shared.counters.status(self.is_active(), applied, self.clock.now_ms())
    }

    /// Where this node's controller is reached.
    pub fn controller_endpoints(&self) -> &[Endpoint] {
        &self.controller_endpoints
    }

    /// Remembers with which epoch this broker is registered: as long as the operating system runs, the next life of the
    /// process has everything that this one answers for.
    ///
    /// # Errors
    /// Where it can not be written.
    pub async fn remember_registration(&self, broker_epoch: i64) -> Result<(), StorageError> {
        self.boot.remember(&self.store, broker_epoch).await
    }

    /// What this node's broker says of itself.
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// The id of this broker's data directory.
    pub fn directory_id(&self) -> Uuid {
        self.directory_id
    }

    /// The features that this broker supports.
    pub fn supported_features(&self) -> &[super::image::FeatureRange] {
        &self.settings.features
    }

    /// The configuration of a topic; the broker's defaults where it has none of its own. It is computed for each call:
    /// where it is needed often, `Partition::config` has it ready.
    pub fn topic_config(&self, topic: &str) -> Arc<TopicConfig> {
        Arc::new(topic_config(&self.shared.image(), topic, &self.shared.broker_config()))
    }

    /// The configuration of this broker: the static one, and above it what was set while it runs.
    pub fn broker_config(&self) -> Arc<BrokerConfig> {
        self.shared.broker_config()
    }

    /// Waits until an image is published that has the record at this offset.
    pub async fn wait_for(&self, offset: Offset) {
        // The sender lives as long as this, so the wait ends by the offset.
        let _ = self.shared.published.subscribe().wait_for(|published| *published >= offset).await;
    }

    /// Waits until the published image is as wanted, at most this long; whether it is.
    pub async fn wait_until(&self, clock: &Clock, timeout_ms: i64, wanted: impl Fn(&Image) -> bool) -> bool {
        let mut published = self.shared.published.subscribe();
        let timeout = clock.sleep_until(clock.steady_ms().saturating_add(timeout_ms));
        tokio::select! {
            biased;
            _ = published.wait_for(|_| wanted(&self.shared.image())) => true,
            () = timeout => false,
        }
    }

    /// Tells `listener` of every image that is published from now on.
    pub fn listen(&self, listener: Arc<dyn ImageListener>) {
        self.shared.listeners.lock().push(listener);
    }

    /// Creates topics, each by itself. Names may not repeat.
    pub async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        validate_only: bool,
        quota: PartitionQuota,
    ) -> Results<CreatedTopic> {
        let count = topics.len();
        self.ask_each(count, move |context| topics::create(context, &topics, validate_only, &quota)).await
    }

    /// Deletes topics by their ids, each by itself. Ids may not repeat.
    pub async fn delete_topics(&self, ids: Vec<Uuid>, quota: PartitionQuota) -> Results<()> {
        let count = ids.len();
        self.ask_each(count, move |context| topics::delete(context, &ids, &quota)).await
    }

    /// Gives topics more partitions, each by itself. Topics may not repeat.
    pub async fn create_partitions(
        &self,
        topics: Vec<NewPartitions>,
        validate_only: bool,
        quota: PartitionQuota,
    ) -> Results<()> {
        let count = topics.len();
        let create = move |context: &mut Context<'_>| {
            topics::create_partitions(context, &topics, validate_only, &quota)
        };
        self.ask_each(count, create).await
    }

    /// Changes single keys of configurations, each resource by itself. Resources may not repeat.
    pub async fn incremental_alter_configs(
        &self,
        changes: Vec<ConfigChange>,
        validate_only: bool,
    ) -> Results<()> {
        let count = changes.len();
        self.ask_each(count, move |context| configs::alter_incrementally(context, &changes, validate_only))
            .await
    }

    /// Replaces whole configurations, each resource by itself. Resources may not repeat.
    pub async fn alter_configs(
        &self,
        replacements: Vec<ConfigReplacement>,
        validate_only: bool,
    ) -> Results<()> {
        let count = replacements.len();
        self.ask_each(count, move |context| configs::replace(context, &replacements, validate_only)).await
    }

    /// Finalises features at other levels, all of them or none.
    ///
    /// # Errors
    /// Where one of them is refused.
    pub async fn update_features(
        &self,
        updates: Vec<FeatureUpdate>,
        validate_only: bool,
    ) -> Result<(), ApiError> {
        let kraft_version =
            updates.iter().find(|update| update.name == KRAFT_VERSION).map(|update| update.level);
        self.ask(move |context| features::update(context, &updates, validate_only)).await??;
        match kraft_version {
            Some(level) => self.upgrade_kraft_version(level, validate_only).await,
            None => Ok(()),
        }
    }

    /// The quorum keeps this level by itself, in its control records.
    async fn upgrade_kraft_version(&self, level: i16, validate_only: bool) -> Result<(), ApiError> {
        let epoch = self.active_epoch().ok_or_else(stopped)?;
        let upgrade = UpgradeRequest { epoch, level, validate_only };
        let answer = self.quorum.ask(message::Request::UpgradeKraftVersion(upgrade)).await?;
        if let message::Response::UpgradeKraftVersion(Err((code, message))) = answer.response {
            return Err(ApiError { code, message });
        }
        Ok(())
    }

    /// Takes the next block of producer ids for this broker. No id is ever given out twice.
    ///
    /// # Errors
    /// Where it can not be written down that they are given out.
    pub async fn allocate_producer_ids(&self) -> Result<Range<ProducerId>, ApiError> {
        self.decide(move |context| {
            let id = context.settings.node_id;
            let epoch = context.image.brokers.get(&id).map_or(-1, |broker| broker.epoch);
            producer_ids::allocate(context, id, epoch)
        })
        .await?
    }

    /// The quorum that keeps the metadata log.
    pub fn quorum(&self) -> &Arc<Quorum> {
        &self.quorum
    }

    /// Answers what was asked before and stops, which lets go of the store. Later commands fail.
    pub async fn shutdown(&self) {
        let (reply, done) = oneshot::channel();
        if self.mailbox.send(Job::Stop(reply)).await.is_ok() {
            // Without an answer it has stopped as well.
            let _ = done.await;
        }
        self.quorum.shutdown().await;
        // It ends when nothing more is published.
        let _ = self.shared.settled(Offset::MAX).await;
        // Some of them hold on to this, and everything would to the store and its directory.
        let listeners = std::mem::take(&mut *self.shared.listeners.lock());
        drop(listeners);
    }

    async fn ask_each<T: Send + 'static>(
        &self,
        count: usize,
        decide: impl FnOnce(&mut Context<'_>) -> Decision<Results<T>> + Send + 'static,
    ) -> Results<T> {
        match self.ask(decide).await {
            Ok(results) => results,
            Err(error) => (0..count).map(|_| Err(error.clone())).collect(),
        }
    }

    /// Has the controller decide, and waits until the decision is committed and everything here has followed it.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut Context<'_>) -> Decision<T> + Send + 'static,
    ) -> Result<T, ApiError> {
        let (reply, offset) = self.decide_at(decide, RECORDS_PER_REQUEST_MAX).await?;
        self.shared.settled(offset).await?;
        Ok(reply)
    }

    /// Has the controller decide, and waits until the decision is committed. It may not be published here yet. What
    /// follows for the partitions of a broker may be more than one batch.
    ///
    /// # Errors
    /// Where this node is not the active controller, or is no more before the decision is committed.
    pub(crate) async fn decide<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut Context<'_>) -> Decision<T> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.decide_at(decide, usize::MAX).await.map(|(reply, _)| reply)
    }

    async fn decide_at<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut Context<'_>) -> Decision<T> + Send + 'static,
        records_max: usize,
    ) -> Result<(T, Offset), ApiError> {
        let (sender, replied) = oneshot::channel();
        let asked = Asked { decide, sender, records_max };
        self.mailbox
            .send(Job::Decide(Box::new(asked), self.clock.steady_ms()))
            .await
            .map_err(|_| stopped())?;
        replied.await.map_err(|_| stopped())?
    }
}

/// A command that was sent to the controller.
struct Asked<T, F> {
    decide: F,
    sender: oneshot::Sender<Result<(T, Offset), ApiError>>,
    /// How many records it may become.
    records_max: usize,
}

impl<T, F> Command for Asked<T, F>
where
    T: Send + 'static,
    F: FnOnce(&mut Context<'_>) -> Decision<T> + Send,
{
    fn decide(self: Box<Self>, context: &mut Context<'_>) -> Decision<Answer> {
        let Self { decide, sender, records_max } = *self;
        let Decision { records, reply } = decide(context);
        if records.len() > records_max {
            // What a user asks for is one batch, so that it is written as a whole or not at all.
            let text = format!("the request would need more than {records_max} metadata records");
            let refused: Answer = Box::new(move |_| {
                // Whoever asked may have gone.
                let _ = sender.send(Err(ApiError::with(ErrorCode::PolicyViolation, text)));
            });
            return Decision::reply(refused);
        }
        let answer: Answer = Box::new(move |outcome| {
            // Whoever asked may have gone.
            let _ = sender.send(outcome.map(|offset| (reply, offset)));
        });
        Decision { records, reply: answer }
    }

    fn refuse(self: Box<Self>, error: ApiError) {
        // Whoever asked may have gone.
        let _ = self.sender.send(Err(error));
    }
}

async fn open_quorum(
    options: &MetadataOptions,
) -> Result<(Arc<Quorum>, mpsc::Receiver<QuorumEvent>), StorageError> {
    let logs = Arc::clone(&options.logs);
    let log = blocking(move || {
        logs.create(CLUSTER_METADATA_TOPIC, CLUSTER_METADATA_TOPIC_ID, 0, Arc::new(log_config()?))
    });
    let options = QuorumOptions {
        store: options.store.clone(),
        log: log.await?,
        clock: options.clock.clone(),
        cluster_id: options.store.properties().cluster_id.as_str().into(),
        config: quorum_config(options),
    };
    Quorum::open(options).await
}

/// How this broker registers.
fn registration(options: &MetadataOptions, settings: &Settings, node: &Node, boot: &Boot) -> Registration {
    Registration {
        broker_id: settings.node_id,
        cluster_id: settings.cluster_id.to_string(),
        incarnation_id: node.incarnation_id,
        endpoints: node.endpoints.clone(),
        features: settings.features.clone(),
        rack: options.config.broker_rack.as_deref().map(Arc::from),
        log_dirs: vec![options.store.properties().directory_id],
        previous_broker_epoch: boot.previous_broker_epoch(),
        kept_everything: boot.kept_everything(),
    }
}

fn stopped() -> ApiError {
    ApiError::with(ErrorCode::NotController, "the controller has stopped")
}
