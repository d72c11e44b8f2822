//! The transactional ids of one shard: what a command decides, and how an event changes them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::command::{
    Command, EndTransaction, EndedTransaction, InTransaction, InitProducerId, ListedTransaction, Producer,
    Refused, Reply, TransactionFilter,
};
use super::record::Record;
use super::settings::TransactionSettings;
use super::state::{EPOCH_BUMP_FROM, NO_EPOCH, NO_PRODUCER_ID, Transaction, TransactionState, is_exhausted};
use crate::error::ErrorCode;
use crate::shard::{Core, Decision, TimerChange, Token};
use crate::types::{ProducerEpoch, ProducerId, TimestampMs};

/// A change of a shard's state, or what follows from one outside of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Written to the log.
    Record(Record),
    /// Markers are to be written, once everything before this is durable.
    WriteMarkers(EndedTransaction),
    /// A transaction can not be aborted without an id that nobody has: see [`Command::AbortTimedOut`].
    NeedsProducerId { transactional_id: Arc<str>, producer: Producer },
    /// The cluster works at another level of `transaction.version`.
    Version(i16),
}

/// A deadline of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Transactions are looked through for those that are open for too long.
    TimedOut,
    /// Transactional ids are looked through for those that nobody uses.
    Expired,
}

/// The transactional ids of one partition of `__transaction_state` (`TransactionStateManager`).
#[derive(Clone, Debug)]
pub struct TransactionCore {
    settings: Arc<TransactionSettings>,
    /// The cluster's level of `transaction.version`.
    version: i16,
    pub(super) transactions: BTreeMap<Arc<str>, Transaction>,
}

impl TransactionCore {
    /// A shard without transactional ids.
    pub fn new(settings: Arc<TransactionSettings>, version: i16) -> Self {
        Self { settings, version, transactions: BTreeMap::new() }
    }

    fn init(&self, now_ms: TimestampMs, token: Token, request: &InitProducerId) -> Decision<Self> {
        let refuse = |refused: Refused| Decision::reply(token, Reply::Producer(Err(refused)));
        if !(1..=self.settings.max_timeout_ms).contains(&request.timeout_ms) {
            return refuse(ErrorCode::InvalidTransactionTimeout.into());
        }
        let known = self.transactions.get(&request.transactional_id).cloned();
        let fresh = request.fresh_producer_id;
        let new = || fresh.map(|id| Transaction::new(id, request.timeout_ms, now_ms));
        let Some(transaction) = known.or_else(new) else { return refuse(Refused::NeedsProducerId) };
        if request.expected.is_some_and(|expected| !may_go_on(&transaction, expected)) {
            return refuse(ErrorCode::ProducerFenced.into());
        }
        match transaction.state {
            TransactionState::PrepareCommit | TransactionState::PrepareAbort => {
                refuse(ErrorCode::ConcurrentTransactions.into())
            }
            TransactionState::Ongoing => {
                // Its producer is gone, or fenced by this: the epoch that this takes is never given to anybody.
                let Some(aborted) = self.fence(&transaction, fresh, now_ms) else {
                    return refuse(Refused::NeedsProducerId);
                };
                let mut decision = refuse(ErrorCode::ConcurrentTransactions.into());
                end(&mut decision, &request.transactional_id, aborted);
                decision
            }
            TransactionState::Empty | TransactionState::CompleteCommit | TransactionState::CompleteAbort => {
                match self.begin(&transaction, request, now_ms) {
                    Ok(begun) => {
                        let producer = Producer { id: begun.producer_id, epoch: begun.producer_epoch };
                        let mut decision = Decision::reply(token, Reply::Producer(Ok(producer)));
                        decision.events.push(changed(&request.transactional_id, begun));
                        decision
                    }
                    Err(refused) => refuse(refused),
                }
            }
        }
    }

