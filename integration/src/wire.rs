//! A Kafka connection that blocks: requests can be sent ahead of their answers.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable as _, Encodable as _, HeaderVersion as _, Request, StrBytes};

/// How long an answer may take, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection to a broker. Answers are received in the order of the requests.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    next: i32,
    awaited: VecDeque<i32>,
}

impl Connection {
    /// Connects to `HOST:PORT`.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn open(bootstrap: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(bootstrap)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, next: 0, awaited: VecDeque::new() })
    }

    /// The same within a time, in which each answer must come too.
    ///
    /// # Errors
    /// When nobody listens there, or the other side is silent.
    pub fn open_within(address: &str, connect: Duration, answer: Duration) -> io::Result<Self> {
        let address = address.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("no address"))?;
        let stream = TcpStream::connect_timeout(&address, connect)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(answer))?;
        stream.set_write_timeout(Some(answer))?;
        Ok(Self { stream, next: 0, awaited: VecDeque::new() })
    }

    /// Sends a request without waiting for its answer.
    ///
    /// # Errors
    /// When the connection has ended, or the version has no such field as was set.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> io::Result<()> {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.next)
            .with_client_id(Some(StrBytes::from_static_str("integration")));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        header.encode(&mut frame, R::header_version(version)).map_err(io::Error::other)?;
        request.encode(&mut frame, version).map_err(io::Error::other)?;
        let length = i32::try_from(frame.len() - 4).map_err(io::Error::other)?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame)?;
        self.awaited.push_back(self.next);
        self.next = self.next.wrapping_add(1);
        Ok(())
    }

    /// Receives the answer to the oldest request that has none.
    ///
    /// # Errors
    /// When the connection has ended, or the answer is not one.
    pub fn receive<R: Request>(&mut self, version: i16) -> io::Result<R::Response> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length)).map_err(io::Error::other)?;
        let mut frame = vec![0; length];
        self.stream.read_exact(&mut frame)?;
        let mut frame = Bytes::from(frame);
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version))
            .map_err(io::Error::other)?;
        if self.awaited.pop_front() != Some(header.correlation_id) {
            return Err(io::Error::other("an answer out of order"));
        }
        let response = R::Response::decode(&mut frame, version).map_err(io::Error::other)?;
        if frame.has_remaining() {
            return Err(io::Error::other("bytes behind an answer"));
        }
        Ok(response)
    }

    /// Sends a request and waits for its answer; nothing else may be on its way.
    ///
    /// # Errors
    /// As those of [`Self::send`] and [`Self::receive`].
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> io::Result<R::Response> {
        self.send(version, request)?;
        self.receive::<R>(version)
    }
}
