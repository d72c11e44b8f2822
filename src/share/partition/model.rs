//! Whatever members, the store, time, retention and restarts do: a record has one owner at a time, its deliveries are
//! counted, none is lost, the start never goes back, and no more than is allowed is in flight.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::world::{Fetch, LIMITS, World};
use super::{Acknowledgement, AcquireMode, Acquired, FetchedBatch, Limits, RecordState, Write, WriteId};
use crate::share::types::StateBatch;
use crate::testing::properties;
use crate::types::Offset;

const MEMBERS: [&str; 3] = ["a", "b", "c"];
const BATCH_RECORDS_MAX: i64 = 6;

#[derive(Clone, Debug)]
enum Step {
    Fetch {
        member: usize,
        records: i32,
        batch_size: i32,
        batches: usize,
        limit: bool,
    },
    /// Of what the member holds, from the record at this place on, this many in a row.
    Acknowledge {
        member: usize,
        place: usize,
        records: i64,
        kinds: Vec<i8>,
    },
    Release {
        member: usize,
    },
    Advance {
        by_ms: i64,
    },
    Complete {
        written: bool,
    },
    LogStart {
        by: i64,
    },
    Compact {
        place: usize,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let member = 0..MEMBERS.len();
    let fetch = (member.clone(), 1..12_i32, 1..8_i32, 1..5_usize, any::<bool>());
    let acknowledge = (member.clone(), 0..20_usize, 1..7_i64, proptest::collection::vec(0..5_i8, 1..7));
    prop_oneof![
        6 => fetch.prop_map(|(member, records, batch_size, batches, limit)| {
            Step::Fetch { member, records, batch_size, batches, limit }
        }),
        8 => acknowledge.prop_map(|(member, place, records, kinds)| {
            Step::Acknowledge { member, place, records, kinds }
        }),
        1 => member.prop_map(|member| Step::Release { member }),
        2 => (0..40_000_i64).prop_map(|by_ms| Step::Advance { by_ms }),
        6 => prop::bool::weighted(0.8).prop_map(|written| Step::Complete { written }),
        1 => (0..5_i64).prop_map(|by| Step::LogStart { by }),
        1 => (0..8_usize).prop_map(|place| Step::Compact { place }),
        1 => Just(Step::Restart),
    ]
}

/// The batches of a log, some of them with nothing between.
fn log() -> impl Strategy<Value = Vec<FetchedBatch>> {
    proptest::collection::vec((0..BATCH_RECORDS_MAX, prop::bool::weighted(0.1)), 1..14).prop_map(|sizes| {
        let mut next = 0;
        let batches = sizes.into_iter().map(|(size, gap)| {
            let base_offset = next + if gap { 3 } else { 0 };
            next = base_offset + size + 1;
            FetchedBatch {
                base_offset,
                last_offset: next - 1,
                producer_id: -1,
                is_transactional: false,
                is_abort_marker: false,
                is_control: false,
            }
        });
        batches.collect()
    })
}

/// What is known of a record without any cleverness.
#[derive(Clone, Debug, Default)]
struct Record {
    held: Option<(&'static str, i64)>,
    deliveries: i16,
    /// Its end is known, and written unless a write still has to say so.
    is_done: bool,
    /// What is being written of it.
    changing: Option<WriteId>,
}

struct Model {
    world: World,
    records: BTreeMap<Offset, Record>,
    highest_start: Offset,
}

impl Model {
    fn delivered(&mut self, member: &'static str, acquired: &Acquired) {
        let until = self.world.now_ms + self.world.limits.lock_duration_ms;
        for range in &acquired.ranges {
            for offset in range.first..=range.last {
                let record = self.records.entry(offset).or_default();
                assert_eq!(record.held, None, "offset {offset} has an owner");
                assert!(!record.is_done && record.changing.is_none(), "offset {offset} is done with");
                record.deliveries += 1;
                assert_eq!(record.deliveries, range.delivery_count, "offset {offset}");
                assert!(record.deliveries <= self.world.limits.delivery_count_max, "offset {offset}");
                record.held = Some((member, until));
            }
        }
    }

