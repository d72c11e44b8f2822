//! The metadata with its log, its store and its task.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::Path;

use super::command::{ConfigChange, ConfigOp, NewPartitions, NewTopic, PartitionQuota};
use super::image::Endpoint;
use super::*;
use crate::clock::Clock;
use crate::config::BrokerConfig;
use crate::config::cluster::Controllers;
use crate::error::ErrorCode;
use crate::log::{LogManager, LogSettings, Partition};
use crate::metadata::record::{ConfigRecord, Record};
use crate::quorum::export::{export, export_directory};
use crate::quorum::message::SnapshotContents;
use crate::quorum::{SnapshotFiles, SnapshotId, VersionRange, Voter, Voters};
use crate::storage::{Durability, Key, Ops, Store, StoreOptions};
use crate::testing::PATIENCE;
use crate::types::{CLUSTER_METADATA_TOPIC_ID, kafka_id};
use std::sync::Arc;

/// A broker's metadata in a directory, without a broker around it.
pub(crate) struct Node {
    pub(crate) metadata: Arc<Metadata>,
    pub(crate) logs: Arc<LogManager>,
}

impl Node {
    pub(crate) async fn start(directory: &Path) -> Self {
        Self::start_on(directory, 9_092).await
    }

    pub(crate) async fn start_with(directory: &Path, config: &[(&str, &str)]) -> Self {
        Self::start_as(directory, 9_092, config).await
    }

    async fn start_on(directory: &Path, port: u16) -> Self {
        Self::start_as(directory, port, &[]).await
    }

    async fn start_as(directory: &Path, port: u16, config: &[(&str, &str)]) -> Self {
        let values = config.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let store_options = StoreOptions { node_id: 1, cluster_id: None };
        let store = Store::open(directory, &store_options).unwrap();
        let clock = Clock::virtual_at(1_000);
        let logs = LogManager::open(store.clone(), clock.clone(), LogSettings::default()).unwrap();
        let endpoint =
            Endpoint { listener: "PLAINTEXT".into(), host: "localhost".into(), port, security_protocol: 0 };
        let options = MetadataOptions {
            store,
            logs: Arc::clone(&logs),
            clock,
            config: Arc::new(BrokerConfig::from_static(values.collect()).unwrap()),
            endpoints: vec![endpoint.clone()],
            controller_endpoints: vec![endpoint],
            controllers: Controllers::ThisNode,
            replicas: None,
            // Each life of a process has another one.
            seed: rand::random(),
        };
        Self { metadata: Metadata::open(options).await.unwrap(), logs }
    }

    pub(crate) async fn stop(self) {
        self.metadata.shutdown().await;
    }

    pub(crate) async fn create(&self, name: &str, partitions: i32) -> uuid::Uuid {
        let topic = NewTopic { partitions, ..NewTopic::with_defaults(name) };
        self.metadata
            .create_topics(vec![topic], false, PartitionQuota::NONE)
            .await
            .remove(0)
            .unwrap()
            .topic_id
    }

    /// The next start will be one after the operating system was started again, too.
    async fn machine_restarts(&self) {
        let mut ops = Ops::new();
        ops.put(&Key::BootId, b"another".to_vec());
        self.logs.store().commit(ops, Durability::Process).await.unwrap();
    }

    fn log(&self) -> Arc<Partition> {
        self.logs.get(CLUSTER_METADATA_TOPIC_ID, 0).unwrap()
    }

    /// The types of the records in the log, control records as negative numbers.
    fn kinds(&self) -> Vec<i64> {
        let read = self.log().read(0, 8 << 20, true, crate::log::ReadUpTo::LogEnd).unwrap();
        let mut kinds = Vec::new();
        for bytes in &read.batches {
            for batch in crate::log::batch::BatchView::all(bytes) {
                let batch = batch.unwrap();
                for record in batch.records().unwrap() {
                    let record = record.unwrap();
                    let control = || -i64::from(record.key.as_ref().unwrap()[3]);
                    let kind = || i64::from(Record::decode(record.value.clone().unwrap()).unwrap().0.kind());
                    kinds.push(if batch.is_control() { control() } else { kind() });
                }
            }
        }
        kinds
    }
}

#[tokio::test]
async fn whoever_begins_to_ask_who_leads_hears_what_is_known_already() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    let mut leadership = node.metadata.quorum().leadership();
    assert!(leadership.has_changed().unwrap());
    assert_eq!(leadership.borrow_and_update().leader, Some(1));
    assert!(!leadership.has_changed().unwrap());
}

