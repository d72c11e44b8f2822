//! The durable state of a node: its election state, its log, its snapshots.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::control::ControlRecord;
use super::core::Remembered;
use super::core::history::LogView;
use super::core::message::{Batch, NewRecords};
use super::election::{ElectionState, ReplicaKey};
use super::files::SnapshotFiles;
use crate::clock::Clock;
use crate::error::{ApiError, ErrorCode, StorageError};
use crate::log::batch::{BatchBuilder, BatchView, RecordView};
use crate::log::{FromLeader, Origin, Partition, PendingAppend, ReadUpTo};
use crate::storage::{Durability, Key, Ops, Store};
use crate::types::{LeaderEpoch, Offset};

/// The largest batch of metadata records in bytes (`KafkaRaftClient.MAX_BATCH_SIZE_BYTES`).
pub const BATCH_BYTES_MAX: usize = 8 << 20;
/// How much of the log is read at a time.
pub(super) const READ_BYTES: usize = 4 << 20;

/// What a node has on its disk.
#[derive(Clone)]
pub(super) struct Disk {
    pub(super) store: Store,
    pub(super) log: Arc<Partition>,
    pub(super) files: SnapshotFiles,
    pub(super) clock: Clock,
}

impl Disk {
    /// Reads what the core has to remember. Blocks.
    pub(super) fn remembered(&self) -> Result<Remembered, StorageError> {
        let election = read_election(&self.store)?;
        let snapshots = self.files.list()?;
        let snapshot = match snapshots.last() {
            Some(id) => self.files.open(*id)?.contents()?.map(|contents| (*id, contents)),
            None => None,
        };
        let mut offsets = self.log.offsets();
        let (mut epochs, mut control) = (Vec::<(LeaderEpoch, Offset)>::new(), Vec::new());
        let covered = snapshot.as_ref().map_or(0, |(id, _)| id.end_offset);
        for_each_batch(&self.log, |batch| {
            if epochs.last().is_none_or(|(epoch, _)| *epoch < batch.leader_epoch()) {
                epochs.push((batch.leader_epoch(), batch.base_offset().max(offsets.log_start)));
            }
            let said = control_of(batch).map_err(|problem| damaged(batch, &problem))?;
            control.extend(said.into_iter().filter(|(offset, _)| *offset >= covered));
            Ok(())
        })?;
        if let Some((id, _)) = &snapshot
            && (offsets.log_end < id.end_offset || epochs.last().is_some_and(|(epoch, _)| *epoch < id.epoch))
        {
            // It was fetched, and the process ended before the log began anew behind it. What a longer log has of older
            // epochs was never committed.
            self.restart_at(id.end_offset)?;
            offsets = self.log.offsets();
            epochs.clear();
            control.clear();
        }
        let log = LogView { start: offsets.log_start, end: offsets.log_end, epochs, snapshots };
        Ok(Remembered { election, log, snapshot, control })
    }

    /// Queues a batch of this leader, together with `extra` in the same write.
    pub(super) fn append(
        &self,
        epoch: LeaderEpoch,
        records: &NewRecords,
        extra: Ops,
    ) -> Result<PendingAppend, ApiError> {
        let now_ms = self.clock.now_ms();
        let mut batch = BatchBuilder::new().leader_epoch(epoch);
        match records {
            NewRecords::Control(records) => {
                batch = batch.control();
                for record in records {
                    let encoded = record.encode();
                    let (key, value) = encoded
                        .map_err(|error| ApiError::with(ErrorCode::UnknownServerError, error.to_string()))?;
                    batch = batch.record(now_ms, Some(&key), Some(&value));
                }
            }
            NewRecords::Values(values) => {
                for value in values {
                    batch = batch.record(now_ms, None, Some(value));
                }
            }
        }
        self.log.set_leader_epoch(epoch);
        self.log.append(batch.build(), Origin::Internal, extra).map_err(ApiError::from)
    }

