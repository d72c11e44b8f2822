//! ConsumerGroupDescribe.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::group::ConsumerGroup;
use super::member::{ConsumerMember, without_epochs};
use crate::group::assignor::Partitions;
use crate::group::cluster::ClusterView;
use crate::group::command::{ConsumerGroupDescription, ConsumerMemberDescription, NamedPartitions};

impl ConsumerGroup {
    /// What ConsumerGroupDescribe says; topics that do not exist any more are left out.
    pub(in crate::group) fn describe(
        &self,
        default_assignor: &str,
        cluster: &ClusterView,
    ) -> ConsumerGroupDescription {
        let describe = |member: &Arc<ConsumerMember>| {
            let mut assignment = without_epochs(&member.current.assigned);
            for (topic, partitions) in without_epochs(&member.current.revoking) {
                // The member is responsible for what it has not given up yet.
                assignment.entry(topic).or_default().extend(partitions);
            }
            ConsumerMemberDescription {
                member_id: member.member_id.clone(),
                member_epoch: member.current.epoch,
                metadata: member.metadata.clone(),
                assignment: named(&assignment, cluster),
                target: named(&self.target.of(&member.member_id), cluster),
            }
        };
        ConsumerGroupDescription {
            state: self.state().name(),
            epoch: self.epoch,
            target_epoch: self.target.epoch,
            assignor: self.preferred_assignor().map_or_else(|| default_assignor.into(), Arc::clone),
            members: self.members.values().map(describe).collect(),
        }
    }
}

fn named(partitions: &Partitions, cluster: &ClusterView) -> NamedPartitions {
    let named = |(id, partitions): (&Uuid, &std::collections::BTreeSet<i32>)| {
        let topic = cluster.topic_by_id(*id)?;
        Some((*id, (topic.name.clone(), partitions.iter().copied().collect::<Vec<i32>>())))
    };
    partitions.iter().filter_map(named).collect::<BTreeMap<_, _>>()
}
