//! Responses on their way out.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::time::Instant;

use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWrite;

use crate::api::{ApiEntry, Encoded, HeldBytes};
use crate::metrics::{Metrics, RequestTimes};

/// Chunks given to one write: the largest that every operating system takes is 1024, and the gain ends long before.
const CHUNKS_PER_WRITE_MAX: usize = 64;

/// A request that is answered, and where its time went so far.
pub(super) struct Measured {
    pub(super) api: &'static ApiEntry,
    pub(super) version: i16,
    pub(super) times: RequestTimes,
}

impl Measured {
    /// Counts the request.
    pub(super) fn observe(&self, metrics: &Metrics) {
        metrics.request(self.api.key, self.api.name, self.api.max).observe(self.version, &self.times);
    }
}

/// A response of which not every byte is written.
struct Leaving {
    measured: Measured,
    /// What it counts for, until it has left.
    _held: Option<HeldBytes>,
    /// Its first byte and the one behind its last, counted over all responses.
    start: u64,
    end: u64,
    pushed: Instant,
    /// When the write began that took its first byte.
    begun: Option<Instant>,
}

/// Encoded responses that wait to be written. Several small ones leave in one system call.
#[derive(Default)]
pub(super) struct Outbox {
    chunks: VecDeque<Bytes>,
    leaving: VecDeque<Leaving>,
    /// Bytes of all responses that were ever put in here, and of those that left.
    pushed: u64,
    written: u64,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> u64 {
        self.pushed - self.written
    }

    /// Puts a response behind those that wait.
    pub(super) fn push(&mut self, mut response: Encoded, measured: Measured) {
        let held = response.take_held();
        let start = self.pushed;
        for chunk in response.into_chunks() {
            if !chunk.is_empty() {
                self.pushed += chunk.len() as u64;
                self.chunks.push_back(chunk);
            }
        }
        self.leaving.push_back(Leaving {
            measured,
            _held: held,
            start,
            end: self.pushed,
            pushed: Instant::now(),
            begun: None,
        });
    }

    /// Writes as much as the socket takes at once, and counts the requests whose responses have left. Safe to cancel:
    /// bytes are forgotten only when they are written.
    pub(super) async fn write(
        &mut self,
        writer: &mut (impl AsyncWrite + Unpin),
        metrics: &Metrics,
    ) -> io::Result<()> {
        let mut began = Instant::now();
        let written = std::future::poll_fn(|task| {
            let mut slices = [IoSlice::new(&[]); CHUNKS_PER_WRITE_MAX];
            let mut count = 0;
            for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
                *slice = IoSlice::new(chunk);
                count += 1;
            }
            began = Instant::now();
            Pin::new(&mut *writer).poll_write_vectored(task, &slices[..count])
        })
        .await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.advance(written);
        self.observe(began, metrics);
        Ok(())
    }

    fn advance(&mut self, mut written: usize) {
        self.written += written as u64;
        while let Some(first) = self.chunks.front_mut() {
            if written < first.len() {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.chunks.pop_front();
        }
    }

    /// Looks at the responses that the write which began then took bytes of.
    fn observe(&mut self, began: Instant, metrics: &Metrics) {
        while let Some(first) = self.leaving.front_mut() {
            if self.written <= first.start {
                return;
            }
            let begun = *first.begun.get_or_insert(began);
            if self.written < first.end {
                return;
            }
            first.measured.times.response_queue = begun.saturating_duration_since(first.pushed);
            first.measured.times.response_send = begun.elapsed();
            first.measured.observe(metrics);
            self.leaving.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::advertised;

    fn measured() -> Measured {
        Measured { api: &advertised()[0], version: 9, times: RequestTimes::default() }
    }

    #[tokio::test]
    async fn a_request_is_counted_when_its_last_byte_has_left() {
        let metrics = Metrics::new();
        let count = || metrics.render().contains("requests_total{request=\"Produce\",version=\"9\"} 1");
        let mut outbox = Outbox::default();
        outbox.push(
            Encoded::from_pieces(vec![Bytes::from_static(b"head"), Bytes::from_static(b"tail")]),
            measured(),
        );
        outbox.push(Encoded::from_pieces(vec![Bytes::from_static(b"next")]), measured());
        let (mut ours, mut theirs) = tokio::io::duplex(6);
        outbox.write(&mut ours, &metrics).await.expect("there is room");
        assert!(!count());
        let mut read = [0; 2];
        tokio::io::AsyncReadExt::read_exact(&mut theirs, &mut read).await.expect("they are there");
        outbox.write(&mut ours, &metrics).await.expect("there is room");
        assert!(count());
    }
}
