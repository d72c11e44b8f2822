//! Reassignments: partitions move to other brokers (KIP-455).
//!
//! The replicas to add join first; once they are in sync, those to remove go, with the change of the ISR that made it
//! so (`Target::change`). Until then the reassignment can be taken back or replaced by another one.

use super::partition_change::{Rules, Target};
use super::partitions::record_of;
use super::topics::check_assignment;
use super::{Context, Decision, Results};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::command::Reassignment;
use crate::metadata::image::PartitionImage;
use crate::metadata::record::{PartitionChangeRecord, Record};
use crate::types::NodeId;

/// Begins reassignments or takes them back, each by itself.
pub fn alter(
    context: &Context<'_>,
    reassignments: &[Reassignment],
    allow_replication_factor_change: bool,
) -> Decision<Results<()>> {
    let mut records = Vec::new();
    let mut alter = |reassignment: &Reassignment| {
        let record = alter_one(context, reassignment, allow_replication_factor_change)?;
        records.extend(record.map(Record::from));
        Ok(())
    };
    let reply = reassignments.iter().map(&mut alter).collect();
    Decision { records, reply }
}

fn alter_one(
    context: &Context<'_>,
    reassignment: &Reassignment,
    allow_replication_factor_change: bool,
) -> Result<Option<PartitionChangeRecord>, ApiError> {
    let Context { image, settings, .. } = context;
    let Reassignment { topic, partition: number, replicas } = reassignment;
    let unknown = |text: String| ApiError::with(ErrorCode::UnknownTopicOrPartition, text);
    let topic =
        image.topics.get(topic).ok_or_else(|| unknown(format!("There is no topic named {topic}.")))?;
    let partition = topic
        .partition(*number)
        .ok_or_else(|| unknown(format!("There is no partition {}-{number}.", topic.name)))?;
    let rules = Rules::of(image, settings, topic);
    let target = match replicas {
        Some(replicas) => {
            check_assignment(image, *number, replicas, None)?;
            if !allow_replication_factor_change {
                check_replication_factor(partition, replicas)?;
            }
            begin(partition, replicas)
        }
        None => {
            let place = || format!("{}-{number}", topic.name);
            cancel(partition, &rules, place)?
        }
    };
    Ok(record_of(image, topic, *number, target, &rules))
}

/// The replicas without those that are being added.
fn original(partition: &PartitionImage) -> Vec<NodeId> {
    without(&partition.replicas, &partition.adding_replicas)
}

/// The partition with the replicas that are to be there, and those that are to go behind them. What an earlier
/// reassignment was adding, and this one does not want, goes at once, unless nobody else is in sync.
fn begin<'a>(partition: &'a PartitionImage, replicas: &[NodeId]) -> Target<'a> {
    let original = original(partition);
    let sorted = |mut ids: Vec<NodeId>| {
        ids.sort_unstable();
        ids
    };
    let mut target = Target::of(partition);
    target.adding = sorted(without(replicas, &original));
    target.removing = sorted(without(&original, replicas));
    let stay = |id: &NodeId| replicas.contains(id) || original.contains(id);
    let isr: Vec<NodeId> = partition.isr.iter().copied().filter(stay).collect();
    if isr.is_empty() {
        target.removing = sorted(without(&partition.replicas, replicas));
    } else {
        target.isr = isr;
    }
    target.replicas = [replicas, &target.removing].concat();
    target
}

/// The partition as it was before the reassignment.
fn cancel<'a>(
    partition: &'a PartitionImage,
    rules: &Rules,
    place: impl Fn() -> String,
) -> Result<Target<'a>, ApiError> {
    if !partition.is_reassigning() {
        return Err(ErrorCode::NoReassignmentInProgress.into());
    }
    let mut target = Target::of(partition);
    target.election = rules.election();
    target.replicas = original(partition);
    target.isr = without(&partition.isr, &partition.adding_replicas);
    target.removing.clear();
    target.adding.clear();
    let invalid = |text: String| Err(ApiError::with(ErrorCode::InvalidReplicaAssignment, text));
    if target.isr.is_empty() {
        let Some(first) = target.replicas.first() else {
            return invalid("every replica is one that is being added.".to_owned());
        };
        if !rules.unclean {
            let place = place();
            return invalid(format!(
                "The reassignment of {place} can not be taken back: only replicas that it adds are in sync, and unclean \
                 elections are not allowed."
            ));
        }
        target.isr.push(*first);
    }
    Ok(target)
}

fn check_replication_factor(partition: &PartitionImage, replicas: &[NodeId]) -> Result<(), ApiError> {
    let current = if partition.is_reassigning() {
        without(&partition.replicas, &partition.removing_replicas).len()
    } else {
        partition.replicas.len()
    };
    if current == replicas.len() {
        return Ok(());
    }
    let text = format!("The replication factor would change from {current} to {}.", replicas.len());
    Err(ApiError::with(ErrorCode::InvalidReplicationFactor, text))
}

fn without(ids: &[NodeId], others: &[NodeId]) -> Vec<NodeId> {
    ids.iter().copied().filter(|id| !others.contains(id)).collect()
}
