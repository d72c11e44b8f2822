//! Random logs, cleaned at random times, beside a simple model of what must be left.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::log::batch::TRANSACTIONAL;
use crate::log::compression::Compression;
use crate::log::tests::World;
use crate::log::{Acks, Marker, Origin, TransactionalBatch};
use crate::testing::properties;
use crate::types::ProducerId;

/// A record as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    offset: Offset,
    key: String,
    value: Option<String>,
    time: i64,
}

/// A batch, as the model has it and as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Batch {
    base: Offset,
    last: Offset,
    producer: ProducerId,
    is_transactional: bool,
    /// Whether the transaction was committed, where it is a marker.
    marker: Option<bool>,
    horizon: Option<i64>,
    records: Vec<Record>,
}

/// A transaction that was aborted: its producer, first offset and marker.
type Aborted = (ProducerId, Offset, Offset);

#[derive(Clone, Debug)]
enum Op {
    Append {
        keys: Vec<(u8, bool)>,
        compression: usize,
        producer: Option<i64>,
        earlier_ms: i64,
    },
    End {
        producer: i64,
        is_commit: bool,
    },
    Clean {
        keys_max: usize,
        extent_bytes: usize,
        crash_after: Option<usize>,
        delete_after: Option<(usize, u8)>,
    },
    Advance {
        hours: i64,
    },
    Reopen,
}

fn op(deletes: bool) -> impl Strategy<Value = Op> {
    let keys = prop::collection::vec((0..8_u8, prop::bool::weighted(0.2)), 1..6);
    // 1 is idempotent, 10 and above are transactional.
    let producer = prop::option::weighted(0.5, prop_oneof![Just(1_i64), 10..12_i64]);
    let append =
        (keys, 0..5_usize, producer, 0..50_i64).prop_map(|(keys, compression, producer, earlier_ms)| {
            Op::Append { keys, compression, producer, earlier_ms }
        });
    let delete_after =
        prop::option::of((0..20_usize, any::<u8>())).prop_map(move |delete| delete.filter(|_| deletes));
    let crash_after = prop::option::weighted(0.3, 0..20_usize);
    let clean = (1..30_usize, 100..1_000_usize, crash_after, delete_after).prop_map(
        |(keys_max, extent_bytes, crash_after, delete_after)| Op::Clean {
            keys_max,
            extent_bytes,
            crash_after,
            delete_after,
        },
    );
    prop_oneof![
        12 => append,
        3 => (10..12_i64, any::<bool>()).prop_map(|(producer, is_commit)| Op::End { producer, is_commit }),
        3 => clean,
        1 => (0..30_i64).prop_map(|hours| Op::Advance { hours }),
        1 => Just(Op::Reopen),
    ]
}

/// What happened in all cases together.
#[derive(Default)]
struct Counts {
    steps: Cell<u64>,
    cleanings: Cell<u64>,
    crashes: Cell<u64>,
    obsolete: Cell<u64>,
    removed: Cell<u64>,
}

fn count(cell: &Cell<u64>, more: u64) {
    cell.set(cell.get() + more);
}

struct Run<'a> {
    world: World,
    deletes: bool,
    counts: &'a Counts,
    /// What is left, by the model.
    batches: Vec<Batch>,
    /// Everything that was ever appended.
    all: Vec<Batch>,
    aborted: Vec<Aborted>,
    open: BTreeMap<ProducerId, Offset>,
    sequences: BTreeMap<ProducerId, i32>,
    values: u32,
}

fn configure(deletes: bool) -> impl Fn(&mut TopicConfig) {
    move |config| {
        compacted(config);
        if deletes {
            config.cleanup_policy.push("delete".into());
            config.retention_ms = -1;
        }
    }
}

