//! Streams groups (KIP-1071) over the wire. The same tests hold against Apache Kafka (`KLAMM_TEST_BOOTSTRAP`).
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, DeleteGroupsRequest, DescribeGroupsRequest,
    IncrementalAlterConfigsRequest, JoinGroupRequest, ListGroupsRequest, MetadataRequest, TopicName,
};
use klamm::protocol::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use klamm::protocol::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use klamm::protocol::messages::streams_group_describe::DescribedGroup;
use klamm::protocol::messages::streams_group_heartbeat::{
    CopartitionGroup, Endpoint, KeyValue, Subtopology, TaskIds, TaskOffset, TopicInfo, Topology,
};
use klamm::protocol::messages::{
    OffsetCommitRequest, OffsetFetchRequest, StreamsGroupDescribeRequest, StreamsGroupHeartbeatRequest,
    StreamsGroupHeartbeatResponse,
};
use protocol_tests::groups::{coordinator, group, text};
use protocol_tests::server::{Client, PATIENCE, Server, Topic, unique};

const STEP: Duration = Duration::from_millis(50);
/// `ConfigResource.Type.GROUP`
const GROUP_RESOURCE: i8 = 32;

const STALE_TOPOLOGY: i8 = 0;
const MISSING_SOURCE_TOPICS: i8 = 1;
const INCORRECTLY_PARTITIONED_TOPICS: i8 = 2;
const MISSING_INTERNAL_TOPICS: i8 = 3;
const SHUTDOWN_APPLICATION: i8 = 4;
const ASSIGNMENT_DELAYED: i8 = 5;

