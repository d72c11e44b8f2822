//! What the rest of the node holds of the quorum.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use super::core::message::{
    Action, Event, Leadership, QuorumState, Request, Response, RoleName, SnapshotContents, SnapshotId, Token,
};
use super::core::{Config, QuorumCore};
use super::disk::{BATCH_BYTES_MAX, Disk};
use super::driver::{self, Executor};
use super::feed::{self, Progress};
use super::files::{SnapshotFiles, SnapshotReader};
use super::meters::{Meters, QuorumRates};
use crate::client::Traffic;
use crate::clock::Clock;
use crate::error::{ApiError, ErrorCode, StorageError};
use crate::log::Partition;
use crate::storage::Store;
use crate::types::{LeaderEpoch, NodeId, Offset, TimestampMs};

/// How many events may wait for who follows the log. More hold the log back, and not the quorum.
const EVENTS: usize = 64;
/// What a record needs in a batch beside its value, at most.
const RECORD_OVERHEAD_BYTES: usize = 32;
/// How long a leader that stops waits for others to make room for the next one.
const STOP_WITHIN_MS: i64 = 2_000;

/// What a node of the quorum is started with.
pub struct QuorumOptions {
    /// Where the node keeps its vote.
    pub store: Store,
    /// The metadata log; it has to sync every append.
    pub log: Arc<Partition>,
    /// Where time comes from.
    pub clock: Clock,
    /// The id of the cluster, which every request to another node names.
    pub cluster_id: Arc<str>,
    /// What this node is, and how it behaves.
    pub config: Config,
}

/// One record of the metadata log that is not the quorum's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Where it stands.
    pub offset: Offset,
    /// The epoch in which it was written.
    pub epoch: LeaderEpoch,
    /// Its value.
    pub value: Bytes,
}

/// Records that are committed, together with those of the quorum itself between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The records, in order.
    pub records: Vec<LogRecord>,
    /// The offset behind the last batch that was read. A snapshot may end here.
    pub end_offset: Offset,
    /// The epoch of that batch.
    pub epoch: LeaderEpoch,
    /// The newest timestamp of that batch.
    pub timestamp_ms: TimestampMs,
    /// How much of the log it is.
    pub bytes: usize,
}

/// What happened to the log, in order.
#[derive(Debug)]
pub enum QuorumEvent {
    /// More is committed.
    Committed(Committed),
    /// Everything before the end of this snapshot is what it says; what was known before is replaced by it.
    Snapshot(SnapshotReader),
    /// This node leads, and everything that was written before is committed and told. What it appends first gets this
    /// offset.
    Leading {
        /// The epoch.
        epoch: LeaderEpoch,
        /// Where its records begin.
        next_offset: Offset,
    },
    /// It leads no more.
    Resigned {
        /// The epoch in which it led.
        epoch: LeaderEpoch,
    },
}

/// What a node knows of the quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuorumStatus {
    /// What it is.
    pub role: RoleName,
    /// Who leads, if that is known.
    pub leader: Option<NodeId>,
    /// The newest epoch that it knows.
    pub epoch: LeaderEpoch,
    /// Whom it voted for in that epoch.
    pub voted: Option<NodeId>,
    /// Everything before it is committed, if that is known.
    pub high_watermark: Option<Offset>,
    /// Where its log ends.
    pub log_end: Offset,
    /// The epoch of the last record there.
    pub log_end_epoch: LeaderEpoch,
    /// How many voters there are.
    pub voters: usize,
    /// How many others fetch from it, if it leads.
    pub observers: Option<usize>,
    /// Whether the log names voters in a record that is not committed yet.
    pub is_voter_change_uncommitted: bool,
}

/// The answer to a request: for a fetch, with the batches that it reads.
#[derive(Debug)]
pub struct Answer {
    /// What the core says.
    pub response: Response,
    /// The batches of a fetch.
    pub records: Vec<Bytes>,
}

