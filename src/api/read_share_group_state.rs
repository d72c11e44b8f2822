//! ReadShareGroupState (84): the state of share partitions, for their leaders (KIP-932). A leader epoch that the share
//! coordinator has not seen yet fences older leaders from then on.

use kafka_protocol::messages::read_share_group_state_request::PartitionData;
use kafka_protocol::messages::read_share_group_state_response::{
    PartitionResult, ReadStateResult, StateBatch,
};
use kafka_protocol::protocol::StrBytes;

use super::context::{Context, Disconnect};
use super::share_state::{ask_each, outcome};
use crate::protocol::messages::{ReadShareGroupStateRequest, ReadShareGroupStateResponse};
use crate::share::types;

pub(super) async fn handle(
    context: &Context,
    request: ReadShareGroupStateRequest,
    _version: i16,
) -> Result<ReadShareGroupStateResponse, Disconnect> {
    let topics = request.topics.into_iter().map(|topic| (topic.topic_id, topic.partitions)).collect();
    let partition = |asked: &PartitionData| asked.partition;
    let shares = &context.broker.share_state;
    let results = ask_each(&request.group_id, topics, partition, |of, asked| async move {
        let read = shares.read(&of, asked.leader_epoch).await;
        let (error_code, message) = outcome(&read);
        let result = PartitionResult::default()
            .with_partition(of.partition)
            .with_error_code(error_code)
            .with_error_message(message.map(StrBytes::from_string));
        match read {
            Ok(state) => result
                .with_state_epoch(state.state_epoch)
                .with_start_offset(state.start_offset)
                .with_state_batches(state.batches.into_iter().map(batch).collect()),
            Err(_) => result,
        }
    })
    .await;
    let results = results.into_iter().map(|(topic_id, partitions)| {
        ReadStateResult::default().with_topic_id(topic_id).with_partitions(partitions)
    });
    Ok(ReadShareGroupStateResponse::default().with_results(results.collect()))
}

fn batch(batch: types::StateBatch) -> StateBatch {
    StateBatch::default()
        .with_first_offset(batch.first_offset)
        .with_last_offset(batch.last_offset)
        .with_delivery_state(batch.delivery_state)
        .with_delivery_count(batch.delivery_count)
}
