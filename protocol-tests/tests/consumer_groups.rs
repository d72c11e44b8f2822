//! Consumer groups (KIP-848) over the wire. The same tests hold against Apache Kafka (`KLAMM_TEST_BOOTSTRAP`).
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::delete_groups_request::DeleteGroupsRequest;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest, ListGroupsRequest, SyncGroupRequest,
    TopicName,
};
use kafka_protocol::protocol::StrBytes;
use klamm::protocol::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use klamm::protocol::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use klamm::protocol::messages::{OffsetCommitRequest, OffsetFetchRequest};
use protocol_tests::groups::{coordinator, group, text};
use protocol_tests::server::{Client, PATIENCE, Server, Topic, unique};

/// How often a heartbeat is sent: Kafka assigns a group at most once in a second, and resolves expressions on the side.
const STEP: Duration = Duration::from_millis(50);

/// A member that does what it is told.
#[derive(Clone, Debug)]
struct Member {
    group_id: String,
    member_id: String,
    epoch: i32,
    instance: Option<String>,
    topics: Option<Vec<String>>,
    regex: Option<String>,
    owned: BTreeSet<i32>,
    topic: Topic,
}

impl Member {
    fn new(group_id: &str, topic: &Topic) -> Self {
        Self {
            group_id: group_id.to_owned(),
            member_id: unique("member"),
            epoch: 0,
            instance: None,
            topics: Some(vec![topic.wire_name().0.to_string()]),
            regex: None,
            owned: BTreeSet::new(),
            topic: topic.clone(),
        }
    }

    fn request(&self) -> ConsumerGroupHeartbeatRequest {
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group(&self.group_id))
            .with_member_id(text(&self.member_id))
            .with_member_epoch(self.epoch)
            .with_instance_id(self.instance.as_deref().map(text));
        if self.epoch < 0 {
            return request;
        }
        if self.epoch == 0 {
            let names = |names: &Vec<String>| names.iter().map(|name| TopicName(text(name))).collect();
            return request
                .with_rebalance_timeout_ms(60_000)
                .with_subscribed_topic_names(self.topics.as_ref().map(names))
                .with_subscribed_topic_regex(self.regex.as_deref().map(text))
                .with_topic_partitions(Some(Vec::new()));
        }
        let owned = TopicPartitions::default()
            .with_topic_id(self.topic.id)
            .with_partitions(self.owned.iter().copied().collect());
        request.with_topic_partitions(Some(if self.owned.is_empty() { Vec::new() } else { vec![owned] }))
    }

    /// Sends a heartbeat; learns from the answer if it is no error.
    async fn beat(&mut self, client: &mut Client) -> ConsumerGroupHeartbeatResponse {
        let answer = client.call(1, &self.request()).await;
        if answer.error_code == 0 && self.epoch >= 0 {
            self.epoch = answer.member_epoch;
            if let Some(assignment) = &answer.assignment {
                let ours = assignment.topic_partitions.iter().filter(|topic| topic.topic_id == self.topic.id);
                self.owned = ours.flat_map(|topic| topic.partitions.iter().copied()).collect();
            }
        }
        answer
    }

    async fn leave(&mut self, client: &mut Client) -> ConsumerGroupHeartbeatResponse {
        self.epoch = -1;
        client.call(1, &self.request()).await
    }
}

/// Lets members send heartbeats until each has so many partitions, and together they have all.
async fn settle(client: &mut Client, members: &mut [&mut Member], each: &[usize]) {
    let end = Instant::now() + PATIENCE;
    loop {
        for member in members.iter_mut() {
            let answer = member.beat(client).await;
            assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
        }
        let sizes: Vec<usize> = members.iter().map(|member| member.owned.len()).collect();
        let epochs: BTreeSet<i32> = members.iter().map(|member| member.epoch).collect();
        let all: BTreeSet<i32> = members.iter().flat_map(|member| member.owned.iter().copied()).collect();
        if sizes == each && epochs.len() == 1 && all.len() == sizes.iter().sum::<usize>() {
            return;
        }
        assert!(Instant::now() < end, "the group did not settle: {members:?}");
        tokio::time::sleep(STEP).await;
    }
}

