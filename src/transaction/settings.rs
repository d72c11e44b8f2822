//! The configuration of the transaction coordinator (`TransactionStateManagerConfig`, `TransactionLogConfig`).

/// Values of the `transaction.*` keys, in the core's terms.
#[derive(Clone, Debug)]
pub struct TransactionSettings {
    /// `transaction.max.timeout.ms`
    pub max_timeout_ms: i32,
    /// `transactional.id.expiration.ms`
    pub expiration_ms: i64,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`
    pub timed_out_interval_ms: i64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`
    pub expired_interval_ms: i64,
    /// How long a request waits for its records to be committed.
    pub write_timeout_ms: i64,
    /// `transaction.state.log.num.partitions`: used while the topic does not exist.
    pub state_partitions: i32,
    /// `add.partitions.to.txn.retry.backoff.max.ms`: how long a request may wait for the transaction before it to be
    /// complete.
    pub retry_max_ms: i64,
    /// `add.partitions.to.txn.retry.backoff.ms`: how often it looks, unless it is woken.
    pub retry_ms: i64,
}

impl Default for TransactionSettings {
    fn default() -> Self {
        Self {
            max_timeout_ms: 900_000,
            expiration_ms: 7 * 24 * 60 * 60 * 1000,
            timed_out_interval_ms: 10_000,
            expired_interval_ms: 60 * 60 * 1000,
            write_timeout_ms: 15_000,
            state_partitions: 50,
            retry_max_ms: 100,
            retry_ms: 20,
        }
    }
}
