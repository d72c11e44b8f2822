//! Connections of a listener (`kafka.server:type=socket-server-metrics`).

use std::sync::atomic::{AtomicI64, Ordering};

use super::topic::Count;
use super::{Sheet, table};

/// The connections of one listener.
#[derive(Debug, Default)]
pub struct ListenerMetrics {
    /// Connections that were ever accepted.
    pub created: Count,
    open: AtomicI64,
}

impl ListenerMetrics {
    /// A connection begins.
    pub fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection has ended.
    pub fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn put_on(&self, sheet: &Sheet, name: &str) {
        sheet.put(&table::CONNECTION_COUNT, &[name], self.open.load(Ordering::Relaxed));
        sheet.put(&table::CONNECTION_CREATION_TOTAL, &[name], self.created.get());
    }
}
