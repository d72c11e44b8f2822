#![expect(clippy::unwrap_used, reason = "a test")]

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::*;
use crate::config::TopicConfig;
use crate::group::command::{CommittedPartition, CommittedTopic, FetchTopic, LeavingMember, Protocol};
use crate::group::record::Record;
use crate::group::settings::GROUP_RECORD_BYTES_MAX;
use crate::log::batch::BatchView;
use crate::log::{LogSettings, ReadUpTo};
use crate::storage::{Store, StoreOptions};
use crate::types::{CONSUMER_OFFSETS_TOPIC, coordinator_partition};
use uuid::Uuid;

const TOPIC_ID: Uuid = Uuid::from_u128(0xC0);
const PARTITIONS: i32 = 50;

/// A topic whose partitions are all led, in epoch 0.
fn all_led(id: Uuid, partition_count: i32) -> CoordinatorTopic {
    CoordinatorTopic { id, partition_count, led: (0..partition_count).map(|index| (index, 0)).collect() }
}

/// A coordinator on a store of its own; can be killed and started again.
struct World {
    directory: tempfile::TempDir,
    clock: Clock,
    coordinator: Option<Arc<GroupCoordinator>>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            directory: tempfile::tempdir().unwrap(),
            clock: Clock::virtual_at(1_000),
            coordinator: None,
        };
        world.open(TOPIC_ID);
        world
    }

    fn open(&mut self, topic_id: Uuid) {
        let options = StoreOptions { node_id: 1, cluster_id: None };
        let store = Store::open(self.directory.path(), &options).unwrap();
        let logs = LogManager::open(store, self.clock.clone(), LogSettings::default()).unwrap();
        for index in 0..PARTITIONS {
            let config = Arc::new(TopicConfig::default());
            logs.create(CONSUMER_OFFSETS_TOPIC, topic_id, index, config).unwrap();
        }
        let settings = GroupSettings { initial_rebalance_delay_ms: 0, ..GroupSettings::default() };
        let coordinator = GroupCoordinator::new(self.clock.clone(), logs, settings);
        coordinator.lead(&all_led(topic_id, PARTITIONS));
        self.coordinator = Some(coordinator);
    }

    /// Ends everything without a word, as a killed process does, and starts again.
    async fn restart(&mut self) {
        self.kill().await;
        self.open(TOPIC_ID);
    }

    async fn kill(&mut self) {
        let coordinator = self.coordinator.take().unwrap();
        coordinator.stop();
        let shards: Vec<_> = coordinator.led.shards();
        drop((coordinator, shards));
        // The shards hold the store until their tasks have ended.
        let options = StoreOptions { node_id: 1, cluster_id: None };
        while Store::open(self.directory.path(), &options).is_err() {
            tokio::task::yield_now().await;
        }
    }

    fn groups(&self) -> &Arc<GroupCoordinator> {
        self.coordinator.as_ref().unwrap()
    }

    fn join(&self, request: JoinGroup) -> JoinHandle<Result<JoinedGroup, RefusedJoin>> {
        let groups = self.groups().clone();
        tokio::spawn(async move { groups.join(request).await })
    }

    /// A group of one, with its assignment.
    async fn group_of_one(&self, group_id: &str) -> JoinedGroup {
        let joined = self.groups().join(join_request(group_id, "")).await.unwrap();
        let request = SyncGroup {
            group_id: group_id.into(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            assignments: vec![(joined.member_id.clone(), Bytes::from_static(b"assignment"))],
            ..SyncGroup::default()
        };
        assert_eq!(self.groups().sync(request).await.unwrap().assignment, "assignment");
        joined
    }

    async fn fetch(&self, group_id: &str, topic: &str) -> i64 {
        let topics = vec![FetchTopic { topic: topic.into(), topic_id: Uuid::nil(), partitions: vec![0] }];
        let topics = Some(topics);
        let request = FetchOffsets { group_id: group_id.into(), topics, ..FetchOffsets::default() };
        self.groups().fetch_offsets(request).await.unwrap()[0].partitions[0].offset
    }
}

