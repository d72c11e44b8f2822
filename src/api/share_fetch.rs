//! ShareFetch (78): a member of a share group gets records, which it holds until it acknowledges them or the time is
//! over, and acknowledges earlier ones (KIP-932).
//!
//! - What is acknowledged is written before anything is fetched with the same request.
//! - The partitions are those of the member's [share session](crate::share::sessions); with its connection the session
//!   ends, and others get what it held.
//! - Version 2 has acquire modes (KIP-1206), and requests that hold records for longer and fetch nothing (KIP-1222).

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::context::{Context, Disconnect};
use super::request::Encoded;
use super::resolve::{self, TopicRef};
use super::share::{self, Acknowledged};
use super::throttle;
use crate::error::{ApiError, ErrorCode};
use crate::log::Partition;
use crate::metadata::Image;
use crate::protocol::header::RequestHeader;
use crate::protocol::messages::share_fetch::{
    ShareAcquiredRecords, ShareFetchPartitionData, ShareFetchableTopicResponse,
};
use crate::protocol::messages::{ShareFetchRequest, ShareFetchResponse};
use crate::share::fetch::{ShareFetch, ShareFetched, ShareTarget};
use crate::share::partition::AcquireMode;
use crate::share::sessions::{BegunFetch, FINAL_EPOCH, ShareContext, ShareMember, Told, TopicIdPartition};

pub(super) async fn handle(
    context: &Context,
    request: ShareFetchRequest,
    header: &RequestHeader,
) -> Result<Encoded, Disconnect> {
    let mut response = match fetch(context, request, header.api_version).await {
        Ok(response) => response,
        Err(error) => ShareFetchResponse { error_code: error.code.code(), ..ShareFetchResponse::default() },
    };
    response.responses.retain(|topic| !topic.partitions.is_empty());
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    let bytes = partitions.map(|partition| partition.records.len()).sum();
    let held = context.broker.fetch_bounds.hold(bytes);
    Ok(Encoded::response(header, &response)?.holding(held))
}

async fn fetch(
    context: &Context,
    mut request: ShareFetchRequest,
    version: i16,
) -> Result<ShareFetchResponse, ApiError> {
    let member = share::member(context, request.group_id.as_deref(), request.member_id.as_deref())?;
    if request.is_renew_ack {
        check_renewal(&request)?;
    }
    let shares = &context.broker.shares;
    let begun = match begin(context, &member, &request) {
        Ok(begun) => begun,
        Err(code) => {
            if code == ErrorCode::ShareSessionLimitReached {
                wait(context, request.max_wait_ms).await;
            }
            return Err(code.into());
        }
    };
    let acknowledged = if acknowledges(&request) {
        let is_renew = request.is_renew_ack;
        share::acknowledge(context, &member, take_acknowledged(&mut request), (version, is_renew)).await
    } else {
        Vec::new()
    };
    let fetched = if request.is_renew_ack {
        Vec::new()
    } else {
        let fetch = wanted(context, &member, &request, &begun)?;
        shares.fetch(fetch).await
    };
    let epoch = request.share_session_epoch;
    let mut response = shape(context, &member, &begun.context, fetched)?;
    response.acquisition_lock_timeout_ms = share::lock_timeout_ms(context, &member);
    for (partition, outcome) in acknowledged {
        let of_partition = data_of(&mut response, partition);
        if let Err(error) = outcome {
            of_partition.acknowledge_error_code = error.code.code();
            of_partition.acknowledge_error_message = Some(error.to_string());
        }
    }
    if epoch == FINAL_EPOCH {
        // Another request may have ended it meanwhile.
        let _ = shares.release_session(&member);
    }
    Ok(response)
}

/// A request that holds records for longer fetches nothing (KIP-1222).
fn check_renewal(request: &ShareFetchRequest) -> Result<(), ErrorCode> {
    let limits = [request.max_bytes, request.min_bytes, request.max_records, request.max_wait_ms];
    if limits == [0; 4] { Ok(()) } else { Err(ErrorCode::InvalidRequest) }
}

fn begin(
    context: &Context,
    member: &ShareMember,
    request: &ShareFetchRequest,
) -> Result<BegunFetch, ErrorCode> {
    let of_topic =
        |topic_id, partitions: Vec<i32>| partitions.into_iter().map(move |index| (topic_id, index));
    let wanted: Vec<TopicIdPartition> = request
        .topics
        .iter()
        .flat_map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| partition.partition_index);
            of_topic(topic.topic_id, partitions.collect())
        })
        .collect();
    let forgotten: Vec<TopicIdPartition> = request
        .forgotten_topics_data
        .iter()
        .flat_map(|topic| of_topic(topic.topic_id, topic.partitions.clone()))
        .collect();
    let sessions = context.broker.shares.sessions();
    let epoch = request.share_session_epoch;
    let begun = sessions.begin(member, epoch, &wanted, &forgotten, acknowledges(request))?;
    if let Some(ticket) = &begun.ticket {
        context.connection.set_share_session(ticket.clone());
    }
    Ok(begun)
}

fn acknowledges(request: &ShareFetchRequest) -> bool {
    let mut partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.any(|partition| !partition.acknowledgement_batches.is_empty())
}

fn take_acknowledged(request: &mut ShareFetchRequest) -> Vec<Acknowledged> {
    let partitions = request.topics.iter_mut().flat_map(|topic| {
        let topic_id = topic.topic_id;
        topic.partitions.iter_mut().map(move |partition| Acknowledged {
            partition: (topic_id, partition.partition_index),
            batches: std::mem::take(&mut partition.acknowledgement_batches),
        })
    });
    partitions.filter(|one| !one.batches.is_empty()).collect()
}

