//! Topics that are created because somebody is about to use them.

use std::collections::BTreeMap;

use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};

use super::context::{BrokerHandles, Context};
use super::forward;
use super::outcome::text;
use super::throttle;
use crate::config::BrokerConfig;
use crate::error::{ApiError, ErrorCode};
use crate::metadata::Image;
use crate::metadata::command::{NewTopic, PartitionQuota};
use crate::types::{CONSUMER_OFFSETS_TOPIC, SHARE_GROUP_STATE_TOPIC, TRANSACTION_STATE_TOPIC};

/// The version of CreateTopics that the controller is asked with.
const VERSION: i16 = 7;
/// How many replicas the state of coordinators gets, as far as there are brokers, and how many of them have to be in
/// sync then, where nothing is configured: Kafka's defaults, which it refuses to do without.
const REPLICAS_WISHED: usize = 3;
const MIN_ISR_WISHED: i32 = 2;
/// How long a topic that another node created may take to be known here.
const KNOWN_MS: i64 = 5_000;

/// For whom topics are created.
struct By {
    client_id: String,
    /// How many partitions that may be, where this node decides it.
    quota: PartitionQuota,
}

impl By {
    fn broker(broker: &BrokerHandles) -> Self {
        Self { client_id: broker.node_id.to_string(), quota: PartitionQuota::NONE }
    }
}

/// Creates these topics for this broker itself, as far as they are not there when this returns.
///
/// # Errors
/// For each topic, why it could not be created.
pub(crate) async fn create(broker: &BrokerHandles, names: Vec<&str>) -> BTreeMap<String, ApiError> {
    create_named(broker, names, By::broker(broker)).await
}

/// The same for a client, whose quota it counts for.
///
/// # Errors
/// For each topic, why it could not be created.
pub(super) async fn create_for(context: &Context, names: Vec<&str>) -> BTreeMap<String, ApiError> {
    let quota = throttle::partition_quota(context, true);
    let by = By { client_id: context.client_id().to_owned(), quota };
    create_named(&context.broker, names, by).await
}

async fn create_named(broker: &BrokerHandles, names: Vec<&str>, by: By) -> BTreeMap<String, ApiError> {
    let (config, image) = (broker.metadata.broker_config(), broker.metadata.image());
    let alive = image.brokers.values().filter(|broker| !broker.fenced).count();
    let topics: Vec<NewTopic> = names.iter().map(|name| topic(&config, alive, name)).collect();
    let created = create_by(broker, topics, by).await;
    let mut failed = BTreeMap::new();
    for (name, created) in names.iter().zip(created) {
        match created {
            Ok(()) => {}
            // Somebody else was faster.
            Err(error) if error.code == ErrorCode::TopicAlreadyExists => {}
            Err(error) => {
                tracing::warn!(topic = %name, %error, "topic could not be created on first use");
                failed.insert((*name).to_owned(), error);
            }
        }
    }
    failed
}

/// Creates topics, wherever the active controller is.
pub(crate) async fn create_topics(
    broker: &BrokerHandles,
    topics: Vec<NewTopic>,
) -> Vec<Result<(), ApiError>> {
    create_by(broker, topics, By::broker(broker)).await
}

async fn create_by(broker: &BrokerHandles, topics: Vec<NewTopic>, by: By) -> Vec<Result<(), ApiError>> {
    if broker.metadata.is_active() {
        let created = broker.metadata.create_topics(topics, false, by.quota).await;
        created.into_iter().map(|created| created.map(|_| ())).collect()
    } else {
        create_remotely(broker, &topics, by.client_id).await
    }
}

/// Has the active controller create topics, and waits until this broker knows them.
async fn create_remotely(
    broker: &BrokerHandles,
    topics: &[NewTopic],
    client_id: String,
) -> Vec<Result<(), ApiError>> {
    let request = CreateTopicsRequest::default()
        .with_topics(topics.iter().map(creatable).collect())
        .with_timeout_ms(KNOWN_MS.try_into().unwrap_or(i32::MAX));
    let called = forward::call_as(broker, client_id, &request, VERSION).await;
    let mut results: Vec<Result<(), ApiError>> = match called {
        Err(error) => return topics.iter().map(|_| Err(error.clone())).collect(),
        Ok(response) => topics
            .iter()
            .map(|topic| {
                let answered = response.topics.iter().find(|answered| answered.name.as_str() == topic.name);
                match answered.map(|answered| (answered.error_code, answered.error_message.as_ref())) {
                    Some((0, _)) => Ok(()),
                    Some((code, message)) => Err(ApiError {
                        code: ErrorCode::try_from_code(code).unwrap_or(ErrorCode::UnknownServerError),
                        message: message.map(ToString::to_string),
                    }),
                    None => Err(ErrorCode::UnknownServerError.into()),
                }
            })
            .collect(),
    };
    for (topic, result) in topics.iter().zip(&mut results) {
        let exists = match result {
            Ok(()) => true,
            Err(error) => error.code == ErrorCode::TopicAlreadyExists,
        };
        let known = |image: &Image| image.topics.get(&topic.name).is_some();
        if exists && !broker.metadata.wait_until(&broker.clock, KNOWN_MS, known).await {
            let text = format!("the topic {} is created, and this broker does not know it yet", topic.name);
            *result = Err(ApiError::with(ErrorCode::LeaderNotAvailable, text));
        }
    }
    results
}

