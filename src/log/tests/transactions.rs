//! Transactions in one partition: what readers of committed records see, what is refused, and that
//! a restart changes neither.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::error::ErrorCode;
use crate::log::batch::TRANSACTIONAL;
use crate::log::{AbortedTransaction, Acks, Marker, OffsetQuery, TransactionalBatch, Verification};
use crate::testing::properties;

fn transactional(producer_id: i64, epoch: i16, sequence: i32, count: usize) -> Bytes {
    let builder = BatchBuilder::new().attributes(TRANSACTIONAL).producer(producer_id, epoch, sequence);
    (0..count).fold(builder, |builder, _| builder.record(NOW_MS, None, Some(b"value"))).build()
}

fn marker(producer_id: i64, producer_epoch: i16, is_commit: bool) -> Marker {
    Marker { producer_id, producer_epoch, coordinator_epoch: 0, is_commit, transaction_version: 1 }
}

fn verify(
    partition: &Arc<Partition>,
    id: i64,
    epoch: i16,
    sequence: i32,
    bumps: bool,
) -> Option<Verification> {
    let batch = TransactionalBatch {
        producer_id: id,
        producer_epoch: epoch,
        base_sequence: sequence,
        supports_epoch_bump: bumps,
    };
    partition.start_verification(batch).unwrap()
}

/// Appends as Produce does whose coordinator agrees.
async fn write(partition: &Arc<Partition>, id: i64, epoch: i16, sequence: i32, count: usize) -> Appended {
    let batch = transactional(id, epoch, sequence, count);
    let pending = match verify(partition, id, epoch, sequence, false) {
        Some(verification) => {
            assert!(verification.asks_coordinator());
            partition.append_with(batch, (Origin::Client, Acks::Leader), Ops::new(), Some(&verification))
        }
        None => partition.append(batch, Origin::Client, Ops::new()),
    };
    pending.unwrap().await.unwrap()
}

async fn end(partition: &Arc<Partition>, marker: &Marker) -> Appended {
    partition.append_marker(marker, Origin::Internal, Ops::new()).unwrap().await.unwrap()
}

/// The offsets of the records that a client shows which reads committed ones only: it leaves out
/// those of the transactions that it is told of, until it sees their markers.
fn committed(partition: &Partition, from: i64, max_bytes: usize) -> (Vec<i64>, i64) {
    let read = partition.read(from, max_bytes, true, ReadUpTo::LastStable).unwrap();
    let mut aborted = read.aborted.clone().unwrap();
    aborted.sort_by_key(|(_, first_offset)| *first_offset);
    let mut aborted = aborted.into_iter().peekable();
    let mut open = BTreeSet::new();
    let (mut shown, mut position) = (Vec::new(), from);
    for batch in read.batches.iter().flat_map(BatchView::all).map(Result::unwrap) {
        position = batch.last_offset() + 1;
        while let Some((id, _)) = aborted.next_if(|(_, first_offset)| *first_offset <= batch.last_offset()) {
            open.insert(id);
        }
        if let Some(marker) = Marker::of(&batch).filter(|_| batch.is_control()) {
            if !marker.is_commit {
                open.remove(&batch.producer_id());
            }
        } else if !(batch.is_transactional() && open.contains(&batch.producer_id())) {
            shown.extend((batch.base_offset()..=batch.last_offset()).filter(|offset| *offset >= from));
        }
    }
    (shown, position)
}