/// There are as many sessions as may be: whoever asks for one more asks again, but not at once.
async fn wait(context: &Context, wait_ms: i32) {
    let clock = &context.broker.clock;
    let until = clock.steady_ms().saturating_add(wait_ms.into());
    tokio::select! {
        () = clock.sleep_until(until) => {}
        () = context.broker.stopping.cancelled() => {}
    }
}

fn wanted(
    context: &Context,
    member: &ShareMember,
    request: &ShareFetchRequest,
    begun: &BegunFetch,
) -> Result<ShareFetch, ApiError> {
    let mode = match request.share_acquire_mode {
        0 => AcquireMode::BatchOptimized,
        1 => AcquireMode::RecordLimit,
        mode => {
            let message = format!("Unknown share acquire mode id: {mode}");
            return Err(ApiError::with(ErrorCode::UnknownServerError, message));
        }
    };
    let image = context.broker.metadata.image();
    let bytes = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
    let bytes_max = bytes(request.max_bytes.min(context.broker.metadata.broker_config().fetch_max_bytes))
        .min(context.broker.fetch_bounds.response_bytes_max())
        .min(throttle::fetched_at_once_max(context).unwrap_or(usize::MAX));
    let mut targets: Vec<_> = begun
        .partitions
        .iter()
        .map(|id| {
            let log = target(context, &image, *id);
            ShareTarget { id: *id, log }
        })
        .collect();
    // Each epoch begins with another partition.
    if let (Ok(epoch @ 1..), false) = (usize::try_from(request.share_session_epoch), targets.is_empty()) {
        let first = epoch % targets.len();
        targets.rotate_left(first);
    }
    Ok(ShareFetch {
        member: member.clone(),
        mode,
        batch_size: request.batch_size,
        records_max: request.max_records,
        bytes_max,
        bytes_min: bytes(request.min_bytes).min(bytes_max),
        wait_ms_max: request.max_wait_ms.into(),
        targets,
    })
}

fn target(
    context: &Context,
    image: &Image,
    (topic_id, partition): TopicIdPartition,
) -> Result<Arc<Partition>, ErrorCode> {
    let topic = resolve::topic(image, TopicRef::Id(topic_id))?;
    let counts = context.broker.metrics.topic(&topic.name);
    counts.share_fetch_requests.increment(1);
    context.broker.metrics.all_topics().share_fetch_requests.increment(1);
    resolve::partition(&context.broker, topic, partition)
}

/// Shapes what has to be told.
fn shape(
    context: &Context,
    member: &ShareMember,
    of: &ShareContext,
    fetched: Vec<ShareFetched>,
) -> Result<ShareFetchResponse, ApiError> {
    let told: Vec<_> = fetched
        .iter()
        .map(|one| Told {
            partition: one.id,
            has_records: !one.records.is_empty(),
            has_error: one.error.is_some(),
        })
        .collect();
    let told = context.broker.shares.sessions().finish(member, of, &told)?;
    let image = context.broker.metadata.image();
    let mut response = ShareFetchResponse::default();
    for (one, _) in fetched.into_iter().zip(told).filter(|(_, told)| *told) {
        count(context, &image, &one);
        let error_code = one.error.as_ref().map_or(0, |error| error.code.code());
        let leader = share::leader(context, &image, one.id, error_code, &mut response.node_endpoints);
        let data = data_of(&mut response, one.id);
        data.error_code = error_code;
        data.current_leader = leader;
        data.records = joined(one.records);
        data.acquired_records = one
            .acquired
            .iter()
            .map(|range| ShareAcquiredRecords {
                first_offset: range.first,
                last_offset: range.last,
                delivery_count: range.delivery_count,
                ..ShareAcquiredRecords::default()
            })
            .collect();
    }
    Ok(response)
}

fn count(context: &Context, image: &Image, one: &ShareFetched) {
    let Some(topic) = image.topics.by_id(one.id.0) else { return };
    let bytes = one.records.iter().map(Bytes::len).sum::<usize>() as u64;
    let metrics = &context.broker.metrics;
    for counts in [&*metrics.topic(&topic.name), metrics.all_topics()] {
        counts.bytes_out.increment(bytes);
        counts.failed_share_fetch_requests.increment(u64::from(one.error.is_some()));
    }
}

/// The batches in one piece.
fn joined(mut pieces: Vec<Bytes>) -> Bytes {
    if pieces.len() == 1 {
        return pieces.remove(0);
    }
    let mut all = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    pieces.iter().for_each(|piece| all.extend_from_slice(piece));
    all.freeze()
}

/// The place of a partition in a response.
fn data_of(
    response: &mut ShareFetchResponse,
    (topic_id, index): TopicIdPartition,
) -> &mut ShareFetchPartitionData {
    let topics = &mut response.responses;
    let place = topics.iter().position(|topic| topic.topic_id == topic_id).unwrap_or(topics.len());
    if place == topics.len() {
        topics.push(ShareFetchableTopicResponse { topic_id, ..ShareFetchableTopicResponse::default() });
    }
    let partitions = &mut topics[place].partitions;
    let known = partitions.iter().position(|partition| partition.partition_index == index);
    let place = known.unwrap_or(partitions.len());
    if place == partitions.len() {
        partitions
            .push(ShareFetchPartitionData { partition_index: index, ..ShareFetchPartitionData::default() });
    }
    &mut partitions[place]
}
