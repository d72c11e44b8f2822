//! The topology of a streams application, as its members describe it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A topology (`StreamsTopology`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    pub epoch: i32,
    /// By id.
    pub subtopologies: BTreeMap<Arc<str>, Subtopology>,
}

/// A part of a topology that is connected to others by topics only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subtopology {
    pub source_topics: Vec<Arc<str>>,
    /// Not served by Kafka 4.3 either; kept as records may have it.
    pub source_topic_regex: Vec<Arc<str>>,
    pub changelog_topics: Vec<TopicInfo>,
    pub repartition_sink_topics: Vec<Arc<str>>,
    pub repartition_source_topics: Vec<TopicInfo>,
    pub copartition_groups: Vec<CopartitionGroup>,
}

/// An internal topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicInfo {
    pub name: Arc<str>,
    /// 0 where the broker decides.
    pub partitions: i32,
    /// 0 for the broker's default.
    pub replication_factor: i16,
    /// Keys and values.
    pub configs: Vec<(Arc<str>, Arc<str>)>,
}

/// Source topics of a subtopology that need as many partitions as one another: indexes into its lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopartitionGroup {
    pub source_topics: Vec<i16>,
    pub source_topic_regex: Vec<i16>,
    pub repartition_source_topics: Vec<i16>,
}

impl Subtopology {
    /// The topics that it reads, repartition topics among them.
    pub fn all_source_topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.source_topics.iter().chain(self.repartition_source_topics.iter().map(|topic| &topic.name))
    }
}

impl Topology {
    /// The topics that have to be there.
    pub fn required_topics<'a>(&'a self) -> BTreeSet<&'a Arc<str>> {
        let changelogs =
            |subtopology: &'a Subtopology| subtopology.changelog_topics.iter().map(|topic| &topic.name);
        let all = self.subtopologies.values();
        all.flat_map(|subtopology| subtopology.all_source_topics().chain(changelogs(subtopology))).collect()
    }

    /// The subtopology that reads a topic.
    pub fn reader_of(&self, topic: &str) -> Option<&Arc<str>> {
        let mut all = self.subtopologies.iter().rev();
        all.find(|(_, subtopology)| subtopology.all_source_topics().any(|name| **name == *topic))
            .map(|(id, _)| id)
    }
}
