//! Produce: what is refused and how, what the answer says, and the order of everything.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::HashSet;

use bytes::{Buf as _, Bytes, BytesMut};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use klamm::clock::Clock;
use klamm::log::batch::{BatchBuilder, set_crc};
use klamm::log::compression::Compression;
use klamm::protocol::messages::{ApiVersionsRequest, ProduceResponse};
use protocol_tests::server::{Server, Topic, batch, decode_response, produce_request, request_frame, unique};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const CORRUPT_MESSAGE: i16 = 2;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_TOPIC: i16 = 17;
const INVALID_REQUIRED_ACKS: i16 = 21;
const INVALID_TIMESTAMP: i16 = 32;
const OUT_OF_ORDER_SEQUENCE: i16 = 45;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
const UNSUPPORTED_COMPRESSION: i16 = 76;
const INVALID_RECORD: i16 = 87;
const UNKNOWN_TOPIC_ID: i16 = 100;

/// A batch with some of its bytes changed and its checksum made right again.
fn changed(batch: &Bytes, change: impl FnOnce(&mut [u8])) -> Option<Bytes> {
    let mut bytes = BytesMut::from(&batch[..]);
    change(&mut bytes);
    set_crc(&mut bytes);
    Some(bytes.freeze())
}

#[tokio::test]
async fn every_version_appends() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = client.create_topic(1, &[]).await;
    for (version, base_offset) in (3..=13).zip((0..).step_by(2)) {
        let answer = client.produce(version, &topic, 0, Some(batch(&["a", "b"]))).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, base_offset), "version {version}");
        assert_eq!(answer.log_append_time_ms, -1);
        assert_eq!(answer.log_start_offset, if version >= 5 { 0 } else { -1 });
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_single_good_batch_is_refused() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = client.create_topic(1, &[("max.message.bytes", "2000")]).await;
    let good = batch(&["a", "b"]);
    let two = Bytes::from([&good[..], &good[..]].concat());
    let mut bad_crc = BytesMut::from(&good[..]);
    bad_crc[20] ^= 1;
    let large = "x".repeat(3000);
    let zstd = BatchBuilder::new().compression(Compression::Zstd).record(0, None, Some(b"a")).build();
    let cases: Vec<(&str, i16, Option<Bytes>, i16)> = vec![
        ("two batches", 9, Some(two), INVALID_RECORD),
        ("no bytes", 9, Some(Bytes::new()), INVALID_RECORD),
        ("magic 1", 9, changed(&good, |bytes| bytes[16] = 1), INVALID_RECORD),
        ("fewer records than offsets", 9, changed(&good, |bytes| bytes[60] = 1), INVALID_RECORD),
        ("a base offset", 9, changed(&good, |bytes| bytes[7] = 1), INVALID_RECORD),
        ("a control batch", 9, changed(&good, |bytes| bytes[22] |= 0x20), INVALID_RECORD),
        ("a wrong checksum", 9, Some(bad_crc.freeze()), CORRUPT_MESSAGE),
        ("too large", 9, Some(batch(&[&large])), MESSAGE_TOO_LARGE),
        ("zstd in an old version", 6, Some(zstd.clone()), UNSUPPORTED_COMPRESSION),
        ("zstd", 7, Some(zstd), 0),
        ("good", 9, Some(good.clone()), 0),
    ];
    for (what, version, records, code) in cases {
        let answer = client.produce(version, &topic, 0, records).await;
        assert_eq!(answer.error_code, code, "{what}");
        assert_eq!(answer.base_offset == -1, code != 0, "{what}");
    }
    // Apache Kafka never answers null records.
    if server.is_klamm() {
        assert_eq!(client.produce(9, &topic, 0, None).await.error_code, INVALID_RECORD);
    }
    // What follows the batch and is no batch is cut off.
    let trailing = Bytes::from([&good[..], b"\0\0\0"].concat());
    assert_eq!(client.produce(9, &topic, 0, Some(trailing)).await.error_code, 0);
    server.stop().await;
}

