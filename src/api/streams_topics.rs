//! Internal topics of streams groups, which the broker creates (`AutoTopicCreationManager`).
//!
//! Heartbeats do not wait for them: the next ones find the topics, or hear why they could not be created. What failed is
//! tried again after two heartbeat intervals.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::{info, warn};

use super::auto_create::create_topics;
use super::context::BrokerHandles;
use crate::error::ErrorCode;
use crate::group::streams::configured::InternalTopic;
use crate::metadata::command::NewTopic;
use crate::types::TimestampMs;

/// How many failures are remembered (`topicErrorCacheCapacity`).
const FAILURES_MAX: usize = 1_000;

/// What is known of internal topics that are to be created.
#[derive(Default)]
pub(crate) struct StreamsTopics {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    in_flight: BTreeSet<Arc<str>>,
    failed: BTreeMap<Arc<str>, Failure>,
}

/// Why a topic could not be created, and until when that is remembered.
struct Failure {
    reason: String,
    until_ms: TimestampMs,
}

impl State {
    fn is_failed(&self, name: &str, now_ms: TimestampMs) -> bool {
        self.failed.get(name).is_some_and(|failure| now_ms < failure.until_ms)
    }

    fn remember(&mut self, name: Arc<str>, reason: String, now_ms: TimestampMs, lifetime_ms: i64) {
        self.failed.insert(name, Failure { reason, until_ms: now_ms.saturating_add(lifetime_ms) });
        self.failed.retain(|_, failure| now_ms < failure.until_ms);
        while self.failed.len() > FAILURES_MAX {
            let oldest = self.failed.iter().min_by_key(|(_, failure)| failure.until_ms);
            let Some(name) = oldest.map(|(name, _)| name.clone()) else { return };
            self.failed.remove(&name);
        }
    }
}

impl StreamsTopics {
    /// Begins to create those of the topics that nobody is creating, and that did not fail within the last
    /// `lifetime_ms`. Why some of them did.
    pub(super) fn create(
        &self,
        broker: &Arc<BrokerHandles>,
        topics: Vec<InternalTopic>,
        lifetime_ms: i64,
    ) -> BTreeMap<Arc<str>, String> {
        let now_ms = broker.clock.now_ms();
        let mut state = self.state.lock();
        let reason = |topic: &InternalTopic| {
            let failure = state.failed.get(&topic.name).filter(|failure| now_ms < failure.until_ms)?;
            Some((topic.name.clone(), failure.reason.clone()))
        };
        let failed = topics.iter().filter_map(reason).collect();
        let mut due = topics;
        due.retain(|topic| {
            !state.is_failed(&topic.name, now_ms) && state.in_flight.insert(topic.name.clone())
        });
        drop(state);
        if !due.is_empty() {
            let broker = Arc::clone(broker);
            tokio::spawn(async move { create(&broker, due, lifetime_ms).await });
        }
        failed
    }
}

async fn create(broker: &BrokerHandles, topics: Vec<InternalTopic>, lifetime_ms: i64) {
    let created = create_topics(broker, topics.iter().map(new_topic).collect()).await;
    let now_ms = broker.clock.now_ms();
    let mut state = broker.streams_topics.state.lock();
    for (topic, created) in topics.into_iter().zip(created) {
        state.in_flight.remove(&topic.name);
        match created {
            // Somebody else was faster.
            Err(error) if error.code == ErrorCode::TopicAlreadyExists => {}
            Ok(()) => info!(topic = %topic.name, partitions = topic.partitions, "internal topic is created"),
            Err(error) => {
                warn!(topic = %topic.name, %error, "internal topic could not be created");
                state.remember(topic.name, error.to_string(), now_ms, lifetime_ms);
            }
        }
    }
}

fn new_topic(topic: &InternalTopic) -> NewTopic {
    let configs = topic.configs.iter().map(|(key, value)| (key.to_string(), Some(value.to_string())));
    NewTopic {
        partitions: topic.partitions,
        replication_factor: if topic.replication_factor == 0 { -1 } else { topic.replication_factor },
        configs: configs.collect(),
        ..NewTopic::with_defaults(&*topic.name)
    }
}
