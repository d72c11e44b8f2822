//! The state of one streams group.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::configured::ConfiguredTopology;
use super::member::StreamsMember;
use super::record::Body;
use super::tasks::{AssignedTasks, Tasks, each};
use super::topology::Topology;
use crate::error::ErrorCode;
use crate::group::command::CommitOffsets;
use crate::types::TimestampMs;

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
    /// The epoch for which the target assignment was computed.
    pub target_epoch: i32,
    /// When it was computed; 0 where that is not known.
    pub assigned_at_ms: TimestampMs,
    pub topology: Option<Arc<Topology>>,
    pub members: OrdMap<Arc<str>, Arc<StreamsMember>>,
    /// What each member is to have.
    pub target: OrdMap<Arc<str>, Arc<Tasks>>,
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
    /// A group that nobody has joined yet.
    pub fn new(group_id: Arc<str>) -> Self {
        Self {
            group_id,
            epoch: 1,
            metadata_hash: 0,
            validated_topology_epoch: 0,
            assignment_configs: Arc::default(),
            target_epoch: 1,
            assigned_at_ms: 0,
            topology: None,
            members: OrdMap::new(),
            target: OrdMap::new(),
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

    /// Where the group stands.
    pub fn state(&self) -> StreamsGroupState {
        let validated = |topology: &Arc<Topology>| topology.epoch == self.validated_topology_epoch;
        if self.members.is_empty() {
            StreamsGroupState::Empty
        } else if !self.topology.as_ref().is_some_and(validated) {
            StreamsGroupState::NotReady
        } else if self.epoch > self.target_epoch {
            StreamsGroupState::Assigning
        } else if self.members.values().all(|member| member.is_reconciled_to(self.target_epoch)) {
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

    /// What a member is to have.
    pub fn target_of(&self, member_id: &str) -> Arc<Tasks> {
        self.target.get(member_id).cloned().unwrap_or_default()
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

    /// Changes the group for good. Deleting the group itself is its owner's.
    pub fn replay(&mut self, body: &Body) {
        match body {
            Body::Epoch(Some(value)) => {
                self.epoch = value.epoch;
                self.metadata_hash = value.metadata_hash;
                self.validated_topology_epoch = value.validated_topology_epoch;
                self.assignment_configs = Arc::new(value.assignment_configs.clone());
            }
            Body::Epoch(None) => {}
            Body::Member { member_id, value: Some(value) } => {
                self.update(member_id, |member| member.metadata = value.clone());
            }
            Body::Member { member_id, value: None } => self.remove(member_id),
            Body::TargetEpoch(Some(value)) => {
                self.target_epoch = value.epoch;
                self.assigned_at_ms = value.assigned_at_ms;
            }
            Body::TargetEpoch(None) => (self.target_epoch, self.assigned_at_ms) = (-1, 0),
            Body::Target { member_id, value: Some(value) } => {
                self.target.insert(member_id.clone(), value.clone());
            }
            Body::Target { member_id, value: None } => {
                self.target.remove(member_id);
            }
            Body::Current { member_id, value: Some(value) } => {
                self.update(member_id, |member| member.current = value.clone());
            }
            Body::Current { member_id, value: None } => {
                if self.members.contains_key(member_id) {
                    self.update(member_id, |member| member.current = member.current.left());
                }
            }
            Body::Topology(value) => self.topology.clone_from(value),
        }
    }

    /// Changes the group until the next restart.
    pub fn replay_change(&mut self, change: &StreamsChange) {
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

    fn update(&mut self, member_id: &Arc<str>, change: impl FnOnce(&mut StreamsMember)) {
        let before = self.members.get(member_id).cloned();
        let mut after = before.as_deref().cloned().unwrap_or_else(|| StreamsMember::new(member_id.clone()));
        change(&mut after);
        if let Some(before) = before {
            self.uncount(&before);
        }
        self.count(&after);
        self.members.insert(member_id.clone(), Arc::new(after));
    }

    fn remove(&mut self, member_id: &Arc<str>) {
        let Some(member) = self.members.remove(member_id) else { return };
        self.uncount(&member);
        if self.members.is_empty() {
            self.shutdown_requested_by = None;
        }
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
}

pub(super) fn active_tasks(tasks: &AssignedTasks) -> impl Iterator<Item = (Arc<str>, i32)> {
    tasks.active.iter().flat_map(|(id, tasks)| tasks.keys().map(|task| (id.clone(), *task)))
}
