//! OffsetFetch (9): how far a group has come.
//!
//! - Up to version 7 one group, since version 8 several (KIP-709), each with its own error.
//! - No list of topics asks for everything that is committed (version 2 and later).
//! - What is not committed is offset -1 and no error; a group that is not there has committed nothing.
//! - Version 1 has no error of the whole: it stands at each partition.
//! - Since version 10 topics have ids; a committed offset of another topic of the same name is not shown.
//! - `require_stable` (version 7 and later): an offset that an open transaction may change is not told, but
//!   UNSTABLE_OFFSET_COMMIT.

use std::sync::Arc;

use futures_util::future::join_all;
use uuid::Uuid;

use super::context::{Context, Disconnect};
use super::text;
use crate::error::ErrorCode;
use crate::group::command::{FetchOffsets, FetchTopic, FetchedTopic};
use crate::metadata::Image;
use crate::protocol::messages::offset_fetch::{
    OffsetFetchRequestTopic, OffsetFetchRequestTopics, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use crate::protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};

/// The first version with an error of the whole group, and with null for all topics.
const GROUP_ERROR_FROM: i16 = 2;
/// The first version with several groups.
const GROUPS_FROM: i16 = 8;
/// The first version that names topics by id.
const TOPIC_IDS_FROM: i16 = 10;

pub(super) async fn handle(
    context: &Context,
    request: OffsetFetchRequest,
    version: i16,
) -> Result<OffsetFetchResponse, Disconnect> {
    let image = context.broker.metadata.image();
    if version < GROUPS_FROM {
        return Ok(one_group(context, request, version).await);
    }
    let (image, require_stable) = (&image, request.require_stable);
    let groups = request.groups.into_iter().map(|group| async move {
        let (asked, mut topics) = resolve(image, group.topics, version);
        // Who says that it is a member is one, in this epoch.
        let is_member = group.member_id.is_some() || group.member_epoch >= 0;
        let member =
            is_member.then(|| (group.member_id.as_deref().unwrap_or_default().into(), group.member_epoch));
        let fetched = fetch(context, &group.group_id, member, asked, require_stable).await;
        let error = fetched.as_ref().err().copied();
        if error.is_some() {
            topics.clear();
        }
        let found = fetched.unwrap_or_default().into_iter();
        topics.extend(found.filter_map(|topic| identified(image, topic, version)));
        OffsetFetchResponseGroup {
            group_id: group.group_id,
            topics,
            error_code: text::wire_error(error),
            ..OffsetFetchResponseGroup::default()
        }
    });
    Ok(OffsetFetchResponse { groups: join_all(groups).await, ..OffsetFetchResponse::default() })
}

async fn fetch(
    context: &Context,
    group_id: &str,
    member: Option<(Arc<str>, i32)>,
    topics: Option<Vec<FetchTopic>>,
    require_stable: bool,
) -> Result<Vec<FetchedTopic>, ErrorCode> {
    let group_id = text::shared(group_id);
    context.broker.groups.fetch_offsets(FetchOffsets { group_id, member, topics, require_stable }).await
}

async fn one_group(context: &Context, request: OffsetFetchRequest, version: i16) -> OffsetFetchResponse {
    let asked = |topic: &OffsetFetchRequestTopic| FetchTopic {
        topic: text::shared(&topic.name),
        topic_id: Uuid::nil(),
        partitions: topic.partition_indexes.clone(),
    };
    let topics = request.topics.as_ref().map(|topics| topics.iter().map(asked).collect());
    match fetch(context, &request.group_id, None, topics, request.require_stable).await {
        Ok(topics) => OffsetFetchResponse {
            topics: topics.into_iter().map(topic_with_name).collect(),
            ..OffsetFetchResponse::default()
        },
        Err(code) if version >= GROUP_ERROR_FROM => {
            OffsetFetchResponse { error_code: code.code(), ..OffsetFetchResponse::default() }
        }
        Err(code) => OffsetFetchResponse {
            topics: request
                .topics
                .unwrap_or_default()
                .into_iter()
                .map(|topic| failed_topic(topic, code))
                .collect(),
            ..OffsetFetchResponse::default()
        },
    }
}

