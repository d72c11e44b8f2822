//! Compaction: what is left of a log of a compacted topic, batch by batch.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::time::{Duration, Instant};

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use klamm::clock::Clock;
use klamm::log::batch::{BatchBuilder, BatchView};
use klamm::log::compression::Compression;
use klamm::protocol::messages::FetchRequest;
use protocol_tests::server::{Client, PATIENCE, Server, Topic};

const INVALID_RECORD: i16 = 87;

/// `key=value`, or a key alone for a tombstone.
fn records(builder: BatchBuilder, records: &str) -> BatchBuilder {
    let now_ms = Clock::system().now_ms();
    records.split_whitespace().fold(builder, |builder, record| match record.split_once('=') {
        Some((key, value)) => builder.record(now_ms, Some(key.as_bytes()), Some(value.as_bytes())),
        None => builder.record(now_ms, Some(record.as_bytes()), None),
    })
}

async fn put(client: &mut Client, topic: &Topic, builder: BatchBuilder) {
    assert_eq!(client.produce(9, topic, 0, Some(builder.build())).await.error_code, 0);
}

/// Every batch from an offset on.
async fn read(client: &mut Client, topic: &Topic, offset: i64) -> Vec<BatchView> {
    let wanted = FetchPartition::default()
        .with_fetch_offset(offset)
        .with_current_leader_epoch(-1)
        .with_partition_max_bytes(50_000_000);
    let named = FetchTopic::default().with_partitions(vec![wanted]).with_topic(topic.wire_name());
    let request = FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_bytes(50_000_000)
        .with_min_bytes(1)
        .with_session_epoch(-1)
        .with_topics(vec![named]);
    let answer = client.call(12, &request).await;
    let records = answer.responses.into_iter().next().unwrap().partitions.remove(0).records.unwrap();
    BatchView::all(&records).map(Result::unwrap).collect()
}

/// A batch in words: its offsets, what is special about it, its records.
fn shown(batch: &BatchView) -> String {
    assert!(batch.crc_matches());
    let mut words = vec![format!("{}-{}", batch.base_offset(), batch.last_offset())];
    if batch.producer_id() >= 0 {
        words.push(format!("sequences {}-{}", batch.base_sequence(), batch.last_sequence()));
    }
    let compression = batch.compression().unwrap();
    if compression != Compression::None {
        words.push(format!("{compression:?}"));
    }
    if batch.delete_horizon_ms().is_some() {
        words.push("horizon".to_owned());
    }
    let records = batch.records().unwrap().map(Result::unwrap).map(|record| {
        let key = String::from_utf8_lossy(&record.key.unwrap()).into_owned();
        let value = record.value.map(|value| format!("={}", String::from_utf8_lossy(&value)));
        format!("{}:{key}{}", record.offset, value.unwrap_or_default())
    });
    words.extend(records);
    words.join(" ")
}

#[tokio::test]
async fn the_batches_of_a_compacted_log() {
    let server = if std::env::var("KLAMM_TEST_BOOTSTRAP").is_ok() {
        Server::start().await
    } else {
        Server::with(&[("log.cleaner.backoff.ms", "100")]).await
    };
    let mut client = server.connect().await;
    let configs =
        [("cleanup.policy", "compact"), ("segment.bytes", "1048576"), ("min.cleanable.dirty.ratio", "0.001")];
    let topic = client.create_topic(1, &configs).await;
    let no_key = BatchBuilder::new().record(Clock::system().now_ms(), None, Some(b"v"));
    assert_eq!(client.produce(9, &topic, 0, Some(no_key.build())).await.error_code, INVALID_RECORD);

    let new = BatchBuilder::new;
    put(&mut client, &topic, records(new().producer(4_000, 0, 0), "a=1 b=1 c=1")).await;
    put(&mut client, &topic, records(new().producer(4_000, 0, 3), "a=2 b=2")).await;
    put(&mut client, &topic, records(new().producer(4_001, 0, 0), "a=3 b=3")).await;
    put(&mut client, &topic, records(new(), "a=4 b=4")).await;
    put(&mut client, &topic, records(new().compression(Compression::Zstd), "d=1 a e=1 d=2")).await;
    put(&mut client, &topic, records(new().compression(Compression::Lz4), "b=5 f=1 b=6")).await;
    put(&mut client, &topic, records(new(), "g=1 h=1")).await;
    let filler = "x".repeat(400_000);
    for _ in 0..3 {
        put(&mut client, &topic, records(new(), &format!("filler={filler}"))).await;
    }
    let expected = [
        "0-2 sequences 0-2 2:c=1",
        "3-4 sequences 3-4",
        "5-6 sequences 0-1",
        "9-12 Zstd horizon 10:a 11:e=1 12:d=2",
        "13-15 Lz4 14:f=1 15:b=6",
        "16-17 16:g=1 17:h=1",
    ];
    let began = Instant::now();
    let mut left;
    loop {
        let batches = read(&mut client, &topic, 0).await;
        left = batches.iter().filter(|batch| batch.len() < 1_000).map(shown).collect::<Vec<_>>();
        if left == expected || began.elapsed() > PATIENCE {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(left, expected);
    for (offset, first) in [(1, 0), (3, 3), (5, 5), (7, 9), (13, 13)] {
        assert_eq!(read(&mut client, &topic, offset).await[0].base_offset(), first, "from {offset}");
    }
    server.stop().await;
}
