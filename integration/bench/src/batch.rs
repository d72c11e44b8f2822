//! Record batches that are encoded once and sent many times: of each use only the header changes.

use std::io::{self, Write as _};
use std::ops::Range;

use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// The fixed part of a batch (message format v2); the records follow.
pub const HEADER_BYTES: usize = 61;
/// The CRC covers what is behind it.
const CRC: usize = 17;
const CRC_COVERS: usize = 21;
const PRODUCER_ID: usize = 43;
const PRODUCER_EPOCH: usize = 51;
const BASE_SEQUENCE: usize = 53;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compression {
    fn attributes(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    fn apply(self, records: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(records),
            Self::Lz4 => {
                // As Kafka's clients: blocks of 64 KB that stand alone.
                let frame = lz4_flex::frame::FrameInfo::new()
                    .block_size(lz4_flex::frame::BlockSize::Max64KB)
                    .block_mode(lz4_flex::frame::BlockMode::Independent);
                let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, Vec::new());
                encoder.write_all(&records)?;
                encoder.finish().map_err(io::Error::other)
            }
            Self::Zstd => zstd::encode_all(&records[..], 3),
        }
    }
}

/// Values that compress as events do, to about half by LZ4: words and numbers, others in every value.
#[derive(Debug)]
pub struct Values {
    random: StdRng,
    bytes: usize,
}

const WORDS: [&str; 16] = [
    "customer",
    "order",
    "shipped",
    "amount",
    "currency",
    "EUR",
    "warehouse",
    "status",
    "pending",
    "region",
    "north",
    "created",
    "updated",
    "reference",
    "article",
    "quantity",
];

impl Values {
    /// Values of this size; the same seed gives the same values.
    #[must_use]
    pub fn new(seed: u64, bytes: usize) -> Self {
        Self { random: StdRng::seed_from_u64(seed), bytes }
    }

    fn next(&mut self) -> Vec<u8> {
        let mut value = Vec::with_capacity(self.bytes + 32);
        while value.len() < self.bytes {
            let word = WORDS[self.random.random_range(0..WORDS.len())];
            value.extend_from_slice(format!("\"{word}\":\"{:x}\",", self.random.random::<u32>()).as_bytes());
        }
        value.truncate(self.bytes);
        value
    }

    /// Encodes a batch of so many records without keys, stamped with this time (milliseconds since 1970).
    ///
    /// # Errors
    /// When the compression fails, or the batch is larger than a batch can be.
    pub fn batch(&mut self, records: usize, compression: Compression, timestamp: i64) -> io::Result<Vec<u8>> {
        let mut body = Vec::with_capacity(records * (self.bytes + 16));
        for delta in 0..records {
            let value = self.next();
            record(&mut body, delta, &value)?;
        }
        assemble(records, &compression.apply(body)?, compression, timestamp)
    }
}

fn record(body: &mut Vec<u8>, offset_delta: usize, value: &[u8]) -> io::Result<()> {
    let mut fields = vec![0];
    varint(&mut fields, 0);
    varint(&mut fields, int(offset_delta)?);
    varint(&mut fields, -1);
    varint(&mut fields, int(value.len())?);
    // Then the value and the count of headers.
    varint(body, int(fields.len() + value.len() + 1)?);
    body.extend_from_slice(&fields);
    body.extend_from_slice(value);
    varint(body, 0);
    Ok(())
}

fn assemble(records: usize, body: &[u8], compression: Compression, timestamp: i64) -> io::Result<Vec<u8>> {
    let count: i32 = int(records)?;
    let mut batch = Vec::with_capacity(HEADER_BYTES + body.len());
    batch.extend_from_slice(&0_i64.to_be_bytes());
    batch.extend_from_slice(&int(HEADER_BYTES - 12 + body.len())?.to_be_bytes());
    batch.extend_from_slice(&(-1_i32).to_be_bytes());
    batch.push(2);
    batch.extend_from_slice(&[0; 4]);
    batch.extend_from_slice(&compression.attributes().to_be_bytes());
    batch.extend_from_slice(&(count - 1).to_be_bytes());
    batch.extend_from_slice(&timestamp.to_be_bytes());
    batch.extend_from_slice(&timestamp.to_be_bytes());
    batch.extend_from_slice(&(-1_i64).to_be_bytes());
    batch.extend_from_slice(&(-1_i16).to_be_bytes());
    batch.extend_from_slice(&(-1_i32).to_be_bytes());
    batch.extend_from_slice(&count.to_be_bytes());
    batch.extend_from_slice(body);
    let crc = crc32c::crc32c(&batch[CRC_COVERS..]);
    batch[CRC..CRC_COVERS].copy_from_slice(&crc.to_be_bytes());
    Ok(batch)
}

