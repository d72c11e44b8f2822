//! DescribeQuorum (55): who leads the metadata log, in which epoch, and how far each voter and observer is (KIP-595).
//!
//! Since version 1 with times, since version 2 with directories, texts and the addresses of the voters (KIP-853). Only
//! the metadata log has a quorum; any other partition is unknown. Only the leader knows the answer.

use kafka_protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState as DescribedReplica, TopicData,
};

use super::context::{Context, Disconnect};
use super::outcome::text;
use crate::error::ErrorCode;
use crate::metadata::Metadata;
use crate::protocol::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use crate::quorum::{QuorumState, ReplicaState, VoterEndpoint};
use crate::types::CLUSTER_METADATA_TOPIC;

/// Since this version the response has directories and addresses.
const DIRECTORIES_SINCE: i16 = 2;

pub(super) async fn handle(
    context: &Context,
    request: DescribeQuorumRequest,
    version: i16,
) -> Result<DescribeQuorumResponse, Disconnect> {
    Ok(describe(&context.broker.metadata, request, version).await)
}

pub(super) async fn describe(
    metadata: &Metadata,
    request: DescribeQuorumRequest,
    version: i16,
) -> DescribeQuorumResponse {
    let asked: Vec<(&str, Vec<i32>)> = request
        .topics
        .iter()
        .map(|topic| {
            (topic.topic_name.as_str(), topic.partitions.iter().map(|one| one.partition_index).collect())
        })
        .collect();
    if asked != [(CLUSTER_METADATA_TOPIC, vec![0])] {
        return failed(request, ErrorCode::UnknownTopicOrPartition, version);
    }
    let Some(quorum) = metadata.quorum().describe() else {
        return failed(request, ErrorCode::NotLeaderOrFollower, version);
    };
    let nodes =
        if version >= DIRECTORIES_SINCE { quorum.voters.iter().map(node).collect() } else { Vec::new() };
    let topic = TopicData::default()
        .with_topic_name(text(CLUSTER_METADATA_TOPIC).into())
        .with_partitions(vec![partition(&quorum, version)]);
    DescribeQuorumResponse::default().with_topics(vec![topic]).with_nodes(nodes)
}

fn partition(quorum: &QuorumState, version: i16) -> PartitionData {
    let state = |replica: &ReplicaState| {
        let state = DescribedReplica::default()
            .with_replica_id(replica.key.id.into())
            .with_log_end_offset(replica.log_end.unwrap_or(-1))
            .with_last_fetch_timestamp(replica.last_fetch_ms.unwrap_or(-1))
            .with_last_caught_up_timestamp(replica.last_caught_up_ms.unwrap_or(-1));
        if version >= DIRECTORIES_SINCE {
            state.with_replica_directory_id(replica.key.directory_id)
        } else {
            state
        }
    };
    PartitionData::default()
        .with_leader_id(quorum.leader.into())
        .with_leader_epoch(quorum.epoch)
        .with_high_watermark(quorum.high_watermark.unwrap_or(-1))
        .with_current_voters(quorum.voters.iter().map(state).collect())
        .with_observers(quorum.observers.iter().map(state).collect())
}

fn node(replica: &ReplicaState) -> Node {
    let listener = |endpoint: &VoterEndpoint| {
        Listener::default()
            .with_name(text(endpoint.listener.clone()))
            .with_host(text(endpoint.host.clone()))
            .with_port(endpoint.port)
    };
    Node::default()
        .with_node_id(replica.key.id.into())
        .with_listeners(replica.endpoints.iter().map(listener).collect())
}

/// Every partition that was asked for, with the error.
fn failed(request: DescribeQuorumRequest, code: ErrorCode, version: i16) -> DescribeQuorumResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partition = |index| {
            let partition = PartitionData::default().with_partition_index(index).with_error_code(code.code());
            if version >= DIRECTORIES_SINCE {
                partition.with_error_message(Some(text(code.to_string())))
            } else {
                partition
            }
        };
        let partitions = topic.partitions.iter().map(|one| partition(one.partition_index)).collect();
        TopicData::default().with_topic_name(topic.topic_name).with_partitions(partitions)
    });
    DescribeQuorumResponse::default().with_topics(topics.collect())
}
