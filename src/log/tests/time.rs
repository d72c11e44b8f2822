//! Offsets by time.

use super::*;
use crate::log::{FoundOffset, Isolation, OffsetQuery};
use crate::testing::properties;
use proptest::prelude::*;

fn found(offset: i64, timestamp: i64) -> Option<FoundOffset> {
    Some(FoundOffset { offset, timestamp, leader_epoch: 0 })
}

#[tokio::test]
async fn special_offsets() {
    let world = World::new();
    let partition = world.partition();
    let find = |query| partition.offset_for(query).unwrap();
    assert_eq!(find(OffsetQuery::MaxTimestamp), None, "nothing is in the log");
    assert_eq!(find(OffsetQuery::Timestamp(0)), None);
    assert_eq!(find(OffsetQuery::Latest(Isolation::ReadUncommitted)), found(0, -1));
    let times = [NOW_MS, NOW_MS + 2, NOW_MS + 2, NOW_MS + 1];
    let mixed = times.into_iter().fold(BatchBuilder::new(), |b, time| b.record(time, None, None));
    append(&partition, mixed.build()).await;
    append(&partition, batch_at(NOW_MS + 2, 1)).await;
    assert_eq!(find(OffsetQuery::MaxTimestamp), found(1, NOW_MS + 2), "the first of several");
    assert_eq!(find(OffsetQuery::Timestamp(NOW_MS + 1)), found(1, NOW_MS + 2));
    assert_eq!(find(OffsetQuery::Timestamp(0)), found(0, NOW_MS));
    assert_eq!(find(OffsetQuery::Timestamp(NOW_MS + 3)), None);
    assert_eq!(find(OffsetQuery::Latest(Isolation::ReadCommitted)), found(5, -1));
    assert_eq!(find(OffsetQuery::LogEnd), found(5, -1));
    assert_eq!(find(OffsetQuery::Earliest), found(0, -1));
    let none = Some(FoundOffset { offset: -1, timestamp: -1, leader_epoch: -1 });
    assert_eq!(find(OffsetQuery::LatestTiered), none);
    assert_eq!(find(OffsetQuery::EarliestPendingUpload), none);
    partition.delete_records(2).await.unwrap();
    assert_eq!(find(OffsetQuery::Timestamp(0)), found(2, NOW_MS + 2), "not below the log start");
    assert_eq!(find(OffsetQuery::MaxTimestamp), found(2, NOW_MS + 2));
    partition.delete_records(5).await.unwrap();
    assert_eq!(find(OffsetQuery::MaxTimestamp), None);
    assert_eq!(find(OffsetQuery::Earliest), found(5, -1));
}

proptest! {
    #![proptest_config(properties(24))]

    /// Whatever order times come in, and wherever the log starts: the answer is the first record.
    #[test]
    fn the_first_record_at_or_after_a_time(
        batches in prop::collection::vec(prop::collection::vec(0..60_i64, 1..4), 1..25),
        start in 0..70_i64,
        reopens in any::<bool>(),
        segment_bytes in prop_oneof![Just(300), Just(100_000)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            let partition = world.partition_with(|config| config.segment_bytes = segment_bytes);
            let mut times = Vec::new();
            for batch in &batches {
                let records = batch.iter().map(|time| NOW_MS + time);
                let built = records.clone().fold(BatchBuilder::new(), |b, time| b.record(time, None, None));
                append(&partition, built.build()).await;
                times.extend(records);
            }
            let start = start.min(partition.offsets().log_end);
            partition.delete_records(start).await.unwrap();
            drop(partition);
            if reopens {
                world.reopen();
            }
            let partition = world.logs().get(TOPIC_ID, 0).unwrap();
            let live = || (0..).zip(times.iter().copied()).filter(|(offset, _)| *offset >= start);
            for target in NOW_MS - 1..=NOW_MS + 61 {
                let expected = live().find(|(_, time)| *time >= target);
                let found = partition.offset_for(OffsetQuery::Timestamp(target)).unwrap();
                assert_eq!(found.map(|found| (found.offset, found.timestamp)), expected, "{target}");
            }
            let largest = live().map(|(_, time)| time).max();
            let expected = live().find(|(_, time)| Some(*time) == largest);
            let found = partition.offset_for(OffsetQuery::MaxTimestamp).unwrap();
            assert_eq!(found.map(|found| (found.offset, found.timestamp)), expected);
        });
    }
}
