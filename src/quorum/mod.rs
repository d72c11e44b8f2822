//! The quorum that keeps the metadata log: KRaft.
//!
//! - [`core`]: the state machine. It has no clock, no storage and no sockets: events go in, actions come out, and their
//!   order is the contract of what must be durable before what;
//! - [`election`]: the epoch, the leader and the vote that survive a crash; [`voters`]: who votes;
//! - [`control`]: the control records that the quorum writes into its own log;
//! - [`driver`]: carries the actions out against the store and the log;
//! - [`export`]: the log as a file that Kafka's tools read.
//!
//! In this version a quorum has one voter, this node. It leads from the start without an election, in a new epoch each
//! time, and a record is committed when it is on the disk.

pub mod control;
pub mod core;
pub mod driver;
pub mod election;
pub mod export;
pub mod voters;

pub use driver::{Quorum, QuorumOptions};
pub use election::{ElectionState, ReplicaKey};
pub use voters::{Voter, VoterEndpoint, Voters};
