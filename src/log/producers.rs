//! Idempotent and transactional producers: what each wrote last, so that a batch that is sent again
//! is not appended again, one that is missing is noticed, and one of a transaction that nobody
//! coordinates is refused (Kafka's `ProducerStateManager`, `ProducerAppendInfo`).

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::batch::{BatchView, add_sequence};
use super::compaction::LastRecord;
use super::transactions::{AbortedTransaction, Marker, Transactions};
use super::types::{ActiveProducer, AppendError, Origin};
use super::verification::{GuardNumber, Verifications};
use crate::error::ErrorCode;
use crate::storage::{Key, Ops};
use crate::types::{Offset, PartitionId, ProducerEpoch, ProducerId, TimestampMs};

/// How many batches are remembered. Producers have no more requests than these in flight.
const BATCHES: usize = 5;

/// A batch that was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KnownBatch {
    last_sequence: i32,
    pub(super) last_offset: Offset,
    offset_delta: i32,
    pub(super) timestamp: TimestampMs,
}

impl KnownBatch {
    fn of(batch: &BatchView, base_offset: Offset) -> Self {
        let offset_delta = batch.last_offset_delta();
        Self {
            last_sequence: batch.last_sequence(),
            last_offset: base_offset + i64::from(offset_delta),
            offset_delta,
            timestamp: batch.max_timestamp(),
        }
    }

    fn first_sequence(&self) -> i32 {
        match self.last_sequence.checked_sub(self.offset_delta) {
            Some(first @ 0..) => first,
            // The numbers started again at 0 within the batch.
            _ => i32::MAX - (self.offset_delta - self.last_sequence) + 1,
        }
    }

    pub(super) fn base_offset(&self) -> Offset {
        self.last_offset - i64::from(self.offset_delta)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    coordinator_epoch: i32,
    last_timestamp: TimestampMs,
    transaction_start: Option<Offset>,
    /// Where the first batch or marker stands that is known of it, 0 where that was not kept.
    since: Offset,
    /// The last transaction that ended: where it starts, and its marker. It starts with an earlier one where that one's
    /// marker was not below the high watermark yet.
    ended: Option<(Offset, Offset)>,
    batches: VecDeque<KnownBatch>,
}

/// What a batch is to its producer's earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is new, or has no producer id.
    Append,
    /// It is there already.
    Duplicate(KnownBatch),
}

/// The producers of a partition, and their transactions.
#[derive(Clone, Debug, Default)]
pub(super) struct Producers {
    by_id: HashMap<ProducerId, Producer>,
    pub(super) transactions: Transactions,
    pub(super) verifications: Verifications,
}

impl Producers {
    /// Decides what to do with a batch. `guard` says that the coordinator knows of its transaction.
    pub(super) fn check(
        &self,
        batch: &BatchView,
        origin: Origin,
        guard: Option<GuardNumber>,
        partition: &str,
    ) -> Result<Verdict, AppendError> {
        let id = batch.producer_id();
        if id < 0 || origin.is_trusted() {
            return Ok(Verdict::Append);
        }
        let known = self.by_id.get(&id);
        let epoch = batch.producer_epoch();
        let (first, last) = (batch.base_sequence(), batch.last_sequence());
        if let Some(producer) = known
            && origin == Origin::Client
            && producer.epoch == epoch
        {
            let same = |known: &&KnownBatch| known.first_sequence() == first && known.last_sequence == last;
            if let Some(known) = producer.batches.iter().find(same) {
                return Ok(Verdict::Duplicate(*known));
            }
        }
        self.check_epoch(id, epoch, partition)?;
        let begins = batch.is_transactional() && !self.has_ongoing_transaction(id, epoch);
        if begins && !self.verifications.allows(id, guard) {
            let message = "Record was not part of an ongoing transaction";
            return Err(AppendError::with(ErrorCode::InvalidTxnState, message));
        }
        if origin == Origin::Client {
            self.check_sequence(id, epoch, first, partition)?;
        }
        let in_transaction = known.is_some_and(|producer| producer.transaction_start.is_some());
        if in_transaction && !batch.is_transactional() {
            let message = format!("Expected transactional write from producer {id} in partition {partition}");
            return Err(AppendError::with(ErrorCode::InvalidTxnState, message));
        }
        Ok(Verdict::Append)
    }

