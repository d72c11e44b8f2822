//! Every schedule of a small quorum: the same nodes and invariants as in the storms of [`super::quorum`], but what may
//! happen next is not drawn by lot. From each state all of it is tried, until no state is new.
//!
//! - `state`: the nodes, the messages between them, and how much may still go wrong; what may happen next;
//! - `settle`: which states are the same; `explore`: the search; `scopes`: how much may happen in which search.

mod explore;
mod scopes;
mod settle;
mod state;

#[cfg(test)]
mod tests;
