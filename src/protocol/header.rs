//! Request and response headers.
//!
//! The first eight bytes of a request are the same in every version, so they are read before anything is known about
//! the rest: also a request that is refused is refused with its correlation id.

use bytes::{BufMut, Bytes, BytesMut};

use super::guard::is_flexible;
use super::wire::{DecodeError, Field, Form, read_uvarint, take};

/// ApiVersions has rules of its own: its response header never has tags, and its request is read in any version,
/// so that a client of the future learns what is there (KIP-511).
pub const API_VERSIONS: i16 = 18;

/// What stands before the body of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API.
    pub api_key: i16,
    /// Its version.
    pub api_version: i16,
    /// What the response repeats.
    pub correlation_id: i32,
    /// The name that the client gives itself. Bytes that are not UTF-8 are replaced, as Kafka does.
    pub client_id: Option<String>,
}

/// Why a frame has no readable header. The connection is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The frame is too short for any header.
    #[error("a frame of {0} bytes, too short for a request header")]
    TooShort(usize),
    /// Kafka has no such API, or no such version of it.
    #[error("request {correlation_id} for the unknown API {api_key} version {api_version}")]
    Unsupported {
        /// The API.
        api_key: i16,
        /// The version.
        api_version: i16,
        /// The correlation id.
        correlation_id: i32,
    },
    /// The client id or the tagged fields are broken.
    #[error("the header of a request for API {api_key} version {api_version}: {error}")]
    Malformed {
        /// The API.
        api_key: i16,
        /// The version.
        api_version: i16,
        /// What is wrong.
        error: DecodeError,
    },
}

impl RequestHeader {
    /// Takes the header off the front of a frame; the body stays. Whether this broker serves the API and the version is
    /// not its question: every API of the guard's table has a header, and so has ApiVersions in any version.
    pub fn decode(frame: &mut Bytes) -> Result<Self, HeaderError> {
        let Some(&[k0, k1, v0, v1, c0, c1, c2, c3]) = frame.first_chunk() else {
            return Err(HeaderError::TooShort(frame.len()));
        };
        let (api_key, api_version) = (i16::from_be_bytes([k0, k1]), i16::from_be_bytes([v0, v1]));
        let correlation_id = i32::from_be_bytes([c0, c1, c2, c3]);
        let flexible = match is_flexible(api_key, api_version) {
            Some(flexible) => flexible,
            None if api_key == API_VERSIONS => true,
            None => return Err(HeaderError::Unsupported { api_key, api_version, correlation_id }),
        };
        let mut rest = frame.slice(8..);
        let client_id = read_rest(&mut rest, flexible).map_err(|error| HeaderError::Malformed {
            api_key,
            api_version,
            error,
        })?;
        *frame = rest;
        Ok(Self { api_key, api_version, correlation_id, client_id })
    }
}

/// The client id, which is in the classic form even where the header is flexible, and the tags, which are dropped.
fn read_rest(buf: &mut Bytes, flexible: bool) -> Result<Option<String>, DecodeError> {
    let length = i16::read(buf, Form { version: 1, flexible: false })?;
    let client_id = match usize::try_from(length) {
        Ok(length) => Some(String::from_utf8_lossy(&take(buf, length)?).into_owned()),
        Err(_) if length == -1 => None,
        Err(_) => return Err(DecodeError::NegativeLength(length.into())),
    };
    if flexible {
        skip_tags(buf)?;
    }
    Ok(client_id)
}

fn skip_tags(buf: &mut Bytes) -> Result<(), DecodeError> {
    for _ in 0..read_uvarint(buf)? {
        read_uvarint(buf)?;
        let size = read_uvarint(buf)?;
        take(buf, usize::try_from(size).unwrap_or(usize::MAX))?;
    }
    Ok(())
}

/// Whether the header of a response ends with (empty) tagged fields.
fn response_is_flexible(api_key: i16, api_version: i16) -> bool {
    api_key != API_VERSIONS && is_flexible(api_key, api_version) == Some(true)
}

/// The length of a response header, in bytes.
pub fn response_header_size(api_key: i16, api_version: i16) -> usize {
    if response_is_flexible(api_key, api_version) { 5 } else { 4 }
}

/// Appends the header of a response to the request with this key, version and correlation id.
pub fn encode_response_header(buf: &mut BytesMut, api_key: i16, api_version: i16, correlation_id: i32) {
    buf.put_i32(correlation_id);
    if response_is_flexible(api_key, api_version) {
        buf.put_u8(0);
    }
}

