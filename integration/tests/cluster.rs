//! Three nodes as real processes: whatever one of them suffers, what was acknowledged stays, and work goes on.
//!
//! `KLAMM_TEST_CLUSTER=kafka` runs the same against three nodes of Apache Kafka, by which the tests are checked.

use std::io::{self, Write as _};
use std::time::Duration;

use integration::cluster::work::{Load, Progress, under_load};
use integration::cluster::{Cluster, Kind, Layout, Voters};
use integration::load::Shape;

const TOPIC: &str = "orders";

/// Says a line past the test runner, which swallows what a passing test prints.
fn say(line: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(io::stderr(), "{line}");
}

fn load() -> Load {
    let shape = Shape { topic: TOPIC.into(), partitions: 3, batch_records: 5, value_bytes: 100 };
    Load { shape, writers: 1, pace: Duration::from_millis(2) }
}

fn leader_of(cluster: &mut Cluster, partition: i32) -> i32 {
    cluster.until("a leader", |cluster| {
        let partitions = cluster.routes().partitions(TOPIC)?;
        partitions.iter().find(|one| one.index == partition).map(|one| one.leader).filter(|id| *id >= 0)
    })
}

/// Kills the node, waits until work goes on without it, and starts it again.
fn lose(cluster: &mut Cluster, progress: &Progress<'_>, id: i32) -> Duration {
    cluster.kill9(id);
    let stalled = progress.more(cluster, 5);
    cluster.launch(id);
    cluster.await_in_sync(TOPIC);
    progress.more(cluster, 5);
    stalled
}

#[test]
fn three_nodes_survive_the_loss_of_any_one() {
    let mut cluster = Cluster::start(Layout::three(Kind::under_test(), Voters::Fixed).quick());
    cluster.routes().create_topic(TOPIC, 3, 3, &[]);
    let summary = under_load(&mut cluster, &load(), |cluster, progress| {
        progress.more(cluster, 10);
        let leader = leader_of(cluster, 0);
        let killed = lose(cluster, progress, leader);
        let controller = cluster.controller();
        let headless = lose(cluster, progress, controller);
        let leader = leader_of(cluster, 1);
        cluster.freeze(leader);
        let frozen = progress.more(cluster, 5);
        cluster.thaw(leader);
        cluster.await_in_sync(TOPIC);
        for id in 1..=3 {
            cluster.terminate(id);
            progress.more(cluster, 5);
            cluster.launch(id);
            cluster.await_brokers();
            cluster.await_in_sync(TOPIC);
        }
        let follower = leader_of(cluster, 2) % 3 + 1;
        cluster.kill9(follower);
        cluster.wipe(follower);
        progress.more(cluster, 5);
        cluster.launch(follower);
        cluster.await_in_sync(TOPIC);
        progress.more(cluster, 5);
        say(&format!(
            "a leader killed: {killed:.1?} without it; the controller killed: {headless:.1?}; a leader frozen: {frozen:.1?}"
        ));
    });
    say(&format!("every node was lost: {summary:?}"));
    assert!(summary.records > 0 && summary.commits > 0);
}
