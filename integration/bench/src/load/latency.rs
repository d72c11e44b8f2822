//! Open loop: records are due at fixed times, whether or not the broker keeps up, and their way to a consumer is timed from
//! the time at which they were due. A producer without linger: what is due goes out at once, or as soon as one of its
//! requests in flight is answered.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use integration::wire::Connection;

use super::produce::{self, Produce};
use super::{Broker, Limit, Shown, ended, measure};
use crate::batch::{Compression, Values, first_value, front};
use crate::stats::Latencies;
use crate::topic::Topic;
use crate::wire::{FetchShape, Fetcher, Idempotence, PATIENCE, ProduceFrame, Stream, check_produced, now_ms};

/// `max.in.flight.requests.per.connection` of Kafka's producer.
const IN_FLIGHT: usize = 5;
/// What is due goes out in batches of at most so many records.
const BATCH_RECORDS_MAX: u64 = 2_048;
/// The beginning is not measured: connections, caches and the schedule settle.
const LEAD_IN: Duration = Duration::from_secs(1);

/// How records come.
#[derive(Clone, Debug)]
pub struct Latency {
    /// Records a second.
    pub rate: u32,
    /// The size of a value.
    pub value_bytes: usize,
    /// How long records are sent and measured, behind the [`LEAD_IN`].
    pub seconds: f64,
    /// Megabytes a second that others produce to another topic meanwhile.
    pub background_mb_s: Option<f64>,
}

/// When each record is due.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    start: Instant,
    rate: u32,
}

impl Schedule {
    fn due(&self, record: u64) -> Instant {
        self.start + Duration::from_nanos(record * 1_000_000_000 / u64::from(self.rate))
    }

    /// How many records are due by now.
    fn count(&self, now: Instant) -> u64 {
        let nanos = now.saturating_duration_since(self.start).as_nanos();
        u64::try_from(nanos * u128::from(self.rate) / 1_000_000_000).unwrap_or(u64::MAX) + 1
    }
}

impl Latency {
    /// Runs the schedule, and measures the broker meanwhile. The topic `background` is written to where there is a
    /// background load.
    ///
    /// # Errors
    /// When the broker refuses, does not answer, or is gone, or a record does not arrive.
    pub fn run(&self, broker: &Broker, topic: &Topic, background: Option<&Topic>) -> io::Result<Shown> {
        let mut connection = Connection::open(&broker.bootstrap)?;
        let fetcher = Fetcher::new(topic, FetchShape::default(), topic.wait(&mut connection)?);
        let stream = Stream::open(&broker.bootstrap)?;
        let sender = self.sender(&broker.bootstrap, topic)?;
        let others = match (background, self.background_mb_s) {
            (Some(topic), Some(rate)) => Produce { connections: 1, rate_mb_s: Some(rate), ..Produce::USUAL }
                .prepare(&broker.bootstrap, topic)?,
            _ => Vec::new(),
        };
        let whole = LEAD_IN + Duration::from_secs_f64(self.seconds);
        let limit = Limit::new(whole.as_secs_f64() + 2.0 * PATIENCE.as_secs_f64(), u64::MAX);
        measure(broker, || {
            thread::scope(|scope| {
                let others = (!others.is_empty()).then(|| scope.spawn(|| produce::run(others, &limit)));
                let shown = self.foreground(sender, fetcher, stream, whole, &limit);
                limit.stop();
                if let Some(others) = others {
                    others
                        .join()
                        .unwrap_or_else(|_| Err(io::Error::other("the background load has panicked")))?;
                }
                shown
            })
        })
    }

    fn foreground(
        &self,
        mut sender: SenderSide,
        mut fetcher: Fetcher,
        mut stream: Stream,
        whole: Duration,
        limit: &Limit,
    ) -> io::Result<Shown> {
        let goal = AtomicU64::new(u64::MAX);
        let in_flight = AtomicUsize::new(0);
        let schedule = Schedule { start: Instant::now(), rate: self.rate };
        let measured_from = u64::from(self.rate) * LEAD_IN.as_secs();
        let mut acks = sender.stream.second()?;
        thread::scope(|scope| {
            let (sent_at, sent) = channel();
            let consumer = scope.spawn(|| {
                let arrived = arrivals(&mut fetcher, &mut stream, schedule, measured_from, &goal, limit);
                // A producer whose consumer has failed need not go on.
                arrived.inspect_err(|_| limit.stop())
            });
            let (in_flight, sending) = (&in_flight, thread::current());
            let acknowledged = scope.spawn(move || {
                acknowledged(&mut acks, &sent, in_flight, &sending).inspect_err(|_| limit.stop())
            });
            let outcome = sender.run(schedule, whole, in_flight, sent_at, limit);
            if outcome.is_err() {
                limit.stop();
            }
            goal.store(outcome.as_ref().map_or(0, |outcome| outcome.records), Ordering::Release);
            let acks = ended(acknowledged.join());
            let arrived = ended(consumer.join());
            let (outcome, acks, end_to_end) = (outcome?, acks?, arrived?);
            Ok(Shown {
                seconds: whole.as_secs_f64(),
                value_bytes: outcome.records * self.value_bytes as u64,
                batch_bytes: outcome.batch_bytes,
                records: outcome.records,
                requests: outcome.requests,
                ack: acks.percentiles(),
                end_to_end: end_to_end.percentiles(),
                lag: outcome.lag.percentiles(),
                ..Shown::default()
            })
        })
    }

