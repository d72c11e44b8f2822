//! The fetch session of a follower with its leader (KIP-227, `FetchSessionHandler`): after a first full request only
//! what changed is sent.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::ErrorCode;
use crate::types::{LeaderEpoch, Offset, TopicIdPartition};

/// The session epoch that asks for a new session.
const INITIAL_EPOCH: i32 = 0;

/// One partition of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionPartition {
    pub fetch_offset: Offset,
    pub log_start_offset: Offset,
    pub current_leader_epoch: LeaderEpoch,
    pub last_fetched_epoch: LeaderEpoch,
    pub partition_max_bytes: i32,
}

/// What to send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFetch {
    pub session_id: i32,
    pub session_epoch: i32,
    /// All partitions of a full fetch; of an incremental one those that are new or changed.
    pub send: BTreeMap<TopicIdPartition, SessionPartition>,
    /// The partitions that are fetched no more.
    pub forget: BTreeSet<TopicIdPartition>,
}

/// The session with one leader.
#[derive(Clone, Debug, Default)]
pub struct FetchSession {
    session_id: i32,
    next_epoch: i32,
    partitions: BTreeMap<TopicIdPartition, SessionPartition>,
    /// Those that the leader does not know as they are here.
    changed: BTreeSet<TopicIdPartition>,
    /// Those that the leader knows and that are here no more.
    forgotten: BTreeSet<TopicIdPartition>,
}

impl FetchSession {
    /// Fetches a partition from now on, from here.
    pub fn set(&mut self, key: TopicIdPartition, partition: SessionPartition) {
        if self.partitions.insert(key, partition) != Some(partition) {
            self.changed.insert(key);
            self.forgotten.remove(&key);
        }
    }

    /// Fetches a partition no more.
    pub fn remove(&mut self, key: &TopicIdPartition) {
        if self.partitions.remove(key).is_some() {
            self.changed.remove(key);
            self.forgotten.insert(*key);
        }
    }

    /// How a partition is fetched, if it is.
    pub fn get(&self, key: &TopicIdPartition) -> Option<&SessionPartition> {
        self.partitions.get(key)
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty() && (self.forgotten.is_empty() || self.next_epoch == INITIAL_EPOCH)
    }

    /// What to send. The answer has to be told by [`FetchSession::answered`] or [`FetchSession::failed`] before
    /// anything else changes.
    pub fn fetch(&mut self) -> SessionFetch {
        let (session_id, session_epoch) = (self.session_id, self.next_epoch);
        let changed = std::mem::take(&mut self.changed);
        let forget = std::mem::take(&mut self.forgotten);
        if session_epoch == INITIAL_EPOCH {
            let send = self.partitions.clone();
            return SessionFetch { session_id, session_epoch, send, forget: BTreeSet::new() };
        }
        let send = changed.into_iter().filter_map(|key| self.partitions.get(&key).map(|new| (key, *new)));
        SessionFetch { session_id, session_epoch, send: send.collect(), forget }
    }

