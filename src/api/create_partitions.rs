//! CreatePartitions (37): gives topics more partitions, each topic by itself.
//!
//! A topic that stands twice in the request is refused. When the response leaves, the new partitions take records.

use std::collections::HashMap;

use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;

use super::context::{Context, Disconnect};
use super::outcome::{code_and_message, text};
use super::throttle;
use crate::error::{ApiError, ErrorCode};
use crate::metadata::Metadata;
use crate::metadata::command::{NewPartitions, PartitionQuota};
use crate::protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

/// Since this version clients know THROTTLING_QUOTA_EXCEEDED (KIP-599).
const STRICT_SINCE: i16 = 3;

pub(super) async fn handle(
    context: &Context,
    request: CreatePartitionsRequest,
    version: i16,
) -> Result<CreatePartitionsResponse, Disconnect> {
    let quota = throttle::partition_quota(context, version >= STRICT_SINCE);
    Ok(create(&context.broker.metadata, request, quota).await)
}

pub(super) async fn create(
    metadata: &Metadata,
    request: CreatePartitionsRequest,
    quota: PartitionQuota,
) -> CreatePartitionsResponse {
    let mut times: HashMap<String, usize> = HashMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.to_string()).or_default() += 1;
    }
    let (mut wanted, mut results) = (Vec::new(), Vec::new());
    for topic in request.topics {
        let name = topic.name.to_string();
        let Some(count) = times.get_mut(&name).filter(|count| **count > 0) else { continue };
        if *count > 1 {
            // Of several only the first is answered.
            *count = 0;
            let why = ApiError::with(ErrorCode::InvalidRequest, "Duplicate topic name.");
            results.push(answer(&name, &Err(why)));
            continue;
        }
        let ids = |ids: Vec<kafka_protocol::messages::BrokerId>| ids.into_iter().map(|id| id.0).collect();
        let assignments = topic.assignments.map(|assignments| {
            assignments.into_iter().map(|assignment| ids(assignment.broker_ids)).collect()
        });
        wanted.push(NewPartitions { topic: name, count: topic.count, assignments });
    }
    let created = metadata.create_partitions(wanted.clone(), request.validate_only, quota).await;
    results.extend(wanted.iter().zip(&created).map(|(topic, result)| answer(&topic.topic, result)));
    CreatePartitionsResponse::default().with_results(results)
}

fn answer(name: &str, result: &Result<(), ApiError>) -> CreatePartitionsTopicResult {
    let (code, message) = code_and_message(result);
    CreatePartitionsTopicResult::default()
        .with_name(text(name).into())
        .with_error_code(code)
        .with_error_message(message)
}
