#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use super::*;
use crate::clock::Clock;
use crate::error::ErrorCode;
use crate::protocol::header::{RequestHeader, encode_response_header};
use crate::protocol::messages::*;

const HEARTBEAT: i16 = BrokerHeartbeatRequest::KEY;

/// A server that a test plays by hand.
struct Server {
    listener: TcpListener,
}

impl Server {
    async fn bind() -> Self {
        Self { listener: TcpListener::bind(("127.0.0.1", 0)).await.unwrap() }
    }

    fn address(&self) -> Address {
        Address { host: "127.0.0.1".into(), port: self.listener.local_addr().unwrap().port() }
    }

    async fn accept(&self) -> Accepted {
        Accepted(self.listener.accept().await.unwrap().0)
    }
}

struct Accepted(TcpStream);

impl Accepted {
    async fn request(&mut self) -> (RequestHeader, Bytes) {
        let length = self.0.read_i32().await.unwrap();
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut frame).await.unwrap();
        let mut frame = Bytes::from(frame);
        let header = RequestHeader::decode(&mut frame).unwrap();
        (header, frame)
    }

    async fn answer(&mut self, header: &RequestHeader, response: &impl Response) {
        self.0.write_all(&framed(header, response)).await.unwrap();
    }
}

fn framed(header: &RequestHeader, response: &impl Response) -> Bytes {
    let mut body = BytesMut::new();
    encode_response_header(&mut body, header.api_key, header.api_version, header.correlation_id);
    response.encode(&mut body, header.api_version).unwrap();
    let mut frame = BytesMut::new();
    frame.put_i32(i32::try_from(body.len()).unwrap());
    frame.extend_from_slice(&body);
    frame.freeze()
}

fn options() -> PeerOptions {
    PeerOptions { reconnect_backoff_ms: 1, ..PeerOptions::new("test", Clock::system()).fixed_versions() }
}

fn heartbeat(broker_id: i32) -> BrokerHeartbeatRequest {
    BrokerHeartbeatRequest { broker_id, ..Default::default() }
}

fn answered(error_code: i16) -> BrokerHeartbeatResponse {
    BrokerHeartbeatResponse { error_code, ..Default::default() }
}

/// A call that runs while the test plays the server.
fn calling(
    peer: &Arc<Peer>,
    broker_id: i32,
    timeout_ms: i64,
) -> tokio::task::JoinHandle<Result<i16, ClientError>> {
    let peer = Arc::clone(peer);
    tokio::spawn(async move {
        let answered = peer.call(heartbeat(broker_id), 0..=2, timeout_ms).await?;
        Ok(answered.response.error_code)
    })
}

#[tokio::test]
async fn requests_are_pipelined_and_answered_in_order() {
    let server = Server::bind().await;
    let peer = Peer::new(server.address(), options());
    let calls: Vec<_> = (0..5).map(|id| calling(&peer, id, 60_000)).collect();
    let mut connection = server.accept().await;
    let mut requests = Vec::new();
    for _ in 0..5 {
        requests.push(connection.request().await);
    }
    assert!(requests.is_sorted_by_key(|(header, _)| header.correlation_id));
    for (header, mut body) in requests {
        assert_eq!((header.api_key, header.api_version), (HEARTBEAT, 2));
        assert_eq!(header.client_id.as_deref(), Some("test"));
        let broker = i16::try_from(body.get_i32()).unwrap();
        connection.answer(&header, &answered(100 + broker)).await;
    }
    for (code, call) in (100..).zip(calls) {
        assert_eq!(call.await.unwrap(), Ok(code));
    }
}

