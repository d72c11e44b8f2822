//! A request before it is decoded, and a response after it is encoded.

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::future::BoxFuture;

use super::context::{Context, Disconnect};
use super::fetch::HeldBytes;
use super::throttle::throttle_at;
use super::{ApiEntry, api_versions, dispatch, entry, forward, incremental_alter_configs};
use crate::config::listener::ListenerKind;
use crate::protocol::guard;
use crate::protocol::header::{RequestHeader, encode_response_header, response_header_size};
use crate::protocol::messages::Response;

/// What a request is answered with: `None` where its client wants no response (Produce with acks=0).
pub(crate) type Running = BoxFuture<'static, Result<Option<Encoded>, Disconnect>>;

/// A request whose header is read and whose version we serve.
pub(crate) struct Request {
    pub(crate) header: RequestHeader,
    /// The API that is asked.
    pub(crate) api: &'static ApiEntry,
    /// The size of header and body.
    pub(crate) frame_bytes: usize,
    body: Bytes,
}

impl Request {
    /// Reads the header of a frame that came over a listener of this kind.
    ///
    /// # Errors
    /// Where the frame is too short, or of an API or a version that we do not serve: Kafka closes the connection.
    pub(crate) fn parse(mut frame: Bytes, listener: ListenerKind) -> Result<Self, Disconnect> {
        let frame_bytes = frame.len();
        let header =
            RequestHeader::decode(&mut frame).map_err(|error| Disconnect::Malformed(error.to_string()))?;
        let (key, version) = (header.api_key, header.api_version);
        let Some(api) = entry(key).filter(|api| listener.serves(api.listeners)) else {
            return Err(Disconnect::Malformed(format!("api key {key} is not served")));
        };
        // Only ApiVersions is answered in a version that we do not know, so that a newer client learns ours.
        if !api.serves(version) && key != api_versions::KEY {
            return Err(Disconnect::Malformed(format!("{} version {version} is not served", api.name)));
        }
        Ok(Self { header, api, frame_bytes, body: frame })
    }

    /// The size of what follows the header.
    pub(crate) fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// A request whose header was read elsewhere.
    ///
    /// # Errors
    /// Where its API or version is not served.
    pub(crate) fn of(header: RequestHeader, body: Bytes) -> Result<Self, Disconnect> {
        let (key, version) = (header.api_key, header.api_version);
        match entry(key).filter(|api| api.serves(version)) {
            Some(api) => Ok(Self { header, api, frame_bytes: body.len(), body }),
            None => Err(Disconnect::Malformed(format!("api key {key} version {version} is not served"))),
        }
    }

    /// Decodes the request and starts it. What a pipelined request does in order is done when this returns.
    ///
    /// # Errors
    /// Where the body can not be decoded.
    pub(crate) fn start(self, context: Context) -> Result<Running, Disconnect> {
        let (key, version) = (self.header.api_key, self.header.api_version);
        if !self.api.serves(version) {
            return api_versions::refuse(&self.header);
        }
        guard::check(key, version, &self.body).map_err(|error| Disconnect::Malformed(error.to_string()))?;
        if self.api.forwarded && forward::wanted(&context) {
            let own = key == incremental_alter_configs::KEY;
            if !(own && incremental_alter_configs::is_for_this_broker(version, &self.body)) {
                return Ok(forward::start(context, self.header, self.body));
            }
        }
        dispatch(context, self.header, self.body)
    }
}

/// A response as it goes over the wire, its length first.
#[derive(Debug)]
pub(crate) struct Encoded {
    head: Bytes,
    rest: Vec<Bytes>,
    held: Option<HeldBytes>,
    /// Where the throttle time stands, from the end, where it can not be found by API and version.
    throttle_behind: Option<usize>,
}

