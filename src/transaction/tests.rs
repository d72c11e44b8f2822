#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::command::{Command, EndTransaction, InTransaction, InitProducerId, Producer, Refused, Reply};
use super::core::{Event, TransactionCore};
use super::record::{Record, decode_value, value};
use super::state::{NO_EPOCH, Transaction, TransactionState};
use crate::error::ErrorCode;
use crate::shard::{Core, Token};
use crate::types::TopicPartition;

// Written by the classes of Apache Kafka 4.3.1 (TransactionLog), at the levels 0, 1 and 2 of transaction.version.
const KEY: &str = "000000027478";
const VALUES: [&str; 3] = [
    "0000000000000000002a00050000ea60020000000100066f726465727300000001000000030000018bcfe56be80000018bcfe56800",
    "0001000000000000002a00050000ea600202076f72646572730200000003000000018bcfe56be80000018bcfe568000300080000000000000029\
     0108000000000000002b02020001",
    "0001000000000000002a00050000ea600202076f72646572730200000003000000018bcfe56be80000018bcfe568000300080000000000000029\
     0108000000000000002b02020002",
];
const EMPTY: &str = "0001000000000000002a00000000ea6000000000018bcfe56be8ffffffffffffffff00";

fn hex(text: &str) -> Bytes {
    let digits: Vec<char> = text.chars().collect();
    digits.chunks(2).map(|two| u8::from_str_radix(&two.iter().collect::<String>(), 16).unwrap()).collect()
}

fn orders() -> TopicPartition {
    TopicPartition { topic: "orders".into(), partition: 3 }
}

fn committing(client_version: i16) -> Transaction {
    Transaction {
        state: TransactionState::PrepareCommit,
        producer_epoch: 5,
        previous_producer_id: 41,
        next_producer_id: 43,
        partitions: BTreeSet::from([orders()]),
        started_ms: 1_700_000_000_000,
        client_version,
        ..Transaction::new(42, 60_000, 1_700_000_001_000)
    }
}

#[test]
fn transactions_are_written_as_kafka_writes_them() {
    let record = Record { transactional_id: "tx".into(), value: None };
    assert_eq!(record.key().unwrap(), hex(KEY));
    for (level, bytes) in (0..).zip(VALUES) {
        assert_eq!(value(&committing(level), level).unwrap(), hex(bytes), "level {level}");
    }
    let empty = Transaction { producer_epoch: 0, ..Transaction::new(42, 60_000, 1_700_000_001_000) };
    assert_eq!(value(&empty, 2).unwrap(), hex(EMPTY));
}

#[test]
fn every_version_of_a_value_is_read() {
    for (level, bytes) in (1..).zip(&VALUES[1..]) {
        assert_eq!(decode_value(hex(bytes)).unwrap(), committing(level));
    }
    let oldest = decode_value(hex(VALUES[0])).unwrap();
    assert_eq!(oldest, Transaction { previous_producer_id: -1, next_producer_id: -1, ..committing(0) });
    assert_eq!(decode_value(hex(EMPTY)).unwrap().partitions, BTreeSet::new());
    for end in 0..hex(VALUES[2]).len() {
        assert!(decode_value(hex(VALUES[2]).slice(..end)).is_err());
    }
}

/// A shard with one transactional id.
struct World {
    core: TransactionCore,
    events: Vec<Event>,
}

impl World {
    fn new(version: i16, epoch: i16) -> Self {
        let mut core = TransactionCore::new(Arc::default(), version);
        let value = Transaction { producer_epoch: epoch, ..Transaction::new(1, 60_000, 0) };
        core.replay(&Event::Record(Record { transactional_id: "p".into(), value: Some(value) }));
        Self { core, events: Vec::new() }
    }

    fn call(&mut self, command: Command) -> Reply {
        let mut decision = self.core.decide(1_000, Token(1), command);
        self.replay(decision.events);
        decision.replies.pop().unwrap().1
    }

    fn replay(&mut self, events: Vec<Event>) {
        events.iter().for_each(|event| self.core.replay(event));
        self.events = events;
    }

    fn init(&mut self, expected: Option<Producer>, fresh: Option<i64>) -> Result<(i64, i16), Refused> {
        let reply = self.call(Command::Init(InitProducerId {
            transactional_id: "p".into(),
            timeout_ms: 60_000,
            expected,
            fresh_producer_id: fresh,
        }));
        producer(reply)
    }

    fn add(&mut self, id: i64, epoch: i16) -> Result<(), ErrorCode> {
        let reply = self.call(Command::AddPartitions(InTransaction {
            transactional_id: "p".into(),
            producer: Producer { id, epoch },
            partitions: vec![orders()],
            client_version: 2,
        }));
        let Reply::Added(added) = reply else { unreachable!("{reply:?}") };
        added
    }

