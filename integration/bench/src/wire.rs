//! The frames of the load, written and read by hand so that the client stays lean.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use crate::batch::{Stamp, Stamper, int, sequence_after, unsigned_varint};
use crate::topic::{Topic, init_producer_id};

/// Produce and Fetch by topic id, the newest that clients of Kafka 4 speak.
const PRODUCE: (i16, i16) = (0, 13);
const FETCH: (i16, i16) = (1, 17);
/// No answer takes longer; otherwise a run fails instead of waiting for ever.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Where the correlation id stands in a frame.
const CORRELATION_ID: Range<usize> = 8..12;
const CLIENT_ID: &[u8] = b"bench";
/// The answer to a fetch may be this large at most: more is a sign of a frame that is read wrongly.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// The error of an answer, in words.
pub(crate) fn refused(what: &str, code: i16) -> io::Error {
    let error = kafka_protocol::ResponseError::try_from_code(code);
    io::Error::other(format!(
        "{what}: {}",
        error.map_or_else(|| code.to_string(), |error| format!("{error:?}"))
    ))
}

fn begin((key, version): (i16, i16)) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame.extend_from_slice(&key.to_be_bytes());
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(&[0, 5]);
    frame.extend_from_slice(CLIENT_ID);
    frame.push(0);
    frame
}

fn finish(frame: &mut [u8]) -> io::Result<()> {
    let length = int(frame.len() - 4)?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn compact(frame: &mut Vec<u8>, length: usize) -> io::Result<()> {
    unsigned_varint(frame, int(length + 1)?.cast_unsigned());
    Ok(())
}

/// A Produce request that is sent again and again.
#[derive(Debug)]
pub struct ProduceFrame {
    bytes: Vec<u8>,
    batches: Vec<Placed>,
}

/// A batch in a frame.
#[derive(Debug)]
struct Placed {
    partition: usize,
    records: i32,
    place: Range<usize>,
    stamper: Stamper,
}

/// An idempotent producer: its id, and the next sequence number of each partition.
#[derive(Debug)]
pub struct Idempotence {
    producer_id: i64,
    epoch: i16,
    sequences: Vec<i32>,
}

impl Idempotence {
    /// A new producer for so many partitions.
    ///
    /// # Errors
    /// When the broker gives no producer id.
    pub fn new(bootstrap: &str, partitions: i32) -> io::Result<Self> {
        let (producer_id, epoch) = init_producer_id(bootstrap)?;
        Ok(Self { producer_id, epoch, sequences: vec![0; usize::try_from(partitions).unwrap_or(0)] })
    }
}

impl ProduceFrame {
    /// A request with these batches, each with its partition; no partition twice.
    ///
    /// # Errors
    /// When it is larger than a request can be.
    pub fn new(topic: Uuid, acks: i16, batches: &[(i32, Vec<u8>)]) -> io::Result<Self> {
        let mut bytes = begin(PRODUCE);
        // No transactional id.
        bytes.push(0);
        bytes.extend_from_slice(&acks.to_be_bytes());
        bytes.extend_from_slice(&30_000_i32.to_be_bytes());
        compact(&mut bytes, 1)?;
        bytes.extend_from_slice(topic.as_bytes());
        compact(&mut bytes, batches.len())?;
        let mut placed = Vec::with_capacity(batches.len());
        for (partition, batch) in batches {
            bytes.extend_from_slice(&partition.to_be_bytes());
            compact(&mut bytes, batch.len())?;
            let seen = crate::batch::front(batch).ok_or_else(|| io::Error::other("not a batch"))?;
            placed.push(Placed {
                partition: usize::try_from(*partition).map_err(io::Error::other)?,
                records: seen.records,
                place: bytes.len()..bytes.len() + batch.len(),
                stamper: Stamper::new(batch),
            });
            bytes.extend_from_slice(batch);
            bytes.push(0);
        }
        bytes.extend_from_slice(&[0, 0]);
        finish(&mut bytes)?;
        Ok(Self { bytes, batches: placed })
    }

    /// How many records it carries.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.batches.iter().map(|batch| u64::from(batch.records.cast_unsigned())).sum()
    }

    /// How many batches it carries.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.batches.len()
    }

    /// The bytes of its batches, which are what is to be stored.
    #[must_use]
    pub fn batch_bytes(&self) -> u64 {
        self.batches.iter().map(|batch| batch.place.len() as u64).sum()
    }

    /// The frame for the next use: with this correlation id, and the next sequence numbers of the producer.
    pub fn next(&mut self, correlation_id: i32, idempotence: Option<&mut Idempotence>) -> &[u8] {
        self.bytes[CORRELATION_ID].copy_from_slice(&correlation_id.to_be_bytes());
        if let Some(producer) = idempotence {
            for batch in &self.batches {
                let Some(sequence) = producer.sequences.get_mut(batch.partition) else { continue };
                let stamp =
                    Stamp { producer_id: producer.producer_id, epoch: producer.epoch, sequence: *sequence };
                batch.stamper.stamp(&mut self.bytes[batch.place.clone()], stamp);
                *sequence = sequence_after(*sequence, batch.records);
            }
        }
        &self.bytes
    }

    /// Changes the value of the first record of the only batch, and its CRC.
    pub fn mark(&mut self, mark: &[u8]) {
        let Some(batch) = self.batches.first_mut() else { return };
        let bytes = &mut self.bytes[batch.place.clone()];
        if let Some(value) = crate::batch::first_value(bytes)
            && let Some(place) = bytes.get_mut(value).and_then(|value| value.get_mut(..mark.len()))
        {
            place.copy_from_slice(mark);
        }
        crate::batch::seal(bytes);
        batch.stamper = Stamper::new(bytes);
    }
}

