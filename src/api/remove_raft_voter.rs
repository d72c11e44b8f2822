//! RemoveRaftVoter (81): a voter of the metadata quorum votes no more (KIP-853). The answer comes when that is committed.

use super::context::{Context, Disconnect};
use super::quorum;
use crate::protocol::messages::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use crate::quorum::ReplicaKey;
use crate::quorum::message::Request;

pub(super) async fn handle(
    context: &Context,
    request: RemoveRaftVoterRequest,
    _version: i16,
) -> Result<RemoveRaftVoterResponse, Disconnect> {
    let key = ReplicaKey { id: request.voter_id, directory_id: request.voter_directory_id };
    let answer = match quorum::check_cluster(context, request.cluster_id.as_deref()) {
        Ok(()) => quorum::ask(context, Request::RemoveVoter(key)).await,
        Err(code) => Err(code),
    };
    let (error_code, message) = quorum::outcome(answer);
    Ok(RemoveRaftVoterResponse::default().with_error_code(error_code).with_error_message(message))
}
