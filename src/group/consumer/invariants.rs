//! What can not be in a consumer group, whatever happens. For tests.

use std::collections::BTreeMap;

use super::group::{ConsumerChange, ConsumerGroup};
use super::record::{Body, GroupEpoch, Own};
use crate::group::modern::ModernGroup as _;
use crate::group::modern::invariants::{check_target, rebuilt};

impl ConsumerGroup {
    /// Panics where the group contradicts itself.
    pub(in crate::group) fn check(&self) {
        let mut owners = BTreeMap::new();
        for member in self.members.values() {
            for epochs in [&member.current.assigned, &member.current.revoking] {
                assert!(
                    epochs.values().all(|partitions| !partitions.is_empty()),
                    "an empty set of partitions"
                );
                for partition in super::group::partitions(epochs) {
                    let other = owners.insert(partition, member.member_id.clone());
                    assert_eq!(other, None, "{partition:?} is with {} too", member.member_id);
                }
            }
            assert!(member.current.epoch <= self.target.epoch, "a member is ahead of the target");
        }
        check_target(self, self.epoch);
        assert_eq!(*self, self.rebuilt(), "what is counted is not what is there");
    }

    /// The group from what stands in its records.
    fn rebuilt(&self) -> Self {
        let mut group = rebuilt(self);
        for (expression, resolved) in &self.expressions {
            let value = Some((**resolved).clone());
            group.replay(&Body::Own(Own::Expression { expression: expression.clone(), value }));
        }
        let (epoch, metadata_hash) = (self.epoch, self.metadata_hash);
        group.replay(&Body::Epoch(Some(GroupEpoch { epoch, metadata_hash })));
        group.replay_change(&ConsumerChange::TopicsSeen { version: self.topics_seen });
        group.has_partition_metadata = self.has_partition_metadata;
        group.resolution_planned = self.resolution_planned;
        group.expected = self.expected.clone();
        group
    }
}
