//! DeleteShareGroupOffsets (92): forgets what a share group without members has done with topics (KIP-932).

use std::sync::Arc;

use kafka_protocol::messages::delete_share_group_offsets_response::DeleteShareGroupOffsetsResponseTopic;
use uuid::Uuid;

use super::context::{Context, Disconnect};
use super::share_groups::{self, check_enabled};
use super::{outcome, text};
use crate::error::{ApiError, ErrorCode};
use crate::group::share::command::{DeletedShareOffsets, ShareCommand, ShareReply};
use crate::protocol::messages::{DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse};

/// A topic, and what became of its offsets.
type Outcome = (Arc<str>, Uuid, Result<(), ApiError>);

pub(super) async fn handle(
    context: &Context,
    request: DeleteShareGroupOffsetsRequest,
    _version: i16,
) -> Result<DeleteShareGroupOffsetsResponse, Disconnect> {
    let deleted = match check_enabled(context) {
        Ok(()) => delete(context, request).await,
        Err(error) => Err(error),
    };
    let (error_code, error_message) = outcome::code_and_message(&deleted);
    let response = DeleteShareGroupOffsetsResponse::default()
        .with_error_code(error_code)
        .with_error_message(error_message);
    Ok(response.with_responses(deleted.unwrap_or_default().into_iter().map(topic).collect()))
}

async fn delete(
    context: &Context,
    request: DeleteShareGroupOffsetsRequest,
) -> Result<Vec<Outcome>, ApiError> {
    let (broker, group_id) = (&context.broker, text::shared(&request.group_id));
    if group_id.trim().is_empty() {
        return Err(ErrorCode::InvalidGroupId.into());
    }
    let topics = request.topics.iter().map(|topic| text::shared(&topic.topic_name)).collect();
    let command = ShareCommand::DeleteOffsets { group_id: Arc::clone(&group_id), topics };
    let ShareReply::DeleteOffsets(deleted) = broker.groups.share(command).await? else {
        return Err(ErrorCode::UnknownServerError.into());
    };
    let DeletedShareOffsets { states, refused } = deleted?;
    let mut outcomes: Vec<Outcome> =
        refused.into_iter().map(|(topic, error)| (topic, Uuid::nil(), Err(error))).collect();
    let mut failed = share_groups::delete(broker, &group_id, &states).await;
    let image = broker.metadata.image();
    let mut topic_ids = Vec::new();
    for topic_id in states.keys() {
        let name = image.topics.by_id(*topic_id).map(|topic| Arc::clone(&topic.name)).unwrap_or_default();
        let error = failed.extract_if(.., |(failed, _), _| failed == topic_id).map(|(_, error)| error).next();
        if error.is_none() {
            topic_ids.push(*topic_id);
        }
        // The sentence is that of the code.
        outcomes.push((name, *topic_id, error.map_or(Ok(()), |error| Err(error.code.into()))));
    }
    if !topic_ids.is_empty() {
        broker.groups.share(ShareCommand::OffsetsDeleted { group_id, topic_ids }).await?;
    }
    Ok(outcomes)
}

fn topic((topic, topic_id, result): Outcome) -> DeleteShareGroupOffsetsResponseTopic {
    let (error_code, error_message) = outcome::code_and_message(&result);
    DeleteShareGroupOffsetsResponseTopic::default()
        .with_topic_name(text::wire(&topic).into())
        .with_topic_id(topic_id)
        .with_error_code(error_code)
        .with_error_message(error_message)
}
