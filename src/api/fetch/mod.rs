//! Fetch (1): reads record batches, and waits for them where there are not enough (long poll).
//!
//! - Answers when `min_bytes` can be read, when `max_wait_ms` have passed, or at once where a partition has an error.
//! - The first partition that has records gives at least one batch whatever the limits say, so that a client always
//!   gets on (KIP-74). Only whole batches are returned, the first one from before the offset that was asked for if
//!   that lies inside of it.
//! - Sessions are in [`fetch_session`](super::fetch_session) (KIP-227). Version 13 names topics by id.
//! - Version 16 tells the leader of partitions that moved (KIP-951).
//! - Who fetches decides what is read ([`replica`]): followers get what is stored and tell how far they are; where
//!   their log is another one, `diverging_epoch` says from where on. They get no sessions, as each of their fetches
//!   counts for all of their partitions. Consumers may read from followers too, up to what those know to be
//!   committed, and are sent to one in their rack if `replica.selector.class` says so (KIP-392).
//! - What is in memory is read by the connection's own task; what may have to come from the disk is read elsewhere, by
//!   a few fetches at a time. A fetch that waits reads again only the partitions that changed. Responses together are
//!   bounded (`bounds`): one may hold less than its client would take.

mod bounds;
mod encode;
mod quorum;
mod replica;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

pub(crate) use self::bounds::{FetchBounds, HeldBytes};
use self::replica::Reader;
use super::context::{Context, Disconnect};
use super::fetch_session::{
    FetchContext, Instead, NO_SESSION, PartitionKey, Resolved, Resolver, SessionRequest, Target, Told,
    TopicKey, Wanted,
};
use super::nodes::{self, Node};
use super::request::Encoded;
use super::resolve::{self, CurrentLeader, TopicRef};
use super::throttle;
use crate::error::ErrorCode;
use crate::log::{Offsets, Partition, Read, ReadUpTo};
use crate::metadata::Image;
use crate::metrics::TopicMetrics;
use crate::protocol::header::RequestHeader;
use crate::protocol::messages::FetchRequest;
use crate::types::{Offset, ProducerId};

/// The first version that names topics by id.
const TOPIC_IDS_FROM: i16 = 13;
/// The first version whose clients know KAFKA_STORAGE_ERROR.
const STORAGE_ERROR_FROM: i16 = 6;
/// The first version that has an error of the whole response.
const SESSIONS_FROM: i16 = 7;
/// The first version that tells the current leader.
const CURRENT_LEADER_FROM: i16 = 16;

/// About how large a response is without its partitions, and what each of those takes besides its records, as quotas
/// count it.
const RESPONSE_BYTES: usize = 20;
const PARTITION_BYTES: usize = 70;

/// What is answered, before it is encoded.
#[derive(Debug, Default)]
struct Answer {
    error_code: i16,
    session_id: i32,
    topics: Vec<TopicAnswer>,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct TopicAnswer {
    topic: TopicKey,
    partitions: Vec<PartitionAnswer>,
}

#[derive(Debug)]
struct PartitionAnswer {
    index: i32,
    error_code: i16,
    high_watermark: Offset,
    last_stable_offset: Offset,
    log_start_offset: Offset,
    aborted: Option<Vec<(ProducerId, Offset)>>,
    records: Vec<Bytes>,
    /// Whether there is nothing more to read.
    is_at_end: bool,
    leader: Option<CurrentLeader>,
    instead: Option<Instead>,
    /// Where what is stored ended.
    stored_end: Offset,
}

impl PartitionAnswer {
    fn error(index: i32, code: ErrorCode) -> Self {
        Self {
            index,
            error_code: code.code(),
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            aborted: None,
            records: Vec::new(),
            is_at_end: false,
            leader: None,
            instead: None,
            stored_end: -1,
        }
    }

    /// Without records.
    fn instead(index: i32, instead: Instead, partition: &Partition) -> Self {
        let Offsets { log_start, high_watermark, last_stable, .. } = partition.offsets();
        Self {
            error_code: 0,
            high_watermark,
            last_stable_offset: last_stable,
            log_start_offset: log_start,
            instead: Some(instead),
            ..Self::error(index, ErrorCode::UnknownServerError)
        }
    }

