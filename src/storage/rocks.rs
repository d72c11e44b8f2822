//! RocksDB and its options.
//!
//! What they are for, by what was measured: record batches go to blob files, which flushes write
//! once and compaction never rewrites (keys only); memtables are flushed past the page cache,
//! which is the largest saving of all; log files are recycled, so that they are written over pages
//! that exist; nothing is compressed, as clients compress what is worth it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ChecksumType, CompactOptions, DB, DBCompressionType,
    DBRawIterator, Direction, ErrorKind, IteratorMode, LogLevel, Options, ReadOptions, WriteBatch,
    WriteOptions,
};

use super::Durability;
use super::directory::RESTORE;
use super::extents::KeptExtents;
use crate::error::StorageError;

pub(super) type Batch = WriteBatch;
pub(super) type RawIterator<'a> = DBRawIterator<'a>;

/// A memtable: a flush makes a blob file of it. Writes stop while this many wait to be flushed beside the one that is
/// filled, which bounds the memory of a broker under load, and what a start after a crash must replay (about 2.5 s per
/// GB). A third bought nothing: the disk is what flushes wait for.
const MEMTABLE_BYTES: usize = 24 << 20;
const MEMTABLES: i32 = 2;
/// Smaller values stay with their keys: a reference to a blob file has no advantage then.
const MIN_BLOB_BYTES: u64 = 256;
/// Less garbage than this is not worth moving live batches for.
const MIN_GARBAGE_BYTES: u64 = 64 << 20;
const BLOB_FILE_BYTES: u64 = 64 << 20;
/// For index blocks and small values.
const BLOCK_CACHE_BYTES: usize = 8 << 20;
/// Files that stay open, of those that the store has.
const OPEN_FILES: i32 = 512;
/// Files of keys only are small: many of them may wait for compaction before writes must.
const L0_FILES_BEFORE_COMPACTION: i32 = 8;
const L0_FILES_BEFORE_SLOWDOWN: i32 = 400;
const L0_FILES_BEFORE_STOP: i32 = 800;

/// Whether this was compiled for processors that compute CRC32C: RocksDB chooses at compile time,
/// and everything that is written is checksummed (`.cargo/config.toml` asks for it).
pub(super) const HAS_FAST_CHECKSUMS: bool =
    !cfg!(target_arch = "x86_64") || (cfg!(target_feature = "sse4.2") && cfg!(target_feature = "pclmulqdq"));

/// An open database.
pub(super) struct Rocks {
    db: DB,
    kept_extents: KeptExtents,
    /// Set by tests: writes fail.
    refuses: AtomicBool,
    /// How many writes were synced.
    #[cfg(test)]
    syncs: std::sync::atomic::AtomicU64,
}

impl Rocks {
    pub(super) fn open(directory: &Path, path: &Path) -> Result<Self, StorageError> {
        if !HAS_FAST_CHECKSUMS {
            tracing::warn!("built without SSE4.2 and PCLMUL: checksums will cost more than all else");
        }
        Self::open_with(directory, path, |_| {})
    }

    /// The same with some options changed: for tests.
    pub(super) fn open_with(
        directory: &Path,
        path: &Path,
        change: impl FnOnce(&mut Options),
    ) -> Result<Self, StorageError> {
        let mut options = options(direct_io_works(path)).map_err(|error| open_error(directory, &error))?;
        change(&mut options);
        let db = DB::open(&options, path).map_err(|error| open_error(directory, &error))?;
        Ok(Self {
            db,
            kept_extents: KeptExtents::default(),
            refuses: AtomicBool::new(false),
            #[cfg(test)]
            syncs: std::sync::atomic::AtomicU64::new(0),
        })
    }

    /// The extents that were read lately.
    pub(super) fn kept_extents(&self) -> &KeptExtents {
        &self.kept_extents
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let value = self.db.get(key).map_err(|error| read_error(&error))?;
        Ok(value.map(Bytes::from))
    }

    pub(super) fn scan(
        &self,
        from: Vec<u8>,
        end: Vec<u8>,
    ) -> impl Iterator<Item = Result<(Box<[u8]>, Bytes), StorageError>> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(end);
        let mode = IteratorMode::From(&from, Direction::Forward);
        self.db.iterator_opt(mode, options).map(|item| {
            let (key, value) = item.map_err(|error| read_error(&error))?;
            Ok((key, Bytes::from(value)))
        })
    }

    /// An iterator over the extents between two keys. What it reads is not kept in the cache:
    /// values are read once by each consumer.
    pub(super) fn extents(&self, from: Vec<u8>, end: Vec<u8>) -> RawIterator<'_> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(end);
        options.fill_cache(false);
        self.db.raw_iterator_opt(options)
    }

    pub(super) fn write(&self, batch: Batch, durability: Durability) -> Result<(), StorageError> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(StorageError::Write("No space left on device".to_owned()));
        }
        #[cfg(test)]
        if durability == Durability::Disk {
            self.syncs.fetch_add(1, Ordering::Relaxed);
        }
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Disk);
        self.db.write_opt(batch, &options).map_err(|error| write_error(&error))
    }

    pub(super) fn flush(&self) -> Result<(), StorageError> {
        self.db.flush().map_err(|error| write_error(&error))
    }

    /// Compacts the keys, which lets go of blob files in which nothing is alive. Where most of
    /// what is left is garbage that a few live batches hold on to, as when short-lived topics and
    /// long-lived ones share files, those batches are moved out of the older files.
    pub(super) fn reclaim(&self) -> Result<(), StorageError> {
        let unbounded = (None::<&[u8]>, None::<&[u8]>);
        self.db.compact_range(unbounded.0, unbounded.1);
        let bytes = |name: &str| {
            let value = self.db.property_int_value(name).map_err(|error| read_error(&error))?;
            Ok::<_, StorageError>(value.unwrap_or(0))
        };
        let garbage = bytes("rocksdb.live-blob-file-garbage-size")?;
        if garbage < MIN_GARBAGE_BYTES || garbage < bytes("rocksdb.live-blob-file-size")? / 2 {
            return Ok(());
        }
        let set = |value| {
            let options =
                [("enable_blob_garbage_collection", value), ("blob_garbage_collection_age_cutoff", "0.5")];
            self.db.set_options(&options).map_err(|error| write_error(&error))
        };
        set("true")?;
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.db.compact_range_opt(unbounded.0, unbounded.1, &options);
        // Not while writing: every compaction would move batches then.
        set("false")
    }

    /// Waits until nothing is flushed or compacted.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        let running = ["rocksdb.num-running-flushes", "rocksdb.num-running-compactions"];
        let count = |name: &&str| self.db.property_int_value(*name).ok().flatten().unwrap_or(0);
        while running.iter().map(count).sum::<u64>() > 0 || count(&"rocksdb.mem-table-flush-pending") > 0 {
            std::thread::yield_now();
        }
    }

    #[cfg(test)]
    pub(super) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn fail_writes(&self, fail: bool) {
        self.refuses.store(fail, Ordering::Relaxed);
    }
}

