//! The replicas of this broker: which leaders their logs follow, as the image says (`ReplicaManager.applyDelta`,
//! `ReplicaFetcherManager`).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI16, AtomicI64, Ordering};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::fetcher::{Environment, Fetcher};
use super::isr;
use super::throttle::{ReplicationQuota, Windows, names};
use crate::client::{Address, ControllerChannel};
use crate::clock::Clock;
use crate::config::BrokerConfig;
use crate::log::{BrokerStanding, Brokers, LogManager, Partition};
use crate::metadata::ReplicaListener;
use crate::metadata::image::{Image, PartitionImage, TopicImage};
use crate::types::{LeaderEpoch, NodeId, TopicIdPartition};

/// A leader, and which of the connections to it.
type FetcherKey = (NodeId, i32);

/// What the replicas of a broker are made of.
pub struct ReplicaOptions {
    pub node_id: NodeId,
    pub logs: Arc<LogManager>,
    pub clock: Clock,
    /// The static configuration.
    pub config: Arc<BrokerConfig>,
    /// The listener by which brokers reach one another.
    pub listener: Arc<str>,
}

/// The replicas of this broker.
pub struct ReplicaManager {
    environment: Arc<Environment>,
    runtime: tokio::runtime::Handle,
    listener: Arc<str>,
    /// What this broker sends to throttled replicas of others.
    sent: ReplicationQuota,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    fetchers: HashMap<FetcherKey, Arc<Fetcher>>,
    /// `num.replica.fetchers`.
    fetchers_per_leader: i32,
    followed: HashMap<Uuid, HashMap<i32, Place>>,
    /// Topics with partitions that have to be followed and are not: their leader is not known to listen anywhere.
    unreachable: BTreeSet<Uuid>,
}

impl State {
    /// Has this many connections to each leader. Where it was another number, everything is placed anew.
    fn spread(&mut self, fetchers_per_leader: i32) {
        if std::mem::replace(&mut self.fetchers_per_leader, fetchers_per_leader) == fetchers_per_leader {
            return;
        }
        for (topic_id, places) in self.followed.drain() {
            for (partition, place) in places {
                if let Some(fetcher) = self.fetchers.get(&place.fetcher) {
                    fetcher.remove(TopicIdPartition { topic_id, partition });
                }
            }
            self.unreachable.insert(topic_id);
        }
    }
}

/// Where a partition is fetched.
struct Place {
    leader: NodeId,
    leader_epoch: LeaderEpoch,
    fetcher: FetcherKey,
}

/// How the followers of this broker are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FollowerState {
    /// Each partition that is followed, and how many committed records it lacks; `None` before the leader has answered.
    pub lags: Vec<(Arc<str>, i32, Option<i64>)>,
    /// How many partitions wait for another leader, as something went wrong.
    pub failed: usize,
}

