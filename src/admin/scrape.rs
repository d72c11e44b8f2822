//! One scrape: reads the state of the parts and puts it on a sheet.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::Admin;
use super::coordinators::put_coordinators;
use crate::group::command::{FetchOffsets, GroupFilter};
use crate::group::coordinator::GroupCoordinator;
use crate::log::{LogManager, Partition};
use crate::metadata::{Image, Metadata, PartitionImage, Status};
use crate::metrics::{Sheet, table};
use crate::quorum::RoleName;
use crate::quota::{QuotaKind, Quotas};
use crate::replication::manager::FollowerState;
use crate::types::{NodeId, Offset};

/// Remembers how busy the worker threads were, to tell what has changed since.
pub(super) struct Idleness {
    at: Instant,
    busy: Duration,
}

impl Idleness {
    /// Starts to measure. Must be called on a runtime.
    pub(super) fn now() -> Self {
        let runtime = Handle::current().metrics();
        let busy = (0..runtime.num_workers()).map(|worker| runtime.worker_total_busy_duration(worker)).sum();
        Self { at: Instant::now(), busy }
    }

    /// The share of time, 0 to 1, that the workers were idle since the last call.
    pub(super) fn since_last(&mut self) -> f64 {
        let before = std::mem::replace(self, Self::now());
        let workers = u32::try_from(Handle::current().metrics().num_workers()).unwrap_or(1);
        let passed = (self.at - before.at) * workers;
        let busy =
            self.busy.saturating_sub(before.busy).as_secs_f64() / passed.as_secs_f64().max(f64::EPSILON);
        (1.0 - busy).clamp(0.0, 1.0)
    }
}

/// Everything that this broker measures, in Prometheus' text format.
pub(super) async fn scrape(admin: &Admin, idle: f64) -> String {
    admin.metrics.run_upkeep();
    let sheet = Sheet::new();
    let image = admin.metadata.image();
    let partitions = admin.logs.all();
    put_process(&sheet);
    put_broker(&sheet, idle, admin.broker_state());
    put_cluster(&sheet, &image);
    put_quorum(&sheet, &admin.metadata);
    put_metadata(&sheet, &admin.metadata.status());
    put_topics(&sheet, &image, &admin.logs, admin.metadata.node_id());
    put_followers(&sheet, &admin.replicas.followers());
    let (elections, unclean) = admin.elections.counts();
    for (metric, count) in
        [(&table::LEADER_ELECTIONS, elections), (&table::UNCLEAN_LEADER_ELECTIONS_TOTAL, unclean)]
    {
        sheet.put(metric, &[], i64::try_from(count).unwrap_or(i64::MAX));
    }
    put_logs(&sheet, &partitions);
    put_cleaner(&sheet, &admin.logs);
    put_quotas(&sheet, &admin.quotas, admin.clock.steady_ms());
    put_groups(&sheet, &admin.groups, &partitions).await;
    put_coordinators(&sheet, admin).await;
    let of_clients = admin.telemetry.render(&sheet, admin.clock.steady_ms());
    admin.shares.put_metrics(&sheet);
    admin.share_state.put_metrics(&sheet);
    admin.metrics.render() + &sheet.render() + &of_clients
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus knows no numbers but floats")]
fn put_process(sheet: &Sheet) {
    let process = metrics_process::collector::collect();
    for (metric, value) in [
        (&table::PROCESS_CPU_SECONDS, process.cpu_seconds_total),
        (&table::PROCESS_OPEN_FDS, process.open_fds.map(|count| count as f64)),
        (&table::PROCESS_MAX_FDS, process.max_fds.map(|count| count as f64)),
        (&table::PROCESS_VIRTUAL_MEMORY, process.virtual_memory_bytes.map(|bytes| bytes as f64)),
        (&table::PROCESS_RESIDENT_MEMORY, process.resident_memory_bytes.map(|bytes| bytes as f64)),
        (&table::PROCESS_START_TIME, process.start_time_seconds.map(|seconds| seconds as f64)),
        (&table::PROCESS_THREADS, process.threads.map(|count| count as f64)),
        (&table::JVM_THREADS, process.threads.map(|count| count as f64)),
    ] {
        if let Some(value) = value {
            sheet.put_f64(metric, &[], value);
        }
    }
    if let Some(bytes) = process.resident_memory_bytes {
        sheet.put_f64(&table::JVM_MEMORY_USED, &["heap"], bytes as f64);
    }
    for (metric, value) in
        [(&table::DISK_READ_BYTES, "read_bytes"), (&table::DISK_WRITE_BYTES, "write_bytes")]
    {
        if let Some(bytes) = disk_bytes(value) {
            sheet.put(metric, &[], bytes);
        }
    }
}

/// A line of Linux' `/proc/self/io`; other systems have none.
fn disk_bytes(name: &str) -> Option<i64> {
    let io = fs::read_to_string("/proc/self/io").ok()?;
    let line = io.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))?;
    line.parse().ok()
}

