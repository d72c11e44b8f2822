//! What is refused, and with which code: the traps of Produce, one by one.

use super::*;
use crate::error::ErrorCode;
use crate::log::AppendError;
use crate::log::batch::{CONTROL, LOG_APPEND_TIME, TRANSACTIONAL, control_key, set_crc};
use crate::log::compression::Compression;
use crate::storage::Durability;

fn offer(partition: &Arc<Partition>, batch: impl Into<Bytes>) -> Result<Appended, AppendError> {
    partition.append(batch.into(), Origin::Client, Ops::new()).map(|pending| pending.expected())
}

/// A batch with bytes changed, and the checksum made right again.
fn changed(batch: &Bytes, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = batch.to_vec();
    change(&mut bytes);
    set_crc(&mut bytes);
    bytes
}

#[tokio::test]
async fn malformed_batches_are_refused_with_kafkas_codes() {
    use ErrorCode::{CorruptMessage, InvalidRecord, MessageTooLarge};
    let world = World::new();
    let partition = world.partition_with(|config| config.max_message_bytes = 10_000);
    let good = batch(3);
    let set = |at: usize, value: &'static [u8]| {
        changed(&good, |bytes| bytes[at..at + value.len()].copy_from_slice(value))
    };
    let with_crc = |at: usize| {
        let mut bytes = good.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let table: Vec<(&str, Vec<u8>, ErrorCode)> = vec![
        ("nothing", vec![], InvalidRecord),
        ("less than a length", vec![0; 11], InvalidRecord),
        ("half a batch", good[..good.len() - 1].to_vec(), InvalidRecord),
        ("two batches", [&good[..], &good[..]].concat(), InvalidRecord),
        ("magic 1", set(16, &[1]), InvalidRecord),
        ("magic 0", set(16, &[0]), InvalidRecord),
        ("magic 3", set(16, &[3]), CorruptMessage),
        ("negative length", set(8, &[0xff; 4]), CorruptMessage),
        ("a length below any batch", set(8, &[0, 0, 0, 13]), CorruptMessage),
        ("a length below the header", set(8, &[0, 0, 0, 20]), CorruptMessage),
        ("a flipped bit in the checksum", with_crc(17), CorruptMessage),
        ("a flipped bit in the attributes", with_crc(22), CorruptMessage),
        ("a flipped bit in a value", with_crc(good.len() - 2), CorruptMessage),
        ("a base offset", set(7, &[1]), InvalidRecord),
        ("count below the offsets", set(57, &[0, 0, 0, 2]), InvalidRecord),
        ("count above the offsets", set(57, &[0, 0, 0, 4]), InvalidRecord),
        ("count 0", set(57, &[0; 4]), InvalidRecord),
        ("negative count", set(57, &[0xff; 4]), InvalidRecord),
        ("negative last offset", set(23, &[0xff; 4]), InvalidRecord),
        (
            "the largest count",
            {
                changed(&good, |bytes| {
                    bytes[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
                    bytes[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
                })
            },
            InvalidRecord,
        ),
        ("control", set(22, &[0x20]), InvalidRecord),
        ("a producer without sequence", set(43, &[0; 8]), InvalidRecord),
        ("a compression that does not exist", set(22, &[5]), InvalidRecord),
        ("compression where there is none", set(22, &[4]), InvalidRecord),
        ("a record that ends elsewhere", set(61, &[0x7e]), InvalidRecord),
        ("a record of negative size", set(61, &[1]), InvalidRecord),
        ("a key that is too long", set(65, &[0x7e]), InvalidRecord),
        ("no record", BatchBuilder::new().build().to_vec(), InvalidRecord),
        (
            "too large",
            BatchBuilder::new().record(NOW_MS, None, Some(&[0; 10_000])).build().to_vec(),
            MessageTooLarge,
        ),
    ];
    for (name, bytes, code) in table {
        let refused = offer(&partition, bytes).expect_err(name);
        assert_eq!(refused.code, code, "{name}: {:?}", refused.message);
        assert!(refused.record_errors.is_empty(), "{name}");
        assert_eq!(refused.log_start_offset, 0, "{name}");
    }
    assert_eq!(partition.offsets().log_end, 0);
    offer(&partition, good).expect("the unchanged batch");
}

#[tokio::test]
async fn half_a_batch_behind_a_whole_one_is_trimmed() {
    let world = World::new();
    let partition = world.partition();
    let good = batch(3);
    let behind = [&good[..], &good[..good.len() - 1]].concat();
    let appended = partition.append(behind.into(), Origin::Client, Ops::new()).unwrap().await.unwrap();
    assert_eq!(appended.last_offset, 2);
    let stored = read_all(&partition, 0);
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].len(), good.len());
}

