//! From one protocol to the other, while the group lives (`group.consumer.migration.policy`).
//!
//! Upwards, when the first member comes that uses the consumer protocol: what the members have becomes the target and
//! the current assignment, and they stay as classic members. Downwards, when only classic members are left: the target
//! becomes their assignment, and they have to join again.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracing::info;

use super::draft::Draft;
use super::embedded::{self, EmbeddedError};
use super::member::{ClassicMetadata, ConsumerMember, MemberState, with_epoch};
use super::record::{Body, CurrentAssignment, GroupEpoch, MemberMetadata, TargetEpoch};
use crate::error::{ApiError, ErrorCode};
use crate::group::assignor::Partitions;
use crate::group::classic::draft::Draft as ClassicDraft;
use crate::group::classic::{ClassicGroup, Member};
use crate::group::modern::draft::refused;

impl Draft<'_> {
    /// Makes a consumer group of a classic one. `self.group` is new, and the classic group was deleted.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`, as for every group that is not a consumer group.
    pub(super) fn upgrade(&mut self, classic: &ClassicGroup) -> Result<(), ApiError> {
        let not_possible = |reason: &str| {
            let text = format!("Group {} can not become a consumer group: {reason}.", classic.group_id);
            refused(ErrorCode::GroupIdNotFound, text)
        };
        if !self.settings.migration.upgrade {
            return not_possible("group.consumer.migration.policy does not allow it");
        }
        if !classic.uses_consumer_protocol() {
            return not_possible("its members are no consumers");
        }
        if classic.members.len() > self.settings.consumer_max_size {
            return not_possible("it has more members than group.consumer.max.size allows");
        }
        let members: Result<Vec<_>, EmbeddedError> =
            classic.members.values().map(|member| self.upgraded(classic, member)).collect();
        match members {
            Ok(members) => self.write_upgraded(classic, members),
            Err(error) => return not_possible(&error.to_string()),
        }
        info!(group = %classic.group_id, "a classic group becomes a consumer group");
        Ok(())
    }

    fn upgraded(
        &self,
        classic: &ClassicGroup,
        member: &Member,
    ) -> Result<(ConsumerMember, Partitions), EmbeddedError> {
        // A group whose first members still join has not agreed on a protocol yet.
        let agreed = classic.protocol_name.as_ref().map(|name| member.metadata(name));
        let preferred = || member.protocols.first().map(|protocol| protocol.metadata.clone());
        let subscription = agreed.filter(|bytes| !bytes.is_empty()).or_else(preferred).unwrap_or_default();
        let subscription = embedded::read_subscription(subscription)?;
        let partitions = embedded::read_assignment(member.assignment.clone(), self.cluster)?;
        let metadata = MemberMetadata {
            instance_id: member.group_instance_id.clone(),
            rack_id: subscription.rack_id,
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            topics: Arc::new(subscription.topics),
            expression: Some(Arc::default()),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            assignor: None,
            classic: Some(Arc::new(ClassicMetadata {
                session_timeout_ms: member.session_timeout_ms,
                protocols: member.protocols.clone(),
            })),
        };
        let current = CurrentAssignment {
            epoch: classic.generation_id,
            previous_epoch: classic.generation_id,
            state: MemberState::Stable,
            assigned: Arc::new(with_epoch(&partitions, classic.generation_id)),
            revoking: Arc::default(),
        };
        Ok((ConsumerMember { member_id: member.member_id.clone(), current, metadata }, partitions))
    }

    fn write_upgraded(&mut self, classic: &ClassicGroup, members: Vec<(ConsumerMember, Partitions)>) {
        for (member, _) in &members {
            let value = Some(member.metadata.clone());
            self.record(Body::Member { member_id: member.member_id.clone(), value });
        }
        let metadata_hash = self.cluster.hash_of(self.group.subscribed_topics());
        self.record(Body::Epoch(Some(GroupEpoch { epoch: classic.generation_id, metadata_hash })));
        for (member, partitions) in &members {
            let value = Some(Arc::new(partitions.clone()));
            self.record(Body::Target { member_id: member.member_id.clone(), value });
        }
        let target_epoch = TargetEpoch { epoch: classic.generation_id, assigned_at_ms: 0 };
        self.record(Body::TargetEpoch(Some(target_epoch)));
        for (member, _) in members {
            let timeout_ms = member.metadata.classic.as_ref().map_or(0, |classic| classic.session_timeout_ms);
            self.touch_for(&member.member_id, timeout_ms);
            self.record(Body::Current { member_id: member.member_id, value: Some(member.current) });
        }
    }

    /// Whether the group goes back to the classic protocol when these members are gone.
    pub(super) fn can_downgrade_without(&self, gone: &BTreeSet<Arc<str>>) -> bool {
        let stay = |member: &&Arc<ConsumerMember>| !gone.contains(&member.member_id);
        let mut stay = self.group.members.values().filter(stay).peekable();
        let somebody_stays = stay.peek().is_some();
        somebody_stays && self.may_be_classic(stay)
    }

    /// Whether the group goes back to the classic protocol when a classic member takes the place of this one.
    pub(super) fn can_downgrade_instead_of(&self, replaced: &ConsumerMember) -> bool {
        let others = self.group.members.values().filter(|member| member.member_id != replaced.member_id);
        !replaced.is_classic() && self.may_be_classic(others)
    }

    fn may_be_classic<'a>(&self, mut members: impl Iterator<Item = &'a Arc<ConsumerMember>>) -> bool {
        let mut count = 0;
        let all_classic = members.all(|member| {
            count += 1;
            member.is_classic()
        });
        all_classic && self.settings.migration.downgrade && count <= self.settings.max_size
    }

    /// Makes a classic group of the members that stay, in this generation; with a reason to have them join again.
    pub(super) fn downgrade(
        &mut self,
        gone: &BTreeSet<Arc<str>>,
        generation_id: i32,
        rebalance: Option<&str>,
    ) {
        let stay = self.group.members.values().filter(|member| !gone.contains(&member.member_id));
        let members: Vec<Member> = stay.filter_map(|member| self.downgraded(member)).collect();
        let group_id = self.group.group_id.clone();
        let members_before: Vec<Arc<str>> = self.group.members.keys().cloned().collect();
        for member_id in &members_before {
            self.cancel_timers(member_id);
        }
        self.delete();
        let classic = ClassicGroup::of_consumers(group_id.clone(), generation_id, self.now_ms, members);
        info!(group = %group_id, "a consumer group becomes a classic group");
        let mut draft = ClassicDraft::new(self.settings, self.now_ms, classic);
        draft.write_down();
        if let Some(reason) = rebalance {
            draft.prepare_rebalance(reason);
        }
        let decision = draft.finish();
        self.decision.events.extend(decision.events);
        self.decision.timers.extend(decision.timers);
        self.decision.replies.extend(decision.replies);
    }

    /// The member as a classic one, with its target as its assignment.
    fn downgraded(&self, member: &ConsumerMember) -> Option<Member> {
        let classic = member.metadata.classic.as_ref()?;
        let subscription = classic.protocols.first().map(|protocol| protocol.metadata.clone());
        let target = self.group.target.of(&member.member_id);
        let assignment =
            embedded::write_assignment(&target, subscription.unwrap_or_default(), self.cluster).ok();
        Some(Member {
            member_id: member.member_id.clone(),
            group_instance_id: member.metadata.instance_id.clone(),
            client_id: member.metadata.client_id.clone(),
            client_host: member.metadata.client_host.clone(),
            rebalance_timeout_ms: member.metadata.rebalance_timeout_ms,
            session_timeout_ms: classic.session_timeout_ms,
            protocols: classic.protocols.clone(),
            assignment: assignment.unwrap_or_default(),
            is_new: false,
            awaiting_join: None,
            awaiting_sync: None,
        })
    }
}
