//! What was ever committed, acknowledged or read of a partition, and what must hold because of it: the invariants of
//! the TLA+ specifications of Kafka's replication (v3.5 and KIP-966).

use std::collections::HashMap;

use super::store::Store;
use crate::sim::runner::Violation;
use crate::types::{LeaderEpoch, Offset};

/// The history of one partition.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// For each committed offset the digest of the log up to and with it.
    committed: Vec<u64>,
    values: Vec<u64>,
    chains: HashMap<(Offset, LeaderEpoch), u64>,
    acknowledged: HashMap<u64, Offset>,
}

impl History {
    pub(super) fn committed(&self) -> Offset {
        Offset::try_from(self.committed.len()).unwrap_or(Offset::MAX)
    }

    /// Whether a log has everything that is committed.
    pub(super) fn is_complete(&self, store: &Store) -> bool {
        let committed = self.committed();
        store.log.chain(committed) == self.chain(committed)
    }

    fn chain(&self, end: Offset) -> Option<u64> {
        let Some(last) = usize::try_from(end).ok()?.checked_sub(1) else { return Some(0) };
        self.committed.get(last).copied()
    }

    /// Two replicas that have a record of one epoch at one offset are the same up to there (`LogMatching`).
    pub(super) fn appended(&mut self, store: &Store, from: Offset) -> Result<(), Violation> {
        let log = &store.log;
        for (offset, entry) in log.range(from, log.end()) {
            let chain = log.chain(offset + 1).unwrap_or(0);
            if *self.chains.entry((offset, entry.epoch)).or_insert(chain) != chain {
                let epoch = entry.epoch;
                return Err(format!(
                    "LogMatching: two replicas differ before offset {offset} of epoch {epoch}"
                ));
            }
        }
        Ok(())
    }

    /// A leader says that everything before an offset is committed.
    pub(super) fn commit(&mut self, store: &Store, end: Offset) -> Result<(), Violation> {
        let known = self.committed();
        if end > store.log.end() {
            return Err(format!(
                "NoIllegalState: {end} is committed in a log that ends at {}",
                store.log.end()
            ));
        }
        if store.log.chain(end.min(known)) != self.chain(end.min(known)) {
            return Err(format!(
                "NoCommittedRecordLostGlobally: the leader has others than are committed before {}",
                end.min(known)
            ));
        }
        for (offset, entry) in store.log.range(known, end) {
            self.committed.push(store.log.chain(offset + 1).unwrap_or(0));
            self.values.push(entry.content);
        }
        Ok(())
    }

    /// A producer is told that its record is safe.
    pub(super) fn acknowledge(&mut self, value: u64, offset: Offset) -> Result<(), Violation> {
        let first = *self.acknowledged.entry(value).or_insert(offset);
        if first != offset {
            return Err(format!("Durability: {value} is acknowledged at {offset} and was at {first}"));
        }
        if offset >= self.committed() {
            return Err(format!("Durability: {value} is acknowledged at {offset} before that is committed"));
        }
        self.read(offset, value)
    }

    /// Somebody read a value: it is what everybody reads there, for ever (`ConsistentRead`).
    pub(super) fn read(&self, offset: Offset, value: u64) -> Result<(), Violation> {
        let known = usize::try_from(offset).ok().and_then(|offset| self.values.get(offset));
        if known == Some(&value) {
            return Ok(());
        }
        Err(format!("ConsistentRead: {value} is read at {offset}, where {known:?} is committed"))
    }
}