#[tokio::test]
async fn every_compression_is_taken_as_it_is() {
    let world = World::new();
    let partition = world.partition();
    for (index, compression) in Compression::ALL.into_iter().enumerate() {
        let sent = BatchBuilder::new()
            .compression(compression)
            .record_with_headers(NOW_MS, Some(b"k"), Some(&[3; 500]), &[("h", Some(b"1")), ("h", None)])
            .record(NOW_MS - 1, None, None)
            .build();
        append(&partition, sent.clone()).await;
        let stored = read_all(&partition, 2 * i64::try_from(index).unwrap());
        assert_eq!(stored[0].bytes()[16..], sent[16..], "only offset and epoch are set");
        let records: Vec<_> = stored[0].records().unwrap().map(Result::unwrap).collect();
        assert_eq!(records[0].value.as_deref(), Some(&[3; 500][..]));
        let headers: Vec<_> = records[0].headers().collect();
        assert_eq!(headers, [("h".into(), Some("1".into())), ("h".into(), None)], "both of one name");
        assert_eq!((records[1].key.clone(), records[1].timestamp), (None, NOW_MS - 1));
        // Whatever is inside is looked at.
        let cut = changed(&sent, |bytes| {
            bytes.truncate(bytes.len() - 3);
            let length = i32::try_from(bytes.len() - 12).unwrap();
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
        });
        let refused = offer(&partition, cut).expect_err("cut");
        assert_eq!(refused.code, ErrorCode::InvalidRecord, "{compression:?}");
    }
}

#[tokio::test]
async fn snappy_without_frames_is_understood() {
    let world = World::new();
    let partition = world.partition();
    let plain = BatchBuilder::new().record(NOW_MS, Some(b"k"), Some(&[3; 500])).build();
    let block = snap::raw::Encoder::new().compress_vec(&plain[61..]).unwrap();
    let mut bytes = [&plain[..61], &block[..]].concat();
    bytes[22] = 2;
    let length = i32::try_from(bytes.len() - 12).unwrap();
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    set_crc(&mut bytes);
    append(&partition, bytes.into()).await;
    let record = read_all(&partition, 0)[0].records().unwrap().next().unwrap().unwrap();
    assert_eq!(record.value.as_deref(), Some(&[3; 500][..]));
}

#[tokio::test]
async fn records_without_keys_are_named_on_a_compacted_topic() {
    let world = World::new();
    let partition = world.partition_with(|config| config.cleanup_policy = vec!["compact".into()]);
    for compression in Compression::ALL {
        let bad = BatchBuilder::new()
            .compression(compression)
            .record(NOW_MS, Some(b"k"), None)
            .record(NOW_MS, None, Some(b"v"))
            .build();
        let refused = offer(&partition, bad).expect_err("no key");
        assert_eq!(refused.code, ErrorCode::InvalidRecord);
        let text = "Compacted topic cannot accept message without key in topic partition t-0";
        assert_eq!(refused.record_errors, [(1, text.to_owned())]);
        let message = refused.message.unwrap();
        assert!(
            message.starts_with("One or more records have been rejected due to 1 record errors"),
            "{message}"
        );
    }
    offer(&partition, BatchBuilder::new().record(NOW_MS, Some(b"k"), None).build()).unwrap();
}

#[tokio::test]
async fn records_out_of_the_time_window_are_named() {
    let world = World::new();
    let partition = world.partition_with(|config| config.message_timestamp_before_max_ms = 1_000);
    let hour_ms = 3_600_000;
    let table = [
        (NOW_MS - 1_000, true),
        (NOW_MS - 1_001, false),
        (NOW_MS + hour_ms, true),
        (NOW_MS + hour_ms + 1, false),
        (i64::MIN, false),
        (i64::MAX, false),
        (-1, true),
    ];
    for (timestamp, is_taken) in table {
        let result = offer(&partition, batch_at(timestamp, 2));
        assert_eq!(result.is_ok(), is_taken, "{timestamp}: {result:?}");
        if let Err(refused) = result {
            assert_eq!(refused.code, ErrorCode::InvalidTimestamp);
            assert_eq!(refused.record_errors.len(), 2);
            assert!(refused.record_errors[1].1.contains("offset 1 is out of range"));
        }
    }
}

