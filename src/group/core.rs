//! All groups and committed offsets of one shard: what a command decides, and how an event changes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::classic::{Change, ClassicGroup, GroupState};
use super::cluster::ClusterView;
use super::command::{Command, CommittedOffset, DescribedGroup, GroupFilter, ListedGroup, Reply};
use super::consumer::{ConsumerChange, ConsumerGroup, ConsumerGroupState, Draft as ConsumerDraft};
use super::kind::Group;
use super::offsets::Offsets;
use super::record::Record;
use super::settings::GroupSettings;
use super::share::group::ShareGroupState;
use super::share::{Draft as ShareDraft, ShareChange, ShareGroup};
use super::streams::{Draft as StreamsDraft, StreamsChange, StreamsGroup, StreamsGroupState};
use super::transactions::{OffsetKey, PendingOffset, TransactionEvent, TransactionalOffsets};
use crate::error::ErrorCode;
use crate::shard::{Core, Decision, TimerChange, Token};
use crate::types::{ProducerId, TimestampMs};

/// A change of a shard's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Written to the log.
    Record(Record),
    /// Forgotten at the next restart.
    Classic {
        group_id: Arc<str>,
        change: Change,
    },
    /// Forgotten at the next restart.
    Consumer {
        group_id: Arc<str>,
        change: ConsumerChange,
    },
    /// Forgotten at the next restart.
    Share {
        group_id: Arc<str>,
        change: ShareChange,
    },
    Streams {
        group_id: Arc<str>,
        change: StreamsChange,
    },
    /// The cluster is another one now. A restart begins with the one of its time.
    Cluster(Arc<ClusterView>),
    /// Written as far as it says.
    Transaction(TransactionEvent),
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
    /// A member of a consumer group does not give up partitions, or one of a streams group tasks.
    Revocation { group_id: Arc<str>, member_id: Arc<str> },
    /// A classic member of a consumer group does not come back.
    Rejoin { group_id: Arc<str>, member_id: Arc<str> },
    /// A classic member of a consumer group does not sync.
    MemberSync { group_id: Arc<str>, member_id: Arc<str> },
    /// The regular expressions of a consumer group are to be resolved.
    Expressions { group_id: Arc<str> },
    /// The first members of a streams group have been waited for.
    InitialDelay { group_id: Arc<str> },
    /// Offsets are looked through for old ones.
    Expiration,
}

/// The groups of one partition of `__consumer_offsets` (`GroupCoordinatorShard`).
#[derive(Clone, Debug)]
pub struct GroupCore {
    pub(super) settings: Arc<GroupSettings>,
    pub(super) cluster: Arc<ClusterView>,
    pub(super) groups: BTreeMap<Arc<str>, Group>,
    pub(super) offsets: Offsets,
    pub(super) transactional: TransactionalOffsets,
}

impl GroupCore {
    /// A shard without groups.
    pub fn new(settings: Arc<GroupSettings>, cluster: Arc<ClusterView>) -> Self {
        Self {
            settings,
            cluster,
            groups: BTreeMap::new(),
            offsets: Offsets::default(),
            transactional: TransactionalOffsets::default(),
        }
    }

    /// How many groups there are in each state.
    pub(super) fn count_groups(&self) -> GroupCounts {
        let mut counts = GroupCounts { offsets: self.offsets.count(), ..GroupCounts::default() };
        for group in self.groups.values() {
            match group {
                Group::Classic(group) => counts.classic.add(group.state),
                Group::Consumer(group) => counts.consumer.add(group.state()),
                Group::Share(group) => counts.share.add(group.state()),
                Group::Streams(group) => counts.streams.add(group.state()),
            }
        }
        counts
    }

    fn describe(&self, group_ids: Vec<Arc<str>>) -> Vec<DescribedGroup> {
        let describe = |group_id: Arc<str>| {
            let group = match self.groups.get(&group_id) {
                Some(Group::Classic(group)) => Some(group.describe()),
                Some(Group::Consumer(_) | Group::Share(_) | Group::Streams(_)) | None => None,
            };
            DescribedGroup { group_id, group }
        };
        group_ids.into_iter().map(describe).collect()
    }

    fn list(&self, filter: &GroupFilter) -> Vec<ListedGroup> {
        let wanted = |filter: &[String], name: &str| {
            let is_name = |wish: &str| wish.eq_ignore_ascii_case(name);
            // Kafka knows this state by another name here (`StreamsGroupState.toLowerCaseString`).
            let is_not_ready = |wish: &str| name == "NotReady" && wish.eq_ignore_ascii_case("not_ready");
            filter.is_empty() || filter.iter().map(|wish| wish.trim()).any(|w| is_name(w) || is_not_ready(w))
        };
        let groups = self.groups.values().map(Group::listed);
        groups.filter(|g| wanted(&filter.states, g.state) && wanted(&filter.types, g.group_type)).collect()
    }