fn join_request(group_id: &str, member_id: &str) -> JoinGroup {
    JoinGroup {
        group_id: group_id.into(),
        member_id: member_id.into(),
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        protocol_type: "consumer".into(),
        protocols: vec![Protocol { name: "range".into(), metadata: Bytes::from_static(b"subscription") }],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        fresh_id: Uuid::new_v4(),
        ..JoinGroup::default()
    }
}

fn commit_request(group_id: &str, topic: &str, offset: i64) -> CommitOffsets {
    let partition = CommittedPartition { partition: 0, offset, leader_epoch: -1, metadata: None };
    CommitOffsets {
        group_id: group_id.into(),
        generation_id: -1,
        member_id: Arc::default(),
        group_instance_id: None,
        retention_time_ms: None,
        unknown_group: ErrorCode::GroupIdNotFound,
        topics: vec![CommittedTopic {
            topic: topic.into(),
            topic_id: Uuid::from_u128(7),
            partitions: vec![partition],
        }],
    }
}

/// From Java: `Utils.abs(id.hashCode()) % 50`.
#[test]
fn groups_are_spread_as_kafka_spreads_them() {
    let want = [
        ("g", 3),
        ("my-group", 12),
        ("console-consumer-12345", 6),
        ("grüße", 23),
        ("😀group", 32),
        // Its hash is Integer.MIN_VALUE, which has no positive counterpart.
        ("polygenelubricants", 0),
        ("", 0),
    ];
    for (group_id, partition) in want {
        assert_eq!(coordinator_partition(group_id, 50), partition, "{group_id}");
    }
}

#[tokio::test]
async fn a_consumer_group_is_loaded_from_the_view_as_it_was() {
    let mut world = World::new();
    let mut view = ClusterView::empty();
    view.put(crate::group::cluster::Topic::new("orders", Uuid::from_u128(7), 4));
    (view.version, view.topics_version, view.new_topics_version) = (1, 1, 1);
    let view = Arc::new(view);
    let beat = |member_id: &str, member_epoch: i32| ConsumerHeartbeat {
        group_id: "g".into(),
        member_id: member_id.into(),
        member_epoch,
        instance_id: Some(format!("{member_id}-instance").into()),
        rebalance_timeout_ms: 60_000,
        topics: (member_epoch == 0).then(|| ["orders".into()].into()),
        expression: (member_epoch == 0).then(|| "ord.*".into()),
        owned: (member_epoch == 0).then(Default::default),
        ..ConsumerHeartbeat::default()
    };
    world.groups().commit_offsets(commit_request("g", "orders", 5)).await.unwrap();
    world.groups().set_cluster(view.clone());
    world.groups().tell_cluster().await;
    let first = world.groups().consumer_heartbeat(beat("a", 0)).await.unwrap();
    world.groups().consumer_heartbeat(beat("b", 0)).await.unwrap();
    let describe = |world: &World| {
        let groups = world.groups().clone();
        async move { groups.describe_consumer(vec!["g".into()]).await.remove(0).group.unwrap() }
    };
    let before = describe(&world).await;
    assert_eq!((before.members.len(), before.members[0].assignment.len()), (2, 1));
    world.kill().await;
    world.open(TOPIC_ID);
    world.groups().set_cluster(view);
    world.groups().tell_cluster().await;
    assert_eq!(describe(&world).await, before);
    assert_eq!(world.fetch("g", "orders").await, 5);
    assert!(world.groups().consumer_heartbeat(beat("a", first.member_epoch)).await.is_ok());
    let counts = world.groups().counts().await;
    assert_eq!((counts.classic.total(), counts.consumer.total()), (0, 1));
}

