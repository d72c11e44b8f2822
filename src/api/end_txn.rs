//! EndTxn (26): commits or aborts a transaction.
//!
//! - Answered when the end is decided; the markers follow.
//! - Since version 5 every transaction ends with a new epoch, which the answer tells, and a new producer id where the
//!   epochs are used up (KIP-890).
//! - Versions 0 and 1 do not know PRODUCER_FENCED and are told INVALID_PRODUCER_EPOCH.

use super::add_partitions_to_txn::{FENCED_FROM, fenced_code};
use super::context::{Context, Disconnect};
use super::text;
use crate::protocol::messages::{EndTxnRequest, EndTxnResponse};
use crate::transaction::command::{EndTransaction, Producer};
use crate::transaction::state::EPOCH_BUMP_FROM;

/// The first version that gives every transaction a new epoch.
const BUMPS_FROM: i16 = 5;

pub(super) async fn handle(
    context: &Context,
    request: EndTxnRequest,
    version: i16,
) -> Result<EndTxnResponse, Disconnect> {
    let end = EndTransaction {
        transactional_id: text::shared(&request.transactional_id),
        producer: Producer { id: request.producer_id.0, epoch: request.producer_epoch },
        is_commit: request.committed,
        client_version: if version >= BUMPS_FROM { EPOCH_BUMP_FROM } else { 0 },
        fresh_producer_id: None,
    };
    let response = EndTxnResponse::default();
    Ok(match context.broker.transactions.end(end).await {
        Ok(producer) if version >= BUMPS_FROM => {
            response.with_producer_id(producer.id.into()).with_producer_epoch(producer.epoch)
        }
        Ok(_) => response,
        Err(code) => response.with_error_code(fenced_code(code, version >= FENCED_FROM).code()),
    })
}
