//! The target assignment: what every member is to have (`TargetAssignmentBuilder`).

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::info;

use super::configured::{ConfiguredSubtopology, Status, StatusCode};
use super::draft::Draft;
use super::group::StreamsChange;
use super::sticky::{self, MemberSpec, SubtopologySpec};
use super::tasks::Tasks;

/// How many copies of each task's state there are to be, among what the assignor is told.
pub(super) const STANDBY_REPLICAS: &str = "num.standby.replicas";

impl Draft<'_> {
    /// Computes the target assignment of the group's epoch, unless first members are waited for or the last one is too
    /// young (`streams.assignment.interval.ms`, KIP-1263): then it is done later, which the status says.
    pub(super) fn assign_if_due(&mut self) -> Option<Status> {
        let delayed = |detail: &str| {
            let detail = format!("Assignment delayed due to the configured {detail}.");
            Some(Status { code: StatusCode::AssignmentDelayed, detail })
        };
        if self.group.is_delayed {
            return delayed("initial rebalance delay");
        }
        if self.group.target.epoch >= self.group.epoch {
            return None;
        }
        let interval_ms = self.cluster.streams_times_of(&self.group.group_id).assignment_interval_ms;
        if self.is_target_young(interval_ms) {
            return delayed("assignment interval");
        }
        self.assign();
        None
    }

    fn assign(&mut self) {
        let configured = self.group.configured.clone();
        let ready = configured.as_ref().and_then(|topology| topology.ready());
        let assignment = ready.map(|subtopologies| self.assignment(subtopologies)).unwrap_or_default();
        let epoch = self.group.epoch;
        let members = self.record_target(epoch, assignment);
        info!(group = %self.group.group_id, epoch, members, "a new target assignment of a streams group");
    }

    fn assignment(
        &self,
        subtopologies: &BTreeMap<Arc<str>, ConfiguredSubtopology>,
    ) -> BTreeMap<Arc<str>, Tasks> {
        let spec = |(id, subtopology): (&Arc<str>, &ConfiguredSubtopology)| SubtopologySpec {
            id: id.clone(),
            tasks: subtopology.tasks,
            is_stateful: !subtopology.changelog_topics.is_empty(),
        };
        let subtopologies: Vec<SubtopologySpec> = subtopologies.iter().map(spec).collect();
        let members = self.group.members.iter().map(|(member_id, member)| {
            let process_id = member.metadata.process_id.clone();
            (member_id.clone(), MemberSpec { process_id, previous: self.group.target.of(member_id) })
        });
        let replicas = self.group.assignment_configs.get(STANDBY_REPLICAS);
        let replicas = replicas.and_then(|text| text.parse().ok()).unwrap_or(0);
        sticky::assign(&members.collect(), &subtopologies, replicas)
    }

    /// The first members have been waited for: they get their tasks with their next heartbeats.
    pub(in crate::group) fn initial_delay_over(&mut self) {
        if self.group.is_delayed {
            self.change(StreamsChange::DelayOver);
        }
        if !self.group.members.is_empty() && self.group.configured.is_some() {
            self.assign_if_due();
        }
    }
}
