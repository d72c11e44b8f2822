//! The 26 record types of Kafka 4.3's metadata log, field by field.

use bytes::Bytes;
use uuid::Uuid;

use crate::protocol::schema::schema;
use crate::types::NodeId;

schema! {
    /// A broker made itself known (type 0).
    pub struct RegisterBrokerRecord, versions 0..=4, flexible 0.. {
        broker_id: i32,
        /// Left from the time of ZooKeeper.
        is_migrating_zk_broker: bool [2..],
        /// New in each life of the process.
        incarnation_id: Uuid,
        /// The offset at which the registration was decided.
        broker_epoch: i64,
        end_points: Vec<RecordEndpoint>,
        features: Vec<RecordFeature>,
        rack: Option<String>,
        fenced: bool = true,
        in_controlled_shutdown: bool [1..],
        log_dirs: Vec<Uuid> [3.., tag 0],
        /// `None` until the broker sent them.
        cordoned_log_dirs: Option<Vec<Uuid>> [4.., tag 1] = None,
    }

    /// Where a broker or a controller is reached.
    pub struct RecordEndpoint {
        /// The name of the listener.
        name: String,
        host: String,
        port: u16,
        /// 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
        security_protocol: i16,
    }

    /// A feature that a broker or a controller supports.
    pub struct RecordFeature {
        name: String,
        min_supported_version: i16,
        max_supported_version: i16,
    }

    /// A broker is gone for good (type 1).
    pub struct UnregisterBrokerRecord, versions 0..=0, flexible 0.. {
        broker_id: i32,
        broker_epoch: i64,
    }

    /// A topic was created (type 2).
    pub struct TopicRecord, versions 0..=0, flexible 0.. {
        name: String,
        topic_id: Uuid,
    }

    /// A partition was created (type 3).
    pub struct PartitionRecord, versions 0..=2, flexible 0.. {
        partition_id: i32 = -1,
        topic_id: Uuid,
        /// In order of preference.
        replicas: Vec<NodeId>,
        isr: Vec<NodeId>,
        removing_replicas: Vec<NodeId>,
        adding_replicas: Vec<NodeId>,
        /// -1 for none.
        leader: i32 = -1,
        /// 1 while recovering from an unclean election.
        leader_recovery_state: i8 [tag 0],
        leader_epoch: i32 = -1,
        /// Grows with every change of the partition.
        partition_epoch: i32 = -1,
        /// The directory of each replica, in the order of the replicas.
        directories: Vec<Uuid> [1..],
        eligible_leader_replicas: Option<Vec<NodeId>> [2.., tag 1] = None,
        last_known_elr: Option<Vec<NodeId>> [2.., tag 2] = None,
    }

    /// One key of one resource was set or removed (type 4).
    pub struct ConfigRecord, versions 0..=0, flexible 0.. {
        resource_type: i8,
        resource_name: String,
        name: String,
        /// `None` removes the key.
        value: Option<String>,
    }

    /// What changed in a partition (type 5); `None` (-2 for the leader, -1 for the recovery state) is no change.
    pub struct PartitionChangeRecord, versions 0..=2, flexible 0.. {
        partition_id: i32 = -1,
        topic_id: Uuid,
        isr: Option<Vec<NodeId>> [tag 0] = None,
        leader: i32 [tag 1] = -2,
        replicas: Option<Vec<NodeId>> [tag 2] = None,
        removing_replicas: Option<Vec<NodeId>> [tag 3] = None,
        adding_replicas: Option<Vec<NodeId>> [tag 4] = None,
        leader_recovery_state: i8 [tag 5] = -1,
        directories: Option<Vec<Uuid>> [1.., tag 8] = None,
        eligible_leader_replicas: Option<Vec<NodeId>> [2.., tag 6] = None,
        last_known_elr: Option<Vec<NodeId>> [2.., tag 7] = None,
    }

    /// A broker is fenced; written by old controllers (type 7).
    pub struct FenceBrokerRecord, versions 0..=0, flexible 0.. {
        id: i32,
        epoch: i64,
    }

    /// A broker is no longer fenced; written by old controllers (type 8).
    pub struct UnfenceBrokerRecord, versions 0..=0, flexible 0.. {
        id: i32,
        epoch: i64,
    }

    /// A topic and all of its partitions are gone (type 9).
    pub struct RemoveTopicRecord, versions 0..=0, flexible 0.. {
        topic_id: Uuid,
    }

    /// A delegation token (type 10).
    pub struct DelegationTokenRecord, versions 0..=0, flexible 0.. {
        owner: String,
        requester: String,
        renewers: Vec<String>,
        issue_timestamp: i64,
        max_timestamp: i64,
        expiration_timestamp: i64,
        token_id: String,
    }

    /// A user's SCRAM credential (type 11).
    pub struct UserScramCredentialRecord, versions 0..=0, flexible 0.. {
        name: String,
        mechanism: i8,
        salt: Bytes,
        stored_key: Bytes,
        server_key: Bytes,
        iterations: i32,
    }

    /// A feature is finalised at a level; level 0 takes it away (type 12).
    pub struct FeatureLevelRecord, versions 0..=0, flexible 0.. {
        name: String,
        feature_level: i16,
    }

    /// A client quota (type 14).
    pub struct ClientQuotaRecord, versions 0..=0, flexible 0.. {
        entity: Vec<QuotaEntity>,
        key: String,
        value: f64,
        remove: bool,
    }

    /// One part of whom a quota is for.
    pub struct QuotaEntity {
        entity_type: String,
        /// `None` for the default of this type.
        entity_name: Option<String>,
    }

    /// Producer ids below this one are given out (type 15).
    pub struct ProducerIdsRecord, versions 0..=0, flexible 0.. {
        broker_id: i32,
        broker_epoch: i64 = -1,
        next_producer_id: i64,
    }

    /// What changed in a broker's registration (type 17).
    pub struct BrokerRegistrationChangeRecord, versions 0..=3, flexible 0.. {
        broker_id: i32,
        broker_epoch: i64,
        /// 1 fenced, -1 unfenced, 0 no change.
        fenced: i8 [tag 0],
        /// 1 when a controlled shutdown begins, 0 no change.
        in_controlled_shutdown: i8 [1.., tag 1],
        /// Empty for no change.
        log_dirs: Vec<Uuid> [2.., tag 2],
        /// `None` for no change.
        cordoned_log_dirs: Option<Vec<Uuid>> [3.., tag 3] = None,
    }

    /// An access control entry (type 18).
    pub struct AccessControlEntryRecord, versions 0..=0, flexible 0.. {
        id: Uuid,
        resource_type: i8,
        resource_name: String,
        pattern_type: i8,
        principal: String,
        host: String,
        operation: i8,
        permission_type: i8,
    }

    /// An access control entry is gone (type 19).
    pub struct RemoveAccessControlEntryRecord, versions 0..=0, flexible 0.. {
        id: Uuid,
    }

    /// Nothing; lets followers measure their lag (type 20).
    pub struct NoOpRecord, versions 0..=0, flexible 0.. {}

    /// How far the migration from ZooKeeper is (type 21).
    pub struct ZkMigrationStateRecord, versions 0..=0, flexible 0.. {
        zk_migration_state: i8,
    }

    /// A user's SCRAM credential is gone (type 22).
    pub struct RemoveUserScramCredentialRecord, versions 0..=0, flexible 0.. {
        name: String,
        mechanism: i8,
    }

    /// The records up to its end count together or not at all (type 23, KIP-868).
    pub struct BeginTransactionRecord, versions 0..=0, flexible 0.. {
        name: Option<String> [tag 0] = None,
    }

    /// The records since its begin count (type 24).
    pub struct EndTransactionRecord, versions 0..=0, flexible 0.. {}

    /// The records since its begin do not count (type 25).
    pub struct AbortTransactionRecord, versions 0..=0, flexible 0.. {
        reason: Option<String> [tag 0] = None,
    }

    /// A delegation token is gone (type 26).
    pub struct RemoveDelegationTokenRecord, versions 0..=0, flexible 0.. {
        token_id: String,
    }

    /// A controller made itself known (type 27).
    pub struct RegisterControllerRecord, versions 0..=0, flexible 0.. {
        controller_id: i32,
        incarnation_id: Uuid,
        zk_migration_ready: bool,
        end_points: Vec<RecordEndpoint>,
        features: Vec<RecordFeature>,
    }

    /// The eligible leader replicas of a topic, or of all of them, are forgotten (type 28).
    pub struct ClearElrRecord, versions 0..=0, flexible 0.. {
        /// Empty for all topics.
        topic_name: String,
    }
}
