//! The side of the metadata that every node has: it follows the committed log.
//!
//! ```text
//! quorum → committed records → loader → image and delta → logs follow → image published → listeners
//! ```
//! Records that come while an image is being published are taken in meanwhile, and are published together next. The
//! controller, where it leads, hears of what is committed at once.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{error, info};

use super::controller::Settings;
use super::handle::Shared;
use super::image::{Delta, Image};
use super::loader::Loader;
use super::publisher::{Publisher, broker_config};
use super::snapshot::{self, Due};
use super::status::count;
use crate::client::{ActiveController, Address};
use crate::clock::Clock;
use crate::error::StorageError;
use crate::quorum::{Leadership, Quorum, QuorumEvent, SnapshotId, SnapshotReader, VoterEndpoint};
use crate::types::{LeaderEpoch, NodeId, Offset, TimestampMs};

/// How long after a failure the logs are brought in line again.
const RETRY_MS: i64 = 1_000;

/// What the controller is told of the log. Only the newest counts.
#[derive(Clone, Default)]
pub(super) struct Progress {
    /// The last record that is committed.
    pub(super) committed: Offset,
    /// Set while this node leads; another one for each time that it begins to.
    pub(super) lead: Option<Arc<Lead>>,
}

/// This node begins to lead.
pub(super) struct Lead {
    /// In this epoch.
    pub(super) epoch: LeaderEpoch,
    /// What it appends first gets this offset.
    pub(super) next_offset: Offset,
    /// Everything that was committed before.
    pub(super) image: Image,
    /// Whether the log ends in a transaction, which then does not count.
    pub(super) in_transaction: bool,
}

/// When the first image is published.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// It has been.
    Done,
    /// As soon as there is one.
    Loaded,
    /// Once this node, which is the only voter, leads and has written that it is there.
    Activated,
    /// The same, and it leads.
    Led,
}

/// The state of the task.
pub(super) struct Follow {
    pub(super) events: mpsc::Receiver<QuorumEvent>,
    pub(super) leadership: watch::Receiver<Leadership>,
    pub(super) loader: Loader,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) publisher: Publisher,
    pub(super) settings: Settings,
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Clock,
    pub(super) quorum: Arc<Quorum>,
    pub(super) due: Due,
    pub(super) first: First,
    /// Whether the logs could not follow the published image.
    pub(super) behind: bool,
    /// Whether the published image knows this life of the broker.
    pub(super) registered: bool,
}

impl Follow {
    /// Serves the quorum until it is closed.
    pub(super) async fn run(mut self) {
        let mut publishing = None;
        loop {
            if publishing.is_none() {
                publishing = self.publish_next();
            }
            let retry_ms = self.clock.steady_ms() + RETRY_MS;
            tokio::select! {
                biased;
                published = finished(&mut publishing) => {
                    publishing = None;
                    self.published(published);
                    self.snapshot_if_due();
                }
                event = self.events.recv() => {
                    let Some(event) = event else { break };
                    self.take(event).await;
                    while let Ok(event) = self.events.try_recv() {
                        self.take(event).await;
                    }
                }
                Ok(()) = self.leadership.changed() => self.tell_controller(),
                () = self.clock.sleep_until(retry_ms), if self.behind && publishing.is_none() => {
                    publishing = self.catch_up();
                }
            }
        }
        if let Some(publishing) = publishing {
            // A task that was not finished has nothing to say.
            let _ = publishing.await;
        }
        self.shared.close();
    }

    async fn take(&mut self, event: QuorumEvent) {
        match event {
            QuorumEvent::Committed(committed) => {
                let has_records = !committed.records.is_empty();
                for record in committed.records {
                    if let Err(error) = self.loader.replay(record.offset, record.epoch, record.value) {
                        self.damaged(&error);
                    }
                }
                self.loader.reached(committed.end_offset - 1, committed.epoch);
                self.loaded(committed.timestamp_ms);
                self.due.loaded(committed.bytes);
                let committed = committed.end_offset - 1;
                self.progress.send_modify(|progress| progress.committed = committed);
                if self.first == First::Led && has_records {
                    self.first = First::Loaded;
                }
            }
            QuorumEvent::Snapshot(snapshot) => self.load_snapshot(snapshot).await,
            QuorumEvent::Leading { epoch, next_offset } => {
                if self.first == First::Activated {
                    // Without a broker there may be nothing to write.
                    let is_broker = self.settings.config.roles().broker;
                    self.first = if is_broker { First::Led } else { First::Loaded };
                }
                let (image, in_transaction) = (self.loader.image().clone(), self.loader.in_transaction());
                let lead = Arc::new(Lead { epoch, next_offset, image, in_transaction });
                count(&self.shared.counters.activations);
                self.progress.send_modify(|progress| progress.lead = Some(lead));
                self.shared.set_controller(ActiveController::Local);
            }
            QuorumEvent::Resigned { .. } => {
                self.progress.send_modify(|progress| progress.lead = None);
                self.tell_controller();
            }
        }
    }

