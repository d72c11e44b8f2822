//! OffsetCommit (8): a consumer remembers how far it has come.
//!
//! - Up to version 9 topics have names, since version 10 ids, and the response has what the request had.
//! - `retention_time_ms` of versions 2 to 4 is honoured.
//! - A member of a group that is not there is told ILLEGAL_GENERATION, since version 9 GROUP_ID_NOT_FOUND.
//! - Partitions that do not exist are answered here; the group hears of the others.

use std::collections::HashMap;

use uuid::Uuid;

use super::context::{Context, Disconnect};
use super::resolve::{self, TopicRef};
use super::text;
use crate::error::ErrorCode;
use crate::group::command::{CommitOffsets, CommittedPartition, CommittedTopic, TopicOutcome};
use crate::metadata::{Image, TopicImage};
use crate::protocol::messages::offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use crate::protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

/// The first version that names topics by id.
const TOPIC_IDS_FROM: i16 = 10;
/// The first version in which an unknown group is called one.
const GROUP_NOT_FOUND_FROM: i16 = 9;

pub(super) async fn handle(
    context: &Context,
    request: OffsetCommitRequest,
    version: i16,
) -> Result<OffsetCommitResponse, Disconnect> {
    let image = context.broker.metadata.image();
    let topics: Vec<CommittedTopic> =
        request.topics.iter().filter_map(|topic| existing(&image, topic, version)).collect();
    let committed = if topics.is_empty() {
        Ok(Vec::new())
    } else {
        let commit = CommitOffsets {
            group_id: text::shared(&request.group_id),
            generation_id: request.generation_id_or_member_epoch,
            member_id: text::shared(&request.member_id),
            group_instance_id: request.group_instance_id.as_deref().map(text::shared),
            retention_time_ms: Some(request.retention_time_ms).filter(|retention_ms| *retention_ms != -1),
            unknown_group: unknown_group(version),
            topics,
        };
        context.broker.groups.commit_offsets(commit).await
    };
    let outcomes = Outcomes::of(committed);
    let topics = request.topics.into_iter().map(|topic| answer(&image, topic, version, &outcomes));
    Ok(OffsetCommitResponse { topics: topics.collect(), ..OffsetCommitResponse::default() })
}

fn unknown_group(version: i16) -> ErrorCode {
    if version >= GROUP_NOT_FOUND_FROM { ErrorCode::GroupIdNotFound } else { ErrorCode::IllegalGeneration }
}

fn topic_ref(topic: &OffsetCommitRequestTopic, version: i16) -> TopicRef<'_> {
    if version >= TOPIC_IDS_FROM { TopicRef::Id(topic.topic_id) } else { TopicRef::Name(&topic.name) }
}

fn existing(image: &Image, topic: &OffsetCommitRequestTopic, version: i16) -> Option<CommittedTopic> {
    let found = resolve::topic(image, topic_ref(topic, version)).ok()?;
    let partitions: Vec<_> = topic.partitions.iter().filter_map(|asked| committed(found, asked)).collect();
    (!partitions.is_empty()).then(|| CommittedTopic {
        topic: found.name.clone(),
        topic_id: found.id,
        partitions,
    })
}

fn committed(topic: &TopicImage, asked: &OffsetCommitRequestPartition) -> Option<CommittedPartition> {
    topic.partition(asked.partition_index).map(|_| CommittedPartition {
        partition: asked.partition_index,
        offset: asked.committed_offset,
        leader_epoch: asked.committed_leader_epoch,
        metadata: asked.committed_metadata.clone(),
    })
}

/// What the group says of each partition, or of all.
enum Outcomes {
    Each(HashMap<(Uuid, i32), Option<ErrorCode>>),
    All(ErrorCode),
}

impl Outcomes {
    fn of(committed: Result<Vec<TopicOutcome>, ErrorCode>) -> Self {
        let topics = match committed {
            Ok(topics) => topics,
            Err(code) => return Self::All(code),
        };
        let mut each = HashMap::new();
        for topic in topics {
            each.extend(topic.partitions.into_iter().map(|(index, error)| ((topic.topic_id, index), error)));
        }
        Self::Each(each)
    }

    fn get(&self, topic_id: Uuid, index: i32) -> Option<ErrorCode> {
        match self {
            Self::Each(each) => each.get(&(topic_id, index)).copied().flatten(),
            Self::All(code) => Some(*code),
        }
    }
}

fn answer(
    image: &Image,
    topic: OffsetCommitRequestTopic,
    version: i16,
    outcomes: &Outcomes,
) -> OffsetCommitResponseTopic {
    let found = resolve::topic(image, topic_ref(&topic, version));
    let error = |index: i32| match &found {
        Ok(found) if found.partition(index).is_none() => Some(ErrorCode::UnknownTopicOrPartition),
        Ok(found) => outcomes.get(found.id, index),
        Err(code) => Some(*code),
    };
    let partition = |asked: OffsetCommitRequestPartition| OffsetCommitResponsePartition {
        partition_index: asked.partition_index,
        error_code: text::wire_error(error(asked.partition_index)),
        ..OffsetCommitResponsePartition::default()
    };
    OffsetCommitResponseTopic {
        partitions: topic.partitions.into_iter().map(partition).collect(),
        name: topic.name,
        topic_id: topic.topic_id,
        ..OffsetCommitResponseTopic::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_group_has_its_code_by_version() {
        for version in 2..=10 {
            assert_eq!(unknown_group(version).code(), if version >= 9 { 69 } else { 22 });
        }
    }
}
