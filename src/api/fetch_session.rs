//! Fetch sessions (KIP-227): what a client keeps fetching is remembered, so that it sends only what changes and is
//! answered only with what changed.
//!
//! The rules are those of Kafka's `FetchManager` and `FetchSessionCacheShard`, with one cache where Kafka has eight.
//! Unlike there, a session [watches](Watch) its partitions: those that had nothing more to read, of which nothing
//! changed since, are not looked at again. So a fetch costs what changed, not what its session holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;

use crate::error::ErrorCode;
use crate::log::{Partition, ReadUpTo, Watch};
use crate::types::{LeaderEpoch, NodeId, Offset, TimestampMs};

/// The session id of a request or a response outside of any session.
pub(crate) const NO_SESSION: i32 = 0;
/// The epoch that opens a session.
const INITIAL_EPOCH: i32 = 0;
/// The epoch that closes a session and opens none.
const FINAL_EPOCH: i32 = -1;

/// How long a session must have been there, or been unused, before another may take its place, in milliseconds
/// (`FetchSessionCache`: two minutes).
const EVICTION_MS: i64 = 120_000;

/// A partition as a fetch names it: by the name of its topic up to version 12, by its id from version 13.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PartitionKey {
    pub(crate) topic: TopicKey,
    pub(crate) partition: i32,
}

/// A topic as a fetch names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TopicKey {
    Name(Arc<str>),
    Id(Uuid),
}

/// What a client wants of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) fetch_offset: Offset,
    pub(crate) bytes_max: i32,
    pub(crate) current_leader_epoch: LeaderEpoch,
    /// The epoch of the last record that a follower has, -1 where it does not say.
    pub(crate) last_fetched_epoch: LeaderEpoch,
    /// Where a follower's log starts, -1 where it does not say.
    pub(crate) log_start: Offset,
}

/// What a partition was answered with, as far as it decides whether it is told again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) high_watermark: Offset,
    pub(crate) log_start: Offset,
    pub(crate) has_records: bool,
    pub(crate) has_error: bool,
    /// Whether there was nothing more to read, had there been more room.
    pub(crate) is_at_end: bool,
}

/// The session part of a request.
#[derive(Clone, Debug)]
pub(crate) struct SessionRequest {
    pub(crate) session_id: i32,
    pub(crate) epoch: i32,
    pub(crate) uses_topic_ids: bool,
    pub(crate) wanted: Vec<(PartitionKey, Wanted)>,
    pub(crate) forgotten: Vec<PartitionKey>,
    /// How far all of it may be read.
    pub(crate) upto: ReadUpTo,
}

/// Where a partition is, or why it can not be read here.
pub(crate) type Resolved = Result<Arc<Partition>, ErrorCode>;

/// From names to partitions, as of one metadata image.
pub(crate) struct Resolver<'a> {
    pub(crate) image_offset: Offset,
    pub(crate) resolve: &'a dyn Fn(&PartitionKey) -> Resolved,
}

/// What a partition may be answered with in place of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instead {
    /// The follower has other records than the leader: where the epoch of its last one, or the one before, ends here.
    Diverging(LeaderEpoch, Offset),
    /// The consumer had better read from this broker (KIP-392).
    Prefer(NodeId),
    /// Nothing for now: the follower was sent as much as a throttle lets it.
    Throttled,
}

/// A partition that a fetch reads.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) key: PartitionKey,
    pub(crate) wanted: Wanted,
    pub(crate) partition: Resolved,
    /// What is answered in place of records.
    pub(crate) instead: Option<Instead>,
    /// Under which it is watched.
    number: u32,
}

/// One fetch: what it reads, and how it relates to sessions.
pub(crate) struct FetchContext {
    /// In the order in which they are read. Those of a session of which nothing changed are not among them.
    pub(crate) targets: Vec<Target>,
    kind: Kind,
    /// Where it waits outside of a session.
    watch: Option<Arc<Watch>>,
}

