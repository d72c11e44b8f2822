//! Keeps the state of share partitions with their share coordinators (`DefaultStatePersister`, `PersisterStateManager`).
//!
//! Who coordinates a share partition is known from the metadata: the leader of the `__share_group_state` partition that
//! it hashes to. Where that is this broker, it is asked without a socket. Other brokers are asked in requests for many
//! partitions of a group: one request of a kind is under way to each broker, and what comes meanwhile goes into the next
//! one. Whoever is asked while the coordinator changes asks again for a while.
//!
//! - `wire`: requests to other brokers, and their answers.

#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::state::command::{Answer, Ask, Reply};
use super::state::coordinator::ShareCoordinator;
use super::types::{PartitionState, SharePartition, StateBatch, StateSummary, StateUpdate};
use crate::client::{Outbox, Peer};
use crate::clock::Clock;
use crate::error::{ApiError, ErrorCode};
use crate::types::{LeaderEpoch, NodeId, Offset};

/// For how long a coordinator that changes is asked again: about as long as Kafka's five tries take.
const PATIENCE_MS: i64 = 15_000;
/// The pause before it is asked again; it doubles each time, up to the maximum.
const BACKOFF_MS: i64 = 20;
const BACKOFF_MAX_MS: i64 = 1_000;

/// Who coordinates a share partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coordinator {
    /// This broker.
    Here,
    /// Another one.
    Broker(NodeId),
    /// Nobody, for now.
    Nobody,
    /// Nobody, as `__share_group_state` is not there yet.
    NoTopic,
}

/// What the persister has to know of the cluster.
pub trait Brokers: Send + Sync + 'static {
    /// Who leads this partition of `__share_group_state`.
    fn coordinator(&self, state_partition: i32) -> Coordinator;
    /// The connection to a broker; `None` where it can not be used.
    fn connection(&self, id: NodeId) -> Option<Arc<Peer>>;
    /// Creates `__share_group_state`, unless it is there by then.
    fn create_state_topic(&self) -> BoxFuture<'static, ()>;
    /// Whether there is this topic, as far as this broker knows.
    fn has_topic(&self, topic_id: Uuid) -> bool;
}

/// What another broker is asked.
struct Question {
    of: SharePartition,
    ask: Ask,
    answer: oneshot::Sender<Reply>,
}

/// Reads and writes the state of share partitions.
pub struct Persister {
    own: Arc<ShareCoordinator>,
    brokers: Arc<dyn Brokers>,
    clock: Clock,
    /// One for each kind of request.
    outboxes: [Arc<Outbox<Question, SharePartition>>; wire::KINDS],
    /// Held by whoever creates the topic, so that one does.
    creating: tokio::sync::Mutex<()>,
    stopped: CancellationToken,
}

impl Persister {
    /// Asks this broker's share coordinator, and those of the others.
    pub fn new(
        own: Arc<ShareCoordinator>,
        brokers: Arc<dyn Brokers>,
        clock: Clock,
        request_timeout_ms: i64,
    ) -> Self {
        let outboxes = std::array::from_fn(|_| {
            let brokers = Arc::clone(&brokers);
            let key = |question: &Question| question.of.clone();
            Outbox::new(key, move |id, questions| {
                let connection = brokers.connection(id);
                Box::pin(async move { wire::ask(connection, questions, request_timeout_ms).await })
            })
        });
        Self {
            own,
            brokers,
            clock,
            outboxes,
            creating: tokio::sync::Mutex::default(),
            stopped: CancellationToken::new(),
        }
    }

    /// Nobody is asked again from now on: the broker stops.
    pub fn stop(&self) {
        self.stopped.cancel();
    }

    /// Asks until it is answered, or until it has waited for long enough.
    async fn ask(&self, of: SharePartition, ask: Ask) -> Reply {
        let until_ms = self.clock.steady_ms().saturating_add(PATIENCE_MS);
        let mut backoff_ms = BACKOFF_MS;
        loop {
            let reply = self.ask_once(&of, &ask).await;
            let Err(error) = &reply else { return reply };
            let now_ms = self.clock.steady_ms();
            if now_ms >= until_ms || !self.may_help(&of, error.code) {
                return reply;
            }
            let again = self.clock.sleep_until(now_ms.saturating_add(backoff_ms).min(until_ms));
            if self.stopped.run_until_cancelled(again).await.is_none() {
                return reply;
            }
            backoff_ms = (backoff_ms * 2).min(BACKOFF_MAX_MS);
        }
    }

