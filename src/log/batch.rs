//! Record batches of format v2, read in place and written.
//!
//! A batch is a header of 61 bytes and records, which may be compressed together. The CRC covers
//! everything from the attributes on, so base offset and leader epoch can be set without it.

use bytes::{BufMut, Bytes, BytesMut};

use super::compression::{Compression, MAX_INFLATED_BYTES, decompress};
use super::varint;
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TimestampMs};

/// The length of a batch's header.
pub const HEADER_BYTES: usize = 61;
/// Base offset and length, which the length does not count.
pub const LENGTH_PREFIX_BYTES: usize = 12;
/// Where the leader epoch stands.
pub const LEADER_EPOCH_AT: usize = 12;
/// Where the magic number stands, in every format.
pub const MAGIC_AT: usize = 16;
/// Where the CRC stands.
pub const CRC_AT: usize = 17;
/// Where that starts which the CRC covers.
pub const ATTRIBUTES_AT: usize = 21;
/// Where the largest timestamp stands.
pub const MAX_TIMESTAMP_AT: usize = 35;
/// The magic number of this format.
pub const MAGIC_V2: i8 = 2;

/// Attribute: which compression.
const COMPRESSION_MASK: i16 = 0b111;
/// Attribute: the timestamps are the broker's.
pub const LOG_APPEND_TIME: i16 = 1 << 3;
/// Attribute: part of a transaction.
pub const TRANSACTIONAL: i16 = 1 << 4;
/// Attribute: holds control records.
pub const CONTROL: i16 = 1 << 5;
/// Control type of the marker of an aborted transaction.
pub const CONTROL_ABORT: i16 = 0;
/// Control type of the marker of a committed transaction.
pub const CONTROL_COMMIT: i16 = 1;
/// Attribute: the base timestamp is the time until which tombstones and markers stay (KIP-534).
pub const DELETE_HORIZON: i16 = 1 << 6;

/// What is wrong with the bytes of a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("the batch is shorter than its length says")]
    Truncated,
    #[error("the batch has an impossible length of {0} bytes")]
    Length(i32),
    #[error("the batch has the unsupported magic number {0}")]
    Magic(i8),
    #[error("record {index} is malformed: {problem}")]
    Record { index: i32, problem: &'static str },
    #[error("the records can not be decompressed: {0}")]
    Decompression(String),
}

/// One record batch over shared bytes: exactly its bytes, its header checked for length and magic.
#[derive(Clone, Debug)]
pub struct BatchView {
    bytes: Bytes,
}

/// The length of the batch at the start of `bytes`, header included; `None` where the bytes end
/// before the batch does.
///
/// # Errors
/// When the length is impossible or the format is not v2.
pub fn batch_length(bytes: &[u8]) -> Result<Option<usize>, BatchError> {
    if bytes.len() <= MAGIC_AT {
        return Ok(None);
    }
    let magic = bytes[MAGIC_AT].cast_signed();
    if magic != MAGIC_V2 {
        return Err(BatchError::Magic(magic));
    }
    let length = i32::from_be_bytes(array_at(bytes, 8));
    let total = usize::try_from(length).map_or(0, |length| length + LENGTH_PREFIX_BYTES);
    if total < HEADER_BYTES {
        return Err(BatchError::Length(length));
    }
    Ok((bytes.len() >= total).then_some(total))
}

impl BatchView {
    /// The first batch in `bytes`; what follows it is left out.
    ///
    /// # Errors
    /// When there is no whole batch of format v2.
    pub fn first(bytes: &Bytes) -> Result<Self, BatchError> {
        let length = batch_length(bytes)?.ok_or(BatchError::Truncated)?;
        Ok(Self { bytes: bytes.slice(..length) })
    }

    /// Bytes that are known to be one batch: its header was changed in place.
    pub(super) fn trusted(bytes: Bytes) -> Self {
        debug_assert_eq!(batch_length(&bytes), Ok(Some(bytes.len())));
        Self { bytes }
    }

