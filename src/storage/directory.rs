//! Whether a data directory is ours, and whose it is.
//!
//! A data directory holds `meta.properties`, as Kafka's does, so that people and tools see which
//! cluster and broker it belongs to; and `store/`, which is RocksDB's. The file is written before
//! the store is created, so a directory that is not empty and has no such file is not ours, and
//! is left alone.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::StoreOptions;
use crate::config::cluster::{InitialController, initial_controllers};
use crate::error::StorageError;
use crate::types::{NodeId, kafka_id, parse_kafka_id, random_kafka_id};

/// The layout of the store. A newer one can not be read by an older klamm.
const FORMAT: u32 = 1;
/// The version of `meta.properties` that Kafka writes since KRaft.
const VERSION: &str = "1";
const FILE: &str = "meta.properties";
/// The lines that a formatted directory has.
const CONTROLLERS: &str = "klamm.initial.controllers";
const FEATURES: &str = "klamm.bootstrap.features";
const STORE: &str = "store";
/// What helps against damage.
pub(super) const RESTORE: &str =
    "nothing was changed: restore the data directory from a copy, or name another one";
/// The longest `meta.properties` that is read.
const FILE_BYTES: u64 = 64 << 10;

/// Who a data directory belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    /// The cluster's id.
    pub cluster_id: String,
    /// The broker's id.
    pub node_id: NodeId,
    /// The directory's own id.
    pub directory_id: Uuid,
    /// The controllers that the directory was formatted with: none where others bring the cluster about, and `None`
    /// where it was not formatted.
    pub initial_controllers: Option<Vec<InitialController>>,
    /// The features that the cluster begins with, by their names; `None` where the directory was not formatted.
    pub features: Option<BTreeMap<String, i16>>,
}

impl MetaProperties {
    /// The file's text.
    pub(super) fn render(&self) -> String {
        let Self { cluster_id, node_id, directory_id, initial_controllers, features } = self;
        let directory_id = kafka_id(*directory_id);
        let controllers = initial_controllers.as_ref().map_or_else(String::new, |controllers| {
            let controllers: Vec<String> = controllers.iter().map(ToString::to_string).collect();
            format!("{CONTROLLERS}={}\n", controllers.join(","))
        });
        let features = features.as_ref().map_or_else(String::new, |features| {
            let features: Vec<String> =
                features.iter().map(|(name, level)| format!("{name}:{level}")).collect();
            format!("{FEATURES}={}\n", features.join(","))
        });
        format!(
            "cluster.id={cluster_id}\ndirectory.id={directory_id}\n{features}klamm.format={FORMAT}\n{controllers}\
             node.id={node_id}\nversion={VERSION}\n"
        )
    }

    /// Whether a directory that says this is the one that is meant.
    ///
    /// # Errors
    /// One sentence that says whose it is, where it is not.
    pub fn check(&self, directory: &Path, options: &StoreOptions) -> Result<(), StorageError> {
        let mismatch = |problem| Err(StorageError::Mismatch { directory: directory.to_owned(), problem });
        if let Some(expected) = &options.cluster_id
            && *expected != self.cluster_id
        {
            return mismatch(format!(
                "belongs to cluster {}, not to {expected}: set CLUSTER_ID to the former, or name another directory",
                self.cluster_id
            ));
        }
        if self.node_id != options.node_id {
            return mismatch(format!(
                "belongs to node {0}, not to {1}: set node.id={0}, or name another directory",
                self.node_id, options.node_id
            ));
        }
        Ok(())
    }
}

/// Where RocksDB's files are.
pub(super) fn store_path(directory: &Path) -> PathBuf {
    directory.join(STORE)
}

/// Reads who the directory belongs to, and makes an empty or missing one ours.
pub(super) fn claim(directory: &Path, options: &StoreOptions) -> Result<MetaProperties, StorageError> {
    let unreadable = |error: io::Error| StorageError::Read(format!("{}: {error}", directory.display()));
    let text = match read_file(&directory.join(FILE)).map_err(unreadable)? {
        Some(text) => text,
        None => {
            if let Some(found) = first_entry(directory).map_err(unreadable)? {
                return Err(StorageError::Foreign { directory: directory.to_owned(), found });
            }
            create(directory, options)?
        }
    };
    let properties = parse(directory, &text)?;
    properties.check(directory, options)?;
    check_store(directory).map_err(unreadable)??;
    Ok(properties)
}

/// Who the directory belongs to; `None` where it is new.
pub(super) fn owner(directory: &Path) -> Result<Option<MetaProperties>, StorageError> {
    let text = read_file(&directory.join(FILE))
        .map_err(|error| StorageError::Read(format!("{}: {error}", directory.display())))?;
    text.map(|text| parse(directory, &text)).transpose()
}

