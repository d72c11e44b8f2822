//! What a batch must be before it is appended (Kafka's `ProduceRequest.validateRecords`,
//! `UnifiedLog.analyzeAndValidateRecords` and `LogValidator`, in this order).
//!
//! Every record is looked at, compressed ones after decompression, as in Kafka: consumers would
//! stumble over a record that no broker had ever read. One difference: records that can not be
//! decompressed are answered with `INVALID_RECORD`, where Kafka says `UNKNOWN_SERVER_ERROR`.

use bytes::{Bytes, BytesMut};

use super::batch::{
    ATTRIBUTES_AT, BatchView, HEADER_BYTES, LENGTH_PREFIX_BYTES, LOG_APPEND_TIME, MAGIC_AT, MAX_TIMESTAMP_AT,
    set_crc,
};
use super::compression::{Compression, MAX_INFLATED_BYTES, decompress};
use super::settings::LogConfig;
use super::types::{AppendError, Origin};
use super::walk::walk;
use crate::error::ErrorCode;
use crate::types::TimestampMs;

/// A batch that may be appended, as it will be stored but for its offset and leader epoch.
#[derive(Debug)]
pub(super) struct Valid {
    pub(super) batch: BatchView,
    /// The broker's time, where the topic uses it.
    pub(super) log_append_time: Option<TimestampMs>,
}

/// No batch is shorter, in any format (`LegacyRecord.RECORD_OVERHEAD_V0`).
const MIN_LENGTH: i32 = 14;

/// Checks a batch and makes it what the topic wants.
pub(super) fn validate(
    bytes: Bytes,
    origin: Origin,
    config: &LogConfig,
    partition: &str,
    now_ms: TimestampMs,
) -> Result<Valid, AppendError> {
    let batch = only_batch(bytes)?;
    if origin.is_trusted() {
        return Ok(Valid { batch, log_append_time: None });
    }
    let validation = Validation { origin, config, partition, now_ms };
    validation.header(&batch)?;
    let max_timestamp = validation.records(&batch)?;
    let batch = validation.recompress(batch)?;
    Ok(validation.stamp(batch, max_timestamp))
}

/// The length of what stands at the front; `None` where no whole batch does, which is trimmed.
fn next_length(bytes: &[u8]) -> Result<Option<usize>, AppendError> {
    let corrupt = |message| Err(AppendError::with(ErrorCode::CorruptMessage, message));
    let Some(length) = bytes.get(8..LENGTH_PREFIX_BYTES) else { return Ok(None) };
    let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
    if length < MIN_LENGTH {
        return corrupt(format!(
            "Record size {length} is less than the minimum record overhead ({MIN_LENGTH})"
        ));
    }
    let Some(magic) = bytes.get(MAGIC_AT) else { return Ok(None) };
    if *magic > 2 {
        return corrupt(format!("Invalid magic found in record: {}", magic.cast_signed()));
    }
    let total = usize::try_from(length).unwrap_or(usize::MAX - LENGTH_PREFIX_BYTES) + LENGTH_PREFIX_BYTES;
    Ok((total <= bytes.len()).then_some(total))
}

/// Exactly one batch of format v2; half a batch behind it is cut off.
fn only_batch(bytes: Bytes) -> Result<BatchView, AppendError> {
    let invalid = |message: &str| AppendError::with(ErrorCode::InvalidRecord, message);
    let length = next_length(&bytes)?
        .ok_or_else(|| invalid("Produce requests must have at least one record batch per partition"))?;
    if bytes[MAGIC_AT] != 2 {
        return Err(invalid("Produce requests may only hold record batches with magic version 2"));
    }
    if next_length(&bytes[length..])?.is_some() {
        return Err(invalid("Produce requests may only hold exactly one record batch per partition"));
    }
    let corrupt =
        |_| AppendError::with(ErrorCode::CorruptMessage, "Record is corrupt: it is shorter than its header");
    // A slice keeps all of its memory: what is cut off must not stay with it.
    let bytes = if length < bytes.len() / 2 { Bytes::copy_from_slice(&bytes[..length]) } else { bytes };
    BatchView::first(&bytes).map_err(corrupt)
}

struct Validation<'a> {
    origin: Origin,
    config: &'a LogConfig,
    partition: &'a str,
    now_ms: TimestampMs,
}

