//! Several requests' changes in one write, by one of those who asked for it.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::Shared;

/// While this lives, commits stay in the queue, so that changes of one request, and of others that come in with it, are
/// written together. Then the one who gathered writes them, if they are few; many are left to the writer thread, and so
/// are changes that must be synced, and everything if this is dropped.
pub struct Gathering {
    shared: Option<Arc<Shared>>,
    has_yielded: bool,
}

impl Gathering {
    pub(super) fn begin(shared: &Arc<Shared>) -> Self {
        shared.writer.begin_gathering();
        Self { shared: Some(Arc::clone(shared)), has_yielded: false }
    }

    /// Whether so much is queued already that it should be left to the writer thread.
    pub fn has_much(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.writer.has_much())
    }

    /// Lets the other tasks that are ready run, and then has what is queued written. Completions are called before it
    /// is ready. The caller must hold no lock that they take.
    pub fn poll_write(&mut self, task: &mut Context<'_>) -> Poll<()> {
        if !self.has_yielded {
            self.has_yielded = true;
            let mut yielding = std::pin::pin!(tokio::task::yield_now());
            if yielding.as_mut().poll(task).is_pending() {
                return Poll::Pending;
            }
        }
        if let Some(shared) = self.shared.take() {
            shared.writer.end_gathering(true);
        }
        Poll::Ready(())
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.writer.end_gathering(false);
        }
    }
}