#[tokio::test]
async fn trap_47_members_find_their_partitions() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let topic = client.create_topic(6, &[]).await;
    let group_id = unique("group");
    let mut first = Member::new(&group_id, &topic);
    let answer = first.beat(&mut client).await;
    assert_eq!((answer.error_code, answer.heartbeat_interval_ms), (0, 5_000), "{answer:?}");
    assert_eq!(answer.member_id.as_deref(), Some(first.member_id.as_str()));
    // A group begins with epoch 1; its first member makes that 2.
    assert_eq!((first.epoch, first.owned.len()), (2, 6));
    assert_eq!(first.beat(&mut client).await.assignment, None, "nothing changed");

    let mut second = Member::new(&group_id, &topic);
    let answer = second.beat(&mut client).await;
    assert_eq!((answer.error_code, second.owned.len()), (0, 0), "everything is with the first one still");
    settle(&mut client, &mut [&mut first, &mut second], &[3, 3]).await;

    // Whoever says nothing of its partitions keeps them; who joins again is told everything.
    let mut again = first.clone();
    again.epoch = 0;
    let answer = again.beat(&mut client).await;
    assert_eq!((again.epoch, &again.owned), (first.epoch, &first.owned), "{answer:?}");

    assert_eq!(second.leave(&mut client).await.member_epoch, -1);
    settle(&mut client, &mut [&mut first], &[6]).await;
    server.stop().await;
}

#[tokio::test]
async fn trap_47_the_first_version_gives_out_member_ids() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let topic = client.create_topic(1, &[]).await;
    let mut member = Member::new(&unique("group"), &topic);
    member.member_id = String::new();
    let answer = client.call(0, &member.request()).await;
    assert_eq!(answer.error_code, 0);
    let member_id = answer.member_id.unwrap();
    assert_eq!(member_id.len(), 22, "a UUID in base64");
    assert_eq!(client.call(1, &member.request()).await.error_code, 42);
    member.member_id = member_id.to_string();
    member.epoch = answer.member_epoch;
    assert_eq!(member.beat(&mut client).await.error_code, 0);
    server.stop().await;
}

#[tokio::test]
async fn trap_47_requests_are_checked() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let topic = client.create_topic(1, &[]).await;
    let group_id = unique("group");
    let mut member = Member::new(&group_id, &topic);
    let join = member.request();
    let cases = [
        (join.clone().with_group_id(group("")), 42, "GroupId can't be empty."),
        (join.clone().with_group_id(group("  ")), 42, "GroupId can't be empty."),
        (join.clone().with_member_id(text("")), 42, "MemberId can't be empty."),
        (join.clone().with_instance_id(Some(text(""))), 42, "InstanceId can't be empty."),
        (join.clone().with_rack_id(Some(text(""))), 42, "RackId can't be empty."),
        (
            join.clone().with_rebalance_timeout_ms(-1),
            42,
            "RebalanceTimeoutMs must be provided in first request.",
        ),
        (join.clone().with_topic_partitions(None), 42, "TopicPartitions must be empty when (re-)joining."),
        (
            join.clone().with_subscribed_topic_names(None),
            42,
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
        ),
        (join.clone().with_member_epoch(-2), 42, "InstanceId can't be null."),
        (join.clone().with_member_epoch(-3), 42, "MemberEpoch is invalid."),
    ];
    for (request, code, message) in cases {
        let answer = client.call(1, &request).await;
        assert_eq!(
            (answer.error_code, answer.error_message.as_deref()),
            (code, Some(message)),
            "{request:?}"
        );
        assert_eq!((answer.member_id, answer.member_epoch), (None, 0));
    }
    let unknown = client.call(1, &join.clone().with_server_assignor(Some(text("sticky")))).await;
    assert_eq!(unknown.error_code, 112);
    for regex in ["[", "(", "a{2,1}", "(?=a)"] {
        let request =
            join.clone().with_subscribed_topic_names(None).with_subscribed_topic_regex(Some(text(regex)));
        let answer = client.call(1, &request).await;
        let begin = format!("SubscribedTopicRegex `{regex}` is not a valid regular expression: ");
        assert_eq!(answer.error_code, 128);
        assert!(answer.error_message.unwrap().starts_with(&begin));
    }
    // None of these made a group.
    let later = |epoch| join.clone().with_member_epoch(epoch).with_topic_partitions(None);
    assert_eq!(client.call(1, &later(1)).await.error_code, 69);
    assert_eq!(client.call(1, &later(-1)).await.error_code, 69);
    assert_eq!(member.beat(&mut client).await.error_code, 0);
    let epoch = member.epoch;
    assert_eq!(client.call(1, &later(epoch + 1)).await.error_code, 110);
    assert_eq!(client.call(1, &later(epoch - 1)).await.error_code, 110);
    let mut stranger = Member::new(&group_id, &topic);
    stranger.epoch = epoch;
    assert_eq!(stranger.beat(&mut client).await.error_code, 25);
    assert_eq!(stranger.leave(&mut client).await.error_code, 25);
    server.stop().await;
}

