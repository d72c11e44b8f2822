//! A request before it is decoded, and a response after it is encoded.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use kafka_protocol::protocol::{Encodable, StrBytes};

use super::context::{Context, Disconnect};
use super::{ApiEntry, api_versions, dispatch, entry};

/// The first version of every request header that has tagged fields.
const FLEXIBLE_HEADER: i16 = 2;

/// What a request is answered with: `None` where its client wants no response (Produce with acks=0).
pub(crate) type Running = BoxFuture<'static, Result<Option<Encoded>, Disconnect>>;

/// The header of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestHeader {
    pub(crate) key: i16,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: Option<StrBytes>,
}

/// A request whose header is read and whose version we serve.
pub(crate) struct Request {
    pub(crate) header: RequestHeader,
    api: &'static ApiEntry,
    body: Bytes,
}

impl Request {
    /// Reads the header of a frame.
    ///
    /// # Errors
    /// Where the frame is too short, or of an API or a version that we do not serve: Kafka closes the connection.
    pub(crate) fn parse(mut frame: Bytes) -> Result<Self, Disconnect> {
        if frame.remaining() < 8 {
            return Err(Disconnect::Malformed(format!("a frame of {} bytes is no request", frame.len())));
        }
        let (key, version, correlation_id) = (frame.get_i16(), frame.get_i16(), frame.get_i32());
        let Some(api) = entry(key) else {
            return Err(Disconnect::Malformed(format!("unknown api key {key}")));
        };
        // Only ApiVersions is answered in a version that we do not know, so that a newer client learns ours.
        if !api.serves(version) && key != api_versions::KEY {
            return Err(Disconnect::Malformed(format!("{} version {version} is not supported", api.name)));
        }
        let header_version =
            if api.serves(version) { api.request_header_version(version) } else { FLEXIBLE_HEADER };
        let client_id = read_client_id(&mut frame)?;
        if header_version >= FLEXIBLE_HEADER {
            skip_tagged_fields(&mut frame)?;
        }
        let header = RequestHeader { key, version, correlation_id, client_id };
        Ok(Self { header, api, body: frame })
    }

    /// Whether it may start while the ones before it still run.
    pub(crate) fn is_pipelined(&self) -> bool {
        self.api.pipelined
    }

    /// Decodes the request and starts it. What a pipelined request does in order is done when this returns.
    ///
    /// # Errors
    /// Where the body can not be decoded.
    pub(crate) fn start(self, context: Context) -> Result<Running, Disconnect> {
        if !self.api.serves(self.header.version) {
            return api_versions::refuse(&self.header);
        }
        dispatch(context, self.header, self.body)
    }
}

/// `INT16` length, -1 for null, then UTF-8; like Java, bytes that are not UTF-8 are replaced.
fn read_client_id(frame: &mut Bytes) -> Result<Option<StrBytes>, Disconnect> {
    let too_short = || Disconnect::Malformed("a request header is cut off".to_owned());
    let length = frame.try_get_i16().map_err(|_| too_short())?;
    let Ok(length) = usize::try_from(length) else { return Ok(None) };
    if frame.len() < length {
        return Err(too_short());
    }
    let bytes = frame.split_to(length);
    Ok(Some(match StrBytes::from_utf8(bytes.clone()) {
        Ok(text) => text,
        Err(_) => StrBytes::from_string(String::from_utf8_lossy(&bytes).into_owned()),
    }))
}

/// No tagged field of a request header is known.
fn skip_tagged_fields(frame: &mut Bytes) -> Result<(), Disconnect> {
    for _ in 0..read_uvarint(frame)? {
        read_uvarint(frame)?;
        let size = read_uvarint(frame)? as usize;
        if frame.len() < size {
            return Err(Disconnect::Malformed("a tagged field is cut off".to_owned()));
        }
        frame.advance(size);
    }
    Ok(())
}

fn read_uvarint(frame: &mut Bytes) -> Result<u32, Disconnect> {
    let mut value = 0;
    for shift in [0, 7, 14, 21, 28] {
        let byte = frame.try_get_u8().map_err(|error| Disconnect::Malformed(error.to_string()))?;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Disconnect::Malformed("a variable-length number is too long".to_owned()))
}

/// A response as it goes over the wire, its length first.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    head: Bytes,
    rest: Vec<Bytes>,
}

impl Encoded {
    /// Encodes `response`; `flexible` says whether the response header has tagged fields.
    ///
    /// # Errors
    /// Where a field is set that the version has no place for, or the response is larger than a frame may be.
    pub(crate) fn response(
        header: &RequestHeader,
        flexible: bool,
        response: &impl Encodable,
    ) -> Result<Self, Disconnect> {
        let failed = |reason: String| Disconnect::Unencodable(format!("api key {}: {reason}", header.key));
        let body_bytes = response.compute_size(header.version).map_err(|error| failed(error.to_string()))?;
        let bytes = body_bytes + 4 + usize::from(flexible);
        let length = i32::try_from(bytes).map_err(|_| failed(format!("{bytes} bytes")))?;
        let mut head = BytesMut::with_capacity(bytes + 4);
        head.put_i32(length);
        head.put_i32(header.correlation_id);
        if flexible {
            head.put_u8(0);
        }
        response.encode(&mut head, header.version).map_err(|error| failed(error.to_string()))?;
        Ok(Self { head: head.freeze(), rest: Vec::new() })
    }

    /// The bytes, in order.
    pub(crate) fn into_chunks(self) -> impl Iterator<Item = Bytes> {
        std::iter::once(self.head).chain(self.rest)
    }
}
