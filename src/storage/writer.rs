//! Writes: takes what is queued, joins it, writes it in one step.
//!
//! One round is written at a time, in the order of the queue. The writer thread does it, except for a small round that
//! a [`Gathering`](super::Gathering) writes where it is: to wake a thread and to be woken by it costs several times
//! what the write of a small batch does.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::Notify;

use super::key::Key;
use super::ops::{ExtentOp, Op};
use super::rocks::{Batch, Rocks};
use super::{Durability, Ops, QUEUE_BYTES, closed};
use crate::error::StorageError;
use crate::types::{Offset, PartitionId, TimestampMs};

/// How many bytes a round takes where its extents are large without more. Its bytes are gone through several times:
/// joined, checksummed, written to the log, put into the memtable. So they should stay in a processor's own cache.
const ROUND_BYTES: usize = 512 << 10;
/// How large extents should get before a round is full: each costs a few microseconds, whatever it holds.
const JOINED_BYTES: usize = 64 << 10;
/// How many bytes a round takes at most: where many partitions get little each, or it is synced, which costs the same
/// for any number of bytes. Small enough to keep the queue behind it moving.
const ROUND_BYTES_MAX: usize = 8 << 20;
/// A gathering leaves more than this to the writer thread, which can work on it while requests come in.
const GATHERED_BYTES_MAX: usize = 32 << 10;
/// How large joined extents get. One that is read is read whole, so this bounds what a read of
/// one small batch costs.
const EXTENT_BYTES: usize = 1 << 20;

/// What a batch has beside its entries, and what it has for an extent beside the bytes: two keys, their lengths, an
/// offset.
const BATCH_OVERHEAD_BYTES: usize = 32;
const EXTENT_OVERHEAD_BYTES: usize = 80;

type Then = Box<dyn FnOnce(Result<(), StorageError>) + Send>;

struct Commit {
    ops: Ops,
    durability: Durability,
    then: Then,
}

#[derive(Default)]
struct Queue {
    commits: VecDeque<Commit>,
    /// The bytes of what is queued and of the round that is being written.
    bytes: usize,
    /// How many gatherings will look at what is queued.
    gatherings: usize,
    /// Whether a round is being written.
    is_writing: bool,
    stopping: bool,
    failure: Option<StorageError>,
    /// Whether the failure is one of klamm, from which it does not recover.
    is_broken: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    rocks: Arc<Rocks>,
    desk: Mutex<Desk>,
    /// Whether there is a failure, to be looked at without the lock.
    has_failed: AtomicBool,
    work: Condvar,
    /// Notified when a round was taken after a failure.
    drained: Condvar,
    room: Notify,
}

/// What a round is prepared on: kept, so that its memory is.
#[derive(Default)]
struct Desk {
    round: Round,
    completions: Vec<Then>,
}

/// The handle of the writer thread. Stops it when dropped, after everything queued is written.
pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn start(rocks: Arc<Rocks>) -> Result<Self, StorageError> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            rocks,
            desk: Mutex::default(),
            has_failed: AtomicBool::new(false),
            work: Condvar::new(),
            drained: Condvar::new(),
            room: Notify::new(),
        });
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("klamm-writer".to_owned())
            .spawn(move || run(&for_thread))
            .map_err(|error| StorageError::Write(format!("no thread for the writer: {error}")))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn push(&self, ops: Ops, durability: Durability, then: Then) {
        let mut queue = self.shared.queue.lock();
        if queue.stopping {
            // Not called, but dropped: callers hold locks that it may take.
            return;
        }
        queue.bytes += ops.bytes;
        queue.commits.push_back(Commit { ops, durability, then });
        let is_gathered = queue.gatherings > 0;
        drop(queue);
        if !is_gathered {
            self.shared.work.notify_one();
        }
    }

    /// From now until [`Self::end_gathering`], what is queued stays in the queue.
    pub(super) fn begin_gathering(&self) {
        self.shared.queue.lock().gatherings += 1;
    }

    /// Whether more is queued than a gathering writes.
    pub(super) fn has_much(&self) -> bool {
        self.shared.queue.lock().bytes > GATHERED_BYTES_MAX
    }

    /// Has what is queued written: here, if `may_write` and it is little and nobody writes, by the thread otherwise.
    pub(super) fn end_gathering(&self, may_write: bool) {
        let mut queue = self.shared.queue.lock();
        queue.gatherings -= 1;
        if queue.commits.is_empty() || queue.is_writing {
            // Whoever writes looks at the queue when he is done.
            return;
        }
        let is_small = may_write
            && queue.bytes <= GATHERED_BYTES_MAX
            && queue.commits.iter().all(|commit| commit.durability == Durability::Process);
        if !is_small {
            drop(queue);
            self.shared.work.notify_one();
            return;
        }
        let queue = write_round(&self.shared, queue);
        let has_more = queue.gatherings == 0 && !queue.commits.is_empty() || queue.stopping;
        drop(queue);
        if has_more {
            self.shared.work.notify_one();
        }
    }

    pub(super) async fn admit(&self) {
        loop {
            let room = self.shared.room.notified();
            tokio::pin!(room);
            // Registered before the look at the queue, so that no notification is missed.
            room.as_mut().enable();
            if self.shared.queue.lock().bytes < QUEUE_BYTES {
                return;
            }
            room.await;
        }
    }

    pub(super) fn failure(&self) -> Option<StorageError> {
        if !self.shared.has_failed.load(Ordering::Acquire) {
            return None;
        }
        self.shared.queue.lock().failure.clone()
    }

    /// Takes writes again after a failure. What is queued was decided before, and still fails.
    pub(super) fn begin_again(&self) {
        let mut queue = self.shared.queue.lock();
        while !queue.commits.is_empty() && !queue.stopping {
            self.shared.drained.wait(&mut queue);
        }
        if !queue.stopping && !queue.is_broken {
            queue.failure = None;
            self.shared.has_failed.store(false, Ordering::Release);
        }
    }

    /// Whether a round is being written. It still is when its completions are called.
    #[cfg(test)]
    pub(super) fn is_writing(&self) -> bool {
        self.shared.queue.lock().is_writing
    }

    /// Refuses later commits, and blocks until the earlier ones are written.
    pub(super) fn stop(&self) {
        self.shared.queue.lock().stopping = true;
        self.shared.work.notify_one();
        let Some(thread) = self.thread.lock().take() else { return };
        // A completion may hold the last handle; the thread can not wait for itself.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("the writer thread panicked");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// When the thread ends, however it does: nobody waits for a writer that is not there.
struct LastWill<'a>(&'a Shared);

