//! FindCoordinator (10): which broker coordinates a group, a transactional id, or a partition for a share group.
//!
//! - Up to version 3 one key, since version 4 several, each with its own error.
//! - The first request creates the topic of its coordinators, and is answered when it is there. Apache Kafka answers
//!   COORDINATOR_NOT_AVAILABLE instead and lets the client ask again; this saves every new cluster a round of waiting.
//! - Of a share group it is asked for one partition at a time, by `group:topicId:partition`, since version 6 (KIP-932).

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::protocol::StrBytes;

use super::context::{Context, Disconnect};
use super::nodes::Node;
use super::{auto_create, nodes, text};
use crate::error::{ApiError, ErrorCode};
use crate::protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use crate::share::types::SharePartition;
use crate::types::{CONSUMER_OFFSETS_TOPIC, SHARE_GROUP_STATE_TOPIC, TRANSACTION_STATE_TOPIC};

/// The first version with several keys.
const KEYS_FROM: i16 = 4;
/// The first version in which a share group's coordinator can be asked for (KIP-932).
const SHARE_FROM: i16 = 6;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

pub(super) async fn handle(
    context: &Context,
    request: FindCoordinatorRequest,
    version: i16,
) -> Result<FindCoordinatorResponse, Disconnect> {
    if version < KEYS_FROM {
        let found = find(context, request.key_type, &request.key, version).await;
        return Ok(single(found));
    }
    let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
    for key in request.coordinator_keys {
        let found = find(context, request.key_type, &key, version).await;
        coordinators.push(one_of_many(key, found));
    }
    Ok(FindCoordinatorResponse::default().with_coordinators(coordinators))
}

async fn find(context: &Context, key_type: i8, key: &str, version: i16) -> Result<Node, ApiError> {
    match key_type {
        GROUP => {
            let groups = &context.broker.groups;
            find_leader(context, CONSUMER_OFFSETS_TOPIC, || groups.partition_for(key)).await
        }
        TRANSACTION => {
            let transactions = &context.broker.transactions;
            find_leader(context, TRANSACTION_STATE_TOPIC, || transactions.partition_for(key)).await
        }
        SHARE if version >= SHARE_FROM => {
            let of = SharePartition::from_coordinator_key(key).ok_or(ErrorCode::InvalidRequest)?;
            let (shares, key) = (&context.broker.share_state, of.coordinator_key());
            find_leader(context, SHARE_GROUP_STATE_TOPIC, || shares.partition_for(&key)).await
        }
        _ => Err(ErrorCode::InvalidRequest.into()),
    }
}

/// The leader of the coordinator's partition, once there is one that the client can reach.
async fn find_leader(
    context: &Context,
    topic: &str,
    partition_for: impl Fn() -> i32,
) -> Result<Node, ApiError> {
    let broker = &context.broker;
    if broker.metadata.image().topics.get(topic).is_none() {
        auto_create::create(broker, vec![topic]).await;
    }
    let image = broker.metadata.image();
    let topic = image.topics.get(topic).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let leader = topic.partition(partition_for()).ok_or(ErrorCode::CoordinatorNotAvailable)?.leader;
    nodes::alive_node(context, &image, leader).ok_or_else(|| ErrorCode::CoordinatorNotAvailable.into())
}

fn single(found: Result<Node, ApiError>) -> FindCoordinatorResponse {
    let response = FindCoordinatorResponse::default();
    match found {
        Ok(node) => response
            .with_error_message(None)
            .with_node_id(node.id.into())
            .with_host(text::wire(&node.host))
            .with_port(node.port.into()),
        Err(error) => response
            .with_error_code(error.code.code())
            .with_error_message(Some(text::wire(&error.to_string())))
            .with_node_id((-1).into())
            .with_port(-1),
    }
}

fn one_of_many(key: StrBytes, found: Result<Node, ApiError>) -> Coordinator {
    let coordinator = Coordinator::default().with_key(key);
    match found {
        Ok(node) => coordinator
            .with_node_id(node.id.into())
            .with_host(text::wire(&node.host))
            .with_port(node.port.into()),
        Err(error) => coordinator
            .with_error_code(error.code.code())
            .with_error_message(Some(text::wire(&error.to_string())))
            .with_node_id((-1).into())
            .with_port(-1),
    }
}
