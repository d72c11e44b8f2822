//! Load whose every record is known: who wrote it, to which partition, and the how-manieth it is.

use std::collections::VecDeque;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    BrokerId, FetchRequest, InitProducerIdRequest, ProduceRequest, ProducerId, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

use crate::wire::Connection;

const PRODUCE_VERSION: i16 = 11;
const FETCH_VERSION: i16 = 12;
const INIT_PRODUCER_ID_VERSION: i16 = 4;
/// How many batches of a partition may be unanswered: one fewer than a broker remembers of an idempotent producer.
const IN_FLIGHT: usize = 4;
/// What one answer to a fetch may hold.
const FETCH_BYTES: i32 = 8 << 20;

/// What identifies a record: its value begins with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The producer's number.
    pub producer: u16,
    /// The how-manieth record of this producer in this partition, from 0.
    pub count: i32,
}

impl Identity {
    fn value(self, bytes: usize) -> Bytes {
        let mut value = format!("producer={} count={} ", self.producer, self.count).into_bytes();
        value.resize(bytes.max(value.len()), b'.');
        value.into()
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(value).ok()?.split(' ');
        let producer = words.next()?.strip_prefix("producer=")?.parse().ok()?;
        let count = words.next()?.strip_prefix("count=")?.parse().ok()?;
        Some(Self { producer, count })
    }
}

/// What a broker has answered for: these records are stored from this offset on.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledged {
    /// The partition.
    pub partition: i32,
    /// The first record's offset.
    pub base_offset: i64,
    /// The first record; those behind it count on.
    pub first: Identity,
    /// How many records.
    pub records: i32,
}

/// How a producer writes.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The topic, which must exist.
    pub topic: String,
    /// How many partitions it has; each producer writes to all in turn.
    pub partitions: i32,
    /// Records in a batch.
    pub batch_records: i32,
    /// The size of a value.
    pub value_bytes: usize,
}

/// A batch that was handed to a producer, until it is answered.
pub struct ProducedBatch {
    partition: i32,
    first: Identity,
    records: i32,
    encoded: Bytes,
}

impl ProducedBatch {
    /// A batch of the shape's records, of which this is the first.
    #[must_use]
    pub fn new(first: Identity, partition: i32, shape: &Shape, producer: Option<(i64, i16)>) -> Self {
        let records = shape.batch_records;
        Self { partition, first, records, encoded: encode(first, records, shape.value_bytes, producer) }
    }

    /// Sends it with `acks=all`.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn send(&self, connection: &mut Connection, shape: &Shape) -> io::Result<()> {
        let partition = PartitionProduceData::default()
            .with_index(self.partition)
            .with_records(Some(self.encoded.clone()));
        let topic = TopicProduceData::default()
            .with_name(topic_name(&shape.topic))
            .with_partition_data(vec![partition]);
        let request =
            ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic]);
        connection.send(PRODUCE_VERSION, &request)
    }

    /// The error code and the base offset that answer the oldest batch that was sent.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn receive(connection: &mut Connection) -> io::Result<(i16, i64)> {
        let response = connection.receive::<ProduceRequest>(PRODUCE_VERSION)?;
        let answer = &response.responses[0].partition_responses[0];
        Ok((answer.error_code, answer.base_offset))
    }

    /// What is known once it is answered.
    #[must_use]
    pub fn acknowledged(&self, base_offset: i64) -> Acknowledged {
        let Self { partition, first, records, .. } = *self;
        Acknowledged { partition, base_offset, first, records }
    }
}

/// A producer with `acks=all` that has several batches in flight.
pub struct Producer {
    number: u16,
    shape: Shape,
    /// The producer id and its epoch, once it has them; none for a producer that is not idempotent.
    identity: Option<(i64, i16)>,
    idempotent: bool,
    counts: Vec<i32>,
    next_partition: i32,
    in_flight: VecDeque<ProducedBatch>,
}

impl Producer {
    /// The producer of this number. An idempotent one sends again what was not answered.
    #[must_use]
    pub fn new(number: u16, idempotent: bool, shape: Shape) -> Self {
        let counts = vec![0; usize::try_from(shape.partitions).unwrap_or(0)];
        Self {
            number,
            shape,
            identity: None,
            idempotent,
            counts,
            next_partition: 0,
            in_flight: VecDeque::new(),
        }
    }

    /// Produces over this connection until `stop` says so or the connection ends, and hands over what is acknowledged.
    /// Can be called again with a new connection: what was on its way is sent again then, or given up by a producer
    /// that is not idempotent, as nobody knows whether it was stored.
    ///
    /// # Errors
    /// When the connection ends.
    ///
    /// # Panics
    /// When the broker answers with an error.
    pub fn run(
        &mut self,
        connection: &mut Connection,
        mut acknowledged: impl FnMut(Acknowledged),
        mut stop: impl FnMut() -> bool,
    ) -> io::Result<()> {
        if self.idempotent {
            if self.identity.is_none() {
                self.identity = Some(init_producer_id(connection)?);
            }
        } else {
            self.in_flight.clear();
        }
        for batch in &self.in_flight {
            batch.send(connection, &self.shape)?;
        }
        let bound = IN_FLIGHT * self.counts.len();
        loop {
            while self.in_flight.len() < bound && !stop() {
                let batch = self.next_batch();
                let sent = batch.send(connection, &self.shape);
                self.in_flight.push_back(batch);
                sent?;
            }
            let Some(batch) = self.in_flight.front() else { return Ok(()) };
            let base_offset = self.receive(connection, batch)?;
            let stored = batch.acknowledged(base_offset);
            self.in_flight.pop_front();
            acknowledged(stored);
        }
    }

