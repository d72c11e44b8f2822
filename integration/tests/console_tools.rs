//! Apache Kafka's console tools against klamm: what they print is what they print against Apache Kafka.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use integration::frameworks::Framework;
use integration::wire::Connection;
use integration::{Klamm, Target, Tools, binary, until};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    FindCoordinatorRequest, InitProducerIdRequest, ProduceRequest, TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

fn start() -> (Target, Tools) {
    let target = Target::start();
    let tools = Tools::start(&target.bootstrap);
    (target, tools)
}

/// A name that is new in every run.
fn fresh(name: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_micros());
    format!("{name}-{now}")
}

#[test]
fn topics() {
    let (_target, mut tools) = start();
    let t = &fresh("topics");
    tools
        .run(&format!("kafka-topics --create --topic {t} --partitions 3 --config retention.ms=100000000"))
        .success()
        .has(&format!("Created topic {t}."));
    let again = tools.run(&format!("kafka-topics --create --topic {t}"));
    again.contains(&format!("Topic '{t}' already exists."));
    assert_eq!(again.code, 1);
    let _ = tools.run(&format!("kafka-topics --create --topic {t} --if-not-exists")).success();
    let replicas = tools.run(&format!("kafka-topics --create --topic {t}-2 --replication-factor 3"));
    replicas.contains("replication factor");
    assert_eq!(replicas.code, 1);
    let name = tools.run("kafka-topics --create --topic not/a/topic");
    name.contains("opic name is invalid: 'not/a/topic'");
    tools.run("kafka-topics --list").success().has(t);

    let described = tools.run(&format!("kafka-topics --describe --topic {t}")).success();
    described
        .contains("PartitionCount: 3")
        .contains("ReplicationFactor: 1")
        .contains("retention.ms=100000000");
    for partition in 0..3 {
        described.has(&format!(
            "Topic: {t} Partition: {partition} Leader: 1 Replicas: 1 Isr: 1 Elr: LastKnownElr:"
        ));
    }
    let _ = tools.run(&format!("kafka-topics --alter --topic {t} --partitions 4")).success();
    tools.run(&format!("kafka-topics --describe --topic {t}")).success().contains("PartitionCount: 4");
    let fewer = tools.run(&format!("kafka-topics --alter --topic {t} --partitions 2"));
    fewer.contains("4 partition(s)");
    for filter in ["--under-replicated-partitions", "--unavailable-partitions", "--under-min-isr-partitions"]
    {
        tools.run(&format!("kafka-topics --describe {filter}")).success().lacks(t);
    }
    tools.run("kafka-topics --describe --topics-with-overrides").success().contains(t);
    let _ = tools.run(&format!("kafka-topics --delete --topic {t}")).success();
    until("the deleted topic to go", Duration::from_secs(120), || {
        (!tools.run("kafka-topics --list").success().stdout.contains(t)).then_some(())
    });
    let gone = tools.run(&format!("kafka-topics --delete --topic {t}"));
    gone.contains(&format!("Topic '{t}' does not exist as expected"));
    assert_eq!(gone.code, 1);
}

/// Writes to a partition in a transaction that its coordinator does not know of.
fn hang(bootstrap: &str, transactional_id: &str, topic: &str) -> (i64, i16) {
    let mut connection = Connection::open(bootstrap).expect("the broker serves");
    let id = TransactionalId(StrBytes::from_string(transactional_id.to_owned()));
    let asked = FindCoordinatorRequest::default().with_key_type(1).with_key(id.0.clone());
    until("a transaction coordinator", Duration::from_secs(120), || {
        (connection.call(3, &asked).expect("the broker serves").error_code == 0).then_some(())
    });
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(id.clone()))
        .with_transaction_timeout_ms(60_000);
    let producer = until("a producer id", Duration::from_secs(120), || {
        let answer = connection.call(4, &request).expect("the broker serves");
        (answer.error_code == 0).then_some((answer.producer_id.0, answer.producer_epoch))
    });
    let record = Record {
        transactional: true,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: producer.0,
        producer_epoch: producer.1,
        timestamp_type: TimestampType::Creation,
        offset: 0,
        sequence: 0,
        // Longer ago than a transaction may be open.
        timestamp: 1_700_000_000_000,
        key: None,
        value: Some(Bytes::from_static(b"hanging")),
        headers: Default::default(),
    };
    let mut records = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut records, [&record], &options).expect("a plain record can be encoded");
    let data = PartitionProduceData::default().with_records(Some(records.freeze()));
    let topic = TopicName(StrBytes::from_string(topic.to_owned()));
    let data = TopicProduceData::default().with_name(topic).with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_transactional_id(Some(id))
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![data]);
    let answer = connection.call(8, &request).expect("the broker serves");
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    producer
}

