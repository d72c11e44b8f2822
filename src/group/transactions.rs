//! Offsets that are committed as part of a transaction: they count when its marker says so
//! (`OffsetMetadataManager`: pending transactional offsets).
//!
//! This shard is the only one that writes to its partition of `__consumer_offsets`, so it knows which producer has a
//! transaction there, and it alone decides whether one may begin or end. Before the first offsets of a transaction the
//! transaction coordinator must have been asked. Between its answer and the commit a marker may come; the number of
//! markers so far, which the caller brings back, tells.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::command::{
    CommitTransactionalOffsets, CommittedOffset, DeletedTopic, FetchedTopic, Reply, TopicOutcome,
    TransactionalCommit,
};
use super::core::{Event, GroupCore};
use super::record::{Record, RecordError, decode_offset, offset_value};
use crate::error::ErrorCode;
use crate::log::{ActiveProducer, Marker};
use crate::protocol::wire::{EncodeError, take};
use crate::shard::{Decision, Token};
use crate::storage::Key;
use crate::types::{ProducerEpoch, ProducerId, TimestampMs};

/// Which offset.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OffsetKey {
    pub group_id: Arc<str>,
    pub topic: Arc<str>,
    pub partition: i32,
}

impl OffsetKey {
    /// The offset's record.
    pub(super) fn record(&self, value: Option<CommittedOffset>) -> Record {
        let (group_id, topic) = (Arc::clone(&self.group_id), Arc::clone(&self.topic));
        Record::Offset { group_id, topic, partition: self.partition, value }
    }

    /// Where the view has the offset while a transaction is open.
    pub(super) fn view_key(&self, offsets_partition: i32, producer_id: ProducerId) -> Key {
        let (group, topic) = (self.group_id.to_string(), self.topic.to_string());
        Key::PendingOffset { offsets_partition, producer_id, group, topic, partition: self.partition }
    }
}

/// An offset that no marker has decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingOffset {
    /// Grows with each: a later commit of the same offset wins, whenever the markers come.
    pub number: u64,
    /// `None` where a later commit counts already.
    pub value: Option<CommittedOffset>,
}

impl PendingOffset {
    /// The view's bytes: number u64, and the value of the offset's record where it counts.
    pub(super) fn encode(&self) -> Result<Bytes, EncodeError> {
        let value = self.value.as_ref().map(offset_value).transpose()?.unwrap_or_default();
        let mut out = BytesMut::with_capacity(8 + value.len());
        out.put_u64(self.number);
        out.put_slice(&value);
        Ok(out.freeze())
    }

    /// Reads [`Self::encode`]'s bytes.
    pub(super) fn decode(mut bytes: Bytes) -> Result<Self, RecordError> {
        let number = take(&mut bytes, 8)?.get_u64();
        let value = (!bytes.is_empty()).then(|| decode_offset(bytes)).transpose()?;
        Ok(Self { number, value })
    }
}

/// A change of the transactional offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionEvent {
    /// An offset is committed as part of a transaction. Written to the log.
    Added { producer_id: ProducerId, producer_epoch: ProducerEpoch, key: OffsetKey, pending: PendingOffset },
    /// A later commit of the same offset counts. Written to the view.
    Superseded { producer_id: ProducerId, key: OffsetKey, number: u64 },
    /// The offset is deleted. Written to the view.
    Dropped { producer_id: ProducerId, key: OffsetKey },
    /// A transaction ends: its marker, what is committed by it, and all that is not pending any more. Written to the
    /// log.
    Ended { marker: Marker, committed: Vec<(OffsetKey, CommittedOffset)>, decided: Vec<OffsetKey> },
    /// Producers that were silent for long. Not written.
    Forgotten(Vec<ProducerId>),
}

/// What is known of a producer that wrote transactional offsets here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    coordinator_epoch: i32,
    in_transaction: bool,
    /// The number of the last marker of this producer.
    last_marker: u64,
    seen_ms: TimestampMs,
}

/// The transactional offsets of a shard.
#[derive(Clone, Debug, Default)]
pub struct TransactionalOffsets {
    pending: BTreeMap<OffsetKey, BTreeMap<ProducerId, PendingOffset>>,
    by_producer: BTreeMap<ProducerId, BTreeSet<OffsetKey>>,
    producers: BTreeMap<ProducerId, Producer>,
    next_number: u64,
    markers: u64,
}

