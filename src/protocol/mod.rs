//! Kafka's wire format, as far as it stands above the `kafka-protocol` crate.
//!
//! The crate is the codec of every message that it has in all the versions that Kafka 4.3 serves. Around it stand:
//! - [`schema`]: one macro that declares a message body or a log record (fields, types, versions, tags) and gives its
//!   encoder and decoder. What the crate lacks is declared with it, and so is every metadata and coordinator record;
//! - [`wire`]: how the primitive types look on the wire.
//!
//! This module knows bytes only: no sockets, no storage, no clock, no tokio.

pub mod schema;
pub mod wire;
