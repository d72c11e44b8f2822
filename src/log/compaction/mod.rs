//! Compaction: a log of which only the newest record of each key is kept (`cleanup.policy=compact`;
//! Kafka's `LogCleaner`).
//!
//! What stays is what Kafka's cleaner keeps: of everything below the active segment, and below the
//! first transaction that is not decided, the last record of each key; tombstones and transaction
//! markers until `delete.retention.ms` have passed since a cleaning met them first, which batches
//! note in their header (KIP-534); no records of aborted transactions; and of the last batch of
//! each producer, and of a cleaning, at least the header, so that no offset and no sequence number
//! is ever used again. Offsets do not change.
//!
//! - `range` says how dirty a log is and up to where it may be cleaned, `filter` which records of
//!   a batch stay: cores without any reading, writing or clock.
//! - `offset_map` holds the last offset of each key of the new part of a log, within
//!   `log.cleaner.dedupe.buffer.size`; what does not fit is left to the next cleaning.
//! - `pass` is one cleaning, in short steps; `rewrite` and `output` make new extents. Unlike
//!   Kafka's, it writes only what has changed: extents that lose nothing stay, unless they are
//!   small. It reads past all caches, and at most a few megabytes of it wait for the store, so
//!   that producers do not wait behind it.
//! - This file chooses what is cleaned next and keeps to the limits of rate and number.

mod filter;
mod offset_map;
mod output;
mod pass;
mod range;
mod rewrite;
#[cfg(test)]
mod tests;
mod throttle;
mod time_index;
mod transactions;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;

use super::manager::LogManager;
use super::partition::Partition;
use crate::config::BrokerConfig;
use crate::error::StorageError;
use crate::storage::Purpose;
use crate::types::{PartitionId, TimestampMs};
pub(super) use filter::LastRecord;
use offset_map::MapBound;
use output::OutputBounds;
use pass::{Pass, PassSettings, PassState, PassStats};
use range::{Dirtiness, LogView};
use throttle::Throttle;

/// From how many deleted bytes on their space is asked back; less is not worth a look at all keys.
const GARBAGE_BYTES: u64 = 32 << 20;

/// How the cleaner works (Kafka's `CleanerConfig`).
#[derive(Clone, Debug, PartialEq)]
pub struct CleanerSettings {
    /// `log.cleaner.enable`.
    pub enabled: bool,
    /// `log.cleaner.threads`: how many logs are cleaned at a time.
    pub threads: usize,
    /// `log.cleaner.dedupe.buffer.size`, for all threads.
    pub dedupe_buffer_bytes: usize,
    /// `log.cleaner.io.buffer.load.factor`.
    pub load_factor: f64,
    /// `log.cleaner.io.buffer.size`, for all threads.
    pub io_buffer_bytes: usize,
    /// `log.cleaner.io.max.bytes.per.second`, for all threads.
    pub io_bytes_per_second_max: f64,
    /// `log.cleaner.backoff.ms`.
    pub backoff_ms: i64,
}

impl From<&BrokerConfig> for CleanerSettings {
    fn from(config: &BrokerConfig) -> Self {
        Self {
            enabled: config.log_cleaner_enable,
            threads: usize::try_from(config.log_cleaner_threads).unwrap_or(0),
            dedupe_buffer_bytes: usize::try_from(config.log_cleaner_dedupe_buffer_size).unwrap_or(0),
            load_factor: config.log_cleaner_io_buffer_load_factor,
            io_buffer_bytes: usize::try_from(config.log_cleaner_io_buffer_size).unwrap_or(0),
            io_bytes_per_second_max: config.log_cleaner_io_max_bytes_per_second,
            backoff_ms: config.log_cleaner_backoff_ms,
        }
    }
}

impl Default for CleanerSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            threads: 1,
            dedupe_buffer_bytes: 32 << 20,
            load_factor: 0.9,
            io_buffer_bytes: 512 << 10,
            io_bytes_per_second_max: f64::MAX,
            backoff_ms: 15_000,
        }
    }
}

/// What the cleaner did and found (Kafka's `LogCleaner` and `LogCleanerManager` metrics).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanerMetrics {
    /// The dirty part of the dirtiest log, in percent.
    pub max_dirty_percent: i64,
    /// Since the cleaner looked for work last.
    pub since_last_run_ms: i64,
    /// Logs that could not be cleaned, and their dirty bytes.
    pub uncleanable_partitions: i64,
    pub uncleanable_bytes: i64,
    /// Of the offset map, in the last cleanings.
    pub max_buffer_utilization_percent: i64,
    /// What was left of what was gone through, in the last cleanings.
    pub recopy_percent: i64,
    pub max_clean_time_secs: i64,
    /// By how much a log was cleaned later than `max.compaction.lag.ms` asks for.
    pub max_compaction_delay_secs: i64,
    /// Bytes of extents that cleanings removed and wrote since the start.
    pub deleted_bytes: u64,
    pub written_bytes: u64,
}

