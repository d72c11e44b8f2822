//! What goes, when, and that it is gone.

use std::time::Instant;

use super::*;
use crate::error::ErrorCode;
use crate::storage::{Durability, Key, KeyPrefix};
use crate::testing::PATIENCE;

const DAY_MS: i64 = 86_400_000;

/// The base offsets of the extents that are stored.
fn extents(world: &World, partition: &Partition) -> Vec<i64> {
    let mut extents = world.logs().store().extents(partition.id(), 0);
    let mut offsets = Vec::new();
    while let Some((base_offset, _)) = extents.next_extent().unwrap() {
        offsets.push(base_offset);
    }
    offsets
}

/// A round of retention, until it is stored.
async fn retain(world: &World) {
    world.logs().apply_retention();
    world.logs().store().commit(Ops::new(), Durability::Process).await.unwrap();
}

fn count(world: &World, prefix: &KeyPrefix) -> usize {
    world.logs().store().scan(prefix).map(Result::unwrap).count()
}

#[tokio::test]
async fn records_below_a_deleted_offset_are_gone_for_good() {
    let mut world = World::new();
    let partition = world.partition();
    partition.set_leader_epoch(0);
    for _ in 0..4 {
        append(&partition, batch(3)).await;
    }
    partition.set_leader_epoch(1);
    append(&partition, batch(3)).await;
    assert_eq!(partition.delete_records(7).await.unwrap(), 7);
    assert_eq!(partition.delete_records(2).await.unwrap(), 7, "it never moves back");
    for wrong in [-2, 16] {
        let error = partition.delete_records(wrong).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::OffsetOutOfRange, "{wrong}");
    }
    drop(partition);
    for _ in 0..2 {
        let partition = world.partition();
        assert_eq!(partition.offsets().log_start, 7);
        let error = partition.read(6, 1, true, ReadUpTo::HighWatermark).unwrap_err();
        assert_eq!(error.code, ErrorCode::OffsetOutOfRange);
        assert_eq!(read_all(&partition, 7)[0].base_offset(), 6, "its batch is whole");
        assert_eq!(extents(&world, &partition), [6, 9, 12]);
        assert_eq!(partition.epoch_end(0), (0, 12));
        drop(partition);
        world.logs().store().reclaim().unwrap();
        world.reopen();
    }
    let partition = world.partition();
    assert_eq!(partition.delete_records(-1).await.unwrap(), 15, "-1 is the high watermark");
    assert_eq!(extents(&world, &partition), Vec::<i64>::new());
    assert_eq!(append(&partition, batch(1)).await.base_offset, 15);
    assert_eq!(append(&partition, batch(1)).await.log_start_offset, 15);
    assert_eq!(partition.epoch_end(1), (1, 17));
}

#[tokio::test]
async fn compacted_topics_keep_what_clients_want_deleted() {
    let world = World::new();
    let partition = world.partition_with(|config| config.cleanup_policy = vec!["compact".into()]);
    append(&partition, batch(1)).await;
    let error = partition.delete_records(1).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::PolicyViolation);
    world.clock.advance(30 * DAY_MS);
    retain(&world).await;
    assert_eq!(partition.offsets().log_start, 0);
}

#[tokio::test]
async fn the_oldest_segments_go_when_the_log_is_too_large() {
    let mut world = World::new();
    let bytes = i64::try_from(batch(1).len()).unwrap();
    let configure = |config: &mut TopicConfig| {
        config.segment_bytes = i32::try_from(2 * bytes).unwrap();
        config.retention_bytes = 5 * bytes;
    };
    let partition = world.partition_with(configure);
    for _ in 0..9 {
        append(&partition, batch(1)).await;
    }
    assert_eq!(partition.size_bytes(), 9 * bytes.unsigned_abs());
    drop(partition);
    world.reopen();
    let partition = world.partition_with(configure);
    assert_eq!(partition.size_bytes(), 9 * bytes.unsigned_abs(), "segments survive");
    retain(&world).await;
    // Two segments of two records go: a third would leave less than asked for.
    assert_eq!(partition.offsets().log_start, 4);
    assert_eq!(partition.size_bytes(), 5 * bytes.unsigned_abs());
    assert_eq!(extents(&world, &partition), [4, 5, 6, 7, 8]);
    assert_eq!(count(&world, &KeyPrefix::Segments), 2);
    assert_eq!(count(&world, &KeyPrefix::TimeIndexOf { partition: partition.id() }), 1);
    let all = TopicConfig { retention_bytes: 0, ..TopicConfig::default() };
    world.logs().set_config(TOPIC_ID, Arc::new(all));
    retain(&world).await;
    assert_eq!(partition.offsets().log_start, 9, "with nothing to keep the last one goes too");
    assert_eq!(partition.size_bytes(), 0);
}

