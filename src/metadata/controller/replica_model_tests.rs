//! Brokers that come and go, lag, crash and lose what they had, replicas that follow and leaders that are old: whatever
//! happens, who may lead has everything that was committed (KIP-966: `ValidControllerIsrAndElr`,
//! `LeaderCandidateCompleteness`, `LeaderCompleteness`).

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::partition_change::{DIRECTORIES, Rules};
use super::tests::{Model, registration};
use super::{
    Context, Decision, brokers, configs, elections, features, partitions, reassignments, tick, topics,
};
use crate::config::dynamic::ConfigOp;
use crate::error::ErrorCode;
use crate::metadata::command::{
    ConfigChange, ElectionType, Heartbeat, IsrChange, NewTopic, PartitionQuota, Reassignment, Registration,
};
use crate::metadata::image::{ConfigResource, Image, PartitionImage};
use crate::testing::properties;
use crate::types::NodeId;

/// The brokers of the world; the first three have the partition in the beginning.
const BROKERS: [NodeId; 4] = [1, 2, 3, 4];

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The broker takes a record, if it believes that it leads.
    Produce(NodeId),
    /// The broker fetches from the leader that it knows.
    Fetch(NodeId),
    /// The leader asks for an ISR of those that have at least this share of its log; the answer may be lost.
    Alter {
        leader: NodeId,
        lag: usize,
        lost: bool,
    },
    /// The broker reads the metadata.
    Read(NodeId),
    /// The broker sends a heartbeat, and may want to stop.
    Heartbeat {
        id: NodeId,
        want_shut_down: bool,
    },
    /// The process ends; what it does not have on the disk is lost when it starts again, unless it ended cleanly.
    Restart {
        id: NodeId,
        clean: bool,
        lost: usize,
    },
    /// Time passes, and whoever is silent is fenced.
    Wait(i64),
    Elect {
        unclean: bool,
    },
    Reassign {
        choice: usize,
    },
    MinIsr(i32),
    Unclean(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let id = (0..BROKERS.len()).prop_map(|at| BROKERS[at]);
    prop_oneof![
        8 => id.clone().prop_map(Step::Produce),
        12 => id.clone().prop_map(Step::Fetch),
        6 => (id.clone(), 0..3_usize, prop::bool::weighted(0.2))
            .prop_map(|(leader, lag, lost)| Step::Alter { leader, lag, lost }),
        8 => id.clone().prop_map(Step::Read),
        8 => (id.clone(), prop::bool::weighted(0.1))
            .prop_map(|(id, want_shut_down)| Step::Heartbeat { id, want_shut_down }),
        3 => (id, any::<bool>(), 0..4_usize).prop_map(|(id, clean, lost)| Step::Restart { id, clean, lost }),
        2 => (0..12_000_i64).prop_map(Step::Wait),
        1 => prop::bool::weighted(0.2).prop_map(|unclean| Step::Elect { unclean }),
        1 => (0..6_usize).prop_map(|choice| Step::Reassign { choice }),
        1 => (1..4_i32).prop_map(Step::MinIsr),
        1 => prop::bool::weighted(0.2).prop_map(Step::Unclean),
    ]
}

/// A record: the epoch of the leader that took it, and a number of its own.
type Entry = (i32, u64);

/// A replica as it stands on its broker.
struct Replica {
    log: Vec<Entry>,
    /// What the broker knows of the cluster.
    view: Image,
    life: u128,
    epoch: i64,
    /// How much of the leader's log each follower has, with the epoch of its broker; known to the leader only.
    followers: BTreeMap<NodeId, (usize, i64)>,
    /// What was asked for and not answered: it is asked again, and nothing else before it is known what became of it.
    pending: Option<IsrChange>,
}

struct World {
    model: Model,
    replicas: BTreeMap<NodeId, Replica>,
    /// What was acknowledged to producers with acks=all.
    committed: Vec<Entry>,
    /// What leaders of earlier epochs acknowledge is not kept: an unclean election gave it up.
    unclean_epoch: i32,
    next_value: u64,
}

