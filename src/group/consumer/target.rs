//! The target assignment: what every member is to have (`TargetAssignmentBuilder`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tracing::info;
use uuid::Uuid;

use super::draft::Draft;
use super::member::ConsumerMember;
use super::reconcile::Reconciliation;
use super::record::Body;
use crate::error::{ApiError, ErrorCode};
use crate::group::assignor::{Assignor, GroupSpec, MemberSpec, Partitions};

/// The names and the regular expression that a member is subscribed to.
type Subscription<'a> = (&'a BTreeSet<Arc<str>>, Option<&'a Arc<str>>);

impl Draft<'_> {
    /// Computes the target assignment of the group's epoch, unless the last one is too young
    /// (`consumer.assignment.interval.ms`, KIP-1263): then one of the next heartbeats does.
    pub(super) fn assign_if_due(&mut self) {
        if self.group.target.epoch >= self.group.epoch {
            return;
        }
        let interval_ms = self.cluster.times_of(&self.group.group_id).assignment_interval_ms;
        if self.is_target_young(interval_ms) {
            return;
        }
        let preferred = self.group.preferred_assignor().and_then(|name| Assignor::by_name(name));
        let assignor = preferred.unwrap_or_else(|| self.settings.default_assignor());
        let assignment = assignor.assign(&self.group_spec());
        let epoch = self.group.epoch;
        let (members, assignor) = (self.record_target(epoch, assignment), assignor.name());
        info!(group = %self.group.group_id, epoch, assignor, members, "a new target assignment of a consumer group");
    }

    fn group_spec(&self) -> GroupSpec {
        let mut spec = GroupSpec { homogeneous: self.group.is_homogeneous(), ..GroupSpec::default() };
        // Most members have the same subscription: their set of topics is made once.
        let mut known: BTreeMap<Subscription<'_>, Arc<BTreeSet<Uuid>>> = BTreeMap::new();
        for (member_id, member) in &self.group.members {
            let subscription = (&*member.metadata.topics, member.expression());
            let topics =
                known.entry(subscription).or_insert_with(|| Arc::new(self.topic_ids(member))).clone();
            for topic in topics.iter().filter_map(|id| self.cluster.topic_by_id(*id)) {
                spec.partitions.insert(topic.id, topic.partitions);
            }
            let member = MemberSpec {
                instance_id: member.metadata.instance_id.clone(),
                topics,
                assignment: self.group.target.of(member_id),
            };
            spec.members.insert(member_id.clone(), member);
        }
        spec
    }

    /// The topics that a member is subscribed to and that exist.
    fn topic_ids(&self, member: &ConsumerMember) -> BTreeSet<Uuid> {
        let resolved = member.expression().and_then(|expression| self.group.expressions.get(expression));
        let matched = resolved.iter().flat_map(|resolved| resolved.topics.iter());
        let names = member.metadata.topics.iter().chain(matched);
        names.filter_map(|name| self.cluster.topic(name)).map(|topic| topic.id).collect()
    }

    /// Lets a member take its next step towards its target.
    pub(super) fn reconcile(
        &mut self,
        member_id: &Arc<str>,
        subscription_changed: bool,
        owned: Option<&Partitions>,
    ) -> Result<Arc<ConsumerMember>, ApiError> {
        let unknown = || ApiError::new(ErrorCode::UnknownMemberId);
        let member = self.group.members.get(member_id).cloned().ok_or_else(unknown)?;
        if !subscription_changed && member.is_reconciled_to(self.group.target.epoch) {
            return Ok(member);
        }
        let topic_ids = self.topic_ids(&member);
        let next = Reconciliation {
            member: &member,
            target_epoch: self.group.target.epoch,
            target: &self.group.target.of(member_id),
            subscription_changed,
            owned,
            is_subscribed: &|topic| topic_ids.contains(topic),
            is_taken: &|topic, partition| self.group.is_owned(topic, partition),
        };
        let next = next.next().map_err(|_| {
            let text = "The member is in a state that is not known here: it has to give up everything and join again.";
            ApiError::with(ErrorCode::FencedMemberEpoch, text)
        })?;
        if next == member.current {
            return Ok(member);
        }
        let has_to_revoke = next.state == super::member::MemberState::UnrevokedPartitions;
        self.record(Body::Current { member_id: member_id.clone(), value: Some(next) });
        let timer = self.revocation_timer(member_id);
        if !has_to_revoke {
            self.cancel(timer);
        } else if !member.is_classic() {
            // Members of the classic protocol have to join and to sync in time instead.
            self.arm(timer, member.metadata.rebalance_timeout_ms);
        }
        self.group.members.get(member_id).cloned().ok_or_else(unknown)
    }
}