enum Kind {
    /// No session before or after it.
    Sessionless,
    /// Asks for everything, and wants a session.
    Full { uses_topic_ids: bool, upto: ReadUpTo },
    /// Asks for the partitions of its session.
    Incremental {
        session: Arc<Mutex<Session>>,
        next_epoch: i32,
        /// Where among the targets a partition stands, by its number.
        places: HashMap<u32, usize>,
    },
}

impl FetchContext {
    fn new(wanted: Vec<(PartitionKey, Wanted)>, resolver: &Resolver<'_>, kind: Kind) -> Self {
        let target = |(number, (key, wanted)): (u32, (PartitionKey, Wanted))| {
            let partition = (resolver.resolve)(&key);
            Target { key, wanted, partition, instead: None, number }
        };
        Self { targets: (0..).zip(wanted).map(target).collect(), kind, watch: None }
    }

    /// Whether no partition is asked for, in the request or by its session.
    pub(crate) fn asks_for_nothing(&self) -> bool {
        self.targets.is_empty() && !matches!(self.kind, Kind::Incremental { .. })
    }

    /// What tells of changes of the partitions. The second value is whether they are watched from now on only: what
    /// changed between the last read and this call was not seen then.
    pub(crate) fn watch(&mut self, upto: ReadUpTo) -> (Arc<Watch>, bool) {
        if let Kind::Incremental { session, .. } = &self.kind {
            return (Arc::clone(&session.lock().watch), false);
        }
        let is_new = self.watch.is_none();
        let watch = Arc::clone(self.watch.get_or_insert_default());
        if is_new {
            for target in &self.targets {
                if let Ok(partition) = &target.partition {
                    match upto {
                        ReadUpTo::LogEnd => partition.watch_end(&watch, target.number),
                        ReadUpTo::HighWatermark | ReadUpTo::LastStable => {
                            partition.watch(&watch, target.number);
                        }
                    }
                }
            }
        }
        (watch, is_new)
    }

    /// The places among the targets of partitions that changed since they were read. A partition of the session that
    /// was no target becomes one.
    pub(crate) fn changed(&mut self) -> Vec<usize> {
        let Kind::Incremental { session, places, .. } = &mut self.kind else {
            let numbers = self.watch.as_ref().map(|watch| watch.take()).unwrap_or_default();
            return numbers.into_iter().map(|number| number as usize).collect();
        };
        let mut session = session.lock();
        let numbers = session.watch.take();
        let mut changed = Vec::with_capacity(numbers.len());
        for number in numbers {
            let Some(target) = session.changed(number) else { continue };
            let place = *places.entry(number).or_insert(self.targets.len());
            if place == self.targets.len() {
                self.targets.push(target);
            }
            changed.push(place);
        }
        changed
    }
}

/// The sessions of a broker.
pub(crate) struct FetchSessions(Mutex<Cache>);

struct Cache {
    slots: usize,
    sessions: HashMap<i32, Entry>,
    last_used: BTreeSet<(TimestampMs, i32)>,
    /// Sessions old enough to give way to a larger one, the smallest first.
    evictable: BTreeSet<(usize, i32)>,
}

struct Entry {
    session: Arc<Mutex<Session>>,
    created_ms: TimestampMs,
    last_used_ms: TimestampMs,
    size: usize,
}

/// One client's session.
pub(crate) struct Session {
    id: i32,
    epoch: i32,
    uses_topic_ids: bool,
    upto: ReadUpTo,
    /// The metadata as of which partitions were looked up.
    image_offset: Offset,
    /// By number.
    entries: Vec<Option<Cached>>,
    free: Vec<u32>,
    numbers: HashMap<PartitionKey, u32>,
    /// What has to be read the next time, in that order: whoever got records goes to the end, so that all get their
    /// turn.
    due: BTreeMap<u64, u32>,
    next_place: u64,
    watch: Arc<Watch>,
}

struct Cached {
    key: PartitionKey,
    place: u64,
    wanted: Wanted,
    partition: Resolved,
    high_watermark: Offset,
    log_start: Offset,
}

