//! AlterShareGroupOffsets (91): sets the offsets from which a share group without members reads, and makes the group
//! where there is none (KIP-932).

use std::sync::Arc;

use kafka_protocol::messages::alter_share_group_offsets_response::{
    AlterShareGroupOffsetsResponsePartition, AlterShareGroupOffsetsResponseTopic,
};

use super::context::{Context, Disconnect};
use super::share_groups::{self, Failed, check_enabled};
use super::{outcome, text};
use crate::error::{ApiError, ErrorCode};
use crate::group::share::command::{
    AlterShareOffsets, AlterTopic, AlteredShareOffsets, AlteredTopic, ShareCommand, ShareReply,
};
use crate::protocol::messages::{AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse};

pub(super) async fn handle(
    context: &Context,
    request: AlterShareGroupOffsetsRequest,
    _version: i16,
) -> Result<AlterShareGroupOffsetsResponse, Disconnect> {
    let altered = match check_enabled(context) {
        Ok(()) => alter(context, request).await,
        Err(error) => Err(error),
    };
    let (error_code, error_message) = outcome::code_and_message(&altered);
    let response = AlterShareGroupOffsetsResponse::default()
        .with_error_code(error_code)
        .with_error_message(error_message);
    Ok(match altered {
        Ok((topics, failed)) => {
            response.with_responses(topics.into_iter().map(|one| topic(one, &failed)).collect())
        }
        Err(_) => response,
    })
}

async fn alter(
    context: &Context,
    request: AlterShareGroupOffsetsRequest,
) -> Result<(Vec<AlteredTopic>, Failed), ApiError> {
    let group_id = text::shared(&request.group_id);
    if group_id.is_empty() {
        return Err(ErrorCode::InvalidGroupId.into());
    }
    let topics = request.topics.into_iter().map(|topic| {
        let offsets = topic.partitions.iter().map(|p| (p.partition_index, p.start_offset)).collect();
        AlterTopic { topic: text::shared(&topic.topic_name), offsets }
    });
    let command = AlterShareOffsets { group_id: Arc::clone(&group_id), topics: topics.collect() };
    let ShareReply::AlterOffsets(altered) =
        context.broker.groups.share(ShareCommand::AlterOffsets(command)).await?
    else {
        return Err(ErrorCode::UnknownServerError.into());
    };
    let AlteredShareOffsets { topics, initialize } = altered?;
    if initialize.start_offsets.is_empty() {
        return Ok((topics, Failed::new()));
    }
    let partitions = initialize.partitions();
    let failed = share_groups::begin(&context.broker, &group_id, &initialize).await;
    if failed.is_empty() {
        // What failed stays as it is: the request has to be made again.
        context.broker.groups.share(ShareCommand::Initialized { group_id, partitions }).await?;
    }
    Ok((topics, failed))
}

fn topic(topic: AlteredTopic, failed: &Failed) -> AlterShareGroupOffsetsResponseTopic {
    let partitions = topic.partitions.into_iter().map(|(index, error)| {
        let error = error.map(ApiError::from).or_else(|| failed.get(&(topic.topic_id, index)).cloned());
        let (error_code, error_message) = outcome::code_and_message(&error.map_or(Ok(()), Err));
        AlterShareGroupOffsetsResponsePartition::default()
            .with_partition_index(index)
            .with_error_code(error_code)
            .with_error_message(error_message)
    });
    AlterShareGroupOffsetsResponseTopic::default()
        .with_topic_name(text::wire(&topic.topic).into())
        .with_topic_id(topic.topic_id)
        .with_partitions(partitions.collect())
}