    fn changed(&mut self, write: Option<&Write>, at_once: bool) {
        for batch in write.iter().flat_map(|write| &write.batches) {
            for offset in batch.first_offset..=batch.last_offset {
                let record = self.records.get_mut(&offset).expect("only delivered records change");
                assert_eq!(record.deliveries, batch.delivery_count, "offset {offset}");
                if at_once {
                    record.held = None;
                    record.is_done = is_done(batch);
                } else {
                    record.changing = write.map(|write| write.id);
                }
            }
        }
    }

    fn complete(&mut self, written: bool) {
        let Some(write) = self.world.writes.first().cloned() else { return };
        self.world.complete(written).expect("there is a write");
        for batch in &write.batches {
            for offset in batch.first_offset..=batch.last_offset {
                let record = self.records.get_mut(&offset).expect("only delivered records change");
                if record.changing != Some(write.id) {
                    continue;
                }
                record.changing = None;
                let is_over = record.held.is_none_or(|(_, until)| until <= self.world.now_ms);
                if written {
                    record.is_done |= is_done(batch);
                    record.held = None;
                } else if is_over || is_archived(&self.world, offset) {
                    record.is_done |= record.deliveries >= self.world.limits.delivery_count_max;
                    record.held = None;
                }
            }
        }
    }

    fn acknowledge(&mut self, member: &'static str, place: usize, records: i64, kinds: &[i8]) {
        let start = self.world.partition.start_offset();
        let mine = |record: &Record| {
            record.changing.is_none() && record.held.is_some_and(|(holder, _)| holder == member)
        };
        let held: Vec<Offset> = self
            .records
            .range(start..)
            .filter(|(_, record)| mine(record))
            .map(|(offset, _)| *offset)
            .collect();
        let Some(first) = held.get(place % held.len().max(1)).copied() else { return };
        let mut last = first;
        while last - first + 1 < records && held.contains(&(last + 1)) {
            last += 1;
        }
        let count = usize::try_from(last - first + 1).expect("a few");
        let mut types: Vec<i8> = kinds.iter().copied().cycle().take(count).collect();
        if kinds.len() == 1 {
            types.truncate(1);
        }
        let acknowledgement = Acknowledgement { first, last, types: types.clone() };
        let write = self.world.acknowledge(member, &[acknowledgement]).expect("it holds them");
        let until = self.world.now_ms + self.world.limits.lock_duration_ms;
        for (place, offset) in (first..=last).enumerate() {
            let kind = types.get(place).or(types.first()).copied();
            if let (Some(4), Some(record)) = (kind, self.records.get_mut(&offset)) {
                record.held = Some((member, until));
            }
        }
        self.changed(write.as_ref(), false);
    }

    fn restart(&mut self) {
        self.world.restart().expect("what is kept can be");
        self.highest_start = self.world.kept.start_offset;
        let kept = self.world.kept.records.clone();
        self.records.clear();
        for offset in 0..self.highest_start {
            self.records.insert(offset, Record { is_done: true, ..Record::default() });
        }
        for (offset, (state, deliveries)) in kept.range(self.highest_start..).map(|(k, v)| (*k, *v)) {
            let is_done = RecordState::from_id(state).is_some_and(RecordState::is_terminal);
            self.records.insert(offset, Record { is_done, deliveries, ..Record::default() });
        }
    }

