//! What can not be in a group of any kind, whatever happens. For tests.

use std::sync::Arc;

use super::ModernGroup;
use super::record::{Body, TargetEpoch};

/// Panics where the target assignment contradicts the group, which is in this epoch.
pub(in crate::group) fn check_target<G: ModernGroup>(group: &G, epoch: i32) {
    assert!(group.target().epoch <= epoch, "the target is ahead of the group");
    let members = group.members();
    assert!(group.target().members.keys().all(|id| members.contains_key(id)), "a target of nobody");
}

/// A group with the members and the target assignment of this one, from what stands in their records.
pub(in crate::group) fn rebuilt<G: ModernGroup>(group: &G) -> G {
    let mut rebuilt = G::new(group.group_id().clone());
    for (member_id, member) in group.members() {
        let member_id = || member_id.clone();
        rebuilt.replay(&Body::Member { member_id: member_id(), value: Some(member.metadata.clone()) });
        rebuilt.replay(&Body::Current { member_id: member_id(), value: Some(member.current.clone()) });
    }
    for (member_id, value) in &group.target().members {
        rebuilt.replay(&Body::Target { member_id: member_id.clone(), value: Some(Arc::clone(value)) });
    }
    let (epoch, assigned_at_ms) = (group.target().epoch, group.target().assigned_at_ms);
    rebuilt.replay(&Body::TargetEpoch(Some(TargetEpoch { epoch, assigned_at_ms })));
    rebuilt
}