    async fn ask_once(&self, of: &SharePartition, ask: &Ask) -> Reply {
        let state_partition = self.own.partition_for(&of.coordinator_key());
        let mut coordinator = self.brokers.coordinator(state_partition);
        if coordinator == Coordinator::NoTopic {
            coordinator = self.create_topic(state_partition).await;
        }
        match coordinator {
            Coordinator::Here => self.own.ask(of, ask.clone()).await,
            Coordinator::Broker(id) => {
                let (answer, answered) = oneshot::channel();
                let question = Question { of: of.clone(), ask: ask.clone(), answer };
                self.outboxes[wire::kind(ask)].push(id, question);
                answered.await.unwrap_or_else(|_| Err(ErrorCode::NetworkException.into()))
            }
            Coordinator::Nobody | Coordinator::NoTopic => Err(ErrorCode::CoordinatorNotAvailable.into()),
        }
    }

    async fn create_topic(&self, state_partition: i32) -> Coordinator {
        let _alone = self.creating.lock().await;
        let coordinator = self.brokers.coordinator(state_partition);
        if coordinator != Coordinator::NoTopic {
            return coordinator;
        }
        self.brokers.create_state_topic().await;
        self.brokers.coordinator(state_partition)
    }

    /// Whether it may help to ask again.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other codes stay as they are")]
    fn may_help(&self, of: &SharePartition, code: ErrorCode) -> bool {
        match code {
            ErrorCode::CoordinatorNotAvailable
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::NotCoordinator
            | ErrorCode::NetworkException
            | ErrorCode::RequestTimedOut => true,
            // The coordinator may hear of it later than this broker.
            ErrorCode::UnknownTopicOrPartition => self.brokers.has_topic(of.topic_id),
            _ => false,
        }
    }

    /// The state of a share partition begins anew, at this offset; -1 for where the group's configuration says.
    ///
    /// # Errors
    /// `FENCED_STATE_EPOCH` for an older state epoch, `UNKNOWN_TOPIC_OR_PARTITION`, and those of finding a coordinator.
    pub async fn initialize(
        &self,
        of: SharePartition,
        state_epoch: i32,
        start_offset: Offset,
    ) -> Result<(), ApiError> {
        self.ask(of, Ask::Initialize { state_epoch, start_offset }).await.and_then(Answer::done)
    }

    /// What is known of a share partition, for its leader in this epoch.
    ///
    /// # Errors
    /// `INVALID_REQUEST` where it is not initialized, `FENCED_LEADER_EPOCH`, `UNKNOWN_TOPIC_OR_PARTITION`, and those of
    /// finding a coordinator.
    pub async fn read(
        &self,
        of: SharePartition,
        leader_epoch: LeaderEpoch,
    ) -> Result<PartitionState, ApiError> {
        self.ask(of, Ask::Read { leader_epoch }).await.and_then(Answer::state)
    }

    /// Changes what is known of a share partition.
    ///
    /// # Errors
    /// `INVALID_REQUEST` where it is not initialized, `FENCED_LEADER_EPOCH`, `FENCED_STATE_EPOCH`,
    /// `UNKNOWN_TOPIC_OR_PARTITION`, and those of finding a coordinator.
    pub async fn write(
        &self,
        of: SharePartition,
        state_epoch: i32,
        leader_epoch: LeaderEpoch,
        start_offset: Offset,
        delivery_complete_count: i32,
        batches: Vec<StateBatch>,
    ) -> Result<(), ApiError> {
        let update =
            StateUpdate { state_epoch, leader_epoch, start_offset, delivery_complete_count, batches };
        self.ask(of, Ask::Write(update)).await.and_then(Answer::done)
    }

    /// Forgets what is known of a share partition.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`, and those of finding a coordinator.
    pub async fn delete(&self, of: SharePartition) -> Result<(), ApiError> {
        self.ask(of, Ask::Delete).await.and_then(Answer::done)
    }

    /// What is known of a share partition in short, also where it is not initialized.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`, and those of finding a coordinator.
    pub async fn read_summary(
        &self,
        of: SharePartition,
        leader_epoch: LeaderEpoch,
    ) -> Result<StateSummary, ApiError> {
        self.ask(of, Ask::ReadSummary { leader_epoch }).await.and_then(Answer::summary)
    }
}
