//! Whole clusters in one process. Every node has a runtime of its own, so that it can be killed: its tasks end wherever
//! they are.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::protocol::StrBytes;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::*;
use crate::client::{Address, Peer};
use crate::config::cluster::Controllers;
use crate::config::listener::SecurityProtocol;
use crate::error::ErrorCode;
use crate::log::batch::{BatchBuilder, BatchView};
use crate::log::{Partition, ReadUpTo};
use crate::metadata::command::PartitionQuota;
use crate::metadata::{Image, PartitionImage};
use crate::protocol::messages::{ProduceRequest, ProduceResponse};
use crate::testing::PATIENCE;
use crate::types::{NodeId, Offset};

pub(super) const TOPIC: &str = "t";

/// A node that runs.
pub(super) struct Running {
    pub(super) runtime: Runtime,
    pub(super) broker: Broker,
}

pub(super) struct Cluster {
    pub(super) nodes: BTreeMap<NodeId, Running>,
    directories: BTreeMap<NodeId, (TempDir, u16)>,
    config: Vec<(&'static str, String)>,
}

pub(super) fn settings(
    node_id: NodeId,
    port: u16,
    data: PathBuf,
    known: &[u16],
    config: &[(&str, String)],
) -> Settings {
    let mut values: BTreeMap<String, String> =
        config.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    values.insert("node.id".to_owned(), node_id.to_string());
    let listener = ListenerConfig {
        kind: ListenerKind::Both,
        name: "PLAINTEXT".to_owned(),
        protocol: SecurityProtocol::Plaintext,
        host: "127.0.0.1".to_owned(),
        port,
        advertised: None,
    };
    let known: Vec<_> = known.iter().map(|port| ("127.0.0.1".to_owned(), *port)).collect();
    Settings {
        config: BrokerConfig::from_static(values).unwrap(),
        listeners: vec![listener],
        controllers: if known.is_empty() { Controllers::ThisNode } else { Controllers::KnownBy(known) },
        data: DataDirectory::Kept(data),
        cluster_id: None,
        topics: Vec::new(),
        admin: AdminListen::Off,
        levels: crate::levels::Levels::default(),
    }
}

impl Cluster {
    /// Three brokers. The first one makes the cluster, the others join it.
    pub(super) async fn three(config: &[(&'static str, &str)]) -> Self {
        let defaults = [
            ("replica.lag.time.max.ms", "1500"),
            ("replica.fetch.wait.max.ms", "100"),
            ("replica.fetch.backoff.ms", "50"),
            ("broker.heartbeat.interval.ms", "200"),
            ("broker.session.timeout.ms", "2000"),
        ];
        let config = defaults.iter().chain(config).map(|(key, value)| (*key, (*value).to_owned())).collect();
        let mut cluster = Self { nodes: BTreeMap::new(), directories: BTreeMap::new(), config };
        for id in 1..=3 {
            cluster.directories.insert(id, (tempfile::tempdir().unwrap(), 0));
            cluster.start(id).await;
        }
        cluster
    }

    /// Starts a node, at the port where it was before.
    pub(super) async fn start(&mut self, id: NodeId) {
        let (directory, port) = &self.directories[&id];
        let known: Vec<u16> = self.nodes.values().map(|node| node.broker.kafka_addr().port()).collect();
        let settings = settings(id, *port, directory.path().to_owned(), &known, &self.config);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let end = Instant::now() + PATIENCE;
        let broker = loop {
            let settings = settings.clone();
            match runtime.spawn(Broker::start(settings, Clock::system())).await.unwrap() {
                Ok(broker) => break broker,
                // What was killed lets go of its port in a moment.
                Err(StartError::Bind { .. }) if Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("node {id}: {error}"),
            }
        };
        self.directories.get_mut(&id).unwrap().1 = broker.kafka_addr().port();
        self.nodes.insert(id, Running { runtime, broker });
    }

    /// Ends a node at once. It goes on with what it has stored in another directory, as a process keeps its store open.
    pub(super) fn kill(&mut self, id: NodeId) {
        let Running { runtime, broker } = self.nodes.remove(&id).unwrap();
        let store = broker.handles.logs.store().clone();
        runtime.shutdown_background();
        // What is queued is written: nobody is told of it.
        store.close().unwrap();
        let (directory, port) = self.directories.remove(&id).unwrap();
        let copy = tempfile::tempdir().unwrap();
        copy_all(directory.path(), copy.path());
        self.directories.insert(id, (copy, port));
    }

    /// Ends a node as SIGTERM does.
    async fn stop(&mut self, id: NodeId) {
        let Running { runtime, broker } = self.nodes.remove(&id).unwrap();
        runtime.spawn(broker.shutdown()).await.unwrap();
        runtime.shutdown_background();
    }

    /// A node that does not run has nothing any more.
    fn wipe(&mut self, id: NodeId) {
        let port = self.directories[&id].1;
        self.directories.insert(id, (tempfile::tempdir().unwrap(), port));
    }

    pub(super) async fn stop_all(mut self) {
        let nodes = std::mem::take(&mut self.nodes);
        let stopping: Vec<_> = nodes
            .into_values()
            .map(|node| (node.runtime.spawn(node.broker.shutdown()), node.runtime))
            .collect();
        for (stopped, runtime) in stopping {
            stopped.await.unwrap();
            runtime.shutdown_background();
        }
    }

    /// The newest image that any node has.
    pub(super) fn image(&self) -> Arc<Image> {
        let images = self.nodes.values().map(|node| node.broker.handles.metadata.image());
        images.max_by_key(|image| image.offset).unwrap()
    }

    fn partition(&self) -> PartitionImage {
        self.image().topics.get(TOPIC).unwrap().partition(0).unwrap().clone()
    }

    fn isr(&self) -> Vec<NodeId> {
        let mut isr = self.partition().isr;
        isr.sort_unstable();
        isr
    }

    fn log(&self, id: NodeId) -> Option<Arc<Partition>> {
        let topic = self.image().topics.get(TOPIC)?.id;
        self.nodes.get(&id)?.broker.handles.logs.get(topic, 0)
    }

    pub(super) async fn create(&self, replicas: &[NodeId], configs: &[(&str, &str)]) {
        let topic = NewTopic {
            assignments: vec![(0, replicas.to_vec())],
            configs: configs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned())))
                .collect(),
            ..NewTopic::with_defaults(TOPIC)
        };
        let active = self.nodes.values().find(|node| node.broker.handles.metadata.is_active()).unwrap();
        active
            .broker
            .handles
            .metadata
            .create_topics(vec![topic], false, PartitionQuota::NONE)
            .await
            .remove(0)
            .unwrap();
    }
}

