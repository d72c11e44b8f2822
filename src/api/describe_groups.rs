//! DescribeGroups (15): groups of the classic protocol with their members.
//!
//! - A group that is not there is `Dead`; since version 6 it is also an error (KIP-1043).

use std::sync::Arc;

use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};

use super::context::{Context, Disconnect};
use super::{authorized, text};
use crate::error::ErrorCode;
use crate::group::command::{DescribedGroup as Described, GroupDescription, MemberDescription};
use crate::protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};

/// The first version in which a group that is not there is an error.
const NOT_FOUND_FROM: i16 = 6;

pub(super) async fn handle(
    context: &Context,
    request: DescribeGroupsRequest,
    version: i16,
) -> Result<DescribeGroupsResponse, Disconnect> {
    let group_ids = request.groups.iter().map(|group_id| text::shared(group_id)).collect();
    let described = context.broker.groups.describe(group_ids).await;
    let groups = described.into_iter().map(|(group_id, described)| {
        let mut group = group(&group_id, described, version);
        let asked = request.include_authorized_operations && group.error_code == 0;
        group.authorized_operations = authorized::if_asked(asked, authorized::GROUP);
        group
    });
    Ok(DescribeGroupsResponse::default().with_groups(groups.collect()))
}

fn group(group_id: &Arc<str>, described: Result<Described, ErrorCode>, version: i16) -> DescribedGroup {
    let group = DescribedGroup::default().with_group_id(text::wire(group_id).into()).with_error_message(None);
    match described {
        Ok(Described { group: Some(found), .. }) => with_description(group, found),
        Ok(Described { group: None, .. }) if version >= NOT_FOUND_FROM => group
            .with_error_code(ErrorCode::GroupIdNotFound.code())
            .with_error_message(Some(text::wire(&format!("Group {group_id} not found."))))
            .with_group_state(text::wire("Dead")),
        Ok(Described { group: None, .. }) => group.with_group_state(text::wire("Dead")),
        Err(code) => group.with_error_code(code.code()),
    }
}

fn with_description(group: DescribedGroup, found: GroupDescription) -> DescribedGroup {
    let member = |member: MemberDescription| {
        DescribedGroupMember::default()
            .with_member_id(text::wire(&member.member_id))
            .with_group_instance_id(text::wire_optional(member.group_instance_id.as_ref()))
            .with_client_id(text::wire(&member.client_id))
            .with_client_host(text::wire(&member.client_host))
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment)
    };
    group
        .with_group_state(text::wire(found.state))
        .with_protocol_type(text::wire(&found.protocol_type))
        .with_protocol_data(text::wire(&found.protocol_name))
        .with_members(found.members.into_iter().map(member).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_is_not_there_is_dead_and_lately_an_error() {
        for version in 0..=6 {
            let nowhere = Ok(Described { group_id: "g".into(), group: None });
            let group = group(&"g".into(), nowhere, version);
            assert_eq!(&*group.group_state, "Dead");
            assert_eq!(group.error_code, if version >= 6 { 69 } else { 0 });
        }
    }
}