#[tokio::test]
async fn trap_47_static_members_come_back() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let topic = client.create_topic(4, &[]).await;
    let group_id = unique("group");
    let (mut one, mut other) = (Member::new(&group_id, &topic), Member::new(&group_id, &topic));
    one.instance = Some("i".to_owned());
    settle(&mut client, &mut [&mut one], &[4]).await;
    settle(&mut client, &mut [&mut one, &mut other], &[2, 2]).await;

    let mut twin = Member::new(&group_id, &topic);
    twin.instance = one.instance.clone();
    assert_eq!(twin.beat(&mut client).await.error_code, 111, "the other one is still there");
    let mut away = one.clone();
    away.epoch = -2;
    let answer = away.beat(&mut client).await;
    assert_eq!((answer.error_code, answer.member_epoch), (0, -2));
    let answer = twin.beat(&mut client).await;
    assert_eq!((answer.error_code, twin.epoch, &twin.owned), (0, one.epoch, &one.owned), "{answer:?}");
    assert_eq!(one.beat(&mut client).await.error_code, 82);
    settle(&mut client, &mut [&mut twin, &mut other], &[2, 2]).await;
    let mut wrong = twin.clone();
    wrong.instance = Some("j".to_owned());
    assert_eq!(wrong.beat(&mut client).await.error_code, 25);
    assert_eq!(twin.leave(&mut client).await.error_code, 0);
    settle(&mut client, &mut [&mut other], &[4]).await;
    server.stop().await;
}

