//! The broker's own keys.
//!
//! Each row of the table is a key that klamm reads. A row that ends with `idle` is kept, checked
//! and reported as Kafka does, and has no effect for the reason that stands there; the keys of
//! Kafka that have no row here stand in [`super::unsupported`].

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Layers;
use super::cluster;
use super::key::{ConfigError, Value, config_keys, find};
use super::unsupported::reason;

config_keys! {
    /// The configuration of a broker: static values with the dynamic ones on top.
    pub struct BrokerConfig, table BROKER_KEYS;

    // Identity and roles.
    "node.id" node_id: i32 = "1", ReadOnly, AtLeast(0), High, "The id of this node in the cluster." differs "none" "a single node needs no id to be chosen, and --join chooses a free one";
    "broker.id" broker_id: i32 = "-1", ReadOnly, Any, High, "The older name of node.id; where both are set they must be equal.";
    "broker.rack" broker_rack: Option<String> = null, ReadOnly, Any, Medium, "The rack, zone or site of this broker: replicas are spread over racks, and see replica.selector.class.";
    "process.roles" process_roles: Vec<String> = "broker,controller", ReadOnly, ListOf(&["broker", "controller"]), High, "The roles of this process: broker, controller, or both." differs "none" "one process is a whole cluster";

    // Listeners.
    "listeners" listeners: Vec<String> = "PLAINTEXT://127.0.0.1:9092", ReadOnly, NonEmptyList, High, "The addresses to listen on, as NAME://host:port; an empty host means every interface." differs "PLAINTEXT://:9092" "nothing is open to the network until it is asked for";
    "advertised.listeners" advertised_listeners: Option<Vec<String>> = null, ReadOnly, NonEmptyList, High, "The addresses that clients are told to connect to; without it they are told the address that they used.";
    "listener.security.protocol.map" listener_security_protocol_map: String = "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT", ReadOnly, Any, Low, "Which security protocol each listener name speaks, as NAME:PROTOCOL pairs.";
    "inter.broker.listener.name" inter_broker_listener_name: Option<String> = null, ReadOnly, Any, Medium, "The listener that brokers use among themselves; without it the one that is named PLAINTEXT, or the first.";
    "security.inter.broker.protocol" security_inter_broker_protocol: String = "PLAINTEXT", ReadOnly, Checked(cluster::check_security_protocol, "[PLAINTEXT]"), Medium, "What brokers speak among themselves where inter.broker.listener.name is not set.";
    "controller.listener.names" controller_listener_names: Vec<String> = "CONTROLLER", ReadOnly, Distinct, High, "The names of the listeners that belong to the controller. Where listeners has none of them, the listener between brokers serves the controller too." differs "none" "a file without it starts too";

    // The quorum of controllers.
    "controller.quorum.voters" controller_quorum_voters: Vec<String> = "", ReadOnly, Checked(cluster::check_voters, "non-empty list"), High, "The controllers of a cluster whose voters do not change, as id@host:port.";
    "controller.quorum.bootstrap.servers" controller_quorum_bootstrap_servers: Vec<String> = "", ReadOnly, Checked(cluster::check_bootstrap_servers, "non-empty list"), High, "Controllers to ask for the others, as host:port.";
    "controller.quorum.auto.join.enable" controller_quorum_auto_join_enable: bool = "false", ReadOnly, Any, Low, "Whether a controller that is not a voter makes itself one; --join sets it.";
    "controller.quorum.election.timeout.ms" controller_quorum_election_timeout_ms: i32 = "1000", ReadOnly, AtLeast(0), High, "How long, in milliseconds, a controller waits for votes before it tries again.";
    "controller.quorum.election.backoff.max.ms" controller_quorum_election_backoff_max_ms: i32 = "1000", ReadOnly, AtLeast(0), High, "The longest time, in milliseconds, between two elections that nobody won.";
    "controller.quorum.fetch.timeout.ms" controller_quorum_fetch_timeout_ms: i32 = "2000", ReadOnly, AtLeast(0), High, "How long, in milliseconds, a voter may hear nothing from the active controller before it stands for election, and the active controller nothing from most voters before it resigns.";
    "controller.quorum.append.linger.ms" controller_quorum_append_linger_ms: i32 = "25", ReadOnly, AtLeast(0), Medium, "How long, in milliseconds, the active controller collects records before it writes them." idle reason::LINGER;
    "controller.quorum.request.timeout.ms" controller_quorum_request_timeout_ms: i32 = "2000", ReadOnly, AtLeast(0), Medium, "How long, in milliseconds, a controller waits for another one's answer.";
    "controller.quorum.retry.backoff.ms" controller_quorum_retry_backoff_ms: i32 = "20", ReadOnly, AtLeast(0), Low, "How long, in milliseconds, a controller waits before it asks again after an error.";
    "controller.quorum.fetch.max.bytes" controller_quorum_fetch_max_bytes: i32 = "1048576", ReadOnly, AtLeast(1), Low, "How many bytes of the metadata log one fetch brings; one batch is always brought.";
    "controller.quorum.fetch.snapshot.max.bytes" controller_quorum_fetch_snapshot_max_bytes: i32 = "1048576", ReadOnly, AtLeast(1), Low, "How many bytes of a metadata snapshot one fetch brings.";
    "metadata.log.max.record.bytes.between.snapshots" metadata_log_max_record_bytes_between_snapshots: i64 = "20971520", ReadOnly, AtLeast(1), High, "After how many bytes of metadata records the next snapshot is written.";
    "metadata.log.max.snapshot.interval.ms" metadata_log_max_snapshot_interval_ms: i64 = "3600000", ReadOnly, AtLeast(0), High, "After how many milliseconds the next snapshot is written, if there are new metadata records; 0 sets no limit.";
    "metadata.max.retention.bytes" metadata_max_retention_bytes: i64 = "104857600", ReadOnly, Any, High, "How many bytes of the metadata log and its snapshots are kept behind the newest snapshot; -1 sets no limit." idle reason::METADATA_RETENTION;
    "metadata.max.retention.ms" metadata_max_retention_ms: i64 = "604800000", ReadOnly, Any, High, "How long, in milliseconds, the metadata log and its snapshots are kept behind the newest snapshot; -1 sets no limit." idle reason::METADATA_RETENTION;
    "metadata.max.idle.interval.ms" metadata_max_idle_interval_ms: i32 = "500", ReadOnly, AtLeast(0), Low, "How often, in milliseconds, the active controller of several writes a record that does nothing, so that the high watermark moves; 0 stops it." idle reason::METADATA_IDLE;

    // Brokers and their controllers.
    "broker.heartbeat.interval.ms" broker_heartbeat_interval_ms: i32 = "2000", ReadOnly, Any, Medium, "How often, in milliseconds, a broker sends a heartbeat to the active controller.";
    "broker.session.timeout.ms" broker_session_timeout_ms: i32 = "9000", ReadOnly, Any, Medium, "How long, in milliseconds, a broker may be silent before the controller fences it and gives its partitions to others.";
    "initial.broker.registration.timeout.ms" initial_broker_registration_timeout_ms: i32 = "60000", ReadOnly, Any, Medium, "How long, in milliseconds, a broker tries to register before it stops.";
    "controlled.shutdown.enable" controlled_shutdown_enable: bool = "true", ReadOnly, Any, Medium, "Whether a broker that stops has the controller move its leaderships first.";
    "controller.socket.timeout.ms" controller_socket_timeout_ms: i32 = "30000", ReadOnly, Any, Medium, "How long, in milliseconds, a broker waits for the controller's answer before it asks again.";
    "request.timeout.ms" request_timeout_ms: i32 = "30000", ReadOnly, Any, High, "How long, in milliseconds, a coordinator waits for another broker's answer.";
    "socket.connection.setup.timeout.ms" socket_connection_setup_timeout_ms: i64 = "10000", ReadOnly, Any, Medium, "How long, in milliseconds, a connection to another node may take to be made.";
    "socket.connection.setup.timeout.max.ms" socket_connection_setup_timeout_max_ms: i64 = "30000", ReadOnly, Any, Medium, "The most that socket.connection.setup.timeout.ms grows to while connections fail." idle reason::CONNECTING;

    // Replication.
    "num.replica.fetchers" num_replica_fetchers: i32 = "1", ClusterWide, AtLeast(1), High, "How many connections fetch from each other broker.";
    "replica.lag.time.max.ms" replica_lag_time_max_ms: i64 = "30000", ReadOnly, Any, High, "How long, in milliseconds, a follower may not have caught up with its leader before it is no longer in sync.";
    "replica.fetch.wait.max.ms" replica_fetch_wait_max_ms: i32 = "500", ReadOnly, Any, High, "How long, in milliseconds, a leader holds a follower's fetch while there is nothing new.";
    "replica.fetch.min.bytes" replica_fetch_min_bytes: i32 = "1", ReadOnly, Any, High, "How many bytes a leader waits for before it answers a follower's fetch.";
    "replica.fetch.max.bytes" replica_fetch_max_bytes: i32 = "1048576", ReadOnly, AtLeast(0), Medium, "How many bytes of one partition a follower asks for; one batch is always brought.";
    "replica.fetch.response.max.bytes" replica_fetch_response_max_bytes: i32 = "10485760", ReadOnly, AtLeast(0), Medium, "How many bytes of all partitions a follower asks for; one batch is always brought.";
    "replica.fetch.backoff.ms" replica_fetch_backoff_ms: i32 = "1000", ReadOnly, AtLeast(0), Medium, "How long, in milliseconds, a follower waits after an error before it fetches the partition again.";
    "replica.socket.timeout.ms" replica_socket_timeout_ms: i32 = "30000", ReadOnly, Any, High, "How long, in milliseconds, a follower waits for its leader's answer.";
    "replica.socket.receive.buffer.bytes" replica_socket_receive_buffer_bytes: i32 = "65536", ReadOnly, Any, High, "The receive buffer (SO_RCVBUF) of a follower's connection in bytes; -1 leaves it to the system.";
    "replica.selector.class" replica_selector_class: Option<String> = null, ReadOnly, Any, Medium, "Which replica consumers are sent to: org.apache.kafka.common.replica.RackAwareReplicaSelector sends them to one in their rack (KIP-392); any other class, and none, to the leader.";
    "replication.quota.window.num" replication_quota_window_num: i32 = "11", ReadOnly, AtLeast(1), Low, "How many windows of replication.quota.window.size.seconds the rate of throttled replication is measured over.";
    "replication.quota.window.size.seconds" replication_quota_window_size_seconds: i32 = "1", ReadOnly, AtLeast(1), Low, "The length, in seconds, of one window in which throttled replication is measured.";
    "quota.window.num" quota_window_num: i32 = "11", ReadOnly, AtLeast(1), Low, "How many windows of quota.window.size.seconds the rates of clients and of new connections are measured over.";
    "quota.window.size.seconds" quota_window_size_seconds: i32 = "1", ReadOnly, AtLeast(1), Low, "The length, in seconds, of one window in which clients and new connections are measured.";
    "controller.quota.window.num" controller_quota_window_num: i32 = "11", ReadOnly, AtLeast(1), Low, "For how many windows of controller.quota.window.size.seconds a client may save up what it does not create and delete.";
    "controller.quota.window.size.seconds" controller_quota_window_size_seconds: i32 = "1", ReadOnly, AtLeast(1), Low, "The length, in seconds, of one such window.";
    "auto.leader.rebalance.enable" auto_leader_rebalance_enable: bool = "true", ReadOnly, Any, High, "Whether the controller moves leaderships back to the preferred replica of each partition.";
    "leader.imbalance.check.interval.seconds" leader_imbalance_check_interval_seconds: i64 = "300", ReadOnly, AtLeast(1), High, "How often, in seconds, the controller looks for partitions that the preferred replica does not lead.";
    "unclean.leader.election.interval.ms" unclean_leader_election_interval_ms: i64 = "300000", ReadOnly, AtLeast(1), Medium, "How often, in milliseconds, the controller looks for partitions without a leader in topics with unclean.leader.election.enable.";

    // Sockets, requests and connections.
    "socket.request.max.bytes" socket_request_max_bytes: i32 = "104857600", ReadOnly, AtLeast(1), High, "The largest request, in bytes, that a client may send.";
    "socket.receive.buffer.bytes" socket_receive_buffer_bytes: i32 = "-1", ReadOnly, Any, High, "The receive buffer (SO_RCVBUF) of a connection in bytes; -1 leaves it to the system." differs "102400" "the system sizes the buffers of a connection by what it carries: large requests cost the broker about a tenth less CPU (and the client more), and a round trip is not limited to 100 KB";
    "socket.send.buffer.bytes" socket_send_buffer_bytes: i32 = "-1", ReadOnly, Any, High, "The send buffer (SO_SNDBUF) of a connection in bytes; -1 leaves it to the system." differs "102400" "the system sizes the buffers of a connection by what it carries: large requests cost the broker about a tenth less CPU (and the client more), and a round trip is not limited to 100 KB";
    "socket.listen.backlog.size" socket_listen_backlog_size: i32 = "50", ReadOnly, AtLeast(1), Medium, "How many connections may wait to be accepted.";
    "max.connections" max_connections: i32 = "2147483647", ClusterWide, AtLeast(0), Medium, "How many connections may be open at a time; further ones wait to be accepted.";
    "max.connections.per.ip" max_connections_per_ip: i32 = "2147483647", ClusterWide, AtLeast(0), Medium, "How many connections may be open from one address; further ones are closed.";
    "max.connections.per.ip.overrides" max_connections_per_ip_overrides: String = "", ClusterWide, Checked(check_address_limits, "address:count,..."), Medium, "Addresses with a limit of their own, as address:count pairs.";
    "max.connection.creation.rate" max_connection_creation_rate: i32 = "2147483647", ClusterWide, AtLeast(0), Medium, "How many connections may be opened per second; further ones wait to be accepted.";
    "connections.max.idle.ms" connections_max_idle_ms: i64 = "600000", ReadOnly, Any, Medium, "How long a connection may be silent, in milliseconds, before it is closed.";
    "queued.max.requests" queued_max_requests: i32 = "500", ReadOnly, AtLeast(1), High, "How many requests may be in work before reading from connections pauses." idle reason::QUEUE;
    "queued.max.request.bytes" queued_max_request_bytes: i64 = "-1", ReadOnly, Any, Medium, "How many bytes of requests may be in work before reading from connections pauses; -1 leaves it to klamm.";
    "telemetry.max.bytes" telemetry_max_bytes: i32 = "1048576", ReadOnly, AtLeast(1), Low, "How many bytes of metrics a client may push at a time, compressed and decompressed.";
    "max.request.partition.size.limit" max_request_partition_size_limit: i32 = "2000", ReadOnly, AtLeast(1), Medium, "How many partitions one DescribeTopicPartitions response may hold.";
    "fetch.max.bytes" fetch_max_bytes: i32 = "57671680", ReadOnly, AtLeast(1024), Medium, "The largest answer to a fetch in bytes; one batch is always returned.";
    "max.incremental.fetch.session.cache.slots" max_incremental_fetch_session_cache_slots: i32 = "1000", ReadOnly, AtLeast(0), Medium, "How many incremental fetch sessions are kept.";

    // Topics.
    "auto.create.topics.enable" auto_create_topics_enable: bool = "true", ReadOnly, Any, High, "Whether a topic that does not exist is created when a client asks for it.";
    "delete.topic.enable" delete_topic_enable: bool = "true", ReadOnly, Any, High, "Whether topics may be deleted.";
    "num.partitions" num_partitions: i32 = "1", ReadOnly, AtLeast(1), Medium, "How many partitions a topic gets when its creator does not say.";
    "default.replication.factor" default_replication_factor: i32 = "1", ReadOnly, Any, Medium, "How many replicas a topic gets when its creator does not say.";
    "min.insync.replicas" min_insync_replicas: i32 = "1", ClusterWide, AtLeast(1), High, "How many replicas must have a record before a write with acks=all is answered.";
    "unclean.leader.election.enable" unclean_leader_election_enable: bool = "false", ClusterWide, Any, High, "Whether a replica that is not in sync may become leader, which loses what only the others had.";
    "message.max.bytes" message_max_bytes: i32 = "1048588", ClusterWide, AtLeast(0), High, "The largest record batch in bytes.";
    "compression.type" compression_type: String = "producer", ClusterWide, OneOf(COMPRESSION_TYPES), High, "How batches are stored: with this compression, or as the producer sent them.";
    "compression.gzip.level" compression_gzip_level: i32 = "-1", ClusterWide, Checked(check_gzip_level, "[1,...,9] or -1"), Medium, "The level of gzip where compression.type is gzip.";
    "compression.lz4.level" compression_lz4_level: i32 = "9", ClusterWide, Between(1, 17), Medium, "The level of lz4 where compression.type is lz4." idle reason::LZ4_LEVELS;
    "compression.zstd.level" compression_zstd_level: i32 = "3", ClusterWide, Between(-131_072, 22), Medium, "The level of zstd where compression.type is zstd.";

    // Logs.
    "log.dir" log_dir: Option<Vec<String>> = null, ReadOnly, NonEmptyList, High, "The data directory, where log.dirs and --data-dir are not given." differs "/tmp/kafka-logs" "data lives in the user's data directory and outlives a restart of the machine";
    "log.dirs" log_dirs: Option<Vec<String>> = null, ReadOnly, NonEmptyList, High, "The data directory; klamm uses one.";
    "log.retention.ms" log_retention_ms: Option<i64> = null, ClusterWide, Any, High, "How long records are kept, in milliseconds; -1 keeps them.";
    "log.retention.minutes" log_retention_minutes: Option<i32> = null, ReadOnly, Any, High, "How long records are kept, in minutes, where log.retention.ms is not set.";
    "log.retention.hours" log_retention_hours: i32 = "168", ReadOnly, Any, High, "How long records are kept, in hours, where neither log.retention.ms nor log.retention.minutes is set.";
    "log.retention.bytes" log_retention_bytes: i64 = "-1", ClusterWide, Any, High, "How many bytes each partition keeps; -1 sets no limit.";
    "log.retention.check.interval.ms" log_retention_check_interval_ms: i64 = "300000", ReadOnly, AtLeast(1), Medium, "How often, in milliseconds, klamm looks for records that may be removed.";
    "log.initial.task.delay.ms" log_initial_task_delay_ms: i64 = "30000", ReadOnly, AtLeast(0), Low, "How long after the start, in milliseconds, klamm looks for removable records for the first time.";
    "log.cleanup.policy" log_cleanup_policy: Vec<String> = "delete", ClusterWide, ListOf(&["compact", "delete"]), Medium, "What happens to old records: removed, compacted, or both.";
    "log.message.timestamp.type" log_message_timestamp_type: String = "CreateTime", ClusterWide, OneOf(TIMESTAMP_TYPES), Medium, "Whether records keep the producer's time or get the broker's.";
    "log.message.timestamp.before.max.ms" log_message_timestamp_before_max_ms: i64 = "9223372036854775807", ClusterWide, AtLeast(0), Medium, "How far a record's time may lie before the broker's, in milliseconds.";
    "log.message.timestamp.after.max.ms" log_message_timestamp_after_max_ms: i64 = "3600000", ClusterWide, AtLeast(0), Medium, "How far a record's time may lie after the broker's, in milliseconds.";
    "log.flush.interval.messages" log_flush_interval_messages: i64 = "9223372036854775807", ClusterWide, AtLeast(1), High, "How many records may be written before a sync to disk; with 1 a write is answered only after it is on the disk.";
    "log.flush.interval.ms" log_flush_interval_ms: Option<i64> = null, ClusterWide, Any, High, "How long a record may wait for a sync to disk, in milliseconds; one sync is for all partitions.";
    "log.flush.scheduler.interval.ms" log_flush_scheduler_interval_ms: i64 = "9223372036854775807", ReadOnly, Any, High, "What log.flush.interval.ms is where it is not set; klamm needs no scheduler for its syncs.";
    "log.segment.bytes" log_segment_bytes: i32 = "1073741824", ClusterWide, AtLeast(1_048_576), High, "How many bytes of a partition make a segment; retention removes whole segments, and a batch must fit into one.";
    "log.roll.ms" log_roll_ms: Option<i64> = null, ClusterWide, Any, High, "How long a segment of a partition is written to, in milliseconds, before the next one begins.";
    "log.roll.hours" log_roll_hours: i32 = "168", ReadOnly, AtLeast(1), High, "How long a segment of a partition is written to, in hours, where log.roll.ms is not set.";
    "log.roll.jitter.ms" log_roll_jitter_ms: Option<i64> = null, ClusterWide, Any, High, "A random part that is taken off log.roll.ms.";
    "log.roll.jitter.hours" log_roll_jitter_hours: i32 = "0", ReadOnly, AtLeast(0), High, "A random part, in hours, that is taken off the roll time.";
    "log.segment.delete.delay.ms" log_segment_delete_delay_ms: i64 = "60000", ClusterWide, AtLeast(0), High, "How long a removed segment file stays on the disk, in milliseconds." idle reason::SEGMENTS;
    "log.index.size.max.bytes" log_index_size_max_bytes: i32 = "10485760", ClusterWide, AtLeast(4), Medium, "The size of an index file in bytes." idle reason::SEGMENTS;
    "log.index.interval.bytes" log_index_interval_bytes: i32 = "4096", ClusterWide, AtLeast(0), Medium, "How many bytes lie between two entries of an index." idle reason::SEGMENTS;
    "log.preallocate" log_preallocate: bool = "false", ClusterWide, Any, Medium, "Whether segment files are allocated before they are written." idle reason::SEGMENTS;
    "log.cleaner.min.compaction.lag.ms" log_cleaner_min_compaction_lag_ms: i64 = "0", ClusterWide, AtLeast(0), Medium, "How long a record stays out of compaction, in milliseconds.";
    "log.cleaner.max.compaction.lag.ms" log_cleaner_max_compaction_lag_ms: i64 = "9223372036854775807", ClusterWide, AtLeast(1), Medium, "How long a record may wait for compaction, in milliseconds.";
    "log.cleaner.min.cleanable.ratio" log_cleaner_min_cleanable_ratio: f64 = "0.5", ClusterWide, Between(0, 1), Medium, "Which part of a log must be new before it is compacted.";
    "log.cleaner.delete.retention.ms" log_cleaner_delete_retention_ms: i64 = "86400000", ClusterWide, AtLeast(0), Medium, "How long tombstones stay after compaction, in milliseconds.";
    "log.cleaner.enable" log_cleaner_enable: bool = "true", ReadOnly, Any, Medium, "Whether compacted topics are compacted.";
    "log.cleaner.threads" log_cleaner_threads: i32 = "1", ClusterWide, AtLeast(0), Medium, "How many logs are compacted at a time.";
    "log.cleaner.dedupe.buffer.size" log_cleaner_dedupe_buffer_size: i64 = "33554432", ClusterWide, Any, Medium, "The memory in bytes, over all threads, for the keys that one compaction looks at; it is taken only as far as there are keys, at 24 bytes for each." differs "134217728" "it is enough for 1.2 million new keys at once, and klamm should stay small where memory is not planned for";
    "log.cleaner.io.buffer.load.factor" log_cleaner_io_buffer_load_factor: f64 = "0.9", ClusterWide, Any, Medium, "Which part of log.cleaner.dedupe.buffer.size may be in use.";
    "log.cleaner.io.buffer.size" log_cleaner_io_buffer_size: i32 = "524288", ClusterWide, AtLeast(0), Medium, "How many bytes, over all threads, compaction reads between two looks at log.cleaner.io.max.bytes.per.second.";
    "log.cleaner.io.max.bytes.per.second" log_cleaner_io_max_bytes_per_second: f64 = "1.7976931348623157E308", ClusterWide, Any, Medium, "How many bytes compaction may read and write per second, over all threads.";
    "log.cleaner.backoff.ms" log_cleaner_backoff_ms: i64 = "15000", ClusterWide, AtLeast(0), Medium, "How long compaction waits, in milliseconds, where there is nothing to compact.";
    "log.local.retention.ms" log_local_retention_ms: i64 = "-2", ClusterWide, AtLeast(-2), Medium, "How long records stay on this broker after they were copied to remote storage." idle reason::TIERED;
    "log.local.retention.bytes" log_local_retention_bytes: i64 = "-2", ClusterWide, AtLeast(-2), Medium, "How many bytes stay on this broker after they were copied to remote storage." idle reason::TIERED;

    // Groups and committed offsets.
    "group.min.session.timeout.ms" group_min_session_timeout_ms: i32 = "6000", ReadOnly, Any, Medium, "The shortest session timeout that a group member may ask for, in milliseconds.";
    "group.max.session.timeout.ms" group_max_session_timeout_ms: i32 = "1800000", ReadOnly, Any, Medium, "The longest session timeout that a group member may ask for, in milliseconds.";
    "group.initial.rebalance.delay.ms" group_initial_rebalance_delay_ms: i32 = "0", ReadOnly, Any, Medium, "How long an empty group waits for more members before its first rebalance, in milliseconds." differs "3000" "a consumer starts to read at once, which tests and laptops want";
    "group.max.size" group_max_size: i32 = "2147483647", ReadOnly, AtLeast(1), Medium, "How many members a group may have.";
    "group.coordinator.rebalance.protocols" group_coordinator_rebalance_protocols: Vec<String> = "classic,consumer,streams", ReadOnly, ListOf(&["classic", "consumer", "share", "streams"]), Medium, "The protocols that groups may use; the classic one is always there.";
    "group.consumer.session.timeout.ms" group_consumer_session_timeout_ms: i32 = "45000", ReadOnly, AtLeast(1), Medium, "How long a member of a consumer group may be silent, in milliseconds, where consumer.session.timeout.ms is not set for the group.";
    "group.consumer.min.session.timeout.ms" group_consumer_min_session_timeout_ms: i32 = "45000", ReadOnly, AtLeast(1), Medium, "The least that consumer.session.timeout.ms may be set to, in milliseconds.";
    "group.consumer.max.session.timeout.ms" group_consumer_max_session_timeout_ms: i32 = "60000", ReadOnly, AtLeast(1), Medium, "The most that consumer.session.timeout.ms may be set to, in milliseconds.";
    "group.consumer.heartbeat.interval.ms" group_consumer_heartbeat_interval_ms: i32 = "5000", ReadOnly, AtLeast(1), Medium, "How often members of a consumer group are told to send heartbeats, in milliseconds, where consumer.heartbeat.interval.ms is not set for the group.";
    "group.consumer.min.heartbeat.interval.ms" group_consumer_min_heartbeat_interval_ms: i32 = "5000", ReadOnly, AtLeast(1), Medium, "The least that consumer.heartbeat.interval.ms may be set to, in milliseconds.";
    "group.consumer.max.heartbeat.interval.ms" group_consumer_max_heartbeat_interval_ms: i32 = "15000", ReadOnly, AtLeast(1), Medium, "The most that consumer.heartbeat.interval.ms may be set to, in milliseconds.";
    "group.consumer.assignment.interval.ms" group_consumer_assignment_interval_ms: i32 = "1000", ClusterWide, AtLeast(0), Medium, "The least time between two assignments of a consumer group, in milliseconds, where consumer.assignment.interval.ms is not set for the group.";
    "group.consumer.min.assignment.interval.ms" group_consumer_min_assignment_interval_ms: i32 = "0", ReadOnly, AtLeast(0), Medium, "The least that consumer.assignment.interval.ms may be set to, in milliseconds.";
    "group.consumer.max.assignment.interval.ms" group_consumer_max_assignment_interval_ms: i32 = "15000", ReadOnly, AtLeast(0), Medium, "The most that consumer.assignment.interval.ms may be set to, in milliseconds.";
    "group.consumer.max.size" group_consumer_max_size: i32 = "2147483647", ReadOnly, AtLeast(1), Medium, "How many members a consumer group may have.";
    "group.consumer.assignors" group_consumer_assignors: Vec<String> = "uniform,range", ReadOnly, ListOf(&["range", "uniform"]), Medium, "The assignors that members of consumer groups may ask for; the first one is taken where nobody asks.";
    "group.consumer.migration.policy" group_consumer_migration_policy: String = "bidirectional", ReadOnly, Checked(check_migration_policy, "(case insensitive) [BIDIRECTIONAL, DISABLED, DOWNGRADE, UPGRADE]"), Medium, "Whether a group goes to the consumer protocol with its first member that uses it, and back to the classic one with the last.";
    "group.consumer.regex.refresh.interval.ms" group_consumer_regex_refresh_interval_ms: i32 = "600000", ReadOnly, AtLeast(10_000), Medium, "How often the regular expressions of consumer groups are resolved, in milliseconds, even where no topic was created.";
    "group.share.session.timeout.ms" group_share_session_timeout_ms: i32 = "45000", ReadOnly, AtLeast(1), Medium, "How long a member of a share group may be silent, in milliseconds, where share.session.timeout.ms is not set for the group.";
    "group.share.min.session.timeout.ms" group_share_min_session_timeout_ms: i32 = "45000", ReadOnly, AtLeast(1), Medium, "The least that share.session.timeout.ms may be set to, in milliseconds.";
    "group.share.max.session.timeout.ms" group_share_max_session_timeout_ms: i32 = "60000", ReadOnly, AtLeast(1), Medium, "The most that share.session.timeout.ms may be set to, in milliseconds.";
    "group.share.heartbeat.interval.ms" group_share_heartbeat_interval_ms: i32 = "5000", ReadOnly, AtLeast(1), Medium, "How often members of a share group are told to send heartbeats, in milliseconds, where share.heartbeat.interval.ms is not set for the group.";
    "group.share.min.heartbeat.interval.ms" group_share_min_heartbeat_interval_ms: i32 = "5000", ReadOnly, AtLeast(1), Medium, "The least that share.heartbeat.interval.ms may be set to, in milliseconds.";
    "group.share.max.heartbeat.interval.ms" group_share_max_heartbeat_interval_ms: i32 = "15000", ReadOnly, AtLeast(1), Medium, "The most that share.heartbeat.interval.ms may be set to, in milliseconds.";
    "group.share.assignment.interval.ms" group_share_assignment_interval_ms: i32 = "1000", ClusterWide, AtLeast(0), Medium, "The least time between two assignments of a share group, in milliseconds, where share.assignment.interval.ms is not set for the group.";
    "group.share.min.assignment.interval.ms" group_share_min_assignment_interval_ms: i32 = "0", ReadOnly, AtLeast(0), Medium, "The least that share.assignment.interval.ms may be set to, in milliseconds.";
    "group.share.max.assignment.interval.ms" group_share_max_assignment_interval_ms: i32 = "15000", ReadOnly, AtLeast(0), Medium, "The most that share.assignment.interval.ms may be set to, in milliseconds.";
    "group.share.max.size" group_share_max_size: i32 = "200", ReadOnly, Between(1, 1000), Medium, "How many members a share group may have.";
    "group.share.assignors" group_share_assignors: Vec<String> = "simple", ReadOnly, Checked(check_share_assignors, "[simple]"), Medium, "The assignor of share groups; there is one.";
    "group.share.initialize.retry.interval.ms" group_share_initialize_retry_interval_ms: i32 = "30000", ReadOnly, AtLeast(1), Low, "After which time the state of a share partition is asked for again, in milliseconds.";
    "group.share.record.lock.duration.ms" group_share_record_lock_duration_ms: i32 = "30000", ReadOnly, Between(1000, 3_600_000), Medium, "How long a member of a share group holds a record, in milliseconds, where share.record.lock.duration.ms is not set for the group.";
    "group.share.min.record.lock.duration.ms" group_share_min_record_lock_duration_ms: i32 = "15000", ReadOnly, Between(1000, 30_000), Medium, "The least that share.record.lock.duration.ms may be set to, in milliseconds.";
    "group.share.max.record.lock.duration.ms" group_share_max_record_lock_duration_ms: i32 = "60000", ReadOnly, Between(30_000, 3_600_000), Medium, "The most that share.record.lock.duration.ms may be set to, in milliseconds.";
    "group.share.delivery.count.limit" group_share_delivery_count_limit: i32 = "5", ReadOnly, Between(2, 10), Medium, "How many times a record is delivered to a share group, where share.delivery.count.limit is not set for the group.";
    "group.share.min.delivery.count.limit" group_share_min_delivery_count_limit: i32 = "2", ReadOnly, Between(2, 5), Medium, "The least that share.delivery.count.limit may be set to.";
    "group.share.max.delivery.count.limit" group_share_max_delivery_count_limit: i32 = "10", ReadOnly, Between(5, 25), Medium, "The most that share.delivery.count.limit may be set to.";
    "group.share.partition.max.record.locks" group_share_partition_max_record_locks: i32 = "2000", ReadOnly, Between(100, 10_000), Medium, "How many records of a partition a share group may hold at a time, where share.partition.max.record.locks is not set for the group.";
    "group.share.min.partition.max.record.locks" group_share_min_partition_max_record_locks: i32 = "100", ReadOnly, Between(100, 2000), Medium, "The least that share.partition.max.record.locks may be set to.";
    "group.share.max.partition.max.record.locks" group_share_max_partition_max_record_locks: i32 = "4000", ReadOnly, Between(2000, 10_000), Medium, "The most that share.partition.max.record.locks may be set to.";
    "group.share.max.share.sessions" group_share_max_share_sessions: i32 = "2000", ReadOnly, AtLeast(1), Medium, "How many share sessions there may be; a member has one on each broker that it fetches from.";
    "group.streams.session.timeout.ms" group_streams_session_timeout_ms: i32 = "45000", ReadOnly, AtLeast(1), Medium, "How long a member of a streams group may be silent, in milliseconds, where streams.session.timeout.ms is not set for the group.";
    "group.streams.min.session.timeout.ms" group_streams_min_session_timeout_ms: i32 = "45000", ReadOnly, AtLeast(1), Medium, "The least that streams.session.timeout.ms may be set to, in milliseconds.";
    "group.streams.max.session.timeout.ms" group_streams_max_session_timeout_ms: i32 = "60000", ReadOnly, AtLeast(1), Medium, "The most that streams.session.timeout.ms may be set to, in milliseconds.";
    "group.streams.heartbeat.interval.ms" group_streams_heartbeat_interval_ms: i32 = "5000", ReadOnly, AtLeast(1), Medium, "How often members of a streams group are told to send heartbeats, in milliseconds, where streams.heartbeat.interval.ms is not set for the group.";
    "group.streams.min.heartbeat.interval.ms" group_streams_min_heartbeat_interval_ms: i32 = "5000", ReadOnly, AtLeast(1), Medium, "The least that streams.heartbeat.interval.ms may be set to, in milliseconds.";
    "group.streams.max.heartbeat.interval.ms" group_streams_max_heartbeat_interval_ms: i32 = "15000", ReadOnly, AtLeast(1), Medium, "The most that streams.heartbeat.interval.ms may be set to, in milliseconds.";
    "group.streams.assignment.interval.ms" group_streams_assignment_interval_ms: i32 = "1000", ClusterWide, AtLeast(0), Medium, "The least time between two assignments of a streams group, in milliseconds, where streams.assignment.interval.ms is not set for the group.";
    "group.streams.min.assignment.interval.ms" group_streams_min_assignment_interval_ms: i32 = "0", ReadOnly, AtLeast(0), Medium, "The least that streams.assignment.interval.ms may be set to, in milliseconds.";
    "group.streams.max.assignment.interval.ms" group_streams_max_assignment_interval_ms: i32 = "15000", ReadOnly, AtLeast(0), Medium, "The most that streams.assignment.interval.ms may be set to, in milliseconds.";
    "group.streams.initial.rebalance.delay.ms" group_streams_initial_rebalance_delay_ms: i32 = "3000", ReadOnly, AtLeast(0), Medium, "How long a streams group without members waits for more of them when the first one joins, in milliseconds, where streams.initial.rebalance.delay.ms is not set for the group.";
    "group.streams.num.standby.replicas" group_streams_num_standby_replicas: i32 = "0", ReadOnly, AtLeast(0), Medium, "How many standby copies a streams group keeps of each task, where streams.num.standby.replicas is not set for the group.";
    "group.streams.max.standby.replicas" group_streams_max_standby_replicas: i32 = "2", ReadOnly, AtLeast(0), Medium, "The most that streams.num.standby.replicas may be set to.";
    "group.streams.max.size" group_streams_max_size: i32 = "2147483647", ReadOnly, AtLeast(1), Medium, "How many members a streams group may have.";
    "offset.metadata.max.bytes" offset_metadata_max_bytes: i32 = "4096", ReadOnly, Any, High, "The largest text that may be stored with a committed offset, in bytes.";
    "offsets.commit.timeout.ms" offsets_commit_timeout_ms: i32 = "5000", ReadOnly, AtLeast(1), High, "How long a change of a group, an offset commit for instance, may wait for its replicas, in milliseconds.";
    "offsets.retention.minutes" offsets_retention_minutes: i32 = "10080", ReadOnly, AtLeast(1), High, "How long offsets of a group without members are kept, in minutes.";
    "offsets.retention.check.interval.ms" offsets_retention_check_interval_ms: i64 = "600000", ReadOnly, AtLeast(1), High, "How often, in milliseconds, klamm looks for offsets that are too old.";
    "offsets.topic.num.partitions" offsets_topic_num_partitions: i32 = "50", ReadOnly, AtLeast(1), High, "How many partitions __consumer_offsets is created with.";
    "offsets.topic.replication.factor" offsets_topic_replication_factor: i16 = "1", ReadOnly, AtLeast(1), High, "How many replicas __consumer_offsets is created with; where it is not set, three, or as many as there are brokers." differs "3" "a single node can hold one replica";
    "offsets.topic.segment.bytes" offsets_topic_segment_bytes: i32 = "104857600", ReadOnly, AtLeast(1), High, "The segment.bytes that __consumer_offsets is created with.";

    // Producers and transactions.
    "producer.id.expiration.ms" producer_id_expiration_ms: i32 = "86400000", ClusterWide, AtLeast(1), Low, "How long the state of a silent idempotent producer is kept, in milliseconds.";
    "producer.id.expiration.check.interval.ms" producer_id_expiration_check_interval_ms: i32 = "600000", ReadOnly, AtLeast(1), Low, "How often, in milliseconds, klamm looks for producers that are silent for too long." idle reason::HOUSEKEEPING;
    "transaction.max.timeout.ms" transaction_max_timeout_ms: i32 = "900000", ReadOnly, AtLeast(1), High, "The longest transaction timeout that a producer may ask for, in milliseconds.";
    "transactional.id.expiration.ms" transactional_id_expiration_ms: i32 = "604800000", ReadOnly, AtLeast(1), High, "How long an unused transactional id is kept, in milliseconds.";
    "transaction.abort.timed.out.transaction.cleanup.interval.ms" transaction_abort_timed_out_transaction_cleanup_interval_ms: i32 = "10000", ReadOnly, AtLeast(1), Low, "How often, in milliseconds, klamm looks for transactions that are open for too long.";
    "transaction.remove.expired.transaction.cleanup.interval.ms" transaction_remove_expired_transaction_cleanup_interval_ms: i32 = "3600000", ReadOnly, AtLeast(1), Low, "How often, in milliseconds, klamm looks for transactional ids that nobody uses.";
    "transaction.partition.verification.enable" transaction_partition_verification_enable: bool = "true", ClusterWide, Any, Low, "Whether the first batch of a transaction in a partition is checked with the transaction coordinator, where the producer adds partitions by itself.";
    "add.partitions.to.txn.retry.backoff.ms" add_partitions_to_txn_retry_backoff_ms: i32 = "20", ReadOnly, AtLeast(1), High, "How long, in milliseconds, a request waits before it asks again whether the transaction before is complete, unless it is told.";
    "add.partitions.to.txn.retry.backoff.max.ms" add_partitions_to_txn_retry_backoff_max_ms: i32 = "100", ReadOnly, AtLeast(0), High, "How long, in milliseconds, a request waits for the transaction before to be complete.";
    "transaction.state.log.num.partitions" transaction_state_log_num_partitions: i32 = "50", ReadOnly, AtLeast(1), High, "How many partitions __transaction_state is created with.";
    "transaction.state.log.replication.factor" transaction_state_log_replication_factor: i16 = "1", ReadOnly, AtLeast(1), High, "How many replicas __transaction_state is created with; where it is not set, three, or as many as there are brokers." differs "3" "a single node can hold one replica";
    "transaction.state.log.min.isr" transaction_state_log_min_isr: i32 = "1", ReadOnly, AtLeast(1), High, "The min.insync.replicas that __transaction_state is created with; where it is not set, 2 as soon as there are three brokers." differs "2" "a single node can hold one replica";
    "transaction.state.log.segment.bytes" transaction_state_log_segment_bytes: i32 = "104857600", ReadOnly, AtLeast(1), High, "The segment.bytes that __transaction_state is created with.";

    // Share groups.
    "share.coordinator.state.topic.num.partitions" share_coordinator_state_topic_num_partitions: i32 = "50", ReadOnly, AtLeast(1), High, "How many partitions __share_group_state is created with.";
    "share.coordinator.state.topic.replication.factor" share_coordinator_state_topic_replication_factor: i16 = "1", ReadOnly, AtLeast(1), High, "How many replicas __share_group_state is created with; where it is not set, three, or as many as there are brokers." differs "3" "a single node can hold one replica";
    "share.coordinator.state.topic.min.isr" share_coordinator_state_topic_min_isr: i16 = "1", ReadOnly, AtLeast(1), High, "The min.insync.replicas that __share_group_state is created with; where it is not set, 2 as soon as there are three brokers." differs "2" "a single node can hold one replica";
    "share.coordinator.state.topic.segment.bytes" share_coordinator_state_topic_segment_bytes: i32 = "104857600", ReadOnly, AtLeast(1), High, "The segment.bytes that __share_group_state is created with.";
    "share.coordinator.state.topic.prune.interval.ms" share_coordinator_state_topic_prune_interval_ms: i32 = "300000", ReadOnly, AtLeast(1), Low, "How often, in milliseconds, records of __share_group_state that nobody needs are removed.";
    "share.coordinator.cold.partition.snapshot.interval.ms" share_coordinator_cold_partition_snapshot_interval_ms: i32 = "300000", ReadOnly, AtLeast(1), Low, "After how long, in milliseconds, a share partition that does not change gets a snapshot, so that older records can be removed.";
    "share.coordinator.snapshot.update.records.per.snapshot" share_coordinator_snapshot_update_records_per_snapshot: i32 = "500", ReadOnly, Between(0, 500), Medium, "After how many updates of a share partition all of its state is written again.";
    "share.coordinator.write.timeout.ms" share_coordinator_write_timeout_ms: i32 = "5000", ReadOnly, AtLeast(1), High, "How long a change of the state of a share partition may wait for its replicas, in milliseconds.";
    "share.coordinator.state.topic.compression.codec" share_coordinator_state_topic_compression_codec: i32 = "0", ReadOnly, Between(0, 4), High, "How batches of __share_group_state are compressed: 0 not at all, 1 gzip, 2 snappy, 3 lz4, 4 zstd.";
    "share.coordinator.load.buffer.size" share_coordinator_load_buffer_size: i32 = "5242880", ReadOnly, AtLeast(1), High, "How much of __share_group_state is read at a time when a broker takes over a partition of it, in bytes.";
}

