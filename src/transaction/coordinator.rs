//! The handle to all transactions of this broker.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI16, Ordering};
use std::sync::{Arc, Weak};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

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
use crate::error::ErrorCode;
use crate::log::LogManager;
use crate::shard::{CoordinatorTopic, Led, RecentTimes, Shard, ShardOptions};
use crate::types::{ProducerId, TopicPartition};

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
    clock: Clock,
    settings: Arc<TransactionSettings>,
    logs: Arc<LogManager>,
    markers: Arc<dyn MarkerSink>,
    producer_ids: Arc<dyn ProducerIdSource>,
    /// The cluster's level of `transaction.version`.
    version: Arc<AtomicI16>,
    led: Led<TransactionCore>,
    load_times: Arc<RecentTimes>,
    /// Counts the transactions of a partition that were completed, and wakes who waits for one.
    completed: Mutex<BTreeMap<i32, watch::Sender<u64>>>,
    stopped: CancellationToken,
}

/// Asks again while the transaction before is being completed, which takes a moment only: a client would wait longer
/// before it does.
struct Patience {
    completed: watch::Receiver<u64>,
    until_ms: i64,
    retry_ms: i64,
    clock: Clock,
}

impl Patience {
    /// Whether to ask again after this error, once that may help.
    async fn asks_again(&mut self, error: Option<&ErrorCode>) -> bool {
        let now_ms = self.clock.steady_ms();
        if error != Some(&ErrorCode::ConcurrentTransactions) || now_ms >= self.until_ms {
            return false;
        }
        let again_ms = now_ms.saturating_add(self.retry_ms).min(self.until_ms);
        tokio::select! {
            _ = self.completed.changed() => {}
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
        let (settings, version) = (Arc::new(settings), Arc::<AtomicI16>::default());
        let load_times = Arc::<RecentTimes>::default();
        let loads = Arc::clone(&load_times);
        Arc::new_cyclic(|this: &Weak<Self>| {
            let (this, store) = (this.clone(), logs.store().clone());
            let (told, level, ticks) = (Arc::clone(&settings), Arc::clone(&version), clock.clone());
            let led = Led::new(settings.state_partitions, move |partition, leader_epoch| {
                let journal = TransactionJournal::new(
                    Arc::clone(partition),
                    leader_epoch,
                    store.clone(),
                    Arc::clone(&told),
                    Arc::clone(&level),
                    this.clone(),
                );
                let write_timeout_ms = told.write_timeout_ms;
                let load_times = Arc::clone(&loads);
                let options =
                    ShardOptions { name: partition.name().to_owned(), write_timeout_ms, load_times };
                Shard::spawn(options, Arc::new(journal), ticks.clone())
            });
            let completed = Mutex::default();
            let stopped = CancellationToken::new();
            Self {
                clock,
                settings,
                logs,
                markers,
                producer_ids,
                version,
                led,
                load_times,
                completed,
                stopped,
            }
        })
    }

    /// Coordinates the transactional ids of these partitions of `__transaction_state`, and no others, from now on: see
    /// [`Led::lead`]. What was decided before is gone on with.
    pub fn lead(&self, topic: &CoordinatorTopic) {
        self.led.lead(topic, |index| self.logs.get(topic.id, index).filter(|log| log.is_leader()));
    }

    /// Gives up all transactions, because `__transaction_state` is gone.
    pub fn resign(&self) {
        self.led.resign();
    }

    /// Gives up all transactions for good: the broker stops.
    pub fn stop(&self) {
        self.stopped.cancel();
        self.led.stop();
    }

    /// The partition of `__transaction_state` whose leader coordinates the transactional id.
    pub fn partition_for(&self, transactional_id: &str) -> i32 {
        self.led.partition_for(transactional_id)
    }

    /// How long its shards took to load.
    pub fn load_times(&self) -> &RecentTimes {
        &self.load_times
    }

    /// How many partitions of `__transaction_state` this broker leads.
    pub fn led_partitions(&self) -> usize {
        self.led.partition_count()
    }

    /// The cluster works at this level of `transaction.version` from now on.
    pub fn set_version(&self, version: i16) {
        if self.version.swap(version, Ordering::Relaxed) == version {
            return;
        }
        for shard in self.led.shards() {
            // A shard that loads meanwhile finds the level by itself.
            tokio::spawn(async move { shard.call(Command::SetVersion(version)).await });
        }
    }

    fn shard_for(&self, transactional_id: &str) -> Result<i32, ErrorCode> {
        if transactional_id.is_empty() || transactional_id.len() > TEXT_BYTES_MAX {
            return Err(ErrorCode::InvalidRequest);
        }
        Ok(self.partition_for(transactional_id))
    }

    fn patience(&self, index: i32) -> Patience {
        let completed = self.completed.lock().entry(index).or_default().subscribe();
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
            match self.led.call(index, command(fresh)).await {
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
            let asked = match self.led.call(index, Command::AddPartitions(request.clone())).await {
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
        match self.led.call(index, Command::VerifyPartitions(request)).await {
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
        match self.led.call(index, Command::Describe { transactional_id }).await {
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
        for reply in self.led.call_all(|| Command::List(filter.clone())).await {
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
                    let _ = this.led.call(index, abort).await;
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
        while self.led.call(index, complete.clone()).await.is_err() {
            // A state that was loaded again has the markers written again; who does not lead has none.
            if *generation.lock() != number {
                return;
            }
            self.clock.sleep_until(self.clock.steady_ms().saturating_add(COMPLETE_RETRY_MS)).await;
        }
        if let Some(completed) = self.completed.lock().get(&index) {
            completed.send_modify(|completed| *completed += 1);
        }
    }
}

/// The code of a reply that is not the expected one.
fn unexpected(reply: Result<Reply, ErrorCode>) -> ErrorCode {
    reply.err().unwrap_or(ErrorCode::UnknownServerError)
}

#[cfg(test)]
mod tests;