#[tokio::test]
async fn refused_records_are_named() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let now_ms = Clock::system().now_ms();
    let compacted = client.create_topic(1, &[("cleanup.policy", "compact")]).await;
    let keyed = BatchBuilder::new()
        .record(now_ms, Some(b"k"), Some(b"v"))
        .record(now_ms, None, Some(b"v"))
        .record(now_ms, None, Some(b"v"))
        .build();
    let answer = client.produce(8, &compacted, 0, Some(keyed.clone())).await;
    assert_eq!(answer.error_code, INVALID_RECORD);
    assert!(answer.error_message.is_some());
    let refused: Vec<_> = answer.record_errors.iter().map(|record| record.batch_index).collect();
    assert_eq!(refused, [1, 2]);
    assert!(answer.record_errors.iter().all(|record| record.batch_index_error_message.is_some()));
    let of_one =
        format!("Compacted topic cannot accept message without key in topic partition {}-0", compacted.name);
    let texts = answer.record_errors.iter().map(|record| record.batch_index_error_message.as_deref());
    assert!(texts.eq([Some(of_one.as_str()); 2]), "{answer:?}");
    let of_all = format!(
        "One or more records have been rejected due to 2 record errors in total, and only showing the first three \
         errors at most: [RecordError(batchIndex=1, message='{of_one}'), RecordError(batchIndex=2, message='{of_one}')]"
    );
    assert_eq!(answer.error_message.as_deref(), Some(of_all.as_str()));
    let answer = client.produce(7, &compacted, 0, Some(keyed)).await;
    assert_eq!((answer.error_code, answer.record_errors.len()), (INVALID_RECORD, 0));

    let topic = client.create_topic(1, &[]).await;
    let future = BatchBuilder::new().record(now_ms + 2 * 3_600_000, None, Some(b"v")).build();
    let answer = client.produce(8, &topic, 0, Some(future)).await;
    assert_eq!(answer.error_code, INVALID_TIMESTAMP);
    let all = "One or more records have been rejected due to invalid timestamp";
    assert_eq!((answer.error_message.as_deref(), answer.record_errors.len()), (Some(all), 1));
    let text = answer.record_errors[0].batch_index_error_message.as_deref().unwrap_or_default();
    let begin = format!("Timestamp {} of message with offset 0 is out of range. ", now_ms + 2 * 3_600_000);
    assert!(text.starts_with(&begin), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn the_time_of_the_broker_is_told_where_it_counts() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = client.create_topic(1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let before_ms = Clock::system().now_ms();
    let answer = client.produce(9, &topic, 0, Some(batch(&["a"]))).await;
    assert_eq!(answer.error_code, 0);
    assert!((before_ms..before_ms + 60_000).contains(&answer.log_append_time_ms), "{answer:?}");
    server.stop().await;
}

#[tokio::test]
async fn unknown_topics_and_partitions_are_told_by_the_way_they_are_named() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = client.create_topic(1, &[]).await;
    let nobody = Topic { name: unique("missing"), id: uuid::Uuid::new_v4() };
    for (version, topic, partition, code) in [
        (12, &nobody, 0, UNKNOWN_TOPIC_OR_PARTITION),
        (13, &nobody, 0, UNKNOWN_TOPIC_ID),
        (12, &topic, 7, UNKNOWN_TOPIC_OR_PARTITION),
        (13, &topic, 7, UNKNOWN_TOPIC_OR_PARTITION),
    ] {
        let answer = client.produce(version, topic, partition, Some(batch(&["a"]))).await;
        assert_eq!(answer.error_code, code, "version {version}");
    }
    server.stop().await;
}

#[tokio::test]
async fn acks_and_transactions_are_checked() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = client.create_topic(1, &[]).await;
    let mut request = produce_request(9, &topic, 0, Some(batch(&["a"])));
    request.acks = 2;
    let answer: ProduceResponse = client.call(9, &request).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, INVALID_REQUIRED_ACKS);
    request.acks = 1;
    let answer: ProduceResponse = client.call(9, &request).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    // A transactional batch needs the name of its transaction.
    let transactional = changed(&batch(&["a"]), |bytes| bytes[22] |= 0x10);
    let answer = client.produce(9, &topic, 0, transactional).await;
    assert_eq!(answer.error_code, TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    server.stop().await;
}

