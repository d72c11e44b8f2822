//! Every key that is persisted, and its bytes. Numbers are big-endian, so that keys sort as the
//! numbers do; all numbers that are stored in keys are non-negative except timestamps, whose sign
//! bit is flipped for the same reason.
//!
//! A key starts with the byte of its family, so that what is read and deleted together lies
//! together. Families are not RocksDB's column families, of which there is one: with several, it
//! syncs its write-ahead log before each flush, and everything is written to the disk twice.

use uuid::Uuid;

use crate::types::{LeaderEpoch, Offset, PartitionId, ProducerId, TimestampMs};

/// What a key starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Family {
    /// The materialised state of groups.
    Groups,
    /// Record batches, in extents.
    Log,
    /// Small values that are read at start.
    Meta,
    /// Timestamps to offsets.
    TimeIndex,
    /// The materialised state of transactional ids.
    Transactions,
}

impl Family {
    fn byte(self) -> u8 {
        match self {
            Self::Groups => b'g',
            Self::Log => b'l',
            Self::Meta => b'm',
            Self::TimeIndex => b't',
            Self::Transactions => b'x',
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [Self::Groups, Self::Log, Self::Meta, Self::TimeIndex, Self::Transactions]
            .into_iter()
            .find(|family| family.byte() == byte)
    }
}

const META_PROPERTIES: u8 = 1;
const QUORUM_STATE: u8 = 2;
const NEXT_PARTITION_ID: u8 = 3;
const WRITE_PROBE: u8 = 4;
const BOOT_ID: u8 = 5;
const PARTITION: u8 = 0x10;
const PARTITION_STATE: u8 = 0x11;
const SEGMENT: u8 = 0x12;
const LEADER_EPOCH: u8 = 0x13;
const PRODUCER: u8 = 0x14;
const ABORTED_TRANSACTION: u8 = 0x15;
const CLEANER_CHECKPOINT: u8 = 0x16;
const COORDINATOR_VIEW: u8 = 0x17;

const GROUP: u8 = 0;
const GROUP_OFFSET: u8 = 1;
const GROUP_RECORD: u8 = 2;
const PENDING_OFFSET: u8 = 0x10;

/// A persisted key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// Joined record batches. `log`: partition id u32, base offset of the first batch i64.
    Extent { partition: PartitionId, base_offset: Offset },
    /// The running maximum of the timestamps after an extent, only where the extent raised it; the
    /// value is the extent's base offset. `timeindex`: partition id u32, timestamp i64 ^ sign bit.
    TimeIndex { partition: PartitionId, timestamp: TimestampMs },
    /// Format version, cluster id, directory id, node id. `meta`: 1.
    MetaProperties,
    /// The quorum's epoch and vote. `meta`: 2.
    QuorumState,
    /// The partition id that is used next, u32. `meta`: 3.
    NextPartitionId,
    /// Never there: removing it shows that the store can be written. `meta`: 4.
    WriteProbe,
    /// The run of the operating system in which the broker was started last. `meta`: 5.
    BootId,
    /// The partition id and topic name of a topic's partition. `meta`: 0x10, topic id, partition i32.
    Partition { topic_id: Uuid, partition: i32 },
    /// What changes with every append. `meta`: 0x11, partition id u32.
    PartitionState { partition: PartitionId },
    /// A closed segment. `meta`: 0x12, partition id u32, base offset i64.
    Segment { partition: PartitionId, base_offset: Offset },
    /// The first offset of a leader epoch. `meta`: 0x13, partition id u32, leader epoch i32.
    LeaderEpoch { partition: PartitionId, epoch: LeaderEpoch },
    /// The last batches of a producer. `meta`: 0x14, partition id u32, producer id i64.
    Producer { partition: PartitionId, producer_id: ProducerId },
    /// An aborted transaction, by the offset of its marker. `meta`: 0x15, partition id u32, last
    /// offset i64.
    AbortedTransaction { partition: PartitionId, last_offset: Offset },
    /// Up to where a compacted log is clean, i64. `meta`: 0x16, partition id u32.
    CleanerCheckpoint { partition: PartitionId },
    /// Up to where the state that a coordinator materialised covers its log, i64. `meta`: 0x17, partition id u32.
    CoordinatorView { partition: PartitionId },
    /// A group's state. `groups`: partition of `__consumer_offsets` i32, 0, group.
    Group { offsets_partition: i32, group: String },
    /// A committed offset. `groups`: partition of `__consumer_offsets` i32, 1, length of the group
    /// u16, group, length of the topic u16, topic, partition i32.
    GroupOffset { offsets_partition: i32, group: String, topic: String, partition: i32 },
    /// A part of a group's state that is a record of its own. `groups`: partition of `__consumer_offsets` i32, 2,
    /// length of the group u16, group, Kafka's type of the record u8, what it is about (a member, say).
    GroupRecord { offsets_partition: i32, group: String, kind: u8, item: String },
    /// An offset that an open transaction commits. `groups`: partition of `__consumer_offsets` i32, 0x10, producer id
    /// i64, length of the group u16, group, length of the topic u16, topic, partition i32.
    PendingOffset {
        offsets_partition: i32,
        producer_id: ProducerId,
        group: String,
        topic: String,
        partition: i32,
    },
    /// A transactional id's state. `transactions`: partition of `__transaction_state` i32, id.
    TransactionalId { state_partition: i32, transactional_id: String },
}

