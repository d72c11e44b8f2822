//! InitProducerId (22): gives an idempotent producer its id.
//!
//! - Ids are taken from blocks of 1000 that the controller hands out, and are never given twice.
//! - As in Kafka, a producer without a transactional id gets a new id with epoch 0 whatever it had before; it raises
//!   its epoch by itself (KIP-360).
//! - Transactions are not there yet: a transactional id is answered with UNSUPPORTED_VERSION, as Kafka answers what
//!   its finalised features do not have.

use std::ops::Range;

use kafka_protocol::messages::ProducerId as WireProducerId;
use tokio::sync::Mutex;

use super::context::{Context, Disconnect};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::Metadata;
use crate::protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};
use crate::types::ProducerId;

/// What stands for no producer id or no epoch.
const NONE: i64 = -1;

/// The ids that this broker may give out.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds(Mutex<Range<ProducerId>>);

impl ProducerIds {
    /// An id that nobody had before.
    ///
    /// # Errors
    /// Where the controller gives no further block.
    async fn next(&self, metadata: &Metadata) -> Result<ProducerId, ApiError> {
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
    _version: i16,
) -> Result<InitProducerIdResponse, Disconnect> {
    let producer_id = match &request.transactional_id {
        _ if (request.producer_id.0 == NONE) != (i64::from(request.producer_epoch) == NONE) => {
            Err(ErrorCode::InvalidRequest)
        }
        Some(id) if id.is_empty() => Err(ErrorCode::InvalidRequest),
        Some(_) => Err(ErrorCode::UnsupportedVersion),
        None => context.broker.producer_ids.next(&context.broker.metadata).await.map_err(|error| error.code),
    };
    Ok(match producer_id {
        Ok(id) => {
            InitProducerIdResponse::default().with_producer_id(WireProducerId(id)).with_producer_epoch(0)
        }
        Err(code) => InitProducerIdResponse::default()
            .with_error_code(code.code())
            .with_producer_id(WireProducerId(NONE))
            .with_producer_epoch(-1),
    })
}
