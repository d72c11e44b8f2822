//! ListPartitionReassignments (46): which partitions are moving to other brokers (KIP-455). Partitions that are not,
//! and topics that there are not, are left out.

use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};

use super::context::{Context, Disconnect};
use super::outcome::text;
use crate::metadata::{PartitionImage, TopicImage};
use crate::protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};
use crate::types::NodeId;

pub(super) async fn handle(
    context: &Context,
    request: ListPartitionReassignmentsRequest,
    _version: i16,
) -> Result<ListPartitionReassignmentsResponse, Disconnect> {
    let image = context.broker.metadata.image();
    let topics = match request.topics {
        Some(topics) => topics
            .iter()
            .filter_map(|wanted| moving(image.topics.get(&wanted.name)?, Some(&wanted.partition_indexes)))
            .collect(),
        None => image.topics.iter().filter_map(|topic| moving(topic, None)).collect(),
    };
    Ok(ListPartitionReassignmentsResponse::default().with_error_message(None).with_topics(topics))
}

/// The partitions of a topic that are being reassigned; `None` where there are none.
fn moving(topic: &TopicImage, wanted: Option<&[i32]>) -> Option<OngoingTopicReassignment> {
    let ids = |ids: &[NodeId]| ids.iter().copied().map(BrokerId).collect();
    let ongoing = |(number, partition): (i32, &PartitionImage)| {
        OngoingPartitionReassignment::default()
            .with_partition_index(number)
            .with_replicas(ids(&partition.replicas))
            .with_adding_replicas(ids(&partition.adding_replicas))
            .with_removing_replicas(ids(&partition.removing_replicas))
    };
    let is_wanted = |number: &i32| wanted.is_none_or(|wanted| wanted.contains(number));
    let moving =
        topic.partitions().filter(|(number, partition)| is_wanted(number) && partition.is_reassigning());
    let partitions: Vec<_> = moving.map(ongoing).collect();
    let name = text(topic.name.to_string()).into();
    (!partitions.is_empty())
        .then(|| OngoingTopicReassignment::default().with_name(name).with_partitions(partitions))
}