#[tokio::test]
async fn readers_of_committed_records_end_before_the_first_open_transaction() {
    let mut world = World::new();
    let partition = world.partition();
    append(&partition, batch(2)).await;
    write(&partition, 1, 0, 0, 2).await;
    append(&partition, batch(1)).await;
    write(&partition, 2, 0, 0, 1).await;
    drop(partition);
    for _ in 0..2 {
        let partition = world.partition();
        let offsets = partition.offsets();
        assert_eq!((offsets.last_stable, offsets.high_watermark), (2, 6));
        let latest =
            |isolation| partition.offset_for(OffsetQuery::Latest(isolation)).unwrap().unwrap().offset;
        assert_eq!(latest(crate::log::Isolation::ReadCommitted), 2);
        assert_eq!(latest(crate::log::Isolation::ReadUncommitted), 6);
        let read = partition.read(2, usize::MAX, true, ReadUpTo::LastStable).unwrap();
        assert!(read.is_empty());
        assert_eq!(read.aborted, Some(Vec::new()));
        let starts: Vec<_> =
            partition.producers().iter().map(|p| p.current_transaction_start_offset).collect();
        assert_eq!(starts, [2, 5]);
        drop(partition);
        world.reopen();
    }
    let partition = world.partition();
    assert_eq!(end(&partition, &marker(1, 0, true)).await.base_offset, 6);
    assert_eq!(partition.offsets().last_stable, 5, "the other one is open");
    end(&partition, &marker(2, 0, false)).await;
    assert_eq!(partition.offsets().last_stable, 8);
    assert_eq!(committed(&partition, 0, usize::MAX), (vec![0, 1, 2, 3, 4], 8));
    let read = partition.read(0, usize::MAX, true, ReadUpTo::HighWatermark).unwrap();
    assert_eq!(read.aborted, None);
    let described = partition.producers();
    assert_eq!(described[0].coordinator_epoch, 0);
    assert_eq!(described[0].current_transaction_start_offset, -1);
}

#[tokio::test]
async fn the_index_names_the_transactions_that_overlap_what_was_read() {
    let mut world = World::new();
    let partition = world.partition();
    // Offsets: 1 at 0, 2 at 1, 3 at 2; markers of 2 at 3, of 1 at 4; 3 commits at 5; 2 again 6, 7.
    for id in 1..=3 {
        write(&partition, id, 0, 0, 1).await;
    }
    for (id, is_commit) in [(2, false), (1, false), (3, true)] {
        end(&partition, &marker(id, 0, is_commit)).await;
    }
    write(&partition, 2, 0, 1, 1).await;
    end(&partition, &marker(2, 0, false)).await;
    drop(partition);
    let entry = |producer_id, first_offset, last_offset, last_stable| AbortedTransaction {
        producer_id,
        first_offset,
        last_offset,
        last_stable,
    };
    let all = [entry(2, 1, 3, 0), entry(1, 0, 4, 2), entry(2, 6, 7, 8)];
    for _ in 0..2 {
        let partition = world.partition();
        let within = |from, to| partition.aborted_transactions(from, to).unwrap();
        assert_eq!(within(0, 100), all);
        assert_eq!(within(0, 2), all[..2]);
        assert_eq!(within(0, 1), all[1..2]);
        assert_eq!(within(4, 100), all[1..]);
        assert_eq!(within(5, 7), all[2..]);
        assert_eq!(within(5, 6), []);
        assert_eq!(within(8, 100), []);
        let one_batch = partition.read(0, 1, true, ReadUpTo::LastStable).unwrap();
        assert_eq!(one_batch.aborted, Some(vec![(1, 0)]), "only what was read");
        drop(partition);
        world.reopen();
    }
    let partition = world.partition();
    partition.delete_records(4).await.unwrap();
    assert_eq!(partition.aborted_transactions(0, 100).unwrap(), all[1..], "its marker is gone");
    partition.delete_records(8).await.unwrap();
    assert_eq!(partition.aborted_transactions(0, 100).unwrap(), []);
}

