//! One request at a time to each node, with its deadline and a pause after a failure (Kafka's `RequestManager`).

use std::collections::BTreeMap;

use super::message::{Correlation, Destination};
use crate::types::NodeId;

/// The requests on their way. An answer counts only while its request is here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Connections {
    request_timeout_ms: i64,
    retry_backoff_ms: i64,
    next: Correlation,
    by_node: BTreeMap<NodeId, Connection>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Connection {
    Waiting { correlation: Correlation, until_ms: i64 },
    BackingOff { until_ms: i64 },
}

impl Connections {
    pub(super) fn new(request_timeout_ms: i64, retry_backoff_ms: i64) -> Self {
        Self { request_timeout_ms, retry_backoff_ms, next: 1, by_node: BTreeMap::new() }
    }

    /// Takes note of a new request, if the node is not waited for; otherwise says when it can be asked again.
    pub(super) fn begin(&mut self, to: &Destination, now_ms: i64) -> Result<Correlation, i64> {
        match self.by_node.get(&to.id) {
            Some(Connection::Waiting { until_ms, .. } | Connection::BackingOff { until_ms })
                if now_ms < *until_ms =>
            {
                Err(*until_ms)
            }
            Some(_) | None => {
                let correlation = self.next;
                self.next += 1;
                let until_ms = now_ms + self.request_timeout_ms;
                self.by_node.insert(to.id, Connection::Waiting { correlation, until_ms });
                Ok(correlation)
            }
        }
    }

    /// Whom a response is from, if it is waited for.
    pub(super) fn expected(&self, correlation: Correlation) -> Option<NodeId> {
        let waits = |connection: &Connection| matches!(connection, Connection::Waiting { correlation: own, .. } if *own == correlation);
        self.by_node.iter().find(|(_, connection)| waits(connection)).map(|(id, _)| *id)
    }

    /// A response was taken in; after a failure the node is left alone for a while.
    pub(super) fn end(&mut self, node: NodeId, correlation: Correlation, success: bool, now_ms: i64) {
        if self.expected(correlation) != Some(node) {
            return;
        }
        if success {
            self.by_node.remove(&node);
        } else {
            let until_ms = now_ms + self.retry_backoff_ms;
            self.by_node.insert(node, Connection::BackingOff { until_ms });
        }
    }

    /// Whether any node is waited for; if so, until when at most.
    pub(super) fn any_waiting(&mut self, now_ms: i64) -> Option<i64> {
        self.by_node.retain(|_, connection| now_ms < connection.until_ms());
        let waiting = |connection: &Connection| matches!(connection, Connection::Waiting { .. });
        self.by_node.values().filter(|connection| waiting(connection)).map(Connection::until_ms).min()
    }

    /// Until when a node that failed is left alone.
    pub(super) fn backing_off(&self, node: NodeId, now_ms: i64) -> Option<i64> {
        match self.by_node.get(&node) {
            Some(Connection::BackingOff { until_ms }) if now_ms < *until_ms => Some(*until_ms),
            Some(_) | None => None,
        }
    }

    /// Whether the request to a node took too long; then it is forgotten.
    pub(super) fn timed_out(&mut self, node: NodeId, now_ms: i64) -> bool {
        let late = matches!(self.by_node.get(&node), Some(Connection::Waiting { until_ms, .. }) if now_ms >= *until_ms);
        if late {
            self.by_node.remove(&node);
        }
        late
    }

    /// Whether a node can be asked now.
    pub(super) fn is_ready(&self, node: NodeId, now_ms: i64) -> bool {
        self.by_node.get(&node).is_none_or(|connection| now_ms >= connection.until_ms())
    }

    /// Names each request after the node that it went to, and forgets when it ends; gives the new names.
    #[cfg(test)]
    pub(super) fn settle(&mut self) -> BTreeMap<Correlation, Correlation> {
        let mut names = BTreeMap::new();
        self.next = 1_000;
        self.by_node.retain(|_, connection| matches!(connection, Connection::Waiting { .. }));
        for (node, connection) in &mut self.by_node {
            let name = u64::from(node.wrapping_add(100).unsigned_abs());
            if let Connection::Waiting { correlation, until_ms } = connection {
                names.insert(std::mem::replace(correlation, name), name);
                *until_ms = super::canonical::NEVER_MS;
            }
        }
        names
    }

    /// Forgets all requests: their answers no longer count.
    pub(super) fn reset(&mut self) {
        self.by_node.clear();
    }
}

impl Connection {
    fn until_ms(&self) -> i64 {
        match self {
            Self::Waiting { until_ms, .. } | Self::BackingOff { until_ms } => *until_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test")]

    use super::*;

    #[test]
    fn an_answer_counts_once_and_in_time() {
        let to = Destination { id: 2, host: "h".to_owned(), port: 9 };
        let mut connections = Connections::new(100, 20);
        let first = connections.begin(&to, 0).unwrap();
        assert_eq!(connections.begin(&to, 50), Err(100));
        assert_eq!((connections.expected(first), connections.any_waiting(50)), (Some(2), Some(100)));
        let second = connections.begin(&to, 100).unwrap();
        assert_eq!(connections.expected(first), None, "it came too late");
        connections.end(2, second, false, 110);
        assert_eq!((connections.expected(second), connections.backing_off(2, 110)), (None, Some(130)));
        assert!(!connections.is_ready(2, 129) && connections.is_ready(2, 130));
        let third = connections.begin(&to, 130).unwrap();
        connections.end(2, third, true, 131);
        assert!(connections.is_ready(2, 131));
    }
}
