//! StreamsGroupDescribe.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::{StreamsGroupDescription, StreamsMemberDescription, SubtopologyDescription};
use super::configured::{ConfiguredSubtopology, InternalTopic};
use super::group::StreamsGroup;
use super::member::StreamsMember;
use super::topology::{Subtopology, TopicInfo, Topology};

impl StreamsGroup {
    /// What StreamsGroupDescribe says. Where all topics are there, the topology has their numbers of partitions.
    pub(in crate::group) fn describe(&self) -> StreamsGroupDescription {
        let describe = |member: &Arc<StreamsMember>| StreamsMemberDescription {
            member_id: member.member_id.clone(),
            member_epoch: member.current.epoch,
            metadata: member.metadata.clone(),
            assignment: member.current.assigned.without_epochs(),
            target: self.target.of(&member.member_id),
        };
        let ready = self.configured.as_ref().and_then(|topology| topology.ready());
        let subtopologies = match (ready, &self.topology) {
            (Some(ready), _) => ready.iter().map(|(id, subtopology)| configured(id, subtopology)).collect(),
            (None, Some(topology)) => as_it_was_sent(topology),
            (None, None) => Vec::new(),
        };
        StreamsGroupDescription {
            state: self.state().name(),
            epoch: self.epoch,
            target_epoch: self.target.epoch,
            topology_epoch: self.topology.as_ref().map_or(0, |topology| topology.epoch),
            subtopologies,
            members: self.members.values().map(describe).collect(),
        }
    }
}

fn configured(id: &Arc<str>, subtopology: &ConfiguredSubtopology) -> SubtopologyDescription {
    SubtopologyDescription {
        id: id.clone(),
        source_topics: subtopology.source_topics.iter().cloned().collect(),
        repartition_sink_topics: subtopology.repartition_sink_topics.iter().cloned().collect(),
        repartition_source_topics: subtopology.repartition_source_topics.values().cloned().collect(),
        changelog_topics: subtopology.changelog_topics.values().cloned().collect(),
    }
}

fn as_it_was_sent(topology: &Topology) -> Vec<SubtopologyDescription> {
    let sorted = |names: &[Arc<str>]| {
        let mut names = names.to_vec();
        names.sort();
        names
    };
    let topics = |topics: &[TopicInfo]| {
        let topic = |topic: &TopicInfo| InternalTopic {
            name: topic.name.clone(),
            partitions: topic.partitions,
            replication_factor: topic.replication_factor,
            configs: topic.configs.iter().cloned().collect(),
        };
        let by_name: BTreeMap<Arc<str>, InternalTopic> =
            topics.iter().map(|info| (info.name.clone(), topic(info))).collect();
        by_name.into_values().collect()
    };
    let one = |(id, subtopology): (&Arc<str>, &Subtopology)| SubtopologyDescription {
        id: id.clone(),
        source_topics: sorted(&subtopology.source_topics),
        repartition_sink_topics: sorted(&subtopology.repartition_sink_topics),
        repartition_source_topics: topics(&subtopology.repartition_source_topics),
        changelog_topics: topics(&subtopology.changelog_topics),
    };
    topology.subtopologies.iter().map(one).collect()
}
