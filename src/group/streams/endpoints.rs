//! Where the state of tasks can be asked for (`EndpointToPartitionsManager`).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::command::{EndpointPartitions, StreamsHeartbeatAnswer, TopicPartitions};
use super::draft::Draft;
use super::group::StreamsChange;
use super::member::StreamsMember;
use super::tasks::TaskIds;

impl Draft<'_> {
    /// Tells a member where state can be asked for, unless it knows. Until a group is written down, its members are told
    /// epoch 0.
    pub(super) fn tell_endpoints(
        &mut self,
        member: &StreamsMember,
        has_other_tasks: bool,
        known_epoch: i32,
        answer: &mut StreamsHeartbeatAnswer,
    ) {
        let has_endpoint = member.metadata.user_endpoint.is_some();
        let epoch = self.group.endpoint_epoch + i32::from(has_other_tasks && has_endpoint);
        if epoch != known_epoch {
            answer.endpoints = Some(self.endpoints(member));
        }
        if self.is_new {
            return;
        }
        if epoch != self.group.endpoint_epoch {
            self.change(StreamsChange::EndpointsChanged { epoch });
        }
        answer.endpoint_epoch = epoch;
    }

    /// Those of all others, and that of the member itself.
    fn endpoints(&self, member: &StreamsMember) -> Vec<EndpointPartitions> {
        let others = self.group.members.values().filter(|other| other.member_id != member.member_id);
        others.map(|other| &**other).chain([member]).filter_map(|member| self.endpoint(member)).collect()
    }

    fn endpoint(&self, member: &StreamsMember) -> Option<EndpointPartitions> {
        let endpoint = member.metadata.user_endpoint.clone()?;
        let tasks = member.current.assigned.without_epochs();
        Some(EndpointPartitions {
            endpoint,
            active: self.partitions_of(&tasks.active),
            standby: self.partitions_of(&tasks.standby),
        })
    }

    /// The partitions of source topics that tasks work on: as many as there are, where a topic has fewer than there are
    /// tasks.
    fn partitions_of(&self, tasks: &TaskIds) -> TopicPartitions {
        let configured = self.group.configured.as_ref().and_then(|topology| topology.subtopologies.as_ref());
        let mut partitions = TopicPartitions::new();
        for (id, tasks) in tasks {
            let Some(subtopology) = configured.and_then(|subtopologies| subtopologies.get(id)) else {
                continue;
            };
            let names: BTreeSet<&Arc<str>> = subtopology
                .source_topics
                .iter()
                .chain(subtopology.repartition_source_topics.keys())
                .collect();
            for topic in names.into_iter().filter_map(|name| self.cluster.topic(name)) {
                let count = usize::try_from(topic.partitions).unwrap_or(0);
                let own = partitions.entry(topic.name.clone()).or_default();
                own.extend(tasks.iter().copied().take(count));
            }
        }
        partitions
    }
}
