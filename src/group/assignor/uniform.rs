//! The uniform assignor, where all members are subscribed to the same topics
//! (`UniformHomogeneousAssignmentBuilder`); mixed subscriptions have a builder of their own.
//!
//! Everybody gets the same number of partitions, or one more. Members keep what they have up to that number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::{GroupSpec, MemberSpec, Partitions, uniform_mixed};

/// A new assignment.
pub fn assign(spec: &GroupSpec) -> BTreeMap<Arc<str>, Partitions> {
    if spec.homogeneous { Builder::new(spec).build() } else { uniform_mixed::assign(spec) }
}

struct Builder<'a> {
    spec: &'a GroupSpec,
    topics: &'a BTreeSet<Uuid>,
    /// What every member gets at least.
    quota: usize,
    /// How many members get one partition more.
    extra: usize,
    unassigned: Vec<(Uuid, i32)>,
    /// Members with room, and for how many partitions.
    unfilled: Vec<(Arc<str>, usize)>,
    assignment: BTreeMap<Arc<str>, Partitions>,
}

impl<'a> Builder<'a> {
    fn new(spec: &'a GroupSpec) -> Self {
        static NO_TOPICS: BTreeSet<Uuid> = BTreeSet::new();
        let topics = spec.members.values().next().map_or(&NO_TOPICS, |member| &*member.topics);
        Self {
            spec,
            topics,
            quota: 0,
            extra: 0,
            unassigned: Vec::new(),
            unfilled: Vec::new(),
            assignment: BTreeMap::new(),
        }
    }

    fn build(mut self) -> BTreeMap<Arc<str>, Partitions> {
        if self.topics.is_empty() {
            return BTreeMap::new();
        }
        let total = self.find_unassigned();
        self.quota = total / self.spec.members.len();
        self.extra = total % self.spec.members.len();
        for (index, (member_id, member)) in self.spec.members.iter().enumerate() {
            let kept = self.keep(index, member_id, member);
            self.assignment.insert(member_id.clone(), kept);
        }
        self.fill();
        self.assignment
    }

    /// Lists the partitions that nobody has; tells how many partitions there are.
    fn find_unassigned(&mut self) -> usize {
        let mut assigned: BTreeMap<Uuid, BTreeSet<i32>> = BTreeMap::new();
        for (topic, partitions) in self.spec.members.values().flat_map(|member| member.assignment.iter()) {
            assigned.entry(*topic).or_default().extend(partitions);
        }
        let mut total = 0;
        for topic in self.topics {
            let taken = assigned.get(topic);
            for partition in 0..self.spec.partitions_of(topic) {
                if !taken.is_some_and(|taken| taken.contains(&partition)) {
                    self.unassigned.push((*topic, partition));
                }
                total += 1;
            }
        }
        total
    }

    /// What a member keeps: nothing of topics that it is not subscribed to, and no more than its share.
    fn keep(&mut self, index: usize, member_id: &Arc<str>, member: &MemberSpec) -> Partitions {
        let mut has_extra = self.extra > 0;
        let mut room = self.quota + usize::from(has_extra);
        let mut kept = Partitions::new();
        for (topic, partitions) in member.assignment.iter().filter(|(topic, _)| self.topics.contains(*topic))
        {
            let keeps = room.min(partitions.len());
            room -= keeps;
            let mut partitions = partitions.iter().copied();
            let some: BTreeSet<i32> = partitions.by_ref().take(keeps).collect();
            if !some.is_empty() {
                kept.insert(*topic, some);
            }
            self.unassigned.extend(partitions.map(|partition| (*topic, partition)));
        }
        // Who does not have the partition more yet leaves it to others, as long as there are enough of them.
        if room > 0 && has_extra && self.spec.members.len() - index > self.extra {
            room -= 1;
            has_extra = false;
        }
        if room > 0 {
            self.unfilled.push((member_id.clone(), room));
        }
        self.extra -= usize::from(has_extra);
        kept
    }

    fn fill(&mut self) {
        let mut unassigned = std::mem::take(&mut self.unassigned).into_iter();
        for (member_id, room) in std::mem::take(&mut self.unfilled) {
            let partitions = self.assignment.entry(member_id).or_default();
            for (topic, partition) in unassigned.by_ref().take(room) {
                partitions.entry(topic).or_default().insert(partition);
            }
        }
    }
}
