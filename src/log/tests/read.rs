//! Reads against a model: whatever is in the tail, among the extents kept in memory or in the store alone, they are
//! the same.

use proptest::prelude::*;

use super::*;
use crate::error::ErrorCode;
use crate::log::Watch;
use crate::testing::properties;

#[derive(Clone, Debug)]
enum Step {
    /// Appends batches, each of one record of this size or, where it is small, of several.
    Append {
        sizes: Vec<usize>,
    },
    Read {
        at: usize,
        bytes_max: usize,
        at_least_one: bool,
    },
    DeleteRecords {
        at: usize,
    },
    ForgetTail,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![3 => 0..200_usize, 2 => 200..6_000_usize, 1 => 6_000..12_000_usize];
    prop_oneof![
        6 => prop::collection::vec(size, 1..8).prop_map(|sizes| Step::Append { sizes }),
        12 => (0..1_000_usize, 0..20_000_usize, any::<bool>())
            .prop_map(|(at, bytes_max, at_least_one)| Step::Read { at, bytes_max, at_least_one }),
        1 => (0..1_000_usize).prop_map(|at| Step::DeleteRecords { at }),
        1 => Just(Step::ForgetTail),
        1 => Just(Step::Reopen),
    ]
}

/// What a log should hold.
#[derive(Default)]
struct Model {
    log_start: i64,
    log_end: i64,
    /// Last offset and bytes of each batch, as it is stored.
    batches: Vec<(i64, Bytes)>,
}

impl Model {
    fn append(&mut self, batch: &Bytes) {
        let mut bytes = batch.to_vec();
        bytes[..8].copy_from_slice(&self.log_end.to_be_bytes());
        bytes[12..16].copy_from_slice(&0_i32.to_be_bytes());
        self.log_end += i64::from(BatchView::first(batch).unwrap().last_offset_delta()) + 1;
        self.batches.push((self.log_end - 1, bytes.into()));
    }

    fn read(&self, offset: i64, bytes_max: usize, at_least_one: bool) -> Option<Vec<u8>> {
        if offset < self.log_start || offset > self.log_end {
            return None;
        }
        let mut read: Vec<u8> = Vec::new();
        for (last_offset, batch) in &self.batches {
            if *last_offset < offset {
                continue;
            }
            if read.len() + batch.len() > bytes_max && !(read.is_empty() && at_least_one) {
                break;
            }
            read.extend_from_slice(batch);
        }
        Some(read)
    }

    /// An offset, somewhat beyond what can be read at both ends.
    fn offset(&self, at: usize) -> i64 {
        let at = i64::try_from(at).unwrap();
        (self.log_start - 2).max(0) + at % (self.log_end - self.log_start + 5)
    }
}

fn check(partition: &Partition, model: &Model, offset: i64, bytes_max: usize, at_least_one: bool) {
    let expected = model.read(offset, bytes_max, at_least_one);
    let upto = ReadUpTo::HighWatermark;
    // First from memory, as the full read leaves behind what the next one finds there.
    match partition.read_memory(offset, bytes_max, at_least_one, upto) {
        Ok(None) => {}
        Ok(Some(read)) => assert_eq!(Some(read.batches.concat()), expected, "from memory at {offset}"),
        Err(error) => assert_eq!((error.code, &expected), (ErrorCode::OffsetOutOfRange, &None)),
    }
    match partition.read(offset, bytes_max, at_least_one, upto) {
        Ok(read) => assert_eq!(Some(read.batches.concat()), expected, "at {offset}"),
        Err(error) => assert_eq!((error.code, &expected), (ErrorCode::OffsetOutOfRange, &None)),
    }
}

async fn run(steps: Vec<Step>) {
    let settings = LogSettings { tail_bytes: 40_000, ..LogSettings::default() };
    let mut world = World::with_settings(settings);
    let mut partition = world.partition();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Append { sizes } => {
                let mut last = None;
                for size in sizes {
                    let record = vec![b'r'; size];
                    let records = (0..=200_usize.saturating_sub(size) / 50)
                        .fold(BatchBuilder::new(), |builder, _| builder.record(NOW_MS, None, Some(&record)));
                    let batch = records.build();
                    model.append(&batch);
                    last = Some(partition.append(batch, Origin::Client, Ops::new()).unwrap());
                }
                last.unwrap().await.unwrap();
            }
            Step::Read { at, bytes_max, at_least_one } => {
                check(&partition, &model, model.offset(at), bytes_max, at_least_one);
            }
            Step::DeleteRecords { at } => {
                let before = model.offset(at).clamp(model.log_start, model.log_end);
                model.log_start = partition.delete_records(before).await.unwrap();
                assert_eq!(model.log_start, before);
            }
            Step::ForgetTail => partition.tail.clear(),
            Step::Reopen => {
                drop(partition);
                world.reopen();
                partition = world.partition();
            }
        }
    }
    // From one end to the other, in small steps: every boundary between tail, memory and store.
    let mut offset = model.log_start;
    while offset < model.log_end {
        check(&partition, &model, offset, 3_000, true);
        let read = partition.read(offset, 3_000, true, ReadUpTo::HighWatermark).unwrap();
        let last = read.batches.iter().flat_map(BatchView::all).map(Result::unwrap).last().unwrap();
        offset = last.last_offset() + 1;
    }
}

