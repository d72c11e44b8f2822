//! DescribeLogDirs (35): how much each partition and the data directory hold.
//!
//! There is one directory, so no replica is on its way from another one, and the directory is never cordoned (KIP-1066). Version 4 tells the size of its volume and what is free there.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use super::context::{Context, Disconnect};
use crate::log::Partition;
use crate::protocol::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use crate::protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use crate::types::CLUSTER_METADATA_TOPIC_ID;

pub(super) async fn handle(
    context: &Context,
    request: DescribeLogDirsRequest,
    _version: i16,
) -> Result<DescribeLogDirsResponse, Disconnect> {
    let asked: Option<HashSet<(String, i32)>> = request.topics.map(|topics| {
        let partitions = topics.into_iter().flat_map(|topic| {
            let name = topic.topic;
            topic.partitions.into_iter().map(move |partition| (name.clone(), partition))
        });
        partitions.collect()
    });
    let mut topics = BTreeMap::<Arc<str>, Vec<DescribeLogDirsPartition>>::new();
    // The metadata log belongs to the quorum and is not told here, as in Kafka.
    let logs = context.broker.logs.all().into_iter();
    for partition in logs.filter(|partition| partition.topic_id() != CLUSTER_METADATA_TOPIC_ID) {
        let key = (partition.topic().to_string(), partition.index());
        if asked.as_ref().is_none_or(|asked| asked.contains(&key)) {
            topics.entry(Arc::clone(partition.topic())).or_default().push(described(&partition));
        }
    }
    let topics = topics.into_iter().map(|(name, mut partitions)| {
        partitions.sort_by_key(|partition| partition.partition_index);
        DescribeLogDirsTopic { name: name.to_string(), partitions, ..DescribeLogDirsTopic::default() }
    });
    let (total_bytes, usable_bytes) = volume(&context.broker.data_dir);
    let result = DescribeLogDirsResult {
        log_dir: context.broker.data_dir.display().to_string(),
        topics: topics.collect(),
        total_bytes,
        usable_bytes,
        ..DescribeLogDirsResult::default()
    };
    Ok(DescribeLogDirsResponse { results: vec![result], ..DescribeLogDirsResponse::default() })
}

fn described(partition: &Partition) -> DescribeLogDirsPartition {
    let offsets = partition.offsets();
    DescribeLogDirsPartition {
        partition_index: partition.index(),
        partition_size: i64::try_from(partition.size_bytes()).unwrap_or(i64::MAX),
        // What a follower has heard to be committed may lie behind the end of its log.
        offset_lag: (offsets.high_watermark - offsets.log_end).max(0),
        // There is no other directory from which one could come.
        is_future_key: false,
        ..DescribeLogDirsPartition::default()
    }
}

/// The size of the volume and what is free for us, in bytes; -1 where the operating system does not say.
fn volume(directory: &Path) -> (i64, i64) {
    let Ok(volume) = rustix::fs::statvfs(directory) else { return (-1, -1) };
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(volume.f_frsize)).unwrap_or(i64::MAX);
    (bytes(volume.f_blocks), bytes(volume.f_bavail))
}