async fn configure(client: &mut Client, group_id: &str, key: &'static str, value: &str) {
    let config = AlterableConfig::default().with_name(text(key)).with_value(Some(text(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(GROUP_RESOURCE)
        .with_resource_name(text(group_id))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let answer = client.call(1, &request).await;
    assert_eq!(answer.responses[0].error_code, 0, "{:?}", answer.responses[0].error_message);
}

/// A group that assigns as soon as somebody joins.
async fn quick_group(client: &mut Client) -> String {
    let group_id = unique("group");
    configure(client, &group_id, "streams.initial.rebalance.delay.ms", "0").await;
    configure(client, &group_id, "streams.assignment.interval.ms", "0").await;
    // Apache Kafka answers before its own broker has heard of it: what comes later in the metadata log is a sign that it
    // has.
    client.create_topic(1, &[]).await;
    group_id
}

fn reads(id: &str, topics: &[&str]) -> Subtopology {
    Subtopology {
        subtopology_id: id.to_owned(),
        source_topics: topics.iter().map(ToString::to_string).collect(),
        ..Subtopology::default()
    }
}

fn internal(name: &str) -> TopicInfo {
    TopicInfo { name: name.to_owned(), ..TopicInfo::default() }
}

fn topology(subtopologies: Vec<Subtopology>) -> Topology {
    Topology { epoch: 0, subtopologies, ..Topology::default() }
}

type Tasks = BTreeSet<(String, i32)>;

fn tasks(all: &[TaskIds]) -> Tasks {
    let each = |tasks: &TaskIds| {
        let id = tasks.subtopology_id.clone();
        tasks.partitions.iter().map(move |task| (id.clone(), *task)).collect::<Vec<_>>()
    };
    all.iter().flat_map(each).collect()
}

fn task_ids(all: &Tasks) -> Vec<TaskIds> {
    let ids: BTreeSet<&String> = all.iter().map(|(id, _)| id).collect();
    let of = |id: &String| TaskIds {
        subtopology_id: id.clone(),
        partitions: all.iter().filter(|(other, _)| other == id).map(|(_, task)| *task).collect(),
        ..TaskIds::default()
    };
    ids.into_iter().map(of).collect()
}

/// A stream thread that does what it is told.
#[derive(Clone, Debug)]
struct Member {
    group_id: String,
    member_id: String,
    process_id: String,
    epoch: i32,
    endpoint_epoch: i32,
    topology: Topology,
    endpoint: Option<Endpoint>,
    active: Tasks,
    standby: Tasks,
}

impl Member {
    fn new(group_id: &str, topology: Topology) -> Self {
        Self {
            group_id: group_id.to_owned(),
            member_id: unique("member"),
            process_id: unique("process"),
            epoch: 0,
            endpoint_epoch: 0,
            topology,
            endpoint: None,
            active: Tasks::new(),
            standby: Tasks::new(),
        }
    }

    fn request(&self) -> StreamsGroupHeartbeatRequest {
        let request = StreamsGroupHeartbeatRequest {
            group_id: self.group_id.clone(),
            member_id: self.member_id.clone(),
            member_epoch: self.epoch,
            endpoint_information_epoch: self.endpoint_epoch,
            ..StreamsGroupHeartbeatRequest::default()
        };
        if self.epoch < 0 {
            return request;
        }
        let owned = StreamsGroupHeartbeatRequest {
            active_tasks: Some(task_ids(&self.active)),
            standby_tasks: Some(task_ids(&self.standby)),
            warmup_tasks: Some(Vec::new()),
            ..request
        };
        if self.epoch > 0 {
            return owned;
        }
        StreamsGroupHeartbeatRequest {
            rebalance_timeout_ms: 60_000,
            topology: Some(self.topology.clone()),
            active_tasks: Some(Vec::new()),
            standby_tasks: Some(Vec::new()),
            process_id: Some(self.process_id.clone()),
            user_endpoint: self.endpoint.clone(),
            client_tags: Some(Vec::new()),
            ..owned
        }
    }

    /// Sends a heartbeat; learns from the answer if it is no error.
    async fn beat(&mut self, client: &mut Client) -> StreamsGroupHeartbeatResponse {
        let answer = client.call(0, &self.request()).await;
        if answer.error_code == 0 && self.epoch >= 0 {
            self.epoch = answer.member_epoch;
            self.endpoint_epoch = answer.endpoint_information_epoch;
            if let (Some(active), Some(standby)) = (&answer.active_tasks, &answer.standby_tasks) {
                self.active = tasks(active);
                self.standby = tasks(standby);
            }
        }
        answer
    }

    async fn leave(&mut self, client: &mut Client) -> StreamsGroupHeartbeatResponse {
        self.epoch = -1;
        client.call(0, &self.request()).await
    }

    /// Sends heartbeats until the answer holds.
    async fn until(
        &mut self,
        client: &mut Client,
        holds: impl Fn(&StreamsGroupHeartbeatResponse, &Self) -> bool,
    ) -> StreamsGroupHeartbeatResponse {
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.beat(client).await;
            assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
            if holds(&answer, self) {
                return answer;
            }
            assert!(Instant::now() < end, "it did not come to that: {answer:?}");
            tokio::time::sleep(STEP).await;
        }
    }
}

fn codes(answer: &StreamsGroupHeartbeatResponse) -> Vec<i8> {
    answer.status.iter().flatten().map(|status| status.status_code).collect()
}

fn detail(answer: &StreamsGroupHeartbeatResponse) -> &str {
    answer.status.iter().flatten().next().map_or("", |status| &status.status_detail)
}

/// Lets members send heartbeats until each has so many active and standby tasks, in the same epoch.
async fn settle(client: &mut Client, members: &mut [&mut Member], each: &[(usize, usize)]) {
    let end = Instant::now() + PATIENCE;
    loop {
        for member in members.iter_mut() {
            let answer = member.beat(client).await;
            assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
        }
        let sizes: Vec<_> =
            members.iter().map(|member| (member.active.len(), member.standby.len())).collect();
        let epochs: BTreeSet<i32> = members.iter().map(|member| member.epoch).collect();
        let all: BTreeSet<_> = members.iter().flat_map(|member| member.active.iter()).collect();
        let sum: usize = sizes.iter().map(|(active, _)| active).sum();
        if sizes == each && epochs.len() == 1 && all.len() == sum {
            return;
        }
        assert!(Instant::now() < end, "the group did not settle: {members:?}");
        tokio::time::sleep(STEP).await;
    }
}

async fn describe(client: &mut Client, group_id: &str) -> DescribedGroup {
    let request = StreamsGroupDescribeRequest {
        group_ids: vec![group_id.to_owned()],
        include_authorized_operations: true,
        ..StreamsGroupDescribeRequest::default()
    };
    client.call(0, &request).await.groups.into_iter().next().unwrap()
}

#[tokio::test]
async fn members_get_their_tasks() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let source = client.create_topic(4, &[]).await;
    let group_id = quick_group(&mut client).await;
    let topology = topology(vec![reads("0", &[&source.name])]);
    let mut first = Member::new(&group_id, topology.clone());
    let answer = first.beat(&mut client).await;
    assert_eq!((answer.error_code, answer.heartbeat_interval_ms), (0, 5_000), "{answer:?}");
    assert_eq!((answer.member_id.as_str(), answer.member_epoch), (first.member_id.as_str(), 2));
    assert_eq!((codes(&answer), first.active.len()), (vec![], 4), "{answer:?}");
    assert_eq!((answer.standby_tasks, answer.warmup_tasks), (Some(vec![]), Some(vec![])));
    let answer = first.beat(&mut client).await;
    assert_eq!((answer.active_tasks, answer.standby_tasks, answer.warmup_tasks), (None, None, None));

    let mut second = Member::new(&group_id, topology.clone());
    let answer = second.beat(&mut client).await;
    assert_eq!((answer.error_code, second.active.len()), (0, 0), "everything is with the first one still");
    settle(&mut client, &mut [&mut first, &mut second], &[(2, 0), (2, 0)]).await;
    let described = describe(&mut client, &group_id).await;
    assert_eq!((described.error_code, described.group_state.as_str()), (0, "Stable"));
    assert_eq!((described.group_epoch, described.assignment_epoch), (first.epoch, first.epoch));
    assert_eq!(described.members.len(), 2);

    // Whoever joins again is told everything.
    let mut again = first.clone();
    again.epoch = 0;
    let answer = again.beat(&mut client).await;
    assert_eq!((again.epoch, &again.active), (first.epoch, &first.active), "{answer:?}");

    let answer = second.leave(&mut client).await;
    assert_eq!((answer.member_epoch, codes(&answer)), (-1, vec![]));
    settle(&mut client, &mut [&mut first], &[(4, 0)]).await;
    server.stop().await;
}

#[tokio::test]
async fn a_new_group_waits_for_its_first_members() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let source = client.create_topic(4, &[]).await;
    let group_id = unique("group");
    configure(&mut client, &group_id, "streams.initial.rebalance.delay.ms", "500").await;
    let topology = topology(vec![reads("0", &[&source.name])]);
    let (mut first, mut second) =
        (Member::new(&group_id, topology.clone()), Member::new(&group_id, topology));
    for member in [&mut first, &mut second] {
        let answer = member.beat(&mut client).await;
        assert_eq!((answer.member_epoch, codes(&answer)), (1, vec![ASSIGNMENT_DELAYED]), "{answer:?}");
        assert_eq!(answer.active_tasks, Some(vec![]));
    }
    settle(&mut client, &mut [&mut first, &mut second], &[(2, 0), (2, 0)]).await;
    server.stop().await;
}