/// What is done, in order.
pub(super) enum Work {
    /// An action of the core of this generation.
    Do(u64, Action),
    /// The core wants to be told the time sooner than before.
    Look,
    /// Do what came before, and end.
    Stop,
}

/// The core, and who waits for its answers.
pub(super) struct State {
    /// `None` while the disk can not be written, and after the end.
    pub(super) core: Option<QuorumCore>,
    /// Counts the cores: each begins with what is on the disk.
    pub(super) generation: u64,
    next_token: Token,
    waiting: HashMap<Token, oneshot::Sender<Answer>>,
}

/// What the handle and the tasks share.
pub(super) struct Shared {
    state: Mutex<State>,
    clock: Clock,
    /// Unbounded, as the core is asked by requests that were admitted, and by answers to its own.
    work: mpsc::UnboundedSender<Work>,
    pub(super) leadership: watch::Sender<Leadership>,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) meters: Mutex<Meters>,
    /// Over the connections to other nodes.
    pub(super) traffic: Arc<Traffic>,
}

impl Shared {
    /// Tells the core, and queues what it wants to be done.
    pub(super) fn step(&self, event: Event) {
        self.step_with(&mut self.state.lock(), event);
    }

    /// The same, if the core is still that one.
    pub(super) fn step_in(&self, generation: u64, event: Event) {
        let mut state = self.state.lock();
        if state.generation == generation {
            self.step_with(&mut state, event);
        }
    }

    fn step_with(&self, state: &mut State, event: Event) {
        let Some(core) = &mut state.core else { return };
        let actions = core.step(self.clock.steady_ms(), event);
        self.queue(state.generation, actions);
    }

    /// The state's lock is held, so that the order is that of the steps.
    fn queue(&self, generation: u64, actions: Vec<Action>) {
        if actions.is_empty() {
            // The task that works ends last.
            let _ = self.work.send(Work::Look);
        }
        for action in actions {
            let _ = self.work.send(Work::Do(generation, action));
        }
    }

    /// When the core wants to be told the time.
    pub(super) fn deadline(&self) -> Option<i64> {
        self.state.lock().core.as_ref().and_then(QuorumCore::deadline)
    }

    /// Another core takes over; what the one before wanted is not done any more, and who waits for it gets no answer.
    pub(super) fn replace(&self, core: Option<(QuorumCore, Vec<Action>)>) {
        let mut state = self.state.lock();
        state.generation += 1;
        state.waiting.clear();
        state.core = None;
        if let Some((core, actions)) = core {
            state.core = Some(core);
            self.queue(state.generation, actions);
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.state.lock().generation
    }

    pub(super) fn answer(&self, token: Token, answer: Answer) {
        if let Some(sender) = self.state.lock().waiting.remove(&token) {
            // Whoever asked may have gone.
            let _ = sender.send(answer);
        }
    }

    /// Looks at the core.
    pub(super) fn look<T>(&self, look: impl FnOnce(&mut QuorumCore) -> T) -> Option<T> {
        self.state.lock().core.as_mut().map(look)
    }
}

/// A node of the quorum.
pub struct Quorum {
    shared: Arc<Shared>,
    files: SnapshotFiles,
    cluster_id: Arc<str>,
    listener: String,
    stopped: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Quorum {
    /// Reads the log and takes part in the quorum. What is committed comes as events; the only voter leads at once. Must
    /// be called on a tokio runtime.
    ///
    /// # Errors
    /// Where the store can not be read or the log is damaged.
    pub async fn open(
        options: QuorumOptions,
    ) -> Result<(Arc<Self>, mpsc::Receiver<QuorumEvent>), StorageError> {
        let QuorumOptions { store, log, clock, cluster_id, config } = options;
        let files = SnapshotFiles::of(store.directory());
        let disk = Disk { store, log, files: files.clone(), clock: clock.clone() };
        let reading = disk.clone();
        let remembered = driver::blocking(move || reading.remembered()).await?;
        disk.log.leave_to_quorum();
        let (log_start, listener) = (remembered.log.start, config.listener.clone());
        let (core, actions) = QuorumCore::start(config.clone(), remembered, clock.steady_ms());
        let (work, queue) = mpsc::unbounded_channel();
        let (events, receiver) = mpsc::channel(EVENTS);
        let (ended, stopped) = oneshot::channel();
        let state = State { core: None, generation: 0, next_token: 1, waiting: HashMap::new() };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            clock,
            work,
            leadership: watch::Sender::new(Leadership::unknown()),
            progress: watch::Sender::new(Progress::default()),
            meters: Mutex::default(),
            traffic: Arc::default(),
        });
        shared.replace(Some((core, actions)));
        tokio::spawn(feed::run(Arc::clone(&shared), disk.clone(), log_start, events));
        let executor = Executor::new(Arc::clone(&shared), disk, config, Arc::clone(&cluster_id));
        tokio::spawn(async move {
            executor.run(queue).await;
            // Whoever waits for it may have gone.
            let _ = ended.send(());
        });
        let stopped = Mutex::new(Some(stopped));
        Ok((Arc::new(Self { shared, files, cluster_id, listener, stopped }), receiver))
    }

