use super::follower::*;
use crate::error::ErrorCode;
use crate::types::{LeaderEpoch, Offset};

const BACKOFF_MS: i64 = 1_000;

/// A log by the epochs of its records.
struct Log {
    start: Offset,
    high_watermark: Offset,
    epochs: Vec<LeaderEpoch>,
}

impl Log {
    fn new(epochs: &[LeaderEpoch]) -> Self {
        Self { start: 0, high_watermark: 0, epochs: epochs.to_vec() }
    }

    fn truncate(&mut self, to: Offset) {
        self.epochs.truncate(usize::try_from(to - self.start).expect("an offset of the log"));
    }

    /// What a leader with this log says to a fetch.
    fn serve(&self, from: FetchFrom) -> (Fetched, Vec<LeaderEpoch>) {
        if from.offset < self.start {
            return (Fetched::Error(ErrorCode::OffsetOutOfRange), Vec::new());
        }
        if from.last_fetched_epoch >= 0 {
            // Of an epoch before its first one, a leader has nothing: it ends where the log starts.
            let older = (from.last_fetched_epoch, self.start);
            let (epoch, end_offset) = self.epoch_end(from.last_fetched_epoch).unwrap_or(older);
            if epoch < from.last_fetched_epoch || end_offset < from.offset {
                return (Fetched::Diverging { epoch, end_offset }, Vec::new());
            }
        }
        if from.offset > self.log_end() {
            return (Fetched::Error(ErrorCode::OffsetOutOfRange), Vec::new());
        }
        let at = usize::try_from(from.offset - self.start).expect("an offset of the log");
        (Fetched::Records, self.epochs[at..].to_vec())
    }
}

impl FollowerLog for Log {
    fn log_start(&self) -> Offset {
        self.start
    }

    fn log_end(&self) -> Offset {
        self.start + i64::try_from(self.epochs.len()).expect("a short log")
    }

    fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.last().copied()
    }

    fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let known = self.epochs.iter().filter(|known| **known <= epoch).max()?;
        let records = self.epochs.iter().filter(|other| *other <= known).count();
        Some((*known, self.start + i64::try_from(records).expect("a short log")))
    }
}

/// Follows until both logs are the same, and gives the lengths that the follower's log had.
fn follow(leader: &Log, log: &mut Log, leader_epoch: LeaderEpoch) -> Vec<Offset> {
    let (mut follower, first) = Follower::start(leader_epoch, log);
    let mut ends = Vec::new();
    let mut todo = first;
    for round in 0..20 {
        match todo {
            Do::Nothing | Do::Append => {}
            Do::Truncate(to) => {
                log.truncate(to);
                follower.log_changed(log);
            }
            Do::StartAt(offset) => {
                (log.start, log.epochs) = (offset, Vec::new());
                follower.log_changed(log);
            }
        }
        ends.push(log.log_end());
        if log.epochs == leader.epochs && log.start >= leader.start {
            return ends;
        }
        todo = match follower.wants(round).expect("a question") {
            Want::Fetch(from) => {
                let (answer, records) = leader.serve(from);
                let todo = follower.fetched(from, answer, log, round, BACKOFF_MS);
                if todo == Do::Append {
                    log.epochs.extend(records);
                    follower.appended(log.log_end(), log.latest_epoch(), leader.log_end());
                }
                todo
            }
            Want::LeaderOffsets(epoch) => {
                let offsets = Ok((leader.log_start(), leader.log_end()));
                follower.leader_offsets(epoch, offsets, log, round, BACKOFF_MS)
            }
        };
    }
    panic!("not the same after 20 questions: {:?} and {:?}", leader.epochs, log.epochs);
}

#[test]
fn a_log_becomes_that_of_its_leader() {
    // The leader's records, the follower's, and how long the follower's log was after each answer.
    let cases: &[(&[i32], &[i32], &[Offset])] = &[
        (&[], &[], &[0]),
        (&[1, 1, 2], &[], &[0, 3]),
        (&[1, 1, 2], &[1, 1], &[2, 3]),
        // The follower appended more in epoch 1 than was committed.
        (&[1, 1, 2], &[1, 1, 1, 1], &[4, 2, 3]),
        // Epochs that the leader never saw: step by step.
        (&[1, 1, 4], &[1, 1, 2, 3], &[4, 2, 3]),
        (&[1, 3, 5], &[1, 2, 2, 4, 4], &[5, 3, 1, 3]),
        (&[3, 3], &[1, 2], &[2, 0, 2]),
        // An unclean election: the leader has less, of a newer epoch.
        (&[1, 4], &[1, 1, 1], &[3, 1, 2]),
    ];
    for (leader, follower, ends) in cases {
        let (leader, mut log) = (Log::new(leader), Log::new(follower));
        assert_eq!(follow(&leader, &mut log, 9), *ends, "{:?} {follower:?}", leader.epochs);
    }
}

