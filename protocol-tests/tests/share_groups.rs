//! Share groups (KIP-932) over the wire. The same tests hold against Apache Kafka (`KLAMM_TEST_BOOTSTRAP`).
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kafka_protocol::messages::alter_share_group_offsets_request::{
    AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use kafka_protocol::messages::delete_groups_request::DeleteGroupsRequest;
use kafka_protocol::messages::delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::{
    AlterShareGroupOffsetsRequest, DeleteShareGroupOffsetsRequest, DescribeGroupsRequest, JoinGroupRequest,
    ListGroupsRequest, ShareGroupDescribeRequest, ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse,
    TopicName,
};
use klamm::protocol::messages::describe_share_group_offsets::{
    DescribeShareGroupOffsetsRequestGroup, DescribeShareGroupOffsetsRequestTopic,
    DescribeShareGroupOffsetsResponseGroup,
};
use klamm::protocol::messages::offset_fetch::OffsetFetchRequestGroup;
use klamm::protocol::messages::{DescribeShareGroupOffsetsRequest, OffsetFetchRequest};
use protocol_tests::groups::{coordinator, group, text};
use protocol_tests::server::{Client, PATIENCE, Server, Topic, batch, unique};

/// How often a heartbeat is sent: Kafka assigns a group at most once in a second, and initialises partitions on the side.
const STEP: Duration = Duration::from_millis(50);

/// A member that does what it is told.
#[derive(Clone, Debug)]
struct Member {
    group_id: String,
    member_id: String,
    epoch: i32,
    topics: Vec<TopicName>,
    has: BTreeSet<i32>,
    topic: Topic,
}

impl Member {
    fn new(group_id: &str, topic: &Topic) -> Self {
        Self {
            group_id: group_id.to_owned(),
            member_id: unique("m"),
            epoch: 0,
            topics: vec![topic.wire_name()],
            has: BTreeSet::new(),
            topic: topic.clone(),
        }
    }

    fn request(&self) -> ShareGroupHeartbeatRequest {
        ShareGroupHeartbeatRequest::default()
            .with_group_id(group(&self.group_id))
            .with_member_id(text(&self.member_id))
            .with_member_epoch(self.epoch)
            .with_subscribed_topic_names((self.epoch == 0).then(|| self.topics.clone()))
    }

    /// Sends a heartbeat; learns from the answer if it is no error.
    async fn beat(&mut self, client: &mut Client) -> ShareGroupHeartbeatResponse {
        let answer = client.call(1, &self.request()).await;
        if answer.error_code == 0 && self.epoch >= 0 {
            self.epoch = answer.member_epoch;
            if let Some(assignment) = &answer.assignment {
                let ours = assignment.topic_partitions.iter().filter(|topic| topic.topic_id == self.topic.id);
                self.has = ours.flat_map(|topic| topic.partitions.iter().copied()).collect();
            }
        }
        answer
    }

    async fn leave(&mut self, client: &mut Client) -> ShareGroupHeartbeatResponse {
        self.epoch = -1;
        client.call(1, &self.request()).await
    }
}

/// Lets members send heartbeats until each has so many partitions.
async fn settle(client: &mut Client, members: &mut [&mut Member], each: &[usize]) {
    let end = Instant::now() + PATIENCE;
    loop {
        for member in members.iter_mut() {
            let answer = member.beat(client).await;
            assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
        }
        let sizes: Vec<usize> = members.iter().map(|member| member.has.len()).collect();
        let epochs: BTreeSet<i32> = members.iter().map(|member| member.epoch).collect();
        if sizes == each && epochs.len() == 1 {
            return;
        }
        assert!(Instant::now() < end, "the group did not settle: {members:?}");
        tokio::time::sleep(STEP).await;
    }
}

#[tokio::test]
async fn members_share_partitions() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let topic = client.create_topic(3, &[]).await;
    let group_id = unique("group");
    let mut first = Member::new(&group_id, &topic);
    let answer = first.beat(&mut client).await;
    assert_eq!((answer.error_code, answer.heartbeat_interval_ms), (0, 5_000), "{answer:?}");
    assert_eq!(answer.member_id.as_deref(), Some(first.member_id.as_str()));
    // A group begins with epoch 1; its first member makes that 2. Its partitions are not initialised yet.
    assert_eq!((first.epoch, first.has.len()), (2, 0));
    assert!(answer.assignment.is_some_and(|assignment| assignment.topic_partitions.is_empty()));
    settle(&mut client, &mut [&mut first], &[3]).await;
    assert_eq!(first.beat(&mut client).await.assignment, None, "nothing changed");

    let (mut second, mut third) = (Member::new(&group_id, &topic), Member::new(&group_id, &topic));
    settle(&mut client, &mut [&mut first, &mut second, &mut third], &[1, 1, 1]).await;
    let mut fourth = Member::new(&group_id, &topic);
    let end = Instant::now() + PATIENCE;
    loop {
        let mut owners = [0; 3];
        for member in [&mut first, &mut second, &mut third, &mut fourth] {
            assert_eq!(member.beat(&mut client).await.error_code, 0);
            member.has.iter().for_each(|partition| owners[usize::try_from(*partition).unwrap()] += 1);
        }
        if owners == [2; 3] {
            break;
        }
        assert!(Instant::now() < end, "{owners:?}");
        tokio::time::sleep(STEP).await;
    }

    // Who joins again is told everything.
    let mut again = first.clone();
    again.epoch = 0;
    let answer = again.beat(&mut client).await;
    assert_eq!((again.epoch, &again.has), (first.epoch, &first.has), "{answer:?}");

    for member in [&mut second, &mut third, &mut fourth] {
        let answer = member.leave(&mut client).await;
        assert_eq!((answer.error_code, answer.member_epoch, answer.heartbeat_interval_ms), (0, -1, 0));
    }
    settle(&mut client, &mut [&mut first], &[3]).await;
    server.stop().await;
}

