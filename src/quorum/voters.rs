//! Who votes.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::election::ReplicaKey;
use crate::types::NodeId;

/// Where a voter is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VoterEndpoint {
    /// The name of the listener.
    pub listener: String,
    /// A host name or an address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// The levels of a feature that a node can work at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VersionRange {
    /// The lowest.
    pub min: i16,
    /// The highest.
    pub max: i16,
}

impl VersionRange {
    /// The levels of `kraft.version` that this version can work at.
    pub const SUPPORTED: Self = Self { min: 0, max: 1 };

    /// Whether a level lies in the range.
    pub fn contains(self, level: i16) -> bool {
        (self.min..=self.max).contains(&level)
    }
}

/// One voter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Voter {
    /// Its node and directory.
    pub key: ReplicaKey,
    /// Where it is reached.
    pub endpoints: Vec<VoterEndpoint>,
    /// The levels of `kraft.version` that it can work at.
    pub kraft_versions: VersionRange,
}

/// The voters by node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Voters(pub BTreeMap<NodeId, Voter>);

impl Voters {
    /// One voter alone.
    pub fn only(voter: Voter) -> Self {
        Self(BTreeMap::from([(voter.key.id, voter)]))
    }

    /// The voters of `controller.quorum.voters`, of which only the addresses are known. They can not change, as they
    /// are at level 0 of `kraft.version`.
    pub fn fixed(listener: &str, addresses: impl IntoIterator<Item = (NodeId, String, u16)>) -> Self {
        let voter = |(id, host, port)| {
            let endpoint = VoterEndpoint { listener: listener.to_owned(), host, port };
            let key = ReplicaKey { id, directory_id: Uuid::nil() };
            (id, Voter { key, endpoints: vec![endpoint], kraft_versions: VersionRange { min: 0, max: 0 } })
        };
        Self(addresses.into_iter().map(voter).collect())
    }

    /// Whether this is the only voter.
    pub fn is_only(&self, key: ReplicaKey) -> bool {
        self.0.len() == 1 && self.contains(key)
    }

    /// Whether this replica votes. A voter whose directory is not known matches any.
    pub fn contains(&self, key: ReplicaKey) -> bool {
        self.0.get(&key.id).is_some_and(|voter| voter.key.accepts(key))
    }

    /// Whether this voter is one of them, but is reached elsewhere or can work at other levels.
    pub fn is_outdated(&self, voter: &Voter) -> bool {
        self.0.get(&voter.key.id).is_some_and(|known| known.key.accepts(voter.key) && known != voter)
    }

    /// Where a voter is reached; empty for who is none.
    pub fn endpoints(&self, id: NodeId) -> &[VoterEndpoint] {
        self.0.get(&id).map_or(&[], |voter| &voter.endpoints)
    }

    /// The ids of the voters.
    pub fn ids(&self) -> BTreeSet<NodeId> {
        self.0.keys().copied().collect()
    }

    /// The keys of the voters.
    pub fn keys(&self) -> impl Iterator<Item = ReplicaKey> {
        self.0.values().map(|voter| voter.key)
    }

    /// With one more voter; `None` if a node with its id votes already.
    #[must_use]
    pub fn with(&self, voter: Voter) -> Option<Self> {
        let mut voters = self.0.clone();
        voters.insert(voter.key.id, voter).is_none().then_some(Self(voters))
    }

    /// Without this voter; `None` if it is none, or the last one.
    #[must_use]
    pub fn without(&self, key: ReplicaKey) -> Option<Self> {
        let known = self.0.get(&key.id).is_some_and(|voter| voter.key == key);
        (known && self.0.len() > 1).then(|| {
            let mut voters = self.0.clone();
            voters.remove(&key.id);
            Self(voters)
        })
    }

    /// With what this voter says of itself; `None` if it is none.
    #[must_use]
    pub fn updated(&self, voter: Voter) -> Option<Self> {
        self.contains(voter.key).then(|| self.replaced(voter))
    }

    /// The same, whatever directory the voter had before, as its id is all that counts at level 0 of `kraft.version`.
    #[must_use]
    pub fn updated_by_id(&self, voter: Voter) -> Option<Self> {
        self.0.contains_key(&voter.key.id).then(|| self.replaced(voter))
    }

    fn replaced(&self, voter: Voter) -> Self {
        let mut voters = self.0.clone();
        voters.insert(voter.key.id, voter);
        Self(voters)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test")]

    use super::*;

    fn voter(id: NodeId, directory: u128) -> Voter {
        let key = ReplicaKey { id, directory_id: Uuid::from_u128(directory) };
        Voter { key, endpoints: vec![], kraft_versions: VersionRange::SUPPORTED }
    }

    #[test]
    fn a_voter_is_a_node_with_its_directory() {
        let voters = Voters::only(voter(1, 10)).with(voter(2, 20)).unwrap();
        assert!(voters.contains(voter(2, 20).key) && !voters.contains(voter(2, 21).key));
        assert_eq!(voters.with(voter(2, 21)), None);
        assert_eq!(voters.without(voter(2, 21).key), None);
        let alone = voters.without(voter(2, 20).key).unwrap();
        assert_eq!(alone.without(voter(1, 10).key), None, "somebody has to vote");
        assert_eq!(voters.updated(voter(2, 21)), None);
        assert!(voters.updated_by_id(voter(2, 21)).unwrap().contains(voter(2, 21).key));
    }

    #[test]
    fn a_voter_without_a_known_directory_matches_any() {
        let voters = Voters::fixed("CONTROLLER", [(1, "one".to_owned(), 9)]);
        assert!(voters.contains(voter(1, 10).key) && !voters.contains(voter(2, 10).key));
        assert!(voters.is_outdated(&voter(1, 10)));
    }
}
