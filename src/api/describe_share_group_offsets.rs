//! DescribeShareGroupOffsets (90): how far share groups have come (KIP-932).
//!
//! - A partition of which the share coordinator knows nothing, or that it can not tell of, has the offset -1 and no
//!   error, as in OffsetFetch.
//! - Since version 1 it tells how many records are still to be done (KIP-1226): those up to the end of the partition,
//!   which its leader is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use uuid::Uuid;

use super::context::{BrokerHandles, Context, Disconnect};
use super::ends::{self, Ends};
use super::share_groups::{ASKED_AT_ONCE, check_enabled};
use crate::error::{ApiError, ErrorCode};
use crate::group::assignor::Partitions;
use crate::group::share::command::{ShareCommand, ShareReply};
use crate::protocol::messages::describe_share_group_offsets::{
    DescribeShareGroupOffsetsRequestGroup as AskedGroup, DescribeShareGroupOffsetsResponseGroup as Group,
    DescribeShareGroupOffsetsResponsePartition as Described, DescribeShareGroupOffsetsResponseTopic as Topic,
};
use crate::protocol::messages::{DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse};
use crate::share::types::{
    SharePartition, StateSummary, UNINITIALIZED_DELIVERY_COMPLETE_COUNT, UNINITIALIZED_START_OFFSET,
};
use crate::types::TopicPartition;

pub(super) async fn handle(
    context: &Context,
    request: DescribeShareGroupOffsetsRequest,
    _version: i16,
) -> Result<DescribeShareGroupOffsetsResponse, Disconnect> {
    let mut groups = Vec::with_capacity(request.groups.len());
    for asked in request.groups {
        let group = Group { group_id: asked.group_id.clone(), ..Group::default() };
        groups.push(match check_enabled(context) {
            // No sentence: so does Kafka refuse what is not there.
            Err(error) => Group { error_code: error.code.code(), ..group },
            Ok(()) => match describe(&context.broker, asked).await {
                Ok(topics) => Group { topics, ..group },
                Err(error) => {
                    let (error_code, error_message) = (error.code.code(), Some(error.code.to_string()));
                    Group { error_code, error_message, ..group }
                }
            },
        });
    }
    Ok(DescribeShareGroupOffsetsResponse { groups, ..DescribeShareGroupOffsetsResponse::default() })
}

async fn describe(broker: &BrokerHandles, asked: AskedGroup) -> Result<Vec<Topic>, ApiError> {
    let group_id: Arc<str> = asked.group_id.into();
    let image = broker.metadata.image();
    let mut unknown = Vec::new();
    let mut partitions = Vec::<(Uuid, Arc<str>, BTreeSet<i32>)>::new();
    if let Some(topics) = asked.topics {
        for topic in topics {
            match image.topics.get(&topic.topic_name) {
                Some(known) => {
                    partitions.push((
                        known.id,
                        Arc::clone(&known.name),
                        topic.partitions.into_iter().collect(),
                    ));
                }
                None => unknown.push(Topic {
                    topic_name: topic.topic_name,
                    partitions: topic.partitions.into_iter().map(not_known).collect(),
                    ..Topic::default()
                }),
            }
        }
    } else {
        for (id, initialized) in initialized(broker, &group_id).await? {
            if let Some(topic) = image.topics.by_id(id) {
                partitions.push((id, Arc::clone(&topic.name), initialized));
            }
        }
    }
    let summaries = summaries(broker, &group_id, &partitions).await;
    let ends = ends_of(broker, &partitions, &summaries).await;
    let known = partitions.into_iter().map(|(topic_id, name, indexes)| {
        let described = indexes.into_iter().map(|index| {
            let of = TopicPartition { topic: Arc::clone(&name), partition: index };
            described(index, summaries.get(&(topic_id, index)), ends.get(&of))
        });
        let partitions = described.collect();
        Topic { topic_name: name.to_string(), topic_id, partitions, ..Topic::default() }
    });
    Ok(known.chain(unknown).collect())
}

/// The partitions that the share coordinator has the state of.
async fn initialized(broker: &BrokerHandles, group_id: &Arc<str>) -> Result<Partitions, ApiError> {
    let command = ShareCommand::InitializedPartitions { group_id: Arc::clone(group_id) };
    let ShareReply::InitializedPartitions(partitions) = broker.groups.share(command).await? else {
        return Err(ErrorCode::UnknownServerError.into());
    };
    Ok(partitions)
}

type Summaries = BTreeMap<(Uuid, i32), StateSummary>;

/// What the share coordinators can tell.
async fn summaries(
    broker: &BrokerHandles,
    group_id: &Arc<str>,
    partitions: &[(Uuid, Arc<str>, BTreeSet<i32>)],
) -> Summaries {
    let mut all = Vec::new();
    for (id, _, indexes) in partitions {
        all.extend(indexes.iter().map(|index| (*id, *index)));
    }
    let asked = stream::iter(all)
        .map(|(topic_id, partition)| async move {
            let of = SharePartition { group_id: Arc::clone(group_id), topic_id, partition };
            ((topic_id, partition), broker.persister.read_summary(of, 0).await)
        })
        .buffer_unordered(ASKED_AT_ONCE);
    asked.filter_map(|(key, summary)| async move { Some((key, summary.ok()?)) }).collect().await
}

/// Whether it is known how many records are done with.
fn tells_lag(summary: &StateSummary) -> bool {
    summary.start_offset != UNINITIALIZED_START_OFFSET
        && summary.delivery_complete_count != UNINITIALIZED_DELIVERY_COMPLETE_COUNT
}

async fn ends_of(
    broker: &BrokerHandles,
    partitions: &[(Uuid, Arc<str>, BTreeSet<i32>)],
    summaries: &Summaries,
) -> Ends {
    let mut wanted = Vec::new();
    for (id, name, indexes) in partitions {
        let known = indexes.iter().filter(|index| summaries.get(&(*id, **index)).is_some_and(tells_lag));
        wanted.extend(known.map(|index| TopicPartition { topic: Arc::clone(name), partition: *index }));
    }
    ends::ends(broker, wanted).await
}

fn not_known(partition_index: i32) -> Described {
    Described { partition_index, start_offset: UNINITIALIZED_START_OFFSET, ..Described::default() }
}

fn described(
    partition_index: i32,
    summary: Option<&StateSummary>,
    end: Option<&Result<i64, ErrorCode>>,
) -> Described {
    let Some(summary) = summary else { return not_known(partition_index) };
    let StateSummary { start_offset, leader_epoch, .. } = *summary;
    let described = Described { partition_index, start_offset, leader_epoch, ..Described::default() };
    match end {
        None => described,
        Some(Ok(end)) => {
            Described { lag: end - start_offset - i64::from(summary.delivery_complete_count), ..described }
        }
        Some(Err(code)) => Described {
            partition_index,
            error_code: code.code(),
            error_message: Some(code.to_string()),
            ..Described::default()
        },
    }
}
