//! Producers that send as fast as answers come, with several requests in flight each, or at a given rate.

use std::collections::VecDeque;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::{Broker, Limit, Shown, join, measure};
use crate::batch::{Compression, Values};
use crate::stats::Latencies;
use crate::topic::Topic;
use crate::wire::{Idempotence, ProduceFrame, Stream, check_produced, now_ms};

/// No request holds more: `max.request.size` of Kafka's producer.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Frames of one connection together hold about this much, so that the same bytes do not come again at once.
const POOL_BYTES: usize = 8 << 20;
/// The fields around a value in a batch.
const RECORD_OVERHEAD: usize = 9;

/// How it is produced.
#[derive(Clone, Copy, Debug)]
pub struct Produce {
    /// Producers, each with a connection of its own; every one writes to all partitions.
    pub connections: usize,
    /// The size of a value.
    pub value_bytes: usize,
    /// The size of a batch before compression.
    pub batch_bytes: usize,
    /// −1 is all.
    pub acks: i16,
    /// With a producer id and sequence numbers.
    pub idempotent: bool,
    /// Of the batches; done before the load begins.
    pub compression: Compression,
    /// How many requests of a connection may be unanswered: `max.in.flight.requests.per.connection`.
    pub in_flight: usize,
    /// Megabytes (10⁶) of values a second, of all connections together; none is as fast as it goes.
    pub rate_mb_s: Option<f64>,
}

impl Produce {
    /// As most producers are: batches of 64 KB, `acks=all`, idempotent.
    pub const USUAL: Self = Self {
        connections: 2,
        value_bytes: 1_024,
        batch_bytes: 65_536,
        acks: -1,
        idempotent: true,
        compression: Compression::None,
        in_flight: 5,
        rate_mb_s: None,
    };
}

/// One connection with its frames.
#[derive(Debug)]
pub struct Producer {
    stream: Stream,
    frames: Vec<ProduceFrame>,
    idempotence: Option<Idempotence>,
    value_bytes: u64,
    in_flight: usize,
    /// Seconds for a byte of values; none is as fast as it goes.
    pace: Option<f64>,
}

/// What producers have sent and got acknowledged.
#[derive(Debug, Default)]
pub struct Tally {
    /// Bytes of values.
    pub value_bytes: u64,
    /// Bytes of batches.
    pub batch_bytes: u64,
    /// Records.
    pub records: u64,
    /// Requests.
    pub requests: u64,
    /// From the request to its answer.
    pub ack: Latencies,
}

impl Tally {
    /// Adds that of another producer.
    pub fn add(&mut self, other: Self) {
        self.value_bytes += other.value_bytes;
        self.batch_bytes += other.batch_bytes;
        self.records += other.records;
        self.requests += other.requests;
        self.ack.append(other.ack);
    }
}

impl Produce {
    /// Connects the producers and encodes what they send, ahead of the measurement.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn prepare(&self, bootstrap: &str, topic: &Topic) -> io::Result<Vec<Producer>> {
        (0..self.connections).map(|number| self.producer(bootstrap, topic, number)).collect()
    }

    fn producer(&self, bootstrap: &str, topic: &Topic, number: usize) -> io::Result<Producer> {
        let records = (self.batch_bytes / (self.value_bytes + RECORD_OVERHEAD)).max(1);
        let mut values = Values::new(number as u64, self.value_bytes);
        let mut frames = Vec::new();
        let mut bytes = 0;
        // All partitions get the same share: whole turns only.
        while frames.is_empty() || bytes < POOL_BYTES / 2 {
            let mut batches = Vec::new();
            let mut request_bytes = 0;
            for partition in 0..topic.partitions {
                let batch = values.batch(records, self.compression, now_ms())?;
                if request_bytes + batch.len() > REQUEST_BYTES_MAX && !batches.is_empty() {
                    frames.push(ProduceFrame::new(topic.id, self.acks, &std::mem::take(&mut batches))?);
                    request_bytes = 0;
                }
                request_bytes += batch.len();
                bytes += batch.len();
                batches.push((partition, batch));
            }
            frames.push(ProduceFrame::new(topic.id, self.acks, &batches)?);
        }
        let idempotence =
            if self.idempotent { Some(Idempotence::new(bootstrap, topic.partitions)?) } else { None };
        Ok(Producer {
            stream: Stream::open(bootstrap)?,
            frames,
            idempotence,
            value_bytes: self.value_bytes as u64,
            in_flight: self.in_flight,
            pace: self.rate_mb_s.map(|rate| super::approximate(self.connections as u64) / (rate * 1e6)),
        })
    }

    /// Produces until the limit, and measures the broker meanwhile.
    ///
    /// # Errors
    /// When the broker refuses a batch, does not answer, or is gone.
    pub fn run(&self, broker: &Broker, topic: &Topic, limit: impl FnOnce() -> Limit) -> io::Result<Shown> {
        let producers = self.prepare(&broker.bootstrap, topic)?;
        measure(broker, || {
            let start = Instant::now();
            let tally = run(producers, &limit())?;
            Ok(tally.shown(start.elapsed()))
        })
    }
}

impl Tally {
    /// As the result of a load.
    #[must_use]
    pub fn shown(self, elapsed: Duration) -> Shown {
        Shown {
            seconds: elapsed.as_secs_f64(),
            value_bytes: self.value_bytes,
            batch_bytes: self.batch_bytes,
            records: self.records,
            requests: self.requests,
            ack: self.ack.percentiles(),
            ..Shown::default()
        }
    }
}

/// Lets the producers send until the limit; all that was sent is acknowledged then.
///
/// # Errors
/// When the broker refuses a batch or does not answer.
pub fn run(producers: Vec<Producer>, limit: &Limit) -> io::Result<Tally> {
    let tallies = thread::scope(|scope| {
        join(producers.into_iter().map(|mut producer| scope.spawn(move || producer.run(limit))).collect())
    })?;
    let mut sum = Tally::default();
    tallies.into_iter().for_each(|tally| sum.add(tally));
    Ok(sum)
}

impl Producer {
    fn run(&mut self, limit: &Limit) -> io::Result<Tally> {
        let mut tally = Tally::default();
        let mut waiting: VecDeque<Instant> = VecDeque::with_capacity(self.in_flight);
        let count = self.frames.len();
        let mut turn = 0;
        let mut correlation_id = 0_i32;
        let mut due = Instant::now();
        let mut open = true;
        while open || !waiting.is_empty() {
            while open && waiting.len() < self.in_flight {
                let frame = &mut self.frames[turn % count];
                turn += 1;
                let value_bytes = frame.records() * self.value_bytes;
                if !limit.take(value_bytes) {
                    open = false;
                    break;
                }
                if let Some(pace) = self.pace {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    due += Duration::from_secs_f64(pace * super::approximate(value_bytes));
                }
                tally.value_bytes += value_bytes;
                tally.batch_bytes += frame.batch_bytes();
                tally.records += frame.records();
                waiting.push_back(Instant::now());
                self.stream.send(frame.next(correlation_id, self.idempotence.as_mut()))?;
                correlation_id = correlation_id.wrapping_add(1);
                if self.pace.is_some() {
                    break;
                }
            }
            let Some(sent) = waiting.pop_front() else { continue };
            let (_, answer) = self.stream.receive()?;
            check_produced(answer)?;
            tally.ack.push(sent.elapsed());
            tally.requests += 1;
        }
        Ok(tally)
    }
}
