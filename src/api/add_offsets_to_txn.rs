//! AddOffsetsToTxn (25): makes a group's offsets part of a transaction, before the first TxnOffsetCommit.
//!
//! - Only the older protocol of transactions sends it (KIP-890).
//! - Versions 0 and 1 do not know PRODUCER_FENCED and are told INVALID_PRODUCER_EPOCH.

use super::add_partitions_to_txn::{FENCED_FROM, fenced_code};
use super::context::{Context, Disconnect};
use super::text;
use crate::protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use crate::transaction::command::{InTransaction, Producer};
use crate::types::{CONSUMER_OFFSETS_TOPIC, TopicPartition};

pub(super) async fn handle(
    context: &Context,
    request: AddOffsetsToTxnRequest,
    version: i16,
) -> Result<AddOffsetsToTxnResponse, Disconnect> {
    let partition = context.broker.groups.partition_for(&request.group_id);
    let request = InTransaction {
        transactional_id: text::shared(&request.transactional_id),
        producer: Producer { id: request.producer_id.0, epoch: request.producer_epoch },
        partitions: vec![TopicPartition { topic: CONSUMER_OFFSETS_TOPIC.into(), partition }],
        client_version: 0,
    };
    let added = context.broker.transactions.add_partitions(request).await;
    let error = added.err().map(|code| fenced_code(code, version >= FENCED_FROM));
    Ok(AddOffsetsToTxnResponse::default().with_error_code(text::wire_error(error)))
}