fn put_broker(sheet: &Sheet, idle: f64, state: i64) {
    sheet.put_f64(&table::NETWORK_PROCESSOR_IDLE, &[], idle);
    sheet.put_f64(&table::REQUEST_HANDLER_IDLE, &[], idle);
    sheet.put(&table::BROKER_STATE, &[], state);
    // A directory that can not be written makes the broker answer with errors, but it is still the one there is.
    sheet.put(&table::OFFLINE_LOG_DIRECTORY_COUNT, &[], 0);
}

/// What clients have used of their quotas, under the names that the usual rules for the JMX exporter give Kafka's beans.
fn put_quotas(sheet: &Sheet, quotas: &Quotas, now_ms: i64) {
    for used in quotas.clients.uses(now_ms) {
        let labels = [used.kind.name(), &used.user, &used.client_id];
        let rate = match used.kind {
            QuotaKind::Produce | QuotaKind::Fetch => &table::QUOTA_BYTE_RATE,
            QuotaKind::Request => &table::QUOTA_REQUEST_TIME,
            QuotaKind::ControllerMutation => &table::QUOTA_MUTATION_RATE,
        };
        sheet.put_f64(rate, &labels, used.rate);
        if let Some(tokens) = used.tokens {
            sheet.put_f64(&table::QUOTA_TOKENS, &labels, tokens);
        }
        if let Some(throttle_ms) = used.throttle_ms {
            sheet.put_f64(&table::QUOTA_THROTTLE_TIME, &labels, throttle_ms);
        }
    }
    if let Some(percents) = quotas.clients.exempt_percents(now_ms) {
        sheet.put_f64(&table::QUOTA_EXEMPT_REQUEST_TIME, &[QuotaKind::Request.name()], percents);
    }
}

fn put_cluster(sheet: &Sheet, image: &Image) {
    let active = image.brokers.values().filter(|broker| broker.is_active()).count();
    let all = || image.topics.iter().flat_map(|topic| topic.partitions().map(|(_, partition)| partition));
    let without_leader = all().filter(|partition| partition.leader < 0).count();
    let not_preferred = all().filter(|partition| !is_preferred(partition)).count();
    for (metric, value) in [
        (&table::GLOBAL_TOPIC_COUNT, image.topics.len()),
        (&table::GLOBAL_PARTITION_COUNT, image.topics.partition_count()),
        (&table::OFFLINE_PARTITIONS_COUNT, without_leader),
        (&table::PREFERRED_REPLICA_IMBALANCE_COUNT, not_preferred),
        (&table::ACTIVE_BROKER_COUNT, active),
        (&table::FENCED_BROKER_COUNT, image.brokers.len() - active),
        (&table::BROKERS, image.brokers.len()),
    ] {
        sheet.put(metric, &[], count(value));
    }
    for broker in image.brokers.values() {
        let address = broker
            .endpoints
            .first()
            .map(|endpoint| format!("{}:{}", endpoint.host, endpoint.port))
            .unwrap_or_default();
        sheet.put(&table::BROKER_INFO, &[&broker.id.to_string(), &address], 1);
    }
}

