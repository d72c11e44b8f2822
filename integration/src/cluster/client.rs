//! Clients of a cluster: they find out who leads, and go on with the next leader after a failure.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::describe_quorum_response::PartitionData as QuorumDescription;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{
    CreateTopicsRequest, DescribeClusterRequest, DescribeQuorumRequest, FindCoordinatorRequest, GroupId,
    MetadataRequest, OffsetCommitRequest, OffsetFetchRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::load::{Acknowledged, Fetched, Identity, ProducedBatch, Shape, init_producer_id, try_fetch};
use crate::wire::Connection;

/// How long a connection may take to come about: nodes are near, or cut off.
const CONNECT: Duration = Duration::from_millis(1000);
/// How long an answer may take before another node is asked: longer than what a replica may hold a request back for.
const ANSWER: Duration = Duration::from_millis(4000);
/// How long a client waits before it asks again who leads.
const BACKOFF: Duration = Duration::from_millis(20);
/// How many batches of a partition may be unanswered.
const IN_FLIGHT: usize = 4;

/// A partition as the metadata describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub index: i32,
    /// -1 where nobody leads.
    pub leader: i32,
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
}

/// Where brokers are, as far as one has been told.
#[derive(Clone, Debug)]
pub struct Routes {
    bootstrap: Vec<String>,
    brokers: BTreeMap<i32, String>,
    connect: Duration,
    answer: Duration,
}

fn name(text: &str) -> TopicName {
    TopicName(StrBytes::from_string(text.to_owned()))
}

impl Routes {
    /// Knows these brokers, as `HOST:PORT`.
    #[must_use]
    pub fn new(bootstrap: Vec<String>) -> Self {
        Self { bootstrap, brokers: BTreeMap::new(), connect: CONNECT, answer: ANSWER }
    }

    /// The same, where an answer may take so long.
    #[must_use]
    pub fn patient_for(mut self, answer: Duration) -> Self {
        self.answer = answer;
        self.connect = answer.min(CONNECT);
        self
    }

    /// The same for each broker alone.
    #[must_use]
    pub fn one_by_one(&self) -> Vec<Self> {
        let alone = |address: &String| Self { bootstrap: vec![address.clone()], ..self.clone() };
        self.bootstrap.iter().map(alone).collect()
    }

    /// A connection to this address.
    ///
    /// # Errors
    /// When nobody answers there.
    pub fn open(&self, address: &str) -> io::Result<Connection> {
        Connection::open_within(address, self.connect, self.answer)
    }

    /// Asks one broker after the other.
    fn ask<T>(&self, mut question: impl FnMut(&mut Connection) -> io::Result<T>) -> Option<T> {
        self.bootstrap.iter().find_map(|address| {
            let mut connection = self.open(address).ok()?;
            question(&mut connection).ok()
        })
    }

