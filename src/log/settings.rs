//! What a log takes from its topic's configuration, ready to use (Kafka's `LogConfig`).

use super::compression::Compression;
use crate::config::TopicConfig;

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
    pub(super) retention_ms: i64,
    pub(super) retention_bytes: i64,
    pub(super) segment_bytes: u64,
    pub(super) segment_ms: i64,
    pub(super) flush_messages: i64,
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
            retention_ms: config.retention_ms,
            retention_bytes: config.retention_bytes,
            segment_bytes: u64::try_from(config.segment_bytes).unwrap_or(0),
            segment_ms: config.segment_ms,
            flush_messages: config.flush_messages,
        }
    }
}
