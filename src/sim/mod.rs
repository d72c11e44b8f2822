//! The cluster in a world of its own: time, network, disks and chance come from a seed; or every schedule of a small
//! quorum is searched, in the same world.

mod disk;
mod log;
mod network;
mod quorum;
mod random;
mod replication;
mod runner;
mod search;
mod timeline;
mod trace;

#[cfg(test)]
mod tests;