    /// The ids of the brokers that serve.
    #[must_use]
    pub fn brokers(&self) -> Option<Vec<i32>> {
        self.ask(|connection| {
            let response = connection.call(12, &MetadataRequest::default().with_topics(Some(Vec::new())))?;
            Ok(response.brokers.iter().map(|broker| broker.node_id.0).collect())
        })
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster_id(&self) -> Option<String> {
        self.ask(|connection| {
            let response = connection.call(0, &DescribeClusterRequest::default())?;
            Ok(response.cluster_id.to_string())
        })
    }

    /// Which controller is active.
    #[must_use]
    pub fn quorum_leader(&self) -> Option<i32> {
        self.quorum_epoch().map(|(_, leader)| leader).filter(|leader| *leader >= 0)
    }

    /// The quorum's epoch and who leads in it.
    #[must_use]
    pub fn quorum_epoch(&self) -> Option<(i32, i32)> {
        self.quorum().map(|found| (found.leader_epoch, found.leader_id.0))
    }

    /// Who votes.
    #[must_use]
    pub fn voters(&self) -> Option<Vec<i32>> {
        self.quorum().map(|found| found.current_voters.iter().map(|voter| voter.replica_id.0).collect())
    }

    fn quorum(&self) -> Option<QuorumDescription> {
        let partition = PartitionData::default().with_partition_index(0);
        let topic =
            TopicData::default().with_topic_name(name("__cluster_metadata")).with_partitions(vec![partition]);
        let request = DescribeQuorumRequest::default().with_topics(vec![topic]);
        self.ask(|connection| {
            let response = connection.call(1, &request)?;
            let error_code = response.error_code;
            let found =
                response.topics.into_iter().next().and_then(|topic| topic.partitions.into_iter().next());
            let found = found.filter(|found| error_code == 0 && found.error_code == 0);
            found.ok_or_else(|| io::Error::other("no answer about the quorum"))
        })
    }

    /// The partitions of a topic, in their order; `None` where nobody tells, or there is no such topic.
    pub fn partitions(&self, topic: &str) -> Option<Vec<Partition>> {
        self.describe(topic).map(|(partitions, _)| partitions)
    }

    fn describe(&self, topic: &str) -> Option<(Vec<Partition>, BTreeMap<i32, String>)> {
        let asked = MetadataRequestTopic::default().with_name(Some(name(topic)));
        let request = MetadataRequest::default().with_topics(Some(vec![asked]));
        self.ask(|connection| {
            let response = connection.call(12, &request)?;
            let found = response.topics.into_iter().next().filter(|found| found.error_code == 0);
            let found = found.ok_or_else(|| io::Error::other("no such topic"))?;
            let ids = |list: &[kafka_protocol::messages::BrokerId]| list.iter().map(|id| id.0).collect();
            let mut partitions: Vec<Partition> = found
                .partitions
                .iter()
                .map(|partition| Partition {
                    index: partition.partition_index,
                    leader: partition.leader_id.0,
                    leader_epoch: partition.leader_epoch,
                    replicas: ids(&partition.replica_nodes),
                    in_sync: ids(&partition.isr_nodes),
                })
                .collect();
            partitions.sort_unstable_by_key(|partition| partition.index);
            let address = |host: &str, port: i32| format!("{host}:{port}");
            let brokers = response.brokers.iter();
            let brokers = brokers.map(|broker| (broker.node_id.0, address(&broker.host, broker.port)));
            Ok((partitions, brokers.collect()))
        })
    }

    /// Where the leader of a partition is.
    ///
    /// # Errors
    /// When nobody knows one.
    pub fn leader_address(&mut self, topic: &str, partition: i32) -> io::Result<String> {
        let (partitions, brokers) =
            self.describe(topic).ok_or_else(|| io::Error::other("nobody knows the topic"))?;
        self.brokers.extend(brokers);
        let leader = partitions.iter().find(|one| one.index == partition).map(|one| one.leader);
        let address = leader.and_then(|leader| self.brokers.get(&leader));
        address.cloned().ok_or_else(|| io::Error::other("nobody leads the partition"))
    }

    /// A connection to the leader of a partition.
    ///
    /// # Errors
    /// When nobody knows one, or it does not answer.
    pub fn leader(&mut self, topic: &str, partition: i32) -> io::Result<Connection> {
        let address = self.leader_address(topic, partition)?;
        self.open(&address)
    }

    /// Where the coordinator is: of a group for 0, of a transactional id for 1.
    ///
    /// # Errors
    /// When nobody knows it.
    pub fn coordinator_address(&self, key: &str, key_type: i8) -> io::Result<String> {
        let key = StrBytes::from_string(key.to_owned());
        let request =
            FindCoordinatorRequest::default().with_key_type(key_type).with_coordinator_keys(vec![key]);
        let found = self.ask(|connection| {
            let response = connection.call(4, &request)?;
            let found = &response.coordinators[0];
            if found.error_code != 0 {
                return Err(io::Error::other(format!("FindCoordinator answers {}", found.error_code)));
            }
            Ok(format!("{}:{}", found.host.as_str(), found.port))
        });
        found.ok_or_else(|| io::Error::other("nobody knows the coordinator"))
    }

    /// A connection to the coordinator of a group.
    ///
    /// # Errors
    /// When nobody knows it, or it does not answer.
    pub fn coordinator(&self, group: &str) -> io::Result<Connection> {
        self.open(&self.coordinator_address(group, 0)?)
    }

    /// Creates a topic and waits until it has leaders.
    ///
    /// # Panics
    /// When that does not come about.
    pub fn create_topic(&self, topic: &str, partitions: i32, replicas: i16, config: &[(&str, &str)]) {
        let entry = |(key, value): &(&str, &str)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_string((*key).to_owned()))
                .with_value(Some(StrBytes::from_string((*value).to_owned())))
        };
        let wanted = CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(replicas)
            .with_configs(config.iter().map(entry).collect());
        let request = CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(10_000);
        let patient = self.clone().patient_for(Duration::from_secs(15));
        crate::until(&format!("{topic} to be created"), super::PATIENCE, || {
            let code = patient.ask(|connection| Ok(connection.call(7, &request)?.topics[0].error_code))?;
            // It may have been created when the answer was lost.
            assert!([0, 36, 41, 7, 14, 38].contains(&code), "CreateTopics answers {code}");
            (code == 0 || code == 36).then_some(())
        });
        crate::until(&format!("leaders of {topic}"), super::PATIENCE, || {
            let found = self.partitions(topic)?;
            let expected = usize::try_from(partitions).ok()?;
            (found.len() == expected && found.iter().all(|one| one.leader >= 0)).then_some(())
        });
    }
}

