//! The loss of power, played with the files of a store: what was synced stays, and of the rest each page of a log file
//! is as new as the moment, as old as the last sync, or gone. Then the store is opened again.
//!
//! Tables, blob files and the manifest are taken as RocksDB leaves them: it syncs each before the next one names it.
//! `make properties` plays more.
#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::Durability;
use super::rocks::{Batch, Rocks};
use crate::testing;

/// How many stores lose their power, several times each.
const RUNS: u64 = 8;
const PAGE: usize = 4096;
const KEYS: u32 = 200;
/// Small, so that a few hundred rounds fill several memtables.
const MEMTABLE_BYTES: usize = 64 << 10;

/// The files of a store at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Image(BTreeMap<String, File>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    inode: u64,
    bytes: Vec<u8>,
}

impl Image {
    /// The files of an open store, all of one moment: RocksDB flushes and removes files when it finds the time.
    fn take(rocks: &Rocks, path: &Path) -> Self {
        let mut before = Self::default();
        loop {
            rocks.settle();
            let image = Self::read(path);
            if image == before {
                return image;
            }
            before = image;
        }
    }

    fn read(path: &Path) -> Self {
        let mut image = Self::default();
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            if let (Ok(metadata), Ok(bytes)) = (entry.metadata(), fs::read(entry.path())) {
                let name = entry.file_name().to_string_lossy().into_owned();
                image.0.insert(name, File { inode: metadata.ino(), bytes });
            }
        }
        image
    }

    fn inode(&self, inode: u64) -> Option<(&String, &File)> {
        self.0.iter().find(|(_, file)| file.inode == inode)
    }

    fn put(&self, path: &Path) {
        fs::create_dir_all(path).unwrap();
        for (name, file) in &self.0 {
            fs::write(path.join(name), &file.bytes).unwrap();
        }
    }
}

fn is_log(name: &str) -> bool {
    name.ends_with(".log")
}

/// How the pages of one log file get to the disk without a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    All,
    None,
    /// Up to some byte.
    Cut,
    /// Each page by itself.
    Pages,
}

/// What the disk may hold after the power was lost, where `synced` is what it had for certain.
fn lose(synced: &Image, now: &Image, random: &mut StdRng) -> Image {
    let mut disk = Image::default();
    let flushed = now.0.keys().any(|name| !is_log(name) && !synced.0.contains_key(name));
    let fresh: Vec<&String> =
        now.0.keys().filter(|name| is_log(name) && !synced.0.contains_key(*name)).collect();
    // Names of new log files reach the disk in their order, and before a table that was made later.
    let names = if flushed { fresh.len() } else { random.random_range(0..=fresh.len()) };
    for (name, file) in &now.0 {
        if !is_log(name) {
            disk.0.insert(name.clone(), file.clone());
            continue;
        }
        let before = synced.inode(file.inode);
        let old = before.map_or(&[][..], |(_, file)| &file.bytes);
        let fate = [Fate::All, Fate::None, Fate::Cut, Fate::Pages, Fate::Pages][random.random_range(0..5)];
        let bytes = lose_pages(old, &file.bytes, fate, random);
        let lost_name = fresh.iter().position(|fresh| *fresh == name).is_some_and(|at| at >= names);
        match before {
            // A recycled file has its old name then.
            Some((old_name, _)) if lost_name => {
                drop(disk.0.insert(old_name.clone(), File { bytes, ..*file }))
            }
            None if lost_name => {}
            Some(_) | None => drop(disk.0.insert(name.clone(), File { bytes, ..*file })),
        }
    }
    for (name, file) in &synced.0 {
        // The end of a file may not have reached the disk.
        if now.inode(file.inode).is_none() && !now.0.contains_key(name) && random.random_bool(0.5) {
            disk.0.insert(name.clone(), file.clone());
        }
    }
    disk
}

fn lose_pages(old: &[u8], new: &[u8], fate: Fate, random: &mut StdRng) -> Vec<u8> {
    // What is the same in both was there at the sync.
    let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let mut bytes = old.to_vec();
    match fate {
        Fate::None => {}
        Fate::All => bytes = new.to_vec(),
        Fate::Cut => {
            let end = random.random_range(same..=new.len());
            let kept = bytes.len().max(end);
            bytes.resize(kept, 0);
            bytes[same..end].copy_from_slice(&new[same..end]);
        }
        Fate::Pages => {
            // Its size may be known or not.
            let length =
                if random.random_bool(0.5) { new.len() } else { random.random_range(same..=new.len()) };
            bytes.resize(length.max(old.len()), 0);
            let odds = random.random_range(0.3..0.99);
            for start in (same / PAGE * PAGE..length).step_by(PAGE) {
                let end = (start + PAGE).min(length);
                if random.random_bool(odds) {
                    bytes[start..end].copy_from_slice(&new[start..end]);
                }
            }
        }
    }
    bytes
}

