//! Snapshots of the metadata log as files, in Kafka's format and under Kafka's names, so that its tools read them.
//!
//! A snapshot is record batches: one of control records that begins it, the records of the image, one that ends it. It
//! is written beside its name, synced, and renamed, so what has the name is whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};

use super::control::ControlRecord;
use super::core::message::{SnapshotContents, SnapshotId};
use crate::error::StorageError;
use crate::log::batch::{BatchBuilder, BatchView, LENGTH_PREFIX_BYTES, batch_length};
use crate::types::{Offset, TimestampMs};

/// Where Kafka keeps them within its data directory.
const DIRECTORY: &str = "__cluster_metadata-0";
const SUFFIX: &str = ".checkpoint";
const PART_SUFFIX: &str = ".checkpoint.part";
/// How large a batch of a snapshot becomes.
const BATCH_BYTES: usize = 1 << 20;
/// A batch of a snapshot that is larger is not one: Kafka's are 8 MiB at most, with one record more.
const BATCH_BYTES_MAX: usize = 64 << 20;

/// The snapshots of a node.
#[derive(Clone, Debug)]
pub struct SnapshotFiles {
    directory: PathBuf,
}

impl SnapshotFiles {
    /// Those of a data directory. Nothing is made before the first is written.
    pub fn of(data_directory: &Path) -> Self {
        Self { directory: data_directory.join(DIRECTORY) }
    }

    fn path(&self, id: SnapshotId, suffix: &str) -> PathBuf {
        self.directory.join(format!("{:020}-{:010}{suffix}", id.end_offset, id.epoch))
    }

    /// What there is, the oldest first.
    ///
    /// # Errors
    /// Where the directory can not be read.
    pub fn list(&self) -> Result<Vec<SnapshotId>, StorageError> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(&self.directory, &error)),
        };
        let mut ids: Vec<SnapshotId> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let (end_offset, epoch) = name.strip_suffix(SUFFIX)?.split_once('-')?;
                Some(SnapshotId { end_offset: end_offset.parse().ok()?, epoch: epoch.parse().ok()? })
            })
            .filter(|id| id.end_offset > 0)
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Writes a whole snapshot, durably.
    ///
    /// # Errors
    /// Where it can not be written.
    pub fn write(
        &self,
        id: SnapshotId,
        contents: &SnapshotContents,
        last_timestamp_ms: TimestampMs,
        records: impl Iterator<Item = Bytes>,
    ) -> Result<(), StorageError> {
        let part = self.path(id, PART_SUFFIX);
        let written = self.write_part(&part, id, contents, last_timestamp_ms, records);
        written.and_then(|()| self.publish(id)).map_err(|error| unwritable(&part, &error))
    }

    fn write_part(
        &self,
        part: &Path,
        id: SnapshotId,
        contents: &SnapshotContents,
        last_timestamp_ms: TimestampMs,
        records: impl Iterator<Item = Bytes>,
    ) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let mut file = BufWriter::new(File::create(part)?);
        let begun = || BatchBuilder::new().leader_epoch(id.epoch);
        let mut header = vec![ControlRecord::SnapshotHeader { last_timestamp_ms }];
        if let Some(voters) = contents.voters.clone().filter(|_| contents.kraft_version > 0) {
            header
                .extend([ControlRecord::KRaftVersion(contents.kraft_version), ControlRecord::Voters(voters)]);
        }
        let mut next = write_control(&mut file, begun(), &header, 0, last_timestamp_ms)?;
        let mut batch = begun().base_offset(next);
        for value in records {
            batch = batch.record(last_timestamp_ms, None, Some(&value));
            if batch.size_bytes() >= BATCH_BYTES {
                next += Offset::from(batch.record_count());
                file.write_all(&batch.build())?;
                batch = begun().base_offset(next);
            }
        }
        if batch.record_count() > 0 {
            next += Offset::from(batch.record_count());
            file.write_all(&batch.build())?;
        }
        write_control(&mut file, begun(), &[ControlRecord::SnapshotFooter], next, last_timestamp_ms)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }

    /// Writes bytes of a snapshot that is fetched; position 0 begins it anew.
    ///
    /// # Errors
    /// Where they can not be written.
    pub fn write_bytes(&self, id: SnapshotId, position: u64, bytes: &[u8]) -> Result<(), StorageError> {
        let part = self.path(id, PART_SUFFIX);
        let write = || {
            fs::create_dir_all(&self.directory)?;
            let mut file = File::options().write(true).create(true).truncate(position == 0).open(&part)?;
            file.seek(SeekFrom::Start(position))?;
            file.write_all(bytes)
        };
        write().map_err(|error| unwritable(&part, &error))
    }

    /// Checks a snapshot that was fetched and gives it its name, durably; `None` where it is broken.
    ///
    /// # Errors
    /// Where it can not be read or written.
    pub fn finish(&self, id: SnapshotId) -> Result<Option<SnapshotContents>, StorageError> {
        let part = self.path(id, PART_SUFFIX);
        let contents = SnapshotReader::open(&part, id)?.contents();
        let Ok(Some(contents)) = contents else {
            fs::remove_file(&part).map_err(|error| unwritable(&part, &error))?;
            return Ok(None);
        };
        let synced = File::open(&part).and_then(|file| file.sync_all());
        synced.and_then(|()| self.publish(id)).map_err(|error| unwritable(&part, &error))?;
        Ok(Some(contents))
    }

    fn publish(&self, id: SnapshotId) -> io::Result<()> {
        fs::rename(self.path(id, PART_SUFFIX), self.path(id, SUFFIX))?;
        File::open(&self.directory)?.sync_all()
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    /// Where it can not be read.
    pub fn open(&self, id: SnapshotId) -> Result<SnapshotReader, StorageError> {
        SnapshotReader::open(&self.path(id, SUFFIX), id)
    }

    /// The size of a snapshot and a piece of it; `None` where there is no such snapshot.
    ///
    /// # Errors
    /// Where it can not be read.
    pub fn piece(
        &self,
        id: SnapshotId,
        position: u64,
        bytes_max: usize,
    ) -> Result<Option<(u64, Bytes)>, StorageError> {
        let path = self.path(id, SUFFIX);
        let read = || -> io::Result<(u64, Bytes)> {
            let mut file = File::open(&path)?;
            let size = file.metadata()?.len();
            file.seek(SeekFrom::Start(position))?;
            let mut bytes = Vec::new();
            file.take(bytes_max as u64).read_to_end(&mut bytes)?;
            Ok((size, bytes.into()))
        };
        match read() {
            Ok(piece) => Ok(Some(piece)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(&path, &error)),
        }
    }

    /// Removes the snapshots that end before an offset.
    ///
    /// # Errors
    /// Where one can not be removed.
    pub fn delete_before(&self, offset: Offset) -> Result<(), StorageError> {
        for id in self.list()?.into_iter().filter(|id| id.end_offset < offset) {
            let path = self.path(id, SUFFIX);
            fs::remove_file(&path).map_err(|error| unwritable(&path, &error))?;
        }
        Ok(())
    }
}