impl Key {
    /// The family that the key belongs to.
    pub(super) fn family(&self) -> Family {
        match self {
            Self::Extent { .. } => Family::Log,
            Self::TimeIndex { .. } => Family::TimeIndex,
            Self::Group { .. }
            | Self::GroupOffset { .. }
            | Self::GroupRecord { .. }
            | Self::PendingOffset { .. } => Family::Groups,
            Self::TransactionalId { .. } => Family::Transactions,
            Self::MetaProperties
            | Self::QuorumState
            | Self::NextPartitionId
            | Self::WriteProbe
            | Self::BootId
            | Self::Partition { .. }
            | Self::PartitionState { .. }
            | Self::Segment { .. }
            | Self::LeaderEpoch { .. }
            | Self::Producer { .. }
            | Self::AbortedTransaction { .. }
            | Self::CleanerCheckpoint { .. }
            | Self::CoordinatorView { .. } => Family::Meta,
        }
    }

    /// The key's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24);
        out.push(self.family().byte());
        match self {
            Self::Extent { partition, base_offset } => {
                put_partition(&mut out, *partition);
                out.extend_from_slice(&base_offset.to_be_bytes());
            }
            Self::TimeIndex { partition, timestamp } => {
                put_partition(&mut out, *partition);
                out.extend_from_slice(&(timestamp ^ i64::MIN).to_be_bytes());
            }
            Self::MetaProperties => out.push(META_PROPERTIES),
            Self::QuorumState => out.push(QUORUM_STATE),
            Self::NextPartitionId => out.push(NEXT_PARTITION_ID),
            Self::WriteProbe => out.push(WRITE_PROBE),
            Self::BootId => out.push(BOOT_ID),
            Self::Partition { topic_id, partition } => {
                out.push(PARTITION);
                out.extend_from_slice(topic_id.as_bytes());
                out.extend_from_slice(&partition.to_be_bytes());
            }
            Self::PartitionState { partition } => {
                out.push(PARTITION_STATE);
                put_partition(&mut out, *partition);
            }
            Self::Segment { partition, base_offset } => {
                out.push(SEGMENT);
                put_partition(&mut out, *partition);
                out.extend_from_slice(&base_offset.to_be_bytes());
            }
            Self::LeaderEpoch { partition, epoch } => {
                out.push(LEADER_EPOCH);
                put_partition(&mut out, *partition);
                out.extend_from_slice(&epoch.to_be_bytes());
            }
            Self::Producer { partition, producer_id } => {
                out.push(PRODUCER);
                put_partition(&mut out, *partition);
                out.extend_from_slice(&producer_id.to_be_bytes());
            }
            Self::AbortedTransaction { partition, last_offset } => {
                out.push(ABORTED_TRANSACTION);
                put_partition(&mut out, *partition);
                out.extend_from_slice(&last_offset.to_be_bytes());
            }
            Self::CleanerCheckpoint { partition } => {
                out.push(CLEANER_CHECKPOINT);
                put_partition(&mut out, *partition);
            }
            Self::CoordinatorView { partition } => {
                out.push(COORDINATOR_VIEW);
                put_partition(&mut out, *partition);
            }
            Self::Group { offsets_partition, group } => {
                out.extend_from_slice(&offsets_partition.to_be_bytes());
                out.push(GROUP);
                out.extend_from_slice(group.as_bytes());
            }
            Self::GroupOffset { offsets_partition, group, topic, partition } => {
                out.extend_from_slice(&offsets_partition.to_be_bytes());
                out.push(GROUP_OFFSET);
                put_text(&mut out, group);
                put_text(&mut out, topic);
                out.extend_from_slice(&partition.to_be_bytes());
            }
            Self::GroupRecord { offsets_partition, group, kind, item } => {
                out.extend_from_slice(&offsets_partition.to_be_bytes());
                out.push(GROUP_RECORD);
                put_text(&mut out, group);
                out.push(*kind);
                out.extend_from_slice(item.as_bytes());
            }
            Self::PendingOffset { offsets_partition, producer_id, group, topic, partition } => {
                out.extend_from_slice(&offsets_partition.to_be_bytes());
                out.push(PENDING_OFFSET);
                out.extend_from_slice(&producer_id.to_be_bytes());
                put_text(&mut out, group);
                put_text(&mut out, topic);
                out.extend_from_slice(&partition.to_be_bytes());
            }
            Self::TransactionalId { state_partition, transactional_id } => {
                out.extend_from_slice(&state_partition.to_be_bytes());
                out.extend_from_slice(transactional_id.as_bytes());
            }
        }
        out
    }

    /// Reads a key back; `None` where the bytes are no key of this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Input(bytes);
        let key = match Family::of(input.u8()?)? {
            Family::Log => Self::Extent { partition: input.partition()?, base_offset: input.i64()? },
            Family::TimeIndex => {
                Self::TimeIndex { partition: input.partition()?, timestamp: input.i64()? ^ i64::MIN }
            }
            Family::Meta => Self::decode_meta(&mut input)?,
            Family::Transactions => {
                let state_partition = input.i32()?;
                let transactional_id = String::from_utf8(std::mem::take(&mut input.0).to_vec()).ok()?;
                Self::TransactionalId { state_partition, transactional_id }
            }
            Family::Groups => {
                let offsets_partition = input.i32()?;
                match input.u8()? {
                    GROUP => {
                        let group = String::from_utf8(std::mem::take(&mut input.0).to_vec()).ok()?;
                        Self::Group { offsets_partition, group }
                    }
                    GROUP_OFFSET => Self::GroupOffset {
                        offsets_partition,
                        group: input.text()?,
                        topic: input.text()?,
                        partition: input.i32()?,
                    },
                    GROUP_RECORD => Self::GroupRecord {
                        offsets_partition,
                        group: input.text()?,
                        kind: input.u8()?,
                        item: String::from_utf8(std::mem::take(&mut input.0).to_vec()).ok()?,
                    },
                    PENDING_OFFSET => Self::PendingOffset {
                        offsets_partition,
                        producer_id: input.i64()?,
                        group: input.text()?,
                        topic: input.text()?,
                        partition: input.i32()?,
                    },
                    _ => return None,
                }
            }
        };
        input.0.is_empty().then_some(key)
    }

    fn decode_meta(input: &mut Input<'_>) -> Option<Self> {
        Some(match input.u8()? {
            META_PROPERTIES => Self::MetaProperties,
            QUORUM_STATE => Self::QuorumState,
            NEXT_PARTITION_ID => Self::NextPartitionId,
            WRITE_PROBE => Self::WriteProbe,
            BOOT_ID => Self::BootId,
            PARTITION => {
                Self::Partition { topic_id: Uuid::from_bytes(input.array()?), partition: input.i32()? }
            }
            PARTITION_STATE => Self::PartitionState { partition: input.partition()? },
            SEGMENT => Self::Segment { partition: input.partition()?, base_offset: input.i64()? },
            LEADER_EPOCH => Self::LeaderEpoch { partition: input.partition()?, epoch: input.i32()? },
            PRODUCER => Self::Producer { partition: input.partition()?, producer_id: input.i64()? },
            ABORTED_TRANSACTION => {
                Self::AbortedTransaction { partition: input.partition()?, last_offset: input.i64()? }
            }
            CLEANER_CHECKPOINT => Self::CleanerCheckpoint { partition: input.partition()? },
            COORDINATOR_VIEW => Self::CoordinatorView { partition: input.partition()? },
            _ => return None,
        })
    }
}

