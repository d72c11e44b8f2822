//! One connection to another node: requests out, responses in, in the same order.

use std::collections::VecDeque;
use std::io;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use super::peer::{PeerOptions, Traffic};
use super::versions::{self, Reply, Versions};
use super::{Address, ClientError};
use crate::protocol::header::{API_VERSIONS, decode_response_header, encode_request_header};
use crate::protocol::messages::{ApiVersionsRequest, Body as _};

/// How much room there is for what is read next, at least, and how much is made where there is less.
const READ_BYTES_MIN: usize = 1024;
const READ_BYTES: usize = 8 * 1024;
/// Room is made for at most this much of a response before its bytes arrive.
const RESERVE_BYTES_MAX: usize = 1024 * 1024;
/// While this much waits to be written, no further requests are taken.
const UNWRITTEN_BYTES_MAX: usize = 1024 * 1024;

/// Appends the body of a request in a version.
pub(super) type EncodeBody = Box<dyn FnOnce(&mut BytesMut, i16) -> Result<(), String> + Send>;

/// A request on its way.
pub(super) struct Call {
    pub(super) api_key: i16,
    pub(super) versions: RangeInclusive<i16>,
    /// On the steady clock.
    pub(super) deadline_ms: i64,
    pub(super) encode: EncodeBody,
    /// Told the version and the body of the response.
    pub(super) answer: oneshot::Sender<Result<(i16, Bytes), ClientError>>,
}

/// A request that was sent and has no answer yet.
struct InFlight {
    api_key: i16,
    version: i16,
    correlation_id: i32,
    deadline_ms: i64,
    answer: oneshot::Sender<Result<(i16, Bytes), ClientError>>,
}

/// Whether nobody listens there, as the operating system of that machine says. No answer at all says nothing.
pub async fn is_refused(address: &Address, options: &PeerOptions) -> bool {
    dial(address, options).await.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Opens a socket. Encrypted connections begin here too, once there are some: what stands behind reads and writes any
/// stream of bytes.
pub(super) async fn dial(address: &Address, options: &PeerOptions) -> io::Result<TcpStream> {
    let deadline_ms = options.clock.steady_ms().saturating_add(options.connect_timeout_ms);
    let stream = tokio::select! {
        stream = TcpStream::connect((&*address.host, address.port)) => stream?,
        () = options.clock.sleep_until(deadline_ms) => {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in time"));
        }
    };
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(&stream);
    if let Some(bytes) = options.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    Ok(stream)
}

/// A connection that is open.
pub(super) struct Connection<'a, S> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    address: &'a Address,
    options: &'a PeerOptions,
    /// What the other side serves; `None` where nobody asked.
    served: Option<Versions>,
    correlation_id: i32,
    in_flight: VecDeque<InFlight>,
    unread: BytesMut,
    unwritten: BytesMut,
}

