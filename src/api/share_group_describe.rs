//! ShareGroupDescribe (77): share groups with their members (KIP-932).

use std::sync::Arc;

use futures_util::future::join_all;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::share_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};

use super::context::{Context, Disconnect};
use super::share_groups::check_enabled;
use super::{authorized, outcome, text};
use crate::error::{ApiError, ErrorCode};
use crate::group::share::command::{ShareCommand, ShareGroupDescription, ShareMemberDescription, ShareReply};
use crate::protocol::messages::{ShareGroupDescribeRequest, ShareGroupDescribeResponse};

pub(super) async fn handle(
    context: &Context,
    request: ShareGroupDescribeRequest,
    _version: i16,
) -> Result<ShareGroupDescribeResponse, Disconnect> {
    let enabled = check_enabled(context);
    let groups = request.group_ids.iter().map(|group_id| {
        let enabled = &enabled;
        async move {
            let group = DescribedGroup::default().with_group_id(group_id.clone());
            if let Err(error) = enabled {
                return group.with_error_code(error.code.code());
            }
            let described = describe(context, text::shared(group_id)).await;
            let asked = request.include_authorized_operations && described.is_ok();
            let (error_code, error_message) = outcome::code_and_message(&described);
            let group = group
                .with_error_code(error_code)
                .with_error_message(error_message)
                .with_authorized_operations(authorized::if_asked(asked, authorized::GROUP));
            match described {
                Ok(found) => with_description(group, found),
                Err(_) => group,
            }
        }
    });
    Ok(ShareGroupDescribeResponse::default().with_groups(join_all(groups).await))
}

async fn describe(context: &Context, group_id: Arc<str>) -> Result<ShareGroupDescription, ApiError> {
    if group_id.trim().is_empty() {
        return Err(ErrorCode::InvalidGroupId.into());
    }
    let ShareReply::Describe(described) =
        context.broker.groups.share(ShareCommand::Describe { group_id }).await?
    else {
        return Err(ErrorCode::UnknownServerError.into());
    };
    described
}

fn with_description(group: DescribedGroup, found: ShareGroupDescription) -> DescribedGroup {
    group
        .with_group_state(text::wire(found.state))
        .with_group_epoch(found.epoch)
        .with_assignment_epoch(found.target_epoch)
        .with_assignor_name(text::wire(found.assignor))
        .with_members(found.members.into_iter().map(member).collect())
}

fn member(member: ShareMemberDescription) -> Member {
    let metadata = &member.metadata;
    let topics = metadata.topics.iter().map(|name| TopicName::from(text::wire(name)));
    let assigned = member.assignment.into_iter().map(|(topic_id, (name, partitions))| {
        TopicPartitions::default()
            .with_topic_id(topic_id)
            .with_topic_name(text::wire(&name).into())
            .with_partitions(partitions)
    });
    Member::default()
        .with_member_id(text::wire(&member.member_id))
        .with_rack_id(text::wire_optional(metadata.rack_id.as_ref()))
        .with_member_epoch(member.member_epoch)
        .with_client_id(text::wire(&metadata.client_id))
        .with_client_host(text::wire(&metadata.client_host))
        .with_subscribed_topic_names(topics.collect())
        .with_assignment(Assignment::default().with_topic_partitions(assigned.collect()))
}
