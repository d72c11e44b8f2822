//! The keys of a topic, and what each falls back to.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Layers;
use super::broker::{BROKER_KEYS, BrokerConfig, COMPRESSION_TYPES, TIMESTAMP_TYPES, check_gzip_level};
use super::key::{ConfigError, Value, config_keys, find};
use super::unsupported::reason;

config_keys! {
    /// The configuration of one topic (Kafka's `LogConfig`).
    pub struct TopicConfig, table TOPIC_KEYS;

    "cleanup.policy" cleanup_policy: Vec<String> = "delete", Resource, ListOf(&["compact", "delete"]), Medium, "What happens to old records: removed, compacted, or both.";
    "compression.gzip.level" compression_gzip_level: i32 = "-1", Resource, Checked(check_gzip_level, "[1,...,9] or -1"), Medium, "The level of gzip where compression.type is gzip.";
    "compression.lz4.level" compression_lz4_level: i32 = "9", Resource, Between(1, 17), Medium, "The level of lz4 where compression.type is lz4." idle reason::LZ4_LEVELS;
    "compression.type" compression_type: String = "producer", Resource, OneOf(COMPRESSION_TYPES), Medium, "How batches are stored: with this compression, or as the producer sent them.";
    "compression.zstd.level" compression_zstd_level: i32 = "3", Resource, Between(-131_072, 22), Medium, "The level of zstd where compression.type is zstd.";
    "delete.retention.ms" delete_retention_ms: i64 = "86400000", Resource, AtLeast(0), Medium, "How long tombstones stay after compaction, in milliseconds.";
    "file.delete.delay.ms" file_delete_delay_ms: i64 = "60000", Resource, AtLeast(0), Medium, "How long a removed segment file stays on the disk, in milliseconds." idle reason::SEGMENTS;
    "flush.messages" flush_messages: i64 = "9223372036854775807", Resource, AtLeast(1), Medium, "How many records may be written before a sync to disk; with 1 a write is answered only after it is on the disk.";
    "flush.ms" flush_ms: i64 = "9223372036854775807", Resource, AtLeast(0), Medium, "How long a record may wait for a sync to disk, in milliseconds; one sync is for all partitions.";
    "follower.replication.throttled.replicas" follower_replication_throttled_replicas: Vec<String> = "", Resource, Checked(check_throttled, THROTTLED), Medium, "The follower replicas whose replication is throttled.";
    "index.interval.bytes" index_interval_bytes: i32 = "4096", Resource, AtLeast(0), Medium, "How many bytes lie between two entries of an index." idle reason::SEGMENTS;
    "leader.replication.throttled.replicas" leader_replication_throttled_replicas: Vec<String> = "", Resource, Checked(check_throttled, THROTTLED), Medium, "The leader replicas whose replication is throttled.";
    "local.retention.bytes" local_retention_bytes: i64 = "-2", Resource, AtLeast(-2), Medium, "How many bytes stay on this broker after they were copied to remote storage." idle reason::TIERED;
    "local.retention.ms" local_retention_ms: i64 = "-2", Resource, AtLeast(-2), Medium, "How long records stay on this broker after they were copied to remote storage." idle reason::TIERED;
    "max.compaction.lag.ms" max_compaction_lag_ms: i64 = "9223372036854775807", Resource, AtLeast(1), Medium, "How long a record may wait for compaction, in milliseconds.";
    "max.message.bytes" max_message_bytes: i32 = "1048588", Resource, AtLeast(0), Medium, "The largest record batch in bytes.";
    "message.timestamp.after.max.ms" message_timestamp_after_max_ms: i64 = "3600000", Resource, AtLeast(0), Medium, "How far a record's time may lie after the broker's, in milliseconds.";
    "message.timestamp.before.max.ms" message_timestamp_before_max_ms: i64 = "9223372036854775807", Resource, AtLeast(0), Medium, "How far a record's time may lie before the broker's, in milliseconds.";
    "message.timestamp.type" message_timestamp_type: String = "CreateTime", Resource, OneOf(TIMESTAMP_TYPES), Medium, "Whether records keep the producer's time or get the broker's.";
    "min.cleanable.dirty.ratio" min_cleanable_dirty_ratio: f64 = "0.5", Resource, Between(0, 1), Medium, "Which part of a log must be new before it is compacted.";
    "min.compaction.lag.ms" min_compaction_lag_ms: i64 = "0", Resource, AtLeast(0), Medium, "How long a record stays out of compaction, in milliseconds.";
    "min.insync.replicas" min_insync_replicas: i32 = "1", Resource, AtLeast(1), Medium, "How many replicas must have a record before a write with acks=all is answered.";
    "preallocate" preallocate: bool = "false", Resource, Any, Medium, "Whether segment files are allocated before they are written." idle reason::SEGMENTS;
    "remote.log.copy.disable" remote_log_copy_disable: bool = "false", Resource, Any, Medium, "Whether copying to remote storage is stopped." idle reason::TIERED;
    "remote.log.delete.on.disable" remote_log_delete_on_disable: bool = "false", Resource, Any, Medium, "Whether remote data is removed when remote storage is switched off." idle reason::TIERED;
    "remote.storage.enable" remote_storage_enable: bool = "false", Resource, Any, Medium, "Whether older records move to remote storage; true is refused." idle reason::TIERED;
    "retention.bytes" retention_bytes: i64 = "-1", Resource, Any, Medium, "How many bytes each partition keeps; -1 sets no limit.";
    "retention.ms" retention_ms: i64 = "604800000", Resource, AtLeast(-1), Medium, "How long records are kept, in milliseconds; -1 keeps them.";
    "segment.bytes" segment_bytes: i32 = "1073741824", Resource, AtLeast(1_048_576), Medium, "How many bytes of a partition make a segment; retention removes whole segments, and a batch must fit into one.";
    "segment.index.bytes" segment_index_bytes: i32 = "10485760", Resource, AtLeast(4), Medium, "The size of an index file in bytes." idle reason::SEGMENTS;
    "segment.jitter.ms" segment_jitter_ms: i64 = "0", Resource, AtLeast(0), Medium, "A random part that is taken off segment.ms.";
    "segment.ms" segment_ms: i64 = "604800000", Resource, AtLeast(1), Medium, "How long a segment of a partition is written to, in milliseconds, before the next one begins.";
    "unclean.leader.election.enable" unclean_leader_election_enable: bool = "false", Resource, Any, Medium, "Whether a replica that is not in sync may become leader, which loses what only the others had.";
}