    fn check_sequence(
        &self,
        id: ProducerId,
        epoch: ProducerEpoch,
        first: i32,
        partition: &str,
    ) -> Result<(), AppendError> {
        let known = self.by_id.get(&id);
        let out_of_order = |message| Err(AppendError::with(ErrorCode::OutOfOrderSequenceNumber, message));
        if let Some(guard) = self.verifications.guard(id) {
            // A producer of the newer protocol starts each transaction with a new epoch, and at 0.
            let has_written = known.is_some_and(|producer| !producer.batches.is_empty());
            if guard.supports_epoch_bump && first != 0 && !has_written {
                return out_of_order(format!(
                    "Invalid sequence number for producer {id} in partition {partition}: {first} (incoming \
                     seq. number). Expected sequence 0 for transactions v2 idempotent producer with no \
                     existing state."
                ));
            }
            if first > guard.lowest_sequence {
                return out_of_order(format!(
                    "Out of order sequence number for producer {id} in partition {partition}: {first} \
                     (incoming seq. number), {} (earliest seen sequence)",
                    guard.lowest_sequence
                ));
            }
        }
        // Whoever is not known may start anywhere: what it wrote before may have been deleted.
        let Some(producer) = known else { return Ok(()) };
        if producer.epoch != epoch {
            if first == 0 {
                return Ok(());
            }
            return out_of_order(format!(
                "Invalid sequence number for new epoch of producer {id} in partition {partition}: \
                 {epoch} (request epoch), {first} (seq. number), {} (current producer epoch)",
                producer.epoch
            ));
        }
        let last = producer.batches.back().map_or(-1, |batch| batch.last_sequence);
        let expected = if last == -1 { 0 } else { add_sequence(last, 1) };
        if first == expected {
            return Ok(());
        }
        out_of_order(format!(
            "Out of order sequence number for producer {id} in partition {partition}: {first} \
             (incoming seq. number), {last} (current end sequence number)"
        ))
    }