/// The cleaner of a broker.
#[derive(Default)]
pub(super) struct Cleaner {
    settings: ArcSwap<CleanerSettings>,
    state: Mutex<State>,
    throttle: Mutex<Throttle>,
}

#[derive(Default)]
struct State {
    in_progress: HashSet<PartitionId>,
    /// Logs whose cleaning failed: they are left alone until the next start.
    uncleanable: HashSet<PartitionId>,
    dirtiest: f64,
    delay_ms: i64,
    last_run_ms: Option<i64>,
    /// The last cleanings, one per thread.
    last: VecDeque<LastPass>,
    deleted_bytes: u64,
    written_bytes: u64,
    /// Deleted since space was asked back last.
    garbage_bytes: u64,
}

struct LastPass {
    stats: PassStats,
    took_ms: i64,
}

impl Partition {
    /// How dirty the log is.
    fn dirtiness(&self, now_ms: TimestampMs) -> Dirtiness {
        let inner = self.inner.lock();
        let offsets = inner.offsets();
        let segments: Vec<_> = inner.closed.iter().copied().chain(std::iter::once(inner.active)).collect();
        let log = LogView {
            log_start: offsets.log_start,
            log_end: offsets.log_end,
            last_stable: offsets.last_stable,
            segments: &segments,
            checkpoint: inner.cleaned_to,
        };
        Dirtiness::of(&log, &self.log_config(), now_ms)
    }
}

impl LogManager {
    /// Changes how the cleaner works, from its next cleaning on.
    pub fn set_cleaner_settings(&self, settings: CleanerSettings) {
        self.cleaner.settings.store(Arc::new(settings));
    }

    /// Cleans compacted logs, the dirtiest first, whenever there is something to clean. Never
    /// ends; dropping it stops it, between two of a cleaning's steps.
    pub async fn run_cleaner(self: Arc<Self>) {
        let clock = self.shared().clock.clone();
        let mut running = FuturesUnordered::new();
        loop {
            let settings = self.cleaner.settings.load_full();
            let next_ms = clock.steady_ms().saturating_add(settings.backoff_ms);
            while settings.enabled && running.len() < settings.threads {
                let Some(pass) = self.dirtiest_log(&settings) else { break };
                running.push(self.clean(pass));
            }
            tokio::select! {
                Some(()) = running.next() => {}
                () = clock.sleep_until(next_ms) => {}
            }
        }
    }

    /// Cleans everything that is to be cleaned now.
    #[cfg(test)]
    pub(crate) async fn clean_now(self: &Arc<Self>) {
        let settings = self.cleaner.settings.load_full();
        while let Some(pass) = self.dirtiest_log(&settings) {
            self.clean(pass).await;
        }
    }

    /// What the cleaner did and found.
    pub fn cleaner_metrics(&self) -> CleanerMetrics {
        let now_ms = self.shared().clock.now_ms();
        let uncleanable: Vec<_> = {
            let state = self.cleaner.state.lock();
            self.all().into_iter().filter(|log| state.uncleanable.contains(&log.id())).collect()
        };
        let bytes: u64 = uncleanable.iter().map(|log| log.dirtiness(now_ms).cleanable_bytes).sum();
        let steady_ms = self.shared().clock.steady_ms();
        let state = self.cleaner.state.lock();
        let sum = |of: fn(&PassStats) -> u64| state.last.iter().map(|last| of(&last.stats)).sum::<u64>();
        let utilization = state.last.iter().map(|last| last.stats.utilization).fold(0.0, f64::max);
        CleanerMetrics {
            max_dirty_percent: percent(state.dirtiest),
            since_last_run_ms: steady_ms - state.last_run_ms.unwrap_or(steady_ms),
            uncleanable_partitions: i64::try_from(uncleanable.len()).unwrap_or(i64::MAX),
            uncleanable_bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
            max_buffer_utilization_percent: percent(utilization),
            recopy_percent: i64::try_from(
                sum(|stats| stats.kept_bytes) * 100 / sum(|stats| stats.read_bytes).max(1),
            )
            .unwrap_or(i64::MAX),
            max_clean_time_secs: state.last.iter().map(|last| last.took_ms / 1_000).max().unwrap_or(0),
            max_compaction_delay_secs: state.delay_ms / 1_000,
            deleted_bytes: state.deleted_bytes,
            written_bytes: state.written_bytes,
        }
    }