    fn read(target: &Target, limits: &Limits, read: Read) -> Self {
        let end = match limits.upto {
            ReadUpTo::LastStable => read.offsets.last_stable,
            ReadUpTo::HighWatermark => read.offsets.high_watermark,
            ReadUpTo::LogEnd => read.stored_end,
        };
        Self {
            index: target.key.partition,
            error_code: 0,
            high_watermark: read.offsets.high_watermark,
            last_stable_offset: read.offsets.last_stable,
            log_start_offset: read.offsets.log_start,
            aborted: read.aborted,
            is_at_end: read.batches.is_empty() && target.wanted.fetch_offset >= end,
            records: read.batches,
            leader: None,
            instead: None,
            stored_end: read.stored_end,
        }
    }

    /// Whether it has to be told at once.
    fn is_urgent(&self) -> bool {
        self.error_code != 0 || self.instead.is_some_and(|instead| instead != Instead::Throttled)
    }

    fn records_bytes(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }

    fn told(&self) -> Told {
        Told {
            high_watermark: self.high_watermark,
            log_start: self.log_start_offset,
            has_records: !self.records.is_empty(),
            has_error: self.is_urgent(),
            is_at_end: self.is_at_end,
        }
    }
}

/// Reads, waits where that is asked for, and encodes.
pub(super) async fn handle(
    context: &Context,
    request: FetchRequest,
    header: &RequestHeader,
) -> Result<Encoded, Disconnect> {
    let version = header.api_version;
    if quorum::is_meant(context, &request, version) {
        context.metered.iter().for_each(|metered| metered.exempt());
        return quorum::handle(context, request, header).await;
    }
    let mut limits = Limits::of(context, &request, version);
    // What is read is kept while more is waited for.
    limits.min_bytes = limits.min_bytes.min(context.broker.fetch_bounds.response_bytes_max());
    if limits.reader.is_follower() {
        context.metered.iter().for_each(|metered| metered.exempt());
    } else if let Some(bytes_max) = throttle::fetched_at_once_max(context) {
        limits.bytes_max = limits.bytes_max.min(bytes_max);
        limits.min_bytes = limits.min_bytes.min(bytes_max);
    }
    let rack = request.rack_id.clone();
    let mut fetch = match begin(context, session_request(request, version, &limits), &limits, &rack) {
        Ok(fetch) => fetch,
        Err(code) => {
            let answer = Answer { error_code: code.code(), session_id: NO_SESSION, ..Answer::default() };
            return encode::response(header, &answer);
        }
    };
    let reads = read_or_wait(context, &mut fetch, &limits).await?;
    if is_throttled(context, &reads, limits.reader) {
        let answer = throttled(context, &fetch);
        return encode::response(header, &answer);
    }
    let held = context.broker.fetch_bounds.hold(reads.bytes);
    count_fetch(context, &fetch, &reads, limits.reader);
    Ok(encode::response(header, &answer(context, &fetch, reads, version))?.holding(held))
}

fn begin(
    context: &Context,
    request: SessionRequest,
    limits: &Limits,
    rack: &str,
) -> Result<FetchContext, ErrorCode> {
    let image = context.broker.metadata.image();
    let resolve = |key: &PartitionKey| -> Resolved {
        resolve::topic(&image, topic_ref(&key.topic))
            .and_then(|topic| limits.reader.resolve(&context.broker, topic, key.partition))
    };
    let resolver = Resolver { image_offset: image.offset, resolve: &resolve };
    let mut fetch = context.broker.fetch_sessions.begin(request, &resolver, context.broker.clock.now_ms())?;
    replica::prepare(context, &image, &mut fetch, (limits.reader, rack));
    Ok(fetch)
}

/// What of the request holds for all partitions.
#[derive(Clone, Copy)]
struct Limits {
    min_bytes: usize,
    bytes_max: usize,
    wait_ms_max: i64,
    upto: ReadUpTo,
    reader: Reader,
}

impl Limits {
    fn of(context: &Context, request: &FetchRequest, version: i16) -> Self {
        let reader = Reader::of(request, version);
        let bytes_max = request.max_bytes.min(context.broker.metadata.broker_config().fetch_max_bytes);
        Self {
            min_bytes: usize::try_from(request.min_bytes.min(bytes_max)).unwrap_or(0),
            bytes_max: usize::try_from(bytes_max).unwrap_or(0),
            wait_ms_max: request.max_wait_ms.into(),
            upto: reader.upto(),
            reader,
        }
    }
}

impl Limits {
    /// How many bytes must come before it is worth to look again.
    fn missing_bytes(&self, bytes: usize) -> u64 {
        match self.upto {
            // The end of a transaction is small, and what it lets be read is not.
            ReadUpTo::LastStable => 1,
            ReadUpTo::HighWatermark | ReadUpTo::LogEnd => self.min_bytes.saturating_sub(bytes) as u64,
        }
    }
}

fn session_request(request: FetchRequest, version: i16, limits: &Limits) -> SessionRequest {
    let uses_topic_ids = version >= TOPIC_IDS_FROM;
    let topic_key =
        |name: &str, id| if uses_topic_ids { TopicKey::Id(id) } else { TopicKey::Name(name.into()) };
    let mut wanted = Vec::with_capacity(request.topics.iter().map(|topic| topic.partitions.len()).sum());
    for topic in request.topics {
        let key = topic_key(&topic.topic, topic.topic_id);
        wanted.extend(topic.partitions.into_iter().map(|partition| {
            let want = Wanted {
                fetch_offset: partition.fetch_offset,
                bytes_max: partition.partition_max_bytes,
                current_leader_epoch: partition.current_leader_epoch,
                last_fetched_epoch: partition.last_fetched_epoch,
                log_start: partition.log_start_offset,
            };
            (PartitionKey { topic: key.clone(), partition: partition.partition }, want)
        }));
    }
    let mut forgotten = Vec::new();
    for topic in request.forgotten_topics_data {
        let key = topic_key(&topic.topic, topic.topic_id);
        let partitions = topic.partitions.into_iter();
        forgotten.extend(partitions.map(|partition| PartitionKey { topic: key.clone(), partition }));
    }
    // Before there were sessions, every request stood alone.
    let upto = limits.upto;
    let has_session = version >= SESSIONS_FROM && upto != ReadUpTo::LogEnd;
    let (session_id, epoch) =
        if has_session { (request.session_id, request.session_epoch) } else { (NO_SESSION, -1) };
    SessionRequest { session_id, epoch, uses_topic_ids, wanted, forgotten, upto }
}

fn topic_ref(topic: &TopicKey) -> TopicRef<'_> {
    match topic {
        TopicKey::Name(name) => TopicRef::Name(name),
        TopicKey::Id(id) => TopicRef::Id(*id),
    }
}