impl World {
    fn new(metadata_version: i16) -> Self {
        let mut model = Model::at_version(metadata_version, &BROKERS);
        let topic = NewTopic {
            assignments: vec![(0, vec![1, 2, 3])],
            configs: vec![("min.insync.replicas".to_owned(), Some("2".to_owned()))],
            ..NewTopic::with_defaults("t")
        };
        model
            .run(|context| topics::create(context, &[topic], false, &PartitionQuota::NONE))
            .remove(0)
            .unwrap();
        let replica = |id: &NodeId| Replica {
            log: Vec::new(),
            view: model.image.clone(),
            life: 1,
            epoch: model.image.brokers[id].epoch,
            followers: BTreeMap::new(),
            pending: None,
        };
        let replicas = BROKERS.iter().map(|id| (*id, replica(id))).collect();
        Self { model, replicas, committed: Vec::new(), unclean_epoch: 0, next_value: 0 }
    }

    fn partition(image: &Image) -> &PartitionImage {
        image.topics.get("t").unwrap().partition(0).unwrap()
    }

    fn leads(&self, id: NodeId) -> bool {
        let replica = &self.replicas[&id];
        Self::partition(&replica.view).leader == id
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Produce(id) if self.leads(id) => {
                let epoch = Self::partition(&self.replicas[&id].view).leader_epoch;
                self.next_value += 1;
                let entry = (epoch, self.next_value);
                self.replicas.get_mut(&id).unwrap().log.push(entry);
                self.commit(id);
            }
            Step::Produce(_) => {}
            Step::Fetch(id) => self.fetch(id),
            Step::Alter { leader, lag, lost } => self.alter(leader, lag, lost),
            Step::Read(id) => self.read(id),
            Step::Heartbeat { id, want_shut_down } => self.heartbeat(id, want_shut_down),
            Step::Restart { id, clean, lost } => self.restart(id, clean, lost),
            Step::Wait(ms) => {
                self.model.now_ms += ms;
                // Nobody was suspended here: the controller looks often enough.
                for _ in BROKERS {
                    self.run(tick);
                }
            }
            Step::Elect { unclean } => {
                let kind = if unclean { ElectionType::Unclean } else { ElectionType::Preferred };
                drop(self.run(|context| elections::elect(context, kind, &[("t".to_owned(), 0)])));
            }
            Step::Reassign { choice } => {
                let choices: [Option<Vec<NodeId>>; 6] = [
                    None,
                    Some(vec![1, 2, 3]),
                    Some(vec![2, 3, 4]),
                    Some(vec![4, 1]),
                    Some(vec![3, 2, 1]),
                    Some(vec![1, 2, 3, 4]),
                ];
                let wanted =
                    Reassignment { topic: "t".to_owned(), partition: 0, replicas: choices[choice].clone() };
                drop(self.run(|context| reassignments::alter(context, &[wanted], true)));
            }
            Step::MinIsr(min_isr) => self.configure("min.insync.replicas", &min_isr.to_string()),
            Step::Unclean(allowed) => {
                self.configure("unclean.leader.election.enable", &allowed.to_string());
                self.run(tick);
            }
        }
    }

    fn run<T>(&mut self, decide: impl FnOnce(&mut Context<'_>) -> Decision<T>) -> T {
        let before = Self::partition(&self.model.image).clone();
        let reply = self.model.run(decide);
        self.give_up(&before);
        reply
    }

    fn configure(&mut self, name: &str, value: &str) {
        let change = ConfigChange {
            resource: ConfigResource::topic("t"),
            changes: vec![(name.to_owned(), ConfigOp::Set(value.to_owned()))],
        };
        let results = self.run(|context| configs::alter_incrementally(context, &[change], false));
        assert_eq!(results, [Ok(())]);
    }

    /// The follower takes what the leader has that it knows, if both know the same epoch.
    fn fetch(&mut self, id: NodeId) {
        let (known, epoch) = (Self::partition(&self.replicas[&id].view).clone(), self.replicas[&id].epoch);
        let leader = known.leader;
        let Some(source) =
            self.replicas.get(&leader).filter(|_| leader != id && known.replicas.contains(&id))
        else {
            return;
        };
        if Self::partition(&source.view).leader_epoch != known.leader_epoch || !self.leads(leader) {
            return;
        }
        let source = source.log.clone();
        let follower = self.replicas.get_mut(&id).unwrap();
        let common = source.iter().zip(&follower.log).take_while(|(one, other)| one == other).count();
        follower.log.truncate(common);
        // The leader learns what the follower had when it asked.
        let (had, more) = (common, source.len().min(common + 2));
        follower.log.extend_from_slice(&source[common..more]);
        self.replicas.get_mut(&leader).unwrap().followers.insert(id, (had, epoch));
        self.commit(leader);
    }

    /// The high watermark: what everybody has who may be in the ISR, as long as the ISR is large enough.
    fn commit(&mut self, leader: NodeId) {
        let replica = &self.replicas[&leader];
        let topic = replica.view.topics.get("t").unwrap();
        let partition = topic.partition(0).unwrap();
        if partition.isr.len() < Rules::of(&replica.view, &self.model.settings, topic).min_isr {
            return;
        }
        let end = |id: &NodeId| match replica.followers.get(id) {
            _ if *id == leader => replica.log.len(),
            Some((end, _)) => *end,
            None => 0,
        };
        if partition.leader_epoch < self.unclean_epoch {
            return;
        }
        let asked_for = replica.pending.iter().flat_map(|change| change.isr.iter().map(|(id, _)| id));
        let end = partition.isr.iter().chain(asked_for).map(end).min().unwrap_or(0);
        if end > self.committed.len() && replica.log.starts_with(&self.committed) {
            self.committed = replica.log[..end].to_vec();
        }
    }

    fn alter(&mut self, leader: NodeId, lag: usize, lost: bool) {
        if !self.leads(leader) {
            return;
        }
        let Some(change) = self.replicas[&leader].pending.clone().or_else(|| self.wanted_isr(leader, lag))
        else {
            return;
        };
        let epoch = self.replicas[&leader].epoch;
        let altered =
            self.run(|context| partitions::alter(context, leader, epoch, std::slice::from_ref(&change)));
        let answer = altered.and_then(|mut results| results.remove(0)).map_err(|error| error.code);
        let replica = self.replicas.get_mut(&leader).unwrap();
        match answer {
            Ok(_) if !lost => self.read(leader),
            // It was not done, and not before either.
            Err(ErrorCode::IneligibleReplica) if !lost => replica.pending = None,
            // Perhaps it was, or the leader is none any more: the metadata will say
            // (`Partition.handleAlterPartitionError`).
            Ok(_) | Err(_) => replica.pending = Some(change),
        }
    }

    /// The ISR of those that have at least this share of the leader's log, if it is another one.
    fn wanted_isr(&self, leader: NodeId, lag: usize) -> Option<IsrChange> {
        let replica = &self.replicas[&leader];
        let partition = Self::partition(&replica.view);
        let is_near = |id: NodeId| match replica.followers.get(&id) {
            _ if id == leader => Some((id, replica.epoch)),
            Some((end, epoch)) => {
                // Who joins has at least what is committed, and what this leader began with.
                let near = *end + lag >= replica.log.len() && *end >= self.committed.len();
                let active = replica.view.active_broker(id).is_some();
                (near && active).then_some((id, *epoch))
            }
            None => None,
        };
        let isr: Vec<(NodeId, i64)> = partition.replicas.iter().filter_map(|id| is_near(*id)).collect();
        let is_same =
            isr.len() == partition.isr.len() && isr.iter().all(|(id, _)| partition.isr.contains(id));
        (!is_same).then(|| IsrChange {
            topic_id: replica.view.topics.get("t").unwrap().id,
            partition: 0,
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            recovering: partition.recovering && isr.len() == 1,
            isr,
        })
    }

    fn read(&mut self, id: NodeId) {
        let replica = self.replicas.get_mut(&id).unwrap();
        let before = Self::partition(&replica.view).leader_epoch;
        replica.view = self.model.image.clone();
        replica.pending = None;
        if Self::partition(&replica.view).leader_epoch != before {
            replica.followers.clear();
        }
        if self.leads(id) {
            self.commit(id);
        }
    }

    fn heartbeat(&mut self, broker_id: NodeId, want_shut_down: bool) {
        let replica = &self.replicas[&broker_id];
        let heartbeat = Heartbeat {
            broker_id,
            broker_epoch: replica.epoch,
            metadata_offset: replica.view.offset,
            want_fence: false,
            want_shut_down,
            offline_log_dirs: Vec::new(),
            cordoned_log_dirs: None,
        };
        drop(self.run(|context| brokers::heartbeat(context, &heartbeat)));
    }

    fn restart(&mut self, id: NodeId, clean: bool, lost: usize) {
        let elr = self.model.image.feature(features::ELR_VERSION) > 0;
        // Without eligible leader replicas nobody notices that the last replica in sync lost something.
        let clean = clean || !elr;
        let replica = self.replicas.get_mut(&id).unwrap();
        let previous_broker_epoch = if clean { replica.epoch } else { -1 };
        replica.life += 1;
        let wanted = Registration { previous_broker_epoch, ..registration(id, replica.life) };
        let registered = self.run(|context| brokers::register(context, &wanted));
        let replica = self.replicas.get_mut(&id).unwrap();
        let Ok(epoch) = registered else {
            // The session of its last life is not over: it goes on trying, and here it had never gone.
            replica.life -= 1;
            return;
        };
        replica.epoch = epoch;
        replica.followers.clear();
        if !clean {
            replica.log.truncate(replica.log.len().saturating_sub(lost));
        }
        self.read(id);
    }

    /// An unclean election gives up what the new leader does not have.
    fn give_up(&mut self, before: &PartitionImage) {
        let now = Self::partition(&self.model.image);
        let unclean = now.recovering && now.leader >= 0 && now.leader_epoch > before.leader_epoch;
        let replaced = now.isr.iter().all(|id| !before.isr.contains(id)) && !now.isr.is_empty();
        if unclean || (replaced && before.elr.iter().all(|id| !now.isr.contains(id))) {
            self.unclean_epoch = now.leader_epoch;
            let log = &self.replicas[&now.isr[0]].log;
            let kept = log.iter().zip(&self.committed).take_while(|(one, other)| one == other).count();
            self.committed.truncate(kept);
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let topic = self.model.image.topics.get("t").unwrap();
        let partition = topic.partition(0).unwrap();
        let PartitionImage { isr, elr, replicas, leader, .. } = partition;
        let rules = Rules::of(&self.model.image, &self.model.settings, topic);
        prop_assert!(isr.iter().chain(elr).all(|id| replicas.contains(id)), "{partition:?}");
        prop_assert!(isr.iter().all(|id| !elr.contains(id)), "{partition:?}");
        prop_assert!(*leader == -1 || isr.contains(leader), "{partition:?}");
        let has_directories = rules.metadata_version >= DIRECTORIES;
        prop_assert_eq!(partition.directories.len(), if has_directories { replicas.len() } else { 0 });
        if rules.elr {
            prop_assert!(isr.len() < rules.min_isr || elr.is_empty(), "{partition:?}");
        } else {
            prop_assert!(!isr.is_empty() && elr.is_empty(), "{partition:?}");
        }
        let candidates = if isr.is_empty() { elr } else { isr };
        for id in candidates {
            let log = &self.replicas[id].log;
            prop_assert!(
                log.starts_with(&self.committed),
                "{id} may lead without {:?}: {log:?}, {partition:?}",
                self.committed
            );
        }
        Ok(())
    }
}

fn play(metadata_version: i16, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut world = World::new(metadata_version);
    for step in steps {
        world.step(*step);
        world.check()?;
    }
    Ok(())
}

/// The last one that it waits for to hand over: from then on who follows it counts for nothing.
#[test]
fn a_leader_that_is_replaced_by_its_own_request_commits_nothing_more() {
    let alter = Step::Alter { leader: 1, lag: 0, lost: false };
    let before = [alter, Step::Reassign { choice: 2 }, Step::Read(1), Step::Read(3), Step::Read(4)];
    let joins = [Step::Fetch(3), alter, Step::Fetch(4), alter];
    let after = [Step::Produce(1), Step::Fetch(3), Step::Fetch(3)];
    play(features::METADATA_VERSION_MIN, &[&before[..], &joins, &after].concat()).unwrap();
}

proptest! {
    #![proptest_config(properties(200))]

    #[test]
    fn who_may_lead_has_everything_that_was_committed(steps in prop::collection::vec(step(), 0..200)) {
        play(features::METADATA_VERSION_LATEST, &steps)?;
    }

    #[test]
    fn without_eligible_replicas_the_last_in_sync_has_everything(
        metadata_version in features::METADATA_VERSION_MIN..features::ELR_SINCE,
        steps in prop::collection::vec(step(), 0..200),
    ) {
        play(metadata_version, &steps)?;
    }
}
