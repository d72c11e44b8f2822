//! The configuration of the share coordinator (`ShareCoordinatorConfig`).

use crate::log::compression::Compression;

/// Values of the `share.coordinator.*` keys.
#[derive(Clone, Debug)]
pub struct ShareCoordinatorSettings {
    /// `share.coordinator.state.topic.num.partitions`: used while the topic does not exist.
    pub state_partitions: i32,
    /// `share.coordinator.snapshot.update.records.per.snapshot`
    pub updates_per_snapshot: u32,
    /// `share.coordinator.write.timeout.ms`
    pub write_timeout_ms: i64,
    /// `share.coordinator.state.topic.prune.interval.ms`
    pub prune_interval_ms: i64,
    /// `share.coordinator.cold.partition.snapshot.interval.ms`
    pub cold_snapshot_interval_ms: i64,
    /// `share.coordinator.state.topic.compression.codec`
    pub compression: Compression,
    /// `share.coordinator.load.buffer.size`
    pub load_buffer_bytes: usize,
}

impl Default for ShareCoordinatorSettings {
    fn default() -> Self {
        Self {
            state_partitions: 50,
            updates_per_snapshot: 500,
            write_timeout_ms: 5_000,
            prune_interval_ms: 300_000,
            cold_snapshot_interval_ms: 300_000,
            compression: Compression::None,
            load_buffer_bytes: 5 << 20,
        }
    }
}