impl TransactionalOffsets {
    /// Takes over what the partition knows of its producers. Markers are counted on from the end of the log, which is
    /// behind every marker that was counted before the state was loaded.
    pub(super) fn load_producers(&mut self, producers: &[ActiveProducer], log_end: u64) {
        self.markers = log_end;
        let loaded = |known: &ActiveProducer| {
            let producer = Producer {
                epoch: known.producer_epoch,
                coordinator_epoch: known.coordinator_epoch,
                in_transaction: known.current_transaction_start_offset >= 0,
                last_marker: log_end,
                seen_ms: known.last_timestamp,
            };
            (known.producer_id, producer)
        };
        self.producers = producers.iter().map(loaded).collect();
    }

    /// Whether an offset may still change.
    pub(super) fn is_pending(&self, key: &OffsetKey) -> bool {
        self.pending.contains_key(key)
    }

    /// Whether a group has offsets that may still change.
    pub(super) fn has_group(&self, group_id: &Arc<str>) -> bool {
        self.of_group(group_id).next().is_some()
    }

    fn of_group<'a>(
        &'a self,
        group_id: &'a Arc<str>,
    ) -> impl Iterator<Item = (&'a OffsetKey, &'a BTreeMap<ProducerId, PendingOffset>)> {
        let first = OffsetKey { group_id: Arc::clone(group_id), topic: Arc::default(), partition: i32::MIN };
        self.pending.range(first..).take_while(move |(key, _)| key.group_id == *group_id)
    }

    /// What becomes of pending commits when the offset is committed otherwise.
    pub(super) fn supersede(&self, key: &OffsetKey) -> impl Iterator<Item = Event> {
        let pending = self.pending.get(key).into_iter().flatten();
        let counted = pending.filter(|(_, pending)| pending.value.is_some());
        counted.map(move |(producer_id, pending)| {
            let (key, number) = (key.clone(), pending.number);
            Event::Transaction(TransactionEvent::Superseded { producer_id: *producer_id, key, number })
        })
    }

    /// What becomes of pending commits when the offset is deleted.
    pub(super) fn drop_one(&self, key: &OffsetKey) -> Vec<Event> {
        let producers = self.pending.get(key).into_iter().flat_map(BTreeMap::keys);
        let dropped = |producer_id: &ProducerId| {
            Event::Transaction(TransactionEvent::Dropped { producer_id: *producer_id, key: key.clone() })
        };
        producers.map(dropped).collect()
    }

    /// The pending offsets of a group that is deleted.
    pub(super) fn keys_of_group(&self, group_id: &Arc<str>) -> Vec<OffsetKey> {
        self.of_group(group_id).map(|(key, _)| key.clone()).collect()
    }

    /// The pending offsets of a topic that is deleted.
    pub(super) fn keys_of_topic(&self, deleted: &DeletedTopic) -> Vec<OffsetKey> {
        let gone = |pending: &PendingOffset| {
            let id = pending.value.as_ref().map(|value| value.topic_id).unwrap_or_default();
            id.is_nil() || id == deleted.topic_id
        };
        let of_topic = self.pending.iter().filter(|(key, _)| key.topic == deleted.topic);
        of_topic.filter(|(_, pending)| pending.values().any(gone)).map(|(key, _)| key.clone()).collect()
    }

    /// Marks what may still change in the answer to an OffsetFetch that wants to know.
    pub(super) fn mark_unstable(&self, group_id: &Arc<str>, topics: &mut [FetchedTopic]) {
        for topic in topics {
            for partition in &mut topic.partitions {
                let key = OffsetKey {
                    group_id: Arc::clone(group_id),
                    topic: Arc::clone(&topic.topic),
                    partition: partition.partition,
                };
                if self.is_pending(&key) {
                    partition.offset = -1;
                    partition.leader_epoch = -1;
                    partition.metadata = Arc::default();
                    partition.is_unstable = true;
                }
            }
        }
    }

    /// Producers of which nobody has heard for as long as this.
    pub(super) fn forget(&self, now_ms: TimestampMs, expiration_ms: i64) -> Option<Event> {
        let silent = |producer: &Producer| {
            !producer.in_transaction && now_ms.saturating_sub(producer.seen_ms) >= expiration_ms
        };
        let silent = self.producers.iter().filter(|(_, producer)| silent(producer));
        let silent: Vec<_> = silent.map(|(producer_id, _)| *producer_id).collect();
        (!silent.is_empty()).then_some(Event::Transaction(TransactionEvent::Forgotten(silent)))
    }

    fn check_commit(&self, request: &CommitTransactionalOffsets) -> Result<Verified, ErrorCode> {
        let known = self.producers.get(&request.producer_id);
        let epoch = request.producer_epoch;
        if known.is_some_and(|known| epoch < known.epoch) {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if known.is_some_and(|known| known.in_transaction && known.epoch == epoch) {
            return Ok(Verified::Yes);
        }
        let Some(markers) = request.verified_at else { return Ok(Verified::Not) };
        // The marker of the transaction before has the epoch of this one where epochs grow.
        let is_next = |known: &Producer| request.supports_epoch_bump && known.epoch == epoch;
        if known.is_some_and(|known| known.last_marker > markers && !is_next(known)) {
            return Err(ErrorCode::InvalidTxnState);
        }
        Ok(Verified::Yes)
    }

    fn check_marker(&self, marker: &Marker) -> Result<(), ErrorCode> {
        self.producers
            .get(&marker.producer_id)
            .map_or(Ok(()), |known| marker.check(known.epoch, known.coordinator_epoch, known.in_transaction))
    }

    /// Takes over a pending offset. Who wrote it is known from the partition.
    pub(super) fn load(&mut self, producer_id: ProducerId, key: OffsetKey, pending: PendingOffset) {
        self.next_number = self.next_number.max(pending.number + 1);
        self.by_producer.entry(producer_id).or_default().insert(key.clone());
        self.pending.entry(key).or_default().insert(producer_id, pending);
    }

    pub(super) fn replay(&mut self, event: &TransactionEvent) {
        match event {
            TransactionEvent::Added { producer_id, producer_epoch, key, pending } => {
                let seen_ms = pending.value.as_ref().map_or(0, |value| value.commit_timestamp_ms);
                let producer = self.producers.entry(*producer_id).or_insert_with(|| Producer {
                    epoch: *producer_epoch,
                    coordinator_epoch: -1,
                    in_transaction: true,
                    last_marker: 0,
                    seen_ms,
                });
                producer.epoch = *producer_epoch;
                producer.in_transaction = true;
                producer.seen_ms = producer.seen_ms.max(seen_ms);
                self.load(*producer_id, key.clone(), pending.clone());
            }
            TransactionEvent::Superseded { producer_id, key, .. } => {
                let pending = self.pending.get_mut(key).and_then(|pending| pending.get_mut(producer_id));
                if let Some(pending) = pending {
                    pending.value = None;
                }
            }
            TransactionEvent::Dropped { producer_id, key } => self.remove(*producer_id, key),
            TransactionEvent::Ended { marker, decided, .. } => {
                self.markers += 1;
                let producer = Producer {
                    epoch: marker.producer_epoch,
                    coordinator_epoch: marker.coordinator_epoch,
                    in_transaction: false,
                    last_marker: self.markers,
                    seen_ms: self.producers.get(&marker.producer_id).map_or(0, |known| known.seen_ms),
                };
                self.producers.insert(marker.producer_id, producer);
                for key in decided {
                    self.remove(marker.producer_id, key);
                }
            }
            TransactionEvent::Forgotten(producers) => {
                for producer_id in producers {
                    self.producers.remove(producer_id);
                }
            }
        }
    }

    /// What has to be found again, whatever the numbers are: each offset's commits in their order.
    #[cfg(test)]
    pub(super) fn lasting(&self) -> String {
        let in_order = |pending: &BTreeMap<ProducerId, PendingOffset>| {
            let mut pending: Vec<_> = pending.iter().collect();
            pending.sort_by_key(|(_, pending)| pending.number);
            let commits = pending.into_iter().map(|(producer_id, pending)| (*producer_id, &pending.value));
            format!("{:?}", commits.collect::<Vec<_>>())
        };
        let offsets = self.pending.iter().map(|(key, pending)| format!("{key:?}: {}", in_order(pending)));
        offsets.collect::<Vec<_>>().join("\n")
    }

    fn remove(&mut self, producer_id: ProducerId, key: &OffsetKey) {
        if let Some(pending) = self.pending.get_mut(key) {
            pending.remove(&producer_id);
            if pending.is_empty() {
                self.pending.remove(key);
            }
        }
        if let Some(keys) = self.by_producer.get_mut(&producer_id) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_producer.remove(&producer_id);
            }
        }
    }
}