#[test]
fn transactions() {
    let (target, mut tools) = start();
    let (t, id) = (&fresh("transactions"), &fresh("id"));
    let _ = tools.run(&format!("kafka-topics --create --topic {t} --partitions 1")).success();
    let verification = "transaction.partition.verification.enable";
    let configure = |tools: &mut Tools, change: &str| {
        let _ = tools
            .run(&format!("kafka-configs --alter --entity-type brokers --entity-default {change}"))
            .success();
    };
    configure(&mut tools, &format!("--add-config {verification}=false"));
    let (producer_id, epoch) = hang(&target.bootstrap, id, t);
    configure(&mut tools, &format!("--delete-config {verification}"));

    tools.run("kafka-transactions list").success().contains(id);
    tools
        .run(&format!("kafka-transactions list --transactional-id-pattern {id}"))
        .success()
        .has(&format!("{id} 1 {producer_id} Empty"));
    let described = tools.run(&format!("kafka-transactions describe --transactional-id {id}")).success();
    described.contains("Empty").contains("60000");
    let producers = format!("kafka-transactions describe-producers --topic {t} --partition 0");
    tools.run(&producers).success().has(&format!("{producer_id} {epoch} -1 0 1700000000000 0"));
    let find = format!("kafka-transactions find-hanging --topic {t}");
    tools.run(&find).success().contains(t).contains(&producer_id.to_string());
    let abort = format!("kafka-transactions abort --topic {t} --partition 0 --start-offset 0");
    let _ = tools.run(&abort).success();
    tools.run(&find).success().lacks(t);
    tools.run(&producers).success().contains("None");
    let unknown = tools.run("kafka-transactions describe --transactional-id nobody");
    unknown.contains("the ID could not be found");
    assert_eq!(unknown.code, 1);
    let end = tools.run(&format!("kafka-get-offsets --topic {t}")).success();
    end.has(&format!("{t}:0:2"));
}