#[tokio::test]
async fn the_first_start_makes_a_cluster_with_one_broker() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    let image = node.metadata.image();
    assert_eq!(node.kinds(), [-2, -5, -6, 23, 12, 12, 12, 12, 12, 12, 4, 24, 27, 0, 17]);
    assert_eq!((image.offset, image.epoch, image.metadata_version()), (14, 1, Some(30)));
    let broker = image.active_broker(1).unwrap();
    assert_eq!((broker.epoch, broker.log_dirs.clone()), (13, vec![node.metadata.directory_id()]));
    let quorum = node.metadata.quorum().describe().unwrap();
    assert_eq!((quorum.leader, quorum.epoch, quorum.high_watermark), (1, 1, Some(15)));
    assert_eq!((quorum.voters.len(), quorum.voters[0].log_end), (1, Some(15)));
    node.stop().await;
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart_with_its_ids_and_newer_epochs() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    let kept = node.create("kept", 3).await;
    let gone = node.create("gone", 1).await;
    assert!(node.logs.get(kept, 2).is_some(), "the log is there before the answer");
    assert_eq!(node.metadata.delete_topics(vec![gone], PartitionQuota::NONE).await, [Ok(())]);
    assert!(node.logs.get(gone, 0).is_none());
    let change = ConfigChange {
        resource: ConfigResource::topic("kept"),
        changes: vec![("retention.ms".to_owned(), ConfigOp::Set("7".to_owned()))],
    };
    assert_eq!(node.metadata.incremental_alter_configs(vec![change], false).await, [Ok(())]);
    assert_eq!(node.logs.get(kept, 0).unwrap().config().retention_ms, 7);
    let more = NewPartitions { topic: "kept".to_owned(), count: 4, assignments: None };
    assert_eq!(node.metadata.create_partitions(vec![more], false, PartitionQuota::NONE).await, [Ok(())]);
    assert_eq!(node.metadata.allocate_producer_ids().await, Ok(0..1_000));
    let cluster = node.metadata.cluster_id().to_string();
    let before = node.metadata.image();
    node.machine_restarts().await;
    node.stop().await;

    let node = Node::start(directory.path()).await;
    let image = node.metadata.image();
    assert_eq!(*node.metadata.cluster_id(), cluster.as_str().into());
    assert_eq!(image.topics.iter().map(|topic| topic.id).collect::<Vec<_>>(), [kept]);
    let topic = image.topics.by_id(kept).unwrap();
    assert_eq!(topic.partition_count(), 4);
    assert!(topic.partitions().all(|(_, partition)| partition.leader == 1 && partition.leader_epoch == 2));
    assert_eq!((image.epoch, node.metadata.quorum().describe().unwrap().epoch), (2, 2));
    assert!(image.brokers[&1].epoch > before.brokers[&1].epoch);
    assert_ne!(image.brokers[&1].incarnation_id, before.brokers[&1].incarnation_id);
    let log = node.logs.get(kept, 3).unwrap();
    assert_eq!((log.leader_epoch(), log.config().retention_ms), (2, 7));
    drop(log);
    assert_eq!(node.metadata.allocate_producer_ids().await, Ok(1_000..2_000));
    assert_eq!(node.kinds().iter().filter(|kind| **kind == -6).count(), 1, "the voters are written once");
    node.stop().await;

    let node = Node::start_on(directory.path(), 9_093).await;
    assert_eq!(node.kinds().iter().filter(|kind| **kind == -6).count(), 2, "and again when they moved");
    node.stop().await;
}

#[tokio::test]
async fn what_a_crash_left_between_metadata_and_logs_is_put_right() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    let topic = node.create("t", 2).await;
    // As if the crash came after the metadata were written and before the logs followed.
    node.logs.delete_topic(topic).unwrap();
    let stray = uuid::Uuid::from_u128(12_345);
    node.logs.create("stray", stray, 0, node.metadata.topic_config("stray")).unwrap();
    node.stop().await;

    let node = Node::start(directory.path()).await;
    assert!(node.logs.get(topic, 0).is_some() && node.logs.get(topic, 1).is_some());
    assert!(node.logs.get(stray, 0).is_none());
    assert!(node.logs.get(CLUSTER_METADATA_TOPIC_ID, 0).is_some());
    node.stop().await;
}

