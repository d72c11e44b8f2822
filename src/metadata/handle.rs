//! What the rest of the broker holds of the metadata.

use std::ops::Range;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::info;
use uuid::Uuid;

use super::active::{Answer, Job, blocking};
use super::command::{ConfigChange, ConfigReplacement, CreatedTopic, FeatureUpdate, NewPartitions, NewTopic};
use super::controller::{
    Context, Decision, RECORDS_PER_REQUEST_MAX, Results, Settings, configs, features, producer_ids, topics,
};
use super::image::{Delta, Endpoint, Image};
use super::publisher::{ImageListener, broker_config, topic_config};
use super::start::start;
use crate::clock::Clock;
use crate::config::{BrokerConfig, TopicConfig};
use crate::error::{ApiError, ErrorCode, StorageError};
use crate::log::LogManager;
use crate::quorum::driver::{QuorumDescription, local_key};
use crate::storage::Store;
use crate::types::{NodeId, Offset, ProducerId};

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
    /// The seed of placement and of the ids of topics.
    pub seed: u64,
}

/// What the controller's task and everyone else share.
pub(super) struct Shared {
    image: ArcSwap<Image>,
    broker_config: ArcSwap<BrokerConfig>,
    published: watch::Sender<Offset>,
    listeners: Mutex<Vec<Arc<dyn ImageListener>>>,
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
}

/// The metadata of the cluster: the image that everything reads, and the way to change it. Every command returns after
/// its records are on the disk, the image that has them is published, and the logs of new partitions exist.
pub struct Metadata {
    shared: Arc<Shared>,
    mailbox: mpsc::Sender<Job>,
    settings: Settings,
    directory_id: Uuid,
}

impl Metadata {
    /// Reads the metadata log, begins a new epoch as its leader, registers this broker, and starts the controller.
    /// On an empty log it makes the cluster. Must be called on a tokio runtime.
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
        let shared = Arc::new(Shared {
            image: ArcSwap::from_pointee(Image::empty()),
            broker_config: ArcSwap::new(Arc::clone(&options.config)),
            published: watch::Sender::new(-1),
            listeners: Mutex::new(Vec::new()),
        });
        let mut active = start(&options, &settings, shared).await?;
        let config = Arc::new(broker_config(&active.head, &settings.config, settings.node_id));
        let (publisher, image) = (active.publisher.clone(), active.head.clone());
        let reconciled = Arc::clone(&config);
        blocking(move || publisher.reconcile(&image, &reconciled)).await?;
        active.delta = Delta::default();
        active.shared.publish(Arc::new(active.head.clone()), config);
        info!(
            epoch = active.quorum.epoch(),
            offset = active.head.offset,
            topics = active.head.topics.len(),
            cluster = %settings.cluster_id,
            "metadata loaded"
        );
        let shared = Arc::clone(&active.shared);
        let (mailbox, jobs) = mpsc::channel(MAILBOX_JOBS);
        tokio::spawn(active.run(jobs));
        Ok(Arc::new(Self { shared, mailbox, settings, directory_id: key.directory_id }))
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

    /// Tells `listener` of every image that is published from now on.
    pub fn listen(&self, listener: Arc<dyn ImageListener>) {
        self.shared.listeners.lock().push(listener);
    }

    /// Creates topics, each by itself. Names may not repeat.
    pub async fn create_topics(&self, topics: Vec<NewTopic>, validate_only: bool) -> Results<CreatedTopic> {
        let count = topics.len();
        self.ask_each(count, move |context| topics::create(context, &topics, validate_only)).await
    }

    /// Deletes topics by their ids, each by itself. Ids may not repeat.
    pub async fn delete_topics(&self, ids: Vec<Uuid>) -> Results<()> {
        let count = ids.len();
        self.ask_each(count, move |context| topics::delete(context, &ids)).await
    }

    /// Gives topics more partitions, each by itself. Topics may not repeat.
    pub async fn create_partitions(&self, topics: Vec<NewPartitions>, validate_only: bool) -> Results<()> {
        let count = topics.len();
        self.ask_each(count, move |context| topics::create_partitions(context, &topics, validate_only)).await
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
        self.ask(move |context| features::update(context, &updates, validate_only)).await?
    }

    /// Takes the next block of producer ids for this broker. No id is ever given out twice.
    ///
    /// # Errors
    /// Where it can not be written down that they are given out.
    pub async fn allocate_producer_ids(&self) -> Result<Range<ProducerId>, ApiError> {
        self.ask(move |context| {
            let id = context.settings.node_id;
            let epoch = context.image.brokers.get(&id).map_or(-1, |broker| broker.epoch);
            producer_ids::allocate(context, id, epoch)
        })
        .await?
    }

    /// How the quorum is.
    ///
    /// # Errors
    /// Where the controller has stopped.
    pub async fn describe_quorum(&self) -> Result<QuorumDescription, ApiError> {
        let (reply, described) = oneshot::channel();
        self.mailbox.send(Job::Describe(reply)).await.map_err(|_| stopped())?;
        described.await.map_err(|_| stopped())
    }

    /// Answers what was asked before and stops the controller, which lets go of the store. Later commands fail.
    pub async fn shutdown(&self) {
        let (reply, done) = oneshot::channel();
        if self.mailbox.send(Job::Stop(reply)).await.is_ok() {
            // Without an answer it has stopped as well.
            let _ = done.await;
        }
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

    /// Has the controller decide, and waits for the reply.
    async fn ask<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut Context<'_>) -> Decision<T> + Send + 'static,
    ) -> Result<T, ApiError> {
        let (sender, replied) = oneshot::channel();
        let job = Job::Decide(Box::new(move |context| {
            let Decision { records, reply } = decide(context);
            if records.len() > RECORDS_PER_REQUEST_MAX {
                // A request is one batch, so that it is written as a whole or not at all.
                let text =
                    format!("the request would need more than {RECORDS_PER_REQUEST_MAX} metadata records");
                let refused: Answer = Box::new(move |_| {
                    // Whoever asked may have gone.
                    let _ = sender.send(Err(ApiError::with(ErrorCode::PolicyViolation, text)));
                });
                return Decision::reply(refused);
            }
            let answer: Answer = Box::new(move |outcome| {
                // Whoever asked may have gone.
                let _ = sender.send(outcome.map(|()| reply));
            });
            Decision { records, reply: answer }
        }));
        self.mailbox.send(job).await.map_err(|_| stopped())?;
        replied.await.map_err(|_| stopped())?
    }
}

fn stopped() -> ApiError {
    ApiError::with(ErrorCode::NotController, "the controller has stopped")
}
