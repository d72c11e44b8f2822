//! The active controller, whichever node it is (`NodeToControllerChannelManager`).

use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock, Weak};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Address, ClientError, Peer, PeerOptions};
use crate::clock::Clock;
use crate::error::ErrorCode;
use crate::protocol::header::RequestHeader;
use crate::protocol::messages::*;

/// The pause before a controller is asked again that said that it is none, where nobody knows of another.
const RETRY_BACKOFF_MS: i64 = 50;

/// Who the active controller is, as far as this node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ActiveController {
    #[default]
    Unknown,
    /// This node.
    Local,
    Remote(Address),
}

/// The controller of this node, asked without a socket.
pub trait LocalController: Send + Sync {
    /// Answers a request as it would be answered over the network, bodies only.
    fn serve(&self, header: RequestHeader, body: Bytes) -> BoxFuture<'static, Result<Bytes, ClientError>>;
}

/// A response of a controller.
pub trait ControllerAnswer {
    /// The error of the response as a whole; 0 where there is none.
    fn error_code(&self) -> i16;
}

macro_rules! answers {
    ($($response:ident),* $(,)?) => {$(
        impl ControllerAnswer for $response {
            fn error_code(&self) -> i16 {
                self.error_code
            }
        }
    )*};
}

answers! {
    AllocateProducerIdsResponse, AlterPartitionResponse, AssignReplicasToDirsResponse, BrokerHeartbeatResponse,
    BrokerRegistrationResponse, ControllerRegistrationResponse, EnvelopeResponse, UnregisterBrokerResponse,
}

/// Sends requests to the active controller. It follows it when another node takes over, and asks again until the
/// deadline where a node is none any more, or can not be reached.
pub struct ControllerChannel {
    active: watch::Receiver<ActiveController>,
    local: OnceLock<Weak<dyn LocalController>>,
    options: PeerOptions,
    peer: Mutex<Option<Arc<Peer>>>,
}

impl ControllerChannel {
    /// A channel that follows `active`.
    pub fn new(active: watch::Receiver<ActiveController>, options: PeerOptions) -> Self {
        Self { active, local: OnceLock::new(), options, peer: Mutex::new(None) }
    }

    /// Sets who answers when this node is the controller. The first call counts.
    pub fn serve_locally(&self, local: Weak<dyn LocalController>) {
        let _ = self.local.set(local);
    }

    /// Sends a request to the active controller and waits for its answer, at most this long in all. A request whose
    /// answer was lost is sent again: it has to be one that may be repeated.
    ///
    /// # Errors
    /// The last thing that went wrong, when the time is over; at once where no repetition would help.
    pub async fn call<R>(
        &self,
        request: R,
        versions: RangeInclusive<i16>,
        timeout_ms: i64,
    ) -> Result<R::Response, ClientError>
    where
        R: Request + Clone + Send + 'static,
        R::Response: ControllerAnswer,
    {
        let clock = &self.options.clock;
        let deadline_ms = clock.steady_ms().saturating_add(timeout_ms);
        let mut last = ClientError::TimedOut(timeout_ms);
        let mut active = self.active.clone();
        loop {
            let asked = active.borrow_and_update().clone();
            let left_ms = deadline_ms - clock.steady_ms();
            if left_ms <= 0 {
                return Err(last);
            }
            let answer = match &asked {
                ActiveController::Unknown => None,
                ActiveController::Local => Some(self.ask_here(request.clone(), &versions, left_ms).await),
                ActiveController::Remote(address) => {
                    let peer = self.peer(address);
                    let call = peer.call(request.clone(), versions.clone(), left_ms);
                    // A controller that hangs is not waited for once another is known.
                    tokio::select! {
                        answer = call => Some(answer.map(|answered| answered.response)),
                        () = moved(&mut active, &asked) => continue,
                    }
                }
            };
            match answer {
                Some(Ok(response)) if response.error_code() != ErrorCode::NotController.code() => {
                    return Ok(response);
                }
                Some(Err(error @ (ClientError::Unsupported { .. } | ClientError::Unencodable(_)))) => {
                    return Err(error);
                }
                Some(Err(error)) => last = error,
                Some(Ok(_)) | None => {}
            }
            let again_ms = match asked {
                ActiveController::Unknown => deadline_ms,
                ActiveController::Local | ActiveController::Remote(_) => {
                    deadline_ms.min(clock.steady_ms() + RETRY_BACKOFF_MS)
                }
            };
            tokio::select! {
                () = moved(&mut active, &asked) => {}
                () = clock.sleep_until(again_ms) => {}
            }
        }
    }

    /// Whether a controller is known.
    pub fn is_known(&self) -> bool {
        *self.active.borrow() != ActiveController::Unknown
    }

    fn peer(&self, address: &Address) -> Arc<Peer> {
        let mut peer = self.peer.lock();
        match &*peer {
            Some(peer) if peer.address() == address => Arc::clone(peer),
            _ => Arc::clone(peer.insert(Peer::new(address.clone(), self.options.clone()))),
        }
    }

    async fn ask_here<R: Request>(
        &self,
        request: R,
        versions: &RangeInclusive<i16>,
        timeout_ms: i64,
    ) -> Result<R::Response, ClientError> {
        let Some(local) = self.local.get().and_then(Weak::upgrade) else {
            return Err(ClientError::TimedOut(timeout_ms));
        };
        let version = *versions.end();
        let mut body = BytesMut::new();
        request.encode(&mut body, version).map_err(|error| ClientError::Unencodable(error.to_string()))?;
        let header = RequestHeader {
            api_key: R::KEY,
            api_version: version,
            correlation_id: 0,
            client_id: Some(self.options.client_id.to_string()),
        };
        let mut answer = within(&self.options.clock, timeout_ms, local.serve(header, body.freeze())).await?;
        R::Response::decode(&mut answer, version).map_err(|error| ClientError::Malformed(error.to_string()))
    }
}

async fn within(
    clock: &Clock,
    timeout_ms: i64,
    answer: BoxFuture<'static, Result<Bytes, ClientError>>,
) -> Result<Bytes, ClientError> {
    tokio::select! {
        answer = answer => answer,
        () = clock.sleep_until(clock.steady_ms().saturating_add(timeout_ms)) => {
            Err(ClientError::TimedOut(timeout_ms))
        }
    }
}

/// Waits until the active controller is another one. Forever where nobody will tell any more.
async fn moved(active: &mut watch::Receiver<ActiveController>, from: &ActiveController) {
    if active.wait_for(|now| now != from).await.is_err() {
        std::future::pending().await
    }
}
