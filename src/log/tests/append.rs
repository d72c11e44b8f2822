//! Appending, reading, and finding it again after a restart.

use super::*;
use crate::error::ErrorCode;
use crate::log::{Offsets, Watch};

#[tokio::test]
async fn what_is_appended_is_read_and_survives_a_reopen() {
    let mut world = World::new();
    let partition = world.partition();
    for (count, base_offset) in [(3, 0), (1, 3), (5, 4)] {
        let appended = append(&partition, batch(count)).await;
        assert_eq!(appended.base_offset, base_offset);
        assert_eq!(appended.last_offset, base_offset + i64::try_from(count).unwrap() - 1);
        assert_eq!((appended.log_append_time_ms, appended.log_start_offset), (-1, 0));
    }
    let expected = Offsets { log_start: 0, high_watermark: 9, last_stable: 9, log_end: 9 };
    let size = partition.size_bytes();
    drop(partition);
    for _ in 0..3 {
        let partition = world.partition();
        assert_eq!(partition.offsets(), expected);
        assert_eq!(partition.size_bytes(), size);
        let batches = read_all(&partition, 0);
        let offsets: Vec<_> = batches.iter().map(BatchView::base_offset).collect();
        assert_eq!(offsets, [0, 3, 4]);
        assert!(batches.iter().all(BatchView::crc_matches));
        assert_eq!(batches.iter().map(BatchView::len).sum::<usize>() as u64, size);
        drop(partition);
        world.reopen();
    }
    let appended = append(&world.partition(), batch(1)).await;
    assert_eq!(appended.base_offset, 9);
}

#[tokio::test]
async fn a_read_starts_with_the_batch_of_the_offset_and_keeps_to_its_bounds() {
    let world = World::new();
    let partition = world.partition();
    for _ in 0..4 {
        append(&partition, batch(2)).await;
    }
    let length = batch(2).len();
    let offsets = |offset, max_bytes, at_least_one| {
        let read = partition.read(offset, max_bytes, at_least_one, ReadUpTo::HighWatermark).unwrap();
        let batches = read.batches.iter().flat_map(BatchView::all);
        batches.map(|batch| batch.unwrap().base_offset()).collect::<Vec<_>>()
    };
    assert_eq!(offsets(3, usize::MAX, false), [2, 4, 6], "3 lies within the batch of 2");
    assert_eq!(offsets(0, 2 * length, false), [0, 2]);
    assert_eq!(offsets(0, 2 * length + 1, false), [0, 2], "never half a batch");
    assert_eq!(offsets(0, length - 1, false), Vec::<i64>::new());
    assert_eq!(offsets(0, 1, true), [0], "one batch is always whole");
    assert_eq!(offsets(8, usize::MAX, true), Vec::<i64>::new(), "the end is no error");
    for wrong in [-1, 9] {
        let error = partition.read(wrong, 1, true, ReadUpTo::HighWatermark).unwrap_err();
        assert_eq!(error.code, ErrorCode::OffsetOutOfRange);
    }
}

#[tokio::test]
async fn concurrent_appends_keep_the_order_of_their_calls() {
    let world = World::new();
    let partition = world.partition();
    let mut pending = Vec::new();
    for count in (1..=7).cycle().take(2_000) {
        let append = partition.append(batch(count), Origin::Client, Ops::new()).unwrap();
        pending.push((append.expected(), append));
    }
    let mut next = 0;
    for (expected, append) in pending {
        let appended = append.await.unwrap();
        assert_eq!(appended, expected);
        assert_eq!(appended.base_offset, next);
        next = appended.last_offset + 1;
    }
    assert_eq!(partition.offsets().high_watermark, next);
    let batches = read_all(&partition, 0);
    assert_eq!(batches.len(), 2_000);
    let mut end = 0;
    for batch in batches {
        assert_eq!(batch.base_offset(), end);
        end = batch.last_offset() + 1;
    }
}

#[tokio::test]
async fn a_watch_is_told_of_every_stored_append() {
    let world = World::new();
    let partition = world.partition();
    let watch = Arc::<Watch>::default();
    partition.watch(&watch, 7);
    for _ in 0..2 {
        append(&partition, batch(1)).await;
        watch.changed(1).await;
        assert_eq!(watch.take(), [7]);
    }
    partition.unwatch(&watch);
    append(&partition, batch(1)).await;
    assert!(watch.take().is_empty());
}

#[tokio::test]
async fn a_failed_write_is_not_acknowledged_and_nothing_after_it() {
    let mut world = World::new();
    let partition = world.partition();
    append(&partition, batch(1)).await;
    world.logs().store().fail_writes(true);
    let pending: Vec<_> =
        (0..3).filter_map(|_| partition.append(batch(1), Origin::Client, Ops::new()).ok()).collect();
    assert!(!pending.is_empty());
    for append in pending {
        assert_eq!(append.await.unwrap_err().code, ErrorCode::KafkaStorageError);
    }
    let refused = partition.append(batch(1), Origin::Client, Ops::new()).unwrap_err();
    assert_eq!(refused.code, ErrorCode::KafkaStorageError);
    assert_eq!(partition.offsets().high_watermark, 1, "reads go on, without what was lost");
    assert_eq!(read_all(&partition, 0).len(), 1);
    drop(partition);
    world.reopen();
    let partition = world.partition();
    assert_eq!(partition.offsets().log_end, 1);
    assert_eq!(append(&partition, batch(1)).await.base_offset, 1);
}

#[tokio::test]
async fn a_deleted_topic_is_gone_and_its_successor_is_empty() {
    let mut world = World::new();
    let partition = world.partition();
    append(&partition, batch(3)).await;
    let watch = Arc::<Watch>::default();
    partition.watch(&watch, 0);
    world.logs().delete_topic(TOPIC_ID).unwrap();
    watch.changed(u64::MAX).await;
    assert!(partition.is_deleted());
    let refused = partition.append(batch(1), Origin::Client, Ops::new()).unwrap_err();
    assert_eq!(refused.code, ErrorCode::UnknownTopicOrPartition);
    assert!(world.logs().get(TOPIC_ID, 0).is_none());
    let old = partition.id();
    drop(partition);
    world.reopen();
    assert!(world.logs().all().is_empty());
    let partition = world.partition();
    assert_ne!(partition.id(), old);
    assert_eq!(append(&partition, batch(1)).await.base_offset, 0);
    assert_eq!(read_all(&partition, 0).len(), 1);
}

#[tokio::test]
async fn leader_epochs_are_known_with_their_first_offsets() {
    let mut world = World::new();
    let partition = world.partition();
    partition.set_leader_epoch(0);
    append(&partition, batch(2)).await;
    partition.set_leader_epoch(3);
    append(&partition, batch(2)).await;
    partition.set_leader_epoch(2);
    assert_eq!(partition.leader_epoch(), 3, "an older epoch is ignored");
    assert_eq!(partition.check_leader_epoch(2), Err(ErrorCode::FencedLeaderEpoch));
    assert_eq!(partition.check_leader_epoch(4), Err(ErrorCode::UnknownLeaderEpoch));
    assert_eq!(partition.check_leader_epoch(-1), Ok(()));
    drop(partition);
    world.reopen();
    let partition = world.partition();
    assert_eq!(partition.leader_epoch(), 3);
    assert_eq!(partition.epoch_end(0), (0, 2));
    assert_eq!(partition.epoch_end(3), (3, 4));
    assert_eq!(partition.epoch_end(9), (-1, -1));
    let epochs: Vec<_> = read_all(&partition, 0).iter().map(BatchView::leader_epoch).collect();
    assert_eq!(epochs, [0, 3]);
}
