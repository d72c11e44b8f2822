//! The shapes of every request of Kafka 4.4, in all the versions that it still has.
//!
//! A line gives the key, the name, the versions, the first flexible version, and the fields in the order of the wire:
//! - `string`, `bytes` (record batches too), `nstring` and `nbytes` where null is legal in some version;
//! - `[i32]` is an array, `[name: string, …]` an array of structs, `{…}` a struct; a leading `?` lets it be null;
//! - `(3+)` or `(3-5)` are the versions that have the field, where it is not in all of them;
//! - `tag 0` makes it a tagged field.

use super::{Field, Kind, Shape};

macro_rules! fields {
    ($($name:ident : $kind:tt $(($($versions:tt)*))? $(tag $tag:literal)?),*) => {
        &[$(Field {
            kind: kind!($kind),
            versions: versions!($($($versions)*)?),
            tag: tag!($($tag)?),
        }),*]
    };
}

macro_rules! kind {
    (bool) => { Kind::Fixed(1) };
    (i8) => { Kind::Fixed(1) };
    (i16) => { Kind::Fixed(2) };
    (u16) => { Kind::Fixed(2) };
    (i32) => { Kind::Fixed(4) };
    (i64) => { Kind::Fixed(8) };
    (f64) => { Kind::Fixed(8) };
    (uuid) => { Kind::Fixed(16) };
    (string) => { Kind::String { nullable: false } };
    (nstring) => { Kind::String { nullable: true } };
    (bytes) => { Kind::Bytes { nullable: false } };
    (nbytes) => { Kind::Bytes { nullable: true } };
    ([$element:ident]) => { Kind::Array { nullable: false, element: &kind!($element) } };
    ([? $element:ident]) => { Kind::Array { nullable: true, element: &kind!($element) } };
    ([? $($fields:tt)*]) => { Kind::Array { nullable: true, element: &kind!({$($fields)*}) } };
    ([$($fields:tt)*]) => { Kind::Array { nullable: false, element: &kind!({$($fields)*}) } };
    ({? $($fields:tt)*}) => { Kind::Struct { nullable: true, fields: fields!($($fields)*) } };
    ({$($fields:tt)*}) => { Kind::Struct { nullable: false, fields: fields!($($fields)*) } };
}

macro_rules! versions {
    () => {
        (0, i16::MAX)
    };
    ($first:literal +) => {
        ($first, i16::MAX)
    };
    ($first:literal - $last:literal) => {
        ($first, $last)
    };
}

macro_rules! tag {
    () => {
        None
    };
    ($tag:literal) => {
        Some($tag)
    };
}

macro_rules! flexible {
    () => {
        i16::MAX
    };
    ($first:literal) => {
        $first
    };
}

macro_rules! shapes {
    ($($key:literal $name:ident $first:literal - $last:literal $(flexible $flexible:literal +)? :
        $($field:ident : $kind:tt $(($($versions:tt)*))? $(tag $tag:literal)?),*;)*
    ) => {
        /// The shape of a request, or `None` if there is no such API.
        pub(super) const fn shape(api_key: i16) -> Option<&'static Shape> {
            match api_key {
                $($key => {
                    const SHAPE: Shape = Shape {
                        name: stringify!($name),
                        versions: ($first, $last),
                        flexible_since: flexible!($($flexible)?),
                        fields: fields!($($field: $kind $(($($versions)*))? $(tag $tag)?),*),
                    };
                    Some(&SHAPE)
                })*
                _ => None,
            }
        }

        /// The keys that have a shape, in order.
        pub const API_KEYS: &[i16] = &[$($key),*];
    };
}

