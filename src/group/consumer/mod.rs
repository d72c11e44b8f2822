//! The consumer group protocol (KIP-848): the broker assigns, and every member walks towards its target on its own.
//!
//! A heartbeat carries everything: who joins, what it is subscribed to, which partitions it has. The group has three
//! epochs, each behind the one before: the group's, which grows when members or topics change; the one for which the
//! target assignment was computed; and each member's own. A member goes to the target's epoch when it has given up what
//! is not to be its own any more, and gets the rest as soon as nobody else has it.
//!
//! - [`record`]: the records, in Kafka's bytes;
//! - [`member`], [`group`]: the state, and how a record changes it;
//! - [`draft`]: a decision in the making, which works on a cheap copy of the group and lists the changes;
//! - `heartbeat`, `leave`, `describe`: the requests; `requests`: how they find their group;
//! - `expression`: subscriptions by regular expression; `target`: the target assignment; `reconcile`: a member's next step;
//! - `classic`: members that use the classic protocol; `embedded`: what is inside of that one's bytes;
//! - `migration`: from a group of one protocol to one of the other, while it lives.

mod classic;
mod describe;
mod draft;
mod embedded;
mod expression;
mod group;
mod heartbeat;
#[cfg(test)]
mod invariants;
mod leave;
pub mod member;
mod migration;
mod reconcile;
pub mod record;
mod requests;
mod target;

pub(super) use draft::Draft;
pub use group::{ConsumerChange, ConsumerGroup, ConsumerGroupState};
