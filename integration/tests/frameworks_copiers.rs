//! The programs of Kafka's system tests: `TransactionalMessageCopier`, `VerifiableProducer` and `VerifiableConsumer`, and a
//! copier in the new group protocol, with kills of the programs and of the broker.
//!
//! `make frameworks` runs them for longer; `KLAMM_TEST_CLUSTER=kafka` runs them against Apache Kafka.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use integration::cluster::Cluster;
use integration::committed::{Text, read_all};
use integration::frameworks::{Framework, Program, node, say, setting};
use integration::until;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(120);
const PARTITIONS: i32 = 2;
const TOOLS: &str = "org.apache.kafka.tools";

/// Members that are killed are missed soon.
const CONFIG: [(&str, &str); 7] = [
    ("group.min.session.timeout.ms", "1000"),
    ("group.consumer.min.session.timeout.ms", "1000"),
    ("group.consumer.session.timeout.ms", "3000"),
    ("group.consumer.min.heartbeat.interval.ms", "500"),
    ("group.consumer.heartbeat.interval.ms", "500"),
    ("group.share.min.record.lock.duration.ms", "1000"),
    ("group.share.record.lock.duration.ms", "5000"),
];

/// Kafka's verifiable producer, which writes the numbers from 0 on.
fn produce(framework: &Framework, cluster: &Cluster, topic: &str, count: usize, pace: i64) -> Program {
    let line = format!(
        "{TOOLS}.VerifiableProducer --bootstrap-server {} --topic {topic} --max-messages {count} --throughput {pace} \
         --acks -1",
        cluster.bootstrap()
    );
    framework.start("producer", &line)
}

/// The values of the topic, partition by partition.
fn values(all: &[Text]) -> Vec<Vec<&str>> {
    let of = |partition| all.iter().filter(move |text| text.partition == partition);
    (0..PARTITIONS).map(|partition| of(partition).map(|text| text.value.as_str()).collect()).collect()
}

/// How a copier reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    /// Kafka's copier, one for each partition.
    OnePartition,
    /// Kafka's copier, in a group of the classic protocol.
    InGroup,
    /// Our copier, in a group of this protocol.
    Protocol(&'static str),
}

fn start_copier(framework: &Framework, cluster: &Cluster, reads: Reads, number: i32) -> Program {
    let bootstrap = cluster.bootstrap();
    let kafkas = format!(
        "{TOOLS}.TransactionalMessageCopier --broker-list {bootstrap} --input-topic input --output-topic output \
         --input-partition {number} --transaction-size 50 --transaction-timeout 10000 --enable-random-aborts \
         --transactional-id copier-{number} --consumer-group copiers --use-group-metadata"
    );
    let line = match reads {
        Reads::OnePartition => kafkas,
        Reads::InGroup => format!("{kafkas} --group-mode"),
        Reads::Protocol(protocol) => format!("Copier {bootstrap} copiers {protocol} copier-{number}"),
    };
    framework.start(&format!("copier-{number}"), &line)
}

/// Copiers copy in transactions, some of which they abort, while they and the broker are killed: every record arrives, and
/// arrives once. A copier that has copied what there was when it began ends, and is started again.
fn copy(reads: Reads) {
    let began = Instant::now();
    let framework = Framework::new("streams");
    let mut cluster = node(&CONFIG);
    for topic in ["input", "output"] {
        cluster.routes().create_topic(topic, PARTITIONS, 1, &[]);
    }
    let count = setting(2_000, 40_000);
    let mut producer = produce(&framework, &cluster, "input", count, -1);
    let status = producer.wait(PATIENCE);
    assert!(status.success(), "the producer ended with {status}");
    let input = until("the input", PATIENCE, || read_all(&mut cluster.routes(), "input"));
    assert_eq!(input.len(), count);

    let mut copiers: Vec<Program> =
        (0..PARTITIONS).map(|number| start_copier(&framework, &cluster, reads, number)).collect();
    let (kills, broker_kills) = setting((1, 1), (10, 5));
    let mut lives = copiers.len();
    let mut copied = Vec::new();
    let mut done = 0;
    until("everything to be copied", setting(PATIENCE, PATIENCE * 5), || {
        copied = read_all(&mut cluster.routes(), "output")?;
        if copied.len() > done * count / (kills + broker_kills + 1) && done < kills + broker_kills {
            if done % (1 + kills / broker_kills) == 0 {
                cluster.kill9(1);
                cluster.launch(1);
            } else {
                let copier = &mut copiers[done % 2];
                copier.kill9();
                copier.launch();
                lives += 1;
            }
            done += 1;
        }
        // Who has copied what there was when it began is done, unless another one has left something.
        let is_over = copiers.iter_mut().all(|copier| copier.ended().is_some());
        for copier in &mut copiers {
            if copier.ended().is_some_and(|status| is_over || !status.success()) && copied.len() < count {
                copier.relaunch();
                lives += 1;
            }
        }
        (copied.len() >= count).then_some(())
    });
    assert_eq!(done, kills + broker_kills, "kills");
    for copier in &mut copiers {
        copier.kill9();
    }
    // What the killed ones had begun is never seen: their transactions time out.
    let copied = until("the output", PATIENCE, || read_all(&mut cluster.routes(), "output"));
    let (input, output) = (values(&input), values(&copied));
    for (partition, (from, to)) in input.iter().zip(&output).enumerate() {
        let once = BTreeSet::from_iter(to);
        assert_eq!(once.len(), to.len(), "records of partition {partition} were copied twice");
        assert!(BTreeSet::from_iter(from) == once, "partition {partition}: other records were copied");
        if reads == Reads::OnePartition {
            assert_eq!(from, to, "the order in partition {partition}");
        }
    }
    say(&format!(
        "copiers, {reads:?}: {count} records copied once each, {kills} kills of a copier, {broker_kills} of the broker, \
         {lives} lives, in {:?}",
        began.elapsed()
    ));
}

