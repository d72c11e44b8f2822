//! How the state of a shard is loaded: from the view that is kept beside its log, and from the log behind the view.
//!
//! The view holds the last value of every key, and is written together with each append, so that who has led a
//! partition all the time reads nothing of the log. A follower has the log only; so have who leads after it, and
//! whoever takes over from Apache Kafka. They replay what the view does not cover, and write it into the view. Where
//! the log was cut below the end of the view, there is none, and all of the log is replayed.

use std::sync::Arc;

use bytes::Bytes;
use tracing::info;

use super::{Core, Loaded};
use crate::error::{ErrorCode, StorageError};
use crate::log::batch::BatchView;
use crate::log::{Ops, Partition, ReadUpTo, Watch};
use crate::storage::{Durability, Key, KeyPrefix, Store};
use crate::types::{LeaderEpoch, Offset};

/// How much of the log is replayed before the view is written (`offsets.load.buffer.size` has the same default).
const READ_BYTES: usize = 5 << 20;

/// A journal whose records stand in a partition's log, with a view beside it.
pub trait Materialised<C: Core> {
    /// The partition.
    fn partition(&self) -> &Arc<Partition>;
    /// The epoch in which this broker leads it.
    fn leader_epoch(&self) -> LeaderEpoch;
    /// What the view is kept in.
    fn store(&self) -> &Store;
    /// Every key of the view.
    fn view(&self) -> KeyPrefix;
    /// The state of an empty log.
    fn empty(&self) -> C;
    /// Takes an entry of the view over into the state.
    ///
    /// # Errors
    /// When it can not be understood.
    fn load_entry(&self, core: &mut C, key: &Key, value: Bytes) -> Result<(), StorageError>;
    /// Takes a batch of the log over into the state and into the view.
    ///
    /// # Errors
    /// When it can not be understood.
    fn replay_batch(&self, core: &mut C, batch: &BatchView, view: &mut Ops) -> Result<(), StorageError>;
}

/// Loads the state of a shard. Blocks.
///
/// # Errors
/// When store or log can not be read, or when the partition is led by another broker meanwhile.
pub fn load<C: Core, J: Materialised<C>>(journal: &J) -> Result<Loaded<C>, StorageError> {
    let partition = journal.partition();
    // Behind whatever this broker wrote when it led the partition before.
    journal.store().commit_blocking(Ops::new(), Durability::Process)?;
    let offsets = partition.offsets();
    let mut core = journal.empty();
    let mut view = Ops::new();
    let start = match partition.view_end()? {
        Some(end) => {
            for entry in journal.store().scan(&journal.view()) {
                let (key, value) = entry?;
                journal.load_entry(&mut core, &key, value)?;
            }
            end.max(offsets.log_start)
        }
        None => {
            // What there may be is of a deleted topic of this name, or of a log that was cut.
            view.delete_prefix(&journal.view());
            offsets.log_start
        }
    };
    replay(journal, &mut core, view, start..offsets.log_end)?;
    Ok(loaded(core, partition, journal.leader_epoch(), offsets.log_end))
}

/// Loads the state of a shard that has no view beside its log, because the log stays short. Blocks.
///
/// # Errors
/// When store or log can not be read, or when the partition is led by another broker meanwhile.
pub fn load_log<C: Core>(
    (partition, leader_epoch): (&Arc<Partition>, LeaderEpoch),
    store: &Store,
    read_bytes: usize,
    mut core: C,
    mut replay: impl FnMut(&mut C, &BatchView) -> Result<(), StorageError>,
) -> Result<Loaded<C>, StorageError> {
    // Behind whatever this broker wrote when it led the partition before.
    store.commit_blocking(Ops::new(), Durability::Process)?;
    let offsets = partition.offsets();
    let batches =
        read_log((partition, leader_epoch), read_bytes, offsets.log_start..offsets.log_end, |read| {
            read.batches.iter().try_for_each(|batch| replay(&mut core, batch))
        })?;
    told_of_replay(partition, offsets.log_start..offsets.log_end, batches);
    Ok(loaded(core, partition, leader_epoch, offsets.log_end))
}

