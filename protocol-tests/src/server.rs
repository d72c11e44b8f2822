//! A broker to test over a socket: a broker in this process, and a client that knows bytes only.
#![expect(clippy::unwrap_used, reason = "a test fails where its client fails")]

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable};
use klamm::broker::Broker;
use klamm::clock::Clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Long enough for anything that happens; only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A broker to test: one in this process, or the one at `KLAMM_TEST_BOOTSTRAP`, so that the same test can be held
/// against Apache Kafka.
pub struct Server {
    address: String,
    broker: Option<Broker>,
}

impl Server {
    pub async fn start() -> Self {
        if let Ok(address) = std::env::var("KLAMM_TEST_BOOTSTRAP") {
            return Self { address, broker: None };
        }
        let broker = Broker::start("127.0.0.1", 0, Clock::system()).await.unwrap();
        Self { address: broker.kafka_addr().to_string(), broker: Some(broker) }
    }

    pub async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(&self.address).await.unwrap() }
    }

    pub async fn stop(self) {
        if let Some(broker) = self.broker {
            broker.shutdown().await;
        }
    }
}

/// A connection that sends and receives bytes.
pub struct Client {
    stream: TcpStream,
}

impl Client {
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends a frame: its length, then the bytes.
    pub async fn send_frame(&mut self, frame: &[u8]) {
        let mut bytes = BytesMut::new();
        bytes.put_i32(frame.len().try_into().unwrap());
        bytes.put_slice(frame);
        self.send_raw(&bytes).await;
    }

    /// The next frame, without its length; `None` where the connection was closed.
    pub async fn receive_frame(&mut self) -> Option<Bytes> {
        let receiving = async {
            let mut length = [0; 4];
            self.stream.read_exact(&mut length).await.ok()?;
            let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
            self.stream.read_exact(&mut frame).await.ok()?;
            Some(Bytes::from(frame))
        };
        tokio::time::timeout(PATIENCE, receiving).await.expect("an answer or the end of the connection")
    }

    /// Whether the broker closes the connection without another byte.
    pub async fn is_closed(&mut self) -> bool {
        self.receive_frame().await.is_none()
    }

    pub async fn send<R: Encodable>(&mut self, key: i16, version: i16, correlation_id: i32, request: &R) {
        self.send_frame(&request_frame(key, version, correlation_id, request)).await;
    }

    /// Sends a request and reads its response.
    pub async fn call<Q: Encodable, A: Decodable>(&mut self, key: i16, version: i16, request: &Q) -> A {
        self.send(key, version, 7, request).await;
        let mut frame = self.receive_frame().await.expect("a response");
        assert_eq!(frame.get_i32(), 7, "correlation id");
        decode_response(key, version, frame)
    }
}

/// Reads a response body behind its correlation id.
pub fn decode_response<A: Decodable>(key: i16, version: i16, mut frame: Bytes) -> A {
    if api(key).response_header_version(version) == 1 {
        assert_eq!(frame.get_u8(), 0, "no tagged fields in the header");
    }
    let answer = A::decode(&mut frame, version).unwrap();
    assert!(!frame.has_remaining(), "{} bytes after the response", frame.len());
    answer
}

/// A request with its header.
pub fn request_frame<R: Encodable>(key: i16, version: i16, correlation_id: i32, request: &R) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(correlation_id);
    frame.put_i16(4);
    frame.put_slice(b"test");
    if api(key).request_header_version(version) == 2 {
        frame.put_u8(0);
    }
    request.encode(&mut frame, version).unwrap();
    frame.freeze()
}

fn api(key: i16) -> &'static klamm::api::ApiEntry {
    klamm::api::advertised().iter().find(|api| api.key == key).unwrap()
}
