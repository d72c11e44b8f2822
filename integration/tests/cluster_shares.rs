//! A share group of several members over three brokers, of which leaders of share partitions, share coordinators and the
//! group's coordinator are killed: every record that a producer was told to be stored is delivered, and none whose
//! acceptance was acknowledged is delivered again.
//!
//! `KLAMM_TEST_CLUSTER=kafka` runs the same against three nodes of Apache Kafka.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use integration::cluster::client::{Routes, Writer};
use integration::cluster::{Cluster, Kind, Layout, Voters};
use integration::load::{Acknowledged, Shape};
use integration::wire::Connection;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::share_acknowledge_request::{
    AcknowledgePartition, AcknowledgeTopic, AcknowledgementBatch,
};
use kafka_protocol::messages::share_fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{
    GroupId, IncrementalAlterConfigsRequest, MetadataRequest, ShareAcknowledgeRequest, ShareFetchRequest,
    ShareGroupHeartbeatRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;

const TOPIC: &str = "jobs";
const GROUP: &str = "crew";
/// Where share coordinators keep the state.
const STATE: &str = "__share_group_state";
const PARTITIONS: i32 = 3;
/// Four for each partition.
const MEMBERS: u8 = 12;
const LOSSES: usize = 3;
/// How long a record is held by a member that says nothing, the shortest that brokers allow here.
const LOCK_MS: &str = "1000";
/// Longer than any run takes a record to be delivered; each loss of a leader may cost one delivery.
const ATTEMPTS: &str = "10";
const PACE: Duration = Duration::from_millis(20);
const ACCEPT: i8 = 1;

/// A record: its partition and its offset.
type Place = (i32, i64);

/// What was delivered and accepted.
#[derive(Default)]
struct Seen {
    delivered: HashSet<Place>,
    /// What brokers have acknowledged to be accepted.
    accepted: HashSet<Place>,
    /// Deliveries beyond the first of a record.
    again: u64,
    /// Deliveries of what had been accepted, which must not be.
    wrong: Vec<Place>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// What the metadata say of the topic.
fn described(connection: &mut Connection) -> io::Result<MetadataResponseTopic> {
    let asked = MetadataRequestTopic::default().with_name(Some(TopicName(text(TOPIC))));
    let answer = connection.call(12, &MetadataRequest::default().with_topics(Some(vec![asked])))?;
    answer.topics.into_iter().next().ok_or_else(|| io::Error::other("no such topic"))
}

/// A member of the group, which fetches from one partition, as every member is assigned all of few.
struct Member<'a> {
    id: String,
    partition: i32,
    routes: Routes,
    seen: &'a Mutex<Seen>,
    stop: &'a AtomicBool,
}

impl Member<'_> {
    fn stops(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Keeps the member in the group, at whatever broker coordinates it.
    fn stay(&self) {
        let mut epoch = 0;
        while !self.stops() {
            // Errors mean that the coordinator is moving.
            let _ = self
                .routes
                .coordinator(GROUP)
                .and_then(|mut coordinator| self.beat(&mut coordinator, &mut epoch));
            thread::sleep(PACE);
        }
    }

    fn beat(&self, coordinator: &mut Connection, epoch: &mut i32) -> io::Result<()> {
        while !self.stops() {
            let topics = (*epoch == 0).then(|| vec![TopicName(text(TOPIC))]);
            let beat = ShareGroupHeartbeatRequest::default()
                .with_group_id(GroupId(text(GROUP)))
                .with_member_id(text(&self.id))
                .with_member_epoch(*epoch)
                .with_subscribed_topic_names(topics);
            let answer = coordinator.call(1, &beat)?;
            match answer.error_code {
                0 => *epoch = answer.member_epoch,
                // The coordinator loads or is elsewhere.
                14..=16 => return Ok(()),
                // UNKNOWN_MEMBER_ID, FENCED_MEMBER_EPOCH: it joins again.
                25 | 110 => *epoch = 0,
                code => panic!("ShareGroupHeartbeat answers {code}: {:?}", answer.error_message),
            }
            thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    fn work(&mut self) {
        while !self.stops() {
            // Errors mean that the leader is moving.
            let _ =
                self.routes.leader(TOPIC, self.partition).and_then(|mut leader| self.consume(&mut leader));
            thread::sleep(PACE);
        }
    }

    /// Fetches and accepts in a new share session, until the connection or the session ends.
    fn consume(&self, leader: &mut Connection) -> io::Result<()> {
        let topic_id = described(leader)?.topic_id;
        let mut epoch = 0;
        while !self.stops() {
            let partition = FetchPartition::default().with_partition_index(self.partition);
            let topic = FetchTopic::default().with_topic_id(topic_id).with_partitions(vec![partition]);
            let fetch = ShareFetchRequest::default()
                .with_group_id(Some(GroupId(text(GROUP))))
                .with_member_id(Some(text(&self.id)))
                .with_share_session_epoch(epoch)
                .with_max_wait_ms(200)
                .with_min_bytes(1)
                .with_max_bytes(1 << 20)
                .with_max_records(50)
                .with_batch_size(50)
                .with_topics(if epoch == 0 { vec![topic] } else { Vec::new() });
            let answer = leader.call(1, &fetch)?;
            if answer.error_code != 0 {
                return Err(io::Error::other(format!("ShareFetch answers {}", answer.error_code)));
            }
            epoch += 1;
            let mut acquired = Vec::new();
            for data in answer.responses.iter().flat_map(|topic| &topic.partitions) {
                if data.error_code != 0 {
                    return Err(io::Error::other(format!("the partition answers {}", data.error_code)));
                }
                acquired.extend(
                    data.acquired_records.iter().map(|range| (range.first_offset, range.last_offset)),
                );
            }
            if !acquired.is_empty() {
                self.deliver(&acquired);
                self.accept(leader, AcknowledgeTopic::default().with_topic_id(topic_id), epoch, &acquired)?;
                epoch += 1;
            }
        }
        Ok(())
    }

    fn accept(
        &self,
        leader: &mut Connection,
        topic: AcknowledgeTopic,
        epoch: i32,
        acquired: &[(i64, i64)],
    ) -> io::Result<()> {
        let batches = acquired.iter().map(|(first, last)| {
            AcknowledgementBatch::default()
                .with_first_offset(*first)
                .with_last_offset(*last)
                .with_acknowledge_types(vec![ACCEPT])
        });
        let partition = AcknowledgePartition::default()
            .with_partition_index(self.partition)
            .with_acknowledgement_batches(batches.collect());
        let topic = topic.with_partitions(vec![partition]);
        let accept = ShareAcknowledgeRequest::default()
            .with_group_id(Some(GroupId(text(GROUP))))
            .with_member_id(Some(text(&self.id)))
            .with_share_session_epoch(epoch)
            .with_topics(vec![topic]);
        let answer = leader.call(1, &accept)?;
        let code =
            answer.responses.iter().flat_map(|topic| &topic.partitions).map(|data| data.error_code).next();
        if answer.error_code != 0 || code != Some(0) {
            return Err(io::Error::other(format!("ShareAcknowledge answers {code:?}")));
        }
        let places = acquired.iter().flat_map(|(first, last)| *first..=*last);
        lock(self.seen).accepted.extend(places.map(|offset| (self.partition, offset)));
        Ok(())
    }

    fn deliver(&self, acquired: &[(i64, i64)]) {
        let mut seen = lock(self.seen);
        for offset in acquired.iter().flat_map(|(first, last)| *first..=*last) {
            let place = (self.partition, offset);
            if seen.accepted.contains(&place) {
                seen.wrong.push(place);
            }
            if !seen.delivered.insert(place) {
                seen.again += 1;
            }
        }
    }
}

/// Sets configurations of the group.
fn configure(cluster: &mut Cluster) {
    let entries = [
        ("share.auto.offset.reset", "earliest"),
        ("share.record.lock.duration.ms", LOCK_MS),
        ("share.delivery.count.limit", ATTEMPTS),
    ];
    let entry = |(name, value): (&str, &str)| {
        AlterableConfig::default().with_name(text(name)).with_value(Some(text(value)))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(32)
        .with_resource_name(text(GROUP))
        .with_configs(entries.into_iter().map(entry).collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let address = cluster.node(1).address();
    let mut connection = cluster.routes().open(&address).expect("node 1 serves");
    let answer = connection.call(1, &request).expect("node 1 answers");
    assert_eq!(answer.responses[0].error_code, 0, "{:?}", answer.responses[0].error_message);
}

/// The node that leads a partition of the topic or of the state, or that coordinates the group.
fn victim(cluster: &mut Cluster, loss: usize) -> i32 {
    cluster.until("a victim", |cluster| {
        let mut routes = cluster.routes();
        let address = match loss % 3 {
            0 => routes.leader_address(TOPIC, 0),
            1 => routes.leader_address(STATE, 0),
            _ => routes.coordinator_address(GROUP, 0),
        };
        let address = address.ok()?;
        cluster.nodes.iter().find(|node| node.address() == address && node.is_up()).map(|node| node.id)
    })
}

/// What producers were told to be stored and nobody was given. An acceptance whose answer was lost may hold.
fn missing(acknowledged: &Mutex<Vec<Acknowledged>>, seen: &Mutex<Seen>) -> Vec<Place> {
    let seen = lock(seen);
    let known = lock(acknowledged);
    let places = known
        .iter()
        .filter(|one| one.base_offset >= 0)
        .flat_map(|one| (0..i64::from(one.records)).map(|at| (one.partition, one.base_offset + at)));
    places.filter(|place| !seen.delivered.contains(place)).collect()
}

fn more(cluster: &mut Cluster, seen: &Mutex<Seen>, count: usize) {
    let by_partition = |partition| lock(seen).accepted.iter().filter(|place| place.0 == partition).count();
    for partition in 0..PARTITIONS {
        let goal = by_partition(partition) + count;
        cluster.until(&format!("accepted records of partition {partition}"), |_| {
            (by_partition(partition) >= goal).then_some(())
        });
    }
}

/// Ends the threads, also when the test fails.
struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_share_group_survives_the_loss_of_leaders_and_coordinators() {
    let layout = Layout::three(Kind::under_test(), Voters::Fixed).quick();
    let layout = layout
        .with("replica.lag.time.max.ms", "2000")
        .with("group.share.min.record.lock.duration.ms", LOCK_MS);
    let mut cluster = Cluster::start(layout);
    cluster.routes().create_topic(TOPIC, PARTITIONS, 3, &[]);
    configure(&mut cluster);
    let (seen, acknowledged) = (Mutex::<Seen>::default(), Mutex::<Vec<Acknowledged>>::default());
    let (written, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut longest = Duration::ZERO;
    thread::scope(|scope| {
        let (_written, _stop) = (Finish(&written), Finish(&stop));
        let (seen, acknowledged, written, stop) = (&seen, &acknowledged, &written, &stop);
        let shape = Shape { topic: TOPIC.into(), partitions: PARTITIONS, batch_records: 5, value_bytes: 100 };
        let mut writers = Vec::new();
        for partition in 0..PARTITIONS {
            let (mut routes, shape) = (cluster.routes(), shape.clone());
            writers.push(scope.spawn(move || {
                let mut writer = Writer::new(u16::try_from(partition).unwrap_or(0), partition, shape);
                let note = |one| lock(acknowledged).push(one);
                writer.run(&mut routes, note, || written.load(Ordering::SeqCst), PACE);
            }));
        }
        for number in 0..MEMBERS {
            let (partition, routes) = (i32::from(number) % PARTITIONS, cluster.routes());
            // Members choose their ids, which are random ones in life.
            let id = format!("AAAAAAAAAAAAAAAAAAAA{}A", char::from(b'A' + number));
            let mut member = Member { id: id.clone(), partition, routes: routes.clone(), seen, stop };
            scope.spawn(move || Member { id, partition, routes, seen, stop }.stay());
            scope.spawn(move || member.work());
        }
        more(&mut cluster, seen, 20);
        for loss in 0..LOSSES {
            for topic in [TOPIC, "__consumer_offsets", STATE] {
                cluster.await_in_sync(topic);
            }
            more(&mut cluster, seen, 50);
            let id = victim(&mut cluster, loss);
            let lost = Instant::now();
            cluster.kill9(id);
            more(&mut cluster, seen, 50);
            longest = longest.max(lost.elapsed());
            cluster.launch(id);
            cluster.await_brokers();
        }
        written.store(true, Ordering::SeqCst);
        for writer in writers {
            assert!(writer.join().is_ok(), "a writer failed; see above");
        }
        cluster
            .until("every record to be accepted", |_| missing(acknowledged, seen).is_empty().then_some(()));
    });
    let seen = lock(&seen);
    let by_partition = seen.accepted.iter().fold(BTreeMap::<i32, u64>::new(), |mut counts, place| {
        *counts.entry(place.0).or_default() += 1;
        counts
    });
    // A closed standard error is no reason to fail.
    let _ = writeln!(
        io::stderr(),
        "accepted by partition: {by_partition:?}, {} delivered, {} times again, {LOSSES} losses, 50 accepted in each \
         partition without a node within {longest:.1?}",
        seen.delivered.len(),
        seen.again
    );
    assert!(seen.wrong.is_empty(), "accepted records came again: {:?}", seen.wrong);
}
