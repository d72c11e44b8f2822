//! AssignReplicasToDirs (73): a broker says in which of its directories its replicas are (KIP-858).

use kafka_protocol::messages::assign_replicas_to_dirs_response::{DirectoryData, PartitionData, TopicData};

use super::context::{Context, Disconnect};
use crate::error::{ErrorCode, wire_code};
use crate::metadata::command::Placed;
use crate::metadata::controller::partitions;
use crate::protocol::messages::{AssignReplicasToDirsRequest, AssignReplicasToDirsResponse};

pub(super) async fn handle(
    context: &Context,
    request: AssignReplicasToDirsRequest,
    _version: i16,
) -> Result<AssignReplicasToDirsResponse, Disconnect> {
    let (id, epoch) = (request.broker_id.0, request.broker_epoch);
    let mut placed = Vec::new();
    for directory in &request.directories {
        for topic in &directory.topics {
            placed.extend(topic.partitions.iter().map(|partition| Placed {
                directory: directory.id,
                topic_id: topic.topic_id,
                partition: partition.partition_index,
            }));
        }
    }
    let metadata = &context.broker.metadata;
    let decided =
        metadata.decide(move |context| partitions::assign_directories(context, id, epoch, &placed)).await;
    let mut results = match decided.and_then(|reply| reply) {
        Ok(results) => results.into_iter(),
        Err(error) => {
            return Ok(AssignReplicasToDirsResponse::default().with_error_code(error.code.code()));
        }
    };
    let mut answer = |index: i32| {
        let unanswered = || Err(ErrorCode::UnknownServerError.into());
        let code = wire_code(&results.next().unwrap_or_else(unanswered));
        PartitionData::default().with_partition_index(index).with_error_code(code)
    };
    let mut directories = Vec::new();
    for directory in request.directories {
        let topics = directory.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|one| answer(one.partition_index)).collect();
            TopicData::default().with_topic_id(topic.topic_id).with_partitions(partitions)
        });
        let topics = topics.collect();
        directories.push(DirectoryData::default().with_id(directory.id).with_topics(topics));
    }
    Ok(AssignReplicasToDirsResponse::default().with_directories(directories))
}