    fn begin(
        &self,
        transaction: &Transaction,
        request: &InitProducerId,
        now_ms: TimestampMs,
    ) -> Result<Transaction, Refused> {
        let expected = request.expected.map(|producer| producer.epoch);
        let is_current = expected.is_none_or(|epoch| epoch == transaction.producer_epoch);
        if transaction.is_exhausted() && is_current {
            let id = request.fresh_producer_id.ok_or(Refused::NeedsProducerId)?;
            return Ok(transaction.with_next_id(id, request.timeout_ms, expected.is_some(), now_ms));
        }
        Ok(transaction.with_next_epoch(request.timeout_ms, expected, now_ms)?)
    }

    /// The abort of a producer's transaction; `None` where that takes a producer id that nobody has.
    fn fence(
        &self,
        transaction: &Transaction,
        fresh: Option<ProducerId>,
        now_ms: TimestampMs,
    ) -> Option<Transaction> {
        let needs_id = self.version >= EPOCH_BUMP_FROM && transaction.is_exhausted();
        let next = if needs_id { fresh? } else { NO_PRODUCER_ID };
        Some(transaction.fenced(self.version, next, now_ms))
    }

    fn add_partitions(&self, now_ms: TimestampMs, token: Token, request: &InTransaction) -> Decision<Self> {
        let reply = |result| Decision::reply(token, Reply::Added(result));
        let transaction = match self.current(request) {
            Ok(transaction) => transaction,
            Err(code) => return reply(Err(code)),
        };
        let is_known = |partition| transaction.partitions.contains(partition);
        let mut decision = reply(Ok(()));
        if transaction.state != TransactionState::Ongoing || !request.partitions.iter().all(is_known) {
            let ongoing = transaction.with_partitions(&request.partitions, request.client_version, now_ms);
            decision.events.push(changed(&request.transactional_id, ongoing));
        }
        decision
    }

    fn verify_partitions(&self, token: Token, request: InTransaction) -> Decision<Self> {
        let verified = self.current(&request).map(|transaction| {
            let verify = |partition| {
                let is_known = transaction.partitions.contains(&partition);
                (partition, (!is_known).then_some(ErrorCode::TransactionAbortable))
            };
            request.partitions.into_iter().map(verify).collect()
        });
        Decision::reply(token, Reply::Verified(verified))
    }

    /// The transaction that a producer may write in.
    fn current(&self, request: &InTransaction) -> Result<&Transaction, ErrorCode> {
        let transaction = self.transactions.get(&request.transactional_id);
        match transaction {
            Some(transaction) if transaction.producer_id == request.producer.id => {
                if transaction.producer_epoch != request.producer.epoch {
                    Err(ErrorCode::ProducerFenced)
                } else if transaction.state.is_ending() {
                    Err(ErrorCode::ConcurrentTransactions)
                } else {
                    Ok(transaction)
                }
            }
            Some(_) | None => Err(ErrorCode::InvalidProducerIdMapping),
        }
    }

    fn end(&self, now_ms: TimestampMs, token: Token, request: &EndTransaction) -> Decision<Self> {
        let Some(transaction) = self.transactions.get(&request.transactional_id) else {
            let unknown = Refused::Code(ErrorCode::InvalidProducerIdMapping);
            return Decision::reply(token, Reply::Producer(Err(unknown)));
        };
        let bumps = request.client_version >= EPOCH_BUMP_FROM;
        let ended =
            if bumps { check_end(transaction, request) } else { check_plain_end(transaction, request) };
        let ended = ended.and_then(|what| match what {
            WhatEnds::Nothing => Ok(None),
            WhatEnds::Transaction if bumps && transaction.is_exhausted() => {
                request.fresh_producer_id.map(Some).ok_or(Refused::NeedsProducerId)
            }
            WhatEnds::Transaction => Ok(Some(NO_PRODUCER_ID)),
        });
        // Who does not get a new epoch is told none.
        let tell = |(id, epoch)| if bumps { Producer { id, epoch } } else { NOBODY };
        match ended {
            Ok(None) => {
                let producer = tell((transaction.producer_id, transaction.producer_epoch));
                Decision::reply(token, Reply::Producer(Ok(producer)))
            }
            Ok(Some(next)) => {
                let ending = transaction.ending(request.is_commit, request.client_version, next, now_ms);
                let producer = tell(ending.after_end());
                let mut decision = Decision::reply(token, Reply::Producer(Ok(producer)));
                end(&mut decision, &request.transactional_id, ending);
                decision
            }
            Err(refused) => Decision::reply(token, Reply::Producer(Err(refused))),
        }
    }

