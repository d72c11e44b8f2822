//! Share groups (KIP-932): members share partitions, and several of them may have the same one.
//!
//! A heartbeat carries everything, as in the consumer group protocol; but a member gets its target at once, because
//! nobody has to give up anything first. A partition is given to members only after its state was initialised with the
//! share coordinator: a heartbeat decides which ones are to be, the caller has it done and tells what became of it.
//!
//! - [`record`]: the records, in Kafka's bytes;
//! - [`group`]: the state, and how a record changes it;
//! - [`command`]: what callers ask, and what they get;
//! - `draft`: a decision in the making, which works on a cheap copy of the group and lists the changes;
//! - `heartbeat`: members that join, stay and leave; `state`: partitions that have a state, and offsets;
//! - `requests`: how requests find their group.

pub mod command;
mod draft;
pub mod group;
mod heartbeat;
#[cfg(test)]
mod invariants;
pub mod record;
mod requests;
mod state;

pub(super) use draft::Draft;
pub use group::{ShareChange, ShareGroup};
