//! InitProducerId (22): gives an idempotent producer its id.
//!
//! - Ids are taken from blocks of 1000 that the controller hands out, and are never given twice.
//! - As in Kafka, a producer without a transactional id gets a new id with epoch 0 whatever it had before; it raises
//!   its epoch by itself (KIP-360).
//! - With a transactional id it fences whoever had the id before, ends what was left open, and gives the next epoch;
//!   a producer that goes on after an error says who it was (KIP-360).
//! - Versions 0 to 3 do not know PRODUCER_FENCED and are told INVALID_PRODUCER_EPOCH.

use std::ops::Range;

use tokio::sync::Mutex;

use super::add_partitions_to_txn::fenced_code;
use super::context::{Context, Disconnect};
use super::text;
use crate::error::{ApiError, ErrorCode};
use crate::metadata::Metadata;
use crate::protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};
use crate::transaction::command::{InitProducerId, Producer};
use crate::transaction::state::{NO_EPOCH, NO_PRODUCER_ID};
use crate::types::ProducerId;

/// The first version that knows PRODUCER_FENCED.
const FENCED_FROM: i16 = 4;

/// The ids that this broker may give out.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds(Mutex<Range<ProducerId>>);

impl ProducerIds {
    /// An id that nobody had before.
    ///
    /// # Errors
    /// Where the controller gives no further block.
    pub(crate) async fn next(&self, metadata: &Metadata) -> Result<ProducerId, ApiError> {
        let mut block = self.0.lock().await;
        loop {
            if let Some(id) = block.next() {
                return Ok(id);
            }
            *block = metadata.allocate_producer_ids().await?;
        }
    }
}

pub(super) async fn handle(
    context: &Context,
    request: InitProducerIdRequest,
    version: i16,
) -> Result<InitProducerIdResponse, Disconnect> {
    let (id, epoch) = (request.producer_id.0, request.producer_epoch);
    let producer = match &request.transactional_id {
        _ if (id == NO_PRODUCER_ID) != (epoch == NO_EPOCH) => Err(ErrorCode::InvalidRequest),
        Some(transactional_id) => {
            let init = InitProducerId {
                transactional_id: text::shared(transactional_id),
                timeout_ms: request.transaction_timeout_ms,
                expected: (id != NO_PRODUCER_ID).then_some(Producer { id, epoch }),
                fresh_producer_id: None,
            };
            context.broker.transactions.init(init).await
        }
        None => {
            let id = context.broker.producer_ids.next(&context.broker.metadata).await;
            id.map(|id| Producer { id, epoch: 0 }).map_err(|error| error.code)
        }
    };
    let response = InitProducerIdResponse::default();
    Ok(match producer {
        Ok(producer) => response.with_producer_id(producer.id.into()).with_producer_epoch(producer.epoch),
        Err(code) => response
            .with_error_code(fenced_code(code, version >= FENCED_FROM).code())
            .with_producer_id(NO_PRODUCER_ID.into())
            .with_producer_epoch(NO_EPOCH),
    })
}
