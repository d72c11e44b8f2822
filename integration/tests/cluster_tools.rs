//! What Kafka's tools see of three nodes, and change: the quorum and its voters, replicas, leaders, features.
//!
//! `KLAMM_TEST_CLUSTER=kafka` runs the same against three nodes of Apache Kafka, by which the tests are checked.

use std::fs;

use integration::Output;
use integration::cluster::{Cluster, Kind, Layout, Voters};

const TOPIC: &str = "seen";

/// Runs a tool until what it says is as it should be.
fn awaited(cluster: &mut Cluster, line: &str, holds: impl Fn(&Output) -> bool) -> Output {
    cluster.until(&format!("the outcome of {line}"), |cluster| {
        Some(cluster.tools().run(line)).filter(|output| output.code == 0 && holds(output))
    })
}

fn lines_with(output: &Output, word: &str) -> usize {
    output.stdout.lines().filter(|line| line.contains(word)).count()
}

fn start() -> Cluster {
    let mut cluster = Cluster::start(Layout::three(Kind::under_test(), Voters::Initial).quick());
    cluster.routes().create_topic(TOPIC, 3, 3, &[]);
    cluster.await_in_sync(TOPIC);
    cluster
}

fn the_quorum_is_described(cluster: &mut Cluster) {
    let leader = cluster.controller();
    let status = cluster.tools().run("kafka-metadata-quorum describe --status").success();
    for name in ["ClusterId:", "LeaderEpoch:", "HighWatermark:", "MaxFollowerLag:", "MaxFollowerLagTimeMs:"] {
        status.contains(name);
    }
    status.has(&format!("LeaderId: {leader}")).has("CurrentObservers: []");
    for id in 1..=3 {
        status.contains(&format!("\"id\": {id}"));
        let node = cluster.node(id);
        status.contains(node.directory_id()).contains(&node.controller_address());
    }
    let replication = cluster.tools().run("kafka-metadata-quorum describe --replication").success();
    assert_eq!((lines_with(&replication, "Leader"), lines_with(&replication, "Follower")), (1, 2));
}

fn replicas_that_are_missing_are_seen(cluster: &mut Cluster) {
    let under_replicated = format!("kafka-topics --describe --under-replicated-partitions --topic {TOPIC}");
    awaited(cluster, &under_replicated, |output| lines_with(output, "Partition:") == 0);
    let lost = cluster.controller() % 3 + 1;
    cluster.kill9(lost);
    awaited(cluster, &under_replicated, |output| lines_with(output, "Partition:") == 3);
    let min_isr = format!("kafka-topics --describe --at-min-isr-partitions --topic {TOPIC}");
    awaited(cluster, &min_isr, |output| lines_with(output, "Partition:") == 3);
    cluster.launch(lost);
    awaited(cluster, &under_replicated, |output| lines_with(output, "Partition:") == 0);
    // The one that came back leads nothing, until its partitions are given back to it.
    let led = format!("Leader: {lost}");
    let describe = format!("kafka-topics --describe --topic {TOPIC}");
    awaited(cluster, &describe, |output| lines_with(output, &led) == 0);
    let election = "kafka-leader-election --election-type preferred --all-topic-partitions";
    let elected = cluster.tools().run(election).success();
    elected.contains("Successfully completed leader election (PREFERRED)").contains(TOPIC);
    awaited(cluster, &describe, |output| lines_with(output, &led) == 1);
    cluster.tools().run(election).success().lacks("Successfully");
}

fn partitions_are_reassigned(cluster: &mut Cluster) {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let file = scratch.path().join("plan.json");
    let path = file.display().to_string();
    let plan = |replicas: &str| {
        let partition = format!("{{\"topic\":\"{TOPIC}\",\"partition\":0,\"replicas\":{replicas}}}");
        fs::write(&file, format!("{{\"version\":1,\"partitions\":[{partition}]}}")).expect("a file");
    };
    let describe = format!("kafka-topics --describe --topic {TOPIC}");
    for replicas in ["[1]", "[3,1,2]"] {
        plan(replicas);
        let execute = format!(
            "kafka-reassign-partitions --reassignment-json-file {path} --throttle 10000000 --execute"
        );
        let executed = cluster.tools().run(&execute).success();
        executed
            .contains("Successfully started partition reassignment")
            .contains("throttle limit was set to 10000000 B/s");
        let verify = format!("kafka-reassign-partitions --reassignment-json-file {path} --verify");
        let verified = awaited(cluster, &verify, |output| output.stdout.contains("is completed"));
        verified.contains("Clearing broker-level throttles on brokers 1,2,3");
        let expected = format!("Replicas: {}\t", replicas.trim_matches(['[', ']']));
        awaited(cluster, &describe, |output| {
            output.stdout.lines().any(|line| line.contains("Partition: 0") && line.contains(&expected))
        });
    }
    cluster
        .tools()
        .run("kafka-reassign-partitions --list")
        .success()
        .contains("No partition reassignments found.");
    cluster.await_in_sync(TOPIC);
    let config = format!("kafka-configs --describe --entity-type topics --entity-name {TOPIC}");
    cluster.tools().run(&config).success().lacks("throttled");
}