/// Appends the header of a request.
pub fn encode_request_header(
    buf: &mut BytesMut,
    api_key: i16,
    api_version: i16,
    correlation_id: i32,
    client_id: &str,
) {
    buf.put_i16(api_key);
    buf.put_i16(api_version);
    buf.put_i32(correlation_id);
    let name = client_id.get(..client_id.floor_char_boundary(255)).unwrap_or_default();
    buf.put_i16(i16::try_from(name.len()).unwrap_or(0));
    buf.put_slice(name.as_bytes());
    if is_flexible(api_key, api_version) == Some(true) {
        buf.put_u8(0);
    }
}

/// Takes the header off the front of a response to a request with this key and version; gives the correlation id.
pub fn decode_response_header(frame: &mut Bytes, api_key: i16, api_version: i16) -> Result<i32, DecodeError> {
    let correlation_id = i32::read(frame, Form { version: 1, flexible: false })?;
    if response_is_flexible(api_key, api_version) {
        skip_tags(frame)?;
    }
    Ok(correlation_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &'static [u8]) -> Result<(RequestHeader, Bytes), HeaderError> {
        let mut frame = Bytes::from_static(bytes);
        RequestHeader::decode(&mut frame).map(|header| (header, frame))
    }

    fn header(api_key: i16, api_version: i16, client_id: Option<&str>) -> RequestHeader {
        RequestHeader { api_key, api_version, correlation_id: 7, client_id: client_id.map(str::to_owned) }
    }

    #[test]
    fn the_classic_header_ends_with_the_client_id() {
        let want = (header(3, 1, Some("me")), Bytes::from_static(b"body"));
        assert_eq!(decode(b"\0\x03\0\x01\0\0\0\x07\0\x02mebody"), Ok(want));
        assert_eq!(decode(b"\0\x03\0\x01\0\0\0\x07\xff\xff"), Ok((header(3, 1, None), Bytes::new())));
    }

    #[test]
    fn the_flexible_header_ends_with_tags() {
        let want = (header(3, 9, Some("")), Bytes::from_static(b"body"));
        assert_eq!(decode(b"\0\x03\0\x09\0\0\0\x07\0\0\x02\x00\x01x\x05\0body"), Ok(want));
    }

    #[test]
    fn every_version_of_api_versions_is_read() {
        assert_eq!(decode(b"\0\x12\0\x63\0\0\0\x07\xff\xff\0"), Ok((header(18, 99, None), Bytes::new())));
        assert_eq!(decode(b"\0\x12\xff\xff\0\0\0\x07\xff\xff\0"), Ok((header(18, -1, None), Bytes::new())));
    }

    #[test]
    fn a_broken_header_is_an_error_and_no_panic() {
        assert_eq!(decode(b"\0\x03\0"), Err(HeaderError::TooShort(3)));
        let unknown = HeaderError::Unsupported { api_key: 200, api_version: 0, correlation_id: 7 };
        assert_eq!(decode(b"\0\xc8\0\0\0\0\0\x07\0\0"), Err(unknown));
        let whole = b"\0\x03\0\x09\0\0\0\x07\0\x01a\x02\x00\x01x\x05\0";
        for end in 0..whole.len() {
            assert!(RequestHeader::decode(&mut Bytes::copy_from_slice(&whole[..end])).is_err());
        }
        assert!(decode(b"\0\x03\0\x01\0\0\0\x07\xff\xfe").is_err());
    }

    #[test]
    fn what_is_written_for_another_node_is_what_is_read_here() {
        for (key, version) in [(3, 1), (3, 9), (18, 4), (1, 18)] {
            let mut buf = BytesMut::new();
            encode_request_header(&mut buf, key, version, 7, "me");
            buf.put_slice(b"body");
            let mut frame = buf.freeze();
            let read = RequestHeader::decode(&mut frame).expect("a header");
            assert_eq!(read, RequestHeader { api_version: version, ..header(key, 1, Some("me")) });
            assert_eq!(frame, "body");
            let mut buf = BytesMut::new();
            encode_response_header(&mut buf, key, version, 7);
            buf.put_slice(b"body");
            let mut frame = buf.freeze();
            assert_eq!(decode_response_header(&mut frame, key, version), Ok(7));
            assert_eq!(frame, "body");
        }
    }

    #[test]
    fn the_response_header_of_api_versions_never_has_tags() {
        let mut buf = BytesMut::new();
        encode_response_header(&mut buf, 18, 4, 5);
        encode_response_header(&mut buf, 3, 9, 6);
        encode_response_header(&mut buf, 3, 8, 7);
        assert_eq!(buf[..], [0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 0, 7]);
        assert_eq!(response_header_size(3, 9), 5);
    }
}