    /// A cleaning of the dirtiest log of those that are to be cleaned; it is marked as in progress.
    fn dirtiest_log(&self, settings: &CleanerSettings) -> Option<Pass> {
        let clock = &self.shared().clock;
        let now_ms = clock.now_ms();
        let mut state = self.cleaner.state.lock();
        state.last_run_ms = Some(clock.steady_ms());
        (state.dirtiest, state.delay_ms) = (0.0, 0);
        if self.store().refusal(Purpose::State).is_some() {
            return None;
        }
        let mut chosen: Option<(Arc<Partition>, Dirtiness)> = None;
        for partition in self.all() {
            let id = partition.id();
            let config = partition.log_config();
            if !config.compacts || state.in_progress.contains(&id) || state.uncleanable.contains(&id) {
                continue;
            }
            let dirtiness = partition.dirtiness(now_ms);
            state.dirtiest = state.dirtiest.max(dirtiness.ratio());
            state.delay_ms = state.delay_ms.max(dirtiness.delay_ms);
            let is_dirtier = chosen.as_ref().is_none_or(|(_, other)| dirtiness.ratio() > other.ratio());
            if is_dirtier && dirtiness.is_due(config.min_cleanable_dirty_ratio) && !partition.is_deleted() {
                chosen = Some((partition, dirtiness));
            }
        }
        let (partition, dirtiness) = chosen?;
        state.in_progress.insert(partition.id());
        let threads = settings.threads.max(1);
        let bound =
            MapBound { bytes: settings.dedupe_buffer_bytes / threads, load_factor: settings.load_factor };
        let step_bytes = (settings.io_buffer_bytes / threads).max(1);
        let settings = PassSettings { map: bound, output: OutputBounds::default(), step_bytes };
        Some(Pass::new(partition, dirtiness, settings))
    }

    /// Cleans one log.
    async fn clean(&self, pass: Pass) {
        let partition = Arc::clone(pass.partition());
        let _in_progress = InProgress { cleaner: &self.cleaner, id: partition.id() };
        let clock = &self.shared().clock;
        let began_ms = clock.steady_ms();
        match self.run_pass(pass).await {
            Ok(Some(stats)) => {
                let took_ms = clock.steady_ms() - began_ms;
                report(&partition, &stats, took_ms);
                self.count(stats, took_ms);
            }
            Ok(None) => tracing::debug!(partition = partition.name(), "a cleaning was given up"),
            // The writer has said it; when it writes again, the cleaning is begun again.
            Err(StorageError::Write(_)) => {}
            Err(error) => {
                self.cleaner.state.lock().uncleanable.insert(partition.id());
                tracing::error!(
                    partition = partition.name(),
                    %error,
                    "the log can not be cleaned and is left as it is until the next start"
                );
            }
        }
    }

    /// Takes all steps of a cleaning; `None` where it was given up.
    async fn run_pass(&self, mut pass: Pass) -> Result<Option<PassStats>, StorageError> {
        let clock = &self.shared().clock;
        loop {
            self.admit().await;
            let (stepped, step) = tokio::task::spawn_blocking(move || {
                let step = pass.step();
                (pass, step)
            })
            .await
            .map_err(|error| StorageError::Read(format!("the cleaning stopped: {error}")))?;
            pass = stepped;
            let step = step?;
            if let Some(stored) = step.committed {
                stored.await.unwrap_or_else(|_| Err(StorageError::Write("it is closed".to_owned())))?;
                pass.forget_memory();
            }
            match step.state {
                PassState::GoesOn => {}
                PassState::Finished => return Ok(Some(pass.stats)),
                PassState::Obsolete => return Ok(None),
            }
            let rate = self.cleaner.settings.load().io_bytes_per_second_max;
            let free_at_ms = self.cleaner.throttle.lock().pass(step.bytes, rate, clock.steady_ms());
            clock.sleep_until(free_at_ms).await;
        }
    }

    fn count(&self, stats: PassStats, took_ms: i64) {
        let threads = self.cleaner.settings.load().threads.max(1);
        let mut state = self.cleaner.state.lock();
        state.last.push_back(LastPass { stats, took_ms });
        while state.last.len() > threads {
            state.last.pop_front();
        }
        state.deleted_bytes += stats.deleted_bytes;
        state.written_bytes += stats.written_bytes;
        state.garbage_bytes += stats.deleted_bytes;
        if state.garbage_bytes >= GARBAGE_BYTES {
            state.garbage_bytes = 0;
            drop(state);
            self.shared().ask_for_space();
        }
    }
}

/// While a log is cleaned, it is not cleaned again.
struct InProgress<'a> {
    cleaner: &'a Cleaner,
    id: PartitionId,
}

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.cleaner.state.lock().in_progress.remove(&self.id);
    }
}

fn report(partition: &Partition, stats: &PassStats, took_ms: i64) {
    tracing::info!(
        partition = partition.name(),
        took_ms,
        indexed_bytes = stats.indexed_bytes,
        read_bytes = stats.read_bytes,
        kept_bytes = stats.kept_bytes,
        written_bytes = stats.written_bytes,
        read_records = stats.read_records,
        kept_records = stats.kept_records,
        "a log was cleaned"
    );
}

#[expect(clippy::cast_possible_truncation, reason = "a percentage")]
fn percent(ratio: f64) -> i64 {
    (ratio * 100.0) as i64
}