/// A connection that carries frames.
#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
    /// Reused for every answer.
    answer: Vec<u8>,
}

impl Stream {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn open(bootstrap: &str) -> io::Result<Self> {
        let socket = TcpStream::connect(bootstrap)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { socket, answer: Vec::new() })
    }

    /// The same connection for another thread.
    ///
    /// # Errors
    /// When there are no file descriptors left.
    pub fn second(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, answer: Vec::new() })
    }

    /// Ends the connection, also under a thread that waits for an answer.
    pub fn shut(&self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.socket.write_all(frame)
    }

    /// Receives the next answer: its correlation id and what follows.
    ///
    /// # Errors
    /// When the connection has ended, or nothing came for [`PATIENCE`].
    pub fn receive(&mut self) -> io::Result<(i32, &[u8])> {
        // The length and the correlation id at once: no answer is shorter.
        let mut head = [0; 8];
        self.socket.read_exact(&mut head)?;
        let mut head = Reader::new(&head);
        let length = usize::try_from(head.i32()?).map_err(io::Error::other)?;
        let correlation_id = head.i32()?;
        let body = length.checked_sub(4).filter(|length| *length < ANSWER_BYTES_MAX);
        let body = body.ok_or_else(|| io::Error::other(format!("an answer of {length} bytes")))?;
        if self.answer.len() < body {
            self.answer.resize(body, 0);
        }
        self.socket.read_exact(&mut self.answer[..body])?;
        Ok((correlation_id, &self.answer[..body]))
    }
}

/// Reads the fields of an answer.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// From the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn bytes(&mut self, length: usize) -> io::Result<&'a [u8]> {
        let (bytes, rest) =
            self.rest.split_at_checked(length).ok_or_else(|| io::Error::other("a cut answer"))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn fixed<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        self.bytes(N)?.try_into().map_err(io::Error::other)
    }

    fn i16(&mut self) -> io::Result<i16> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    fn i32(&mut self) -> io::Result<i32> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    fn varint(&mut self) -> io::Result<usize> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.fixed()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(io::Error::other("a varint without an end"))
    }

    /// The length of a compact array or of compact bytes; none counts as empty.
    fn compact(&mut self) -> io::Result<usize> {
        Ok(self.varint()?.saturating_sub(1))
    }

    fn tags(&mut self) -> io::Result<()> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let length = self.varint()?;
            self.bytes(length)?;
        }
        Ok(())
    }
}

