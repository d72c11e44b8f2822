//! Who votes.

use std::collections::BTreeMap;

use super::election::ReplicaKey;
use crate::types::NodeId;

/// Where a voter is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoterEndpoint {
    /// The name of the listener.
    pub listener: String,
    /// A host name or an address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// One voter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    /// Its node and directory.
    pub key: ReplicaKey,
    /// Where it is reached.
    pub endpoints: Vec<VoterEndpoint>,
}

/// The voters by node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Voters(pub BTreeMap<NodeId, Voter>);

impl Voters {
    /// One voter alone.
    pub fn only(voter: Voter) -> Self {
        Self(BTreeMap::from([(voter.key.id, voter)]))
    }

    /// Whether this is the only voter.
    pub fn is_only(&self, key: ReplicaKey) -> bool {
        self.0.len() == 1 && self.0.get(&key.id).is_some_and(|voter| voter.key == key)
    }

    /// The largest offset that more than half of the voters have reached.
    pub fn majority(&self, reached: &BTreeMap<NodeId, i64>) -> Option<i64> {
        let mut ends: Vec<i64> = self.0.keys().map(|id| reached.get(id).copied().unwrap_or(0)).collect();
        ends.sort_unstable_by(|one, two| two.cmp(one));
        ends.get(ends.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_majority_is_more_than_half() {
        let voter =
            |id| (id, Voter { key: ReplicaKey { id, directory_id: Uuid::from_u128(1) }, endpoints: vec![] });
        let majority = |ends: &[i64]| {
            let reached: BTreeMap<NodeId, i64> = (1..).zip(ends.iter().copied()).collect();
            Voters(reached.keys().map(|id| voter(*id)).collect()).majority(&reached)
        };
        assert_eq!(majority(&[]), None);
        assert_eq!(majority(&[7]), Some(7));
        assert_eq!(majority(&[7, 3]), Some(3));
        assert_eq!(majority(&[7, 3, 5]), Some(5));
        assert_eq!(majority(&[7, 3, 5, 1]), Some(3));
    }
}
