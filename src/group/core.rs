//! All groups and committed offsets of one shard: what a command decides, and how an event changes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::classic::{Change, ClassicGroup, GroupState};
use super::command::{Command, DescribedGroup, GroupFilter, ListedGroup, Reply};
use super::kind::Group;
use super::offsets::Offsets;
use super::record::Record;
use super::settings::GroupSettings;
use crate::error::ErrorCode;
use crate::shard::{Core, Decision, TimerChange, Token};
use crate::types::TimestampMs;

/// A change of a shard's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Written to the log.
    Record(Record),
    /// Forgotten at the next restart.
    Classic { group_id: Arc<str>, change: Change },
}

/// A deadline of a shard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A member is not heard of.
    Session { group_id: Arc<str>, member_id: Arc<str> },
    /// Members do not come back in a rebalance.
    Join { group_id: Arc<str> },
    /// Members do not sync.
    Sync { group_id: Arc<str> },
    /// Offsets are looked through for old ones.
    Expiration,
}

/// The groups of one partition of `__consumer_offsets` (`GroupCoordinatorShard`).
#[derive(Clone, Debug)]
pub struct GroupCore {
    pub(super) settings: Arc<GroupSettings>,
    pub(super) groups: BTreeMap<Arc<str>, Group>,
    pub(super) offsets: Offsets,
}

impl GroupCore {
    /// A shard without groups.
    pub fn new(settings: Arc<GroupSettings>) -> Self {
        Self { settings, groups: BTreeMap::new(), offsets: Offsets::default() }
    }

    /// How many groups there are in each state.
    pub(super) fn count_groups(&self) -> GroupCounts {
        let mut counts = GroupCounts { offsets: self.offsets.count(), ..GroupCounts::default() };
        for group in self.groups.values() {
            let Group::Classic(group) = group;
            match group.state {
                GroupState::Empty => counts.empty += 1,
                GroupState::PreparingRebalance => counts.preparing_rebalance += 1,
                GroupState::CompletingRebalance => counts.completing_rebalance += 1,
                GroupState::Stable => counts.stable += 1,
                GroupState::Dead => counts.dead += 1,
            }
        }
        counts
    }

    fn describe(&self, group_ids: Vec<Arc<str>>) -> Vec<DescribedGroup> {
        let describe = |group_id: Arc<str>| {
            let group = self.groups.get(&group_id).map(|Group::Classic(group)| group.describe());
            DescribedGroup { group_id, group }
        };
        group_ids.into_iter().map(describe).collect()
    }

    fn list(&self, filter: &GroupFilter) -> Vec<ListedGroup> {
        let wanted = |filter: &[String], name: &str| {
            filter.is_empty() || filter.iter().any(|wish| wish.trim().eq_ignore_ascii_case(name))
        };
        let groups = self.groups.values().map(Group::listed);
        groups.filter(|g| wanted(&filter.states, g.state) && wanted(&filter.types, g.group_type)).collect()
    }

    fn delete_groups(&self, token: Token, group_ids: Vec<Arc<str>>) -> Decision<Self> {
        let mut decision = Decision::default();
        let mut results = Vec::with_capacity(group_ids.len());
        for group_id in group_ids {
            let error = match self.groups.get(&group_id) {
                Some(group) if group.is_empty() => None,
                Some(_) => Some(ErrorCode::NonEmptyGroup),
                None => Some(ErrorCode::GroupIdNotFound),
            };
            if error.is_none() {
                decision.events.extend(self.offsets.delete_all(&group_id));
                self.delete_group(&group_id, &mut decision);
            }
            results.push((group_id, error));
        }
        decision.replies.push((token, Reply::DeleteGroups(results)));
        decision
    }

    /// Writes that an empty group is gone.
    pub(super) fn delete_group(&self, group_id: &Arc<str>, decision: &mut Decision<Self>) {
        let Some(group) = self.groups.get(group_id) else { return };
        group.delete(decision);
    }

    /// Forgets old offsets, and empty groups without any (`cleanupGroupMetadata`).
    fn expire_offsets(&self, now_ms: TimestampMs) -> Decision<Self> {
        let mut decision = Decision::default();
        for (group_id, group) in &self.groups {
            let expired = self.offsets.expire(group_id, group, now_ms, self.settings.offsets_retention_ms);
            decision.events.extend(expired.tombstones);
            if expired.nothing_left && group.is_empty() {
                self.delete_group(group_id, &mut decision);
            }
        }
        decision.timers.push(self.next_expiration(now_ms));
        decision
    }

    fn next_expiration(&self, now_ms: TimestampMs) -> TimerChange<Timer> {
        let deadline_ms = now_ms.saturating_add(self.settings.offsets_retention_check_interval_ms);
        TimerChange::Arm { timer: Timer::Expiration, deadline_ms }
    }
}

