//! Nodes of klamm and of Apache Kafka in one cluster: each may follow, lead, vote and be the controller of the other, and
//! a cluster of the one becomes a cluster of the other while clients work.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::time::Duration;

use integration::cluster::client::Routes;
use integration::cluster::work::{Load, Progress, under_load};
use integration::cluster::{Cluster, Kind, Layout, Node, Voters};
use integration::load::Shape;

const TOPIC: &str = "orders";
const BOTH: &str = "broker,controller";

/// Says a line past the test runner, which swallows what a passing test prints.
fn say(line: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(io::stderr(), "{line}");
}

fn load() -> Load {
    let shape = Shape { topic: TOPIC.into(), partitions: 3, batch_records: 5, value_bytes: 100 };
    Load { shape, writers: 1, pace: Duration::from_millis(4) }
}

fn leads(cluster: &Cluster, id: i32) -> bool {
    let partitions = cluster.routes().partitions(TOPIC).unwrap_or_default();
    partitions.iter().any(|one| one.leader == id)
}

/// Has the preferred replicas lead: each node one of three partitions.
fn prefer(cluster: &mut Cluster) {
    let elected =
        cluster.tools().run("kafka-leader-election --election-type PREFERRED --all-topic-partitions");
    assert_eq!(elected.code, 0, "{}{}", elected.stdout, elected.stderr);
}

/// Stops the node by asking it, and by killing it, and sees that others take over and that it comes back each time.
fn leave_and_return(cluster: &mut Cluster, progress: &Progress<'_>, id: i32) {
    for asked in [true, false] {
        cluster.await_in_sync(TOPIC);
        prefer(cluster);
        cluster.until(&format!("node {id} to lead"), |cluster| leads(cluster, id).then_some(()));
        progress.more(cluster, 5);
        if asked {
            cluster.terminate(id);
        } else {
            cluster.kill9(id);
        }
        progress.more(cluster, 5);
        assert!(!leads(cluster, id), "node {id} is gone, and leads");
        cluster.launch(id);
        cluster.await_brokers();
    }
    cluster.await_in_sync(TOPIC);
}

#[test]
fn klamm_is_a_broker_among_brokers_of_kafka() {
    let mut layout = Layout::three(Kind::Kafka, Voters::Initial).quick().with_kind(2, Kind::under_test());
    layout.roles = vec![BOTH, "broker", "broker"];
    layout.voters_at_first = 1;
    let mut cluster = Cluster::start(layout);
    cluster.routes().create_topic(TOPIC, 3, 3, &[]);
    let summary = under_load(&mut cluster, &load(), |cluster, progress| {
        leave_and_return(cluster, progress, 3);
        leave_and_return(cluster, progress, 2);
    });
    say(&format!("a broker of klamm under a controller of Kafka: {summary:?}"));
}

#[test]
fn kafka_is_a_broker_under_the_controller_of_klamm() {
    let mut layout = Layout::three(Kind::Kafka, Voters::Initial).quick().with_kind(0, Kind::under_test());
    layout.roles = vec![BOTH, "broker", "broker"];
    layout.voters_at_first = 1;
    let mut cluster = Cluster::start(layout);
    let tools = cluster.tools();
    let _ = tools.run("kafka-topics --create --topic words --partitions 2 --replication-factor 3").success();
    let _ = tools.run_with_input("kafka-console-producer --topic words", "one\ntwo\nthree\n").success();
    let read =
        tools.run("kafka-console-consumer --topic words --group readers --from-beginning --max-messages 3");
    let mut words: Vec<&str> = read.stdout.lines().collect();
    words.sort_unstable();
    assert_eq!(words, ["one", "three", "two"]);
    tools.run("kafka-consumer-groups --describe --group readers").success().contains("words");
    cluster.routes().create_topic(TOPIC, 3, 3, &[]);
    let summary = under_load(&mut cluster, &load(), |cluster, progress| {
        leave_and_return(cluster, progress, 2);
        leave_and_return(cluster, progress, 3);
    });
    say(&format!("brokers of Kafka under a controller of klamm: {summary:?}"));
}

