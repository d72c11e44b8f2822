//! Whole cleanings of whole logs.
#![expect(clippy::unwrap_used, reason = "tests")]

mod model;

use super::*;
use crate::config::TopicConfig;
use crate::error::ErrorCode;
use crate::log::batch::{BatchBuilder, BatchView};
use crate::log::tests::{NOW_MS, World, append, read_all};
use crate::log::{OffsetQuery, ReadUpTo};
use crate::storage::{Durability, KeyPrefix, Ops};
use crate::types::Offset;

const DAY_MS: i64 = 86_400_000;

fn compacted(config: &mut TopicConfig) {
    config.cleanup_policy = vec!["compact".into()];
    config.segment_bytes = 400;
    config.min_cleanable_dirty_ratio = 0.0;
}

/// One batch of records with these keys, whose values are the time.
async fn put(partition: &Arc<Partition>, time: i64, keys: &str) {
    let add = |builder: BatchBuilder, key: &str| match key.strip_suffix('!') {
        Some(key) => builder.record(time, Some(key.as_bytes()), None),
        None => builder.record(time, Some(key.as_bytes()), Some(time.to_string().as_bytes())),
    };
    append(partition, keys.split_whitespace().fold(BatchBuilder::new(), add).build()).await;
}

/// What a consumer reads: offsets and keys, tombstones with an exclamation mark.
fn shown(partition: &Partition, from: Offset) -> String {
    let records = read_all(partition, from).into_iter().flat_map(|batch| batch.records().unwrap());
    let text = |record: crate::log::batch::RecordView| {
        let key = String::from_utf8(record.key.unwrap_or_default().to_vec()).unwrap();
        let mark = if record.value.is_none() { "!" } else { "" };
        format!("{}:{key}{mark}", record.offset)
    };
    records.map(Result::unwrap).map(text).collect::<Vec<_>>().join(" ")
}

/// The extents that are stored: where they start and their batches.
fn extents(world: &World, partition: &Partition) -> Vec<(Offset, Vec<BatchView>)> {
    let mut extents = world.logs().store().extents(partition.id(), 0);
    let mut all = Vec::new();
    while let Some((base_offset, extent)) = extents.next_extent().unwrap() {
        let extent = bytes::Bytes::copy_from_slice(extent);
        all.push((base_offset, BatchView::all(&extent).map(Result::unwrap).collect()));
    }
    all
}

fn index_entries(world: &World, partition: &Partition) -> usize {
    world.logs().store().scan(&KeyPrefix::TimeIndexOf { partition: partition.id() }).count()
}

#[tokio::test]
async fn the_newest_record_of_each_key_is_left() {
    let mut world = World::new();
    let partition = world.partition_with(compacted);
    for round in 0..10 {
        put(&partition, NOW_MS + round, "a b c").await;
        put(&partition, NOW_MS + round, &format!("once{round}")).await;
    }
    let (size, end) = (partition.size_bytes(), partition.offsets().log_end);
    assert_eq!(end, 40);
    world.logs().clean_now().await;
    let expected = shown(&partition, 0);
    assert!(expected.starts_with("3:once0 7:once1 11:once2 15:once3"), "{expected}");
    assert!(expected.ends_with("36:a 37:b 38:c 39:once9"), "{expected}");
    assert!(partition.size_bytes() < size);
    drop(partition);
    for _ in 0..2 {
        let partition = world.partition_with(compacted);
        assert_eq!(shown(&partition, 0), expected);
        assert_eq!(shown(&partition, 4).split(' ').next(), Some("7:once1"), "the next one that is there");
        assert_eq!(partition.offsets().log_end, end);
        let stored: usize =
            extents(&world, &partition).iter().flat_map(|(_, batches)| batches).map(BatchView::len).sum();
        assert_eq!(partition.size_bytes(), stored as u64, "the size is what is there");
        assert_eq!(extents(&world, &partition)[0].0, 3, "small survivors lie together");
        let at = |timestamp| {
            let found = partition.offset_for(OffsetQuery::Timestamp(timestamp)).unwrap().unwrap();
            (found.offset, found.timestamp)
        };
        assert_eq!(at(NOW_MS), (3, NOW_MS));
        assert_eq!(at(NOW_MS + 1), (7, NOW_MS + 1));
        assert_eq!(at(NOW_MS + 9), (36, NOW_MS + 9));
        assert!(index_entries(&world, &partition) <= extents(&world, &partition).len());
        // Nothing is new: nothing is done.
        let before = world.logs().cleaner_metrics();
        world.logs().clean_now().await;
        assert_eq!(world.logs().cleaner_metrics().written_bytes, before.written_bytes);
        drop(partition);
        world.reopen();
    }
    let partition = world.partition_with(compacted);
    assert_eq!(
        append(&partition, BatchBuilder::new().record(NOW_MS, Some(b"z"), None).build()).await.base_offset,
        40
    );
}

