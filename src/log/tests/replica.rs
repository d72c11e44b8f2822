//! Followers: what they append is what the leader sent, and what they take back leaves no trace. The state of a log that
//! was appended to, cut, restarted and cut again is held against that of a log that only ever saw what is left.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::error::ErrorCode;
use crate::log::batch::{CONTROL_ABORT, CONTROL_COMMIT, TRANSACTIONAL, control_key};
use crate::log::{
    Acks, BrokerStanding, Brokers, Following, FromLeader, Leading, OffsetQuery, Offsets, ReplicaFetch,
};
use crate::storage::Durability;
use crate::testing::properties;
use crate::types::{LeaderEpoch, Offset};

const HOUR_MS: i64 = 3_600_000;
const CASES: u32 = 25;

/// What the leader appends next.
#[derive(Clone, Copy, Debug)]
enum Batch {
    Plain { count: usize, age_hours: i64 },
    Idempotent { producer: i64, count: usize },
    Transactional { producer: i64, count: usize },
    Marker { producer: i64, is_commit: bool },
}

#[derive(Clone, Debug)]
enum Step {
    /// Batches that come in one fetch, and how much of the log is committed then, in percent.
    Fetch(Vec<Batch>, u8),
    /// The same batches come again: nothing changes.
    FetchAgain,
    /// The leader loses a part of the log, in percent, that is not committed, and another one goes on.
    Truncate(u8),
    /// The same while the store can not be written.
    TruncateInVain(u8),
    /// The follower is killed and started.
    Restart,
    NewEpoch,
    /// What is committed is deleted, up to a part of it in percent.
    MoveStart(u8),
}

