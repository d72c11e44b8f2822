//! AddPartitionsToTxn (24): makes partitions part of a transaction, before the first write to them.
//!
//! - Versions 0 to 3 come from clients, of one transaction. Versions 4 and 5 come from brokers, of several, and may only
//!   ask whether the partitions are part of it (KIP-890).
//! - Where one partition can not be added, none is: the others are answered with OPERATION_NOT_ATTEMPTED.
//! - Versions 0 and 1 do not know PRODUCER_FENCED and are told INVALID_PRODUCER_EPOCH.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};

use super::context::{Context, Disconnect};
use super::text;
use crate::error::ErrorCode;
use crate::metadata::Image;
use crate::protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use crate::transaction::command::{InTransaction, Producer};
use crate::transaction::state::EPOCH_BUMP_FROM;
use crate::types::TopicPartition;

/// The first version of brokers.
const BATCHED_FROM: i16 = 4;
/// The first version that knows PRODUCER_FENCED.
pub(super) const FENCED_FROM: i16 = 2;

pub(super) async fn handle(
    context: &Context,
    request: AddPartitionsToTxnRequest,
    version: i16,
) -> Result<AddPartitionsToTxnResponse, Disconnect> {
    let response = AddPartitionsToTxnResponse::default();
    if version < BATCHED_FROM {
        let transaction = Transaction {
            transactional_id: text::shared(&request.v3_and_below_transactional_id),
            producer: Producer {
                id: request.v3_and_below_producer_id.0,
                epoch: request.v3_and_below_producer_epoch,
            },
            topics: request.v3_and_below_topics,
            verify_only: false,
            client_version: 0,
        };
        let results = transaction.carry_out(context, version).await;
        return Ok(response.with_results_by_topic_v3_and_below(results));
    }
    let mut results = Vec::with_capacity(request.transactions.len());
    for transaction in request.transactions {
        let transactional_id = transaction.transactional_id;
        let transaction = Transaction {
            transactional_id: text::shared(&transactional_id),
            producer: Producer { id: transaction.producer_id.0, epoch: transaction.producer_epoch },
            topics: transaction.topics,
            verify_only: transaction.verify_only,
            client_version: EPOCH_BUMP_FROM,
        };
        let result = AddPartitionsToTxnResult::default().with_transactional_id(transactional_id);
        results.push(result.with_topic_results(transaction.carry_out(context, version).await));
    }
    Ok(response.with_results_by_transaction(results))
}

/// The partitions of one transaction.
struct Transaction {
    transactional_id: Arc<str>,
    producer: Producer,
    topics: Vec<AddPartitionsToTxnTopic>,
    verify_only: bool,
    client_version: i16,
}

impl Transaction {
    async fn carry_out(self, context: &Context, version: i16) -> Vec<AddPartitionsToTxnTopicResult> {
        let errors = self.errors(context, version).await;
        let topics = self.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|index| {
                AddPartitionsToTxnPartitionResult::default()
                    .with_partition_index(*index)
                    .with_partition_error_code(text::wire_error(errors.of(&topic.name, *index)))
            });
            let partitions = partitions.collect();
            AddPartitionsToTxnTopicResult::default()
                .with_name(topic.name)
                .with_results_by_partition(partitions)
        });
        topics.collect()
    }

    async fn errors(&self, context: &Context, version: i16) -> Errors {
        let partitions = self.partitions();
        let image = context.broker.metadata.image();
        let (known, unknown): (Vec<_>, Vec<_>) =
            partitions.iter().cloned().partition(|partition| exists(&image, partition));
        if !unknown.is_empty() {
            let mut each: HashMap<_, _> = unknown
                .into_iter()
                .map(|partition| (partition, Some(ErrorCode::UnknownTopicOrPartition)))
                .collect();
            let skipped = |partition| (partition, Some(ErrorCode::OperationNotAttempted));
            each.extend(known.into_iter().map(skipped));
            return Errors::Each(each);
        }
        let request = InTransaction {
            transactional_id: Arc::clone(&self.transactional_id),
            producer: self.producer,
            partitions,
            client_version: self.client_version,
        };
        if self.verify_only {
            return match context.broker.transactions.verify_partitions(request).await {
                Ok(verified) => Errors::Each(verified.into_iter().collect()),
                Err(code) => Errors::All(Some(code)),
            };
        }
        let added = context.broker.transactions.add_partitions(request).await;
        Errors::All(added.err().map(|code| fenced_code(code, version >= FENCED_FROM)))
    }

    fn partitions(&self) -> Vec<TopicPartition> {
        let of_topic = |topic: &AddPartitionsToTxnTopic| {
            let name = text::shared(&topic.name);
            let partitions = topic.partitions.clone();
            partitions
                .into_iter()
                .map(move |partition| TopicPartition { topic: Arc::clone(&name), partition })
        };
        self.topics.iter().flat_map(of_topic).collect()
    }
}

/// What each partition is answered with.
enum Errors {
    All(Option<ErrorCode>),
    Each(HashMap<TopicPartition, Option<ErrorCode>>),
}

impl Errors {
    fn of(&self, topic: &str, partition: i32) -> Option<ErrorCode> {
        match self {
            Self::All(error) => *error,
            Self::Each(each) => {
                each.get(&TopicPartition { topic: text::shared(topic), partition }).copied().flatten()
            }
        }
    }
}

fn exists(image: &Image, partition: &TopicPartition) -> bool {
    image.topics.get(&partition.topic).is_some_and(|topic| topic.partition(partition.partition).is_some())
}

/// Older clients do not know PRODUCER_FENCED.
pub(super) fn fenced_code(code: ErrorCode, knows_fenced: bool) -> ErrorCode {
    if code == ErrorCode::ProducerFenced && !knows_fenced { ErrorCode::InvalidProducerEpoch } else { code }
}
