//! WriteShareGroupState (85): version 1 has how many records are done with (KIP-1226), which the crate does not know.

use uuid::Uuid;

use crate::protocol::schema::schema;

schema! {
    /// Changes the state of share partitions (WriteShareGroupStateRequest).
    pub struct WriteShareGroupStateRequest, versions 0..=1, flexible 0.. {
        /// The share group.
        group_id: String,
        /// The topics.
        topics: Vec<WriteStateData>,
    }

    /// A topic in a WriteShareGroupStateRequest.
    pub struct WriteStateData {
        /// Its id.
        topic_id: Uuid,
        /// The partitions.
        partitions: Vec<WriteStatePartition>,
    }

    /// A partition in a WriteShareGroupStateRequest.
    pub struct WriteStatePartition {
        /// Its index.
        partition: i32,
        /// The state epoch.
        state_epoch: i32,
        /// The epoch of the partition's leader.
        leader_epoch: i32,
        /// The first record that is not done with, or -1 where it stays as it is.
        start_offset: i64,
        /// How many records from there on are done with.
        delivery_complete_count: i32 [1.., ignorable] = -1,
        /// What is new about records.
        state_batches: Vec<WriteStateBatch>,
    }

    /// Records in a row, of which the same is known.
    pub struct WriteStateBatch {
        /// The first.
        first_offset: i64,
        /// The last.
        last_offset: i64,
        /// 0 available, 2 acknowledged, 4 archived.
        delivery_state: i8,
        /// How often they were delivered.
        delivery_count: i16,
    }

    /// The answer (WriteShareGroupStateResponse).
    pub struct WriteShareGroupStateResponse, versions 0..=1, flexible 0.. {
        /// The topics.
        results: Vec<WriteStateResult>,
    }

    /// A topic in a WriteShareGroupStateResponse.
    pub struct WriteStateResult {
        /// Its id.
        topic_id: Uuid,
        /// The partitions.
        partitions: Vec<WriteStatePartitionResult>,
    }

    /// A partition in a WriteShareGroupStateResponse.
    pub struct WriteStatePartitionResult {
        /// Its index.
        partition: i32,
        /// What is wrong, or 0.
        error_code: i16,
        /// What is wrong, in words.
        error_message: Option<String> = None,
    }
}