shapes! {
    0 Produce 3-13 flexible 9+: transactional_id: nstring, acks: i16, timeout_ms: i32,
        topic_data: [name: string (3-12), topic_id: uuid (13+), partition_data: [index: i32,
        records: nbytes]];
    1 Fetch 4-18 flexible 12+: cluster_id: nstring (12+) tag 0, replica_id: i32 (4-14),
        replica_state: {replica_id: i32, replica_epoch: i64} (15+) tag 1, max_wait_ms: i32,
        min_bytes: i32, max_bytes: i32, isolation_level: i8, session_id: i32 (7+),
        session_epoch: i32 (7+), topics: [topic: string (4-12), topic_id: uuid (13+),
        partitions: [partition: i32, current_leader_epoch: i32 (9+), fetch_offset: i64,
        last_fetched_epoch: i32 (12+), log_start_offset: i64 (5+), partition_max_bytes: i32,
        replica_directory_id: uuid (17+) tag 0, high_watermark: i64 (18+) tag 1]],
        forgotten_topics_data: [topic: string (7-12), topic_id: uuid (13+), partitions: [i32]] (7+),
        rack_id: string (11+);
    2 ListOffsets 1-11 flexible 6+: replica_id: i32, isolation_level: i8 (2+), topics: [name: string,
        partitions: [partition_index: i32, current_leader_epoch: i32 (4+), timestamp: i64]],
        timeout_ms: i32 (10+);
    3 Metadata 0-13 flexible 9+: topics: [? topic_id: uuid (10+), name: nstring],
        allow_auto_topic_creation: bool (4+), include_cluster_authorized_operations: bool (8-10),
        include_topic_authorized_operations: bool (8+);
    8 OffsetCommit 2-10 flexible 8+: group_id: string, generation_id_or_member_epoch: i32,
        member_id: string, group_instance_id: nstring (7+), retention_time_ms: i64 (2-4),
        topics: [name: string (2-9), topic_id: uuid (10+), partitions: [partition_index: i32,
        committed_offset: i64, committed_leader_epoch: i32 (6+), committed_metadata: nstring]];
    9 OffsetFetch 1-10 flexible 6+: group_id: string (1-7), topics: [? name: string,
        partition_indexes: [i32]] (1-7), groups: [group_id: string, member_id: nstring (9+),
        member_epoch: i32 (9+), topics: [? name: string (8-9), topic_id: uuid (10+),
        partition_indexes: [i32]]] (8+), require_stable: bool (7+);
    10 FindCoordinator 0-6 flexible 3+: key: string (0-3), key_type: i8 (1+),
        coordinator_keys: [string] (4+);
    11 JoinGroup 0-9 flexible 6+: group_id: string, session_timeout_ms: i32,
        rebalance_timeout_ms: i32 (1+), member_id: string, group_instance_id: nstring (5+),
        protocol_type: string, protocols: [name: string, metadata: bytes], reason: nstring (8+);
    12 Heartbeat 0-4 flexible 4+: group_id: string, generation_id: i32, member_id: string,
        group_instance_id: nstring (3+);
    13 LeaveGroup 0-5 flexible 4+: group_id: string, member_id: string (0-2), members: [member_id: string,
        group_instance_id: nstring, reason: nstring (5+)] (3+);
    14 SyncGroup 0-5 flexible 4+: group_id: string, generation_id: i32, member_id: string,
        group_instance_id: nstring (3+), protocol_type: nstring (5+), protocol_name: nstring (5+),
        assignments: [member_id: string, assignment: bytes];
    15 DescribeGroups 0-6 flexible 5+: groups: [string], include_authorized_operations: bool (3+);
    16 ListGroups 0-5 flexible 3+: states_filter: [string] (4+), types_filter: [string] (5+);
    17 SaslHandshake 0-1: mechanism: string;
    18 ApiVersions 0-5 flexible 3+: client_software_name: string (3+),
        client_software_version: string (3+), cluster_id: nstring (5+), node_id: i32 (5+);
    19 CreateTopics 2-7 flexible 5+: topics: [name: string, num_partitions: i32, replication_factor: i16,
        assignments: [partition_index: i32, broker_ids: [i32]], configs: [name: string, value: nstring]],
        timeout_ms: i32, validate_only: bool;
    20 DeleteTopics 1-6 flexible 4+: topics: [name: nstring, topic_id: uuid] (6+),
        topic_names: [string] (1-5), timeout_ms: i32;
    21 DeleteRecords 0-2 flexible 2+: topics: [name: string, partitions: [partition_index: i32,
        offset: i64]], timeout_ms: i32;
    22 InitProducerId 0-6 flexible 2+: transactional_id: nstring, transaction_timeout_ms: i32,
        producer_id: i64 (3+), producer_epoch: i16 (3+), enable2_pc: bool (6+),
        keep_prepared_txn: bool (6+);
    23 OffsetForLeaderEpoch 2-4 flexible 4+: replica_id: i32 (3+), topics: [topic: string,
        partitions: [partition: i32, current_leader_epoch: i32, leader_epoch: i32]];
    24 AddPartitionsToTxn 0-5 flexible 3+: transactions: [transactional_id: string, producer_id: i64,
        producer_epoch: i16, verify_only: bool, topics: [name: string, partitions: [i32]]] (4+),
        v3_and_below_transactional_id: string (0-3), v3_and_below_producer_id: i64 (0-3),
        v3_and_below_producer_epoch: i16 (0-3), v3_and_below_topics: [name: string,
        partitions: [i32]] (0-3);
    25 AddOffsetsToTxn 0-4 flexible 3+: transactional_id: string, producer_id: i64, producer_epoch: i16,
        group_id: string;
    26 EndTxn 0-5 flexible 3+: transactional_id: string, producer_id: i64, producer_epoch: i16,
        committed: bool;
    27 WriteTxnMarkers 1-2 flexible 1+: markers: [producer_id: i64, producer_epoch: i16,
        transaction_result: bool, topics: [name: string, partition_indexes: [i32]],
        coordinator_epoch: i32, transaction_version: i8 (2+)];
    28 TxnOffsetCommit 0-6 flexible 3+: transactional_id: string, group_id: string, producer_id: i64,
        producer_epoch: i16, generation_id_or_member_epoch: i32 (3+), member_id: string (3+),
        group_instance_id: nstring (3+), topics: [name: string (0-5), topic_id: uuid (6+),
        partitions: [partition_index: i32, committed_offset: i64, committed_leader_epoch: i32 (2+),
        committed_metadata: nstring]];
    29 DescribeAcls 1-3 flexible 2+: resource_type_filter: i8, resource_name_filter: nstring,
        pattern_type_filter: i8, principal_filter: nstring, host_filter: nstring, operation: i8,
        permission_type: i8;
    30 CreateAcls 1-3 flexible 2+: creations: [resource_type: i8, resource_name: string,
        resource_pattern_type: i8, principal: string, host: string, operation: i8, permission_type: i8];
    31 DeleteAcls 1-3 flexible 2+: filters: [resource_type_filter: i8, resource_name_filter: nstring,
        pattern_type_filter: i8, principal_filter: nstring, host_filter: nstring, operation: i8,
        permission_type: i8];
    32 DescribeConfigs 1-4 flexible 4+: resources: [resource_type: i8, resource_name: string,
        configuration_keys: [? string]], include_synonyms: bool, include_documentation: bool (3+);
    33 AlterConfigs 0-2 flexible 2+: resources: [resource_type: i8, resource_name: string,
        configs: [name: string, value: nstring]], validate_only: bool;
    34 AlterReplicaLogDirs 1-2 flexible 2+: dirs: [path: string, topics: [name: string,
        partitions: [i32]]];
    35 DescribeLogDirs 1-5 flexible 2+: topics: [? topic: string, partitions: [i32]];
    36 SaslAuthenticate 0-2 flexible 2+: auth_bytes: bytes;
    37 CreatePartitions 0-3 flexible 2+: topics: [name: string, count: i32,
        assignments: [? broker_ids: [i32]]], timeout_ms: i32, validate_only: bool;
    38 CreateDelegationToken 1-3 flexible 2+: owner_principal_type: nstring (3+),
        owner_principal_name: nstring (3+), renewers: [principal_type: string, principal_name: string],
        max_lifetime_ms: i64;
    39 RenewDelegationToken 1-2 flexible 2+: hmac: bytes, renew_period_ms: i64;
    40 ExpireDelegationToken 1-2 flexible 2+: hmac: bytes, expiry_time_period_ms: i64;
    41 DescribeDelegationToken 1-3 flexible 2+: owners: [? principal_type: string,
        principal_name: string];
    42 DeleteGroups 0-3 flexible 2+: groups_names: [string];
    43 ElectLeaders 0-2 flexible 2+: election_type: i8 (1+), topic_partitions: [? topic: string,
        partitions: [i32]], timeout_ms: i32;
    44 IncrementalAlterConfigs 0-1 flexible 1+: resources: [resource_type: i8, resource_name: string,
        configs: [name: string, config_operation: i8, value: nstring]], validate_only: bool;
    45 AlterPartitionReassignments 0-1 flexible 0+: timeout_ms: i32,
        allow_replication_factor_change: bool (1+), topics: [name: string,
        partitions: [partition_index: i32, replicas: [? i32]]];
    46 ListPartitionReassignments 0-0 flexible 0+: timeout_ms: i32, topics: [? name: string,
        partition_indexes: [i32]];
    47 OffsetDelete 0-0: group_id: string, topics: [name: string, partitions: [partition_index: i32]];
    48 DescribeClientQuotas 0-1 flexible 1+: components: [entity_type: string, match_type: i8,
        match: nstring], strict: bool;
    49 AlterClientQuotas 0-1 flexible 1+: entries: [entity: [entity_type: string, entity_name: nstring],
        ops: [key: string, value: f64, remove: bool]], validate_only: bool;
    50 DescribeUserScramCredentials 0-0 flexible 0+: users: [? name: string];
    51 AlterUserScramCredentials 0-0 flexible 0+: deletions: [name: string, mechanism: i8],
        upsertions: [name: string, mechanism: i8, iterations: i32, salt: bytes, salted_password: bytes];
    52 Vote 0-2 flexible 0+: cluster_id: nstring, voter_id: i32 (1+), topics: [topic_name: string,
        partitions: [partition_index: i32, replica_epoch: i32, replica_id: i32,
        replica_directory_id: uuid (1+), voter_directory_id: uuid (1+), last_offset_epoch: i32,
        last_offset: i64, pre_vote: bool (2+)]];
    53 BeginQuorumEpoch 0-1 flexible 1+: cluster_id: nstring, voter_id: i32 (1+),
        topics: [topic_name: string, partitions: [partition_index: i32, voter_directory_id: uuid (1+),
        leader_id: i32, leader_epoch: i32]], leader_endpoints: [name: string, host: string,
        port: u16] (1+);
    54 EndQuorumEpoch 0-1 flexible 1+: cluster_id: nstring, topics: [topic_name: string,
        partitions: [partition_index: i32, leader_id: i32, leader_epoch: i32,
        preferred_successors: [i32] (0-0), preferred_candidates: [candidate_id: i32,
        candidate_directory_id: uuid] (1+)]], leader_endpoints: [name: string, host: string,
        port: u16] (1+);
    55 DescribeQuorum 0-2 flexible 0+: topics: [topic_name: string, partitions: [partition_index: i32]];
    56 AlterPartition 2-3 flexible 2+: broker_id: i32, broker_epoch: i64, topics: [topic_id: uuid,
        partitions: [partition_index: i32, leader_epoch: i32, new_isr: [i32] (2-2),
        new_isr_with_epochs: [broker_id: i32, broker_epoch: i64] (3+), leader_recovery_state: i8,
        partition_epoch: i32]];
    57 UpdateFeatures 0-2 flexible 0+: timeout_ms: i32, feature_updates: [feature: string,
        max_version_level: i16, allow_downgrade: bool (0-0), upgrade_type: i8 (1+)],
        validate_only: bool (1+);
    58 Envelope 0-0 flexible 0+: request_data: bytes, request_principal: nbytes,
        client_host_address: bytes;
    59 FetchSnapshot 0-1 flexible 0+: cluster_id: nstring tag 0, replica_id: i32, max_bytes: i32,
        topics: [name: string, partitions: [partition: i32, current_leader_epoch: i32,
        snapshot_id: {end_offset: i64, epoch: i32}, position: i64,
        replica_directory_id: uuid (1+) tag 0]];
    60 DescribeCluster 0-2 flexible 0+: include_cluster_authorized_operations: bool,
        endpoint_type: i8 (1+), include_fenced_brokers: bool (2+);
    61 DescribeProducers 0-0 flexible 0+: topics: [name: string, partition_indexes: [i32]];
    62 BrokerRegistration 0-4 flexible 0+: broker_id: i32, cluster_id: string, incarnation_id: uuid,
        listeners: [name: string, host: string, port: u16, security_protocol: i16],
        features: [name: string, min_supported_version: i16, max_supported_version: i16], rack: nstring,
        is_migrating_zk_broker: bool (1+), log_dirs: [uuid] (2+), previous_broker_epoch: i64 (3+);
    63 BrokerHeartbeat 0-2 flexible 0+: broker_id: i32, broker_epoch: i64, current_metadata_offset: i64,
        want_fence: bool, want_shut_down: bool, offline_log_dirs: [uuid] (1+) tag 0,
        cordoned_log_dirs: [? uuid] (2+) tag 1;
    64 UnregisterBroker 0-0 flexible 0+: broker_id: i32;
    65 DescribeTransactions 0-0 flexible 0+: transactional_ids: [string];
    66 ListTransactions 0-2 flexible 0+: state_filters: [string], producer_id_filters: [i64],
        duration_filter: i64 (1+), transactional_id_pattern: nstring (2+);
    67 AllocateProducerIds 0-0 flexible 0+: broker_id: i32, broker_epoch: i64;
    68 ConsumerGroupHeartbeat 0-1 flexible 0+: group_id: string, member_id: string, member_epoch: i32,
        instance_id: nstring, rack_id: nstring, rebalance_timeout_ms: i32,
        subscribed_topic_names: [? string], subscribed_topic_regex: nstring (1+),
        server_assignor: nstring, topic_partitions: [? topic_id: uuid, partitions: [i32]];
    69 ConsumerGroupDescribe 0-1 flexible 0+: group_ids: [string], include_authorized_operations: bool;
    70 ControllerRegistration 0-0 flexible 0+: controller_id: i32, incarnation_id: uuid,
        zk_migration_ready: bool, listeners: [name: string, host: string, port: u16,
        security_protocol: i16], features: [name: string, min_supported_version: i16,
        max_supported_version: i16];
    71 GetTelemetrySubscriptions 0-0 flexible 0+: client_instance_id: uuid;
    72 PushTelemetry 0-0 flexible 0+: client_instance_id: uuid, subscription_id: i32, terminating: bool,
        compression_type: i8, metrics: bytes;
    73 AssignReplicasToDirs 0-0 flexible 0+: broker_id: i32, broker_epoch: i64, directories: [id: uuid,
        topics: [topic_id: uuid, partitions: [partition_index: i32]]];
    74 ListConfigResources 0-1 flexible 0+: resource_types: [i8] (1+);
    75 DescribeTopicPartitions 0-0 flexible 0+: topics: [name: string], response_partition_limit: i32,
        cursor: {? topic_name: string, partition_index: i32};
    76 ShareGroupHeartbeat 1-1 flexible 1+: group_id: string, member_id: string, member_epoch: i32,
        rack_id: nstring, subscribed_topic_names: [? string];
    77 ShareGroupDescribe 1-1 flexible 1+: group_ids: [string], include_authorized_operations: bool;
    78 ShareFetch 1-2 flexible 1+: group_id: nstring, member_id: nstring, share_session_epoch: i32,
        max_wait_ms: i32, min_bytes: i32, max_bytes: i32, max_records: i32, batch_size: i32,
        share_acquire_mode: i8 (2+), is_renew_ack: bool (2+), topics: [topic_id: uuid,
        partitions: [partition_index: i32, acknowledgement_batches: [first_offset: i64, last_offset: i64,
        acknowledge_types: [i8]]]], forgotten_topics_data: [topic_id: uuid, partitions: [i32]];
    79 ShareAcknowledge 1-2 flexible 1+: group_id: nstring, member_id: nstring, share_session_epoch: i32,
        is_renew_ack: bool (2+), topics: [topic_id: uuid, partitions: [partition_index: i32,
        acknowledgement_batches: [first_offset: i64, last_offset: i64, acknowledge_types: [i8]]]];
    80 AddRaftVoter 0-1 flexible 0+: cluster_id: nstring, timeout_ms: i32, voter_id: i32,
        voter_directory_id: uuid, listeners: [name: string, host: string, port: u16],
        ack_when_committed: bool (1+);
    81 RemoveRaftVoter 0-0 flexible 0+: cluster_id: nstring, voter_id: i32, voter_directory_id: uuid;
    82 UpdateRaftVoter 0-0 flexible 0+: cluster_id: nstring, current_leader_epoch: i32, voter_id: i32,
        voter_directory_id: uuid, listeners: [name: string, host: string, port: u16],
        kraft_version_feature: {min_supported_version: i16, max_supported_version: i16};
    83 InitializeShareGroupState 0-0 flexible 0+: group_id: string, topics: [topic_id: uuid,
        partitions: [partition: i32, state_epoch: i32, start_offset: i64]];
    84 ReadShareGroupState 0-0 flexible 0+: group_id: string, topics: [topic_id: uuid,
        partitions: [partition: i32, leader_epoch: i32]];
    85 WriteShareGroupState 0-1 flexible 0+: group_id: string, topics: [topic_id: uuid,
        partitions: [partition: i32, state_epoch: i32, leader_epoch: i32, start_offset: i64,
        delivery_complete_count: i32 (1+), state_batches: [first_offset: i64, last_offset: i64,
        delivery_state: i8, delivery_count: i16]]];
    86 DeleteShareGroupState 0-0 flexible 0+: group_id: string, topics: [topic_id: uuid,
        partitions: [partition: i32]];
    87 ReadShareGroupStateSummary 0-1 flexible 0+: group_id: string, topics: [topic_id: uuid,
        partitions: [partition: i32, leader_epoch: i32]];
    88 StreamsGroupHeartbeat 0-1 flexible 0+: group_id: string, member_id: string, member_epoch: i32,
        endpoint_information_epoch: i32, instance_id: nstring, rack_id: nstring,
        rebalance_timeout_ms: i32, topology: {? epoch: i32, subtopologies: [subtopology_id: string,
        source_topics: [string], source_topic_regex: [string], state_changelog_topics: [name: string,
        partitions: i32, replication_factor: i16, topic_configs: [key: string, value: string]],
        repartition_sink_topics: [string], repartition_source_topics: [name: string, partitions: i32,
        replication_factor: i16, topic_configs: [key: string, value: string]],
        copartition_groups: [source_topics: [i16], source_topic_regex: [i16],
        repartition_source_topics: [i16]]]}, active_tasks: [? subtopology_id: string, partitions: [i32]],
        standby_tasks: [? subtopology_id: string, partitions: [i32]],
        warmup_tasks: [? subtopology_id: string, partitions: [i32]], process_id: nstring,
        user_endpoint: {? host: string, port: u16}, client_tags: [? key: string, value: string],
        task_offsets: [? subtopology_id: string, partition: i32, offset: i64],
        task_end_offsets: [? subtopology_id: string, partition: i32, offset: i64],
        shutdown_application: bool;
    89 StreamsGroupDescribe 0-1 flexible 0+: group_ids: [string], include_authorized_operations: bool,
        include_topology_description: bool (1+);
    90 DescribeShareGroupOffsets 0-1 flexible 0+: groups: [group_id: string,
        topics: [? topic_name: string, partitions: [i32]]];
    91 AlterShareGroupOffsets 0-0 flexible 0+: group_id: string, topics: [topic_name: string,
        partitions: [partition_index: i32, start_offset: i64]];
    92 DeleteShareGroupOffsets 0-0 flexible 0+: group_id: string, topics: [topic_name: string];
    93 StreamsGroupTopologyDescriptionUpdate 0-0 flexible 0+: group_id: string, member_id: string,
        topology_epoch: i32, topology_description: {subtopologies: [subtopology_id: string,
        nodes: [name: string, node_type: i8, source_topics: [string], sink_topic: nstring,
        stores: [string], successors: [string]]], global_stores: [source: {name: string, node_type: i8,
        source_topics: [string], sink_topic: nstring, stores: [string], successors: [string]},
        processor: {name: string, node_type: i8, source_topics: [string], sink_topic: nstring,
        stores: [string], successors: [string]}]};
    94 UnregisterController 0-0 flexible 0+: controller_id: i32;
}