#[tokio::test]
async fn a_cleaning_goes_on_where_the_last_one_ended() {
    let world = World::new();
    let partition = world.partition_with(compacted);
    for round in 0..6 {
        put(&partition, NOW_MS + round, "a b c d e f").await;
    }
    world.logs().clean_now().await;
    let cleaned_to = partition.inner.lock().cleaned_to.unwrap();
    assert_eq!(cleaned_to, partition.inner.lock().active.base_offset);
    let clean = partition.dirtiness(NOW_MS);
    assert_eq!((clean.first_dirty, clean.cleanable_bytes), (cleaned_to, 0));
    for round in 6..12 {
        put(&partition, NOW_MS + round, "a b c d e f").await;
    }
    assert!(partition.dirtiness(NOW_MS).cleanable_bytes > 0);
    world.logs().clean_now().await;
    let active = partition.inner.lock().active.base_offset;
    let below: Vec<_> = shown(&partition, 0)
        .split(' ')
        .map(|record| record.split_once(':').unwrap().0.parse::<i64>().unwrap())
        .filter(|offset| *offset < active)
        .collect();
    assert_eq!(below, (active - 6..active).collect::<Vec<_>>(), "one record of each key");
}

#[tokio::test]
async fn keys_that_do_not_fit_into_memory_are_left_to_the_next_cleaning() {
    let world = World::new();
    let partition = world.partition_with(compacted);
    for round in 0..40 {
        let keys: Vec<_> = (0..10).map(|key| format!("key{}", (round * 10 + key) % 100)).collect();
        put(&partition, NOW_MS + round, &keys.join(" ")).await;
    }
    let settings =
        CleanerSettings { dedupe_buffer_bytes: 30 * offset_map::ENTRY_BYTES, ..Default::default() };
    let mut cleanings = 0;
    while let Some(pass) = world.logs().dirtiest_log(&settings) {
        world.logs().clean(pass).await;
        cleanings += 1;
    }
    assert!(cleanings > 2, "{cleanings}");
    let active = partition.inner.lock().active.base_offset;
    assert_eq!(partition.inner.lock().cleaned_to, Some(active), "it took several of them");
    let below = shown(&partition, 0);
    let below =
        below.split(' ').filter(|record| record.split_once(':').unwrap().0.parse::<i64>().unwrap() < active);
    let below = below.count();
    assert!((100 - 10..=100).contains(&below), "{below}");
}

#[tokio::test]
async fn deleted_keys_are_forgotten_in_time() {
    let world = World::new();
    let partition = world.partition_with(compacted);
    put(&partition, NOW_MS, "a b").await;
    put(&partition, NOW_MS, "a!").await;
    for round in 0..8 {
        put(&partition, NOW_MS + round, "filler").await;
    }
    world.logs().clean_now().await;
    assert!(shown(&partition, 0).starts_with("1:b 2:a!"), "{}", shown(&partition, 0));
    let more = async || {
        for round in 0..8 {
            put(&partition, NOW_MS + round, "filler").await;
        }
        world.logs().clean_now().await;
    };
    world.clock.advance(DAY_MS - 1);
    more().await;
    assert!(shown(&partition, 0).starts_with("1:b 2:a!"), "a day is not over since the first cleaning");
    world.clock.advance(1);
    more().await;
    assert!(!shown(&partition, 0).contains("a!"));
    assert!(shown(&partition, 0).starts_with("1:b"));
}

