//! Retention against a model: whatever is appended, deleted, configured and restarted, the log holds what Kafka's rules
//! for segments leave.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::log::OffsetQuery;
use crate::storage::{Durability, KeyPrefix};
use crate::testing::properties;

const HOUR_MS: i64 = 3_600_000;
const CASES: u32 = 40;

#[derive(Clone, Debug)]
enum Step {
    /// Batches with these ages in hours and record counts, which go to the store together.
    Append(Vec<(i64, usize)>),
    Pass(i64),
    SetWall(i64),
    Retain,
    /// A part of the log in percent, up to its high watermark.
    DeleteRecords(u8),
    Configure(Settings),
    Restart,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    retention_hours: i64,
    retention_bytes: i64,
    segment_bytes: i32,
    segment_hours: i64,
    deletes: bool,
}

fn settings() -> impl Strategy<Value = Settings> {
    let retention_hours = prop_oneof![Just(-1), Just(0), Just(5), Just(50)];
    let retention_bytes = prop_oneof![Just(-1), Just(0), 100..2_000_i64];
    let parts = (retention_hours, retention_bytes, 150..900_i32, 1..60_i64, prop::bool::weighted(0.9));
    parts.prop_map(|(retention_hours, retention_bytes, segment_bytes, segment_hours, deletes)| Settings {
        retention_hours,
        retention_bytes,
        segment_bytes,
        segment_hours,
        deletes,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::collection::vec((-2..60_i64, 1..4_usize), 1..4).prop_map(Step::Append),
        3 => (0..40_i64).prop_map(Step::Pass),
        1 => (-90..90_i64).prop_map(Step::SetWall),
        6 => Just(Step::Retain),
        3 => (0..=100_u8).prop_map(Step::DeleteRecords),
        2 => settings().prop_map(Step::Configure),
        1 => Just(Step::Restart),
    ]
}

#[derive(Clone, Debug)]
struct Written {
    base_offset: i64,
    records: i64,
    bytes: u64,
    timestamp: i64,
}

/// Kafka's segments: nothing but their batches.
#[derive(Debug, Default)]
struct Model {
    segments: Vec<(i64, Vec<Written>)>,
    log_start: i64,
    log_end: i64,
}

impl Model {
    fn append(&mut self, batch: Written, settings: Settings) {
        if self.segments.is_empty() {
            self.segments.push((self.log_end, Vec::new()));
        }
        if let Some((_, active)) = self.segments.last()
            && let Some(first) = active.first()
        {
            let bytes: u64 = active.iter().map(|batch| batch.bytes).sum();
            let waited_ms = batch.timestamp - first.timestamp;
            let limit = u64::try_from(settings.segment_bytes).unwrap();
            if bytes + batch.bytes > limit || waited_ms > settings.segment_hours * HOUR_MS {
                self.segments.push((batch.base_offset, Vec::new()));
            }
        }
        self.log_end = batch.base_offset + batch.records;
        self.segments.last_mut().unwrap().1.push(batch);
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().flat_map(|(_, batches)| batches).map(|batch| batch.bytes).sum()
    }

    /// Removes the oldest segment; the next one begins where the log does then.
    fn remove_first(&mut self) {
        self.segments.remove(0);
        let start = self.segments.first().map_or(self.log_end, |(base, _)| *base);
        self.log_start = self.log_start.max(start);
    }

    fn retain(&mut self, settings: Settings, now_ms: i64) {
        if !settings.deletes {
            return;
        }
        if let Ok(limit) = u64::try_from(settings.retention_bytes) {
            let mut excess = self.bytes().saturating_sub(limit);
            while let Some((_, batches)) = self.segments.first() {
                let bytes: u64 = batches.iter().map(|batch| batch.bytes).sum();
                if bytes == 0 || bytes > excess {
                    break;
                }
                excess -= bytes;
                self.remove_first();
            }
        }
        if settings.retention_hours >= 0 {
            while let Some((_, batches)) = self.segments.first() {
                let newest = batches.iter().map(|batch| batch.timestamp).max();
                if newest.is_none_or(|newest| now_ms - newest <= settings.retention_hours * HOUR_MS) {
                    break;
                }
                self.remove_first();
            }
        }
    }

    fn delete_records(&mut self, before: i64) {
        self.log_start = self.log_start.max(before);
        while self.segments.len() > 1 && self.segments[1].0 <= before {
            self.segments.remove(0);
        }
    }

    /// Offset and time of every record that may be read.
    fn records(&self) -> Vec<(i64, i64)> {
        let batches = self.segments.iter().flat_map(|(_, batches)| batches);
        let records =
            batches.flat_map(|batch| (0..batch.records).map(|at| (batch.base_offset + at, batch.timestamp)));
        records.filter(|(offset, _)| *offset >= self.log_start).collect()
    }
}

struct Case {
    world: World,
    partition: Option<Arc<Partition>>,
    model: Model,
    settings: Settings,
}

impl Case {
    fn new(settings: Settings) -> Self {
        let world = World::new();
        let partition = Some(world.logs().create("t", TOPIC_ID, 0, config(settings)).unwrap());
        Self { world, partition, model: Model::default(), settings }
    }

    fn partition(&self) -> &Arc<Partition> {
        self.partition.as_ref().unwrap()
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Append(batches) => {
                let mut pending = Vec::new();
                for (hours, records) in batches {
                    let timestamp = self.world.clock.now_ms() - hours * HOUR_MS;
                    let batch = batch_at(timestamp, *records);
                    let (base_offset, bytes) = (self.model.log_end, batch.len() as u64);
                    let records = i64::try_from(*records).unwrap();
                    self.model.append(Written { base_offset, records, bytes, timestamp }, self.settings);
                    pending.push(self.partition().append(batch, Origin::Client, Ops::new()).unwrap());
                }
                for pending in pending {
                    pending.await.unwrap();
                }
            }
            Step::Pass(hours) => self.world.clock.advance(hours * HOUR_MS),
            Step::SetWall(hours) => self.world.clock.set_wall(hours * HOUR_MS),
            Step::Retain => {
                self.world.logs().apply_retention();
                self.world.logs().store().commit(Ops::new(), Durability::Process).await.unwrap();
                self.model.retain(self.settings, self.world.clock.now_ms());
            }
            Step::DeleteRecords(percent) => {
                if self.settings.deletes {
                    let before = self.model.log_end * i64::from(*percent) / 100;
                    self.partition().delete_records(before).await.unwrap();
                    if before > self.model.log_start {
                        self.model.delete_records(before);
                    }
                }
            }
            Step::Configure(settings) => {
                self.settings = *settings;
                self.world.logs().set_config(TOPIC_ID, config(*settings));
            }
            Step::Restart => {
                self.partition = None;
                self.world.reopen();
                self.world.logs().set_config(TOPIC_ID, config(self.settings));
                self.partition = self.world.logs().get(TOPIC_ID, 0);
            }
        }
    }

    fn check(&self, step: &Step) {
        let (partition, model) = (self.partition(), &self.model);
        let offsets = partition.offsets();
        assert_eq!((offsets.log_start, offsets.log_end), (model.log_start, model.log_end), "{step:?}");
        assert_eq!(offsets.high_watermark, model.log_end, "{step:?}");
        assert_eq!(partition.size_bytes(), model.bytes(), "{step:?}");
        let expected = model.records();
        let mut found = Vec::new();
        for batch in read_all(partition, model.log_start) {
            for record in batch.records().unwrap() {
                let record = record.unwrap();
                if record.offset >= model.log_start {
                    found.push((record.offset, record.timestamp));
                }
            }
        }
        assert_eq!(found, expected, "{step:?}");
        self.check_times(&expected, step);
        self.check_store(step);
    }

    fn check_times(&self, records: &[(i64, i64)], step: &Step) {
        let partition = self.partition();
        let find = |query| partition.offset_for(query).unwrap().map(|found| (found.offset, found.timestamp));
        let mut first_of_time: BTreeMap<i64, i64> = BTreeMap::new();
        for (offset, timestamp) in records {
            first_of_time.entry(*timestamp).or_insert(*offset);
        }
        let latest = first_of_time.last_key_value().map(|(timestamp, offset)| (*offset, *timestamp));
        assert_eq!(find(OffsetQuery::MaxTimestamp), latest, "{step:?}");
        let times = first_of_time.keys().flat_map(|time| [*time, time + 1]).chain([0]);
        for time in times {
            let expected = records.iter().find(|(_, timestamp)| *timestamp >= time).copied();
            assert_eq!(find(OffsetQuery::Timestamp(time)), expected, "the first at {time} after {step:?}");
        }
    }

    /// Nothing stays in the store that nobody can read, except in the extent that holds the log start.
    fn check_store(&self, step: &Step) {
        let store = self.world.logs().store();
        let mut extents = store.extents(self.partition().id(), 0);
        let mut bases = Vec::new();
        while let Some((base_offset, _)) = extents.next_extent().unwrap() {
            bases.push(base_offset);
        }
        let below = bases.iter().filter(|base| **base <= self.model.log_start).count();
        assert!(
            below <= 1,
            "extents at {bases:?}, the log starts at {} after {step:?}",
            self.model.log_start
        );
        let index = store.scan(&KeyPrefix::TimeIndexOf { partition: self.partition().id() }).count();
        assert!(index <= bases.len() + 1, "{index} entries for {} extents", bases.len());
        let segments = store.scan(&KeyPrefix::SegmentsOf { partition: self.partition().id() }).count();
        assert_eq!(segments, self.model.segments.len().saturating_sub(1), "after {step:?}");
    }
}