impl Drop for LastWill<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.stopping = true;
        queue.failure.get_or_insert_with(closed);
        self.0.has_failed.store(true, Ordering::Release);
        // Dropped without a call, as for commits that come later.
        let dropped = std::mem::take(&mut queue.commits);
        queue.bytes = 0;
        drop(queue);
        drop(dropped);
        self.0.room.notify_waiters();
        self.0.drained.notify_all();
    }
}

fn run(shared: &Shared) {
    let _last_will = LastWill(shared);
    let mut queue = shared.queue.lock();
    loop {
        while queue.commits.is_empty() || queue.is_writing {
            if queue.stopping && !queue.is_writing {
                return;
            }
            shared.work.wait(&mut queue);
        }
        queue = write_round(shared, queue);
    }
}

/// While a round is written. Where that panics, a part of the order is lost: nothing may be written after it.
struct Writing<'a>(&'a Shared);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut queue = self.0.queue.lock();
            queue.is_writing = false;
            queue.is_broken = true;
            queue.failure.get_or_insert_with(closed);
            self.0.has_failed.store(true, Ordering::Release);
            drop(queue);
            self.0.work.notify_one();
        }
    }
}

/// Writes one round of what is queued, and answers those who wait for it.
fn write_round<'a>(shared: &'a Shared, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
    let _writing = Writing(shared);
    queue.is_writing = true;
    let mut desk = shared.desk.lock();
    let Desk { round, completions } = &mut *desk;
    let (durability, bytes, failure) = take(&mut queue, round, completions);
    drop(queue);
    let result = match failure {
        Some(failure) => {
            round.clear();
            shared.drained.notify_all();
            Err(failure)
        }
        None => shared.rocks.write(round.render(), durability).inspect_err(|error| {
            tracing::error!(%error, "a write failed; nothing is written until the store can be");
            shared.queue.lock().failure = Some(error.clone());
            shared.has_failed.store(true, Ordering::Release);
        }),
    };
    // Also where the write failed: nobody knows how far it came.
    for partition in round.rewritten.drain(..) {
        shared.rocks.kept_extents().forget(partition);
    }
    for then in completions.drain(..) {
        then(result.clone());
    }
    drop(desk);
    let mut queue = shared.queue.lock();
    let before = queue.bytes;
    queue.bytes -= bytes;
    queue.is_writing = false;
    if before >= QUEUE_BYTES && queue.bytes < QUEUE_BYTES {
        shared.room.notify_waiters();
    }
    queue
}

/// Moves commits from the queue into a round.
fn take(
    queue: &mut Queue,
    round: &mut Round,
    completions: &mut Vec<Then>,
) -> (Durability, usize, Option<StorageError>) {
    let mut durability = Durability::Process;
    let mut bytes = 0;
    while let Some(commit) = queue.commits.front() {
        let with_next = bytes + commit.ops.bytes;
        let is_enough = durability == Durability::Process
            && with_next > ROUND_BYTES
            && bytes >= round.extent_count() * JOINED_BYTES;
        if bytes > 0 && (is_enough || with_next > ROUND_BYTES_MAX) {
            break;
        }
        let Some(commit) = queue.commits.pop_front() else { break };
        bytes += commit.ops.bytes;
        durability = durability.max(commit.durability);
        round.rewritten.extend(commit.ops.rewritten);
        commit.ops.list.into_iter().for_each(|op| round.add(op));
        completions.push(commit.then);
    }
    (durability, bytes, queue.failure.clone())
}

