//! Carries out what the [core](super::single) says, against the store and the log.

use std::sync::Arc;

use bytes::Bytes;

use super::control::ControlRecord;
use super::election::{ElectionState, ReplicaKey};
use super::single::{Action, Event, QuorumCore, Remembered};
use super::voters::{Voter, Voters};
use crate::clock::Clock;
use crate::error::{ApiError, ErrorCode, StorageError};
use crate::log::batch::{BatchBuilder, BatchView, RecordView};
use crate::log::{AppendError, Appended, Origin, Partition, PendingAppend, ReadUpTo};
use crate::storage::{Key, Ops, Store};
use crate::types::{LeaderEpoch, NodeId, Offset, TimestampMs};

/// The largest batch of metadata records in bytes (`KafkaRaftClient.MAX_BATCH_SIZE_BYTES`).
pub const BATCH_BYTES_MAX: usize = 8 << 20;
/// How much of the log is read at a time when a voter starts.
const READ_BYTES: usize = 4 << 20;

/// What a voter is started with.
#[derive(Clone)]
pub struct QuorumOptions {
    /// Where the voter keeps its vote.
    pub store: Store,
    /// The metadata log; it has to sync every append.
    pub log: Arc<Partition>,
    /// Where the timestamps of records come from.
    pub clock: Clock,
    /// This voter.
    pub voter: Voter,
}

/// One record of the metadata log that is not the quorum's own.
#[derive(Clone, Debug)]
pub struct LogRecord {
    /// Where it stands.
    pub offset: Offset,
    /// The epoch in which it was written.
    pub epoch: LeaderEpoch,
    /// Its value.
    pub value: Bytes,
}

/// How the quorum is (`kafka-metadata-quorum describe`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumDescription {
    /// Who leads.
    pub leader: NodeId,
    /// In which epoch.
    pub epoch: LeaderEpoch,
    /// Everything before it is committed.
    pub high_watermark: Offset,
    /// The voters and how far they are.
    pub voters: Vec<ReplicaDescription>,
}

/// How far a replica of the metadata log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaDescription {
    /// The voter with its endpoints.
    pub voter: Voter,
    /// Where its log ends.
    pub log_end: Offset,
    /// When it fetched last; for the leader the present.
    pub last_fetch_ms: TimestampMs,
    /// When it last had everything; for the leader the present.
    pub last_caught_up_ms: TimestampMs,
}

/// A voter that leads.
pub struct Quorum {
    core: QuorumCore,
    log: Arc<Partition>,
    clock: Clock,
}

impl Quorum {
    /// Reads the log, gives every record in it to `replay`, and begins a new epoch. The epoch counts once the returned
    /// append is done.
    ///
    /// # Errors
    /// Where the store can not be read, the log is damaged, or others vote too.
    pub fn open(
        options: QuorumOptions,
        mut replay: impl FnMut(LogRecord) -> Result<(), StorageError>,
    ) -> Result<(Self, PendingAppend), StorageError> {
        let QuorumOptions { store, log, clock, voter } = options;
        let election = read_election(&store)?;
        let voters = read_log(&log, &mut replay)?;
        let log_end = log.offsets().log_end;
        let remembered = Remembered { election, voters, log_end };
        let (core, actions) = QuorumCore::start(&voter, &remembered)
            .map_err(|error| StorageError::Damaged(error.to_string()))?;
        log.set_leader_epoch(core.epoch());
        let mut quorum = Self { core, log, clock };
        let pending = quorum.carry_out(actions).map_err(|error| StorageError::Write(error.to_string()))?;
        let pending =
            pending.ok_or_else(|| StorageError::Write("the epoch has no first record".to_owned()))?;
        Ok((quorum, pending))
    }

    /// Appends one batch of records. They are committed when what is returned is done and [`Quorum::flushed`] was
    /// told so.
    ///
    /// # Errors
    /// Where the log refuses them.
    pub fn append(&mut self, values: Vec<Bytes>) -> Result<PendingAppend, ApiError> {
        let actions = self.core.step(Event::Append(values));
        let pending = self.carry_out(actions)?;
        pending.ok_or_else(|| ApiError::new(ErrorCode::NotLeaderOrFollower))
    }

    /// Takes in that an append is on the disk. That has to be told in the order of the appends.
    pub fn flushed(&mut self, appended: Appended) -> Option<Offset> {
        let actions = self.core.step(Event::Flushed(appended.last_offset + 1));
        actions.iter().find_map(|action| match action {
            Action::Committed(offset) => Some(*offset),
            Action::Persist(_) | Action::AppendControl(..) | Action::AppendRecords(..) => None,
        })
    }

    /// The offset that the next record gets.
    pub fn next_offset(&self) -> Offset {
        self.log.offsets().log_end
    }

    /// The epoch that this voter leads.
    pub fn epoch(&self) -> LeaderEpoch {
        self.core.epoch()
    }

