//! ReadShareGroupStateSummary (87): the state of share partitions in short, without what is known of records (KIP-932).
//! Group coordinators ask for it when they are asked for a group's offsets.
//!
//! - Since version 1 with how many records are done with (KIP-1226).

use super::context::{Context, Disconnect};
use super::share_state::{ask_each, outcome};
use crate::protocol::messages::read_share_group_state_summary::{
    ReadStateSummaryPartition, ReadStateSummaryPartitionResult, ReadStateSummaryResult,
};
use crate::protocol::messages::{ReadShareGroupStateSummaryRequest, ReadShareGroupStateSummaryResponse};

pub(super) async fn handle(
    context: &Context,
    request: ReadShareGroupStateSummaryRequest,
    _version: i16,
) -> Result<ReadShareGroupStateSummaryResponse, Disconnect> {
    let topics = request.topics.into_iter().map(|topic| (topic.topic_id, topic.partitions)).collect();
    let partition = |asked: &ReadStateSummaryPartition| asked.partition;
    let shares = &context.broker.share_state;
    let results = ask_each(&request.group_id, topics, partition, |of, _| async move {
        let read = shares.read_summary(&of).await;
        let (error_code, error_message) = outcome(&read);
        let partition = of.partition;
        let result =
            ReadStateSummaryPartitionResult { partition, error_code, error_message, ..Default::default() };
        match read {
            Ok(summary) => ReadStateSummaryPartitionResult {
                state_epoch: summary.state_epoch,
                leader_epoch: summary.leader_epoch,
                start_offset: summary.start_offset,
                delivery_complete_count: summary.delivery_complete_count,
                ..result
            },
            Err(_) => result,
        }
    })
    .await;
    let results = results.into_iter().map(|(topic_id, partitions)| ReadStateSummaryResult {
        topic_id,
        partitions,
        ..Default::default()
    });
    Ok(ReadShareGroupStateSummaryResponse { results: results.collect(), ..Default::default() })
}
