//! Fetch (1): reads record batches, and waits for them where there are not enough (long poll).
//!
//! - Answers when `min_bytes` can be read, when `max_wait_ms` have passed, or at once where a partition has an error.
//! - The first partition that has records gives at least one batch whatever the limits say, so that a client always
//!   gets on (KIP-74). Only whole batches are returned, the first one from before the offset that was asked for if
//!   that lies inside of it.
//! - Sessions are in [`fetch_session`](super::fetch_session) (KIP-227). Version 13 names topics by id.
//! - Version 16 tells the leader of partitions that moved (KIP-951). `preferred_read_replica` is always -1, and
//!   `diverging_epoch` is never set: this broker has no followers. A fetch that says it comes from one is answered
//!   with NOT_LEADER_OR_FOLLOWER, as Kafka answers a replica that is not assigned.

mod encode;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use super::context::{Context, Disconnect};
use super::fetch_session::{FetchContext, NO_SESSION, PartitionKey, SessionRequest, Told, TopicKey, Wanted};
use super::nodes::{self, Node};
use super::request::Encoded;
use super::resolve::{self, CurrentLeader, TopicRef};
use crate::error::ErrorCode;
use crate::log::{Partition, ReadUpTo};
use crate::metadata::Image;
use crate::protocol::header::RequestHeader;
use crate::protocol::messages::FetchRequest;
use crate::types::{LeaderEpoch, Offset, ProducerId};

/// The first version that names topics by id.
const TOPIC_IDS_FROM: i16 = 13;
/// The first version whose clients know KAFKA_STORAGE_ERROR.
const STORAGE_ERROR_FROM: i16 = 6;
/// The first version that has an error of the whole response.
const SESSIONS_FROM: i16 = 7;
/// The first version that tells the current leader.
const CURRENT_LEADER_FROM: i16 = 16;

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
    leader: Option<CurrentLeader>,
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
            leader: None,
        }
    }

    fn records_bytes(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }

    fn told(&self) -> Told {
        Told {
            high_watermark: self.high_watermark,
            log_start: self.log_start_offset,
            has_records: !self.records.is_empty(),
            has_error: self.error_code != 0,
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
    let sessions = &context.broker.fetch_sessions;
    let limits = Limits::of(context, &request, version);
    let begun = sessions.begin(session_request(request, version), context.broker.clock.now_ms());
    let fetch = match begun {
        Ok(fetch) => fetch,
        Err(code) => {
            let answer = Answer { error_code: code.code(), session_id: NO_SESSION, ..Answer::default() };
            return encode::response(header, &answer);
        }
    };
    let read = read_or_wait(context, fetch.wanted(), &limits).await;
    count_fetch(context, &fetch, &read);
    encode::response(header, &answer(context, &fetch, read, version))
}

/// What of the request holds for all partitions.
struct Limits {
    min_bytes: usize,
    bytes_max: usize,
    wait_ms_max: i64,
    upto: ReadUpTo,
    from_follower: bool,
}

impl Limits {
    fn of(context: &Context, request: &FetchRequest, version: i16) -> Self {
        let replica_id =
            if version >= 15 { request.replica_state.replica_id.0 } else { request.replica_id.0 };
        let bytes_max = request.max_bytes.min(context.broker.metadata.broker_config().fetch_max_bytes);
        let upto = match (replica_id, request.isolation_level) {
            (0.., _) => ReadUpTo::LogEnd,
            (_, 1) => ReadUpTo::LastStable,
            _ => ReadUpTo::HighWatermark,
        };
        Self {
            min_bytes: usize::try_from(request.min_bytes.min(bytes_max)).unwrap_or(0),
            bytes_max: usize::try_from(bytes_max).unwrap_or(0),
            wait_ms_max: request.max_wait_ms.into(),
            upto,
            from_follower: replica_id >= 0,
        }
    }
}

impl Limits {
    /// Whether more than any record is waited for.
    fn counts_bytes(&self) -> bool {
        self.min_bytes > 1
    }
}

fn session_request(request: FetchRequest, version: i16) -> SessionRequest {
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
    let (session_id, epoch) =
        if version >= SESSIONS_FROM { (request.session_id, request.session_epoch) } else { (NO_SESSION, -1) };
    SessionRequest { session_id, epoch, uses_topic_ids, wanted, forgotten }
}

/// A partition to read, or the reason why it can not be.
struct Target {
    partition: Result<Arc<Partition>, ErrorCode>,
    index: i32,
    wanted: Wanted,
}

fn targets(context: &Context, wanted: &[(PartitionKey, Wanted)], limits: &Limits) -> Vec<Target> {
    let image = context.broker.metadata.image();
    let target = |(key, wanted): &(PartitionKey, Wanted)| {
        let partition = resolve::topic(&image, topic_ref(&key.topic))
            .and_then(|topic| resolve::partition(&context.broker, topic, key.partition))
            .and_then(
                |found| if limits.from_follower { Err(ErrorCode::NotLeaderOrFollower) } else { Ok(found) },
            );
        Target { partition, index: key.partition, wanted: *wanted }
    };
    wanted.iter().map(target).collect()
}

fn topic_ref(topic: &TopicKey) -> TopicRef<'_> {
    match topic {
        TopicKey::Name(name) => TopicRef::Name(name),
        TopicKey::Id(id) => TopicRef::Id(*id),
    }
}