fn put_quorum(sheet: &Sheet, metadata: &Metadata) {
    // A quorum that is stopping says nothing.
    let Some(quorum) = metadata.quorum().status() else { return };
    let leads = quorum.role == RoleName::Leader;
    sheet.put(&table::RAFT_CURRENT_STATE, &[quorum.role.as_str()], 1);
    sheet.put(&table::RAFT_CURRENT_LEADER, &[], quorum.leader.unwrap_or(-1).into());
    sheet.put(&table::RAFT_CURRENT_EPOCH, &[], quorum.epoch.into());
    // Who leads has voted for itself.
    let voted = if leads { quorum.leader } else { quorum.voted };
    sheet.put(&table::RAFT_CURRENT_VOTE, &[], voted.unwrap_or(-1).into());
    sheet.put(&table::RAFT_HIGH_WATERMARK, &[], quorum.high_watermark.unwrap_or(-1));
    sheet.put(&table::RAFT_LOG_END_OFFSET, &[], quorum.log_end);
    sheet.put(&table::RAFT_NUMBER_OF_VOTERS, &[], i64::try_from(quorum.voters).unwrap_or(i64::MAX));
    let rates = metadata.quorum().rates();
    sheet.put_f64(&table::RAFT_APPEND_RECORDS_RATE, &[], rates.appended_per_second);
    sheet.put_f64(&table::RAFT_FETCH_RECORDS_RATE, &[], rates.fetched_per_second);
    let latencies = [
        (&table::RAFT_COMMIT_LATENCY_AVG, &table::RAFT_COMMIT_LATENCY_MAX, rates.commit),
        (&table::RAFT_ELECTION_LATENCY_AVG, &table::RAFT_ELECTION_LATENCY_MAX, rates.election),
    ];
    for (average, max, latency) in latencies {
        let Some(latency) = latency else { continue };
        sheet.put_f64(average, &[], latency.average_ms);
        sheet.put_f64(max, &[], latency.max_ms);
    }
    sheet.put(&table::RAFT_LOG_END_EPOCH, &[], quorum.log_end_epoch.into());
    if let Some(observers) = quorum.observers {
        sheet.put(&table::RAFT_NUMBER_OF_OBSERVERS, &[], count(observers));
        sheet.put(&table::RAFT_UNCOMMITTED_VOTER_CHANGE, &[], quorum.is_voter_change_uncommitted.into());
    }
    let traffic = metadata.quorum().traffic();
    for (metric, total) in [
        (&table::RAFT_CHANNEL_INCOMING_BYTES, &traffic.bytes_in),
        (&table::RAFT_CHANNEL_OUTGOING_BYTES, &traffic.bytes_out),
        (&table::RAFT_CHANNEL_REQUESTS, &traffic.requests),
        (&table::RAFT_CHANNEL_RESPONSES, &traffic.responses),
    ] {
        sheet.put(metric, &[], i64::try_from(total.load(Ordering::Relaxed)).unwrap_or(i64::MAX));
    }
}

/// How far this node has followed the metadata log, and what it does as the controller.
fn put_metadata(sheet: &Sheet, status: &Status) {
    for (metric, value) in [
        (&table::ACTIVE_CONTROLLER_COUNT, status.is_active.into()),
        (&table::NEW_ACTIVE_CONTROLLERS_COUNT, status.activations),
        (&table::METADATA_ERROR_COUNT, status.load_errors + status.apply_errors),
        (&table::LAST_APPLIED_RECORD_OFFSET, status.applied),
        (&table::LAST_APPLIED_RECORD_TIMESTAMP, status.applied_timestamp_ms),
        (&table::LAST_APPLIED_RECORD_LAG_MS, status.lag_ms),
        (&table::EVENT_QUEUE_TIME_MS, status.queue_ms),
        (&table::BROKER_LAST_APPLIED_RECORD_OFFSET, status.applied),
        (&table::BROKER_LAST_APPLIED_RECORD_LAG_MS, status.lag_ms),
        (&table::BROKER_METADATA_LOAD_ERRORS, status.load_errors),
        (&table::BROKER_METADATA_APPLY_ERRORS, status.apply_errors),
    ] {
        sheet.put(metric, &[], value);
    }
    if let Some((age_ms, bytes)) = status.snapshot {
        sheet.put(&table::SNAPSHOT_AGE_MS, &[], age_ms);
        sheet.put(&table::SNAPSHOT_BYTES, &[], bytes);
    }
}

