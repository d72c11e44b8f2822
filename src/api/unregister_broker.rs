//! UnregisterBroker (64): forgets a broker that is gone for good (KIP-631).

use super::context::{Context, Disconnect};
use super::outcome::code_and_message;
use crate::metadata::controller::brokers;
use crate::protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};

pub(super) async fn handle(
    context: &Context,
    request: UnregisterBrokerRequest,
    _version: i16,
) -> Result<UnregisterBrokerResponse, Disconnect> {
    let id = request.broker_id.0;
    let decided = context.broker.metadata.decide(move |context| brokers::unregister(context, id)).await;
    let (code, message) = code_and_message(&decided.and_then(|reply| reply));
    Ok(UnregisterBrokerResponse::default().with_error_code(code).with_error_message(message))
}
