//! What groups have to know of the cluster: its topics, and how often members have to be heard of.

use std::sync::{Arc, OnceLock};

use imbl::OrdMap;
use twox_hash::XxHash3_64;
use uuid::Uuid;

/// Marks the way in which [`Topic::hash`] is computed.
const TOPIC_HASH_VERSION: u8 = 0;

/// A topic, as far as it matters to those who consume it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: Arc<str>,
    pub id: Uuid,
    pub partitions: i32,
    /// The racks of each partition's replicas; empty where no broker is in a rack.
    pub racks: Vec<Vec<Arc<str>>>,
    hash: OnceLock<i64>,
}

impl Topic {
    /// A topic without racks.
    pub fn new(name: impl Into<Arc<str>>, id: Uuid, partitions: i32) -> Self {
        Self { name: name.into(), id, partitions, racks: Vec::new(), hash: OnceLock::new() }
    }

    /// The same topic, with the racks of each partition's replicas.
    pub fn with_racks(self, racks: Vec<Vec<Arc<str>>>) -> Self {
        Self { racks, ..self }
    }

    /// Changes when the topic's id, its partitions or their racks do (`Utils.computeTopicHash`, KIP-1101).
    pub fn hash(&self) -> i64 {
        *self.hash.get_or_init(|| self.compute_hash())
    }

    fn compute_hash(&self) -> i64 {
        let mut input = HashInput(vec![TOPIC_HASH_VERSION]);
        let (high, low) = self.id.as_u64_pair();
        input.0.extend(high.to_le_bytes());
        input.0.extend(low.to_le_bytes());
        input.text(&self.name);
        input.int(self.partitions);
        for partition in 0..self.partitions {
            input.int(partition);
            let racks = usize::try_from(partition).ok().and_then(|index| self.racks.get(index));
            let mut racks: Vec<&Arc<str>> = racks.into_iter().flatten().collect();
            racks.sort_by_cached_key(|rack| rack.encode_utf16().collect::<Vec<_>>());
            for rack in racks {
                input.length(rack);
                input.text(rack);
            }
        }
        input.hash()
    }
}

/// The bytes that hash4j feeds to XXH3: numbers with the low byte first, texts as UTF-16 with their length behind them.
struct HashInput(Vec<u8>);

impl HashInput {
    fn int(&mut self, number: i32) {
        self.0.extend(number.to_le_bytes());
    }

    fn length(&mut self, text: &str) {
        self.int(i32::try_from(text.encode_utf16().count()).unwrap_or(i32::MAX));
    }

    fn text(&mut self, text: &str) {
        self.0.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
        self.length(text);
    }

    fn hash(&self) -> i64 {
        XxHash3_64::oneshot(&self.0).cast_signed()
    }
}

/// How often the members of a consumer or of a share group have to be heard of, and how often it is assigned anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupTimes {
    /// `consumer.session.timeout.ms`, `share.session.timeout.ms`
    pub session_timeout_ms: i32,
    /// `consumer.heartbeat.interval.ms`, `share.heartbeat.interval.ms`
    pub heartbeat_interval_ms: i32,
    /// `consumer.assignment.interval.ms`, `share.assignment.interval.ms`
    pub assignment_interval_ms: i32,
}

impl Default for GroupTimes {
    fn default() -> Self {
        Self { session_timeout_ms: 45_000, heartbeat_interval_ms: 5_000, assignment_interval_ms: 1_000 }
    }
}

/// How often the members of a streams group have to be heard of, how it is assigned, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamsTimes {
    /// `streams.session.timeout.ms`
    pub session_timeout_ms: i32,
    /// `streams.heartbeat.interval.ms`
    pub heartbeat_interval_ms: i32,
    /// `streams.assignment.interval.ms`
    pub assignment_interval_ms: i32,
    /// `streams.initial.rebalance.delay.ms`
    pub initial_rebalance_delay_ms: i32,
    /// `streams.num.standby.replicas`
    pub standby_replicas: i32,
}

impl Default for StreamsTimes {
    fn default() -> Self {
        Self {
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 5_000,
            assignment_interval_ms: 1_000,
            initial_rebalance_delay_ms: 3_000,
            standby_replicas: 0,
        }
    }
}

/// The cluster at one moment. Cheap to copy: topics are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterView {
    /// The offset of the metadata image that it was taken from.
    pub version: i64,
    /// The version in which topics, partitions or racks changed last.
    pub topics_version: i64,
    /// The version in which a topic was created last.
    pub new_topics_version: i64,
    /// The times of a consumer group that has none of its own.
    pub times: GroupTimes,
    /// The times of a share group that has none of its own.
    pub share_times: GroupTimes,
    /// The same of a streams group.
    pub streams_times: StreamsTimes,
    topics: OrdMap<Arc<str>, Arc<Topic>>,
    names: OrdMap<Uuid, Arc<str>>,
    group_times: OrdMap<Arc<str>, GroupTimes>,
    group_share_times: OrdMap<Arc<str>, GroupTimes>,
    group_streams_times: OrdMap<Arc<str>, StreamsTimes>,
}

