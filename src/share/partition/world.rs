//! What a share partition lives with, made up for tests: a log, a persister, and time.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    AbortedProducer, Acknowledgement, AcquireMode, Acquired, Ask, FetchedBatch, Limits, SharePartitionState,
    TimedOut, Write, push_merged,
};
use crate::error::{ApiError, ErrorCode};
use crate::share::types::{PartitionState, StateBatch};
use crate::types::Offset;

pub(super) const LIMITS: Limits =
    Limits { lock_duration_ms: 30_000, delivery_count_max: 5, in_flight_max: 2_000, renew_enabled: true };

/// What the share coordinator keeps.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    pub(super) start_offset: Offset,
    pub(super) records: BTreeMap<Offset, (i8, i16)>,
}

impl Kept {
    fn state(&self) -> PartitionState {
        let mut batches = Vec::new();
        for (offset, (delivery_state, delivery_count)) in self.records.range(self.start_offset..) {
            let (delivery_state, delivery_count) = (*delivery_state, *delivery_count);
            let (first_offset, last_offset) = (*offset, *offset);
            push_merged(
                &mut batches,
                StateBatch { first_offset, last_offset, delivery_state, delivery_count },
            );
        }
        PartitionState { state_epoch: 0, start_offset: self.start_offset, batches }
    }
}

/// How a fetch goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fetch {
    pub(super) mode: AcquireMode,
    pub(super) batch_size: i32,
    pub(super) records_max: i32,
    /// How many batches one read gives.
    pub(super) batches_max: usize,
}

impl Default for Fetch {
    fn default() -> Self {
        Self { mode: AcquireMode::BatchOptimized, batch_size: 500, records_max: 500, batches_max: usize::MAX }
    }
}

pub(super) struct World {
    pub(super) partition: SharePartitionState,
    pub(super) log: Vec<FetchedBatch>,
    pub(super) log_start: Offset,
    pub(super) aborted: Option<Vec<AbortedProducer>>,
    pub(super) kept: Kept,
    pub(super) limits: Limits,
    pub(super) now_ms: i64,
    /// Writes that are not done.
    pub(super) writes: Vec<Write>,
}

impl World {
    pub(super) fn new(log: Vec<FetchedBatch>) -> Self {
        let kept = Kept::default();
        let partition = SharePartitionState::load(&kept.state(), 0).expect("nothing is wrong with nothing");
        let (aborted, writes) = (None, Vec::new());
        Self { partition, log, log_start: 0, aborted, kept, limits: LIMITS, now_ms: 0, writes }
    }

    /// Another leader goes on with what is kept.
    pub(super) fn restart(&mut self) -> Result<(), ApiError> {
        self.writes.clear();
        self.partition = SharePartitionState::load(&self.kept.state(), 0)?;
        Ok(())
    }

    /// Reads where the partition wants to go on, and delivers. An offset that is gone from the log gives nothing, but
    /// the partition hears of it.
    pub(super) fn fetch(&mut self, member: &str, fetch: Fetch) -> (Offset, Acquired) {
        let offset = self.partition.next_fetch_offset();
        if !self.partition.can_acquire(&self.limits) {
            return (offset, Acquired::default());
        }
        if offset < self.log_start {
            self.partition.log_start_moved(self.log_start);
            return (offset, Acquired::default());
        }
        let read = self.log.iter().filter(|batch| batch.last_offset >= offset).take(fetch.batches_max);
        let read: Vec<_> = read.copied().collect();
        let member: Arc<str> = member.into();
        let Fetch { mode, batch_size, records_max, .. } = fetch;
        let ask = Ask { member: &member, mode, batch_size, records_max, fetch_offset: offset };
        let acquired =
            self.partition.acquire(self.now_ms, &ask, &read, self.aborted.as_deref(), &self.limits);
        (offset, acquired)
    }

    pub(super) fn acknowledge(
        &mut self,
        member: &str,
        acknowledgements: &[Acknowledgement],
    ) -> Result<Option<Write>, ApiError> {
        let write = self.partition.acknowledge(self.now_ms, member, acknowledgements, &self.limits)?;
        self.writes.extend(write.clone());
        Ok(write)
    }

    pub(super) fn release(&mut self, member: &str) -> Option<Write> {
        let write = self.partition.release(self.now_ms, member, &self.limits);
        self.writes.extend(write.clone());
        write
    }

    pub(super) fn advance(&mut self, by_ms: i64) -> TimedOut {
        self.now_ms += by_ms;
        let timed_out = self.partition.time_out(self.now_ms, &self.limits);
        self.writes.extend(timed_out.write.clone());
        timed_out
    }

    /// The oldest write is done, or failed.
    pub(super) fn complete(&mut self, written: bool) -> Result<(), ApiError> {
        if self.writes.is_empty() {
            return Err(ErrorCode::InvalidRequest.into());
        }
        let write = self.writes.remove(0);
        if written {
            self.kept.start_offset = self.kept.start_offset.max(self.partition.start_offset());
            for batch in &write.batches {
                let value = (batch.delivery_state, batch.delivery_count);
                self.kept
                    .records
                    .extend((batch.first_offset..=batch.last_offset).map(|offset| (offset, value)));
            }
        }
        self.partition.completed(self.now_ms, write.id, written);
        Ok(())
    }
}
