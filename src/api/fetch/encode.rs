//! The Fetch response, encoded without copying large record batches: they go to the socket as they came from the
//! store, between the pieces that are written here. The one message that is encoded by hand; a test holds it against
//! the codec of all others.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{Answer, PartitionAnswer, TopicAnswer};
use crate::api::context::Disconnect;
use crate::api::fetch_session::{Instead, TopicKey};
use crate::api::nodes::Node;
use crate::api::request::Encoded;
use crate::protocol::header::{RequestHeader, encode_response_header};

/// Records smaller than this are copied: a piece of their own would cost more than the copy.
const PIECE_BYTES_MIN: usize = 4096;

const FLEXIBLE_FROM: i16 = 12;

/// Encodes the response with its length and its header.
///
/// # Errors
/// Where it is larger than a frame can be.
pub(super) fn response(header: &RequestHeader, answer: &Answer) -> Result<Encoded, Disconnect> {
    let mut out = Writer::new(header.api_version, answer);
    encode_response_header(&mut out.bytes, header.api_key, header.api_version, header.correlation_id);
    out.body(answer);
    out.finish().ok_or_else(|| Disconnect::Unencodable("a Fetch response of more than 2 GiB".to_owned()))
}

/// The pieces of a response: what is written, and records that belong between two of its bytes.
struct Writer {
    version: i16,
    bytes: BytesMut,
    records: Vec<(usize, Bytes)>,
}

impl Writer {
    fn new(version: i16, answer: &Answer) -> Self {
        let per_topic = |topic: &TopicAnswer| {
            let small = |partition: &PartitionAnswer| {
                let records = partition.records.iter().map(Bytes::len);
                128 + records.filter(|bytes| *bytes < PIECE_BYTES_MIN).sum::<usize>()
            };
            64 + topic.partitions.iter().map(small).sum::<usize>()
        };
        let capacity = 64 + answer.topics.iter().map(per_topic).sum::<usize>();
        let mut bytes = BytesMut::with_capacity(capacity);
        // The length, once it is known.
        bytes.put_i32(0);
        Self { version, bytes, records: Vec::new() }
    }

    fn flexible(&self) -> bool {
        self.version >= FLEXIBLE_FROM
    }

    fn body(&mut self, answer: &Answer) {
        // The throttle time: nobody is throttled.
        self.bytes.put_i32(0);
        if self.version >= 7 {
            self.bytes.put_i16(answer.error_code);
            self.bytes.put_i32(answer.session_id);
        }
        self.count(answer.topics.len());
        for topic in &answer.topics {
            self.topic(topic);
        }
        if self.flexible() {
            self.nodes(&answer.nodes);
        }
    }

    fn topic(&mut self, topic: &TopicAnswer) {
        match &topic.topic {
            TopicKey::Id(id) => self.bytes.put_slice(id.as_bytes()),
            TopicKey::Name(name) => self.string(name),
        }
        self.count(topic.partitions.len());
        for partition in &topic.partitions {
            self.partition(partition);
        }
        self.no_tags();
    }

    fn partition(&mut self, partition: &PartitionAnswer) {
        self.bytes.put_i32(partition.index);
        self.bytes.put_i16(partition.error_code);
        self.bytes.put_i64(partition.high_watermark);
        self.bytes.put_i64(partition.last_stable_offset);
        if self.version >= 5 {
            self.bytes.put_i64(partition.log_start_offset);
        }
        match &partition.aborted {
            None => self.null(),
            Some(aborted) => {
                self.count(aborted.len());
                for (producer_id, first_offset) in aborted {
                    self.bytes.put_i64(*producer_id);
                    self.bytes.put_i64(*first_offset);
                    self.no_tags();
                }
            }
        }
        if self.version >= 11 {
            let preferred = match partition.instead {
                Some(Instead::Prefer(id)) => id,
                Some(Instead::Diverging(..) | Instead::Throttled) | None => -1,
            };
            self.bytes.put_i32(preferred);
        }
        // Never null, as librdkafka does not read that.
        self.count(partition.records_bytes());
        for records in &partition.records {
            self.records(records);
        }
        if self.flexible() {
            self.partition_tags(partition);
        }
    }

    fn partition_tags(&mut self, partition: &PartitionAnswer) {
        let diverging = match partition.instead {
            Some(Instead::Diverging(epoch, end)) => Some((epoch, end)),
            Some(Instead::Prefer(_) | Instead::Throttled) | None => None,
        };
        self.uvarint(usize::from(diverging.is_some()) + usize::from(partition.leader.is_some()));
        if let Some((epoch, end)) = diverging {
            self.bytes.put_slice(&[0, 13]);
            self.bytes.put_i32(epoch);
            self.bytes.put_i64(end);
            self.bytes.put_u8(0);
        }
        if let Some(leader) = partition.leader {
            self.bytes.put_slice(&[1, 9]);
            self.bytes.put_i32(leader.id);
            self.bytes.put_i32(leader.epoch);
            self.bytes.put_u8(0);
        }
    }

