//! The cluster in a world of its own: time, network, disks and chance come from a seed.

mod disk;
mod log;
mod network;
mod quorum;
mod random;
mod replication;
mod runner;
mod timeline;
mod trace;

#[cfg(test)]
mod tests;