#[tokio::test]
async fn a_shard_is_loaded_from_the_view_as_it_was() {
    let mut world = World::new();
    let joined = world.group_of_one("g").await;
    for offset in 0..20 {
        world.groups().commit_offsets(commit_request("simple", "t", offset)).await.unwrap();
    }
    let describe = |world: &World| {
        let groups = world.groups().clone();
        async move { groups.describe(vec!["g".into(), "simple".into(), "nowhere".into()]).await }
    };
    let before = describe(&world).await;
    assert_eq!(before[0].1.as_ref().unwrap().group.as_ref().unwrap().state, "Stable");
    world.restart().await;
    assert_eq!(describe(&world).await, before);
    assert_eq!(world.fetch("simple", "t").await, 19);
    let heartbeat = Heartbeat {
        group_id: "g".into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id,
        group_instance_id: None,
    };
    assert_eq!(world.groups().heartbeat(heartbeat).await, Ok(()));
    assert_eq!(world.groups().list(GroupFilter::default()).await.unwrap().len(), 2);
    assert_eq!(
        world.groups().counts().await,
        GroupCounts {
            classic: crate::group::core::ClassicCounts { stable: 1, empty: 1, ..Default::default() },
            offsets: 1,
            ..GroupCounts::default()
        }
    );
}

#[tokio::test]
async fn shards_without_groups_are_not_started() {
    let mut world = World::new();
    assert_eq!(world.groups().led_partitions(), 50);
    assert_eq!(world.groups().led.shards().len(), 0);
    world.groups().commit_offsets(commit_request("g", "t", 1)).await.unwrap();
    assert_eq!(world.groups().led.shards().len(), 1);
    world.restart().await;
    assert_eq!(world.groups().led.shards().len(), 1);
    assert!(world.groups().led.shard(3).is_ok());
}

#[tokio::test]
async fn a_member_that_died_with_the_broker_is_missed_after_the_restart() {
    let mut world = World::new();
    world.group_of_one("g").await;
    world.restart().await;
    let state = |groups: Arc<GroupCoordinator>| async move {
        groups.list(GroupFilter::default()).await.unwrap()[0].state
    };
    assert_eq!(state(world.groups().clone()).await, "Stable");
    world.clock.advance(10_000);
    assert_eq!(state(world.groups().clone()).await, "Empty");
}

#[tokio::test]
async fn the_log_holds_what_kafka_would_have_written() {
    let world = World::new();
    world.group_of_one("g").await;
    world.groups().commit_offsets(commit_request("polygenelubricants", "t", 1)).await.unwrap();
    let delete = world.groups().delete_groups(vec!["polygenelubricants".into(), "g".into()]).await;
    assert_eq!(delete[0].1, None);
    assert_eq!(delete[1].1, Some(ErrorCode::NonEmptyGroup));
    let records = |index: i32| {
        let partition = world.groups().logs.get(TOPIC_ID, index).unwrap();
        let read = partition.read(0, usize::MAX, true, ReadUpTo::HighWatermark).unwrap();
        let mut records = Vec::new();
        for batch in read.batches.iter().flat_map(BatchView::all) {
            for record in batch.unwrap().records().unwrap() {
                let record = record.unwrap();
                records.push(Record::decode(record.key.unwrap(), record.value).unwrap().unwrap());
            }
        }
        records
    };
    let in_g = records(3);
    assert_eq!(in_g.len(), 2);
    assert!(matches!(&in_g[1], Record::Group { value: Some(value), .. } if value.generation_id == 1));
    let deleted = records(0);
    assert!(matches!(&deleted[0], Record::Offset { value: Some(_), .. }));
    assert!(matches!(&deleted[1], Record::Offset { value: None, .. }));
    assert!(matches!(&deleted[2], Record::Group { value: None, .. }));
}

