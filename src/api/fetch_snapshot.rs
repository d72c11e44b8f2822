//! FetchSnapshot (59): a piece of a snapshot of the metadata log, for a replica that is too far behind (KIP-630).
//!
//! Since version 1 a replica is named with its directory, and the answer says where the leader is (KIP-853).

use kafka_protocol::messages::fetch_snapshot_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionSnapshot, SnapshotId as WireId, TopicSnapshot,
};

use super::context::{Context, Disconnect};
use super::outcome::text;
use super::quorum;
use crate::error::ErrorCode;
use crate::protocol::messages::{FetchSnapshotRequest, FetchSnapshotResponse};
use crate::quorum::message::{self, Request, Response};
use crate::quorum::{ReplicaKey, SnapshotId};
use crate::types::CLUSTER_METADATA_TOPIC;

pub(super) async fn handle(
    context: &Context,
    request: FetchSnapshotRequest,
    version: i16,
) -> Result<FetchSnapshotResponse, Disconnect> {
    Ok(match fetch(context, &request, version).await {
        Ok(response) => response,
        Err(code) => FetchSnapshotResponse::default().with_error_code(code.code()),
    })
}

async fn fetch(
    context: &Context,
    request: &FetchSnapshotRequest,
    version: i16,
) -> Result<FetchSnapshotResponse, ErrorCode> {
    quorum::check_cluster(context, request.cluster_id.as_deref())?;
    let topic = request.topics.first().ok_or(ErrorCode::InvalidRequest)?;
    let partition = topic.partitions.first().ok_or(ErrorCode::InvalidRequest)?;
    if topic.name.as_str() != CLUSTER_METADATA_TOPIC || partition.partition != 0 {
        let answer = PartitionSnapshot::default()
            .with_index(partition.partition)
            .with_error_code(ErrorCode::UnknownTopicOrPartition.code());
        let topic = TopicSnapshot::default().with_name(topic.name.clone()).with_partitions(vec![answer]);
        return Ok(FetchSnapshotResponse::default().with_topics(vec![topic]));
    }
    let id = SnapshotId { end_offset: partition.snapshot_id.end_offset, epoch: partition.snapshot_id.epoch };
    let replica = ReplicaKey { id: request.replica_id.0, directory_id: partition.replica_directory_id };
    let asked = Request::FetchSnapshot(message::FetchSnapshotRequest {
        epoch: partition.current_leader_epoch,
        replica,
        id,
        // No snapshot is so large.
        position: u64::try_from(partition.position).unwrap_or(u64::MAX),
        bytes_max: usize::try_from(request.max_bytes).unwrap_or(0),
    });
    let Response::FetchSnapshot(header, piece) = quorum::ask(context, asked).await?.response else {
        return Err(ErrorCode::UnknownServerError);
    };
    let leader = LeaderIdAndEpoch::default()
        .with_leader_id(quorum::leader(&header).into())
        .with_leader_epoch(header.epoch);
    let mut answer =
        PartitionSnapshot::default().with_error_code(quorum::code(&header)).with_current_leader(leader);
    if header.error.is_none() {
        let id = WireId::default().with_end_offset(piece.id.end_offset).with_epoch(piece.id.epoch);
        answer = answer
            .with_snapshot_id(id)
            .with_size(i64::try_from(piece.size).unwrap_or(i64::MAX))
            .with_position(partition.position)
            .with_unaligned_records(piece.bytes);
    }
    let topic = TopicSnapshot::default().with_name(quorum::topic_name()).with_partitions(vec![answer]);
    let nodes = quorum::leader_endpoint(context, &header).filter(|_| version >= 1).map(|(id, endpoint)| {
        NodeEndpoint::default()
            .with_node_id(id.into())
            .with_host(text(endpoint.host.clone()))
            .with_port(endpoint.port)
    });
    let response = FetchSnapshotResponse::default().with_topics(vec![topic]);
    Ok(response.with_node_endpoints(nodes.into_iter().collect()))
}