impl Core for GroupCore {
    type Command = Command;
    type Reply = Reply;
    type Event = Event;
    type Timer = Timer;

    /// Every member has a whole session to be heard of: what it sent to the coordinator before us is not known.
    fn start(&self, now_ms: TimestampMs) -> Decision<Self> {
        let mut decision = Decision { timers: vec![self.next_expiration(now_ms)], ..Decision::default() };
        for group in self.groups.values() {
            let started = match group {
                Group::Classic(group) => self.start_classic(now_ms, group),
            };
            decision.events.extend(started.events);
            decision.timers.extend(started.timers);
        }
        decision
    }

    fn decide(&self, now_ms: TimestampMs, token: Token, command: Command) -> Decision<Self> {
        match command {
            Command::Join(request) => self.join(now_ms, token, request),
            Command::Sync(request) => self.sync(now_ms, token, request),
            Command::Heartbeat(request) => self.heartbeat(now_ms, token, &request),
            Command::Leave(request) => self.leave(now_ms, token, request),
            Command::CommitOffsets(request) => self.commit_offsets(now_ms, token, request),
            Command::FetchOffsets(request) => {
                let fetched = self.offsets.fetch(request);
                Decision::reply(token, Reply::FetchOffsets(fetched))
            }
            Command::DeleteOffsets(request) => self.delete_offsets(token, request),
            Command::Describe { group_ids } => {
                Decision::reply(token, Reply::Describe(self.describe(group_ids)))
            }
            Command::List(filter) => Decision::reply(token, Reply::List(self.list(&filter))),
            Command::DeleteGroups { group_ids } => self.delete_groups(token, group_ids),
            Command::TopicsDeleted { topics } => {
                let events = topics.iter().flat_map(|topic| self.offsets.delete_topic(topic)).collect();
                Decision { events, replies: vec![(token, Reply::TopicsDeleted)], timers: Vec::new() }
            }
            Command::Count => Decision::reply(token, Reply::Count(self.count_groups())),
        }
    }

    fn expire(&self, now_ms: TimestampMs, timer: &Timer) -> Decision<Self> {
        match timer {
            Timer::Session { group_id, member_id } => {
                self.with_classic(now_ms, group_id, |draft| draft.session_expired(member_id))
            }
            Timer::Join { group_id } => {
                self.with_classic(now_ms, group_id, |draft| draft.join_deadline_passed())
            }
            Timer::Sync { group_id } => {
                self.with_classic(now_ms, group_id, |draft| draft.sync_deadline_passed())
            }
            Timer::Expiration => self.expire_offsets(now_ms),
        }
    }

    fn replay(&mut self, event: &Event) {
        match event {
            Event::Record(Record::Group { group_id, value: Some(value) }) => {
                let before = self.groups.get(group_id).map(|Group::Classic(group)| group);
                let group = ClassicGroup::from_record(group_id, before, value);
                self.groups.insert(group_id.clone(), Group::Classic(group));
            }
            Event::Record(Record::Group { group_id, value: None }) => {
                self.groups.remove(group_id);
            }
            Event::Record(Record::Offset { group_id, topic, partition, value: Some(offset) }) => {
                // Who commits without being a member of a group makes a simple group.
                let simple =
                    || Group::Classic(ClassicGroup::simple(group_id.clone(), offset.commit_timestamp_ms));
                self.groups.entry(group_id.clone()).or_insert_with(simple);
                self.offsets.put(group_id, topic, *partition, offset.clone());
            }
            Event::Record(Record::Offset { group_id, topic, partition, value: None }) => {
                self.offsets.remove(group_id, topic, *partition);
            }
            Event::Classic { group_id, change } => {
                if let Some(Group::Classic(group)) = self.groups.get_mut(group_id) {
                    group.replay(change);
                }
            }
        }
    }
}

/// Groups by state, and committed offsets, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupCounts {
    pub empty: usize,
    pub preparing_rebalance: usize,
    pub completing_rebalance: usize,
    pub stable: usize,
    pub dead: usize,
    pub offsets: usize,
}

impl GroupCounts {
    /// All groups.
    pub fn groups(&self) -> usize {
        self.empty + self.preparing_rebalance + self.completing_rebalance + self.stable + self.dead
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            empty: self.empty + other.empty,
            preparing_rebalance: self.preparing_rebalance + other.preparing_rebalance,
            completing_rebalance: self.completing_rebalance + other.completing_rebalance,
            stable: self.stable + other.stable,
            dead: self.dead + other.dead,
            offsets: self.offsets + other.offsets,
        }
    }
}
