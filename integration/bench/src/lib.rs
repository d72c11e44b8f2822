//! klamm and Apache Kafka under the same load, side by side: the loads, and what they cost a broker.

pub mod batch;
pub mod compare;
pub mod load;
pub mod process;
pub mod recovery;
pub mod server;
pub mod stats;
pub mod topic;
pub mod wire;
