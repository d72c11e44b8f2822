//! Groups over the wire, in every version: the protocol's traps by their names. The same tests hold against Apache Kafka
//! (`KLAMM_TEST_BOOTSTRAP`), except where it does not do something yet that klamm does at once.
#![expect(clippy::unwrap_used, reason = "a test")]

use bytes::Bytes;
use kafka_protocol::messages::delete_groups_request::DeleteGroupsRequest;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, ListGroupsRequest, OffsetDeleteRequest, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;
use klamm::protocol::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use klamm::protocol::messages::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics, OffsetFetchResponsePartitions,
};
use klamm::protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest};
use protocol_tests::groups::{coordinator, group, text};
use protocol_tests::server::{Client, Server, Topic, decode_response, unique};
use uuid::Uuid;

/// A member as one connection knows it.
#[derive(Clone, Debug)]
struct Member {
    group_id: String,
    member_id: StrBytes,
    generation_id: i32,
    instance: Option<StrBytes>,
    subscription: Bytes,
}

impl Member {
    fn new(group_id: &str) -> Self {
        Self {
            group_id: group_id.to_owned(),
            member_id: StrBytes::default(),
            generation_id: -1,
            instance: None,
            subscription: subscription(&["t"]),
        }
    }

    fn join_request(&self) -> JoinGroupRequest {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(self.subscription.clone());
        JoinGroupRequest::default()
            .with_group_id(group(&self.group_id))
            .with_session_timeout_ms(30_000)
            .with_rebalance_timeout_ms(60_000)
            .with_member_id(self.member_id.clone())
            .with_group_instance_id(self.instance.clone())
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol])
    }

    fn sync_request(&self, version: i16, assign: bool) -> SyncGroupRequest {
        let mine = SyncGroupRequestAssignment::default()
            .with_member_id(self.member_id.clone())
            .with_assignment(Bytes::from_static(b"mine"));
        let request = SyncGroupRequest::default()
            .with_group_id(group(&self.group_id))
            .with_generation_id(self.generation_id)
            .with_member_id(self.member_id.clone())
            .with_group_instance_id(self.instance.clone())
            .with_assignments(if assign { vec![mine] } else { Vec::new() });
        if version < 5 {
            return request;
        }
        request.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range")))
    }

    fn heartbeat_request(&self) -> HeartbeatRequest {
        HeartbeatRequest::default()
            .with_group_id(group(&self.group_id))
            .with_generation_id(self.generation_id)
            .with_member_id(self.member_id.clone())
            .with_group_instance_id(self.instance.clone())
    }

    fn learn(&mut self, joined: &JoinGroupResponse) {
        self.member_id = joined.member_id.clone();
        self.generation_id = joined.generation_id;
    }

    /// Becomes the only member of the group, and gets everything.
    async fn alone(group_id: &str, client: &mut Client) -> Self {
        let mut member = Self::new(group_id);
        member.learn(&client.call(3, &member.join_request()).await);
        let synced = client.call(3, &member.sync_request(3, true)).await;
        assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"mine"[..]));
        member
    }
}

/// A consumer's subscription, version 0.
fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 0];
    bytes.extend(u32::try_from(topics.len()).unwrap().to_be_bytes());
    for topic in topics {
        bytes.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend([0xff; 4]);
    bytes.into()
}

async fn heartbeat(client: &mut Client, member: &Member) -> i16 {
    client.call(3, &member.heartbeat_request()).await.error_code
}

#[tokio::test]
async fn trap_38_a_coordinator_is_found_in_every_version() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    for version in 0..=3 {
        let found = client.call(version, &FindCoordinatorRequest::default().with_key(text("g"))).await;
        assert_eq!((found.error_code, &*found.host), (0, "127.0.0.1"), "version {version}");
    }
    for version in 4..=6 {
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g"), text("h")]);
        let found = client.call(version, &request).await.coordinators;
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|one| one.error_code == 0 && one.port > 0), "version {version}");
        assert_eq!(&*found[1].key, "h");
    }
    // Share groups can be asked for since version 6 only.
    let share = FindCoordinatorRequest::default().with_key_type(2).with_coordinator_keys(vec![text("g")]);
    let found = client.call(5, &share).await;
    assert_eq!(found.coordinators[0].error_code, 42);
    server.stop().await;
}