/// Whether the transaction coordinator knows of a transaction.
enum Verified {
    Yes,
    /// It is to be asked.
    Not,
}

impl GroupCore {
    /// TxnOffsetCommit.
    pub(super) fn commit_transactional_offsets(
        &self,
        now_ms: TimestampMs,
        token: Token,
        request: CommitTransactionalOffsets,
    ) -> Decision<Self> {
        let reply = |result| Decision::reply(token, Reply::CommitTransactionalOffsets(result));
        match self.transactional.check_commit(&request) {
            Ok(Verified::Yes) => {}
            Ok(Verified::Not) => {
                return reply(Ok(TransactionalCommit::AskCoordinator(self.transactional.markers)));
            }
            Err(code) => return reply(Err(code)),
        }
        let (producer_id, producer_epoch) = (request.producer_id, request.producer_epoch);
        let offsets = request.offsets;
        let allowed = match self.groups.get(&offsets.group_id) {
            Some(group) => group.validate_transactional_commit(&offsets),
            None if offsets.generation_id < 0 => Ok(()),
            None => Err(ErrorCode::IllegalGeneration),
        };
        if let Err(code) = allowed {
            return reply(Err(code));
        }
        let mut events = Vec::new();
        let mut number = self.transactional.next_number;
        let mut outcomes = Vec::with_capacity(offsets.topics.len());
        for topic in offsets.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for committed in topic.partitions {
                let partition = committed.partition;
                let too_large = self.is_metadata_too_large(&committed);
                partitions.push((partition, too_large.then_some(ErrorCode::OffsetMetadataTooLarge)));
                if too_large {
                    continue;
                }
                // The topic's id is not kept in these, as in Kafka.
                let value = CommittedOffset::new(committed, now_ms, -1, uuid::Uuid::nil());
                let (group_id, topic) = (Arc::clone(&offsets.group_id), Arc::clone(&topic.topic));
                let key = OffsetKey { group_id, topic, partition };
                let pending = PendingOffset { number, value: Some(value) };
                let added = TransactionEvent::Added { producer_id, producer_epoch, key, pending };
                events.push(Event::Transaction(added));
                number += 1;
            }
            outcomes.push(TopicOutcome { topic: topic.topic, topic_id: topic.topic_id, partitions });
        }
        let mut decision = reply(Ok(TransactionalCommit::Done(outcomes)));
        decision.events = events;
        decision
    }

    /// Ends a producer's transaction in this shard: what it committed counts, or is forgotten.
    pub(super) fn end_transaction(&self, token: Token, marker: Marker) -> Decision<Self> {
        if let Err(code) = self.transactional.check_marker(&marker) {
            return Decision::reply(token, Reply::EndTransaction(Err(code)));
        }
        let mut decision = Decision::reply(token, Reply::EndTransaction(Ok(())));
        decision.events = self.ended(marker);
        decision
    }

    /// What a marker does.
    pub(super) fn ended(&self, marker: Marker) -> Vec<Event> {
        let mut events = Vec::new();
        let keys = self.transactional.by_producer.get(&marker.producer_id);
        let decided: Vec<_> = keys.into_iter().flatten().cloned().collect();
        let mut committed = Vec::new();
        for key in decided.iter().filter(|_| marker.is_commit) {
            let Some(pending) = self.transactional.pending.get(key) else { continue };
            let Some(own) = pending.get(&marker.producer_id) else { continue };
            let Some(value) = own.value.clone() else { continue };
            // Commits of other transactions that were written before this one do not count any more.
            let earlier =
                pending.iter().filter(|(_, other)| other.number < own.number && other.value.is_some());
            events.extend(earlier.map(|(producer_id, other)| {
                let (producer_id, number) = (*producer_id, other.number);
                Event::Transaction(TransactionEvent::Superseded { producer_id, key: key.clone(), number })
            }));
            committed.push((key.clone(), value));
        }
        let ended = TransactionEvent::Ended { marker, committed, decided };
        events.push(Event::Transaction(ended));
        events
    }

    /// What a record of the log does that somebody else wrote, or this broker before its state was lost: the same as
    /// the decision that it came from. `producer` wrote it in a transaction.
    pub(super) fn replayed(
        &self,
        record: Record,
        producer: Option<(ProducerId, ProducerEpoch)>,
    ) -> Vec<Event> {
        let Record::Offset { group_id, topic, partition, value } = &record else {
            return vec![Event::Record(record)];
        };
        let (group_id, topic, partition) = (Arc::clone(group_id), Arc::clone(topic), *partition);
        let key = OffsetKey { group_id, topic, partition };
        let mut events: Vec<_> = match (value, producer) {
            (Some(value), Some((producer_id, producer_epoch))) => {
                let number = self.transactional.next_number;
                let pending = PendingOffset { number, value: Some(value.clone()) };
                let added = TransactionEvent::Added { producer_id, producer_epoch, key, pending };
                return vec![Event::Transaction(added)];
            }
            (Some(_), None) => self.transactional.supersede(&key).collect(),
            (None, _) => self.transactional.drop_one(&key),
        };
        events.push(Event::Record(record));
        events
    }
}
