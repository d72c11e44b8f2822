#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::*;
use crate::config::TopicConfig;
use crate::log::{LogManager, LogSettings};
use crate::shard::CoordinatorTopic;
use crate::share::state::coordinator::Topics;
use crate::share::state::settings::ShareCoordinatorSettings;
use crate::storage::{Durability, Ops, Store, StoreOptions};
use crate::types::SHARE_GROUP_STATE_TOPIC;

const STATE: Uuid = Uuid::from_u128(1);
const ORDERS: Uuid = Uuid::from_u128(2);

/// A cluster of one broker, as its metadata has it.
struct Cluster {
    coordinator: Mutex<Coordinator>,
    created: AtomicU64,
}

impl Brokers for Arc<Cluster> {
    fn coordinator(&self, _state_partition: i32) -> Coordinator {
        *self.coordinator.lock()
    }

    fn connection(&self, _id: NodeId) -> Option<Arc<Peer>> {
        None
    }

    fn create_state_topic(&self) -> BoxFuture<'static, ()> {
        let this = Self::clone(self);
        Box::pin(async move {
            this.created.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            *this.coordinator.lock() = Coordinator::Here;
        })
    }

    fn has_topic(&self, topic_id: Uuid) -> bool {
        topic_id == ORDERS
    }
}

struct OneTopic;

impl Topics for OneTopic {
    fn partition_count(&self, topic_id: Uuid) -> Option<i32> {
        (topic_id == ORDERS).then_some(3)
    }
}

struct World {
    clock: Clock,
    cluster: Arc<Cluster>,
    own: Arc<ShareCoordinator>,
    persister: Persister,
    store: Store,
    _directory: tempfile::TempDir,
}

impl World {
    fn new(coordinator: Coordinator) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::virtual_at(0);
        let store = Store::open(directory.path(), &StoreOptions { node_id: 1, cluster_id: None }).unwrap();
        let logs = LogManager::open(store.clone(), clock.clone(), LogSettings::default()).unwrap();
        logs.create(SHARE_GROUP_STATE_TOPIC, STATE, 0, Arc::new(TopicConfig::default())).unwrap();
        let settings = ShareCoordinatorSettings::default();
        let own = ShareCoordinator::new(clock.clone(), logs, settings, Arc::new(OneTopic));
        let cluster = Arc::new(Cluster { coordinator: Mutex::new(coordinator), created: AtomicU64::new(0) });
        let brokers = Arc::new(Arc::clone(&cluster));
        let persister = Persister::new(Arc::clone(&own), brokers, clock.clone(), 30_000);
        Self { clock, cluster, own, persister, store, _directory: directory }
    }

    fn lead(&self) {
        self.own.lead(&CoordinatorTopic { id: STATE, partition_count: 1, led: vec![(0, 0)] });
    }

    /// Lets virtual time pass until this is answered; how much it was. Writing to the disk takes none of it.
    async fn passes<T>(&self, asked: impl Future<Output = T>) -> (T, i64) {
        let began_ms = self.clock.steady_ms();
        let passing = async {
            loop {
                tokio::task::yield_now().await;
                self.store.commit_blocking(Ops::new(), Durability::Process).unwrap();
                self.clock.advance(10);
            }
        };
        tokio::select! {
            biased;
            answer = asked => (answer, self.clock.steady_ms() - began_ms),
            () = passing => unreachable!("time never ends"),
        }
    }
}

fn orders(partition: i32) -> SharePartition {
    SharePartition { group_id: "g".into(), topic_id: ORDERS, partition }
}

#[tokio::test]
async fn the_first_who_asks_creates_the_topic() {
    let world = World::new(Coordinator::NoTopic);
    world.lead();
    let asked = (0..3).map(|partition| world.persister.initialize(orders(partition), 1, 0));
    for initialized in futures_util::future::join_all(asked).await {
        initialized.unwrap();
    }
    assert_eq!(world.cluster.created.load(Ordering::SeqCst), 1);
    world.persister.write(orders(1), 1, 0, 5, 0, Vec::new()).await.unwrap();
    assert_eq!(world.persister.read(orders(1), 0).await.unwrap().start_offset, 5);
    assert_eq!(world.persister.read_summary(orders(1), 0).await.unwrap().start_offset, 5);
    world.persister.delete(orders(1)).await.unwrap();
    assert_eq!(world.persister.read(orders(1), 0).await.unwrap_err().code, ErrorCode::InvalidRequest);
}

#[tokio::test]
async fn a_coordinator_that_changes_is_asked_again() {
    let world = World::new(Coordinator::Here);
    let (answer, after_ms) = world.passes(world.persister.initialize(orders(0), 1, 0)).await;
    assert_eq!(answer.unwrap_err().code, ErrorCode::NotCoordinator);
    assert!(after_ms >= PATIENCE_MS, "{after_ms}");
    let moves = async {
        world.clock.sleep_until(world.clock.steady_ms() + 500).await;
        *world.cluster.coordinator.lock() = Coordinator::Here;
    };
    // For now another broker coordinates it, which can not be reached.
    *world.cluster.coordinator.lock() = Coordinator::Broker(2);
    world.lead();
    while world.own.read_summary(&orders(0)).await.is_err() {}
    let both = futures_util::future::join(world.persister.initialize(orders(0), 1, 0), moves);
    let ((answer, ()), after_ms) = world.passes(both).await;
    answer.unwrap();
    assert!(after_ms >= 500, "{after_ms}");
}

#[tokio::test]
async fn a_topic_that_is_gone_is_not_asked_for_again() {
    let world = World::new(Coordinator::Here);
    world.lead();
    let gone = SharePartition { topic_id: Uuid::from_u128(3), ..orders(0) };
    let asked = world.persister.delete(gone).await;
    assert_eq!(asked.unwrap_err().code, ErrorCode::UnknownTopicOrPartition);
    let (answer, after_ms) = world.passes(world.persister.delete(orders(3))).await;
    assert_eq!(answer.unwrap_err().code, ErrorCode::UnknownTopicOrPartition);
    assert!(after_ms >= PATIENCE_MS, "{after_ms}");
}

#[tokio::test]
async fn a_broker_that_stops_does_not_wait_for_coordinators() {
    let world = World::new(Coordinator::Nobody);
    let asked = world.persister.initialize(orders(0), 1, 0);
    let stops = async { world.persister.stop() };
    let (answer, ()) = futures_util::future::join(asked, stops).await;
    assert_eq!(answer.unwrap_err().code, ErrorCode::CoordinatorNotAvailable);
}
