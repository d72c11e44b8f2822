//! Producer ids: given out to brokers in blocks, never twice.

use std::ops::Range;

use super::{Context, Decision};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::record::ProducerIdsRecord;
use crate::types::{NodeId, ProducerId};

/// How many ids a broker gets at a time (`ProducerIdsBlock.PRODUCER_ID_BLOCK_SIZE`).
pub const BLOCK_SIZE: i64 = 1_000;

/// Gives a broker the next block of producer ids.
pub fn allocate(
    context: &Context<'_>,
    broker_id: NodeId,
    broker_epoch: i64,
) -> Decision<Result<Range<ProducerId>, ApiError>> {
    match context.image.brokers.get(&broker_id) {
        Some(broker) if broker.epoch == broker_epoch => {}
        Some(_) | None => return Decision::reply(Err(ErrorCode::StaleBrokerEpoch.into())),
    }
    let first = context.image.next_producer_id;
    let Some(next_producer_id) = first.checked_add(BLOCK_SIZE) else {
        let text = "every producer id is given out";
        return Decision::reply(Err(ApiError::with(ErrorCode::UnknownServerError, text)));
    };
    let record =
        ProducerIdsRecord { broker_id, broker_epoch, next_producer_id, ..ProducerIdsRecord::default() };
    Decision { records: vec![record.into()], reply: Ok(first..next_producer_id) }
}
