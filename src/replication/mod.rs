//! Replicas of partitions: how this broker follows the leaders of others, and takes its place among the brokers.
//!
//! - [`lifecycle`]: registered, caught up, unfenced, stopped: what a broker tells the controller.
//! - [`follower`]: what a follower of one partition does.
//!
//! Both are state machines without clock, network and disk.

pub mod follower;
#[cfg(test)]
mod follower_tests;
pub mod lifecycle;