const THROTTLED: &str = "[partitionId]:[brokerId],[partitionId]:[brokerId],...";

fn check_throttled(value: &Value) -> Result<(), String> {
    let Value::List(items) = value else { return Ok(()) };
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let pair = |item: &String| {
        item.is_empty() || item.split_once(':').is_some_and(|(one, two)| number(one) && number(two))
    };
    if items.iter().all(pair) || items.concat() == "*" {
        return Ok(());
    }
    Err(format!("expected the literal '*' or a list of replicas in the format {THROTTLED}"))
}

/// How a value of a broker key becomes one of the topic's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    Same,
    Minutes,
    Hours,
}

impl Conversion {
    fn apply(self, text: &str) -> String {
        let factor = match self {
            Self::Same => return text.trim().to_owned(),
            Self::Minutes => 60_000,
            Self::Hours => 3_600_000,
        };
        text.trim().parse::<i64>().map_or_else(|_| text.to_owned(), |number| (number * factor).to_string())
    }
}

/// The broker keys that a topic key falls back to, in their order
/// (Kafka's `ServerTopicConfigSynonyms`).
pub fn broker_synonyms(name: &str) -> &'static [(&'static str, Conversion)] {
    use Conversion::{Hours, Minutes, Same};
    match name {
        "segment.bytes" => &[("log.segment.bytes", Same)],
        "segment.ms" => &[("log.roll.ms", Same), ("log.roll.hours", Hours)],
        "segment.jitter.ms" => &[("log.roll.jitter.ms", Same), ("log.roll.jitter.hours", Hours)],
        "segment.index.bytes" => &[("log.index.size.max.bytes", Same)],
        "flush.messages" => &[("log.flush.interval.messages", Same)],
        "flush.ms" => &[("log.flush.interval.ms", Same), ("log.flush.scheduler.interval.ms", Same)],
        "retention.bytes" => &[("log.retention.bytes", Same)],
        "retention.ms" => {
            &[("log.retention.ms", Same), ("log.retention.minutes", Minutes), ("log.retention.hours", Hours)]
        }
        "max.message.bytes" => &[("message.max.bytes", Same)],
        "index.interval.bytes" => &[("log.index.interval.bytes", Same)],
        "delete.retention.ms" => &[("log.cleaner.delete.retention.ms", Same)],
        "min.compaction.lag.ms" => &[("log.cleaner.min.compaction.lag.ms", Same)],
        "max.compaction.lag.ms" => &[("log.cleaner.max.compaction.lag.ms", Same)],
        "file.delete.delay.ms" => &[("log.segment.delete.delay.ms", Same)],
        "min.cleanable.dirty.ratio" => &[("log.cleaner.min.cleanable.ratio", Same)],
        "cleanup.policy" => &[("log.cleanup.policy", Same)],
        "unclean.leader.election.enable" => &[("unclean.leader.election.enable", Same)],
        "min.insync.replicas" => &[("min.insync.replicas", Same)],
        "compression.type" => &[("compression.type", Same)],
        "compression.gzip.level" => &[("compression.gzip.level", Same)],
        "compression.lz4.level" => &[("compression.lz4.level", Same)],
        "compression.zstd.level" => &[("compression.zstd.level", Same)],
        "preallocate" => &[("log.preallocate", Same)],
        "message.timestamp.type" => &[("log.message.timestamp.type", Same)],
        "message.timestamp.before.max.ms" => &[("log.message.timestamp.before.max.ms", Same)],
        "message.timestamp.after.max.ms" => &[("log.message.timestamp.after.max.ms", Same)],
        "local.retention.ms" => &[("log.local.retention.ms", Same)],
        "local.retention.bytes" => &[("log.local.retention.bytes", Same)],
        _ => &[],
    }
}

