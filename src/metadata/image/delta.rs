//! What lies between two images.

use std::collections::BTreeSet;
use std::sync::Arc;

use uuid::Uuid;

use super::{ConfigResource, Image, ResourceType, TopicImage};
use crate::metadata::record::Record;

/// What the records between two images touched, so that nobody has to compare the whole of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    topics: BTreeSet<Uuid>,
    configs: BTreeSet<ConfigResource>,
    quotas: bool,
}

impl Delta {
    /// Takes in a record that goes from the older image to the newer one.
    pub fn note(&mut self, record: &Record) {
        let mut topic = |id: &Uuid| {
            self.topics.insert(*id);
        };
        if let Record::Topic(record) = record {
            topic(&record.topic_id);
        } else if let Record::RemoveTopic(record) = record {
            topic(&record.topic_id);
        } else if let Record::Partition(record) = record {
            topic(&record.topic_id);
        } else if let Record::PartitionChange(record) = record {
            topic(&record.topic_id);
        } else if let Record::Config(record) = record
            && let Some(kind) = ResourceType::from_id(record.resource_type)
        {
            self.configs.insert(ConfigResource::new(kind, record.resource_name.as_str()));
        } else if let Record::ClientQuota(_) = record {
            self.quotas = true;
        }
    }

    /// Everything that differs between two images, by comparing the whole of them: where a snapshot took the place of
    /// the records.
    pub fn between(old: &Image, new: &Image) -> Self {
        let differs = |id: &Uuid| old.topics.by_id(*id) != new.topics.by_id(*id);
        let topics =
            old.topics.iter().chain(new.topics.iter()).map(|topic| topic.id).filter(differs).collect();
        let resources = old.configs().chain(new.configs()).map(|(resource, _)| resource);
        let changed = resources.filter(|resource| old.config(resource) != new.config(resource));
        Self { topics, configs: changed.cloned().collect(), quotas: old.quotas != new.quotas }
    }

    /// The same together with every topic of the newer image, touched or not.
    pub fn with_all_topics(mut self, new: &Image) -> Self {
        self.topics.extend(new.topics.iter().map(|topic| topic.id));
        self
    }

    /// Takes in what later records touched.
    pub fn merge(&mut self, later: Self) {
        self.topics.extend(later.topics);
        self.configs.extend(later.configs);
        self.quotas |= later.quotas;
    }

    /// The ids of all topics that were touched, also of those that are gone.
    pub fn topics(&self) -> &BTreeSet<Uuid> {
        &self.topics
    }

    /// The topics that the older image does not have.
    pub fn created<'a>(
        &'a self,
        old: &'a Image,
        new: &'a Image,
    ) -> impl Iterator<Item = &'a Arc<TopicImage>> {
        let is_new = |id: &&Uuid| old.topics.by_id(**id).is_none();
        self.topics.iter().filter(is_new).filter_map(|id| new.topics.by_id(*id))
    }

    /// The topics that the newer image does not have any more.
    pub fn deleted<'a>(
        &'a self,
        old: &'a Image,
        new: &'a Image,
    ) -> impl Iterator<Item = &'a Arc<TopicImage>> {
        let is_gone = |id: &&Uuid| new.topics.by_id(**id).is_none();
        self.topics.iter().filter(is_gone).filter_map(|id| old.topics.by_id(*id))
    }

    /// The topics of the newer image that are new or have changed partitions.
    pub fn changed<'a>(&'a self, new: &'a Image) -> impl Iterator<Item = &'a Arc<TopicImage>> {
        self.topics.iter().filter_map(|id| new.topics.by_id(*id))
    }

    /// The resources whose configuration was written.
    pub fn configs(&self) -> impl Iterator<Item = &ConfigResource> {
        self.configs.iter()
    }

    /// Whether a quota of a client was written.
    pub fn quotas(&self) -> bool {
        self.quotas
    }

    /// Whether a configuration of a broker was written.
    pub fn broker_config(&self) -> bool {
        self.configs.iter().any(|resource| resource.kind == ResourceType::Broker)
    }
}
