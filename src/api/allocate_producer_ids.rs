//! AllocateProducerIds (67): gives a broker a block of producer ids (KIP-730).

use super::context::{Context, Disconnect};
use crate::error::wire_code;
use crate::metadata::controller::producer_ids;
use crate::protocol::messages::{AllocateProducerIdsRequest, AllocateProducerIdsResponse};

pub(super) async fn handle(
    context: &Context,
    request: AllocateProducerIdsRequest,
    _version: i16,
) -> Result<AllocateProducerIdsResponse, Disconnect> {
    let (id, epoch) = (request.broker_id.0, request.broker_epoch);
    let metadata = &context.broker.metadata;
    let decided = metadata.decide(move |context| producer_ids::allocate(context, id, epoch)).await;
    let result = decided.and_then(|reply| reply);
    let response = AllocateProducerIdsResponse::default().with_error_code(wire_code(&result));
    Ok(match result {
        Ok(ids) => response
            .with_producer_id_start(ids.start.into())
            .with_producer_id_len(i32::try_from(ids.end - ids.start).unwrap_or(i32::MAX)),
        Err(_) => response,
    })
}
