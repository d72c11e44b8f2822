//! Topics that are created because somebody is about to use them.

use std::collections::BTreeMap;

use super::context::BrokerHandles;
use crate::config::BrokerConfig;
use crate::error::{ApiError, ErrorCode};
use crate::metadata::command::NewTopic;
use crate::types::{CONSUMER_OFFSETS_TOPIC, SHARE_GROUP_STATE_TOPIC, TRANSACTION_STATE_TOPIC};

/// Creates these topics, as far as they are not there when this returns.
///
/// # Errors
/// For each topic, why it could not be created.
pub(crate) async fn create(broker: &BrokerHandles, names: Vec<&str>) -> BTreeMap<String, ApiError> {
    let config = broker.metadata.broker_config();
    let topics = names.iter().map(|name| topic(&config, name)).collect();
    let mut failed = BTreeMap::new();
    for (name, created) in names.iter().zip(broker.metadata.create_topics(topics, false).await) {
        match created {
            Ok(_) => {}
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
