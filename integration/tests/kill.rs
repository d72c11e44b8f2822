//! kill -9 under load, again and again: whatever klamm has acknowledged is there after its restart, in order, once.
//!
//! `KLAMM_KILLS=N` kills so often; `KLAMM_SEED=N` repeats the moments of a run, as far as threads allow that.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use integration::chance::{self, Random};
use integration::load::{Acknowledged, Identity, Producer, Shape, fetch};
use integration::wire::Connection;
use integration::{Klamm, until};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, OffsetCommitRequest, OffsetFetchRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;

const TOPIC: &str = "kill";
const GROUP: &str = "killed";
const PARTITIONS: i32 = 3;
/// Enough for the common accidents in `make test`; `make torture-kill` asks for more.
const KILLS: u64 = 200;
/// Producers of these numbers are idempotent, the last one is not.
const IDEMPOTENT: u16 = 2;
/// How far back every check reads again; all is read again by some.
const REREAD: usize = 300;

/// Says a line past the test runner, which swallows what a passing test prints.
fn say(line: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(io::stderr(), "{line}");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the broker is doing, as its clients must know: nobody connects to a port while nobody listens there.
#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
struct State {
    /// The how-manieth life of the broker.
    life: u64,
    open: bool,
    finished: bool,
}

impl Gate {
    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut lock(&self.state));
        self.changed.notify_all();
    }

    /// Waits for a life of the broker after this one; none when the test ends.
    fn next(&self, after: u64) -> Option<u64> {
        let state = self
            .changed
            .wait_while(lock(&self.state), |state| !(state.finished || state.open && state.life > after))
            .unwrap_or_else(PoisonError::into_inner);
        (!state.finished).then_some(state.life)
    }

    /// Whether a connection that began in this life may end.
    fn may_end(&self, life: u64) -> bool {
        let state = lock(&self.state);
        state.finished || !state.open || state.life != life
    }

    fn finished(&self) -> bool {
        lock(&self.state).finished
    }
}

/// Lets the threads go, also when the test fails.
struct Finish<'a>(&'a Gate);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.set(|state| state.finished = true);
    }
}

/// Plays a part in every life of the broker, until the test ends.
fn live(gate: &Gate, bootstrap: &str, mut part: impl FnMut(&mut Connection) -> io::Result<()>) {
    let mut life = 0;
    while let Some(next) = gate.next(life) {
        life = next;
        let played = Connection::open(bootstrap).and_then(|mut connection| part(&mut connection));
        if let Err(error) = played {
            assert!(gate.may_end(life), "a connection ended while the broker was up: {error}");
        }
    }
}

/// Everything that was ever read.
#[derive(Default)]
struct Ledger {
    /// By partition, by offset.
    seen: Vec<Vec<Identity>>,
    /// By producer and partition: the record that must come next, or may come at the earliest.
    next: HashMap<(u16, usize), i32>,
}

impl Ledger {
    /// Reads what is new in a partition.
    fn read_on(&mut self, connection: &mut Connection, partition: usize) -> io::Result<()> {
        loop {
            let offset = self.seen[partition].len();
            let found = fetch(connection, TOPIC, number(partition), long(offset))?;
            assert_eq!(found.log_start_offset, 0, "log start of partition {partition}");
            assert_eq!(found.last_stable_offset, found.high_watermark, "partition {partition}");
            for (offset, identity) in found.records {
                self.append(partition, offset, identity);
            }
            let end = long(self.seen[partition].len());
            assert!(found.high_watermark >= end, "records beyond the high watermark of {partition}");
            if end == found.high_watermark {
                return Ok(());
            }
        }
    }

    fn append(&mut self, partition: usize, offset: i64, identity: Identity) {
        assert_eq!(offset, long(self.seen[partition].len()), "an offset is left out in {partition}");
        let next = self.next.entry((identity.producer, partition)).or_default();
        if identity.producer < IDEMPOTENT {
            assert_eq!(identity.count, *next, "lost, twice or out of order in {partition}: {identity:?}");
        } else {
            assert!(identity.count >= *next, "twice or out of order in {partition}: {identity:?}");
        }
        *next = identity.count + 1;
        self.seen[partition].push(identity);
    }

