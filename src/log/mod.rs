//! The log: Kafka record batches of a partition, in order, under offsets.
//!
//! - [`LogManager`] knows every partition of this broker; [`Partition`] is one log.
//! - [`batch`] reads and writes record batches.

pub mod batch;
pub mod compression;
mod manager;
mod partition;
mod types;
mod varint;

pub use manager::{LogManager, LogSettings};
pub use partition::{Partition, PendingAppend};
pub use types::{
    ActiveProducer, AppendError, Appended, FoundOffset, Isolation, OffsetQuery, Offsets, Origin, Read,
    ReadUpTo,
};