/// What was read of the targets, one answer each, and which of them are still to be read.
#[derive(Default)]
struct Reads {
    answers: Vec<PartitionAnswer>,
    bytes: usize,
    /// How many answers have to be told at once.
    urgent: usize,
    /// In order.
    todo: VecDeque<usize>,
}

impl Reads {
    fn is_enough(&self, limits: &Limits) -> bool {
        self.urgent > 0 || self.bytes >= limits.min_bytes
    }

    /// Reads what is to be read, until that would mean to wait for the disk where it must not. `bytes_max`: over all.
    fn go_on(&mut self, targets: &[Target], limits: &Limits, bytes_max: usize, may_block: bool) {
        while let Some(place) = self.todo.front().copied() {
            if let Some(target) = targets.get(place) {
                // What it gave before does not count while it is read again.
                let before = self.answers.get(place).map_or(0, PartitionAnswer::records_bytes);
                let others = self.bytes - before;
                let left = bytes_max.saturating_sub(others);
                let Some(answer) = read_one(target, limits, left, others == 0, may_block) else { return };
                self.put(place, answer);
            }
            self.todo.pop_front();
        }
    }

    fn put(&mut self, place: usize, answer: PartitionAnswer) {
        self.bytes += answer.records_bytes();
        self.urgent += usize::from(answer.is_urgent());
        match self.answers.get_mut(place) {
            Some(before) => {
                let before = std::mem::replace(before, answer);
                self.bytes -= before.records_bytes();
                self.urgent -= usize::from(before.is_urgent());
            }
            // In order: a place is that of the next answer, or of one that is there.
            None => self.answers.push(answer),
        }
    }
}

