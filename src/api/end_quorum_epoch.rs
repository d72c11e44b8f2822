//! EndQuorumEpoch (54): a leader of the metadata quorum resigns, and says who should follow it (KIP-595).
//!
//! Since version 1 successors are named with their directories (KIP-853).

use kafka_protocol::messages::end_quorum_epoch_response::{NodeEndpoint, PartitionData, TopicData};
use uuid::Uuid;

use super::context::{Context, Disconnect};
use super::outcome::text;
use super::quorum;
use crate::error::ErrorCode;
use crate::protocol::messages::{EndQuorumEpochRequest, EndQuorumEpochResponse};
use crate::quorum::ReplicaKey;
use crate::quorum::message::{EndRequest, Request, Response};

pub(super) async fn handle(
    context: &Context,
    request: EndQuorumEpochRequest,
    version: i16,
) -> Result<EndQuorumEpochResponse, Disconnect> {
    Ok(match end(context, &request, version).await {
        Ok(response) => response,
        Err(code) => EndQuorumEpochResponse::default().with_error_code(code.code()),
    })
}

async fn end(
    context: &Context,
    request: &EndQuorumEpochRequest,
    version: i16,
) -> Result<EndQuorumEpochResponse, ErrorCode> {
    quorum::check_cluster(context, request.cluster_id.as_deref())?;
    let named = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| partition.partition_index).collect();
        (topic.topic_name.as_str(), partitions)
    });
    let partition = request.topics.first().and_then(|topic| topic.partitions.first());
    let partition = partition.filter(|_| quorum::is_metadata_log(named)).ok_or(ErrorCode::InvalidRequest)?;
    let preferred = if version >= 1 {
        let candidates = partition.preferred_candidates.iter();
        candidates
            .map(|one| ReplicaKey { id: one.candidate_id.0, directory_id: one.candidate_directory_id })
            .collect()
    } else {
        let ids = partition.preferred_successors.iter();
        ids.map(|id| ReplicaKey { id: *id, directory_id: Uuid::nil() }).collect()
    };
    let endpoints = request.leader_endpoints.iter();
    let asked = Request::End(EndRequest {
        epoch: partition.leader_epoch,
        leader: partition.leader_id.0,
        endpoints: endpoints.map(|one| quorum::endpoint(&one.name, &one.host, one.port)).collect(),
        preferred,
    });
    let Response::End(header) = quorum::ask(context, asked).await?.response else {
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
    let response = EndQuorumEpochResponse::default().with_topics(vec![topic]);
    Ok(response.with_node_endpoints(nodes.into_iter().collect()))
}
