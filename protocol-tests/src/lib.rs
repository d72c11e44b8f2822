//! Shared helpers of the protocol tests.

pub mod golden;
pub mod groups;
pub mod served;
pub mod server;
