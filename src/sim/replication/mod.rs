//! Replicated partitions: brokers that come and go, the controller that decides, producers and consumers.
//!
//! Lifecycle, controller, leader and follower are the real ones. What is made here: the metadata log, which a quorum
//! keeps (the other world has that), the logs of partitions, and what passes messages between all of them.

mod broker;
mod controller;
mod history;
pub(super) mod mutants;
pub(super) mod run;
mod store;
