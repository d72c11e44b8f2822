//! ShareAcknowledge (79): what became of records that a member of a share group holds (KIP-932).
//!
//! - It is answered once that is written by the share coordinator.
//! - Epoch -1 ends the member's share session, which gives back what it still holds.
//! - Since version 2 records can be held for longer (KIP-1222).

use super::context::{Context, Disconnect};
use super::share::{self, Acknowledged};
use crate::error::{ApiError, ErrorCode};
use crate::protocol::messages::share_acknowledge::{
    ShareAcknowledgePartitionData, ShareAcknowledgeTopicResponse,
};
use crate::protocol::messages::{ShareAcknowledgeRequest, ShareAcknowledgeResponse};
use crate::share::sessions::{FINAL_EPOCH, ShareMember, TopicIdPartition};

pub(super) async fn handle(
    context: &Context,
    request: ShareAcknowledgeRequest,
    version: i16,
) -> Result<ShareAcknowledgeResponse, Disconnect> {
    let member = match begin(context, &request) {
        Ok(member) => member,
        Err(code) => {
            return Ok(ShareAcknowledgeResponse {
                error_code: code.code(),
                ..ShareAcknowledgeResponse::default()
            });
        }
    };
    let (epoch, is_renew) = (request.share_session_epoch, request.is_renew_ack);
    let all = request.topics.into_iter().flat_map(|topic| {
        let topic_id = topic.topic_id;
        topic.partitions.into_iter().map(move |partition| Acknowledged {
            partition: (topic_id, partition.partition_index),
            batches: partition.acknowledgement_batches,
        })
    });
    let answers = share::acknowledge(context, &member, all.collect(), (version, is_renew)).await;
    if epoch == FINAL_EPOCH {
        // Another request may have ended it meanwhile.
        let _ = context.broker.shares.release_session(&member);
    }
    Ok(response(context, &member, answers))
}

fn begin(context: &Context, request: &ShareAcknowledgeRequest) -> Result<ShareMember, ErrorCode> {
    let member = share::member(context, request.group_id.as_deref(), request.member_id.as_deref())?;
    context.broker.shares.sessions().acknowledge(&member, request.share_session_epoch)?;
    Ok(member)
}

fn response(
    context: &Context,
    member: &ShareMember,
    answers: Vec<(TopicIdPartition, Result<(), ApiError>)>,
) -> ShareAcknowledgeResponse {
    let image = context.broker.metadata.image();
    let mut response = ShareAcknowledgeResponse {
        acquisition_lock_timeout_ms: share::lock_timeout_ms(context, member),
        ..ShareAcknowledgeResponse::default()
    };
    for ((topic_id, partition_index), outcome) in answers {
        let error = outcome.err();
        let error_code = error.as_ref().map_or(0, |error| error.code.code());
        let nodes = &mut response.node_endpoints;
        let partition = ShareAcknowledgePartitionData {
            partition_index,
            error_code,
            error_message: error.map(|error| error.to_string()),
            current_leader: share::leader(context, &image, (topic_id, partition_index), error_code, nodes),
            ..ShareAcknowledgePartitionData::default()
        };
        match response.responses.iter_mut().find(|topic| topic.topic_id == topic_id) {
            Some(topic) => topic.partitions.push(partition),
            None => response.responses.push(ShareAcknowledgeTopicResponse {
                topic_id,
                partitions: vec![partition],
                ..ShareAcknowledgeTopicResponse::default()
            }),
        }
    }
    response
}
