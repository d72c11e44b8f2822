//! What the requests between the nodes of the quorum have in common (KIP-595, KIP-853).

use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::context::Context;
use super::outcome::text;
use crate::error::{ApiError, ErrorCode};
use crate::quorum::message::{Header, Outcome, Request, Response};
use crate::quorum::{Answer, ReplicaKey, VoterEndpoint};
use crate::types::{CLUSTER_METADATA_TOPIC, NodeId};

/// The name of the metadata log's topic.
pub(super) fn topic_name() -> kafka_protocol::messages::TopicName {
    text(CLUSTER_METADATA_TOPIC).into()
}

/// Whether a request names the metadata log alone: one topic, with one partition.
pub(super) fn is_metadata_log<'a>(topics: impl Iterator<Item = (&'a str, Vec<i32>)>) -> bool {
    topics.eq([(CLUSTER_METADATA_TOPIC, vec![0])])
}

/// Refuses a request that names another cluster; one that names none is taken.
pub(super) fn check_cluster(context: &Context, cluster_id: Option<&str>) -> Result<(), ErrorCode> {
    match cluster_id {
        Some(id) if id != &**context.broker.metadata.cluster_id() => Err(ErrorCode::InconsistentClusterId),
        Some(_) | None => Ok(()),
    }
}

/// Has the quorum answer.
pub(super) async fn ask(context: &Context, request: Request) -> Result<Answer, ErrorCode> {
    let answer = context.broker.metadata.quorum().ask(request).await;
    // A node that stops is not there any more.
    answer.map_err(|_: ApiError| ErrorCode::BrokerNotAvailable)
}

/// The code of an answer; 0 where there is none.
pub(super) fn code(header: &Header) -> i16 {
    header.error.map_or(0, |error| error.code())
}

/// The leader's id, -1 where none is known.
pub(super) fn leader(header: &Header) -> NodeId {
    header.leader.unwrap_or(-1)
}

/// Where the leader is reached over the listener that was asked; else by the first of its listeners.
pub(super) fn leader_endpoint<'a>(
    context: &Context,
    header: &'a Header,
) -> Option<(NodeId, &'a VoterEndpoint)> {
    let name = &context.connection.listener.name;
    let same = header.endpoints.iter().find(|endpoint| endpoint.listener == *name);
    Some((header.leader?, same.or(header.endpoints.first())?))
}

/// Who is meant by an id and a directory; `None` where the request does not say.
pub(super) fn voter(id: NodeId, directory_id: Uuid) -> Option<ReplicaKey> {
    (id >= 0).then_some(ReplicaKey { id, directory_id })
}

/// A listener that a request names.
pub(super) fn endpoint(listener: &str, host: &str, port: u16) -> VoterEndpoint {
    VoterEndpoint { listener: listener.to_owned(), host: host.to_owned(), port }
}

/// The code and the text of a change of the voters.
pub(super) fn outcome(answer: Result<Answer, ErrorCode>) -> (i16, Option<StrBytes>) {
    let outcome: Outcome = match answer {
        Ok(Answer { response: Response::AddVoter(outcome) | Response::RemoveVoter(outcome), .. }) => outcome,
        Ok(_) => Err((ErrorCode::UnknownServerError, None)),
        Err(code) => Err((code, None)),
    };
    match outcome {
        Ok(()) => (0, None),
        Err((code, message)) => {
            let message = message.unwrap_or_else(|| code.to_string());
            (code.code(), Some(text(message)))
        }
    }
}
