//! MirrorMaker 2 between an Apache Kafka and the broker under test, in both directions: records, configurations, heartbeats
//! and the offsets of groups. It is killed and started again while records come.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use integration::cluster::{Cluster, Kind, Layout};
use integration::committed;
use integration::frameworks::{Framework, Program, is_long, node, say};
use integration::until;

const PATIENCE: Duration = Duration::from_secs(120);
const PARTITIONS: i32 = 2;

/// What a mirror keeps of a record.
type Mirrored = (Option<Bytes>, Option<Bytes>, Vec<(String, Option<Bytes>)>, i64);

/// The committed records of a partition with their offsets.
fn read(cluster: &Cluster, topic: &str, partition: i32) -> Option<Vec<(i64, Mirrored)>> {
    let mut all = Vec::new();
    let mut position = 0;
    let mut connection = cluster.routes().leader(topic, partition).ok()?;
    loop {
        let request = committed::request(topic, partition, position, 1 << 20);
        let found = committed::visible(connection.call(committed::FETCH_VERSION, &request).ok()?, position)
            .ok()?
            .ok()?;
        all.extend(found.records.into_iter().map(|record| {
            let headers = record.headers.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
            (record.offset, (record.key, record.value, headers, record.timestamp))
        }));
        if found.next == position || found.next >= found.last_stable_offset {
            return Some(all);
        }
        position = found.next;
    }
}

/// Writes records with keys, headers, values of bytes that are no text, and tombstones.
fn write(cluster: &Cluster, topic: &str, from: usize, count: usize) {
    for (partition, compression) in (0..PARTITIONS).zip(["lz4", "none"]) {
        let mut input = Vec::new();
        for number in from..from + count {
            let value: &[u8] = if number % 7 == 3 { b"" } else { &[0xff, 0, 0xc3, 1, 0x80] };
            input.extend_from_slice(format!("key {number}|").as_bytes());
            input.extend_from_slice(value);
            if !value.is_empty() {
                input.extend_from_slice(format!("{number}").as_bytes());
            }
            input.push(b'\n');
        }
        let mut kcat = Command::new("kcat");
        kcat.args([
            "-P",
            "-b",
            &cluster.bootstrap(),
            "-t",
            topic,
            "-p",
            &partition.to_string(),
            "-K|",
            "-Z",
            "-z",
            compression,
        ]);
        kcat.args(["-H", "first=1", "-H", "first=again", "-X", "acks=all"]);
        let mut child = kcat.stdin(Stdio::piped()).spawn().expect("kcat can be started");
        child.stdin.take().expect("a pipe").write_all(&input).expect("kcat reads");
        assert!(child.wait().expect("kcat ends").success(), "kcat could not write to {topic}");
    }
}

/// Apache Kafka, the broker under test, and MirrorMaker between them.
struct Scene {
    kafka: Cluster,
    klamm: Cluster,
    framework: Framework,
    mirror: Program,
}

impl Scene {
    fn start() -> Self {
        let (mut kafka, mut klamm) = (Cluster::start(Layout::one(Kind::Kafka)), node(&[]));
        let configuration = "--config retention.ms=86400000 --config compression.type=uncompressed --config max.message.bytes=900000";
        for (cluster, topic) in [(&mut kafka, "orders"), (&mut klamm, "payments")] {
            let line =
                format!("kafka-topics --create --topic {topic} --partitions {PARTITIONS} {configuration}");
            let _ = cluster.tools().run(&line).success();
            write(cluster, topic, 0, 300);
        }
        let framework = Framework::new("connect");
        let mirror = framework.file("mirror.properties", &properties(&kafka.bootstrap(), &klamm.bootstrap()));
        let line = format!("org.apache.kafka.connect.mirror.MirrorMaker {mirror}");
        let mirror = framework.start_with("mirror", &line, &[("JAVA_HEAP", "-Xmx400M")]);
        Self { kafka, klamm, framework, mirror }
    }

    /// The clusters from and to which this direction goes, with the topic and its name in the other cluster.
    fn directions(&self) -> [(&Cluster, &Cluster, &'static str, &'static str); 2] {
        [
            (&self.kafka, &self.klamm, "orders", "kafka.orders"),
            (&self.klamm, &self.kafka, "payments", "klamm.payments"),
        ]
    }