#[test]
fn klamm_and_kafka_vote_together() {
    let layout = Layout::three(Kind::under_test(), Voters::Initial).quick().with_kind(1, Kind::Kafka);
    let mut cluster = Cluster::start(layout);
    cluster.routes().create_topic(TOPIC, 3, 3, &[]);
    let mut led = [false; 2];
    let mut changes = 0;
    let summary = under_load(&mut cluster, &load(), |cluster, progress| {
        // Who wins an election is chance; in the end each kind has been the controller.
        while changes < 12 && (changes < 3 || led != [true; 2]) {
            let controller = cluster.controller();
            led[usize::from(controller == 2)] = true;
            cluster.kill9(controller);
            progress.more(cluster, 5);
            let next = cluster.controller();
            assert_ne!(next, controller, "a killed controller is named");
            led[usize::from(next == 2)] = true;
            cluster.launch(controller);
            cluster.await_brokers();
            cluster.await_in_sync(TOPIC);
            changes += 1;
        }
    });
    assert_eq!(led, [true; 2], "klamm and Kafka were controllers in turn");
    say(&format!("voters of both, {changes} controllers killed: {summary:?}"));
}

/// The end offsets of the snapshots of the metadata log that a node has, or the first offsets of its segments.
fn offsets_of(node: &Node, suffix: &str) -> Vec<u64> {
    let files = fs::read_dir(node.data().join("__cluster_metadata-0")).into_iter().flatten().flatten();
    let mut offsets: Vec<u64> = files
        .filter_map(|file| {
            let name = file.file_name().into_string().ok()?;
            name.strip_suffix(suffix)?.split('-').next()?.parse().ok()
        })
        .collect();
    offsets.sort_unstable();
    offsets
}

/// Makes the second node the only voter in the place of the first one.
fn hand_over(cluster: &mut Cluster, from: i32, to: i32) {
    let properties = cluster.node(to).properties();
    let add = format!("kafka-metadata-quorum --command-config {} add-controller", properties.display());
    let directory_id = cluster.node(from).chosen_directory_id();
    let remove = format!(
        "kafka-metadata-quorum remove-controller --controller-id {from} --controller-directory-id {directory_id}"
    );
    // A change that is made may be refused when it is asked for again, as a leader that leaves may take its answer along.
    for (change, voters) in [(add, BTreeSet::from([from, to])), (remove, BTreeSet::from([to]))] {
        cluster.until(&format!("the voters {voters:?}"), |cluster| {
            drop(cluster.tools().run(&change));
            let found: BTreeSet<i32> = cluster.routes().voters()?.into_iter().collect();
            (found == voters).then_some(())
        });
    }
    cluster.until(&format!("node {to} to lead"), |cluster| (cluster.controller() == to).then_some(()));
}

/// Has each node tell topics, their partitions and their configuration.
fn all_know(cluster: &mut Cluster, topics: &[String]) {
    let nodes: Vec<String> = cluster.nodes.iter().filter(|node| node.is_up()).map(Node::address).collect();
    for address in nodes {
        let alone = Routes::new(vec![address.clone()]);
        for topic in topics {
            let known = format!("{topic} at {address}");
            cluster.until(&known, |_| alone.partitions(topic).filter(|all| all.len() == 5).map(drop));
        }
    }
    let output = cluster.tools().run("kafka-configs --describe --entity-type topics").success();
    assert_eq!(output.stdout.matches("retention.ms=7654321 ").count(), topics.len(), "{output:?}");
}