#[tokio::test]
async fn segments_go_when_their_newest_record_is_old() {
    let mut world = World::new();
    let configure = |config: &mut TopicConfig| {
        config.segment_ms = DAY_MS;
        config.retention_ms = 7 * DAY_MS;
    };
    let partition = world.partition_with(configure);
    for day in 0..4 {
        append(&partition, batch_at(NOW_MS + day * DAY_MS * 2, 1)).await;
        world.clock.advance(2 * DAY_MS);
    }
    // Now it is day 8; the records are of the days 0, 2, 4 and 6.
    retain(&world).await;
    assert_eq!(partition.offsets().log_start, 1);
    world.clock.advance(DAY_MS);
    retain(&world).await;
    assert_eq!(partition.offsets().log_start, 1, "7 days are kept");
    world.clock.advance(1);
    retain(&world).await;
    assert_eq!(partition.offsets().log_start, 2);
    drop(partition);
    world.reopen();
    let partition = world.partition_with(configure);
    world.clock.advance(30 * DAY_MS);
    retain(&world).await;
    assert_eq!(partition.offsets().log_start, 4, "the active segment goes by time");
    assert_eq!(extents(&world, &partition), Vec::<i64>::new());
    assert_eq!(append(&partition, batch_at(NOW_MS + 39 * DAY_MS, 1)).await.base_offset, 4);
}

#[tokio::test]
async fn a_late_record_keeps_its_segment() {
    let world = World::new();
    let partition = world.partition();
    append(&partition, batch_at(NOW_MS, 1)).await;
    append(&partition, batch_at(NOW_MS - 30 * DAY_MS, 1)).await;
    retain(&world).await;
    assert_eq!(partition.offsets().log_start, 0);
}

/// The bytes of the files that hold record batches, once the space is given back.
fn blob_bytes(world: &World) -> u64 {
    world.logs().store().reclaim().unwrap();
    file_bytes(world)
}

fn file_bytes(world: &World) -> u64 {
    let files = std::fs::read_dir(world.directory.path().join("store")).unwrap();
    let blobs = files.filter_map(|file| {
        let file = file.unwrap();
        let is_blob = file.file_name().to_string_lossy().ends_with(".blob");
        // RocksDB may remove it meanwhile.
        is_blob.then(|| file.metadata().map_or(0, |metadata| metadata.len()))
    });
    blobs.sum()
}

#[tokio::test]
async fn space_comes_back_when_a_topic_is_deleted() {
    let world = World::new();
    let partition = world.partition();
    let large = BatchBuilder::new().record(NOW_MS, None, Some(&[7; 500_000])).build();
    for _ in 0..40 {
        append(&partition, large.clone()).await;
    }
    drop(partition);
    assert!(blob_bytes(&world) > 20_000_000);
    world.logs().delete_topic(TOPIC_ID).unwrap();
    assert_eq!(blob_bytes(&world), 0);
    assert_eq!(count(&world, &KeyPrefix::PartitionStates), 0);
    assert!(world.logs().store().get(&Key::NextPartitionId).unwrap().is_some());
}

#[tokio::test]
async fn a_little_that_stays_does_not_hold_on_to_much_that_goes() {
    let mut world = World::new();
    let goes = world.partition();
    let stays = world.logs().create("stays", Uuid::from_u128(5), 0, Arc::default()).unwrap();
    let large = BatchBuilder::new().record(NOW_MS, None, Some(&[7; 1_000_000])).build();
    for _ in 0..150 {
        append(&goes, large.clone()).await;
        append(&stays, batch(30)).await;
    }
    let before = blob_bytes(&world);
    assert!(before > 150_000_000);
    drop(goes);
    world.logs().delete_topic(TOPIC_ID).unwrap();
    let left = blob_bytes(&world);
    // The newer half of the files is left alone, and files are not all of one size.
    assert!(left * 5 < before * 4, "{left} of {before}");
    drop(stays);
    world.reopen();
    let stays = world.logs().get(Uuid::from_u128(5), 0).unwrap();
    let mut offset = 0;
    for batch in read_all(&stays, 0) {
        assert!(batch.base_offset() == offset && batch.crc_matches());
        offset = batch.last_offset() + 1;
    }
    assert_eq!(offset, 150 * 30);
}

/// Waits for what a task of the log does; the clock stands meanwhile.
async fn until(mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "it does not come");
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
}

/// Gives a task of the log some time for what it must not do, and says whether it did it; the clock stands meanwhile.
async fn happens(mut holds: impl FnMut() -> bool) -> bool {
    for _ in 0..2_000 {
        if holds() {
            return true;
        }
        tokio::task::yield_now().await;
        std::thread::sleep(std::time::Duration::from_micros(100));
    }
    false
}

