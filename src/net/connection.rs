//! One connection: a task that reads frames, starts requests, and writes responses in the order of the requests.
//!
//! A *pipelined* request starts as soon as it is read, while the ones before it still run; a *serial* one starts when
//! everything before it has been answered, so that it sees what they did. One serial request that has to wait is kept
//! aside, and nothing more is read until it starts: what a client can make us hold is bounded.

use std::collections::VecDeque;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio_util::codec::FramedRead;
use tokio_util::sync::CancellationToken;

use super::admission::TakenMemory;
use super::codec::{FrameCodec, FrameError, Inbound};
use super::listener::NetOptions;
use super::outbox::{Measured, Outbox};
use crate::api::{
    ApiEntry, BrokerHandles, Connection, Context, Disconnect, Encoded, Gathering, Metered, Request, Running,
    hold_back,
};
use crate::clock::Clock;
use crate::metrics::RequestTimes;

/// Requests of one connection that may run at once. Clients send five (`max.in.flight.requests.per.connection`) or,
/// with librdkafka and acks=0, as many as fit; more in flight would not be faster, only larger.
const REQUESTS_IN_FLIGHT_MAX: usize = 64;

/// While more response bytes than this wait to be written, no request is started.
const UNWRITTEN_BYTES_MAX: u64 = 1024 * 1024;

/// Serves a connection until the client leaves, breaks the protocol, idles for too long, or the broker stops.
pub(super) async fn serve(
    stream: TcpStream,
    connection: Arc<Connection>,
    broker: Arc<BrokerHandles>,
    options: NetOptions,
) {
    let peer = connection.peer;
    tracing::debug!(%peer, listener = %connection.listener.name, "connected");
    let ended = Session::new(Arc::clone(&connection), Arc::clone(&broker), options).run(stream).await;
    broker.disconnected(&connection);
    match ended {
        Ok(end) => tracing::debug!(%peer, ?end, "disconnected"),
        Err(Failure::Io(error)) => tracing::debug!(%peer, %error, "disconnected"),
        Err(Failure::Protocol(reason)) => tracing::info!(%peer, %reason, "connection closed"),
    }
}

/// How a connection ended where nothing was wrong.
#[derive(Clone, Copy, Debug)]
enum End {
    Client,
    Idle,
    Stopped,
}

/// Why a connection was given up.
enum Failure {
    Io(io::Error),
    Protocol(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<FrameError> for Failure {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(error) => Self::Io(error),
            FrameError::Length(..) => Self::Protocol(error.to_string()),
        }
    }
}

impl From<Disconnect> for Failure {
    fn from(reason: Disconnect) -> Self {
        Self::Protocol(reason.to_string())
    }
}

/// A request that was read and the memory that it holds.
struct Read {
    request: Request,
    memory: TakenMemory,
    received: Instant,
}

/// A request that runs.
struct InFlight {
    running: Running,
    api: &'static ApiEntry,
    version: i16,
    received: Instant,
    started: Instant,
    /// How long it was worked on; the rest of its time it waited for something.
    local: Duration,
    /// What quotas have to know of it.
    metered: Option<Arc<Metered>>,
    _memory: TakenMemory,
}

impl InFlight {
    fn poll(&mut self, task: &mut task::Context<'_>) -> Poll<Result<Option<Encoded>, Disconnect>> {
        let began = Instant::now();
        self.metered.iter().for_each(|metered| metered.resume(began));
        let polled = Pin::new(&mut self.running).poll(task);
        let ended = Instant::now();
        self.metered.iter().for_each(|metered| metered.pause(ended));
        self.local += ended.duration_since(began);
        polled
    }

    /// Where its time went until now, when its response is there.
    fn measured(&self) -> Measured {
        let times = RequestTimes {
            request_queue: self.started.duration_since(self.received),
            local: self.local,
            remote: self.started.elapsed().saturating_sub(self.local),
            ..RequestTimes::default()
        };
        Measured { api: self.api, version: self.version, times }
    }
}

struct Session {
    connection: Arc<Connection>,
    broker: Arc<BrokerHandles>,
    options: NetOptions,
    in_flight: VecDeque<InFlight>,
    /// A request that starts when all of `in_flight` has been answered.
    waiting: Option<Read>,
    outbox: Outbox,
    /// Memory for the frame that is being read.
    memory: Option<TakenMemory>,
    /// Waits for that memory; nothing is read until it is there.
    taking: Option<BoxFuture<'static, TakenMemory>>,
    /// Appends that are kept back until nothing more can be read.
    gathering: Option<Gathering>,
    /// Until when its client is held back: nothing is read from it, and nothing started.
    muted_until_ms: Option<i64>,
    /// The client sends nothing more, or nothing more is to be read from it.
    reading_ended: Option<End>,
}

