//! LeaveGroup (13): members leave, by themselves or by an administrator.
//!
//! - Up to version 2 one member, whose error is the response's; since version 3 several (KIP-345), each with its own.
//! - Since version 5 with a reason (KIP-800).

use kafka_protocol::messages::leave_group_response::MemberResponse;

use super::context::{Context, Disconnect};
use super::text;
use crate::error::ErrorCode;
use crate::group::command::{LeaveGroup, LeavingMember, LeftMember};
use crate::protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

/// The first version in which several members leave.
const MEMBERS_FROM: i16 = 3;

pub(super) async fn handle(
    context: &Context,
    request: LeaveGroupRequest,
    version: i16,
) -> Result<LeaveGroupResponse, Disconnect> {
    let members = if version < MEMBERS_FROM {
        vec![LeavingMember { member_id: text::shared(&request.member_id), ..LeavingMember::default() }]
    } else {
        let leaving = request.members.into_iter().map(|member| LeavingMember {
            member_id: text::shared(&member.member_id),
            group_instance_id: text::shared_optional(member.group_instance_id.as_ref()),
            reason: member.reason.map(|reason| reason.to_string()),
        });
        leaving.collect()
    };
    let leave = LeaveGroup { group_id: text::shared(&request.group_id), members };
    Ok(response(context.broker.groups.leave(leave).await, version))
}

fn response(left: Result<Vec<LeftMember>, ErrorCode>, version: i16) -> LeaveGroupResponse {
    let response = LeaveGroupResponse::default();
    let members = match left {
        Ok(members) => members,
        Err(code) => return response.with_error_code(code.code()),
    };
    if version < MEMBERS_FROM {
        return response.with_error_code(text::wire_error(members.first().and_then(|member| member.error)));
    }
    let member = |member: LeftMember| {
        MemberResponse::default()
            .with_member_id(text::wire(&member.member_id))
            .with_group_instance_id(text::wire_optional(member.group_instance_id.as_ref()))
            .with_error_code(text::wire_error(member.error))
    };
    response.with_members(members.into_iter().map(member).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_member_answers_for_all_in_old_versions() {
        let left = |error| {
            Ok(vec![LeftMember { member_id: "m".into(), group_instance_id: Some("i".into()), error }])
        };
        let unknown = Some(ErrorCode::UnknownMemberId);
        for version in 0..=2 {
            assert_eq!(response(left(unknown), version).error_code, 25);
            assert_eq!(response(left(unknown), version).members.len(), 0);
            assert_eq!(response(left(None), version).error_code, 0);
        }
        for version in 3..=5 {
            assert_eq!(response(left(unknown), version).error_code, 0);
            assert_eq!(response(left(unknown), version).members[0].error_code, 25);
            assert_eq!(response(Err(ErrorCode::NotCoordinator), version).error_code, 16);
        }
    }
}
