//! Produce (0): appends record batches to partitions.
//!
//! - Pipelined: batches are validated and given offsets in the order of the requests, and answered when they are
//!   stored.
//! - acks=0: no response at all; any error closes the connection. acks=1: once the leader has it. acks=-1: once all
//!   replicas in sync have it, of which there must be `min.insync.replicas`; `timeout_ms` bounds that wait.
//! - Versions 0 to 2 are advertised and refused, because librdkafka takes their absence for a broker without
//!   compression (KAFKA-18659). Version 13 names topics by id. Since version 10 NOT_LEADER_OR_FOLLOWER says who leads
//!   (KIP-951).
//! - The first batch of a transaction in a partition waits until the transaction coordinator knows of the partition.
//!   Since version 12 it is added then; before, it must have been (KIP-890).

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::context::{Context, Disconnect};
use super::nodes;
use super::request::{Encoded, Running};
use super::resolve::{self, CurrentLeader, TopicRef};
use super::text;
use super::transactional::{Deferred, FirstTry, Supports, producer_of, verify_deferred};
use crate::clock::Clock;
use crate::error::{ApiError, ErrorCode};
use crate::log::{Acks, AppendError, Appended, Origin, PendingAppend};
use crate::metadata::{Image, TopicImage};
use crate::metrics::Metrics;
use crate::protocol::header::RequestHeader;
use crate::protocol::messages::{Body as _, ProduceRequest, ProduceResponse};
use crate::types::is_internal_topic;

/// Admin clients alone may write to internal topics, and they say so by this client id.
const ADMIN_CLIENT_ID: &str = "__admin_client";

/// What asks for all replicas in sync.
const ACKS_ALL: i16 = -1;

/// The first version that names topics by id.
const TOPIC_IDS_FROM: i16 = 13;
/// The first version that tells the current leader.
const CURRENT_LEADER_FROM: i16 = 10;
/// The first version that may bring zstd.
const ZSTD_FROM: i16 = 7;

/// The first versions that know TRANSACTION_ABORTABLE, and that add partitions to transactions (KIP-890).
const FLEXIBLE_FROM: i16 = 9;
const ABORTABLE_FROM: i16 = 11;
const EPOCH_BUMP_FROM: i16 = 12;

/// Smaller requests may stay in memory as a whole.
const LARGE_REQUEST_BYTES: usize = 64 << 10;

const ATTRIBUTES_AT: usize = 21;
const COUNT_AT: usize = 57;
const HEADER_BYTES: usize = 61;
const COMPRESSION_MASK: u8 = 0x07;
const ZSTD: u8 = 4;

/// Appends, and returns what waits for the appends and builds the response.
pub(super) fn begin(
    context: Context,
    request: ProduceRequest,
    header: RequestHeader,
) -> Result<Running, Disconnect> {
    let appends = append(&context, request, &header);
    Ok(Box::pin(finish(context, appends, header)))
}

/// What became of a request in its first stage.
struct Appends {
    acks: i16,
    timeout_ms: i64,
    transactional_id: Option<Arc<str>>,
    topics: Vec<TopicAppends<Begun>>,
}

struct TopicAppends<A> {
    name: TopicName,
    id: Uuid,
    partitions: Vec<(i32, A)>,
}

/// What became of a partition's batch in the first stage.
enum Begun {
    Done(Append),
    /// It waits for the transaction coordinator.
    Waits(Deferred),
}

impl From<Append> for Begun {
    fn from(append: Append) -> Self {
        Self::Done(append)
    }
}

enum Append {
    Pending(PendingAppend),
    Refused(Refused),
}

struct Refused {
    error: AppendError,
    leader: Option<CurrentLeader>,
}

impl From<AppendError> for Append {
    fn from(error: AppendError) -> Self {
        Self::Refused(Refused { error, leader: None })
    }
}

impl From<Result<PendingAppend, AppendError>> for Append {
    fn from(appended: Result<PendingAppend, AppendError>) -> Self {
        match appended {
            Ok(pending) => Self::Pending(pending),
            Err(error) => error.into(),
        }
    }
}

impl From<ErrorCode> for Append {
    fn from(code: ErrorCode) -> Self {
        Self::from(AppendError { code, message: None, record_errors: Vec::new(), log_start_offset: -1 })
    }
}

