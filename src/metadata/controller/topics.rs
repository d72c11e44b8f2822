//! Topics: creation, deletion, more partitions.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::configs;
use super::leaders::default_directory;
use super::partition_change::DIRECTORIES;
use super::placement::place;
use super::{Context, Decision, RECORDS_PER_REQUEST_MAX, Results, Settings};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::command::{CreatedTopic, NewPartitions, NewTopic, PartitionQuota};
use crate::metadata::image::{ConfigResource, Image, PartitionImage};
use crate::metadata::record::{ConfigRecord, Record, RemoveTopicRecord, TopicRecord};
use crate::types::{NodeId, random_kafka_id};

/// The longest name, in characters (`Topic.MAX_NAME_LENGTH`).
const NAME_LENGTH_MAX: usize = 249;

/// Whether a topic may have this name.
///
/// # Errors
/// INVALID_TOPIC_EXCEPTION with the rule that the name breaks.
pub fn check_name(name: &str) -> Result<(), ApiError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let problem = match name {
        "" => "it is empty".to_owned(),
        "." | ".." => format!("'{name}' is a directory"),
        _ if name.chars().count() > NAME_LENGTH_MAX => {
            format!("it is longer than {NAME_LENGTH_MAX} characters")
        }
        _ if !name.bytes().all(plain) => {
            format!("'{name}' has a character other than ASCII letters and digits, '.', '_' and '-'")
        }
        _ => return Ok(()),
    };
    Err(ApiError::with(ErrorCode::InvalidTopicException, format!("The topic name is invalid: {problem}")))
}

/// Creates topics, each by itself: one that is refused does not hold up the others. Names may not repeat.
pub fn create(
    context: &mut Context<'_>,
    topics: &[NewTopic],
    validate_only: bool,
    quota: &PartitionQuota,
) -> Decision<Results<CreatedTopic>> {
    let default_partitions = context.settings.config.num_partitions;
    if topics.iter().map(|topic| wanted_partitions(topic, default_partitions)).sum::<usize>()
        > RECORDS_PER_REQUEST_MAX
    {
        let error = ApiError::with(
            ErrorCode::PolicyViolation,
            format!("one request may create at most {RECORDS_PER_REQUEST_MAX} partitions"),
        );
        return Decision::reply(topics.iter().map(|_| Err(error.clone())).collect());
    }
    let mut records = Vec::new();
    let mut create = |topic| {
        let (created, new_records) = create_one(context, topic, quota)?;
        records.extend(new_records);
        Ok(created)
    };
    let reply = topics.iter().map(&mut create).collect();
    if validate_only {
        records.clear();
    }
    Decision { records, reply }
}

fn wanted_partitions(topic: &NewTopic, default_partitions: i32) -> usize {
    if !topic.assignments.is_empty() {
        return topic.assignments.len();
    }
    let count = if topic.partitions == -1 { default_partitions } else { topic.partitions };
    usize::try_from(count).unwrap_or(0)
}

fn create_one(
    context: &mut Context<'_>,
    topic: &NewTopic,
    quota: &PartitionQuota,
) -> Result<(CreatedTopic, Vec<Record>), ApiError> {
    check_name(&topic.name)?;
    if context.image.topics.get(&topic.name).is_some() {
        let text = format!("Topic '{}' already exists.", topic.name);
        return Err(ApiError::with(ErrorCode::TopicAlreadyExists, text));
    }
    if let Some(other) = context.image.topics.look_alike(&topic.name) {
        let text = format!("Topic '{}' could not be told from '{other}' in metrics.", topic.name);
        return Err(ApiError::with(ErrorCode::InvalidTopicException, text));
    }
    let configs = config_values(topic)?;
    configs::check(context, &ConfigResource::topic(topic.name.as_str()), &configs)?;
    let assignments = if topic.assignments.is_empty() {
        automatic(context, topic.partitions, topic.replication_factor)?
    } else {
        manual(context.image, topic)?
    };
    quota.take(assignments.len())?;
    let topic_id = random_kafka_id(&mut context.random);
    let replication_factor = assignments.first().map_or(0, Vec::len);
    let created = CreatedTopic {
        topic_id,
        partitions: i32::try_from(assignments.len()).unwrap_or(i32::MAX),
        replication_factor: i16::try_from(replication_factor).unwrap_or(i16::MAX),
    };
    let mut records: Vec<Record> = Vec::with_capacity(1 + configs.len() + assignments.len());
    records.push(TopicRecord { name: topic.name.clone(), topic_id, ..TopicRecord::default() }.into());
    let resource = ConfigResource::topic(topic.name.as_str());
    records
        .extend(configs.into_iter().map(|(name, value)| config_record(&resource, name, Some(value)).into()));
    for (number, replicas) in (0..).zip(assignments) {
        records.push(new_partition(context.image, replicas).to_record(topic_id, number).into());
    }
    Ok((created, records))
}