fn options(direct_io: bool) -> Result<Options, rocksdb::Error> {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(BLOCK_CACHE_BYTES));
    table.set_cache_index_and_filter_blocks(true);
    table.set_checksum_type(ChecksumType::XXH3);
    // There is no function for it: a log file says how the one before it ended, so that a replay does not go on
    // behind a gap.
    let mut options = Options::default().get_options_from_string("track_and_verify_wals=true")?;
    options.set_block_based_table_factory(&table);
    options.create_if_missing(true);
    options.set_use_direct_io_for_flush_and_compaction(direct_io);
    options.set_recycle_log_file_num(4);
    options.set_write_buffer_size(MEMTABLE_BYTES);
    options.set_max_write_buffer_number(MEMTABLES);
    options.set_compression_type(DBCompressionType::None);
    options.set_enable_blob_files(true);
    options.set_min_blob_size(MIN_BLOB_BYTES);
    options.set_blob_file_size(BLOB_FILE_BYTES);
    options.set_blob_compression_type(DBCompressionType::None);
    options.set_enable_blob_gc(false);
    options.set_level_zero_file_num_compaction_trigger(L0_FILES_BEFORE_COMPACTION);
    options.set_level_zero_slowdown_writes_trigger(L0_FILES_BEFORE_SLOWDOWN);
    options.set_level_zero_stop_writes_trigger(L0_FILES_BEFORE_STOP);
    options.set_max_background_jobs(2);
    options.set_max_open_files(OPEN_FILES);
    // What is read back is read from one end to the other: the system reads ahead then, which halves the cost of it.
    // RocksDB itself does not read ahead in blob files.
    options.set_advise_random_on_open(false);
    options.set_skip_stats_update_on_db_open(true);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    // One thread writes: nothing is gained by preparing for several.
    options.set_allow_concurrent_memtable_write(false);
    options.set_enable_write_thread_adaptive_yield(false);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    Ok(options)
}

/// Whether files below `path` can be opened past the page cache. Some file systems that are
/// used for short-lived directories refuse it, and RocksDB would only find out at the first flush.
#[cfg(target_os = "linux")]
fn direct_io_works(path: &Path) -> bool {
    use std::os::unix::fs::OpenOptionsExt;
    #[cfg(any(target_arch = "x86_64", target_arch = "x86", target_arch = "riscv64"))]
    const O_DIRECT: i32 = 0o40_000;
    #[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "riscv64")))]
    const O_DIRECT: i32 = 0o200_000;

    let probe = path.join("direct-io-probe");
    let opened = std::fs::create_dir_all(path).and_then(|()| {
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(O_DIRECT)
            .open(&probe)
    });
    // It may be left behind where the directory became read-only meanwhile; it is empty.
    let _ = std::fs::remove_file(&probe);
    opened.is_ok()
}

/// Elsewhere RocksDB asks for it in another way, which every file system takes.
#[cfg(not(target_os = "linux"))]
fn direct_io_works(_path: &Path) -> bool {
    true
}

fn open_error(directory: &Path, error: &rocksdb::Error) -> StorageError {
    let text = error.to_string();
    if text.contains("lock") && (text.contains("LOCK") || text.contains("hold by current process")) {
        return StorageError::Locked { directory: directory.to_owned() };
    }
    let means_damage = [ErrorKind::Corruption, ErrorKind::InvalidArgument, ErrorKind::NotFound];
    if means_damage.contains(&error.kind()) || text.contains("No such file") {
        StorageError::Damaged(format!("{} ({}); {RESTORE}", text.trim_end(), directory.display()))
    } else {
        StorageError::Read(text)
    }
}

/// A read error: what RocksDB finds damaged is named so, as only a restore helps.
pub(super) fn read_error(error: &rocksdb::Error) -> StorageError {
    let text = error.to_string();
    if error.kind() == ErrorKind::Corruption || text.contains("No such file") {
        StorageError::Damaged(text)
    } else {
        StorageError::Read(text)
    }
}

fn write_error(error: &rocksdb::Error) -> StorageError {
    StorageError::Write(error.to_string())
}