/// Keys that start alike, for scans and range deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPrefix {
    /// Every [`Key::Partition`].
    Partitions,
    /// Every [`Key::PartitionState`].
    PartitionStates,
    /// Every [`Key::Segment`].
    Segments,
    /// Every [`Key::Segment`] of a partition.
    SegmentsOf { partition: PartitionId },
    /// Every [`Key::LeaderEpoch`].
    LeaderEpochs,
    /// Every [`Key::LeaderEpoch`] of a partition.
    LeaderEpochsOf { partition: PartitionId },
    /// Every [`Key::Producer`].
    Producers,
    /// Every [`Key::Producer`] of a partition.
    ProducersOf { partition: PartitionId },
    /// Every [`Key::AbortedTransaction`].
    AbortedTransactions,
    /// Every [`Key::AbortedTransaction`] of a partition.
    AbortedTransactionsOf { partition: PartitionId },
    /// Every [`Key::CleanerCheckpoint`].
    CleanerCheckpoints,
    /// Every [`Key::Extent`] of a partition.
    ExtentsOf { partition: PartitionId },
    /// Every [`Key::TimeIndex`] of a partition.
    TimeIndexOf { partition: PartitionId },
    /// Every [`Key::Group`] of a partition of `__consumer_offsets`.
    Groups { offsets_partition: i32 },
    /// Every [`Key::GroupOffset`] of a partition of `__consumer_offsets`.
    GroupOffsets { offsets_partition: i32 },
    /// Every [`Key::GroupOffset`] of one group.
    GroupOffsetsOf { offsets_partition: i32, group: String },
    /// Every [`Key::Group`] and [`Key::GroupOffset`] of a partition of `__consumer_offsets`.
    OffsetsPartition { offsets_partition: i32 },
    /// Every [`Key::TransactionalId`] of a partition of `__transaction_state`.
    TransactionalIds { state_partition: i32 },
}

