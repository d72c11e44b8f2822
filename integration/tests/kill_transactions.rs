//! Transactions while brokers and clients are killed: several producers write to several partitions and commit offsets,
//! in both protocols. In the end every transaction is seen as a whole or not at all, as its producer was told.
//!
//! `KLAMM_TRANSACTION_SECONDS=N` goes on for so long; `KLAMM_SEED=N` repeats the choices of a run, as far as threads
//! allow that.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use integration::wire::Connection;
use integration::{Klamm, until};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, FetchRequest, FindCoordinatorRequest,
    GroupId, InitProducerIdRequest, OffsetFetchRequest, ProduceRequest, TopicName, TransactionalId,
    TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

const TOPIC: &str = "ledger";
const PARTITIONS: i32 = 4;
/// Those of even numbers use the protocol of KIP-890, the others the one before.
const WRITERS: u16 = 4;
const SECONDS: u64 = 10;
const PATIENCE: Duration = Duration::from_secs(60);

fn say(line: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(io::stderr(), "{line}");
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic() -> TopicName {
    TopicName(StrBytes::from_static_str(TOPIC))
}

/// A xorshift generator.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A record: of which transaction of which writer, and the how-manieth of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    writer: u16,
    transaction: i64,
    count: i32,
}

impl Entry {
    fn value(self) -> Bytes {
        format!("{} {} {}", self.writer, self.transaction, self.count).into()
    }

    fn parse(value: &[u8]) -> Self {
        let mut words = std::str::from_utf8(value).expect("text").split(' ');
        let mut next = || words.next().expect("three numbers");
        let (writer, transaction, count) = (next(), next(), next());
        Self {
            writer: writer.parse().expect("a number"),
            transaction: transaction.parse().expect("a number"),
            count: count.parse().expect("a number"),
        }
    }
}

/// What a writer was told of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Committed,
    Aborted,
    /// The answer to the commit was lost.
    Nothing,
}

#[derive(Debug)]
struct Transaction {
    told: Told,
    entries: BTreeSet<(i32, Entry)>,
}

/// Why a writer begins anew.
enum Lost {
    Connection,
    /// The broker's code.
    Refused(i16),
}

impl From<io::Error> for Lost {
    fn from(_: io::Error) -> Self {
        Self::Connection
    }
}

/// What all threads know.
struct World {
    bootstrap: String,
    seed: u64,
    finished: AtomicBool,
    ended: AtomicU64,
    zombies: AtomicU64,
    history: Mutex<BTreeMap<(u16, i64), Transaction>>,
}

impl World {
    fn connect(&self) -> Connection {
        until("the broker", PATIENCE, || Connection::open(&self.bootstrap).ok())
    }
}

/// A producer with its connection.
struct Session {
    connection: Connection,
    id: i64,
    epoch: i16,
    sequences: Vec<i32>,
}

struct Writer<'a> {
    world: &'a World,
    number: u16,
    is_newer: bool,
    random: Random,
    next: i64,
}

/// Codes after which the same request is sent again.
fn is_transient(code: i16) -> bool {
    // Leader, timeout, coordinator, replicas, concurrent transactions.
    matches!(code, 5..=7 | 14..=16 | 19 | 51)
}

