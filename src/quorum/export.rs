//! The metadata log as a file that Kafka's tools read.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::disk::for_each_batch;
use crate::clock::Clock;
use crate::error::StorageError;
use crate::log::{LogManager, LogSettings, Partition};
use crate::storage::{Store, StoreOptions};
use crate::types::{CLUSTER_METADATA_TOPIC_ID, NodeId};

/// The name that Kafka gives the first segment of a log.
const SEGMENT: &str = "00000000000000000000.log";
/// The file that every data directory has.
const PROPERTIES: &str = "meta.properties";

/// Writes the batches of a log, as they are, into Kafka's first segment file in this directory; gives its path.
/// `kafka-dump-log --cluster-metadata-decoder --files` and `kafka-metadata-shell --snapshot` read it.
///
/// # Errors
/// Where the log can not be read or the file can not be written.
pub fn export(log: &Partition, directory: &Path) -> Result<PathBuf, StorageError> {
    let path = directory.join(SEGMENT);
    let failed = |error: io::Error| StorageError::Write(format!("{}: {error}", path.display()));
    fs::create_dir_all(directory).map_err(failed)?;
    let mut file = io::BufWriter::new(File::create(&path).map_err(failed)?);
    for_each_batch(log, |batch| file.write_all(batch.bytes()).map_err(failed))?;
    file.into_inner().map_err(|error| failed(error.into_error()))?.sync_all().map_err(failed)?;
    Ok(path)
}

/// Does that for the data directory of a broker that is not running.
///
/// # Errors
/// Where the directory is not a broker's, is in use, or belongs to another node, and as [`export`].
pub fn export_directory(data: &Path, node_id: NodeId, to: &Path) -> Result<PathBuf, StorageError> {
    let nothing =
        || StorageError::Mismatch { directory: data.to_owned(), problem: "holds no metadata log".to_owned() };
    // Opening would make a new store of what is not there.
    if !data.join(PROPERTIES).is_file() {
        return Err(nothing());
    }
    let store = Store::open(data, &StoreOptions { node_id, cluster_id: None })?;
    let logs = LogManager::open(store, Clock::system(), LogSettings::default())?;
    let log = logs.get(CLUSTER_METADATA_TOPIC_ID, 0).ok_or_else(nothing)?;
    export(&log, to)
}
