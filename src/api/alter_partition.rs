//! AlterPartition (56): the leader of partitions asks for another ISR (KIP-497).
//!
//! Since version 2 topics are named by their ids, since version 3 replicas come with the epochs of their brokers
//! (KIP-903).

use kafka_protocol::messages::alter_partition_request::PartitionData as Wanted;
use kafka_protocol::messages::alter_partition_response::{PartitionData, TopicData};

use super::context::{Context, Disconnect};
use crate::error::{ApiError, ErrorCode, wire_code};
use crate::metadata::command::{AlteredPartition, IsrChange};
use crate::metadata::controller::partitions;
use crate::protocol::messages::{AlterPartitionRequest, AlterPartitionResponse};

/// The first version with the epochs of brokers.
const EPOCHS_FROM: i16 = 3;

pub(super) async fn handle(
    context: &Context,
    request: AlterPartitionRequest,
    version: i16,
) -> Result<AlterPartitionResponse, Disconnect> {
    let (id, epoch) = (request.broker_id.0, request.broker_epoch);
    let mut changes = Vec::new();
    for topic in &request.topics {
        changes.extend(topic.partitions.iter().map(|wanted| change(topic.topic_id, wanted, version)));
    }
    let metadata = &context.broker.metadata;
    let decided = metadata.decide(move |context| partitions::alter(context, id, epoch, &changes)).await;
    let mut results = match decided.and_then(|reply| reply) {
        Ok(results) => results.into_iter(),
        Err(error) => {
            return Ok(AlterPartitionResponse::default().with_error_code(error.code.code()));
        }
    };
    let mut answer = |wanted: &Wanted| {
        let unanswered = || Err(ErrorCode::UnknownServerError.into());
        answer(wanted.partition_index, results.next().unwrap_or_else(unanswered))
    };
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(&mut answer).collect();
        TopicData::default().with_topic_id(topic.topic_id).with_partitions(partitions)
    });
    Ok(AlterPartitionResponse::default().with_topics(topics.collect()))
}

fn change(topic_id: uuid::Uuid, wanted: &Wanted, version: i16) -> IsrChange {
    let isr = if version >= EPOCHS_FROM {
        wanted.new_isr_with_epochs.iter().map(|state| (state.broker_id.0, state.broker_epoch)).collect()
    } else {
        wanted.new_isr.iter().map(|id| (id.0, -1)).collect()
    };
    IsrChange {
        topic_id,
        partition: wanted.partition_index,
        leader_epoch: wanted.leader_epoch,
        partition_epoch: wanted.partition_epoch,
        isr,
        recovering: wanted.leader_recovery_state == 1,
    }
}

fn answer(index: i32, result: Result<AlteredPartition, ApiError>) -> PartitionData {
    let answer = PartitionData::default().with_partition_index(index).with_error_code(wire_code(&result));
    match result {
        Ok(altered) => answer
            .with_leader_id(altered.leader.into())
            .with_leader_epoch(altered.leader_epoch)
            .with_isr(altered.isr.into_iter().map(Into::into).collect())
            .with_leader_recovery_state(i8::from(altered.recovering))
            .with_partition_epoch(altered.partition_epoch),
        Err(_) => answer,
    }
}
