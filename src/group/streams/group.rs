//! The state of one streams group.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::configured::ConfiguredTopology;
use super::member::StreamsMember;
use super::record::{CurrentAssignment, GroupEpoch, MemberMetadata, Own, TYPES};
use super::tasks::{AssignedTasks, Tasks, each};
use super::topology::Topology;
use crate::error::ErrorCode;
use crate::group::cluster::ClusterView;
use crate::group::command::CommitOffsets;
use crate::group::modern::record::RecordTypes;
use crate::group::modern::{Members, ModernGroup, TargetAssignment, called};

/// Where a streams group stands (`StreamsGroupState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamsGroupState {
    /// It has no members.
    Empty,
    /// Topics that its topology needs are missing, or have the wrong number of partitions.
    NotReady,
    /// Its target assignment is not for its last epoch.
    Assigning,
    /// Somebody does not have its target assignment yet.
    Reconciling,
    /// Everybody has what it is to have.
    Stable,
}

impl StreamsGroupState {
    /// The name that clients see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::NotReady => "NotReady",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

/// A change of a group that is not persisted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamsChange {
    /// The topology was looked at in this version of the cluster's metadata, with this result.
    Configured { topics_version: i64, topology: Arc<ConfiguredTopology> },
    /// The first members have come, and more are waited for.
    DelayStarted,
    /// They are not waited for any more.
    DelayOver,
    /// A member wants the whole application to shut down.
    ShutdownRequested { member_id: Arc<str> },
    /// Where state can be asked for has changed.
    EndpointsChanged { epoch: i32 },
}

/// Task → the processes of its members.
type Processes = OrdMap<(Arc<str>, i32), OrdSet<Arc<str>>>;

/// A streams group. Cheap to copy: members are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsGroup {
    pub group_id: Arc<str>,
    /// Grows when members, topics, the topology or the configuration change.
    pub epoch: i32,
    /// Of the topics that the topology needs.
    pub metadata_hash: i64,
    /// The epoch of the topology whose topics were found in order; -1 for none.
    pub validated_topology_epoch: i32,
    /// What the assignor was told last.
    pub assignment_configs: Arc<BTreeMap<Arc<str>, Arc<str>>>,
    pub topology: Option<Arc<Topology>>,
    pub members: Members<Self>,
    pub target: TargetAssignment<Tasks>,
    /// The topology with its topics, as far as they were looked at since the broker started.
    pub configured: Option<Arc<ConfiguredTopology>>,
    /// The version of the cluster's metadata in which they were looked at; -1 for none.
    pub topics_seen: i64,
    /// Whether more first members are waited for.
    pub is_delayed: bool,
    /// Who wants the application to shut down.
    pub shutdown_requested_by: Option<Arc<str>>,
    /// Grows when a member with an endpoint gets other tasks.
    pub endpoint_epoch: i32,
    /// Active task → the process that has it, or has not given it up yet.
    active: OrdMap<(Arc<str>, i32), Arc<str>>,
    standby: Processes,
    warmup: Processes,
}

impl StreamsGroup {
    /// Where the group stands.
    pub fn state(&self) -> StreamsGroupState {
        let validated = |topology: &Arc<Topology>| topology.epoch == self.validated_topology_epoch;
        if self.members.is_empty() {
            StreamsGroupState::Empty
        } else if !self.topology.as_ref().is_some_and(validated) {
            StreamsGroupState::NotReady
        } else if self.epoch > self.target.epoch {
            StreamsGroupState::Assigning
        } else if self.members.values().all(|member| member.is_reconciled_to(self.target.epoch)) {
            StreamsGroupState::Stable
        } else {
            StreamsGroupState::Reconciling
        }
    }