    fn loaded(&self, timestamp_ms: TimestampMs) {
        let counters = &self.shared.counters;
        counters.loaded.store(self.loader.offset(), Relaxed);
        counters.last_timestamp_ms.store(timestamp_ms, Relaxed);
    }

    /// What a snapshot says takes the place of everything before.
    async fn load_snapshot(&mut self, snapshot: SnapshotReader) {
        let id = snapshot.id();
        match blocking(move || load(snapshot)).await {
            Ok(image) => {
                info!(end_offset = id.end_offset, epoch = id.epoch, "metadata snapshot loaded");
                self.loader.reset(image);
                self.due.taken(self.clock.steady_ms());
                self.shared.counters.loaded.store(self.loader.offset(), Relaxed);
            }
            Err(error) => self.damaged(&error),
        }
        self.progress.send_modify(|progress| progress.committed = id.end_offset - 1);
    }

    /// Writes a snapshot of what is published, where one is due.
    fn snapshot_if_due(&mut self) {
        let now_ms = self.clock.steady_ms();
        let image = self.shared.image();
        let is_whole = image.offset == self.loader.offset() && !self.loader.in_transaction();
        if self.first != First::Done || !is_whole || !self.due.is_due(now_ms) {
            return;
        }
        self.due.taken(now_ms);
        let values = match snapshot::values(&image) {
            Ok(values) => values,
            Err(error) => return error!(%error, "the metadata can not be written as a snapshot"),
        };
        let id = SnapshotId { end_offset: image.offset + 1, epoch: image.epoch };
        let (quorum, shared, clock) =
            (Arc::clone(&self.quorum), Arc::clone(&self.shared), self.clock.clone());
        let last_timestamp_ms = shared.counters.last_timestamp_ms.load(Relaxed);
        let bytes: usize = values.iter().map(bytes::Bytes::len).sum();
        tokio::spawn(async move {
            match quorum.save_snapshot(id, last_timestamp_ms, values.into_iter()).await {
                Ok(()) => {
                    info!(end_offset = id.end_offset, epoch = id.epoch, bytes, "metadata snapshot written");
                    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
                    shared.counters.snapshot_bytes.store(bytes, Relaxed);
                    shared.counters.snapshot_at_ms.store(clock.now_ms(), Relaxed);
                }
                Err(error) => error!(%error, "a metadata snapshot can not be written"),
            }
        });
    }

    /// Who leads is the active controller. This node is it once everything before is loaded.
    fn tell_controller(&mut self) {
        let leads = self.progress.borrow().lead.is_some();
        let Leadership { leader, endpoints, .. } = self.leadership.borrow_and_update().clone();
        let named = |endpoint: &&VoterEndpoint| endpoint.listener == self.quorum.listener();
        let endpoint = endpoints.iter().find(named).or(endpoints.first());
        let controller = match (leader, endpoint) {
            (Some(leader), _) if leader == self.node_id() => {
                if leads {
                    ActiveController::Local
                } else {
                    ActiveController::Unknown
                }
            }
            (Some(_), Some(endpoint)) => {
                let host = endpoint.host.as_str().into();
                ActiveController::Remote(Address { host, port: endpoint.port })
            }
            _ => ActiveController::Unknown,
        };
        self.shared.set_controller(controller);
    }

    fn node_id(&self) -> NodeId {
        self.settings.node_id
    }

    /// A record that does not fit is left out, as a node that goes on serves more than one that ends; a node that
    /// starts does not start.
    fn damaged(&mut self, error: &dyn std::fmt::Display) {
        error!(%error, "a committed record of the metadata log can not be applied");
        count(&self.shared.counters.load_errors);
        self.shared.opened(Err(StorageError::Damaged(error.to_string())));
    }

    /// Begins to publish what is loaded, if that is newer than what is published.
    fn publish_next(&mut self) -> Option<JoinHandle<Result<(), StorageError>>> {
        let new = self.loader.image();
        match self.first {
            First::Activated | First::Led => return None,
            First::Loaded | First::Done if new.offset == self.shared.image().offset => return None,
            First::Loaded | First::Done => {}
        }
        let (old, new) = (self.shared.image(), Arc::new(new.clone()));
        let was_registered = std::mem::replace(&mut self.registered, self.publisher.is_registered(&new));
        let mut delta = self.loader.take_delta();
        if self.registered != was_registered {
            delta = delta.with_all_topics(&new);
        }
        let delta = Arc::new(delta);
        let publication = Publication {
            config: if delta.broker_config() || self.first == First::Loaded {
                Arc::new(broker_config(&new, &self.settings.config, self.settings.node_id))
            } else {
                self.shared.broker_config()
            },
            publisher: self.publisher.clone(),
            shared: Arc::clone(&self.shared),
            old,
            new,
            delta,
        };
        Some(if self.first == First::Loaded {
            tokio::spawn(publication.first())
        } else {
            tokio::spawn(publication.next())
        })
    }