/// The words of `compression.type`.
pub(crate) const COMPRESSION_TYPES: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
/// The words of `message.timestamp.type`.
pub(crate) const TIMESTAMP_TYPES: &[&str] = &["CreateTime", "LogAppendTime"];

/// The level of gzip: 1 to 9, or -1 for the library's default.
pub(crate) fn check_gzip_level(value: &Value) -> Result<(), String> {
    let valid = matches!(value, Value::Integer(-1 | 1..=9));
    valid.then_some(()).ok_or_else(|| "Value must be between 1 and 9 or equal to -1".to_owned())
}

fn check_address_limits(value: &Value) -> Result<(), String> {
    let Value::Text(text) = value else { return Ok(()) };
    address_limits(text).map(|_| ())
}

fn check_migration_policy(value: &Value) -> Result<(), String> {
    let Value::Text(text) = value else { return Ok(()) };
    let known = ["bidirectional", "disabled", "downgrade", "upgrade"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word));
    known.then_some(()).ok_or_else(|| {
        "String must be one of (case insensitive): DISABLED, DOWNGRADE, UPGRADE, BIDIRECTIONAL".to_owned()
    })
}

fn check_share_assignors(value: &Value) -> Result<(), String> {
    let Value::List(names) = value else { return Ok(()) };
    let one = matches!(names.as_slice(), [name] if name == "simple");
    one.then_some(())
        .ok_or_else(|| "group.share.assignors must contain exactly one assignor: simple".to_owned())
}