#[tokio::test]
async fn a_transaction_begins_with_its_coordinators_knowledge_only() {
    let world = World::new();
    let partition = world.partition();
    let refused = |batch, verification: Option<&Verification>| {
        let appended = match verification {
            Some(verification) => {
                partition.append_with(batch, (Origin::Client, Acks::Leader), Ops::new(), Some(verification))
            }
            None => partition.append(batch, Origin::Client, Ops::new()),
        };
        appended.unwrap_err().code
    };
    assert_eq!(refused(transactional(1, 0, 0, 1), None), ErrorCode::InvalidTxnState);
    let late = verify(&partition, 1, 0, 0, false).unwrap();
    // A marker that comes between the coordinator's answer and the append makes the answer void.
    end(&partition, &marker(1, 0, false)).await;
    assert_eq!(refused(transactional(1, 0, 0, 1), Some(&late)), ErrorCode::InvalidTxnState);
    let next = verify(&partition, 1, 0, 0, false).unwrap();
    assert_eq!(refused(transactional(1, 0, 0, 1), Some(&late)), ErrorCode::InvalidTxnState);
    let pending = partition.append_with(
        transactional(1, 0, 0, 1),
        (Origin::Client, Acks::Leader),
        Ops::new(),
        Some(&next),
    );
    pending.unwrap().await.unwrap();
    drop((late, next));
    assert!(verify(&partition, 1, 0, 1, false).is_none(), "it has begun");
    append(&partition, transactional(1, 0, 1, 1)).await;
    let plain = BatchBuilder::new().producer(1, 0, 2).record(NOW_MS, None, None).build();
    assert_eq!(refused(plain, None), ErrorCode::InvalidTxnState);
    let newer = verify(&partition, 1, 1, 0, false).unwrap();
    assert!(newer.asks_coordinator(), "the transaction of the older epoch may be over");
    end(&partition, &marker(1, 1, false)).await;
    assert_eq!(refused(transactional(1, 0, 2, 1), None), ErrorCode::InvalidProducerEpoch);
    let fenced = partition.start_verification(TransactionalBatch {
        producer_id: 1,
        producer_epoch: 0,
        base_sequence: 2,
        supports_epoch_bump: false,
    });
    assert_eq!(fenced.err().unwrap().code, ErrorCode::InvalidProducerEpoch);
}

#[tokio::test]
async fn batches_that_wait_for_the_coordinator_are_not_overtaken() {
    let world = World::new();
    let partition = world.partition();
    let first = verify(&partition, 1, 0, 0, true).unwrap();
    let second = verify(&partition, 1, 0, 1, true).unwrap();
    let add = |sequence, verification: &Verification| {
        partition.append_with(
            transactional(1, 0, sequence, 1),
            (Origin::Client, Acks::Leader),
            Ops::new(),
            Some(verification),
        )
    };
    let early = add(1, &second).unwrap_err();
    assert_eq!(early.code, ErrorCode::OutOfOrderSequenceNumber, "0 was seen");
    add(0, &first).unwrap().await.unwrap();
    drop(first);
    let third = verify(&partition, 1, 0, 2, true).expect("the second one still waits");
    assert!(!third.asks_coordinator());
    add(1, &second).unwrap().await.unwrap();
    drop(second);
    add(2, &third).unwrap().await.unwrap();
    drop(third);
    assert!(verify(&partition, 1, 0, 3, true).is_none());
    // With a new epoch for each transaction, the first sequence number is 0.
    let bumped = verify(&partition, 2, 0, 5, true).unwrap();
    let appended = partition.append_with(
        transactional(2, 0, 5, 1),
        (Origin::Client, Acks::Leader),
        Ops::new(),
        Some(&bumped),
    );
    assert_eq!(appended.unwrap_err().code, ErrorCode::OutOfOrderSequenceNumber);
}

#[tokio::test]
async fn markers_that_are_late_are_refused() {
    let world = World::new();
    let partition = world.partition();
    let try_end = |marker: &Marker| {
        partition.append_marker(marker, Origin::Internal, Ops::new()).map(drop).map_err(|e| e.code)
    };
    write(&partition, 1, 3, 0, 1).await;
    assert_eq!(try_end(&marker(1, 2, true)), Err(ErrorCode::InvalidProducerEpoch));
    let newer = |epoch| Marker { transaction_version: 2, ..marker(1, epoch, true) };
    assert_eq!(try_end(&newer(3)), Err(ErrorCode::InvalidProducerEpoch), "its epoch must be a new one");
    assert_eq!(try_end(&newer(4)), Ok(()));
    assert_eq!(try_end(&newer(4)), Ok(()), "again, after a restart of the coordinator");
    write(&partition, 1, 4, 0, 1).await;
    assert_eq!(try_end(&newer(4)), Err(ErrorCode::InvalidProducerEpoch), "it would end the next one");
    let coordinator = |coordinator_epoch| Marker { coordinator_epoch, ..marker(1, 4, false) };
    assert_eq!(try_end(&coordinator(5)), Ok(()));
    assert_eq!(try_end(&coordinator(4)), Err(ErrorCode::TransactionCoordinatorFenced));
}

