//! Elections that somebody asks for, or that are due: preferred leaders, and leaders for partitions that have none.

use super::partition_change::{Election, Rules, Target};
use super::partitions::record_of;
use super::{Context, Decision, Results};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::command::ElectionType;
use crate::metadata::image::{NO_LEADER, PartitionImage};
use crate::metadata::record::{PartitionChangeRecord, Record};

/// How many leaders are changed at once by what the controller does by itself
/// (`ReplicationControlManager.MAX_ELECTIONS_PER_IMBALANCE`).
const ELECTIONS_MAX: usize = 1_000;

/// Elects leaders of these partitions, each by itself.
pub fn elect(
    context: &Context<'_>,
    kind: ElectionType,
    partitions: &[(String, i32)],
) -> Decision<Results<()>> {
    let mut records = Vec::new();
    let mut elect = |(topic, number): &(String, i32)| {
        records.push(elect_one(context, kind, topic, *number)?.into());
        Ok(())
    };
    let reply = partitions.iter().map(&mut elect).collect();
    Decision { records, reply }
}

fn elect_one(
    context: &Context<'_>,
    kind: ElectionType,
    topic: &str,
    number: i32,
) -> Result<PartitionChangeRecord, ApiError> {
    let Context { image, settings, .. } = context;
    let unknown = |text: String| ApiError::with(ErrorCode::UnknownTopicOrPartition, text);
    let topic =
        image.topics.get(topic).ok_or_else(|| unknown(format!("There is no topic named {topic}.")))?;
    let partition = topic
        .partition(number)
        .ok_or_else(|| unknown(format!("There is no partition {}-{number}.", topic.name)))?;
    let (needed, election, unavailable) = match kind {
        ElectionType::Preferred => {
            (!has_preferred_leader(partition), Election::Preferred, ErrorCode::PreferredLeaderNotAvailable)
        }
        ElectionType::Unclean => {
            (partition.leader == NO_LEADER, Election::Unclean, ErrorCode::EligibleLeadersNotAvailable)
        }
    };
    if !needed {
        return Err(ErrorCode::ElectionNotNeeded.into());
    }
    let mut target = Target::of(partition);
    target.election = election;
    let record = record_of(image, topic, number, target, &Rules::of(image, settings, topic));
    record.ok_or_else(|| unavailable.into())
}

fn has_preferred_leader(partition: &PartitionImage) -> bool {
    partition.replicas.first() == Some(&partition.leader)
}

/// Gives leaderships back to preferred replicas, as many as go into one round; whether there may be more.
pub(super) fn balance(context: &Context<'_>) -> (Vec<Record>, bool) {
    round(context, |_, partition| {
        let imbalanced = !has_preferred_leader(partition);
        imbalanced.then_some(Election::Preferred)
    })
}

/// Elects leaders where there are none and unclean elections are allowed, as many as go into one round; whether there
/// may be more.
pub(super) fn elect_uncleanly(context: &Context<'_>) -> (Vec<Record>, bool) {
    round(context, |rules, partition| {
        let wanted = partition.leader == NO_LEADER && rules.unclean;
        wanted.then_some(Election::Unclean)
    })
}

fn round(
    context: &Context<'_>,
    wanted: impl Fn(&Rules, &PartitionImage) -> Option<Election>,
) -> (Vec<Record>, bool) {
    let Context { image, settings, .. } = context;
    let mut records: Vec<Record> = Vec::new();
    for topic in image.topics.iter() {
        let rules = Rules::of(image, settings, topic);
        for (number, partition) in topic.partitions() {
            let Some(election) = wanted(&rules, partition) else { continue };
            if records.len() == ELECTIONS_MAX {
                return (records, true);
            }
            let mut target = Target::of(partition);
            target.election = election;
            records.extend(record_of(image, topic, number, target, &rules).map(Record::from));
        }
    }
    (records, false)
}
