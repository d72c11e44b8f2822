//! DeleteRecords (21): moves the start of a partition's log, and answers where it is then.
//!
//! - Answered once the logs of all replicas that are alive start there, or REQUEST_TIMED_OUT with the smallest start.
//! - Offset -1 means the high watermark; an offset above it is OFFSET_OUT_OF_RANGE.
//! - Internal topics and topics that are only compacted are refused.

use std::sync::Arc;

use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};

use super::context::{Context, Disconnect};
use super::resolve;
use crate::error::ErrorCode;
use crate::log::Partition;
use crate::protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use crate::types::{Offset, is_internal_topic};

/// What stands for the high watermark (`DeleteRecordsRequest.HIGH_WATERMARK`).
const HIGH_WATERMARK: Offset = -1;

pub(super) async fn handle(
    context: &Context,
    request: DeleteRecordsRequest,
    _version: i16,
) -> Result<DeleteRecordsResponse, Disconnect> {
    let clock = &context.broker.clock;
    let deadline_ms = clock.steady_ms().saturating_add(request.timeout_ms.into());
    // All are begun before the first is waited for.
    let mut begun = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let index = partition.partition_index;
            partitions.push((index, delete(context, &topic.name, index, partition.offset).await));
        }
        begun.push((topic.name, partitions));
    }
    let mut response = DeleteRecordsResponse::default();
    for (name, begun) in begun {
        let mut partitions = Vec::with_capacity(begun.len());
        for (index, begun) in begun {
            let (low_watermark, error_code) = match begun {
                Ok((partition, log_start)) => replicated(context, &partition, log_start, deadline_ms).await,
                Err(code) => (-1, code.code()),
            };
            partitions.push(
                DeleteRecordsPartitionResult::default()
                    .with_partition_index(index)
                    .with_low_watermark(low_watermark)
                    .with_error_code(error_code),
            );
        }
        response.topics.push(DeleteRecordsTopicResult::default().with_name(name).with_partitions(partitions));
    }
    Ok(response)
}

/// Waits until the followers that are alive have moved their log starts too.
async fn replicated(
    context: &Context,
    partition: &Partition,
    log_start: Offset,
    deadline_ms: i64,
) -> (Offset, i16) {
    let reached = tokio::select! {
        biased;
        reached = partition.reach_low_watermark(log_start) => reached,
        () = context.broker.clock.sleep_until(deadline_ms) => Err(ErrorCode::RequestTimedOut),
    };
    let low_watermark = partition.low_watermark();
    match (reached, low_watermark) {
        (Ok(()), Ok(low_watermark)) => (low_watermark, 0),
        (Err(code), Ok(low_watermark)) => (low_watermark, code.code()),
        (_, Err(code)) => (-1, code.code()),
    }
}

async fn delete(
    context: &Context,
    topic: &str,
    index: i32,
    before: Offset,
) -> Result<(Arc<Partition>, Offset), ErrorCode> {
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
    let log_start = partition.delete_records(before).await.map_err(|error| error.code)?;
    Ok((partition, log_start))
}
