//! DescribeShareGroupOffsets (90): version 1 tells the lag (KIP-1226), which the crate's response can not.

use uuid::Uuid;

use crate::protocol::schema::schema;

schema! {
    /// Asks how far share groups have come (DescribeShareGroupOffsetsRequest).
    pub struct DescribeShareGroupOffsetsRequest, versions 0..=1, flexible 0.. {
        /// The groups.
        groups: Vec<DescribeShareGroupOffsetsRequestGroup>,
    }

    /// A group in a DescribeShareGroupOffsetsRequest.
    pub struct DescribeShareGroupOffsetsRequestGroup {
        /// Its id.
        group_id: String,
        /// The topics; null for all that the group has read.
        topics: Option<Vec<DescribeShareGroupOffsetsRequestTopic>>,
    }

    /// A topic in a DescribeShareGroupOffsetsRequest.
    pub struct DescribeShareGroupOffsetsRequestTopic {
        /// Its name.
        topic_name: String,
        /// The partitions.
        partitions: Vec<i32>,
    }

    /// The answer (DescribeShareGroupOffsetsResponse).
    pub struct DescribeShareGroupOffsetsResponse, versions 0..=1, flexible 0.. {
        /// How long the client is held back by a quota, in milliseconds.
        throttle_time_ms: i32,
        /// The groups.
        groups: Vec<DescribeShareGroupOffsetsResponseGroup>,
    }

    /// How far a group has come.
    pub struct DescribeShareGroupOffsetsResponseGroup {
        /// Its id.
        group_id: String,
        /// The topics.
        topics: Vec<DescribeShareGroupOffsetsResponseTopic>,
        /// What is wrong with it, or 0.
        error_code: i16,
        /// A sentence about it.
        error_message: Option<String> = None,
    }

    /// How far a group has come in a topic.
    pub struct DescribeShareGroupOffsetsResponseTopic {
        /// Its name.
        topic_name: String,
        /// Its id.
        topic_id: Uuid,
        /// The partitions.
        partitions: Vec<DescribeShareGroupOffsetsResponsePartition>,
    }

    /// How far a group has come in a partition.
    pub struct DescribeShareGroupOffsetsResponsePartition {
        /// Its index.
        partition_index: i32,
        /// The first record that is not done with; -1 where nothing is known.
        start_offset: i64,
        /// The epoch of the leader that said so.
        leader_epoch: i32,
        /// How many records there are still to be done; -1 where that is not known.
        lag: i64 [1.., ignorable] = -1,
        /// What is wrong with it, or 0.
        error_code: i16,
        /// A sentence about it.
        error_message: Option<String> = None,
    }
}
