//! ListOffsets (2): the offset of a time, or of one of the special times.
//!
//! - -1 the end that the client may see, -2 the start, -3 the record with the largest timestamp (version 7), -4 the
//!   start on local disk (8), -5 the end in remote storage (9), -6 the first offset to go there (11). One that the
//!   version does not have yet is UNSUPPORTED_VERSION.
//! - Nothing found is no error: offset and timestamp are -1.
//! - After a change of leader, until followers have told how far they are, the end is not known: OFFSET_NOT_AVAILABLE,
//!   before version 5 LEADER_NOT_AVAILABLE. Brokers that ask see everything up to the end of the log.
//! - A partition that is named twice is answered once, with INVALID_REQUEST.

use std::collections::{HashMap, HashSet};

use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};

use super::context::{Context, Disconnect};
use super::resolve::{self, TopicRef};
use crate::error::ErrorCode;
use crate::log::{FoundOffset, Isolation, OffsetQuery, Partition};
use crate::metadata::Image;
use crate::protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

/// The special times, each with the first version that has it.
const SPECIAL: [(i64, i16); 6] = [(-1, 0), (-2, 0), (-3, 7), (-4, 8), (-5, 9), (-6, 11)];
/// The replica id of consumers, and the one of tools that may ask any replica.
const CONSUMER: i32 = -1;
const DEBUGGER: i32 = -2;
/// The first version that knows OFFSET_NOT_AVAILABLE.
const NOT_AVAILABLE_FROM: i16 = 5;
/// The first version that tells the leader epoch of an offset.
const LEADER_EPOCH_FROM: i16 = 4;

pub(super) async fn handle(
    context: &Context,
    request: ListOffsetsRequest,
    version: i16,
) -> Result<ListOffsetsResponse, Disconnect> {
    let image = context.broker.metadata.image();
    // Who is no consumer sees the whole log (`ListOffsetsRequest.CONSUMER_REPLICA_ID`).
    let isolation = (request.replica_id == CONSUMER).then_some(match request.isolation_level {
        1 => Isolation::ReadCommitted,
        _ => Isolation::ReadUncommitted,
    });
    let asker = Asker { isolation, any_replica: request.replica_id == DEBUGGER };
    let mut named = HashMap::<_, usize>::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            *named.entry((&*topic.name, partition.partition_index)).or_default() += 1;
        }
    }
    let mut answered = HashSet::new();
    let mut response = ListOffsetsResponse::default();
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let key = (&*topic.name, partition.partition_index);
            if !answered.insert(key) {
                continue;
            }
            let found = if named.get(&key).is_some_and(|times| *times > 1) {
                Err(ErrorCode::InvalidRequest)
            } else {
                find(context, &image, &topic.name, partition, asker, version)
            };
            partitions.push(answer(partition.partition_index, found, version));
        }
        if !partitions.is_empty() {
            let topic = ListOffsetsTopicResponse::default().with_name(topic.name.clone());
            response.topics.push(topic.with_partitions(partitions));
        }
    }
    Ok(response)
}

/// Who asks.
#[derive(Clone, Copy)]
struct Asker {
    /// How a consumer reads; `None` for others, who see the whole log.
    isolation: Option<Isolation>,
    any_replica: bool,
}

fn find(
    context: &Context,
    image: &Image,
    topic: &str,
    wanted: &ListOffsetsPartition,
    asker: Asker,
    version: i16,
) -> Result<Option<FoundOffset>, ErrorCode> {
    let isolation = asker.isolation;
    let query = query(wanted.timestamp, isolation, version)?;
    let topic = resolve::topic(image, TopicRef::Name(topic))?;
    let resolve = if asker.any_replica { resolve::replica } else { resolve::partition };
    let partition = resolve(&context.broker, topic, wanted.partition_index)?;
    partition.check_leader_epoch(wanted.current_leader_epoch)?;
    let not_available = if version >= NOT_AVAILABLE_FROM {
        ErrorCode::OffsetNotAvailable
    } else {
        ErrorCode::LeaderNotAvailable
    };
    let lags = isolation.is_some() && partition.lags_behind_epoch();
    if lags && matches!(query, OffsetQuery::Latest(_)) {
        return Err(not_available);
    }
    let found = partition.offset_for(query).map_err(|error| error.code)?;
    let hidden = |found: &FoundOffset| found.offset >= end(&partition, isolation);
    match query {
        OffsetQuery::Timestamp(_) | OffsetQuery::MaxTimestamp => {
            let found = found.filter(|found| !hidden(found));
            if found.is_none() && lags { Err(not_available) } else { Ok(found) }
        }
        OffsetQuery::Latest(_)
        | OffsetQuery::LogEnd
        | OffsetQuery::Earliest
        | OffsetQuery::EarliestLocal
        | OffsetQuery::LatestTiered
        | OffsetQuery::EarliestPendingUpload => Ok(found),
    }
}

fn query(timestamp: i64, isolation: Option<Isolation>, version: i16) -> Result<OffsetQuery, ErrorCode> {
    if timestamp >= 0 {
        return Ok(OffsetQuery::Timestamp(timestamp));
    }
    let known = SPECIAL.iter().any(|(special, since)| *special == timestamp && *since <= version);
    match timestamp {
        _ if !known => Err(ErrorCode::UnsupportedVersion),
        -1 => Ok(isolation.map_or(OffsetQuery::LogEnd, OffsetQuery::Latest)),
        -2 => Ok(OffsetQuery::Earliest),
        -3 => Ok(OffsetQuery::MaxTimestamp),
        -4 => Ok(OffsetQuery::EarliestLocal),
        -5 => Ok(OffsetQuery::LatestTiered),
        _ => Ok(OffsetQuery::EarliestPendingUpload),
    }
}

/// Where the client's view of the partition ends.
fn end(partition: &Partition, isolation: Option<Isolation>) -> i64 {
    let offsets = partition.offsets();
    match isolation {
        Some(Isolation::ReadCommitted) => offsets.last_stable,
        Some(Isolation::ReadUncommitted) => offsets.high_watermark,
        None => offsets.log_end,
    }
}

fn answer(
    index: i32,
    found: Result<Option<FoundOffset>, ErrorCode>,
    version: i16,
) -> ListOffsetsPartitionResponse {
    let answer = ListOffsetsPartitionResponse::default()
        .with_partition_index(index)
        .with_offset(-1)
        .with_timestamp(-1);
    match found {
        Err(code) => answer.with_error_code(code.code()),
        Ok(None) => answer,
        Ok(Some(found)) => {
            let answer = answer.with_offset(found.offset).with_timestamp(found.timestamp);
            if version >= LEADER_EPOCH_FROM { answer.with_leader_epoch(found.leader_epoch) } else { answer }
        }
    }
}