impl Validation<'_> {
    fn invalid(&self, message: impl std::fmt::Display) -> AppendError {
        let partition = self.partition;
        AppendError::with(ErrorCode::InvalidRecord, format!("{message} in topic partition {partition}"))
    }

    fn header(&self, batch: &BatchView) -> Result<(), AppendError> {
        let is_client = self.origin == Origin::Client;
        if is_client && batch.base_offset() != 0 {
            let base_offset = batch.base_offset();
            return Err(self.invalid(format_args!(
                "The baseOffset of the record batch should be 0, but it is {base_offset}"
            )));
        }
        if batch.len() > self.config.max_message_bytes {
            let message = format!(
                "The record batch size in the append to {} is {} bytes which exceeds the maximum \
                 configured value of {}.",
                self.partition,
                batch.len(),
                self.config.max_message_bytes
            );
            return Err(AppendError::with(ErrorCode::MessageTooLarge, message));
        }
        if !batch.crc_matches() {
            let message = format!(
                "Record is corrupt (stored crc = {}) in topic partition {}.",
                batch.crc(),
                self.partition
            );
            return Err(AppendError::with(ErrorCode::CorruptMessage, message));
        }
        if is_client { self.client_header(batch) } else { Ok(()) }
    }

    fn client_header(&self, batch: &BatchView) -> Result<(), AppendError> {
        let (count, last_offset_delta) = (batch.record_count(), batch.last_offset_delta());
        if last_offset_delta < 0 {
            return Err(
                self.invalid(format_args!("Batch has an invalid offset range: [0, {last_offset_delta}]"))
            );
        }
        if count <= 0 {
            return Err(self.invalid(format_args!("Invalid reported count for record batch: {count}")));
        }
        if i64::from(count) != i64::from(last_offset_delta) + 1 {
            return Err(self.invalid(format_args!(
                "Inconsistent batch offset range [0, {last_offset_delta}] and count of records {count}"
            )));
        }
        if batch.is_control() {
            return Err(self.invalid("Clients are not allowed to write control records"));
        }
        if batch.producer_id() >= 0 && batch.base_sequence() < 0 {
            return Err(self.invalid(format_args!(
                "Invalid sequence number {} in record batch with producerId {}",
                batch.base_sequence(),
                batch.producer_id()
            )));
        }
        Ok(())
    }

    /// Looks at every record; answers the largest timestamp.
    fn records(&self, batch: &BatchView) -> Result<TimestampMs, AppendError> {
        let compression = batch.compression().ok_or_else(|| self.invalid("Unknown compression type"))?;
        let base_timestamp = batch.base_timestamp();
        let append_time = batch.is_log_append_time().then(|| batch.max_timestamp());
        let mut largest = -1;
        let mut refused = Vec::new();
        let mut is_sequential = true;
        let mut bad_timestamp = false;
        walk(compression, batch.body(), batch.record_count(), |index, record| {
            let timestamp =
                append_time.unwrap_or_else(|| base_timestamp.wrapping_add(record.timestamp_delta));
            largest = largest.max(timestamp);
            is_sequential &= record.offset_delta == index;
            if self.config.compacts && !record.has_key {
                let text = format!(
                    "Compacted topic cannot accept message without key in topic partition {}",
                    self.partition
                );
                refused.push((index, text));
            } else if let Some(text) = self.timestamp(timestamp, record.offset_delta, append_time) {
                bad_timestamp = true;
                refused.push((index, text));
            }
        })
        .map_err(|problem| self.invalid(problem))?;
        if !refused.is_empty() {
            return Err(record_errors(refused, bad_timestamp));
        }
        if !is_sequential && compression != Compression::None && !batch.is_control() {
            // Kafka writes such a batch anew; no producer of this format makes one.
            return Err(self.invalid("The records' offsets are not consecutive"));
        }
        Ok(largest)
    }

    /// What is wrong with a record's time, if anything.
    fn timestamp(
        &self,
        timestamp: TimestampMs,
        offset: i32,
        append_time: Option<TimestampMs>,
    ) -> Option<String> {
        let config = self.config;
        if !config.log_append_time && timestamp != -1 {
            let age_ms = self.now_ms.wrapping_sub(timestamp);
            let out_of_range = age_ms > config.timestamp_before_max_ms
                || age_ms.wrapping_neg() > config.timestamp_after_max_ms;
            return out_of_range.then(|| {
                format!(
                    "Timestamp {timestamp} of message with offset {offset} is out of range. \
                     The timestamp should be within [{}, {}]",
                    self.now_ms.wrapping_sub(config.timestamp_before_max_ms),
                    self.now_ms.wrapping_add(config.timestamp_after_max_ms)
                )
            });
        }
        append_time.map(|_| {
            "Invalid timestamp type in message. Producer should not set timestamp type to \
             LogAppendTime."
                .to_owned()
        })
    }

    /// Compresses the records as the topic wants them, if the producer did not.
    fn recompress(&self, batch: BatchView) -> Result<BatchView, AppendError> {
        let Some(target) = self.config.compression else { return Ok(batch) };
        let Some(source) = batch.compression() else { return Ok(batch) };
        if source == target || (source == Compression::None && batch.is_control()) {
            return Ok(batch);
        }
        let records =
            decompress(source, batch.body(), MAX_INFLATED_BYTES).map_err(|problem| self.invalid(problem))?;
        let body = target.compress_at(self.config.compression_level, &records);
        let length = i32::try_from(HEADER_BYTES - LENGTH_PREFIX_BYTES + body.len());
        let length = length.map_err(|_| self.too_large_now(usize::MAX))?;
        let mut rebuilt = BytesMut::with_capacity(HEADER_BYTES + body.len());
        rebuilt.extend_from_slice(&batch.bytes()[..HEADER_BYTES]);
        rebuilt.extend_from_slice(&body);
        rebuilt[8..LENGTH_PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
        let attributes = (batch.attributes() & !0b111) | target.id();
        rebuilt[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
        set_crc(&mut rebuilt);
        if rebuilt.len() > self.config.max_message_bytes {
            return Err(self.too_large_now(rebuilt.len()));
        }
        BatchView::first(&rebuilt.freeze()).map_err(|problem| self.invalid(problem))
    }

    fn too_large_now(&self, bytes: usize) -> AppendError {
        let message = format!(
            "Message batch size is {bytes} bytes in append to partition {} which exceeds the \
             maximum configured size of {}.",
            self.partition, self.config.max_message_bytes
        );
        AppendError::with(ErrorCode::MessageTooLarge, message)
    }

    /// Writes the timestamp type and the largest timestamp into the header, where they differ.
    fn stamp(&self, batch: BatchView, max_timestamp: TimestampMs) -> Valid {
        let log_append_time = self.config.log_append_time.then_some(self.now_ms);
        let max_timestamp = log_append_time.unwrap_or(max_timestamp);
        if batch.is_log_append_time() == log_append_time.is_some() && batch.max_timestamp() == max_timestamp {
            return Valid { batch, log_append_time };
        }
        let kind = if log_append_time.is_some() { LOG_APPEND_TIME } else { 0 };
        let attributes = (batch.attributes() & !LOG_APPEND_TIME) | kind;
        let mut bytes = into_mut(batch.into_bytes());
        bytes[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
        bytes[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&max_timestamp.to_be_bytes());
        set_crc(&mut bytes);
        Valid { batch: BatchView::trusted(bytes.freeze()), log_append_time }
    }
}

/// The bytes to write to: the same memory if nobody else reads it.
pub(super) fn into_mut(bytes: Bytes) -> BytesMut {
    bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]))
}

fn record_errors(refused: Vec<(i32, String)>, bad_timestamp: bool) -> AppendError {
    let (code, message) = if bad_timestamp {
        let text = "One or more records have been rejected due to invalid timestamp";
        (ErrorCode::InvalidTimestamp, text.to_owned())
    } else {
        let shown: Vec<String> = refused
            .iter()
            .take(3)
            .map(|(index, text)| format!("RecordError(batchIndex={index}, message='{text}')"))
            .collect();
        let text = format!(
            "One or more records have been rejected due to {} record errors in total, and only \
             showing the first three errors at most: [{}]",
            refused.len(),
            shown.join(", ")
        );
        (ErrorCode::InvalidRecord, text)
    };
    AppendError { record_errors: refused, ..AppendError::with(code, message) }
}