/// Writes one batch of control records; gives the offset behind it.
fn write_control(
    file: &mut impl io::Write,
    batch: BatchBuilder,
    records: &[ControlRecord],
    base_offset: Offset,
    timestamp_ms: TimestampMs,
) -> io::Result<Offset> {
    let mut batch = batch.base_offset(base_offset).control();
    for record in records {
        let (key, value) = record.encode().map_err(|error| io::Error::other(error.to_string()))?;
        batch = batch.record(timestamp_ms, Some(&key), Some(&value));
    }
    let next = base_offset + Offset::from(batch.record_count());
    file.write_all(&batch.build())?;
    Ok(next)
}

/// A snapshot that is read batch by batch.
#[derive(Debug)]
pub struct SnapshotReader {
    id: SnapshotId,
    path: PathBuf,
    file: io::BufReader<File>,
}

impl SnapshotReader {
    fn open(path: &Path, id: SnapshotId) -> Result<Self, StorageError> {
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        Ok(Self { id, path: path.to_owned(), file: io::BufReader::new(file) })
    }

    /// Which snapshot it is.
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// The values of the next records, which are not the quorum's own; `None` behind the last.
    ///
    /// # Errors
    /// Where the snapshot can not be read.
    pub fn next_values(&mut self) -> Result<Option<Vec<Bytes>>, StorageError> {
        loop {
            let Some(batch) = self.next_batch()? else { return Ok(None) };
            if batch.is_control() {
                continue;
            }
            let records = batch.records().map_err(|error| self.damaged(&error))?;
            let values: Result<Vec<Bytes>, StorageError> = records
                .map(|record| {
                    let record = record.map_err(|error| self.damaged(&error))?;
                    record.value.ok_or_else(|| self.damaged(&"a record has no value"))
                })
                .collect();
            return values.map(Some);
        }
    }