/// What an answer to a produce request means for an idempotent producer.
enum Verdict {
    Stored(i64),
    /// It was stored before, nobody says where.
    StoredBefore,
    /// To be sent again, perhaps to another leader.
    Again(i16),
}

fn verdict(code: i16, base_offset: i64) -> Verdict {
    match code {
        0 if base_offset >= 0 => Verdict::Stored(base_offset),
        0 | 46 => Verdict::StoredBefore,
        // UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE, NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT,
        // NETWORK_EXCEPTION, NOT_ENOUGH_REPLICAS, NOT_ENOUGH_REPLICAS_AFTER_APPEND, OUT_OF_ORDER_SEQUENCE_NUMBER
        // behind a batch that was refused, KAFKA_STORAGE_ERROR, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH.
        3 | 5 | 6 | 7 | 13 | 19 | 20 | 45 | 56 | 74 | 75 => Verdict::Again(code),
        code => panic!("a producer is answered {code}"),
    }
}

/// An idempotent producer with `acks=all` of one partition, that goes on with the next leader after a failure.
pub struct Writer {
    number: u16,
    partition: i32,
    shape: Shape,
    identity: Option<(i64, i16)>,
    /// Whether a batch of it was stored. A leader takes any sequence number of a producer that it does not know, as
    /// Kafka's does: the first batch goes alone, so that none behind it is stored after it was refused.
    is_known: bool,
    count: i32,
    in_flight: VecDeque<ProducedBatch>,
}

impl Writer {
    /// The writer of this number, which is its own in the whole test.
    #[must_use]
    pub fn new(number: u16, partition: i32, shape: Shape) -> Self {
        Self {
            number,
            partition,
            shape,
            identity: None,
            is_known: false,
            count: 0,
            in_flight: VecDeque::new(),
        }
    }

    /// How many records were handed out so far.
    #[must_use]
    pub fn handed_out(&self) -> i32 {
        self.count
    }

    /// Produces until `stop` says so, and then until all is answered; hands over what is acknowledged. An offset of
    /// -1 says that the record was stored earlier.
    ///
    /// # Panics
    /// When the first of the unanswered records is refused for longer than [`super::PATIENCE`].
    pub fn run(
        &mut self,
        routes: &mut Routes,
        mut acknowledged: impl FnMut(Acknowledged),
        stop: impl Fn() -> bool,
        pace: Duration,
    ) {
        let mut progress = Instant::now();
        let mut complaint = String::new();
        while !(stop() && self.in_flight.is_empty()) {
            let result = self.play(routes, &mut progress, &mut acknowledged, &stop, pace);
            if let Err(error) = result {
                complaint = error.to_string();
                thread::sleep(BACKOFF);
            }
            assert!(
                progress.elapsed() < super::PATIENCE,
                "producer {} has no acknowledgement for {:?}: {complaint}",
                self.number,
                super::PATIENCE
            );
        }
    }