/// What one pass over the partitions found.
struct ReadAll {
    partitions: Vec<PartitionAnswer>,
    bytes: usize,
    any_error: bool,
}

impl ReadAll {
    fn is_enough(&self, limits: &Limits) -> bool {
        self.any_error || self.partitions.is_empty() || self.bytes >= limits.min_bytes
    }
}

async fn read_or_wait(context: &Context, wanted: &[(PartitionKey, Wanted)], limits: &Limits) -> ReadAll {
    let targets = targets(context, wanted, limits);
    let mut seen = limits.counts_bytes().then(|| Seen::all(&targets));
    let mut read = read_all(&targets, limits);
    if limits.wait_ms_max <= 0 || read.is_enough(limits) {
        return read;
    }
    let clock = &context.broker.clock;
    let mut deadline =
        std::pin::pin!(clock.sleep_until(clock.steady_ms().saturating_add(limits.wait_ms_max)));
    let changed = Arc::new(Notify::new());
    loop {
        // What happens between this and the read is seen by the read, what happens later wakes us.
        for partition in targets.iter().filter_map(|target| target.partition.as_ref().ok()) {
            partition.watch(&changed);
        }
        if Seen::is_worth_a_read(&mut seen, &targets, read.bytes, limits) {
            read = read_all(&targets, limits);
            if read.is_enough(limits) {
                return read;
            }
        }
        tokio::select! {
            () = changed.notified() => {}
            () = &mut deadline => break,
            () = context.broker.stopping.cancelled() => break,
        }
    }
    // Whoever counts bytes may have passed over some that came since.
    if seen.is_some() { read_all(&targets, limits) } else { read }
}

/// How a partition was before it was read. A fetch that waits for many bytes counts with it what was appended since,
/// and does not read everything again for every record.
#[derive(Clone, Copy)]
struct Seen {
    size_bytes: u64,
    log_start: Offset,
    leader_epoch: LeaderEpoch,
    is_deleted: bool,
}

impl Seen {
    fn all(targets: &[Target]) -> Vec<Self> {
        let seen = |partition: &Arc<Partition>| Self {
            size_bytes: partition.size_bytes(),
            log_start: partition.offsets().log_start,
            leader_epoch: partition.leader_epoch(),
            is_deleted: partition.is_deleted(),
        };
        targets.iter().filter_map(|target| target.partition.as_ref().ok()).map(seen).collect()
    }