fn copy_all(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Produces numbered records with acks=all to whoever leads, until it is told to stop; gives the offset of each that was
/// acknowledged.
struct Producer {
    stop: Arc<AtomicBool>,
    running: tokio::task::JoinHandle<BTreeMap<u32, Offset>>,
    acknowledged: tokio::sync::watch::Receiver<u32>,
}

impl Producer {
    /// `ports`: of the nodes, in the order of their ids from 1.
    fn start(ports: Vec<u16>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (count, acknowledged) = tokio::sync::watch::channel(0);
        let stopped = Arc::clone(&stop);
        let running = tokio::spawn(async move {
            let options = || PeerOptions::new("producer", Clock::system());
            let address = |port| Address { host: "127.0.0.1".into(), port };
            let peers: Vec<_> = ports.into_iter().map(|port| Peer::new(address(port), options())).collect();
            let (mut acked, mut leader, mut number) = (BTreeMap::new(), 0, 0);
            while !stopped.load(Ordering::Relaxed) {
                match produce(&peers[leader], number).await {
                    Ok(offset) => {
                        acked.insert(number, offset);
                        count.send_modify(|count| *count += 1);
                    }
                    Err(_) => {
                        leader = (leader + 1) % peers.len();
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
                number += 1;
            }
            acked
        });
        Self { stop, running, acknowledged }
    }

    /// Waits until so many more are acknowledged.
    async fn progress(&mut self, more: u32) {
        let wanted = *self.acknowledged.borrow() + more;
        let waited = self.acknowledged.wait_for(|count| *count >= wanted);
        tokio::time::timeout(PATIENCE, waited).await.expect("records are acknowledged").unwrap();
    }

    async fn stop(self) -> BTreeMap<u32, Offset> {
        self.stop.store(true, Ordering::Relaxed);
        self.running.await.unwrap()
    }
}

async fn produce(peer: &Peer, number: u32) -> Result<Offset, String> {
    let batch = BatchBuilder::new().record(1, None, Some(&number.to_be_bytes())).build();
    let data = PartitionProduceData::default().with_records(Some(batch));
    let topic = TopicProduceData::default()
        .with_name(TopicName::from(StrBytes::from_static_str(TOPIC)))
        .with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(5_000).with_topic_data(vec![topic]);
    let answer: ProduceResponse =
        peer.call(request, 9..=9, 6_000).await.map_err(|error| error.to_string())?.response;
    let partition = &answer.responses[0].partition_responses[0];
    match ErrorCode::try_from_code(partition.error_code) {
        None => Ok(partition.base_offset),
        Some(code) => Err(code.to_string()),
    }
}

/// The numbers in a log by their offsets.
fn numbers(log: &Partition) -> BTreeMap<Offset, u32> {
    let offsets = log.offsets();
    let mut found = BTreeMap::new();
    let mut next = offsets.log_start;
    while next < offsets.log_end {
        let read = log.read(next, 1 << 20, true, ReadUpTo::LogEnd).unwrap();
        for batch in read.batches.iter().flat_map(BatchView::all).map(Result::unwrap) {
            next = batch.last_offset() + 1;
            for record in batch.records().unwrap().map(Result::unwrap) {
                let value = record.value.unwrap();
                found.insert(record.offset, u32::from_be_bytes(value[..].try_into().unwrap()));
            }
        }
    }
    found
}

pub(super) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "it never is so: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// All replicas have the same log, and everything that was acknowledged is in it where it was said to be.
async fn check(cluster: &Cluster, replicas: &[NodeId], acked: &BTreeMap<u32, Offset>) {
    eventually("all replicas are in sync", || cluster.isr() == replicas).await;
    let ends = || {
        let logs = replicas.iter().filter_map(|id| cluster.log(*id));
        logs.map(|log| (log.offsets().log_end, log.offsets().high_watermark)).collect::<Vec<_>>()
    };
    eventually("all replicas end where they are committed", || {
        let ends = ends();
        ends.len() == replicas.len() && ends.iter().all(|end| *end == (ends[0].0, ends[0].0))
    })
    .await;
    let all: Vec<_> = replicas.iter().map(|id| numbers(&cluster.log(*id).unwrap())).collect();
    for other in &all[1..] {
        assert_eq!(&all[0], other);
    }
    for (number, offset) in acked {
        assert_eq!(all[0].get(offset), Some(number), "acknowledged at {offset}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_brokers_replicate_a_topic_while_one_is_killed_and_another_stopped() {
    let mut cluster = Cluster::three(&[]).await;
    cluster.create(&[2, 3, 1], &[("min.insync.replicas", "2")]).await;
    let ports = cluster.directories.values().map(|(_, port)| *port).collect();
    let mut producer = Producer::start(ports);
    producer.progress(50).await;
    assert_eq!((cluster.partition().leader, cluster.isr()), (2, vec![1, 2, 3]));
    // The leader goes without a word.
    cluster.kill(2);
    producer.progress(20).await;
    assert_ne!(cluster.partition().leader, 2);
    assert_eq!(cluster.isr(), [1, 3]);
    cluster.start(2).await;
    eventually("it is in sync again", || cluster.isr() == [1, 2, 3]).await;
    // Another one says goodbye: nobody waits for it.
    cluster.stop(3).await;
    assert_ne!(cluster.partition().leader, 3);
    producer.progress(20).await;
    // It comes back with nothing.
    cluster.wipe(3);
    cluster.start(3).await;
    producer.progress(20).await;
    eventually("all are in sync", || cluster.isr() == [1, 2, 3]).await;
    let acked = producer.stop().await;
    check(&cluster, &[1, 2, 3], &acked).await;
    cluster.stop_all().await;
}
