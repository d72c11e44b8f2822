//! DescribeTransactions (65): what transactional ids are at (KIP-664).

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::{TopicName, TransactionalId};

use super::context::{Context, Disconnect};
use super::text;
use crate::error::ErrorCode;
use crate::protocol::messages::{DescribeTransactionsRequest, DescribeTransactionsResponse};
use crate::transaction::state::Transaction;

pub(super) async fn handle(
    context: &Context,
    request: DescribeTransactionsRequest,
    _version: i16,
) -> Result<DescribeTransactionsResponse, Disconnect> {
    let mut states = Vec::with_capacity(request.transactional_ids.len());
    for transactional_id in request.transactional_ids {
        let described = context.broker.transactions.describe(text::shared(&transactional_id)).await;
        let found = described.and_then(|found| found.ok_or(ErrorCode::TransactionalIdNotFound));
        states.push(state(transactional_id, found));
    }
    Ok(DescribeTransactionsResponse::default().with_transaction_states(states))
}

fn state(transactional_id: TransactionalId, found: Result<Transaction, ErrorCode>) -> TransactionState {
    let state = TransactionState::default().with_transactional_id(transactional_id);
    match found {
        Ok(transaction) => state
            .with_transaction_state(text::wire(transaction.state.name()))
            .with_transaction_timeout_ms(transaction.timeout_ms)
            .with_transaction_start_time_ms(transaction.started_ms)
            .with_producer_id(transaction.producer_id.into())
            .with_producer_epoch(transaction.producer_epoch)
            .with_topics(topics(&transaction)),
        Err(code) => state.with_error_code(code.code()),
    }
}

fn topics(transaction: &Transaction) -> Vec<TopicData> {
    let mut by_topic = BTreeMap::<_, Vec<_>>::new();
    for partition in &transaction.partitions {
        by_topic.entry(&partition.topic).or_default().push(partition.partition);
    }
    let topics = by_topic.into_iter();
    topics
        .map(|(topic, partitions)| {
            TopicData::default().with_topic(TopicName(text::wire(topic))).with_partitions(partitions)
        })
        .collect()
}