    /// Appends what a leader sent, and waits until it is on the disk.
    pub(super) async fn replicate(&self, batches: &[Batch], extra: Ops) -> Result<(), ApiError> {
        let mut bytes = BytesMut::with_capacity(batches.iter().map(|batch| batch.bytes.len()).sum());
        batches.iter().for_each(|batch| bytes.extend_from_slice(&batch.bytes));
        let leader_epoch = batches.last().map_or(0, |batch| batch.epoch);
        let from = FromLeader { batches: bytes.freeze(), leader_epoch, high_watermark: -1, log_start: -1 };
        let pending = self.log.append_as_follower(&from, extra)?;
        let end = batches.last().map_or(0, |batch| batch.last_offset + 1);
        let appended = match pending {
            Some(pending) => pending.await?.last_offset + 1,
            None => self.log.offsets().log_end,
        };
        if appended == end {
            Ok(())
        } else {
            let text = format!("the metadata log ends at {appended} and not at {end} after an append");
            Err(ApiError::with(ErrorCode::UnknownServerError, text))
        }
    }

    /// Takes back everything from an offset on, durably. Blocks.
    pub(super) fn truncate(&self, end: Offset) -> Result<(), StorageError> {
        // What is below the log's start is committed, and in a snapshot.
        if end < self.log.offsets().log_start || self.log.truncate_to(end)? != end {
            return Err(StorageError::Damaged(format!("the metadata log has no batch that ends at {end}")));
        }
        self.sync()
    }

    /// Forgets the log and begins it anew at an offset, durably. Blocks.
    pub(super) fn restart_at(&self, offset: Offset) -> Result<(), StorageError> {
        self.log.restart_at(offset)?;
        self.sync()
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.store.commit_blocking(Ops::new(), Durability::Disk)
    }
}

/// The key of a voter that is this node.
pub fn local_key(store: &Store) -> ReplicaKey {
    let properties = store.properties();
    ReplicaKey { id: properties.node_id, directory_id: properties.directory_id }
}

fn read_election(store: &Store) -> Result<ElectionState, StorageError> {
    let Some(value) = store.get(&Key::QuorumState)? else { return Ok(ElectionState::default()) };
    let text = std::str::from_utf8(&value).ok();
    let state = text.and_then(ElectionState::from_json);
    state.ok_or_else(|| StorageError::Damaged("the state of the quorum can not be read".to_owned()))
}

/// What a batch says of the quorum.
pub(super) fn control_of(batch: &BatchView) -> Result<Vec<(Offset, ControlRecord)>, String> {
    let mut control = Vec::new();
    if !batch.is_control() {
        return Ok(control);
    }
    for record in batch.records().map_err(|error| error.to_string())? {
        let RecordView { offset, key, value, .. } = record.map_err(|error| error.to_string())?;
        let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
        let decoded = ControlRecord::decode(&key, value).map_err(|error| error.to_string())?;
        control.extend(decoded.map(|record| (offset, record)));
    }
    Ok(control)
}

/// The whole batches at the front of these bytes; what comes after one that is broken is left out.
pub(super) fn batches_of(bytes: &Bytes) -> Vec<Batch> {
    let mut batches = Vec::new();
    for batch in BatchView::all(bytes) {
        let Ok(batch) = batch else { break };
        let Ok(control) = control_of(&batch) else { break };
        if !batch.crc_matches() {
            break;
        }
        batches.push(Batch {
            base_offset: batch.base_offset(),
            last_offset: batch.last_offset(),
            epoch: batch.leader_epoch(),
            control,
            bytes: batch.into_bytes(),
        });
    }
    batches
}

/// Gives every batch of the log to `visit`, in order. Blocks.
pub(super) fn for_each_batch(
    log: &Partition,
    mut visit: impl FnMut(&BatchView) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let offsets = log.offsets();
    let mut next = offsets.log_start;
    while next < offsets.log_end {
        let read = log.read(next, READ_BYTES, true, ReadUpTo::LogEnd);
        let read = read.map_err(|error| StorageError::Damaged(format!("the metadata log: {error}")))?;
        let before = next;
        for bytes in &read.batches {
            for batch in BatchView::all(bytes) {
                let batch =
                    batch.map_err(|error| StorageError::Damaged(format!("the metadata log: {error}")))?;
                next = batch.last_offset() + 1;
                visit(&batch)?;
            }
        }
        if next == before {
            return Err(StorageError::Damaged(format!("the metadata log has nothing at offset {next}")));
        }
    }
    Ok(())
}

pub(super) fn damaged(batch: &BatchView, problem: &dyn std::fmt::Display) -> StorageError {
    StorageError::Damaged(format!("the metadata log at offset {}: {problem}", batch.base_offset()))
}
