//! DescribeProducers (61): the idempotent and transactional producers of a partition (KIP-664), as the replica knows
//! them that is asked.

use kafka_protocol::messages::ProducerId;
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::context::{Context, Disconnect};
use super::resolve::{self, TopicRef};
use crate::error::{ApiError, ErrorCode};
use crate::log::ActiveProducer;
use crate::metadata::Image;
use crate::protocol::messages::{DescribeProducersRequest, DescribeProducersResponse};

pub(super) async fn handle(
    context: &Context,
    request: DescribeProducersRequest,
    _version: i16,
) -> Result<DescribeProducersResponse, Disconnect> {
    let image = context.broker.metadata.image();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| {
            let answer = PartitionResponse::default().with_partition_index(*index);
            match producers(context, &image, &topic.name, *index) {
                Ok(producers) => answer.with_active_producers(producers.into_iter().map(state).collect()),
                Err(error) => answer
                    .with_error_code(error.code.code())
                    .with_error_message(error.message.map(StrBytes::from_string)),
            }
        });
        let partitions = partitions.collect();
        TopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    Ok(DescribeProducersResponse::default().with_topics(topics.collect()))
}

fn producers(
    context: &Context,
    image: &Image,
    topic: &str,
    index: i32,
) -> Result<Vec<ActiveProducer>, ApiError> {
    if let Some(reason) = resolve::invalid_topic_name(topic) {
        return Err(ApiError::with(ErrorCode::InvalidTopicException, reason));
    }
    let topic = resolve::topic(image, TopicRef::Name(topic))?;
    Ok(resolve::replica(&context.broker, topic, index)?.producers())
}

fn state(producer: ActiveProducer) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(producer.producer_id))
        .with_producer_epoch(producer.producer_epoch.into())
        .with_last_sequence(producer.last_sequence)
        .with_last_timestamp(producer.last_timestamp)
        .with_coordinator_epoch(producer.coordinator_epoch)
        .with_current_txn_start_offset(producer.current_transaction_start_offset)
}
