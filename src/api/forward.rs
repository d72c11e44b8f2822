//! Requests for the active controller that arrive at another broker: they are wrapped into an Envelope (58), sent to it,
//! and its answer is the answer (KIP-590, Kafka's `ForwardingManager`).
//!
//! Where the controller can not be reached in time, the request is handled here, which answers it with NOT_CONTROLLER:
//! clients try that again.

use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::EnvelopeRequest;

use super::context::{BrokerHandles, Context, Disconnect};
use super::envelope::Principal;
use super::request::{Encoded, Request, Running};
use crate::client::ClientError;
use crate::config::listener::ListenerKind;
use crate::error::{ApiError, ErrorCode};
use crate::protocol::header::{RequestHeader, decode_response_header, encode_request_header};
use crate::protocol::messages::{self, Body as _};

/// How long a controller is looked for and waited for (`request.timeout.ms` of Kafka's brokers).
const TIMEOUT_MS: i64 = 30_000;

/// Whether a request that the active controller has to answer goes to another node.
pub(super) fn wanted(context: &Context) -> bool {
    let from_client = !context.forwarded && context.connection.listener.kind != ListenerKind::Controller;
    from_client && !context.broker.metadata.is_active()
}

/// Sends the request to the active controller.
pub(super) fn start(context: Context, header: RequestHeader, body: Bytes) -> Running {
    Box::pin(async move {
        let address = match context.connection.peer.ip().to_canonical() {
            std::net::IpAddr::V4(address) => Bytes::copy_from_slice(&address.octets()),
            std::net::IpAddr::V6(address) => Bytes::copy_from_slice(&address.octets()),
        };
        match send(&context.broker, &header, &body, address).await {
            Ok(response) => {
                let length = u32::try_from(response.len())
                    .map_err(|_| Disconnect::Unencodable(format!("{} bytes", response.len())))?;
                let length = Bytes::copy_from_slice(&length.to_be_bytes());
                Ok(Some(Encoded::from_pieces(vec![length, response])))
            }
            // The controller has another version than it had: the client asks for versions again.
            Err(error) if error.code == ErrorCode::UnsupportedVersion => {
                Err(Disconnect::Malformed(error.to_string()))
            }
            Err(error) => {
                tracing::warn!(%error, api = header.api_key, "a request could not be forwarded to the controller");
                let context = Context { forwarded: true, ..context };
                Request::of(header, body)?.start(context)?.await
            }
        }
    })
}

/// Has the active controller answer a request of this broker itself.
///
/// # Errors
/// Where it can not be reached, or its answer not be read.
pub(crate) async fn call<R: messages::Request>(
    broker: &BrokerHandles,
    request: &R,
    version: i16,
) -> Result<R::Response, ApiError> {
    call_as(broker, broker.node_id.to_string(), request, version).await
}

/// The same in the name of a client, whose quotas it counts for.
///
/// # Errors
/// As those of [`call`].
pub(super) async fn call_as<R: messages::Request>(
    broker: &BrokerHandles,
    client_id: String,
    request: &R,
    version: i16,
) -> Result<R::Response, ApiError> {
    let unreadable = |error: String| ApiError::with(ErrorCode::UnknownServerError, error);
    let mut body = BytesMut::new();
    request.encode(&mut body, version).map_err(|error| unreadable(error.to_string()))?;
    let header = RequestHeader {
        api_key: R::KEY,
        api_version: version,
        correlation_id: 0,
        client_id: Some(client_id),
    };
    let mut answer = send(broker, &header, &body, Bytes::from_static(&[127, 0, 0, 1])).await?;
    decode_response_header(&mut answer, R::KEY, version).map_err(|error| unreadable(error.to_string()))?;
    R::Response::decode(&mut answer, version).map_err(|error| unreadable(error.to_string()))
}

/// The response of the active controller, with its header.
async fn send(
    broker: &BrokerHandles,
    header: &RequestHeader,
    body: &[u8],
    client_address: Bytes,
) -> Result<Bytes, ApiError> {
    let mut data = BytesMut::with_capacity(body.len() + 64);
    let client_id = header.client_id.as_deref().unwrap_or_default();
    encode_request_header(&mut data, header.api_key, header.api_version, header.correlation_id, client_id);
    data.put_slice(body);
    let envelope = EnvelopeRequest::default()
        .with_request_data(data.freeze())
        .with_request_principal(Some(Principal::anonymous().encode()?))
        .with_client_host_address(client_address);
    let answer = broker.controller.call(envelope, 0..=0, TIMEOUT_MS).await.map_err(api_error)?;
    match (answer.error_code, answer.response_data) {
        (0, Some(response)) => Ok(response),
        (code, _) => Err(ErrorCode::try_from_code(code).unwrap_or(ErrorCode::UnknownServerError).into()),
    }
}

fn api_error(error: ClientError) -> ApiError {
    let code = match &error {
        ClientError::Unsupported { .. } => ErrorCode::UnsupportedVersion,
        ClientError::TimedOut(_) => ErrorCode::RequestTimedOut,
        ClientError::Unreachable { .. }
        | ClientError::Disconnected { .. }
        | ClientError::Malformed(_)
        | ClientError::Unencodable(_) => ErrorCode::NotController,
    };
    ApiError::with(code, error.to_string())
}