fn append(context: &Context, request: ProduceRequest, header: &RequestHeader) -> Appends {
    let image = context.broker.metadata.image();
    let refusal = refusal_of_all(&request);
    let acks = if request.acks == ACKS_ALL { Acks::InSync } else { Acks::Leader };
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let named = if header.api_version >= TOPIC_IDS_FROM {
            TopicRef::Id(topic.topic_id)
        } else {
            TopicRef::Name(&topic.name)
        };
        let found = resolve::topic(&image, named);
        // A name of its own: while the one of the request lives, its frame can not be written to in place.
        let name = TopicName(StrBytes::from_string(topic.name.to_string()));
        let id = topic.topic_id;
        drop(topic.name);
        let partitions = topic.partition_data.into_iter().map(|partition| {
            let appended = match (found, refusal) {
                (_, Some(Refusal::Transactional(code))) => Append::from(code).into(),
                (Err(code), _) => Append::from(code).into(),
                (Ok(_), Some(Refusal::Acks(code))) => Append::from(code).into(),
                (Ok(found), None) => {
                    append_one(context, found, partition.index, partition.records, (acks, header))
                }
            };
            (partition.index, appended)
        });
        let partitions = partitions.collect();
        topics.push(TopicAppends { name, id, partitions });
    }
    let transactional_id = request.transactional_id.as_ref().map(|id| text::shared(id));
    Appends { acks: request.acks, timeout_ms: request.timeout_ms.into(), transactional_id, topics }
}

/// Why no partition of a request is written to.
#[derive(Clone, Copy)]
enum Refusal {
    /// Comes before all other errors.
    Transactional(ErrorCode),
    /// Comes after errors that name a topic.
    Acks(ErrorCode),
}

fn refusal_of_all(request: &ProduceRequest) -> Option<Refusal> {
    let batches = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    let records = batches.filter_map(|partition| partition.records.as_ref());
    let mut producers = records.filter_map(|records| producer_of(records)).map(|(producer, _)| producer);
    if let Some(first) = producers.next() {
        if request.transactional_id.is_none() {
            return Some(Refusal::Transactional(ErrorCode::TransactionalIdAuthorizationFailed));
        }
        if producers.any(|producer| producer != first) {
            return Some(Refusal::Transactional(ErrorCode::InvalidProducerIdMapping));
        }
    }
    (!matches!(request.acks, -1..=1)).then_some(Refusal::Acks(ErrorCode::InvalidRequiredAcks))
}

/// What stays in memory keeps the whole request there with it, so a small part of a large one gets memory of its own.
fn apart(records: Bytes, request_bytes: usize) -> Bytes {
    if request_bytes > LARGE_REQUEST_BYTES && records.len() < request_bytes / 4 {
        Bytes::copy_from_slice(&records)
    } else {
        records
    }
}

fn append_one(
    context: &Context,
    topic: &Arc<TopicImage>,
    index: i32,
    records: Option<Bytes>,
    (acks, header): (Acks, &RequestHeader),
) -> Begun {
    // The partition is looked for before its records are, as in Kafka.
    if topic.partition(index).is_none() {
        return Append::from(ErrorCode::UnknownTopicOrPartition).into();
    }
    let Some(records) = records.filter(|records| !records.is_empty()) else {
        let error = AppendError::with(ErrorCode::InvalidRecord, "a produce request must have a record batch");
        return Append::from(error).into();
    };
    if header.api_version < ZSTD_FROM
        && records.len() >= HEADER_BYTES
        && records[ATTRIBUTES_AT + 1] & COMPRESSION_MASK == ZSTD
    {
        return Append::from(ErrorCode::UnsupportedCompressionType).into();
    }
    if is_internal_topic(&topic.name) && header.client_id.as_deref() != Some(ADMIN_CLIENT_ID) {
        return Append::from(ErrorCode::InvalidTopicException).into();
    }
    match resolve::partition(&context.broker, topic, index) {
        Ok(partition) => {
            let records = apart(records, context.request_bytes);
            let (bytes, count) = (records.len(), record_count(&records));
            let transactional = producer_of(&records).filter(|(producer, _)| producer.id >= 0);
            let begun = match transactional {
                None => {
                    let terms = (Origin::Client, acks);
                    partition.append_with(records, terms, Default::default(), None).map(FirstTry::Appended)
                }
                Some(producer) => {
                    Deferred::begin(&partition, records, producer, acks, supports(header.api_version))
                }
            };
            let appended = match begun {
                Ok(FirstTry::Waits(deferred)) => return Begun::Waits(deferred),
                Ok(FirstTry::Appended(pending)) => Ok(pending),
                Err(error) => Err(error),
            };
            count_append(&context.broker.metrics, &topic.name, appended.is_ok().then_some((bytes, count)));
            Append::from(appended).into()
        }
        Err(code) => Begun::Done(Append::Refused(Refused {
            error: AppendError { code, message: None, record_errors: Vec::new(), log_start_offset: -1 },
            leader: resolve::current_leader(topic, index),
        })),
    }
}

