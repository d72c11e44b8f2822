//! The handle to the state of all share partitions that this broker coordinates.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tracing::{debug, warn};
use uuid::Uuid;

use super::command::{Ask, Command, Reply};
use super::core::ShareStateCore;
use super::journal::ShareStateJournal;
use super::settings::ShareCoordinatorSettings;
use crate::clock::Clock;
use crate::error::{ApiError, ErrorCode};
use crate::log::{LogManager, Partition};
use crate::metrics::{Sheet, table};
use crate::shard::{CoordinatorTopic, Led, RecentTimes, Shard, ShardOptions, committed};
use crate::share::types::{PartitionState, SharePartition, StateSummary, StateUpdate};
use crate::types::{LeaderEpoch, Offset, SHARE_GROUP_STATE_TOPIC};

/// The longest group id that is kept: Kafka's strings end at 32767 bytes.
const TEXT_BYTES_MAX: usize = 32_000;

/// What the share coordinator has to know of topics.
pub trait Topics: Send + Sync + 'static {
    /// How many partitions a topic has; `None` where there is no such topic.
    fn partition_count(&self, topic_id: Uuid) -> Option<i32>;
}

/// The share coordinator (`ShareCoordinatorService`): one shard per partition of `__share_group_state` that this broker
/// leads. A shard without share partitions costs nothing.
pub struct ShareCoordinator {
    logs: Arc<LogManager>,
    topics: Arc<dyn Topics>,
    led: Led<ShareStateCore>,
    clock: Clock,
    load_times: Arc<RecentTimes>,
    writes: AtomicI64,
    write_times: RecentTimes,
    /// Up to where the log of each partition of `__share_group_state` was pruned last.
    pruned: Arc<Mutex<BTreeMap<i32, Offset>>>,
}

impl ShareCoordinator {
    /// A coordinator that leads nothing yet.
    pub fn new(
        clock: Clock,
        logs: Arc<LogManager>,
        settings: ShareCoordinatorSettings,
        topics: Arc<dyn Topics>,
    ) -> Arc<Self> {
        let settings = Arc::new(settings);
        let load_times = Arc::<RecentTimes>::default();
        Arc::new_cyclic(|this: &Weak<Self>| {
            let (this, store, shard_clock) = (this.clone(), logs.store().clone(), clock.clone());
            let loads = Arc::clone(&load_times);
            let led = Led::new(settings.state_partitions, move |partition, leader_epoch| {
                let journal = ShareStateJournal::new(
                    Arc::clone(partition),
                    leader_epoch,
                    store.clone(),
                    Arc::clone(&settings),
                    this.clone(),
                );
                let write_timeout_ms = settings.write_timeout_ms;
                let load_times = Arc::clone(&loads);
                let options =
                    ShardOptions { name: partition.name().to_owned(), write_timeout_ms, load_times };
                Shard::spawn(options, Arc::new(journal), shard_clock.clone())
            });
            Self {
                logs,
                topics,
                led,
                clock,
                load_times,
                writes: AtomicI64::new(0),
                write_times: RecentTimes::default(),
                pruned: Arc::default(),
            }
        })
    }

    /// Coordinates the share partitions of these partitions of `__share_group_state`, and no others, from now on: see
    /// [`Led::lead`].
    pub fn lead(&self, topic: &CoordinatorTopic) {
        self.led.lead(topic, |index| self.logs.get(topic.id, index).filter(|log| log.is_leader()));
    }

    /// Gives up everything, because `__share_group_state` is gone.
    pub fn resign(&self) {
        self.pruned.lock().clear();
        self.led.resign();
    }

    /// Gives up everything for good: the broker stops.
    pub fn stop(&self) {
        self.led.stop();
    }

    /// The partition of `__share_group_state` whose leader coordinates the share partition of this
    /// [key](SharePartition::coordinator_key).
    pub fn partition_for(&self, coordinator_key: &str) -> i32 {
        self.led.partition_for(coordinator_key)
    }

    /// How many partitions of `__share_group_state` this broker leads.
    pub fn led_partitions(&self) -> usize {
        self.led.partition_count()
    }

    /// Puts what it does on a sheet.
    pub fn put_metrics(&self, sheet: &Sheet) {
        let led = i64::try_from(self.led_partitions()).unwrap_or(i64::MAX);
        sheet.put(&table::SHARE_STATE_PARTITIONS, &["active"], led);
        sheet.put(&table::SHARE_STATE_WRITES_TOTAL, &[], self.writes.load(Ordering::Relaxed));
        let now_ms = self.clock.steady_ms();
        let loads = [&table::SHARE_STATE_LOAD_TIME_AVG, &table::SHARE_STATE_LOAD_TIME_MAX];
        let writes = [&table::SHARE_STATE_WRITE_LATENCY_AVG, &table::SHARE_STATE_WRITE_LATENCY_MAX];
        for ([average, max], times) in [(loads, &*self.load_times), (writes, &self.write_times)] {
            if let Some((average_ms, max_ms)) = times.recent(now_ms) {
                sheet.put_f64(average, &[], average_ms);
                sheet.put_f64(max, &[], max_ms);
            }
        }
        for (partition, offset) in &*self.pruned.lock() {
            let labels = [SHARE_GROUP_STATE_TOPIC, &partition.to_string()];
            sheet.put(&table::SHARE_STATE_LAST_PRUNED_OFFSET, &labels, *offset);
        }
    }