/// What a round of writes leaves: values that say which round wrote them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    round: u32,
    values: BTreeMap<u32, (u32, usize)>,
}

fn value(round: u32, key: u32, bytes: usize) -> Vec<u8> {
    let mut value = [round.to_be_bytes(), key.to_be_bytes()].concat();
    value.resize(bytes.max(8), round as u8);
    value
}

impl Model {
    /// Makes the next round: a batch, and the state behind it.
    fn next(&mut self, random: &mut StdRng) -> Batch {
        self.round += 1;
        let mut batch = Batch::new();
        for _ in 0..random.random_range(1..6) {
            let key = random.random_range(0..KEYS);
            if random.random_bool(0.15) {
                batch.delete(key.to_be_bytes());
                self.values.remove(&key);
            } else {
                // Some go to blob files, some need several blocks of the log.
                let bytes =
                    [20, 300, 3_000, 40_000][random.random_range(0..4_usize)] + random.random_range(0..100);
                batch.put(key.to_be_bytes(), value(self.round, key, bytes));
                self.values.insert(key, (self.round, bytes));
            }
        }
        batch.put(b"round", self.round.to_be_bytes());
        batch
    }

    fn read(rocks: &Rocks) -> Self {
        let mut model = Self::default();
        for entry in rocks.scan(vec![0], vec![255]) {
            let (key, bytes) = entry.unwrap();
            if &*key == b"round" {
                model.round = u32::from_be_bytes(bytes[..].try_into().unwrap());
            } else {
                let key = u32::from_be_bytes((*key).try_into().unwrap());
                let round = u32::from_be_bytes(bytes[..4].try_into().unwrap());
                assert_eq!(bytes[..], value(round, key, bytes.len()), "other bytes than were written");
                model.values.insert(key, (round, bytes.len()));
            }
        }
        model
    }
}

fn open(path: &Path) -> Rocks {
    Rocks::open_with(path, path, |options| {
        options.set_write_buffer_size(MEMTABLE_BYTES);
        options.set_max_write_buffer_number(8);
        // Several log files are live at a time.
        options.set_min_write_buffer_number_to_merge(3);
    })
    .unwrap()
}

#[derive(Debug, Default)]
struct Counts {
    losses: u64,
    rounds: u64,
    rounds_synced: u64,
    rounds_lost: u64,
    losses_with_several_logs: u64,
}

/// Writes, syncs at some moment, writes on, loses the power, and looks; several times on one store.
fn play(seed: u64, counts: &mut Counts) {
    let random = &mut StdRng::seed_from_u64(seed);
    let root = tempfile::tempdir().unwrap();
    let mut path = root.path().join("0");
    let mut rocks = open(&path);
    let mut states = vec![Model::default()];
    for life in 1..=3 {
        let synced = random.random_range(0..40_u32);
        let unsynced = random.random_range(0..60_u32);
        let mut image = Image::take(&rocks, &path);
        let mut safe = states.len() - 1;
        for at in 0..=synced + unsynced {
            let mut model = states.last().unwrap().clone();
            let batch = model.next(random);
            states.push(model);
            let durability = if at == synced { Durability::Disk } else { Durability::Process };
            rocks.write(batch, durability).unwrap();
            if at == synced {
                image = Image::take(&rocks, &path);
                safe = states.len() - 1;
            }
        }
        let now = Image::take(&rocks, &path);
        drop(rocks);
        path = root.path().join(life.to_string());
        lose(&image, &now, random).put(&path);
        rocks = open(&path);
        let found = Model::read(&rocks);
        let round = found.round as usize;
        assert!(round >= safe, "seed {seed}, life {life}: round {safe} was synced, {round} is found");
        assert_eq!(found, states[round], "seed {seed}, life {life}: torn or out of order at round {round}");
        counts.losses += 1;
        counts.rounds += u64::from(synced + unsynced + 1);
        counts.rounds_synced += u64::from(synced + 1);
        counts.rounds_lost += (states.len() - 1 - round) as u64;
        counts.losses_with_several_logs += u64::from(now.0.keys().filter(|name| is_log(name)).count() > 1);
        states.truncate(round + 1);
    }
}

#[test]
fn what_was_synced_survives_the_loss_of_power_and_the_rest_is_a_beginning() {
    let seed = testing::seed();
    let mut counts = Counts::default();
    for case in 0..RUNS * u64::from(testing::times()) {
        play(seed.wrapping_add(case), &mut counts);
    }
    eprintln!("the loss of power: {counts:?}");
}
