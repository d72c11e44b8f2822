//! A broker to test over a socket: a broker in this process, and a client that knows bytes only.
#![expect(clippy::unwrap_used, reason = "a test fails where its client fails")]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use klamm::broker::{Broker, DataDirectory, Settings};
use klamm::clock::Clock;
use klamm::config::BrokerConfig;
use klamm::config::listener::listeners;
use klamm::protocol::header::response_header_size;
use klamm::protocol::messages::{Request, Response};
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
        Self::with(&[]).await
    }

    /// A broker in this process with this configuration, whatever the environment says.
    pub async fn with(config: &[(&str, &str)]) -> Self {
        let mut values = BTreeMap::from([("listeners".to_owned(), "PLAINTEXT://127.0.0.1:0".to_owned())]);
        values.extend(config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let config = BrokerConfig::from_static(values).unwrap();
        let settings = Settings {
            listeners: listeners(&config).unwrap(),
            config,
            data: DataDirectory::Temporary(std::env::temp_dir()),
            cluster_id: None,
            topics: Vec::new(),
            admin: None,
        };
        let broker = Broker::start(settings, Clock::system()).await.unwrap();
        Self { address: broker.kafka_addr().to_string(), broker: Some(broker) }
    }

    /// Whether this is a broker of ours, and not one that the environment named.
    pub fn is_klamm(&self) -> bool {
        self.broker.is_some()
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

    pub async fn send<R: Request>(&mut self, version: i16, correlation_id: i32, request: &R) {
        self.send_frame(&request_frame(version, correlation_id, request)).await;
    }

    /// Sends a request and reads its response.
    pub async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, 7, request).await;
        let mut frame = self.receive_frame().await.expect("a response");
        assert_eq!(frame.get_i32(), 7, "correlation id");
        decode_response(R::KEY, version, frame)
    }
}

/// Reads a response body behind its correlation id.
pub fn decode_response<A: Response>(key: i16, version: i16, mut frame: Bytes) -> A {
    if response_header_size(key, version) == 5 {
        assert_eq!(frame.get_u8(), 0, "no tagged fields in the header");
    }
    let answer = A::decode(&mut frame, version).unwrap();
    assert!(!frame.has_remaining(), "{} bytes after the response", frame.len());
    answer
}

/// A request with its header.
pub fn request_frame<R: Request>(version: i16, correlation_id: i32, request: &R) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i16(R::KEY);
    frame.put_i16(version);
    frame.put_i32(correlation_id);
    frame.put_i16(4);
    frame.put_slice(b"test");
    if klamm::protocol::guard::is_flexible(R::KEY, version).unwrap() {
        frame.put_u8(0);
    }
    request.encode(&mut frame, version).unwrap();
    frame.freeze()
}
