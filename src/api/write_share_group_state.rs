//! WriteShareGroupState (85): changes the state of share partitions, for their leaders (KIP-932).
//!
//! - Since version 1 with how many records are done with (KIP-1226).

use super::context::{Context, Disconnect};
use super::share_state::{ask_each, outcome};
use crate::protocol::messages::write_share_group_state::{
    WriteStateBatch, WriteStatePartition, WriteStatePartitionResult, WriteStateResult,
};
use crate::protocol::messages::{WriteShareGroupStateRequest, WriteShareGroupStateResponse};
use crate::share::types::{StateBatch, StateUpdate};

pub(super) async fn handle(
    context: &Context,
    request: WriteShareGroupStateRequest,
    _version: i16,
) -> Result<WriteShareGroupStateResponse, Disconnect> {
    let topics = request.topics.into_iter().map(|topic| (topic.topic_id, topic.partitions)).collect();
    let partition = |asked: &WriteStatePartition| asked.partition;
    let shares = &context.broker.share_state;
    let results = ask_each(&request.group_id, topics, partition, |of, asked| async move {
        let partition = of.partition;
        let result = shares.write(&of, update(asked)).await;
        let (error_code, error_message) = outcome(&result);
        WriteStatePartitionResult { partition, error_code, error_message, ..Default::default() }
    })
    .await;
    let results = results.into_iter().map(|(topic_id, partitions)| WriteStateResult {
        topic_id,
        partitions,
        ..Default::default()
    });
    Ok(WriteShareGroupStateResponse { results: results.collect(), ..Default::default() })
}

fn update(asked: WriteStatePartition) -> StateUpdate {
    StateUpdate {
        state_epoch: asked.state_epoch,
        leader_epoch: asked.leader_epoch,
        start_offset: asked.start_offset,
        delivery_complete_count: asked.delivery_complete_count,
        batches: asked.state_batches.iter().map(batch).collect(),
    }
}

fn batch(batch: &WriteStateBatch) -> StateBatch {
    StateBatch {
        first_offset: batch.first_offset,
        last_offset: batch.last_offset,
        delivery_state: batch.delivery_state,
        delivery_count: batch.delivery_count,
    }
}