    /// The batches in `bytes`, one after the other. Ends after the first error.
    pub fn all(bytes: &Bytes) -> impl Iterator<Item = Result<Self, BatchError>> + use<> {
        let mut rest = bytes.clone();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let batch = Self::first(&rest);
            match &batch {
                Ok(batch) => drop(rest.split_to(batch.len())),
                Err(_) => rest.clear(),
            }
            Some(batch)
        })
    }

    /// The batch's bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The batch's bytes, without the view.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The number of bytes, header included.
    #[expect(clippy::len_without_is_empty, reason = "a batch has a header at least")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The offset of the first record.
    pub fn base_offset(&self) -> Offset {
        self.i64_at(0)
    }

    /// The leader epoch in which the batch was appended.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.i32_at(LEADER_EPOCH_AT)
    }

    /// The checksum that the header states.
    pub fn crc(&self) -> u32 {
        self.i32_at(CRC_AT).cast_unsigned()
    }

    /// Whether the checksum is right.
    pub fn crc_matches(&self) -> bool {
        crc32c::crc32c(&self.bytes[ATTRIBUTES_AT..]) == self.crc()
    }

    /// The attribute bits.
    pub fn attributes(&self) -> i16 {
        i16::from_be_bytes(array_at(&self.bytes, ATTRIBUTES_AT))
    }

    /// How the records are compressed; `None` for a number that no Kafka version uses.
    pub fn compression(&self) -> Option<Compression> {
        Compression::from_id(self.attributes() & COMPRESSION_MASK)
    }

    /// Whether the timestamps are the broker's.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes() & LOG_APPEND_TIME != 0
    }

    /// Whether the batch is part of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL != 0
    }

    /// Whether the batch holds control records, which clients do not see.
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL != 0
    }

    /// The last offset, relative to the base offset.
    pub fn last_offset_delta(&self) -> i32 {
        self.i32_at(23)
    }

    /// The offset of the last record.
    pub fn last_offset(&self) -> Offset {
        self.base_offset().saturating_add(i64::from(self.last_offset_delta()))
    }

    /// The timestamp that the records' are relative to.
    pub fn base_timestamp(&self) -> TimestampMs {
        self.i64_at(27)
    }

    /// Until when the tombstones, or the marker, of this batch stay, if a cleaning has set it.
    pub fn delete_horizon_ms(&self) -> Option<TimestampMs> {
        (self.attributes() & DELETE_HORIZON != 0).then(|| self.base_timestamp())
    }

    /// The largest timestamp.
    pub fn max_timestamp(&self) -> TimestampMs {
        self.i64_at(MAX_TIMESTAMP_AT)
    }

    /// The producer's id, -1 if it has none.
    pub fn producer_id(&self) -> ProducerId {
        self.i64_at(43)
    }

    /// The producer's epoch, -1 if it has none.
    pub fn producer_epoch(&self) -> ProducerEpoch {
        i16::from_be_bytes(array_at(&self.bytes, 51))
    }

    /// The sequence number of the first record, -1 if there is none.
    pub fn base_sequence(&self) -> i32 {
        self.i32_at(53)
    }

    /// The sequence number of the last record. Sequence numbers start again at 0 after the
    /// largest number.
    pub fn last_sequence(&self) -> i32 {
        match self.base_sequence() {
            -1 => -1,
            first => add_sequence(first, self.last_offset_delta()),
        }
    }

    /// The number of records that the header states.
    pub fn record_count(&self) -> i32 {
        self.i32_at(57)
    }

    /// The bytes of the records, compressed as they are.
    pub fn body(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// The records. A compressed batch is decompressed first, into 256 MiB at most.
    ///
    /// # Errors
    /// When the records can not be decompressed.
    pub fn records(&self) -> Result<Records, BatchError> {
        let body = match self.compression() {
            Some(Compression::None) => self.bytes.slice(HEADER_BYTES..),
            Some(compression) => decompress(compression, self.body(), MAX_INFLATED_BYTES)
                .map_err(|error| BatchError::Decompression(error.to_string()))?
                .into(),
            None => return Err(BatchError::Decompression("unknown compression".to_owned())),
        };
        Ok(Records {
            rest: body,
            index: 0,
            count: self.record_count(),
            base_offset: self.base_offset(),
            base_timestamp: self.base_timestamp(),
            append_time: self.is_log_append_time().then(|| self.max_timestamp()),
        })
    }

    fn i32_at(&self, at: usize) -> i32 {
        i32::from_be_bytes(array_at(&self.bytes, at))
    }

    fn i64_at(&self, at: usize) -> i64 {
        i64::from_be_bytes(array_at(&self.bytes, at))
    }
}