#[tokio::test]
async fn trap_47_expressions_find_their_topics() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let topic = client.create_topic(3, &[]).await;
    let mut member = Member::new(&unique("group"), &topic);
    let name = topic.wire_name().0.to_string();
    (member.topics, member.regex) = (None, Some(format!("(?i){}.?", name.to_uppercase())));
    settle(&mut client, &mut [&mut member], &[3]).await;
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(&member.group_id)]);
    let described = client.call(1, &request).await.groups.remove(0);
    assert_eq!(described.members[0].subscribed_topic_regex.as_deref(), member.regex.as_deref());
    assert!(described.members[0].subscribed_topic_names.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn trap_47_groups_are_described_listed_and_deleted() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let topic = client.create_topic(2, &[]).await;
    let group_id = unique("group");
    let mut member = Member::new(&group_id, &topic);
    settle(&mut client, &mut [&mut member], &[2]).await;
    let nowhere = unique("group");
    let request = ConsumerGroupDescribeRequest::default()
        .with_group_ids(vec![group(&group_id), group(&nowhere)])
        .with_include_authorized_operations(true);
    for version in 0..=1 {
        let groups = client.call(version, &request).await.groups;
        let of = |id: &str| groups.iter().find(|described| *described.group_id.0 == *id).unwrap();
        let (found, missing) = (of(&group_id), of(&nowhere));
        assert_eq!((found.error_code, missing.error_code), (0, 69));
        assert_eq!(missing.error_message.as_deref(), Some(format!("Group {nowhere} not found.").as_str()));
        assert_eq!((&*found.group_state, &*found.assignor_name), ("Stable", "uniform"));
        assert_eq!((found.group_epoch, found.assignment_epoch), (member.epoch, member.epoch));
        let described = &found.members[0];
        assert_eq!(
            (&*described.member_id, described.member_epoch),
            (member.member_id.as_str(), member.epoch)
        );
        assert_eq!((described.rack_id.as_deref(), described.instance_id.as_deref()), (None, None));
        assert_eq!(described.subscribed_topic_names, [topic.wire_name()]);
        assert_eq!(described.member_type, if version == 0 { -1 } else { 1 });
        assert_eq!(described.assignment, described.target_assignment);
        let assigned = &described.assignment.topic_partitions[0];
        assert_eq!((assigned.topic_id, &assigned.topic_name), (topic.id, &topic.wire_name()));
        assert_eq!(assigned.partitions, [0, 1]);
        assert_ne!(found.authorized_operations, i32::MIN);
        assert_eq!(missing.authorized_operations, i32::MIN);
    }
    // The older APIs know that it is not theirs.
    let classic = DescribeGroupsRequest::default().with_groups(vec![group(&group_id)]);
    let described = client.call(6, &classic).await.groups.remove(0);
    assert_eq!((described.error_code, &*described.group_state), (69, "Dead"));
    assert_eq!(client.call(5, &classic).await.groups[0].error_code, 0);

    let listed = |types: &[&str], states: &[&str]| {
        let texts = |list: &[&str]| list.iter().map(|item| text(item)).collect();
        ListGroupsRequest::default().with_types_filter(texts(types)).with_states_filter(texts(states))
    };
    for (types, states, is_there) in [
        (&["consumer"][..], &[][..], true),
        (&["Consumer"], &["stable"], true),
        (&["classic"], &[], false),
        (&[], &["Empty"], false),
        (&[], &["Reconciling", " Stable "], true),
    ] {
        let groups = client.call(5, &listed(types, states)).await.groups;
        let found = groups.iter().find(|found| *found.group_id.0 == *group_id);
        assert_eq!(found.is_some(), is_there, "{types:?} {states:?}");
        if let Some(found) = found {
            assert_eq!((&*found.group_type, &*found.protocol_type), ("consumer", "consumer"));
        }
    }
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group(&group_id)]);
    assert_eq!(client.call(2, &delete).await.results[0].error_code, 68);
    member.leave(&mut client).await;
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(&group_id)]);
    let described = client.call(1, &request).await.groups.remove(0);
    assert_eq!((&*described.group_state, described.members.len()), ("Empty", 0));
    assert_eq!(client.call(2, &delete).await.results[0].error_code, 0);
    assert_eq!(client.call(1, &request).await.groups[0].error_code, 69);
    server.stop().await;
}

async fn commit(client: &mut Client, version: i16, member: (&str, i32), of: &Member, offset: i64) -> i16 {
    let partition = OffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
    let topic = OffsetCommitRequestTopic {
        name: if version < 10 { of.topic.wire_name().0.to_string() } else { String::new() },
        topic_id: if version < 10 { uuid::Uuid::nil() } else { of.topic.id },
        partitions: vec![partition],
        ..Default::default()
    };
    let request = OffsetCommitRequest {
        group_id: of.group_id.clone(),
        member_id: member.0.to_owned(),
        generation_id_or_member_epoch: member.1,
        topics: vec![topic],
        ..Default::default()
    };
    client.call(version, &request).await.topics[0].partitions[0].error_code
}

async fn fetch(client: &mut Client, member: Option<(&str, i32)>, of: &Member) -> Result<i64, i16> {
    let topics = OffsetFetchRequestTopics {
        name: of.topic.wire_name().0.to_string(),
        partition_indexes: vec![0],
        ..Default::default()
    };
    let asked = OffsetFetchRequestGroup {
        group_id: of.group_id.clone(),
        member_id: member.map(|(id, _)| id.to_owned()),
        member_epoch: member.map_or(-1, |(_, epoch)| epoch),
        topics: Some(vec![topics]),
        ..Default::default()
    };
    let request = OffsetFetchRequest { groups: vec![asked], ..Default::default() };
    let group = client.call(9, &request).await.groups.remove(0);
    match group.error_code {
        0 => Ok(group.topics[0].partitions[0].committed_offset),
        code => Err(code),
    }
}

