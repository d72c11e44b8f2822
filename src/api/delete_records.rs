//! DeleteRecords (21): moves the start of a partition's log, and answers where it is then.
//!
//! - Offset -1 means the high watermark; an offset above it is OFFSET_OUT_OF_RANGE.
//! - Internal topics and topics that are only compacted are refused.

use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};

use super::context::{Context, Disconnect};
use super::resolve;
use crate::error::ErrorCode;
use crate::protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use crate::types::{Offset, is_internal_topic};

/// What stands for the high watermark (`DeleteRecordsRequest.HIGH_WATERMARK`).
const HIGH_WATERMARK: Offset = -1;

pub(super) async fn handle(
    context: &Context,
    request: DeleteRecordsRequest,
    _version: i16,
) -> Result<DeleteRecordsResponse, Disconnect> {
    let mut response = DeleteRecordsResponse::default();
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let deleted = delete(context, &topic.name, partition.partition_index, partition.offset).await;
            let (low_watermark, error_code) = match deleted {
                Ok(low_watermark) => (low_watermark, 0),
                Err(code) => (-1, code.code()),
            };
            partitions.push(
                DeleteRecordsPartitionResult::default()
                    .with_partition_index(partition.partition_index)
                    .with_low_watermark(low_watermark)
                    .with_error_code(error_code),
            );
        }
        response
            .topics
            .push(DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions));
    }
    Ok(response)
}

async fn delete(context: &Context, topic: &str, index: i32, before: Offset) -> Result<Offset, ErrorCode> {
    let image = context.broker.metadata.image();
    let found = resolve::named_partition(&context.broker, &image, topic, index);
    drop(image);
    if found.is_ok() && is_internal_topic(topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let partition = found?;
    if partition.config().compacts() && !partition.config().deletes() {
        return Err(ErrorCode::PolicyViolation);
    }
    if before < HIGH_WATERMARK {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    partition.delete_records(before).await.map_err(|error| error.code)
}
