//! The uniform assignor, where members are subscribed to different topics (`UniformHeterogeneousAssignmentBuilder`).
//!
//! What nobody has goes to the subscriber with the least, topic by topic; then partitions move from those with the most
//! to those with the least, again and again, until that helps no more.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::{GroupSpec, Partitions};

/// Rounds of balancing. One is enough where the subscribers of a topic have the same subscriptions; where they only
/// overlap, each round about halves what is left.
const ROUNDS_MAX: usize = 16;

/// A new assignment.
pub(super) fn assign(spec: &GroupSpec) -> BTreeMap<Arc<str>, Partitions> {
    let mut builder = Builder::new(spec);
    if builder.topics.is_empty() {
        return BTreeMap::new();
    }
    builder.keep_what_is_subscribed();
    builder.assign_the_rest();
    builder.balance();
    builder.finish()
}

struct TopicState {
    id: Uuid,
    /// Indices of members, ascending.
    subscribers: Vec<usize>,
    /// The member that each partition goes to.
    owners: Vec<Option<usize>>,
}

struct Builder<'a> {
    spec: &'a GroupSpec,
    /// In the order in which they are assigned.
    topics: Vec<TopicState>,
    /// How many partitions each member has.
    sizes: Vec<usize>,
}

/// Topics with the most partitions for each subscriber come first.
fn by_load(a: &TopicState, b: &TopicState) -> Ordering {
    #[expect(clippy::cast_precision_loss, reason = "the numbers are counts, and Kafka divides them so")]
    let load = |topic: &TopicState| topic.owners.len() as f64 / topic.subscribers.len() as f64;
    // Kafka compares the halves of ids as signed numbers.
    let id = |topic: &TopicState| {
        let (high, low) = topic.id.as_u64_pair();
        (high.cast_signed(), low.cast_signed())
    };
    let fewer_subscribers = a.subscribers.len().cmp(&b.subscribers.len());
    load(b).total_cmp(&load(a)).then(fewer_subscribers).then_with(|| id(a).cmp(&id(b)))
}

impl<'a> Builder<'a> {
    fn new(spec: &'a GroupSpec) -> Self {
        let mut subscribers: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
        for (index, member) in spec.members.values().enumerate() {
            for topic in member.topics.iter() {
                subscribers.entry(*topic).or_default().push(index);
            }
        }
        let state = |(id, subscribers): (Uuid, Vec<usize>)| {
            let partitions = usize::try_from(spec.partitions_of(&id)).unwrap_or(0);
            TopicState { id, subscribers, owners: vec![None; partitions] }
        };
        let mut topics: Vec<TopicState> = subscribers.into_iter().map(state).collect();
        topics.sort_by(by_load);
        Self { spec, topics, sizes: vec![0; spec.members.len()] }
    }

    fn keep_what_is_subscribed(&mut self) {
        let places: BTreeMap<Uuid, usize> =
            self.topics.iter().enumerate().map(|(place, topic)| (topic.id, place)).collect();
        for (index, member) in self.spec.members.values().enumerate() {
            for (topic, partitions) in member.assignment.iter().filter(|(id, _)| member.topics.contains(*id))
            {
                let Some(topic) = places.get(topic).and_then(|place| self.topics.get_mut(*place)) else {
                    continue;
                };
                for partition in partitions.iter().filter_map(|number| usize::try_from(*number).ok()) {
                    if let Some(owner) = topic.owners.get_mut(partition) {
                        *owner = Some(index);
                        self.sizes[index] += 1;
                    }
                }
            }
        }
    }

    fn assign_the_rest(&mut self) {
        for topic in &mut self.topics {
            let mut ranges = Ranges::new(&topic.subscribers, &self.sizes);
            for owner in topic.owners.iter_mut().filter(|owner| owner.is_none()) {
                let member = ranges.next_least_loaded(&self.sizes);
                *owner = Some(member);
                self.sizes[member] += 1;
            }
        }
    }

    fn balance(&mut self) {
        let shared: Vec<usize> =
            (0..self.topics.len()).filter(|place| self.topics[*place].subscribers.len() >= 2).collect();
        let mut last_changed = None;
        for _ in 0..ROUNDS_MAX {
            for place in &shared {
                if last_changed == Some(*place) {
                    // Once around without a change.
                    return;
                }
                let moved = balance_topic(&mut self.topics[*place], &mut self.sizes);
                if moved || last_changed.is_none() {
                    last_changed = Some(*place);
                }
            }
        }
    }

