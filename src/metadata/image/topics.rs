//! Topics and their partitions.

use std::sync::Arc;

use imbl::{HashMap, OrdMap, OrdSet};
use uuid::Uuid;

use super::ImageError;
use crate::metadata::record::{PartitionChangeRecord, PartitionRecord};
use crate::types::{LeaderEpoch, NodeId};

/// The leader of a partition that has none.
pub const NO_LEADER: NodeId = -1;
/// What a change record says about a leader that stays.
const LEADER_STAYS: NodeId = -2;
/// What a change record says about a recovery state that stays.
const RECOVERY_STAYS: i8 = -1;

/// One partition (Kafka's `PartitionRegistration`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionImage {
    /// In order of preference.
    pub replicas: Vec<NodeId>,
    /// The directory of each replica, in the same order.
    pub directories: Vec<Uuid>,
    /// The replicas in sync.
    pub isr: Vec<NodeId>,
    /// Replicas that a reassignment takes away.
    pub removing_replicas: Vec<NodeId>,
    /// Replicas that a reassignment adds.
    pub adding_replicas: Vec<NodeId>,
    /// Replicas outside the ISR that have everything committed (KIP-966).
    pub elr: Vec<NodeId>,
    /// The last members of the ELR that are known.
    pub last_known_elr: Vec<NodeId>,
    /// [`NO_LEADER`] for none.
    pub leader: NodeId,
    /// Whether the leader came from an unclean election and is still recovering.
    pub recovering: bool,
    /// Grows whenever a leader is chosen or lost.
    pub leader_epoch: LeaderEpoch,
    /// Grows with every change.
    pub partition_epoch: i32,
}

impl PartitionImage {
    /// The partition as its record creates it.
    pub fn new(record: &PartitionRecord) -> Self {
        Self {
            replicas: record.replicas.clone(),
            directories: record.directories.clone(),
            isr: record.isr.clone(),
            removing_replicas: record.removing_replicas.clone(),
            adding_replicas: record.adding_replicas.clone(),
            elr: record.eligible_leader_replicas.clone().unwrap_or_default(),
            last_known_elr: record.last_known_elr.clone().unwrap_or_default(),
            leader: record.leader,
            recovering: record.leader_recovery_state == 1,
            leader_epoch: record.leader_epoch,
            partition_epoch: record.partition_epoch,
        }
    }

    /// The record that creates this partition.
    pub fn to_record(&self, topic_id: Uuid, partition: i32) -> PartitionRecord {
        let unless_empty = |ids: &Vec<NodeId>| (!ids.is_empty()).then(|| ids.clone());
        PartitionRecord {
            partition_id: partition,
            topic_id,
            replicas: self.replicas.clone(),
            isr: self.isr.clone(),
            removing_replicas: self.removing_replicas.clone(),
            adding_replicas: self.adding_replicas.clone(),
            leader: self.leader,
            leader_recovery_state: i8::from(self.recovering),
            leader_epoch: self.leader_epoch,
            partition_epoch: self.partition_epoch,
            directories: self.directories.clone(),
            eligible_leader_replicas: unless_empty(&self.elr),
            last_known_elr: unless_empty(&self.last_known_elr),
            ..PartitionRecord::default()
        }
    }

    /// Takes in a change (`PartitionRegistration.merge`). A leader that is named, even if it is the same one, begins
    /// a new leader epoch.
    pub fn change(&mut self, record: &PartitionChangeRecord) {
        let take = |field: &mut Vec<NodeId>, change: &Option<Vec<NodeId>>| {
            if let Some(ids) = change {
                field.clone_from(ids);
            }
        };
        take(&mut self.isr, &record.isr);
        take(&mut self.replicas, &record.replicas);
        take(&mut self.removing_replicas, &record.removing_replicas);
        take(&mut self.adding_replicas, &record.adding_replicas);
        take(&mut self.elr, &record.eligible_leader_replicas);
        take(&mut self.last_known_elr, &record.last_known_elr);
        if let Some(directories) = &record.directories {
            self.directories.clone_from(directories);
        }
        if record.leader != LEADER_STAYS {
            self.leader = record.leader;
            self.leader_epoch += 1;
        }
        if record.leader_recovery_state != RECOVERY_STAYS {
            self.recovering = record.leader_recovery_state == 1;
        }
        self.partition_epoch += 1;
    }

    /// The directory of the replica on this broker; `None` where it has none. What was written before replicas had
    /// directories says nothing of them (`DirectoryId.MIGRATING`).
    pub fn directory(&self, replica: NodeId) -> Option<Uuid> {
        let at = self.replicas.iter().position(|id| *id == replica)?;
        Some(self.directories.get(at).copied().unwrap_or_default())
    }

    /// Whether a reassignment adds replicas or takes some away.
    pub fn is_reassigning(&self) -> bool {
        !self.removing_replicas.is_empty() || !self.adding_replicas.is_empty()
    }

