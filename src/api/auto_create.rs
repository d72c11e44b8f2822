//! Topics that are created because somebody is about to use them.

use std::collections::BTreeMap;

use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};

use super::context::BrokerHandles;
use super::forward;
use super::outcome::text;
use crate::config::BrokerConfig;
use crate::error::{ApiError, ErrorCode};
use crate::metadata::Image;
use crate::metadata::command::NewTopic;
use crate::types::{CONSUMER_OFFSETS_TOPIC, SHARE_GROUP_STATE_TOPIC, TRANSACTION_STATE_TOPIC};

/// The version of CreateTopics that the controller is asked with.
const VERSION: i16 = 7;
/// How long a topic that another node created may take to be known here.
const KNOWN_MS: i64 = 5_000;

/// Creates these topics, as far as they are not there when this returns.
///
/// # Errors
/// For each topic, why it could not be created.
pub(crate) async fn create(broker: &BrokerHandles, names: Vec<&str>) -> BTreeMap<String, ApiError> {
    let config = broker.metadata.broker_config();
    let topics: Vec<NewTopic> = names.iter().map(|name| topic(&config, name)).collect();
    let created = create_topics(broker, topics).await;
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
    if broker.metadata.is_active() {
        let created = broker.metadata.create_topics(topics, false).await;
        created.into_iter().map(|created| created.map(|_| ())).collect()
    } else {
        create_remotely(broker, &topics).await
    }
}

/// Has the active controller create topics, and waits until this broker knows them.
async fn create_remotely(broker: &BrokerHandles, topics: &[NewTopic]) -> Vec<Result<(), ApiError>> {
    let request = CreateTopicsRequest::default()
        .with_topics(topics.iter().map(creatable).collect())
        .with_timeout_ms(KNOWN_MS.try_into().unwrap_or(i32::MAX));
    let mut results: Vec<Result<(), ApiError>> = match forward::call(broker, &request, VERSION).await {
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
pub(crate) fn topic(config: &BrokerConfig, name: &str) -> NewTopic {
    let (partitions, replication_factor, configs) = match name {
        CONSUMER_OFFSETS_TOPIC => (
            config.offsets_topic_num_partitions,
            config.offsets_topic_replication_factor,
            vec![
                ("cleanup.policy", "compact".to_owned()),
                ("compression.type", "producer".to_owned()),
                ("segment.bytes", config.offsets_topic_segment_bytes.to_string()),
            ],
        ),
        TRANSACTION_STATE_TOPIC => (
            config.transaction_state_log_num_partitions,
            config.transaction_state_log_replication_factor,
            vec![
                ("cleanup.policy", "compact".to_owned()),
                ("compression.type", "uncompressed".to_owned()),
                ("min.insync.replicas", config.transaction_state_log_min_isr.to_string()),
                ("segment.bytes", config.transaction_state_log_segment_bytes.to_string()),
                ("unclean.leader.election.enable", "false".to_owned()),
            ],
        ),
        SHARE_GROUP_STATE_TOPIC => (
            config.share_coordinator_state_topic_num_partitions,
            config.share_coordinator_state_topic_replication_factor,
            vec![
                ("cleanup.policy", "delete".to_owned()),
                ("compression.type", "producer".to_owned()),
                ("min.insync.replicas", config.share_coordinator_state_topic_min_isr.to_string()),
                ("retention.ms", "-1".to_owned()),
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
        let offsets = topic(&config, CONSUMER_OFFSETS_TOPIC);
        assert_eq!((offsets.partitions, offsets.replication_factor), (50, 1));
        assert!(offsets.configs.contains(&("cleanup.policy".to_owned(), Some("compact".to_owned()))));
        let mine = topic(&config, "mine");
        assert_eq!((mine.partitions, mine.configs.len()), (-1, 0));
    }
}