    /// Takes the head of an answer.
    ///
    /// # Errors
    /// What is wrong with the answer as a whole: the partitions in it do not count then.
    pub fn answered(&mut self, error_code: i16, session_id: i32) -> Result<(), ErrorCode> {
        if let Some(code) = ErrorCode::try_from_code(error_code) {
            // A session that the leader does not know can not be closed.
            if code == ErrorCode::FetchSessionIdNotFound {
                self.session_id = 0;
            }
            self.next_epoch = INITIAL_EPOCH;
            return Err(code);
        }
        if session_id == 0 {
            // The leader has no room for a session, or gave it to another one.
            (self.session_id, self.next_epoch) = (0, INITIAL_EPOCH);
            return Ok(());
        }
        if self.next_epoch != INITIAL_EPOCH && session_id != self.session_id {
            self.next_epoch = INITIAL_EPOCH;
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        self.session_id = session_id;
        self.next_epoch = self.next_epoch.checked_add(1).unwrap_or(1);
        Ok(())
    }

    /// There was no answer. Whatever the leader has, the next request replaces it.
    pub fn failed(&mut self) {
        self.next_epoch = INITIAL_EPOCH;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use uuid::Uuid;

    use super::*;

    fn key(partition: i32) -> TopicIdPartition {
        TopicIdPartition { topic_id: Uuid::from_u128(7), partition }
    }

    fn set(session: &mut FetchSession, offsets: &[(i32, i64)]) {
        for (number, fetch_offset) in offsets {
            let partition = SessionPartition {
                fetch_offset: *fetch_offset,
                log_start_offset: 0,
                current_leader_epoch: 1,
                last_fetched_epoch: 1,
                partition_max_bytes: 100,
            };
            session.set(key(*number), partition);
        }
    }

    fn numbers(fetch: &SessionFetch) -> (i32, i32, Vec<i32>, Vec<i32>) {
        let send = fetch.send.keys().map(|key| key.partition).collect();
        let forget = fetch.forget.iter().map(|key| key.partition).collect();
        (fetch.session_id, fetch.session_epoch, send, forget)
    }

    #[test]
    fn after_the_first_fetch_only_changes_are_sent() {
        let mut session = FetchSession::default();
        set(&mut session, &[(0, 1), (1, 1), (2, 1)]);
        assert_eq!(numbers(&session.fetch()), (0, 0, vec![0, 1, 2], vec![]));
        session.answered(0, 9).unwrap();
        set(&mut session, &[(0, 1), (1, 5), (3, 0)]);
        session.remove(&key(2));
        assert_eq!(numbers(&session.fetch()), (9, 1, vec![1, 3], vec![2]));
        session.answered(0, 9).unwrap();
        assert_eq!(numbers(&session.fetch()), (9, 2, vec![], vec![]));
        session.answered(0, 9).unwrap();
        session.remove(&key(0));
        set(&mut session, &[(0, 1)]);
        assert_eq!(numbers(&session.fetch()), (9, 3, vec![0], vec![]));
    }

    #[test]
    fn what_is_forgotten_last_is_still_said() {
        let mut session = FetchSession::default();
        assert!(session.is_empty());
        set(&mut session, &[(0, 1)]);
        session.remove(&key(0));
        assert!(session.is_empty());
        set(&mut session, &[(0, 1)]);
        session.fetch();
        session.answered(0, 9).unwrap();
        session.remove(&key(0));
        assert!(!session.is_empty());
        assert_eq!(numbers(&session.fetch()), (9, 1, vec![], vec![0]));
        session.answered(0, 9).unwrap();
        assert!(session.is_empty());
    }

    #[test]
    fn a_lost_session_begins_anew_with_everything() {
        let all = [(0, 1), (1, 1)];
        for (code, id) in [(ErrorCode::FetchSessionIdNotFound, 0), (ErrorCode::InvalidFetchSessionEpoch, 9)] {
            let mut session = FetchSession::default();
            set(&mut session, &all);
            session.fetch();
            session.answered(0, 9).unwrap();
            session.fetch();
            assert_eq!(session.answered(code.code(), 0), Err(code));
            assert_eq!(numbers(&session.fetch()), (id, 0, vec![0, 1], vec![]));
        }
        let mut session = FetchSession::default();
        set(&mut session, &all);
        session.fetch();
        session.answered(0, 9).unwrap();
        session.fetch();
        session.failed();
        assert_eq!(numbers(&session.fetch()), (9, 0, vec![0, 1], vec![]));
    }

    #[test]
    fn without_a_session_every_fetch_is_a_full_one() {
        let mut session = FetchSession::default();
        set(&mut session, &[(0, 1)]);
        for _ in 0..3 {
            assert_eq!(numbers(&session.fetch()), (0, 0, vec![0], vec![]));
            session.answered(0, 0).unwrap();
        }
    }

    #[test]
    fn the_epoch_goes_round_without_meeting_its_special_values() {
        let mut session = FetchSession { session_id: 1, next_epoch: i32::MAX, ..FetchSession::default() };
        session.answered(0, 1).unwrap();
        assert_eq!(session.next_epoch, 1);
    }
}