impl Writer<'_> {
    fn transactional_id(&self) -> TransactionalId {
        TransactionalId(text(&format!("writer-{}", self.number)))
    }

    fn group(&self) -> GroupId {
        GroupId(text(&format!("group-{}", self.number)))
    }

    fn begin(&self) -> Session {
        loop {
            let mut connection = self.world.connect();
            let key = self.transactional_id().0;
            let asked = FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(vec![key]);
            let groups =
                FindCoordinatorRequest::default().with_coordinator_keys(vec![self.group().0.clone()]);
            if connection.call(4, &asked).is_err() || connection.call(4, &groups).is_err() {
                continue;
            }
            let request = InitProducerIdRequest::default()
                .with_transactional_id(Some(self.transactional_id()))
                .with_transaction_timeout_ms(60_000);
            let answer = retry(|| connection.call(5, &request), |answer| answer.error_code);
            if let Ok(answer) = answer {
                let sequences = vec![0; usize::try_from(PARTITIONS).unwrap_or(0)];
                let (id, epoch) = (answer.producer_id.0, answer.producer_epoch);
                return Session { connection, id, epoch, sequences };
            }
        }
    }

    fn run(&mut self) {
        let mut session = self.begin();
        while !self.world.finished.load(Ordering::SeqCst) {
            self.next += 1;
            let mut entries = BTreeSet::new();
            let written = self.write(&mut session, &mut entries);
            let choice = self.random.below(100);
            let told = match written {
                Err(lost) => {
                    self.expect_fenced_or_lost(&lost);
                    session = self.begin();
                    Told::Aborted
                }
                Ok(()) if choice < 70 => match self.end(&mut session, true) {
                    Ok(()) => Told::Committed,
                    Err(_) => {
                        session = self.begin();
                        Told::Nothing
                    }
                },
                Ok(()) if choice < 85 => {
                    if self.end(&mut session, false).is_err() {
                        session = self.begin();
                    }
                    Told::Aborted
                }
                // The client is killed.
                Ok(()) if choice < 93 => {
                    session = self.begin();
                    Told::Aborted
                }
                // The client is taken for dead and comes back.
                Ok(()) => {
                    let mut zombie = std::mem::replace(&mut session, self.begin());
                    let late = self.write(&mut zombie, &mut BTreeSet::new());
                    assert!(late.is_err(), "a fenced producer of writer {} wrote", self.number);
                    let ended = self.end(&mut zombie, true);
                    assert!(ended.is_err(), "a fenced producer of writer {} committed", self.number);
                    self.world.zombies.fetch_add(1, Ordering::SeqCst);
                    Told::Aborted
                }
            };
            let mut history = self.world.history.lock().unwrap_or_else(PoisonError::into_inner);
            history.insert((self.number, self.next), Transaction { told, entries });
            self.world.ended.fetch_add(1, Ordering::SeqCst);
        }
        // Whatever is open still is aborted.
        self.begin();
    }

    /// A writer is alone with its transactional id, and loses its transaction with its connection only.
    fn expect_fenced_or_lost(&self, lost: &Lost) {
        if let Lost::Refused(code) = lost {
            panic!("transaction {} of writer {} was refused with {code}", self.next, self.number);
        }
    }

    /// Writes to some partitions, and commits an offset.
    fn write(&mut self, session: &mut Session, entries: &mut BTreeSet<(i32, Entry)>) -> Result<(), Lost> {
        let mut count = 0;
        let first = self.random.below(4);
        for round in 0..=self.random.below(3) {
            let partition = i32::try_from((first + round) % 4).unwrap_or(0);
            if !self.is_newer {
                self.add_partition(session, partition)?;
            }
            for _ in 0..=self.random.below(2) {
                let batch: Vec<_> = (0..=self.random.below(3))
                    .map(|_| {
                        count += 1;
                        Entry { writer: self.number, transaction: self.next, count }
                    })
                    .collect();
                self.produce(session, partition, &batch)?;
                entries.extend(batch.into_iter().map(|entry| (partition, entry)));
            }
        }
        self.commit_offset(session)
    }

    fn add_partition(&self, session: &mut Session, partition: i32) -> Result<(), Lost> {
        let added = AddPartitionsToTxnTopic::default().with_name(topic()).with_partitions(vec![partition]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.transactional_id())
            .with_v3_and_below_producer_id(session.id.into())
            .with_v3_and_below_producer_epoch(session.epoch)
            .with_v3_and_below_topics(vec![added]);
        let code = |answer: &kafka_protocol::messages::AddPartitionsToTxnResponse| {
            answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
        };
        retry(|| session.connection.call(3, &request), code).map(drop)
    }

    fn produce(&self, session: &mut Session, partition: i32, batch: &[Entry]) -> Result<(), Lost> {
        let sequence = &mut session.sequences[usize::try_from(partition).unwrap_or(0)];
        let records = encode(batch, session.id, session.epoch, *sequence);
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
        let data = TopicProduceData::default().with_name(topic()).with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_transactional_id(Some(self.transactional_id()))
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![data]);
        let version = if self.is_newer { 12 } else { 11 };
        let code = |answer: &kafka_protocol::messages::ProduceResponse| {
            answer.responses[0].partition_responses[0].error_code
        };
        retry(|| session.connection.call(version, &request), code)?;
        *sequence += i32::try_from(batch.len()).unwrap_or(0);
        Ok(())
    }

    fn commit_offset(&self, session: &mut Session) -> Result<(), Lost> {
        if !self.is_newer {
            let request = AddOffsetsToTxnRequest::default()
                .with_transactional_id(self.transactional_id())
                .with_producer_id(session.id.into())
                .with_producer_epoch(session.epoch)
                .with_group_id(self.group());
            retry(|| session.connection.call(3, &request), |answer| answer.error_code)?;
        }
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(0)
            .with_committed_offset(self.next);
        let offsets =
            TxnOffsetCommitRequestTopic::default().with_name(topic()).with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(self.transactional_id())
            .with_group_id(self.group())
            .with_producer_id(session.id.into())
            .with_producer_epoch(session.epoch)
            .with_topics(vec![offsets]);
        let version = if self.is_newer { 5 } else { 4 };
        let code = |answer: &kafka_protocol::messages::TxnOffsetCommitResponse| {
            answer.topics[0].partitions[0].error_code
        };
        retry(|| session.connection.call(version, &request), code).map(drop)
    }

    fn end(&self, session: &mut Session, is_commit: bool) -> Result<(), Lost> {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.transactional_id())
            .with_producer_id(session.id.into())
            .with_producer_epoch(session.epoch)
            .with_committed(is_commit);
        let version = if self.is_newer { 5 } else { 4 };
        let answer = retry(|| session.connection.call(version, &request), |answer| answer.error_code)?;
        if self.is_newer {
            assert!(
                (answer.producer_id.0, answer.producer_epoch) > (session.id, session.epoch),
                "every transaction gives a new epoch"
            );
            (session.id, session.epoch) = (answer.producer_id.0, answer.producer_epoch);
            session.sequences.fill(0);
        }
        Ok(())
    }
}

