//! A quorum of one voter as the handle that the metadata work with: what is appended comes back as an event once it is
//! committed.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tracing::error;

use crate::error::{ApiError, ErrorCode, StorageError};
use crate::log::PendingAppend;
use crate::quorum::driver::{LogRecord, QuorumDescription};
use crate::quorum::{Quorum, QuorumOptions};
use crate::types::{LeaderEpoch, Offset};

/// How many events may wait. More hold the quorum back.
const EVENTS: usize = 64;
/// How many records are handed over together while the log is read.
const RECORDS_PER_EVENT: usize = 1_000;

/// What happened to the log, in order.
#[derive(Debug)]
pub(super) enum QuorumEvent {
    /// These records are committed.
    Committed(Vec<LogRecord>),
    /// This node leads; what it appends first gets this offset.
    Leading { epoch: LeaderEpoch, next_offset: Offset },
    /// It leads no more.
    Resigned,
}

/// The handle.
pub(super) struct OneVoter {
    open: Mutex<Option<Open>>,
}

struct Open {
    quorum: Arc<Mutex<Quorum>>,
    appends: mpsc::UnboundedSender<(PendingAppend, Vec<LogRecord>)>,
}

impl OneVoter {
    /// Reads the log and begins an epoch; what is in the log are the first events.
    pub(super) async fn open(
        options: QuorumOptions,
    ) -> Result<(Arc<Self>, mpsc::Receiver<QuorumEvent>), StorageError> {
        let (events, receiver) = mpsc::channel(EVENTS);
        let (appends, appended) = mpsc::unbounded_channel();
        let (opened, begun) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let mut records = Vec::new();
            let read = super::follow::blocking(move || {
                let opened = Quorum::open(options, |record| {
                    records.push(record);
                    Ok(())
                })?;
                Ok((opened, records))
            });
            let ((quorum, first), mut records) = match read.await {
                Ok(read) => read,
                Err(error) => return drop(opened.send(Err(error))),
            };
            let (epoch, next_offset) = (quorum.epoch(), quorum.next_offset());
            let quorum = Arc::new(Mutex::new(quorum));
            // Whoever asked may have gone.
            let _ = opened.send(Ok(Arc::clone(&quorum)));
            while !records.is_empty() {
                let rest = records.split_off(records.len().min(RECORDS_PER_EVENT));
                let _ = events.send(QuorumEvent::Committed(std::mem::replace(&mut records, rest))).await;
            }
            let _ = events.send(QuorumEvent::Leading { epoch, next_offset }).await;
            commit(quorum, first, appended, events).await;
        });
        let quorum = begun.await.map_err(|_| StorageError::Write("it is closed".to_owned()))??;
        let handle = Self { open: Mutex::new(Some(Open { quorum, appends })) };
        Ok((Arc::new(handle), receiver))
    }

    /// Appends one batch of records. They are committed later.
    pub(super) fn append(&self, epoch: LeaderEpoch, values: Vec<Bytes>) -> Result<Range<Offset>, ApiError> {
        let open = self.open.lock();
        let open = open.as_ref().ok_or_else(|| ApiError::new(ErrorCode::NotController))?;
        let pending = open.quorum.lock().append(values.clone())?;
        let base = pending.expected().base_offset;
        let records: Vec<LogRecord> =
            (base..).zip(values).map(|(offset, value)| LogRecord { offset, epoch, value }).collect();
        let end = pending.expected().last_offset + 1;
        let _ = open.appends.send((pending, records));
        Ok(base..end)
    }

    /// How the quorum is.
    pub(super) fn describe(&self) -> Result<QuorumDescription, ApiError> {
        let open = self.open.lock();
        let open = open.as_ref().ok_or_else(|| ApiError::new(ErrorCode::NotController))?;
        Ok(open.quorum.lock().describe())
    }

    /// Ends it once what was appended is committed.
    pub(super) fn close(&self) {
        *self.open.lock() = None;
    }
}

/// Says of each append that it is committed, once it is on the disk. Where one failed, what was appended after it is
/// gone as well, and the voter begins anew.
async fn commit(
    quorum: Arc<Mutex<Quorum>>,
    first: PendingAppend,
    mut appended: mpsc::UnboundedReceiver<(PendingAppend, Vec<LogRecord>)>,
    events: mpsc::Sender<QuorumEvent>,
) {
    let mut next = Some((first, Vec::new()));
    while let Some((pending, records)) = next {
        // Whoever listens to the events may have gone.
        match pending.await {
            Ok(appended) => {
                quorum.lock().flushed(appended);
                if !records.is_empty() {
                    let _ = events.send(QuorumEvent::Committed(records)).await;
                }
            }
            Err(error) => {
                error!(%error, "the metadata log can not be written");
                let (epoch, next_offset) = {
                    let quorum = quorum.lock();
                    (quorum.epoch(), quorum.next_offset())
                };
                let _ = events.send(QuorumEvent::Resigned).await;
                let _ = events.send(QuorumEvent::Leading { epoch, next_offset }).await;
            }
        }
        next = appended.recv().await;
    }
}
