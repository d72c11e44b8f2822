//! The streams group protocol (KIP-1071): the broker knows an application's topology, creates its internal topics and
//! assigns tasks, and every member walks towards its target on its own.
//!
//! It is built like [`consumer`](super::consumer), with tasks instead of partitions: a task is a subtopology's work on
//! one partition of its source topics. A process never has a task twice, whatever its role, as its state lies in one
//! directory.
//!
//! - [`record`]: the records, in Kafka's bytes;
//! - [`tasks`], [`topology`], [`member`], [`group`]: the state, and how a record changes it;
//! - [`configured`]: what a topology needs of the cluster's topics, and how many tasks that makes;
//! - [`command`]: what callers ask and get;
//! - `draft`: a decision in the making; `heartbeat`, `leave`, `describe`: the requests; `requests`: how they find their
//!   group;
//! - [`sticky`]: the assignor, with `java`: the order in which Kafka's meets what is alike; `target`: the target
//!   assignment; `reconcile`: a member's next step; `endpoints`: where state can be asked for.

pub mod command;
pub mod configured;
mod describe;
mod draft;
mod endpoints;
mod group;
mod heartbeat;
#[cfg(test)]
mod invariants;
mod java;
mod leave;
pub mod member;
mod reconcile;
pub mod record;
mod requests;
pub mod sticky;
mod target;
pub mod tasks;
#[cfg(test)]
mod tests;
pub mod topology;

pub(super) use draft::Draft;
pub use group::{StreamsChange, StreamsGroup, StreamsGroupState};