#[tokio::test]
async fn trap_39_a_new_member_is_told_its_id_first_since_version_4() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    for version in 0..=9 {
        let mut member = Member::new(&unique("group"));
        let mut joined = client.call(version, &member.join_request()).await;
        if version >= 4 {
            assert_eq!(joined.error_code, 79, "version {version}");
            assert_eq!((joined.generation_id, &*joined.leader), (-1, ""));
            assert_eq!(joined.protocol_name.as_deref(), (version < 7).then_some(""));
            assert!(joined.member_id.starts_with("test-"));
            member.learn(&joined);
            joined = client.call(version, &member.join_request()).await;
        }
        assert_eq!((joined.error_code, joined.generation_id), (0, 1), "version {version}");
        assert_eq!(joined.leader, joined.member_id);
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));
        assert_eq!(joined.protocol_type.as_deref(), (version >= 7).then_some("consumer"));
        assert_eq!(joined.members.len(), 1);
        assert_eq!(joined.members[0].metadata, member.subscription);
        assert!(!joined.skip_assignment);
    }
    for version in 5..=9 {
        let mut member = Member::new(&unique("group"));
        member.instance = Some(text("i"));
        let joined = client.call(version, &member.join_request()).await;
        assert_eq!(joined.error_code, 0, "a static member is let in at once");
        member.learn(&joined);
        let synced = client.call(4, &member.sync_request(4, true)).await;
        assert_eq!(synced.error_code, 0);
        // It comes back: the leader of a stable group skips the assignment, or is not told that it leads.
        let again = Member { member_id: StrBytes::default(), ..member.clone() };
        let joined = client.call(version, &again.join_request()).await;
        assert_eq!((joined.error_code, joined.generation_id), (0, 1));
        assert_eq!(joined.skip_assignment, version >= 9);
        assert_eq!(joined.leader == joined.member_id, version >= 9);
        assert_eq!(joined.members.len(), usize::from(version >= 9));
        assert_eq!(heartbeat(&mut client, &member).await, 82, "the old id is fenced");
    }
    let mut stranger = Member::new(&unique("group"));
    stranger.member_id = text("stranger");
    assert_eq!(client.call(9, &stranger.join_request()).await.error_code, 25);
    server.stop().await;
}

