//! ListGroups (16): the groups that this broker coordinates.
//!
//! - Since version 4 states may be asked for (KIP-518), since version 5 types (KIP-848); in any case of letters.

use kafka_protocol::messages::list_groups_response::ListedGroup;

use super::context::{Context, Disconnect};
use super::text;
use crate::group::command::{GroupFilter, ListedGroup as Listed};
use crate::protocol::messages::{ListGroupsRequest, ListGroupsResponse};

pub(super) async fn handle(
    context: &Context,
    request: ListGroupsRequest,
    _version: i16,
) -> Result<ListGroupsResponse, Disconnect> {
    let filter = GroupFilter {
        states: request.states_filter.iter().map(ToString::to_string).collect(),
        types: request.types_filter.iter().map(ToString::to_string).collect(),
    };
    let response = ListGroupsResponse::default();
    Ok(match context.broker.groups.list(filter).await {
        Ok(groups) => response.with_groups(groups.into_iter().map(listed).collect()),
        Err(code) => response.with_error_code(code.code()),
    })
}

fn listed(group: Listed) -> ListedGroup {
    ListedGroup::default()
        .with_group_id(text::wire(&group.group_id).into())
        .with_protocol_type(text::wire(&group.protocol_type))
        .with_group_state(text::wire(group.state))
        .with_group_type(text::wire(group.group_type))
}