fn batch_strategy() -> impl Strategy<Value = Batch> {
    prop_oneof![
        2 => (1..4_usize, 0..50_i64).prop_map(|(count, age_hours)| Batch::Plain { count, age_hours }),
        3 => (1..4_i64, 1..4_usize).prop_map(|(producer, count)| Batch::Idempotent { producer, count }),
        3 => (11..14_i64, 1..4_usize).prop_map(|(producer, count)| Batch::Transactional { producer, count }),
        2 => (11..14_i64, any::<bool>()).prop_map(|(producer, is_commit)| Batch::Marker { producer, is_commit }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (prop::collection::vec(batch_strategy(), 1..6), 0..=100_u8).prop_map(|(batches, part)| Step::Fetch(batches, part)),
        1 => Just(Step::FetchAgain),
        4 => (0..=100_u8).prop_map(Step::Truncate),
        1 => (0..=100_u8).prop_map(Step::TruncateInVain),
        3 => Just(Step::Restart),
        2 => Just(Step::NewEpoch),
        1 => (0..=60_u8).prop_map(Step::MoveStart),
    ]
}

/// The log as it should be, and the follower.
struct Model {
    world: World,
    batches: Vec<Bytes>,
    epoch: LeaderEpoch,
    high_watermark: Offset,
    log_start: Offset,
    partition_epoch: i32,
    references: i32,
}

impl Model {
    fn new() -> Self {
        let mut model = Self {
            world: World::new(),
            batches: Vec::new(),
            epoch: 3,
            high_watermark: 0,
            log_start: 0,
            partition_epoch: 0,
            references: 0,
        };
        model.follow(&model.follower());
        model
    }

    fn partition(&self, index: i32) -> Arc<Partition> {
        let config = TopicConfig { segment_bytes: 700, retention_ms: -1, ..TopicConfig::default() };
        self.world.logs().create("t", TOPIC_ID, index, Arc::new(config)).unwrap()
    }

    fn follower(&self) -> Arc<Partition> {
        self.partition(0)
    }

    fn follow(&mut self, partition: &Partition) {
        self.partition_epoch += 1;
        let (leader_epoch, partition_epoch) = (self.epoch, self.partition_epoch);
        partition.follow(Following { leader: Some(2), leader_epoch, partition_epoch });
    }

    fn end(&self) -> Offset {
        self.batches.last().map_or(0, |batch| BatchView::first(batch).unwrap().last_offset() + 1)
    }

    fn build(&self, batch: Batch) -> Bytes {
        let builder = BatchBuilder::new().base_offset(self.end()).leader_epoch(self.epoch);
        let records = |builder: BatchBuilder, count: usize, at_ms: i64| {
            let mut builder = builder;
            for index in 0..count {
                builder = builder.record(at_ms, Some(format!("k{index}").as_bytes()), Some(b"value"));
            }
            builder.build()
        };
        let now_ms = self.world.clock.now_ms();
        match batch {
            Batch::Plain { count, age_hours } => records(builder, count, now_ms - age_hours * HOUR_MS),
            Batch::Idempotent { producer, count } => {
                let sequence = self.next_sequence(producer);
                records(builder.producer(producer, 0, sequence), count, now_ms)
            }
            Batch::Transactional { producer, count } => {
                let sequence = self.next_sequence(producer);
                let builder = builder.producer(producer, 0, sequence).attributes(TRANSACTIONAL);
                records(builder, count, now_ms)
            }
            Batch::Marker { producer, is_commit } => {
                let key = control_key(if is_commit { CONTROL_COMMIT } else { CONTROL_ABORT });
                let value = [0, 0, 0, 0, 0, 7];
                let builder = builder.control().attributes(TRANSACTIONAL).producer(producer, 0, -1);
                builder.record(now_ms, Some(&key), Some(&value)).build()
            }
        }
    }

    fn next_sequence(&self, producer: i64) -> i32 {
        let batches = self.batches.iter().map(|batch| BatchView::first(batch).unwrap());
        let of_producer = batches.filter(|batch| batch.producer_id() == producer && !batch.is_control());
        of_producer.last().map_or(0, |batch| batch.last_sequence() + 1)
    }

    fn sent(&self, batches: &[Bytes]) -> FromLeader {
        FromLeader {
            batches: batches.concat().into(),
            leader_epoch: self.epoch,
            high_watermark: self.high_watermark,
            log_start: self.log_start,
        }
    }

    fn send(&self, partition: &Arc<Partition>, batches: &[Bytes], runtime: &tokio::runtime::Runtime) {
        let pending = partition.append_as_follower(&self.sent(batches), Ops::new()).unwrap();
        if let Some(pending) = pending {
            runtime.block_on(pending).unwrap();
        }
        // The next fetch brings what can be committed now.
        partition.append_as_follower(&self.sent(&[]), Ops::new()).unwrap();
    }

    fn cut(&mut self, percent: u8) -> Offset {
        let kept = self.batches.len() * usize::from(100 - percent) / 100;
        let batch = |batch: &Bytes| BatchView::first(batch).unwrap();
        let committed =
            self.batches.iter().filter(|bytes| batch(bytes).last_offset() < self.high_watermark).count();
        self.batches.truncate(kept.max(committed));
        self.end()
    }

    fn take(&mut self, step: Step, runtime: &tokio::runtime::Runtime) {
        let follower = self.follower();
        match step {
            Step::Fetch(batches, percent) => {
                let before = self.batches.len();
                for batch in batches {
                    let batch = self.build(batch);
                    self.batches.push(batch);
                }
                let place = self.batches.len() * usize::from(percent) / 100;
                let committed = self.batches[..place]
                    .last()
                    .map_or(0, |batch| BatchView::first(batch).unwrap().last_offset() + 1);
                self.high_watermark = self.high_watermark.max(committed);
                self.send(&follower, &self.batches[before..], runtime);
            }
            Step::FetchAgain => {
                if let Some(last) = self.batches.last().filter(|_| self.end() > self.log_start) {
                    let refused =
                        follower.append_as_follower(&self.sent(std::slice::from_ref(last)), Ops::new());
                    assert_eq!(refused.unwrap_err().code, ErrorCode::OffsetOutOfRange);
                }
            }
            Step::Truncate(percent) => {
                let before = self.batches.clone();
                let end = self.cut(percent);
                // In the middle of the first batch that goes, if it has one.
                let first = before.get(self.batches.len()).map(|batch| BatchView::first(batch).unwrap());
                let at = end + i64::from(first.is_some_and(|batch| batch.last_offset() > end));
                assert_eq!(follower.truncate_to(at).unwrap(), end.max(follower.offsets().log_start));
                self.epoch += 1;
                self.follow(&follower);
            }
            Step::TruncateInVain(percent) => {
                let end = follower.offsets().log_end * i64::from(100 - percent) / 100;
                if end < follower.offsets().log_end && end >= follower.offsets().log_start {
                    self.world.logs().store().fail_writes(true);
                    assert!(follower.truncate_to(end).is_err());
                    drop(follower);
                    self.restart();
                }
            }
            Step::Restart => {
                drop(follower);
                self.restart();
            }
            Step::NewEpoch => {
                self.epoch += 1;
                self.follow(&follower);
            }
            Step::MoveStart(percent) => {
                let start = self.high_watermark * i64::from(percent) / 100;
                self.log_start = self.log_start.max(start);
                self.send(&follower, &[], runtime);
            }
        }
    }

    fn restart(&mut self) {
        self.world.reopen();
        self.follow(&self.follower());
    }

    /// Compares the follower with a log that was only ever given what it should hold.
    fn check(&mut self, runtime: &tokio::runtime::Runtime) {
        let follower = self.follower();
        // After a restart it learns again what is committed.
        self.send(&follower, &[], runtime);
        self.references += 1;
        let reference = self.partition(self.references);
        self.follow(&reference);
        // Before the log start moves, as otherwise it would be the first thing that happens.
        let log_start = std::mem::take(&mut self.log_start);
        for batch in &self.batches.clone() {
            self.send(&reference, std::slice::from_ref(batch), runtime);
        }
        self.log_start = log_start;
        self.send(&reference, &[], runtime);
        self.world.logs().store().commit_blocking(Ops::new(), Durability::Process).unwrap();
        let (ours, exact) = (follower.offsets(), reference.offsets());
        assert_eq!(Offsets { last_stable: exact.last_stable, ..ours }, exact);
        let read = |partition: &Partition| {
            let read = partition.read(self.log_start, usize::MAX, true, ReadUpTo::LogEnd).unwrap();
            read.batches.concat()
        };
        assert!(read(&follower) == read(&reference), "the records differ");
        // What was deleted can not be read again: less may be known of who wrote it.
        if self.log_start == 0 {
            let producers = |partition: &Partition| partition.inner.lock().producers.facts();
            assert_eq!(producers(&follower), producers(&reference));
            // A restart may not know exactly which of several transactions whose markers are not committed starts first.
            assert!(ours.last_stable <= exact.last_stable, "{ours:?} {exact:?}");
            assert!(ours.high_watermark < ours.log_end || ours == exact, "{ours:?} {exact:?}");
        }
        let offsets = follower.offsets();
        let aborted = |partition: &Partition| partition.aborted_transactions(0, offsets.log_end).unwrap();
        assert_eq!(aborted(&follower), aborted(&reference));
        for epoch in 0..=self.epoch + 1 {
            assert_eq!(follower.epoch_end(epoch), reference.epoch_end(epoch), "epoch {epoch}");
        }
        let now_ms = self.world.clock.now_ms();
        for age_hours in -1..51 {
            let query = OffsetQuery::Timestamp(now_ms - age_hours * HOUR_MS);
            let found = |partition: &Partition| partition.offset_for(query).unwrap();
            assert_eq!(found(&follower), found(&reference), "{age_hours} hours ago");
        }
        let found = |partition: &Partition| partition.offset_for(OffsetQuery::MaxTimestamp).unwrap();
        assert_eq!(found(&follower), found(&reference));
    }
}

#[test]
fn what_is_taken_back_leaves_no_trace() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let steps = prop::collection::vec(step(), 1..25);
    let result = TestRunner::new(properties(CASES)).run(&steps, |steps| {
        let mut model = Model::new();
        for step in steps {
            let checks = matches!(step, Step::Truncate(_) | Step::TruncateInVain(_) | Step::Restart);
            model.take(step, &runtime);
            if checks {
                model.check(&runtime);
            }
        }
        model.check(&runtime);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// A partition that this node, 1, leads with followers 2 and 3.
fn led(world: &World, leader_epoch: LeaderEpoch, isr: &[i32], min_insync_replicas: i32) -> Arc<Partition> {
    let standing =
        |id: i32| BrokerStanding { epoch: 100 + i64::from(id), is_fenced: false, is_shutting_down: false };
    world.logs().set_brokers(Brokers((1..=3).map(|id| (id, standing(id))).collect()));
    let partition = world.partition_with(|config| config.min_insync_replicas = min_insync_replicas);
    lead(&partition, leader_epoch, isr);
    partition
}

fn lead(partition: &Partition, leader_epoch: LeaderEpoch, isr: &[i32]) {
    let (replicas, isr, partition_epoch) = (vec![1, 2, 3], isr.to_vec(), leader_epoch);
    let leading = Leading { node_id: 1, leader_epoch, partition_epoch, replicas, isr, adding: Vec::new() };
    assert!(partition.lead(leading));
}

fn follower_fetch(replica: i32, offset: Offset, current_leader_epoch: LeaderEpoch) -> ReplicaFetch {
    let broker_epoch = 100 + i64::from(replica);
    ReplicaFetch { replica, broker_epoch, offset, log_start: 0, current_leader_epoch, last_fetched_epoch: -1 }
}

fn append_all(partition: &Arc<Partition>) -> Result<crate::log::PendingAppend, crate::log::AppendError> {
    partition.append_with(batch(1), (Origin::Client, Acks::InSync), Ops::new(), None)
}

#[tokio::test]
async fn acks_all_waits_for_all_in_sync_and_no_longer() {
    let world = World::new();
    let partition = led(&world, 1, &[1, 2], 2);
    let stored = partition.append(batch(1), Origin::Client, Ops::new()).unwrap().await.unwrap();
    assert_eq!((stored.last_offset, partition.offsets().high_watermark), (0, 0));
    let mut pending = std::pin::pin!(append_all(&partition).unwrap().committed());
    let mut poll = || {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        pending.as_mut().poll(&mut context).is_ready()
    };
    assert!(!poll());
    while partition.stored_end() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(partition.replica_fetch(&follower_fetch(2, 1, 1)), Ok(None));
    assert!(!poll() && partition.offsets().high_watermark == 1);
    assert_eq!(partition.replica_fetch(&follower_fetch(3, 0, 1)), Ok(None));
    assert_eq!(partition.replica_fetch(&follower_fetch(2, 2, 1)), Ok(None));
    assert_eq!(partition.offsets().high_watermark, 2, "the third is not in sync");
    assert_eq!(pending.await.unwrap().last_offset, 1);
}

#[tokio::test]
async fn who_waits_hears_that_the_leader_is_gone() {
    let world = World::new();
    let partition = led(&world, 1, &[1, 2], 1);
    let waiting = append_all(&partition).unwrap();
    let task = tokio::spawn(waiting.committed());
    let late = append_all(&partition).unwrap();
    while partition.stored_end() < 2 {
        tokio::task::yield_now().await;
    }
    assert!(partition.follow(Following { leader: Some(2), leader_epoch: 2, partition_epoch: 2 }));
    assert_eq!(task.await.unwrap().unwrap_err().code, ErrorCode::NotLeaderOrFollower);
    // It leads again, and other records may stand there now: the answer is the same.
    lead(&partition, 3, &[1]);
    assert_eq!(partition.offsets().high_watermark, 2);
    assert_eq!(late.committed().await.unwrap_err().code, ErrorCode::NotLeaderOrFollower);
}

#[tokio::test]
async fn too_few_in_sync_are_told_before_and_after() {
    let world = World::new();
    let partition = led(&world, 1, &[1], 2);
    assert_eq!(append_all(&partition).unwrap_err().code, ErrorCode::NotEnoughReplicas);
    partition.append(batch(1), Origin::Client, Ops::new()).unwrap().await.unwrap();
    assert_eq!(partition.offsets().high_watermark, 0, "nothing is committed meanwhile");
    lead(&partition, 2, &[1, 2]);
    let task = tokio::spawn(append_all(&partition).unwrap().committed());
    assert_eq!(partition.replica_fetch(&follower_fetch(2, 0, 2)), Ok(None));
    world.clock.advance(100_000);
    let proposal = partition.isr_proposal().unwrap();
    assert_eq!(proposal.isr.len(), 1);
    let accepted = crate::log::IsrAccepted { leader_epoch: 2, partition_epoch: 3, isr: vec![1] };
    while partition.stored_end() < 2 {
        tokio::task::yield_now().await;
    }
    // With min.insync.replicas lowered meanwhile what is there counts, and raised again it does not suffice.
    assert_eq!(partition.isr_answered(&proposal, Ok(accepted)), crate::log::IsrOutcome::Changed);
    assert_eq!(partition.offsets().high_watermark, 0);
    world.logs().set_config(TOPIC_ID, Arc::new(TopicConfig::default()));
    partition.isr_proposal();
    assert_eq!((partition.offsets().high_watermark, task.await.unwrap().is_ok()), (2, true));
}

#[tokio::test]
async fn followers_are_told_where_their_log_goes_another_way() {
    let world = World::new();
    let partition = led(&world, 1, &[1, 2], 1);
    for (epoch, count) in [(1, 3), (4, 2), (6, 5)] {
        if epoch > 1 {
            lead(&partition, epoch, &[1, 2]);
        }
        append(&partition, batch(count)).await;
    }
    let ask = |offset, last_fetched_epoch| {
        partition.replica_fetch(&ReplicaFetch { last_fetched_epoch, ..follower_fetch(2, offset, 6) })
    };
    assert_eq!(ask(10, 6), Ok(None));
    assert_eq!(ask(5, 4), Ok(None));
    assert_eq!(ask(6, 4), Ok(Some((4, 5))));
    assert_eq!(ask(4, 3), Ok(Some((1, 3))), "an epoch that is not known here");
    assert_eq!(ask(2, 7), Err(ErrorCode::OffsetOutOfRange));
    assert_eq!(ask(11, -1), Err(ErrorCode::OffsetOutOfRange));
    let with = |fetch: ReplicaFetch| partition.replica_fetch(&fetch);
    assert_eq!(with(follower_fetch(2, 0, 5)), Err(ErrorCode::FencedLeaderEpoch));
    assert_eq!(with(follower_fetch(2, 0, 7)), Err(ErrorCode::UnknownLeaderEpoch));
    assert_eq!(with(follower_fetch(4, 0, 6)), Err(ErrorCode::UnknownLeaderEpoch));
    assert_eq!(with(follower_fetch(4, 0, -1)), Err(ErrorCode::NotLeaderOrFollower));
    let stale = ReplicaFetch { broker_epoch: 5, ..follower_fetch(2, 0, 6) };
    assert_eq!(with(stale), Err(ErrorCode::NotLeaderOrFollower));
    partition.offline();
    assert_eq!(with(follower_fetch(2, 0, 6)), Err(ErrorCode::NotLeaderOrFollower));
}

#[tokio::test]
async fn an_epoch_without_records_is_forgotten_where_the_leader_does_not_know_it() {
    let mut world = World::new();
    let partition = led(&world, 4, &[1, 2], 1);
    append(&partition, batch(3)).await;
    lead(&partition, 5, &[1, 2]);
    let following = Following { leader: Some(2), leader_epoch: 6, partition_epoch: 6 };
    partition.follow(following);
    assert_eq!(partition.latest_epoch(), Some(5));
    assert_eq!(partition.truncate_to(3).unwrap(), 3);
    assert_eq!((partition.latest_epoch(), partition.epoch_end(4)), (Some(4), (4, 3)));
    drop(partition);
    world.reopen();
    assert_eq!(world.partition().latest_epoch(), Some(4));
}

#[tokio::test]
async fn the_cleaner_leaves_no_view_where_another_broker_leads() {
    let world = World::new();
    let partition = led(&world, 4, &[1, 2], 1);
    append(&partition, batch(3)).await;
    partition.save_view(Ops::new(), 3, 4).unwrap();
    partition.forget_view_unless_led().unwrap();
    world.logs().store().commit(Ops::new(), Durability::Process).await.unwrap();
    assert_eq!(partition.view_end().unwrap(), Some(3));
    partition.follow(Following { leader: Some(2), leader_epoch: 5, partition_epoch: 5 });
    partition.forget_view_unless_led().unwrap();
    world.logs().store().commit(Ops::new(), Durability::Process).await.unwrap();
    assert_eq!(partition.view_end().unwrap(), None);
}

#[tokio::test]
async fn a_follower_that_asks_in_is_named_to_who_asks_the_controller() {
    let world = World::new();
    let partition = led(&world, 1, &[1], 1);
    append(&partition, batch(2)).await;
    assert_eq!(partition.replica_fetch(&follower_fetch(3, 2, 1)), Ok(None));
    let joins = world.logs().isr_joins().await;
    assert!(Arc::ptr_eq(&joins[0], &partition));
    let proposal = partition.isr_proposal().unwrap();
    assert!(proposal.is_expansion);
    append(&partition, batch(1)).await;
    assert_eq!(partition.offsets().high_watermark, 2, "it is waited for from now on");
    assert_eq!(world.logs().isr_changes(), Default::default());
    let accepted = crate::log::IsrAccepted { leader_epoch: 1, partition_epoch: 2, isr: vec![1, 3] };
    partition.isr_answered(&proposal, Ok(accepted));
    assert_eq!(world.logs().isr_changes().expands, 1);
}

#[tokio::test]
async fn deletions_wait_for_the_replicas_that_are_alive() {
    let world = World::new();
    let partition = led(&world, 1, &[1], 1);
    append(&partition, batch(5)).await;
    for replica in [2, 3] {
        assert_eq!(partition.replica_fetch(&follower_fetch(replica, 5, 1)), Ok(None));
    }
    assert_eq!(partition.delete_records(4).await.unwrap(), 4);
    assert_eq!(partition.low_watermark(), Ok(0));
    let waiting = tokio::spawn({
        let partition = Arc::clone(&partition);
        async move { partition.reach_low_watermark(4).await }
    });
    for replica in [2, 3] {
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        let fetch = ReplicaFetch { log_start: 4, ..follower_fetch(replica, 5, 1) };
        assert_eq!(partition.replica_fetch(&fetch), Ok(None));
    }
    assert_eq!(waiting.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn what_a_peer_sends_can_be_wrong_and_do_no_harm() {
    let world = World::new();
    let partition = world.partition();
    partition.follow(Following { leader: Some(2), leader_epoch: 1, partition_epoch: 1 });
    let at = |base_offset: Offset, epoch: LeaderEpoch| {
        let builder = BatchBuilder::new().base_offset(base_offset).leader_epoch(epoch);
        builder.record(NOW_MS, None, Some(b"value")).build()
    };
    let send = |batches: &[u8]| {
        let batches = Bytes::copy_from_slice(batches);
        let from = FromLeader { batches, leader_epoch: 1, high_watermark: -1, log_start: -1 };
        partition
            .append_as_follower(&from, Ops::new())
            .map(|pending| pending.is_some())
            .map_err(|error| error.code)
    };
    // A good one, then each way of being wrong.
    let with = |second: &[u8]| [&at(0, 1)[..], second].concat();
    let mut flipped = at(1, 1).to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(send(&flipped), Err(ErrorCode::CorruptMessage));
    assert_eq!(send(&[0; 100]), Err(ErrorCode::CorruptMessage));
    assert_eq!(send(&at(i64::MAX, 1)), Err(ErrorCode::CorruptMessage));
    assert_eq!(send(&at(-1, 1)), Err(ErrorCode::CorruptMessage));
    assert_eq!(send(&at(0, 2)), Ok(false), "of an epoch that is not known yet");
    assert_eq!(send(&at(0, 1)[..60]), Ok(false), "half a batch");
    assert_eq!(send(&with(&flipped)), Ok(true), "what is good is taken");
    assert_eq!(send(&at(0, 1)), Err(ErrorCode::OffsetOutOfRange));
    assert_eq!(send(&[&at(5, 1)[..], &at(4, 1)[..]].concat()), Ok(true), "compaction leaves gaps");
    assert_eq!(partition.offsets().log_end, 6);
    let mut bytes = at(6, 1).to_vec();
    for index in 0..bytes.len() {
        bytes[index] ^= 0xff;
        // Base offset and epoch are not covered by the checksum.
        let _ = send(&bytes);
        bytes[index] ^= 0xff;
    }
    let client = partition.append(batch(1), Origin::Client, Ops::new());
    assert_eq!(client.unwrap_err().code, ErrorCode::NotLeaderOrFollower);
    assert_eq!(partition.delete_records(0).await.unwrap_err().code, ErrorCode::NotLeaderOrFollower);
}

#[tokio::test]
async fn a_log_starts_anew_where_its_leader_starts() {
    let mut world = World::new();
    let partition = world.partition();
    append(&partition, batch(3)).await;
    partition.follow(Following { leader: Some(2), leader_epoch: 1, partition_epoch: 1 });
    partition.restart_at(100).unwrap();
    // The leader's log starts within this batch.
    let builder = BatchBuilder::new().base_offset(98).leader_epoch(1);
    let records = (0..5).fold(builder, |builder, _| builder.record(NOW_MS, None, Some(b"value")));
    let from = FromLeader { batches: records.build(), leader_epoch: 1, high_watermark: 103, log_start: 100 };
    partition.append_as_follower(&from, Ops::new()).unwrap().unwrap().await.unwrap();
    let check = |partition: &Partition| {
        let offsets = partition.offsets();
        assert_eq!((offsets.log_start, offsets.high_watermark, offsets.log_end), (100, 103, 103));
        assert_eq!(read_all(partition, 100)[0].base_offset(), 98);
        assert_eq!(partition.epoch_end(1), (1, 103));
    };
    check(&partition);
    drop(partition);
    // What is committed is known again once the next write has stored it; here there is none.
    world.reopen();
    let partition = world.partition();
    partition.follow(Following { leader: Some(2), leader_epoch: 1, partition_epoch: 1 });
    let from = FromLeader { leader_epoch: 1, high_watermark: 103, log_start: 100, ..FromLeader::default() };
    assert!(partition.append_as_follower(&from, Ops::new()).unwrap().is_none());
    check(&partition);
    // A leader that lost what was committed: the batch goes as a whole, and then there is nothing before it.
    let ends = |partition: &Partition| {
        let offsets = partition.offsets();
        [offsets.log_start, offsets.high_watermark, offsets.log_end]
    };
    assert_eq!((partition.truncate_to(101).unwrap(), ends(&partition)), (98, [98; 3]));
    assert_eq!((partition.truncate_to(5).unwrap(), ends(&partition)), (5, [5; 3]));
    drop(partition);
    world.reopen();
    assert_eq!(ends(&world.partition()), [5; 3]);
}

#[tokio::test]
async fn the_quorum_says_what_is_committed() {
    let world = World::new();
    let partition = world.partition();
    partition.leave_to_quorum();
    partition.append(batch(3), Origin::Internal, Ops::new()).unwrap().await.unwrap();
    assert_eq!(partition.offsets().high_watermark, 0);
    partition.set_high_watermark(2);
    partition.set_high_watermark(1);
    assert_eq!(partition.offsets().high_watermark, 2);
    partition.set_high_watermark(9);
    assert_eq!(partition.offsets().high_watermark, 3, "no further than what is here");
    assert_eq!(partition.advance_log_start(3).unwrap(), 3);
    assert_eq!(partition.advance_log_start(4).unwrap_err().code, ErrorCode::OffsetOutOfRange);
}