#[test]
fn records() {
    let (_target, mut tools) = start();
    let t = &fresh("records");
    let _ = tools.run(&format!("kafka-topics --create --topic {t} --partitions 2")).success();
    let properties = "--reader-property parse.key=true --reader-property parse.headers=true";
    let input = "h1:a,h1:b\tk1\tv1\nh:x\tk1\tv2\nh:y\tk1\tv3\n";
    let _ = tools
        .run_with_input(&format!("kafka-console-producer --topic {t} --sync {properties}"), input)
        .success();
    let printed = "--formatter-property print.key=true --formatter-property print.headers=true --formatter-property print.offset=true";
    let read = format!("kafka-console-consumer --topic {t} --timeout-ms 15000 {printed}");
    let consumed = tools.run(&format!("{read} --max-messages 3 --from-beginning")).success();
    consumed.has("Offset:0 h1:a,h1:b k1 v1").has("Offset:1 h:x k1 v2").has("Offset:2 h:y k1 v3");
    consumed.contains("Processed a total of 3 messages");
    let _ = tools
        .run(&format!("{read} --max-messages 3 --from-beginning --group {t}"))
        .success()
        .has("Offset:2 h:y k1 v3");
    tools
        .run(&format!("kafka-consumer-groups --describe --group {t}"))
        .success()
        .contains("has no active members");

    let offsets =
        |tools: &mut Tools, more: &str| tools.run(&format!("kafka-get-offsets --topic {t} {more}")).success();
    // Which of the two partitions has the key, the partitioner of the client decides.
    let full = usize::from(offsets(&mut tools, "").stdout.contains(&format!("{t}:1:3")));
    let empty = 1 - full;
    offsets(&mut tools, "").has(&format!("{t}:{full}:3")).has(&format!("{t}:{empty}:0"));
    offsets(&mut tools, "--time -1").has(&format!("{t}:{full}:3"));
    offsets(&mut tools, "--time -2").has(&format!("{t}:{full}:0"));
    offsets(&mut tools, "--time -3").has(&format!("{t}:{full}:2"));
    offsets(&mut tools, "--time -4").has(&format!("{t}:{full}:0"));
    offsets(&mut tools, "--time 1000").has(&format!("{t}:{full}:0"));
    let from = tools.run(&format!("{read} --partition {full} --offset 1 --max-messages 2")).success();
    from.has("Offset:1 h:x k1 v2").lacks("v1");

    let json = tempfile::NamedTempFile::new().expect("a temporary file");
    let content =
        format!(r#"{{"partitions":[{{"topic":"{t}","partition":{full},"offset":2}}],"version":1}}"#);
    std::fs::write(json.path(), content).expect("a temporary file can be written");
    let deleted =
        tools.run(&format!("kafka-delete-records --offset-json-file {}", json.path().display())).success();
    deleted.has(&format!("partition: {t}-{full} low_watermark: 2"));
    offsets(&mut tools, "--time -2").has(&format!("{t}:{full}:2"));
    tools
        .run(&format!("{read} --partition {full} --offset earliest --max-messages 1"))
        .success()
        .has("Offset:2 h:y k1 v3");

    let sizes = tools.run(&format!("kafka-log-dirs --describe --topic-list {t}")).success();
    sizes
        .contains("Received log directory information from brokers 1")
        .contains(&format!("\"partition\":\"{t}-{full}\""))
        .contains("\"error\":null");
}

#[test]
fn load_generators() {
    let (_target, mut tools) = start();
    let t = &fresh("load");
    let _ = tools.run(&format!("kafka-topics --create --topic {t} --partitions 3")).success();
    let produced = tools.run(&format!("kafka-verifiable-producer --topic {t} --max-messages 100")).success();
    produced.contains("startup_complete");
    until("all records of the verifiable producer", Duration::from_secs(120), || {
        let offsets = tools.run(&format!("kafka-get-offsets --topic {t}")).success();
        let sum: u64 = offsets.stdout.lines().filter_map(|l| l.rsplit(':').next()?.parse::<u64>().ok()).sum();
        (sum == 100).then_some(())
    });
    let consumed = tools
        .run(&format!(
            "kafka-verifiable-consumer --topic {t} --max-messages 100 --group-id {t} --reset-policy earliest"
        ))
        .success();
    consumed.contains("partitions_assigned").contains("offsets_committed").contains("\"success\":true");
    let perf = tools
        .run(&format!(
            "kafka-producer-perf-test --topic {t} --num-records 2000 --record-size 200 --throughput -1"
        ))
        .success();
    perf.contains("2000 records sent");
    let read = tools
        .run(&format!("kafka-consumer-perf-test --topic {t} --num-records 2100 --timeout 20000"))
        .success();
    read.contains(", 2100, ");
}

#[test]
fn groups() {
    let (_target, mut tools) = start();
    let t = &fresh("groups");
    let g = &format!("{t}-group");
    let _ = tools.run(&format!("kafka-topics --create --topic {t} --partitions 2")).success();
    let _ = tools
        .run_with_input(
            &format!("kafka-console-producer --topic {t} --sync --reader-property parse.key=true"),
            "k\tv1\nk\tv2\nk\tv3\n",
        )
        .success();
    let full = usize::from(
        tools.run(&format!("kafka-get-offsets --topic {t}")).success().stdout.contains(&format!("{t}:1:3")),
    );
    let empty = 1 - full;
    let _ = tools.run(&format!("kafka-console-consumer --topic {t} --group {g} --from-beginning --max-messages 3 --timeout-ms 60000")).success();

    let mut run = |line: &str| tools.run(&format!("kafka-consumer-groups {line}")).success();
    run("--list").has(g);
    run("--list --state").has(&format!("{g} Empty"));
    run("--list --type").has(&format!("{g} Classic"));
    let row = |offset: i64| format!("{g} {t} {full} {offset} 3 {} - - -", 3 - offset);
    run(&format!("--describe --group {g}")).has(&row(3));
    run(&format!("--describe --group {g} --offsets"))
        .has(&row(3))
        .has(&format!("{g} {t} {empty} 0 0 0 - - -"));
    run(&format!("--describe --group {g} --members"))
        .contains(&format!("Consumer group '{g}' has no active members."));
    run(&format!("--describe --group {g} --state")).contains("Empty").contains("(1)");
    run("--describe --all-groups").has(&row(3));

    let mut reset = |how: &str, expected: i64| {
        run(&format!("--reset-offsets --group {g} --topic {t} {how} --execute"))
            .has(&format!("{g} {t} {full} {expected}"));
        run(&format!("--describe --group {g}")).has(&row(expected));
    };
    reset("--to-earliest", 0);
    reset("--to-latest", 3);
    reset("--shift-by -1", 2);
    reset("--to-datetime 2020-01-01T00:00:00.000", 0);
    reset("--to-offset 1", 1);
    reset("--by-duration PT1H", 0);
    run(&format!("--reset-offsets --group {g} --all-topics --to-latest --dry-run"))
        .has(&format!("{g} {t} {full} 3"));
    run(&format!("--reset-offsets --group {g} --all-topics --to-latest --export --dry-run"))
        .has(&format!("{t},{full},3"));
    run(&format!("--describe --group {g}")).has(&row(0));
    run(&format!("--delete-offsets --group {g} --topic {t}:{full}")).has(&format!("{t} {full} Successful"));
    run(&format!("--delete --group {g}"))
        .has(&format!("Deletion of requested consumer groups ('{g}') was successful."));
    run(&format!("--delete --group {g}")).contains("GroupIdNotFoundException: The group id does not exist.");
    run(&format!("--describe --group {g}"))
        .contains(&format!("GroupIdNotFoundException: Group {g} not found."));
    let _ = tools.run("kafka-groups --list").success();
}

/// A consumer that is there, gone with the value.
struct Member(Child);

impl Drop for Member {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn groups_with_a_member() {
    let (target, mut tools) = start();
    let t = &fresh("member");
    let _ = tools.run(&format!("kafka-topics --create --topic {t} --partitions 2")).success();
    let mut kcat = Command::new("kcat");
    let kcat = kcat.args(["-q", "-b", &target.bootstrap, "-X", "client.id=here", "-G", t, t]);
    let member = kcat.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("kcat can be started");
    let member = Member(member);
    let mut run = |line: &str| tools.run(&format!("kafka-consumer-groups {line}"));
    until("a stable group", Duration::from_secs(120), || {
        run(&format!("--describe --group {t} --state")).stdout.contains("Stable").then_some(())
    });
    run(&format!("--describe --group {t} --state")).success().contains("range").contains(" 1");
    let members = run(&format!("--describe --group {t} --members --verbose")).success();
    let row = members.stdout.lines().find(|line| line.starts_with(t.as_str())).unwrap_or_default();
    let words: Vec<&str> = row.split_whitespace().collect();
    assert!(words.len() > 4 && words[1].starts_with("here-"), "{members:?}");
    assert_eq!((words[2], words[3], words[4]), ("/127.0.0.1", "here", "2"), "{members:?}");
    members.contains(&format!("{t}:0,1"));
    let offsets = run(&format!("--describe --group {t}")).success();
    assert!(offsets.stdout.contains("/127.0.0.1"), "{offsets:?}");
    let reset = run(&format!("--reset-offsets --group {t} --topic {t} --to-earliest --execute"));
    reset.contains("inactive, but the current state is Stable");
    run(&format!("--delete --group {t}")).contains("GroupNotEmptyException");
    run(&format!("--delete-offsets --group {t} --topic {t}")).contains("GroupSubscribedToTopicException");
    drop(member);
}

#[test]
fn groups_of_the_streams_protocol() {
    let (target, mut tools) = start();
    let g = &fresh("streams");
    for topic in ["lines", "payments", "teams", "counts", "teamwork", "paid"] {
        let line = format!("kafka-topics --create --if-not-exists --topic {topic} --partitions 2");
        let _ = tools.run(&line).success();
    }
    let framework = Framework::new("streams");
    let state = framework.scratch().join("state");
    let line = format!(
        "Application {} {} application.id={g} client.id=here group.protocol=streams",
        target.bootstrap,
        state.display()
    );
    let mut application = framework.start("application", &line);
    let patience = Duration::from_secs(120);
    application.await_lines("state RUNNING", 1, patience);
    let _ = tools
        .run_with_input(
            "kafka-console-producer --topic lines --sync --reader-property parse.key=true",
            "1\tuser-1 one two three\n",
        )
        .success();
    let mut run = |line: &str| tools.run(&format!("kafka-streams-groups {line}"));
    run("--list").success().has(g);
    run("--list --state stable").success().has(&format!("{g} Stable"));
    let (partition, end) = until("a commit", patience, || {
        let offsets = run(&format!("--describe --group {g} --offsets --verbose")).success();
        offsets.contains("CURRENT-OFFSET");
        let words = |row: &str| row.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let is_committed =
            |row: &Vec<String>| row.len() > 5 && row[1] == "lines" && row[3] != "0" && row[3] == row[5];
        offsets.stdout.lines().map(words).find(is_committed).map(|row| (row[2].clone(), row[3].clone()))
    });
    run(&format!("--describe --group {g}")).success().contains("OFFSET-LAG").contains("-repartition");
    run(&format!("--describe --group {g} --state")).success().contains("COORDINATOR (ID)").contains("Stable");
    run(&format!("--describe --group {g} --state --verbose")).success().contains("TARGET-ASSIGNMENT-EPOCH");
    let members = run(&format!("--describe --group {g} --members --verbose")).success();
    members.contains("TOPOLOGY-EPOCH").contains("MEMBER-PROTOCOL").contains("streams").contains("ACTIVE: ");
    run("--describe --all-groups --members").success().contains("here-StreamThread-1-consumer");
    run(&format!("--delete --group {g}")).contains("not EMPTY");
    run(&format!("--delete-offsets --group {g} --input-topic lines"))
        .contains("GroupSubscribedToTopicException");
    run(&format!("--reset-offsets --group {g} --all-input-topics --to-earliest --execute"))
        .contains("but the current state is Stable");
    application.terminate();

    run("--list --state empty").success().has(&format!("{g} Empty"));
    run(&format!("--reset-offsets --group {g} --all-input-topics --to-earliest --dry-run"))
        .success()
        .has(&format!("{g} lines {partition} 0"));
    run(&format!("--reset-offsets --group {g} --input-topic lines:{partition} --to-offset 0 --execute"))
        .success()
        .has(&format!("{g} lines {partition} 0"));
    run(&format!("--reset-offsets --group {g} --input-topic lines:{partition} --to-latest --execute"))
        .success()
        .has(&format!("{g} lines {partition} {end}"));
    run(&format!("--delete-offsets --group {g} --input-topic lines"))
        .success()
        .has(&format!("lines {partition} Successful"));
    run(&format!("--delete --group {g}"))
        .success()
        .contains(&format!("Deletion of requested streams groups ('{g}') was successful."));
    run("--list").success().lacks(g);
}

#[test]
fn groups_of_the_consumer_protocol() {
    let (target, mut tools) = start();
    let t = &fresh("protocol");
    let _ = tools.run(&format!("kafka-topics --create --topic {t} --partitions 2")).success();
    let mut consumers = Tools::start(&target.bootstrap);
    let consumer = std::thread::spawn({
        let options = "--command-property group.protocol=consumer --command-property client.id=here";
        let line = format!("kafka-console-consumer --topic {t} --group {t} --timeout-ms 20000 {options}");
        move || consumers.run(&line)
    });
    let mut run = |line: &str| tools.run(&format!("kafka-consumer-groups {line}"));
    until("a stable group", Duration::from_secs(120), || {
        run(&format!("--describe --group {t} --state")).stdout.contains("Stable").then_some(())
    });
    run(&format!("--describe --group {t} --state")).success().contains("uniform").contains(" 1");
    run(&format!("--describe --group {t} --state --verbose")).success().contains("TARGET-ASSIGNMENT-EPOCH");
    let members = run(&format!("--describe --group {t} --members --verbose")).success();
    let row = members.stdout.lines().find(|line| line.starts_with(t.as_str())).unwrap_or_default();
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!((words[2], words[3], words[4]), ("/127.0.0.1", "here", "2"), "{members:?}");
    members.contains("CURRENT-EPOCH").contains("TARGET-EPOCH").contains(&format!("{t}:0,1"));
    run("--list --type consumer").success().has(&format!("{t} Consumer"));
    run("--list --type classic").success().lacks(t);
    run("--list --state stable").success().has(&format!("{t} Stable"));
    run(&format!("--delete --group {t}")).contains("GroupNotEmptyException");
    run(&format!("--delete-offsets --group {t} --topic {t}")).contains("GroupSubscribedToTopicException");
    tools.run("kafka-groups --list").success().has(&format!("{t} Consumer consumer"));
    let consumed = consumer.join().expect("the consumer's thread ends well");
    consumed.contains("Processed a total of 0 messages");
    let mut run = |line: &str| tools.run(&format!("kafka-consumer-groups {line}"));
    run(&format!("--describe --group {t} --state")).contains("Empty");
    run(&format!("--delete --group {t}"))
        .has(&format!("Deletion of requested consumer groups ('{t}') was successful."));
    let group = format!("--entity-type groups --entity-name {t}");
    let mut configs = |line: &str| tools.run(&format!("kafka-configs {line} {group}"));
    let _ = configs("--alter --add-config consumer.heartbeat.interval.ms=6000").success();
    configs("--describe").success().contains("consumer.heartbeat.interval.ms=6000");
    configs("--alter --add-config consumer.session.timeout.ms=1").contains("InvalidConfigurationException");
}

#[test]
fn share_consumers() {
    let (_target, mut tools) = start();
    let t = &fresh("shares");
    let _ = tools.run(&format!("kafka-topics --create --topic {t} --partitions 1")).success();
    let values: String = (0..20).map(|number| format!("value-{number}\n")).collect();
    let _ = tools.run_with_input(&format!("kafka-console-producer --topic {t}"), &values).success();
    let group = format!("--entity-type groups --entity-name {t}");
    let earliest = "--alter --add-config share.auto.offset.reset=earliest";
    let _ = tools.run(&format!("kafka-configs {earliest} {group}")).success();
    let mut consume = |options: &str| {
        let line = format!("kafka-console-share-consumer --topic {t} --group {t} --timeout-ms 10000");
        tools.run(&format!("{line} {options} --formatter-property print.delivery=true"))
    };
    // What is released comes again; what is accepted or rejected does not.
    let released = consume("--max-messages 20 --release").success();
    released.contains("Delivery:1").contains("value-0").contains("value-19");
    let accepted = consume("--max-messages 20").success();
    accepted.contains("Delivery:2").contains("value-0").contains("value-19");
    let more = |number| format!("more-{number}\n");
    let values: String = (0..10).map(more).collect();
    let _ = tools.run_with_input(&format!("kafka-console-producer --topic {t}"), &values).success();
    let verifiable = format!("kafka-verifiable-share-consumer --topic {t} --group-id {t} --max-messages 10");
    let consumed = tools.run(&verifiable);
    consumed.contains("records_consumed").contains("offsets_acknowledged").lacks("value-");
    tools.run("kafka-groups --list").success().has(&format!("{t} Share share"));
}

#[test]
fn share_groups() {
    let (_target, mut tools) = start();
    let (t, g) = (&fresh("shared"), &fresh("share-group"));
    let _ = tools.run(&format!("kafka-topics --create --topic {t}")).success();
    let _ =
        tools.run_with_input(&format!("kafka-console-producer --topic {t} --sync"), "a\nb\nc\n").success();
    let mut run = |line: &str| tools.run(&format!("kafka-share-groups {line}"));
    run(&format!("--describe --group {g}"))
        .contains(&format!("GroupIdNotFoundException: Group {g} not found."));
    let row = |offset: i64| format!("{g} {t} 0 {offset} {}", 3 - offset);
    let mut reset = |how: &str, expected: i64| {
        run(&format!("--reset-offsets --group {g} --topic {t} {how} --dry-run"))
            .has(&format!("{g} {t} 0 {expected}"));
        run(&format!("--reset-offsets --group {g} --topic {t} {how} --execute"))
            .has(&format!("{g} {t} 0 {expected}"));
        run(&format!("--describe --group {g}")).has(&row(expected));
    };
    // Setting offsets makes the group.
    reset("--to-latest", 3);
    reset("--to-earliest", 0);
    reset("--to-latest", 3);
    reset("--to-datetime 2020-01-01T00:00:00.000", 0);
    run("--list").has(g);
    run("--list --state").has(&format!("{g} Empty"));
    run("--list --state stable").lacks(g);
    run(&format!("--describe --group {g} --offsets --verbose")).has(&format!("{g} {t} 0 0 0 3"));
    run("--describe --all-groups").has(&row(0));
    let nobody = format!("Share group '{g}' has no active members.");
    run(&format!("--describe --group {g} --members")).contains(&nobody);
    run(&format!("--describe --group {g} --state")).contains("Empty").contains("(1)").contains(&nobody);
    run(&format!("--describe --group {g} --state --verbose")).contains("ASSIGNMENT-EPOCH");
    run(&format!("--reset-offsets --group {g} --all-topics --to-latest --execute"))
        .has(&format!("{g} {t} 0 3"));
    run(&format!("--delete-offsets --group {g} --topic {t}")).has(&format!("{t} Successful"));
    run(&format!("--delete-offsets --group {g} --topic {t}"))
        .has(&format!("{t} Error: There is no offset information to delete."));
    run(&format!("--delete-offsets --group {g}-2 --topic {t}"))
        .has(&format!("Error: Group {g}-2 not found."));
    run(&format!("--describe --group {g}")).success().lacks(&row(3));
    tools.run("kafka-groups --list").success().has(&format!("{g} Share share"));

    let group = format!("--entity-type groups --entity-name {g}");
    let mut configs = |line: &str| tools.run(&format!("kafka-configs {line} {group}"));
    let _ = configs("--alter --add-config share.record.lock.duration.ms=20000").success();
    configs("--describe").success().contains("share.record.lock.duration.ms=20000");
    configs("--alter --add-config share.session.timeout.ms=1").contains(
        "share.session.timeout.ms must be greater than or equal to group.share.min.session.timeout.ms",
    );
    let mut run = |line: &str| tools.run(&format!("kafka-share-groups {line}"));
    run(&format!("--delete --group {g}"))
        .has(&format!("Deletion of requested share groups ('{g}') was successful."));
    run(&format!("--delete --group {g}")).contains(&format!("Group '{g}' is not a share group."));
    run("--list").lacks(g);
}

#[test]
fn configs() {
    let (_target, mut tools) = start();
    let t = &fresh("configs");
    let _ =
        tools.run(&format!("kafka-topics --create --topic {t} --config retention.ms=100000000")).success();
    let mut run = |line: &str| tools.run(&format!("kafka-configs {line}"));
    let topic = format!("--entity-type topics --entity-name {t}");
    run(&format!("--describe {topic}"))
        .success()
        .has("retention.ms=100000000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=100000000}");
    run(&format!("--alter {topic} --add-config segment.ms=7200000,cleanup.policy=[compact,delete]"))
        .success()
        .has(&format!("Completed updating config for topic {t}."));
    run(&format!("--describe {topic}")).success().has("cleanup.policy=compact,delete sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:cleanup.policy=compact,delete, DEFAULT_CONFIG:log.cleanup.policy=delete}");
    let all = run(&format!("--describe {topic} --all")).success();
    all.has("max.message.bytes=1048588 sensitive=false synonyms={DEFAULT_CONFIG:message.max.bytes=1048588}");
    all.has("compression.type=producer sensitive=false synonyms={DEFAULT_CONFIG:compression.type=producer}");
    let _ = run(&format!("--alter {topic} --delete-config segment.ms,cleanup.policy")).success();
    run(&format!("--describe {topic}")).success().lacks("cleanup.policy");
    let unknown = run(&format!("--alter {topic} --add-config no.such.config=1"));
    unknown.contains("Unknown topic config name: no.such.config");
    assert_eq!(unknown.code, 1);
    let invalid = run(&format!("--alter {topic} --add-config retention.ms=soon"));
    invalid.contains("Invalid value soon for configuration retention.ms");
    assert_eq!(invalid.code, 1);

    run("--describe --entity-type brokers --entity-name 1")
        .success()
        .has("Dynamic configs for broker 1 are:");
    run("--describe --entity-type brokers --entity-name 1 --all")
        .success()
        .contains("node.id=1")
        .contains("num.partitions=1");
    run("--alter --entity-type brokers --entity-name 1 --add-config log.cleaner.threads=2")
        .success()
        .has("Completed updating config for broker 1.");
    run("--describe --entity-type brokers --entity-name 1")
        .success()
        .contains("DYNAMIC_BROKER_CONFIG:log.cleaner.threads=2");
    let _ =
        run("--alter --entity-type brokers --entity-name 1 --delete-config log.cleaner.threads").success();
    run("--alter --entity-type brokers --entity-default --add-config message.max.bytes=1048600")
        .success()
        .has("Completed updating default config for brokers in the cluster.");
    run("--describe --entity-type brokers --entity-default")
        .success()
        .contains("DYNAMIC_DEFAULT_BROKER_CONFIG:message.max.bytes=1048600");
    let _ = run("--alter --entity-type brokers --entity-default --delete-config message.max.bytes").success();
    run("--describe --entity-type brokers --entity-default").success().lacks("message.max.bytes");
}

#[test]
fn log_levels() {
    let klamm = Klamm::spawn(&[]);
    let mut tools = Tools::start(klamm.bootstrap());
    let mut run =
        |line: &str| tools.run(&format!("kafka-configs {line} --entity-type broker-loggers --entity-name 1"));
    run("--describe")
        .success()
        .has("klamm.net=INFO sensitive=false synonyms={}")
        .has("root=WARN sensitive=false synonyms={}");
    assert!(!klamm.stderr().contains("connected"), "{}", klamm.stderr());
    run("--alter --add-config klamm.net=DEBUG")
        .success()
        .has("Completed updating config for broker-logger 1.");
    run("--describe").success().has("klamm.net=DEBUG sensitive=false synonyms={}");
    until("an event of the level that was set", Duration::from_secs(120), || {
        klamm.stderr().contains("connected").then_some(())
    });
    let _ = run("--alter --delete-config klamm.net").success();
    run("--describe").success().has("klamm.net=INFO sensitive=false synonyms={}");
    run("--alter --add-config no.logger=DEBUG").contains("Invalid broker logger(s): no.logger");
    run("--alter --add-config klamm=LOUD").contains("not a supported log level");
    run("--alter --delete-config root").contains("Removing the log level of the root logger is not allowed");
}

#[test]
fn client_metrics() {
    let klamm = Klamm::spawn(&["--topic", "measured"]);
    let mut tools = Tools::start(klamm.bootstrap());
    let mut run = |line: &str| tools.run(&format!("kafka-client-metrics {line}"));
    run("--alter --name consoles --metrics org.apache.kafka.producer. --interval 200 --match client_id=perf-.*")
        .success()
        .has("Altered client metrics config for consoles.");
    run("--list").success().has("consoles");
    run("--describe --name consoles")
        .success()
        .has("interval.ms=200")
        .has("match=client_id=perf-.*")
        .has("metrics=org.apache.kafka.producer.");
    run("--alter --name consoles --match client_id=(")
        .contains("Illegal client matching pattern: client_id=(");
    run("--alter --name consoles --match nothing=a").contains("Illegal client matching pattern: nothing=a");
    run("--alter --name consoles --interval 99").contains("Invalid value 99 for interval.ms");

    // Long enough for a push before the last one, which says that the client ends.
    let load = "--topic measured --num-records 100 --record-size 10 --throughput 25";
    let _ = tools.run(&format!("kafka-producer-perf-test {load}")).success();
    let scrape = || {
        let url = format!("{}/metrics", klamm.admin_url());
        ureq::get(url).call().ok()?.body_mut().read_to_string().ok()
    };
    let text = until("what the producer measured", Duration::from_secs(120), || {
        scrape().filter(|text| text.contains("org_apache_kafka_producer_"))
    });
    let lines = text.lines().filter(|line| line.starts_with("org_apache_kafka_"));
    for line in lines {
        assert!(line.starts_with("org_apache_kafka_producer_"), "{line}");
        assert!(line.contains("client_id=\"perf-producer-client\""), "{line}");
        assert!(line.contains("client_software_name=\"apache-kafka-java\""), "{line}");
    }
    assert!(!text.contains("kafka_server_client_metrics_plugin_error_total 1"), "{text}");
    let _ = tools.run("kafka-client-metrics --delete --name consoles").success();
    tools.run("kafka-client-metrics --list").success().lacks("consoles");
}

#[test]
fn log_directories() {
    let (_target, mut tools) = start();
    let t = &fresh("directories");
    let _ = tools.run(&format!("kafka-topics --create --topic {t} --partitions 2")).success();
    let described = tools.run(&format!("kafka-log-dirs --describe --topic-list {t}")).success();
    described.contains(&format!("\"partition\":\"{t}-1\",\"size\":0,\"offsetLag\":0,\"isFuture\":false"));
    let directory = described.stdout.split("\"logDir\":\"").nth(1).and_then(|rest| rest.split('"').next());
    let directory = directory.expect("a directory").to_owned();
    let scratch = tempfile::tempdir().expect("a directory");
    let file = scratch.path().join("plan.json");
    let mut reassign = |log_dir: &str, what: &str| {
        let plan = format!(
            r#"{{"version":1,"partitions":[{{"topic":"{t}","partition":1,"replicas":[1],"log_dirs":["{log_dir}"]}}]}}"#
        );
        std::fs::write(&file, plan).expect("the plan can be written");
        tools.run(&format!("kafka-reassign-partitions --reassignment-json-file {} {what}", file.display()))
    };
    reassign(&directory, "--execute").success().contains("Successfully started partition reassignment");
    reassign(&directory, "--verify")
        .success()
        .contains(&format!("Reassignment of partition {t}-1 is completed."));
    reassign("/nowhere", "--verify").success().contains("not");
}

#[test]
fn cluster() {
    let (_target, mut tools) = start();
    let status = tools.run("kafka-metadata-quorum describe --status").success();
    status
        .has("LeaderId: 1")
        .has("MaxFollowerLag: 0")
        .has("CurrentObservers: []")
        .contains("CurrentVoters:          [{\"id\": 1");
    tools.run("kafka-metadata-quorum describe --replication").success().contains("Leader");
    let features = tools.run("kafka-features describe").success();
    features.contains("Feature: metadata.version").contains("FinalizedVersionLevel: 4.3-IV0");
    let group = features.stdout.lines().find(|line| line.contains("group.version")).unwrap_or_default();
    assert!(group.contains("FinalizedVersionLevel: 1"), "{features:?}");
    let streams = features.stdout.lines().find(|line| line.contains("streams.version")).unwrap_or_default();
    assert!(streams.contains("FinalizedVersionLevel: 1"), "{features:?}");
    let id = tools.run("kafka-cluster cluster-id").success();
    assert_eq!(id.stdout.trim().strip_prefix("Cluster ID: ").map(str::len), Some(22), "{id:?}");
    tools.run("kafka-cluster list-endpoints").success().contains("unfenced").contains("broker");
    let versions = tools.run("kafka-broker-api-versions").success();
    for (name, key, range, usable) in API_VERSIONS {
        versions.has(&format!("{name}({key}): {range} [usable: {usable}],"));
    }
}

/// What klamm writes for them, Kafka's own tools read.
#[test]
fn exported_metadata() {
    if std::env::var_os("KLAMM_TEST_BOOTSTRAP").is_some() {
        return;
    }
    let mut klamm = Klamm::spawn(&["--topic", "exported:3:retention.ms=100000000"]);
    let mut tools = Tools::start(klamm.bootstrap());
    assert!(klamm.terminate().success());
    let out = tempfile::tempdir().expect("a temporary directory");
    let exported = Command::new(binary())
        .arg("--data-dir")
        .arg(klamm.data_dir())
        .args(["export-metadata", "--to"])
        .arg(out.path())
        .output()
        .expect("the klamm binary can be started");
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    let file = out.path().join("00000000000000000000.log");
    assert!(String::from_utf8_lossy(&exported.stdout).contains(&*file.to_string_lossy()), "{exported:?}");
    let dumped =
        tools.run(&format!("kafka-dump-log --cluster-metadata-decoder --files {}", file.display())).success();
    dumped
        .contains("Log starting offset: 0")
        .contains(r#""type":"TOPIC_RECORD","version":0,"data":{"name":"exported""#)
        .contains(r#""type":"CONFIG_RECORD""#)
        .contains(r#""name":"retention.ms","value":"100000000""#)
        .contains(r#""type":"REGISTER_BROKER_RECORD""#)
        .contains(r#""type":"FEATURE_LEVEL_RECORD""#)
        .contains("LeaderChange")
        .lacks("isvalid: false");
    assert_eq!(dumped.stdout.matches(r#""type":"PARTITION_RECORD""#).count(), 3, "{}", dumped.stdout);
}

/// The versions that Apache Kafka 4.3.1 advertises of the APIs that klamm serves.
const API_VERSIONS: &[(&str, u8, &str, u8)] = &[
    ("Produce", 0, "0 to 13", 13),
    ("Fetch", 1, "4 to 18", 18),
    ("ListOffsets", 2, "1 to 11", 11),
    ("Metadata", 3, "0 to 13", 13),
    ("OffsetCommit", 8, "2 to 10", 10),
    ("OffsetFetch", 9, "1 to 10", 10),
    ("FindCoordinator", 10, "0 to 6", 6),
    ("JoinGroup", 11, "0 to 9", 9),
    ("Heartbeat", 12, "0 to 4", 4),
    ("LeaveGroup", 13, "0 to 5", 5),
    ("SyncGroup", 14, "0 to 5", 5),
    ("DescribeGroups", 15, "0 to 6", 6),
    ("ListGroups", 16, "0 to 5", 5),
    ("ApiVersions", 18, "0 to 4", 4),
    ("CreateTopics", 19, "2 to 7", 7),
    ("DeleteTopics", 20, "1 to 6", 6),
    ("DeleteRecords", 21, "0 to 2", 2),
    ("InitProducerId", 22, "0 to 5", 5),
    ("OffsetForLeaderEpoch", 23, "2 to 4", 4),
    ("DescribeConfigs", 32, "1 to 4", 4),
    ("AlterConfigs", 33, "0 to 2", 2),
    ("DescribeLogDirs", 35, "1 to 5", 5),
    ("CreatePartitions", 37, "0 to 3", 3),
    ("DeleteGroups", 42, "0 to 2", 2),
    ("IncrementalAlterConfigs", 44, "0 to 1", 1),
    ("OffsetDelete", 47, "0", 0),
    ("DescribeQuorum", 55, "0 to 2", 2),
    ("UpdateFeatures", 57, "0 to 2", 2),
    ("DescribeCluster", 60, "0 to 2", 2),
    ("DescribeProducers", 61, "0", 0),
    ("ConsumerGroupHeartbeat", 68, "0 to 1", 1),
    ("ConsumerGroupDescribe", 69, "0 to 1", 1),
    ("ListConfigResources", 74, "0 to 1", 1),
    ("DescribeTopicPartitions", 75, "0", 0),
    ("StreamsGroupHeartbeat", 88, "0", 0),
    ("StreamsGroupDescribe", 89, "0", 0),
];