#[tokio::test]
async fn trap_47_commits_know_their_epoch() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let topic = client.create_topic(2, &[]).await;
    let mut member = Member::new(&unique("group"), &topic);
    settle(&mut client, &mut [&mut member], &[2]).await;
    let id = member.member_id.clone();
    let (id, epoch) = (id.as_str(), member.epoch);
    for version in 9..=10 {
        let offset = i64::from(version);
        assert_eq!(commit(&mut client, version, (id, epoch), &member, offset).await, 0);
        assert_eq!(commit(&mut client, version, (id, epoch + 1), &member, 99).await, 113);
        assert_eq!(commit(&mut client, version, (id, epoch - 1), &member, 99).await, 113);
        assert_eq!(commit(&mut client, version, ("nobody", epoch), &member, 99).await, 25);
        assert_eq!(commit(&mut client, version, ("", -1), &member, 99).await, 25);
        assert_eq!(fetch(&mut client, None, &member).await, Ok(offset));
    }
    assert_eq!(commit(&mut client, 8, (id, epoch), &member, 99).await, 35, "no place for a member epoch");
    assert_eq!(fetch(&mut client, Some((id, epoch)), &member).await, Ok(10));
    assert_eq!(fetch(&mut client, Some((id, epoch - 1)), &member).await, Err(113));
    assert_eq!(fetch(&mut client, Some(("nobody", epoch)), &member).await, Err(25));

    // The epoch before is good for what was assigned before.
    let mut other = Member::new(&member.group_id, &topic);
    settle(&mut client, &mut [&mut member, &mut other], &[1, 1]).await;
    let keeper = if member.owned.contains(&0) { &member } else { &other };
    assert_eq!(keeper.member_id, id, "members keep what they have");
    assert_eq!(commit(&mut client, 9, (id, epoch), &member, 11).await, 0);
    member.leave(&mut client).await;
    other.leave(&mut client).await;
    assert_eq!(commit(&mut client, 9, ("", -1), &member, 12).await, 0, "the group is empty");
    assert_eq!(fetch(&mut client, None, &member).await, Ok(12));
    server.stop().await;
}

/// A consumer's subscription, version 1: topics, no user data, what the member has.
fn subscription(topic: &str, owned: &[i32]) -> Bytes {
    let mut bytes = vec![0, 1, 0, 0, 0, 1];
    bytes.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
    bytes.extend(topic.as_bytes());
    bytes.extend((-1_i32).to_be_bytes());
    bytes.extend(i32::from(!owned.is_empty()).to_be_bytes());
    if !owned.is_empty() {
        bytes.extend(assigned(topic, owned));
    }
    bytes.into()
}

fn assigned(topic: &str, partitions: &[i32]) -> Vec<u8> {
    let mut bytes = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(topic.as_bytes());
    bytes.extend(i32::try_from(partitions.len()).unwrap().to_be_bytes());
    bytes.extend(partitions.iter().flat_map(|partition| partition.to_be_bytes()));
    bytes
}

/// A member of the classic protocol.
struct Classic {
    group_id: String,
    member_id: StrBytes,
    generation_id: i32,
    topic: String,
    owned: Vec<i32>,
}

impl Classic {
    fn new(group_id: &str, topic: &Topic) -> Self {
        Self {
            group_id: group_id.to_owned(),
            member_id: StrBytes::default(),
            generation_id: -1,
            topic: topic.wire_name().0.to_string(),
            owned: Vec::new(),
        }
    }

    async fn join(&mut self, client: &mut Client) -> i16 {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(subscription(&self.topic, &self.owned));
        let request = JoinGroupRequest::default()
            .with_group_id(group(&self.group_id))
            .with_session_timeout_ms(30_000)
            .with_rebalance_timeout_ms(60_000)
            .with_member_id(self.member_id.clone())
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        let joined = client.call(3, &request).await;
        if joined.error_code == 0 {
            self.member_id = joined.member_id;
            self.generation_id = joined.generation_id;
        }
        joined.error_code
    }