    fn next_batch(&mut self) -> ProducedBatch {
        let partition = self.next_partition;
        self.next_partition = (partition + 1) % self.shape.partitions;
        let counter = &mut self.counts[usize::try_from(partition).unwrap_or(0)];
        let first = Identity { producer: self.number, count: *counter };
        *counter += self.shape.batch_records;
        ProducedBatch::new(first, partition, &self.shape, self.identity)
    }

    fn receive(&self, connection: &mut Connection, batch: &ProducedBatch) -> io::Result<i64> {
        let (code, base_offset) = ProducedBatch::receive(connection)?;
        assert_eq!(
            code, 0,
            "producer {} with {:?} from {:?} of partition {} on",
            self.number, self.identity, batch.first, batch.partition
        );
        Ok(base_offset)
    }
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// A producer id and its epoch, for an idempotent producer.
///
/// # Errors
/// When the connection ends, or the broker has none to give.
pub fn init_producer_id(connection: &mut Connection) -> io::Result<(i64, i16)> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(-1)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    let response = connection.call(INIT_PRODUCER_ID_VERSION, &request)?;
    if response.error_code != 0 {
        return Err(io::Error::other(format!("InitProducerId answers {}", response.error_code)));
    }
    Ok((response.producer_id.0, response.producer_epoch))
}

/// A batch of records with these identities. The sequence numbers of an idempotent producer are the counts.
fn encode(first: Identity, records: i32, value_bytes: usize, producer: Option<(i64, i16)>) -> Bytes {
    let (producer_id, producer_epoch) = producer.unwrap_or((-1, -1));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let timestamp = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let records: Vec<Record> = (0..records)
        .map(|index| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id,
            producer_epoch,
            timestamp_type: TimestampType::Creation,
            offset: index.into(),
            sequence: if producer.is_some() { first.count + index } else { -1 + index },
            timestamp,
            key: None,
            value: Some(Identity { count: first.count + index, ..first }.value(value_bytes)),
            headers: Default::default(),
        })
        .collect();
    let mut encoded = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut encoded, &records, &options).expect("plain records can be encoded");
    encoded.freeze()
}

/// What a fetch found in a partition.
#[derive(Debug)]
pub struct Fetched {
    /// Offset and identity of each record from the offset that was asked for on.
    pub records: Vec<(i64, Identity)>,
    /// The high watermark.
    pub high_watermark: i64,
    /// The last stable offset.
    pub last_stable_offset: i64,
    /// The log start offset.
    pub log_start_offset: i64,
}

/// Reads from an offset on, without waiting for more.
///
/// # Errors
/// When the connection ends.
///
/// # Panics
/// When the broker answers with an error, or with what nobody has written.
pub fn fetch(connection: &mut Connection, topic: &str, partition: i32, offset: i64) -> io::Result<Fetched> {
    let fetched = try_fetch(connection, topic, partition, offset)?;
    Ok(fetched.unwrap_or_else(|code| panic!("Fetch of partition {partition} from {offset} on: error {code}")))
}

/// The same, where the partition's error code may be answered instead.
///
/// # Errors
/// When the connection ends.
///
/// # Panics
/// When the broker answers with what nobody has written.
pub fn try_fetch(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    offset: i64,
) -> io::Result<Result<Fetched, i16>> {
    let asked = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(FETCH_BYTES);
    let request = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(0)
        .with_min_bytes(0)
        .with_max_bytes(FETCH_BYTES)
        .with_session_epoch(-1)
        .with_topics(vec![FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![asked])]);
    let mut response = connection.call(FETCH_VERSION, &request)?;
    assert_eq!(response.error_code, 0, "Fetch");
    let mut answer = response.responses.remove(0).partitions.remove(0);
    if answer.error_code != 0 {
        return Ok(Err(answer.error_code));
    }
    let mut records = Vec::new();
    let mut encoded = answer.records.take().unwrap_or_default();
    for set in RecordBatchDecoder::decode_all(&mut encoded).map_err(io::Error::other)? {
        for record in set.records.iter().filter(|record| record.offset >= offset) {
            let identity = record.value.as_deref().and_then(Identity::parse);
            let identity = identity.unwrap_or_else(|| panic!("a record that nobody wrote: {record:?}"));
            records.push((record.offset, identity));
        }
    }
    Ok(Ok(Fetched {
        records,
        high_watermark: answer.high_watermark,
        last_stable_offset: answer.last_stable_offset,
        log_start_offset: answer.log_start_offset,
    }))
}

/// Produces one batch with `acks=all` and waits for the answer: the error code and the base offset.
///
/// # Errors
/// When the connection ends.
pub fn produce(
    connection: &mut Connection,
    shape: &Shape,
    partition: i32,
    first: Identity,
) -> io::Result<(i16, i64)> {
    let encoded = encode(first, shape.batch_records, shape.value_bytes, None);
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(encoded));
    let topic =
        TopicProduceData::default().with_name(topic_name(&shape.topic)).with_partition_data(vec![data]);
    let request =
        ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic]);
    let response = connection.call(PRODUCE_VERSION, &request)?;
    let answer = &response.responses[0].partition_responses[0];
    Ok((answer.error_code, answer.base_offset))
}