/// Reads `address:count,…`. An IPv6 address may hold colons: the count follows the last one.
fn address_limits(text: &str) -> Result<Vec<(String, i32)>, String> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (address, count) = pair.rsplit_once(':').ok_or("expected address:count pairs")?;
            let count = count.trim().parse::<i32>().map_err(|_| "expected a number after the address")?;
            let address = address.trim().trim_start_matches('[').trim_end_matches(']');
            Ok((address.to_owned(), count))
        })
        .collect()
}

/// What keys of one listener begin with.
const LISTENER_PREFIX: &str = "listener.name.";
const MAX_CONNECTIONS: &str = "max.connections";
const MAX_CONNECTION_CREATION_RATE: &str = "max.connection.creation.rate";

/// How many connections a listener may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerLimits {
    /// At a time.
    pub connections_max: i32,
    /// Opened per second.
    pub creation_rate: i32,
}

/// The limit that a key sets for one listener, where it is such a key.
pub fn listener_limit(name: &str) -> Option<&'static str> {
    let (_, key) = name.strip_prefix(LISTENER_PREFIX)?.split_once('.')?;
    [MAX_CONNECTIONS, MAX_CONNECTION_CREATION_RATE].into_iter().find(|known| *known == key)
}

impl BrokerConfig {
    /// The configuration that static values give (a file, the environment, the command line).
    ///
    /// # Errors
    /// The first value that is not valid, or values that do not fit together.
    pub fn from_static(values: BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut values = values;
        match (values.get("broker.id").cloned(), values.get("node.id").cloned()) {
            (Some(id), None) => drop(values.insert("node.id".to_owned(), id)),
            (None, Some(id)) => drop(values.insert("broker.id".to_owned(), id)),
            (None, None) | (Some(_), Some(_)) => {}
        }
        Self::from_layers(Layers { statics: Arc::new(values), ..Layers::default() })
    }

