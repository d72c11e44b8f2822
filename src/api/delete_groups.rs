//! DeleteGroups (42): forgets empty groups, with their committed offsets, and share groups with what the share
//! coordinators have of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;

use super::context::{Context, Disconnect};
use super::{share_groups, text};
use crate::protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

pub(super) async fn handle(
    context: &Context,
    request: DeleteGroupsRequest,
    _version: i16,
) -> Result<DeleteGroupsResponse, Disconnect> {
    let mut seen = BTreeSet::new();
    let group_ids = request.groups_names.iter().filter(|group_id| seen.insert((*group_id).clone()));
    let mut group_ids: Vec<Arc<str>> = group_ids.map(|group_id| text::shared(group_id)).collect();
    let refused = share_groups::delete_states(&context.broker, &group_ids).await;
    group_ids.retain(|group_id| !refused.contains_key(group_id));
    let deleted = context.broker.groups.delete_groups(group_ids).await.into_iter();
    let refused = refused.into_iter().map(|(group_id, code)| (group_id, Some(code)));
    let results = refused.chain(deleted).map(|(group_id, error)| {
        DeletableGroupResult::default()
            .with_group_id(text::wire(&group_id).into())
            .with_error_code(text::wire_error(error))
    });
    Ok(DeleteGroupsResponse::default().with_results(results.collect()))
}
