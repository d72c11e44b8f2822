//! The store: RocksDB, with one thread that writes. The only module that names RocksDB.
//!
//! - [`key`] spells every persisted key; `rocks` holds the options and why they are so;
//!   `directory` decides whether a data directory is ours.
//! - [`Ops`] are changes that are written together. [`Store::commit`] queues them, in order, and
//!   returns at once. The writer thread takes a round of what is queued, joins what neighbours
//!   ([`Ops::extent`]), keeps the last of several values of one key, and writes it all in one
//!   atomic step: group commit, which costs an idle store no latency. It syncs when one of the
//!   round's commits asks for [`Durability::Disk`]. A round is what fits a processor's cache, or
//!   more where partitions have little each; with a sync it is all that came meanwhile, within
//!   a bound, so that many producers share the cost of one.
//! - A [`Gathering`] keeps what is committed in the queue until the requests that came in together
//!   have all been looked at, and then one of them writes the round, without waking a thread.
//! - After a failed write nothing is written until everything in memory was read from the store
//!   again: it may be ahead of what is stored, and a later write that succeeded would leave a hole.
//!   Reads go on. `room` watches the free space, so that writes are refused before one fails, and
//!   begins again after a failure.
//! - `extents` reads record batches back. Extents that were read are kept in memory for a while; the
//!   writer forgets those of a partition whenever extents of it are changed or deleted other than
//!   by an append.
//! - Back-pressure: `commit` never blocks, as its callers hold locks or run on the runtime's
//!   threads. [`Store::admit`] waits until less than [`QUEUE_BYTES`] are queued; whoever takes
//!   bytes from outside awaits it first. The queue can exceed the bound by one request of each
//!   connection, and those are bounded by the listener.

mod directory;
mod extents;
mod gather;
pub mod key;
mod ops;
#[cfg(test)]
mod power;
mod rocks;
mod room;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::error::StorageError;
use crate::types::{NodeId, Offset, PartitionId};
pub use directory::MetaProperties;
pub use extents::Extents;
pub use gather::Gathering;
pub use key::{Key, KeyPrefix};
pub use ops::Ops;
use rocks::Rocks;
use room::Watch;
pub use room::{Purpose, Recovery};
use writer::Writer;

/// How many bytes may wait for the writer before [`Store::admit`] holds callers back.
pub const QUEUE_BYTES: usize = 64 << 20;

/// What a store is opened with.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// The broker that the directory belongs to.
    pub node_id: NodeId,
    /// The cluster that the directory must belong to; `None` takes what it belongs to, and a
    /// random one for a new directory.
    pub cluster_id: Option<String>,
}

/// How safe a write must be before it completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Survives the end of this process, however it ends.
    Process,
    /// Survives the loss of power.
    Disk,
}

/// The store of one data directory. Clones are the same store; it is closed with the last one.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    directory: PathBuf,
    properties: MetaProperties,
    rocks: Arc<Rocks>,
    /// Before the writer, so that it stops first.
    watch: Watch,
    writer: Arc<Writer>,
}

impl Store {
    /// Who a directory belongs to; `None` where it is new.
    ///
    /// # Errors
    /// One clear sentence, where it can not be told.
    pub fn owner(directory: &Path) -> Result<Option<MetaProperties>, StorageError> {
        directory::owner(directory)
    }

    /// Makes an empty or missing directory ours before it is opened for the first time.
    ///
    /// # Errors
    /// One clear sentence; nothing was changed then.
    pub fn format(directory: &Path, properties: &MetaProperties) -> Result<(), StorageError> {
        directory::format(directory, properties)
    }

    /// Opens the store in a directory, creating it if the directory is empty or missing.
    ///
    /// # Errors
    /// One clear sentence; nothing was changed then.
    pub fn open(directory: &Path, options: &StoreOptions) -> Result<Self, StorageError> {
        let properties = directory::claim(directory, options)?;
        let rocks = Arc::new(Rocks::open(directory, &directory::store_path(directory))?);
        let writer = Arc::new(Writer::start(Arc::clone(&rocks))?);
        let watch = Watch::start(directory.to_owned(), Arc::clone(&rocks), Arc::clone(&writer))?;
        let shared = Shared { directory: directory.to_owned(), properties, rocks, watch, writer };
        let store = Self { shared: Arc::new(shared) };
        store.check_properties()?;
        Ok(store)
    }

    /// Compares what the directory says about itself with what the store says.
    fn check_properties(&self) -> Result<(), StorageError> {
        let stated = Bytes::from(self.shared.properties.render());
        match self.get(&Key::MetaProperties)? {
            Some(stored) if stored == stated => Ok(()),
            Some(_) => Err(StorageError::Mismatch {
                directory: self.shared.directory.clone(),
                problem: "has a meta.properties file that is not its own: undo the change of that file"
                    .to_owned(),
            }),
            None => {
                let mut ops = Ops::new();
                ops.put(&Key::MetaProperties, stated);
                self.commit_blocking(ops, Durability::Disk)
            }
        }
    }

    /// Who the directory belongs to.
    pub fn properties(&self) -> &MetaProperties {
        &self.shared.properties
    }

    /// The data directory.
    pub fn directory(&self) -> &Path {
        &self.shared.directory
    }

    /// The value of a key.
    ///
    /// # Errors
    /// When it can not be read.
    pub fn get(&self, key: &Key) -> Result<Option<Bytes>, StorageError> {
        self.shared.rocks.get(&key.encode())
    }

