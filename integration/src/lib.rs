//! Helpers of the integration tests: a klamm process of one's own, and real client libraries to point at it.

mod clients;
pub mod load;
mod process;
pub mod wire;

pub use clients::{Client, Outcome, SCENARIOS};
pub use process::{Exit, Klamm, binary, until};