/// `None` where it must not block and would.
fn read_one(
    target: &Target,
    limits: &Limits,
    bytes_left: usize,
    at_least_one_batch: bool,
    may_block: bool,
) -> Option<PartitionAnswer> {
    let wanted = &target.wanted;
    let failed = |code| Some(PartitionAnswer::error(target.key.partition, code));
    let partition = match &target.partition {
        Ok(partition) => partition,
        Err(code) => return failed(*code),
    };
    if let Err(code) = partition.check_leader_epoch(wanted.current_leader_epoch) {
        let code = if partition.is_deleted() { ErrorCode::UnknownTopicOrPartition } else { code };
        return failed(code);
    }
    if let Some(instead) = target.instead {
        return Some(PartitionAnswer::instead(target.key.partition, instead, partition));
    }
    let bytes_max = usize::try_from(wanted.bytes_max).unwrap_or(0).min(bytes_left);
    let read = if may_block {
        partition.read(wanted.fetch_offset, bytes_max, at_least_one_batch, limits.upto).map(Some)
    } else {
        partition.read_memory(wanted.fetch_offset, bytes_max, at_least_one_batch, limits.upto)
    };
    match read {
        Ok(read) => read.map(|read| PartitionAnswer::read(target, limits, read)),
        Err(error) => failed(error.code),
    }
}

/// Reads these of the targets, or again.
async fn read_some(
    context: &Context,
    fetch: &mut FetchContext,
    mut reads: Reads,
    places: impl IntoIterator<Item = usize>,
    limits: &Limits,
) -> Result<Reads, Disconnect> {
    let bounds = &context.broker.fetch_bounds;
    let bytes_max = || limits.bytes_max.min(bounds.response_bytes_max());
    reads.todo.extend(places);
    reads.go_on(&fetch.targets, limits, bytes_max(), false);
    if reads.todo.is_empty() {
        return Ok(reads);
    }
    let _turn = bounds.store_read().await;
    let (limits, bytes_max) = (*limits, bytes_max());
    let targets = std::mem::take(&mut fetch.targets);
    let metered = context.metered.clone();
    let blocking = tokio::task::spawn_blocking(move || {
        let began = metered.as_ref().map(|_| Instant::now());
        reads.go_on(&targets, &limits, bytes_max, true);
        if let (Some(metered), Some(began)) = (metered, began) {
            metered.worked(began.elapsed());
        }
        (reads, targets)
    });
    let (reads, targets) = blocking
        .await
        .map_err(|error| Disconnect::FailedUnanswered(format!("the store was not read: {error}")))?;
    fetch.targets = targets;
    Ok(reads)
}

async fn read_or_wait(
    context: &Context,
    fetch: &mut FetchContext,
    limits: &Limits,
) -> Result<Reads, Disconnect> {
    let all = 0..fetch.targets.len();
    let mut reads = read_some(context, fetch, Reads::default(), all.clone(), limits).await?;
    if limits.wait_ms_max <= 0 || reads.is_enough(limits) || fetch.asks_for_nothing() {
        return Ok(reads);
    }
    let clock = &context.broker.clock;
    let mut deadline =
        std::pin::pin!(clock.sleep_until(clock.steady_ms().saturating_add(limits.wait_ms_max)));
    let (watch, is_new) = fetch.watch(limits.upto);
    if is_new {
        // What happened between the read and now was not seen; what happens from now on is.
        let moved: Vec<usize> = all.filter(|place| has_moved(fetch, &reads, *place, limits.upto)).collect();
        reads = read_some(context, fetch, reads, moved, limits).await?;
    }
    let mut is_over = false;
    while !reads.is_enough(limits) && !is_over {
        tokio::select! {
            () = watch.changed(limits.missing_bytes(reads.bytes)) => {}
            () = &mut deadline => is_over = true,
            () = context.broker.stopping.cancelled() => is_over = true,
        }
        let changed = fetch.changed();
        reads = read_some(context, fetch, reads, changed, limits).await?;
    }
    Ok(reads)
}

/// Whether a partition is not as it was when it was read.
fn has_moved(fetch: &FetchContext, reads: &Reads, place: usize, upto: ReadUpTo) -> bool {
    let (Some(target), Some(answer)) = (fetch.targets.get(place), reads.answers.get(place)) else {
        return true;
    };
    let Ok(partition) = &target.partition else { return false };
    let Offsets { log_start, high_watermark, last_stable, .. } = partition.offsets();
    (log_start, high_watermark, last_stable)
        != (answer.log_start_offset, answer.high_watermark, answer.last_stable_offset)
        || partition.check_leader_epoch(target.wanted.current_leader_epoch).is_err()
        || partition.is_deleted()
        || (upto == ReadUpTo::LogEnd && partition.stored_end() != answer.stored_end)
}