    fn play(
        &mut self,
        routes: &mut Routes,
        progress: &mut Instant,
        acknowledged: &mut impl FnMut(Acknowledged),
        stop: &impl Fn() -> bool,
        pace: Duration,
    ) -> io::Result<()> {
        let mut connection = routes.leader(&self.shape.topic, self.partition)?;
        if self.identity.is_none() {
            self.identity = Some(init_producer_id(&mut connection)?);
        }
        for batch in &self.in_flight {
            batch.send(&mut connection, &self.shape)?;
        }
        loop {
            let in_flight_max = if self.is_known { IN_FLIGHT } else { 1 };
            while self.in_flight.len() < in_flight_max && !stop() {
                let first = Identity { producer: self.number, count: self.count };
                let batch = ProducedBatch::new(first, self.partition, &self.shape, self.identity);
                self.count += self.shape.batch_records;
                let sent = batch.send(&mut connection, &self.shape);
                self.in_flight.push_back(batch);
                sent?;
                thread::sleep(pace);
            }
            if self.in_flight.is_empty() {
                return Ok(());
            }
            let (code, base_offset) = ProducedBatch::receive(&mut connection)?;
            let base_offset = match verdict(code, base_offset) {
                Verdict::Stored(base_offset) => base_offset,
                Verdict::StoredBefore => -1,
                Verdict::Again(code) => return Err(io::Error::other(format!("Produce answers {code}"))),
            };
            self.is_known = true;
            if let Some(batch) = self.in_flight.pop_front() {
                acknowledged(batch.acknowledged(base_offset));
            }
            *progress = Instant::now();
        }
    }
}

/// Reads a partition from an offset on, from its leader or from one broker.
pub struct Reader {
    topic: String,
    partition: i32,
    /// Reads from this broker, whoever leads; `None`: from the leader.
    from: Option<String>,
    connection: Option<Connection>,
}

impl Reader {
    #[must_use]
    pub fn of_leader(topic: &str, partition: i32) -> Self {
        Self { topic: topic.to_owned(), partition, from: None, connection: None }
    }

    /// Reads what this broker has, as a follower too.
    #[must_use]
    pub fn of_replica(topic: &str, partition: i32, address: String) -> Self {
        Self { topic: topic.to_owned(), partition, from: Some(address), connection: None }
    }

    /// What there is from this offset on; `None` where nobody answers now.
    ///
    /// # Panics
    /// When the offset is out of range, which for an offset that was read means that records were lost.
    pub fn read(&mut self, routes: &mut Routes, offset: i64) -> Option<Fetched> {
        let Self { topic, partition, from, .. } = self;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => match from {
                Some(address) => routes.open(address).ok()?,
                None => routes.leader(topic, *partition).ok()?,
            },
        };
        match try_fetch(&mut connection, topic, *partition, offset).ok()? {
            Ok(found) => {
                self.connection = Some(connection);
                Some(found)
            }
            Err(1) => panic!("offset {offset} of {topic}-{partition} is out of range: what was read is lost"),
            // UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE, NOT_LEADER_OR_FOLLOWER, REPLICA_NOT_AVAILABLE,
            // KAFKA_STORAGE_ERROR, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, OFFSET_NOT_AVAILABLE.
            Err(3 | 5 | 6 | 9 | 56 | 74 | 75 | 78) => None,
            Err(code) => panic!("Fetch of {topic}-{partition} answers {code}"),
        }
    }
}

/// Commits an offset of partition 0; `Ok(false)` where the coordinator is moving.
///
/// # Errors
/// When nobody answers: nobody knows then whether it was stored.
///
/// # Panics
/// When it is refused.
pub fn commit(connection: &mut Connection, group: &str, topic: &str, offset: i64) -> io::Result<bool> {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(0)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(StrBytes::from_string(offset.to_string())));
    let topic = OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let response = connection.call(9, &request)?;
    match response.topics[0].partitions[0].error_code {
        0 => Ok(true),
        // The coordinator loads, is elsewhere, or its replicas are not there; the request timed out; it does not know
        // the topic yet.
        3 | 7 | 14..=16 => Ok(false),
        code => panic!("OffsetCommit answers {code}"),
    }
}

/// The committed offset of partition 0 with its metadata; `None` where the coordinator is moving.
///
/// # Errors
/// When nobody answers.
///
/// # Panics
/// When it is refused.
pub fn committed(connection: &mut Connection, group: &str, topic: &str) -> io::Result<Option<(i64, String)>> {
    let topic = OffsetFetchRequestTopics::default().with_name(name(topic)).with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
        .with_topics(Some(vec![topic]));
    let request = OffsetFetchRequest::default().with_groups(vec![group]);
    let response = connection.call(8, &request)?;
    match response.groups[0].error_code {
        0 => {
            let found = &response.groups[0].topics[0].partitions[0];
            assert_eq!(found.error_code, 0, "OffsetFetch");
            Ok(Some((found.committed_offset, found.metadata.as_deref().unwrap_or_default().to_owned())))
        }
        7 | 14..=16 => Ok(None),
        code => panic!("OffsetFetch answers {code}"),
    }
}