    fn step(&mut self, step: &Step) {
        match step.clone() {
            Step::Fetch { member, records, batch_size, batches, limit } => {
                let mode = if limit { AcquireMode::RecordLimit } else { AcquireMode::BatchOptimized };
                let fetch = Fetch { mode, batch_size, records_max: records, batches_max: batches };
                let (_, acquired) = self.world.fetch(MEMBERS[member], fetch);
                self.delivered(MEMBERS[member], &acquired);
                if limit {
                    assert!(acquired.records <= i64::from(records), "{acquired:?}");
                }
            }
            Step::Acknowledge { member, place, records, kinds } => {
                self.acknowledge(MEMBERS[member], place, records, &kinds);
            }
            Step::Release { member } => {
                let write = self.world.release(MEMBERS[member]);
                self.changed(write.as_ref(), false);
            }
            Step::Advance { by_ms } => {
                let timed_out = self.world.advance(by_ms);
                self.changed(timed_out.write.as_ref(), true);
                let now_ms = self.world.now_ms;
                // What the log start passed while it was being released is archived, and not held any more.
                let mut known = self.records.range(self.world.partition.start_offset()..);
                let is_late = known.any(|(_, record)| {
                    record.changing.is_none() && record.held.is_some_and(|(_, until)| until <= now_ms)
                });
                assert!(!is_late, "held for too long");
            }
            Step::Complete { written } => self.complete(written),
            Step::LogStart { by } => {
                let end = self.world.log.last().map_or(0, |batch| batch.last_offset + 1);
                self.world.log_start = (self.world.log_start + by).min(end);
                let log_start = self.world.log_start;
                self.world.log.retain(|batch| batch.last_offset >= log_start);
            }
            Step::Compact { place } => {
                if place + 1 < self.world.log.len() {
                    self.world.log.remove(place);
                }
            }
            Step::Restart => self.restart(),
        }
        let partition = &self.world.partition;
        assert!(partition.start_offset() >= self.highest_start, "the start went back");
        self.highest_start = partition.start_offset();
        let batches = partition.in_flight.values();
        let in_flight: i32 = batches.map(|batch| partition.count_in_flight(batch.first, batch.last)).sum();
        assert!(
            i64::from(in_flight) < self.world.limits.in_flight_max + 2 * BATCH_RECORDS_MAX,
            "{in_flight}"
        );
        assert_eq!(partition.delivery_complete_count(), self.count_done(), "{step:?}");
    }

    fn count_done(&self) -> i32 {
        let partition = &self.world.partition;
        let runs = partition.in_flight.values().flat_map(super::batch::InFlightBatch::runs);
        let done = runs.filter(|(.., state)| state.state.is_terminal());
        done.map(|(first, last, _)| partition.count_in_flight(first, last)).sum()
    }

    /// A member that accepts all that it gets comes to the end of the log, and whatever is left in the log was either
    /// delivered to it or is done with.
    fn drain(&mut self) {
        while !self.world.writes.is_empty() {
            self.complete(true);
        }
        self.step(&Step::Advance { by_ms: self.world.limits.lock_duration_ms });
        for _ in 0..400 {
            while !self.world.writes.is_empty() {
                self.complete(true);
            }
            let (_, acquired) = self.world.fetch(MEMBERS[0], Fetch::default());
            self.delivered(MEMBERS[0], &acquired);
            for range in &acquired.ranges {
                let acknowledgement =
                    Acknowledgement { first: range.first, last: range.last, types: vec![1] };
                let write = self.world.acknowledge(MEMBERS[0], &[acknowledgement]).expect("it holds them");
                self.changed(write.as_ref(), false);
                self.complete(true);
            }
        }
        let log_start = self.world.log_start;
        for batch in &self.world.log {
            for offset in batch.base_offset.max(log_start)..=batch.last_offset {
                let is_done = self.records.get(&offset).is_some_and(|record| record.is_done);
                assert!(is_done, "offset {offset} was lost: {:?}", self.world.partition);
            }
        }
        let end = self.world.log.last().map_or(0, |batch| batch.last_offset + 1);
        assert!(self.world.partition.start_offset() >= end, "{:?}", self.world.partition);
    }
}

/// Whether a record is not in the log any more, which is known while it is being released.
fn is_archived(world: &World, offset: Offset) -> bool {
    let batch = world.partition.floor(offset).filter(|(_, batch)| batch.last >= offset);
    let mut runs = batch.iter().flat_map(|(_, batch)| batch.runs());
    let run = runs.find(|(first, last, _)| (*first..=*last).contains(&offset));
    run.is_none_or(|(.., state)| state.state == RecordState::Archived)
}

fn is_done(batch: &StateBatch) -> bool {
    RecordState::from_id(batch.delivery_state).is_some_and(RecordState::is_terminal)
}

proptest! {
    #![proptest_config(properties(200))]
    #[test]
    fn no_record_is_lost_or_has_two_owners(
        log in log(),
        steps in proptest::collection::vec(step(), 1..80),
        delivery_count_max in 2..7_i16,
        in_flight_max in 5..30_i64,
    ) {
        let mut world = World::new(log);
        world.limits = Limits { delivery_count_max, in_flight_max, ..LIMITS };
        let mut model = Model { world, records: BTreeMap::new(), highest_start: 0 };
        for step in &steps {
            model.step(step);
        }
        model.drain();
    }
}
