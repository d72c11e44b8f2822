//! WriteTxnMarkers (27): version 2 tells the transaction's version (KIP-1228), which the crate's request can not.

use crate::protocol::schema::schema;

schema! {
    /// Ends transactions in partitions (WriteTxnMarkersRequest).
    pub struct WriteTxnMarkersRequest, versions 1..=2, flexible 1.. {
        /// The markers to write.
        markers: Vec<WritableTxnMarker>,
    }

    /// A marker in a WriteTxnMarkersRequest.
    pub struct WritableTxnMarker {
        /// Whose transaction it is.
        producer_id: i64,
        /// The producer's epoch.
        producer_epoch: i16,
        /// Whether it is committed.
        transaction_result: bool,
        /// Where to write it.
        topics: Vec<WritableTxnMarkerTopic>,
        /// The leader epoch of the coordinator's partition.
        coordinator_epoch: i32,
        /// The level of `transaction.version` that the transaction was ended at.
        transaction_version: i8 [2.., ignorable],
    }

    /// A topic in a WriteTxnMarkersRequest.
    pub struct WritableTxnMarkerTopic {
        /// Its name.
        name: String,
        /// The partitions.
        partition_indexes: Vec<i32>,
    }

    /// The answer (WriteTxnMarkersResponse).
    pub struct WriteTxnMarkersResponse, versions 1..=2, flexible 1.. {
        /// What became of each marker.
        markers: Vec<WritableTxnMarkerResult>,
    }

    /// What became of a marker.
    pub struct WritableTxnMarkerResult {
        /// Whose transaction it is.
        producer_id: i64,
        /// The topics that were asked for.
        topics: Vec<WritableTxnMarkerTopicResult>,
    }

    /// A topic in a WriteTxnMarkersResponse.
    pub struct WritableTxnMarkerTopicResult {
        /// Its name.
        name: String,
        /// The partitions.
        partitions: Vec<WritableTxnMarkerPartitionResult>,
    }

    /// A partition in a WriteTxnMarkersResponse.
    pub struct WritableTxnMarkerPartitionResult {
        /// Its index.
        partition_index: i32,
        /// What is wrong, or 0.
        error_code: i16,
    }
}
