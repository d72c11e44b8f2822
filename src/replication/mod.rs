//! Replicas of partitions: how this broker follows the leaders of others, and takes its place among the brokers.
//!
//! - [`lifecycle`]: registered, caught up, unfenced, stopped: what a broker tells the controller.
//! - [`follower`]: what a follower of one partition does.
//! - [`session`]: what of a fetch has to be said again (KIP-227).
//!
//! These are state machines without clock, network and disk. Around them:
//! - [`registration`] carries out what the lifecycle says.

pub mod follower;
#[cfg(test)]
mod follower_tests;
pub mod lifecycle;
pub mod registration;
pub mod session;