impl ClusterView {
    /// A cluster without topics.
    pub fn empty() -> Self {
        Self {
            version: -1,
            topics_version: 0,
            new_topics_version: 0,
            times: GroupTimes::default(),
            share_times: GroupTimes::default(),
            streams_times: StreamsTimes::default(),
            topics: OrdMap::new(),
            names: OrdMap::new(),
            group_times: OrdMap::new(),
            group_share_times: OrdMap::new(),
            group_streams_times: OrdMap::new(),
        }
    }

    /// Takes in a topic, new or changed.
    pub fn put(&mut self, topic: Topic) {
        self.names.insert(topic.id, topic.name.clone());
        self.topics.insert(topic.name.clone(), Arc::new(topic));
    }

    /// Forgets a topic; one of the same name with another id stays.
    pub fn remove(&mut self, id: Uuid) {
        let Some(name) = self.names.remove(&id) else { return };
        if self.topics.get(&name).is_some_and(|topic| topic.id == id) {
            self.topics.remove(&name);
        }
    }

    /// Gives a share group times of its own, or takes them away.
    pub fn set_share_group_times(&mut self, group_id: &Arc<str>, times: Option<GroupTimes>) {
        match times {
            Some(times) => self.group_share_times.insert(group_id.clone(), times),
            None => self.group_share_times.remove(group_id),
        };
    }

    /// Gives a consumer group times of its own, or takes them away.
    pub fn set_group_times(&mut self, group_id: &Arc<str>, times: Option<GroupTimes>) {
        match times {
            Some(times) => self.group_times.insert(group_id.clone(), times),
            None => self.group_times.remove(group_id),
        };
    }

    /// The topic of this name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// The topic with this id.
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.names.get(&id).and_then(|name| self.topics.get(name)).filter(|topic| topic.id == id)
    }

    /// Every topic, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// The times of a share group.
    pub fn share_times_of(&self, group_id: &str) -> GroupTimes {
        self.group_share_times.get(group_id).copied().unwrap_or(self.share_times)
    }

    /// The times of a consumer group.
    pub fn times_of(&self, group_id: &str) -> GroupTimes {
        self.group_times.get(group_id).copied().unwrap_or(self.times)
    }

    /// Gives a streams group times of its own, or takes them away.
    pub fn set_group_streams_times(&mut self, group_id: &Arc<str>, times: Option<StreamsTimes>) {
        match times {
            Some(times) => self.group_streams_times.insert(group_id.clone(), times),
            None => self.group_streams_times.remove(group_id),
        };
    }

    /// The times of a streams group.
    pub fn streams_times_of(&self, group_id: &str) -> StreamsTimes {
        self.group_streams_times.get(group_id).copied().unwrap_or(self.streams_times)
    }

    /// Changes when one of the topics does; 0 where none of them exists (`Utils.computeGroupHash`).
    pub fn hash_of<'a>(&self, names: impl Iterator<Item = &'a Arc<str>>) -> i64 {
        // Names of topics are ASCII: they sort here as they do in Java.
        let mut topics: Vec<&Arc<Topic>> = names.filter_map(|name| self.topics.get(name)).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        let mut input = HashInput(Vec::with_capacity(topics.len() * 8));
        for topic in topics {
            input.0.extend(topic.hash().to_le_bytes());
        }
        if input.0.is_empty() { 0 } else { input.hash() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The numbers are those of Apache Kafka 4.3.1's classes (Utils.computeTopicHash, hash4j).
    #[test]
    fn hashes_are_those_of_kafka() {
        let id = |high, low| Uuid::from_u64_pair(high, low);
        let plain = Topic::new("orders", id(1, 2), 3);
        assert_eq!(plain.hash(), 2_779_785_129_666_336_701);
        let racks = vec![vec!["rack-b".into(), "rack-a".into()], vec!["größe".into()]];
        let in_racks = Topic::new("a.b", id(0x0102_0304_0506_0708, u64::MAX), 2).with_racks(racks);
        assert_eq!(in_racks.hash(), -7_792_503_754_250_140_625);
        assert_eq!(Topic::new("topic-name-".repeat(40), id(7, 8), 100).hash(), 4_972_667_307_846_053_523);

        let mut view = ClusterView::empty();
        view.put(plain);
        view.put(in_racks);
        let names: [Arc<str>; 3] = ["orders".into(), "nowhere".into(), "a.b".into()];
        assert_eq!(view.hash_of(names.iter()), -6_608_205_288_437_429_176);
        assert_eq!(view.hash_of(names[1..2].iter()), 0);
    }

    #[test]
    fn a_topic_that_was_made_again_is_another_one() {
        let mut view = ClusterView::empty();
        view.put(Topic::new("t", Uuid::from_u128(1), 1));
        view.put(Topic::new("t", Uuid::from_u128(2), 1));
        view.remove(Uuid::from_u128(1));
        assert_eq!(view.topic("t").map(|topic| topic.id), Some(Uuid::from_u128(2)));
        assert!(view.topic_by_id(Uuid::from_u128(1)).is_none());
    }
}
