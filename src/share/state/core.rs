//! The share partitions of one shard: what a command decides, and how an event changes them (`ShareCoordinatorShard`).

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::combine::combine;
use super::command::{Answer, Ask, Command, Reply};
use super::record::{Record, Snapshot, Update, Value};
use super::settings::ShareCoordinatorSettings;
use crate::error::{ApiError, ErrorCode};
use crate::shard::{Core, Decision, TimerChange, Token};
use crate::share::types::{
    PartitionState, SharePartition, StateSummary, StateUpdate, UNINITIALIZED_DELIVERY_COMPLETE_COUNT,
    UNINITIALIZED_START_OFFSET,
};
use crate::types::{LeaderEpoch, Offset, TimestampMs};

/// A change of a shard's state, or what follows from one outside of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Written to the log.
    Record(Record),
    /// What nobody needs any more is to be removed from the log.
    Prune,
}

/// A deadline of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Share partitions without a snapshot for long get one, so that they do not keep the log from being pruned.
    ColdSnapshots,
    /// The log is pruned.
    Prune,
}

/// What is known of a share partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) state: Snapshot,
    /// The highest that there was: an older leader is fenced.
    pub(super) leader_epoch: LeaderEpoch,
    /// The highest that there was; `None` where the log does not tell.
    pub(super) state_epoch: Option<i32>,
    /// Updates since the snapshot.
    pub(super) updates: u32,
}

impl Entry {
    fn apply(&mut self, update: &Update) {
        let state = &mut self.state;
        if update.start_offset != -1 {
            state.start_offset = update.start_offset;
        }
        if update.leader_epoch != -1 {
            state.leader_epoch = update.leader_epoch;
        }
        state.delivery_complete_count = update.delivery_complete_count;
        state.batches = combine(&state.batches, &update.batches, state.start_offset);
    }
}

/// The share partitions of one partition of `__share_group_state`.
#[derive(Clone, Debug)]
pub struct ShareStateCore {
    settings: Arc<ShareCoordinatorSettings>,
    pub(super) entries: BTreeMap<SharePartition, Entry>,
}

impl ShareStateCore {
    /// A shard without share partitions.
    pub fn new(settings: Arc<ShareCoordinatorSettings>) -> Self {
        Self { settings, entries: BTreeMap::new() }
    }

    #[cfg(test)]
    pub(super) fn settings(&self) -> Arc<ShareCoordinatorSettings> {
        Arc::clone(&self.settings)
    }

    fn initialize(
        &self,
        now_ms: TimestampMs,
        of: &SharePartition,
        (state_epoch, start_offset): (i32, Offset),
        topic_partitions: i32,
    ) -> Result<Value, ApiError> {
        check_partition(of)?;
        let known = self.entries.get(of);
        check_state_epoch(known, state_epoch)?;
        check_topic(of, topic_partitions)?;
        let uncounted = start_offset == UNINITIALIZED_START_OFFSET;
        Ok(Value::Snapshot(Snapshot {
            snapshot_epoch: known.map_or(0, |known| known.state.snapshot_epoch.wrapping_add(1)),
            state_epoch,
            leader_epoch: 0,
            start_offset,
            delivery_complete_count: if uncounted { UNINITIALIZED_DELIVERY_COMPLETE_COUNT } else { 0 },
            created_ms: now_ms,
            written_ms: now_ms,
            batches: Vec::new(),
        }))
    }

    fn known(&self, of: &SharePartition, what: &str) -> Result<&Entry, ApiError> {
        self.entries.get(of).ok_or_else(|| {
            let message = format!("the share partition is not initialized, and can not be {what}");
            ApiError::with(ErrorCode::InvalidRequest, message)
        })
    }

    fn read(
        &self,
        now_ms: TimestampMs,
        of: &SharePartition,
        leader_epoch: LeaderEpoch,
        topic_partitions: i32,
    ) -> Result<(PartitionState, Option<Value>), ApiError> {
        check_partition(of)?;
        let known = self.known(of, "read")?;
        check_leader_epoch(known, leader_epoch)?;
        check_topic(of, topic_partitions)?;
        let state = &known.state;
        let read = PartitionState {
            state_epoch: state.state_epoch,
            start_offset: state.start_offset,
            batches: state.batches.clone(),
        };
        if leader_epoch == -1 || known.leader_epoch == leader_epoch {
            return Ok((read, None));
        }
        let update = StateUpdate {
            state_epoch: state.state_epoch,
            leader_epoch,
            start_offset: state.start_offset,
            delivery_complete_count: state.delivery_complete_count,
            batches: Vec::new(),
        };
        Ok((read, Some(self.changed(now_ms, known, leader_epoch, &update))))
    }

