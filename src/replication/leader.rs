//! A leader as its followers ask it (`RemoteLeaderEndPoint`): Fetch and ListOffsets, in the versions that the cluster's
//! `metadata.version` says, as brokers do not ask one another for theirs.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic, ReplicaState};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::follower::Fetched;
use super::session::SessionFetch;
use crate::client::{ClientError, Peer};
use crate::error::ErrorCode;
use crate::protocol::messages::*;
use crate::types::{LeaderEpoch, NodeId, Offset, TopicIdPartition};

/// How much a follower asks for, and how long it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FetchLimits {
    /// `replica.fetch.wait.max.ms`.
    pub(super) wait_max_ms: i32,
    /// `replica.fetch.min.bytes`.
    pub(super) min_bytes: i32,
    /// `replica.fetch.response.max.bytes`.
    pub(super) response_max_bytes: i32,
    /// `replica.socket.timeout.ms`.
    pub(super) timeout_ms: i64,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    /// This node.
    pub(super) node_id: NodeId,
    /// The epoch of its registration.
    pub(super) broker_epoch: i64,
    /// The level of `metadata.version` that is finalised.
    pub(super) metadata_version: i16,
}

/// What a leader says about one partition.
#[derive(Clone, Debug)]
pub(super) struct PartitionAnswer {
    pub(super) key: TopicIdPartition,
    pub(super) fetched: Fetched,
    pub(super) records: Bytes,
    pub(super) high_watermark: Offset,
    pub(super) log_start: Offset,
}

/// An answer to a fetch.
#[derive(Clone, Debug)]
pub(super) struct FetchAnswer {
    pub(super) error_code: i16,
    pub(super) session_id: i32,
    pub(super) partitions: Vec<PartitionAnswer>,
}

/// The version of Fetch at a level of `metadata.version` (`MetadataVersion.fetchRequestVersion`).
fn fetch_version(metadata_version: i16) -> i16 {
    match metadata_version {
        27.. => 18,
        21.. => 17,
        19.. => 16,
        10.. => 15,
        9.. => 14,
        _ => 13,
    }
}

/// The version of ListOffsets (`MetadataVersion.listOffsetRequestVersion`).
fn list_offsets_version(metadata_version: i16) -> i16 {
    match metadata_version {
        29.. => 11,
        25.. => 10,
        21.. => 9,
        9.. => 8,
        _ => 7,
    }
}

/// Fetches from a leader.
///
/// # Errors
/// Where there is no answer.
pub(super) async fn fetch(
    peer: &Peer,
    asker: Asker,
    fetch: &SessionFetch,
    limits: FetchLimits,
) -> Result<FetchAnswer, ClientError> {
    let version = fetch_version(asker.metadata_version);
    let request = fetch_request(version, asker, fetch, limits);
    let answer = peer.call(request, version..=version, limits.timeout_ms).await?.response;
    let topics = answer.responses.into_iter();
    let partitions = topics.flat_map(|topic| {
        let topic_id = topic.topic_id;
        topic.partitions.into_iter().map(move |partition| {
            let diverging = &partition.diverging_epoch;
            let fetched = match ErrorCode::try_from_code(partition.error_code) {
                Some(code) => Fetched::Error(code),
                None if diverging.epoch >= 0 => {
                    Fetched::Diverging { epoch: diverging.epoch, end_offset: diverging.end_offset }
                }
                None => Fetched::Records,
            };
            PartitionAnswer {
                key: TopicIdPartition { topic_id, partition: partition.partition_index },
                fetched,
                high_watermark: partition.high_watermark,
                log_start: partition.log_start_offset,
                records: partition.records.unwrap_or_default(),
            }
        })
    });
    Ok(FetchAnswer {
        error_code: answer.error_code,
        session_id: answer.session_id,
        partitions: partitions.collect(),
    })
}

fn fetch_request(version: i16, asker: Asker, fetch: &SessionFetch, limits: FetchLimits) -> FetchRequest {
    let request = FetchRequest::default()
        .with_max_wait_ms(limits.wait_max_ms)
        .with_min_bytes(limits.min_bytes)
        .with_max_bytes(limits.response_max_bytes)
        .with_session_id(fetch.session_id)
        .with_session_epoch(fetch.session_epoch);
    let mut request = if version >= 15 {
        let state = ReplicaState::default()
            .with_replica_id(asker.node_id.into())
            .with_replica_epoch(asker.broker_epoch);
        request.with_replica_state(state)
    } else {
        request.with_replica_id(asker.node_id.into())
    };
    for (key, partition) in &fetch.send {
        let fetched = FetchPartition::default()
            .with_partition(key.partition)
            .with_current_leader_epoch(partition.current_leader_epoch)
            .with_fetch_offset(partition.fetch_offset)
            .with_last_fetched_epoch(partition.last_fetched_epoch)
            .with_log_start_offset(partition.log_start_offset)
            .with_partition_max_bytes(partition.partition_max_bytes);
        match request.topics.last_mut() {
            Some(topic) if topic.topic_id == key.topic_id => topic.partitions.push(fetched),
            _ => request
                .topics
                .push(FetchTopic::default().with_topic_id(key.topic_id).with_partitions(vec![fetched])),
        }
    }
    for key in &fetch.forget {
        let topics = &mut request.forgotten_topics_data;
        match topics.last_mut() {
            Some(topic) if topic.topic_id == key.topic_id => topic.partitions.push(key.partition),
            _ => topics.push(
                ForgottenTopic::default().with_topic_id(key.topic_id).with_partitions(vec![key.partition]),
            ),
        }
    }
    request
}