#[tokio::test]
async fn the_brokers_time_is_stamped_where_the_topic_wants_it() {
    let world = World::new();
    let partition = world.partition_with(|config| config.message_timestamp_type = "LogAppendTime".into());
    world.clock.advance(5);
    // The producer's time does not matter then, however wrong it is.
    let appended = append(&partition, batch_at(i64::MAX, 2)).await;
    assert_eq!(appended.log_append_time_ms, NOW_MS + 5);
    let stored = &read_all(&partition, 0)[0];
    assert_eq!((stored.max_timestamp(), stored.is_log_append_time()), (NOW_MS + 5, true));
    assert!(stored.crc_matches());
    for record in stored.records().unwrap() {
        assert_eq!(record.unwrap().timestamp, NOW_MS + 5);
    }
}

#[tokio::test]
async fn the_header_says_the_largest_timestamp_and_its_kind_whatever_was_sent() {
    let world = World::new();
    let partition = world.partition();
    let sent = changed(&batch_at(NOW_MS, 1), |bytes| {
        bytes[35..43].copy_from_slice(&7_i64.to_be_bytes());
    });
    append(&partition, sent.into()).await;
    let kind = changed(&batch_at(NOW_MS, 1), |bytes| bytes[22] = LOG_APPEND_TIME.to_be_bytes()[1]);
    append(&partition, kind.into()).await;
    for stored in read_all(&partition, 0) {
        assert_eq!((stored.max_timestamp(), stored.is_log_append_time()), (NOW_MS, false));
        assert!(stored.crc_matches());
    }
}

#[tokio::test]
async fn batches_are_recompressed_where_the_topic_names_a_compression() {
    for (name, target) in [("zstd", Compression::Zstd), ("uncompressed", Compression::None)] {
        let world = World::new();
        let partition = world.partition_with(|config| config.compression_type = name.into());
        for source in Compression::ALL {
            let sent = BatchBuilder::new().compression(source).record(NOW_MS, None, Some(&[1; 900]));
            append(&partition, sent.build()).await;
        }
        for stored in read_all(&partition, 0) {
            assert_eq!(stored.compression(), Some(target));
            assert!(stored.crc_matches());
            let record = stored.records().unwrap().next().unwrap().unwrap();
            assert_eq!(record.value.as_deref(), Some(&[1; 900][..]));
        }
    }
}

#[tokio::test]
async fn the_quorum_may_write_control_batches() {
    let world = World::new();
    let partition = world.partition();
    let control =
        BatchBuilder::new().control().record(NOW_MS, Some(&control_key(2)), Some(b"leader")).build();
    partition.append(control, Origin::Internal, Ops::new()).unwrap().await.unwrap();
    let stored = &read_all(&partition, 0)[0];
    assert_eq!(stored.attributes(), CONTROL);
    let record = stored.records().unwrap().next().unwrap().unwrap();
    assert_eq!(record.key.as_deref(), Some(&[0, 0, 0, 2][..]));
}

/// A batch of an idempotent producer.
fn from(producer: (i64, i16), sequence: i32, count: usize) -> Bytes {
    let builder = BatchBuilder::new().producer(producer.0, producer.1, sequence);
    (0..count).fold(builder, |builder, _| builder.record(NOW_MS, None, Some(b"v"))).build()
}

#[tokio::test]
async fn a_batch_that_is_sent_again_gets_its_first_offset() {
    let mut world = World::new();
    let partition = world.partition();
    // Seven batches of two records: sequences 0 to 13.
    for batch in 0..7 {
        assert_eq!(append(&partition, from((9, 0), batch * 2, 2)).await.base_offset, i64::from(batch) * 2);
    }
    drop(partition);
    for _ in 0..2 {
        let partition = world.partition();
        for batch in 2..7 {
            let again = append(&partition, from((9, 0), batch * 2, 2)).await;
            assert_eq!(again.base_offset, i64::from(batch) * 2, "batch {batch}");
            assert_eq!(again.last_offset, i64::from(batch) * 2 + 1);
        }
        for batch in 0..2 {
            let refused = offer(&partition, from((9, 0), batch * 2, 2)).unwrap_err();
            assert_eq!(refused.code, ErrorCode::OutOfOrderSequenceNumber, "older than five batches");
        }
        assert_eq!(partition.offsets().log_end, 14, "nothing was appended");
        drop(partition);
        world.reopen();
    }
}

