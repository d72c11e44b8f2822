//! The log: Kafka record batches of a partition, in order, under offsets.
//!
//! - [`LogManager`] knows every partition of this broker; [`Partition`] is one log.
//! - An append has two stages. The first is synchronous: `validate` checks the batch,
//!   `producers` knows whether it came before, offsets are assigned, and the batch is queued for
//!   the store together with everything that it changes. The order of these calls is the order of
//!   the log. The second is [`PendingAppend`]: the store has it.
//! - What follows from the records (offsets, segments, leader epochs, producers) is stored in the
//!   same atomic write, so a start reads a few small values and no records, and a crash leaves
//!   nothing to repair.
//! - The high watermark moves when a write is stored; then those who [`Partition::watch`] are
//!   told ([`Watch`]). Batches on their way are not visible.
//! - A read looks in three places: `tail` has the newest batches of all partitions in memory, under
//!   one budget; the store keeps the extents that were read lately; the rest is on the disk.
//!   [`Partition::read_memory`] never blocks, [`Partition::read`] may.
//! - Transactions: `transactions` knows where those without a marker start, which is where readers of
//!   committed records end, and keeps the index of the aborted ones; `verification` sees to it that
//!   none begins here without its coordinator's knowledge.
//! - `compaction` keeps the newest record of each key where a topic asks for it.
//! - [`batch`] reads and writes record batches, [`compression`] is what they are compressed with.

pub mod batch;
mod compaction;
pub mod compression;
mod epochs;
mod follow;
mod leadership;
mod manager;
mod partition;
mod producers;
mod read;
mod retention;
mod role;
mod settings;
mod state;
mod tail;
#[cfg(test)]
mod tests;
mod transactions;
mod truncate;
mod types;
mod validate;
mod varint;
mod verification;
mod waiters;
mod walk;
mod watch;

pub use crate::storage::{Gathering, Ops};
pub use compaction::{CleanerMetrics, CleanerSettings};
pub use follow::FromLeader;
pub use leadership::{
    ANY_BROKER_EPOCH, BrokerStanding, Brokers, FollowerFetch, IsrAccepted, IsrMember, IsrOutcome,
    IsrProposal, Leadership, Leading, Terms,
};
pub use manager::{LogManager, LogSettings};
pub use partition::{Partition, PendingAppend};
pub use role::{Following, IsrChanges, ReplicaFetch};
pub use transactions::{AbortedTransaction, Marker};
pub use types::{
    Acks, ActiveProducer, AppendError, Appended, FoundOffset, Isolation, OffsetQuery, Offsets, Origin, Read,
    ReadUpTo,
};
pub use verification::{TransactionalBatch, Verification};
pub use watch::Watch;