/// Reads an answer to a Produce request, from behind the correlation id.
///
/// # Errors
/// When a partition has refused its batch.
pub fn check_produced(answer: &[u8]) -> io::Result<()> {
    let mut reader = Reader::new(answer);
    reader.tags()?;
    for _ in 0..reader.compact()? {
        reader.bytes(16)?;
        for _ in 0..reader.compact()? {
            let _partition = reader.i32()?;
            let code = reader.i16()?;
            if code != 0 {
                return Err(refused("a batch", code));
            }
            // The base offset, the append time, the start of the log; then the errors of records, and a message.
            reader.bytes(24)?;
            for _ in 0..reader.compact()? {
                reader.bytes(4)?;
                let length = reader.compact()?;
                reader.bytes(length)?;
                reader.tags()?;
            }
            let length = reader.compact()?;
            reader.bytes(length)?;
            reader.tags()?;
        }
        reader.tags()?;
    }
    Ok(())
}

/// How a consumer fetches; the defaults are those of Kafka's consumer.
#[derive(Clone, Copy, Debug)]
pub struct FetchShape {
    /// How long the broker may wait for `min_bytes`.
    pub max_wait_ms: i32,
    /// What it waits for.
    pub min_bytes: i32,
    /// The most that an answer holds.
    pub max_bytes: i32,
    /// The most of one partition.
    pub partition_max_bytes: i32,
}

impl Default for FetchShape {
    fn default() -> Self {
        Self { max_wait_ms: 500, min_bytes: 1, max_bytes: 50 << 20, partition_max_bytes: 1 << 20 }
    }
}

/// A consumer's place in a topic, and its fetch session.
#[derive(Debug)]
pub struct Fetcher {
    topic: Uuid,
    shape: FetchShape,
    offsets: Vec<i64>,
    /// What the session does not know yet.
    moved: Vec<bool>,
    session_id: i32,
    session_epoch: i32,
    frame: Vec<u8>,
}

impl Fetcher {
    /// A consumer of all partitions, from these offsets on.
    #[must_use]
    pub fn new(topic: &Topic, shape: FetchShape, offsets: Vec<i64>) -> Self {
        let moved = vec![true; offsets.len()];
        Self { topic: topic.id, shape, offsets, moved, session_id: 0, session_epoch: 0, frame: Vec::new() }
    }

    /// The next request: in a session, of the partitions that have moved.
    ///
    /// # Errors
    /// Never, in sizes that occur.
    pub fn request(&mut self, correlation_id: i32) -> io::Result<&[u8]> {
        let mut frame = begin(FETCH);
        frame[CORRELATION_ID].copy_from_slice(&correlation_id.to_be_bytes());
        for value in [self.shape.max_wait_ms, self.shape.min_bytes, self.shape.max_bytes] {
            frame.extend_from_slice(&value.to_be_bytes());
        }
        // Uncommitted records are read, too.
        frame.push(0);
        frame.extend_from_slice(&self.session_id.to_be_bytes());
        frame.extend_from_slice(&self.session_epoch.to_be_bytes());
        let moved = self.moved.iter().filter(|moved| **moved).count();
        compact(&mut frame, usize::from(moved > 0))?;
        if moved > 0 {
            frame.extend_from_slice(self.topic.as_bytes());
            compact(&mut frame, moved)?;
            for (partition, offset) in self.offsets.iter().enumerate().filter(|(at, _)| self.moved[*at]) {
                frame.extend_from_slice(&int(partition)?.to_be_bytes());
                frame.extend_from_slice(&(-1_i32).to_be_bytes());
                frame.extend_from_slice(&offset.to_be_bytes());
                frame.extend_from_slice(&(-1_i32).to_be_bytes());
                frame.extend_from_slice(&(-1_i64).to_be_bytes());
                frame.extend_from_slice(&self.shape.partition_max_bytes.to_be_bytes());
                frame.push(0);
            }
            frame.push(0);
        }
        // Nothing forgotten, no rack, no tags.
        frame.extend_from_slice(&[1, 1, 0]);
        finish(&mut frame)?;
        self.moved.fill(false);
        self.frame = frame;
        Ok(&self.frame)
    }