#[tokio::test]
async fn commands_that_wait_together_are_all_answered_and_listeners_hear_of_them() {
    #[derive(Default)]
    struct Deleted(parking_lot::Mutex<Vec<String>>);
    impl ImageListener for Deleted {
        fn on_image(&self, old: &Image, new: &Arc<Image>, delta: &super::image::Delta) {
            self.0.lock().extend(delta.deleted(old, new).map(|topic| topic.name.to_string()));
        }
    }

    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    let deleted = Arc::new(Deleted::default());
    node.metadata.listen(Arc::clone(&deleted) as Arc<dyn ImageListener>);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let metadata = Arc::clone(&node.metadata);
        tasks.spawn(async move {
            metadata
                .create_topics(vec![NewTopic::with_defaults("same")], false, PartitionQuota::NONE)
                .await
                .remove(0)
                .is_ok()
        });
    }
    let created = tasks.join_all().await;
    assert_eq!(created.iter().filter(|created| **created).count(), 1, "one of many creates the topic");
    let id = node.metadata.image().topics.get("same").unwrap().id;
    assert_eq!(node.metadata.delete_topics(vec![id], PartitionQuota::NONE).await, [Ok(())]);
    assert_eq!(*deleted.0.lock(), ["same"]);
    node.metadata.wait_for(node.metadata.image().offset).await;
    node.stop().await;
}

#[tokio::test]
async fn a_broker_value_reaches_the_topics_that_have_none_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    let topic = node.create("t", 1).await;
    let set = |resource, value: &str| ConfigChange {
        resource,
        changes: vec![("log.retention.ms".to_owned(), ConfigOp::Set(value.to_owned()))],
    };
    let changes = vec![set(ConfigResource::cluster(), "11"), set(ConfigResource::broker(1), "12")];
    assert_eq!(node.metadata.incremental_alter_configs(changes, false).await, [Ok(()), Ok(())]);
    assert_eq!(node.logs.get(topic, 0).unwrap().config().retention_ms, 12);
    assert_eq!(node.metadata.topic_config("other").retention_ms, 12);
    node.stop().await;
}

/// The start does not become slower with every start before it.
#[tokio::test]
async fn a_restart_writes_nothing_about_partitions_while_the_machine_runs() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    let topic = node.create("t", 100).await;
    node.stop().await;
    for restart in 1..=3 {
        let node = Node::start(directory.path()).await;
        let before = node.metadata.image();
        let partition = before.topics.by_id(topic).unwrap().partition(99).unwrap().clone();
        assert_eq!((partition.leader, partition.leader_epoch), (1, 0));
        assert_eq!(node.logs.get(topic, 99).unwrap().leader_epoch(), 0);
        assert!(before.active_broker(1).is_some());
        let first = 15 + 101;
        assert_eq!(node.log().offsets().log_end, first + restart * 4, "the epoch, a controller, a broker");
        node.stop().await;
    }
}

#[tokio::test]
async fn nobody_is_told_of_what_could_not_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    node.create("t", 1).await;
    let before = node.metadata.image();
    node.logs.store().fail_writes(true);
    for name in ["a", "b"] {
        let created = node
            .metadata
            .create_topics(vec![NewTopic::with_defaults(name)], false, PartitionQuota::NONE)
            .await
            .remove(0);
        assert_eq!(created.unwrap_err().code, ErrorCode::KafkaStorageError);
    }
    assert_eq!(node.metadata.image(), before);
    node.logs.store().fail_writes(false);
    let end = std::time::Instant::now() + PATIENCE;
    while node.logs.store().failure().is_some() || !node.metadata.is_active() {
        assert!(std::time::Instant::now() < end, "the store is not written to again");
        tokio::task::yield_now().await;
    }
    let made = node.create("made", 2).await;
    assert!(node.logs.get(made, 1).is_some());
    node.stop().await;

    let node = Node::start(directory.path()).await;
    assert_eq!(node.metadata.image().topics.len(), 2);
    node.stop().await;
}

#[tokio::test]
async fn a_request_that_is_too_large_for_one_batch_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    for name in ["a", "b"] {
        node.create(name, 1).await;
    }
    let more = |name: &str| NewPartitions { topic: name.to_owned(), count: 6_000, assignments: None };
    let results =
        node.metadata.create_partitions(vec![more("a"), more("b")], false, PartitionQuota::NONE).await;
    assert!(results.iter().all(|result| result.as_ref().unwrap_err().code == ErrorCode::PolicyViolation));
    assert_eq!(node.metadata.image().topics.partition_count(), 2);
    node.stop().await;
}

#[tokio::test]
async fn the_exported_log_is_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    node.create("t", 1).await;
    let out = directory.path().join("out");
    let path = export(&node.log(), &out).unwrap();
    assert_eq!(path.file_name().unwrap(), "00000000000000000000.log");
    let written = std::fs::read(&path).unwrap();
    let read = node.log().read(0, 1 << 20, true, crate::log::ReadUpTo::LogEnd).unwrap();
    assert_eq!(written, read.batches.concat());
    node.stop().await;

    std::fs::remove_file(&path).unwrap();
    assert_eq!(std::fs::read(export_directory(directory.path(), 1, &out).unwrap()).unwrap(), written);
    let missing = export_directory(&directory.path().join("no"), 1, &out).unwrap_err();
    assert!(missing.to_string().ends_with("holds no metadata log"), "{missing}");
    assert!(!directory.path().join("no").exists());
}

