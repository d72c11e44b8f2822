//! Kafka's wire format, as far as it stands around the `kafka-protocol` crate.
//!
//! A frame goes through it in this order:
//! - [`header`]: the request header, and the header of the response;
//! - [`guard`]: a walk over the body by a table of shapes, which refuses what is not whole. The decoders behind it
//!   reserve memory for the counts that they read, so nothing is decoded unguarded;
//! - [`messages`]: the bodies. Most are types of the crate; those that it can not read in all versions are ours.
//!
//! What is ours is declared with [`schema!`](schema): a message or a log record with its fields, types, versions and
//! tags, from which struct, decoder and encoder follow. [`wire`] says how the primitive types look.
//!
//! This module knows bytes only: no sockets, no storage, no clock, no tokio.

pub mod guard;
pub mod header;
pub mod messages;
pub mod schema;
pub mod wire;
