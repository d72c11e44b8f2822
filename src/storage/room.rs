//! Room on the disk: writes are refused in time, and begin again when they can.
//!
//! One thread looks at the free space of the file system. Below a reserve the store refuses what clients
//! produce, and below half of it what coordinators write; the metadata log and deletions may use the rest,
//! as they are what makes room. What is refused here was given no offset and changed nothing.
//!
//! A write can fail all the same: another process takes the last byte, or the disk breaks. Then nothing is
//! written any more, as what is in memory is ahead of what is stored. The thread tries the store, which
//! RocksDB opens again when there is room; when a write succeeds, whoever keeps state in memory is
//! [told](Recovery) to read it from the store, and writes are taken again. Other errors than a full
//! disk stay until the next start: RocksDB does not write to a disk that failed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::Durability;
use super::key::Key;
use super::rocks::{Batch, Rocks};
use super::writer::Writer;
use crate::error::StorageError;

/// The reserve is this part of the file system, and not more than that: memtables that wait for their flush, and
/// what metadata and deletions need.
const RESERVE_PART: u64 = 20;
const RESERVE_BYTES_MAX: u64 = 256 << 20;
/// With this much more than the reserve there is no hurry.
const PLENTY: u64 = 8;
const LOOK_SELDOM: Duration = Duration::from_secs(1);
const LOOK_OFTEN: Duration = Duration::from_millis(100);
/// Why nothing is refused, unless it is known better.
const UNKNOWN: u64 = u64::MAX;

/// What a write is for, which decides when it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Records of clients: refused first.
    Records,
    /// The state of coordinators, compaction.
    State,
    /// Metadata and deletions: only refused when a write has failed.
    Metadata,
}

impl Purpose {
    /// The level from which on it is refused.
    fn refused_from(self) -> u8 {
        match self {
            Self::Records => LOW,
            Self::State => VERY_LOW,
            Self::Metadata => FAILED,
        }
    }
}

const OPEN: u8 = 0;
const LOW: u8 = 1;
const VERY_LOW: u8 = 2;
const FAILED: u8 = 3;

/// Whoever keeps state in memory that follows the store.
pub trait Recovery: Send + Sync {
    /// A write failed, and the store can be written again: what is in memory may be ahead of the store, which
    /// nobody writes to meanwhile, and has to be read from it.
    ///
    /// # Errors
    /// When it can not be read; it is tried again then.
    fn recover(&self) -> Result<(), StorageError>;
}

/// What the thread and everyone else share.
pub(super) struct Room {
    level: AtomicU8,
    /// Bytes that are free, and how many of them are the reserve.
    free: AtomicU64,
    reserve: AtomicU64,
    recovery: Mutex<Option<Weak<dyn Recovery>>>,
    stopping: Mutex<bool>,
    wake: Condvar,
    /// Set by tests: bytes that are said to be free.
    #[cfg(test)]
    pretended: AtomicU64,
}

impl Room {
    /// Why a write for this purpose is refused, if it is.
    pub(super) fn refusal(&self, purpose: Purpose, writer: &Writer) -> Option<StorageError> {
        let level = self.level.load(Ordering::Acquire);
        if level < purpose.refused_from() {
            return writer.failure();
        }
        writer.failure().or_else(|| {
            let (free, reserve) = (self.free.load(Ordering::Relaxed), self.reserve.load(Ordering::Relaxed));
            let text = format!("its disk has {free} bytes left, of which {reserve} are a reserve");
            (self.level.load(Ordering::Acquire) >= purpose.refused_from())
                .then_some(StorageError::Write(text))
        })
    }

    pub(super) fn set_recovery(&self, recovery: Weak<dyn Recovery>) {
        *self.recovery.lock() = Some(recovery);
    }

    #[cfg(test)]
    pub(super) fn pretend_free(&self, bytes: u64) {
        self.pretended.store(bytes, Ordering::Relaxed);
        self.wake.notify_all();
    }