impl Run<'_> {
    fn partition(&self) -> Arc<Partition> {
        self.world.partition_with(configure(self.deletes))
    }

    async fn apply(&mut self, op: &Op) {
        count(&self.counts.steps, 1);
        match op {
            Op::Append { keys, compression, producer, earlier_ms } => {
                self.append(keys, *compression, *producer, *earlier_ms).await;
            }
            Op::End { producer, is_commit } => self.end(*producer, *is_commit).await,
            Op::Clean { keys_max, extent_bytes, crash_after, delete_after } => {
                self.clean(*keys_max, *extent_bytes, *crash_after, *delete_after).await;
            }
            Op::Advance { hours } => self.world.clock.advance(hours * 3_600_000),
            Op::Reopen => self.world.reopen(),
        }
        self.check();
    }

    async fn append(
        &mut self,
        keys: &[(u8, bool)],
        compression: usize,
        producer: Option<i64>,
        earlier_ms: i64,
    ) {
        let partition = self.partition();
        let time = self.world.clock.now_ms() - earlier_ms;
        let base = partition.offsets().log_end;
        let mut builder = BatchBuilder::new().compression(Compression::ALL[compression]);
        let mut records = Vec::new();
        for (key, is_tombstone) in keys {
            self.values += 1;
            let (key, value) = (format!("k{key}"), (!is_tombstone).then(|| format!("v{}", self.values)));
            builder = builder.record(time, Some(key.as_bytes()), value.as_deref().map(str::as_bytes));
            records.push(Record { offset: base + records.len() as i64, key, value, time });
        }
        let is_transactional = producer.is_some_and(|id| id >= 10);
        let mut verification = None;
        if let Some(id) = producer {
            let sequence = self.sequences.entry(id).or_default();
            builder = builder.producer(id, 0, *sequence);
            if is_transactional {
                builder = builder.attributes(TRANSACTIONAL);
                let batch = TransactionalBatch {
                    producer_id: id,
                    producer_epoch: 0,
                    base_sequence: *sequence,
                    supports_epoch_bump: false,
                };
                verification = partition.start_verification(batch).unwrap();
                self.open.entry(id).or_insert(base);
            }
            *sequence += i32::try_from(keys.len()).unwrap();
        }
        let batch = builder.build();
        let pending = match &verification {
            Some(verification) => {
                partition.append_with(batch, (Origin::Client, Acks::Leader), Ops::new(), Some(verification))
            }
            None => partition.append(batch, Origin::Client, Ops::new()),
        };
        assert_eq!(pending.unwrap().await.unwrap().base_offset, base, "offsets are never used again");
        self.push(Batch {
            base,
            last: base + records.len() as i64 - 1,
            producer: producer.unwrap_or(-1),
            is_transactional,
            marker: None,
            horizon: None,
            records,
        });
    }

    async fn end(&mut self, producer: i64, is_commit: bool) {
        let Some(first) = self.open.remove(&producer) else { return };
        let marker = Marker {
            producer_id: producer,
            producer_epoch: 0,
            coordinator_epoch: 0,
            is_commit,
            transaction_version: 1,
        };
        let appended =
            self.partition().append_marker(&marker, Origin::Internal, Ops::new()).unwrap().await.unwrap();
        let offset = appended.base_offset;
        if !is_commit {
            self.aborted.push((producer, first, offset));
        }
        let time = self.world.clock.now_ms();
        self.push(Batch {
            base: offset,
            last: offset,
            producer,
            is_transactional: true,
            marker: Some(is_commit),
            horizon: None,
            records: vec![Record { offset, key: String::new(), value: Some(String::new()), time }],
        });
    }

    fn push(&mut self, batch: Batch) {
        self.all.push(batch.clone());
        self.batches.push(batch);
    }

    /// Cleans as far as the crash lets it, and compares with what the model says.
    async fn clean(
        &mut self,
        keys_max: usize,
        extent_bytes: usize,
        crash_after: Option<usize>,
        delete_after: Option<(usize, u8)>,
    ) {
        let partition = self.partition();
        let now_ms = self.world.clock.now_ms();
        let dirtiness = partition.dirtiness(now_ms);
        if !dirtiness.is_due(0.0) {
            return;
        }
        let ends: Vec<_> =
            partition.inner.lock().closed.iter().skip(1).map(|next| next.base_offset).collect();
        let bytes = extent_bytes as u64;
        let bounds =
            OutputBounds { extent_bytes, written_bytes: bytes, read_bytes: 3 * bytes, read_extents: 5 };
        let map = MapBound { bytes: keys_max * offset_map::ENTRY_BYTES, load_factor: 1.0 };
        let settings = PassSettings { map, output: bounds, step_bytes: 150 };
        let mut pass = Pass::new(Arc::clone(&partition), dirtiness, settings);
        let mut steps = 0;
        let state = loop {
            let step = pass.step().unwrap();
            steps += 1;
            let crashes = crash_after == Some(steps);
            if let Some((_, part)) = delete_after.filter(|(after, _)| *after == steps) {
                let offsets = partition.offsets();
                let before =
                    offsets.log_start + (offsets.high_watermark - offsets.log_start) * i64::from(part) / 512;
                partition.delete_records(before).await.unwrap();
            }
            if let Some(stored) = step.committed {
                stored.await.unwrap().unwrap();
                pass.forget_memory();
            }
            if crashes || step.state != PassState::GoesOn {
                break step.state;
            }
        };
        let cleaned_to = partition.inner.lock().cleaned_to;
        drop((pass, partition));
        match state {
            PassState::Finished => count(&self.counts.cleanings, 1),
            PassState::Obsolete => count(&self.counts.obsolete, 1),
            PassState::GoesOn => {
                count(&self.counts.crashes, 1);
                self.world.reopen();
            }
        }
        if self.deletes {
            self.batches = self.read();
            return;
        }
        let active = self.partition().inner.lock().active.base_offset;
        // After a crash it is not known how far the keys were collected: if they fit, to the end.
        let clean_to =
            if state == PassState::Finished { cleaned_to.unwrap() } else { dirtiness.first_uncleanable };
        let range_end = ends.into_iter().find(|end| *end >= clean_to).unwrap_or(active);
        let read = self.read();
        if state == PassState::Finished {
            let expected = self.cleaned(&dirtiness, dirtiness.first_dirty..clean_to, range_end, now_ms);
            assert_eq!(read, expected, "cleaned from {dirtiness:?} to {clean_to}");
        }
        self.check_size();
        let records = |batches: &[Batch]| batches.iter().map(|batch| batch.records.len() as u64).sum::<u64>();
        count(&self.counts.removed, records(&self.batches) - records(&read));
        self.batches = read;
    }

    /// What is left of the model's batches, by the rules in their simplest form.
    fn cleaned(
        &self,
        dirtiness: &Dirtiness,
        keys: Range<Offset>,
        range_end: Offset,
        now_ms: i64,
    ) -> Vec<Batch> {
        let is_aborted = |batch: &Batch| {
            let of =
                |(id, first, last): &Aborted| *id == batch.producer && (*first..*last).contains(&batch.base);
            batch.is_transactional && batch.marker.is_none() && self.aborted.iter().any(of)
        };
        let data = || self.batches.iter().filter(|batch| batch.marker.is_none() && !is_aborted(batch));
        let mut latest = BTreeMap::new();
        for record in data().flat_map(|batch| &batch.records).filter(|record| keys.contains(&record.offset)) {
            latest.insert(record.key.clone(), record.offset);
        }
        let last_of = |id| self.all.iter().rfind(|batch| batch.producer == id && batch.marker.is_none());
        let mut left = Vec::new();
        for (at, batch) in self.batches.iter().enumerate() {
            if batch.base >= range_end {
                left.push(batch.clone());
                continue;
            }
            let mut new = batch.clone();
            let expires = batch.horizon.is_some_and(|horizon| horizon <= now_ms);
            let mut notes = false;
            if batch.marker.is_some() {
                let before = self.batches[..at].iter().rev().filter(|other| other.producer == batch.producer);
                let has_data = before.take(1).any(|other| other.marker.is_none());
                if !has_data && expires {
                    new.records.clear();
                }
                notes = !has_data;
            } else if is_aborted(batch) {
                new.records.clear();
            } else {
                new.records.retain(|record| {
                    record.offset >= keys.end
                        || (latest.get(&record.key).is_none_or(|latest| record.offset >= *latest)
                            && (record.value.is_some() || !expires))
                });
                notes = new.records.iter().any(|record| record.value.is_none());
            }
            if notes && new.horizon.is_none() {
                new.horizon = Some(now_ms + DAY_MS);
            }
            if new.records.is_empty() {
                let is_last = batch.producer >= 0
                    && last_of(batch.producer).is_some_and(|last| last.last == batch.last);
                if !is_last && batch.last + 1 != dirtiness.first_uncleanable {
                    continue;
                }
                new.horizon = None;
            }
            left.push(new);
        }
        left
    }

    /// Everything that is stored from the log start on.
    fn read(&self) -> Vec<Batch> {
        let partition = self.partition();
        let log_start = partition.offsets().log_start;
        read_all(&partition, log_start).iter().map(parse).collect()
    }

    fn check(&mut self) {
        let read = self.read();
        if self.deletes {
            let log_start = self.partition().offsets().log_start;
            self.batches.retain(|batch| batch.last >= log_start);
        }
        assert_eq!(read, self.batches);
        self.check_reads();
        self.check_times();
        self.check_last_values();
    }

    fn check_size(&self) {
        let partition = self.partition();
        let stored = extents(&self.world, &partition);
        let bytes: usize = stored.iter().flat_map(|(_, batches)| batches).map(BatchView::len).sum();
        assert_eq!(partition.size_bytes(), bytes as u64, "the size is what is there");
        assert!(stored.iter().all(|(base, batches)| batches[0].base_offset() == *base));
    }

    /// A read from any offset starts with the batch that holds it, or the next one.
    fn check_reads(&self) {
        let partition = self.partition();
        let offsets = partition.offsets();
        for offset in (offsets.log_start..=offsets.log_end).step_by(3) {
            let read = partition.read(offset, 1, true, ReadUpTo::HighWatermark).unwrap();
            let found = read.batches.first().map(|batch| BatchView::first(batch).unwrap().base_offset());
            let expected = self.batches.iter().find(|batch| batch.last >= offset).map(|batch| batch.base);
            assert_eq!(found, expected, "from {offset}");
        }
    }

    fn check_times(&self) {
        let partition = self.partition();
        let log_start = partition.offsets().log_start;
        let records = || self.batches.iter().flat_map(|batch| &batch.records);
        let records = || records().filter(|record| record.offset >= log_start);
        let find = |query| partition.offset_for(query).unwrap().map(|found| (found.offset, found.timestamp));
        let first_at =
            |time| records().find(|record| record.time >= time).map(|record| (record.offset, record.time));
        let times: Vec<_> =
            self.all.iter().rev().step_by(3).take(8).map(|batch| batch.records[0].time).collect();
        for time in times.iter().flat_map(|time| [*time, time + 1]) {
            assert_eq!(find(OffsetQuery::Timestamp(time)), first_at(time), "at {time}");
        }
        let largest = records().map(|record| record.time).max();
        assert_eq!(find(OffsetQuery::MaxTimestamp), largest.and_then(first_at));
    }

    /// A reader of committed records ends with the last value of each key, as if nothing had been
    /// compacted, and never sees an aborted record.
    fn check_last_values(&self) {
        let partition = self.partition();
        let offsets = partition.offsets();
        let aborted = |batch: &&Batch| {
            let of =
                |(id, first, last): &Aborted| *id == batch.producer && (*first..*last).contains(&batch.base);
            self.aborted.iter().any(of)
        };
        let is_data = |batch: &&Batch| batch.marker.is_none() && batch.last < offsets.last_stable;
        let expected = self.all.iter().filter(is_data).filter(|batch| !aborted(batch));
        let expected = last_values(expected, offsets.log_start);
        let read = partition.read(offsets.log_start, usize::MAX, true, ReadUpTo::LastStable).unwrap();
        let told = read.aborted.clone().unwrap();
        let views = read.batches.iter().flat_map(BatchView::all).map(Result::unwrap);
        let batches: Vec<Batch> = views.map(|view| parse(&view)).collect();
        let mut shown = Vec::new();
        let mut open: Vec<ProducerId> = Vec::new();
        for batch in &batches {
            open.extend(
                told.iter().filter(|(_, first)| (batch.base..=batch.last).contains(first)).map(|(id, _)| id),
            );
            // A transaction whose first records are gone begins with what is left of it.
            open.extend(
                told.iter()
                    .filter(|(id, first)| {
                        *first < batch.base
                            && !batches.iter().any(|other| (other.base..=other.last).contains(first))
                            && *id == batch.producer
                            && batch.marker.is_none()
                            && self
                                .aborted
                                .iter()
                                .any(|(of, from, to)| of == id && from == first && batch.base < *to)
                    })
                    .map(|(id, _)| id),
            );
            if batch.marker.is_some() {
                open.retain(|id| *id != batch.producer);
            } else if !batch.is_transactional || !open.contains(&batch.producer) {
                assert!(batch.records.is_empty() || !aborted(&batch), "an aborted batch is shown: {batch:?}");
                shown.push(batch);
            }
        }
        assert_eq!(last_values(shown.into_iter(), offsets.log_start), expected);
    }
}