    fn write(
        &self,
        now_ms: TimestampMs,
        of: &SharePartition,
        update: &StateUpdate,
        topic_partitions: i32,
    ) -> Result<Value, ApiError> {
        check_partition(of)?;
        let known = self.known(of, "written")?;
        check_leader_epoch(known, update.leader_epoch)?;
        check_state_epoch(Some(known), update.state_epoch)?;
        check_topic(of, topic_partitions)?;
        Ok(self.changed(now_ms, known, known.state.leader_epoch, update))
    }

    /// What is written of a change: what is new, or everything, where that was long ago.
    fn changed(
        &self,
        now_ms: TimestampMs,
        known: &Entry,
        leader_epoch: LeaderEpoch,
        update: &StateUpdate,
    ) -> Value {
        let state = &known.state;
        if known.updates < self.settings.updates_per_snapshot {
            return Value::Update(Update {
                snapshot_epoch: state.snapshot_epoch,
                leader_epoch,
                start_offset: update.start_offset,
                delivery_complete_count: update.delivery_complete_count,
                batches: combine(&[], &update.batches, update.start_offset),
            });
        }
        let start_offset = if update.start_offset == -1 { state.start_offset } else { update.start_offset };
        Value::Snapshot(Snapshot {
            snapshot_epoch: state.snapshot_epoch.wrapping_add(1),
            state_epoch: state.state_epoch,
            leader_epoch,
            start_offset,
            delivery_complete_count: update.delivery_complete_count,
            created_ms: now_ms,
            written_ms: now_ms,
            batches: combine(&state.batches, &update.batches, start_offset),
        })
    }

    fn delete(&self, of: &SharePartition, topic_partitions: i32) -> Result<Option<Value>, ApiError> {
        check_partition(of)?;
        check_topic(of, topic_partitions)?;
        Ok(self.entries.contains_key(of).then_some(Value::Deleted))
    }

    fn read_summary(&self, of: &SharePartition, topic_partitions: i32) -> Result<StateSummary, ApiError> {
        check_partition(of)?;
        check_topic(of, topic_partitions)?;
        Ok(match self.entries.get(of) {
            Some(Entry { state, .. }) => StateSummary {
                state_epoch: state.state_epoch,
                leader_epoch: state.leader_epoch,
                start_offset: state.start_offset,
                delivery_complete_count: state.delivery_complete_count,
            },
            None => StateSummary {
                state_epoch: 0,
                leader_epoch: 0,
                start_offset: UNINITIALIZED_START_OFFSET,
                delivery_complete_count: UNINITIALIZED_DELIVERY_COMPLETE_COUNT,
            },
        })
    }

    /// Snapshots of share partitions that have none for long, unless nothing was written since all had one.
    fn cold_snapshots(&self, now_ms: TimestampMs) -> Vec<Event> {
        let is_cold = |entry: &Entry| entry.state.created_ms != entry.state.written_ms;
        if self.entries.values().all(is_cold) {
            return Vec::new();
        }
        let interval_ms = self.settings.cold_snapshot_interval_ms;
        let old = self
            .entries
            .iter()
            .filter(|(_, entry)| now_ms.saturating_sub(entry.state.written_ms) >= interval_ms);
        let snapshots = old.map(|(of, Entry { state, .. })| {
            let snapshot_epoch = state.snapshot_epoch.wrapping_add(1);
            record(of, Value::Snapshot(Snapshot { snapshot_epoch, written_ms: now_ms, ..state.clone() }))
        });
        snapshots.collect()
    }

    fn topics_deleted(&self, topic_ids: &[Uuid]) -> Vec<Event> {
        let gone = self.entries.keys().filter(|of| topic_ids.contains(&of.topic_id));
        gone.map(|of| record(of, Value::Deleted)).collect()
    }

    fn arm(&self, timer: Timer, now_ms: TimestampMs) -> TimerChange<Timer> {
        let interval_ms = match timer {
            Timer::ColdSnapshots => self.settings.cold_snapshot_interval_ms,
            Timer::Prune => self.settings.prune_interval_ms,
        };
        TimerChange::Arm { timer, deadline_ms: now_ms.saturating_add(interval_ms) }
    }

    fn replay_record(&mut self, Record { of, value }: &Record) {
        match value {
            Value::Deleted => {
                self.entries.remove(of);
            }
            Value::Snapshot(state) => {
                let known = self.entries.get(of);
                let updates = known.map_or(0, |known| known.updates);
                let is_due = updates >= self.settings.updates_per_snapshot;
                let state_epoch = known.and_then(|known| known.state_epoch);
                let entry = Entry {
                    state: state.clone(),
                    leader_epoch: known
                        .map_or(state.leader_epoch, |known| known.leader_epoch.max(state.leader_epoch)),
                    state_epoch: state_epoch.max(Some(state.state_epoch)),
                    // One that was written for another reason does not count.
                    updates: if is_due { 0 } else { updates },
                };
                self.entries.insert(of.clone(), entry);
            }
            Value::Update(update) => {
                let entry = self.entries.entry(of.clone());
                let entry = entry.and_modify(|known| known.apply(update)).or_insert_with(|| Entry {
                    state: without_snapshot(update),
                    leader_epoch: update.leader_epoch,
                    state_epoch: None,
                    updates: 0,
                });
                entry.leader_epoch = entry.leader_epoch.max(update.leader_epoch);
                entry.updates += 1;
            }
        }
    }
}