    /// How the quorum is.
    pub fn describe(&self) -> QuorumDescription {
        let now_ms = self.clock.now_ms();
        let replica = |voter: &Voter| ReplicaDescription {
            voter: voter.clone(),
            log_end: self.core.log_end(voter.key.id).unwrap_or(-1),
            last_fetch_ms: now_ms,
            last_caught_up_ms: now_ms,
        };
        QuorumDescription {
            leader: self.core.local().id,
            epoch: self.core.epoch(),
            high_watermark: self.core.high_watermark().unwrap_or(-1),
            voters: self.core.voters().0.values().map(replica).collect(),
        }
    }

    /// Does what the core says, in its order. A state that has to be durable goes into the same write as the batch
    /// that follows it.
    fn carry_out(&mut self, actions: Vec<Action>) -> Result<Option<PendingAppend>, ApiError> {
        let (mut with_next, mut pending) = (Ops::new(), None);
        for action in actions {
            match action {
                Action::Persist(state) => with_next.put(&Key::QuorumState, state.to_json()),
                Action::AppendControl(epoch, records) => {
                    let batch = self.control_batch(epoch, &records)?;
                    pending = Some(self.write(batch, std::mem::take(&mut with_next))?);
                }
                Action::AppendRecords(epoch, values) => {
                    let batch = self.record_batch(epoch, &values)?;
                    pending = Some(self.write(batch, std::mem::take(&mut with_next))?);
                }
                Action::Committed(_) => {}
            }
        }
        Ok(pending)
    }

    fn control_batch(&self, epoch: LeaderEpoch, records: &[ControlRecord]) -> Result<Bytes, ApiError> {
        let now_ms = self.clock.now_ms();
        let mut builder = BatchBuilder::new().leader_epoch(epoch).control();
        for record in records {
            let encoded = record.encode();
            let (key, value) = encoded.map_err(|error| unexpected(&error.to_string()))?;
            builder = builder.record(now_ms, Some(&key), Some(&value));
        }
        Ok(builder.build())
    }

    fn record_batch(&self, epoch: LeaderEpoch, values: &[Bytes]) -> Result<Bytes, ApiError> {
        let now_ms = self.clock.now_ms();
        let mut builder = BatchBuilder::new().leader_epoch(epoch);
        for value in values {
            builder = builder.record(now_ms, None, Some(value));
        }
        if builder.size_bytes() > BATCH_BYTES_MAX {
            let text = format!("the change needs more than {BATCH_BYTES_MAX} bytes of metadata");
            return Err(ApiError::with(ErrorCode::RecordListTooLarge, text));
        }
        Ok(builder.build())
    }

    fn write(&self, batch: Bytes, extra: Ops) -> Result<PendingAppend, ApiError> {
        let refused = |error: AppendError| ApiError { code: error.code, message: error.message };
        self.log.append(batch, Origin::Internal, extra).map_err(refused)
    }
}

fn unexpected(problem: &str) -> ApiError {
    ApiError::with(ErrorCode::UnknownServerError, problem)
}

fn read_election(store: &Store) -> Result<ElectionState, StorageError> {
    let Some(value) = store.get(&Key::QuorumState)? else { return Ok(ElectionState::default()) };
    let text = std::str::from_utf8(&value).ok();
    let state = text.and_then(ElectionState::from_json);
    state.ok_or_else(|| StorageError::Damaged("the state of the quorum can not be read".to_owned()))
}

/// Reads the whole log; gives the voters that it names last.
fn read_log(
    log: &Partition,
    replay: &mut impl FnMut(LogRecord) -> Result<(), StorageError>,
) -> Result<Option<Voters>, StorageError> {
    let mut voters = None;
    for_each_batch(log, |batch| {
        let epoch = batch.leader_epoch();
        for record in batch.records().map_err(|error| damaged(batch, &error))? {
            let RecordView { offset, key, value, .. } = record.map_err(|error| damaged(batch, &error))?;
            let value = value.ok_or_else(|| damaged(batch, &"a record has no value"))?;
            if batch.is_control() {
                let key = key.unwrap_or_default();
                let control = ControlRecord::decode(&key, value).map_err(|error| damaged(batch, &error))?;
                if let Some(ControlRecord::Voters(named)) = control {
                    voters = Some(named);
                }
            } else {
                replay(LogRecord { offset, epoch, value })?;
            }
        }
        Ok(())
    })?;
    Ok(voters)
}

/// Gives every batch of the log to `visit`, in order.
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

fn damaged(batch: &BatchView, problem: &dyn std::fmt::Display) -> StorageError {
    StorageError::Damaged(format!("the metadata log at offset {}: {problem}", batch.base_offset()))
}

/// The key of a voter that is this node.
pub fn local_key(store: &Store) -> ReplicaKey {
    let properties = store.properties();
    ReplicaKey { id: properties.node_id, directory_id: properties.directory_id }
}
