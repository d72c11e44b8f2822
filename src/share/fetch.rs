//! One share fetch: reads the partitions that it can, delivers what is there, and waits where there is too little
//! (Kafka's `DelayedShareFetch`).
//!
//! A share partition is read by one fetch at a time, so that no record goes to two members. Who finds another one
//! fetching is woken when that is done; who finds too little is woken by what is appended, given back or timed out.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use super::leader::{FetchTurn, LedSharePartition, ShareGroupSettings, Turn};
use super::manager::SharePartitionManager;
use super::partition::{AcquireMode, Acquired, AcquiredRange, Ask, FetchedBatch};
use super::sessions::{ShareMember, TopicIdPartition};
use crate::error::{ApiError, ErrorCode};
use crate::log::batch::{BatchView, CONTROL_ABORT, control_key};
use crate::log::{Isolation, Partition, Read, Watch};
use crate::metrics::ShareGroupCounts;
use crate::types::Offset;

/// A partition to fetch from.
pub struct ShareTarget {
    /// The partition.
    pub id: TopicIdPartition,
    /// Its log, where this broker leads it.
    pub log: Result<Arc<Partition>, ErrorCode>,
}

/// What a member asks for.
pub struct ShareFetch {
    /// The member.
    pub member: ShareMember,
    /// How strictly `records_max` is kept.
    pub mode: AcquireMode,
    /// About how many records are acquired and acknowledged as one.
    pub batch_size: i32,
    /// How many records it wants.
    pub records_max: i32,
    /// How many bytes it takes.
    pub bytes_max: usize,
    /// How many bytes are worth an answer before the time is over.
    pub bytes_min: usize,
    /// How long it waits for them, in milliseconds.
    pub wait_ms_max: i64,
    /// Where to read, in the order in which to read it.
    pub targets: Vec<ShareTarget>,
}

/// What a member gets of one partition.
#[derive(Debug)]
pub struct ShareFetched {
    /// The partition.
    pub id: TopicIdPartition,
    /// What is wrong with it.
    pub error: Option<ApiError>,
    /// Whole record batches that hold the records.
    pub records: Vec<Bytes>,
    /// The records that the member holds now.
    pub acquired: Vec<AcquiredRange>,
}

impl ShareFetched {
    fn error(id: TopicIdPartition, error: ApiError) -> Self {
        Self { id, error: Some(error), records: Vec::new(), acquired: Vec::new() }
    }
}

/// A partition that a fetch may read now.
struct Readable<'a> {
    led: &'a Arc<LedSharePartition>,
    _turn: FetchTurn<'a>,
    offset: Offset,
    read: Option<Result<Read, ApiError>>,
}

/// What an attempt has to know of those before it.
struct Tried<'a> {
    /// Wakes the fetch.
    notify: &'a Arc<Notify>,
    counts: &'a ShareGroupCounts,
    /// When it began to look for partitions that it can read, or last found some.
    since_ms: &'a mut i64,
    is_last: bool,
}

/// How an attempt ends.
enum Attempt {
    Done(Vec<ShareFetched>),
    /// There is too little.
    Wait,
}

impl SharePartitionManager {
    /// Fetches. Partitions that have neither records nor an error are left out.
    pub async fn fetch(&self, fetch: ShareFetch) -> Vec<ShareFetched> {
        let settings = self.settings(&fetch.member.group_id);
        let mut failed = Vec::new();
        let mut led = Vec::new();
        for target in &fetch.targets {
            match &target.log {
                Ok(log) => led.push(self.led(&fetch.member.group_id, log)),
                Err(code) => failed.push(ShareFetched::error(target.id, (*code).into())),
            }
        }
        if led.is_empty() || fetch.records_max <= 0 || fetch.bytes_max == 0 {
            return failed;
        }
        let mut fetched = self.fetch_or_wait(&fetch, led, &settings, &mut failed).await;
        fetched.append(&mut failed);
        fetched
    }