    /// This configuration with other dynamic values: those of the whole cluster, then those of
    /// this broker. Values that are read-only or not valid were refused when they were set.
    ///
    /// # Errors
    /// The first value that is not valid, or values that do not fit together.
    pub fn with_dynamic(
        &self,
        cluster: &BTreeMap<String, String>,
        broker: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        Self::from_layers(Layers {
            statics: Arc::clone(&self.layers.statics),
            cluster: Arc::new(cluster.clone()),
            broker: Arc::new(broker.clone()),
            resource: BTreeMap::new(),
        })
    }

    fn from_layers(layers: Layers) -> Result<Self, ConfigError> {
        let values = layers.effective();
        let config = Self::read(&values, Arc::new(layers))?;
        config.check()?;
        Ok(config)
    }

    /// The limits of addresses that have one of their own (`max.connections.per.ip.overrides`).
    pub fn connection_limits_by_address(&self) -> Vec<(String, i32)> {
        address_limits(&self.max_connections_per_ip_overrides).unwrap_or_default()
    }

    /// The limits of one listener, its own ones or the broker's (`ListenerConnectionQuota`).
    pub fn listener_limits(&self, listener: &str) -> ListenerLimits {
        let own = |key: &str, otherwise: i32| {
            let name = format!("{LISTENER_PREFIX}{}.{key}", listener.to_lowercase());
            self.layers.get(&name).and_then(|text| text.trim().parse().ok()).unwrap_or(otherwise)
        };
        ListenerLimits {
            connections_max: own(MAX_CONNECTIONS, self.max_connections),
            creation_rate: own(MAX_CONNECTION_CREATION_RATE, self.max_connection_creation_rate),
        }
    }