fn stability(is_unstable: bool) -> i16 {
    if is_unstable { ErrorCode::UnstableOffsetCommit.code() } else { 0 }
}

fn topic_with_name(topic: FetchedTopic) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|partition| OffsetFetchResponsePartition {
        partition_index: partition.partition,
        committed_offset: partition.offset,
        committed_leader_epoch: partition.leader_epoch,
        metadata: Some(partition.metadata.to_string()),
        error_code: stability(partition.is_unstable),
        ..OffsetFetchResponsePartition::default()
    });
    OffsetFetchResponseTopic {
        name: topic.topic.to_string(),
        partitions: partitions.collect(),
        ..OffsetFetchResponseTopic::default()
    }
}

fn failed_topic(topic: OffsetFetchRequestTopic, code: ErrorCode) -> OffsetFetchResponseTopic {
    let partitions =
        topic.partition_indexes.into_iter().map(|partition_index| OffsetFetchResponsePartition {
            partition_index,
            committed_offset: -1,
            metadata: Some(String::new()),
            error_code: code.code(),
            ..OffsetFetchResponsePartition::default()
        });
    OffsetFetchResponseTopic {
        name: topic.name,
        partitions: partitions.collect(),
        ..OffsetFetchResponseTopic::default()
    }
}

/// What is asked of the group, and the answers for topics that do not exist.
fn resolve(
    image: &Image,
    topics: Option<Vec<OffsetFetchRequestTopics>>,
    version: i16,
) -> (Option<Vec<FetchTopic>>, Vec<OffsetFetchResponseTopics>) {
    let Some(topics) = topics else { return (None, Vec::new()) };
    let (mut asked, mut unknown) = (Vec::with_capacity(topics.len()), Vec::new());
    for topic in topics {
        let name = if version < TOPIC_IDS_FROM {
            text::shared(&topic.name)
        } else if let Some(found) = image.topics.by_id(topic.topic_id) {
            found.name.clone()
        } else {
            unknown.push(unknown_topic(&topic));
            continue;
        };
        asked.push(FetchTopic { topic: name, topic_id: topic.topic_id, partitions: topic.partition_indexes });
    }
    (Some(asked), unknown)
}

fn unknown_topic(topic: &OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
    let partitions = topic.partition_indexes.iter().map(|index| OffsetFetchResponsePartitions {
        partition_index: *index,
        committed_offset: -1,
        metadata: Some(String::new()),
        error_code: ErrorCode::UnknownTopicId.code(),
        ..OffsetFetchResponsePartitions::default()
    });
    OffsetFetchResponseTopics {
        topic_id: topic.topic_id,
        partitions: partitions.collect(),
        ..OffsetFetchResponseTopics::default()
    }
}

/// A topic of the answer. One whose id nobody knows any more has no place where ids are the names.
fn identified(image: &Image, topic: FetchedTopic, version: i16) -> Option<OffsetFetchResponseTopics> {
    let mut topic_id = topic.topic_id;
    if version >= TOPIC_IDS_FROM && topic_id.is_nil() {
        topic_id = image.topics.get(&topic.topic)?.id;
    }
    let partitions = topic.partitions.into_iter().map(|partition| OffsetFetchResponsePartitions {
        partition_index: partition.partition,
        committed_offset: partition.offset,
        committed_leader_epoch: partition.leader_epoch,
        metadata: Some(partition.metadata.to_string()),
        error_code: stability(partition.is_unstable),
        ..OffsetFetchResponsePartitions::default()
    });
    Some(OffsetFetchResponseTopics {
        name: topic.topic.to_string(),
        topic_id,
        partitions: partitions.collect(),
        ..OffsetFetchResponseTopics::default()
    })
}