impl Session {
    fn new(id: i32, uses_topic_ids: bool, upto: ReadUpTo) -> Self {
        Self {
            id,
            epoch: next_epoch(INITIAL_EPOCH),
            uses_topic_ids,
            upto,
            image_offset: -1,
            entries: Vec::new(),
            free: Vec::new(),
            numbers: HashMap::new(),
            due: BTreeMap::new(),
            next_place: 0,
            watch: Arc::default(),
        }
    }

    fn len(&self) -> usize {
        self.numbers.len()
    }

    fn entry(&mut self, number: u32) -> Option<&mut Cached> {
        self.entries.get_mut(number as usize)?.as_mut()
    }

    /// Sets what is wanted of a partition, which is to be read then.
    fn want(&mut self, key: &PartitionKey, wanted: Wanted, resolve: impl FnOnce() -> Resolved) {
        if let Some(number) = self.numbers.get(key).copied() {
            if let Some(cached) = self.entry(number) {
                cached.wanted = wanted;
                let place = cached.place;
                self.due.insert(place, number);
            }
            return;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        });
        let partition = resolve();
        if let Ok(partition) = &partition {
            partition.watch(&self.watch, number);
        }
        let place = self.next_place;
        self.next_place += 1;
        if let Some(entry) = self.entries.get_mut(number as usize) {
            let key = key.clone();
            *entry = Some(Cached { key, place, wanted, partition, high_watermark: -1, log_start: -1 });
        }
        self.numbers.insert(key.clone(), number);
        self.due.insert(place, number);
    }

    fn remove(&mut self, key: &PartitionKey) {
        let Some(number) = self.numbers.remove(key) else { return };
        let Some(cached) = self.entries.get_mut(number as usize).and_then(Option::take) else { return };
        self.due.remove(&cached.place);
        self.free.push(number);
        if let Ok(partition) = cached.partition {
            partition.unwatch(&self.watch);
        }
    }

    /// Takes in what changed since the last fetch: in the partitions, in the request and in the metadata.
    fn advance(&mut self, request: &SessionRequest, resolver: &Resolver<'_>) {
        for number in self.watch.take() {
            self.changed(number);
        }
        if std::mem::replace(&mut self.upto, request.upto) != request.upto {
            let all: Vec<u32> = self.numbers.values().copied().collect();
            for number in all {
                self.changed(number);
            }
        }
        let image_changed =
            std::mem::replace(&mut self.image_offset, resolver.image_offset) != resolver.image_offset;
        let numbers: Vec<u32> = if image_changed {
            self.numbers.values().copied().collect()
        } else {
            self.due.values().copied().collect()
        };
        for number in numbers {
            self.resolve_again(number, image_changed, resolver);
        }
        for (key, wanted) in &request.wanted {
            self.want(key, *wanted, || (resolver.resolve)(key));
        }
        for key in &request.forgotten {
            self.remove(key);
        }
    }

    /// Looks a partition up again that may have moved, or was not to be found before.
    fn resolve_again(&mut self, number: u32, image_changed: bool, resolver: &Resolver<'_>) {
        let watch = Arc::clone(&self.watch);
        let Some(cached) = self.entry(number) else { return };
        if !image_changed && cached.partition.is_ok() {
            return;
        }
        let now = (resolver.resolve)(&cached.key);
        let is_same = match (&cached.partition, &now) {
            (Ok(before), Ok(now)) => Arc::ptr_eq(before, now),
            (Err(before), Err(now)) => before == now,
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
        };
        if is_same {
            return;
        }
        if let Ok(before) = &cached.partition {
            before.unwatch(&watch);
        }
        if let Ok(now) = &now {
            now.watch(&watch, number);
        }
        cached.partition = now;
        let place = cached.place;
        self.due.insert(place, number);
    }

    /// Something happened to a partition: it has to be read.
    fn changed(&mut self, number: u32) -> Option<Target> {
        let cached = self.entry(number)?;
        let place = cached.place;
        let target = cached.target(number);
        self.due.insert(place, number);
        Some(target)
    }

    fn targets(&self) -> Vec<Target> {
        let cached = |number: &u32| self.entries.get(*number as usize)?.as_ref().map(|c| c.target(*number));
        self.due.values().filter_map(cached).collect()
    }

    /// Whether the client has to be told (`CachedPartition.maybeUpdateResponseData`).
    fn tell(&mut self, number: u32, told: Told) -> bool {
        let next_place = self.next_place;
        let Some(cached) = self.entry(number) else { return false };
        let changed = cached.high_watermark != told.high_watermark || cached.log_start != told.log_start;
        cached.log_start = told.log_start;
        // After an error the partition is told again even if nothing else changes.
        cached.high_watermark = if told.has_error { -1 } else { told.high_watermark };
        let place = cached.place;
        if told.has_records {
            cached.place = next_place;
            self.next_place += 1;
            self.due.remove(&place);
            self.due.insert(next_place, number);
        } else if told.is_at_end && !told.has_error {
            self.due.remove(&place);
        }
        changed || told.has_records || told.has_error
    }
}

