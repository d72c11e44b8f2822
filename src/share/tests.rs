//! Share partitions with their logs, on virtual time, with a persister in memory that fails when it is told to.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::fetch::{ShareFetch, ShareFetched, ShareTarget};
use super::manager::{ShareOptions, SharePartitionManager};
use super::partition::{Acknowledgement, AcquireMode};
use super::sessions::{INITIAL_EPOCH, ShareMember};
use super::types::{PartitionState, SharePartition, StateBatch};
use super::{OffsetReset, ShareGroupConfigs, ShareGroupSettings, StateKeeper};
use crate::clock::Clock;
use crate::config::TopicConfig;
use crate::error::{ApiError, ErrorCode};
use crate::log::batch::BatchBuilder;
use crate::log::{Leading, LogManager, LogSettings, Ops, Origin, Partition};
use crate::storage::{Store, StoreOptions};
use crate::types::{LeaderEpoch, Offset};

const TOPIC: Uuid = Uuid::from_u128(7);
/// A fetch that waits does so by then, as nothing else takes time here.
const SETTLED: Duration = Duration::from_millis(20);

/// A write: where the group starts, how many records are done with, and what became of records.
type Written = (Offset, i32, Vec<(Offset, Offset, i8)>);

/// Keeps the writes, and answers what it is told to.
struct Memory {
    state: Mutex<Result<PartitionState, ApiError>>,
    writes: Mutex<Vec<Written>>,
    failure: Mutex<Option<ErrorCode>>,
    /// One permit for each write that may be answered.
    permits: Semaphore,
    /// The same for reads.
    reads: Semaphore,
}

impl StateKeeper for Memory {
    fn read(&self, _: SharePartition, _: LeaderEpoch) -> BoxFuture<'_, Result<PartitionState, ApiError>> {
        Box::pin(async {
            self.reads.acquire().await.unwrap().forget();
            self.state.lock().clone()
        })
    }

    fn write(
        &self,
        _: SharePartition,
        _: (i32, LeaderEpoch),
        start_offset: Offset,
        delivery_complete_count: i32,
        batches: Vec<StateBatch>,
    ) -> BoxFuture<'_, Result<(), ApiError>> {
        let shown = batches.iter().map(|it| (it.first_offset, it.last_offset, it.delivery_state)).collect();
        self.writes.lock().push((start_offset, delivery_complete_count, shown));
        Box::pin(async {
            self.permits.acquire().await.unwrap().forget();
            self.failure.lock().map_or(Ok(()), |code| Err(code.into()))
        })
    }
}

struct Configs(Mutex<ShareGroupSettings>);

impl ShareGroupConfigs for Configs {
    fn of(&self, _: &str) -> ShareGroupSettings {
        *self.0.lock()
    }
}

struct World {
    clock: Clock,
    keeper: Arc<Memory>,
    configs: Arc<Configs>,
    shares: Arc<SharePartitionManager>,
    log: Arc<Partition>,
    _logs: Arc<LogManager>,
    _directory: tempfile::TempDir,
}

impl World {
    fn new(start_offset: Offset) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), &StoreOptions { node_id: 1, cluster_id: None }).unwrap();
        let clock = Clock::virtual_at(1_000);
        let logs = LogManager::open(store, clock.clone(), LogSettings::default()).unwrap();
        let log = logs.create("t", TOPIC, 0, Arc::new(TopicConfig::default())).unwrap();
        let state = PartitionState { state_epoch: 1, start_offset, batches: Vec::new() };
        let keeper = Arc::new(Memory {
            state: Mutex::new(Ok(state)),
            writes: Mutex::default(),
            failure: Mutex::default(),
            permits: Semaphore::new(100),
            reads: Semaphore::new(100),
        });
        let configs = Arc::new(Configs(Mutex::default()));
        let shares = SharePartitionManager::new(ShareOptions {
            keeper: Arc::clone(&keeper) as Arc<dyn StateKeeper>,
            configs: Arc::clone(&configs) as Arc<dyn ShareGroupConfigs>,
            clock: clock.clone(),
            sessions_max: 10,
            stopping: CancellationToken::new(),
        });
        Self { clock, keeper, configs, shares, log, _logs: logs, _directory: directory }
    }

    async fn append(&self, records: usize) {
        let mut batch = BatchBuilder::new();
        for _ in 0..records {
            batch = batch.record(self.clock.now_ms(), None, Some(b"value"));
        }
        let append = self.log.append(batch.build(), Origin::Client, Ops::default());
        append.unwrap().committed().await.unwrap();
    }

    async fn fetch(&self, member: &str, wait_ms_max: i64) -> Vec<ShareFetched> {
        let fetch = ShareFetch {
            member: member_of(member),
            mode: AcquireMode::BatchOptimized,
            batch_size: 500,
            records_max: 500,
            bytes_max: 1 << 20,
            bytes_min: 1,
            wait_ms_max,
            targets: vec![ShareTarget { id: (TOPIC, 0), log: Ok(Arc::clone(&self.log)) }],
        };
        self.shares.fetch(fetch).await
    }

    /// The records that a member gets, with how often they were delivered.
    async fn get(&self, member: &str) -> Vec<(Offset, Offset, i16)> {
        let fetched = self.fetch(member, 60_000).await;
        let ranges = fetched.iter().flat_map(|one| &one.acquired);
        ranges.map(|range| (range.first, range.last, range.delivery_count)).collect()
    }

    async fn acknowledge(
        &self,
        member: &str,
        first: Offset,
        last: Offset,
        kind: i8,
    ) -> Result<(), ErrorCode> {
        let acknowledgement = Acknowledgement { first, last, types: vec![kind] };
        let pending = self.shares.acknowledge(&member_of(member), (TOPIC, 0), &[acknowledgement]);
        match pending {
            Ok(pending) => pending.written().await.map_err(|error| error.code),
            Err(error) => Err(error.code),
        }
    }
}