    fn delete_groups(&self, now_ms: TimestampMs, token: Token, group_ids: Vec<Arc<str>>) -> Decision<Self> {
        let mut decision = Decision::default();
        let mut results = Vec::with_capacity(group_ids.len());
        for group_id in group_ids {
            let error = match self.groups.get(&group_id) {
                Some(group) if group.is_empty() => None,
                Some(_) => Some(ErrorCode::NonEmptyGroup),
                None => Some(ErrorCode::GroupIdNotFound),
            };
            if error.is_none() {
                decision.events.extend(self.delete_all_offsets(&group_id));
                self.delete_group(now_ms, &group_id, &mut decision);
            }
            results.push((group_id, error));
        }
        decision.replies.push((token, Reply::DeleteGroups(results)));
        decision
    }

    /// Writes that an empty group is gone.
    pub(super) fn delete_group(
        &self,
        now_ms: TimestampMs,
        group_id: &Arc<str>,
        decision: &mut Decision<Self>,
    ) {
        let Some(group) = self.groups.get(group_id) else { return };
        let deleted = self.deleted(now_ms, group);
        decision.events.extend(deleted.events);
        decision.timers.extend(deleted.timers);
    }

    /// Forgets old offsets, and empty groups without any (`cleanupGroupMetadata`).
    fn expire_offsets(&self, now_ms: TimestampMs) -> Decision<Self> {
        let mut decision = Decision::default();
        for (group_id, group) in &self.groups {
            let expired = self.expire_group_offsets(now_ms, group_id, group);
            decision.events.extend(expired.tombstones);
            if expired.nothing_left && group.is_empty() {
                self.delete_group(now_ms, group_id, &mut decision);
            }
        }
        decision.events.extend(self.transactional.forget(now_ms, self.settings.producer_id_expiration_ms));
        decision.timers.push(self.next_expiration(now_ms));
        decision
    }

    /// Who commits without being a member of a group makes a simple group.
    fn ensure_group(&mut self, group_id: &Arc<str>, now_ms: TimestampMs) {
        let simple = || Group::Classic(ClassicGroup::simple(group_id.clone(), now_ms));
        self.groups.entry(group_id.clone()).or_insert_with(simple);
    }

    /// Takes over an offset that an open transaction commits.
    pub(super) fn load_pending(&mut self, producer_id: ProducerId, key: OffsetKey, pending: PendingOffset) {
        let now_ms = pending.value.as_ref().map_or(0, |value| value.commit_timestamp_ms);
        self.ensure_group(&key.group_id, now_ms);
        self.transactional.load(producer_id, key, pending);
    }

