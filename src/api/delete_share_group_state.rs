//! DeleteShareGroupState (86): forgets the state of share partitions (KIP-932). Group coordinators send it to share
//! coordinators. What is not there is deleted.

use kafka_protocol::messages::delete_share_group_state_request::PartitionData;
use kafka_protocol::messages::delete_share_group_state_response::{DeleteStateResult, PartitionResult};
use kafka_protocol::protocol::StrBytes;

use super::context::{Context, Disconnect};
use super::share_state::{ask_each, outcome};
use crate::protocol::messages::{DeleteShareGroupStateRequest, DeleteShareGroupStateResponse};

pub(super) async fn handle(
    context: &Context,
    request: DeleteShareGroupStateRequest,
    _version: i16,
) -> Result<DeleteShareGroupStateResponse, Disconnect> {
    let topics = request.topics.into_iter().map(|topic| (topic.topic_id, topic.partitions)).collect();
    let partition = |asked: &PartitionData| asked.partition;
    let shares = &context.broker.share_state;
    let results = ask_each(&request.group_id, topics, partition, |of, _| async move {
        let (error_code, message) = outcome(&shares.delete(&of).await);
        PartitionResult::default()
            .with_partition(of.partition)
            .with_error_code(error_code)
            .with_error_message(message.map(StrBytes::from_string))
    })
    .await;
    let results = results.into_iter().map(|(topic_id, partitions)| {
        DeleteStateResult::default().with_topic_id(topic_id).with_partitions(partitions)
    });
    Ok(DeleteShareGroupStateResponse::default().with_results(results.collect()))
}