fn read_file(path: &Path) -> io::Result<Option<String>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > FILE_BYTES => {
            Err(io::Error::other("meta.properties is too large to be one"))
        }
        Ok(_) => fs::read(path).map(|bytes| Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The first thing in a directory that is not the file system's own.
fn first_entry(directory: &Path) -> io::Result<Option<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "lost+found" {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Writes the file of a new directory; if another process was quicker, its file holds.
fn create(directory: &Path, options: &StoreOptions) -> Result<String, StorageError> {
    let random = &mut rand::rng();
    let cluster_id = options.cluster_id.clone().unwrap_or_else(|| kafka_id(random_kafka_id(random)));
    let directory_id = random_kafka_id(random);
    let node_id = options.node_id;
    let properties =
        MetaProperties { cluster_id, node_id, directory_id, initial_controllers: None, features: None };
    write_new(directory, &properties)
}

/// Makes an empty or missing directory ours, for the node and the cluster that are given.
pub(super) fn format(directory: &Path, properties: &MetaProperties) -> Result<(), StorageError> {
    let unreadable = |error: io::Error| StorageError::Read(format!("{}: {error}", directory.display()));
    if let Some(found) = first_entry(directory).map_err(unreadable)? {
        return Err(StorageError::Foreign { directory: directory.to_owned(), found });
    }
    write_new(directory, properties).map(drop)
}

fn write_new(directory: &Path, properties: &MetaProperties) -> Result<String, StorageError> {
    let text = properties.render();
    let written = || -> io::Result<()> {
        fs::create_dir_all(directory)?;
        let mut file = tempfile::Builder::new().prefix(FILE).tempfile_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(directory.join(FILE)) {
            Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
            // What RocksDB syncs next takes the new name along.
            _ => Ok(()),
        }
    };
    let failed = |error| StorageError::Write(format!("{}: {error}", directory.display()));
    written().map_err(failed)?;
    let text = read_file(&directory.join(FILE)).map_err(failed)?;
    text.ok_or_else(|| StorageError::Write(format!("{} vanished", directory.join(FILE).display())))
}

fn parse(directory: &Path, text: &str) -> Result<MetaProperties, StorageError> {
    let value = |name: &str| {
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', '!']));
        let mut pairs = lines.filter_map(|line| line.split_once('='));
        pairs.find_map(|(key, value)| (key.trim() == name).then(|| value.trim().to_owned()))
    };
    let damaged = |name: &str| {
        let file = directory.join(FILE);
        StorageError::Damaged(format!("{} has no valid {name}; {RESTORE}", file.display()))
    };
    let Some(format) = value("klamm.format") else {
        let found = format!("{FILE} of another broker");
        return Err(StorageError::Foreign { directory: directory.to_owned(), found });
    };
    let format: u32 = format.parse().map_err(|_| damaged("klamm.format"))?;
    if format > FORMAT || value("version").is_some_and(|version| version != VERSION) {
        let problem =
            format!("was written by a newer klamm: its format is {format}, this one reads {FORMAT}");
        return Err(StorageError::Mismatch { directory: directory.to_owned(), problem });
    }
    let directory_id = value("directory.id").as_deref().and_then(parse_kafka_id);
    let node_id = value("node.id").and_then(|id| id.parse().ok());
    let initial_controllers = value(CONTROLLERS).map(|text| initial_controllers(&text)).transpose();
    let features =
        value(FEATURES).map(|text| features(&text).ok_or_else(|| damaged(FEATURES))).transpose()?;
    Ok(MetaProperties {
        features,
        initial_controllers: initial_controllers.map_err(|_| damaged(CONTROLLERS))?,
        cluster_id: value("cluster.id").filter(|id| !id.is_empty()).ok_or_else(|| damaged("cluster.id"))?,
        node_id: node_id.ok_or_else(|| damaged("node.id"))?,
        directory_id: directory_id.ok_or_else(|| damaged("directory.id"))?,
    })
}

/// Reads `name:level,…`.
fn features(text: &str) -> Option<BTreeMap<String, i16>> {
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            pair.split_once(':').and_then(|(name, level)| Some((name.to_owned(), level.parse().ok()?)))
        })
        .collect()
}

/// RocksDB would start anew where its `CURRENT` file is missing, and remove what it does not know.
fn check_store(directory: &Path) -> io::Result<Result<(), StorageError>> {
    let store = store_path(directory);
    let is_new = first_entry(&store)?.is_none_or(|_| only_probes(&store).unwrap_or(false));
    if is_new || store.join("CURRENT").exists() {
        return Ok(Ok(()));
    }
    let current = store.join("CURRENT");
    Ok(Err(StorageError::Damaged(format!("{} is missing; {RESTORE}", current.display()))))
}

/// Whether a store was being created when its process ended: nothing is in it yet but files that
/// come before the first data.
fn only_probes(store: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(store)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let early = ["LOCK", "LOG", "IDENTITY", "MANIFEST", "direct-io-probe", "000001.dbtmp"];
        if !early.iter().any(|prefix| name.starts_with(prefix)) {
            return Ok(false);
        }
    }
    Ok(true)
}
