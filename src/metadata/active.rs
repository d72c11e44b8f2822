//! The controller, which decides while this node leads the quorum.
//!
//! ```text
//! mailbox → decide(&head) → append → apply to head → … → committed → answered
//! ```
//! Commands are decided one after the other on the head, which is ahead of what is committed. Nobody is answered before
//! everything that the answer rests on is committed. When another node leads, the head is dropped and everybody who
//! waits is told so, whether or not the records are committed by that other one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info};

use super::command::Registration;
use super::controller::features::METADATA_VERSION_LATEST;
use super::controller::{
    Context, Decision, RECORDS_PER_REQUEST_MAX, Settings, SoftState, next_deadline_ms, tick,
};
use super::follow::{Lead, Progress};
use super::handle::Shared;
use super::image::Image;
use super::record::{AbortTransactionRecord, BeginTransactionRecord, EndTransactionRecord, Record};
use super::start::{self, Node};
use crate::clock::Clock;
use crate::error::{ApiError, ErrorCode, StorageError};
use crate::quorum::Quorum;
use crate::storage::Store;
use crate::types::Offset;

/// How many commands may wait for their records to be committed.
const WAITING_MAX: usize = 4_096;
/// How many records go into one batch. What a request becomes fits; what a broker that goes or comes back means for
/// its many partitions may not.
const BATCH_RECORDS_MAX: usize = RECORDS_PER_REQUEST_MAX;
/// The `metadata.version` since which there are transactions: 3.6-IV1.
const TRANSACTIONS_SINCE: i16 = 13;

/// What the controller is asked.
pub(super) enum Job {
    /// Decide something; when it was asked, on the steady clock.
    Decide(Box<dyn Command>, i64),
    /// Answer what came before, and end.
    Stop(oneshot::Sender<()>),
}

/// Something to decide, and the way back to whoever asked.
pub(super) trait Command: Send {
    /// Decides; what is returned sends the reply.
    fn decide(self: Box<Self>, context: &mut Context<'_>) -> Decision<Answer>;
    /// Tells whoever asked that nothing is decided.
    fn refuse(self: Box<Self>, error: ApiError);
}

/// Tells whoever asked how it went: the answer rests on everything up to this offset.
pub(super) type Answer = Box<dyn FnOnce(Result<Offset, ApiError>) + Send>;

/// The state of the task.
pub(super) struct Active {
    pub(super) quorum: Arc<Quorum>,
    pub(super) store: Store,
    pub(super) shared: Arc<Shared>,
    pub(super) progress: watch::Receiver<Progress>,
    pub(super) random: StdRng,
    pub(super) settings: Settings,
    pub(super) node: Node,
    /// The broker of this node, where it is registered together with the first activation: that of the only voter.
    pub(super) registration: Option<Registration>,
    pub(super) clock: Clock,
    pub(super) leading: Option<Leading>,
}

/// What there is while this node leads.
pub(super) struct Leading {
    lead: Arc<Lead>,
    /// The image with everything that was decided, committed or not.
    head: Image,
    /// The offset that the next record gets.
    next_offset: Offset,
    /// What the log does not say.
    soft: SoftState,
    /// Who waits, in the order of what they wait for.
    waiting: VecDeque<(Offset, Answer)>,
}

impl Leading {
    fn new(lead: Arc<Lead>, soft: SoftState) -> Self {
        let (head, next_offset) = (lead.image.clone(), lead.next_offset);
        Self { lead, head, next_offset, soft, waiting: VecDeque::new() }
    }

    /// Appends records in one batch and applies them to the head.
    fn append(&mut self, quorum: &Quorum, records: &[Record]) -> Result<(), ApiError> {
        if records.is_empty() {
            return Ok(());
        }
        let metadata_version = self.head.metadata_version().unwrap_or(METADATA_VERSION_LATEST);
        let encode = |record: &Record| record.encode(record.version_at(metadata_version));
        let values: Result<Vec<Bytes>, _> = records.iter().map(encode).collect();
        let values =
            values.map_err(|error| unexpected(&format!("a metadata record can not be written: {error}")))?;
        let mut head = self.head.clone();
        for record in records {
            head.apply(record).map_err(|error| unexpected(&format!("a decision does not fit: {error}")))?;
        }
        let appended = quorum.append(self.lead.epoch, values)?;
        head.offset = appended.end - 1;
        head.epoch = self.lead.epoch;
        self.head = head;
        self.next_offset = appended.end;
        Ok(())
    }

    /// The last record that anything may rest on.
    fn last_offset(&self) -> Offset {
        self.head.offset
    }
}

impl Active {
    /// Serves the mailbox until it is closed or told to stop.
    pub(super) async fn run(mut self, mut mailbox: mpsc::Receiver<Job>) {
        let mut stopped = None;
        loop {
            let waiting = self.leading.as_ref().map_or(0, |leading| leading.waiting.len());
            if stopped.is_some() && waiting == 0 {
                break;
            }
            let deadline_ms =
                self.leading.as_ref().and_then(|leading| next_deadline_ms(&leading.head, &leading.soft));
            let due = self.clock.sleep_until(deadline_ms.unwrap_or(i64::MAX));
            tokio::select! {
                biased;
                changed = self.progress.changed() => match changed {
                    Ok(()) => self.progressed(),
                    Err(_) => break,
                },
                job = mailbox.recv(), if stopped.is_none() && waiting < WAITING_MAX => match job {
                    Some(Job::Decide(command, asked_ms)) => {
                        let waited_ms = self.clock.steady_ms() - asked_ms;
                        self.shared.counters.queue_ms.store(waited_ms, Relaxed);
                        self.take(command);
                    },
                    Some(Job::Stop(reply)) => stopped = Some(reply),
                    None => break,
                },
                () = due, if deadline_ms.is_some() => self.tick(),
            }
        }
        self.resign();
        drop(self);
        if let Some(stopped) = stopped {
            // Whoever asked may have gone.
            let _ = stopped.send(());
        }
    }