    fn published(&mut self, published: Result<(), StorageError>) {
        let failed = published.is_err();
        if failed {
            count(&self.shared.counters.apply_errors);
        }
        if self.first == First::Loaded {
            self.first = First::Done;
            self.shared.opened(published);
        } else if let Err(error) = published {
            error!(%error, "the logs can not follow the metadata");
        }
        self.behind = failed;
    }

    fn catch_up(&self) -> Option<JoinHandle<Result<(), StorageError>>> {
        if self.publisher.logs.store().failure().is_some() {
            return None;
        }
        let (publisher, image, config) =
            (self.publisher.clone(), self.shared.image(), self.shared.broker_config());
        Some(tokio::spawn(blocking(move || publisher.reconcile(&image, &config))))
    }
}

async fn finished(publishing: &mut Option<JoinHandle<Result<(), StorageError>>>) -> Result<(), StorageError> {
    match publishing {
        Some(publishing) => {
            publishing.await.unwrap_or_else(|error| Err(StorageError::Write(error.to_string())))
        }
        None => std::future::pending().await,
    }
}

/// An image on its way to everyone.
struct Publication {
    publisher: Publisher,
    shared: Arc<Shared>,
    old: Arc<Image>,
    new: Arc<Image>,
    delta: Arc<Delta>,
    config: Arc<crate::config::BrokerConfig>,
}

impl Publication {
    /// The first image of this life: the logs may be anything.
    async fn first(self) -> Result<(), StorageError> {
        let Self { publisher, shared, old, new, delta, config } = self;
        let reconciled = {
            let (new, config) = (Arc::clone(&new), Arc::clone(&config));
            blocking(move || publisher.reconcile(&new, &config)).await
        };
        shared.publish(Arc::clone(&new), config);
        shared.tell_listeners(&old, &new, &delta);
        shared.settle(new.offset, &reconciled);
        reconciled
    }

    async fn next(self) -> Result<(), StorageError> {
        let Self { publisher, shared, old, new, delta, config } = self;
        tell(&old, &new, &delta);
        // These wait for the store, which the runtime's threads must not.
        let before = {
            let publisher = publisher.clone();
            let (new, delta, config) = (Arc::clone(&new), Arc::clone(&delta), Arc::clone(&config));
            blocking(move || publisher.before(&new, &delta, &config)).await
        };
        shared.publish(Arc::clone(&new), Arc::clone(&config));
        let after = {
            let (old, new, delta) = (Arc::clone(&old), Arc::clone(&new), Arc::clone(&delta));
            blocking(move || publisher.after(&old, &new, &delta, &config)).await
        };
        shared.tell_listeners(&old, &new, &delta);
        let outcome = before.and(after);
        shared.settle(new.offset, &outcome);
        outcome
    }
}

/// Runs what waits for the store where waiting harms nobody.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(StorageError::Write(format!("the work was not finished: {error}"))))
}

/// One line in the log for each thing that an administrator did.
fn tell(old: &Image, new: &Image, delta: &Delta) {
    for topic in delta.created(old, new) {
        info!(topic = %topic.name, id = %crate::types::kafka_id(topic.id), partitions = topic.partition_count(), "topic created");
    }
    for topic in delta.deleted(old, new) {
        info!(topic = %topic.name, id = %crate::types::kafka_id(topic.id), "topic deleted");
    }
    for resource in delta.configs() {
        info!(%resource, "configuration changed");
    }
    for (name, level) in new.features().filter(|(name, level)| old.feature(name) != *level) {
        info!(feature = name, level, "feature finalised");
    }
}

/// The image that a snapshot holds.
fn load(mut snapshot: SnapshotReader) -> Result<Image, StorageError> {
    let id = snapshot.id();
    let mut loader = Loader::new();
    while let Some(values) = snapshot.next_values()? {
        for value in values {
            let replayed = loader.replay(id.end_offset - 1, id.epoch, value);
            replayed.map_err(|error| StorageError::Damaged(error.to_string()))?;
        }
    }
    let mut image = loader.image().clone();
    image.offset = id.end_offset - 1;
    image.epoch = id.epoch;
    Ok(image)
}
