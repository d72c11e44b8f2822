//! CreateTopics (19): creates topics, each by itself.
//!
//! - A name that stands twice in the request is refused, and the metadata log is no topic to create.
//! - Since version 5 the response has the topic's configuration (KIP-525), since version 7 its id.
//! - `timeout_ms` has no meaning here: the topic is there when the response leaves.

use std::collections::{BTreeMap, HashMap};

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};

use super::context::{Context, Disconnect};
use super::outcome::{code_and_message, text};
use super::throttle;
use crate::config::describe;
use crate::error::{ApiError, ErrorCode};
use crate::metadata::Metadata;
use crate::metadata::command::{CreatedTopic, NewTopic, PartitionQuota};
use crate::protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use crate::types::CLUSTER_METADATA_TOPIC;

/// Since this version clients know THROTTLING_QUOTA_EXCEEDED (KIP-599).
const STRICT_SINCE: i16 = 6;

pub(super) async fn handle(
    context: &Context,
    request: CreateTopicsRequest,
    version: i16,
) -> Result<CreateTopicsResponse, Disconnect> {
    let quota = throttle::partition_quota(context, version >= STRICT_SINCE);
    Ok(create(&context.broker.metadata, request, quota).await)
}

pub(super) async fn create(
    metadata: &Metadata,
    request: CreateTopicsRequest,
    quota: PartitionQuota,
) -> CreateTopicsResponse {
    let mut times: HashMap<String, usize> = HashMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.to_string()).or_default() += 1;
    }
    let (mut wanted, mut refused) = (Vec::new(), Vec::new());
    for topic in &request.topics {
        let name = topic.name.to_string();
        match times.get_mut(&name) {
            Some(1) if name == CLUSTER_METADATA_TOPIC => {
                refused.push((
                    name,
                    format!("Creation of internal topic {CLUSTER_METADATA_TOPIC} is prohibited."),
                ));
            }
            Some(1) => wanted.push(new_topic(topic)),
            // Of several only the first is answered.
            Some(count) if *count > 1 => {
                *count = 0;
                refused.push((name, "Duplicate topic name.".to_owned()));
            }
            Some(_) | None => {}
        }
    }
    let results = metadata.create_topics(wanted.clone(), request.validate_only, quota).await;
    let mut topics: Vec<_> =
        wanted.iter().zip(results).map(|(topic, result)| answer(metadata, topic, &result)).collect();
    for (name, why) in refused {
        let result = Err::<CreatedTopic, _>(ApiError::with(ErrorCode::InvalidRequest, why));
        topics.push(failed(&name, &result));
    }
    CreateTopicsResponse::default().with_topics(topics)
}

fn new_topic(topic: &CreatableTopic) -> NewTopic {
    let ids = |ids: &[kafka_protocol::messages::BrokerId]| ids.iter().map(|id| id.0).collect();
    NewTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic
            .assignments
            .iter()
            .map(|one| (one.partition_index, ids(&one.broker_ids)))
            .collect(),
        configs: topic
            .configs
            .iter()
            .map(|config| (config.name.to_string(), config.value.as_ref().map(ToString::to_string)))
            .collect(),
    }
}

fn answer(
    metadata: &Metadata,
    topic: &NewTopic,
    result: &Result<CreatedTopic, ApiError>,
) -> CreatableTopicResult {
    let Ok(created) = result else { return failed(&topic.name, result) };
    let overrides: BTreeMap<String, String> =
        topic.configs.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect();
    let mut configs = describe::topic(&overrides, &metadata.broker_config());
    configs.sort_by(|one, two| one.name.cmp(&two.name));
    let config = |config: describe::Described| {
        CreatableTopicConfigs::default()
            .with_name(text(config.name))
            .with_value(config.value.filter(|_| !config.sensitive).map(text))
            .with_read_only(config.read_only)
            .with_config_source(config.source.wire_id())
            .with_is_sensitive(config.sensitive)
    };
    CreatableTopicResult::default()
        .with_name(text(topic.name.clone()).into())
        .with_error_message(None)
        .with_topic_id(created.topic_id)
        .with_num_partitions(created.partitions)
        .with_replication_factor(created.replication_factor)
        .with_configs(Some(configs.into_iter().map(config).collect()))
}

fn failed(name: &str, result: &Result<CreatedTopic, ApiError>) -> CreatableTopicResult {
    let (code, message) = code_and_message(result);
    CreatableTopicResult::default()
        .with_name(text(name).into())
        .with_error_code(code)
        .with_error_message(message)
        .with_configs(Some(Vec::new()))
}
