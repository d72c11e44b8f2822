//! Fetches from one leader, over one connection, into the logs that follow it (`ReplicaFetcherThread`).
//!
//! One round: what is wanted of which partition → one Fetch → every partition's records are queued for the store under
//! the lock that also adds and removes partitions → the store has them → the next round, whose offsets tell the leader
//! so. Nothing that is not stored here is ever fetched beyond.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI16, AtomicI64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::follower::{Do, FetchFrom, Fetched, Follower, FollowerLog, Want};
use super::leader::{self, Asker, FetchAnswer, FetchLimits, OffsetsWanted, PartitionAnswer};
use super::session::{FetchSession, SessionPartition};
use super::throttle::{ReplicationQuota, names};
use crate::client::{Address, Peer, PeerOptions};
use crate::clock::Clock;
use crate::config::BrokerConfig;
use crate::error::ErrorCode;
use crate::log::{FromLeader, LogManager, Ops, Partition, PendingAppend};
use crate::storage::Durability;
use crate::types::{LeaderEpoch, NodeId, Offset, TopicIdPartition};

/// How often the leader is told where the logs here start, if that has changed.
const REFRESH_MS: i64 = 500;

/// How soon a partition is looked at again that is held back by a throttle.
const THROTTLE_MS: i64 = 100;

/// What all fetchers of a broker share.
pub(super) struct Environment {
    pub(super) node_id: NodeId,
    pub(super) clock: Clock,
    pub(super) logs: Arc<LogManager>,
    pub(super) config: Arc<BrokerConfig>,
    /// What this broker fetches for its throttled replicas.
    pub(super) fetched: ReplicationQuota,
    /// The epoch of this broker's registration, as the published image has it.
    pub(super) broker_epoch: AtomicI64,
    /// The level of `metadata.version` in the published image.
    pub(super) metadata_version: AtomicI16,
    pub(super) stopping: CancellationToken,
    /// What has to end before the logs may be closed.
    pub(super) tasks: TaskTracker,
}

impl Environment {
    fn asker(&self) -> Asker {
        Asker {
            node_id: self.node_id,
            broker_epoch: self.broker_epoch.load(Ordering::Relaxed),
            metadata_version: self.metadata_version.load(Ordering::Relaxed),
        }
    }

    fn limits(&self) -> FetchLimits {
        FetchLimits {
            wait_max_ms: self.config.replica_fetch_wait_max_ms,
            min_bytes: self.config.replica_fetch_min_bytes,
            response_max_bytes: self.config.replica_fetch_response_max_bytes,
            timeout_ms: self.config.replica_socket_timeout_ms.into(),
        }
    }

    /// Whether a log is one of those that are not fetched faster than a throttle lets them.
    fn is_throttled(&self, log: &Partition) -> bool {
        let named =
            || names(&log.config().follower_replication_throttled_replicas, log.index(), self.node_id);
        self.fetched.is_limited() && named()
    }

    fn backoff_ms(&self) -> i64 {
        self.config.replica_fetch_backoff_ms.into()
    }
}

/// A partition that is fetched.
struct Followed {
    log: Arc<Partition>,
    follower: Follower,
}

#[derive(Default)]
struct Partitions {
    by_key: HashMap<TopicIdPartition, Followed>,
    /// What was added or removed since the last round.
    touched: Vec<TopicIdPartition>,
    /// Whether something was added whose log may have an end that is not stored yet.
    has_new: bool,
}

/// What is fetched from one leader.
pub(super) struct Fetcher {
    leader: NodeId,
    environment: Arc<Environment>,
    peer: Mutex<Arc<Peer>>,
    partitions: Mutex<Partitions>,
    changed: Notify,
    stopping: CancellationToken,
}

/// The log of a partition as the follower's state machine sees it.
struct View<'a>(&'a Partition);

