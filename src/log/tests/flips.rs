//! Flipped bytes in the files of a store: an error, or the records as they were.

use std::fs;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::error::ErrorCode;
use crate::testing;

/// How many bytes are flipped in each kind of file, each in a copy of the files.
const FLIPS: u32 = 12;

fn copy_of(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_of(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What became of one flipped byte.
#[derive(Debug, Default)]
struct Outcomes {
    refused: usize,
    unharmed: usize,
    errors_at_some_offsets: usize,
    /// A damaged log file counts up to the damage.
    shorter: usize,
}

impl Outcomes {
    /// Opens a damaged copy, and compares what it answers with what was written.
    fn look(&mut self, directory: &Path, written: &[Bytes], is_log_file: bool) {
        let options = StoreOptions { node_id: 1, cluster_id: None };
        let store = Store::open(directory, &options);
        let clock = Clock::virtual_at(NOW_MS);
        let Ok(logs) = store.and_then(|store| LogManager::open(store, clock, LogSettings::default())) else {
            self.refused += 1;
            return;
        };
        let Some(partition) = logs.get(TOPIC_ID, 0) else {
            assert!(is_log_file, "the partition is gone");
            self.shorter += 1;
            return;
        };
        let end = usize::try_from(partition.offsets().log_end).unwrap();
        assert!(end == written.len() || is_log_file && end < written.len(), "the log ends at {end}");
        let mut errors = 0;
        for (offset, expected) in written.iter().enumerate().take(end) {
            match partition.read(i64::try_from(offset).unwrap(), 1, true, ReadUpTo::HighWatermark) {
                Ok(read) => assert_eq!(read.batches.concat(), expected[..], "other bytes at {offset}"),
                Err(error) => {
                    assert_eq!(error.code, ErrorCode::KafkaStorageError);
                    errors += 1;
                }
            }
        }
        match (end < written.len(), errors) {
            (true, _) => self.shorter += 1,
            (false, 0) => self.unharmed += 1,
            (false, _) => self.errors_at_some_offsets += 1,
        }
    }
}

/// A byte of some file of the store is not what it was: an error, or the records as they were; never others.
#[tokio::test]
async fn flipped_bytes_on_the_disk_are_never_read_as_records() {
    let mut world = World::new();
    let partition = world.partition();
    let random = &mut StdRng::seed_from_u64(testing::seed());
    let mut written = Vec::new();
    for round in 0..30_i64 {
        // Some are stored with their keys, others in blob files.
        let value = vec![u8::try_from(round).unwrap(); if round % 3 == 0 { 20 } else { 5_000 }];
        let batch = BatchBuilder::new().record(NOW_MS + round, None, Some(&value)).build();
        append(&partition, batch).await;
        written.push(read_all(&partition, round)[0].bytes().clone());
    }
    world.logs().store().close().unwrap();
    drop(partition);
    world.reopen();
    let partition = world.partition();
    // These are in a log file only.
    for round in 30..40_i64 {
        let batch = BatchBuilder::new().record(NOW_MS + round, None, Some(&[7; 900])).build();
        append(&partition, batch).await;
        written.push(read_all(&partition, round)[0].bytes().clone());
    }
    drop(partition);
    world.logs = None;
    let store = world.directory.path().join("store");
    let names = fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    for kind in [".blob", ".sst", ".log"] {
        let mut outcomes = Outcomes::default();
        let files: Vec<_> = names.iter().filter(|name| name.ends_with(kind)).collect();
        assert!(!files.is_empty(), "no {kind} among {names:?}");
        for _ in 0..FLIPS * testing::times() {
            let copy = tempfile::tempdir().unwrap();
            copy_of(world.directory.path(), copy.path());
            let victim = copy.path().join("store").join(files[random.random_range(0..files.len())]);
            let mut bytes = fs::read(&victim).unwrap();
            if bytes.is_empty() {
                continue;
            }
            let at = random.random_range(0..bytes.len());
            bytes[at] ^= 1 << random.random_range(0..8);
            fs::write(&victim, bytes).unwrap();
            outcomes.look(copy.path(), &written, kind == ".log");
        }
        eprintln!("flipped bytes in {kind} files: {outcomes:?}");
    }
}