fn voters_leave_and_come(cluster: &mut Cluster) {
    let leader = cluster.controller();
    let other = leader % 3 + 1;
    let directory = cluster.node(other).directory_id().to_owned();
    let remove = "kafka-metadata-quorum remove-controller --controller-id";
    let wrong = cluster.tools().run(&format!("{remove} 9 --controller-directory-id {directory}"));
    assert_ne!(wrong.code, 0, "{wrong:?}");
    let removed =
        cluster.tools().run(&format!("{remove} {other} --controller-directory-id {directory}")).success();
    removed.has(&format!("Removed KRaft controller {other} with directory id {directory}"));
    let describe = "kafka-metadata-quorum describe --replication";
    awaited(cluster, describe, |output| {
        (lines_with(output, "Follower"), lines_with(output, "Observer")) == (1, 1)
    });
    let properties = cluster.node(other).properties();
    let add = format!("kafka-metadata-quorum --command-config {} add-controller", properties.display());
    let added = cluster.tools().run(&add).success();
    added.contains(&format!("Added controller {other} with directory id {directory}"));
    awaited(cluster, describe, |output| lines_with(output, "Follower") == 2);
    let again = cluster.tools().run(&add);
    assert_ne!(again.code, 0, "{again:?}");
    // Who was added votes: the leader may go.
    cluster.kill9(leader);
    cluster.routes().create_topic("without-the-leader", 1, 2, &[]);
    cluster.launch(leader);
    cluster.await_brokers();
}

fn brokers_come_and_are_unregistered(cluster: &mut Cluster) {
    cluster.tools().run("kafka-cluster cluster-id").success().contains("Cluster ID: ");
    let added = cluster.add_broker();
    cluster.await_brokers();
    let endpoints = cluster.tools().run("kafka-cluster list-endpoints").success();
    endpoints.contains(&cluster.node(added).address().replace("127.0.0.1:", ""));
    let refused = cluster.tools().run("kafka-cluster unregister --id 99");
    assert_ne!(refused.code, 0, "{refused:?}");
    cluster.terminate(added);
    let unregistered = cluster.tools().run(&format!("kafka-cluster unregister --id {added}")).success();
    unregistered.contains(&format!("Broker {added} is no longer registered."));
    let fenced = "kafka-cluster list-endpoints --include-fenced-brokers";
    awaited(cluster, fenced, |output| {
        lines_with(output, "PLAINTEXT") == 0 && lines_with(output, "unfenced") == 3
    });
}

fn features_are_described_and_changed(cluster: &mut Cluster) {
    let described = cluster.tools().run("kafka-features describe").success();
    for feature in ["metadata.version", "kraft.version", "group.version", "eligible.leader.replicas.version"]
    {
        described.contains(&format!("Feature: {feature}"));
    }
    let change = |direction: &str, level: i32| {
        format!("kafka-features {direction} --feature eligible.leader.replicas.version={level}")
    };
    cluster.tools().run(&change("downgrade", 0)).success().contains("was downgraded to 0");
    cluster.tools().run(&change("upgrade", 1)).success().contains("was upgraded to 1");
    let refused = cluster.tools().run(&change("upgrade", 99));
    assert_ne!(refused.code, 0, "{refused:?}");
}

#[test]
fn kafkas_tools_see_and_change_a_cluster() {
    let mut cluster = start();
    the_quorum_is_described(&mut cluster);
    features_are_described_and_changed(&mut cluster);
    replicas_that_are_missing_are_seen(&mut cluster);
    partitions_are_reassigned(&mut cluster);
    voters_leave_and_come(&mut cluster);
    brokers_come_and_are_unregistered(&mut cluster);
}
