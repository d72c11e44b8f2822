//! A consumer group of the classic protocol whose members all come at once.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use integration::wire::Connection;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::{Limit, join};

const FIND_COORDINATOR_VERSION: i16 = 3;
const JOIN_GROUP_VERSION: i16 = 7;
const SYNC_GROUP_VERSION: i16 = 5;
const HEARTBEAT_VERSION: i16 = 4;
const MEMBER_ID_REQUIRED: i16 = 79;
const REBALANCE_IN_PROGRESS: i16 = 27;
/// `heartbeat.interval.ms` of Kafka's consumer.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);

/// Lets so many members join a new group at once; answers how long it took until all of them had their assignments of
/// one generation that all are in.
///
/// # Errors
/// When the broker refuses, or the limit is reached.
pub fn join_all(bootstrap: &str, group: &str, members: usize, limit: &Limit) -> io::Result<Duration> {
    coordinator(bootstrap, group, limit)?;
    let start = Instant::now();
    let complete = AtomicUsize::new(0);
    let ends = thread::scope(|scope| {
        let member = || {
            Member::new(bootstrap, group)?
                .until_complete(members, &complete, limit)
                .inspect_err(|_| limit.stop())
        };
        join((0..members).map(|_| scope.spawn(member)).collect())
    })?;
    Ok(ends.into_iter().max().map_or(Duration::ZERO, |end| end - start))
}

/// Waits until the group has a coordinator: the broker may have to create its topic first.
fn coordinator(bootstrap: &str, group: &str, limit: &Limit) -> io::Result<()> {
    let mut connection = Connection::open(bootstrap)?;
    let request = FindCoordinatorRequest::default().with_key(StrBytes::from_string(group.to_owned()));
    while connection.call(FIND_COORDINATOR_VERSION, &request)?.error_code != 0 {
        if limit.is_over() {
            return Err(io::Error::other("no coordinator in time"));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

struct Member {
    connection: Connection,
    group: GroupId,
    id: StrBytes,
}

impl Member {
    fn new(bootstrap: &str, group: &str) -> io::Result<Self> {
        let group = GroupId(StrBytes::from_string(group.to_owned()));
        Ok(Self { connection: Connection::open(bootstrap)?, group, id: StrBytes::default() })
    }

    /// Joins, and joins again when the group is rebalanced, until every member has the assignment of one generation.
    fn until_complete(
        &mut self,
        members: usize,
        complete: &AtomicUsize,
        limit: &Limit,
    ) -> io::Result<Instant> {
        let mut counted = None;
        while !limit.is_over() {
            let joined = self.join()?;
            if joined.error_code == MEMBER_ID_REQUIRED {
                self.id = joined.member_id;
                continue;
            }
            if joined.error_code == REBALANCE_IN_PROGRESS {
                continue;
            }
            accept("JoinGroup", joined.error_code)?;
            self.id = joined.member_id.clone();
            let Some(of) = self.sync(&joined)? else { continue };
            if of == members {
                counted = Some(Instant::now());
                complete.fetch_add(1, Ordering::AcqRel);
            }
            if !self.stays(joined.generation_id, members, complete, limit)? {
                if counted.take().is_some() {
                    complete.fetch_sub(1, Ordering::AcqRel);
                }
                continue;
            }
            return counted.ok_or_else(|| io::Error::other("the group ended incomplete"));
        }
        Err(io::Error::other("the group was not stable in time"))
    }

    fn join(&mut self) -> io::Result<JoinGroupResponse> {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str("range"))
            .with_metadata(Bytes::from_static(&[0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]));
        let request = JoinGroupRequest::default()
            .with_group_id(self.group.clone())
            .with_session_timeout_ms(45_000)
            .with_rebalance_timeout_ms(60_000)
            .with_member_id(self.id.clone())
            .with_protocol_type(StrBytes::from_static_str("consumer"))
            .with_protocols(vec![protocol]);
        self.connection.call(JOIN_GROUP_VERSION, &request)
    }

    /// The assignment that the leader has made: how many members the generation has. None when it ended meanwhile.
    fn sync(&mut self, joined: &JoinGroupResponse) -> io::Result<Option<usize>> {
        let mut request = SyncGroupRequest::default()
            .with_group_id(self.group.clone())
            .with_generation_id(joined.generation_id)
            .with_member_id(self.id.clone())
            .with_protocol_type(Some(StrBytes::from_static_str("consumer")))
            .with_protocol_name(Some(StrBytes::from_static_str("range")));
        if joined.leader == joined.member_id {
            let count = Bytes::copy_from_slice(&(joined.members.len() as u64).to_be_bytes());
            let assignments = joined.members.iter().map(|member| {
                SyncGroupRequestAssignment::default()
                    .with_member_id(member.member_id.clone())
                    .with_assignment(count.clone())
            });
            request.assignments = assignments.collect();
        }
        let synced = self.connection.call(SYNC_GROUP_VERSION, &request)?;
        if synced.error_code == REBALANCE_IN_PROGRESS {
            return Ok(None);
        }
        accept("SyncGroup", synced.error_code)?;
        let count = synced.assignment.first_chunk().map(|count| u64::from_be_bytes(*count));
        Ok(count.and_then(|count| usize::try_from(count).ok()))
    }

    /// Sends heartbeats until the group is complete; false when it is rebalanced.
    fn stays(
        &mut self,
        generation_id: i32,
        members: usize,
        complete: &AtomicUsize,
        limit: &Limit,
    ) -> io::Result<bool> {
        let request = HeartbeatRequest::default()
            .with_group_id(self.group.clone())
            .with_generation_id(generation_id)
            .with_member_id(self.id.clone());
        let mut next = Instant::now() + HEARTBEAT_INTERVAL;
        while complete.load(Ordering::Acquire) < members {
            if limit.is_over() {
                return Err(io::Error::other("the group was not stable in time"));
            }
            thread::sleep(Duration::from_millis(10));
            if Instant::now() < next {
                continue;
            }
            next += HEARTBEAT_INTERVAL;
            match self.connection.call(HEARTBEAT_VERSION, &request)?.error_code {
                REBALANCE_IN_PROGRESS => return Ok(false),
                code => accept("Heartbeat", code)?,
            }
        }
        Ok(true)
    }
}

fn accept(what: &str, code: i16) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::other(format!("{what} was refused with error {code}"))) }
}
