//! The fetch session of a follower with its leader (KIP-227, `FetchSessionHandler`): after a first full request only
//! what changed is sent.

use std::collections::BTreeMap;

use crate::error::ErrorCode;
use crate::types::TopicIdPartition;

/// The session epoch that asks for a new session.
const INITIAL_EPOCH: i32 = 0;

/// One partition of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionPartition {
    pub fetch_offset: i64,
    pub log_start_offset: i64,
    pub current_leader_epoch: i32,
    pub last_fetched_epoch: i32,
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
    pub forget: Vec<TopicIdPartition>,
}

/// The session with one leader.
#[derive(Clone, Debug, Default)]
pub struct FetchSession {
    session_id: i32,
    next_epoch: i32,
    /// What the leader has in the session.
    partitions: BTreeMap<TopicIdPartition, SessionPartition>,
}

impl FetchSession {
    /// What to send in order to fetch `wanted`. The answer has to be told by [`FetchSession::answered`] or
    /// [`FetchSession::failed`] before the next.
    pub fn fetch(&mut self, wanted: BTreeMap<TopicIdPartition, SessionPartition>) -> SessionFetch {
        let (session_id, session_epoch) = (self.session_id, self.next_epoch);
        if session_epoch == INITIAL_EPOCH {
            self.partitions.clone_from(&wanted);
            return SessionFetch { session_id, session_epoch, send: wanted, forget: Vec::new() };
        }
        let forget = self.partitions.keys().filter(|key| !wanted.contains_key(key)).copied().collect();
        let send = wanted.iter().filter(|(key, partition)| self.partitions.get(key) != Some(*partition));
        let send = send.map(|(key, partition)| (*key, *partition)).collect();
        self.partitions = wanted;
        SessionFetch { session_id, session_epoch, send, forget }
    }

    /// Whether a partition was fetched by the last request.
    pub fn contains(&self, partition: &TopicIdPartition) -> bool {
        self.partitions.contains_key(partition)
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

    fn wanted(offsets: &[(i32, i64)]) -> BTreeMap<TopicIdPartition, SessionPartition> {
        let partition = |fetch_offset| SessionPartition {
            fetch_offset,
            log_start_offset: 0,
            current_leader_epoch: 1,
            last_fetched_epoch: 1,
            partition_max_bytes: 100,
        };
        offsets.iter().map(|(number, offset)| (key(*number), partition(*offset))).collect()
    }

    fn numbers(fetch: &SessionFetch) -> (i32, i32, Vec<i32>, Vec<i32>) {
        let send = fetch.send.keys().map(|key| key.partition).collect();
        let forget = fetch.forget.iter().map(|key| key.partition).collect();
        (fetch.session_id, fetch.session_epoch, send, forget)
    }

    #[test]
    fn after_the_first_fetch_only_changes_are_sent() {
        let mut session = FetchSession::default();
        let first = session.fetch(wanted(&[(0, 1), (1, 1), (2, 1)]));
        assert_eq!(numbers(&first), (0, 0, vec![0, 1, 2], vec![]));
        session.answered(0, 9).unwrap();
        let second = session.fetch(wanted(&[(0, 1), (1, 5), (3, 0)]));
        assert_eq!(numbers(&second), (9, 1, vec![1, 3], vec![2]));
        session.answered(0, 9).unwrap();
        let third = session.fetch(wanted(&[(0, 1), (1, 5), (3, 0)]));
        assert_eq!(numbers(&third), (9, 2, vec![], vec![]));
    }

    #[test]
    fn a_lost_session_begins_anew_with_everything() {
        let refused = |session: &mut FetchSession, code: ErrorCode| session.answered(code.code(), 0);
        let all = || wanted(&[(0, 1), (1, 1)]);
        for (code, id) in [(ErrorCode::FetchSessionIdNotFound, 0), (ErrorCode::InvalidFetchSessionEpoch, 9)] {
            let mut session = FetchSession::default();
            session.fetch(all());
            session.answered(0, 9).unwrap();
            session.fetch(all());
            assert_eq!(refused(&mut session, code), Err(code));
            assert_eq!(numbers(&session.fetch(all())), (id, 0, vec![0, 1], vec![]));
        }
        let mut session = FetchSession::default();
        session.fetch(all());
        session.answered(0, 9).unwrap();
        session.fetch(all());
        session.failed();
        assert_eq!(numbers(&session.fetch(all())), (9, 0, vec![0, 1], vec![]));
    }

    #[test]
    fn without_a_session_every_fetch_is_a_full_one() {
        let mut session = FetchSession::default();
        for _ in 0..3 {
            assert_eq!(numbers(&session.fetch(wanted(&[(0, 1)]))), (0, 0, vec![0], vec![]));
            session.answered(0, 0).unwrap();
        }
    }

    #[test]
    fn the_epoch_goes_round_without_meeting_its_special_values() {
        let mut session = FetchSession { session_id: 1, next_epoch: i32::MAX, partitions: BTreeMap::new() };
        session.answered(0, 1).unwrap();
        assert_eq!(session.next_epoch, 1);
    }
}