    /// Reads an answer, hands every whole batch over and moves on.
    ///
    /// # Errors
    /// When the broker answers with an error.
    pub fn answer(&mut self, answer: &[u8], mut batch: impl FnMut(usize, &[u8])) -> io::Result<()> {
        let mut reader = Reader::new(answer);
        reader.tags()?;
        let _throttle_ms = reader.i32()?;
        let code = reader.i16()?;
        if code != 0 {
            return Err(refused("a fetch", code));
        }
        self.session_id = reader.i32()?;
        self.session_epoch = if self.session_id == 0 { 0 } else { self.session_epoch % i32::MAX + 1 };
        if self.session_id == 0 {
            self.moved.fill(true);
        }
        for _ in 0..reader.compact()? {
            reader.bytes(16)?;
            for _ in 0..reader.compact()? {
                self.partition(&mut reader, &mut batch)?;
            }
            reader.tags()?;
        }
        Ok(())
    }

    fn partition(&mut self, reader: &mut Reader<'_>, batch: &mut impl FnMut(usize, &[u8])) -> io::Result<()> {
        let partition = usize::try_from(reader.i32()?).map_err(io::Error::other)?;
        let code = reader.i16()?;
        if code != 0 {
            return Err(refused("a fetched partition", code));
        }
        // High watermark, last stable offset, start of the log.
        reader.bytes(24)?;
        for _ in 0..reader.compact()? {
            reader.bytes(16)?;
            reader.tags()?;
        }
        let _preferred_replica = reader.i32()?;
        let length = reader.compact()?;
        let mut records = reader.bytes(length)?;
        reader.tags()?;
        let Some(offset) = self.offsets.get_mut(partition) else {
            return Err(io::Error::other("a partition that was not asked for"));
        };
        while let Some(seen) = crate::batch::front(records) {
            let (whole, rest) = records.split_at(seen.bytes);
            batch(partition, whole);
            *offset = seen.next_offset;
            self.moved[partition] = true;
            records = rest;
        }
        Ok(())
    }

