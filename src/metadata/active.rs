//! The active controller: the one task that decides, writes, replays, publishes and answers.
//!
//! ```text
//! mailbox → decide(&head) → append → apply to head → … → committed → logs follow → image published → answered
//! ```
//! Commands that wait together are decided one after the other on the head, which is ahead of what is committed, and
//! share the wait for the disk. Nobody is answered, and nobody sees the image, before all of it is committed.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

use super::controller::features::METADATA_VERSION_LATEST;
use super::controller::{Context, Decision, RECORDS_PER_REQUEST_MAX, Settings};
use super::handle::Shared;
use super::image::{Delta, Image};
use super::publisher::{Publisher, broker_config};
use super::record::Record;
use crate::clock::Clock;
use crate::error::{ApiError, ErrorCode, StorageError};
use crate::log::PendingAppend;
use crate::quorum::Quorum;
use crate::quorum::driver::QuorumDescription;

/// How many commands share one wait for the disk.
const ROUND_JOBS_MAX: usize = 256;
/// How many records go into one batch. Only what a starting broker writes about its many partitions is cut.
const BATCH_RECORDS_MAX: usize = RECORDS_PER_REQUEST_MAX;

/// How long after a failure the logs are brought in line again.
const RETRY_MS: i64 = 1_000;

/// What the controller is asked.
pub(super) enum Job {
    /// Decide something.
    Decide(Decide),
    /// Say how the quorum is.
    Describe(oneshot::Sender<QuorumDescription>),
    /// Answer what came before, and end.
    Stop(oneshot::Sender<()>),
}

