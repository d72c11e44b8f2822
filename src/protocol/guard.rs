//! What stands between the network and the decoders: nothing is decoded that is not whole.
//!
//! The decoders of the `kafka-protocol` crate believe the counts that they read and reserve memory for them, which
//! lets five bytes abort the process. So the guard walks a request first, by the table in `guard/shapes.rs`: every count
//! has to be followed by that many elements, every length by that many bytes, and the number of elements and of
//! unknown tags is bounded, because each of them costs memory beyond its bytes. What passes decodes into a small
//! multiple of the frame. Contents (record batches, opaque metadata) are skipped by their length, unseen.
//!
//! Bytes after the body are ignored, as Kafka does.

use bytes::Bytes;

mod shapes;
#[cfg(test)]
mod tests;

pub use shapes::API_KEYS;

/// How many array elements a request may have in all, numbers in arrays of numbers not counted. It bounds the memory
/// that empty elements cost (an empty name is one byte here and thirty when decoded) and is far above what a cluster
/// of Kafka's largest size can ask for.
pub const ELEMENTS_MAX: usize = 1_000_000;

/// How many tagged fields that are not in the table a request may have, beyond one in [`BYTES_PER_UNKNOWN_TAG`] bytes.
pub const UNKNOWN_TAGS_MAX: usize = 64;

/// See [`UNKNOWN_TAGS_MAX`]. An unknown tag takes three bytes at least, and a map of about 400 when decoded.
pub const BYTES_PER_UNKNOWN_TAG: usize = 16;

/// Why a request is refused. The connection is closed: there is no answer to a request that can not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("request {api_key} version {api_version}: {problem} at byte {at}")]
pub struct GuardError {
    /// The API.
    pub api_key: i16,
    /// The version.
    pub api_version: i16,
    /// Where in the body, in bytes.
    pub at: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No such API, or no such version of it.
    #[error("no such API or version")]
    Unsupported,
    /// A length or a count that the rest of the frame can not hold.
    #[error("a length beyond the end of the frame")]
    TooShort,
    /// A negative length.
    #[error("a negative length")]
    Negative,
    /// Null where it is not legal.
    #[error("null where a value has to be")]
    Null,
    /// A variable-length integer of more than five bytes.
    #[error("a variable-length integer of more than 32 bits")]
    Varint,
    /// A string longer than 32,767 bytes.
    #[error("a string longer than 32767 bytes")]
    StringTooLong,
    /// More than [`ELEMENTS_MAX`].
    #[error("too many array elements")]
    TooManyElements,
    /// More than [`UNKNOWN_TAGS_MAX`].
    #[error("too many unknown tagged fields")]
    TooManyTags,
    /// Neither 1 nor -1 before a struct that may be null.
    #[error("neither a struct nor null")]
    Presence,
    /// A tag that is not a positive i32.
    #[error("a tag of more than 31 bits")]
    Tag,
    /// A known tagged field is longer or shorter than its length says.
    #[error("a tagged field that does not fill its length")]
    TagSize,
}

/// The shape of a request.
#[derive(Debug)]
struct Shape {
    name: &'static str,
    versions: (i16, i16),
    flexible_since: i16,
    fields: &'static [Field],
}

/// A field: what it is, which versions have it, and its tag.
#[derive(Debug)]
struct Field {
    kind: Kind,
    versions: (i16, i16),
    tag: Option<u32>,
}

#[derive(Debug)]
enum Kind {
    /// That many bytes.
    Fixed(usize),
    String {
        nullable: bool,
    },
    Bytes {
        nullable: bool,
    },
    Array {
        nullable: bool,
        element: &'static Self,
    },
    Struct {
        nullable: bool,
        fields: &'static [Field],
    },
}

/// Whether a request can be decoded safely. `body` is what follows the request header.
pub fn check(api_key: i16, api_version: i16, body: &Bytes) -> Result<(), GuardError> {
    length(api_key, api_version, body).map(|_| ())
}

/// As [`check`], and how many bytes the body takes.
pub fn length(api_key: i16, api_version: i16, body: &[u8]) -> Result<usize, GuardError> {
    let refuse = |at, problem| GuardError { api_key, api_version, at, problem };
    let shape = shapes::shape(api_key).ok_or(refuse(0, Problem::Unsupported))?;
    if api_version < shape.versions.0 || shape.versions.1 < api_version {
        return Err(refuse(0, Problem::Unsupported));
    }
    let mut walker = Walker {
        body,
        at: 0,
        version: api_version,
        flexible: api_version >= shape.flexible_since,
        elements_left: ELEMENTS_MAX,
        unknown_tags_left: UNKNOWN_TAGS_MAX + body.len() / BYTES_PER_UNKNOWN_TAG,
    };
    match walker.fields(shape.fields) {
        Ok(()) => Ok(walker.at),
        Err(problem) => Err(refuse(walker.at, problem)),
    }
}