#[tokio::test]
async fn trap_40_sessions_have_limits_and_protocols_must_agree() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let group_id = unique("group");
    for session_timeout_ms in [5_999, 1_800_001, 0, -1] {
        let request = Member::new(&group_id).join_request().with_session_timeout_ms(session_timeout_ms);
        assert_eq!(client.call(3, &request).await.error_code, 26);
    }
    let request = Member::new("").join_request();
    assert_eq!(client.call(3, &request).await.error_code, 24);
    Member::alone(&group_id, &mut client).await;
    let other = Member::new(&group_id).join_request();
    let wrong_type = other.clone().with_protocol_type(text("connect"));
    let wrong_protocol =
        other.clone().with_protocols(vec![JoinGroupRequestProtocol::default().with_name(text("sticky"))]);
    for request in [wrong_type, wrong_protocol, other.with_protocols(Vec::new())] {
        for version in [3, 9] {
            assert_eq!(client.call(version, &request).await.error_code, 23);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn trap_41_a_sync_is_held_for_the_leader_and_codes_tell_where_the_group_stands() {
    let server = Server::start().await;
    let (mut first, mut second) = (coordinator(&server).await, server.connect().await);
    let topic = first.create_topic(1, &[]).await;
    let mut leader = Member::alone(&unique("group"), &mut first).await;
    let mut follower = Member::new(&leader.group_id);
    second.send(3, 9, &follower.join_request()).await;
    while heartbeat(&mut first, &leader).await == 0 {}
    assert_eq!(heartbeat(&mut first, &leader).await, 27, "a rebalance is prepared");
    assert_eq!(first.call(3, &leader.sync_request(3, false)).await.error_code, 27);
    let joined = first.call(3, &leader.join_request()).await;
    assert_eq!((joined.error_code, joined.generation_id, joined.members.len()), (0, 2, 2));
    leader.learn(&joined);
    let joined: JoinGroupResponse =
        decode_response(11, 3, second.receive_frame().await.unwrap().split_off(4));
    assert_eq!((joined.error_code, joined.members.len()), (0, 0), "followers learn of nobody");
    assert_eq!(joined.leader, leader.member_id);
    follower.learn(&joined);
    assert_eq!(heartbeat(&mut first, &follower).await, 0, "heartbeats are fine before the assignment");
    let early = commit(&mut first, 9, &follower, &topic, 1).await;
    assert_eq!(early, 27, "commits are not");
    second.send(3, 9, &follower.sync_request(3, false)).await;
    assert_eq!(first.call(3, &leader.sync_request(3, true)).await.error_code, 0);
    let synced: SyncGroupResponse =
        decode_response(14, 3, second.receive_frame().await.unwrap().split_off(4));
    assert_eq!((synced.error_code, synced.assignment.len()), (0, 0), "nothing was assigned to it");
    assert_eq!(commit(&mut first, 9, &follower, &topic, 1).await, 0);
    let late = Member { generation_id: 1, ..leader.clone() };
    assert_eq!(heartbeat(&mut first, &late).await, 22);
    assert_eq!(commit(&mut first, 9, &late, &topic, 1).await, 22);
    for version in 0..=5 {
        assert_eq!(first.call(version, &leader.sync_request(version, false)).await.error_code, 0);
        assert_eq!(first.call(version, &late.sync_request(version, false)).await.error_code, 22);
    }
    let unsaid = leader.sync_request(5, false).with_protocol_name(None);
    assert_eq!(first.call(5, &unsaid).await.error_code, 23);
    for version in 0..=4 {
        assert_eq!(first.call(version, &leader.heartbeat_request()).await.error_code, 0);
    }
    server.stop().await;
}

#[tokio::test]
async fn trap_42_members_leave_alone_or_together() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    for version in 0..=5 {
        let member = Member::alone(&unique("group"), &mut client).await;
        let leave = |member_id: &StrBytes| {
            let request = LeaveGroupRequest::default().with_group_id(group(&member.group_id));
            if version < 3 {
                return request.with_member_id(member_id.clone());
            }
            let one = MemberIdentity::default().with_member_id(member_id.clone());
            let unknown = MemberIdentity::default().with_group_instance_id(Some(text("nobody")));
            request.with_members(vec![one, unknown])
        };
        for code in [0, 25] {
            let left = client.call(version, &leave(&member.member_id)).await;
            let codes: Vec<i16> = left.members.iter().map(|member| member.error_code).collect();
            if version < 3 {
                assert_eq!((left.error_code, codes.len()), (code, 0), "version {version}");
            } else {
                assert_eq!((left.error_code, codes), (0, vec![code, 25]), "version {version}");
            }
        }
        assert_eq!(heartbeat(&mut client, &member).await, 25);
    }
    server.stop().await;
}

fn commit_request(version: i16, member: &Member, topic: &Topic, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        committed_offset: offset,
        committed_metadata: Some("note".to_owned()),
        ..OffsetCommitRequestPartition::default()
    };
    let named = OffsetCommitRequestTopic {
        name: if version < 10 { topic.name.clone() } else { String::new() },
        topic_id: if version < 10 { Uuid::nil() } else { topic.id },
        partitions: vec![partition],
        ..OffsetCommitRequestTopic::default()
    };
    OffsetCommitRequest {
        group_id: member.group_id.clone(),
        generation_id_or_member_epoch: member.generation_id,
        member_id: member.member_id.to_string(),
        topics: vec![named],
        ..OffsetCommitRequest::default()
    }
}

