//! The configuration of the group coordinator (`GroupCoordinatorConfig`).

use super::assignor::Assignor;

/// Values of the `group.*` and `offsets.*` keys, in the core's terms.
#[derive(Clone, Debug)]
pub struct GroupSettings {
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more first members.
    pub initial_rebalance_delay_ms: i32,
    /// `group.min.session.timeout.ms`
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`
    pub max_session_timeout_ms: i32,
    /// `group.max.size`: members of a group.
    pub max_size: usize,
    /// `offsets.commit.timeout.ms`: how long a request waits for its records to be committed.
    pub write_timeout_ms: i64,
    /// `offset.metadata.max.bytes`
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`
    pub offsets_retention_check_interval_ms: i64,
    /// `producer.id.expiration.ms`
    pub producer_id_expiration_ms: i64,
    /// `offsets.topic.num.partitions`: used while the topic does not exist.
    pub offsets_topic_partitions: i32,
    /// `group.consumer.max.size`: members of a consumer group.
    pub consumer_max_size: usize,
    /// `group.streams.max.size`: members of a streams group.
    pub streams_max_size: usize,
    /// `group.consumer.assignors`: those that members may ask for; the first one is for groups where nobody does.
    pub assignors: Vec<Assignor>,
    /// `group.consumer.migration.policy`
    pub migration: MigrationPolicy,
    /// `group.consumer.regex.refresh.interval.ms`
    pub expression_refresh_interval_ms: i64,
    /// `group.share.max.size`: members of a share group.
    pub share_max_size: usize,
    /// `group.share.initialize.retry.interval.ms`: after which time a partition that is still being initialised is
    /// asked for again.
    pub share_initialize_retry_interval_ms: i64,
}

/// Which groups may go from one protocol to the other while they have members (`ConsumerGroupMigrationPolicy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigrationPolicy {
    /// From the classic to the consumer protocol.
    pub upgrade: bool,
    /// From the consumer to the classic protocol.
    pub downgrade: bool,
}

impl MigrationPolicy {
    /// The policy of this name; `None` for one that there is not.
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "bidirectional" => Self { upgrade: true, downgrade: true },
            "upgrade" => Self { upgrade: true, downgrade: false },
            "downgrade" => Self { upgrade: false, downgrade: true },
            "disabled" => Self { upgrade: false, downgrade: false },
            _ => return None,
        })
    }
}

impl GroupSettings {
    /// The assignor of groups whose members do not ask for one.
    pub fn default_assignor(&self) -> Assignor {
        self.assignors.first().copied().unwrap_or(Assignor::Uniform)
    }
}

/// How long a new member's first join may wait before it is taken for gone: it does not know its
/// member id yet, so it can not send heartbeats (`CLASSIC_GROUP_NEW_MEMBER_JOIN_TIMEOUT_MS`).
pub const NEW_MEMBER_JOIN_TIMEOUT_MS: i32 = 5 * 60 * 1000;

/// The largest record of a group: all its members with their subscriptions and assignments. Kafka's limit is the
/// topic's `max.message.bytes`, 1 MB; this one only keeps a client from filling the log with a few requests.
pub const GROUP_RECORD_BYTES_MAX: usize = 8 * 1024 * 1024;

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            initial_rebalance_delay_ms: 3_000,
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            max_size: usize::MAX,
            write_timeout_ms: 5_000,
            offset_metadata_max_bytes: 4_096,
            producer_id_expiration_ms: 24 * 60 * 60 * 1000,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1000,
            offsets_retention_check_interval_ms: 600_000,
            offsets_topic_partitions: 50,
            consumer_max_size: usize::MAX,
            streams_max_size: usize::MAX,
            assignors: vec![Assignor::Uniform, Assignor::Range],
            migration: MigrationPolicy { upgrade: true, downgrade: true },
            expression_refresh_interval_ms: 600_000,
            share_max_size: 200,
            share_initialize_retry_interval_ms: 30_000,
        }
    }
}
