//! Transactions: who writes to what in which transaction, and how it ends.
//!
//! A transactional id lives in the shard of the `__transaction_state` partition that it hashes to. Its state is a fold
//! over that partition's records. Ending a transaction takes three steps, each durable before the next begins: what is
//! wanted (`PrepareCommit`, `PrepareAbort`), a marker in each partition, and that it is done (`CompleteCommit`,
//! `CompleteAbort`). A broker that is killed between them goes on with the markers when it is back.
//!
//! Both protocols are served: the older one, in which the producer adds partitions and offsets by requests of their
//! own, and the one of KIP-890 (`transaction.version` 2), in which the first write to a partition adds it, and every
//! transaction ends with a new epoch, so that nothing late can get into the next one.
//!
//! - [`coordinator`]: the handle that the API files call;
//! - [`core`]: the transactions of a shard, as a deterministic [`Core`](crate::shard::Core);
//! - [`state`]: one transaction and its transitions;
//! - [`markers`]: how markers get into the partitions;
//! - `journal`: where records go: the log, and the view from which a shard is loaded;
//! - [`record`]: the records, in Kafka's bytes;
//! - `scripts/`: golden scripts, one for each scenario: commands with their replies on virtual time.

pub mod command;
pub mod coordinator;
pub mod core;
mod journal;
pub mod markers;
pub mod record;
#[cfg(test)]
mod script;
pub mod settings;
pub mod state;
#[cfg(test)]
mod tests;
