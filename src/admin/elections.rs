//! Elections of partition leaders, counted where they are decided: on the active controller.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::metadata::image::{Delta, Image};
use crate::metadata::{ImageListener, Metadata};

/// How many partitions got another leader while this node was the active controller.
pub struct Elections {
    metadata: Weak<Metadata>,
    leaders: AtomicU64,
    unclean: AtomicU64,
}

impl Elections {
    /// Counts from now on.
    pub fn watch(metadata: &Arc<Metadata>) -> Arc<Self> {
        let (leaders, unclean) = (AtomicU64::new(0), AtomicU64::new(0));
        let elections = Arc::new(Self { metadata: Arc::downgrade(metadata), leaders, unclean });
        metadata.listen(Arc::clone(&elections) as Arc<dyn ImageListener>);
        elections
    }

    /// All, and those of replicas that were not in sync.
    pub fn counts(&self) -> (u64, u64) {
        (self.leaders.load(Ordering::Relaxed), self.unclean.load(Ordering::Relaxed))
    }

    fn count(&self, old: &Image, new: &Arc<Image>, delta: &Delta) {
        for topic in delta.changed(new) {
            let Some(before) = old.topics.by_id(topic.id) else { continue };
            for (number, now) in topic.partitions() {
                let Some(then) = before.partition(number) else { continue };
                let elected = now.leader != then.leader && now.leader >= 0;
                self.leaders.fetch_add(elected.into(), Ordering::Relaxed);
                self.unclean.fetch_add((now.recovering && !then.recovering).into(), Ordering::Relaxed);
            }
        }
    }
}

impl ImageListener for Elections {
    fn on_image(&self, old: &Image, new: &Arc<Image>, delta: &Delta) {
        if self.metadata.upgrade().is_some_and(|metadata| metadata.is_active()) {
            self.count(old, new, delta);
        }
    }
}
