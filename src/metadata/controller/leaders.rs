//! Leaders: what a broker that goes or comes means for partitions, and elections
//! (`ReplicationControlManager.generateLeaderAndIsrUpdates`, `electLeaders`).

use uuid::Uuid;

use super::Context;
use super::partition_change::{Rules, Target};
use crate::metadata::image::{Image, NO_LEADER, PartitionImage, TopicImage};
use crate::metadata::record::{PartitionChangeRecord, Record};
use crate::types::NodeId;

/// What happens to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// It can lead nothing any more, and leaves every ISR.
    Gone(NodeId),
    /// It can lead again.
    Back(NodeId),
    /// It came back and may have lost what it had: it leaves every ISR and is not eligible either.
    LostData(NodeId),
}

impl Event {
    fn concerns(self, partition: &PartitionImage) -> bool {
        match self {
            Self::Gone(id) => partition.isr.contains(&id),
            Self::Back(_) => partition.leader == NO_LEADER,
            Self::LostData(id) => partition.isr.contains(&id) || partition.elr.contains(&id),
        }
    }

    fn can_lead(self, image: &Image, id: NodeId) -> bool {
        match self {
            Self::Gone(gone) | Self::LostData(gone) => id != gone && image.active_broker(id).is_some(),
            Self::Back(back) => id == back || image.active_broker(id).is_some(),
        }
    }
}

/// The changes of all partitions that the event concerns and that are not spared.
pub(super) fn updates(
    context: &Context<'_>,
    event: Event,
    spared: impl Fn(&PartitionImage) -> bool,
) -> Vec<Record> {
    let Context { image, settings, .. } = context;
    let mut records = Vec::new();
    for topic in image.topics.iter() {
        let mut rules = None;
        for (number, partition) in topic.partitions() {
            if event.concerns(partition) && !spared(partition) {
                let rules = rules.get_or_insert_with(|| Rules::of(image, settings, topic));
                records.extend(update(image, rules, topic, number, event).map(Record::from));
            }
        }
    }
    records
}

/// The change of one partition.
fn update(
    image: &Image,
    rules: &Rules,
    topic: &TopicImage,
    number: i32,
    event: Event,
) -> Option<PartitionChangeRecord> {
    let partition = topic.partition(number)?;
    let mut target = Target::of(partition);
    target.election = rules.election();
    match event {
        Event::Gone(gone) => target.isr.retain(|id| *id != gone),
        Event::LostData(gone) => {
            target.isr.retain(|id| *id != gone);
            target.unclean_shutdown = Some(gone);
        }
        Event::Back(_) => {}
    }
    let can_lead = |id| event.can_lead(image, id) && in_online_directory(image, partition, id);
    let record = target.change(rules, can_lead, |id| default_directory(image, id))?;
    Some(PartitionChangeRecord { partition_id: number, topic_id: topic.id, ..record })
}

/// The change of one partition, if the event concerns it.
pub(super) fn update_one(
    context: &Context<'_>,
    topic_id: Uuid,
    number: i32,
    event: Event,
) -> Option<PartitionChangeRecord> {
    let Context { image, settings, .. } = context;
    let topic = image.topics.by_id(topic_id)?;
    update(image, &Rules::of(image, settings, topic), topic, number, event)
}

/// Whether this broker may lead this partition: it is alive, and so is the directory of its replica.
pub(super) fn can_lead(image: &Image, partition: &PartitionImage, id: NodeId) -> bool {
    image.active_broker(id).is_some() && in_online_directory(image, partition, id)
}

fn in_online_directory(image: &Image, partition: &PartitionImage, id: NodeId) -> bool {
    let directory = partition.directory(id).unwrap_or_default();
    image.brokers.get(&id).is_some_and(|broker| broker.has_online_directory(directory))
}

/// Where new replicas of this broker go.
pub(super) fn default_directory(image: &Image, id: NodeId) -> Uuid {
    image.brokers.get(&id).map_or(crate::metadata::image::UNASSIGNED, |broker| broker.default_directory())
}
