//! AlterReplicaLogDirs (34): moves replicas of this broker between its log directories (KIP-113).
//!
//! klamm has one directory, so a replica is where it is asked to be, or it is asked to go where there is nothing:
//! LOG_DIR_NOT_FOUND. Where this broker has no replica: REPLICA_NOT_AVAILABLE, as Kafka still says here.

use std::collections::BTreeMap;

use kafka_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};

use super::context::{BrokerHandles, Context, Disconnect};
use super::outcome::text;
use super::resolve::{TopicRef, replica, topic};
use crate::error::ErrorCode;
use crate::metadata::Image;
use crate::protocol::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse};

/// The longest name of a file that file systems take. Kafka names the directory of a log that is moved by its topic,
/// its partition, 32 digits and a word.
const FILE_NAME_LENGTH_MAX: usize = 255;
const FUTURE_SUFFIX_LENGTH: usize = ".-future".len() + 32;

pub(super) async fn handle(
    context: &Context,
    request: AlterReplicaLogDirsRequest,
    _version: i16,
) -> Result<AlterReplicaLogDirsResponse, Disconnect> {
    // A replica that stands under two directories goes to the last one.
    let mut asked = BTreeMap::<String, BTreeMap<i32, &str>>::new();
    for directory in &request.dirs {
        for topic in &directory.topics {
            let partitions = asked.entry(topic.name.to_string()).or_default();
            partitions.extend(topic.partitions.iter().map(|index| (*index, directory.path.as_str())));
        }
    }
    let image = context.broker.metadata.image();
    let results = asked.into_iter().map(|(name, partitions)| {
        let moved = partitions.into_iter().map(|(index, directory)| {
            let error = check(&context.broker, &image, &name, index, directory).err();
            AlterReplicaLogDirPartitionResult::default()
                .with_partition_index(index)
                .with_error_code(error.map_or(0, |error| error.code()))
        });
        let partitions = moved.collect();
        AlterReplicaLogDirTopicResult::default()
            .with_topic_name(text(name).into())
            .with_partitions(partitions)
    });
    Ok(AlterReplicaLogDirsResponse::default().with_results(results.collect()))
}

/// Whether a replica is in this directory.
fn check(
    broker: &BrokerHandles,
    image: &Image,
    name: &str,
    index: i32,
    directory: &str,
) -> Result<(), ErrorCode> {
    if name.len() + "-".len() + index.to_string().len() + FUTURE_SUFFIX_LENGTH > FILE_NAME_LENGTH_MAX {
        return Err(ErrorCode::InvalidTopicException);
    }
    if broker.data_dir.as_os_str() != directory {
        return Err(ErrorCode::LogDirNotFound);
    }
    let found = topic(image, TopicRef::Name(name)).and_then(|topic| replica(broker, topic, index));
    match found {
        Ok(_) => Ok(()),
        Err(ErrorCode::NotLeaderOrFollower) => Err(ErrorCode::ReplicaNotAvailable),
        Err(error) => Err(error),
    }
}