#[test]
fn snapshots_of_the_metadata_are_fetched_from_one_another() {
    let layout = Layout::three(Kind::under_test(), Voters::Initial).quick().with_kind(1, Kind::Kafka);
    let mut layout = layout.with("metadata.log.max.record.bytes.between.snapshots", "1500");
    layout.voters_at_first = 1;
    let mut cluster = Cluster::prepare(layout);
    cluster.launch_all(1);
    let mut topics = Vec::new();
    // The log of node 1 begins behind the older of two snapshots.
    while offsets_of(cluster.node(1), ".checkpoint").len() < 2 || topics.len() < 5 {
        assert!(topics.len() < 1_000, "node 1 takes no snapshots");
        let topic = format!("early-{}", topics.len());
        cluster.routes().create_topic(&topic, 5, 1, &[("retention.ms", "7654321")]);
        topics.push(topic);
    }
    cluster.launch(2);
    cluster.await_brokers();
    let begins = offsets_of(cluster.node(2), ".log")[0];
    assert!(begins > 0, "the log of Kafka begins behind a snapshot of klamm");
    all_know(&mut cluster, &topics);
    let checkpoint = fs::read_dir(cluster.node(2).data().join("__cluster_metadata-0")).expect("a log");
    let checkpoint = checkpoint.flatten().map(|file| file.path());
    let checkpoint = checkpoint.filter(|path| path.extension().is_some_and(|suffix| suffix == "checkpoint"));
    let checkpoint = checkpoint.min().expect("the snapshot that was fetched");
    let dump = format!("kafka-dump-log --cluster-metadata-decoder --files {}", checkpoint.display());
    cluster.tools().run(&dump).success().contains("SnapshotHeader").contains("TOPIC_RECORD");

    hand_over(&mut cluster, 1, 2);
    let late = format!("late-{}", topics.len());
    cluster.routes().create_topic(&late, 5, 2, &[("retention.ms", "7654321")]);
    topics.push(late);
    cluster.launch(3);
    cluster.await_brokers();
    assert!(cluster.node(3).words().contains("snapshot fetched"), "klamm fetched a snapshot of Kafka");
    all_know(&mut cluster, &topics);

    hand_over(&mut cluster, 2, 3);
    cluster.routes().create_topic("last", 5, 3, &[("retention.ms", "7654321")]);
    topics.push("last".to_owned());
    all_know(&mut cluster, &topics);
    say(&format!("Kafka's log begins at {begins}, behind a snapshot of klamm; {} topics", topics.len()));
}