impl Session {
    fn new(connection: Arc<Connection>, broker: Arc<BrokerHandles>, options: NetOptions) -> Self {
        connection.used(broker.clock.steady_ms());
        Self {
            connection,
            broker,
            options,
            in_flight: VecDeque::new(),
            waiting: None,
            outbox: Outbox::default(),
            memory: None,
            taking: None,
            gathering: None,
            muted_until_ms: None,
            reading_ended: None,
        }
    }

    async fn run(mut self, stream: TcpStream) -> Result<End, Failure> {
        let (reader, mut writer) = stream.into_split();
        let mut frames = FramedRead::new(reader, FrameCodec::new(self.options.request_bytes_max));
        let (clock, metrics) = (self.broker.clock.clone(), Arc::clone(&self.broker.metrics));
        let mut silence = pin!(idle_deadline(&clock, self.connection.active_ms(), self.options.idle_ms_max));
        // The end of this connection, be it the broker's or its own.
        let ending = self.options.stopping.child_token();
        let mut lingered = pin!(linger(ending.clone(), self.options.drain));
        loop {
            self.start_waiting().await?;
            // What waits while its client is held back is not started any more.
            let waits = self.waiting.is_some() && self.muted_until_ms.is_none();
            let is_done = self.in_flight.is_empty() && !waits && self.outbox.is_empty();
            if is_done && let Some(end) = self.reading_ended {
                return Ok(end);
            }
            let may_read = self.may_read();
            tokio::select! {
                biased;
                outcome = first_outcome(&mut self.in_flight) => self.answered(outcome?),
                memory = taken(&mut self.taking) => {
                    self.taking = None;
                    self.memory = Some(memory);
                }
                frame = frames.next(), if may_read => match frame.transpose()? {
                    None => {
                        self.reading_ended = Some(End::Client);
                        ending.cancel();
                    }
                    Some(Inbound::Announced(bytes)) => self.announced(bytes),
                    Some(Inbound::Frame(frame)) => self.received(frame).await?,
                },
                written = self.outbox.write(&mut writer, &metrics), if !self.outbox.is_empty() => written?,
                () = gathered(&mut self.gathering) => self.gathering = None,
                () = unmuted(&clock, self.muted_until_ms) => self.muted_until_ms = None,
                () = ending.cancelled(), if self.reading_ended.is_none() => {
                    self.reading_ended = Some(End::Stopped);
                }
                () = &mut lingered => return Ok(self.reading_ended.unwrap_or(End::Stopped)),
                () = &mut silence => match self.idle_since(clock.steady_ms()) {
                    None => return Ok(End::Idle),
                    Some(since_ms) => silence.set(idle_deadline(&clock, since_ms, self.options.idle_ms_max)),
                },
            }
        }
    }

    fn may_read(&self) -> bool {
        self.waiting.is_none()
            && self.taking.is_none()
            && self.reading_ended.is_none()
            && self.muted_until_ms.is_none()
            && self.in_flight.len() < REQUESTS_IN_FLIGHT_MAX
            && !self.takes_one_at_a_time()
            && self.outbox.bytes() < UNWRITTEN_BYTES_MAX
    }

    /// Whether nothing is read before what was read is answered: of whom a quota limits nobody knows how long it is to
    /// be held back before that.
    fn takes_one_at_a_time(&self) -> bool {
        let last = self.in_flight.back().and_then(|last| last.metered.as_ref());
        last.is_some_and(|metered| metered.is_limited())
    }

    /// Gets memory for the frame that comes next. Where that takes time, answers go out meanwhile: they may be what
    /// the memory is waiting for.
    fn announced(&mut self, bytes: usize) {
        self.connection.used(self.broker.clock.steady_ms());
        self.memory = self.options.memory.try_take(bytes);
        if self.memory.is_none() {
            let memory = self.options.memory.clone();
            self.taking = Some(Box::pin(async move { memory.take(bytes).await }));
        }
    }

    /// Takes a frame in: starts it, or keeps it until what is before it is done.
    async fn received(&mut self, frame: Bytes) -> Result<(), Failure> {
        self.connection.used(self.broker.clock.steady_ms());
        let Some(memory) = self.memory.take() else {
            return Err(Failure::Protocol("a frame without a length".to_owned()));
        };
        let read = Read {
            request: Request::parse(frame, self.connection.listener.kind)?,
            memory,
            received: Instant::now(),
        };
        if self.may_start(&read.request) {
            self.start(read).await
        } else {
            self.waiting = Some(read);
            Ok(())
        }
    }

