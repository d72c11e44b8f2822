//! Everything that was acknowledged to producers and read by consumers of one topic, and what must hold of it whatever
//! happens to the nodes:
//!
//! - a record that was acknowledged is there, at the offset that the acknowledgement names;
//! - each producer's records of a partition are there once and in order, and none is left out;
//! - the offsets of a partition count up by one;
//! - what a consumer has read stays what it was, at every replica;
//! - an epoch has one leader.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::client::Partition;
use crate::load::{Acknowledged, Fetched, Identity};

/// What was seen of one partition.
#[derive(Debug, Default)]
struct Seen {
    /// By offset.
    records: Vec<Identity>,
    /// By producer: the record that must come next.
    next: HashMap<u16, i32>,
    acknowledged: Vec<Acknowledged>,
}

/// What was acknowledged and read of a topic.
#[derive(Debug)]
pub struct Ledger {
    partitions: Vec<Mutex<Seen>>,
    /// Who led in which epoch, by partition; the quorum is partition -1.
    leaders: Mutex<BTreeMap<(i32, i32), i32>>,
    /// Whether no record may lie behind the high watermark that came with it. Apache Kafka takes what it tells of the high
    /// watermark before it reads (`Partition.fetchRecords`).
    is_exact: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// An empty ledger of a topic with so many partitions. `is_exact` says whether high watermarks are told as they were
    /// when the records were read.
    #[must_use]
    pub fn new(partitions: i32, is_exact: bool) -> Self {
        let partitions = (0..partitions).map(|_| Mutex::default()).collect();
        Self { partitions, leaders: Mutex::default(), is_exact }
    }

    fn of(&self, partition: i32) -> MutexGuard<'_, Seen> {
        lock(&self.partitions[usize::try_from(partition).expect("a partition")])
    }

    /// Notes what a producer was told.
    pub fn acknowledge(&self, acknowledged: Acknowledged) {
        self.of(acknowledged.partition).acknowledged.push(acknowledged);
    }

    /// How many records were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        let records = |seen: &Mutex<Seen>| -> u64 {
            lock(seen).acknowledged.iter().map(|one| u64::try_from(one.records).unwrap_or(0)).sum()
        };
        self.partitions.iter().map(records).sum()
    }

    /// How many records of a partition were read.
    #[must_use]
    pub fn end(&self, partition: i32) -> i64 {
        i64::try_from(self.of(partition).records.len()).expect("an offset")
    }

    /// Takes in what a fetch found: what is new must go on where the partition ended, what is not must be the same.
    /// Gives how many records were compared.
    ///
    /// # Panics
    /// When it is not so.
    pub fn read(&self, partition: i32, from: &str, fetched: &Fetched) -> usize {
        let mut seen = self.of(partition);
        assert_eq!(fetched.log_start_offset, 0, "log start of partition {partition} at {from}");
        for (offset, identity) in &fetched.records {
            let at = usize::try_from(*offset).expect("an offset");
            if let Some(before) = seen.records.get(at) {
                assert_eq!(before, identity, "another record at offset {offset} of {partition} at {from}");
                continue;
            }
            assert_eq!(at, seen.records.len(), "an offset is left out in {partition} at {from}");
            assert!(
                !self.is_exact || *offset < fetched.high_watermark,
                "offset {offset} of {partition} at {from} lies beyond the high watermark {}",
                fetched.high_watermark
            );
            let next = seen.next.entry(identity.producer).or_default();
            assert_eq!(
                identity.count, *next,
                "lost, twice or out of order in {partition} at {from}: {identity:?}"
            );
            *next += 1;
            seen.records.push(*identity);
        }
        fetched.records.len()
    }

    /// Notes who leads, as a broker tells it.
    ///
    /// # Panics
    /// When another one led in the same epoch.
    pub fn leads(&self, partition: i32, epoch: i32, leader: i32) {
        if leader < 0 {
            return;
        }
        let before = *lock(&self.leaders).entry((partition, epoch)).or_insert(leader);
        assert_eq!(before, leader, "two leaders of partition {partition} in epoch {epoch}");
    }

    /// Notes the leaders of all partitions.
    pub fn leaders(&self, partitions: &[Partition]) {
        partitions.iter().for_each(|one| self.leads(one.index, one.leader_epoch, one.leader));
    }

    /// How many elections were seen: epochs of partitions and of the quorum.
    #[must_use]
    pub fn epochs(&self) -> usize {
        lock(&self.leaders).len()
    }

    /// Compares all that was acknowledged with what was read. To be called when all is read.
    ///
    /// # Panics
    /// When an acknowledged record is not there, or not where it was said to be.
    pub fn check(&self) {
        for (partition, seen) in self.partitions.iter().enumerate() {
            let seen = lock(seen);
            for acknowledged in &seen.acknowledged {
                let Acknowledged { base_offset, first, records, .. } = *acknowledged;
                let last = Identity { count: first.count + records - 1, ..first };
                let next = seen.next.get(&first.producer).copied().unwrap_or(0);
                assert!(last.count < next, "lost: {last:?} was acknowledged in {partition}, next is {next}");
                for index in 0..if base_offset < 0 { 0 } else { records } {
                    let offset = usize::try_from(base_offset + i64::from(index)).expect("an offset");
                    let expected = Identity { count: first.count + index, ..first };
                    let found = seen.records.get(offset);
                    assert_eq!(found, Some(&expected), "acknowledged at offset {offset} of {partition}");
                }
            }
        }
    }
}
