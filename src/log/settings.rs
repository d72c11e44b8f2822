//! What a log takes from its topic's configuration, ready to use (Kafka's `LogConfig`).

use super::compression::Compression;
use crate::config::TopicConfig;
use crate::types::{Offset, PartitionId};

#[derive(Clone, Debug)]
pub(super) struct LogConfig {
    pub(super) max_message_bytes: usize,
    pub(super) compacts: bool,
    pub(super) deletes: bool,
    pub(super) log_append_time: bool,
    pub(super) timestamp_before_max_ms: i64,
    pub(super) timestamp_after_max_ms: i64,
    /// How batches are stored; `None` as the producer sent them.
    pub(super) compression: Option<Compression>,
    /// How hard, where that compression has levels; `None` as its library does.
    pub(super) compression_level: Option<i32>,
    pub(super) retention_ms: i64,
    pub(super) retention_bytes: i64,
    pub(super) segment_bytes: u64,
    pub(super) segment_ms: i64,
    /// A part of it is taken off `segment_ms`, by the segment.
    pub(super) segment_jitter_ms: i64,
    pub(super) delete_retention_ms: i64,
    pub(super) min_compaction_lag_ms: i64,
    pub(super) max_compaction_lag_ms: i64,
    pub(super) min_cleanable_dirty_ratio: f64,
    pub(super) min_insync_replicas: i32,
    pub(super) flush_messages: i64,
    /// `i64::MAX` for none.
    pub(super) flush_ms: i64,
}

impl From<&TopicConfig> for LogConfig {
    fn from(config: &TopicConfig) -> Self {
        Self {
            max_message_bytes: usize::try_from(config.max_message_bytes).unwrap_or(0),
            compacts: config.compacts(),
            deletes: config.deletes(),
            log_append_time: config.uses_log_append_time(),
            timestamp_before_max_ms: config.message_timestamp_before_max_ms,
            timestamp_after_max_ms: config.message_timestamp_after_max_ms,
            compression: Compression::from_name(&config.compression_type),
            compression_level: match Compression::from_name(&config.compression_type) {
                // -1 is the library's own.
                Some(Compression::Gzip) => Some(config.compression_gzip_level).filter(|level| *level >= 0),
                Some(Compression::Zstd) => Some(config.compression_zstd_level),
                Some(Compression::None | Compression::Snappy | Compression::Lz4) | None => None,
            },
            retention_ms: config.retention_ms,
            retention_bytes: config.retention_bytes,
            segment_bytes: u64::try_from(config.segment_bytes).unwrap_or(0),
            // A segment that is still written to can not be compacted (`LogConfig.maxSegmentMs`).
            segment_ms: if config.compacts() {
                config.segment_ms.min(config.max_compaction_lag_ms)
            } else {
                config.segment_ms
            },
            segment_jitter_ms: config.segment_jitter_ms.min(config.segment_ms),
            delete_retention_ms: config.delete_retention_ms,
            min_compaction_lag_ms: config.min_compaction_lag_ms,
            max_compaction_lag_ms: config.max_compaction_lag_ms,
            min_cleanable_dirty_ratio: config.min_cleanable_dirty_ratio,
            min_insync_replicas: config.min_insync_replicas,
            flush_messages: config.flush_messages,
            flush_ms: config.flush_ms,
        }
    }
}

impl LogConfig {
    /// How long a segment is written to: `segment.ms` less a part of the jitter that looks random, so that the
    /// segments of many partitions do not begin together (`LogConfig.randomSegmentJitter`).
    pub(super) fn roll_ms(&self, partition: PartitionId, base_offset: Offset) -> i64 {
        if self.segment_jitter_ms <= 0 {
            return self.segment_ms;
        }
        let seed = u64::from(partition.0).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ base_offset.unsigned_abs();
        let mixed = (seed ^ (seed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let part = (mixed ^ (mixed >> 32)) % self.segment_jitter_ms.unsigned_abs();
        self.segment_ms.saturating_sub_unsigned(part)
    }
}