proptest! {
    #![proptest_config(properties(48))]

    #[test]
    fn reads_equal_those_of_a_model(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(steps));
    }
}

/// Appends batches of one record whose value says its offset, of many sizes.
async fn append_numbered(partition: Arc<Partition>, count: i64) {
    for offset in 0..count {
        let words = usize::try_from(offset * 37 % 700).unwrap();
        let value = offset.to_be_bytes().repeat(words + 1);
        let batch = BatchBuilder::new().record(NOW_MS, None, Some(&value)).build();
        let pending = partition.append(batch, Origin::Client, Ops::new()).unwrap();
        if offset % 5 == 0 {
            pending.await.unwrap();
        }
    }
}

/// Follows it to the end, and looks at every record.
async fn follow_numbered(partition: Arc<Partition>, count: i64, bytes_max: usize) {
    let watch = Arc::<Watch>::default();
    partition.watch(&watch, 0);
    let mut offset = 0;
    while offset < count {
        watch.take();
        let read = partition.read(offset, bytes_max, true, ReadUpTo::HighWatermark).unwrap();
        if read.is_empty() {
            watch.changed(1).await;
        }
        for batch in read.batches.iter().flat_map(BatchView::all).map(Result::unwrap) {
            assert_eq!(batch.base_offset(), offset);
            assert!(batch.crc_matches());
            let value = batch.records().unwrap().next().unwrap().unwrap().value.unwrap();
            assert!(value.chunks(8).all(|word| word == offset.to_be_bytes()), "at {offset}");
            offset += 1;
        }
    }
}

/// Readers that keep up and such that fall behind, while the tail is much too small for all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_follow_writers_whatever_leaves_the_tail_meanwhile() {
    const BATCHES: i64 = 1_500;
    let world = World::with_settings(LogSettings { tail_bytes: 50_000, ..LogSettings::default() });
    let config = Arc::new(TopicConfig::default());
    let partitions = world.logs().create_many("t", TOPIC_ID, &[0, 1, 2], config).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for partition in &partitions {
        tasks.spawn(append_numbered(Arc::clone(partition), BATCHES));
        for bytes_max in [1, 10_000, 1_000_000] {
            tasks.spawn(follow_numbered(Arc::clone(partition), BATCHES, bytes_max));
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn a_reader_at_the_end_never_asks_the_store() {
    let world = World::new();
    let partition = world.partition();
    for at in 0..100 {
        append(&partition, batch(2)).await;
        let read = partition.read_memory(2 * at, 1_000, true, ReadUpTo::HighWatermark).unwrap();
        assert_eq!(read.map(|read| read.is_empty()), Some(false));
    }
    partition.tail.clear();
    assert!(partition.read_memory(0, 100, true, ReadUpTo::HighWatermark).unwrap().is_none());
}

#[tokio::test]
async fn what_was_read_from_the_store_is_found_in_memory_until_it_is_deleted() {
    let world = World::new();
    let partition = world.partition();
    // One round of the writer: one extent.
    let pending: Vec<_> =
        (0..20).map(|_| partition.append(batch(1), Origin::Client, Ops::new()).unwrap()).collect();
    for append in pending {
        append.await.unwrap();
    }
    partition.tail.clear();
    let from_memory = |offset| partition.read_memory(offset, 1, true, ReadUpTo::HighWatermark).unwrap();
    assert_eq!(partition.read(19, 1, true, ReadUpTo::HighWatermark).unwrap().batches.len(), 1);
    assert!(from_memory(19).is_some());
    partition.delete_records(19).await.unwrap();
    assert!(from_memory(19).is_none(), "what is deleted is not kept in memory");
    assert_eq!(partition.read(19, 1, true, ReadUpTo::HighWatermark).unwrap().batches.len(), 1);
}