    fn look(&self, directory: &Path) {
        let Some((free, size)) = self.space(directory) else { return };
        let reserve = (size / RESERVE_PART).min(RESERVE_BYTES_MAX);
        self.free.store(free, Ordering::Relaxed);
        self.reserve.store(reserve, Ordering::Relaxed);
        let level = match free {
            free if free >= reserve => OPEN,
            free if free >= reserve / 2 => LOW,
            _ => VERY_LOW,
        };
        let before = self.level.swap(level, Ordering::AcqRel);
        if before == OPEN && level > OPEN {
            tracing::error!(
                free,
                reserve,
                "the disk is nearly full: records are refused until there is room"
            );
        } else if before > OPEN && level == OPEN {
            tracing::info!(free, "there is room on the disk again: records are taken");
        }
    }

    /// Free bytes and all bytes of the file system.
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "tests pretend"))]
    fn space(&self, directory: &Path) -> Option<(u64, u64)> {
        let found = rustix::fs::statvfs(directory).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        #[cfg(test)]
        {
            let pretended = self.pretended.load(Ordering::Relaxed);
            if pretended != UNKNOWN {
                return Some((pretended, bytes(found.f_blocks)));
            }
        }
        Some((bytes(found.f_bavail), bytes(found.f_blocks)))
    }

    /// Waits until it is time to look again; `false` when the store closes.
    fn pause(&self, hurry: bool) -> bool {
        let reserve = self.reserve.load(Ordering::Relaxed);
        let plenty = self.free.load(Ordering::Relaxed) / PLENTY > reserve;
        let time = if plenty && !hurry { LOOK_SELDOM } else { LOOK_OFTEN };
        let mut stopping = self.stopping.lock();
        if !*stopping {
            self.wake.wait_for(&mut stopping, time);
        }
        !*stopping
    }
}

/// The thread that looks after the room. Stops when dropped.
pub(super) struct Watch {
    pub(super) room: Arc<Room>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(super) fn start(
        directory: PathBuf,
        rocks: Arc<Rocks>,
        writer: Arc<Writer>,
    ) -> Result<Self, StorageError> {
        let room = Arc::new(Room {
            level: AtomicU8::new(OPEN),
            free: AtomicU64::new(UNKNOWN),
            reserve: AtomicU64::new(0),
            recovery: Mutex::new(None),
            stopping: Mutex::new(false),
            wake: Condvar::new(),
            #[cfg(test)]
            pretended: AtomicU64::new(UNKNOWN),
        });
        room.look(&directory);
        let for_thread = Arc::clone(&room);
        let run = move || {
            let room = for_thread;
            while room.pause(writer.failure().is_some()) {
                room.look(&directory);
                if writer.failure().is_some() {
                    recover(&room, &rocks, &writer);
                }
            }
        };
        let thread = std::thread::Builder::new().name("klamm-room".to_owned()).spawn(run);
        let thread =
            thread.map_err(|error| StorageError::Write(format!("no thread for the room: {error}")))?;
        Ok(Self { room, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        *self.room.stopping.lock() = true;
        self.room.wake.notify_all();
        let Some(thread) = self.thread.take() else { return };
        // A recovery may hold the last handle of the store; the thread can not wait for itself.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("the thread that looks after the room on the disk panicked");
        }
    }
}

/// Takes writes again after a failed one, if that is possible.
fn recover(room: &Room, rocks: &Rocks, writer: &Writer) {
    if !works(rocks) {
        return;
    }
    let recovery = room.recovery.lock().as_ref().and_then(Weak::upgrade);
    match recovery.map_or(Ok(()), |recovery| recovery.recover()) {
        Ok(()) => {
            writer.begin_again();
            tracing::info!("the store is written to again");
        }
        Err(error) => tracing::error!(%error, "what is stored can not be read after a failed write"),
    }
}

/// Whether a write reaches the disk: a key of no meaning is removed.
fn works(rocks: &Rocks) -> bool {
    let mut probe = Batch::new();
    probe.delete(Key::WriteProbe.encode());
    match rocks.write(probe, Durability::Disk) {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(%error, "the store can not be written yet");
            false
        }
    }
}
