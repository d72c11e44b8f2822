//! The common scenarios, played with the crate rdkafka (librdkafka): `SCENARIO HOST:PORT`.

use std::error::Error;
use std::fmt::Debug;
use std::future::Future;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_executor::block_on;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{DeliveryResult, Header, Headers, Message, OwnedHeaders, OwnedMessage, Timestamp};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

type Played = Result<(), Box<dyn Error>>;

const TEN_SECONDS: Duration = Duration::from_secs(10);
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const HEADERS: [(&str, Option<&str>); 4] =
    [("h", Some("1")), ("h", Some("2")), ("empty", Some("")), ("absent", None)];

fn same<T: PartialEq + Debug>(what: &str, expected: T, got: T) -> Played {
    if expected == got {
        Ok(())
    } else {
        Err(format!("{what}: expected {expected:?} but got {got:?}").into())
    }
}

fn until(seconds: u64, what: &str, mut condition: impl FnMut() -> Result<bool, Box<dyn Error>>) -> Played {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !condition()? {
        if Instant::now() > end {
            return Err(format!("waited too long for {what}").into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn now_ms() -> Result<i64, Box<dyn Error>> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

fn value(number: usize) -> String {
    format!("a value that repeats, repeats, repeats {number}")
}

/// What became of the records that were sent: offsets, and the errors of those that were refused.
#[derive(Default)]
struct Deliveries {
    offsets: Mutex<Vec<i64>>,
    errors: Mutex<Vec<RDKafkaErrorCode>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) => self.offsets.lock().unwrap_or_else(PoisonError::into_inner).push(message.offset()),
            Err((error, _)) => self
                .errors
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)),
        }
    }
}

struct Scenario {
    bootstrap: String,
    topic: String,
    admin: AdminClient<DefaultClientContext>,
}

impl Scenario {
    fn new(name: &str, bootstrap: &str) -> Result<Self, Box<dyn Error>> {
        let topic = format!("rdkafka-rust-{name}-{}-{}", std::process::id(), now_ms()?);
        let admin = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            // Its metadata requests would create a topic again that has just been deleted.
            .set("allow.auto.create.topics", "false")
            .create()?;
        Ok(Self { bootstrap: bootstrap.to_owned(), topic, admin })
    }

    fn play(&self, name: &str) -> Played {
        match name {
            "produce-consume" => self.produce_consume(),
            "idempotent" => self.idempotent(),
            "group-rebalance" => self.group_rebalance(),
            "commit-resume" => self.commit_resume(),
            "offsets-by-time" => self.offsets_by_time(),
            "admin" => self.administration(),
            "large-message" => self.large_message(),
            "unknown-topic" => self.unknown_topic(),
            "broker-restart" => self.broker_restart(),
            _ => Err("there is no such scenario".into()),
        }
    }

    fn create(&self, partitions: i32) -> Played {
        let topic = NewTopic::new(&self.topic, partitions, TopicReplication::Fixed(1));
        only(self.admin.create_topics([&topic], &options()))
    }

    fn producer(&self, settings: &[(&str, &str)]) -> KafkaResult<BaseProducer<Deliveries>> {
        let mut config = self.config(settings);
        config.set("message.timeout.ms", "60000");
        if config.get("linger.ms").is_none() {
            config.set("linger.ms", "1");
        }
        config.create_with_context(Deliveries::default())
    }