/// What the image says about each partition, and how many of those that this broker leads need attention.
fn put_topics(sheet: &Sheet, image: &Image, logs: &LogManager, node_id: NodeId) {
    let (mut replicas_here, mut led, mut at_min_isr) = (0, 0, 0);
    let (mut under_replicated, mut under_min_isr) = (0, 0);
    for topic in image.topics.iter() {
        sheet.put(&table::TOPIC_PARTITIONS, &[&topic.name], topic.partition_count().into());
        for (number, partition) in topic.partitions() {
            let label = number.to_string();
            let labels = [&*topic.name, label.as_str()];
            let (in_sync, replicas) = (count(partition.isr.len()), count(partition.replicas.len()));
            // Those that a reassignment adds are not missing.
            let wanted = replicas - count(partition.adding_replicas.len());
            // The log has the topic's configuration at hand. More than there are replicas is never asked for.
            let log = logs.get(topic.id, number);
            let min_isr = log.map_or(1, |log| i64::from(log.config().min_insync_replicas)).min(replicas);
            let is_led = partition.leader == node_id;
            replicas_here += i64::from(partition.replicas.contains(&node_id));
            led += i64::from(is_led);
            under_replicated += i64::from(is_led && in_sync < wanted);
            under_min_isr += i64::from(is_led && in_sync < min_isr);
            at_min_isr += i64::from(is_led && in_sync == min_isr);
            for (metric, value) in [
                (&table::UNDER_REPLICATED, (is_led && in_sync < wanted).into()),
                (&table::UNDER_MIN_ISR, (is_led && in_sync < min_isr).into()),
                (&table::AT_MIN_ISR, (is_led && in_sync == min_isr).into()),
                (&table::TOPIC_IN_SYNC_REPLICA, in_sync),
                (&table::TOPIC_REPLICAS, replicas),
                (&table::TOPIC_LEADER, partition.leader.into()),
                (&table::TOPIC_LEADER_IS_PREFERRED, is_preferred(partition).into()),
                (&table::TOPIC_UNDER_REPLICATED, (in_sync < wanted).into()),
            ] {
                sheet.put(metric, &labels, value);
            }
        }
    }
    let changes = logs.isr_changes();
    let counted = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    for (metric, value) in [
        (&table::PARTITION_COUNT, replicas_here),
        (&table::LEADER_COUNT, led),
        (&table::UNDER_REPLICATED_PARTITIONS, under_replicated),
        (&table::UNDER_MIN_ISR_PARTITION_COUNT, under_min_isr),
        (&table::AT_MIN_ISR_PARTITION_COUNT, at_min_isr),
        (&table::OFFLINE_REPLICA_COUNT, 0),
        (&table::ISR_SHRINKS_TOTAL, counted(changes.shrinks)),
        (&table::ISR_EXPANDS_TOTAL, counted(changes.expands)),
        (&table::FAILED_ISR_UPDATES_TOTAL, counted(changes.failures)),
    ] {
        sheet.put(metric, &[], value);
    }
}

fn put_followers(sheet: &Sheet, followers: &FollowerState) {
    for (topic, partition, lag) in &followers.lags {
        sheet.put(&table::FETCHER_LAG, &[topic, &partition.to_string()], lag.unwrap_or(-1));
    }
    let max_lag = followers.lags.iter().filter_map(|(_, _, lag)| *lag).max().unwrap_or(0);
    sheet.put(&table::FETCHER_MAX_LAG, &[], max_lag);
    let failed = i64::try_from(followers.failed).unwrap_or(i64::MAX);
    sheet.put(&table::FETCHER_FAILED_PARTITIONS, &[], failed);
}