#[tokio::test]
async fn requests_are_checked() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let topic = client.create_topic(1, &[]).await;
    let group_id = unique("group");
    let mut member = Member::new(&group_id, &topic);
    let join = member.request();
    let cases = [
        (join.clone().with_group_id(group("")), Some("GroupId can't be empty.")),
        (join.clone().with_group_id(group("  ")), Some("GroupId can't be empty.")),
        (join.clone().with_member_id(text("")), None),
        (join.clone().with_member_id(text(&"m".repeat(37))), None),
        (join.clone().with_member_id(text("  ")), Some("MemberId can't be empty.")),
        (join.clone().with_rack_id(Some(text(""))), Some("RackId can't be empty.")),
        (
            join.clone().with_subscribed_topic_names(None),
            Some("SubscribedTopicNames must be set in first request."),
        ),
        (
            join.clone().with_subscribed_topic_names(Some(Vec::new())),
            Some("SubscribedTopicNames must be set in first request."),
        ),
        (join.clone().with_member_epoch(-2), Some("MemberEpoch is invalid.")),
    ];
    for (request, message) in cases {
        let answer = client.call(1, &request).await;
        assert_eq!((answer.error_code, answer.error_message.as_deref()), (42, message), "{request:?}");
        assert_eq!((answer.member_id, answer.member_epoch), (None, 0));
    }
    // None of these made a group.
    let later = |epoch| join.clone().with_member_epoch(epoch).with_subscribed_topic_names(None);
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
async fn share_groups_are_no_groups_of_another_kind() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let topic = client.create_topic(1, &[]).await;
    let group_id = unique("group");
    let mut member = Member::new(&group_id, &topic);
    assert_eq!(member.beat(&mut client).await.error_code, 0);
    let join = |id: &str| {
        let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
        JoinGroupRequest::default()
            .with_group_id(group(id))
            .with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(10_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol])
    };
    assert_eq!(client.call(5, &join(&group_id)).await.error_code, 23);
    let described = DescribeGroupsRequest::default().with_groups(vec![group(&group_id)]);
    let described = client.call(6, &described).await.groups.remove(0);
    assert_eq!((described.error_code, &*described.group_state), (69, "Dead"));
    let asked = OffsetFetchRequestGroup { group_id: group_id.clone(), ..OffsetFetchRequestGroup::default() };
    let fetch = OffsetFetchRequest { groups: vec![asked], ..OffsetFetchRequest::default() };
    assert_eq!(client.call(9, &fetch).await.groups[0].error_code, 0, "it has no committed offsets");
    // And groups of another kind are no share groups.
    let classic = unique("group");
    assert_eq!(client.call(5, &join(&classic)).await.error_code, 79);
    let mut other = Member::new(&classic, &topic);
    assert_eq!(other.beat(&mut client).await.error_code, 69);
    let described = describe(&mut client, &[&classic]).await;
    assert_eq!(described[0].error_code, 69);
    server.stop().await;
}

async fn describe(
    client: &mut Client,
    group_ids: &[&str],
) -> Vec<kafka_protocol::messages::share_group_describe_response::DescribedGroup> {
    let request = ShareGroupDescribeRequest::default()
        .with_group_ids(group_ids.iter().map(|id| group(id)).collect())
        .with_include_authorized_operations(true);
    let mut groups = client.call(1, &request).await.groups;
    groups.sort_by_key(|found| group_ids.iter().position(|id| **id == *found.group_id.0));
    groups
}