#[tokio::test]
async fn an_open_transaction_keeps_its_producer() {
    let world = World::new();
    let partition = world.partition();
    write(&partition, 1, 0, 0, 1).await;
    write(&partition, 2, 0, 0, 1).await;
    end(&partition, &marker(2, 0, true)).await;
    world.clock.advance(LogSettings::default().producer_id_expiration_ms);
    world.logs().apply_retention();
    let ids: Vec<_> = partition.producers().iter().map(|producer| producer.producer_id).collect();
    assert_eq!(ids, [1]);
}

#[derive(Clone, Debug)]
enum Step {
    Plain,
    Write { id: i64 },
    End { id: i64, is_commit: bool },
    Reopen,
    DeleteRecords { percent: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Plain),
        8 => (0..4i64).prop_map(|id| Step::Write { id }),
        4 => (0..4i64, any::<bool>()).prop_map(|(id, is_commit)| Step::End { id, is_commit }),
        1 => Just(Step::Reopen),
        1 => (0..60i64).prop_map(|percent| Step::DeleteRecords { percent }),
    ]
}

/// What should be seen of the log.
#[derive(Default)]
struct Model {
    log_end: i64,
    log_start: i64,
    shown: BTreeSet<i64>,
    open: BTreeMap<i64, Vec<i64>>,
    sequences: BTreeMap<i64, i32>,
}

impl Model {
    fn check(&self, partition: &Partition) {
        let first_open = self.open.values().filter_map(|offsets| offsets.first()).min();
        let last_stable = first_open.map_or(self.log_end, |first| *first.max(&self.log_start));
        assert_eq!(partition.offsets().last_stable, last_stable);
        let want: Vec<i64> =
            self.shown.range(self.log_start..).copied().filter(|o| *o < last_stable).collect();
        for max_bytes in [1, 200, usize::MAX] {
            let (mut shown, mut position) = (Vec::new(), self.log_start);
            while position < last_stable {
                let (some, next) = committed(partition, position, max_bytes);
                assert!(next > position, "a reader is stuck at {position}");
                shown.extend(some);
                position = next;
            }
            assert_eq!(shown, want, "read in pieces of {max_bytes}");
        }
    }
}

proptest! {
    #![proptest_config(properties(24))]

    #[test]
    fn readers_show_what_was_committed_and_nothing_else(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (mut world, mut model) = (World::new(), Model::default());
        for step in steps {
            let partition = world.partition();
            match step {
                Step::Plain => {
                    let appended = runtime.block_on(append(&partition, batch(1)));
                    model.shown.insert(appended.base_offset);
                }
                Step::Write { id } => {
                    let sequence = model.sequences.entry(id).or_default();
                    let appended = runtime.block_on(write(&partition, id, 0, *sequence, 2));
                    *sequence += 2;
                    let offsets = appended.base_offset..=appended.last_offset;
                    model.open.entry(id).or_default().extend(offsets);
                }
                Step::End { id, is_commit } => {
                    runtime.block_on(end(&partition, &marker(id, 0, is_commit)));
                    let offsets = model.open.remove(&id).unwrap_or_default();
                    model.shown.extend(offsets.into_iter().filter(|_| is_commit));
                }
                Step::DeleteRecords { percent } => {
                    let before = model.log_start + (model.log_end - model.log_start) * percent / 100;
                    model.log_start = runtime.block_on(partition.delete_records(before)).unwrap();
                }
                Step::Reopen => {
                    drop(partition);
                    world.reopen();
                }
            }
            let partition = world.partition();
            model.log_end = partition.offsets().log_end;
            model.check(&partition);
        }
    }
}
