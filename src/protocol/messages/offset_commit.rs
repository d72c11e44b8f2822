//! OffsetCommit (8): version 10 names topics by id (KIP-848), which the crate's request can not.

use uuid::Uuid;

use crate::protocol::schema::schema;

schema! {
    /// Commits offsets of a group (OffsetCommitRequest).
    pub struct OffsetCommitRequest, versions 2..=10, flexible 8.. {
        /// The group.
        group_id: String,
        /// The generation of a classic group, the member epoch of another, or -1 for an offset store without members.
        generation_id_or_member_epoch: i32 = -1,
        /// The member, or empty.
        member_id: String,
        /// The static member (KIP-345).
        group_instance_id: Option<String> [7..] = None,
        /// How long the offsets are kept, or -1. The broker's configuration decides since version 5.
        retention_time_ms: i64 [2..=4, ignorable] = -1,
        /// The topics.
        topics: Vec<OffsetCommitRequestTopic>,
    }

    /// A topic in an OffsetCommitRequest.
    pub struct OffsetCommitRequestTopic {
        /// Its name, up to version 9.
        name: String [2..=9, ignorable],
        /// Its id, since version 10.
        topic_id: Uuid [10.., ignorable],
        /// The partitions.
        partitions: Vec<OffsetCommitRequestPartition>,
    }

    /// A partition in an OffsetCommitRequest.
    pub struct OffsetCommitRequestPartition {
        /// Its index.
        partition_index: i32,
        /// The offset to commit.
        committed_offset: i64,
        /// The leader epoch of the last record before it, or -1.
        committed_leader_epoch: i32 [6.., ignorable] = -1,
        /// What the client wants to keep beside the offset.
        committed_metadata: Option<String>,
    }

    /// The answer (OffsetCommitResponse).
    pub struct OffsetCommitResponse, versions 2..=10, flexible 8.. {
        /// How long the client is held back by a quota, in milliseconds.
        throttle_time_ms: i32 [3.., ignorable],
        /// The topics, as they were asked for.
        topics: Vec<OffsetCommitResponseTopic>,
    }

    /// A topic in an OffsetCommitResponse.
    pub struct OffsetCommitResponseTopic {
        /// Its name, up to version 9.
        name: String [2..=9, ignorable],
        /// Its id, since version 10.
        topic_id: Uuid [10.., ignorable],
        /// The partitions.
        partitions: Vec<OffsetCommitResponsePartition>,
    }

    /// A partition in an OffsetCommitResponse.
    pub struct OffsetCommitResponsePartition {
        /// Its index.
        partition_index: i32,
        /// What became of it, or 0.
        error_code: i16,
    }
}
