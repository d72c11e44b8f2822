//! The share coordinator: what share groups have done with partitions.
//!
//! A share partition lives in the shard of the `__share_group_state` partition that it hashes to. Its state is a fold
//! over that partition's records: a snapshot is all of it, an update what changed since. Every so many updates there is
//! a snapshot again, and what is older than the last snapshot of every share partition is removed from the log, so that
//! it stays short; therefore a shard is loaded from the log, and there is no view beside it.
//!
//! - [`coordinator`]: the handle that the API files and the persister call;
//! - [`core`]: the share partitions of a shard, as a deterministic [`Core`](crate::shard::Core);
//! - [`combine`]: how what is new about records is merged into what is known;
//! - `journal`: where records go, and what of the log is not needed any more;
//! - [`record`]: the records, in Kafka's bytes;
//! - `scripts/`: golden scripts, one for each scenario: commands with their replies on virtual time.

pub mod combine;
pub mod command;
pub mod coordinator;
pub mod core;
mod journal;
pub mod record;
#[cfg(test)]
mod script;
pub mod settings;
#[cfg(test)]
mod tests;
