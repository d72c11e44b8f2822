//! Idempotent producers: what each wrote last, so that a batch that is sent again is not appended
//! again, and one that is missing is noticed (Kafka's `ProducerStateManager`,
//! `ProducerAppendInfo`).

use std::collections::{HashMap, VecDeque};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::batch::{BatchView, add_sequence};
use super::types::{ActiveProducer, AppendError, Origin};
use crate::error::ErrorCode;
use crate::types::{Offset, ProducerEpoch, ProducerId, TimestampMs};

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

/// The producers of a partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Producers(HashMap<ProducerId, Producer>);

impl Producers {
    /// Decides what to do with a batch.
    pub(super) fn check(
        &self,
        batch: &BatchView,
        origin: Origin,
        partition: &str,
    ) -> Result<Verdict, AppendError> {
        let id = batch.producer_id();
        if id < 0 || origin == Origin::Internal {
            return Ok(Verdict::Append);
        }
        let known = self.0.get(&id);
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
        if let Some(producer) = known
            && epoch < producer.epoch
        {
            let message = format!(
                "Epoch of producer {id} in {partition} is {epoch}, which is smaller than the last \
                 seen epoch {}",
                producer.epoch
            );
            return Err(AppendError::with(ErrorCode::InvalidProducerEpoch, message));
        }
        let in_transaction = known.is_some_and(|producer| producer.transaction_start.is_some());
        if batch.is_transactional() && !in_transaction && !batch.is_control() {
            let message = "Record was not part of an ongoing transaction";
            return Err(AppendError::with(ErrorCode::InvalidTxnState, message));
        }
        if origin == Origin::Client {
            check_sequence(id, epoch, first, known, partition)?;
        }
        Ok(Verdict::Append)
    }

    /// Remembers a batch that is appended, and answers what is stored of its producer.
    pub(super) fn update(&mut self, batch: &BatchView, base_offset: Offset) -> Option<(ProducerId, Bytes)> {
        let id = batch.producer_id();
        if id < 0 || batch.is_control() {
            return None;
        }
        let epoch = batch.producer_epoch();
        let timestamp = batch.max_timestamp();
        let producer = self.0.entry(id).or_insert_with(|| Producer {
            epoch,
            coordinator_epoch: -1,
            last_timestamp: timestamp,
            transaction_start: None,
            batches: VecDeque::with_capacity(BATCHES),
        });
        if producer.epoch != epoch {
            producer.epoch = epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == BATCHES {
            producer.batches.pop_front();
        }
        let offset_delta = batch.last_offset_delta();
        producer.batches.push_back(KnownBatch {
            last_sequence: batch.last_sequence(),
            last_offset: base_offset + i64::from(offset_delta),
            offset_delta,
            timestamp,
        });
        producer.last_timestamp = timestamp;
        Some((id, encode(producer)))
    }

    /// Takes a producer from the store; `None` where the bytes are none.
    pub(super) fn load(&mut self, id: ProducerId, value: &[u8]) -> Option<()> {
        self.0.insert(id, decode(value)?);
        Some(())
    }

    /// Forgets the producers that wrote nothing for as long as this, and names them.
    pub(super) fn expire(&mut self, now_ms: TimestampMs, expiration_ms: i64) -> Vec<ProducerId> {
        let expired: Vec<_> = self
            .0
            .iter()
            .filter(|(_, producer)| {
                producer.transaction_start.is_none()
                    && now_ms.saturating_sub(producer.last_timestamp) >= expiration_ms
            })
            .map(|(id, _)| *id)
            .collect();
        for id in &expired {
            self.0.remove(id);
        }
        expired
    }

    /// What DescribeProducers says.
    pub(super) fn describe(&self) -> Vec<ActiveProducer> {
        let mut all: Vec<_> = self
            .0
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

fn check_sequence(
    id: ProducerId,
    epoch: ProducerEpoch,
    first: i32,
    known: Option<&Producer>,
    partition: &str,
) -> Result<(), AppendError> {
    // Whoever is not known may start anywhere: what it wrote before may have been deleted.
    let Some(producer) = known else { return Ok(()) };
    let out_of_order = |message| Err(AppendError::with(ErrorCode::OutOfOrderSequenceNumber, message));
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

/// The layout's version.
const VERSION: u8 = 1;
const HEAD_BYTES: usize = 1 + 2 + 4 + 8 + 8;
const BATCH_BYTES: usize = 4 + 8 + 4 + 8;

/// Value of [`crate::storage::Key::Producer`]: version u8, epoch i16, coordinator epoch i32, last
/// timestamp i64, start of the open transaction i64 or -1, and for each batch: last sequence i32,
/// last offset i64, offset delta i32, timestamp i64.
fn encode(producer: &Producer) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_BYTES + BATCHES * BATCH_BYTES);
    out.put_u8(VERSION);
    out.put_i16(producer.epoch);
    out.put_i32(producer.coordinator_epoch);
    out.put_i64(producer.last_timestamp);
    out.put_i64(producer.transaction_start.unwrap_or(-1));
    for batch in &producer.batches {
        out.put_i32(batch.last_sequence);
        out.put_i64(batch.last_offset);
        out.put_i32(batch.offset_delta);
        out.put_i64(batch.timestamp);
    }
    out.freeze()
}

fn decode(mut value: &[u8]) -> Option<Producer> {
    if value.len() < HEAD_BYTES || value.get_u8() != VERSION {
        return None;
    }
    let mut producer = Producer {
        epoch: value.get_i16(),
        coordinator_epoch: value.get_i32(),
        last_timestamp: value.get_i64(),
        transaction_start: Some(value.get_i64()).filter(|offset| *offset >= 0),
        batches: VecDeque::with_capacity(BATCHES),
    };
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
