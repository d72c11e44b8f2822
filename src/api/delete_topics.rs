//! DeleteTopics (20): deletes topics, each by itself.
//!
//! Up to version 5 topics are named; since version 6 each is given by its name or by its id (KIP-516). When the
//! response leaves, nothing of the topic can be read any more.

use std::collections::HashMap;

use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use uuid::Uuid;

use super::context::{Context, Disconnect};
use super::outcome::{code_and_message, text};
use super::throttle;
use crate::error::{ApiError, ErrorCode};
use crate::metadata::command::PartitionQuota;
use crate::metadata::{Image, Metadata};
use crate::protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};

/// Since this version deletion has an error of its own for "switched off".
const DISABLED_SINCE: i16 = 3;
/// Since this version topics may be given by id, and have no name in the response where it is unknown.
const IDS_SINCE: i16 = 6;

/// Since this version clients know THROTTLING_QUOTA_EXCEEDED (KIP-599).
const STRICT_SINCE: i16 = 5;

pub(super) async fn handle(
    context: &Context,
    request: DeleteTopicsRequest,
    version: i16,
) -> Result<DeleteTopicsResponse, Disconnect> {
    let quota = throttle::partition_quota(context, version >= STRICT_SINCE);
    Ok(delete(&context.broker.metadata, request, version, quota).await)
}

/// A topic as the request gives it, and what became of it.
struct Asked {
    name: Option<String>,
    id: Uuid,
    result: Result<(), ApiError>,
}

pub(super) async fn delete(
    metadata: &Metadata,
    request: DeleteTopicsRequest,
    version: i16,
    quota: PartitionQuota,
) -> DeleteTopicsResponse {
    let mut asked = read(request, version);
    if metadata.broker_config().delete_topic_enable {
        refuse_duplicates(&mut asked);
        resolve(&metadata.image(), &mut asked);
        let ids: Vec<Uuid> =
            asked.iter().filter(|topic| topic.result.is_ok()).map(|topic| topic.id).collect();
        let mut results = metadata.delete_topics(ids, quota).await.into_iter();
        for topic in asked.iter_mut().filter(|topic| topic.result.is_ok()) {
            topic.result = results.next().unwrap_or_else(|| Err(ErrorCode::UnknownServerError.into()));
        }
    } else {
        let code = if version < DISABLED_SINCE {
            ErrorCode::InvalidRequest
        } else {
            ErrorCode::TopicDeletionDisabled
        };
        asked.iter_mut().for_each(|topic| topic.result = Err(code.into()));
    }
    let answer = |topic: Asked| {
        let (code, message) = code_and_message(&topic.result);
        DeletableTopicResult::default()
            .with_name(topic.name.map(|name| text(name).into()))
            .with_topic_id(topic.id)
            .with_error_code(code)
            .with_error_message(message)
    };
    DeleteTopicsResponse::default().with_responses(asked.into_iter().map(answer).collect())
}

fn read(request: DeleteTopicsRequest, version: i16) -> Vec<Asked> {
    if version < IDS_SINCE {
        let names = request.topic_names.into_iter();
        return names
            .map(|name| Asked { name: Some(name.to_string()), id: Uuid::nil(), result: Ok(()) })
            .collect();
    }
    let invalid = |why: &str| Err(ApiError::with(ErrorCode::InvalidRequest, why));
    let topics = request.topics.into_iter().map(|topic| {
        let result = match (&topic.name, topic.topic_id.is_nil()) {
            (None, true) => invalid("Neither topic name nor id were specified."),
            (Some(_), false) => invalid("You may not specify both topic name and topic id."),
            (None, false) | (Some(_), true) => Ok(()),
        };
        Asked { name: topic.name.map(|name| name.to_string()), id: topic.topic_id, result }
    });
    topics.collect()
}

/// What stands twice is deleted by neither, and answered once.
fn refuse_duplicates(asked: &mut Vec<Asked>) {
    let mut times: HashMap<(Option<String>, Uuid), usize> = HashMap::new();
    let key = |topic: &Asked| (topic.name.clone(), topic.id);
    for topic in asked.iter().filter(|topic| topic.result.is_ok()) {
        *times.entry(key(topic)).or_default() += 1;
    }
    asked.retain_mut(|topic| match times.get_mut(&key(topic)) {
        Some(0) => false,
        Some(count) if *count > 1 => {
            *count = 0;
            let what = if topic.name.is_some() { "name" } else { "id" };
            topic.result = Err(ApiError::with(ErrorCode::InvalidRequest, format!("Duplicate topic {what}.")));
            true
        }
        Some(_) | None => true,
    });
}

/// Finds the id of each name and the name of each id.
fn resolve(image: &Image, asked: &mut [Asked]) {
    let mut by_id: HashMap<Uuid, usize> = HashMap::new();
    let mut twice = Vec::new();
    for (at, topic) in asked.iter_mut().enumerate().filter(|(_, topic)| topic.result.is_ok()) {
        let found = match &topic.name {
            Some(name) => image.topics.get(name).ok_or(ErrorCode::UnknownTopicOrPartition),
            None => image.topics.by_id(topic.id).ok_or(ErrorCode::UnknownTopicId),
        };
        match found {
            Ok(found) => {
                topic.id = found.id;
                topic.name = Some(found.name.to_string());
                twice.extend(by_id.insert(found.id, at).map(|other| [other, at]));
            }
            Err(code) => topic.result = Err(code.into()),
        }
    }
    for at in twice.into_iter().flatten() {
        let why = "The provided topic name maps to an ID that was already supplied.";
        asked[at].result = Err(ApiError::with(ErrorCode::InvalidRequest, why));
    }
}
