//! What becomes of one partition: the only place where leaders are chosen and where members join or leave the ISR and
//! the eligible leader replicas (`PartitionChangeBuilder`, KIP-966).
//!
//! - A replica in the ISR, or where the ISR is empty an eligible one, has everything that was committed and may lead.
//! - Who leaves an ISR that gets smaller than the minimum becomes eligible, unless its machine lost what it had.
//! - Where nobody is left, the replica that led last may lead again; others only where unclean elections are allowed.
//!   Either way the new leader recovers, and is the whole ISR.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::Settings;
use super::features::ELR_VERSION;
use super::topics::topic_value;
use crate::metadata::image::{Image, NO_LEADER, PartitionImage, TopicImage};
use crate::metadata::record::PartitionChangeRecord;
use crate::types::NodeId;

/// What a change record says about a leader that stays.
const LEADER_STAYS: NodeId = -2;
/// The `metadata.version` (3.6-IV0) from which a smaller ISR needs no new leader epoch (KAFKA-15021).
const SHRINKS_KEEP_THE_EPOCH: i16 = 12;
/// The `metadata.version` (3.7-IV2) from which a replica has a directory.
pub(super) const DIRECTORIES: i16 = 17;

/// Who may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Election {
    /// The first replica, if it can lead; otherwise whoever leads goes on.
    Preferred,
    /// Whoever leads goes on; otherwise the first one that can.
    Online,
    /// As before, and where nobody can, any replica that is alive.
    Unclean,
}

/// What holds for a topic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// The finalised `metadata.version`.
    pub(super) metadata_version: i16,
    /// Below this many replicas in sync nothing is committed.
    pub(super) min_isr: usize,
    /// Whether there are eligible leader replicas.
    pub(super) elr: bool,
    /// `unclean.leader.election.enable`.
    pub(super) unclean: bool,
}

impl Rules {
    /// The rules of this topic.
    pub(super) fn of(image: &Image, settings: &Settings, topic: &TopicImage) -> Self {
        let value = |name: &str| topic_value(image, settings, &topic.name, name);
        let set = value("min.insync.replicas").and_then(|value| value.parse().ok());
        let fixed = usize::try_from(settings.config.min_insync_replicas).unwrap_or(1);
        let replicas = topic.partition(0).map_or(1, |partition| partition.replicas.len());
        let unclean = value("unclean.leader.election.enable");
        let fixed_unclean = settings.config.unclean_leader_election_enable;
        Self {
            metadata_version: image.metadata_version().unwrap_or_default(),
            min_isr: set.unwrap_or(fixed).min(replicas),
            elr: image.feature(ELR_VERSION) > 0,
            unclean: unclean.map_or(fixed_unclean, |value| value.eq_ignore_ascii_case("true")),
        }
    }

    /// The election that happens when a leader is lost.
    pub(super) fn election(&self) -> Election {
        if self.unclean { Election::Unclean } else { Election::Online }
    }
}

/// What a partition shall become. It begins as it is.
#[derive(Clone, Debug)]
pub(super) struct Target<'a> {
    partition: &'a PartitionImage,
    pub(super) isr: Vec<NodeId>,
    pub(super) replicas: Vec<NodeId>,
    pub(super) removing: Vec<NodeId>,
    pub(super) adding: Vec<NodeId>,
    pub(super) recovering: bool,
    pub(super) election: Election,
    /// A replica that may have lost what it had.
    pub(super) unclean_shutdown: Option<NodeId>,
    /// Where replicas are that moved.
    pub(super) directories: BTreeMap<NodeId, Uuid>,
    elr: Vec<NodeId>,
}

struct Elected {
    leader: NodeId,
    unclean: bool,
}

impl<'a> Target<'a> {
    /// The partition as it is.
    pub(super) fn of(partition: &'a PartitionImage) -> Self {
        Self {
            partition,
            isr: partition.isr.clone(),
            replicas: partition.replicas.clone(),
            removing: partition.removing_replicas.clone(),
            adding: partition.adding_replicas.clone(),
            recovering: partition.recovering,
            election: Election::Online,
            unclean_shutdown: None,
            directories: BTreeMap::new(),
            elr: partition.elr.clone(),
        }
    }

    /// The change that leads there, with an election where one is needed; `None` where nothing changes.
    ///
    /// `can_lead` says who is alive, `default_directory` where a new replica of a broker goes. The record still needs
    /// the names of the topic and the partition.
    pub(super) fn change(
        mut self,
        rules: &Rules,
        can_lead: impl Fn(NodeId) -> bool,
        default_directory: impl Fn(NodeId) -> Uuid,
    ) -> Option<PartitionChangeRecord> {
        let partition = self.partition;
        let mut record = PartitionChangeRecord::default();
        self.complete_reassignment();
        self.find_eligible(rules);
        let unclean = self.elect(rules, &can_lead, &mut record);
        if record.leader == LEADER_STAYS && !contains_all(&self.replicas, &partition.replicas) {
            // Whoever is gone must not go on as a follower.
            record.leader = partition.leader;
        }
        if unclean || !rules.elr {
            self.elr.clear();
        }
        if self.elr != partition.elr {
            record.eligible_leader_replicas = Some(self.elr.clone());
        }
        // Without eligible leader replicas the last replica in sync stays in sync: it alone has everything.
        if record.isr.is_none() && (rules.elr || !self.isr.is_empty()) && self.isr != partition.isr {
            record.isr = Some(self.isr.clone());
        }
        if rules.metadata_version < SHRINKS_KEEP_THE_EPOCH
            && record.leader == LEADER_STAYS
            && record.isr.as_ref().is_some_and(|isr| !contains_all(isr, &partition.isr))
        {
            record.leader = partition.leader;
        }
        if rules.elr {
            remember_leader(partition, &mut record);
        }
        self.assign(rules, default_directory, &mut record);
        if self.recovering != partition.recovering {
            record.leader_recovery_state = i8::from(self.recovering);
        }
        (record != PartitionChangeRecord::default()).then_some(record)
    }