fn only_code(answer: &OffsetCommitResponse) -> i16 {
    answer.topics[0].partitions[0].error_code
}

async fn commit(client: &mut Client, version: i16, member: &Member, topic: &Topic, offset: i64) -> i16 {
    only_code(&client.call(version, &commit_request(version, member, topic, offset)).await)
}

#[tokio::test]
async fn trap_43_offsets_are_committed_by_members_and_by_those_who_have_no_group() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let topic = client.create_topic(1, &[]).await;
    let missing = Topic { name: unique("missing"), id: Uuid::new_v4() };
    for version in 2..=10 {
        let nobody = Member::new(&unique("group"));
        let answer = client.call(version, &commit_request(version, &nobody, &topic, 5)).await;
        assert_eq!(only_code(&answer), 0, "version {version}");
        let wants = if version < 10 { (&*topic.name, Uuid::nil()) } else { ("", topic.id) };
        assert_eq!(
            (&*answer.topics[0].name, answer.topics[0].topic_id),
            wants,
            "the topic comes back as it was named"
        );
        let stranger = Member { generation_id: 1, member_id: text("m"), ..Member::new(&unique("group")) };
        let unknown = commit(&mut client, version, &stranger, &topic, 5).await;
        assert_eq!(unknown, if version >= 9 { 69 } else { 22 }, "version {version}");
        let no_topic = commit(&mut client, version, &nobody, &missing, 5).await;
        assert_eq!(no_topic, if version >= 10 { 100 } else { 3 }, "version {version}");
        let mut request = commit_request(version, &nobody, &topic, 5);
        request.topics[0].partitions[0].committed_metadata = Some("x".repeat(4097));
        assert_eq!(only_code(&client.call(version, &request).await), 12);
        request.topics[0].partitions[0].partition_index = 7;
        assert_eq!(only_code(&client.call(version, &request).await), 3);
    }
    for version in 2..=4 {
        let mut request = commit_request(version, &Member::new(&unique("group")), &topic, 5);
        request.retention_time_ms = 60_000;
        assert_eq!(only_code(&client.call(version, &request).await), 0);
    }
    // While it has members, the group takes commits from them only.
    let member = Member::alone(&unique("group"), &mut client).await;
    let nobody = Member::new(&member.group_id);
    for version in 2..=10 {
        assert_eq!(commit(&mut client, version, &nobody, &topic, 5).await, 25);
        assert_eq!(commit(&mut client, version, &member, &topic, 5).await, 0);
    }
    server.stop().await;
}

/// Fetches the offsets of partitions 0 and 1 of a topic, or all of the group's.
async fn fetch(
    client: &mut Client,
    version: i16,
    group_id: &str,
    topic: Option<&Topic>,
) -> Vec<OffsetFetchResponsePartitions> {
    let (old, partitions) = (version < 8, vec![0, 1]);
    let request = if old {
        let name = topic.map(|topic| topic.name.clone());
        let topics = name.map(|name| {
            vec![OffsetFetchRequestTopic { name, partition_indexes: partitions, ..Default::default() }]
        });
        OffsetFetchRequest { group_id: group_id.to_owned(), topics, ..Default::default() }
    } else {
        let topics = topic.map(|topic| {
            vec![OffsetFetchRequestTopics {
                name: if version < 10 { topic.name.clone() } else { String::new() },
                topic_id: if version < 10 { Uuid::nil() } else { topic.id },
                partition_indexes: partitions,
                ..Default::default()
            }]
        });
        let asked = OffsetFetchRequestGroup { group_id: group_id.to_owned(), topics, ..Default::default() };
        OffsetFetchRequest { groups: vec![asked], ..Default::default() }
    };
    let answer = client.call(version, &request).await;
    assert_eq!(answer.error_code, 0);
    assert!(answer.groups.iter().all(|group| group.error_code == 0 && group.group_id == group_id));
    let new = answer.groups.into_iter().flat_map(|group| group.topics).flat_map(|topic| topic.partitions);
    let old = answer.topics.into_iter().flat_map(|topic| topic.partitions);
    let old = old.map(|partition| OffsetFetchResponsePartitions {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
        ..Default::default()
    });
    new.chain(old).collect()
}

