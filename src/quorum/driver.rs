//! Carries out what the [core](super::core) says, one action after the other, against the store, the log, the snapshots
//! and the other nodes.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{error, info};

use super::core::message::{
    Action, Destination, Event, Fetched, FetchedSnapshot, Leadership, Progress, Request, Response, RoleName,
    Token,
};
use super::core::{Config, QuorumCore};
use super::disk::Disk;
use super::handle::{Answer, Shared, Work};
use super::meters::Meters;
use super::wire;
use crate::client::{Address, Peer, PeerOptions};
use crate::error::{ApiError, ErrorCode, StorageError};
use crate::log::{PendingAppend, ReadUpTo};
use crate::storage::{Durability, Key, Ops};
use crate::types::LeaderEpoch;

/// How often it is looked whether the disk can be written again. The store tries it by the time of the machine, whatever
/// the clock shows.
const RETRY: Duration = Duration::from_millis(20);
/// How many connections are kept: two to each node. Above, those that were needed first are closed.
const PEERS_MAX: usize = 64;
/// Requests between nodes are retried by the core; a connection is tried again as soon.
const RECONNECT_BACKOFF_MAX_MS: i64 = 100;

/// The task that does what the core wants.
pub(super) struct Executor {
    shared: Arc<Shared>,
    disk: Disk,
    config: Config,
    cluster_id: Arc<str>,
    /// By address, one for fetches, which may wait at the other side, and one for everything else.
    peers: HashMap<(Address, bool), Arc<Peer>>,
    /// What goes into the next write.
    extra: Ops,
    appends: VecDeque<(LeaderEpoch, PendingAppend)>,
    generation: u64,
}

/// What the task hears of.
enum Heard {
    Work(Work),
    Flushed(LeaderEpoch, Result<crate::log::Appended, ApiError>),
    Time,
}

impl Executor {
    pub(super) fn new(shared: Arc<Shared>, disk: Disk, config: Config, cluster_id: Arc<str>) -> Self {
        let generation = shared.generation();
        Self {
            shared,
            disk,
            config,
            cluster_id,
            peers: HashMap::new(),
            extra: Ops::new(),
            appends: VecDeque::new(),
            generation,
        }
    }

