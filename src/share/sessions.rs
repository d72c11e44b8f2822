//! Share sessions: which partitions a member fetches from this broker (Kafka's `ShareSessionCache`).
//!
//! A member has one session on each broker. Epoch 0 begins it anew, -1 ends it, and each request in between names the
//! epoch that follows the last one, so that a request that was lost or sent twice shows.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;

use crate::error::ErrorCode;

/// Begins a session.
pub const INITIAL_EPOCH: i32 = 0;
/// Ends a session.
pub const FINAL_EPOCH: i32 = -1;

/// A partition of a topic.
pub type TopicIdPartition = (Uuid, i32);

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShareMember {
    /// The group.
    pub group_id: Arc<str>,
    /// The member's id.
    pub member_id: Arc<str>,
}

/// A session, as the connection knows it over which it began: it ends with that connection.
#[derive(Clone, Debug)]
pub struct SessionTicket {
    /// Whose session.
    pub member: ShareMember,
    number: u64,
}

/// How a fetch stands to its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShareContext {
    /// It is the session's last one, and fetches nothing.
    Final,
    /// It begins one: all partitions are answered.
    New,
    /// It goes on with one that was in this epoch: partitions are answered that have something to tell.
    Next(i32),
}

/// What a fetch begins with.
#[derive(Debug)]
pub struct BegunFetch {
    /// How it stands to its session.
    pub context: ShareContext,
    /// What it fetches, in the order of the session.
    pub partitions: Vec<TopicIdPartition>,
    /// The session that began with it.
    pub ticket: Option<SessionTicket>,
}

/// What a partition has to tell.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// The partition.
    pub partition: TopicIdPartition,
    /// Whether there are records for the member.
    pub has_records: bool,
    /// Whether there is an error.
    pub has_error: bool,
}

#[derive(Debug)]
struct Session {
    number: u64,
    epoch: i32,
    /// Where each partition stands in the order; those that had records go to its end.
    places: HashMap<TopicIdPartition, u64>,
    /// Whether a partition is to be told of even without records: it is new, or had an error.
    in_order: BTreeMap<u64, (TopicIdPartition, bool)>,
    next_place: u64,
}

impl Session {
    fn add(&mut self, partition: TopicIdPartition, to_tell: bool) {
        if let std::collections::hash_map::Entry::Vacant(vacant) = self.places.entry(partition) {
            vacant.insert(self.next_place);
            self.in_order.insert(self.next_place, (partition, to_tell));
            self.next_place += 1;
        }
    }

    fn remove(&mut self, partition: &TopicIdPartition) {
        if let Some(place) = self.places.remove(partition) {
            self.in_order.remove(&place);
        }
    }

    /// Whether this has to be told.
    fn tells(&mut self, told: &Told) -> bool {
        let Some(place) = self.places.get(&told.partition).copied() else { return told.has_error };
        let Some((_, to_tell)) = self.in_order.get_mut(&place) else { return told.has_error };
        let tells = std::mem::replace(to_tell, told.has_error) || told.has_records || told.has_error;
        if told.has_records {
            let to_tell = *to_tell;
            self.remove(&told.partition);
            self.add(told.partition, to_tell);
        }
        tells
    }
}

fn next_epoch(epoch: i32) -> i32 {
    if epoch < 0 { FINAL_EPOCH } else { epoch.checked_add(1).unwrap_or(1) }
}

/// The sessions of all members.
#[derive(Debug)]
pub struct ShareSessions {
    sessions_max: usize,
    inner: Mutex<Sessions>,
}

#[derive(Debug, Default)]
struct Sessions {
    by_member: HashMap<ShareMember, Session>,
    next_number: u64,
    evicted: u64,
}

/// What the metrics tell of sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// Sessions.
    pub sessions: usize,
    /// The partitions of all of them.
    pub partitions: usize,
    /// Sessions that ended with their connection.
    pub evicted: u64,
}

impl ShareSessions {
    /// No more sessions than this (`group.share.max.share.sessions`).
    pub fn new(sessions_max: usize) -> Self {
        Self { sessions_max, inner: Mutex::default() }
    }

