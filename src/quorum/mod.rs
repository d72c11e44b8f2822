//! The quorum that keeps the metadata log: KRaft.
//!
//! - [`core`]: the state machine of a node: elections, replication, snapshots, voters that change. It has no clock, no
//!   storage and no sockets: events go in, actions come out, and their order is the contract of what must be durable
//!   before what;
//! - [`election`]: the epoch, the leader and the vote that survive a crash; [`voters`]: who votes;
//! - [`control`]: the control records that the quorum writes into its own log; [`files`]: snapshots;
//! - `handle`: what the rest of the node holds, which tells the core; `driver`: does what the core wants; `feed`: tells
//!   who follows the log what is committed; `wire`: requests to other nodes; `disk`: what is durable;
//! - [`export`]: the log as a file that Kafka's tools read.
//!
//! The only voter leads from the start without an election, in a new epoch each time, and a record is committed when it
//! is on the disk.

pub mod control;
pub mod core;
mod disk;
mod driver;
pub mod election;
pub mod export;
mod feed;
pub mod files;
mod handle;
mod meters;
pub mod voters;
mod wire;

pub use core::message;
pub use core::message::{Leadership, QuorumState, ReplicaState, RoleName, SnapshotId};
pub use core::{Config, InitialVoters, Timing};
pub use disk::{BATCH_BYTES_MAX, local_key};
pub use election::{ElectionState, ReplicaKey};
pub use files::{SnapshotFiles, SnapshotReader};
pub use handle::{Answer, Committed, LogRecord, Quorum, QuorumEvent, QuorumOptions, QuorumStatus};
pub use meters::{Latency, QuorumRates};
pub use voters::{VersionRange, Voter, VoterEndpoint, Voters};
