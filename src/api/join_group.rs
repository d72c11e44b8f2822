//! JoinGroup (11): become a member of a group, or stay one in its next generation. Held until the members are complete.
//!
//! - Version 0 has no rebalance timeout: the session timeout counts.
//! - Since version 4 a new member is first told its id (KIP-394); since version 5 members may be static (KIP-345).
//! - Since version 7 the protocol's name may be null, since version 9 a leader may be told not to assign (KIP-814).

use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use uuid::Uuid;

use super::context::{Context, Disconnect};
use super::text;
use crate::group::command::{JoinGroup, JoinedGroup, JoinedMember, Protocol, RefusedJoin};
use crate::protocol::messages::{JoinGroupRequest, JoinGroupResponse};

/// The first version in which a new member needs an id before it joins.
const MEMBER_ID_REQUIRED_FROM: i16 = 4;
/// The first version with null for a protocol that is not there.
const NULL_PROTOCOL_FROM: i16 = 7;
/// The first version whose clients can skip the assignment.
const SKIP_ASSIGNMENT_FROM: i16 = 9;

pub(super) async fn handle(
    context: &Context,
    request: JoinGroupRequest,
    version: i16,
) -> Result<JoinGroupResponse, Disconnect> {
    let protocol = |protocol: kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol| {
        Protocol { name: text::shared(&protocol.name), metadata: protocol.metadata }
    };
    let join = JoinGroup {
        group_id: text::shared(&request.group_id),
        member_id: text::shared(&request.member_id),
        group_instance_id: text::shared_optional(request.group_instance_id.as_ref()),
        client_id: text::shared(context.client_id()),
        client_host: context.client_host().into(),
        protocol_type: text::shared(&request.protocol_type),
        protocols: request.protocols.into_iter().map(protocol).collect(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: if version == 0 {
            request.session_timeout_ms
        } else {
            request.rebalance_timeout_ms
        },
        member_id_required: version >= MEMBER_ID_REQUIRED_FROM,
        can_skip_assignment: version >= SKIP_ASSIGNMENT_FROM,
        fresh_id: Uuid::new_v4(),
        reason: request.reason.map(|reason| reason.to_string()),
    };
    Ok(match context.broker.groups.join(join).await {
        Ok(group) => joined(group, version),
        Err(error) => refused(&error, version),
    })
}

fn joined(group: JoinedGroup, version: i16) -> JoinGroupResponse {
    let member = |member: JoinedMember| {
        JoinGroupResponseMember::default()
            .with_member_id(text::wire(&member.member_id))
            .with_group_instance_id(text::wire_optional(member.group_instance_id.as_ref()))
            .with_metadata(member.metadata)
    };
    let nothing = (version < NULL_PROTOCOL_FROM).then(|| text::wire(""));
    JoinGroupResponse::default()
        .with_generation_id(group.generation_id)
        .with_protocol_type(text::wire_optional(group.protocol_type.as_ref()))
        .with_protocol_name(text::wire_optional(group.protocol_name.as_ref()).or(nothing))
        .with_leader(text::wire(&group.leader))
        .with_skip_assignment(group.skip_assignment)
        .with_member_id(text::wire(&group.member_id))
        .with_members(group.members.into_iter().map(member).collect())
}

fn refused(error: &RefusedJoin, version: i16) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_error_code(error.code.code())
        .with_generation_id(-1)
        .with_protocol_name((version < NULL_PROTOCOL_FROM).then(|| text::wire("")))
        .with_member_id(text::wire(&error.member_id))
}