fn record(of: &SharePartition, value: Value) -> Event {
    Event::Record(Record { of: of.clone(), value })
}

/// The state of a share partition whose snapshot is not in the log.
fn without_snapshot(update: &Update) -> Snapshot {
    Snapshot {
        snapshot_epoch: update.snapshot_epoch,
        state_epoch: 0,
        leader_epoch: update.leader_epoch,
        start_offset: update.start_offset,
        delivery_complete_count: update.delivery_complete_count,
        created_ms: 0,
        written_ms: 0,
        batches: update.batches.clone(),
    }
}

fn check_partition(of: &SharePartition) -> Result<(), ApiError> {
    if of.partition < 0 {
        return Err(ApiError::with(ErrorCode::InvalidRequest, "the partition is negative"));
    }
    Ok(())
}

fn check_topic(of: &SharePartition, topic_partitions: i32) -> Result<(), ApiError> {
    if of.partition >= topic_partitions {
        return Err(ErrorCode::UnknownTopicOrPartition.into());
    }
    Ok(())
}

fn check_leader_epoch(known: &Entry, leader_epoch: LeaderEpoch) -> Result<(), ApiError> {
    if leader_epoch != -1 && leader_epoch < known.leader_epoch {
        return Err(ErrorCode::FencedLeaderEpoch.into());
    }
    Ok(())
}

fn check_state_epoch(known: Option<&Entry>, state_epoch: i32) -> Result<(), ApiError> {
    let highest = known.and_then(|known| known.state_epoch);
    if state_epoch != -1 && highest.is_some_and(|highest| state_epoch < highest) {
        return Err(ErrorCode::FencedStateEpoch.into());
    }
    Ok(())
}

impl Core for ShareStateCore {
    type Command = Command;
    type Reply = Reply;
    type Event = Event;
    type Timer = Timer;

    fn start(&self, now_ms: TimestampMs) -> Decision<Self> {
        let timers = [Timer::ColdSnapshots, Timer::Prune].map(|timer| self.arm(timer, now_ms));
        Decision { timers: timers.into(), ..Decision::default() }
    }

    fn decide(&self, now_ms: TimestampMs, token: Token, command: Command) -> Decision<Self> {
        let (of, topic_partitions, ask) = match command {
            Command::On { of, topic_partitions, ask } => (of, topic_partitions, ask),
            Command::TopicsDeleted(topic_ids) => {
                let events = self.topics_deleted(&topic_ids);
                return Decision { events, ..Decision::reply(token, Ok(Answer::Done)) };
            }
        };
        let decided = match ask {
            Ask::Initialize { state_epoch, start_offset } => self
                .initialize(now_ms, &of, (state_epoch, start_offset), topic_partitions)
                .map(|value| (Answer::Done, Some(value))),
            Ask::Write(update) => {
                self.write(now_ms, &of, &update, topic_partitions).map(|value| (Answer::Done, Some(value)))
            }
            Ask::Delete => self.delete(&of, topic_partitions).map(|value| (Answer::Done, value)),
            Ask::Read { leader_epoch } => self
                .read(now_ms, &of, leader_epoch, topic_partitions)
                .map(|(state, value)| (Answer::State(state), value)),
            Ask::ReadSummary { .. } => {
                self.read_summary(&of, topic_partitions).map(|summary| (Answer::Summary(summary), None))
            }
        };
        let (reply, value) = match decided {
            Ok((answer, value)) => (Ok(answer), value),
            Err(error) => (Err(error), None),
        };
        let events = value.map(|value| Event::Record(Record { of, value }));
        Decision { events: events.into_iter().collect(), ..Decision::reply(token, reply) }
    }

    fn expire(&self, now_ms: TimestampMs, timer: &Timer) -> Decision<Self> {
        let events = match timer {
            Timer::ColdSnapshots => self.cold_snapshots(now_ms),
            Timer::Prune => vec![Event::Prune],
        };
        Decision { events, timers: vec![self.arm(*timer, now_ms)], ..Decision::default() }
    }

    fn replay(&mut self, event: &Event) {
        match event {
            Event::Record(record) => self.replay_record(record),
            Event::Prune => {}
        }
    }
}
