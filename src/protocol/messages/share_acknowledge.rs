//! ShareAcknowledge (79): version 2 has renewals (KIP-1222), which the crate's messages lack.

use uuid::Uuid;

use super::share_fetch::{ShareAcknowledgementBatch, ShareLeaderIdAndEpoch, ShareNodeEndpoint};
use crate::protocol::schema::schema;

schema! {
    /// Acknowledges records that a member of a share group holds (ShareAcknowledgeRequest).
    pub struct ShareAcknowledgeRequest, versions 1..=2, flexible 1.. {
        /// The group.
        group_id: Option<String> = None,
        /// The member.
        member_id: Option<String>,
        /// The epoch of the share session; -1 ends it.
        share_session_epoch: i32,
        /// Whether records are held for longer.
        is_renew_ack: bool [2..],
        /// The topics.
        topics: Vec<ShareAcknowledgeTopic>,
    }

    /// A topic in a ShareAcknowledgeRequest.
    pub struct ShareAcknowledgeTopic {
        /// Its id.
        topic_id: Uuid,
        /// The partitions.
        partitions: Vec<ShareAcknowledgePartition>,
    }

    /// A partition in a ShareAcknowledgeRequest.
    pub struct ShareAcknowledgePartition {
        /// Its index.
        partition_index: i32,
        /// What becomes of records.
        acknowledgement_batches: Vec<ShareAcknowledgementBatch>,
    }

    /// The answer (ShareAcknowledgeResponse).
    pub struct ShareAcknowledgeResponse, versions 1..=2, flexible 1.. {
        /// How long the client is held back by a quota, in milliseconds.
        throttle_time_ms: i32,
        /// What is wrong, or 0.
        error_code: i16,
        /// What is wrong, for a person.
        error_message: Option<String> = None,
        /// For how long the member holds records, in milliseconds.
        acquisition_lock_timeout_ms: i32 [2.., ignorable],
        /// The topics.
        responses: Vec<ShareAcknowledgeTopicResponse>,
        /// Where the leaders are that partitions moved to.
        node_endpoints: Vec<ShareNodeEndpoint>,
    }

    /// A topic in a ShareAcknowledgeResponse.
    pub struct ShareAcknowledgeTopicResponse {
        /// Its id.
        topic_id: Uuid,
        /// The partitions.
        partitions: Vec<ShareAcknowledgePartitionData>,
    }

    /// A partition in a ShareAcknowledgeResponse.
    pub struct ShareAcknowledgePartitionData {
        /// Its index.
        partition_index: i32,
        /// What is wrong, or 0.
        error_code: i16,
        /// What is wrong, for a person.
        error_message: Option<String> = None,
        /// Who leads, where it moved.
        current_leader: ShareLeaderIdAndEpoch,
    }
}
