//! Share groups (KIP-932): groups whose members share the records of a partition, each delivered to one of them until it
//! is acknowledged.
//!
//! What a share group has done with a partition is its state there: where it starts, and what became of the records
//! behind that. The broker that leads the partition changes it, and keeps it through the persister with the share
//! coordinator, which is a broker of its own for each group and partition.
//!
//! - [`types`]: the words of all parts;
//! - [`partition`]: one partition for one group, on the broker that leads it: who has which record;
//! - [`manager`]: all of them, each loaded when it is first fetched; `leader` is the shell around one;
//! - [`fetch`]: one fetch, which may wait;
//! - [`sessions`]: which partitions each member fetches from this broker;
//! - [`state`]: the share coordinator, one shard per partition of `__share_group_state`;
//! - [`persister`]: asks the share coordinator, wherever it is.

pub mod fetch;
mod leader;
pub mod manager;
pub mod partition;
pub mod persister;
pub mod sessions;
pub mod state;
#[cfg(test)]
mod tests;
pub mod types;

pub use leader::{OffsetReset, ShareGroupConfigs, ShareGroupSettings, StateKeeper};