    /// Asks the shard of a share partition.
    ///
    /// # Errors
    /// `NOT_COORDINATOR` where another broker coordinates it, and those of what is asked.
    pub async fn ask(&self, of: &SharePartition, ask: Ask) -> Reply {
        if of.group_id.len() > TEXT_BYTES_MAX {
            return Err(ErrorCode::InvalidGroupId.into());
        }
        let topic_partitions = self.topics.partition_count(of.topic_id).unwrap_or(0);
        let index = self.partition_for(&of.coordinator_key());
        self.led.call(index, Command::On { of: of.clone(), topic_partitions, ask }).await?
    }

    async fn change(&self, of: &SharePartition, ask: Ask) -> Result<(), ApiError> {
        self.ask(of, ask).await?.done()
    }

    /// InitializeShareGroupState: the state of a share partition begins anew.
    ///
    /// # Errors
    /// `FENCED_STATE_EPOCH` for an older state epoch, `UNKNOWN_TOPIC_OR_PARTITION`, and those of a shard.
    pub async fn initialize(
        &self,
        of: &SharePartition,
        state_epoch: i32,
        start_offset: Offset,
    ) -> Result<(), ApiError> {
        self.change(of, Ask::Initialize { state_epoch, start_offset }).await
    }

    /// ReadShareGroupState; a leader epoch above the last one is kept.
    ///
    /// # Errors
    /// `INVALID_REQUEST` where it is not initialized, `FENCED_LEADER_EPOCH`, `UNKNOWN_TOPIC_OR_PARTITION`, and those of
    /// a shard.
    pub async fn read(
        &self,
        of: &SharePartition,
        leader_epoch: LeaderEpoch,
    ) -> Result<PartitionState, ApiError> {
        self.ask(of, Ask::Read { leader_epoch }).await?.state()
    }

    /// WriteShareGroupState.
    ///
    /// # Errors
    /// `INVALID_REQUEST` where it is not initialized, `FENCED_LEADER_EPOCH`, `FENCED_STATE_EPOCH`,
    /// `UNKNOWN_TOPIC_OR_PARTITION`, and those of a shard.
    pub async fn write(&self, of: &SharePartition, update: StateUpdate) -> Result<(), ApiError> {
        let began_ms = self.clock.steady_ms();
        let written = self.change(of, Ask::Write(update)).await;
        let now_ms = self.clock.steady_ms();
        // Those that fail too: how long they take tells of it.
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.write_times.took(now_ms, now_ms - began_ms);
        written
    }

    /// DeleteShareGroupState. What is not there is deleted.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`, and those of a shard.
    pub async fn delete(&self, of: &SharePartition) -> Result<(), ApiError> {
        self.change(of, Ask::Delete).await
    }

    /// ReadShareGroupStateSummary: of what is not initialized too.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`, and those of a shard.
    pub async fn read_summary(&self, of: &SharePartition) -> Result<StateSummary, ApiError> {
        self.ask(of, Ask::ReadSummary { leader_epoch: -1 }).await?.summary()
    }

    /// Forgets the state of topics that do not exist any more.
    pub async fn topics_deleted(&self, topic_ids: Vec<Uuid>) {
        for reply in self.led.call_all(|| Command::TopicsDeleted(topic_ids.clone())).await {
            match reply {
                // Who leads it next finds nothing to ask for: the topic's id never comes back.
                Ok(_) | Err(ErrorCode::NotCoordinator) => {}
                Err(code) => warn!(%code, "the share state of deleted topics stays"),
            }
        }
    }

    /// Removes what a shard does not need from its log, once all that came later is committed.
    pub(super) fn prune(&self, partition: Arc<Partition>, leader_epoch: LeaderEpoch, needed_from: Offset) {
        let offsets = partition.offsets();
        if needed_from <= offsets.log_start {
            return;
        }
        let pruned = Arc::clone(&self.pruned);
        tokio::spawn(async move {
            if committed(&partition, leader_epoch, offsets.log_end).await.is_err() {
                return;
            }
            match partition.delete_records(needed_from).await {
                Ok(log_start) => {
                    debug!(partition = partition.name(), log_start, "pruned");
                    pruned.lock().insert(partition.index(), log_start);
                }
                Err(error) => warn!(partition = partition.name(), %error, "the log is not pruned"),
            }
        });
    }
}
