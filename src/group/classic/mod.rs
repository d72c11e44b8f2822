//! The classic group protocol (`ClassicGroup`, and the classic half of `GroupMetadataManager`): members join, the
//! leader assigns, everybody syncs.
//!
//! ```text
//!            first join                    all joined, or time is up
//!   Empty ───────────────► PreparingRebalance ───────────────► CompletingRebalance
//!     ▲                          ▲   │  nobody left                 │ leader synced
//!     └──────────────────────────┼───┘                              ▼
//!                                └──── join, leave, timeout ───── Stable
//! ```
//! - [`group`]: the state of one group, and how a [`Change`] or a record changes it;
//! - [`draft`]: a decision in the making, which works on a cheap copy of the group and lists the changes;
//! - `requests`: the requests, brought to their group;
//! - [`join`], [`sync`], [`leave`], [`rebalance`]: the decisions.

pub(super) mod draft;
pub(super) mod group;
#[cfg(test)]
mod invariants;
mod join;
mod leave;
mod rebalance;
mod requests;
mod sync;

pub use group::{Change, ClassicGroup, GroupState, Member};