fn loaded<C: Core>(
    core: C,
    partition: &Arc<Partition>,
    leader_epoch: LeaderEpoch,
    log_end: Offset,
) -> Loaded<C> {
    let waiting = Arc::clone(partition);
    let is_committed = partition.offsets().high_watermark >= log_end;
    let committed = async move { committed(&waiting, leader_epoch, log_end).await };
    Loaded { core, committed: (!is_committed).then(|| Box::pin(committed) as _) }
}

/// Some of a log.
struct ReadBatches {
    batches: Vec<BatchView>,
    /// Up to where it was read.
    end: Offset,
}

/// Reads a log, some at a time; answers how many batches there were.
fn read_log(
    (partition, leader_epoch): (&Partition, LeaderEpoch),
    bytes: usize,
    range: std::ops::Range<Offset>,
    mut take: impl FnMut(ReadBatches) -> Result<(), StorageError>,
) -> Result<usize, StorageError> {
    let (mut next, mut count) = (range.start, 0);
    while next < range.end {
        if partition.leader_epoch() != leader_epoch || !partition.is_leader() {
            return Err(StorageError::Read(format!("{} is led by another broker", partition.name())));
        }
        let read = partition.read(next, bytes, true, ReadUpTo::LogEnd);
        let read = read.map_err(|error| StorageError::Read(format!("{}: {error}", partition.name())))?;
        let mut some = ReadBatches { batches: Vec::new(), end: next };
        for batch in read.batches.iter().flat_map(BatchView::all) {
            let batch = batch.map_err(|error| damaged(partition, some.end, &error))?;
            let end = batch.last_offset() + 1;
            if end > some.end {
                some.batches.push(batch);
                some.end = end;
            }
        }
        if some.end == next {
            // Compaction took away the last batches.
            some.end = range.end;
        }
        next = some.end;
        count += some.batches.len();
        take(some)?;
    }
    Ok(count)
}

fn replay<C: Core, J: Materialised<C>>(
    journal: &J,
    core: &mut C,
    mut view: Ops,
    range: std::ops::Range<Offset>,
) -> Result<(), StorageError> {
    let (partition, leader_epoch) = (journal.partition(), journal.leader_epoch());
    let batches = read_log((partition, leader_epoch), READ_BYTES, range.clone(), |read| {
        for batch in &read.batches {
            journal.replay_batch(core, batch, &mut view)?;
        }
        partition.save_view(std::mem::take(&mut view), read.end, leader_epoch)
    })?;
    if !view.is_empty() {
        partition.save_view(view, range.end, leader_epoch)?;
    }
    told_of_replay(partition, range, batches);
    Ok(())
}

fn told_of_replay(partition: &Partition, range: std::ops::Range<Offset>, batches: usize) {
    if batches > 0 {
        info!(partition = partition.name(), from = range.start, to = range.end, batches, "replayed the log");
    }
}

/// What a batch that can not be understood is reported with.
pub fn damaged(partition: &Partition, offset: Offset, problem: &dyn std::fmt::Display) -> StorageError {
    StorageError::Damaged(format!("{} at offset {offset}: {problem}", partition.name()))
}

/// Waits until everything below `end` is committed.
///
/// # Errors
/// `NOT_LEADER_OR_FOLLOWER` where the partition is not led in this epoch any more.
pub async fn committed(
    partition: &Partition,
    leader_epoch: LeaderEpoch,
    end: Offset,
) -> Result<(), ErrorCode> {
    let check = || {
        let high_watermark = partition.offsets().high_watermark;
        // Read behind the high watermark, which is another log's where the epoch is another one.
        if partition.leader_epoch() != leader_epoch || !partition.is_leader() || partition.is_deleted() {
            return Some(Err(ErrorCode::NotLeaderOrFollower));
        }
        (high_watermark >= end).then_some(Ok(()))
    };
    if let Some(result) = check() {
        return result;
    }
    let watch = Arc::<Watch>::default();
    partition.watch(&watch, 0);
    loop {
        watch.take();
        if let Some(result) = check() {
            partition.unwatch(&watch);
            return result;
        }
        watch.changed(1).await;
    }
}