    /// Reads again what was read before, from this offset on: it must be the same.
    fn reread(&self, connection: &mut Connection, partition: usize, from: usize) -> io::Result<usize> {
        let mut offset = from;
        while offset < self.seen[partition].len() {
            let found = fetch(connection, TOPIC, number(partition), long(offset))?;
            assert!(
                found.high_watermark >= long(self.seen[partition].len()),
                "the high watermark of {partition} fell behind what was read"
            );
            assert!(!found.records.is_empty(), "nothing at offset {offset} of {partition}");
            for (at, identity) in found.records {
                assert_eq!(at, long(offset), "an offset is left out in {partition}");
                // What is new here is for `read_on`.
                let Some(before) = self.seen[partition].get(offset) else { break };
                assert_eq!(identity, *before, "another record at offset {offset} of {partition}");
                offset += 1;
            }
        }
        Ok(offset - from)
    }

    fn check(&self, acknowledged: &Acknowledged) {
        let Acknowledged { partition, base_offset, first, records } = *acknowledged;
        for index in 0..records {
            let offset = usize::try_from(base_offset + i64::from(index)).expect("an offset");
            let expected = Identity { count: first.count + index, ..first };
            let found = self.seen[usize::try_from(partition).expect("a partition")].get(offset);
            assert_eq!(found, Some(&expected), "acknowledged at offset {offset} of {partition}");
        }
    }
}

fn number(partition: usize) -> i32 {
    i32::try_from(partition).expect("a few partitions")
}

fn long(offset: usize) -> i64 {
    i64::try_from(offset).expect("an offset")
}

/// Commits ever higher offsets, as a consumer does that was assigned its partitions by hand.
fn commit(
    connection: &mut Connection,
    attempted: &AtomicI64,
    committed: &AtomicI64,
    gate: &Gate,
) -> io::Result<()> {
    while !gate.finished() {
        let offset = attempted.fetch_add(1, Ordering::SeqCst) + 1;
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(0)
            .with_committed_offset(offset)
            .with_committed_metadata(Some(StrBytes::from_string(offset.to_string())));
        let topic = OffsetCommitRequestTopic::default()
            .with_name(TopicName(StrBytes::from_static_str(TOPIC)))
            .with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(StrBytes::from_static_str(GROUP)))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        let response = connection.call(9, &request)?;
        match response.topics[0].partitions[0].error_code {
            0 => committed.store(offset, Ordering::SeqCst),
            // The coordinator loads, or its topic is being created.
            14..=16 => {}
            code => panic!("OffsetCommit answers {code}"),
        }
    }
    Ok(())
}

/// The committed offset and the metadata beside it.
fn committed_offset(connection: &mut Connection) -> io::Result<(i64, String)> {
    let topic = OffsetFetchRequestTopics::default()
        .with_name(TopicName(StrBytes::from_static_str(TOPIC)))
        .with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(StrBytes::from_static_str(GROUP)))
        .with_topics(Some(vec![topic]));
    let request = OffsetFetchRequest::default().with_groups(vec![group]);
    loop {
        let response = connection.call(8, &request)?;
        match response.groups[0].error_code {
            0 => {
                let found = &response.groups[0].topics[0].partitions[0];
                assert_eq!(found.error_code, 0, "OffsetFetch");
                let metadata = found.metadata.as_deref().unwrap_or_default().to_owned();
                return Ok((found.committed_offset, metadata));
            }
            14..=16 => thread::yield_now(),
            code => panic!("OffsetFetch answers {code}"),
        }
    }
}

/// What the threads share.
struct Shared {
    gate: Gate,
    bootstrap: String,
    ledger: Mutex<Ledger>,
    unchecked: Mutex<Vec<Acknowledged>>,
    batches: AtomicU64,
    attempted: AtomicI64,
    committed: AtomicI64,
}

impl Shared {
    fn produce(&self, producer: &mut Producer) {
        live(&self.gate, &self.bootstrap, |connection| {
            let note = |acknowledged| {
                lock(&self.unchecked).push(acknowledged);
                self.batches.fetch_add(1, Ordering::SeqCst);
            };
            producer.run(connection, note, || self.gate.finished())
        });
    }

    /// A consumer: what it was given must still be there after the kill.
    fn consume(&self) {
        live(&self.gate, &self.bootstrap, |connection| {
            while !self.gate.finished() {
                for partition in 0..3 {
                    lock(&self.ledger).read_on(connection, partition)?;
                }
                thread::yield_now();
            }
            Ok(())
        });
    }