#[tokio::test]
async fn requests_are_checked() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let source = client.create_topic(1, &[]).await;
    let group_id = quick_group(&mut client).await;
    let mut member = Member::new(&group_id, topology(vec![reads("0", &[&source.name])]));
    let join = || member.request();
    let some = |id: &str| Some(vec![TaskIds { subtopology_id: id.to_owned(), ..TaskIds::default() }]);
    let regex = |mut request: StreamsGroupHeartbeatRequest| {
        let topology = request.topology.as_mut().unwrap();
        topology.subtopologies[0].source_topic_regex = vec!["x.*".to_owned()];
        request
    };
    type Request = StreamsGroupHeartbeatRequest;
    let cases: Vec<(Request, &str)> = vec![
        (Request { group_id: String::new(), ..join() }, "GroupId can't be empty."),
        (Request { member_id: String::new(), ..join() }, "MemberId can't be empty."),
        (Request { rack_id: Some(String::new()), ..join() }, "RackId can't be empty."),
        (
            Request { rebalance_timeout_ms: -1, ..join() },
            "RebalanceTimeoutMs must be provided in first request.",
        ),
        (Request { active_tasks: None, ..join() }, "ActiveTasks must be empty when (re-)joining."),
        (Request { active_tasks: some("0"), ..join() }, "ActiveTasks must be empty when (re-)joining."),
        (Request { standby_tasks: some("0"), ..join() }, "StandbyTasks must be empty when (re-)joining."),
        (Request { topology: None, ..join() }, "Topology must be non-null when (re-)joining."),
        (Request { instance_id: Some("i".to_owned()), ..join() }, "Static membership is not yet supported."),
        (
            Request { task_offsets: Some(vec![TaskOffset::default()]), ..join() },
            "TaskOffsets are not supported yet.",
        ),
        (Request { warmup_tasks: some("0"), ..join() }, "WarmupTasks are not supported yet."),
        (regex(join()), "Regular expressions for source topics are not supported yet."),
        (Request { member_epoch: 1, ..join() }, "Topology can only be provided when (re-)joining."),
        (
            Request { member_epoch: 1, topology: None, standby_tasks: None, ..join() },
            "If one task-type is non-null, all must be non-null.",
        ),
        (Request { member_epoch: -2, ..join() }, "InstanceId can't be null."),
    ];
    for (request, message) in cases {
        let answer = client.call(0, &request).await;
        let found = (answer.error_code, answer.error_message.as_deref());
        assert_eq!(found, (42, Some(message)), "{request:?}");
        assert_eq!((answer.member_id.as_str(), answer.member_epoch), ("", 0));
    }
    for name in ["__consumer_offsets", "no topic", ".."] {
        let request = Request { topology: Some(topology(vec![reads("0", &[name])])), ..join() };
        assert_eq!(client.call(0, &request).await.error_code, 130, "{name}");
    }
    let mut fixed = reads("0", &[&source.name]);
    fixed.state_changelog_topics = vec![TopicInfo { partitions: 3, ..internal("log") }];
    let request = Request { topology: Some(topology(vec![fixed])), ..join() };
    assert_eq!(client.call(0, &request).await.error_code, 130);
    let mut unwritten = reads("0", &[&source.name]);
    unwritten.repartition_source_topics = vec![internal("rep")];
    let request = Request { topology: Some(topology(vec![unwritten])), ..join() };
    assert_eq!(client.call(0, &request).await.error_code, 130);

    // None of these made a group.
    let later = |member: &Member, epoch| Request {
        member_epoch: epoch,
        topology: None,
        active_tasks: None,
        standby_tasks: None,
        warmup_tasks: None,
        ..member.request()
    };
    assert_eq!(client.call(0, &later(&member, 1)).await.error_code, 69);
    assert_eq!(client.call(0, &later(&member, -1)).await.error_code, 69);
    assert_eq!(describe(&mut client, &group_id).await.error_code, 69);

    assert_eq!(member.beat(&mut client).await.error_code, 0);
    let epoch = member.epoch;
    assert_eq!(client.call(0, &later(&member, epoch + 1)).await.error_code, 110);
    assert_eq!(client.call(0, &later(&member, epoch - 1)).await.error_code, 110);
    let mut stranger = Member::new(&group_id, member.topology.clone());
    stranger.epoch = epoch;
    assert_eq!(stranger.beat(&mut client).await.error_code, 25);
    assert_eq!(stranger.leave(&mut client).await.error_code, 25);
    for task in [("0", 1), ("0", -1), ("1", 0)] {
        let mut wrong = member.clone();
        wrong.active = [(task.0.to_owned(), task.1)].into();
        assert_eq!(wrong.beat(&mut client).await.error_code, 42, "{task:?}");
    }

    // The topology of a group stays; an older one is told so.
    let mut other = Member::new(&group_id, topology(vec![reads("1", &[&source.name])]));
    let answer = other.beat(&mut client).await;
    let found = (answer.error_code, answer.error_message.as_deref());
    assert_eq!(found, (42, Some("Topology updates are not supported yet.")));
    let group_id = quick_group(&mut client).await;
    let mut newer = Member::new(&group_id, Topology { epoch: 3, ..member.topology.clone() });
    assert_eq!(newer.beat(&mut client).await.error_code, 0);
    let mut older = Member::new(&group_id, member.topology.clone());
    assert_eq!(codes(&older.beat(&mut client).await), [STALE_TOPOLOGY]);
    server.stop().await;
}

