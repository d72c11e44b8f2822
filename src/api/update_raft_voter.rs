//! UpdateRaftVoter (82): a voter of the metadata quorum says where it is reached now, and at which levels of
//! `kraft.version` it can work (KIP-853).

use kafka_protocol::messages::update_raft_voter_response::CurrentLeader;

use super::context::{Context, Disconnect};
use super::outcome::text;
use super::quorum;
use crate::error::ErrorCode;
use crate::protocol::messages::{UpdateRaftVoterRequest, UpdateRaftVoterResponse};
use crate::quorum::message::{Request, Response};
use crate::quorum::{ReplicaKey, VersionRange, Voter};

pub(super) async fn handle(
    context: &Context,
    request: UpdateRaftVoterRequest,
    _version: i16,
) -> Result<UpdateRaftVoterResponse, Disconnect> {
    Ok(match update(context, &request).await {
        Ok(response) => response,
        Err(code) => UpdateRaftVoterResponse::default().with_error_code(code.code()),
    })
}

async fn update(
    context: &Context,
    request: &UpdateRaftVoterRequest,
) -> Result<UpdateRaftVoterResponse, ErrorCode> {
    quorum::check_cluster(context, request.cluster_id.as_deref())?;
    let listeners = request.listeners.iter();
    let range = &request.k_raft_version_feature;
    let voter = Voter {
        key: ReplicaKey { id: request.voter_id, directory_id: request.voter_directory_id },
        endpoints: listeners.map(|one| quorum::endpoint(&one.name, &one.host, one.port)).collect(),
        kraft_versions: VersionRange { min: range.min_supported_version, max: range.max_supported_version },
    };
    let asked = Request::UpdateVoter(request.current_leader_epoch, voter);
    let Response::UpdateVoter(header) = quorum::ask(context, asked).await?.response else {
        return Err(ErrorCode::UnknownServerError);
    };
    let mut leader = CurrentLeader::default()
        .with_leader_id(quorum::leader(&header).into())
        .with_leader_epoch(header.epoch);
    if let Some((_, endpoint)) = quorum::leader_endpoint(context, &header) {
        leader = leader.with_host(text(endpoint.host.clone())).with_port(endpoint.port.into());
    }
    Ok(UpdateRaftVoterResponse::default().with_error_code(quorum::code(&header)).with_current_leader(leader))
}
