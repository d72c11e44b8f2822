//! Asks the coordinator of a transaction, wherever it is, to add partitions or to tell whether they are part of it
//! (`AddPartitionsToTxnManager`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_protocol::messages::TransactionalId;
use kafka_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_protocol::messages::add_partitions_to_txn_response::AddPartitionsToTxnResult;
use tokio::sync::oneshot;

use super::peers::Peers;
use super::text;
use crate::client::{ClientError, Outbox};
use crate::clock::Clock;
use crate::config::BrokerConfig;
use crate::error::ErrorCode;
use crate::metadata::Metadata;
use crate::protocol::messages::AddPartitionsToTxnRequest;
use crate::transaction::command::InTransaction;
use crate::transaction::coordinator::TransactionCoordinator;
use crate::types::{NodeId, TRANSACTION_STATE_TOPIC, TopicPartition};

/// The versions that brokers use among themselves.
const VERSIONS: std::ops::RangeInclusive<i16> = 4..=5;

/// The partitions that were asked for, each with its error.
pub(crate) type Verified = Vec<(TopicPartition, Option<ErrorCode>)>;

/// A question for another broker.
struct Question {
    request: InTransaction,
    verify_only: bool,
    answer: oneshot::Sender<Result<Verified, ErrorCode>>,
}

/// Asks the coordinators of transactions.
pub(crate) struct Verifier {
    metadata: Arc<Metadata>,
    transactions: Arc<TransactionCoordinator>,
    clock: Clock,
    questions: Arc<Outbox<Question, Arc<str>>>,
    /// How long, and how often, a request waits for the transaction before to be complete.
    retry_max_ms: i64,
    retry_ms: i64,
}

impl Verifier {
    pub(crate) fn new(
        metadata: &Arc<Metadata>,
        transactions: &Arc<TransactionCoordinator>,
        clock: Clock,
        config: &BrokerConfig,
        peers: Peers,
    ) -> Self {
        let (peers, images) = (Arc::new(peers), Arc::clone(metadata));
        let timeout_ms = i64::from(config.request_timeout_ms);
        let key = |question: &Question| Arc::clone(&question.request.transactional_id);
        let questions = Outbox::new(key, move |id, questions| {
            let (peers, images) = (Arc::clone(&peers), Arc::clone(&images));
            Box::pin(async move { ask(&peers, &images, id, questions, timeout_ms).await })
        });
        Self {
            metadata: Arc::clone(metadata),
            transactions: Arc::clone(transactions),
            clock,
            questions,
            retry_max_ms: config.add_partitions_to_txn_retry_backoff_max_ms.into(),
            retry_ms: config.add_partitions_to_txn_retry_backoff_ms.into(),
        }
    }

    /// Adds partitions to a transaction, or, to `verify_only`, tells which of them are not part of it.
    ///
    /// # Errors
    /// Kafka's codes, where they concern all partitions.
    pub(crate) async fn verify(
        &self,
        request: InTransaction,
        verify_only: bool,
    ) -> Result<Verified, ErrorCode> {
        let until_ms = self.clock.steady_ms().saturating_add(self.retry_max_ms);
        loop {
            let coordinator = self.coordinator(&request.transactional_id)?;
            if coordinator == self.metadata.node_id() {
                return if verify_only {
                    self.transactions.verify_partitions(request).await
                } else {
                    self.transactions.add_partitions(request).await.map(|()| Vec::new())
                };
            }
            let (answer, answered) = oneshot::channel();
            self.questions.push(coordinator, Question { request: request.clone(), verify_only, answer });
            let verified = answered.await.unwrap_or(Err(ErrorCode::NetworkException))?;
            let is_early = |(_, error): &(_, _)| *error == Some(ErrorCode::ConcurrentTransactions);
            if verify_only || !verified.iter().any(is_early) || self.clock.steady_ms() >= until_ms {
                return Ok(verified);
            }
            self.clock.sleep_until(self.clock.steady_ms().saturating_add(self.retry_ms)).await;
        }
    }

    fn coordinator(&self, transactional_id: &str) -> Result<NodeId, ErrorCode> {
        let image = self.metadata.image();
        let partition = self.transactions.partition_for(transactional_id);
        let topic = image.topics.get(TRANSACTION_STATE_TOPIC);
        let leader = topic.and_then(|topic| topic.partition(partition)).map(|partition| partition.leader);
        let alive = |id: &NodeId| image.brokers.get(id).is_some_and(|broker| !broker.fenced);
        leader.filter(alive).ok_or(ErrorCode::CoordinatorNotAvailable)
    }
}

async fn ask(peers: &Peers, metadata: &Metadata, id: NodeId, questions: Vec<Question>, timeout_ms: i64) {
    let Some(peer) = peers.to(&metadata.image(), id) else {
        return answer_all(questions, &Err(ErrorCode::CoordinatorNotAvailable));
    };
    let transactions = questions.iter().map(transaction).collect();
    let request = AddPartitionsToTxnRequest::default().with_transactions(transactions);
    let response = match peer.call(request, VERSIONS, timeout_ms).await {
        Ok(answered) => answered.response,
        // A broker that is too old for it: batches are appended as they were before KIP-890.
        Err(ClientError::Unsupported { .. }) => return answer_all(questions, &Ok(Vec::new())),
        Err(error) => {
            tracing::warn!(broker = id, %error, "a transaction could not be verified");
            return answer_all(questions, &Err(ErrorCode::NetworkException));
        }
    };
    match ErrorCode::try_from_code(response.error_code) {
        None => {}
        // Producers do not expect what concerns this broker alone.
        Some(ErrorCode::ClusterAuthorizationFailed) => {
            return answer_all(questions, &Err(ErrorCode::InvalidTxnState));
        }
        Some(code) => return answer_all(questions, &Err(code)),
    }
    let mut results: HashMap<_, _> = response
        .results_by_transaction
        .into_iter()
        .map(|result| (text::shared(&result.transactional_id), verified(result)))
        .collect();
    for question in questions {
        let result = results.remove(&question.request.transactional_id);
        // A caller that has given up does not need its answer.
        let _ = question.answer.send(result.ok_or(ErrorCode::UnknownServerError));
    }
}

fn answer_all(questions: Vec<Question>, result: &Result<Verified, ErrorCode>) {
    for question in questions {
        // A caller that has given up does not need its answer.
        let _ = question.answer.send(result.clone());
    }
}

fn transaction(question: &Question) -> AddPartitionsToTxnTransaction {
    let InTransaction { transactional_id, producer, partitions, .. } = &question.request;
    let mut topics = BTreeMap::<&Arc<str>, Vec<i32>>::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        AddPartitionsToTxnTopic::default().with_name(text::wire(topic).into()).with_partitions(partitions)
    });
    AddPartitionsToTxnTransaction::default()
        .with_transactional_id(TransactionalId(text::wire(transactional_id)))
        .with_producer_id(producer.id.into())
        .with_producer_epoch(producer.epoch)
        .with_verify_only(question.verify_only)
        .with_topics(topics.collect())
}

fn verified(result: AddPartitionsToTxnResult) -> Verified {
    let topics = result.topic_results.into_iter().flat_map(|topic| {
        let name = text::shared(&topic.name);
        topic.results_by_partition.into_iter().map(move |partition| {
            let error = ErrorCode::try_from_code(partition.partition_error_code);
            (TopicPartition { topic: Arc::clone(&name), partition: partition.partition_index }, error)
        })
    });
    topics.collect()
}
