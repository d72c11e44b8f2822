//! The quorum alone: many nodes, what may happen to them, and what must hold whatever happens.

pub(super) mod history;
pub(super) mod mutants;
pub(super) mod nodes;
pub(super) mod run;
mod start;
pub(super) mod storage;