/// A partition whose leader is asked where its log starts and ends.
#[derive(Clone, Debug)]
pub(super) struct OffsetsWanted {
    pub(super) key: TopicIdPartition,
    pub(super) topic: Arc<str>,
    pub(super) leader_epoch: LeaderEpoch,
}

/// What one side of a log is asked by.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;

/// Asks where the logs of some partitions start and end.
///
/// # Errors
/// Where there is no answer.
pub(super) async fn offsets(
    peer: &Peer,
    asker: Asker,
    wanted: &[OffsetsWanted],
    timeout_ms: i64,
) -> Result<HashMap<TopicIdPartition, Result<(Offset, Offset), ErrorCode>>, ClientError> {
    let ends = list_offsets(peer, asker, wanted, LATEST, timeout_ms).await?;
    let starts = list_offsets(peer, asker, wanted, EARLIEST, timeout_ms).await?;
    let both = |wanted: &OffsetsWanted| {
        let one = |offsets: &HashMap<TopicIdPartition, Result<Offset, ErrorCode>>| {
            offsets.get(&wanted.key).copied().unwrap_or(Err(ErrorCode::UnknownServerError))
        };
        (wanted.key, one(&starts).and_then(|start| Ok((start, one(&ends)?))))
    };
    Ok(wanted.iter().map(both).collect())
}

async fn list_offsets(
    peer: &Peer,
    asker: Asker,
    wanted: &[OffsetsWanted],
    timestamp: i64,
    timeout_ms: i64,
) -> Result<HashMap<TopicIdPartition, Result<Offset, ErrorCode>>, ClientError> {
    let mut request = ListOffsetsRequest::default().with_replica_id(asker.node_id.into());
    let mut ids: HashMap<&str, Uuid> = HashMap::new();
    for OffsetsWanted { key, topic, leader_epoch } in wanted {
        ids.insert(topic, key.topic_id);
        let partition = ListOffsetsPartition::default()
            .with_partition_index(key.partition)
            .with_current_leader_epoch(*leader_epoch)
            .with_timestamp(timestamp);
        let name = TopicName::from(StrBytes::from_string(topic.to_string()));
        match request.topics.iter_mut().find(|asked| asked.name == name) {
            Some(asked) => asked.partitions.push(partition),
            None => request
                .topics
                .push(ListOffsetsTopic::default().with_name(name).with_partitions(vec![partition])),
        }
    }
    let version = list_offsets_version(asker.metadata_version);
    let answer = peer.call(request, version..=version, timeout_ms).await?.response;
    let mut offsets = HashMap::new();
    for topic in answer.topics {
        let Some(topic_id) = ids.get(topic.name.as_str()) else { continue };
        for partition in topic.partitions {
            let offset = ErrorCode::try_from_code(partition.error_code).map_or(Ok(partition.offset), Err);
            let key = TopicIdPartition { topic_id: *topic_id, partition: partition.partition_index };
            offsets.insert(key, offset);
        }
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_are_those_that_kafka_uses_at_a_level() {
        let fetch = [(7, 13), (8, 13), (9, 14), (10, 15), (18, 15), (19, 16), (20, 16), (21, 17), (26, 17)];
        for (level, version) in fetch.into_iter().chain([(27, 18), (30, 18)]) {
            assert_eq!(fetch_version(level), version, "{level}");
        }
        for (level, version) in
            [(7, 7), (8, 7), (9, 8), (20, 8), (21, 9), (24, 9), (25, 10), (28, 10), (29, 11)]
        {
            assert_eq!(list_offsets_version(level), version, "{level}");
        }
    }

    #[test]
    fn a_fetch_can_be_written_in_every_version() {
        use super::super::session::SessionPartition;
        let partition = SessionPartition {
            fetch_offset: 5,
            log_start_offset: 1,
            current_leader_epoch: 2,
            last_fetched_epoch: 1,
            partition_max_bytes: 100,
        };
        let key = |topic, partition| TopicIdPartition { topic_id: Uuid::from_u128(topic), partition };
        let fetch = SessionFetch {
            session_id: 3,
            session_epoch: 4,
            send: [key(1, 0), key(1, 2), key(2, 0)].map(|key| (key, partition)).into(),
            forget: [key(1, 7), key(3, 0), key(3, 1)].into(),
        };
        let limits = FetchLimits { wait_max_ms: 500, min_bytes: 1, response_max_bytes: 9, timeout_ms: 1 };
        for level in 7..=30 {
            let version = fetch_version(level);
            let asker = Asker { node_id: 2, broker_epoch: 77, metadata_version: level };
            let request = fetch_request(version, asker, &fetch, limits);
            let mut written = bytes::BytesMut::new();
            request.encode(&mut written, version).expect("it can be written");
            let read = FetchRequest::decode(&mut written.freeze(), version).expect("it can be read");
            assert_eq!(read, request);
            let partitions: Vec<_> = read.topics.iter().map(|topic| topic.partitions.len()).collect();
            let forgotten: Vec<_> =
                read.forgotten_topics_data.iter().map(|topic| topic.partitions.len()).collect();
            assert_eq!((partitions, forgotten), (vec![2, 1], vec![1, 2]));
        }
    }
}