    fn consumer(&self, settings: &[(&str, &str)]) -> KafkaResult<BaseConsumer> {
        let mut config = self.config(settings);
        config
            .set("group.id", &self.topic)
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "200")
            .set("fetch.wait.max.ms", "100");
        config.create()
    }

    fn config(&self, settings: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "200");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        config
    }

    fn send_numbers(
        &self,
        producer: &BaseProducer<Deliveries>,
        numbers: std::ops::Range<i32>,
        partitions: i32,
    ) -> Played {
        for number in numbers {
            let payload = number.to_string();
            let record =
                BaseRecord::to(&self.topic).key("k").payload(&payload).partition(number % partitions);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        flush(producer)
    }

    /// The partitions of the topic that carry no error.
    fn partitions(&self) -> Result<Vec<i32>, Box<dyn Error>> {
        let metadata = self.admin.inner().fetch_metadata(Some(&self.topic), TEN_SECONDS)?;
        let topic = metadata.topics().first().ok_or("no topic in the metadata")?;
        Ok(topic.partitions().iter().filter(|p| p.error().is_none()).map(|p| p.id()).collect())
    }

    fn topics(&self) -> Result<Vec<String>, Box<dyn Error>> {
        let metadata = self.admin.inner().fetch_metadata(None, TEN_SECONDS)?;
        Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
    }

    fn groups(&self) -> Result<Vec<String>, Box<dyn Error>> {
        let list = self.admin.inner().fetch_group_list(None, TEN_SECONDS)?;
        Ok(list.groups().iter().map(|group| group.name().to_owned()).collect())
    }

    fn watermarks(&self, partition: i32) -> KafkaResult<(i64, i64)> {
        self.admin.inner().fetch_watermarks(&self.topic, partition, TEN_SECONDS)
    }

    /// One partition of the topic with an offset.
    fn at(&self, partition: i32, offset: Offset) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition, offset)?;
        Ok(list)
    }

    fn read_all(&self, count: usize) -> Result<Vec<OwnedMessage>, Box<dyn Error>> {
        let reader = self.consumer(&[])?;
        let (mut assignment, mut end) = (TopicPartitionList::new(), 0);
        for partition in self.partitions()? {
            assignment.add_partition_offset(&self.topic, partition, Offset::Beginning)?;
            end += self.watermarks(partition)?.1;
        }
        same("end offsets", i64::try_from(count)?, end)?;
        reader.assign(&assignment)?;
        poll(&reader, count)
    }

    fn in_order_once(&self, count: usize) -> Played {
        let records = self.read_all(count)?;
        for partition in 0..3_u8 {
            let got: Vec<String> = records
                .iter()
                .filter(|record| record.partition() == i32::from(partition))
                .map(|record| text(record.payload()).unwrap_or_default())
                .collect();
            let expected: Vec<String> =
                (usize::from(partition)..count).step_by(3).map(|n| n.to_string()).collect();
            same(&format!("partition {partition}"), expected, got)?;
        }
        Ok(())
    }

    fn produce_consume(&self) -> Played {
        self.create(1)?;
        let base = now_ms()? - 100_000;
        for codec in CODECS {
            let producer = self.producer(&[("compression.type", codec), ("linger.ms", "20")])?;
            for i in 0..50 {
                let (key, payload) = (format!("{codec}-{i}"), value(i));
                let mut headers = OwnedHeaders::new();
                for (key, value) in HEADERS {
                    headers = headers.insert(Header { key, value });
                }
                let mut record =
                    BaseRecord::to(&self.topic).timestamp(base + i64::try_from(i)?).headers(headers);
                if i != 7 {
                    record = record.key(&key);
                }
                if i != 9 {
                    record = record.payload(&payload);
                }
                producer.send(record).map_err(|(error, _)| error)?;
            }
            flush(&producer)?;
            let delivered = producer.context().offsets.lock().unwrap_or_else(PoisonError::into_inner).len();
            same("delivered", 50, delivered)?;
        }
        for (offset, record) in self.read_all(250)?.iter().enumerate() {
            let (codec, i) = (CODECS[offset / 50], offset % 50);
            same("offset", i64::try_from(offset)?, record.offset())?;
            same("key", (i != 7).then(|| format!("{codec}-{i}")), text(record.key()))?;
            same("value", (i != 9).then(|| value(i)), text(record.payload()))?;
            same("timestamp", Timestamp::CreateTime(base + i64::try_from(i)?), record.timestamp())?;
            let headers = record.headers().ok_or("no headers")?;
            let headers: Vec<_> = headers.iter().map(|h| (h.key.to_owned(), text(h.value))).collect();
            same("headers", HEADERS.map(|(k, v)| (k.to_owned(), v.map(str::to_owned))).to_vec(), headers)?;
        }
        Ok(())
    }

    fn idempotent(&self) -> Played {
        self.create(3)?;
        let producer = self.producer(&[("enable.idempotence", "true"), ("batch.num.messages", "20")])?;
        self.send_numbers(&producer, 0..1500, 3)?;
        self.in_order_once(1500)
    }

    fn group_rebalance(&self) -> Played {
        self.create(6)?;
        let mut members = Vec::new();
        for _ in 0..3 {
            members.push(Member::join(self.consumer(&[])?, &self.topic)?);
        }
        let shared = |members: &[Member], each: usize| {
            let lists: Vec<Vec<i32>> = members.iter().map(Member::owned).collect();
            let mut all = lists.concat();
            all.sort_unstable();
            Ok(lists.iter().all(|list| list.len() == each) && all == [0, 1, 2, 3, 4, 5])
        };
        until(60, "2 partitions for each of 3 members", || shared(&members, 2))?;
        members.remove(1).leave()?;
        until(60, "3 partitions for each of 2 members", || shared(&members, 3))?;
        let list = self.admin.inner().fetch_group_list(Some(&self.topic), TEN_SECONDS)?;
        let group = list.groups().first().ok_or("the group is not described")?;
        same("state", ("Stable", 2), (group.state(), group.members().len()))?;
        members.into_iter().try_for_each(Member::leave)
    }

    fn commit_resume(&self) -> Played {
        self.create(1)?;
        self.send_numbers(&self.producer(&[])?, 0..100, 1)?;
        let first = self.consumer(&[])?;
        first.subscribe(&[&self.topic])?;
        poll(&first, 40)?;
        first.commit(&self.at(0, Offset::Offset(40))?, CommitMode::Sync)?;
        drop(first);
        let second = self.consumer(&[])?;
        second.subscribe(&[&self.topic])?;
        let records = poll(&second, 60)?;
        same("first record after the commit", Some(40), records.first().map(Message::offset))?;
        let committed = second.committed_offsets(self.at(0, Offset::Invalid)?, TEN_SECONDS)?;
        same("committed", Some(Offset::Offset(40)), committed.elements().first().map(|p| p.offset()))
    }

    fn offsets_by_time(&self) -> Played {
        self.create(1)?;
        let base = now_ms()? - 1_000_000;
        let producer = self.producer(&[])?;
        for i in 0..20 {
            let record = BaseRecord::<(), str>::to(&self.topic).payload("v").timestamp(base + i * 1000);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        flush(&producer)?;
        let reader = self.consumer(&[])?;
        for (what, timestamp, expected) in [
            ("exact", base + 5000, Offset::Offset(5)),
            ("between", base + 5001, Offset::Offset(6)),
            ("before all", 0, Offset::Offset(0)),
            ("after all", base + 10_000_000, Offset::End),
        ] {
            let found = reader.offsets_for_times(self.at(0, Offset::Offset(timestamp))?, TEN_SECONDS)?;
            same(what, Some(expected), found.elements().first().map(|p| p.offset()))?;
        }
        same("watermarks", (0, 20), self.watermarks(0)?)
    }

    fn administration(&self) -> Played {
        let topic = NewTopic::new(&self.topic, 2, TopicReplication::Fixed(1)).set("retention.ms", "123456");
        only(self.admin.create_topics([&topic], &options()))?;
        fails(RDKafkaErrorCode::TopicAlreadyExists, self.admin.create_topics([&topic], &options()))?;
        let replicated = NewTopic::new("of-three", 1, TopicReplication::Fixed(3));
        fails(
            RDKafkaErrorCode::InvalidReplicationFactor,
            self.admin.create_topics([&replicated], &options()),
        )?;
        same("the topic is in the list", true, self.topics()?.contains(&self.topic))?;

        same("retention.ms", Some("123456".to_owned()), self.retention()?)?;
        // The crate has AlterConfigs alone, of the two requests.
        let change = AlterConfig::new(ResourceSpecifier::Topic(&self.topic)).set("retention.ms", "654321");
        for result in block_on(self.admin.alter_configs([&change], &options()))? {
            result.map_err(|(_, code)| KafkaError::AdminOp(code))?;
        }
        until(60, "the new retention", || Ok(self.retention()?.as_deref() == Some("654321")))?;
        only(self.admin.create_partitions([&NewPartitions::new(&self.topic, 4)], &options()))?;
        until(60, "4 partitions", || Ok(self.partitions()?.len() == 4))?;
        let fewer = NewPartitions::new(&self.topic, 3);
        fails(RDKafkaErrorCode::InvalidPartitions, self.admin.create_partitions([&fewer], &options()))?;

        self.send_numbers(&self.producer(&[])?, 0..10, 1)?;
        let deleted = block_on(self.admin.delete_records(&self.at(0, Offset::Offset(4))?, &options()))?;
        same("low watermark", Some(Offset::Offset(4)), deleted.elements().first().map(|p| p.offset()))?;
        same("watermarks after the deletion", (4, 10), self.watermarks(0)?)?;

        let member = self.consumer(&[])?;
        member.commit(&self.at(0, Offset::Offset(7))?, CommitMode::Sync)?;
        drop(member);
        same("the group is in the list", true, self.groups()?.contains(&self.topic))?;
        only(self.admin.delete_groups(&[&self.topic], &options()))?;
        same("the deleted group is in the list", false, self.groups()?.contains(&self.topic))?;

        let cluster = self.admin.inner().fetch_cluster_id(TEN_SECONDS).ok_or("no cluster id")?;
        same("length of the cluster id", 22, cluster.len())?;
        only(self.admin.delete_topics(&[&self.topic], &options()))?;
        until(60, "the topic is gone", || Ok(!self.topics()?.contains(&self.topic)))?;
        fails(RDKafkaErrorCode::UnknownTopicOrPartition, self.admin.delete_topics(&[&self.topic], &options()))
    }

    fn retention(&self) -> Result<Option<String>, Box<dyn Error>> {
        let resource = ResourceSpecifier::Topic(&self.topic);
        let described = block_on(self.admin.describe_configs([&resource], &options()))?;
        let resource = described.into_iter().next().ok_or("the topic is not described")??;
        Ok(resource.get("retention.ms").and_then(|entry| entry.value.clone()))
    }

    fn large_message(&self) -> Played {
        self.create(1)?;
        let producer = self.producer(&[("message.max.bytes", "4000000")])?;
        let send = |size: usize| {
            let payload = vec![b'x'; size];
            let record = BaseRecord::<(), [u8]>::to(&self.topic).payload(&payload);
            producer.send(record).map_err(|(error, _)| error)?;
            flush(&producer)
        };
        send(921_600)?;
        let refused = send(1_200_000).err().map(|error| error.to_string());
        same("error", Some("delivery failed: [MessageSizeTooLarge]".to_owned()), refused)?;
        send(5)?;
        let lengths: Vec<_> =
            self.read_all(2)?.iter().map(OwnedMessage::payload).map(|p| p.map(<[u8]>::len)).collect();
        same("lengths", vec![Some(921_600), Some(5)], lengths)
    }

    fn unknown_topic(&self) -> Played {
        let reader = self.consumer(&[("allow.auto.create.topics", "false")])?;
        reader.subscribe(&[&self.topic])?;
        let end = Instant::now() + TEN_SECONDS;
        let mut answer = None;
        while answer.is_none() && Instant::now() < end {
            answer = reader.poll(Duration::from_millis(100)).map(|polled| polled.map(|m| m.detach()));
        }
        let code = answer.and_then(Result::err).and_then(|error| error.rdkafka_error_code());
        same("error", Some(RDKafkaErrorCode::UnknownTopicOrPartition), code)?;
        let producer = self.producer(&[])?;
        let sent = producer.send(BaseRecord::<(), str>::to("not/a/topic").payload("v"));
        match sent {
            Ok(()) => {
                let refused = flush(&producer).err().map(|error| error.to_string());
                same("error", Some("delivery failed: [InvalidTopic]".to_owned()), refused)?;
            }
            // The broker's answer came before the client had chosen a partition.
            Err((error, _)) => {
                same("error", Some(RDKafkaErrorCode::UnknownTopic), error.rdkafka_error_code())?;
            }
        }
        same("the topic was created", false, self.topics()?.contains(&self.topic))
    }

    fn broker_restart(&self) -> Played {
        self.create(3)?;
        let producer = self.producer(&[("enable.idempotence", "true")])?;
        self.send_numbers(&producer, 0..500, 3)?;
        let restarted = Command::new("bash").arg("-c").arg(std::env::var("KLAMM_RESTART_CMD")?).status()?;
        same("the restart command succeeded", true, restarted.success())?;
        self.send_numbers(&producer, 500..1000, 3)?;
        self.in_order_once(1000)
    }
}