    /// Works until it is told to stop.
    pub(super) async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Work>) {
        loop {
            let done = match self.hear(&mut queue).await {
                Heard::Work(Work::Do(generation, action)) if generation == self.generation => {
                    self.carry_out(action).await
                }
                Heard::Work(Work::Do(..) | Work::Look) => Ok(()),
                Heard::Work(Work::Stop) => break,
                Heard::Flushed(epoch, Ok(appended)) => {
                    self.shared.step(Event::Flushed(epoch, appended.last_offset + 1));
                    Ok(())
                }
                Heard::Flushed(_, Err(problem)) => Err(problem),
                Heard::Time => {
                    self.shared.step(Event::Tick);
                    Ok(())
                }
            };
            if let Err(problem) = done
                && !self.begin_anew(&problem, &mut queue).await
            {
                break;
            }
        }
        self.end().await;
    }

    /// What comes next: what is written and what the core wants before the time. What has to be durable is written
    /// before it is waited for anything.
    async fn hear(&mut self, queue: &mut mpsc::UnboundedReceiver<Work>) -> Heard {
        if let Ok(work) = queue.try_recv() {
            return Heard::Work(work);
        }
        if let Err(problem) = self.write_extra().await {
            return Heard::Flushed(0, Err(problem));
        }
        let (clock, deadline) = (self.disk.clock.clone(), self.shared.deadline());
        tokio::select! {
            biased;
            (epoch, appended) = first(&mut self.appends) => Heard::Flushed(epoch, appended),
            work = queue.recv() => Heard::Work(work.unwrap_or(Work::Stop)),
            () = clock.sleep_until(deadline.unwrap_or(i64::MAX)), if deadline.is_some() => Heard::Time,
        }
    }

    async fn carry_out(&mut self, action: Action) -> Result<(), ApiError> {
        match action {
            // It goes into the same write as what follows.
            Action::Persist(state) => {
                self.extra.put(&Key::QuorumState, state.to_json());
                return Ok(());
            }
            Action::Append { epoch, base_offset, records } => {
                let pending = self.disk.append(epoch, &records, std::mem::take(&mut self.extra))?;
                if pending.expected().base_offset != base_offset {
                    let text = format!("the metadata log does not end at {base_offset}");
                    return Err(ApiError::with(ErrorCode::UnknownServerError, text));
                }
                self.measure(|meters, now_ms| {
                    meters.appended(now_ms, base_offset, pending.expected().last_offset + 1);
                });
                self.appends.push_back((epoch, pending));
                return Ok(());
            }
            Action::Replicate(batches) => {
                let count = batches.iter().map(|batch| batch.last_offset - batch.base_offset + 1).sum();
                self.measure(|meters, now_ms| meters.fetched(now_ms, count));
                let extra = std::mem::take(&mut self.extra);
                return self.disk.replicate(&batches, extra).await;
            }
            Action::Truncate(_)
            | Action::DeleteBefore(_)
            | Action::Send { .. }
            | Action::Reply(..)
            | Action::Committed(_)
            | Action::Role(_)
            | Action::WriteSnapshot { .. }
            | Action::InstallSnapshot(_) => {}
        }
        self.write_extra().await?;
        match action {
            Action::Truncate(end) => {
                info!(end, "the metadata log is cut to where the leader's agrees");
                let disk = self.disk.clone();
                blocking(move || disk.truncate(end)).await?;
            }
            Action::DeleteBefore(start) => {
                let disk = self.disk.clone();
                let deleted = blocking(move || {
                    let advanced = disk.log.advance_log_start(start);
                    advanced.map_err(|problem| StorageError::Write(problem.to_string()))?;
                    disk.files.delete_before(start)
                });
                deleted.await?;
            }
            Action::Send { correlation, to, request } => self.send(correlation, &to, request),
            Action::Reply(token, response) => self.reply(token, response).await,
            Action::Committed(offset) => {
                self.disk.log.set_high_watermark(offset);
                self.measure(|meters, now_ms| meters.committed(now_ms, offset));
                self.shared.progress.send_modify(|progress| progress.committed = offset);
            }
            Action::Role(leadership) => self.tell(leadership),
            Action::WriteSnapshot { id, position, bytes } => {
                let files = self.disk.files.clone();
                blocking(move || files.write_bytes(id, position, &bytes)).await?;
            }
            Action::InstallSnapshot(id) => {
                let disk = self.disk.clone();
                let installed = blocking(move || {
                    let contents = disk.files.finish(id)?;
                    if contents.is_some() {
                        disk.restart_at(id.end_offset)?;
                        disk.files.delete_before(id.end_offset)?;
                    }
                    Ok(contents)
                });
                let contents = installed.await?;
                info!(
                    end_offset = id.end_offset,
                    epoch = id.epoch,
                    whole = contents.is_some(),
                    "snapshot fetched"
                );
                self.shared.step(Event::SnapshotInstalled(id, contents));
            }
            Action::Persist(_) | Action::Append { .. } | Action::Replicate(_) => {}
        }
        Ok(())
    }

    fn measure(&self, measure: impl FnOnce(&mut Meters, i64)) {
        measure(&mut self.shared.meters.lock(), self.disk.clock.steady_ms());
    }

    /// Makes durable what nothing was appended with.
    async fn write_extra(&mut self) -> Result<(), ApiError> {
        if !self.extra.is_empty() {
            let extra = std::mem::take(&mut self.extra);
            self.disk.store.commit(extra, Durability::Disk).await?;
        }
        Ok(())
    }

    fn tell(&self, leadership: Leadership) {
        let Leadership { epoch, leader, role, epoch_start, .. } = &leadership;
        info!(epoch, leader = leader.unwrap_or(-1), role = role.as_str(), "the quorum");
        let leading = (*role == RoleName::Leader).then_some((*epoch, *epoch_start));
        self.measure(|meters, now_ms| {
            meters.leader_is_known(now_ms, leader.is_some(), leading.is_some());
        });
        self.shared.progress.send_modify(|progress| progress.leading = leading);
        self.shared.leadership.send_replace(leadership);
    }

    fn send(&mut self, correlation: u64, to: &Destination, request: Request) {
        let waits = matches!(request, Request::Fetch(_));
        let address = Address { host: to.host.as_str().into(), port: to.port };
        if self.peers.len() >= PEERS_MAX {
            self.peers.clear();
        }
        let (clock, traffic) = (&self.disk.clock, &self.shared.traffic);
        let peer = self.peers.entry((address.clone(), waits)).or_insert_with(|| {
            let mut options = PeerOptions::new("raft-client", clock.clone());
            options.reconnect_backoff_ms = self.config.timing.retry_backoff_ms;
            options.reconnect_backoff_max_ms = RECONNECT_BACKOFF_MAX_MS;
            options.traffic = Some(Arc::clone(traffic));
            Peer::new(address, options)
        });
        let (peer, shared, generation) = (Arc::clone(peer), Arc::clone(&self.shared), self.generation);
        let call = wire::Call {
            cluster_id: Arc::clone(&self.cluster_id),
            listener: self.config.listener.clone(),
            timeout_ms: self.config.timing.request_timeout_ms,
        };
        tokio::spawn(async move {
            let response = call.send(&peer, request).await;
            shared.step_in(generation, Event::Response(correlation, response));
        });
    }

    async fn reply(&self, token: Token, response: Response) {
        let mut records = Vec::new();
        let mut response = response;
        if let Response::Fetch(header, fetched) = &mut response
            && header.error.is_none()
        {
            match self.read(fetched).await {
                Ok(batches) => records = batches,
                Err(code) => header.error = Some(code),
            }
        }
        if let Response::FetchSnapshot(header, piece) = &mut response
            && header.error.is_none()
        {
            header.error = self.read_piece(piece).await.err();
        }
        self.shared.answer(token, Answer { response, records });
    }

    async fn read(&self, fetched: &Fetched) -> Result<Vec<bytes::Bytes>, ErrorCode> {
        let Progress::Read { from, to, bytes_max } = fetched.progress else { return Ok(Vec::new()) };
        if from >= to {
            return Ok(Vec::new());
        }
        let log = Arc::clone(&self.disk.log);
        let failed = |problem: ApiError| problem.code;
        if let Some(read) = log.read_memory(from, bytes_max, true, ReadUpTo::LogEnd).map_err(failed)? {
            return Ok(read.batches);
        }
        let read = tokio::task::spawn_blocking(move || log.read(from, bytes_max, true, ReadUpTo::LogEnd));
        let read = read.await.map_err(|_| ErrorCode::UnknownServerError)?;
        read.map(|read| read.batches).map_err(failed)
    }

    async fn read_piece(&self, piece: &mut FetchedSnapshot) -> Result<(), ErrorCode> {
        let FetchedSnapshot { id, position, bytes_max, .. } = *piece;
        let files = self.disk.files.clone();
        let read = blocking(move || files.piece(id, position, bytes_max)).await;
        let found = read.map_err(|_| ErrorCode::KafkaStorageError)?;
        let (size, bytes) = found.ok_or(ErrorCode::SnapshotNotFound)?;
        if position >= size {
            return Err(ErrorCode::PositionOutOfRange);
        }
        (piece.size, piece.bytes) = (size, bytes);
        Ok(())
    }

    /// Something could not be written, so the core is ahead of the disk: once the disk can be written, another core
    /// begins with what is there. False where it is told to stop before.
    async fn begin_anew(&mut self, problem: &ApiError, queue: &mut mpsc::UnboundedReceiver<Work>) -> bool {
        error!(%problem, "the metadata log can not be written");
        self.shared.replace(None);
        self.appends.clear();
        self.extra = Ops::new();
        let last = self.shared.leadership.borrow().clone();
        self.tell(Leadership { leader: None, role: RoleName::Unattached, ..last });
        loop {
            tokio::time::sleep(RETRY).await;
            while let Ok(work) = queue.try_recv() {
                if matches!(work, Work::Stop) {
                    return false;
                }
            }
            if self.disk.store.failure().is_some() {
                continue;
            }
            let disk = self.disk.clone();
            match blocking(move || disk.remembered()).await {
                Ok(remembered) => {
                    self.config.seed = self.config.seed.wrapping_add(1);
                    let now_ms = self.disk.clock.steady_ms();
                    let started = QuorumCore::start(self.config.clone(), remembered, now_ms);
                    self.shared.replace(Some(started));
                    self.generation = self.shared.generation();
                    return true;
                }
                Err(problem) => error!(%problem, "the metadata log can not be read"),
            }
        }
    }

    /// Waits for what is being written, and lets nobody wait any more.
    async fn end(mut self) {
        // Whoever needs it durable has asked for it before.
        let _ = self.write_extra().await;
        while !self.appends.is_empty() {
            let (epoch, appended) = first(&mut self.appends).await;
            let Ok(appended) = appended else { break };
            let now_ms = self.disk.clock.steady_ms();
            let flushed = Event::Flushed(epoch, appended.last_offset + 1);
            for action in self.shared.look(|core| core.step(now_ms, flushed)).unwrap_or_default() {
                if let Action::Committed(offset) = action {
                    self.disk.log.set_high_watermark(offset);
                    self.shared.progress.send_modify(|progress| progress.committed = offset);
                }
            }
        }
        self.shared.replace(None);
        self.shared.progress.send_modify(|progress| progress.closed = true);
    }
}

/// Waits for the first of the appends to be stored; for ever where there is none.
async fn first(
    appends: &mut VecDeque<(LeaderEpoch, PendingAppend)>,
) -> (LeaderEpoch, Result<crate::log::Appended, ApiError>) {
    let done = std::future::poll_fn(|context| match appends.front_mut() {
        Some((epoch, pending)) => Pin::new(pending).poll(context).map(|appended| (*epoch, appended)),
        None => Poll::Pending,
    });
    let done = done.await;
    appends.pop_front();
    done
}

/// Runs what waits for the disk where waiting harms nobody.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|problem| Err(StorageError::Write(format!("the work was not finished: {problem}"))))
}