    /// Begins a fetch: the session it belongs to takes the partitions that the request names, and forgets others.
    ///
    /// # Errors
    /// `SHARE_SESSION_NOT_FOUND`, `INVALID_SHARE_SESSION_EPOCH`, `SHARE_SESSION_LIMIT_REACHED`, and `INVALID_REQUEST`
    /// for acknowledgements in the first request of a session.
    pub fn begin(
        &self,
        member: &ShareMember,
        epoch: i32,
        wanted: &[TopicIdPartition],
        forgotten: &[TopicIdPartition],
        acknowledges: bool,
    ) -> Result<BegunFetch, ErrorCode> {
        let mut inner = self.inner.lock();
        match epoch {
            FINAL_EPOCH if inner.by_member.contains_key(member) => {
                Ok(BegunFetch { context: ShareContext::Final, partitions: Vec::new(), ticket: None })
            }
            FINAL_EPOCH => Err(ErrorCode::ShareSessionNotFound),
            INITIAL_EPOCH if acknowledges => Err(ErrorCode::InvalidRequest),
            INITIAL_EPOCH => {
                inner.by_member.remove(member);
                if inner.by_member.len() >= self.sessions_max {
                    return Err(ErrorCode::ShareSessionLimitReached);
                }
                inner.next_number += 1;
                let mut session = Session {
                    number: inner.next_number,
                    epoch: next_epoch(INITIAL_EPOCH),
                    places: HashMap::new(),
                    in_order: BTreeMap::new(),
                    next_place: 0,
                };
                wanted.iter().for_each(|partition| session.add(*partition, false));
                let partitions = session.in_order.values().map(|(partition, _)| *partition).collect();
                let ticket = SessionTicket { member: member.clone(), number: session.number };
                inner.by_member.insert(member.clone(), session);
                Ok(BegunFetch { context: ShareContext::New, partitions, ticket: Some(ticket) })
            }
            _ => {
                let session = inner.by_member.get_mut(member).ok_or(ErrorCode::ShareSessionNotFound)?;
                if session.epoch != epoch {
                    return Err(ErrorCode::InvalidShareSessionEpoch);
                }
                wanted.iter().for_each(|partition| session.add(*partition, true));
                forgotten.iter().for_each(|partition| session.remove(partition));
                session.epoch = next_epoch(epoch);
                let partitions = session.in_order.values().map(|(partition, _)| *partition).collect();
                Ok(BegunFetch { context: ShareContext::Next(epoch), partitions, ticket: None })
            }
        }
    }

    /// Which of the partitions have to be told of, each in its place.
    ///
    /// # Errors
    /// `INVALID_SHARE_SESSION_EPOCH` where another request went on with the session meanwhile.
    pub fn finish(
        &self,
        member: &ShareMember,
        context: &ShareContext,
        told: &[Told],
    ) -> Result<Vec<bool>, ErrorCode> {
        let ShareContext::Next(epoch) = context else { return Ok(vec![true; told.len()]) };
        let mut inner = self.inner.lock();
        let session = inner.by_member.get_mut(member).filter(|session| session.epoch == next_epoch(*epoch));
        let Some(session) = session else { return Err(ErrorCode::InvalidShareSessionEpoch) };
        Ok(told.iter().map(|told| session.tells(told)).collect())
    }

