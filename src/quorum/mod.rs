//! The quorum that keeps the metadata log: KRaft.
//!
//! - [`core`]: the state machine of a node: elections, replication, snapshots, voters that change. It has no clock, no
//!   storage and no sockets: events go in, actions come out, and their order is the contract of what must be durable
//!   before what;
//! - [`election`]: the epoch, the leader and the vote that survive a crash; [`voters`]: who votes;
//! - [`control`]: the control records that the quorum writes into its own log;
//! - [`driver`]: carries out what a quorum of one voter does, whose state machine is [`single`], against the store and
//!   the log;
//! - [`export`]: the log as a file that Kafka's tools read.

pub mod control;
pub mod core;
pub mod driver;
pub mod election;
pub mod export;
pub mod single;
pub mod voters;

pub use driver::{Quorum, QuorumOptions};
pub use election::{ElectionState, ReplicaKey};
pub use voters::{VersionRange, Voter, VoterEndpoint, Voters};
