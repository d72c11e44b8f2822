//! Vote (52): a controller wants to be elected, or since version 2 to know whether it would be (KIP-595, KIP-996).
//!
//! Since version 1 voters are named with their directories, and the answer says where the leader is (KIP-853).

use kafka_protocol::messages::vote_response::{NodeEndpoint, PartitionData, TopicData};

use super::context::{Context, Disconnect};
use super::outcome::text;
use super::quorum;
use crate::error::ErrorCode;
use crate::protocol::messages::{VoteRequest, VoteResponse};
use crate::quorum::ReplicaKey;
use crate::quorum::message::{self, Request, Response};

pub(super) async fn handle(
    context: &Context,
    request: VoteRequest,
    version: i16,
) -> Result<VoteResponse, Disconnect> {
    Ok(match vote(context, &request, version).await {
        Ok(response) => response,
        Err(code) => VoteResponse::default().with_error_code(code.code()),
    })
}

async fn vote(context: &Context, request: &VoteRequest, version: i16) -> Result<VoteResponse, ErrorCode> {
    quorum::check_cluster(context, request.cluster_id.as_deref())?;
    let named = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| partition.partition_index).collect();
        (topic.topic_name.as_str(), partitions)
    });
    let partition = request.topics.first().and_then(|topic| topic.partitions.first());
    let partition = partition.filter(|_| quorum::is_metadata_log(named)).ok_or(ErrorCode::InvalidRequest)?;
    let asked = Request::Vote(message::VoteRequest {
        epoch: partition.replica_epoch,
        candidate: ReplicaKey { id: partition.replica_id.0, directory_id: partition.replica_directory_id },
        voter: quorum::voter(request.voter_id.0, partition.voter_directory_id),
        last_epoch: partition.last_offset_epoch,
        end_offset: partition.last_offset,
        pre_vote: partition.pre_vote,
    });
    let Response::Vote(header, granted) = quorum::ask(context, asked).await?.response else {
        return Err(ErrorCode::UnknownServerError);
    };
    let partition = PartitionData::default()
        .with_error_code(quorum::code(&header))
        .with_leader_id(quorum::leader(&header).into())
        .with_leader_epoch(header.epoch)
        .with_vote_granted(granted);
    let topic = TopicData::default().with_topic_name(quorum::topic_name()).with_partitions(vec![partition]);
    let nodes = quorum::leader_endpoint(context, &header).filter(|_| version >= 1).map(|(id, endpoint)| {
        NodeEndpoint::default()
            .with_node_id(id.into())
            .with_host(text(endpoint.host.clone()))
            .with_port(endpoint.port)
    });
    Ok(VoteResponse::default().with_topics(vec![topic]).with_node_endpoints(nodes.into_iter().collect()))
}