/// A member of the group, polling in a thread of its own.
struct Member {
    owned: Arc<Mutex<Vec<i32>>>,
    leaving: Arc<AtomicBool>,
    thread: JoinHandle<KafkaResult<()>>,
}

impl Member {
    fn join(consumer: BaseConsumer, topic: &str) -> KafkaResult<Self> {
        consumer.subscribe(&[topic])?;
        let owned = Arc::new(Mutex::new(Vec::new()));
        let leaving = Arc::new(AtomicBool::new(false));
        let (now, end) = (Arc::clone(&owned), Arc::clone(&leaving));
        let thread = thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                consumer.poll(Duration::from_millis(50)).transpose()?;
                let partitions = consumer.assignment()?.elements().iter().map(|p| p.partition()).collect();
                *now.lock().unwrap_or_else(PoisonError::into_inner) = partitions;
            }
            Ok(())
        });
        Ok(Self { owned, leaving, thread })
    }

    fn owned(&self) -> Vec<i32> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn leave(self) -> Played {
        self.leaving.store(true, Ordering::Relaxed);
        Ok(self.thread.join().map_err(|_| "a member panicked")??)
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(TEN_SECONDS)).operation_timeout(Some(TEN_SECONDS))
}

/// What an admin request answers about its only resource.
fn only(
    request: impl Future<Output = KafkaResult<Vec<Result<String, (String, RDKafkaErrorCode)>>>>,
) -> Played {
    let result = block_on(request)?.into_iter().next().ok_or("an empty answer")?;
    Ok(result.map(drop).map_err(|(_, code)| code)?)
}

