//! Nodes of klamm and of Apache Kafka in one cluster: each may follow, lead, vote and be the controller of the other, and
//! a cluster of the one becomes a cluster of the other while clients work.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::time::Duration;

use integration::cluster::work::{Load, Progress, under_load};
use integration::cluster::{Cluster, Kind, Layout, Voters};
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