/// Moves a topic of one partition to this node alone.
fn move_to(cluster: &mut Cluster, topic: &str, to: i32) {
    let plan = cluster.scratch().join("move.json");
    let text =
        format!(r#"{{"version":1,"partitions":[{{"topic":"{topic}","partition":0,"replicas":[{to}]}}]}}"#);
    fs::write(&plan, text).expect("a file for the plan");
    let execute = format!("kafka-reassign-partitions --reassignment-json-file {} --execute", plan.display());
    let _ = cluster.tools().run(&execute).success();
    cluster.until(&format!("{topic} on node {to}"), |cluster| {
        let partitions = cluster.routes().partitions(topic)?;
        (partitions[0].leader == to && partitions[0].replicas == [to]).then_some(())
    });
}

/// Produces to both partitions of the topic and has the share group consume just that.
fn share(cluster: &mut Cluster, round: &str) {
    const RECORDS: usize = 40;
    let mut sent: Vec<String> = (0..RECORDS).map(|number| format!("{round}-{number}")).collect();
    let lines: String =
        sent.iter().fold(String::new(), |lines, record| lines + &format!("{record}:{record}\n"));
    let produce = "kafka-console-producer --topic jobs --message-send-max-retries 1000 --reader-property parse.key=true --reader-property key.separator=:";
    let _ = cluster.tools().run_with_input(produce, &lines).success();
    let consume = "kafka-console-share-consumer --topic jobs --group crew --timeout-ms 120000 --max-messages";
    let consumed = cluster.tools().run(&format!("{consume} {RECORDS}")).success();
    let mut received: Vec<&str> = consumed.stdout.lines().collect();
    sent.sort_unstable();
    received.sort_unstable();
    assert_eq!(received, sent, "round {round}");
    let described = cluster.tools().run("kafka-share-groups --describe --group crew").success();
    let lags: Vec<&str> =
        described.stdout.lines().filter_map(|line| line.split_whitespace().nth(4)).collect();
    assert_eq!(lags, ["LAG", "0", "0"], "{}", described.stdout);
}

#[test]
fn klamm_and_kafka_keep_the_state_of_share_groups_for_one_another() {
    const KLAMM: i32 = 1;
    const KAFKA: i32 = 2;
    let mut layout = Layout::three(Kind::under_test(), Voters::Initial).quick();
    layout.kinds = vec![Kind::under_test(), Kind::Kafka];
    layout.roles = vec![BOTH, "broker"];
    layout.voters_at_first = 1;
    for (name, value) in [
        ("share.coordinator.state.topic.num.partitions", "1"),
        ("share.coordinator.state.topic.replication.factor", "1"),
        ("share.coordinator.state.topic.min.isr", "1"),
        ("offsets.topic.num.partitions", "1"),
        ("offsets.topic.replication.factor", "1"),
        ("min.insync.replicas", "1"),
    ] {
        layout = layout.with(name, value);
    }
    let mut cluster = Cluster::start(layout);
    let create = |topic: &str, nodes: &str| {
        format!("kafka-topics --create --topic {topic} --replica-assignment {nodes}")
    };
    // Each leads a partition; the state of both, and the group's coordinator, are with klamm.
    for (topic, nodes) in [
        ("jobs", "1,2"),
        ("__share_group_state", "1"),
        ("__consumer_offsets", "1 --config cleanup.policy=compact"),
    ] {
        let _ = cluster.tools().run(&create(topic, nodes)).success();
    }
    let configure = "kafka-configs --alter --entity-type groups --entity-name crew --add-config";
    let _ = cluster.tools().run(&format!("{configure} share.auto.offset.reset=earliest")).success();
    share(&mut cluster, "with-klamm");
    move_to(&mut cluster, "__share_group_state", KAFKA);
    share(&mut cluster, "with-kafka");
    // What is acknowledged stays: klamm reads from Kafka what it had written there.
    cluster.kill9(KLAMM);
    cluster.launch(KLAMM);
    cluster.await_brokers();
    share(&mut cluster, "killed");
    move_to(&mut cluster, "__share_group_state", KLAMM);
    move_to(&mut cluster, "__consumer_offsets", KAFKA);
    let all = "kafka-share-groups --reset-offsets --to-earliest --topic jobs --group crew --execute";
    let _ = cluster.tools().run(all).success();
    let described = cluster.tools().run("kafka-share-groups --describe --group crew").success();
    let lags =
        described.stdout.lines().filter_map(|line| line.split_whitespace().nth(4)?.parse::<u32>().ok());
    assert_eq!(lags.sum::<u32>(), 120, "{}", described.stdout);
    let delete = "kafka-share-groups --delete-offsets --topic jobs --group crew";
    cluster.tools().run(delete).success().contains("Successful");
    let described = cluster.tools().run("kafka-share-groups --describe --group crew").success();
    described.contains("has no offset information");
    let _ = cluster.tools().run("kafka-share-groups --delete --group crew").success();
}

/// What an administrator types and sees.
struct Transcript(String);

impl Transcript {
    fn step(&mut self, text: &str) {
        say(text);
        let _ = writeln!(self.0, "\n## {text}\n");
    }

    /// Runs a tool; its command and its output are taken down.
    fn run(&mut self, cluster: &mut Cluster, line: &str) -> String {
        let output = cluster.tools().run(line);
        let shown: String = output.stdout.lines().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "    {line}");
            text
        });
        let directory = cluster.scratch().display().to_string();
        let text = format!("    $ {line}\n{shown}").replace(&directory, "/var/kafka");
        let _ = writeln!(self.0, "{text}");
        assert_eq!(output.code, 0, "{line}: {}{}", output.stdout, output.stderr);
        output.stdout
    }
}

