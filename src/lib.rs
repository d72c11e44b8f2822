//! klamm: a Kafka-compatible broker.

pub mod clock;
pub mod error;
pub mod group;
pub mod metrics;
pub mod protocol;
pub mod shard;
pub mod types;