#[test]
fn a_log_that_ends_before_its_leader_starts_begins_anew() {
    let leader = Log { start: 100, ..Log::new(&[2, 2]) };
    let mut wiped = Log::new(&[]);
    assert_eq!(follow(&leader, &mut wiped, 2), [0, 0, 100, 102]);
    let mut old = Log::new(&[1, 1, 1]);
    assert_eq!(follow(&leader, &mut old, 2).last(), Some(&102));
    assert_eq!(old.start, 100);
}

#[test]
fn a_log_that_ends_behind_its_leader_is_cut() {
    let (leader, log) = (Log::new(&[1]), Log::new(&[1, 1, 1]));
    let (mut follower, _) = Follower::start(1, &log);
    let Some(Want::Fetch(from)) = follower.wants(0) else { panic!("a fetch") };
    follower.fetched(from, Fetched::Error(ErrorCode::OffsetOutOfRange), &log, 0, BACKOFF_MS);
    assert_eq!(follower.wants(0), Some(Want::LeaderOffsets(1)));
    let offsets = Ok((leader.log_start(), leader.log_end()));
    assert_eq!(follower.leader_offsets(1, offsets, &log, 0, BACKOFF_MS), Do::Truncate(1));
}

#[test]
fn a_log_without_epochs_is_cut_to_what_is_committed() {
    struct Bare;
    impl FollowerLog for Bare {
        fn log_start(&self) -> Offset {
            0
        }
        fn log_end(&self) -> Offset {
            7
        }
        fn high_watermark(&self) -> Offset {
            5
        }
        fn latest_epoch(&self) -> Option<LeaderEpoch> {
            None
        }
        fn epoch_end(&self, _: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
            None
        }
    }
    let (follower, first) = Follower::start(3, &Bare);
    assert_eq!((first, follower.offset()), (Do::Truncate(5), 5));
}

#[test]
fn errors_are_waited_out_but_for_a_fenced_epoch() {
    let log = Log::new(&[1]);
    let waited = [
        ErrorCode::UnknownLeaderEpoch,
        ErrorCode::NotLeaderOrFollower,
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::UnknownTopicId,
        ErrorCode::InconsistentTopicId,
        ErrorCode::KafkaStorageError,
        ErrorCode::UnknownServerError,
    ];
    for code in waited {
        let (mut follower, _) = Follower::start(2, &log);
        let Some(Want::Fetch(from)) = follower.wants(10) else { panic!("a fetch") };
        assert_eq!(follower.fetched(from, Fetched::Error(code), &log, 10, BACKOFF_MS), Do::Nothing);
        assert_eq!((follower.wants(1_009), follower.not_before_ms()), (None, Some(1_010)), "{code}");
        assert_eq!(follower.wants(1_010), Some(Want::Fetch(from)));
    }
    let (mut follower, _) = Follower::start(2, &log);
    let Some(Want::Fetch(from)) = follower.wants(10) else { panic!("a fetch") };
    follower.fetched(from, Fetched::Error(ErrorCode::FencedLeaderEpoch), &log, 10, BACKOFF_MS);
    assert!(follower.is_failed());
    assert_eq!((follower.wants(i64::MAX), follower.not_before_ms()), (None, None));
}

#[test]
fn an_answer_to_an_older_question_is_dropped() {
    let log = Log::new(&[1, 1]);
    let (mut follower, _) = Follower::start(2, &log);
    let Some(Want::Fetch(from)) = follower.wants(0) else { panic!("a fetch") };
    follower.appended(3, Some(2), 3);
    let diverging = Fetched::Diverging { epoch: 0, end_offset: 0 };
    for answer in [Fetched::Records, diverging, Fetched::Error(ErrorCode::FencedLeaderEpoch)] {
        assert_eq!(follower.fetched(from, answer, &log, 0, BACKOFF_MS), Do::Nothing);
        assert!(!follower.is_failed());
    }
    assert_eq!(follower.leader_offsets(2, Ok((0, 0)), &log, 0, BACKOFF_MS), Do::Nothing);
}

#[test]
fn what_the_store_could_not_take_is_asked_for_again() {
    let mut log = Log::new(&[1, 1]);
    let (mut follower, _) = Follower::start(2, &log);
    follower.appended(3, Some(2), 3);
    follower.reconcile(&log);
    let from = FetchFrom { offset: 2, last_fetched_epoch: 1, current_leader_epoch: 2 };
    assert_eq!(follower.wants(0), Some(Want::Fetch(from)));
    // What the leader said of a log that was longer is no answer to that.
    log.truncate(1);
    follower.reconcile(&log);
    assert_eq!(follower.fetched(from, Fetched::Records, &log, 0, BACKOFF_MS), Do::Nothing);
}

#[test]
fn the_lag_is_what_the_leader_has_committed_and_we_have_not() {
    let (mut follower, _) = Follower::start(2, &Log::new(&[1, 1]));
    assert_eq!((follower.lag(), follower.is_in_sync()), (None, false));
    follower.appended(4, Some(2), 10);
    assert_eq!((follower.lag(), follower.is_in_sync()), (Some(6), false));
    follower.appended(11, Some(2), 10);
    assert_eq!((follower.lag(), follower.is_in_sync()), (Some(0), true));
}
