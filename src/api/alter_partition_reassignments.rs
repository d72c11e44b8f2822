//! AlterPartitionReassignments (45): moves partitions to other brokers, or takes that back (KIP-455).
//!
//! Since version 1 a request may say that the replication factor has to stay what it is (KIP-860).

use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};

use super::context::{Context, Disconnect};
use super::outcome::{code_and_message, text};
use crate::error::ErrorCode;
use crate::metadata::command::Reassignment;
use crate::metadata::controller::reassignments;
use crate::protocol::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};

pub(super) async fn handle(
    context: &Context,
    request: AlterPartitionReassignmentsRequest,
    _version: i16,
) -> Result<AlterPartitionReassignmentsResponse, Disconnect> {
    let allow_change = request.allow_replication_factor_change;
    let mut wanted = Vec::new();
    for topic in &request.topics {
        wanted.extend(topic.partitions.iter().map(|partition| Reassignment {
            topic: topic.name.to_string(),
            partition: partition.partition_index,
            replicas: partition.replicas.as_ref().map(|ids| ids.iter().map(|id| id.0).collect()),
        }));
    }
    let response = AlterPartitionReassignmentsResponse::default()
        .with_allow_replication_factor_change(allow_change)
        .with_error_message(None);
    let metadata = &context.broker.metadata;
    let decided = metadata.ask(move |context| reassignments::alter(context, &wanted, allow_change)).await;
    let mut results = match decided {
        Ok(results) => results.into_iter(),
        Err(error) => {
            let message = Some(text(error.to_string()));
            return Ok(response.with_error_code(error.code.code()).with_error_message(message));
        }
    };
    let mut answer = |index: i32| {
        let unanswered = || Err(ErrorCode::UnknownServerError.into());
        let (code, message) = code_and_message(&results.next().unwrap_or_else(unanswered));
        ReassignablePartitionResponse::default()
            .with_partition_index(index)
            .with_error_code(code)
            .with_error_message(message)
    };
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| answer(partition.partition_index)).collect();
        ReassignableTopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    Ok(response.with_responses(topics.collect()))
}
