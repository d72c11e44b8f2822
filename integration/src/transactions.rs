//! Transactional producers, readers of committed records, and what must hold of them when brokers and clients are killed:
//! every transaction is seen as a whole or not at all, as its producer was told.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, EndTxnRequest, GroupId,
    InitProducerIdRequest, OffsetFetchRequest, ProduceRequest, ProduceResponse, TopicName, TransactionalId,
    TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};
use kafka_protocol::protocol::{Request, StrBytes};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

use crate::chance::{self, Random};
use crate::cluster::client::Routes;
use crate::committed;
use crate::until;
use crate::wire::Connection;

/// The topic that transactions write to.
pub const TOPIC: &str = "ledger";
/// How many partitions it has.
pub const PARTITIONS: i32 = 4;
/// Those of even numbers use the protocol of KIP-890, the others the one before.
pub const WRITERS: u16 = 4;
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a client waits before it asks again who leads.
const BACKOFF: Duration = Duration::from_millis(10);
/// Small, so that readers come to stand between transactions.
const FETCH_BYTES: i32 = 4_000;
const CONCURRENT_TRANSACTIONS: i16 = 51;
const DUPLICATE_SEQUENCE_NUMBER: i16 = 46;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const PRODUCER_FENCED: i16 = 90;
const TRANSACTION_ABORTABLE: i16 = 120;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic() -> TopicName {
    TopicName(StrBytes::from_static_str(TOPIC))
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
#[derive(Debug)]
enum Lost {
    Connection,
    Refused { request: &'static str, broker: String, code: i16 },
}

impl From<io::Error> for Lost {
    fn from(_: io::Error) -> Self {
        Self::Connection
    }
}

/// What producers are to do.
#[derive(Clone, Debug)]
pub struct Work {
    /// Where the cluster is.
    pub routes: Routes,
    /// Whether a producer sends a request again when its connection is lost, as the clients of clusters do. If not, it
    /// begins anew.
    pub resends: bool,
    /// Whether brokers are frozen. One that goes on takes itself for the coordinator and leader that it was until it
    /// hears of the others: it knows neither newer epochs of producers nor newer transactions, and refuses both, as
    /// Apache Kafka does. Producers abort and begin anew then.
    pub freezes: bool,
    /// Whether a broker of Apache Kafka is among them. It takes the last stable offset that it tells before it reads, so
    /// that the records may reach further (`Partition.fetchRecords`).
    pub has_kafka: bool,
    /// How long producers wait between two transactions.
    pub pace: Duration,
    /// What the choices come from.
    pub seed: u64,
}

/// What all threads know.
struct World {
    routes: Routes,
    resends: bool,
    freezes: bool,
    has_kafka: bool,
    pace: Duration,
    finished: AtomicBool,
    ended: AtomicU64,
    zombies: AtomicU64,
    refused_by_former: AtomicU64,
    history: Mutex<BTreeMap<(u16, i64), Transaction>>,
}

/// Whom a request is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum To {
    TransactionCoordinator(TransactionalId),
    GroupCoordinator(GroupId),
    Leader(i32),
}

/// The connections of a client: one to each broker that it needs.
struct Links {
    routes: Routes,
    addresses: BTreeMap<To, String>,
    connections: BTreeMap<String, Connection>,
}

impl Links {
    fn new(routes: &Routes) -> Self {
        Self { routes: routes.clone(), addresses: BTreeMap::new(), connections: BTreeMap::new() }
    }

    /// Sends a request to where it belongs, as far as is known.
    fn call<R: Request>(&mut self, to: &To, version: i16, request: &R) -> io::Result<R::Response> {
        let address = match self.addresses.get(to) {
            Some(address) => address.clone(),
            None => {
                let found = match to {
                    To::TransactionCoordinator(id) => self.routes.coordinator_address(&id.0, 1),
                    To::GroupCoordinator(id) => self.routes.coordinator_address(&id.0, 0),
                    To::Leader(partition) => self.routes.leader_address(TOPIC, *partition),
                }?;
                self.addresses.insert(to.clone(), found.clone());
                found
            }
        };
        let mut connection = match self.connections.remove(&address) {
            Some(connection) => connection,
            None => self.routes.open(&address).inspect_err(|_| self.forget(to))?,
        };
        let response = connection.call(version, request).inspect_err(|_| self.forget(to))?;
        self.connections.insert(address, connection);
        Ok(response)
    }

    /// Asks anew where these requests belong.
    fn forget(&mut self, to: &To) {
        self.addresses.remove(to);
    }

    /// Sends a request until it is answered for good; `resends` says whether a lost connection is no reason to stop.
    fn settle<R: Request>(
        &mut self,
        to: &To,
        version: i16,
        request: &R,
        resends: bool,
        code: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, Lost> {
        let since = Instant::now();
        loop {
            let is_late = since.elapsed() > PATIENCE;
            match self.call(to, version, request) {
                Ok(answer) => match code(&answer) {
                    0 => return Ok(answer),
                    code if is_transient(code) && !is_late => {
                        if code != CONCURRENT_TRANSACTIONS {
                            self.forget(to);
                            thread::sleep(BACKOFF);
                        }
                        thread::yield_now();
                    }
                    code => {
                        let broker = self.addresses.get(to).cloned().unwrap_or_default();
                        return Err(Lost::Refused { request: std::any::type_name::<R>(), broker, code });
                    }
                },
                Err(error) if !resends || is_late => return Err(error.into()),
                Err(_) => thread::sleep(BACKOFF),
            }
        }
    }
}

/// A producer with its connections.
struct Session {
    links: Links,
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
    // Topic, leader, timeout, network, coordinator, replicas, concurrent transactions, storage, leader epochs.
    matches!(code, 3 | 5..=7 | 13..=16 | 19 | 20 | CONCURRENT_TRANSACTIONS | 56 | 74 | 75)
}

impl Writer<'_> {
    fn transactional_id(&self) -> TransactionalId {
        TransactionalId(text(&format!("writer-{}", self.number)))
    }

    fn group(&self) -> GroupId {
        GroupId(text(&format!("group-{}", self.number)))
    }

    fn coordinator(&self) -> To {
        To::TransactionCoordinator(self.transactional_id())
    }

    fn begin(&self) -> Session {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(self.transactional_id()))
            .with_transaction_timeout_ms(60_000);
        let mut links = Links::new(&self.world.routes);
        let answer = links.settle(&self.coordinator(), 5, &request, true, |answer| answer.error_code);
        let answer = answer.unwrap_or_else(|lost| panic!("writer {} can not begin: {lost:?}", self.number));
        let sequences = vec![0; usize::try_from(PARTITIONS).unwrap_or(0)];
        Session { links, id: answer.producer_id.0, epoch: answer.producer_epoch, sequences }
    }

    /// Sends a request as [`Links::settle`] does.
    fn call<R: Request>(
        &self,
        session: &mut Session,
        to: &To,
        version: i16,
        request: &R,
        code: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, Lost> {
        session.links.settle(to, version, request, self.world.resends, code)
    }

    fn run(&mut self) {
        let mut session = self.begin();
        while !self.world.finished.load(Ordering::SeqCst) {
            thread::sleep(self.world.pace);
            self.next += 1;
            let mut entries = BTreeSet::new();
            let written = self.write(&mut session, &mut entries);
            let choice = self.random.below(100);
            let told = match written {
                Err(lost) => {
                    self.expect_lost(&lost);
                    session = self.begin();
                    Told::Aborted
                }
                Ok(()) if choice < 70 => match self.end(&mut session, true) {
                    Ok(()) => Told::Committed,
                    Err(lost) => {
                        self.expect_lost(&lost);
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

    /// A writer is alone with its transactional id, and loses its transaction with its connection, or to a broker that
    /// does not know yet that others took its place.
    fn expect_lost(&self, lost: &Lost) {
        if let Lost::Refused { request, broker, code } = lost {
            let (number, next) = (self.number, self.next);
            let is_outdated = matches!(
                *code,
                INVALID_PRODUCER_EPOCH | INVALID_TXN_STATE | PRODUCER_FENCED | TRANSACTION_ABORTABLE
            );
            let what =
                format!("transaction {next} of writer {number}: {request} was refused by {broker}: {code}");
            assert!(self.world.freezes && is_outdated, "{what}");
            // A closed standard error is no reason to fail.
            let _ = writeln!(io::stderr(), "{what}");
            self.world.refused_by_former.fetch_add(1, Ordering::SeqCst);
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
        let code = |answer: &AddPartitionsToTxnResponse| {
            answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
        };
        self.call(session, &self.coordinator(), 3, &request, code).map(drop)
    }

    fn produce(&self, session: &mut Session, partition: i32, batch: &[Entry]) -> Result<(), Lost> {
        let index = usize::try_from(partition).unwrap_or(0);
        let records = encode(batch, session.id, session.epoch, session.sequences[index]);
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
        let data = TopicProduceData::default().with_name(topic()).with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_transactional_id(Some(self.transactional_id()))
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![data]);
        let version = if self.is_newer { 12 } else { 11 };
        let code = |answer: &ProduceResponse| match answer.responses[0].partition_responses[0].error_code {
            // It was stored when it was sent before.
            DUPLICATE_SEQUENCE_NUMBER => 0,
            code => code,
        };
        self.call(session, &To::Leader(partition), version, &request, code)?;
        session.sequences[index] += i32::try_from(batch.len()).unwrap_or(0);
        Ok(())
    }

    fn commit_offset(&self, session: &mut Session) -> Result<(), Lost> {
        if !self.is_newer {
            let request = AddOffsetsToTxnRequest::default()
                .with_transactional_id(self.transactional_id())
                .with_producer_id(session.id.into())
                .with_producer_epoch(session.epoch)
                .with_group_id(self.group());
            self.call(session, &self.coordinator(), 3, &request, |answer| answer.error_code)?;
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
        let code = |answer: &TxnOffsetCommitResponse| answer.topics[0].partitions[0].error_code;
        self.call(session, &To::GroupCoordinator(self.group()), version, &request, code).map(drop)
    }

    fn end(&self, session: &mut Session, is_commit: bool) -> Result<(), Lost> {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.transactional_id())
            .with_producer_id(session.id.into())
            .with_producer_epoch(session.epoch)
            .with_committed(is_commit);
        let version = if self.is_newer { 5 } else { 4 };
        let answer =
            self.call(session, &self.coordinator(), version, &request, |answer| answer.error_code)?;
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
    /// Reads what there is, and answers the last stable offset and the high watermark. `is_exact` says whether no
    /// record may lie behind the last stable offset that was told with it.
    fn read(&mut self, links: &mut Links, is_exact: bool) -> io::Result<(i64, i64)> {
        let leader = To::Leader(self.partition);
        let request = committed::request(TOPIC, self.partition, self.position, FETCH_BYTES);
        let response = links.call(&leader, committed::FETCH_VERSION, &request)?;
        let answer = match committed::visible(response, self.position)? {
            Ok(answer) => answer,
            Err(code) => {
                assert_ne!(code, 1, "what was read of partition {} is lost", self.partition);
                links.forget(&leader);
                return Err(io::Error::other(format!("error {code}")));
            }
        };
        assert!(
            !is_exact || answer.next <= answer.last_stable_offset.max(self.position),
            "a record behind the last stable offset was read"
        );
        for record in &answer.records {
            let value = record.value.as_deref().expect("a value");
            self.seen.push((record.offset, Entry::parse(value)));
        }
        self.position = answer.next;
        Ok((answer.last_stable_offset, answer.high_watermark))
    }

    /// Reads everything from the beginning, and answers what readers see when all transactions have ended.
    fn read_all(links: &mut Links, partition: i32, is_exact: bool) -> Vec<(i64, Entry)> {
        let mut reader = Self { partition, ..Self::default() };
        let since = Instant::now();
        loop {
            let read = reader.read(links, is_exact);
            if matches!(read, Ok((stable, high)) if stable == high && reader.position == high) {
                return reader.seen;
            }
            let position = reader.position;
            assert!(
                since.elapsed() < PATIENCE,
                "a transaction of partition {partition} does not end: at {position}, last stable offset and high \
                 watermark {read:?}"
            );
        }
    }
}

fn readers(world: &World) -> Vec<Reader> {
    let mut readers: Vec<_> =
        (0..PARTITIONS).map(|partition| Reader { partition, ..Reader::default() }).collect();
    let mut links = Links::new(&world.routes);
    while !world.finished.load(Ordering::SeqCst) {
        for reader in &mut readers {
            if reader.read(&mut links, !world.has_kafka).is_err() {
                thread::sleep(BACKOFF);
            }
        }
        thread::sleep(world.pace);
    }
    readers
}

fn committed_offset(links: &mut Links, writer: u16) -> i64 {
    let id = GroupId(text(&format!("group-{writer}")));
    let asked = OffsetFetchRequestTopics::default().with_name(topic()).with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default().with_group_id(id.clone()).with_topics(Some(vec![asked]));
    let request = OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(true);
    let coordinator = To::GroupCoordinator(id);
    until("a stable offset", PATIENCE, || {
        let answer = links.call(&coordinator, 8, &request).ok()?;
        let group = &answer.groups[0];
        let partition = group.topics.first().map(|topic| &topic.partitions[0]);
        let partition = partition.filter(|partition| group.error_code == 0 && partition.error_code == 0);
        if partition.is_none() {
            links.forget(&coordinator);
        }
        partition.map(|partition| partition.committed_offset)
    })
}

/// What was done and found in the end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub committed: usize,
    pub aborted: usize,
    /// Transactions whose producer was not told how they ended.
    pub decided_later: usize,
    /// Producers that came back when another one had taken their place, and were refused.
    pub zombies: u64,
    /// Transactions that a broker refused which others had taken the place of.
    pub refused_by_former: u64,
    /// Records of committed transactions.
    pub records: usize,
}

/// Compares what is there with what the writers were told.
fn check(world: &World, readers: &[Reader]) -> Counts {
    let mut links = Links::new(&world.routes);
    let mut seen = BTreeMap::<(u16, i64), BTreeSet<(i32, Entry)>>::new();
    let mut counts = Counts {
        zombies: world.zombies.load(Ordering::SeqCst),
        refused_by_former: world.refused_by_former.load(Ordering::SeqCst),
        ..Counts::default()
    };
    for reader in readers {
        let all = Reader::read_all(&mut links, reader.partition, !world.has_kafka);
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
        assert_eq!(committed_offset(&mut links, writer), want, "the offset of writer {writer}");
    }
    counts
}

/// Ends the other threads when the one that holds it ends; where a thread failed only, for an `alarm`.
struct Finish<'a> {
    finished: &'a AtomicBool,
    alarm: bool,
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        if !self.alarm || thread::panicking() {
            self.finished.store(true, Ordering::SeqCst);
        }
    }
}

/// What is going on while producers work.
pub struct Progress<'a>(&'a World);

impl Progress<'_> {
    /// How many transactions have ended so far, well or not.
    ///
    /// # Panics
    /// When a producer or a reader has failed.
    #[must_use]
    pub fn ended(&self) -> u64 {
        assert!(!self.0.finished.load(Ordering::SeqCst), "a writer or reader failed; see above");
        self.0.ended.load(Ordering::SeqCst)
    }
}

/// Has producers write, and readers read, while `harm` is done to brokers; looks at everything afterwards.
///
/// # Panics
/// When a transaction is not as its producer was told.
pub fn under_transactions(work: Work, harm: impl FnOnce(&Progress<'_>, &mut Random)) -> Counts {
    let Work { routes, resends, freezes, has_kafka, pace, seed } = work;
    let world = &World {
        routes,
        resends,
        freezes,
        has_kafka,
        pace,
        finished: AtomicBool::new(false),
        ended: AtomicU64::new(0),
        zombies: AtomicU64::new(0),
        refused_by_former: AtomicU64::new(0),
        history: Mutex::default(),
    };
    let readers = thread::scope(|scope| {
        let finish = Finish { finished: &world.finished, alarm: false };
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let random = Random::new(seed.wrapping_add(u64::from(number)));
                let is_newer = number % 2 == 0;
                scope.spawn(move || {
                    let _alarm = Finish { finished: &world.finished, alarm: true };
                    Writer { world, number, is_newer, random, next: 0 }.run();
                })
            })
            .collect();
        let readers = scope.spawn(|| {
            let _alarm = Finish { finished: &world.finished, alarm: true };
            readers(world)
        });
        harm(&Progress(world), &mut Random::new(!seed));
        drop(finish);
        for writer in writers {
            assert!(writer.join().is_ok(), "a writer failed; see above");
        }
        readers.join().expect("the reader failed; see above")
    });
    check(world, &readers)
}

/// Says how long the tests of transactions go on.
const LENGTH: &str = "KLAMM_TRANSACTION_SECONDS";

/// What chance begins with, see [`chance::seed`].
#[must_use]
pub fn seed() -> u64 {
    chance::seed(LENGTH)
}

/// `KLAMM_TRANSACTION_SECONDS`, or as long as usual.
#[must_use]
pub fn seconds(usual: u64) -> Duration {
    Duration::from_secs(chance::variable(LENGTH).unwrap_or(usual))
}
