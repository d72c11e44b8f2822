//! ConsumerGroupDescribe (69): groups of the consumer protocol with their members (KIP-848).
//!
//! - Since version 1 it tells which protocol each member uses (KIP-1099).

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};

use super::consumer_group_heartbeat::check_enabled;
use super::context::{Context, Disconnect};
use super::{authorized, outcome, text};
use crate::group::command::{
    ConsumerGroupDescription, ConsumerMemberDescription, DescribedConsumerGroup, NamedPartitions,
};
use crate::protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};

pub(super) async fn handle(
    context: &Context,
    request: ConsumerGroupDescribeRequest,
    _version: i16,
) -> Result<ConsumerGroupDescribeResponse, Disconnect> {
    let group_ids: Vec<_> = request.group_ids.iter().map(|group_id| text::shared(group_id)).collect();
    let described = match check_enabled(context) {
        Ok(()) => context.broker.groups.describe_consumer(group_ids).await,
        Err(error) => {
            let refused = |group_id| DescribedConsumerGroup { group_id, group: Err(error.clone()) };
            group_ids.into_iter().map(refused).collect()
        }
    };
    let groups = described.into_iter().map(|described| {
        let asked = request.include_authorized_operations && described.group.is_ok();
        group(described).with_authorized_operations(authorized::if_asked(asked, authorized::GROUP))
    });
    Ok(ConsumerGroupDescribeResponse::default().with_groups(groups.collect()))
}

fn group(described: DescribedConsumerGroup) -> DescribedGroup {
    let (error_code, error_message) = outcome::code_and_message(&described.group);
    let group = DescribedGroup::default()
        .with_group_id(text::wire(&described.group_id).into())
        .with_error_code(error_code)
        .with_error_message(error_message);
    match described.group {
        Ok(found) => with_description(group, found),
        Err(_) => group,
    }
}

fn with_description(group: DescribedGroup, found: ConsumerGroupDescription) -> DescribedGroup {
    group
        .with_group_state(text::wire(found.state))
        .with_group_epoch(found.epoch)
        .with_assignment_epoch(found.target_epoch)
        .with_assignor_name(text::wire(&found.assignor))
        .with_members(found.members.into_iter().map(member).collect())
}

fn member(member: ConsumerMemberDescription) -> Member {
    let metadata = &member.metadata;
    let topics = metadata.topics.iter().map(|name| TopicName::from(text::wire(name)));
    Member::default()
        .with_member_id(text::wire(&member.member_id))
        .with_instance_id(text::wire_optional(metadata.instance_id.as_ref()))
        .with_rack_id(text::wire_optional(metadata.rack_id.as_ref()))
        .with_member_epoch(member.member_epoch)
        .with_client_id(text::wire(&metadata.client_id))
        .with_client_host(text::wire(&metadata.client_host))
        .with_subscribed_topic_names(topics.collect())
        .with_subscribed_topic_regex(text::wire_optional(metadata.expression.as_ref()))
        .with_member_type(i8::from(metadata.classic.is_none()))
        .with_assignment(assignment(member.assignment))
        .with_target_assignment(assignment(member.target))
}

fn assignment(partitions: NamedPartitions) -> Assignment {
    let topics = partitions.into_iter().map(|(topic_id, (name, partitions))| {
        TopicPartitions::default()
            .with_topic_id(topic_id)
            .with_topic_name(text::wire(&name).into())
            .with_partitions(partitions)
    });
    Assignment::default().with_topic_partitions(topics.collect())
}