    /// `None` lets the broker assign; a leader assigns for itself.
    async fn sync(&mut self, client: &mut Client, assignment: Option<&[i32]>) -> Result<Bytes, i16> {
        let assignments = assignment.map(|partitions| {
            let mut bytes = vec![0, 1, 0, 0, 0, 1];
            bytes.extend(assigned(&self.topic, partitions));
            bytes.extend((-1_i32).to_be_bytes());
            let own = kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment::default();
            vec![own.with_member_id(self.member_id.clone()).with_assignment(bytes.into())]
        });
        let request = SyncGroupRequest::default()
            .with_group_id(group(&self.group_id))
            .with_generation_id(self.generation_id)
            .with_member_id(self.member_id.clone())
            .with_assignments(assignments.unwrap_or_default());
        let synced = client.call(3, &request).await;
        if synced.error_code != 0 {
            return Err(synced.error_code);
        }
        // The last four bytes of the topics are partitions; behind them there is no user data.
        let numbers = synced.assignment.slice(..synced.assignment.len() - 4);
        let header = 2 + 4 + 2 + self.topic.len() + 4;
        self.owned = match numbers.get(header..) {
            Some(rest) => rest.chunks(4).map(|n| i32::from_be_bytes(n.try_into().unwrap())).collect(),
            None => Vec::new(),
        };
        Ok(synced.assignment)
    }

    async fn heartbeat(&self, client: &mut Client) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(group(&self.group_id))
            .with_generation_id(self.generation_id)
            .with_member_id(self.member_id.clone());
        client.call(3, &request).await.error_code
    }

    /// What a client does: joins and syncs when it is told to.
    async fn go_on(&mut self, client: &mut Client) {
        match self.heartbeat(client).await {
            0 => {}
            27 => {
                assert_eq!(self.join(client).await, 0);
                assert!(matches!(self.sync(client, None).await, Ok(_) | Err(27)));
            }
            code => panic!("a heartbeat was answered with {code}"),
        }
    }
}

async fn type_of(client: &mut Client, group_id: &str) -> String {
    let listed = client.call(5, &ListGroupsRequest::default()).await.groups;
    let found = listed.into_iter().find(|found| *found.group_id.0 == *group_id).unwrap();
    found.group_type.to_string()
}

#[tokio::test]
async fn trap_47_a_group_changes_its_protocol_while_it_lives() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let topic = client.create_topic(4, &[]).await;
    let group_id = unique("group");
    let mut classic = Classic::new(&group_id, &topic);
    assert_eq!(classic.join(&mut client).await, 0);
    classic.sync(&mut client, Some(&[0, 1, 2, 3])).await.unwrap();
    assert_eq!(type_of(&mut client, &group_id).await, "classic");

    let mut member = Member::new(&group_id, &topic);
    let end = Instant::now() + PATIENCE;
    while (member.owned.len(), classic.owned.len()) != (2, 2) || classic.heartbeat(&mut client).await != 0 {
        assert_eq!(member.beat(&mut client).await.error_code, 0);
        classic.go_on(&mut client).await;
        assert!(Instant::now() < end, "{member:?} {:?}", classic.owned);
        tokio::time::sleep(STEP).await;
    }
    assert_eq!(type_of(&mut client, &group_id).await, "consumer");
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(&group_id)]);
    let described = client.call(1, &request).await.groups.remove(0);
    let mut types: Vec<i8> = described.members.iter().map(|member| member.member_type).collect();
    types.sort_unstable();
    assert_eq!(types, [0, 1]);
    let generation = classic.generation_id;
    let of = Member { owned: BTreeSet::new(), ..member.clone() };
    assert_eq!(commit(&mut client, 8, (&classic.member_id, generation), &of, 5).await, 0);
    assert_eq!(commit(&mut client, 8, (&classic.member_id, generation + 1), &of, 5).await, 22);

    // With the last member of the new protocol the group goes back to the old one.
    assert_eq!(member.leave(&mut client).await.error_code, 0);
    assert_eq!(type_of(&mut client, &group_id).await, "classic");
    assert_eq!(classic.heartbeat(&mut client).await, 27);
    assert_eq!(classic.join(&mut client).await, 0);
    classic.sync(&mut client, Some(&[0, 1, 2, 3])).await.unwrap();
    assert_eq!(classic.owned.len(), 4);
    server.stop().await;
}