    fn put_offset(
        &mut self,
        group_id: &Arc<str>,
        topic: &Arc<str>,
        partition: i32,
        offset: &CommittedOffset,
    ) {
        self.ensure_group(group_id, offset.commit_timestamp_ms);
        self.offsets.put(group_id, topic, partition, offset.clone());
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
                Group::Consumer(group) => self.decide_for(now_ms, group, ConsumerDraft::start),
                Group::Share(group) => self.decide_for(now_ms, group, ShareDraft::start),
                Group::Streams(group) => self.decide_for(now_ms, group, StreamsDraft::start),
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
            Command::CommitTransactionalOffsets(request) => {
                self.commit_transactional_offsets(now_ms, token, request)
            }
            Command::EndTransaction(marker) => self.end_transaction(token, marker),
            Command::FetchOffsets(request) => {
                Decision::reply(token, Reply::FetchOffsets(self.fetch_offsets(request)))
            }
            Command::DeleteOffsets(request) => self.delete_offsets(token, request),
            Command::ConsumerHeartbeat(request) => self.consumer_heartbeat(now_ms, token, &request),
            Command::DescribeConsumer { group_id } => {
                Decision::reply(token, Reply::DescribeConsumer(self.describe_consumer(group_id)))
            }
            Command::Share(command) => self.decide_share(now_ms, token, command),
            Command::StreamsHeartbeat(request) => self.streams_heartbeat(now_ms, token, &request),
            Command::DescribeStreams { group_id } => {
                Decision::reply(token, Reply::DescribeStreams(self.describe_streams(group_id)))
            }
            Command::Describe { group_ids } => {
                Decision::reply(token, Reply::Describe(self.describe(group_ids)))
            }
            Command::List(filter) => Decision::reply(token, Reply::List(self.list(&filter))),
            Command::DeleteGroups { group_ids } => self.delete_groups(now_ms, token, group_ids),
            Command::TopicsDeleted { topics } => {
                let offsets = topics.iter().flat_map(|topic| self.delete_topic_offsets(topic));
                let events = offsets.chain(self.share_topics_deleted(now_ms, &topics)).collect();
                Decision { events, replies: vec![(token, Reply::TopicsDeleted)], timers: Vec::new() }
            }
            Command::ClusterChanged { cluster } => {
                // They may come in another order than they were sent in.
                let is_newer = cluster.version > self.cluster.version;
                let events = if is_newer { vec![Event::Cluster(cluster)] } else { Vec::new() };
                Decision { events, replies: vec![(token, Reply::ClusterChanged)], timers: Vec::new() }
            }
            Command::Count => Decision::reply(token, Reply::Count(self.count_groups())),
        }
    }

    fn expire(&self, now_ms: TimestampMs, timer: &Timer) -> Decision<Self> {
        match timer {
            Timer::Session { group_id, member_id } => match self.groups.get(group_id) {
                Some(Group::Consumer(_)) => {
                    self.decide_if_there(now_ms, group_id, |draft: &mut ConsumerDraft<'_>| {
                        draft.expire_member(member_id, "its session timed out");
                    })
                }
                Some(Group::Share(_)) => {
                    self.decide_if_there(now_ms, group_id, |draft: &mut ShareDraft<'_>| {
                        draft.session_expired(member_id)
                    })
                }
                Some(Group::Streams(_)) => {
                    self.decide_if_there(now_ms, group_id, |draft: &mut StreamsDraft<'_>| {
                        draft.expire_member(member_id, "its session timed out");
                    })
                }
                Some(Group::Classic(_)) | None => {
                    self.with_classic(now_ms, group_id, |draft| draft.session_expired(member_id))
                }
            },
            Timer::Join { group_id } => {
                self.with_classic(now_ms, group_id, |draft| draft.join_deadline_passed())
            }
            Timer::Sync { group_id } => {
                self.with_classic(now_ms, group_id, |draft| draft.sync_deadline_passed())
            }
            Timer::Revocation { group_id, member_id } => match self.groups.get(group_id) {
                Some(Group::Streams(_)) => {
                    self.decide_if_there(now_ms, group_id, |draft: &mut StreamsDraft<'_>| {
                        draft.revocation_expired(member_id)
                    })
                }
                Some(_) | None => self.decide_if_there(now_ms, group_id, |draft: &mut ConsumerDraft<'_>| {
                    draft.revocation_expired(member_id)
                }),
            },
            Timer::InitialDelay { group_id } => {
                self.decide_if_there(now_ms, group_id, |draft: &mut StreamsDraft<'_>| {
                    draft.initial_delay_over()
                })
            }
            Timer::Rejoin { group_id, member_id } => {
                self.decide_if_there(now_ms, group_id, |draft: &mut ConsumerDraft<'_>| {
                    draft.expire_member(member_id, "it did not join again in time");
                })
            }
            Timer::MemberSync { group_id, member_id } => {
                self.decide_if_there(now_ms, group_id, |draft: &mut ConsumerDraft<'_>| {
                    draft.expire_member(member_id, "it did not sync in time");
                })
            }
            Timer::Expressions { group_id } => {
                self.decide_if_there(now_ms, group_id, |draft: &mut ConsumerDraft<'_>| {
                    draft.resolve_expressions()
                })
            }
            Timer::Expiration => self.expire_offsets(now_ms),
        }
    }

    fn replay(&mut self, event: &Event) {
        match event {
            Event::Record(Record::Group { group_id, value: Some(value) }) => {
                let before = match self.groups.get(group_id) {
                    Some(Group::Classic(group)) => Some(group),
                    Some(Group::Consumer(_) | Group::Share(_) | Group::Streams(_)) | None => None,
                };
                let group = ClassicGroup::from_record(group_id, before, value);
                self.groups.insert(group_id.clone(), Group::Classic(group));
            }
            Event::Record(Record::Group { group_id, value: None }) => {
                if let Some(Group::Classic(_)) = self.groups.get(group_id) {
                    self.groups.remove(group_id);
                }
            }
            Event::Record(Record::Consumer(record)) => self.replay_record(record),
            Event::Record(Record::Share(record)) => self.replay_record(record),
            Event::Record(Record::Streams(record)) => self.replay_record(record),
            Event::Record(Record::Offset { group_id, topic, partition, value: Some(offset) }) => {
                self.put_offset(group_id, topic, *partition, offset);
            }
            Event::Record(Record::Offset { group_id, topic, partition, value: None }) => {
                self.offsets.remove(group_id, topic, *partition);
            }
            Event::Transaction(event) => {
                if let TransactionEvent::Added {
                    key,
                    pending: PendingOffset { value: Some(value), .. },
                    ..
                } = event
                {
                    self.ensure_group(&key.group_id, value.commit_timestamp_ms);
                }
                if let TransactionEvent::Ended { committed, .. } = event {
                    for (key, value) in committed {
                        self.put_offset(&key.group_id, &key.topic, key.partition, value);
                    }
                }
                self.transactional.replay(event);
            }
            Event::Classic { group_id, change } => {
                if let Some(Group::Classic(group)) = self.groups.get_mut(group_id) {
                    group.replay(change);
                }
            }
            Event::Consumer { group_id, change } => self.replay_change::<ConsumerGroup>(group_id, change),
            Event::Share { group_id, change } => self.replay_change::<ShareGroup>(group_id, change),
            Event::Streams { group_id, change } => self.replay_change::<StreamsGroup>(group_id, change),
            Event::Cluster(cluster) => self.cluster = cluster.clone(),
        }
    }
}