#[test]
fn transactional_message_copier() {
    copy(Reads::OnePartition);
}

#[test]
fn transactional_message_copier_in_a_group() {
    copy(Reads::InGroup);
}

#[test]
fn copier_in_a_group_of_the_consumer_protocol() {
    copy(Reads::Protocol("consumer"));
}

/// The events of this name that a program has written.
fn events(output: &str, name: &str) -> Vec<Value> {
    let events = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["name"] == name).collect()
}

/// Partition and offset.
type Place = (Option<i64>, Option<i64>);

fn place(event: &Value) -> Place {
    (event["partition"].as_i64(), event["offset"].as_i64())
}

/// What a producer was told to be stored, and how many records it was not told so of: it does not retry, so that those
/// that were on their way when the broker was killed may be there or not.
fn acknowledged(producer: &Program, count: usize) -> (BTreeMap<Place, Value>, usize) {
    let output = producer.output();
    let stored = events(&output, "producer_send_success");
    let stored: BTreeMap<_, _> = stored.iter().map(|event| (place(event), event["value"].clone())).collect();
    let failed = events(&output, "producer_send_error").len();
    assert_eq!(stored.len() + failed, count);
    (stored, failed)
}

/// What consumers have read, again where they have read it again.
fn consumed(consumers: &[Program]) -> Vec<(Place, Value)> {
    let all = consumers.iter().flat_map(|consumer| events(&consumer.output(), "record_data"));
    all.map(|event| (place(&event), event["value"].clone())).collect()
}

/// Writes numbers while one consumer is killed, the broker is killed and another consumer is stopped and started, and waits
/// until all that was acknowledged is consumed. What was acknowledged, how many records were not, and what was consumed.
fn consume_under_kills(
    framework: &Framework,
    cluster: &mut Cluster,
    consumers: &mut [Program],
) -> (BTreeMap<Place, Value>, usize, Vec<(Place, Value)>) {
    let (count, pace) = setting((2_000, 400), (40_000, 800));
    let rounds = setting(1, 4);
    let mut producer = produce(framework, cluster, "numbers", count, pace);
    for round in 0..rounds {
        let part = count / (rounds * 3 + 1);
        producer.await_lines("producer_send_success", part * (round * 3 + 1), PATIENCE);
        consumers[0].kill9();
        consumers[0].launch();
        producer.await_lines("producer_send_success", part * (round * 3 + 2), PATIENCE);
        cluster.kill9(1);
        cluster.launch(1);
        producer.await_lines("producer_send_success", part * (round * 3 + 3), PATIENCE);
        consumers[1].terminate();
        consumers[1].launch();
    }
    let status = producer.wait(PATIENCE);
    assert!(status.success(), "the producer ended with {status}");
    let (acknowledged, failed) = acknowledged(&producer, count);
    let consumed = until("everything to be consumed", PATIENCE, || {
        let all = consumed(consumers);
        let places: BTreeSet<_> = all.iter().map(|(place, _)| *place).collect();
        acknowledged.keys().all(|place| places.contains(place)).then_some(all)
    });
    for (place, value) in &consumed {
        assert!(
            acknowledged.get(place).is_none_or(|known| known == value),
            "{value} was consumed at {place:?}"
        );
    }
    (acknowledged, failed, consumed)
}

