//! Shared helpers of the protocol tests.

pub mod server;
