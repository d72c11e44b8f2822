//! Every metric, declared once: `kind CONSTANT = "name" [labels], "help";`.
//!
//! The names are those that the rules of the JMX exporter make of Apache Kafka's beans
//! (`PerSec` → `_total`), and those of kafka_exporter for topics and groups.

/// What may happen to a metric's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the broker runs.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Quantiles, sum and count of observed values.
    Summary,
}

/// A metric's declaration.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

macro_rules! metrics {
    ($($kind:ident $constant:ident = $name:literal [$($label:literal),*], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Metric =
                Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )*
        /// All of them, in the order of the documentation.
        pub const TABLE: &[&Metric] = &[$(&$constant),*];
    };
}

metrics! {
    Counter MESSAGES_IN_TOTAL = "kafka_server_brokertopicmetrics_messagesin_total" ["topic"], "Records appended by producers.";
    Counter BYTES_IN_TOTAL = "kafka_server_brokertopicmetrics_bytesin_total" ["topic"], "Bytes of record batches appended by producers.";
    Counter BYTES_OUT_TOTAL = "kafka_server_brokertopicmetrics_bytesout_total" ["topic"], "Bytes of record batches sent to consumers.";
    Counter REPLICATION_BYTES_IN_TOTAL = "kafka_server_brokertopicmetrics_replicationbytesin_total" ["topic"], "Bytes of record batches fetched from leaders.";
    Counter REPLICATION_BYTES_OUT_TOTAL = "kafka_server_brokertopicmetrics_replicationbytesout_total" ["topic"], "Bytes of record batches sent to followers.";
    Counter TOTAL_PRODUCE_REQUESTS_TOTAL = "kafka_server_brokertopicmetrics_totalproducerequests_total" ["topic"], "Produce requests, once per partition in them.";
    Counter TOTAL_FETCH_REQUESTS_TOTAL = "kafka_server_brokertopicmetrics_totalfetchrequests_total" ["topic"], "Fetch requests, once per partition in them; quiet partitions of a session are not counted.";
    Counter FAILED_PRODUCE_REQUESTS_TOTAL = "kafka_server_brokertopicmetrics_failedproducerequests_total" ["topic"], "Produce requests that a partition refused.";
    Counter FAILED_FETCH_REQUESTS_TOTAL = "kafka_server_brokertopicmetrics_failedfetchrequests_total" ["topic"], "Fetch requests that a partition refused.";

    Counter TOTAL_SHARE_FETCH_REQUESTS_TOTAL = "kafka_server_brokertopicmetrics_totalsharefetchrequests_total" ["topic"], "Fetches of share groups, once per partition.";
    Counter FAILED_SHARE_FETCH_REQUESTS_TOTAL = "kafka_server_brokertopicmetrics_failedsharefetchrequests_total" ["topic"], "Fetches of share groups that a partition refused.";
    Counter TOTAL_SHARE_ACKNOWLEDGEMENT_REQUESTS_TOTAL = "kafka_server_brokertopicmetrics_totalshareacknowledgementrequests_total" ["topic"], "Acknowledgements of share groups, once per partition.";
    Counter FAILED_SHARE_ACKNOWLEDGEMENT_REQUESTS_TOTAL = "kafka_server_brokertopicmetrics_failedshareacknowledgementrequests_total" ["topic"], "Acknowledgements of share groups that a partition refused.";

    Counter REQUESTS_TOTAL = "kafka_network_requestmetrics_requests_total" ["request", "version"], "Requests by API and version.";
    Summary TOTAL_TIME_MS = "kafka_network_requestmetrics_totaltimems" ["request"], "Milliseconds from the arrival of a request to the end of its response.";
    Summary REQUEST_QUEUE_TIME_MS = "kafka_network_requestmetrics_requestqueuetimems" ["request"], "Milliseconds that a request waited for its turn.";
    Summary LOCAL_TIME_MS = "kafka_network_requestmetrics_localtimems" ["request"], "Milliseconds that the broker worked on a request.";
    Summary REMOTE_TIME_MS = "kafka_network_requestmetrics_remotetimems" ["request"], "Milliseconds that a request waited for something to happen.";
    Summary RESPONSE_QUEUE_TIME_MS = "kafka_network_requestmetrics_responsequeuetimems" ["request"], "Milliseconds that a response waited for earlier ones.";
    Summary RESPONSE_SEND_TIME_MS = "kafka_network_requestmetrics_responsesendtimems" ["request"], "Milliseconds that the sending of a response took.";
    Gauge CLIENT_METRICS_INSTANCES = "kafka_server_client_metrics_instance_count" [], "Clients that push their metrics to this broker.";
    Counter CLIENT_METRICS_UNKNOWN_SUBSCRIPTION_TOTAL = "kafka_server_client_metrics_unknown_subscription_request_total" [], "Pushes for a subscription that has changed.";
    Counter CLIENT_METRICS_THROTTLE_TOTAL = "kafka_server_client_metrics_throttle_total" [], "Requests of clients that came before their push interval was over.";
    Counter CLIENT_METRICS_EXPORT_TOTAL = "kafka_server_client_metrics_plugin_export_total" [], "Pushes of clients that were taken.";
    Counter CLIENT_METRICS_ERROR_TOTAL = "kafka_server_client_metrics_plugin_error_total" [], "Pushes of clients that could not be read.";
    Counter CLIENT_METRICS_DROPPED_TOTAL = "kafka_server_client_metrics_dropped_total" [], "Numbers that clients pushed and that were not kept, as too many are.";
    Gauge CONNECTION_COUNT = "kafka_server_socket_server_metrics_connection_count" ["listener"], "Open connections.";
    Counter CONNECTION_CREATION_TOTAL = "kafka_server_socket_server_metrics_connection_creation_total" ["listener"], "Connections accepted since the start.";
    Gauge QUOTA_BYTE_RATE = "kafka_server_quota_byte_rate" ["resource", "user", "clientId"], "Bytes per second that count for a quota of Produce or Fetch; only while there are such quotas.";
    Gauge QUOTA_REQUEST_TIME = "kafka_server_quota_request_time" ["resource", "user", "clientId"], "The share of one thread's time, in percent, that requests took; only while there are quotas for it.";
    Gauge QUOTA_EXEMPT_REQUEST_TIME = "kafka_server_quota_exempt_request_time" ["resource"], "The same of requests that nobody is held back for.";
    Gauge QUOTA_MUTATION_RATE = "kafka_server_quota_mutation_rate" ["resource", "user", "clientId"], "Partitions per second that were created and deleted; only while there are quotas for it.";
    Gauge QUOTA_TOKENS = "kafka_server_quota_tokens" ["resource", "user", "clientId"], "Partitions that may be created or deleted at once.";
    Gauge QUOTA_THROTTLE_TIME = "kafka_server_quota_throttle_time" ["resource", "user", "clientId"], "For how many milliseconds clients were held back on average; absent where they were not in the last minute.";
    Gauge NETWORK_PROCESSOR_IDLE = "kafka_network_socketserver_networkprocessoravgidle_percent" [], "Share of time, 0 to 1, that the worker threads had nothing to do since the last scrape.";
    Gauge REQUEST_HANDLER_IDLE = "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent" [], "The same: one set of worker threads does the work of both of Kafka's pools.";

    Gauge BROKER_STATE = "kafka_server_kafkaserver_brokerstate" [], "Kafka's BrokerState: 1 starting, 2 waiting to be unfenced, 3 running, 6 handing leaderships over, 7 stopping.";
    Counter DISK_READ_BYTES = "kafka_server_kafkaserver_linux_disk_read_bytes" [], "Bytes that this process made the disks read.";
    Counter DISK_WRITE_BYTES = "kafka_server_kafkaserver_linux_disk_write_bytes" [], "Bytes that this process made the disks write.";
    Gauge PARTITION_COUNT = "kafka_server_replicamanager_partitioncount" [], "Partitions on this broker.";
    Gauge LEADER_COUNT = "kafka_server_replicamanager_leadercount" [], "Partitions that this broker leads.";
    Gauge UNDER_REPLICATED_PARTITIONS = "kafka_server_replicamanager_underreplicatedpartitions" [], "Led partitions with fewer in-sync replicas than replicas.";
    Gauge UNDER_MIN_ISR_PARTITION_COUNT = "kafka_server_replicamanager_underminisrpartitioncount" [], "Led partitions with fewer in-sync replicas than min.insync.replicas.";
    Gauge AT_MIN_ISR_PARTITION_COUNT = "kafka_server_replicamanager_atminisrpartitioncount" [], "Led partitions with exactly min.insync.replicas in sync.";
    Gauge PRODUCER_ID_COUNT = "kafka_server_replicamanager_produceridcount" [], "Producers whose state is kept, over all partitions here.";
    Gauge OFFLINE_REPLICA_COUNT = "kafka_server_replicamanager_offlinereplicacount" [], "Replicas on this broker in a directory that failed: 0, as a broker with a failed directory stops.";
    Gauge FETCHER_LAG = "kafka_server_fetcherlagmetrics_consumerlag" ["topic", "partition"], "Committed records that a follower here lacks.";
    Gauge FETCHER_MAX_LAG = "kafka_server_replicafetchermanager_maxlag" [], "The largest lag of all followers here.";
    Gauge FETCHER_FAILED_PARTITIONS = "kafka_server_replicafetchermanager_failedpartitionscount" [], "Followers here that wait for another leader, as something went wrong.";
    Counter ISR_SHRINKS_TOTAL = "kafka_server_replicamanager_isrshrinks_total" [], "Times that a replica fell out of sync with a partition led here.";
    Counter ISR_EXPANDS_TOTAL = "kafka_server_replicamanager_isrexpands_total" [], "Times that a replica came back in sync with a partition led here.";
    Counter FAILED_ISR_UPDATES_TOTAL = "kafka_server_replicamanager_failedisrupdates_total" [], "Changes of in-sync replicas that the controller refused.";
    Gauge ACTIVE_CONTROLLER_COUNT = "kafka_controller_kafkacontroller_activecontrollercount" [], "1 where this node is the active controller.";
    Gauge OFFLINE_PARTITIONS_COUNT = "kafka_controller_kafkacontroller_offlinepartitionscount" [], "Partitions without a leader.";
    Counter LEADER_ELECTIONS = "kafka_controller_controllerstats_leaderelectionrateandtimems_count" [], "Partitions that got another leader while this node was the active controller.";
    Counter UNCLEAN_LEADER_ELECTIONS_TOTAL = "kafka_controller_controllerstats_uncleanleaderelections_total" [], "Those of them that got a leader which was not in sync.";
    Gauge PREFERRED_REPLICA_IMBALANCE_COUNT = "kafka_controller_kafkacontroller_preferredreplicaimbalancecount" [], "Partitions that are not led by their first replica.";
    Gauge GLOBAL_TOPIC_COUNT = "kafka_controller_kafkacontroller_globaltopiccount" [], "Topics of the cluster.";
    Gauge GLOBAL_PARTITION_COUNT = "kafka_controller_kafkacontroller_globalpartitioncount" [], "Partitions of the cluster.";
    Gauge ACTIVE_BROKER_COUNT = "kafka_controller_kafkacontroller_activebrokercount" [], "Registered brokers that are not fenced.";
    Gauge FENCED_BROKER_COUNT = "kafka_controller_kafkacontroller_fencedbrokercount" [], "Registered brokers that are fenced.";
    Counter NEW_ACTIVE_CONTROLLERS_COUNT = "kafka_controller_kafkacontroller_newactivecontrollerscount" [], "How often this node became the active controller.";
    Counter METADATA_ERROR_COUNT = "kafka_controller_kafkacontroller_metadataerrorcount" [], "Committed metadata records that could not be applied, and images that the logs could not follow.";
    Gauge LAST_APPLIED_RECORD_OFFSET = "kafka_controller_kafkacontroller_lastappliedrecordoffset" [], "The last offset of the metadata log that this node has published.";
    Gauge LAST_APPLIED_RECORD_TIMESTAMP = "kafka_controller_kafkacontroller_lastappliedrecordtimestamp" [], "When the last batch of the metadata log that this node has read was written.";
    Gauge LAST_APPLIED_RECORD_LAG_MS = "kafka_controller_kafkacontroller_lastappliedrecordlagms" [], "For how many milliseconds a committed metadata record has waited to be published; 0 where none does.";
    Gauge EVENT_QUEUE_TIME_MS = "kafka_controller_kafkacontroller_eventqueuetimems" [], "How many milliseconds the last request for the controller waited for it.";
    Gauge BROKER_LAST_APPLIED_RECORD_OFFSET = "kafka_server_broker_metadata_metrics_last_applied_record_offset" [], "The same offset, as Kafka's brokers name it.";
    Gauge BROKER_LAST_APPLIED_RECORD_LAG_MS = "kafka_server_broker_metadata_metrics_last_applied_record_lag_ms" [], "The same lag, as Kafka's brokers name it.";
    Counter BROKER_METADATA_LOAD_ERRORS = "kafka_server_broker_metadata_metrics_metadata_load_error_count" [], "Committed metadata records that could not be applied.";
    Counter BROKER_METADATA_APPLY_ERRORS = "kafka_server_broker_metadata_metrics_metadata_apply_error_count" [], "Images of the metadata that the logs could not follow.";
    Gauge SNAPSHOT_AGE_MS = "kafka_server_snapshotemitter_latestsnapshotgeneratedagems" [], "The age, in milliseconds, of the last metadata snapshot that this node wrote; absent before the first.";
    Gauge SNAPSHOT_BYTES = "kafka_server_snapshotemitter_latestsnapshotgeneratedbytes" [], "The size of its records.";
    Gauge UNDER_MIN_ISR = "kafka_cluster_partition_underminisr" ["topic", "partition"], "1 where a led partition has fewer in-sync replicas than min.insync.replicas.";
    Gauge AT_MIN_ISR = "kafka_cluster_partition_atminisr" ["topic", "partition"], "1 where a led partition has exactly min.insync.replicas in sync.";
    Gauge UNDER_REPLICATED = "kafka_cluster_partition_underreplicated" ["topic", "partition"], "1 where a led partition has fewer in-sync replicas than replicas.";
    Gauge LAST_STABLE_OFFSET_LAG = "kafka_cluster_partition_laststableoffsetlag" ["topic", "partition"], "Committed records of a partition that wait for a transaction to end.";
    Gauge LOG_SIZE = "kafka_log_log_size" ["topic", "partition"], "Bytes of a partition's log.";
    Gauge LOG_START_OFFSET = "kafka_log_log_logstartoffset" ["topic", "partition"], "The first offset of a partition's log.";
    Gauge LOG_END_OFFSET = "kafka_log_log_logendoffset" ["topic", "partition"], "The offset that a partition's next record gets.";
    Gauge CLEANER_MAX_DIRTY_PERCENT = "kafka_log_logcleanermanager_max_dirty_percent" [], "The part of the dirtiest compacted log, in percent, that was not compacted yet.";
    Gauge CLEANER_TIME_SINCE_LAST_RUN_MS = "kafka_log_logcleanermanager_time_since_last_run_ms" [], "Milliseconds since compaction looked for work.";
    Gauge CLEANER_UNCLEANABLE_PARTITIONS = "kafka_log_logcleanermanager_uncleanable_partitions_count" ["logDirectory"], "Logs that could not be compacted.";
    Gauge CLEANER_UNCLEANABLE_BYTES = "kafka_log_logcleanermanager_uncleanable_bytes" ["logDirectory"], "Bytes that wait for compaction in those logs.";
    Gauge CLEANER_MAX_BUFFER_UTILIZATION_PERCENT = "kafka_log_logcleaner_max_buffer_utilization_percent" [], "The part of log.cleaner.dedupe.buffer.size, in percent, that the last compactions used.";
    Gauge CLEANER_RECOPY_PERCENT = "kafka_log_logcleaner_cleaner_recopy_percent" [], "What the last compactions left of the bytes that they went through, in percent.";
    Gauge CLEANER_MAX_CLEAN_TIME_SECS = "kafka_log_logcleaner_max_clean_time_secs" [], "Seconds that the longest of the last compactions took.";
    Gauge CLEANER_MAX_COMPACTION_DELAY_SECS = "kafka_log_logcleaner_max_compaction_delay_secs" [], "By how many seconds compaction is later than max.compaction.lag.ms asks for.";
    Gauge CLEANER_DEAD_THREAD_COUNT = "kafka_log_logcleaner_deadthreadcount" [], "Compaction threads that ended: none can, as each compaction is a task of its own.";
    Gauge OFFLINE_LOG_DIRECTORY_COUNT = "kafka_log_logmanager_offlinelogdirectorycount" [], "Data directories that can not be written.";

    Gauge TRANSACTION_PARTITIONS = "kafka_server_transaction_coordinator_metrics_num_partitions" ["state"], "Partitions of __transaction_state that this broker leads, whose transactions it coordinates.";
    Gauge TRANSACTION_LOAD_TIME_AVG = "kafka_server_transaction_coordinator_metrics_partition_load_time_avg" [], "Milliseconds that it took to load one of them, on average over the last minute; absent where none was loaded.";
    Gauge TRANSACTION_LOAD_TIME_MAX = "kafka_server_transaction_coordinator_metrics_partition_load_time_max" [], "The longest of these times.";
    Gauge TRANSACTIONAL_IDS = "kafka_coordinator_transaction_transactionstatemanager_transactionalidcount" ["state"], "Transactional ids by the state of their transaction.";
    Gauge GROUP_LOAD_TIME_AVG = "kafka_server_group_coordinator_metrics_partition_load_time_avg" [], "Milliseconds that it took to load a partition of __consumer_offsets, on average over the last minute; absent where none was loaded.";
    Gauge GROUP_LOAD_TIME_MAX = "kafka_server_group_coordinator_metrics_partition_load_time_max" [], "The longest of these times.";
    Gauge COORDINATED_PARTITIONS = "kafka_server_group_coordinator_metrics_num_partitions" ["state"], "Partitions of __consumer_offsets that this broker leads, whose groups it coordinates.";
    Gauge NUM_GROUPS = "kafka_coordinator_group_groupmetadatamanager_numgroups" [], "Consumer groups.";
    Gauge GROUP_COUNT = "kafka_server_group_coordinator_metrics_group_count" ["protocol"], "Groups by the protocol that they use.";
    Gauge CONSUMER_GROUP_COUNT = "kafka_server_group_coordinator_metrics_consumer_group_count" ["state"], "Groups of the consumer protocol by their state.";
    Gauge SHARE_GROUP_COUNT = "kafka_server_group_coordinator_metrics_share_group_count" ["state"], "Share groups by their state.";
    Gauge STREAMS_GROUP_COUNT = "kafka_server_group_coordinator_metrics_streams_group_count" ["state"], "Groups of the streams protocol by their state.";
    Gauge NUM_GROUPS_STABLE = "kafka_coordinator_group_groupmetadatamanager_numgroupsstable" [], "Groups in the state Stable.";
    Gauge NUM_GROUPS_EMPTY = "kafka_coordinator_group_groupmetadatamanager_numgroupsempty" [], "Groups in the state Empty.";
    Gauge NUM_GROUPS_DEAD = "kafka_coordinator_group_groupmetadatamanager_numgroupsdead" [], "Groups in the state Dead.";
    Gauge NUM_GROUPS_PREPARING_REBALANCE = "kafka_coordinator_group_groupmetadatamanager_numgroupspreparingrebalance" [], "Groups in the state PreparingRebalance.";
    Gauge NUM_GROUPS_COMPLETING_REBALANCE = "kafka_coordinator_group_groupmetadatamanager_numgroupscompletingrebalance" [], "Groups in the state CompletingRebalance.";

    Counter SHARE_ACKNOWLEDGEMENTS_TOTAL = "kafka_server_sharegroupmetrics_recordacknowledgements_total" ["ackType"], "Records that members of share groups acknowledged, by how.";
    Counter SHARE_PARTITION_LOADS = "kafka_server_sharegroupmetrics_partitionloadtimems_count" [], "Share partitions that were loaded.";
    Counter SHARE_PARTITION_LOAD_TIME_MS = "kafka_server_sharegroupmetrics_partitionloadtimems_sum" [], "Milliseconds that this took, together.";
    Counter SHARE_FETCHES = "kafka_server_sharegroupmetrics_requesttopicpartitionsfetchratio_count" ["group"], "Fetches of a share group that were answered.";
    Counter SHARE_FETCH_RATIO_PERCENT = "kafka_server_sharegroupmetrics_requesttopicpartitionsfetchratio_sum" ["group"], "Of each, how many of its partitions were free to be read, in percent, added up.";
    Counter SHARE_ACQUISITIONS = "kafka_server_sharegroupmetrics_topicpartitionsacquiretimems_count" ["group"], "How often a fetch of a share group found partitions free to be read, or gave up.";
    Counter SHARE_ACQUISITION_TIME_MS = "kafka_server_sharegroupmetrics_topicpartitionsacquiretimems_sum" ["group"], "Milliseconds that this took, together.";
    Gauge SHARE_IN_FLIGHT_RECORDS = "kafka_server_sharepartitionmetrics_inflightmessagecount" ["group", "topic", "partition"], "Records of a share partition from its start offset to its end offset.";
    Gauge SHARE_IN_FLIGHT_BATCHES = "kafka_server_sharepartitionmetrics_inflightbatchcount" ["group", "topic", "partition"], "In how many batches they were acquired.";
    Counter SHARE_BATCHES = "kafka_server_sharepartitionmetrics_inflightbatchmessagecount_count" ["group", "topic", "partition"], "Batches of a share partition that ever were in flight here.";
    Counter SHARE_BATCH_RECORDS = "kafka_server_sharepartitionmetrics_inflightbatchmessagecount_sum" ["group", "topic", "partition"], "The records of all of them.";
    Counter SHARE_FETCH_LOCKS = "kafka_server_sharepartitionmetrics_fetchlocktimems_count" ["group", "topic", "partition"], "Fetches that read a share partition, one at a time.";
    Counter SHARE_FETCH_LOCK_TIME_MS = "kafka_server_sharepartitionmetrics_fetchlocktimems_sum" ["group", "topic", "partition"], "Milliseconds for which they kept others from it, together.";
    Counter SHARE_FETCH_LOCK_RATIOS = "kafka_server_sharepartitionmetrics_fetchlockratio_count" ["group", "topic", "partition"], "The same number of fetches.";
    Counter SHARE_FETCH_LOCK_RATIO_PERCENT = "kafka_server_sharepartitionmetrics_fetchlockratio_sum" ["group", "topic", "partition"], "Of each, its part of the time since the fetch before it ended, in percent, added up.";
    Counter SHARE_LOCK_TIMEOUTS_TOTAL = "kafka_server_sharepartitionmetrics_acquisitionlocktimeout_total" ["group", "topic", "partition"], "Records that a member held for too long.";
    Gauge SHARE_SESSIONS = "kafka_server_sharesessioncache_sharesessionscount" [], "Share sessions.";
    Gauge SHARE_SESSION_PARTITIONS = "kafka_server_sharesessioncache_sharepartitionscount" [], "Partitions in all share sessions.";
    Counter SHARE_SESSION_EVICTIONS_TOTAL = "kafka_server_sharesessioncache_sharesessionevictions_total" [], "Share sessions that ended with their connection.";
    Counter SHARE_FETCH_EXPIRES_TOTAL = "kafka_server_delayedsharefetchmetrics_expires_total" [], "Fetches of share groups that waited until their time was over.";

    Gauge SHARE_STATE_PARTITIONS = "kafka_server_share_coordinator_metrics_num_partitions" ["state"], "Partitions of __share_group_state that this broker leads, whose share partitions it coordinates.";
    Gauge SHARE_STATE_LOAD_TIME_AVG = "kafka_server_share_coordinator_metrics_partition_load_time_avg" [], "Milliseconds that it took to load one of them, on average over the last minute; absent where none was loaded.";
    Gauge SHARE_STATE_LOAD_TIME_MAX = "kafka_server_share_coordinator_metrics_partition_load_time_max" [], "The longest of these times.";
    Counter SHARE_STATE_WRITES_TOTAL = "kafka_server_share_coordinator_metrics_write_total" [], "Changes of share partitions' states that this broker wrote.";
    Gauge SHARE_STATE_WRITE_LATENCY_AVG = "kafka_server_share_coordinator_metrics_write_latency_avg" [], "Milliseconds that a change took until it was in __share_group_state, on average over the last minute; absent where there was none.";
    Gauge SHARE_STATE_WRITE_LATENCY_MAX = "kafka_server_share_coordinator_metrics_write_latency_max" [], "The longest of these times.";
    Gauge SHARE_STATE_LAST_PRUNED_OFFSET = "kafka_server_share_coordinator_metrics_last_pruned_offset" ["topic", "partition"], "Before this offset the records of a partition of __share_group_state were removed, as nobody needs them.";

    Gauge RAFT_CURRENT_STATE = "kafka_server_raftmetrics_current_state" ["current_state"], "1 at the state of this node in the metadata quorum.";
    Gauge RAFT_CURRENT_LEADER = "kafka_server_raftmetrics_current_leader" [], "Node id of the quorum's leader, -1 where none is known.";
    Gauge RAFT_CURRENT_EPOCH = "kafka_server_raftmetrics_current_epoch" [], "Epoch of the quorum's leader.";
    Gauge RAFT_CURRENT_VOTE = "kafka_server_raftmetrics_current_vote" [], "Node id that this node voted for, -1 where it voted for none.";
    Gauge RAFT_HIGH_WATERMARK = "kafka_server_raftmetrics_high_watermark" [], "Metadata records below this offset are committed.";
    Gauge RAFT_APPEND_RECORDS_RATE = "kafka_server_raftmetrics_append_records_rate" [], "Metadata records per second that this node wrote as the leader, over the last minute.";
    Gauge RAFT_FETCH_RECORDS_RATE = "kafka_server_raftmetrics_fetch_records_rate" [], "Metadata records per second that this node fetched, over the last minute.";
    Gauge RAFT_COMMIT_LATENCY_AVG = "kafka_server_raftmetrics_commit_latency_avg" [], "Milliseconds from a metadata record's append to its commit, on average; absent where there was none in the last minute.";
    Gauge RAFT_COMMIT_LATENCY_MAX = "kafka_server_raftmetrics_commit_latency_max" [], "The longest of these times in the last minute.";
    Gauge RAFT_ELECTION_LATENCY_AVG = "kafka_server_raftmetrics_election_latency_avg" [], "Milliseconds without a known leader, on average; absent where there was no election in the last minute.";
    Gauge RAFT_ELECTION_LATENCY_MAX = "kafka_server_raftmetrics_election_latency_max" [], "The longest of these times in the last minute.";
    Gauge RAFT_NUMBER_OF_VOTERS = "kafka_server_raftmetrics_number_of_voters" [], "Voters of the metadata quorum.";
    Gauge RAFT_LOG_END_OFFSET = "kafka_server_raftmetrics_log_end_offset" [], "The offset that the next metadata record gets.";
    Gauge RAFT_LOG_END_EPOCH = "kafka_server_raftmetrics_log_end_epoch" [], "The epoch of the last metadata record.";
    Gauge RAFT_NUMBER_OF_OBSERVERS = "kafka_server_raftmetrics_number_of_observers" [], "Nodes that fetch the metadata log and do not vote; only where the quorum's leader is.";
    Gauge RAFT_UNCOMMITTED_VOTER_CHANGE = "kafka_server_raftmetrics_uncommitted_voter_change" [], "1 while a change of the voters is not committed; only where the quorum's leader is.";
    Counter RAFT_CHANNEL_INCOMING_BYTES = "kafka_server_raftchannelmetrics_incoming_byte_total" [], "Bytes that came from other nodes in answer to requests of the quorum.";
    Counter RAFT_CHANNEL_OUTGOING_BYTES = "kafka_server_raftchannelmetrics_outgoing_byte_total" [], "Bytes of requests of the quorum to other nodes.";
    Counter RAFT_CHANNEL_REQUESTS = "kafka_server_raftchannelmetrics_request_total" [], "Requests of the quorum to other nodes.";
    Counter RAFT_CHANNEL_RESPONSES = "kafka_server_raftchannelmetrics_response_total" [], "Responses to them.";

    Gauge BROKERS = "kafka_brokers" [], "Brokers of the cluster.";
    Gauge BROKER_INFO = "kafka_broker_info" ["id", "address"], "1 for every broker of the cluster.";
    Gauge TOPIC_PARTITIONS = "kafka_topic_partitions" ["topic"], "Partitions of a topic.";
    Gauge TOPIC_CURRENT_OFFSET = "kafka_topic_partition_current_offset" ["topic", "partition"], "The offset that a partition's next record gets.";
    Gauge TOPIC_OLDEST_OFFSET = "kafka_topic_partition_oldest_offset" ["topic", "partition"], "The first offset of a partition.";
    Gauge TOPIC_IN_SYNC_REPLICA = "kafka_topic_partition_in_sync_replica" ["topic", "partition"], "In-sync replicas of a partition.";
    Gauge TOPIC_LEADER = "kafka_topic_partition_leader" ["topic", "partition"], "Node id of a partition's leader, -1 where it has none.";
    Gauge TOPIC_LEADER_IS_PREFERRED = "kafka_topic_partition_leader_is_preferred" ["topic", "partition"], "1 where a partition's first replica leads it.";
    Gauge TOPIC_REPLICAS = "kafka_topic_partition_replicas" ["topic", "partition"], "Replicas of a partition.";
    Gauge TOPIC_UNDER_REPLICATED = "kafka_topic_partition_under_replicated_partition" ["topic", "partition"], "1 where a partition has fewer in-sync replicas than replicas.";
    Gauge GROUP_CURRENT_OFFSET = "kafka_consumergroup_current_offset" ["consumergroup", "topic", "partition"], "The offset that a group committed.";
    Gauge GROUP_CURRENT_OFFSET_SUM = "kafka_consumergroup_current_offset_sum" ["consumergroup", "topic"], "Sum of the offsets that a group committed in a topic.";
    Gauge GROUP_LAG = "kafka_consumergroup_lag" ["consumergroup", "topic", "partition"], "Records behind the offset that a group committed.";
    Gauge GROUP_LAG_SUM = "kafka_consumergroup_lag_sum" ["consumergroup", "topic"], "Records behind the offsets that a group committed in a topic.";
    Gauge GROUP_MEMBERS = "kafka_consumergroup_members" ["consumergroup"], "Members of a group.";

    Gauge PROCESS_CPU_SECONDS = "process_cpu_seconds_total" [], "Seconds of processor time that this process used.";
    Gauge PROCESS_OPEN_FDS = "process_open_fds" [], "Open file descriptors.";
    Gauge PROCESS_MAX_FDS = "process_max_fds" [], "File descriptors that may be open.";
    Gauge PROCESS_VIRTUAL_MEMORY = "process_virtual_memory_bytes" [], "Address space of this process.";
    Gauge PROCESS_RESIDENT_MEMORY = "process_resident_memory_bytes" [], "Memory of this process.";
    Gauge PROCESS_START_TIME = "process_start_time_seconds" [], "When this process started, in seconds since the Unix epoch.";
    Gauge PROCESS_THREADS = "process_threads" [], "Threads of this process.";
    Gauge JVM_MEMORY_USED = "jvm_memory_used_bytes" ["area"], "Resident memory of this process: there is no JVM, but dashboards ask for it.";
    Gauge JVM_THREADS = "jvm_threads_current" [], "Threads of this process: there is no JVM, but dashboards ask for them.";
}

/// The table as the README shows it.
pub fn table_markdown() -> String {
    let mut text = String::from("| metric | kind | labels | what |\n|---|---|---|---|\n");
    for metric in TABLE {
        let labels = metric.labels.join(", ");
        let kind = format!("{:?}", metric.kind).to_lowercase();
        text.push_str(&format!("| `{}` | {kind} | {labels} | {} |\n", metric.name, metric.help));
    }
    text
}