impl KeyPrefix {
    /// The family that the keys belong to.
    fn family(&self) -> Family {
        match self {
            Self::ExtentsOf { .. } => Family::Log,
            Self::TimeIndexOf { .. } => Family::TimeIndex,
            Self::Groups { .. }
            | Self::GroupOffsets { .. }
            | Self::GroupOffsetsOf { .. }
            | Self::OffsetsPartition { .. } => Family::Groups,
            Self::TransactionalIds { .. } => Family::Transactions,
            Self::Partitions
            | Self::PartitionStates
            | Self::Segments
            | Self::SegmentsOf { .. }
            | Self::LeaderEpochs
            | Self::LeaderEpochsOf { .. }
            | Self::Producers
            | Self::ProducersOf { .. }
            | Self::AbortedTransactions
            | Self::AbortedTransactionsOf { .. }
            | Self::CleanerCheckpoints => Family::Meta,
        }
    }

    /// The bytes with which the keys start.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24);
        out.push(self.family().byte());
        match self {
            Self::Partitions => out.push(PARTITION),
            Self::PartitionStates => out.push(PARTITION_STATE),
            Self::Segments => out.push(SEGMENT),
            Self::SegmentsOf { partition } => {
                out.push(SEGMENT);
                put_partition(&mut out, *partition);
            }
            Self::LeaderEpochs => out.push(LEADER_EPOCH),
            Self::LeaderEpochsOf { partition } => {
                out.push(LEADER_EPOCH);
                put_partition(&mut out, *partition);
            }
            Self::Producers => out.push(PRODUCER),
            Self::ProducersOf { partition } => {
                out.push(PRODUCER);
                put_partition(&mut out, *partition);
            }
            Self::AbortedTransactions => out.push(ABORTED_TRANSACTION),
            Self::AbortedTransactionsOf { partition } => {
                out.push(ABORTED_TRANSACTION);
                put_partition(&mut out, *partition);
            }
            Self::CleanerCheckpoints => out.push(CLEANER_CHECKPOINT),
            Self::ExtentsOf { partition } | Self::TimeIndexOf { partition } => {
                put_partition(&mut out, *partition);
            }
            Self::Groups { offsets_partition } => {
                out.extend_from_slice(&offsets_partition.to_be_bytes());
                out.push(GROUP);
            }
            Self::GroupOffsets { offsets_partition } => {
                out.extend_from_slice(&offsets_partition.to_be_bytes());
                out.push(GROUP_OFFSET);
            }
            Self::GroupOffsetsOf { offsets_partition, group } => {
                out.extend_from_slice(&offsets_partition.to_be_bytes());
                out.push(GROUP_OFFSET);
                put_text(&mut out, group);
            }
            Self::OffsetsPartition { offsets_partition: partition }
            | Self::TransactionalIds { state_partition: partition } => {
                out.extend_from_slice(&partition.to_be_bytes());
            }
        }
        out
    }

    /// The smallest bytes above every key with this prefix.
    pub fn end(&self) -> Vec<u8> {
        let mut end = self.encode();
        // No prefix consists of 0xff bytes only, so there always is a byte to count up.
        while let Some(last) = end.pop() {
            if last != u8::MAX {
                end.push(last + 1);
                break;
            }
        }
        end
    }
}