#[tokio::test]
async fn trap_44_what_is_not_committed_is_no_error() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let topic = client.create_topic(2, &[]).await;
    let member = Member::new(&unique("group"));
    assert_eq!(commit(&mut client, 9, &member, &topic, 5).await, 0);
    for version in 1..=10 {
        let known = fetch(&mut client, version, &member.group_id, Some(&topic)).await;
        let seen: Vec<_> = known
            .iter()
            .map(|p| (p.committed_offset, p.error_code, p.metadata.as_deref().unwrap()))
            .collect();
        assert_eq!(seen, [(5, 0, "note"), (-1, 0, "")], "version {version}");
        let unknown = fetch(&mut client, version, &unique("group"), Some(&topic)).await;
        assert!(unknown.iter().all(|p| p.committed_offset == -1 && p.error_code == 0), "version {version}");
        if version >= 2 {
            assert_eq!(
                fetch(&mut client, version, &member.group_id, None).await.len(),
                1,
                "version {version}"
            );
            assert_eq!(fetch(&mut client, version, &unique("group"), None).await.len(), 0);
        }
    }
    let missing = Topic { name: unique("missing"), id: Uuid::new_v4() };
    let unknown = fetch(&mut client, 10, &member.group_id, Some(&missing)).await;
    assert!(unknown.iter().all(|p| p.committed_offset == -1 && p.error_code == 100));
    server.stop().await;
}

#[tokio::test]
async fn trap_46_groups_are_listed_described_and_deleted() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let topic = client.create_topic(1, &[]).await;
    let nobody = Member::new(&unique("group"));
    commit(&mut client, 9, &nobody, &topic, 5).await;
    let mut member = Member::new(&unique("group"));
    member.subscription = subscription(&[&topic.name]);
    member.learn(&client.call(3, &member.join_request()).await);
    client.call(3, &member.sync_request(3, true)).await;
    commit(&mut client, 9, &member, &topic, 5).await;
    let mut list = async |version: i16, states: &[&str], types: &[&str]| {
        let texts = |all: &[&str]| all.iter().map(|one| text(one)).collect();
        let request =
            ListGroupsRequest::default().with_states_filter(texts(states)).with_types_filter(texts(types));
        let listed = client.call(version, &request).await;
        let mine = [&nobody, &member];
        mine.map(|group| listed.groups.iter().any(|listed| **listed.group_id == *group.group_id))
    };
    for version in 0..=5 {
        assert_eq!(list(version, &[], &[]).await, [true, true], "version {version}");
    }
    for version in 4..=5 {
        assert_eq!(list(version, &["sTABLE"], &[]).await, [false, true]);
        assert_eq!(list(version, &["Empty", "Dead"], &[]).await, [true, false]);
        assert_eq!(list(version, &["nonsense"], &[]).await, [false, false]);
    }
    assert_eq!(list(5, &[], &["CLASSIC"]).await, [true, true]);
    assert_eq!(list(5, &[], &["consumer"]).await, [false, false]);
    for version in 0..=6 {
        describe(&mut client, version, &nobody, &member).await;
    }
    delete(&mut client, &nobody, &member, &topic).await;
    server.stop().await;
}