    /// What Kafka's `KafkaConfig.validateValues` asks of values together.
    fn check(&self) -> Result<(), ConfigError> {
        let require = |holds: bool, text: &str| {
            if holds { Ok(()) } else { Err(ConfigError(text.to_owned())) }
        };
        require(
            self.layers.get("broker.id").is_none() || self.broker_id == self.node_id,
            "You must set `node.id` to the same value as `broker.id`.",
        )?;
        require(self.topic_default_ms("segment.ms") >= 1, "log.roll.ms must be greater than or equal to 1")?;
        require(
            self.topic_default_ms("segment.jitter.ms") >= 0,
            "log.roll.jitter.ms must be greater than or equal to 0",
        )?;
        let retention = self.topic_default_ms("retention.ms");
        require(
            retention >= 1 || retention == -1,
            "log.retention.ms must be unlimited (-1) or, greater than or equal to 1",
        )?;
        for (name, text) in self.layers.effective() {
            let key = listener_limit(&name);
            require(
                key.is_none() || text.trim().parse::<i32>().is_ok_and(|limit| limit > 0),
                &format!("Invalid {} {text}", key.unwrap_or_default()),
            )?;
        }
        let queued = self.queued_max_request_bytes;
        require(
            queued <= 0 || queued >= i64::from(self.socket_request_max_bytes),
            "queued.max.request.bytes must be larger or equal to socket.request.max.bytes",
        )?;
        require(
            self.max_connections_per_ip != 0 || !self.max_connections_per_ip_overrides.trim().is_empty(),
            "max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is set.",
        )?;
        self.check_cluster()?;
        self.check_groups()
    }