    fn abort_timed_out(
        &self,
        now_ms: TimestampMs,
        transactional_id: &Arc<str>,
        producer: Producer,
        fresh: Option<ProducerId>,
    ) -> Decision<Self> {
        let mut decision = Decision::default();
        let transaction = self.transactions.get(transactional_id);
        let is_same = |transaction: &&Transaction| {
            transaction.producer_id == producer.id && transaction.producer_epoch == producer.epoch
        };
        let timed_out = |transaction: &&Transaction| is_same(transaction) && transaction.is_timed_out(now_ms);
        let Some(transaction) = transaction.filter(timed_out) else { return decision };
        match self.fence(transaction, fresh, now_ms) {
            Some(aborted) => end(&mut decision, transactional_id, aborted),
            None => {
                let transactional_id = Arc::clone(transactional_id);
                decision.events.push(Event::NeedsProducerId { transactional_id, producer });
            }
        }
        decision
    }

    fn complete(&self, now_ms: TimestampMs, transactional_id: &Arc<str>, producer: Producer) -> Vec<Event> {
        match self.transactions.get(transactional_id) {
            Some(ending)
                if ending.state.is_ending()
                    && (ending.producer_id, ending.producer_epoch) == (producer.id, producer.epoch) =>
            {
                vec![changed(transactional_id, ending.completed(now_ms))]
            }
            Some(_) | None => Vec::new(),
        }
    }

    fn list(&self, now_ms: TimestampMs, filter: &TransactionFilter) -> Vec<ListedTransaction> {
        let producer_ids: HashSet<_> = filter.producer_ids.iter().collect();
        let is_listed = |transaction: &Transaction| {
            (producer_ids.is_empty() || producer_ids.contains(&transaction.producer_id))
                && (filter.states.is_empty()
                    || filter.states.iter().any(|state| state == transaction.state.name()))
                && (filter.duration_ms < 0
                    || now_ms.saturating_sub(transaction.started_ms) > filter.duration_ms)
        };
        let listed = self.transactions.iter().filter(|(_, transaction)| is_listed(transaction));
        let listed = listed.map(|(transactional_id, transaction)| ListedTransaction {
            transactional_id: Arc::clone(transactional_id),
            producer_id: transaction.producer_id,
            state: transaction.state.name(),
        });
        listed.collect()
    }

    fn expire_timed_out(&self, now_ms: TimestampMs) -> Decision<Self> {
        let mut decision = Decision::default();
        for (transactional_id, transaction) in &self.transactions {
            if transaction.is_timed_out(now_ms) {
                let producer = Producer { id: transaction.producer_id, epoch: transaction.producer_epoch };
                let aborted = self.abort_timed_out(now_ms, transactional_id, producer, None);
                decision.events.extend(aborted.events);
            }
        }
        decision.timers.push(arm(Timer::TimedOut, now_ms, self.settings.timed_out_interval_ms));
        decision
    }

    fn expire_unused(&self, now_ms: TimestampMs) -> Decision<Self> {
        let before_ms = now_ms.saturating_sub(self.settings.expiration_ms);
        let unused = self
            .transactions
            .iter()
            .filter(|(_, transaction)| transaction.state.is_at_rest() && transaction.updated_ms <= before_ms);
        let forget = |(transactional_id, _): (&Arc<str>, &Transaction)| {
            Event::Record(Record { transactional_id: Arc::clone(transactional_id), value: None })
        };
        Decision {
            events: unused.map(forget).collect(),
            replies: Vec::new(),
            timers: vec![arm(Timer::Expired, now_ms, self.settings.expired_interval_ms)],
        }
    }
}

