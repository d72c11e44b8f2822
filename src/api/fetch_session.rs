//! Fetch sessions (KIP-227): what a client keeps fetching is remembered, so that it sends only what changes and is
//! answered only with what changed.
//!
//! The rules are those of Kafka's `FetchManager` and `FetchSessionCacheShard`, with one cache where Kafka has eight.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;

use crate::error::ErrorCode;
use crate::types::{LeaderEpoch, Offset, TimestampMs};

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
}

/// What a partition was answered with, as far as it decides whether it is told again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) high_watermark: Offset,
    pub(crate) log_start: Offset,
    pub(crate) has_records: bool,
    pub(crate) has_error: bool,
}

/// The session part of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct SessionRequest {
    pub(crate) session_id: i32,
    pub(crate) epoch: i32,
    pub(crate) uses_topic_ids: bool,
    pub(crate) wanted: Vec<(PartitionKey, Wanted)>,
    pub(crate) forgotten: Vec<PartitionKey>,
}

/// How one fetch relates to sessions.
pub(crate) enum FetchContext {
    /// No session before or after it.
    Sessionless(Vec<(PartitionKey, Wanted)>),
    /// Asks for everything, and wants a session.
    Full { wanted: Vec<(PartitionKey, Wanted)>, uses_topic_ids: bool },
    /// Asks for the partitions of its session.
    Incremental { session: Arc<Mutex<Session>>, next_epoch: i32, wanted: Vec<(PartitionKey, Wanted)> },
}

impl FetchContext {
    /// The partitions to read, in order.
    pub(crate) fn wanted(&self) -> &[(PartitionKey, Wanted)] {
        match self {
            Self::Sessionless(wanted) | Self::Full { wanted, .. } | Self::Incremental { wanted, .. } => {
                wanted
            }
        }
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
    /// In the order in which they are read: whoever got records goes to the end, so that all get their turn.
    partitions: BTreeMap<u64, (PartitionKey, Cached)>,
    places: HashMap<PartitionKey, u64>,
    next_place: u64,
}

#[derive(Clone, Copy)]
struct Cached {
    wanted: Wanted,
    high_watermark: Offset,
    log_start: Offset,
}

impl Session {
    fn new(id: i32, uses_topic_ids: bool) -> Self {
        let epoch = next_epoch(INITIAL_EPOCH);
        Self { id, epoch, uses_topic_ids, partitions: BTreeMap::new(), places: HashMap::new(), next_place: 0 }
    }

    fn put_last(&mut self, key: PartitionKey, cached: Cached) {
        self.places.insert(key.clone(), self.next_place);
        self.partitions.insert(self.next_place, (key, cached));
        self.next_place += 1;
    }

    fn remove(&mut self, key: &PartitionKey) {
        if let Some(place) = self.places.remove(key) {
            self.partitions.remove(&place);
        }
    }

    fn want(&mut self, key: PartitionKey, wanted: Wanted) {
        match self.places.get(&key).and_then(|place| self.partitions.get_mut(place)) {
            Some((_, cached)) => cached.wanted = wanted,
            None => self.put_last(key, Cached { wanted, high_watermark: -1, log_start: -1 }),
        }
    }

    fn wanted(&self) -> Vec<(PartitionKey, Wanted)> {
        self.partitions.values().map(|(key, cached)| (key.clone(), cached.wanted)).collect()
    }

