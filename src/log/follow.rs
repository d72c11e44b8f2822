//! A follower's append: the leader's batches as they are, with their offsets and epochs.

use std::sync::Arc;

use bytes::Bytes;

use super::batch::{BatchView, batch_length};
use super::partition::{Inner, Partition, PendingAppend};
use super::role::Role;
use super::types::{AppendError, Appended};
use crate::error::ErrorCode;
use crate::storage::{Key, Ops, Purpose};
use crate::types::{CLUSTER_METADATA_TOPIC_ID, LeaderEpoch, Offset};

/// What a leader answered a fetch with.
#[derive(Clone, Debug, Default)]
pub struct FromLeader {
    /// Whole batches, in order. What is cut at the end is left out.
    pub batches: Bytes,
    /// The epoch in which they were fetched; batches of a later one are left out (KAFKA-18723).
    pub leader_epoch: LeaderEpoch,
    /// The leader's high watermark, -1 where it does not say, or where the quorum says it.
    pub high_watermark: Offset,
    /// Where the leader's log starts, -1 where it does not say.
    pub log_start: Offset,
}

impl Partition {
    /// Appends what a leader sent, as it is, together with `extra` in the same atomic write; takes over the leader's
    /// high watermark once that is stored here, and its log start. `None` where there was nothing to append; `extra`
    /// is not written then. May wait for the disk where the log start moves.
    ///
    /// # Errors
    /// `CORRUPT_MESSAGE` for bytes that are no batches, or have a wrong checksum; `OFFSET_OUT_OF_RANGE` for batches
    /// that do not come after the log's end. What comes before them is appended all the same, and the error is told
    /// when they are sent again. `NOT_LEADER_OR_FOLLOWER` where this node does not follow.
    pub fn append_as_follower(
        self: &Arc<Self>,
        from: &FromLeader,
        extra: Ops,
    ) -> Result<Option<PendingAppend>, AppendError> {
        let batches = whole_batches(&from.batches, from.leader_epoch);
        let config = self.config_now();
        let now_ms = self.shared.clock.now_ms();
        let mut inner = self.inner.lock();
        match &mut inner.role {
            Role::Follower(follower) => follower.high_watermark = from.high_watermark,
            Role::Quorum { .. } => {}
            Role::Leader(_) | Role::Offline => {
                return Err(AppendError::with(ErrorCode::NotLeaderOrFollower, "this node does not follow"));
            }
        }
        let purpose =
            if self.topic_id() == CLUSTER_METADATA_TOPIC_ID { Purpose::Metadata } else { Purpose::State };
        self.check_writable(&inner, purpose)?;
        self.advance(&mut inner);
        self.follow_log_start(&mut inner, from.log_start);
        let (first_offset, mut bytes, mut ops) = (inner.log_end, 0, extra);
        let mut refused = batches.1;
        for batch in batches.0 {
            if let Err(error) = check_place(&inner, &batch) {
                refused = Some(error);
                break;
            }
            bytes += batch.len() as u64;
            let (base_offset, last_offset) = (batch.base_offset(), batch.last_offset());
            let epoch = batch.leader_epoch();
            let grown_to = self.place(&mut inner, &batch, base_offset, epoch, &config.1, now_ms, &mut ops);
            let batch = batch.into_bytes();
            self.tail.push(base_offset, last_offset, batch.clone());
            ops.extent(self.id(), base_offset, batch, grown_to);
        }
        if bytes == 0 {
            return refused.map_or(Ok(None), Err);
        }
        inner.replicated_bytes += bytes;
        ops.put(&Key::PartitionState { partition: self.id() }, inner.state().encode());
        let appended = Appended {
            base_offset: first_offset,
            last_offset: inner.log_end - 1,
            log_append_time_ms: -1,
            log_start_offset: inner.log_start,
        };
        let pending = self.commit_records(&mut inner, ops, &config.1, appended, bytes);
        drop(inner);
        self.shared.tails.trim();
        Ok(Some(pending))
    }

    /// Moves the log start to where the leader's is, once that is committed here.
    fn follow_log_start(&self, inner: &mut Inner, leader_log_start: Offset) {
        if leader_log_start > inner.log_start && leader_log_start <= inner.high_watermark {
            drop(self.move_log_start(inner, leader_log_start));
            self.shared.ask_for_space();
        }
    }
}

/// Whether a batch comes after what is there.
fn check_place(inner: &Inner, batch: &BatchView) -> Result<(), AppendError> {
    let (first, last) = (batch.base_offset(), batch.last_offset());
    // The leader's log may start within a batch, which it sends as a whole.
    let is_first = inner.log_end == inner.log_start && last >= inner.log_end;
    if first >= inner.log_end || is_first {
        return Ok(());
    }
    let message = format!("offsets {first} to {last} do not follow the log's end {}", inner.log_end);
    Err(AppendError::with(ErrorCode::OffsetOutOfRange, message))
}

/// The batches up to the first that is not one, and what is wrong with that.
fn whole_batches(bytes: &Bytes, leader_epoch: LeaderEpoch) -> (Vec<BatchView>, Option<AppendError>) {
    let corrupt = |problem: &str| Some(AppendError::with(ErrorCode::CorruptMessage, problem));
    let (mut rest, mut found) = (bytes.clone(), Vec::new());
    loop {
        match batch_length(&rest) {
            Ok(Some(_)) => {}
            Ok(None) => return (found, None),
            Err(error) => return (found, corrupt(&error.to_string())),
        }
        let batch = match BatchView::first(&rest) {
            Ok(batch) => batch,
            Err(error) => return (found, corrupt(&error.to_string())),
        };
        drop(rest.split_to(batch.len()));
        if !batch.crc_matches() {
            return (found, corrupt("the checksum is wrong"));
        }
        let (first, delta) = (batch.base_offset(), batch.last_offset_delta());
        if first < 0
            || delta < 0
            || first.checked_add(i64::from(delta) + 1).is_none()
            || batch.record_count() < 0
        {
            return (found, corrupt("its offsets are impossible"));
        }
        if batch.leader_epoch() > leader_epoch {
            return (found, None);
        }
        found.push(batch);
    }
}