    /// Whether another read may find enough, or an error; `seen` moves on if so.
    fn is_worth_a_read(
        seen: &mut Option<Vec<Self>>,
        targets: &[Target],
        bytes_read: usize,
        limits: &Limits,
    ) -> bool {
        let Some(before) = seen else { return true };
        let now = Self::all(targets);
        let changed = |(before, now): (&Self, &Self)| {
            before.log_start != now.log_start
                || before.leader_epoch != now.leader_epoch
                || before.is_deleted != now.is_deleted
        };
        let grown =
            before.iter().zip(&now).map(|(before, now)| now.size_bytes.saturating_sub(before.size_bytes));
        let worth = bytes_read as u64 + grown.sum::<u64>() >= limits.min_bytes as u64
            || before.iter().zip(&now).any(changed);
        if worth {
            *before = now;
        }
        worth
    }
}

fn read_all(targets: &[Target], limits: &Limits) -> ReadAll {
    let mut all = ReadAll { partitions: Vec::with_capacity(targets.len()), bytes: 0, any_error: false };
    for target in targets {
        let left = limits.bytes_max.saturating_sub(all.bytes);
        let answer = read_one(target, left, all.bytes == 0, limits.upto);
        all.any_error |= answer.error_code != 0;
        all.bytes += answer.records_bytes();
        all.partitions.push(answer);
    }
    all
}

fn read_one(target: &Target, bytes_left: usize, at_least_one_batch: bool, upto: ReadUpTo) -> PartitionAnswer {
    let failed = |code| PartitionAnswer::error(target.index, code);
    let partition = match &target.partition {
        Ok(partition) => partition,
        Err(code) => return failed(*code),
    };
    if partition.is_deleted() {
        return failed(ErrorCode::UnknownTopicOrPartition);
    }
    if let Err(code) = partition.check_leader_epoch(target.wanted.current_leader_epoch) {
        return failed(code);
    }
    let bytes_max = usize::try_from(target.wanted.bytes_max).unwrap_or(0).min(bytes_left);
    match partition.read(target.wanted.fetch_offset, bytes_max, at_least_one_batch, upto) {
        Ok(read) => PartitionAnswer {
            index: target.index,
            error_code: 0,
            high_watermark: read.offsets.high_watermark,
            last_stable_offset: read.offsets.last_stable,
            log_start_offset: read.offsets.log_start,
            aborted: read.aborted,
            records: read.batches,
            leader: None,
        },
        Err(error) => failed(error.code),
    }
}

/// Counts what each topic was asked for and what was read of it.
fn count_fetch(context: &Context, fetch: &FetchContext, read: &ReadAll) {
    let metrics = &context.broker.metrics;
    let image = context.broker.metadata.image();
    let answers = fetch.wanted().iter().zip(&read.partitions);
    for ((key, _), answer) in answers {
        let Ok(topic) = resolve::topic(&image, topic_ref(&key.topic)) else { continue };
        for counts in [&*metrics.topic(&topic.name), metrics.all_topics()] {
            counts.fetch_requests.increment(1);
            counts.bytes_out.increment(answer.records_bytes() as u64);
            if answer.error_code != 0 {
                counts.failed_fetch_requests.increment(1);
            }
        }
    }
}

/// Shapes the response: what its session needs, grouped by topic.
fn answer(context: &Context, fetch: &FetchContext, read: ReadAll, version: i16) -> Answer {
    let told: Vec<_> = read.partitions.iter().map(PartitionAnswer::told).collect();
    let (session_id, tell) =
        match context.broker.fetch_sessions.finish(fetch, &told, context.broker.clock.now_ms()) {
            Ok(finished) => finished,
            Err((session_id, code)) => {
                return Answer { error_code: code.code(), session_id, ..Answer::default() };
            }
        };
    let image = context.broker.metadata.image();
    let mut answer = Answer { session_id, ..Answer::default() };
    for (((key, _), mut partition), tell) in fetch.wanted().iter().zip(read.partitions).zip(tell) {
        if !tell {
            continue;
        }
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