#[tokio::test]
async fn groups_are_described_listed_and_deleted() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let topic = client.create_topic(2, &[]).await;
    let group_id = unique("group");
    let mut member = Member::new(&group_id, &topic);
    settle(&mut client, &mut [&mut member], &[2]).await;
    let nowhere = unique("group");
    let groups = describe(&mut client, &[&group_id, &nowhere, ""]).await;
    let (found, missing, unnamed) = (&groups[0], &groups[1], &groups[2]);
    assert_eq!((found.error_code, missing.error_code, unnamed.error_code), (0, 69, 24));
    assert_eq!(missing.error_message.as_deref(), Some(format!("Group {nowhere} not found.").as_str()));
    assert_eq!((&*found.group_state, &*found.assignor_name), ("Stable", "simple"));
    assert_eq!((found.group_epoch, found.assignment_epoch), (member.epoch, member.epoch));
    let described = &found.members[0];
    assert_eq!((&*described.member_id, described.member_epoch), (member.member_id.as_str(), member.epoch));
    assert_eq!(described.rack_id, None);
    assert_eq!(described.subscribed_topic_names, [topic.wire_name()]);
    let assigned = &described.assignment.topic_partitions[0];
    assert_eq!((assigned.topic_id, &assigned.topic_name), (topic.id, &topic.wire_name()));
    assert_eq!(assigned.partitions, [0, 1]);
    assert_ne!(found.authorized_operations, i32::MIN);
    assert_eq!(missing.authorized_operations, i32::MIN);

    let list = |types: &[&str], states: &[&str]| {
        let texts = |list: &[&str]| list.iter().map(|item| text(item)).collect();
        ListGroupsRequest::default().with_types_filter(texts(types)).with_states_filter(texts(states))
    };
    for (types, states, is_in) in [
        (vec!["share"], vec![], true),
        (vec!["Share"], vec!["stable"], true),
        (vec!["consumer", "classic"], vec![], false),
        (vec!["share"], vec!["Empty"], false),
    ] {
        let listed = client.call(5, &list(&types, &states)).await.groups;
        let ours = listed.iter().find(|listed| *listed.group_id.0 == *group_id);
        assert_eq!(ours.is_some(), is_in, "{types:?} {states:?}");
        if let Some(ours) = ours {
            assert_eq!((&*ours.protocol_type, &*ours.group_type), ("share", "share"));
            assert_eq!(&*ours.group_state, "Stable");
        }
    }

    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group(&group_id)]);
    assert_eq!(client.call(2, &delete).await.results[0].error_code, 68);
    assert_eq!(member.leave(&mut client).await.error_code, 0);
    let empty = describe(&mut client, &[&group_id]).await.remove(0);
    assert_eq!((&*empty.group_state, empty.group_epoch - empty.assignment_epoch), ("Empty", 1));
    assert_eq!(offsets(&mut client, 1, &group_id, None).await.topics[0].partitions.len(), 2);
    assert_eq!(client.call(2, &delete).await.results[0].error_code, 0);
    assert_eq!(client.call(2, &delete).await.results[0].error_code, 69);
    assert_eq!(describe(&mut client, &[&group_id]).await[0].error_code, 69);
    assert!(offsets(&mut client, 1, &group_id, None).await.topics.is_empty());
    server.stop().await;
}

/// How far a group has come: in these partitions of a topic, or in all.
async fn offsets(
    client: &mut Client,
    version: i16,
    group_id: &str,
    asked: Option<(&str, Vec<i32>)>,
) -> DescribeShareGroupOffsetsResponseGroup {
    let topics = asked.map(|(topic, partitions)| {
        vec![DescribeShareGroupOffsetsRequestTopic {
            topic_name: topic.to_owned(),
            partitions,
            ..DescribeShareGroupOffsetsRequestTopic::default()
        }]
    });
    let request = DescribeShareGroupOffsetsRequest {
        groups: vec![DescribeShareGroupOffsetsRequestGroup {
            group_id: group_id.to_owned(),
            topics,
            ..DescribeShareGroupOffsetsRequestGroup::default()
        }],
        ..DescribeShareGroupOffsetsRequest::default()
    };
    client.call(version, &request).await.groups.remove(0)
}

fn alter(group_id: &str, topic: TopicName, offsets: &[(i32, i64)]) -> AlterShareGroupOffsetsRequest {
    let partitions = offsets.iter().map(|(partition, offset)| {
        AlterShareGroupOffsetsRequestPartition::default()
            .with_partition_index(*partition)
            .with_start_offset(*offset)
    });
    let topic = AlterShareGroupOffsetsRequestTopic::default()
        .with_topic_name(topic)
        .with_partitions(partitions.collect());
    AlterShareGroupOffsetsRequest::default().with_group_id(group(group_id)).with_topics(vec![topic])
}