impl FollowerLog for View<'_> {
    fn log_start(&self) -> Offset {
        self.0.offsets().log_start
    }

    fn log_end(&self) -> Offset {
        self.0.offsets().log_end
    }

    fn high_watermark(&self) -> Offset {
        self.0.offsets().high_watermark
    }

    fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.0.latest_epoch()
    }

    fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        Some(self.0.epoch_end(epoch)).filter(|(_, end)| *end >= 0)
    }
}

impl Fetcher {
    /// Begins to fetch from a leader; nothing is sent before something is added. Must be called within a tokio runtime.
    pub(super) fn start(environment: &Arc<Environment>, leader: NodeId, address: Address) -> Arc<Self> {
        let fetcher = Arc::new(Self {
            leader,
            peer: Mutex::new(connect(environment, address)),
            environment: Arc::clone(environment),
            partitions: Mutex::default(),
            changed: Notify::new(),
            stopping: environment.stopping.child_token(),
        });
        environment.tasks.spawn(Arc::clone(&fetcher).run());
        fetcher
    }

    /// Ends it. What was fetched is in the logs.
    pub(super) fn stop(&self) {
        self.stopping.cancel();
    }

    /// The leader listens here.
    pub(super) fn set_address(&self, address: Address) {
        let mut peer = self.peer.lock();
        if *peer.address() != address {
            *peer = connect(&self.environment, address);
        }
    }

    /// Follows the leader of this epoch with a log. May wait for the disk.
    pub(super) fn add(&self, key: TopicIdPartition, log: Arc<Partition>, leader_epoch: LeaderEpoch) {
        let (mut follower, first) = Follower::start(leader_epoch, &View(&log));
        if let Do::Truncate(to) = first {
            match log.truncate_to(to) {
                Ok(_) => follower.log_changed(&View(&log)),
                Err(error) => {
                    tracing::error!(partition = log.name(), %error, "the log can not be truncated");
                    follower.give_up();
                }
            }
        }
        let mut partitions = self.partitions.lock();
        partitions.by_key.insert(key, Followed { log, follower });
        partitions.touched.push(key);
        partitions.has_new = true;
        drop(partitions);
        self.changed.notify_one();
    }

    /// Fetches a partition no more: when this returns, nothing that was fetched is appended to its log.
    pub(super) fn remove(&self, key: TopicIdPartition) {
        let mut partitions = self.partitions.lock();
        partitions.by_key.remove(&key);
        partitions.touched.push(key);
        drop(partitions);
        self.changed.notify_one();
    }

    /// Whether nothing is fetched.
    pub(super) fn is_empty(&self) -> bool {
        self.partitions.lock().by_key.is_empty()
    }

    /// Gives each partition's lag, and whether it has given up, to `visit`.
    pub(super) fn visit(&self, mut visit: impl FnMut(&Partition, Option<i64>, bool)) {
        for followed in self.partitions.lock().by_key.values() {
            visit(&followed.log, followed.follower.lag(), followed.follower.is_failed());
        }
    }

    async fn run(self: Arc<Self>) {
        let mut state = Rounds::default();
        let stopping = self.stopping.clone();
        while stopping.run_until_cancelled(self.round(&mut state)).await.is_some() {}
    }

