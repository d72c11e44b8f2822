//! A decision about a share group in the making, as that about a consumer group: each record is replayed on a copy of
//! the group, and listed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tracing::info;
use uuid::Uuid;

use super::group::{ShareChange, ShareGroup};
use super::record::{Body, ShareRecord, StatePartitions};
use crate::error::{ApiError, ErrorCode};
use crate::group::assignor::{GroupSpec, MemberSpec, Partitions, simple};
use crate::group::cluster::ClusterView;
use crate::group::consumer::record::{GroupEpoch, TargetEpoch};
use crate::group::core::{Event, GroupCore, Timer};
use crate::group::record::Record;
use crate::group::settings::GroupSettings;
use crate::shard::{Decision, TimerChange};
use crate::types::TimestampMs;

/// What becomes of one share group.
pub(in crate::group) struct Draft<'a> {
    pub settings: &'a GroupSettings,
    pub cluster: &'a ClusterView,
    pub now_ms: TimestampMs,
    pub group: ShareGroup,
    pub decision: Decision<GroupCore>,
}

/// An error with its sentence.
pub(super) fn refused<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, ApiError> {
    Err(ApiError::with(code, message))
}

impl Draft<'_> {
    pub(in crate::group) fn finish(self) -> Decision<GroupCore> {
        self.decision
    }

    /// Changes the group for good.
    pub(super) fn record(&mut self, body: Body) {
        self.group.replay(&body);
        let group_id = self.group.group_id.clone();
        self.decision.events.push(Event::Record(Record::Share(ShareRecord { group_id, body })));
    }

    /// Changes the group until the next restart.
    pub(super) fn change(&mut self, change: ShareChange) {
        self.group.replay_change(&change);
        self.decision.events.push(Event::Share { group_id: self.group.group_id.clone(), change });
    }

    /// Writes which partitions have a state. What is being initialised has its whole time from now on.
    pub(super) fn record_state_partitions(&mut self, partitions: StatePartitions) {
        self.record(Body::StatePartitions(Some(Arc::new(partitions))));
        self.change(ShareChange::Initializing { since_ms: self.now_ms });
    }

    fn session_timer(&self, member_id: &Arc<str>) -> Timer {
        Timer::Session { group_id: self.group.group_id.clone(), member_id: member_id.clone() }
    }

    /// A member was heard of: its session starts anew.
    pub(super) fn touch(&mut self, member_id: &Arc<str>) {
        let timeout_ms = self.cluster.share_times_of(&self.group.group_id).session_timeout_ms;
        let timer = self.session_timer(member_id);
        let deadline_ms = self.now_ms.saturating_add(i64::from(timeout_ms));
        self.decision.timers.push(TimerChange::Arm { timer, deadline_ms });
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
        if self.group.target_epoch >= self.group.epoch {
            return;
        }
        let interval_ms = i64::from(self.cluster.share_times_of(&self.group.group_id).assignment_interval_ms);
        let assigned_at_ms = self.group.assigned_at_ms;
        if assigned_at_ms != 0 && interval_ms != 0 && self.now_ms < assigned_at_ms + interval_ms {
            return;
        }
        let assignment = simple::assign(&self.group_spec(), &self.assignable());
        let changed: Vec<(Arc<str>, Arc<Partitions>)> = self
            .group
            .members
            .keys()
            .map(|member_id| (member_id.clone(), assignment.get(member_id).cloned().unwrap_or_default()))
            .filter(|(member_id, partitions)| {
                self.group.target.get(member_id).map(|t| &**t) != Some(partitions)
            })
            .map(|(member_id, partitions)| (member_id, Arc::new(partitions)))
            .collect();
        let epoch = self.group.epoch;
        info!(group = %self.group.group_id, epoch, members = changed.len(), "a new target assignment of a share group");
        for (member_id, partitions) in changed {
            self.record(Body::Target { member_id, value: Some(partitions) });
        }
        self.record(Body::TargetEpoch(Some(TargetEpoch { epoch, assigned_at_ms: self.now_ms })));
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
            let assignment = self.group.target_of(member_id);
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
        self.record(Body::Current { member_id: member_id.clone(), value: None });
        self.record(Body::Target { member_id: member_id.clone(), value: None });
        self.record(Body::Member { member_id: member_id.clone(), value: None });
        self.refresh_topics(true);
        let timer = self.session_timer(member_id);
        self.decision.timers.push(TimerChange::Cancel { timer });
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
        let members: Vec<Arc<str>> = self.group.members.keys().cloned().collect();
        for member_id in &members {
            self.record(Body::Current { member_id: member_id.clone(), value: None });
        }
        for member_id in &members {
            self.record(Body::Target { member_id: member_id.clone(), value: None });
        }
        self.record(Body::TargetEpoch(None));
        for member_id in &members {
            self.record(Body::Member { member_id: member_id.clone(), value: None });
        }
        self.record(Body::StatePartitions(None));
        self.record(Body::Epoch(None));
    }
}