#[tokio::test]
async fn a_response_in_pieces_is_put_together() {
    let server = Server::bind().await;
    let peer = Peer::new(server.address(), options());
    let call = calling(&peer, 1, 60_000);
    let mut connection = server.accept().await;
    let (header, _) = connection.request().await;
    for byte in framed(&header, &answered(7)) {
        connection.0.write_all(&[byte]).await.unwrap();
        connection.0.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(call.await.unwrap(), Ok(7));
}

/// Whoever answers nonsense is disconnected, what was asked meanwhile fails, and the next request connects again.
async fn misbehaves(nonsense: impl AsyncFnOnce(&mut Accepted, RequestHeader)) -> ClientError {
    let server = Server::bind().await;
    let peer = Peer::new(server.address(), PeerOptions { frame_bytes_max: 1_000, ..options() });
    let (first, second) = (calling(&peer, 1, 60_000), calling(&peer, 2, 60_000));
    let mut connection = server.accept().await;
    let (header, _) = connection.request().await;
    connection.request().await;
    nonsense(&mut connection, header).await;
    assert!(matches!(second.await.unwrap(), Err(ClientError::Disconnected { .. })));
    let error = first.await.unwrap().unwrap_err();
    let third = calling(&peer, 3, 60_000);
    let mut connection = server.accept().await;
    let (header, _) = connection.request().await;
    connection.answer(&header, &answered(3)).await;
    assert_eq!(third.await.unwrap(), Ok(3));
    error
}

#[tokio::test]
async fn a_wrong_correlation_id_ends_the_connection() {
    let error = misbehaves(async |connection, header| {
        let wrong = RequestHeader { correlation_id: header.correlation_id + 1, ..header };
        connection.answer(&wrong, &answered(0)).await;
    });
    assert!(matches!(error.await, ClientError::Disconnected { .. }));
}

#[tokio::test]
async fn a_length_that_no_response_has_ends_the_connection() {
    for length in [1_001, i32::MAX, -1, 3, 0, i32::MIN] {
        let error = misbehaves(async |connection, _| connection.0.write_i32(length).await.unwrap());
        let error = error.await.to_string();
        assert!(error.ends_with(&format!("a response of {length} bytes, expected 4 to 1000")), "{error}");
    }
}

#[tokio::test]
async fn half_a_response_before_the_end_is_none() {
    let error = misbehaves(async |connection, header| {
        let whole = framed(&header, &answered(0));
        connection.0.write_all(&whole[..whole.len() - 1]).await.unwrap();
        connection.0.shutdown().await.unwrap();
    });
    assert!(matches!(error.await, ClientError::Disconnected { .. }));
}

#[tokio::test]
async fn a_body_that_ends_too_early_is_an_error_of_that_call_alone() {
    let server = Server::bind().await;
    let peer = Peer::new(server.address(), options());
    let (first, second) = (calling(&peer, 1, 60_000), calling(&peer, 2, 60_000));
    let mut connection = server.accept().await;
    let (header, _) = connection.request().await;
    connection.0.write_i32(5).await.unwrap();
    connection.0.write_i32(header.correlation_id).await.unwrap();
    connection.0.write_u8(0).await.unwrap();
    let (header, _) = connection.request().await;
    connection.answer(&header, &answered(2)).await;
    assert!(matches!(first.await.unwrap(), Err(ClientError::Malformed(_))));
    assert_eq!(second.await.unwrap(), Ok(2));
}

#[tokio::test]
async fn silence_is_waited_for_until_the_deadline_of_the_virtual_clock() {
    let server = Server::bind().await;
    let clock = Clock::virtual_at(0);
    let options = PeerOptions { clock: clock.clone(), ..options() };
    let peer = Peer::new(server.address(), options);
    let call = calling(&peer, 1, 500);
    let mut connection = server.accept().await;
    connection.request().await;
    clock.advance(499);
    tokio::task::yield_now().await;
    assert!(!call.is_finished());
    clock.advance(1);
    assert_eq!(call.await.unwrap(), Err(ClientError::TimedOut(500)));
    // The connection is given up, as its next bytes would be the late answer.
    assert_eq!(connection.0.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn nobody_there_is_told_at_once_and_tried_again_after_a_pause() {
    // A port that nobody else gets meanwhile; nobody listens there yet.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = Address { host: "127.0.0.1".into(), port: socket.local_addr().unwrap().port() };
    let clock = Clock::virtual_at(0);
    let peer =
        Peer::new(address, PeerOptions { clock: clock.clone(), reconnect_backoff_ms: 100, ..options() });
    assert!(matches!(calling(&peer, 1, 60_000).await.unwrap(), Err(ClientError::Unreachable { .. })));
    let listener = socket.listen(8).unwrap();
    let call = calling(&peer, 2, 60_000);
    let mut accepting = Box::pin(listener.accept());
    assert!(tokio::time::timeout(Duration::from_millis(30), &mut accepting).await.is_err());
    clock.advance(120);
    let mut connection = Accepted(accepting.await.unwrap().0);
    let (header, _) = connection.request().await;
    connection.answer(&header, &answered(2)).await;
    assert_eq!(call.await.unwrap(), Ok(2));
}

#[tokio::test]
async fn the_connection_ends_with_the_last_handle() {
    let server = Server::bind().await;
    let peer = Peer::new(server.address(), options());
    let call = calling(&peer, 1, 60_000);
    let mut connection = server.accept().await;
    connection.request().await;
    call.abort();
    let _ = call.await;
    drop(peer);
    assert_eq!(connection.0.read(&mut [0; 8]).await.unwrap(), 0);
}

fn served(heartbeats: (i16, i16), questions: i16) -> ApiVersionsResponse {
    let api = |(key, min, max): (i16, i16, i16)| {
        kafka_protocol::messages::api_versions_response::ApiVersion::default()
            .with_api_key(key)
            .with_min_version(min)
            .with_max_version(max)
    };
    let served = [(HEARTBEAT, heartbeats.0, heartbeats.1), (18, 0, questions)];
    ApiVersionsResponse::default().with_api_keys(served.into_iter().map(api).collect())
}

#[tokio::test]
async fn the_highest_version_that_both_know_is_used() {
    for (theirs, ours, used) in [((0, 9), 0..=2, Some(2)), ((0, 1), 0..=2, Some(1)), ((3, 9), 0..=2, None)] {
        let server = Server::bind().await;
        let peer = Peer::new(server.address(), PeerOptions { negotiate: true, ..options() });
        let call = tokio::spawn(async move { peer.call(heartbeat(1), ours, 60_000).await });
        let mut connection = server.accept().await;
        let (header, _) = connection.request().await;
        assert_eq!((header.api_key, header.api_version), (18, 4));
        connection.answer(&header, &served(theirs, 4)).await;
        if used.is_some() {
            let (header, _) = connection.request().await;
            connection.answer(&header, &answered(0)).await;
        }
        match call.await.unwrap() {
            Ok(answered) => assert_eq!(Some(answered.version), used),
            Err(error) => {
                let unsupported = ClientError::Unsupported { address: server.address(), api_key: HEARTBEAT };
                assert_eq!((error, used), (unsupported, None));
            }
        }
    }
}

#[tokio::test]
async fn an_older_node_is_asked_for_its_versions_again() {
    let server = Server::bind().await;
    let peer = Peer::new(server.address(), PeerOptions { negotiate: true, ..options() });
    let call = calling(&peer, 1, 60_000);
    let mut connection = server.accept().await;
    let (header, _) = connection.request().await;
    let refused = served((0, 0), 3).with_error_code(ErrorCode::UnsupportedVersion.code());
    connection.answer(&RequestHeader { api_version: 0, ..header }, &refused).await;
    let (header, _) = connection.request().await;
    assert_eq!((header.api_key, header.api_version), (18, 3));
    connection.answer(&header, &served((0, 0), 3)).await;
    let (header, _) = connection.request().await;
    assert_eq!((header.api_key, header.api_version), (HEARTBEAT, 0));
    connection.answer(&header, &answered(0)).await;
    assert_eq!(call.await.unwrap(), Ok(0));
}

fn asking(channel: &Arc<ControllerChannel>) -> tokio::task::JoinHandle<Result<i16, ClientError>> {
    let channel = Arc::clone(channel);
    tokio::spawn(async move { Ok(channel.call(heartbeat(1), 0..=2, 60_000).await?.error_code) })
}

#[tokio::test]
async fn the_channel_follows_the_controller() {
    let (first, second) = (Server::bind().await, Server::bind().await);
    let (active, watched) = watch::channel(ActiveController::Unknown);
    let channel = Arc::new(ControllerChannel::new(watched, options()));
    let call = asking(&channel);
    active.send_replace(ActiveController::Remote(first.address()));
    let mut connection = first.accept().await;
    let (header, _) = connection.request().await;
    // It is asked again, as nobody knows of another, then hangs; and another takes over.
    connection.answer(&header, &answered(ErrorCode::NotController.code())).await;
    connection.request().await;
    active.send_replace(ActiveController::Remote(second.address()));
    let mut connection = second.accept().await;
    let (header, _) = connection.request().await;
    connection.answer(&header, &answered(5)).await;
    assert_eq!(call.await.unwrap(), Ok(5));
}

#[tokio::test]
async fn a_controller_that_closes_is_asked_again() {
    let server = Server::bind().await;
    let (_active, watched) = watch::channel(ActiveController::Remote(server.address()));
    let channel = Arc::new(ControllerChannel::new(watched, options()));
    let call = asking(&channel);
    server.accept().await.request().await;
    let mut connection = server.accept().await;
    let (header, _) = connection.request().await;
    connection.answer(&header, &answered(6)).await;
    assert_eq!(call.await.unwrap(), Ok(6));
}

#[tokio::test]
async fn without_a_controller_the_time_runs_out() {
    let (_active, watched) = watch::channel(ActiveController::Unknown);
    let clock = Clock::virtual_at(0);
    let channel =
        Arc::new(ControllerChannel::new(watched, PeerOptions { clock: clock.clone(), ..options() }));
    let call = asking(&channel);
    tokio::task::yield_now().await;
    clock.advance(60_000);
    assert_eq!(call.await.unwrap(), Err(ClientError::TimedOut(60_000)));
}

struct Here;

impl LocalController for Here {
    fn serve(
        &self,
        header: RequestHeader,
        mut body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, ClientError>> {
        assert_eq!((header.api_key, header.api_version), (HEARTBEAT, 2));
        let code = i16::try_from(body.get_i32()).unwrap();
        let mut encoded = BytesMut::new();
        answered(code).encode(&mut encoded, header.api_version).unwrap();
        async move { Ok(encoded.freeze()) }.boxed()
    }
}

#[tokio::test]
async fn this_node_is_asked_without_a_socket() {
    let (_active, watched) = watch::channel(ActiveController::Local);
    let channel = Arc::new(ControllerChannel::new(watched, options()));
    let here: Arc<dyn LocalController> = Arc::new(Here);
    let weak: Weak<dyn LocalController> = Arc::downgrade(&here);
    channel.serve_locally(weak);
    assert_eq!(asking(&channel).await.unwrap(), Ok(1));
}