    async fn round(self: &Arc<Self>, state: &mut Rounds) {
        let environment = &self.environment;
        let now_ms = environment.clock.steady_ms();
        let prepared = self.prepare(state, now_ms);
        if prepared.has_new {
            // What the logs have must be stored before the leader hears of it.
            let stored = environment.logs.store().commit(Ops::new(), Durability::Process).await;
            if let Err(error) = stored {
                tracing::debug!(%error, "the store is not there yet");
                self.partitions.lock().has_new = true;
                environment.clock.sleep_until(now_ms + environment.backoff_ms()).await;
                return;
            }
            // Some of it may have been lost on the way, and is not to be asked beyond.
            state.refresh_ms = i64::MIN;
            return;
        }
        if !prepared.offsets_wanted.is_empty() {
            self.ask_offsets(state, &prepared.offsets_wanted).await;
            return;
        }
        if state.session.is_empty() {
            let next_ms = state.delayed.first().map_or(i64::MAX, |(at_ms, _)| *at_ms);
            tokio::select! {
                () = self.changed.notified() => {}
                () = environment.clock.sleep_until(next_ms) => {}
            }
            return;
        }
        let fetch = state.session.fetch();
        let peer = Arc::clone(&self.peer.lock());
        match leader::fetch(&peer, environment.asker(), &fetch, environment.limits()).await {
            Ok(answer) => match state.session.answered(answer.error_code, answer.session_id) {
                Ok(()) => self.take(state, answer).await,
                Err(ErrorCode::FetchSessionIdNotFound | ErrorCode::InvalidFetchSessionEpoch) => {}
                Err(code) => {
                    tracing::warn!(leader = self.leader, %code, "the leader refuses to be fetched from");
                    self.back_off_all(state);
                }
            },
            Err(error) => {
                tracing::warn!(leader = self.leader, %error, "the leader can not be fetched from");
                state.session.failed();
                self.back_off_all(state);
            }
        }
    }

    /// Brings the session in line with what the partitions want now.
    fn prepare(&self, state: &mut Rounds, now_ms: i64) -> Prepared {
        let mut partitions = self.partitions.lock();
        state.touched.append(&mut partitions.touched);
        while let Some((at_ms, key)) = state.delayed.first().copied().filter(|(at_ms, _)| *at_ms <= now_ms) {
            state.delayed.remove(&(at_ms, key));
            state.touched.push(key);
        }
        if now_ms >= state.refresh_ms {
            state.refresh_ms = now_ms + REFRESH_MS;
            state.touched.extend(partitions.by_key.keys());
        }
        let mut offsets_wanted = Vec::new();
        for key in std::mem::take(&mut state.touched) {
            let Some(Followed { log, follower }) = partitions.by_key.get_mut(&key) else {
                state.session.remove(&key);
                continue;
            };
            let environment = &self.environment;
            follower.reconcile(&View(log));
            match follower.wants(now_ms) {
                Some(Want::Fetch(_))
                    if !follower.is_in_sync()
                        && environment.is_throttled(log)
                        && environment.fetched.is_exceeded(now_ms) =>
                {
                    state.session.remove(&key);
                    state.delayed.insert((now_ms + THROTTLE_MS, key));
                }
                Some(Want::Fetch(from)) => {
                    let partition = SessionPartition {
                        fetch_offset: from.offset,
                        log_start_offset: log.offsets().log_start,
                        current_leader_epoch: from.current_leader_epoch,
                        last_fetched_epoch: from.last_fetched_epoch,
                        partition_max_bytes: environment.config.replica_fetch_max_bytes,
                    };
                    state.session.set(key, partition);
                }
                Some(Want::LeaderOffsets(leader_epoch)) => {
                    state.session.remove(&key);
                    offsets_wanted.push(OffsetsWanted { key, topic: Arc::clone(log.topic()), leader_epoch });
                }
                None => {
                    state.session.remove(&key);
                    state.delayed.extend(follower.not_before_ms().map(|at_ms| (at_ms, key)));
                }
            }
        }
        Prepared { has_new: std::mem::take(&mut partitions.has_new), offsets_wanted }
    }