/// What one round writes, joined as it comes in.
#[derive(Default)]
struct Round {
    /// In order; `None` where a later value of the same key took its place.
    changes: Vec<Option<Op>>,
    /// Where the last change of a key stands.
    last: HashMap<Vec<u8>, usize>,
    /// The extents of a partition that are still growing.
    growing: HashMap<PartitionId, Growing>,
    extents: Vec<Growing>,
    /// Partitions of which extents are changed or deleted.
    rewritten: Vec<PartitionId>,
    scratch: Vec<u8>,
}

struct Growing {
    partition: PartitionId,
    base_offset: Offset,
    parts: Vec<Bytes>,
    bytes: usize,
    grown_to: Option<TimestampMs>,
    /// The number of changes that come before it.
    after: usize,
}

impl Round {
    fn clear(&mut self) {
        self.changes.clear();
        self.last.clear();
        self.growing.clear();
        self.extents.clear();
    }

    fn extent_count(&self) -> usize {
        self.growing.len() + self.extents.len()
    }

    fn add(&mut self, op: Op) {
        match &op {
            Op::Put { key, .. } | Op::Delete { key } => {
                let at = self.changes.len();
                if let Some(earlier) = self.last.insert(key.clone(), at) {
                    self.changes[earlier] = None;
                }
                self.changes.push(Some(op));
            }
            Op::DeleteRange { .. } => {
                // What was appended before must be written before, or it would survive.
                self.extents.extend(self.growing.drain().map(|(_, extent)| extent));
                self.changes.push(Some(op));
            }
            Op::Extent(_) => {
                if let Op::Extent(extent) = op {
                    self.grow(extent);
                }
            }
        }
    }

    fn grow(&mut self, op: ExtentOp) {
        let ExtentOp { partition, base_offset, batches, grown_to } = op;
        let after = self.changes.len();
        let bytes = batches.len();
        match self.growing.get_mut(&partition) {
            Some(extent) if extent.bytes + bytes <= EXTENT_BYTES => {
                extent.bytes += bytes;
                extent.parts.push(batches);
                extent.grown_to = grown_to.or(extent.grown_to);
            }
            _ => {
                let parts = vec![batches];
                let new = Growing { partition, base_offset, parts, bytes, grown_to, after };
                self.extents.extend(self.growing.insert(partition, new));
            }
        }
    }

    /// The batch to write. Leaves the round empty.
    fn render(&mut self) -> Batch {
        self.extents.extend(self.growing.drain().map(|(_, extent)| extent));
        // Extents stand where their partition's range deletes expect them: before later ones and
        // behind earlier ones.
        self.extents.sort_by_key(|extent| (extent.after, extent.partition, extent.base_offset));
        self.last.clear();
        let changes = self.changes.iter().flatten().map(Op::bytes);
        let extents = self.extents.iter().map(|extent| extent.bytes + EXTENT_OVERHEAD_BYTES);
        // As large as it gets: to grow is to copy.
        let mut batch =
            Batch::with_capacity_bytes(BATCH_OVERHEAD_BYTES + changes.chain(extents).sum::<usize>());
        let mut extents = self.extents.drain(..).peekable();
        for (index, change) in self.changes.drain(..).enumerate() {
            while let Some(extent) = extents.next_if(|extent| extent.after <= index) {
                put_extent(&mut batch, extent, &mut self.scratch);
            }
            match change {
                Some(Op::Put { key, value }) => batch.put(&key, &value),
                Some(Op::Delete { key }) => batch.delete(&key),
                Some(Op::DeleteRange { from, to }) => batch.delete_range(&from, &to),
                Some(Op::Extent(_)) | None => {}
            }
        }
        for extent in extents {
            put_extent(&mut batch, extent, &mut self.scratch);
        }
        batch
    }
}

fn put_extent(batch: &mut Batch, extent: Growing, scratch: &mut Vec<u8>) {
    let Growing { partition, base_offset, parts, grown_to, .. } = extent;
    let key = Key::Extent { partition, base_offset }.encode();
    match parts.as_slice() {
        [part] => batch.put(&key, part),
        parts => {
            scratch.clear();
            parts.iter().for_each(|part| scratch.extend_from_slice(part));
            batch.put(&key, scratch);
        }
    }
    if let Some(timestamp) = grown_to {
        let key = Key::TimeIndex { partition, timestamp }.encode();
        batch.put(&key, base_offset.to_be_bytes());
    }
}