    fn finish(self) -> BTreeMap<Arc<str>, Partitions> {
        let mut assignments = vec![Partitions::new(); self.sizes.len()];
        for topic in &self.topics {
            for (partition, owner) in (0..).zip(&topic.owners) {
                if let Some(owner) = owner {
                    let partitions: &mut BTreeSet<i32> = assignments[*owner].entry(topic.id).or_default();
                    partitions.insert(partition);
                }
            }
        }
        self.spec.members.keys().cloned().zip(assignments).collect()
    }
}

/// Moves partitions of a topic from the subscribers with the most to those with the least; whether any moved.
fn balance_topic(topic: &mut TopicState, sizes: &mut [usize]) -> bool {
    let mut ranges = Ranges::new(&topic.subscribers, sizes);
    if ranges.imbalance(sizes) <= 1 {
        return false;
    }
    let mut given: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (partition, owner) in topic.owners.iter().enumerate() {
        if let Some(owner) = owner {
            given.entry(*owner).or_default().push(partition);
        }
    }
    let mut moved = false;
    while !ranges.is_balanced() {
        let Some(partition) = ranges.take_from_most_loaded(sizes, &mut given) else { break };
        let to = ranges.next_least_loaded(sizes);
        if ranges.is_balanced() {
            break;
        }
        if let Some(from) = topic.owners[partition].replace(to) {
            sizes[from] -= 1;
        }
        sizes[to] += 1;
        moved = true;
    }
    moved
}

/// The subscribers of a topic by what they have, and two ranges of them: those with the least, which grows to the
/// right, and those with the most, which grows to the left (`MemberAssignmentBalancer`).
struct Ranges {
    members: Vec<usize>,
    least_end: usize,
    least_count: isize,
    next_least: usize,
    most_start: usize,
    most_end: usize,
    most_count: isize,
    /// The place before this one is next; 0 for none.
    next_most: usize,
}

fn size_of(sizes: &[usize], member: usize) -> isize {
    isize::try_from(sizes[member]).unwrap_or(isize::MAX)
}

impl Ranges {
    fn new(subscribers: &[usize], sizes: &[usize]) -> Self {
        let mut members = subscribers.to_vec();
        members.sort_by_key(|member| (sizes[*member], *member));
        let count = |member: Option<&usize>| member.map_or(0, |member| size_of(sizes, *member));
        Self {
            least_end: 0,
            least_count: count(members.first()) - 1,
            next_least: 0,
            most_start: members.len(),
            most_end: members.len(),
            most_count: count(members.last()) + 1,
            next_most: members.len(),
            members,
        }
    }

    fn imbalance(&self, sizes: &[usize]) -> isize {
        let count = |member: Option<&usize>| member.map_or(0, |member| size_of(sizes, *member));
        count(self.members.last()) - count(self.members.first())
    }

    fn is_balanced(&self) -> bool {
        self.most_count - self.least_count <= 1
    }

    /// Who gets the next partition. Everybody in the range gets one before the range grows.
    fn next_least_loaded(&mut self, sizes: &[usize]) -> usize {
        if self.next_least >= self.least_end {
            self.least_count += 1;
            while self.least_end < self.members.len()
                && size_of(sizes, self.members[self.least_end]) == self.least_count
            {
                self.least_end += 1;
            }
            self.next_least = 0;
        }
        let member = self.members[self.next_least];
        self.next_least += 1;
        member
    }

    /// The place of who gives the next partition.
    fn next_most_loaded(&mut self, sizes: &[usize]) -> Option<usize> {
        if self.next_most <= self.most_start {
            if self.most_end <= self.most_start && self.most_start > 0 {
                // Everybody in the range was excluded: it goes on with the next ones, whatever they have.
                self.most_count = size_of(sizes, self.members[self.most_start - 1]);
            } else {
                self.most_count -= 1;
            }
            while self.most_start > 0 && size_of(sizes, self.members[self.most_start - 1]) == self.most_count
            {
                self.most_start -= 1;
            }
            self.next_most = self.most_end;
        }
        self.next_most = self.next_most.checked_sub(1)?;
        Some(self.next_most)
    }

    /// Takes a member that has nothing of the topic out of the range of those with the most.
    fn exclude(&mut self, place: usize) {
        self.most_end -= 1;
        self.members.swap(place, self.most_end);
    }

    fn take_from_most_loaded(
        &mut self,
        sizes: &[usize],
        given: &mut BTreeMap<usize, Vec<usize>>,
    ) -> Option<usize> {
        loop {
            let place = self.next_most_loaded(sizes)?;
            match given.get_mut(&self.members[place]).and_then(Vec::pop) {
                Some(partition) => return Some(partition),
                None => self.exclude(place),
            }
        }
    }
}