    async fn fetch_or_wait(
        &self,
        fetch: &ShareFetch,
        mut led: Vec<Arc<LedSharePartition>>,
        settings: &ShareGroupSettings,
        failed: &mut Vec<ShareFetched>,
    ) -> Vec<ShareFetched> {
        let clock = &self.shared.clock;
        let notify = Arc::new(Notify::new());
        let watch = Arc::new(Watch::default());
        let deadline = clock.steady_ms().saturating_add(fetch.wait_ms_max.max(0));
        let mut deadline = std::pin::pin!(clock.sleep_until(deadline));
        let mut is_last = fetch.wait_ms_max <= 0;
        let mut is_watching = false;
        let counts = self.shared.metrics.group(&fetch.member.group_id);
        let mut since_ms = clock.steady_ms();
        loop {
            let tried = Tried { notify: &notify, counts: &counts, since_ms: &mut since_ms, is_last };
            if let Attempt::Done(fetched) = self.attempt(fetch, &mut led, settings, failed, tried).await {
                return fetched;
            }
            if is_last || led.is_empty() {
                return Vec::new();
            }
            if !std::mem::replace(&mut is_watching, true) {
                for (number, led) in (0..).zip(&led) {
                    led.watch(&notify);
                    led.log.watch(&watch, number);
                }
                // What happened since the attempt was not seen.
                continue;
            }
            tokio::select! {
                () = notify.notified() => {}
                () = watch.changed(1) => drop(watch.take()),
                () = &mut deadline => {
                    is_last = true;
                    self.shared.metrics.expired();
                }
                () = self.shared.stopping.cancelled() => is_last = true,
            }
        }
    }

    /// Reads what can be read now, and delivers it if that is enough, or this is the `last` attempt.
    async fn attempt(
        &self,
        fetch: &ShareFetch,
        led: &mut Vec<Arc<LedSharePartition>>,
        settings: &ShareGroupSettings,
        failed: &mut Vec<ShareFetched>,
        Tried { notify, counts, since_ms, is_last }: Tried<'_>,
    ) -> Attempt {
        let mut readable = Vec::with_capacity(led.len());
        let mut over = Vec::new();
        for led in &*led {
            match led.take_turn(notify, &settings.limits) {
                Turn::Mine(turn, offset) => readable.push(Readable { led, _turn: turn, offset, read: None }),
                Turn::Later => {}
                Turn::Never(error) => over.push((Arc::clone(led), error)),
            }
        }
        if is_last || !readable.is_empty() {
            let now_ms = self.shared.clock.steady_ms();
            counts.acquired(now_ms - std::mem::replace(since_ms, now_ms));
        }
        let bytes = self.read(&mut readable, fetch.bytes_max, settings).await;
        let has_error = readable.iter().any(|readable| matches!(readable.read, Some(Err(_))));
        let is_enough = is_last || has_error || (!readable.is_empty() && bytes >= fetch.bytes_min);
        let fetched = if is_enough {
            counts.fetched(readable.len(), fetch.targets.len());
            deliver(fetch, &readable, settings)
        } else {
            Vec::new()
        };
        drop(readable);
        for (over, error) in over {
            self.forget(&over, error.code);
            failed.push(ShareFetched::error((over.key.topic_id, over.key.partition), error));
            led.retain(|other| !Arc::ptr_eq(other, &over));
        }
        if is_enough { Attempt::Done(fetched) } else { Attempt::Wait }
    }