    /// Does what is due.
    fn tick(&mut self) {
        let Some(mut context) = self.context() else { return };
        let Decision { records, reply: () } = tick(&mut context);
        if let Err(error) = self.append(records) {
            error!(%error, "the controller can not write what was due");
        }
    }

    /// Takes in how far the log is, and who leads.
    fn progressed(&mut self) {
        let Progress { committed, lead } = self.progress.borrow_and_update().clone();
        let same = match (&self.leading, &lead) {
            (Some(leading), Some(lead)) => Arc::ptr_eq(&leading.lead, lead),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !same {
            self.resign();
            if let Some(lead) = lead {
                self.lead(lead);
            }
        }
        let Some(leading) = &mut self.leading else { return };
        while leading.waiting.front().is_some_and(|(offset, _)| *offset <= committed) {
            if let Some((offset, answer)) = leading.waiting.pop_front() {
                answer(Ok(offset));
            }
        }
    }

    /// Begins to lead: the log gets what is missing in it.
    fn lead(&mut self, lead: Arc<Lead>) {
        info!(epoch = lead.epoch, next_offset = lead.next_offset, "this controller is active");
        let registration = self.registration.take();
        let is_first = registration.is_some();
        let mut soft = SoftState::activate(&lead.image, &self.settings, self.clock.steady_ms());
        let activated = start::activate(self, &lead, &mut soft, registration.as_ref());
        self.leading = Some(Leading::new(lead, soft));
        if let Err(error) = activated.and_then(|records| self.append(records)) {
            error!(%error, "the controller can not begin to lead");
            if is_first {
                // The start waits for what could not be written.
                self.shared.opened(Err(StorageError::Write(error.to_string())));
            }
        }
    }

    /// Leads no more: what is not committed may never be.
    fn resign(&mut self) {
        let Some(leading) = self.leading.take() else { return };
        info!(
            epoch = leading.lead.epoch,
            waiting = leading.waiting.len(),
            "this controller is active no more"
        );
        let error = self.inactive();
        for (_, answer) in leading.waiting {
            answer(Err(error.clone()));
        }
    }

    /// Why nothing is decided here.
    fn inactive(&self) -> ApiError {
        match self.store.failure() {
            Some(failure) => failure.into(),
            None => ApiError::with(ErrorCode::NotController, "this node is not the active controller"),
        }
    }

    fn take(&mut self, command: Box<dyn Command>) {
        let Some(mut context) = self.context() else { return command.refuse(self.inactive()) };
        let Decision { records, reply } = command.decide(&mut context);
        match self.append(records) {
            Ok(()) => self.answer_when_committed(reply),
            Err(error) => reply(Err(error)),
        }
    }

    fn answer_when_committed(&mut self, answer: Answer) {
        let committed = self.progress.borrow().committed;
        match &mut self.leading {
            Some(leading) if leading.last_offset() > committed => {
                leading.waiting.push_back((leading.last_offset(), answer));
            }
            Some(leading) => answer(Ok(leading.last_offset())),
            None => answer(Err(self.inactive())),
        }
    }

    /// What a decision looks at; `None` where this node does not lead.
    fn context(&mut self) -> Option<Context<'_>> {
        let Self { leading, settings, random, clock, .. } = self;
        let Leading { head, next_offset, soft, .. } = leading.as_mut()?;
        let now_ms = clock.steady_ms();
        Some(Context { image: head, next_offset: *next_offset, settings, random, now_ms, soft })
    }

    /// Appends the records of one decision and applies them to the head. More than one batch has place for is a
    /// transaction, so that all of it counts or nothing (KIP-868).
    fn append(&mut self, records: Vec<Record>) -> Result<(), ApiError> {
        let Some(leading) = &mut self.leading else { return Err(self.inactive()) };
        let level = leading.head.metadata_version().unwrap_or(METADATA_VERSION_LATEST);
        if records.len() <= BATCH_RECORDS_MAX || level < TRANSACTIONS_SINCE {
            return records
                .chunks(BATCH_RECORDS_MAX)
                .try_for_each(|batch| leading.append(&self.quorum, batch));
        }
        let before = leading.head.clone();
        let begin = BeginTransactionRecord { name: Some("Large decision".to_owned()), ..Default::default() };
        leading.append(&self.quorum, &[begin.into()])?;
        let written =
            records.chunks(BATCH_RECORDS_MAX).try_for_each(|batch| leading.append(&self.quorum, batch));
        match written {
            Ok(()) => leading.append(&self.quorum, &[EndTransactionRecord::default().into()]),
            Err(error) => {
                leading.head = before;
                let abort = AbortTransactionRecord { reason: Some(error.to_string()), ..Default::default() };
                leading.append(&self.quorum, &[abort.into()])?;
                Err(error)
            }
        }
    }
}

fn unexpected(problem: &str) -> ApiError {
    ApiError::with(ErrorCode::UnknownServerError, problem)
}
