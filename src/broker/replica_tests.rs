//! A follower that is nothing but logs and fetchers, against a whole broker that leads.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::broker_registration_request::{Feature, Listener as RegisteredListener};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::protocol::StrBytes;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::client::{Address, Peer};
use crate::config::cluster::Controllers;
use crate::config::listener::SecurityProtocol;
use crate::error::ErrorCode;
use crate::log::batch::BatchBuilder;
use crate::log::{Following, Origin, Partition, ReadUpTo};
use crate::metadata::command::PartitionQuota;
use crate::metadata::image::Image;
use crate::protocol::messages::*;
use crate::testing::PATIENCE;
use crate::types::{NodeId, Offset};

const FOLLOWER: NodeId = 2;
/// Longer than a slow machine keeps a follower from fetching.
const LAG_MS: u64 = 10_000;

fn config(node_id: NodeId) -> BrokerConfig {
    let values = [
        ("node.id", node_id.to_string()),
        ("broker.session.timeout.ms", "600000".to_owned()),
        ("replica.lag.time.max.ms", LAG_MS.to_string()),
        ("replica.fetch.wait.max.ms", "100".to_owned()),
        ("replica.fetch.backoff.ms", "20".to_owned()),
    ];
    let values = values.into_iter().map(|(key, value)| (key.to_owned(), value));
    BrokerConfig::from_static(values.collect()).unwrap()
}

async fn leader() -> (Broker, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let listener = ListenerConfig {
        kind: ListenerKind::Both,
        name: "PLAINTEXT".to_owned(),
        protocol: SecurityProtocol::Plaintext,
        host: "127.0.0.1".to_owned(),
        port: 0,
        advertised: None,
    };
    let settings = Settings {
        config: config(1),
        listeners: vec![listener],
        controllers: Controllers::ThisNode,
        data: DataDirectory::Kept(directory.path().to_owned()),
        cluster_id: None,
        topics: Vec::new(),
        admin: AdminListen::Off,
        levels: crate::levels::Levels::default(),
    };
    (Broker::start(settings, Clock::system()).await.unwrap(), directory)
}

fn peer(broker: &Broker) -> Arc<Peer> {
    let address = Address { host: "127.0.0.1".into(), port: broker.kafka_addr().port() };
    Peer::new(address, PeerOptions::new("test", Clock::system()))
}

/// Makes the follower known to the leader's controller, as a broker that is not fenced.
async fn register(broker: &Broker, peer: &Peer) {
    let image = broker.handles.metadata.image();
    let feature = |feature: &crate::metadata::image::FeatureRange| {
        Feature::default()
            .with_name(StrBytes::from_string(feature.name.to_string()))
            .with_min_supported_version(feature.min)
            .with_max_supported_version(feature.max)
    };
    let listener = RegisteredListener::default()
        .with_name(StrBytes::from_static_str("PLAINTEXT"))
        .with_host(StrBytes::from_static_str("127.0.0.1"))
        .with_port(9);
    let request = BrokerRegistrationRequest::default()
        .with_broker_id(FOLLOWER.into())
        .with_cluster_id(StrBytes::from_string(broker.handles.cluster_id.to_string()))
        .with_incarnation_id(Uuid::from_u128(1_000))
        .with_listeners(vec![listener])
        .with_features(image.brokers[&1].features.iter().map(feature).collect())
        .with_log_dirs(vec![Uuid::from_u128(2_000)])
        .with_previous_broker_epoch(-1);
    let registered = peer.call(request, 4..=4, 60_000).await.unwrap().response;
    assert_eq!(registered.error_code, 0);
    for want_fence in [true, false] {
        let request = BrokerHeartbeatRequest {
            broker_id: FOLLOWER,
            broker_epoch: registered.broker_epoch,
            current_metadata_offset: Offset::MAX,
            want_fence,
            ..BrokerHeartbeatRequest::default()
        };
        assert_eq!(peer.call(request, 1..=2, 60_000).await.unwrap().response.error_code, 0);
    }
}

