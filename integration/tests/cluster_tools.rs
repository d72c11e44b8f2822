//! What Kafka's tools see of three nodes, and change: the quorum and its voters, replicas, leaders, features.
//!
//! `KLAMM_TEST_CLUSTER=kafka` runs the same against three nodes of Apache Kafka, by which the tests are checked.

use std::fs;

use integration::cluster::{Cluster, Kind, Layout, Voters};
use integration::wire::Connection;
use integration::{Output, http};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

const TOPIC: &str = "seen";
const NEAR: &str = "near";

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
    let directory = cluster.node(other).chosen_directory_id();
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

/// The answer to a consumer in a rack that fetches at a node: its error, which replica it is sent to, and whether it was
/// given records.
fn fetched(cluster: &Cluster, node: i32, rack: &str, offset: i64, version: i16) -> (i16, i32, bool) {
    let partition = FetchPartition::default()
        .with_partition(0)
        .with_fetch_offset(offset)
        .with_current_leader_epoch(-1)
        .with_partition_max_bytes(1 << 20);
    let topic = TopicName(StrBytes::from_static_str(NEAR));
    let request = FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(0)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_rack_id(StrBytes::from_string(rack.to_owned()))
        .with_topics(vec![FetchTopic::default().with_topic(topic).with_partitions(vec![partition])]);
    let mut connection = Connection::open(&cluster.node(node).address()).expect("the node serves");
    let mut answer = connection.call(version, &request).expect("the node answers");
    let partition = answer.responses.remove(0).partitions.remove(0);
    let has_records = partition.records.is_some_and(|records| !records.is_empty());
    (partition.error_code, partition.preferred_read_replica.0, has_records)
}

/// How many bytes of the topic a node of klamm has given to consumers; `None` for one of Kafka.
fn given(cluster: &Cluster, node: i32) -> Option<u64> {
    if Kind::under_test() == Kind::Kafka {
        return None;
    }
    let metrics = http::get(&format!("{}/metrics", cluster.node(node).admin_url())).expect("metrics");
    let name = format!("kafka_server_brokertopicmetrics_bytesout_total{{topic=\"{NEAR}\"}} ");
    let value = metrics.body.lines().find_map(|line| line.strip_prefix(&name));
    Some(value.map_or(0, |value| value.parse().expect("a number")))
}

#[test]
fn fixed_voters_may_change_after_the_upgrade() {
    let mut cluster = Cluster::start(Layout::three(Kind::under_test(), Voters::Fixed).quick());
    let leader = cluster.controller();
    let directory = cluster.node(leader).chosen_directory_id();
    let remove = format!(
        "kafka-metadata-quorum remove-controller --controller-id {leader} --controller-directory-id {directory}"
    );
    let refused = cluster.tools().run(&remove);
    assert_ne!(refused.code, 0, "{refused:?}");
    refused.contains("UnsupportedVersionException");
    // Voters tell the leader first who they are.
    awaited(&mut cluster, "kafka-features upgrade --feature kraft.version=1", |_| true)
        .contains("kraft.version was upgraded to 1.");
    let back = cluster.tools().run("kafka-features downgrade --feature kraft.version=0");
    assert_ne!(back.code, 0, "{back:?}");
    let too_high = cluster.tools().run("kafka-features upgrade --feature kraft.version=2");
    assert_ne!(too_high.code, 0, "{too_high:?}");
    voters_leave_and_come(&mut cluster);
}

#[test]
fn consumers_read_from_the_replica_in_their_rack() {
    const FOLLOWER: i32 = 2;
    const CONSUME: &str = "kafka-console-consumer --topic near --from-beginning --max-messages 100 --command-property client.rack=b";
    let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
    let layout = Layout::three(Kind::under_test(), Voters::Initial).quick();
    let layout = layout.with("replica.selector.class", selector);
    let layout = layout.with_of(1, "broker.rack", "a").with_of(FOLLOWER, "broker.rack", "b").with_of(
        3,
        "broker.rack",
        "c",
    );
    let mut cluster = Cluster::start(layout);
    let create = format!("kafka-topics --create --topic {NEAR} --replica-assignment 1:2:3");
    let _ = cluster.tools().run(&create).success();
    let lines: String = (0..100).fold(String::new(), |lines, number| lines + &format!("line {number}\n"));
    let _ =
        cluster.tools().run_with_input(&format!("kafka-console-producer --topic {NEAR}"), &lines).success();
    // A follower may give what it knows to be committed.
    cluster.until("the follower to have all", |cluster| {
        (fetched(cluster, FOLLOWER, "b", 99, 12) == (0, -1, true)).then_some(())
    });
    let (none, sent, records) = ((0, -1, false), (0, FOLLOWER, false), (0, -1, true));
    let (out_of_range, not_leader) = ((1, -1, false), (6, -1, false));
    let expected = [
        (1, "b", 0, 12, sent),
        (1, "b", 100, 12, sent),
        (1, "b", 101, 12, out_of_range),
        (1, "a", 0, 12, records),
        (1, "elsewhere", 0, 12, records),
        (1, "", 0, 12, records),
        (FOLLOWER, "b", 0, 12, records),
        (FOLLOWER, "c", 0, 12, records),
        (FOLLOWER, "b", 100, 12, none),
        (FOLLOWER, "b", 101, 12, out_of_range),
        // Who can not name a rack reads from the leader.
        (FOLLOWER, "", 0, 10, not_leader),
    ];
    for (node, rack, offset, version, expected) in expected {
        let found = fetched(&cluster, node, rack, offset, version);
        assert_eq!(found, expected, "node {node}, rack {rack}, offset {offset}, version {version}");
    }
    let before = [given(&cluster, 1), given(&cluster, FOLLOWER)];
    let read = cluster.tools().run(CONSUME).success();
    assert_eq!(read.stdout, lines);
    let after = [given(&cluster, 1), given(&cluster, FOLLOWER)];
    assert_eq!(after[0], before[0], "the leader gave nothing");
    assert!(after[1] > before[1] || before[1].is_none(), "the follower gave all");
    // The leader sends consumers to a follower that is gone until that one is missed; they come back.
    cluster.kill9(FOLLOWER);
    let read = cluster.tools().run(CONSUME).success();
    assert_eq!(read.stdout, lines);
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
