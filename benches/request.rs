//! What the steps of a request cost, one by one: `make bench-micro`.
//!
//! - `produce`: guard and decoding of a Produce request, and the answer's encoding;
//! - `validate`: what is checked of a batch before it is appended (CRC, the walk over its records);
//! - `append`: a partition's append up to the store's answer, through the writer and RocksDB;
//! - `store`: the same without the partition: one atomic write of the store;
//! - `fetch`: guard and decoding of a Fetch request, and a read of the newest batches.
#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{FetchRequest, ProduceRequest, ProduceResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use klamm::clock::Clock;
use klamm::config::TopicConfig;
use klamm::log::batch::{BatchBuilder, BatchView};
use klamm::log::{LogManager, LogSettings, Ops, Origin, Partition, ReadUpTo};
use klamm::protocol::guard;
use klamm::protocol::messages::Body;
use klamm::storage::{Durability, Store, StoreOptions};
use klamm::types::PartitionId;
use uuid::Uuid;

const PRODUCE: (i16, i16) = (0, 9);
const FETCH: (i16, i16) = (1, 12);
const PARTITIONS: i32 = 12;
const RECORD_BYTES: usize = 1024;

/// A batch of records of this size, as a producer sends it.
fn batch(records: usize, record_bytes: usize) -> Bytes {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now_ms = i64::try_from(now.as_millis()).unwrap();
    let value = vec![7; record_bytes];
    let records = (0..records).fold(BatchBuilder::new(), |batch, _| batch.record(now_ms, None, Some(&value)));
    records.build()
}

fn topic_name() -> TopicName {
    TopicName(StrBytes::from_static_str("orders"))
}

fn encoded(message: &impl Body, version: i16) -> Bytes {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes, version).unwrap();
    bytes.freeze()
}

fn produce_request(partitions: i32, batch: &Bytes) -> Bytes {
    let data = |index| PartitionProduceData::default().with_index(index).with_records(Some(batch.clone()));
    let topic = TopicProduceData::default()
        .with_name(topic_name())
        .with_partition_data((0..partitions).map(data).collect());
    encoded(&ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic]), PRODUCE.1)
}

fn fetch_request(partitions: i32) -> Bytes {
    let partition = |index| FetchPartition::default().with_partition(index).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default()
        .with_topic(topic_name())
        .with_partitions((0..partitions).map(partition).collect());
    encoded(&FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![topic]), FETCH.1)
}

fn decode<R: Body>((key, version): (i16, i16), body: &Bytes) -> R {
    guard::check(key, version, body).unwrap();
    R::decode(&mut body.clone(), version).unwrap()
}

fn codec(criterion: &mut Criterion) {
    let small = produce_request(1, &batch(1, 100));
    let large = produce_request(PARTITIONS, &batch(64, RECORD_BYTES));
    for (name, body) in [("produce/decode 1 × 100 B", small), ("produce/decode 12 × 64 KB", large)] {
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| decode::<ProduceRequest>(PRODUCE, black_box(&body)));
        });
    }
    let partitions = (0..PARTITIONS).map(|index| PartitionProduceResponse::default().with_index(index));
    let topic = TopicProduceResponse::default()
        .with_name(topic_name())
        .with_partition_responses(partitions.collect());
    let response = ProduceResponse::default().with_responses(vec![topic]);
    criterion.bench_function("produce/encode the answer for 12", |bencher| {
        bencher.iter(|| encoded(black_box(&response), PRODUCE.1));
    });
    let body = fetch_request(PARTITIONS);
    criterion.bench_function("fetch/decode 12 partitions", |bencher| {
        bencher.iter(|| decode::<FetchRequest>(FETCH, black_box(&body)));
    });
}

fn validation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("validate");
    for (name, records, record_bytes) in [("64 × 1 KB", 64, RECORD_BYTES), ("640 × 100 B", 640, 100)] {
        let bytes = batch(records, record_bytes);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("CRC {name}"), |bencher| {
            bencher.iter(|| assert!(BatchView::first(black_box(&bytes)).unwrap().crc_matches()));
        });
        group.bench_function(format!("records {name}"), |bencher| {
            let view = BatchView::first(&bytes).unwrap();
            bencher.iter(|| black_box(&view).records().unwrap().count());
        });
    }
    group.finish();
}

/// A store in a directory of its own, which goes with it.
struct World {
    runtime: tokio::runtime::Runtime,
    store: Store,
    partition: Arc<Partition>,
    _logs: Arc<LogManager>,
    _directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = StoreOptions { node_id: 1, cluster_id: None };
        let store = Store::open(directory.path(), &options).unwrap();
        let logs = LogManager::open(store.clone(), Clock::system(), LogSettings::default()).unwrap();
        let partition = logs.create("orders", Uuid::from_u128(1), 0, Arc::new(TopicConfig::default()));
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        Self { runtime, store, partition: partition.unwrap(), _logs: logs, _directory: directory }
    }

    fn append(&self, batch: Bytes) {
        let pending = self.partition.append(batch, Origin::Client, Ops::new()).unwrap();
        self.runtime.block_on(pending).unwrap();
    }
}

/// Bytes that nobody else holds, as a frame that was just read.
fn own(batch: &Bytes) -> Bytes {
    Bytes::from(batch.to_vec())
}

fn log(criterion: &mut Criterion) {
    let world = World::new();
    for (name, batch) in [("1 × 100 B", batch(1, 100)), ("64 × 1 KB", batch(64, RECORD_BYTES))] {
        criterion.bench_function(&format!("append/{name}"), |bencher| {
            bencher.iter_batched(|| own(&batch), |batch| world.append(batch), BatchSize::SmallInput);
        });
        criterion.bench_function(&format!("store/{name}"), |bencher| {
            let mut offset = 0;
            bencher.iter(|| {
                let mut ops = Ops::new();
                ops.extent(PartitionId(u32::MAX), offset, batch.clone(), None);
                offset += 1;
                world.store.commit_blocking(ops, Durability::Process).unwrap();
            });
        });
    }
    // The newest of what was appended; the read ends at a megabyte.
    (0..64).for_each(|_| world.append(own(&batch(64, RECORD_BYTES))));
    let from = world.partition.offsets().log_end - 32 * 64;
    criterion.bench_function("fetch/read 1 MB at the tail", |bencher| {
        bencher.iter(|| world.partition.read(from, 1 << 20, true, ReadUpTo::HighWatermark).unwrap().len());
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = codec, validation, log
}
criterion_main!(benches);