/// The partitions of these topics, all on nodes 4, 5 and 6, with another one of them first each time.
fn reassignment(cluster: &Cluster, topics: &[&str]) -> String {
    let mut entries = Vec::new();
    for topic in topics {
        for partition in cluster.routes().partitions(topic).expect("the topic is there") {
            let replicas: Vec<String> =
                (0..3).map(|place| (4 + (partition.index + place) % 3).to_string()).collect();
            entries.push(format!(
                r#"{{"topic":"{topic}","partition":{},"replicas":[{}]}}"#,
                partition.index,
                replicas.join(",")
            ));
        }
    }
    format!(r#"{{"version":1,"partitions":[{}]}}"#, entries.join(","))
}

#[test]
fn a_cluster_of_kafka_becomes_one_of_klamm() {
    let layout = Layout::three(Kind::Kafka, Voters::Initial).quick().and_later(3, Kind::under_test(), BOTH);
    let mut cluster = Cluster::prepare(layout);
    cluster.launch_all(3);
    cluster.routes().create_topic(TOPIC, 3, 3, &[]);
    let mut transcript =
        Transcript("# From Apache Kafka 4.3.1 to klamm: the transcript of `make migration`\n".to_owned());
    let summary = under_load(&mut cluster, &load(), |cluster, progress| {
        migrate(cluster, progress, &mut transcript);
    });
    transcript.step("What the producers, the consumers and the group saw");
    let _ = writeln!(
        transcript.0,
        "{} records were acknowledged while all of this went on; each of them was found once, in order and at its \
         offset at every replica ({} comparisons), and {} commits of offsets never went back.",
        summary.records, summary.compared, summary.commits
    );
    if let Some(path) = std::env::var_os("KLAMM_TRANSCRIPT") {
        fs::write(path, &transcript.0).expect("the transcript can be written");
    }
    say(&format!("the migration: {summary:?}"));
}

fn migrate(cluster: &mut Cluster, progress: &Progress<'_>, transcript: &mut Transcript) {
    let status = "kafka-metadata-quorum describe --status";
    transcript.step("Three nodes of Apache Kafka 4.3.1 with data, producers and a group");
    progress.more(cluster, 50);
    transcript.run(cluster, status);
    transcript.run(cluster, &format!("kafka-topics --describe --topic {TOPIC}"));

    transcript.step(
        "Three nodes of klamm are started beside them: they register as brokers and follow the metadata",
    );
    for id in 4..=6 {
        cluster.launch(id);
    }
    cluster.await_brokers();
    progress.more(cluster, 20);
    transcript.run(cluster, "kafka-metadata-quorum describe --replication");

    transcript.step("Every partition moves to them");
    let plan = cluster.scratch().join("plan.json");
    fs::write(&plan, reassignment(cluster, &[TOPIC, "__consumer_offsets"])).expect("a file for the plan");
    let file = format!("--reassignment-json-file {}", plan.display());
    transcript.run(cluster, &format!("kafka-reassign-partitions {file} --execute"));
    cluster.until("the reassignment to be complete", |cluster| {
        let moved = |topic: &str| {
            let partitions = cluster.routes().partitions(topic)?;
            partitions
                .iter()
                .all(|one| one.in_sync.len() == 3 && one.in_sync.iter().all(|id| *id > 3))
                .then_some(())
        };
        moved(TOPIC).and_then(|()| moved("__consumer_offsets"))
    });
    transcript.run(cluster, &format!("kafka-reassign-partitions {file} --verify"));
    progress.more(cluster, 20);

    transcript.step("They become voters, one after the other");
    for id in 4..=6 {
        let properties = cluster.node(id).properties();
        transcript.run(
            cluster,
            &format!("kafka-metadata-quorum --command-config {} add-controller", properties.display()),
        );
    }
    transcript.run(cluster, status);

    transcript.step("Kafka's nodes leave the quorum and stop, one after the other");
    for id in 1..=3 {
        let directory_id = cluster.node(id).directory_id().to_owned();
        transcript.run(
            cluster,
            &format!(
                "kafka-metadata-quorum remove-controller --controller-id {id} --controller-directory-id {directory_id}"
            ),
        );
        cluster.terminate(id);
        progress.more(cluster, 10);
        transcript.run(cluster, &format!("kafka-cluster unregister --id {id}"));
    }

    transcript.step("A cluster of klamm");
    cluster.await_brokers();
    progress.more(cluster, 50);
    transcript.run(cluster, status);
    transcript.run(cluster, &format!("kafka-topics --describe --topic {TOPIC}"));
    assert!((4..=6).contains(&cluster.controller()));
}