fn fails(
    code: RDKafkaErrorCode,
    request: impl Future<Output = KafkaResult<Vec<Result<String, (String, RDKafkaErrorCode)>>>>,
) -> Played {
    let result = block_on(request)?.into_iter().next().ok_or("an empty answer")?;
    same("error", Some(code), result.err().map(|(_, code)| code))
}

fn text(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// Waits until everything has been delivered, and takes the errors of what has not.
fn flush(producer: &BaseProducer<Deliveries>) -> Played {
    producer.flush(Duration::from_secs(40))?;
    let errors =
        std::mem::take(&mut *producer.context().errors.lock().unwrap_or_else(PoisonError::into_inner));
    if errors.is_empty() { Ok(()) } else { Err(format!("delivery failed: {errors:?}").into()) }
}

fn poll(reader: &BaseConsumer, count: usize) -> Result<Vec<OwnedMessage>, Box<dyn Error>> {
    let (mut records, end) = (Vec::new(), Instant::now() + 2 * TEN_SECONDS);
    while records.len() < count {
        if Instant::now() > end {
            return Err(format!("only {} of {count} records came", records.len()).into());
        }
        if let Some(message) = reader.poll(Duration::from_millis(100)) {
            records.push(message?.detach());
        }
    }
    Ok(records)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [scenario, bootstrap] = arguments.as_slice() else {
        eprintln!("usage: SCENARIO HOST:PORT");
        return ExitCode::from(2);
    };
    match Scenario::new(scenario, bootstrap).and_then(|played| played.play(scenario)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("rdkafka-rust: {scenario}: {problem}");
            ExitCode::FAILURE
        }
    }
}