/// Whether a consumer is held back, and gets nothing of what was read.
fn is_throttled(context: &Context, reads: &Reads, reader: Reader) -> bool {
    if context.metered.is_none() || reader.is_follower() {
        return false;
    }
    let told = reads.answers.iter().filter(|answer| !answer.records.is_empty() || answer.is_urgent()).count();
    throttle::fetched(context, RESPONSE_BYTES + told * PARTITION_BYTES + reads.bytes)
}

/// The answer to somebody who is held back: what was read is asked for again.
fn throttled(context: &Context, fetch: &FetchContext) -> Answer {
    let (session_id, error) = context.broker.fetch_sessions.throttled(fetch);
    let error_code = error.map_or(0, |code| code.code());
    Answer { error_code, session_id, ..Answer::default() }
}

/// Counts what each topic was asked for and what was read of it. Partitions of a session that were not looked at, as
/// nothing changed, do not count.
fn count_fetch(context: &Context, fetch: &FetchContext, reads: &Reads, reader: Reader) {
    let metrics = &context.broker.metrics;
    let image = context.broker.metadata.image();
    let mut last: Option<(&TopicKey, Arc<TopicMetrics>)> = None;
    for (target, answer) in fetch.targets.iter().zip(&reads.answers) {
        let key = &target.key.topic;
        let of_topic = match &last {
            Some((last, counts)) if *last == key => counts,
            _ => {
                let Ok(topic) = resolve::topic(&image, topic_ref(key)) else { continue };
                &last.insert((key, metrics.topic(&topic.name))).1
            }
        };
        let bytes = answer.records_bytes() as u64;
        if let (true, Ok(partition)) = (reader.is_follower(), &target.partition) {
            context.broker.replicas.sent(partition, bytes);
        }
        for counts in [&**of_topic, metrics.all_topics()] {
            counts.fetch_requests.increment(1);
            let bytes_out =
                if reader.is_follower() { &counts.replication_bytes_out } else { &counts.bytes_out };
            bytes_out.increment(bytes);
            if answer.error_code != 0 {
                counts.failed_fetch_requests.increment(1);
            }
        }
    }
}

/// Shapes the response: what its session needs, grouped by topic.
fn answer(context: &Context, fetch: &FetchContext, reads: Reads, version: i16) -> Answer {
    let told: Vec<_> = reads.answers.iter().map(PartitionAnswer::told).collect();
    let (session_id, tell) =
        match context.broker.fetch_sessions.finish(fetch, &told, context.broker.clock.now_ms()) {
            Ok(finished) => finished,
            Err((session_id, code)) => {
                return Answer { error_code: code.code(), session_id, ..Answer::default() };
            }
        };
    let image = context.broker.metadata.image();
    let mut answer = Answer { session_id, ..Answer::default() };
    for ((target, mut partition), tell) in fetch.targets.iter().zip(reads.answers).zip(tell) {
        if !tell {
            continue;
        }
        let key = &target.key;
        if partition.error_code != 0 {
            adjust_error(context, &image, key, &mut partition, &mut answer.nodes, version);
        }
        match answer.topics.last_mut().filter(|last| last.topic == key.topic) {
            Some(last) => last.partitions.push(partition),
            None => {
                answer.topics.push(TopicAnswer { topic: key.topic.clone(), partitions: vec![partition] });
            }
        }
    }
    answer
}

/// Older clients get a code that they know; newer ones are told who leads.
fn adjust_error(
    context: &Context,
    image: &Image,
    key: &PartitionKey,
    partition: &mut PartitionAnswer,
    nodes: &mut Vec<Node>,
    version: i16,
) {
    if version < STORAGE_ERROR_FROM && partition.error_code == ErrorCode::KafkaStorageError.code() {
        partition.error_code = ErrorCode::NotLeaderOrFollower.code();
    }
    let moved = [ErrorCode::NotLeaderOrFollower.code(), ErrorCode::FencedLeaderEpoch.code()];
    if version < CURRENT_LEADER_FROM || !moved.contains(&partition.error_code) {
        return;
    }
    let topic = resolve::topic(image, topic_ref(&key.topic)).ok();
    let Some(leader) = topic.and_then(|topic| resolve::current_leader(topic, key.partition)) else { return };
    partition.leader = Some(leader);
    if !nodes.iter().any(|node| node.id == leader.id) {
        nodes.extend(nodes::alive_node(context, image, leader.id));
    }
}
