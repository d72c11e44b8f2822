//! OffsetForLeaderEpoch (23): where a leader epoch ends. Consumers ask after a change of leader whether the records
//! that they have read are still the ones of the log (KIP-320); followers of older versions before they fetch.

use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};

use super::context::{Context, Disconnect};
use super::resolve;
use crate::error::ErrorCode;
use crate::metadata::Image;
use crate::protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use crate::types::{LeaderEpoch, Offset};

pub(super) async fn handle(
    context: &Context,
    request: OffsetForLeaderEpochRequest,
    _version: i16,
) -> Result<OffsetForLeaderEpochResponse, Disconnect> {
    let image = context.broker.metadata.image();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let answer = EpochEndOffset::default().with_partition(partition.partition);
            match end(context, &image, &topic.topic, partition) {
                Ok((epoch, offset)) => answer.with_leader_epoch(epoch).with_end_offset(offset),
                Err(code) => answer.with_error_code(code.code()).with_leader_epoch(-1).with_end_offset(-1),
            }
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions)
    });
    Ok(OffsetForLeaderEpochResponse::default().with_topics(topics.collect()))
}

fn end(
    context: &Context,
    image: &Image,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<(LeaderEpoch, Offset), ErrorCode> {
    let partition = resolve::named_partition(&context.broker, image, topic, asked.partition)?;
    partition.check_leader_epoch(asked.current_leader_epoch)?;
    Ok(partition.epoch_end(asked.leader_epoch))
}