fn member_of(name: &str) -> ShareMember {
    ShareMember { group_id: "g".into(), member_id: name.into() }
}

#[tokio::test]
async fn what_is_acknowledged_is_written_first_and_taken_back_where_it_can_not_be() {
    let world = World::new(0);
    world.append(3).await;
    assert_eq!(world.get("a").await, [(0, 2, 1)]);
    *world.keeper.failure.lock() = Some(ErrorCode::CoordinatorNotAvailable);
    assert_eq!(world.acknowledge("a", 0, 2, 1).await, Err(ErrorCode::CoordinatorNotAvailable));
    *world.keeper.failure.lock() = None;
    assert_eq!(world.acknowledge("a", 0, 1, 1).await, Ok(()));
    let writes: Vec<_> = vec![(0, 3, vec![(0, 2, 2)]), (0, 2, vec![(0, 1, 2)])];
    assert_eq!(*world.keeper.writes.lock(), writes);
    assert_eq!(world.acknowledge("b", 2, 2, 1).await, Err(ErrorCode::InvalidRecordState));
}

#[tokio::test]
async fn acknowledgements_that_come_together_are_written_together() {
    let world = World::new(0);
    world.append(4).await;
    assert_eq!(world.get("a").await, [(0, 3, 1)]);
    world.keeper.permits.forget_permits(100);
    let all = async {
        tokio::join!(
            world.acknowledge("a", 0, 0, 1),
            world.acknowledge("a", 1, 1, 2),
            world.acknowledge("a", 2, 2, 3),
        )
    };
    let (outcomes, ()) = tokio::join!(all, async {
        tokio::time::sleep(SETTLED).await;
        world.keeper.permits.add_permits(100);
    });
    assert_eq!(outcomes, (Ok(()), Ok(()), Ok(())));
    let batches: Vec<usize> = world.keeper.writes.lock().iter().map(|(.., batches)| batches.len()).collect();
    assert_eq!(batches.iter().sum::<usize>(), 3);
    assert!(batches.len() <= 2, "{batches:?}");
}

#[tokio::test]
async fn who_waits_gets_what_comes_what_is_given_back_and_what_timed_out() {
    let world = World::new(0);
    let (got, ()) = tokio::join!(world.get("a"), async {
        tokio::time::sleep(SETTLED).await;
        world.append(2).await;
    });
    assert_eq!(got, [(0, 1, 1)]);
    let (got, outcome) = tokio::join!(world.get("b"), async {
        tokio::time::sleep(SETTLED).await;
        world.acknowledge("a", 0, 1, 2).await
    });
    assert_eq!((got, outcome), (vec![(0, 1, 2)], Ok(())));
    let (got, ()) = tokio::join!(world.get("c"), async {
        tokio::time::sleep(SETTLED).await;
        world.clock.advance(30_000);
    });
    assert_eq!(got, [(0, 1, 3)]);
    // A member that leaves.
    let sessions = world.shares.sessions();
    sessions.begin(&member_of("c"), INITIAL_EPOCH, &[(TOPIC, 0)], &[], false).unwrap();
    let (got, outcome) = tokio::join!(world.get("d"), async {
        tokio::time::sleep(SETTLED).await;
        world.shares.release_session(&member_of("c"))
    });
    assert_eq!(outcome, Ok(()));
    // Delivered often: half as many at a time.
    assert_eq!(got, [(0, 0, 4)]);
    let (fetched, ()) = tokio::join!(world.fetch("e", 5), async {
        tokio::time::sleep(SETTLED).await;
        world.clock.advance(5);
    });
    assert_eq!(fetched.iter().flat_map(|one| &one.acquired).count(), 1);
}

#[tokio::test]
async fn a_fetch_that_waits_ends_when_its_time_is_over() {
    let world = World::new(0);
    let (fetched, ()) = tokio::join!(world.fetch("a", 500), async {
        tokio::time::sleep(SETTLED).await;
        world.clock.advance(500);
    });
    assert!(fetched.iter().all(|one| one.error.is_none() && one.records.is_empty()));
    assert!(world.fetch("a", 0).await.iter().all(|one| one.records.is_empty()));
}