fn supports(version: i16) -> Supports {
    Supports::of(version, ABORTABLE_FROM, EPOCH_BUMP_FROM)
}

/// Appends what waited for the transaction coordinator, in its order.
async fn append_deferred(
    context: &Context,
    transactional_id: Option<Arc<str>>,
    topics: Vec<TopicAppends<Begun>>,
    version: i16,
) -> Vec<TopicAppends<Append>> {
    let mut refused = HashMap::new();
    if let Some(transactional_id) = transactional_id {
        let all = topics.iter().flat_map(|topic| &topic.partitions);
        let waits = all.filter_map(|(_, begun)| match begun {
            Begun::Waits(deferred) => Some(deferred),
            Begun::Done(_) => None,
        });
        let waiting: Vec<_> = waits.collect();
        refused = verify_deferred(&context.broker, transactional_id, &waiting, supports(version)).await;
    }
    let mut append = |begun| match begun {
        Begun::Done(append) => append,
        Begun::Waits(deferred) => {
            let refused = refused.remove(&deferred.partition());
            append_one_deferred(context, deferred, refused)
        }
    };
    let topics = topics.into_iter().map(|TopicAppends { name, id, partitions }| {
        let partitions = partitions.into_iter().map(|(index, begun)| (index, append(begun)));
        TopicAppends { name, id, partitions: partitions.collect() }
    });
    topics.collect()
}

fn append_one_deferred(context: &Context, deferred: Deferred, refused: Option<AppendError>) -> Append {
    let (topic, records) = (deferred.partition().topic, deferred.records());
    let (bytes, count) = (records.len(), record_count(records));
    let appended = refused.map_or_else(|| deferred.append(), Err);
    count_append(&context.broker.metrics, &topic, appended.is_ok().then_some((bytes, count)));
    appended.into()
}

/// How many records a batch says it has.
fn record_count(batch: &[u8]) -> u64 {
    let count = batch.get(COUNT_AT..HEADER_BYTES).and_then(|bytes| bytes.try_into().ok());
    u64::from(count.map_or(0, u32::from_be_bytes))
}

/// Counts an attempt to append, and the bytes and records of one that was taken.
fn count_append(metrics: &Metrics, topic: &str, taken: Option<(usize, u64)>) {
    for counts in [&*metrics.topic(topic), metrics.all_topics()] {
        counts.produce_requests.increment(1);
        match taken {
            Some((bytes, records)) => {
                counts.bytes_in.increment(bytes as u64);
                counts.messages_in.increment(records);
            }
            None => counts.failed_produce_requests.increment(1),
        }
    }
}

async fn finish(
    context: Context,
    appends: Appends,
    header: RequestHeader,
) -> Result<Option<Encoded>, Disconnect> {
    let Appends { acks, timeout_ms, transactional_id, topics } = appends;
    let clock = context.broker.clock.clone();
    let deadline_ms = clock.steady_ms().saturating_add(timeout_ms);
    let topics = append_deferred(&context, transactional_id, topics, header.api_version).await;
    let mut response = ProduceResponse::default();
    let mut failed = None;
    for topic in topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for (index, append) in topic.partitions {
            let answer = match append {
                Append::Pending(pending) if acks == ACKS_ALL => {
                    stored(index, in_sync(pending, &clock, deadline_ms).await)
                }
                Append::Pending(pending) => stored(index, pending.await),
                Append::Refused(refused) => {
                    let image = context.broker.metadata.image();
                    tell_leader(&mut response, &context, &image, &refused, header.api_version);
                    refusal(index, refused, header.api_version)
                }
            };
            if answer.error_code != 0 {
                failed = Some(answer.error_code);
            }
            partitions.push(answer);
        }
        let answer = TopicProduceResponse::default().with_partition_responses(partitions);
        response.responses.push(if header.api_version >= TOPIC_IDS_FROM {
            answer.with_topic_id(topic.id)
        } else {
            answer.with_name(topic.name)
        });
    }
    match (acks, failed) {
        (0, None) => Ok(None),
        (0, Some(code)) => Err(Disconnect::FailedUnanswered(format!("Produce, error code {code}"))),
        _ => answer(&context, &header, response).map(Some),
    }
}

