//! StreamsGroupHeartbeat: a member joins, is alive, and learns what it has.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::info;

use super::command::{StreamsHeartbeat, StreamsHeartbeatAnswer};
use super::configured::{ConfiguredTopology, Status, StatusCode};
use super::draft::Draft;
use super::group::StreamsChange;
use super::member::StreamsMember;
use super::record::{Body, GroupEpoch, MemberMetadata, Own};
use super::target::STANDBY_REPLICAS;
use super::tasks::{Tasks, each};
use super::topology::Topology;
use crate::error::{ApiError, ErrorCode};
use crate::group::modern::draft::{fenced, refused, unknown_member};

impl Draft<'_> {
    /// Lets a member in, or on.
    pub(super) fn heartbeat(
        &mut self,
        request: &StreamsHeartbeat,
    ) -> Result<StreamsHeartbeatAnswer, ApiError> {
        let joins = request.member_epoch == 0;
        let was_empty = self.group.members.is_empty();
        let member_id = &request.member_id;
        let member = self.member_or_new(request)?;
        let changed = self.update_member(&member, request);
        let topology = self.update_topology(request.topology.as_ref())?;
        let mut statuses = Vec::new();
        statuses.extend(self.stale_topology(member_id, &topology));
        let configured = self.refresh_topics(&topology, changed, request.owned.as_ref())?;
        if was_empty {
            self.wait_for_first_members();
        }
        statuses.extend(self.assign_if_due());
        let after = self.reconcile(member_id, request.owned.as_ref())?;
        self.touch(member_id);
        if request.shutdown_application {
            self.request_shutdown(member_id);
        }
        statuses.extend(configured.problem.clone());
        statuses.extend(self.group.shutdown_requested_by.as_ref().map(|member_id| Status {
            code: StatusCode::ShutdownApplication,
            detail: format!(
                "Member {member_id} met a fatal error and asks the whole application to shut down."
            ),
        }));
        let tells = joins || member.current.assigned != after.current.assigned;
        let times = self.cluster.streams_times_of(&self.group.group_id);
        let mut answer = StreamsHeartbeatAnswer {
            member_id: member_id.clone(),
            member_epoch: after.current.epoch,
            heartbeat_interval_ms: times.heartbeat_interval_ms,
            statuses,
            tasks: tells.then(|| after.current.assigned.without_epochs()),
            missing_topics: configured.missing.clone(),
            ..StreamsHeartbeatAnswer::default()
        };
        self.tell_endpoints(&after, tells, request.endpoint_epoch, &mut answer);
        Ok(answer)
    }

    fn member_or_new(&self, request: &StreamsHeartbeat) -> Result<Arc<StreamsMember>, ApiError> {
        let joins = request.member_epoch == 0;
        let max_size = self.settings.streams_max_size;
        if joins && self.group.members.len() >= max_size {
            let text = format!("The streams group has as many members as it may have: {max_size}.");
            return refused(ErrorCode::GroupMaxSizeReached, text);
        }
        match self.group.members.get(&request.member_id) {
            Some(member) => {
                check_epoch(member, request.member_epoch, request.owned.as_ref())?;
                Ok(member.clone())
            }
            None if joins => {
                info!(group = %self.group.group_id, member = %request.member_id, "a member joins a streams group");
                Ok(Arc::new(StreamsMember::new(request.member_id.clone())))
            }
            None => unknown_member(&self.group.group_id, &request.member_id),
        }
    }

    /// Writes down what a member is, where that changed; whether it did.
    fn update_member(&mut self, member: &StreamsMember, request: &StreamsHeartbeat) -> bool {
        let known = &member.metadata;
        let metadata = MemberMetadata {
            instance_id: known.instance_id.clone(),
            rack_id: request.rack_id.clone().or_else(|| known.rack_id.clone()),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            rebalance_timeout_ms: match request.rebalance_timeout_ms {
                -1 => known.rebalance_timeout_ms,
                timeout_ms => timeout_ms,
            },
            topology_epoch: request.topology.as_ref().map_or(known.topology_epoch, |t| t.epoch),
            process_id: request.process_id.clone().unwrap_or_else(|| known.process_id.clone()),
            user_endpoint: request.user_endpoint.clone().or_else(|| known.user_endpoint.clone()),
            client_tags: request.client_tags.clone().unwrap_or_else(|| known.client_tags.clone()),
        };
        let changed = metadata != member.metadata;
        if changed {
            self.record(Body::Member { member_id: member.member_id.clone(), value: Some(metadata) });
        }
        changed
    }

    /// The group's topology, which is that of the first member.
    fn update_topology(&mut self, sent: Option<&Topology>) -> Result<Arc<Topology>, ApiError> {
        match (self.group.topology.clone(), sent) {
            (Some(known), Some(sent)) if known.epoch <= sent.epoch && *known != *sent => {
                refused(ErrorCode::InvalidRequest, "Topology updates are not supported yet.")
            }
            (Some(known), _) => Ok(known),
            (None, Some(sent)) => {
                let topology = Arc::new(sent.clone());
                self.record(Body::Own(Own::Topology(Some(Arc::clone(&topology)))));
                Ok(topology)
            }
            (None, None) => refused(ErrorCode::UnknownServerError, "The group has no topology."),
        }
    }

    fn stale_topology(&self, member_id: &str, topology: &Topology) -> Option<Status> {
        let (member_epoch, epoch) =
            (self.group.members.get(member_id)?.metadata.topology_epoch, topology.epoch);
        let detail = format!(
            "The member's topology epoch {member_epoch} is behind the group's topology epoch {epoch}."
        );
        (member_epoch < epoch).then_some(Status { code: StatusCode::StaleTopology, detail })
    }

    /// Looks at the topics of the topology. Where they, the members or the configuration changed, the group goes to its
    /// next epoch.
    fn refresh_topics(
        &mut self,
        topology: &Arc<Topology>,
        members_changed: bool,
        owned: Option<&Tasks>,
    ) -> Result<Arc<ConfiguredTopology>, ApiError> {
        let (configured, metadata_hash) = self.configure(topology)?;
        let mut validated_topology_epoch = -1;
        if let Some(subtopologies) = configured.ready() {
            validated_topology_epoch = topology.epoch;
            let number = |id: &Arc<str>| subtopologies.get(id).map(|subtopology| subtopology.tasks);
            check_tasks(owned, number)?;
        }
        let times = self.cluster.streams_times_of(&self.group.group_id);
        let replicas = times.standby_replicas.to_string();
        let assignment_configs = BTreeMap::from([(STANDBY_REPLICAS.into(), replicas.into())]);
        let is_new_epoch = members_changed
            || metadata_hash != self.group.metadata_hash
            || validated_topology_epoch != self.group.validated_topology_epoch
            || assignment_configs != *self.group.assignment_configs;
        if is_new_epoch {
            let epoch = self.group.epoch.saturating_add(1);
            info!(group = %self.group.group_id, epoch, "a new epoch of a streams group");
            let value = GroupEpoch { epoch, metadata_hash, validated_topology_epoch, assignment_configs };
            self.record(Body::Epoch(Some(value)));
        }
        Ok(configured)
    }

    /// The topology with the topics that it finds, and their hash.
    fn configure(&mut self, topology: &Arc<Topology>) -> Result<(Arc<ConfiguredTopology>, i64), ApiError> {
        let known = self.group.configured.clone();
        let is_seen = self.group.topics_seen >= self.cluster.topics_version;
        if let Some(known) = known.as_ref().filter(|_| is_seen) {
            return Ok((Arc::clone(known), self.group.metadata_hash));
        }
        let metadata_hash = self.cluster.hash_of(topology.required_topics().into_iter());
        let configured = match known {
            Some(known) if metadata_hash == self.group.metadata_hash => known,
            Some(_) | None => Arc::new(ConfiguredTopology::of(topology, self.cluster)?),
        };
        let (topics_version, topology) = (self.cluster.topics_version, Arc::clone(&configured));
        self.change(StreamsChange::Configured { topics_version, topology });
        Ok((configured, metadata_hash))
    }

    /// A group that was empty is not assigned at once.
    fn wait_for_first_members(&mut self) {
        let delay_ms = self.cluster.streams_times_of(&self.group.group_id).initial_rebalance_delay_ms;
        if delay_ms > 0 && !self.group.is_delayed {
            self.change(StreamsChange::DelayStarted);
            self.arm(self.delay_timer(), delay_ms);
        }
    }

    /// The application is to shut down, unless somebody asked for that before.
    pub(super) fn request_shutdown(&mut self, member_id: &Arc<str>) {
        if self.group.shutdown_requested_by.is_none() {
            info!(group = %self.group.group_id, member = %member_id, "a member asks its application to shut down");
            self.change(StreamsChange::ShutdownRequested { member_id: member_id.clone() });
        }
    }
}