    /// Refuses a producer that another one with its id has fenced.
    pub(super) fn check_epoch(
        &self,
        id: ProducerId,
        epoch: ProducerEpoch,
        partition: &str,
    ) -> Result<(), AppendError> {
        match self.by_id.get(&id) {
            Some(producer) if epoch < producer.epoch => {
                let message = format!(
                    "Epoch of producer {id} in {partition} is {epoch}, which is smaller than the last \
                     seen epoch {}",
                    producer.epoch
                );
                Err(AppendError::with(ErrorCode::InvalidProducerEpoch, message))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether the producer has records without a marker here. Under a newer epoch its transaction
    /// may have ended elsewhere, so that epoch has none.
    pub(super) fn has_ongoing_transaction(&self, id: ProducerId, epoch: ProducerEpoch) -> bool {
        let producer = self.by_id.get(&id);
        producer.is_some_and(|producer| producer.transaction_start.is_some() && producer.epoch == epoch)
    }

    /// Decides whether a marker may end the producer's transaction.
    pub(super) fn check_marker(&self, marker: &Marker, partition: &str) -> Result<(), AppendError> {
        let Some(producer) = self.by_id.get(&marker.producer_id) else { return Ok(()) };
        let in_transaction = producer.transaction_start.is_some();
        marker.check(producer.epoch, producer.coordinator_epoch, in_transaction).map_err(|code| {
            let Marker { producer_id: id, producer_epoch, coordinator_epoch, transaction_version, .. } =
                marker;
            let message = if code == ErrorCode::InvalidProducerEpoch {
                format!(
                    "Epoch of producer {id} in {partition} is {producer_epoch}, which is {} the last seen \
                     epoch {} (TV{transaction_version})",
                    if *transaction_version >= 2 { "<=" } else { "<" },
                    producer.epoch
                )
            } else {
                format!(
                    "Invalid coordinator epoch for producerId {id} in partition {partition}: \
                     {coordinator_epoch} (zombie), {} (current)",
                    producer.coordinator_epoch
                )
            };
            AppendError::with(code, message)
        })
    }

    /// Remembers a batch that is appended, and writes what is stored of it.
    pub(super) fn update(
        &mut self,
        batch: &BatchView,
        base_offset: Offset,
        partition: PartitionId,
        ops: &mut Ops,
    ) {
        let producer_id = batch.producer_id();
        if producer_id < 0 {
            return;
        }
        let producer = if batch.is_control() {
            let Some(marker) = Marker::of(batch) else { return };
            self.end_transaction(&marker, base_offset, batch.max_timestamp(), partition, ops)
        } else {
            self.add_batch(batch, base_offset)
        };
        ops.put(&Key::Producer { partition, producer_id }, producer);
        if batch.is_transactional() {
            self.verifications.appended(producer_id, batch.producer_epoch(), batch.is_control());
        }
    }

    fn producer(
        by_id: &mut HashMap<ProducerId, Producer>,
        id: ProducerId,
        epoch: ProducerEpoch,
        offset: Offset,
    ) -> &mut Producer {
        let producer = by_id.entry(id).or_insert_with(|| Producer {
            epoch,
            coordinator_epoch: -1,
            last_timestamp: -1,
            transaction_start: None,
            since: offset,
            ended: None,
            batches: VecDeque::with_capacity(BATCHES),
        });
        if producer.epoch != epoch {
            producer.epoch = epoch;
            producer.batches.clear();
        }
        producer
    }

    fn add_batch(&mut self, batch: &BatchView, base_offset: Offset) -> Bytes {
        let (id, timestamp) = (batch.producer_id(), batch.max_timestamp());
        let producer = Self::producer(&mut self.by_id, id, batch.producer_epoch(), base_offset);
        if producer.batches.len() == BATCHES {
            producer.batches.pop_front();
        }
        producer.batches.push_back(KnownBatch::of(batch, base_offset));
        producer.last_timestamp = timestamp;
        if batch.is_transactional() && producer.transaction_start.is_none() {
            producer.transaction_start = Some(base_offset);
            self.transactions.begin(base_offset, id);
        }
        encode(producer)
    }

    fn end_transaction(
        &mut self,
        marker: &Marker,
        offset: Offset,
        timestamp: TimestampMs,
        partition: PartitionId,
        ops: &mut Ops,
    ) -> Bytes {
        let Marker { producer_id, producer_epoch, .. } = *marker;
        let producer = Self::producer(&mut self.by_id, producer_id, producer_epoch, offset);
        producer.coordinator_epoch = marker.coordinator_epoch;
        producer.last_timestamp = timestamp;
        // A marker without records before it says nothing to readers.
        if let Some(first_offset) = producer.transaction_start.take() {
            let earlier = producer.ended.filter(|(first, _)| self.transactions.is_unreplicated(*first));
            producer.ended = Some((earlier.map_or(first_offset, |(first, _)| first), offset));
            let last_stable = self.transactions.end(first_offset, offset);
            if !marker.is_commit {
                let producer_id = marker.producer_id;
                let aborted =
                    AbortedTransaction { producer_id, first_offset, last_offset: offset, last_stable };
                self.transactions.add_aborted(&aborted, partition, ops);
            }
        }
        encode(producer)
    }

    /// Takes a producer from the store; `None` where the bytes are none.
    pub(super) fn load(&mut self, id: ProducerId, value: &[u8]) -> Option<()> {
        let producer = decode(value)?;
        if let Some(first_offset) = producer.transaction_start {
            self.transactions.begin(first_offset, id);
        }
        if let Some((first_offset, marker)) = producer.ended {
            self.transactions.load_ended(first_offset, marker);
        }
        self.by_id.insert(id, producer);
        Some(())
    }

    /// Forgets the producers that wrote nothing for as long as this, and names them.
    pub(super) fn expire(&mut self, now_ms: TimestampMs, expiration_ms: i64) -> Vec<ProducerId> {
        let expired: Vec<_> = self
            .by_id
            .iter()
            .filter(|(_, producer)| {
                producer.transaction_start.is_none()
                    && now_ms.saturating_sub(producer.last_timestamp) >= expiration_ms
            })
            .map(|(id, _)| *id)
            .collect();
        for id in &expired {
            self.by_id.remove(id);
        }
        self.verifications.expire(now_ms, expiration_ms);
        expired
    }

    /// The last thing that each producer wrote.
    pub(super) fn last_records(&self) -> HashMap<ProducerId, LastRecord> {
        let last_record = |producer: &Producer| LastRecord {
            data_offset: producer.batches.back().map(|batch| batch.last_offset),
            epoch: producer.epoch,
        };
        self.by_id.iter().map(|(id, producer)| (*id, last_record(producer))).collect()
    }

    /// What follows from the log, without what only tells how it came to be.
    #[cfg(test)]
    pub(super) fn facts(&self) -> std::collections::BTreeMap<ProducerId, String> {
        let fact = |(id, producer): (&ProducerId, &Producer)| {
            let producer = Producer { coordinator_epoch: 0, since: 0, ended: None, ..producer.clone() };
            (*id, format!("{producer:?}"))
        };
        self.by_id.iter().map(fact).collect()
    }

    /// What DescribeProducers says.
    pub(super) fn count(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn describe(&self) -> Vec<ActiveProducer> {
        let mut all: Vec<_> = self
            .by_id
            .iter()
            .map(|(id, producer)| ActiveProducer {
                producer_id: *id,
                producer_epoch: producer.epoch,
                last_sequence: producer.batches.back().map_or(-1, |batch| batch.last_sequence),
                last_timestamp: producer.last_timestamp,
                coordinator_epoch: producer.coordinator_epoch,
                current_transaction_start_offset: producer.transaction_start.unwrap_or(-1),
            })
            .collect();
        all.sort_unstable_by_key(|producer| producer.producer_id);
        all
    }
}

/// Producers whose last batches are taken back, while the log is read backwards for what they wrote before.
#[derive(Debug, Default)]
pub(super) struct Rebuilding {
    producers: HashMap<ProducerId, Rebuilt>,
    /// How many are not known well enough yet.
    open: usize,
}

#[derive(Debug)]
struct Rebuilt {
    /// `None` as long as nothing was seen.
    producer: Option<Producer>,
    since: Offset,
    /// What is remembered of them that stays, should the log not have it any more.
    remembered: Option<Producer>,
    coordinator_epoch: i32,
    has_batches: bool,
    has_transaction: bool,
}

impl Rebuilt {
    fn is_done(&self) -> bool {
        self.has_batches && self.has_transaction
    }

    /// What is known now. Of what was deleted at the log's start, what was remembered counts.
    fn into_producer(self) -> Option<Producer> {
        let (mut producer, remembered) = match (self.producer, self.remembered) {
            (Some(producer), Some(remembered)) => (producer, remembered),
            (producer, remembered) => return producer.or(remembered),
        };
        if remembered.epoch == producer.epoch {
            let first = producer.batches.front().map_or(Offset::MAX, |batch| batch.last_offset);
            let older = remembered.batches.iter().rev().filter(|batch| batch.last_offset < first);
            for batch in older.take(BATCHES - producer.batches.len()) {
                producer.batches.push_front(*batch);
            }
            if let (Some(start), Some(earlier)) = (producer.transaction_start, remembered.transaction_start) {
                producer.transaction_start = Some(start.min(earlier));
            }
        }
        Some(producer)
    }

    fn see(&mut self, batch: &BatchView) {
        let (epoch, since, coordinator_epoch) = (batch.producer_epoch(), self.since, self.coordinator_epoch);
        let producer = self.producer.get_or_insert_with(|| Producer {
            epoch,
            coordinator_epoch,
            last_timestamp: batch.max_timestamp(),
            transaction_start: None,
            since,
            ended: None,
            batches: VecDeque::with_capacity(BATCHES),
        });
        // What was written with an older epoch is not remembered.
        self.has_batches |= epoch != producer.epoch;
        if batch.is_control() {
            self.has_transaction |= Marker::of(batch).is_some();
            return;
        }
        if !self.has_batches {
            producer.batches.push_front(KnownBatch::of(batch, batch.base_offset()));
            self.has_batches = producer.batches.len() == BATCHES;
        }
        if !self.has_transaction {
            match batch.is_transactional() {
                true => producer.transaction_start = Some(batch.base_offset()),
                false => self.has_transaction = true,
            }
        }
    }
}

impl Rebuilding {
    /// Whether the log need not be read further back.
    pub(super) fn is_done(&self) -> bool {
        self.open == 0
    }

    /// Looks at a batch that stays; from the last to the first.
    pub(super) fn see(&mut self, batch: &BatchView) {
        let Some(rebuilt) = self.producers.get_mut(&batch.producer_id()) else { return };
        if rebuilt.is_done() || batch.base_offset() < rebuilt.since {
            return;
        }
        rebuilt.see(batch);
        // Before this one there is nothing that was known.
        if rebuilt.is_done() || batch.base_offset() <= rebuilt.since {
            (rebuilt.has_batches, rebuilt.has_transaction) = (true, true);
            self.open -= 1;
        }
    }
}

impl Producers {
    /// Begins to find out how these producers were when the log ended at `end`.
    pub(super) fn rebuilding(&self, end: Offset, affected: HashSet<ProducerId>) -> Rebuilding {
        let mut rebuilding = Rebuilding::default();
        for id in affected {
            let known = self.by_id.get(&id);
            // One that has expired since it wrote is not known now, and was new or unknown before.
            let since = known.map_or(Offset::MAX, |producer| producer.since);
            let is_new = since >= end;
            let remembered = known.map(|producer| {
                let mut producer = producer.clone();
                producer.batches.retain(|batch| batch.last_offset < end);
                producer.transaction_start = producer.transaction_start.filter(|start| *start < end);
                producer
            });
            let remembered = remembered.filter(|producer| !is_new && !producer.batches.is_empty());
            let rebuilt = Rebuilt {
                producer: None,
                since,
                remembered,
                // Fences what came before, also if the marker that brought it is taken back.
                coordinator_epoch: known.map_or(-1, |producer| producer.coordinator_epoch),
                has_batches: is_new,
                has_transaction: is_new,
            };
            rebuilding.open += usize::from(!is_new);
            rebuilding.producers.insert(id, rebuilt);
        }
        rebuilding
    }

    /// Forgets everybody. Those who wait for their coordinator still do.
    pub(super) fn forget(&mut self) {
        let verifications = std::mem::take(&mut self.verifications);
        *self = Self { verifications, ..Self::default() };
    }

    /// Takes back what was written at `end` or behind it.
    pub(super) fn take_back(
        &mut self,
        rebuilding: Rebuilding,
        end: Offset,
        partition: PartitionId,
        ops: &mut Ops,
    ) {
        self.transactions.truncate(end, partition, ops);
        for (producer_id, rebuilt) in rebuilding.producers {
            let key = Key::Producer { partition, producer_id };
            let ended = self.by_id.get(&producer_id).and_then(|producer| producer.ended);
            match rebuilt.into_producer() {
                Some(mut producer) => {
                    producer.ended = ended.and_then(|(first, _)| self.transactions.ended(first));
                    ops.put(&key, encode(&producer));
                    self.by_id.insert(producer_id, producer);
                }
                None => {
                    ops.delete(&key);
                    self.by_id.remove(&producer_id);
                }
            }
        }
        for (id, producer) in &self.by_id {
            if let Some(first_offset) = producer.transaction_start {
                self.transactions.begin(first_offset, *id);
            }
        }
    }
}

/// The layout's version.
const VERSION: u8 = 2;
/// The one before, which has no `since`.
const VERSION_WITHOUT_SINCE: u8 = 1;
const HEAD_BYTES: usize = 1 + 2 + 4 + 8 + 8;
const BATCH_BYTES: usize = 4 + 8 + 4 + 8;

/// Value of [`crate::storage::Key::Producer`]: version u8, epoch i16, coordinator epoch i32, last
/// timestamp i64, start of the open transaction i64 or -1, and since version 2 the first offset that is known
/// of it i64, the last transaction that ended as start i64 and marker i64 or -1; then for each batch: last sequence i32,
/// last offset i64, offset delta i32, timestamp i64.
fn encode(producer: &Producer) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_BYTES + 24 + BATCHES * BATCH_BYTES);
    out.put_u8(VERSION);
    out.put_i16(producer.epoch);
    out.put_i32(producer.coordinator_epoch);
    out.put_i64(producer.last_timestamp);
    out.put_i64(producer.transaction_start.unwrap_or(-1));
    out.put_i64(producer.since);
    let (first, marker) = producer.ended.unwrap_or((-1, -1));
    out.put_i64(first);
    out.put_i64(marker);
    for batch in &producer.batches {
        out.put_i32(batch.last_sequence);
        out.put_i64(batch.last_offset);
        out.put_i32(batch.offset_delta);
        out.put_i64(batch.timestamp);
    }
    out.freeze()
}

fn decode(mut value: &[u8]) -> Option<Producer> {
    if value.len() < HEAD_BYTES {
        return None;
    }
    let version = value.get_u8();
    let mut producer = Producer {
        epoch: value.get_i16(),
        coordinator_epoch: value.get_i32(),
        last_timestamp: value.get_i64(),
        transaction_start: Some(value.get_i64()).filter(|offset| *offset >= 0),
        since: 0,
        ended: None,
        batches: VecDeque::with_capacity(BATCHES),
    };
    match version {
        VERSION => {
            producer.since = value.try_get_i64().ok()?;
            let (first, marker) = (value.try_get_i64().ok()?, value.try_get_i64().ok()?);
            producer.ended = (first >= 0).then_some((first, marker));
        }
        VERSION_WITHOUT_SINCE => {}
        _ => return None,
    }
    while !value.is_empty() {
        if value.len() < BATCH_BYTES || producer.batches.len() == BATCHES {
            return None;
        }
        producer.batches.push_back(KnownBatch {
            last_sequence: value.get_i32(),
            last_offset: value.get_i64(),
            offset_delta: value.get_i32(),
            timestamp: value.get_i64(),
        });
    }
    Some(producer)
}
