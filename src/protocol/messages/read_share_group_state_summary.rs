//! ReadShareGroupStateSummary (87): version 1 has how many records are done with (KIP-1226), which the crate does not
//! know.

use uuid::Uuid;

use crate::protocol::schema::schema;

schema! {
    /// Asks for the state of share partitions in short (ReadShareGroupStateSummaryRequest).
    pub struct ReadShareGroupStateSummaryRequest, versions 0..=1, flexible 0.. {
        /// The share group.
        group_id: String,
        /// The topics.
        topics: Vec<ReadStateSummaryData>,
    }

    /// A topic in a ReadShareGroupStateSummaryRequest.
    pub struct ReadStateSummaryData {
        /// Its id.
        topic_id: Uuid,
        /// The partitions.
        partitions: Vec<ReadStateSummaryPartition>,
    }

    /// A partition in a ReadShareGroupStateSummaryRequest.
    pub struct ReadStateSummaryPartition {
        /// Its index.
        partition: i32,
        /// The epoch of the partition's leader.
        leader_epoch: i32,
    }

    /// The answer (ReadShareGroupStateSummaryResponse).
    pub struct ReadShareGroupStateSummaryResponse, versions 0..=1, flexible 0.. {
        /// The topics.
        results: Vec<ReadStateSummaryResult>,
    }

    /// A topic in a ReadShareGroupStateSummaryResponse.
    pub struct ReadStateSummaryResult {
        /// Its id.
        topic_id: Uuid,
        /// The partitions.
        partitions: Vec<ReadStateSummaryPartitionResult>,
    }

    /// A partition in a ReadShareGroupStateSummaryResponse.
    pub struct ReadStateSummaryPartitionResult {
        /// Its index.
        partition: i32,
        /// What is wrong, or 0.
        error_code: i16,
        /// What is wrong, in words.
        error_message: Option<String> = None,
        /// The state epoch.
        state_epoch: i32,
        /// The epoch of the leader that read or wrote last.
        leader_epoch: i32,
        /// The first record that is not done with.
        start_offset: i64,
        /// How many records from there on are done with.
        delivery_complete_count: i32 [1.., ignorable] = -1,
    }
}
