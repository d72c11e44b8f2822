#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::runner::{Shard, ShardOptions};
use super::{Core, Decision, Journal, Loaded, PendingAppend, TimerChange, Token};
use crate::clock::Clock;
use crate::error::{ErrorCode, StorageError};
use crate::types::TimestampMs;

/// A sum that callers add to; one of them may wait until somebody else releases it, or until it is too late.
#[derive(Clone, Debug, Default)]
struct Sum {
    total: i64,
    waiting: Option<Token>,
}

#[derive(Clone, Debug)]
enum Ask {
    Add(i64),
    Get,
    Wait { timeout_ms: i64 },
    Release,
}

#[derive(Clone, Debug)]
enum Change {
    Added(i64),
    Waits(Token),
    WaitsNot,
}

impl Core for Sum {
    type Command = Ask;
    type Reply = i64;
    type Event = Change;
    type Timer = ();

    fn start(&self, _: TimestampMs) -> Decision<Self> {
        Decision::default()
    }

    fn decide(&self, now_ms: TimestampMs, token: Token, command: Ask) -> Decision<Self> {
        match command {
            Ask::Add(by) => Decision {
                events: vec![Change::Added(by)],
                replies: vec![(token, self.total + by)],
                timers: Vec::new(),
            },
            Ask::Get => Decision::reply(token, self.total),
            Ask::Wait { timeout_ms } => Decision {
                events: vec![Change::Waits(token)],
                replies: Vec::new(),
                timers: vec![TimerChange::Arm { timer: (), deadline_ms: now_ms + timeout_ms }],
            },
            Ask::Release => {
                let mut decision = self.expire(now_ms, &());
                decision.replies.push((token, 0));
                decision
            }
        }
    }

    fn expire(&self, _: TimestampMs, (): &()) -> Decision<Self> {
        let replies = self.waiting.map(|token| (token, self.total)).into_iter().collect();
        Decision { events: vec![Change::WaitsNot], replies, timers: Vec::new() }
    }

    fn replay(&mut self, event: &Change) {
        match event {
            Change::Added(by) => self.total += by,
            Change::Waits(token) => self.waiting = Some(*token),
            Change::WaitsNot => self.waiting = None,
        }
    }
}

type Done = oneshot::Sender<Result<(), ErrorCode>>;

/// A journal in memory, whose appends end when the test says so.
#[derive(Default)]
struct Memory {
    written: Arc<Mutex<Vec<i64>>>,
    /// Appends under way, each with what it would write.
    pending: Mutex<Vec<(Vec<i64>, Done)>>,
    by_hand: bool,
    refuses: Mutex<Option<ErrorCode>>,
    loads: Mutex<Vec<Result<(), StorageError>>>,
}

impl Memory {
    fn by_hand() -> Arc<Self> {
        Arc::new(Self { by_hand: true, ..Self::default() })
    }

