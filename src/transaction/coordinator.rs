//! The handle to all transactions of this broker.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI16, Ordering};
use std::sync::{Arc, Weak};

use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::command::{
    Command, EndTransaction, EndedTransaction, InTransaction, InitProducerId, ListedTransaction, Producer,
    Refused, Reply, TransactionFilter,
};
use super::core::{Event, TransactionCore};
use super::journal::{Generation, TransactionJournal};
use super::markers::{self, MarkerSink, Written};
use super::settings::TransactionSettings;
use super::state::Transaction;
use crate::clock::Clock;
use crate::error::{ErrorCode, StorageError};
use crate::log::{LogManager, Partition};
use crate::shard::Shard;
use crate::types::{ProducerId, TopicPartition, coordinator_partition};

/// The longest transactional id that is kept: Kafka's strings end at 32767 bytes.
const TEXT_BYTES_MAX: usize = 32_000;

/// How long the end of a transaction that could not be written down is put off.
const COMPLETE_RETRY_MS: i64 = 100;

/// Where producer ids come from that nobody had before.
pub trait ProducerIdSource: Send + Sync + 'static {
    /// The next one.
    ///
    /// # Errors
    /// While the controller gives none.
    fn next(&self) -> BoxFuture<'static, Result<ProducerId, ErrorCode>>;
}

/// The transaction coordinator (`TransactionCoordinator`): one shard per partition of `__transaction_state` that this
/// broker leads. A shard without transactional ids costs nothing.
pub struct TransactionCoordinator {
    this: Weak<Self>,
    settings: Arc<TransactionSettings>,
    clock: Clock,
    logs: Arc<LogManager>,
    markers: Arc<dyn MarkerSink>,
    producer_ids: Arc<dyn ProducerIdSource>,
    /// The cluster's level of `transaction.version`.
    version: Arc<AtomicI16>,
    led: Mutex<Led>,
    stopped: CancellationToken,
}

/// What this broker coordinates.
#[derive(Default)]
struct Led {
    topic_id: Uuid,
    /// Over how many partitions ids are spread: as many as there were when leading began. Partitions that are added
    /// later count from the next start, as in Kafka: no one may lose what is known of it meanwhile.
    count: i32,
    partitions: BTreeMap<i32, LedPartition>,
    shards: BTreeMap<i32, Shard<TransactionCore>>,
}

struct LedPartition {
    partition: Arc<Partition>,
    /// Counts the transactions of the shard that were completed, and wakes who waits for one.
    completed: watch::Sender<u64>,
}

/// Asks again while the transaction before is being completed, which takes a moment only: a client would wait longer
/// before it does.
struct Patience {
    completed: Option<watch::Receiver<u64>>,
    until_ms: i64,
    retry_ms: i64,
    clock: Clock,
}

impl Patience {
    /// Whether to ask again after this error, once that may help.
    async fn asks_again(&mut self, error: Option<&ErrorCode>) -> bool {
        let now_ms = self.clock.steady_ms();
        let Some(completed) = &mut self.completed else { return false };
        if error != Some(&ErrorCode::ConcurrentTransactions) || now_ms >= self.until_ms {
            return false;
        }
        let again_ms = now_ms.saturating_add(self.retry_ms).min(self.until_ms);
        tokio::select! {
            _ = completed.changed() => {}
            () = self.clock.sleep_until(again_ms) => {}
        }
        true
    }
}

