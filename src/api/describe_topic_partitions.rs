//! DescribeTopicPartitions (75): topics and their partitions, page by page (KIP-966).
//!
//! - Without topics, all of them. In the order of names, from the cursor on.
//! - A page has `response_partition_limit` partitions at most (at least 1, at most
//!   `max.request.partition.size.limit`); the cursor of the response says where the next one starts.

use std::collections::BTreeSet;

use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{BrokerId, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::context::{Context, Disconnect};
use super::{authorized, nodes, resolve};
use crate::error::ErrorCode;
use crate::metadata::{Image, PartitionImage, TopicImage};
use crate::protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use crate::types::{NodeId, is_internal_topic};

pub(super) async fn handle(
    context: &Context,
    request: DescribeTopicPartitionsRequest,
    _version: i16,
) -> Result<DescribeTopicPartitionsResponse, Disconnect> {
    let image = context.broker.metadata.image();
    let (start_topic, start_partition) = match &request.cursor {
        Some(cursor) => (&*cursor.topic_name.0, cursor.partition_index),
        None => ("", 0),
    };
    let named: BTreeSet<&str> = request.topics.iter().map(|topic| &*topic.name.0).collect();
    let unknown_start = request.cursor.is_some() && !named.is_empty() && !named.contains(start_topic);
    if unknown_start || start_partition < 0 {
        return Ok(invalid(&named));
    }
    let all = named.is_empty();
    let names: Vec<&str> = if all {
        image.topics.starting_at(start_topic).map(|topic| &*topic.name).collect()
    } else {
        named.range(start_topic..).copied().collect()
    };
    let limit = context.broker.metadata.broker_config().max_request_partition_size_limit;
    let limit = usize::try_from(request.response_partition_limit.min(limit)).unwrap_or(0).max(1);
    let mut page =
        Page { context, image: &image, left: limit, response: DescribeTopicPartitionsResponse::default() };
    for name in names {
        let first = if name == start_topic { start_partition } else { 0 };
        if !page.add(name, first, all) {
            break;
        }
    }
    Ok(page.response)
}

fn invalid(named: &BTreeSet<&str>) -> DescribeTopicPartitionsResponse {
    let topics = named.iter().map(|name| missing(name, ErrorCode::InvalidRequest));
    DescribeTopicPartitionsResponse::default().with_topics(topics.collect())
}

fn missing(name: &str, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(code.code())
        .with_name(Some(topic_name(name)))
        .with_is_internal(is_internal_topic(name))
        .with_topic_authorized_operations(authorized::TOPIC)
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// A page that is being filled.
struct Page<'a> {
    context: &'a Context,
    image: &'a Image,
    left: usize,
    response: DescribeTopicPartitionsResponse,
}

impl Page<'_> {
    /// Adds a topic from partition `first` on, as far as there is room. Whether there may be more.
    fn add(&mut self, name: &str, first: i32, only_existing: bool) -> bool {
        if self.left == 0 {
            self.end_before(name, 0);
            return false;
        }
        let Some(topic) = self.image.topics.get(name) else {
            if !only_existing {
                let code = match resolve::invalid_topic_name(name) {
                    Some(_) => ErrorCode::InvalidTopicException,
                    None => ErrorCode::UnknownTopicOrPartition,
                };
                self.response.topics.push(missing(name, code));
            }
            return true;
        };
        let partitions: Vec<_> = topic
            .partitions()
            .skip_while(|(index, _)| *index < first)
            .take(self.left)
            .map(|(index, partition)| self.partition(index, partition))
            .collect();
        let next = first.saturating_add(i32::try_from(partitions.len()).unwrap_or(i32::MAX));
        self.left -= partitions.len();
        self.response.topics.push(described(topic, partitions));
        if next < topic.partition_count() {
            self.end_before(name, next);
            return false;
        }
        true
    }

    fn end_before(&mut self, name: &str, partition: i32) {
        let cursor = Cursor::default().with_topic_name(topic_name(name)).with_partition_index(partition);
        self.response.next_cursor = Some(cursor);
    }

    fn partition(&self, index: i32, partition: &PartitionImage) -> DescribeTopicPartitionsResponsePartition {
        let is_alive = |id: NodeId| nodes::alive_node(self.context, self.image, id).is_some();
        let ids = |ids: &[NodeId]| ids.iter().map(|id| BrokerId(*id)).collect::<Vec<_>>();
        let leader_alive = is_alive(partition.leader);
        let offline: Vec<_> = partition.replicas.iter().copied().filter(|id| !is_alive(*id)).collect();
        DescribeTopicPartitionsResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(if leader_alive { partition.leader } else { -1 }))
            .with_leader_epoch(partition.leader_epoch)
            .with_replica_nodes(ids(&partition.replicas))
            .with_isr_nodes(ids(&partition.isr))
            .with_eligible_leader_replicas(Some(ids(&partition.elr)))
            .with_last_known_elr(Some(ids(&partition.last_known_elr)))
            .with_offline_replicas(ids(&offline))
    }
}

fn described(
    topic: &TopicImage,
    partitions: Vec<DescribeTopicPartitionsResponsePartition>,
) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_topic_id(topic.id)
        .with_is_internal(is_internal_topic(&topic.name))
        .with_partitions(partitions)
        .with_topic_authorized_operations(authorized::TOPIC)
}