    fn write(&self, from: usize, count: usize) {
        for (source, _, topic, _) in self.directions() {
            write(source, topic, from, count);
        }
    }

    /// Waits until everything is in the other cluster, and checks that it is the same, once and in order.
    fn check_records(&self) -> usize {
        let mut count = 0;
        for (source, target, topic, mirrored) in self.directions() {
            for partition in 0..PARTITIONS {
                let strip = |records: Vec<(i64, Mirrored)>| {
                    records.into_iter().map(|(_, record)| record).collect::<Vec<_>>()
                };
                let sent = strip(read(source, topic, partition).expect("the source answers"));
                let what = format!("{} records in {mirrored}-{partition}", sent.len());
                let arrived = until(&what, PATIENCE, || {
                    thread::sleep(Duration::from_millis(100));
                    read(target, mirrored, partition).filter(|records| records.len() >= sent.len())
                });
                assert!(sent == strip(arrived), "{mirrored}-{partition} differs from its source");
                count += sent.len();
            }
        }
        count
    }

    /// Each topic has the partitions and the configuration of its source, also after that has changed.
    fn check_topics(&mut self) {
        let alter = "kafka-configs --alter --entity-type topics --entity-name";
        let _ =
            self.kafka.tools().run(&format!("{alter} orders --add-config retention.ms=12345678")).success();
        let _ =
            self.klamm.tools().run(&format!("{alter} payments --add-config retention.ms=12345678")).success();
        for (cluster, topic) in [(&mut self.klamm, "kafka.orders"), (&mut self.kafka, "klamm.payments")] {
            until(&format!("the configuration of {topic}"), PATIENCE, || {
                let described =
                    cluster.tools().run(&format!("kafka-topics --describe --topic {topic}")).success();
                let wanted = [
                    "PartitionCount: 2",
                    "retention.ms=12345678",
                    "compression.type=uncompressed",
                    "max.message.bytes=900000",
                ];
                wanted.iter().all(|text| described.stdout.contains(text)).then_some(())
            });
        }
    }

    /// Each cluster has the heartbeats of the other one.
    fn check_heartbeats(&self) {
        for (cluster, topic) in [(&self.klamm, "kafka.heartbeats"), (&self.kafka, "klamm.heartbeats")] {
            until(topic, PATIENCE, || {
                thread::sleep(Duration::from_millis(100));
                read(cluster, topic, 0).filter(|records| records.len() > 3)
            });
        }
    }

    /// Lets a group of consumers read a topic to its end and leave.
    fn consume(cluster: &mut Cluster, group: &str, topic: &str, count: usize) -> String {
        let line = format!(
            "kafka-console-consumer --topic {topic} --group {group} --max-messages {count} --timeout-ms 30000 --from-beginning --formatter-property print.key=true"
        );
        cluster.tools().run(&line).success().stdout
    }

    /// The translated offsets of a group: topic and partition, offset.
    fn translated(&self, target: &str, source: &str, group: &str) -> BTreeMap<(String, i32), i64> {
        let output =
            self.framework.complete("translate", &format!("Translate {target} {source} {group}"), PATIENCE);
        // The output is that of all such programs so far: what came later counts.
        output
            .lines()
            .filter_map(|line| {
                let mut words = line.split(' ');
                let key = (words.next()?.to_owned(), words.next()?.parse().ok()?);
                Some((key, words.next()?.parse().ok()?))
            })
            .collect()
    }

    /// A group that has read everything goes on behind it in the other cluster; one that has read a part goes on not
    /// behind that.
    fn check_groups(&mut self, total: usize) {
        let (target, source) = (self.klamm.bootstrap(), self.kafka.bootstrap());
        Self::check_group(self, &target, "kafka", total);
        Self::check_group(self, &source, "klamm", total);
    }