    /// Where it stands.
    #[must_use]
    pub fn offsets(&self) -> &[i64] {
        &self.offsets
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
    use kafka_protocol::messages::produce_response::{
        BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
    };
    use kafka_protocol::messages::{
        FetchRequest, FetchResponse, ProduceRequest, ProduceResponse, RequestHeader,
    };
    use kafka_protocol::protocol::{Decodable, Encodable as _, HeaderVersion, StrBytes};

    use super::*;
    use crate::batch::{Compression, Values};

    fn body<R: Decodable + HeaderVersion>(frame: &[u8], version: i16) -> (RequestHeader, R) {
        let mut wire = Bytes::copy_from_slice(&frame[4..]);
        assert_eq!(frame[..4], int(wire.len()).expect("a length").to_be_bytes());
        let header = RequestHeader::decode(&mut wire, R::header_version(version)).expect("a header");
        let request = R::decode(&mut wire, version).expect("a request");
        assert!(wire.is_empty());
        (header, request)
    }

    fn produce_frame() -> ProduceFrame {
        let mut values = Values::new(1, 100);
        let mut batch = |records| values.batch(records, Compression::None, 7).expect("a batch");
        let batches = [(3, batch(5)), (1, batch(2))];
        ProduceFrame::new(Uuid::from_u128(9), -1, &batches).expect("a frame")
    }

    #[test]
    fn produce_frames_are_requests_with_the_next_sequences() {
        let mut frame = produce_frame();
        assert_eq!((frame.records(), frame.batches()), (7, 2));
        let mut producer = Idempotence { producer_id: 77, epoch: 2, sequences: vec![0; 4] };
        for round in 0..3 {
            let (header, request) =
                body::<ProduceRequest>(frame.next(40 + round, Some(&mut producer)), PRODUCE.1);
            assert_eq!((header.correlation_id, header.request_api_key), (40 + round, 0));
            assert_eq!((request.acks, request.timeout_ms), (-1, 30_000));
            let topic = &request.topic_data[0];
            assert_eq!(topic.topic_id, Uuid::from_u128(9));
            for (partition, records) in [(0, 5), (1, 2)] {
                let data = &topic.partition_data[partition];
                let mut batch = data.records.clone().expect("records");
                let set = kafka_protocol::records::RecordBatchDecoder::decode(&mut batch).expect("a batch");
                assert_eq!(set.records.len(), usize::try_from(records).expect("a count"));
                assert_eq!(set.records[0].sequence, round * records);
                assert_eq!((set.records[0].producer_id, set.records[0].producer_epoch), (77, 2));
            }
        }
    }

    #[test]
    fn a_refused_batch_is_seen() {
        let answer = |code: i16| {
            let partitions = vec![
                PartitionProduceResponse::default().with_index(0).with_base_offset(5),
                PartitionProduceResponse::default()
                    .with_index(1)
                    .with_error_code(code)
                    .with_record_errors(vec![BatchIndexAndErrorMessage::default().with_batch_index(3)])
                    .with_error_message(Some(StrBytes::from_static_str("no"))),
            ];
            let response = ProduceResponse::default()
                .with_responses(vec![TopicProduceResponse::default().with_partition_responses(partitions)]);
            // The tags of the header, then the body.
            let mut wire = vec![0];
            response.encode(&mut wire, PRODUCE.1).expect("an answer");
            wire
        };
        assert!(check_produced(&answer(0)).is_ok());
        let error = check_produced(&answer(3)).expect_err("a refusal").to_string();
        assert!(error.contains("UnknownTopicOrPartition"), "{error}");
        assert!(check_produced(&answer(0)[..20]).is_err());
    }

    #[test]
    fn a_fetcher_moves_on_within_its_session() {
        let topic = Topic { name: "t".to_owned(), id: Uuid::from_u128(8), partitions: 2 };
        let mut fetcher = Fetcher::new(&topic, FetchShape::default(), vec![0, 0]);
        let (_, first) = body::<FetchRequest>(fetcher.request(1).expect("a request"), FETCH.1);
        assert_eq!((first.session_id, first.session_epoch, first.topics[0].partitions.len()), (0, 0, 2));

        let mut records = Vec::new();
        let mut batch = Values::new(2, 10).batch(4, Compression::None, 0).expect("a batch");
        records.extend_from_slice(&batch);
        batch[..8].copy_from_slice(&4_i64.to_be_bytes());
        records.extend_from_slice(&batch);
        // The last one is cut off.
        records.extend_from_slice(&batch[..batch.len() - 1]);
        let partitions = vec![
            PartitionData::default().with_partition_index(1).with_records(Some(records.into())),
            PartitionData::default().with_partition_index(0),
        ];
        let response = FetchResponse::default()
            .with_session_id(55)
            .with_responses(vec![FetchableTopicResponse::default().with_partitions(partitions)]);
        let mut wire = vec![0];
        response.encode(&mut wire, FETCH.1).expect("an answer");
        let mut seen = Vec::new();
        fetcher.answer(&wire, |partition, batch| seen.push((partition, batch.len()))).expect("batches");
        assert_eq!(seen, vec![(1, batch.len()); 2]);
        assert_eq!(fetcher.offsets(), [0, 8]);

        let (_, next) = body::<FetchRequest>(fetcher.request(2).expect("a request"), FETCH.1);
        assert_eq!((next.session_id, next.session_epoch), (55, 1));
        assert_eq!(next.topics[0].partitions.len(), 1);
        assert_eq!(
            (next.topics[0].partitions[0].partition, next.topics[0].partitions[0].fetch_offset),
            (1, 8)
        );
        let (_, empty) = body::<FetchRequest>(fetcher.request(3).expect("a request"), FETCH.1);
        assert!(empty.topics.is_empty());
    }

    #[test]
    fn marks_are_sealed() {
        let mut frame = produce_frame();
        frame.mark(b"mark");
        let (_, request) = body::<ProduceRequest>(frame.next(1, None), PRODUCE.1);
        let mut batch = request.topic_data[0].partition_data[0].records.clone().expect("records");
        let set = kafka_protocol::records::RecordBatchDecoder::decode(&mut batch).expect("a batch");
        assert!(set.records[0].value.as_deref().is_some_and(|value| value.starts_with(b"mark")));
    }
}