/// Sends a request until it is answered for good.
fn retry<A>(mut call: impl FnMut() -> io::Result<A>, code: impl Fn(&A) -> i16) -> Result<A, Lost> {
    let since = Instant::now();
    loop {
        let answer = call()?;
        match code(&answer) {
            0 => return Ok(answer),
            code if is_transient(code) && since.elapsed() < PATIENCE => thread::yield_now(),
            code => return Err(Lost::Refused(code)),
        }
    }
}

fn encode(batch: &[Entry], id: i64, epoch: i16, sequence: i32) -> Bytes {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let timestamp = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let records: Vec<_> = (0..)
        .zip(batch)
        .map(|(index, entry)| Record {
            transactional: true,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: id,
            producer_epoch: epoch,
            timestamp_type: TimestampType::Creation,
            offset: i64::from(index),
            sequence: sequence + index,
            timestamp,
            key: None,
            value: Some(entry.value()),
            headers: Default::default(),
        })
        .collect();
    let mut encoded = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut encoded, &records, &options).expect("plain records can be encoded");
    encoded.freeze()
}

/// A reader of committed records of one partition, as clients are.
#[derive(Default)]
struct Reader {
    partition: i32,
    position: i64,
    seen: Vec<(i64, Entry)>,
}

impl Reader {
    /// Reads what there is, and answers the last stable offset and the high watermark.
    fn read(&mut self, connection: &mut Connection) -> io::Result<(i64, i64)> {
        let asked = FetchPartition::default()
            .with_partition(self.partition)
            .with_fetch_offset(self.position)
            .with_partition_max_bytes(4_000);
        let asked = FetchTopic::default().with_topic(topic()).with_partitions(vec![asked]);
        let request = FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(0)
            .with_min_bytes(0)
            .with_max_bytes(1 << 20)
            .with_isolation_level(1)
            .with_session_epoch(-1)
            .with_topics(vec![asked]);
        let mut response = connection.call(12, &request)?;
        let mut answer = response.responses.remove(0).partitions.remove(0);
        if answer.error_code != 0 {
            return Err(io::Error::other(format!("error {}", answer.error_code)));
        }
        let mut aborted: Vec<_> = answer
            .aborted_transactions
            .take()
            .expect("a list for readers of committed records")
            .iter()
            .map(|aborted| (aborted.first_offset, aborted.producer_id.0))
            .collect();
        aborted.sort_unstable();
        let mut aborted = aborted.into_iter().peekable();
        let mut hidden = BTreeSet::new();
        let mut records = answer.records.take().unwrap_or_default();
        for set in RecordBatchDecoder::decode_all(&mut records).map_err(io::Error::other)? {
            let Some(last) = set.records.last() else { continue };
            while let Some((_, id)) = aborted.next_if(|(first_offset, _)| *first_offset <= last.offset) {
                hidden.insert(id);
            }
            let next = last.offset + 1;
            assert!(next <= answer.last_stable_offset, "a record behind the last stable offset was read");
            for record in set.records {
                if record.control {
                    hidden.remove(&record.producer_id);
                } else if record.offset >= self.position && !hidden.contains(&record.producer_id) {
                    let value = record.value.expect("a value");
                    self.seen.push((record.offset, Entry::parse(&value)));
                }
            }
            self.position = self.position.max(next);
        }
        Ok((answer.last_stable_offset, answer.high_watermark))
    }