/// A length or count of the wire format.
///
/// # Errors
/// When it does not fit.
pub fn int(value: usize) -> io::Result<i32> {
    i32::try_from(value).map_err(io::Error::other)
}

/// Kafka's zigzag varint.
fn varint(buffer: &mut Vec<u8>, value: i32) {
    unsigned_varint(buffer, ((value << 1) ^ (value >> 31)).cast_unsigned());
}

/// Kafka's unsigned varint, which compact lengths are written in.
pub fn unsigned_varint(buffer: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        buffer.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    buffer.push(u8::try_from(value).unwrap_or(0));
}

/// Whose batch it is: what an idempotent producer writes into the header.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// The producer id.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The number of the first record in its partition.
    pub sequence: i32,
}

/// Stamps one batch again and again without going through its records: the CRC of the records never changes, and what a
/// changed header in front of them does to the CRC of the whole is linear.
#[derive(Debug)]
pub struct Stamper {
    records_crc: u32,
    /// What each bit of the header's CRC becomes behind the length of the records.
    shifted: [u32; 32],
}

impl Stamper {
    /// For this batch.
    #[must_use]
    pub fn new(batch: &[u8]) -> Self {
        let records = &batch[HEADER_BYTES..];
        let shifted = std::array::from_fn(|bit| crc32c::crc32c_combine(1 << bit, 0, records.len()));
        Self { records_crc: crc32c::crc32c(records), shifted }
    }

    /// Writes the stamp and the CRC that belongs to it.
    pub fn stamp(&self, batch: &mut [u8], stamp: Stamp) {
        batch[PRODUCER_ID..PRODUCER_EPOCH].copy_from_slice(&stamp.producer_id.to_be_bytes());
        batch[PRODUCER_EPOCH..BASE_SEQUENCE].copy_from_slice(&stamp.epoch.to_be_bytes());
        batch[BASE_SEQUENCE..BASE_SEQUENCE + 4].copy_from_slice(&stamp.sequence.to_be_bytes());
        let header = crc32c::crc32c(&batch[CRC_COVERS..HEADER_BYTES]);
        let crc = (0..32)
            .filter(|bit| header >> bit & 1 == 1)
            .fold(self.records_crc, |crc, bit: usize| crc ^ self.shifted[bit]);
        batch[CRC..CRC_COVERS].copy_from_slice(&crc.to_be_bytes());
    }
}

/// The sequence number behind so many records: after the largest comes 0.
#[must_use]
pub fn sequence_after(sequence: i32, records: i32) -> i32 {
    sequence.wrapping_add(records) & i32::MAX
}

/// What the header of a batch says, of the batches as a broker returns them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The offset behind its last record.
    pub next_offset: i64,
    /// How many records it holds.
    pub records: i32,
    /// How many bytes it takes.
    pub bytes: usize,
}

/// Reads the batch at the front; none where it is cut off, as the last of an answer may be.
#[must_use]
pub fn front(records: &[u8]) -> Option<Seen> {
    let header = records.get(..HEADER_BYTES)?;
    let base_offset = i64::from_be_bytes(header[..8].try_into().ok()?);
    let bytes = 12 + usize::try_from(i32::from_be_bytes(header[8..12].try_into().ok()?)).ok()?;
    let last_delta = i32::from_be_bytes(header[23..27].try_into().ok()?);
    let count = i32::from_be_bytes(header[57..61].try_into().ok()?);
    (records.len() >= bytes).then_some(Seen {
        next_offset: base_offset + i64::from(last_delta) + 1,
        records: count,
        bytes,
    })
}

