//! What readers of committed records see of a topic.

use std::collections::BTreeSet;
use std::io;

use bytes::{Buf as _, Bytes};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{FetchRequest, FetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Record, RecordBatchDecoder};

use crate::cluster::client::Routes;

/// In which version [`request`] is sent: the last one that names topics by their names.
pub const FETCH_VERSION: i16 = 12;
const FETCH_BYTES: i32 = 1 << 20;

/// Asks for committed records from an offset on, without waiting for more.
#[must_use]
pub fn request(topic: &str, partition: i32, offset: i64, bytes: i32) -> FetchRequest {
    let asked = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(bytes);
    let name = TopicName(StrBytes::from_string(topic.to_owned()));
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(0)
        .with_min_bytes(0)
        .with_max_bytes(1 << 20)
        .with_isolation_level(1)
        .with_session_epoch(-1)
        .with_topics(vec![FetchTopic::default().with_topic(name).with_partitions(vec![asked])])
}

/// What an answer holds.
#[derive(Debug)]
pub struct Visible {
    /// The records, without markers and without what was aborted.
    pub records: Vec<Record>,
    /// From where on to read next.
    pub next: i64,
    pub last_stable_offset: i64,
    pub high_watermark: i64,
}

/// The committed records of an answer to [`request`] from this offset on, or the partition's error code.
///
/// # Errors
/// When the records can not be read.
pub fn visible(mut response: FetchResponse, from: i64) -> io::Result<Result<Visible, i16>> {
    let mut answer = response.responses.remove(0).partitions.remove(0);
    if answer.error_code != 0 {
        return Ok(Err(answer.error_code));
    }
    let mut aborted: Vec<_> = answer
        .aborted_transactions
        .take()
        .expect("a list for readers of committed records")
        .iter()
        .map(|aborted| (aborted.first_offset, aborted.producer_id.0))
        .collect();
    aborted.sort_unstable();
    let mut aborted = aborted.into_iter().peekable();
    let mut hidden = BTreeSet::new();
    let mut found = Visible {
        records: Vec::new(),
        next: from,
        last_stable_offset: answer.last_stable_offset,
        high_watermark: answer.high_watermark,
    };
    let mut batches = whole_batches(answer.records.take().unwrap_or_default());
    for set in RecordBatchDecoder::decode_all(&mut batches).map_err(io::Error::other)? {
        let Some(last) = set.records.last() else { continue };
        while let Some((_, id)) = aborted.next_if(|(first_offset, _)| *first_offset <= last.offset) {
            hidden.insert(id);
        }
        found.next = found.next.max(last.offset + 1);
        for record in set.records {
            if record.control {
                hidden.remove(&record.producer_id);
            } else if record.offset >= from && !hidden.contains(&record.producer_id) {
                found.records.push(record);
            }
        }
    }
    Ok(Ok(found))
}

/// Without the piece of a batch that Apache Kafka puts at the end where an answer is full.
fn whole_batches(mut records: Bytes) -> Bytes {
    const BASE_OFFSET_AND_LENGTH: usize = 12;
    let mut end = 0;
    while let Some(head) = records.get(end..end + BASE_OFFSET_AND_LENGTH) {
        let length = (&head[8..]).get_u32() as usize;
        let next = end + BASE_OFFSET_AND_LENGTH + length;
        if next > records.len() {
            break;
        }
        end = next;
    }
    records.truncate(end);
    records
}

/// A record with key and value as text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text {
    pub partition: i32,
    pub offset: i64,
    pub key: String,
    pub value: String,
}

/// Everything that is committed in a topic now, partition by partition in order of offsets; `None` where nobody answers
/// now, or there is no such topic.
#[must_use]
pub fn read_all(routes: &mut Routes, topic: &str) -> Option<Vec<Text>> {
    let text = |bytes: Option<Bytes>| String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
    let mut all = Vec::new();
    for partition in routes.partitions(topic)? {
        let index = partition.index;
        let mut connection = routes.leader(topic, index).ok()?;
        let mut position = 0;
        loop {
            let response =
                connection.call(FETCH_VERSION, &request(topic, index, position, FETCH_BYTES)).ok()?;
            let found = visible(response, position).ok()?.ok()?;
            let records = found.records.into_iter().map(|record| Text {
                partition: index,
                offset: record.offset,
                key: text(record.key),
                value: text(record.value),
            });
            all.extend(records);
            if found.next >= found.last_stable_offset || found.next == position {
                break;
            }
            position = found.next;
        }
    }
    Some(all)
}