fn put_logs(sheet: &Sheet, partitions: &[Arc<Partition>]) {
    let mut replicated = BTreeMap::<&str, u64>::new();
    for partition in partitions {
        *replicated.entry(partition.topic()).or_default() += partition.replicated_bytes();
        let (number, offsets) = (partition.index().to_string(), partition.offsets());
        for (metric, value) in [
            (&table::LOG_SIZE, i64::try_from(partition.size_bytes()).unwrap_or(i64::MAX)),
            (&table::LOG_START_OFFSET, offsets.log_start),
            (&table::LOG_END_OFFSET, offsets.log_end),
            (&table::LAST_STABLE_OFFSET_LAG, offsets.high_watermark - offsets.last_stable),
            (&table::TOPIC_OLDEST_OFFSET, offsets.log_start),
            (&table::TOPIC_CURRENT_OFFSET, offsets.high_watermark),
        ] {
            sheet.put(metric, &[partition.topic(), &number], value);
        }
    }
    let producers: usize = partitions.iter().map(|partition| partition.producer_count()).sum();
    sheet.put(&table::PRODUCER_ID_COUNT, &[], count(producers));
    for (topic, bytes) in replicated {
        sheet.put(&table::REPLICATION_BYTES_IN_TOTAL, &[topic], i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

fn put_cleaner(sheet: &Sheet, logs: &LogManager) {
    let cleaner = logs.cleaner_metrics();
    for (metric, value) in [
        (&table::CLEANER_MAX_DIRTY_PERCENT, cleaner.max_dirty_percent),
        (&table::CLEANER_TIME_SINCE_LAST_RUN_MS, cleaner.since_last_run_ms),
        (&table::CLEANER_MAX_BUFFER_UTILIZATION_PERCENT, cleaner.max_buffer_utilization_percent),
        (&table::CLEANER_RECOPY_PERCENT, cleaner.recopy_percent),
        (&table::CLEANER_MAX_CLEAN_TIME_SECS, cleaner.max_clean_time_secs),
        (&table::CLEANER_MAX_COMPACTION_DELAY_SECS, cleaner.max_compaction_delay_secs),
        (&table::CLEANER_DEAD_THREAD_COUNT, 0),
    ] {
        sheet.put(metric, &[], value);
    }
    let directory = logs.store().directory().display().to_string();
    sheet.put(&table::CLEANER_UNCLEANABLE_PARTITIONS, &[&directory], cleaner.uncleanable_partitions);
    sheet.put(&table::CLEANER_UNCLEANABLE_BYTES, &[&directory], cleaner.uncleanable_bytes);
}

/// Groups by state; of each group its members, its committed offsets and how far they are behind.
async fn put_groups(sheet: &Sheet, groups: &GroupCoordinator, partitions: &[Arc<Partition>]) {
    sheet.put(&table::COORDINATED_PARTITIONS, &["active"], count(groups.led_partitions()));
    // A coordinator that is still loading is asked again at the next scrape.
    let Ok(listed) = groups.list(GroupFilter::default()).await else { return };
    let counts = groups.counts().await;
    let (classic, consumer) = (&counts.classic, &counts.consumer);
    let (share, streams) = (&counts.share, &counts.streams);
    for (metric, number) in [
        (&table::NUM_GROUPS_STABLE, classic.stable),
        (&table::NUM_GROUPS_EMPTY, classic.empty),
        (&table::NUM_GROUPS_DEAD, classic.dead),
        (&table::NUM_GROUPS_PREPARING_REBALANCE, classic.preparing_rebalance),
        (&table::NUM_GROUPS_COMPLETING_REBALANCE, classic.completing_rebalance),
    ] {
        sheet.put(metric, &[], count(number));
    }
    for (protocol, number) in [
        ("classic", classic.total()),
        ("consumer", consumer.total()),
        ("share", share.total()),
        ("streams", streams.total()),
    ] {
        sheet.put(&table::GROUP_COUNT, &[protocol], count(number));
    }
    for (state, number) in [
        ("empty", consumer.empty),
        ("assigning", consumer.assigning),
        ("reconciling", consumer.reconciling),
        ("stable", consumer.stable),
        ("dead", 0),
    ] {
        sheet.put(&table::CONSUMER_GROUP_COUNT, &[state], count(number));
    }
    for (state, number) in [("empty", share.empty), ("stable", share.stable), ("dead", 0)] {
        sheet.put(&table::SHARE_GROUP_COUNT, &[state], count(number));
    }
    for (state, number) in [
        ("empty", streams.empty),
        ("not_ready", streams.not_ready),
        ("assigning", streams.assigning),
        ("reconciling", streams.reconciling),
        ("stable", streams.stable),
        ("dead", 0),
    ] {
        sheet.put(&table::STREAMS_GROUP_COUNT, &[state], count(number));
    }
    sheet.put(&table::NUM_GROUPS, &[], count(listed.len()));

    let ends: BTreeMap<(&str, i32), Offset> = partitions
        .iter()
        .map(|partition| ((&**partition.topic(), partition.index()), partition.offsets().high_watermark))
        .collect();
    for group in listed {
        let id = &group.group_id;
        sheet.put(&table::GROUP_MEMBERS, &[id], count(group.members));
        let everything = FetchOffsets { group_id: Arc::clone(id), ..FetchOffsets::default() };
        for topic in groups.fetch_offsets(everything).await.unwrap_or_default() {
            let (mut offsets, mut lags) = (0, 0);
            for committed in &topic.partitions {
                let Some(end) = ends.get(&(&*topic.topic, committed.partition)) else { continue };
                let (lag, number) = ((end - committed.offset).max(0), committed.partition.to_string());
                offsets += committed.offset;
                lags += lag;
                sheet.put(&table::GROUP_CURRENT_OFFSET, &[id, &topic.topic, &number], committed.offset);
                sheet.put(&table::GROUP_LAG, &[id, &topic.topic, &number], lag);
            }
            sheet.put(&table::GROUP_CURRENT_OFFSET_SUM, &[id, &topic.topic], offsets);
            sheet.put(&table::GROUP_LAG_SUM, &[id, &topic.topic], lags);
        }
    }
}

fn is_preferred(partition: &PartitionImage) -> bool {
    partition.replicas.first() == Some(&partition.leader)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
