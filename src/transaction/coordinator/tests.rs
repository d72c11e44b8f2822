#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::atomic::{AtomicI64, AtomicU64};

use super::*;
use crate::config::TopicConfig;
use crate::log::{LogSettings, Marker, OffsetQuery};
use crate::storage::{Store, StoreOptions};
use crate::transaction::markers::WrittenMarker;
use crate::transaction::state::TransactionState;
use uuid::Uuid;

const STATE: Uuid = Uuid::from_u128(1);
const NOW_MS: i64 = 1_700_000_000_000;

/// Partitions that take markers, or keep them waiting.
#[derive(Default)]
struct Sink {
    holds: bool,
    refuses: AtomicU64,
    asked: Mutex<Vec<(TopicPartition, Marker)>>,
}

impl MarkerSink for Sink {
    fn begin(&self, partition: &TopicPartition, marker: &Marker) -> Result<WrittenMarker, ErrorCode> {
        self.asked.lock().push((partition.clone(), *marker));
        if self.refuses.load(Ordering::SeqCst) > 0 {
            self.refuses.fetch_sub(1, Ordering::SeqCst);
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        if self.holds {
            return Ok(Box::pin(std::future::pending()));
        }
        Ok(Box::pin(std::future::ready(Ok(()))))
    }
}

#[derive(Default)]
struct Ids(AtomicI64);

impl ProducerIdSource for Ids {
    fn next(&self) -> BoxFuture<'static, Result<ProducerId, ErrorCode>> {
        let id = self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::ready(Ok(id)))
    }
}

/// `__transaction_state`, all of whose partitions are led, in epoch 0.
fn all_led(partition_count: i32) -> CoordinatorTopic {
    let led = (0..partition_count).map(|index| (index, 0)).collect();
    CoordinatorTopic { id: STATE, partition_count, led }
}

/// A broker's life: its store, its clock, its coordinator.
struct Life {
    clock: Clock,
    sink: Arc<Sink>,
    coordinator: Arc<TransactionCoordinator>,
    logs: Arc<LogManager>,
}

impl Life {
    fn begin(directory: &std::path::Path, sink: Sink) -> Self {
        let clock = Clock::virtual_at(NOW_MS);
        let store = Store::open(directory, &StoreOptions { node_id: 1, cluster_id: None }).unwrap();
        let logs = LogManager::open(store, clock.clone(), LogSettings::default()).unwrap();
        logs.create("__transaction_state", STATE, 0, Arc::new(TopicConfig::default())).unwrap();
        let sink = Arc::new(sink);
        let markers: Arc<dyn MarkerSink> = Arc::clone(&sink) as _;
        let coordinator = TransactionCoordinator::new(
            clock.clone(),
            Arc::clone(&logs),
            TransactionSettings::default(),
            markers,
            Arc::<Ids>::default(),
        );
        coordinator.set_version(2);
        coordinator.lead(&all_led(1));
        Self { clock, sink, coordinator, logs }
    }

    async fn init(&self) -> Producer {
        let request = InitProducerId {
            transactional_id: "p".into(),
            timeout_ms: 60_000,
            expected: None,
            fresh_producer_id: None,
        };
        self.coordinator.init(request).await.unwrap()
    }

    async fn add(&self, producer: Producer) -> Result<(), ErrorCode> {
        let request = InTransaction {
            transactional_id: "p".into(),
            producer,
            partitions: vec![TopicPartition { topic: "orders".into(), partition: 3 }],
            client_version: 2,
        };
        self.coordinator.add_partitions(request).await
    }

    async fn commit(&self, producer: Producer) -> Result<Producer, ErrorCode> {
        let request = EndTransaction {
            transactional_id: "p".into(),
            producer,
            is_commit: true,
            client_version: 2,
            fresh_producer_id: None,
        };
        self.coordinator.end(request).await
    }

    async fn wait_for(&self, state: TransactionState) {
        loop {
            let described = self.coordinator.describe("p".into()).await.unwrap();
            if described.unwrap().state == state {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// As `kill -9` does: nobody is told.
    async fn end(self) {
        self.coordinator.stop();
        let logs = Arc::downgrade(&self.logs);
        drop((self.coordinator, self.logs));
        while logs.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_commit_that_was_answered_is_carried_out_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let life = Life::begin(directory.path(), Sink { holds: true, ..Sink::default() });
    let producer = life.init().await;
    life.add(producer).await.unwrap();
    let next = life.commit(producer).await.unwrap();
    assert_eq!((next.id, next.epoch), (producer.id, producer.epoch + 1));
    life.wait_for(TransactionState::PrepareCommit).await;
    life.end().await;

    let life = Life::begin(directory.path(), Sink::default());
    life.wait_for(TransactionState::CompleteCommit).await;
    let asked = life.sink.asked.lock().clone();
    let [(partition, marker)] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!(partition.to_string(), "orders-3");
    assert!(marker.is_commit);
    assert_eq!((marker.producer_id, marker.producer_epoch), (producer.id, next.epoch));
    assert_eq!(marker.transaction_version, 2);
    assert_eq!(life.commit(producer).await, Ok(next), "the answer may have been lost");
    life.add(next).await.unwrap();
    life.end().await;
}

#[tokio::test]
async fn markers_are_written_again_until_they_are_taken() {
    let directory = tempfile::tempdir().unwrap();
    let sink = Sink { refuses: AtomicU64::new(3), ..Sink::default() };
    let life = Life::begin(directory.path(), sink);
    let producer = life.init().await;
    life.add(producer).await.unwrap();
    life.commit(producer).await.unwrap();
    while life.sink.asked.lock().len() < 4 {
        life.clock.advance(50);
        tokio::task::yield_now().await;
    }
    life.wait_for(TransactionState::CompleteCommit).await;
    assert_eq!(life.sink.asked.lock().len(), 4);
    life.end().await;
}

#[tokio::test]
async fn a_transaction_that_is_open_for_too_long_is_aborted_on_the_brokers_clock() {
    let directory = tempfile::tempdir().unwrap();
    let life = Life::begin(directory.path(), Sink::default());
    let producer = life.init().await;
    life.add(producer).await.unwrap();
    life.clock.advance(60_000);
    life.wait_for(TransactionState::Ongoing).await;
    life.clock.advance(10_001);
    life.wait_for(TransactionState::CompleteAbort).await;
    assert!(!life.sink.asked.lock()[0].1.is_commit);
    assert_eq!(life.add(producer).await, Err(ErrorCode::ProducerFenced));
    let end = life.logs.get(STATE, 0).unwrap().offset_for(OffsetQuery::LogEnd).unwrap().unwrap();
    assert_eq!(end.offset, 4, "begun, ongoing, aborting, aborted");
    life.end().await;
}

#[tokio::test]
async fn partitions_that_are_added_move_no_transactional_id_while_the_broker_runs() {
    let directory = tempfile::tempdir().unwrap();
    let life = Life::begin(directory.path(), Sink::default());
    life.coordinator.lead(&all_led(60));
    assert_eq!(life.coordinator.partition_for("t"), 0, "the only partition that there was");
}