/// The bytes at a place that the caller knows to exist.
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

/// The sequence number `delta` after `sequence` (`DefaultRecordBatch.incrementSequence`).
pub fn add_sequence(sequence: i32, delta: i32) -> i32 {
    match sequence.checked_add(delta) {
        Some(sum) => sum,
        None => delta - (i32::MAX - sequence) - 1,
    }
}

/// One record over shared bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordView {
    pub offset: Offset,
    pub timestamp: TimestampMs,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    header_count: usize,
    headers: Bytes,
}

impl RecordView {
    /// The headers, in order; a name may occur more than once.
    pub fn headers(&self) -> impl Iterator<Item = (Bytes, Option<Bytes>)> + use<> {
        let mut rest = self.headers.clone();
        (0..self.header_count).map_while(move |_| {
            let name = varint::take_bytes(&mut rest)??;
            Some((name, varint::take_bytes(&mut rest)?))
        })
    }
}

/// The records of a batch. Ends after the first error.
#[derive(Debug)]
pub struct Records {
    rest: Bytes,
    index: i32,
    count: i32,
    base_offset: Offset,
    base_timestamp: TimestampMs,
    append_time: Option<TimestampMs>,
}

impl Iterator for Records {
    type Item = Result<RecordView, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.count {
            return None;
        }
        let index = self.index;
        self.index += 1;
        let record = self.read().map_err(|problem| BatchError::Record { index, problem });
        if record.is_err() {
            self.index = self.count;
        }
        Some(record)
    }
}

impl Records {
    fn read(&mut self) -> Result<RecordView, &'static str> {
        let length = varint::take_i32(&mut self.rest).ok_or("it has no length")?;
        let length = usize::try_from(length).map_err(|_| "its length is negative")?;
        if length > self.rest.len() {
            return Err("it is longer than the batch");
        }
        let mut record = self.rest.split_to(length);
        // One byte of attributes, which no version uses.
        if record.is_empty() {
            return Err("it is empty");
        }
        let _ = record.split_to(1);
        let timestamp_delta = varint::take_i64(&mut record).ok_or("it has no timestamp")?;
        let offset_delta = varint::take_i32(&mut record).ok_or("it has no offset")?;
        let key = varint::take_bytes(&mut record).ok_or("its key is too long")?;
        let value = varint::take_bytes(&mut record).ok_or("its value is too long")?;
        let header_count = varint::take_i32(&mut record).ok_or("it has no header count")?;
        let header_count = usize::try_from(header_count).map_err(|_| "its header count is negative")?;
        let headers = record.clone();
        for _ in 0..header_count {
            let name = varint::take_bytes(&mut record).ok_or("a header's name is too long")?;
            name.ok_or("a header has no name")?;
            varint::take_bytes(&mut record).ok_or("a header's value is too long")?;
        }
        if !record.is_empty() {
            return Err("it is shorter than its length says");
        }
        let timestamp = self.base_timestamp.wrapping_add(timestamp_delta);
        Ok(RecordView {
            offset: self.base_offset.wrapping_add(i64::from(offset_delta)),
            timestamp: self.append_time.unwrap_or(timestamp),
            key,
            value,
            header_count,
            headers,
        })
    }
}