    /// Encodes batches of every size that is sent, for every partition, ahead of the measurement.
    fn sender(&self, bootstrap: &str, topic: &Topic) -> io::Result<SenderSide> {
        let mut values = Values::new(1, self.value_bytes);
        let mut frames = BTreeMap::new();
        let mut records = 1;
        while records <= BATCH_RECORDS_MAX {
            let of_partition = |partition| {
                let count = usize::try_from(records).map_err(io::Error::other)?;
                let batch = values.batch(count, Compression::None, now_ms())?;
                ProduceFrame::new(topic.id, -1, &[(partition, batch)])
            };
            frames.insert(records, (0..topic.partitions).map(of_partition).collect::<io::Result<_>>()?);
            records += if records < 32 { 1 } else { records };
        }
        Ok(SenderSide {
            stream: Stream::open(bootstrap)?,
            frames,
            idempotence: Idempotence::new(bootstrap, topic.partitions)?,
        })
    }
}

struct SenderSide {
    stream: Stream,
    /// By the count of records, then by partition.
    frames: BTreeMap<u64, Vec<ProduceFrame>>,
    idempotence: Idempotence,
}

#[derive(Default)]
struct Outcome {
    records: u64,
    batch_bytes: u64,
    requests: u64,
    lag: Latencies,
}

impl SenderSide {
    fn run(
        &mut self,
        schedule: Schedule,
        whole: Duration,
        in_flight: &AtomicUsize,
        sent_at: Sender<Instant>,
        limit: &Limit,
    ) -> io::Result<Outcome> {
        let mut outcome = Outcome::default();
        let total = schedule.count(schedule.start + whole);
        let mut turn = 0;
        while outcome.records < total {
            if limit.is_over() {
                return Err(io::Error::other("the records could not be sent in time"));
            }
            let now = Instant::now();
            let waiting = schedule.count(now).min(total).saturating_sub(outcome.records);
            if waiting == 0 {
                let due = schedule.due(outcome.records);
                thread::sleep(due.saturating_duration_since(now));
                outcome.lag.push(due.elapsed());
                continue;
            }
            if in_flight.load(Ordering::Acquire) >= IN_FLIGHT {
                thread::park_timeout(Duration::from_millis(1));
                continue;
            }
            let Some((records, frames)) = self.frames.range_mut(..=waiting).next_back() else { continue };
            let partition = turn % frames.len();
            turn += 1;
            let frame = &mut frames[partition];
            frame.mark(&outcome.records.to_be_bytes());
            in_flight.fetch_add(1, Ordering::AcqRel);
            if sent_at.send(Instant::now()).is_err() {
                return Err(io::Error::other("a batch was refused"));
            }
            let correlation_id = i32::try_from(outcome.requests % 0xffff).unwrap_or(0);
            outcome.requests += 1;
            outcome.records += *records;
            outcome.batch_bytes += frame.batch_bytes();
            self.stream.send(frame.next(correlation_id, Some(&mut self.idempotence)))?;
        }
        Ok(outcome)
    }
}

/// Receives the answers to what was sent.
fn acknowledged(
    stream: &mut Stream,
    sent: &Receiver<Instant>,
    in_flight: &AtomicUsize,
    sender: &Thread,
) -> io::Result<Latencies> {
    let mut latencies = Latencies::default();
    for sent in sent {
        let (_, answer) = stream.receive()?;
        check_produced(answer)?;
        latencies.push(sent.elapsed());
        if in_flight.fetch_sub(1, Ordering::AcqRel) >= IN_FLIGHT {
            sender.unpark();
        }
    }
    Ok(latencies)
}

/// Reads what arrives and times it; every batch says in its first value which record that is.
fn arrivals(
    fetcher: &mut Fetcher,
    stream: &mut Stream,
    schedule: Schedule,
    measured_from: u64,
    goal: &AtomicU64,
    limit: &Limit,
) -> io::Result<Latencies> {
    let mut latencies = Latencies::default();
    let mut arrived = 0;
    while arrived < goal.load(Ordering::Acquire) {
        if limit.is_over() {
            return Err(io::Error::other("not every record has arrived"));
        }
        stream.send(fetcher.request(0)?)?;
        let (_, answer) = stream.receive()?;
        let now = Instant::now();
        fetcher.answer(answer, |_, batch| {
            let records = front(batch).map_or(0, |seen| u64::from(seen.records.cast_unsigned()));
            arrived += records;
            let mark = first_value(batch).and_then(|value| batch[value].first_chunk().copied());
            let first = mark.map_or(0, u64::from_be_bytes);
            for record in first.max(measured_from)..first + records {
                latencies.push(now.saturating_duration_since(schedule.due(record)));
            }
        })?;
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_due_at_their_rate() {
        let schedule = Schedule { start: Instant::now(), rate: 20_000 };
        assert_eq!(schedule.due(40_000) - schedule.start, Duration::from_secs(2));
        assert_eq!(schedule.count(schedule.start), 1);
        assert_eq!(schedule.count(schedule.due(7)), 8);
        assert_eq!(schedule.count(schedule.due(7) + Duration::from_micros(49)), 8);
    }
}