/// Who is told to those that keep their epoch.
const NOBODY: Producer = Producer { id: NO_PRODUCER_ID, epoch: NO_EPOCH };

/// What EndTxn does.
enum WhatEnds {
    /// It was done before.
    Nothing,
    Transaction,
}

/// Whether a producer that goes on after an error may have this id and epoch (KIP-360).
fn may_go_on(transaction: &Transaction, expected: Producer) -> bool {
    transaction.producer_epoch == NO_EPOCH
        || expected.id == transaction.producer_id
        || (expected.id == transaction.previous_producer_id && is_exhausted(expected.epoch))
}

/// EndTxn before KIP-890: the epoch stays, so that only the state tells a repeated request.
fn check_plain_end(transaction: &Transaction, request: &EndTransaction) -> Result<WhatEnds, Refused> {
    if transaction.producer_id != request.producer.id {
        return Err(ErrorCode::InvalidProducerIdMapping.into());
    }
    if transaction.producer_epoch != request.producer.epoch {
        return Err(ErrorCode::ProducerFenced.into());
    }
    match (transaction.state, request.is_commit) {
        (TransactionState::Ongoing, _) => Ok(WhatEnds::Transaction),
        (TransactionState::CompleteCommit, true) | (TransactionState::CompleteAbort, false) => {
            Ok(WhatEnds::Nothing)
        }
        (TransactionState::PrepareCommit, true) | (TransactionState::PrepareAbort, false) => {
            Err(ErrorCode::ConcurrentTransactions.into())
        }
        (
            TransactionState::Empty
            | TransactionState::PrepareCommit
            | TransactionState::PrepareAbort
            | TransactionState::CompleteCommit
            | TransactionState::CompleteAbort,
            _,
        ) => Err(ErrorCode::InvalidTxnState.into()),
    }
}

/// EndTxn since KIP-890: the epoch tells a repeated request from the next one, and a producer that does not know
/// whether it has written may abort what it has not begun.
fn check_end(transaction: &Transaction, request: &EndTransaction) -> Result<WhatEnds, Refused> {
    const LAST_EPOCH: ProducerEpoch = ProducerEpoch::MAX - 1;
    let (state, epoch) = (transaction.state, transaction.producer_epoch);
    let is_previous_id = transaction.previous_producer_id == request.producer.id
        && request.producer.epoch == LAST_EPOCH
        && epoch == 0;
    let is_previous_epoch = request.producer.epoch.checked_add(1) == Some(epoch);
    let is_repeated = is_previous_id || is_previous_epoch;
    if transaction.producer_id != request.producer.id && !is_previous_id {
        return Err(ErrorCode::InvalidProducerIdMapping.into());
    }
    let is_current = request.producer.epoch == epoch;
    let is_valid = match state {
        TransactionState::Ongoing | TransactionState::Empty => is_current,
        TransactionState::PrepareCommit | TransactionState::PrepareAbort => is_previous_epoch,
        TransactionState::CompleteCommit | TransactionState::CompleteAbort => is_repeated || is_current,
    };
    if !is_valid {
        return Err(ErrorCode::ProducerFenced.into());
    }
    match (state, request.is_commit) {
        (TransactionState::Ongoing, _) | (TransactionState::Empty, false) => Ok(WhatEnds::Transaction),
        (TransactionState::CompleteCommit, true) | (TransactionState::CompleteAbort, false)
            if is_repeated =>
        {
            Ok(WhatEnds::Nothing)
        }
        (TransactionState::CompleteCommit | TransactionState::CompleteAbort, false) if !is_repeated => {
            Ok(WhatEnds::Transaction)
        }
        (TransactionState::PrepareCommit, true) | (TransactionState::PrepareAbort, false) => {
            Err(ErrorCode::ConcurrentTransactions.into())
        }
        (
            TransactionState::Empty
            | TransactionState::PrepareCommit
            | TransactionState::PrepareAbort
            | TransactionState::CompleteCommit
            | TransactionState::CompleteAbort,
            _,
        ) => Err(ErrorCode::InvalidTxnState.into()),
    }
}