    /// Takes the answer to a fetch: records into the logs, and what has to be cut off.
    async fn take(self: &Arc<Self>, state: &mut Rounds, answer: FetchAnswer) {
        let now_ms = self.environment.clock.steady_ms();
        let backoff_ms = self.environment.backoff_ms();
        let (mut appends, mut cuts) = (Vec::new(), Vec::new());
        {
            let mut partitions = self.partitions.lock();
            for answer in answer.partitions {
                let key = answer.key;
                let Some(asked) = state.session.get(&key).map(asked) else { continue };
                let Some(followed) = partitions.by_key.get_mut(&key) else { continue };
                state.touched.push(key);
                let view = View(&followed.log);
                if let Fetched::Error(code) = answer.fetched {
                    tracing::debug!(partition = followed.log.name(), leader = self.leader, %code, "not fetched");
                }
                match followed.follower.fetched(asked, answer.fetched, &view, now_ms, backoff_ms) {
                    Do::Nothing => {}
                    Do::Append => {
                        if self.environment.is_throttled(&followed.log) {
                            self.environment.fetched.record(answer.records.len() as u64, now_ms);
                        }
                        appends.extend(followed.append(answer, asked, now_ms, backoff_ms));
                    }
                    cut @ (Do::Truncate(_) | Do::StartAt(_)) => {
                        cuts.push((key, asked.current_leader_epoch, cut));
                    }
                }
            }
        }
        if !cuts.is_empty() {
            self.cut(cuts).await;
        }
        for Appending { key, leader_epoch, pending } in appends {
            if let Err(error) = pending.await {
                tracing::warn!(leader = self.leader, %error, "what was fetched can not be stored");
                self.restart(key, leader_epoch);
                state.touched.push(key);
            }
        }
    }

    /// Cuts logs. Each is cut under the lock, so that its role does not change meanwhile.
    async fn cut(self: &Arc<Self>, cuts: Vec<(TopicIdPartition, LeaderEpoch, Do)>) {
        let fetcher = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let mut partitions = fetcher.partitions.lock();
            let backoff_ms = fetcher.environment.backoff_ms();
            for (key, leader_epoch, cut) in cuts {
                let Some(followed) = partitions.by_key.get_mut(&key) else { continue };
                if followed.follower.leader_epoch() != leader_epoch {
                    continue;
                }
                let cut = match cut {
                    Do::Truncate(to) => followed.log.truncate_to(to).map(|_| ()),
                    Do::StartAt(offset) => followed.log.restart_at(offset),
                    Do::Nothing | Do::Append => Ok(()),
                };
                followed.follower.log_changed(&View(&followed.log));
                if let Err(error) = cut {
                    tracing::error!(partition = followed.log.name(), %error, "the log can not be cut");
                    followed.follower.back_off(fetcher.environment.clock.steady_ms(), backoff_ms);
                }
            }
        });
        if let Err(error) = done.await {
            tracing::error!(%error, "logs were not cut");
        }
    }

    async fn ask_offsets(self: &Arc<Self>, state: &mut Rounds, wanted: &[OffsetsWanted]) {
        let environment = &self.environment;
        let peer = Arc::clone(&self.peer.lock());
        let answers = match leader::offsets(
            &peer,
            environment.asker(),
            wanted,
            environment.limits().timeout_ms,
        )
        .await
        {
            Ok(answers) => answers,
            Err(error) => {
                tracing::warn!(leader = self.leader, %error, "the leader does not say where its logs are");
                state.session.failed();
                self.back_off_all(state);
                return;
            }
        };
        let (now_ms, backoff_ms) = (environment.clock.steady_ms(), environment.backoff_ms());
        let mut cuts = Vec::new();
        {
            let mut partitions = self.partitions.lock();
            for OffsetsWanted { key, leader_epoch, .. } in wanted {
                state.touched.push(*key);
                let Some(Followed { log, follower }) = partitions.by_key.get_mut(key) else { continue };
                let answer = answers.get(key).copied().unwrap_or(Err(ErrorCode::UnknownServerError));
                tracing::info!(partition = log.name(), ?answer, "the leader has other offsets");
                match follower.leader_offsets(*leader_epoch, answer, &View(log), now_ms, backoff_ms) {
                    Do::Nothing | Do::Append => {}
                    cut @ (Do::Truncate(_) | Do::StartAt(_)) => cuts.push((*key, *leader_epoch, cut)),
                }
            }
        }
        if !cuts.is_empty() {
            self.cut(cuts).await;
        }
    }

    /// Begins again with a log that is not what it was taken for.
    fn restart(&self, key: TopicIdPartition, leader_epoch: LeaderEpoch) {
        let now_ms = self.environment.clock.steady_ms();
        let mut partitions = self.partitions.lock();
        if let Some(Followed { log, follower }) = partitions.by_key.get_mut(&key)
            && follower.leader_epoch() == leader_epoch
        {
            follower.log_changed(&View(log));
            follower.back_off(now_ms, self.environment.backoff_ms());
            // Before the store is there again, it is not known where the log ends.
            partitions.has_new = true;
        }
    }

    fn back_off_all(&self, state: &mut Rounds) {
        let now_ms = self.environment.clock.steady_ms();
        let mut partitions = self.partitions.lock();
        for (key, followed) in &mut partitions.by_key {
            if followed.follower.wants(now_ms).is_some() {
                followed.follower.back_off(now_ms, self.environment.backoff_ms());
                state.touched.push(*key);
            }
        }
    }
}

