//! Tells who follows the log what is committed, in order, and when this node leads. It reads the log by itself, so that
//! a slow listener does not hold the quorum back.

use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::error;

use super::disk::{Disk, READ_BYTES, damaged};
use super::driver::blocking;
use super::handle::{Committed, LogRecord, QuorumEvent, Shared};
use crate::error::StorageError;
use crate::log::batch::BatchView;
use crate::log::{Read, ReadUpTo};
use crate::types::{LeaderEpoch, Offset};

/// How long after a failed read it is tried again.
const RETRY_MS: i64 = 100;

/// What there is to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Everything before is committed.
    pub(super) committed: Offset,
    /// The epoch that this node leads, and where its first record is.
    pub(super) leading: Option<(LeaderEpoch, Offset)>,
    /// Nothing more will come.
    pub(super) closed: bool,
}

/// Serves until the quorum ends or nobody listens.
pub(super) async fn run(
    shared: Arc<Shared>,
    disk: Disk,
    log_start: Offset,
    events: mpsc::Sender<QuorumEvent>,
) {
    let mut changes = shared.progress.subscribe();
    // A negative one lets the newest snapshot come first.
    let mut feed = Feed { disk, events, told: if log_start > 0 { -1 } else { 0 }, led: None };
    feed.told = if feed.disk.files.list().is_ok_and(|ids| ids.is_empty()) { feed.told } else { -1 };
    loop {
        let progress = changes.borrow_and_update().clone();
        if let Some(epoch) = feed.led
            && progress.leading.is_none_or(|(leading, _)| leading != epoch)
        {
            feed.led = None;
            if feed.events.send(QuorumEvent::Resigned { epoch }).await.is_err() {
                return;
            }
        }
        match feed.catch_up(progress.committed).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(problem) => {
                error!(%problem, "the metadata log can not be read");
                let clock = feed.disk.clock.clone();
                clock.sleep_until(clock.steady_ms() + RETRY_MS).await;
                if !progress.closed {
                    continue;
                }
            }
        }
        if let Some((epoch, start)) = progress.leading
            && feed.led.is_none()
            && feed.told >= start
        {
            feed.led = Some(epoch);
            let next_offset = shared.look(|core| core.log().end).unwrap_or(feed.told);
            if feed.events.send(QuorumEvent::Leading { epoch, next_offset }).await.is_err() {
                return;
            }
        }
        // The sender lives as long as the quorum.
        if progress.closed || changes.changed().await.is_err() {
            return;
        }
    }
}

struct Feed {
    disk: Disk,
    events: mpsc::Sender<QuorumEvent>,
    /// Everything before was told.
    told: Offset,
    /// The epoch of which it was told that this node leads it.
    led: Option<LeaderEpoch>,
}

impl Feed {
    /// Tells what is committed up to an offset; false where nobody listens.
    async fn catch_up(&mut self, committed: Offset) -> Result<bool, StorageError> {
        // Which snapshot counts is known once anything is known to be committed.
        while self.told < committed && committed > 0 {
            let event = if self.told < self.disk.log.offsets().log_start {
                self.snapshot(committed)?
            } else {
                self.committed(committed).await?
            };
            if let Some(event) = event
                && self.events.send(event).await.is_err()
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The newest snapshot, from which the log goes on.
    fn snapshot(&mut self, committed: Offset) -> Result<Option<QuorumEvent>, StorageError> {
        let newest = self.disk.files.list()?.into_iter().rfind(|id| id.end_offset <= committed);
        let Some(id) = newest else {
            let log_start = self.disk.log.offsets().log_start;
            if log_start > 0 {
                let text = format!("no snapshot has what was before offset {log_start} of the metadata log");
                return Err(StorageError::Damaged(text));
            }
            self.told = 0;
            return Ok(None);
        };
        self.told = id.end_offset;
        Ok(Some(QuorumEvent::Snapshot(self.disk.files.open(id)?)))
    }

    async fn committed(&mut self, committed: Offset) -> Result<Option<QuorumEvent>, StorageError> {
        let Read { batches, .. } = self.read().await?;
        let mut event = Committed { end_offset: self.told, ..Committed::default() };
        'all: for bytes in &batches {
            for batch in BatchView::all(bytes) {
                let batch = batch.map_err(|problem| StorageError::Damaged(problem.to_string()))?;
                if batch.last_offset() >= committed {
                    break 'all;
                }
                take(&mut event, &batch, self.told)?;
            }
        }
        if event.end_offset <= self.told {
            let text = format!("the metadata log has nothing at offset {}", self.told);
            return Err(StorageError::Damaged(text));
        }
        self.told = event.end_offset;
        Ok(Some(QuorumEvent::Committed(event)))
    }

    async fn read(&self) -> Result<Read, StorageError> {
        let (log, from) = (Arc::clone(&self.disk.log), self.told);
        let failed = |problem: crate::error::ApiError| StorageError::Read(problem.to_string());
        if let Some(read) = log.read_memory(from, READ_BYTES, true, ReadUpTo::LogEnd).map_err(failed)? {
            return Ok(read);
        }
        blocking(move || log.read(from, READ_BYTES, true, ReadUpTo::LogEnd).map_err(failed)).await
    }
}

fn take(event: &mut Committed, batch: &BatchView, from: Offset) -> Result<(), StorageError> {
    if !batch.is_control() {
        for record in batch.records().map_err(|problem| damaged(batch, &problem))? {
            let record = record.map_err(|problem| damaged(batch, &problem))?;
            let value = record.value.ok_or_else(|| damaged(batch, &"a record has no value"))?;
            if record.offset >= from {
                event.records.push(LogRecord { offset: record.offset, epoch: batch.leader_epoch(), value });
            }
        }
    }
    event.end_offset = batch.last_offset() + 1;
    event.epoch = batch.leader_epoch();
    event.timestamp_ms = batch.max_timestamp();
    event.bytes += batch.len();
    Ok(())
}