    /// Compares what is there with what was answered; gives how many records were read for that.
    fn check(&self, everything: bool) -> usize {
        let mut connection = Connection::open(&self.bootstrap).expect("the broker serves");
        let acknowledged = std::mem::take(&mut *lock(&self.unchecked));
        let mut ledger = lock(&self.ledger);
        let mut read = 0;
        for partition in 0..3 {
            let before = ledger.seen[partition].len();
            let from = if everything { 0 } else { before.saturating_sub(REREAD) };
            read += ledger.reread(&mut connection, partition, from).expect("the broker serves");
            ledger.read_on(&mut connection, partition).expect("the broker serves");
            read += ledger.seen[partition].len() - before;
        }
        acknowledged.iter().for_each(|acknowledged| ledger.check(acknowledged));
        drop(ledger);
        let (offset, metadata) = committed_offset(&mut connection).expect("the broker serves");
        let (committed, attempted) =
            (self.committed.load(Ordering::SeqCst), self.attempted.load(Ordering::SeqCst));
        assert!(
            (committed..=attempted).contains(&offset) || (committed == 0 && offset == -1),
            "offset {offset} is committed: {committed} was acknowledged, {attempted} was tried"
        );
        assert!(offset == -1 || metadata == offset.to_string(), "metadata {metadata} at {offset}");
        read
    }
}

fn shared(bootstrap: &str) -> Shared {
    let seen = (0..PARTITIONS).map(|_| Vec::new()).collect();
    Shared {
        gate: Gate::default(),
        bootstrap: bootstrap.to_owned(),
        ledger: Mutex::new(Ledger { seen, next: HashMap::new() }),
        unchecked: Mutex::default(),
        batches: AtomicU64::new(0),
        attempted: AtomicI64::new(0),
        committed: AtomicI64::new(0),
    }
}

/// The topic of the offsets exists before the first kill, so that commits are part of every life.
fn find_coordinator(bootstrap: &str) {
    let mut connection = Connection::open(bootstrap).expect("the broker serves");
    let request =
        FindCoordinatorRequest::default().with_coordinator_keys(vec![StrBytes::from_static_str(GROUP)]);
    until("a group coordinator", Duration::from_secs(120), || {
        let response = connection.call(4, &request).expect("the broker serves");
        (response.coordinators[0].error_code == 0).then_some(())
    });
}

#[test]
fn nothing_acknowledged_is_lost_when_killed() {
    let kills = chance::variable("KLAMM_KILLS").unwrap_or(KILLS);
    let seed = chance::seed("KLAMM_KILLS");
    let mut random = Random::new(seed);
    let mut broker = Klamm::spawn(&["--topic", &format!("{TOPIC}:{PARTITIONS}")]);
    find_coordinator(broker.bootstrap());
    let shared = shared(broker.bootstrap());
    let mut producers: Vec<Producer> = (0..=IDEMPOTENT)
        .map(|number| {
            let shape =
                Shape { topic: TOPIC.into(), partitions: PARTITIONS, batch_records: 5, value_bytes: 300 };
            Producer::new(number, number < IDEMPOTENT, shape)
        })
        .collect();
    let (mut read, mut stumbles) = (0, 0);
    thread::scope(|scope| {
        let _finish = Finish(&shared.gate);
        let (shared, broker) = (&shared, &mut broker);
        let mut threads: Vec<_> =
            producers.iter_mut().map(|producer| scope.spawn(move || shared.produce(producer))).collect();
        threads.push(scope.spawn(move || shared.consume()));
        threads.push(scope.spawn(move || {
            live(&shared.gate, &shared.bootstrap, |connection| {
                commit(connection, &shared.attempted, &shared.committed, &shared.gate)
            });
        }));
        shared.gate.set(|state| (state.life, state.open) = (1, true));
        for kill in 1..=kills {
            let target = shared.batches.load(Ordering::SeqCst) + random.below(8) * random.below(12);
            until("acknowledgements", Duration::from_secs(120), || {
                assert!(threads.iter().all(|thread| !thread.is_finished()), "a client failed; see above");
                (shared.batches.load(Ordering::SeqCst) >= target).then_some(())
            });
            shared.gate.set(|state| state.open = false);
            broker.kill9();
            if kill % 4 == 0 {
                // A kill while it reads what the last one left.
                broker.stumble(Duration::from_millis(random.below(120)));
                stumbles += 1;
            }
            broker.restart();
            if kill % 3 == 0 {
                read += shared.check(kill % 30 == 0);
            }
            shared.gate.set(|state| (state.life, state.open) = (state.life + 1, true));
        }
    });
    read += shared.check(true);
    let ledger = lock(&shared.ledger);
    let records: usize = ledger.seen.iter().map(Vec::len).sum();
    say(&format!(
        "{kills} kills and {stumbles} more at the start (seed {seed}): {} batches and {} commits acknowledged, {records} records there in order and once, {read} read again",
        shared.batches.load(Ordering::SeqCst),
        shared.committed.load(Ordering::SeqCst),
    ));
}
