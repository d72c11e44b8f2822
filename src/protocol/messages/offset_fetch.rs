//! OffsetFetch (9): version 10 names topics by id (KIP-848), which the crate's request can not.

use uuid::Uuid;

use crate::protocol::schema::schema;

schema! {
    /// Asks for the committed offsets of groups (OffsetFetchRequest).
    pub struct OffsetFetchRequest, versions 1..=10, flexible 6.. {
        /// The group, up to version 7.
        group_id: String [1..=7],
        /// Its topics, up to version 7; null for all since version 2.
        topics: Option<Vec<OffsetFetchRequestTopic>> [1..=7, nullable 2..=7],
        /// The groups, since version 8.
        groups: Vec<OffsetFetchRequestGroup> [8..],
        /// Refuses offsets that a transaction may still change (KIP-447).
        require_stable: bool [7..],
    }

    /// A topic in an OffsetFetchRequest, up to version 7.
    pub struct OffsetFetchRequestTopic {
        /// Its name.
        name: String,
        /// The partitions.
        partition_indexes: Vec<i32>,
    }

    /// A group in an OffsetFetchRequest, since version 8.
    pub struct OffsetFetchRequestGroup {
        /// The group.
        group_id: String,
        /// The member, of the new consumer protocol (KIP-848).
        member_id: Option<String> [9.., ignorable] = None,
        /// The member's epoch, or -1.
        member_epoch: i32 [9.., ignorable] = -1,
        /// The topics; null for all.
        topics: Option<Vec<OffsetFetchRequestTopics>>,
    }

    /// A topic of a group in an OffsetFetchRequest, since version 8.
    pub struct OffsetFetchRequestTopics {
        /// Its name, up to version 9.
        name: String [8..=9, ignorable],
        /// Its id, since version 10.
        topic_id: Uuid [10.., ignorable],
        /// The partitions.
        partition_indexes: Vec<i32>,
    }

    /// The answer (OffsetFetchResponse).
    pub struct OffsetFetchResponse, versions 1..=10, flexible 6.. {
        /// How long the client is held back by a quota, in milliseconds.
        throttle_time_ms: i32 [3.., ignorable],
        /// The topics, up to version 7.
        topics: Vec<OffsetFetchResponseTopic> [1..=7],
        /// What is wrong with the group, or 0; versions 2 to 7.
        error_code: i16 [2..=7, ignorable],
        /// The groups, since version 8.
        groups: Vec<OffsetFetchResponseGroup> [8..],
    }

    /// A topic in an OffsetFetchResponse, up to version 7.
    pub struct OffsetFetchResponseTopic {
        /// Its name.
        name: String,
        /// The partitions.
        partitions: Vec<OffsetFetchResponsePartition>,
    }

    /// A partition in an OffsetFetchResponse, up to version 7.
    pub struct OffsetFetchResponsePartition {
        /// Its index.
        partition_index: i32,
        /// The committed offset, or -1.
        committed_offset: i64,
        /// The leader epoch that was committed with it, or -1.
        committed_leader_epoch: i32 [5..] = -1,
        /// What the client keeps beside the offset.
        metadata: Option<String>,
        /// What is wrong with the partition, or 0.
        error_code: i16,
    }

    /// A group in an OffsetFetchResponse, since version 8.
    pub struct OffsetFetchResponseGroup {
        /// The group.
        group_id: String,
        /// The topics.
        topics: Vec<OffsetFetchResponseTopics>,
        /// What is wrong with the group, or 0.
        error_code: i16,
    }

    /// A topic of a group in an OffsetFetchResponse, since version 8.
    pub struct OffsetFetchResponseTopics {
        /// Its name, up to version 9.
        name: String [8..=9, ignorable],
        /// Its id, since version 10.
        topic_id: Uuid [10.., ignorable],
        /// The partitions.
        partitions: Vec<OffsetFetchResponsePartitions>,
    }

    /// A partition of a group in an OffsetFetchResponse, since version 8.
    pub struct OffsetFetchResponsePartitions {
        /// Its index.
        partition_index: i32,
        /// The committed offset, or -1.
        committed_offset: i64,
        /// The leader epoch that was committed with it, or -1.
        committed_leader_epoch: i32 = -1,
        /// What the client keeps beside the offset.
        metadata: Option<String>,
        /// What is wrong with the partition, or 0.
        error_code: i16,
    }
}
