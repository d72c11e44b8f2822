//! Records of the metadata log: Kafka's own, in Kafka's own bytes.
//!
//! The value of a record is a frame (an unsigned varint, 1), the type of the record and its version (two more), and
//! the body. `MetadataRecordSerde` is Kafka's class for it.

mod schema;

use bytes::{Bytes, BytesMut};

use crate::protocol::schema::Schema as _;
use crate::protocol::wire::{DecodeError, EncodeError, read_uvarint, write_uvarint};

pub use schema::*;

/// The only frame version there is.
const FRAME_VERSION: u32 = 1;

/// Why a value in the metadata log can not be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The frame is not one that we know.
    #[error("frame version {0} instead of 1")]
    Frame(u32),
    /// A type that this version of klamm does not know.
    #[error("record type {0} is unknown")]
    Type(u32),
    /// The version is not one that a record can have.
    #[error("record version {0} is out of range")]
    Version(u32),
    /// The body can not be read.
    #[error("the body of a record of type {kind} can not be read: {source}")]
    Body {
        /// The type of the record.
        kind: u32,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// Bytes follow the body.
    #[error("{0} bytes after the body")]
    Trailing(usize),
}

macro_rules! records {
    ($($kind:literal $name:ident($body:ident)),* $(,)?) => {
        /// One record of the metadata log.
        #[derive(Clone, Debug, PartialEq)]
        #[expect(missing_docs, reason = "the bodies have their documentation")]
        pub enum Record {
            $($name($body),)*
        }

        impl Record {
            /// The number of its type (`MetadataRecordType`).
            pub fn kind(&self) -> u32 {
                match self {
                    $(Self::$name(_) => $kind,)*
                }
            }

            /// Reads the value of a record in the metadata log, and the version in which it was written.
            pub fn decode(mut value: Bytes) -> Result<(Self, i16), RecordError> {
                let (kind, version) = read_frame(&mut value)?;
                let record = match kind {
                    $($kind => Self::$name(
                        $body::decode(&mut value, version).map_err(|source| RecordError::Body { kind, source })?,
                    ),)*
                    unknown => return Err(RecordError::Type(unknown)),
                };
                if value.is_empty() { Ok((record, version)) } else { Err(RecordError::Trailing(value.len())) }
            }

            /// The value to write, in the given version of the body.
            pub fn encode(&self, version: i16) -> Result<Bytes, EncodeError> {
                let mut value = BytesMut::with_capacity(64);
                write_uvarint(FRAME_VERSION, &mut value);
                write_uvarint(self.kind(), &mut value);
                write_uvarint(u32::from(version.unsigned_abs()), &mut value);
                match self {
                    $(Self::$name(body) => body.encode(&mut value, version)?,)*
                }
                Ok(value.freeze())
            }

            /// The versions of this type that we can read.
            pub fn versions(&self) -> std::ops::RangeInclusive<i16> {
                match self {
                    $(Self::$name(_) => $body::VERSIONS,)*
                }
            }
        }

        $(impl From<$body> for Record {
            fn from(body: $body) -> Self {
                Self::$name(body)
            }
        })*
    };
}

records! {
    0 RegisterBroker(RegisterBrokerRecord),
    1 UnregisterBroker(UnregisterBrokerRecord),
    2 Topic(TopicRecord),
    3 Partition(PartitionRecord),
    4 Config(ConfigRecord),
    5 PartitionChange(PartitionChangeRecord),
    7 FenceBroker(FenceBrokerRecord),
    8 UnfenceBroker(UnfenceBrokerRecord),
    9 RemoveTopic(RemoveTopicRecord),
    10 DelegationToken(DelegationTokenRecord),
    11 UserScramCredential(UserScramCredentialRecord),
    12 FeatureLevel(FeatureLevelRecord),
    14 ClientQuota(ClientQuotaRecord),
    15 ProducerIds(ProducerIdsRecord),
    17 BrokerRegistrationChange(BrokerRegistrationChangeRecord),
    18 AccessControlEntry(AccessControlEntryRecord),
    19 RemoveAccessControlEntry(RemoveAccessControlEntryRecord),
    20 NoOp(NoOpRecord),
    21 ZkMigrationState(ZkMigrationStateRecord),
    22 RemoveUserScramCredential(RemoveUserScramCredentialRecord),
    23 BeginTransaction(BeginTransactionRecord),
    24 EndTransaction(EndTransactionRecord),
    25 AbortTransaction(AbortTransactionRecord),
    26 RemoveDelegationToken(RemoveDelegationTokenRecord),
    27 RegisterController(RegisterControllerRecord),
    28 ClearElr(ClearElrRecord),
}

fn read_frame(value: &mut Bytes) -> Result<(u32, i16), RecordError> {
    let outside = |source| RecordError::Body { kind: u32::MAX, source };
    let frame = read_uvarint(value).map_err(outside)?;
    if frame != FRAME_VERSION {
        return Err(RecordError::Frame(frame));
    }
    let kind = read_uvarint(value).map_err(outside)?;
    let version = read_uvarint(value).map_err(outside)?;
    Ok((kind, i16::try_from(version).map_err(|_| RecordError::Version(version))?))
}

impl Record {
    /// The version in which Kafka's controller writes this record at a `metadata.version`
    /// (`MetadataVersion.registerBrokerRecordVersion` and its siblings).
    pub fn version_at(&self, metadata_version: i16) -> i16 {
        match self {
            Self::RegisterBroker(_) => match metadata_version {
                30.. => 4,
                17..=29 => 3,
                8..=16 => 2,
                _ => 1,
            },
            Self::Partition(_) | Self::PartitionChange(_) => match metadata_version {
                23.. => 2,
                17..=22 => 1,
                _ => 0,
            },
            // The oldest version that can carry what is said.
            Self::BrokerRegistrationChange(change) => {
                if change.cordoned_log_dirs.is_some() {
                    3
                } else if !change.log_dirs.is_empty() {
                    2
                } else {
                    i16::from(change.in_controlled_shutdown != 0)
                }
            }
            Self::UnregisterBroker(_)
            | Self::Topic(_)
            | Self::Config(_)
            | Self::FenceBroker(_)
            | Self::UnfenceBroker(_)
            | Self::RemoveTopic(_)
            | Self::DelegationToken(_)
            | Self::UserScramCredential(_)
            | Self::FeatureLevel(_)
            | Self::ClientQuota(_)
            | Self::ProducerIds(_)
            | Self::AccessControlEntry(_)
            | Self::RemoveAccessControlEntry(_)
            | Self::NoOp(_)
            | Self::ZkMigrationState(_)
            | Self::RemoveUserScramCredential(_)
            | Self::BeginTransaction(_)
            | Self::EndTransaction(_)
            | Self::AbortTransaction(_)
            | Self::RemoveDelegationToken(_)
            | Self::RegisterController(_)
            | Self::ClearElr(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests;
