//! Whether clients are served, and why not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::metadata::image::BrokerImage;
use crate::replication::lifecycle::BrokerState;
use crate::replication::registration::BrokerLifecycle;

/// How far a node has come with its start, for those who ask whether it is ready.
#[derive(Default)]
pub struct Progress {
    lifecycle: Mutex<Option<Arc<BrokerLifecycle>>>,
    is_started: AtomicBool,
}

impl Progress {
    /// The node has the metadata, and begins to take its place in the cluster, if it is a broker.
    pub fn joins(&self, lifecycle: Option<Arc<BrokerLifecycle>>) {
        *self.lifecycle.lock() = lifecycle;
    }

    /// Everything is there that was asked for at the start.
    pub fn started(&self) {
        self.is_started.store(true, Ordering::Relaxed);
    }

    fn lifecycle(&self) -> Option<Arc<BrokerLifecycle>> {
        self.lifecycle.lock().clone()
    }
}

/// What is known of a node at a moment.
#[derive(Clone, Copy, Debug)]
struct Facts {
    is_stopping: bool,
    is_started: bool,
    /// `None` before the metadata is there, and where the node is a controller only.
    state: Option<BrokerState>,
    /// Whether the cluster has a registration of this node, and whether it is fenced.
    fenced: Option<bool>,
}

impl Facts {
    fn why_not_ready(self) -> Option<String> {
        let why = match self.state {
            _ if self.is_stopping => "the node is stopping",
            Some(BrokerState::ShuttingDown) => "the broker is stopping",
            Some(BrokerState::PendingControlledShutdown) => {
                "the broker hands its leaderships over, and stops then"
            }
            Some(BrokerState::Starting) => "the broker is starting: it registers, and takes in the metadata",
            Some(BrokerState::Recovery) => {
                "the broker has the metadata, and waits to be unfenced by a controller"
            }
            Some(BrokerState::Running) if self.fenced == Some(true) => {
                "the broker is fenced: the controller has not heard of it in time"
            }
            Some(BrokerState::Running) if self.fenced.is_none() => "the broker is not registered",
            // Without a controller brokers go on to serve what they lead.
            Some(BrokerState::Running) if self.is_started => return None,
            Some(BrokerState::Running) => "the broker creates the topics that it was started with",
            None if self.is_started => return None,
            None => "the node is starting: it waits for the metadata",
        };
        Some(why.to_owned())
    }
}

impl super::Admin {
    /// Kafka's `BrokerState`; 3 for a controller that runs, and 1 for a node that waits for the metadata.
    pub(super) fn broker_state(&self) -> i64 {
        if self.stopping.is_cancelled() {
            return BrokerState::ShuttingDown as i64;
        }
        let state = self.progress.lifecycle().map(|lifecycle| *lifecycle.state().borrow());
        let is_started = self.progress.is_started.load(Ordering::Relaxed);
        let otherwise = if is_started { BrokerState::Running } else { BrokerState::Starting };
        state.unwrap_or(otherwise) as i64
    }

    /// Why clients are not served; `None` where they are.
    pub(super) fn why_not_ready(&self) -> Option<String> {
        let lifecycle = self.progress.lifecycle();
        let is_fenced = |broker: &Arc<BrokerImage>| broker.fenced;
        let facts = Facts {
            is_stopping: self.stopping.is_cancelled(),
            is_started: self.progress.is_started.load(Ordering::Relaxed),
            state: lifecycle.as_ref().map(|lifecycle| *lifecycle.state().borrow()),
            fenced: self.metadata.image().brokers.get(&self.metadata.node_id()).map(is_fenced),
        };
        facts.why_not_ready()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: Facts = Facts {
        is_stopping: false,
        is_started: true,
        state: Some(BrokerState::Running),
        fenced: Some(false),
    };

    #[test]
    fn a_broker_is_ready_when_it_is_unfenced_and_has_started() {
        assert_eq!(READY.why_not_ready(), None);
        let controller = Facts { state: None, fenced: None, ..READY };
        assert_eq!(controller.why_not_ready(), None);
        let in_state = |state| Facts { state: Some(state), ..READY };
        for (facts, why) in [
            (Facts { state: None, is_started: false, ..READY }, "waits for the metadata"),
            (in_state(BrokerState::Starting), "it registers"),
            (in_state(BrokerState::Recovery), "waits to be unfenced"),
            (Facts { is_started: false, ..READY }, "creates the topics"),
            (Facts { fenced: Some(true), ..READY }, "is fenced: the controller"),
            (Facts { fenced: None, ..READY }, "is not registered"),
            (in_state(BrokerState::PendingControlledShutdown), "hands its leaderships over"),
            (in_state(BrokerState::ShuttingDown), "the broker is stopping"),
            (Facts { is_stopping: true, ..READY }, "the node is stopping"),
        ] {
            let found = facts.why_not_ready();
            assert!(found.as_deref().is_some_and(|found| found.contains(why)), "{facts:?}: {found:?}");
        }
    }
}
