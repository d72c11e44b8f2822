//! The state of share partitions over three brokers: what was acknowledged is there, whoever is killed.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::cluster_tests::{Cluster, TOPIC, eventually};
use crate::api::BrokerHandles;
use crate::error::ErrorCode;
use crate::share::types::{SharePartition, StateBatch};
use crate::types::{NodeId, SHARE_GROUP_STATE_TOPIC};

/// How many groups read the only partition of the topic.
const GROUPS: usize = 8;

fn share_partition(topic_id: Uuid, group: usize) -> SharePartition {
    SharePartition { group_id: format!("group-{group}").into(), topic_id, partition: 0 }
}

/// What was acknowledged of each group: the start offset that it was moved to.
type Acked = Arc<Mutex<BTreeMap<usize, i64>>>;

fn handles(cluster: &Cluster, id: NodeId) -> Arc<BrokerHandles> {
    Arc::clone(&cluster.nodes[&id].broker.handles)
}

/// Moves the start of some groups on and on, as the leader of their partition does, until it is told to end.
fn write(
    cluster: &Cluster,
    id: NodeId,
    groups: Vec<usize>,
    acked: &Acked,
    ends: &Arc<AtomicBool>,
) -> JoinHandle<()> {
    let (handles, acked, ends) = (handles(cluster, id), Arc::clone(acked), Arc::clone(ends));
    let topic_id = cluster.image().topics.get(TOPIC).unwrap().id;
    cluster.nodes[&id].runtime.spawn(async move {
        while !ends.load(Ordering::Relaxed) {
            for group in &groups {
                let next = acked.lock().get(group).copied().unwrap_or(0) + 1;
                let batch = StateBatch {
                    first_offset: next + 2,
                    last_offset: next + 3,
                    delivery_state: 2,
                    delivery_count: 1,
                };
                let of = share_partition(topic_id, *group);
                let written = handles.persister.write(of, 1, 0, next, 0, vec![batch]).await;
                if written.is_ok() {
                    acked.lock().insert(*group, next);
                }
            }
        }
    })
}

async fn progress(acked: &Acked, by: i64) {
    let goals: BTreeMap<usize, i64> = acked.lock().iter().map(|(group, at)| (*group, at + by)).collect();
    eventually("every group gets on", || {
        let acked = acked.lock();
        goals.iter().all(|(group, goal)| acked[group] >= *goal)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_of_share_partitions_survives_the_brokers_that_coordinate_it() {
    let mut cluster = Cluster::three(&[
        ("share.coordinator.state.topic.num.partitions", "6"),
        ("share.coordinator.snapshot.update.records.per.snapshot", "7"),
        ("share.coordinator.cold.partition.snapshot.interval.ms", "400"),
        ("share.coordinator.state.topic.prune.interval.ms", "300"),
    ])
    .await;
    cluster.create(&[1, 2, 3], &[]).await;
    let topic_id = cluster.image().topics.get(TOPIC).unwrap().id;
    let first = handles(&cluster, 1);
    eventually("the first broker knows the topic", || {
        first.metadata.image().topics.by_id(topic_id).is_some()
    })
    .await;
    let initialized = cluster.nodes[&1].runtime.spawn(async move {
        for group in 0..GROUPS {
            first.persister.initialize(share_partition(topic_id, group), 1, 0).await.unwrap();
        }
    });
    initialized.await.unwrap();
    let state = cluster.image().topics.get(SHARE_GROUP_STATE_TOPIC).unwrap().clone();
    assert_eq!((state.partition_count(), state.partition(0).unwrap().replicas.len()), (6, 3));

    let acked: Acked = Arc::new(Mutex::new((0..GROUPS).map(|group| (group, 0)).collect()));
    let ends = Arc::new(AtomicBool::new(false));
    // Two of the brokers lead partitions; each coordinates a part of the groups.
    let writers = [
        write(&cluster, 1, (0..GROUPS).step_by(2).collect(), &acked, &ends),
        write(&cluster, 3, (1..GROUPS).step_by(2).collect(), &acked, &ends),
    ];
    progress(&acked, 20).await;
    cluster.kill(2);
    progress(&acked, 20).await;
    cluster.start(2).await;
    progress(&acked, 20).await;
    ends.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let (asking, want) = (handles(&cluster, 2), acked.lock().clone());
    let state_id = state.id;
    eventually("logs of state were pruned", || {
        let logs = (0..6).filter_map(|partition| asking.logs.get(state_id, partition));
        logs.filter(|log| log.offsets().log_start > 0).count() > 0
    })
    .await;
    let checked = cluster.nodes[&2].runtime.spawn(async move {
        for (group, start) in want {
            let of = share_partition(topic_id, group);
            let summary = asking.persister.read_summary(of.clone(), -1).await.unwrap();
            // What was not acknowledged may be there.
            assert!(
                (start..=start + 1).contains(&summary.start_offset),
                "group {group}: {start}, {summary:?}"
            );
            let state = asking.persister.read(of.clone(), 5).await.unwrap();
            assert_eq!((state.start_offset, state.state_epoch), (summary.start_offset, 1));
            let fenced = asking.persister.read(of, 4).await.unwrap_err();
            assert_eq!(fenced.code, ErrorCode::FencedLeaderEpoch);
        }
    });
    checked.await.unwrap();
    cluster.stop_all().await;
}