/// Partitions of a topic; none where it is not there.
async fn partitions(client: &mut Client, name: &str) -> usize {
    let topic = MetadataRequestTopic::default().with_name(Some(TopicName(text(name))));
    let request =
        MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false);
    client.call(8, &request).await.topics.first().map_or(0, |topic| topic.partitions.len())
}

#[tokio::test]
async fn internal_topics_are_created() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let source = client.create_topic(3, &[]).await;
    let group_id = quick_group(&mut client).await;
    let (repartition, changelog) = (format!("{group_id}-repartition"), format!("{group_id}-changelog"));
    let writer =
        Subtopology { repartition_sink_topics: vec![repartition.clone()], ..reads("0", &[&source.name]) };
    let compact =
        KeyValue { key: "cleanup.policy".to_owned(), value: "compact".to_owned(), ..KeyValue::default() };
    let reader = Subtopology {
        repartition_source_topics: vec![internal(&repartition)],
        state_changelog_topics: vec![TopicInfo { topic_configs: vec![compact], ..internal(&changelog) }],
        ..reads("1", &[])
    };
    let mut member = Member::new(&group_id, topology(vec![writer, reader]));
    let answer = member.beat(&mut client).await;
    assert_eq!((codes(&answer), member.active.len()), (vec![MISSING_INTERNAL_TOPICS], 0), "{answer:?}");
    let named = detail(&answer);
    assert!(named.starts_with("Internal topics are missing: "), "{named}");
    assert!(named.contains(&repartition) && named.contains(&changelog), "{named}");
    let described = describe(&mut client, &group_id).await;
    assert_eq!(described.group_state, "NotReady");

    member.until(&mut client, |answer, member| codes(answer).is_empty() && member.active.len() == 6).await;
    assert_eq!(partitions(&mut client, &repartition).await, 3);
    assert_eq!(partitions(&mut client, &changelog).await, 3);
    let described = describe(&mut client, &group_id).await;
    assert_eq!((described.error_code, described.group_state.as_str()), (0, "Stable"));
    let found = described.topology.unwrap();
    let subtopologies = found.subtopologies.unwrap();
    assert_eq!((found.epoch, subtopologies.len()), (0, 2));
    assert_eq!(subtopologies[0].source_topics, [source.name.as_str()]);
    assert_eq!(subtopologies[0].repartition_sink_topics, [repartition.as_str()]);
    let shown = |topics: &[TopicInfo]| {
        topics.iter().map(|topic| (topic.name.clone(), topic.partitions)).collect::<Vec<_>>()
    };
    assert_eq!(shown(&subtopologies[1].repartition_source_topics), [(repartition.clone(), 3)]);
    assert_eq!(shown(&subtopologies[1].state_changelog_topics), [(changelog.clone(), 3)]);
    assert_eq!(subtopologies[1].state_changelog_topics[0].topic_configs[0].value, "compact");
    let shown = &described.members[0];
    assert_eq!((&shown.member_id, &shown.process_id), (&member.member_id, &member.process_id));
    assert_eq!((shown.member_epoch, shown.topology_epoch, shown.is_classic), (member.epoch, 0, false));
    assert_eq!(tasks(&shown.assignment.active_tasks), member.active);
    assert_eq!(tasks(&shown.target_assignment.active_tasks), member.active);

    // State is copied where that is configured, as soon as there is another process.
    configure(&mut client, &group_id, "streams.num.standby.replicas", "1").await;
    let mut second = Member::new(&group_id, member.topology.clone());
    settle(&mut client, &mut [&mut member, &mut second], &[(3, 2), (3, 1)]).await;
    server.stop().await;
}

