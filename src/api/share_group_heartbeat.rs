//! ShareGroupHeartbeat (76): a member of a share group joins, is alive, and learns what it has (KIP-932).
//!
//! Where it brings partitions that no member has read yet, their states are begun with the share coordinator after the
//! answer; one of the next heartbeats tells the member that it has them.

use std::sync::Arc;

use kafka_protocol::messages::share_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::protocol::StrBytes;

use super::context::{Context, Disconnect};
use super::share_groups::{self, check_enabled};
use super::{outcome, text};
use crate::error::{ApiError, ErrorCode};
use crate::group::command::HeartbeatAnswer;
use crate::group::share::command::{ShareCommand, ShareHeartbeat, ShareReply};
use crate::protocol::messages::{ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse};

/// Joins, and leaves.
const JOIN_EPOCH: i32 = 0;
const LEAVE_EPOCH: i32 = -1;
/// The length of a UUID as text: no member id is longer.
const MEMBER_ID_LENGTH_MAX: usize = 36;

pub(super) async fn handle(
    context: &Context,
    request: ShareGroupHeartbeatRequest,
    _version: i16,
) -> Result<ShareGroupHeartbeatResponse, Disconnect> {
    let answer = match check_enabled(context).and_then(|()| check_member_id(&request)) {
        Ok(()) => beat(context, request).await,
        // Here Kafka has no sentence.
        Err(error) => {
            return Ok(ShareGroupHeartbeatResponse::default().with_error_code(error.code.code()));
        }
    };
    let (error_code, error_message) = outcome::code_and_message(&answer);
    let response =
        ShareGroupHeartbeatResponse::default().with_error_code(error_code).with_error_message(error_message);
    Ok(match answer {
        Ok(answer) => with_answer(response, answer),
        Err(_) => response,
    })
}

async fn beat(context: &Context, request: ShareGroupHeartbeatRequest) -> Result<HeartbeatAnswer, ApiError> {
    check(&request)?;
    let group_id = text::shared(&request.group_id);
    let names = |names: Vec<kafka_protocol::messages::TopicName>| {
        names.iter().map(|name| text::shared(name)).collect()
    };
    let heartbeat = ShareHeartbeat {
        group_id: Arc::clone(&group_id),
        member_id: text::shared(&request.member_id),
        member_epoch: request.member_epoch,
        rack_id: text::shared_optional(request.rack_id.as_ref()),
        topics: request.subscribed_topic_names.map(names),
        client_id: text::shared(context.client_id()),
        client_host: context.client_host().into(),
    };
    let answered = context.broker.groups.share(ShareCommand::Heartbeat(Box::new(heartbeat))).await?;
    let ShareReply::Heartbeat(answered) = answered else { return Err(ErrorCode::UnknownServerError.into()) };
    let answered = answered?;
    if let Some(initialize) = answered.initialize {
        let broker = Arc::clone(&context.broker);
        tokio::spawn(async move { share_groups::initialize(&broker, &group_id, initialize).await });
    }
    Ok(answered.answer)
}

fn check_member_id(request: &ShareGroupHeartbeatRequest) -> Result<(), ApiError> {
    let length = request.member_id.encode_utf16().count();
    if (1..=MEMBER_ID_LENGTH_MAX).contains(&length) { Ok(()) } else { Err(ErrorCode::InvalidRequest.into()) }
}

fn check(request: &ShareGroupHeartbeatRequest) -> Result<(), ApiError> {
    let require = |holds: bool, message: &str| {
        if holds { Ok(()) } else { Err(ApiError::with(ErrorCode::InvalidRequest, message)) }
    };
    let is_given = |text: &StrBytes| !text.trim().is_empty();
    require(is_given(&request.member_id), "MemberId can't be empty.")?;
    require(is_given(&request.group_id), "GroupId can't be empty.")?;
    require(request.rack_id.as_ref().is_none_or(is_given), "RackId can't be empty.")?;
    if request.member_epoch == JOIN_EPOCH {
        let subscribes = request.subscribed_topic_names.as_ref().is_some_and(|names| !names.is_empty());
        return require(subscribes, "SubscribedTopicNames must be set in first request.");
    }
    require(request.member_epoch >= LEAVE_EPOCH, "MemberEpoch is invalid.")
}

fn with_answer(
    response: ShareGroupHeartbeatResponse,
    answer: HeartbeatAnswer,
) -> ShareGroupHeartbeatResponse {
    let assignment = answer.assignment.map(|partitions| {
        let topics = partitions.into_iter().map(|(topic_id, partitions)| {
            TopicPartitions::default()
                .with_topic_id(topic_id)
                .with_partitions(partitions.into_iter().collect())
        });
        Assignment::default().with_topic_partitions(topics.collect())
    });
    response
        .with_member_id(Some(text::wire(&answer.member_id)))
        .with_member_epoch(answer.member_epoch)
        .with_heartbeat_interval_ms(answer.heartbeat_interval_ms)
        .with_assignment(assignment)
}