async fn describe(client: &mut Client, version: i16, nobody: &Member, member: &Member) {
    let missing = unique("group");
    let groups = [&*nobody.group_id, &*member.group_id, &*missing].map(group).to_vec();
    let request =
        DescribeGroupsRequest::default().with_groups(groups).with_include_authorized_operations(version >= 3);
    let mut described = client.call(version, &request).await.groups;
    let mut take = |group_id: &str| {
        let at = described.iter().position(|described| **described.group_id == *group_id).unwrap();
        described.remove(at)
    };
    let (empty, stable, dead) = (take(&nobody.group_id), take(&member.group_id), take(&missing));
    assert_eq!((empty.error_code, &*empty.group_state, &*empty.protocol_type), (0, "Empty", ""));
    assert_eq!((stable.error_code, &*stable.group_state, &*stable.protocol_data), (0, "Stable", "range"));
    let one = &stable.members[0];
    assert_eq!(
        (&one.member_id, &*one.client_id, &*one.client_host),
        (&member.member_id, "test", "/127.0.0.1")
    );
    assert_eq!((&one.member_metadata, &one.member_assignment[..]), (&member.subscription, &b"mine"[..]));
    assert_eq!(dead.error_code, if version >= 6 { 69 } else { 0 }, "version {version}");
    assert_eq!((&*dead.group_state, dead.members.len()), ("Dead", 0));
    if version >= 3 {
        assert!(stable.authorized_operations > 0);
    }
}

async fn delete(client: &mut Client, nobody: &Member, member: &Member, topic: &Topic) {
    let offsets = |group_id: &str| {
        let partitions = vec![OffsetDeleteRequestPartition::default()];
        let topics = [topic.wire_name(), kafka_protocol::messages::TopicName(text("missing"))].map(|name| {
            OffsetDeleteRequestTopic::default().with_name(name).with_partitions(partitions.clone())
        });
        OffsetDeleteRequest::default().with_group_id(group(group_id)).with_topics(topics.to_vec())
    };
    let deleted = client.call(0, &offsets(&member.group_id)).await;
    let code = |name: &str| {
        let topic = deleted.topics.iter().find(|topic| **topic.name == *name).unwrap();
        topic.partitions[0].error_code
    };
    assert_eq!((deleted.error_code, code(&topic.name), code("missing")), (0, 86, 3));
    assert_eq!(client.call(0, &offsets(&unique("group"))).await.error_code, 69);
    for version in 0..=2 {
        let missing = unique("group");
        let names = [&*nobody.group_id, &*member.group_id, &*missing].map(group).to_vec();
        let results =
            client.call(version, &DeleteGroupsRequest::default().with_groups_names(names)).await.results;
        let code =
            |group_id: &str| results.iter().find(|result| **result.group_id == *group_id).unwrap().error_code;
        assert_eq!(code(&nobody.group_id), if version == 0 { 0 } else { 69 }, "deleted by the first version");
        assert_eq!((code(&member.group_id), code(&missing)), (68, 69));
    }
    assert_eq!(fetch(client, 9, &nobody.group_id, None).await.len(), 0);
}

#[tokio::test]
async fn trap_48_what_members_say_is_theirs() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let mut subscriptions: Vec<&[u8]> =
        vec![b"", b"\0", b"\0\x01\0\0\0\x01\0\x01t", b"\xff\xff\xff\xff\xff\xff", b"\0\0\0\0\0\x01\0\x09t"];
    if server.is_klamm() {
        // A count of 2^31-1 keeps Apache Kafka from ever ending the rebalance.
        subscriptions.push(b"\0\0\x7f\xff\xff\xff\0\x01t");
    }
    for subscription in subscriptions {
        let mut member = Member::new(&unique("group"));
        member.subscription = Bytes::from_static(subscription);
        let joined = client.call(3, &member.join_request()).await;
        assert_eq!((joined.error_code, &joined.members[0].metadata), (0, &member.subscription));
        member.learn(&joined);
        assert_eq!(client.call(3, &member.sync_request(3, true)).await.assignment, "mine");
        let request = DescribeGroupsRequest::default().with_groups(vec![group(&member.group_id)]);
        let described = client.call(5, &request).await.groups;
        assert_eq!(described[0].members[0].member_metadata, member.subscription);
    }
    server.stop().await;
}