    /// Ends a reassignment once all replicas that it adds are in sync, and as many as there will be are.
    fn complete_reassignment(&mut self) {
        if self.removing.is_empty() && self.adding.is_empty() {
            return;
        }
        let without = |ids: &[NodeId]| -> Vec<NodeId> {
            ids.iter().copied().filter(|id| !self.removing.contains(id)).collect()
        };
        let (isr, replicas) = (without(&self.isr), without(&self.replicas));
        if !self.removing.is_empty() && (isr.is_empty() || replicas.is_empty()) {
            return;
        }
        // Fewer replicas than before shall not mean fewer in sync than before.
        let fewer = self.adding.len() < self.removing.len();
        if !contains_all(&isr, &self.adding) || (fewer && !contains_all(&isr, &replicas)) {
            return;
        }
        (self.isr, self.replicas) = (isr, replicas);
        self.removing.clear();
        self.adding.clear();
    }

    fn find_eligible(&mut self, rules: &Rules) {
        if !rules.elr {
            return;
        }
        if self.isr.len() >= rules.min_isr {
            self.elr.clear();
            return;
        }
        let mut eligible = self.elr.clone();
        eligible.extend(&self.partition.isr);
        eligible.sort_unstable();
        eligible.dedup();
        // Kafka's keeps those that a reassignment took away; nobody could elect them, and they would be in the way of the
        // last leader.
        let stays = |id: &NodeId| self.replicas.contains(id) && self.unclean_shutdown != Some(*id);
        eligible.retain(|id| stays(id) && !self.isr.contains(id));
        self.elr = eligible;
    }

    /// Chooses the leader; whether it may lack something that was committed.
    fn elect(
        &mut self,
        rules: &Rules,
        can_lead: &impl Fn(NodeId) -> bool,
        record: &mut PartitionChangeRecord,
    ) -> bool {
        let Elected { leader, unclean } = self.elected(rules, can_lead);
        if leader == self.partition.leader {
            return false;
        }
        if self.elr.contains(&leader) {
            self.isr = vec![leader];
            self.elr.retain(|id| *id != leader);
        }
        record.leader = leader;
        if unclean {
            record.isr = Some(vec![leader]);
            if !self.partition.recovering {
                record.leader_recovery_state = 1;
            }
        }
        unclean
    }

    fn elected(&self, rules: &Rules, can_lead: &impl Fn(NodeId) -> bool) -> Elected {
        let complete = |id: &NodeId| {
            let has_everything = self.isr.contains(id) || (self.isr.is_empty() && self.elr.contains(id));
            has_everything && can_lead(*id)
        };
        let current = Some(self.partition.leader).filter(complete);
        let first = || self.replicas.iter().copied().find(complete);
        let preferred = match self.election {
            Election::Preferred => self.replicas.first().copied().filter(complete),
            Election::Online | Election::Unclean => None,
        };
        if let Some(leader) = preferred.or(current).or_else(first) {
            return Elected { leader, unclean: false };
        }
        let unclean = || match self.election {
            Election::Unclean => self.replicas.iter().copied().find(|id| can_lead(*id)),
            Election::Preferred | Election::Online => None,
        };
        match self.last_leader(rules).filter(|id| can_lead(*id)).or_else(unclean) {
            Some(leader) => Elected { leader, unclean: true },
            None => Elected { leader: NO_LEADER, unclean: false },
        }
    }

    /// Who led last, where nobody is left who is known to have everything.
    fn last_leader(&self, rules: &Rules) -> Option<NodeId> {
        match self.partition.last_known_elr.as_slice() {
            [last] if rules.elr && self.elr.is_empty() && self.isr.is_empty() => {
                Some(*last).filter(|last| self.replicas.contains(last))
            }
            _ => None,
        }
    }

    fn assign(
        &self,
        rules: &Rules,
        default_directory: impl Fn(NodeId) -> Uuid,
        record: &mut PartitionChangeRecord,
    ) {
        let partition = self.partition;
        if !self.replicas.is_empty() {
            if rules.metadata_version >= DIRECTORIES {
                let directory = |id: &NodeId| match self.directories.get(id) {
                    Some(directory) => *directory,
                    None => partition.directory(*id).unwrap_or_else(|| default_directory(*id)),
                };
                let directories: Vec<Uuid> = self.replicas.iter().map(directory).collect();
                let current = partition.replicas.iter().filter_map(|id| partition.directory(*id));
                if !directories.iter().copied().eq(current) {
                    record.directories = Some(directories);
                }
            }
            if self.replicas != partition.replicas {
                record.replicas = Some(self.replicas.clone());
            }
        }
        if self.removing != partition.removing_replicas {
            record.removing_replicas = Some(self.removing.clone());
        }
        if self.adding != partition.adding_replicas {
            record.adding_replicas = Some(self.adding.clone());
        }
    }
}

/// The last leader is remembered while there is none, in the field of the last known eligible replicas.
fn remember_leader(partition: &PartitionImage, record: &mut PartitionChangeRecord) {
    if record.leader == NO_LEADER && partition.last_known_elr.is_empty() && partition.leader != NO_LEADER {
        record.last_known_elr = Some(vec![partition.leader]);
    } else if record.leader >= 0 && !partition.last_known_elr.is_empty() {
        record.last_known_elr = Some(Vec::new());
    }
}

fn contains_all(all: &[NodeId], some: &[NodeId]) -> bool {
    some.iter().all(|id| all.contains(id))
}
