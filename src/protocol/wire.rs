//! How the primitive types look on the wire, in the classic and in the flexible (KIP-482) form.
//!
//! Decoding reads from [`Bytes`], so that byte fields are slices of the frame. Every count and length is held against
//! the bytes that remain before anything is allocated.

use bytes::{Buf, Bytes, BytesMut};
use uuid::Uuid;

/// Why bytes are not the message that they claim to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A field reaches beyond the end.
    #[error("expected {expected} more bytes, found {remaining}")]
    Truncated {
        /// How many bytes the field takes.
        expected: usize,
        /// How many there are.
        remaining: usize,
    },
    /// An array claims more elements than there are bytes.
    #[error("an array of {count} elements in {remaining} bytes")]
    Count {
        /// The claim.
        count: usize,
        /// How many bytes there are.
        remaining: usize,
    },
    /// A length or a count below -1.
    #[error("a negative length: {0}")]
    NegativeLength(i64),
    /// Null where a value has to be.
    #[error("null where a value has to be")]
    Null,
    /// A named field is null in a version in which it may not be.
    #[error("null in {message}.{field} at version {version}")]
    NullField {
        /// The struct.
        message: &'static str,
        /// The field.
        field: &'static str,
        /// The version that was asked for.
        version: i16,
    },
    /// A string that is not UTF-8.
    #[error("a string that is not UTF-8")]
    NotUtf8,
    /// A variable-length integer of more than five bytes.
    #[error("a variable-length integer of more than 32 bits")]
    VarintTooLong,
    /// A tagged field has a different size from the one it claims.
    #[error("tagged field {tag} leaves {remaining} bytes")]
    TagSize {
        /// The tag.
        tag: u32,
        /// What its decoder left.
        remaining: usize,
    },
    /// The message has no such version.
    #[error("no version {version} of {message}")]
    Version {
        /// The message.
        message: &'static str,
        /// The version that was asked for.
        version: i16,
    },
}

/// Why a message can not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The field has a value that matters, and the version has no place for it.
    #[error("{message}.{field} is set, which version {version} can not carry")]
    UnsupportedField {
        /// The struct.
        message: &'static str,
        /// The field.
        field: &'static str,
        /// The version that was asked for.
        version: i16,
    },
    /// A named field is null in a version in which it may not be.
    #[error("null in {message}.{field} at version {version}")]
    NullField {
        /// The struct.
        message: &'static str,
        /// The field.
        field: &'static str,
        /// The version that was asked for.
        version: i16,
    },
    /// A string, array or byte field is longer than its length field can say.
    #[error("a length of {0} does not fit")]
    TooLong(usize),
    /// The message has no such version.
    #[error("no version {version} of {message}")]
    Version {
        /// The message.
        message: &'static str,
        /// The version that was asked for.
        version: i16,
    },
}

/// The form in which a message is written: nested structs take it from the message around them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// The version of the message or record.
    pub version: i16,
    /// Compact lengths and tagged fields (KIP-482).
    pub flexible: bool,
}