/// What is set for this key of a topic: for the topic, for the controller's node or for the cluster.
pub(super) fn topic_value<'a>(
    image: &'a Image,
    settings: &Settings,
    topic: &str,
    name: &str,
) -> Option<&'a str> {
    let of = |resource| image.config(&resource)?.get(name).map(String::as_str);
    of(ConfigResource::topic(topic))
        .or_else(|| of(ConfigResource::broker(settings.node_id)))
        .or_else(|| of(ConfigResource::cluster()))
}

/// The record that sets or removes one key.
pub(super) fn config_record(resource: &ConfigResource, name: String, value: Option<String>) -> ConfigRecord {
    ConfigRecord {
        resource_type: resource.kind.id(),
        resource_name: resource.name.to_string(),
        name,
        value,
        ..ConfigRecord::default()
    }
}

fn config_values(topic: &NewTopic) -> Result<BTreeMap<String, String>, ApiError> {
    let nulls: Vec<&str> =
        topic.configs.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name.as_str()).collect();
    if nulls.is_empty() {
        Ok(topic.configs.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect())
    } else {
        let text = format!("Null is not a value for the topic configs {}", nulls.join(","));
        Err(ApiError::with(ErrorCode::InvalidConfig, text))
    }
}

/// Lets the controller choose the replicas.
fn automatic(
    context: &mut Context<'_>,
    partitions: i32,
    replication_factor: i16,
) -> Result<Vec<Vec<NodeId>>, ApiError> {
    let config = &context.settings.config;
    if replication_factor < -1 || replication_factor == 0 {
        let text = "The replication factor has to be larger than 0, or -1 for the default.";
        return Err(ApiError::with(ErrorCode::InvalidReplicationFactor, text));
    }
    let partitions = if partitions == -1 { config.num_partitions } else { partitions };
    let (Ok(partitions), true) = (usize::try_from(partitions), partitions > 0) else {
        let text = "The number of partitions has to be larger than 0, or -1 for the default.";
        return Err(ApiError::with(ErrorCode::InvalidPartitions, text));
    };
    let replicas = if replication_factor == -1 {
        usize::try_from(config.default_replication_factor).unwrap_or(1)
    } else {
        usize::from(replication_factor.unsigned_abs())
    };
    let placed = place(context.image, partitions, replicas, context.random);
    placed.map_err(|why| {
        let text = format!("Unable to replicate the partition {replicas} time(s): {why}");
        ApiError::with(ErrorCode::InvalidReplicationFactor, text)
    })
}

/// Checks the replicas that the caller chose.
fn manual(image: &Image, topic: &NewTopic) -> Result<Vec<Vec<NodeId>>, ApiError> {
    if topic.replication_factor != -1 || topic.partitions != -1 {
        let text =
            "With a manual assignment the replication factor and the number of partitions have to be -1.";
        return Err(ApiError::with(ErrorCode::InvalidRequest, text));
    }
    let mut by_number = BTreeMap::new();
    for (number, replicas) in &topic.assignments {
        if by_number.insert(*number, replicas.clone()).is_some() {
            return Err(bad_assignment(format!("Partition {number} is assigned more than once.")));
        }
        let expected = topic.assignments[0].1.len();
        check_replicas(image, *number, replicas, (number != &topic.assignments[0].0).then_some(expected))?;
    }
    if !by_number.keys().copied().eq(0..i32::try_from(by_number.len()).unwrap_or(i32::MAX)) {
        return Err(bad_assignment("The partitions have to be numbered from 0 without a gap.".to_owned()));
    }
    Ok(by_number.into_values().collect())
}

/// Checks the replicas of a new partition, which needs a leader.
fn check_replicas(
    image: &Image,
    number: i32,
    replicas: &[NodeId],
    expected: Option<usize>,
) -> Result<(), ApiError> {
    check_assignment(image, number, replicas, expected)?;
    if replicas.iter().any(|id| image.active_broker(*id).is_some()) {
        return Ok(());
    }
    Err(bad_assignment(format!("Every broker of partition {number} is fenced or shuts down.")))
}