    /// Whether the client has to be told (`CachedPartition.maybeUpdateResponseData`).
    fn tell(&mut self, key: &PartitionKey, told: Told) -> bool {
        let Some(place) = self.places.get(key).copied() else { return false };
        let Some((_, cached)) = self.partitions.get_mut(&place) else { return false };
        let changed = cached.high_watermark != told.high_watermark || cached.log_start != told.log_start;
        cached.log_start = told.log_start;
        // After an error the partition is told again even if nothing else changes.
        cached.high_watermark = if told.has_error { -1 } else { told.high_watermark };
        if told.has_records
            && let Some((key, cached)) = self.partitions.remove(&place)
        {
            self.put_last(key, cached);
        }
        changed || told.has_records || told.has_error
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
        now_ms: TimestampMs,
    ) -> Result<FetchContext, ErrorCode> {
        let SessionRequest { session_id, epoch, uses_topic_ids, wanted, forgotten } = request;
        let mut cache = self.0.lock();
        if epoch == INITIAL_EPOCH || epoch == FINAL_EPOCH {
            cache.remove(session_id);
            return Ok(if epoch == FINAL_EPOCH {
                FetchContext::Sessionless(wanted)
            } else {
                FetchContext::Full { wanted, uses_topic_ids }
            });
        }
        let entry = cache.sessions.get(&session_id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let shared = Arc::clone(&entry.session);
        let mut session = shared.lock();
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.uses_topic_ids != uses_topic_ids {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        for (key, wanted) in &wanted {
            session.want(key.clone(), *wanted);
        }
        for key in &forgotten {
            session.remove(key);
        }
        if session.partitions.is_empty() {
            cache.remove(session_id);
            return Ok(FetchContext::Sessionless(wanted));
        }
        cache.touch(session_id, session.partitions.len(), now_ms);
        session.epoch = next_epoch(epoch);
        let (next_epoch, wanted) = (session.epoch, session.wanted());
        drop(session);
        Ok(FetchContext::Incremental { session: shared, next_epoch, wanted })
    }

    /// Ends a fetch: the session id of the response, and which of the partitions (in the order of
    /// [`FetchContext::wanted`]) belong into it. `told` is what they were answered with.
    ///
    /// # Errors
    /// `INVALID_FETCH_SESSION_EPOCH`, with the session's id, where the session went on without this request.
    pub(crate) fn finish(
        &self,
        context: &FetchContext,
        told: &[Told],
        now_ms: TimestampMs,
    ) -> Result<(i32, Vec<bool>), (i32, ErrorCode)> {
        match context {
            FetchContext::Sessionless(_) => Ok((NO_SESSION, vec![true; told.len()])),
            FetchContext::Full { wanted, uses_topic_ids } => {
                let id = self.0.lock().create(wanted, told, *uses_topic_ids, now_ms);
                Ok((id.unwrap_or(NO_SESSION), vec![true; told.len()]))
            }
            FetchContext::Incremental { session, next_epoch, wanted } => {
                let mut session = session.lock();
                if session.epoch != *next_epoch {
                    return Err((session.id, ErrorCode::InvalidFetchSessionEpoch));
                }
                let tell = wanted.iter().zip(told).map(|((key, _), told)| session.tell(key, *told)).collect();
                Ok((session.id, tell))
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
        wanted: &[(PartitionKey, Wanted)],
        told: &[Told],
        uses_topic_ids: bool,
        now_ms: TimestampMs,
    ) -> Option<i32> {
        if self.sessions.len() >= self.slots && !self.evict(told.len(), now_ms) {
            return None;
        }
        let id = self.new_id();
        let mut session = Session::new(id, uses_topic_ids);
        for ((key, wanted), told) in wanted.iter().zip(told) {
            session.want(key.clone(), *wanted);
            if let Some((_, cached)) = session.places.get(key).and_then(|at| session.partitions.get_mut(at)) {
                (cached.high_watermark, cached.log_start) = (told.high_watermark, told.log_start);
            }
        }
        let size = session.partitions.len();
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
        (key(partition), Wanted { fetch_offset: 0, bytes_max: 100, current_leader_epoch: -1 })
    }

    const QUIET: Told = Told { high_watermark: 5, log_start: 0, has_records: false, has_error: false };

    fn open(sessions: &FetchSessions, partitions: i32, now_ms: i64) -> i32 {
        let request =
            SessionRequest { wanted: (0..partitions).map(wanted).collect(), ..SessionRequest::default() };
        let context = sessions.begin(request, now_ms).unwrap();
        let told = vec![QUIET; context.wanted().len()];
        sessions.finish(&context, &told, now_ms).unwrap().0
    }

    fn next(sessions: &FetchSessions, session_id: i32, epoch: i32) -> Result<FetchContext, ErrorCode> {
        sessions.begin(SessionRequest { session_id, epoch, ..SessionRequest::default() }, 0)
    }

    #[test]
    fn only_what_changed_is_told() {
        let sessions = FetchSessions::new(10);
        let id = open(&sessions, 3, 0);
        assert_ne!(id, NO_SESSION);
        let context = next(&sessions, id, 1).unwrap();
        assert_eq!(context.wanted().len(), 3);
        let told = [QUIET, Told { high_watermark: 6, ..QUIET }, Told { has_error: true, ..QUIET }];
        assert_eq!(sessions.finish(&context, &told, 0), Ok((id, vec![false, true, true])));
        // The error is over: the partition is told once more, then no longer.
        let told = [QUIET, Told { high_watermark: 6, ..QUIET }, QUIET];
        let context = next(&sessions, id, 2).unwrap();
        assert_eq!(sessions.finish(&context, &told, 0), Ok((id, vec![false, false, true])));
        let context = next(&sessions, id, 3).unwrap();
        assert_eq!(sessions.finish(&context, &told, 0), Ok((id, vec![false, false, false])));
    }

    #[test]
    fn whoever_got_records_is_read_last_the_next_time() {
        let sessions = FetchSessions::new(10);
        let id = open(&sessions, 3, 0);
        let context = next(&sessions, id, 1).unwrap();
        let told = [Told { has_records: true, ..QUIET }, QUIET, QUIET];
        sessions.finish(&context, &told, 0).unwrap();
        let context = next(&sessions, id, 2).unwrap();
        let order: Vec<_> = context.wanted().iter().map(|(key, _)| key.partition).collect();
        assert_eq!(order, [1, 2, 0]);
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
        let by_id =
            SessionRequest { session_id: id, epoch: 1, uses_topic_ids: true, ..SessionRequest::default() };
        assert_eq!(sessions.begin(by_id, 0).err(), Some(ErrorCode::FetchSessionTopicIdError));
        // A session goes on only after the request before it was taken in.
        let late = next(&sessions, id, 1).unwrap();
        next(&sessions, id, 2).unwrap();
        assert_eq!(sessions.finish(&late, &[QUIET], 0), Err((id, ErrorCode::InvalidFetchSessionEpoch)));
    }

    #[test]
    fn a_session_without_partitions_and_a_final_epoch_close_it() {
        let sessions = FetchSessions::new(10);
        let id = open(&sessions, 1, 0);
        let forget =
            SessionRequest { session_id: id, epoch: 1, forgotten: vec![key(0)], ..SessionRequest::default() };
        assert!(matches!(sessions.begin(forget, 0), Ok(FetchContext::Sessionless(_))));
        assert_eq!(next(&sessions, id, 2).err(), Some(ErrorCode::FetchSessionIdNotFound));
        let id = open(&sessions, 1, 0);
        assert!(matches!(next(&sessions, id, FINAL_EPOCH), Ok(FetchContext::Sessionless(_))));
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
            let used = SessionRequest { session_id: id, epoch: 1, ..SessionRequest::default() };
            sessions.begin(used, EVICTION_MS + 1).unwrap();
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
