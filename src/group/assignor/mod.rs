//! Assignors: who gets which partitions, for groups whose broker assigns (KIP-848).
//!
//! - [`range`]: of each topic a stretch of neighbouring partitions, the same ones of topics with as many partitions;
//! - [`uniform`]: as many partitions for everybody as possible, and as few moves as that allows;
//! - [`simple`]: for share groups (KIP-932), whose members may have the same partitions.
//!
//! They are pure functions of a [`GroupSpec`]. Kafka's own give the same results where they do not depend on the order
//! of Java's hash tables; here members come in the order of their ids, and topics in that of theirs.

pub mod range;
pub mod simple;
#[cfg(test)]
mod tests;
pub mod uniform;
mod uniform_mixed;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

/// Partitions by topic. There are no empty sets in it.
pub type Partitions = BTreeMap<Uuid, BTreeSet<i32>>;

/// An assignor by its name in requests and in `group.consumer.assignors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    Uniform,
    Range,
}

impl Assignor {
    /// The name that clients use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The assignor of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Uniform, Self::Range].into_iter().find(|assignor| assignor.name() == name)
    }

    /// A new assignment for all members.
    pub fn assign(self, spec: &GroupSpec) -> BTreeMap<Arc<str>, Partitions> {
        match self {
            Self::Uniform => uniform::assign(spec),
            Self::Range => range::assign(spec),
        }
    }
}

/// What a member wants and has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberSpec {
    pub instance_id: Option<Arc<str>>,
    /// The topics that it is subscribed to and that exist.
    pub topics: Arc<BTreeSet<Uuid>>,
    /// What was assigned to it last.
    pub assignment: Arc<Partitions>,
}

/// What an assignor is told (`GroupSpec`, `SubscribedTopicDescriber`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSpec {
    pub members: BTreeMap<Arc<str>, MemberSpec>,
    /// Whether all members are subscribed to the same topics.
    pub homogeneous: bool,
    /// The number of partitions of each topic.
    pub partitions: BTreeMap<Uuid, i32>,
}

impl GroupSpec {
    fn partitions_of(&self, topic: &Uuid) -> i32 {
        self.partitions.get(topic).copied().unwrap_or(0)
    }
}