    /// Reads each partition, with about the same part of the bytes for each.
    async fn read(
        &self,
        readable: &mut [Readable<'_>],
        bytes_max: usize,
        settings: &ShareGroupSettings,
    ) -> usize {
        let share = bytes_max / readable.len().max(1);
        let mut first_share = bytes_max - share * readable.len().saturating_sub(1);
        let mut bytes = 0;
        for one in readable {
            let bytes_max = std::mem::replace(&mut first_share, share);
            let (log, offset, upto, at_least_one) = (&one.led.log, one.offset, settings.upto(), bytes == 0);
            let read = match log.read_memory(offset, bytes_max, at_least_one, upto) {
                Ok(None) => {
                    // Nobody closes it.
                    let _turn = self.store_reads.acquire().await.ok();
                    let log = Arc::clone(log);
                    let blocking =
                        tokio::task::spawn_blocking(move || log.read(offset, bytes_max, at_least_one, upto));
                    blocking.await.unwrap_or_else(|_| Err(ErrorCode::KafkaStorageError.into()))
                }
                Ok(Some(read)) => Ok(read),
                Err(error) => Err(error),
            };
            bytes += read.as_ref().map_or(0, Read::len);
            one.read = Some(read);
        }
        bytes
    }
}

/// Delivers what was read.
fn deliver(
    fetch: &ShareFetch,
    readable: &[Readable<'_>],
    settings: &ShareGroupSettings,
) -> Vec<ShareFetched> {
    let mut records_left = i64::from(fetch.records_max);
    let mut fetched = Vec::with_capacity(readable.len());
    for one in readable {
        let id = (one.led.key.topic_id, one.led.key.partition);
        let read = match &one.read {
            Some(Ok(read)) => read,
            // Retention was faster. Where the log starts now is known, and the next fetch reads from there.
            Some(Err(error)) if error.code == ErrorCode::OffsetOutOfRange => {
                one.led.log_start_moved();
                fetched.push(ShareFetched { id, error: None, records: Vec::new(), acquired: Vec::new() });
                continue;
            }
            Some(Err(error)) => {
                fetched.push(ShareFetched::error(id, error.clone()));
                continue;
            }
            None => continue,
        };
        let batches = fetched_batches(&read.batches);
        let views: Vec<FetchedBatch> = batches.iter().map(|(batch, _)| *batch).collect();
        let ask = Ask {
            member: &fetch.member.member_id,
            mode: fetch.mode,
            batch_size: fetch.batch_size,
            records_max: i32::try_from(records_left.max(0)).unwrap_or(i32::MAX),
            fetch_offset: one.offset,
        };
        let acquired = if records_left > 0 {
            let aborted = read.aborted.as_deref().filter(|_| settings.isolation == Isolation::ReadCommitted);
            one.led.acquire(&ask, &views, aborted, &settings.limits)
        } else {
            Acquired::default()
        };
        records_left -= acquired.records;
        let records = slice(&batches, &acquired);
        fetched.push(ShareFetched { id, error: None, records, acquired: acquired.ranges });
    }
    fetched
}

/// The batches of what was read, each with its bytes. What is no batch ends them.
fn fetched_batches(pieces: &[Bytes]) -> Vec<(FetchedBatch, Bytes)> {
    let mut batches = Vec::new();
    for piece in pieces {
        for batch in BatchView::all(piece).map_while(Result::ok) {
            let is_control = batch.is_control();
            let view = FetchedBatch {
                base_offset: batch.base_offset(),
                last_offset: batch.last_offset(),
                producer_id: batch.producer_id(),
                is_transactional: batch.is_transactional(),
                is_abort_marker: is_control && is_abort_marker(&batch),
                is_control,
            };
            batches.push((view, batch.into_bytes()));
        }
    }
    batches
}

fn is_abort_marker(batch: &BatchView) -> bool {
    let record = batch.records().ok().and_then(|mut records| records.next()?.ok());
    record.is_some_and(|record| record.key.as_deref() == Some(&control_key(CONTROL_ABORT)[..]))
}

/// The batches from the one that holds the first record on to the one that holds the last.
fn slice(batches: &[(FetchedBatch, Bytes)], acquired: &Acquired) -> Vec<Bytes> {
    let (Some(first), Some(last)) = (acquired.ranges.first(), acquired.ranges.last()) else {
        return Vec::new();
    };
    let within = |batch: &FetchedBatch| batch.last_offset >= first.first && batch.base_offset <= last.last;
    batches.iter().filter(|(batch, _)| within(batch)).map(|(_, bytes)| bytes.clone()).collect()
}
