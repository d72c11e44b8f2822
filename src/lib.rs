//! klamm: a Kafka-compatible broker.

pub mod api;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod config;
pub mod error;
pub mod group;
pub mod log;
pub mod metadata;
pub mod metrics;
mod net;
pub mod protocol;
pub mod quorum;
pub mod shard;
pub mod storage;
pub mod types;

#[cfg(test)]
mod tidy;