/// A member is in the epoch that it was told last; or in the one before, if that answer was lost, and then it can not
/// have more than it was given.
fn check_epoch(member: &StreamsMember, epoch: i32, owned: Option<&Tasks>) -> Result<(), ApiError> {
    let current = &member.current;
    if epoch == 0 || epoch == current.epoch {
        return Ok(());
    }
    let has_only_its_own = || owned.is_some_and(|owned| owned.is_within(&current.assigned));
    if epoch < current.epoch && epoch == current.previous_epoch && has_only_its_own() {
        return Ok(());
    }
    fenced(epoch, current.epoch)
}

/// A member has only tasks that there are.
fn check_tasks(owned: Option<&Tasks>, number: impl Fn(&Arc<str>) -> Option<i32>) -> Result<(), ApiError> {
    let Some(owned) = owned else { return Ok(()) };
    for tasks in [&owned.active, &owned.standby, &owned.warmup] {
        if let Some(id) = tasks.keys().find(|id| number(id).is_none()) {
            let text = format!("Subtopology {id} does not exist in the topology.");
            return refused(ErrorCode::InvalidRequest, text);
        }
        let is_wrong =
            |(id, task): &(Arc<str>, i32)| *task < 0 || number(id).is_none_or(|number| *task >= number);
        if let Some((id, task)) = each(tasks).find(is_wrong) {
            let text = format!("Subtopology {id} has no task {task}.");
            return refused(ErrorCode::InvalidRequest, text);
        }
    }
    Ok(())
}