fn config(settings: Settings) -> Arc<TopicConfig> {
    Arc::new(TopicConfig {
        cleanup_policy: vec![if settings.deletes { "delete" } else { "compact" }.to_owned()],
        retention_ms: if settings.retention_hours < 0 { -1 } else { settings.retention_hours * HOUR_MS },
        retention_bytes: settings.retention_bytes,
        segment_bytes: settings.segment_bytes,
        segment_ms: settings.segment_hours * HOUR_MS,
        message_timestamp_after_max_ms: i64::MAX,
        ..TopicConfig::default()
    })
}

#[test]
fn the_log_holds_what_the_rules_leave() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let counts: RefCell<BTreeMap<&str, usize>> = RefCell::default();
    let count = |what, by| *counts.borrow_mut().entry(what).or_default() += by;
    let strategy = (settings(), prop::collection::vec(step(), 1..60));
    let result = TestRunner::new(properties(CASES)).run(&strategy, |(settings, steps)| {
        let mut case = Case::new(settings);
        for step in &steps {
            let before = case.model.log_start;
            runtime.block_on(case.take(step));
            case.check(step);
            count("steps", 1);
            count("records removed", usize::try_from(case.model.log_start - before).unwrap());
            count("restarts", usize::from(matches!(step, Step::Restart)));
            count("settings of the clock", usize::from(matches!(step, Step::SetWall(_))));
        }
        count("records", usize::try_from(case.model.log_end).unwrap());
        Ok(())
    });
    result.unwrap();
    eprintln!("retention against its model: {:?}", counts.borrow());
}