impl TransactionCoordinator {
    /// A coordinator that leads nothing yet.
    pub fn new(
        clock: Clock,
        logs: Arc<LogManager>,
        settings: TransactionSettings,
        markers: Arc<dyn MarkerSink>,
        producer_ids: Arc<dyn ProducerIdSource>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            settings: Arc::new(settings),
            clock,
            logs,
            markers,
            producer_ids,
            version: Arc::default(),
            led: Mutex::default(),
            stopped: CancellationToken::new(),
        })
    }

    /// Makes this broker the coordinator of all transactions: `__transaction_state` exists, with this id and so many
    /// partitions, and their logs are open. Shards with transactional ids start loading, and go on with what was
    /// decided before. Calling it again changes nothing, unless the topic is another one.
    ///
    /// # Errors
    /// When the store can not be read.
    pub fn lead(&self, topic_id: Uuid, partitions: i32) -> Result<(), StorageError> {
        let mut led = self.led.lock();
        if led.topic_id != topic_id {
            led.resign();
        }
        if led.count == 0 {
            led.count = partitions;
        }
        led.topic_id = topic_id;
        for index in 0..partitions {
            if led.partitions.contains_key(&index) {
                continue;
            }
            let Some(partition) = self.logs.get(topic_id, index) else { continue };
            let is_used = !self.journal(&partition).is_empty()?;
            led.partitions.insert(index, LedPartition { partition, completed: watch::Sender::new(0) });
            if is_used {
                self.shard_of(&mut led, index);
            }
        }
        Ok(())
    }

    /// Gives up all transactions, because `__transaction_state` is gone.
    pub fn resign(&self) {
        self.led.lock().resign();
    }

    /// Gives up all transactions for good: the broker stops.
    pub fn stop(&self) {
        self.stopped.cancel();
        self.led.lock().resign();
    }

    /// Whether `__transaction_state` is there.
    pub fn is_leading(&self) -> bool {
        !self.led.lock().partitions.is_empty()
    }

    /// The partition of `__transaction_state` whose leader coordinates the transactional id.
    pub fn partition_for(&self, transactional_id: &str) -> i32 {
        let count = match self.led.lock().count {
            count @ 1.. => count,
            _ => self.settings.state_partitions,
        };
        coordinator_partition(transactional_id, count)
    }

    /// The cluster works at this level of `transaction.version` from now on.
    pub fn set_version(&self, version: i16) {
        if self.version.swap(version, Ordering::Relaxed) == version {
            return;
        }
        let shards: Vec<_> = self.led.lock().shards.values().cloned().collect();
        for shard in shards {
            // A shard that loads meanwhile finds the level by itself.
            tokio::spawn(async move { shard.call(Command::SetVersion(version)).await });
        }
    }

    fn journal(&self, partition: &Arc<Partition>) -> TransactionJournal {
        TransactionJournal::new(
            Arc::clone(partition),
            self.logs.store().clone(),
            Arc::clone(&self.settings),
            Arc::clone(&self.version),
            self.this.clone(),
        )
    }

    fn shard_of(&self, led: &mut Led, index: i32) -> Option<Shard<TransactionCore>> {
        if self.stopped.is_cancelled() {
            return None;
        }
        if let Some(shard) = led.shards.get(&index).filter(|shard| !shard.is_closed()) {
            return Some(shard.clone());
        }
        let partition = &led.partitions.get(&index)?.partition;
        let journal = Arc::new(self.journal(partition));
        let shard = Shard::spawn(partition.name().to_owned(), journal, self.clock.clone());
        led.shards.insert(index, shard.clone());
        Some(shard)
    }

    async fn call(&self, index: i32, command: Command) -> Result<Reply, ErrorCode> {
        let shard = self.shard_of(&mut self.led.lock(), index).ok_or(ErrorCode::NotCoordinator)?;
        shard.call(command).await
    }

    fn shard_for(&self, transactional_id: &str) -> Result<i32, ErrorCode> {
        if transactional_id.is_empty() || transactional_id.len() > TEXT_BYTES_MAX {
            return Err(ErrorCode::InvalidRequest);
        }
        Ok(self.partition_for(transactional_id))
    }

    fn patience(&self, index: i32) -> Patience {
        let completed = self.led.lock().partitions.get(&index).map(|led| led.completed.subscribe());
        let until_ms = self.clock.steady_ms().saturating_add(self.settings.retry_max_ms);
        Patience { completed, until_ms, retry_ms: self.settings.retry_ms, clock: self.clock.clone() }
    }

    /// Asks for a producer, with a new producer id where one is needed.
    async fn producer(
        &self,
        index: i32,
        command: impl Fn(Option<ProducerId>) -> Command,
    ) -> Result<Producer, ErrorCode> {
        let mut fresh = None;
        loop {
            match self.call(index, command(fresh)).await {
                Ok(Reply::Producer(Ok(producer))) => return Ok(producer),
                Ok(Reply::Producer(Err(Refused::NeedsProducerId))) if fresh.is_none() => {
                    fresh = Some(self.producer_ids.next().await?);
                }
                Ok(Reply::Producer(Err(Refused::Code(code)))) => return Err(code),
                other => return Err(unexpected(other)),
            }
        }
    }

    /// InitProducerId with a transactional id.
    ///
    /// # Errors
    /// Kafka's codes.
    pub async fn init(&self, request: InitProducerId) -> Result<Producer, ErrorCode> {
        let index = self.shard_for(&request.transactional_id)?;
        let init = |fresh_producer_id| Command::Init(InitProducerId { fresh_producer_id, ..request.clone() });
        let mut patience = self.patience(index);
        loop {
            let asked = self.producer(index, init).await;
            if !patience.asks_again(asked.as_ref().err()).await {
                return asked;
            }
        }
    }

    /// Makes partitions part of a transaction.
    ///
    /// # Errors
    /// Kafka's codes, `PRODUCER_FENCED` for an older epoch.
    pub async fn add_partitions(&self, request: InTransaction) -> Result<(), ErrorCode> {
        let index = self.shard_for(&request.transactional_id)?;
        let mut patience = self.patience(index);
        loop {
            let asked = match self.call(index, Command::AddPartitions(request.clone())).await {
                Ok(Reply::Added(result)) => result,
                other => Err(unexpected(other)),
            };
            if !patience.asks_again(asked.as_ref().err()).await {
                return asked;
            }
        }
    }

    /// Tells which of these partitions are part of a transaction.
    ///
    /// # Errors
    /// Kafka's codes, where they concern all partitions.
    pub async fn verify_partitions(
        &self,
        request: InTransaction,
    ) -> Result<Vec<(TopicPartition, Option<ErrorCode>)>, ErrorCode> {
        let index = self.shard_for(&request.transactional_id)?;
        match self.call(index, Command::VerifyPartitions(request)).await {
            Ok(Reply::Verified(verified)) => verified,
            other => Err(unexpected(other)),
        }
    }

    /// EndTxn: answered when it is decided; the markers follow.
    ///
    /// # Errors
    /// Kafka's codes.
    pub async fn end(&self, request: EndTransaction) -> Result<Producer, ErrorCode> {
        let index = self.shard_for(&request.transactional_id)?;
        self.producer(index, |fresh_producer_id| {
            Command::End(EndTransaction { fresh_producer_id, ..request.clone() })
        })
        .await
    }

    /// DescribeTransactions, for one transactional id; `None` if it is not known.
    ///
    /// # Errors
    /// Kafka's codes.
    pub async fn describe(&self, transactional_id: Arc<str>) -> Result<Option<Transaction>, ErrorCode> {
        let index = self.shard_for(&transactional_id)?;
        match self.call(index, Command::Describe { transactional_id }).await {
            Ok(Reply::Described(transaction)) => Ok(transaction),
            other => Err(unexpected(other)),
        }
    }

    /// ListTransactions, over all shards.
    ///
    /// # Errors
    /// `COORDINATOR_LOAD_IN_PROGRESS` while a shard can not be read.
    pub async fn list(&self, filter: TransactionFilter) -> Result<Vec<ListedTransaction>, ErrorCode> {
        let mut transactions = Vec::new();
        for reply in self.call_all(|| Command::List(filter.clone())).await {
            match reply {
                Ok(Reply::Listed(some)) => transactions.extend(some),
                // It is another broker's now.
                Err(ErrorCode::NotCoordinator) => {}
                Ok(_) => return Err(ErrorCode::UnknownServerError),
                Err(code) => return Err(code),
            }
        }
        Ok(transactions)
    }

    async fn call_all(&self, command: impl Fn() -> Command) -> Vec<Result<Reply, ErrorCode>> {
        let shards: Vec<_> = self.led.lock().shards.values().cloned().collect();
        join_all(shards.iter().map(|shard| shard.call(command()))).await
    }

    /// Does what follows from an event that is durable.
    pub(super) fn follow(
        self: &Arc<Self>,
        index: i32,
        coordinator_epoch: i32,
        generation: &Generation,
        number: u64,
        event: Event,
    ) {
        let (this, stopped) = (Arc::clone(self), self.stopped.clone());
        let generation = Arc::clone(generation);
        match event {
            Event::WriteMarkers(ended) => {
                tokio::spawn(async move {
                    let done = this.finish(index, coordinator_epoch, &generation, number, &ended);
                    stopped.run_until_cancelled(done).await
                });
            }
            Event::NeedsProducerId { transactional_id, producer } => {
                tokio::spawn(async move {
                    // Without an id the next round tries again.
                    let Ok(fresh_producer_id) = this.producer_ids.next().await else { return };
                    let abort = Command::AbortTimedOut { transactional_id, producer, fresh_producer_id };
                    let _ = this.call(index, abort).await;
                });
            }
            Event::Record(_) | Event::Version(_) => {}
        }
    }

    async fn finish(
        &self,
        index: i32,
        coordinator_epoch: i32,
        generation: &Generation,
        number: u64,
        ended: &EndedTransaction,
    ) {
        let begin = |partition: &TopicPartition, marker: &_| {
            // While this is held, the state that wanted the marker is the one that counts. A marker that came later
            // could end the next transaction.
            let current = generation.lock();
            (*current == number).then(|| self.markers.begin(partition, marker))
        };
        if markers::write(ended, coordinator_epoch, &self.clock, begin).await == Written::GivenUp {
            return;
        }
        let (transactional_id, producer) = (Arc::clone(&ended.transactional_id), ended.producer);
        let complete = Command::Complete { transactional_id, producer };
        while self.call(index, complete.clone()).await.is_err() {
            // A state that was loaded again has the markers written again; without the topic there is none.
            if *generation.lock() != number || !self.is_leading() {
                return;
            }
            self.clock.sleep_until(self.clock.steady_ms().saturating_add(COMPLETE_RETRY_MS)).await;
        }
        if let Some(led) = self.led.lock().partitions.get(&index) {
            led.completed.send_modify(|completed| *completed += 1);
        }
    }
}

/// The code of a reply that is not the expected one.
fn unexpected(reply: Result<Reply, ErrorCode>) -> ErrorCode {
    reply.err().unwrap_or(ErrorCode::UnknownServerError)
}

impl Led {
    fn resign(&mut self) {
        std::mem::take(&mut self.shards).values().for_each(Shard::stop);
        self.partitions.clear();
        self.count = 0;
    }
}

#[cfg(test)]
mod tests;
