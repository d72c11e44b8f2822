//! Fetch of the metadata log, by which its replicas follow the leader (KIP-595).
//!
//! - A replica says how far it is; the answer has what follows, or where the logs part, or the snapshot to take.
//! - Since version 17 replicas are named with their directories, and the answer says where the leader is (KIP-853).
//!   Since version 18 a replica tells the high watermark that it knows, and hears of a newer one at once (KIP-1166).

use bytes::BytesMut;
use kafka_protocol::messages::fetch_response::{
    EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData, SnapshotId,
};

use super::super::context::{Context, Disconnect};
use super::super::outcome::text;
use super::super::quorum;
use super::super::request::Encoded;
use super::TOPIC_IDS_FROM;
use crate::error::ErrorCode;
use crate::protocol::header::RequestHeader;
use crate::protocol::messages::{FetchRequest, FetchResponse};
use crate::quorum::message::{self, Progress, Request, Response};
use crate::quorum::{Answer, ReplicaKey};
use crate::types::{CLUSTER_METADATA_TOPIC, CLUSTER_METADATA_TOPIC_ID};

/// Since this version the answer can say more than records.
const DIVERGING_FROM: i16 = 12;
/// Since this version the replica's state is a structure.
const REPLICA_STATE_FROM: i16 = 15;
/// Since this version the answer names the leader's address to replicas of the quorum.
const NODE_ENDPOINTS_FROM: i16 = 17;

/// Whether a request is one of a replica of the metadata log.
pub(super) fn is_meant(context: &Context, request: &FetchRequest, version: i16) -> bool {
    let names_it = |topic: &kafka_protocol::messages::fetch_request::FetchTopic| {
        if version >= TOPIC_IDS_FROM {
            topic.topic_id == CLUSTER_METADATA_TOPIC_ID
        } else {
            topic.topic.as_str() == CLUSTER_METADATA_TOPIC
        }
    };
    context.connection.listener.kind.serves_controller() && request.topics.iter().any(names_it)
}

pub(super) async fn handle(
    context: &Context,
    request: FetchRequest,
    header: &RequestHeader,
) -> Result<Encoded, Disconnect> {
    let response = match fetch(context, &request, header.api_version).await {
        Ok(response) => response,
        Err(code) => FetchResponse::default().with_error_code(code.code()),
    };
    Encoded::response(header, &response)
}

async fn fetch(context: &Context, request: &FetchRequest, version: i16) -> Result<FetchResponse, ErrorCode> {
    quorum::check_cluster(context, request.cluster_id.as_deref())?;
    let [topic] = request.topics.as_slice() else { return Err(ErrorCode::InvalidRequest) };
    let [partition] = topic.partitions.as_slice() else { return Err(ErrorCode::InvalidRequest) };
    if partition.partition != 0 {
        return Err(ErrorCode::InvalidRequest);
    }
    let id =
        if version >= REPLICA_STATE_FROM { request.replica_state.replica_id } else { request.replica_id };
    let asked = Request::Fetch(message::FetchRequest {
        epoch: partition.current_leader_epoch,
        replica: ReplicaKey { id: id.0, directory_id: partition.replica_directory_id },
        offset: partition.fetch_offset,
        last_epoch: partition.last_fetched_epoch,
        high_watermark: partition.high_watermark,
        bytes_max: usize::try_from(request.max_bytes).unwrap_or(0),
        wait_max_ms: request.max_wait_ms.into(),
    });
    let Answer { response: Response::Fetch(header, fetched), records } = quorum::ask(context, asked).await?
    else {
        return Err(ErrorCode::UnknownServerError);
    };
    let mut bytes = BytesMut::with_capacity(records.iter().map(bytes::Bytes::len).sum());
    records.iter().for_each(|piece| bytes.extend_from_slice(piece));
    let mut answer = PartitionData::default()
        .with_error_code(quorum::code(&header))
        .with_high_watermark(fetched.high_watermark.unwrap_or(-1))
        .with_last_stable_offset(-1)
        .with_log_start_offset(fetched.log_start)
        .with_aborted_transactions(None)
        .with_records(Some(bytes.freeze()));
    if version >= DIVERGING_FROM {
        let leader = LeaderIdAndEpoch::default()
            .with_leader_id(quorum::leader(&header).into())
            .with_leader_epoch(header.epoch);
        answer = answer.with_current_leader(leader);
    }
    match fetched.progress {
        Progress::Diverging { epoch, end_offset } => {
            let diverging = EpochEndOffset::default().with_epoch(epoch).with_end_offset(end_offset);
            answer = answer.with_diverging_epoch(diverging);
        }
        Progress::Snapshot(id) => {
            let id = SnapshotId::default().with_end_offset(id.end_offset).with_epoch(id.epoch);
            answer = answer.with_snapshot_id(id);
        }
        Progress::Read { .. } | Progress::Records(_) => {}
    }
    let mut response = FetchableTopicResponse::default().with_partitions(vec![answer]);
    response = if version >= TOPIC_IDS_FROM {
        response.with_topic_id(CLUSTER_METADATA_TOPIC_ID)
    } else {
        response.with_topic(quorum::topic_name())
    };
    let leader = quorum::leader_endpoint(context, &header).filter(|_| version >= NODE_ENDPOINTS_FROM);
    let nodes = leader.map(|(id, endpoint)| {
        NodeEndpoint::default()
            .with_node_id(id.into())
            .with_host(text(endpoint.host.clone()))
            .with_port(endpoint.port.into())
    });
    Ok(FetchResponse::default()
        .with_responses(vec![response])
        .with_node_endpoints(nodes.into_iter().collect()))
}