    fn check_groups(&self) -> Result<(), ConfigError> {
        self.check_times("consumer")?;
        self.check_times("share")?;
        self.check_times("streams")?;
        if self.group_streams_num_standby_replicas > self.group_streams_max_standby_replicas {
            let text = "group.streams.num.standby.replicas must be less than or equal to group.streams.max.standby.replicas";
            return Err(ConfigError(text.to_owned()));
        }
        for name in ["record.lock.duration.ms", "delivery.count.limit", "partition.max.record.locks"] {
            self.check_bounds("share", name)?;
        }
        let classic = self.group_coordinator_rebalance_protocols.iter().any(|name| name == "classic");
        let text = "Disabling the 'classic' protocol is not supported.";
        if classic { Ok(()) } else { Err(ConfigError(text.to_owned())) }
    }

    fn check_times(&self, kind: &str) -> Result<(), ConfigError> {
        for name in ["heartbeat.interval.ms", "session.timeout.ms", "assignment.interval.ms"] {
            self.check_bounds(kind, name)?;
        }
        let (heartbeat, session) =
            (format!("group.{kind}.heartbeat.interval.ms"), format!("group.{kind}.session.timeout.ms"));
        if self.number(&heartbeat) < self.number(&session) {
            return Ok(());
        }
        Err(ConfigError(format!("{heartbeat} must be less than {session}")))
    }