impl Cached {
    fn target(&self, number: u32) -> Target {
        let (key, partition) = (self.key.clone(), self.partition.clone());
        Target { key, wanted: self.wanted, partition, instead: None, number }
    }
}

impl FetchSessions {
    /// A cache of `slots` sessions (`max.incremental.fetch.session.cache.slots`).
    pub(crate) fn new(slots: usize) -> Self {
        let cache =
            Cache { slots, sessions: HashMap::new(), last_used: BTreeSet::new(), evictable: BTreeSet::new() };
        Self(Mutex::new(cache))
    }

    /// Finds out what a request asks for.
    ///
    /// # Errors
    /// `FETCH_SESSION_ID_NOT_FOUND`, `INVALID_FETCH_SESSION_EPOCH`, `FETCH_SESSION_TOPIC_ID_ERROR`: of the whole
    /// response.
    pub(crate) fn begin(
        &self,
        request: SessionRequest,
        resolver: &Resolver<'_>,
        now_ms: TimestampMs,
    ) -> Result<FetchContext, ErrorCode> {
        let (session_id, epoch, uses_topic_ids) = (request.session_id, request.epoch, request.uses_topic_ids);
        if epoch == INITIAL_EPOCH || epoch == FINAL_EPOCH {
            self.0.lock().remove(session_id);
            let full = Kind::Full { uses_topic_ids, upto: request.upto };
            let kind = if epoch == FINAL_EPOCH { Kind::Sessionless } else { full };
            return Ok(FetchContext::new(request.wanted, resolver, kind));
        }
        let shared = {
            let cache = self.0.lock();
            let entry = cache.sessions.get(&session_id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
            Arc::clone(&entry.session)
        };
        let mut session = shared.lock();
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.uses_topic_ids != uses_topic_ids {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        session.advance(&request, resolver);
        let size = session.len();
        if size == 0 {
            drop(session);
            self.0.lock().remove(session_id);
            return Ok(FetchContext::new(request.wanted, resolver, Kind::Sessionless));
        }
        let next_epoch = next_epoch(epoch);
        session.epoch = next_epoch;
        let targets = session.targets();
        drop(session);
        self.0.lock().touch(session_id, size, now_ms);
        let places = targets.iter().enumerate().map(|(place, target)| (target.number, place)).collect();
        let kind = Kind::Incremental { session: shared, next_epoch, places };
        Ok(FetchContext { targets, kind, watch: None })
    }

    /// Ends a fetch: the session id of the response, and which of the targets belong into it. `told` is what they were
    /// answered with.
    ///
    /// # Errors
    /// `INVALID_FETCH_SESSION_EPOCH`, with the session's id, where the session went on without this request.
    pub(crate) fn finish(
        &self,
        context: &FetchContext,
        told: &[Told],
        now_ms: TimestampMs,
    ) -> Result<(i32, Vec<bool>), (i32, ErrorCode)> {
        match &context.kind {
            Kind::Sessionless => Ok((NO_SESSION, vec![true; told.len()])),
            Kind::Full { uses_topic_ids, upto } => {
                let session = Session::new(NO_SESSION, *uses_topic_ids, *upto);
                let id = self.0.lock().create(session, &context.targets, told, now_ms);
                Ok((id.unwrap_or(NO_SESSION), vec![true; told.len()]))
            }
            Kind::Incremental { session, next_epoch, .. } => {
                let mut session = session.lock();
                if session.epoch != *next_epoch {
                    return Err((session.id, ErrorCode::InvalidFetchSessionEpoch));
                }
                let targets = context.targets.iter().zip(told);
                let tell = targets.map(|(target, told)| session.tell(target.number, *told)).collect();
                Ok((session.id, tell))
            }
        }
    }

    /// The session id of a response that tells nothing, as its client is held back, and `INVALID_FETCH_SESSION_EPOCH`
    /// where the session went on without this request.
    pub(crate) fn throttled(&self, context: &FetchContext) -> (i32, Option<ErrorCode>) {
        match &context.kind {
            Kind::Sessionless | Kind::Full { .. } => (NO_SESSION, None),
            Kind::Incremental { session, next_epoch, .. } => {
                let session = session.lock();
                let went_on = session.epoch != *next_epoch;
                (session.id, went_on.then_some(ErrorCode::InvalidFetchSessionEpoch))
            }
        }
    }

    /// How many sessions there are, and how many partitions they hold together.
    #[cfg(test)]
    fn size(&self) -> (usize, usize) {
        let cache = self.0.lock();
        (cache.sessions.len(), cache.sessions.values().map(|entry| entry.size).sum())
    }
}

impl Cache {
    fn create(
        &mut self,
        mut session: Session,
        targets: &[Target],
        told: &[Told],
        now_ms: TimestampMs,
    ) -> Option<i32> {
        if self.sessions.len() >= self.slots && !self.evict(told.len(), now_ms) {
            return None;
        }
        let id = self.new_id();
        session.id = id;
        for (target, told) in targets.iter().zip(told) {
            session.want(&target.key, target.wanted, || target.partition.clone());
            let number = session.numbers.get(&target.key).copied().unwrap_or(u32::MAX);
            if let Some(cached) = session.entry(number) {
                (cached.high_watermark, cached.log_start) = (told.high_watermark, told.log_start);
            }
        }
        let size = session.len();
        let session = Arc::new(Mutex::new(session));
        let entry = Entry { session, created_ms: now_ms, last_used_ms: now_ms, size };
        self.sessions.insert(id, entry);
        self.touch(id, size, now_ms);
        Some(id)
    }

    fn new_id(&self) -> i32 {
        loop {
            let id = rand::random_range(1..=i32::MAX);
            if !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }

    /// Makes room for a session of `size` partitions: the one that was unused for longest goes if that is too long
    /// ago, else the smallest of the old ones if it is no larger.
    fn evict(&mut self, size: usize, now_ms: TimestampMs) -> bool {
        let Some(&(last_used_ms, oldest)) = self.last_used.first() else { return false };
        if now_ms - last_used_ms > EVICTION_MS {
            self.remove(oldest);
            return true;
        }
        match self.evictable.first() {
            Some(&(smallest, id)) if smallest <= size => {
                self.remove(id);
                true
            }
            _ => false,
        }
    }

    fn remove(&mut self, id: i32) {
        if let Some(entry) = self.sessions.remove(&id) {
            self.last_used.remove(&(entry.last_used_ms, id));
            self.evictable.remove(&(entry.size, id));
        }
    }

    fn touch(&mut self, id: i32, size: usize, now_ms: TimestampMs) {
        let Some(entry) = self.sessions.get_mut(&id) else { return };
        self.last_used.remove(&(entry.last_used_ms, id));
        self.evictable.remove(&(entry.size, id));
        entry.last_used_ms = now_ms;
        entry.size = size;
        self.last_used.insert((now_ms, id));
        if now_ms - entry.created_ms > EVICTION_MS {
            self.evictable.insert((size, id));
        }
    }
}

/// Epochs grow by one and skip 0 when they wrap, which would open a new session.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test")]

    use super::*;

    fn key(partition: i32) -> PartitionKey {
        PartitionKey { topic: TopicKey::Name("t".into()), partition }
    }

    fn wanted(partition: i32) -> (PartitionKey, Wanted) {
        (
            key(partition),
            Wanted {
                fetch_offset: 0,
                bytes_max: 100,
                current_leader_epoch: -1,
                last_fetched_epoch: -1,
                log_start: -1,
            },
        )
    }

    const QUIET: Told =
        Told { high_watermark: 5, log_start: 0, has_records: false, has_error: false, is_at_end: true };
    const NOWHERE: Resolver<'_> =
        Resolver { image_offset: -1, resolve: &|_| Err(ErrorCode::NotLeaderOrFollower) };

    fn request(session_id: i32, epoch: i32) -> SessionRequest {
        let (wanted, forgotten) = (Vec::new(), Vec::new());
        let upto = ReadUpTo::HighWatermark;
        SessionRequest { session_id, epoch, uses_topic_ids: false, wanted, forgotten, upto }
    }

    fn open(sessions: &FetchSessions, partitions: i32, now_ms: i64) -> i32 {
        let request = SessionRequest { wanted: (0..partitions).map(wanted).collect(), ..request(0, 0) };
        let context = sessions.begin(request, &NOWHERE, now_ms).unwrap();
        let told = vec![QUIET; context.targets.len()];
        sessions.finish(&context, &told, now_ms).unwrap().0
    }

    fn next(sessions: &FetchSessions, session_id: i32, epoch: i32) -> Result<FetchContext, ErrorCode> {
        sessions.begin(request(session_id, epoch), &NOWHERE, 0)
    }

    fn order(context: &FetchContext) -> Vec<i32> {
        context.targets.iter().map(|target| target.key.partition).collect()
    }

    #[test]
    fn only_what_changed_is_read_and_told() {
        let sessions = FetchSessions::new(10);
        let id = open(&sessions, 3, 0);
        assert_ne!(id, NO_SESSION);
        let context = next(&sessions, id, 1).unwrap();
        assert_eq!(order(&context), [0, 1, 2], "after the first fetch nothing is known to be quiet");
        let told = [QUIET, Told { high_watermark: 6, ..QUIET }, Told { has_error: true, ..QUIET }];
        assert_eq!(sessions.finish(&context, &told, 0), Ok((id, vec![false, true, true])));
        // After an error it is read again, and told once more when it is over; then no longer.
        let context = next(&sessions, id, 2).unwrap();
        assert_eq!(order(&context), [2]);
        assert_eq!(sessions.finish(&context, &[QUIET], 0), Ok((id, vec![true])));
        let context = next(&sessions, id, 3).unwrap();
        assert_eq!(order(&context), [0; 0]);
        assert!(!context.asks_for_nothing());
        assert_eq!(sessions.finish(&context, &[], 0), Ok((id, vec![])));
        // Who wants something else of a partition has it read.
        let again = SessionRequest { wanted: vec![wanted(1)], ..request(id, 4) };
        let context = sessions.begin(again, &NOWHERE, 0).unwrap();
        assert_eq!(order(&context), [1]);
        // No room was left for it: it is still to be read, though there is nothing to tell.
        let told = [Told { high_watermark: 6, is_at_end: false, ..QUIET }];
        assert_eq!(sessions.finish(&context, &told, 0), Ok((id, vec![false])));
        assert_eq!(order(&next(&sessions, id, 5).unwrap()), [1]);
        // Others see other records of all of them.
        let committed = SessionRequest { upto: ReadUpTo::LastStable, ..request(id, 6) };
        assert_eq!(order(&sessions.begin(committed, &NOWHERE, 0).unwrap()), [0, 1, 2]);
    }

    #[test]
    fn a_partition_that_was_removed_leaves_its_number_to_the_next() {
        let sessions = FetchSessions::new(10);
        let id = open(&sessions, 3, 0);
        let change = SessionRequest { wanted: vec![wanted(7)], forgotten: vec![key(1)], ..request(id, 1) };
        let context = sessions.begin(change, &NOWHERE, 0).unwrap();
        assert_eq!(order(&context), [0, 2, 7]);
        let change = SessionRequest { wanted: vec![wanted(8)], ..request(id, 2) };
        let context = sessions.begin(change, &NOWHERE, 0).unwrap();
        assert_eq!(order(&context), [0, 2, 7, 8]);
        let numbers: BTreeSet<u32> = context.targets.iter().map(|target| target.number).collect();
        assert_eq!(numbers.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn whoever_got_records_is_read_last_the_next_time() {
        let sessions = FetchSessions::new(10);
        let id = open(&sessions, 3, 0);
        let context = next(&sessions, id, 1).unwrap();
        let told = [Told { has_records: true, ..QUIET }, QUIET, Told { is_at_end: false, ..QUIET }];
        sessions.finish(&context, &told, 0).unwrap();
        assert_eq!(order(&next(&sessions, id, 2).unwrap()), [2, 0]);
    }

    #[test]
    fn a_wrong_id_epoch_or_way_to_name_topics_is_an_error() {
        let sessions = FetchSessions::new(10);
        let id = open(&sessions, 1, 0);
        assert_eq!(
            next(&sessions, id.wrapping_add(1).max(1), 1).err(),
            Some(ErrorCode::FetchSessionIdNotFound)
        );
        assert_eq!(next(&sessions, id, 2).err(), Some(ErrorCode::InvalidFetchSessionEpoch));
        let by_id = SessionRequest { uses_topic_ids: true, ..request(id, 1) };
        assert_eq!(sessions.begin(by_id, &NOWHERE, 0).err(), Some(ErrorCode::FetchSessionTopicIdError));
        // A session goes on only after the request before it was taken in.
        let late = next(&sessions, id, 1).unwrap();
        next(&sessions, id, 2).unwrap();
        assert_eq!(sessions.finish(&late, &[QUIET], 0), Err((id, ErrorCode::InvalidFetchSessionEpoch)));
    }

    #[test]
    fn a_session_without_partitions_and_a_final_epoch_close_it() {
        let sessions = FetchSessions::new(10);
        let id = open(&sessions, 1, 0);
        let forget = SessionRequest { forgotten: vec![key(0)], ..request(id, 1) };
        assert!(sessions.begin(forget, &NOWHERE, 0).unwrap().asks_for_nothing());
        assert_eq!(next(&sessions, id, 2).err(), Some(ErrorCode::FetchSessionIdNotFound));
        let id = open(&sessions, 1, 0);
        assert!(next(&sessions, id, FINAL_EPOCH).unwrap().asks_for_nothing());
        assert_eq!(sessions.size(), (0, 0));
    }

    #[test]
    fn a_full_cache_keeps_young_sessions_and_gives_up_stale_or_smaller_ones() {
        let sessions = FetchSessions::new(2);
        let small = open(&sessions, 1, 0);
        let large = open(&sessions, 5, 0);
        assert_eq!(open(&sessions, 9, EVICTION_MS), NO_SESSION);
        // Both are old now but in use: the smaller one gives way, and only to one that is as large.
        for id in [small, large] {
            sessions.begin(request(id, 1), &NOWHERE, EVICTION_MS + 1).unwrap();
        }
        let third = open(&sessions, 3, EVICTION_MS + 1);
        assert_ne!(third, NO_SESSION);
        assert_eq!(next(&sessions, small, 2).err(), Some(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(open(&sessions, 4, EVICTION_MS + 1), NO_SESSION);
        // Unused for long: gone, whatever its size.
        assert_ne!(open(&sessions, 1, 3 * EVICTION_MS), NO_SESSION);
    }

    #[test]
    fn epochs_skip_zero_when_they_wrap() {
        assert_eq!(next_epoch(i32::MAX), 1);
    }
}
