//! Shared helpers of the protocol tests.

pub mod golden;
pub mod served;
pub mod server;