#[tokio::test]
async fn a_clock_that_is_set_forward_and_back_again_costs_no_records() {
    let world = World::new();
    let partition = world.partition_with(|config| config.retention_ms = 7 * DAY_MS);
    append(&partition, batch(1)).await;
    let retention = tokio::spawn(Arc::clone(world.logs()).run_retention(1_000, 1_000));
    tokio::task::yield_now().await;
    let log_start = || partition.offsets().log_start;
    world.clock.set_wall(400 * DAY_MS);
    world.clock.advance(1_000);
    assert!(!happens(|| log_start() > 0).await, "it may be a mistake");
    world.clock.set_wall(-400 * DAY_MS);
    world.clock.advance(1_000);
    assert!(!happens(|| log_start() > 0).await, "it was one");
    append(&partition, batch_at(world.clock.now_ms(), 1)).await;
    world.clock.set_wall(-400 * DAY_MS);
    world.clock.advance(1_000);
    assert!(!happens(|| log_start() > 0).await, "what is dated in the future is not old");
    world.clock.set_wall(800 * DAY_MS);
    world.clock.advance(1_000);
    assert!(!happens(|| log_start() > 0).await);
    // It stays so: then it is true.
    until(|| {
        world.clock.advance(1_000);
        log_start() == 2
    })
    .await;
    retention.abort();
}

#[tokio::test]
async fn the_first_look_waits_for_its_time_and_takes_the_space_of_what_went_before() {
    let world = World::new();
    let partition = world.partition_with(|config| config.retention_ms = 1);
    append(&partition, batch(1)).await;
    let retention = tokio::spawn(Arc::clone(world.logs()).run_retention(30_000, 300_000));
    tokio::task::yield_now().await;
    world.clock.advance(29_999);
    assert!(!happens(|| partition.offsets().log_start > 0).await);
    world.clock.advance(1);
    until(|| partition.offsets().log_start == 1).await;
    retention.abort();
}

#[tokio::test]
async fn records_are_synced_after_the_time_that_flush_ms_says() {
    let world = World::new();
    let never = world.partition();
    let soon = world
        .logs()
        .create(
            "soon",
            Uuid::from_u128(3),
            0,
            Arc::new(TopicConfig { flush_ms: 500, ..TopicConfig::default() }),
        )
        .unwrap();
    let always = TopicConfig { flush_ms: 0, ..TopicConfig::default() };
    let always = world.logs().create("always", Uuid::from_u128(4), 0, Arc::new(always)).unwrap();
    let syncs = tokio::spawn(Arc::clone(world.logs()).run_syncs());
    tokio::task::yield_now().await;
    let store = world.logs().store();
    let before = store.syncs();
    append(&never, batch(1)).await;
    world.clock.advance(DAY_MS);
    assert!(!happens(|| store.syncs() > before).await, "nothing asks for it");
    for _ in 0..3 {
        append(&soon, batch(1)).await;
        world.clock.advance(100);
    }
    world.clock.advance(199);
    assert!(!happens(|| store.syncs() > before).await, "499 ms after the first record");
    world.clock.advance(1);
    until(|| store.syncs() > before).await;
    assert_eq!(store.syncs(), before + 1, "one sync is for all");
    world.clock.advance(10_000);
    assert!(!happens(|| store.syncs() > before + 1).await);
    append(&always, batch(1)).await;
    assert_eq!(store.syncs(), before + 2);
    syncs.abort();
}

#[test]
fn the_jitter_differs_by_partition_and_segment_and_is_bounded() {
    let jittered = TopicConfig { segment_ms: 1_000, segment_jitter_ms: 400, ..TopicConfig::default() };
    let config = crate::log::settings::LogConfig::from(&jittered);
    let times: Vec<i64> =
        (0..200).map(|id| config.roll_ms(crate::types::PartitionId(id), i64::from(id % 7) * 1_000)).collect();
    assert!(times.iter().all(|time| (601..=1_000).contains(time)), "{times:?}");
    let mut distinct = times.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert!(distinct.len() > 100, "{} of 200", distinct.len());
    assert_eq!(times[0], config.roll_ms(crate::types::PartitionId(0), 0), "the same after a restart");
    let all = TopicConfig { segment_ms: 100, segment_jitter_ms: 400, ..TopicConfig::default() };
    let config = crate::log::settings::LogConfig::from(&all);
    assert!((0..50).all(|id| (1..=100).contains(&config.roll_ms(crate::types::PartitionId(id), 0))));
}

#[tokio::test]
async fn a_log_of_one_segment_is_removed_by_time_too() {
    let world = World::new();
    let partition = world.partition_with(|config| config.retention_ms = DAY_MS);
    append(&partition, batch(3)).await;
    world.clock.advance(DAY_MS + 1);
    retain(&world).await;
    assert_eq!((partition.offsets().log_start, partition.size_bytes()), (3, 0));
}

#[tokio::test]
async fn the_space_of_what_retention_removes_comes_back_without_being_asked_for() {
    let world = World::new();
    let partition = world.partition_with(|config| config.retention_ms = DAY_MS);
    let large = BatchBuilder::new().record(NOW_MS, None, Some(&[7; 500_000])).build();
    for _ in 0..40 {
        append(&partition, large.clone()).await;
    }
    assert!(blob_bytes(&world) > 19_000_000);
    let retention = tokio::spawn(Arc::clone(world.logs()).run_retention(0, 1_000));
    tokio::task::yield_now().await;
    world.clock.advance(DAY_MS + 1);
    until(|| {
        world.clock.advance(1_000);
        file_bytes(&world) == 0
    })
    .await;
    assert_eq!(partition.offsets().log_start, 40);
    retention.abort();
}