fn put_partition(out: &mut Vec<u8>, partition: PartitionId) {
    out.extend_from_slice(&partition.0.to_be_bytes());
}

/// Names are at most 249 bytes (topics) or what fits a Kafka string (groups): i16.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&text.as_bytes()[..usize::from(length)]);
}

/// Reads big-endian values off the front of a slice.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        Some(u8::from_be_bytes(self.array()?))
    }

    fn i32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> Option<i64> {
        Some(i64::from_be_bytes(self.array()?))
    }

    fn partition(&mut self) -> Option<PartitionId> {
        Some(PartitionId(u32::from_be_bytes(self.array()?)))
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::from(u16::from_be_bytes(self.array()?));
        let (head, tail): (&'a [u8], _) = self.0.split_at_checked(length)?;
        self.0 = tail;
        String::from_utf8(head.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of_each() -> Vec<Key> {
        let partition = PartitionId(7);
        let group = || "g".to_owned();
        vec![
            Key::Extent { partition, base_offset: 258 },
            Key::TimeIndex { partition, timestamp: -1 },
            Key::MetaProperties,
            Key::QuorumState,
            Key::NextPartitionId,
            Key::WriteProbe,
            Key::BootId,
            Key::Partition { topic_id: Uuid::from_u128(9), partition: 3 },
            Key::PartitionState { partition },
            Key::Segment { partition, base_offset: 5 },
            Key::LeaderEpoch { partition, epoch: 4 },
            Key::Producer { partition, producer_id: 1_000 },
            Key::AbortedTransaction { partition, last_offset: 70 },
            Key::CleanerCheckpoint { partition },
            Key::CoordinatorView { partition },
            Key::Group { offsets_partition: 49, group: group() },
            Key::GroupOffset { offsets_partition: 49, group: group(), topic: "t".into(), partition: 2 },
            Key::GroupRecord { offsets_partition: 49, group: group(), kind: 5, item: "m".into() },
            Key::PendingOffset {
                offsets_partition: 49,
                producer_id: 7,
                group: group(),
                topic: "t".into(),
                partition: 2,
            },
            Key::TransactionalId { state_partition: 49, transactional_id: "t".into() },
        ]
    }

    #[test]
    fn every_key_reads_back() {
        for key in one_of_each() {
            assert_eq!(Key::decode(&key.encode()), Some(key.clone()), "{key:?}");
            let longer = [key.encode(), vec![0]].concat();
            let is_open_ended =
                matches!(key, Key::Group { .. } | Key::GroupRecord { .. } | Key::TransactionalId { .. });
            if !is_open_ended {
                assert_eq!(Key::decode(&longer), None, "{key:?}");
            }
        }
    }

    #[test]
    fn keys_sort_as_their_numbers_do() {
        let at = |timestamp| Key::TimeIndex { partition: PartitionId(1), timestamp }.encode();
        assert!(at(-1) < at(0) && at(0) < at(1) && at(255) < at(256));
        let extent = |id, base_offset| Key::Extent { partition: PartitionId(id), base_offset }.encode();
        assert!(extent(1, 255) < extent(1, 256) && extent(1, i64::MAX) < extent(2, 0));
    }

    #[test]
    fn a_prefix_covers_its_keys_and_no_others() {
        let partition = PartitionId(0xffff_ffff - 1);
        let prefix = KeyPrefix::ExtentsOf { partition };
        let inside = Key::Extent { partition, base_offset: i64::MAX }.encode();
        let outside = Key::Extent { partition: PartitionId(0xffff_ffff), base_offset: 0 }.encode();
        assert!(prefix.encode() <= inside && inside < prefix.end() && prefix.end() <= outside);
        assert_eq!(KeyPrefix::Producers.end(), vec![b'm', PRODUCER + 1]);
    }
}