fn changed(transactional_id: &Arc<str>, value: Transaction) -> Event {
    Event::Record(Record { transactional_id: Arc::clone(transactional_id), value: Some(value) })
}

/// Writes down that a transaction ends, and has its markers written then.
fn end(decision: &mut Decision<TransactionCore>, transactional_id: &Arc<str>, ending: Transaction) {
    let ended = ended(transactional_id, &ending);
    decision.events.push(changed(transactional_id, ending));
    decision.events.push(Event::WriteMarkers(ended));
}

fn ended(transactional_id: &Arc<str>, ending: &Transaction) -> EndedTransaction {
    EndedTransaction {
        transactional_id: Arc::clone(transactional_id),
        producer: Producer { id: ending.producer_id, epoch: ending.producer_epoch },
        is_commit: ending.state == TransactionState::PrepareCommit,
        partitions: ending.partitions.iter().cloned().collect(),
        transaction_version: ending.client_version,
        since_ms: ending.updated_ms,
    }
}

fn arm(timer: Timer, now_ms: TimestampMs, interval_ms: i64) -> TimerChange<Timer> {
    TimerChange::Arm { timer, deadline_ms: now_ms.saturating_add(interval_ms) }
}

impl Core for TransactionCore {
    type Command = Command;
    type Reply = Reply;
    type Event = Event;
    type Timer = Timer;

    /// Goes on with what was decided before, if it was not done.
    fn start(&self, now_ms: TimestampMs) -> Decision<Self> {
        let ending = self.transactions.iter().filter(|(_, transaction)| transaction.state.is_ending());
        let timers = [
            arm(Timer::TimedOut, now_ms, self.settings.timed_out_interval_ms),
            arm(Timer::Expired, now_ms, self.settings.expired_interval_ms),
        ];
        Decision {
            events: ending.map(|(id, transaction)| Event::WriteMarkers(ended(id, transaction))).collect(),
            replies: Vec::new(),
            timers: timers.into(),
        }
    }

    fn decide(&self, now_ms: TimestampMs, token: Token, command: Command) -> Decision<Self> {
        let done = |events| Decision { events, replies: vec![(token, Reply::Done)], timers: Vec::new() };
        match command {
            Command::Init(request) => self.init(now_ms, token, &request),
            Command::AddPartitions(request) => self.add_partitions(now_ms, token, &request),
            Command::VerifyPartitions(request) => self.verify_partitions(token, request),
            Command::End(request) => self.end(now_ms, token, &request),
            Command::AbortTimedOut { transactional_id, producer, fresh_producer_id } => {
                let fresh = Some(fresh_producer_id);
                done(self.abort_timed_out(now_ms, &transactional_id, producer, fresh).events)
            }
            Command::Complete { transactional_id, producer } => {
                done(self.complete(now_ms, &transactional_id, producer))
            }
            Command::Describe { transactional_id } => {
                let transaction = self.transactions.get(&transactional_id).cloned();
                Decision::reply(token, Reply::Described(transaction))
            }
            Command::List(filter) => Decision::reply(token, Reply::Listed(self.list(now_ms, &filter))),
            Command::SetVersion(version) => done(vec![Event::Version(version)]),
        }
    }

    fn expire(&self, now_ms: TimestampMs, timer: &Timer) -> Decision<Self> {
        match timer {
            Timer::TimedOut => self.expire_timed_out(now_ms),
            Timer::Expired => self.expire_unused(now_ms),
        }
    }

    fn replay(&mut self, event: &Event) {
        match event {
            Event::Record(Record { transactional_id, value: Some(transaction) }) => {
                self.transactions.insert(Arc::clone(transactional_id), transaction.clone());
            }
            Event::Record(Record { transactional_id, value: None }) => {
                self.transactions.remove(transactional_id);
            }
            Event::Version(version) => self.version = *version,
            Event::WriteMarkers(_) | Event::NeedsProducerId { .. } => {}
        }
    }
}
