//! Kafka's zigzag variable-length numbers, as records use them.

use bytes::{Buf, BufMut, Bytes};

/// Takes a number of up to 32 bits off the front; `None` where there is none.
pub(super) fn take_i32(input: &mut Bytes) -> Option<i32> {
    let (value, used) = read_i32(input)?;
    input.advance(used);
    Some(value)
}

/// Takes a number of up to 64 bits off the front; `None` where there is none.
pub(super) fn take_i64(input: &mut Bytes) -> Option<i64> {
    let (value, used) = read_i64(input)?;
    input.advance(used);
    Some(value)
}

/// Takes bytes with their length in front; the inner `None` is null (any negative length), the
/// outer one means that they are not all there.
pub(super) fn take_bytes(input: &mut Bytes) -> Option<Option<Bytes>> {
    let length = take_i32(input)?;
    let Ok(length) = usize::try_from(length) else { return Some(None) };
    (length <= input.len()).then(|| Some(input.split_to(length)))
}

/// Reads a number of up to 32 bits and the number of its bytes.
pub(super) fn read_i32(input: &[u8]) -> Option<(i32, usize)> {
    let mut raw = 0_u32;
    for (index, byte) in input.iter().take(5).enumerate() {
        raw |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed(), index + 1));
        }
    }
    None
}

/// Reads a number of up to 64 bits and the number of its bytes.
pub(super) fn read_i64(input: &[u8]) -> Option<(i64, usize)> {
    let mut raw = 0_u64;
    for (index, byte) in input.iter().take(10).enumerate() {
        raw |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed(), index + 1));
        }
    }
    None
}

/// Writes a number.
pub(super) fn put_i64(out: &mut impl BufMut, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while raw >= 0x80 {
        out.put_u8(raw.to_le_bytes()[0] | 0x80);
        raw >>= 7;
    }
    out.put_u8(raw.to_le_bytes()[0]);
}

/// Writes a length.
pub(super) fn put_length(out: &mut impl BufMut, length: usize) {
    put_i64(out, i64::try_from(length).unwrap_or(i64::MAX));
}

/// Writes bytes with their length in front, or null.
pub(super) fn put_bytes(out: &mut impl BufMut, bytes: Option<&[u8]>) {
    match bytes {
        None => put_i64(out, -1),
        Some(bytes) => {
            put_length(out, bytes.len());
            out.put_slice(bytes);
        }
    }
}