    /// Reads everything from the beginning, and answers what readers see when all transactions have ended.
    fn read_all(connection: &mut Connection, partition: i32) -> Vec<(i64, Entry)> {
        let mut reader = Self { partition, ..Self::default() };
        until("the end of all transactions", PATIENCE, || {
            let (last_stable, high_watermark) = reader.read(connection).expect("the broker serves");
            (last_stable == high_watermark && reader.position == high_watermark).then_some(())
        });
        reader.seen
    }
}

fn readers(world: &World) -> Vec<Reader> {
    let mut readers: Vec<_> =
        (0..PARTITIONS).map(|partition| Reader { partition, ..Reader::default() }).collect();
    let mut connection = world.connect();
    while !world.finished.load(Ordering::SeqCst) {
        for reader in &mut readers {
            if reader.read(&mut connection).is_err() {
                connection = world.connect();
            }
        }
    }
    readers
}

fn committed_offset(connection: &mut Connection, writer: u16) -> i64 {
    let asked = OffsetFetchRequestTopics::default().with_name(topic()).with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text(&format!("group-{writer}"))))
        .with_topics(Some(vec![asked]));
    let request = OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(true);
    until("a stable offset", PATIENCE, || {
        let answer = connection.call(8, &request).expect("the broker serves");
        let group = &answer.groups[0];
        let partition = group.topics.first().map(|topic| &topic.partitions[0]);
        let partition = partition.filter(|partition| group.error_code == 0 && partition.error_code == 0);
        partition.map(|partition| partition.committed_offset)
    })
}

#[derive(Debug, Default)]
struct Counts {
    committed: usize,
    aborted: usize,
    decided_later: usize,
    records: usize,
}

