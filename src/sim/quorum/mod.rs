//! The quorum alone: many nodes, what may happen to them, and what must hold whatever happens.

mod acts;
pub(super) mod history;
mod messages;
pub(super) mod mutants;
pub(super) mod nodes;
pub(super) mod run;
mod start;
mod steps;
pub(super) mod storage;
