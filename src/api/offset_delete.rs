//! OffsetDelete (47): forgets committed offsets of topics that the group is not subscribed to (KIP-496).

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::messages::offset_delete_request::OffsetDeleteRequestTopic;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};

use super::context::{Context, Disconnect};
use super::text;
use crate::error::ErrorCode;
use crate::group::command::DeleteOffsets;
use crate::metadata::Image;
use crate::protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

pub(super) async fn handle(
    context: &Context,
    request: OffsetDeleteRequest,
    _version: i16,
) -> Result<OffsetDeleteResponse, Disconnect> {
    let image = context.broker.metadata.image();
    let existing = |topic: &OffsetDeleteRequestTopic| {
        let partitions = topic.partitions.iter().map(|partition| partition.partition_index);
        let partitions: Vec<i32> = partitions.filter(|index| exists(&image, &topic.name, *index)).collect();
        (!partitions.is_empty()).then(|| (text::shared(&topic.name), partitions))
    };
    let delete = DeleteOffsets {
        group_id: text::shared(&request.group_id),
        topics: request.topics.iter().filter_map(existing).collect(),
    };
    let deleted = match context.broker.groups.delete_offsets(delete).await {
        Ok(deleted) => deleted,
        Err(code) => return Ok(OffsetDeleteResponse::default().with_error_code(code.code())),
    };
    let mut outcomes: HashMap<(Arc<str>, i32), Option<ErrorCode>> = HashMap::new();
    for topic in deleted {
        outcomes
            .extend(topic.partitions.into_iter().map(|(index, error)| ((topic.topic.clone(), index), error)));
    }
    // What was asked for comes back, in its order; what was not passed on does not exist.
    let topics = request.topics.into_iter().map(|topic| {
        let name = text::shared(&topic.name);
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let outcome = outcomes.get(&(name.clone(), index)).copied();
            let error = outcome.unwrap_or(Some(ErrorCode::UnknownTopicOrPartition));
            OffsetDeleteResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(text::wire_error(error))
        });
        let partitions = partitions.collect();
        OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(partitions)
    });
    Ok(OffsetDeleteResponse::default().with_topics(topics.collect()))
}

fn exists(image: &Image, topic: &str, index: i32) -> bool {
    image.topics.get(topic).is_some_and(|topic| topic.partition(index).is_some())
}