    /// `group.x.…` lies between `group.x.min.…` and `group.x.max.…`.
    fn check_bounds(&self, kind: &str, name: &str) -> Result<(), ConfigError> {
        let (least, key, most) = (
            format!("group.{kind}.min.{name}"),
            format!("group.{kind}.{name}"),
            format!("group.{kind}.max.{name}"),
        );
        let not_less = |key: &str, than: &str| {
            let text = format!("{key} must be greater than or equal to {than}");
            if self.number(key) >= self.number(than) { Ok(()) } else { Err(ConfigError(text)) }
        };
        not_less(&most, &least)?;
        not_less(&key, &least)?;
        let text = format!("{key} must be less than or equal to {most}");
        if self.number(&key) <= self.number(&most) { Ok(()) } else { Err(ConfigError(text)) }
    }

    /// The number that a key holds; `None` where there is no such key.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        let default = || find(BROKER_KEYS, name)?.default;
        let text = self.layers.get(name).or_else(default)?;
        text.trim().parse().ok()
    }

    fn topic_default_ms(&self, name: &str) -> i64 {
        self.topic_default(name).and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

impl Default for BrokerConfig {
    #[expect(clippy::expect_used, reason = "the defaults are ours, and a test reads them")]
    fn default() -> Self {
        Self::from_static(BTreeMap::new()).expect("the defaults are valid")
    }
}
