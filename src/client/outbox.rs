//! Things that go to other brokers, as many as there are in one request.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::types::NodeId;

type Send<T> = Box<dyn Fn(NodeId, Vec<T>) -> BoxFuture<'static, ()> + std::marker::Send + Sync>;

/// What is to be sent to other brokers. One request at a time is under way to each; what comes meanwhile goes into the
/// next one. Things that can not stand in one request have the same key.
pub struct Outbox<T, K> {
    key: fn(&T) -> K,
    send: Send<T>,
    /// What waits for each broker; a broker that nothing is sent to has no entry.
    waiting: Mutex<BTreeMap<NodeId, Vec<T>>>,
}

impl<T: std::marker::Send + 'static, K: Eq + Hash + 'static> Outbox<T, K> {
    /// An empty one. `send` is over when the things were answered, well or not.
    pub fn new(
        key: fn(&T) -> K,
        send: impl Fn(NodeId, Vec<T>) -> BoxFuture<'static, ()> + std::marker::Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { key, send: Box::new(send), waiting: Mutex::default() })
    }

    /// Sends something to a broker, behind everything that was given before.
    pub fn push(self: &Arc<Self>, id: NodeId, thing: T) {
        let mut waiting = self.waiting.lock();
        if let Some(queue) = waiting.get_mut(&id) {
            queue.push(thing);
            return;
        }
        waiting.insert(id, vec![thing]);
        let this = Arc::clone(self);
        tokio::spawn(async move {
            while let Some(things) = this.take(id) {
                (this.send)(id, things).await;
            }
        });
    }

    fn take(&self, id: NodeId) -> Option<Vec<T>> {
        let mut waiting = self.waiting.lock();
        let queue = waiting.get_mut(&id)?;
        if queue.is_empty() {
            waiting.remove(&id);
            return None;
        }
        let mut keys = HashSet::new();
        let (now, later) =
            std::mem::take(queue).into_iter().partition(|thing| keys.insert((self.key)(thing)));
        *queue = later;
        Some(now)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn one_request_at_a_time_takes_what_came_meanwhile() {
        let (sent, mut sends) = mpsc::unbounded_channel();
        let (done, dones) = mpsc::unbounded_channel::<()>();
        let dones = Arc::new(tokio::sync::Mutex::new(dones));
        let outbox = Outbox::new(
            |thing: &&str| thing.as_bytes()[0],
            move |id, things| {
                let (sent, dones) = (sent.clone(), Arc::clone(&dones));
                Box::pin(async move {
                    let _ = sent.send((id, things));
                    dones.lock().await.recv().await;
                })
            },
        );
        outbox.push(2, "a1");
        assert_eq!(sends.recv().await, Some((2, vec!["a1"])));
        ["b1", "a2", "a3", "c1"].into_iter().for_each(|thing| outbox.push(2, thing));
        for want in [vec!["b1", "a2", "c1"], vec!["a3"]] {
            assert!(sends.try_recv().is_err(), "the request before is under way");
            let _ = done.send(());
            assert_eq!(sends.recv().await, Some((2, want)));
        }
        let _ = done.send(());
        while !outbox.waiting.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        outbox.push(2, "a4");
        assert_eq!(sends.recv().await, Some((2, vec!["a4"])));
    }
}
