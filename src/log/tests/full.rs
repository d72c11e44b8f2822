//! A disk that is full, and one that has room again.

use std::time::Instant;

use super::*;
use crate::error::ErrorCode;
use crate::storage::{KeyPrefix, Purpose};
use crate::testing::PATIENCE;

/// What the tests wait for comes from threads that look at the disk from time to time.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what} does not come");
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn records_are_refused_in_time_and_deletions_are_not() {
    let world = World::new();
    let partition = world.partition();
    for _ in 0..3 {
        append(&partition, batch(1)).await;
    }
    let store = world.logs().store().clone();
    let refused = |purpose| store.refusal(purpose).is_some();
    store.pretend_free(200 << 20);
    until("the refusal", || refused(Purpose::Records)).await;
    let error = partition.append(batch(1), Origin::Client, Ops::new()).unwrap_err();
    assert_eq!(error.code, ErrorCode::KafkaStorageError);
    assert!(error.message.unwrap().contains("209715200 bytes left"));
    assert!(!refused(Purpose::State) && !refused(Purpose::Metadata));
    partition.append(batch(1), Origin::Internal, Ops::new()).unwrap().await.unwrap();
    store.pretend_free(0);
    until("the refusal of all but deletions", || refused(Purpose::State)).await;
    assert!(partition.append(batch(1), Origin::Internal, Ops::new()).is_err());
    assert_eq!(partition.delete_records(2).await.unwrap(), 2);
    assert_eq!(read_all(&partition, 2).len(), 2);
    store.pretend_free(u64::MAX >> 1);
    until("room", || !refused(Purpose::Records)).await;
    assert_eq!(append(&partition, batch(1)).await.base_offset, 4);
}

/// Writes fail and succeed again while producers send: what was acknowledged is there, once, in its order; what was
/// not acknowledged is not in the way.
#[tokio::test]
async fn after_failed_writes_the_log_goes_on_where_it_was_stored() {
    let mut world = World::new();
    let partition = world.partition();
    let other = world.logs().create("u", Uuid::from_u128(5), 0, Arc::default()).unwrap();
    let store = world.logs().store().clone();
    let mut acknowledged = Vec::new();
    let mut sequence = 0;
    for round in 0..12 {
        let fails = round % 3 == 1;
        store.fail_writes(fails);
        if !fails {
            until("writing", || store.failure().is_none()).await;
        }
        let mut sent = Vec::new();
        for _ in 0..5 {
            let value = format!("{round} {sequence}");
            let batch = BatchBuilder::new()
                .producer(9, 0, sequence)
                .record(NOW_MS + i64::from(round), None, Some(value.as_bytes()))
                .build();
            if let Ok(pending) = partition.append(batch, Origin::Client, Ops::new()) {
                sequence += 1;
                sent.push((value, pending));
            }
        }
        for (value, pending) in sent {
            match pending.await {
                Ok(appended) => acknowledged.push((appended.base_offset, value)),
                // Its producer sends from here on again.
                Err(_) => sequence -= 1,
            }
        }
        if fails {
            assert!(other.append(batch(1), Origin::Client, Ops::new()).is_err());
            assert!(world.logs().create("v", Uuid::from_u128(6), 0, Arc::default()).is_err());
        }
        assert_eq!(partition.offsets().high_watermark, i64::try_from(acknowledged.len()).unwrap());
    }
    assert_eq!(acknowledged.len(), 8 * 5);
    assert_eq!(append(&other, batch(1)).await.base_offset, 0);
    drop((partition, other, store));
    world.reopen();
    let partition = world.partition();
    let mut found = Vec::new();
    for batch in read_all(&partition, 0) {
        for record in batch.records().unwrap() {
            let record = record.unwrap();
            found.push((record.offset, String::from_utf8(record.value.unwrap().to_vec()).unwrap()));
        }
    }
    assert_eq!(found, acknowledged);
}

#[tokio::test]
async fn a_topic_whose_deletion_failed_goes_when_the_store_can_be_written() {
    let world = World::new();
    drop(world.partition());
    let logs = Arc::clone(world.logs());
    logs.store().fail_writes(true);
    assert!(logs.delete_topic(TOPIC_ID).is_err());
    assert!(logs.get(TOPIC_ID, 0).is_none());
    logs.store().fail_writes(false);
    let retention = tokio::spawn(Arc::clone(&logs).run_retention(0, 1_000));
    let count = |prefix: &KeyPrefix| logs.store().scan(prefix).count();
    let end = Instant::now() + PATIENCE;
    while count(&KeyPrefix::Partitions) > 0 || count(&KeyPrefix::PartitionStates) > 0 {
        assert!(Instant::now() < end, "it stays");
        world.clock.advance(1_000);
        tokio::task::yield_now().await;
    }
    retention.abort();
}