    fn may_start(&self, request: &Request) -> bool {
        let before = self.in_flight.back();
        before.is_none_or(|before| before.api.pipelined && request.api.pipelined)
    }

    async fn start_waiting(&mut self) -> Result<(), Failure> {
        if self.outbox.bytes() >= UNWRITTEN_BYTES_MAX || self.muted_until_ms.is_some() {
            return Ok(());
        }
        match self.waiting.take() {
            Some(read) if self.may_start(&read.request) => self.start(read).await,
            read => {
                self.waiting = read;
                Ok(())
            }
        }
    }

    async fn start(&mut self, read: Read) -> Result<(), Failure> {
        let Read { request, memory, received } = read;
        let metered = Metered::start(&self.broker, &self.connection, &request);
        let context = Context {
            broker: Arc::clone(&self.broker),
            connection: Arc::clone(&self.connection),
            client_id: request.header.client_id.clone(),
            request_bytes: request.body_bytes(),
            metered: metered.clone(),
            forwarded: false,
        };
        let (api, version) = (request.api, request.header.api_version);
        if api.pipelined {
            // Appending does not wait, so whoever appends waits here while the store is behind.
            self.broker.logs.admit().await;
            self.gathering.get_or_insert_with(|| self.broker.logs.gather());
        }
        let started = Instant::now();
        metered.iter().for_each(|metered| metered.resume(started));
        let running = request.start(context)?;
        let ended = Instant::now();
        metered.iter().for_each(|metered| metered.pause(ended));
        let local = ended.duration_since(started);
        // Where there is much, the writer works on it while more is read.
        self.gathering.take_if(|gathering| gathering.has_much());
        self.in_flight.push_back(InFlight {
            running,
            api,
            version,
            received,
            started,
            local,
            metered,
            _memory: memory,
        });
        Ok(())
    }

    fn answered(&mut self, mut response: Option<Encoded>) {
        self.connection.used(self.broker.clock.steady_ms());
        let Some(answered) = self.in_flight.pop_front() else { return };
        if let Some(metered) = &answered.metered {
            let api = (answered.api, answered.version);
            let throttle_ms = hold_back(&self.broker, &self.connection, metered, api, response.as_mut());
            self.mute(throttle_ms);
        }
        match response {
            Some(response) => self.outbox.push(response, answered.measured()),
            None => answered.measured().observe(&self.broker.metrics),
        }
    }

    /// Does not listen to the client for this long from now on.
    fn mute(&mut self, throttle_ms: i32) {
        if throttle_ms > 0 {
            let until_ms = self.connection.active_ms().saturating_add(throttle_ms.into());
            self.muted_until_ms = self.muted_until_ms.max(Some(until_ms));
        }
    }

    /// Since when nothing has happened, as far as that is not too long ago; `None` where it is.
    fn idle_since(&self, now_ms: i64) -> Option<i64> {
        if !self.in_flight.is_empty() {
            return Some(now_ms);
        }
        let since_ms = self.connection.active_ms();
        (now_ms < since_ms.saturating_add(self.options.idle_ms_max)).then_some(since_ms)
    }
}

/// Waits for the oldest request; forever where there is none.
async fn first_outcome(in_flight: &mut VecDeque<InFlight>) -> Result<Option<Encoded>, Disconnect> {
    let Some(first) = in_flight.front_mut() else { return std::future::pending().await };
    std::future::poll_fn(|task| first.poll(task)).await
}

async fn idle_deadline(clock: &Clock, since_ms: i64, idle_ms_max: i64) {
    if idle_ms_max < 0 {
        std::future::pending::<()>().await;
    }
    clock.sleep_until(since_ms.saturating_add(idle_ms_max)).await;
}

/// Waits until the client is listened to again; forever where it is.
async fn unmuted(clock: &Clock, muted_until_ms: Option<i64>) {
    match muted_until_ms {
        Some(until_ms) => clock.sleep_until(until_ms).await,
        None => std::future::pending().await,
    }
}

/// Waits until other connections that have something to append have done so too, and writes it.
async fn gathered(gathering: &mut Option<Gathering>) {
    let Some(gathering) = gathering else { return std::future::pending().await };
    std::future::poll_fn(|task| gathering.poll_write(task)).await;
}

/// Waits for memory, where some is waited for.
async fn taken(taking: &mut Option<BoxFuture<'static, TakenMemory>>) -> TakenMemory {
    match taking {
        Some(taking) => taking.await,
        None => std::future::pending().await,
    }
}

/// How long what is in flight may still take once the end has begun.
async fn linger(ending: CancellationToken, at_most: Duration) {
    ending.cancelled().await;
    tokio::time::sleep(at_most).await;
}