/// Where encoded bytes go: a buffer, or a counter.
pub trait Sink {
    /// Takes the next bytes.
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for BytesMut {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// A sink that only counts, in bytes.
#[derive(Debug, Default)]
pub struct Size(pub usize);

impl Sink for Size {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

/// A type that can be a field.
pub trait Field: Sized {
    /// Reads one value from the front of `buf`.
    fn read(buf: &mut Bytes, form: Form) -> Result<Self, DecodeError>;
    /// Writes the value.
    fn write(&self, sink: &mut dyn Sink, form: Form) -> Result<(), EncodeError>;
    /// The default where the declaration gives none, as Kafka has it: zero or empty, also for a nullable type.
    fn initial() -> Self;
    /// Whether this is the null of a nullable type.
    fn is_null(&self) -> bool {
        false
    }
}

/// A type that has a null form on the wire: `Option` of it is a [`Field`] too.
pub trait Nullable: Sized {
    /// Reads a value or null.
    fn read_nullable(buf: &mut Bytes, form: Form) -> Result<Option<Self>, DecodeError>;
    /// Writes a value, or null for `None`.
    fn write_nullable(value: Option<&Self>, sink: &mut dyn Sink, form: Form) -> Result<(), EncodeError>;
}

/// Takes `count` bytes off the front, as a slice of the same memory.
pub fn take(buf: &mut Bytes, count: usize) -> Result<Bytes, DecodeError> {
    need(buf, count)?;
    Ok(buf.split_to(count))
}

fn need(buf: &Bytes, expected: usize) -> Result<(), DecodeError> {
    let remaining = buf.remaining();
    if remaining < expected { Err(DecodeError::Truncated { expected, remaining }) } else { Ok(()) }
}

/// Reads an unsigned variable-length integer of at most 32 bits.
pub fn read_uvarint(buf: &mut Bytes) -> Result<u32, DecodeError> {
    let mut value = 0u32;
    for shift in [0, 7, 14, 21, 28] {
        need(buf, 1)?;
        let byte = buf.get_u8();
        // Kafka lets the bits above the 32nd fall off the fifth byte, and so does a shift here.
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(DecodeError::VarintTooLong)
}

/// Writes an unsigned variable-length integer.
pub fn write_uvarint(mut value: u32, sink: &mut dyn Sink) {
    while value >= 0x80 {
        sink.put(&[value.to_le_bytes()[0] | 0x80]);
        value >>= 7;
    }
    sink.put(&[value.to_le_bytes()[0]]);
}

/// Reads a length that stands in two bytes (strings) or four (arrays, bytes) in the classic form.
fn read_length(buf: &mut Bytes, form: Form, short: bool) -> Result<Option<usize>, DecodeError> {
    let length = if form.flexible {
        i64::from(read_uvarint(buf)?) - 1
    } else if short {
        i64::from(i16::read(buf, form)?)
    } else {
        i64::from(i32::read(buf, form)?)
    };
    match length {
        -1 => Ok(None),
        length => usize::try_from(length).map(Some).map_err(|_| DecodeError::NegativeLength(length)),
    }
}

fn write_length(
    length: Option<usize>,
    sink: &mut dyn Sink,
    form: Form,
    short: bool,
) -> Result<(), EncodeError> {
    let too_long = || EncodeError::TooLong(length.unwrap_or_default());
    if form.flexible {
        let next = length.map_or(Some(0), |length| u32::try_from(length).ok()?.checked_add(1));
        write_uvarint(next.ok_or_else(too_long)?, sink);
    } else if short {
        let length = length.map_or(Ok(-1), i16::try_from).map_err(|_| too_long())?;
        sink.put(&length.to_be_bytes());
    } else {
        let length = length.map_or(Ok(-1), i32::try_from).map_err(|_| too_long())?;
        sink.put(&length.to_be_bytes());
    }
    Ok(())
}

macro_rules! numbers {
    ($($type:ty, $get:ident);* $(;)?) => {$(
        impl Field for $type {
            fn read(buf: &mut Bytes, _: Form) -> Result<Self, DecodeError> {
                need(buf, size_of::<Self>())?;
                Ok(buf.$get())
            }
            fn write(&self, sink: &mut dyn Sink, _: Form) -> Result<(), EncodeError> {
                sink.put(&self.to_be_bytes());
                Ok(())
            }
            fn initial() -> Self {
                Self::default()
            }
        }
    )*};
}

numbers! {
    i8, get_i8;
    i16, get_i16;
    u16, get_u16;
    i32, get_i32;
    u32, get_u32;
    i64, get_i64;
    f64, get_f64;
}

impl Field for bool {
    fn read(buf: &mut Bytes, form: Form) -> Result<Self, DecodeError> {
        Ok(i8::read(buf, form)? != 0)
    }
    fn write(&self, sink: &mut dyn Sink, _: Form) -> Result<(), EncodeError> {
        sink.put(&[u8::from(*self)]);
        Ok(())
    }
    fn initial() -> Self {
        false
    }
}

impl Field for Uuid {
    fn read(buf: &mut Bytes, _: Form) -> Result<Self, DecodeError> {
        need(buf, 16)?;
        Ok(Self::from_u128(buf.get_u128()))
    }
    fn write(&self, sink: &mut dyn Sink, _: Form) -> Result<(), EncodeError> {
        sink.put(self.as_bytes());
        Ok(())
    }
    fn initial() -> Self {
        Self::nil()
    }
}

impl Nullable for String {
    fn read_nullable(buf: &mut Bytes, form: Form) -> Result<Option<Self>, DecodeError> {
        let Some(length) = read_length(buf, form, true)? else { return Ok(None) };
        let bytes = take(buf, length)?;
        let text = str::from_utf8(&bytes).map_err(|_| DecodeError::NotUtf8)?;
        Ok(Some(text.to_owned()))
    }
    fn write_nullable(value: Option<&Self>, sink: &mut dyn Sink, form: Form) -> Result<(), EncodeError> {
        // A string may not be longer than 32,767 bytes in either form.
        let length = value.map(Self::len);
        if length.is_some_and(|length| i16::try_from(length).is_err()) {
            return Err(EncodeError::TooLong(length.unwrap_or_default()));
        }
        write_length(length, sink, form, true)?;
        sink.put(value.map_or(&[], |text| text.as_bytes()));
        Ok(())
    }
}

impl Nullable for Bytes {
    fn read_nullable(buf: &mut Bytes, form: Form) -> Result<Option<Self>, DecodeError> {
        read_length(buf, form, false)?.map(|length| take(buf, length)).transpose()
    }
    fn write_nullable(value: Option<&Self>, sink: &mut dyn Sink, form: Form) -> Result<(), EncodeError> {
        write_length(value.map(Self::len), sink, form, false)?;
        sink.put(value.map_or(&[], |bytes| bytes));
        Ok(())
    }
}

impl<T: Field> Nullable for Vec<T> {
    fn read_nullable(buf: &mut Bytes, form: Form) -> Result<Option<Self>, DecodeError> {
        let Some(count) = read_length(buf, form, false)? else { return Ok(None) };
        let remaining = buf.remaining();
        if count > remaining {
            return Err(DecodeError::Count { count, remaining });
        }
        // What is reserved at once takes no more memory than the message itself; the rest grows with what is read.
        let mut elements = Self::with_capacity(count.min(remaining / size_of::<T>().max(1) + 1));
        for _ in 0..count {
            elements.push(T::read(buf, form)?);
        }
        Ok(Some(elements))
    }
    fn write_nullable(value: Option<&Self>, sink: &mut dyn Sink, form: Form) -> Result<(), EncodeError> {
        write_length(value.map(Self::len), sink, form, false)?;
        value.into_iter().flatten().try_for_each(|element| element.write(sink, form))
    }
}

macro_rules! never_null {
    ($([$($generics:tt)*] $type:ty),*) => {$(
        impl<$($generics)*> Field for $type {
            fn read(buf: &mut Bytes, form: Form) -> Result<Self, DecodeError> {
                Self::read_nullable(buf, form)?.ok_or(DecodeError::Null)
            }
            fn write(&self, sink: &mut dyn Sink, form: Form) -> Result<(), EncodeError> {
                Self::write_nullable(Some(self), sink, form)
            }
            fn initial() -> Self {
                Self::new()
            }
        }
    )*};
}

never_null!([] String, [] Bytes, [T: Field] Vec<T>);

impl<T: Nullable + Field> Field for Option<T> {
    fn read(buf: &mut Bytes, form: Form) -> Result<Self, DecodeError> {
        T::read_nullable(buf, form)
    }
    fn write(&self, sink: &mut dyn Sink, form: Form) -> Result<(), EncodeError> {
        T::write_nullable(self.as_ref(), sink, form)
    }
    fn initial() -> Self {
        Some(T::initial())
    }
    fn is_null(&self) -> bool {
        self.is_none()
    }
}