/// Compares what is there with what the writers were told.
fn check(world: &World, readers: &[Reader]) -> Counts {
    let mut connection = world.connect();
    let mut seen = BTreeMap::<(u16, i64), BTreeSet<(i32, Entry)>>::new();
    let mut counts = Counts::default();
    for reader in readers {
        let all = Reader::read_all(&mut connection, reader.partition);
        let before = &all[..reader.seen.len().min(all.len())];
        assert_eq!(reader.seen, before, "what was read as committed of {} changed", reader.partition);
        let mut last = BTreeMap::new();
        for (_, entry) in all {
            counts.records += 1;
            let before = last.insert(entry.writer, entry);
            assert!(before.is_none_or(|before| before < entry), "{entry:?} comes after {before:?}");
            let entries = seen.entry((entry.writer, entry.transaction)).or_default();
            assert!(entries.insert((reader.partition, entry)), "{entry:?} is there twice");
        }
    }
    let history = world.history.lock().unwrap_or_else(PoisonError::into_inner);
    let mut offsets = BTreeMap::<u16, i64>::new();
    for ((writer, number), transaction) in history.iter() {
        let entries = seen.remove(&(*writer, *number)).unwrap_or_default();
        let what = format!("transaction {number} of writer {writer}, {:?}", transaction.told);
        let is_whole = entries == transaction.entries;
        match transaction.told {
            Told::Committed => assert!(is_whole, "{what} is lost or torn: {entries:?}"),
            Told::Aborted => assert!(entries.is_empty(), "{what} is read: {entries:?}"),
            Told::Nothing => assert!(is_whole || entries.is_empty(), "{what} is torn: {entries:?}"),
        }
        if is_whole && transaction.told != Told::Aborted {
            offsets.insert(*writer, *number);
        }
        match transaction.told {
            Told::Committed => counts.committed += 1,
            Told::Aborted => counts.aborted += 1,
            Told::Nothing => counts.decided_later += 1,
        }
    }
    assert!(seen.is_empty(), "records of transactions that nobody has begun: {seen:?}");
    for writer in 0..WRITERS {
        let want = offsets.get(&writer).copied().unwrap_or(-1);
        assert_eq!(committed_offset(&mut connection, writer), want, "the offset of writer {writer}");
    }
    counts
}

/// Ends the other threads, however this one ends.
struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn transactions_are_whole_or_not_at_all() {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_secs());
    let seed = variable("KLAMM_SEED").unwrap_or(clock).max(1);
    let length = Duration::from_secs(variable("KLAMM_TRANSACTION_SECONDS").unwrap_or(SECONDS));
    let mut broker = Klamm::spawn(&["--topic", &format!("{TOPIC}:{PARTITIONS}")]);
    let world = World {
        bootstrap: broker.bootstrap().to_owned(),
        seed,
        finished: AtomicBool::new(false),
        ended: AtomicU64::new(0),
        zombies: AtomicU64::new(0),
        history: Mutex::default(),
    };
    let mut kills = 0;
    let readers = thread::scope(|scope| {
        let finish = Finish(&world.finished);
        let world = &world;
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let random =
                    Random((world.seed + u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15).max(1));
                let is_newer = number % 2 == 0;
                scope.spawn(move || Writer { world, number, is_newer, random, next: 0 }.run())
            })
            .collect();
        let readers = scope.spawn(|| readers(world));
        let mut random = Random(world.seed.wrapping_mul(0xD1B5_4A32_D192_ED03).max(1));
        let since = Instant::now();
        while since.elapsed() < length {
            let target = world.ended.load(Ordering::SeqCst) + 1 + random.below(150);
            until("transactions", PATIENCE, || {
                assert!(writers.iter().all(|writer| !writer.is_finished()), "a writer failed; see above");
                (world.ended.load(Ordering::SeqCst) >= target).then_some(())
            });
            broker.kill9();
            broker.restart();
            kills += 1;
        }
        drop(finish);
        for writer in writers {
            writer.join().expect("a writer failed; see above");
        }
        readers.join().expect("the reader failed; see above")
    });
    let counts = check(&world, &readers);
    say(&format!(
        "{} transactions committed, {} aborted, {} whose answer was lost, {} zombies refused, {kills} kills (seed \
         {seed}): {} records, each transaction whole or not there",
        counts.committed,
        counts.aborted,
        counts.decided_later,
        world.zombies.load(Ordering::SeqCst),
        counts.records
    ));
}
