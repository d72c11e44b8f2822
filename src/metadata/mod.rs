//! The metadata of the cluster: topics, brokers, configurations, features, producer ids.
//!
//! - [`record`]: Kafka's own metadata records, in Kafka's bytes;
//! - [`image`]: the immutable state that they add up to; [`loader`]: how they do;
//! - [`command`]: what can be asked of the controller; [`controller`]: what it decides;
//! - [`snapshot`]: the records of an image, and when a snapshot is due;
//! - `start`: how a node takes its place in the cluster;
//! - `follow`: the task of every node that follows the committed log and publishes images;
//! - `active`: the task that decides, writes and answers while this node leads the quorum;
//! - `publisher`: what a new image means for the logs of this broker;
//! - [`Metadata`]: what the rest of the broker holds.

mod active;
pub mod command;
pub mod controller;
mod follow;
mod handle;
pub mod image;
pub mod loader;
mod publisher;
pub mod record;
pub mod snapshot;
mod start;
mod status;

pub use handle::{Metadata, MetadataOptions};
pub use image::{ConfigResource, Image, PartitionImage, ResourceType, TopicImage};
pub use publisher::{ImageListener, ReplicaListener};
pub use status::Status;

#[cfg(test)]
pub(crate) mod tests;
