//! The control records of the metadata log.

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use super::election::ReplicaKey;
use super::voters::{VersionRange, Voter, VoterEndpoint, Voters};
use crate::protocol::schema::{Schema as _, schema};
use crate::protocol::wire::{DecodeError, EncodeError};
use crate::types::{NodeId, TimestampMs};

/// The version of every one of these records.
const VERSION: i16 = 0;
/// The `kraft.version` at which the voters stand in the log (KIP-853).
pub(super) const KRAFT_VERSION: i16 = 1;

/// The feature's name.
pub(super) const KRAFT_VERSION_FEATURE: &str = "kraft.version";

const LEADER_CHANGE: i16 = 2;
const SNAPSHOT_HEADER: i16 = 3;
const SNAPSHOT_FOOTER: i16 = 4;
const KRAFT_VERSION_TYPE: i16 = 5;
const KRAFT_VOTERS: i16 = 6;

schema! {
    /// A leader begins its epoch.
    struct LeaderChangeMessage, versions 0..=0, flexible 0.. {
        version: i16,
        leader_id: i32,
        voters: Vec<LeaderChangeVoter>,
        granting_voters: Vec<LeaderChangeVoter>,
    }
    struct LeaderChangeVoter { voter_id: i32 }

    /// A snapshot begins.
    struct SnapshotHeaderRecord, versions 0..=0, flexible 0.. {
        version: i16,
        last_contained_log_timestamp: i64,
    }

    /// A snapshot is whole.
    struct SnapshotFooterRecord, versions 0..=0, flexible 0.. {
        version: i16,
    }

    /// The level of `kraft.version`.
    struct KRaftVersionRecord, versions 0..=0, flexible 0.. {
        version: i16,
        kraft_version: i16,
    }

    /// The voters.
    struct VotersRecord, versions 0..=0, flexible 0.. {
        version: i16,
        voters: Vec<RecordVoter>,
    }
    struct RecordVoter {
        voter_id: i32,
        voter_directory_id: Uuid,
        endpoints: Vec<RecordVoterEndpoint>,
        kraft_version_feature: KRaftVersionFeature,
    }
    struct RecordVoterEndpoint {
        name: String,
        host: String,
        port: u16,
    }
    struct KRaftVersionFeature {
        min_supported_version: i16,
        max_supported_version: i16,
    }
}

/// What the quorum says in its own log (`ControlRecordType`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ControlRecord {
    /// A leader begins its epoch.
    LeaderChange {
        /// The leader.
        leader: NodeId,
        /// All voters.
        voters: Vec<NodeId>,
        /// Those who voted for it.
        granting: Vec<NodeId>,
    },
    /// At which level of `kraft.version` the quorum works.
    KRaftVersion(i16),
    /// Who votes from here on.
    Voters(Voters),
    /// A snapshot begins. Only in snapshots.
    SnapshotHeader {
        /// The timestamp of the last batch that it covers.
        last_timestamp_ms: TimestampMs,
    },
    /// A snapshot is whole. Only in snapshots.
    SnapshotFooter,
}

impl ControlRecord {
    /// The level that new quorums work at.
    pub fn kraft_version() -> Self {
        Self::KRaftVersion(KRAFT_VERSION)
    }

    /// The key and the value.
    ///
    /// # Errors
    /// Where a text is too long for its length field.
    pub fn encode(&self) -> Result<(Bytes, Bytes), EncodeError> {
        let mut value = BytesMut::new();
        let (kind, encoded) = match self {
            Self::LeaderChange { leader, voters, granting } => {
                let voter = |id: &NodeId| LeaderChangeVoter { voter_id: *id, ..LeaderChangeVoter::default() };
                let message = LeaderChangeMessage {
                    leader_id: *leader,
                    voters: voters.iter().map(voter).collect(),
                    granting_voters: granting.iter().map(voter).collect(),
                    ..LeaderChangeMessage::default()
                };
                (LEADER_CHANGE, message.encode(&mut value, VERSION))
            }
            Self::KRaftVersion(level) => {
                let message = KRaftVersionRecord { kraft_version: *level, ..KRaftVersionRecord::default() };
                (KRAFT_VERSION_TYPE, message.encode(&mut value, VERSION))
            }
            Self::Voters(voters) => {
                let voters = voters.0.values().map(voter_to_record).collect();
                let message = VotersRecord { voters, ..VotersRecord::default() };
                (KRAFT_VOTERS, message.encode(&mut value, VERSION))
            }
            Self::SnapshotHeader { last_timestamp_ms } => {
                let last_contained_log_timestamp = *last_timestamp_ms;
                let message =
                    SnapshotHeaderRecord { last_contained_log_timestamp, ..SnapshotHeaderRecord::default() };
                (SNAPSHOT_HEADER, message.encode(&mut value, VERSION))
            }
            Self::SnapshotFooter => {
                (SNAPSHOT_FOOTER, SnapshotFooterRecord::default().encode(&mut value, VERSION))
            }
        };
        encoded?;
        let key = [VERSION.to_be_bytes(), kind.to_be_bytes()].concat();
        Ok((key.into(), value.freeze()))
    }

