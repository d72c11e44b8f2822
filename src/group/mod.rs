//! Groups: who consumes together, who gets what, and how far they have come.
pub mod command;
pub mod coordinator;
pub mod settings;