#[tokio::test]
async fn topics_have_to_be_as_the_topology_needs_them() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let (three, four) = (client.create_topic(3, &[]).await, client.create_topic(4, &[]).await);
    let group_id = quick_group(&mut client).await;
    let nowhere = unique("nowhere");
    let mut member = Member::new(&group_id, topology(vec![reads("0", &[&nowhere])]));
    let answer = member.beat(&mut client).await;
    assert_eq!(codes(&answer), [MISSING_SOURCE_TOPICS]);
    assert_eq!(detail(&answer), format!("Source topics {nowhere} are missing."));
    assert_eq!((answer.error_code, member.active.len()), (0, 0));

    let group_id = quick_group(&mut client).await;
    let together = CopartitionGroup { source_topics: vec![0, 1], ..CopartitionGroup::default() };
    let mut both = reads("0", &[&three.name, &four.name]);
    let mut apart = Member::new(&quick_group(&mut client).await, topology(vec![both.clone()]));
    apart.beat(&mut client).await;
    assert_eq!(apart.active.len(), 4);
    both.copartition_groups = vec![together];
    let mut member = Member::new(&group_id, topology(vec![both]));
    let answer = member.beat(&mut client).await;
    assert_eq!(codes(&answer), [INCORRECTLY_PARTITIONED_TOPICS], "{answer:?}");
    assert!(detail(&answer).contains(&format!("{}=3", three.name)), "{answer:?}");

    let group_id = quick_group(&mut client).await;
    let mut stateful = reads("0", &[&three.name]);
    stateful.state_changelog_topics = vec![internal(&four.name)];
    let mut member = Member::new(&group_id, topology(vec![stateful]));
    let answer = member.beat(&mut client).await;
    assert_eq!(codes(&answer), [INCORRECTLY_PARTITIONED_TOPICS], "{answer:?}");
    server.stop().await;
}