    /// Forgets the eligible leader replicas; whether there were any.
    fn clear_elr(&mut self) -> bool {
        let had_any = !self.elr.is_empty() || !self.last_known_elr.is_empty();
        if had_any {
            self.elr.clear();
            self.last_known_elr.clear();
            self.partition_epoch += 1;
        }
        had_any
    }
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicImage {
    /// Its name, which a later topic may have again.
    pub name: Arc<str>,
    /// Its id, which no other topic ever has.
    pub id: Uuid,
    partitions: OrdMap<i32, PartitionImage>,
}

impl TopicImage {
    /// The partitions by number, from 0.
    pub fn partitions(&self) -> impl Iterator<Item = (i32, &PartitionImage)> {
        self.partitions.iter().map(|(number, partition)| (*number, partition))
    }

    /// One partition.
    pub fn partition(&self, number: i32) -> Option<&PartitionImage> {
        self.partitions.get(&number)
    }

    /// How many partitions the topic has.
    pub fn partition_count(&self) -> i32 {
        // The number of a partition is an i32, so their count is one too.
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }
}

/// All topics, by name and by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics {
    by_name: OrdMap<Arc<str>, Arc<TopicImage>>,
    names: HashMap<Uuid, Arc<str>>,
    /// The names that are the same once dots are underscores, by that common form; only names with one of them.
    look_alikes: HashMap<String, OrdSet<Arc<str>>>,
}

impl Topics {
    /// The topic of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.by_name.get(name)
    }

    /// The topic of this id.
    pub fn by_id(&self, id: Uuid) -> Option<&Arc<TopicImage>> {
        self.by_name.get(self.names.get(&id)?)
    }

    /// All topics in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.by_name.values()
    }

    /// The topics from this name on, in the order of their names.
    pub fn starting_at(&self, name: &str) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.by_name.range(Arc::<str>::from(name)..).map(|(_, topic)| topic)
    }

    /// How many topics there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is no topic.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// How many partitions all topics have together.
    pub fn partition_count(&self) -> usize {
        self.iter().map(|topic| topic.partitions.len()).sum()
    }

    /// A topic whose metrics could not be told from those of `name`: both are the same once dots are underscores
    /// (`Topic.hasCollision`).
    pub fn look_alike(&self, name: &str) -> Option<&Arc<str>> {
        self.look_alikes.get(&look_alike_key(name)?)?.iter().next()
    }

    pub(super) fn add(&mut self, name: &str, id: Uuid) -> Result<(), ImageError> {
        let name: Arc<str> = name.into();
        if self.by_name.contains_key(&name) || self.names.contains_key(&id) {
            return Err(ImageError::TopicTwice { name: name.to_string(), id });
        }
        if let Some(key) = look_alike_key(&name) {
            self.look_alikes.entry(key).or_default().insert(Arc::clone(&name));
        }
        self.names.insert(id, Arc::clone(&name));
        let topic = TopicImage { name: Arc::clone(&name), id, partitions: OrdMap::new() };
        self.by_name.insert(name, Arc::new(topic));
        Ok(())
    }

    pub(super) fn remove(&mut self, id: Uuid) -> Result<Arc<str>, ImageError> {
        let name = self.names.remove(&id).ok_or(ImageError::NoTopic(id))?;
        self.by_name.remove(&name);
        if let Some(key) = look_alike_key(&name)
            && let Some(names) = self.look_alikes.get_mut(&key)
        {
            names.remove(&name);
            if names.is_empty() {
                self.look_alikes.remove(&key);
            }
        }
        Ok(name)
    }

    pub(super) fn add_partition(&mut self, record: &PartitionRecord) -> Result<(), ImageError> {
        let topic = self.topic_mut(record.topic_id)?;
        topic.partitions.insert(record.partition_id, PartitionImage::new(record));
        Ok(())
    }

    pub(super) fn change_partition(&mut self, record: &PartitionChangeRecord) -> Result<(), ImageError> {
        let missing = ImageError::NoPartition { topic_id: record.topic_id, partition: record.partition_id };
        let topic = self.topic_mut(record.topic_id)?;
        topic.partitions.get_mut(&record.partition_id).ok_or(missing)?.change(record);
        Ok(())
    }

    /// Forgets the eligible leader replicas of one topic, or of all where the name is empty.
    pub(super) fn clear_elr(&mut self, name: &str) {
        let all = name.is_empty();
        let names: Vec<_> = self.iter().filter(|t| all || &*t.name == name).map(|t| t.name.clone()).collect();
        for name in names {
            let Some(topic) = self.by_name.get_mut(&name) else { continue };
            let numbers: Vec<i32> = topic.partitions.keys().copied().collect();
            let mut changed = TopicImage::clone(topic);
            let mut any = false;
            for number in numbers {
                any |= changed.partitions.get_mut(&number).is_some_and(PartitionImage::clear_elr);
            }
            if any {
                *topic = Arc::new(changed);
            }
        }
    }

    fn topic_mut(&mut self, id: Uuid) -> Result<&mut TopicImage, ImageError> {
        let name = self.names.get(&id).ok_or(ImageError::NoTopic(id))?;
        let topic = self.by_name.get_mut(name).ok_or(ImageError::NoTopic(id))?;
        Ok(Arc::make_mut(topic))
    }
}

fn look_alike_key(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}
