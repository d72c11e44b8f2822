//! Members leave, or are made to; and the group after them.

use std::sync::Arc;

use tracing::info;

use super::draft::Draft;
use super::group::StreamsChange;
use super::member::MemberState;
use super::record::{Body, GroupEpoch, Own};

impl Draft<'_> {
    /// Removes a member. The group goes to its next epoch.
    pub(super) fn fence(&mut self, member_id: &Arc<str>) {
        self.cancel(self.session_timer(member_id));
        self.cancel(self.revocation_timer(member_id));
        self.remove_member(member_id);
        let epoch = self.group.epoch.saturating_add(1);
        self.record(Body::Epoch(Some(GroupEpoch {
            epoch,
            metadata_hash: self.group.metadata_hash,
            validated_topology_epoch: self.group.validated_topology_epoch,
            assignment_configs: (*self.group.assignment_configs).clone(),
        })));
    }

    /// A member was not heard of in time, or did not do in time what it was told to.
    pub(in crate::group) fn expire_member(&mut self, member_id: &Arc<str>, reason: &str) {
        if self.group.members.contains_key(member_id) {
            info!(group = %self.group.group_id, member = %member_id, reason, "a member of a streams group is removed");
            self.fence(member_id);
        }
    }

    /// A member did not give up tasks within its rebalance timeout.
    pub(in crate::group) fn revocation_expired(&mut self, member_id: &Arc<str>) {
        let state = self.group.members.get(member_id).map(|member| member.current.state);
        if state == Some(MemberState::UnrevokedTasks) {
            self.expire_member(member_id, "it did not give up its tasks in time");
        }
    }

    /// Writes that the group is gone.
    pub(in crate::group) fn delete(&mut self) {
        self.delete_members();
        self.record(Body::Epoch(None));
        self.record(Body::Own(Own::Topology(None)));
        if self.group.is_delayed {
            self.change(StreamsChange::DelayOver);
            self.cancel(self.delay_timer());
        }
    }
}
