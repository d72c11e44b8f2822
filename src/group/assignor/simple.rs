//! The `simple` assignor of share groups (`SimpleAssignor`): several members may have the same partition, everybody as
//! many partitions and every partition as many members as possible, with few moves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::{GroupSpec, MemberSpec, Partitions};

/// The name that clients see.
pub const NAME: &str = "simple";

type Partition = (Uuid, i32);

/// A new assignment for all members, of those partitions that may be assigned.
pub fn assign(spec: &GroupSpec, assignable: &Partitions) -> BTreeMap<Arc<str>, Partitions> {
    let members: Vec<&MemberSpec> = spec.members.values().collect();
    let mut assigned: Vec<Partitions> = members.iter().map(|member| (*member.assignment).clone()).collect();
    if spec.homogeneous {
        if let Some(first) = members.first() {
            let everybody: Vec<usize> = (0..members.len()).collect();
            for partitions in &mut assigned {
                partitions.retain(|topic, _| first.topics.contains(topic));
            }
            let topics: Vec<Uuid> = first.topics.iter().copied().collect();
            share_out(spec, assignable, &topics, &everybody, &mut assigned);
        }
    } else {
        let topics: BTreeSet<Uuid> =
            members.iter().flat_map(|member| member.topics.iter()).copied().collect();
        for topic in topics {
            let wants =
                |index: &usize| members.get(*index).is_some_and(|member| member.topics.contains(&topic));
            let subscribed: Vec<usize> = (0..members.len()).filter(wants).collect();
            share_out(spec, assignable, &[topic], &subscribed, &mut assigned);
        }
    }
    for partitions in &mut assigned {
        partitions.retain(|_, partitions| !partitions.is_empty());
    }
    spec.members.keys().cloned().zip(assigned).collect()
}

/// Gives the partitions of these topics to those members that are subscribed to them.
fn share_out(
    spec: &GroupSpec,
    assignable: &Partitions,
    topics: &[Uuid],
    subscribed: &[usize],
    assigned: &mut [Partitions],
) {
    let mut targets = BTreeSet::new();
    for topic in topics {
        let may_be_assigned = assignable.get(topic).into_iter().flatten();
        let there = may_be_assigned.filter(|partition| (0..spec.partitions_of(topic)).contains(*partition));
        targets.extend(there.map(|partition| (*topic, *partition)));
    }
    let mut sharing = Sharing::new(topics, &targets, subscribed, assigned);
    sharing.revoke_from_overfilled();
    sharing.revoke_from_overshared();
    for target in targets {
        sharing.by_partition.entry(target).or_default();
    }
    sharing.assign_remaining();
    for (mine, partitions) in assigned.iter_mut().zip(sharing.by_member) {
        mine.retain(|topic, _| !topics.contains(topic));
        for (topic, partition) in partitions {
            mine.entry(topic).or_default().insert(partition);
        }
    }
}

/// Who has what, on the way to the new assignment.
struct Sharing {
    /// How many members each partition is to have.
    desired_sharing: usize,
    /// How many partitions each member is to have.
    desired_counts: Vec<usize>,
    by_partition: BTreeMap<Partition, BTreeSet<usize>>,
    by_member: Vec<BTreeSet<Partition>>,
}

impl Sharing {
    fn new(
        topics: &[Uuid],
        targets: &BTreeSet<Partition>,
        subscribed: &[usize],
        assigned: &[Partitions],
    ) -> Self {
        let mut by_partition: BTreeMap<Partition, BTreeSet<usize>> = BTreeMap::new();
        let mut by_member = vec![BTreeSet::new(); assigned.len()];
        for (index, (partitions, mine)) in assigned.iter().zip(&mut by_member).enumerate() {
            for topic in topics {
                for partition in partitions.get(topic).into_iter().flatten() {
                    by_partition.entry((*topic, *partition)).or_default().insert(index);
                    mine.insert((*topic, *partition));
                }
            }
        }
        let desired_sharing = if targets.is_empty() { 0 } else { subscribed.len().div_ceil(targets.len()) };
        let mut desired_counts = vec![0; assigned.len()];
        for (position, index) in subscribed.iter().enumerate() {
            if let Some(desired) = desired_counts.get_mut(*index) {
                *desired = desired_count(desired_sharing * targets.len(), subscribed.len(), position);
            }
        }
        Self { desired_sharing, desired_counts, by_partition, by_member }
    }

    fn revoke_from_overfilled(&mut self) {
        for (index, (mine, desired)) in self.by_member.iter_mut().zip(&self.desired_counts).enumerate() {
            while mine.len() > *desired {
                let Some(partition) = mine.pop_first() else { break };
                if let Some(members) = self.by_partition.get_mut(&partition) {
                    members.remove(&index);
                }
            }
        }
    }

    fn revoke_from_overshared(&mut self) {
        for (partition, members) in &mut self.by_partition {
            while members.len() > self.desired_sharing {
                let Some(index) = members.pop_first() else { break };
                if let Some(mine) = self.by_member.get_mut(index) {
                    mine.remove(partition);
                }
            }
        }
    }

    /// Goes round those who have too little, partition by partition.
    fn assign_remaining(&mut self) {
        let has_too_little = |index: &usize| {
            self.by_member.get(*index).map(BTreeSet::len) < self.desired_counts.get(*index).copied()
        };
        let mut unfilled: Vec<usize> = (0..self.by_member.len()).filter(has_too_little).collect();
        let mut next = 0;
        let mut assigned_in_round = false;
        for (partition, members) in &self.by_partition {
            let mut missing = self.desired_sharing.saturating_sub(members.len());
            while missing > 0 {
                if next >= unfilled.len() {
                    if !assigned_in_round || unfilled.is_empty() {
                        break;
                    }
                    (next, assigned_in_round) = (0, false);
                }
                let Some(index) = unfilled.get(next).copied() else { break };
                let Some(mine) = self.by_member.get_mut(index).filter(|_| !members.contains(&index)) else {
                    next += 1;
                    continue;
                };
                mine.insert(*partition);
                missing -= 1;
                assigned_in_round = true;
                if Some(mine.len()) >= self.desired_counts.get(index).copied() {
                    unfilled.remove(next);
                } else {
                    next += 1;
                }
            }
        }
    }
}

/// The share of the member at this position among `members`, of so many assignments: computed as Kafka does, with its
/// rounding.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "numbers of members and partitions are small and positive"
)]
fn desired_count(assignments: usize, members: usize, position: usize) -> usize {
    let each = assignments as f64 / members as f64;
    let until = |position: usize| (each * position as f64).ceil() as usize;
    until(position + 1).saturating_sub(until(position))
}