async fn create(broker: &Broker, name: &str, configs: &[(&str, &str)]) -> Uuid {
    let topic = NewTopic {
        assignments: vec![(0, vec![1, FOLLOWER])],
        configs: configs.iter().map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned()))).collect(),
        ..NewTopic::with_defaults(name)
    };
    let created =
        broker.handles.metadata.create_topics(vec![topic], false, PartitionQuota::NONE).await.remove(0);
    created.unwrap().topic_id
}

/// The logs and fetchers of a follower in a directory.
struct Follower {
    logs: Arc<LogManager>,
    replicas: Arc<ReplicaManager>,
}

impl Follower {
    fn start(directory: &Path) -> Self {
        let options = StoreOptions { node_id: FOLLOWER, cluster_id: None };
        let store = Store::open(directory, &options).unwrap();
        let clock = Clock::system();
        let logs = LogManager::open(store, clock.clone(), LogSettings::default()).unwrap();
        let replicas = ReplicaManager::new(ReplicaOptions {
            node_id: FOLLOWER,
            logs: Arc::clone(&logs),
            clock,
            config: Arc::new(config(FOLLOWER)),
            listener: "PLAINTEXT".into(),
        });
        Self { logs, replicas }
    }

    /// Follows what an image says.
    fn take(&self, image: &Image) {
        let ids: BTreeSet<Uuid> = image.topics.iter().map(|topic| topic.id).collect();
        self.replicas.roles_change(image, &ids, &config(FOLLOWER));
        for topic in image.topics.iter() {
            for (number, partition) in topic.partitions() {
                let log = self.logs.create(&topic.name, topic.id, number, Arc::default()).unwrap();
                log.follow(Following {
                    leader: Some(partition.leader),
                    leader_epoch: partition.leader_epoch,
                    partition_epoch: partition.partition_epoch,
                });
            }
        }
        self.replicas.roles_changed(image, &ids);
    }

    async fn stop(self) {
        self.replicas.stop().await;
        self.logs.store().close().unwrap();
    }
}

/// Produces a batch of records with acks=all.
async fn produce(peer: &Peer, topic: &str, values: &[&str]) -> Result<Offset, ErrorCode> {
    let batch =
        values.iter().fold(BatchBuilder::new(), |batch, value| batch.record(1, None, Some(value.as_bytes())));
    let data = PartitionProduceData::default().with_records(Some(batch.build()));
    let topic = TopicProduceData::default()
        .with_name(TopicName::from(StrBytes::from_string(topic.to_owned())))
        .with_partition_data(vec![data]);
    let request =
        ProduceRequest::default().with_acks(-1).with_timeout_ms(60_000).with_topic_data(vec![topic]);
    let answer = peer.call(request, 9..=9, 60_000).await.unwrap().response;
    let partition = &answer.responses[0].partition_responses[0];
    ErrorCode::try_from_code(partition.error_code).map_or(Ok(partition.base_offset), Err)
}

fn records(log: &Partition) -> Bytes {
    let offsets = log.offsets();
    let mut all = BytesMut::new();
    let mut next = offsets.log_start;
    while next < offsets.log_end {
        let read = log.read(next, 1 << 20, true, ReadUpTo::LogEnd).unwrap();
        for bytes in read.batches {
            for batch in crate::log::batch::BatchView::all(&bytes).map(Result::unwrap) {
                next = batch.last_offset() + 1;
                all.extend_from_slice(batch.bytes());
            }
        }
    }
    all.freeze()
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "it never is so: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn isr(broker: &Broker, topic: &str) -> Vec<NodeId> {
    let image = broker.handles.metadata.image();
    let mut isr = image.topics.get(topic).unwrap().partition(0).unwrap().isr.clone();
    isr.sort_unstable();
    isr
}