/// Writes one batch.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    attributes: i16,
    compression: Compression,
    producer: (ProducerId, ProducerEpoch, i32),
    count: i32,
    base_timestamp: TimestampMs,
    max_timestamp: TimestampMs,
    records: BytesMut,
    scratch: BytesMut,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// A batch without records, from nobody in particular, at offset 0.
    pub fn new() -> Self {
        Self {
            base_offset: 0,
            leader_epoch: -1,
            attributes: 0,
            compression: Compression::None,
            producer: (-1, -1, -1),
            count: 0,
            base_timestamp: -1,
            max_timestamp: -1,
            records: BytesMut::new(),
            scratch: BytesMut::new(),
        }
    }

    /// Sets the offset of the first record.
    #[must_use]
    pub fn base_offset(mut self, base_offset: Offset) -> Self {
        self.base_offset = base_offset;
        self
    }

    /// Sets the leader epoch.
    #[must_use]
    pub fn leader_epoch(mut self, leader_epoch: LeaderEpoch) -> Self {
        self.leader_epoch = leader_epoch;
        self
    }

    /// Sets the producer's id, its epoch, and the sequence number of the first record.
    #[must_use]
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) -> Self {
        self.producer = (id, epoch, base_sequence);
        self
    }

    /// Adds attribute bits, such as [`TRANSACTIONAL`].
    #[must_use]
    pub fn attributes(mut self, attributes: i16) -> Self {
        self.attributes |= attributes;
        self
    }

    /// Makes it a batch of control records. Their keys say what they are:
    /// see [`control_key`].
    #[must_use]
    pub fn control(self) -> Self {
        self.attributes(CONTROL)
    }

    /// Compresses the records.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Adds a record.
    #[must_use]
    pub fn record(self, timestamp: TimestampMs, key: Option<&[u8]>, value: Option<&[u8]>) -> Self {
        self.record_with_headers(timestamp, key, value, &[])
    }

    /// Adds a record with headers.
    #[must_use]
    pub fn record_with_headers(
        mut self,
        timestamp: TimestampMs,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Self {
        if self.count == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let record = &mut self.scratch;
        record.clear();
        record.put_u8(0);
        varint::put_i64(record, timestamp.wrapping_sub(self.base_timestamp));
        varint::put_i64(record, i64::from(self.count));
        varint::put_bytes(record, key);
        varint::put_bytes(record, value);
        varint::put_length(record, headers.len());
        for (name, value) in headers {
            varint::put_bytes(record, Some(name.as_bytes()));
            varint::put_bytes(record, *value);
        }
        varint::put_length(&mut self.records, record.len());
        self.records.extend_from_slice(record);
        self.count += 1;
        self
    }

    /// The number of records so far.
    pub fn record_count(&self) -> i32 {
        self.count
    }

    /// The size of the batch so far, before compression.
    pub fn size_bytes(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// The batch.
    ///
    /// # Panics
    /// When the batch is 2 GiB or larger.
    #[expect(clippy::expect_used, reason = "callers bound what they put into a batch")]
    pub fn build(self) -> Bytes {
        let body = if self.compression == Compression::None {
            self.records
        } else {
            BytesMut::from(self.compression.compress(&self.records).as_slice())
        };
        let mut batch = BytesMut::with_capacity(HEADER_BYTES + body.len());
        let length = HEADER_BYTES - LENGTH_PREFIX_BYTES + body.len();
        batch.put_i64(self.base_offset);
        batch.put_i32(i32::try_from(length).expect("a batch is smaller than 2 GiB"));
        batch.put_i32(self.leader_epoch);
        batch.put_i8(MAGIC_V2);
        batch.put_u32(0);
        batch.put_i16(self.attributes | self.compression.id());
        batch.put_i32(self.count - 1);
        batch.put_i64(self.base_timestamp);
        batch.put_i64(self.max_timestamp);
        batch.put_i64(self.producer.0);
        batch.put_i16(self.producer.1);
        batch.put_i32(self.producer.2);
        batch.put_i32(self.count);
        batch.extend_from_slice(&body);
        set_crc(&mut batch);
        batch.freeze()
    }
}

/// The key of a control record: a version of 0 and the type (`ControlRecordType`): abort 0,
/// commit 1, leader change 2, snapshot header 3, snapshot footer 4, KRaft version 5, voters 6.
pub fn control_key(control_type: i16) -> [u8; 4] {
    let [high, low] = control_type.to_be_bytes();
    [0, 0, high, low]
}

/// Computes the checksum again, after something that it covers was changed.
pub fn set_crc(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}