    fn check_group(&mut self, target: &str, source: &str, total: usize) {
        let to_klamm = source == "kafka";
        let (topic, mirrored) =
            if to_klamm { ("orders", "kafka.orders") } else { ("payments", "klamm.payments") };
        let (all, part) = (format!("all-{topic}"), format!("part-{topic}"));
        let from = if to_klamm { &mut self.kafka } else { &mut self.klamm };
        let _ = Self::consume(from, &all, topic, total);
        let _ = Self::consume(from, &part, topic, total / 3);
        let described =
            from.tools().run(&format!("kafka-consumer-groups --describe --group {part}")).success().stdout;
        let at = if to_klamm { &self.klamm } else { &self.kafka };
        for partition in 0..PARTITIONS {
            let count = read(at, mirrored, partition).expect("the target answers").len();
            let before = |offset: i64| {
                let records = read(at, mirrored, partition).expect("the target answers");
                records.iter().filter(|(of, _)| *of < offset).count()
            };
            let of = |group: &str| {
                let offset =
                    self.translated(target, source, group).get(&(mirrored.to_owned(), partition)).copied();
                offset.map(before)
            };
            until(&format!("the translated offset of {all}"), PATIENCE, || {
                of(&all).filter(|read| *read == count)
            });
            let read_of_source: usize = described
                .lines()
                .find(|line| line.split_whitespace().nth(2) == Some(&partition.to_string()))
                .and_then(|line| line.split_whitespace().nth(3)?.parse().ok())
                .unwrap_or(0);
            // A part of which nothing was read in this partition has no offset.
            let translated = of(&part).unwrap_or(0);
            assert!(
                translated <= read_of_source,
                "{part}: {translated} records of {read_of_source} are skipped"
            );
        }
    }

    /// The offsets that MirrorMaker has committed for the group: it goes on in the other cluster with what comes from now on.
    fn check_going_on(&mut self) {
        self.write(1_000_000, 5);
        let _ = self.check_records();
        for (cluster, group, topic) in [
            (&mut self.klamm, "all-orders", "kafka.orders"),
            (&mut self.kafka, "all-payments", "klamm.payments"),
        ] {
            let count = 5 * usize::try_from(PARTITIONS).expect("few");
            let output = Self::consume(cluster, group, topic, count);
            let mut keys: Vec<&str> = output.split("key ").skip(1).map(|text| &text[..7]).collect();
            keys.sort_unstable();
            let mut wanted = String::new();
            for number in 1_000_000..1_000_005 {
                let _ = write!(wanted, "{number} {number} ");
            }
            assert_eq!(keys.join(" ") + " ", wanted, "what {group} read of {topic}");
        }
    }
}

fn properties(kafka: &str, klamm: &str) -> String {
    let factors = [
        "replication",
        "checkpoints.topic.replication",
        "heartbeats.topic.replication",
        "offset-syncs.topic.replication",
        "offset.storage.replication",
        "config.storage.replication",
        "status.storage.replication",
    ];
    let mut text = format!(
        "clusters=kafka,klamm\nkafka.bootstrap.servers={kafka}\nklamm.bootstrap.servers={klamm}\n\
         kafka->klamm.enabled=true\nkafka->klamm.topics=orders\nklamm->kafka.enabled=true\nklamm->kafka.topics=payments\n\
         kafka.exactly.once.source.support=enabled\nklamm.exactly.once.source.support=enabled\n\
         kafka.offset.storage.partitions=1\nklamm.offset.storage.partitions=1\n\
         refresh.topics.interval.seconds=1\nrefresh.groups.interval.seconds=1\nsync.topic.configs.interval.seconds=1\n\
         emit.checkpoints.interval.seconds=1\nemit.heartbeats.interval.seconds=1\n\
         sync.group.offsets.enabled=true\nsync.group.offsets.interval.seconds=1\noffset.lag.max=0\n\
         sync.topic.acls.enabled=false\ntasks.max=2\n"
    );
    for factor in factors {
        let _ = writeln!(text, "{factor}.factor=1");
    }
    text
}

#[test]
fn mirror_maker_goes_both_ways() {
    if !is_long() {
        return say("MirrorMaker: left out, `make frameworks` runs it");
    }
    let mut scene = Scene::start();
    let _ = scene.check_records();
    for round in 1..=3 {
        scene.write(round * 1000, 300);
        thread::sleep(Duration::from_millis(300));
        scene.mirror.kill9();
        scene.write(round * 1000 + 300, 300);
        scene.mirror.launch();
    }
    let count = scene.check_records();
    scene.check_topics();
    scene.check_heartbeats();
    let total = count / 2;
    scene.check_groups(total);
    scene.check_going_on();
    say(&format!(
        "MirrorMaker: {count} records the same and once in both directions, MirrorMaker killed three times"
    ));
}