fn same(one: &Partition, other: &Partition) -> bool {
    let (one_offsets, other_offsets) = (one.offsets(), other.offsets());
    (one_offsets.log_start, one_offsets.log_end, one_offsets.high_watermark)
        == (other_offsets.log_start, other_offsets.log_end, other_offsets.high_watermark)
        && records(one) == records(other)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_has_what_was_acknowledged_and_leaves_and_joins_those_in_sync() {
    let (broker, _kept) = leader().await;
    let peer = peer(&broker);
    register(&broker, &peer).await;
    let id = create(&broker, "t", &[]).await;
    assert_eq!(isr(&broker, "t"), [1, 2]);
    let directory = tempfile::tempdir().unwrap();
    let follower = Follower::start(directory.path());
    follower.take(&broker.handles.metadata.image());
    let (ours, theirs) = (follower.logs.get(id, 0).unwrap(), broker.handles.logs.get(id, 0).unwrap());
    for round in 0..20 {
        assert_eq!(produce(&peer, "t", &["a", "b", "c"]).await, Ok(3 * round));
        assert!(ours.offsets().log_end >= 3 * (round + 1), "what is acknowledged is at the follower");
    }
    eventually("the logs are the same", || same(&ours, &theirs)).await;
    assert_eq!(follower.replicas.followers().lags, [("t".into(), 0, Some(0))]);
    drop(ours);
    let began = Instant::now();
    follower.stop().await;
    // Without it, a write waits until it is no longer in sync.
    assert_eq!(produce(&peer, "t", &["d"]).await, Ok(60));
    assert!(began.elapsed() >= Duration::from_millis(LAG_MS / 2), "{:?}", began.elapsed());
    eventually("the follower is not in sync", || isr(&broker, "t") == [1]).await;
    let follower = Follower::start(directory.path());
    follower.take(&broker.handles.metadata.image());
    let ours = follower.logs.get(id, 0).unwrap();
    eventually("the follower has caught up", || same(&ours, &theirs)).await;
    eventually("it is in sync again", || isr(&broker, "t") == [1, 2]).await;
    assert_eq!(produce(&peer, "t", &["e"]).await, Ok(61));
    assert!(ours.offsets().log_end >= 62);
    follower.stop().await;
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_follower_begins_where_its_leader_does_and_a_stray_end_is_cut_off() {
    let (broker, _kept) = leader().await;
    let peer = peer(&broker);
    register(&broker, &peer).await;
    let id = create(&broker, "t", &[("min.insync.replicas", "1")]).await;
    let theirs = broker.handles.logs.get(id, 0).unwrap();
    for _ in 0..5 {
        assert!(produce(&peer, "t", &["a", "b"]).await.is_ok());
    }
    theirs.delete_records(4).await.unwrap();
    let wiped = tempfile::tempdir().unwrap();
    let follower = Follower::start(wiped.path());
    follower.take(&broker.handles.metadata.image());
    let ours = follower.logs.get(id, 0).unwrap();
    eventually("the follower has everything from the leader's start", || same(&ours, &theirs)).await;
    assert_eq!(ours.offsets().log_start, 4);
    // The follower leads for a while, says a wrong metadata, and appends something of an epoch that nobody knows.
    follower.replicas.roles_change(&Image::empty(), &BTreeSet::from([id]), &config(FOLLOWER));
    let epoch = theirs.leader_epoch();
    ours.lead(crate::log::Leading {
        node_id: FOLLOWER,
        leader_epoch: epoch + 1,
        partition_epoch: i32::MAX - 1,
        replicas: vec![FOLLOWER],
        isr: vec![FOLLOWER],
        adding: Vec::new(),
    });
    let stray = BatchBuilder::new().record(1, None, Some(b"stray")).build();
    ours.append(stray, Origin::Client, crate::log::Ops::new()).unwrap().await.unwrap();
    assert_eq!(ours.offsets().log_end, 11);
    ours.follow(Following { leader: Some(1), leader_epoch: epoch + 1, partition_epoch: i32::MAX });
    follower.take(&broker.handles.metadata.image());
    eventually("the stray record is gone", || same(&ours, &theirs)).await;
    follower.stop().await;
    broker.shutdown().await;
}