/// How many classic groups there are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassicCounts {
    pub empty: usize,
    pub preparing_rebalance: usize,
    pub completing_rebalance: usize,
    pub stable: usize,
    pub dead: usize,
}

impl ClassicCounts {
    fn add(&mut self, state: GroupState) {
        *match state {
            GroupState::Empty => &mut self.empty,
            GroupState::PreparingRebalance => &mut self.preparing_rebalance,
            GroupState::CompletingRebalance => &mut self.completing_rebalance,
            GroupState::Stable => &mut self.stable,
            GroupState::Dead => &mut self.dead,
        } += 1;
    }

    /// All of them.
    pub fn total(&self) -> usize {
        self.empty + self.preparing_rebalance + self.completing_rebalance + self.stable + self.dead
    }
}

/// How many consumer groups there are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerCounts {
    pub empty: usize,
    pub assigning: usize,
    pub reconciling: usize,
    pub stable: usize,
}

impl ConsumerCounts {
    fn add(&mut self, state: ConsumerGroupState) {
        *match state {
            ConsumerGroupState::Empty => &mut self.empty,
            ConsumerGroupState::Assigning => &mut self.assigning,
            ConsumerGroupState::Reconciling => &mut self.reconciling,
            ConsumerGroupState::Stable => &mut self.stable,
        } += 1;
    }

    /// All of them.
    pub fn total(&self) -> usize {
        self.empty + self.assigning + self.reconciling + self.stable
    }
}

/// How many share groups there are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShareCounts {
    pub empty: usize,
    pub stable: usize,
}

impl ShareCounts {
    fn add(&mut self, state: ShareGroupState) {
        *match state {
            ShareGroupState::Empty => &mut self.empty,
            ShareGroupState::Stable => &mut self.stable,
        } += 1;
    }

    /// All of them.
    pub fn total(&self) -> usize {
        self.empty + self.stable
    }
}

/// How many streams groups there are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamsCounts {
    pub empty: usize,
    pub not_ready: usize,
    pub assigning: usize,
    pub reconciling: usize,
    pub stable: usize,
}

impl StreamsCounts {
    fn add(&mut self, state: StreamsGroupState) {
        *match state {
            StreamsGroupState::Empty => &mut self.empty,
            StreamsGroupState::NotReady => &mut self.not_ready,
            StreamsGroupState::Assigning => &mut self.assigning,
            StreamsGroupState::Reconciling => &mut self.reconciling,
            StreamsGroupState::Stable => &mut self.stable,
        } += 1;
    }

    /// All of them.
    pub fn total(&self) -> usize {
        self.empty + self.not_ready + self.assigning + self.reconciling + self.stable
    }

    fn plus(self, other: Self) -> Self {
        Self {
            empty: self.empty + other.empty,
            not_ready: self.not_ready + other.not_ready,
            assigning: self.assigning + other.assigning,
            reconciling: self.reconciling + other.reconciling,
            stable: self.stable + other.stable,
        }
    }
}

/// Groups by type and state, and committed offsets, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupCounts {
    pub classic: ClassicCounts,
    pub consumer: ConsumerCounts,
    pub share: ShareCounts,
    pub streams: StreamsCounts,
    pub offsets: usize,
}

impl GroupCounts {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            classic: ClassicCounts {
                empty: self.classic.empty + other.classic.empty,
                preparing_rebalance: self.classic.preparing_rebalance + other.classic.preparing_rebalance,
                completing_rebalance: self.classic.completing_rebalance + other.classic.completing_rebalance,
                stable: self.classic.stable + other.classic.stable,
                dead: self.classic.dead + other.classic.dead,
            },
            consumer: ConsumerCounts {
                empty: self.consumer.empty + other.consumer.empty,
                assigning: self.consumer.assigning + other.consumer.assigning,
                reconciling: self.consumer.reconciling + other.consumer.reconciling,
                stable: self.consumer.stable + other.consumer.stable,
            },
            share: ShareCounts {
                empty: self.share.empty + other.share.empty,
                stable: self.share.stable + other.share.stable,
            },
            streams: self.streams.plus(other.streams),
            offsets: self.offsets + other.offsets,
        }
    }
}
