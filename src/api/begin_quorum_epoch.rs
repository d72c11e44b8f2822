//! BeginQuorumEpoch (53): a leader of the metadata quorum introduces itself (KIP-595).
//!
//! Since version 1 it says where it is reached, and whom it means (KIP-853).

use kafka_protocol::messages::begin_quorum_epoch_response::{NodeEndpoint, PartitionData, TopicData};

use super::context::{Context, Disconnect};
use super::outcome::text;
use super::quorum;
use crate::error::ErrorCode;
use crate::protocol::messages::{BeginQuorumEpochRequest, BeginQuorumEpochResponse};
use crate::quorum::message::{BeginRequest, Request, Response};

pub(super) async fn handle(
    context: &Context,
    request: BeginQuorumEpochRequest,
    version: i16,
) -> Result<BeginQuorumEpochResponse, Disconnect> {
    Ok(match begin(context, &request, version).await {
        Ok(response) => response,
        Err(code) => BeginQuorumEpochResponse::default().with_error_code(code.code()),
    })
}

async fn begin(
    context: &Context,
    request: &BeginQuorumEpochRequest,
    version: i16,
) -> Result<BeginQuorumEpochResponse, ErrorCode> {
    quorum::check_cluster(context, request.cluster_id.as_deref())?;
    let named = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| partition.partition_index).collect();
        (topic.topic_name.as_str(), partitions)
    });
    let partition = request.topics.first().and_then(|topic| topic.partitions.first());
    let partition = partition.filter(|_| quorum::is_metadata_log(named)).ok_or(ErrorCode::InvalidRequest)?;
    let endpoints = request.leader_endpoints.iter();
    let asked = Request::Begin(BeginRequest {
        epoch: partition.leader_epoch,
        leader: partition.leader_id.0,
        endpoints: endpoints.map(|one| quorum::endpoint(&one.name, &one.host, one.port)).collect(),
        voter: quorum::voter(request.voter_id.0, partition.voter_directory_id),
    });
    let Response::Begin(header) = quorum::ask(context, asked).await?.response else {
        return Err(ErrorCode::UnknownServerError);
    };
    let partition = PartitionData::default()
        .with_error_code(quorum::code(&header))
        .with_leader_id(quorum::leader(&header).into())
        .with_leader_epoch(header.epoch);
    let topic = TopicData::default().with_topic_name(quorum::topic_name()).with_partitions(vec![partition]);
    let nodes = quorum::leader_endpoint(context, &header).filter(|_| version >= 1).map(|(id, endpoint)| {
        NodeEndpoint::default()
            .with_node_id(id.into())
            .with_host(text(endpoint.host.clone()))
            .with_port(endpoint.port)
    });
    let response = BeginQuorumEpochResponse::default().with_topics(vec![topic]);
    Ok(response.with_node_endpoints(nodes.into_iter().collect()))
}
