//! Partitions as their brokers ask to change them: the ISR (AlterPartition), and the directories of replicas.

use uuid::Uuid;

use super::leaders::{self, Event};
use super::partition_change::{DIRECTORIES, Rules, Target};
use super::{Context, Decision, Results, brokers};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::command::{AlteredPartition, IsrChange, Placed};
use crate::metadata::image::{Image, PartitionImage, TopicImage};
use crate::metadata::record::{PartitionChangeRecord, Record};
use crate::types::NodeId;

/// Makes the ISR of partitions what their leader asks for, each by itself. A reassignment that was waiting for one of
/// the replicas ends with it, which may take the leadership from whoever asked: that is told as NEW_LEADER_ELECTED.
pub fn alter(
    context: &Context<'_>,
    broker_id: NodeId,
    broker_epoch: i64,
    changes: &[IsrChange],
) -> Decision<Result<Results<AlteredPartition>, ApiError>> {
    if let Err(error) = brokers::check_epoch(context, broker_id, broker_epoch) {
        return Decision::reply(Err(error));
    }
    let mut records = Vec::new();
    let mut alter = |change| {
        let (altered, record) = alter_one(context, broker_id, change)?;
        let moved = record.as_ref().is_some_and(|record| record.leader >= -1 && record.leader != broker_id);
        records.extend(record.map(Record::from));
        if moved { Err(ErrorCode::NewLeaderElected.into()) } else { Ok(altered) }
    };
    let reply = changes.iter().map(&mut alter).collect();
    Decision { records, reply: Ok(reply) }
}

fn alter_one(
    context: &Context<'_>,
    broker_id: NodeId,
    change: &IsrChange,
) -> Result<(AlteredPartition, Option<PartitionChangeRecord>), ApiError> {
    let Context { image, settings, .. } = context;
    let topic = image.topics.by_id(change.topic_id).ok_or(ErrorCode::UnknownTopicId)?;
    let partition = topic.partition(change.partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    check(image, broker_id, partition, change)?;
    let rules = Rules::of(image, settings, topic);
    let mut target = Target::of(partition);
    target.election = rules.election();
    target.isr = change.isr.iter().map(|(id, _)| *id).collect();
    target.recovering = change.recovering;
    let record = record_of(image, topic, change.partition, target, &rules);
    let mut altered = partition.clone();
    if let Some(record) = &record {
        altered.change(record);
    }
    let PartitionImage { leader, leader_epoch, isr, recovering, partition_epoch, .. } = altered;
    Ok((AlteredPartition { leader, leader_epoch, isr, recovering, partition_epoch }, record))
}

/// `ReplicationControlManager.validateAlterPartitionData`.
fn check(
    image: &Image,
    broker_id: NodeId,
    partition: &PartitionImage,
    change: &IsrChange,
) -> Result<(), ErrorCode> {
    // Whoever knows more than this controller knows a newer one.
    if change.leader_epoch > partition.leader_epoch || change.partition_epoch > partition.partition_epoch {
        return Err(ErrorCode::NotController);
    }
    if change.leader_epoch < partition.leader_epoch {
        return Err(ErrorCode::FencedLeaderEpoch);
    }
    if broker_id != partition.leader {
        return Err(ErrorCode::InvalidRequest);
    }
    if change.partition_epoch < partition.partition_epoch {
        return Err(ErrorCode::InvalidUpdateVersion);
    }
    let isr: Vec<NodeId> = change.isr.iter().map(|(id, _)| *id).collect();
    let repeated = isr.iter().enumerate().any(|(at, id)| isr[..at].contains(id));
    let foreign = isr.iter().any(|id| !partition.replicas.contains(id));
    if repeated || foreign || !isr.contains(&partition.leader) {
        return Err(ErrorCode::InvalidRequest);
    }
    if change.recovering && (isr.len() > 1 || !partition.recovering) {
        return Err(ErrorCode::InvalidRequest);
    }
    // A broker that was restarted since may have lost what it had when the leader saw it in sync.
    let eligible = |(id, epoch): &(NodeId, i64)| {
        image.active_broker(*id).is_some_and(|broker| *epoch == -1 || broker.epoch == *epoch)
    };
    if change.isr.iter().all(eligible) { Ok(()) } else { Err(ErrorCode::IneligibleReplica) }
}

/// Notes in which directories a broker has put its replicas, each by itself.
pub fn assign_directories(
    context: &Context<'_>,
    broker_id: NodeId,
    broker_epoch: i64,
    placed: &[Placed],
) -> Decision<Result<Results<()>, ApiError>> {
    if context.image.metadata_version().unwrap_or_default() < DIRECTORIES {
        let text = "the metadata.version is too old for directories of replicas";
        return Decision::reply(Err(ApiError::with(ErrorCode::UnsupportedVersion, text)));
    }
    let broker = match brokers::check_epoch(context, broker_id, broker_epoch) {
        Ok(broker) => broker,
        Err(error) => return Decision::reply(Err(error)),
    };
    let (mut records, mut offline): (Vec<Record>, Vec<(Uuid, i32)>) = (Vec::new(), Vec::new());
    let mut assign = |placed: &Placed| {
        records.extend(assign_one(context, broker_id, placed)?.map(Record::from));
        if !broker.has_online_directory(placed.directory) {
            offline.push((placed.topic_id, placed.partition));
        }
        Ok(())
    };
    let reply = placed.iter().map(&mut assign).collect();
    for (topic_id, number) in offline {
        let record = leaders::update_one(context, topic_id, number, Event::Gone(broker_id));
        records.extend(record.map(Record::from));
    }
    Decision { records, reply: Ok(reply) }
}

fn assign_one(
    context: &Context<'_>,
    broker_id: NodeId,
    placed: &Placed,
) -> Result<Option<PartitionChangeRecord>, ApiError> {
    let Context { image, settings, .. } = context;
    let topic = image.topics.by_id(placed.topic_id).ok_or(ErrorCode::UnknownTopicId)?;
    let partition = topic.partition(placed.partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if !partition.replicas.contains(&broker_id) {
        return Err(ErrorCode::NotLeaderOrFollower.into());
    }
    let mut target = Target::of(partition);
    target.directories.insert(broker_id, placed.directory);
    Ok(record_of(image, topic, placed.partition, target, &Rules::of(image, settings, topic)))
}

/// The record that leads to the target, where brokers can lead as they are.
pub(super) fn record_of(
    image: &Image,
    topic: &TopicImage,
    number: i32,
    target: Target<'_>,
    rules: &Rules,
) -> Option<PartitionChangeRecord> {
    let partition = topic.partition(number)?;
    let can_lead = |id| leaders::can_lead(image, partition, id);
    let record = target.change(rules, can_lead, |id| leaders::default_directory(image, id))?;
    Some(PartitionChangeRecord { partition_id: number, topic_id: topic.id, ..record })
}