#[tokio::test]
async fn endpoints_and_shutdowns_are_told_to_everybody() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let source = client.create_topic(2, &[]).await;
    let group_id = quick_group(&mut client).await;
    let topology = topology(vec![reads("0", &[&source.name])]);
    let mut first = Member::new(&group_id, topology.clone());
    first.endpoint = Some(Endpoint { host: "here".to_owned(), port: 50_000, ..Endpoint::default() });
    let answer = first.beat(&mut client).await;
    assert_eq!((answer.error_code, answer.endpoint_information_epoch), (0, 0));
    let shown = answer.partitions_by_user_endpoint.unwrap();
    assert_eq!((shown.len(), shown[0].user_endpoint.port), (1, 50_000));
    assert_eq!(shown[0].active_partitions[0].topic, source.name);
    assert_eq!(shown[0].active_partitions[0].partitions, [0, 1]);
    assert_eq!(first.beat(&mut client).await.partitions_by_user_endpoint, None);
    let mut second = Member::new(&group_id, topology);
    second.endpoint = Some(Endpoint { host: "there".to_owned(), port: 1, ..Endpoint::default() });
    settle(&mut client, &mut [&mut first, &mut second], &[(1, 0), (1, 0)]).await;
    second.endpoint_epoch = -1;
    let answer = second.beat(&mut client).await;
    let shown = answer.partitions_by_user_endpoint.unwrap();
    let hosts: BTreeSet<_> = shown.iter().map(|shown| shown.user_endpoint.host.as_str()).collect();
    assert_eq!(hosts, BTreeSet::from(["here", "there"]));
    assert!(shown.iter().all(|shown| shown.active_partitions[0].partitions.len() == 1), "{shown:?}");

    let request = StreamsGroupHeartbeatRequest { shutdown_application: true, ..second.request() };
    assert_eq!(codes(&client.call(0, &request).await), [SHUTDOWN_APPLICATION]);
    assert_eq!(codes(&first.beat(&mut client).await), [SHUTDOWN_APPLICATION]);
    assert_eq!(first.leave(&mut client).await.error_code, 0);
    assert_eq!(second.leave(&mut client).await.error_code, 0);
    server.stop().await;
}

fn commit(member: &Member, topic: &Topic, partition: i32, offset: i64) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: member.group_id.clone(),
        member_id: member.member_id.clone(),
        generation_id_or_member_epoch: member.epoch,
        topics: vec![OffsetCommitRequestTopic {
            name: topic.name.clone(),
            topic_id: topic.id,
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: partition,
                committed_offset: offset,
                ..OffsetCommitRequestPartition::default()
            }],
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    }
}

async fn committed(client: &mut Client, version: i16, request: &OffsetCommitRequest) -> i16 {
    client.call(version, request).await.topics[0].partitions[0].error_code
}

