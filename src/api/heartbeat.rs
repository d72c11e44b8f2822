//! Heartbeat (12): a member is alive, and learns whether it has to join again.

use super::context::{Context, Disconnect};
use super::text;
use crate::group::command::Heartbeat;
use crate::protocol::messages::{HeartbeatRequest, HeartbeatResponse};

pub(super) async fn handle(
    context: &Context,
    request: HeartbeatRequest,
    _version: i16,
) -> Result<HeartbeatResponse, Disconnect> {
    let heartbeat = Heartbeat {
        group_id: text::shared(&request.group_id),
        generation_id: request.generation_id,
        member_id: text::shared(&request.member_id),
        group_instance_id: text::shared_optional(request.group_instance_id.as_ref()),
    };
    let error = context.broker.groups.heartbeat(heartbeat).await.err();
    Ok(HeartbeatResponse::default().with_error_code(text::wire_error(error)))
}
