//! What can not be in a streams group, whatever happens. For tests.

use std::collections::BTreeMap;

use super::group::{StreamsGroup, active_tasks};
use super::record::{Body, GroupEpoch, Own};
use super::tasks::each;
use crate::group::modern::ModernGroup as _;
use crate::group::modern::invariants::{check_target, rebuilt};

impl StreamsGroup {
    /// Panics where the group contradicts itself.
    pub(in crate::group) fn check(&self) {
        let (mut active, mut by_process) = (BTreeMap::new(), BTreeMap::new());
        for member in self.members.values() {
            for tasks in [&member.current.assigned, &member.current.revoking] {
                assert!(tasks.active.values().all(|tasks| !tasks.is_empty()), "an empty set of tasks");
                let copies = tasks.standby.values().chain(tasks.warmup.values());
                assert!(copies.into_iter().all(|tasks| !tasks.is_empty()), "an empty set of tasks");
                for task in active_tasks(tasks) {
                    let other = active.insert(task.clone(), member.member_id.clone());
                    assert_eq!(other, None, "{task:?} is with {} too", member.member_id);
                }
                let copies = each(&tasks.standby).chain(each(&tasks.warmup));
                for task in active_tasks(tasks).chain(copies) {
                    let key = (member.metadata.process_id.clone(), task.clone());
                    let other = by_process.insert(key, member.member_id.clone());
                    assert_eq!(other, None, "{task:?} is in the process of {} twice", member.member_id);
                }
            }
        }
        check_target(self, self.epoch);
        assert_eq!(*self, self.rebuilt(), "what is counted is not what is there");
    }

    /// The group from what stands in its records, with what was never written.
    fn rebuilt(&self) -> Self {
        let mut group = rebuilt(self);
        group.replay(&Body::Epoch(Some(GroupEpoch {
            epoch: self.epoch,
            metadata_hash: self.metadata_hash,
            validated_topology_epoch: self.validated_topology_epoch,
            assignment_configs: (*self.assignment_configs).clone(),
        })));
        group.replay(&Body::Own(Own::Topology(self.topology.clone())));
        group.configured.clone_from(&self.configured);
        group.topics_seen = self.topics_seen;
        group.is_delayed = self.is_delayed;
        group.shutdown_requested_by.clone_from(&self.shutdown_requested_by);
        group.endpoint_epoch = self.endpoint_epoch;
        group
    }
}
