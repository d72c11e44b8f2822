//! One other node.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rand::Rng as _;
use tokio::sync::{mpsc, oneshot};

use super::connection::{Call, Connection, dial};
use super::{Address, ClientError};
use crate::clock::Clock;
use crate::protocol::messages::{Body as _, Request};

/// How many requests may wait for a connection before callers wait to hand theirs over.
const QUEUED_CALLS_MAX: usize = 64;
/// Reconnecting waits up to this part longer or shorter, so that many nodes do not come at once.
const BACKOFF_JITTER: f64 = 0.2;

/// How another node is talked to.
#[derive(Clone, Debug)]
pub struct PeerOptions {
    /// The name that this node gives itself.
    pub client_id: Arc<str>,
    /// For all timeouts.
    pub clock: Clock,
    /// The socket's buffers; `None` leaves them to the operating system.
    pub send_buffer_bytes: Option<usize>,
    pub receive_buffer_bytes: Option<usize>,
    /// How long making a connection may take.
    pub connect_timeout_ms: i64,
    /// The pause after a connection failed; it doubles each time, up to the maximum.
    pub reconnect_backoff_ms: i64,
    pub reconnect_backoff_max_ms: i64,
    /// The largest response that is accepted.
    pub frame_bytes_max: usize,
    /// Whether the other side is asked for its versions first. Otherwise the caller knows what it serves.
    pub negotiate: bool,
    /// Where what goes over the connection is counted.
    pub traffic: Option<Arc<Traffic>>,
}

/// What went over connections since the start.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Requests that were sent.
    pub requests: AtomicU64,
    /// Responses that came.
    pub responses: AtomicU64,
    /// Bytes that were sent.
    pub bytes_out: AtomicU64,
    /// Bytes that came.
    pub bytes_in: AtomicU64,
}

impl PeerOptions {
    /// Kafka's defaults for connections between nodes.
    pub fn new(client_id: &str, clock: Clock) -> Self {
        Self {
            client_id: client_id.into(),
            clock,
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
            connect_timeout_ms: 10_000,
            reconnect_backoff_ms: 50,
            reconnect_backoff_max_ms: 1_000,
            frame_bytes_max: 256 << 20,
            negotiate: true,
            traffic: None,
        }
    }

    /// For the fetchers of replicas, which use the versions that the cluster's metadata version says.
    #[must_use]
    pub fn fixed_versions(self) -> Self {
        Self { negotiate: false, ..self }
    }
}

/// A response, and the version that it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered<R: Request> {
    pub response: R::Response,
    pub version: i16,
}

/// One other node, called over one connection. It is opened by the first request and again after it broke; it ends when
/// the last handle is dropped.
#[derive(Debug)]
pub struct Peer {
    address: Address,
    clock: Clock,
    calls: mpsc::Sender<Call>,
}

impl Peer {
    /// Has to be called within a tokio runtime. Nothing is sent before the first [`Peer::call`].
    pub fn new(address: Address, options: PeerOptions) -> Arc<Self> {
        let (calls, receiver) = mpsc::channel(QUEUED_CALLS_MAX);
        let clock = options.clock.clone();
        tokio::spawn(run(address.clone(), options, receiver));
        Arc::new(Self { address, clock, calls })
    }

    /// Who is called.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Sends a request and waits for its answer. `versions` are those that the caller can build and read: the highest
    /// that the other side serves too is taken, or their highest where versions are fixed. Calls are sent in the order
    /// in which they are polled first. Safe to cancel; the request may have been carried out then.
    ///
    /// # Errors
    /// Where there is no connection, none in time, or an answer that can not be read. Nothing is sent twice.
    pub async fn call<R>(
        &self,
        request: R,
        versions: RangeInclusive<i16>,
        timeout_ms: i64,
    ) -> Result<Answered<R>, ClientError>
    where
        R: Request + Send + 'static,
    {
        let deadline_ms = self.clock.steady_ms().saturating_add(timeout_ms);
        let (answer, answered) = oneshot::channel();
        let call = Call {
            api_key: R::KEY,
            versions,
            deadline_ms,
            encode: Box::new(move |body, version| {
                request.encode(body, version).map_err(|error| error.to_string())
            }),
            answer,
        };
        let exchange = async {
            // The task lives as long as its senders.
            let closed = || ClientError::TimedOut(timeout_ms);
            self.calls.send(call).await.map_err(|_| closed())?;
            answered.await.unwrap_or_else(|_| Err(closed()))
        };
        let (version, mut body) = tokio::select! {
            answer = exchange => answer?,
            () = self.clock.sleep_until(deadline_ms) => return Err(ClientError::TimedOut(timeout_ms)),
        };
        let response = R::Response::decode(&mut body, version)
            .map_err(|error| ClientError::Malformed(error.to_string()))?;
        Ok(Answered { response, version })
    }
}

/// Makes connections while there are calls.
async fn run(address: Address, options: PeerOptions, mut calls: mpsc::Receiver<Call>) {
    let mut failures = 0;
    let mut not_before_ms = i64::MIN;
    while let Some(call) = calls.recv().await {
        options.clock.sleep_until(not_before_ms).await;
        let error = match dial(&address, &options).await {
            Err(error) => ClientError::Unreachable { address: address.clone(), reason: error.to_string() },
            Ok(stream) => {
                let mut connection = Connection::new(stream, &address, &options);
                let ready = if options.negotiate { connection.negotiate().await } else { Ok(()) };
                match ready {
                    Ok(()) => {
                        failures = 0;
                        connection.run(call, &mut calls).await;
                        not_before_ms = options.clock.steady_ms() + options.reconnect_backoff_ms;
                        continue;
                    }
                    Err(error) => error,
                }
            }
        };
        not_before_ms = options.clock.steady_ms() + backoff_ms(&options, failures);
        failures += 1;
        let _ = call.answer.send(Err(error.clone()));
        while let Ok(call) = calls.try_recv() {
            let _ = call.answer.send(Err(error.clone()));
        }
    }
}

fn backoff_ms(options: &PeerOptions, failures: u32) -> i64 {
    let factor = 1_i64.checked_shl(failures.min(20)).unwrap_or(1);
    let at_most_ms = options.reconnect_backoff_max_ms.max(options.reconnect_backoff_ms);
    let backoff_ms = options.reconnect_backoff_ms.saturating_mul(factor).min(at_most_ms);
    let jitter = 1.0 + rand::rng().random_range(-BACKOFF_JITTER..=BACKOFF_JITTER);
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "milliseconds")]
    let jittered_ms = (backoff_ms as f64 * jitter) as i64;
    jittered_ms
}
