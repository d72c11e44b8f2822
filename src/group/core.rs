//! All groups and committed offsets of one shard: what a command decides, and how an event changes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::classic::draft::Draft;
use super::classic::{Change, ClassicGroup, GroupState};
use super::command::{
    Command, DescribedGroup, GroupFilter, Heartbeat, JoinGroup, LeaveGroup, ListedGroup, RefusedJoin, Reply,
    SyncGroup,
};
use super::offsets::Offsets;
use super::record::Record;
use super::settings::GroupSettings;
use crate::error::ErrorCode;
use crate::shard::{Core, Decision, TimerChange, Token};
use crate::types::TimestampMs;

/// The type that ListGroups gives to groups of the classic protocol.
const CLASSIC_GROUP_TYPE: &str = "classic";

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
    pub(super) groups: BTreeMap<Arc<str>, ClassicGroup>,
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

    fn draft(&self, now_ms: TimestampMs, group: &ClassicGroup) -> Draft<'_> {
        Draft::new(&self.settings, now_ms, group.clone())
    }

    fn join(&self, now_ms: TimestampMs, token: Token, request: JoinGroup) -> Decision<Self> {
        let refuse = |code| {
            let refused = RefusedJoin { code, member_id: request.member_id.clone() };
            Decision::reply(token, Reply::Join(Err(refused)))
        };
        let timeouts = self.settings.min_session_timeout_ms..=self.settings.max_session_timeout_ms;
        if request.group_id.is_empty() {
            return refuse(ErrorCode::InvalidGroupId);
        }
        if !timeouts.contains(&request.session_timeout_ms) {
            return refuse(ErrorCode::InvalidSessionTimeout);
        }
        let mut draft = match self.groups.get(&request.group_id) {
            Some(group) => self.draft(now_ms, group),
            None if request.member_id.is_empty() => {
                let mut draft = self.draft(now_ms, &ClassicGroup::simple(request.group_id.clone(), now_ms));
                draft.create();
                draft
            }
            None => return refuse(ErrorCode::UnknownMemberId),
        };
        draft.join(token, request);
        draft.finish()
    }

    fn sync(&self, now_ms: TimestampMs, token: Token, request: SyncGroup) -> Decision<Self> {
        let refuse = |code| Decision::reply(token, Reply::Sync(Err(code)));
        if request.group_id.is_empty() {
            return refuse(ErrorCode::InvalidGroupId);
        }
        match self.groups.get(&request.group_id) {
            Some(group) if group.state != GroupState::Empty => {
                let mut draft = self.draft(now_ms, group);
                draft.sync(token, request);
                draft.finish()
            }
            Some(_) | None => refuse(ErrorCode::UnknownMemberId),
        }
    }

    fn heartbeat(&self, now_ms: TimestampMs, token: Token, request: &Heartbeat) -> Decision<Self> {
        let refuse = |code| Decision::reply(token, Reply::Heartbeat(Err(code)));
        if request.group_id.is_empty() {
            return refuse(ErrorCode::InvalidGroupId);
        }
        let Some(group) = self.groups.get(&request.group_id) else {
            return refuse(ErrorCode::UnknownMemberId);
        };
        let mut draft = self.draft(now_ms, group);
        let alive = draft.heartbeat(request);
        let mut decision = draft.finish();
        decision.replies.push((token, Reply::Heartbeat(alive)));
        decision
    }

    fn leave(&self, now_ms: TimestampMs, token: Token, request: LeaveGroup) -> Decision<Self> {
        if request.group_id.is_empty() {
            return Decision::reply(token, Reply::Leave(Err(ErrorCode::InvalidGroupId)));
        }
        let unknown = ClassicGroup::simple(request.group_id.clone(), now_ms);
        let group = self.groups.get(&request.group_id).unwrap_or(&unknown);
        let mut draft = self.draft(now_ms, group);
        let left = draft.leave(request.members);
        let mut decision = draft.finish();
        decision.replies.push((token, Reply::Leave(Ok(left))));
        decision
    }

    fn describe(&self, group_ids: Vec<Arc<str>>) -> Vec<DescribedGroup> {
        let describe = |group_id: Arc<str>| {
            let group = self.groups.get(&group_id).map(ClassicGroup::describe);
            DescribedGroup { group_id, group }
        };
        group_ids.into_iter().map(describe).collect()
    }

    fn list(&self, filter: &GroupFilter) -> Vec<ListedGroup> {
        let wanted = |filter: &[String], name: &str| {
            filter.is_empty() || filter.iter().any(|wish| wish.trim().eq_ignore_ascii_case(name))
        };
        let listed = |group: &ClassicGroup| ListedGroup {
            group_id: group.group_id.clone(),
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            state: group.state.name(),
            group_type: CLASSIC_GROUP_TYPE,
        };
        let groups = self.groups.values().map(listed);
        groups.filter(|g| wanted(&filter.states, g.state) && wanted(&filter.types, g.group_type)).collect()
    }

    fn delete_groups(&self, token: Token, group_ids: Vec<Arc<str>>) -> Decision<Self> {
        let mut decision = Decision::default();
        let mut results = Vec::with_capacity(group_ids.len());
        for group_id in group_ids {
            let error = match self.groups.get(&group_id).map(|group| group.state) {
                None | Some(GroupState::Dead) => Some(ErrorCode::GroupIdNotFound),
                Some(GroupState::Empty) => None,
                Some(
                    GroupState::PreparingRebalance | GroupState::CompletingRebalance | GroupState::Stable,
                ) => Some(ErrorCode::NonEmptyGroup),
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
        let cancel = |member_id: &Arc<str>| TimerChange::Cancel {
            timer: Timer::Session { group_id: group_id.clone(), member_id: member_id.clone() },
        };
        decision.timers.extend(group.pending_members.iter().map(cancel));
        decision.events.push(Event::Record(Record::Group { group_id: group_id.clone(), value: None }));
    }

    /// Forgets old offsets, and empty groups without any (`cleanupGroupMetadata`).
    fn expire_offsets(&self, now_ms: TimestampMs) -> Decision<Self> {
        let mut decision = Decision::default();
        for (group_id, group) in &self.groups {
            let expired = self.offsets.expire(group, now_ms, self.settings.offsets_retention_ms);
            decision.events.extend(expired.tombstones);
            if expired.nothing_left && group.state == GroupState::Empty {
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

    pub(super) fn with_group(
        &self,
        now_ms: TimestampMs,
        group_id: &str,
        decide: impl FnOnce(&mut Draft<'_>),
    ) -> Decision<Self> {
        let Some(group) = self.groups.get(group_id) else { return Decision::default() };
        let mut draft = self.draft(now_ms, group);
        decide(&mut draft);
        draft.finish()
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
            let mut draft = self.draft(now_ms, group);
            for member_id in group.members.keys() {
                draft.touch(member_id);
            }
            if group.members.len() > self.settings.max_size {
                draft.prepare_rebalance("the group is larger than group.max.size");
            }
            let started = draft.finish();
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
                self.with_group(now_ms, group_id, |draft| draft.session_expired(member_id))
            }
            Timer::Join { group_id } => {
                self.with_group(now_ms, group_id, |draft| draft.join_deadline_passed())
            }
            Timer::Sync { group_id } => {
                self.with_group(now_ms, group_id, |draft| draft.sync_deadline_passed())
            }
            Timer::Expiration => self.expire_offsets(now_ms),
        }
    }

    fn replay(&mut self, event: &Event) {
        match event {
            Event::Record(Record::Group { group_id, value: Some(value) }) => {
                let group = ClassicGroup::from_record(group_id, self.groups.get(group_id), value);
                self.groups.insert(group_id.clone(), group);
            }
            Event::Record(Record::Group { group_id, value: None }) => {
                self.groups.remove(group_id);
            }
            Event::Record(Record::Offset { group_id, topic, partition, value: Some(offset) }) => {
                // Who commits without being a member of a group makes a simple group.
                let simple = || ClassicGroup::simple(group_id.clone(), offset.commit_timestamp_ms);
                self.groups.entry(group_id.clone()).or_insert_with(simple);
                self.offsets.put(group_id, topic, *partition, offset.clone());
            }
            Event::Record(Record::Offset { group_id, topic, partition, value: None }) => {
                self.offsets.remove(group_id, topic, *partition);
            }
            Event::Classic { group_id, change } => {
                if let Some(group) = self.groups.get_mut(group_id) {
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