#[tokio::test]
async fn a_group_starts_where_its_configuration_says() {
    for (reset, first) in
        [(OffsetReset::Earliest, 0), (OffsetReset::Latest, 4), (OffsetReset::ByDuration(50), 2)]
    {
        let world = World::new(-1);
        world.append(2).await;
        world.clock.advance(100);
        world.append(2).await;
        world.configs.0.lock().reset = reset;
        let (got, ()) = tokio::join!(world.get("a"), async {
            tokio::time::sleep(SETTLED).await;
            world.append(1).await;
        });
        let offsets: Vec<_> = got.iter().map(|(first, ..)| *first).collect();
        assert_eq!(offsets.first(), Some(&first), "{reset:?}");
    }
}

#[tokio::test]
async fn a_share_partition_that_can_not_be_loaded_or_written_is_loaded_anew() {
    let world = World::new(0);
    world.append(1).await;
    let state = world.keeper.state.lock().clone();
    *world.keeper.state.lock() = Err(ErrorCode::FencedLeaderEpoch.into());
    let fetched = world.fetch("a", 60_000).await;
    let codes: Vec<_> = fetched.iter().map(|one| one.error.as_ref().map(|error| error.code)).collect();
    assert_eq!(codes, [Some(ErrorCode::NotLeaderOrFollower)]);
    *world.keeper.state.lock() = state;
    assert_eq!(world.get("a").await, [(0, 0, 1)]);
    *world.keeper.failure.lock() = Some(ErrorCode::FencedStateEpoch);
    assert_eq!(world.acknowledge("a", 0, 0, 1).await, Err(ErrorCode::NotLeaderOrFollower));
    *world.keeper.failure.lock() = None;
    assert_eq!(world.get("b").await, [(0, 0, 1)]);
    world.shares.clear();
    assert_eq!(world.acknowledge("b", 0, 0, 1).await, Err(ErrorCode::UnknownTopicOrPartition));
}

#[tokio::test]
async fn who_waited_for_the_load_gets_what_is_given_back() {
    let world = World::new(0);
    world.append(2).await;
    world.keeper.reads.forget_permits(100);
    // All three wait for the load. One of them gets everything, and the others what is given back.
    let others = async { tokio::join!(world.get("b"), world.get("c")) };
    let (got, (b, c), ()) = tokio::join!(world.get("a"), others, async {
        tokio::time::sleep(SETTLED).await;
        world.keeper.reads.add_permits(100);
        for _ in 0..3 {
            tokio::time::sleep(SETTLED).await;
            for member in ["a", "b", "c"] {
                // Only one of them holds the records.
                let _ = world.acknowledge(member, 0, 1, 2).await;
            }
        }
    });
    let mut counts: Vec<_> = [got, b, c].concat().iter().map(|(.., count)| *count).collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 2, 3]);
}

#[tokio::test]
async fn a_broker_that_leads_again_loads_anew() {
    let world = World::new(0);
    world.append(3).await;
    assert_eq!(world.get("a").await, [(0, 2, 1)]);
    // Another one led, and its members acknowledged two records.
    let lead = |leader_epoch| Leading {
        node_id: 1,
        leader_epoch,
        partition_epoch: leader_epoch,
        replicas: vec![1],
        isr: vec![1],
        adding: Vec::new(),
    };
    assert!(world.log.lead(lead(world.log.leader_epoch() + 2)));
    world.keeper.state.lock().as_mut().unwrap().start_offset = 2;
    assert_eq!(world.acknowledge("a", 0, 2, 1).await, Err(ErrorCode::NotLeaderOrFollower));
    assert_eq!(world.get("b").await, [(2, 2, 1)]);
}

#[tokio::test]
async fn a_lock_that_is_renewed_ends_earlier_where_locks_are_shorter_now() {
    let world = World::new(0);
    world.append(2).await;
    assert_eq!(world.get("a").await, [(0, 1, 1)]);
    world.configs.0.lock().limits.lock_duration_ms = 10_000;
    assert_eq!(world.acknowledge("a", 0, 1, 4).await, Ok(()));
    let (fetched, ()) = tokio::join!(world.fetch("b", 15_000), async {
        tokio::time::sleep(SETTLED).await;
        world.clock.advance(10_000);
        // Who does not get the records by now waits in vain.
        tokio::time::sleep(SETTLED).await;
        world.clock.advance(5_000);
    });
    let got: Vec<_> = fetched.iter().flat_map(|one| &one.acquired).map(|it| (it.first, it.last)).collect();
    assert_eq!(got, [(0, 1)]);
}

#[tokio::test]
async fn a_fetch_that_waits_keeps_its_share_partition_though_nobody_has_a_session() {
    let world = World::new(0);
    let (fetched, ()) = tokio::join!(world.fetch("a", 60_000), async {
        tokio::time::sleep(SETTLED).await;
        world.shares.forget_others();
        world.append(2).await;
    });
    let outcome: Vec<_> = fetched.iter().map(|one| (one.error.clone(), one.acquired.len())).collect();
    assert_eq!(outcome, [(None, 1)]);
    assert_eq!(world.shares.partitions_of(TOPIC), 1);
    assert_eq!(world.acknowledge("a", 0, 1, 1).await, Ok(()));
}