    /// Reads a control record; `None` for one that says nothing to us.
    ///
    /// # Errors
    /// Where the bytes are not what their key says.
    pub fn decode(key: &[u8], mut value: Bytes) -> Result<Option<Self>, DecodeError> {
        let [_, _, high, low] = key else {
            return Err(DecodeError::Truncated { expected: 4, remaining: key.len() });
        };
        match i16::from_be_bytes([*high, *low]) {
            LEADER_CHANGE => {
                let message = LeaderChangeMessage::decode(&mut value, VERSION)?;
                let ids = |voters: &[LeaderChangeVoter]| voters.iter().map(|voter| voter.voter_id).collect();
                let (voters, granting) = (ids(&message.voters), ids(&message.granting_voters));
                Ok(Some(Self::LeaderChange { leader: message.leader_id, voters, granting }))
            }
            KRAFT_VERSION_TYPE => {
                let message = KRaftVersionRecord::decode(&mut value, VERSION)?;
                Ok(Some(Self::KRaftVersion(message.kraft_version)))
            }
            KRAFT_VOTERS => {
                let message = VotersRecord::decode(&mut value, VERSION)?;
                let voters =
                    message.voters.into_iter().map(|voter| (voter.voter_id, voter_from_record(voter)));
                Ok(Some(Self::Voters(Voters(voters.collect()))))
            }
            SNAPSHOT_HEADER => {
                let message = SnapshotHeaderRecord::decode(&mut value, VERSION)?;
                Ok(Some(Self::SnapshotHeader { last_timestamp_ms: message.last_contained_log_timestamp }))
            }
            SNAPSHOT_FOOTER => {
                SnapshotFooterRecord::decode(&mut value, VERSION)?;
                Ok(Some(Self::SnapshotFooter))
            }
            _ => Ok(None),
        }
    }
}

fn voter_to_record(voter: &Voter) -> RecordVoter {
    let endpoint = |endpoint: &VoterEndpoint| RecordVoterEndpoint {
        name: endpoint.listener.clone(),
        host: endpoint.host.clone(),
        port: endpoint.port,
        ..RecordVoterEndpoint::default()
    };
    RecordVoter {
        voter_id: voter.key.id,
        voter_directory_id: voter.key.directory_id,
        endpoints: voter.endpoints.iter().map(endpoint).collect(),
        kraft_version_feature: KRaftVersionFeature {
            min_supported_version: voter.kraft_versions.min,
            max_supported_version: voter.kraft_versions.max,
            ..KRaftVersionFeature::default()
        },
        ..RecordVoter::default()
    }
}

fn voter_from_record(voter: RecordVoter) -> Voter {
    let endpoint = |endpoint: RecordVoterEndpoint| VoterEndpoint {
        listener: endpoint.name,
        host: endpoint.host,
        port: endpoint.port,
    };
    let versions = voter.kraft_version_feature;
    Voter {
        key: ReplicaKey { id: voter.voter_id, directory_id: voter.voter_directory_id },
        endpoints: voter.endpoints.into_iter().map(endpoint).collect(),
        kraft_versions: VersionRange {
            min: versions.min_supported_version,
            max: versions.max_supported_version,
        },
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test")]

    use std::collections::BTreeMap;

    use super::*;
    use crate::types::parse_kafka_id;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The first batch of the metadata log of an Apache Kafka 4.3.1, record by record.
    #[test]
    fn the_bytes_are_those_of_a_real_log() {
        let key = ReplicaKey { id: 1, directory_id: parse_kafka_id("G55OZjXKSf-qebm8a1aN0Q").unwrap() };
        let endpoint =
            VoterEndpoint { listener: "CONTROLLER".to_owned(), host: "127.0.0.1".to_owned(), port: 19_293 };
        let voter = Voter { key, endpoints: vec![endpoint], kraft_versions: VersionRange::SUPPORTED };
        let records = [
            (
                ControlRecord::LeaderChange { leader: 1, voters: vec![1], granting: vec![1] },
                "00000002",
                "00000000000102000000010002000000010000",
            ),
            (ControlRecord::kraft_version(), "00000005", "0000000100"),
            (
                ControlRecord::Voters(Voters(BTreeMap::from([(1, voter)]))),
                "00000006",
                "000002000000011b9e4e6635ca49ffaa79b9bc6b568dd1020b434f4e54524f4c4c45520a3132372e302e302e314b5d0000000001000000",
            ),
        ];
        for (record, key, value) in records {
            let (own_key, own_value) = record.encode().unwrap();
            assert_eq!((hex(&own_key).as_str(), hex(&own_value).as_str()), (key, value));
            assert_eq!(ControlRecord::decode(&own_key, own_value).unwrap(), Some(record));
        }
        assert_eq!(ControlRecord::decode(&[0, 0, 0, 99], Bytes::new()), Ok(None));
        assert!(ControlRecord::decode(&[0], Bytes::new()).is_err());
    }
}