#[test]
fn a_command_after_the_end_is_told_so() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let node = Node::start(directory.path()).await;
        node.metadata.shutdown().await;
        let error = node.metadata.allocate_producer_ids().await.unwrap_err();
        assert_eq!(error.code, ErrorCode::NotController);
        assert!(!kafka_id(node.metadata.directory_id()).is_empty());
    });
}

#[tokio::test]
async fn a_decision_larger_than_a_batch_is_a_transaction() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    let before = node.kinds().len();
    let groups = |node: &Node| {
        let image = node.metadata.image();
        image.configs().filter(|(resource, _)| resource.kind == ResourceType::Group).count()
    };
    let config = |number: i32| ConfigRecord {
        resource_type: ResourceType::Group.id(),
        resource_name: format!("g{number}"),
        name: "consumer.session.timeout.ms".to_owned(),
        value: Some("45000".to_owned()),
        ..ConfigRecord::default()
    };
    let records: Vec<Record> = (0..12_000).map(|number| config(number).into()).collect();
    node.metadata.decide(|_| controller::Decision { records, reply: () }).await.unwrap();
    let offset = i64::try_from(before).unwrap() + 12_001;
    node.metadata.wait_for(offset).await;
    assert_eq!(groups(&node), 12_000);
    let kinds = node.kinds().split_off(before);
    assert_eq!((kinds[0], kinds[12_001], kinds.len()), (23, 24, 12_002));
    node.stop().await;
    let node = Node::start(directory.path()).await;
    assert_eq!(groups(&node), 12_000);
    node.stop().await;
}

#[tokio::test]
async fn a_snapshot_takes_the_place_of_the_log_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let often = [("metadata.log.max.record.bytes.between.snapshots", "2000")];
    let node = Node::start_with(directory.path(), &often).await;
    let snapshots = SnapshotFiles::of(directory.path());
    let end = std::time::Instant::now() + PATIENCE;
    let mut topics = 0;
    while node.metadata.status().snapshot.is_none() {
        assert!(std::time::Instant::now() < end, "no snapshot is written");
        node.create(&format!("t{topics}"), 3).await;
        topics += 1;
    }
    let id = *snapshots.list().unwrap().last().unwrap();
    assert!(id.end_offset > 13 && id.end_offset <= node.log().offsets().log_end);
    let before = node.metadata.image();
    node.stop().await;
    let node = Node::start_with(directory.path(), &often).await;
    let image = node.metadata.image();
    assert_eq!(image.topics, before.topics);
    assert_eq!(image.config(&ConfigResource::cluster()), before.config(&ConfigResource::cluster()));
    assert!(image.active_broker(1).is_some() && image.epoch > before.epoch);
    node.create("later", 1).await;
    node.stop().await;
}

#[tokio::test]
async fn who_does_not_know_the_voters_writes_no_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    let quorum = Arc::clone(node.metadata.quorum());
    node.stop().await;
    let id = SnapshotId { end_offset: 3, epoch: 1 };
    assert!(quorum.save_snapshot(id, 0, std::iter::empty()).await.is_err());
    assert_eq!(SnapshotFiles::of(directory.path()).list().unwrap(), []);
}

#[tokio::test]
async fn a_snapshot_of_a_newer_epoch_takes_the_place_of_a_longer_log() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    node.create("both", 1).await;
    let values = super::snapshot::values(&node.metadata.image()).unwrap();
    let voter = node.metadata.quorum().describe().unwrap().voters.remove(0);
    let (key, endpoints) = (voter.key, voter.endpoints);
    let voters = Voters::only(Voter { key, endpoints, kraft_versions: VersionRange::SUPPORTED });
    node.create("lost", 1).await;
    node.stop().await;
    // A fetched snapshot has its name, and the process ended before the log began anew.
    let id = SnapshotId { end_offset: 10, epoch: 9 };
    let contents = SnapshotContents { voters: Some(voters), kraft_version: 1 };
    SnapshotFiles::of(directory.path()).write(id, &contents, 0, values.into_iter()).unwrap();
    let node = Node::start(directory.path()).await;
    let image = node.metadata.image();
    assert!(image.topics.get("both").is_some() && image.topics.get("lost").is_none());
    assert_eq!((node.log().offsets().log_start, image.epoch), (10, 10));
    node.create("later", 1).await;
    node.stop().await;
}
