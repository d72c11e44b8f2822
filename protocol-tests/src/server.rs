//! A broker to test over a socket: a broker in this process, and a client that knows bytes only.
#![expect(clippy::unwrap_used, reason = "a test fails where its client fails")]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::protocol::StrBytes;
use klamm::broker::{AdminListen, Broker, DataDirectory, Settings};
use klamm::clock::Clock;
use klamm::config::BrokerConfig;
use klamm::config::listener::listeners;
use klamm::levels::Levels;
use klamm::log::batch::BatchBuilder;
use klamm::protocol::header::response_header_size;
use klamm::protocol::messages::{CreateTopicsRequest, ListOffsetsRequest, ProduceRequest, Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Long enough for anything that happens on a machine that has much else to do; only a test that fails waits so long.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// The same for requests that say themselves how long they may take.
pub const PATIENCE_MS: i32 = 120_000;

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
        Self::with_clock(config, Clock::system()).await
    }

    /// The same, on a time of its own.
    pub async fn with_clock(config: &[(&str, &str)], clock: Clock) -> Self {
        let mut values = BTreeMap::from([("listeners".to_owned(), "PLAINTEXT://127.0.0.1:0".to_owned())]);
        values.extend(config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let config = BrokerConfig::from_static(values).unwrap();
        let listeners = listeners(&config).unwrap();
        let settings = Settings {
            controllers: config.controllers(&listeners),
            listeners,
            config,
            data: DataDirectory::Temporary(std::env::temp_dir()),
            cluster_id: None,
            topics: Vec::new(),
            admin: AdminListen::Off,
            levels: Levels::default(),
        };
        let broker = Broker::start(settings, clock).await.unwrap();
        Self { address: broker.kafka_addr().to_string(), broker: Some(broker) }
    }

    /// Whether this is a broker of ours, and not one that the environment named.
    pub fn is_klamm(&self) -> bool {
        self.broker.is_some()
    }

    /// Host and port that clients connect to.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub async fn connect(&self) -> Client {
        Client::connect(&self.address).await
    }

    /// A connection whose requests have this client id.
    pub async fn connect_as(&self, client_id: &str) -> Client {
        Client { client_id: client_id.to_owned(), ..self.connect().await }
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
    client_id: String,
}

impl Client {
    /// A connection to this host and port.
    pub async fn connect(address: &str) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), client_id: "test".to_owned() }
    }

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
        self.send_frame(&request_frame_of(&self.client_id, version, correlation_id, request)).await;
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
    request_frame_of("test", version, correlation_id, request)
}

/// A request of a client with this id.
pub fn request_frame_of<R: Request>(
    client_id: &str,
    version: i16,
    correlation_id: i32,
    request: &R,
) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i16(R::KEY);
    frame.put_i16(version);
    frame.put_i32(correlation_id);
    frame.put_i16(client_id.len().try_into().unwrap());
    frame.put_slice(client_id.as_bytes());
    if klamm::protocol::guard::is_flexible(R::KEY, version).unwrap() {
        frame.put_u8(0);
    }
    request.encode(&mut frame, version).unwrap();
    frame.freeze()
}

/// A name that no other test has.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{}", uuid::Uuid::new_v4().simple())
}

/// A topic that was made for a test.
#[derive(Clone, Debug)]
pub struct Topic {
    pub name: String,
    pub id: uuid::Uuid,
}

impl Topic {
    /// The name as messages have it.
    pub fn wire_name(&self) -> TopicName {
        TopicName(StrBytes::from_string(self.name.clone()))
    }
}

impl Client {
    /// Creates a topic with a name of its own and waits until it is there.
    pub async fn create_topic(&mut self, partitions: i32, configs: &[(&'static str, &str)]) -> Topic {
        let name = unique("test");
        let config = |(key, value): &(&'static str, &str)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_static_str(key))
                .with_value(Some(StrBytes::from_string((*value).to_owned())))
        };
        let topic = CreatableTopic::default()
            .with_name(TopicName(StrBytes::from_string(name.clone())))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.iter().map(config).collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(PATIENCE_MS);
        let answer = self.call(7, &request).await;
        let created = answer.topics.into_iter().next().unwrap();
        assert_eq!(created.error_code, 0, "{:?}", created.error_message);
        let topic = Topic { name, id: created.topic_id };
        // Apache Kafka answers before its own broker has heard of it.
        for partition in 0..partitions {
            let asked = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(-1);
            let asked = ListOffsetsTopic::default().with_name(topic.wire_name()).with_partitions(vec![asked]);
            let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![asked]);
            while self.call(5, &request).await.topics[0].partitions[0].error_code != 0 {}
        }
        topic
    }

    /// Appends one batch to a partition, by the name of its topic.
    pub async fn produce(
        &mut self,
        version: i16,
        topic: &Topic,
        partition: i32,
        records: Option<Bytes>,
    ) -> PartitionProduceResponse {
        let request = produce_request(version, topic, partition, records);
        let mut answer = self.call(version, &request).await;
        answer.responses.remove(0).partition_responses.remove(0)
    }
}

/// A request that appends one batch, with acks=-1.
pub fn produce_request(
    version: i16,
    topic: &Topic,
    partition: i32,
    records: Option<Bytes>,
) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(records);
    let named = TopicProduceData::default().with_partition_data(vec![data]);
    let named =
        if version >= 13 { named.with_topic_id(topic.id) } else { named.with_name(topic.wire_name()) };
    ProduceRequest::default().with_acks(-1).with_timeout_ms(PATIENCE_MS).with_topic_data(vec![named])
}

/// A batch with one record for each of these values, without keys.
pub fn batch(values: &[&str]) -> Bytes {
    let now_ms = Clock::system().now_ms();
    let add = |builder: BatchBuilder, value: &&str| builder.record(now_ms, None, Some(value.as_bytes()));
    values.iter().fold(BatchBuilder::new(), add).build()
}
