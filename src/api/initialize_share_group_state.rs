//! InitializeShareGroupState (83): the state of share partitions begins anew (KIP-932). Group coordinators send it to
//! share coordinators.

use kafka_protocol::messages::initialize_share_group_state_request::PartitionData;
use kafka_protocol::messages::initialize_share_group_state_response::{
    InitializeStateResult, PartitionResult,
};
use kafka_protocol::protocol::StrBytes;

use super::context::{Context, Disconnect};
use super::share_state::{ask_each, outcome};
use crate::protocol::messages::{InitializeShareGroupStateRequest, InitializeShareGroupStateResponse};

pub(super) async fn handle(
    context: &Context,
    request: InitializeShareGroupStateRequest,
    _version: i16,
) -> Result<InitializeShareGroupStateResponse, Disconnect> {
    let topics = request.topics.into_iter().map(|topic| (topic.topic_id, topic.partitions)).collect();
    let partition = |asked: &PartitionData| asked.partition;
    let shares = &context.broker.share_state;
    let results = ask_each(&request.group_id, topics, partition, |of, asked| async move {
        let result = shares.initialize(&of, asked.state_epoch, asked.start_offset).await;
        let (error_code, message) = outcome(&result);
        PartitionResult::default()
            .with_partition(of.partition)
            .with_error_code(error_code)
            .with_error_message(message.map(StrBytes::from_string))
    })
    .await;
    let results = results.into_iter().map(|(topic_id, partitions)| {
        InitializeStateResult::default().with_topic_id(topic_id).with_partitions(partitions)
    });
    Ok(InitializeShareGroupStateResponse::default().with_results(results.collect()))
}