/// A command: it decides, and later sends the reply that it made.
pub(super) type Decide = Box<dyn FnOnce(&mut Context<'_>) -> Decision<Answer> + Send>;
/// Tells whoever asked how it went.
pub(super) type Answer = Box<dyn FnOnce(Result<(), ApiError>) + Send>;

/// The state of the task.
pub(super) struct Active {
    pub(super) quorum: Quorum,
    /// The image with everything that was decided, committed or not.
    pub(super) head: Image,
    /// What the head has that the published image has not.
    pub(super) delta: Delta,
    pub(super) random: StdRng,
    pub(super) settings: Settings,
    pub(super) publisher: Publisher,
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Clock,
    /// Whether the logs could not follow the published image.
    pub(super) behind: bool,
}

/// An append on its way, and the state as it will be then.
pub(super) struct Step {
    pub(super) pending: PendingAppend,
    head: Image,
    delta: Delta,
}

impl Active {
    /// Serves the mailbox until it is closed or told to stop.
    pub(super) async fn run(mut self, mut mailbox: mpsc::Receiver<Job>) {
        while let Some(first) = self.next(&mut mailbox).await {
            let mut round = vec![first];
            while round.len() < ROUND_JOBS_MAX
                && let Ok(next) = mailbox.try_recv()
            {
                round.push(next);
            }
            if let Some(stopped) = self.round(round).await {
                drop(self);
                // Whoever asked may have gone.
                let _ = stopped.send(());
                return;
            }
        }
    }

    /// The next job. Logs that are behind are brought in line meanwhile.
    async fn next(&mut self, mailbox: &mut mpsc::Receiver<Job>) -> Option<Job> {
        while self.behind {
            let retry = self.clock.sleep_until(self.clock.steady_ms() + RETRY_MS);
            tokio::select! {
                job = mailbox.recv() => return job,
                () = retry => self.catch_up().await,
            }
        }
        mailbox.recv().await
    }

    async fn catch_up(&mut self) {
        if self.publisher.logs.store().failure().is_some() {
            return;
        }
        let (publisher, image, config) =
            (self.publisher.clone(), self.shared.image(), self.shared.broker_config());
        match blocking(move || publisher.reconcile(&image, &config)).await {
            Ok(()) => self.behind = false,
            Err(error) => error!(%error, "the logs still can not follow the metadata"),
        }
    }

    async fn round(&mut self, jobs: Vec<Job>) -> Option<oneshot::Sender<()>> {
        let (mut waiting, mut pending, mut stop) = (Vec::new(), Vec::new(), None);
        for job in jobs {
            match job {
                Job::Decide(decide) => {
                    let Decision { records, reply } = self.decide(decide);
                    match self.append(records) {
                        Ok(appends) => {
                            pending.extend(appends);
                            waiting.push(reply);
                        }
                        Err(error) => reply(Err(error)),
                    }
                }
                // Whoever asked may have gone.
                Job::Describe(reply) => drop(reply.send(self.quorum.describe())),
                Job::Stop(reply) => stop = Some(reply),
            }
        }
        let outcome = self.commit(pending).await;
        for answer in waiting {
            answer(outcome.clone());
        }
        stop
    }

    fn decide(&mut self, decide: Decide) -> Decision<Answer> {
        let mut context = Context {
            image: &self.head,
            next_offset: self.quorum.next_offset(),
            settings: &self.settings,
            random: &mut self.random,
        };
        decide(&mut context)
    }

    /// Appends the records of one decision and applies them to the head.
    pub(super) fn append(&mut self, records: Vec<Record>) -> Result<Vec<Step>, ApiError> {
        let mut appends = Vec::new();
        for records in records.chunks(BATCH_RECORDS_MAX) {
            let metadata_version = self.head.metadata_version().unwrap_or(METADATA_VERSION_LATEST);
            let encode = |record: &Record| record.encode(record.version_at(metadata_version));
            let values: Vec<Bytes> =
                records.iter().map(encode).collect::<Result<_, _>>().map_err(|error| {
                    ApiError::with(
                        ErrorCode::UnknownServerError,
                        format!("a metadata record can not be written: {error}"),
                    )
                })?;
            let mut head = self.head.clone();
            for record in records {
                head.apply(record).map_err(|error| {
                    ApiError::with(ErrorCode::UnknownServerError, format!("a decision does not fit: {error}"))
                })?;
            }
            let pending = self.quorum.append(values)?;
            records.iter().for_each(|record| self.delta.note(record));
            head.offset = self.quorum.next_offset() - 1;
            head.epoch = self.quorum.epoch();
            self.head = head.clone();
            appends.push(Step { pending, head, delta: self.delta.clone() });
        }
        Ok(appends)
    }

    /// Waits until everything is committed, then lets it be seen. After a failure that is what was committed before.
    pub(super) async fn commit(&mut self, steps: Vec<Step>) -> Result<(), ApiError> {
        let (mut reached, mut failure) = (None, None);
        for Step { pending, head, delta } in steps {
            match self.quorum.commit(pending).await {
                Ok(_) => reached = Some((head, delta)),
                Err(error) => {
                    error!(%error, "the metadata log can not be written");
                    failure = Some(error);
                    break;
                }
            }
        }
        if failure.is_some() {
            let published = || (Image::clone(&self.shared.image()), Delta::default());
            (self.head, self.delta) = reached.clone().unwrap_or_else(published);
        }
        let published = if reached.is_some() { self.publish().await } else { Ok(()) };
        if let Err(error) = &published {
            error!(%error, "the logs can not follow the metadata");
            self.behind = true;
        }
        failure.map_or_else(|| published.map_err(ApiError::from), Err)
    }

    async fn publish(&mut self) -> Result<(), StorageError> {
        let (old, new) = (self.shared.image(), Arc::new(self.head.clone()));
        let delta = mem::take(&mut self.delta);
        let config = if delta.broker_config() {
            Arc::new(broker_config(&new, &self.settings.config, self.settings.node_id))
        } else {
            self.shared.broker_config()
        };
        tell(&old, &new, &delta);
        // These wait for the store, which the runtime's threads must not.
        let before = {
            let (publisher, new, delta, config) =
                (self.publisher.clone(), Arc::clone(&new), delta.clone(), Arc::clone(&config));
            blocking(move || publisher.before(&new, &delta, &config)).await
        };
        self.shared.publish(Arc::clone(&new), Arc::clone(&config));
        let after = {
            let (publisher, old, new, delta) =
                (self.publisher.clone(), Arc::clone(&old), Arc::clone(&new), delta.clone());
            blocking(move || publisher.after(&old, &new, &delta, &config)).await
        };
        self.shared.tell_listeners(&old, &new, &delta);
        before.and(after)
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
