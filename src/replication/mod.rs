//! Replicas of partitions: how this broker follows the leaders of others, and takes its place among the brokers.
//!
//! - [`lifecycle`]: registered, caught up, unfenced, stopped: what a broker tells the controller.
//! - [`follower`]: what a follower of one partition does.
//! - [`session`]: what of a fetch has to be said again (KIP-227).
//!
//! These are state machines without clock, network and disk. Around them:
//! - [`registration`] carries out what the lifecycle says;
//! - [`manager`] has the logs of this broker follow the leaders that the image names, each over a `fetcher`, and has
//!   `isr` ask the controller to change who is in sync;
//! - [`throttle`] holds back what is copied to replicas that are being moved.

mod fetcher;
pub mod follower;
#[cfg(test)]
mod follower_tests;
mod isr;
mod leader;
pub mod lifecycle;
pub mod manager;
pub mod registration;
pub mod session;
pub mod throttle;