    fn records(&mut self, records: &Bytes) {
        if records.len() < PIECE_BYTES_MIN {
            self.bytes.put_slice(records);
        } else {
            self.records.push((self.bytes.len(), records.clone()));
        }
    }

    /// Tag 0 of the response, from version 16.
    fn nodes(&mut self, nodes: &[Node]) {
        if self.version < 16 || nodes.is_empty() {
            self.no_tags();
            return;
        }
        let mut tag = Self { version: self.version, bytes: BytesMut::new(), records: Vec::new() };
        tag.count(nodes.len());
        for node in nodes {
            tag.bytes.put_i32(node.id);
            tag.string(&node.host);
            tag.bytes.put_i32(node.port.into());
            match &node.rack {
                Some(rack) => tag.string(rack),
                None => tag.null(),
            }
            tag.no_tags();
        }
        self.bytes.put_slice(&[1, 0]);
        self.uvarint(tag.bytes.len());
        self.bytes.put_slice(&tag.bytes);
    }

    fn string(&mut self, text: &str) {
        if self.flexible() {
            self.uvarint(text.len() + 1);
        } else {
            // Names are those of topics: 249 characters at most.
            self.bytes.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
        }
        self.bytes.put_slice(text.as_bytes());
    }

    /// The length of an array or of bytes.
    fn count(&mut self, count: usize) {
        if self.flexible() {
            self.uvarint(count + 1);
        } else {
            self.bytes.put_i32(i32::try_from(count).unwrap_or(i32::MAX));
        }
    }

    /// A null array or string.
    fn null(&mut self) {
        if self.flexible() { self.bytes.put_u8(0) } else { self.bytes.put_i32(-1) }
    }

    fn no_tags(&mut self) {
        if self.flexible() {
            self.bytes.put_u8(0);
        }
    }

    /// Seven bits a byte, the lowest first.
    fn uvarint(&mut self, mut value: usize) {
        loop {
            let [low, ..] = value.to_le_bytes();
            value >>= 7;
            if value == 0 {
                self.bytes.put_u8(low & 0x7f);
                return;
            }
            self.bytes.put_u8(low | 0x80);
        }
    }

