//! Requests to other nodes of the cluster.
//!
//! - [`Peer`]: one other node, over one connection: replica fetchers, the quorum, the markers of transactions.
//! - [`Outbox`]: what is to be sent to other nodes, several things in one request.
//! - [`ControllerChannel`]: whichever node is the active controller, this one included.
//!
//! A connection answers in the order of its requests, and most servers work on one of them at a time. Whoever must not
//! wait for others' requests (heartbeats, elections) has a [`Peer`] or a [`ControllerChannel`] of its own, as Kafka's
//! brokers have.

mod connection;
mod controller;
mod outbox;
mod peer;
#[cfg(test)]
mod tests;
mod versions;

use std::fmt;
use std::sync::Arc;

pub use connection::is_refused;
pub use controller::{ActiveController, ControllerAnswer, ControllerChannel, LocalController};
pub use outbox::Outbox;
pub use peer::{Answered, Peer, PeerOptions, Traffic};

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// A name, or an IP address without brackets.
    pub host: Arc<str>,
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Why a request to another node has no answer. All but the last three may have been carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No connection could be made.
    #[error("{address} can not be reached: {reason}")]
    Unreachable {
        /// Who was called.
        address: Address,
        /// What the operating system says.
        reason: String,
    },
    /// The connection ended before the answer came.
    #[error("the connection to {address} was closed: {reason}")]
    Disconnected {
        /// Who was called.
        address: Address,
        /// Who closed it and why.
        reason: String,
    },
    /// There was no answer in time.
    #[error("no answer within {0} ms")]
    TimedOut(i64),
    /// The answer can not be read.
    #[error("the answer can not be read: {0}")]
    Malformed(String),
    /// The other node has no version of the API that the caller knows.
    #[error("{address} does not serve API {api_key} in a version that this node knows")]
    Unsupported {
        /// Who was called.
        address: Address,
        /// The API.
        api_key: i16,
    },
    /// The request has a field that its version has no place for: a bug of ours.
    #[error("the request can not be written: {0}")]
    Unencodable(String),
}