/// What happened on a connection.
enum Happened {
    Called(Option<Call>),
    Read(io::Result<usize>),
    Written(io::Result<usize>),
    TooLate,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Connection<'a, S> {
    pub(super) fn new(stream: S, address: &'a Address, options: &'a PeerOptions) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            reader,
            writer,
            address,
            options,
            served: None,
            correlation_id: 0,
            in_flight: VecDeque::new(),
            unread: BytesMut::new(),
            unwritten: BytesMut::new(),
        }
    }

    /// Asks the other side what it serves.
    pub(super) async fn negotiate(&mut self) -> Result<(), ClientError> {
        let mut version = *ApiVersionsRequest::VERSIONS.end();
        let deadline_ms = self.options.clock.steady_ms().saturating_add(self.options.connect_timeout_ms);
        loop {
            let (answer, mut answered) = oneshot::channel();
            self.send(Call {
                api_key: API_VERSIONS,
                versions: version..=version,
                deadline_ms,
                encode: Box::new(|body, version| {
                    versions::question().encode(body, version).map_err(|error| error.to_string())
                }),
                answer,
            });
            let body = loop {
                if let Ok(answer) = answered.try_recv() {
                    break answer?.1;
                }
                self.turn(None).await.map_err(|reason| self.disconnected(&reason))?;
            };
            match versions::read(body, version).map_err(ClientError::Malformed)? {
                Reply::AskAgain(older) => version = older,
                Reply::Versions(served) => {
                    self.served = Some(served);
                    return Ok(());
                }
            }
        }
    }

    /// Sends this request and what comes through `calls`, until the connection ends or nobody calls any more. All that
    /// has no answer then is told so.
    pub(super) async fn run(mut self, first: Call, calls: &mut mpsc::Receiver<Call>) {
        self.send(first);
        let reason = loop {
            match self.turn(Some(&mut *calls)).await {
                Ok(true) => {}
                Ok(false) => break "this node has no more requests".to_owned(),
                Err(reason) => break reason,
            }
        };
        let error = self.disconnected(&reason);
        for call in self.in_flight {
            let _ = call.answer.send(Err(error.clone()));
        }
    }

    pub(super) fn disconnected(&self, reason: &str) -> ClientError {
        ClientError::Disconnected { address: self.address.clone(), reason: reason.to_owned() }
    }

    /// Waits for one thing to happen. `false` when nobody calls any more, an error when the connection has to end.
    async fn turn(&mut self, calls: Option<&mut mpsc::Receiver<Call>>) -> Result<bool, String> {
        let too_late_ms = self.in_flight.iter().map(|call| call.deadline_ms).min();
        let takes_calls = self.unwritten.len() < UNWRITTEN_BYTES_MAX;
        if self.unread.capacity() - self.unread.len() < READ_BYTES_MIN {
            self.unread.reserve(READ_BYTES);
        }
        let happened = tokio::select! {
            read = self.reader.read_buf(&mut self.unread) => Happened::Read(read),
            written = self.writer.write_buf(&mut self.unwritten), if !self.unwritten.is_empty() => {
                Happened::Written(written)
            }
            call = next(calls), if takes_calls => Happened::Called(call),
            () = expired(&self.options.clock, too_late_ms) => Happened::TooLate,
        };
        match happened {
            Happened::Called(Some(call)) => self.send(call),
            Happened::Called(None) => return Ok(false),
            Happened::Written(written) => {
                let bytes = written.map_err(|error| error.to_string())?;
                self.count(|traffic| &traffic.bytes_out, bytes);
            }
            Happened::Read(read) => match read.map_err(|error| error.to_string())? {
                0 => return Err("by the other side".to_owned()),
                bytes => {
                    self.count(|traffic| &traffic.bytes_in, bytes);
                    self.answer()?;
                }
            },
            Happened::TooLate => {
                self.give_up();
                return Err("by this node, which waited too long for an answer".to_owned());
            }
        }
        Ok(true)
    }

    fn count(&self, of: fn(&Traffic) -> &AtomicU64, number: usize) {
        if let Some(traffic) = &self.options.traffic {
            of(traffic).fetch_add(u64::try_from(number).unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// Puts a request into the queue of what is to be written.
    fn send(&mut self, call: Call) {
        let Call { api_key, versions, deadline_ms, encode, answer } = call;
        if answer.is_closed() {
            return;
        }
        let version = match &self.served {
            Some(served) => served.highest(api_key, &versions),
            None => Some(*versions.end()),
        };
        let Some(version) = version else {
            let address = self.address.clone();
            let _ = answer.send(Err(ClientError::Unsupported { address, api_key }));
            return;
        };
        let correlation_id = self.correlation_id;
        self.correlation_id = self.correlation_id.wrapping_add(1) & i32::MAX;
        let start = self.unwritten.len();
        match self.frame(api_key, version, correlation_id, encode) {
            Ok(()) => {
                self.count(|traffic| &traffic.requests, 1);
                self.in_flight.push_back(InFlight { api_key, version, correlation_id, deadline_ms, answer });
            }
            Err(reason) => {
                self.unwritten.truncate(start);
                let _ = answer.send(Err(ClientError::Unencodable(reason)));
            }
        }
    }

    fn frame(
        &mut self,
        key: i16,
        version: i16,
        correlation_id: i32,
        encode: EncodeBody,
    ) -> Result<(), String> {
        let start = self.unwritten.len();
        self.unwritten.extend_from_slice(&[0; 4]);
        encode_request_header(&mut self.unwritten, key, version, correlation_id, &self.options.client_id);
        encode(&mut self.unwritten, version)?;
        let bytes = self.unwritten.len() - start - 4;
        let length = i32::try_from(bytes).map_err(|_| format!("a request of {bytes} bytes"))?;
        self.unwritten[start..start + 4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    /// Hands every whole response to whoever waits for it.
    fn answer(&mut self) -> Result<(), String> {
        while let Some(mut frame) = self.next_frame()? {
            let Some(call) = self.in_flight.pop_front() else {
                return Err("by this node, which was sent something that it did not ask for".to_owned());
            };
            self.count(|traffic| &traffic.responses, 1);
            let correlation_id = decode_response_header(&mut frame, call.api_key, call.version);
            match correlation_id {
                Ok(id) if id == call.correlation_id => {
                    let _ = call.answer.send(Ok((call.version, frame)));
                }
                Ok(id) => {
                    let reason = format!("by this node: response {id}, expected {}", call.correlation_id);
                    let _ = call.answer.send(Err(self.disconnected(&reason)));
                    return Err(reason);
                }
                Err(error) => {
                    let reason = format!("by this node: {error}");
                    let _ = call.answer.send(Err(ClientError::Malformed(reason.clone())));
                    return Err(reason);
                }
            }
        }
        Ok(())
    }

    fn next_frame(&mut self) -> Result<Option<Bytes>, String> {
        let Some(length) = self.unread.first_chunk() else { return Ok(None) };
        let length = i32::from_be_bytes(*length);
        let max = self.options.frame_bytes_max;
        let Some(bytes) = usize::try_from(length).ok().filter(|bytes| (4..=max).contains(bytes)) else {
            return Err(format!("by this node: a response of {length} bytes, expected 4 to {max}"));
        };
        if self.unread.len() < bytes + 4 {
            let missing = bytes + 4 - self.unread.len();
            // Grows with what has arrived, not with what was promised.
            self.unread.reserve(missing.min(self.unread.len().max(RESERVE_BYTES_MAX)));
            return Ok(None);
        }
        self.unread.advance(4);
        Ok(Some(self.unread.split_to(bytes).freeze()))
    }

    /// Drops the requests whose time is over. Whoever waits counts the time too.
    fn give_up(&mut self) {
        let now_ms = self.options.clock.steady_ms();
        self.in_flight.retain(|call| call.deadline_ms > now_ms);
    }
}

async fn next(calls: Option<&mut mpsc::Receiver<Call>>) -> Option<Call> {
    match calls {
        Some(calls) => calls.recv().await,
        None => std::future::pending().await,
    }
}

async fn expired(clock: &crate::clock::Clock, at_ms: Option<i64>) {
    match at_ms {
        Some(at_ms) => clock.sleep_until(at_ms).await,
        None => std::future::pending().await,
    }
}
