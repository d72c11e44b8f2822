//! ConsumerGroupHeartbeat (68): a member of a consumer group joins, is alive, and learns what it has (KIP-848).
//!
//! - Since version 1 the client makes its member id (KIP-1082), and may subscribe by a regular expression.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions as Owned;
use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::context::{Context, Disconnect};
use super::{outcome, text};
use crate::error::{ApiError, ErrorCode};
use crate::group::command::{ConsumerHeartbeat, HeartbeatAnswer};
use crate::protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

/// The first version in which members come with their id.
const OWN_MEMBER_ID_FROM: i16 = 1;
/// Joins, leaves, and goes away for a while.
const JOIN_EPOCH: i32 = 0;
const LEAVE_EPOCH: i32 = -1;
const LEAVE_STATIC_EPOCH: i32 = -2;

/// The feature that has to be finalised for it.
const GROUP_VERSION: &str = "group.version";
/// Its name in `group.coordinator.rebalance.protocols`.
const CONSUMER_PROTOCOL: &str = "consumer";

pub(super) async fn handle(
    context: &Context,
    request: ConsumerGroupHeartbeatRequest,
    version: i16,
) -> Result<ConsumerGroupHeartbeatResponse, Disconnect> {
    let answer = match check(context, &request, version) {
        Ok(()) => context.broker.groups.consumer_heartbeat(heartbeat(context, request)).await,
        Err(error) => Err(error),
    };
    let (error_code, error_message) = outcome::code_and_message(&answer);
    let response = ConsumerGroupHeartbeatResponse::default()
        .with_error_code(error_code)
        .with_error_message(error_message);
    Ok(match answer {
        Ok(answer) => with_answer(response, answer),
        Err(_) => response,
    })
}

/// Whether groups may use the consumer protocol.
pub(super) fn check_enabled(context: &Context) -> Result<(), ApiError> {
    let config = context.broker.metadata.broker_config();
    let configured =
        config.group_coordinator_rebalance_protocols.iter().any(|name| name == CONSUMER_PROTOCOL);
    if configured && context.broker.metadata.image().feature(GROUP_VERSION) >= 1 {
        Ok(())
    } else {
        Err(ErrorCode::UnsupportedVersion.into())
    }
}

fn check(context: &Context, request: &ConsumerGroupHeartbeatRequest, version: i16) -> Result<(), ApiError> {
    check_enabled(context)?;
    let require = |holds: bool, message: &str| {
        if holds { Ok(()) } else { Err(ApiError::with(ErrorCode::InvalidRequest, message)) }
    };
    let is_given = |text: Option<&StrBytes>| text.is_none_or(|text| !text.trim().is_empty());
    let epoch = request.member_epoch;
    let needs_id = version >= OWN_MEMBER_ID_FROM || epoch > JOIN_EPOCH || epoch == LEAVE_EPOCH;
    require(!needs_id || is_given(Some(&request.member_id)), "MemberId can't be empty.")?;
    require(is_given(Some(&request.group_id)), "GroupId can't be empty.")?;
    require(is_given(request.instance_id.as_ref()), "InstanceId can't be empty.")?;
    require(is_given(request.rack_id.as_ref()), "RackId can't be empty.")?;
    require(epoch >= LEAVE_STATIC_EPOCH, "MemberEpoch is invalid.")?;
    let has_instance = request.instance_id.is_some();
    require(epoch != LEAVE_STATIC_EPOCH || has_instance, "InstanceId can't be null.")?;
    if epoch == JOIN_EPOCH {
        let has_timeout = request.rebalance_timeout_ms != -1;
        require(has_timeout, "RebalanceTimeoutMs must be provided in first request.")?;
        let owns_nothing = request.topic_partitions.as_ref().is_some_and(Vec::is_empty);
        require(owns_nothing, "TopicPartitions must be empty when (re-)joining.")?;
        let subscribes = request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some();
        let message =
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.";
        require(subscribes, message)?;
    }
    Ok(())
}

fn heartbeat(context: &Context, request: ConsumerGroupHeartbeatRequest) -> ConsumerHeartbeat {
    let names = |names: Vec<_>| names.iter().map(|name: &StrBytes| text::shared(name)).collect();
    let owned = |topic: Owned| (topic.topic_id, topic.partitions.into_iter().collect::<BTreeSet<i32>>());
    ConsumerHeartbeat {
        group_id: text::shared(&request.group_id),
        member_id: text::shared(&request.member_id),
        member_epoch: request.member_epoch,
        instance_id: text::shared_optional(request.instance_id.as_ref()),
        rack_id: text::shared_optional(request.rack_id.as_ref()),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        topics: request
            .subscribed_topic_names
            .map(|topics| names(topics.into_iter().map(|name| name.0).collect())),
        expression: text::shared_optional(request.subscribed_topic_regex.as_ref()),
        assignor: text::shared_optional(request.server_assignor.as_ref()),
        owned: request.topic_partitions.map(|topics| topics.into_iter().map(owned).collect()),
        client_id: text::shared(context.client_id()),
        client_host: context.client_host().into(),
        fresh_member_id: URL_SAFE_NO_PAD.encode(Uuid::new_v4()).into(),
    }
}

fn with_answer(
    response: ConsumerGroupHeartbeatResponse,
    answer: HeartbeatAnswer,
) -> ConsumerGroupHeartbeatResponse {
    let topic = |(topic_id, partitions): (Uuid, BTreeSet<i32>)| {
        TopicPartitions::default().with_topic_id(topic_id).with_partitions(partitions.into_iter().collect())
    };
    let assignment = answer.assignment.map(|partitions| {
        Assignment::default().with_topic_partitions(partitions.into_iter().map(topic).collect())
    });
    response
        .with_member_id(Some(text::wire(&answer.member_id)))
        .with_member_epoch(answer.member_epoch)
        .with_heartbeat_interval_ms(answer.heartbeat_interval_ms)
        .with_assignment(assignment)
}