/// Where the value of the first record of an uncompressed batch stands, for a mark to be written into and read from.
#[must_use]
pub fn first_value(batch: &[u8]) -> Option<Range<usize>> {
    let mut at = HEADER_BYTES;
    let mut next = || {
        let mut value = 0_u64;
        for shift in (0..35).step_by(7) {
            let byte = *batch.get(at)?;
            at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    };
    next()?;
    // The attributes are one byte below 128, so they read as a varint does; then time and offset deltas, no key.
    for _ in 0..4 {
        next()?;
    }
    let length = usize::try_from(next()? >> 1).ok()?;
    (batch.len() >= at + length).then_some(at..at + length)
}

/// Writes the CRC of a batch whose records were changed.
pub fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[CRC_COVERS..]);
    batch[CRC..CRC_COVERS].copy_from_slice(&crc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::records::{Compression as Codec, RecordBatchDecoder};

    use super::*;

    fn decode(batch: &[u8], compression: Compression) -> Vec<kafka_protocol::records::Record> {
        let mut wire = Bytes::copy_from_slice(batch);
        let set = RecordBatchDecoder::decode_with_custom_compression(
            &mut wire,
            Some(|compressed: &mut Bytes, codec: Codec| {
                Ok(match (codec, compression) {
                    (Codec::None, Compression::None) => compressed.clone(),
                    (Codec::Lz4, Compression::Lz4) => {
                        let mut plain = Vec::new();
                        io::copy(&mut lz4_flex::frame::FrameDecoder::new(&compressed[..]), &mut plain)?;
                        plain.into()
                    }
                    (Codec::Zstd, Compression::Zstd) => zstd::decode_all(&compressed[..])?.into(),
                    (codec, _) => panic!("encoded as {codec:?}, wanted {compression:?}"),
                })
            }),
        );
        set.expect("a batch that kafka-protocol accepts, CRC included").records
    }

    #[test]
    fn batches_hold_what_was_put_in() {
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let batch = Values::new(1, 1_000).batch(200, compression, 1_234).expect("a batch");
            let records = decode(&batch, compression);
            assert_eq!(records.len(), 200);
            let mut values = Values::new(1, 1_000);
            for (at, record) in records.iter().enumerate() {
                assert_eq!(record.value.as_deref(), Some(&values.next()[..]));
                assert_eq!(record.offset, i64::try_from(at).expect("a small number"));
                assert_eq!(record.timestamp, 1_234);
                assert!(record.key.is_none() && record.headers.is_empty());
            }
        }
    }

    #[test]
    fn values_compress_to_about_half() {
        let plain = Values::new(3, 1_024).batch(64, Compression::None, 0).expect("a batch").len();
        let lz4 = Values::new(3, 1_024).batch(64, Compression::Lz4, 0).expect("a batch").len();
        let zstd = Values::new(3, 1_024).batch(64, Compression::Zstd, 0).expect("a batch").len();
        assert!(plain * 4 / 10 < lz4 && lz4 < plain * 8 / 10, "{lz4} of {plain}");
        assert!(plain * 2 / 10 < zstd && zstd < lz4, "{zstd} of {plain}");
    }

    #[test]
    fn a_stamped_batch_has_the_right_crc_and_producer() {
        for compression in [Compression::None, Compression::Lz4] {
            for records in [1, 7, 300] {
                let mut batch = Values::new(2, 99).batch(records, compression, 5).expect("a batch");
                let stamper = Stamper::new(&batch);
                for sequence in [0, 1, 77, i32::MAX] {
                    let stamp = Stamp { producer_id: 4_711_000_000_007, epoch: 3, sequence };
                    stamper.stamp(&mut batch, stamp);
                    let decoded = decode(&batch, compression);
                    assert_eq!(decoded.len(), records);
                    assert_eq!(decoded[0].producer_id, stamp.producer_id);
                    assert_eq!(decoded[0].producer_epoch, stamp.epoch);
                    assert_eq!(decoded[0].sequence, sequence);
                }
            }
        }
    }

    #[test]
    fn sequences_wrap_as_kafka_counts() {
        assert_eq!(sequence_after(0, 10), 10);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 3), 1);
    }

    #[test]
    fn a_marked_value_is_sealed_and_found_again() {
        let mut batch = Values::new(4, 100).batch(130, Compression::None, 0).expect("a batch");
        let place = first_value(&batch).expect("a value");
        assert_eq!(place.len(), 100);
        batch[place.start..place.start + 8].copy_from_slice(b"12345678");
        seal(&mut batch);
        let records = decode(&batch, Compression::None);
        assert!(records[0].value.as_deref().is_some_and(|value| value.starts_with(b"12345678")));
    }

    #[test]
    fn the_front_batch_is_read_only_where_it_is_whole() {
        let batch = Values::new(5, 10).batch(3, Compression::None, 0).expect("a batch");
        assert_eq!(front(&batch), Some(Seen { next_offset: 3, records: 3, bytes: batch.len() }));
        assert_eq!(front(&batch[..batch.len() - 1]), None);
        assert_eq!(front(&batch[..30]), None);
    }
}