fn delete(group_id: &str, topics: &[&TopicName]) -> DeleteShareGroupOffsetsRequest {
    let topic =
        |name: &&TopicName| DeleteShareGroupOffsetsRequestTopic::default().with_topic_name((*name).clone());
    DeleteShareGroupOffsetsRequest::default()
        .with_group_id(group(group_id))
        .with_topics(topics.iter().map(topic).collect())
}

#[tokio::test]
async fn offsets_are_altered_described_and_deleted() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let topic = client.create_topic(2, &[]).await;
    let (group_id, nowhere) = (unique("group"), TopicName(text(&unique("topic"))));
    let name = topic.wire_name();
    assert_eq!(client.produce(12, &topic, 0, Some(batch(&["a", "b", "c"]))).await.error_code, 0);
    // Setting offsets makes the group.
    let altered = client.call(0, &alter(&group_id, name.clone(), &[(0, 1), (7, 1)])).await;
    assert_eq!((altered.error_code, altered.responses.len()), (0, 1), "{altered:?}");
    let partitions = &altered.responses[0].partitions;
    let mut codes: Vec<_> = partitions.iter().map(|p| (p.partition_index, p.error_code)).collect();
    codes.sort_unstable();
    assert_eq!((codes, altered.responses[0].topic_id), (vec![(0, 0), (7, 3)], topic.id));
    let unknown = client.call(0, &alter(&group_id, nowhere.clone(), &[(0, 1)])).await;
    assert_eq!((unknown.error_code, unknown.responses[0].partitions[0].error_code), (0, 3));
    assert_eq!(client.call(0, &alter("", name.clone(), &[(0, 1)])).await.error_code, 24);
    assert_eq!(describe(&mut client, &[&group_id]).await[0].error_code, 0);

    let all = offsets(&mut client, 1, &group_id, None).await;
    assert_eq!((all.error_code, all.topics.len()), (0, 1), "{all:?}");
    let described = &all.topics[0].partitions[0];
    assert_eq!((described.partition_index, described.start_offset, described.error_code), (0, 1, 0));
    assert_eq!(described.lag, 2, "three records, of which one is done with");
    assert_eq!(offsets(&mut client, 0, &group_id, None).await.topics[0].partitions[0].lag, -1);
    let asked = offsets(&mut client, 1, &group_id, Some((&name.0, vec![0, 1]))).await;
    let starts: BTreeSet<_> = asked.topics[0]
        .partitions
        .iter()
        .map(|p| (p.partition_index, p.start_offset, p.error_code))
        .collect();
    assert_eq!(starts, BTreeSet::from([(0, 1, 0), (1, -1, 0)]));
    let asked = offsets(&mut client, 1, &group_id, Some((&nowhere.0, vec![0]))).await;
    assert_eq!((asked.error_code, asked.topics[0].partitions[0].start_offset), (0, -1));
    let asked = offsets(&mut client, 1, &unique("group"), None).await;
    assert_eq!((asked.error_code, asked.topics.len()), (0, 0));

    // Not while somebody is a member.
    let mut member = Member::new(&group_id, &topic);
    settle(&mut client, &mut [&mut member], &[2]).await;
    assert_eq!(client.call(0, &alter(&group_id, name.clone(), &[(0, 0)])).await.error_code, 68);
    assert_eq!(client.call(0, &delete(&group_id, &[&name])).await.error_code, 68);
    assert_eq!(member.leave(&mut client).await.error_code, 0);

    let deleted = client.call(0, &delete(&group_id, &[&name, &nowhere])).await;
    let of = |wanted: &TopicName| deleted.responses.iter().find(|found| found.topic_name == *wanted).unwrap();
    assert_eq!((deleted.error_code, of(&name).error_code, of(&nowhere).error_code), (0, 0, 3));
    assert_eq!(of(&name).topic_id, topic.id);
    let again = client.call(0, &delete(&group_id, &[&name])).await;
    assert_eq!(again.responses[0].error_code, 3);
    let message = again.responses[0].error_message.as_deref();
    assert_eq!(message, Some("There is no offset information to delete."));
    assert!(offsets(&mut client, 1, &group_id, None).await.topics.is_empty());
    assert_eq!(client.call(0, &delete(&unique("group"), &[&name])).await.error_code, 69);
    assert_eq!(client.call(0, &delete("", &[&name])).await.error_code, 24);
    server.stop().await;
}