    /// An acknowledgement without a fetch goes on with a session too.
    ///
    /// # Errors
    /// As [`Self::begin`]; it can not begin one.
    pub fn acknowledge(&self, member: &ShareMember, epoch: i32) -> Result<(), ErrorCode> {
        if epoch == INITIAL_EPOCH {
            return Err(ErrorCode::InvalidShareSessionEpoch);
        }
        let mut inner = self.inner.lock();
        let session = inner.by_member.get_mut(member).ok_or(ErrorCode::ShareSessionNotFound)?;
        if epoch == FINAL_EPOCH {
            return Ok(());
        }
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidShareSessionEpoch);
        }
        session.epoch = next_epoch(epoch);
        Ok(())
    }

    /// Ends a session, and tells what it fetched; `None` where there is none.
    pub fn remove(&self, member: &ShareMember) -> Option<Vec<TopicIdPartition>> {
        let session = self.inner.lock().by_member.remove(member)?;
        Some(session.in_order.into_values().map(|(partition, _)| partition).collect())
    }

    /// The same, of the session that began over a connection which is closed, unless it began again since.
    pub fn disconnected(&self, ticket: &SessionTicket) -> Option<Vec<TopicIdPartition>> {
        let mut inner = self.inner.lock();
        if inner.by_member.get(&ticket.member)?.number != ticket.number {
            return None;
        }
        inner.evicted += 1;
        let session = inner.by_member.remove(&ticket.member)?;
        Some(session.in_order.into_values().map(|(partition, _)| partition).collect())
    }

    /// The groups that have members with a session here.
    pub fn groups(&self) -> HashSet<Arc<str>> {
        self.inner.lock().by_member.keys().map(|member| Arc::clone(&member.group_id)).collect()
    }

    /// Ends all sessions.
    pub fn clear(&self) {
        self.inner.lock().by_member.clear();
    }

    /// What the metrics tell.
    pub fn counts(&self) -> SessionCounts {
        let inner = self.inner.lock();
        let partitions = inner.by_member.values().map(|session| session.places.len()).sum();
        SessionCounts { sessions: inner.by_member.len(), partitions, evicted: inner.evicted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: TopicIdPartition = (Uuid::from_u128(1), 0);
    const B: TopicIdPartition = (Uuid::from_u128(1), 1);

    fn member(name: &str) -> ShareMember {
        ShareMember { group_id: "g".into(), member_id: name.into() }
    }

    fn told(partition: TopicIdPartition, has_records: bool, has_error: bool) -> Told {
        Told { partition, has_records, has_error }
    }

    #[test]
    fn a_session_goes_on_epoch_by_epoch() {
        let (sessions, m) = (ShareSessions::new(2), member("m"));
        let begin = |epoch| sessions.begin(&m, epoch, &[], &[], false).map(|begun| begun.partitions);
        assert_eq!(begin(1), Err(ErrorCode::ShareSessionNotFound));
        assert_eq!(begin(-1), Err(ErrorCode::ShareSessionNotFound));
        assert_eq!(sessions.acknowledge(&m, 1), Err(ErrorCode::ShareSessionNotFound));
        let acknowledging = sessions.begin(&m, 0, &[A], &[], true).map(|begun| begun.partitions);
        assert_eq!(acknowledging, Err(ErrorCode::InvalidRequest));
        assert_eq!(sessions.begin(&m, 0, &[A, B], &[], false).map(|begun| begun.partitions), Ok(vec![A, B]));
        assert_eq!(begin(2), Err(ErrorCode::InvalidShareSessionEpoch));
        assert_eq!(begin(1), Ok(vec![A, B]));
        assert_eq!(sessions.acknowledge(&m, 1), Err(ErrorCode::InvalidShareSessionEpoch));
        assert_eq!(sessions.acknowledge(&m, 0), Err(ErrorCode::InvalidShareSessionEpoch));
        assert_eq!(sessions.acknowledge(&m, 2), Ok(()));
        assert_eq!(sessions.begin(&m, 3, &[], &[A], false).map(|begun| begun.partitions), Ok(vec![B]));
        assert_eq!(begin(-1), Ok(vec![]));
        assert_eq!(sessions.remove(&m), Some(vec![B]));
        assert_eq!(sessions.remove(&m), None);
    }

    #[test]
    fn there_are_no_more_sessions_than_allowed() {
        let sessions = ShareSessions::new(1);
        let begin = |name| sessions.begin(&member(name), 0, &[A], &[], false).map(|begun| begun.partitions);
        assert_eq!(begin("m"), Ok(vec![A]));
        assert_eq!(begin("n"), Err(ErrorCode::ShareSessionLimitReached));
        assert_eq!(begin("m"), Ok(vec![A]));
        sessions.clear();
        assert_eq!(begin("n"), Ok(vec![A]));
        assert_eq!(sessions.counts(), SessionCounts { sessions: 1, partitions: 1, evicted: 0 });
    }

    #[test]
    fn a_partition_is_told_of_where_there_is_something_to_tell() {
        let (sessions, m) = (ShareSessions::new(1), member("m"));
        let begun = sessions.begin(&m, 0, &[A], &[], false).expect("a session");
        let quiet = [told(A, false, false), told(B, false, false)];
        assert_eq!(sessions.finish(&m, &begun.context, &quiet[..1]), Ok(vec![true]));
        let begun = sessions.begin(&m, 1, &[B], &[], false).expect("the next");
        assert_eq!(sessions.finish(&m, &begun.context, &quiet), Ok(vec![false, true]));
        let begun = sessions.begin(&m, 2, &[], &[], false).expect("the next");
        assert_eq!(
            sessions.finish(&m, &begun.context, &[told(A, true, false), told(B, false, true)]),
            Ok(vec![true; 2])
        );
        // What had records comes last; what had an error is told of once more.
        let begun = sessions.begin(&m, 3, &[], &[], false).expect("the next");
        assert_eq!(begun.partitions, [B, A]);
        assert_eq!(sessions.finish(&m, &begun.context, &quiet), Ok(vec![false, true]));
        let late = begun.context;
        sessions.begin(&m, 4, &[], &[], false).expect("the next");
        assert_eq!(sessions.finish(&m, &late, &quiet), Err(ErrorCode::InvalidShareSessionEpoch));
    }

    #[test]
    fn a_session_ends_with_its_connection_unless_it_began_again() {
        let (sessions, m) = (ShareSessions::new(1), member("m"));
        let begin = || sessions.begin(&m, 0, &[A], &[], false).expect("a session").ticket.expect("a new one");
        let (old, new) = (begin(), begin());
        assert_eq!(sessions.disconnected(&old), None);
        assert!(sessions.groups().contains("g") && !sessions.groups().contains("h"));
        assert_eq!(sessions.disconnected(&new), Some(vec![A]));
        assert!(sessions.groups().is_empty());
        assert_eq!(sessions.counts().evicted, 1);
    }
}
