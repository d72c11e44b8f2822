//! What can not be in a group, whatever happens. For tests.

use super::group::{ClassicGroup, GroupState};

impl ClassicGroup {
    /// Panics where the group contradicts itself.
    pub(in crate::group) fn check(&self) {
        let leads = |leader: &std::sync::Arc<str>| self.members.contains_key(leader);
        match self.state {
            GroupState::Empty => assert!(self.members.is_empty(), "an empty group has members"),
            GroupState::Stable | GroupState::CompletingRebalance => {
                assert!(!self.members.is_empty(), "{:?} without members", self.state);
                assert!(self.leader.as_ref().is_some_and(leads), "the leader is not a member");
                assert!(self.protocol_name.is_some(), "a generation without a protocol");
            }
            GroupState::PreparingRebalance => {
                assert!(self.members.is_empty() || self.leader.as_ref().is_some_and(leads), "no leader");
            }
            GroupState::Dead => panic!("a dead group is not there"),
        }
        let joining = self.members.values().filter(|member| member.awaiting_join.is_some()).count();
        assert_eq!(joining, self.awaiting_join_count(), "held joins are counted wrongly");
        for (member_id, member) in &self.members {
            assert_eq!(*member_id, member.member_id);
            assert!(!self.pending_members.contains(member_id), "a member is pending");
            if let Some(instance) = &member.group_instance_id {
                assert_eq!(
                    self.static_members.get(instance),
                    Some(member_id),
                    "a static member is not found"
                );
            }
            if member.awaiting_join.is_some() {
                assert_eq!(self.state, GroupState::PreparingRebalance, "a join is held in {:?}", self.state);
            }
            if member.awaiting_sync.is_some() {
                assert_eq!(self.state, GroupState::CompletingRebalance, "a sync is held in {:?}", self.state);
            }
            if matches!(self.state, GroupState::Stable | GroupState::CompletingRebalance) {
                let agreed = |protocol: &crate::group::command::Protocol| {
                    Some(&protocol.name) == self.protocol_name.as_ref()
                };
                assert!(member.protocols.iter().any(agreed), "a member does not speak the agreed protocol");
            }
        }
        assert!(self.static_members.values().all(leads), "a static id without its member");
        assert!(self.pending_sync.iter().all(leads), "a sync is expected from nobody");
    }
}
