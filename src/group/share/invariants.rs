//! What can not be in a share group, whatever happens. For tests.

use super::group::{ShareChange, ShareGroup};
use super::record::{Body, NamedTopics, Own};
use crate::group::modern::ModernGroup as _;
use crate::group::modern::invariants::{check_target, rebuilt};
use crate::group::modern::record::GroupEpoch;

impl ShareGroup {
    /// Panics where the group contradicts itself.
    pub(in crate::group) fn check(&self) {
        for member in self.members.values() {
            assert!(member.current.epoch <= self.target.epoch, "a member is ahead of the target");
        }
        check_target(self, self.epoch);
        let state = &self.state_partitions;
        let no_empty = |topics: &NamedTopics| topics.values().all(|topic| !topic.partitions.is_empty());
        assert!(no_empty(&state.initializing) && no_empty(&state.initialized), "an empty set of partitions");
        assert_eq!(*self, self.rebuilt(), "what is counted is not what is there");
    }

    /// The group from what stands in its records.
    fn rebuilt(&self) -> Self {
        let mut group = rebuilt(self);
        let (epoch, metadata_hash) = (self.epoch, self.metadata_hash);
        group.replay(&Body::Epoch(Some(GroupEpoch { epoch, metadata_hash })));
        group.replay(&Body::Own(Own::StatePartitions(Some(self.state_partitions.clone()))));
        group.replay_change(&ShareChange::TopicsSeen { version: self.topics_seen });
        group.replay_change(&ShareChange::Initializing { since_ms: self.initializing_since_ms });
        group
    }
}