fn last_values<'a>(batches: impl Iterator<Item = &'a Batch>, from: Offset) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for record in batches.flat_map(|batch| &batch.records).filter(|record| record.offset >= from) {
        match &record.value {
            Some(value) => values.insert(record.key.clone(), value.clone()),
            None => values.remove(&record.key),
        };
    }
    values
}

fn parse(view: &BatchView) -> Batch {
    assert!(view.crc_matches());
    let marker = view.is_control().then(|| Marker::of(view).is_none_or(|marker| marker.is_commit));
    let text = |bytes: bytes::Bytes| String::from_utf8_lossy(&bytes).into_owned();
    let records = view.records().unwrap().map(Result::unwrap).map(|record| Record {
        offset: record.offset,
        key: if marker.is_some() { String::new() } else { text(record.key.unwrap()) },
        value: if marker.is_some() { Some(String::new()) } else { record.value.map(text) },
        time: record.timestamp,
    });
    Batch {
        base: view.base_offset(),
        last: view.last_offset(),
        producer: view.producer_id(),
        is_transactional: view.is_transactional(),
        marker,
        horizon: view.delete_horizon_ms(),
        records: records.collect(),
    }
}

fn run(deletes: bool, cases: u32) {
    let counts = Counts::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ops = prop::collection::vec(op(deletes), 20..90);
    let result = TestRunner::new(properties(cases)).run(&ops, |ops| {
        let mut run = Run {
            world: World::new(),
            deletes,
            counts: &counts,
            batches: Vec::new(),
            all: Vec::new(),
            aborted: Vec::new(),
            open: BTreeMap::new(),
            sequences: BTreeMap::new(),
            values: 0,
        };
        runtime.block_on(async {
            for op in &ops {
                run.apply(op).await;
            }
        });
        Ok(())
    });
    let Counts { steps, cleanings, crashes, obsolete, removed } = &counts;
    eprintln!(
        "{} steps, {} cleanings, {} crashes, {} given up, {} records removed",
        steps.get(),
        cleanings.get(),
        crashes.get(),
        obsolete.get(),
        removed.get()
    );
    result.unwrap();
    assert!(cleanings.get() > 0 && crashes.get() > 0);
}

#[test]
fn what_is_left_is_what_a_simple_model_keeps() {
    run(false, 16);
}

#[test]
fn records_may_be_deleted_while_the_log_is_cleaned() {
    run(true, 10);
}
