//! DescribeQuorum (55): who leads the metadata log, in which epoch, and how far each voter is (KIP-595).
//!
//! Since version 1 with times, since version 2 with directories, texts and the addresses of the voters (KIP-853). Only
//! the metadata log has a quorum; any other partition is unknown.

use kafka_protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};

use super::context::{Context, Disconnect};
use super::outcome::text;
use crate::error::ErrorCode;
use crate::metadata::Metadata;
use crate::protocol::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use crate::quorum::driver::{QuorumDescription, ReplicaDescription};
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
        return unknown(request);
    }
    let quorum = match metadata.describe_quorum() {
        Ok(quorum) => quorum,
        Err(error) => {
            let message = (version >= DIRECTORIES_SINCE).then(|| text(error.to_string()));
            return DescribeQuorumResponse::default()
                .with_error_code(error.code.code())
                .with_error_message(message);
        }
    };
    let nodes =
        if version >= DIRECTORIES_SINCE { quorum.voters.iter().map(node).collect() } else { Vec::new() };
    let topic = TopicData::default()
        .with_topic_name(text(CLUSTER_METADATA_TOPIC).into())
        .with_partitions(vec![partition(&quorum, version)]);
    DescribeQuorumResponse::default().with_topics(vec![topic]).with_nodes(nodes)
}

fn partition(quorum: &QuorumDescription, version: i16) -> PartitionData {
    let state = |replica: &ReplicaDescription| {
        let state = ReplicaState::default()
            .with_replica_id(replica.voter.key.id.into())
            .with_log_end_offset(replica.log_end)
            .with_last_fetch_timestamp(replica.last_fetch_ms)
            .with_last_caught_up_timestamp(replica.last_caught_up_ms);
        if version >= DIRECTORIES_SINCE {
            state.with_replica_directory_id(replica.voter.key.directory_id)
        } else {
            state
        }
    };
    PartitionData::default()
        .with_leader_id(quorum.leader.into())
        .with_leader_epoch(quorum.epoch)
        .with_high_watermark(quorum.high_watermark)
        .with_current_voters(quorum.voters.iter().map(state).collect())
}

fn node(replica: &ReplicaDescription) -> Node {
    let listener = |endpoint: &crate::quorum::VoterEndpoint| {
        Listener::default()
            .with_name(text(endpoint.listener.clone()))
            .with_host(text(endpoint.host.clone()))
            .with_port(endpoint.port)
    };
    Node::default()
        .with_node_id(replica.voter.key.id.into())
        .with_listeners(replica.voter.endpoints.iter().map(listener).collect())
}

/// Every partition that was asked for, with the error.
fn unknown(request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    let code = ErrorCode::UnknownTopicOrPartition;
    let topics = request.topics.into_iter().map(|topic| {
        let partition = |index| {
            PartitionData::default()
                .with_partition_index(index)
                .with_error_code(code.code())
                .with_error_message(Some(text(code.to_string())))
        };
        let partitions = topic.partitions.iter().map(|one| partition(one.partition_index)).collect();
        TopicData::default().with_topic_name(topic.topic_name).with_partitions(partitions)
    });
    DescribeQuorumResponse::default().with_topics(topics.collect())
}
