//! The compressions of record batches: inflating within a bound, and deflating.

use std::io::{self, BufRead, BufReader, Cursor, Read, Write};

/// How many bytes the records of one batch may have when they are decompressed. Kafka sets no
/// bound; this is far above what fits a batch of the default size, and keeps a hostile one from
/// taking more time or memory than a large honest one.
pub const MAX_INFLATED_BYTES: usize = 256 << 20;

/// How the records of a batch are compressed (`CompressionType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    /// Every compression.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// Its number in a batch's attributes.
    pub fn id(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The compression with this number.
    pub fn from_id(id: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|compression| compression.id() == id)
    }

    /// The compression with this name in a configuration.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "uncompressed" | "none" => Self::None,
            "gzip" => Self::Gzip,
            "snappy" => Self::Snappy,
            "lz4" => Self::Lz4,
            "zstd" => Self::Zstd,
            _ => return None,
        })
    }

    /// Compresses records as Kafka's clients do.
    pub fn compress(self, records: &[u8]) -> Vec<u8> {
        self.compress_at(None, records)
    }

    /// Compresses records with a level of gzip or zstd; `None` is the library's own. The others have no levels here.
    pub(super) fn compress_at(self, level: Option<i32>, records: &[u8]) -> Vec<u8> {
        // Writing to memory does not fail; an empty result would be refused by every reader.
        self.try_compress(level, records).unwrap_or_default()
    }

    fn try_compress(self, level: Option<i32>, records: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(records.to_vec()),
            Self::Gzip => {
                let level = level.and_then(|level| u32::try_from(level).ok()).map(flate2::Compression::new);
                let level = level.unwrap_or_default();
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(records)?;
                encoder.finish()
            }
            Self::Snappy => xerial_compress(records),
            Self::Lz4 => {
                let info = lz4_flex::frame::FrameInfo::new()
                    .block_size(lz4_flex::frame::BlockSize::Max64KB)
                    .block_mode(lz4_flex::frame::BlockMode::Independent);
                let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
                encoder.write_all(records)?;
                encoder.finish().map_err(io::Error::other)
            }
            Self::Zstd => zstd::stream::encode_all(records, level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL)),
        }
    }
}

/// A reader of the decompressed records, which needs little memory however large they are.
pub(super) fn reader<'a>(compression: Compression, body: &'a [u8]) -> io::Result<Box<dyn BufRead + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(body),
        Compression::Gzip => Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(body))),
        Compression::Snappy => Box::new(snappy_reader(body)?),
        Compression::Lz4 => {
            check_lz4_end(body)?;
            Box::new(lz4_flex::frame::FrameDecoder::new(body))
        }
        Compression::Zstd => Box::new(BufReader::new(zstd::stream::read::Decoder::with_buffer(body)?)),
    })
}

/// A frame ends with a mark of four zero bytes, and a checksum if its header says so. The decoder
/// takes a frame without them, which Kafka and its clients do not.
fn check_lz4_end(body: &[u8]) -> io::Result<()> {
    const CONTENT_CHECKSUM: u8 = 1 << 2;
    let has_checksum = body.get(4).is_some_and(|flags| flags & CONTENT_CHECKSUM != 0);
    let frame = &body[..body.len().saturating_sub(if has_checksum { 4 } else { 0 })];
    if frame.ends_with(&[0; 4]) {
        return Ok(());
    }
    Err(io::Error::other("the frame has no end"))
}

/// Decompresses into memory, `limit` bytes at most.
///
/// # Errors
/// When the bytes are not of this compression, or are too many.
pub fn decompress(compression: Compression, body: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    reader(compression, body)?.take(bound).read_to_end(&mut out)?;
    if out.len() > limit {
        return Err(io::Error::other(format!("they are larger than {limit} bytes")));
    }
    Ok(out)
}

/// What snappy-java puts before its blocks: a magic, and two version numbers.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;
/// The block size of snappy-java.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;
/// A byte of snappy yields 32 bytes at most; what claims more is not snappy.
const SNAPPY_MAX_RATIO: usize = 64;

fn xerial_compress(records: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(XERIAL_HEADER_BYTES + records.len() / 2);
    out.extend_from_slice(XERIAL_MAGIC);
    out.extend_from_slice(&1_u32.to_be_bytes());
    out.extend_from_slice(&1_u32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in records.chunks(XERIAL_BLOCK_BYTES) {
        let block = encoder.compress_vec(block).map_err(io::Error::other)?;
        let length = u32::try_from(block.len()).map_err(io::Error::other)?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&block);
    }
    Ok(out)
}

/// snappy comes framed by snappy-java, or as one plain block from clients that do not frame.
fn snappy_reader(body: &[u8]) -> io::Result<BufReader<XerialReader<'_>>> {
    let mut reader = XerialReader { rest: body, block: Cursor::default() };
    if body.starts_with(XERIAL_MAGIC) && body.len() >= XERIAL_HEADER_BYTES {
        reader.rest = &body[XERIAL_HEADER_BYTES..];
    } else {
        reader.rest = &[];
        reader.block = Cursor::new(snappy_block(body)?);
    }
    Ok(BufReader::new(reader))
}

fn snappy_block(block: &[u8]) -> io::Result<Vec<u8>> {
    let claimed = snap::raw::decompress_len(block).map_err(io::Error::other)?;
    if claimed > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(io::Error::other("a block claims an impossible size"));
    }
    snap::raw::Decoder::new().decompress_vec(block).map_err(io::Error::other)
}

struct XerialReader<'a> {
    rest: &'a [u8],
    block: Cursor<Vec<u8>>,
}

impl Read for XerialReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.block.read(out)?;
            if read > 0 || out.is_empty() || self.rest.is_empty() {
                return Ok(read);
            }
            let (length, rest) =
                self.rest.split_first_chunk().ok_or_else(|| io::Error::other("a block has no length"))?;
            let length = usize::try_from(u32::from_be_bytes(*length)).map_err(io::Error::other)?;
            let (block, rest) = rest
                .split_at_checked(length)
                .ok_or_else(|| io::Error::other("a block is longer than the records"))?;
            self.rest = rest;
            self.block = Cursor::new(snappy_block(block)?);
        }
    }
}
