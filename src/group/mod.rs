//! Groups: who consumes together, who gets what, and how far they have come.
//!
//! A group lives in the shard of the `__consumer_offsets` partition that its id hashes to. Its state is a fold over that
//! partition's records, and over what happened since the broker started.
//!
//! - [`coordinator`]: the handle that the API files call; starts shards where there is something to coordinate;
//! - [`core`]: all groups of a shard, as a deterministic [`Core`](crate::shard::Core);
//! - [`classic`]: the classic group protocol, a group at a time;
//! - [`consumer`]: the consumer group protocol (KIP-848), and [`assignor`]: who gets what in it;
//! - [`share`]: share groups (KIP-932);
//! - [`streams`]: the streams group protocol (KIP-1071);
//! - [`modern`]: what those three have in common;
//! - [`cluster`]: the topics and group configurations that decisions depend on;
//! - `kind`: a group of any protocol;
//! - `journal`: where records go: the log, and the view from which a shard is loaded;
//! - [`offsets`]: committed offsets, their retention and deletion;
//! - [`transactions`]: offsets that are part of a transaction;
//! - [`record`]: the records, in Kafka's bytes;
//! - `scripts/`: golden scripts, one for each scenario: commands with their replies on virtual time.

pub mod assignor;
pub mod classic;
pub mod cluster;
pub mod command;
pub mod consumer;
#[cfg(test)]
mod consumer_script;
#[cfg(test)]
mod consumer_tests;
pub mod coordinator;
pub mod core;
mod journal;
mod kind;
pub mod modern;
pub mod offsets;
pub mod record;
#[cfg(test)]
mod script;
pub mod settings;
pub mod share;
#[cfg(test)]
mod share_script;
pub mod streams;
#[cfg(test)]
mod streams_script;
#[cfg(test)]
mod tests;
pub mod transactions;
mod view;
