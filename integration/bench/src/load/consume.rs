//! Consumers that read all partitions and throw the records away.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use integration::wire::Connection;

use super::produce::{self, Produce};
use super::{Broker, Limit, Shown, join, measure};
use crate::batch::front;
use crate::topic::Topic;
use crate::wire::{FetchShape, Fetcher, Stream};

/// How long consumers at the tail may take altogether.
const PATIENCE_SECONDS: f64 = 90.0;

/// What consumers have read.
#[derive(Clone, Copy, Debug, Default)]
struct Read {
    records: u64,
    batch_bytes: u64,
    requests: u64,
}

impl Read {
    fn add(&mut self, other: Self) {
        self.records += other.records;
        self.batch_bytes += other.batch_bytes;
        self.requests += other.requests;
    }
}

/// Reads until a consumer has this many records, or the time is over.
fn read(stream: &mut Stream, fetcher: &mut Fetcher, goal: &AtomicU64, limit: &Limit) -> io::Result<Read> {
    let mut sum = Read::default();
    while sum.records < goal.load(Ordering::Acquire) && !limit.is_over() {
        let request = fetcher.request(i32::try_from(sum.requests % 0xffff).unwrap_or(0))?;
        stream.send(request)?;
        let (_, answer) = stream.receive()?;
        sum.requests += 1;
        fetcher.answer(answer, |_, batch| {
            sum.batch_bytes += batch.len() as u64;
            sum.records += front(batch).map_or(0, |seen| u64::from(seen.records.cast_unsigned()));
        })?;
    }
    Ok(sum)
}

/// Reads a topic from its start to its end, by so many consumers that each read all of it.
///
/// # Errors
/// When the broker refuses, does not answer, is gone, or the time is over before everything is read.
pub fn drain(
    broker: &Broker,
    topic: &Topic,
    value_bytes: usize,
    consumers: usize,
    limit: impl FnOnce() -> Limit,
) -> io::Result<Shown> {
    let mut connection = Connection::open(&broker.bootstrap)?;
    let ends = topic.wait(&mut connection)?;
    let starts = vec![0; ends.len()];
    let records: i64 = ends.iter().sum();
    let goal = AtomicU64::new(u64::try_from(records).unwrap_or(0));
    let shown = measure(broker, || {
        let limit = limit();
        let start = Instant::now();
        let reads = thread::scope(|scope| {
            let read_all = || {
                let mut stream = Stream::open(&broker.bootstrap)?;
                read(
                    &mut stream,
                    &mut Fetcher::new(topic, FetchShape::default(), starts.clone()),
                    &goal,
                    &limit,
                )
            };
            join((0..consumers).map(|_| scope.spawn(read_all)).collect())
        })?;
        Ok(shown(&reads, value_bytes, start))
    })?;
    if shown.records < goal.into_inner() * consumers as u64 {
        return Err(io::Error::other(format!("only {} records were read in time", shown.records)));
    }
    Ok(shown)
}

/// Consumers at the tail of what is produced meanwhile. The figures are those of the consumers' bytes; the broker's CPU
/// is that of both sides.
///
/// # Errors
/// When the broker refuses, does not answer, is gone, or a consumer does not get what was acknowledged.
pub fn tail(
    broker: &Broker,
    topic: &Topic,
    produce: &Produce,
    consumers: usize,
    limit: impl FnOnce() -> Limit,
) -> io::Result<Shown> {
    let mut connection = Connection::open(&broker.bootstrap)?;
    let ends = topic.wait(&mut connection)?;
    let producers = produce.prepare(&broker.bootstrap, topic)?;
    measure(broker, || {
        let limit = limit();
        // Consumers end when they have read everything, not when the producers do; those that do not are stuck.
        let patience = Limit::new(PATIENCE_SECONDS, u64::MAX);
        let goal = AtomicU64::new(u64::MAX);
        let start = Instant::now();
        thread::scope(|scope| {
            let consume = || {
                let mut stream = Stream::open(&broker.bootstrap)?;
                read(
                    &mut stream,
                    &mut Fetcher::new(topic, FetchShape::default(), ends.clone()),
                    &goal,
                    &patience,
                )
            };
            let consumers: Vec<_> = (0..consumers).map(|_| scope.spawn(consume)).collect();
            let produced = produce::run(producers, &limit);
            if produced.is_err() {
                patience.stop();
            }
            goal.store(produced.as_ref().map_or(0, |tally| tally.records), Ordering::Release);
            let reads = join(consumers);
            let produced = produced?;
            let reads = reads?;
            if reads.iter().any(|read| read.records < produced.records) {
                return Err(io::Error::other("a consumer has not read in time what was acknowledged"));
            }
            let mut shown = shown(&reads, produce.value_bytes, start);
            shown.ack = produced.ack.percentiles();
            Ok(shown)
        })
    })
}

fn shown(reads: &[Read], value_bytes: usize, start: Instant) -> Shown {
    let mut sum = Read::default();
    reads.iter().for_each(|read| sum.add(*read));
    Shown {
        seconds: start.elapsed().as_secs_f64(),
        value_bytes: sum.records * value_bytes as u64,
        batch_bytes: sum.batch_bytes,
        records: sum.records,
        requests: sum.requests,
        ..Shown::default()
    }
}