fn answer(
    context: &Context,
    header: &RequestHeader,
    mut response: ProduceResponse,
) -> Result<Encoded, Disconnect> {
    let encoded = Encoded::response(header, &response)?;
    if context.metered.is_none() {
        return Ok(encoded);
    }
    // Behind the throttle time stand tags, of which the endpoints are one.
    let size = |response: &ProduceResponse| {
        let size = response.size(header.api_version);
        size.map_err(|error| Disconnect::Unencodable(error.to_string()))
    };
    let with_endpoints = size(&response)?;
    response.node_endpoints.clear();
    let behind = with_endpoints - size(&response)? + usize::from(header.api_version >= FLEXIBLE_FROM);
    Ok(encoded.with_throttle_behind(behind))
}

/// Waits for all replicas in sync, until the request's time is over.
async fn in_sync(pending: PendingAppend, clock: &Clock, deadline_ms: i64) -> Result<Appended, ApiError> {
    let mut committed = pin!(pending.committed());
    tokio::select! {
        biased;
        committed = &mut committed => committed,
        () = clock.sleep_until(deadline_ms) => Err(ErrorCode::RequestTimedOut.into()),
    }
}

fn stored(index: i32, result: Result<Appended, ApiError>) -> PartitionProduceResponse {
    match result {
        Ok(appended) => PartitionProduceResponse::default()
            .with_index(index)
            .with_base_offset(appended.base_offset)
            .with_log_append_time_ms(appended.log_append_time_ms)
            .with_log_start_offset(appended.log_start_offset),
        Err(ApiError { code, message }) => PartitionProduceResponse::default()
            .with_index(index)
            .with_error_code(code.code())
            .with_base_offset(-1)
            .with_log_append_time_ms(-1)
            .with_log_start_offset(-1)
            .with_error_message(message.map(StrBytes::from_string)),
    }
}

fn refusal(index: i32, refused: Refused, version: i16) -> PartitionProduceResponse {
    let Refused { error, leader } = refused;
    let record_errors = error.record_errors.into_iter().map(|(batch_index, reason)| {
        BatchIndexAndErrorMessage::default()
            .with_batch_index(batch_index)
            .with_batch_index_error_message(Some(StrBytes::from_string(reason)))
    });
    let answer = PartitionProduceResponse::default()
        .with_index(index)
        .with_error_code(error.code.code())
        .with_base_offset(-1)
        .with_log_append_time_ms(-1)
        .with_log_start_offset(error.log_start_offset)
        .with_record_errors(record_errors.collect())
        .with_error_message(error.message.map(StrBytes::from_string));
    match leader {
        Some(leader) if version >= CURRENT_LEADER_FROM && error.code == ErrorCode::NotLeaderOrFollower => {
            let tag =
                LeaderIdAndEpoch::default().with_leader_id(leader.id.into()).with_leader_epoch(leader.epoch);
            answer.with_current_leader(tag)
        }
        _ => answer,
    }
}

/// Adds the address of the leader that a refusal names.
fn tell_leader(
    response: &mut ProduceResponse,
    context: &Context,
    image: &Image,
    refused: &Refused,
    version: i16,
) {
    if version < CURRENT_LEADER_FROM || refused.error.code != ErrorCode::NotLeaderOrFollower {
        return;
    }
    let Some(leader) = refused.leader else { return };
    let known = response.node_endpoints.iter().any(|node| node.node_id == leader.id);
    if let Some(node) = nodes::alive_node(context, image, leader.id).filter(|_| !known) {
        response.node_endpoints.push(
            NodeEndpoint::default()
                .with_node_id(node.id.into())
                .with_host(StrBytes::from_string(node.host))
                .with_port(node.port.into())
                .with_rack(node.rack.map(|rack| StrBytes::from_string(rack.to_string()))),
        );
    }
}