/// The name of an API, as Kafka spells it.
pub fn api_name(api_key: i16) -> Option<&'static str> {
    shapes::shape(api_key).map(|shape| shape.name)
}

/// The first and the last version of an API that have a shape.
pub fn versions(api_key: i16) -> Option<(i16, i16)> {
    shapes::shape(api_key).map(|shape| shape.versions)
}

/// Whether a version of an API is in the flexible form, or `None` if there is no such version.
pub fn is_flexible(api_key: i16, api_version: i16) -> Option<bool> {
    let shape = shapes::shape(api_key)?;
    let known = shape.versions.0 <= api_version && api_version <= shape.versions.1;
    known.then_some(api_version >= shape.flexible_since)
}

struct Walker<'a> {
    body: &'a [u8],
    at: usize,
    version: i16,
    flexible: bool,
    elements_left: usize,
    unknown_tags_left: usize,
}

impl Walker<'_> {
    fn remaining(&self) -> usize {
        self.body.len() - self.at
    }

    fn skip(&mut self, count: usize) -> Result<(), Problem> {
        if count > self.remaining() {
            return Err(Problem::TooShort);
        }
        self.at += count;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let bytes = self.body[self.at..].first_chunk().ok_or(Problem::TooShort)?;
        self.at += N;
        Ok(*bytes)
    }

    fn uvarint(&mut self) -> Result<u32, Problem> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Problem::Varint)
    }

    /// A length or a count: two bytes (`short`) or four in the classic form. `None` is null.
    fn length(&mut self, nullable: bool, short: bool) -> Result<Option<usize>, Problem> {
        let length = if self.flexible {
            i64::from(self.uvarint()?) - 1
        } else if short {
            i64::from(i16::from_be_bytes(self.array()?))
        } else {
            i64::from(i32::from_be_bytes(self.array()?))
        };
        match length {
            -1 if nullable => Ok(None),
            -1 => Err(Problem::Null),
            length => match usize::try_from(length) {
                Err(_) => Err(Problem::Negative),
                Ok(length) if length > self.remaining() => Err(Problem::TooShort),
                Ok(length) => Ok(Some(length)),
            },
        }
    }

    /// The fields of a struct and, in the flexible form, its tagged fields.
    fn fields(&mut self, fields: &'static [Field]) -> Result<(), Problem> {
        for field in fields {
            if field.tag.is_none() && self.has(field) {
                self.value(&field.kind)?;
            }
        }
        if self.flexible { self.tags(fields) } else { Ok(()) }
    }

    fn has(&self, field: &Field) -> bool {
        field.versions.0 <= self.version && self.version <= field.versions.1
    }

    fn value(&mut self, kind: &'static Kind) -> Result<(), Problem> {
        match kind {
            Kind::Fixed(size) => self.skip(*size),
            Kind::String { nullable } => {
                let length = self.length(*nullable, true)?.unwrap_or(0);
                if i16::try_from(length).is_err() {
                    return Err(Problem::StringTooLong);
                }
                self.skip(length)
            }
            Kind::Bytes { nullable } => {
                let length = self.length(*nullable, false)?.unwrap_or(0);
                self.skip(length)
            }
            Kind::Array { nullable, element } => {
                let count = self.length(*nullable, false)?.unwrap_or(0);
                self.elements(count, element)
            }
            Kind::Struct { nullable: false, fields } => self.fields(fields),
            Kind::Struct { nullable: true, fields } => {
                // The decoder takes everything but 1 for null, Kafka every negative byte: both have to agree.
                let [present] = self.array()?;
                match i8::from_be_bytes([present]) {
                    1 => self.fields(fields),
                    -1 => Ok(()),
                    _ => Err(Problem::Presence),
                }
            }
        }
    }

    fn elements(&mut self, count: usize, element: &'static Kind) -> Result<(), Problem> {
        if let Kind::Fixed(size) = element {
            return self.skip(count.checked_mul(*size).ok_or(Problem::TooShort)?);
        }
        self.elements_left = self.elements_left.checked_sub(count).ok_or(Problem::TooManyElements)?;
        for _ in 0..count {
            self.value(element)?;
        }
        Ok(())
    }

    fn tags(&mut self, fields: &'static [Field]) -> Result<(), Problem> {
        for _ in 0..self.uvarint()? {
            let tag = self.uvarint()?;
            if i32::try_from(tag).is_err() {
                return Err(Problem::Tag);
            }
            let size = usize::try_from(self.uvarint()?).map_err(|_| Problem::TooShort)?;
            if size > self.remaining() {
                return Err(Problem::TooShort);
            }
            let end = self.at + size;
            match fields.iter().find(|field| field.tag == Some(tag) && self.has(field)) {
                Some(field) => self.value(&field.kind)?,
                None => {
                    self.unknown_tags_left =
                        self.unknown_tags_left.checked_sub(1).ok_or(Problem::TooManyTags)?;
                    self.at = end;
                }
            }
            if self.at != end {
                return Err(Problem::TagSize);
            }
        }
        Ok(())
    }
}