impl Encoded {
    /// Encodes a response to the request with this header.
    ///
    /// # Errors
    /// Where a field is set that the version has no place for, or the response is larger than a frame may be.
    pub(crate) fn response(header: &RequestHeader, response: &impl Response) -> Result<Self, Disconnect> {
        let (key, version) = (header.api_key, header.api_version);
        let failed = |reason: String| Disconnect::Unencodable(format!("api key {key}: {reason}"));
        let body_bytes = response.size(version).map_err(|error| failed(error.to_string()))?;
        let bytes = response_header_size(key, version) + body_bytes;
        let length = i32::try_from(bytes).map_err(|_| failed(format!("{bytes} bytes")))?;
        let mut head = BytesMut::with_capacity(bytes + 4);
        head.put_i32(length);
        encode_response_header(&mut head, key, version, header.correlation_id);
        response.encode(&mut head, version).map_err(|error| failed(error.to_string()))?;
        Ok(Self { head: head.freeze(), rest: Vec::new(), held: None, throttle_behind: None })
    }

    /// A response that is encoded already: its length, its header and its body, in pieces.
    pub(crate) fn from_pieces(pieces: Vec<Bytes>) -> Self {
        Self { head: Bytes::new(), rest: pieces, held: None, throttle_behind: None }
    }

    /// How many bytes it has.
    pub(super) fn bytes(&self) -> usize {
        self.head.len() + self.rest.iter().map(Bytes::len).sum::<usize>()
    }

    /// The response without its length.
    pub(crate) fn into_frame(self) -> Bytes {
        let mut frame = BytesMut::new();
        self.into_chunks().for_each(|chunk| frame.put(chunk));
        frame.freeze().slice(4..)
    }

    /// The same, which counts as held until it has left.
    pub(crate) fn holding(self, held: HeldBytes) -> Self {
        Self { held: Some(held), ..self }
    }

    /// The same, whose throttle time has this many bytes behind it.
    pub(super) fn with_throttle_behind(self, bytes: usize) -> Self {
        Self { throttle_behind: Some(bytes), ..self }
    }

    /// How long the response says that the client is held back, in milliseconds; `None` where it can not say it.
    pub(super) fn throttle_ms(&self, key: i16, version: i16) -> Option<i32> {
        let (place, at) = self.throttle_place(key, version)?;
        let bytes = self.chunk(place)?.get(at..at + 4)?;
        bytes.try_into().ok().map(i32::from_be_bytes)
    }

    /// Has the response say how long the client is held back; whether it can say it.
    pub(super) fn set_throttle_ms(&mut self, key: i16, version: i16, throttle_ms: i32) -> bool {
        let Some((place, at)) = self.throttle_place(key, version) else { return false };
        let chunk = if place == 0 { Some(&mut self.head) } else { self.rest.get_mut(place - 1) };
        let Some(chunk) = chunk.filter(|chunk| at + 4 <= chunk.len()) else { return false };
        let mut told = BytesMut::from(&chunk[..]);
        told[at..at + 4].copy_from_slice(&throttle_ms.to_be_bytes());
        *chunk = told.freeze();
        true
    }

    /// In which chunk the throttle time stands, and where in it.
    fn throttle_place(&self, key: i16, version: i16) -> Option<(usize, usize)> {
        if let Some(behind) = self.throttle_behind {
            return Some((0, self.head.len().checked_sub(behind + 4)?));
        }
        // The length is a chunk of its own where another node has answered.
        let place = usize::from(self.head.is_empty()) * (1 + usize::from(self.is_answer_of_another()));
        let length = if place == 2 { 0 } else { 4 };
        let at = throttle_at(key, version, self.chunk(place)?.get(length..)?)?;
        Some((place, at + length))
    }

    fn is_answer_of_another(&self) -> bool {
        self.rest.first().is_some_and(|length| length.len() == 4)
    }

    fn chunk(&self, place: usize) -> Option<&Bytes> {
        if place == 0 { Some(&self.head) } else { self.rest.get(place - 1) }
    }

    /// What has to be kept until the bytes have left.
    pub(crate) fn take_held(&mut self) -> Option<HeldBytes> {
        self.held.take()
    }

    /// The bytes, in order.
    pub(crate) fn into_chunks(self) -> impl Iterator<Item = Bytes> {
        std::iter::once(self.head).chain(self.rest)
    }
}