impl BrokerConfig {
    /// What a topic without an override of the key gets from this broker, as text; `None` where
    /// no broker key stands behind the topic's (then the topic key's own default holds).
    pub fn topic_default(&self, name: &str) -> Option<String> {
        let synonyms = broker_synonyms(name);
        let set = synonyms
            .iter()
            .find_map(|(broker_name, conversion)| Some(conversion.apply(self.layers.get(broker_name)?)));
        let text = set.or_else(|| {
            synonyms.iter().find_map(|(broker_name, conversion)| {
                Some(conversion.apply(find(BROKER_KEYS, broker_name)?.default?))
            })
        })?;
        // Kafka reads every negative retention as "unlimited".
        let unlimited = name == "retention.ms" && text.starts_with('-');
        Some(if unlimited { "-1".to_owned() } else { text })
    }
}

impl TopicConfig {
    /// The configuration of a topic that has these overrides, on a broker with this
    /// configuration. An override that is not valid is left out: overrides are checked when they
    /// are set (see [`super::dynamic`]), and a broker must still serve a topic whose override a
    /// later version does not take.
    pub fn resolve(overrides: &BTreeMap<String, String>, broker: &BrokerConfig) -> Self {
        Self::try_resolve(overrides, broker).unwrap_or_else(|_| {
            let valid =
                |name: &str, text: &str| find(TOPIC_KEYS, name).is_some_and(|key| key.parse(text).is_ok());
            let kept = overrides.iter().filter(|(name, text)| valid(name, text));
            let kept = kept.map(|(name, text)| (name.clone(), text.clone())).collect();
            Self::try_resolve(&kept, broker).unwrap_or_default()
        })
    }

    /// The same, where an override that is not valid is an error.
    ///
    /// # Errors
    /// The first value that is not valid.
    pub fn try_resolve(
        overrides: &BTreeMap<String, String>,
        broker: &BrokerConfig,
    ) -> Result<Self, ConfigError> {
        let mut values: BTreeMap<String, String> = TOPIC_KEYS
            .iter()
            .filter_map(|key| Some((key.name.to_owned(), broker.topic_default(key.name)?)))
            .collect();
        values.extend(overrides.iter().map(|(name, text)| (name.clone(), text.clone())));
        Self::read(&values, Arc::new(broker.layers.for_resource(overrides)))
    }

    /// Whether old records are removed by time and size.
    pub fn deletes(&self) -> bool {
        self.cleanup_policy.iter().any(|policy| policy == "delete")
    }

    /// Whether only the newest record of a key must be kept.
    pub fn compacts(&self) -> bool {
        self.cleanup_policy.iter().any(|policy| policy == "compact")
    }

    /// Whether records get the broker's time (`message.timestamp.type=LogAppendTime`).
    pub fn uses_log_append_time(&self) -> bool {
        self.message_timestamp_type == "LogAppendTime"
    }
}

impl Default for TopicConfig {
    #[expect(clippy::expect_used, reason = "the defaults are ours, and a test reads them")]
    fn default() -> Self {
        Self::read(&BTreeMap::new(), Arc::new(Layers::default())).expect("the defaults are valid")
    }
}
