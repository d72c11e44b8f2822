//! Transactions as the cleaner sees them go by (Kafka's `CleanedTransactionMetadata`).

use std::collections::{HashMap, HashSet, VecDeque};

use crate::log::batch::{BatchError, BatchView, CONTROL_ABORT, CONTROL_COMMIT};
use crate::log::transactions::AbortedTransaction;
use crate::types::{Offset, ProducerId};

/// Which of the transactions that were met are still going on at this point of the log. It is
/// shown every batch of a stretch of the log in order.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// Aborted ones that start further on, in the order of their first offsets.
    coming: VecDeque<AbortedTransaction>,
    /// Aborted ones that go on, and whether a batch of theirs was met.
    aborted: HashMap<ProducerId, (AbortedTransaction, bool)>,
    /// The producers of committed ones that go on.
    committed: HashSet<ProducerId>,
    /// Aborted ones of which nothing but the marker was met.
    emptied: Vec<AbortedTransaction>,
}

impl Transactions {
    /// With the aborted transactions that overlap the stretch.
    pub(super) fn new(mut aborted: Vec<AbortedTransaction>) -> Self {
        aborted.sort_unstable_by_key(|transaction| transaction.first_offset);
        Self { coming: aborted.into(), ..Self::default() }
    }

    /// Whether the batch is of no use any more: data of an aborted transaction, or the marker of
    /// a transaction of which nothing else is left.
    pub(super) fn observe(&mut self, batch: &BatchView) -> Result<bool, BatchError> {
        self.start_up_to(batch.last_offset());
        if batch.is_control() {
            return self.observe_marker(batch);
        }
        if !batch.is_transactional() {
            return Ok(false);
        }
        match self.aborted.get_mut(&batch.producer_id()) {
            Some((_, met)) => {
                *met = true;
                Ok(true)
            }
            None => {
                self.committed.insert(batch.producer_id());
                Ok(false)
            }
        }
    }

    fn observe_marker(&mut self, batch: &BatchView) -> Result<bool, BatchError> {
        // One without its record was cleaned before.
        let Some(record) = batch.records()?.next() else { return Ok(true) };
        let kind = match record?.key.as_deref() {
            Some([_, _, high, low, ..]) => i16::from_be_bytes([*high, *low]),
            _ => return Ok(false),
        };
        Ok(match kind {
            CONTROL_ABORT => match self.aborted.remove(&batch.producer_id()) {
                Some((_, true)) => false,
                Some((transaction, false)) => {
                    self.emptied.push(transaction);
                    true
                }
                None => true,
            },
            CONTROL_COMMIT => !self.committed.remove(&batch.producer_id()),
            _ => false,
        })
    }

    fn start_up_to(&mut self, offset: Offset) {
        while let Some(next) = self.coming.pop_front_if(|next| next.first_offset <= offset) {
            self.aborted.entry(next.producer_id).or_insert((next, false));
        }
    }

    /// The aborted transactions of which only the marker was left, since the last call: the index
    /// need not know them any more.
    pub(super) fn take_emptied(&mut self) -> Vec<AbortedTransaction> {
        std::mem::take(&mut self.emptied)
    }
}
