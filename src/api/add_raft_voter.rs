//! AddRaftVoter (80): a controller that follows the metadata log becomes a voter (KIP-853).
//!
//! Since version 1 the answer may come before the change is committed (KIP-1186).

use super::context::{Context, Disconnect};
use super::quorum;
use crate::protocol::messages::{AddRaftVoterRequest, AddRaftVoterResponse};
use crate::quorum::message::{AddVoterRequest, Request};
use crate::quorum::{ReplicaKey, VersionRange, Voter};

pub(super) async fn handle(
    context: &Context,
    request: AddRaftVoterRequest,
    _version: i16,
) -> Result<AddRaftVoterResponse, Disconnect> {
    let answer = match quorum::check_cluster(context, request.cluster_id.as_deref()) {
        Ok(()) => quorum::ask(context, Request::AddVoter(asked(&request))).await,
        Err(code) => Err(code),
    };
    let (error_code, message) = quorum::outcome(answer);
    let error_message = message.map(|message| message.to_string());
    Ok(AddRaftVoterResponse { error_code, error_message, ..AddRaftVoterResponse::default() })
}

fn asked(request: &AddRaftVoterRequest) -> AddVoterRequest {
    let listeners = request.listeners.iter();
    let voter = Voter {
        key: ReplicaKey { id: request.voter_id, directory_id: request.voter_directory_id },
        endpoints: listeners.map(|one| quorum::endpoint(&one.name, &one.host, one.port)).collect(),
        // The leader asks the new voter itself.
        kraft_versions: VersionRange::SUPPORTED,
    };
    AddVoterRequest { voter, ack_when_committed: request.ack_when_committed }
}
