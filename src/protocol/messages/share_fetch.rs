//! ShareFetch (78): version 2 has acquire modes (KIP-1206) and renewals (KIP-1222), which the crate's messages lack.

use bytes::Bytes;
use uuid::Uuid;

use crate::protocol::schema::schema;

schema! {
    /// Fetches records for a member of a share group, and acknowledges earlier ones (ShareFetchRequest).
    pub struct ShareFetchRequest, versions 1..=2, flexible 1.. {
        /// The group.
        group_id: Option<String> = None,
        /// The member.
        member_id: Option<String>,
        /// The epoch of the share session: 0 begins one, -1 ends it.
        share_session_epoch: i32,
        /// How long to wait for `min_bytes`, in milliseconds.
        max_wait_ms: i32,
        /// How many bytes are worth an answer.
        min_bytes: i32,
        /// How many bytes the answer may have.
        max_bytes: i32 = i32::MAX,
        /// How many records the member wants.
        max_records: i32,
        /// About how many records are acquired and acknowledged as one.
        batch_size: i32,
        /// 0 for whole batches, 1 for no more than `max_records`.
        share_acquire_mode: i8 [2.., ignorable],
        /// Whether records are held for longer.
        is_renew_ack: bool [2..],
        /// The partitions that the session gets, and what is acknowledged.
        topics: Vec<ShareFetchTopic>,
        /// The partitions that the session loses.
        forgotten_topics_data: Vec<ShareForgottenTopic>,
    }

    /// A topic in a ShareFetchRequest.
    pub struct ShareFetchTopic {
        /// Its id.
        topic_id: Uuid,
        /// The partitions.
        partitions: Vec<ShareFetchPartition>,
    }

    /// A partition in a ShareFetchRequest.
    pub struct ShareFetchPartition {
        /// Its index.
        partition_index: i32,
        /// What becomes of records.
        acknowledgement_batches: Vec<ShareAcknowledgementBatch>,
    }

    /// What becomes of records in a row.
    pub struct ShareAcknowledgementBatch {
        /// The first record.
        first_offset: i64,
        /// The last record.
        last_offset: i64,
        /// 0 no such record, 1 accept, 2 release, 3 reject, 4 renew: one for all, or one for each.
        acknowledge_types: Vec<i8>,
    }

    /// A topic that the session loses partitions of.
    pub struct ShareForgottenTopic {
        /// Its id.
        topic_id: Uuid,
        /// The partitions.
        partitions: Vec<i32>,
    }

    /// The answer (ShareFetchResponse).
    pub struct ShareFetchResponse, versions 1..=2, flexible 1.. {
        /// How long the client is held back by a quota, in milliseconds.
        throttle_time_ms: i32,
        /// What is wrong, or 0.
        error_code: i16,
        /// What is wrong, for a person.
        error_message: Option<String> = None,
        /// For how long the member holds the records, in milliseconds.
        acquisition_lock_timeout_ms: i32,
        /// The topics.
        responses: Vec<ShareFetchableTopicResponse>,
        /// Where the leaders are that partitions moved to.
        node_endpoints: Vec<ShareNodeEndpoint>,
    }

    /// A topic in a ShareFetchResponse.
    pub struct ShareFetchableTopicResponse {
        /// Its id.
        topic_id: Uuid,
        /// The partitions.
        partitions: Vec<ShareFetchPartitionData>,
    }

    /// A partition in a ShareFetchResponse.
    pub struct ShareFetchPartitionData {
        /// Its index.
        partition_index: i32,
        /// What is wrong with the fetch, or 0.
        error_code: i16,
        /// What is wrong with the fetch, for a person.
        error_message: Option<String> = None,
        /// What is wrong with the acknowledgement, or 0.
        acknowledge_error_code: i16,
        /// What is wrong with the acknowledgement, for a person.
        acknowledge_error_message: Option<String> = None,
        /// Who leads, where it moved.
        current_leader: ShareLeaderIdAndEpoch,
        /// Record batches.
        records: Bytes,
        /// Those of their records that the member holds now.
        acquired_records: Vec<ShareAcquiredRecords>,
    }

    /// The leader of a partition.
    pub struct ShareLeaderIdAndEpoch {
        /// Its id.
        leader_id: i32,
        /// Its epoch.
        leader_epoch: i32,
    }

    /// Records that a member holds.
    pub struct ShareAcquiredRecords {
        /// The first record.
        first_offset: i64,
        /// The last record.
        last_offset: i64,
        /// How often they were delivered.
        delivery_count: i16,
    }

    /// Where a broker is.
    pub struct ShareNodeEndpoint {
        /// Its id.
        node_id: i32,
        /// Its host.
        host: String,
        /// Its port.
        port: i32,
        /// Its rack.
        rack: Option<String> = None,
    }
}