async fn fetched(client: &mut Client, member: &Member, topic: &Topic) -> (i16, i64) {
    let asked = OffsetFetchRequestGroup {
        group_id: member.group_id.clone(),
        member_id: Some(member.member_id.clone()),
        member_epoch: member.epoch,
        topics: Some(vec![OffsetFetchRequestTopics {
            name: topic.name.clone(),
            topic_id: topic.id,
            partition_indexes: vec![0],
            ..OffsetFetchRequestTopics::default()
        }]),
        ..OffsetFetchRequestGroup::default()
    };
    let request = OffsetFetchRequest { groups: vec![asked], ..OffsetFetchRequest::default() };
    let answer = client.call(9, &request).await;
    let group = &answer.groups[0];
    let offset = group.topics.first().map_or(-2, |topic| topic.partitions[0].committed_offset);
    (group.error_code, offset)
}

#[tokio::test]
async fn offsets_and_groups_are_for_members_of_the_right_kind() {
    let server = Server::start().await;
    let mut client = coordinator(&server).await;
    let source = client.create_topic(2, &[]).await;
    let group_id = quick_group(&mut client).await;
    let mut member = Member::new(&group_id, topology(vec![reads("0", &[&source.name])]));
    settle(&mut client, &mut [&mut member], &[(2, 0)]).await;
    let mut other = member.clone();
    assert_eq!(committed(&mut client, 9, &commit(&member, &source, 0, 5)).await, 0);
    assert_eq!(committed(&mut client, 8, &commit(&member, &source, 0, 6)).await, 35);
    other.epoch += 1;
    assert_eq!(committed(&mut client, 9, &commit(&other, &source, 0, 6)).await, 113);
    other.epoch -= 2;
    assert_eq!(committed(&mut client, 9, &commit(&other, &source, 0, 6)).await, 113);
    other.member_id = unique("nobody");
    assert_eq!(committed(&mut client, 9, &commit(&other, &source, 0, 6)).await, 25);
    assert_eq!(fetched(&mut client, &member, &source).await, (0, 5));
    other = member.clone();
    other.epoch -= 1;
    assert_eq!(fetched(&mut client, &other, &source).await.0, 113);

    // Members of other kinds can not join it, and it is listed as what it is.
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
    let join = JoinGroupRequest::default()
        .with_group_id(group(&group_id))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    assert_eq!(client.call(5, &join).await.error_code, 23);
    let consumer = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group(&group_id))
        .with_member_id(text(&unique("member")))
        .with_rebalance_timeout_ms(10_000)
        .with_subscribed_topic_names(Some(vec![source.wire_name()]))
        .with_topic_partitions(Some(Vec::new()));
    assert_eq!(client.call(1, &consumer).await.error_code, 69);
    let list = ListGroupsRequest::default().with_types_filter(vec![text("streams")]);
    let listed = client.call(5, &list).await.groups;
    let found = listed.iter().find(|listed| listed.group_id.as_str() == group_id).unwrap();
    let shown = (found.group_state.as_str(), found.group_type.as_str(), found.protocol_type.as_str());
    assert_eq!(shown, ("Stable", "streams", "streams"));
    let classic = DescribeGroupsRequest::default().with_groups(vec![group(&group_id)]);
    assert_eq!(client.call(6, &classic).await.groups[0].error_code, 69);

    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group(&group_id)]);
    assert_eq!(client.call(2, &delete).await.results[0].error_code, 68);
    assert_eq!(member.leave(&mut client).await.error_code, 0);
    assert_eq!(describe(&mut client, &group_id).await.group_state, "Empty");
    assert_eq!(client.call(2, &delete).await.results[0].error_code, 0);
    assert_eq!(describe(&mut client, &group_id).await.error_code, 69);
    server.stop().await;
}

#[tokio::test]
async fn without_the_feature_or_the_protocol_there_are_no_streams_groups() {
    let server = Server::with(&[("group.coordinator.rebalance.protocols", "classic,consumer")]).await;
    let mut client = coordinator(&server).await;
    let mut member = Member::new("g", topology(vec![reads("0", &["t"])]));
    assert_eq!(member.beat(&mut client).await.error_code, 35);
    assert_eq!(describe(&mut client, "g").await.error_code, 35);
    server.stop().await;
}