#[tokio::test]
async fn internal_topics_are_written_by_admin_clients_only() {
    let server = Server::start().await;
    if !server.is_klamm() {
        return;
    }
    let mut client = server.connect().await;
    let topic = Topic { name: "__consumer_offsets".to_owned(), id: uuid::Uuid::nil() };
    let metadata = kafka_protocol::messages::metadata_request::MetadataRequestTopic::default()
        .with_name(Some(topic.wire_name()));
    let metadata = klamm::protocol::messages::MetadataRequest::default()
        .with_topics(Some(vec![metadata]))
        .with_allow_auto_topic_creation(true);
    assert_eq!(client.call(4, &metadata).await.topics[0].error_code, 0);
    let answer = client.produce(9, &topic, 0, Some(batch(&["a"]))).await;
    assert_eq!(answer.error_code, INVALID_TOPIC);
    server.stop().await;
}

/// A batch of one record of an idempotent producer.
fn sequenced(producer_id: i64, epoch: i16, sequence: i32) -> Option<Bytes> {
    let builder = BatchBuilder::new().producer(producer_id, epoch, sequence);
    Some(builder.record(Clock::system().now_ms(), None, Some(b"v")).build())
}

#[tokio::test]
async fn the_last_five_batches_of_a_producer_are_not_appended_twice() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = client.create_topic(1, &[]).await;
    let told = |answer: PartitionProduceResponse| (answer.error_code, answer.base_offset);
    for sequence in 0..7 {
        let answer = client.produce(9, &topic, 0, sequenced(4_711, 0, sequence)).await;
        assert_eq!(told(answer), (0, sequence.into()));
    }
    for (epoch, sequence, expected) in [
        (0, 6, (0, 6)),
        (0, 3, (0, 3)),
        (0, 2, (0, 2)),
        (0, 1, (OUT_OF_ORDER_SEQUENCE, -1)),
        (0, 0, (OUT_OF_ORDER_SEQUENCE, -1)),
        (0, 9, (OUT_OF_ORDER_SEQUENCE, -1)),
        (0, 7, (0, 7)),
        // A new epoch starts at 0, and ends the one before it.
        (1, 5, (OUT_OF_ORDER_SEQUENCE, -1)),
        (1, 0, (0, 8)),
        (0, 8, (INVALID_PRODUCER_EPOCH, -1)),
    ] {
        let answer = client.produce(9, &topic, 0, sequenced(4_711, epoch, sequence)).await;
        assert_eq!(told(answer), expected, "epoch {epoch}, sequence {sequence}");
    }
    server.stop().await;
}

#[tokio::test]
async fn without_acks_there_is_silence_or_the_end() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = client.create_topic(1, &[]).await;
    let mut request = produce_request(9, &topic, 0, Some(batch(&["a"])));
    request.acks = 0;
    for correlation_id in 0..3 {
        client.send(9, correlation_id, &request).await;
    }
    // The next answer is that of the next request, which sees what was appended.
    assert_eq!(client.produce(9, &topic, 0, Some(batch(&["b"]))).await.base_offset, 3);
    request.topic_data[0].partition_data[0].index = 9;
    client.send(9, 1, &request).await;
    assert!(client.is_closed().await);
    server.stop().await;
}

#[tokio::test]
async fn pipelined_appends_keep_their_order_and_so_do_their_answers() {
    const REQUESTS: i32 = 500;
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = client.create_topic(1, &[]).await;
    let mut stream = Vec::new();
    let mut add = |frame: Bytes| {
        stream.extend(u32::try_from(frame.len()).unwrap().to_be_bytes());
        stream.extend(frame);
    };
    for number in 0..REQUESTS {
        let value = number.to_string();
        add(request_frame(9, number, &produce_request(9, &topic, 0, Some(batch(&[&value])))));
        if number % 50 == 0 {
            add(request_frame(0, -number, &ApiVersionsRequest::default()));
        }
    }
    client.send_raw(&stream).await;
    let mut offsets = HashSet::new();
    for number in 0..REQUESTS {
        let mut frame = client.receive_frame().await.unwrap();
        assert_eq!(frame.get_i32(), number);
        let answer: ProduceResponse = decode_response(0, 9, frame);
        let answer = &answer.responses[0].partition_responses[0];
        assert_eq!((answer.error_code, answer.base_offset), (0, number.into()));
        assert!(offsets.insert(answer.base_offset));
        if number % 50 == 0 {
            assert_eq!(client.receive_frame().await.unwrap().get_i32(), -number);
        }
    }
    server.stop().await;
}
