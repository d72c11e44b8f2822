//! ListTransactions (66): the transactional ids that this broker coordinates (KIP-664).
//!
//! - Filters that are given have to hold together. A name that is no state is told in the answer.
//! - Version 1 asks for transactions that are open for longer than a time (KIP-994), version 2 for transactional ids
//!   that a regular expression describes as a whole (KIP-1152).

use kafka_protocol::messages::TransactionalId;
use kafka_protocol::messages::list_transactions_response::TransactionState as WireState;
use regex::Regex;

use super::context::{Context, Disconnect};
use super::text;
use crate::error::ErrorCode;
use crate::protocol::messages::{ListTransactionsRequest, ListTransactionsResponse};
use crate::transaction::command::TransactionFilter;
use crate::transaction::state::TransactionState;

pub(super) async fn handle(
    context: &Context,
    request: ListTransactionsRequest,
    _version: i16,
) -> Result<ListTransactionsResponse, Disconnect> {
    let unknown = request.state_filters.iter().filter(|name| !TransactionState::is_name(name));
    let response = ListTransactionsResponse::default().with_unknown_state_filters(unknown.cloned().collect());
    let pattern = request.transactional_id_pattern.filter(|pattern| !pattern.is_empty());
    let Ok(pattern) = pattern.map(|pattern| Regex::new(&format!("^(?:{})$", &*pattern))).transpose() else {
        return Ok(response.with_error_code(ErrorCode::InvalidRegularExpression.code()));
    };
    let filter = TransactionFilter {
        states: request.state_filters.iter().map(ToString::to_string).collect(),
        producer_ids: request.producer_id_filters.iter().map(|id| id.0).collect(),
        duration_ms: request.duration_filter,
    };
    Ok(match context.broker.transactions.list(filter).await {
        Ok(transactions) => {
            let wanted = |id: &str| pattern.as_ref().is_none_or(|pattern| pattern.is_match(id));
            let wanted = transactions.into_iter().filter(|transaction| wanted(&transaction.transactional_id));
            let states = wanted.map(|transaction| {
                WireState::default()
                    .with_transactional_id(TransactionalId(text::wire(&transaction.transactional_id)))
                    .with_producer_id(transaction.producer_id.into())
                    .with_transaction_state(text::wire(transaction.state))
            });
            response.with_transaction_states(states.collect())
        }
        Err(code) => response.with_error_code(code.code()),
    })
}
