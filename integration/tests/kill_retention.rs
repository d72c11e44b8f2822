//! kill -9 while old segments are removed and while every write is synced: what retention keeps is there, in order, once.
//!
//! `KLAMM_KILLS=N` kills so often.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use integration::load::{Acknowledged, Identity, Producer, Shape, fetch, try_fetch};
use integration::wire::Connection;
use integration::{Klamm, until};

const KILLS: u64 = 30;
const PARTITIONS: i32 = 3;
const BATCH_RECORDS: i32 = 5;
const OFFSET_OUT_OF_RANGE: i16 = 1;

/// A topic, who writes to it, and what is known of it. One idempotent producer writes, so that each record counts as its
/// offset does.
struct Topic {
    name: &'static str,
    producer: Producer,
    partitions: Vec<Known>,
}

#[derive(Default)]
struct Known {
    log_start: i64,
    /// The end of what was acknowledged.
    end: i64,
    seen: BTreeMap<i64, Identity>,
}

impl Topic {
    fn new(number: u16, name: &'static str, value_bytes: usize) -> Self {
        let shape =
            Shape { topic: name.into(), partitions: PARTITIONS, batch_records: BATCH_RECORDS, value_bytes };
        let partitions = (0..PARTITIONS).map(|_| Known::default()).collect();
        Self { name, producer: Producer::new(number, true, shape), partitions }
    }

    /// Produces until so many batches are acknowledged, and kills the broker at that moment, with others on their way.
    fn produce_and_kill(&mut self, broker: &mut Klamm, batches: u64) -> u64 {
        let mut connection = Connection::open(broker.bootstrap()).expect("the broker serves");
        let (mut count, partitions) = (0, &mut self.partitions);
        let note = |acknowledged: Acknowledged| {
            let Acknowledged { partition, base_offset, first, records } = acknowledged;
            assert_eq!(base_offset, i64::from(first.count), "lost or twice in {partition}");
            let known = &mut partitions[usize::try_from(partition).expect("a partition")];
            known.end = known.end.max(base_offset + i64::from(records));
            count += 1;
            if count == batches {
                broker.kill9();
            }
        };
        let ended = self.producer.run(&mut connection, note, || false);
        assert!(ended.is_err() && count >= batches, "the connection ended before the broker was killed");
        count
    }

    fn check(&mut self, connection: &mut Connection) {
        for (partition, known) in (0..).zip(&mut self.partitions) {
            if known.end == 0 {
                continue;
            }
            let (log_start, end) = loop {
                // The last segment stays, so this one is there.
                let last = fetch(connection, self.name, partition, known.end - 1).expect("the broker serves");
                match read(connection, self.name, partition, last.log_start_offset, &mut known.seen) {
                    // Retention went on meanwhile.
                    None => {}
                    Some(end) => break (last.log_start_offset, end),
                }
            };
            assert!(log_start >= known.log_start, "the log start of {partition} went back");
            assert!(end >= known.end, "acknowledged up to {}, there up to {end} in {partition}", known.end);
            known.log_start = log_start;
            known.seen = known.seen.split_off(&log_start);
        }
    }
}

/// Reads from the log start to the high watermark; none where the log start moved on.
fn read(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    log_start: i64,
    seen: &mut BTreeMap<i64, Identity>,
) -> Option<i64> {
    let mut next = log_start;
    loop {
        let found = match try_fetch(connection, topic, partition, next).expect("the broker serves") {
            Ok(found) => found,
            Err(OFFSET_OUT_OF_RANGE) => return None,
            Err(code) => panic!("Fetch answers {code}"),
        };
        for (offset, identity) in found.records {
            assert_eq!(offset, next, "an offset is left out in {partition} of {topic}");
            assert_eq!(i64::from(identity.count), offset, "another record in {partition} of {topic}");
            assert_eq!(*seen.entry(offset).or_insert(identity), identity, "it was another one before");
            next += 1;
        }
        if next >= found.high_watermark {
            return Some(next);
        }
    }
}

#[test]
fn what_retention_keeps_survives_kills() {
    let kills = std::env::var("KLAMM_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let mut broker = Klamm::spawn(&[
        "--override",
        "log.retention.check.interval.ms=20",
        "--override",
        "log.initial.task.delay.ms=0",
        "--topic",
        &format!("brief:{PARTITIONS}:segment.bytes=1048576:retention.bytes=2097152"),
        "--topic",
        &format!("synced:{PARTITIONS}:flush.messages=1"),
    ]);
    let mut topics = [Topic::new(0, "brief", 20_000), Topic::new(1, "synced", 200)];
    let mut batches = 0;
    for kill in 0..kills {
        let topic = &mut topics[usize::from(kill % 3 == 2)];
        batches += topic.produce_and_kill(&mut broker, 5 + kill * 7 % 41);
        if kill % 5 == 4 {
            broker.stumble(Duration::from_millis(kill * 13 % 60));
        }
        broker.restart();
        let mut connection = Connection::open(broker.bootstrap()).expect("the broker serves");
        topics.iter_mut().for_each(|topic| topic.check(&mut connection));
    }
    let mut connection = Connection::open(broker.bootstrap()).expect("the broker serves");
    until("the last round of retention", Duration::from_secs(120), || {
        topics[0].check(&mut connection);
        let is_short = |known: &Known| known.end < 150 || known.log_start > 0;
        topics[0].partitions.iter().all(is_short).then_some(())
    });
    let removed: i64 = topics[0].partitions.iter().map(|known| known.log_start).sum();
    let kept: usize = topics.iter().flat_map(|topic| &topic.partitions).map(|known| known.seen.len()).sum();
    let line =
        format!("{kills} kills: {batches} batches acknowledged, {removed} records removed, {kept} there");
    // Past the test runner, which swallows what a passing test prints.
    let _ = writeln!(std::io::stderr(), "{line}");
}