    fn commit(&mut self, id: i64, epoch: i16, fresh: Option<i64>) -> Result<(i64, i16), Refused> {
        let reply = self.call(Command::End(EndTransaction {
            transactional_id: "p".into(),
            producer: Producer { id, epoch },
            is_commit: true,
            client_version: 2,
            fresh_producer_id: fresh,
        }));
        producer(reply)
    }

    fn complete(&mut self, id: i64, epoch: i16) {
        let producer = Producer { id, epoch };
        self.call(Command::Complete { transactional_id: "p".into(), producer });
    }

    fn transaction(&self) -> &Transaction {
        &self.core.transactions["p"]
    }
}

fn producer(reply: Reply) -> Result<(i64, i16), Refused> {
    let Reply::Producer(producer) = reply else { unreachable!("{reply:?}") };
    producer.map(|producer| (producer.id, producer.epoch))
}

const LAST: i16 = i16::MAX - 1;

#[test]
fn a_producer_whose_epochs_are_used_up_gets_another_id() {
    let mut world = World::new(2, LAST);
    assert_eq!(world.init(None, None), Err(Refused::NeedsProducerId));
    let wrong = Some(Producer { id: 1, epoch: 7 });
    assert_eq!(world.init(wrong, Some(2)), Err(Refused::Code(ErrorCode::UnknownServerError)));
    assert_eq!(world.init(None, Some(2)), Ok((2, 0)));
    // The same request again, after its answer was lost: the producer believes to be the older one.
    let older = Some(Producer { id: 1, epoch: LAST });
    assert_eq!(world.init(older, Some(3)), Err(Refused::Code(ErrorCode::ProducerFenced)));
    let mut world = World::new(2, LAST);
    assert_eq!(world.init(older, Some(2)), Ok((2, 0)));
    assert_eq!(world.init(older, Some(3)), Ok((2, 0)));
}

#[test]
fn the_last_epoch_ends_its_transaction_and_the_next_id_goes_on() {
    let mut world = World::new(2, LAST);
    assert_eq!(world.add(1, LAST), Ok(()));
    assert_eq!(world.commit(1, LAST, None), Err(Refused::NeedsProducerId));
    assert_eq!(world.commit(1, LAST, Some(2)), Ok((2, 0)));
    let markers = world.events.iter().find_map(|event| match event {
        Event::WriteMarkers(ended) => Some(ended.producer),
        Event::Record(_) | Event::NeedsProducerId { .. } | Event::Version(_) => None,
    });
    assert_eq!(markers, Some(Producer { id: 1, epoch: i16::MAX }), "it fences the older id for good");
    assert_eq!(world.add(2, 0), Err(ErrorCode::InvalidProducerIdMapping));
    world.complete(1, i16::MAX);
    assert_eq!((world.transaction().producer_id, world.transaction().producer_epoch), (2, 0));
    assert_eq!(world.commit(1, LAST, Some(3)), Ok((2, 0)), "the same request again");
    assert_eq!(world.add(2, 0), Ok(()));
}

#[test]
fn a_late_transaction_with_the_last_epoch_waits_for_an_id() {
    let mut world = World::new(2, LAST);
    assert_eq!(world.add(1, LAST), Ok(()));
    let decision = world.core.expire(100_000, &super::core::Timer::TimedOut);
    let asked = Producer { id: 1, epoch: LAST };
    assert_eq!(decision.events, [Event::NeedsProducerId { transactional_id: "p".into(), producer: asked }]);
    let abort =
        Command::AbortTimedOut { transactional_id: "p".into(), producer: asked, fresh_producer_id: 9 };
    let decision = world.core.decide(100_000, Token(1), abort);
    world.replay(decision.events);
    assert_eq!(world.transaction().state, TransactionState::PrepareAbort);
    world.complete(1, i16::MAX);
    assert_eq!((world.transaction().producer_id, world.transaction().producer_epoch), (9, 0));
}

#[test]
fn epochs_grow_until_the_id_changes() {
    let mut world = World::new(2, NO_EPOCH);
    let mut fresh = 1;
    let mut seen = BTreeSet::new();
    for _ in 0..40_000 {
        let producer = match world.init(None, None) {
            Err(Refused::NeedsProducerId) => {
                fresh += 1;
                world.init(None, Some(fresh)).unwrap()
            }
            other => other.unwrap(),
        };
        assert!(seen.insert(producer), "{producer:?} was given twice");
        assert!(producer.1 <= LAST);
    }
    assert_eq!(fresh, 2);
}
