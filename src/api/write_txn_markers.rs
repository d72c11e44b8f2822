//! WriteTxnMarkers (27): ends transactions in partitions. Brokers send it to each other, and admin clients to abort a
//! transaction that nobody else ends any more.
//!
//! - Version 2 says at which level of `transaction.version` a transaction was ended (KIP-1228).
//! - In `__consumer_offsets` the marker is the group coordinator's, which makes the offsets of the transaction count.

use std::sync::Arc;

use futures_util::future::join_all;

use super::context::{Context, Disconnect};
use super::text;
use crate::error::ErrorCode;
use crate::log::Marker;
use crate::protocol::messages::write_txn_markers::{
    WritableTxnMarker, WritableTxnMarkerPartitionResult, WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult,
};
use crate::protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use crate::types::TopicPartition;

pub(super) async fn handle(
    context: &Context,
    request: WriteTxnMarkersRequest,
    _version: i16,
) -> Result<WriteTxnMarkersResponse, Disconnect> {
    let markers = request.markers.into_iter().map(|marker| write(context, marker));
    Ok(WriteTxnMarkersResponse { markers: join_all(markers).await, ..WriteTxnMarkersResponse::default() })
}

async fn write(context: &Context, request: WritableTxnMarker) -> WritableTxnMarkerResult {
    let marker = Marker {
        producer_id: request.producer_id,
        producer_epoch: request.producer_epoch,
        coordinator_epoch: request.coordinator_epoch,
        is_commit: request.transaction_result,
        transaction_version: request.transaction_version.into(),
    };
    let topics = request.topics.into_iter().map(async |topic| {
        let name = text::shared(&topic.name);
        let partitions = topic.partition_indexes.into_iter().map(|index| {
            let partition = TopicPartition { topic: Arc::clone(&name), partition: index };
            let begun = context.broker.markers.begin(&partition, &marker);
            async move {
                let written = match begun {
                    Ok(writing) => writing.await,
                    Err(code) => Err(code),
                };
                WritableTxnMarkerPartitionResult {
                    partition_index: index,
                    error_code: text::wire_error(written.err().map(told_to_brokers)),
                    ..WritableTxnMarkerPartitionResult::default()
                }
            }
        });
        WritableTxnMarkerTopicResult {
            partitions: join_all(partitions).await,
            name: topic.name,
            ..WritableTxnMarkerTopicResult::default()
        }
    });
    WritableTxnMarkerResult {
        producer_id: request.producer_id,
        topics: join_all(topics).await,
        ..WritableTxnMarkerResult::default()
    }
}

/// A transaction coordinator does not expect the codes of a group coordinator.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other codes mean the same to everybody")]
fn told_to_brokers(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::CoordinatorNotAvailable
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::NotCoordinator => ErrorCode::NotLeaderOrFollower,
        other => other,
    }
}