/// Kafka's verifiable consumers in a group: one is killed, one is stopped and started, the broker is killed. All that was
/// acknowledged is consumed.
fn verifiable(protocol: &str) {
    let began = Instant::now();
    let framework = Framework::new("streams");
    let mut cluster = node(&CONFIG);
    cluster.routes().create_topic("numbers", PARTITIONS, 1, &[]);
    let timeout = if protocol == "classic" { " --session-timeout 6000" } else { "" };
    let mut consumers: Vec<Program> = (0..2)
        .map(|number| {
            let line = format!(
                "{TOOLS}.VerifiableConsumer --bootstrap-server {} --topic numbers --group-id readers --group-protocol \
                 {protocol} --reset-policy earliest --verbose{timeout}",
                cluster.bootstrap()
            );
            framework.start(&format!("consumer-{number}"), &line)
        })
        .collect();
    for consumer in &mut consumers {
        consumer.await_lines("partitions_assigned", 1, PATIENCE);
    }
    let (acknowledged, failed, consumed) = consume_under_kills(&framework, &mut cluster, &mut consumers);
    let places: BTreeMap<_, _> = consumed.iter().cloned().collect();
    let values: BTreeSet<_> = places.values().map(Value::to_string).collect();
    assert_eq!(values.len(), places.len(), "a record is there twice");
    for consumer in &mut consumers {
        let status = consumer.terminate();
        assert!(consumer.count("shutdown_complete") > 0, "a consumer ended with {status}");
    }
    say(&format!(
        "verifiable producer and consumers, {protocol}: {} acknowledged, all consumed, {} of them again, {failed} failed, \
         in {:?}",
        acknowledged.len(),
        consumed.len() - places.len(),
        began.elapsed()
    ));
}

#[test]
fn verifiable_consumers_of_the_classic_protocol() {
    verifiable("classic");
}

#[test]
fn verifiable_consumers_of_the_consumer_protocol() {
    verifiable("consumer");
}

/// Kafka's verifiable consumers in a share group: one is killed, one is stopped and started, the broker is killed. All that
/// was acknowledged to the producer is delivered, and nothing that a consumer has acknowledged is delivered to another.
#[test]
fn verifiable_share_consumers() {
    let began = Instant::now();
    let framework = Framework::new("streams");
    let mut cluster = node(&CONFIG);
    cluster.routes().create_topic("numbers", PARTITIONS, 1, &[]);
    let mut consumers: Vec<Program> = ["sync", "async"]
        .iter()
        .map(|mode| {
            let line = format!(
                "{TOOLS}.VerifiableShareConsumer --bootstrap-server {} --topic numbers --group-id sharers \
                 --acknowledgement-mode {mode} --offset-reset-strategy earliest --verbose",
                cluster.bootstrap()
            );
            let mut consumer = framework.start(&format!("consumer-{mode}"), &line);
            consumer.await_lines("offset_reset_strategy_set", 1, PATIENCE);
            consumer
        })
        .collect();
    let (acknowledged, failed, consumed) = consume_under_kills(&framework, &mut cluster, &mut consumers);
    let mut done = BTreeSet::new();
    for event in consumers.iter().flat_map(|consumer| events(&consumer.output(), "offsets_acknowledged")) {
        for summary in event["partitions"].as_array().into_iter().flatten() {
            let offsets = summary["offsets"].as_array().into_iter().flatten();
            for offset in offsets.filter(|_| event["success"] == true) {
                let place = (summary["partition"].as_i64(), offset.as_i64());
                assert!(done.insert(place), "{place:?} was delivered again after its acknowledgement");
            }
        }
    }
    assert!(!done.is_empty(), "consumers have acknowledged nothing");
    let places: BTreeSet<_> = consumed.iter().map(|(place, _)| *place).collect();
    for consumer in &mut consumers {
        let status = consumer.terminate();
        assert!(consumer.count("shutdown_complete") > 0, "a consumer ended with {status}");
    }
    say(&format!(
        "verifiable share consumers: {} acknowledged, all delivered, {} of them again, {failed} failed, {} \
         acknowledgements, in {:?}",
        acknowledged.len(),
        consumed.len() - places.len(),
        done.len(),
        began.elapsed()
    ));
}
