//! What can not be in a share group, whatever happens. For tests.

use super::group::{ShareChange, ShareGroup};
use super::record::{Body, NamedTopics, Own};
use crate::group::modern::ModernGroup as _;
use crate::group::modern::record::{GroupEpoch, TargetEpoch};

impl ShareGroup {
    /// Panics where the group contradicts itself.
    pub(in crate::group) fn check(&self) {
        for member in self.members.values() {
            assert!(member.current.epoch <= self.target.epoch, "a member is ahead of the target");
        }
        assert!(self.target.epoch <= self.epoch, "the target is ahead of the group");
        assert!(self.target.members.keys().all(|id| self.members.contains_key(id)), "a target of nobody");
        let state = &self.state_partitions;
        let no_empty = |topics: &NamedTopics| topics.values().all(|topic| !topic.partitions.is_empty());
        assert!(no_empty(&state.initializing) && no_empty(&state.initialized), "an empty set of partitions");
        assert_eq!(*self, self.rebuilt(), "what is counted is not what is there");
    }

    /// The group from what stands in its records.
    fn rebuilt(&self) -> Self {
        let mut group = Self::new(self.group_id.clone());
        for (member_id, member) in &self.members {
            let member_id = || member_id.clone();
            group.replay(&Body::Member { member_id: member_id(), value: Some(member.metadata.clone()) });
            group.replay(&Body::Current { member_id: member_id(), value: Some(member.current.clone()) });
        }
        for (member_id, partitions) in &self.target.members {
            group.replay(&Body::Target { member_id: member_id.clone(), value: Some(partitions.clone()) });
        }
        let (epoch, metadata_hash) = (self.epoch, self.metadata_hash);
        group.replay(&Body::Epoch(Some(GroupEpoch { epoch, metadata_hash })));
        let (epoch, assigned_at_ms) = (self.target.epoch, self.target.assigned_at_ms);
        group.replay(&Body::TargetEpoch(Some(TargetEpoch { epoch, assigned_at_ms })));
        group.replay(&Body::Own(Own::StatePartitions(Some(self.state_partitions.clone()))));
        group.replay_change(&ShareChange::TopicsSeen { version: self.topics_seen });
        group.replay_change(&ShareChange::Initializing { since_ms: self.initializing_since_ms });
        group
    }
}