/// What the task keeps between rounds.
#[derive(Default)]
struct Rounds {
    session: FetchSession,
    /// What has to be looked at before the next fetch.
    touched: Vec<TopicIdPartition>,
    /// What waits, and until when.
    delayed: BTreeSet<(i64, TopicIdPartition)>,
    /// When everything is looked at next.
    refresh_ms: i64,
}

struct Prepared {
    has_new: bool,
    offsets_wanted: Vec<OffsetsWanted>,
}

/// Records on their way to the store.
struct Appending {
    key: TopicIdPartition,
    leader_epoch: LeaderEpoch,
    pending: PendingAppend,
}

impl Followed {
    /// Queues what came for the store.
    fn append(
        &mut self,
        answer: PartitionAnswer,
        asked: FetchFrom,
        now_ms: i64,
        backoff_ms: i64,
    ) -> Option<Appending> {
        let PartitionAnswer { key, records, high_watermark, log_start, .. } = answer;
        let (leader_epoch, came) = (asked.current_leader_epoch, !records.is_empty());
        let from = FromLeader { batches: records, leader_epoch, high_watermark, log_start };
        match self.log.append_as_follower(&from, Ops::new()) {
            Ok(pending) => {
                self.follower.appended(self.log.offsets().log_end, self.log.latest_epoch(), high_watermark);
                if came && pending.is_none() {
                    // Records of an epoch that the metadata here do not know yet.
                    self.follower.back_off(now_ms, backoff_ms);
                }
                pending.map(|pending| Appending { key, leader_epoch, pending })
            }
            Err(error) => {
                let message = error.message.as_deref().unwrap_or_default();
                tracing::warn!(partition = self.log.name(), code = %error.code, message, "what was fetched is refused");
                self.follower.log_changed(&View(&self.log));
                self.follower.back_off(now_ms, backoff_ms);
                None
            }
        }
    }
}

fn asked(partition: &SessionPartition) -> FetchFrom {
    FetchFrom {
        offset: partition.fetch_offset,
        last_fetched_epoch: partition.last_fetched_epoch,
        current_leader_epoch: partition.current_leader_epoch,
    }
}

fn connect(environment: &Environment, address: Address) -> Arc<Peer> {
    let config = &environment.config;
    let client_id = format!("broker-{}-fetcher", environment.node_id);
    let options = PeerOptions::new(&client_id, environment.clock.clone()).fixed_versions();
    let receive_buffer_bytes = usize::try_from(config.replica_socket_receive_buffer_bytes).ok();
    let connect_timeout_ms = config.socket_connection_setup_timeout_ms;
    Peer::new(address, PeerOptions { receive_buffer_bytes, connect_timeout_ms, ..options })
}