    /// Waits for an append to be under way, and ends it.
    async fn end_append(&self, result: Result<(), ErrorCode>) -> Vec<i64> {
        loop {
            let first = {
                let mut pending = self.pending.lock();
                (!pending.is_empty()).then(|| pending.remove(0))
            };
            if let Some((values, done)) = first {
                if result.is_ok() {
                    self.written.lock().extend(&values);
                }
                done.send(result).unwrap();
                return values;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Journal<Sum> for Memory {
    fn load(&self) -> Result<Loaded<Sum>, StorageError> {
        let mut loads = self.loads.lock();
        if !loads.is_empty() {
            loads.remove(0)?;
        }
        let core = Sum { total: self.written.lock().iter().sum(), waiting: None };
        Ok(Loaded { core, committed: None })
    }

    fn append(&self, _: TimestampMs, events: &[Change]) -> Result<Option<PendingAppend>, ErrorCode> {
        let added = |event: &Change| match event {
            Change::Added(by) => Some(*by),
            Change::Waits(_) | Change::WaitsNot => None,
        };
        let values: Vec<i64> = events.iter().filter_map(added).collect();
        if values.is_empty() {
            return Ok(None);
        }
        if let Some(code) = self.refuses.lock().take() {
            return Err(code);
        }
        if !self.by_hand {
            self.written.lock().extend(values);
            return Ok(Some(Box::pin(std::future::ready(Ok(())))));
        }
        let (done, result) = oneshot::channel();
        self.pending.lock().push((values, done));
        Ok(Some(Box::pin(async { result.await.unwrap() })))
    }
}

fn shard(journal: &Arc<Memory>, clock: &Clock) -> Shard<Sum> {
    let options =
        ShardOptions { name: "test".to_owned(), write_timeout_ms: 5_000, load_times: Arc::default() };
    Shard::spawn(options, journal.clone(), clock.clone())
}

fn ask(shard: &Shard<Sum>, ask: Ask) -> tokio::task::JoinHandle<Result<i64, ErrorCode>> {
    let shard = shard.clone();
    tokio::spawn(async move { shard.call(ask).await })
}

async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_reply_leaves_when_everything_before_it_is_durable() {
    let journal = Memory::by_hand();
    let shard = shard(&journal, &Clock::virtual_at(0));
    assert_eq!(shard.call(Ask::Get).await, Ok(0));
    let first = ask(&shard, Ask::Add(1));
    settle().await;
    let read = ask(&shard, Ask::Get);
    let second = ask(&shard, Ask::Add(2));
    settle().await;
    assert!(!first.is_finished() && !read.is_finished() && !second.is_finished());
    assert_eq!(journal.end_append(Ok(())).await, [1]);
    assert_eq!(first.await.unwrap(), Ok(1));
    assert_eq!(journal.end_append(Ok(())).await, [2]);
    assert_eq!((read.await.unwrap(), second.await.unwrap()), (Ok(1), Ok(3)));
}

#[tokio::test]
async fn commands_that_wait_together_are_appended_together() {
    let journal = Memory::by_hand();
    let shard = shard(&journal, &Clock::virtual_at(0));
    assert_eq!(shard.call(Ask::Get).await, Ok(0));
    let asked: Vec<_> = (1..=5).map(|by| ask(&shard, Ask::Add(by))).collect();
    assert_eq!(journal.end_append(Ok(())).await, [1, 2, 3, 4, 5]);
    for (asked, want) in asked.into_iter().zip([1, 3, 6, 10, 15]) {
        assert_eq!(asked.await.unwrap(), Ok(want));
    }
}

#[tokio::test]
async fn a_held_reply_comes_with_another_command_or_with_its_deadline() {
    let (journal, clock) = (Arc::new(Memory::default()), Clock::virtual_at(0));
    let shard = shard(&journal, &clock);
    assert_eq!(shard.call(Ask::Get).await, Ok(0));
    let held = ask(&shard, Ask::Wait { timeout_ms: 500 });
    settle().await;
    assert_eq!(shard.call(Ask::Add(7)).await, Ok(7));
    assert!(!held.is_finished());
    assert_eq!(shard.call(Ask::Release).await, Ok(0));
    assert_eq!(held.await.unwrap(), Ok(7));
    let held = ask(&shard, Ask::Wait { timeout_ms: 500 });
    settle().await;
    clock.advance(499);
    settle().await;
    assert!(!held.is_finished());
    clock.advance(1);
    assert_eq!(held.await.unwrap(), Ok(7));
}

#[tokio::test]
async fn a_failed_append_is_told_and_undone() {
    let (journal, clock) = (Memory::by_hand(), Clock::virtual_at(0));
    let shard = shard(&journal, &clock);
    let added = ask(&shard, Ask::Add(1));
    journal.end_append(Ok(())).await;
    assert_eq!(added.await.unwrap(), Ok(1));
    let held = ask(&shard, Ask::Wait { timeout_ms: 500 });
    let failing = ask(&shard, Ask::Add(10));
    settle().await;
    let (read, later) = (ask(&shard, Ask::Get), ask(&shard, Ask::Add(100)));
    settle().await;
    assert_eq!(journal.end_append(Err(ErrorCode::KafkaStorageError)).await, [10]);
    // The later append is waited for, because it may be in the log.
    settle().await;
    assert!(!held.is_finished());
    assert_eq!(journal.end_append(Ok(())).await, [100]);
    assert_eq!(failing.await.unwrap(), Err(ErrorCode::KafkaStorageError));
    assert_eq!(read.await.unwrap(), Err(ErrorCode::KafkaStorageError));
    // It was decided on a state that is not there; trying again is the caller's choice.
    assert_eq!(later.await.unwrap(), Err(ErrorCode::KafkaStorageError));
    assert_eq!(held.await.unwrap(), Err(ErrorCode::NotCoordinator));
    assert_eq!(shard.call(Ask::Get).await, Ok(101));
}

#[tokio::test]
async fn a_refused_append_is_told_and_undone() {
    let (journal, clock) = (Arc::new(Memory::default()), Clock::virtual_at(0));
    let shard = shard(&journal, &clock);
    *journal.refuses.lock() = Some(ErrorCode::NotCoordinator);
    assert_eq!(shard.call(Ask::Add(5)).await, Err(ErrorCode::NotCoordinator));
    assert_eq!(shard.call(Ask::Get).await, Ok(0));
}

#[tokio::test]
async fn while_the_state_can_not_be_loaded_nobody_is_served() {
    let (journal, clock) = (Arc::new(Memory::default()), Clock::virtual_at(0));
    journal.loads.lock().push(Err(StorageError::Read("no".to_owned())));
    let shard = shard(&journal, &clock);
    assert_eq!(shard.call(Ask::Get).await, Err(ErrorCode::CoordinatorLoadInProgress));
    clock.advance(1_000);
    assert_eq!(shard.call(Ask::Get).await, Ok(0));
}

#[tokio::test]
async fn who_waits_when_the_shard_ends_is_sent_elsewhere() {
    let (journal, clock) = (Arc::new(Memory::default()), Clock::virtual_at(0));
    let shard = shard(&journal, &clock);
    assert_eq!(shard.call(Ask::Get).await, Ok(0));
    let held = ask(&shard, Ask::Wait { timeout_ms: 500 });
    settle().await;
    shard.stop();
    assert_eq!(held.await.unwrap(), Err(ErrorCode::NotCoordinator));
    assert_eq!(shard.call(Ask::Get).await, Err(ErrorCode::NotCoordinator));
    assert!(shard.is_closed());
}
