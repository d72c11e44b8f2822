//! The range assignor (`RangeAssignor`).
//!
//! Every topic is cut into one stretch of neighbouring partitions for each of its subscribers; the first of them get
//! one partition more where the numbers do not go up. The order of the subscribers is the same for all topics: members
//! of topics with as many partitions and the same subscribers have the same partitions of each, which joins rely on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::{GroupSpec, MemberSpec, Partitions};

/// How far a topic is given away.
struct Cut {
    partitions: i32,
    subscribers: i32,
    next: i32,
    /// Members that still get one partition more.
    extra: i32,
}

impl Cut {
    fn take(&mut self) -> BTreeSet<i32> {
        let mut quota = self.partitions / self.subscribers;
        if self.extra > 0 {
            quota += 1;
            self.extra -= 1;
        }
        let start = self.next;
        self.next = (start + quota).min(self.partitions);
        (start..self.next).collect()
    }
}

/// A new assignment. What members have does not matter, except that the same order gives them the same again.
pub fn assign(spec: &GroupSpec) -> BTreeMap<Arc<str>, Partitions> {
    let mut cuts: BTreeMap<Uuid, Cut> = BTreeMap::new();
    for topic in spec.members.values().flat_map(|member| member.topics.iter()) {
        let partitions = spec.partitions_of(topic);
        let cut = cuts.entry(*topic).or_insert(Cut { partitions, subscribers: 0, next: 0, extra: 0 });
        cut.subscribers += 1;
    }
    for cut in cuts.values_mut() {
        cut.extra = cut.partitions % cut.subscribers;
    }
    let mut assignment = BTreeMap::new();
    for (member_id, member) in in_order(spec) {
        let mut partitions = Partitions::new();
        for topic in member.topics.iter() {
            let taken = cuts.get_mut(topic).map(Cut::take).unwrap_or_default();
            if !taken.is_empty() {
                partitions.insert(*topic, taken);
            }
        }
        assignment.insert(member_id.clone(), partitions);
    }
    assignment
}

/// Static members first, by their instance, so that a restart of one does not change the order; then the others.
fn in_order(spec: &GroupSpec) -> Vec<(&Arc<str>, &MemberSpec)> {
    let mut members: Vec<_> = spec.members.iter().collect();
    members.sort_by_key(|(member_id, member)| match &member.instance_id {
        Some(instance) => (0, instance.clone()),
        None => (1, (*member_id).clone()),
    });
    members
}
