//! A decision about a share group in the making: its topics, its target assignment, and its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tracing::info;
use uuid::Uuid;

use super::group::{ShareChange, ShareGroup};
use super::record::{Body, Own, StatePartitions};
use crate::group::assignor::{GroupSpec, MemberSpec, Partitions, simple};
use crate::group::modern::draft;
use crate::group::modern::record::GroupEpoch;

/// What becomes of one share group.
pub(in crate::group) type Draft<'a> = draft::Draft<'a, ShareGroup>;

impl Draft<'_> {
    /// Every member has a whole session to be heard of, and what is being initialised has its whole time.
    pub(in crate::group) fn start(&mut self) {
        for member_id in self.group.members.clone().keys() {
            self.touch(member_id);
        }
        if !self.group.state_partitions.initializing.is_empty() {
            self.change(ShareChange::Initializing { since_ms: self.now_ms });
        }
    }

    /// Writes which partitions have a state. What is being initialised has its whole time from now on.
    pub(super) fn record_state_partitions(&mut self, partitions: StatePartitions) {
        self.record(Body::Own(Own::StatePartitions(Some(Arc::new(partitions)))));
        self.change(ShareChange::Initializing { since_ms: self.now_ms });
    }

    /// Looks at the topics of the group. Where they changed, or where something else did, the group goes to its next
    /// epoch. Whether it does.
    pub(super) fn refresh_topics(&mut self, changed: bool) -> bool {
        let metadata_hash = self.cluster.hash_of(self.group.subscribed_topics());
        let changed = changed || metadata_hash != self.group.metadata_hash;
        if changed {
            let epoch = self.group.epoch.saturating_add(1);
            info!(group = %self.group.group_id, epoch, "a new epoch of a share group");
            self.record(Body::Epoch(Some(GroupEpoch { epoch, metadata_hash })));
        }
        self.change(ShareChange::TopicsSeen { version: self.cluster.topics_version });
        changed
    }

    /// Computes the target assignment of the group's epoch, unless the last one is too young
    /// (`share.assignment.interval.ms`, KIP-1263): then one of the next heartbeats does.
    pub(super) fn assign_if_due(&mut self) {
        if self.group.target.epoch >= self.group.epoch {
            return;
        }
        let interval_ms = self.cluster.share_times_of(&self.group.group_id).assignment_interval_ms;
        if self.is_target_young(interval_ms) {
            return;
        }
        let assignment = simple::assign(&self.group_spec(), &self.assignable());
        let epoch = self.group.epoch;
        let members = self.record_target(epoch, assignment);
        info!(group = %self.group.group_id, epoch, members, "a new target assignment of a share group");
    }

    /// The partitions that members may have: those whose state is initialised.
    fn assignable(&self) -> Partitions {
        let initialized = &self.group.state_partitions.initialized;
        initialized.iter().map(|(id, topic)| (*id, topic.partitions.clone())).collect()
    }

    fn group_spec(&self) -> GroupSpec {
        let mut spec = GroupSpec { homogeneous: self.group.is_homogeneous(), ..GroupSpec::default() };
        // Most members have the same subscription: their set of topics is made once.
        let mut known: BTreeMap<&BTreeSet<Arc<str>>, Arc<BTreeSet<Uuid>>> = BTreeMap::new();
        for (member_id, member) in &self.group.members {
            let topics = known
                .entry(&*member.metadata.topics)
                .or_insert_with(|| Arc::new(self.topic_ids(&member.metadata.topics)))
                .clone();
            for topic in topics.iter().filter_map(|id| self.cluster.topic_by_id(*id)) {
                spec.partitions.insert(topic.id, topic.partitions);
            }
            let assignment = self.group.target.of(member_id);
            spec.members.insert(member_id.clone(), MemberSpec { instance_id: None, topics, assignment });
        }
        spec
    }

    /// The topics with these names that exist.
    pub(super) fn topic_ids(&self, names: &BTreeSet<Arc<str>>) -> BTreeSet<Uuid> {
        names.iter().filter_map(|name| self.cluster.topic(name)).map(|topic| topic.id).collect()
    }

    /// Removes a member: it left, or it was not heard of in time.
    pub(super) fn fence(&mut self, member_id: &Arc<str>) {
        self.remove_member(member_id);
        self.refresh_topics(true);
        self.cancel(self.session_timer(member_id));
    }

    /// A member was not heard of in time.
    pub(in crate::group) fn session_expired(&mut self, member_id: &Arc<str>) {
        if self.group.members.contains_key(member_id) {
            info!(group = %self.group.group_id, member = %member_id, "a member of a share group was not heard of in time");
            self.fence(member_id);
        }
    }

    /// Writes that the group is gone.
    pub(in crate::group) fn delete(&mut self) {
        self.delete_members();
        self.record(Body::Own(Own::StatePartitions(None)));
        self.record(Body::Epoch(None));
    }
}
