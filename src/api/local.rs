//! The controller of this node, asked by its own broker: the same requests as over the network, without a socket.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::context::{BrokerHandles, Connection, Context, Listener};
use super::request::Request;
use crate::client::{ClientError, LocalController};
use crate::config::listener::ListenerKind;
use crate::protocol::header::{RequestHeader, decode_response_header};

/// Answers the requests of this node's broker.
pub(crate) struct OwnController {
    broker: Weak<BrokerHandles>,
    connection: Arc<Connection>,
}

impl OwnController {
    /// The controller that is part of `broker`.
    pub(crate) fn new(broker: &Arc<BrokerHandles>) -> Self {
        let listener = Listener { name: String::new(), kind: ListenerKind::Controller, advertised: None };
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let connection = Arc::new(Connection::new(Arc::new(listener), here, here));
        Self { broker: Arc::downgrade(broker), connection }
    }
}

impl LocalController for OwnController {
    fn serve(&self, header: RequestHeader, body: Bytes) -> BoxFuture<'static, Result<Bytes, ClientError>> {
        let (broker, connection) = (self.broker.upgrade(), Arc::clone(&self.connection));
        Box::pin(async move {
            let unserved = |reason: &dyn std::fmt::Display| ClientError::Malformed(reason.to_string());
            let broker = broker.ok_or_else(|| unserved(&"this node is stopping"))?;
            let (key, version) = (header.api_key, header.api_version);
            let client_id = header.client_id.clone();
            let context = Context {
                broker,
                connection,
                client_id,
                request_bytes: body.len(),
                metered: None,
                forwarded: false,
            };
            let request = Request::of(header, body).map_err(|reason| unserved(&reason))?;
            let running = request.start(context).map_err(|reason| unserved(&reason))?;
            let answered = running.await.map_err(|reason| unserved(&reason))?;
            let mut frame =
                answered.map(super::Encoded::into_frame).ok_or_else(|| unserved(&"there is no response"))?;
            decode_response_header(&mut frame, key, version).map_err(|error| unserved(&error))?;
            Ok(frame)
        })
    }
}
