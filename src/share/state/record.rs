//! The records of `__share_group_state`, in Kafka's own bytes (`ShareCoordinatorRecordHelpers`).
//!
//! Keys and values begin with an i16: in a key it says which record it is, in a value its version. A snapshot without
//! value deletes what its key names.

use bytes::{Buf, Bytes};
use uuid::Uuid;

use crate::protocol::schema::{Schema as _, prefixed, schema, versioned};
use crate::protocol::wire::{DecodeError, EncodeError};
use crate::share::types::{SharePartition, StateBatch};
use crate::types::{LeaderEpoch, Offset, TimestampMs};

/// The kinds of keys (`CoordinatorRecordType`).
const SNAPSHOT: i16 = 0;
const UPDATE: i16 = 1;
/// The only version of values.
const VERSION: i16 = 0;

schema! {
    /// Whose state: the key of both records (ShareSnapshotKey, ShareUpdateKey).
    struct ShareStateKey, versions 0..=0, flexible 9.. {
        group_id: String,
        topic_id: Uuid,
        partition: i32,
    }
    /// All of a state.
    struct ShareSnapshotValue, versions 0..=0, flexible 0.. {
        snapshot_epoch: i32,
        state_epoch: i32,
        leader_epoch: i32,
        start_offset: i64,
        delivery_complete_count: i32 [tag 0] = -1,
        create_timestamp: i64,
        write_timestamp: i64,
        state_batches: Vec<BatchSchema>,
    }
    /// What changed since the snapshot.
    struct ShareUpdateValue, versions 0..=0, flexible 0.. {
        snapshot_epoch: i32,
        leader_epoch: i32,
        start_offset: i64,
        delivery_complete_count: i32 [tag 0] = -1,
        state_batches: Vec<BatchSchema>,
    }
    struct BatchSchema {
        first_offset: i64,
        last_offset: i64,
        delivery_state: i8,
        delivery_count: i16,
    }
}

/// A change of a share partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub of: SharePartition,
    pub value: Value,
}

/// What is written of a share partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Snapshot(Snapshot),
    Update(Update),
    /// It is forgotten.
    Deleted,
}

/// All of a state (`ShareGroupOffset`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Counts the snapshots.
    pub snapshot_epoch: i32,
    /// Grows whenever the state begins anew.
    pub state_epoch: i32,
    /// The epoch of the leader that read last.
    pub leader_epoch: LeaderEpoch,
    /// The first record that is not done with.
    pub start_offset: Offset,
    /// How many records from there on are done with.
    pub delivery_complete_count: i32,
    /// When a snapshot was written because of updates.
    pub created_ms: TimestampMs,
    /// When a snapshot was written.
    pub written_ms: TimestampMs,
    /// The records of which something is known, in order, without overlaps.
    pub batches: Vec<StateBatch>,
}

/// What changed since the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The snapshot.
    pub snapshot_epoch: i32,
    /// The epoch of the leader that read last; -1 where it is the same.
    pub leader_epoch: LeaderEpoch,
    /// The first record that is not done with; -1 where it is the same.
    pub start_offset: Offset,
    /// How many records from there on are done with.
    pub delivery_complete_count: i32,
    /// What is new about records.
    pub batches: Vec<StateBatch>,
}

/// Why a record could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("a key without its record type")]
    NoType,
    #[error("an update without value")]
    NoUpdate,
}

impl Record {
    /// The key as Kafka writes it.
    pub fn key(&self) -> Result<Bytes, EncodeError> {
        let key = ShareStateKey {
            group_id: self.of.group_id.to_string(),
            topic_id: self.of.topic_id,
            partition: self.of.partition,
            ..Default::default()
        };
        let kind = match self.value {
            Value::Snapshot(_) | Value::Deleted => SNAPSHOT,
            Value::Update(_) => UPDATE,
        };
        prefixed(kind, &key, VERSION)
    }

    /// The value as Kafka writes it; `None` where the key's state is deleted.
    pub fn value(&self) -> Result<Option<Bytes>, EncodeError> {
        match &self.value {
            Value::Snapshot(snapshot) => {
                let value = ShareSnapshotValue {
                    snapshot_epoch: snapshot.snapshot_epoch,
                    state_epoch: snapshot.state_epoch,
                    leader_epoch: snapshot.leader_epoch,
                    start_offset: snapshot.start_offset,
                    delivery_complete_count: snapshot.delivery_complete_count,
                    create_timestamp: snapshot.created_ms,
                    write_timestamp: snapshot.written_ms,
                    state_batches: written(&snapshot.batches),
                    ..Default::default()
                };
                prefixed(VERSION, &value, VERSION)
            }
            Value::Update(update) => {
                let value = ShareUpdateValue {
                    snapshot_epoch: update.snapshot_epoch,
                    leader_epoch: update.leader_epoch,
                    start_offset: update.start_offset,
                    delivery_complete_count: update.delivery_complete_count,
                    state_batches: written(&update.batches),
                    ..Default::default()
                };
                prefixed(VERSION, &value, VERSION)
            }
            Value::Deleted => return Ok(None),
        }
        .map(Some)
    }

    /// Reads what a broker wrote; `None` for a record of a kind that is not known here.
    pub fn decode(mut key: Bytes, value: Option<Bytes>) -> Result<Option<Self>, RecordError> {
        let kind = key.try_get_i16().map_err(|_| RecordError::NoType)?;
        if !matches!(kind, SNAPSHOT | UPDATE) {
            return Ok(None);
        }
        let ShareStateKey { group_id, topic_id, partition, .. } = ShareStateKey::decode(&mut key, 0)?;
        let of = SharePartition { group_id: group_id.into(), topic_id, partition };
        let value = match (kind, value) {
            (SNAPSHOT, None) => Value::Deleted,
            (SNAPSHOT, Some(value)) => Value::Snapshot(snapshot(value)?),
            (_, Some(value)) => Value::Update(update(value)?),
            (_, None) => return Err(RecordError::NoUpdate),
        };
        Ok(Some(Self { of, value }))
    }
}

fn snapshot(bytes: Bytes) -> Result<Snapshot, RecordError> {
    let value: ShareSnapshotValue = versioned(bytes)?;
    Ok(Snapshot {
        snapshot_epoch: value.snapshot_epoch,
        state_epoch: value.state_epoch,
        leader_epoch: value.leader_epoch,
        start_offset: value.start_offset,
        delivery_complete_count: value.delivery_complete_count,
        created_ms: value.create_timestamp,
        written_ms: value.write_timestamp,
        batches: read(value.state_batches),
    })
}

fn update(bytes: Bytes) -> Result<Update, RecordError> {
    let value: ShareUpdateValue = versioned(bytes)?;
    Ok(Update {
        snapshot_epoch: value.snapshot_epoch,
        leader_epoch: value.leader_epoch,
        start_offset: value.start_offset,
        delivery_complete_count: value.delivery_complete_count,
        batches: read(value.state_batches),
    })
}

fn written(batches: &[StateBatch]) -> Vec<BatchSchema> {
    let written = batches.iter().map(|batch| BatchSchema {
        first_offset: batch.first_offset,
        last_offset: batch.last_offset,
        delivery_state: batch.delivery_state,
        delivery_count: batch.delivery_count,
        ..Default::default()
    });
    written.collect()
}

fn read(batches: Vec<BatchSchema>) -> Vec<StateBatch> {
    let read = batches.into_iter().map(|batch| StateBatch {
        first_offset: batch.first_offset,
        last_offset: batch.last_offset,
        delivery_state: batch.delivery_state,
        delivery_count: batch.delivery_count,
    });
    read.collect()
}
