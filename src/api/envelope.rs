//! Envelope (58): a request that a broker forwards to the active controller, with who sent it and from where (KIP-590).
//!
//! - What is in it can only be a request that brokers forward.
//! - NOT_CONTROLLER stands in the envelope, so that the broker looks for the active controller; what the request itself
//!   is answered with stands in the response inside it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Instant;

use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::EnvelopeResponse;

use super::context::{Connection, Context, Disconnect};
use super::request::{Encoded, Request, Running};
use super::throttle::{Metered, settle};
use crate::config::listener::ListenerKind;
use crate::error::{ApiError, ErrorCode};
use crate::protocol::header::RequestHeader;
use crate::protocol::messages::EnvelopeRequest;
use crate::protocol::schema::{Schema, schema};

/// The key of this API.
pub(super) const KEY: i16 = 58;

/// The version of a serialised principal.
const PRINCIPAL_VERSION: i16 = 0;

schema! {
    /// Who sent a request, as brokers tell each other (`DefaultPrincipalData`).
    pub(super) struct Principal, versions 0..=0, flexible 0.. {
        kind: String,
        name: String,
        token_authenticated: bool,
    }
}

impl Principal {
    /// Whoever did not say who it is.
    pub(super) fn anonymous() -> Self {
        Self { kind: "User".to_owned(), name: "ANONYMOUS".to_owned(), ..Self::default() }
    }

    /// Its version, and what it is (`DefaultKafkaPrincipalBuilder.serialize`).
    pub(super) fn encode(&self) -> Result<Bytes, ApiError> {
        let mut encoded = BytesMut::new();
        encoded.put_i16(PRINCIPAL_VERSION);
        let written = Schema::encode(self, &mut encoded, PRINCIPAL_VERSION);
        written.map_err(|error| ApiError::with(ErrorCode::UnknownServerError, error.to_string()))?;
        Ok(encoded.freeze())
    }

    /// Reads that; `None` where it is not one.
    fn read(mut encoded: Bytes) -> Option<Self> {
        let version = i16::from_be_bytes(*encoded.first_chunk()?);
        let mut rest = encoded.split_off(2);
        if version != PRINCIPAL_VERSION {
            return None;
        }
        <Self as Schema>::decode(&mut rest, version).ok()
    }
}

pub(super) fn begin(
    context: Context,
    request: EnvelopeRequest,
    header: RequestHeader,
) -> Result<Running, Disconnect> {
    Ok(Box::pin(async move {
        let response = match answer(context, request).await {
            Ok(response) => EnvelopeResponse::default().with_response_data(Some(response)),
            Err(code) => EnvelopeResponse::default().with_error_code(code.code()),
        };
        Encoded::response(&header, &response).map(Some)
    }))
}

async fn answer(context: Context, envelope: EnvelopeRequest) -> Result<Bytes, ErrorCode> {
    let principal = envelope.request_principal.and_then(Principal::read);
    let principal = principal.ok_or(ErrorCode::PrincipalDeserializationFailure)?;
    let address = address(&envelope.client_host_address).ok_or(ErrorCode::InvalidRequest)?;
    let request = Request::parse(envelope.request_data, ListenerKind::Both)
        .map_err(|_| ErrorCode::UnsupportedVersion)?;
    if !request.api.forwarded {
        return Err(ErrorCode::InvalidRequest);
    }
    let metadata = Arc::clone(&context.broker.metadata);
    let epoch = metadata.active_epoch().ok_or(ErrorCode::NotController)?;
    tracing::debug!(api = request.api.name, %address, user = principal.name, "forwarded by a broker");
    let local = context.connection.local;
    let listener = Arc::clone(&context.connection.listener);
    let connection = Connection::new(listener, local, SocketAddr::new(address, 0)).of(principal.name);
    let (broker, connection) = (context.broker, Arc::new(connection));
    let (api, version) = (request.api, request.header.api_version);
    let request_bytes = request.body_bytes();
    let metered = Metered::start(&broker, &connection, &request);
    let inner = Context {
        connection: Arc::clone(&connection),
        client_id: request.header.client_id.clone(),
        request_bytes,
        metered: metered.clone(),
        forwarded: true,
        broker: Arc::clone(&broker),
    };
    let mut running = request.start(inner).map_err(|_| ErrorCode::UnsupportedVersion)?;
    let mut answered =
        std::future::poll_fn(|task| poll_metered(&mut running, metered.as_deref(), task)).await;
    if let (Some(metered), Ok(Some(response))) = (&metered, &mut answered) {
        // The client is held back by the broker that it is connected to.
        settle(&broker, &connection, metered, (api, version), Some(response));
    }
    // Who leads no more has answered that it is not the controller, which the broker and not its client has to know.
    if metadata.active_epoch() != Some(epoch) {
        return Err(ErrorCode::NotController);
    }
    match answered {
        Ok(Some(response)) => Ok(response.into_frame()),
        Ok(None) | Err(_) => Err(ErrorCode::UnknownServerError),
    }
}

/// Works on a request, and measures how long.
fn poll_metered(
    running: &mut Running,
    metered: Option<&Metered>,
    task: &mut task::Context<'_>,
) -> Poll<Result<Option<Encoded>, Disconnect>> {
    let Some(metered) = metered else { return running.as_mut().poll(task) };
    metered.resume(Instant::now());
    let polled = running.as_mut().poll(task);
    metered.pause(Instant::now());
    polled
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four: Option<[u8; 4]> = bytes.try_into().ok();
    let sixteen: Option<[u8; 16]> = bytes.try_into().ok();
    four.map(IpAddr::from).or_else(|| sixteen.map(IpAddr::from))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test")]

    use super::*;

    /// What `DefaultKafkaPrincipalBuilder` of Apache Kafka 4.3.1 makes of `User:ANONYMOUS`.
    const ANONYMOUS: &[u8] = b"\0\0\x05User\x0aANONYMOUS\0\0";

    #[test]
    fn a_principal_is_written_as_kafka_writes_it() {
        assert_eq!(Principal::anonymous().encode().unwrap(), ANONYMOUS);
        assert_eq!(Principal::read(Bytes::from_static(ANONYMOUS)), Some(Principal::anonymous()));
        for broken in [&b""[..], b"\0", b"\0\x01\x05User", b"\0\0\x05Us"] {
            assert_eq!(Principal::read(Bytes::from_static(broken)), None);
        }
    }

    #[test]
    fn addresses_have_four_or_sixteen_bytes() {
        assert_eq!(address(&[127, 0, 0, 1]), Some("127.0.0.1".parse().unwrap()));
        assert_eq!(address(&[0; 16]), Some("::".parse().unwrap()));
        assert_eq!(address(&[1, 2, 3]), None);
    }
}