#[tokio::test]
async fn memory_forgets_what_was_compacted_away() {
    let world = World::new();
    let partition = world.partition_with(compacted);
    for round in 0..8 {
        put(&partition, NOW_MS + round, "a b c").await;
    }
    assert!(shown(&partition, 0).starts_with("0:a"), "from memory");
    world.logs().clean_now().await;
    assert!(!shown(&partition, 0).starts_with("0:a"), "{}", shown(&partition, 0));
}

#[tokio::test]
async fn policies_change_while_the_broker_runs() {
    let world = World::new();
    let partition = world.partition_with(|config| {
        compacted(config);
        config.cleanup_policy = vec!["delete".into()];
    });
    for round in 0..8 {
        put(&partition, NOW_MS + round, "a b c").await;
    }
    world.logs().clean_now().await;
    assert!(shown(&partition, 0).starts_with("0:a"), "it is not compacted");
    assert_eq!(partition.delete_records(4).await.unwrap(), 4);
    let partition = {
        let mut config = TopicConfig::default();
        compacted(&mut config);
        world.logs().set_config(crate::log::tests::TOPIC_ID, Arc::new(config));
        partition
    };
    world.logs().clean_now().await;
    let first = shown(&partition, 4);
    assert!(first.starts_with("18:a") || first.starts_with("15:a"), "{first}");
    assert_eq!(partition.delete_records(6).await.unwrap_err().code, ErrorCode::PolicyViolation);
    // Both: old segments go as well.
    let mut config = TopicConfig { retention_ms: 1, ..TopicConfig::default() };
    compacted(&mut config);
    config.cleanup_policy = vec!["compact".into(), "delete".into()];
    world.logs().set_config(crate::log::tests::TOPIC_ID, Arc::new(config));
    world.clock.advance(DAY_MS);
    world.logs().apply_retention();
    world.logs().store().commit(Ops::new(), Durability::Process).await.unwrap();
    assert_eq!(partition.offsets().log_start, 24);
}

#[tokio::test]
async fn a_damaged_log_is_left_alone_and_counted() {
    let world = World::new();
    let partition = world.partition_with(compacted);
    for round in 0..8 {
        put(&partition, NOW_MS + round, "a b c").await;
    }
    let mut ops = Ops::new();
    let key = crate::storage::Key::Extent { partition: partition.id(), base_offset: 3 };
    ops.put(&key, vec![0; 80]);
    world.logs().store().commit(ops, Durability::Process).await.unwrap();
    world.logs().clean_now().await;
    let metrics = world.logs().cleaner_metrics();
    assert_eq!(metrics.uncleanable_partitions, 1);
    assert!(metrics.uncleanable_bytes > 0);
    assert_eq!(partition.inner.lock().cleaned_to, None);
}

#[tokio::test]
async fn the_cleaner_looks_for_work_by_itself() {
    let world = World::new();
    let partition = world.partition_with(compacted);
    for round in 0..8 {
        put(&partition, NOW_MS + round, "a b c").await;
    }
    let cleaner = tokio::spawn(Arc::clone(world.logs()).run_cleaner());
    let cleaned = async {
        while partition.inner.lock().cleaned_to.is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::testing::PATIENCE, cleaned).await.unwrap();
    cleaner.abort();
    let read = partition.read(0, usize::MAX, true, ReadUpTo::HighWatermark).unwrap();
    assert!(!read.is_empty());
}

#[tokio::test]
async fn a_log_of_few_keys_stays_small_whatever_is_written() {
    let world = World::new();
    let partition = world.partition_with(|config| {
        compacted(config);
        config.min_cleanable_dirty_ratio = 0.5;
        config.segment_bytes = 4_000;
    });
    // As __consumer_offsets: the same few keys again and again.
    let mut largest = 0;
    for round in 0..600 {
        put(&partition, NOW_MS + round, "group-topic-0 group-topic-1 group-topic-2").await;
        if round % 20 == 19 {
            world.logs().clean_now().await;
            largest = largest.max(partition.size_bytes());
        }
    }
    assert!(largest < 3 * 4_000, "{largest}");
    assert!(index_entries(&world, &partition) < 60, "{}", index_entries(&world, &partition));
    assert!(partition.inner.lock().closed.len() < 4);
    assert_eq!(partition.offsets().log_start, 0);
}