fn creatable(topic: &NewTopic) -> CreatableTopic {
    let config = |(name, value): &(String, Option<String>)| {
        CreatableTopicConfig::default().with_name(text(name.clone())).with_value(value.clone().map(text))
    };
    CreatableTopic::default()
        .with_name(text(topic.name.clone()).into())
        .with_num_partitions(topic.partitions)
        .with_replication_factor(topic.replication_factor)
        .with_configs(topic.configs.iter().map(config).collect())
}

/// A topic as its first use creates it: with the broker's defaults, or, where the broker itself keeps state in it,
/// as its coordinator needs it (`AutoTopicCreationManager`).
pub(crate) fn topic(config: &BrokerConfig, alive: usize, name: &str) -> NewTopic {
    let as_wished = |key: &str| config.layers.get(key).is_some();
    let spread = alive.clamp(1, REPLICAS_WISHED);
    let replicas = |key: &str, configured: i16| {
        if as_wished(key) { configured } else { i16::try_from(spread).unwrap_or(configured) }
    };
    let min_isr = |key: &str, configured: i32| {
        if as_wished(key) || spread < REPLICAS_WISHED { configured } else { MIN_ISR_WISHED }
    };
    let (partitions, replication_factor, configs) = match name {
        CONSUMER_OFFSETS_TOPIC => (
            config.offsets_topic_num_partitions,
            replicas("offsets.topic.replication.factor", config.offsets_topic_replication_factor),
            vec![
                ("cleanup.policy", "compact".to_owned()),
                ("compression.type", "producer".to_owned()),
                ("segment.bytes", config.offsets_topic_segment_bytes.to_string()),
            ],
        ),
        TRANSACTION_STATE_TOPIC => (
            config.transaction_state_log_num_partitions,
            replicas(
                "transaction.state.log.replication.factor",
                config.transaction_state_log_replication_factor,
            ),
            vec![
                ("cleanup.policy", "compact".to_owned()),
                ("compression.type", "uncompressed".to_owned()),
                (
                    "min.insync.replicas",
                    min_isr("transaction.state.log.min.isr", config.transaction_state_log_min_isr)
                        .to_string(),
                ),
                ("segment.bytes", config.transaction_state_log_segment_bytes.to_string()),
                ("unclean.leader.election.enable", "false".to_owned()),
            ],
        ),
        SHARE_GROUP_STATE_TOPIC => (
            config.share_coordinator_state_topic_num_partitions,
            replicas(
                "share.coordinator.state.topic.replication.factor",
                config.share_coordinator_state_topic_replication_factor,
            ),
            vec![
                ("cleanup.policy", "delete".to_owned()),
                ("compression.type", "producer".to_owned()),
                (
                    "min.insync.replicas",
                    min_isr(
                        "share.coordinator.state.topic.min.isr",
                        config.share_coordinator_state_topic_min_isr.into(),
                    )
                    .to_string(),
                ),
                ("retention.ms", "-1".to_owned()),
                ("segment.bytes", config.share_coordinator_state_topic_segment_bytes.to_string()),
            ],
        ),
        _ => return NewTopic::with_defaults(name),
    };
    let configs = configs.into_iter().map(|(key, value)| (key.to_owned(), Some(value))).collect();
    NewTopic { partitions, replication_factor, configs, ..NewTopic::with_defaults(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_coordinators_are_made_as_they_need_them() {
        let config = BrokerConfig::default();
        let offsets = topic(&config, 1, CONSUMER_OFFSETS_TOPIC);
        assert_eq!((offsets.partitions, offsets.replication_factor), (50, 1));
        assert!(offsets.configs.contains(&("cleanup.policy".to_owned(), Some("compact".to_owned()))));
        let mine = topic(&config, 1, "mine");
        assert_eq!((mine.partitions, mine.configs.len()), (-1, 0));
    }

    #[test]
    fn topics_of_coordinators_have_the_replicas_that_the_brokers_can_hold() {
        let config = BrokerConfig::default();
        let state = |config: &BrokerConfig, alive| {
            let topic = topic(config, alive, TRANSACTION_STATE_TOPIC);
            let min_isr = topic.configs.iter().find(|(key, _)| key == "min.insync.replicas");
            (topic.replication_factor, min_isr.and_then(|(_, value)| value.clone()).unwrap_or_default())
        };
        for (alive, want) in [(0, (1, "1")), (1, (1, "1")), (2, (2, "1")), (3, (3, "2")), (9, (3, "2"))] {
            assert_eq!(state(&config, alive), (want.0, want.1.to_owned()), "{alive} brokers");
        }
        let set = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let two = BrokerConfig::from_static(set("transaction.state.log.replication.factor", "2"))
            .expect("it holds");
        assert_eq!(state(&two, 9).0, 2);
        let strict = BrokerConfig::from_static(set("transaction.state.log.min.isr", "3")).expect("it holds");
        assert_eq!(state(&strict, 3), (3, "3".to_owned()));
    }
}