    fn next_batch(&mut self) -> Result<Option<BatchView>, StorageError> {
        let mut prefix = [0; LENGTH_PREFIX_BYTES];
        match self.file.read_exact(&mut prefix) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(unreadable(&self.path, &error)),
        }
        let body = u32::from_be_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]) as usize;
        let length = body.saturating_add(LENGTH_PREFIX_BYTES);
        if length > BATCH_BYTES_MAX {
            return Err(self.damaged(&"a batch is too large"));
        }
        let mut bytes = BytesMut::zeroed(length);
        bytes[..LENGTH_PREFIX_BYTES].copy_from_slice(&prefix);
        let read = self.file.read_exact(&mut bytes[LENGTH_PREFIX_BYTES..]);
        read.map_err(|error| self.damaged(&error))?;
        let bytes = bytes.freeze();
        let whole = matches!(batch_length(&bytes), Ok(Some(found)) if found == length);
        let batch = BatchView::first(&bytes).map_err(|error| self.damaged(&error))?;
        if !whole || !batch.crc_matches() {
            return Err(self.damaged(&"a checksum is wrong"));
        }
        Ok(Some(batch))
    }

    /// Reads all of it; `None` where it does not begin and end as a snapshot does.
    ///
    /// # Errors
    /// Where it can not be read.
    pub fn contents(mut self) -> Result<Option<SnapshotContents>, StorageError> {
        let mut contents = SnapshotContents::default();
        let (mut has_begun, mut has_ended) = (false, false);
        while let Some(batch) = self.next_batch()? {
            if !batch.is_control() {
                continue;
            }
            for record in batch.records().map_err(|error| self.damaged(&error))? {
                let record = record.map_err(|error| self.damaged(&error))?;
                let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
                match ControlRecord::decode(&key, value).map_err(|error| self.damaged(&error))? {
                    Some(ControlRecord::SnapshotHeader { .. }) => has_begun = true,
                    Some(ControlRecord::SnapshotFooter) => has_ended = true,
                    Some(ControlRecord::Voters(voters)) => contents.voters = Some(voters),
                    Some(ControlRecord::KRaftVersion(level)) => contents.kraft_version = level,
                    Some(ControlRecord::LeaderChange { .. }) | None => {}
                }
            }
        }
        Ok((has_begun && has_ended).then_some(contents))
    }

    fn damaged(&self, problem: &dyn std::fmt::Display) -> StorageError {
        StorageError::Damaged(format!("{}: {problem}", self.path.display()))
    }
}

fn unreadable(path: &Path, error: &io::Error) -> StorageError {
    StorageError::Read(format!("{}: {error}", path.display()))
}

fn unwritable(path: &Path, error: &io::Error) -> StorageError {
    StorageError::Write(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test")]

    use uuid::Uuid;

    use super::super::election::ReplicaKey;
    use super::super::voters::{VersionRange, Voter, Voters};
    use super::*;

    fn contents() -> SnapshotContents {
        let key = ReplicaKey { id: 1, directory_id: Uuid::from_u128(7) };
        let voter = Voter { key, endpoints: vec![], kraft_versions: VersionRange::SUPPORTED };
        SnapshotContents { voters: Some(Voters::only(voter)), kraft_version: 1 }
    }

    fn values(reader: &mut SnapshotReader) -> Vec<Bytes> {
        let mut values = Vec::new();
        while let Some(more) = reader.next_values().unwrap() {
            values.extend(more);
        }
        values
    }

    #[test]
    fn a_snapshot_is_read_as_it_was_written_and_sent_in_pieces() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (files, copies) = (SnapshotFiles::of(one.path()), SnapshotFiles::of(two.path()));
        assert_eq!(files.list().unwrap(), []);
        let id = SnapshotId { end_offset: 42, epoch: 3 };
        let records: Vec<Bytes> =
            (0..3_000).map(|number: u16| Bytes::from(number.to_be_bytes().repeat(350))).collect();
        files.write(id, &contents(), 5, records.iter().cloned()).unwrap();
        assert_eq!(files.list().unwrap(), [id]);
        assert_eq!(values(&mut files.open(id).unwrap()), records);
        assert_eq!(files.open(id).unwrap().contents().unwrap(), Some(contents()));
        let mut position = 0;
        loop {
            let (size, bytes) = files.piece(id, position, 100_000).unwrap().unwrap();
            copies.write_bytes(id, position, &bytes).unwrap();
            position += bytes.len() as u64;
            if position == size {
                break;
            }
        }
        assert_eq!(copies.list().unwrap(), [], "it has no name yet");
        assert_eq!(copies.finish(id).unwrap(), Some(contents()));
        assert_eq!(values(&mut copies.open(id).unwrap()), records);
        copies.delete_before(43).unwrap();
        assert_eq!(copies.piece(id, 0, 1).unwrap(), None);
    }

    #[test]
    fn a_broken_snapshot_is_thrown_away() {
        let directory = tempfile::tempdir().unwrap();
        let files = SnapshotFiles::of(directory.path());
        let id = SnapshotId { end_offset: 42, epoch: 3 };
        files.write(id, &contents(), 5, std::iter::once(Bytes::from_static(b"value"))).unwrap();
        let (size, bytes) = files.piece(id, 0, 1 << 20).unwrap().unwrap();
        let mut flipped = bytes.to_vec();
        flipped[100] ^= 1;
        files.write_bytes(id, 0, &flipped).unwrap();
        assert_eq!(files.finish(id).unwrap(), None);
        files.write_bytes(id, 0, &bytes[..bytes.len() - 80]).unwrap();
        assert_eq!(files.finish(id).unwrap(), None, "of {size} bytes the last are missing");
        files.write_bytes(id, 0, &bytes).unwrap();
        assert_eq!(files.finish(id).unwrap(), Some(contents()));
    }
}
