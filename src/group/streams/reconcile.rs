//! The next step of a member towards its target assignment (`CurrentAssignmentBuilder`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::draft::Draft;
use super::group::StreamsGroup;
use super::member::{MemberState, StreamsMember};
use super::record::{Body, CurrentAssignment};
use super::tasks::{AssignedTasks, TaskIds, Tasks};
use crate::error::{ApiError, ErrorCode};
use crate::group::modern::draft::refused;

/// What the next step depends on.
struct Reconciliation<'a> {
    group: &'a StreamsGroup,
    member: &'a StreamsMember,
    target: &'a Tasks,
    /// The tasks that the member says it has; `None` where it says nothing.
    owned: Option<&'a Tasks>,
}

/// The member is in a state that nobody here knows: it has to give up everything and join again.
struct Fenced;

impl Draft<'_> {
    /// Lets a member take its next step towards its target.
    pub(super) fn reconcile(
        &mut self,
        member_id: &Arc<str>,
        owned: Option<&Tasks>,
    ) -> Result<Arc<StreamsMember>, ApiError> {
        let unknown = || ApiError::new(ErrorCode::UnknownMemberId);
        let member = self.group.members.get(member_id).cloned().ok_or_else(unknown)?;
        if member.is_reconciled_to(self.group.target.epoch) {
            return Ok(member);
        }
        let target = self.group.target.of(member_id);
        let next = Reconciliation { group: &self.group, member: &member, target: &target, owned }.next();
        let Ok(next) = next else {
            let text = "The member is in a state that is not known here: it has to give up everything and join again.";
            return refused(ErrorCode::FencedMemberEpoch, text);
        };
        if next == member.current {
            return Ok(member);
        }
        let has_to_revoke = next.state == MemberState::UnrevokedTasks;
        self.record(Body::Current { member_id: member_id.clone(), value: Some(next) });
        let timer = self.revocation_timer(member_id);
        if has_to_revoke {
            self.arm(timer, member.metadata.rebalance_timeout_ms);
        } else {
            self.cancel(timer);
        }
        self.group.members.get(member_id).cloned().ok_or_else(unknown)
    }
}

impl Reconciliation<'_> {
    /// The member's next assignment, which may be the one that it has.
    fn next(&self) -> Result<CurrentAssignment, Fenced> {
        let current = &self.member.current;
        match current.state {
            MemberState::Stable if current.epoch == self.group.target.epoch => Ok(current.clone()),
            MemberState::UnrevokedTasks if self.still_has(&current.revoking) => Ok(current.clone()),
            MemberState::UnrevokedTasks => Ok(self.advance(current.epoch.saturating_add(1))),
            MemberState::Stable | MemberState::UnreleasedTasks => Ok(self.advance(current.epoch)),
            MemberState::Unknown if self.owned.is_some_and(Tasks::is_empty) => {
                Ok(self.advance(self.group.target.epoch))
            }
            MemberState::Unknown => Err(Fenced),
        }
    }

    /// Whether the member still has, as far as it says, some of these.
    fn still_has(&self, tasks: &AssignedTasks) -> bool {
        self.owned.is_none_or(|owned| owned.contains_any(tasks))
    }

    fn at(
        &self,
        epoch: i32,
        state: MemberState,
        assigned: AssignedTasks,
        revoking: AssignedTasks,
    ) -> CurrentAssignment {
        CurrentAssignment {
            epoch,
            previous_epoch: self.member.current.epoch,
            state,
            assigned: Arc::new(assigned),
            revoking: Arc::new(revoking),
        }
    }

    /// Goes to the target's epoch, unless the member has to give up something first: then to `epoch`.
    fn advance(&self, epoch: i32) -> CurrentAssignment {
        let current = &self.member.current.assigned;
        let process_id = &self.member.metadata.process_id;
        let (group, target_epoch) = (self.group, self.group.target.epoch);
        let (mut kept, mut revoking) = (AssignedTasks::default(), AssignedTasks::default());
        for (id, tasks) in &current.active {
            let target = self.target.active.get(id);
            let stays = |task: &i32| target.is_some_and(|target| target.contains(task));
            let (stay, go): (BTreeMap<i32, i32>, BTreeMap<i32, i32>) =
                tasks.iter().map(|(task, epoch)| (*task, *epoch)).partition(|(task, _)| stays(task));
            insert_some(&mut kept.active, id, stay, BTreeMap::is_empty);
            insert_some(&mut revoking.active, id, go, BTreeMap::is_empty);
        }
        split(&current.standby, &self.target.standby, &mut kept.standby, &mut revoking.standby);
        split(&current.warmup, &self.target.warmup, &mut kept.warmup, &mut revoking.warmup);
        if !revoking.is_empty() && self.still_has(&revoking) {
            return self.at(epoch, MemberState::UnrevokedTasks, kept, revoking);
        }
        let mut gained = AssignedTasks::default();
        let mut waits = false;
        for (id, tasks) in &self.target.active {
            let mine = kept.active.get(id);
            for task in tasks.iter().filter(|task| !mine.is_some_and(|mine| mine.contains_key(task))) {
                let key = (id.clone(), *task);
                if group.is_active_anywhere(&key) || group.is_copied_in(&key, process_id) {
                    waits = true;
                } else {
                    gained.active.entry(id.clone()).or_default().insert(*task, target_epoch);
                }
            }
        }
        let mut gain = |target: &TaskIds, kept: &TaskIds, gained: &mut TaskIds| {
            for (id, tasks) in target {
                let mine = kept.get(id);
                for task in tasks.iter().filter(|task| !mine.is_some_and(|mine| mine.contains(task))) {
                    let key = (id.clone(), *task);
                    if group.is_active_in(&key, process_id) || group.is_copied_in(&key, process_id) {
                        waits = true;
                    } else {
                        gained.entry(id.clone()).or_default().insert(*task);
                    }
                }
            }
        };
        gain(&self.target.standby, &kept.standby, &mut gained.standby);
        gain(&self.target.warmup, &kept.warmup, &mut gained.warmup);
        let state = if waits { MemberState::UnreleasedTasks } else { MemberState::Stable };
        kept.merge(gained);
        self.at(target_epoch, state, kept, AssignedTasks::default())
    }
}

fn insert_some<T>(all: &mut BTreeMap<Arc<str>, T>, id: &Arc<str>, tasks: T, is_empty: impl Fn(&T) -> bool) {
    if !is_empty(&tasks) {
        all.insert(id.clone(), tasks);
    }
}

/// What of the tasks stays as it is in the target too, and what has to go.
fn split(current: &TaskIds, target: &TaskIds, kept: &mut TaskIds, revoking: &mut TaskIds) {
    for (id, tasks) in current {
        let wanted = target.get(id);
        let (stay, go): (BTreeSet<i32>, BTreeSet<i32>) =
            tasks.iter().partition(|task| wanted.is_some_and(|wanted| wanted.contains(task)));
        insert_some(kept, id, stay, BTreeSet::is_empty);
        insert_some(revoking, id, go, BTreeSet::is_empty);
    }
}