#[tokio::test]
async fn a_deleted_topic_leaves_no_offsets() {
    let mut world = World::new();
    for group_id in ["a", "b", "c"] {
        world.groups().commit_offsets(commit_request(group_id, "gone", 1)).await.unwrap();
        world.groups().commit_offsets(commit_request(group_id, "kept", 2)).await.unwrap();
    }
    let gone = DeletedTopic { topic: "gone".into(), topic_id: Uuid::from_u128(7) };
    world.groups().topics_deleted(vec![gone]).await;
    world.restart().await;
    for group_id in ["a", "b", "c"] {
        assert_eq!(world.fetch(group_id, "gone").await, -1);
        assert_eq!(world.fetch(group_id, "kept").await, 2);
    }
}

#[tokio::test]
async fn the_groups_of_a_deleted_offsets_topic_are_forgotten() {
    let mut world = World::new();
    world.groups().commit_offsets(commit_request("g", "t", 1)).await.unwrap();
    world.kill().await;
    world.open(Uuid::from_u128(0xC1));
    assert_eq!(world.fetch("g", "t").await, -1);
    world.groups().resign();
    assert_eq!(world.groups().led_partitions(), 0);
    let refused = world.groups().commit_offsets(commit_request("g", "t", 1)).await;
    assert_eq!(refused, Err(ErrorCode::NotCoordinator));
}

#[tokio::test]
async fn whoever_is_held_when_the_broker_stops_is_told() {
    let world = World::new();
    let joined = world.group_of_one("g").await;
    let held = world.join(join_request("g", ""));
    let heartbeat = Heartbeat {
        group_id: "g".into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        group_instance_id: None,
    };
    while world.groups().heartbeat(heartbeat.clone()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    world.groups().stop();
    assert_eq!(held.await.unwrap().unwrap_err().code, ErrorCode::NotCoordinator);
    let leave = LeaveGroup {
        group_id: "g".into(),
        members: vec![LeavingMember { member_id: joined.member_id, ..LeavingMember::default() }],
    };
    assert_eq!(world.groups().leave(leave).await, Err(ErrorCode::NotCoordinator));
}

#[tokio::test]
async fn names_that_no_record_can_hold_are_refused() {
    let world = World::new();
    let long = "x".repeat(TEXT_BYTES_MAX + 1);
    let refused = world.groups().join(join_request(&long, "")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidGroupId);
    let request = JoinGroup { client_id: long.into(), ..join_request("g", "") };
    assert_eq!(world.groups().join(request).await.unwrap_err().code, ErrorCode::InvalidRequest);
}

#[tokio::test]
async fn an_assignment_that_is_too_large_is_refused_and_the_group_goes_on() {
    let world = World::new();
    let joined = world.group_of_one("g").await;
    let again = world.groups().join(join_request("g", &joined.member_id)).await.unwrap();
    let sync = |assignment: Bytes| SyncGroup {
        group_id: "g".into(),
        generation_id: again.generation_id,
        member_id: again.member_id.clone(),
        assignments: vec![(again.member_id.clone(), assignment)],
        ..SyncGroup::default()
    };
    let huge = Bytes::from(vec![0; GROUP_RECORD_BYTES_MAX]);
    assert_eq!(world.groups().sync(sync(huge)).await, Err(ErrorCode::UnknownServerError));
    assert_eq!(world.groups().sync(sync(Bytes::new())).await, Err(ErrorCode::RebalanceInProgress));
    let third = world.groups().join(join_request("g", &joined.member_id)).await.unwrap();
    assert_eq!(third.generation_id, again.generation_id + 1);
}

#[tokio::test]
async fn partitions_that_are_added_move_no_group_while_the_broker_runs() {
    let world = World::new();
    let names: Vec<String> = (0..100).map(|number| format!("group-{number}")).collect();
    let places = || names.iter().map(|name| world.groups().partition_for(name)).collect::<Vec<_>>();
    let before = places();
    world.groups().lead(&all_led(TOPIC_ID, PARTITIONS + 10));
    assert_eq!(places(), before);
}
