//! ElectLeaders (43): elects leaders of partitions (KIP-183, KIP-460).
//!
//! - Since version 1 it is said which kind of election; before, preferred replicas are elected.
//! - Where all partitions are asked for, those that need no election are left out of the response.

use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};

use super::context::{Context, Disconnect};
use super::outcome::{code_and_message, text};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::command::ElectionType;
use crate::metadata::controller::elections;
use crate::protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};

pub(super) async fn handle(
    context: &Context,
    request: ElectLeadersRequest,
    version: i16,
) -> Result<ElectLeadersResponse, Disconnect> {
    let kind = match request.election_type {
        0 => Ok(ElectionType::Preferred),
        1 => Ok(ElectionType::Unclean),
        other => Err(ApiError::with(ErrorCode::InvalidRequest, format!("Unknown election type {other}"))),
    };
    let all = request.topic_partitions.is_none();
    let topics: Vec<(String, Vec<i32>)> = match request.topic_partitions {
        Some(topics) => topics.into_iter().map(|topic| (topic.topic.to_string(), topic.partitions)).collect(),
        None => every_partition(context),
    };
    let flat: Vec<(String, i32)> = topics
        .iter()
        .flat_map(|(topic, numbers)| numbers.iter().map(|number| (topic.clone(), *number)))
        .collect();
    let metadata = &context.broker.metadata;
    let decided = match kind {
        Ok(kind) => metadata.decide(move |context| elections::elect(context, kind, &flat)).await,
        Err(error) => Err(error),
    };
    let code = decided.as_ref().err().map_or(0, |error| error.code.code());
    let mut results = decided.as_ref().map_or(&[][..], Vec::as_slice).iter();
    let failed = || decided.as_ref().map(drop).map_err(Clone::clone);
    let mut answer = |number: i32| {
        let result = results.next().cloned().unwrap_or_else(failed);
        let is_needed = !matches!(&result, Err(error) if error.code == ErrorCode::ElectionNotNeeded);
        let (code, message) = code_and_message(&result);
        let answer = PartitionResult::default().with_partition_id(number).with_error_code(code);
        (is_needed || !all).then(|| answer.with_error_message(message))
    };
    let topics = topics.into_iter().map(|(topic, numbers)| {
        let partitions = numbers.into_iter().filter_map(&mut answer).collect();
        ReplicaElectionResult::default().with_topic(text(topic).into()).with_partition_result(partitions)
    });
    let response = ElectLeadersResponse::default().with_replica_election_results(topics.collect());
    Ok(if version > 0 { response.with_error_code(code) } else { response })
}

fn every_partition(context: &Context) -> Vec<(String, Vec<i32>)> {
    let image = context.broker.metadata.image();
    let numbers =
        |topic: &crate::metadata::TopicImage| topic.partitions().map(|(number, _)| number).collect();
    image.topics.iter().map(|topic| (topic.name.to_string(), numbers(topic))).collect()
}
