//! klamm: a Kafka-compatible broker.
//!
//! # The idea
//!
//! Everything klamm knows is a **log of Kafka record batches**, kept in RocksDB: partitions, `__consumer_offsets`,
//! `__transaction_state`, the metadata log `__cluster_metadata`. State (groups, transactions, the metadata image) is a
//! **deterministic fold** over such a log, kept in memory and materialised in RocksDB, so that start-up does not replay
//! history. A request is **decided** against the state, its records are **appended** in one atomic write, the state
//! **replays** them, and only then the request is **answered**. One log, one way to read it, one way to change anything.
//!
//! # How a request goes
//!
//! ```text
//! net::codec (frame) → net::connection → api (guard, decode, table) → api::<one file> (translate)
//!     → group | transaction | log | metadata (decide) → storage (one atomic write) → back up → encode → writer
//! ```
//!
//! Adding an API touches two places: a line in the table of [`api`] and a file. Handlers translate, cores decide.
//!
//! Two kinds of APIs: *serial* ones start when everything before them on the connection is answered; *pipelined* ones,
//! Produce first of all, run their first stage (validate, assign offsets, enqueue) in the order of the frames and finish
//! in the background. Responses leave in the order of the requests in any case.
//!
//! # The parts, from the bottom up
//!
//! | module | what it is |
//! |---|---|
//! | [`types`], [`error`], [`clock`] | the words that every module shares; Kafka's error codes are the vocabulary; time is passed in |
//! | [`protocol`] | what the wire format needs beyond the `kafka-protocol` crate: the guard in front of its decoder, the macro that declares messages and records, the messages that it lacks |
//! | [`config`] | every key, declared once: type, default, range, documentation, where it may be changed |
//! | [`metrics`] | every metric, declared once |
//! | [`quota`] | how much clients may use, and how long they are held back for more |
//! | [`storage`] | RocksDB, and nothing else names it: keys, one round of writes at a time, group commit, room on the disk |
//! | [`log`] | a partition's log: batches as producers sent them, validation, idempotence, transactions, epochs, time, the tail in memory, retention, compaction |
//! | [`levels`] | how much is logged, by module, and how that changes while klamm runs |
//! | [`telemetry`] | the metrics that clients push (KIP-714) |
//! | [`client`] | requests to other nodes, and to whichever node is the active controller |
//! | [`shard`] | the one shell around deterministic cores: mailbox → decide → append → replay → reply |
//! | [`group`] | the group coordinator: a core in such a shell, for each partition of `__consumer_offsets` |
//! | [`transaction`] | the transaction coordinator: the same, for each partition of `__transaction_state` |
//! | [`share`] | what share groups have done with partitions: the share coordinator, the same for each partition of `__share_group_state`, and what asks it |
//! | [`quorum`] | KRaft: who may write the metadata log, and what of it is committed |
//! | [`metadata`] | Kafka's metadata records, the image that they add up to, the controller that decides new ones |
//! | [`replication`] | how this broker follows the leaders of partitions, and its life among the brokers |
//! | [`api`] | one API, one file |
//! | `net` | listeners and connections: framing, order, limits, drain; nothing else names sockets |
//! | [`admin`] | metrics and health over HTTP |
//! | [`broker`], [`cli`] | wiring, and the command line |
//!
//! A module may use what stands above it in this table, and not what stands below; `src/tidy.rs` has the exact list and
//! is a test. What would be a cycle is a small trait that the lower module defines and the upper one implements.
//!
//! # What always holds
//!
//! - Cores (`group::core`, `transaction::core`, `share::state::core`, `metadata::controller`, `quorum::core`, `replication::{follower, lifecycle}`,
//!   `log::compaction::filter`) are
//!   synchronous code without clock, randomness, IO or globals. Decisions take `&Core`; only `replay` takes `&mut Core`.
//! - No response leaves before the records it depends on are as durable as was asked for.
//! - A failed append drops the state that ran ahead of the log and loads it again; nobody is answered wrongly.
//! - Record batches cross modules as `Bytes`, as the producer sent them; only offset and leader epoch are written into
//!   their header, which the checksum does not cover.
//! - Every queue, frame, cache and wait has a bound: a named constant or a configuration key.
//! - [`broker::Broker`] is a value: many run in one process, each with its own directory, clock and listeners.
//! - Nothing that a client sends can stop the process or make it allocate more than a small multiple of what was sent.

pub mod admin;
pub mod api;
pub mod broker;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod error;
pub mod group;
pub mod levels;
pub mod log;
pub mod metadata;
pub mod metrics;
mod net;
pub mod protocol;
pub mod quorum;
pub mod quota;
pub mod replication;
pub mod shard;
pub mod share;
pub mod storage;
pub mod telemetry;
pub mod transaction;
pub mod types;

#[cfg(test)]
mod docs;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tidy;
