//! Which partitions of a coordinator's topic this broker leads, and the shard of each.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use parking_lot::Mutex;
use uuid::Uuid;

use super::{Core, Shard};
use crate::error::ErrorCode;
use crate::log::Partition;
use crate::types::{LeaderEpoch, coordinator_partition};

/// A coordinator's topic, as the metadata has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinatorTopic {
    pub id: Uuid,
    pub partition_count: i32,
    /// The partitions that this broker leads, each with its leader epoch.
    pub led: Vec<(i32, LeaderEpoch)>,
}

/// Starts the shard of a partition that is led in this epoch.
type Start<C> = Box<dyn Fn(&Arc<Partition>, LeaderEpoch) -> Shard<C> + Send + Sync>;

/// What this broker coordinates: one shard per partition that it leads. A shard without anything in its log is not
/// started before somebody asks for it.
pub struct Led<C: Core> {
    start: Start<C>,
    /// Over how many partitions ids are spread while there is no topic.
    partitions_to_be: i32,
    state: Mutex<State<C>>,
}

struct State<C: Core> {
    topic_id: Uuid,
    /// Over how many partitions ids are spread: as many as there were when the topic was first seen. Partitions that
    /// are added later count from the next start, as in Kafka: no one may lose what is known of it meanwhile.
    count: i32,
    partitions: BTreeMap<i32, LedPartition<C>>,
    stopped: bool,
}

struct LedPartition<C: Core> {
    partition: Arc<Partition>,
    leader_epoch: LeaderEpoch,
    shard: Option<Shard<C>>,
}

impl<C: Core> LedPartition<C> {
    fn shard(&mut self, start: &Start<C>) -> Shard<C> {
        if let Some(shard) = self.shard.as_ref().filter(|shard| !shard.is_closed()) {
            return shard.clone();
        }
        let shard = start(&self.partition, self.leader_epoch);
        self.shard = Some(shard.clone());
        shard
    }
}

impl<C: Core> State<C> {
    fn resign(&mut self) {
        std::mem::take(&mut self.partitions).into_values().for_each(LedPartition::stop);
    }
}

impl<C: Core> LedPartition<C> {
    fn stop(self) {
        if let Some(shard) = self.shard {
            shard.stop();
        }
    }
}

impl<C: Core> Led<C> {
    /// Nothing yet. `partitions_to_be` is how many partitions the topic gets when it is created.
    pub fn new(
        partitions_to_be: i32,
        start: impl Fn(&Arc<Partition>, LeaderEpoch) -> Shard<C> + Send + Sync + 'static,
    ) -> Self {
        let partitions = BTreeMap::new();
        let state = State { topic_id: Uuid::nil(), count: 0, partitions, stopped: false };
        Self { start: Box::new(start), partitions_to_be, state: Mutex::new(state) }
    }

    /// Leads these partitions, and no others, from now on. A shard goes on as long as the leader epoch of its partition
    /// is the same; where it is another one, or led by another broker, whoever is held is sent elsewhere.
    /// `open` finds the partitions' logs.
    pub fn lead(&self, topic: &CoordinatorTopic, open: impl Fn(i32) -> Option<Arc<Partition>>) {
        let mut state = self.state.lock();
        if state.topic_id != topic.id {
            state.resign();
            state.count = 0;
        }
        state.topic_id = topic.id;
        if state.count == 0 {
            state.count = topic.partition_count;
        }
        let mut before = std::mem::take(&mut state.partitions);
        for (index, leader_epoch) in topic.led.iter().copied() {
            match before.remove(&index) {
                Some(led) if led.leader_epoch == leader_epoch && !led.partition.is_deleted() => {
                    state.partitions.insert(index, led);
                    continue;
                }
                // Those whom it holds keep it alive, and would wait for others who do not come to it.
                Some(led) => led.stop(),
                None => {}
            }
            let Some(partition) = open(index).filter(|_| !state.stopped) else { continue };
            let is_used = partition.offsets().log_end > 0;
            let mut led = LedPartition { partition, leader_epoch, shard: None };
            if is_used {
                led.shard(&self.start);
            }
            state.partitions.insert(index, led);
        }
        before.into_values().for_each(LedPartition::stop);
    }

    /// Gives up everything, because the topic is gone.
    pub fn resign(&self) {
        let mut state = self.state.lock();
        state.resign();
        state.count = 0;
    }

    /// Gives up everything for good: the broker stops. Whoever is held is told to look for another coordinator.
    pub fn stop(&self) {
        let mut state = self.state.lock();
        state.resign();
        state.stopped = true;
    }

    /// How many partitions are led.
    pub fn partition_count(&self) -> usize {
        self.state.lock().partitions.len()
    }

    /// The partition of the topic whose leader coordinates this id.
    pub fn partition_for(&self, id: &str) -> i32 {
        let count = match self.state.lock().count {
            count @ 1.. => count,
            _ => self.partitions_to_be,
        };
        coordinator_partition(id, count)
    }

    /// The shard of a partition.
    ///
    /// # Errors
    /// `NOT_COORDINATOR` where this broker does not lead it.
    pub fn shard(&self, index: i32) -> Result<Shard<C>, ErrorCode> {
        let mut state = self.state.lock();
        let led = state.partitions.get_mut(&index).ok_or(ErrorCode::NotCoordinator)?;
        Ok(led.shard(&self.start))
    }

    /// Every shard that was started.
    pub fn shards(&self) -> Vec<Shard<C>> {
        self.state.lock().partitions.values().filter_map(|led| led.shard.clone()).collect()
    }

    /// Has the shard of a partition carry out a command.
    ///
    /// # Errors
    /// `NOT_COORDINATOR` where this broker does not lead it, and those of [`Shard::call`].
    pub async fn call(&self, index: i32, command: C::Command) -> Result<C::Reply, ErrorCode> {
        let shard = self.shard(index)?;
        shard.call(command).await
    }

    /// Asks every shard that was started.
    pub async fn call_all(&self, command: impl Fn() -> C::Command) -> Vec<Result<C::Reply, ErrorCode>> {
        let shards = self.shards();
        join_all(shards.iter().map(|shard| shard.call(command()))).await
    }
}