    /// Cuts what was written at the places where records belong.
    fn finish(mut self) -> Option<Encoded> {
        let records: usize = self.records.iter().map(|(_, records)| records.len()).sum();
        let length = i32::try_from(self.bytes.len() - 4 + records).ok()?;
        self.bytes[..4].copy_from_slice(&length.to_be_bytes());
        let mut written = self.bytes.freeze();
        let mut pieces = Vec::with_capacity(2 * self.records.len() + 1);
        let mut cut = 0;
        for (at, records) in self.records {
            pieces.push(written.split_to(at - cut));
            pieces.push(records);
            cut = at;
        }
        pieces.push(written);
        Some(Encoded::from_pieces(pieces))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test")]

    use kafka_protocol::messages::TopicName;
    use kafka_protocol::messages::fetch_response::{
        AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint,
        PartitionData,
    };
    use kafka_protocol::protocol::StrBytes;
    use uuid::Uuid;

    use super::*;
    use crate::api::resolve::CurrentLeader;
    use crate::protocol::messages::FetchResponse;

    fn text(text: &str) -> StrBytes {
        StrBytes::from_string(text.to_owned())
    }

    fn answers() -> Vec<Answer> {
        let partition = |index: i32, records: &[usize]| PartitionAnswer {
            index,
            error_code: 0,
            high_watermark: 9,
            last_stable_offset: 8,
            log_start_offset: 7,
            aborted: (index > 0).then(|| (0..i64::from(index) - 1).map(|i| (i, 100 + i)).collect()),
            records: records.iter().map(|bytes| Bytes::from(vec![0x55; *bytes])).collect(),
            is_at_end: false,
            leader: (index == 2).then_some(CurrentLeader { id: 5, epoch: 6 }),
            instead: match index {
                1 => Some(Instead::Prefer(4)),
                2 | 3 => Some(Instead::Diverging(3, 1_234)),
                _ => None,
            },
            stored_end: 10,
        };
        let rack = [None, Some("a".into())];
        let node = |id: i32| Node {
            id,
            host: "h".repeat(200),
            port: 9092,
            rack: rack[usize::try_from(id).unwrap() % 2].clone(),
            fenced: false,
        };
        let topic = |partitions| TopicAnswer { topic: TopicKey::Name("topic".into()), partitions };
        vec![
            Answer::default(),
            Answer { error_code: 71, session_id: 1234, topics: vec![topic(vec![])], nodes: vec![] },
            Answer {
                error_code: 0,
                session_id: 77,
                topics: vec![
                    topic(vec![
                        partition(0, &[]),
                        partition(1, &[100, 70_000, 5]),
                        partition(2, &[4096, 4096]),
                    ]),
                    topic(vec![partition(3, &[3, 4095]), partition(4, &[1_000_000])]),
                ],
                nodes: vec![node(1), node(2)],
            },
        ]
    }

    /// The same answer as the codec's own type.
    fn reference(answer: &Answer, version: i16) -> FetchResponse {
        let partition = |partition: &PartitionAnswer| {
            let aborted = partition.aborted.as_ref().map(|aborted| {
                let one = |(producer_id, first_offset): &(i64, i64)| {
                    AbortedTransaction::default()
                        .with_producer_id((*producer_id).into())
                        .with_first_offset(*first_offset)
                };
                aborted.iter().map(one).collect()
            });
            let data = PartitionData::default()
                .with_partition_index(partition.index)
                .with_error_code(partition.error_code)
                .with_high_watermark(partition.high_watermark)
                .with_last_stable_offset(partition.last_stable_offset)
                .with_log_start_offset(partition.log_start_offset)
                .with_aborted_transactions(aborted)
                .with_records(Some(partition.records.concat().into()));
            let data = match partition.instead {
                Some(Instead::Prefer(id)) if version >= 11 => data.with_preferred_read_replica(id.into()),
                Some(Instead::Diverging(epoch, end)) if version >= FLEXIBLE_FROM => data
                    .with_diverging_epoch(EpochEndOffset::default().with_epoch(epoch).with_end_offset(end)),
                Some(_) | None => data,
            };
            match partition.leader.filter(|_| version >= FLEXIBLE_FROM) {
                Some(leader) => data.with_current_leader(
                    LeaderIdAndEpoch::default()
                        .with_leader_id(leader.id.into())
                        .with_leader_epoch(leader.epoch),
                ),
                None => data,
            }
        };
        let topic = |topic: &TopicAnswer| {
            let name = match &topic.topic {
                TopicKey::Name(name) => text(name),
                TopicKey::Id(_) => StrBytes::default(),
            };
            let id = match &topic.topic {
                TopicKey::Id(id) => *id,
                TopicKey::Name(_) => Uuid::nil(),
            };
            FetchableTopicResponse::default()
                .with_topic(TopicName(name))
                .with_topic_id(id)
                .with_partitions(topic.partitions.iter().map(partition).collect())
        };
        let node = |node: &Node| {
            NodeEndpoint::default()
                .with_node_id(node.id.into())
                .with_host(text(&node.host))
                .with_port(node.port.into())
                .with_rack(node.rack.as_deref().map(text))
        };
        let nodes = answer.nodes.iter().filter(|_| version >= 16).map(node).collect();
        FetchResponse::default()
            .with_error_code(if version >= 7 { answer.error_code } else { 0 })
            .with_session_id(if version >= 7 { answer.session_id } else { 0 })
            .with_responses(answer.topics.iter().map(topic).collect())
            .with_node_endpoints(nodes)
    }

    #[test]
    fn the_bytes_are_those_of_the_codec_in_every_version() {
        for version in 4..=18 {
            for mut answer in answers() {
                if version >= 13 {
                    for topic in &mut answer.topics {
                        topic.topic = TopicKey::Id(Uuid::from_u128(0x1234_5678));
                    }
                }
                let header =
                    RequestHeader { api_key: 1, api_version: version, correlation_id: 99, client_id: None };
                let ours: Vec<Bytes> = response(&header, &answer).unwrap().into_chunks().collect();
                let theirs: Vec<Bytes> =
                    Encoded::response(&header, &reference(&answer, version)).unwrap().into_chunks().collect();
                assert!(ours.concat() == theirs.concat(), "version {version}");
            }
        }
    }

    #[test]
    fn large_records_are_not_copied() {
        let records = Bytes::from(vec![1; 100_000]);
        let partition = PartitionAnswer {
            records: vec![records.clone()],
            ..PartitionAnswer::error(0, crate::error::ErrorCode::UnknownServerError)
        };
        let topics = vec![TopicAnswer { topic: TopicKey::Name("t".into()), partitions: vec![partition] }];
        let header = RequestHeader { api_key: 1, api_version: 12, correlation_id: 1, client_id: None };
        let encoded = response(&header, &Answer { topics, ..Answer::default() }).unwrap();
        assert!(encoded.into_chunks().any(|chunk| chunk.as_ptr() == records.as_ptr()));
    }
}
