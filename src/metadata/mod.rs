//! The metadata of the cluster: topics, brokers, configurations, features, producer ids.
//!
//! - [`record`]: Kafka's own metadata records, in Kafka's bytes;
//! - [`image`]: the immutable state that they add up to;
//! - [`command`]: what can be asked of the controller;
//! - [`controller`]: what it decides.

pub mod command;
pub mod controller;
pub mod image;
pub mod record;

pub use image::{ConfigResource, Image, PartitionImage, ResourceType, TopicImage};
