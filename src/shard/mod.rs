//! The one shell around deterministic cores: groups now, transactions and share groups later.
//!
//! A shard owns one partition of a coordinator's topic. It is one task with a bounded mailbox:
//! ```text
//! mailbox → decide(&core) → append(records and view, one atomic write) → replay(&mut core) → reply
//! ```
//! - A [`Core`] is synchronous and blind: time is an argument, what it decides it returns as a [`Decision`].
//! - Events are both what is persisted and what is not: one function replays both, so that the live state and a
//!   reloaded one can only differ in what was never persisted.
//! - Commands that stand in the mailbox together are decided one after the other and appended together.
//! - Appends are pipelined; a reply leaves when everything that was appended before it is committed (stored, and at all
//!   replicas in sync), so that nobody ever sees what a crash or another leader could take back. Who waits for too long
//!   is told so; the state stays, as the log may have its records.
//! - Timers run on the injected clock and are events like commands.
//! - A decision whose records the store refuses, as its disk is full, is not carried out: commands are answered with
//!   the error, deadlines are put off.
//! - The state is loaded from a view beside the log, and from the log where the view does not reach: [`load`](mod@load).
//! - A shard lives as long as this broker leads its partition in one epoch: [`Led`].
//! - When an append fails, the state is ahead of the log. It is dropped and loaded again from the view, and whoever
//!   waits is told to try again (`CoordinatorRuntime` of Kafka reverts a snapshot instead).

mod led;
mod load;
mod recent_times;
mod runner;
#[cfg(test)]
pub(crate) mod script;
#[cfg(test)]
pub(crate) mod script_log;
#[cfg(test)]
mod tests;
pub mod timers;

pub use led::{CoordinatorTopic, Led};
pub use load::{Materialised, committed, damaged, load, load_log};
pub use recent_times::RecentTimes;
pub use runner::{Shard, ShardOptions};

use std::fmt::Debug;
use std::pin::Pin;

use crate::error::{ErrorCode, StorageError};
use crate::types::TimestampMs;

/// Identifies a caller that waits for a reply: at once, or when somebody else's command allows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// A deterministic state machine: no clock, no randomness, no storage, no tasks.
pub trait Core: Sized + Send + 'static {
    type Command: Send + 'static;
    type Reply: Send + 'static;
    /// A change of the state: persisted (a record) or not.
    type Event: Send + 'static;
    /// Names a deadline; arming it again moves it.
    type Timer: Clone + Ord + Debug + Send + 'static;

    /// What follows from the state that was just loaded: deadlines of those who may be gone.
    fn start(&self, now_ms: TimestampMs) -> Decision<Self>;
    /// What a command does. Replies go to `token`, to tokens of earlier commands, to both or to nobody yet.
    fn decide(&self, now_ms: TimestampMs, token: Token, command: Self::Command) -> Decision<Self>;
    /// What follows from a deadline that has passed.
    fn expire(&self, now_ms: TimestampMs, timer: &Self::Timer) -> Decision<Self>;
    /// Changes the state. The only function that does.
    fn replay(&mut self, event: &Self::Event);
}

/// What a [`Core`] wants to happen.
pub struct Decision<C: Core> {
    pub events: Vec<C::Event>,
    pub replies: Vec<(Token, C::Reply)>,
    pub timers: Vec<TimerChange<C::Timer>>,
}

impl<C: Core> Default for Decision<C> {
    fn default() -> Self {
        Self { events: Vec::new(), replies: Vec::new(), timers: Vec::new() }
    }
}

impl<C: Core> Decision<C> {
    /// Changes nothing, answers one caller.
    pub fn reply(token: Token, reply: C::Reply) -> Self {
        Self { replies: vec![(token, reply)], ..Self::default() }
    }
}

/// Sets, moves or takes away a deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimerChange<T> {
    Arm { timer: T, deadline_ms: TimestampMs },
    Cancel { timer: T },
}

/// A state that was loaded.
pub struct Loaded<C> {
    pub core: C,
    /// Resolves when all of it is committed; `None` where it is. Nobody is answered before.
    pub committed: Option<PendingAppend>,
}

/// Resolves when what was appended is committed: as safe as the partition's replication makes it.
pub type PendingAppend = Pin<Box<dyn Future<Output = Result<(), ErrorCode>> + Send>>;

/// Where a shard's events go and where its state comes from.
pub trait Journal<C: Core>: Send + Sync + 'static {
    /// Reads the state. Blocks.
    fn load(&self) -> Result<Loaded<C>, StorageError>;
    /// Enqueues the persistent ones of `events`, with their view, as one atomic write, in call order.
    /// `None`: there was nothing to persist.
    fn append(&self, now_ms: TimestampMs, events: &[C::Event]) -> Result<Option<PendingAppend>, ErrorCode>;
    /// Whether these would be appended now, as far as that is known: asked before a decision changes the state, so
    /// that a full disk does not cost the state each time.
    fn check(&self, _events: &[C::Event]) -> Result<(), ErrorCode> {
        Ok(())
    }
    /// The shard has ended: nothing that follows from its events is done any more.
    fn close(&self) {}
}