#[tokio::test]
async fn sequences_and_epochs_are_checked_as_kafka_does() {
    use ErrorCode::{InvalidProducerEpoch, InvalidTxnState, OutOfOrderSequenceNumber};
    let world = World::new();
    let partition = world.partition();
    let steps: Vec<(&str, Bytes, Result<i64, ErrorCode>)> = vec![
        ("an unknown producer may start anywhere", from((1, 5), 40, 2), Ok(0)),
        ("the next one", from((1, 5), 42, 1), Ok(2)),
        ("a gap", from((1, 5), 44, 1), Err(OutOfOrderSequenceNumber)),
        ("an overlap", from((1, 5), 42, 2), Err(OutOfOrderSequenceNumber)),
        ("an old epoch", from((1, 4), 43, 1), Err(InvalidProducerEpoch)),
        ("a new epoch that does not start at 0", from((1, 6), 43, 1), Err(OutOfOrderSequenceNumber)),
        ("a new epoch", from((1, 6), 0, 1), Ok(3)),
        ("the epoch before", from((1, 5), 43, 1), Err(InvalidProducerEpoch)),
        ("another producer", from((2, 0), 0, 1), Ok(4)),
        ("up to the largest sequence", from((3, 0), i32::MAX - 1, 2), Ok(5)),
        ("and on from 0", from((3, 0), 0, 3), Ok(7)),
        ("a batch across the largest", from((4, 0), i32::MAX, 3), Ok(10)),
        ("sent again", from((4, 0), i32::MAX, 3), Ok(10)),
        ("and the next", from((4, 0), 2, 1), Ok(13)),
        (
            "a transaction that nobody began",
            BatchBuilder::new()
                .producer(7, 0, 0)
                .attributes(TRANSACTIONAL)
                .record(NOW_MS, None, None)
                .build(),
            Err(InvalidTxnState),
        ),
    ];
    for (name, batch, expected) in steps {
        let result = offer(&partition, batch).map(|appended| appended.base_offset);
        assert_eq!(result.map_err(|error| error.code), expected, "{name}");
    }
    let producers = partition.producers();
    let ids: Vec<_> = producers.iter().map(|p| (p.producer_id, p.producer_epoch, p.last_sequence)).collect();
    assert_eq!(ids, [(1, 6, 0), (2, 0, 0), (3, 0, 2), (4, 0, 2)]);
}

#[tokio::test]
async fn silent_producers_are_forgotten() {
    let mut world = World::new();
    let partition = world.partition();
    append(&partition, from((1, 0), 0, 1)).await;
    world.clock.advance(86_400_000 - 1);
    world.logs().apply_retention();
    assert_eq!(partition.producers().len(), 1);
    world.clock.advance(1);
    world.logs().apply_retention();
    assert_eq!(partition.producers().len(), 0);
    append(&partition, from((1, 0), 9, 1)).await;
    drop(partition);
    for left in [1, 0] {
        world.reopen();
        assert_eq!(world.partition().producers().len(), left, "its record is a day old");
        world.logs().apply_retention();
        world.logs().store().commit(Ops::new(), Durability::Process).await.unwrap();
    }
}

#[tokio::test]
async fn levels_of_compression_have_their_effect() {
    let world = World::new();
    // Numbers in words: something is gained by trying harder.
    let value: Vec<u8> = (0..40_000_u32)
        .flat_map(|n| format!("{:x} ", n.wrapping_mul(2_654_435_761) >> 20).into_bytes())
        .collect();
    let size = async |name: &str, level: i32| {
        let partition = world.partition_with(|config| {
            config.compression_type = name.into();
            config.compression_gzip_level = level;
            config.compression_zstd_level = level;
        });
        let batch = BatchBuilder::new().record(NOW_MS, None, Some(&value)).build();
        let offset = append(&partition, batch).await.base_offset;
        let stored = read_all(&partition, offset).remove(0);
        assert_eq!(stored.records().unwrap().next().unwrap().unwrap().value.as_deref(), Some(&value[..]));
        stored.len()
    };
    for (name, fast, slow) in [("gzip", 1, 9), ("zstd", -20, 19)] {
        let (fast, slow) = (size(name, fast).await, size(name, slow).await);
        assert!(slow < fast, "{name}: {slow} and {fast} bytes");
    }
}