    /// Who leads, and what this node is. What is known already counts as a change: a node that was led when it stopped
    /// may know its leader before anybody has asked.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        let mut leadership = self.shared.leadership.subscribe();
        leadership.mark_changed();
        leadership
    }

    /// The id of the cluster.
    pub fn cluster_id(&self) -> &Arc<str> {
        &self.cluster_id
    }

    /// The listener by which nodes of the quorum reach each other.
    pub fn listener(&self) -> &str {
        &self.listener
    }

    /// Appends one batch of records as the leader of this epoch. They are committed later, or never; the event
    /// says so.
    ///
    /// # Errors
    /// `NOT_CONTROLLER` where this node does not lead in this epoch, and where the records are too many.
    pub fn append(&self, epoch: LeaderEpoch, values: Vec<Bytes>) -> Result<Range<Offset>, ApiError> {
        let bytes: usize = values.iter().map(|value| value.len() + RECORD_OVERHEAD_BYTES).sum();
        if bytes > BATCH_BYTES_MAX {
            let text = format!("the change needs more than {BATCH_BYTES_MAX} bytes of metadata");
            return Err(ApiError::with(ErrorCode::RecordListTooLarge, text));
        }
        let mut state = self.shared.state.lock();
        let generation = state.generation;
        let Some(core) = &mut state.core else { return Err(ErrorCode::NotController.into()) };
        let mut actions = core.step(self.shared.clock.steady_ms(), Event::Append(0, epoch, values));
        let mut appended = Err(ErrorCode::NotController);
        actions.retain(|action| {
            let Action::Reply(0, reply) = action else { return true };
            if let Response::Appended(Ok(range)) = reply {
                appended = Ok(range.clone());
            }
            false
        });
        self.shared.queue(generation, actions);
        appended.map_err(ApiError::from)
    }

    /// Asks the core and waits for the answer.
    ///
    /// # Errors
    /// `NOT_CONTROLLER` where the node stops.
    pub async fn ask(&self, request: Request) -> Result<Answer, ApiError> {
        let (sender, answer) = oneshot::channel();
        {
            let mut state = self.shared.state.lock();
            if state.core.is_none() {
                return Err(ErrorCode::NotController.into());
            }
            state.next_token += 1;
            let token = state.next_token;
            state.waiting.insert(token, sender);
            self.shared.step_with(&mut state, Event::Request(token, request));
        }
        answer.await.map_err(|_| ErrorCode::NotController.into())
    }

    /// How the quorum is, with times of the wall clock; `None` where this node does not lead.
    pub fn describe(&self) -> Option<QuorumState> {
        let clock = &self.shared.clock;
        let ahead_ms = clock.now_ms() - clock.steady_ms();
        self.shared.step(Event::Tick);
        let mut state = self.shared.look(QuorumCore::describe)??;
        for replica in state.voters.iter_mut().chain(&mut state.observers) {
            replica.last_fetch_ms = replica.last_fetch_ms.map(|at_ms| at_ms + ahead_ms);
            replica.last_caught_up_ms = replica.last_caught_up_ms.map(|at_ms| at_ms + ahead_ms);
        }
        Some(state)
    }

    /// What this node knows of the quorum, for metrics.
    pub fn status(&self) -> Option<QuorumStatus> {
        self.shared.look(|core| QuorumStatus {
            role: core.role_name(),
            leader: core.leader(),
            epoch: core.epoch(),
            voted: core.voted().map(|key| key.id),
            high_watermark: core.high_watermark(),
            log_end: core.log().end,
            log_end_epoch: core.log().last_epoch(),
            voters: core.membership().voters().0.len(),
            observers: core.observers(),
            is_voter_change_uncommitted: core
                .membership()
                .voters_offset()
                .is_some_and(|offset| offset >= core.high_watermark().unwrap_or(0)),
        })
    }

    /// How fast the quorum works, for metrics.
    pub fn rates(&self) -> QuorumRates {
        self.shared.meters.lock().rates(self.shared.clock.steady_ms())
    }

    /// What went over the connections to other nodes of the quorum since the start, for metrics.
    pub fn traffic(&self) -> &Traffic {
        &self.shared.traffic
    }

    /// Whether nobody else votes.
    pub fn is_only_voter(&self) -> bool {
        self.shared.look(|core| core.is_only_voter()).unwrap_or(false)
    }

    /// The level of `kraft.version`.
    pub fn kraft_version(&self) -> i16 {
        self.shared.look(|core| core.membership().level()).unwrap_or(0)
    }

    /// Keeps a snapshot of everything before an offset that an event [`Committed`] ended at. The log that the snapshot
    /// before it covers is deleted.
    ///
    /// # Errors
    /// Where it can not be written, and where nobody can say who votes, as the node stops or its disk can not be written.
    pub async fn save_snapshot(
        &self,
        id: SnapshotId,
        last_timestamp_ms: TimestampMs,
        records: impl Iterator<Item = Bytes> + Send + 'static,
    ) -> Result<(), StorageError> {
        let before = |core: &mut QuorumCore| core.membership().before(id.end_offset);
        // A snapshot that names no voters would leave the next life of this node without any.
        let contents: Option<SnapshotContents> = self.shared.look(before);
        let contents = contents
            .ok_or_else(|| StorageError::Write("the quorum does not run at the moment".to_owned()))?;
        let files = self.files.clone();
        driver::blocking(move || files.write(id, &contents, last_timestamp_ms, records)).await?;
        self.shared.step(Event::SnapshotSaved(id));
        Ok(())
    }

    /// Leads no more in this epoch, so that another voter does.
    pub fn resign(&self, epoch: LeaderEpoch) {
        self.shared.step(Event::Resign(epoch));
    }

    /// Ends: a leader makes room for another one first. What was appended is written.
    pub async fn shutdown(&self) {
        let Some(stopped) = self.stopped.lock().take() else { return };
        self.shared.step(Event::Shutdown);
        let mut leadership = self.shared.leadership.subscribe();
        let clock = self.shared.clock.clone();
        let until_ms = clock.steady_ms() + STOP_WITHIN_MS;
        while self.shared.look(|core| core.can_stop()) == Some(false) && clock.steady_ms() < until_ms {
            let again_ms = clock.steady_ms() + 10;
            tokio::select! {
                _ = leadership.changed() => {}
                () = clock.sleep_until(again_ms) => {}
            }
        }
        let _ = self.shared.work.send(Work::Stop);
        // Without an answer it has ended as well.
        let _ = stopped.await;
    }
}
