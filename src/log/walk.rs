//! Goes through the records of a batch without keeping them: what a broker looks at when it
//! validates. Compressed records are read in small pieces, so that a batch that inflates to much
//! more than it weighs costs time within a bound, and no memory.

use std::io::{BufRead, Read};

use super::compression::{Compression, MAX_INFLATED_BYTES, reader};

/// What validation needs to know of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordFacts {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) has_key: bool,
}

/// Reads `count` records and nothing after them, and shows each to `visit`.
pub(super) fn walk(
    compression: Compression,
    body: &[u8],
    count: i32,
    mut visit: impl FnMut(i32, RecordFacts),
) -> Result<(), String> {
    if compression == Compression::None {
        let mut source = Slice { bytes: body, at: 0 };
        return walk_source(&mut source, count, &mut visit).map_err(str::to_owned);
    }
    let reader = reader(compression, body).map_err(|error| error.to_string())?;
    let mut source = Stream { reader, piece: vec![0; PIECE_BYTES], at: 0, end: 0, before: 0, error: None };
    let walked = walk_source(&mut source, count, &mut visit);
    // Also behind the last record: the compression's own end may be missing or wrong.
    match source.error {
        Some(error) => Err(error),
        None => walked.map_err(str::to_owned),
    }
}

/// Where a record's bytes come from.
trait Source {
    fn byte(&mut self) -> Option<u8>;
    fn skip(&mut self, count: usize) -> Option<()>;
    fn position(&self) -> usize;
}

const PIECE_BYTES: usize = 16 << 10;

struct Slice<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Source for Slice<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        let at = self.at.checked_add(count)?;
        if at > self.bytes.len() {
            return None;
        }
        self.at = at;
        Some(())
    }

    fn position(&self) -> usize {
        self.at
    }
}

struct Stream<'a> {
    reader: Box<dyn BufRead + 'a>,
    piece: Vec<u8>,
    at: usize,
    end: usize,
    /// The number of bytes before this piece.
    before: usize,
    /// Why the stream ended early.
    error: Option<String>,
}

impl Stream<'_> {
    fn refill(&mut self) -> Option<()> {
        self.before += self.end;
        (self.at, self.end) = (0, 0);
        if self.before > MAX_INFLATED_BYTES {
            self.error = Some(format!("the records are larger than {MAX_INFLATED_BYTES} bytes"));
            return None;
        }
        match self.reader.read(&mut self.piece) {
            Ok(0) => None,
            Ok(read) => {
                self.end = read;
                Some(())
            }
            Err(error) => {
                self.error = Some(format!("the records can not be decompressed: {error}"));
                None
            }
        }
    }
}

impl Source for Stream<'_> {
    fn byte(&mut self) -> Option<u8> {
        if self.at == self.end {
            self.refill()?;
        }
        let byte = self.piece[self.at];
        self.at += 1;
        Some(byte)
    }

    fn skip(&mut self, mut count: usize) -> Option<()> {
        while count > self.end - self.at {
            count -= self.end - self.at;
            self.at = self.end;
            self.refill()?;
        }
        self.at += count;
        Some(())
    }

    fn position(&self) -> usize {
        self.before + self.at
    }
}

fn varint<S: Source>(source: &mut S) -> Option<i32> {
    let mut raw = 0_u32;
    for shift in (0..35).step_by(7) {
        let byte = source.byte()?;
        raw |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed());
        }
    }
    None
}

fn varlong<S: Source>(source: &mut S) -> Option<i64> {
    let mut raw = 0_u64;
    for shift in (0..70).step_by(7) {
        let byte = source.byte()?;
        raw |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed());
        }
    }
    None
}

/// Skips bytes with their length in front; answers whether they are there (not null).
fn skip_bytes<S: Source>(source: &mut S) -> Option<bool> {
    let Ok(length) = usize::try_from(varint(source)?) else { return Some(false) };
    source.skip(length)?;
    Some(true)
}

const CUT: &str = "Incorrect declared batch size, premature EOF reached";

fn walk_source<S: Source>(
    source: &mut S,
    count: i32,
    visit: &mut impl FnMut(i32, RecordFacts),
) -> Result<(), &'static str> {
    for index in 0..count {
        let length = varint(source).ok_or(CUT)?;
        let length = usize::try_from(length).map_err(|_| "Invalid negative record size")?;
        let start = source.position();
        let facts = walk_record(source)?;
        if source.position() - start != length {
            return Err("Invalid record size: the record does not end where its size says");
        }
        visit(index, facts);
    }
    match source.byte() {
        None => Ok(()),
        Some(_) => Err("Incorrect declared batch size, records still remaining in file"),
    }
}

fn walk_record<S: Source>(source: &mut S) -> Result<RecordFacts, &'static str> {
    source.byte().ok_or(CUT)?;
    let timestamp_delta = varlong(source).ok_or(CUT)?;
    let offset_delta = varint(source).ok_or(CUT)?;
    let has_key = skip_bytes(source).ok_or(CUT)?;
    skip_bytes(source).ok_or(CUT)?;
    let headers = varint(source).ok_or(CUT)?;
    if headers < 0 {
        return Err("Found invalid number of record headers");
    }
    for _ in 0..headers {
        let has_name = skip_bytes(source).ok_or(CUT)?;
        if !has_name {
            return Err("Invalid negative header key size");
        }
        skip_bytes(source).ok_or(CUT)?;
    }
    Ok(RecordFacts { timestamp_delta, offset_delta, has_key })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::batch::{BatchBuilder, BatchView};

    #[test]
    fn every_compression_is_walked_like_none() {
        for compression in Compression::ALL {
            let mut builder = BatchBuilder::new().compression(compression);
            for i in 0..1_000_i64 {
                let key = (i % 3 == 0).then_some(b"key".as_slice());
                builder = builder.record_with_headers(5 + i, key, Some(&[7; 100]), &[("h", None)]);
            }
            let batch = BatchView::first(&builder.build()).expect("a batch");
            let mut seen = Vec::new();
            walk(compression, batch.body(), 1_000, |_, facts| seen.push(facts)).expect("valid");
            assert_eq!(seen.len(), 1_000, "{compression:?}");
            let last = RecordFacts { timestamp_delta: 999, offset_delta: 999, has_key: true };
            assert_eq!(seen.last(), Some(&last), "{compression:?}");
            for wrong in [999, 1_001] {
                assert!(walk(compression, batch.body(), wrong, |_, _| {}).is_err(), "{compression:?}");
            }
        }
    }

    #[test]
    fn a_bomb_is_given_up_at_the_bound() {
        // One record whose value is 300 MiB of zeros.
        let mut body = vec![0_u8; 300 << 20];
        let mut head = Vec::new();
        let value_bytes = (300_i64 << 20) - 64;
        crate::log::varint::put_i64(&mut head, value_bytes + 10);
        head.extend_from_slice(&[0, 0, 0, 1]);
        crate::log::varint::put_i64(&mut head, value_bytes);
        body[..head.len()].copy_from_slice(&head);
        let bomb = Compression::Zstd.compress(&body);
        let problem = walk(Compression::Zstd, &bomb, 1, |_, _| {}).expect_err("too large");
        assert!(problem.contains("larger than"), "{problem}");
    }
}
