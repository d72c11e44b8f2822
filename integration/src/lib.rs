//! Helpers of the integration tests: a klamm process of one's own, and real clients and tools to point at it.

pub mod chance;
mod clients;
pub mod cluster;
pub mod committed;
pub mod connect;
pub mod frameworks;
pub mod http;
pub mod load;
pub mod ports;
mod process;
mod tools;
pub mod transactions;
pub mod wire;
pub mod words;

pub use clients::{Client, Outcome, SCENARIOS};
pub use process::{Exit, Klamm, Target, binary, until};
pub use tools::{Output, Tools};
