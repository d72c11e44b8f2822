//! The few requests around the load: topics, their ends, producer ids.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use integration::wire::Connection;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, DeleteTopicsRequest, InitProducerIdRequest, ListOffsetsRequest,
    MetadataRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::batch::int;
use crate::wire::refused;

const CREATE_TOPICS_VERSION: i16 = 7;
const DELETE_TOPICS_VERSION: i16 = 4;
const METADATA_VERSION: i16 = 12;
const LIST_OFFSETS_VERSION: i16 = 7;
const INIT_PRODUCER_ID_VERSION: i16 = 4;
/// How long a broker that was just started may need until it leads its partitions: Apache Kafka with many takes minutes.
const PATIENCE: Duration = Duration::from_secs(180);

/// Asks again until there is an answer, or patience is over.
fn until<T>(mut ask: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Err(_) if Instant::now() < end => thread::sleep(Duration::from_millis(2)),
            outcome => return outcome,
        }
    }
}

/// A topic of the load.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id, by which it is produced to and fetched.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: i32,
}

fn name(text: &str) -> TopicName {
    TopicName(StrBytes::from_string(text.to_owned()))
}

impl Topic {
    /// Creates a topic and waits until all its partitions answer.
    ///
    /// # Errors
    /// When the broker refuses, or takes too long.
    pub fn create(
        bootstrap: &str,
        topic: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> io::Result<Self> {
        let mut connection = Connection::open(bootstrap)?;
        let id = create(&mut connection, topic, partitions, configs)?;
        let topic = Self { name: topic.to_owned(), id, partitions };
        topic.wait(&mut connection)?;
        Ok(topic)
    }

    /// Waits until every partition answers; tells the offset behind the last record of each.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait(&self, connection: &mut Connection) -> io::Result<Vec<i64>> {
        until(|| self.ends(connection))
    }

    /// Finds a topic, as soon as the broker knows it.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn find(bootstrap: &str, topic: &str) -> io::Result<Self> {
        until(|| Self::find_now(bootstrap, topic))
    }

    fn find_now(bootstrap: &str, topic: &str) -> io::Result<Self> {
        let request = MetadataRequest::default()
            .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(name(topic)))]))
            .with_allow_auto_topic_creation(false);
        let response = Connection::open(bootstrap)?.call(METADATA_VERSION, &request)?;
        let found = response.topics.into_iter().next().ok_or_else(|| io::Error::other("no such topic"))?;
        if found.error_code != 0 {
            return Err(refused(topic, found.error_code));
        }
        Ok(Self { name: topic.to_owned(), id: found.topic_id, partitions: int(found.partitions.len())? })
    }

    fn ends(&self, connection: &mut Connection) -> io::Result<Vec<i64>> {
        let partitions = (0..self.partitions)
            .map(|index| ListOffsetsPartition::default().with_partition_index(index).with_timestamp(-1))
            .collect();
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![
            ListOffsetsTopic::default().with_name(name(&self.name)).with_partitions(partitions),
        ]);
        let response = connection.call(LIST_OFFSETS_VERSION, &request)?;
        let topic = response.topics.first().ok_or_else(|| io::Error::other("no offsets"))?;
        let mut ends = vec![0; topic.partitions.len()];
        for partition in &topic.partitions {
            if partition.error_code != 0 {
                return Err(refused("the end of a partition", partition.error_code));
            }
            let end = usize::try_from(partition.partition_index).ok().and_then(|index| ends.get_mut(index));
            *end.ok_or_else(|| io::Error::other("a partition that was not asked for"))? = partition.offset;
        }
        Ok(ends)
    }

    /// Deletes the topic.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn delete(&self, bootstrap: &str) -> io::Result<()> {
        let request =
            DeleteTopicsRequest::default().with_topic_names(vec![name(&self.name)]).with_timeout_ms(30_000);
        let response = Connection::open(bootstrap)?.call(DELETE_TOPICS_VERSION, &request)?;
        match response.responses.first() {
            Some(deleted) if deleted.error_code == 0 => Ok(()),
            Some(deleted) => Err(refused(&self.name, deleted.error_code)),
            None => Err(io::Error::other("no answer for the topic")),
        }
    }
}

/// Creates a topic on this connection, without waiting for its partitions; answers its id.
///
/// # Errors
/// When the broker refuses.
pub fn create(
    connection: &mut Connection,
    topic: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> io::Result<Uuid> {
    let configs = configs
        .iter()
        .map(|(key, value)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_string((*key).to_owned()))
                .with_value(Some(StrBytes::from_string((*value).to_owned())))
        })
        .collect();
    let topic = CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(60_000);
    let response = connection.call(CREATE_TOPICS_VERSION, &request)?;
    match response.topics.first() {
        Some(created) if created.error_code == 0 => Ok(created.topic_id),
        Some(created) => Err(refused("a topic", created.error_code)),
        None => Err(io::Error::other("no answer for the topic")),
    }
}

/// The producer id and epoch of a new idempotent producer. Asks again while the broker is still starting to give them.
///
/// # Errors
/// When the broker refuses.
pub fn init_producer_id(bootstrap: &str) -> io::Result<(i64, i16)> {
    let mut connection = Connection::open(bootstrap)?;
    let request = InitProducerIdRequest::default().with_transactional_id(None);
    until(|| {
        let response = connection.call(INIT_PRODUCER_ID_VERSION, &request)?;
        match response.error_code {
            0 => Ok((response.producer_id.0, response.producer_epoch)),
            code => Err(refused("a producer id", code)),
        }
    })
}

/// Asks for the metadata of all topics; answers how many partitions there are.
///
/// # Errors
/// When there is no answer.
pub fn metadata(bootstrap: &str) -> io::Result<usize> {
    let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
    let response = Connection::open(bootstrap)?.call(METADATA_VERSION, &request)?;
    Ok(response.topics.iter().map(|topic| topic.partitions.len()).sum())
}
