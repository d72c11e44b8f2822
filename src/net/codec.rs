//! Frames: a length of four bytes, then that many bytes.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio_util::codec::Decoder;

/// Room is made for at most this much of a frame before its bytes arrive, so that a length alone costs a client four
/// bytes and us not much more.
const RESERVE_BYTES_MAX: usize = 1024 * 1024;

/// After a frame larger than this the read buffer is given up: an idle connection must not keep what its largest
/// request needed.
const KEPT_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// What arrives on a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Inbound {
    /// The length of the frame that comes next. Whoever reads may wait for memory before reading on.
    Announced(usize),
    /// One whole frame, without its length.
    Frame(Bytes),
}

/// Why a connection can not be read any further.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("a frame of {0} bytes, expected 1 to {1}")]
    Length(i32, usize),
}

/// Cuts the byte stream of a client into frames (`NetworkReceive`).
#[derive(Debug)]
pub(super) struct FrameCodec {
    frame_bytes_max: usize,
    announced: Option<usize>,
}

impl FrameCodec {
    /// `frame_bytes_max` is `socket.request.max.bytes`.
    pub(super) fn new(frame_bytes_max: usize) -> Self {
        Self { frame_bytes_max, announced: None }
    }

    fn read_length(&mut self, source: &mut BytesMut) -> Result<Option<Inbound>, FrameError> {
        if source.len() < 4 {
            return Ok(None);
        }
        let length = source.get_i32();
        match usize::try_from(length) {
            Ok(bytes) if bytes > 0 && bytes <= self.frame_bytes_max => {
                self.announced = Some(bytes);
                Ok(Some(Inbound::Announced(bytes)))
            }
            _ => Err(FrameError::Length(length, self.frame_bytes_max)),
        }
    }
}

impl Decoder for FrameCodec {
    type Item = Inbound;
    type Error = FrameError;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Inbound>, FrameError> {
        let Some(length) = self.announced else { return self.read_length(source) };
        if source.len() < length {
            // Grows with what has arrived, not with what was promised.
            let ahead = source.len().max(RESERVE_BYTES_MAX);
            source.reserve((length - source.len()).min(ahead));
            return Ok(None);
        }
        self.announced = None;
        let frame = source.split_to(length).freeze();
        if length > KEPT_BUFFER_BYTES_MAX {
            *source = BytesMut::from(&source[..]);
        }
        Ok(Some(Inbound::Frame(frame)))
    }

    /// The end of the stream inside a frame is an ordinary end: whoever closed does not wait for an answer.
    fn decode_eof(&mut self, source: &mut BytesMut) -> Result<Option<Inbound>, FrameError> {
        let item = self.decode(source)?;
        if item.is_none() {
            source.clear();
        }
        Ok(item)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test")]

    use super::*;

    #[test]
    fn frames_are_cut_wherever_the_stream_is_split() {
        let stream = b"\0\0\0\x03abc\0\0\0\x01d";
        for cut in 0..stream.len() {
            let mut codec = FrameCodec::new(100);
            let mut frames = Vec::new();
            let mut source = BytesMut::new();
            for part in [&stream[..cut], &stream[cut..]] {
                source.extend_from_slice(part);
                while let Some(item) = codec.decode(&mut source).unwrap() {
                    if let Inbound::Frame(frame) = item {
                        frames.push(frame);
                    }
                }
            }
            assert_eq!(frames, [&b"abc"[..], b"d"]);
        }
    }

    #[test]
    fn lengths_out_of_bounds_are_refused() {
        for length in [0, -1, i32::MIN, 101] {
            let mut source = BytesMut::from(&length.to_be_bytes()[..]);
            assert!(
                matches!(FrameCodec::new(100).decode(&mut source), Err(FrameError::Length(..))),
                "{length}"
            );
        }
    }

    #[test]
    fn a_length_alone_reserves_little() {
        let mut codec = FrameCodec::new(100 << 20);
        let mut source = BytesMut::from(&(100_i32 << 20).to_be_bytes()[..]);
        assert_eq!(codec.decode(&mut source).unwrap(), Some(Inbound::Announced(100 << 20)));
        assert_eq!(codec.decode(&mut source).unwrap(), None);
        assert!(source.capacity() <= 2 * RESERVE_BYTES_MAX, "{}", source.capacity());
    }

    #[test]
    fn a_large_frame_does_not_leave_a_large_buffer() {
        let mut codec = FrameCodec::new(100 << 20);
        let mut source = BytesMut::from(&(1_i32 << 20).to_be_bytes()[..]);
        source.resize(4 + (1 << 20), 7);
        source.extend_from_slice(b"\0\0");
        codec.decode(&mut source).unwrap();
        assert!(matches!(codec.decode(&mut source).unwrap(), Some(Inbound::Frame(_))));
        assert_eq!(&source[..], b"\0\0");
        assert!(source.capacity() < 1024);
    }
}
