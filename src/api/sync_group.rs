//! SyncGroup (14): the leader brings the assignment, every member takes its own. Held until the leader's is there.
//!
//! - Since version 5 members say which protocol they believe in, and must.

use super::context::{Context, Disconnect};
use super::text;
use crate::error::ErrorCode;
use crate::group::command::SyncGroup;
use crate::protocol::messages::{SyncGroupRequest, SyncGroupResponse};

/// The first version with protocol type and name.
const PROTOCOL_FROM: i16 = 5;

pub(super) async fn handle(
    context: &Context,
    request: SyncGroupRequest,
    version: i16,
) -> Result<SyncGroupResponse, Disconnect> {
    if version >= PROTOCOL_FROM && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        return Ok(refused(ErrorCode::InconsistentGroupProtocol));
    }
    let assignments = request.assignments.into_iter();
    let sync = SyncGroup {
        group_id: text::shared(&request.group_id),
        generation_id: request.generation_id,
        member_id: text::shared(&request.member_id),
        group_instance_id: text::shared_optional(request.group_instance_id.as_ref()),
        protocol_type: text::shared_optional(request.protocol_type.as_ref()),
        protocol_name: text::shared_optional(request.protocol_name.as_ref()),
        assignments: assignments.map(|member| (text::shared(&member.member_id), member.assignment)).collect(),
    };
    Ok(match context.broker.groups.sync(sync).await {
        Ok(synced) => SyncGroupResponse::default()
            .with_protocol_type(text::wire_optional(synced.protocol_type.as_ref()))
            .with_protocol_name(text::wire_optional(synced.protocol_name.as_ref()))
            .with_assignment(synced.assignment),
        Err(code) => refused(code),
    })
}

fn refused(code: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse::default().with_error_code(code.code())
}