    /// Every key with this prefix, in order, as of now. Not for [`Key::Extent`]s, whose values are
    /// large: see [`Self::extents`].
    pub fn scan(&self, prefix: &KeyPrefix) -> impl Iterator<Item = Result<(Key, Bytes), StorageError>> {
        self.scan_range(prefix.encode(), prefix.end())
    }

    /// Every key from `from` on that has this prefix, in order, as of now.
    pub fn scan_from(
        &self,
        from: &Key,
        prefix: &KeyPrefix,
    ) -> impl Iterator<Item = Result<(Key, Bytes), StorageError>> {
        self.scan_range(from.encode(), prefix.end())
    }

    fn scan_range(
        &self,
        from: Vec<u8>,
        end: Vec<u8>,
    ) -> impl Iterator<Item = Result<(Key, Bytes), StorageError>> {
        self.shared.rocks.scan(from, end).map(|item| {
            let (key, value) = item?;
            let key =
                Key::decode(&key).ok_or_else(|| StorageError::Damaged(format!("unknown key {key:02x?}")))?;
            Ok((key, value))
        })
    }

    /// The extents of a partition, from the one that holds `offset` on, as of now.
    pub fn extents(&self, partition: PartitionId, offset: Offset) -> Extents<'_> {
        Extents::new(&self.shared.rocks, partition, offset)
    }

    /// The last extent that starts at or before an offset, of those that were read lately: from memory. Whoever asks
    /// has to see whether it reaches so far.
    pub fn kept_extent(&self, partition: PartitionId, offset: Offset) -> Option<Bytes> {
        self.shared.rocks.kept_extents().at(partition, offset)
    }

    /// The extents of a partition that start behind `offset`, as of now.
    pub fn extents_after(&self, partition: PartitionId, offset: Offset) -> Extents<'_> {
        Extents::after(&self.shared.rocks, partition, offset)
    }

    /// Queues changes behind all earlier ones.
    pub fn commit(&self, ops: Ops, durability: Durability) -> Committed {
        let (sender, receiver) = oneshot::channel();
        self.commit_then(ops, durability, move |result| {
            // Whoever gave up waiting does not hear of it.
            let _ = sender.send(result);
        });
        Committed { receiver }
    }

    /// The same, with a function that the writer calls when they are stored, or can not be. The
    /// functions are called in the order of the commits. They must be quick. On a closed store
    /// the function is dropped without a call.
    pub fn commit_then(
        &self,
        ops: Ops,
        durability: Durability,
        then: impl FnOnce(Result<(), StorageError>) + Send + 'static,
    ) {
        self.shared.writer.push(ops, durability, Box::new(then));
    }

    /// Queues changes and blocks until they are stored: for rare changes only, and never while
    /// holding a lock that a completion takes.
    ///
    /// # Errors
    /// When they can not be written.
    pub fn commit_blocking(&self, ops: Ops, durability: Durability) -> Result<(), StorageError> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.commit_then(ops, durability, move |result| {
            let _ = sender.send(result);
        });
        receiver.recv().unwrap_or_else(|_| Err(closed()))
    }

    /// Waits until the queue has room; see the module's chapter.
    pub async fn admit(&self) {
        self.shared.writer.admit().await;
    }

    /// Keeps what is committed from now on in the queue until the gathering is written or dropped.
    pub fn gather(&self) -> Gathering {
        Gathering::begin(&self.shared)
    }

    /// Why nothing is written for this purpose now, if so: there is too little room, or a write has failed. Asked
    /// before anything in memory changes.
    pub fn refusal(&self, purpose: Purpose) -> Option<StorageError> {
        self.shared.watch.room.refusal(purpose, &self.shared.writer)
    }

    /// Has `recovery` called when writes begin again after a failed one.
    pub fn on_recovery(&self, recovery: Weak<dyn Recovery>) {
        self.shared.watch.room.set_recovery(recovery);
    }

    /// Why nothing can be written, if a write has failed.
    pub fn failure(&self) -> Option<StorageError> {
        self.shared.writer.failure()
    }

    /// Gives back the space of extents that were deleted. Rewrites keys, and record batches only
    /// where little is alive among much that is not. Blocks.
    ///
    /// # Errors
    /// When it can not be done; what was deleted stays deleted.
    pub fn reclaim(&self) -> Result<(), StorageError> {
        self.shared.rocks.reclaim()
    }

    /// Stores everything that is queued and moves it out of the write-ahead log, so that the next
    /// start has nothing to replay. Later commits fail. Blocks.
    ///
    /// # Errors
    /// When it can not be written.
    pub fn close(&self) -> Result<(), StorageError> {
        self.shared.writer.stop();
        self.shared.rocks.flush()
    }

    /// Makes every later write fail as if the disk refused it, or no longer.
    #[cfg(test)]
    pub(crate) fn fail_writes(&self, fail: bool) {
        self.shared.rocks.fail_writes(fail);
    }

    /// How many writes were synced.
    #[cfg(test)]
    pub(crate) fn syncs(&self) -> u64 {
        self.shared.rocks.syncs()
    }

    /// Has the store believe that so many bytes are free on its disk.
    #[cfg(test)]
    pub(crate) fn pretend_free(&self, bytes: u64) {
        self.shared.watch.room.pretend_free(bytes);
    }
}

fn closed() -> StorageError {
    StorageError::Write("it is closed".to_owned())
}

/// A write on its way. It happens whether or not this is awaited.
#[derive(Debug)]
pub struct Committed {
    receiver: oneshot::Receiver<Result<(), StorageError>>,
}

impl Future for Committed {
    type Output = Result<(), StorageError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let received = ready!(Pin::new(&mut self.receiver).poll(context));
        Poll::Ready(received.unwrap_or_else(|_| Err(closed())))
    }
}