    /// Whether members read the topic.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        let reads = |topology: &Arc<Topology>| topology.reader_of(topic).is_some();
        !self.members.is_empty() && self.topology.as_ref().is_some_and(reads)
    }

    /// Whether any process has a task as active one, or has not given it up yet.
    pub fn is_active_anywhere(&self, task: &(Arc<str>, i32)) -> bool {
        self.active.contains_key(task)
    }

    /// Whether a process has a task as active one, or has not given it up yet.
    pub fn is_active_in(&self, task: &(Arc<str>, i32), process_id: &str) -> bool {
        self.active.get(task).is_some_and(|process| **process == *process_id)
    }

    /// Whether a process has a copy of a task's state, or has not given it up yet.
    pub fn is_copied_in(&self, task: &(Arc<str>, i32), process_id: &str) -> bool {
        let has = |copies: &Processes| copies.get(task).is_some_and(|all| all.contains(process_id));
        has(&self.standby) || has(&self.warmup)
    }

    /// Whether the caller may commit these offsets: anybody while the group is empty; a member in its epoch; or a member
    /// that was in an earlier epoch, for partitions of tasks that have been its own since then.
    ///
    /// # Errors
    /// `STALE_MEMBER_EPOCH`; `UNKNOWN_MEMBER_ID`; `UNSUPPORTED_VERSION` for a request that can not hold a member epoch.
    pub fn validate_commit(&self, request: &CommitOffsets) -> Result<(), ErrorCode> {
        if request.generation_id < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.members.get(&request.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if !request.knows_member_epochs() {
            return Err(ErrorCode::UnsupportedVersion);
        }
        self.validate_epoch(member, request)
    }

    /// The same for offsets of a transaction, whose request can always hold a member epoch.
    ///
    /// # Errors
    /// `STALE_MEMBER_EPOCH`, `UNKNOWN_MEMBER_ID`.
    pub fn validate_transactional_commit(&self, request: &CommitOffsets) -> Result<(), ErrorCode> {
        let epoch = request.generation_id;
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        if epoch == -1 && request.member_id.is_empty() && request.group_instance_id.is_none() {
            return Ok(());
        }
        let member = self.members.get(&request.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        self.validate_epoch(member, request)
    }

    fn validate_epoch(&self, member: &StreamsMember, request: &CommitOffsets) -> Result<(), ErrorCode> {
        let epoch = request.generation_id;
        if epoch == member.current.epoch {
            return Ok(());
        }
        let Some(topology) = self.topology.as_ref().filter(|_| epoch < member.current.epoch) else {
            return Err(ErrorCode::StaleMemberEpoch);
        };
        let its_own = request.topics.iter().all(|topic| {
            let reader = topology.reader_of(&topic.topic);
            topic.partitions.iter().all(|partition| {
                let since = reader.and_then(|id| member.assigned_in(id, partition.partition));
                since.is_some_and(|since| since <= epoch)
            })
        });
        if its_own { Ok(()) } else { Err(ErrorCode::StaleMemberEpoch) }
    }

    /// Whether the caller, if it says that it is a member, is one in its epoch.
    ///
    /// # Errors
    /// `STALE_MEMBER_EPOCH`, `UNKNOWN_MEMBER_ID`.
    pub fn validate_fetch(&self, member_id: &str, epoch: i32) -> Result<(), ErrorCode> {
        let member = self.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if member.current.epoch == epoch { Ok(()) } else { Err(ErrorCode::StaleMemberEpoch) }
    }
}

impl ModernGroup for StreamsGroup {
    const KIND: &'static str = "streams group";
    const RECORD_TYPES: RecordTypes = TYPES;

    type Epoch = GroupEpoch;
    type Metadata = MemberMetadata;
    type Current = CurrentAssignment;
    type Target = Tasks;
    type Own = Own;
    type Change = StreamsChange;

    called!(Streams);

    fn new(group_id: Arc<str>) -> Self {
        Self {
            group_id,
            epoch: 1,
            metadata_hash: 0,
            validated_topology_epoch: 0,
            assignment_configs: Arc::default(),
            topology: None,
            members: OrdMap::new(),
            target: TargetAssignment::default(),
            configured: None,
            topics_seen: -1,
            is_delayed: false,
            shutdown_requested_by: None,
            endpoint_epoch: 0,
            active: OrdMap::new(),
            standby: OrdMap::new(),
            warmup: OrdMap::new(),
        }
    }

    fn session_timeout_ms(&self, cluster: &ClusterView) -> i32 {
        cluster.streams_times_of(&self.group_id).session_timeout_ms
    }

    fn begin_epoch(&mut self, epoch: &GroupEpoch) {
        self.epoch = epoch.epoch;
        self.metadata_hash = epoch.metadata_hash;
        self.validated_topology_epoch = epoch.validated_topology_epoch;
        self.assignment_configs = Arc::new(epoch.assignment_configs.clone());
    }

    fn count(&mut self, member: &StreamsMember) {
        let process_id = &member.metadata.process_id;
        for tasks in [&member.current.assigned, &member.current.revoking] {
            for task in active_tasks(tasks) {
                self.active.insert(task, process_id.clone());
            }
            for (copies, tasks) in [(&mut self.standby, &tasks.standby), (&mut self.warmup, &tasks.warmup)] {
                for task in each(tasks) {
                    copies.entry(task).or_default().insert(process_id.clone());
                }
            }
        }
    }

    fn uncount(&mut self, member: &StreamsMember) {
        let process_id = &member.metadata.process_id;
        for tasks in [&member.current.assigned, &member.current.revoking] {
            for task in active_tasks(tasks) {
                // Another process may have it already.
                if self.active.get(&task) == Some(process_id) {
                    self.active.remove(&task);
                }
            }
            for (copies, tasks) in [(&mut self.standby, &tasks.standby), (&mut self.warmup, &tasks.warmup)] {
                for task in each(tasks) {
                    let Some(processes) = copies.get_mut(&task) else { continue };
                    processes.remove(process_id);
                    if processes.is_empty() {
                        copies.remove(&task);
                    }
                }
            }
        }
    }

    fn forget(&mut self, _member: &StreamsMember) {
        if self.members.is_empty() {
            self.shutdown_requested_by = None;
        }
    }

    fn replay_own(&mut self, own: &Own) {
        let Own::Topology(value) = own;
        self.topology.clone_from(value);
    }

    fn replay_change(&mut self, change: &StreamsChange) {
        match change {
            StreamsChange::Configured { topics_version, topology } => {
                self.topics_seen = *topics_version;
                self.configured = Some(Arc::clone(topology));
            }
            StreamsChange::DelayStarted => self.is_delayed = true,
            StreamsChange::DelayOver => self.is_delayed = false,
            StreamsChange::ShutdownRequested { member_id } => {
                self.shutdown_requested_by = Some(member_id.clone());
            }
            StreamsChange::EndpointsChanged { epoch } => self.endpoint_epoch = *epoch,
        }
    }
}

pub(super) fn active_tasks(tasks: &AssignedTasks) -> impl Iterator<Item = (Arc<str>, i32)> {
    tasks.active.iter().flat_map(|(id, tasks)| tasks.keys().map(|task| (id.clone(), *task)))
}