/// Checks the replicas of one partition (`ReplicationControlManager.validateManualPartitionAssignment`).
pub(super) fn check_assignment(
    image: &Image,
    number: i32,
    replicas: &[NodeId],
    expected: Option<usize>,
) -> Result<(), ApiError> {
    if replicas.is_empty() {
        return Err(bad_assignment(format!("Partition {number} has no replica.")));
    }
    for (at, id) in replicas.iter().enumerate() {
        if !image.brokers.contains_key(id) {
            return Err(bad_assignment(format!(
                "Broker {id}, which shall have a replica, is not registered."
            )));
        }
        if replicas[..at].contains(id) {
            return Err(bad_assignment(format!(
                "Partition {number} has more than one replica on broker {id}."
            )));
        }
    }
    if let Some(expected) = expected.filter(|expected| *expected != replicas.len()) {
        let count = replicas.len();
        return Err(bad_assignment(format!(
            "Partition {number} has {count} replica(s), others have {expected}."
        )));
    }
    Ok(())
}

fn bad_assignment(text: String) -> ApiError {
    ApiError::with(ErrorCode::InvalidReplicaAssignment, text)
}

/// A partition that begins with these replicas, of which at least one is active.
fn new_partition(image: &Image, replicas: Vec<NodeId>) -> PartitionImage {
    let isr: Vec<NodeId> = replicas.iter().copied().filter(|id| image.active_broker(*id).is_some()).collect();
    let has_directories = image.metadata_version().is_some_and(|version| version >= DIRECTORIES);
    let directories = if has_directories {
        replicas.iter().map(|id| default_directory(image, *id)).collect()
    } else {
        Vec::new()
    };
    PartitionImage {
        directories,
        leader: isr[0],
        replicas,
        isr,
        removing_replicas: Vec::new(),
        adding_replicas: Vec::new(),
        elr: Vec::new(),
        last_known_elr: Vec::new(),
        recovering: false,
        leader_epoch: 0,
        partition_epoch: 0,
    }
}

/// Removes topics by id, each by itself.
pub fn delete(context: &Context<'_>, ids: &[Uuid], quota: &PartitionQuota) -> Decision<Results<()>> {
    let mut records = Vec::new();
    let mut delete = |id: &Uuid| {
        let topic = context.image.topics.by_id(*id).ok_or(ErrorCode::UnknownTopicId)?;
        quota.take(usize::try_from(topic.partition_count()).unwrap_or(0))?;
        records.push(RemoveTopicRecord { topic_id: *id, ..RemoveTopicRecord::default() }.into());
        Ok(())
    };
    let reply = ids.iter().map(&mut delete).collect();
    Decision { records, reply }
}

/// Gives topics more partitions, each by itself.
pub fn create_partitions(
    context: &mut Context<'_>,
    topics: &[NewPartitions],
    validate_only: bool,
    quota: &PartitionQuota,
) -> Decision<Results<()>> {
    let mut records = Vec::new();
    let mut create = |topic| {
        records.extend(create_partitions_of(context, topic, quota)?);
        Ok(())
    };
    let reply = topics.iter().map(&mut create).collect();
    if validate_only {
        records.clear();
    }
    Decision { records, reply }
}

fn create_partitions_of(
    context: &mut Context<'_>,
    topic: &NewPartitions,
    quota: &PartitionQuota,
) -> Result<Vec<Record>, ApiError> {
    let image = context.image;
    let current = image.topics.get(&topic.topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let count = current.partition_count();
    let invalid = |text| Err(ApiError::with(ErrorCode::InvalidPartitions, text));
    if topic.count == count {
        return invalid(format!("Topic already has {count} partition(s)."));
    }
    if topic.count < count {
        return invalid(format!(
            "Topic {} has {count} partition(s), and {} would be less.",
            topic.topic, topic.count
        ));
    }
    let additional = usize::try_from(topic.count - count).unwrap_or(0);
    if additional > RECORDS_PER_REQUEST_MAX {
        let text = format!("one request may create at most {RECORDS_PER_REQUEST_MAX} partitions");
        return Err(ApiError::with(ErrorCode::PolicyViolation, text));
    }
    let replicas = current.partition(0).map_or(1, |partition| partition.replicas.len());
    let assignments = match &topic.assignments {
        Some(chosen) if chosen.len() != additional => {
            let text =
                format!("{additional} partition(s) are to be added, and {} are assigned.", chosen.len());
            return Err(bad_assignment(text));
        }
        Some(chosen) => {
            for (number, brokers) in (count..).zip(chosen) {
                check_replicas(image, number, brokers, Some(replicas))?;
            }
            chosen.clone()
        }
        None => place(image, additional, replicas, context.random)
            .map_err(|why| ApiError::with(ErrorCode::InvalidReplicationFactor, why))?,
    };
    quota.take(additional)?;
    let record = |(number, replicas)| new_partition(image, replicas).to_record(current.id, number).into();
    Ok((count..).zip(assignments).map(record).collect())
}