impl ReplicaManager {
    /// No replicas yet. Must be called within a tokio runtime.
    pub fn new(options: ReplicaOptions) -> Arc<Self> {
        let ReplicaOptions { node_id, logs, clock, config, listener } = options;
        let windows = Windows {
            count: usize::try_from(config.replication_quota_window_num).unwrap_or(1),
            length_ms: i64::from(config.replication_quota_window_size_seconds) * 1_000,
        };
        let environment = Environment {
            fetched: ReplicationQuota::new(windows),
            node_id,
            clock,
            logs,
            config,
            broker_epoch: AtomicI64::new(-1),
            metadata_version: AtomicI16::new(0),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        Arc::new(Self {
            environment: Arc::new(environment),
            runtime: tokio::runtime::Handle::current(),
            listener,
            sent: ReplicationQuota::new(windows),
            state: Mutex::default(),
        })
    }

    /// Asks the controller to change who is in sync, as followers come and go. Ends when the replicas are stopped.
    pub async fn run_isr_changes(self: Arc<Self>, channel: Arc<ControllerChannel>) {
        let stopping = self.environment.stopping.clone();
        stopping.run_until_cancelled(isr::run(Arc::clone(&self.environment), channel)).await;
    }

    /// Fetches and asks no more, and holds no log any more.
    pub async fn stop(&self) {
        self.environment.stopping.cancel();
        self.environment.tasks.close();
        self.environment.tasks.wait().await;
        *self.state.lock() = State::default();
    }

    /// Whether what this broker leads is not sent to a replica now: it is one of those that are throttled, it is not in
    /// sync, and they were sent as much as they may be.
    pub fn holds_back(&self, partition: &Partition, replica: NodeId) -> bool {
        self.is_throttled(partition)
            && self.sent.is_exceeded(self.environment.clock.steady_ms())
            && partition.leading(|leadership, _| !leadership.isr().contains(&replica)).unwrap_or_default()
    }

    /// Takes note of what was sent to a replica.
    pub fn sent(&self, partition: &Partition, bytes: u64) {
        if bytes > 0 && self.is_throttled(partition) {
            self.sent.record(bytes, self.environment.clock.steady_ms());
        }
    }

    /// Whether the leader, which this broker is, sends no more than it may of a partition.
    fn is_throttled(&self, partition: &Partition) -> bool {
        let node_id = self.environment.node_id;
        let named =
            || names(&partition.config().leader_replication_throttled_replicas, partition.index(), node_id);
        self.sent.is_limited() && named()
    }

    /// How the followers are.
    pub fn followers(&self) -> FollowerState {
        let mut found = FollowerState::default();
        let fetchers: Vec<_> = self.state.lock().fetchers.values().cloned().collect();
        for fetcher in fetchers {
            fetcher.visit(|log, lag, is_failed| {
                found.lags.push((Arc::clone(log.topic()), log.index(), lag));
                found.failed += usize::from(is_failed);
            });
        }
        found
    }

    fn take_brokers(&self, image: &Image) {
        let standing = |broker: &crate::metadata::image::BrokerImage| BrokerStanding {
            epoch: broker.epoch,
            is_fenced: broker.fenced,
            is_shutting_down: broker.in_controlled_shutdown,
        };
        let brokers = image.brokers.values().map(|broker| (broker.id, standing(broker))).collect();
        self.environment.logs.set_brokers(Brokers(brokers));
        let own = image.brokers.get(&self.environment.node_id);
        self.environment.broker_epoch.store(own.map_or(-1, |broker| broker.epoch), Ordering::Relaxed);
        let level = image.metadata_version().unwrap_or_default();
        self.environment.metadata_version.store(level, Ordering::Relaxed);
    }

    fn address(&self, image: &Image, broker: NodeId) -> Option<Address> {
        let endpoint = image.brokers.get(&broker)?.endpoint(&self.listener)?;
        Some(Address { host: Arc::clone(&endpoint.host), port: endpoint.port })
    }

    /// Whether this node has to follow a partition.
    fn follows(&self, partition: &PartitionImage) -> bool {
        let node_id = self.environment.node_id;
        partition.replicas.contains(&node_id) && partition.leader >= 0 && partition.leader != node_id
    }

    fn fetcher_key(count: i32, topic: &TopicImage, number: i32, leader: NodeId) -> FetcherKey {
        let count = i64::from(count.max(1));
        let (high, low) = topic.id.as_u64_pair();
        let spread = (high ^ low).wrapping_add(number.unsigned_abs().into()) >> 1;
        let index = i64::try_from(spread).unwrap_or(0) % count;
        (leader, i32::try_from(index).unwrap_or(0))
    }

    fn follow(&self, state: &mut State, image: &Image, topic: &TopicImage) {
        let mut is_unreachable = false;
        for (number, partition) in topic.partitions().filter(|(_, partition)| self.follows(partition)) {
            if state.followed.get(&topic.id).is_some_and(|places| places.contains_key(&number)) {
                continue;
            }
            let Some(address) = self.address(image, partition.leader) else {
                is_unreachable = true;
                continue;
            };
            let Some(log) = self.environment.logs.get(topic.id, number) else { continue };
            let key = Self::fetcher_key(state.fetchers_per_leader, topic, number, partition.leader);
            let fetcher = state.fetchers.entry(key).or_insert_with(|| {
                let _entered = self.runtime.enter();
                Fetcher::start(&self.environment, partition.leader, address)
            });
            let leader_epoch = partition.leader_epoch;
            fetcher.add(TopicIdPartition { topic_id: topic.id, partition: number }, log, leader_epoch);
            let place = Place { leader: partition.leader, leader_epoch, fetcher: key };
            state.followed.entry(topic.id).or_default().insert(number, place);
        }
        if is_unreachable {
            state.unreachable.insert(topic.id);
        }
    }
}

impl ReplicaListener for ReplicaManager {
    /// Stops to fetch what has another leader, another leader epoch, or no replica here any more.
    fn roles_change(&self, image: &Image, topics: &BTreeSet<Uuid>, config: &BrokerConfig) {
        self.take_brokers(image);
        self.sent.set_rate(config.leader_replication_throttled_rate());
        self.environment.fetched.set_rate(config.follower_replication_throttled_rate());
        let mut state = self.state.lock();
        state.spread(config.num_replica_fetchers);
        let State { fetchers, followed, .. } = &mut *state;
        for topic_id in topics {
            let Some(places) = followed.get_mut(topic_id) else { continue };
            let topic = image.topics.by_id(*topic_id);
            places.retain(|number, place| {
                let partition = topic.and_then(|topic| topic.partition(*number));
                let stays = partition.is_some_and(|partition| {
                    self.follows(partition)
                        && (partition.leader, partition.leader_epoch) == (place.leader, place.leader_epoch)
                });
                if !stays && let Some(fetcher) = fetchers.get(&place.fetcher) {
                    fetcher.remove(TopicIdPartition { topic_id: *topic_id, partition: *number });
                }
                stays
            });
            if places.is_empty() {
                followed.remove(topic_id);
            }
        }
    }

    /// Fetches what has a leader elsewhere.
    fn roles_changed(&self, image: &Image, topics: &BTreeSet<Uuid>) {
        let mut state = self.state.lock();
        for (leader, fetcher) in state.fetchers.iter().map(|((leader, _), fetcher)| (*leader, fetcher)) {
            if let Some(address) = self.address(image, leader) {
                fetcher.set_address(address);
            }
        }
        let again = std::mem::take(&mut state.unreachable);
        for topic in topics.union(&again).filter_map(|id| image.topics.by_id(*id)) {
            self.follow(&mut state, image, topic);
        }
        state.fetchers.retain(|_, fetcher| {
            let is_empty = fetcher.is_empty();
            if is_empty {
                fetcher.stop();
            }
            !is_empty
        });
    }
}
